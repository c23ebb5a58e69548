/**
 * From how etcd ended, and what it said before, to the reason that a program is told.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as EtcdLog from "../../EtcdLog.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import type { ExitStatus } from "./child.ts"

export const describeExit = (status: ExitStatus): string =>
  status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`

const codeOf = (cause: unknown): string => {
  const code = typeof cause === "object" && cause !== null ? Reflect.get(cause, "code") : undefined
  return typeof code === "string" ? ` (${code})` : ""
}

/** The shell could not be started by which etcd is. (The error itself tells the whole script.) */
export const noShell = (cause: PlatformError.PlatformError): EtcdProcessError.EtcdProcessError => {
  const message = `Could not run /bin/sh${codeOf(cause.reason.cause)}, by which etcd is started, and ended when this program dies.`
  return EtcdProcessError.make(new EtcdProcessError.SystemFailure({ message, cause }))
}

const withLastLines = (message: string, lastLines: ReadonlyArray<string>): string =>
  lastLines.length === 0 ? message : `${message}\nIts last lines:\n${lastLines.map((line) => `  ${line}`).join("\n")}`

export const startTimeout = (
  after: Duration.Duration,
  {
    failures,
    lastLines
  }: { readonly failures: ReadonlyArray<EtcdLog.Failure>; readonly lastLines: ReadonlyArray<string> }
): EtcdProcessError.Reason => {
  const why = Option.match(EtcdLog.explain(failures), {
    onNone: () => "A member of a cluster serves once a majority of the members is up; `startTimeout` sets the time.",
    onSome: ({ detail }) => `It said: ${detail}.`
  })
  return new EtcdProcessError.StartTimeout({
    message: withLastLines(`etcd did not serve within ${Duration.format(after)}. ${why}`, lastLines),
    lastLines: [...lastLines]
  })
}

/**
 * Why etcd ended before it served.
 */
export const exitedEarly = (options: {
  readonly failure: Option.Option<EtcdLog.Failure>
  readonly status: ExitStatus
  readonly lastLines: ReadonlyArray<string>
  readonly dataDir: string
}): EtcdProcessError.Reason => {
  const { dataDir } = options
  const describe = (what: string) => ({
    message: withLastLines(`${what} (etcd ended with ${describeExit(options.status)})`, options.lastLines),
    lastLines: [...options.lastLines],
    exitCode: options.status.code,
    signal: options.status.signal
  })
  if (Option.isNone(options.failure)) return new EtcdProcessError.ExitedEarly(describe("etcd ended before it served"))
  const { detail, reason } = options.failure.value
  switch (reason._tag) {
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
        ...describe(
          `etcd cannot read what is in ${dataDir} (${detail}): restore it from a snapshot, or use another one`
        ),
        dataDir
      })
    case "ClusterMismatch":
      return new EtcdProcessError.ClusterMismatch(
        describe(`The node and the cluster it was to join do not fit together (${detail})`)
      )
    default:
      return new EtcdProcessError.ExitedEarly(describe(`etcd ended before it served: ${detail}`))
  }
}
