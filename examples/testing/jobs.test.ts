import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, Schedule } from "effect"
import { EtcdKv, EtcdLayer } from "effect-etcd"
import { EtcdSession } from "effect-etcd/coordination"
import { EtcdClock, EtcdFaults } from "effect-etcd/testing"
import * as Jobs from "./jobs.ts"

/** Another program: with a client and a session of its own, which can be cut off from etcd by its name. */
const program = Effect.fnUntraced(function* (name: string) {
  const { endpoints } = yield* EtcdFaults.client(name)
  const etcd = EtcdLayer.connect({ endpoints })
  return yield* Layer.build(Layer.provideMerge(EtcdSession.layerWith({ ttl: "1 second" }), etcd))
})

const untilJobIs = (id: string, state: string) =>
  EtcdKv.getString(`jobs/${id}`).pipe(
    Effect.repeat({ schedule: Schedule.spaced("20 millis"), until: Option.contains(state) })
  )

layer(EtcdFaults.layer({ log: false }), { excludeTestServices: true, timeout: "1 minute" })("a job", (it) => {
  it.effect("is done once, though who has entered it is told nothing", () =>
    Effect.gen(function* () {
      const [app, worker] = [yield* program("app"), yield* program("worker")]
      yield* Jobs.enter("first").pipe(Effect.provide(app)) // It is connected now.

      // The answers of the members no longer arrive.
      yield* EtcdFaults.block(["node0", "node1", "node2"], "app")
      const entering = yield* Effect.forkScoped(Jobs.enter("unheard").pipe(Effect.provide(app)))
      yield* untilJobIs("unheard", "to do")
      const done: Array<string> = []
      const work = (job: string) =>
        Effect.as(
          Effect.sync(() => done.push(job)),
          "done"
        )
      yield* Effect.forkScoped(Jobs.worker("worker", work).pipe(Effect.provide(worker)))
      yield* untilJobIs("unheard", "done")
      assert.isUndefined(entering.pollUnsafe())

      // The connection breaks, and with it the answer is lost.
      yield* EtcdFaults.isolate("app", { mode: "cut" })
      yield* EtcdFaults.heal
      yield* Fiber.join(entering)
      yield* Jobs.enter("last")
      yield* untilJobIs("last", "done")
      assert.deepStrictEqual(done, ["jobs/first", "jobs/unheard", "jobs/last"])
    })
  )

  it.effect("is left by a leader that is cut off before the next one takes it", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* program("a"), yield* program("b")]
      const seen: Array<string> = []
      const see = (what: string) => Effect.sync(() => void seen.push(what))
      const begun = yield* Deferred.make<void>()
      const endless = see("a begins").pipe(
        Effect.andThen(Deferred.succeed(begun, undefined)),
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => see("a is interrupted"))
      )
      yield* Effect.forkScoped(Jobs.worker("a", () => endless).pipe(Effect.provide(a)))
      yield* Jobs.enter("long")
      yield* Deferred.await(begun)

      yield* EtcdFaults.isolate("a")
      yield* Effect.forkScoped(Jobs.worker("b", () => Effect.as(see("b begins"), "done by b")).pipe(Effect.provide(b)))
      yield* untilJobIs("long", "done by b")
      assert.deepStrictEqual(seen, ["a begins", "a is interrupted", "b begins"])
    })
  )

  it.effect("has no result of a leader that does not know that it is none any more", () =>
    Effect.gen(function* () {
      const clock = yield* EtcdClock.make
      const [a, b] = [yield* clock.by(program("a")), yield* program("b")]
      const begun = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const late = Deferred.succeed(begun, undefined).pipe(Effect.andThen(Deferred.await(goOn)), Effect.as("done by a"))
      yield* Effect.forkScoped(Jobs.worker("a", () => late).pipe(Effect.provide(a)))
      yield* Jobs.enter("late")
      yield* Deferred.await(begun)

      // For `a`, ten seconds are one, so it believes that it still holds its session.
      yield* clock.pace(0.1)
      yield* EtcdFaults.isolate("a")
      const workerB = yield* Effect.forkScoped(
        Jobs.worker("b", () => Effect.succeed("done by b")).pipe(Effect.provide(b))
      )
      yield* untilJobIs("late", "done by b")
      yield* clock.pace(1)
      yield* EtcdFaults.heal
      yield* Deferred.succeed(goOn, undefined)

      // When it leads again, what it did before has ended.
      yield* Fiber.interrupt(workerB)
      yield* Jobs.enter("next")
      yield* untilJobIs("next", "done by a")
      assert.deepStrictEqual(yield* EtcdKv.getString("jobs/late"), Option.some("done by b"))
    })
  )
})
