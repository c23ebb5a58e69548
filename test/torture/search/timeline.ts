/**
 * Operations as lines of text, with bars that show which were at the same time:
 *
 *     client-1  [===]         0 … 2    put x 1
 *     client-2      [====]    1 … 3    get x (found 1)
 */
import { groupOf, type Instant, type Operation, type Step, type Value } from "../history.ts"

const local = (key: string): string => key.slice(groupOf(key).length)

const shown = (value: Value): string => value ?? "nothing"

const showStep = (step: Step, found: Value | undefined): string => {
  if (step.do === "put") return `put ${local(step.key)} ${step.value}`
  if (step.do === "delete") return `delete ${local(step.key)}`
  return `get ${local(step.key)}${found === undefined ? "" : ` (found ${shown(found)})`}`
}

const showSteps = (steps: ReadonlyArray<Step>, found: ReadonlyArray<Value> | undefined): string =>
  steps.length === 0 ? "nothing" : steps.map((step, index) => showStep(step, found?.[index])).join(", ")

/** What was asked for, and what came of it. */
export const describe = ({ call, ended, result }: Operation): string => {
  const { compare, failure, success } = call
  const condition = compare.map(({ key, value }) => `${local(key)} is ${shown(value)}`).join(" and ")
  if (ended !== null && result.outcome === "answered") {
    const did = showSteps(result.succeeded ? success : failure, result.found)
    if (compare.length === 0) return did
    return result.succeeded ? `as ${condition}: ${did}` : `as not ${condition}: ${did}`
  }
  const may = compare.length === 0 ? "" : `if ${condition}: `
  const otherwise = failure.length === 0 ? "" : `; if not: ${showSteps(failure, undefined)}`
  return `${may}${showSteps(success, undefined)}${otherwise} (${result.outcome})`
}

const millis = (instant: Instant): number => Number(instant.toFixed(3))

const width = 60

/** What is longer than this is read by nobody. */
const mostLines = 50

/** Shows operations in the order in which they began. */
export const timeline = (operations: ReadonlyArray<Operation>): string => {
  const ends = operations.map(({ ended, result }) => (result.outcome === "unknown" ? Infinity : (ended ?? Infinity)))
  const instants = [...new Set([...operations.map(({ begun }) => begun), ...ends])].sort((one, two) => one - two)
  const perInstant = Math.min(4, width / instants.length)
  const column = (instant: number) => Math.floor(instants.indexOf(instant) * perInstant)
  const clientWidth = Math.max(0, ...operations.map(({ client }) => client.length))
  const rows = operations.map((operation, index) => {
    const { begun, client, id } = operation
    const end = ends[index]!
    const inner = "=".repeat(Math.max(0, column(end) - column(begun) - 1))
    const bar = `${" ".repeat(column(begun))}[${inner}${end === Infinity ? ">" : "]"}`
    const times = `${millis(begun)} … ${end === Infinity ? "" : millis(end)}`
    return {
      begun,
      cells: [client.padEnd(clientWidth), bar, times, `#${id} ${operation.call.name}: ${describe(operation)}`]
    }
  })
  const widths = [1, 2].map((cell) => Math.max(0, ...rows.map(({ cells }) => cells[cell]!.length)))
  const lines = rows
    .toSorted((one, two) => one.begun - two.begun)
    .map(({ cells: [client, bar, times, what] }) =>
      `  ${client}  ${bar!.padEnd(widths[0]!)}  ${times!.padEnd(widths[1]!)}  ${what}`.trimEnd()
    )
  const more = lines.length - mostLines
  return [...lines.slice(0, mostLines), ...(more > 0 ? [`  … and ${more} more`] : [])].join("\n")
}
