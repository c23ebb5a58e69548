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

export interface Owner extends Log.Ids {
  /** Whether the log was made, and nothing was written into it: there is its first file alone. */
  readonly isBlank: boolean
}

const none = Option.none<Owner | "unreadable">()

/** As etcd names it, by its number, and the index of the first entry that it can have. */
const first = `${"0".repeat(16)}-${"0".repeat(16)}.wal`

/** Where etcd keeps the data of a member, as absolute paths. */
export interface Directories {
  readonly dataDir: string
  readonly walDir: string | undefined
}

export const walDirOf = (path: Path.Path, { dataDir, walDir }: Directories): string =>
  walDir ?? path.join(dataDir, "member", "wal")

/** Nothing where there is no log in that directory. Files of a log that tell no ids are one, too. */
export const owner = Effect.fnUntraced(function* (walDir: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  if (!(yield* fs.exists(walDir))) return none
  const newest = Wal.newest(yield* fs.readDirectory(walDir))
  if (newest === undefined) return none
  const file = yield* fs.open(path.join(walDir, newest), { flag: "r" })
  const head = Option.getOrElse(yield* file.readAlloc(headBytes), () => new Uint8Array())
  const ids = Log.idsIn(head)
  if (ids === undefined) return Option.some<Owner | "unreadable">("unreadable")
  return Option.some<Owner | "unreadable">({ ...ids, isBlank: newest === first && Log.isBlank(head) })
}, Effect.scoped)

/** Whose data there are. A log that was just made is none. */
export const holder = Effect.fnUntraced(function* (directories: Directories) {
  const found = yield* owner(walDirOf(yield* Path.Path, directories))
  return Option.filter(found, (one) => one === "unreadable" || !one.isBlank)
})

/** Puts data aside that are of no use to anybody. What was put aside before goes. */
export const putAside = Effect.fnUntraced(function* (directories: Directories) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const member = path.join(directories.dataDir, "member")
  if (yield* fs.exists(member)) {
    const aside = `${member}.incomplete`
    yield* fs.remove(aside, { recursive: true, force: true })
    yield* fs.rename(member, aside)
  }
  const wal = walDirOf(path, directories)
  if (Option.isSome(yield* owner(wal))) yield* fs.remove(wal, { recursive: true })
})
