/**
 * Instances of a program, each a process with a node of its own, that are started in any order, killed and started again,
 * lose their data and leave, while all of them write. In the end there is one cluster, with as many voters as declared,
 * which has all that was acknowledged.
 */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../../src/EtcdMembership.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { temporaryDirectory, until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import { makeRandom, type Random } from "../support/random.ts"
import * as Instances from "./instances.ts"

export interface Options {
  readonly seconds: number
  readonly seed: number
  /** How many voters there are to be. One instance more comes later. */
  readonly size: number
  /** How long each waits between two writes. */
  readonly pauseMillis: number
}

export interface Report {
  readonly written: number
  readonly unwritten: ReadonlyMap<string, number>
  /** What has befallen whom how often. */
  readonly faults: ReadonlyMap<string, number>
  readonly clusterIds: ReadonlyArray<string>
  readonly voters: number
  readonly mostVoters: number
  /** How many members the cluster has had, those that have gone among them. */
  readonly members: number
  readonly problems: ReadonlyArray<string>
}

interface Run {
  readonly options: Options
  readonly directory: string
  readonly random: Random
  readonly record: Instances.Record
  readonly instances: ReadonlyArray<Instances.Instance>
  readonly faults: Map<string, number>
  readonly seen: Set<bigint>
  mostVoters: number
  /** Nobody is afflicted who is well. */
  isCalm: boolean
}

const one = <A>(random: Random, items: ReadonlyArray<A>): A => items[random(items.length)]!

const shuffled = <A>(random: Random, items: ReadonlyArray<A>): ReadonlyArray<A> =>
  items
    .map((item) => ({ item, at: random(1_000_000) }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item)

const begin = (run: Run, instance: Instances.Instance) =>
  Effect.sync(() => {
    const { directory, instances, options, record } = run
    const peers = instances.slice(0, options.size).map(({ name }) => name)
    Instances.begin(instance, record, { directory, peers, size: options.size, pauseMillis: options.pauseMillis })
  })

const pause = ({ random }: Run, millis: number) => Effect.suspend(() => Effect.sleep(random(millis)))

const noting = ({ faults }: Run, what: string) => Effect.sync(() => void faults.set(what, (faults.get(what) ?? 0) + 1))

// ── what befalls instances ──

const restart = (run: Run, instance: Instances.Instance) =>
  Effect.gen(function* () {
    yield* Instances.kill(instance)
    yield* pause(run, 2000)
    yield* begin(run, instance)
  })

/** Long enough for some to be killed before they have made their data, and some when they are to be promoted. */
const restartTwice = (run: Run, instance: Instances.Instance) =>
  Effect.gen(function* () {
    yield* restart(run, instance)
    yield* pause(run, 3000)
    yield* restart(run, instance)
  })

/** All of them have their place, and their data: so only one is without at a time. */
const isWhole = ({ instances, options }: Run): boolean =>
  instances.filter((instance) => instance.state === "Voter" && Instances.hasPlace(instance)).length === options.size

type Fault = (run: Run, instance: Instances.Instance) => Effect.Effect<unknown>

const faults: { readonly [name: string]: Fault } = {
  "an instance was killed": restart,
  "an instance was killed, and again while it came back": restartTwice,
  "an instance was stopped, and started": (run, instance) =>
    Effect.gen(function* () {
      yield* Instances.stop(instance)
      yield* pause(run, 1000)
      yield* begin(run, instance)
    }),
  "the etcd of an instance was killed": (_, instance) =>
    Effect.sync(() => {
      try {
        if (instance.pid !== undefined && Instances.isRunning(instance)) process.kill(instance.pid, "SIGKILL")
      } catch {}
    }),
  "an instance stood still": (run, instance) =>
    Effect.gen(function* () {
      instance.child?.kill("SIGSTOP")
      yield* Effect.ensuring(
        pause(run, 3000),
        Effect.sync(() => instance.child?.kill("SIGCONT"))
      )
    }),
  "an instance was killed while it left": (run, instance) =>
    Effect.gen(function* () {
      yield* Instances.tellToLeave(instance)
      yield* pause(run, 400)
      yield* restart(run, instance)
    })
}

/** Somebody's disk: only while all others have theirs, and until it has its place again. */
const loseData = (run: Run, instance: Instances.Instance) =>
  Effect.gen(function* () {
    yield* noting(run, "an instance lost its data")
    yield* Instances.kill(instance)
    yield* Instances.loseData(instance, run.directory)
    yield* begin(run, instance)
    yield* pause(run, 3000)
    if (run.random(2) === 0) yield* restart(run, instance)
    run.isCalm = false
    yield* until(() => Instances.hasPlace(instance))
  })

const goAndComeBack = (run: Run, instance: Instances.Instance) =>
  Effect.gen(function* () {
    yield* Instances.tellToLeave(instance)
    if (run.random(2) === 0) run.isCalm = false
    yield* until(() => instance.answer !== undefined || !Instances.isRunning(instance))
    if (instance.answer === "Stays") return yield* noting(run, "an instance was not let go")
    yield* until(() => !Instances.isRunning(instance))
    yield* noting(run, "an instance left, and came back")
    yield* pause(run, 1000)
    yield* begin(run, instance)
  })

/** What needs all others: they are left alone until they are there. */
const afflictWhole = (run: Run) =>
  Effect.gen(function* () {
    const { instances, random } = run
    run.isCalm = true
    yield* until(() => isWhole(run) && instances.every(({ isBusy }) => !isBusy))
    const instance = one(random, instances.filter(Instances.hasPlace))
    instance.isBusy = true
    yield* random(2) === 0 ? loseData(run, instance) : goAndComeBack(run, instance)
    instance.isBusy = false
    run.isCalm = false
  })

/** Whoever runs; a majority may be down at the same time, which costs no more than time. */
const afflict = (run: Run) =>
  Effect.suspend(() => {
    const { instances, random } = run
    const instance = one(random, instances)
    const name = one(random, Object.keys(faults))
    if (run.isCalm || instance.isBusy || !Instances.isRunning(instance)) return Effect.void
    instance.isBusy = true
    return noting(run, name).pipe(
      Effect.andThen(faults[name]!(run, instance)),
      Effect.ensuring(
        Effect.sync(() => {
          instance.isBusy = false
        })
      ),
      Effect.uninterruptible,
      Effect.forkScoped
    )
  })

const killAll = (run: Run) =>
  Effect.gen(function* () {
    const { instances, random } = run
    if (run.isCalm) return
    const some = instances.filter((instance) => Instances.isRunning(instance) && !instance.isBusy)
    yield* noting(run, "all were killed")
    for (const instance of some) instance.isBusy = true
    yield* Effect.forEach(some, Instances.kill, { concurrency: "unbounded" })
    for (const instance of shuffled(random, some)) {
      yield* pause(run, 500)
      yield* begin(run, instance)
      instance.isBusy = false
    }
  })

const repeatedly = <R>({ random }: Run, pauseMillis: number, fault: Effect.Effect<unknown, never, R>) =>
  Effect.forever(
    Effect.andThen(
      Effect.suspend(() => Effect.sleep(pauseMillis / 2 + random(pauseMillis))),
      fault
    )
  )

// ── what is looked at ──

const members = (run: Run) =>
  Effect.map(EtcdMembership.list({ deadline: "2 seconds", retry: Schedule.recurs(0) }), ({ members }) => {
    const voters = members.filter(({ isLearner }) => !isLearner)
    for (const { id } of members) run.seen.add(id)
    run.mostVoters = Math.max(run.mostVoters, voters.length)
    return { members, voters }
  })

const watchMembers = (run: Run) => Effect.forever(Effect.andThen(Effect.ignore(members(run)), Effect.sleep(200)))

const endpointOf = ({ directory }: Run, name: string): string => `unix://${join(directory, `${name}.client:0`)}`

/** For how long all may take to come together when nothing befalls them any more. */
const longestEnd = "90 seconds"

const settled = (run: Run) =>
  Effect.gen(function* () {
    yield* until(() => run.instances.every(Instances.hasPlace) && isWhole(run))
    yield* members(run).pipe(
      Effect.filterOrFail(({ voters }) => voters.length === run.options.size),
      Effect.retry(Schedule.spaced(100))
    )
  })

const describe = ({ instances }: Run): string =>
  instances
    .map(
      (instance) =>
        `${instance.name} ${Instances.isRunning(instance) ? instance.state : "has ended"} ${instance.reason}`
    )
    .join(", ")

/** Whoever was still about to leave when nothing more was to befall anybody. */
const bringBack = (run: Run) =>
  Effect.forever(
    Effect.andThen(
      Effect.suspend(() =>
        Effect.forEach(
          run.instances.filter((instance) => instance.answer === "Left" && !Instances.isRunning(instance)),
          (instance) => begin(run, instance)
        )
      ),
      Effect.sleep(500)
    )
  )

/** All come together, or not: what is wrong then. */
const comeTogether = (run: Run) =>
  Effect.map(Effect.timeoutOption(Effect.raceFirst(settled(run), bringBack(run)), longestEnd), (done) =>
    Option.isSome(done) ? [] : [`in the end there are not ${run.options.size} voters: ${describe(run)}`]
  )

/** One leaves, and who waits takes its place. */
const replaceOne = (run: Run) =>
  Effect.gen(function* () {
    const { instances, random } = run
    const waiting = instances.find(({ state }) => state !== "Voter")
    const leaver = one(
      random,
      instances.filter(({ state }) => state === "Voter")
    )
    if (waiting === undefined) return ["nobody waits for a place"]
    yield* Instances.tellToLeave(leaver)
    yield* until(() => leaver.answer !== undefined).pipe(Effect.timeoutOption("60 seconds"))
    if (leaver.answer !== "Left")
      return [`${leaver.name} did not leave (${leaver.answer ?? "no answer"}): ${describe(run)}`]
    yield* until(() => !Instances.isRunning(leaver))
    const taken = yield* Effect.timeoutOption(
      until(() => waiting.state === "Voter"),
      "30 seconds"
    )
    if (Option.isNone(taken)) return [`${waiting.name} did not take the place of ${leaver.name}: ${describe(run)}`]
    yield* noting(run, "the place of one that left was taken by who waited")
    return []
  })

/** What the cluster has not that was acknowledged, and whether all voters have the same. */
const judge = (run: Run) =>
  Effect.gen(function* () {
    const problems: Array<string> = []
    const found = new Map<string, string>()
    yield* Stream.runForEach(EtcdKv.stream(KeyRange.prefix("written/")), ({ keyString, modRevision, valueString }) =>
      Effect.sync(() => {
        if (valueString !== keyString) problems.push(`${keyString} is ${valueString}`)
        found.set(keyString, String(modRevision))
      })
    )
    for (const [key, revision] of run.record.written) {
      if (found.get(key) !== revision) problems.push(`${key} was written at ${revision}, and is at ${found.get(key)}`)
    }
    const { members: list, voters } = yield* members(run)
    const { header } = yield* EtcdKv.range("none")
    const hashes = yield* Effect.forEach(voters, ({ name }) =>
      EtcdMaintenance.hashKv({ endpoint: endpointOf(run, name), revision: header.revision }).pipe(
        Effect.map(({ hash, header }): string => `${header.clusterId.toString(16)} ${hash}`)
      )
    )
    if (new Set(hashes).size !== 1) problems.push(`the voters have different data: ${hashes.join(", ")}`)
    const urls = list.flatMap(({ peerUrls }) => peerUrls)
    if (new Set(urls).size !== urls.length) problems.push(`two members have one URL: ${urls.join(", ")}`)
    return problems
  }).pipe(Effect.catch((error) => Effect.succeed([`the cluster could not be asked: ${error.message}`])))

// ── the whole ──

const all = (run: Run) =>
  Effect.gen(function* () {
    const { instances, options, random } = run
    const first = instances.slice(0, options.size)
    const latest = instances[options.size]!
    yield* Effect.forkScoped(watchMembers(run))
    for (const instance of shuffled(random, first)) {
      yield* pause(run, 1500)
      yield* begin(run, instance)
    }
    const afflicting = Effect.all(
      [
        repeatedly(run, 1500, afflict(run)),
        repeatedly(run, 10_000, afflictWhole(run)),
        repeatedly(run, 45_000, killAll(run)),
        Effect.andThen(Effect.sleep(options.seconds * 250), begin(run, latest))
      ],
      { concurrency: "unbounded", discard: true }
    )
    yield* Effect.scoped(Effect.timeoutOption(afflicting, options.seconds * 1000))
    for (const instance of instances) if (!Instances.isRunning(instance)) yield* begin(run, instance)
    const problems = yield* comeTogether(run)
    if (problems.length === 0) problems.push(...(yield* replaceOne(run)))
    // So that all voters can be compared.
    yield* Effect.forEach(instances, Instances.tellToBeQuiet)
    yield* Effect.sleep(500)
    problems.push(...(yield* judge(run)))
    const { voters } = yield* Effect.orElseSucceed(members(run), () => ({ voters: [] }))
    yield* Effect.forEach(instances, Instances.stop, { concurrency: "unbounded" })
    return { problems, voters: voters.length }
  })

export const run = (options: Options) =>
  Effect.gen(function* () {
    const directory = yield* temporaryDirectory
    const record = Instances.newRecord()
    yield* Programs.killedAtLast(record.processes)
    const names = Array.from({ length: options.size + 1 }, (_, index) => String.fromCharCode(97 + index))
    const run: Run = {
      ...{ options, directory, record, random: makeRandom(options.seed), faults: new Map(), seen: new Set() },
      instances: names.map(Instances.make),
      mostVoters: 0,
      isCalm: false
    }
    const endpoints = names.map((name) => endpointOf(run, name))
    const { problems, voters } = yield* Effect.provide(all(run), EtcdLayer.connect({ endpoints }))
    const report: Report = {
      written: record.written.size,
      unwritten: record.unwritten,
      faults: run.faults,
      clusterIds: [...record.clusterIds],
      voters,
      mostVoters: run.mostVoters,
      members: run.seen.size,
      problems: [
        ...problems,
        ...record.problems,
        ...(record.clusterIds.size === 1 ? [] : [`there were several clusters: ${[...record.clusterIds].join(", ")}`]),
        ...(run.mostVoters <= options.size ? [] : [`there were ${run.mostVoters} voters at a time`]),
        ...(voters === options.size ? [] : [`there are ${voters} voters`])
      ]
    }
    return report
  }).pipe(Effect.scoped)
