/**
 * The pictures of the README and the guides, which are made of what was measured, and of nothing else.
 */
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { made } from "../benchmark/pictures.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

describe("the pictures of docs/", () => {
  it("are what the results of benchmark/ make (npm run bench -- pictures)", () => {
    const files = made()
    assert.isAbove(files.size, 0)
    for (const [file, content] of files) assert.isTrue(readFileSync(join(root, file), "utf8") === content, file)
  })

  it("say what they show, fetch and run nothing, and have no number that is none", () => {
    for (const [file, content] of made()) {
      if (!file.endsWith(".svg")) continue
      assert.match(content, /<title id="title">.+<\/title>\n<desc id="desc">.+<\/desc>/)
      assert.notMatch(content, /NaN|undefined|Infinity|<script|href|url\(/)
      assert.isBelow(content.length, 64 * 1024)
    }
  })
})
