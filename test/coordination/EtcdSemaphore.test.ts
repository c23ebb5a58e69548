import type { DescMethodBiDiStreaming, DescMethodUnary } from "@bufbuild/protobuf"
import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSemaphore from "../../src/coordination/EtcdSemaphore.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as Inside from "../../src/internal/coordination/session.ts"
import { KV, Watch } from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { start } from "../support/effects.ts"
import { makeRandom } from "../support/random.ts"

const etcd = EtcdLayer.ephemeral({}, { log: false })

/** Who stands in the line, in their order. */
const line = (name: string) =>
  Effect.map(EtcdKv.range(KeyRange.prefix(`${name}/`), { sortBy: "createRevision" }), ({ kvs }) =>
    kvs.filter((kv) => Option.isSome(kv.lease))
  )

/** Until so many stand in the line. */
const queued = (name: string, count: number) => Effect.repeat(line(name), { until: (kvs) => kvs.length === count })

/** Another program: the effect has a session of its own. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Layer.fresh(EtcdSession.layer))

/** Until a condition holds. */
const until = (holds: () => boolean) =>
  Effect.asVoid(Effect.repeat(Effect.andThen(Effect.sleep(1), Effect.sync(holds)), { until: (now) => now }))

const refusal = <A, E extends { readonly _tag: string }, R>(self: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(self), (error) => error)

/** Work that waits at a gate when it is inside. */
const gated = Effect.fnUntraced(function* (
  inside: Array<string>,
  name: string,
  semaphore: EtcdSemaphore.Semaphore,
  permits: number
) {
  const gate = yield* Deferred.make<void>()
  const work = Effect.andThen(
    Effect.sync(() => inside.push(name)),
    Deferred.await(gate)
  )
  const before = (yield* line(semaphore.name)).length
  const fiber = yield* start(elsewhere(EtcdSemaphore.withPermits(work, semaphore, permits)))
  yield* queued(semaphore.name, before + 1)
  return { fiber, leave: Effect.andThen(Deferred.succeed(gate, undefined), Fiber.join(fiber)) }
})

/** Counts the watches that are asked for, and that are there. */
const counting = (client: EtcdClient.Client) => {
  const watches: Array<string> = []
  const decoder = new TextDecoder()
  const counted: EtcdClient.Client = {
    ...client,
    bidirectional: (method, options) =>
      Effect.map(client.bidirectional(method, options), (duplex) => ({
        ...duplex,
        send: (message) => {
          const { requestUnion } = message as never as { readonly requestUnion: any }
          const isWatch = (method as DescMethodBiDiStreaming) === Watch.method.watch
          if (isWatch && requestUnion.case === "createRequest") watches.push(decoder.decode(requestUnion.value.key))
          return duplex.send(message)
        }
      }))
  }
  return { counted, watches }
}

/** A client that does not hear some answers to its transactions. */
const deaf = (client: EtcdClient.Client, random: (below: number) => number): EtcdClient.Client => ({
  ...client,
  unary: (method, request, options) =>
    Effect.flatMap(client.unary(method, request, options), (answer) =>
      (method as DescMethodUnary) === KV.method.txn && random(4) === 0
        ? Effect.fail(
            EtcdError.make(
              new EtcdError.GrpcStatus({ message: "lost", outcome: "unknown", code: 14, status: "UNAVAILABLE" })
            )
          )
        : Effect.succeed(answer)
    )
})

describe("EtcdSemaphore", () => {
  layer(Layer.provideMerge(EtcdSession.layer, etcd), { excludeTestServices: true })((it) => {
    it.effect("lets no more in than there are permits, and everybody in the end", () =>
      Effect.gen(function* () {
        const limit = 5
        const semaphore = EtcdSemaphore.make("many/at-once", { permits: limit })
        const random = makeRandom(20261)
        let inside = 0
        let most = 0
        let done = 0
        const work = (permits: number) =>
          Effect.gen(function* () {
            inside += permits
            most = Math.max(most, inside)
            assert.isAtMost(inside, limit)
            const held = yield* EtcdLock.Held
            assert.isTrue(held.isHeldUnsafe())
            yield* EtcdKv.put("many/last", held.key)
            inside -= permits
            done++
          })
        const program = Effect.forEach(
          Array.from({ length: 6 }, () => 0),
          () =>
            Effect.gen(function* () {
              for (let round = 0; round < 3; round++) {
                const permits = 1 + random(limit)
                yield* EtcdSemaphore.withPermits(work(permits), semaphore, permits)
              }
            }),
          { concurrency: "unbounded", discard: true }
        )
        yield* Effect.forEach([1, 2, 3, 4], () => elsewhere(program), { concurrency: "unbounded", discard: true })
        assert.strictEqual(done, 4 * 6 * 3)
        assert.isAbove(most, 1)
        assert.deepStrictEqual(yield* line("many/at-once"), [])
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), limit)
      })
    )

    it.effect("keeps the order: who asks for little does not come in before who asked for much", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("order", { permits: 5 })
        const inside: Array<string> = []
        const a = yield* gated(inside, "a", semaphore, 3)
        const b = yield* gated(inside, "b", semaphore, 1)
        yield* until(() => inside.length === 2)
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 1)
        const large = yield* gated(inside, "large", semaphore, 4)
        const small = yield* gated(inside, "small", semaphore, 1)
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 0)
        yield* b.leave
        assert.deepStrictEqual(
          yield* Effect.void.pipe(EtcdSemaphore.withPermitsIfAvailable(semaphore, 1)),
          Option.none()
        )
        assert.deepStrictEqual(inside, ["a", "b"])
        yield* a.leave
        yield* until(() => inside.length === 4)
        assert.sameMembers(inside.slice(2), ["large", "small"])
        yield* small.leave
        assert.deepStrictEqual(
          yield* Effect.succeed("ran").pipe(EtcdSemaphore.withPermitsIfAvailable(semaphore, 1)),
          Option.some("ran")
        )
        yield* large.leave
        assert.deepStrictEqual(yield* line("order"), [])
      })
    )

    it.effect("loses no permit and leaves no key, whenever those who use it are interrupted", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("interrupted", { permits: 3 })
        const random = makeRandom(7)
        let inside = 0
        const work = (permits: number) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              inside += permits
              assert.isAtMost(inside, 3)
            }),
            () => Effect.sleep(random(10)),
            () => Effect.sync(() => (inside -= permits))
          )
        const one = Effect.gen(function* () {
          const permits = 1 + random(3)
          const fiber = yield* start(EtcdSemaphore.withPermits(work(permits), semaphore, permits))
          if (random(4) > 0) yield* Effect.sleep(random(60))
          yield* Fiber.interrupt(fiber)
        })
        const program = Effect.forEach(
          Array.from({ length: 30 }, () => 0),
          () => one,
          { concurrency: 10, discard: true }
        )
        yield* Effect.forEach([1, 2, 3], () => elsewhere(program), { concurrency: "unbounded", discard: true })
        yield* queued("interrupted", 0)
        assert.strictEqual(inside, 0)
        assert.strictEqual(yield* Effect.succeed(1).pipe(EtcdSemaphore.withPermits(semaphore, 3)), 1)
      })
    )

    it.effect("loses no permit and leaves no key where answers are lost", () =>
      Effect.gen(function* () {
        const random = makeRandom(835)
        const session = yield* EtcdSession.fromClient(deaf(yield* EtcdClient.EtcdClient, random))
        const semaphore = EtcdSemaphore.make("deaf", { permits: 2 })
        let inside = 0
        const work = Effect.sync(() => {
          inside++
          assert.isAtMost(inside, 2)
        }).pipe(Effect.andThen(Effect.yieldNow), Effect.ensuring(Effect.sync(() => inside--)))
        const all = Effect.forEach(
          Array.from({ length: 20 }, () => 0),
          () => EtcdSemaphore.withPermit(work, semaphore),
          { concurrency: 10, discard: true }
        )
        yield* Effect.provideService(all, EtcdSession.EtcdSession, session)
        yield* queued("deaf", 0)
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 2)
      })
    )

    it.effect("that becomes larger wakes who fits in, and that becomes smaller takes nothing from anybody", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("resized", { permits: 2 })
        const inside: Array<string> = []
        const a = yield* gated(inside, "a", semaphore, 2)
        const b = yield* gated(inside, "b", semaphore, 2)
        const c = yield* gated(inside, "c", semaphore, 2)
        yield* until(() => inside.length === 1)
        yield* EtcdSemaphore.resize(semaphore, 4)
        yield* until(() => inside.length === 2)
        assert.deepStrictEqual(inside, ["a", "b"])
        yield* EtcdSemaphore.resize(semaphore, 3)
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 0)
        yield* a.leave
        assert.deepStrictEqual(inside, ["a", "b"])
        yield* EtcdSemaphore.resize(semaphore, 1)
        const error = yield* refusal(Fiber.join(c.fiber))
        assert.instanceOf(error, EtcdSemaphore.LimitExceeded)
        assert.deepInclude(error, { name: "resized", permits: 2, held: 0, limit: 1 })
        yield* b.leave
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 1)
        // What programs were made with does not matter any more.
        const other = EtcdSemaphore.make("resized", { permits: 9 })
        assert.strictEqual(yield* Effect.succeed(1).pipe(EtcdSemaphore.withPermit(other)), 1)
        assert.strictEqual(yield* EtcdSemaphore.available(other), 1)
        assert.deepStrictEqual(yield* line("resized"), [])
      })
    )

    it.effect("is resized before anybody uses it", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("resized/first", { permits: 2 })
        yield* EtcdSemaphore.resize(semaphore, 3)
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 3)
        assert.strictEqual(yield* Effect.succeed(1).pipe(EtcdSemaphore.withPermits(semaphore, 3)), 1)
      })
    )

    it.effect("has one limit: who was made with another one is told both, and takes nothing", () =>
      Effect.gen(function* () {
        const five = EtcdSemaphore.make("mismatch", { permits: 5 })
        const six = EtcdSemaphore.make("mismatch", { permits: 6 })
        yield* Effect.void.pipe(EtcdSemaphore.withPermit(five))
        const errors = [
          yield* refusal(Effect.void.pipe(EtcdSemaphore.withPermit(six))),
          yield* refusal(Effect.void.pipe(EtcdSemaphore.withPermitsIfAvailable(six, 1))),
          yield* refusal(Effect.scoped(EtcdSemaphore.takeScoped(six, 6))),
          yield* refusal(EtcdSemaphore.available(six))
        ]
        for (const error of errors) {
          assert.instanceOf(error, EtcdSemaphore.LimitMismatch)
          assert.deepInclude(error, { name: "mismatch", permits: 6, limit: 5 })
        }
        assert.deepStrictEqual(yield* line("mismatch"), [])
        yield* EtcdKv.put("mismatch/permits", "lots")
        const error = yield* refusal(Effect.void.pipe(EtcdSemaphore.withPermit(five)))
        assert.deepInclude(error, { _tag: "LimitMismatch", limit: undefined })
        assert.strictEqual((yield* refusal(EtcdSemaphore.available(five)))._tag, "LimitMismatch")
        assert.deepStrictEqual(yield* line("mismatch"), [])
        yield* EtcdSemaphore.resize(five, 5)
        assert.strictEqual(yield* EtcdSemaphore.available(six), 5)
      })
    )

    it.effect("refuses more than there are, and more than the work can ever have beside what it holds", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("exceeded", { permits: 3 })
        const take = (permits: number) => EtcdSemaphore.withPermits(Effect.succeed("inside"), semaphore, permits)
        assert.deepInclude(yield* refusal(take(4)), { _tag: "LimitExceeded", permits: 4, held: 0, limit: 3 })
        const nested = (permits: number) => EtcdSemaphore.withPermits(take(permits), semaphore, 2)
        assert.strictEqual(yield* nested(1), "inside")
        assert.deepInclude(yield* refusal(nested(2)), { _tag: "LimitExceeded", permits: 2, held: 2, limit: 3 })
        assert.deepStrictEqual(yield* line("exceeded"), [])
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 3)
      })
    )

    it.effect("gives back the permits of a program that crashed, whose work is interrupted", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("crashed", { permits: 2 })
        const inside = yield* Deferred.make<EtcdLock.Held>()
        const work = Effect.andThen(
          Effect.flatMap(EtcdLock.Held, (held) => Deferred.succeed(inside, held)),
          Effect.never
        )
        const holder = yield* start(elsewhere(EtcdSemaphore.withPermits(work, semaphore, 2)))
        const held = yield* Deferred.await(inside)
        const waiting = yield* start(elsewhere(EtcdSemaphore.withPermits(Effect.succeed("inside"), semaphore, 2)))
        const [first] = yield* queued("crashed", 2)
        yield* EtcdLease.revoke(Option.getOrThrow(first!.lease))
        assert.strictEqual(yield* Fiber.join(waiting), "inside")
        const error = yield* refusal(Fiber.join(holder))
        assert.instanceOf(error, EtcdLock.LockLost)
        assert.isFalse(held.isHeldUnsafe())
        assert.deepStrictEqual(yield* line("crashed"), [])
      })
    )

    it.effect("stands in line anew when its place is lost while it waits", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("anew", { permits: 1 })
        const scope = yield* Scope.make()
        yield* Scope.provide(EtcdSemaphore.takeScoped(semaphore, 1), scope)
        const waiting = yield* start(elsewhere(EtcdSemaphore.withPermit(EtcdLock.Held, semaphore)))
        const [, waiter] = yield* queued("anew", 2)
        yield* EtcdKv.delete(waiter!.key)
        const isAnew = (kvs: ReadonlyArray<{ readonly createRevision: bigint }>) =>
          kvs.length === 2 && kvs[1]!.createRevision > waiter!.createRevision
        const [, again] = yield* Effect.repeat(line("anew"), { until: isAnew })
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Fiber.join(waiting)).token, again!.createRevision)
      })
    )

    it.effect("takes permits from whose key somebody puts without the lease, as it is no place for others either", () =>
      Effect.gen(function* () {
        const session = yield* EtcdSession.fromClient(yield* EtcdClient.EtcdClient)
        const semaphore = EtcdSemaphore.make("put-over", { permits: 1 })
        const take = <A, E, R>(work: Effect.Effect<A, E, R>) =>
          start(EtcdSemaphore.withPermit(work, semaphore).pipe(Effect.provideService(EtcdSession.EtcdSession, session)))
        const holder = yield* take(Effect.never)
        const [key] = yield* queued("put-over", 1)
        const waiting = yield* take(Effect.succeed("inside"))
        // They see the line, with both of them.
        const { views } = Inside.of(session)
        yield* until(() => views.get("put-over/permits")?.state?.standings.length === 2)
        yield* EtcdKv.put(key!.key, "by hand")
        assert.deepInclude(yield* refusal(Fiber.join(holder)), { _tag: "LockLost", reason: "deleted" })
        assert.strictEqual(yield* Fiber.join(waiting), "inside")
        assert.strictEqual(yield* EtcdSemaphore.available(semaphore), 1)
      })
    )

    it.effect("lets nothing be written by who has lost the permits", () =>
      Effect.gen(function* () {
        const semaphore = EtcdSemaphore.make("fenced", { permits: 1 })
        const write = Effect.gen(function* () {
          const held = yield* EtcdLock.Held
          yield* EtcdKv.EtcdKv.use((kv) => kv.put("fenced-out", "in time"))
          yield* Effect.uninterruptible(
            Effect.gen(function* () {
              yield* EtcdKv.delete(held.key)
              return yield* EtcdKv.put("fenced-out", "late")
            })
          )
        })
        const error = yield* refusal(EtcdSemaphore.withPermit(write, semaphore))
        assert.strictEqual(error._tag, "LockLost")
        assert.deepStrictEqual(yield* EtcdKv.getString("fenced-out"), Option.some("in time"))
      })
    )

    it.effect("is watched once by a program, however many wait and hold there, and no longer than they do", () =>
      Effect.gen(function* () {
        const { counted, watches } = counting(yield* EtcdClient.EtcdClient)
        const session = yield* EtcdSession.fromClient(counted)
        const semaphore = EtcdSemaphore.make("watched", { permits: 10 })
        let inside = 0
        const gate = yield* Deferred.make<void>()
        const work = Effect.andThen(
          Effect.sync(() => inside++),
          Deferred.await(gate)
        )
        const all = yield* start(
          Effect.forEach(
            Array.from({ length: 100 }, () => 0),
            () => EtcdSemaphore.withPermit(work, semaphore),
            { concurrency: "unbounded", discard: true }
          ).pipe(Effect.provideService(EtcdSession.EtcdSession, session))
        )
        yield* queued("watched", 100)
        yield* until(() => inside === 10)
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(all)
        assert.strictEqual(inside, 100)
        assert.deepStrictEqual(watches, ["watched/"])
        assert.deepStrictEqual(yield* line("watched"), [])
      })
    )

    it.effect("that makes no sense is refused, and so is what is no semaphore, or no number of permits", () =>
      Effect.gen(function* () {
        const fine = EtcdSemaphore.make("fine", { permits: 3 })
        const refused = (self: Effect.Effect<unknown, any, any>) =>
          Effect.map(Effect.flip(self as Effect.Effect<unknown, any, EtcdSession.EtcdSession>), (error) =>
            assert.strictEqual(error.reason?._tag, "InvalidArgument", String(error))
          )
        const each = Effect.fnUntraced(function* (semaphore: EtcdSemaphore.Semaphore, permits: number) {
          yield* refused(EtcdSemaphore.withPermits(Effect.void, semaphore, permits))
          yield* refused(EtcdSemaphore.withPermitsIfAvailable(Effect.void, semaphore, permits))
          yield* refused(Effect.scoped(EtcdSemaphore.takeScoped(semaphore, permits)))
          yield* refused(EtcdSemaphore.resize(semaphore, permits))
        })
        for (const permits of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, "2", null, undefined, 2n]) {
          yield* each(fine, permits as number)
          const wrong = EtcdSemaphore.make("fine", { permits: permits as number })
          yield* each(wrong, 1)
          yield* refused(EtcdSemaphore.available(wrong))
        }
        const wrong: ReadonlyArray<EtcdSemaphore.Semaphore> = [
          ...["", "/a", "a/", "a\0b", "a/read", "\ud800", 5 as never].map((name) =>
            EtcdSemaphore.make(name, { permits: 1 })
          ),
          EtcdSemaphore.make("a", undefined as never),
          EtcdSemaphore.make("a", {} as never),
          EtcdSemaphore.make("a", 5 as never),
          EtcdSemaphore.make("a", { permits: 1, fence: 1 as never }),
          EtcdSemaphore.make("a", { permits: 1, overrun: "exit" as never }),
          EtcdSemaphore.make("a", { permits: 1, permit: 2 } as never),
          {} as never,
          undefined as never
        ]
        for (const semaphore of wrong) yield* each(semaphore, 1)
        assert.deepStrictEqual(yield* line("fine"), [])
      })
    )
  })
})
