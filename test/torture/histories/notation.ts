/**
 * Histories as text. Operations stand one after the other, with `|` between them:
 *
 *     a 0-1 put x 1 | b 2-3 get x 1
 *
 * is client `a`, which put 1 from instant 0 to 1, and client `b`, which then found it. An end is `5?` where the outcome is
 * unknown, `?` where the client was killed, and `5!` where it is known that nothing was done. Calls are
 *
 *     put x 1                                  x is 1
 *     del x                                    x is not there
 *     get x 1, get x -, get x                  found 1; found nothing; nobody knows what it found
 *     stale get x 1                            a serializable one
 *     cas x 1 2 ok, cas x 1 2 no               from 1 to 2, which it was, or was not
 *     cas x 1 2 no 3                           it was not, as it found 3
 *     do put x 1, get y 2                      all of it at once
 *     yes if x=1 y=- then put x 2 else get x   the comparisons held
 *     no if x=1 y=- then put x 2 else get x 3  they did not
 *
 * where a cas or an `if` of which nobody knows how it went has no such word. `x` is a key of the group `g/`; a key of another
 * one is written in full.
 */
import type { Call, Comparison, Operation, Result, Step, Value } from "../history.ts"

export interface History {
  readonly name: string
  readonly isLinearizable: boolean
  readonly initial: ReadonlyMap<string, string>
  readonly operations: ReadonlyArray<Operation>
}

const keyOf = (text: string): string => (text.includes("/") ? text : `g/${text}`)

const valueOf = (text: string): Value => (text === "-" ? null : text)

interface Parsed {
  readonly step: Step
  readonly found: Value
}

const parseStep = (text: string): Parsed => {
  const [what, name, value] = text.trim().split(" ")
  const key = keyOf(name!)
  if (what === "get") return { step: { do: "get", key }, found: valueOf(value ?? "-") }
  if (what === "del") return { step: { do: "delete", key }, found: null }
  if (what === "put") return { step: { do: "put", key, value: value! }, found: null }
  throw new Error(`no step: ${text}`)
}

const parseSteps = (text: string): ReadonlyArray<Parsed> => (text.trim() === "" ? [] : text.split(",").map(parseStep))

const parseComparison = (text: string): Comparison => {
  const [key, value] = text.split("=")
  return { key: keyOf(key!), value: valueOf(value!) }
}

interface Asked {
  readonly call: Call
  readonly succeeded: boolean
  readonly found: ReadonlyArray<Value>
}

const asked = (
  name: string,
  compare: ReadonlyArray<Comparison>,
  success: ReadonlyArray<Parsed>,
  failure: ReadonlyArray<Parsed>,
  succeeded: boolean,
  serializable = false
): Asked => {
  const steps = (parsed: ReadonlyArray<Parsed>) => parsed.map(({ step }) => step)
  const found = (succeeded ? success : failure).map((one) => one.found)
  return { call: { name, serializable, compare, success: steps(success), failure: steps(failure) }, succeeded, found }
}

const parseCas = (text: string): Asked => {
  const [, key, from, to, went, found] = text.split(" ")
  const failure = found === undefined ? "" : `get ${key} ${found}`
  return asked(
    "cas",
    [parseComparison(`${key}=${from}`)],
    parseSteps(`put ${key} ${to}`),
    parseSteps(failure),
    went !== "no"
  )
}

const parseCall = (text: string): Asked => {
  if (text.startsWith("cas ")) return parseCas(text)
  if (text.startsWith("do ")) return asked("txn", [], parseSteps(text.slice(3)), [], true)
  if (text.startsWith("stale ")) return asked("get", [], parseSteps(text.slice(6)), [], true, true)
  const condition = /^(?:(yes|no) )?if (.+) then(.*?)(?: else(.*))?$/.exec(text)
  if (condition === null) return asked(text.slice(0, text.indexOf(" ")), [], parseSteps(text), [], true)
  const [, went, compared, success, failure = ""] = condition
  const comparisons = compared!.split(" ").map(parseComparison)
  return asked("txn", comparisons, parseSteps(success!), parseSteps(failure), went !== "no")
}

const parseOperation = (text: string, id: number): Operation => {
  const [, client, begun, end, outcome, what] = /^(\w+) ([\d.]+)-([\d.]*)([?!]?) (.+)$/.exec(text.trim()) ?? []
  if (what === undefined) throw new Error(`no operation: ${text}`)
  const { call, found, succeeded } = parseCall(what)
  const result: Result =
    outcome === "?"
      ? { outcome: "unknown", error: "no answer" }
      : outcome === "!"
        ? { outcome: "not-applied", error: "refused" }
        : { outcome: "answered", revision: 0, memberId: "m", succeeded, found }
  return { id, client: client!, begun: Number(begun), ended: end === "" ? null : Number(end), call, result }
}

/** Operations from text. */
export const parse = (text: string): ReadonlyArray<Operation> => text.split("|").map(parseOperation)

const history =
  (isLinearizable: boolean) =>
  (name: string, text: string, initial: { readonly [key: string]: string } = {}): History => ({
    name,
    isLinearizable,
    initial: new Map(Object.entries(initial).map(([key, value]) => [keyOf(key), value])),
    operations: parse(text)
  })

/** There is an order in which all of it is right. */
export const right = history(true)

/** There is none. */
export const wrong = history(false)
