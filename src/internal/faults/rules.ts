/**
 * What disturbs the network, as rules between parties by their names.
 *
 * @internal
 */
import * as Flow from "./flow.ts"
import type { Rule } from "./network.ts"

type Names = ReadonlyArray<string>

/** A rule, and whom it befalls in words. */
export interface Named extends Rule {
  readonly whom: string
}

const list = (names: Names): string => names.join(", ")

/** Groups do not hear of each other. */
export const apart = (groups: ReadonlyArray<Names>, mode: "hang" | "cut"): Named => {
  const groupOf = (name: string) => groups.findIndex((group) => group.includes(name))
  return {
    whom: groups.map(list).join(" | "),
    concerns: (from, to) => groupOf(from) >= 0 && groupOf(to) >= 0 && groupOf(from) !== groupOf(to),
    condition: { ...Flow.undisturbed, ...(mode === "cut" ? { isCut: true } : { hangs: true }) }
  }
}

/** Nothing of what some say arrives at others. */
export const oneWay = (speakers: Names, listeners: Names): Named => ({
  whom: `${list(speakers)} → ${list(listeners)}`,
  concerns: (from, to) => speakers.includes(from) && listeners.includes(to),
  condition: { ...Flow.undisturbed, hangs: true }
})

/** What some and others say to each other is late, or slow. */
export const slow = (some: Names, others: Names, condition: Partial<Flow.Condition>): Named => ({
  whom: `${list(some)} ↔ ${list(others)}`,
  concerns: (from, to) => (some.includes(from) && others.includes(to)) || (others.includes(from) && some.includes(to)),
  condition: { ...Flow.undisturbed, ...condition }
})
