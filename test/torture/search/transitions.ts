/**
 * A history of one group as the search sees it: keys and values are numbers, and an operation is what it requires of the
 * state and what it makes of it.
 *
 * Operations of which it is known that they were done, and what they did, are `certain`. Of an unknown one that is known as
 * well, if somebody found what only it has written: then it took the branch that writes it, and not after the first of those
 * who found it had ended. This is how most unknown operations lose their end at infinity. All other unknown ones are `free`:
 * they may be done at any time after they began, or never.
 */
import type { Call, Instant, Operation, Value } from "../history.ts"

/** That a key has a value. */
export interface Fact {
  readonly key: number
  readonly value: number
}

/** The value of a key that is not there. */
export const absent = 0

/** The value of a key that has one that nobody will ever ask for again, whichever it is. */
export const other = 1

export interface Transition {
  /** All of it must hold. */
  readonly requires: ReadonlyArray<Fact>
  /** At least one of it must not hold, if it is defined. */
  readonly refutes: ReadonlyArray<Fact> | undefined
  /** What holds from then on. */
  readonly writes: ReadonlyArray<Fact>
}

export interface Certain extends Transition {
  readonly id: number
  readonly begun: Instant
  readonly ended: Instant
  /** Whether it had no answer, and what it wrote was found until then. */
  readonly isInferred: boolean
}

export interface Free {
  readonly id: number
  readonly begun: Instant
  /** At most one of these is possible in a state, and has an effect that could matter. */
  readonly alternatives: ReadonlyArray<Transition>
}

export interface Problem {
  readonly keys: ReadonlyArray<string>
  /** The text of each value, and `null` for those that are not of the history. */
  readonly values: ReadonlyArray<Value>
  /** The value of each key. */
  readonly initial: ReadonlyArray<number>
  /** Whether a value can be there only once: what wrote it is the only one that does. */
  readonly isUnique: (value: number) => boolean
  readonly certain: ReadonlyArray<Certain>
  readonly free: ReadonlyArray<Free>
}

export const isSame = (one: Fact, two: Fact): boolean => one.key === two.key && one.value === two.value

/** Numbers for keys, and for what they hold. The same text in two keys is two values. */
interface Names {
  readonly keys: ReadonlyArray<string>
  readonly values: ReadonlyArray<Value>
  readonly fact: (key: string, value: Value) => Fact
}

const makeNames = (): Names => {
  const keys = new Map<string, { readonly index: number; readonly values: Map<string, number> }>()
  const names: Array<string> = []
  const values: Array<Value> = [null, null]
  const numberOf = (known: Map<string, number>, value: Value): number => {
    if (value === null) return absent
    if (!known.has(value)) known.set(value, values.push(value) - 1)
    return known.get(value)!
  }
  return {
    keys: names,
    values,
    fact: (key, value) => {
      if (!keys.has(key)) keys.set(key, { index: names.push(key) - 1, values: new Map() })
      const { index, values: known } = keys.get(key)!
      return { key: index, value: numberOf(known, value) }
    }
  }
}

/**
 * A call whose comparisons held or did not. Gets come before writes of their key, so that all that it found was there before
 * it. What an unknown one found is not known, and nothing is required for it.
 */
const transition = (
  { fact }: Names,
  call: Call,
  succeeded: boolean,
  found: ReadonlyArray<Value> | undefined
): Transition => {
  const steps = succeeded ? call.success : call.failure
  const compared = call.compare.map(({ key, value }) => fact(key, value))
  const got = steps.flatMap((step, index) => (step.do === "get" && found ? [fact(step.key, found[index]!)] : []))
  const all = succeeded ? [...compared, ...got] : got
  const requires = all.filter((one, index) => all.findIndex((another) => isSame(one, another)) === index)
  const writes = steps.flatMap((step) =>
    step.do === "get" ? [] : [fact(step.key, step.do === "put" ? step.value : null)]
  )
  return { requires, refutes: succeeded ? undefined : toRefute(compared, requires), writes }
}

/** What is to be refuted of comparisons that did not all hold: nothing, where what is required says already that one did not. */
const toRefute = (compared: ReadonlyArray<Fact>, requires: ReadonlyArray<Fact>): ReadonlyArray<Fact> | undefined => {
  const isSaid = compared.some((one) => requires.some(({ key, value }) => key === one.key && value !== one.value))
  return isSaid ? undefined : compared
}

/** What had no effect says nothing, and neither do reads that may be stale. */
const takesPart = ({ call, result }: Operation): boolean => !call.serializable && result.outcome !== "not-applied"

const isAnswered = ({ ended, result }: Operation): boolean => ended !== null && result.outcome === "answered"

interface Unknown {
  readonly id: number
  readonly begun: Instant
  readonly branches: ReadonlyArray<Transition>
  /** Which one it took, if that is known, and when it was done at the latest. */
  took: Transition | undefined
  by: Instant
}

const unknown = (names: Names, { begun, call, id }: Operation): Unknown => {
  const success = transition(names, call, true, undefined)
  const branches = call.compare.length === 0 ? [success] : [success, transition(names, call, false, undefined)]
  return { id, begun, branches, took: undefined, by: Infinity }
}

/**
 * Finds out which unknown operations were done, from the values that were found. One that was done has itself found what its
 * branch compares with, so this goes on until nothing is new.
 */
const inferDone = (
  certain: ReadonlyArray<Certain>,
  unknowns: ReadonlyArray<Unknown>,
  isUnique: (value: number) => boolean
): void => {
  const foundBy = new Map<number, Instant>()
  const find = (requires: ReadonlyArray<Fact>, ended: Instant) => {
    for (const { value } of requires) foundBy.set(value, Math.min(ended, foundBy.get(value) ?? Infinity))
  }
  for (const { ended, requires } of certain) find(requires, ended)
  const latest = ({ writes }: Transition): Instant =>
    Math.min(Infinity, ...writes.map(({ value }) => (isUnique(value) ? (foundBy.get(value) ?? Infinity) : Infinity)))
  let isNews = true
  while (isNews) {
    isNews = false
    for (const one of unknowns) {
      for (const branch of one.branches) {
        const by = latest(branch)
        if (by >= one.by) continue
        one.took ??= branch
        one.by = by
        find(one.took.requires, by)
        isNews = true
      }
    }
  }
}

/** Until when somebody looks for facts, for whom it would make a difference that a key has a value. */
const makeLookedFor = () => {
  const required = new Map<string, Instant>()
  const refuted = new Map<number, Map<number, Instant>>()
  const later = <K>(map: Map<K, Instant>, at: K, ended: Instant) => map.set(at, Math.max(ended, map.get(at) ?? ended))
  return {
    add: ({ refutes = [], requires }: Transition, ended: Instant) => {
      for (const { key, value } of requires) later(required, `${key} ${value}`, ended)
      for (const { key, value } of refutes) {
        if (!refuted.has(key)) refuted.set(key, new Map())
        later(refuted.get(key)!, value, ended)
      }
    },
    isAfter: ({ key, value }: Fact, begun: Instant): boolean =>
      (required.get(`${key} ${value}`) ?? -Infinity) >= begun ||
      (refuted
        .get(key)
        ?.entries()
        .some(([refused, ended]) => refused !== value && ended >= begun) ??
        false)
  }
}

/**
 * Leaves out free operations that explain nothing: no fact that they write is required by any other operation that may come
 * after, or refutes what one has refuted. Whatever can be done after such an operation can be done as well without it, and
 * leads to the same but for what it wrote. Unknown reads go here, and unknown puts of values that nobody found, unless a
 * comparison of their key did not hold for anybody: that is what they may be the reason for.
 */
export const thatMatter = (certain: ReadonlyArray<Certain>, free: ReadonlyArray<Free>): ReadonlyArray<Free> => {
  const lookedFor = makeLookedFor()
  for (const one of certain) lookedFor.add(one, one.ended)
  for (const { alternatives } of free) for (const one of alternatives) lookedFor.add(one, Infinity)
  const matters = (begun: Instant) => (one: Transition) => one.writes.some((fact) => lookedFor.isAfter(fact, begun))
  const left = free
    .map((one) => ({ ...one, alternatives: one.alternatives.filter(matters(one.begun)) }))
    .filter(({ alternatives }) => alternatives.length > 0)
  const count = (all: ReadonlyArray<Free>) => all.reduce((sum, { alternatives }) => sum + alternatives.length, 0)
  return count(left) === count(free) ? left : thatMatter(certain, left)
}

/** Values that more than one branch of an operation writes, or one does that was there from the beginning. */
const writtenTwice = (written: ReadonlyArray<Transition>, initial: ReadonlyArray<Fact>): ReadonlySet<number> => {
  const once = new Set(initial.map(({ value }) => value))
  const twice = new Set<number>()
  for (const { value } of written.flatMap(({ writes }) => writes)) (once.has(value) ? twice : once).add(value)
  return twice
}

/** The problem that a history of one group is. */
export const problem = (operations: ReadonlyArray<Operation>, initial: ReadonlyMap<string, string>): Problem => {
  const names = makeNames()
  const present = operations.filter(takesPart)
  const answered = present.filter(isAnswered).map(({ begun, call, ended, id, result }): Certain => {
    if (result.outcome !== "answered") throw new Error(`operation ${id} is not answered`)
    return { ...transition(names, call, result.succeeded, result.found), id, begun, ended: ended!, isInferred: false }
  })
  const unknowns = present.filter((one) => !isAnswered(one)).map((one) => unknown(names, one))
  const before = [...initial].map(([key, value]) => names.fact(key, value))
  const twice = writtenTwice([...answered, ...unknowns.flatMap(({ branches }) => branches)], before)
  const isUnique = (value: number) => value > other && !twice.has(value)
  inferDone(answered, unknowns, isUnique)
  // Who found a value before its writer had begun has made the history impossible, which the search finds out.
  const done = unknowns.flatMap(
    ({ begun, by, id, took }): ReadonlyArray<Certain> =>
      took === undefined ? [] : [{ ...took, id, begun, ended: Math.max(begun, by), isInferred: true }]
  )
  const certain = [...answered, ...done].sort((one, two) => one.begun - two.begun)
  const open = unknowns.filter(({ took }) => took === undefined)
  const free = open.map(({ begun, branches, id }) => ({ id, begun, alternatives: branches }))
  return {
    keys: names.keys,
    initial: names.keys.map((_, index) => before.find(({ key }) => key === index)?.value ?? absent),
    values: names.values,
    isUnique,
    certain,
    free: thatMatter(certain, free)
  }
}
