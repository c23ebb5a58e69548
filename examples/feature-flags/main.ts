import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream, SubscriptionRef } from "effect"
import { EtcdKv, EtcdLayer } from "effect-etcd"
import { change, changes, Flags, isOn } from "./flags.ts"

const users = Array.from({ length: 1000 }, (_, index) => `user-${index}`)

const program = Effect.gen(function* () {
  const flags = yield* Flags

  /** Waits until this program knows of a revision, and prints for how many users the flag is on. */
  const show = Effect.fnUntraced(function* (what: string, revision: bigint) {
    yield* SubscriptionRef.changes(flags.known).pipe(
      Stream.filter((known) => known.revision >= revision),
      Stream.take(1),
      Stream.runForEach((known) => {
        const on = users.filter((user) => isOn(known, "new-checkout", user)).length
        return Console.log(`${what}: new-checkout is on for ${on} of ${users.length} users`)
      })
    )
  })

  yield* show("the default", 0n)
  const tenth = yield* change("new-checkout", "ada", "try it out", () => ({ enabled: true, rollout: 10 }))
  yield* show("a tenth", tenth)
  yield* show("half", yield* change("new-checkout", "ada", "no complaints", (now) => ({ ...now, rollout: 50 })))

  // By hand, and invalid.
  const { header } = yield* EtcdKv.put("flags/new-checkout", `{ "enabled": true, "rollout": 500 }`)
  yield* show("a wrong value", header.revision)

  const off = yield* change("new-checkout", "bob", "orders are lost", (now) => ({ ...now, enabled: false }))
  yield* show("off", off)

  // Who did what, in order.
  for (const { modRevision, value } of (yield* changes.list()).entries) {
    yield* Console.log(`revision ${modRevision}, ${value.by}: ${value.why}`, value.flag)
  }
})

const etcd = EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] })

program.pipe(Effect.provide(Layer.provideMerge(Flags.layer, etcd)), NodeRuntime.runMain)
