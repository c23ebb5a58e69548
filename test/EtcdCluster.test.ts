import { existsSync } from "node:fs"
import { dirname } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Scope, SubscriptionRef } from "effect"
import { EtcdCluster, EtcdKv, EtcdLayer, EtcdProcess } from "effect-etcd"
import { soon } from "./support/time.ts"

describe("EtcdCluster", () => {
  it.live("three members elect a leader, replicate, survive its death, and take it back", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.scoped(
        Effect.gen(function* () {
          const cluster = yield* EtcdCluster.ephemeral({ log: false })
          assert.strictEqual(new Set(cluster.members.map((node) => node.id)).size, 3)
          assert.strictEqual(new Set(cluster.members.map((node) => node.clusterId)).size, 1)
          const first = yield* cluster.awaitLeader
          yield* Effect.provide(EtcdKv.put("a", "1"), EtcdLayer.connect({ endpoints: first.endpoints }))
          yield* first.signal("SIGKILL")
          yield* first.exit
          const second = yield* cluster.awaitLeader
          assert.notStrictEqual(second.id, first.id)
          const others = cluster.members.filter((node) => node !== first)
          for (const node of others) {
            const read = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: node.endpoints }))
            assert.deepStrictEqual(yield* read, Option.some("1"))
          }
          yield* first.start
          assert.isTrue(yield* SubscriptionRef.get(first.ready))
          const back = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: first.endpoints }))
          assert.deepStrictEqual(yield* back, Option.some("1"))
          return dirname(new URL(first.endpoints[0]).pathname)
        })
      )
      assert.isFalse(existsSync(directory))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.effect("stops in real time, whatever clock the program has", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const cluster = yield* EtcdCluster.ephemeral({ log: false, gracePeriod: "200 millis" }).pipe(Scope.provide(scope))
      yield* cluster.members[0].signal("SIGSTOP")
      yield* soon(Scope.close(scope, Exit.void))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("a member that cannot start takes the others down", () =>
    Effect.gen(function* () {
      const error = yield* EtcdCluster.fromConfigs([{ name: "a" }, { name: "b", listenPeerUrls: "nonsense" }], {
        log: false
      }).pipe(Effect.scoped, Effect.flip)
      assert.strictEqual(error.reason._tag, "InvalidConfig")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("as a layer", () =>
    Effect.gen(function* () {
      yield* EtcdKv.put("a", "1")
      const cluster = yield* EtcdCluster.EtcdCluster
      assert.strictEqual(cluster.members.length, 3)
    }).pipe(
      Effect.provide(
        EtcdLayer.cluster({ log: false, config: { heartbeatInterval: "50 millis", electionTimeout: "500 millis" } })
      )
    )
  )
})

describe("EtcdLayer", () => {
  it.live("connect inside a program that has an etcd of its own means the other one", () =>
    Effect.gen(function* () {
      const other = yield* EtcdProcess.ephemeral({}, { log: false })
      yield* EtcdKv.put("whose", "own")
      const elsewhere = EtcdLayer.connect({ endpoints: other.endpoints })
      assert.deepStrictEqual(yield* Effect.provide(EtcdKv.getString("whose"), elsewhere), Option.none())
      yield* Effect.provide(EtcdKv.put("whose", "other"), elsewhere)
      assert.deepStrictEqual(yield* EtcdKv.getString("whose"), Option.some("own"))
    }).pipe(Effect.scoped, Effect.provide(EtcdLayer.ephemeral({}, { log: false })), Effect.provide(NodeServices.layer))
  )

  it.live("embedded, and connect to what runs", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.EtcdProcess
      yield* EtcdKv.put("a", "1")
      const read = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: etcd.endpoints }))
      assert.deepStrictEqual(yield* read, Option.some("1"))
    }).pipe(Effect.provide(EtcdLayer.embedded({}, { log: false })))
  )
})
