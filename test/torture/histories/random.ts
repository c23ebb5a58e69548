/**
 * Histories of clients of a store that is right, and what can be made of them that may not be.
 */

import type { Random } from "../../support/random.ts"
import type { Call, Comparison, Operation, Result, Step, Value } from "../history.ts"

export interface Size {
  readonly operations: number
  readonly clients: number
  readonly keys: number
  /** Of how many operations nobody learns what became of them. */
  readonly unknown: number
}

/** When a client does something. `done`: when the store does it, between beginning and end; unknown ones later, or never. */
interface Plan {
  readonly id: number
  readonly client: string
  readonly begun: number
  readonly ended: number
  readonly done: number
  readonly isUnknown: boolean
}

const between = (random: Random, from: number, to: number): number => from + random(to - from + 1)

const makePlans = (random: Random, size: Size): ReadonlyArray<Plan> => {
  const unknown = new Set<number>()
  while (unknown.size < size.unknown) unknown.add(random(size.operations))
  const isFreeAt = Array.from({ length: size.clients }, () => random(50))
  return Array.from({ length: size.operations }, (_, id) => {
    const client = isFreeAt.indexOf(Math.min(...isFreeAt))
    const begun = isFreeAt[client]!
    const ended = between(random, begun, begun + 100)
    isFreeAt[client] = ended + random(10)
    const isUnknown = unknown.has(id)
    const late = [ended, ended + 300, Infinity][random(3)]!
    const done = isUnknown && late === Infinity ? Infinity : between(random, begun, isUnknown ? late : ended)
    return { id, client: `c${client}`, begun, ended, done, isUnknown }
  })
}

/** Asks for something, mostly for what can be. */
const makeCalls = (random: Random, size: Size) => {
  let values = 0
  const key = () => `g/${String.fromCharCode(97 + random(size.keys))}`
  const put = (key: string): Step => ({ do: "put", key, value: `v${++values}` })
  const get = (key: string): Step => ({ do: "get", key })
  const remove = (key: string): Step => ({ do: "delete", key })
  const call = (name: string, success: ReadonlyArray<Step>, compare: ReadonlyArray<Comparison> = []): Call => {
    const failure = compare.length > 0 && random(2) === 0 ? [get(compare[0]!.key)] : []
    return { name, serializable: false, compare, success, failure }
  }
  return (state: ReadonlyMap<string, string>): Call => {
    const one = key()
    const two = key()
    const isSame = one === two
    const guess = (key: string): Comparison => ({
      key,
      value: random(4) > 0 ? (state.get(key) ?? null) : `v${1 + random(values + 1)}`
    })
    switch (random(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return call("put", [put(one)])
      case 4:
        return call("delete", [remove(one)])
      case 5:
      case 6:
      case 7:
        return call("cas", [put(one)], [guess(one)])
      case 8:
        return call("release", [remove(one)], [guess(one)])
      case 9:
        return call("txn", isSame ? [put(one)] : [put(one), put(two)])
      case 10:
        return call("move", isSame ? [put(one)] : [put(one), remove(two)])
      case 11:
      case 12:
        return call("stm", [put(one)], isSame ? [guess(one)] : [guess(one), guess(two)])
      case 13:
        return call("exchange", [get(one), get(two), put(one)])
      case 14:
        return call("snapshot", [get(one), get(two)])
      default:
        return call("get", [get(one)])
    }
  }
}

/** Does a call, and says what it found. */
const perform = (state: Map<string, string>, { compare, failure, success }: Call) => {
  const valueOf = (key: string): Value => state.get(key) ?? null
  const succeeded = compare.every(({ key, value }) => valueOf(key) === value)
  const found = (succeeded ? success : failure).map((step): Value => {
    if (step.do === "get") return valueOf(step.key)
    if (step.do === "put") state.set(step.key, step.value)
    else state.delete(step.key)
    return null
  })
  return { succeeded, found }
}

/** A history that is linearizable, as it was. */
export const randomHistory = (random: Random, size: Size): ReadonlyArray<Operation> => {
  const state = new Map<string, string>()
  const makeCall = makeCalls(random, size)
  return makePlans(random, size)
    .toSorted((one, two) => one.done - two.done)
    .map(({ begun, client, done, ended, id, isUnknown }): Operation => {
      const call = makeCall(state)
      const did = perform(done === Infinity ? new Map(state) : state, call)
      const result: Result = isUnknown
        ? { outcome: "unknown", error: "no answer" }
        : { outcome: "answered", revision: 0, memberId: "m", ...did }
      return { id, client, begun, ended: isUnknown && random(4) === 0 ? null : ended, call, result }
    })
    .toSorted((one, two) => one.begun - two.begun)
}

/** Makes something else of one operation: it found another value, it went otherwise, or it was not known, or at another time. */
export const spoil = (random: Random, operations: ReadonlyArray<Operation>): ReadonlyArray<Operation> => {
  const at = random(operations.length)
  const one = operations[at]!
  const { call, ended, result } = one
  if (result.outcome !== "answered" || ended === null) return operations
  const by = (result: Result): ReadonlyArray<Operation> => operations.with(at, { ...one, result })
  const gets = (result.succeeded ? call.success : call.failure).map((step) => step.do === "get")
  const written = operations.flatMap(({ call }) =>
    call.success.flatMap((step) => (step.do === "put" ? [step.value] : []))
  )
  switch (random(4)) {
    case 0: {
      const found = [...written, null][random(written.length + 1)]!
      return by({ ...result, found: result.found.map((before, index) => (gets[index] ? found : before)) })
    }
    case 1: {
      if (call.compare.length === 0) return operations
      const branch = result.succeeded ? call.failure : call.success
      return by({ ...result, succeeded: !result.succeeded, found: branch.map(() => null) })
    }
    case 2:
      return by({ outcome: "not-applied", error: "refused" })
    default: {
      const shift = random(200)
      return operations.with(at, { ...one, begun: one.begun + shift, ended: ended + shift })
    }
  }
}
