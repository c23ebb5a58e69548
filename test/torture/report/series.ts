/**
 * Operations counted by second, and how long they took.
 */
import type { Operation } from "../history.ts"
import type { Run } from "../run.ts"
import { clockOf, wholeOf } from "./time.ts"

export const outcomes = ["answered", "not-applied", "unknown"] as const

export type Outcome = (typeof outcomes)[number]

export type Counts = Readonly<Record<Outcome, number>>

export interface Second extends Counts {
  /** In milliseconds, of those that were answered. `null`: none was. */
  readonly latency: { readonly p50: number; readonly p99: number; readonly max: number } | null
}

export const countsOf = (operations: ReadonlyArray<Operation>): Counts => {
  const counts = { answered: 0, "not-applied": 0, unknown: 0 }
  for (const { result } of operations) counts[result.outcome]++
  return counts
}

/** The nearest rank. */
const percentile = (sorted: Float64Array, share: number): number =>
  sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]!

export const latencyOf = (operations: ReadonlyArray<Operation>): Second["latency"] => {
  const took = operations.flatMap(({ begun, ended, result }) =>
    result.outcome === "answered" && ended !== null ? [ended - begun] : []
  )
  if (took.length === 0) return null
  const sorted = Float64Array.from(took).sort()
  return { p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99), max: sorted.at(-1)! }
}

/** Operations by the part of the run in which they ended, or began, where they never ended. */
export const binned = (
  run: Run,
  operations: ReadonlyArray<Operation>,
  bins: number,
  perSecond: number
): ReadonlyArray<ReadonlyArray<Operation>> => {
  const clock = clockOf(run)
  const all = Array.from({ length: bins }, (): Array<Operation> => [])
  for (const operation of operations) {
    const bin = Math.floor(clock(operation.ended ?? operation.begun) * perSecond)
    all[Math.min(bins - 1, Math.max(0, bin))]!.push(operation)
  }
  return all
}

export const bySecond = (run: Run): ReadonlyArray<Second> =>
  binned(run, run.operations, Math.max(1, Math.ceil(wholeOf(run).to)), 1).map((operations) => ({
    ...countsOf(operations),
    latency: latencyOf(operations)
  }))
