/**
 * Numbers and tables for the benchmarks.
 */
import { createServer } from "node:net"
import { Effect } from "effect"

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
  readonly p50Micros: number
  readonly p99Micros: number
  /** Of this process, the median of the rounds. */
  readonly cpuMicrosPerOp: number
}

export const percentile = (values: ReadonlyArray<number>, fraction: number): number => {
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN
}

export const median = (values: ReadonlyArray<number>): number => percentile(values, 0.5)

/** Prints rows as a Markdown table. */
export const table = <R extends object>(rows: ReadonlyArray<R>): void => {
  const columns = Object.keys(rows[0] ?? {}) as Array<keyof R & string>
  console.log(`| ${columns.join(" | ")} |`)
  console.log(`| ${columns.map(() => "---").join(" | ")} |`)
  for (const row of rows) console.log(`| ${columns.map((column) => row[column]).join(" | ")} |`)
}

export const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})
