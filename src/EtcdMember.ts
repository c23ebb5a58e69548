/**
 * An etcd node in each instance of a program, which joins the cluster of all of them by itself, and leaves it on request.
 *
 * Each instance is told the same: where they all are, and how many of them vote. The first ones begin the cluster, when a
 * majority of the declared set is there; so two first starters never make two clusters, and one alone begins only where
 * the declared size is one. Later ones are added to the cluster as learners, and get their vote when they have caught up
 * and as long as there are fewer voters than declared. An instance comes back with its data after a restart, and takes the
 * place of a dead predecessor of its name or its peer URL. One that has lost its data, or was removed by the cluster
 * meanwhile, joins the cluster again under another id.
 *
 * What this rests on:
 *
 * - At any time a majority of the members has its data; one of the first set that has not served yet counts as one that has
 *   none. Instances without data that are a majority of the set, and reach none of those that have theirs, cannot be told
 *   from first starters, and begin another cluster.
 * - A data directory belongs to one instance, and is not copied or put back. That of an instance that has left keeps a note,
 *   by which it begins no cluster with that token again.
 * - A member counts as dead when it answers this instance neither at its client URLs nor at its peer URLs, again and again.
 *   A network that is cut between the two looks the same. Then it is removed while it runs, and joins anew when it can;
 *   nothing that was acknowledged is lost by that.
 *
 * With a new version of etcd the instances are started one after the other, each when the one before has its place, and all
 * with one minor version before the first with the next. What has been of 3.5 needs a round of 3.6 with
 * `snapshotCount: 1` in `config` before 3.7, which cannot read what is in the logs until then.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdConfig from "./EtcdConfig.ts"
import type * as EtcdError from "./EtcdError.ts"
import type * as EtcdId from "./EtcdId.ts"
import type * as EtcdMemberError from "./EtcdMemberError.ts"
import type * as EtcdProcess from "./EtcdProcess.ts"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Tracing from "./internal/tracing.ts"
import * as Wrapped from "./internal/wrapped.ts"

/**
 * What an instance is just now.
 *
 * - `Waiting`: it has no data, and waits for others, or for its turn.
 * - `Bootstrapping`: its node is one of those that begin the cluster, and waits for a majority.
 * - `Joining`: it is being added to a cluster that runs.
 * - `Returning`: its node starts with the data that it has.
 * - `Learner`: its node receives all that the others decide, and has no vote.
 * - `Voter`: its node has a vote.
 * - `Client`: it has no node, since there is no place for one, and uses those of the others.
 * - `Left`: it has left the cluster.
 * - `Stopped`: its scope is closed. It is still a member, and comes back with its data.
 * - `Failed`: it cannot go on, for the reason that `exit` fails with.
 *
 * `reason` says what it waits for, in words for people. `node` is the one that runs just now: started again, it is another
 * value.
 *
 * @category models
 * @since 0.1.0
 */
export type State =
  | { readonly _tag: "Waiting"; readonly reason: string }
  | { readonly _tag: "Joining"; readonly reason: string }
  | { readonly _tag: "Bootstrapping" | "Returning" | "Client" | "Left" | "Stopped" | "Failed" }
  | { readonly _tag: "Learner" | "Voter"; readonly node: EtcdProcess.Node }

/**
 * Why an instance cannot take part.
 *
 * @category models
 * @since 0.1.0
 */
export type Failure = EtcdMemberError.EtcdMemberError | EtcdProcessError.EtcdProcessError

/**
 * This instance, as far as the cluster is concerned.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  /** That of its options. */
  readonly name: string
  /** The cluster that it has its place in. */
  readonly clusterId: EtcdId.ClusterId
  /** What it is just now, and whenever that changes. */
  readonly state: SubscriptionRef.SubscriptionRef<State>
  /**
   * Where clients reach the voters that have served: never a learner, and none that has left. Where some of them have
   * TLS for clients and others do not, those that are as this one. For `EtcdClient`'s option `endpoints` take
   * `SubscriptionRef.changes` of it; and give it the `clusterId`, since where one has been that is gone now, another cluster
   * may answer.
   */
  readonly endpoints: SubscriptionRef.SubscriptionRef<ReadonlyArray<string>>
  /**
   * Leaves the cluster for good: hands its leadership to another one, is removed, stops, and deletes its data. Started
   * again, it joins those who stayed, and waits for them where none is there. Refused with
   * `LeaveRefused` where the rest would have no majority of members that answer, or where there is no rest, and with
   * `NotAMember` where its scope is closed, or it could not go on. Interrupted before it is removed, it stays; from then on
   * it is not interrupted. To be killed on the way does no harm: what is started again then has been removed, and joins
   * anew.
   */
  readonly leave: Effect.Effect<void, EtcdMemberError.EtcdMemberError | EtcdError.EtcdError>
  /** Waits until this instance has left, or its scope is closed. Fails where it cannot go on. */
  readonly exit: Effect.Effect<void, Failure>
}

/**
 * The service of the member that a layer of this module made.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdMember extends Context.Service<EtcdMember, Member>()("effect-etcd/EtcdMember") {}

/**
 * Where all instances are, by their peer URLs, this one among them; or some of those that the cluster has, for who joins
 * later.
 *
 * - A list that stays.
 * - `{ srv: "example.com" }`: the records of `_etcd-server-ssl._tcp.example.com` (for `https`) and
 *   `_etcd-server._tcp.example.com` (for `http`) in DNS, as etcd's own `--discovery-srv` has them. With `service: "blue"`,
 *   those of `_etcd-server-ssl-blue._tcp` and `_etcd-server-blue._tcp`.
 * - An `Effect`, which is asked again until there is a cluster. A failure, or no answer for 30 seconds, means that
 *   nothing is known yet.
 * - A `Stream`, whose last list counts.
 *
 * All instances have to be told the same set when the cluster begins, each URL in the same spelling: etcd derives its
 * ids from them. An instance that is told another set does not begin. If the set grows later, start the new instances
 * while the cluster runs: a majority of the new set without data, that reaches none of the others, begins another cluster.
 *
 * @category options
 * @since 0.1.0
 */
export type Peers =
  | ReadonlyArray<string>
  | {
      /** The domain. */
      readonly srv: string
      /** Of several clusters of that domain, which one it is. Default: the records without such a name. */
      readonly service?: string | undefined
    }
  | Effect.Effect<ReadonlyArray<string>, unknown>
  | Stream.Stream<ReadonlyArray<string>, unknown>

/**
 * What an instance is given.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Omit<EtcdProcess.Options, "restart" | "runDirectoryIsTemporary"> {
  /** The name of this instance, which no other one has. It keeps it over restarts. */
  readonly name: string
  /** Where its node keeps its data, over restarts. It is made with mode 0700 if it is not there. */
  readonly dataDir: string
  /**
   * Where the other instances reach this one's node: `initial-advertise-peer-urls`. It listens there, unless `config` has
   * `listenPeerUrls`. A socket is relative to the `runDirectory`, which all instances have in common: `unix://a.peer:0`. One
   * that comes back elsewhere tells the others, for which a majority has to be where it was: so give names that stay, where
   * addresses do not.
   */
  readonly peerUrl: string
  /**
   * Where clients, and the other instances, reach it: `advertise-client-urls`. It listens there, unless `config` has
   * `listenClientUrls`.
   */
  readonly clientUrl: string
  /** Where all instances are. */
  readonly peers: Peers
  /** How many voters the cluster is to have, from 1 up to 99; as many peers begin it. */
  readonly size: number
  /**
   * What tells this cluster from others that begin with the same peers: `initial-cluster-token`. Default:
   * `etcd-cluster`.
   */
  readonly cluster?: string | undefined
  /**
   * The rest of etcd's configuration: listening, TLS, timing, everything but what the options here say. Default: etcd's
   * defaults.
   */
  readonly config?: EtcdConfig.Input | undefined
  /**
   * What an instance is while there are as many voters as declared: a learner, of which etcd allows one, and a client where
   * there is one already, or as long as a voter is down, since etcd takes nobody then; or always a client. Either takes the
   * place of a voter that has left. Default: `learner`.
   */
  readonly standby?: "learner" | "client" | undefined
  /**
   * How long it may take until this instance has its place. Then {@link make} fails with `JoinTimeout`, which says what was
   * waited for. Default: infinity.
   */
  readonly joinTimeout?: Duration.Input | undefined
  /**
   * How long etcd may take to serve after it was added to a cluster; then it is removed again. Who waits for its place
   * removes a learner that has not been there for so long. Default: 30 seconds.
   */
  readonly startTimeout?: Duration.Input | undefined
  /**
   * How long a voter may not have answered until a learner that waits for a place, or one that is to be a learner,
   * removes it and takes its place, as long as the rest has a majority. One on a socket that is stopped, and not dead,
   * stays until it was killed: etcd has no deadline for what it writes to sockets, and the others would wait for it.
   * Default, and infinity: never.
   */
  readonly replaceAfter?: Duration.Input | undefined
  /**
   * Lets members of other machines talk without certificates that both sides show: whoever reaches a peer URL can then read,
   * change and join. On one machine (loopback, Unix sockets), `https` peer URLs get certificates by themselves.
   * Default: false.
   */
  readonly allowInsecurePeers?: boolean | undefined
}

/**
 * What running etcd needs of the platform: `NodeServices.layer` of `@effect/platform-node` has all of it.
 *
 * @category models
 * @since 0.1.0
 */
export type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner

/**
 * Makes this instance a member, and waits until it has its place: as a voter, or where there are as many as declared, as a
 * learner or a client. It takes part as long as the scope; when that closes its node stops, and stays a member.
 *
 * The node is started again when it ends by itself, after a while where it has not served for ten seconds, and given up
 * when it fails to start and has failed to serve for so long four times before, in a row. In a cluster with users, `client`
 * has to be one who may change the members: root. Fails with `WrongCluster`, `NameInUse` and `JoinTimeout`, and as
 * `EtcdProcess.make` does. What it waits for is logged once.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Console, Effect, SubscriptionRef } from "effect"
 * import { EtcdMember } from "effect-etcd"
 *
 * const program = Effect.scoped(
 *   Effect.gen(function*() {
 *     const member = yield* EtcdMember.make({
 *       name: "a",
 *       dataDir: "data/a",
 *       peerUrl: "https://127.0.0.1:2380",
 *       clientUrl: "http://127.0.0.1:2379",
 *       peers: ["https://127.0.0.1:2380", "https://127.0.0.1:2480", "https://127.0.0.1:2580"],
 *       size: 3
 *     })
 *     yield* Console.log((yield* SubscriptionRef.get(member.state))._tag)
 *     yield* member.exit
 *   })
 * )
 *
 * program.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Member, Failure, Scope.Scope | Platform> =>
  // Loaded when there is one to be made, and not by whoever loads the library.
  Tracing.traced(
    Effect.flatMap(
      Effect.promise(() => import("./internal/member/life.ts")),
      (life) => life.make(options)
    ),
    "EtcdMember.make"
  )

/**
 * Provides {@link EtcdMember}, with the options of {@link make}, and fails as that does. `EtcdLayer.member` provides a client
 * beside it.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdMember } from "effect-etcd"
 *
 * const live = EtcdMember.layer({
 *   name: "a",
 *   dataDir: "data/a",
 *   peerUrl: "https://127.0.0.1:2380",
 *   clientUrl: "http://127.0.0.1:2379",
 *   peers: ["https://127.0.0.1:2380", "https://127.0.0.1:2480", "https://127.0.0.1:2580"],
 *   size: 3
 * })
 *
 * const program = EtcdMember.EtcdMember.use((member) => member.exit)
 *
 * program.pipe(Effect.provide(live), Effect.provide(NodeServices.layer), NodeRuntime.runMain)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<EtcdMember, Failure, Platform> =>
  Layer.effect(EtcdMember, make(options))

/**
 * As {@link layer}, with options from Effect's `Config`, read when the layer is built: what differs from machine to machine
 * comes from its environment.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link make} where it makes no sense.
 *
 * @example
 * ```ts
 * import { Config, Schema } from "effect"
 * import { EtcdMember } from "effect-etcd"
 *
 * const live = EtcdMember.layerConfig({
 *   name: Config.String("HOSTNAME"),
 *   dataDir: Config.String("ETCD_DATA"),
 *   peerUrl: Config.String("ETCD_PEER_URL"),
 *   clientUrl: Config.String("ETCD_CLIENT_URL"),
 *   peers: Config.Array(Schema.String, "ETCD_PEERS"),
 *   size: 3
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: EtcdClient.ConfigOf<Options>
): Layer.Layer<EtcdMember, Config.ConfigError | Failure, Platform> =>
  Layer.effect(EtcdMember, Effect.flatMap(Wrapped.unwrap<Options>(options), make))
