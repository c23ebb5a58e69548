/**
 * Several etcd nodes as one scoped resource, for tests, for development, and for programs that bring their own cluster.
 *
 * Without a configuration the members talk to each other, and to their clients, over Unix sockets in one directory of
 * mode 0700: no port is used, and any number of clusters run side by side. Their data goes with the cluster, unless
 * `dataDir` keeps it.
 *
 * @since 0.1.0
 */
import type * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import type * as EtcdConfig from "./EtcdConfig.ts"
import * as EtcdProcess from "./EtcdProcess.ts"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Members from "./internal/cluster/fleet.ts"
import * as ClusterOptions from "./internal/cluster/options.ts"
import { allOrNothing } from "./internal/process/allOrNothing.ts"
import * as ProcessOptions from "./internal/process/options.ts"

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
    const given = yield* ClusterOptions.decodeAll("EtcdCluster.fromConfigs", configs, options.runDirectory)
    return yield* Members.startAll((index) => EtcdProcess.make(given[index], options), given.length)
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
  Members.onSockets(EtcdProcess.make, options, {})

/**
 * A cluster for tests: short election times, and no sync to disk where etcd's version can leave that out.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ephemeral = (
  options: Options = {}
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Members.onSockets(EtcdProcess.ephemeral, options, Members.ephemeral)

/**
 * Starts a cluster with the layer, and stops it with the layer.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<EtcdCluster, EtcdProcessError.EtcdProcessError, Platform> =>
  Layer.effect(EtcdCluster, make(options))
