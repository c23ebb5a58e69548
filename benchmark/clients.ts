/**
 * The clients that run in this process: this library, `etcd3`, and the least that can be done with `@grpc/grpc-js` and
 * with `node:http2`. Each keeps its defaults.
 */
import { connect } from "node:http2"
import { credentials, Client as GrpcClient } from "@grpc/grpc-js"
import { Effect, Layer } from "effect"
import { type EtcdClient, type EtcdError, EtcdKv, EtcdLayer } from "effect-etcd"
import { Etcd3 } from "etcd3"
import { type Client, keyOf, type Latencies, measure, type Round, valueOf } from "./round.ts"
import { BenchError, benchError } from "./support.ts"

// -----------------------------------------------------------------------------
// callers
// -----------------------------------------------------------------------------

/** Calls a client with promises. */
const promiseCaller = async (operation: () => Promise<unknown>, latencies: Latencies, end: number) => {
  for (let start = performance.now(); start < end; ) {
    await operation()
    const now = performance.now()
    latencies.add(now - start)
    start = now
  }
}

const promiseRound = (name: string, round: Round, operationOn: (key: string) => () => Promise<unknown>) =>
  measure(round, (latencies, end) =>
    Effect.tryPromise({
      try: () =>
        Promise.all(
          Array.from({ length: round.inFlight }, (_, caller) =>
            promiseCaller(operationOn(keyOf(caller)), latencies, end)
          )
        ),
      catch: (cause) => benchError(name, cause)
    })
  )

/** Calls a client with effects. */
const effectCaller = <E, R>(operation: () => Effect.Effect<unknown, E, R>, latencies: Latencies, end: number) =>
  Effect.suspend(() => {
    let start = performance.now()
    return Effect.whileLoop({
      while: () => start < end,
      body: operation,
      step: () => {
        const now = performance.now()
        latencies.add(now - start)
        start = now
      }
    })
  })

// -----------------------------------------------------------------------------
// this library
// -----------------------------------------------------------------------------

const operationOf = ({ scenario, valueBytes }: Round) => {
  const value = valueOf(valueBytes)
  return (key: string): Effect.Effect<unknown, EtcdError.EtcdError, EtcdKv.EtcdKv> =>
    scenario === "get" ? EtcdKv.get(key) : EtcdKv.put(key, value)
}

type Options = Omit<EtcdClient.Options, "endpoints">

export const ours = (name: string, endpoint: string, options: Options = {}) => oursAt(name, [endpoint], options)

export const oursAt = (name: string, endpoints: ReadonlyArray<string>, options: Options) =>
  Effect.map(Layer.build(EtcdLayer.connect({ ...options, endpoints })), (context): Client => {
    const failed = (cause: unknown) => benchError(name, cause)
    return {
      name,
      round: (round) =>
        measure(round, (latencies, end) => {
          const operation = operationOf(round)
          const callers = Array.from({ length: round.inFlight }, (_, caller) => {
            const key = keyOf(caller)
            return effectCaller(() => operation(key), latencies, end)
          })
          return Effect.all(callers, { concurrency: "unbounded", discard: true })
        }).pipe(Effect.mapError(failed), Effect.provideContext(context)),
      putAndGet: (key, value) =>
        EtcdKv.put(key, value).pipe(
          Effect.andThen(EtcdKv.get(key)),
          Effect.flatMap(Effect.fromOption),
          Effect.map((kv) => kv.value),
          Effect.mapError(failed),
          Effect.provideContext(context)
        )
    }
  })

// -----------------------------------------------------------------------------
// etcd3
// -----------------------------------------------------------------------------

export const etcd3 = (endpoint: string) =>
  Effect.gen(function* () {
    const name = "etcd3"
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new Etcd3({ hosts: endpoint })),
      (client) => Effect.sync(() => client.close())
    )
    return {
      name,
      round: (round) => {
        const value = valueOf(round.valueBytes)
        return promiseRound(name, round, (key) =>
          round.scenario === "get" ? () => client.get(key).buffer() : async () => client.put(key).value(value)
        )
      },
      putAndGet: (key, value) =>
        Effect.tryPromise({
          try: async () => {
            await client.put(key).value(Buffer.from(value))
            return (await client.get(key).buffer()) ?? new Uint8Array()
          },
          catch: (cause) => benchError(name, cause)
        })
    } satisfies Client
  })

// -----------------------------------------------------------------------------
// clients that decode nothing, and encode before the round
// -----------------------------------------------------------------------------

const varint = (value: number): Array<number> => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)])

const field = (number: number, value: Uint8Array) =>
  Buffer.concat([Buffer.from([(number << 3) | 2, ...varint(value.length)]), value])

interface BareRequest {
  readonly path: string
  /** A protobuf message. */
  readonly message: Buffer
}

const rangeOf = (key: string): BareRequest => ({
  path: "/etcdserverpb.KV/Range",
  message: field(1, Buffer.from(key))
})

const putOf = (key: string, value: Uint8Array): BareRequest => ({
  path: "/etcdserverpb.KV/Put",
  message: Buffer.concat([field(1, Buffer.from(key)), field(2, value)])
})

const bareRound = (name: string, round: Round, prepare: (request: BareRequest) => () => Promise<unknown>) => {
  const value = valueOf(round.valueBytes)
  return promiseRound(name, round, (key) => prepare(round.scenario === "get" ? rangeOf(key) : putOf(key, value)))
}

const identity = (bytes: Buffer) => bytes

export const grpcJs = (endpoint: string) =>
  Effect.gen(function* () {
    const name = "grpc-js"
    const client = yield* Effect.acquireRelease(
      Effect.sync(() => new GrpcClient(new URL(endpoint).host, credentials.createInsecure())),
      (client) => Effect.sync(() => client.close())
    )
    const call = ({ message, path }: BareRequest) =>
      new Promise<Buffer>((resolve, reject) => {
        client.makeUnaryRequest(path, identity, identity, message, (error, answer) =>
          error === null ? resolve(answer!) : reject(error)
        )
      })
    return {
      name,
      round: (round) => bareRound(name, round, (request) => () => call(request)),
      putAndGet: (key, value) =>
        Effect.tryPromise({
          try: () => call(putOf(key, value)).then(() => call(rangeOf(key))),
          catch: (cause) => benchError(name, cause)
        })
    } satisfies Client
  })

const ignore = () => {}

/** The least that `node:http2` can do. It does not even look at the status of the call. */
export const nodeHttp2 = (endpoint: string) =>
  Effect.gen(function* () {
    const name = "node http2"
    const session = yield* Effect.acquireRelease(
      Effect.sync(() => connect(endpoint)),
      (session) => Effect.sync(() => session.destroy())
    )
    // A session without a listener throws its errors. Its streams have them too, and pass them on.
    session.on("error", ignore)
    const prepare = ({ message, path }: BareRequest, onData: (bytes: Buffer) => void) => {
      const frame = Buffer.alloc(5 + message.length)
      frame.writeUInt32BE(message.length, 1)
      message.copy(frame, 5)
      const headers = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" }
      return () =>
        new Promise<void>((resolve, reject) => {
          const stream = session.request(headers)
          stream.on("error", reject)
          stream.on("data", onData)
          stream.on("end", resolve)
          stream.end(frame)
        })
    }
    return {
      name,
      round: (round) => bareRound(name, round, (request) => prepare(request, ignore)),
      putAndGet: (key, value) =>
        Effect.tryPromise({
          try: async () => {
            await prepare(putOf(key, value), ignore)()
            const received: Array<Buffer> = []
            await prepare(rangeOf(key), (bytes) => received.push(bytes))()
            return Buffer.concat(received)
          },
          catch: (cause) => benchError(name, cause)
        })
    } satisfies Client
  })

// -----------------------------------------------------------------------------
// what they got
// -----------------------------------------------------------------------------

/** Fails unless the client puts a value of that size, known and its own, and gets it. */
export const verify = (client: Client, valueBytes: number) =>
  Effect.gen(function* () {
    const value = Buffer.alloc(valueBytes, `a known value of ${client.name}, `)
    const got = yield* client.putAndGet(`bench/known/${client.name}`, value)
    if (!Buffer.from(got).includes(value)) {
      return yield* new BenchError({
        message: `${client.name} did not get the ${valueBytes} bytes that it put: ${got.length} bytes came back`
      })
    }
  })
