/**
 * What a file is that is said to be a snapshot.
 *
 * A snapshot is the pages of etcd's database, as many as there have ever been, and the SHA-256 of them
 * (`maintenanceServer.Snapshot` in etcd's `server/etcdserver/api/v3rpc/maintenance.go`). Whether there is one is told by the
 * size: pages are multiples of 512 bytes (`hasChecksum` in `etcdutl/snapshot/v3_snapshot.go`). A database that was copied from
 * the directory of a member has none.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { EtcdUtl } from "../../EtcdBinary.ts"
import * as Bolt from "../files/bolt.ts"
import { isLocked } from "../files/flock.ts"
import * as Revision from "../files/revision.ts"
import * as Etcdutl from "./etcdutl.ts"
import type { Refuse } from "./operation.ts"
import * as Record from "./record.ts"

const digestBytes = 32

export interface Verified extends Etcdutl.Status {
  readonly path: string
  readonly bytes: number
  /** The checksum that it ends with, in hexadecimal; undefined for a database that was copied. */
  readonly sha256: string | undefined
  /** Who gave it, where a record says so that is of this snapshot. */
  readonly giver: bigint | undefined
}

export interface Verifying {
  readonly utl: EtcdUtl
  readonly refuse: Refuse
  /** Takes a database that was copied, too, which has no checksum. Default: false. */
  readonly skipHashCheck?: boolean | undefined
}

const again = "Take another snapshot, or the one before."

const readBytes = (path: string, from: number, length: number) => Revision.inFile(path, (read) => read(from, length))

/** The SHA-256 of the beginning of a file. */
const digestOf = Effect.fnUntraced(function* (path: string, bytes: number) {
  const hash = globalThis.process.getBuiltinModule("node:crypto").createHash("sha256")
  const fs = yield* FileSystem.FileSystem
  yield* Stream.runForEach(fs.stream(path, { bytesToRead: bytes, chunkSize: 1024 * 1024 }), (chunk) =>
    Effect.sync(() => void hash.update(chunk))
  )
  return hash.digest("hex")
})

/** What a snapshot is; or a refusal that says what is wrong with the file. Nothing is changed. */
export const verify = Effect.fnUntraced(function* (path: string, { refuse, skipHashCheck = false, utl }: Verifying) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.mapError(fs.stat(path), (error) =>
    error.reason._tag === "NotFound"
      ? refuse("no-snapshot", [`there is no ${path}`], "Name a file that is there.")
      : error
  )
  if (info.type !== "File") {
    return yield* Effect.fail(refuse("foreign-snapshot", [`${path} is a ${info.type}`], "Name a file."))
  }
  const bytes = Number(ByteSize.toBigInt(info.size))
  const size = `${path} has ${bytes} bytes`
  if (bytes === 0) {
    return yield* Effect.fail(refuse("truncated-snapshot", [`${path} is empty`], again))
  }
  const head = Bolt.headOf(yield* readBytes(path, 0, Math.min(bytes, Bolt.headBytes)))
  if (head === undefined) {
    return yield* Effect.fail(
      refuse("foreign-snapshot", [`${size}, and does not begin as a database of etcd does`], "Name a snapshot of etcd.")
    )
  }
  const database = head.pages * head.pageSize
  const hasDigest = bytes % 512 === digestBytes
  if (bytes < database) {
    const due = `its database has ${head.pages} pages of ${head.pageSize} bytes, and a checksum after them`
    return yield* Effect.fail(refuse("truncated-snapshot", [`${size}; ${due}`], again))
  }
  if (!hasDigest && !skipHashCheck) {
    return yield* Effect.fail(
      refuse(
        "foreign-snapshot",
        [`${size}, and no checksum at its end: it is no snapshot, but a database that was copied, or has lost its end`],
        "Name a snapshot. If it was copied from the directory of a member that did not run, it can be taken by " +
          "`skipHashCheck`; nothing tells then whether it is as it was."
      )
    )
  }
  const sha256 = hasDigest
    ? Buffer.from(yield* readBytes(path, bytes - digestBytes, digestBytes)).toString("hex")
    : undefined
  if (sha256 !== undefined && !skipHashCheck) {
    const actual = yield* digestOf(path, bytes - digestBytes)
    if (actual !== sha256) {
      const evidence = `the SHA-256 of ${path} is ${actual}, and it ends with ${sha256}`
      return yield* Effect.fail(refuse("damaged-snapshot", [evidence], again))
    }
  }
  // It would be waited for, for as long as that runs.
  if (yield* isLocked(path)) {
    const help = "Take a snapshot of that member, or a copy of this when it is stopped."
    return yield* Effect.fail(refuse("member-runs", [`a member runs with ${path}`], help))
  }
  const status = yield* Effect.catchReason(Etcdutl.status(utl, path), "EtcdProcessError", "ExitedEarly", (reason) =>
    Effect.fail(refuse("damaged-snapshot", [reason.message], again))
  )
  // An etcdutl 3.5 does not tell that a newer one has written it.
  const storageVersion = status.storageVersion ?? (yield* Revision.inFile(path, Revision.storageVersion))
  const record = Option.flatMap(yield* Effect.option(fs.readFileString(Record.of(path))), Record.fromText)
  const giver = Option.isSome(record) && record.value.sha256 === sha256 ? record.value.memberId : undefined
  const verified: Verified = {
    path,
    bytes,
    sha256,
    ...status,
    storageVersion,
    giver: giver === undefined ? undefined : BigInt.asUintN(64, giver)
  }
  return verified
})
