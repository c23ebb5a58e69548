/**
 * Clients that do the same, in interleaved rounds, and what is said of them: a table, and how many times as fast this
 * library is as each of the others.
 */
import { Effect } from "effect"
import type { Measured } from "./round.ts"
import { type BenchError, median, percentile, type Row, rounded, spread, table } from "./support.ts"

export interface Round {
  readonly scenario: string
  /** So many callers, who each go on until the time is up. */
  readonly inFlight: number
  readonly millis: number
  /** What is compared: how much is done in a time (default), or how long each takes. */
  readonly compares?: "latency"
}

export interface Contender {
  readonly name: string
  readonly round: (round: Round) => Effect.Effect<Measured, BenchError>
}

export const ourName = "effect-etcd"

const rivals = ["etcd3", "go clientv3"] as const

/** Says how many times as fast this library is as each of the others, whose speeds are those of the same rounds. */
export const sayRatios = (speeds: ReadonlyMap<string, ReadonlyArray<number>>): void => {
  const own = speeds.get(ourName)!
  for (const name of rivals) {
    const others = speeds.get(name)
    if (others === undefined) continue
    const ratio = median(own.map((speed, index) => speed / others[index]!))
    console.log(`${ourName} is ${ratio.toFixed(2)} times as fast as ${name} (median of the rounds)`)
  }
  console.log("")
}

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

const speedOf = ({ compares }: Round, { latencyMicros, ops, seconds }: Measured): number =>
  compares === "latency" ? 1 / median(latencyMicros) : ops / seconds

const unrecordedMillis = 200

const measureAll = (contenders: ReadonlyArray<Contender>, round: Round, rounds: number) =>
  Effect.gen(function* () {
    const all = new Map(contenders.map(({ name }) => [name, [] as Array<Measured>]))
    yield* Effect.forEach(contenders, (contender) => contender.round({ ...round, millis: unrecordedMillis }), {
      discard: true
    })
    for (let index = 0; index < rounds; index++) {
      const order = index % 2 === 0 ? contenders : contenders.toReversed()
      for (const contender of order) all.get(contender.name)!.push(yield* contender.round(round))
    }
    return all
  })

const contestOne = (contenders: ReadonlyArray<Contender>, round: Round, rounds: number) =>
  Effect.map(measureAll(contenders, round, rounds), (all) => {
    const rows = [...all].map(([name, measured]) => rowOf(name, round, measured))
    console.log(`${round.scenario}, ${round.inFlight} callers`)
    table(
      rows.map(({ client, cpuMicrosPerOp, opsPerSecond, p50Micros, p99Micros, spread }) => ({
        client,
        "ops/s": opsPerSecond,
        spread,
        "p50 µs": p50Micros,
        "p99 µs": p99Micros,
        "CPU µs/op": cpuMicrosPerOp
      }))
    )
    sayRatios(new Map([...all].map(([name, measured]) => [name, measured.map((one) => speedOf(round, one))])))
    return rows
  })

/** Measures each of the rounds, all contenders in turn, so many times; `warmUp` goes before, and belongs to nobody. */
export const contest = (
  contenders: ReadonlyArray<Contender>,
  warmUp: Round,
  scenarios: ReadonlyArray<Round>,
  rounds: number
) =>
  Effect.gen(function* () {
    yield* Effect.forEach(contenders, ({ round }) => round(warmUp), { discard: true })
    const rows = yield* Effect.forEach(scenarios, (round) => contestOne(contenders, round, rounds))
    return rows.flat()
  })
