/**
 * The checker that the watch is tested with: it has nothing to say of a true record, and finds each way to break one.
 */
import { assert, describe, it } from "@effect/vitest"
import type { Entry, Event, Expectation, Observation, Violation } from "./support/history.ts"
import { check } from "./support/history.ts"

const put = (key: string, value: string): Event => ({ type: "put", key, value })
const del = (key: string): Event => ({ type: "delete", key, value: "" })

const history: ReadonlyArray<Entry> = [
  { revision: 2n, events: [put("a", "1")] },
  { revision: 3n, events: [put("a", "2"), put("b", "1")] },
  { revision: 4n, events: [put("other", "1")] },
  { revision: 5n, events: [del("a")] },
  { revision: 7n, events: [put("b", "2"), put("c", "1"), del("b")] }
]

const expectation: Expectation = { history, covers: (key) => key.length === 1, from: 2n, to: 7n }

const revision = (revision: bigint, events?: ReadonlyArray<Event>): Observation => ({
  _tag: "Revision",
  revision,
  events: events ?? history.find((entry) => entry.revision === revision)!.events
})
const progress = (revision: bigint): Observation => ({ _tag: "Progress", revision })
const snapshot = (revision: bigint, state: Record<string, string>): Observation => ({
  _tag: "Snapshot",
  revision,
  state: new Map(Object.entries(state))
})

const violations = (observed: ReadonlyArray<Observation>, more: Partial<Expectation> = {}) =>
  check({ ...expectation, ...more }, observed)

const finds = (kind: Violation["kind"], at: bigint, observed: ReadonlyArray<Observation>) =>
  assert.deepInclude(violations(observed), { kind, revision: at })

describe("the checker of watches", () => {
  it("has nothing to say of what is true", () => {
    assert.deepStrictEqual(violations([revision(2n), revision(3n), revision(5n), revision(7n)]), [])
    assert.deepStrictEqual(
      violations([progress(1n), revision(2n), revision(3n), progress(4n), revision(5n), progress(6n), revision(7n)]),
      []
    )
    assert.deepStrictEqual(violations([snapshot(4n, { a: "2", b: "1" }), revision(5n), revision(7n), progress(9n)]), [])
    assert.deepStrictEqual(violations([revision(5n), revision(7n)], { from: 4n }), [])
    assert.deepStrictEqual(violations([revision(2n), revision(3n)], { to: 4n }), [])
    assert.deepStrictEqual(
      violations([revision(5n), revision(7n, [del("b")])], { wants: (event) => event.type === "delete" }),
      []
    )
  })

  it("finds a revision after a later one", () =>
    finds("order", 3n, [revision(2n), revision(5n), revision(3n), revision(7n)]))

  it("finds a revision that comes twice", () =>
    finds("duplicate", 3n, [revision(2n), revision(3n), revision(3n), revision(5n), revision(7n)]))

  it("finds a revision that comes again much later", () =>
    finds("duplicate", 2n, [revision(2n), revision(3n), revision(5n), revision(7n), revision(2n)]))

  it("finds a gap", () => finds("missing", 3n, [revision(2n), revision(5n), revision(7n)]))

  it("finds that the end never came", () => finds("missing", 7n, [revision(2n), revision(3n), revision(5n)]))

  it("finds a part of a revision", () =>
    finds("torn", 3n, [revision(2n), revision(3n, [put("b", "1")]), revision(5n), revision(7n)]))

  it("finds a revision that is cut in two", () =>
    assert.includeMembers(
      violations([
        revision(2n),
        revision(3n, [put("a", "2")]),
        revision(3n, [put("b", "1")]),
        revision(5n),
        revision(7n)
      ]).map((violation) => violation.kind),
      ["torn", "duplicate"]
    ))

  it("finds the events of a revision in another order", () =>
    finds("foreign", 3n, [revision(2n), revision(3n, [put("b", "1"), put("a", "2")]), revision(5n), revision(7n)]))

  it("finds a value that was never written", () =>
    finds("foreign", 2n, [revision(2n, [put("a", "0")]), revision(3n), revision(5n), revision(7n)]))

  it("finds a revision that the watch was not for", () =>
    finds("foreign", 4n, [revision(2n), revision(3n), revision(4n), revision(5n), revision(7n)]))

  it("finds progress that is ahead of the events", () =>
    finds("progress", 3n, [revision(2n), progress(3n), revision(3n), revision(5n), revision(7n)]))

  it("finds progress that goes back", () =>
    finds("progress", 2n, [revision(2n), revision(3n), progress(2n), revision(5n), revision(7n)]))

  it("finds a snapshot that is not the store's state", () => {
    finds("snapshot", 3n, [snapshot(3n, { a: "1", b: "1" }), revision(5n), revision(7n)])
    finds("snapshot", 5n, [snapshot(5n, { a: "2", b: "1" }), revision(7n)])
  })

  it("finds a snapshot that goes back", () => finds("order", 3n, [revision(5n), snapshot(3n, { a: "2", b: "1" })]))
})
