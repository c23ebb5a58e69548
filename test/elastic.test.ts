/**
 * Instances come together whatever befalls them, and nothing is lost: a short run of what `npm run elastic` does for as long
 * as one likes.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { run } from "./elastic/run.ts"

describe("instances that embed a member", () => {
  it.live("are one cluster with as many voters as declared in the end, which has all that was acknowledged", () =>
    Effect.gen(function* () {
      const report = yield* run({ seconds: 3, seed: 7, size: 3, pauseMillis: 50 })
      assert.deepStrictEqual(report.problems, [])
      assert.isAbove(report.written, 0)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
