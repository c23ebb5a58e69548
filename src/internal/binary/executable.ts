/**
 * Executables on the disk: whether there is one, whether it may be run, and whether it is the one that was put there.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as Cache from "effect/Cache"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import { isWindows } from "./settings.ts"

/** A file as it is now: a replaced file is another key. */
export interface FileIdentity {
  readonly path: string
  readonly dev: bigint
  readonly inode: bigint | undefined
  readonly size: bigint
  readonly modified: number | undefined
}

const identify = (path: string, info: FileSystem.File.Info): FileIdentity => ({
  path,
  dev: info.dev,
  inode: Option.getOrUndefined(info.ino),
  size: ByteSize.toBigInt(info.size),
  modified: Option.getOrUndefined(info.mtime)?.getTime()
})

/** Why a path leads to nothing that can be run. */
export interface Unusable {
  /** As it goes after "which". */
  readonly why: string
  readonly isMissing: boolean
}

const unusable = (why: string, isMissing = false): Result.Result<never, Unusable> => Result.fail({ why, isMissing })

/** The executable at `path`, whoever may run it. */
export const executableAt = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.result(fs.stat(path))
  if (Result.isFailure(info)) {
    const reason = info.failure.reason
    return reason._tag === "NotFound"
      ? unusable("does not exist", true)
      : unusable(`cannot be read (${reason.message})`)
  }
  if (info.success.type !== "File") return unusable(`is a ${info.success.type}, not a file`)
  if (!isWindows && (info.success.mode & 0o111) === 0) return unusable("is not executable")
  return Result.succeed(identify(path, info.success))
})

/** Whether this user may run it: who owns it, access lists and how its file system is mounted have a say in that. */
const mayRun = (path: string): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const { access, constants } = globalThis.process.getBuiltinModule("node:fs")
    access(path, constants.X_OK, (error) => resume(Effect.succeed(!error)))
  })

/** The executable at `path` that this user can run. */
export const runnableAt = Effect.fnUntraced(function* (path: string) {
  const file = yield* executableAt(path)
  return Result.isFailure(file) || isWindows || (yield* mayRun(path))
    ? file
    : unusable("this user may not run, or nobody where its file system is mounted")
})

// ── what was put there ──

/** Hashed beside everything else that goes on, in a thread of its own. */
const digest = Effect.fnUntraced(function* ({ path }: FileIdentity) {
  const fs = yield* FileSystem.FileSystem
  const bytes = yield* fs.readFile(path)
  const hash = yield* Effect.promise(() => globalThis.crypto.subtle.digest("SHA-256", bytes))
  return Buffer.from(hash).toString("hex")
})

/** It takes a while, so it is done once for each. */
const digests = /*#__PURE__*/ Effect.runSync(
  /*#__PURE__*/ Cache.makeWith(digest, {
    capacity: 64,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero),
    requireServicesAt: "lookup"
  })
)

/** Lies beside the executables of a release, in the format of `sha256sum`. */
const sumsName = "SHA256SUMS"

/** The SHA-256 of files by their names. */
export type Sums = ReadonlyMap<string, string>

/** Remembers what is in a directory. */
export const writeSums = Effect.fnUntraced(function* (directory: string, sums: Sums) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const lines = Array.from(sums, ([name, sha256]) => `${sha256}  ${name}\n`)
  yield* fs.writeFileString(path.join(directory, sumsName), lines.join(""))
})

/** What is remembered of a directory; none if nothing is. */
export const readSums = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const text = yield* Effect.option(fs.readFileString(path.join(directory, sumsName)))
  return Option.map(
    text,
    (text): Sums => new Map(Array.from(text.matchAll(/^([0-9a-f]{64}) {2}(\S+)$/gm), ([, sum, name]) => [name!, sum!]))
  )
})

/** Whether a file is still what is remembered of it. */
export const isAsRemembered = (file: FileIdentity, sha256: string | undefined) =>
  sha256 === undefined
    ? Effect.succeed(false)
    : Effect.match(Cache.get(digests, file), {
        onFailure: () => false,
        onSuccess: (actual) => actual === sha256
      })

/** Whether a directory holds all that is remembered of it, as it was, and `name` is of it. */
export const isWhole = Effect.fnUntraced(function* (directory: string, name: string) {
  const path = yield* Path.Path
  const sums = Option.getOrUndefined(yield* readSums(directory))
  if (sums?.has(name) !== true) return false
  const verdicts = yield* Effect.forEach(
    sums,
    ([name, sha256]) =>
      Effect.flatMap(executableAt(path.join(directory, name)), (file) =>
        Result.isSuccess(file) ? isAsRemembered(file.success, sha256) : Effect.succeed(false)
      ),
    { concurrency: "unbounded" }
  )
  return verdicts.every((holds) => holds)
})
