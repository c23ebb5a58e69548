/**
 * Looks for a linearization: Wing and Gong's search with Lowe's memory of where it has been.
 *
 * All that begins or returns stands in a doubly linked list, in the order of time. What begins before the first return is
 * what may come next. One of these is done and lifted out of the list, and so on, until the list is empty; where nothing can
 * be done, the last is put back. Where the same operations are left and the state is the same as once before, nothing new can
 * come of it.
 *
 * These keep it short. Each leaves a linearization, if there is one:
 *
 * - Times are narrowed beforehand by what was found (`narrow`).
 * - A read that is right is done, and nothing else is tried: in any linearization from here it could come first as well. So
 *   could a write of values that nobody will ask for over others such: where it would come later, nobody would ask either.
 * - A value that somebody has yet to find is not overwritten, if it cannot be there again. Where an operation needs to
 *   overwrite it, or to find something else, and ends before somebody who has yet to find it begins, all is in vain.
 * - Values that nobody will ask for again are all the same one (`other`).
 * - Free operations are not in the list. They are done directly before an operation that needs them, which is one that is not
 *   possible without them, or after which they could not be done to the same effect. In a linearization that has one
 *   elsewhere it can be left out or be done later, as it has no end; do that until there is none to move. What is possible
 *   after some of them is possible after fewer, if the state is the same: a place counts as seen if it was, with none of them
 *   done but these. And of those that do the same, the one that began first is as good as any.
 */
import type { Instant } from "../history.ts"
import { type Narrowed, narrow } from "./narrow.ts"
import { absent, type Certain, type Free, isSame, other, type Problem, type Transition } from "./transitions.ts"

export interface Outcome {
  /** `undefined`: it was not found out within its time. */
  readonly isLinearizable: boolean | undefined
  /** The most operations that were found to be possible one after the other. */
  readonly longest: ReadonlyArray<number>
}

/** The value of each key. */
type State = ReadonlyArray<number>

/** How many of each class of free operations are done. */
type Used = ReadonlyArray<number>

/** Free operations that do the same, in the order in which they began. */
interface Class {
  readonly members: ReadonlyArray<Free>
  readonly alternatives: ReadonlyArray<Transition>
}

interface Reached {
  readonly state: State
  readonly used: Used
  /** What was done last: free operations, and then a certain one. */
  readonly did: ReadonlyArray<number>
}

/** Where the search can be. */
interface Place extends Reached {
  readonly from: Place | undefined
}

/** Where free operations alone have led. */
interface Freed extends Reached {
  /** The class of the last of them, what it did, and the state before it. */
  readonly index: number
  readonly last: Transition
  readonly before: State
}

/** How a certain operation can be done. */
interface Way extends Place {
  readonly operation: number
}

/** The events of operations in a doubly linked list. An event is a number: first all calls, then their returns. */
const makeEvents = (certain: ReadonlyArray<Certain>) => {
  const count = certain.length
  const end = 2 * count
  const isReturn = (event: number) => event >= count && event < end
  const instant = (event: number): Instant => (isReturn(event) ? certain[event - count]!.ended : certain[event]!.begun)
  // Of events at the same time calls come first: nobody knows that one operation was before the other.
  const inOrder = Array.from({ length: end }, (_, event) => event).sort(
    (one, two) => instant(one) - instant(two) || Number(isReturn(one)) - Number(isReturn(two))
  )
  const next = new Int32Array(end + 1)
  const previous = new Int32Array(end + 1)
  for (const [index, event] of [end, ...inOrder].entries()) {
    next[event] = inOrder[index] ?? end
    previous[next[event]!] = event
  }
  const remove = (event: number) => {
    next[previous[event]!] = next[event]!
    previous[next[event]!] = previous[event]!
  }
  const putBack = (event: number) => {
    next[previous[event]!] = event
    previous[next[event]!] = event
  }
  return {
    isEmpty: () => next[end] === end,
    lift: (operation: number) => {
      remove(operation)
      remove(count + operation)
    },
    unlift: (operation: number) => {
      putBack(count + operation)
      putBack(operation)
    },
    /** The operations that may come next, and until when one must. */
    candidates: () => {
      const operations: Array<number> = []
      let event = next[end]!
      for (; !isReturn(event); event = next[event]!) operations.push(event)
      return { operations, until: instant(event) }
    }
  }
}

/** Free operations by what they do. Values that nobody asks for make no difference. */
const classesOf = (free: ReadonlyArray<Free>, isAskedFor: (value: number) => boolean): ReadonlyArray<Class> => {
  const nameOf = ({ refutes, requires, writes }: Transition): Transition => ({
    requires,
    refutes,
    writes: writes.map(({ key, value }) => ({ key, value: value === absent || isAskedFor(value) ? value : other }))
  })
  const inOrder = free.toSorted((one, two) => one.begun - two.begun)
  const byName = Map.groupBy(inOrder, ({ alternatives }) => JSON.stringify(alternatives.map(nameOf)))
  return [...byName.values()].map((members) => ({ members, alternatives: members[0]!.alternatives.map(nameOf) }))
}

const touched = ({ refutes = [], requires, writes }: Transition): ReadonlyArray<number> =>
  [...requires, ...refutes, ...writes].map(({ key }) => key)

/** Whether more than one key has to do with it. */
const isEntangled = ({ alternatives }: Class): boolean => new Set(alternatives.flatMap(touched)).size > 1

/** For each key those with which classes of several keys connect it, itself among them if one does. */
const connectedKeys = (keys: number, classes: ReadonlyArray<Class>): ReadonlyArray<ReadonlySet<number>> => {
  const connected: Array<Set<number>> = Array.from({ length: keys }, () => new Set())
  for (const { alternatives } of classes.filter(isEntangled)) {
    const own = alternatives.flatMap(touched)
    const all = new Set([...own, ...own.flatMap((key) => [...connected[key]!])])
    for (const key of all) connected[key] = all
  }
  return connected
}

/**
 * The classes that an operation may need to come before it: those that touch a key that it looks at; and all that have to do
 * with a key of it through those of several keys. What touches one key alone is of no use before an operation that only writes
 * that key, which overwrites it.
 */
const makeNeededBy = (keys: number, classes: ReadonlyArray<Class>) => {
  const connected = connectedKeys(keys, classes)
  const keysOf = classes.map(({ alternatives }) => alternatives.flatMap(touched))
  return (operation: Transition): ReadonlySet<number> => {
    const looksAt = touched({ ...operation, writes: [] })
    const relevant = new Set([...looksAt, ...touched(operation).flatMap((key) => [...connected[key]!])])
    return new Set(classes.keys().filter((index) => keysOf[index]!.some((key) => relevant.has(key))))
  }
}

/** Where the search has been: for what was left and the state, which free operations were done. */
const makeSeen = () => {
  const seen = new Map<string, Array<Used>>()
  let count = 0
  return {
    count: () => count,
    /** Whether it was there, with the same free operations done or fewer; from now on it was. */
    visit: (where: string, used: Used): boolean => {
      const before = seen.get(where)
      if (before?.some((less) => less === used || less.every((done, index) => done <= used[index]!))) return true
      if (before === undefined) seen.set(where, [used])
      else before.push(used)
      count++
      return false
    }
  }
}

const isEqual = (one: State, two: State | undefined): boolean =>
  two !== undefined && one.every((value, key) => value === two[key])

const pathTo = (place: Place): ReadonlyArray<number> => {
  const path: Array<ReadonlyArray<number>> = []
  for (let at: Place | undefined = place; at !== undefined; at = at.from) path.push(at.did)
  return path.reverse().flat()
}

const search = (problem: Problem, { before, certain }: Narrowed, deadline: number, mostPlaces: number): Outcome => {
  const { isUnique } = problem
  const events = makeEvents(certain)

  const isDone = new Uint8Array(certain.length)

  // How many of what is left require a value, and how many ask for it at all: all free ones are left for ever.
  const required = new Int32Array(problem.values.length)
  const asked = new Int32Array(problem.values.length)
  // And how many have found that a key does not have some value, and so care for any that it has.
  const refuted = new Int32Array(problem.keys.length)
  const count = ({ refutes = [], requires }: Transition, by: number) => {
    for (const { value } of requires) asked[value]! += by
    for (const { key, value } of refutes) {
      asked[value]! += by
      refuted[key]! += by
    }
  }
  const lastBegun = new Float64Array(problem.values.length).fill(-Infinity)
  for (const one of certain) {
    count(one, 1)
    for (const { value } of one.requires) {
      required[value]!++
      lastBegun[value] = Math.max(lastBegun[value]!, one.begun)
    }
  }
  for (const { alternatives } of problem.free) for (const one of alternatives) count(one, 1)

  const classes = classesOf(problem.free, (value) => asked[value]! > 0)
  const needed = certain.map(makeNeededBy(problem.keys.length, classes))
  const mayNeedWhenPossible = needed.map((indexes) => [...indexes].some((index) => isEntangled(classes[index]!)))
  const writtenByFree = new Set(
    classes.flatMap(({ alternatives }) => alternatives.flatMap(({ writes }) => writes.map(({ value }) => value)))
  )

  const named = (value: number): number => (value > other && asked[value] === 0 ? other : value)

  /** What becomes of a state: the same object if nothing does, nothing if it is not possible. `ownNeeds`: it is in the list. */
  const step = (state: State, { refutes, requires, writes }: Transition, ownNeeds: boolean): State | undefined => {
    if (!requires.every(({ key, value }) => state[key] === value)) return undefined
    if (refutes?.every(({ key, value }) => state[key] === value)) return undefined
    const changed = writes.filter(({ key, value }) => state[key] !== named(value))
    if (changed.length === 0) return state
    const result = [...state]
    for (const { key, value } of changed) {
      const before = state[key]!
      const own = ownNeeds && requires.some((one) => isSame(one, { key, value: before })) ? 1 : 0
      if (isUnique(before) && required[before]! > own) return undefined
      result[key] = named(value)
    }
    return result
  }

  /** Whether a possible operation can be done now as well as at any other time. */
  const isUnnoticed = (state: State, { writes }: Transition): boolean =>
    writes.every(({ key, value }) => state[key] === other && named(value) === other && refuted[key] === 0)

  /** Whether an operation must find or write something else where somebody will find, after its end, what is there. */
  const isTooLate = (state: State, { ended, requires, writes }: Certain): boolean =>
    [...requires, ...writes].some(({ key, value }) => {
      const there = state[key]!
      return there !== value && isUnique(there) && lastBegun[there]! > ended
    })

  /** Whether nothing that is free could help: it must find what nothing free writes, or where nothing may be overwritten. */
  const isHopeless = (state: State, { requires }: Transition): boolean =>
    requires.some(({ key, value }) => {
      const there = state[key]!
      return there !== value && (!writtenByFree.has(value) || (isUnique(there) && required[there]! > 0))
    })

  /** What can be done of some classes, and what comes of it. */
  const freeFrom = (at: Reached, indexes: Iterable<number>, until: Instant): ReadonlyArray<Freed> => {
    const result: Array<Freed> = []
    for (const index of indexes) {
      const { alternatives, members } = classes[index]!
      const done = at.used[index]!
      const next = members[done]
      if (next === undefined || next.begun > until) continue
      for (const last of alternatives) {
        const state = step(at.state, last, false)
        if (state === undefined || state === at.state) continue
        result.push({
          index,
          state,
          used: at.used.with(index, done + 1),
          did: [...at.did, next.id],
          before: at.state,
          last
        })
      }
    }
    return result
  }

  /** Whether an operation that led from a free one to a state leads there as well without it, or before it. */
  const isNoUse = ({ before, last }: Freed, operation: Transition, after: State): boolean => {
    const without = step(before, operation, true)
    if (without === undefined) return false
    return isEqual(without, after) || isEqual(after, step(without, last, false))
  }

  /** How an operation can be done after free ones. `free`: those that can be the first. */
  const waysAfterFree = (
    from: Place,
    operation: number,
    until: Instant,
    free: ReadonlyArray<Freed>
  ): ReadonlyArray<Way> => {
    const transition = certain[operation]!
    if (isHopeless(from.state, transition)) return []
    const ways: Array<Way> = []
    const reached = free.filter(({ index }) => needed[operation]!.has(index))
    const seen = makeSeen()
    for (const { state, used } of reached) seen.visit(String(state), used)
    for (const at of reached) {
      const after = step(at.state, transition, true)
      if (after !== undefined && !isNoUse(at, transition, after)) {
        ways.push({ operation, state: after, used: at.used, did: [...at.did, transition.id], from })
      }
      if (after !== undefined && !mayNeedWhenPossible[operation]) continue
      for (const next of freeFrom(at, needed[operation]!, until)) {
        if (!seen.visit(String(next.state), next.used)) reached.push(next)
      }
    }
    return ways
  }

  /** What can come next. It goes on only where the search is at this place again, and nothing has come of the ways before. */
  const waysFrom = function* (from: Place, operations: ReadonlyArray<number>, until: Instant): Generator<Way> {
    if (operations.some((operation) => isTooLate(from.state, certain[operation]!))) return
    const ready = operations.filter((operation) => before[operation]!.every((one) => isDone[one]))
    const ways = ready.flatMap((operation): ReadonlyArray<Way> => {
      const state = step(from.state, certain[operation]!, true)
      return state === undefined ? [] : [{ operation, state, used: from.used, did: [certain[operation]!.id], from }]
    })
    const unnoticed = ways.find(({ operation }) => isUnnoticed(from.state, certain[operation]!))
    if (unnoticed !== undefined) return yield unnoticed
    yield* ways
    const free = freeFrom({ ...from, did: [] }, classes.keys(), until)
    if (free.length === 0) return
    for (const operation of ready) {
      const isPossible = ways.some((way) => way.operation === operation)
      if (!isPossible || mayNeedWhenPossible[operation]) yield* waysAfterFree(from, operation, until, free)
    }
  }

  const leave = (operation: number) => {
    events.lift(operation)
    isDone[operation] = 1
    count(certain[operation]!, -1)
    for (const { value } of certain[operation]!.requires) required[value]!--
  }

  const putBack = (operation: number) => {
    for (const { value } of certain[operation]!.requires) required[value]!++
    count(certain[operation]!, 1)
    isDone[operation] = 0
    events.unlift(operation)
  }

  const seen = makeSeen()
  let place: Place = { state: problem.initial.map(named), used: classes.map(() => 0), did: [], from: undefined }
  let longest = { place, length: 0 }
  const outcome = (isLinearizable: boolean | undefined): Outcome => ({
    isLinearizable,
    longest: pathTo(longest.place)
  })
  const tried: Array<{ readonly operation: number; readonly ways: Iterator<Way> }> = []
  let operation = -1
  while (!events.isEmpty()) {
    if (performance.now() >= deadline || seen.count() > mostPlaces) return outcome(undefined)
    // What is left follows from what may come next: all that began before the first return of these, and is none of them, is done.
    const { operations, until } = events.candidates()
    const isNew = !seen.visit(`${operations}|${place.state}`, place.used)
    tried.push({ operation, ways: isNew ? waysFrom(place, operations, until) : Iterator.from([]) })
    let next = tried.at(-1)!.ways.next()
    while (next.done === true) {
      const given = tried.pop()!
      if (tried.length === 0) return outcome(false)
      putBack(given.operation)
      next = tried.at(-1)!.ways.next()
    }
    const way = next.value
    operation = way.operation
    leave(operation)
    place = { state: way.state.map(named), used: way.used, did: way.did, from: way.from }
    if (tried.length > longest.length) longest = { place, length: tried.length }
  }
  return outcome(true)
}

/** More places are more than a process has memory for. */
const mostPlaces = 4_000_000

/** Looks for a linearization until an instant of `performance.now()`. */
export const linearize = (problem: Problem, deadline: number): Outcome => {
  const narrowed = narrow(problem)
  return narrowed === undefined
    ? { isLinearizable: false, longest: [] }
    : search(problem, narrowed, deadline, mostPlaces)
}

/** How far one can come where there is no linearization, without looking everywhere. */
export const longestOf = (problem: Problem, deadline: number): ReadonlyArray<number> =>
  search(problem, { certain: problem.certain, before: problem.certain.map(() => []) }, deadline, 20_000).longest
