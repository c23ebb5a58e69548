/**
 * Several etcd nodes as one scoped resource, for tests, for development, and for programs that bring their own cluster.
 *
 * Without a configuration the members talk to each other, and to their clients, over Unix sockets in one directory of
 * mode 0700: no port is used, and any number of clusters run side by side. Their data goes with the cluster, unless
 * `dataDir` keeps it.
 *
 * @since 0.1.0
 */
import * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdConfig from "./EtcdConfig.ts"
import type * as EtcdId from "./EtcdId.ts"
import * as EtcdProcess from "./EtcdProcess.ts"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import { allOrNothing } from "./internal/process/allOrNothing.ts"
import * as Failures from "./internal/process/failures.ts"
import * as ProcessOptions from "./internal/process/options.ts"
import * as Place from "./internal/process/place.ts"
import * as Time from "./internal/time.ts"

/**
 * A running cluster.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cluster {
  readonly members: Array.NonEmptyReadonlyArray<EtcdProcess.Node>
  /** The client endpoints of all members. */
  readonly endpoints: Array.NonEmptyReadonlyArray<string>
  /** The member that leads, as far as the members' logs have told. */
  readonly leader: Effect.Effect<Option.Option<EtcdProcess.Node>>
  /** Waits until a member leads. */
  readonly awaitLeader: Effect.Effect<EtcdProcess.Node>
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
  /** How many members, from 1 up to 99. Default: 3. */
  readonly size?: number | undefined
  /**
   * Where the members keep their data, each in a directory below it (`node0.etcd`, `node1.etcd` …): a cluster that is
   * started with it again, by whatever process, has its data. It is made with mode 0700 if it is not there. Refused is
   * the directory of a cluster of another size, or one that has lost the directory of a member. Default: a temporary
   * directory, which goes with the cluster.
   */
  readonly dataDir?: string | undefined
  /** Configuration that all members share: everything but `name`, `dataDir` and `walDir`. */
  readonly config?: EtcdConfig.Input | undefined
}

type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner

const leaderOf = (members: ReadonlyArray<EtcdProcess.Node>): Option.Option<EtcdProcess.Node> => {
  const live = members
    .map((node) => ({ node, state: SubscriptionRef.getUnsafe(node.role) }))
    .filter(({ state }) => state.role !== "stopped")
  const newest = live.reduce((term, { state }) => (state.term > term ? state.term : term), 0n)
  return Option.map(
    Array.findFirst(live, ({ state }) => state.role === "leader" && state.term === newest),
    ({ node }) => node
  )
}

/** Waits, for a second at most, until a node has noticed since a time that the others are gone. */
const awaitAlone = (node: EtcdProcess.Node, others: ReadonlySet<EtcdId.MemberId>, since: DateTime.Utc) => {
  const missing = new Set(others)
  return node.events.pipe(
    Stream.takeUntil((event) => {
      if (event._tag === "PeerDown" && Option.exists(event.time, DateTime.isGreaterThanOrEqualTo(since))) {
        missing.delete(event.peer)
      }
      return missing.size === 0
    }),
    Stream.runDrain,
    Effect.timeoutOption("1 second")
  )
}

/**
 * Stops the leader last, and only when it knows that it is alone: a leader that stops hands over first, and waits for
 * seconds where the one that it chose for that has just gone.
 */
const stopAll = Effect.fnUntraced(function* (members: ReadonlyArray<EtcdProcess.Node>) {
  const since = yield* DateTime.now
  const running = yield* Effect.filter(members, (node) => Effect.map(node.pid, Option.isSome))
  const leader = Option.getOrUndefined(leaderOf(running))
  const others = running.filter((node) => node !== leader)
  yield* Effect.forEach(others, (node) => node.stop, { concurrency: "unbounded", discard: true })
  if (leader === undefined) return
  if (others.length > 0) yield* awaitAlone(leader, new Set(others.map(({ id }) => id)), since)
  yield* leader.stop
})

/** Starts all members at once, since none serves before a majority is there. */
const startAll = Effect.fnUntraced(function* (
  start: (index: number) => Effect.Effect<EtcdProcess.Node, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform>,
  size: number
): Effect.fn.Return<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> {
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const members = yield* Effect.forEach(
    Array.makeBy(size, (index) => index),
    (index) => Effect.flatMap(Scope.fork(scope), (own) => Scope.provide(start(index), own)),
    { concurrency: "unbounded" }
  )
  yield* Effect.addFinalizer(() => stopAll(members))
  const leader = Effect.sync(() => leaderOf(members))
  const cluster: Cluster = {
    members: members as unknown as Array.NonEmptyReadonlyArray<EtcdProcess.Node>,
    endpoints: members.flatMap((node) => node.endpoints) as unknown as Array.NonEmptyReadonlyArray<string>,
    leader,
    awaitLeader: Stream.mergeAll(
      members.map((node) => SubscriptionRef.changes(node.role)),
      { concurrency: "unbounded" }
    ).pipe(
      Stream.mapEffect(() => leader),
      Stream.filter(Option.isSome),
      Stream.runHead,
      Effect.map((found) => Option.getOrThrow(Option.flatten(found)))
    )
  }
  return cluster
}, Time.really)

/**
 * Starts a cluster from one configuration a member, and waits until all of them serve. Fails with `InvalidConfig`, before
 * anything is started, if there is none or one makes no sense.
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
    const given = yield* ProcessOptions.decodeAll("EtcdCluster.fromConfigs", configs, options.runDirectory)
    return yield* startAll((index) => EtcdProcess.make(given[index], options), given.length)
  }).pipe(allOrNothing)

const aMember = /^node\d+\.etcd$/

const list = (directories: ReadonlyArray<string>) => directories.join(", ")

/**
 * Makes the data directories of all members before one of them is started: so a directory that is missing beside others
 * with data is a member's that was lost, or that never was, and not one's whose first start was cut short.
 */
const makeDataDirectories = Effect.fnUntraced(function* (dataDir: string, names: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const root = path.resolve(dataDir)
  const failed = Failures.systemFailure(`make the data directories of a cluster in ${root}`)
  const make = (directory: string) =>
    Effect.mapError(fs.makeDirectory(directory, { recursive: true, mode: 0o700 }), failed)
  yield* make(root)
  const wanted = names.map((name) => `${name}.etcd`)
  const found = (yield* Effect.mapError(fs.readDirectory(root), failed)).filter((name) => aMember.test(name))
  const holdsData = (name: string) => Effect.mapError(fs.exists(path.join(root, name, "member")), failed)
  const kept = yield* Effect.filter(found, holdsData)
  const strange = kept.filter((name) => !wanted.includes(name))
  const missing = kept.length === 0 ? [] : wanted.filter((name) => !found.includes(name))
  if (strange.length > 0 || missing.length > 0) {
    const told = strange.length > 0 ? `has ${list(strange)} as well` : `does not have ${list(missing)}`
    return yield* Effect.fail(
      ProcessOptions.refused(
        "dataDir",
        `EtcdCluster: the cluster in ${root} ${told}, and the size is ${names.length}. A cluster keeps the members that it ` +
          "was made with: give its size. A member without its data cannot begin anew under its name."
      )
    )
  }
  const directories = wanted.map((name) => path.join(root, name))
  yield* Effect.forEach(directories, make, { discard: true })
  return directories
})

const onSockets = (
  start: typeof EtcdProcess.make,
  options: Options,
  preset: EtcdConfig.Input
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.gen(function* () {
    yield* ProcessOptions.check("EtcdCluster", ProcessOptions.ofCluster, options)
    const { config = {}, dataDir, size = 3, ...ofMembers } = options
    const shared = yield* ProcessOptions.decodeShared("EtcdCluster", config)
    const names = Array.makeBy(size, (index) => `node${index}`)
    const dataDirectories = dataDir === undefined ? [] : yield* makeDataDirectories(dataDir, names)
    const { runDirectory } = yield* Place.makeRunDirectory(names.map((name) => `${name}.client:0`))
    const initialCluster = Object.fromEntries(names.map((name) => [name, `unix://${name}.peer:0`]))
    return yield* startAll(
      (index) =>
        start(
          Object.assign(
            {
              listenClientUrls: `unix://${names[index]}.client:0`,
              listenPeerUrls: `unix://${names[index]}.peer:0`,
              initialAdvertisePeerUrls: `unix://${names[index]}.peer:0`,
              initialCluster
            } satisfies EtcdConfig.Input,
            preset,
            shared,
            { name: names[index]!, dataDir: dataDirectories[index] }
          ),
          { ...ofMembers, runDirectory, runDirectoryIsTemporary: true }
        ),
      size
    )
  }).pipe(allOrNothing)

/**
 * Starts a cluster and waits until all members serve. It lives as long as the scope.
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
  onSockets(EtcdProcess.make, options, {})

/**
 * A cluster for tests: short election times, and no sync to disk where etcd's version can leave that out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ephemeral = (
  options: Options = {}
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  onSockets(EtcdProcess.ephemeral, options, { heartbeatInterval: "50 millis", electionTimeout: "500 millis" })

/**
 * Starts a cluster with the layer, and stops it with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<EtcdCluster, EtcdProcessError.EtcdProcessError, Platform> =>
  Layer.effect(EtcdCluster, make(options))
