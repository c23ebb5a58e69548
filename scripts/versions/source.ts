/**
 * What the sources of etcd versions have in common: what a source is, the cache that it fills, and the commands that it runs.
 */
import process from "node:process"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type * as HttpClient from "effect/http/HttpClient"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Stream from "effect/Stream"
import * as EtcdBinary from "../../src/EtcdBinary.ts"

export type Services = ChildProcessSpawner | FileSystem.FileSystem | HttpClient.HttpClient | Path.Path

export interface Source {
  readonly name: string
  /** The version or release line that it has, where that is known before it is asked. */
  readonly has?: string | undefined
  /** Answers the path of an `etcd`; the other tools are next to it. */
  readonly get: Effect.Effect<string, Failed, Services>
}

export class Failed extends Data.TaggedError("Failed")<{ readonly reason: string }> {}

export const failed = (reason: string) => Effect.fail(new Failed({ reason }))

export const tools = ["etcd", "etcdctl", "etcdutl"] as const

export const say = (line: string) => Effect.sync(() => process.stderr.write(`effect-etcd: ${line}\n`))

export const within = (duration: Duration.Input) =>
  Effect.timeoutOrElse({ duration, orElse: () => failed(`it took longer than ${duration}`) })

const lastLine = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .findLast((line) => line !== "")

const cannotRun = (command: string) => (error: PlatformError.PlatformError) =>
  failed(error.reason._tag === "NotFound" ? `there is no ${command} on this machine` : error.message)

/** Runs a command, and answers its output. It fails with the last line that the command wrote. */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: Record<string, string> } = {}
): Effect.Effect<string, Failed, ChildProcessSpawner> =>
  Effect.scoped(
    Effect.gen(function* () {
      const child = yield* ChildProcess.make(command, args, {
        ...options,
        env: { LC_ALL: "C", ...options.env },
        extendEnv: true,
        stdin: "ignore",
        forceKillAfter: "5 seconds"
      })
      const [stdout, stderr, code] = yield* Effect.all(
        [
          Stream.mkString(Stream.decodeText(child.stdout)),
          Stream.mkString(Stream.decodeText(child.stderr)),
          child.exitCode
        ],
        { concurrency: "unbounded" }
      )
      if (code === 0) return stdout
      return yield* failed(lastLine(stderr) ?? lastLine(stdout) ?? `${command} ended with exit code ${code}`)
    })
  ).pipe(Effect.catchTag("PlatformError", cannotRun(command)))

export const versionsDirectory = Effect.gen(function* () {
  const path = yield* Path.Path
  return path.join(yield* EtcdBinary.cacheDirectory, "versions")
})

/**
 * The executables in the folder `name` of the cache. Where it is not there yet, `fill` puts them into `bin` of the
 * directory that it gets, and they are moved into place as a whole.
 */
export const cached = (
  name: string,
  update: boolean,
  fill: (directory: string) => Effect.Effect<void, Failed | PlatformError.PlatformError, Services>
): Effect.Effect<string, Failed, Services> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const parent = yield* versionsDirectory
    const target = path.join(parent, name)
    const etcd = path.join(target, "etcd")
    if (!update && (yield* fs.exists(etcd))) return etcd
    yield* fs.makeDirectory(parent, { recursive: true })
    const staging = yield* fs.makeTempDirectoryScoped({ directory: parent, prefix: ".get-" })
    const bin = path.join(staging, "bin")
    yield* fs.makeDirectory(bin)
    yield* fill(staging)
    yield* fs.remove(target, { recursive: true, force: true })
    yield* fs.rename(bin, target)
    return etcd
  }).pipe(
    Effect.scoped,
    Effect.catchTags({
      EtcdProcessError: (error) => failed(error.message),
      PlatformError: (error) => failed(error.message)
    })
  )
