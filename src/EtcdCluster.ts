/**
 * Several etcd nodes as one scoped resource, for tests, for development, and for programs that bring their own cluster.
 *
 * Without a configuration the members talk to each other, and to their clients, over Unix sockets in one directory of
 * mode 0700: no port is used, and any number of clusters run side by side. Their data goes with the cluster, unless
 * `dataDir` keeps it.
 *
 * ## Operations
 *
 * A cluster that runs is a value with effects that change it. Each looks at all members first, and refuses what would
 * do harm (`ClusterRefused`: what was found, the evidence, what would help). It can plan without doing anything
 * (`dryRun`), logs each step and passes it to `onProgress`, and answers with what was done. All are refused without a
 * quorum (`no-quorum`), except for `restore` and `recover`.
 *
 * One operation runs at a time, in whichever process, as with `EtcdOperations`: the next one waits for its lock.
 * (`restore` and `recover` replace the cluster that holds the lock. They wait for nobody, and refuse while another
 * process does the same.)
 *
 * An operation that was ended at whatever step, alone or with its host, is run again, and continues from the state that the
 * cluster is in; with `dataDir`, the file `cluster.json` there says which member was joining or leaving. If it was
 * ended after its last step, nothing shows that it was complete. So a program that may be ended should name the result
 * that it wants: `grow` with `to` then does nothing, and `shrink` and `replace` of a named member are refused
 * (`no-such-member`). `grow` without `to`, `shrink` without a name, and `restart` start over.
 *
 * | operation | steps | refused |
 * | --- | --- | --- |
 * | `grow` | for each: add a learner, start it, promote it when it has caught up | `unhealthy-member`, `learner`, `size`; `config`, `data-in-the-way` |
 * | `shrink` | the leadership is handed on, the member is removed, ends, and its data are deleted | `quorum-at-risk`, `no-such-member` |
 * | `replace` | of one that is alive: `grow`, then `shrink`; of one that is dead the other way round | as both |
 * | `repairCorrupt` | `replace` of those whose data differ, then disarm the alarm | `undecided`, and as `replace` |
 * | `restart` | members that are down, then followers, then the leader after it has handed on: each when the last is there again | `unhealthy-member` |
 * | `upgrade` | a backup, then as `restart`, with the new executable | `unsupported-version`, `config`, `binary`, `unhealthy-member` |
 * | `downgrade` | the cluster is prepared, then as `restart`, with the older executable | the same |
 * | `restore`, `recover` | see below | |
 *
 * Clients can keep working meanwhile: no acknowledged write is lost, watches deliver each event once and in order, and locks
 * and elections are kept; `restart`, `upgrade` and `downgrade` change the leader once. `npm run bench -- operations`
 * measures how long no write is acknowledged. etcd changes no member before all have been connected for five seconds;
 * operations wait for that.
 *
 * What is left to the caller, when a cluster is started the next time:
 *
 * - *Which executable it runs.* After an upgrade that was ended half-way, use the older one as long as it starts, and then
 *   `upgrade` again; after such a downgrade the newer one, and then `downgrade` again, or `upgrade` with the newer one,
 *   which cancels it.
 * - *What `grow` gave a member.* Of that only how the others reach it is remembered (`listenPeerUrls`,
 *   `initialAdvertisePeerUrls`, and what begins with `peer`).
 * - *Its members, with `fromConfigs`.* Give the configurations of those that are members by then: nothing is remembered
 *   there of members that were joining or leaving. One that was removed leaves its data behind, and, if it was dead, a
 *   place that `grow` fills.
 *
 * ## Restoring
 *
 * `restore` makes the data of all members from a snapshot, and `recover` makes them from what is left of the members if the
 * quorum is lost. In both
 *
 * - *the ids are new*: a member of the old cluster that comes back does not belong to this one, and clients of the old
 *   cluster fail instead of mistaking this one for it. Make new clients, from `client` too.
 * - *no revision is given out twice*: revisions continue above all that the cluster can have reached, and a watch that was
 *   further than the snapshot gets `Compacted` (that of a single key continues if the last change that it has delivered is
 *   still the last one). This relies on the clock of this machine, and on fewer than 100,000 writes a second.
 * - *there are no leases*: every key that had one is gone before any member is started, so that no lock is held by a ghost.
 * - *nothing is deleted*: what the members had is moved to `.before-…` in their data directories. Remove it when you
 *   are sure.
 * - *Killed half-way*, the members have what they had, or, from when all was made, are given the new data to the end before
 *   the cluster is started again with its `dataDir`. One whose directory was lost is not started without data.
 * - *One at a time* makes the data of a cluster, in whatever process (where the system has `flock(1)`): the next one,
 *   and who would start the cluster meanwhile, is refused.
 *
 * Both need `etcdutl` (see `EtcdBinary.findUtl`), and are refused without it (`binary`). It is the only thing that makes a
 * data directory of a snapshot; nothing else of this library needs it.
 *
 * What `recover` may lose: an acknowledged write is on the disks of a majority, so nothing where fewer members are lost than
 * that (as with half of an even number). Where a majority is lost, the last writes may have been on its disks alone. Of what
 * is left nothing is thrown away, as etcd's own `--force-new-cluster` does with what a member did not know to be committed;
 * so a write of which nobody was told may be there. Where some of the members have begun anew without the data that
 * they had, and decided otherwise since, it is refused (`undecided`).
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type * as Array from "effect/Array"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdBinary from "./EtcdBinary.ts"
import type * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdConfig from "./EtcdConfig.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { ClusterRefused, OperationFailed } from "./EtcdOperationError.ts"
import type * as EtcdOperations from "./EtcdOperations.ts"
import * as EtcdProcess from "./EtcdProcess.ts"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Apart from "./internal/cluster/apart.ts"
import * as Configured from "./internal/cluster/configured.ts"
import * as Fleet from "./internal/cluster/fleet.ts"
import * as ClusterOptions from "./internal/cluster/options.ts"
import { fromFleet } from "./internal/cluster/value.ts"
import { allOrNothing } from "./internal/process/allOrNothing.ts"
import * as ProcessOptions from "./internal/process/options.ts"
import * as Tracing from "./internal/tracing.ts"
import * as Wrapped from "./internal/wrapped.ts"

/**
 * A running cluster.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cluster {
  /** The members that run here, learners too. They change when the cluster grows, shrinks or is upgraded. */
  readonly members: SubscriptionRef.SubscriptionRef<Array.NonEmptyReadonlyArray<EtcdProcess.Node>>
  /** The member that leads, as far as the members' logs have told. */
  readonly leader: SubscriptionRef.SubscriptionRef<Option.Option<EtcdProcess.Node>>
  /** Waits until a member leads. */
  readonly awaitLeader: Effect.Effect<EtcdProcess.Node>
  /** The client endpoints of all members that have a vote, now and whenever that changes. */
  readonly endpoints: Stream.Stream<ReadonlyArray<string>>
  /**
   * A client of the cluster, whose endpoints follow the membership: calls go on when the member that has them leaves. Fails
   * as `EtcdClient.layer` does.
   */
  readonly client: Layer.Layer<EtcdClient.EtcdClient, EtcdError.EtcdError>
  /**
   * Makes the cluster larger by one member, or by as many as it takes (`to`): each is added as a learner, started, and given
   * its vote when it has caught up. One that does not start is removed again. It runs the version of the oldest member.
   * Refused where a member does not answer (`unhealthy-member`), there is a learner that somebody else has added
   * (`learner`), fewer are wanted than there are, or more than seven (`size`), the name or the URLs of `config` are
   * another member's (`config`), or there is something in its directory (`data-in-the-way`).
   *
   * @example
   * ```ts
   * import { Effect } from "effect"
   * import { EtcdCluster } from "effect-etcd"
   *
   * const program = Effect.gen(function*() {
   *   const cluster = yield* EtcdCluster.make({ size: 1, dataDir: "data" })
   *   yield* cluster.grow({ to: 3, onProgress: ({ step, index, total }) => Effect.log(`${index + 1}/${total}`, step) })
   * })
   * ```
   */
  readonly grow: (options?: GrowOptions | undefined) => Operation
  /**
   * Makes the cluster smaller by a member: the one that is named, or the last one that does not lead. The leadership is
   * handed on, the member removed, its process ends, and its data are deleted. Who was to take its place, and has no vote
   * yet, goes with it. One that was joining when that was ended half-way can be named as well, and one that somebody
   * has removed by hand, of which the data are deleted. Run again, it goes on with the one that was leaving; where that
   * had gone without anybody being told so, another one goes, unless one is named. Refused where those that are left
   * would not have a quorum of members that answer (`quorum-at-risk`), as where it is the last one; and where it is the
   * last one with a vote that runs here, since clients of this cluster would have nobody to go to.
   */
  readonly shrink: (
    member?: EtcdOperations.MemberRef | undefined,
    options?: EtcdOperations.Options | undefined
  ) => Operation
  /**
   * Puts a new member, with a new name and empty data, in the place of one: of one that is dead after it was removed, of one
   * that is alive before. Of two that are dead one is replaced after the other; where etcd adds nobody while one is
   * down (3.4, and older 3.5), that says so, and the first is run again after the second. Where who was to come is
   * shrunk away, or has come by `grow`, nobody takes its place any more, and it stays. Refused where `config` has the
   * name of that one, or of one that has joined (`config`), and as {@link Cluster.grow}.
   */
  readonly replace: (member: EtcdOperations.MemberRef, options?: ReplaceOptions | undefined) => Operation
  /**
   * Puts new members in the place of those whose data are not those of a majority (`EtcdOperations.findCorrupt`), and only
   * then disarms the alarm `Corrupt`, when all have been compared once more. The leadership is handed to a sound member
   * first, since it is the leader's data that who joins is given. A replacement that was begun and ended half-way, by
   * this or by {@link Cluster.replace}, is brought to its end. While the alarm is armed etcd takes no lock, and there
   * is none: only operations of this program on this cluster wait. Refused where no majority has the same data, or the
   * alarm may be due to somebody who could not be compared, a voter that is down or a learner (`undecided`), and as
   * {@link Cluster.replace}.
   */
  readonly repairCorrupt: (options?: ReplaceOptions | undefined) => Operation
  /**
   * Starts all members again, one after the other: the next one only when the last has caught up and all name one leader.
   * The leadership is handed on once, before its member is started again, which is the last. Members that are down are
   * started first. It stops at the first that does not come back, which, of one or two members, has to be started (its
   * `start`) before this is run again. One that was removed, and has its data still, is passed over.
   * Refused where a voter does not answer that runs elsewhere (`unhealthy-member`).
   */
  readonly restart: (options?: EtcdOperations.Options | undefined) => Operation
  /**
   * Lets all members run a newer version, one after the other as {@link Cluster.restart} does, and waits until the cluster
   * has that version. A member that does not start with it is started as it was, and the operation stops. A downgrade under
   * way is cancelled first. Members that have the version already are passed over.
   *
   * Refused are more than one minor version at a time, 3.6 where a member is older than 3.5.26, and 3.7 where one is
   * older than 3.6.11, as etcd's guides to upgrades say (`unsupported-version`), options that the version does not have
   * (`config`), an executable that is none (`binary`), and a member that does not answer (`unhealthy-member`).
   *
   * Before 3.7 each member is started once more as it is, to write a snapshot: 3.7 cannot read how members of 3.5 announced
   * themselves, which may still be in the log of a cluster that is written little.
   *
   * For as long as the cluster lives: who starts it again says which executable to use.
   */
  readonly upgrade: (options: UpgradeOptions) => Operation
  /**
   * Lets all members run the minor version before theirs. From etcd 3.6 on the cluster is prepared for it, and when all
   * members have written their data in the older format they are started with it one after the other. Members of 3.5 are
   * started with a 3.4 that takes their data: 3.4.32 or newer, and only where there are no users (`unsupported-version`), as
   * etcd's guide to downgrades says. While members have different versions, {@link Cluster.upgrade} cancels it. Otherwise it is
   * refused as that is.
   */
  readonly downgrade: (options: DowngradeOptions) => Operation
  /**
   * Gives all members the data of a snapshot. They are made beside those that they have, while the cluster goes on; then all
   * members are stopped, the data put in place, and the members started. What they had before is moved to `.before-…` in
   * their data directories, and not deleted. More on what a restore is at the top of this module.
   *
   * Refused are a file that is no snapshot of etcd, or not a whole one (`no-snapshot`, `foreign-snapshot`,
   * `truncated-snapshot`, `damaged-snapshot`), an etcdutl that is not there (`binary`) or lets revisions go back
   * (`revisions-would-go-back`), members that run elsewhere, or with the file itself (`member-runs`), logs in directories of
   * their own (`config`), and data of a newer etcd (`unsupported-version`). A snapshot in which the alarm `Corrupt` is
   * armed is taken where the record of its backup says that another member gave it than the one for which it is armed,
   * and otherwise fails at the first step.
   */
  readonly restore: (snapshot: string, options?: RestoreOptions | undefined) => Operation
  /**
   * Makes the cluster anew where it has lost its quorum for good: all members are stopped, and all are given what the one
   * knows that knows most. Refused where the cluster has a quorum (`has-quorum`), which it is given ten seconds for where so
   * many members run, where a member answers whose data are not here (`member-runs`: it may have one), and where no data are
   * left of which something can be made (`no-survivor`). More on what may be lost at the top of this module.
   */
  readonly recover: (options?: RecoverOptions | undefined) => Operation
}

/**
 * What an operation comes to.
 *
 * @category models
 * @since 0.1.0
 */
export type Operation<A = EtcdOperations.Report> = Effect.Effect<A, OperationError>

/**
 * Why an operation has not come to its end.
 *
 * @category models
 * @since 0.1.0
 */
export type OperationError = ClusterRefused | OperationFailed | EtcdError.EtcdError

/**
 * How a cluster grows.
 *
 * @category options
 * @since 0.1.0
 */
export interface GrowOptions extends EtcdOperations.Options {
  /**
   * How many members with a vote there are to be, up to seven. Default: one more, also where it is run again because nobody
   * was told that it was done. Two are warned of.
   */
  readonly to?: number | undefined
  /**
   * What the new member has for itself, over what all share, for as long as the cluster lives; with `dataDir`, how the
   * others reach it for as long as it is a member. One that was added when that was ended half-way keeps the URLs that
   * it was added with. Where the cluster was started from a configuration for each member (`fromConfigs`) it is needed,
   * with a name and URLs, and, as wherever it has URLs, one member joins at a time. Default: nothing but what all share.
   */
  readonly config?: EtcdConfig.Input | undefined
}

/**
 * How a cluster gets a newer version.
 *
 * @category options
 * @since 0.1.0
 */
export interface UpgradeOptions extends EtcdOperations.Options {
  /** The executable of that version: its path, or a release that is fetched. */
  readonly binary: EtcdBinary.Input
  /**
   * The file that a backup is written to before (`EtcdOperations.backup`); `false`, where there is one. Where members have
   * different versions already, none is made.
   */
  readonly backup: string | false
}

/**
 * How a cluster gets an older version.
 *
 * @category options
 * @since 0.1.0
 */
export interface DowngradeOptions extends EtcdOperations.Options {
  /** The executable of that version: its path, or a release that is fetched. */
  readonly binary: EtcdBinary.Input
}

/**
 * How a cluster is recovered.
 *
 * @category options
 * @since 0.1.0
 */
export interface RecoverOptions extends EtcdOperations.Options {
  /** The `etcdutl` to use. Default: see `EtcdBinary.findUtl`. */
  readonly etcdutl?: string | undefined
  /** What the ids of the new cluster are made of; no cluster of before may have had it. Default: one that is made up. */
  readonly token?: string | undefined
  /** Goes on with an etcdutl that cannot raise revisions. Default: false. */
  readonly revisionsMayGoBack?: boolean | undefined
}

/**
 * How a cluster is restored.
 *
 * @category options
 * @since 0.1.0
 */
export interface RestoreOptions extends RecoverOptions {
  /**
   * By how much the revision is raised at least, below 2 ** 52. Default: to as many as 100,000 for each second since
   * 1970.
   */
  readonly bumpRevision?: bigint | undefined
  /** Takes the copied database of a member that did not run, which has no checksum. Default: false. */
  readonly skipHashCheck?: boolean | undefined
}

/**
 * A cluster that does not run, whose data are made anew.
 *
 * @category options
 * @since 0.1.0
 */
export interface DataOptions {
  /** Where its data are to be, as that of {@link Options}. */
  readonly dataDir: string
  /** How many members it has, where there are none yet. Default: 3. */
  readonly size?: number | undefined
  /** Which etcd is to run it, beside which etcdutl is looked for. Default: what is installed. */
  readonly binary?: EtcdBinary.Input | undefined
}

/**
 * How the data of a cluster that does not run are recovered.
 *
 * @category options
 * @since 0.1.0
 */
export interface RecoverDataOptions extends RecoverOptions, DataOptions {}

/**
 * How the data of a cluster that does not run are restored.
 *
 * @category options
 * @since 0.1.0
 */
export interface RestoreDataOptions extends RestoreOptions, DataOptions {
  /** Moves aside what data there are, to `.before-…` in the directory of each member. Default: false, they are refused. */
  readonly setAside?: boolean | undefined
}

/**
 * How a member is replaced.
 *
 * @category options
 * @since 0.1.0
 */
export interface ReplaceOptions extends EtcdOperations.Options {
  /** As that of {@link GrowOptions}. Default: nothing but what all share. */
  readonly config?: EtcdConfig.Input | undefined
}

/**
 * The service of the cluster that a layer of this module started.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdCluster extends Context.Service<EtcdCluster, Cluster>()("effect-etcd/EtcdCluster") {}

/**
 * What a cluster is made of.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Omit<EtcdProcess.Options, "runDirectory" | "runDirectoryIsTemporary"> {
  /**
   * How many members a new cluster has, from 1 up to 7; two are warned of, since it then stands still without either. One
   * whose data are there has the members that it has; refused is another size than it has or was made with. Default: 3.
   */
  readonly size?: number | undefined
  /**
   * Where the members keep their data, each in a directory below it (`node0.etcd`, `node1.etcd` …): a cluster that is
   * started with it again, by whatever process, has its data. It is made with mode 0700 if it is not there. Who the members
   * are is in its `cluster.json`. Refused is a directory that has lost that of a member. Default: a temporary directory,
   * which goes with the cluster.
   */
  readonly dataDir?: string | undefined
  /** Configuration that all members share: everything but `name`, `dataDir` and `walDir`. Default: etcd's defaults. */
  readonly config?: EtcdConfig.Input | undefined
}

/**
 * What running etcd needs of the platform: `NodeServices.layer` of `@effect/platform-node` has all of it.
 *
 * @category models
 * @since 0.1.0
 */
export type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner

/**
 * Starts a cluster from one configuration a member, and waits until all of them serve. One that its cluster has removed is
 * passed over with a warning, and `shrink` deletes its data. So is one that has no data beside others that have some, and
 * whose `initialCluster` names nobody else: it would begin a cluster of its own. Where that names others, it is started when
 * one that has data answers, and fails with `ClusterMismatch` if it had begun before: leave it out, and `replace` it. Fails
 * with `InvalidConfig`, before anything is started, if there is none, one makes no sense, or two have one name, and
 * otherwise as `EtcdProcess.make` does for the member that does not start; then nothing is left running.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdCluster } from "effect-etcd"
 *
 * const initialCluster = { a: "http://127.0.0.1:2380", b: "http://127.0.0.1:2480", c: "http://127.0.0.1:2580" }
 *
 * const program = Effect.gen(function*() {
 *   const cluster = yield* EtcdCluster.fromConfigs([
 *     { name: "a", dataDir: "a", listenClientUrls: "http://127.0.0.1:2379", listenPeerUrls: initialCluster.a, initialCluster },
 *     { name: "b", dataDir: "b", listenClientUrls: "http://127.0.0.1:2479", listenPeerUrls: initialCluster.b, initialCluster },
 *     { name: "c", dataDir: "c", listenClientUrls: "http://127.0.0.1:2579", listenPeerUrls: initialCluster.c, initialCluster }
 *   ])
 *   const leader = yield* cluster.awaitLeader
 *   yield* Effect.log(`${leader.name} leads`)
 * }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromConfigs = (
  configs: Array.NonEmptyReadonlyArray<EtcdConfig.Input>,
  options: EtcdProcess.Options = {}
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.gen(function* () {
    yield* ProcessOptions.check("EtcdCluster.fromConfigs", ProcessOptions.ofNode, options)
    const given = yield* ClusterOptions.decodeAll("EtcdCluster.fromConfigs", configs)
    return fromFleet(yield* Configured.make(given, options), options)
  }).pipe(allOrNothing, (made) => Tracing.traced(made, "EtcdCluster.fromConfigs"))

/**
 * Starts a cluster and waits until all members serve. It lives as long as the scope.
 *
 * Fails as `EtcdProcess.make` does for the member that does not start, and with `InvalidConfig` for an option that makes no
 * sense; then nothing is left running.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdCluster } from "effect-etcd"
 *
 * const program = Effect.scoped(
 *   Effect.gen(function*() {
 *     const cluster = yield* EtcdCluster.make({ size: 3 })
 *     const leader = yield* cluster.awaitLeader
 *     yield* leader.signal("SIGKILL")
 *   })
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.map(Tracing.traced(Fleet.onSockets(EtcdProcess.make, options, {}), "EtcdCluster.make"), (fleet) =>
    fromFleet(fleet, options)
  )

/**
 * A cluster for tests: short election times, and no sync to disk where etcd's version can leave that out. Otherwise, and in
 * what it fails with, as {@link make}.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdKv } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const cluster = yield* EtcdCluster.ephemeral()
 *   const leader = yield* cluster.awaitLeader
 *   yield* leader.stop // the others elect another one
 *   yield* EtcdKv.put("hello", "world").pipe(Effect.provide(EtcdKv.layer), Effect.provide(cluster.client))
 * }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const ephemeral = (
  options: Options = {}
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.map(
    Tracing.traced(Fleet.onSockets(EtcdProcess.ephemeral, options, Fleet.ephemeral), "EtcdCluster.ephemeral"),
    (fleet) => fromFleet(fleet, options)
  )

/**
 * Makes the data of a cluster from a snapshot, for {@link make} with the same `dataDir`; no member of it may run. What a
 * restore comes to is said at the top of this module. Killed half-way at whatever step, the next run brings it to its
 * end, and so does the next start of the cluster, if all had been made: before that it starts with what there was, and
 * without any data where all were lost.
 *
 * Refused is a directory that has data (`data-in-the-way`), unless they are to be moved aside; otherwise as `restore` of
 * {@link Cluster}.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdLayer } from "effect-etcd"
 *
 * const restored = EtcdCluster.restore("backups/newest.db", { dataDir: "data" }).pipe(
 *   Effect.provide(NodeServices.layer)
 * )
 * const etcd = EtcdLayer.cluster({ dataDir: "data" })
 * ```
 *
 * @category disasters
 * @since 0.1.0
 */
export const restore = (
  snapshot: string,
  options: RestoreDataOptions
): Effect.Effect<EtcdOperations.Report, OperationError | EtcdProcessError.EtcdProcessError, Platform> =>
  Tracing.traced(
    Effect.gen(function* () {
      yield* Apart.check("restore", options, snapshot)
      const { binary, dataDir, etcdutl, size, ...given } = options
      const apart = yield* Apart.look({ binary, dataDir, etcdutl, size })
      const { restore } = yield* Effect.promise(() => import("./internal/operations/restoreApart.ts"))
      return yield* restore(apart, snapshot, given)
    }),
    "EtcdCluster.restore"
  )

/**
 * Makes the data of a cluster anew that has lost its quorum for good, for {@link make} with the same `dataDir`; no member of
 * it may run. What becomes of what, and what is refused, is said at the top of this module. Directories of members may be
 * lost.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdCluster } from "effect-etcd"
 *
 * const recovered = EtcdCluster.recover({ dataDir: "data" }).pipe(Effect.provide(NodeServices.layer))
 * ```
 *
 * @category disasters
 * @since 0.1.0
 */
export const recover = (
  options: RecoverDataOptions
): Effect.Effect<EtcdOperations.Report, OperationError | EtcdProcessError.EtcdProcessError, Platform> =>
  Tracing.traced(
    Effect.gen(function* () {
      yield* Apart.check("recover", options)
      const { binary, dataDir, etcdutl, size, ...given } = options
      const apart = yield* Apart.look({ binary, dataDir, etcdutl, size })
      const { recover } = yield* Effect.promise(() => import("./internal/operations/restoreApart.ts"))
      return yield* recover(apart, given)
    }),
    "EtcdCluster.recover"
  )

/**
 * Provides the cluster that {@link make} starts, which stops with the layer. Fails as {@link make} does. `EtcdLayer.cluster`
 * provides a client beside it.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdCluster } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const cluster = yield* EtcdCluster.EtcdCluster
 *   yield* cluster.grow({ to: 5 })
 * })
 *
 * program.pipe(
 *   Effect.provide(EtcdCluster.layer({ dataDir: "data" })),
 *   Effect.provide(NodeServices.layer),
 *   NodeRuntime.runMain
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<EtcdCluster, EtcdProcessError.EtcdProcessError, Platform> =>
  Layer.effect(EtcdCluster, make(options))

/**
 * As {@link layer}, with options from Effect's `Config`, read when the layer is built.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link make} where it makes no sense.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { EtcdCluster } from "effect-etcd"
 *
 * const live = EtcdCluster.layerConfig({
 *   size: Config.withDefault(Config.Int("ETCD_MEMBERS"), 3),
 *   dataDir: Config.String("ETCD_DATA")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: EtcdClient.ConfigOf<Options>
): Layer.Layer<EtcdCluster, Config.ConfigError | EtcdProcessError.EtcdProcessError, Platform> =>
  Layer.effect(EtcdCluster, Effect.flatMap(Wrapped.unwrap<Options>(options), make))
