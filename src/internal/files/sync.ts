/**
 * Making sure that what was written is on the disk.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"

/** Which names a directory has. Not everybody may read one, and not every file system takes it. */
export const syncNames = (path: string) => Effect.ignore(sync(path))

/** A file. */
export const sync = Effect.fnUntraced(function* (path: string) {
  const handle = yield* (yield* FileSystem.FileSystem).open(path, { flag: "r" })
  yield* handle.sync
}, Effect.scoped)

/** A directory with all that is in it. */
export const syncAll = (path: string): Effect.Effect<void, PlatformError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const { join } = yield* Path.Path
    const { type } = yield* fs.stat(path)
    if (type !== "Directory") return yield* sync(path)
    yield* Effect.forEach(yield* fs.readDirectory(path), (name) => syncAll(join(path, name)), { discard: true })
    yield* syncNames(path)
  })
