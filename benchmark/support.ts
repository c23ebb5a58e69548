/**
 * Numbers, tables and the node that the benchmarks share.
 */
import { createServer } from "node:net"
import { Data, Effect } from "effect"
import { type EtcdClient, type EtcdConfig, EtcdProcess } from "effect-etcd"

/** Why there is no measurement. The message says all. */
export class BenchError extends Data.TaggedError("BenchError")<{ readonly message: string }> {}

/** `who` is put in front, because the clients' own messages do not say whose they are. */
export const benchError = (who: string, cause: unknown): BenchError =>
  new BenchError({ message: `${who}: ${cause instanceof Error ? cause.message : String(cause)}` })

/** One measurement. */
export interface Row {
  readonly scenario: string
  readonly client: string
  readonly inFlight: number
  readonly valueBytes: number
  /** The median of the rounds. */
  readonly opsPerSecond: number
  /** The slowest and the fastest round. */
  readonly spread: string
  /** Of all operations of all rounds. Null where operations are not timed one by one. */
  readonly p50Micros: number | null
  readonly p99Micros: number | null
  /** Of the client's process, the median of the rounds. */
  readonly cpuMicrosPerOp: number
}

/** What passed meanwhile: time, and the processor time of this process on all its threads. */
export interface Elapsed {
  readonly millis: number
  readonly cpuMicros: number
}

/** Begins to measure. The result says what has passed so far. */
export const stopwatch = (): (() => Elapsed) => {
  const before = process.cpuUsage()
  const start = performance.now()
  return () => {
    const millis = performance.now() - start
    const { system, user } = process.cpuUsage(before)
    return { millis, cpuMicros: system + user }
  }
}

/** The value of which that fraction of all values is smaller, the next one up. */
export const percentile = (values: ArrayLike<number>, fraction: number): number => {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN
}

export const median = (values: ArrayLike<number>): number => percentile(values, 0.5)

export const rounded = (value: number, decimals: number): number => Number(value.toFixed(decimals))

/** The slowest and the fastest round. */
export const spread = (rates: ReadonlyArray<number>): string =>
  `${Math.round(Math.min(...rates))}-${Math.round(Math.max(...rates))}`

/** Prints rows as a Markdown table that can be read as it is. Text goes to the left, numbers to the right. */
export const table = <R extends object>(rows: ReadonlyArray<R>): void => {
  const columns = Object.keys(rows[0] ?? {}) as Array<keyof R & string>
  const cells = rows.map((row) => columns.map((column) => String(row[column])))
  const widths = columns.map((column, at) => Math.max(3, column.length, ...cells.map((row) => row[at]!.length)))
  const isText = columns.map((column) => typeof rows[0]?.[column] === "string")
  const line = (row: ReadonlyArray<string>) => {
    const padded = row.map((cell, at) => (isText[at] ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!)))
    console.log(`| ${padded.join(" | ")} |`)
  }
  line(columns)
  line(widths.map((width, at) => (isText[at] ? "-".repeat(width) : `${"-".repeat(width - 1)}:`)))
  for (const row of cells) line(row)
  console.log("")
}

export const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

/** A node of its own that serves on a free port of this machine, and on a Unix socket. */
export const makeNode = (config: EtcdConfig.Input = {}) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const node = yield* EtcdProcess.make(
      { ...config, listenClientUrls: [`http://127.0.0.1:${port}`, "unix://client.sock:0"], unsafeNoFsync: true },
      { log: false }
    )
    const [tcp, unix] = node.endpoints as unknown as readonly [string, string]
    return { tcp, unix }
  })

/** Where a node is, and what a client needs to trust it. */
export interface TlsNode {
  readonly endpoints: readonly [string, ...Array<string>]
  readonly tls: EtcdClient.Tls
}

/** A node of its own that serves with TLS on a free port of this machine. */
export const makeTlsNode = (config: EtcdConfig.Input = {}) =>
  Effect.gen(function* () {
    const port = yield* freePort
    const node = yield* EtcdProcess.make(
      { ...config, listenClientUrls: `https://127.0.0.1:${port}`, autoTls: true, unsafeNoFsync: true },
      { log: false, statusInterval: "Infinity" }
    )
    const secure: TlsNode = {
      endpoints: node.endpoints,
      tls: { ca: { file: `${node.config.dataDir}/fixtures/client/cert.pem` } }
    }
    return secure
  })
