/**
 * Watches under fire: writers at full speed on a cluster whose members are killed, paused and restarted, fast and slow
 * readers, and compactions. What each watch delivered is checked against the store's history.
 *
 * `WATCH_FIRE_SECONDS` says how long; 8 by default.
 */
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import type * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { Event_EventType } from "../src/internal/proto/kv_pb.ts"
import { KV, Watch, type WatchResponse } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as History from "./support/history.ts"
import { freeze } from "./support/machine.ts"

const seconds = Number(process.env.WATCH_FIRE_SECONDS ?? 8)

const prefix = "fire/"
const text = new TextDecoder()

// The store's history, read by a call of its own and not by a watch of this library.

const entriesOf = (answer: WatchResponse): ReadonlyArray<History.Entry> => {
  const entries: Array<{ readonly revision: bigint; readonly events: Array<History.Event> }> = []
  for (const { kv, type } of answer.events) {
    const revision = kv!.modRevision
    if (entries.at(-1)?.revision !== revision) entries.push({ revision, events: [] })
    entries.at(-1)!.events.push({
      type: type === Event_EventType.DELETE ? "delete" : "put",
      key: text.decode(kv!.key),
      value: text.decode(kv!.value)
    })
  }
  return entries
}

/** Appends all that the store did up to a revision, which one of the writers made. */
const harvest = (client: EtcdClient.Client, history: Array<History.Entry>, to: bigint) =>
  Effect.gen(function* () {
    const startRevision = (history.at(-1)?.revision ?? 0n) + 1n
    if (startRevision > to) return
    const call = yield* client.bidirectional(Watch.method.watch)
    const range = KeyRange.all
    yield* call.send({
      requestUnion: { case: "createRequest", value: { key: range.key, rangeEnd: range.end, startRevision } }
    })
    const fresh: Array<History.Entry> = []
    yield* call.messages.pipe(
      Stream.takeUntil((answer) => {
        assert.isFalse(answer.canceled, answer.cancelReason)
        fresh.push(...entriesOf(answer))
        return fresh.length > 0 && fresh.at(-1)!.revision >= to
      }),
      Stream.runDrain
    )
    const last = history.at(-1)?.revision ?? 0n
    history.push(...fresh.filter((entry) => entry.revision > last))
    assert.isAtLeast(Number(history.at(-1)?.revision), Number(to), "the call ended before the history was read")
  }).pipe(Effect.scoped, Effect.retry(Schedule.spaced("50 millis")))

// The writers

const key = (writer: number, n: number) => KeyRange.toBytes(`${prefix}${writer}/${n % 17}`)

const putOp = (writer: number, n: number, value: string) => ({
  request: { case: "requestPut" as const, value: { key: key(writer, n), value: KeyRange.toBytes(value) } }
})

const deleteOp = (writer: number, n: number) => ({
  request: { case: "requestDeleteRange" as const, value: { key: key(writer, n) } }
})

/** Several keys at one revision, a single put, or a delete. The last operation is always a put. */
const write = (client: EtcdClient.Client, writer: number, n: number) => {
  const value = `${writer}-${n}`
  switch (n % 4) {
    case 0:
      return client.unary(KV.method.txn, {
        success: [putOp(writer, n, `${value}a`), deleteOp(writer, n + 5), putOp(writer, n + 7, `${value}b`)]
      })
    case 1:
      return client.unary(KV.method.deleteRange, { key: key(writer, n) })
    default:
      return client.unary(KV.method.put, { key: key(writer, n), value: KeyRange.toBytes(value) })
  }
}

const writer = (client: EtcdClient.Client, id: number, written: Ref.Ref<number>) => {
  let n = 0
  return Effect.forever(
    Effect.suspend(() => Effect.ignore(write(client, id, n++))).pipe(
      Effect.andThen(Ref.update(written, (count) => count + 1))
    )
  )
}

// The faults: one member at a time, so that the others have a quorum

const kill = (node: EtcdProcess.Node) =>
  Effect.gen(function* () {
    yield* node.signal("SIGKILL")
    yield* Effect.sleep("400 millis")
    yield* node.start
  })

const pause = (node: EtcdProcess.Node) =>
  Effect.gen(function* () {
    yield* freeze(node)
    yield* Effect.sleep("900 millis")
  }).pipe(Effect.ensuring(node.signal("SIGCONT")))

const restart = (node: EtcdProcess.Node) => Effect.andThen(node.stop, node.start)

const faults = [kill, pause, restart]

const trouble = (cluster: EtcdCluster.Cluster) => {
  let n = 0
  return Effect.gen(function* () {
    // Whom the watches are most likely on, and the leader, get their turn by chance.
    const node = SubscriptionRef.getUnsafe(cluster.members)[
      yield* Random.nextIntBetween(0, SubscriptionRef.getUnsafe(cluster.members).length)
    ]!
    yield* Effect.ignore(faults[n++ % faults.length]!(node))
    yield* Effect.sleep("300 millis")
  }).pipe(Effect.forever)
}

// The watches

interface Recorder {
  readonly name: string
  readonly expects: Omit<History.Expectation, "history" | "to" | "from">
  /** The first revision that it was for, as soon as that is certain. */
  from: bigint | undefined
  readonly observed: Array<History.Observation>
  /** How far it is. */
  position: bigint
  ended: EtcdError.EtcdError | undefined
}

/** The oldest revision that it may still ask for. */
const needed = ({ from, position }: Recorder): bigint => (position > 0n ? position : (from ?? 2n ** 63n))

const positionOf = (observations: ReadonlyArray<History.Observation>, position: bigint): bigint =>
  observations.reduce((max, { revision }) => (revision > max ? revision : max), position)

const record = (
  name: string,
  changes: Stream.Stream<EtcdWatch.Change, EtcdError.EtcdError>,
  expects: Recorder["expects"],
  options: { readonly from?: bigint; readonly pause?: Effect.Effect<void> } = {}
) => {
  const recorder: Recorder = { name, expects, from: options.from, observed: [], position: 0n, ended: undefined }
  const keep = (change: EtcdWatch.Change) => {
    if (change._tag === "Created") recorder.from = change.startRevision
    const observations = History.observation(change)
    recorder.observed.push(...observations)
    recorder.position = positionOf(observations, recorder.position)
  }
  const run = changes.pipe(
    Stream.runForEach((change) =>
      Effect.andThen(
        Effect.sync(() => keep(change)),
        options.pause ?? Effect.void
      )
    ),
    Effect.catch((error) =>
      Effect.sync(() => {
        recorder.ended = error
      })
    )
  )
  return Effect.as(Effect.forkScoped(run), recorder)
}

/** Turns single events into revisions, as far as they are there. */
const byEvent = (events: Stream.Stream<EtcdWatch.Event, EtcdError.EtcdError>) =>
  Stream.mapArray(events, (batch) => {
    const [first, ...rest] = batch
    const groups: Array<[EtcdWatch.Event, ...Array<EtcdWatch.Event>]> = [[first]]
    for (const event of rest) {
      if (event.kv.modRevision === groups.at(-1)![0].kv.modRevision) groups.at(-1)!.push(event)
      else groups.push([event])
    }
    const [head, ...tail] = groups.map(
      (events) => new EtcdWatch.Revision({ revision: events[0].kv.modRevision, events })
    )
    return [head!, ...tail]
  })

const connect = (cluster: EtcdCluster.Cluster) =>
  EtcdClient.make({
    endpoints: cluster.endpoints,
    keepAliveInterval: "300 millis",
    keepAliveTimeout: "300 millis",
    connectTimeout: "1 second"
  })

const everything = { covers: (key: string) => key.startsWith(prefix) }

describe("watches under fire", () => {
  it.live(
    "keep what etcd promises",
    () =>
      Effect.gen(function* () {
        const cluster = yield* EtcdCluster.ephemeral({
          log: false,
          config: { watchProgressNotifyInterval: "200 millis" }
        })
        const client = yield* connect(cluster)
        const writing = yield* connect(cluster)
        const kv = EtcdKv.fromClient(client)
        const service = yield* EtcdWatch.fromClient(client)
        const all = KeyRange.prefix(prefix)
        let isBusy = true
        const slowly = (millis: number) => Effect.suspend(() => (isBusy ? Effect.sleep(millis) : Effect.void))

        const recorders = [
          yield* record("fast, all", service.changes(all, { startRevision: 1n, progress: true }), everything, {
            from: 1n
          }),
          yield* record(
            "fast, by event",
            byEvent(service.watch(all, { startRevision: 1n, previousValues: true })),
            everything,
            {
              from: 1n
            }
          ),
          yield* record(
            "fast, one writer",
            service.changes(KeyRange.prefix(`${prefix}1/`), { startRevision: 1n, progress: true }),
            { covers: (key) => key.startsWith(`${prefix}1/`) },
            { from: 1n }
          ),
          yield* record(
            "deletions",
            service.changes(all, { startRevision: 1n, ignore: "puts", progress: true }),
            { ...everything, wants: (event) => event.type === "delete" },
            { from: 1n }
          ),
          yield* record(
            "in fragments",
            service.changes(all, { startRevision: 1n, fragment: true, requireLeader: false }),
            everything,
            { from: 1n }
          ),
          yield* record(
            "behind from time to time",
            service.changes(all, { startRevision: 1n, bufferSize: 40_000, progress: true }),
            everything,
            { from: 1n, pause: slowly(0) }
          ),
          yield* record(
            "slow, with snapshots",
            service.changes(all, { startRevision: 1n, bufferSize: 20_000, snapshot: "when-compacted", progress: true }),
            everything,
            { from: 1n, pause: slowly(5) }
          ),
          yield* record("slow", service.changes(all, { startRevision: 1n, bufferSize: 20_000 }), everything, {
            from: 1n,
            pause: slowly(5)
          }),
          yield* record("a copy", service.changes(all, { snapshot: "first", progress: true }), everything, { from: 1n })
        ]

        const written = yield* Ref.make(0)
        const writers = yield* Effect.forEach([0, 1, 2, 3, 4, 5, 6, 7], (id) =>
          Effect.forkChild(writer(writing, id, written))
        )
        const troubling = yield* Effect.forkChild(trouble(cluster))
        const asking = yield* service.requestProgress.pipe(
          Effect.ignore,
          Effect.repeat(Schedule.spaced("100 millis")),
          Effect.forkChild
        )

        const history: Array<History.Entry> = []
        let compactions = 0
        let late = 0
        const tick = Effect.gen(function* () {
          yield* Effect.sleep("1 second")
          const name = `from now ${late++}`
          recorders.push(yield* record(name, service.changes(all, { created: true, progress: true }), everything))
          const { header } = yield* kv.range("none", { retry: Schedule.spaced("50 millis") })
          yield* harvest(client, history, history.length === 0 ? 2n : header.revision)
          // Who is slow may lose what is compacted, and nobody else.
          const oldest = recorders.filter(({ name }) => !name.startsWith("slow")).map(needed)
          const before = oldest.reduce((least, one) => (one < least ? one : least), header.revision - 1500n)
          // Not a revision that deleted a key: etcd before 3.5.18 forgets that it did.
          const old = history.findLast(
            (entry) => entry.revision < before && entry.events.every((event) => event.type === "put")
          )
          if (old === undefined) return
          const compacted = yield* Effect.option(kv.compact(old.revision))
          if (Option.isSome(compacted)) compactions++
        })
        // On a busy machine it takes longer until there is something to compact.
        let ticks = 0
        yield* Effect.repeat(tick, { times: seconds + 30, until: () => ++ticks >= seconds && compactions > 0 })

        yield* Fiber.interruptAll([...writers, asking])
        isBusy = false
        yield* Fiber.interrupt(troubling)
        for (const node of SubscriptionRef.getUnsafe(cluster.members)) {
          yield* node.signal("SIGCONT")
          yield* Effect.ignore(node.start)
        }
        // Something for each of the watches, so that they are known to be done when they have it.
        const end = yield* kv
          .put(key(1, 1), "last")
          .pipe(Effect.andThen(kv.delete(key(1, 1))), Effect.retry(Schedule.spaced("50 millis")))
        const to = end.header.revision
        yield* harvest(client, history, to)
        yield* Effect.suspend(() =>
          recorders.every((recorder) => recorder.ended !== undefined || recorder.position >= to)
            ? Effect.void
            : Effect.fail(`not all are done: ${recorders.map(({ name, position }) => `${name} ${position}`)}; ${to}`)
        ).pipe(Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 600 }))

        const count = (name: string, tag: History.Observation["_tag"]) =>
          recorders
            .filter((recorder) => recorder.name.startsWith(name))
            .reduce((sum, { observed }) => sum + observed.filter((one) => one._tag === tag).length, 0)
        // A server that reports progress by the clock alone does so for watches that have nothing to deliver.
        yield* Effect.suspend(() =>
          count("fast, all", "Progress") > 0 ? Effect.void : Effect.fail("no progress")
        ).pipe(Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 600 }))

        for (const recorder of recorders) {
          const { ended, from, name, observed, position } = recorder
          if (ended !== undefined) {
            assert.strictEqual(name, "slow", ended.message)
            assert.strictEqual(ended.reason._tag, "Compacted")
          }
          const expectation = { ...recorder.expects, history, from: from!, to: ended === undefined ? to : position }
          const violations = History.check(expectation, observed)
          assert.deepStrictEqual(violations.slice(0, 10), [], `${name}: ${violations.length} violations`)
        }
        yield* Effect.logInfo("watches under fire", {
          revisions: history.length,
          compactions,
          snapshots: count("slow, with", "Snapshot"),
          progress: count("", "Progress"),
          watches: recorders.length,
          slow: recorders.find((recorder) => recorder.name === "slow")?.ended?.reason._tag
        })
        assert.isAbove(compactions, 0)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    { timeout: (seconds + 90) * 1000 }
  )
})
