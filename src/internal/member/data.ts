/**
 * What there is in a data directory, without an etcd that opens it: whose data it is, or that there is none.
 *
 * A member has data when it has a write-ahead log, whose files each begin with the ids of the member and its cluster. etcd
 * makes the log whole, by renaming a directory; what else there is without a log was being made when somebody died, or has
 * lost its log, and is of no use to anybody. (Facts: `server/storage/wal/wal.go`, `Create`, and
 * `etcdserverpb.Metadata`, of etcd 3.5 to 3.7; the same in 3.4.)
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Failures from "../process/failures.ts"

/** Who has written the data. */
export interface Data {
  readonly memberId: bigint
  readonly clusterId: bigint
}

/** Where etcd keeps them, as absolute paths. */
export interface Directories {
  readonly dataDir: string
  readonly walDir: string | undefined
}

type Platform = FileSystem.FileSystem | Path.Path

/** The fields of a message that are numbers, and those that are bytes, by their numbers. */
const fieldsOf = (message: Uint8Array): ReadonlyMap<number, bigint | Uint8Array> => {
  const fields = new Map<number, bigint | Uint8Array>()
  let at = 0
  const readNumber = (): bigint => {
    let value = 0n
    for (let shift = 0n; at < message.length; shift += 7n) {
      const byte = message[at++]!
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    return value
  }
  while (at < message.length) {
    const tag = Number(readNumber())
    const value = readNumber()
    if ((tag & 7) === 0) fields.set(tag >> 3, BigInt.asUintN(64, value))
    else if ((tag & 7) === 2) {
      fields.set(tag >> 3, message.subarray(at, at + Number(value)))
      at += Number(value)
    } else break
  }
  return fields
}

const metadataType = 1n

/** The ids with which a file of the log begins: in its second record, after the first checksum. */
export const idsIn = (log: Uint8Array): Data | undefined => {
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength)
  for (let at = 0, records = 0; at + 8 <= log.length && records < 2; records++) {
    const length = Number(view.getBigUint64(at, true) & 0x00ff_ffff_ffff_ffffn)
    const padding = view.getUint8(at + 7) >= 0x80 ? view.getUint8(at + 7) & 7 : 0
    const record = fieldsOf(log.subarray(at + 8, at + 8 + length))
    const data = record.get(3)
    if (record.get(1) === metadataType && data instanceof Uint8Array) {
      const ids = fieldsOf(data)
      const memberId = ids.get(1)
      const clusterId = ids.get(2)
      return typeof memberId === "bigint" && typeof clusterId === "bigint" ? { memberId, clusterId } : undefined
    }
    at += 8 + length + padding
  }
  return undefined
}

const headBytes = 4096

const walDirOf = (path: Path.Path, { dataDir, walDir }: Directories): string =>
  walDir ?? path.join(dataDir, "member", "wal")

const failed = (doing: string, { dataDir }: Directories) => Failures.systemFailure(`${doing} ${dataDir}`)

/** Whose data there are. Files of a log that tell no ids are data too, which etcd will say what is wrong with. */
export const read = Effect.fnUntraced(function* (
  directories: Directories
): Effect.fn.Return<Option.Option<Data | "unreadable">, EtcdProcessError.EtcdProcessError, Platform> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const wal = walDirOf(path, directories)
  const fail = failed("read the data directory", directories)
  if (!(yield* Effect.mapError(fs.exists(wal), fail))) return Option.none()
  const files = (yield* Effect.mapError(fs.readDirectory(wal), fail)).filter((name) => name.endsWith(".wal")).sort()
  if (files.length === 0) return Option.none()
  const head = yield* Effect.scoped(
    Effect.flatMap(fs.open(path.join(wal, files.at(-1)!), { flag: "r" }), (file) => file.readAlloc(headBytes))
  ).pipe(Effect.mapError(fail))
  return Option.some((Option.isSome(head) ? idsIn(head.value) : undefined) ?? "unreadable")
})

/**
 * Puts aside what there is without a log: somebody was killed who was making it, or its log is where it cannot be seen now
 * (a disk that is not mounted). What was put aside before goes.
 */
export const putAside = Effect.fnUntraced(function* (
  directories: Directories
): Effect.fn.Return<void, EtcdProcessError.EtcdProcessError, Platform> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const fail = failed("put aside the data in", directories)
  const member = path.join(directories.dataDir, "member")
  if (!(yield* Effect.mapError(fs.exists(member), fail))) return
  const aside = `${member}.incomplete`
  yield* Effect.mapError(fs.remove(aside, { recursive: true, force: true }), fail)
  yield* Effect.mapError(fs.rename(member, aside), fail)
})

/** Removes all that etcd has made, and leaves the directory. */
export const remove = Effect.fnUntraced(function* (
  directories: Directories
): Effect.fn.Return<void, EtcdProcessError.EtcdProcessError, Platform> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const fail = failed("remove the data in", directories)
  // The log first: whoever is killed in between has left what is no data.
  const member = path.join(directories.dataDir, "member")
  for (const place of [walDirOf(path, directories), member, `${member}.incomplete`]) {
    yield* Effect.mapError(fs.remove(place, { recursive: true, force: true }), fail)
  }
})
