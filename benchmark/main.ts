/**
 * `npm run bench`: measures this library beside other clients, in one run. See `usage`.
 */
import { closeSync, existsSync, openSync, rmSync, writeFileSync } from "node:fs"
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import { NodeServices } from "@effect/platform-node"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect } from "effect"
import { coordination } from "./coordination.ts"
import { failover } from "./failover.ts"
import { install } from "./install.ts"
import { kv } from "./kv.ts"
import { mirror } from "./mirror.ts"
import { operations } from "./operations.ts"
import { pictures } from "./pictures.ts"
import { scan, watch } from "./reading.ts"
import { type Conditions, conditions, type Measured, toJson } from "./results.ts"
import { selection } from "./selection.ts"
import { size } from "./size.ts"
import { startup } from "./startup.ts"
import type { Row } from "./support.ts"
import { tls } from "./tls.ts"

const scenarioNames = ["startup", "get", "put", "watch", "scan"] as const

type Scenario = (typeof scenarioNames)[number]

const usage = `usage: npm run bench [-- [coordination | failover | install | mirror | operations | pictures | selection | tls | size] [--quick] [--only SCENARIO]... [--json FILE]]

Measures this library beside other clients: etcd3, @grpc/grpc-js and node:http2 and, where there is a Go toolchain,
etcd's own Go client. All of them in one run, in interleaved rounds, against one etcd, which is the one that the tests
use (ETCD_BINARY names another one).

  coordination     measures locks, transactions, and how soon there is another leader when one resigns, is to end or is
                   killed, with an etcd that syncs to disk, and nothing else
  failover         measures how long clients need when the leader of a cluster of three is killed, is paused or is cut
                   off from the others, and when they are cut off from a member, and nothing else: 20 times each, in
                   about half an hour
  install          measures what it takes from an empty directory to the first put, with Node.js and npm and nothing else,
                   on etcd 3.5, 3.6 and 3.7, and what is downloaded, and nothing else; it has no rows for --json, and
                   needs the registry
  mirror           measures what a mirror of 100,000 keys takes, beside the cache of etcd's Go client where its module
                   can be had: the time until it is there, memory, the time of a read, and changes applied, and nothing
                   else; it has no rows for --json
  operations       measures how long operations on a cluster of three take, and for how long nobody's writes are
                   acknowledged meanwhile, and nothing else: some 100 seconds a round, of which there are five; it has
                   no rows for --json
  pictures         measures nothing: makes the pictures and tables of docs/ from what runs have written to
                   benchmark/results/, speed.json (of a run of all) and failover.json
  selection        measures what it is worth to keep to the leader of a cluster of three, and nothing else
  tls              measures what it is worth to serve HTTP apart where there is TLS, and nothing else
  size             measures what it costs to have this library in a program: bytes of a bundle, time of an import, and
                   nothing else; it has no rows for --json
  --quick          values of 64 bytes only, short rounds: less than a minute in all, instead of about ten (so it is
                   with coordination); a failover three times each
  --only SCENARIO  one of ${scenarioNames.join(", ")}; may be given more than once
  --json FILE      writes the results to the file as well: rows of { scenario, client, inFlight, valueBytes,
                   opsPerSecond, spread, p50Micros, p99Micros, cpuMicrosPerOp }, and the day, the versions and the machine;
                   of failovers also the puts of one round of each fault
  --help           prints this`

const refuse = (message: string, status: number): never => {
  console.error(`effect-etcd: ${message}`)
  return process.exit(status)
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

const parse = () => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: "boolean", default: false },
        json: { type: "string" },
        only: { type: "string", multiple: true, default: [] },
        quick: { type: "boolean", default: false }
      }
    })
  } catch (error) {
    return refuse(`${messageOf(error)}\n\n${usage}`, 2)
  }
}

const isScenario = (name: string): name is Scenario => (scenarioNames as ReadonlyArray<string>).includes(name)

const chosen = (only: ReadonlyArray<string>): ReadonlyArray<Scenario> => {
  const unknown = only.filter((name) => !isScenario(name))
  if (unknown.length > 0) {
    refuse(`there is no scenario ${unknown.join(", ")}; there are ${scenarioNames.join(", ")}`, 2)
  }
  return scenarioNames.filter((name) => only.length === 0 || only.includes(name))
}

/** Finds out whether the file can be written, and leaves it as it is. */
const ensureWritable = (file: string) => {
  const existed = existsSync(file)
  try {
    closeSync(openSync(file, "a"))
  } catch (error) {
    refuse(`--json: ${messageOf(error)}`, 2)
  }
  if (!existed) rmSync(file)
}

const rowsOf =
  <E>(measure: (quick: boolean) => Effect.Effect<ReadonlyArray<Row>, E>) =>
  (quick: boolean): Effect.Effect<Measured, E> =>
    Effect.map(measure(quick), (rows) => ({ rows, timelines: [] }))

const special = {
  coordination: rowsOf(coordination),
  failover,
  install: rowsOf(install),
  mirror: rowsOf(mirror),
  operations: rowsOf(operations),
  selection: rowsOf(selection),
  size: rowsOf(size),
  tls: rowsOf(tls)
}

type Special = keyof typeof special

const isSpecial = (word: string): word is Special => Object.hasOwn(special, word)

const specialOf = ([word, ...more]: ReadonlyArray<string>): Special | undefined => {
  if (word === undefined) return undefined
  return isSpecial(word) && more.length === 0 ? word : refuse(`there is no ${JSON.stringify(word)}\n\n${usage}`, 2)
}

const bench = (scenarios: ReadonlyArray<Scenario>, quick: boolean) =>
  Effect.gen(function* () {
    const rows: Array<Row> = []
    const ofKv = scenarios.filter((name) => name === "get" || name === "put")
    if (scenarios.includes("startup")) rows.push(...(yield* startup(quick)))
    if (ofKv.length > 0) rows.push(...(yield* kv({ quick, scenarios: ofKv })))
    if (scenarios.includes("watch")) rows.push(...(yield* watch(quick)))
    if (scenarios.includes("scan")) rows.push(...(yield* scan(quick)))
    const measured: Measured = { rows, timelines: [] }
    return measured
  })

const {
  positionals,
  values: { help, json, only, quick }
} = parse()
if (help) {
  console.log(usage)
  process.exit()
}
const scenarios = chosen(only)
const file = json === undefined ? undefined : resolve(json)
if (file !== undefined) ensureWritable(file)

const write = (conditions: Conditions, measured: Measured) =>
  Effect.sync(() => {
    if (file === undefined) return
    writeFileSync(file, toJson({ ...conditions, ...measured }))
    console.log(`${measured.rows.length} rows are in ${file}`)
  })

const measureAndWrite = Effect.gen(function* () {
  const word = specialOf(positionals)
  const before = yield* conditions(quick)
  yield* write(before, yield* word === undefined ? bench(scenarios, quick) : special[word](quick))
}).pipe(Effect.provide(NodeServices.layer))

Effect.suspend(() => (positionals.join(" ") === "pictures" ? pictures : measureAndWrite)).pipe(
  Effect.catch((error) => Effect.sync(() => refuse(error.message, 1))),
  NodeRuntime.runMain
)
