/**
 * The programs of the README, compiled and run as they stand, which print what it says (see `support/pages.ts`); the examples of
 * the API's documentation; and what else must hold of pages. Those that are tests are files of `examples/`, which run with all
 * others, and those of the guides are run by `guides.test.ts`.
 */
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { indexes, modules, source } from "../scripts/modules.ts"
import {
  alone,
  anchors,
  compile,
  directory,
  exampleFiles,
  guides,
  isRun,
  links,
  printWhatIsSaid,
  programs,
  root
} from "./support/pages.ts"

const from = (markdown: string) => Array.from(markdown.matchAll(/^```ts\n([\s\S]*?)^```$/gm), (match) => match[1]!)

/** What stands between the fences of the `@example` blocks of a module. */
const examples = (source: string) =>
  from(
    Array.from(source.matchAll(/^ *\/\*\*\n([\s\S]*?)\*\//gm), (match) => match[1]!.replace(/^ *\* ?/gm, "")).join("\n")
  )

const readme = "README.md"

describe("README", () => {
  it.live("its programs print what it says", () => Effect.provide(printWhatIsSaid([readme]), NodeServices.layer))

  it.live("the examples of the API's documentation compile", () =>
    Effect.gen(function* () {
      const place = yield* directory
      const files = [...indexes, ...modules].flatMap((module) =>
        examples(readFileSync(join(source, `${module}.ts`), "utf8")).map((example, index) => {
          const file = join(place, `${module.replaceAll("/", ".")}.${index}.ts`)
          writeFileSync(file, `${example}\nexport {}\n`)
          return file
        })
      )
      assert.isAbove(files.length, 30)
      compile(place, files)
    }).pipe(Effect.scoped)
  )

  it("the files of the examples are shown once, as they are", () => {
    const all = [readme, ...guides].flatMap(programs)
    const shown = all.flatMap(({ file }) => file ?? [])
    assert.deepStrictEqual(shown.toSorted(), exampleFiles.toSorted())
    for (const { at, file, source } of all) {
      if (file !== undefined) assert.strictEqual(source, readFileSync(join(root, file), "utf8"), at)
    }
  })

  it("each file of the examples is run, or imported by one that is", () => {
    const imported = (file: string): ReadonlyArray<string> =>
      Array.from(readFileSync(join(root, file), "utf8").matchAll(/\bfrom "(\.[^"]+)"/g), ([, path]) =>
        join(dirname(file), path!)
      )
    const shown = guides.flatMap(programs).filter((program) => program.file !== undefined && isRun(program))
    const all = globSync("examples/**/*.*", { cwd: root })
    const reached = new Set([
      ...shown.map(({ file }) => file!),
      ...Object.values(alone),
      ...all.filter((file) => file.endsWith(".test.ts"))
    ])
    for (const file of reached) for (const other of imported(file)) reached.add(other)
    assert.deepStrictEqual([...reached].toSorted(), all.toSorted())
  })

  it("its links, and those of the guides, lead somewhere", () => {
    const lead = [readme, ...guides].flatMap((page) =>
      links(readFileSync(join(root, page), "utf8")).flatMap((link) => {
        const [path, name] = link.split("#")
        const target = path === "" ? join(root, page) : join(root, dirname(page), path!)
        const leads = existsSync(target) && (name === undefined || anchors(readFileSync(target, "utf8")).has(name))
        return leads ? [] : [`${page}: ${link}`]
      })
    )
    assert.deepStrictEqual(lead, [])
  })
})
