import { assert, layer } from "@effect/vitest"
import { Effect, Option } from "effect"
import { EtcdCluster, EtcdKv } from "effect-etcd"
import { EtcdFaults } from "effect-etcd/testing"

layer(EtcdFaults.layer({ log: false }), { excludeTestServices: true, timeout: "1 minute" })("a cluster", (it) => {
  it.effect("answers without its leader", () =>
    Effect.gen(function* () {
      yield* EtcdKv.put("hello", "world")
      const cluster = yield* EtcdCluster.EtcdCluster
      yield* EtcdFaults.isolate(yield* cluster.awaitLeader)
      assert.deepStrictEqual(yield* EtcdKv.getString("hello"), Option.some("world"))
    })
  )
})
