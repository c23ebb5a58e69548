/**
 * What must be true of what contenders have done.
 */
import { type FileWrite, type Outcome, steps, type Written } from "./protocol.ts"

/** A write in the history of the ledger, in its order. */
export interface Entry extends Written {
  readonly lock: string
}

/** Work that had locks, from when it had them until it ended, or was killed. */
export interface Work {
  readonly contender: string
  readonly token: number
  readonly locks: ReadonlyArray<string>
  readonly from: number
  to: number
  /** Undefined: it was killed before it knew. */
  outcome: Outcome | undefined
}

/** A time at which a contender was stopped, or stood still. */
export interface Stop {
  readonly contender: string
  readonly from: number
  readonly to: number
}

/** A holder whose lease was revoked or whose key was deleted. */
export interface Removal {
  readonly token: number
  readonly at: number
}

export interface Overlap {
  readonly lock: string
  readonly earlier: number
  readonly later: number
  readonly millis: number
  /** What explains it: nothing, if it is undefined. */
  readonly because: "stopped" | "removed" | undefined
}

/** What is wrong with what was written under the locks, as etcd has it. */
export const ledgerProblems = (entries: ReadonlyArray<Entry>): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const last = new Map<string, Entry>()
  for (const entry of entries) {
    const before = last.get(entry.lock) ?? { lock: entry.lock, count: 0, token: 0, step: steps - 1 }
    const problem = entryProblem(before, entry)
    if (problem !== undefined) problems.push(`${entry.lock}: ${problem}`)
    last.set(entry.lock, entry)
  }
  return problems
}

const show = ({ count, step, token }: Written): string => `token ${token} step ${step} count ${count}`

const entryProblem = (before: Entry, entry: Entry): string | undefined => {
  const two = `${show(entry)} comes after ${show(before)}`
  if (entry.token < before.token) return `a past holder has written: ${two}`
  if (entry.token === before.token) {
    return entry.step === before.step + 1 && entry.count === before.count ? undefined : `a write is missing: ${two}`
  }
  if (entry.count !== before.count + 1) return `an update is lost: ${two}`
  return entry.step === 0 ? undefined : `a write is missing: ${two}`
}

/** Whoever was told that it held the locks all the time has written all of it. */
export const missingWrites = (works: ReadonlyArray<Work>, entries: ReadonlyArray<Entry>): ReadonlyArray<string> => {
  const written = new Set(entries.map(({ lock, step, token }) => `${lock} ${token} ${step}`))
  return works
    .filter(({ outcome }) => outcome === "done")
    .flatMap(({ locks, token }) => locks.filter((lock) => !written.has(`${lock} ${token} ${steps - 1}`)))
    .map((lock) => `${lock}: work has succeeded, and what it wrote is not there`)
}

/** Whoever was told that it held the locks all the time was never refused by who looks at tokens. */
export const refusedInTime = (refused: ReadonlyArray<FileWrite>, works: ReadonlyArray<Work>): ReadonlyArray<string> => {
  const done = new Set(works.filter(({ outcome }) => outcome === "done").map(({ token }) => token))
  return refused
    .filter(({ token }) => done.has(token))
    .map(({ lock, token }) => `${lock}: work has succeeded, and its token ${token} was refused`)
}

const explanationOf = (
  { contender, from, to, token }: Work,
  begun: number,
  stops: ReadonlyArray<Stop>,
  removals: ReadonlyArray<Removal>
): Overlap["because"] => {
  const wasStopped = stops.some(
    (stop) => stop.contender === contender && stop.from < Math.min(begun, to) && stop.to > Math.min(from, begun)
  )
  if (wasStopped) return "stopped"
  return removals.some((removal) => removal.token === token && removal.at < begun) ? "removed" : undefined
}

const overlapsOf = (
  lock: string,
  works: ReadonlyArray<Work>,
  stops: ReadonlyArray<Stop>,
  removals: ReadonlyArray<Removal>
): ReadonlyArray<Overlap> => {
  const inOrder = works.filter(({ locks }) => locks.includes(lock)).sort((one, other) => one.token - other.token)
  const overlaps: Array<Overlap> = []
  for (const [index, later] of inOrder.entries()) {
    for (const earlier of inOrder.slice(0, index)) {
      const millis = Math.min(earlier.to, later.to) - Math.max(earlier.from, later.from)
      if (millis <= 0 && later.from >= earlier.from) continue
      const because = explanationOf(earlier, later.from, stops, removals)
      overlaps.push({ lock, earlier: earlier.token, later: later.token, millis, because })
    }
  }
  return overlaps
}

/** Where two had a lock at the same time, or not in the order of their tokens. */
export const overlaps = (
  works: ReadonlyArray<Work>,
  stops: ReadonlyArray<Stop>,
  removals: ReadonlyArray<Removal>
): ReadonlyArray<Overlap> => {
  const locks = new Set(works.flatMap((work) => work.locks))
  return [...locks].flatMap((lock) => overlapsOf(lock, works, stops, removals))
}
