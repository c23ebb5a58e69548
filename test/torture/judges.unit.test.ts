import { assert, describe, it } from "@effect/vitest"
import { expected } from "./expected.ts"
import type { Entry, Operation, Value, Violation } from "./history.ts"
import * as Judges from "./judges.ts"
import { deletedKey, groupsPrefix, leasedPrefix, ledgerPrefix, locksPrefix, type Told } from "./protocol.ts"
import type { Held, Mirrored, Timed, Watched } from "./workers.ts"

const a = `${groupsPrefix}000/a`
const b = `${groupsPrefix}000/b`
const other = "t/other"

/** Revisions from 2 on, each of what it changes. */
const entriesOf = (...all: ReadonlyArray<Readonly<Record<string, Value>>>): ReadonlyArray<Entry> =>
  all.map((changes, index) => ({
    revision: index + 2,
    changes: Object.entries(changes).map(([key, value]) => ({ key, value }))
  }))

const kinds = (violations: ReadonlyArray<Violation>) => violations.map(({ kind }) => kind)

const answered = (id: number, begun: number, ended: number, revision: number): Operation => ({
  id,
  client: "w0.0",
  begun,
  ended,
  call: { name: "put", serializable: false, compare: [], success: [], failure: [] },
  result: { outcome: "answered", revision, memberId: "m", succeeded: true, found: [] }
})

describe("the judge of watches", () => {
  const entries = entriesOf({ [a]: "1", [b]: "1" }, { [a]: "2" }, { [other]: "1" }, { [b]: null }, { [a]: "3" })
  const revision = (at: number): Told => {
    const changes = entries.find((entry) => entry.revision === at)!.changes.filter(({ key }) => key !== other)
    return { _tag: "Revision", revision: at, changes }
  }
  const progress = (at: number): Told => ({ _tag: "Progress", revision: at })
  const snapshot = (at: number, keys: Readonly<Record<string, string>>): Told => ({
    _tag: "Snapshot",
    revision: at,
    keys: Object.entries(keys)
  })
  const judged = (
    told: ReadonlyArray<Told>,
    more: Partial<Watched> & { readonly compactions?: Array<number> } = {}
  ) => {
    const watched = { watch: "w0.w0", prefix: groupsPrefix, from: 2, isReplay: false, told: [...told], ...more }
    return kinds(Judges.watches(entries, [watched], more.compactions ?? []))
  }

  it("has nothing against one that was told all, nor against one that ends before the history", () => {
    assert.deepStrictEqual(judged([]), [])
    assert.deepStrictEqual(judged([2, 3, 5, 6].map(revision)), [])
    assert.deepStrictEqual(judged([revision(2), progress(2), revision(3), progress(4), revision(5)]), [])
    assert.deepStrictEqual(judged([revision(5)], { from: 4 }), [])
  })

  it("finds what is missing, twice, in disorder, in pieces, or of nobody", () => {
    assert.deepStrictEqual(judged([2, 5].map(revision)), ["watch: missing"])
    assert.deepStrictEqual(judged([2, 3, 3].map(revision)), ["watch: duplicate"])
    assert.include(judged([2, 5, 3].map(revision)), "watch: order")
    const { changes } = entries[0]!
    const pieces = changes.map((change): Told => ({ _tag: "Revision", revision: 2, changes: [change] }))
    assert.deepStrictEqual(judged(pieces), ["watch: torn", "watch: duplicate"])
    assert.deepStrictEqual(judged([{ _tag: "Revision", revision: 2, changes: [{ key: a, value: "9" }] }]), [
      "watch: foreign"
    ])
  })

  it("finds progress that is told too early, and what no revision there was can be behind", () => {
    assert.deepStrictEqual(judged([revision(2), progress(3), revision(3)]), ["watch: progress", "watch: progress"])
    assert.deepStrictEqual(judged([...[2, 3, 5, 6].map(revision), progress(100)]), ["watch: beyond the last revision"])
  })

  it("finds a snapshot that is wrong, or where the history was there", () => {
    const right = [snapshot(5, { [a]: "2" }), revision(6)]
    assert.deepStrictEqual(judged(right, { compactions: [4] }), [])
    assert.deepStrictEqual(judged([snapshot(5, { [a]: "2", [b]: "1" })], { compactions: [4] }), ["watch: snapshot"])
    assert.deepStrictEqual(judged(right), ["watch: needless snapshot"])
    // It goes on from 4, which is there, and what is compacted later was not missing yet.
    assert.deepStrictEqual(judged([revision(2), revision(3), ...right], { compactions: [4, 6] }), [
      "watch: needless snapshot"
    ])
    assert.deepStrictEqual(judged(right, { isReplay: true }), [])
  })
})

describe("the judge of mirrors", () => {
  const entries = entriesOf({ [a]: "1" }, { [b]: "1", [other]: "1" }, { [a]: null })
  const view = (revision: number, keys: Readonly<Record<string, string>>, more: Partial<Mirrored> = {}): Mirrored => ({
    _tag: "Mirrored",
    at: 20,
    asked: undefined,
    process: "w0",
    ...{ revision, keys: Object.entries(keys) },
    ...more
  })
  const judged = (views: ReadonlyArray<Mirrored>, operations: ReadonlyArray<Operation> = []) =>
    kinds(Judges.mirrors(entries, views, operations))

  it("has nothing against views that are right, of each mirror in their order", () => {
    const right = [view(1, {}), view(2, { [a]: "1" }), view(4, { [b]: "1" })]
    assert.deepStrictEqual(judged(right), [])
    assert.deepStrictEqual(judged([...right, view(2, { [a]: "1" }, { process: "w1" })]), [])
  })

  it("finds what is there still, not yet, or no more", () => {
    assert.deepStrictEqual(judged([view(4, { [a]: "1", [b]: "1" })]), ["mirror"])
    assert.deepStrictEqual(judged([view(2, { [a]: "1", [b]: "1" })]), ["mirror"])
    assert.deepStrictEqual(judged([view(3, { [b]: "1" })]), ["mirror"])
  })

  it("finds one that goes back", () => {
    assert.deepStrictEqual(judged([view(4, { [b]: "1" }), view(2, { [a]: "1" })]), ["mirror: back"])
  })

  it("finds a fresh view that is behind what was answered before it was asked for", () => {
    const stale = view(2, { [a]: "1" }, { asked: 10 })
    assert.deepStrictEqual(judged([stale], [answered(1, 1, 9, 3)]), ["mirror: stale"])
    assert.deepStrictEqual(judged([stale], [answered(1, 1, 10, 3)]), [])
    assert.deepStrictEqual(judged([{ ...stale, asked: undefined }], [answered(1, 1, 9, 3)]), [])
  })
})

const one = `${locksPrefix}a/1`
const two = `${locksPrefix}a/2`
const leased = `${leasedPrefix}w0-0`

describe("the judge of leases", () => {
  const entries = entriesOf({ [leased]: "held" }, { [one]: "" }, { [leased]: null }, { [one]: null, [deletedKey]: "" })
  const seenAt = new Map(entries.map(({ revision }) => [revision, revision * 1000]))
  const held = (key: string, token: number, at: number): Held => ({ _tag: "Held", key, token, at })
  const judged = (all: ReadonlyArray<Held>, operations: ReadonlyArray<Operation> = []) =>
    Judges.leases(entries, seenAt, all, operations)

  it("has nothing against what is held until it goes, nor where nobody saw it go", () => {
    assert.deepStrictEqual(judged([held(leased, 2, 3999), held(one, 3, 4999)]), [])
    assert.deepStrictEqual(Judges.leases(entries.slice(0, 2), seenAt, [held(leased, 2, 9000)], []), [])
  })

  it("finds what is held although it is gone", () => {
    assert.deepStrictEqual(judged([held(leased, 2, 4500), held(leased, 2, 3000)]), [
      {
        kind: "lease",
        message: `${leased} of revision 2 was deleted at revision 4, and said to be held 500 ms after that.`,
        operations: [],
        at: 4000
      }
    ])
  })

  it("knows from answers as well that it is gone", () => {
    assert.deepStrictEqual(kinds(judged([held(leased, 2, 3900)], [answered(1, 1, 3800, 5)])), ["lease"])
  })

  it("gives who holds what others have deleted time to notice, but no end of it", () => {
    assert.deepStrictEqual(judged([held(one, 3, 17_000)]), [])
    assert.deepStrictEqual(kinds(judged([held(one, 3, 19_000)])), ["unnoticed"])
  })
})

describe("what is expected of etcd", () => {
  const lost: Violation = { kind: "lease", message: "", operations: [], at: 5000 }
  const pause = { kind: "pause", what: "m1", from: 1000, to: 3000 }
  const role = (member: string, at: number, role: "leader" | "follower") => ({ member, at, role, term: 1 })
  const roles = [
    role("m2", 1, "follower"),
    role("m1", 1, "leader"),
    role("m2", 2000, "leader"),
    role("m1", 3001, "follower")
  ]
  const count = (violation: Violation, bands = [pause], all = roles, etcd = "3.6.1") =>
    expected(etcd, [violation], { bands, roles: all }).length

  it("is that a leader that stood still ends leases that another one has renewed, and nothing else", () => {
    assert.strictEqual(count(lost), 1)
    assert.strictEqual(count({ ...lost, kind: "unnoticed" }), 0)
    assert.strictEqual(count({ ...lost, at: undefined }), 0)
    assert.strictEqual(count(lost, [pause], roles, "3.8.0"), 0)
  })

  it("is not where that was long before, or not yet", () => {
    assert.strictEqual(count({ ...lost, at: 9000 }), 0)
    assert.strictEqual(count({ ...lost, at: 900 }), 0)
    assert.strictEqual(count(lost, []), 0)
  })

  it("is not where it did not lead, or leads still", () => {
    assert.strictEqual(count(lost, [{ ...pause, what: "m2" }], [role("m1", 1, "leader"), role("m2", 1, "follower")]), 0)
    assert.strictEqual(count(lost, [pause], roles.slice(0, 2)), 0)
  })
})

describe("the judge of locks", () => {
  const entries = entriesOf({ [one]: "" }, { [two]: "" }, { [one]: null }, { [two]: null, [deletedKey]: "" })
  const judged = (key: string, token: number, revision: number) =>
    kinds(Judges.locks(entries, [{ _tag: "Acquired", key, token, revision }]))

  it("has nothing against who is the first", () => {
    assert.deepStrictEqual(judged(one, 2, 2), [])
    assert.deepStrictEqual(judged(one, 2, 3), [])
    assert.deepStrictEqual(judged(two, 3, 4), [])
  })

  it("finds who is not, not yet, or not there any more", () => {
    assert.deepStrictEqual(judged(two, 3, 3), ["lock"])
    assert.deepStrictEqual(judged(one, 2, 4), ["lock"])
    assert.deepStrictEqual(judged(two, 3, 6), ["lock"])
    assert.deepStrictEqual(judged(two, 2, 4), ["lock"])
  })

  it("lets nobody be the first where all was deleted but who was there until then", () => {
    assert.deepStrictEqual(judged(two, 3, 5), [])
    assert.deepStrictEqual(judged(one, 2, 5), ["lock"])
    assert.deepStrictEqual(judged(two, 4, 5), ["lock"])
  })
})

describe("the judge of bursts", () => {
  const burst = (first: Operation["result"], second: Operation["result"]) => {
    const timed = (id: number, result: Operation["result"], after?: number): [number, Timed] => [
      id,
      { ...answered(id, 1, 2, 1), result, deadline: 1000, after }
    ]
    return kinds(Judges.bursts(new Map([timed(1, first), timed(2, second, 1)])))
  }
  const at = (revision: number) => answered(0, 1, 2, revision).result
  const unknown = { outcome: "unknown", error: "" } as const

  it("finds what was carried out in another order than it was made in", () => {
    assert.deepStrictEqual(burst(at(3), at(4)), [])
    assert.deepStrictEqual(burst(at(4), at(4)), ["burst"])
    assert.deepStrictEqual(burst(at(5), at(4)), ["burst"])
    assert.deepStrictEqual(burst(unknown, at(4)), [])
    assert.deepStrictEqual(burst(at(4), unknown), [])
  })
})

describe("the judge of fences", () => {
  const ledger = `${ledgerPrefix}a`
  const written = (token: number, count: number) => ({ [ledger]: JSON.stringify({ token, count }) })
  const judged = (...all: ReadonlyArray<Readonly<Record<string, Value>>>) => kinds(Judges.fences(entriesOf(...all)))

  it("has nothing against who writes while it holds", () => {
    const right = [{ [one]: "" }, { [two]: "" }, written(2, 1), written(2, 2), { [one]: null }, written(3, 3)]
    assert.deepStrictEqual(judged(...right), [])
  })

  it("finds who writes when its key is gone, never was there, or is of another line", () => {
    assert.deepStrictEqual(judged({ [one]: "" }, { [one]: null }, written(2, 1)), ["fence"])
    assert.deepStrictEqual(judged(written(2, 1)), ["fence"])
    assert.deepStrictEqual(judged({ [`${locksPrefix}b/1`]: "" }, written(2, 1)), ["fence"])
  })

  it("finds who writes after the next one", () => {
    assert.include(judged({ [one]: "" }, { [two]: "" }, written(3, 1), written(2, 2)), "fence")
  })

  it("finds an update that is lost, and one that is made twice", () => {
    assert.deepStrictEqual(judged({ [one]: "" }, written(2, 1), written(2, 3)), ["lost update"])
    assert.deepStrictEqual(judged({ [one]: "" }, written(2, 1), written(2, 1)), ["lost update"])
  })
})

describe("the judge of deadlines", () => {
  const timed = (ended: number | null, client = "w1.0"): Timed => ({
    ...answered(1, 1000, 0, 2),
    ...{ client, ended, deadline: 1000, after: undefined }
  })
  const stop = (from: number, to: number, process = "w1") => ({ process, from, to })
  const judged = (
    operation: Timed,
    stops: ReadonlyArray<ReturnType<typeof stop>> = [],
    ends: Array<[string, number]> = []
  ) => kinds(Judges.deadlines([operation], stops, new Map(ends)))

  it("finds who waits for longer than it has said", () => {
    assert.deepStrictEqual(judged(timed(3500)), [])
    assert.deepStrictEqual(judged(timed(4500)), ["deadline"])
  })

  it("excuses the time in which it did not run, once, and that of nobody else", () => {
    assert.deepStrictEqual(judged(timed(6000), [stop(2000, 4500)]), [])
    assert.deepStrictEqual(judged(timed(8000), [stop(2000, 4500), stop(1990, 4510)]), ["deadline"])
    assert.deepStrictEqual(judged(timed(8000), [stop(2000, 4500), stop(5000, 7000)]), [])
    assert.deepStrictEqual(judged(timed(6000), [stop(2000, 4500, "w1-3"), stop(2000, 4500, "w10")]), ["deadline"])
    assert.deepStrictEqual(judged(timed(6000, "w1-3.0.2"), [stop(2000, 4500, "w1-3")]), [])
    assert.deepStrictEqual(judged(timed(6000), [stop(0, 900), stop(6500, 9000)]), ["deadline"])
  })

  it("finds who waited in vain until its process was killed", () => {
    assert.deepStrictEqual(judged(timed(null), [], [["w1", 9000]]), ["deadline"])
    assert.deepStrictEqual(judged(timed(null), [], [["w1", 2000]]), [])
    assert.deepStrictEqual(judged(timed(null), [stop(1000, 8000)], [["w1", 9000]]), [])
  })
})
