/**
 * Whose data there are, by the log: each of its files begins with the ids of the member and of its cluster.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Log from "./log.ts"
import * as Wal from "./wal.ts"

const headBytes = 4096

/** Nothing where there is no log in that directory. Files of a log that tell no ids are one, too. */
export const owner = Effect.fnUntraced(function* (walDir: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  if (!(yield* fs.exists(walDir))) return Option.none<Log.Ids | "unreadable">()
  const newest = Wal.newest(yield* fs.readDirectory(walDir))
  if (newest === undefined) return Option.none<Log.Ids | "unreadable">()
  const file = yield* fs.open(path.join(walDir, newest), { flag: "r" })
  const head = yield* file.readAlloc(headBytes)
  return Option.some<Log.Ids | "unreadable">((Option.isSome(head) ? Log.idsIn(head.value) : undefined) ?? "unreadable")
}, Effect.scoped)
