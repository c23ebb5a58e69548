/**
 * What a live copy of many keys takes: the time of a read, the memory of a key, the changes that are applied a second
 * while another process writes at full speed, and the time until there is a view at all.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Schema } from "effect"
import { EtcdKv, EtcdLayer, EtcdStore, KeyRange } from "effect-etcd"
import { EtcdMirror } from "effect-etcd/coordination"
import { makeWriter, valueBytes } from "./reading.ts"
import { benchError, makeNode, median, type Row, rounded, spread, stopwatch, table } from "./support.ts"

const prefix = "mirror/"

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

const measureReads = Effect.fnUntraced(function* <A>(mirror: EtcdMirror.Mirror<A>, keys: number) {
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
    { read: "each of all, in order", ...(yield* timed(now.size, all)) }
  ]
  console.log(`Reads of a mirror of ${keys} keys, in nanoseconds of CPU`)
  table(rows)
})

const makes = {
  "keys as they are": EtcdMirror.make(prefix),
  "a store of text": EtcdMirror.make(EtcdStore.make(prefix, Schema.String, { format: "text" }))
} as const

const measureMemory = Effect.fnUntraced(function* (name: keyof typeof makes, keys: number) {
  const before = yield* memory
  const elapsed = stopwatch()
  const mirror: EtcdMirror.Mirror<unknown> = yield* makes[name]
  const { millis } = elapsed()
  const after = yield* memory
  const { size } = yield* mirror.view
  if (size < keys) return yield* Effect.fail(new Error(`${size} keys and not ${keys}`))
  return {
    "mirror of": name,
    "bytes a key": Math.round((after - before) / size),
    "ms until there": Math.round(millis)
  }
})

/** Changes of keys that are there, written by another process. */
const measureChanges = Effect.fnUntraced(function* (
  mirror: EtcdMirror.Mirror<unknown>,
  write: Effect.Success<ReturnType<typeof makeWriter>>,
  count: number,
  perRevision: number
) {
  const rounds: Array<{ readonly rate: number; readonly cpu: number }> = []
  for (let round = 0; round < 4; round++) {
    const elapsed = stopwatch()
    yield* write(prefix, count, perRevision)
    yield* mirror.fresh
    const { cpuMicros, millis } = elapsed()
    if (round > 0) rounds.push({ rate: (count / millis) * 1000, cpu: cpuMicros / count })
  }
  return {
    "a revision": perRevision,
    "changes/s": Math.round(median(rounds.map(({ rate }) => rate))),
    spread: spread(rounds.map(({ rate }) => rate)),
    "CPU µs/change": rounded(median(rounds.map(({ cpu }) => cpu)), 2)
  }
})

export const mirror = (quick: boolean) =>
  Effect.gen(function* () {
    const keys = quick ? 20_000 : 100_000
    const { tcp } = yield* makeNode({ quotaBackendBytes: "4 GiB" })
    const write = yield* makeWriter(tcp)
    yield* write(prefix, keys, 100)
    yield* Effect.gen(function* () {
      const { count } = yield* EtcdKv.range(KeyRange.prefix(prefix), { countOnly: true })
      console.log(`${count} keys of ${prefix.length + 8} bytes, with values of ${valueBytes}`)
      // What is loaded and compiled for the first one belongs to nobody.
      yield* Effect.scoped(measureMemory("a store of text", keys))
      table([
        yield* Effect.scoped(measureMemory("keys as they are", keys)),
        yield* Effect.scoped(measureMemory("a store of text", keys))
      ])
      const mirror = yield* EtcdMirror.make(prefix)
      yield* measureReads(mirror, keys)
      console.log("Changes that another process writes, and that are in the view")
      table([
        yield* measureChanges(mirror, write, keys / 5, 1),
        yield* measureChanges(mirror, write, keys, 10),
        yield* measureChanges(mirror, write, keys, 100)
      ])
    }).pipe(Effect.provide(EtcdLayer.connect({ endpoints: [tcp] })))
    return [] as ReadonlyArray<Row>
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) => benchError("mirror", cause)),
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
