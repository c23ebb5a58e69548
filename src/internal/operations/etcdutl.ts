/**
 * Running `etcdutl`, or the `etcdctl` that does its work for etcd 3.4.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Schema from "effect/Schema"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import type { EtcdUtl } from "../../EtcdBinary.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import { toolVariables } from "../binary/settings.ts"
import { systemFailure } from "../process/failures.ts"
import type { Refuse } from "./operation.ts"

/** As messages name it. */
export const nameOf = ({ tool, version }: EtcdUtl): string => `${tool} ${SemVer.format(version)}`

/** Where an executable was not found. */
export const withoutBinary = (refuse: Refuse, message: string) =>
  refuse("binary", [message.replace(/\.$/, "")], "Install it, or say where it is by the option etcdutl.")

/** How much of what it says is told. */
const lastLines = 12

/** What it says of itself while all goes well: a line of its log. */
const isChatter = (line: string): boolean => /"level":"(info|debug|warn)"|\t(info|debug)\t/.test(line)

/**
 * Runs it, and answers what it wrote. It ends with the effect, however that ends. Where it fails, the error has its last lines.
 */
export const run = Effect.fnUntraced(
  function* (utl: EtcdUtl, args: ReadonlyArray<string>) {
    const name = nameOf(utl)
    const child = yield* ChildProcess.make(utl.path, args, {
      env: toolVariables(),
      extendEnv: true,
      stdin: "ignore",
      killSignal: "SIGKILL"
    })
    const [stdout, stderr, exitCode] = yield* Effect.all(
      [
        Stream.mkString(Stream.decodeText(child.stdout)),
        Stream.mkString(Stream.decodeText(child.stderr)),
        child.exitCode
      ],
      { concurrency: "unbounded" }
    )
    if (exitCode === 0) return stdout
    const said = `${stdout}\n${stderr}`.split("\n").filter((line) => line.trim() !== "")
    const telling = said.filter((line) => !isChatter(line))
    const lines = (telling.length > 0 ? telling : said).slice(-lastLines).map((line) => line.trim().slice(0, 1000))
    const [subject, command] = args
    return yield* Effect.fail(
      EtcdProcessError.make(
        new EtcdProcessError.ExitedEarly({
          message: `${name} (\`${subject} ${command}\`) ended with exit code ${exitCode}: ${lines.join("; ")}`,
          lastLines: lines,
          exitCode,
          signal: null
        })
      )
    )
  },
  Effect.scoped,
  (effect, utl) =>
    Effect.catchTag(effect, "PlatformError", (cause) => Effect.fail(systemFailure(`run ${nameOf(utl)}`)(cause)))
)

/** What is told of a snapshot, or of a database. */
const Status = Schema.fromJsonString(
  Schema.Struct({
    hash: Schema.Number,
    revision: Schema.Number,
    totalKey: Schema.Number,
    totalSize: Schema.Number,
    version: Schema.optionalKey(Schema.String)
  })
)

export interface Status {
  /** Of all that is in the database. */
  readonly hash: number
  /** The newest revision in it. */
  readonly revision: bigint
  /** How many keys there are; up to 3.5, how many entries in all buckets. */
  readonly keys: number
  /** The version of its layout (`3.6`), where that is told: from 3.6 on. */
  readonly storageVersion: string | undefined
}

/** Reads and checks a snapshot, or the database of a member that does not run. All pages are read. */
export const status = Effect.fnUntraced(function* (utl: EtcdUtl, file: string) {
  const printed = yield* run(utl, ["snapshot", "status", "--write-out=json", "--", file])
  const told = yield* Effect.mapError(Schema.decodeEffect(Status)(printed), (cause) =>
    EtcdProcessError.make(
      new EtcdProcessError.SystemFailure({
        message: `${nameOf(utl)} told of ${file} what makes no sense: ${JSON.stringify(printed.trim().slice(0, 200))}.`,
        cause
      })
    )
  )
  const found: Status = {
    hash: told.hash,
    revision: BigInt(told.revision),
    keys: told.totalKey,
    storageVersion: told.version === "" ? undefined : told.version
  }
  return found
})

export interface Restoring {
  readonly snapshot: string
  /** A directory that is not there. */
  readonly dataDir: string
  readonly name: string
  readonly initialCluster: Readonly<Record<string, ReadonlyArray<string>>>
  readonly token: string
  readonly peerUrls: ReadonlyArray<string>
  /** By how much the newest revision is raised; undefined: not at all. */
  readonly bumpRevision: bigint | undefined
  /** Takes a database that was copied, which has no checksum. */
  readonly skipHashCheck: boolean
}

export const restore = (utl: EtcdUtl, of: Restoring) =>
  run(utl, [
    "snapshot",
    "restore",
    `--data-dir=${of.dataDir}`,
    `--name=${of.name}`,
    `--initial-cluster=${Object.entries(of.initialCluster)
      .flatMap(([name, urls]) => urls.map((url) => `${name}=${url}`))
      .join(",")}`,
    `--initial-cluster-token=${of.token}`,
    `--initial-advertise-peer-urls=${of.peerUrls.join(",")}`,
    ...(of.bumpRevision === undefined ? [] : [`--bump-revision=${of.bumpRevision}`, "--mark-compacted"]),
    ...(of.skipHashCheck ? ["--skip-hash-check"] : []),
    // Its name may begin as an option does.
    "--",
    of.snapshot
  ])
