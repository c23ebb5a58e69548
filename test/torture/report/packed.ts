/**
 * What the script of the page draws single operations of: columns as JSON, compressed, as base64.
 */
import { deflateSync } from "node:zlib"
import type { Operation } from "../history.ts"
import type { Run } from "../run.ts"
import { printable } from "./html.ts"
import { outcomes } from "./series.ts"
import { clockOf } from "./time.ts"
import { callWords, resultWords } from "./words.ts"

/** So many operations, and no more, unless so many characters are not enough for them. */
const mostOperations = 250_000
const mostCharacters = 9_000_000

export interface Packed {
  readonly base64: string
  readonly kept: number
}

/** In units of ten microseconds since the run began. */
const fine = (seconds: number): number => Math.round(seconds * 100_000)

const differences = (values: ReadonlyArray<number>): ReadonlyArray<number> =>
  values.map((value, index) => value - (values[index - 1] ?? 0))

const clip = (text: string): string => printable(text.length > 400 ? `${text.slice(0, 400)}…` : text)

const pack = (run: Run, operations: ReadonlyArray<Operation>): string => {
  const clock = clockOf(run)
  const inOrder = operations.toSorted((one, other) => one.begun - other.begun)
  const clients = [...new Set(inOrder.map(({ client }) => client))]
  const indexOf = new Map(clients.map((client, index) => [client, index]))
  const columns = {
    clients,
    id: inOrder.map(({ id }) => id),
    begun: differences(inOrder.map(({ begun }) => fine(clock(begun)))),
    // One more than it took; nothing: it never ended.
    took: inOrder.map(({ begun, ended }) => (ended === null ? 0 : fine((ended - begun) / 1000) + 1)),
    client: inOrder.map(({ client }) => indexOf.get(client)!),
    outcome: inOrder.map(({ result }) => outcomes.indexOf(result.outcome)),
    call: inOrder.map(({ call }) => clip(callWords(call))),
    result: inOrder.map(({ call, result }) => clip(resultWords(call, result)))
  }
  return deflateSync(JSON.stringify(columns), { level: 6 }).toString("base64")
}

/** All operations, or, where these are too many, those that must be there and of the others each so many-th. */
export const packed = (run: Run, needed: ReadonlySet<number>): Packed => {
  for (let most = mostOperations; ; most = Math.floor(most / 2)) {
    const each = Math.ceil(run.operations.length / most)
    const kept = run.operations.filter((operation, index) => index % each === 0 || needed.has(operation.id))
    const base64 = pack(run, kept)
    if (base64.length <= mostCharacters || most < 1000) return { base64, kept: kept.length }
  }
}
