/**
 * What judges have found, and which of it was to be expected.
 */
import type { Violation } from "../history.ts"
import type { Run } from "../run.ts"

export interface Finding {
  /** Its number in the report, from one. */
  readonly number: number
  readonly judge: string
  readonly violation: Violation
  /** The issue of etcd's that it is known by; `undefined`: it is not. */
  readonly issue: string | undefined
}

const isSame = (one: Violation, other: Violation): boolean => one.kind === other.kind && one.message === other.message

/** Those that were not expected come first. What was expected and is with no judge is with one of that name. */
export const findingsOf = (run: Run): ReadonlyArray<Finding> => {
  const judged = run.verdicts.flatMap(({ judge, violations }) =>
    violations.map((violation) => ({
      judge,
      violation,
      issue: run.expected.find((known) => isSame(known.violation, violation))?.issue
    }))
  )
  const others = run.expected
    .filter((known) => !judged.some(({ violation }) => isSame(known.violation, violation)))
    .map(({ issue, violation }) => ({ judge: "expected", violation, issue }))
  const all = [...judged, ...others]
  return [...all.filter(({ issue }) => issue === undefined), ...all.filter(({ issue }) => issue !== undefined)].map(
    (finding, index) => ({ ...finding, number: index + 1 })
  )
}

/** Where an issue of etcd's can be read, if it is said so that one can tell. */
export const issueAddress = (issue: string): string | undefined => {
  const [, number] =
    /^(?:https:\/\/github\.com\/etcd-io\/etcd\/(?:issues|pull)\/|etcd-io\/etcd#|#)?(\d+)$/.exec(issue) ?? []
  return number === undefined ? undefined : `https://github.com/etcd-io/etcd/issues/${number}`
}
