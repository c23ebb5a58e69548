/**
 * Says whether what a watch delivered is what the store's history asks for: every revision once, in order, complete and
 * undivided, and no word of progress or snapshot that is not true.
 */
import type * as EtcdWatch from "../../src/EtcdWatch.ts"

/** One change of one key. */
export interface Event {
  readonly type: "put" | "delete"
  readonly key: string
  /** Empty where the key was deleted. */
  readonly value: string
}

/** What the store did at one revision. */
export interface Entry {
  readonly revision: bigint
  readonly events: ReadonlyArray<Event>
}

/** What a watch delivered. */
export type Observation =
  | ({ readonly _tag: "Revision" } & Entry)
  | { readonly _tag: "Progress"; readonly revision: bigint }
  | { readonly _tag: "Snapshot"; readonly revision: bigint; readonly state: ReadonlyMap<string, string> }

export interface Violation {
  /**
   * - `order`: a revision after a later one.
   * - `duplicate`: a revision twice.
   * - `missing`: a revision that was passed over, or that never came.
   * - `torn`: a part of a revision.
   * - `foreign`: what the history does not have.
   * - `progress`: a word of progress before all was delivered, or one that goes back.
   * - `snapshot`: a snapshot that is not what the store held.
   */
  readonly kind: "order" | "duplicate" | "missing" | "torn" | "foreign" | "progress" | "snapshot"
  readonly revision: bigint
}

/** What a watch was to deliver. */
export interface Expectation {
  readonly history: ReadonlyArray<Entry>
  /** Whether the watch was for this key. */
  readonly covers: (key: string) => boolean
  /** Which of the changes it was for. Default: all. */
  readonly wants?: ((event: Event) => boolean) | undefined
  /** The first revision that it was for. */
  readonly from: bigint
  /** The last revision that it must have delivered. */
  readonly to: bigint
}

const isSame = (a: Event, b: Event): boolean => a.type === b.type && a.key === b.key && a.value === b.value

const isEqual = (a: ReadonlyArray<Event>, b: ReadonlyArray<Event>): boolean =>
  a.length === b.length && a.every((event, index) => isSame(event, b[index]!))

const isPart = (part: ReadonlyArray<Event>, whole: ReadonlyArray<Event>): boolean =>
  part.length < whole.length && part.every((event) => whole.some((other) => isSame(event, other)))

const isSameState = (a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean =>
  a.size === b.size && [...a].every(([key, value]) => b.get(key) === value)

const stateAt = (history: ReadonlyArray<Entry>, covers: (key: string) => boolean, revision: bigint) => {
  const state = new Map<string, string>()
  for (const entry of history) {
    if (entry.revision > revision) break
    for (const { key, type, value } of entry.events) {
      if (type === "delete") state.delete(key)
      else if (covers(key)) state.set(key, value)
    }
  }
  return state
}

export const check = (expected: Expectation, observed: ReadonlyArray<Observation>): ReadonlyArray<Violation> => {
  const { covers, history, wants = () => true } = expected
  const due = history
    .filter((entry) => entry.revision >= expected.from)
    .map(({ events, revision }) => ({ revision, events: events.filter((e) => covers(e.key) && wants(e)) }))
    .filter((entry) => entry.events.length > 0)
  const byRevision = new Map(due.map((entry) => [entry.revision, entry.events]))
  const violations: Array<Violation> = []
  const delivered = new Set<bigint>()
  let next = 0
  let position = expected.from - 1n
  let reported = expected.from - 1n
  const found = (kind: Violation["kind"], revision: bigint) => violations.push({ kind, revision })
  const skipTo = (revision: bigint) => {
    while (next < due.length && due[next]!.revision < revision) next++
  }
  const missUpTo = (revision: bigint) => {
    while (next < due.length && due[next]!.revision < revision) found("missing", due[next++]!.revision)
  }
  const onRevision = ({ events, revision }: Entry) => {
    const whole = byRevision.get(revision)
    if (revision <= reported) found("progress", revision)
    if (delivered.has(revision)) {
      found("duplicate", revision)
      return
    }
    delivered.add(revision)
    if (revision <= position) found("order", revision)
    missUpTo(revision)
    if (due[next]?.revision === revision) next++
    if (revision > position) position = revision
    if (whole === undefined || !isEqual(events, whole)) {
      found(whole !== undefined && isPart(events, whole) ? "torn" : "foreign", revision)
    }
  }
  const onProgress = (revision: bigint) => {
    if (revision < position || (next < due.length && due[next]!.revision <= revision)) found("progress", revision)
    if (revision > reported) reported = revision
  }
  const onSnapshot = (revision: bigint, state: ReadonlyMap<string, string>) => {
    if (revision < position) found("order", revision)
    if (!isSameState(state, stateAt(history, covers, revision))) found("snapshot", revision)
    skipTo(revision + 1n)
    if (revision > position) position = revision
  }
  for (const observation of observed) {
    if (observation._tag === "Revision") onRevision(observation)
    else if (observation._tag === "Progress") onProgress(observation.revision)
    else onSnapshot(observation.revision, observation.state)
  }
  missUpTo(expected.to + 1n)
  return violations
}

export const event = (event: EtcdWatch.Event): Event => ({
  type: event._tag === "Put" ? "put" : "delete",
  key: event.kv.keyString,
  value: event.kv.valueString
})

const entry = (change: EtcdWatch.Revision): Observation => ({
  _tag: "Revision",
  revision: change.revision,
  events: change.events.map(event)
})

/** What a change is to the checker. That a watch was created is nothing to it. */
export const observation = (change: EtcdWatch.Change): ReadonlyArray<Observation> => {
  switch (change._tag) {
    case "Revision":
      return [entry(change)]
    case "Progress":
      return [change]
    case "Snapshot":
      return [
        {
          _tag: "Snapshot",
          revision: change.revision,
          state: new Map(change.kvs.map((kv) => [kv.keyString, kv.valueString]))
        }
      ]
    case "Created":
      return []
  }
}

/** What single events, one after the other, are to the checker. */
export const together = (events: ReadonlyArray<EtcdWatch.Event>): ReadonlyArray<Observation> => {
  const entries: Array<{ _tag: "Revision"; revision: bigint; events: Array<Event> }> = []
  for (const one of events) {
    const revision = one.kv.modRevision
    if (entries.at(-1)?.revision !== revision) entries.push({ _tag: "Revision", revision, events: [] })
    entries.at(-1)!.events.push(event(one))
  }
  return entries
}
