/**
 * Leases run on real time, which goes on whatever the clocks of the program and of the wall say, and they are not lost
 * because this process stood still.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import { LeaseId } from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as Time from "../src/internal/time.ts"
import * as Etcd from "./support/client/etcd.ts"
import * as Stub from "./support/lease/stubClient.ts"
import { standStill } from "./support/machine.ts"

const real = Context.get(Context.empty(), Time.Time)

const service = Effect.fnUntraced(function* (endpoint: string) {
  const client = yield* EtcdClient.make({ endpoints: [endpoint] })
  return { client, leases: yield* EtcdLease.fromClient(client) }
})

const isThere = (leases: EtcdLease.Service, { id }: EtcdLease.Lease) =>
  Effect.map(leases.list(), (ids) => ids.includes(id))

/** Waits until a lease that nobody renews has come and gone. */
const aLifetime = Effect.fnUntraced(function* (leases: EtcdLease.Service, ttl: Duration.Input) {
  const { id } = yield* leases.grant(ttl)
  while ((yield* leases.list()).includes(id)) yield* Time.sleep(real, 50)
})

const isLost = (lease: EtcdLease.Lease) =>
  Effect.map(lease.remaining, (remaining) => Duration.toMillis(remaining) === 0)

/** Sets the wall clock by an hour, back and forth, until the scope closes. */
const wallClockSteps = Effect.acquireRelease(
  Effect.sync(() => {
    const { now } = Date
    let hours = 0
    Date.now = () => now() + hours * 3_600_000
    const timer = setInterval(() => {
      hours = hours === 1 ? -1 : hours + 1
    }, 30)
    return () => {
      clearInterval(timer)
      Date.now = now
    }
  }),
  (stop) => Effect.sync(stop)
)

describe("the time of a lease", () => {
  it.effect("is real where the program's clock never moves, and where it jumps", () =>
    Effect.gen(function* () {
      const node = yield* TestClock.withLive(Etcd.node())
      const { client, leases } = yield* service(node.endpoint)
      const lease = yield* leases.make("2 seconds")
      yield* EtcdKv.fromClient(client).put("clock", "", { lease: lease.id })
      yield* aLifetime(leases, lease.ttl)
      assert.isTrue(yield* isThere(leases, lease))
      assert.isFalse(yield* isLost(lease))
      yield* TestClock.adjust("1 day")
      yield* aLifetime(leases, lease.ttl)
      assert.isFalse(yield* isLost(lease))
      assert.deepStrictEqual(yield* EtcdKv.fromClient(client).getString("clock"), Option.some(""))
      const scope = yield* Scope.make()
      yield* Scope.provide(leases.make("2 seconds"), scope)
      // Nor does the program's clock count where etcd is gone and the lease cannot be revoked.
      yield* node.kill
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* lease.lost).reason, "not-renewed")
    })
  )

  it.live("goes on when the wall clock is set", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      yield* wallClockSteps
      const { leases } = yield* service(node.endpoint)
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(leases.make("2 seconds"), scope)
      yield* aLifetime(leases, lease.ttl)
      assert.isFalse(yield* isLost(lease))
      assert.isTrue(yield* isThere(leases, lease))
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(yield* isThere(leases, lease))
    })
  )

  it.live("goes on when the wall clock is set back by an hour while etcd is started again", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const { leases } = yield* service(node.endpoint)
      const lease = yield* leases.make("6 seconds")
      const work = yield* Effect.forkChild(lease.whileHeld(Effect.never))
      // The keep-alive is due while etcd is away.
      while (Duration.toMillis(yield* lease.remaining) > 4300) yield* Time.sleep(real, 20)
      yield* node.kill
      yield* Time.sleep(real, 700)
      const { now } = Date
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          Date.now = () => now() - 3_600_000
        }),
        () =>
          Effect.sync(() => {
            Date.now = now
          })
      )
      yield* node.start
      while (Duration.toMillis(yield* lease.remaining) < 4300) {
        yield* Time.sleep(real, 20)
        assert.strictEqual(work.pollUnsafe(), undefined)
      }
      assert.isAtMost(Duration.toMillis(yield* lease.remaining), Duration.toMillis(lease.ttl))
      assert.isTrue(yield* isThere(leases, lease))
    })
  )

  it.effect("is real where a call has a deadline, or gets none from its caller", () =>
    Effect.gen(function* () {
      const stub = Stub.make()
      stub.grants.push("silent")
      const leases = yield* EtcdLease.fromClient(stub.client)
      const made = yield* Effect.flip(leases.make("1 seconds", { deadline: "30 millis" }))
      assert.strictEqual(made.reason._tag, "DeadlineExceeded")
      const kept = yield* Effect.flip(leases.keepAlive(LeaseId(7n), { deadline: "30 millis" }))
      assert.strictEqual(kept.reason._tag, "DeadlineExceeded")
    })
  )

  it.live("is not that of the wall where a grant is tried again", () =>
    Effect.gen(function* () {
      yield* wallClockSteps
      const stub = Stub.make()
      stub.grants.push("broken", "broken", "broken", "broken", "broken")
      const leases = yield* EtcdLease.fromClient(stub.client)
      const lease = yield* leases.make("1 minute")
      assert.deepStrictEqual(stub.granted, [{ id: lease.id, ttl: 60n }])
    })
  )
})

describe("a process that stands still", () => {
  /** A lease of which a keep-alive is answered while this process stands still, which it does for so long. */
  const standingStill = Effect.fnUntraced(function* (ttl: Duration.Input, millis: number) {
    const node = yield* Etcd.node()
    const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
    let stoodStill = 0
    const once = Effect.gen(function* () {
      if (stoodStill > 0) return
      stoodStill = performance.now()
      yield* node.pause
      setTimeout(() => {
        // The keep-alive is on its way by now.
        Effect.runSync(node.resume)
        Effect.runSync(standStill(millis))
        stoodStill = performance.now()
      }, 20)
    })
    const bidirectional = (method: any, options: any) =>
      Effect.map(client.bidirectional(method, options), (duplex) => ({
        ...duplex,
        send: (message: any) => Effect.andThen(once, duplex.send(message))
      }))
    const leases = yield* EtcdLease.fromClient({ ...client, bidirectional } as EtcdClient.Client)
    const lease = yield* leases.make(ttl)
    const work = yield* Effect.forkChild(lease.whileHeld(Effect.never))
    const before = performance.now()
    while (stoodStill < before + millis) yield* Time.sleep(real, 1)
    return { leases, lease, work }
  })

  it.live("takes the answer that came meanwhile, and holds the lease, though its old time has passed", () =>
    Effect.gen(function* () {
      // Sent after a third of the time to live; what is over then is the term of the grant, not that of the answer.
      const { lease, leases, work } = yield* standingStill("3 seconds", 2300)
      assert.isAbove(Duration.toMillis(yield* lease.remaining), 0)
      yield* aLifetime(leases, "3 seconds")
      assert.isTrue(yield* isThere(leases, lease))
      assert.strictEqual(work.pollUnsafe(), undefined)
    })
  )

  it.live("beyond the deadline of what it asked for takes the answer that came meanwhile", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const { leases } = yield* service(node.endpoint)
      const { id } = yield* leases.grant("1 minute")
      const options = { deadline: "300 millis" } as const
      const calls: ReadonlyArray<Effect.Effect<{ readonly id: LeaseId }, EtcdError.EtcdError, Scope.Scope>> = [
        leases.make("1 minute", options),
        leases.keepAlive(id, options),
        leases.keepAliveOnce(id, options)
      ]
      for (const call of calls) {
        const calling = yield* Effect.forkChild(call, { startImmediately: true })
        // It is sent in this turn of the event loop, or in one of the next.
        for (let turn = 0; turn < 3; turn++) yield* Time.reading
        yield* standStill(600)
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(calling)))
      }
    })
  )

  it.live("longer than the lease lives knows it as soon as anybody looks", () =>
    Effect.gen(function* () {
      const { lease } = yield* standingStill("1 seconds", 1500)
      assert.strictEqual(Duration.toMillis(yield* lease.remaining), 0)
      const lost = yield* Effect.flip(lease.whileHeld(Effect.die("must not run")))
      assert.strictEqual(lost.reason, "not-renewed")
    })
  )

  it.live("does not succeed in what it did while it did not hold the lease any more", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const { leases } = yield* service(node.endpoint)
      const lease = yield* leases.make("1 seconds")
      const lost = yield* Effect.flip(lease.whileHeld(standStill(1100)))
      assert.strictEqual(lost.reason, "not-renewed")
    })
  )
})

describe("granting", () => {
  it.live("gives a lease that is held, however long etcd took to grant it", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const { leases } = yield* service(node.endpoint)
      yield* leases.list()
      yield* node.pause
      const making = yield* Effect.forkChild(leases.make("2 seconds"))
      yield* Time.sleep(real, 2200)
      yield* node.resume
      const lease = yield* Fiber.join(making)
      assert.isFalse(yield* isLost(lease))
      yield* aLifetime(leases, lease.ttl)
      assert.isFalse(yield* isLost(lease))
      assert.isTrue(yield* isThere(leases, lease))
    })
  )

  it.live("gives a lease that is held, however long etcd was away", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const { leases } = yield* service(node.endpoint)
      yield* leases.list()
      yield* node.kill
      const making = yield* Effect.forkChild(leases.make("2 seconds"))
      yield* Time.sleep(real, 2200)
      yield* node.start
      const lease = yield* Fiber.join(making)
      assert.isFalse(yield* isLost(lease))
      assert.isTrue(yield* isThere(leases, lease))
    })
  )
})
