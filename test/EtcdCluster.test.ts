import { existsSync } from "node:fs"
import { dirname } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Scope, SubscriptionRef } from "effect"
import { EtcdCluster, EtcdKv, EtcdLayer, EtcdProcess, type EtcdProcessError } from "effect-etcd"
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

  it.live("what makes no sense is refused before anything is started", () =>
    Effect.gen(function* () {
      // Whoever got as far as that would say that there is no such executable.
      const binary = "/nowhere/etcd"
      const refused: ReadonlyArray<readonly [Effect.Effect<unknown, EtcdProcessError.EtcdProcessError, any>, string]> =
        [
          [EtcdCluster.make({ binary, size: 0 }), "a whole number from 1 up to 99"],
          [EtcdCluster.make({ binary, config: { name: "a" } }), "config has name, which no two members can share"],
          [EtcdCluster.ephemeral({ binary, config: { dataDir: "/data" } }), "config has dataDir"],
          [EtcdCluster.make({ binary, config: { walDir: "/wal" } }), "config has walDir"],
          [EtcdCluster.make({ binary, config: { electionTimeout: "soon" as never } }), "electionTimeout: expected"],
          [EtcdCluster.make({ binary, config: 5 as never }), "the option config has to be an object"],
          [
            EtcdCluster.make({ binary, runDirectory: "/run" } as EtcdCluster.Options),
            'there is no option "runDirectory"'
          ],
          [EtcdCluster.ephemeral(null as never), "the options have to be an object, and not null"],
          [EtcdCluster.fromConfigs([] as never, { binary }), "with one at least, and not []"],
          [EtcdCluster.fromConfigs([{}, { nam: "b" } as never], { binary }), "did you mean name?"],
          [EtcdCluster.fromConfigs([{}], { binary, startTimeout: 0 }), "a positive duration"],
          [EtcdProcess.make(5 as never, { binary }), "expected an object of options, got 5"],
          [EtcdProcess.ephemeral(null as never, { binary }), "expected an object of options, got null"],
          [EtcdProcess.ephemeral("text" as never, { binary }), 'expected an object of options, got "text"'],
          [EtcdProcess.make({}, { binary, client: { endpoints: ["a:1"] } as object }), "they are those of the node"],
          [EtcdProcess.make({}, { binary, client: { tsl: {} } as object }), 'there is no option "tsl"']
        ]
      for (const [effect, said] of refused) {
        const { reason } = yield* Effect.flip(Effect.scoped(effect))
        assert.strictEqual(reason._tag, "InvalidConfig", reason.message)
        assert.include(reason.message, said)
      }
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
