/**
 * What there is in a data directory, without an etcd that opens it: whose data it is, or that there is none.
 *
 * A member has data when it has a write-ahead log, whose files each begin with the ids of the member and its cluster. etcd
 * makes the log whole, by renaming a directory; what else there is without a log, or with one that has nothing in it yet, was
 * being made when somebody died, or has lost its log, and is of no use to anybody. (Facts: `server/storage/wal/wal.go`, `Create`, and
 * `etcdserverpb.Metadata`, of etcd 3.5 to 3.7; the same in 3.4.)
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as EtcdId from "../../EtcdId.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import type * as Log from "../files/log.ts"
import * as Owner from "../files/owner.ts"
import * as Failures from "../process/failures.ts"

/** Who has written the data. */
export type Data = Log.Ids

export type Directories = Owner.Directories

type Platform = FileSystem.FileSystem | Path.Path

const failed = (doing: string, { dataDir }: Directories) => Failures.systemFailure(`${doing} ${dataDir}`)

/** Whose data there are. Files of a log that tell no ids are data too, which etcd will say what is wrong with. */
export const read = (
  directories: Directories
): Effect.Effect<Option.Option<Data | "unreadable">, EtcdProcessError.EtcdProcessError, Platform> =>
  Effect.mapError(Owner.holder(directories), failed("read the data directory", directories))

/**
 * Puts aside what there is without a log, or with one that has nothing in it: somebody was killed who was making it, or its
 * log is where it cannot be seen now (a disk that is not mounted).
 */
export const putAside = (directories: Directories): Effect.Effect<void, EtcdProcessError.EtcdProcessError, Platform> =>
  Effect.mapError(Owner.putAside(directories), failed("put aside the data in", directories))

/** What stays in the directory of one that is a member of a cluster no more: the id of that one, and in it the token. */
const noteOf = (clusterId: bigint): string => `left.${EtcdId.format(clusterId)}`

/** Where the data are, and the token of their cluster. */
export type Place = Directories & { readonly token: string }

/**
 * The cluster of which there have been data, which were removed since it had this member no more: the one of this id, or
 * another one with the same token, which began with other peers.
 */
export const left = Effect.fnUntraced(
  function* ({ dataDir, token }: Place, clusterId: bigint) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    if (!(yield* fs.exists(dataDir))) return undefined
    for (const name of yield* fs.readDirectory(dataDir)) {
      const id = Option.getOrUndefined(EtcdId.parse(/^left\.(\w+)$/.exec(name)?.[1] ?? ""))
      if (id === undefined) continue
      if (id === clusterId || (yield* fs.readFileString(path.join(dataDir, name))) === token) return id
    }
    return undefined
  },
  (read, place) => Effect.mapError(read, failed("read the data directory", place))
)

/** Whether there have been data of this cluster, when it had this token. */
export const isNoted = Effect.fnUntraced(
  function* ({ dataDir, token }: Place, clusterId: bigint) {
    const fs = yield* FileSystem.FileSystem
    const note = (yield* Path.Path).join(dataDir, noteOf(clusterId))
    return (yield* fs.exists(note)) && (yield* fs.readFileString(note)) === token
  },
  (read, place) => Effect.mapError(read, failed("read the data directory", place))
)

/** Removes all that etcd has made, of a member that its cluster has no more, and leaves the directory, with a note of that. */
export const remove = Effect.fnUntraced(function* (
  directories: Place
): Effect.fn.Return<void, EtcdProcessError.EtcdProcessError, Platform> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const fail = failed("remove the data in", directories)
  const data = Option.getOrUndefined(yield* read(directories))
  if (data !== undefined && data !== "unreadable") {
    yield* Effect.mapError(fs.makeDirectory(directories.dataDir, { recursive: true, mode: 0o700 }), fail)
    const note = path.join(directories.dataDir, noteOf(data.clusterId))
    yield* Effect.mapError(fs.writeFileString(note, directories.token), fail)
  }
  // The log first: whoever is killed in between has left what is no data.
  const member = path.join(directories.dataDir, "member")
  for (const place of [Owner.walDirOf(path, directories), member, `${member}.incomplete`]) {
    yield* Effect.mapError(fs.remove(place, { recursive: true, force: true }), fail)
  }
})
