/**
 * When keep-alives are sent, where, and when a lease counts as lost: over a client that is a stub, with the test clock in
 * the place of real time.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdError from "../src/EtcdError.ts"
import { LeaseId } from "../src/EtcdId.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as Time from "../src/internal/time.ts"
import * as Stub from "./support/lease/stubClient.ts"
import { until } from "./support/machine.ts"
import { turns } from "./support/time.ts"

const id = LeaseId(7n)

const serviceOf = (stub: Stub.Stub) =>
  TestClock.testClockWith((clock) =>
    Effect.provideService(EtcdLease.fromClient(stub.client), Time.Time, Time.fromClock(clock))
  )

const setUp = Effect.fnUntraced(function* (endpoints?: ReadonlyArray<string>) {
  const stub = Stub.make(endpoints)
  return { stub, leases: yield* serviceOf(stub) }
})

/** Lets the fibers of the service do what is to be done now, and read what has come. */
const settle = Effect.andThen(TestClock.adjust(0), turns(10))

const remaining = (lease: EtcdLease.Lease) => Effect.map(lease.remaining, Duration.toMillis)

const lossOf = (lease: EtcdLease.Lease) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(lease.lost)
    yield* settle
    const exit = fiber.pollUnsafe()
    yield* Fiber.interrupt(fiber)
    return exit !== undefined && Exit.isSuccess(exit) ? exit.value : undefined
  })

describe("a lease that is kept", () => {
  it.effect("is renewed a third of its time to live after the last answered keep-alive was sent", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      assert.strictEqual(stub.streams.length, 0)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(stub.streams.length, 0)
      yield* TestClock.adjust("1 seconds")
      const [stream] = stub.streams
      assert.deepStrictEqual(stream!.sent, [7n])
      yield* TestClock.adjust("3 seconds")
      stream!.answer(7n, 30n)
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(stream!.sent, [7n])
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(stream!.sent, [7n, 7n])
      assert.strictEqual(stub.streams.length, 1)
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("is lost when its time to live has passed since the last answered keep-alive was sent, not answered", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      assert.strictEqual(yield* remaining(lease), 30_000)
      yield* TestClock.adjust("10 seconds")
      const sent = yield* remaining(lease)
      assert.strictEqual(sent, 20_000)
      yield* TestClock.adjust("5 seconds")
      stub.streams[0]!.answer(7n, 30n)
      yield* settle
      // Sent just before 10 seconds, answered at 15 seconds.
      const left = yield* remaining(lease)
      assert.isTrue(left > 24_900 && left <= 25_000, `${left}`)
      yield* TestClock.adjust("24 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual((yield* lossOf(lease))?.reason, "not-renewed")
      assert.strictEqual(yield* remaining(lease), 0)
    })
  )

  it.effect("counts from when it was asked for, with the time to live that the server granted", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grantedTtl = 60n
      const lease = yield* leases.make("1500 millis", { id })
      assert.deepStrictEqual(stub.granted, [{ id: 7n, ttl: 2n }])
      assert.strictEqual(Duration.toSeconds(lease.ttl), 60)
      yield* TestClock.adjust("19 seconds")
      assert.strictEqual(stub.streams.length, 0)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(stub.streams.length, 1)
    })
  )

  it.effect("counts with the time to live of the last answer, also where that is shorter than the one before", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      yield* TestClock.adjust("10 seconds")
      stub.streams[0]!.answer(7n, 6n)
      yield* settle
      const left = yield* remaining(lease)
      assert.isTrue(left > 5900 && left <= 6000, `${left}`)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(stub.streams[0]!.sent, [7n, 7n])
      stub.streams[0]!.answer(7n, 60n)
      yield* settle
      assert.isAtLeast(yield* remaining(lease), 59_900)
      const adopting = yield* Effect.forkChild(leases.keepAlive(id))
      yield* settle
      stub.streams[1]!.answer(7n, 5n)
      const adopted = yield* Fiber.join(adopting)
      for (const one of [lease, adopted]) assert.isAtMost(yield* remaining(one), 5000)
      yield* TestClock.adjust("5 seconds")
      for (const one of [lease, adopted]) assert.strictEqual((yield* lossOf(one))?.reason, "not-renewed")
    })
  )

  it.effect("is lost at once when the server says that it has it no more", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      const work = yield* Effect.forkChild(lease.whileHeld(Effect.never))
      yield* TestClock.adjust("10 seconds")
      stub.streams[0]!.answer(7n, 0n)
      const error = yield* Effect.flip(Fiber.join(work))
      assert.strictEqual(error.reason, "not-found")
      assert.strictEqual(error.id, id)
      assert.include(error.message, "lease 7 is lost")
      assert.strictEqual((yield* Effect.flip(lease.whileHeld(Effect.die("must not run")))).reason, "not-found")
      // Nothing is left to be kept.
      yield* settle
      assert.isTrue(stub.streams[0]!.closed)
    })
  )

  it.effect("is revoked when its scope closes, and is not revoked when it is gone", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(leases.make("30 seconds", { id }), scope)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(stub.revoked, [7n])
      assert.strictEqual((yield* lossOf(lease))?.reason, "revoked")
      const second = yield* Scope.make()
      yield* Scope.provide(leases.make("30 seconds", { id: LeaseId(8n) }), second)
      yield* leases.revoke(LeaseId(8n))
      yield* Scope.close(second, Exit.void)
      assert.deepStrictEqual(stub.revoked, [7n, 8n])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(stub.streams.length, 0)
    })
  )

  it.effect("ends with the service", () =>
    Effect.gen(function* () {
      const stub = Stub.make()
      const scope = yield* Scope.make()
      const leases = yield* Scope.provide(serviceOf(stub), scope)
      const lease = yield* leases.make("30 seconds", { id })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* lossOf(lease))?.reason, "closed")
    })
  )

  it.effect("as the same lease for two holders, until the last of them leaves", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const hold = (scope: Scope.Scope) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(Scope.provide(leases.keepAlive(id), scope))
          yield* settle
          stub.streams.at(-1)!.answer(7n, 30n)
          return yield* Fiber.join(fiber)
        })
      const [one, two] = [yield* Scope.make(), yield* Scope.make()]
      const first = yield* hold(one)
      const second = yield* hold(two)
      // One stream for each renewal at the beginning, closed.
      assert.deepStrictEqual(
        stub.streams.map((stream) => stream.closed),
        [true, true]
      )
      yield* Scope.close(one, Exit.void)
      assert.strictEqual(yield* lossOf(first), undefined)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(stub.streams[2]!.sent, [7n])
      yield* Scope.close(two, Exit.void)
      assert.strictEqual((yield* lossOf(second))?.reason, "closed")
      assert.deepStrictEqual(stub.revoked, [])
      assert.isTrue(stub.streams[2]!.closed)
    })
  )
})

describe("a lease that is lost while answers for others come in without end", () => {
  it.effect("is lost in time, whoever asks", () =>
    Effect.gen(function* () {
      for (const how of ["by who waits", "by who looks"] as const) {
        const stub = Stub.make()
        const clock = yield* TestClock.testClockWith(Effect.succeed)
        // Here time goes on with each turn of the event loop, too.
        let turned = 0
        const time = Time.fromClock(clock)
        const now = () => time.now() + turned
        const leases = yield* Effect.provideService(EtcdLease.fromClient(stub.client), Time.Time, { ...time, now })
        const lease = yield* leases.make("30 seconds", { id })
        const end = now() + 30_000
        yield* leases.make("1 hour", { id: LeaseId(8n) })
        yield* TestClock.adjust("10 seconds")
        yield* TestClock.adjust("19900 millis")
        const answering = { ends: false }
        const turn = (): void => {
          turned += 5
          stub.streams.at(-1)!.answer(8n, 3600n)
          if (!answering.ends) setImmediate(turn)
        }
        setImmediate(turn)
        if (how === "by who waits") yield* TestClock.adjust("50 millis")
        else turned += 60
        const lost = yield* lease.whileHeld(Effect.never).pipe(Effect.flip)
        answering.ends = true
        assert.strictEqual(lost.reason, "not-renewed")
        assert.isAtMost(now(), end, how)
      }
    })
  )
})

describe("a lease with two holders", () => {
  const adopt = (leases: EtcdLease.Service, stub: Stub.Stub, scope: Scope.Scope) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(Scope.provide(leases.keepAlive(id), scope))
      yield* settle
      stub.streams.at(-1)!.answer(7n, 30n)
      return yield* Fiber.join(fiber)
    })

  it.effect("is kept for who made it when the other leaves, and revoked for both when its maker does", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const [making, adopting, other] = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
      const made = yield* Scope.provide(leases.make("30 seconds", { id }), making)
      yield* TestClock.adjust("5 seconds")
      yield* adopt(leases, stub, adopting)
      // The other's renewal counts for both.
      assert.strictEqual(yield* remaining(made), 30_000)
      yield* Scope.close(adopting, Exit.void)
      assert.strictEqual(yield* lossOf(made), undefined)
      const adopted = yield* adopt(leases, stub, other)
      yield* Scope.close(making, Exit.void)
      assert.deepStrictEqual(stub.revoked, [7n])
      assert.strictEqual((yield* lossOf(adopted))?.reason, "revoked")
      yield* Scope.close(other, Exit.void)
      assert.deepStrictEqual(stub.revoked, [7n])
    })
  )

  it.effect("is another lease where its id is granted anew, and who held the old one is told", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const scope = yield* Scope.make()
      const old = yield* adopt(leases, stub, scope)
      const made = yield* leases.make("30 seconds", { id })
      assert.strictEqual((yield* lossOf(old))?.reason, "not-found")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* lossOf(made), undefined)
    })
  )

  it.effect("is one lease, whichever form its id was given in", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const signed = -16n
      const unsigned = LeaseId(0xffff_ffff_ffff_fff0n)
      const made = yield* leases.make("30 seconds", { id: unsigned })
      const adopting = yield* Effect.forkChild(leases.keepAlive(LeaseId(signed)))
      yield* settle
      assert.deepStrictEqual(stub.streams[0]!.sent, [signed])
      stub.streams[0]!.answer(signed, 30n)
      const adopted = yield* Fiber.join(adopting)
      assert.deepStrictEqual([made.id, adopted.id], [LeaseId(signed), LeaseId(signed)])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(stub.streams[1]!.sent, [signed])
      yield* leases.revoke(unsigned)
      assert.deepStrictEqual(stub.revoked, [signed])
      const [one, two] = [yield* lossOf(made), yield* lossOf(adopted)]
      assert.deepStrictEqual([one?.id, one?.reason], [LeaseId(signed), "revoked"])
      assert.deepStrictEqual([two?.id, two?.reason], [LeaseId(signed), "revoked"])
    })
  )

  it.effect("is not taken for lost, or revoked, because of what was asked of one that had its id before", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const renewing = yield* Effect.forkChild(Effect.flip(leases.keepAliveOnce(id)))
      yield* settle
      stub.silent = true
      const revoking = yield* Effect.forkChild(leases.revoke(id, { deadline: "1 minute" }))
      yield* settle
      const lease = yield* leases.make("30 seconds", { id })
      stub.streams[0]!.answer(7n, 0n)
      assert.strictEqual((yield* Fiber.join(renewing)).reason._tag, "LeaseNotFound")
      stub.answerRevocations()
      yield* Fiber.join(revoking)
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("is lost for all when etcd says to anybody that it is gone", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      const renewing = yield* Effect.forkChild(Effect.flip(leases.keepAliveOnce(id)))
      yield* settle
      stub.streams[0]!.answer(7n, 0n)
      assert.strictEqual((yield* Fiber.join(renewing)).reason._tag, "LeaseNotFound")
      assert.strictEqual((yield* lossOf(lease))?.reason, "not-found")
    })
  )
})

describe("the stream", () => {
  it.effect("is one for ten thousand leases", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const count = 10_000
      const scope = yield* Scope.make()
      const all = yield* Effect.forEach(
        Array.from({ length: count }, (_, index) => LeaseId(BigInt(index + 1))),
        (id) => Scope.provide(leases.make("30 seconds", { id }), scope)
      )
      for (let round = 1; round <= 4; round++) {
        yield* TestClock.adjust("10 seconds")
        const [stream] = stub.streams
        yield* until(() => stream!.sent.length >= count * round)
        yield* settle
        assert.strictEqual(stream!.sent.length, count * round)
        assert.strictEqual(new Set(stream!.sent.slice(-count)).size, count)
        for (const lease of all) stream!.answer(lease.id, 30n)
        // They are read one after the other.
        yield* Effect.repeat(Effect.andThen(settle, remaining(all.at(-1)!)), { until: (millis) => millis > 25_000 })
      }
      assert.strictEqual(stub.streams.length, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(stub.revoked.length, count)
      assert.isTrue(stub.streams[0]!.closed)
    })
  )

  it.effect("is opened again at once when it breaks, and what was not answered is sent again", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      yield* leases.make("60 seconds", { id: LeaseId(8n) })
      yield* TestClock.adjust("10 seconds")
      stub.streams[0]!.fail(Stub.failure())
      yield* settle
      assert.isTrue(stub.streams[0]!.closed)
      assert.deepStrictEqual(stub.streams[1]!.sent, [7n])
      stub.streams[1]!.answer(7n, 30n)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(stub.streams[1]!.sent, [7n, 7n, 8n])
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("is tried until the lease is lost, with pauses, and the loss says what failed", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      stub.unopenable = Number.POSITIVE_INFINITY
      let tries = 0
      Object.defineProperty(stub, "unopenable", {
        get: () => 1,
        set: () => {
          tries++
        }
      })
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
      assert.isTrue(tries > 30 && tries < 60, `${tries}`)
      yield* TestClock.adjust("1 seconds")
      const loss = yield* lossOf(lease)
      assert.strictEqual(loss?.reason, "not-renewed")
      assert.strictEqual(loss?.cause?.reason._tag, "ConnectionLost")
      // And not any longer.
      tries = 0
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(tries, 0)
    })
  )

  it.effect("moves on when its server is silent for a third of the time to live, through all endpoints", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b", "c"])
      const lease = yield* leases.make("30 seconds", { id })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(
        stub.streams.map((stream) => stream.endpoint),
        ["a"]
      )
      stub.unopenable = 1 // b
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.deepStrictEqual(
        stub.streams.map((stream) => stream.endpoint),
        ["a", "c"]
      )
      assert.deepStrictEqual(stub.streams[1]!.sent, [7n])
      // An endpoint that does not let itself be connected to is not waited for.
      assert.isDefined(stub.streams[1]!.options.retry)
      stub.streams[1]!.answer(7n, 30n)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("stays where it is as long as the server answers, one after the other", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b"])
      for (let n = 1n; n <= 14n; n++) yield* leases.make("30 seconds", { id: LeaseId(n) })
      yield* TestClock.adjust("10 seconds")
      for (let n = 1n; n <= 14n; n++) {
        stub.streams[0]!.answer(n, 30n)
        yield* TestClock.adjust("1 seconds")
        yield* settle
      }
      assert.strictEqual(stub.streams.length, 1)
    })
  )

  it.effect("sends again at once what an answer has passed over, and counts from when it was sent first", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      yield* leases.make("30 seconds", { id: LeaseId(8n) })
      yield* TestClock.adjust("10 seconds")
      const [stream] = stub.streams
      assert.deepStrictEqual(stream!.sent, [7n, 8n])
      yield* TestClock.adjust("2 seconds")
      stream!.answer(8n, 30n)
      yield* settle
      assert.deepStrictEqual(stream!.sent, [7n, 8n, 7n])
      stream!.answer(7n, 30n)
      yield* settle
      const left = yield* remaining(lease)
      assert.isTrue(left > 27_900 && left <= 28_000, `${left}`)
      // The second answer, where the first was only late.
      yield* TestClock.adjust("1 seconds")
      stream!.answer(7n, 30n)
      yield* settle
      assert.isAtMost(yield* remaining(lease), 29_000)
      assert.strictEqual(stub.streams.length, 1)
    })
  )

  it.effect("finds out that a proxy answers in any order, and then takes nothing for lost", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const ids = Array.from({ length: 10 }, (_, index) => LeaseId(BigInt(index + 1)))
      yield* Effect.forEach(ids, (id) => leases.make("30 seconds", { id }))
      yield* TestClock.adjust("10 seconds")
      const [stream] = stub.streams
      const answerAll = Effect.gen(function* () {
        for (let at = 0; at < stream!.sent.length; at += 10) {
          for (const id of stream!.sent.splice(0, 10).reverse()) stream!.answer(id, 30n)
          yield* settle
        }
      })
      yield* answerAll
      while (stream!.sent.length > 0) yield* answerAll
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(stream!.sent.length, 10)
      stream!.answer(10n, 30n)
      yield* settle
      assert.strictEqual(stream!.sent.length, 10)
    })
  )

  it.effect("sends again what others were answered without for a third of the time to live, and then moves", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b"])
      const lease = yield* leases.make("30 seconds", { id })
      yield* TestClock.adjust("1 seconds")
      yield* leases.make("24 seconds", { id: LeaseId(8n) })
      yield* TestClock.adjust("9 seconds")
      const [stream] = stub.streams
      assert.deepStrictEqual(stream!.sent, [8n, 7n])
      yield* TestClock.adjust("1 seconds")
      // This one was sent before, so its answer says nothing of the other.
      stream!.answer(8n, 24n)
      yield* TestClock.adjust("8 seconds")
      assert.deepStrictEqual(stream!.sent, [8n, 7n, 8n])
      yield* TestClock.adjust("1 seconds")
      yield* settle
      assert.deepStrictEqual(stream!.sent, [8n, 7n, 8n, 7n])
      yield* TestClock.adjust("5 seconds")
      yield* settle
      assert.deepStrictEqual(
        stub.streams.map((stream) => stream.endpoint),
        ["a", "b"]
      )
      assert.include(stub.streams[1]!.sent, 7n)
      stub.streams[1]!.answer(7n, 30n)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("tries ever faster through endpoints that are silent", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b", "c", "d"])
      const lease = yield* leases.make("30 seconds", { id })
      for (const time of [10, 10, 5, 3] as const) {
        yield* TestClock.adjust(`${time} seconds`)
        yield* settle
      }
      assert.deepStrictEqual(
        stub.streams.map((stream) => stream.endpoint),
        ["a", "b", "c", "d"]
      )
      stub.streams[3]!.answer(7n, 30n)
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("moves at once when its server is about to go", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      yield* leases.make("30 seconds", { id: LeaseId(8n) })
      yield* TestClock.adjust("10 seconds")
      stub.streams[0]!.answer(7n, 30n)
      yield* settle
      stub.streams[0]!.drain()
      yield* settle
      assert.isTrue(stub.streams[0]!.closed)
      assert.deepStrictEqual(stub.streams[1]!.sent, [8n])
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("is not opened again and again without a pause where every server is about to go", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      yield* leases.make("30 seconds", { id })
      yield* TestClock.adjust("10 seconds")
      for (let round = 0; round < 10; round++) {
        stub.streams.at(-1)!.drain()
        yield* settle
      }
      assert.isAtMost(stub.streams.length, 3)
    })
  )

  it.effect("outlives a defect of the client", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const lease = yield* leases.make("30 seconds", { id })
      stub.defects = 3
      yield* TestClock.adjust("12 seconds")
      yield* settle
      assert.strictEqual(stub.defects, 0)
      assert.deepStrictEqual(stub.streams[0]!.sent, [7n])
      stub.streams[0]!.answer(7n, 30n)
      yield* TestClock.adjust("25 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("outlives a logger that breaks down", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      let lines = 0
      const broken = Logger.make(() => {
        lines++
        throw new Error("a defect of the logger")
      })
      const lease = yield* leases
        .make("30 seconds", { id })
        .pipe(
          Effect.provideService(Logger.CurrentLoggers, new Set([broken])),
          Effect.provideService(References.MinimumLogLevel, "All")
        )
      yield* TestClock.adjust("10 seconds")
      stub.streams[0]!.fail(Stub.failure())
      yield* settle
      yield* TestClock.adjust("1 seconds")
      assert.isAbove(lines, 0)
      stub.streams[1]!.answer(7n, 30n)
      yield* TestClock.adjust("25 seconds")
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("drops the lease that the user may not renew, and keeps the others", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const mine = yield* leases.make("30 seconds", { id })
      const theirs = yield* leases.make("30 seconds", { id: LeaseId(8n) })
      yield* TestClock.adjust("10 seconds")
      stub.streams[0]!.answer(7n, 30n)
      yield* settle
      stub.streams[0]!.fail(EtcdError.make(new EtcdError.PermissionDenied({ message: "No.", outcome: "not-applied" })))
      assert.strictEqual((yield* lossOf(theirs))?.reason, "refused")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(stub.streams.at(-1)!.sent, [7n])
      assert.strictEqual(yield* lossOf(mine), undefined)
    })
  )

  it.effect("drops the lease whose turn it is, of all that have no answer, and never another one", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const all: Array<EtcdLease.Lease> = []
      for (let n = 1n; n <= 6n; n++) all.push(yield* leases.make("30 seconds", { id: LeaseId(n) }))
      const denied = EtcdError.make(new EtcdError.PermissionDenied({ message: "No.", outcome: "not-applied" }))
      yield* TestClock.adjust("10 seconds")
      // Of the first one nobody wants to know any more when its turn comes.
      yield* leases.revoke(LeaseId(1n))
      stub.streams[0]!.fail(denied)
      yield* settle
      assert.deepStrictEqual(stub.streams[1]!.sent, [2n, 3n, 4n, 5n, 6n])
      stub.streams[1]!.answer(2n, 30n)
      stub.streams[1]!.answer(3n, 30n)
      stub.streams[1]!.fail(denied)
      yield* settle
      assert.deepStrictEqual(stub.streams[2]!.sent, [5n, 6n])
      // Nobody knows whose turn it is where a lease was sent for twice, and passed over.
      stub.streams[2]!.answer(6n, 30n)
      yield* settle
      assert.deepStrictEqual(stub.streams[2]!.sent, [5n, 6n, 5n])
      stub.streams[2]!.fail(denied)
      yield* settle
      assert.deepStrictEqual(stub.streams[3]!.sent, [5n])
      const reasons: Array<string | undefined> = []
      for (const lease of all) reasons.push((yield* lossOf(lease))?.reason)
      assert.deepStrictEqual(reasons, ["revoked", undefined, undefined, "refused", undefined, undefined])
    })
  )

  it.effect("does not take the answer for a lease that is gone for one of the lease that has its id now", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      yield* leases.make("1 minute", { id: LeaseId(1n) })
      const scope = yield* Scope.make()
      yield* Scope.provide(leases.make("30 seconds", { id }), scope)
      yield* TestClock.adjust("10 seconds")
      yield* Scope.close(scope, Exit.void)
      const lease = yield* leases.make("30 seconds", { id })
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(stub.streams[0]!.sent, [7n, 1n])
      stub.streams[0]!.answer(7n, 0n)
      stub.streams[0]!.answer(1n, 60n)
      yield* settle
      assert.strictEqual(yield* lossOf(lease), undefined)
      assert.deepStrictEqual(stub.streams[0]!.sent, [7n, 1n, 7n])
      stub.streams[0]!.answer(7n, 30n)
      yield* settle
      assert.isAbove(yield* remaining(lease), 29_000)
    })
  )
})

describe("revoking at the end of a scope", () => {
  it.effect("is given up after five seconds", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const scope = yield* Scope.make()
      yield* Scope.provide(leases.make("30 seconds", { id }), scope)
      stub.silent = true
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(closing.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 seconds")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(stub.revoked, [7n])
    })
  )
})

describe("renewing once", () => {
  it.effect("is repeated when the stream breaks before the answer", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const fiber = yield* Effect.forkChild(leases.keepAliveOnce(id))
      yield* settle
      stub.streams[0]!.fail(Stub.failure("not-applied"))
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(stub.streams[1]!.sent, [7n])
      stub.streams[1]!.answer(7n, 30n)
      assert.strictEqual(Duration.toSeconds((yield* Fiber.join(fiber)).ttl), 30)
      assert.isTrue(stub.streams.every((stream) => stream.closed))
    })
  )

  it.effect("counts, for a lease that is kept, from when the keep-alive was sent that was answered", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const fiber = yield* Effect.forkChild(leases.keepAlive(id))
      yield* TestClock.adjust("4 seconds")
      stub.streams[0]!.fail(Stub.failure("not-applied"))
      yield* TestClock.adjust("1 seconds")
      yield* TestClock.adjust("2 seconds")
      stub.streams[1]!.answer(7n, 30n)
      const left = yield* remaining(yield* Fiber.join(fiber))
      assert.isTrue(left > 27_000 && left <= 28_000, `${left}`)
    })
  )

  it.effect("is done again when the answer took longer than the lease lives", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const fiber = yield* Effect.forkChild(leases.keepAlive(id))
      yield* TestClock.adjust("6 seconds")
      stub.streams[0]!.answer(7n, 5n)
      yield* settle
      stub.streams[1]!.answer(7n, 5n)
      assert.strictEqual(yield* remaining(yield* Fiber.join(fiber)), 5000)
    })
  )

  it.effect("ends after half a minute where nobody answers and its caller set no deadline", () =>
    Effect.gen(function* () {
      const { leases } = yield* setUp()
      const renewing = yield* Effect.forkChild(Effect.flip(leases.keepAliveOnce(id)))
      const patient = yield* Effect.forkChild(leases.keepAliveOnce(id, { deadline: Duration.infinity }))
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(renewing.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual((yield* Fiber.join(renewing)).reason._tag, "DeadlineExceeded")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(patient.pollUnsafe(), undefined)
    })
  )

  it.effect("goes through all endpoints where one is silent, ever more patiently", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b", "c"])
      // The schedule is not asked for that.
      const renewing = yield* Effect.forkChild(leases.keepAliveOnce(id, { retry: Schedule.recurs(0) }))
      for (const seconds of [1, 2, 4] as const) {
        yield* settle
        assert.isFalse(stub.streams.at(-1)!.closed)
        yield* TestClock.adjust(`${seconds} seconds`)
      }
      yield* settle
      assert.deepStrictEqual(
        stub.streams.map(({ closed, endpoint }) => [endpoint, closed]),
        [
          ["a", true],
          ["b", true],
          ["c", true],
          ["a", false]
        ]
      )
      stub.streams[3]!.answer(7n, 30n)
      assert.strictEqual(Duration.toSeconds((yield* Fiber.join(renewing)).ttl), 30)
    })
  )

  it.effect("comes to the third where one is silent and the next cannot be connected to", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b", "c"])
      const renewing = yield* Effect.forkChild(leases.keepAliveOnce(id))
      yield* settle
      stub.unopenable = 1
      yield* TestClock.adjust("1 seconds")
      yield* TestClock.adjust("3 seconds")
      yield* settle
      assert.strictEqual(stub.streams.at(-1)!.endpoint, "c")
      stub.streams.at(-1)!.answer(7n, 30n)
      yield* Fiber.join(renewing)
    })
  )

  it.effect("stays where its caller wants it, and leaves what its server is about to leave", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b"])
      const pinned = yield* Effect.forkChild(leases.keepAliveOnce(id, { endpoint: "b" }))
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(stub.streams.length, 1)
      stub.streams[0]!.answer(7n, 30n)
      yield* Fiber.join(pinned)
      const moving = yield* Effect.forkChild(leases.keepAliveOnce(id))
      yield* settle
      stub.streams[1]!.drain()
      yield* TestClock.adjust("500 millis")
      yield* settle
      assert.isTrue(stub.streams[1]!.closed)
      stub.streams[2]!.answer(7n, 30n)
      yield* Fiber.join(moving)
    })
  )

  it.effect("is not repeated when it cannot be sent, or is refused", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.unopenable = 1
      assert.strictEqual((yield* Effect.flip(leases.keepAliveOnce(id))).reason._tag, "ConnectionLost")
      const fiber = yield* Effect.forkChild(Effect.flip(leases.keepAliveOnce(id)))
      yield* settle
      stub.streams[0]!.answer(7n, 0n)
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "LeaseNotFound")
      assert.strictEqual(stub.streams.length, 1)
    })
  )
})

describe("granting", () => {
  it.effect("is repeated when the outcome is unknown, and finds what was granted", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("lost")
      const fiber = yield* Effect.forkChild(leases.make("30 seconds"))
      yield* settle
      yield* TestClock.adjust("1 seconds")
      // Nobody knows when it was granted, and for how long.
      yield* settle
      stub.streams[0]!.answer(stub.granted[0]!.id, 40n)
      const lease = yield* Fiber.join(fiber)
      assert.deepStrictEqual(stub.granted, [{ id: lease.id, ttl: 30n }])
      assert.strictEqual(Duration.toSeconds(lease.ttl), 40)
      assert.isAbove(yield* remaining(lease), 39_000)
    })
  )

  it.effect("with an id of the caller's is not repeated", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("lost")
      assert.strictEqual((yield* Effect.flip(leases.make("30 seconds", { id }))).reason._tag, "ConnectionLost")
      assert.strictEqual(stub.granted.length, 1)
    })
  )

  it.effect("that fails for good leaves nothing to revoke", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("refused")
      assert.strictEqual((yield* Effect.flip(leases.make("30 seconds"))).reason._tag, "InvalidArgument")
      yield* settle
      assert.deepStrictEqual(stub.revoked, [])
    })
  )

  it.effect("that is interrupted while its outcome is unknown revokes what may have been granted", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("lost")
      const fiber = yield* Effect.forkChild(leases.make("30 seconds"))
      yield* settle
      yield* Fiber.interrupt(fiber)
      yield* settle
      assert.deepStrictEqual(stub.revoked, [stub.granted[0]!.id])
    })
  )

  it.effect("does not take what somebody else has for its own", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("taken")
      assert.strictEqual((yield* Effect.flip(leases.make("30 seconds"))).reason._tag, "LeaseExists")
    })
  )

  it.effect("keeps to its deadline, and revokes what may have been granted, when that is known", () =>
    Effect.gen(function* () {
      // To the deadline of the call, to the one of all calls for leases, and also where no answer ever comes.
      for (const fate of ["call", "service", "silent"] as const) {
        const { leases, stub } = yield* setUp()
        if (fate === "silent") stub.grants.push("silent")
        else stub.delay = 5000
        if (fate === "service") stub.deadline = Duration.seconds(2)
        const options = fate === "service" ? {} : { deadline: "2 seconds" as const }
        const fiber = yield* Effect.forkChild(Effect.flip(leases.make("1 hour", options)))
        yield* TestClock.adjust("1 seconds")
        assert.strictEqual(fiber.pollUnsafe(), undefined)
        yield* TestClock.adjust("1 seconds")
        const error = yield* Fiber.join(fiber)
        assert.strictEqual(error.reason._tag, "DeadlineExceeded")
        assert.strictEqual(error.outcome, "unknown")
        // Revoking is no good while the grant may still be carried out, which the end of the call does not prevent.
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual(stub.revoked, [])
        yield* TestClock.adjust("26 seconds")
        yield* settle
        assert.deepStrictEqual(stub.revoked, [stub.granted[0]!.id])
      }
    })
  )

  it.effect("is renewed at once when it may have been granted long ago", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("lost", "broken", "broken", "broken", "broken", "broken")
      const fiber = yield* Effect.forkChild(leases.make("1 seconds"))
      while (stub.streams.length === 0 && fiber.pollUnsafe() === undefined) yield* TestClock.adjust("100 millis")
      stub.streams[0]?.answer(stub.granted[0]!.id, 1n)
      const lease = yield* Fiber.join(fiber)
      assert.isAbove(yield* remaining(lease), 0)
      assert.strictEqual(yield* lossOf(lease), undefined)
    })
  )

  it.effect("is done anew when the time of the lease has passed in the meantime", () =>
    Effect.gen(function* () {
      for (const own of [undefined, id]) {
        const { leases, stub } = yield* setUp()
        stub.delay = 3000
        const fiber = yield* Effect.forkChild(leases.make("2 seconds", { id: own }))
        yield* TestClock.adjust("3 seconds")
        yield* settle
        stub.delay = 0
        const first = stub.granted[0]!.id
        stub.leases.delete(first)
        stub.streams[0]!.answer(first, 0n)
        const lease = yield* Fiber.join(fiber)
        assert.strictEqual(stub.granted.length, 2)
        assert.strictEqual(lease.id === LeaseId(first), own !== undefined)
        assert.strictEqual(yield* remaining(lease), 2000)
      }
    })
  )

  it.effect("gives up where etcd takes longer to answer than the lease lives, and leaves none behind", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.delay = 3000
      const fiber = yield* Effect.forkChild(Effect.flip(leases.make("2 seconds")))
      yield* TestClock.adjust("3 seconds")
      for (let round = 0; round < 3; round++) {
        yield* TestClock.adjust("3 seconds")
        stub.streams.at(-1)!.answer(stub.granted[0]!.id, 2n)
        yield* settle
      }
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason._tag, "DeadlineExceeded")
      assert.include(error.message, "longer")
      yield* settle
      assert.deepStrictEqual(stub.revoked, [stub.granted[0]!.id])
    })
  )
})

describe("what makes no sense", () => {
  const always: ReadonlyArray<any> = [null, {}, Symbol("x")]
  const wrong: { readonly [option: string]: ReadonlyArray<any> } = {
    ttl: [...always, 0, -1, Number.NaN, Number.POSITIVE_INFINITY, "soon", "0 seconds", undefined],
    id: [...always, 0n, 1n << 64n, -(1n << 63n) - 1n, 7, "7", Number.NaN],
    keys: [...always, 1, "yes"],
    deadline: [...always, -1, Number.NaN, "soon", "-1 seconds"],
    retry: [...always, 3, "often"],
    endpoint: [...always, 2379, ["a"]],
    requireLeader: [...always, 1, "yes"],
    metadata: [null, "a", { a: 1 }, 3]
  }

  it.effect("is refused before anything is sent, by each function, and the message says what would be right", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      const functions: {
        readonly [name: string]: (given: any) => Effect.Effect<unknown, EtcdError.EtcdError, Scope.Scope>
      } = {
        make: ({ ttl = "1 minute", ...options }) => leases.make(ttl, options),
        grant: ({ ttl = "1 minute", ...options }) => leases.grant(ttl, options),
        keepAlive: ({ id = LeaseId(7n), ...options }) => leases.keepAlive(id, options),
        keepAliveOnce: ({ id = LeaseId(7n), ...options }) => leases.keepAliveOnce(id, options),
        revoke: ({ id = LeaseId(7n), ...options }) => leases.revoke(id, options),
        timeToLive: ({ id = LeaseId(7n), ...options }) => leases.timeToLive(id, options),
        list: (options) => leases.list(options)
      }
      const call = ["deadline", "retry", "endpoint", "requireLeader", "metadata"]
      const optionsOf: { readonly [name: string]: ReadonlyArray<string> } = {
        make: ["ttl", "id", ...call],
        grant: ["ttl", "id", ...call],
        keepAlive: ["id", ...call],
        keepAliveOnce: ["id", ...call],
        revoke: ["id", ...call],
        timeToLive: ["id", "keys", ...call],
        list: call
      }
      for (const [name, options] of Object.entries(optionsOf)) {
        for (const option of options) {
          for (const given of wrong[option]!) {
            // What is left out has a default.
            if (given === undefined) continue
            const error = yield* Effect.flip(Effect.scoped(functions[name]!({ [option]: given })))
            assert.strictEqual(error.reason._tag, "InvalidArgument", `${name} ${option} ${String(given)}`)
            assert.match(error.message, / has to be .*, and not /)
          }
        }
      }
      assert.deepStrictEqual([stub.granted, stub.revoked, stub.streams], [[], [], []])
      assert.strictEqual((yield* Effect.flip(leases.make(undefined as any))).reason._tag, "InvalidArgument")
    })
  )

  it.effect("is not what is merely large or small", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      yield* leases.grant("1 millis")
      yield* leases.grant("1001 millis")
      yield* leases.grant(Duration.days(1e15))
      yield* leases.grant("1 minute", { id: LeaseId(-(1n << 63n)) })
      yield* leases.grant("1 minute", { id: LeaseId((1n << 64n) - 1n) })
      assert.deepStrictEqual(
        stub.granted.map(({ ttl }) => ttl),
        [1n, 2n, BigInt(Number.MAX_SAFE_INTEGER), 60n, 60n]
      )
      assert.deepStrictEqual(
        stub.granted.slice(3).map(({ id }) => id),
        [-(1n << 63n), -1n]
      )
    })
  )
})
