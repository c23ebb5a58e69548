/**
 * The programs of the README and of the guides, and what the pages say that they print.
 *
 * A block `ts` is a program. One with a path after the language is that file of the repo, and is run if it is the
 * `main.ts` of its folder; those that are `alone` are run, too. The block `text` that follows a program, before the next
 * one, has lines that it prints, in their order; others may stand between them. There `…` is for anything within a line. A
 * program without such a block prints nothing.
 */
import { execFile, spawn, spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { stripVTControlCharacters } from "node:util"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as RegEx from "effect/RegExp"
import type * as Scope from "effect/Scope"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import { freePort, until } from "./machine.ts"
import { killedAtLast } from "./programs.ts"

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

/** Programs that go on until they are stopped, or that no page shows: each has a test of its own in `guides.test.ts`. */
export const alone = {
  demo: "examples/demo/main.ts",
  host: "examples/cluster-across-machines/host.ts",
  server: "examples/embedding/server.ts"
} as const

/** The files of `examples/` that a page shows. */
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

/** How a program of the repo is started. */
const args = (file: string) => ["--conditions=effect-etcd-source", "--no-warnings", file]

/** Each keeps its data beside itself. */
const run = (file: string) =>
  Effect.callback<{ readonly code: number; readonly output: string }>((resume) => {
    const child = execFile(
      process.execPath,
      args(file),
      { cwd: root, env: { ...process.env, NO_COLOR: "1", DATA_DIR: `${file}.data` } },
      (error, stdout, stderr) =>
        resume(Effect.succeed({ code: error === null ? 0 : Number(error.code ?? 1), output: `${stdout}${stderr}` }))
    )
    return Effect.sync(() => child.kill())
  })

export interface Started {
  /** Waits until it has printed this line, and fails the test where it ends before. */
  readonly printed: (line: string) => Effect.Effect<void>
  /** Sends SIGTERM, and waits for the code with which it ends. */
  readonly stop: Effect.Effect<number | null>
  /** Waits until it has ended. */
  readonly ended: Effect.Effect<{ readonly code: number | null; readonly output: string }>
}

/** A program of the repo that runs until it ends, or the scope closes. */
export const start = (file: string, env: NodeJS.ProcessEnv = {}): Effect.Effect<Started, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = spawn(process.execPath, args(file), {
      cwd: root,
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    yield* killedAtLast([child])
    let output = ""
    let hasClosed = false
    child.once("close", () => {
      hasClosed = true
    })
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += data))
    const close = until(() => hasClosed)
    const stop = Effect.andThen(
      Effect.sync(() => child.kill("SIGTERM")),
      Effect.map(close, () => child.exitCode)
    )
    yield* Effect.addFinalizer(() => stop)
    const has = (line: string) => output.split("\n").includes(line)
    return {
      printed: (line) =>
        Effect.map(
          until(() => hasClosed || has(line)),
          () => assert.isTrue(has(line), `${file} ends without ${line}:\n${output}`)
        ),
      stop,
      ended: Effect.map(close, () => ({ code: child.exitCode, output }))
    }
  })

/** Whether a program of a page is run as it stands. */
export const isRun = ({ file }: Program): boolean => file === undefined || file.endsWith("/main.ts")

/** Programs run side by side, so each has ports of its own. */
const withOwnPorts = Effect.fnUntraced(function* (source: string) {
  const [clientPort, peerPort] = /}:23[78]/.test(source) ? [yield* freePort, yield* freePort] : []
  return source.replaceAll("}:2379", `}:${clientPort}`).replaceAll("}:2380", `}:${peerPort}`)
})

const write = (place: string, name: string, source: string) =>
  Effect.map(withOwnPorts(source), (text) => {
    const file = join(place, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
  })

/** Puts the programs that are shown into a directory. `to` changes where they connect to. */
export const writeExamples = Effect.fnUntraced(function* (place: string, to = (source: string) => source) {
  for (const file of exampleFiles) {
    if (!file.endsWith(".test.ts")) yield* write(place, file, to(readFileSync(join(root, file), "utf8")))
  }
})

/** Compiles the programs of pages, runs them beside an etcd, and fails where one does not print what its page says. */
export const printWhatIsSaid = Effect.fnUntraced(function* (pages: ReadonlyArray<string>) {
  const node = yield* EtcdProcess.ephemeral({}, { log: false })
  const place = yield* directory
  const to = (source: string) => source.replaceAll("http://127.0.0.1:2379", node.endpoints[0])
  yield* writeExamples(place, to)
  const files: Array<readonly [Program, string]> = []
  for (const program of pages.flatMap(programs).filter(isRun)) {
    const { at, file = `${at.replace(":", "-")}.ts`, source } = program
    if (program.file === undefined) yield* write(place, file, to(source))
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
