import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Option } from "effect"
import { EtcdKv, EtcdLayer, KeyRange } from "effect-etcd"

const node = EtcdLayer.ephemeral({}, { log: false })

// A node for all tests of this block. They share its keys.
layer(node)("a node for a file", (it) => {
  it.effect("has what was written", () =>
    Effect.gen(function* () {
      yield* EtcdKv.put("color", "green")
      assert.deepStrictEqual(yield* EtcdKv.getString("color"), Option.some("green"))
    })
  )

  it.effect("has nothing of the others below a prefix of one's own", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* EtcdKv.getString("color"), Option.none())
    }).pipe(Effect.provide(EtcdLayer.namespace("second/")))
  )
})

// A node for each test: for tests about revisions, leases, users or members.
describe("a node for a test", () => {
  it.effect("begins at revision 1", () =>
    Effect.gen(function* () {
      const { count, header } = yield* EtcdKv.range(KeyRange.all)
      assert.deepStrictEqual([count, header.revision], [0n, 1n])
    }).pipe(Effect.provide(node))
  )
})
