/**
 * Locks: this library beside etcd3 and etcd's Go client, in interleaved rounds, against one etcd that syncs to disk.
 *
 * "locks apart": each caller locks and unlocks a name of its own, over and over. "one lock": all want the same. "handover":
 * how long it takes from the beginning of a release until who waits has the lock. etcd3's locks do not wait: whoever does
 * not get one tries again after up to 10 ms. Go's callers of "one lock" have a session each, since its mutex is reentrant
 * within a session; all others share one.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Option } from "effect"
import { EtcdClient, EtcdLayer, EtcdProcess } from "effect-etcd"
import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
import { Etcd3, EtcdLockFailedError } from "etcd3"
import { goLocks } from "./goClient.ts"
import { Latencies, type Measured, measure } from "./round.ts"
import {
  type BenchError,
  benchError,
  freePort,
  median,
  percentile,
  type Row,
  rounded,
  spread,
  stopwatch,
  table
} from "./support.ts"

type Scenario = "locks apart" | "one lock" | "handover"

interface Round {
  readonly scenario: Scenario
  readonly inFlight: number
  readonly millis: number
}

interface Locker {
  readonly name: string
  readonly round: (round: Round) => Effect.Effect<Measured, BenchError>
}

/** What of a client the rounds are made of: a lock of a caller, which is acquired, and given back by what that answers. */
type Acquire = (caller: number, lock: string) => Promise<() => Promise<unknown>>

const handover = async (acquire: Acquire, end: number, latencies: Latencies) => {
  let released: number | undefined
  const caller = async (index: number) => {
    while (performance.now() < end) {
      const release = await acquire(index, "handover")
      if (released !== undefined) latencies.add(performance.now() - released)
      // The other one waits by then.
      await sleep(10)
      released = performance.now()
      await release()
    }
  }
  await Promise.all([caller(0), caller(1)])
}

const lockAndUnlock = (acquire: Acquire, { inFlight, scenario }: Round, end: number, latencies: Latencies) =>
  Promise.all(
    Array.from({ length: inFlight }, async (_, caller) => {
      const lock = scenario === "one lock" ? "one" : String(caller)
      while (performance.now() < end) {
        const begun = performance.now()
        await (await acquire(caller, lock))()
        latencies.add(performance.now() - begun)
      }
    })
  )

const inProcess = (name: string, acquire: Acquire): Locker => ({
  name,
  round: (round) =>
    Effect.tryPromise({
      try: async () => {
        const latencies = new Latencies()
        const elapsed = stopwatch()
        const end = performance.now() + round.millis
        await (round.scenario === "handover"
          ? handover(acquire, end, latencies)
          : lockAndUnlock(acquire, round, end, latencies))
        const { cpuMicros, millis } = elapsed()
        const { micros } = latencies
        return { ops: micros.length, seconds: millis / 1000, cpuMicros, latencyMicros: micros }
      },
      catch: (cause) => benchError(name, cause)
    })
})

const ours = (endpoint: string) =>
  Effect.gen(function* () {
    const connected = yield* Layer.build(EtcdLayer.connect({ endpoints: [endpoint] }))
    const makeSession = Effect.provide(
      Effect.flatMap(EtcdClient.EtcdClient, (client) => EtcdSession.fromClient(client)),
      connected
    )
    const sessions = [yield* makeSession, yield* makeSession] as const
    const lockOf = (name: string) => EtcdLock.make(`bench/lock/ours/${name}`)

    const caller = (lock: EtcdLock.Lock, end: number, latencies: Latencies) => {
      const once = Effect.suspend(() => {
        const begun = performance.now()
        return Effect.map(EtcdLock.withLock(Effect.void, lock), () => latencies.add(performance.now() - begun))
      })
      return Effect.whileLoop({ while: () => performance.now() < end, body: () => once, step: () => {} })
    }

    const callers = ({ inFlight, scenario }: Round, end: number, latencies: Latencies) =>
      Effect.forEach(
        Array.from({ length: inFlight }, (_, index) => lockOf(scenario === "one lock" ? "one" : String(index))),
        (lock) => caller(lock, end, latencies),
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.provideService(EtcdSession.EtcdSession, sessions[0]))

    const handovers = (end: number, latencies: Latencies) => {
      let released: number | undefined
      const inside = Effect.suspend(() => {
        if (released !== undefined) latencies.add(performance.now() - released)
        return Effect.map(Effect.sleep(10), () => {
          released = performance.now()
        })
      })
      const once = EtcdLock.withLock(inside, lockOf("handover"))
      return Effect.forEach(
        sessions,
        (session) =>
          Effect.provideService(
            Effect.whileLoop({ while: () => performance.now() < end, body: () => once, step: () => {} }),
            EtcdSession.EtcdSession,
            session
          ),
        { concurrency: "unbounded", discard: true }
      )
    }

    const locker: Locker = {
      name: "effect-etcd",
      round: (round) =>
        measure(round, (latencies, end) =>
          round.scenario === "handover" ? handovers(end, latencies) : callers(round, end, latencies)
        ).pipe(Effect.mapError((cause) => benchError("effect-etcd", cause)))
    }
    return locker
  })

const etcd3 = (endpoint: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Etcd3({ hosts: endpoint })),
      (client) => Effect.sync(() => client.close())
    ),
    (client) =>
      inProcess("etcd3", async (_, name) => {
        const lock = client.lock(`bench/lock/etcd3/${name}`)
        while (true) {
          try {
            await lock.acquire()
            return () => lock.release()
          } catch (error) {
            if (!(error instanceof EtcdLockFailedError)) throw error
            await sleep(Math.random() * 10)
          }
        }
      })
  )

const go = (endpoint: string) =>
  Effect.map(
    goLocks(endpoint),
    Option.map((round): Locker => ({ name: "go clientv3", round }))
  )

/** A node whose data is on a disk, and synced. */
const makeSyncedNode = Effect.gen(function* () {
  const port = yield* freePort
  yield* EtcdProcess.make({ listenClientUrls: `http://127.0.0.1:${port}` }, { log: false })
  return `http://127.0.0.1:${port}`
})

const rowOf = (name: string, { inFlight, scenario }: Round, measured: ReadonlyArray<Measured>): Row => {
  const rates = measured.map(({ ops, seconds }) => ops / seconds)
  const latencies = measured.flatMap(({ latencyMicros }) => Array.from(latencyMicros))
  return {
    scenario,
    client: name,
    inFlight,
    valueBytes: 0,
    opsPerSecond: Math.round(median(rates)),
    spread: spread(rates),
    p50Micros: Math.round(percentile(latencies, 0.5)),
    p99Micros: Math.round(percentile(latencies, 0.99)),
    cpuMicrosPerOp: rounded(median(measured.map(({ cpuMicros, ops }) => cpuMicros / ops)), 2)
  }
}

/** What is compared: how fast it is, round by round. */
const speedOf = ({ scenario }: Round, { latencyMicros, ops, seconds }: Measured): number =>
  scenario === "handover" ? 1 / median(latencyMicros) : ops / seconds

const ratio = (round: Round, own: ReadonlyArray<Measured>, others: ReadonlyArray<Measured> | undefined): string =>
  others === undefined
    ? "-"
    : median(own.map((measured, index) => speedOf(round, measured) / speedOf(round, others[index]!))).toFixed(2)

const unrecordedMillis = 200

const warmUpMillis = 3000

/** Until the JIT compiler has settled. */
const warmUp = (lockers: ReadonlyArray<Locker>) =>
  Effect.forEach(lockers, ({ round }) => round({ scenario: "locks apart", inFlight: 64, millis: warmUpMillis }), {
    discard: true
  })

const measureAll = (lockers: ReadonlyArray<Locker>, round: Round, rounds: number) =>
  Effect.gen(function* () {
    const all = new Map(lockers.map(({ name }) => [name, [] as Array<Measured>]))
    yield* Effect.forEach(lockers, (locker) => locker.round({ ...round, millis: unrecordedMillis }), { discard: true })
    for (let index = 0; index < rounds; index++) {
      const order = index % 2 === 0 ? lockers : lockers.toReversed()
      for (const locker of order) all.get(locker.name)!.push(yield* locker.round(round))
    }
    return all
  })

const rivals = ["etcd3", "go clientv3"] as const

export const coordination = (quick: boolean) =>
  Effect.gen(function* () {
    const endpoint = yield* makeSyncedNode
    const lockers: ReadonlyArray<Locker> = [
      yield* ours(endpoint),
      yield* etcd3(endpoint),
      ...Option.toArray(yield* go(endpoint))
    ]
    const millis = quick ? 500 : 2000
    const scenarios: ReadonlyArray<Round> = [
      { scenario: "locks apart", inFlight: 1, millis },
      { scenario: "locks apart", inFlight: 64, millis },
      { scenario: "one lock", inFlight: 64, millis },
      { scenario: "handover", inFlight: 2, millis }
    ]
    const rows: Array<Row> = []
    yield* warmUp(lockers)
    for (const round of scenarios) {
      const all = yield* measureAll(lockers, round, quick ? 5 : 11)
      const own = all.get("effect-etcd")!
      const ofRound = [...all].map(([name, measured]) => rowOf(name, round, measured))
      console.log(`${round.scenario}, ${round.inFlight} callers`)
      table(
        ofRound.map(({ client, cpuMicrosPerOp, opsPerSecond, p50Micros, p99Micros, spread }) => ({
          client,
          "ops/s": opsPerSecond,
          spread,
          "p50 µs": p50Micros,
          "p99 µs": p99Micros,
          "CPU µs/op": cpuMicrosPerOp
        }))
      )
      for (const name of rivals) {
        console.log(
          `effect-etcd is ${ratio(round, own, all.get(name))} times as fast as ${name} (median of the rounds)`
        )
      }
      console.log("")
      rows.push(...ofRound)
    }
    return rows
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(NodeServices.layer)))
