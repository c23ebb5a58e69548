/**
 * The programs of the README and of the guides, compiled and run as they stand, which print what the pages say (see
 * `support/pages.ts`). Those that are tests are files of `examples/`, which run with all others.
 */
import { execFile, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { indexes, modules, source } from "../scripts/modules.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { freePort } from "./support/machine.ts"
import { anchors, differs, links, type Program, pages, programs } from "./support/pages.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const from = (markdown: string) => Array.from(markdown.matchAll(/^```ts\n([\s\S]*?)^```$/gm), (match) => match[1]!)

/** What stands between the fences of the `@example` blocks of a module. */
const examples = (source: string) =>
  from(
    Array.from(source.matchAll(/^ *\/\*\*\n([\s\S]*?)\*\//gm), (match) => match[1]!.replace(/^ *\* ?/gm, "")).join("\n")
  )

const compile = (place: string, files: ReadonlyArray<string>) => {
  const config = join(place, "tsconfig.json")
  const compilerOptions = { noUnusedLocals: false }
  writeFileSync(config, JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions, include: [], files }))
  const tsc = spawnSync(join(root, "node_modules/.bin/tsc"), ["--noEmit", "-p", config], { encoding: "utf8" })
  assert.strictEqual(tsc.stdout, "")
}

/** A directory inside the package, so that the programs find it, and its dependencies, by name. */
const directory = Effect.acquireRelease(
  Effect.sync(() => {
    mkdirSync(join(root, ".readme"), { recursive: true })
    return mkdtempSync(join(root, ".readme", "run-"))
  }),
  (directory) =>
    Effect.sync(() => {
      rmSync(directory, { recursive: true, force: true })
      if (readdirSync(dirname(directory)).length === 0) rmSync(dirname(directory), { recursive: true })
    })
)

/** Each keeps its data beside itself. */
const run = (file: string) =>
  Effect.callback<{ readonly code: number; readonly output: string }>((resume) => {
    const child = execFile(
      process.execPath,
      ["--conditions=effect-etcd-source", "--no-warnings", file],
      { cwd: root, env: { ...process.env, NO_COLOR: "1", DATA_DIR: `${file}.data` } },
      (error, stdout, stderr) =>
        resume(Effect.succeed({ code: error === null ? 0 : Number(error.code ?? 1), output: `${stdout}${stderr}` }))
    )
    return Effect.sync(() => child.kill())
  })

const all = pages(root).flatMap((page) => programs(root, page))

const isRun = ({ file }: Program) => file === undefined || file.endsWith("/main.ts")

/** `examples/demo` is what `npm run demo` runs. */
const tasks = readdirSync(join(root, "examples")).filter((task) => task !== "demo")

const filesOf = (task: string) =>
  readdirSync(join(root, "examples", task), { recursive: true, encoding: "utf8" })
    .map((name) => join("examples", task, name))
    .filter((file) => statSync(join(root, file)).isFile())

describe("README", () => {
  it.live("its programs, and those of the guides, print what the pages say", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { log: false })
      const place = yield* directory
      // Programs run side by side, so each has ports of its own.
      const write = Effect.fnUntraced(function* (name: string, source: string) {
        const file = join(place, name)
        mkdirSync(dirname(file), { recursive: true })
        const [clientPort, peerPort] = /}:23[78]/.test(source) ? [yield* freePort, yield* freePort] : []
        writeFileSync(
          file,
          source
            .replaceAll("http://127.0.0.1:2379", node.endpoints[0])
            .replaceAll("}:2379", `}:${clientPort}`)
            .replaceAll("}:2380", `}:${peerPort}`)
        )
      })
      for (const file of tasks.flatMap(filesOf)) {
        if (!file.endsWith(".test.ts")) yield* write(file, readFileSync(join(root, file), "utf8"))
      }
      const files: Array<readonly [Program, string]> = []
      for (const program of all.filter(isRun)) {
        const { at, file = `${at.replace(":", "-")}.ts`, source } = program
        if (program.file === undefined) yield* write(file, source)
        files.push([program, join(place, file)])
      }
      compile(
        place,
        files.map(([, file]) => file)
      )
      const wrong = yield* Effect.forEach(
        files,
        ([program, file]) =>
          Effect.map(run(file), ({ code, output }) => {
            const problem = code === 0 ? differs(program, output) : `it ends with ${code}`
            return problem === undefined ? [] : [`${program.at}: ${problem}\n${output}`]
          }),
        { concurrency: 2 }
      )
      assert.strictEqual(wrong.flat().join("\n"), "")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

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
    const shown = all.flatMap(({ file }) => file ?? [])
    assert.deepStrictEqual(shown.toSorted(), tasks.flatMap(filesOf).toSorted())
    for (const { at, file, source } of all) {
      if (file !== undefined) assert.strictEqual(source, readFileSync(join(root, file), "utf8"), at)
    }
  })

  it("its links, and those of the guides, lead somewhere", () => {
    const lead = pages(root).flatMap((page) =>
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
