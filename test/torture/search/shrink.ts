/**
 * Makes a history that is not linearizable small, so that somebody can see why.
 *
 * Only what keeps a linearizable history linearizable is done to it. So what is left over is not linearizable *because* the
 * whole was not, and nothing is blamed on an operation that is merely missing:
 *
 * - An operation may forget something that it found or compared with. Whatever was a linearization is one still.
 * - An operation that wrote nothing may be left out, once it has forgotten everything.
 * - One that wrote may be left out only if nobody who is left has seen what it wrote: nobody has found a value that it put,
 *   and whoever has found that a key is not there, or does not have some other value, had ended before, or began when a later
 *   write of the key was over for certain. Without it only those between it and the next write of its keys could notice.
 *   Had somebody seen it, then leaving it out would make a read that is right a read of nothing.
 * - A free operation is left out where it explains nothing (`thatMatter`). An operation that was answered is never made a free
 *   one: that is allowed as well, but would explain less to who reads it.
 *
 * It tries this with half of the history, with quarters, and so on, and then with single operations until none can be spared:
 * the smallest that it can reach one by one, not the smallest there is.
 */
import type { Instant } from "../history.ts"
import { linearize } from "./linearize.ts"
import { absent, type Certain, type Problem, type Transition, thatMatter } from "./transitions.ts"

const forget = (operation: Certain): Certain => ({ ...operation, requires: [], refutes: undefined })

/** Whether nobody has seen what an operation wrote. */
const isUnseen = ({ certain, free }: Problem, operation: Certain): boolean => {
  const others = certain.filter((one) => one !== operation)
  return operation.writes.every(({ key, value }) => {
    const isFound = ({ requires }: Transition) => requires.some((one) => one.key === key && one.value === value)
    const isReason = ({ refutes = [] }: Transition) => refutes.some((one) => one.key === key && one.value !== value)
    if (free.some(({ alternatives }) => alternatives.some((one) => isFound(one) || isReason(one)))) return false
    if (value !== absent && others.some(isFound)) return false
    const over = others
      .filter(({ begun, writes }) => begun > operation.ended && writes.some((one) => one.key === key))
      .reduce((first: Instant, { ended }) => Math.min(first, ended), Infinity)
    const hasMissed = ({ begun, ended }: Certain) => ended < operation.begun || begun > over
    return others.every((one) => hasMissed(one) || (!isFound(one) && !isReason(one)))
  })
}

const withCertain = (problem: Problem, certain: ReadonlyArray<Certain>): Problem => ({
  ...problem,
  certain,
  free: thatMatter(certain, problem.free)
})

const replace = (problem: Problem, from: number, by: ReadonlyArray<Certain>): Problem =>
  withCertain(problem, problem.certain.toSpliced(from, by.length, ...by))

/** With some operations left out, one after the other, where that is allowed. */
const leaveOut = (problem: Problem, from: number, count: number): Problem => {
  let left = problem
  for (let at = from + count - 1; at >= from; at--) {
    if (isUnseen(left, left.certain[at]!)) left = { ...left, certain: left.certain.toSpliced(at, 1) }
  }
  return withCertain(left, left.certain)
}

/** What could be left of some operations, the least first. */
const lesser = function* (problem: Problem, from: number, count: number): Generator<Problem> {
  const some = problem.certain.slice(from, from + count)
  const forgotten = replace(problem, from, some.map(forget))
  const without = leaveOut(forgotten, from, count)
  if (without.certain.length < problem.certain.length) yield without
  if (some.some(({ refutes, requires }) => requires.length > 0 || refutes !== undefined)) yield forgotten
  if (count > 1) return
  const one = some[0]!
  if (one.refutes !== undefined) yield replace(problem, from, [{ ...one, refutes: undefined }])
  for (const index of one.requires.keys()) {
    yield replace(problem, from, [{ ...one, requires: one.requires.toSpliced(index, 1) }])
  }
}

/** A smaller problem that has no linearization either, as small as can be found until the deadline. */
export const shrink = (problem: Problem, deadline: number): Problem => {
  let smallest = problem
  let count = Math.max(1, problem.certain.length >> 1)
  while (performance.now() < deadline) {
    let isSmaller = false
    for (let to = smallest.certain.length; to > 0 && performance.now() < deadline; to -= count) {
      const from = Math.max(0, to - count)
      const found = lesser(smallest, from, to - from).find((less) => linearize(less, deadline).isLinearizable === false)
      if (found === undefined) continue
      smallest = found
      isSmaller = true
    }
    if (count === 1 && !isSmaller) break
    count = Math.max(1, count >> 1)
  }
  return smallest
}
