import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { Auth, KV } from "../src/internal/proto/rpc_pb.ts"
import { Settings } from "../src/internal/watch/settings.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { freeze, startAgain } from "./support/machine.ts"
import { wallClock } from "./support/time.ts"
import * as Cut from "./support/watch/cut.ts"
import * as Metrics from "./support/watch/metrics.ts"

const describeEvent = (event: EtcdWatch.Event) =>
  event._tag === "Put" ? `${event.kv.keyString}=${event.kv.valueString}` : `${event.kv.keyString} deleted`

describe("EtcdWatch", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }))((it) => {
    it.effect("delivers all changes of a range, in order, from the revision asked for", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("w/a", "1")
        yield* EtcdKv.put("w/b", "2")
        yield* EtcdKv.put("other", "x")
        yield* EtcdKv.delete("w/a")
        yield* EtcdKv.put("w/a", "3")
        const events = yield* EtcdWatch.watch(KeyRange.prefix("w/"), { startRevision: header.revision }).pipe(
          Stream.take(4),
          Stream.runCollect
        )
        assert.deepStrictEqual(events.map(describeEvent), ["w/a=1", "w/b=2", "w/a deleted", "w/a=3"])
        const revisions = events.map((event) => event.kv.modRevision)
        assert.deepStrictEqual(revisions, [...revisions].sort())
        assert.deepStrictEqual(
          events.map((event) => event._tag === "Put" && event.isCreate),
          [true, true, false, true]
        )
      })
    )

    it.effect("previous values and filters", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("p/a", "1")
        yield* EtcdKv.put("p/a", "2")
        yield* EtcdKv.delete("p/a")
        const options = { startRevision: header.revision + 1n, previousValues: true }
        const events = yield* Stream.runCollect(Stream.take(EtcdWatch.watch("p/a", options), 2))
        assert.deepStrictEqual(
          events.map((event) => Option.getOrThrow(event.previous).valueString),
          ["1", "2"]
        )
        const deletes = yield* EtcdWatch.next("p/a", { ...options, ignore: "puts" })
        assert.strictEqual(describeEvent(deletes), "p/a deleted")
        const puts = yield* EtcdWatch.next("p/a", { ...options, ignore: "deletes" })
        assert.strictEqual(describeEvent(puts), "p/a=2")
      })
    )

    it.effect("next waits for a change of its key", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("n/a", "1")
        const waiting = yield* Effect.forkChild(EtcdWatch.next("n/a", { startRevision: header.revision + 1n }))
        yield* EtcdKv.put("n/b", "not this one")
        yield* EtcdKv.put("n/a", "2")
        assert.strictEqual(describeEvent(yield* Fiber.join(waiting)), "n/a=2")
      })
    )

    it.effect("a watch from a compacted revision fails with it", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("c/a", "1")
        yield* EtcdKv.put("c/a", "2")
        yield* EtcdKv.compact(header.revision + 1n)
        const error = yield* Effect.flip(EtcdWatch.next("c/a", { startRevision: header.revision }))
        assert.strictEqual(error.reason._tag, "Compacted")
        if (error.reason._tag === "Compacted") {
          assert.strictEqual(error.reason.compactedRevision, header.revision + 1n)
        }
      })
    )
  })
})

const describeChange = (change: EtcdWatch.Change): string => {
  switch (change._tag) {
    case "Revision":
      return change.events.map(describeEvent).join(" & ")
    case "Snapshot":
      return `[${change.kvs.map((kv) => `${kv.keyString}=${kv.valueString}`)}]`
    default:
      return change._tag
  }
}

const put = (key: string, value: string) => ({
  request: {
    case: "requestPut" as const,
    value: { key: KeyRange.toBytes(key), value: KeyRange.toBytes(value) }
  }
})

const txn = (...success: ReadonlyArray<ReturnType<typeof put>>) =>
  Effect.flatMap(EtcdClient.EtcdClient, (client) => client.unary(KV.method.txn, { success: [...success] }))

/** A reader of which one can see how far it is. */
const reading = <A, R>(stream: Stream.Stream<A, EtcdError.EtcdError, R>) =>
  Effect.gen(function* () {
    const got: Array<A> = []
    const fiber = yield* Effect.forkScoped(Stream.runForEach(stream, (item) => Effect.sync(() => got.push(item))))
    const until = (holds: (got: ReadonlyArray<A>) => boolean): Effect.Effect<void> =>
      Effect.suspend(() => (holds(got) ? Effect.void : Effect.andThen(Effect.sleep("2 millis"), until(holds))))
    return { got, fiber, until }
  })

const eventually = (effect: Effect.Effect<number>, wanted: number): Effect.Effect<void> =>
  Effect.flatMap(effect, (found) =>
    found === wanted ? Effect.void : Effect.andThen(Effect.sleep("5 millis"), eventually(effect, wanted))
  )

describe("EtcdWatch.changes", () => {
  layer(
    EtcdLayer.ephemeral(
      { watchProgressNotifyInterval: "100 millis" },
      { log: false, client: { deadline: "200 millis" } }
    ),
    { excludeTestServices: true }
  )((it) => {
    it.effect("delivers the events of one revision together", () =>
      Effect.gen(function* () {
        const answer = yield* txn(put("t/a", "1"), put("t/b", "1"))
        yield* EtcdKv.put("t/a", "2")
        yield* EtcdKv.deletePrefix("t/")
        const changes = yield* EtcdWatch.changes(KeyRange.prefix("t/"), {
          startRevision: answer.header!.revision
        }).pipe(Stream.take(3), Stream.runCollect)
        assert.deepStrictEqual(changes.map(describeChange), ["t/a=1 & t/b=1", "t/a=2", "t/a deleted & t/b deleted"])
      })
    )

    it.effect("tells when the server has the watch, and from where on", () =>
      Effect.gen(function* () {
        const { got, until } = yield* reading(EtcdWatch.changes("c/now", { created: true }))
        yield* until((got) => got.length === 1)
        const { header } = yield* EtcdKv.put("c/now", "1")
        yield* until((got) => got.length === 2)
        const [first, second] = got
        assert.isTrue(first?._tag === "Created" && first.startRevision <= header.revision)
        assert.isTrue(second?._tag === "Revision" && second.revision === header.revision)
      }).pipe(Effect.scoped)
    )

    it.effect("a watch outlives the client's deadline for calls", () =>
      Effect.gen(function* () {
        const { until } = yield* reading(EtcdWatch.changes("d/a", { progress: true }))
        // More than the deadline, by the server's clock.
        yield* until((got) => got.length === 4)
        yield* EtcdKv.put("d/a", "1")
        yield* until((got) => got.some((change) => change._tag === "Revision"))
      }).pipe(Effect.scoped)
    )

    it.effect("tells of progress, when the server does and when it is asked", () =>
      Effect.gen(function* () {
        const byItself = yield* reading(EtcdWatch.changes("g/a", { progress: true }))
        const { header } = yield* EtcdKv.put("g/other", "1")
        const isThere = (changes: ReadonlyArray<EtcdWatch.Change>) =>
          changes.some((change) => change._tag === "Progress" && change.revision >= header.revision)
        yield* byItself.until(isThere)
        const { version } = yield* EtcdProcess.EtcdProcess
        const asking = EtcdWatch.requestProgress
        if (version.major === 3 && (version.minor < 4 || (version.minor === 4 && version.patch < 25))) {
          const error = yield* Effect.flip(asking)
          assert.strictEqual(error.reason._tag, "Unsupported")
          return
        }
        const asked = yield* reading(EtcdWatch.changes("g/b", { startRevision: 1n, progress: true }))
        yield* Effect.forkScoped(Effect.repeat(asking, Schedule.spaced("10 millis")))
        yield* asked.until(isThere)
        const none = yield* reading(EtcdWatch.changes("g/c", {}))
        assert.deepStrictEqual(none.got, [])
      }).pipe(Effect.scoped)
    )

    it.effect("begins with a snapshot, and goes on right after it", () =>
      Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 1201 }, (_, n) => `s/${String(n).padStart(4, "0")}`),
          (key) => EtcdKv.put(key, "0", { deadline: "30 seconds" }),
          { concurrency: 50 }
        )
        const { got, until } = yield* reading(EtcdWatch.changes(KeyRange.prefix("s/"), { snapshot: "first" }))
        yield* until((got) => got.length === 1)
        yield* EtcdKv.put("s/0000", "1")
        yield* until((got) => got.length === 2)
        const [snapshot, change] = got
        assert.isTrue(snapshot?._tag === "Snapshot")
        if (snapshot?._tag !== "Snapshot") return
        assert.deepStrictEqual([snapshot.kvs.length, snapshot.kvs.at(-1)?.keyString], [1201, "s/1200"])
        assert.strictEqual(describeChange(change!), "s/0000=1")
      }).pipe(Effect.scoped)
    )

    it.effect("reads a snapshot in the pages that EtcdKv.stream reads, by their size in bytes", () =>
      Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 600 }, (_, n) => `pages/${String(n).padStart(4, "0")}`),
          (key) => EtcdKv.put(key, "v".repeat(20_000), { deadline: "30 seconds" }),
          { concurrency: 50 }
        )
        const client = yield* EtcdClient.EtcdClient
        const range = KeyRange.prefix("pages/")
        const pagesOf = <A>(read: (client: EtcdClient.Client) => Stream.Stream<A, EtcdError.EtcdError, Scope.Scope>) =>
          Effect.gen(function* () {
            const pages: Array<number> = []
            const counting: EtcdClient.Client = {
              ...client,
              unary: (method, request, options) =>
                Effect.tap(client.unary(method, request, options), (answer) => {
                  if ("kvs" in answer) pages.push((answer.kvs as ReadonlyArray<unknown>).length)
                  return Effect.void
                })
            }
            yield* Stream.runDrain(read(counting))
            return pages
          })
        const ofStream = yield* pagesOf((client) => EtcdKv.fromClient(client).stream(range, { deadline: "30 seconds" }))
        const ofSnapshot = yield* pagesOf((client) =>
          Stream.unwrap(
            Effect.map(EtcdWatch.fromClient(client), (service) =>
              Stream.take(service.changes(range, { snapshot: "first" }), 1)
            )
          )
        )
        assert.deepStrictEqual(ofSnapshot, ofStream)
        assert.isBelow(Math.max(...ofSnapshot), 200)
      }).pipe(Effect.scoped)
    )

    it.effect("a snapshot takes the place of what is compacted", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("x/a", "1")
        yield* EtcdKv.put("x/b", "1")
        yield* EtcdKv.put("x/a", "2")
        yield* EtcdKv.compact(header.revision + 2n)
        yield* EtcdKv.put("x/b", "2")
        const options = { startRevision: header.revision, snapshot: "when-compacted" } as const
        const { got, until } = yield* reading(EtcdWatch.changes(KeyRange.prefix("x/"), options))
        yield* until((got) => got.length === 1)
        yield* EtcdKv.delete("x/a")
        yield* until((got) => got.length === 2)
        assert.deepStrictEqual(got.map(describeChange), ["[x/a=2,x/b=2]", "x/a deleted"])
      }).pipe(Effect.scoped)
    )

    it.effect("puts together a revision that is larger than a message", () =>
      Effect.gen(function* () {
        const value = "v".repeat(200_000)
        yield* Effect.forEach(
          Array.from({ length: 20 }, (_, n) => `l/${n}`),
          (key) => EtcdKv.put(key, value)
        )
        const { header } = yield* EtcdKv.deletePrefix("l/")
        const options = { startRevision: header.revision, previousValues: true }
        for (const fragment of [true, false]) {
          const [change] = yield* EtcdWatch.changes(KeyRange.prefix("l/"), { ...options, fragment }).pipe(
            Stream.take(1),
            Stream.runCollect
          )
          assert.isTrue(change?._tag === "Revision")
          if (change?._tag !== "Revision") return
          assert.lengthOf(change.events, 20)
          assert.isTrue(change.events.every((event) => Option.getOrThrow(event.previous).value.length === 200_000))
        }
      })
    )

    it.effect("waits for a revision that is still to come", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("f/a", "1")
        const { got, until } = yield* reading(EtcdWatch.watch("f/a", { startRevision: header.revision + 3n }))
        const order = yield* reading(EtcdWatch.watch("f/a", { startRevision: header.revision }))
        yield* Effect.forEach(["2", "3", "4"], (value) => EtcdKv.put("f/a", value))
        yield* until((got) => got.length === 1)
        yield* order.until((got) => got.length === 4)
        assert.deepStrictEqual(got.map(describeEvent), ["f/a=4"])
      }).pipe(Effect.scoped)
    )

    it.effect("a slow reader misses nothing", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("slow", "0")
        const fast = yield* reading(EtcdWatch.watch("slow", { startRevision: header.revision }))
        const seen: Array<string> = []
        const slow = yield* EtcdWatch.watch("slow", { startRevision: header.revision, bufferSize: "2 KiB" }).pipe(
          Stream.take(200),
          Stream.runForEach((event) => {
            seen.push(event.kv.valueString)
            return fast.got.length === 200 ? Effect.void : Effect.sleep("5 millis")
          }),
          Effect.forkScoped
        )
        yield* Effect.forEach(
          Array.from({ length: 199 }, (_, n) => String(n + 1)),
          (value) => EtcdKv.put("slow", value)
        )
        yield* Fiber.join(slow)
        assert.deepStrictEqual(
          seen,
          Array.from({ length: 200 }, (_, n) => String(n))
        )
      }).pipe(Effect.scoped)
    )
  })
})

describe("EtcdWatch and its server", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }), { excludeTestServices: true })((it) => {
    it.effect("ten thousand watches on one client", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const watches = yield* Effect.forEach(
          Array.from({ length: 10_000 }, (_, n) => `many/${n % 100}`),
          (key) => Effect.forkScoped(EtcdWatch.next(key))
        )
        yield* eventually(Metrics.watchers(node), 10_000)
        assert.isAtMost(yield* Metrics.calls(node), 10)
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => `many/${n}`),
          (key) => EtcdKv.put(key, "now")
        )
        const events = yield* Fiber.joinAll(watches)
        assert.isTrue(events.every((event) => event.kv.valueString === "now"))
        yield* eventually(Metrics.watchers(node), 0)
        yield* eventually(Metrics.calls(node), 0)
      }).pipe(Effect.scoped)
    )

    it.effect("a watch ends with its client, and none begins after that", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdProcess.EtcdProcess
        const scope = yield* Scope.make()
        const service = yield* EtcdWatch.fromClient(yield* Scope.provide(EtcdClient.make({ endpoints }), scope))
        // Whose pauses are long does not wait for the next try.
        const before = yield* Effect.forEach([EtcdWatch.defaultRetry, Schedule.spaced("1 hour")], (retry) =>
          reading(service.changes("client", { created: true, retry }))
        )
        for (const { until } of before) yield* until((got) => got.length === 1)
        yield* Scope.close(scope, Exit.void)
        for (const { fiber } of before) {
          assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).reason._tag, "Unreachable")
        }
        for (const options of [{}, { snapshot: "first" as const }]) {
          const error = yield* Effect.flip(Stream.runDrain(service.changes("client", options)))
          assert.strictEqual(error.reason._tag, "Unreachable")
          assert.include(error.message, "closed")
        }
      }).pipe(Effect.scoped)
    )

    it.effect("closing the stream ends the watch on the server", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const stays = yield* reading(EtcdWatch.watch("z"))
        const goes = yield* reading(EtcdWatch.watch("z"))
        yield* eventually(Metrics.watchers(node), 2)
        yield* Fiber.interrupt(goes.fiber)
        yield* eventually(Metrics.watchers(node), 1)
        yield* EtcdKv.put("z", "1")
        yield* stays.until((got) => got.length === 1)
        yield* Fiber.interrupt(stays.fiber)
        yield* eventually(Metrics.watchers(node), 0)
        yield* eventually(Metrics.calls(node), 0)
      }).pipe(Effect.scoped)
    )

    it.effect("a message that is too large for the client ends the watch that it is for, and no other", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdProcess.EtcdProcess
        const service = yield* EtcdWatch.fromClient(
          yield* EtcdClient.make({ endpoints, maxReceiveMessageSize: 64 * 1024 })
        )
        const { header } = yield* EtcdKv.put("fits/0", "first")
        const startRevision = header.revision
        const fits = yield* Effect.forEach([0, 1, 2, 3, 4], (n) =>
          reading(service.watch(`fits/${n}`, n === 0 ? { startRevision } : {}))
        )
        const exceeds = yield* reading(service.watch("exceeds", { startRevision }))
        yield* fits[0]!.until((got) => got.length === 1)
        yield* EtcdKv.put("exceeds", "v".repeat(100_000))
        const error = yield* Effect.flip(Fiber.join(exceeds.fiber))
        assert.strictEqual(error.reason._tag, "ProtocolViolation")
        for (const n of [0, 1, 2, 3, 4]) yield* EtcdKv.put(`fits/${n}`, "second")
        for (const [n, { until }] of fits.entries()) yield* until((got) => got.length === (n === 0 ? 2 : 1))
        assert.deepStrictEqual(
          fits.flatMap(({ got }) => got.map(describeEvent)),
          ["fits/0=first", "fits/0=second", "fits/1=second", "fits/2=second", "fits/3=second", "fits/4=second"]
        )
      }).pipe(Effect.scoped)
    )

    it.effect("a key that is too large for the server ends the watch of it, and no other", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdProcess.EtcdProcess
        const service = yield* EtcdWatch.fromClient(yield* EtcdClient.make({ endpoints }))
        const names = ["0", "1", "2", "3"]
        const fits = yield* Effect.forEach(names, (name) => reading(service.changes(`key/${name}`, { created: true })))
        const exceeds = yield* reading(service.watch("k".repeat(3_000_000)))
        const error = yield* Effect.flip(Fiber.join(exceeds.fiber))
        assert.strictEqual(error.reason._tag, "RequestTooLarge")
        for (const { until } of fits) yield* until((got) => got.length === 1)
        for (const name of names) yield* EtcdKv.put(`key/${name}`, "1")
        for (const { until } of fits) yield* until((got) => got.length === 2)
      }).pipe(Effect.scoped)
    )

    it.effect("watches of quiet keys outlive a compaction and a server that is killed", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const { major, minor, patch } = node.version
        const tells = major > 3 || minor > 4 || (minor === 4 && patch >= 25)
        yield* EtcdKv.put("quiet/key", "1")
        const service = yield* EtcdWatch.fromClient(yield* EtcdClient.EtcdClient).pipe(
          Effect.provideService(Settings, {
            ...Context.get(Context.empty(), Settings),
            progressIntervalMillis: 20
          })
        )
        const key = yield* reading(service.changes("quiet/key", { created: true }))
        const range = yield* reading(service.changes(KeyRange.prefix("quiet/"), { created: true, progress: true }))
        // Busy, but with nothing that it is to tell.
        const filtered = yield* reading(
          service.changes(KeyRange.prefix("bus"), { created: true, progress: true, ignore: "puts" })
        )
        // A server with such a watch does not tell of progress.
        yield* reading(service.changes("quiet/early", { startRevision: 2n ** 62n }))
        yield* key.until((got) => got.length === 1)
        for (const { until } of [range, filtered]) yield* until((got) => got.length === 1)
        yield* Effect.forEach(Array(20), (_, n) => EtcdKv.put("busy", String(n)))
        const { header } = yield* EtcdKv.put("busy", "last")
        if (tells) {
          for (const { until } of [range, filtered]) {
            yield* until((got) => got.some((item) => item._tag === "Progress" && item.revision >= header.revision))
          }
        }
        // What is on the disk when it is killed: it must not come back from before the compaction.
        yield* EtcdKv.compact(header.revision, { physical: true })
        yield* node.signal("SIGKILL")
        yield* node.exit
        yield* startAgain(node)
        if (!tells) {
          // What an old server says of progress when it is asked is not to be relied on, and it is not asked.
          for (const { fiber } of [range, filtered]) {
            assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).reason._tag, "Compacted")
          }
        }
        yield* EtcdKv.put("quiet/key", "2")
        const isThere = (got: ReadonlyArray<EtcdWatch.Change>) => got.some((item) => item._tag === "Revision")
        yield* key.until(isThere)
        if (tells) yield* range.until(isThere)
        yield* EtcdKv.delete("busy")
        if (tells) yield* filtered.until(isThere)
        assert.deepStrictEqual(key.got.map(describeChange), ["Created", "quiet/key=2"])
      }).pipe(Effect.scoped)
    )

    it.effect("a watch outlives a server that is killed, and one that is stopped in good order", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const watching = yield* reading(EtcdWatch.changes("r/a", { created: true }))
        yield* watching.until((got) => got.length === 1)
        yield* node.signal("SIGKILL")
        yield* node.exit
        yield* startAgain(node)
        yield* EtcdKv.put("r/a", "1")
        yield* watching.until((got) => got.length === 2)
        yield* node.stop
        yield* startAgain(node)
        yield* EtcdKv.put("r/a", "2")
        yield* watching.until((got) => got.length === 3)
        assert.deepStrictEqual(watching.got.map(describeChange), ["Created", "r/a=1", "r/a=2"])
      }).pipe(Effect.scoped)
    )
  })

  it.live("a watch leaves a member that lost its leader, unless it may stay", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const client = yield* EtcdClient.make({ endpoints: cluster.endpoints })
      const watch = yield* EtcdWatch.fromClient(client)
      const leader = yield* cluster.awaitLeader
      const alone = SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!
      const others = SubscriptionRef.getUnsafe(cluster.members).filter((node) => node !== alone)
      const endpoint = alone.endpoints[0]
      const leaves = yield* Effect.forkScoped(
        Effect.flip(watch.next("a", { endpoint, retry: Schedule.recurs(0), requireLeader: true }))
      )
      const stays = yield* Effect.forkScoped(watch.next("a", { endpoint, requireLeader: false, startRevision: 2n }))
      const moves = yield* Effect.forkScoped(watch.next("a", { startRevision: 2n }))
      yield* eventually(
        Effect.map(
          Effect.forEach(SubscriptionRef.getUnsafe(cluster.members), (node) => Metrics.watchers(node)),
          (counts) => counts.reduce((sum, count) => sum + count)
        ),
        3
      )
      yield* Effect.forEach(others, freeze, { discard: true })
      const error = yield* Fiber.join(leaves)
      assert.strictEqual(error.reason._tag, "NoLeader")
      assert.strictEqual(yield* Metrics.watchers(alone), 1)
      yield* Effect.forEach(others, (node) => node.signal("SIGCONT"), { discard: true })
      const kv = EtcdKv.fromClient(client)
      // What came to a member before it had a leader again may have an unknown outcome, which is not tried again by itself.
      yield* Effect.retry(kv.put("a", "1"), Schedule.spaced("20 millis"))
      assert.strictEqual(describeEvent(yield* Fiber.join(stays)), "a=1")
      assert.strictEqual(describeEvent(yield* Fiber.join(moves)), "a=1")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a watch leaves an endpoint that the list has no more, and misses nothing", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const [first, second] = SubscriptionRef.getUnsafe(cluster.members)
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, first!.endpoints)
      const client = yield* EtcdClient.make({ endpoints: Stream.fromQueue(lists) })
      const watch = yield* EtcdWatch.fromClient(client)
      const kv = EtcdKv.fromClient(client)
      const watching = yield* reading(watch.changes("a", { startRevision: 2n }))
      yield* eventually(Metrics.watchers(first!), 1)
      yield* kv.put("a", "1")
      yield* Queue.offer(lists, second!.endpoints)
      yield* eventually(Metrics.watchers(second!), 1)
      yield* eventually(Metrics.watchers(first!), 0)
      yield* kv.put("a", "2")
      yield* watching.until((got) => got.length === 2)
      assert.deepStrictEqual(watching.got.map(describeChange), ["a=1", "a=2"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a watch goes on wherever the wall clock is set meanwhile, and so does one that reads a snapshot", () =>
    Effect.gen(function* () {
      const clock = yield* wallClock
      const node = yield* EtcdProcess.ephemeral({}, { log: false })
      const client = yield* EtcdClient.make({ endpoints: node.endpoints })
      const watch = yield* EtcdWatch.fromClient(client)
      const kv = EtcdKv.fromClient(client)
      let pauses = 0
      const counted = () =>
        EtcdWatch.defaultRetry.pipe(
          Schedule.modifyDelay(({ duration }) => {
            pauses++
            return Effect.succeed(duration)
          })
        )
      const watching = yield* reading(watch.changes("a", { created: true, retry: counted() }))
      yield* watching.until((got) => got.length === 1)
      for (const [n, hours] of [-1, 1, -1000].entries()) {
        yield* node.signal("SIGKILL")
        yield* node.exit
        const copying = yield* reading(watch.changes("a", { snapshot: "first", retry: counted() }))
        const before = pauses
        yield* copying.until(() => pauses > before + 4)
        clock.step(hours * 3_600_000)
        yield* startAgain(node)
        yield* kv.put("a", String(n), { retry: Schedule.spaced("20 millis") })
        yield* watching.until((got) => got.length === n + 2)
        yield* copying.until((got) => got.length > 0)
      }
      assert.deepStrictEqual(watching.got.map(describeChange), ["Created", "a=0", "a=1", "a=2"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("watches outlive the loss of the leader beside an endpoint of another cluster", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const stranger = yield* EtcdProcess.ephemeral({}, { log: false })
      const [alone, ...others] = SubscriptionRef.getUnsafe(cluster.members)
      const client = yield* EtcdClient.make({ endpoints: alone!.endpoints })
      const both = yield* EtcdClient.make({ endpoints: [...alone!.endpoints, ...stranger.endpoints] })
      // The first cluster that answers is the client's.
      const watch = yield* EtcdWatch.fromClient(both)
      yield* EtcdKv.fromClient(both).get("a", { endpoint: alone!.endpoints[0] })
      const kv = EtcdKv.fromClient(client)
      let tries = 0
      const retry: typeof EtcdWatch.defaultRetry = Schedule.spaced("10 millis").pipe(
        Schedule.modifyDelay(({ duration }) => {
          tries++
          return Effect.succeed(duration)
        })
      )
      const watching = yield* reading(watch.changes("a", { created: true, startRevision: 2n, retry }))
      yield* watching.until((got) => got.length === 1)
      yield* Effect.forEach(others, freeze, { discard: true })
      yield* watching.until(() => {
        assert.isUndefined(watching.fiber.pollUnsafe())
        return tries >= 6
      })
      yield* Effect.forEach(others, (node) => node.signal("SIGCONT"), { discard: true })
      yield* kv.put("a", "1", { retry: Schedule.spaced("20 millis") })
      yield* watching.until((got) => got.length === 2)
      assert.deepStrictEqual(watching.got.map(describeChange), ["Created", "a=1"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("revisions in pieces come whole, once and in order, though the connection is cut between the pieces", () =>
    Effect.gen(function* () {
      // The server makes pieces of about 640 KB then.
      const node = yield* EtcdProcess.ephemeral({ maxRequestBytes: 131_072 }, { log: false })
      const way = yield* Cut.cutting(node, (connection) => 900_000 + 150_000 * (connection % 5))
      const keys = Array.from({ length: 10 }, (_, n) => `k/${n}`)
      const valueOf = (n: number) => `${n}`.padEnd(10_000, "v")
      const client = yield* EtcdClient.make({ endpoints: node.endpoints })
      const write = (n: number) => client.unary(KV.method.txn, { success: keys.map((key) => put(key, valueOf(n))) })
      const count = 40
      yield* Effect.forEach(Array(count / 2), (_, n) => write(n))
      const service = yield* EtcdWatch.fromClient(
        yield* EtcdClient.make({ endpoints: [way.endpoint], reconnect: Schedule.spaced("1 millis") })
      )
      const watching = yield* reading(
        service.changes(KeyRange.prefix("k/"), {
          startRevision: 2n,
          fragment: true,
          previousValues: true,
          bufferSize: 200_000,
          retry: Schedule.spaced("1 millis")
        })
      )
      yield* Effect.forEach(Array(count / 2), (_, n) => write(count / 2 + n))
      yield* watching.until((got) => got.length >= count)
      for (const [n, change] of watching.got.entries()) {
        if (change._tag !== "Revision") return assert.fail(change._tag)
        const { events, revision } = change
        assert.strictEqual(revision, BigInt(n + 2))
        assert.deepStrictEqual(
          events.map(({ kv, previous }) => [
            kv.keyString,
            kv.valueString,
            Option.map(previous, (kv) => kv.valueString)
          ]),
          keys.map((key) => [key, valueOf(n), n === 0 ? Option.none() : Option.some(valueOf(n - 1))])
        )
      }
      assert.isAbove(way.counts.cuts, 2)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("permissions and tokens that expire", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({ authTokenTtl: 1 }, { log: false })
      const open = yield* EtcdClient.make({ endpoints: node.endpoints })
      const root = { name: "root", password: "secret" }
      yield* open.unary(Auth.method.userAdd, root)
      yield* open.unary(Auth.method.roleAdd, { name: "root" })
      yield* open.unary(Auth.method.userGrantRole, { user: "root", role: "root" })
      yield* open.unary(Auth.method.userAdd, { name: "reader", password: "secret" })
      yield* open.unary(Auth.method.roleAdd, { name: "reader" })
      yield* open.unary(Auth.method.userGrantRole, { user: "reader", role: "reader" })
      yield* open.unary(Auth.method.roleGrantPermission, {
        name: "reader",
        perm: { key: KeyRange.toBytes("may"), permType: 2 as const }
      })
      yield* open.unary(Auth.method.authEnable, {})

      const password = Redacted.make("secret")
      const client = yield* EtcdClient.make({
        endpoints: node.endpoints,
        credentials: { username: "reader", password }
      })
      const watch = yield* EtcdWatch.fromClient(client)
      const kv = EtcdKv.fromClient(client)
      const denied = yield* Effect.flip(watch.next("may not"))
      assert.strictEqual(denied.reason._tag, "PermissionDenied")

      const { header } = yield* kv.put("may", "1")
      const old = yield* Effect.forkScoped(watch.next("may"))
      yield* eventually(Metrics.watchers(node), 1)
      // The server forgets the token some time after it was last used. A raw call shows when.
      const plain = yield* EtcdClient.make({ endpoints: node.endpoints })
      const { token } = yield* plain.unary(Auth.method.authenticate, { name: "reader", password: "secret" })
      const isForgotten = plain
        .unary(KV.method.range, { key: KeyRange.toBytes("may") }, { metadata: { token }, retry: Schedule.recurs(0) })
        .pipe(
          Effect.as(false),
          Effect.catch((error) => Effect.succeed(error.reason._tag === "InvalidAuthToken"))
        )
      yield* Effect.sleep("2500 millis")
      assert.isTrue(yield* isForgotten)
      // Who has given a token has to give another one, and is told so.
      const given = yield* Effect.flip((yield* EtcdWatch.fromClient(plain)).next("may", { metadata: { token } }))
      assert.deepInclude(given.reason, { _tag: "InvalidAuthToken", lasting: true })
      const fresh = yield* watch.next("may", { startRevision: header.revision })
      assert.strictEqual(describeEvent(fresh), "may=1")
      yield* kv.put("may", "2")
      assert.strictEqual(describeEvent(yield* Fiber.join(old)), "may=2")

      // A server that was restarted knows no token at all.
      yield* Effect.forkScoped(Stream.runDrain(watch.watch("may")))
      const startRevision = (yield* kv.range("may")).header.revision + 1n
      const third = yield* Effect.forkScoped(watch.next("may", { startRevision }))
      yield* eventually(Metrics.watchers(node), 2)
      yield* node.signal("SIGKILL")
      yield* node.exit
      yield* startAgain(node)
      yield* kv.put("may", "3")
      assert.strictEqual(describeEvent(yield* Fiber.join(third)), "may=3")

      const nobody = yield* EtcdWatch.fromClient(plain)
      for (const snapshot of ["never", "first"] as const) {
        const refused = yield* Effect.flip(Stream.runDrain(nobody.changes("may", { snapshot })))
        assert.strictEqual(refused.reason._tag, "UserNameEmpty")
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "a permission that is taken away ends the watch that needs it, when a server is asked again, and no other",
    () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.ephemeral({}, { log: false })
        const open = yield* EtcdClient.make({ endpoints: node.endpoints })
        const users = [
          ["root", ["root"]],
          ["reader", ["keeps", "loses"]]
        ] as const
        for (const [name, roles] of users) {
          yield* open.unary(Auth.method.userAdd, { name, password: "secret" })
          for (const role of roles) {
            yield* open.unary(Auth.method.roleAdd, { name: role })
            yield* open.unary(Auth.method.userGrantRole, { user: name, role })
            const perm = { key: KeyRange.toBytes(role), permType: 2 as const }
            yield* open.unary(Auth.method.roleGrantPermission, { name: role, perm })
          }
        }
        yield* open.unary(Auth.method.authEnable, {})
        const clientOf = (username: string) =>
          EtcdClient.make({ endpoints: node.endpoints, credentials: { username, password: Redacted.make("secret") } })
        const root = yield* clientOf("root")
        const watch = yield* EtcdWatch.fromClient(yield* clientOf("reader"))
        const keeps = yield* reading(watch.changes("keeps", { created: true }))
        const loses = yield* reading(watch.changes("loses", { created: true }))
        for (const { until } of [keeps, loses]) yield* until((got) => got.length === 1)
        assert.strictEqual(yield* Metrics.calls(node), 1)
        yield* root.unary(Auth.method.userRevokeRole, { name: "reader", role: "loses" })
        yield* node.signal("SIGKILL")
        yield* node.exit
        yield* startAgain(node)
        const error = yield* Effect.flip(Fiber.join(loses.fiber))
        assert.strictEqual(error.reason._tag, "PermissionDenied")
        yield* EtcdKv.fromClient(root).put("keeps", "1", { retry: Schedule.spaced("20 millis") })
        yield* keeps.until((got) => got.length === 2)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
