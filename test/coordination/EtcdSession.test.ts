import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdAuth from "../../src/EtcdAuth.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as Inside from "../../src/internal/coordination/session.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import * as EtcdClock from "../../src/testing/EtcdClock.ts"
import { faulty, held } from "../support/coordination/faults.ts"
import { silencing } from "../support/coordination/silencing.ts"
import { reasonOf, start } from "../support/effects.ts"
import { standStill, until } from "../support/machine.ts"

const etcd = Layer.provideMerge(EtcdLease.layer, EtcdLayer.ephemeral({}, { log: false }))

/** A session over the node, or over what stands between. */
const make = (options?: EtcdSession.Options, client?: EtcdClient.Client) =>
  Effect.flatMap(EtcdClient.EtcdClient, (own) => EtcdSession.fromClient(client ?? own, options))

const within = (session: EtcdSession.Service) => Effect.provideService(EtcdSession.EtcdSession, session)

const valueOf = (key: string) => Effect.map(EtcdKv.getString(key), Option.getOrUndefined)

/** Waits until a key holds something, or is not there. */
const holds = (key: string, value: string | undefined) => Effect.repeat(valueOf(key), { until: (now) => now === value })

const isLive = (id: EtcdLease.Lease["id"]) => Effect.map(EtcdLease.list(), (ids) => ids.includes(id))

const millisLeft = (session: EtcdSession.Session) => Effect.map(session.remaining, Duration.toMillis)

describe("EtcdSession", () => {
  layer(etcd, { excludeTestServices: true })((it) => {
    it.effect("has one lease for all who ask, from when it is first needed", () =>
      Effect.gen(function* () {
        const client = faulty(yield* EtcdClient.EtcdClient)
        const session = yield* make({ ttl: "4500 millis" }, client.client)
        assert.strictEqual(client.calls.LeaseGrant, undefined)
        const all = yield* Effect.all(
          Array.from({ length: 10 }, () => session.current),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(client.calls.LeaseGrant, 1)
        assert.strictEqual(new Set(all.map(({ id }) => id)).size, 1)
        const [one] = all as [EtcdSession.Session]
        assert.strictEqual(one.incarnation, 1)
        assert.strictEqual(Duration.toSeconds(one.ttl), 5)
        assert.isTrue(one.isHeldUnsafe())
        const left = yield* millisLeft(one)
        assert.isTrue(left > 0 && left <= 4000)
        assert.strictEqual((yield* session.current).id, one.id)
      })
    )

    it.effect("asks again for a lease whose grant nobody heard of, and goes on where a caller has left", () =>
      Effect.gen(function* () {
        const slow = held(yield* EtcdClient.EtcdClient, "LeaseGrant")
        const client = faulty(slow.client)
        client.fates.LeaseGrant = ["lost"]
        const session = yield* make({}, client.client)
        const left = yield* start(session.current)
        const stays = yield* start(session.current)
        yield* Fiber.interrupt(left)
        yield* slow.go
        const { incarnation } = yield* Fiber.join(stays)
        assert.strictEqual(incarnation, 1)
      })
    )

    it.effect("is lost with its lease: what ran has ended when that is told, and the next one has another lease", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const first = yield* session.current
        let hasEnded = false
        const working = yield* Effect.never.pipe(
          Effect.onInterrupt(() =>
            Effect.andThen(
              Effect.sleep(20),
              Effect.sync(() => {
                hasEnded = true
              })
            )
          ),
          first.whileHeld,
          start
        )
        yield* EtcdLock.acquire(EtcdLock.make("session/revoked")).pipe(within(session))
        yield* EtcdLease.revoke(first.id)
        const lost = yield* Effect.flip(Fiber.join(working))
        assert.isTrue(hasEnded)
        assert.strictEqual(lost._tag, "SessionLost")
        assert.strictEqual(lost.reason, "not-found")
        assert.strictEqual(lost.incarnation, 1)
        assert.strictEqual((yield* first.lost).id, first.id)
        assert.isFalse(first.isHeldUnsafe())
        assert.strictEqual(yield* millisLeft(first), 0)
        assert.strictEqual((yield* Effect.flip(first.whileHeld(Effect.void)))._tag, "SessionLost")
        const second = yield* session.current
        assert.strictEqual(second.incarnation, 2)
        assert.notStrictEqual(second.id, first.id)
        assert.isTrue(second.isHeldUnsafe())
      })
    )

    it.effect("that is closed lets end what runs, revokes its lease, and refuses everything with a reason", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(make(), scope)
        const current = yield* session.current
        yield* EtcdKv.put("session/closing", "mine", { lease: current.id })
        let last: string | undefined
        const working = yield* Effect.never.pipe(
          Effect.onInterrupt(() =>
            Effect.sleep(30).pipe(
              Effect.andThen(valueOf("session/closing")),
              Effect.tap((value) =>
                Effect.sync(() => {
                  last = value
                })
              ),
              Effect.ignore
            )
          ),
          current.whileHeld,
          start
        )
        const lock = EtcdLock.make("session/closed")
        const other = yield* make()
        yield* EtcdLock.acquire(lock).pipe(within(other))
        const waiting = yield* start(EtcdLock.withLock(Effect.void, lock).pipe(within(session)))
        yield* EtcdLock.line(lock).pipe(Effect.repeat({ until: (line) => line.length === 2 }))
        yield* Scope.close(scope, Exit.void)
        const lost = yield* Effect.flip(Fiber.join(working))
        assert.strictEqual(lost.reason, "closed")
        assert.strictEqual(last, "mine")
        assert.isFalse(yield* isLive(current.id))
        assert.strictEqual((yield* EtcdLock.line(lock)).length, 1)
        const refused: ReadonlyArray<Effect.Effect<unknown, { readonly reason: unknown }>> = [
          Fiber.join(waiting) as never,
          session.current,
          Effect.scoped(session.keep("session/late", "")),
          Effect.scoped(EtcdLock.acquire(lock)).pipe(within(session)),
          EtcdLock.withLock(Effect.void, lock).pipe(within(session)) as never
        ]
        for (const effect of refused) {
          const reason = (yield* reasonOf(effect)) as { readonly _tag: string; readonly message: string }
          assert.strictEqual(reason._tag, "Unreachable")
          assert.include(reason.message, "The session is closed")
        }
      })
    )

    it.effect("warns of nothing when it is closed together with its client, in whichever order", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const lines: Array<unknown> = []
        const logger = Logger.make(({ logLevel, message }) => {
          if (logLevel === "Warn" || logLevel === "Error") lines.push(message)
        })
        for (const order of ["client first", "session first", "both at once"]) {
          yield* Effect.gen(function* () {
            const [ofClient, ofSession] = [yield* Scope.make(), yield* Scope.make()]
            const client = yield* Scope.provide(EtcdClient.make({ endpoints: node.endpoints }), ofClient)
            const session = yield* Scope.provide(EtcdSession.fromClient(client), ofSession)
            yield* Scope.provide(
              Effect.andThen(
                EtcdSession.keep(`together/${order}`, "1"),
                EtcdLock.acquire(EtcdLock.make(`together-${order}`))
              ),
              ofSession
            ).pipe(within(session))
            const scopes = order === "client first" ? [ofClient, ofSession] : [ofSession, ofClient]
            yield* Effect.forEach(scopes, (scope) => Scope.close(scope, Exit.void), {
              concurrency: order === "both at once" ? "unbounded" : 1
            })
          }).pipe(Effect.provideService(Logger.CurrentLoggers, new Set([logger])))
          assert.deepStrictEqual(lines, [], order)
        }
      })
    )

    it.effect("that is closed tells so who waits for its first lease", () =>
      Effect.gen(function* () {
        const slow = held(yield* EtcdClient.EtcdClient, "LeaseGrant")
        const scope = yield* Scope.make()
        const session = yield* Scope.provide(make({}, slow.client), scope)
        const waiting = yield* start(
          Effect.all([session.current, Effect.scoped(session.keep("session/early", ""))].map(reasonOf), {
            concurrency: "unbounded"
          })
        )
        yield* until(() => slow.waiting() > 0)
        const closing = yield* start(Scope.close(scope, Exit.void))
        for (const reason of yield* Fiber.join(waiting)) assert.include(reason.message, "The session is closed")
        yield* slow.go
        yield* Fiber.join(closing)
        assert.isUndefined(yield* valueOf("session/early"))
      })
    )

    it.effect("takes a lease that is there, and leaves it alone", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdLease.grant("20 seconds")
        const lock = EtcdLock.make("session/shared")
        const token = yield* Effect.scoped(
          Effect.gen(function* () {
            const [one, other] = [yield* make({ leaseId: id }), yield* make({ leaseId: id })]
            assert.strictEqual((yield* one.current).id, id)
            assert.strictEqual(Duration.toSeconds((yield* one.current).ttl), 20)
            // Both have the lease, and yet not the same place.
            const first = yield* EtcdLock.acquire(lock).pipe(within(one))
            const waiting = yield* start(Effect.scoped(EtcdLock.acquire(lock)).pipe(within(other)))
            const line = yield* EtcdLock.line(lock).pipe(Effect.repeat({ until: (line) => line.length === 2 }))
            assert.deepStrictEqual(
              line.map(({ lease }) => lease),
              [id, id]
            )
            yield* Fiber.interrupt(waiting)
            return first.token
          })
        )
        assert.isTrue(token > 0n)
        assert.isTrue(yield* isLive(id))
        assert.deepStrictEqual(yield* EtcdLock.line(lock), [])
        const short = yield* make({ leaseId: id, ttl: "1 minute", margin: "20 seconds" })
        assert.strictEqual((yield* reasonOf(short.current))._tag, "InvalidArgument")
        yield* EtcdLease.revoke(id)
        assert.strictEqual((yield* reasonOf((yield* make({ leaseId: id })).current))._tag, "LeaseNotFound")
      })
    )

    it.effect("removes what it has put with a lease that others keep on when it has lost it", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdLease.grant("20 seconds")
        const clock = yield* EtcdClock.make
        const client = faulty(yield* EtcdClient.EtcdClient)
        const session = yield* clock.by(make({ leaseId: id }, client.client))
        const lock = EtcdLock.make("session/outlived")
        const scope = yield* Scope.make()
        yield* EtcdLock.acquire(lock).pipe(within(session), Scope.provide(scope))
        // Whoever waits leaves, and one of its requests has not arrived yet.
        client.fates.Txn = ["late"]
        const waiting = yield* start(Effect.scoped(EtcdLock.acquire(lock)).pipe(within(session)))
        yield* EtcdLock.line(lock).pipe(Effect.repeat({ until: (line) => line.length === 2 }))
        yield* Fiber.interrupt(waiting)
        const { incarnations, leases } = Inside.of(session)
        const [incarnation] = [...incarnations]
        yield* clock.standStill(21_000)
        assert.strictEqual((yield* leases.keeper.lossOf(incarnation!.lease))?.reason, "not-renewed")
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(yield* EtcdLock.line(lock), [])
        const line = EtcdKv.range(KeyRange.prefix("session/outlived/"))
        const before = (yield* line).header.revision
        yield* client.arrive
        // It was put, and deleted.
        yield* line.pipe(Effect.repeat({ until: ({ header }) => header.revision === before + 2n }))
        assert.deepStrictEqual((yield* line).kvs, [])
        assert.isTrue(yield* isLive(id))
      })
    )

    it.effect("does not fight over a key with another session that has its lease", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdLease.grant("20 seconds")
        const key = "session/both"
        const client = faulty(yield* EtcdClient.EtcdClient)
        const [one, other] = [yield* make({ leaseId: id }, client.client), yield* make({ leaseId: id })]
        yield* one.current
        const [incarnation] = [...Inside.of(one).incarnations]
        client.fates.Put = ["lost"]
        yield* Effect.exit(Effect.scoped(one.keep(key, "one")))
        yield* until(() => incarnation!.sweeping.has(key))
        yield* other.keep(key, "two")
        const deletions = () => client.calls.Txn ?? 0
        // It may have been the put that is not known to have arrived.
        yield* until(() => !incarnation!.sweeping.has(key) || deletions() > 3)
        assert.isAtMost(deletions(), 3)
        yield* holds(key, "two")
      })
    )

    it.effect("never takes the place of another session with the same lease for its own", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdLease.grant("20 seconds")
        const client = faulty(yield* EtcdClient.EtcdClient)
        const [one, other] = [yield* make({ leaseId: id }), yield* make({ leaseId: id }, client.client)]
        const lock = EtcdLock.make("session/mine")
        yield* other.current
        const first = yield* EtcdLock.acquire(lock).pipe(within(one))
        client.fates.Txn = ["never"]
        const waiting = yield* start(EtcdLock.acquire(lock).pipe(Effect.scoped, within(other)))
        const line = yield* EtcdLock.line(lock).pipe(Effect.repeat({ until: (line) => line.length === 2 }))
        assert.strictEqual(line[0]?.key, first.key)
        assert.isUndefined(waiting.pollUnsafe())
        yield* Fiber.interrupt(waiting)
        assert.isTrue(first.isHeldUnsafe())
        assert.isTrue(yield* EtcdLock.check(first.sequencer))
      })
    )

    it.effect("can leave its lease and what it keeps, but no place in a line", () =>
      Effect.gen(function* () {
        const lock = EtcdLock.make("session/leaving")
        const id = yield* Effect.scoped(
          Effect.gen(function* () {
            const session = yield* make({ onClose: "leave" })
            yield* session.keep("session/left", "here")
            yield* EtcdLock.acquire(lock).pipe(within(session))
            return (yield* session.current).id
          })
        )
        assert.isTrue(yield* isLive(id))
        assert.strictEqual(yield* valueOf("session/left"), "here")
        assert.deepStrictEqual(yield* EtcdLock.line(lock), [])
        yield* EtcdLease.revoke(id)
        assert.isUndefined(yield* valueOf("session/left"))
      })
    )

    it.effect("keeps a key: when it is deleted, when the session is lost, and not beyond the scope", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const scope = yield* Scope.make()
        yield* Scope.provide(session.keep("session/kept", "here"), scope)
        assert.strictEqual(yield* valueOf("session/kept"), "here")
        yield* EtcdKv.delete("session/kept")
        yield* holds("session/kept", "here")
        const first = yield* session.current
        yield* EtcdLease.revoke(first.id)
        yield* holds("session/kept", "here")
        assert.strictEqual((yield* session.current).incarnation, 2)
        yield* Scope.close(scope, Exit.void)
        assert.isUndefined(yield* valueOf("session/kept"))
        const again = yield* Scope.make()
        yield* Scope.provide(session.keep("session/kept", "again"), again)
        yield* EtcdKv.put("session/kept", "another's")
        yield* Scope.close(again, Exit.void)
        assert.strictEqual(yield* valueOf("session/kept"), "another's")
        yield* Effect.scoped(session.keep("k".repeat(1_000_000), ""))
        assert.strictEqual(Inside.of(session).presences.size, 0)
      })
    )

    it.effect("leaves a key to who has put it, also where what happened to it is forgotten", () =>
      Effect.gen(function* () {
        const way = yield* silencing((yield* EtcdProcess.EtcdProcess).endpoints[0])
        const client = faulty(yield* EtcdClient.make({ endpoints: [way.endpoint] }))
        const session = yield* make({}, client.client)
        const next = yield* make()
        const value = (key: string) => valueOf(`session/moved/${key}`)
        for (const key of ["taken", "gone"]) yield* session.keep(`session/moved/${key}`, "old")
        // It is looked at again where that was not possible.
        client.fates.Range = ["never", "never"]
        yield* way.silence
        yield* next.keep("session/moved/taken", "new")
        yield* EtcdKv.delete("session/moved/gone")
        const { header } = yield* EtcdKv.put("session/other", "")
        yield* EtcdKv.compact(header.revision)
        yield* way.cut
        yield* holds("session/moved/gone", "old")
        assert.strictEqual(yield* value("taken"), "new")
        // It is still looked whether that one goes.
        yield* EtcdKv.delete("session/moved/taken")
        yield* Effect.repeat(value("taken"), { until: (now) => now !== undefined })
      })
    )

    it.effect("leaves no key behind whose put nobody has heard of, however late it arrives", () =>
      Effect.gen(function* () {
        for (const fate of ["lost", "late"] as const) {
          const client = faulty(yield* EtcdClient.EtcdClient)
          const session = yield* make({}, client.client)
          yield* session.current
          client.fates.Put = [fate]
          assert.strictEqual(
            (yield* reasonOf(Effect.scoped(session.keep("session/unheard", fate))))._tag,
            "ConnectionLost"
          )
          yield* client.arrive
          yield* holds("session/unheard", undefined)
        }
      })
    )

    it.effect("keeps a key for one part of a program while another one ends, in which it is never away", () =>
      Effect.gen(function* () {
        const session = yield* make()
        const watch = yield* EtcdWatch.EtcdWatch
        const seen: Array<string> = []
        const watching = yield* watch.changes("session/both", { created: true }).pipe(
          Stream.runForEach((change) =>
            Effect.sync(() => {
              if (change._tag === "Created") seen.push("created")
              if (change._tag === "Revision") seen.push(...change.events.map(({ _tag, kv }) => kv.valueString || _tag))
            })
          ),
          start
        )
        yield* until(() => seen.length === 1)
        const [one, two, three] = [yield* Scope.make(), yield* Scope.make(), yield* Scope.make()]
        yield* Scope.provide(session.keep("session/both", "one"), one)
        yield* Scope.provide(session.keep("session/both", "two"), two)
        yield* Scope.close(one, Exit.void)
        yield* Scope.provide(session.keep("session/both", "three"), three)
        yield* Scope.close(three, Exit.void)
        assert.strictEqual(yield* valueOf("session/both"), "two")
        yield* Scope.close(two, Exit.void)
        yield* until(() => seen.at(-1) === "Delete")
        yield* Fiber.interrupt(watching)
        assert.deepStrictEqual(seen, ["created", "one", "two", "three", "two", "Delete"])
      })
    )

    it.effect("keeps a key for one part of a program, whatever the puts of another one came to, however late", () =>
      Effect.gen(function* () {
        for (const fate of ["lost", "late"] as const) {
          const key = `session/twice/${fate}`
          const client = faulty(yield* EtcdClient.EtcdClient)
          const session = yield* make({}, client.client)
          yield* session.keep(key, "one")
          client.fates.Put = [fate]
          yield* Effect.exit(Effect.scoped(session.keep(key, "two")))
          yield* client.arrive
          yield* holds(key, "one")
          // Nobody removes it that it had to be put again after.
          const { modRevision } = Option.getOrThrow(yield* EtcdKv.get(key))
          yield* Effect.sleep(50)
          assert.strictEqual(Option.getOrThrow(yield* EtcdKv.get(key)).modRevision, modRevision)
        }
      })
    )

    it.effect("is as if its calls were not there for a clock of the program that never moves, or jumps", () =>
      Effect.gen(function* () {
        const session = yield* make({ ttl: "2 seconds" })
        const current = yield* session.current
        yield* TestClock.adjust("1 day")
        assert.isTrue(current.isHeldUnsafe())
        const before = yield* millisLeft(current)
        yield* TestClock.withLive(
          Effect.repeat(
            Effect.andThen(
              Effect.sleep(20),
              Effect.sync(() => current.isHeldUnsafe())
            ),
            { times: 50, while: (isHeld) => isHeld }
          )
        )
        assert.isTrue(current.isHeldUnsafe())
        assert.isTrue((yield* millisLeft(current)) > before - 1000)
      }).pipe(Effect.provide(TestClock.layer()))
    )

    it.effect("is in doubt when the wall clock has run ahead, until a keep-alive is answered", () =>
      Effect.gen(function* () {
        const clock = yield* EtcdClock.make
        const session = yield* clock.by(make())
        const current = yield* session.current
        for (const millis of [1500, 3_600_000]) {
          yield* clock.jump(millis)
          assert.strictEqual(yield* millisLeft(current), 0)
          assert.isFalse(current.isHeldUnsafe())
          // Nothing is acquired meanwhile.
          const acquired = yield* Effect.scoped(EtcdLock.acquire(EtcdLock.make("session/doubt"))).pipe(within(session))
          assert.isTrue(current.isHeldUnsafe())
          assert.isTrue(acquired.token > 0n)
        }
        // Nor is it given out.
        yield* clock.jump(3_600_000)
        assert.isTrue((yield* session.current).isHeldUnsafe())
        // It may be set back, and corrected.
        for (const millis of [-3_600_000, 500, -500]) {
          yield* clock.jump(millis)
          assert.isTrue(current.isHeldUnsafe())
        }
        assert.strictEqual((yield* session.current).id, current.id)
      })
    )

    it.effect("is lost when its time was over while the process stood still, though etcd has kept the lease", () =>
      Effect.gen(function* () {
        const clock = yield* EtcdClock.make
        // There is no keep-alive that could be answered when it goes on.
        const client = { ...(yield* EtcdClient.EtcdClient), bidirectional: () => Effect.never }
        const session = yield* clock.by(make({}, client))
        const current = yield* session.current
        const ended = yield* Deferred.make<void>()
        yield* current.whileHeld(Effect.onInterrupt(Effect.never, () => Deferred.await(ended))).pipe(start)
        yield* clock.standStill(8100)
        assert.isFalse(current.isHeldUnsafe())
        const next = yield* session.current
        assert.strictEqual(next.incarnation, 2)
        assert.strictEqual((yield* current.lost).reason, "not-renewed")
        // What ran is still ending.
        assert.isTrue(yield* isLive(current.id))
        yield* Deferred.succeed(ended, undefined)
        yield* Effect.repeat(isLive(current.id), { while: (isThere) => isThere })
        assert.isTrue(next.isHeldUnsafe())
      })
    )

    it.effect("is lost before etcd lets the lease expire by a clock that is slow by less than the margin", () =>
      Effect.gen(function* () {
        const client = { ...(yield* EtcdClient.EtcdClient), bidirectional: () => Effect.never }
        const options = { ttl: "5 seconds", margin: "2 seconds" } as const
        const clock = yield* EtcdClock.make
        yield* clock.pace(0.9)
        const session = yield* clock.by(make(options, client))
        const current = yield* session.current
        const ended = yield* Deferred.make<void>()
        yield* current.whileHeld(Effect.onInterrupt(Effect.never, () => Deferred.await(ended))).pipe(start)
        assert.strictEqual((yield* current.lost).reason, "not-renewed")
        assert.isTrue(yield* isLive(current.id))
        yield* Deferred.succeed(ended, undefined)
      })
    )

    it.effect("is not lost because the event loop was blocked for less than its time", () =>
      Effect.gen(function* () {
        const session = yield* make({ ttl: "2 seconds" })
        const current = yield* session.current
        yield* standStill(1300)
        assert.isTrue(current.isHeldUnsafe())
        assert.strictEqual((yield* session.current).id, current.id)
      })
    )

    it.effect("of options that make no sense is refused", () =>
      Effect.gen(function* () {
        const wrong: ReadonlyArray<unknown> = [
          ...[0, 10, -1, Number.NaN, "0 seconds", "999 millis", "Infinity", Number.POSITIVE_INFINITY, "soon"].map(
            (ttl) => ({ ttl })
          ),
          ...["10 seconds", "1 minute", 0, -1].map((margin) => ({ margin })),
          { ttl: "3 seconds", margin: "3 seconds" },
          ...[0n, "x", 1].map((leaseId) => ({ leaseId })),
          { onClose: "keep" },
          { timeToLive: 1 },
          null,
          1
        ]
        for (const options of wrong) {
          assert.strictEqual((yield* reasonOf(make(options as never)))._tag, "InvalidArgument", String(options))
        }
        const session = yield* make()
        for (const [key, value] of [
          ["", "x"],
          ["\ud800", "x"],
          [1, "x"],
          ["x", undefined]
        ]) {
          assert.strictEqual((yield* reasonOf(session.keep(key as never, value as never)))._tag, "InvalidArgument")
        }
        const long = yield* make({ ttl: "110000 days", margin: "1 second" })
        assert.strictEqual((yield* reasonOf(long.current))._tag, "LeaseTtlTooLarge")
      })
    )
  })

  layer(Layer.provideMerge(EtcdAuth.layer, etcd), { excludeTestServices: true })((it) => {
    it.effect("does not try again and again what its user may not do", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdClient.EtcdClient
        const as = Effect.fnUntraced(function* (username: string) {
          const password = Redacted.make("secret")
          return yield* EtcdClient.make({ endpoints: yield* endpoints, credentials: { username, password } })
        })
        yield* EtcdAuth.addUser("root", Redacted.make("secret"))
        yield* EtcdAuth.grantRole("root", "root")
        yield* EtcdAuth.addUser("writer", Redacted.make("secret"))
        yield* EtcdAuth.addRole("writing")
        yield* EtcdAuth.grantPermission("writing", "write", KeyRange.single("mine"))
        yield* EtcdAuth.grantRole("writer", "writing")
        yield* EtcdAuth.enable()
        const client = faulty(yield* as("writer"))
        const session = yield* make({}, client.client)
        assert.strictEqual((yield* reasonOf(session.keep("other", "")))._tag, "PermissionDenied")
        assert.strictEqual(
          (yield* reasonOf(Effect.scoped(EtcdLock.acquire(EtcdLock.make("other"))).pipe(within(session))))._tag,
          "PermissionDenied"
        )
        // It may write this one, and not see whether it is there.
        yield* session.keep("mine", "")
        const calls = { ...client.calls }
        yield* Effect.sleep(100)
        assert.deepStrictEqual(client.calls, calls)
        const root = EtcdAuth.fromClient(yield* as("root"))
        yield* root.grantPermission("writing", "readwrite", KeyRange.single("mine"))
      })
    )
  })
})
