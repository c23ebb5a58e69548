import { assert, describe, it } from "@effect/vitest"
import { makeRandom } from "../support/random.ts"
import { check, type Finding } from "./bySearch.ts"
import { histories } from "./histories/index.ts"
import { parse } from "./histories/notation.ts"
import { randomHistory, spoil } from "./histories/random.ts"
import type { Operation, Step, Value } from "./history.ts"

type State = ReadonlyMap<string, string>

const judge = (operations: ReadonlyArray<Operation>, initial: State = new Map()): ReadonlyArray<Finding> =>
  check(operations, { timeoutMillis: 60_000, initial })

const isKnown = ({ ended, result }: Operation): boolean => ended !== null && result.outcome === "answered"

/** What an operation makes of a state; nothing if it cannot have had its result. */
const perform = (state: State, { call, ended, result }: Operation): State | undefined => {
  const holds = (key: string, value: Value) => (state.get(key) ?? null) === value
  const succeeded = call.compare.every(({ key, value }) => holds(key, value))
  const steps: ReadonlyArray<Step> = succeeded ? call.success : call.failure
  if (ended !== null && result.outcome === "answered") {
    const isRight = steps.every((step, index) => step.do !== "get" || holds(step.key, result.found[index]!))
    if (succeeded !== result.succeeded || !isRight) return undefined
  }
  const after = new Map(state)
  for (const step of steps) {
    if (step.do === "put") after.set(step.key, step.value)
    if (step.do === "delete") after.delete(step.key)
  }
  return after
}

/** Tries all orders. */
const hasOrder = (operations: ReadonlyArray<Operation>, state: State): boolean => {
  if (!operations.some(isKnown)) return true
  return operations.some((one, index) => {
    if (operations.some((before) => isKnown(before) && before.ended! < one.begun)) return false
    const after = perform(state, one)
    return after !== undefined && hasOrder(operations.toSpliced(index, 1), after)
  })
}

const takesPart = ({ call, result }: Operation) => !call.serializable && result.outcome !== "not-applied"

describe("the judge by search", () => {
  describe.each([
    ["finds an order where", true],
    ["finds none where", false]
  ] as const)("%s", (_, isLinearizable) => {
    for (const { initial, name, operations } of histories.filter((one) => one.isLinearizable === isLinearizable)) {
      it(name, () => {
        const kinds = judge(operations, initial).map(({ kind }) => kind)
        assert.deepStrictEqual(kinds, isLinearizable ? [] : ["not linearizable"])
      })
    }
  })

  it("is judged by histories that have names of their own, about half of them linearizable", () => {
    assert.strictEqual(new Set(histories.map(({ name }) => name)).size, histories.length)
    assert.isAtLeast(histories.length, 200)
    const right = histories.filter(({ isLinearizable }) => isLinearizable).length
    assert.isTrue(right > histories.length * 0.4 && right < histories.length * 0.6)
  })

  it("says of small histories what trying all orders says", () => {
    const random = makeRandom(1)
    const verdicts = { true: 0, false: 0 }
    for (let count = 0; count < 4000; count++) {
      const size = { operations: 2 + random(5), clients: 2 + random(4), keys: 1 + random(3), unknown: random(3) }
      const straight = randomHistory(random, size)
      for (const operations of [straight, spoil(random, spoil(random, spoil(random, straight)))]) {
        const expected = hasOrder(operations.filter(takesPart), new Map())
        assert.strictEqual(judge(operations).length === 0, expected, JSON.stringify(operations))
        verdicts[`${expected}`]++
      }
    }
    assert.isAbove(verdicts.true, 1000)
    assert.isAbove(verdicts.false, 1000)
  })

  it("says of a history that was made by a store that is right that it is linearizable", () => {
    for (const unknown of [0, 10, 50]) {
      const operations = randomHistory(makeRandom(unknown), { operations: 2000, clients: 8, keys: 4, unknown })
      assert.deepStrictEqual(judge(operations), [])
    }
  })

  it("finds one stale get in a long history, and shows it with the two writes that it is about", () => {
    const before = randomHistory(makeRandom(7), { operations: 1000, clients: 8, keys: 3, unknown: 5 })
    const stale = parse("s 0-1 put a old | s 2-3 put a new | s 4-5 get a old | s 6-7 put a last")
    const from = Math.max(...before.map(({ ended }) => ended ?? 0)) + 1
    const after = stale.map((one) => ({ ...one, id: one.id + 1000, begun: one.begun + from, ended: one.ended! + from }))
    const [finding] = judge([...before, ...after])
    assert.deepStrictEqual(finding?.operations, [1000, 1001, 1002])
  })

  it("shrinks what is not linearizable to what is not linearizable, and to nothing that was not there", () => {
    for (const { initial, isLinearizable, name, operations } of histories) {
      if (isLinearizable) continue
      const [{ longest, shrunk }] = judge(operations, initial) as [Finding]
      assert.isTrue(shrunk.length > 0 && shrunk.length <= operations.length, name)
      assert.strictEqual(judge(shrunk, initial)[0]?.kind, "not linearizable", name)
      const byId = new Map(operations.map((one) => [one.id, one]))
      assert.isTrue(
        [...longest, ...shrunk.map(({ id }) => id)].every((id) => byId.has(id)),
        name
      )
      const end = longest.reduce(
        (state: State | undefined, id) => state && perform(state, byId.get(id)!),
        initial as State | undefined
      )
      assert.isDefined(end, name)
    }
  })

  it("leaves no write out that somebody has seen", () => {
    // That 1 was found is right, and 3 is what is wrong.
    const [finding] = judge(parse("a 0-1 put x 1 | b 2-3 get x 1 | a 4-5 put x 2 | b 6-7 do get x 2, get y 3"))
    assert.deepStrictEqual(
      finding?.shrunk.map(({ call, id }) => [id, call.success]),
      [[3, [{ do: "get", key: "g/y" }]]]
    )
  })

  it("shows what is not linearizable", () => {
    const [finding] = judge(
      parse("alice 0-2 put x 1 | bob 1-4 cas x 1 2 ok | carol 3-6 cas x 1 3 ok | dave 5-? put y 9 | bob 7-8 get y -")
    )
    assert.strictEqual(
      finding?.message,
      [
        "It was found that 1 of the 5 operations on g/ are possible one after the other. These are not, in no order:",
        "  alice  [=======]              0 … 2  #0 put: put x 1",
        "  bob        [===========]      1 … 4  #1 cas: get x (found 1), put x 2",
        "  carol              [=======]  3 … 6  #2 cas: get x (found 1), put x 3"
      ].join("\n")
    )
  })

  it("says that it has found nothing out when its time is over, and does not pass", () => {
    const operations = parse("a 0-1 put x 1 | b 2-3 get x 1 | c 0-1 put h/x 1")
    const findings = check(operations, { timeoutMillis: 0 })
    assert.deepStrictEqual(
      findings.map(({ kind, operations }) => [kind, operations]),
      [
        ["undecided", [2]],
        ["undecided", [0, 1]]
      ]
    )
  })
})
