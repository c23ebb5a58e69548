/**
 * How leases end: with their scope, with their service, in the middle of being granted, and when etcd is gone.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdError from "../src/EtcdError.ts"
import { format, LeaseId } from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import { closedError } from "../src/internal/client/engine.ts"
import { Lease as LeaseRpc } from "../src/internal/proto/rpc_pb.ts"
import * as Time from "../src/internal/time.ts"
import * as Etcd from "./support/client/etcd.ts"
import * as Stub from "./support/lease/stubClient.ts"
import { turns } from "./support/time.ts"

const id = LeaseId(7n)

/** Lets the fibers of the service do what is to be done now. */
const settle = Effect.andThen(TestClock.adjust(0), turns(10))

const serviceOf = (stub: Stub.Stub) =>
  TestClock.testClockWith((clock) =>
    Effect.provideService(EtcdLease.fromClient(stub.client), Time.Time, Time.fromClock(clock))
  )

/** A service over a stub, in a scope of its own. */
const setUp = Effect.gen(function* () {
  const stub = Stub.make()
  const scope = yield* Scope.make()
  const leases = yield* Scope.provide(serviceOf(stub), scope)
  return { stub, leases, end: Scope.close(scope, Exit.void) }
})

const makeIn = (scope: Scope.Scope, leases: EtcdLease.Service, ttl: Duration.Input, ids: ReadonlyArray<bigint>) =>
  Effect.forEach(ids, (id) => Scope.provide(leases.make(ttl, { id: LeaseId(id) }), scope))

const isDone = (fiber: Fiber.Fiber<unknown, unknown>) => Effect.as(settle, fiber).pipe(Effect.map(hasEnded))

const hasEnded = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() !== undefined

/** What etcd has, by another client. */
const left = Effect.fnUntraced(function* (node: Etcd.Node) {
  const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
  return yield* (yield* EtcdLease.fromClient(client)).list()
}, Effect.scoped)

describe("closing a scope when etcd is gone", () => {
  it.effect("takes five seconds for all of its leases, and tries to revoke each", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      yield* makeIn(scope, leases, "30 seconds", [1n, 2n, 3n, 4n, 5n, 6n])
      stub.silent = true
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("4 seconds")
      assert.isFalse(yield* isDone(closing))
      yield* TestClock.adjust("1 seconds")
      assert.isTrue(yield* isDone(closing))
      assert.deepStrictEqual([...new Set(stub.revoked)].sort(), [1n, 2n, 3n, 4n, 5n, 6n])
    })
  )

  it.effect("takes five seconds for all scopes that close together, and as long again for a later one", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scopes = yield* Effect.forEach([1n, 2n, 3n, 4n], (id) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          yield* makeIn(scope, leases, "1 minute", [id])
          return scope
        })
      )
      const [one, two, three, later] = scopes
      stub.silent = true
      const first = yield* Effect.forkChild(Scope.close(one!, Exit.void))
      yield* TestClock.adjust("2 seconds")
      const second = yield* Effect.forkChild(Scope.close(two!, Exit.void))
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual([yield* isDone(first), yield* isDone(second)], [true, true])
      const third = yield* Effect.forkChild(Scope.close(three!, Exit.void))
      assert.isTrue(yield* isDone(third))
      yield* TestClock.adjust("10 seconds")
      const fourth = yield* Effect.forkChild(Scope.close(later!, Exit.void))
      yield* TestClock.adjust("4 seconds")
      assert.isFalse(yield* isDone(fourth))
      yield* TestClock.adjust("1 seconds")
      assert.isTrue(yield* isDone(fourth))
    })
  )

  it.effect("has a limit of its own when etcd was heard since the last one", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const [one, two, three] = yield* Effect.forEach([1n, 2n, 3n], (id) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          yield* makeIn(scope, leases, "1 minute", [id])
          return scope
        })
      )
      stub.silent = true
      const first = yield* Effect.forkChild(Scope.close(one!, Exit.void))
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(yield* isDone(first))
      stub.silent = false
      yield* Scope.close(two!, Exit.void)
      stub.silent = true
      const third = yield* Effect.forkChild(Scope.close(three!, Exit.void))
      yield* TestClock.adjust("4 seconds")
      assert.isFalse(yield* isDone(third))
      yield* TestClock.adjust("1 seconds")
      assert.isTrue(yield* isDone(third))
    })
  )

  it.effect("takes no longer than the leases live, and goes on in the background", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      yield* makeIn(scope, leases, "3 seconds", [7n])
      yield* TestClock.adjust("500 millis")
      stub.silent = true
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("2 seconds")
      assert.isFalse(yield* isDone(closing))
      yield* TestClock.adjust("500 millis")
      assert.isTrue(yield* isDone(closing))
    })
  )

  it.effect("does not wait for a lease whose time is over, and tries it all the same until etcd answers", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(leases.make("1 minute"), scope)
      stub.unopenable = Number.POSITIVE_INFINITY
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* lease.lost).reason, "not-renewed")
      stub.silent = true
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      assert.isTrue(yield* isDone(closing))
      assert.deepStrictEqual(stub.revoked, [lease.id])
      stub.silent = false
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual(stub.revoked, [lease.id, lease.id])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(stub.revoked, [lease.id, lease.id])
    })
  )
})

describe("closing a scope", () => {
  it.effect("lets the work end that it interrupts before the lease is revoked", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      const [lease] = yield* makeIn(scope, leases, "30 seconds", [7n])
      let revokedBefore: number | undefined
      const end = Effect.andThen(
        Effect.sleep("1 seconds"),
        Effect.sync(() => {
          revokedBefore = stub.revoked.length
        })
      )
      const work = yield* Effect.forkChild(lease!.whileHeld(Effect.ensuring(Effect.never, end)))
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 seconds")
      yield* Fiber.join(closing)
      assert.strictEqual(revokedBefore, 0)
      assert.deepStrictEqual(stub.revoked, [7n])
      assert.strictEqual((yield* Effect.flip(Fiber.join(work))).reason, "revoked")
    })
  )

  it.effect("does not wait for work that does not end", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      const [lease] = yield* makeIn(scope, leases, "30 seconds", [7n])
      yield* Effect.forkChild(lease!.whileHeld(Effect.uninterruptible(Effect.sleep("1 hour"))))
      yield* settle
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("2400 millis")
      assert.deepStrictEqual(stub.revoked, [])
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(stub.revoked, [7n])
      yield* TestClock.adjust("1 hour")
    })
  )
})

describe("the end of a service", () => {
  it.effect("revokes what it granted and holds, and leaves alone what it was given", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      const made = yield* makeIn(scope, leases, "30 seconds", [1n, 2n, 3n])
      const adopting = yield* Effect.forkChild(Scope.provide(leases.keepAlive(LeaseId(4n)), scope))
      yield* settle
      stub.streams[0]!.answer(4n, 30n)
      const adopted = yield* Fiber.join(adopting)
      const work = yield* Effect.forkChild(made[0]!.whileHeld(Effect.never))
      yield* settle
      yield* end
      assert.deepStrictEqual([...stub.revoked].sort(), [1n, 2n, 3n])
      assert.strictEqual((yield* Effect.flip(Fiber.join(work))).reason, "closed")
      for (const lease of [...made, adopted]) {
        assert.strictEqual((yield* lease.lost).reason, "closed")
        assert.strictEqual(Duration.toMillis(yield* lease.remaining), 0)
        assert.strictEqual((yield* Effect.flip(lease.whileHeld(Effect.die("must not run")))).reason, "closed")
      }
      // Their scope has nothing more to do.
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(stub.revoked.length, 3)
    })
  )

  it.effect("together with the scope of a lease is not over for either before the lease is revoked", () =>
    Effect.gen(function* () {
      for (const first of ["service", "scope"] as const) {
        const { end, leases, stub } = yield* setUp
        const scope = yield* Scope.make()
        yield* makeIn(scope, leases, "30 seconds", [7n])
        stub.silent = true
        const close = Scope.close(scope, Exit.void)
        const closers = first === "service" ? [end, close] : [close, end]
        const closing = yield* Effect.forEach(closers, (closer) => Effect.forkChild(closer, { startImmediately: true }))
        yield* settle
        for (const closer of closing) assert.isFalse(hasEnded(closer), first)
        stub.answerRevocations()
        for (const closer of closing) yield* Fiber.join(closer)
        assert.deepStrictEqual(stub.revoked, [7n])
      }
    })
  )

  it.effect("takes five seconds in all when etcd is gone", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      yield* makeIn(scope, leases, "30 seconds", [1n, 2n, 3n, 4n, 5n, 6n])
      stub.grants.push("silent")
      const making = yield* Effect.forkChild(Effect.flip(leases.make("30 seconds")))
      yield* settle
      stub.silent = true
      const ending = yield* Effect.forkChild(end)
      assert.isTrue(yield* isDone(making))
      assert.strictEqual((yield* Fiber.join(making)).reason._tag, "Unreachable")
      assert.deepStrictEqual([...stub.revoked].sort(), [1n, 2n, 3n, 4n, 5n, 6n])
      yield* TestClock.adjust("4 seconds")
      assert.isFalse(yield* isDone(ending))
      yield* TestClock.adjust("1 seconds")
      assert.isTrue(yield* isDone(ending))
      const tried = stub.revoked.length
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(stub.revoked.length, tried)
    })
  )

  it.effect("refuses what comes after it, and what is under way", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const keeping = yield* Effect.forkChild(Effect.flip(leases.keepAlive(id)))
      stub.grants.push("broken")
      const making = yield* Effect.forkChild(Effect.flip(leases.make("30 seconds")))
      yield* settle
      assert.deepStrictEqual([hasEnded(keeping), hasEnded(making)], [false, false])
      yield* end
      for (const under of [keeping, making]) {
        const error = yield* Fiber.join(under)
        assert.strictEqual(error.reason._tag, "Unreachable")
        assert.include(error.message, "closed")
      }
      const streams = stub.streams.length
      const calls: ReadonlyArray<Effect.Effect<unknown, { readonly reason: { readonly _tag: string } }, Scope.Scope>> =
        [
          leases.make("30 seconds"),
          leases.make("30 seconds", { id }),
          leases.keepAlive(id),
          leases.keepAliveOnce(id),
          leases.grant("30 seconds"),
          leases.revoke(id),
          leases.timeToLive(id),
          leases.list()
        ]
      for (const call of calls) {
        assert.strictEqual((yield* Effect.flip(Effect.scoped(call))).reason._tag, "Unreachable")
      }
      assert.deepStrictEqual([stub.granted.length, stub.streams.length], [0, streams])
    })
  )
})

describe("no lease is left", () => {
  it.live("by a program whose client is gone before the scope of its lease", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const done = yield* EtcdLease.make("1 hour").pipe(
        Effect.tap((lease) => EtcdKv.put("left", "", { lease: lease.id })),
        Effect.tap((lease) => Effect.forkScoped(lease.whileHeld(Effect.never), { startImmediately: true })),
        Effect.provide(EtcdLayer.connect({ endpoints: [node.endpoint] })),
        Effect.map((lease) => lease.id),
        Effect.scoped
      )
      assert.notInclude(yield* left(node), done)
    }).pipe(Effect.scoped)
  )

  it.live("to be tried again and again when its client is closed already", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const scope = yield* Scope.make()
      const real = yield* Scope.provide(EtcdClient.make({ endpoints: [node.endpoint] }), scope)
      let revocations = 0
      const unary = (method: any, request: any, options: any) => {
        if (method === LeaseRpc.method.leaseRevoke) revocations++
        return real.unary(method, request, options)
      }
      yield* Effect.scoped(
        Effect.gen(function* () {
          const leases = yield* EtcdLease.fromClient({ ...real, unary } as EtcdClient.Client)
          yield* leases.make("1 hour")
          yield* Scope.close(scope, Exit.void)
        })
      )
      assert.strictEqual(revocations, 1)
    }).pipe(Effect.scoped)
  )

  it.live("by nobody, and at once, where who wants it goes while no server can be reached", () =>
    Effect.gen(function* () {
      const tried = yield* Deferred.make<void>()
      let tries = 0
      const retry = Schedule.spaced("20 millis").pipe(
        Schedule.while(() => {
          tries++
          return Effect.as(Deferred.succeed(tried, undefined), true)
        })
      )
      const client = yield* EtcdClient.make({ endpoints: ["http://127.0.0.1:1"], retry })
      const scope = yield* Scope.make()
      const leases = yield* Scope.provide(EtcdLease.fromClient(client), scope)
      const fiber = yield* Effect.forkScoped(leases.make("10 seconds"))
      yield* Deferred.await(tried)
      const before = tries
      yield* Fiber.interrupt(fiber)
      yield* Scope.close(scope, Exit.void)
      // One may be just being made.
      assert.isAtMost(tries, before + 1)
    }).pipe(Effect.scoped)
  )

  it.live("whenever its service ends, or who wants it goes, while it is being granted", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
      const made: Array<bigint> = []
      const until = (moment: number) => (moment % 2 === 0 ? turns(moment / 2) : Effect.sleep(moment / 4))
      for (let moment = 0; moment < 60; moment++) {
        for (const own of [undefined, LeaseId(BigInt(moment + 1))]) {
          const scope = yield* Scope.make()
          const leases = yield* Scope.provide(EtcdLease.fromClient(client), scope)
          const outer = yield* Scope.make()
          const making = yield* Effect.forkChild(Scope.provide(leases.make("1 hour", { id: own }), outer))
          const begun = yield* Effect.forkChild(Scope.provide(leases.make("1 hour"), outer))
          yield* until(moment)
          yield* Fiber.interrupt(begun)
          yield* Scope.close(scope, Exit.void)
          const exit = yield* Fiber.await(making)
          if (Exit.isSuccess(exit)) {
            made.push(exit.value.id)
            assert.strictEqual((yield* exit.value.lost).reason, "closed")
          }
          assert.deepStrictEqual(yield* left(node), [])
        }
      }
      assert.isAbove(made.length, 0)
    }).pipe(Effect.scoped)
  )

  it.live("by a scope that has the client too, though its connection is younger than they are", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const longer = yield* Scope.make()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const leases = yield* EtcdLease.fromClient(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
          yield* Scope.provide(leases.make("1 hour"), longer)
        })
      )
      assert.deepStrictEqual(yield* left(node), [])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const leases = yield* EtcdLease.fromClient(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
          yield* leases.make("1 hour")
          yield* node.kill
          yield* node.start
          while (Exit.isFailure(yield* Effect.exit(leases.list()))) yield* Effect.sleep(10)
        })
      )
      assert.deepStrictEqual(yield* left(node), [])
    }).pipe(Effect.scoped)
  )

  it.live("by a program that did not wait as long as etcd stood still", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const leases = yield* EtcdLease.fromClient(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
      yield* leases.list()
      for (let round = 0; round < 20; round++) {
        yield* node.pause
        const making = Effect.scoped(leases.make("1 hour", { deadline: "50 millis" }))
        assert.strictEqual((yield* Effect.flip(making)).reason._tag, "DeadlineExceeded")
        yield* node.resume
      }
      while ((yield* left(node)).length > 0) yield* Effect.sleep(10)
    }).pipe(Effect.scoped)
  )

  it.live("by scopes that are closed, and fibers that are interrupted, at any moment", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const leases = yield* EtcdLease.fromClient(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
      for (let moment = 0; moment < 60; moment++) {
        const scope = yield* Scope.make()
        const making = yield* Effect.forkChild(Scope.provide(leases.make("1 hour"), scope))
        const other = yield* Effect.forkChild(Effect.scoped(leases.make("1 hour")))
        yield* turns(moment)
        yield* Fiber.interrupt(other)
        yield* Scope.close(scope, Exit.void)
        yield* Fiber.await(making)
      }
      while ((yield* left(node)).length > 0) yield* Effect.sleep(10)
    }).pipe(Effect.scoped)
  )
})

describe("leases that cannot be revoked", () => {
  const warnings = () => {
    const lines: Array<unknown> = []
    const logger = Logger.make(({ logLevel, message }) => {
      if (logLevel === "Warn") lines.push(message)
    })
    return { lines, told: Effect.provideService(Logger.CurrentLoggers, new Set([logger])) }
  }
  const denied = EtcdError.make(new EtcdError.PermissionDenied({ message: "Not yours.", outcome: "not-applied" }))

  it.effect("are told of when their scope closes, unless their time is over anyway", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const { lines, told } = warnings()
      stub.unrevocable = denied
      const lease = yield* Effect.scoped(leases.make("1 hour")).pipe(told)
      assert.deepStrictEqual(lines, [
        ["etcd lease could not be revoked, it will expire", format(lease.id), "Not yours."]
      ])
      stub.unrevocable = undefined
      stub.silent = true
      const closing = yield* Effect.forkChild(Effect.scoped(leases.make("3 seconds")).pipe(told))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(closing)
      assert.strictEqual(lines.length, 1)
    })
  )

  it.effect("are told of once, and how many they are, when their service ends", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const { lines, told } = warnings()
      const scope = yield* Scope.make()
      yield* makeIn(scope, leases, "1 hour", [1n, 2n, 3n]).pipe(told)
      stub.unrevocable = denied
      yield* end
      assert.deepStrictEqual(lines, [["etcd leases could not be revoked, they will expire", { leases: 3 }]])
    })
  )

  it.effect("are nobody's surprise where their client was closed before their scope, or their service", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const { lines, told } = warnings()
      stub.unrevocable = closedError
      yield* Effect.scoped(leases.make("1 hour")).pipe(told)
      yield* makeIn(yield* Scope.make(), leases, "1 hour", [1n, 2n, 3n]).pipe(told)
      yield* end
      assert.deepStrictEqual(lines, [])
    })
  )
})

describe("a lease with an id of the caller's, which somebody else may have too", () => {
  /** A lease whose time is over in this program. */
  const lose = Effect.fnUntraced(function* (stub: Stub.Stub, leases: EtcdLease.Service, scope: Scope.Scope) {
    const [lease] = yield* makeIn(scope, leases, "30 seconds", [7n])
    stub.unopenable = Number.POSITIVE_INFINITY
    yield* TestClock.adjust("30 seconds")
    stub.unopenable = 0
    assert.strictEqual((yield* lease!.lost).reason, "not-renewed")
    return lease!
  })

  it.effect("is not revoked by its scope, nor by its service, when its time is over", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const [one, two] = [yield* Scope.make(), yield* Scope.make()]
      yield* lose(stub, leases, one)
      yield* Scope.close(one, Exit.void)
      yield* settle
      stub.leases.delete(7n)
      yield* lose(stub, leases, two)
      yield* end
      yield* Scope.close(two, Exit.void)
      yield* settle
      assert.deepStrictEqual(stub.revoked, [])
    })
  )

  it.effect("is revoked no longer than its time lasts", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const scope = yield* Scope.make()
      yield* makeIn(scope, leases, "40 seconds", [7n])
      yield* TestClock.adjust("12 seconds")
      stub.silent = true
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(stub.revoked, [7n])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(stub.revoked, [7n])
    })
  )

  it.effect("is left to who has its id now, in the same program too, when the scope of the old one closes", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      const [old, next] = [yield* Scope.make(), yield* Scope.make()]
      yield* lose(stub, leases, old)
      stub.leases.delete(7n)
      const [lease] = yield* makeIn(next, leases, "30 seconds", [7n])
      yield* Scope.close(old, Exit.void)
      yield* settle
      assert.deepStrictEqual(stub.revoked, [])
      assert.strictEqual(Duration.toSeconds(yield* lease!.remaining), 30)
      yield* Scope.close(next, Exit.void)
      assert.deepStrictEqual(stub.revoked, [7n])
    })
  )

  it.effect("is not revoked where its grant was refused, or nobody knows what came of it", () =>
    Effect.gen(function* () {
      const { end, leases, stub } = yield* setUp
      const make = leases.make("30 seconds", { id })
      for (const fate of ["taken", "refused", "broken", "lost"] as const) {
        stub.grants.push(fate)
        yield* Effect.flip(make)
      }
      stub.leases.delete(7n)
      stub.grants.push("silent")
      const waiting = yield* Effect.forkChild(make)
      yield* settle
      yield* Fiber.interrupt(waiting)
      const ending = yield* Effect.forkChild(end)
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(ending)
      assert.deepStrictEqual(stub.revoked, [])
    })
  )

  it.effect(
    "is revoked where its grant is answered after whoever asked has gone, unless its time is over by then",
    () =>
      Effect.gen(function* () {
        for (const delay of [3000, 30_000]) {
          const { leases, stub } = yield* setUp
          stub.delay = delay
          const waiting = yield* Effect.forkChild(leases.make("30 seconds", { id }))
          yield* settle
          yield* Fiber.interrupt(waiting)
          yield* TestClock.adjust(delay)
          yield* settle
          assert.deepStrictEqual(stub.revoked, delay < 30_000 ? [7n] : [])
        }
      })
  )

  it.effect("is left to expire where it could not be renewed after a grant that took too long", () =>
    Effect.gen(function* () {
      const { leases, stub } = yield* setUp
      stub.delay = 31_000
      const making = yield* Effect.forkChild(Effect.flip(leases.make("30 seconds", { id })))
      yield* TestClock.adjust("31 seconds")
      yield* settle
      stub.streams[0]!.fail(EtcdError.make(new EtcdError.PermissionDenied({ message: "No.", outcome: "not-applied" })))
      assert.strictEqual((yield* Fiber.join(making)).reason._tag, "PermissionDenied")
      yield* settle
      assert.deepStrictEqual(stub.revoked, [])
    })
  )

  it.live("stays somebody else's who was granted it when it had expired", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
      const mayRevoke = yield* Deferred.make<void>()
      // Keep-alives do not get through, and revocations late.
      const cutOff = {
        ...client,
        unary: (method: any, request: any, options: any) =>
          method === LeaseRpc.method.leaseRevoke
            ? Effect.andThen(Deferred.await(mayRevoke), client.unary(method, request, options))
            : client.unary(method, request, options),
        bidirectional: () => Effect.fail(Stub.failure("not-applied"))
      } as EtcdClient.Client
      const mine = yield* EtcdLease.fromClient(cutOff)
      const theirs = yield* EtcdLease.fromClient(client)
      const [scope, next] = [yield* Scope.make(), yield* Scope.make()]
      const lost = yield* Scope.provide(mine.make("1 second", { id }), scope)
      assert.strictEqual((yield* lost.lost).reason, "not-renewed")
      yield* Scope.close(scope, Exit.void)
      while ((yield* theirs.list()).includes(id)) yield* Effect.sleep(20)
      const lease = yield* theirs.make("1 minute", { id })
      yield* EtcdKv.fromClient(client).put("theirs", "", { lease: lease.id })
      yield* Deferred.succeed(mayRevoke, undefined)
      // A lease of an id that nobody else can have is revoked for as long as it takes, behind what waits already.
      const marker = yield* Scope.provide(mine.make("1 minute"), next)
      yield* Scope.close(next, Exit.void)
      assert.notInclude(yield* theirs.list(), marker.id)
      assert.deepStrictEqual(yield* EtcdKv.fromClient(client).getString("theirs"), Option.some(""))
    }).pipe(Effect.scoped)
  )
})

describe("interrupted at any moment", () => {
  it.live("keeping a lease keeps none, and revoking one leaves none", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const leases = yield* EtcdLease.fromClient(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
      for (let moment = 0; moment < 40; moment++) {
        const scope = yield* Scope.make()
        const { id } = yield* leases.grant("1 second")
        const keeping = yield* Effect.forkChild(Scope.provide(leases.keepAlive(id), scope))
        yield* turns(moment)
        yield* Fiber.interrupt(keeping)
        yield* Scope.close(scope, Exit.void)
        const kept = yield* Fiber.await(keeping)
        if (Exit.isSuccess(kept)) assert.strictEqual((yield* kept.value.lost).reason, "closed")
      }
      const made = yield* Effect.scoped(
        Effect.forEach(
          Array.from({ length: 40 }, (_, moment) => moment),
          (moment) =>
            Effect.gen(function* () {
              const lease = yield* leases.make("1 hour")
              const revoking = yield* Effect.forkChild(leases.revoke(lease.id))
              yield* turns(moment)
              yield* Fiber.interrupt(revoking)
              return lease
            })
        )
      )
      for (const lease of made) assert.include(["revoked", "not-found"], (yield* lease.lost).reason)
      while ((yield* left(node)).length > 0) yield* Effect.sleep(20)
    }).pipe(Effect.scoped)
  )
})

describe("a space quota that is used up", () => {
  it.live("refuses a lease at once", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node({ flags: ["--quota-backend-bytes", "262144"] })
      const real = yield* EtcdClient.make({ endpoints: [node.endpoint] })
      const kv = EtcdKv.fromClient(real)
      const value = "x".repeat(50_000)
      const full = yield* Effect.flip(Effect.forever(kv.put("full", value)))
      assert.strictEqual(full.reason._tag, "NoSpace")
      let grants = 0
      const unary = (method: any, request: any, options: any) => {
        if (method === LeaseRpc.method.leaseGrant) grants++
        return real.unary(method, request, options)
      }
      const leases = yield* EtcdLease.fromClient({ ...real, unary } as EtcdClient.Client)
      assert.strictEqual((yield* Effect.flip(leases.make("1 minute"))).reason._tag, "NoSpace")
      assert.strictEqual(grants, 1)
    }).pipe(Effect.scoped)
  )
})
