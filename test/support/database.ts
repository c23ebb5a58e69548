/**
 * What members have on their disks.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Node } from "../../src/EtcdProcess.ts"

/** Changes a value where a member has it on its disk, so that nothing but the value is wrong. */
export const replaceInDatabase = (node: Node, from: string, to: string) =>
  Effect.gen(function* () {
    yield* node.stop
    const path = join(node.config.dataDir, "member", "snap", "db")
    const bytes = readFileSync(path)
    let found = 0
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1), found++) bytes.write(to, at)
    assert.isAbove(found, 0)
    writeFileSync(path, bytes)
    yield* node.start
  })
