import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../../src/coordination/EtcdStm.ts"
import * as EtcdBatch from "../../src/EtcdBatch.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdNamespace from "../../src/EtcdNamespace.ts"
import * as EtcdStore from "../../src/EtcdStore.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import { KV } from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { faulty } from "../support/coordination/faults.ts"
import { reasonOf, start } from "../support/effects.ts"

const etcd = EtcdLayer.ephemeral({}, { log: false })

/** Until the line of a lock has so many. */
const queued = (lock: EtcdLock.Lock, count: number) =>
  EtcdLock.line(lock).pipe(Effect.repeat({ until: (line) => line.length === count }))

const keysBelow = (name: string) =>
  Effect.map(EtcdKv.range(KeyRange.prefix(`${name}/`), { keysOnly: true }), ({ kvs }) => kvs.map((kv) => kv.keyString))

/** Another program: the effect has a session of its own. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Layer.fresh(EtcdSession.layer))

/** What becomes of a write: `written`, or the tag of what it fails with. */
const outcomeOf = <A, E, R>(write: Effect.Effect<A, E, R>): Effect.Effect<string, never, R> =>
  Effect.match(write, {
    onFailure: (error) => {
      const { reason, _tag } = error as { readonly _tag: string; readonly reason?: { readonly _tag: string } }
      return _tag === "EtcdError" ? reason!._tag : _tag
    },
    onSuccess: () => "written"
  })

describe("EtcdLock", () => {
  layer(Layer.provideMerge(EtcdSession.layer, etcd), { excludeTestServices: true })((it) => {
    it.effect("runs one at a time, in the order in which they came, and leaves no key", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/at-a-time")
        const order: Array<string> = []
        let inside = 0
        const work = (name: string) =>
          Effect.gen(function* () {
            inside++
            assert.strictEqual(inside, 1)
            order.push(name)
            yield* Effect.yieldNow
            yield* EtcdKv.put("one/last", name)
            inside--
          })
        const gate = yield* Deferred.make<void>()
        const scope = yield* Effect.scope
        const first = yield* start(EtcdLock.withLock(Effect.andThen(Deferred.await(gate), work("0")), lock))
        yield* queued(lock, 1)
        for (let n = 1; n <= 8; n++) {
          const locked = EtcdLock.withLock(work(String(n)), lock)
          const own = n % 2 === 0 ? Layer.empty : Layer.fresh(EtcdSession.layer)
          yield* Effect.forkIn(Effect.provide(locked, own), scope, { startImmediately: true })
          yield* queued(lock, n + 1)
        }
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(first)
        yield* queued(lock, 0)
        assert.deepStrictEqual(order, ["0", "1", "2", "3", "4", "5", "6", "7", "8"])
        assert.deepStrictEqual(yield* keysBelow("one/at-a-time"), [])
      })
    )

    it.effect("says who holds it, and the token rises along the line", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/tokens", { owner: "me" })
        let before = 0n
        for (let n = 0; n < 3; n++) {
          yield* Effect.gen(function* () {
            const held = yield* EtcdLock.acquire(lock)
            assert.isTrue(held.isHeldUnsafe())
            assert.isTrue(held.token > before)
            assert.isTrue(held.acquiredRevision >= held.token)
            before = held.token
            const [waiter] = yield* EtcdLock.line(lock)
            const { id } = yield* EtcdSession.current
            assert.deepStrictEqual(waiter, {
              name: "one/tokens",
              key: held.key,
              mode: "exclusive",
              token: held.token,
              lease: id,
              owner: "me"
            })
            assert.isTrue(yield* EtcdLock.check(held.sequencer))
            const codec = Schema.fromJsonString(Schema.toCodecJson(EtcdLock.Sequencer))
            const text = yield* Schema.encodeEffect(codec)(held.sequencer)
            assert.deepStrictEqual(yield* Schema.decodeEffect(codec)(text), held.sequencer)
          }).pipe(Effect.scoped)
        }
      })
    )

    it.effect("is claimed by its key in etcd, and so the claim is true inside of a namespace and outside of it", () =>
      Effect.gen(function* () {
        const etcd = yield* Effect.context<EtcdClient.EtcdClient | EtcdKv.EtcdKv>()
        const work = Effect.gen(function* () {
          const { key, sequencer } = yield* EtcdLock.Held
          assert.strictEqual(sequencer.key, `claims/${key}`)
          const inside = EtcdLock.check(sequencer)
          const outside = Effect.provideContext(inside, etcd)
          assert.deepStrictEqual(yield* Effect.all([inside, outside]), [true, true])
          return outside
        })
        const within = Layer.provideMerge(Layer.fresh(EtcdSession.layer), EtcdLayer.namespace("claims/"))
        const locked = EtcdLock.withLock(work, EtcdLock.make("one/claimed")).pipe(Effect.provide(within))
        assert.isFalse(yield* yield* locked)
      })
    )

    it.effect("is lost when its key is deleted: the work is interrupted, and has ended when that is told", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/deleted")
        const inside = yield* Deferred.make<EtcdLock.Held>()
        let hasEnded = false
        const work = Effect.gen(function* () {
          yield* Deferred.succeed(inside, yield* EtcdLock.Held)
          yield* Effect.never
        }).pipe(
          Effect.onInterrupt(() =>
            Effect.andThen(
              Effect.sleep(20),
              Effect.sync(() => (hasEnded = true))
            )
          )
        )
        const fiber = yield* start(EtcdLock.withLock(work, lock))
        const held = yield* Deferred.await(inside)
        yield* EtcdKv.delete(held.key)
        const error = yield* Effect.flip(Fiber.join(fiber))
        assert.isTrue(hasEnded)
        assert.instanceOf(error, EtcdLock.LockLost)
        if (error._tag !== "LockLost") return
        assert.strictEqual(error.reason, "deleted")
        assert.strictEqual(error.token, held.token)
        assert.isTrue(Duration.isZero(error.overrun))
        assert.isFalse(held.isHeldUnsafe())
        assert.isFalse(yield* EtcdLock.check(held.sequencer))
        const refused: EtcdLock.LockLost | EtcdError.EtcdError = yield* Effect.flip(
          held.commit(EtcdTxn.put("one/late", ""))
        )
        assert.strictEqual(refused._tag, "LockLost")
        assert.isTrue(Option.isNone(yield* EtcdKv.get("one/late")))
      })
    )

    it.effect("lets nothing be written that comes after its loss", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/fenced")
        const result = yield* Effect.result(
          EtcdLock.withLock(
            Effect.gen(function* () {
              const held = yield* EtcdLock.Held
              yield* EtcdKv.put("one/written", "in time")
              // Nothing interrupts it before it has tried.
              yield* Effect.uninterruptible(
                Effect.gen(function* () {
                  yield* EtcdTxn.EtcdTxn.use((txn) =>
                    txn.commit(
                      EtcdTxn.make({
                        compare: [],
                        success: [EtcdTxn.delete(held.key), EtcdTxn.put("one/written", "last")]
                      })
                    )
                  )
                  const reason = yield* reasonOf(EtcdKv.put("one/written", "late"))
                  assert.strictEqual(reason._tag, "Fenced")
                  assert.strictEqual(reason.outcome, "not-applied")
                })
              )
            }),
            lock
          )
        )
        assert.isTrue(Result.isFailure(result) && result.failure instanceof EtcdLock.LockLost)
        assert.deepStrictEqual(yield* EtcdKv.getString("one/written"), Option.some("last"))
      })
    )

    it.effect("fences what is written under it by whomever, and however long that was there before", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const kv = yield* EtcdKv.EtcdKv
        const txn = yield* EtcdTxn.EtcdTxn
        const inNamespace = EtcdKv.fromClient(EtcdNamespace.fromClient(client, "old/"))
        const batched = EtcdKv.fromClient(yield* EtcdBatch.fromClient(client))
        const endpoints = yield* client.endpoints
        const other = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints, batching: true }))
        const store = EtcdStore.make("old/store/", Schema.String)
        const given = yield* Effect.context<EtcdKv.EtcdKv | EtcdTxn.EtcdTxn | EtcdClient.EtcdClient>()
        const put = { key: KeyRange.toBytes("old/client"), value: KeyRange.toBytes("late") }
        const writes: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
          ["old/kv", kv.put("old/kv", "late")],
          ["old/1", kv.delete("old/1")],
          ["old/2", kv.deletePrefix("old/2")],
          ["old/txn", txn.commit(EtcdTxn.put("old/txn", "late"))],
          ["old/client", client.unary(KV.method.put, put)],
          ["old/ns", inNamespace.put("ns", "late")],
          ["old/batched", batched.put("old/batched", "late")],
          ["old/other", other.put("old/other", "late")],
          ["old/store/a", Effect.provide(store.put("a", "late"), given)],
          ["old/stm", Effect.provide(EtcdStm.tx(EtcdStm.put("old/stm", "late")), given)],
          ["old/fork", Effect.flatMap(Effect.forkChild(kv.put("old/fork", "late")), Fiber.join)],
          ["old/detached", Effect.flatMap(Effect.forkDetach(kv.put("old/detached", "late")), Fiber.join)]
        ]
        for (const [key] of writes) yield* kv.put(key, "before")

        const outcomes = yield* Deferred.make<ReadonlyArray<string>>()
        const inside = Effect.gen(function* () {
          const held = yield* EtcdLock.Held
          const asked = yield* EtcdKv.EtcdKv
          yield* kv.put("old/in-time", "1")
          yield* kv.delete(held.key)
          const results: Array<string> = []
          for (const [, write] of writes) results.push(yield* outcomeOf(write))
          // As a callback would, which knows nothing of the work.
          results.push(yield* Effect.promise(() => Effect.runPromise(outcomeOf(asked.put("old/kv", "late")))))
          yield* Deferred.succeed(outcomes, results)
        })
        const lost = yield* Effect.flip(EtcdLock.withLock(Effect.uninterruptible(inside), EtcdLock.make("one/old")))
        assert.instanceOf(lost, EtcdLock.LockLost)
        assert.deepStrictEqual(
          yield* Deferred.await(outcomes),
          Array.from({ length: writes.length + 1 }, () => "Fenced")
        )
        for (const [key] of writes) assert.deepStrictEqual(yield* kv.getString(key), Option.some("before"), key)
        assert.deepStrictEqual(yield* kv.getString("old/in-time"), Option.some("1"))
        // Nothing of it is left when the work has ended.
        for (const [key, write] of writes) assert.strictEqual(yield* outcomeOf(write), "written", key)
      }).pipe(Effect.scoped)
    )

    it.effect("does not fence what is to land nevertheless, nor what the session writes for itself", () =>
      Effect.gen(function* () {
        const inner = EtcdLock.make("one/inner")
        const kv = yield* EtcdKv.EtcdKv
        const inside = Effect.gen(function* () {
          const outer = yield* EtcdLock.Held
          const told: Array<string> = []
          const underBoth = Effect.gen(function* () {
            const held = yield* EtcdLock.Held
            yield* held.commit(EtcdTxn.put("one/both", "in time"))
            yield* kv.delete(outer.key)
            told.push(yield* outcomeOf(kv.put("one/both", "late")))
            told.push(yield* outcomeOf(held.commit(EtcdTxn.put("one/both", "late"))))
            told.push(yield* outcomeOf(EtcdLock.withoutFence(kv.put("one/note", "outer is lost"))))
            told.push(yield* outcomeOf(EtcdLock.withoutFence(EtcdKv.put("one/asked", "outer is lost"))))
            told.push(yield* outcomeOf(EtcdLock.withoutFence(held.commit(EtcdTxn.put("one/note/2", "inner is held")))))
          })
          yield* EtcdLock.withLock(underBoth, inner)
          told.push(String((yield* EtcdLock.line(inner)).length))
          // Where the outer one is lost, another one is nevertheless taken, and fences.
          const again = Effect.gen(function* () {
            yield* kv.put("one/again", "in time")
            yield* EtcdKv.put("one/again", "asked for")
            yield* EtcdLock.withoutFence(kv.delete((yield* EtcdLock.Held).key))
            told.push(yield* outcomeOf(kv.put("one/again", "late")))
            told.push(yield* outcomeOf(EtcdKv.put("one/again", "late")))
          })
          told.push(yield* outcomeOf(EtcdLock.withoutFence(EtcdLock.withLock(Effect.uninterruptible(again), inner))))
          return told
        })
        const told = yield* Deferred.make<ReadonlyArray<string>>()
        const work = Effect.uninterruptible(Effect.flatMap(inside, (all) => Deferred.succeed(told, all)))
        yield* Effect.flip(EtcdLock.withLock(work, EtcdLock.make("one/outer")))
        assert.deepStrictEqual(yield* Deferred.await(told), [
          "Fenced",
          "Fenced",
          "written",
          "written",
          "written",
          "0",
          "Fenced",
          "Fenced",
          "LockLost"
        ])
        assert.deepStrictEqual(yield* kv.getString("one/both"), Option.some("in time"))
        assert.deepStrictEqual(yield* kv.getString("one/again"), Option.some("asked for"))
        assert.deepStrictEqual(yield* kv.getString("one/note"), Option.some("outer is lost"))
        assert.deepStrictEqual(yield* kv.getString("one/asked"), Option.some("outer is lost"))
        assert.deepStrictEqual(yield* kv.getString("one/note/2"), Option.some("inner is held"))
      })
    )

    it.effect("fences what a worker that was started without a fence is given by a later holder", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        const jobs = yield* Queue.unbounded<Effect.Effect<unknown>>()
        const working = Effect.forever(Effect.flatMap(Queue.take(jobs), (job) => job))
        const scope = yield* Effect.scope
        const starting = EtcdLock.withoutFence(Effect.forkIn(working, scope))
        yield* EtcdLock.withLock(starting, EtcdLock.make("one/starting"))
        const told = yield* Deferred.make<string>()
        const later = Effect.gen(function* () {
          const asked = yield* EtcdKv.EtcdKv
          yield* kv.delete((yield* EtcdLock.Held).key)
          const late = Effect.flatMap(outcomeOf(asked.put("one/worker", "late")), (outcome) =>
            Deferred.succeed(told, outcome)
          )
          yield* Queue.offer(jobs, late)
          yield* Deferred.await(told)
        })
        yield* Effect.flip(EtcdLock.withLock(Effect.uninterruptible(later), EtcdLock.make("one/later")))
        assert.strictEqual(yield* Deferred.await(told), "Fenced")
      }).pipe(Effect.scoped)
    )

    it.effect("keeps writes with a fence and without one apart, which one client would batch", () =>
      Effect.gen(function* () {
        const outside = yield* EtcdKv.EtcdKv
        const inside = Effect.gen(function* () {
          const batched = EtcdKv.fromClient(yield* EtcdBatch.fromClient(yield* EtcdClient.EtcdClient))
          yield* outside.delete((yield* EtcdLock.Held).key)
          const free = (name: string) => outcomeOf(EtcdLock.withoutFence(batched.put(`one/free/${name}`, "")))
          const callback = (name: string) =>
            Effect.promise(() => Effect.runPromise(outcomeOf(batched.put(`one/callback/${name}`, ""))))
          const names = Array.from({ length: 16 }, (_, index) => String(index))
          const all = names.flatMap((name, index) =>
            index % 2 ? [free(name), callback(name)] : [callback(name), free(name)]
          )
          return yield* Effect.all(all, { concurrency: "unbounded" })
        })
        const told = yield* Deferred.make<ReadonlyArray<string>>()
        const work = Effect.uninterruptible(Effect.flatMap(inside, (all) => Deferred.succeed(told, all)))
        yield* Effect.flip(EtcdLock.withLock(work, EtcdLock.make("one/apart")))
        const outcomes = yield* Deferred.await(told)
        const expected = outcomes.map((_, index) => (index % 4 === 0 || index % 4 === 3 ? "Fenced" : "written"))
        assert.deepStrictEqual(outcomes, expected)
      })
    )

    it.effect("lets nothing be written when its key has lost its lease, with which nobody takes it for a place", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/stripped")
        const inside = Effect.gen(function* () {
          const held = yield* EtcdLock.Held
          yield* Effect.uninterruptible(
            Effect.gen(function* () {
              const stripped = EtcdTxn.make({ compare: [], success: EtcdTxn.put(held.key, "mine") })
              yield* EtcdTxn.commit(stripped)
              assert.strictEqual((yield* Effect.flip(EtcdKv.put("one/late", "late"))).reason._tag, "Fenced")
            })
          )
        })
        const error: unknown = yield* Effect.flip(EtcdLock.withLock(inside, lock))
        assert.instanceOf(error, EtcdLock.LockLost)
        assert.deepStrictEqual(yield* keysBelow("one/stripped"), [])
      })
    )

    it.effect("fails with the failure of the work, and gives back", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/failing")
        assert.strictEqual(yield* Effect.flip(EtcdLock.withLock(Effect.fail("broken"), lock)), "broken")
        const died = yield* Effect.exit(EtcdLock.withLock(Effect.die("defect"), lock))
        assert.isTrue(Exit.isFailure(died) && Exit.hasDies(died))
        assert.deepStrictEqual(yield* keysBelow("one/failing"), [])
        assert.strictEqual(yield* EtcdLock.withLock(Effect.succeed(1), lock), 1)
      })
    )

    it.effect("gives back when the work has ended, not before, also where it is interrupted", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/slow-end")
        const inside = yield* Deferred.make<void>()
        const ending = yield* Deferred.make<void>()
        const mayEnd = yield* Deferred.make<void>()
        const work = Effect.andThen(Deferred.succeed(inside, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Effect.andThen(Deferred.succeed(ending, undefined), Deferred.await(mayEnd)))
        )
        const fiber = yield* start(EtcdLock.withLock(work, lock))
        yield* Deferred.await(inside)
        const stopping = yield* start(Fiber.interrupt(fiber))
        yield* Deferred.await(ending)
        assert.strictEqual((yield* EtcdLock.line(lock)).length, 1)
        yield* Deferred.succeed(mayEnd, undefined)
        yield* Fiber.join(stopping)
        assert.deepStrictEqual(yield* keysBelow("one/slow-end"), [])
      })
    )

    it.effect("is handed on within a program without a look at the line, unless an answer is lost", () =>
      Effect.gen(function* () {
        const root = faulty(yield* EtcdClient.EtcdClient)
        let looks = 0
        const session = yield* EtcdSession.fromClient({
          ...root.client,
          unary: (method, request, options) => {
            // Whoever waits looks at its own key by itself.
            const { rangeEnd } = request as { readonly rangeEnd?: Uint8Array }
            if (method.name === "Range" && rangeEnd !== undefined && rangeEnd.length > 0) looks++
            return root.client.unary(method, request, options)
          }
        })
        const lock = EtcdLock.make("lock/handed-on")
        const order: Array<number> = []
        const run = Effect.fnUntraced(
          function* (count: number, leaves?: number) {
            const held = yield* Scope.make()
            yield* Scope.provide(EtcdLock.acquire(lock), held)
            const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
            for (let index = 0; index < count; index++) {
              const work = Effect.map(EtcdLock.Held, ({ acquiredRevision, token }) => {
                assert.isTrue(acquiredRevision > token)
                order.push(index)
              })
              fibers.push(yield* start(EtcdLock.withLock(work, lock)))
              yield* queued(lock, index + 2)
            }
            if (leaves !== undefined) yield* Fiber.interrupt(fibers[leaves]!)
            yield* Scope.close(held, Exit.void)
            yield* Effect.forEach(fibers, (fiber) => Fiber.await(fiber))
            yield* queued(lock, 0)
          },
          Effect.provideService(EtcdSession.EtcdSession, session)
        )
        yield* run(5)
        assert.deepStrictEqual(order.splice(0), [0, 1, 2, 3, 4])
        assert.strictEqual(looks, 0)
        yield* run(5, 2)
        assert.deepStrictEqual(order.splice(0), [0, 1, 3, 4])
        // The joins of three, and then how the first of them gives it back.
        root.fates.Txn = ["ok", "ok", "ok", "lost", "never", "lost"]
        yield* run(2)
        assert.deepStrictEqual(order.splice(0), [0, 1])
      })
    )

    it.effect("that is not available is not waited for", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/available")
        const scope = yield* Scope.make()
        yield* Scope.provide(elsewhere(Effect.andThen(EtcdLock.acquire(lock), Effect.never)), scope).pipe(start)
        yield* queued(lock, 1)
        const run = Effect.succeed("ran").pipe(EtcdLock.withLockIfAvailable(lock))
        assert.deepStrictEqual(yield* run, Option.none())
        assert.strictEqual((yield* EtcdLock.line(lock)).length, 1)
        const [holder] = yield* EtcdLock.line(lock)
        yield* EtcdKv.delete(holder!.key)
        assert.deepStrictEqual(yield* run, Option.some("ran"))
        yield* Scope.close(scope, Exit.void)
      })
    )

    it.effect("is shared by those who share it, in the order in which they come", () =>
      Effect.gen(function* () {
        const order: Array<string> = []
        const shared = EtcdLock.make("rw/a", { mode: "shared" })
        const exclusive = EtcdLock.make("rw/a")
        const gates: Array<Deferred.Deferred<void>> = []
        const locked = Effect.fnUntraced(function* (name: string, lock: EtcdLock.Lock) {
          const gate = yield* Deferred.make<void>()
          gates.push(gate)
          const work = Effect.andThen(
            Effect.sync(() => order.push(name)),
            Deferred.await(gate)
          )
          const fiber = yield* start(elsewhere(EtcdLock.withLock(work, lock)))
          yield* queued(exclusive, gates.length)
          return fiber
        })
        const isInside = (names: ReadonlyArray<string>) =>
          Effect.sync(() => order.join()).pipe(Effect.repeat({ until: (now) => now === names.join() }), Effect.asVoid)
        const first = yield* locked("r1", shared)
        // Which of two that have it together begins first is not promised.
        yield* isInside(["r1"])
        const fibers = [
          first,
          yield* locked("r2", shared),
          yield* locked("w1", exclusive),
          yield* locked("r3", shared),
          yield* locked("w2", EtcdLock.make("rw/a", { mode: "write" })),
          yield* locked("r4", shared)
        ]
        yield* isInside(["r1", "r2"])
        yield* Deferred.succeed(gates[1]!, undefined)
        yield* Fiber.join(fibers[1]!)
        yield* Deferred.succeed(gates[0]!, undefined)
        yield* isInside(["r1", "r2", "w1"])
        yield* Deferred.succeed(gates[2]!, undefined)
        yield* isInside(["r1", "r2", "w1", "r3"])
        yield* Deferred.succeed(gates[3]!, undefined)
        yield* isInside(["r1", "r2", "w1", "r3", "w2"])
        yield* Deferred.succeed(gates[4]!, undefined)
        yield* isInside(["r1", "r2", "w1", "r3", "w2", "r4"])
        yield* Deferred.succeed(gates[5]!, undefined)
        yield* Effect.forEach(fibers, Fiber.join)
      })
    )

    it.effect("of several names are joined at once, so that nobody waits in a circle", () =>
      Effect.gen(function* () {
        const [a, b, c] = ["many/a", "many/b", "many/c"].map((name) => EtcdLock.make(name))
        const pairs = [
          [a, b],
          [b, a],
          [b, c],
          [c, a],
          [a, b, c],
          [c, b, a]
        ]
        let count = 0
        const work = Effect.gen(function* () {
          const held = yield* EtcdLock.Held
          yield* EtcdKv.put("many/count", String(++count))
          assert.isTrue(yield* EtcdLock.check(held.sequencer))
        })
        yield* Effect.forEach(
          Array.from({ length: 30 }, (_, n) => pairs[n % pairs.length]!),
          (pair) => EtcdLock.withLock(work, EtcdLock.all(pair as ReadonlyArray<EtcdLock.Lock>)),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(count, 30)
        assert.deepStrictEqual(yield* keysBelow("many/a"), [])
      })
    )

    it.effect("that is held is not waited for by the work under it", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/again")
        const again = EtcdLock.withLock(Effect.void, lock)
        const reasonIn = <A, E, R>(self: Effect.Effect<A, E, R>) =>
          Effect.map(Effect.flip(self), (error) =>
            error instanceof EtcdLock.LockLost || !("reason" in (error as object))
              ? "other"
              : (error as unknown as { readonly reason: { readonly _tag: string } }).reason._tag
          )
        assert.strictEqual(yield* EtcdLock.withLock(reasonIn(again), lock), "InvalidArgument")
        assert.strictEqual(
          yield* EtcdLock.withLock(Effect.flatMap(Effect.forkChild(reasonIn(again)), Fiber.join), lock),
          "InvalidArgument"
        )
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdLock.acquire(lock)
            assert.strictEqual(yield* reasonIn(EtcdLock.acquire(lock)), "InvalidArgument")
          })
        )
        assert.strictEqual(
          yield* EtcdLock.withLock(EtcdLock.withLock(Effect.succeed(1), EtcdLock.make("one/other")), lock),
          1
        )
      })
    )

    it.effect("that makes no sense is refused, and so is what is no lock", () =>
      Effect.gen(function* () {
        const wrong: ReadonlyArray<EtcdLock.Lock> = [
          ...["", "/a", "a/", "a\0b", "a/read", "write", "\ud800"].map((name) => EtcdLock.make(name)),
          EtcdLock.make("a", { mode: "both" as never }),
          EtcdLock.make("a", { fence: 1 as never }),
          EtcdLock.make("a", { overrun: "exit" as never }),
          EtcdLock.make("a", { patience: 1 } as never),
          EtcdLock.all([]),
          EtcdLock.all([EtcdLock.make("a"), EtcdLock.make("b"), EtcdLock.make("a", { mode: "shared" })]),
          EtcdLock.all([EtcdLock.make("a"), EtcdLock.make("")]),
          {} as never,
          undefined as never
        ]
        for (const lock of wrong) {
          const refused = (self: Effect.Effect<unknown, unknown, EtcdSession.EtcdSession | EtcdKv.EtcdKv>) =>
            Effect.map(Effect.flip(self), (error) => {
              assert.strictEqual(
                (error as { readonly reason?: { readonly _tag: string } }).reason?._tag,
                "InvalidArgument"
              )
            })
          yield* refused(EtcdLock.withLock(Effect.void, lock))
          yield* refused(EtcdLock.withLockIfAvailable(Effect.void, lock))
          yield* refused(Effect.scoped(EtcdLock.acquire(lock)))
          yield* refused(EtcdLock.line(lock))
        }
        assert.strictEqual((yield* reasonOf(EtcdLock.check({} as never)))._tag, "InvalidArgument")
      })
    )

    it.effect("of a program that ends is given back, and its lease revoked", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/ending")
        const id = yield* elsewhere(
          Effect.gen(function* () {
            const { id } = yield* EtcdSession.current
            yield* EtcdLock.withLock(Effect.void, lock)
            return id
          })
        )
        const leases = yield* EtcdLease.list()
        assert.notInclude(leases, id)
        assert.deepStrictEqual(yield* keysBelow("one/ending"), [])
      })
    )

    it.effect("is not held by who waits for it with a lease that is gone, whoever held it with the same one", () =>
      Effect.gen(function* () {
        for (let round = 0; round < 10; round++) {
          const lock = EtcdLock.make(`one/same-lease/${round}`)
          const order: Array<string> = []
          const { id } = yield* EtcdSession.current
          const holder = yield* start(EtcdLock.withLock(Effect.never, lock))
          yield* queued(lock, 1)
          const note = (who: string) =>
            EtcdLock.withLock(
              Effect.sync(() => order.push(who)),
              lock
            )
          const next = yield* start(note("of the same session"))
          yield* queued(lock, 2)
          const other = yield* start(elsewhere(note("of another one")))
          yield* queued(lock, 3)
          yield* EtcdLease.revoke(id)
          yield* Fiber.awaitAll([holder, next, other])
          assert.deepStrictEqual(order, ["of another one", "of the same session"])
        }
      })
    )

    it.effect("loses its place with its session, and stands in line anew", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("one/anew")
        const scope = yield* Scope.make()
        yield* Scope.provide(EtcdLock.acquire(lock), scope)
        const waiting = yield* start(
          elsewhere(
            Effect.gen(function* () {
              const before = yield* EtcdSession.current
              const token = yield* EtcdLock.withLock(
                Effect.map(EtcdLock.Held, (held) => held.token),
                lock
              )
              const after = yield* EtcdSession.current
              return { before, token, after }
            })
          )
        )
        const [, waiter] = yield* queued(lock, 2)
        yield* EtcdLease.revoke(waiter!.lease)
        const [, again] = yield* EtcdLock.line(lock).pipe(
          Effect.repeat({ until: (line) => line.length === 2 && line[1]!.token > waiter!.token })
        )
        yield* Scope.close(scope, Exit.void)
        const { after, before, token } = yield* Fiber.join(waiting)
        assert.strictEqual(before.incarnation, 1)
        assert.strictEqual(after.incarnation, 2)
        assert.strictEqual(token, again!.token)
      })
    )
  })
})
