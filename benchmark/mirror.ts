/**
 * What a live copy of many keys takes: the time until it is there, the memory of a key, the time of a read, and the
 * changes that are applied a second. A mirror beside the cache of etcd's own Go client, which is one as well, each round
 * with a new one of each, in changing order.
 *
 * Changes come from etcd, as fast as another process can write, which says what all three can do together; and from a
 * server that has nothing to do but to tell them, which says what the copy can do. CPU is that of the process that has
 * the copy, with its garbage collection and, in Go, on as many cores as there are.
 */
import { fileURLToPath } from "node:url"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Option, Schema, type Scope } from "effect"
import { type EtcdError, EtcdKv, EtcdLayer, EtcdStore, type EtcdWatch } from "effect-etcd"
import { EtcdMirror } from "effect-etcd/coordination"
import { goCache } from "./goClient.ts"
import { spawnLines } from "./lines.ts"
import { makeWriter, valueBytes } from "./reading.ts"
import {
  type BenchError,
  benchError,
  makeNode,
  median,
  type Row,
  rounded,
  spread,
  stopwatch,
  table
} from "./support.ts"

const prefix = "mirror/"

const rival = "go cache"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

/** What lives, in bytes, on the heap and beside it. */
const memory = Effect.promise(async () => {
  for (let n = 0; n < 3; n++) {
    collect()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
})

const reads = 200_000

/** Keys in an order that no cache likes, none of them the object that the mirror has. */
const questions = (keys: number) =>
  Array.from({ length: reads }, (_, n) => `${prefix}${String((n * 104_729) % keys).padStart(8, "0")}`)

/** The nanoseconds of this process's CPU for a read, the median of some rounds. */
const timed = (count: number, run: Effect.Effect<unknown>) =>
  Effect.map(
    Effect.replicateEffect(
      Effect.gen(function* () {
        const elapsed = stopwatch()
        yield* run
        return (elapsed().cpuMicros * 1000) / count
      }),
      7
    ),
    (rounds) => ({ nanos: Math.round(median(rounds)), spread: spread(rounds) })
  )

const readingFrom = (view: EtcdMirror.View<unknown>, keys: ReadonlyArray<string>) =>
  Effect.sync(() => {
    let found = 0
    for (const key of keys) if (view.get(key)._tag === "Some") found++
    if (found !== keys.length) throw new Error(`${keys.length - found} keys are missing`)
  })

const measureReads = Effect.fnUntraced(function* <A>(
  mirror: EtcdMirror.Mirror<A>,
  keys: number,
  ofRival: ReadonlyArray<number>
) {
  const asked = questions(keys)
  const before = yield* mirror.view
  const { header } = yield* EtcdKv.put(`${prefix}${"9".repeat(8)}`, "one more")
  const now = yield* mirror.awaitRevision(header.revision)
  const inEffect = Effect.gen(function* () {
    for (const key of asked) yield* mirror.get(key)
  })
  const all = Effect.sync(() => {
    let count = 0
    for (const _ of now) count++
    return count
  })
  const rows = [
    { read: "view.get, the newest view", ...(yield* timed(reads, readingFrom(now, asked))) },
    { read: "view.get, an older view", ...(yield* timed(reads, readingFrom(before, asked))) },
    { read: "yield* mirror.get", ...(yield* timed(reads, Effect.orDie(inEffect))) },
    { read: "each of all, in order", ...(yield* timed(now.size, all)) },
    ...(ofRival.length === 0
      ? []
      : [{ read: `${rival}, Get, serializable`, nanos: Math.round(median(ofRival)), spread: spread(ofRival) }])
  ]
  console.log(`Reads of a mirror of ${keys} keys, in nanoseconds of CPU`)
  table(rows)
})

/** A copy of the keys that is kept by somebody. */
interface Kept {
  readonly keys: number
  readonly bytes: number
  readonly millis: number
  /** The CPU that the whole process uses while something runs, and until the copy is where the store is, in µs. */
  readonly following: (run: Effect.Effect<unknown, BenchError>) => Effect.Effect<number, BenchError>
  /** So many reads of one key each. Nanoseconds of CPU for each. */
  readonly read: Option.Option<Effect.Effect<number, BenchError>>
}

interface Keeper {
  readonly name: string
  readonly keep: Effect.Effect<Kept, BenchError, Scope.Scope>
}

const connected = (endpoint: string) => EtcdLayer.connect({ endpoints: [endpoint] })

const ours = (
  name: string,
  endpoint: string,
  make: Effect.Effect<
    EtcdMirror.Mirror<unknown>,
    EtcdError.EtcdError,
    EtcdKv.EtcdKv | EtcdWatch.EtcdWatch | Scope.Scope
  >
): Keeper => ({
  name,
  keep: Effect.gen(function* () {
    const services = yield* Layer.build(connected(endpoint))
    // The connection is there.
    yield* Effect.provide(EtcdKv.range(prefix, { countOnly: true }), services)
    const before = yield* memory
    const elapsed = stopwatch()
    const mirror = yield* Effect.provide(make, services)
    const { millis } = elapsed()
    const bytes = (yield* memory) - before
    const { size } = yield* mirror.view
    const kept: Kept = {
      keys: size,
      bytes,
      millis,
      following: (run) =>
        Effect.suspend(() => {
          const elapsed = stopwatch()
          return Effect.andThen(run, mirror.fresh).pipe(
            Effect.mapError((cause) => benchError(name, cause)),
            Effect.map(() => elapsed().cpuMicros)
          )
        }),
      read: Option.none()
    }
    return kept
  }).pipe(Effect.mapError((cause) => benchError(name, cause)))
})

const ofKeys = (endpoint: string) => ours("effect-etcd", endpoint, EtcdMirror.make(prefix))

const ofStore = (endpoint: string) =>
  ours(
    "effect-etcd, a store of text",
    endpoint,
    EtcdMirror.make(EtcdStore.make(prefix, Schema.String, { format: "text" }))
  )

/**
 * The Go cache, with room for all changes at once. Without, when more than ten answers of its watch wait, which they do at
 * some thousand revisions a second, it goes on with 200 of them a second, or begins anew with watches that nobody reads
 * any more and that take gigabytes.
 */
const goKeeper = (spawn: Option.Option.Value<Effect.Success<typeof goCache>>, endpoint: string, keys: number) =>
  Effect.map(
    spawn(endpoint),
    (request): Keeper => ({
      name: rival,
      keep: Effect.map(
        Effect.acquireRelease(request({ scenario: "open", prefix, buffer: keys }), () =>
          Effect.ignore(request({ scenario: "close" }))
        ),
        (opened): Kept => ({
          ...opened,
          following: (run) =>
            request({ scenario: "mark" }).pipe(
              Effect.andThen(run),
              Effect.andThen(request({ scenario: "fresh" })),
              Effect.map(({ cpuMicros }) => cpuMicros)
            ),
          read: Option.some(
            Effect.map(
              request({ scenario: "read", prefix, keys, reads }),
              ({ cpuMicros }) => (cpuMicros * 1000) / reads
            )
          )
        })
      )
    })
  )

/** The server that only tells. */
const makeReplay = Effect.fnUntraced(function* (keys: number) {
  const ask = yield* spawnLines("the server that replays", process.execPath, [
    "--conditions=effect-etcd-source",
    fileURLToPath(new URL("replay.ts", import.meta.url)),
    prefix,
    String(keys),
    String(valueBytes)
  ])
  const change: Change = (count, perRevision) => Effect.as(ask(`prepare ${count} ${perRevision}`), ask("go"))
  return { endpoint: `http://127.0.0.1:${yield* ask("port")}`, change }
})

/** What changes so many of the keys, so many in each revision. */
type Change = (count: number, perRevision: number) => Effect.Effect<Effect.Effect<unknown, BenchError>, BenchError>

interface Rate {
  readonly rate: number
  readonly cpu: number
}

interface Measured {
  readonly fills: Array<{ readonly millis: number; readonly bytes: number }>
  readonly reads: Array<number>
  readonly rates: Map<number, Array<Rate>>
}

/** So many changes, so many a revision. */
type Load = readonly [count: number, perRevision: number]

const measureRound = Effect.fnUntraced(function* (keeper: Keeper, change: Change, loads: ReadonlyArray<Load>) {
  const kept = yield* keeper.keep
  const rates = new Map<number, Rate>()
  const nanos = yield* Effect.transposeOption(kept.read)
  for (const [count, perRevision] of loads) {
    const run = yield* change(count, perRevision)
    const elapsed = stopwatch()
    const cpuMicros = yield* kept.following(run)
    rates.set(perRevision, { rate: (count / elapsed().millis) * 1000, cpu: cpuMicros / count })
  }
  return { fill: { millis: kept.millis, bytes: kept.bytes / kept.keys }, nanos, rates }
}, Effect.scoped)

/** The first round of each is not recorded. */
const measureAll = Effect.fnUntraced(function* (
  keepers: ReadonlyArray<Keeper>,
  change: Change,
  loads: ReadonlyArray<Load>,
  rounds: number
) {
  const all = new Map<string, Measured>(
    keepers.map(({ name }) => [name, { fills: [], reads: [], rates: new Map(loads.map(([, each]) => [each, []])) }])
  )
  for (let round = 0; round <= rounds; round++) {
    for (const keeper of round % 2 === 0 ? keepers : keepers.toReversed()) {
      const { fill, nanos, rates } = yield* measureRound(keeper, change, loads)
      if (round === 0) continue
      const measured = all.get(keeper.name)!
      measured.fills.push(fill)
      if (Option.isSome(nanos)) measured.reads.push(nanos.value)
      for (const [each, rate] of rates) measured.rates.get(each)!.push(rate)
    }
  }
  return all
})

const tableOfFills = (all: ReadonlyMap<string, Measured>) =>
  table(
    [...all].map(([client, { fills }]) => ({
      client,
      "ms until there": Math.round(median(fills.map(({ millis }) => millis))),
      spread: spread(fills.map(({ millis }) => millis)),
      "bytes a key": Math.round(median(fills.map(({ bytes }) => bytes)))
    }))
  )

const tableOfRates = (all: ReadonlyMap<string, Measured>, loads: ReadonlyArray<Load>) =>
  table(
    loads.flatMap(([, perRevision]) =>
      [...all].map(([client, { rates }]) => {
        const measured = rates.get(perRevision)!
        const perSecond = measured.map(({ rate }) => rate)
        return {
          client,
          "a revision": perRevision,
          "changes/s": Math.round(median(perSecond)),
          spread: spread(perSecond),
          "CPU µs/change": rounded(median(measured.map(({ cpu }) => cpu)), 2)
        }
      })
    )
  )

export const mirror = (quick: boolean) =>
  Effect.gen(function* () {
    const keys = quick ? 20_000 : 100_000
    const rounds = 3
    const { tcp } = yield* makeNode({ quotaBackendBytes: "8 GiB" })
    const write = yield* makeWriter(tcp)
    yield* write(prefix, keys, 100)
    console.log(`${keys} keys of ${prefix.length + 8} bytes, with values of ${valueBytes}`)
    const spawnRival = yield* goCache
    const rivalAt = (endpoint: string) =>
      Effect.map(
        Effect.transposeOption(Option.map(spawnRival, (spawn) => goKeeper(spawn, endpoint, keys))),
        Option.toArray
      )
    const loads: ReadonlyArray<Load> = [
      [keys / 10, 1],
      [keys / 5, 10],
      [keys / 2, 100]
    ]
    const written = yield* measureAll(
      [ofKeys(tcp), ofStore(tcp), ...(yield* rivalAt(tcp))],
      (count, perRevision) => Effect.succeed(write(prefix, count, perRevision)),
      loads,
      rounds
    )
    tableOfFills(written)
    const nanos = written.get(rival)?.reads ?? []
    yield* Effect.flatMap(EtcdMirror.make(prefix), (mirror) => measureReads(mirror, keys, nanos)).pipe(
      Effect.scoped,
      Effect.provide(connected(tcp))
    )
    console.log(
      "Changes that another process writes to etcd, and that are in the copy: what all of them can do together"
    )
    tableOfRates(written, loads)

    const replay = yield* makeReplay(keys)
    const replayed = yield* measureAll(
      [ofKeys(replay.endpoint), ofStore(replay.endpoint), ...(yield* rivalAt(replay.endpoint))],
      replay.change,
      loads.map(([, perRevision]) => [keys, perRevision]),
      rounds
    )
    console.log("Changes that a server tells at once, which has nothing else to do: what the copy can do by itself")
    tableOfRates(replayed, loads)
    return [] as ReadonlyArray<Row>
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) => benchError("mirror", cause)),
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
