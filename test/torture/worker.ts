/**
 * A program that uses etcd in every way that the judges know of, until its stdin ends: reads, writes, transactions,
 * watches, a mirror, leases, locks and an election.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdBatch from "../../src/EtcdBatch.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as EtcdClock from "../../src/testing/EtcdClock.ts"
import * as Programs from "../support/programs.ts"
import { makeRandom } from "../support/random.ts"
import * as Plants from "./plants.ts"
import * as Holding from "./worker/holding.ts"
import { countingFibers, leaksSince, possessions } from "./worker/left.ts"
import { operator } from "./worker/operations.ts"
import { pick, say, settings, told, turns } from "./worker/program.ts"
import * as Watching from "./worker/watching.ts"

const { batching, endpoints, plant, seed } = settings

/** With batching of its own, or over it. */
const connected = Effect.suspend(() => {
  const random = makeRandom(seed)
  const selection = pick(random, ["leader", "sticky", "spread"] as const)
  const isOver = batching && random(2) === 0
  const made = EtcdClient.make({ endpoints, batching: batching && !isOver, selection })
  return isOver ? Effect.flatMap(made, (client) => EtcdBatch.fromClient(client)) : made
})

const client = Layer.effect(
  EtcdClient.EtcdClient,
  Effect.map(connected, (client) => Holding.observed(Plants.clientWith(plant, client)))
)

const watch = Layer.effect(
  EtcdWatch.EtcdWatch,
  Effect.flatMap(EtcdClient.EtcdClient, (client) =>
    Effect.map(EtcdWatch.fromClient(client), (watch) => Plants.watchWith(plant, watch))
  )
)

const etcd = Layer.mergeAll(
  EtcdKv.layer,
  EtcdTxn.layer,
  EtcdLease.layer,
  EtcdSession.layerWith({ ttl: Holding.sessionMillis })
).pipe(Layer.provideMerge(watch), Layer.provideMerge(client))

/**
 * Sets the clock that the client lives by, and lets time pass in which nothing is done: neither makes anything that it holds
 * last longer.
 */
const moving = (clock: EtcdClock.Clock) => {
  const random = makeRandom(seed * 1000 + 530)
  const hour = 3_600_000
  const move = Effect.suspend(() =>
    random(2) === 0 ? clock.jump(random(2 * hour) - hour) : clock.standStill(random(3000))
  )
  return turns(Effect.andThen(Effect.sleep(2000 + random(10_000)), move))
}

const work = Effect.gen(function* () {
  say({ _tag: "Ready" })
  const operators = Array.from({ length: settings.clients }, (_, index) => operator(index))
  const { holding, leading, leasing, locking, watchingLocks } = Holding
  const { asking, mirroring, watcher } = Watching
  const others = [watcher, asking, mirroring, leasing, watchingLocks, holding, locking(0), locking(1), leading]
  yield* Effect.forkScoped(Effect.all(others, { concurrency: "unbounded", discard: true }))
  yield* Effect.all([told, Watching.watching, ...operators], { concurrency: "unbounded", discard: true })
})

Programs.watchEventLoop((from, to) => say({ _tag: "Stalled", from, to }))
NodeRuntime.runMain(
  Effect.gen(function* () {
    const before = possessions()
    const clock = yield* EtcdClock.make
    yield* Effect.andThen(Effect.forkScoped(moving(clock)), work).pipe(
      Effect.scoped,
      Effect.provide(Layer.provide(etcd, clock.layer)),
      Effect.provideService(Metric.FiberRuntimeMetrics, countingFibers)
    )
    // What was closed is gone a moment later, and a timer when it has fired.
    yield* Effect.sleep(100)
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    say({ _tag: "Left", what: leaksSince(before) })
  }).pipe(
    Effect.tapCause((cause) =>
      Effect.sync(() => say({ _tag: "Problem", what: `it ended with ${Cause.pretty(cause)}` }))
    )
  )
)
