/**
 * Leaders that go: how long it takes from there until the next one says that it is elected, both of them programs of
 * their own. The leader is told to resign; or its process is to end (SIGTERM), upon which it resigns; or its process is
 * killed (SIGKILL), which etcd notices when its lease has run out. How long that takes is up to the time to live, and to
 * when the lease was renewed last. It is therefore killed at any time between two renewals, all clients at once.
 */
import { fileURLToPath } from "node:url"
import { Effect, Fiber, type Scope } from "effect"
import type { ChildProcessSpawner } from "effect/process"
import { EtcdKv, EtcdLayer, KeyRange } from "effect-etcd"
import { ourName, sayRatios } from "./contest.ts"
import type { GoCoordination } from "./goClient.ts"
import { spawnAsked } from "./lines.ts"
import { type BenchError, benchError, median, percentile, type Row, rounded, table } from "./support.ts"

/** A program that stands in an election. */
export interface Candidate {
  /** Answers when it leads. */
  readonly stand: Effect.Effect<void, BenchError>
  readonly resign: Effect.Effect<void, BenchError>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

/** A client, of which there is a leader and one who waits. */
export interface Party {
  readonly name: string
  /** Below which the keys of its election are. */
  readonly prefix: string
  readonly spawn: Effect.Effect<Candidate, BenchError, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner>
}

const ttlSeconds = 3

const spawnNode = (client: string, endpoint: string, election: string): Party["spawn"] =>
  Effect.map(
    spawnAsked(client, process.execPath, [
      "--conditions=effect-etcd-source",
      fileURLToPath(new URL("candidate.ts", import.meta.url)),
      client,
      endpoint,
      election,
      String(ttlSeconds)
    ]),
    ({ ask, signal }): Candidate => {
      // A leader that has lost its lease meanwhile stands again, and says so when nobody asked.
      const told = (line: string, due: string) =>
        Effect.flatMap(ask(line), (said) =>
          said === due ? Effect.void : Effect.fail(benchError(client, `${line} was answered with "${said}"`))
        )
      return { stand: told("stand", "elected"), resign: told("resign", "resigned"), signal }
    }
  )

export const ours = (endpoint: string): Party => ({
  name: ourName,
  prefix: "bench/leader/ours/",
  spawn: spawnNode(ourName, endpoint, "bench/leader/ours")
})

export const etcd3 = (endpoint: string): Party => ({
  name: "etcd3",
  prefix: "election/bench/leader/",
  spawn: spawnNode("etcd3", endpoint, "bench/leader")
})

export const go = ({ candidate }: GoCoordination): Party => ({
  name: "go clientv3",
  prefix: "bench/leader/go/",
  spawn: candidate("bench/leader/go", ttlSeconds)
})

// ── a leader, and who waits ──

type End = "resign" | "SIGTERM" | "SIGKILL"

/** Lets the leader go, and answers after how many milliseconds there was the next one; there are two again then. */
type Handover = (
  end: End
) => Effect.Effect<number, BenchError, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner | EtcdKv.EtcdKv>

/** For whoever has just taken its place to wait in it. */
const settleMillis = 50

const restMillis = 5

const lead = ({ name, prefix, spawn }: Party) =>
  Effect.gen(function* () {
    const standing = Effect.map(EtcdKv.range(KeyRange.prefix(prefix), { countOnly: true }), ({ count }) => count)
    /** Stands behind the leader. */
    const follow = (candidate: Candidate) =>
      Effect.gen(function* () {
        const elected = yield* Effect.forkScoped(candidate.stand)
        yield* Effect.repeat(Effect.delay(standing, restMillis), { while: (count) => count < 2n })
        yield* Effect.sleep(settleMillis)
        return { candidate, elected }
      }).pipe(Effect.mapError((cause) => benchError(name, cause)))

    let leader = yield* spawn
    yield* leader.stand
    let next = yield* follow(yield* spawn)

    const handover: Handover = (end) =>
      Effect.gen(function* () {
        const former = leader
        const begun = performance.now()
        const resigned = yield* Effect.forkScoped(end === "resign" ? former.resign : former.signal(end))
        yield* Fiber.join(next.elected)
        const millis = performance.now() - begun
        yield* Fiber.join(resigned)
        leader = next.candidate
        next = yield* follow(end === "resign" ? former : yield* spawn)
        return millis
      })
    return handover
  })

// ── rounds ──

interface Handing {
  readonly name: string
  readonly handover: Handover
}

const inTurn = (all: ReadonlyArray<Handing>, end: End, index: number) =>
  Effect.forEach(index % 2 === 0 ? all : all.toReversed(), ({ handover, name }) =>
    Effect.map(handover(end), (millis) => [name, millis] as const)
  )

const betweenRenewals = Effect.suspend(() => Effect.sleep((Math.random() * ttlSeconds * 1000) / 3))

const atOnce = (all: ReadonlyArray<Handing>) =>
  Effect.andThen(
    betweenRenewals,
    Effect.forEach(all, ({ handover, name }) => Effect.map(handover("SIGKILL"), (millis) => [name, millis] as const), {
      concurrency: "unbounded"
    })
  )

const scenarioOf = (end: End) =>
  end === "resign" ? "leader resigns" : `leader, ${end}${end === "SIGKILL" ? `, TTL ${ttlSeconds} s` : ""}`

const rowOf = (end: End, client: string, millis: ReadonlyArray<number>): Row => ({
  scenario: scenarioOf(end),
  client,
  inFlight: 1,
  valueBytes: 0,
  opsPerSecond: rounded(1000 / median(millis), 2),
  spread: `${(1000 / Math.max(...millis)).toFixed(2)}-${(1000 / Math.min(...millis)).toFixed(2)}`,
  p50Micros: Math.round(median(millis) * 1000),
  p99Micros: Math.round(percentile(millis, 0.99) * 1000),
  cpuMicrosPerOp: 0
})

const measureEnd = (all: ReadonlyArray<Handing>, end: End, rounds: number) =>
  Effect.gen(function* () {
    const millis = new Map(all.map(({ name }) => [name, [] as Array<number>]))
    for (let index = 0; index < rounds; index++) {
      const took = yield* end === "SIGKILL" ? atOnce(all) : inTurn(all, end, index)
      for (const [name, one] of took) millis.get(name)!.push(one)
    }
    console.log(`${scenarioOf(end)}, ${rounds} times: milliseconds until the next one is elected`)
    table(
      [...millis].map(([client, all]) => ({
        client,
        median: rounded(median(all), 1),
        range: `${Math.min(...all).toFixed(1)} - ${Math.max(...all).toFixed(1)}`
      }))
    )
    // A rival's time to live is as long.
    if (end !== "SIGKILL") sayRatios(new Map([...millis].map(([name, all]) => [name, all.map((one) => 1 / one)])))
    return [...millis].map(([name, all]) => rowOf(end, name, all))
  })

export const leaders = (endpoint: string, parties: ReadonlyArray<Party>, quick: boolean) =>
  Effect.gen(function* () {
    const all = yield* Effect.forEach(parties, (party) =>
      Effect.map(lead(party), (handover): Handing => ({ name: party.name, handover }))
    )
    // What is compiled for the first one belongs to nobody.
    yield* inTurn(all, "resign", 0)
    return [
      ...(yield* measureEnd(all, "resign", quick ? 5 : 21)),
      ...(yield* measureEnd(all, "SIGTERM", quick ? 3 : 11)),
      ...(yield* measureEnd(all, "SIGKILL", quick ? 3 : 11))
    ]
  }).pipe(Effect.provide(EtcdLayer.connect({ endpoints: [endpoint] })), Effect.scoped)
