/**
 * Draws conclusions about when operations were done from values that can be there only once.
 *
 * Such a value is there from its writer to the last who found it, and nothing else is in its key in between. So the writer
 * comes first; whoever found the value and overwrote it comes last; and whoever wrote or found something else in the key comes
 * either before the writer or after all of them. It is before where it had ended when one of them began, and after where it
 * began when one of them had ended. What comes after another begins not before it, and ends not before it, for all that
 * matters: from times that are narrower follow more conclusions, until there are no more.
 */
import type { Instant } from "../history.ts"
import type { Certain, Problem } from "./transitions.ts"

export interface Narrowed {
  readonly certain: ReadonlyArray<Certain>
  /** For each operation those that must be done before it, though their times do not say so. */
  readonly before: ReadonlyArray<ReadonlyArray<number>>
}

/** A value that can be there only once, as indexes of operations. */
interface Stay {
  readonly writer: number | undefined
  /** Who has found it, and those of them who also overwrote it. */
  readonly finders: ReadonlyArray<number>
  readonly last: ReadonlyArray<number>
  /** Who wrote or found something else in its key, has not found it, and was there at the time. */
  readonly others: ReadonlyArray<number>
}

const staysOf = ({ certain, isUnique, keys }: Problem): ReadonlyArray<Stay> => {
  const ofKey: ReadonlyArray<Set<number>> = keys.map(() => new Set())
  const begun = (index: number): Instant => certain[index]!.begun
  const ended = (index: number): Instant => certain[index]!.ended
  const found = new Map<number, { readonly key: number; readonly finders: Array<number> }>()
  const writers = new Map<number, number>()
  for (const [index, { requires, writes }] of certain.entries()) {
    for (const { key } of [...requires, ...writes]) ofKey[key]!.add(index)
    for (const { value } of writes) writers.set(value, index)
    for (const { key, value } of requires) {
      if (!isUnique(value)) continue
      if (!found.has(value)) found.set(value, { key, finders: [] })
      found.get(value)!.finders.push(index)
    }
  }
  return [...found].map(([value, { finders, key }]) => {
    const writer = writers.get(value)
    const members = new Set(writer === undefined ? finders : [writer, ...finders])
    const from = [...members].reduce((first, one) => Math.min(first, begun(one)), Infinity)
    const to = [...members].reduce((last, one) => Math.max(last, ended(one)), -Infinity)
    return {
      writer,
      finders,
      last: finders.filter((index) => certain[index]!.writes.some((one) => one.key === key)),
      others: [...ofKey[key]!.values().filter((one) => ended(one) >= from && begun(one) <= to && !members.has(one))]
    }
  })
}

/** Nothing, if an operation would have to end before it begins. */
export const narrow = (problem: Problem): Narrowed | undefined => {
  const { certain } = problem
  const begun = certain.map((one) => one.begun)
  const ended = certain.map((one) => one.ended)
  let isNews = false
  const isBefore = (one: number, two: number) => {
    if (begun[two]! >= begun[one]! && ended[one]! <= ended[two]!) return
    begun[two] = Math.max(begun[two]!, begun[one]!)
    ended[one] = Math.min(ended[one]!, ended[two]!)
    isNews = true
  }
  const before = certain.map(() => new Set<number>())
  const conclude = ({ finders, last, others, writer }: Stay) => {
    const members = writer === undefined ? finders : [writer, ...finders]
    if (writer !== undefined) for (const finder of finders) isBefore(writer, finder)
    for (const one of last) for (const finder of finders) if (finder !== one) isBefore(finder, one)
    const firstEnded: Instant = members.reduce((first, one) => Math.min(first, ended[one]!), Infinity)
    const lastBegun: Instant = members.reduce((last, one) => Math.max(last, begun[one]!), -Infinity)
    for (const one of others) {
      if (ended[one]! < lastBegun && writer !== undefined) {
        isBefore(one, writer)
        before[writer]!.add(one)
      } else if (begun[one]! > firstEnded) {
        for (const member of members) isBefore(member, one)
      }
    }
  }
  const stays = staysOf(problem)
  do {
    isNews = false
    for (const stay of stays) conclude(stay)
    if (begun.some((instant, index) => instant > ended[index]!)) return undefined
  } while (isNews)
  return {
    certain: certain.map((one, index) => ({ ...one, begun: begun[index]!, ended: ended[index]! })),
    before: before.map((all, index) => [...all].filter((one) => ended[one]! >= begun[index]!))
  }
}
