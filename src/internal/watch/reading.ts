/**
 * What a watch reads: a range as it is at one revision, or when a key had been written last.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { CallOptions, Client } from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import type { KeyRange } from "../../KeyRange.ts"
import * as KeyStream from "../kv/stream.ts"
import type { KeyValue } from "../proto/kv_pb.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Identity from "./identity.ts"

/** All keys of a range, and how far the store was. */
export interface Snapshot extends Identity.Position {
  readonly kvs: ReadonlyArray<KeyValue>
  /** The last write among them. */
  readonly last: Identity.Write | undefined
}

/** A copy of the key: what came in one message lives as long as any part of it. */
export const writeOf = ({ key, modRevision }: KeyValue): Identity.Write => ({
  key: new Uint8Array(key),
  revision: modRevision
})

/** A history that is compacted while it is read, or whose store goes back, is read again. */
export const readSnapshot = (
  client: Client,
  range: KeyRange,
  options: CallOptions
): Effect.Effect<Snapshot, EtcdError> => {
  const read = Effect.gen(function* () {
    const kvs: Array<KeyValue> = []
    let last: KeyValue | undefined
    const reading = yield* KeyStream.read(client, range, options)
    yield* Stream.runForEachArray(reading.kvs, (page) =>
      Effect.sync(() => {
        for (const kv of page) {
          kvs.push(kv)
          if (last === undefined || kv.modRevision > last.modRevision) last = kv
        }
      })
    )
    return { ...Identity.positionOf(reading.header()), kvs, last: last === undefined ? undefined : writeOf(last) }
  })
  const again = () => readSnapshot(client, range, options)
  return Effect.scoped(read).pipe(
    Effect.catchReason("EtcdError", "Compacted", again),
    Effect.catchReason("EtcdError", "FutureRevision", again)
  )
}

/** A key as it was at a revision, and how far the store is. */
export interface KeyState {
  /** Undefined where the server did not say. */
  readonly now: Identity.Position | undefined
  /** The revision that had written it last. Undefined where there was no such key. */
  readonly modRevision: bigint | undefined
}

export const readKey = (
  client: Client,
  key: Uint8Array,
  revision: bigint,
  options: CallOptions
): Effect.Effect<KeyState, EtcdError> =>
  Effect.map(
    client.unary(Rpc.KV.method.range, { key, revision, limit: 1n, keysOnly: true }, options),
    ({ header, kvs: [kv] }) => ({
      now: header === undefined ? undefined : Identity.positionOf(header),
      modRevision: kv?.modRevision
    })
  )
