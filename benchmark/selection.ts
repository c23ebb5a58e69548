/**
 * What it is worth to keep to the leader: gets and puts in a cluster of three, by a client that does, by one that keeps
 * to a follower, and by one that spreads its calls.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { EtcdCluster, EtcdKv, EtcdLayer } from "effect-etcd"
import { oursAt, verify } from "./clients.ts"
import { fill, measureAll, printRows, warmUp } from "./kv.ts"
import { benchError, freePort, type Row } from "./support.ts"

const size = 3

/** Three members with etcd's own timing, each on ports of this machine. */
const makeCluster = Effect.gen(function* () {
  const members = yield* Effect.forEach(Array.from({ length: size }), (_, index) =>
    Effect.map(Effect.all([freePort, freePort]), ([client, peer]) => ({ name: `n${index}`, client, peer }))
  )
  const initialCluster = Object.fromEntries(members.map(({ name, peer }) => [name, `http://127.0.0.1:${peer}`]))
  const configs = members.map(({ client, name, peer }) => ({
    name,
    initialCluster,
    listenClientUrls: `http://127.0.0.1:${client}`,
    listenPeerUrls: `http://127.0.0.1:${peer}`,
    initialAdvertisePeerUrls: `http://127.0.0.1:${peer}`,
    unsafeNoFsync: true
  }))
  return yield* EtcdCluster.fromConfigs([configs[0]!, ...configs.slice(1)], { log: false })
})

export const selection = (quick: boolean) =>
  Effect.gen(function* () {
    const cluster = yield* makeCluster
    const leader = yield* cluster.awaitLeader
    const all = SubscriptionRef.getUnsafe(cluster.members).flatMap((member) => member.endpoints)
    const followers = SubscriptionRef.getUnsafe(cluster.members)
      .filter((member) => member !== leader)
      .flatMap((member) => member.endpoints)
    const clients = [
      yield* oursAt("leader", all, { selection: "leader" }),
      yield* oursAt("sticky, on a follower", followers, { selection: "sticky" }),
      yield* oursAt("spread", all, { selection: "spread" })
    ]
    const rows: Array<Row> = []
    yield* Effect.gen(function* () {
      yield* warmUp(clients)
      yield* fill(64)
      yield* Effect.forEach(clients, (client) => verify(client, 64), { discard: true })
      for (const scenario of ["get", "put"] as const) {
        for (const inFlight of [1, 64]) {
          const round = { scenario, inFlight, millis: quick ? 200 : 1000, valueBytes: 64 }
          const measured = yield* measureAll(clients, round, quick ? 3 : 7, rows.length)
          printRows(round, measured)
          rows.push(...measured)
        }
      }
      yield* EtcdKv.deletePrefix("bench/")
    }).pipe(Effect.provide(EtcdLayer.connect({ endpoints: cluster.endpoints })))
    return rows
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) => benchError("selection", cause)),
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
