/**
 * Gets and puts of one key a call, with 1, 64 and 512 calls in flight: this library beside other clients, in
 * interleaved rounds against the same node, and against one with TLS.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Option } from "effect"
import { EtcdKv, EtcdLayer, EtcdMaintenance } from "effect-etcd"
import { etcd3, grpcJs, nodeHttp2, ours, oursAt, verify } from "./clients.ts"
import { goClient } from "./goClient.ts"
import { type Client, keyOf, type Measured, type Round, valueOf } from "./round.ts"
import { makeNode, makeTlsNode, median, percentile, type Row, rounded, spread, type TlsNode, table } from "./support.ts"

export interface Options {
  readonly quick: boolean
  readonly scenarios: ReadonlyArray<Round["scenario"]>
}

const allInFlight = [1, 64, 512]
const mostInFlight = 512

const makeClients = (tcp: string, unix: string, secure: TlsNode, quick: boolean) =>
  Effect.gen(function* () {
    const inProcess: ReadonlyArray<Client> = [
      yield* ours("effect-etcd", tcp),
      yield* ours("effect-etcd batched", tcp, { batching: true }),
      yield* ours("effect-etcd unix", unix),
      yield* oursAt("effect-etcd tls", secure.endpoints, { tls: secure.tls }),
      ...(quick ? [] : [yield* ours("effect-etcd node:http2", tcp, { transport: "node:http2" })]),
      yield* etcd3(tcp),
      yield* grpcJs(tcp),
      yield* nodeHttp2(tcp)
    ]
    return [...inProcess, ...Option.toArray(yield* goClient(tcp))]
  })

const warmUpMillis = 700

/** Until the JIT compiler has settled. */
export const warmUp = (clients: ReadonlyArray<Client>) =>
  Effect.forEach(
    clients,
    (client) =>
      Effect.forEach(
        ["put", "get"] as const,
        (scenario) => client.round({ scenario, inFlight: mostInFlight, millis: warmUpMillis, valueBytes: 64 }),
        { discard: true }
      ),
    { discard: true }
  )

/** What gets read. */
export const fill = (valueBytes: number) =>
  Effect.forEach(
    Array.from({ length: mostInFlight }, (_, caller) => keyOf(caller)),
    (key) => EtcdKv.put(key, valueOf(valueBytes)),
    { concurrency: 64, discard: true }
  )

const compactAbove = 1024n ** 3n

/** Drops old values before they reach the limit of the database, and waits until that is done. */
const compactIfLarge = Effect.gen(function* () {
  const { dbSizeInUse, header } = yield* EtcdMaintenance.status()
  if (dbSizeInUse > compactAbove) yield* EtcdKv.compact(header.revision, { physical: true })
})

/** Another first one each time, and every other time backwards, so that nobody always comes after the same one. */
const orderOf = <A>(items: ReadonlyArray<A>, round: number): ReadonlyArray<A> => {
  const first = round % items.length
  const rotated = [...items.slice(first), ...items.slice(0, first)]
  return round % 2 === 0 ? rotated : rotated.toReversed()
}

const rowOf = (client: string, { inFlight, scenario, valueBytes }: Round, rounds: ReadonlyArray<Measured>): Row => {
  const rates = rounds.map(({ ops, seconds }) => ops / seconds)
  const latencies = rounds.flatMap(({ latencyMicros }) => Array.from(latencyMicros))
  return {
    scenario,
    client,
    inFlight,
    valueBytes,
    opsPerSecond: Math.round(median(rates)),
    spread: spread(rates),
    p50Micros: Math.round(percentile(latencies, 0.5)),
    p99Micros: Math.round(percentile(latencies, 0.99)),
    cpuMicrosPerOp: rounded(median(rounds.map(({ cpuMicros, ops }) => cpuMicros / ops)), 2)
  }
}

const unrecordedMillis = 50

/** The rounds of all clients, so many that are recorded after one that is not. */
export const measureAll = (clients: ReadonlyArray<Client>, round: Round, rounds: number, firstRound: number) =>
  Effect.gen(function* () {
    const measured = new Map(clients.map(({ name }) => [name, [] as Measured[]]))
    yield* Effect.forEach(clients, (client) => client.round({ ...round, millis: unrecordedMillis }))
    for (let index = 0; index < rounds; index++) {
      for (const client of orderOf(clients, firstRound + index)) {
        measured.get(client.name)!.push(yield* client.round(round))
      }
      if (round.scenario === "put") yield* compactIfLarge
    }
    return clients.map(({ name }) => rowOf(name, round, measured.get(name)!))
  })

export const printRows = ({ inFlight, scenario, valueBytes }: Round, rows: ReadonlyArray<Row>) => {
  console.log(`${scenario}, ${valueBytes} bytes, ${inFlight} in flight`)
  table(
    rows.map((row) => ({
      client: row.client,
      "ops/s": row.opsPerSecond,
      spread: row.spread,
      "p50 µs": row.p50Micros,
      "p99 µs": row.p99Micros,
      "CPU µs/op": row.cpuMicrosPerOp
    }))
  )
}

type Quantity = "opsPerSecond" | "cpuMicrosPerOp"

const printRatios = (groups: ReadonlyArray<ReadonlyArray<Row>>) => {
  const ratiosOf = (rows: ReadonlyArray<Row>) => {
    const ratio = (client: string, rival: string, quantity: Quantity = "opsPerSecond") => {
      const of = (name: string) => rows.find((row) => row.client === name)?.[quantity] ?? Number.NaN
      const value = of(client) / of(rival)
      return Number.isNaN(value) ? "-" : value.toFixed(2)
    }
    const { inFlight, scenario, valueBytes } = rows[0]!
    return {
      scenario,
      bytes: valueBytes,
      "in flight": inFlight,
      "/ etcd3": ratio("effect-etcd", "etcd3"),
      "CPU / etcd3": ratio("effect-etcd", "etcd3", "cpuMicrosPerOp"),
      "/ node http2": ratio("effect-etcd", "node http2"),
      "/ grpc-js": ratio("effect-etcd", "grpc-js"),
      "/ go clientv3": ratio("effect-etcd", "go clientv3"),
      "batched / etcd3": ratio("effect-etcd batched", "etcd3"),
      "batched / go clientv3": ratio("effect-etcd batched", "go clientv3")
    }
  }
  console.log("effect-etcd, and effect-etcd batched, as multiples of others: throughput, and CPU per operation")
  table(groups.map(ratiosOf))
}

export const kv = ({ quick, scenarios }: Options) =>
  Effect.gen(function* () {
    const { tcp, unix } = yield* makeNode({ quotaBackendBytes: "8 GiB" })
    const secure = yield* makeTlsNode({ quotaBackendBytes: "8 GiB" })
    const clients = yield* makeClients(tcp, unix, secure, quick)
    const rounds = quick ? 3 : 5
    const millis = quick ? 200 : 1000
    const groups: Array<ReadonlyArray<Row>> = []
    yield* Effect.gen(function* () {
      yield* warmUp(clients)
      for (const scenario of scenarios) {
        for (const valueBytes of quick ? [64] : [64, 4096]) {
          yield* fill(valueBytes)
          yield* Effect.provide(fill(valueBytes), EtcdLayer.connect(secure))
          yield* Effect.forEach(clients, (client) => verify(client, valueBytes), { discard: true })
          for (const inFlight of allInFlight) {
            const round = { scenario, inFlight, millis, valueBytes }
            const rows = yield* measureAll(clients, round, rounds, groups.length * rounds)
            printRows(round, rows)
            groups.push(rows)
          }
        }
      }
    }).pipe(Effect.provide(EtcdLayer.connect({ endpoints: [tcp] })))
    printRatios(groups)
    return groups.flat()
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(NodeServices.layer)))
