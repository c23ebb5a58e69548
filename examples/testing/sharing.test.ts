import { assert, layer } from "@effect/vitest"
import { Effect, Option } from "effect"
import { EtcdKv, EtcdLayer } from "effect-etcd"
import { EtcdFaults } from "effect-etcd/testing"

let tests = 0

/** A test in a healthy cluster, with keys of its own. */
const alone = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.andThen(EtcdFaults.awaitHealthy, test).pipe(Effect.provide(EtcdLayer.namespace(`test-${tests++}/`)))

layer(EtcdFaults.layer({ log: false }), { excludeTestServices: true, timeout: "1 minute" })("a setting", (it) => {
  it.effect("is read where a member is down", () =>
    alone(
      Effect.gen(function* () {
        yield* EtcdKv.put("color", "green")
        yield* EtcdFaults.kill("node0")
        assert.deepStrictEqual(yield* EtcdKv.getString("color"), Option.some("green"))
      })
    )
  )

  it.effect("is not there before it is written", () =>
    alone(Effect.map(EtcdKv.getString("color"), (color) => assert.deepStrictEqual(color, Option.none())))
  )

  it.effect("is kept where there is no space for another", () =>
    alone(
      Effect.gen(function* () {
        yield* EtcdKv.put("color", "green")
        yield* EtcdFaults.noSpace("node0")
        const { reason } = yield* Effect.flip(EtcdKv.put("color", "red"))
        assert.strictEqual(reason._tag, "NoSpace")
        assert.deepStrictEqual(yield* EtcdKv.getString("color"), Option.some("green"))

        yield* EtcdFaults.heal
        yield* EtcdFaults.awaitHealthy
        yield* EtcdKv.put("color", "blue")
      })
    )
  )
})
