/**
 * Checking a snapshot while it passes by.
 *
 * etcd sends the pages of its database and then the SHA-256 of all that it sent
 * (`maintenanceServer.Snapshot` in etcd's `server/etcdserver/api/v3rpc/maintenance.go`).
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as EtcdError from "../../EtcdError.ts"

const digestBytes = 32

const damaged = (message: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.ProtocolViolation({
      message: `Maintenance.Snapshot failed: ${message}. Take the snapshot again.`,
      outcome: "not-applied",
      method: "Maintenance.Snapshot"
    })
  )

const noBytes = new Uint8Array(0)

/** Splits what has come into what is surely database, and the last bytes, which may be the digest. */
const split = (tail: Uint8Array, bytes: Uint8Array): readonly [database: Array<Uint8Array>, tail: Uint8Array] => {
  if (bytes.length >= digestBytes) {
    const end = bytes.length - digestBytes
    return [[tail, bytes.subarray(0, end)], bytes.slice(end)]
  }
  const joined = new Uint8Array(tail.length + bytes.length)
  joined.set(tail)
  joined.set(bytes, tail.length)
  const end = Math.max(0, joined.length - digestBytes)
  return [[joined.subarray(0, end)], joined.subarray(end)]
}

interface Check {
  readonly add: (bytes: Uint8Array) => void
  /** The digest in hexadecimal, if it is right. */
  readonly end: Effect.Effect<string, EtcdError.EtcdError>
}

export const makeCheck = (): Check => {
  const hash = globalThis.process.getBuiltinModule("node:crypto").createHash("sha256")
  let tail: Uint8Array = noBytes
  let received = 0
  return {
    add: (bytes) => {
      received += bytes.length
      const [database, rest] = split(tail, bytes)
      for (const part of database) hash.update(part)
      tail = rest
    },
    end: Effect.suspend(() => {
      if (received <= digestBytes) return Effect.fail(damaged(`the server sent only ${received} bytes`))
      const digest = hash.digest()
      return digest.equals(tail)
        ? Effect.succeed(digest.toString("hex"))
        : Effect.fail(damaged(`the SHA-256 of the ${received} bytes that came is not the one that etcd sent with them`))
    })
  }
}
