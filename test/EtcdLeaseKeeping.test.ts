/**
 * When keep-alives are sent, where, and when a lease counts as lost: by the test clock, over a client that is a stub.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdError from "../src/EtcdError.ts"
import { LeaseId } from "../src/EtcdId.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as Stub from "./support/lease/stubClient.ts"

const id = LeaseId(7n)

const setUp = Effect.fnUntraced(function* (endpoints?: ReadonlyArray<string>) {
  const stub = Stub.make(endpoints)
  const leases = yield* EtcdLease.fromClient(stub.client)
  return { stub, leases }
})

/** Lets the fibers of the service do what is to be done now. */
const settle = TestClock.adjust(0)

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
      const leases = yield* Scope.provide(EtcdLease.fromClient(stub.client), scope)
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
        assert.strictEqual(stream!.sent.length, count * round)
        assert.strictEqual(new Set(stream!.sent.slice(-count)).size, count)
        for (const lease of all) stream!.answer(lease.id, 30n)
        yield* settle
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
      yield* TestClock.adjust("1 seconds")
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

  it.effect("stays where it is as long as the server answers anything", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp(["a", "b"])
      for (let n = 1n; n <= 20n; n++) yield* leases.make("30 seconds", { id: LeaseId(n) })
      yield* TestClock.adjust("10 seconds")
      for (let n = 1n; n <= 19n; n++) {
        stub.streams[0]!.answer(n, 30n)
        yield* TestClock.adjust("1 seconds")
      }
      assert.strictEqual(stub.streams.length, 1)
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
      const lease = yield* Fiber.join(fiber)
      assert.deepStrictEqual(stub.granted, [{ id: lease.id, ttl: 30n }])
      // From when it was asked for first.
      assert.strictEqual(yield* remaining(lease), 29_000)
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

  it.effect("keeps to its deadline, and revokes what may have been granted", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      stub.grants.push("silent")
      const fiber = yield* Effect.forkChild(Effect.flip(leases.make("30 seconds", { deadline: "2 seconds" })))
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 seconds")
      const error = yield* Fiber.join(fiber)
      assert.strictEqual(error.reason._tag, "DeadlineExceeded")
      assert.strictEqual(error.outcome, "unknown")
      yield* settle
      assert.deepStrictEqual(stub.revoked, [stub.granted[0]!.id])
    })
  )

  it.effect("wants a time to live that is one", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp()
      for (const ttl of [0, -1, Number.POSITIVE_INFINITY, "soon" as any]) {
        assert.strictEqual((yield* Effect.flip(leases.make(ttl))).reason._tag, "InvalidArgument")
        assert.strictEqual((yield* Effect.flip(leases.grant(ttl))).reason._tag, "InvalidArgument")
      }
      assert.deepStrictEqual(stub.granted, [])
    })
  )
})
