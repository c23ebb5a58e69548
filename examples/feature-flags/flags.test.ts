import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Stream, SubscriptionRef } from "effect"
import { EtcdKv, EtcdLayer } from "effect-etcd"
import { EtcdFaults } from "effect-etcd/testing"
import { bucket, Flags, isOn, type Known, store } from "./flags.ts"

/** Another program, with a client of its own. */
const program = Effect.fnUntraced(function* ({ endpoints }: EtcdFaults.Client) {
  const built = yield* Layer.build(Layer.fresh(Flags.layer).pipe(Layer.provide(EtcdLayer.connect({ endpoints }))))
  return yield* Effect.provide(Flags, built)
})

const until = (flags: Flags["Service"], is: (known: Known) => boolean) =>
  SubscriptionRef.changes(flags.known).pipe(Stream.filter(is), Stream.take(1), Stream.runDrain)

const users = Array.from({ length: 10_000 }, (_, index) => `user-${index}`)

layer(EtcdFaults.layer({ size: 1, log: false }), { excludeTestServices: true, timeout: "1 minute" })("a flag", (it) => {
  it.effect("is its default while etcd is away, and what etcd says as soon as that is there", () =>
    Effect.gen(function* () {
      const late = yield* EtcdFaults.client("late")
      yield* EtcdFaults.isolate("late")
      yield* store.put("new-checkout", { enabled: true })
      const flags = yield* program(late)
      assert.isFalse(yield* flags.isOn("new-checkout", "ada"))

      yield* EtcdFaults.heal
      yield* until(flags, (known) => isOn(known, "new-checkout", "ada"))
    })
  )

  it.effect("stays what it was in a program that is cut off, which hears of the rest when it is back", () =>
    Effect.gen(function* () {
      yield* store.put("new-checkout", { enabled: true })
      const flags = yield* program(yield* EtcdFaults.client("app"))
      yield* EtcdFaults.isolate("app")
      yield* store.delete("new-checkout")
      const { revision } = yield* store.put("dark-mode", { enabled: false })
      // This history is gone before the program could see it.
      yield* EtcdKv.compact(revision)
      assert.isTrue(yield* flags.isOn("new-checkout", "ada"))

      yield* EtcdFaults.heal
      yield* until(flags, (known) => known.revision >= revision)
      assert.isFalse(yield* flags.isOn("new-checkout", "ada"))
      assert.isFalse(yield* flags.isOn("dark-mode", "ada"))
    })
  )

  it.effect("stays what it was where somebody writes what is none, and is the default where it is deleted", () =>
    Effect.gen(function* () {
      yield* store.put("new-checkout", { enabled: true })
      const flags = yield* program(yield* EtcdFaults.client("careful"))
      const { header } = yield* EtcdKv.put("flags/new-checkout", "yes, please")
      yield* until(flags, (known) => known.revision >= header.revision)
      assert.isTrue(yield* flags.isOn("new-checkout", "ada"))

      yield* store.delete("new-checkout")
      yield* until(flags, (known) => !isOn(known, "new-checkout", "ada"))
    })
  )

  it.effect("is rolled out to those who have it, and more", () =>
    Effect.sync(() => {
      const at = (rollout: number) => users.filter((user) => bucket("new-checkout", user) < rollout)
      assert.includeMembers(at(50), at(10))
      assert.approximately(at(10).length, 1000, 100)
      // The first users of one flag are not the first users of all.
      assert.approximately(at(10).filter((user) => bucket("dark-mode", user) < 10).length, 100, 40)
    })
  )
})
