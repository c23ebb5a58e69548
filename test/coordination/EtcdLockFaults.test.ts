/**
 * Locks while things go wrong: between the program and etcd, in etcd, and in what runs under them.
 */
import * as NodeFs from "node:fs"
import * as NodePath from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdBarrier from "../../src/coordination/EtcdBarrier.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSemaphore from "../../src/coordination/EtcdSemaphore.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdId from "../../src/EtcdId.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as Inside from "../../src/internal/coordination/session.ts"
import type * as Rpc from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import * as EtcdClock from "../../src/testing/EtcdClock.ts"
import * as EtcdFaults from "../../src/testing/EtcdFaults.ts"
import * as Etcd from "../support/client/etcd.ts"
import { faulty, held as heldBack } from "../support/coordination/faults.ts"
import { reasonOf, start } from "../support/effects.ts"
import { freePort, startAgain, temporaryDirectory, until } from "../support/machine.ts"
import { relay } from "../support/relay.ts"
import { turns } from "../support/time.ts"

const make = (options?: EtcdSession.Options, client?: EtcdClient.Client) =>
  Effect.flatMap(EtcdClient.EtcdClient, (own) => EtcdSession.fromClient(client ?? own, options))

const within = (session: EtcdSession.Service) => Effect.provideService(EtcdSession.EtcdSession, session)

/** Until the line of a lock has so many. */
const queued = (lock: EtcdLock.Lock, count: number) =>
  EtcdLock.line(lock).pipe(Effect.repeat({ until: (line) => line.length === count }))

/** Work that says what it holds, and goes on for ever. */
const holding = (inside: Deferred.Deferred<EtcdLock.Held>) =>
  Effect.andThen(
    Effect.flatMap(EtcdLock.Held, (held) => Deferred.succeed(inside, held)),
    Effect.never
  )

const lossOf = (fiber: Fiber.Fiber<unknown, unknown>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), (error) => {
    assert.instanceOf(error, EtcdLock.LockLost)
    return error as EtcdLock.LockLost
  })

/** A session over a node of the test's own. */
const connected = Effect.fnUntraced(function* (endpoint: string, options?: EtcdSession.Options) {
  const client = yield* EtcdClient.make({ endpoints: [endpoint] })
  return { kv: EtcdKv.fromClient(client), session: yield* EtcdSession.fromClient(client, options) }
})

/** Counts the watches that a server has taken. */
const watching = (client: EtcdClient.Client) => {
  let count = 0
  const seen = (message: object) =>
    Effect.sync(() => {
      if ("created" in message && message.created === true) count++
    })
  const own: EtcdClient.Client = {
    ...client,
    bidirectional: (method, options) =>
      Effect.map(client.bidirectional(method, options), (duplex) => ({
        ...duplex,
        messages: Stream.tap(duplex.messages, seen)
      }))
  }
  return { client: own, watches: () => count }
}

/** A client whose new watches are taken by a member that lags behind: it has yet to hear of what has happened since. */
const lagging = (client: EtcdClient.Client, since: bigint) => {
  let told = 0
  const late = (message: any) => {
    told += message.events?.length ?? 0
    return message.created === true ? { ...message, header: { ...message.header, revision: since } } : message
  }
  const early = (message: any) =>
    message.requestUnion?.case === "createRequest"
      ? { requestUnion: { case: "createRequest", value: { ...message.requestUnion.value, startRevision: since + 1n } } }
      : message
  const own: EtcdClient.Client = {
    ...client,
    bidirectional: (method, options) =>
      Effect.map(client.bidirectional(method, options), (duplex) => ({
        ...duplex,
        send: (message) => duplex.send(early(message)),
        messages: Stream.map(duplex.messages, late)
      }))
  }
  return { client: own, told: () => told }
}

describe("EtcdLock", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }), { excludeTestServices: true })((it) => {
    it.effect("is lost when somebody puts its key without the lease, with which others take it for no place", () =>
      Effect.gen(function* () {
        const [one, other] = [yield* make(), yield* make()]
        const lock = EtcdLock.make("faults/put-over")
        const inside = yield* Deferred.make<EtcdLock.Held>()
        const first = yield* start(EtcdLock.withLock(holding(inside), lock).pipe(within(one)))
        const held = yield* Deferred.await(inside)
        // As proclaiming a value does, which is no loss.
        const { id } = yield* one.current
        yield* EtcdKv.put(held.key, "another owner", { lease: id })
        const second = yield* start(EtcdLock.withLock(Effect.void, lock).pipe(within(other)))
        yield* queued(lock, 2)
        assert.isTrue(held.isHeldUnsafe())
        yield* EtcdKv.put(held.key, "by hand")
        assert.strictEqual((yield* lossOf(first)).reason, "deleted")
        yield* Fiber.join(second)
        yield* queued(lock, 0)
        const claimed = yield* EtcdLock.acquire(EtcdLock.make("faults/claimed")).pipe(within(one))
        assert.isTrue(yield* EtcdLock.check(claimed.sequencer))
        yield* EtcdKv.put(claimed.key, "by hand")
        assert.isFalse(yield* EtcdLock.check(claimed.sequencer))
      })
    )

    it.effect(
      "is not waited for behind a key that somebody puts without its lease, whose holder cannot take it away",
      () =>
        Effect.gen(function* () {
          const { client, watches } = watching(yield* EtcdClient.EtcdClient)
          const session = yield* make({}, client)
          const theirs = yield* (yield* make()).current
          const key = `faults/left-over/${EtcdId.format(theirs.id)}`
          yield* EtcdKv.put(key, "theirs", { lease: theirs.id })
          const lock = EtcdLock.make("faults/left-over")
          const waiting = yield* start(EtcdLock.withLock(Effect.succeed("mine"), lock).pipe(within(session)))
          // Of its own key, and of the one before.
          yield* Effect.repeat(Effect.sync(watches), { until: (count) => count === 2 })
          yield* EtcdKv.put(key, "as proclaiming a value does", { lease: theirs.id })
          yield* EtcdKv.put(key, "by hand")
          assert.strictEqual(yield* Fiber.join(waiting), "mine")
          assert.strictEqual(yield* EtcdLock.withLock(Effect.succeed("again"), lock).pipe(within(session)), "again")
        })
    )

    it.effect("has a key with another name where somebody has put one with its own", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const lease = EtcdId.format((yield* session.current).id)
        yield* EtcdKv.put(`faults/taken/${lease}`, "somebody's")
        const lock = EtcdLock.make("faults/taken")
        for (const number of [1, 2]) {
          const held = yield* EtcdLock.withLock(EtcdLock.Held, lock).pipe(within(session))
          assert.strictEqual(held.key, `faults/taken/${lease}.${number}`)
        }
        assert.deepStrictEqual(yield* EtcdKv.getString(`faults/taken/${lease}`), Option.some("somebody's"))
      })
    )

    it.effect("is not given to who waited with the lease that is revoked, as all its keys are gone at once", () =>
      Effect.gen(function* () {
        for (let n = 0; n < 5; n++) {
          const session = yield* make()
          const lock = EtcdLock.make(`faults/revoked-${n}`)
          const inside = yield* Deferred.make<EtcdLock.Held>()
          const first = yield* start(EtcdLock.withLock(holding(inside), lock).pipe(within(session)))
          yield* Deferred.await(inside)
          const second = yield* start(
            EtcdLock.withLock(
              Effect.flatMap(EtcdLock.Held, ({ sequencer }) => EtcdLock.check(sequencer)),
              lock
            ).pipe(within(session))
          )
          yield* queued(lock, 2)
          yield* Effect.sleep(n * 10)
          const { id } = yield* session.current
          yield* EtcdLease.EtcdLease.pipe(Effect.flatMap((leases) => leases.revoke(id)))
          assert.include(["deleted", "not-found"], (yield* lossOf(first)).reason)
          assert.isTrue(yield* Fiber.join(second))
          assert.strictEqual((yield* session.current).incarnation, 2)
        }
      }).pipe(
        Effect.provideServiceEffect(
          EtcdLease.EtcdLease,
          Effect.flatMap(EtcdClient.EtcdClient, (client) => EtcdLease.fromClient(client))
        )
      )
    )

    it.effect("is not lost when it cannot be looked at for a moment whether its key is there", () =>
      Effect.gen(function* () {
        const root = yield* EtcdClient.EtcdClient
        const client = faulty(root)
        const mayWatch = Latch.makeUnsafe()
        const session = yield* make(
          {},
          {
            ...client.client,
            bidirectional: (method, options) => Effect.andThen(mayWatch.await, root.bidirectional(method, options))
          }
        )
        const held = yield* EtcdLock.acquire(EtcdLock.make("faults/looked-at")).pipe(within(session))
        client.fates.Range = ["never", "never"]
        // There is something between the join and the watch, so that it is looked.
        yield* EtcdKv.put("faults/other", "")
        yield* mayWatch.open
        yield* Effect.repeat(
          Effect.sync(() => client.fates.Range),
          { until: (fates) => fates?.length === 0 }
        )
        assert.isTrue(held.isHeldUnsafe())
        yield* EtcdKv.delete(held.key)
        assert.strictEqual((yield* held.lost).reason, "deleted")
      })
    )

    it.effect("is not handed on within a program in a store that has gone back", () =>
      Effect.gen(function* () {
        const root = yield* EtcdClient.EtcdClient
        let goesBack = false
        const session = yield* make(
          {},
          {
            ...root,
            unary: (method, request, options) =>
              Effect.map(root.unary(method, request, options), (answer) => {
                const { header, responses } = answer as Partial<Rpc.TxnResponse>
                if (!goesBack || responses?.[0]?.response.case !== "responseDeleteRange") return answer
                goesBack = false
                return { ...answer, header: { ...header, revision: 1n } }
              })
          }
        )
        const lock = EtcdLock.make("faults/handed-on")
        const scope = yield* Scope.make()
        yield* EtcdLock.acquire(lock).pipe(within(session), Scope.provide(scope))
        const next = yield* start(EtcdLock.withLock(EtcdLock.Held, lock).pipe(within(session)))
        const [, waiter] = yield* queued(lock, 2)
        goesBack = true
        yield* Scope.close(scope, Exit.void)
        const { acquiredRevision, token } = yield* Fiber.join(next)
        assert.isTrue(acquiredRevision >= token)
        // Whether its key is in that store, who waits does not know, and stands in line anew.
        assert.isTrue(token > waiter!.token)
      })
    )

    // A lock looks at its own key, and a permit at the whole line.
    const plain = { message: "as the server says", outcome: "not-applied" } as const
    for (const [what, failure, reason] of [
      ["is asked too much", new EtcdError.TooManyRequests(plain), undefined],
      ["cannot be trusted, which somebody may mend", new EtcdError.Unreachable({ ...plain, lasting: true }), undefined],
      ["cancels what it is asked", new EtcdError.Canceled({ ...plain, outcome: "unknown" }), undefined],
      ["is of another cluster", new EtcdError.ClusterIdMismatch(plain), "regressed"],
      ["has gone back", new EtcdError.RevisionRegressed({ ...plain, seen: 9n, current: 3n }), "regressed"],
      ["does not allow it any more", new EtcdError.PermissionDenied(plain), "unwatched"],
      ["asks who this is, who has no name", new EtcdError.UserNameEmpty(plain), "unwatched"]
    ] as const) {
      it.effect(`${reason === undefined ? "rides it out" : `is ${reason}`}, as permits are, when etcd ${what}`, () =>
        Effect.gen(function* () {
          const root = yield* EtcdClient.EtcdClient
          const mayWatch = Latch.makeUnsafe()
          let [refused, isRefusing] = [0, true]
          const session = yield* make(
            {},
            {
              ...root,
              bidirectional: (method, options) => Effect.andThen(mayWatch.await, root.bidirectional(method, options)),
              unary: (method, request, options) =>
                Effect.suspend(() => {
                  if (!isRefusing || method.name !== "Range") return root.unary(method, request, options)
                  refused++
                  return Effect.fail(EtcdError.make(failure))
                })
            }
          )
          const name = `faults/looks/${failure._tag}/${reason}`
          const lock = yield* EtcdLock.acquire(EtcdLock.make(name)).pipe(within(session))
          const semaphore = EtcdSemaphore.make(`${name}/permits`, { permits: 2 })
          const permit = yield* EtcdSemaphore.takeScoped(semaphore, 1).pipe(within(session))
          // There is something between the join and the watch, so that it is looked.
          yield* EtcdKv.put("faults/other", "")
          yield* mayWatch.open
          if (reason !== undefined) {
            assert.strictEqual((yield* lock.lost).reason, reason)
            assert.strictEqual((yield* permit.lost).reason, reason)
            return
          }
          yield* Effect.repeat(Effect.sleep(1), { until: () => Effect.succeed(refused >= 4) })
          assert.isTrue(lock.isHeldUnsafe() && permit.isHeldUnsafe())
          isRefusing = false
          for (const { key } of [lock, permit]) yield* EtcdKv.delete(key)
          assert.strictEqual((yield* lock.lost).reason, "deleted")
          assert.strictEqual((yield* permit.lost).reason, "deleted")
        })
      )
    }

    it.effect("goes on waiting when the line cannot be read for a moment", () =>
      Effect.gen(function* () {
        const root = faulty(yield* EtcdClient.EtcdClient)
        const [one, other] = [yield* make(), yield* make({}, root.client)]
        const lock = EtcdLock.make("faults/unread")
        const [first, second] = [yield* Scope.make(), yield* Scope.make()]
        yield* Scope.provide(EtcdLock.acquire(lock), first).pipe(within(one))
        const between = yield* start(Scope.provide(EtcdLock.acquire(lock), second).pipe(within(one)))
        yield* queued(lock, 2)
        const waiting = yield* start(EtcdLock.withLock(Effect.succeed("mine"), lock).pipe(within(other)))
        yield* queued(lock, 3)
        root.fates.Range = ["never", "lost", "never"]
        yield* Scope.close(first, Exit.void)
        yield* Fiber.join(between)
        yield* Scope.close(second, Exit.void)
        assert.strictEqual(yield* Fiber.join(waiting), "mine")
        assert.strictEqual(root.fates.Range.length, 0)
      })
    )

    it.effect("is neither lost nor had by what a member tells that lags behind", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("faults/other", "")
        const member = lagging(yield* EtcdClient.EtcdClient, header.revision)
        const [one, other] = [yield* make({}, member.client), yield* make({}, member.client)]
        const lock = EtcdLock.make("faults/lagging")
        // The key has been there before.
        yield* EtcdLock.withLock(Effect.void, lock).pipe(within(one))
        const scope = yield* Scope.make()
        const held = yield* Scope.provide(EtcdLock.acquire(lock), scope).pipe(within(one))
        let isGivenBack = false
        const waiting = yield* start(
          EtcdLock.withLock(
            Effect.sync(() => isGivenBack),
            lock
          ).pipe(within(other))
        )
        // Both have heard of three revisions of the first key, and of the second key.
        yield* Effect.repeat(Effect.sync(member.told), { until: (count) => count >= 7 })
        yield* turns(10)
        assert.isTrue(held.isHeldUnsafe())
        isGivenBack = true
        yield* Scope.close(scope, Exit.void)
        assert.isTrue(yield* Fiber.join(waiting))
      })
    )

    it.effect(
      "is not had by who sees a key go that is a later one of that name, and had lost its own with the first",
      () =>
        Effect.gen(function* () {
          const reading = heldBack(yield* EtcdClient.EtcdClient, "Range")
          const mayWatch = Latch.makeUnsafe()
          let deletions = 0
          const count = (message: any) =>
            Effect.sync(() => {
              deletions += message.events?.length ?? 0
            })
          const { client, watches } = watching({
            ...reading.client,
            bidirectional: (method, options) =>
              Effect.map(Effect.andThen(mayWatch.await, reading.client.bidirectional(method, options)), (duplex) => ({
                ...duplex,
                messages: Stream.tap(duplex.messages, count)
              }))
          })
          const [one, other] = [yield* make(), yield* make({}, client)]
          const lock = EtcdLock.make("faults/again")
          const { key } = yield* EtcdLock.acquire(lock).pipe(within(one))
          let isIn = false
          const work = Effect.sync(() => {
            isIn = true
          })
          const waiting = yield* start(EtcdLock.withLock(work, lock).pipe(within(other)))
          yield* queued(lock, 2)
          yield* EtcdKv.delete(KeyRange.prefix("faults/again/"))
          yield* EtcdKv.put(key, "again", { lease: (yield* one.current).id })
          yield* mayWatch.open
          // What was there when its watches began is not known yet.
          yield* Effect.repeat(
            Effect.sync(() => watches() === 2 && reading.waiting() === 2),
            { until: (isSo) => isSo }
          )
          yield* EtcdKv.delete(key)
          yield* Effect.repeat(
            Effect.sync(() => deletions),
            { until: (count) => count > 0 }
          )
          yield* turns(10)
          assert.isFalse(isIn)
          // It comes in with another key.
          yield* reading.go
          yield* Fiber.join(waiting)
          assert.isTrue(isIn)
        })
    )

    it.effect("keeps the place in the line while the history is compacted", () =>
      Effect.gen(function* () {
        const [one, other] = [yield* make(), yield* make()]
        const lock = EtcdLock.make("faults/compacted")
        const scope = yield* Scope.make()
        yield* Scope.provide(EtcdLock.acquire(lock), scope).pipe(within(one))
        const waiting = yield* start(
          EtcdLock.withLock(
            Effect.map(EtcdLock.Held, ({ token }) => token),
            lock
          ).pipe(within(other))
        )
        const [, waiter] = yield* queued(lock, 2)
        for (let n = 0; n < 10; n++) yield* EtcdKv.put("faults/other", String(n))
        const { header } = yield* EtcdKv.put("faults/other", "")
        yield* EtcdKv.compact(header.revision)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* Fiber.join(waiting), waiter?.token)
      })
    )

    it.effect("does not begin its work when the time of its session was over while the process stood still", () =>
      Effect.gen(function* () {
        const clock = yield* EtcdClock.make
        const client = { ...(yield* EtcdClient.EtcdClient), bidirectional: () => Effect.never }
        const session = yield* clock.by(make({}, client))
        const other = yield* make()
        const lock = EtcdLock.make("faults/stood-still")
        const scope = yield* Scope.make()
        yield* Scope.provide(EtcdLock.acquire(lock), scope).pipe(within(other))
        const waiting = yield* start(
          EtcdLock.withLock(
            Effect.map(EtcdLock.Held, ({ token }) => token),
            lock
          ).pipe(within(session))
        )
        const [, waiter] = yield* queued(lock, 2)
        yield* clock.standStill(11_000)
        yield* Scope.close(scope, Exit.void)
        assert.isTrue((yield* Fiber.join(waiting)) > waiter!.token)
        assert.strictEqual((yield* session.current).incarnation, 2)
      })
    )

    it.effect("says for how long its work went on, and does then what is to be done about it, no sooner", () =>
      Effect.gen(function* () {
        const session = yield* make({ ttl: "5 seconds", margin: "50 millis" })
        const told = yield* Deferred.make<EtcdLock.LockLost>()
        let calls = 0
        const lock = EtcdLock.make("faults/overrun", {
          overrun: (lost) => {
            calls++
            return Effect.andThen(Deferred.succeed(told, lost), Effect.die("it breaks down itself"))
          }
        })
        const inside = yield* Deferred.make<EtcdLock.Held>()
        const quick = yield* start(EtcdLock.withLock(holding(inside), lock).pipe(within(session)))
        yield* EtcdKv.delete((yield* Deferred.await(inside)).key)
        assert.strictEqual(Duration.toMillis((yield* lossOf(quick)).overrun), 0)
        assert.strictEqual(calls, 0)
        const slow = yield* start(
          EtcdLock.withLock(
            Effect.uninterruptible(
              Effect.gen(function* () {
                yield* EtcdKv.delete((yield* EtcdLock.Held).key)
                yield* Deferred.await(told)
                yield* Effect.sleep(5)
                return yield* Effect.fail("too late")
              })
            ),
            EtcdLock.make("faults/overrun-fenced", {
              fence: false,
              overrun: (lost) => {
                calls++
                return Deferred.succeed(told, lost)
              }
            })
          ).pipe(within(session))
        )
        const exit = yield* Fiber.await(slow)
        assert.strictEqual(calls, 1)
        assert.isTrue(Exit.isFailure(exit))
        if (Exit.isSuccess(exit)) return
        const [lost, own] = exit.cause.reasons.filter(Cause.isFailReason).map(({ error }) => error)
        assert.instanceOf(lost, EtcdLock.LockLost)
        assert.isTrue(Duration.toMillis((lost as EtcdLock.LockLost).overrun) > 0)
        assert.strictEqual(own, "too late")
      })
    )

    it.effect("tells as well of work that takes its time to end when it is interrupted from outside", () =>
      Effect.gen(function* () {
        const session = yield* make({ ttl: "5 seconds", margin: "50 millis" })
        const told = yield* Deferred.make<EtcdLock.LockLost>()
        const [inside, ending] = [yield* Deferred.make<EtcdLock.Held>(), yield* Deferred.make<void>()]
        const cleaning = Effect.andThen(Deferred.succeed(ending, undefined), Deferred.await(told))
        const lock = EtcdLock.make("faults/overrun-ending", { overrun: (lost) => Deferred.succeed(told, lost) })
        const work = Effect.onInterrupt(holding(inside), () => cleaning)
        const fiber = yield* start(EtcdLock.withLock(work, lock).pipe(within(session)))
        const { key } = yield* Deferred.await(inside)
        yield* start(Fiber.interrupt(fiber))
        yield* Deferred.await(ending)
        yield* EtcdKv.delete(key)
        yield* Fiber.await(fiber)
        assert.strictEqual((yield* Deferred.await(told)).reason, "deleted")
      })
    )

    it.effect("tells of work that hangs when its session is closed", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(make(), scope)
        const told = yield* Deferred.make<EtcdLock.LockLost>()
        const lock = EtcdLock.make("faults/closing", { overrun: (lost) => Deferred.succeed(told, lost) })
        const inside = yield* Deferred.make<void>()
        const work = Effect.andThen(Deferred.succeed(inside, undefined), Deferred.await(told))
        const hanging = yield* start(EtcdLock.withLock(Effect.uninterruptible(work), lock).pipe(within(session)))
        yield* Deferred.await(inside)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* Deferred.await(told)).reason, "closed")
        assert.strictEqual((yield* lossOf(hanging)).reason, "closed")
      })
    )

    it.effect("waits for finalizers of its work that break down, and gives back after them", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const lock = EtcdLock.make("faults/finalizers")
        const inside = yield* Deferred.make<EtcdLock.Held>()
        const line = yield* Deferred.make<number>()
        const working = yield* holding(inside).pipe(
          Effect.ensuring(Effect.die("broken")),
          Effect.ensuring(
            EtcdLock.line(lock).pipe(
              Effect.flatMap(({ length }) => Deferred.succeed(line, length)),
              Effect.orDie
            )
          ),
          EtcdLock.withLock(lock),
          within(session),
          start
        )
        yield* Deferred.await(inside)
        yield* Fiber.interrupt(working)
        assert.strictEqual(yield* Deferred.await(line), 1)
        assert.deepStrictEqual(yield* EtcdLock.line(lock), [])
        assert.isTrue(Exit.hasDies(yield* Fiber.await(working)))
      })
    )

    it.effect("is no use when it has been given back", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const held = yield* EtcdLock.acquire(EtcdLock.make("faults/after")).pipe(Effect.scoped, within(session))
        assert.isFalse(held.isHeldUnsafe())
        assert.isTrue(Duration.isZero(yield* held.remaining))
        assert.strictEqual((yield* held.lost).reason, "released")
        assert.isFalse(yield* EtcdLock.check(held.sequencer))
        const refused = yield* Effect.flip(held.commit(EtcdTxn.put("faults/after-all", "")))
        assert.strictEqual(refused._tag, "LockLost")
        assert.isTrue(Option.isNone(yield* EtcdKv.get("faults/after-all")))
      })
    )

    it.effect("is refused to work that would wait for itself, by another session too, and not when that is over", () =>
      Effect.gen(function* () {
        const [one, other] = [yield* make(), yield* make()]
        const lock = EtcdLock.make("faults/again")
        const again = EtcdLock.withLock(Effect.succeed("again"), lock)
        const gate = yield* Deferred.make<void>()
        const later = yield* EtcdLock.withLock(
          Effect.gen(function* () {
            for (const session of [one, other]) {
              const refused = yield* Effect.flip(again.pipe(within(session)))
              assert.strictEqual(refused._tag === "EtcdError" ? refused.reason._tag : "", "InvalidArgument")
            }
            return yield* Effect.forkDetach(Effect.andThen(Deferred.await(gate), again.pipe(within(one))))
          }),
          lock
        ).pipe(within(one))
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* Fiber.join(later), "again")
      })
    )

    it.effect("is refused to work whose caller has acquired it, and waits for the work", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const [lock, around] = [EtcdLock.make("faults/callers"), EtcdLock.make("faults/around")]
        const scope = yield* Scope.make()
        const acquired = EtcdLock.acquire(lock).pipe(within(session))
        yield* Scope.provide(acquired, scope)
        const inside = <A, E>(work: Effect.Effect<A, E>) => EtcdLock.withLock(work, around).pipe(within(session))
        const refused = yield* Effect.flip(inside(Effect.scoped(acquired)))
        assert.strictEqual(refused._tag === "EtcdError" ? refused.reason._tag : "", "InvalidArgument")
        yield* Scope.close(scope, Exit.void)
        yield* inside(Effect.scoped(acquired))
      })
    )

    it.effect("takes names and owners as they are", () =>
      Effect.gen(function* () {
        const [one, other] = [yield* make(), yield* make()]
        for (const name of ["ä/日本/🔒", "\ufeffmark", " ", "a".repeat(4000), "a//b", "..", "%2F", "a.1", "1/2"]) {
          const lock = EtcdLock.make(name, { owner: `${name}\0` })
          yield* Effect.gen(function* () {
            yield* EtcdLock.acquire(lock).pipe(within(one))
            const [waiter] = yield* queued(lock, 1)
            assert.strictEqual(waiter?.owner, `${name}\0`)
            assert.isTrue(
              Option.isNone(yield* EtcdLock.withLockIfAvailable(Effect.void, EtcdLock.make(name)).pipe(within(other)))
            )
          }).pipe(Effect.scoped)
          assert.deepStrictEqual(yield* EtcdLock.line(lock), [])
        }
        const huge = EtcdLock.make("faults/huge", { owner: "x".repeat(3_000_000) })
        const refused = yield* reasonOf(Effect.scoped(EtcdLock.acquire(huge)).pipe(within(one)))
        assert.strictEqual(refused._tag, "RequestTooLarge")
        assert.strictEqual(Inside.of(one).holders.size, 0)
      })
    )

    it.effect("leaves nothing in the session, however often it was held, and however many waited in vain", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const { entries, holders, incarnations } = Inside.of(session)
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => n),
          (n) => EtcdLock.withLock(Effect.void, EtcdLock.make(`faults/often-${n % 75}`)).pipe(within(session)),
          { concurrency: 20, discard: true }
        )
        const lock = EtcdLock.make("faults/many")
        const first = yield* start(EtcdLock.withLock(Effect.never, lock).pipe(within(session)))
        yield* queued(lock, 1)
        const waiting = yield* Effect.forEach(Array.from({ length: 50 }), () =>
          start(EtcdLock.withLock(Effect.never, lock).pipe(within(session)))
        )
        yield* queued(lock, 51)
        yield* Fiber.interruptAll([...waiting, first])
        yield* queued(lock, 0)
        assert.strictEqual(holders.size, 0)
        const [only, ...others] = [...incarnations]
        assert.deepStrictEqual(others, [])
        // Who had not heard yet that it had joined leaves in the background.
        yield* until(() => only?.dependents.size === 0)
        assert.strictEqual(entries.size, 0)
        assert.strictEqual(only?.keys.size, 0)
        assert.strictEqual(only?.sweeping.size, 0)
      })
    )
  })

  it.live(
    "is lost, as permits are, when its key goes before that is watched for, though the member of its program is heard by nobody",
    () =>
      Effect.gen(function* () {
        const faults = yield* EtcdFaults.EtcdFaults
        const leader = yield* faults.cluster.awaitLeader
        const members = SubscriptionRef.getUnsafe(faults.cluster.members)
        const [own, other] = members.filter((node) => node !== leader)
        const root = yield* EtcdClient.make({ endpoints: own!.endpoints })
        const mayWatch = Latch.makeUnsafe()
        const session = yield* EtcdSession.fromClient(
          {
            ...root,
            bidirectional: (method, options) =>
              method.name === "Watch"
                ? Effect.andThen(mayWatch.await, root.bidirectional(method, options))
                : root.bidirectional(method, options)
          },
          { ttl: "1 minute" }
        )
        const lock = yield* EtcdLock.acquire(EtcdLock.make("unheard/lock")).pipe(within(session))
        const permits = EtcdSemaphore.make("unheard/permits", { permits: 1 })
        const permit = yield* EtcdSemaphore.takeScoped(permits, 1).pipe(within(session))
        yield* faults.block(own!, [leader, other!])
        const heard = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints: leader.endpoints }))
        const { header } = yield* heard.deletePrefix("unheard/")
        // It hears of that, and can tell nobody but its clients.
        const near = EtcdKv.fromClient(root).range("unheard", { serializable: true })
        yield* Effect.repeat(near, { until: ({ header: { revision } }) => revision >= header.revision })
        yield* mayWatch.open
        assert.strictEqual((yield* lock.lost).reason, "deleted")
        assert.strictEqual((yield* permit.lost).reason, "deleted")
        yield* faults.heal
      }).pipe(Effect.provide(EtcdFaults.layer({ log: false })), Effect.provide(NodeServices.layer), Effect.scoped)
  )

  it.live("is lost when etcd stands still for too long, and not for a moment", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const { session } = yield* connected(node.endpoint, { ttl: "3 seconds" })
      const patient = yield* connected(node.endpoint, { ttl: "1 minute" })
      const inside = yield* Deferred.make<EtcdLock.Held>()
      const first = yield* start(EtcdLock.withLock(holding(inside), EtcdLock.make("paused")).pipe(within(session)))
      const held = yield* Deferred.await(inside)
      const other = yield* EtcdLock.acquire(EtcdLock.make("patient")).pipe(within(patient.session))
      yield* node.pause
      yield* Effect.sleep(300)
      assert.isTrue(held.isHeldUnsafe())
      const lost = yield* lossOf(first)
      assert.strictEqual(lost.reason, "not-renewed")
      assert.isTrue(Duration.isZero(lost.overrun))
      yield* node.resume
      yield* EtcdLock.acquire(EtcdLock.make("paused")).pipe(within(patient.session))
      assert.isTrue(other.isHeldUnsafe())
      assert.strictEqual((yield* session.current).incarnation, 2)
    })
  )

  it.live("is not to be had when the space is used up, and what is held can be kept and given back", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node({ flags: ["--quota-backend-bytes", String(4 * 1024 * 1024)] })
      const { kv, session } = yield* connected(node.endpoint)
      const other = yield* connected(node.endpoint)
      const scope = yield* Scope.make()
      const lock = EtcdLock.make("held")
      const held = yield* Scope.provide(EtcdLock.acquire(lock), scope).pipe(within(session))
      const waiting = yield* start(EtcdLock.withLock(Effect.succeed("mine"), lock).pipe(within(other.session)))
      yield* EtcdLock.line(lock).pipe(
        Effect.provideService(EtcdKv.EtcdKv, kv),
        Effect.repeat({ until: (line) => line.length === 2 })
      )
      const value = "x".repeat(500_000)
      const full = yield* reasonOf(Effect.forever(kv.put("filling", value)))
      assert.strictEqual(full._tag, "NoSpace")
      // What is small may find space, until the alarm is raised.
      assert.strictEqual((yield* reasonOf(Effect.forever(kv.put("small", ""))))._tag, "NoSpace")
      const refused = yield* reasonOf(Effect.scoped(EtcdLock.acquire(EtcdLock.make("new"))).pipe(within(session)))
      assert.strictEqual(refused._tag, "NoSpace")
      assert.isTrue(held.isHeldUnsafe())
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(waiting), "mine")
      yield* EtcdLock.line(lock).pipe(
        Effect.provideService(EtcdKv.EtcdKv, kv),
        Effect.repeat({ until: (line) => line.length === 0 })
      )
    })
  )

  it.live("is lost, as permits are, when an older copy of its data takes the place of its store", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const [dataDir, backup] = [NodePath.join(directory, "data"), NodePath.join(directory, "backup")]
      const node = yield* EtcdProcess.ephemeral({ dataDir }, { log: false })
      const { kv, session } = yield* connected(node.endpoints[0]!, { ttl: "1 minute" })
      const acquire = (name: string, by = session) => EtcdLock.acquire(EtcdLock.make(name)).pipe(within(by))
      const take = (name: string, by = session) =>
        EtcdSemaphore.takeScoped(EtcdSemaphore.make(name, { permits: 1 }), 1).pipe(within(by))
      const before = [yield* acquire("kept"), yield* take("kept/permits")]
      yield* node.stop
      NodeFs.cpSync(dataDir, backup, { recursive: true })
      yield* startAgain(node)
      const waiting = yield* start(
        Effect.flip(
          EtcdLock.withLock(Effect.never, EtcdLock.make("kept")).pipe(within(session), Effect.timeout("1 minute"))
        )
      )
      const after = [yield* acquire("new"), yield* take("new/permits")]
      const root = yield* EtcdClient.make({ endpoints: node.endpoints })
      const mayWatch = Latch.makeUnsafe()
      let asked = 0
      const late: EtcdClient.Client = {
        ...root,
        bidirectional: (method, options) => {
          asked++
          return Effect.andThen(mayWatch.await, root.bidirectional(method, options))
        }
      }
      yield* kv.put("closed", "")
      const opening = yield* start(
        EtcdBarrier.latch("closed").await.pipe(
          Effect.provideService(EtcdKv.EtcdKv, kv),
          Effect.provideServiceEffect(EtcdWatch.EtcdWatch, EtcdWatch.fromClient(late))
        )
      )
      yield* Effect.repeat(
        Effect.sync(() => asked),
        { until: (count) => count === 1 }
      )
      const lately = EtcdSession.fromClient(late, { ttl: "1 minute" })
      const unwatched = [yield* acquire("unwatched", yield* lately), yield* take("unwatched/permits", yield* lately)]
      for (let n = 0; n < 20; n++) yield* kv.put("other", String(n))
      yield* node.signal("SIGKILL")
      yield* node.exit
      NodeFs.rmSync(dataDir, { recursive: true })
      NodeFs.cpSync(backup, dataDir, { recursive: true })
      yield* startAgain(node)
      yield* mayWatch.open
      for (const held of [...before, ...after, ...unwatched]) {
        assert.strictEqual((yield* held.lost).reason, "regressed")
        assert.isFalse(held.isHeldUnsafe())
      }
      // What was closed is not, in this store.
      yield* Fiber.join(opening)
      // The one that waited stands in line anew, and is not there twice.
      yield* EtcdLock.line(EtcdLock.make("kept")).pipe(
        Effect.provideService(EtcdKv.EtcdKv, kv),
        Effect.repeat({ until: (line) => line.length > 0 })
      )
      yield* Fiber.interrupt(waiting)
      yield* Effect.scoped(acquire("newer")).pipe(within(session))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("is lost when another cluster is found in the place of its own", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* Etcd.node(), yield* Etcd.node()]
      const port = yield* freePort
      const to = { host: "127.0.0.1", port: Number(new URL(one.endpoint).port) }
      yield* relay({ port, host: "127.0.0.1" }, to, (server, client) => server.pipe(client))
      const { session } = yield* connected(`http://127.0.0.1:${port}`, { ttl: "1 minute" })
      const inside = yield* Deferred.make<EtcdLock.Held>()
      const first = yield* start(EtcdLock.withLock(holding(inside), EtcdLock.make("moved")).pipe(within(session)))
      yield* Deferred.await(inside)
      to.port = Number(new URL(two.endpoint).port)
      yield* one.kill
      const { reason } = yield* lossOf(first)
      assert.include(["regressed", "not-found"], reason)
    })
  )
})
