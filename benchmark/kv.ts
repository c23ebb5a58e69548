/**
 * Gets and puts of one key a call, with 1, 64 and 512 calls in flight: this library beside other clients, in
 * alternating rounds against the same node. CPU is what this process used while a client had its round.
 */
import { connect } from "node:http2"
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, ManagedRuntime } from "effect"
import { type EtcdClient, EtcdKv, EtcdLayer, EtcdProcess } from "effect-etcd"
import { Etcd3 } from "etcd3"
import { freePort, median, percentile, type Row, table } from "./support.ts"

interface Client {
  readonly name: string
  /** Runs the operation over and over, so many at a time, until the time is up; answers the latencies in microseconds. */
  readonly get: (inFlight: number, millis: number) => Promise<Array<number>>
  readonly put: (inFlight: number, millis: number, value: Buffer) => Promise<Array<number>>
  readonly close: () => Promise<unknown>
}

/** Each caller has a key of its own, because writes of one key wait for each other in a batching client. */
const keyOf = (index: number) => `bench/key/${String(index).padStart(4, "0")}`

const loops = async (inFlight: number, millis: number, operationOn: (key: string) => () => Promise<unknown>) => {
  const latencies: Array<number> = []
  const end = performance.now() + millis
  const loop = async (operation: () => Promise<unknown>) => {
    for (let start = performance.now(); start < end; ) {
      await operation()
      const now = performance.now()
      latencies.push((now - start) * 1000)
      start = now
    }
  }
  await Promise.all(Array.from({ length: inFlight }, (_, index) => loop(operationOn(keyOf(index)))))
  return latencies
}

type Operation = (key: string) => Effect.Effect<unknown, unknown, EtcdKv.EtcdKv>

const ours = async (name: string, endpoint: string, options: Omit<EtcdClient.Options, "endpoints"> = {}) => {
  const runtime = ManagedRuntime.make(EtcdLayer.connect({ ...options, endpoints: [endpoint] }))
  const run = (inFlight: number, millis: number, operationOn: Operation) => {
    const latencies: Array<number> = []
    const end = performance.now() + millis
    const loop = (operation: ReturnType<Operation>) =>
      Effect.suspend(() => {
        let start = performance.now()
        return Effect.whileLoop({
          while: () => start < end,
          body: () => operation,
          step: () => {
            const now = performance.now()
            latencies.push((now - start) * 1000)
            start = now
          }
        })
      })
    return runtime.runPromise(
      Effect.as(
        Effect.all(
          Array.from({ length: inFlight }, (_, index) => loop(operationOn(keyOf(index)))),
          { concurrency: "unbounded", discard: true }
        ),
        latencies
      )
    )
  }
  return {
    name,
    get: (inFlight, millis) => run(inFlight, millis, EtcdKv.get),
    put: (inFlight, millis, value) => run(inFlight, millis, (key) => EtcdKv.put(key, value)),
    close: () => runtime.dispose()
  } satisfies Client
}

const etcd3 = async (endpoint: string): Promise<Client> => {
  const client = new Etcd3({ hosts: endpoint })
  return {
    name: "etcd3",
    get: (inFlight, millis) => loops(inFlight, millis, (key) => () => client.get(key).buffer()),
    put: (inFlight, millis, value) => loops(inFlight, millis, (key) => async () => client.put(key).value(value)),
    close: async () => client.close()
  }
}

const varint = (value: number): Array<number> => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)])

const field = (number: number, value: Buffer) =>
  Buffer.concat([Buffer.from([(number << 3) | 2, ...varint(value.length)]), value])

/** The least that `node:http2` can do: no decoding, and one request made before the round. */
const bareHttp2 = async (endpoint: string): Promise<Client> => {
  const session = connect(endpoint)
  const call = (path: string, message: Buffer) => {
    const frame = Buffer.alloc(5 + message.length)
    frame.writeUInt32BE(message.length, 1)
    message.copy(frame, 5)
    const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" }
    return () =>
      new Promise<void>((resolve, reject) => {
        const stream = session.request(headers)
        stream.on("error", reject)
        stream.on("data", () => {})
        stream.on("end", () => resolve())
        stream.end(frame)
      })
  }
  return {
    name: "node http2",
    get: (inFlight, millis) =>
      loops(inFlight, millis, (key) => call("/etcdserverpb.KV/Range", field(1, Buffer.from(key)))),
    put: (inFlight, millis, value) =>
      loops(inFlight, millis, (key) =>
        call("/etcdserverpb.KV/Put", Buffer.concat([field(1, Buffer.from(key)), field(2, value)]))
      ),
    close: async () => session.close()
  }
}

export interface Options {
  readonly quick: boolean
  readonly only: string | undefined
}

export const kv = ({ only, quick }: Options) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const node = yield* EtcdProcess.make(
      { listenClientUrls: `http://127.0.0.1:${port}`, unsafeNoFsync: true },
      { log: false }
    )
    const socket = yield* EtcdProcess.make({ unsafeNoFsync: true }, { log: false })
    const clients = yield* Effect.promise(() =>
      Promise.all<Client>([
        ours("effect-etcd", node.endpoints[0]),
        ours("effect-etcd batched", node.endpoints[0], { batching: true }),
        ours("effect-etcd unix", socket.endpoints[0]),
        ours("effect-etcd node:http2", node.endpoints[0], { transport: "node:http2" }),
        etcd3(node.endpoints[0]),
        bareHttp2(node.endpoints[0])
      ])
    )
    const rounds = quick ? 3 : 5
    const millis = quick ? 500 : 1500
    const rows: Array<Row> = []
    const scenarios = (["get", "put"] as const).filter((scenario) => only === undefined || only === scenario)
    for (const scenario of scenarios) {
      for (const valueBytes of quick ? [64] : [64, 4096]) {
        const value = Buffer.alloc(valueBytes, "v")
        for (const client of clients) yield* Effect.promise(() => client.put(512, 100, value))
        for (const inFlight of [1, 64, 512]) {
          const measured = clients.map((client) => ({
            client,
            ops: [0].slice(1),
            cpu: [0].slice(1),
            all: [0].slice(1)
          }))
          for (let round = -1; round < rounds; round++) {
            for (const { all, client, cpu, ops } of measured) {
              const before = process.cpuUsage()
              const start = performance.now()
              const latencies = yield* Effect.promise(() => client[scenario](inFlight, round < 0 ? 200 : millis, value))
              const seconds = (performance.now() - start) / 1000
              const { system, user } = process.cpuUsage(before)
              if (round < 0) continue
              ops.push(latencies.length / seconds)
              cpu.push((system + user) / latencies.length)
              for (const latency of latencies) all.push(latency)
            }
          }
          for (const { all, client, cpu, ops } of measured) {
            rows.push({
              scenario,
              client: client.name,
              inFlight,
              valueBytes,
              opsPerSecond: Math.round(median(ops)),
              spread: `${Math.round(Math.min(...ops))}-${Math.round(Math.max(...ops))}`,
              p50Micros: Math.round(percentile(all, 0.5)),
              p99Micros: Math.round(percentile(all, 0.99)),
              cpuMicrosPerOp: Math.round(median(cpu) * 10) / 10
            })
          }
        }
      }
    }
    for (const client of clients) yield* Effect.promise(() => client.close())
    table(rows)
    return rows
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(NodeServices.layer)))
