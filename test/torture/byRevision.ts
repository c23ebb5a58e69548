/**
 * Judges what a whole store did and said by its revisions, in n log n: only where many deletes of the same key are of
 * unknown outcome, they are tried with each of its deletions.
 *
 * Each answer says at which revision it was given, and a watch over everything says what each revision changed. So
 * there is no order to be searched for: it is held against what clients were told, and when they were told it.
 * Operations stand in the order of their revisions; at each revision the one that made it comes first, and then those
 * that changed nothing. That is one order of all of them, and the store is linearizable exactly if the answers are
 * right in it and nothing that had ended comes after what began later. Only who made a deletion may have to be chosen:
 * a deletion has no value.
 *
 * What etcd promises here is the same from 3.4 to 3.7:
 *
 * - The header of a range, serializable or not, has the revision that was read at, and not one that the store had
 *   later: `executeRange` (`applierV3backend.Range` before 3.6) takes it from `RangeResult.Rev`, which is the
 *   `currentRev` that `store.Read` took together with its view of the backend, and keys are looked up at just that
 *   revision. `header.fill` asks the store only where there is no revision yet. A transaction has the revision of the
 *   view in which it read and wrote, and one more if it changed something. So all reads, serializable or not, are
 *   exactly what the store was at their revision.
 * - A serializable read does not wait until its member has caught up: it may be any revision that was there by its
 *   end. What it has seen is committed nevertheless, so whoever begins after its end must not be behind it.
 * - `IsTxnSerializable` says of a transaction without any step that it is serializable, as no step says otherwise. So
 *   one that only compares is a serializable read, whatever who made it wanted.
 * - The keys of a lease go together: `lessor.Revoke` deletes them in one transaction.
 *
 * Calls that a client batches share a transaction, and so a revision (`Call.isBatched`). Nobody else does.
 */
import type { Answered, Call, Entry, Operation, Step, Value, Violation } from "./history.ts"

export interface History {
  /** What the store held when the run began, and the revision at which it did. */
  readonly initial: { readonly revision: number; readonly state: ReadonlyMap<string, string> }
  readonly operations: ReadonlyArray<Operation>
  /** All revisions after the first, to the last. */
  readonly entries: ReadonlyArray<Entry>
  /** Whether a key may go without anybody having deleted it, since it hangs on a lease. Default: none. */
  readonly mayVanish?: ((key: string) => boolean) | undefined
  /** Whether all that write a key are among the operations; others are no more than a part of the history. Default: all. */
  readonly isJudged?: ((key: string) => boolean) | undefined
}

/**
 * What is wrong, each of a kind:
 *
 * - `history`: revisions are missing, in disorder or impossible, an answer has one that never was, or values are not
 *   unique.
 * - `lost write`: what was acknowledged is not there.
 * - `wrong revision`: it is there, and at another revision than was acknowledged.
 * - `duplicate`: it is there twice.
 * - `torn`: only a part of it is there, or more than it.
 * - `phantom`: what nobody has done, or could have done, is there.
 * - `wrong branch`: the comparisons demanded the other branch.
 * - `stale read`: what was found had been there before.
 * - `wrong read`: what was found had never been there, or not yet.
 * - `order`: what had ended comes after what began later.
 */
export const byRevision = (history: History): ReadonlyArray<Violation> => {
  const facts = factsOf(history)
  const { made, violations } = makersOf(facts, history)
  return [
    ...againstValues(history),
    ...againstEntries(facts, history),
    ...violations,
    ...history.operations.filter(isAnswered).flatMap((operation) => againstAnswered(facts, operation, made))
  ]
}

type Changes = Entry["changes"]

type AnsweredOperation = Operation & { readonly result: Answered }

const isAnswered = (operation: Operation): operation is AnsweredOperation => operation.result.outcome === "answered"

// ── what is known ──

/** The highest revision that anybody had been told before an operation began, and by which answer. */
interface Floor {
  readonly revision: number
  readonly answer: Operation | undefined
}

interface Write {
  readonly operation: Operation
  readonly key: string
}

interface Facts {
  readonly firstRevision: number
  readonly lastRevision: number
  /** What the keys that were ever there held, from which revision on, in order. */
  readonly versions: ReadonlyMap<string, ReadonlyArray<{ readonly revision: number; readonly value: Value }>>
  readonly entries: ReadonlyMap<number, Entry>
  readonly isJudged: (key: string) => boolean
  readonly writes: ReadonlyMap<string, Write>
  readonly floors: ReadonlyMap<Operation, Floor>
}

const inOrder = (entries: ReadonlyArray<Entry>) => entries.toSorted((one, other) => one.revision - other.revision)

const factsOf = ({ entries, initial, isJudged = () => true, operations }: History): Facts => {
  const lastRevision = entries.reduce((last, { revision }) => Math.max(last, revision), initial.revision)
  return {
    firstRevision: initial.revision,
    lastRevision,
    versions: versionsOf(initial, entries),
    entries: new Map(entries.map((entry) => [entry.revision, entry])),
    isJudged,
    writes: new Map(writesOf(operations)),
    floors: floorsOf(operations, initial.revision, lastRevision)
  }
}

const versionsOf = (initial: History["initial"], entries: ReadonlyArray<Entry>): Facts["versions"] => {
  const versions = new Map<string, Array<{ revision: number; value: Value }>>()
  for (const [key, value] of initial.state) versions.set(key, [{ revision: initial.revision, value }])
  for (const { changes, revision } of inOrder(entries)) {
    for (const { key, value } of changes) {
      const ofKey = versions.get(key)
      if (ofKey === undefined) versions.set(key, [{ revision, value }])
      else ofKey.push({ revision, value })
    }
  }
  return versions
}

const writesOf = (operations: ReadonlyArray<Operation>): ReadonlyArray<readonly [value: string, Write]> =>
  operations.flatMap((operation) =>
    [...operation.call.success, ...operation.call.failure].flatMap((step) =>
      step.do === "put" ? [[step.value, { operation, key: step.key }] as const] : []
    )
  )

/** Answers that say a revision that never was are left out: they would speak against all that came later. */
const floorsOf = (
  operations: ReadonlyArray<Operation>,
  firstRevision: number,
  lastRevision: number
): Facts["floors"] => {
  const answers = operations
    .filter(isAnswered)
    .filter(({ result }) => result.revision <= lastRevision)
    .map((answer) => ({ answer, revision: answer.result.revision, at: answer.ended ?? Number.POSITIVE_INFINITY }))
    .sort((one, other) => one.at - other.at)
  const floors = new Map<Operation, Floor>()
  let floor: Floor = { revision: firstRevision, answer: undefined }
  let next = 0
  for (const operation of operations.toSorted((one, other) => one.begun - other.begun)) {
    // What ends in the instant in which another begins may have overlapped with it.
    for (; next < answers.length && answers[next]!.at < operation.begun; next++) {
      if (answers[next]!.revision > floor.revision) floor = answers[next]!
    }
    floors.set(operation, floor)
  }
  return floors
}

/** What a key held at a revision: the last version of it that is not newer, found by halving. */
const valueAt = ({ versions }: Facts, key: string, revision: number): Value => {
  const ofKey = versions.get(key) ?? []
  let below = 0
  let above = ofKey.length
  while (below < above) {
    const middle = (below + above) >>> 1
    if (ofKey[middle]!.revision <= revision) below = middle + 1
    else above = middle
  }
  return below === 0 ? null : ofKey[below - 1]!.value
}

// ── what a call does ──

const holds = (facts: Facts, call: Call, revision: number): boolean =>
  call.compare.every(({ key, value }) => valueAt(facts, key, revision) === value)

const branchOf = (call: Call, succeeded: boolean): ReadonlyArray<Step> => (succeeded ? call.success : call.failure)

/** What steps change in what the store is at a revision. Deleting what is not there changes nothing. */
const changesOf = (facts: Facts, steps: ReadonlyArray<Step>, revision: number): Changes =>
  steps.flatMap((step): Changes => {
    if (step.do === "put") return [{ key: step.key, value: step.value }]
    return step.do === "delete" && valueAt(facts, step.key, revision) !== null ? [{ key: step.key, value: null }] : []
  })

const has = (changes: Changes, { key, value }: Changes[number]): boolean =>
  changes.some((change) => change.key === key && change.value === value)

const isSame = (some: Changes, others: Changes): boolean =>
  some.length === others.length && some.every((change) => has(others, change))

/** Whether what a call was to change is what a revision has changed, or its share of that. */
const isMadeBy = (call: Call, demanded: Changes, changes: Changes): boolean =>
  call.isBatched === true
    ? demanded.length > 0 && demanded.every((change) => has(changes, change))
    : isSame(demanded, changes)

const puts = (step: Step): boolean => step.do === "put"

const deletes = (step: Step): boolean => step.do === "delete"

/** Whether etcd answers it with what a member has. */
const isSerializable = ({ failure, serializable, success }: Call): boolean =>
  serializable || (success.length === 0 && failure.length === 0)

// ── how it is said ──

const violation = (kind: string, message: string, ...operations: ReadonlyArray<Operation>): Violation => ({
  kind,
  message,
  operations: operations.map(({ id }) => id)
})

const show = (value: Value): string => (value === null ? "nothing" : JSON.stringify(value))

const showChanges = (changes: Changes): string =>
  changes.map(({ key, value }) => (value === null ? `${key} deleted` : `${key} = ${show(value)}`)).join(", ") ||
  "nothing"

const showOperation = ({ begun, call, client, ended, id }: Operation): string =>
  `operation ${id} (${call.name} of ${client}, from ${begun} ${ended === null ? "until it was killed" : `to ${ended}`})`

const showEntry = (facts: Facts, revision: number): string => {
  const entry = facts.entries.get(revision)
  return entry === undefined
    ? `revision ${revision} is not there`
    : `revision ${revision} is ${showChanges(entry.changes)}`
}

const showBranch = (succeeded: boolean): string => (succeeded ? "success" : "failure")

const showComparisons = (facts: Facts, { compare }: Call, revision: number): string =>
  compare
    .map(({ key, value }) => `${key} = ${show(value)} where it was ${show(valueAt(facts, key, revision))}`)
    .join(", ")

// ── the history itself ──

/** A value names its write only if no other writes it. */
const againstValues = ({ operations }: History): ReadonlyArray<Violation> => {
  const seen = new Map<string, Operation>()
  const violations: Array<Violation> = []
  for (const [value, { operation }] of writesOf(operations)) {
    const other = seen.get(value)
    if (other !== undefined) {
      const both = `${showOperation(other)} and ${showOperation(operation)}`
      violations.push(violation("history", `Two writes have the value ${show(value)}: ${both}.`, other, operation))
    }
    seen.set(value, operation)
  }
  return violations
}

const againstEntries = (facts: Facts, { entries, initial }: History): ReadonlyArray<Violation> => {
  const violations: Array<Violation> = []
  let last = initial.revision
  for (const { changes, revision } of entries) {
    const against = (message: string) => violations.push(violation("history", `Revision ${revision} ${message}.`))
    if (revision <= last) against(`comes after revision ${last}`)
    if (revision > last + 1) against(`comes after revision ${last}: what is between is missing`)
    if (changes.length === 0) against("changes nothing")
    if (new Set(changes.map(({ key }) => key)).size < changes.length) {
      against(`changes a key twice: ${showChanges(changes)}`)
    }
    for (const { key, value } of changes) {
      if (value === null && valueAt(facts, key, revision - 1) === null) against(`deletes ${key}, which was not there`)
    }
    last = Math.max(last, revision)
  }
  return violations
}

// ── who made a revision ──

/** Operations and the revisions that they made. */
type Made = ReadonlyMap<Operation, number>

const makersOf = (facts: Facts, history: History) => {
  const { mayVanish = () => false, operations } = history
  const made = new Map<Operation, number>()
  const violations: Array<Violation> = []
  const deletions: Array<Entry> = []
  const entries = inOrder(history.entries).map(
    ({ changes, revision }): Entry => ({ revision, changes: changes.filter(({ key }) => facts.isJudged(key)) })
  )

  for (const entry of entries) {
    const { writers, violations: foreign } = writersOf(facts, entry)
    violations.push(...foreign)
    for (const writer of writers) {
      violations.push(...againstWriter(facts, writer, entry, made.get(writer)))
      made.set(writer, entry.revision)
    }
    // Of what else there is in its revision one that shares it with nobody has been asked.
    if ([...writers].every(({ call }) => call.isBatched === true)) deletions.push(...deletionsOf(entry))
  }

  const acknowledged = Map.groupBy(operations.filter(isAnswered).filter(onlyDeletes), ({ result }) => result.revision)
  const unknown = unknownDeletes(operations, made)
  const unexplained: Array<Entry> = []
  for (const deletion of deletions.flatMap((entry) => sharesOf(facts, entry, acknowledged, unknown))) {
    const deleter = acknowledgedDeleter(facts, deletersOf(deletion, acknowledged))
    if (deleter !== undefined) made.set(deleter, deletion.revision)
    else if (!deletion.changes.every(({ key }) => mayVanish(key))) unexplained.push(deletion)
  }

  return { made: made as Made, violations: [...violations, ...againstUnexplained(facts, unexplained, unknown)] }
}

/** What a revision has deleted. */
const deletionsOf = ({ changes, revision }: Entry): ReadonlyArray<Entry> => {
  const deleted = changes.filter(({ value }) => value === null)
  return deleted.length === 0 ? [] : [{ revision, changes: deleted }]
}

type Acknowledged = ReadonlyMap<number, ReadonlyArray<AnsweredOperation>>

/** Those who were told that they have deleted something of it. */
const deletersOf = ({ changes, revision }: Entry, acknowledged: Acknowledged): ReadonlyArray<AnsweredOperation> =>
  (acknowledged.get(revision) ?? []).filter(({ call, result }) =>
    branchOf(call, result.succeeded).some((step) => changes.some(({ key }) => key === step.key))
  )

/** Keys that were deleted together, if one may have done that, or each by itself. */
const sharesOf = (
  facts: Facts,
  deletion: Entry,
  acknowledged: Acknowledged,
  unknown: ReadonlyMap<string, ReadonlySet<Operation>>
): ReadonlyArray<Entry> => {
  const { changes, revision } = deletion
  const makers = [...deletersOf(deletion, acknowledged), ...(unknown.get(changes[0]!.key) ?? [])]
  const isOfOne = makers.some(({ call }) => isSame(demandedBefore(facts, call, revision), changes))
  const isShared = makers.some(({ call }) => call.isBatched === true)
  return isOfOne || !isShared ? [deletion] : changes.map((change) => ({ revision, changes: [change] }))
}

/** Who wrote the values of a revision. */
const writersOf = (facts: Facts, { changes, revision }: Entry) => {
  const writers = new Set<Operation>()
  const violations: Array<Violation> = []
  for (const { key, value } of changes) {
    if (value === null) continue
    const write = facts.writes.get(value)
    if (write?.key === key) writers.add(write.operation)
    else {
      const writer = write === undefined ? "nobody" : `only ${showOperation(write.operation)}, to ${write.key},`
      const message = `Revision ${revision} has ${key} = ${show(value)}, which ${writer} wrote.`
      violations.push(violation("phantom", message, ...(write === undefined ? [] : [write.operation])))
    }
  }
  return { writers, violations }
}

/** What speaks against it that an operation wrote values of a revision, and maybe those of an earlier one. */
const againstWriter = (facts: Facts, operation: Operation, entry: Entry, earlier: number | undefined) => {
  const violations: Array<Violation> = []
  const against = (kind: string, message: string) =>
    violations.push(violation(kind, `What ${showOperation(operation)} wrote ${message}.`, operation))
  const { call, result } = operation
  const stands = `stands at revision ${entry.revision}`
  if (earlier !== undefined) against("duplicate", `stands at revision ${earlier}, and again at ${entry.revision}`)
  switch (result.outcome) {
    case "not-applied":
      against("phantom", `${stands}, though it was told that it had no effect (${result.error})`)
      break
    case "answered": {
      if (result.revision !== entry.revision) {
        against("wrong revision", `${stands}, though it was acknowledged at revision ${result.revision}`)
      }
      const isOfBranch = branchOf(call, result.succeeded).some((step) => step.do === "put" && has(entry.changes, step))
      if (!isOfBranch) against("wrong branch", `${stands}, though it was told that it took the other branch`)
      break
    }
    case "unknown":
      violations.push(
        ...againstUnknown(facts, operation, entry),
        ...againstTime(facts, operation, entry.revision, true)
      )
  }
  return violations
}

/** What a call demands in the state before a revision. */
const demandedBefore = (facts: Facts, call: Call, revision: number): Changes =>
  changesOf(facts, branchOf(call, holds(facts, call, revision - 1)), revision - 1)

/** It must have done all of what the state before demanded, and nothing else. */
const againstUnknown = (facts: Facts, operation: Operation, { changes, revision }: Entry): ReadonlyArray<Violation> => {
  const { call } = operation
  const demanded = demandedBefore(facts, call, revision)
  if (isMadeBy(call, demanded, changes)) return []
  const succeeds = holds(facts, call, revision - 1)
  const isOther = isSame(changesOf(facts, branchOf(call, !succeeds), revision - 1), changes)
  const message = `At revision ${revision} ${showOperation(operation)}, whose outcome is unknown, was to take the branch of \
${showBranch(succeeds)}, with ${showChanges(demanded)}; ${showEntry(facts, revision)}.`
  return [violation(isOther ? "wrong branch" : "torn", message, operation)]
}

const onlyDeletes = ({ call, result }: AnsweredOperation): boolean => {
  const steps = branchOf(call, result.succeeded)
  return steps.some(deletes) && !steps.some(puts)
}

/**
 * Which of the acknowledged deletes with the revision of a deletion made it. The others came right after it, found
 * nothing, and were answered with the same revision. An answer may be right for both: then it may be either. So it is
 * the one whose answer has the least against it as the maker's, compared with what it has if it is not; and none, if
 * each has more.
 */
const acknowledgedDeleter = (facts: Facts, acknowledged: ReadonlyArray<AnsweredOperation>) => {
  let deleter: AnsweredOperation | undefined
  let least = 0
  for (const operation of acknowledged) {
    const difference = againstAnswer(facts, operation, true).length - againstAnswer(facts, operation, false).length
    if (difference < least || (difference === least && deleter === undefined)) {
      deleter = operation
      least = difference
    }
  }
  return deleter
}

/** Operations that may have deleted a key, by the key. What has made a revision has made no other. */
const unknownDeletes = (
  operations: ReadonlyArray<Operation>,
  made: Made
): ReadonlyMap<string, ReadonlySet<Operation>> => {
  const byKey = new Map<string, Set<Operation>>()
  for (const operation of operations) {
    if (operation.result.outcome !== "unknown" || made.has(operation)) continue
    for (const { key } of [...operation.call.success, ...operation.call.failure].filter(deletes)) {
      byKey.set(key, (byKey.get(key) ?? new Set()).add(operation))
    }
  }
  return byKey
}

/** Each deletion that nobody was acknowledged must be explained by a call of unknown outcome, which explains no other. */
const againstUnexplained = (
  facts: Facts,
  deletions: ReadonlyArray<Entry>,
  unknown: ReadonlyMap<string, ReadonlySet<Operation>>
): ReadonlyArray<Violation> => {
  const optionsOf = ({ changes }: Entry) => unknown.get(changes[0]!.key) ?? new Set<Operation>()
  const fits = ({ changes, revision }: Entry, operation: Operation) =>
    isInTime(facts, operation, revision, true) && isSame(demandedBefore(facts, operation.call, revision), changes)
  return unmatched(deletions, optionsOf, fits).map((entry) => {
    // All of them would often be too many to read.
    const others = optionsOf(entry)
      .values()
      .filter((operation) => fits(entry, operation))
      .take(10)
      .toArray()
    const ids = others.map(({ id }) => id).join(", ")
    const why = ids === "" ? "" : `; those that could have explain other revisions: operations ${ids}`
    const message = `Nobody made revision ${entry.revision}: ${showChanges(entry.changes)}${why}.`
    return violation("phantom", message, ...others)
  })
}

/**
 * Gives each one an option that fits, and no two the same, and says for whom there is none: who has one that is wanted
 * looks for another, and whoever has that does too, until one is free (augmenting paths).
 */
const unmatched = <A, B>(
  all: ReadonlyArray<A>,
  optionsOf: (one: A) => ReadonlySet<B>,
  fits: (one: A, option: B) => boolean
): ReadonlyArray<A> => {
  const given = new Map<A, B>()
  const holders = new Map<B, A>()
  /** What is never freed, as a search in vain has shown. No later one has to try it again. */
  const stuck = new Set<B>()

  const isGiven = (first: A): boolean => {
    /** Who wants what another has. */
    const wanted = new Map<B, A>()
    const looking = [first]
    for (const one of looking) {
      const free = optionsOf(one)
        .values()
        .find((option) => !holders.has(option) && fits(one, option))
      if (free !== undefined) {
        passOn(one, free, wanted)
        return true
      }
      for (const option of optionsOf(one)) {
        if (wanted.has(option) || stuck.has(option) || !fits(one, option)) continue
        wanted.set(option, one)
        looking.push(holders.get(option)!)
      }
    }
    for (const option of wanted.keys()) stuck.add(option)
    return false
  }

  /** Gives one an option, what it had to who wanted that, and so on. */
  const passOn = (one: A, option: B, wanted: ReadonlyMap<B, A>): void => {
    const before = given.get(one)
    given.set(one, option)
    holders.set(option, one)
    if (before !== undefined) passOn(wanted.get(before)!, before, wanted)
  }

  return all.filter((one) => !isGiven(one))
}

// ── answers ──

const againstAnswered = (facts: Facts, operation: AnsweredOperation, made: Made): ReadonlyArray<Violation> => {
  const { call, result } = operation
  if (result.revision > facts.lastRevision) {
    const message = `The last revision is ${facts.lastRevision}, and ${showOperation(operation)} was answered with ${result.revision}.`
    return [violation("history", message, operation)]
  }
  if (result.revision < facts.firstRevision) return againstEarly(facts, operation)
  const changed = branchOf(call, result.succeeded).some(puts) || made.get(operation) === result.revision
  return againstAnswer(facts, operation, changed)
}

/** A member that lags may answer with what was before the run: all that is known of it is that nobody had written. */
const againstEarly = (facts: Facts, operation: AnsweredOperation): ReadonlyArray<Violation> => {
  const { call, result } = operation
  const early = `The run began at revision ${facts.firstRevision}, and ${showOperation(operation)} was answered with ${result.revision}`
  if (!isSerializable(call)) return [violation("stale read", `${early}.`, operation)]
  const written = result.found.filter((value) => value !== null && facts.writes.has(value))
  return written.map((value) => violation("wrong read", `${early} and found ${show(value)}, written later.`, operation))
}

/** What speaks against an answer, if the operation has made the revision that it says, or if it has changed nothing. */
const againstAnswer = (facts: Facts, operation: AnsweredOperation, changed: boolean): ReadonlyArray<Violation> => {
  const { revision } = operation.result
  const seen = changed ? revision - 1 : revision
  return [
    ...againstSucceeded(facts, operation, seen),
    ...againstFound(facts, operation, seen),
    ...(changed ? againstMade(facts, operation) : againstNothingMade(facts, operation)),
    ...(isSerializable(operation.call) ? [] : againstTime(facts, operation, revision, changed))
  ]
}

const againstSucceeded = (facts: Facts, operation: AnsweredOperation, seen: number): ReadonlyArray<Violation> => {
  const { call, result } = operation
  if (holds(facts, call, seen) === result.succeeded) return []
  const message = `Of ${showOperation(operation)} the branch of ${showBranch(result.succeeded)} was taken at revision \
${result.revision}; it compared ${showComparisons(facts, call, seen) || "nothing"}.`
  return [violation("wrong branch", message, operation)]
}

const againstFound = (facts: Facts, operation: AnsweredOperation, seen: number): ReadonlyArray<Violation> => {
  const { call, result } = operation
  const steps = branchOf(call, result.succeeded)
  if (result.found.length !== steps.length) {
    const message = `The answer to ${showOperation(operation)} is of ${result.found.length} steps, and not of ${steps.length}.`
    return [violation("wrong read", message, operation)]
  }
  return steps.flatMap((step, index) => {
    const found = result.found[index]!
    const held = step.do === "get" ? valueAt(facts, step.key, seen) : null
    if (found === held) return []
    const wasHeld = facts.versions.get(step.key)?.some(({ revision, value }) => revision < seen && value === found)
    const message = `At revision ${result.revision} ${showOperation(operation)} found ${show(found)} with its ${step.do} of \
${step.key}, and it was to find ${show(held)}.`
    return [violation(found === null || wasHeld === true ? "stale read" : "wrong read", message, operation)]
  })
}

const againstMade = (facts: Facts, operation: AnsweredOperation): ReadonlyArray<Violation> => {
  const { call, result } = operation
  const demanded = changesOf(facts, branchOf(call, result.succeeded), result.revision - 1)
  const changes = (facts.entries.get(result.revision)?.changes ?? []).filter(({ key }) => facts.isJudged(key))
  if (isMadeBy(call, demanded, changes)) return []
  const message = `At revision ${result.revision} ${showOperation(operation)} was acknowledged, with ${showChanges(demanded)}; \
${showEntry(facts, result.revision)}.`
  return [violation(demanded.some((change) => has(changes, change)) ? "torn" : "lost write", message, operation)]
}

const againstNothingMade = (facts: Facts, operation: AnsweredOperation): ReadonlyArray<Violation> => {
  const { call, result } = operation
  const demanded = changesOf(facts, branchOf(call, result.succeeded), result.revision)
  if (demanded.length === 0) return []
  const message = `At revision ${result.revision} ${showOperation(operation)} was acknowledged, and it has not done \
${showChanges(demanded)}; ${showEntry(facts, result.revision)}.`
  return [violation("lost write", message, operation)]
}

/** What begins after an answer was there is not before it, and what changes something is after it. */
const isInTime = (facts: Facts, operation: Operation, revision: number, changed: boolean): boolean => {
  const floor = facts.floors.get(operation)!
  return changed ? floor.revision < revision : floor.revision <= revision
}

const againstTime = (
  facts: Facts,
  operation: Operation,
  revision: number,
  changed: boolean
): ReadonlyArray<Violation> => {
  if (isInTime(facts, operation, revision, changed)) return []
  const { answer, revision: seen } = facts.floors.get(operation)!
  const before = answer === undefined ? "at the beginning of the run" : `by ${showOperation(answer)}, before it began`
  const given = changed ? "made by" : "the answer to"
  const message = `Revision ${revision} was ${given} ${showOperation(operation)}, and revision ${seen} had been seen ${before}.`
  return [violation("order", message, operation, ...(answer === undefined ? [] : [answer]))]
}
