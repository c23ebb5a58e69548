/**
 * Locks exclude, whatever befalls who holds them, and their fence is needed for it. Two short runs beside each other of
 * what `npm run exclusion` does for as long as one likes.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as EtcdCluster from "../../src/EtcdCluster.ts"
import { type Options, run } from "./exclusion/run.ts"

const options: Omit<Options, "fence" | "prefix"> = { seconds: 2, seed: 7, processes: 2, fibers: 3, ttlMillis: 1000 }

describe("locks", () => {
  it.live("let nobody write whose time is over, if there is a fence, and leave nothing behind", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const [fenced, unfenced] = yield* Effect.all(
        [
          run(cluster, { ...options, fence: true, prefix: "fenced/" }),
          run(cluster, { ...options, fence: false, prefix: "unfenced/" })
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(fenced.ledgerProblems, [])
      assert.deepStrictEqual(fenced.problems, [])
      assert.deepStrictEqual(unfenced.problems, [])
      assert.isTrue(fenced.works > 0 && fenced.written > 0 && fenced.filesAccepted > 0)
      // Otherwise nothing was shown.
      assert.isNotEmpty(unfenced.ledgerProblems)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
