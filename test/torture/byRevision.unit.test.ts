/**
 * The judge by revisions: small histories, one for each thing that it finds and each oddity that it must bear, and
 * simulated ones, true and damaged, on which it must agree with a search through all orders.
 */
import { assert, describe, it } from "@effect/vitest"
import { makeRandom, type Random } from "../support/random.ts"
import { byRevision, type History } from "./byRevision.ts"
import type { Answered, Call, Comparison, Entry, Instant, Operation, Result, Step, Value } from "./history.ts"
import { type Simulation, simulate } from "./simulation.ts"

// ── words for small histories ──

const puts = (key: string, value: string): Step => ({ do: "put", key, value })
const gets = (key: string): Step => ({ do: "get", key })
const deletes = (key: string): Step => ({ do: "delete", key })

const txn = (
  compare: ReadonlyArray<Comparison>,
  success: ReadonlyArray<Step>,
  failure: ReadonlyArray<Step> = []
): Call => ({
  name: "txn",
  serializable: false,
  compare,
  success,
  failure
})
const put = (key: string, value: string): Call => ({ ...txn([], [puts(key, value)]), name: "put" })
const get = (key: string): Call => ({ ...txn([], [gets(key)]), name: "get" })
const remove = (key: string): Call => ({ ...txn([], [deletes(key)]), name: "delete" })
const batched = (call: Call): Call => ({ ...call, isBatched: true })
const serializable = (call: Call): Call => ({ ...call, serializable: true })

const at = (revision: number, found: ReadonlyArray<Value> = [null], succeeded = true): Answered => ({
  outcome: "answered",
  revision,
  memberId: "1",
  succeeded,
  found
})
const unknown: Result = { outcome: "unknown", error: "unavailable" }
const notApplied: Result = { outcome: "not-applied", error: "refused" }

type Row = readonly [begun: Instant, ended: Instant | null, call: Call, result: Result]

/** The first revision is 1, at which nothing is there. What changes is that of revision 2, 3 … */
const history = (
  changes: ReadonlyArray<{ readonly [key: string]: Value }>,
  rows: ReadonlyArray<Row>,
  mayVanish?: History["mayVanish"]
): History => ({
  initial: { revision: 1, state: new Map() },
  entries: changes.map((changed, index) => ({
    revision: index + 2,
    changes: Object.entries(changed).map(([key, value]) => ({ key, value }))
  })),
  operations: rows.map(([begun, ended, call, result], id) => ({ id, client: `c${id}`, begun, ended, call, result })),
  mayVanish
})

const kinds = (of: History) => byRevision(of).map(({ kind }) => kind)

const bears = (of: History) => assert.deepStrictEqual(byRevision(of), [])

const finds = (of: History, ...expected: ReadonlyArray<string>) => assert.deepStrictEqual(kinds(of), expected)

const putA: Row = [0, 1, put("a", "1"), at(2)]

describe("it bears", () => {
  it("nothing at all", () => bears(history([], [])))

  it("a write and those who read it, or were too early", () => {
    bears(
      history(
        [{ a: "1" }],
        [
          [0, 5, put("a", "1"), at(2)],
          [1, 2, get("a"), at(1, [null])],
          [1, 3, get("a"), at(2, ["1"])],
          [4, 6, get("a"), at(2, ["1"])]
        ]
      )
    )
  })

  it("reads in the same instant in which the write that they see begins, or that they do not see ends", () => {
    bears(history([{ a: "1" }], [putA, [1, 2, get("a"), at(1, [null])]]))
    bears(history([{ a: "1" }], [putA, [0, 0, get("a"), at(2, ["1"])]]))
  })

  it("an unknown write that was done, late, or never", () => {
    const call = put("a", "2")
    bears(history([{ a: "1" }, { a: "2" }], [putA, [2, 3, call, unknown], [3, 4, get("a"), at(3, ["2"])]]))
    bears(history([{ a: "1" }, { a: "2" }], [putA, [2, 3, call, unknown], [9, 10, get("a"), at(2, ["1"])]]))
    bears(history([{ a: "1" }], [putA, [2, 3, call, unknown], [9, 10, get("a"), at(2, ["1"])]]))
  })

  it("a killed client, whose write came", () => {
    bears(history([{ a: "1" }], [[0, null, put("a", "1"), unknown]]))
  })

  it("a delete, and a delete of nothing, with the same revision", () => {
    const both: ReadonlyArray<Row> = [
      [2, 4, remove("a"), at(3)],
      [3, 5, remove("a"), at(3)]
    ]
    bears(history([{ a: "1" }, { a: null }], [putA, ...both]))
    bears(history([{ a: "1" }, { a: null }], [putA, ...both.toReversed()]))
    bears(history([], [[0, 1, remove("a"), at(1)]]))
  })

  it("which of two deletes made the revision, where only their times tell", () => {
    const late: Row = [5, 6, remove("a"), at(3)]
    const early: Row = [2, 4, remove("a"), at(3)]
    bears(history([{ a: "1" }, { a: null }], [putA, late, early]))
  })

  it("batched calls that share a revision, whatever became of them", () => {
    const shared: ReadonlyArray<Row> = [
      [0, 1, batched(put("a", "1")), at(2)],
      [0, 1, batched(put("b", "2")), unknown],
      [2, 3, batched(remove("a")), at(3)],
      [2, 3, batched(remove("b")), unknown],
      [2, 3, batched(put("c", "3")), at(3)]
    ]
    bears(
      history(
        [
          { a: "1", b: "2" },
          { a: null, b: null, c: "3" }
        ],
        shared
      )
    )
    bears(
      history(
        [
          { a: "1", b: "2" },
          { a: null, b: null }
        ],
        shared.slice(0, -1)
      )
    )
  })

  it("what is not judged beside what is", () => {
    const whole = history([{ a: "1", x: "?" }, { x: null }, { y: "?" }], [[0, 1, batched(put("a", "1")), at(2)]])
    bears({ ...whole, isJudged: (key) => key === "a" })
    const beside = history([{ a: "1", x: "?" }], [[0, 1, txn([], [puts("a", "1")]), at(2, [null])]])
    bears({ ...beside, isJudged: (key) => key === "a" })
    finds(beside, "phantom", "torn")
  })

  it("a compare-and-swap that failed, as the read that it is", () => {
    const cas = txn([{ key: "a", value: "0" }], [puts("a", "2")], [gets("a")])
    bears(history([{ a: "1" }], [putA, [2, 3, cas, at(2, ["1"], false)]]))
  })

  it("a transaction that reads what it then overwrites", () => {
    const cas = txn([{ key: "a", value: "1" }], [gets("a"), puts("a", "2"), deletes("b")])
    bears(history([{ a: "1" }, { a: "2" }], [putA, [2, 3, cas, at(3, ["1", null, null])]]))
  })

  it("a deletion that only an unknown delete explains", () => {
    bears(history([{ a: "1" }, { a: null }], [putA, [2, 3, remove("a"), unknown]]))
  })

  it("two unknown deletes and one deletion", () => {
    bears(history([{ a: "1" }, { a: null }], [putA, [2, 3, remove("a"), unknown], [2, 4, remove("a"), unknown]]))
  })

  it("unknown deletes of which one fits two deletions, and the other only one of them", () => {
    const rows: ReadonlyArray<Row> = [
      [0, 1, put("a", "1"), at(2)],
      [2, 3, remove("a"), unknown],
      [2, 3, txn([{ key: "a", value: "1" }], [deletes("a")]), unknown],
      [4, 5, put("a", "2"), at(4)]
    ]
    const changes = [{ a: "1" }, { a: null }, { a: "2" }, { a: null }]
    bears(history(changes, rows))
    bears(history(changes, [rows[0]!, rows[2]!, rows[1]!, rows[3]!]))
  })

  it("an unknown delete that made a revision, and an acknowledged one that came right after", () => {
    const rows: ReadonlyArray<Row> = [
      putA,
      [2, 3, remove("a"), unknown],
      [3, 4, get("a"), at(3, [null])],
      [5, 6, remove("a"), at(3)]
    ]
    bears(history([{ a: "1" }, { a: null }], rows))
  })

  it("keys that go with their lease", () => {
    const isLeased = (key: string) => key !== "b"
    const call = txn([], [puts("a", "1"), puts("b", "2")])
    const rows: ReadonlyArray<Row> = [[0, 1, call, at(2, [null, null])]]
    bears(history([{ a: "1", b: "2" }, { a: null }], rows, isLeased))
    finds(
      history(
        [
          { a: "1", b: "2" },
          { a: null, b: null }
        ],
        rows,
        isLeased
      ),
      "phantom"
    )
  })

  it("transactions without a step in either branch, answered by a member that lags", () => {
    const compares = (value: Value) => txn([{ key: "a", value }], [])
    const rows: ReadonlyArray<Row> = [
      putA,
      [2, 3, compares("1"), at(2, [])],
      [2, 3, compares(null), at(1, [])],
      [2, 3, txn([], []), at(2, [])]
    ]
    bears(history([{ a: "1" }], rows))
  })

  it("serializable reads of the past, and of what was before the run", () => {
    const read = serializable(get("a"))
    bears(history([{ a: "1" }], [putA, [2, 3, read, at(1, [null])], [2, 3, read, at(0, ["before"])]]))
  })

  it("what was there when the run began", () => {
    const rows: ReadonlyArray<Row> = [
      [0, 1, get("a"), at(1, ["0"])],
      [2, 3, remove("a"), at(2)]
    ]
    const initial = { revision: 1, state: new Map([["a", "0"]]) }
    bears({ ...history([{ a: null }], rows), initial })
  })
})

describe("it finds", () => {
  it("an acknowledged write that is not there", () => {
    finds(history([{ b: "2" }], [putA, [0, 1, put("b", "2"), at(2)]]), "lost write")
    finds(
      history([{ a: "1" }, { b: "2" }], [putA, [0, 5, put("b", "2"), at(3)], [2, 3, remove("a"), at(3)]]),
      "lost write"
    )
  })

  it("a write at another revision than was acknowledged", () => {
    const rows: ReadonlyArray<Row> = [
      [0, 5, put("a", "1"), at(3)],
      [0, 5, put("b", "2"), at(2)]
    ]
    assert.includeMembers(kinds(history([{ a: "1" }, { b: "2" }], rows)), ["wrong revision"])
  })

  it("a write that is there, and surely was not applied", () => {
    finds(history([{ a: "1" }], [[0, 1, put("a", "1"), notApplied]]), "phantom")
  })

  it("what nobody wrote, or not there", () => {
    finds(history([{ a: "1" }], []), "phantom")
    finds(history([{ b: "1" }], [[0, 1, put("a", "1"), unknown]]), "phantom")
  })

  it("a write that is there twice", () => {
    const rows: ReadonlyArray<Row> = [[0, 1, put("a", "1"), unknown]]
    finds(history([{ a: "1" }, { a: "1" }], rows), "duplicate")
  })

  it("deletions that nobody made, or too few", () => {
    finds(history([{ a: "1" }, { a: null }], [putA]), "phantom")
    finds(history([{ a: "1" }, { a: null }], [putA, [2, 3, remove("a"), notApplied]]), "phantom")
    const rows: ReadonlyArray<Row> = [putA, [2, 3, remove("a"), unknown], [4, 5, put("a", "2"), at(4)]]
    finds(history([{ a: "1" }, { a: null }, { a: "2" }, { a: null }], rows), "phantom")
  })

  it("a deletion that was there before the unknown delete began", () => {
    const rows: ReadonlyArray<Row> = [putA, [2, 3, get("a"), at(3, [null])], [4, 5, remove("a"), unknown]]
    finds(history([{ a: "1" }, { a: null }], rows), "phantom")
  })

  it("a part of a transaction, acknowledged or unknown", () => {
    const both = txn([], [puts("a", "1"), puts("b", "2")])
    finds(history([{ a: "1" }], [[0, 1, both, at(2, [null, null])]]), "torn")
    finds(history([{ a: "1" }], [[0, 1, both, unknown]]), "torn")
    assert.includeMembers(kinds(history([{ a: "1" }, { b: "2" }], [[0, 1, both, unknown]])), ["torn", "duplicate"])
  })

  it("batched calls in a revision with what none of them has done", () => {
    const a: Row = [0, 1, batched(put("a", "1")), at(2)]
    finds(history([{ a: "1", b: "2" }], [a]), "phantom")
    finds(
      history(
        [{ b: "2" }, { a: "1", b: null }],
        [
          [0, 1, put("b", "2"), at(2)],
          [2, 3, batched(put("a", "1")), at(3)]
        ]
      ),
      "phantom"
    )
    finds(history([{ a: "1", b: "2" }], [a, [0, 1, put("b", "2"), at(2)]]), "torn")
    finds(history([{ b: "2" }], [a, [0, 1, batched(put("b", "2")), at(2)]]), "lost write")
  })

  it("two transactions in one revision", () => {
    const rows: ReadonlyArray<Row> = [putA, [0, 1, put("b", "2"), unknown]]
    assert.includeMembers(kinds(history([{ a: "1", b: "2" }], rows)), ["torn"])
  })

  it("reads of what is not there any more, or never was", () => {
    const rows: ReadonlyArray<Row> = [putA, [2, 3, put("a", "2"), at(3)]]
    const changes = [{ a: "1" }, { a: "2" }]
    finds(history(changes, [...rows, [4, 5, get("a"), at(3, ["1"])]]), "stale read")
    finds(history(changes, [...rows, [4, 5, serializable(get("a")), at(3, ["1"])]]), "stale read")
    finds(history(changes, [...rows, [0, 5, get("a"), at(2, ["2"])]]), "wrong read")
    finds(history(changes, [...rows, [4, 5, get("a"), at(3, [])]]), "wrong read")
  })

  it("a read that is behind what was there before it began", () => {
    finds(history([{ a: "1" }], [putA, [2, 3, get("a"), at(1, [null])]]), "order")
    const seen: Row = [0, 1, serializable(get("a")), at(2, ["1"])]
    const rows: ReadonlyArray<Row> = [[0, 9, put("a", "1"), at(2)], seen, [2, 3, get("a"), at(1, [null])]]
    finds(history([{ a: "1" }], rows), "order")
  })

  it("a read, even a serializable one, of what had not begun to be written", () => {
    finds(
      history(
        [{ a: "1" }],
        [
          [0, 1, get("a"), at(2, ["1"])],
          [2, 3, put("a", "1"), at(2)]
        ]
      ),
      "order"
    )
    finds(
      history(
        [{ a: "1" }],
        [
          [0, 1, serializable(get("a")), at(2, ["1"])],
          [2, null, put("a", "1"), unknown]
        ]
      ),
      "order"
    )
  })

  it("writes in another order than that of their times", () => {
    const rows: ReadonlyArray<Row> = [
      [0, 1, put("a", "1"), at(3)],
      [2, 3, put("b", "2"), at(2)]
    ]
    finds(history([{ b: "2" }, { a: "1" }], rows), "order")
  })

  it("a branch that the state did not demand, acknowledged or unknown", () => {
    const cas = txn([{ key: "a", value: "0" }], [puts("a", "2")], [puts("b", "3")])
    finds(history([{ a: "1" }, { a: "2" }], [putA, [2, 3, cas, at(3, [null], true)]]), "wrong branch")
    finds(history([{ a: "1" }, { a: "2" }], [putA, [2, 3, cas, unknown]]), "wrong branch")
    assert.includeMembers(kinds(history([{ a: "1" }, { a: "2" }], [putA, [2, 3, cas, at(3, [null], false)]])), [
      "wrong branch"
    ])
  })

  it("revisions that are missing, in disorder, empty or undone twice", () => {
    const good = history([{ a: "1" }, { a: "2" }], [putA, [2, 3, put("a", "2"), at(3)]])
    const [first, second] = good.entries
    assert.includeMembers(kinds({ ...good, entries: [second!] }), ["history"])
    assert.includeMembers(kinds({ ...good, entries: [second!, first!] }), ["history"])
    assert.includeMembers(kinds({ ...good, entries: [first!, first!, second!] }), ["history"])
    assert.includeMembers(kinds({ ...good, entries: [first!, second!, { revision: 4, changes: [] }] }), ["history"])
    assert.includeMembers(kinds(history([{ a: null }], [[0, 1, remove("a"), unknown]])), ["history"])
    const twice: Entry = { revision: 2, changes: [...first!.changes, ...first!.changes] }
    assert.includeMembers(kinds({ ...good, entries: [twice, second!] }), ["history"])
  })

  it("answers with a revision that never was", () => {
    finds(history([{ a: "1" }], [putA, [2, 3, get("a"), at(9, ["1"])], [4, 5, get("a"), at(2, ["1"])]]), "history")
    finds(history([{ a: "1" }], [putA, [2, 3, get("a"), at(0, ["1"])]]), "stale read")
    finds(history([{ a: "1" }], [putA, [2, 3, serializable(get("a")), at(0, ["1"])]]), "wrong read")
  })

  it("a value that two write", () => {
    finds(history([{ a: "1" }], [putA, [0, 1, put("a", "1"), unknown]]), "history")
  })

  it("and says of what it is about all that is known", () => {
    const [found] = byRevision(history([{ a: "1" }], [putA, [2, 3.5, get("a"), at(2, [null])]]))
    assert.deepStrictEqual(found, {
      kind: "stale read",
      message:
        'At revision 2 operation 1 (get of c1, from 2 to 3.5) found nothing with its get of a, and it was to find "1".',
      operations: [1]
    })
  })
})

// ── simulated histories ──

/** Whether a correct store could have done it: tries all orders in which the operations may have been done. */
const isPossible = ({ entries, initial, mayVanish, operations }: Simulation): boolean => {
  if (!entries.every(({ revision }, index) => revision === initial.revision + index + 1)) return false
  const states = [initial.state]
  for (const { changes } of entries) states.push(after(states.at(-1)!, changes))

  const isLocal = ({ call }: Operation) => call.serializable || call.success.length + call.failure.length === 0
  const local = operations.filter(isLocal).filter(({ result }) => result.outcome === "answered")
  for (const { call, result } of local) {
    const { found, revision, succeeded } = result as Answered
    const written = new Set(operations.flatMap((other) => [...other.call.success, ...other.call.failure].map(valueOf)))
    if (revision < initial.revision && found.some((value) => value !== null && written.has(value))) return false
    if (revision < initial.revision) continue
    const state = states[revision - initial.revision]
    if (state === undefined || !isAnswer({ found, succeeded }, execute(state, call))) return false
  }

  const others = operations.filter((operation) => !isLocal(operation) && operation.result.outcome !== "not-applied")
  const failed = new Set<string>()
  const search = (made: number, done: ReadonlySet<number>): boolean => {
    const revision = initial.revision + made
    const waiting = others.filter(({ id }) => !done.has(id))
    const answersWaiting = waiting.filter(({ result }) => result.outcome === "answered")
    if (answersWaiting.length === 0 && made === entries.length) return true
    const known = `${made} ${[...done].sort()}`
    if (failed.has(known)) return false
    failed.add(known)
    const state = states[made]!
    const next = entries[made]?.changes
    const vanished = next?.every(({ key, value }) => value === null && mayVanish(key) && state.has(key)) ?? false
    if (vanished && next!.length > 0 && isDistinct(next!) && search(made + 1, done)) return true
    const isTime = ({ begun }: Operation) =>
      !answersWaiting.some(({ ended }) => ended! < begun) &&
      !local.some(({ ended, result }) => ended! < begun && (result as Answered).revision > revision)
    return waiting.filter(isTime).some(({ call, id, result }) => {
      const { changes, found, succeeded } = execute(state, call)
      const isChange = changes.length > 0
      if (isChange && (next === undefined || !isEqual(changes, next))) return false
      const isAnswered =
        result.outcome !== "answered" ||
        (result.revision === revision + (isChange ? 1 : 0) && isAnswer(result, { found, succeeded }))
      return isAnswered && search(made + (isChange ? 1 : 0), new Set([...done, id]))
    })
  }
  return search(0, new Set())
}

const valueOf = (step: Step): Value => (step.do === "put" ? step.value : null)

const after = (state: ReadonlyMap<string, string>, changes: Entry["changes"]): ReadonlyMap<string, string> => {
  const next = new Map(state)
  for (const { key, value } of changes) {
    if (value === null) next.delete(key)
    else next.set(key, value)
  }
  return next
}

const execute = (state: ReadonlyMap<string, string>, call: Call) => {
  const succeeded = call.compare.every(({ key, value }) => (state.get(key) ?? null) === value)
  const steps = succeeded ? call.success : call.failure
  const changes = steps
    .filter((step) => step.do === "put" || (step.do === "delete" && state.has(step.key)))
    .map((step) => ({ key: step.key, value: valueOf(step) }))
  const found = steps.map((step) => (step.do === "get" ? (state.get(step.key) ?? null) : null))
  return { changes, found, succeeded }
}

type Told = Pick<Answered, "found" | "succeeded">

const isAnswer = (told: Told, right: Told): boolean =>
  told.succeeded === right.succeeded && JSON.stringify(told.found) === JSON.stringify(right.found)

const isDistinct = (changes: Entry["changes"]): boolean =>
  new Set(changes.map(({ key }) => key)).size === changes.length

const isEqual = (some: Entry["changes"], others: Entry["changes"]): boolean => {
  const sorted = (changes: Entry["changes"]) =>
    changes
      .map(({ key, value }) => JSON.stringify([key, value]))
      .sort()
      .join()
  return sorted(some) === sorted(others)
}

/** Ways to damage a history. What comes out may be wrong or not, and is undefined where there is nothing to damage. */
const damages: { readonly [name: string]: (run: Simulation, random: Random) => Simulation | undefined } = {
  "an entry dropped": (run, random) => onEntry(run, random, () => []),
  "an entry dropped, and what comes after it counted anew": (run, random) => {
    const entry = oneOf(run.entries, random)
    return entry === undefined
      ? undefined
      : renumbered(
          onEntry(
            run,
            () => run.entries.indexOf(entry),
            () => []
          ),
          entry.revision,
          -1
        )
  },
  "the last entry dropped": (run) =>
    onEntry(
      run,
      () => run.entries.length - 1,
      () => []
    ),
  "a value changed": (run, random) =>
    onEntry(run, random, (entry) => [
      { ...entry, changes: entry.changes.with(0, { ...entry.changes[0]!, value: anyValue(run, random) }) }
    ]),
  "a change dropped": (run, random) =>
    onEntry(run, random, (entry) => [{ ...entry, changes: entry.changes.toSpliced(random(entry.changes.length), 1) }]),
  "a change added": (run, random) =>
    onEntry(run, random, (entry) => [
      { ...entry, changes: [...entry.changes, { key: anyKey(run, random), value: anyValue(run, random) }] }
    ]),
  "an entry repeated at the end": (run, random) => {
    const entry = oneOf(run.entries, random)
    const revision = run.initial.revision + run.entries.length + 1
    return entry && { ...run, entries: [...run.entries, { ...entry, revision }] }
  },
  "a deletion added, and what comes after it counted anew": (run, random) => {
    const key = anyKey(run, random)
    return onEntry(renumbered(run, 1 + random(9), 1), random, (entry) => [
      { revision: entry.revision - 1, changes: [{ key, value: null }] },
      entry
    ])
  },
  "two revisions swapped": (run, random) => {
    const [one, other] = [random(run.entries.length), random(run.entries.length)]
    const [first, second] = [run.entries[one], run.entries[other]]
    if (first === undefined || second === undefined) return undefined
    const entries = run.entries
      .with(one, { ...first, changes: second.changes })
      .with(other, { ...second, changes: first.changes })
    return { ...run, entries }
  },
  "two entries in disorder": (run, random) => {
    const one = random(run.entries.length - 1)
    if (run.entries.length < 2) return undefined
    return { ...run, entries: run.entries.with(one, run.entries[one + 1]!).with(one + 1, run.entries[one]!) }
  },
  "an operation dropped": (run, random) => onOperation(run, random, () => []),
  "an operation said not to be applied": (run, random) =>
    onOperation(run, random, (operation) => [{ ...operation, result: notApplied }]),
  "an operation at another time": (run, random) =>
    onOperation(run, random, ({ begun, ended, ...operation }) => {
      const later = random(60) - 30
      return [{ ...operation, begun: begun + later, ended: ended === null ? null : ended + later }]
    }),
  "an answer with another revision": (run, random) =>
    onAnswer(run, random, (answer) => ({ ...answer, revision: answer.revision + random(5) - 2 })),
  "an answer of the other branch": (run, random) =>
    onAnswer(run, random, (answer, { call }) => {
      const succeeded = !answer.succeeded
      const steps = succeeded ? call.success : call.failure
      return {
        ...answer,
        succeeded,
        found: steps.map((step, index) => (step.do === "get" ? (answer.found[index] ?? null) : null))
      }
    }),
  "an answer with something else found": (run, random) =>
    onAnswer(run, random, (answer) =>
      answer.found.length === 0
        ? answer
        : { ...answer, found: answer.found.with(random(answer.found.length), anyValue(run, random)) }
    ),
  "a serializable read taken for a linearizable one": (run, random) =>
    onOperation(run, random, (operation) => [{ ...operation, call: { ...operation.call, serializable: false } }])
}

const oneOf = <A>(all: ReadonlyArray<A>, random: Random): A | undefined => all[random(all.length)]

const anyKey = ({ operations }: Simulation, random: Random): string => {
  const steps = operations.flatMap(({ call }) => [...call.success, ...call.failure])
  return oneOf(steps, random)?.key ?? "0/0"
}

const anyValue = ({ entries }: Simulation, random: Random): Value =>
  oneOf([null, "nobody's", ...entries.flatMap(({ changes }) => changes.map(({ value }) => value))], random)!

const onEntry = (run: Simulation, random: Random, change: (entry: Entry) => ReadonlyArray<Entry>): Simulation => {
  const index = random(run.entries.length)
  return { ...run, entries: run.entries.flatMap((entry, other) => (other === index ? change(entry) : [entry])) }
}

const onOperation = (
  run: Simulation,
  random: Random,
  change: (operation: Operation) => ReadonlyArray<Operation>
): Simulation => {
  const index = random(run.operations.length)
  return { ...run, operations: run.operations.flatMap((one, other) => (other === index ? change(one) : [one])) }
}

const onAnswer = (run: Simulation, random: Random, change: (answer: Answered, operation: Operation) => Answered) => {
  const operation = oneOf(
    run.operations.filter(({ result }) => result.outcome === "answered"),
    random
  )
  if (operation === undefined) return undefined
  const result = change(operation.result as Answered, operation)
  return onOperation(
    run,
    () => run.operations.indexOf(operation),
    () => [{ ...operation, result }]
  )
}

const renumbered = (run: Simulation, from: number, by: number): Simulation => {
  const count = <A extends { readonly revision: number }>(one: A): A =>
    one.revision >= from ? { ...one, revision: one.revision + by } : one
  return {
    ...run,
    entries: run.entries.map(count),
    operations: run.operations.map((operation) =>
      operation.result.outcome === "answered" ? { ...operation, result: count(operation.result) } : operation
    )
  }
}

/** Less is known than could be: it must not make a history wrong. */
const forget = (run: Simulation, random: Random): Simulation =>
  onOperation(run, random, (operation) => [{ ...operation, result: unknown }])

const small = (seed: number): Simulation => {
  const random = makeRandom(seed)
  const run = simulate({ seed, operations: 4 + random(8), clients: 2 + random(3), groups: 2, keys: 1 + random(2) })
  return random(2) === 0 ? run : forget(forget(run, random), random)
}

describe("of simulated clients of a correct store", () => {
  it("it bears everything", () => {
    for (let seed = 0; seed < 100; seed++) {
      assert.deepStrictEqual(byRevision(simulate({ seed, operations: 300 })), [], `seed ${seed}`)
    }
  })

  it("it bears that clients do not know what became of what they did", () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = makeRandom(seed)
      let run = simulate({ seed, operations: 300, keys: 1 })
      for (let count = 0; count < 200; count++) run = forget(run, random)
      assert.deepStrictEqual(byRevision(run), [], `seed ${seed}`)
    }
  })

  it("a search through all orders finds one", () => {
    for (let seed = 0; seed < 300; seed++) assert.isTrue(isPossible(small(seed)), `seed ${seed}`)
  })

  for (const [name, damage] of Object.entries(damages)) {
    it(`with ${name}, it agrees with a search through all orders`, () => {
      let wrong = 0
      for (let seed = 0; seed < 500; seed++) {
        const damaged = damage(small(seed), makeRandom(seed))
        if (damaged === undefined) continue
        const violations = byRevision(damaged)
        const message = `seed ${seed}: ${violations.map((one) => one.message).join(" ") || "nothing against it"}`
        assert.strictEqual(violations.length === 0, isPossible(damaged), message)
        if (violations.length > 0) wrong++
      }
      assert.isAbove(wrong, 0)
    })
  }
})
