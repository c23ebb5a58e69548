/**
 * What is left in a process when all has ended.
 */
import { readdirSync } from "node:fs"
import process from "node:process"
import type * as Metric from "effect/Metric"

/** More than that, of what nobody needs any more, is a leak. */
const heapAllowance = 32 * 1024 * 1024

let fibers = 0

/** Counts the fibers of who has it as a service. */
export const countingFibers: Metric.FiberRuntimeMetricsService = {
  recordFiberStart: () => {
    fibers++
  },
  recordFiberEnd: () => {
    fibers--
  }
}

/** What the process has: what keeps it alive, open files, fibers that have not ended, and bytes that somebody can reach. */
export const possessions = () => {
  globalThis.gc!()
  const alive = process.getActiveResourcesInfo().sort()
  return {
    alive,
    descriptors: process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0,
    fibers,
    heap: process.memoryUsage().heapUsed
  }
}

/** What there is more of than before. */
const beyond = (now: ReadonlyArray<string>, before: ReadonlyArray<string>): ReadonlyArray<string> => {
  const left = [...before]
  return now.filter((one) => {
    const index = left.indexOf(one)
    if (index >= 0) left.splice(index, 1)
    return index < 0
  })
}

export const leaksSince = (before: ReturnType<typeof possessions>): ReadonlyArray<string> => {
  const { alive, descriptors, fibers, heap } = possessions()
  return [
    ...beyond(alive, before.alive),
    ...(descriptors > before.descriptors ? [`descriptors: ${descriptors - before.descriptors}`] : []),
    ...(fibers > before.fibers ? [`fibers: ${fibers - before.fibers}`] : []),
    ...(heap > before.heap + heapAllowance ? [`${Math.round((heap - before.heap) / 1024 / 1024)} MiB of heap`] : [])
  ]
}
