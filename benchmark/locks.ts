/**
 * Locks: each caller locks and unlocks a name of its own, over and over ("locks apart"); all want the same ("one lock");
 * how long it takes from the beginning of a release until who waits has the lock ("handover").
 *
 * etcd3's locks do not wait: whoever does not get one tries again after up to 10 ms. Go's callers of "one lock" have a
 * session each, since its mutex is reentrant within a session; all others share one.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, Layer } from "effect"
import { EtcdClient, EtcdLayer } from "effect-etcd"
import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
import { type Etcd3, EtcdLockFailedError } from "etcd3"
import { type Contender, ourName, type Round } from "./contest.ts"
import { type Latencies, measure } from "./round.ts"
import { benchError } from "./support.ts"

// ── clients with promises ──

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

const lockAndUnlock = async (acquire: Acquire, { inFlight, scenario }: Round, end: number, latencies: Latencies) => {
  await Promise.all(
    Array.from({ length: inFlight }, async (_, caller) => {
      const lock = scenario === "one lock" ? "one" : String(caller)
      while (performance.now() < end) {
        const begun = performance.now()
        await (await acquire(caller, lock))()
        latencies.add(performance.now() - begun)
      }
    })
  )
}

const withPromises = (name: string, acquire: Acquire): Contender => ({
  name,
  round: (round) =>
    measure(round, (latencies, end) =>
      Effect.tryPromise({
        try: () =>
          round.scenario === "handover"
            ? handover(acquire, end, latencies)
            : lockAndUnlock(acquire, round, end, latencies),
        catch: (cause) => benchError(name, cause)
      })
    )
})

export const etcd3 = (client: Etcd3): Contender =>
  withPromises("etcd3", async (_, name) => {
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

// ── this library ──

export const ours = (endpoint: string) =>
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

    const contender: Contender = {
      name: ourName,
      round: (round) =>
        measure(round, (latencies, end) =>
          round.scenario === "handover" ? handovers(end, latencies) : callers(round, end, latencies)
        ).pipe(Effect.mapError((cause) => benchError(ourName, cause)))
    }
    return contender
  })

// ── the rounds ──

export const warmUp = (millis: number): Round => ({ scenario: "locks apart", inFlight: 64, millis })

export const scenarios = (millis: number): ReadonlyArray<Round> => [
  { scenario: "locks apart", inFlight: 1, millis },
  { scenario: "locks apart", inFlight: 64, millis },
  { scenario: "one lock", inFlight: 64, millis },
  { scenario: "handover", inFlight: 2, millis, compares: "latency" }
]
