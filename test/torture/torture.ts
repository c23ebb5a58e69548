/**
 * A torture run: workers use a cluster in every way while it, its network and they themselves are afflicted, and what they
 * were told is judged.
 */
import { createWriteStream } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdMaintenance from "../../src/EtcdMaintenance.ts"
import type * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdFaults from "../../src/testing/EtcdFaults.ts"
import { until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import { makeRandom } from "../support/random.ts"
import { byRevision } from "./byRevision.ts"
import * as BySearch from "./bySearch.ts"
import { expected } from "./expected.ts"
import type { Operation, Violation } from "./history.ts"
import * as Judges from "./judges.ts"
import { type Nemesis, rage, rollBack, settle } from "./nemesis.ts"
import { type Observer, observe } from "./observer.ts"
import type { Plant } from "./plants.ts"
import { groupsPrefix } from "./protocol.ts"
import type { Band, RoleAt, Run, Verdict } from "./run.ts"
import * as Workers from "./workers.ts"

export interface Options {
  readonly seconds: number
  readonly seed: number
  readonly size: number
  /** How many programs. */
  readonly workers: number
  /** How many make operations in each, one after the other. */
  readonly clients: number
  readonly groups: number
  readonly plant: Plant | undefined
  /** The executable of etcd. */
  readonly binary: string | undefined
  /** Where data and logs go. */
  readonly directory: string
  /** The command that runs it again. */
  readonly command: string
}

/** How many ids each process of a worker has. */
const idsPerProcess = 10_000_000

const longestEndMillis = 30_000

/** Keeps the log of a member, and what roles it took. */
const record = (member: EtcdProcess.Node, directory: string, roles: Array<RoleAt>) =>
  Effect.gen(function* () {
    const file = createWriteStream(join(directory, `${member.name}.log`))
    yield* Effect.addFinalizer(() => Effect.sync(() => file.end()))
    yield* member.events.pipe(
      Stream.runForEach((event) => Effect.sync(() => void file.write(`${JSON.stringify(event, bigints)}\n`))),
      Effect.forkScoped
    )
    yield* SubscriptionRef.changes(member.role).pipe(
      Stream.runForEach(({ role, term }) =>
        Effect.sync(() => void roles.push({ member: member.name, at: Programs.now(), role, term: Number(term) }))
      ),
      Effect.forkScoped
    )
  })

const bigints = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value)

const startWorkers = (faults: EtcdFaults.Faults, known: Workers.Record, options: Options) =>
  Effect.gen(function* () {
    const { clients, groups, plant, seed } = options
    yield* Programs.killedAtLast(known.processes)
    const workers = yield* Effect.forEach(Array.from({ length: options.workers }).keys(), (index) =>
      Effect.map(faults.client(`w${index}`), ({ endpoints }) => Workers.make(`w${index}`, endpoints))
    )
    const startWorker = (worker: Workers.Worker) => {
      const number = known.processes.length
      const index = workers.indexOf(worker)
      Workers.begin(worker, known, {
        name: worker.name === "" ? worker.place : `${worker.place}-${number}`,
        endpoints: worker.endpoints,
        ...{ clients, groups, plant },
        batching: index % 2 === 1,
        seed: seed + 100 * number,
        firstId: number * idsPerProcess
      })
    }
    workers.forEach(startWorker)
    yield* until(() => workers.every(({ child, isReady }) => isReady || Programs.hasEnded(child)))
    return { workers, startWorker }
  })

const longestRecoveryMillis = 30_000

/**
 * Waits until each worker has come to all that it wants since all is well again, and answers who has not to what. A cluster
 * in which somebody has become leader, or has wanted to, is well only since then. Where a machine has so much to do that
 * this does not end, nothing can be said of anybody.
 */
const awaitRecovery = (workers: ReadonlyArray<Workers.Worker>, roles: ReadonlyArray<RoleAt>) =>
  Effect.gen(function* () {
    const since = Programs.now()
    const due = () =>
      workers.flatMap(({ cameTo, name }) =>
        Workers.deeds.filter((deed) => !(cameTo.get(deed)! > since)).map((deed) => `${name} does not come to ${deed}`)
      )
    const wellSince = () => Math.max(since, roles.at(-1)?.at ?? 0)
    const isOver = () => due().length === 0 || Programs.now() - wellSince() >= longestRecoveryMillis
    const over = yield* Effect.timeoutOption(until(isOver), 6 * longestRecoveryMillis)
    return Option.isSome(over) ? due().map((what) => `${what} any more, though all is well`) : []
  })

/** Lets all workers end, and answers what has not. */
const endWorkers = (workers: ReadonlyArray<Workers.Worker>) =>
  Effect.gen(function* () {
    const early = workers
      .filter(({ child }) => Programs.hasEnded(child))
      .map(({ name }) => `${name} has ended by itself`)
    for (const { child } of workers) child.stdin!.end()
    yield* Effect.timeoutOption(
      until(() => workers.every(({ child, hasLeft }) => Programs.hasEnded(child) && (hasLeft || child.exitCode !== 0))),
      longestEndMillis
    )
    const late = workers
      .filter(({ child, hasLeft }) => child.exitCode !== 0 || !hasLeft)
      .map(({ child, name }) => `${name} did not end as it should: ${child.exitCode ?? child.signalCode ?? "it runs"}`)
    return [...early, ...late]
  })

/** What takes longer hangs, however busy the machine is. */
const inTime = <A, E, R>(otherwise: string, effect: Effect.Effect<A, E, R>) =>
  Effect.timeoutOrElse(effect, { duration: "3 minutes", orElse: () => Effect.die(new Error(otherwise)) })

const strange = (kind: string, messages: ReadonlyArray<string>): ReadonlyArray<Violation> =>
  messages.map((message) => ({ kind, message, operations: [] }))

const judged = (judge: string, examined: string, look: () => ReadonlyArray<Violation>) =>
  Effect.sync((): Verdict => {
    const begun = performance.now()
    const violations = look()
    return { judge, examined, millis: performance.now() - begun, violations }
  })

/** The longest time without an acknowledged write. */
const longestUnavailability = (operations: ReadonlyArray<Operation>, begun: number, ended: number) => {
  const isWrite = ({ call }: Operation) => [...call.success, ...call.failure].some((step) => step.do !== "get")
  const times = operations
    .flatMap((one) => (isWrite(one) && one.result.outcome === "answered" && one.ended !== null ? [one.ended] : []))
    .sort((one, other) => one - other)
  let longest = { millis: 0, from: begun }
  let last = begun
  for (const at of [...times, ended]) {
    if (at - last > longest.millis) longest = { millis: at - last, from: last }
    last = at
  }
  return longest
}

const thousands = (count: number): string => count.toLocaleString("en")

const judge = (
  known: Workers.Record,
  observer: Observer,
  operations: ReadonlyArray<Operation>,
  others: ReadonlyArray<Violation>
) => {
  const { entries, seenAt } = observer
  const counted = `${thousands(operations.length)} operations, ${thousands(entries.length)} revisions`
  return Effect.all([
    judged("by revision", counted, () =>
      byRevision({
        initial: { revision: 1, state: new Map() },
        operations,
        entries,
        isJudged: (key) => key.startsWith(groupsPrefix)
      })
    ),
    judged("by search", `${thousands(operations.length)} operations`, () =>
      BySearch.check(operations, { timeoutMillis: 300_000 })
    ),
    judged("watches", `${thousands(known.watches.size)} watches`, () =>
      Judges.watches(entries, known.watches.values(), observer.compactions)
    ),
    judged("mirrors", `${thousands(known.mirrored.length)} views`, () =>
      Judges.mirrors(entries, known.mirrored, operations)
    ),
    judged("leases", `${thousands(known.held.length)} times held`, () =>
      Judges.leases(entries, seenAt, known.held, operations)
    ),
    judged("locks", `${thousands(known.acquired.length)} times acquired`, () => Judges.locks(entries, known.acquired)),
    judged("bursts", `${thousands(operations.length)} operations`, () => Judges.bursts(known.operations)),
    judged("fences", `${thousands(entries.length)} revisions`, () => Judges.fences(entries)),
    judged("deadlines", `${thousands(operations.length)} operations`, () =>
      Judges.deadlines(known.operations.values(), known.stops, known.lastRan)
    ),
    judged("programs", `${known.processes.length} processes`, () => others)
  ])
}

/** Runs it, and says what came of it. */
export const torture = (
  options: Options
): Effect.Effect<
  Run,
  unknown,
  Scope.Scope | Effect.Services<ReturnType<typeof EtcdFaults.make>> | FileSystem.FileSystem
> =>
  Effect.gen(function* () {
    const { binary, directory, seconds, seed, size } = options
    const fs = yield* FileSystem.FileSystem
    yield* fs.makeDirectory(join(directory, "data"), { recursive: true })
    const faults = yield* EtcdFaults.make({
      ...{ size, binary, log: false, dataDir: join(directory, "data") },
      // A machine that has much to do is no reason to give up.
      startTimeout: "2 minutes",
      // Half a mebibyte more is what a server sends in one piece of what a watch is told.
      config: { maxRequestBytes: "128 KiB" }
    })
    const members = SubscriptionRef.getUnsafe(faults.cluster.members)
    const roles: Array<RoleAt> = []
    for (const member of members) yield* record(member, directory, roles)
    const direct = members.flatMap(({ endpoints }) => endpoints)
    const observer = yield* observe(direct)
    const client = yield* EtcdClient.make({ endpoints: direct })
    const known = Workers.newRecord()
    const bands: Nemesis["bands"] = []
    const { startWorker, workers } = yield* startWorkers(faults, known, options)
    const begun = Programs.now()
    const nemesis: Nemesis = {
      ...{ faults, size, observer, workers, record: known, startWorker, bands },
      maintenance: EtcdMaintenance.fromClient(client),
      txn: EtcdTxn.fromClient(client),
      random: makeRandom(seed)
    }
    const raging = (share: number) =>
      Effect.timeoutOption(rage(nemesis), seconds * 1000 * share).pipe(
        Effect.andThen(faults.heal),
        Effect.andThen(inTime("the cluster is not well again", faults.awaitHealthy))
      )
    if (options.plant === "rollback") yield* Effect.andThen(raging(0.5), rollBack(nemesis))
    yield* raging(options.plant === "rollback" ? 0.5 : 1)
    const unfinished = yield* inTime("the cluster does not get back to its size", settle(nemesis))
    const stuck = yield* awaitRecovery(workers, roles)
    const notEnded = yield* endWorkers(workers)
    const ended = Programs.now()
    const misread = yield* inTime("the end of the history does not come", observer.end)
    const operations = [...known.operations.values()].sort((one, other) => one.begun - other.begun)
    const verdicts = yield* judge(known, observer, operations, [
      ...strange("stuck", stuck),
      ...strange("unfinished", unfinished),
      ...strange("program", [...known.problems, ...notEnded]),
      ...strange("history", misread)
    ])
    const etcd = SemVer.format(members[0].version)
    return {
      etcd,
      ...{ seed, size, seconds, command: options.command, begun, ended },
      members: members.map(({ name }) => name),
      ...{ operations, entries: observer.entries, bands: bands as ReadonlyArray<Band>, roles, verdicts },
      expected: expected(
        etcd,
        verdicts.flatMap(({ violations }) => violations),
        { bands, roles }
      ),
      longestUnavailability: longestUnavailability(operations, begun, ended)
    }
  })
