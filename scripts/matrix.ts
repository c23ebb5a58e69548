/**
 * The tests against every version of etcd that this machine can get (see `etcd-versions.ts`):
 * `npm run test:matrix [-- --only 3.5.30] [arguments for vitest]`.
 *
 * - `--only <versions>`: these versions or release lines (`3.5`) only, separated by commas;
 * - `--others`: what `npm test` leaves: all versions but the one that it runs with, and no unit tests;
 * - `--update`: ask for the newest versions again, also where there are some in the cache;
 * - `--deadline <minutes>`: start no version that would not be through by then; it is named as not tested;
 * - `--report <file>`: write the numbers to a JSON file, too.
 *
 * The unit tests run once in all, and all others once for each version, with `ETCD_BINARY`, `ETCDCTL_BINARY` and
 * `ETCDUTL_BINARY` set to it. Which are which is in `vitest.config.ts`.
 *
 * It ends with what failed, what was not tested, and a table. The exit code is 1 where anything failed, where no version
 * was tested (but with `--others`), and where a version that `--only` asks for was not.
 */
import { writeFileSync } from "node:fs"
import { join, relative, resolve } from "node:path"
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as ChildProcess from "effect/process/ChildProcess"
import * as SemVer from "effect/SemVer"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as EtcdVersions from "./etcd-versions.ts"

const root = resolve(import.meta.dirname, "..")

/** How long the tests of one version may take. They take a few minutes; whoever takes longer hangs. */
const versionTimeout = Duration.minutes(20)

// -----------------------------------------------------------------------------
// arguments
// -----------------------------------------------------------------------------

interface Arguments {
  only: ReadonlyArray<string> | undefined
  others: boolean
  update: boolean
  deadline: Duration.Duration
  report: string | undefined
  vitest: Array<string>
}

const versionOrLine = /^\d+\.\d+(\.\d+)?$/

const parseArguments = (words: ReadonlyArray<string>): Arguments | string => {
  const parsed: Arguments = {
    only: undefined,
    others: false,
    update: false,
    deadline: Duration.infinity,
    report: undefined,
    vitest: []
  }
  const rest = words.flatMap((word) =>
    /^--(only|deadline|report)=/.test(word)
      ? [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]
      : [word]
  )
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "--update") parsed.update = true
    else if (word === "--others") parsed.others = true
    else if (word === "--only") {
      parsed.only = [...(parsed.only ?? []), ...(rest.shift() ?? "").split(",")]
      const wrong = parsed.only.find((version) => !versionOrLine.test(version))
      if (wrong !== undefined) return `--only takes versions like 3.5.30 or 3.5, not ${JSON.stringify(wrong)}`
    } else if (word === "--deadline") {
      const minutes = Number(rest.shift())
      if (!(minutes > 0)) return "--deadline takes a number of minutes"
      parsed.deadline = Duration.minutes(minutes)
    } else if (word === "--report") {
      parsed.report = rest.shift()
      if (parsed.report === undefined) return "--report takes the name of a file"
    } else if (word !== "--") parsed.vitest.push(word)
  }
  return parsed
}

// -----------------------------------------------------------------------------
// one run
// -----------------------------------------------------------------------------

interface Row {
  readonly etcd: string
  readonly from: string
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly seconds: number
  /** Tests, files and errors, each with how it failed below it. */
  readonly failures: ReadonlyArray<string>
}

/** The part of vitest's JSON report that is read here. */
interface Report {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly message: string
    readonly assertionResults: ReadonlyArray<{
      readonly fullName: string
      readonly status: string
      /** `null` for what failed with something that is no `Error`. */
      readonly failureMessages: ReadonlyArray<string | null>
    }>
  }>
}

/** The first lines of how a test failed: where output is cut, its end is what is left. */
const told = (messages: ReadonlyArray<string | null>) =>
  messages
    .flatMap((message) => (message ?? "with something that is no Error: see above").slice(0, 2000).split("\n", 20))
    .map((line) => `\n    ${line}`)
    .join("")

const failuresOf = (report: Report): ReadonlyArray<string> =>
  report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(root, name)
    const tests = assertionResults.filter((test) => test.status === "failed")
    if (tests.length > 0) return tests.map((test) => `${file}: ${test.fullName}${told(test.failureMessages)}`)
    return status === "failed" ? [`${file}: ${message.split("\n")[0] || "it could not be run"}`] : []
  })

/** Runs vitest, and answers its exit code, or nothing where it did not end in time. */
const vitest = (args: ReadonlyArray<string>, env: Record<string, string>) =>
  ChildProcess.make(process.execPath, [join("node_modules", "vitest", "vitest.mjs"), "run", ...args], {
    cwd: root,
    env,
    extendEnv: true,
    stdin: "ignore",
    stdout: "inherit",
    stderr: "inherit",
    forceKillAfter: "10 seconds"
  }).pipe(
    Effect.flatMap((child) => child.exitCode),
    Effect.timeoutOrElse({ duration: versionTimeout, orElse: () => Effect.succeed(undefined) }),
    Effect.scoped
  )

const runTests = Effect.fnUntraced(
  function* (options: {
    readonly etcd: string
    readonly from: string
    readonly projects: ReadonlyArray<"unit" | "etcd" | "long">
    readonly env: Record<string, string>
    readonly args: ReadonlyArray<string>
  }) {
    const fs = yield* FileSystem.FileSystem
    const file = join(yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-matrix-" }), "report.json")
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${file}`]
    const projects = options.projects.map((project) => `--project=${project}`)
    const chosen = [...projects, "--passWithNoTests", ...options.args]
    const [took, code] = yield* Effect.timed(vitest([...reporters, ...chosen], options.env))
    const report: Report | undefined = (yield* fs.exists(file)) ? JSON.parse(yield* fs.readFileString(file)) : undefined
    const failures = report === undefined ? [] : [...failuresOf(report)]
    // An error outside of a test, or a file that could not be loaded, fails the run without failing a test.
    if (code === undefined) failures.push(`the tests did not end within ${Duration.format(versionTimeout)}`)
    else if (code !== 0 && failures.length === 0) failures.push(`vitest ended with exit code ${code}`)
    const row: Row = {
      etcd: options.etcd,
      from: options.from,
      passed: report?.numPassedTests ?? 0,
      failed: failures.length,
      skipped: (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0),
      seconds: Math.round(Duration.toSeconds(took)),
      failures
    }
    return row
  },
  (effect) => Effect.scoped(effect)
)

const wasTested = (row: Row) => row.passed + row.failed > 0

const withVersion = (version: EtcdVersions.EtcdVersion, args: ReadonlyArray<string>) =>
  runTests({
    etcd: SemVer.format(version.version),
    from: version.from.join("; "),
    projects: ["etcd", "long"],
    env: {
      ETCD_BINARY: version.etcd,
      ...(version.etcdctl === undefined ? {} : { ETCDCTL_BINARY: version.etcdctl }),
      ...(version.etcdutl === undefined ? {} : { ETCDUTL_BINARY: version.etcdutl })
    },
    args
  })

const unitTests = (args: ReadonlyArray<string>) =>
  runTests({ etcd: "none", from: "unit tests", projects: ["unit"], env: {}, args })

// -----------------------------------------------------------------------------
// all runs
// -----------------------------------------------------------------------------

const table = (rows: ReadonlyArray<Row>): string => {
  const cells = [
    ["etcd", "from", "result", "passed", "failed", "skipped", "seconds"],
    ...rows.map((row) => [
      row.etcd,
      row.from,
      row.failed > 0 ? "FAILED" : "passed",
      ...[row.passed, row.failed, row.skipped, row.seconds].map(String)
    ])
  ]
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((line) => line[column]!.length)))
  const lines = cells.map((line) => `| ${line.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`)
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`
  return [lines[0], rule, ...lines.slice(1)].join("\n")
}

const header = (text: string) => Console.log(`\n=== ${text} ===`)

/** The version that `npm test` runs with. */
const ofTest = Effect.map(EtcdBinary.find(), ({ version }) => SemVer.format(version))

const matrix = Effect.fnUntraced(function* (args: Arguments) {
  const start = yield* Clock.currentTimeMillis
  const { found: all, missing } = yield* EtcdVersions.get({ update: args.update, only: args.only })
  const tested = args.others ? yield* ofTest : undefined
  const found = all.filter(({ version }) => SemVer.format(version) !== tested)
  const rows: Array<Row> = []
  const notTested = [...EtcdVersions.describeMissing(missing)]
  const unknown = (args.only ?? []).filter(
    (wanted) => !all.some(({ version }) => EtcdVersions.isWanted([wanted], SemVer.format(version)))
  )
  notTested.push(...unknown.map((wanted) => `${wanted}: no source of this machine has it`))

  const once: Array<Row> = []
  if (!args.others) {
    yield* header("unit tests, which start no etcd")
    once.push(yield* unitTests(args.vitest))
  }
  let longest = 0
  for (const version of found) {
    const name = SemVer.format(version.version)
    const spent = (yield* Clock.currentTimeMillis) - start
    if (spent + longest * 1000 > Duration.toMillis(args.deadline)) {
      notTested.push(`${name} (${version.from.join("; ")}): no time left`)
      continue
    }
    yield* header(`etcd ${name} (${version.from.join("; ")})`)
    const row = yield* withVersion(version, args.vitest)
    longest = Math.max(longest, row.seconds)
    if (wasTested(row)) rows.push(row)
    else notTested.push(`${name} (${row.from}): no test of it was chosen`)
  }
  const versions = rows.length
  rows.push(...once.filter(wasTested))

  const failed = rows.reduce((sum, row) => sum + row.failed, 0)
  const passed = rows.reduce((sum, row) => sum + row.passed, 0)
  for (const row of rows.filter((row) => row.failed > 0)) {
    yield* header(once.includes(row) ? "failed unit tests" : `failed with etcd ${row.etcd}`)
    for (const failure of row.failures) yield* Console.log(failure)
  }
  if (notTested.length > 0) {
    yield* header("not tested")
    for (const line of notTested) yield* Console.log(line)
  }
  yield* header(`${versions} versions of etcd tested${tested === undefined ? "" : `, besides ${tested}`}`)
  yield* Console.log(table(rows))
  if (args.report !== undefined) {
    writeFileSync(args.report, JSON.stringify({ passed, failed, rows, notTested }, undefined, 2))
  }
  // Arguments for vitest may choose nothing but unit tests.
  const nothingTested = !args.others && (rows.length === 0 || found.length === 0)
  process.exitCode = failed > 0 || nothingTested || unknown.length > 0 ? 1 : 0
})

const args = parseArguments(process.argv.slice(2))
if (typeof args === "string") {
  process.stderr.write(`effect-etcd: ${args}\n`)
  process.exitCode = 1
} else {
  matrix(args).pipe(Effect.provide(EtcdVersions.services), NodeRuntime.runMain)
}
