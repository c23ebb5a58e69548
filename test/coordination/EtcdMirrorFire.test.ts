/**
 * Mirrors under fire: writers at full speed on a cluster whose members are killed, paused and restarted, and whose history
 * is compacted. Each key is written together with another one, so that half a transaction would show.
 *
 * `MIRROR_FIRE_SECONDS` says how long, 2 by default, and `MIRROR_FIRE_KEYS` how many keys there are, 1000 by default:
 * `MIRROR_FIRE_SECONDS=60 MIRROR_FIRE_KEYS=100000 npx vitest run test/coordination/EtcdMirrorFire.test.ts`.
 */
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdMirror from "../../src/coordination/EtcdMirror.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdCluster from "../../src/EtcdCluster.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import type * as EtcdProcess from "../../src/EtcdProcess.ts"
import type { KeyValue } from "../../src/EtcdResponse.ts"
import * as EtcdStore from "../../src/EtcdStore.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { freeze, until } from "../support/machine.ts"
import { replaying } from "../support/mirror.ts"
import { makeRandom, type Random } from "../support/random.ts"

const seconds = Number(process.env.MIRROR_FIRE_SECONDS ?? 2)
const keys = Number(process.env.MIRROR_FIRE_KEYS ?? 1000)
const pairs = keys / 2

const keyOf = (pair: number, half: "a" | "b") => `fire/${String(pair).padStart(6, "0")}/${half}`

const putPair = (pair: number, value: number) => [
  EtcdTxn.put(keyOf(pair, "a"), String(value)),
  EtcdTxn.put(keyOf(pair, "b"), String(value))
]

const deletePair = (pair: number) => [EtcdTxn.delete(keyOf(pair, "a")), EtcdTxn.delete(keyOf(pair, "b"))]

/** Writes and deletes pairs. Here and there it is one that has a value that is no number. */
const writer = (random: Random) => {
  let n = 0
  const write = Effect.suspend(() => {
    const pair = random(pairs)
    const isGone = random(3) === 0
    return EtcdTxn.commit(EtcdTxn.all(isGone ? deletePair(pair) : putPair(pair, random(50) === 0 ? Number.NaN : n++)))
  })
  return Effect.forever(Effect.ignore(write))
}

const faults: ReadonlyArray<(node: EtcdProcess.Node) => Effect.Effect<void, unknown>> = [
  (node) =>
    Effect.gen(function* () {
      yield* node.signal("SIGKILL")
      yield* Effect.sleep("300 millis")
      yield* node.start
    }),
  (node) => Effect.andThen(freeze(node), Effect.sleep("700 millis")).pipe(Effect.ensuring(node.signal("SIGCONT"))),
  (node) => Effect.andThen(node.stop, node.start)
]

const trouble = (cluster: EtcdCluster.Cluster, random: Random) => {
  let n = 0
  return Effect.suspend(() =>
    Effect.ignore(faults[n++ % faults.length]!(SubscriptionRef.getUnsafe(cluster.members)[random(3)]!))
  ).pipe(Effect.andThen(Effect.sleep("100 millis")), Effect.forever)
}

/** Every other time of all that there is, so that whoever is behind has lost it. */
const compaction = (kv: EtcdKv.Service) => {
  let n = 0
  return kv.range("none", { countOnly: true }).pipe(
    Effect.flatMap(({ header }) => kv.compact(header.revision - (n++ % 2 === 0 ? 0n : 300n))),
    Effect.ignore,
    Effect.andThen(Effect.sleep("150 millis")),
    Effect.forever
  )
}

const text = (view: Iterable<[string, KeyValue]>) => {
  const lines: Array<string> = []
  for (const [key, kv] of view) lines.push(`${key}=${kv.valueString}@${kv.modRevision}/${kv.version}`)
  return lines
}

/** Whether no half of a pair is without the other, or other than it. */
const assertWhole = (view: EtcdMirror.View<KeyValue>) => {
  let first: readonly [string, KeyValue] | undefined
  for (const entry of view) {
    if (first === undefined) first = entry
    else {
      assert.strictEqual(entry[0].slice(0, -1), first[0].slice(0, -1), `half a pair at ${view.revision}`)
      assert.strictEqual(entry[1].modRevision, first[1].modRevision, `halves of two pairs at ${view.revision}`)
      first = undefined
    }
  }
  assert.isUndefined(first)
}

const connect = (cluster: EtcdCluster.Cluster) =>
  EtcdClient.make({
    endpoints: cluster.endpoints,
    keepAliveInterval: "300 millis",
    keepAliveTimeout: "300 millis",
    connectTimeout: "1 second"
  })

describe("mirrors under fire", () => {
  it.live(
    "are what the store is at their revision, and their changes make the same",
    () =>
      Effect.gen(function* () {
        const seed = Math.floor(Math.random() * 0xffff_ffff)
        const random = makeRandom(seed)
        const cluster = yield* EtcdCluster.ephemeral({ log: false })
        const client = yield* connect(cluster)
        const writing = yield* connect(cluster)
        const kv = EtcdKv.fromClient(client)
        const watch = yield* EtcdWatch.fromClient(client)
        const inTxns = Array.from({ length: Math.ceil(pairs / 50) }, (_, n) =>
          Array.from({ length: Math.min(50, pairs - n * 50) }, (_, pair) => putPair(n * 50 + pair, -1)).flat()
        )
        const txn = EtcdTxn.fromClient(writing)
        yield* Effect.forEach(inTxns, (ops) => txn.commit(EtcdTxn.all(ops)), { concurrency: 8, discard: true })

        const make = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          effect.pipe(Effect.provideService(EtcdKv.EtcdKv, kv), Effect.provideService(EtcdWatch.EtcdWatch, watch))
        const mirror = yield* make(EtcdMirror.make("fire/", { maxAge: "1 second" }))
        const decoded = yield* make(EtcdMirror.make(EtcdStore.make("fire/", Schema.Int)))
        let isBusy = true
        const slowly = Effect.suspend(() => (isBusy ? Effect.sleep(30) : Effect.void))
        const replays = [yield* replaying(mirror), yield* replaying(mirror, slowly)]
        const ofDecoded = yield* replaying(decoded, slowly)

        const troubling = yield* Effect.forkScoped(trouble(cluster, random))
        const others = [
          ...(yield* Effect.forEach([1, 2, 3, 4], (n) =>
            Effect.forkScoped(Effect.provideService(writer(makeRandom(seed + n)), EtcdTxn.EtcdTxn, txn))
          )),
          yield* Effect.forkScoped(compaction(kv))
        ]

        let compared = 0
        let stale = 0
        const compare = Effect.gen(function* () {
          const view = yield* mirror.fresh
          assertWhole(view)
          const read = yield* Effect.option(kv.range(KeyRange.prefix("fire/"), { revision: view.revision }))
          if (Option.isNone(read)) return
          compared++
          assert.deepStrictEqual(
            text(view),
            read.value.kvs.map((kv) => `${kv.keyString}=${kv.valueString}@${kv.modRevision}/${kv.version}`)
          )
        })
        const look = Effect.gen(function* () {
          const view = yield* Effect.result(mirror.view)
          if (Result.isFailure(view)) {
            assert.strictEqual(view.failure._tag, "MirrorStale", view.failure.message)
            stale++
          } else assertWhole(view.success)
          yield* Effect.sleep(keys > 10_000 ? 100 : 5)
        })
        const looking = yield* Effect.forkScoped(Effect.forever(look))
        const comparing = yield* compare.pipe(
          // No server may answer for longer than a call has.
          Effect.catchTag("EtcdError", () => Effect.void),
          Effect.andThen(Effect.sleep(50)),
          Effect.forever,
          Effect.forkScoped
        )
        const late = Effect.gen(function* () {
          yield* Effect.sleep(keys > 10_000 ? 10_000 : 1000)
          replays.push(yield* replaying(mirror))
        })
        const watching = yield* Effect.forkScoped(Effect.forever(late))
        yield* Effect.raceFirst(
          Effect.sleep(seconds * 1000),
          Effect.raceFirst(Fiber.join(comparing), Fiber.join(looking))
        )
        yield* Fiber.interruptAll([troubling, watching, looking, comparing, ...others])
        isBusy = false
        for (const node of SubscriptionRef.getUnsafe(cluster.members)) {
          yield* node.signal("SIGCONT")
          yield* Effect.ignore(node.start)
        }
        const again = Schedule.spaced(50)
        yield* txn.commit(EtcdTxn.all(putPair(0, 1))).pipe(Effect.retry(again))
        yield* compare.pipe(Effect.retry(again))
        assert.isAbove(compared, 0)
        const view = yield* Effect.retry(mirror.fresh, again)
        const last = Array.from(view, ([, kv]) => kv.modRevision).reduce((a, b) => (a > b ? a : b))
        const lastDecoded = yield* Effect.retry(decoded.awaitRevision(view.revision), again)
        for (const { all, fiber } of [...replays, ofDecoded]) {
          yield* until(() => all().revision >= last || fiber.pollUnsafe() !== undefined)
          assert.isUndefined(fiber.pollUnsafe())
        }
        for (const { all } of replays) assert.deepStrictEqual(text(sorted(all().map)), text(view))
        assert.deepStrictEqual(sorted(ofDecoded.all().map), [...lastDecoded])
        assert.strictEqual(lastDecoded.size, view.size)
        for (const [key, value] of lastDecoded) {
          const raw = Option.getOrThrow(view.get(`fire/${key}`))
          if (Result.isSuccess(value)) assert.strictEqual(String(value.success.value), raw.valueString)
          else assert.strictEqual(raw.valueString, "NaN")
        }
        const counts = { complete: 0, joined: 0, lost: 0 }
        for (const { got } of [...replays, ofDecoded]) {
          for (const change of got) if (change._tag === "Update") counts[change.history]++
        }
        assert.strictEqual(counts.lost, 0)
        yield* Effect.logInfo("mirrors under fire", { seed, revision: view.revision, compared, stale, ...counts })
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    { timeout: (seconds + 120) * 1000 }
  )
})

const sorted = <A>(map: ReadonlyMap<string, A>): Array<[string, A]> => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
