/**
 * What is judged beside the two judges of all operations: watches, mirrors, leases, fences and deadlines.
 */
import { check } from "../support/history.ts"
import type { Entry, Instant, Operation, Violation } from "./history.ts"
import type { Observer } from "./observer.ts"
import {
  besidePrefix,
  deletedKey,
  groupsPrefix,
  leasedPrefix,
  ledgerPrefix,
  locksPrefix,
  type Told,
  type Written
} from "./protocol.ts"
import type { Acquired, Held, Mirrored, Stop, Timed, Watched } from "./workers.ts"

const violation = (kind: string, message: string, operations: ReadonlyArray<number> = []): Violation => ({
  kind,
  message,
  operations
})

// ── watches ──

const observationOf = (told: Told) => {
  const revision = BigInt(told.revision)
  switch (told._tag) {
    case "Revision": {
      const events = told.changes.map(({ key, value }) => ({
        type: value === null ? ("delete" as const) : ("put" as const),
        key,
        value: value ?? ""
      }))
      return { _tag: "Revision" as const, revision, events }
    }
    case "Progress":
      return { _tag: "Progress" as const, revision }
    case "Snapshot":
      return { _tag: "Snapshot" as const, revision, state: new Map(told.keys) }
  }
}

/** Snapshots in place of a history that was there. Those of mirrors are also for who reads them too slowly. */
const needless = (told: Watched["told"], from: number, compactions: ReadonlyArray<number>) => {
  let next = from
  return told.filter(({ _tag, revision }) => {
    const isMissing = compactions.some((to) => next < to && to <= revision)
    next = Math.max(next, revision + 1)
    return _tag === "Snapshot" && !isMissing
  })
}

/**
 * Each watch has delivered what it was for, in order, once, whole revisions, and no word of progress too early; and a snapshot
 * only where what it was for is compacted.
 */
export const watches = (
  entries: ReadonlyArray<Entry>,
  watched: Iterable<Watched>,
  compactions: ReadonlyArray<number>
): ReadonlyArray<Violation> => {
  const history = entries.map(({ changes, revision }) => ({
    revision: BigInt(revision),
    events: changes.map(({ key, value }) => ({
      type: value === null ? ("delete" as const) : ("put" as const),
      key,
      value: value ?? ""
    }))
  }))
  const last = entries.at(-1)?.revision ?? 0
  return [...watched].flatMap(({ from, isReplay, prefix, told, watch }) => {
    // Nobody knows what would have come next.
    const to = told.at(-1)?.revision ?? from - 1
    const observed = told.filter(({ revision }) => revision <= last).map(observationOf)
    const covers = (key: string) => key.startsWith(prefix)
    const wrong = (kind: string, revision: number | bigint) =>
      violation(
        `watch: ${kind}`,
        `The watch ${watch} of ${prefix}, from revision ${from} on, is wrong (${kind}) at ${revision}.`
      )
    return [
      ...check({ history, covers, from: BigInt(from), to: BigInt(to) }, observed).map(({ kind, revision }) =>
        wrong(kind, revision)
      ),
      // All who watch have ended before the last revision was made.
      ...told
        .filter(({ revision }) => revision > last)
        .map(({ revision }) => wrong("beyond the last revision", revision)),
      ...(isReplay ? [] : needless(told, from, compactions)).map(({ revision }) => wrong("needless snapshot", revision))
    ]
  })
}

// ── mirrors ──

/**
 * Each view is what the store held at its revision, no older than the one before it of the same mirror, and a fresh one no
 * older than what had been answered before.
 */
export const mirrors = (
  entries: ReadonlyArray<Entry>,
  mirrored: ReadonlyArray<Mirrored>,
  operations: ReadonlyArray<Operation>
): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  const state = new Map<string, string>()
  let next = 0
  const answers = operations
    .flatMap(({ ended, id, result }) =>
      ended !== null && result.outcome === "answered" ? [{ ended, id, revision: result.revision }] : []
    )
    .sort((one, other) => one.ended - other.ended)
  let highest = 0
  const highestAt: Array<readonly [Instant, number]> = answers.map(({ ended, revision }) => {
    highest = Math.max(highest, revision)
    return [ended, highest]
  })
  const knownAt = (at: Instant): number => {
    const index = highestAt.findLastIndex(([ended]) => ended < at)
    return index < 0 ? 0 : highestAt[index]![1]
  }
  const last = new Map<string, number>()
  for (const { process, revision } of mirrored) {
    const before = last.get(process) ?? 0
    last.set(process, revision)
    if (revision >= before) continue
    violations.push(violation("mirror: back", `The mirror of ${process} is at ${revision}, after ${before}.`))
  }
  for (const { asked, keys, revision } of [...mirrored].sort((one, other) => one.revision - other.revision)) {
    while (next < entries.length && entries[next]!.revision <= revision) {
      for (const { key, value } of entries[next++]!.changes) {
        if (!key.startsWith(groupsPrefix)) continue
        if (value === null) state.delete(key)
        else state.set(key, value)
      }
    }
    const wrong = keys.find(([key, value]) => state.get(key) !== value)
    if (wrong !== undefined || keys.length !== state.size) {
      const what =
        wrong === undefined
          ? `${state.size - keys.length} of ${state.size} keys are missing`
          : `${wrong[0]} is ${wrong[1]}, where the store had ${state.get(wrong[0]) ?? "nothing"}`
      violations.push(violation("mirror", `A mirror at revision ${revision} is wrong: ${what}.`))
    }
    if (asked === undefined) continue
    const known = knownAt(asked)
    if (revision < known) {
      violations.push(
        violation(
          "mirror: stale",
          `A fresh view of a mirror is at ${revision}, when ${known} had been answered before.`
        )
      )
    }
  }
  return violations
}

// ── leases, locks ──

/** A key, from the revision that made it until it was deleted. */
interface Life {
  readonly key: string
  readonly from: number
  to: number
}

const livesOf = (entries: ReadonlyArray<Entry>): ReadonlyArray<Life> => {
  const lives: Array<Life> = []
  const last = new Map<string, Life>()
  for (const { changes, revision } of entries) {
    for (const { key, value } of changes) {
      if (!key.startsWith(leasedPrefix) && !key.startsWith(locksPrefix)) continue
      const life = last.get(key)
      if (value === null) {
        if (life !== undefined) life.to = revision
        last.delete(key)
      } else if (life === undefined) {
        const life = { key, from: revision, to: Number.POSITIVE_INFINITY }
        last.set(key, life)
        lives.push(life)
      }
    }
  }
  return lives
}

/** The revisions at which somebody has deleted all keys of locks. */
const deletionsByOthers = (entries: ReadonlyArray<Entry>): ReadonlySet<number> =>
  new Set(entries.flatMap(({ changes, revision }) => (changes.some(({ key }) => key === deletedKey) ? [revision] : [])))

const nameOf = (key: string, token: number): string => `${key} of revision ${token}`

/**
 * How late a holder may be to notice that somebody has deleted its key: a connection counts as lost after nine seconds without
 * a sign of life.
 */
const noticeMillis = 13_000

/** By when each revision had come about, as far as anybody has seen of it, or of what came later. */
const knownBy = (seenAt: Observer["seenAt"], operations: ReadonlyArray<Operation>): ReadonlyMap<number, Instant> => {
  const answers = operations.flatMap(({ ended, result }) =>
    ended !== null && result.outcome === "answered" ? [[result.revision, ended] as const] : []
  )
  const known = new Map<number, Instant>()
  let first = Number.POSITIVE_INFINITY
  for (const [revision, at] of [...seenAt, ...answers].sort(([one], [other]) => other - one)) {
    first = Math.min(first, at)
    known.set(revision, first)
  }
  return known
}

/** A key is there as long as its lease, or the lock that it stands for, is said to be held. */
export const leases = (
  entries: ReadonlyArray<Entry>,
  seenAt: Observer["seenAt"],
  held: ReadonlyArray<Held>,
  operations: ReadonlyArray<Operation>
): ReadonlyArray<Violation> => {
  const known = knownBy(seenAt, operations)
  const byOthers = deletionsByOthers(entries)
  const ends = new Map(livesOf(entries).map(({ from, key, to }) => [nameOf(key, from), to]))
  const lastHeld = new Map<string, Instant>()
  for (const { at, key, token } of held) {
    const name = nameOf(key, token)
    lastHeld.set(name, Math.max(at, lastHeld.get(name) ?? 0))
  }
  return [...lastHeld].flatMap(([name, at]) => {
    const end = ends.get(name) ?? Number.POSITIVE_INFINITY
    const isByOther = byOthers.has(end)
    const endedAt = known.get(end)
    if (endedAt === undefined) return []
    const millis = Math.round(at - endedAt - (isByOther ? noticeMillis : 0))
    if (millis <= 0) return []
    const told = isByOther ? "it could be known" : "that"
    const message = `${name} was deleted at revision ${end}, and said to be held ${millis} ms after ${told}.`
    return [{ ...violation(isByOther ? "unnoticed" : "lease", message), at: endedAt }]
  })
}

const lineOf = (key: string): string => key.slice(0, key.lastIndexOf("/"))

/**
 * Who acquires a place has its key there, as the first in its line. Where all of a line is deleted at once, whoever is next
 * sees first that nobody stands before it, and then that its own key is gone: until then only the fence knows.
 */
export const locks = (entries: ReadonlyArray<Entry>, acquired: ReadonlyArray<Acquired>): ReadonlyArray<Violation> => {
  const lines = Map.groupBy(livesOf(entries), ({ key }) => lineOf(key))
  const byOthers = deletionsByOthers(entries)
  return acquired.flatMap(({ key, revision, token }) => {
    const line = lines.get(lineOf(key)) ?? []
    const own = line.find((life) => life.key === key && life.from === token)
    if (byOthers.has(revision) && own?.to === revision) return []
    const first = line.find(({ from, to }) => from <= revision && revision < to)
    if (own !== undefined && first === own) return []
    const there = first === undefined ? "nobody was there" : `${nameOf(first.key, first.from)} was`
    return [
      violation("lock", `${nameOf(key, token)} was told to be the first at revision ${revision}, where ${there}.`)
    ]
  })
}

// ── bursts ──

/** Calls on one key that a client batches are carried out in the order in which they were made. */
export const bursts = (operations: ReadonlyMap<number, Timed>): ReadonlyArray<Violation> =>
  [...operations.values()].flatMap(({ after, client, id, result }) => {
    const before = after === undefined ? undefined : operations.get(after)?.result
    if (before?.outcome !== "answered" || result.outcome !== "answered") return []
    if (before.revision < result.revision) return []
    const places = `${before.revision} and ${result.revision}`
    return [violation("burst", `${after} and ${id} of ${client}, made in this order, are at ${places}.`, [after!, id])]
  })

// ── fences ──

/**
 * What is written under a lock or a leadership is written while its key is there, in the order of the tokens, and no update of
 * a ledger is lost.
 */
export const fences = (entries: ReadonlyArray<Entry>): ReadonlyArray<Violation> => {
  const places = Map.groupBy(livesOf(entries), ({ from }) => from)
  const last = new Map<string, Written>()
  const violations: Array<Violation> = []
  for (const { changes, revision } of entries) {
    for (const { key, value } of changes) {
      const isLedger = key.startsWith(ledgerPrefix)
      if (value === null || !(isLedger || key.startsWith(besidePrefix))) continue
      const written = JSON.parse(value) as Written
      const before = last.get(key) ?? { token: 0, count: 0 }
      const line = `${locksPrefix}${key.slice(key.lastIndexOf("/") + 1)}`
      const place = places.get(written.token)?.find((life) => lineOf(life.key) === line)
      const two = `token ${written.token}, count ${written.count} after token ${before.token}, count ${before.count}`
      if (place === undefined || revision < place.from || revision > place.to) {
        const there =
          place === undefined ? "which never was there" : `which was there from ${place.from} to ${place.to}`
        violations.push(
          violation("fence", `${key} was written at revision ${revision} under token ${written.token}, ${there}.`)
        )
      }
      if (written.token < before.token) {
        violations.push(violation("fence", `A past holder has written ${key} at revision ${revision}: ${two}.`))
      } else if (isLedger && written.count !== before.count + 1) {
        violations.push(violation("lost update", `An update of ${key} is lost at revision ${revision}: ${two}.`))
      }
      last.set(key, written)
    }
  }
  return violations
}

// ── deadlines ──

/** How late an answer may be beside its deadline, on a machine that has much to do. */
const toleranceMillis = 2000

/** For how long of a time a process did not run. Two who tell of it may tell of the same. */
const stoodStill = (stops: ReadonlyArray<Stop>, from: Instant, to: Instant): number => {
  let sum = 0
  let last = from
  for (const stop of stops) {
    const begun = Math.max(stop.from, last)
    last = Math.max(last, Math.min(stop.to, to))
    sum += Math.max(0, last - begun)
  }
  return sum
}

/**
 * Nobody waits for longer than it has said, but for the time in which it did not run; nor does who waited until its process
 * was killed, or stood still and was killed then.
 */
export const deadlines = (
  operations: Iterable<Timed>,
  stops: ReadonlyArray<Stop>,
  lastRan: ReadonlyMap<string, Instant>
): ReadonlyArray<Violation> => {
  const inOrder = stops.toSorted((one, other) => one.from - other.from)
  const byProcess = Map.groupBy(inOrder, ({ process }) => process)
  return [...operations].flatMap(({ begun, call, client, deadline, ended, id }) => {
    const process = client.slice(0, client.indexOf("."))
    const to = ended ?? lastRan.get(process)
    if (to === undefined) return []
    const late = to - begun - deadline - stoodStill(byProcess.get(process) ?? [], begun, to)
    if (late <= toleranceMillis) return []
    const message = `${call.name} ${id} of ${client} took ${Math.round(late)} ms longer than its deadline.`
    return [violation("deadline", message, [id])]
  })
}
