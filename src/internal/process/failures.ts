/**
 * From how etcd ended, and what it said before, to the reason that a program is told.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdLog from "../../EtcdLog.ts"
import type { ExitStatus } from "../../EtcdProcess.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as LogFailures from "../log/failures.ts"
import type { Output } from "./run.ts"

export const describeExit = (status: ExitStatus): string =>
  status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`

const codeOf = (cause: unknown): string => {
  const code = typeof cause === "object" && cause !== null ? Reflect.get(cause, "code") : undefined
  return typeof code === "string" ? ` (${code})` : ""
}

/** An error of the operating system, saying what was being done, and its code: of many, Effect's error says that it is unknown. */
export const systemFailure =
  (doing: string) =>
  (cause: PlatformError.PlatformError): EtcdProcessError.EtcdProcessError =>
    EtcdProcessError.make(
      new EtcdProcessError.SystemFailure({
        message: `Could not ${doing}${codeOf(cause.reason.cause)}: ${cause.message}`,
        cause
      })
    )

/** The shell could not be started by which etcd is. (The error itself tells the whole script.) */
export const noShell = (cause: PlatformError.PlatformError): EtcdProcessError.EtcdProcessError => {
  const message = `Could not run /bin/sh${codeOf(cause.reason.cause)}, by which etcd is started, and ended when this program dies.`
  return EtcdProcessError.make(new EtcdProcessError.SystemFailure({ message, cause }))
}

const withLastLines = (message: string, lastLines: ReadonlyArray<string>): string =>
  lastLines.length === 0 ? message : `${message}\nIts last lines:\n${lastLines.map((line) => `  ${line}`).join("\n")}`

/** Whether the member is all of its cluster, as far as is known. */
const isAlone = ({ options }: EtcdConfig.Resolved, { hasPeers }: Output): boolean =>
  !hasPeers &&
  Object.keys(options.initialCluster ?? {}).length <= 1 &&
  options.discovery === undefined &&
  options.discoverySrv === undefined &&
  options.discoveryEndpoints === undefined

const restore = "restore it from a snapshot, or use another one"

/** The data may be good, and its log in a directory that etcd was not told of. */
const lookForLog = ({ options: { walDir } }: EtcdConfig.Resolved): string =>
  walDir === undefined
    ? "If it has its write-ahead log in a directory of its own, give it as `walDir`"
    : `If it was used with another \`walDir\` than ${walDir}, give that`

export const startTimeout = (
  after: Duration.Duration,
  output: Output,
  config: EtcdConfig.Resolved
): EtcdProcessError.Reason => {
  const { account, lastLines } = output
  const describe = (why: string) => ({
    message: withLastLines(`etcd did not serve within ${Duration.format(after)}. ${why}`, lastLines),
    lastLines: [...lastLines]
  })
  const failure = LogFailures.verdict(account)
  if (Option.isNone(failure)) {
    const why = isAlone(config, output)
      ? "It is alone in its cluster and waits for nobody: its last lines say how far it came"
      : "A member of a cluster serves once a majority of the members is up"
    return new EtcdProcessError.StartTimeout(describe(`${why}; \`startTimeout\` sets the time.`))
  }
  const { detail, reason } = failure.value
  if (reason._tag !== "DataDirCorrupt") return new EtcdProcessError.StartTimeout(describe(`It said: ${detail}.`))
  const { dataDir } = config
  return account.isBehind
    ? new EtcdProcessError.DataDirCorrupt({
        ...describe(
          `What is in ${dataDir} does not fit together (${detail}). ${lookForLog(config)}; if not, ${restore}.`
        ),
        exitCode: null,
        signal: null,
        dataDir
      })
    : new EtcdProcessError.StartTimeout(
        describe(`It said: ${detail}. If the data directory ${dataDir} is damaged, ${restore}.`)
      )
}

/** What is known of an end that has no reason of its own. */
const sentence = (
  failure: Option.Option<EtcdLog.Failure>,
  complaint: EtcdLog.Entry | undefined,
  status: ExitStatus,
  { dataDir }: EtcdConfig.Resolved
): string => {
  if (Option.isNone(failure)) {
    if (complaint !== undefined) {
      return `etcd ended before it served: ${complaint.message} (${complaint.fields.error})`
    }
    const killed = status.signal === "SIGKILL" ? ": somebody killed it, or the system did for want of memory" : ""
    return `etcd ended before it served${killed}`
  }
  const { detail, reason } = failure.value
  switch (reason._tag) {
    case "AddressUnavailable":
      return `This machine or this user cannot listen on ${reason.address} (${detail})`
    case "DataDirInaccessible":
      return `etcd may not read or write ${Option.getOrElse(reason.path, () => dataDir)} (${detail}): give this user the rights, or etcd another \`dataDir\``
    case "DiskFull":
      return `There is no room for what etcd writes to ${Option.getOrElse(reason.path, () => dataDir)} (${detail}): make some, or give etcd another \`dataDir\``
    case "OutOfMemory":
      return `etcd got no more memory (${detail})`
    case "TooManyOpenFiles":
      return `etcd may not open more files (${detail}): raise the limit (\`ulimit -n\`)`
    case "ClusterUnreachable":
      return `No member of the cluster that etcd was to join has answered (${detail})`
    case "IncompatibleVersion":
      return `This version of etcd does not fit the cluster or its data (${detail})`
    default:
      return `etcd ended before it served: ${detail}`
  }
}

/**
 * Why etcd ended before it served.
 */
export const exitedEarly = (
  status: ExitStatus,
  { account, lastLines }: Output,
  config: EtcdConfig.Resolved
): EtcdProcessError.Reason => {
  const { dataDir } = config
  const describe = (what: string) => ({
    message: withLastLines(`${what} (etcd ended with ${describeExit(status)})`, lastLines),
    lastLines: [...lastLines],
    exitCode: status.code,
    signal: status.signal
  })
  const failure = LogFailures.verdict(account)
  const detail = Option.match(failure, { onNone: () => "", onSome: (failure) => failure.detail })
  const reason = Option.getOrUndefined(failure)?.reason
  switch (reason?._tag) {
    case "AddressInUse":
      return new EtcdProcessError.AddressInUse({
        ...describe(`Something else already listens on ${reason.address}: stop it, or give etcd another address`),
        address: reason.address
      })
    case "DataDirInUse":
      return new EtcdProcessError.DataDirInUse({
        ...describe(`Another process holds the data directory ${dataDir}: stop it, or give etcd another \`dataDir\``),
        dataDir
      })
    case "DataDirCorrupt":
      return new EtcdProcessError.DataDirCorrupt({
        ...describe(`etcd cannot read what is in ${dataDir} (${detail}): ${restore}`),
        dataDir
      })
    case "ClusterMismatch":
      return new EtcdProcessError.ClusterMismatch(
        describe(`The node and the cluster it was to join do not fit together (${detail})`)
      )
    default:
      return new EtcdProcessError.ExitedEarly(describe(sentence(failure, account.complaint, status, config)))
  }
}

/** What etcd says when its cluster has removed it: 3.5 and newer, and 3.4. */
const removedPattern = /permanently removed|data-dir used by this member must be removed/

/** Whether etcd ended since it is no member of its cluster any more, for good. */
export const wasRemoved = ({ message }: { readonly message: string }): boolean => removedPattern.test(message)
