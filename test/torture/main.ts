/**
 * `npm run torture`: what this library promises, held against what it does while everything goes wrong. See `usage`.
 */
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as SemVer from "effect/SemVer"
import * as EtcdVersions from "../../scripts/etcd-versions.ts"
import { commandLine } from "../support/commandLine.ts"
import { type Plant, plants } from "./plants.ts"
import { report } from "./report.ts"
import type { Run } from "./run.ts"
import { type Options, torture } from "./torture.ts"

const usage = `usage: npm run torture [-- [--seconds N] [--seed N] [--size N] [--etcd VERSION] [--workers N] [--clients N]
                         [--groups N] [--plant NAME] [--report FILE]]

Programs use a cluster in every way (reads, writes, transactions, watches, mirrors, leases, locks, an election) while its
members are killed, stopped, paused and stalled, its network is cut, hangs and is slow, its history is compacted, keys of
locks are deleted, it grows, shrinks, is restarted and has members replaced, and the programs themselves are paused, killed
and cut off, and have clocks that are moved. Then judges say whether all that they were told can be true. If it cannot, the run is made again three times, and what is known of it is
kept.

  --seconds N     how long (default: 60)
  --seed N        what decides what happens when (default: by the clock)
  --size N        how many members the cluster has (default: 3)
  --etcd VERSION  a version or release line that \`npm run etcd:versions\` lists (default: the etcd that is installed)
  --workers N     how many programs (default: 4)
  --clients N     how many make operations in each of them (default: 4)
  --groups N      how many groups of three keys (default: 30)
  --plant NAME    a fault of the client, to see that it is found: ${Object.keys(plants).join(", ")}
  --report FILE   where the report goes (default: torture.html in a directory that is named at the end)
  --help          prints this`

const { numberOf, refuse, values } = commandLine(usage, [
  "seconds",
  "seed",
  "size",
  "workers",
  "clients",
  "groups",
  "etcd",
  "plant",
  "report"
])

const plantOf = (name: string | undefined): Plant | undefined =>
  name === undefined || Object.hasOwn(plants, name) ? (name as Plant | undefined) : refuse(`there is no plant ${name}`)

/** The executable of a version. */
const binaryOf = (wanted: string) =>
  Effect.gen(function* () {
    const { found } = yield* EtcdVersions.get({ only: [wanted] })
    const version = found.find(({ version }) => EtcdVersions.isWanted([wanted], SemVer.format(version)))
    if (version === undefined) return refuse(`there is no etcd ${wanted}: npm run etcd:versions lists what there is`)
    return version.etcd
  }).pipe(Effect.provide(EtcdVersions.services))

/** Where the report is to go, if it can. */
const reportFile = (given: string | undefined): string | undefined => {
  if (given === undefined) return undefined
  const file = resolve(given)
  try {
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true) throw new Error(`${file} is a directory`)
    accessSync(dirname(file), constants.W_OK)
  } catch (error) {
    return refuse(`the report cannot be written: ${(error as Error).message}`)
  }
  return file
}

/** More than a cluster may have. */
const sizeOf = (size: number): number => (size > 99 ? refuse("--size takes 99 at most") : size)

/**
 * A directory for data and logs. That of a run that was interrupted goes again, and that of one that has failed is named, as
 * long as nobody is told of it.
 */
const aDirectory = (isTold: () => boolean) =>
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-etcd-torture-"))),
    (directory, exit) => {
      if (Exit.isSuccess(exit) || isTold()) return Effect.void
      if (!Exit.hasInterrupts(exit)) return Console.error(`logs and data: ${directory}`)
      return Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    }
  )

/** How many violations there are that are not known to be etcd's. */
const count = (run: Run): number =>
  run.verdicts.reduce((sum, { violations }) => sum + violations.length, 0) - run.expected.length

const tell = (run: Run): string => {
  const { bands, longestUnavailability, operations, verdicts } = run
  const outcomes = Map.groupBy(operations, ({ result }) => result.outcome)
  const faults = [...Map.groupBy(bands, ({ kind }) => kind)].map(([kind, { length }]) => `${length} ${kind}`)
  return [
    `etcd ${run.etcd}, seed ${run.seed}, ${run.members.length} members, ${run.seconds} s`,
    `${operations.length} operations (${[...outcomes].map(([outcome, { length }]) => `${length} ${outcome}`).join(", ")})`,
    `${bands.length} faults: ${faults.sort().join(", ")}`,
    `longest time without an acknowledged write: ${Math.round(longestUnavailability.millis)} ms`,
    ...verdicts.flatMap(({ examined, judge, millis, violations }) => [
      `${judge}: ${violations.length === 0 ? "nothing" : `${violations.length} violations`} in ${examined} (${Math.round(millis)} ms)`,
      ...violations.slice(0, 5).map(({ kind, message }) => `  ${kind}: ${message}`)
    ]),
    ...run.expected.map(({ issue, violation }) => `expected of this etcd (${issue}): ${violation.message}`)
  ].join("\n")
}

const runOnce = (options: Options) => Effect.scoped(torture(options))

const program = Effect.gen(function* () {
  const seed = numberOf("seed", 1 + (Date.now() % 1_000_000))
  const plant = plantOf(values.plant)
  const given = Object.entries(values).flatMap(([name, value]) =>
    name === "help" || name === "seed" || name === "report" ? [] : [`--${name} ${value}`]
  )
  const wanted = {
    seconds: numberOf("seconds", 60),
    seed,
    size: sizeOf(numberOf("size", 3)),
    workers: numberOf("workers", 4),
    clients: numberOf("clients", 4),
    groups: numberOf("groups", 30),
    plant,
    binary: values.etcd === undefined ? undefined : yield* binaryOf(values.etcd),
    command: `npm run torture -- ${[...given, `--seed ${seed}`].join(" ")}`
  }
  const asked = reportFile(values.report)
  let isTold = false
  // Not before all that was asked for makes sense.
  const directory = yield* aDirectory(() => isTold)
  const options: Options = { ...wanted, directory }
  yield* Console.log(options.command)
  const run = yield* runOnce(options)
  yield* Console.log(tell(run))
  const file = asked ?? join(directory, "torture.html")
  writeFileSync(file, report(run))
  isTold = true
  yield* Console.log(`report: ${file}`)
  const violations = count(run)
  if (plant !== undefined) {
    rmSync(join(directory, "data"), { recursive: true, force: true })
    if (violations > 0) return yield* Console.log(`found: ${plants[plant]}`)
    process.exitCode = 1
    return yield* Console.error(`not found: ${plants[plant]}`)
  }
  if (violations === 0) return rmSync(join(directory, "data"), { recursive: true, force: true })
  process.exitCode = 1
  writeFileSync(join(directory, "run.json"), JSON.stringify(run))
  yield* Console.error(`logs, data and history: ${directory}\nagain: ${options.command}`)
  for (let time = 1; time <= 3; time++) {
    const again = join(directory, `again-${time}`)
    mkdirSync(again)
    const repeated = yield* runOnce({ ...options, directory: again })
    yield* Console.error(`again, ${time} of 3: ${count(repeated)} violations`)
  }
})

NodeRuntime.runMain(program.pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
