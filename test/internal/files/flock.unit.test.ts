import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { delimiter, join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { hold } from "../../../src/internal/files/flock.ts"
import { temporaryDirectory } from "../../support/machine.ts"

const locks = spawnSync("flock", ["--version"]).status === 0

/** As that of busybox: it knows few options, and ends for others as where somebody else has the lock. */
const poor = `#!/bin/sh
for each in "$@"; do
  case $each in --timeout | --no-fork | --conflict-exit-code | -w | -o | -E | -F) exit 1 ;; esac
done
PATH=\${PATH#*:} exec flock "$@"
`

const withPath = <A, E, R>(path: string, effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const before = process.env.PATH
      process.env.PATH = path
      return before
    }),
    () => effect,
    (before) => Effect.sync(() => (process.env.PATH = before))
  )

const twice = (directory: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      return [yield* hold(directory), yield* Effect.scoped(hold(directory))]
    })
  )

describe("a directory", () => {
  it.live("is held by one at a time, and only where that can be", (context) =>
    Effect.gen(function* () {
      if (!locks) return context.skip()
      const directory = yield* temporaryDirectory
      assert.deepStrictEqual(yield* twice(directory), [false, true])
      assert.deepStrictEqual(yield* twice(directory), [false, true])

      const missing = join(directory, "missing")
      assert.deepStrictEqual(yield* twice(missing), [false, false])
      assert.isFalse(existsSync(missing))

      const bin = join(directory, "bin")
      mkdirSync(bin)
      writeFileSync(join(bin, "flock"), poor, { mode: 0o755 })
      assert.deepStrictEqual(yield* withPath([bin, process.env.PATH].join(delimiter), twice(directory)), [false, true])
      assert.deepStrictEqual(yield* withPath(join(directory, "none"), twice(directory)), [false, false])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
