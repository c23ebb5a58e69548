import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Ref, Stream } from "effect"
import { EtcdLayer } from "effect-etcd"
import { type EtcdMirror, EtcdRegistry, EtcdSession } from "effect-etcd/coordination"
import { EtcdFaults } from "effect-etcd/testing"
import { announce } from "./announce.ts"
import { make } from "./balance.ts"

/** Another program, with a client and a session of its own, which can be cut off by its name. */
const program = Effect.fnUntraced(function* (name: string) {
  const { endpoints } = yield* EtcdFaults.client(name)
  const session = EtcdSession.layerWith({ ttl: "1 second" })
  return yield* Layer.build(Layer.provideMerge(session, EtcdLayer.connect({ endpoints })))
})

const untilListIs = (live: EtcdMirror.Mirror<EtcdMirror.Decoded<EtcdRegistry.Endpoint>>, addresses: string) =>
  live.changes.pipe(
    Stream.mapEffect(() => live.view),
    Stream.filter((view) => EtcdRegistry.addresses(view).join() === addresses),
    Stream.take(1),
    Stream.runDrain
  )

const isHealthy = Effect.succeed(true)

layer(EtcdFaults.layer({ size: 1, log: false }), { excludeTestServices: true, timeout: "1 minute" })(
  "an instance",
  (it) => {
    it.effect("is off the list when it is cut off for longer than its lease, and back when it is not", () =>
      Effect.gen(function* () {
        const { live } = yield* make("cut")
        yield* announce({ service: "cut", address: "a:80" }, { isHealthy, drain: 0 }).pipe(
          Effect.provide(yield* program("a"))
        )
        yield* untilListIs(live, "a:80")
        yield* EtcdFaults.isolate("a")
        yield* untilListIs(live, "")
        yield* EtcdFaults.heal
        yield* untilListIs(live, "a:80")
      })
    )

    it.effect("is on the list while it is healthy", () =>
      Effect.gen(function* () {
        const { live } = yield* make("ill")
        const health = yield* Ref.make(false)
        yield* announce({ service: "ill", address: "a:80" }, { isHealthy: Ref.get(health), drain: 0 }).pipe(
          Effect.provide(yield* program("ill"))
        )
        assert.strictEqual((yield* live.fresh).size, 0)
        yield* Ref.set(health, true)
        yield* untilListIs(live, "a:80")
        yield* Ref.set(health, false)
        yield* untilListIs(live, "")
      })
    )

    it.effect("is off the list before it ends", () =>
      Effect.gen(function* () {
        const { live } = yield* make("drain")
        const hasEnded = yield* Ref.make(false)
        const instance = yield* Effect.gen(function* () {
          yield* Effect.addFinalizer(() => Ref.set(hasEnded, true))
          yield* announce({ service: "drain", address: "a:80" }, { isHealthy, drain: "3 seconds" })
          return yield* Effect.never
        }).pipe(Effect.scoped, Effect.provide(yield* program("drain")), Effect.forkChild)
        yield* untilListIs(live, "a:80")
        const ending = yield* Effect.forkChild(Fiber.interrupt(instance))
        yield* untilListIs(live, "")
        assert.isFalse(yield* Ref.get(hasEnded))
        yield* Fiber.join(ending)
        assert.isTrue(yield* Ref.get(hasEnded))
      })
    )

    it.effect("that does not answer is passed over", () =>
      Effect.gen(function* () {
        const { call, live } = yield* make("down")
        const instances = yield* program("down")
        for (const address of ["a:80", "b:80"]) {
          yield* Effect.provide(EtcdRegistry.register({ service: "down", address }), instances)
        }
        yield* untilListIs(live, "a:80,b:80")
        const asked: Array<string> = []
        const ask = (address: string) =>
          Effect.andThen(
            Effect.sync(() => asked.push(address)),
            address === "a:80" ? Effect.fail("nobody there") : Effect.succeed("hello")
          )
        for (let n = 0; n < 3; n++) assert.strictEqual(yield* call(ask), "hello")
        assert.deepStrictEqual(asked, ["a:80", "b:80", "b:80", "b:80"])
      })
    )

    it.effect("is found by a program that is cut off, which has the list that it had", () =>
      Effect.gen(function* () {
        yield* Effect.provide(EtcdRegistry.register({ service: "old", address: "a:80" }), yield* program("old"))
        const { live } = yield* Effect.provide(make("old"), yield* program("client"))
        yield* EtcdFaults.isolate("client")
        assert.deepStrictEqual(EtcdRegistry.addresses(yield* live.view), ["a:80"])
      })
    )
  }
)
