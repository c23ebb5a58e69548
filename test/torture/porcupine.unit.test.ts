/**
 * The judge by search and porcupine (https://github.com/anishathalye/porcupine), which are made by different people, agree on
 * histories by hand and by chance. The Go program around it is in `porcupine/`; where it cannot be built, nothing is tested.
 */
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { build } from "../support/go.ts"
import { makeRandom } from "../support/random.ts"
import { check } from "./bySearch.ts"
import { histories } from "./histories/index.ts"
import { randomHistory, spoil } from "./histories/random.ts"
import type { Operation } from "./history.ts"

const go = build(join(import.meta.dirname, "porcupine"), "go-porcupine")

interface Case {
  readonly initial: ReadonlyMap<string, string>
  readonly operations: ReadonlyArray<Operation>
}

const theirs = (cases: ReadonlyArray<Case>): ReadonlyArray<string> => {
  const line = ({ initial, operations }: Case) => JSON.stringify({ initial: Object.fromEntries(initial), operations })
  const result = spawnSync(go.executable!, {
    input: cases.map(line).join("\n"),
    encoding: "utf8",
    maxBuffer: 100_000_000,
    env: {}
  })
  assert.strictEqual(result.status, 0, result.stderr)
  return result.stdout.trim().split("\n")
}

const ours = ({ initial, operations }: Case): string => {
  const findings = check(operations, { timeoutMillis: 60_000, initial })
  return findings.some(({ kind }) => kind === "undecided") ? "undecided" : `${findings.length === 0}`
}

const noGo = go.executable === undefined ? ` (skipped: ${go.problem})` : ""

describe("porcupine and the judge by search", () => {
  it.skipIf(go.executable === undefined)(`say what is expected of histories by hand${noGo}`, () => {
    const verdicts = theirs(histories)
    for (const [index, history] of histories.entries()) {
      const { isLinearizable, name } = history
      const three = { name, expected: `${isLinearizable}`, ours: ours(history), theirs: verdicts[index] }
      assert.deepStrictEqual(three, { name, expected: three.expected, ours: three.expected, theirs: three.expected })
    }
  })

  it.skipIf(go.executable === undefined)(
    `find nothing linearizable in what is shrunk of histories that are not${noGo}`,
    () => {
      const shrunk = histories.flatMap(({ initial, operations }) =>
        check(operations, { timeoutMillis: 60_000, initial }).map((one) => ({ initial, operations: one.shrunk }))
      )
      assert.deepStrictEqual(new Set(theirs(shrunk)), new Set(["false"]))
    }
  )

  it.skipIf(go.executable === undefined)(`say the same of thousands of histories by chance${noGo}`, () => {
    const random = makeRandom(2)
    const cases = Array.from({ length: 2000 }, () => {
      const size = { operations: 4 + random(20), clients: 2 + random(5), keys: 1 + random(4), unknown: random(5) }
      const straight = randomHistory(random, { ...size, unknown: Math.min(size.unknown, size.operations) })
      const spoilt = spoil(random, straight)
      return [straight, spoilt, spoil(random, spoilt)].map((operations) => ({ initial: new Map(), operations }))
    }).flat()
    const verdicts = theirs(cases)
    for (const [index, one] of cases.entries()) {
      assert.strictEqual(ours(one), verdicts[index], JSON.stringify(one.operations))
    }
    for (const verdict of ["true", "false"]) {
      assert.isAbove(verdicts.filter((one) => one === verdict).length, cases.length / 10)
    }
  })
})
