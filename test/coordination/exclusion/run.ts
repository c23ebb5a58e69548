/**
 * Many processes that want the same few locks of a cluster, while they are stopped, killed and cut off, members are
 * killed and paused, leases revoked and keys deleted. Whether anybody has written that should not have is seen from the
 * history of what was written in etcd, and from a server that looks at tokens.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdLock from "../../../src/coordination/EtcdLock.ts"
import type * as EtcdCluster from "../../../src/EtcdCluster.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as EtcdLayer from "../../../src/EtcdLayer.ts"
import * as EtcdLease from "../../../src/EtcdLease.ts"
import * as EtcdWatch from "../../../src/EtcdWatch.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import { temporaryDirectory, until } from "../../support/machine.ts"
import * as Programs from "../../support/programs.ts"
import { makeRandom, type Random } from "../../support/random.ts"
import * as Contenders from "./contenders.ts"
import { type Files, files } from "./files.ts"
import { link } from "./link.ts"
import { nameOf, type Written } from "./protocol.ts"
import * as Verdict from "./verdict.ts"

export interface Options {
  readonly seconds: number
  readonly seed: number
  readonly processes: number
  readonly fibers: number
  readonly ttlMillis: number
  readonly fence: boolean
  /** What begins all keys of the run. */
  readonly prefix: string
}

export interface Report {
  readonly works: number
  /** How works and acquisitions ended, and why, counted. */
  readonly ends: ReadonlyMap<string, number>
  /** What has befallen whom how often. */
  readonly faults: ReadonlyMap<string, number>
  /** How many writes the ledger in etcd has. */
  readonly written: number
  readonly filesAccepted: number
  readonly filesRefused: number
  readonly overlaps: ReadonlyArray<Verdict.Overlap>
  /** What must not be in the ledger. */
  readonly ledgerProblems: ReadonlyArray<string>
  /** Everything else that must not be. */
  readonly problems: ReadonlyArray<string>
}

const locks = ["a", "b"]

interface Run {
  readonly options: Options
  readonly random: Random
  readonly record: Contenders.Record
  readonly files: Files
  readonly contenders: ReadonlyArray<Contenders.Contender>
  readonly faults: Map<string, number>
  readonly removals: Array<Verdict.Removal>
  /** The socket of the file server. */
  readonly served: string
}

const noting = ({ faults }: Run, what: string) => Effect.sync(() => void faults.set(what, (faults.get(what) ?? 0) + 1))

const one = <A>(random: Random, items: ReadonlyArray<A>): A => items[random(items.length)]!

const repeatedly = <R>(random: Random, pauseMillis: number, fault: Effect.Effect<unknown, never, R>) =>
  Effect.forever(
    Effect.andThen(
      Effect.suspend(() => Effect.sleep(1 + random(2 * pauseMillis))),
      fault
    )
  )

// ── what befalls contenders ──

/** Longer than the time to live, or shorter. */
const aWhile = ({ options: { ttlMillis }, random }: Run) =>
  Effect.suspend(() => Effect.sleep(ttlMillis / 4 + random(2 * ttlMillis)))

/** Until somebody else has written under one of the locks. */
const untilOvertaken =
  ({ files }: Run) =>
  (held: ReadonlyArray<string>, token: number) =>
    until(() => held.some((lock) => files.highest(lock) > token))

/** As {@link untilOvertaken}, if that comes about soon: others may be afflicted as well. */
const untilSoonOvertaken = (run: Run) => (held: ReadonlyArray<string>, token: number) =>
  Effect.asVoid(Effect.timeoutOption(untilOvertaken(run)(held, token), 5 * run.options.ttlMillis))

const begin = (run: Run, contender: Contenders.Contender, name: string) => {
  const { options, record, served } = run
  const { fence, fibers, prefix, seed, ttlMillis } = options
  const { endpoints } = contender.link
  const own = seed + 1000 * (record.processes.length + 1)
  Contenders.begin(contender, record, name, {
    ...{ prefix, endpoints, files: served, locks, fibers, ttlMillis, fence },
    seed: own
  })
}

const restart = (run: Run, contender: Contenders.Contender, index: number) =>
  Effect.gen(function* () {
    contender.child.kill("SIGKILL")
    yield* until(() => Programs.hasEnded(contender.child))
    const name = `${index}.${run.record.processes.length}`
    begin(run, contender, name)
    yield* until(() => contender.isReady || Programs.hasEnded(contender.child))
  }).pipe(Effect.uninterruptible)

const stopsBetween = "contender stopped between reading and writing"

const contenderFaults: {
  readonly [fault: string]: (run: Run, contender: Contenders.Contender, index: number) => Effect.Effect<unknown>
} = {
  [stopsBetween]: (run, contender) => Contenders.stopBetweenWhile(contender, run.record, untilSoonOvertaken(run)),
  "contender stopped": (run, contender) => Contenders.freezeWhile(contender, run.record, aWhile(run)),
  "contender killed": restart,
  "contender cut off": (run, { link }) =>
    Effect.andThen(Effect.sync(link.cut), Effect.ensuring(aWhile(run), Effect.sync(link.mend))),
  "contender's connections closed": (_, { link }) => Effect.sync(link.close)
}

/** One of them goes on, at least. */
const afflictContender = (run: Run, among: ReadonlyArray<string>) =>
  Effect.suspend(() => {
    const { contenders, random } = run
    const busy = contenders.filter(({ isBusy }) => isBusy).length
    const contender = one(random, contenders)
    const fault = one(random, among)
    if (contender.isBusy || busy > contenders.length / 2) return Effect.void
    contender.isBusy = true
    return noting(run, fault).pipe(
      Effect.andThen(contenderFaults[fault]!(run, contender, contenders.indexOf(contender))),
      Effect.ensuring(
        Effect.sync(() => {
          contender.isBusy = false
        })
      ),
      Effect.forkScoped
    )
  })

// ── what befalls members ──

/** One at a time, so that there is a majority. */
const afflictMember = (run: Run, cluster: EtcdCluster.Cluster) =>
  Effect.gen(function* () {
    const { random } = run
    const member = one(random, SubscriptionRef.getUnsafe(cluster.members))
    if (random(2) === 0) {
      yield* noting(run, "member killed")
      yield* member.signal("SIGKILL")
      yield* Effect.ensuring(Effect.sleep(random(500)), Effect.ignore(Effect.andThen(member.exit, member.start)))
    } else {
      yield* noting(run, "member paused")
      yield* member.signal("SIGSTOP")
      yield* Effect.ensuring(aWhile(run), member.signal("SIGCONT"))
    }
  })

// ── what befalls keys ──

/** Of whoever holds a lock, or waits. */
const afflictKey = (run: Run) =>
  Effect.gen(function* () {
    const { options, random, removals } = run
    const line = yield* EtcdLock.line(EtcdLock.make(nameOf(options.prefix, one(random, locks))))
    const waiter = line[Math.min(random(3), line.length - 1)]
    if (waiter === undefined) return
    const isRevoked = random(2) === 0
    yield* noting(run, isRevoked ? "lease revoked" : "key deleted")
    // All that have this lease are removed with it.
    const lines = isRevoked
      ? yield* Effect.forEach(locks, (lock) => EtcdLock.line(EtcdLock.make(nameOf(options.prefix, lock))))
      : [[waiter]]
    const at = Programs.now()
    for (const { lease, token } of lines.flat()) if (lease === waiter.lease) removals.push({ token: Number(token), at })
    yield* isRevoked ? EtcdLease.revoke(waiter.lease) : EtcdKv.delete(waiter.key)
  }).pipe(Effect.ignore)

// ── the whole ──

const history = ({ options: { prefix } }: Run) =>
  Effect.gen(function* () {
    const end = yield* EtcdKv.put(`${prefix}ledger`, "end")
    const events = yield* EtcdWatch.watch(KeyRange.prefix(`${prefix}ledger`), { startRevision: 1n }).pipe(
      Stream.takeUntil((event) => event.kv.modRevision >= end.header.revision),
      Stream.runCollect
    )
    return events
      .filter(({ kv }) => kv.keyString !== `${prefix}ledger`)
      .map(
        ({ kv }): Verdict.Entry => ({
          lock: kv.keyString.slice(kv.keyString.lastIndexOf("/") + 1),
          ...(JSON.parse(kv.valueString) as Written)
        })
      )
  })

/**
 * What tells a fence from none comes first: one is stopped until it is overtaken, and writes then; without a fence as often
 * as it takes until that has landed.
 */
const stopOne = (run: Run) =>
  Effect.gen(function* () {
    const { contenders, options, record } = run
    do {
      yield* noting(run, stopsBetween)
      yield* Contenders.stopBetweenWhile(contenders[0]!, record, untilOvertaken(run))
      yield* until(() =>
        record.works.every(({ outcome, token }) => outcome !== undefined || token !== contenders[0]!.stopped?.token)
      )
    } while (!options.fence && Verdict.ledgerProblems(yield* history(run)).length === 0)
  })

const afflict = (run: Run, cluster: EtcdCluster.Cluster) => {
  const { options, random } = run
  const { seconds, ttlMillis } = options
  const all = Effect.all(
    [
      repeatedly(random, ttlMillis / 2, afflictContender(run, [stopsBetween])),
      repeatedly(random, ttlMillis / 8, afflictContender(run, Object.keys(contenderFaults))),
      repeatedly(random, ttlMillis, afflictMember(run, cluster)),
      repeatedly(random, ttlMillis / 4, afflictKey(run))
    ],
    { concurrency: "unbounded", discard: true }
  )
  return Effect.andThen(stopOne(run), Effect.scoped(Effect.timeoutOption(all, seconds * 1000)))
}

const keysLeft = ({ options: { prefix } }: Run) =>
  Effect.map(EtcdKv.range(KeyRange.prefix(`${prefix}locks/`), { keysOnly: true }), ({ kvs }) =>
    kvs.map((kv) => kv.keyString)
  )

/** How long it may take until everything has ended, beyond what etcd needs to notice. */
const longestEndMillis = 20_000

/** Lets all contenders end, and answers what has not. */
const endAll = ({ contenders }: Run) =>
  Effect.gen(function* () {
    for (const { child } of contenders) child.stdin!.end()
    yield* Effect.ignore(
      Effect.timeout(
        until(() => contenders.every(({ child }) => Programs.hasEnded(child))),
        longestEndMillis
      )
    )
    return contenders
      .filter(({ child }) => child.exitCode !== 0)
      .map(
        ({ child, name }) =>
          `contender ${name} did not end as it should: ${child.exitCode ?? child.signalCode ?? "it runs"}`
      )
  })

const start = (run: Run) =>
  Effect.suspend(() => {
    for (const [index, contender] of run.contenders.entries()) begin(run, contender, String(index))
    return until(() => run.contenders.every(({ child, isReady }) => isReady || Programs.hasEnded(child)))
  })

/** Its keys go with the leases of those who were killed. */
const removed = (run: Run) =>
  keysLeft(run).pipe(
    Effect.repeat({ until: (keys) => keys.length === 0, schedule: Schedule.spaced(50) }),
    Effect.timeoutOption(run.options.ttlMillis + longestEndMillis)
  )

/** Such as should not be there, whatever happens between the contenders and etcd. */
const isStrange = (end: string): boolean => /Error|ProtocolViolation|InvalidArgument|Fenced/.test(end)

/** Runs it on a cluster, and says what came of it. */
export const run = (cluster: EtcdCluster.Cluster, options: Options) =>
  Effect.gen(function* () {
    const directory = yield* temporaryDirectory
    const served = `${directory}/files`
    const record = Contenders.newRecord()
    const random = makeRandom(options.seed)
    yield* Programs.killedAtLast(record.processes)
    const contenders = yield* Effect.forEach(Array.from({ length: options.processes }).keys(), (index) =>
      Effect.map(
        link(
          SubscriptionRef.getUnsafe(cluster.members).flatMap(({ endpoints }) => endpoints),
          directory,
          String(index)
        ),
        Contenders.make
      )
    )
    const run: Run = {
      ...{ options, random, record, served, contenders },
      files: yield* files(served),
      faults: new Map(),
      removals: []
    }
    return yield* Effect.gen(function* () {
      yield* start(run)
      yield* afflict(run, cluster)
      const notEnded = yield* endAll(run)
      const left = yield* removed(run)
      const entries = yield* history(run)
      const overlaps = Verdict.overlaps(record.works, record.stops, run.removals)
      const report: Report = {
        works: record.works.length,
        ends: record.ends,
        faults: run.faults,
        written: entries.length,
        filesAccepted: run.files.accepted.length,
        filesRefused: run.files.refused.length,
        overlaps,
        ledgerProblems: Verdict.ledgerProblems(entries),
        problems: [
          ...overlaps
            .filter(({ because }) => because === undefined)
            .map((overlap) => `unexplained: ${JSON.stringify(overlap)}`),
          ...Verdict.missingWrites(record.works, entries),
          ...Verdict.refusedInTime(run.files.refused, record.works),
          ...[...record.ends.keys()].filter(isStrange).map((end) => `something ended with ${end}`),
          ...notEnded,
          ...(Option.isSome(left) ? [] : (yield* keysLeft(run)).map((key) => `${key} is left`))
        ]
      }
      return report
    }).pipe(Effect.provide(Layer.provideMerge(EtcdLease.layer, EtcdLayer.connect({ endpoints: cluster.endpoints }))))
  }).pipe(Effect.scoped)
