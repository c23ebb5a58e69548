import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdBarrier from "../../src/coordination/EtcdBarrier.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { faulty } from "../support/coordination/faults.ts"
import { silencing } from "../support/coordination/silencing.ts"
import { start } from "../support/effects.ts"
import { makeRandom } from "../support/random.ts"

const etcd = EtcdLayer.ephemeral({}, { log: false })

const keysBelow = (name: string) =>
  Effect.map(EtcdKv.range(KeyRange.prefix(`${name}/`), { sortBy: "createRevision" }), ({ kvs }) => kvs)

/** Until so many stand in the line. */
const queued = (name: string, count: number) =>
  Effect.repeat(
    Effect.map(keysBelow(name), (kvs) => kvs.filter((kv) => Option.isSome(kv.lease))),
    { until: (kvs) => kvs.length === count }
  )

/** Another program: the effect has a session of its own. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Layer.fresh(EtcdSession.layer))

/** Until a condition holds. */
const until = (holds: () => boolean) =>
  Effect.asVoid(Effect.repeat(Effect.andThen(Effect.sleep(1), Effect.sync(holds)), { until: (now) => now }))

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

describe("EtcdBarrier", () => {
  layer(Layer.provideMerge(EtcdSession.layer, etcd), { excludeTestServices: true })((it) => {
    it.effect("a latch holds up who comes while it is closed, and all go on when it is opened", () =>
      Effect.gen(function* () {
        const latch = EtcdBarrier.latch("latch/a")
        assert.isTrue(yield* latch.isOpen)
        assert.strictEqual(yield* latch.whenOpen(Effect.succeed(1)), 1)
        assert.isTrue(yield* latch.close)
        assert.isFalse(yield* latch.close)
        assert.isFalse(yield* latch.isOpen)
        let passed = 0
        const waiting = yield* start(
          Effect.forEach(numbers(20), () => latch.whenOpen(Effect.sync(() => passed++)), {
            concurrency: "unbounded",
            discard: true
          })
        )
        yield* Effect.sleep(20)
        // What others write there does not open it.
        yield* EtcdKv.put("latch/a", "still closed")
        assert.strictEqual(passed, 0)
        assert.isTrue(yield* latch.open)
        yield* Fiber.join(waiting)
        assert.strictEqual(passed, 20)
        assert.isFalse(yield* latch.open)
        yield* latch.await
      })
    )

    it.effect("a latch that is closed anew lets those pass who waited", () =>
      Effect.gen(function* () {
        const latch = EtcdBarrier.latch("latch/b")
        for (let round = 0; round < 20; round++) {
          yield* latch.close
          const waiting = yield* start(latch.await)
          if (round % 2 === 0) yield* Effect.sleep(round)
          yield* latch.open
          yield* Fiber.join(waiting)
        }
        assert.isTrue(yield* latch.isOpen)
      })
    )

    it.effect("a latch that was open for a moment lets pass who could not hear of it, and it is forgotten", () =>
      Effect.gen(function* () {
        const way = yield* silencing((yield* EtcdProcess.EtcdProcess).endpoints[0])
        const client = yield* EtcdClient.make({ endpoints: [way.endpoint] })
        const begun = yield* Deferred.make<void>()
        const watch = yield* EtcdWatch.fromClient(client)
        const told: EtcdWatch.Service = {
          ...watch,
          changes: (range, options) =>
            Stream.tap(watch.changes(range, options), () => Deferred.succeed(begun, undefined))
        }
        const latch = EtcdBarrier.latch("latch/unheard")
        yield* latch.close
        const waiting = yield* latch.await.pipe(
          Effect.provideService(EtcdKv.EtcdKv, EtcdKv.fromClient(client)),
          Effect.provideService(EtcdWatch.EtcdWatch, told),
          start
        )
        yield* Deferred.await(begun)
        yield* way.silence
        yield* latch.open
        yield* latch.close
        const { header } = yield* EtcdKv.put("latch/other", "")
        yield* EtcdKv.compact(header.revision)
        yield* way.cut
        yield* Fiber.join(waiting)
        assert.isFalse(yield* latch.isOpen)
        yield* latch.open
      }).pipe(Effect.scoped)
    )

    it.effect("rounds begin when all have come, and end when all are done, one after the other", () =>
      Effect.gen(function* () {
        const [participants, rounds] = [5, 20]
        const random = makeRandom(14603)
        const begun = numbers(rounds).map(() => 0)
        const ended = numbers(rounds).map(() => 0)
        const work = (round: number) =>
          Effect.gen(function* () {
            begun[round]!++
            if (round > 0) assert.strictEqual(ended[round - 1], participants)
            if (random(3) === 0) yield* Effect.sleep(random(5))
            else yield* Effect.yieldNow
            ended[round]!++
          })
        const participant = Effect.forEach(
          numbers(rounds),
          (round) =>
            Effect.tap(EtcdBarrier.together(work(round), "rounds", participants), () =>
              Effect.sync(() => {
                assert.strictEqual(begun[round], participants)
                assert.strictEqual(ended[round], participants)
              })
            ),
          { discard: true }
        )
        // Two in this program, three in others.
        yield* Effect.all(
          [participant, participant, elsewhere(participant), elsewhere(participant), elsewhere(participant)],
          { concurrency: "unbounded", discard: true }
        )
        assert.deepStrictEqual(yield* keysBelow("rounds"), [])
      })
    )

    it.effect("who is too much is of the next round, and who is alone waits for nobody", () =>
      Effect.gen(function* () {
        let running = 0
        let most = 0
        const work = Effect.acquireUseRelease(
          Effect.sync(() => {
            running++
            most = Math.max(most, running)
          }),
          () => Effect.sleep(5),
          () => Effect.sync(() => running--)
        )
        yield* Effect.forEach(numbers(12), () => EtcdBarrier.together(work, "more", 3), {
          concurrency: "unbounded",
          discard: true
        })
        assert.strictEqual(most, 3)
        assert.strictEqual(yield* EtcdBarrier.together(Effect.succeed("alone"), "alone", 1), "alone")
        assert.deepStrictEqual(yield* keysBelow("more"), [])
        assert.deepStrictEqual(yield* keysBelow("alone"), [])
      })
    )

    it.effect("somebody who dies holds nobody up, and the others are told who it was", () =>
      Effect.gen(function* () {
        let interrupted = 0
        const begun: Array<string> = []
        const working = (name: string) =>
          Effect.onInterrupt(
            Effect.andThen(
              Effect.sync(() => begun.push(name)),
              Effect.never
            ),
            () => Effect.sync(() => interrupted++)
          )
        const a = yield* start(elsewhere(EtcdBarrier.together(working("a"), "dying", 3)))
        yield* queued("dying", 1)
        const b = yield* start(
          elsewhere(
            EtcdBarrier.together(
              Effect.sync(() => begun.push("b")),
              "dying",
              3
            )
          )
        )
        yield* queued("dying", 2)
        const c = yield* start(elsewhere(EtcdBarrier.together(working("c"), "dying", 3)))
        yield* until(() => begun.length === 3)
        const [dead] = yield* queued("dying", 3)
        yield* EtcdLease.revoke(Option.getOrThrow(dead!.lease))
        assert.instanceOf(yield* Effect.flip(Fiber.join(a)), EtcdLock.LockLost)
        for (const fiber of [b, c]) {
          const error = yield* Effect.flip(Fiber.join(fiber as Fiber.Fiber<unknown, unknown>))
          assert.instanceOf(error, EtcdBarrier.ParticipantsMissing)
          const { missing, name } = error as EtcdBarrier.ParticipantsMissing
          assert.strictEqual(name, "dying")
          assert.deepStrictEqual(
            missing.map(({ key }) => key),
            [dead!.keyString]
          )
          assert.include(missing[0]!.owner, '"pid"')
        }
        assert.strictEqual(interrupted, 2)
        assert.deepStrictEqual(yield* keysBelow("dying"), [])
      })
    )

    it.effect("somebody who dies, or gives up, before a round begins is replaced", () =>
      Effect.gen(function* () {
        const together = EtcdBarrier.together(Effect.succeed("done"), "early", 3)
        const a = yield* start(elsewhere(together))
        const [first] = yield* queued("early", 1)
        const b = yield* start(together)
        yield* queued("early", 2)
        yield* Fiber.interrupt(b)
        yield* queued("early", 1)
        yield* EtcdLease.revoke(Option.getOrThrow(first!.lease))
        // It has come anew, with its next incarnation.
        yield* Effect.repeat(keysBelow("early"), {
          until: (kvs) => kvs.length === 1 && kvs[0]!.createRevision > first!.createRevision
        })
        const others = yield* Effect.forEach([1, 2], () => start(together))
        assert.deepStrictEqual(yield* Effect.forEach([a, ...others], Fiber.join), ["done", "done", "done"])
        assert.deepStrictEqual(yield* keysBelow("early"), [])
      })
    )

    it.effect("what fails, or is interrupted, leaves at once, and the barrier can be used again", () =>
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const failing = yield* start(
          EtcdBarrier.together(Effect.andThen(Deferred.await(gate), Effect.fail("broken")), "failing", 2)
        )
        const other = yield* start(elsewhere(EtcdBarrier.together(Deferred.succeed(gate, undefined), "failing", 2)))
        assert.strictEqual(yield* Effect.flip(Fiber.join(failing)), "broken")
        assert.strictEqual((yield* Effect.flip(Fiber.join(other)))._tag, "ParticipantsMissing")
        const began = yield* Deferred.make<void>()
        const interrupted = yield* start(
          EtcdBarrier.together(Effect.andThen(Deferred.succeed(began, undefined), Effect.never), "failing", 2)
        )
        const left = yield* start(elsewhere(EtcdBarrier.together(Effect.never, "failing", 2)))
        yield* Deferred.await(began)
        yield* Fiber.interrupt(interrupted)
        assert.strictEqual((yield* Effect.flip(Fiber.join(left)))._tag, "ParticipantsMissing")
        const again = EtcdBarrier.together(Effect.succeed(1), "failing", 2)
        assert.deepStrictEqual(yield* Effect.all([again, again], { concurrency: 2 }), [1, 1])
        assert.deepStrictEqual(yield* keysBelow("failing"), [])
      })
    )

    it.effect("leaves no key, whenever those are interrupted who come together", () =>
      Effect.gen(function* () {
        const random = makeRandom(16221)
        const one = Effect.gen(function* () {
          const fiber = yield* start(EtcdBarrier.together(Effect.sleep(random(6)), "swept", 3))
          yield* Effect.sleep(random(50))
          yield* Fiber.interrupt(fiber)
        })
        const program = Effect.forEach(numbers(20), () => one, { concurrency: 5, discard: true })
        yield* Effect.forEach([1, 2, 3], () => elsewhere(program), { concurrency: "unbounded", discard: true })
        const again = EtcdBarrier.together(Effect.succeed(1), "swept", 3)
        assert.deepStrictEqual(yield* Effect.all([again, again, again], { concurrency: 3 }), [1, 1, 1])
        assert.deepStrictEqual(yield* keysBelow("swept"), [])
      })
    )

    it.effect("leaves no round behind that somebody began who has not heard of it, however late that arrives", () =>
      Effect.gen(function* () {
        for (const fates of [["ok", "lost"], ["ok", "late"], ["lost"], ["late"]] as const) {
          const client = faulty(yield* EtcdClient.EtcdClient)
          const session = yield* EtcdSession.fromClient(client.client)
          yield* session.current
          client.fates.Txn = [...fates]
          const other = yield* start(EtcdBarrier.together(Effect.never, "unheard", 2))
          yield* queued("unheard", 1)
          const fiber = yield* EtcdBarrier.together(Effect.never, "unheard", 2).pipe(
            Effect.provideService(EtcdSession.EtcdSession, session),
            Effect.onExit(() => client.arrive),
            start
          )
          yield* until(() => (client.calls.Txn ?? 0) >= fates.length)
          yield* Fiber.interrupt(fiber)
          yield* Fiber.interrupt(other)
          yield* Effect.repeat(keysBelow("unheard"), { until: (kvs) => kvs.length === 0 })
        }
      }).pipe(Effect.scoped)
    )

    it.effect("a round is lost for all who are of it when somebody removes it", () =>
      Effect.gen(function* () {
        for (const remove of [EtcdKv.delete("removed/round"), EtcdKv.put("removed/round", "{}")]) {
          let begun = 0
          const work = Effect.andThen(
            Effect.sync(() => begun++),
            Effect.never
          )
          const both = [
            yield* start(EtcdBarrier.together(work, "removed", 2)),
            yield* start(elsewhere(EtcdBarrier.together(work, "removed", 2)))
          ]
          yield* until(() => begun === 2)
          yield* remove
          for (const fiber of both) assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), EtcdLock.LockLost)
        }
        const again = EtcdBarrier.together(Effect.succeed(1), "removed", 2)
        assert.deepStrictEqual(yield* Effect.all([again, again], { concurrency: 2 }), [1, 1])
        assert.deepStrictEqual(yield* keysBelow("removed"), [])
      })
    )

    it.effect("a round of another store, whose keys were copied, lets nobody begin alone", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("copied/round", '{"to":"9007199254740993","members":[]}')
        let begun = 0
        const work = Effect.sync(() => ++begun)
        const first = yield* start(EtcdBarrier.together(work, "copied", 2))
        yield* queued("copied", 1)
        yield* Effect.sleep(20)
        assert.strictEqual(begun, 0)
        yield* elsewhere(EtcdBarrier.together(work, "copied", 2))
        yield* Fiber.join(first)
        assert.strictEqual(begun, 2)
        assert.deepStrictEqual(yield* keysBelow("copied"), [])
      })
    )

    it.effect("who counts otherwise than those before is told so", () =>
      Effect.gen(function* () {
        const two = yield* start(EtcdBarrier.together(Effect.succeed("two"), "counts", 2))
        yield* queued("counts", 1)
        const error = yield* Effect.flip(elsewhere(EtcdBarrier.together(Effect.void, "counts", 3)))
        assert.instanceOf(error, EtcdBarrier.ParticipantsMismatch)
        assert.deepInclude(error, { name: "counts", participants: 3, found: 2 })
        // A lock of that name would be waited for, and waits itself.
        const locking = yield* start(elsewhere(EtcdLock.withLock(Effect.void, EtcdLock.make("counts"))))
        yield* queued("counts", 2)
        const mixed = yield* Effect.flip(elsewhere(EtcdBarrier.together(Effect.void, "counts", 2)))
        assert.deepInclude(mixed, { _tag: "ParticipantsMismatch", participants: 2, found: 0 })
        yield* Fiber.interrupt(locking)
        assert.strictEqual(yield* EtcdBarrier.together(Effect.succeed("second"), "counts", 2), "second")
        assert.strictEqual(yield* Fiber.join(two), "two")
        assert.deepStrictEqual(yield* keysBelow("counts"), [])
      })
    )

    it.effect("what makes no sense is refused, and so is what would wait for itself", () =>
      Effect.gen(function* () {
        const refused = (self: Effect.Effect<unknown, any, any>) =>
          Effect.map(Effect.flip(self as Effect.Effect<unknown, any, EtcdSession.EtcdSession>), (error) =>
            assert.strictEqual(error.reason?._tag, "InvalidArgument", String(error))
          )
        for (const count of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 5001, "2", null, undefined]) {
          yield* refused(EtcdBarrier.together(Effect.void, "fine", count as number))
        }
        for (const name of ["", "/a", "a/", "a\0b", "\ud800", 5, undefined]) {
          yield* refused(EtcdBarrier.together(Effect.void, name as string, 1))
          const latch = EtcdBarrier.latch(name as string)
          for (const use of [latch.open, latch.close, latch.await, latch.isOpen, latch.whenOpen(Effect.void)]) {
            yield* refused(use)
          }
        }
        const inside = refused(EtcdBarrier.together(Effect.void, "inside", 1))
        yield* EtcdBarrier.together(inside, "inside", 1)
      })
    )
  })
})
