/**
 * A judge that believes no revision and no watch: it asks whether there is an order of all operations, each done at once
 * between its beginning and its end, in which every answer is right (linearizability). Groups of keys are independent of each
 * other: a history is linearizable if that of each group is.
 *
 * An unknown operation may be done at any time after it began, or never. Serializable reads are not asked about.
 *
 * `search/transitions` says what a history is to the search, `search/narrow` concludes from values when things were done,
 * `search/linearize` searches, `search/shrink` makes what cannot be linearized small, and `search/timeline` shows it.
 */
import { groupOf, type Operation, type Step, type Violation } from "./history.ts"
import { linearize, longestOf } from "./search/linearize.ts"
import { shrink } from "./search/shrink.ts"
import { timeline } from "./search/timeline.ts"
import { type Fact, type Problem, problem } from "./search/transitions.ts"

export interface Finding extends Violation {
  /** `undecided`: its time was not enough to find out. */
  readonly kind: "not linearizable" | "undecided"
  /** The most operations that were found to be possible one after the other, by their ids. */
  readonly longest: ReadonlyArray<number>
  /**
   * A few operations, with a part of what they found, that are not linearizable either, and why the whole is not. Empty if
   * it is undecided.
   */
  readonly shrunk: ReadonlyArray<Operation>
}

export interface Options {
  /** For all groups. What smaller ones do not need is there for larger ones. */
  readonly timeoutMillis: number
  /** What keys had before. Default: nothing. */
  readonly initial?: ReadonlyMap<string, string>
}

const keyOf = ({ call: { compare, failure, success } }: Operation): string | undefined =>
  [...compare, ...success, ...failure][0]?.key

/** What is left of operations in a problem, as operations: they have found less, and write what they wrote. */
const asOperations = (
  { certain, free, keys, values }: Problem,
  all: ReadonlyMap<number, Operation>
): ReadonlyArray<Operation> => {
  const comparison = ({ key, value }: Fact) => ({ key: keys[key]!, value: values[value]! })
  const get = ({ key }: Fact): Step => ({ do: "get", key: keys[key]! })
  const write = ({ key, value }: Fact): Step => {
    const text = values[value]!
    return text === null ? { do: "delete", key: keys[key]! } : { do: "put", key: keys[key]!, value: text }
  }
  const answered = certain.map(({ ended, id, isInferred, refutes, requires, writes }): Operation => {
    const before = all.get(id)!
    const { memberId, revision } = before.result.outcome === "answered" ? before.result : { memberId: "", revision: 0 }
    const steps = [...requires.map(get), ...writes.map(write)]
    const found = [...requires.map(({ value }) => values[value]!), ...writes.map(() => null)]
    const succeeded = refutes === undefined
    return {
      ...before,
      ended,
      call: {
        name: isInferred ? `${before.call.name}, found by then` : before.call.name,
        serializable: false,
        compare: refutes?.map(comparison) ?? [],
        success: succeeded ? steps : [],
        failure: succeeded ? [] : steps
      },
      result: { outcome: "answered", revision, memberId, succeeded, found }
    }
  })
  return [...answered, ...free.map(({ id }) => all.get(id)!)].toSorted((one, two) => one.begun - two.begun)
}

const checkGroup = (
  group: string,
  operations: ReadonlyArray<Operation>,
  initial: ReadonlyMap<string, string>,
  deadline: number
): ReadonlyArray<Finding> => {
  const asked = problem(operations, initial)
  const outcome = linearize(asked, deadline)
  if (outcome.isLinearizable) return []
  const longest = outcome.longest.length > 0 ? outcome.longest : longestOf(asked, deadline)
  const most = `${longest.length} of the ${operations.length} operations on ${group} are possible one after the other`
  if (outcome.isLinearizable === undefined) {
    const message = `There was no time to find out whether more than ${most}`
    return [{ kind: "undecided", message, operations: operations.map(({ id }) => id), longest, shrunk: [] }]
  }
  const shrunk = asOperations(shrink(asked, deadline), new Map(operations.map((one) => [one.id, one])))
  const message = `It was found that ${most}. These are not, in no order:\n${timeline(shrunk)}`
  return [{ kind: "not linearizable", message, operations: shrunk.map(({ id }) => id), longest, shrunk }]
}

/** Looks for a linearization of each group. */
export const check = (operations: ReadonlyArray<Operation>, options: Options): ReadonlyArray<Finding> => {
  const end = performance.now() + options.timeoutMillis
  const initial = options.initial ?? new Map<string, string>()
  const groups = Map.groupBy(
    operations.filter((one) => keyOf(one) !== undefined),
    (one) => groupOf(keyOf(one)!)
  )
  const findings: Array<Finding> = []
  let left = groups.size
  // The large ones last, which need more than their share.
  const bySize = [...groups].toSorted(([, one], [, other]) => one.length - other.length)
  for (const [group, ofGroup] of bySize) {
    const now = performance.now()
    const ofInitial = new Map([...initial].filter(([key]) => groupOf(key) === group))
    findings.push(...checkGroup(group, ofGroup, ofInitial, now + (end - now) / left--))
  }
  return findings
}
