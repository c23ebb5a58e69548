/**
 * Faults of a client that are planted, so that it is seen that they are found. Each stands in front of a service that is
 * right, and does what a client that has the fault would do.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdWatch from "../../src/EtcdWatch.ts"
import { Snapshot } from "../../src/EtcdWatch.ts"
import { KV } from "../../src/internal/proto/rpc_pb.ts"

export const plants = {
  resend: "a write whose outcome is unknown is sent again",
  drop: "a watch loses an event now and then",
  stale: "linearizable reads are serializable ones",
  unfenced: "locks and leaderships have no fence",
  ghosts: "a mirror keeps what was deleted when its history was gone",
  rollback: "a majority goes back to an older state of its disks"
} as const

export type Plant = keyof typeof plants

const resending = (client: EtcdClient.Client): EtcdClient.Client => ({
  ...client,
  unary: (method, request, options) => {
    const call = client.unary(method, request, options)
    return Effect.catch(call, (error) => (error.outcome === "unknown" ? call : Effect.fail(error)))
  }
})

const stale = (client: EtcdClient.Client): EtcdClient.Client => ({
  ...client,
  unary: (method, request, options) =>
    client.unary(
      method,
      (method as object) === KV.method.range ? Object.assign({}, request, { serializable: true }) : request,
      options
    )
})

const dropping = (watch: EtcdWatch.Service): EtcdWatch.Service => {
  let count = 0
  return {
    ...watch,
    changes: (range, options) =>
      Stream.filter(watch.changes(range, options), ({ _tag }) => _tag !== "Revision" || ++count % 50 !== 0)
  }
}

/** What a snapshot does not have any more it has still. */
const haunted = (watch: EtcdWatch.Service): EtcdWatch.Service => ({
  ...watch,
  changes: (range, options) =>
    Stream.suspend(() => {
      const known = new Map<string, EtcdWatch.Snapshot["kvs"][number]>()
      return Stream.map(watch.changes(range, options), (change) => {
        if (change._tag === "Revision") {
          for (const event of change.events) {
            if (event._tag === "Put") known.set(event.kv.keyString, event.kv)
            else known.delete(event.kv.keyString)
          }
        }
        if (change._tag !== "Snapshot") return change
        for (const kv of change.kvs) known.set(kv.keyString, kv)
        return new Snapshot({ ...change, kvs: [...known.values()] })
      })
    })
})

/** The client that a worker with a plant has. */
export const clientWith = (plant: Plant | undefined, client: EtcdClient.Client): EtcdClient.Client => {
  if (plant === "resend") return resending(client)
  return plant === "stale" ? stale(client) : client
}

/** The watches that a worker with a plant has. */
export const watchWith = (plant: Plant | undefined, watch: EtcdWatch.Service): EtcdWatch.Service => {
  if (plant === "drop") return dropping(watch)
  return plant === "ghosts" ? haunted(watch) : watch
}
