/**
 * What operations, times and counts are called for a reader.
 */
import type { Call, Operation, Result, Step, Value } from "../history.ts"

export const count = (value: number): string => Math.round(value).toLocaleString("en-US")

export const counted = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`

/** Three digits that count. */
export const millis = (value: number): string => {
  if (value >= 10_000) return `${(value / 1000).toFixed(1)}\u00a0s`
  if (value >= 1000) return `${(value / 1000).toFixed(2)}\u00a0s`
  return `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)}\u00a0ms`
}

const longest = 48

const clipped = (text: string): string => (text.length > longest ? `${text.slice(0, longest)}…` : text)

const value = (held: Value): string => (held === null ? "nothing" : `“${clipped(held)}”`)

const stepWords = (step: Step): string =>
  step.do === "put" ? `put ${clipped(step.key)} = ${value(step.value)}` : `${step.do} ${clipped(step.key)}`

const stepsWords = (steps: ReadonlyArray<Step>): string =>
  steps.length === 0 ? "do nothing" : steps.map(stepWords).join(", ")

const body = ({ compare, failure, success }: Call): string => {
  if (compare.length === 0) return stepsWords(success)
  const held = compare
    .map(({ key, value: wanted }) => `${clipped(key)} is ${wanted === null ? "not there" : value(wanted)}`)
    .join(" and ")
  return `if ${held}: ${stepsWords(success)}; else ${stepsWords(failure)}`
}

/** What was asked for. The name is left out where the steps say the same. */
export const callWords = (call: Call): string => {
  const words = body(call)
  const named = words.startsWith(`${call.name} `) ? words : `${call.name}: ${words}`
  return call.serializable ? `${named} (serializable)` : named
}

const branchOf = (call: Call, succeeded: boolean): ReadonlyArray<Step> => (succeeded ? call.success : call.failure)

/** How it ended. */
export const resultWords = (call: Call, result: Result): string => {
  if (result.outcome !== "answered") {
    return `${result.outcome === "unknown" ? "unknown" : "not applied"}: ${clipped(result.error)}`
  }
  const branch = branchOf(call, result.succeeded)
  const found = result.found.flatMap((got, index) => (branch[index]?.do === "get" ? [value(got)] : []))
  return [
    `revision ${result.revision}`,
    ...(call.compare.length === 0 ? [] : [result.succeeded ? "comparisons held" : "comparisons did not hold"]),
    ...(found.length === 0 ? [] : [`found ${found.join(", ")}`]),
    `by ${clipped(result.memberId)}`
  ].join(", ")
}

export const tookWords = ({ begun, ended }: Operation): string =>
  ended === null ? "never ended, as its client was killed" : millis(ended - begun)

/** The keys that it names. */
export const keysOf = ({ compare, failure, success }: Call): ReadonlyArray<string> =>
  [...compare, ...success, ...failure].map(({ key }) => key)
