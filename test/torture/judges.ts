/**
 * What is judged beside the two judges of all operations: watches, mirrors, leases, fences and deadlines.
 */
import { check } from "../support/history.ts"
import type { Entry, Instant, Operation, Violation } from "./history.ts"
import type { Observer } from "./observer.ts"
import { groupsPrefix, leasedPrefix, ledgerPrefix, type Told, type Written } from "./protocol.ts"
import type { Held, Mirrored, Stop, Timed, Watched } from "./workers.ts"

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

/** Each watch has delivered what it was for, in order, once, whole revisions, and no word of progress too early. */
export const watches = (entries: ReadonlyArray<Entry>, watched: Iterable<Watched>): ReadonlyArray<Violation> => {
  const history = entries.map(({ changes, revision }) => ({
    revision: BigInt(revision),
    events: changes.map(({ key, value }) => ({
      type: value === null ? ("delete" as const) : ("put" as const),
      key,
      value: value ?? ""
    }))
  }))
  const last = entries.at(-1)?.revision ?? 0
  return [...watched].flatMap(({ from, prefix, told, watch }) => {
    // Nobody knows what would have come next.
    const to = told.at(-1)?.revision ?? from - 1
    const observed = told.filter(({ revision }) => revision <= last).map(observationOf)
    const covers = (key: string) => key.startsWith(prefix)
    return check({ history, covers, from: BigInt(from), to: BigInt(to) }, observed).map(({ kind, revision }) =>
      violation(
        `watch: ${kind}`,
        `The watch ${watch} of ${prefix}, from revision ${from} on, is wrong (${kind}) at ${revision}.`
      )
    )
  })
}

// ── mirrors ──

/** Each view is what the store held at its revision, and a fresh one is no older than what had been answered before. */
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

// ── leases ──

/** A key is there as long as its lease is said to be held. */
export const leases = (
  entries: ReadonlyArray<Entry>,
  seenAt: Observer["seenAt"],
  held: ReadonlyArray<Held>
): ReadonlyArray<Violation> => {
  const gone = new Map<string, { readonly revision: number; readonly at: Instant }>()
  for (const { changes, revision } of entries) {
    for (const { key, value } of changes) {
      if (value === null && key.startsWith(leasedPrefix)) gone.set(key, { revision, at: seenAt.get(revision)! })
    }
  }
  const lastHeld = new Map<string, Instant>()
  for (const { at, key } of held) lastHeld.set(key, Math.max(at, lastHeld.get(key) ?? 0))
  return [...lastHeld].flatMap(([key, at]) => {
    const end = gone.get(key)
    if (end === undefined || end.at >= at) return []
    const millis = Math.round(at - end.at)
    return [
      violation(
        "lease",
        `${key} was deleted at revision ${end.revision}, and its lease was said to be held ${millis} ms later.`
      )
    ]
  })
}

// ── fences ──

/** What is written under a lock or a leadership is written in the order of the tokens, and no update is lost. */
export const fences = (entries: ReadonlyArray<Entry>): ReadonlyArray<Violation> => {
  const last = new Map<string, Written>()
  const violations: Array<Violation> = []
  for (const { changes, revision } of entries) {
    for (const { key, value } of changes) {
      if (value === null || !key.startsWith(ledgerPrefix)) continue
      const written = JSON.parse(value) as Written
      const before = last.get(key) ?? { token: 0, count: 0 }
      const two = `token ${written.token}, count ${written.count} after token ${before.token}, count ${before.count}`
      if (written.token < before.token) {
        violations.push(violation("fence", `A past holder has written ${key} at revision ${revision}: ${two}.`))
      } else if (written.count !== before.count + 1) {
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

/** Nobody waits for longer than it has said, but for the time in which it did not run. */
export const deadlines = (operations: Iterable<Timed>, stops: ReadonlyArray<Stop>): ReadonlyArray<Violation> =>
  [...operations].flatMap(({ begun, call, client, deadline, ended, id }) => {
    if (ended === null) return []
    const stood = stops
      .filter(({ from, to, worker }) => client.split(/[.-]/)[0] === worker && from < ended && to > begun)
      .reduce((sum, { from, to }) => sum + Math.min(to, ended) - Math.max(from, begun), 0)
    const late = ended - begun - deadline - stood
    return late <= toleranceMillis
      ? []
      : [
          violation(
            "deadline",
            `${call.name} ${id} of ${client} took ${Math.round(late)} ms longer than its deadline.`,
            [id]
          )
        ]
  })
