/**
 * Operations on a cluster that a person dares to run: each looks at the cluster first, refuses with a reason that says what
 * it found and what would help, and does one step after another only then.
 *
 * They need a client and nothing else, so they work on any etcd that can be reached. Use a client of all keys: with
 * that of a namespace, the lock below is taken in the namespace, and nobody outside of it waits for it. Operations that
 * need the processes of a cluster (to start, replace or upgrade its members) are on the value of `EtcdCluster`.
 *
 * - *`dryRun`* looks, refuses, and answers with the steps that would be taken, without taking any of them.
 * - *One at a time*: while an operation changes the cluster, it holds the lock `effect-etcd/operations` in it (see
 *   `EtcdLock`), and the next one, from whichever program, waits until it is given back. If a program is killed in an
 *   operation, its lock expires after ten seconds, which start over if another member of etcd takes the lead. A cluster
 *   that takes no writes has no such lock: operations run without it, except for those that hand data on while these
 *   may be corrupt. In a cluster of one or two members, which has no quorum while one is away, the lock may be lost,
 *   and the operation goes on.
 * - *Killed half-way*, at whatever step: run it again, and it does what is left to do. (`moveLeader` without a name
 *   moves the leadership once more, if it had moved it before it could say so.)
 * - Each step is logged at `Info`, and passed to `onProgress`.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type * as ByteSize from "effect/ByteSize"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { PlatformError } from "effect/PlatformError"
import type * as Schedule from "effect/Schedule"
import * as Sink from "effect/Sink"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { ClusterId, MemberId } from "./EtcdId.ts"
import type { Member } from "./EtcdMembership.ts"
import type { ClusterRefused, OperationFailed } from "./EtcdOperationError.ts"
import { aMember, ofOperation } from "./internal/operations/options.ts"
import * as Checks from "./internal/options.ts"
import * as Tracing from "./internal/tracing.ts"

/**
 * A step of an operation.
 *
 * @category models
 * @since 0.1.0
 */
export interface StepReport {
  /** What it does: "move the leader from node0 to node2". */
  readonly title: string
  /** `planned` in a dry run. */
  readonly outcome: "done" | "planned"
  /** What came of it, where there is something to tell. */
  readonly detail: string | undefined
  /** How long it took, in real time; zero in a dry run. */
  readonly took: Duration.Duration
}

/**
 * What an operation has done; without steps, where there was nothing to do.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** Which operation it was: `defragment`. */
  readonly operation: string
  /** Whether it has only looked. */
  readonly dryRun: boolean
  /** What was done, or would be, in that order. */
  readonly steps: ReadonlyArray<StepReport>
  /** How long all of it took, in real time. */
  readonly took: Duration.Duration
}

/**
 * How far an operation is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  /** Which operation it is: `defragment`. */
  readonly operation: string
  /** What the step does: "move the leader from node0 to node2". */
  readonly step: string
  /** Which step it is, from 0 on. */
  readonly index: number
  /** How many there are. */
  readonly total: number
  /** What there is to tell within the step. */
  readonly detail: string | undefined
}

/**
 * How an operation is done.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Looks and plans, and does nothing. Default: false. */
  readonly dryRun?: boolean | undefined
  /**
   * Runs when a step begins, and where there is something to tell of it. The operation goes on when it has ended, so that
   * another one on the same cluster, which would wait for that, is refused in it. Default: nothing.
   */
  readonly onProgress?: ((progress: Progress) => Effect.Effect<void>) | undefined
}

/**
 * Which members are defragmented.
 *
 * @category options
 * @since 0.1.0
 */
export interface DefragmentOptions extends Options {
  /** Leaves out a member that would give back less. Default: "64 MiB". */
  readonly minBytes?: ByteSize.Input | undefined
  /** Leaves out a member that would give back a smaller part of its database: more than 0, 1 at most. Default: 0.3. */
  readonly minShare?: number | undefined
}

/**
 * How room is made.
 *
 * @category options
 * @since 0.1.0
 */
export interface ClearNoSpaceOptions extends Options {
  /**
   * Does not compact: what members give back is what was deleted, and compacted, before. Default: false, all revisions of
   * keys but the newest are given up.
   */
  readonly keepHistory?: boolean | undefined
  /**
   * The quota of the members (`--quota-backend-bytes`), for those that do not tell it: before etcd 3.6. `Infinity` is none.
   * Default: "2 GiB", etcd's own.
   */
  readonly quota?: ByteSize.Input | undefined
}

/**
 * What came of comparing the members.
 *
 * @category models
 * @since 0.1.0
 */
export interface Comparison {
  /**
   * - `sound`: no member that was compared has other data than a majority of the voters.
   * - `corrupt`: a majority of the voters has the same data, and somebody has others.
   * - `undecided`: there is no such majority, or what differs may be due to another version of etcd.
   */
  readonly verdict: "sound" | "corrupt" | "undecided"
  /** The revision at which they were compared. */
  readonly revision: bigint
  /** Whose data are not those of the majority. */
  readonly corrupt: ReadonlyArray<Member>
  /** The majority, and who else has the same data. */
  readonly sound: ReadonlyArray<Member>
  /**
   * Those that could not be compared: learners, which do not answer that, and members that did not answer or lagged
   * behind.
   */
  readonly unknown: ReadonlyArray<Member>
  /** What was seen, a line a fact. */
  readonly evidence: ReadonlyArray<string>
}

/**
 * What there is to know of a backup. Beside a file it is in a record of its name and `.json`, in which ids are etcd's
 * hexadecimal text, and the revision is text.
 *
 * @category models
 * @since 0.1.0
 */
export interface Backup {
  /**
   * The newest revision that is in it, as it is read from the database itself. Of what went to a sink: the one that the
   * member had before, so that newer ones may be in it as well.
   */
  readonly revision: bigint
  readonly clusterId: ClusterId
  /** Who gave it. */
  readonly memberId: MemberId
  /** The name of who gave it. */
  readonly member: string
  /** The version of etcd that it runs. */
  readonly version: string
  /** The version of the format on disk. etcd 3.6 and newer. */
  readonly storageVersion: Option.Option<string>
  /** The size of all of it, the checksum of 32 bytes at its end included. */
  readonly bytes: number
  /** SHA-256 of the database, in hexadecimal: what those 32 bytes are. */
  readonly sha256: string
  /** When it was begun, by the program's clock. */
  readonly takenAt: DateTime.Utc
}

/**
 * A backup in a file.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stored extends Backup {
  /** The file. */
  readonly path: string
}

/**
 * What came of a backup.
 *
 * @category models
 * @since 0.1.0
 */
export interface BackupReport extends Report {
  /** Undefined in a dry run. */
  readonly backup: Backup | undefined
  /** Where it is; undefined in a dry run, and where it went to a sink. */
  readonly path: string | undefined
}

/**
 * What came of a backup to a sink.
 *
 * @category models
 * @since 0.1.0
 */
export interface SinkReport<A> extends BackupReport {
  /** What the sink has answered; nothing in a dry run. */
  readonly result: Option.Option<A>
}

/**
 * How a backup is made.
 *
 * @category options
 * @since 0.1.0
 */
export interface BackupOptions extends Options {
  /**
   * The member that gives it. Default: the follower that has applied most, to spare the leader; the leader, if it is
   * alone. A member that is named is asked even while the alarm `Corrupt` is armed.
   */
  readonly member?: MemberRef | undefined
}

/**
 * Which backups of a directory stay: each that one of the two asks for, and the newest in any case.
 *
 * @category options
 * @since 0.1.0
 */
export interface Keep {
  /** The last so many. Default: 1. */
  readonly last?: number | undefined
  /** Those that were begun so long before the new one, or later. Default: none for its age. */
  readonly within?: Duration.Input | undefined
}

/**
 * How a backup is made in a directory.
 *
 * @category options
 * @since 0.1.0
 */
export interface BackupDirectoryOptions extends BackupOptions {
  /** Which of the backups of this cluster that are there stay. Default: all. */
  readonly keep?: Keep | undefined
}

/**
 * A member, by its name or its id.
 *
 * @category models
 * @since 0.1.0
 */
export type MemberRef = string | MemberId

/**
 * Why an operation did nothing (`ClusterRefused`), or did not all of it (`OperationFailed`), or what a call of it
 * failed with.
 *
 * @category models
 * @since 0.1.0
 */
export type Failure = ClusterRefused | OperationFailed | EtcdError.EtcdError

const ofDefragment: Checks.Checks<DefragmentOptions> = {
  ...ofOperation,
  minBytes: Checks.size,
  minShare: {
    accepts: (value) => typeof value === "number" && value > 0 && value <= 1,
    due: "a part of the whole: more than 0, and 1 at most"
  }
}

const ofClearNoSpace: Checks.Checks<ClearNoSpaceOptions> = {
  ...ofOperation,
  keepHistory: Checks.flag,
  quota: Checks.size
}

const ofBackup: Checks.Checks<BackupOptions> = { ...ofOperation, member: aMember }

const ofKeep: Checks.Checks<Keep> = { last: Checks.count, within: Checks.duration }

const ofBackupDirectory: Checks.Checks<BackupDirectoryOptions> = {
  ...ofBackup,
  keep: {
    accepts: (value) =>
      Checks.isObject(value) &&
      Object.values(value).some((one) => one !== undefined) &&
      Checks.problemOf("", ofKeep, value as Keep) === undefined,
    due: 'an object with last (a whole number from 1 on) or within (a duration such as "7 days"), or both'
  }
}

const aFile = Checks.text("the name of a file")

const aDirectory = Checks.text("the name of a directory")

const aSink: Checks.Check = { accepts: Sink.isSink, due: "a Sink" }

/** Fails with what makes no sense in options, if anything does. */
const wrongOptions = <O extends object>(name: string, checks: Checks.Checks<O>, options: O | undefined) => {
  const problem = Checks.problemOf(`EtcdOperations.${name}`, checks, options)
  return problem === undefined ? undefined : Effect.fail(Checks.invalid(problem))
}

/** Loads an operation, and gives it the client. */
const load = <Module, A, E, R>(
  module: () => Promise<Module>,
  use: (module: Module, client: EtcdClient.Client) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | EtcdClient.EtcdClient> =>
  Effect.flatMap(Effect.promise(module), (loaded) => EtcdClient.EtcdClient.use((client) => use(loaded, client)))

/** An operation that ends, as one span. */
const operate = <Module, A, E, R>(
  name: string,
  module: () => Promise<Module>,
  use: (module: Module, client: EtcdClient.Client) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R | EtcdClient.EtcdClient> => Tracing.traced(load(module, use), `EtcdOperations.${name}`)

/**
 * Makes another voter the leader: the one that is named, or the one that has applied most. Nothing where it leads already.
 *
 * It is done when the new leader says that it leads. Writes that are under way meanwhile wait for it: some milliseconds,
 * and an election timeout where the new one turns out not to answer. Those that clients send to the leader, as they do by
 * default (`EtcdClient.Options.selection`), are tried again where it did not take them. What a follower sent on to it may
 * be dropped, of which etcd tells nobody: such a write fails with `LeaderChanged`, and its outcome is unknown.
 *
 * Refused with `learner`, `no-such-member`, `unhealthy-member` (it does not answer, knows of no leader, or has more than
 * 5000 entries of the log to catch up), `alarm` and `no-quorum`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const away = EtcdOperations.moveLeader("node2").pipe(
 *   Effect.tap(({ took }) => Effect.log("moved in", took)),
 *   Effect.catchTag("ClusterRefused", ({ evidence, help }) => Effect.logWarning(...evidence, help))
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const moveLeader = (
  to?: MemberRef | undefined,
  options?: Options | undefined
): Effect.Effect<Report, Failure, EtcdClient.EtcdClient> =>
  (to === undefined ? undefined : Checks.wrongArgument("EtcdOperations.moveLeader", "the member", aMember, to)) ??
  wrongOptions("moveLeader", ofOperation, options) ??
  operate(
    "moveLeader",
    () => import("./internal/operations/moveLeader.ts"),
    ({ moveLeader }, client) => moveLeader(client, to, options)
  )

/**
 * Gives what is free in the databases of the members back to their file systems, one after the other: those that follow
 * first; then the leader is moved to one of them, and who led is the last. The next one's turn comes when the one
 * before answers and has applied what the leader has. It leaves out those who would gain little (see
 * {@link DefragmentOptions}): nothing is done where that is all of them.
 *
 * - *A member that is defragmented answers nothing meanwhile*: it copies what is in use to a new file. Three members with
 *   450 MB each on one machine took 5 to 14 seconds each. Clients that ask the leader, which is the default, notice nothing
 *   but the one change of the leader: 75 ms were the longest time between two of the writes that went on meanwhile. Watches
 *   that are open at the old leader stand still for as long as that one takes.
 * - *A cluster of one* takes neither reads nor writes meanwhile: calls wait, for their deadline at most, and what is held
 *   by a lease may be lost where that takes longer than its time to live.
 * - *Clients that do not ask the leader* (`selection: "sticky"`, `"spread"`, those of other makes) wait at the member
 *   that is defragmented, unless they give up and ask another.
 * - *Learners* are left alone: etcd takes no such request there.
 * - *The disk of each member* has to have room for a second copy of what is in use. A client cannot see whether it has: etcd
 *   fails there without it, and has the database that it had.
 * - What frees pages in a database is compaction (`EtcdKv.compact`, or `autoCompactionRetention` of the members).
 *
 * It leaves the cluster as it is at the first member that does not come back, or gets no further for two minutes
 * (`OperationFailed`). A member that was asked by somebody who was killed goes on by itself.
 *
 * Refused with `unhealthy-member` (a voter does not answer, or has more than 5000 entries of the log to catch up, so that
 * it would be missed while another is busy), `alarm` ({@link clearNoSpace} defragments a cluster without
 * space) and `no-quorum`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const nightly = EtcdOperations.defragment({ minShare: 0.5 }).pipe(
 *   Effect.tap(({ steps }) => Effect.forEach(steps, ({ detail, title }) => Effect.log(title, detail)))
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const defragment = (
  options?: DefragmentOptions | undefined
): Effect.Effect<Report, Failure, EtcdClient.EtcdClient> =>
  wrongOptions("defragment", ofDefragment, options) ??
  operate(
    "defragment",
    () => import("./internal/operations/defragment.ts"),
    ({ defragment }, client) => defragment(client, options)
  )

/**
 * Lets a cluster take writes again whose space quota was used up (the alarm `NoSpace`): compacts the history up to the
 * current revision, waits until every member has done so, defragments them as {@link defragment} does, looks whether each
 * is below its quota, and only then disarms the alarms. Nothing is done where no such alarm is armed.
 *
 * If a member is not below its quota after all of that, the alarms stay, and it fails with `OperationFailed`, which says how
 * much each member has: delete more keys then. The alarms also stay if a member stops answering on the way. A learner counts
 * as well; etcd defragments it only when it is a voter.
 *
 * *No lock is held*: the cluster takes neither its key nor its lease. Two of these at once do twice what once would do,
 * and may keep two members busy at a time; nothing is lost by it.
 *
 * Refused with `unhealthy-member` (a voter, or a learner with the alarm, does not answer: its database could be at its quota
 * still, so start it, or remove it), `alarm` (of `Corrupt`, which comes first) and `no-quorum`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdOperations } from "effect-etcd"
 *
 * const makeRoom = Effect.andThen(EtcdKv.deletePrefix("cache/"), EtcdOperations.clearNoSpace())
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const clearNoSpace = (
  options?: ClearNoSpaceOptions | undefined
): Effect.Effect<Report, Failure, EtcdClient.EtcdClient> =>
  wrongOptions("clearNoSpace", ofClearNoSpace, options) ??
  operate(
    "clearNoSpace",
    () => import("./internal/operations/clearNoSpace.ts"),
    ({ clearNoSpace }, client) => clearNoSpace(client, options)
  )

/**
 * Compares the data of the voters by their hashes (`HashKV`), at one revision and with one past compaction, while writes go
 * on: who differs from a majority of all voters is corrupt. It changes nothing, and works whether or not etcd has armed the
 * alarm `Corrupt` itself.
 *
 * Each member reads all of its database, one after the other, and is slow meanwhile. What they have in common that is
 * wrong nobody sees. A member that has more or fewer revisions than the others though it has applied as much differs too.
 * Where members of one version differ from all of another there is no verdict: versions around 3.4.34, 3.5.16 and 3.6 hash
 * some compacted histories differently (etcd-io/etcd 18274).
 *
 * Refused with `no-quorum`, and `unhealthy-member` where the history is compacted faster than they can be asked. Fails with
 * `PermissionDenied` for a user without the role `root`: etcd lets nobody else compare.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const looked = Effect.gen(function*() {
 *   const { evidence, verdict } = yield* EtcdOperations.findCorrupt()
 *   if (verdict !== "sound") yield* Effect.logError(verdict, ...evidence)
 * })
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const findCorrupt = (): Effect.Effect<Comparison, ClusterRefused | EtcdError.EtcdError, EtcdClient.EtcdClient> =>
  operate(
    "findCorrupt",
    () => import("./internal/operations/findCorrupt.ts"),
    ({ findCorrupt }, client) => findCorrupt(client)
  )

/**
 * Makes a backup in a file that only its owner can read: a snapshot of a member, as `etcdutl snapshot restore` and
 * `EtcdCluster.restore` take it, and beside it, with `.json` at the end of its name, a record of what it is
 * ({@link Backup}).
 *
 * The file takes the place of the one that was there when all of it has come, its SHA-256 is right, its newest revision was
 * read from it, and it is on the disk; the record after it. Until then it is beside it, in files that end in `.part`. Those
 * are removed where anything fails (a disk that is full, too: the error says so) or it is interrupted; what a process
 * has left that was killed is removed by the next one, when nobody has written to it for a quarter of an hour. A
 * process that is killed at the very end may leave the new file without a record, and of two processes that make one
 * under one name at the same time, one may leave its record beside the file of the other: let each have names of its own.
 *
 * All that was acknowledged before is in it: a member that lags behind is waited for, for two minutes at most. It holds no
 * lock, since it changes nothing in the cluster, and goes on while writes do. The member keeps the pages of the snapshot
 * until it is sent, so that its database grows while a slow disk takes it.
 *
 * Refused with `no-quorum`, `alarm` (of `Corrupt`, unless a member is named), `no-such-member`, `unhealthy-member` and
 * `data-in-the-way` (something of that name is no file).
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const saved = EtcdOperations.backup("/var/backups/etcd.db").pipe(
 *   Effect.tap(({ backup }) => Effect.log("saved up to revision", backup?.revision))
 * )
 * ```
 *
 * @category backups
 * @since 0.1.0
 */
export const backup = (
  path: string,
  options?: BackupOptions | undefined
): Effect.Effect<BackupReport, Failure, EtcdClient.EtcdClient | FileSystem.FileSystem | Path.Path> =>
  Checks.wrongArgument("EtcdOperations.backup", "the path", aFile, path) ??
  wrongOptions("backup", ofBackup, options) ??
  operate(
    "backup",
    () => import("./internal/operations/backup.ts"),
    ({ oneFile }, client) => oneFile(client, path, options)
  )

/**
 * Makes a {@link backup} in a directory, which is made with mode 0700 if it is not there, and removes those that are not to
 * be kept.
 *
 * Names sort by the time, and name the cluster: `etcd-cdf818194e3a8c32-2026-11-30T05-52-18.123Z-4711.db` of the cluster
 * `cdf818194e3a8c32`, with its newest revision at the end. Only when the new one is in its place are older ones of the same
 * cluster removed, and only those that were there when it was begun, so that there is always a good one, also where several
 * are made at the same time. What counts as good has a record that says how large it is; what is not, goes when it is older
 * than all that are kept. Files of other names, and of other clusters, are left alone. *Nodes that were made alike have one
 * cluster id*: etcd makes it of the peer URLs and the `initialClusterToken`. A cluster of `EtcdCluster.make` has a
 * token of its own; give others one, or each a directory of its own.
 *
 * Refused, and fails, as {@link backup}.
 *
 * @example
 * ```ts
 * import { EtcdOperations } from "effect-etcd"
 *
 * const saved = EtcdOperations.backupToDirectory("/var/backups/etcd", { keep: { last: 3, within: "7 days" } })
 * ```
 *
 * @category backups
 * @since 0.1.0
 */
export const backupToDirectory = (
  directory: string,
  options?: BackupDirectoryOptions | undefined
): Effect.Effect<BackupReport, Failure, EtcdClient.EtcdClient | FileSystem.FileSystem | Path.Path> =>
  Checks.wrongArgument("EtcdOperations.backupToDirectory", "the directory", aDirectory, directory) ??
  wrongOptions("backupToDirectory", ofBackupDirectory, options) ??
  operate(
    "backupToDirectory",
    () => import("./internal/operations/backups.ts"),
    ({ toDirectory }, client) => toDirectory(client, directory, options)
  )

/**
 * Sends a snapshot of a member to a sink: to a store elsewhere, say. Nothing is written on this machine.
 *
 * Whether the SHA-256 is right turns out at its end: then it fails with `OperationFailed`, and what the sink has got is
 * of no use, so let the sink keep nothing before it is told that all has come. It also fails where the sink takes less
 * than all of it. What the sink itself fails with is passed on as it is.
 *
 * @example
 * ```ts
 * import { Effect, FileSystem } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const copied = Effect.gen(function*() {
 *   const fs = yield* FileSystem.FileSystem
 *   const { backup } = yield* EtcdOperations.backupToSink(fs.sink("/mnt/elsewhere/etcd.db"))
 *   yield* Effect.log(backup?.sha256)
 * })
 * ```
 *
 * @category backups
 * @since 0.1.0
 */
export const backupToSink = <A, E, R>(
  sink: Sink.Sink<A, Uint8Array, unknown, E, R>,
  options?: BackupOptions | undefined
): Effect.Effect<SinkReport<A>, E | Failure, R | EtcdClient.EtcdClient> =>
  Checks.wrongArgument("EtcdOperations.backupToSink", "the sink", aSink, sink) ??
  wrongOptions("backupToSink", ofBackup, options) ??
  operate(
    "backupToSink",
    () => import("./internal/operations/backup.ts"),
    ({ toSink }, client) => toSink(client, sink, options ?? {})
  )

/**
 * Makes one backup after another in a directory, as {@link backupToDirectory} does: the first at once, and the next
 * ones by a schedule, which runs by the program's clock, until it ends. One that is refused, or fails, is told in the
 * log, as an error, and the next one is made all the same. Fork it where it is to live.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const nightly = EtcdOperations.backupOnSchedule("/var/backups/etcd", Schedule.cron("0 3 * * *"), {
 *   keep: { last: 3, within: "14 days" }
 * }).pipe(Effect.forkScoped)
 * ```
 *
 * @category backups
 * @since 0.1.0
 */
export const backupOnSchedule = <E, R>(
  directory: string,
  schedule: Schedule.Schedule<unknown, unknown, E, R>,
  options?: BackupDirectoryOptions | undefined
): Effect.Effect<void, E | EtcdError.EtcdError, R | EtcdClient.EtcdClient | FileSystem.FileSystem | Path.Path> =>
  Checks.wrongArgument("EtcdOperations.backupOnSchedule", "the directory", aDirectory, directory) ??
  Checks.wrongArgument("EtcdOperations.backupOnSchedule", "the schedule", Checks.schedule, schedule) ??
  wrongOptions("backupOnSchedule", ofBackupDirectory, options) ??
  load(
    () => import("./internal/operations/backups.ts"),
    ({ onSchedule }, client) => onSchedule(client, directory, schedule, options)
  )

/**
 * The good backups in a directory of {@link backupToDirectory}, of whatever cluster, the newest first: those that have a
 * record, and are as large as it says. What is in them is looked at when they are restored.
 *
 * Fails with a `PlatformError` where the directory cannot be read, and with `InvalidArgument` where there is no name of one.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdOperations } from "effect-etcd"
 *
 * const restoreNewest = Effect.gen(function*() {
 *   const [newest] = yield* EtcdOperations.listBackups("/var/backups/etcd")
 *   if (newest !== undefined) yield* EtcdCluster.restore(newest.path, { dataDir: "data" })
 * }).pipe(Effect.provide(NodeServices.layer))
 * ```
 *
 * @category backups
 * @since 0.1.0
 */
export const listBackups = (
  directory: string
): Effect.Effect<ReadonlyArray<Stored>, EtcdError.EtcdError | PlatformError, FileSystem.FileSystem | Path.Path> =>
  Checks.wrongArgument("EtcdOperations.listBackups", "the directory", aDirectory, directory) ??
  Effect.flatMap(
    Effect.promise(() => import("./internal/operations/backups.ts")),
    ({ list }) => list(directory)
  )
