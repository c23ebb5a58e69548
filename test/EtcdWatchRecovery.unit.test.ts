/**
 * How watches go on, or end with a reason, whatever becomes of their servers: what no real etcd can be made to do.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { closedError } from "../src/internal/client/engine.ts"
import { Settings } from "../src/internal/watch/settings.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { standStill, until } from "./support/machine.ts"
import * as Server from "./support/watch/server.ts"

const { lost, put } = Server

const retry = Schedule.spaced("1 millis")

const patient: Settings = {
  progressIntervalMillis: 3_600_000,
  createdMillis: 3_600_000,
  readMillis: 3_600_000,
  askMillis: 3_600_000,
  lingerMillis: 0
}

/** A service on a server of the test, with as much patience as a test has. */
const start = (settings: Partial<Settings> = {}) =>
  Effect.gen(function* () {
    const server = Server.make()
    const service = yield* EtcdWatch.fromClient(server.client).pipe(
      Effect.provideService(Settings, { ...patient, ...settings })
    )
    return { server, service }
  })

/** A reader that keeps what it got. */
const reading = (service: EtcdWatch.Service, options: EtcdWatch.ChangesOptions = {}, key: KeyRange.Input = "k") =>
  Effect.gen(function* () {
    const got: Array<EtcdWatch.Change> = []
    const fiber = yield* service.changes(key, { retry, ...options }).pipe(
      Stream.runForEach((change) => Effect.sync(() => got.push(change))),
      Effect.forkScoped({ startImmediately: true })
    )
    const revisions = () => got.flatMap((change) => (change._tag === "Revision" ? [change.revision] : []))
    return { got, fiber, revisions }
  })

const failure = (fiber: Fiber.Fiber<unknown, EtcdError.EtcdError>) => Effect.flip(Fiber.join(fiber))

const tagOf = (fiber: Fiber.Fiber<unknown, EtcdError.EtcdError>) =>
  Effect.map(failure(fiber), ({ reason }) => reason._tag)

const tags = (got: ReadonlyArray<EtcdWatch.Change>) => got.map(({ _tag }) => _tag)

const isRunning = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.pollUnsafe() === undefined

const header = (revision: bigint, raftTerm = 0n) => ({ revision, raftTerm })

const status = (code: number) =>
  EtcdError.make(new EtcdError.GrpcStatus({ message: "broke off", outcome: "not-applied", code, status: "broke off" }))

const unreachable = EtcdError.make(
  new EtcdError.Unreachable({ message: "nothing listens at http://server", outcome: "not-applied" })
)

const violation = EtcdError.make(
  new EtcdError.ProtocolViolation({ message: "the message is too large", outcome: "not-applied" })
)

/** A watch that has seen an event of revision 10 in term 5, and then lost its call. */
const seen = (server: Server.Server, service: EtcdWatch.Service, options: EtcdWatch.ChangesOptions = {}) =>
  Effect.gen(function* () {
    const reader = yield* reading(service, { startRevision: 1n, ...options })
    const call = yield* server.call(0, 1)
    const { watchId } = call.creates()[0]!
    call.answer(
      { watchId, created: true, header: header(9n, 5n) },
      { watchId, events: [put(10n)], header: header(10n, 5n) }
    )
    yield* until(() => reader.revisions().length === 1)
    call.fail(lost)
    const again = yield* server.call(1, 1)
    return { ...reader, call: again, watchId: again.creates()[0]!.watchId }
  })

describe("a server that is behind what was seen", () => {
  it.live("is waited for where a linearizable read of one key says that it only lags", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, fiber, revisions, watchId } = yield* seen(server, service)
      const looks = server.looks.length
      server.store = { revision: 12n, term: 5n }
      call.answer({ watchId, created: true, header: header(7n, 4n) })
      yield* until(() => server.looks.length > looks)
      const { key, keysOnly, limit, rangeEnd, serializable } = server.looks.at(-1)!
      assert.deepStrictEqual(
        [new TextDecoder().decode(key), rangeEnd.length, limit, keysOnly, serializable],
        ["k", 0, 1n, true, false]
      )
      // Another member, which may have another store, would not know.
      assert.strictEqual(server.readAt, call.endpoint)
      call.answer({ watchId, events: [put(12n)], header: header(12n, 5n) })
      yield* until(() => server.calls[1]!.creates().length === 2 || revisions().length === 2)
      const [, renewed] = call.creates()
      if (renewed !== undefined) {
        // The event came before it was certain, and was asked for again.
        assert.deepStrictEqual([renewed.startRevision, call.cancels()], [11n, [watchId]])
        call.answer(
          { watchId: renewed.watchId, created: true, header: header(8n, 4n) },
          { watchId: renewed.watchId, events: [put(12n)], header: header(12n, 5n) }
        )
        yield* until(() => revisions().length === 2)
      }
      assert.deepStrictEqual(revisions(), [10n, 12n])
      assert.isTrue(isRunning(fiber))
    })
  )

  it.live("is doubted for as long as the read cannot be made, which holds up nobody else", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, revisions, watchId } = yield* seen(server, service)
      const other = yield* reading(service, {}, "b")
      yield* server.call(1, 2)
      server.store = { revision: 12n, term: 5n }
      let tries = 0
      server.beforeRead = Effect.suspend(() => {
        tries++
        return Effect.fail(EtcdError.make(new EtcdError.NoLeader({ message: "no leader", outcome: "not-applied" })))
      })
      const otherId = call.creates()[1]!.watchId
      call.answer(
        { watchId, created: true, header: header(7n, 4n) },
        { watchId: otherId, created: true, header: header(7n, 4n) },
        { watchId, events: [put(11n)], header: header(11n, 5n) },
        { watchId: otherId, events: [put(11n, "b")], header: header(11n, 5n) }
      )
      yield* until(() => other.got.length === 1 && tries > 3)
      assert.deepStrictEqual(revisions(), [10n])
      server.beforeRead = Effect.void
      yield* server.call(1, 3)
      const renewed = call.creates()[2]!
      assert.strictEqual(renewed.startRevision, 11n)
      call.answer(
        { watchId: renewed.watchId, created: true, header: header(7n, 4n) },
        { watchId: renewed.watchId, events: [put(11n)], header: header(11n, 5n) }
      )
      yield* until(() => revisions().length === 2)
      assert.lengthOf(server.calls, 2)
    })
  )

  it.live("ends the watch where the store has gone back, with both revisions", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, fiber, revisions, watchId } = yield* seen(server, service)
      server.store = { revision: 7n, term: 5n }
      call.answer(
        { watchId, created: true, header: header(7n, 5n) },
        { watchId, events: [put(11n)], header: header(11n, 5n) }
      )
      const { message, reason } = yield* failure(fiber)
      assert.isTrue(reason._tag === "RevisionRegressed" && reason.seen === 10n && reason.current === 7n)
      assert.include(message, "restored from a backup")
      assert.deepStrictEqual(revisions(), [10n])
    })
  )

  it.live("is replaced by a snapshot of the store that has gone back, where one is asked for", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, got, watchId } = yield* seen(server, service, { snapshot: "when-compacted", created: true })
      server.store = { revision: 7n, term: 2n }
      server.ranges.push({ header: header(7n, 2n), kvs: [put(6n).kv] })
      call.answer({ watchId, created: true, header: header(7n, 2n) })
      const next = yield* server.call(2, 1)
      const { startRevision, watchId: nextId } = next.creates()[0]!
      assert.strictEqual(startRevision, 8n)
      next.answer(
        { watchId: nextId, created: true, header: header(7n, 2n) },
        { watchId: nextId, events: [put(8n)], header: header(8n, 2n) }
      )
      yield* until(() => got.length === 4)
      assert.deepStrictEqual(tags(got), ["Created", "Revision", "Snapshot", "Revision"])
      const snapshot = got[2]!
      assert.isTrue(snapshot._tag === "Snapshot" && snapshot.revision === 7n)
    })
  )

  it.live("ends a watch that had seen nothing but that it was taken, and one that only knew of progress", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const quiet = yield* reading(service, {}, "a")
      const told = yield* reading(service, { startRevision: 1n }, "b")
      const call = yield* server.call(0, 2)
      const [first, second] = call.creates().map(({ watchId }) => watchId)
      call.answer(
        { watchId: first!, created: true, header: header(20n) },
        { watchId: second!, created: true, header: header(2n) },
        { watchId: second!, header: header(20n) }
      )
      call.fail(lost)
      const again = yield* server.call(1, 2)
      server.store = { revision: 19n, term: 0n }
      again.created(0, 19n)
      again.created(1, 19n)
      assert.strictEqual(yield* tagOf(quiet.fiber), "RevisionRegressed")
      assert.strictEqual(yield* tagOf(told.fiber), "RevisionRegressed")
    })
  )

  it.live("is what a watch for a revision to come waits for, and nobody looks", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { fiber, revisions } = yield* reading(service, { startRevision: 100n })
      for (const n of [0, 1]) {
        const call = yield* server.call(n, 1)
        call.created(0, 5n)
        yield* until(() => call.creates().length === 1)
        if (n === 0) call.fail(lost)
        else call.answer({ watchId: call.creates()[0]!.watchId, events: [put(100n)], header: header(100n) })
      }
      yield* until(() => revisions().length === 1)
      assert.isTrue(isRunning(fiber))
      assert.deepStrictEqual(server.looks, [])
    })
  )
})

describe("a server with another history", () => {
  const passed = (leaderTerm: bigint | undefined) =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const reader = yield* reading(service)
      const first = yield* server.call(0, 1)
      first.answer({ watchId: first.creates()[0]!.watchId, created: true, header: header(10n, 5n) })
      first.fail(lost)
      const call = yield* server.call(1, 1)
      server.store = { revision: 50n, term: 2n }
      server.leaderTerm = leaderTerm
      if (leaderTerm !== undefined) server.endpoints = ["http://server", Server.leaderEndpoint]
      call.answer({ watchId: call.creates()[0]!.watchId, created: true, header: header(50n, 2n) })
      return { ...reader, call, server }
    })

  it.live("that has passed the revision is known by the term of its leader", () =>
    Effect.gen(function* () {
      const { fiber } = yield* passed(2n)
      const { message, reason } = yield* failure(fiber)
      assert.isTrue(reason._tag === "RevisionRegressed" && reason.seen === 10n && reason.current === 50n)
      assert.include(message, "raft term 5")
    })
  )

  it.live("is not seen in a member that has been given a snapshot and applied nothing since", () =>
    Effect.gen(function* () {
      const { call, fiber, revisions } = yield* passed(5n)
      yield* until(() => call.creates().length === 1)
      call.answer({ watchId: call.creates().at(-1)!.watchId, events: [put(51n)], header: header(51n, 5n) })
      yield* until(() => revisions().length === 1 || call.creates().length === 2)
      assert.isTrue(isRunning(fiber))
    })
  )

  it.live("is not seen in a term that no leader has confirmed", () =>
    Effect.gen(function* () {
      const { call, fiber, revisions, server } = yield* passed(undefined)
      yield* until(() => server.statuses > 0)
      call.answer({ watchId: call.creates()[0]!.watchId, events: [put(51n)], header: header(51n, 2n) })
      yield* until(() => revisions().length === 1 || call.creates().length === 2)
      assert.isTrue(isRunning(fiber))
    })
  )

  it.live("that has passed revision and term is known by a write that it does not have", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const reader = yield* reading(service, { startRevision: 1n }, KeyRange.prefix("k"))
      const ahead = yield* reading(service, {}, "x")
      const behind = yield* reading(service, {}, "y")
      const call = yield* server.call(0, 3)
      const ids = call.creates().map(({ watchId }) => watchId)
      call.answer(
        { watchId: ids[0]!, created: true, header: header(2n, 2n) },
        { watchId: ids[1]!, created: true, header: header(30n, 2n) },
        { watchId: ids[2]!, created: true, header: header(3n, 2n) },
        { watchId: ids[0]!, events: [put(30n, "ka")], header: header(30n, 2n) }
      )
      yield* until(() => reader.got.length === 1)
      // Somebody else wrote another key at that revision.
      server.forget()
      server.store = { revision: 90n, term: 2n }
      call.fail(lost)
      const again = yield* server.call(1, 3)
      for (const n of [0, 1, 2]) {
        again.answer({ watchId: again.creates()[n]!.watchId, created: true, header: header(90n, 2n) })
      }
      const { message, reason } = yield* failure(reader.fiber)
      assert.strictEqual(reason._tag, "RevisionRegressed")
      assert.include(message, '"ka"')
      assert.strictEqual(yield* tagOf(ahead.fiber), "RevisionRegressed")
      // What this one has seen may be the same in both.
      assert.isTrue(isRunning(behind.fiber))
    })
  )

  it.live("is looked for by a watch that comes from another call, for itself", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const other = yield* reading(service, { startRevision: 1n }, "a")
      const call = yield* server.call(0, 1)
      const otherId = call.creates()[0]!.watchId
      call.answer({ watchId: otherId, created: true, header: header(90n, 2n) })
      const comes = yield* reading(service, { startRevision: 1n }, "b")
      yield* server.call(0, 2)
      const { watchId } = call.creates()[1]!
      call.answer(
        { watchId, created: true, header: header(90n, 2n) },
        { watchId, events: [put(30n, "b")], header: header(90n, 2n) }
      )
      yield* until(() => comes.got.length === 1)
      server.forget()
      server.store = { revision: 90n, term: 2n }
      call.answer({ watchId, canceled: true, cancelReason: "etcdserver: invalid auth token" })
      yield* server.call(0, 3)
      assert.strictEqual(yield* tagOf(comes.fiber), "RevisionRegressed")
      call.answer({ watchId: otherId, events: [put(91n, "a")], header: header(91n, 2n) })
      yield* until(() => other.got.length === 1)
    })
  )

  it.live("is not seen where the write is compacted away, or may not be read", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, fiber, revisions, watchId } = yield* Effect.gen(function* () {
        server.beforeRead = Effect.fail(
          EtcdError.make(new EtcdError.PermissionDenied({ message: "permission denied", outcome: "not-applied" }))
        )
        return yield* seen(server, service)
      })
      call.answer(
        { watchId, created: true, header: header(12n, 5n) },
        { watchId, events: [put(11n)], header: header(12n, 5n) }
      )
      yield* until(() => revisions().length === 2)
      server.beforeRead = Effect.suspend(() =>
        server.looks.at(-1)!.revision > 0n
          ? Effect.fail(EtcdError.make(new EtcdError.Compacted({ message: "compacted", outcome: "not-applied" })))
          : Effect.void
      )
      server.forget()
      server.store = { revision: 20n, term: 5n }
      call.fail(lost)
      const again = yield* server.call(2, 1)
      yield* until(() => server.looks.at(-1)!.revision === 0n)
      const { watchId: againId } = again.creates()[0]!
      again.answer(
        { watchId: againId, created: true, header: header(20n, 5n) },
        { watchId: againId, events: [put(15n)], header: header(20n, 5n) }
      )
      yield* until(() => revisions().length === 3)
      assert.isTrue(isRunning(fiber))
    })
  )
})

describe("how far a quiet watch is", () => {
  it.live("is asked from time to time, which is told only to those who want to know", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ progressIntervalMillis: 3 })
      const quiet = yield* reading(service)
      const curious = yield* reading(service, { progress: true })
      const call = yield* server.call(0, 2)
      call.created(0, 5n)
      call.created(1, 5n)
      const asked = () => call.requests.filter(({ requestUnion: { case: kind } }) => kind === "progressRequest").length
      yield* until(() => asked() >= 3)
      assert.strictEqual(server.statuses, 1)
      call.answer({ watchId: -1n, header: header(40n) })
      yield* until(() => curious.got.length === 1)
      assert.deepStrictEqual([quiet.got, tags(curious.got)], [[], ["Progress"]])
      call.fail(lost)
      const again = yield* server.call(1, 2)
      assert.deepStrictEqual(
        again.creates().map(({ startRevision }) => startRevision),
        [41n, 41n]
      )
      yield* until(() => server.statuses === 2)
    })
  )

  it.live("leaves no more to look up than one look, for however long the store cannot be read", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ progressIntervalMillis: 2 })
      const mayRead = Latch.makeUnsafe(false)
      server.beforeRead = mayRead.await
      yield* reading(service)
      const call = yield* server.call(0, 1)
      call.created(0, 5n)
      const asked = () => call.requests.filter(({ requestUnion: { case: kind } }) => kind === "progressRequest").length
      yield* until(() => server.looks.length === 1)
      yield* until(() => asked() >= 50)
      const before = asked()
      yield* mayRead.open
      yield* until(() => asked() >= before + 5)
      // The one that was under way, the one that waited, and one in each interval since.
      assert.isAtMost(server.looks.length, 2 + asked() - before + 1)
    })
  )

  it.live("is not asked of a server whose answer may be ahead of its events", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ progressIntervalMillis: 1 })
      server.version = "3.5.7"
      yield* reading(service)
      const call = yield* server.call(0, 1)
      call.created(0, 5n)
      yield* until(() => server.statuses === 1)
      yield* Effect.sleep("10 millis")
      assert.lengthOf(call.requests, 1)
      assert.strictEqual(server.statuses, 1)
    })
  )

  it.live("is not kept from being told by one that waits for a revision to come", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ progressIntervalMillis: 200 })
      yield* reading(service)
      const early = yield* reading(service, { startRevision: 1000n, created: true })
      const next = yield* reading(service, { startRevision: 6n })
      const call = yield* server.call(0, 3)
      for (const n of [0, 1, 2]) call.created(n, 5n)
      // A server that has such a watch does not answer.
      const other = yield* server.call(1, 1)
      assert.deepStrictEqual(call.cancels(), [call.creates()[1]!.watchId])
      const { startRevision, watchId } = other.creates()[0]!
      assert.strictEqual(startRevision, 1000n)
      other.answer({ watchId, created: true, header: header(7n) }, { watchId, events: [put(1000n)] })
      call.answer({ watchId: call.creates()[2]!.watchId, events: [put(6n)] })
      yield* until(() => early.got.length === 2 && next.got.length === 1)
      assert.deepStrictEqual(tags(early.got), ["Created", "Revision"])
      // What waits no longer is not kept from being told by those that still do.
      yield* server.call(0, 4)
      assert.strictEqual(call.creates()[3]!.startRevision, 1001n)
    })
  )

  it.live("may be told by the key itself, when its history is compacted", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, fiber, revisions, watchId } = yield* seen(server, service)
      server.store = { revision: 60n, term: 5n }
      call.answer(
        { watchId, created: true, header: header(60n, 5n) },
        { watchId, canceled: true, compactRevision: 50n, header: header(60n, 5n) }
      )
      const again = yield* server.call(2, 1)
      const { startRevision, watchId: againId } = again.creates()[0]!
      assert.strictEqual(startRevision, 51n)
      assert.isTrue(server.looks.some(({ revision }) => revision === 50n))
      again.answer(
        { watchId: againId, created: true, header: header(60n, 5n) },
        { watchId: againId, events: [put(55n)], header: header(61n, 5n) }
      )
      yield* until(() => revisions().length === 2)
      assert.isTrue(isRunning(fiber))
    })
  )

  it.live("may be told by the key itself, though more is compacted before it is looked at", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { call, fiber, revisions, watchId } = yield* seen(server, service)
      yield* until(() => server.looks.length === 1)
      server.store = { revision: 90n, term: 5n }
      server.beforeRead = Effect.suspend(() =>
        server.looks.at(-1)!.revision === 50n
          ? Effect.fail(EtcdError.make(new EtcdError.Compacted({ message: "compacted", outcome: "not-applied" })))
          : Effect.void
      )
      call.answer(
        { watchId, created: true, header: header(60n, 5n) },
        { watchId, canceled: true, compactRevision: 50n, header: header(60n, 5n) }
      )
      const again = yield* server.call(2, 1)
      const { startRevision, watchId: againId } = again.creates()[0]!
      assert.strictEqual(startRevision, 11n)
      again.answer(
        { watchId: againId, created: true, header: header(90n, 5n) },
        { watchId: againId, canceled: true, compactRevision: 80n, header: header(90n, 5n) }
      )
      const last = yield* server.call(3, 1)
      const { startRevision: next, watchId: lastId } = last.creates()[0]!
      assert.strictEqual(next, 81n)
      last.answer(
        { watchId: lastId, created: true, header: header(90n, 5n) },
        { watchId: lastId, events: [put(91n)], header: header(91n, 5n) }
      )
      yield* until(() => revisions().length === 2)
      assert.isTrue(isRunning(fiber))
      // A server that has nothing but that to say is not asked for ever.
      server.beforeRead = Effect.fail(
        EtcdError.make(new EtcdError.Compacted({ message: "compacted", outcome: "not-applied" }))
      )
      last.answer({ watchId: lastId, canceled: true, compactRevision: 99n, header: header(99n, 5n) })
      const repeating = yield* server.call(4, 1)
      const { watchId: repeatingId } = repeating.creates()[0]!
      repeating.answer(
        { watchId: repeatingId, created: true, header: header(99n, 5n) },
        { watchId: repeatingId, canceled: true, compactRevision: 99n, header: header(99n, 5n) }
      )
      assert.strictEqual(yield* tagOf(fiber), "Compacted")
    })
  )

  it.live("is not told by a key that was written or deleted meanwhile, nor by one of another history", () =>
    Effect.gen(function* () {
      for (const change of ["written", "deleted", "older", "term"] as const) {
        const { server, service } = yield* start()
        const { call, fiber, watchId } = yield* seen(server, service)
        yield* until(() => server.looks.length === 1)
        server.store = { revision: 60n, term: change === "term" ? 4n : 5n }
        if (change !== "term") server.forget()
        if (change === "written") server.remember(put(20n))
        if (change === "older") server.remember(put(3n))
        call.answer(
          { watchId, created: true, header: header(60n, 5n) },
          { watchId, canceled: true, compactRevision: 50n, header: header(60n, 5n) }
        )
        assert.strictEqual(yield* tagOf(fiber), "Compacted", change)
      }
    })
  )
})

/** What the log is told at levels that are seen. */
const logged = () => {
  const lines: Array<{ readonly level: string; readonly text: string }> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel !== "Debug") lines.push({ level: logLevel, text: String(message) })
  })
  return { lines, layer: Logger.layer([logger]) }
}

describe("an outage", () => {
  it.live("is told once in the log, with the endpoints and the reason, and that it is over", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const { server, service } = yield* start()
      server.endpoints = ["http://one", "http://two"]
      let tries = 0
      server.beforeCall = () =>
        Effect.suspend(() => {
          tries++
          return Effect.fail(unreachable)
        })
      const { fiber } = yield* reading(service)
      yield* reading(service, { requireLeader: false }, "b")
      yield* until(() => tries > 12)
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn"]
      )
      for (const part of [...server.endpoints, unreachable.message]) assert.include(lines[0]!.text, part)
      server.beforeCall = () => Effect.void
      ;(yield* server.call(0, 1)).created(0, 5n)
      yield* until(() => lines.length > 1)
      assert.deepStrictEqual([lines[1]!.level, lines.length], ["Info", 2])
      assert.isTrue(isRunning(fiber))
      // Another one is told again.
      server.beforeCall = () => Effect.fail(unreachable)
      server.calls[0]!.fail(lost)
      yield* until(() => lines.length > 2)
      assert.strictEqual(lines[2]!.level, "Warn")
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("that nobody waits through any more does not keep the next one from being told", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const { server, service } = yield* start()
      server.beforeCall = () => Effect.fail(unreachable)
      for (const n of [1, 2]) {
        const { fiber } = yield* reading(service)
        yield* until(() => lines.length === n)
        yield* Fiber.interrupt(fiber)
      }
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("of the reads for a snapshot is told as well", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const { server, service } = yield* start()
      server.beforeRead = Effect.fail(unreachable)
      const { got } = yield* reading(service, { snapshot: "first" })
      yield* until(() => lines.length === 1)
      server.beforeRead = Effect.void
      server.ranges.push({ header: header(3n), kvs: [] })
      yield* until(() => got.length === 1 && lines.length === 2)
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn", "Info"]
      )
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("that cannot mend itself ends the watches that no server has had, and those alone", () =>
    Effect.gen(function* () {
      const lasting = EtcdError.make(
        new EtcdError.Unreachable({
          message: "the certificate is of an unknown authority",
          outcome: "not-applied",
          lasting: true
        })
      )
      const { server, service } = yield* start()
      const served = yield* reading(service)
      const call = yield* server.call(0, 1)
      call.created(0, 5n)
      yield* until(() => call.requests.length === 1)
      let tries = 0
      server.beforeCall = () =>
        Effect.suspend(() => {
          tries++
          return Effect.fail(lasting)
        })
      const unserved = yield* reading(service, {}, "b")
      yield* server.call(0, 2)
      call.fail(lost)
      assert.strictEqual((yield* failure(unserved.fiber)).message, lasting.message)
      const alone = yield* reading(service, { requireLeader: false })
      assert.strictEqual((yield* failure(alone.fiber)).message, lasting.message)
      server.beforeRead = Effect.fail(lasting)
      const snapshot = yield* reading(service, { snapshot: "first" })
      assert.strictEqual((yield* failure(snapshot.fiber)).message, lasting.message)
      yield* until(() => tries > 5)
      assert.isTrue(isRunning(served.fiber))
    })
  )

  it.live("by silence is noticed, and another server asked", () => {
    const { layer, lines } = logged()
    return Effect.gen(function* () {
      const { server, service } = yield* start({ createdMillis: 5 })
      server.endpoints = ["http://one", "http://two"]
      const { revisions } = yield* reading(service, { startRevision: 3n })
      const mute = yield* server.call(0, 1)
      const call = yield* server.call(1, 1)
      assert.deepStrictEqual([mute.isClosed, mute.endpoint, call.endpoint], [true, "http://one", "http://two"])
      const { startRevision, watchId } = call.creates()[0]!
      assert.strictEqual(startRevision, 3n)
      call.answer({ watchId, created: true, header: header(3n) }, { watchId, events: [put(3n)] })
      yield* until(() => revisions().length === 1 && lines.length === 2)
      assert.deepStrictEqual(
        lines.map(({ level }) => level),
        ["Warn", "Info"]
      )
      assert.include(lines[0]!.text, "http://one")
      // Once it is taken, a watch may be as silent as its keys.
      yield* Effect.sleep("30 millis")
      assert.lengthOf(server.calls, 2)
      // And then a server that takes no more of them is left by all.
      yield* reading(service, {}, "b")
      yield* server.call(1, 2)
      const third = yield* server.call(2, 2)
      assert.strictEqual(third.creates()[0]!.startRevision, 4n)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.live("by silence before there is a call is noticed, too", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ createdMillis: 5 })
      server.endpoints = ["http://one", "http://two"]
      let tries = 0
      server.beforeCall = () => Effect.suspend(() => (++tries === 1 ? Effect.never : Effect.void))
      yield* reading(service)
      yield* server.call(0, 1)
    })
  )

  it.effect("is not prolonged by a clock that stands still", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      let tries = 0
      server.beforeCall = () => Effect.suspend(() => (++tries < 5 ? Effect.fail(unreachable) : Effect.void))
      const { got } = yield* reading(service, { created: true, retry: EtcdWatch.defaultRetry })
      const wait = (holds: () => boolean): Effect.Effect<void> =>
        Effect.suspend(() =>
          holds()
            ? Effect.void
            : Effect.andThen(
                Effect.promise(() => immediate()),
                wait(holds)
              )
        )
      const immediate = () => new Promise((resolve) => setImmediate(resolve))
      yield* wait(() => server.calls[0]?.creates().length === 1)
      server.calls[0]!.created(0, 1n)
      yield* wait(() => got.length === 1)
    })
  )
})

describe("a call that ends", () => {
  it.live("with INTERNAL or UNAVAILABLE is made again", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { fiber } = yield* reading(service)
      for (const code of [13, 14]) {
        const call = yield* server.call(code - 13, 1)
        call.created(0, 5n)
        call.fail(status(code))
      }
      yield* server.call(2, 1)
      assert.isTrue(isRunning(fiber))
    })
  )

  it.live("because of one of its watches ends that one, and the others go on where they were", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const keys = ["a", "b", "c", "d", "culprit", "f", "g"]
      const readers = yield* Effect.forEach(keys, (key) => reading(service, { startRevision: 2n }, key))
      const keyOf = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
      /** Gives each watch its revisions from where it asks on; only the culprit's cannot be sent. */
      const serve = (n: number): Effect.Effect<never> =>
        Effect.gen(function* () {
          const call = yield* server.call(n, 1)
          yield* Effect.forkChild(serve(n + 1))
          yield* Effect.sleep("3 millis")
          const creates = call.creates()
          creates.forEach((_, index) => {
            call.created(index, 1n)
          })
          for (const { key, startRevision, watchId } of creates) {
            const from = Number(startRevision)
            if (keyOf(key) === "culprit") continue
            for (let revision = from; revision <= 3 + n; revision++) {
              call.answer({ watchId, events: [put(BigInt(revision), keyOf(key))] })
            }
          }
          if (creates.some(({ key }) => keyOf(key) === "culprit")) call.fail(violation)
          return yield* Effect.never
        })
      yield* Effect.forkScoped(serve(0))
      const others = readers.filter((_, index) => keys[index] !== "culprit")
      const culprit = readers[keys.indexOf("culprit")]!
      assert.strictEqual(yield* tagOf(culprit.fiber), "ProtocolViolation")
      yield* until(() => others.every(({ got }) => got.length >= 2))
      for (const { fiber, revisions } of others) {
        assert.isTrue(isRunning(fiber))
        assert.deepStrictEqual(
          revisions(),
          revisions().map((_, index) => BigInt(index + 2))
        )
      }
    })
  )

  it.live("because of one of its watches is joined by none any more that begins while they are divided", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      yield* reading(service, {}, "a")
      yield* reading(service, {}, "b")
      const call = yield* server.call(0, 2)
      call.created(0, 5n)
      call.created(1, 5n)
      const run = Effect.runForkWith(yield* Effect.context<Scope.Scope>())
      let beginning: Fiber.Fiber<Effect.Success<ReturnType<typeof reading>>> | undefined
      server.beforeCall = () =>
        Effect.sync(() => {
          beginning ??= run(reading(service, { created: true }, "later"))
        })
      call.fail(violation)
      yield* until(() => beginning !== undefined)
      const later = yield* Fiber.join(beginning!)
      const asksForIt = ({ key }: { readonly key: Uint8Array }) => new TextDecoder().decode(key) === "later"
      yield* until(() => !isRunning(later.fiber) || server.calls.some((call) => call.creates().some(asksForIt)))
      assert.isTrue(isRunning(later.fiber))
      assert.isFalse(call.creates().some(asksForIt))
    })
  )

  it.live("for a reason that is about all of them ends all", () =>
    Effect.gen(function* () {
      for (const reason of [
        new EtcdError.ClusterIdMismatch({ message: "another cluster", outcome: "not-applied" }),
        new EtcdError.AuthenticationFailed({ message: "authentication failed", outcome: "not-applied" })
      ]) {
        const { server, service } = yield* start()
        const a = yield* reading(service, {}, "a")
        const b = yield* reading(service, {}, "b")
        const call = yield* server.call(0, 2)
        call.created(0, 5n)
        call.fail(EtcdError.make(reason))
        assert.deepStrictEqual([yield* tagOf(a.fiber), yield* tagOf(b.fiber)], [reason._tag, reason._tag])
        assert.lengthOf(server.calls, 1)
      }
    })
  )

  it.live("because of what is wrong with one of the endpoints is made again elsewhere", () =>
    Effect.gen(function* () {
      const noLeader = EtcdError.make(new EtcdError.NoLeader({ message: "no leader", outcome: "not-applied" }))
      const wrongs: ReadonlyArray<EtcdError.Reason> = [
        new EtcdError.ClusterIdMismatch({ message: "another cluster", outcome: "not-applied" }),
        new EtcdError.Unreachable({ message: "an unknown authority", outcome: "not-applied", lasting: true }),
        new EtcdError.NotGrpc({ message: "HTTP 404", outcome: "not-applied", code: 12 }),
        new EtcdError.ProtocolViolation({ message: "garbage", outcome: "not-applied" }),
        new EtcdError.Unsupported({ message: "no such call", outcome: "not-applied", feature: "Watch.Watch" })
      ]
      for (const wrong of wrongs) {
        const { server, service } = yield* start()
        server.endpoints = ["http://well", "http://wrong"]
        let tries = 0
        server.beforeCall = (endpoint) => {
          if (endpoint === "http://well") return Effect.void
          tries++
          return Effect.fail(EtcdError.make(wrong))
        }
        const served = yield* reading(service)
        const call = yield* server.call(0, 1)
        call.created(0, 5n)
        yield* reading(service)
        const unserved = yield* reading(service)
        yield* server.call(0, 3)
        // The one that is well has no leader for a while, and the other one is asked in between.
        call.fail(noLeader)
        for (let n = 1; n < 4; n++) (yield* server.call(n, 3)).fail(noLeader)
        const last = yield* server.call(4, 3)
        for (const n of [0, 1, 2]) last.created(n, 5n)
        last.answer({ watchId: last.creates()[0]!.watchId, events: [put(6n)] })
        yield* until(() => served.revisions().length === 1)
        assert.isAbove(tries, 0, wrong._tag)
        assert.isTrue(isRunning(served.fiber) && isRunning(unserved.fiber))
      }
    })
  )

  it.live("because each of the endpoints has something wrong with it ends all", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      server.endpoints = ["http://one", "http://two"]
      const { fiber } = yield* reading(service)
      const error = (endpoint: string) =>
        EtcdError.make(new EtcdError.Unsupported({ message: endpoint, outcome: "not-applied", feature: "Watch.Watch" }))
      ;(yield* server.call(0, 1)).fail(error("http://one"))
      ;(yield* server.call(1, 1)).fail(error("http://two"))
      assert.strictEqual(yield* tagOf(fiber), "Unsupported")
    })
  )

  it.live("because it was never any good ends all without dividing them", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const readers = yield* Effect.forEach(Array(8), () => reading(service))
      ;(yield* server.call(0, 8)).fail(violation)
      for (const { fiber } of readers) assert.strictEqual(yield* tagOf(fiber), "ProtocolViolation")
      assert.lengthOf(server.calls, 1)
    })
  )

  it.live("because its client has ended ends its watches with that reason", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { fiber } = yield* reading(service)
      const call = yield* server.call(0, 1)
      call.created(0, 5n)
      server.beforeCall = () => Effect.fail(closedError)
      server.beforeRead = Effect.fail(closedError)
      call.fail(lost)
      const { message, reason } = yield* failure(fiber)
      assert.strictEqual(reason._tag, "Unreachable")
      assert.include(message, "closed")
      const later = yield* reading(service, { snapshot: "first" })
      assert.strictEqual(yield* tagOf(later.fiber), "Unreachable")
    })
  )

  it.live("because its server stops, or is gone, has been read before", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { revisions } = yield* reading(service, { startRevision: 2n })
      const call = yield* server.call(0, 1)
      const { watchId } = call.creates()[0]!
      call.created(0, 9n)
      yield* until(() => call.requests.length === 1)
      call.drain()
      call.answer({ watchId, events: [put(2n), put(3n)] })
      const again = yield* server.call(1, 1)
      assert.deepStrictEqual([again.creates()[0]!.startRevision, revisions()], [4n, [2n, 3n]])
      // A connection that is lost takes no more calls, either; but why it was lost is the reason.
      const unserved = yield* reading(service, { retry: Schedule.recurs(0) }, "b")
      const last = yield* server.call(2, 1)
      last.drain()
      last.fail(lost)
      assert.strictEqual(yield* tagOf(unserved.fiber), "ConnectionLost")
    })
  )

  it.live("because its token is refused again and again is given up", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { fiber } = yield* reading(service)
      const refused = EtcdError.make(
        new EtcdError.InvalidAuthToken({ message: "invalid auth token", outcome: "not-applied" })
      )
      for (const n of [0, 1, 2, 3]) (yield* server.call(n, 1)).fail(refused)
      assert.strictEqual(yield* tagOf(fiber), "InvalidAuthToken")
      // The client itself renews the token for a read.
      server.beforeRead = Effect.fail(refused)
      const snapshot = yield* reading(service, { snapshot: "first" })
      assert.strictEqual(yield* tagOf(snapshot.fiber), "InvalidAuthToken")
      assert.lengthOf(server.reads, 4)
    })
  )

  it.live("by a defect passes it on", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { fiber } = yield* reading(service)
      const call = yield* server.call(0, 1)
      server.beforeCall = () => Effect.die("a defect")
      call.fail(lost)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    })
  )

  it.live("because its server takes no more is made again at once, whatever the schedule says", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      const { fiber, revisions } = yield* reading(service, { startRevision: 2n, retry: Schedule.recurs(0) })
      for (const n of [0, 1, 2]) {
        const call = yield* server.call(n, 1)
        const { startRevision, watchId } = call.creates()[0]!
        assert.strictEqual(startRevision, BigInt(2 + n))
        call.answer({ watchId, created: true, header: header(9n) }, { watchId, events: [put(BigInt(2 + n))] })
        yield* until(() => revisions().length === n + 1)
        call.drain()
      }
      yield* server.call(3, 1)
      assert.deepStrictEqual(revisions(), [2n, 3n, 4n])
      assert.isTrue(isRunning(fiber))
    })
  )

  it.live("takes watches again that it was too worn for before", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      yield* reading(service)
      const call = yield* server.call(0, 1)
      yield* Effect.forEach(Array(1000), () => Effect.flatMap(reading(service), ({ fiber }) => Fiber.interrupt(fiber)))
      call.fail(lost)
      yield* server.call(1, 1)
      yield* reading(service)
      yield* server.call(1, 2)
      assert.lengthOf(server.calls, 2)
    })
  )
})

describe("a service that has ended", () => {
  const ended = Effect.gen(function* () {
    const server = Server.make()
    const scope = yield* Scope.make()
    const service = yield* Scope.provide(EtcdWatch.fromClient(server.client), scope)
    return { server, service, scope }
  })

  const refusals = (service: EtcdWatch.Service) =>
    Effect.forEach(
      [
        Stream.runDrain(service.watch("k", { retry })),
        Stream.runDrain(service.changes("k", { retry })),
        Stream.runDrain(service.changes("k", { retry, snapshot: "first" })),
        service.next("k", { retry }),
        service.requestProgress
      ],
      (work) => Effect.map(Effect.flip(work), ({ message, reason }) => [reason._tag, message.includes("closed")])
    )

  const allRefused = Array.from({ length: 5 }, () => ["Unreachable", true])

  it.live("refuses work", () =>
    Effect.gen(function* () {
      const { scope, server, service } = yield* ended
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* refusals(service), allRefused)
      assert.lengthOf(server.calls, 0)
    })
  )

  it.live("refuses work while it ends, and whoever begins anew with each failure", () =>
    Effect.gen(function* () {
      const { scope, server, service } = yield* ended
      const ending = Latch.makeUnsafe(false)
      const mayEnd = Latch.makeUnsafe(false)
      let attempts = 0
      const stubborn = yield* Stream.suspend(() => {
        attempts++
        return service.watch("k", { retry })
      }).pipe(Stream.retry(Schedule.recurs(20)), Stream.runDrain, Effect.forkScoped({ startImmediately: true }))
      const waiting = yield* reading(service)
      yield* server.call(0, 2)
      server.onClose = Effect.andThen(ending.open, mayEnd.await)
      const closing = yield* Effect.forkScoped(Scope.close(scope, Exit.void))
      yield* ending.await
      assert.deepStrictEqual(yield* refusals(service), allRefused)
      yield* mayEnd.open
      yield* Fiber.join(closing)
      assert.strictEqual(yield* tagOf(waiting.fiber), "Unreachable")
      assert.strictEqual(yield* tagOf(stubborn), "Unreachable")
      assert.strictEqual(attempts, 21)
    })
  )

  it.live("ends the reading of a snapshot", () =>
    Effect.gen(function* () {
      const { scope, server, service } = yield* ended
      server.beforeRead = Effect.never
      const { fiber } = yield* reading(service, { snapshot: "first" })
      yield* until(() => server.reads.length === 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* tagOf(fiber), "Unreachable")
    })
  )
})

describe("the beginning of a watch", () => {
  it.live("with a snapshot is told before the snapshot, when a server has the watch", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      server.ranges.push({ header: header(9n), kvs: [put(3n).kv] })
      const { got } = yield* reading(service, { snapshot: "first", created: true })
      const call = yield* server.call(0, 1)
      const { startRevision, watchId } = call.creates()[0]!
      assert.deepStrictEqual([startRevision, got], [10n, []])
      call.answer({ watchId, created: true, header: header(12n) }, { watchId, events: [put(11n)] })
      yield* until(() => got.length === 3)
      assert.deepStrictEqual(tags(got), ["Created", "Snapshot", "Revision"])
      const [created, snapshot] = got
      assert.isTrue(created?._tag === "Created" && created.startRevision === 10n)
      assert.isTrue(snapshot?._tag === "Snapshot" && snapshot.revision === 9n)
    })
  )

  it.live("with a snapshot does not wait for a server where it is not to be told", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      server.beforeCall = () => Effect.never
      server.ranges.push({ header: header(9n), kvs: [put(3n).kv] })
      const { got } = yield* reading(service, { snapshot: "first" })
      yield* until(() => got.length === 1)
      assert.deepStrictEqual(tags(got), ["Snapshot"])
    })
  )

  it.live("is told once, whatever snapshots follow", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      server.ranges.push({ header: header(9n), kvs: [] })
      const { got } = yield* reading(service, { snapshot: "first", created: true })
      const call = yield* server.call(0, 1)
      const { watchId } = call.creates()[0]!
      server.ranges.push({ header: header(30n), kvs: [] })
      call.answer(
        { watchId, created: true, header: header(30n) },
        { watchId, canceled: true, compactRevision: 20n, header: header(30n) }
      )
      const again = yield* server.call(1, 1)
      assert.strictEqual(again.creates()[0]!.startRevision, 31n)
      again.created(0, 30n)
      yield* until(() => got.length === 3)
      assert.deepStrictEqual(tags(got), ["Created", "Snapshot", "Snapshot"])
      assert.deepStrictEqual(
        got.flatMap((change) => (change._tag === "Snapshot" ? [change.cause] : [])),
        ["first", "compacted"]
      )
    })
  )
})

describe("a request for progress", () => {
  it.live("goes to all calls at once, and says which endpoint has not answered", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ askMillis: 20 })
      for (const endpoint of ["http://dead", "http://well"]) yield* reading(service, { endpoint })
      const well = yield* server.call(1, 1)
      yield* server.call(0, 1)
      server.beforeStatus = (endpoint) => (endpoint === "http://dead" ? Effect.never : Effect.void)
      const { message, reason } = yield* Effect.flip(service.requestProgress)
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.include(message, "http://dead")
      yield* until(() => well.requests.length === 2)
    })
  )

  it.live("does not hold it against a server that this process stood still", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start({ askMillis: 100 })
      yield* reading(service)
      const call = yield* server.call(0, 1)
      // The timer is overdue then, and fires before the answer is read.
      const nextRead = Effect.callback<void>((resume) => {
        setImmediate(() => resume(Effect.void))
      })
      server.beforeStatus = () => Effect.andThen(nextRead, Effect.andThen(standStill(300), nextRead))
      yield* service.requestProgress
      yield* until(() => call.requests.length === 2)
    })
  )
})

describe("the options of a watch", () => {
  const wrong: { readonly [Name in keyof EtcdWatch.ChangesOptions]-?: ReadonlyArray<unknown> } = {
    startRevision: [-1n, 2n ** 63n, 1, 1.5, Number.NaN, "1", null],
    previousValues: ["yes", 1, null],
    ignore: ["put", "all", "", true, null],
    fragment: ["yes", 0, null],
    bufferSize: [0, -1, 0n, -1n, 0.5, Number.NaN, "lots", "0 MiB", {}, null],
    retry: ["1 second", 3, {}, null],
    progress: ["yes", 1, null],
    created: ["yes", 1, null],
    snapshot: ["always", "", true, null],
    endpoint: ["", 2379, {}, null],
    metadata: [
      "tenant",
      [],
      null,
      { Tenant: "a" },
      { "ten ant": "a" },
      { "": "a" },
      { ":path": "/" },
      { connection: "close" },
      { "grpc-timeout": "1S" },
      { tenant: "\n" },
      { tenant: "ü" },
      { tenant: 1 },
      { tenant: undefined }
    ],
    requireLeader: ["yes", 1, null]
  }

  const right: EtcdWatch.ChangesOptions = {
    startRevision: 2n ** 63n - 1n,
    previousValues: true,
    ignore: "deletes",
    fragment: true,
    bufferSize: 1,
    retry,
    progress: true,
    created: true,
    snapshot: "when-compacted",
    endpoint: "http://server",
    metadata: { "x-tenant_1.a": "a b~" },
    requireLeader: false
  }

  it.live("that make no sense are refused, each with what would be right", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      for (const [name, values] of Object.entries(wrong)) {
        for (const value of values) {
          const { message, reason } = yield* Effect.flip(
            Stream.runDrain(service.changes("k", { retry, [name]: value } as EtcdWatch.ChangesOptions))
          )
          assert.strictEqual(reason._tag, "InvalidArgument", `${name}: ${String(value)}`)
          assert.include(message, name)
          assert.match(message, / has to be .*, and not /)
          if (!["progress", "created", "snapshot"].includes(name)) {
            const options = { retry, [name]: value } as EtcdWatch.WatchOptions
            assert.strictEqual((yield* Effect.flip(service.next("k", options))).reason._tag, "InvalidArgument")
          }
        }
      }
      const secret = yield* Effect.flip(
        Stream.runDrain(service.changes("k", { metadata: { Authorization: "secret", "x-a": "secret\n" } }))
      )
      assert.notInclude(secret.message, "secret")
      assert.lengthOf(server.calls, 0)
    })
  )

  it.live("that make sense are taken, and those that are not given", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      yield* reading(service, right)
      yield* server.call(0, 1)
      yield* reading(service, Object.fromEntries(Object.keys(right).map((name) => [name, undefined])))
      yield* server.call(1, 1)
    })
  )

  it.live("do not help where no key can be", () =>
    Effect.gen(function* () {
      const { server, service } = yield* start()
      for (const range of ["", new Uint8Array(0), KeyRange.single(""), KeyRange.interval("b", "a"), undefined, 5]) {
        const error = yield* Effect.flip(service.next(range as KeyRange.Input))
        assert.strictEqual(error.reason._tag, "InvalidArgument", String(range))
      }
      assert.lengthOf(server.calls, 0)
      yield* reading(service, {}, KeyRange.all)
      yield* reading(service, {}, KeyRange.prefix(""))
      yield* server.call(0, 2)
    })
  )
})
