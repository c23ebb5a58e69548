/**
 * The programs of the README and of the guides, compiled and run as they stand. Those that are of a test, or are one, are files
 * of `examples/`, which are compiled and run as they stand there.
 */
import { execFile, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { indexes, modules, source } from "../scripts/modules.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { freePort } from "./support/machine.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const programs = (markdown: string) => Array.from(markdown.matchAll(/^```ts\n([\s\S]*?)^```$/gm), (match) => match[1]!)

/** The files of `examples/` that a guide shows. */
const shown = readdirSync(join(root, "examples", "testing")).map((name) =>
  readFileSync(join(root, "examples", "testing", name), "utf8")
)

/** What stands between the fences of the `@example` blocks of a module. */
const examples = (source: string) =>
  programs(
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

describe("README", () => {
  it.live(
    "its programs, those of the guides, and the examples of the API's documentation, compile; and its programs run",
    () =>
      Effect.gen(function* () {
        const guides = readdirSync(join(root, "docs")).map((name) => join("docs", name))
        const all = [join(root, "README.md"), ...guides].flatMap((page) => programs(readFileSync(page, "utf8")))
        for (const file of shown) assert.include(all, file)
        const sources = all.filter((program) => !shown.includes(program))
        assert.isAbove(sources.length, 4)
        const node = yield* EtcdProcess.ephemeral({}, { log: false })
        const [clientPort, peerPort] = [yield* freePort, yield* freePort]
        const place = yield* directory
        const write = (name: string, source: string) => {
          const file = join(place, name)
          writeFileSync(file, source)
          return file
        }
        const files = sources.map((source, index) =>
          write(
            `program${index}.ts`,
            source
              .replaceAll("http://127.0.0.1:2379", node.endpoints[0])
              .replaceAll("}:2379", `}:${clientPort}`)
              .replaceAll("}:2380", `}:${peerPort}`)
          )
        )
        const exampleFiles = [...indexes, ...modules].flatMap((place) =>
          examples(readFileSync(join(source, `${place}.ts`), "utf8")).map((example, index) =>
            write(`${place.replaceAll("/", ".")}.${index}.ts`, `${example}\nexport {}\n`)
          )
        )
        assert.isAbove(exampleFiles.length, 30)
        compile(place, [...files, ...exampleFiles])
        const results = yield* Effect.forEach(files, run, { concurrency: 2 })
        for (const [index, result] of results.entries()) {
          assert.strictEqual(result.code, 0, `program ${index}:\n${sources[index]}\n${result.output}`)
        }
        assert.include(results[0]!.output, "world")
        assert.include(results[1]!.output, "Put settings/color green")
        assert.include(results[2]!.output, "this one leads\ndb/version is 2")
        assert.include(results[3]!.output, "the leader's work")
        assert.include(results[4]!.output, "node")
        assert.match(results[5]!.output, /saved up to revision \d+n\n.*\[\]/s)
        assert.match(results[6]!.output, /remove node\d.*world.*quorum-at-risk/s)
        assert.include(results[7]!.output, "127.0.0.1 is a Voter")
        assert.include(results[8]!.output, "tries: 0")
        assert.include(results[9]!.output, "not-applied")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it("its links, and those of the guides, lead somewhere", () => {
    for (const page of ["README.md", "docs/coordination.md", "docs/from-etcd3.md", "docs/testing.md"]) {
      for (const [, target] of readFileSync(join(root, page), "utf8").matchAll(/\]\(([^)#]+)\)/g)) {
        if (!target!.startsWith("http")) assert.isTrue(existsSync(join(root, dirname(page), target!)), target)
      }
    }
  })
})
