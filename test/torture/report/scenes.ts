/**
 * The windows of time that are drawn for a violation, and the operations in them.
 */
import type { Operation } from "../history.ts"
import type { Run } from "../run.ts"
import type { Finding } from "./findings.ts"
import { clockOf, overlaps, type Window, wholeOf } from "./time.ts"
import { keysOf } from "./words.ts"

export interface Scene {
  readonly window: Window
  readonly operations: ReadonlyArray<Operation>
  /** How many more are in the window. */
  readonly leftOut: number
}

/** Operations that a drawing shows so that one can tell them apart. */
const mostDrawn = 300

/** Up to how many come together in one drawing for what is between those that a violation is about. */
const mostBetween = 200

/** Up to how many there are in a drawing that is widened to show what was around. */
const mostAround = 120

const union = (one: Window, other: Window): Window => ({
  from: Math.min(one.from, other.from),
  to: Math.max(one.to, other.to)
})

/** Twice as much around it as long as there is little in it. */
const widened = (window: Window, whole: Window, countIn: (window: Window) => number): Window => {
  const around = (seconds: number): Window => ({
    from: Math.max(Math.min(whole.from, window.from), window.from - seconds),
    to: Math.min(Math.max(whole.to, window.to), window.to + seconds)
  })
  let seconds = Math.max(0.001, (window.to - window.from) / 8)
  while (seconds < 2 && countIn(around(seconds * 2)) <= mostAround) seconds *= 2
  return around(seconds)
}

/** Windows of operations, fewer than those where not much is between. */
const joined = (windows: ReadonlyArray<Window>, countIn: (window: Window) => number): ReadonlyArray<Window> => {
  const all: Array<Window> = []
  for (const window of windows.toSorted((one, other) => one.from - other.from)) {
    const last = all.at(-1)
    const both = last === undefined ? window : union(last, window)
    if (last !== undefined && (overlaps(last, window) || countIn(both) <= mostBetween)) all[all.length - 1] = both
    else all.push(window)
  }
  return all
}

/** Those that a violation is about, then those with its keys, then those that begin closest to the middle. */
const drawn = (
  { from }: Index,
  positions: ReadonlyArray<number>,
  window: Window,
  rank: (position: number) => number
): ReadonlyArray<number> => {
  if (positions.length <= mostDrawn) return positions
  const middle = (window.from + window.to) / 2
  const ranked = positions.map((position) => ({
    position,
    rank: rank(position),
    distance: Math.abs(from[position]! - middle)
  }))
  return ranked
    .sort((one, other) => one.rank - other.rank || one.distance - other.distance)
    .slice(0, mostDrawn)
    .map(({ position }) => position)
    .sort((one, other) => one - other)
}

/** Operations in the order in which they began, with their times at hand: they are looked through many times. */
export interface Index {
  readonly operations: ReadonlyArray<Operation>
  readonly from: Float64Array
  readonly to: Float64Array
  readonly whole: Window
}

export const indexOf = (run: Run): Index => {
  const clock = clockOf(run)
  const operations = run.operations.toSorted((one, other) => one.begun - other.begun)
  return {
    operations,
    from: Float64Array.from(operations, ({ begun }) => clock(begun)),
    to: Float64Array.from(operations, ({ begun, ended }) => clock(ended ?? begun)),
    whole: wholeOf(run)
  }
}

const positionsIn = ({ from, to }: Index, window: Window): ReadonlyArray<number> => {
  const positions: Array<number> = []
  for (let position = 0; position < from.length && from[position]! <= window.to; position++) {
    if (to[position]! >= window.from) positions.push(position)
  }
  return positions
}

/** Those that a violation is about. */
export const positionsOf = ({ operations }: Index, { violation }: Finding): ReadonlyArray<number> => {
  const ids = new Set(violation.operations)
  return operations.flatMap(({ id }, position) => (ids.has(id) ? [position] : []))
}

/** The windows of a violation, in their order. */
export const scenesOf = (index: Index, about: ReadonlyArray<number>): ReadonlyArray<Scene> => {
  const countIn = (window: Window) => positionsIn(index, window).length
  const isAbout = new Set(about)
  const keys = new Set(about.flatMap((position) => keysOf(index.operations[position]!.call)))
  const rank = (position: number) => {
    if (isAbout.has(position)) return 0
    return keysOf(index.operations[position]!.call).some((key) => keys.has(key)) ? 1 : 2
  }
  return joined(
    about.map((position) => ({ from: index.from[position]!, to: index.to[position]! })),
    countIn
  ).map((tight) => {
    const window = widened(tight, index.whole, countIn)
    const all = positionsIn(index, window)
    const some = drawn(index, all, window, rank)
    return {
      window,
      operations: some.map((position) => index.operations[position]!),
      leftOut: all.length - some.length
    }
  })
}
