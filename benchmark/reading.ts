/**
 * Reading much: the events of one watch while another process writes at full speed, beside `etcd3`; and all keys of a
 * large range, page by page, with the memory that it takes.
 */
import { fileURLToPath } from "node:url"
import { NodeServices } from "@effect/platform-node"
import { Deferred, Effect, Fiber, type Scope, Stream } from "effect"
import { EtcdKv, EtcdLayer, EtcdWatch, KeyRange } from "effect-etcd"
import { Etcd3 } from "etcd3"
import { spawnLines } from "./lines.ts"
import { BenchError, benchError, makeNode, median, type Row, rounded, spread, stopwatch, table } from "./support.ts"

export const valueBytes = 64

const node = makeNode({ quotaBackendBytes: "4 GiB" })

/** A process that writes so many keys below a prefix. */
export const makeWriter = (endpoint: string) =>
  Effect.map(
    spawnLines("the writer", process.execPath, [
      "--conditions=effect-etcd-source",
      fileURLToPath(new URL("writer.ts", import.meta.url)),
      endpoint,
      String(valueBytes)
    ]),
    (ask) => (prefix: string, count: number, perRevision: number) => ask(`${prefix} ${count} ${perRevision}`)
  )

/** What this process does while an effect runs: how much of it a second, and with how much CPU each. */
const measured = <A, E, R>(count: number, effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const elapsed = stopwatch()
    return Effect.map(effect, () => {
      const { cpuMicros, millis } = elapsed()
      return { rate: (count / millis) * 1000, cpuMicros: cpuMicros / count }
    })
  })

interface Measured {
  readonly rate: number
  readonly cpuMicros: number
}

const rowOf = (scenario: string, client: string, rounds: ReadonlyArray<Measured>): Row => {
  const rates = rounds.map(({ rate }) => rate)
  return {
    scenario,
    client,
    inFlight: 1,
    valueBytes,
    opsPerSecond: Math.round(median(rates)),
    spread: spread(rates),
    p50Micros: null,
    p99Micros: null,
    cpuMicrosPerOp: rounded(median(rounds.map(({ cpuMicros }) => cpuMicros)), 2)
  }
}

// -----------------------------------------------------------------------------
// watch
// -----------------------------------------------------------------------------

/** Watches a prefix. It is there once the server has the watch, and its result ends once so many events were seen. */
type Watch = (
  endpoint: string,
  prefix: string,
  count: number
) => Effect.Effect<Effect.Effect<void, BenchError>, BenchError, Scope.Scope>

const ours: Watch = (endpoint, prefix, count) =>
  Effect.gen(function* () {
    const created = yield* Deferred.make<void>()
    let seen = 0
    const watching = yield* EtcdWatch.changes(KeyRange.prefix(prefix), { created: true }).pipe(
      Stream.takeUntil((item) => {
        if (item._tag === "Created") Deferred.doneUnsafe(created, Effect.void)
        if (item._tag === "Revision") seen += item.events.length
        return seen >= count
      }),
      Stream.runDrain,
      Effect.provide(EtcdLayer.connect({ endpoints: [endpoint] })),
      Effect.mapError((cause) => benchError("effect-etcd", cause)),
      Effect.forkScoped
    )
    yield* Effect.raceFirst(Deferred.await(created), Fiber.join(watching))
    return Fiber.join(watching)
  })

const etcd3: Watch = (endpoint, prefix, count) =>
  Effect.gen(function* () {
    const failed = (cause: unknown) => benchError("etcd3", cause)
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Etcd3({ hosts: endpoint })),
      (client) => Effect.sync(() => client.close())
    )
    // A watch that is not cancelled connects again and again, also when its client is closed.
    const watcher = yield* Effect.acquireRelease(
      Effect.tryPromise({ try: () => client.watch().prefix(prefix).create(), catch: failed }),
      (watcher) => Effect.promise(() => watcher.cancel())
    )
    return Effect.callback<void, BenchError>((resume) => {
      let seen = 0
      watcher.on("error", (cause) => resume(Effect.fail(failed(cause))))
      watcher.on("data", (response) => {
        seen += response.events.length
        if (seen >= count) resume(Effect.void)
      })
    })
  })

const watches: Readonly<Record<string, Watch>> = { "effect-etcd": ours, etcd3 }

const eventsPerRevision = 100

export const watch = (quick: boolean) =>
  Effect.gen(function* () {
    const count = quick ? 30_000 : 200_000
    const { tcp } = yield* node
    const write = yield* makeWriter(tcp)
    const measureWatch = (client: string, round: number) =>
      Effect.gen(function* () {
        const prefix = `${client}/${round}/`
        const ended = yield* watches[client]!(tcp, prefix, count)
        const both = Effect.all([ended, write(prefix, count, eventsPerRevision)], {
          concurrency: "unbounded",
          discard: true
        })
        return yield* measured(count, both)
      }).pipe(Effect.scoped)
    const names = Object.keys(watches)
    const recorded = quick ? 3 : 5
    const rounds = new Map(names.map((name) => [name, [] as Measured[]]))
    for (let round = 0; round <= recorded; round++) {
      for (const name of round % 2 === 0 ? names : names.toReversed()) {
        const result = yield* measureWatch(name, round)
        if (round > 0) rounds.get(name)!.push(result)
      }
    }
    const rows = names.map((name) => rowOf("watch", name, rounds.get(name)!))
    console.log(
      `watch: ${count} events of ${valueBytes} bytes on one watch, ${eventsPerRevision} a revision, written by another process`
    )
    table(
      rows.map((row) => ({
        client: row.client,
        "events/s": row.opsPerSecond,
        spread: row.spread,
        "CPU µs/event": row.cpuMicrosPerOp
      }))
    )
    return rows
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

// -----------------------------------------------------------------------------
// scan
// -----------------------------------------------------------------------------

/** The largest memory of this process from now on, looked at every ten milliseconds. */
const samplePeak = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const sample = { bytes: 0, timer: undefined as NodeJS.Timeout | undefined }
      sample.timer = setInterval(() => {
        sample.bytes = Math.max(sample.bytes, process.memoryUsage.rss())
      }, 10)
      return sample
    }),
    (sample) => Effect.sync(() => clearInterval(sample.timer))
  ),
  (sample) => () => sample.bytes
)

const scanAll = (endpoint: string, count: number) =>
  Effect.gen(function* () {
    let seen = 0
    yield* EtcdKv.stream(KeyRange.prefix("scan/")).pipe(
      Stream.runForEachArray((kvs) =>
        Effect.sync(() => {
          seen += kvs.length
        })
      ),
      Effect.provide(EtcdLayer.connect({ endpoints: [endpoint] }))
    )
    if (seen !== count) return yield* new BenchError({ message: `scan: ${seen} of ${count} keys were read` })
  })

export const scan = (quick: boolean) =>
  Effect.gen(function* () {
    const count = quick ? 50_000 : 1_000_000
    const { tcp } = yield* node
    const write = yield* makeWriter(tcp)
    yield* write("scan/", count, 100)
    const bytesBefore = process.memoryUsage.rss()
    const peakBytes = yield* samplePeak
    const rounds: Array<Measured> = []
    for (let round = 0; round < 4; round++) {
      const result = yield* measured(count, scanAll(tcp, count))
      if (round > 0) rounds.push(result)
    }
    const row = rowOf("scan", "effect-etcd", rounds)
    console.log(`scan: ${count} keys of ${valueBytes} bytes through EtcdKv.stream`)
    table([
      {
        client: row.client,
        "keys/s": row.opsPerSecond,
        spread: row.spread,
        "CPU µs/key": row.cpuMicrosPerOp,
        "RSS MB before": Math.round(bytesBefore / 1e6),
        "peak RSS MB": Math.round(peakBytes() / 1e6)
      }
    ])
    return [row]
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
