/**
 * Copies of the directories of etcd, with nothing where a file has nothing: of what etcd allocates for its log and its database little is
 * written.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as PlatformError from "effect/PlatformError"

const blockBytes = 1024 * 1024

const zeros = new Uint8Array(blockBytes)

const isZero = (block: Uint8Array): boolean => Buffer.compare(block, zeros.subarray(0, block.length)) === 0

const copyFile = (fs: FileSystem.FileSystem, from: string, to: string) =>
  Effect.gen(function* () {
    const source = yield* fs.open(from)
    const target = yield* fs.open(to, { flag: "w", mode: 0o600 })
    const buffer = new Uint8Array(blockBytes)
    let at = 0
    for (let read = yield* source.read(buffer); read > 0; read = yield* source.read(buffer)) {
      const block = buffer.subarray(0, read)
      if (!isZero(block)) {
        yield* target.seek(BigInt(at), "start")
        yield* target.writeAll(block)
      }
      at += read
    }
    yield* target.truncate(at)
  }).pipe(Effect.scoped)

/** Copies a directory of etcd's to a place where nothing is. */
export const copyDirectory = (
  fs: FileSystem.FileSystem,
  from: string,
  to: string
): Effect.Effect<void, PlatformError.PlatformError> =>
  Effect.gen(function* () {
    yield* fs.makeDirectory(to, { mode: 0o700 })
    for (const name of yield* fs.readDirectory(from)) {
      // etcd allocates the next file of its log, and does so anew.
      if (name.endsWith(".tmp")) continue
      const { type } = yield* fs.stat(`${from}/${name}`)
      if (type === "Directory") yield* copyDirectory(fs, `${from}/${name}`, `${to}/${name}`)
      else yield* copyFile(fs, `${from}/${name}`, `${to}/${name}`)
    }
  })
