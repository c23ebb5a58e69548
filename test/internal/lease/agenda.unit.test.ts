/**
 * The agenda answers as a sorted list would, whatever is put in, moved and taken out in between.
 */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Agenda } from "../../../src/internal/lease/agenda.ts"
import * as Entry from "../../../src/internal/lease/entry.ts"

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ put: fc.nat(20), at: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ remove: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ take: fc.nat(30) }) }
)

describe("the agenda", () => {
  it("gives out what is due first, and of the same time the oldest", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const entries = Array.from({ length: 21 }, (_, index) => Entry.make(BigInt(index), "own"))
        const agenda = new Agenda()
        const model = new Map<Entry.Entry, number>()
        const first = () => [...model].sort(([a, at], [b, bt]) => at - bt || a.number - b.number)[0]
        for (const step of steps) {
          if ("put" in step) {
            agenda.put(entries[step.put]!, step.at)
            model.set(entries[step.put]!, step.at)
          } else if ("remove" in step) {
            agenda.remove(entries[step.remove]!)
            model.delete(entries[step.remove]!)
          } else {
            const expected = first()
            const taken = agenda.take(step.take)
            assert.strictEqual(taken, expected !== undefined && expected[1] <= step.take ? expected[0] : undefined)
            if (taken !== undefined) model.delete(taken)
          }
          assert.strictEqual(agenda.nextAt, first()?.[1] ?? Entry.never)
        }
      })
    )
  })
})
