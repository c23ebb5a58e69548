/**
 * Reads all keys of a range as they are at one revision.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type { CallOptions, Client } from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import type { KeyRange } from "../../KeyRange.ts"
import type { KeyValue } from "../proto/kv_pb.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import type { Snapshot } from "./subscription.ts"

/** How many keys are read at a time. */
const pageSize = 500n

/** The first key after this one. */
const after = (key: Uint8Array): Uint8Array => {
  const next = new Uint8Array(key.length + 1)
  next.set(key)
  return next
}

/** A history that is compacted while it is read is read again. */
export const readSnapshot = (
  client: Client,
  range: KeyRange,
  options: CallOptions
): Effect.Effect<Snapshot, EtcdError> => {
  const read = Effect.gen(function* () {
    const kvs: Array<KeyValue> = []
    let key = range.key
    let revision = 0n
    while (true) {
      const request = { key, rangeEnd: range.end, limit: pageSize, revision }
      const page = yield* client.unary(Rpc.KV.method.range, request, options)
      for (const kv of page.kvs) kvs.push(kv)
      if (revision === 0n) revision = page.header?.revision ?? 0n
      const last = page.kvs.at(-1)
      if (!page.more || last === undefined) return { _tag: "Snapshot", revision, kvs } as const
      key = after(last.key)
    }
  })
  return Effect.catchReason(read, "EtcdError", "Compacted", () => readSnapshot(client, range, options))
}
