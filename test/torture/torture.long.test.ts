/**
 * What programs are told while everything goes wrong can be true: a short run of what `npm run torture` does for as long as
 * one likes.
 */
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { temporaryDirectory } from "../support/machine.ts"
import { report } from "./report.ts"
import { torture } from "./torture.ts"

describe("a cluster under torture", () => {
  it.live("keeps all that its clients promise", () =>
    Effect.gen(function* () {
      const run = yield* torture({
        ...{ seconds: 4, seed: 7, size: 3, workers: 2, clients: 3, groups: 5 },
        ...{ plant: undefined, binary: undefined, command: "npm run torture" },
        directory: join(yield* temporaryDirectory, "torture")
      })
      const known = run.expected.map(({ violation }) => violation)
      assert.deepStrictEqual(
        run.verdicts.flatMap(({ violations }) => violations).filter((violation) => !known.includes(violation)),
        []
      )
      assert.isAbove(run.operations.filter(({ result }) => result.outcome === "answered").length, 50)
      assert.isAbove(run.bands.length, 0)
      assert.include(report(run), "npm run torture")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
