/**
 * The programs of the README and of the guides, and what the pages say that they print.
 *
 * A block `ts` is a program. One with a path after the language is that file of the repo, and is run if it is the `main.ts` of its
 * folder. The block `text` that follows a program, before the next one, has lines that it prints, in their order; others may
 * stand between them. There `…` is for anything within a line. A program without such a block prints nothing.
 */
import { execFile, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RegEx from "effect/RegExp"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import { freePort } from "./machine.ts"

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

export interface Program {
  /** Where it stands: the page and the line. */
  readonly at: string
  readonly source: string
  /** The file of the repo that it is. */
  readonly file: string | undefined
  /** The lines that it prints. */
  readonly prints: ReadonlyArray<string>
}

interface Block {
  readonly info: string
  readonly text: string
  readonly line: number
}

const blocks = (markdown: string): ReadonlyArray<Block> =>
  Array.from(markdown.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm), (match) => ({
    info: match[1]!.trim(),
    text: match[2]!,
    line: markdown.slice(0, match.index).split("\n").length
  }))

/** The paths of the guides. */
export const guides: ReadonlyArray<string> = readdirSync(join(root, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => `docs/${name}`)

/** The programs of a page. */
export const programs = (page: string): ReadonlyArray<Program> => {
  const found: Array<Program> = []
  for (const { info, text, line } of blocks(readFileSync(join(root, page), "utf8"))) {
    const [language, file] = info.split(" ")
    if (language === "ts") found.push({ at: `${page}:${line}`, source: text, file, prints: [] })
    const last = found.at(-1)
    if (language === "text" && last?.prints.length === 0) {
      found[found.length - 1] = { ...last, prints: text.trimEnd().split("\n") }
    }
  }
  return found
}

const pattern = (line: string) => new RegExp(`^${line.split("…").map(RegEx.escape).join(".*")}$`)

/** What of a program's output is not as its page says, if anything is not. */
export const differs = ({ prints }: Program, output: string): string | undefined => {
  const lines = stripVTControlCharacters(output)
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
  if (prints.length === 0) {
    const unsaid = lines.find((line) => !/^\[[\d:.]+\] (TRACE|DEBUG|INFO) /.test(line))
    return unsaid === undefined ? undefined : `its page does not say that it prints: ${unsaid}`
  }
  let from = 0
  for (const line of prints) {
    if (line === "" || line === "…") continue
    const index = lines.findIndex((printed, index) => index >= from && pattern(line).test(printed))
    if (index === -1) return `after its line ${from} it does not print: ${line}`
    from = index + 1
  }
  return undefined
}

/** `examples/demo` is what `npm run demo` runs. */
const tasks = readdirSync(join(root, "examples")).filter((task) => task !== "demo")

/** The files of `examples/`. */
export const exampleFiles: ReadonlyArray<string> = tasks.flatMap((task) =>
  readdirSync(join(root, "examples", task), { recursive: true, encoding: "utf8" })
    .map((name) => join("examples", task, name))
    .filter((file) => statSync(join(root, file)).isFile())
)

/** A directory inside the package, so that programs find it, and its dependencies, by name. */
export const directory = Effect.acquireRelease(
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

/** Compiles files of such a directory. */
export const compile = (place: string, files: ReadonlyArray<string>): void => {
  const config = join(place, "tsconfig.json")
  const compilerOptions = { noUnusedLocals: false }
  writeFileSync(config, JSON.stringify({ extends: join(root, "tsconfig.json"), compilerOptions, include: [], files }))
  // Each checker beside the first would check again most of what the files have in common.
  const args = ["--noEmit", "--checkers", "1", "-p", config]
  const tsc = spawnSync(join(root, "node_modules/.bin/tsc"), args, { encoding: "utf8" })
  assert.strictEqual(tsc.stdout, "")
}

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

/** What a program needs that is neither etcd nor Node.js. */
const needs: Readonly<Record<string, string>> = { "examples/cluster-across-machines/main.ts": "openssl" }

const isRun = ({ file }: Program) => {
  if (file === undefined) return true
  const tool = needs[file]
  return file.endsWith("/main.ts") && (tool === undefined || spawnSync(tool, ["version"]).error === undefined)
}

/** Compiles the programs of pages, runs them beside an etcd, and fails where one does not print what its page says. */
export const printWhatIsSaid = Effect.fnUntraced(function* (pages: ReadonlyArray<string>) {
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
  for (const file of exampleFiles) {
    if (!file.endsWith(".test.ts")) yield* write(file, readFileSync(join(root, file), "utf8"))
  }
  const files: Array<readonly [Program, string]> = []
  for (const program of pages.flatMap(programs).filter(isRun)) {
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
    { concurrency: 4 }
  )
  assert.strictEqual(wrong.flat().join("\n"), "")
}, Effect.scoped)

/** The name of a heading, where a link leads to it. */
const anchor = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(" ", "-")

/** The names of the headings of a page. */
export const anchors = (markdown: string): ReadonlySet<string> =>
  new Set(
    Array.from(markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/^#+ (.*)$/gm), (match) => anchor(match[1]!))
  )

/** Where the links of a page lead that stay within the repo. */
export const links = (markdown: string): ReadonlyArray<string> =>
  [
    ...markdown.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"/g)
  ].flatMap(([, target, source]) => {
    const link = target ?? source!
    return /^[a-z]+:/.test(link) ? [] : [link]
  })
