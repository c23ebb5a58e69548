/**
 * What a watch asks of a server, and what it makes of the answers, whatever the server or the network does to it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as Pool from "../src/internal/watch/pool.ts"
import { type Delivery, Subscription } from "../src/internal/watch/subscription.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { until } from "./support/machine.ts"
import * as Server from "./support/watch/server.ts"

const { lost, put } = Server

const retry = Schedule.spaced("1 millis")

/** A reader that keeps what it got. */
const reading = (service: EtcdWatch.Service, options: EtcdWatch.ChangesOptions = {}, key: KeyRange.Input = "k") =>
  Effect.gen(function* () {
    const got: Array<EtcdWatch.Change> = []
    const fiber = yield* service.changes(key, { retry, ...options }).pipe(
      Stream.runForEach((change) => Effect.sync(() => got.push(change))),
      Effect.forkScoped({ startImmediately: true })
    )
    const revisions = () => got.flatMap((change) => (change._tag === "Revision" ? [change.revision] : []))
    const progress = () => got.flatMap((change) => (change._tag === "Progress" ? [change.revision] : []))
    return { got, fiber, revisions, progress }
  })

const start = Effect.gen(function* () {
  const server = Server.make()
  const service = yield* EtcdWatch.fromClient(server.client)
  return { server, service }
})

/** A watch without a service, whose streams can be looked into. */
const subscribing = (pool: Pool.Pool) =>
  Effect.gen(function* () {
    const subscription = new Subscription(pool, {
      range: KeyRange.single("k"),
      startRevision: 0n,
      previousValues: false,
      filters: [],
      fragment: true,
      progress: false,
      created: false,
      snapshot: "never",
      bufferBytes: 1000,
      streamOptions: { requireLeader: undefined, endpoint: undefined, metadata: undefined, retry }
    })
    const got: Array<Delivery> = []
    yield* Effect.forever(Effect.map(subscription.pull, (deliveries) => got.push(...deliveries))).pipe(
      Effect.forkScoped({ startImmediately: true })
    )
    return { got, subscription }
  })

const failure = (fiber: Fiber.Fiber<unknown, EtcdError.EtcdError>) => Effect.flip(Fiber.join(fiber))

const error = (reason: EtcdError.Reason) => EtcdError.make(reason)

const unimplemented = error(
  new EtcdError.Unsupported({ message: "no such call", outcome: "not-applied", feature: "Watch.Watch" })
)

describe("calls of watches", () => {
  it.live("many watches share one call, and each gets its own", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const a = yield* reading(service, {}, "a")
      const b = yield* reading(service, {}, "b")
      const call = yield* server.call(0, 2)
      const [first, second] = call.creates()
      assert.notStrictEqual(first!.watchId, second!.watchId)
      call.created(0, 1n)
      call.created(1, 1n)
      call.answer(
        { watchId: second!.watchId, events: [put(2n, "b")] },
        { watchId: first!.watchId, events: [put(3n, "a")] }
      )
      yield* until(() => a.got.length + b.got.length === 2)
      assert.deepStrictEqual([a.revisions(), b.revisions()], [[3n], [2n]])
      assert.lengthOf(server.calls, 1)
    })
  )

  it.live("watches with other needs have another call", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* reading(service)
      yield* server.call(0, 1)
      yield* reading(service, { requireLeader: false })
      yield* server.call(1, 1)
      yield* reading(service, { endpoint: "http://other" })
      yield* server.call(2, 1)
      yield* reading(service, { metadata: { tenant: "a" } })
      yield* server.call(3, 1)
      yield* reading(service, { metadata: { tenant: "b" } })
      yield* server.call(4, 1)
      yield* reading(service, { metadata: { tenant: "a" } })
      yield* server.call(3, 2)
      assert.lengthOf(server.calls, 5)
    })
  )

  it.live("a thousand watches fill a call", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* Effect.forEach(Array(1001), () => reading(service), { discard: true })
      yield* server.call(0, 1000)
      yield* server.call(1, 1)
      assert.lengthOf(server.calls[0]!.creates(), 1000)
    })
  )

  it.live("a thousand watches that were canceled wear a call out", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* reading(service)
      const call = yield* server.call(0, 1)
      yield* Effect.forEach(Array(1000), () =>
        Effect.gen(function* () {
          const { fiber } = yield* reading(service)
          yield* Fiber.interrupt(fiber)
        })
      )
      yield* until(() => call.cancels().length === 1000)
      yield* reading(service)
      yield* server.call(1, 1)
      assert.isFalse(call.isClosed)
    })
  )

  it.live("closing a watch cancels it, and the last one closes the call", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const a = yield* reading(service, {}, "a")
      const b = yield* reading(service, {}, "b")
      const call = yield* server.call(0, 2)
      call.created(0, 1n)
      call.created(1, 1n)
      yield* Fiber.interrupt(a.fiber)
      yield* until(() => call.cancels().length === 1)
      assert.deepStrictEqual(call.cancels(), [call.creates()[0]!.watchId])
      assert.isFalse(call.isClosed)
      yield* Fiber.interrupt(b.fiber)
      yield* until(() => call.isClosed)
    })
  )

  it.live("events that cross a cancel reach nobody, and nothing is remembered of it", () =>
    Effect.gen(function* () {
      const server = Server.make()
      const pool = yield* Pool.make(server.client)
      const stays = yield* subscribing(pool)
      const early = yield* subscribing(pool)
      const late = yield* subscribing(pool)
      const call = yield* server.call(0, 3)
      call.created(0, 1n)
      call.created(1, 1n)
      early.subscription.close()
      late.subscription.close()
      yield* until(() => call.cancels().length === 2)
      const [id, earlyId, lateId] = call.creates().map((request) => request.watchId)
      call.answer({ watchId: earlyId!, events: [put(2n)] })
      call.created(2, 2n)
      call.answer(
        { watchId: lateId!, events: [put(2n)] },
        { watchId: earlyId!, canceled: true },
        { watchId: earlyId!, events: [put(2n)] },
        { watchId: lateId!, canceled: true },
        { watchId: id!, events: [put(2n)] }
      )
      yield* until(() => stays.got.length === 1)
      assert.deepStrictEqual([early.got, late.got], [[], []])
      assert.lengthOf(call.cancels(), 2)
      const [stream] = pool.streams
      assert.deepStrictEqual(stream!.load, { watches: 1, watchers: 1, creating: 0 })
    })
  )

  it.live("a proxy that chooses its own ids gets one watch after the other", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const a = yield* reading(service, {}, "a")
      const b = yield* reading(service, {}, "b")
      const c = yield* reading(service, {}, "c")
      const d = yield* reading(service, {}, "d")
      const header = { revision: 1n }
      const first = yield* server.call(0, 4)
      first.answer({ watchId: 0n, created: true, header }, { watchId: 0n, events: [put(2n, "c")] })
      const call = yield* server.call(1, 1)
      assert.isTrue(first.isClosed)
      const keys = () => call.creates().map((request) => new TextDecoder().decode(request.key))
      yield* Fiber.interrupt(a.fiber)
      yield* Fiber.interrupt(c.fiber)
      assert.deepStrictEqual(keys(), ["a"])
      call.answer({ watchId: 7n, created: true, header })
      yield* server.call(1, 2)
      assert.deepStrictEqual(keys(), ["a", "b"])
      yield* until(() => call.cancels().length === 1)
      call.answer({ watchId: 8n, created: true, header }, { watchId: 8n, events: [put(2n, "b")] })
      yield* server.call(1, 3)
      assert.deepStrictEqual(keys(), ["a", "b", "d"])
      call.answer({ watchId: 9n, created: true, header }, { watchId: 9n, events: [put(3n, "d")] })
      yield* until(() => b.got.length + d.got.length === 2)
      yield* Fiber.interrupt(b.fiber)
      yield* until(() => call.cancels().length === 2)
      assert.deepStrictEqual(call.cancels(), [7n, 8n])
      assert.deepStrictEqual([a.got, c.got], [[], []])
    })
  )

  it.live("a watch that was refused while it was being canceled is forgotten", () =>
    Effect.gen(function* () {
      const server = Server.make()
      const pool = yield* Pool.make(server.client)
      const stays = yield* subscribing(pool)
      const goes = yield* subscribing(pool)
      const call = yield* server.call(0, 2)
      goes.subscription.close()
      call.created(0, 1n)
      call.answer(
        { watchId: -1n, created: true, canceled: true, cancelReason: "etcdserver: permission denied" },
        { watchId: call.creates()[0]!.watchId, events: [put(2n)] }
      )
      yield* until(() => stays.got.length === 1)
      assert.deepStrictEqual([...pool.streams][0]!.load, { watches: 1, watchers: 1, creating: 0 })
    })
  )

  it.live("the service's end is the end of its watches", () =>
    Effect.gen(function* () {
      const server = Server.make()
      const scope = yield* Scope.make()
      const service = yield* Scope.provide(EtcdWatch.fromClient(server.client), scope)
      const { fiber } = yield* reading(service)
      const call = yield* server.call(0, 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* failure(fiber)).reason._tag, "Unreachable")
      assert.isTrue(call.isClosed)
    })
  )
})

describe("a call that breaks", () => {
  it.live("is made again, and the watch goes on after the last revision", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { revisions } = yield* reading(service, { startRevision: 5n })
      const call = yield* server.call(0, 1)
      assert.strictEqual(call.creates()[0]!.startRevision, 5n)
      call.created(0, 20n)
      call.answer({ watchId: call.creates()[0]!.watchId, events: [put(6n), put(9n)], header: { revision: 20n } })
      yield* until(() => revisions().length === 2)
      call.fail(lost)
      const again = yield* server.call(1, 1)
      assert.strictEqual(again.creates()[0]!.startRevision, 10n)
      again.created(0, 20n)
      // A server that repeats itself is not repeated.
      again.answer({ watchId: again.creates()[0]!.watchId, events: [put(9n), put(10n)] })
      yield* until(() => revisions().length === 3)
      assert.deepStrictEqual(revisions(), [6n, 9n, 10n])
    })
  )

  it.live("loses nothing for a watch from now on that has seen nothing yet", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { got } = yield* reading(service, { created: true })
      const unheard = yield* server.call(0, 1)
      unheard.fail(lost)
      const call = yield* server.call(1, 1)
      assert.strictEqual(call.creates()[0]!.startRevision, 0n)
      call.created(0, 7n)
      yield* until(() => got.length === 1)
      call.end()
      const again = yield* server.call(2, 1)
      assert.strictEqual(again.creates()[0]!.startRevision, 8n)
      again.created(0, 9n)
      again.answer({ watchId: again.creates()[0]!.watchId, events: [put(8n)] })
      yield* until(() => got.length === 2)
      assert.deepStrictEqual(
        got.map((change) => (change._tag === "Created" ? change.startRevision : change._tag)),
        [8n, "Revision"]
      )
    })
  )

  it.live("resumes where progress was told", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { progress } = yield* reading(service, { startRevision: 5n, progress: true })
      const call = yield* server.call(0, 1)
      call.created(0, 20n)
      call.answer({ watchId: call.creates()[0]!.watchId, header: { revision: 25n } })
      yield* until(() => progress().length === 1)
      call.fail(lost)
      assert.strictEqual((yield* server.call(1, 1)).creates()[0]!.startRevision, 26n)
      assert.deepStrictEqual(progress(), [25n])
    })
  )

  it.live("asks again for a revision that had come in part, and does not pass the part on", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { got, revisions } = yield* reading(service, { startRevision: 1n, progress: true })
      const call = yield* server.call(0, 1)
      call.created(0, 9n)
      call.answer(
        {
          watchId: call.creates()[0]!.watchId,
          fragment: true,
          events: [put(2n), put(3n, "a")],
          header: { revision: 9n }
        },
        { watchId: call.creates()[0]!.watchId, fragment: true, events: [put(3n, "b")], header: { revision: 9n } }
      )
      yield* until(() => got.length === 1)
      call.fail(lost)
      const again = yield* server.call(1, 1)
      assert.strictEqual(again.creates()[0]!.startRevision, 3n)
      const { watchId } = again.creates()[0]!
      again.created(0, 9n)
      again.answer(
        { watchId, fragment: true, events: [put(3n, "a"), put(3n, "b")], header: { revision: 9n } },
        { watchId, fragment: false, events: [put(3n, "c"), put(4n)], header: { revision: 9n } }
      )
      yield* until(() => revisions().length === 3)
      const sizes = got.flatMap((change) => (change._tag === "Revision" ? [change.events.length] : []))
      assert.deepStrictEqual(
        [revisions(), sizes],
        [
          [2n, 3n, 4n],
          [1, 3, 1]
        ]
      )
    })
  )

  it.live("is left when its server is about to stop", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* reading(service, { startRevision: 3n })
      const call = yield* server.call(0, 1)
      call.created(0, 9n)
      call.drain()
      assert.strictEqual((yield* server.call(1, 1)).creates()[0]!.startRevision, 3n)
      assert.isTrue(call.isClosed)
    })
  )

  it.live("is given up when the schedule says so", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { fiber } = yield* reading(service, { retry: Schedule.recurs(1) })
      ;(yield* server.call(0, 1)).fail(lost)
      ;(yield* server.call(1, 1)).fail(lost)
      assert.strictEqual((yield* failure(fiber)).reason._tag, "ConnectionLost")
    })
  )

  it.live("counts as new when a server had answered", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* reading(service, { retry: Schedule.recurs(1) })
      for (const n of [0, 1, 2, 3]) {
        const call = yield* server.call(n, 1)
        call.created(0, 1n)
        call.fail(lost)
      }
      yield* server.call(4, 1)
    })
  )

  it.live("is not made again where it cannot work", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const a = yield* reading(service)
      const b = yield* reading(service)
      ;(yield* server.call(0, 2)).fail(unimplemented)
      assert.strictEqual((yield* failure(a.fiber)).reason._tag, "Unsupported")
      assert.strictEqual((yield* failure(b.fiber)).reason._tag, "Unsupported")
    })
  )
})

describe("progress", () => {
  it.live("is for those watches of whom it is certain", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const first = yield* reading(service, { startRevision: 1n, progress: true, created: true })
      const call = yield* server.call(0, 1)
      call.created(0, 30n)
      yield* until(() => first.got.length === 1)
      yield* service.requestProgress
      yield* until(() => call.requests.length === 2)
      const second = yield* reading(service, { startRevision: 1n, progress: true, created: true })
      yield* server.call(0, 2)
      call.created(1, 30n)
      yield* until(() => second.got.length === 1)
      // The answer to a request from before the second watch, whose history may still be under way.
      call.answer({ watchId: -1n, header: { revision: 30n } })
      yield* until(() => first.progress().length === 1)
      assert.deepStrictEqual(second.progress(), [])
      yield* service.requestProgress
      call.answer({ watchId: -1n, header: { revision: 30n } })
      yield* until(() => second.progress().length === 1)
      assert.deepStrictEqual([first.progress(), second.progress()], [[30n, 30n], [30n]])
    })
  )

  it.live("is for those created before the store was there", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const first = yield* reading(service, { startRevision: 1n, progress: true })
      const call = yield* server.call(0, 1)
      yield* service.requestProgress
      call.created(0, 30n)
      yield* until(() => call.requests.length === 2)
      call.answer({ watchId: -1n, header: { revision: 31n } })
      yield* until(() => first.progress().length === 1)
    })
  )

  it.live("does not go back, nor come before the start or within a revision", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { got, progress } = yield* reading(service, { startRevision: 10n, progress: true })
      const call = yield* server.call(0, 1)
      call.created(0, 5n)
      call.answer(
        { watchId: call.creates()[0]!.watchId, header: { revision: 6n } },
        { watchId: call.creates()[0]!.watchId, events: [put(12n)], header: { revision: 12n } },
        { watchId: call.creates()[0]!.watchId, header: { revision: 11n } },
        { watchId: call.creates()[0]!.watchId, fragment: true, events: [put(13n)], header: { revision: 13n } },
        { watchId: call.creates()[0]!.watchId, header: { revision: 13n } },
        { watchId: call.creates()[0]!.watchId, events: [put(13n, "b")], header: { revision: 13n } },
        { watchId: call.creates()[0]!.watchId, header: { revision: 13n } }
      )
      yield* until(() => got.length >= 3)
      assert.deepStrictEqual(progress(), [13n])
      assert.deepStrictEqual(
        got.map((change) => change._tag),
        ["Revision", "Revision", "Progress"]
      )
    })
  )

  it.live("is not asked of a server whose answer may be ahead of its events", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* reading(service)
      const call = yield* server.call(0, 1)
      for (const version of ["3.4.23", "3.4.24", "3.5.0", "3.5.7"]) {
        server.version = version
        const refused = yield* Effect.flip(service.requestProgress)
        assert.strictEqual(refused.reason._tag, "Unsupported")
        assert.include(refused.message, version)
      }
      for (const version of ["3.4.25", "3.5.8", "3.6.0", "3.7.1", "3.8.0-alpha.0", "4.0.0", "a fork"]) {
        server.version = version
        yield* service.requestProgress
      }
      yield* until(() => call.requests.length === 8)
    })
  )
})

describe("a watch that the server ends", () => {
  it.live("fails with the reason, and the others go on", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const refused = yield* reading(service)
      const other = yield* reading(service)
      const call = yield* server.call(0, 2)
      call.answer({
        watchId: -1n,
        created: true,
        canceled: true,
        cancelReason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
      })
      call.created(1, 1n)
      call.answer({ watchId: call.creates()[1]!.watchId, events: [put(2n)] })
      assert.strictEqual((yield* failure(refused.fiber)).reason._tag, "PermissionDenied")
      yield* until(() => other.got.length === 1)
      call.answer({ watchId: call.creates()[1]!.watchId, canceled: true, cancelReason: "no more" })
      const ended = yield* failure(other.fiber)
      assert.strictEqual(ended.reason._tag, "WatchCanceled")
      assert.include(ended.message, "no more")
      yield* until(() => call.isClosed)
    })
  )

  it.live("because of its token goes on with a new one, on another call", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const old = yield* reading(service)
      const call = yield* server.call(0, 1)
      call.created(0, 1n)
      const { revisions } = yield* reading(service, { startRevision: 4n })
      yield* server.call(0, 2)
      call.answer({
        watchId: -1n,
        created: true,
        canceled: true,
        cancelReason: "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
      })
      const fresh = yield* server.call(1, 1)
      assert.strictEqual(server.renewals, 1)
      assert.strictEqual(fresh.creates()[0]!.startRevision, 4n)
      fresh.created(0, 9n)
      fresh.answer({ watchId: fresh.creates()[0]!.watchId, events: [put(4n)] })
      call.answer({ watchId: call.creates()[0]!.watchId, events: [put(5n)] })
      yield* until(() => revisions().length === 1 && old.got.length === 1)
    })
  )

  it.live("because of its token again and again fails", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { fiber } = yield* reading(service)
      for (const n of [0, 1, 2, 3]) {
        const call = yield* server.call(n, 1)
        call.answer({ watchId: -1n, created: true, canceled: true, cancelReason: "etcdserver: invalid auth token" })
      }
      const refused = yield* failure(fiber)
      assert.strictEqual(refused.reason._tag, "InvalidAuthToken")
      assert.isTrue(EtcdError.isTransient(refused))
      assert.strictEqual(server.renewals, 4)
    })
  )

  it.live("because of a token that the client cannot renew fails for good", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      server.hasCredentials = false
      const { fiber } = yield* reading(service)
      // Not at once: a member that lags behind may not know it yet.
      for (const n of [0, 1, 2, 3]) {
        const call = yield* server.call(n, 1)
        call.answer({ watchId: -1n, created: true, canceled: true, cancelReason: "etcdserver: invalid auth token" })
      }
      const refused = yield* failure(fiber)
      assert.deepInclude(refused.reason, { _tag: "InvalidAuthToken", lasting: true })
      assert.isFalse(EtcdError.isTransient(refused))
    })
  )

  it.live("because of a compaction is forgotten by the server too", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      yield* reading(service)
      const { fiber } = yield* reading(service, { startRevision: 3n })
      const call = yield* server.call(0, 2)
      const { watchId } = call.creates()[1]!
      call.created(0, 9n)
      call.created(1, 9n)
      call.answer({ watchId, canceled: true, compactRevision: 8n })
      const { reason } = yield* failure(fiber)
      assert.isTrue(reason._tag === "Compacted" && reason.compactedRevision === 8n)
      yield* until(() => call.cancels().includes(watchId))
    })
  )

  it.live("because of a compaction goes on with a snapshot, read in pages of one revision", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { got } = yield* reading(service, { startRevision: 3n, snapshot: "when-compacted" }, KeyRange.prefix("k"))
      const call = yield* server.call(0, 1)
      call.created(0, 9n)
      call.answer({ watchId: call.creates()[0]!.watchId, events: [put(3n)] })
      yield* until(() => got.length === 1)
      server.ranges.push(
        { header: { revision: 9n }, more: true, kvs: [put(8n, "k1").kv] },
        { header: { revision: 12n }, more: false, kvs: [put(8n, "k2").kv] }
      )
      call.answer({ watchId: call.creates()[0]!.watchId, canceled: true, compactRevision: 8n })
      const again = yield* server.call(1, 1)
      assert.strictEqual(again.creates()[0]!.startRevision, 10n)
      assert.deepStrictEqual(
        server.reads.map(({ key, revision }) => [new TextDecoder().decode(key), revision]),
        [
          ["k", 0n],
          ["k1\0", 9n]
        ]
      )
      const snapshot = got[1]!
      assert.isTrue(snapshot._tag === "Snapshot" && snapshot.revision === 9n)
      assert.deepStrictEqual(snapshot._tag === "Snapshot" && snapshot.kvs.map((kv) => kv.keyString), ["k1", "k2"])
    })
  )

  it.live("was none to begin with, where the options make no sense", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const reason = (range: KeyRange.Input, options: EtcdWatch.WatchOptions) =>
        Effect.map(Effect.flip(service.next(range, options)), (error) => error.reason._tag)
      assert.strictEqual(yield* reason(KeyRange.interval("b", "a"), {}), "InvalidArgument")
      assert.strictEqual(yield* reason(KeyRange.interval("a", "a"), {}), "InvalidArgument")
      assert.strictEqual(yield* reason("a", { startRevision: -1n }), "InvalidArgument")
      assert.strictEqual(yield* reason("a", { startRevision: 2n ** 63n }), "InvalidArgument")
      assert.strictEqual(yield* reason("a", { bufferSize: Number.NaN }), "InvalidArgument")
      assert.lengthOf(server.calls, 0)
    })
  )
})

describe("a slow reader", () => {
  it.live("costs its buffer, holds up nobody, and gets the rest later", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const taken: Array<bigint> = []
      let mayRead = false
      const options = { startRevision: 2n, bufferSize: 1000, retry }
      yield* service.changes("k", options).pipe(
        Stream.runForEach(({ _tag, ...change }) => {
          if (_tag === "Revision" && "revision" in change) taken.push(change.revision)
          return until(() => mayRead)
        }),
        Effect.forkScoped
      )
      const call = yield* server.call(0, 1)
      const fast = yield* reading(service, { startRevision: 2n })
      yield* server.call(0, 2)
      const [slowId, fastId] = call.creates().map((request) => request.watchId)
      call.created(0, 1n)
      call.created(1, 1n)
      call.answer({ watchId: slowId!, events: [put(2n)] })
      yield* until(() => taken.length === 1)
      // It reads no more. Each event counts for some 258 bytes: the fifth is too much.
      for (let revision = 3n; revision <= 12n; revision++) {
        call.answer({ watchId: slowId!, events: [put(revision)] }, { watchId: fastId!, events: [put(revision)] })
      }
      yield* until(() => fast.revisions().length === 10)
      yield* until(() => call.cancels().length === 1)
      assert.deepStrictEqual(call.cancels(), [slowId])
      mayRead = true
      const own = yield* server.call(1, 1)
      const { startRevision, watchId } = own.creates()[0]!
      assert.strictEqual(startRevision, 7n)
      own.created(0, 12n)
      own.answer({ watchId, events: [put(7n), put(8n)] })
      yield* until(() => taken.length === 7)
      assert.deepStrictEqual(taken, [2n, 3n, 4n, 5n, 6n, 7n, 8n])
      // Its call is its own.
      yield* Fiber.interrupt(fast.fiber)
      yield* until(() => call.isClosed)
      yield* reading(service)
      yield* server.call(2, 1)
    })
  )

  it.live("needs to know only the last word on progress", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const taken: Array<EtcdWatch.Change> = []
      let mayRead = false
      yield* service.changes("k", { startRevision: 2n, progress: true, retry }).pipe(
        Stream.runForEach((change) => {
          taken.push(change)
          return until(() => mayRead)
        }),
        Effect.forkScoped
      )
      const call = yield* server.call(0, 1)
      const other = yield* reading(service)
      yield* server.call(0, 2)
      const [watchId, otherId] = call.creates().map((request) => request.watchId)
      call.created(0, 1n)
      call.created(1, 1n)
      call.answer({ watchId: watchId!, events: [put(2n)] })
      yield* until(() => taken.length === 1)
      call.answer(
        ...[3n, 4n, 5n, 6n].map((revision) => ({ watchId: watchId!, header: { revision } })),
        { watchId: watchId!, events: [put(7n)] },
        ...[8n, 9n].map((revision) => ({ watchId: watchId!, header: { revision } })),
        { watchId: otherId!, events: [put(7n)] }
      )
      yield* until(() => other.got.length === 1)
      mayRead = true
      yield* until(() => taken.length === 4)
      assert.deepStrictEqual(
        taken.map((change) => [change._tag, "revision" in change && change.revision]),
        [
          ["Revision", 2n],
          ["Progress", 6n],
          ["Revision", 7n],
          ["Progress", 9n]
        ]
      )
    })
  )

  it.live("that is slow again closes its call", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start
      const { revisions } = yield* reading(service, { startRevision: 2n, bufferSize: 10 })
      for (const n of [0, 1, 2]) {
        const call = yield* server.call(n, 1)
        const { startRevision, watchId } = call.creates()[0]!
        assert.strictEqual(startRevision, 2n + BigInt(n))
        call.created(0, 9n)
        call.answer({ watchId, events: [put(startRevision)] })
        yield* until(() => call.isClosed)
      }
      yield* until(() => revisions().length === 3)
    })
  )
})
