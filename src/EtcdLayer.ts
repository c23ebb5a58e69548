/**
 * The front door: layers that give a program everything it needs to use etcd.
 *
 * {@link embedded} runs a node inside the program, {@link cluster} runs several, {@link connect} uses an etcd that is
 * already there. All of them provide the same client services, so that what is built on those does not change when a
 * test's ephemeral node becomes a production cluster.
 *
 * Layers that run an etcd are there when it serves, and fail with an `EtcdProcessError` that says why it does not. The client
 * of each is made without asking etcd for anything: it fails with an `EtcdError` only where an option makes no sense
 * (`InvalidArgument`), or as the `Effect` or `Stream` of endpoints does; that etcd cannot be reached is told by the calls.
 *
 * What runs an etcd is loaded when one is to be run: `effect-etcd/EtcdLayer` alone, and a bundle of a program that only
 * connects, has neither processes nor files in it.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EtcdAuth from "./EtcdAuth.ts"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdCluster from "./EtcdCluster.ts"
import type * as EtcdConfig from "./EtcdConfig.ts"
import type * as EtcdError from "./EtcdError.ts"
import * as EtcdKv from "./EtcdKv.ts"
import * as EtcdLease from "./EtcdLease.ts"
import * as EtcdMaintenance from "./EtcdMaintenance.ts"
import type * as EtcdMember from "./EtcdMember.ts"
import type * as EtcdMemberError from "./EtcdMemberError.ts"
import * as EtcdMembership from "./EtcdMembership.ts"
import * as EtcdNamespace from "./EtcdNamespace.ts"
import type * as EtcdProcess from "./EtcdProcess.ts"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import * as EtcdTxn from "./EtcdTxn.ts"
import * as EtcdWatch from "./EtcdWatch.ts"
import * as Wrapped from "./internal/wrapped.ts"
import type * as KeyRange from "./KeyRange.ts"

/**
 * The services that talk to etcd, wherever it runs.
 *
 * @category models
 * @since 0.1.0
 */
export type Services =
  | EtcdAuth.EtcdAuth
  | EtcdClient.EtcdClient
  | EtcdKv.EtcdKv
  | EtcdLease.EtcdLease
  | EtcdMaintenance.EtcdMaintenance
  | EtcdMembership.EtcdMembership
  | EtcdTxn.EtcdTxn
  | EtcdWatch.EtcdWatch

// Fresh, because these layers are constants: memoized, those of a program that already has an etcd would be used again,
// with its client, by a layer inside that connects to another one.
const services = Layer.fresh(
  Layer.mergeAll(
    EtcdAuth.layer,
    EtcdKv.layer,
    EtcdLease.layer,
    EtcdMaintenance.layer,
    EtcdMembership.layer,
    EtcdTxn.layer,
    EtcdWatch.layer
  )
)

/**
 * Connects to an etcd that is already there.
 *
 * The connection is made with the first request, so that a program can start before its etcd does. Fails as
 * `EtcdClient.layer` does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const connect = (options: EtcdClient.Options): Layer.Layer<Services, EtcdError.EtcdError> =>
  Layer.provideMerge(services, EtcdClient.layer(options))

/**
 * As {@link connect}, with options from Effect's `Config`, read when the layer is built: see `EtcdClient.layerConfig`.
 *
 * @example
 * ```ts
 * import { Config, Effect, Schema } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * // ETCD_ENDPOINTS=http://10.0.0.1:2379,http://10.0.0.2:2379
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(EtcdLayer.connectConfig({ endpoints: Config.Array(Schema.String, "ETCD_ENDPOINTS") }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const connectConfig = (
  options: EtcdClient.ConfigOf<EtcdClient.Options>
): Layer.Layer<Services, Config.ConfigError | EtcdError.EtcdError> =>
  Layer.provideMerge(services, EtcdClient.layerConfig(options))

// Loaded when there is an etcd to run, and not with this module: who only connects needs neither processes nor files.
const run = <A, E>(layer: (layers: typeof import("./internal/layers.ts")) => Layer.Layer<A, E>): Layer.Layer<A, E> =>
  Layer.unwrap(
    Effect.map(
      Effect.promise(() => import("./internal/layers.ts")),
      layer
    )
  )

/** A layer of what comes from `Config`, which is read when the layer is built. */
const configured = <First, A, E>(
  first: EtcdClient.ConfigOf<First>,
  options: EtcdClient.ConfigOf<EtcdProcess.Options>,
  layer: (first: First, options: EtcdProcess.Options) => Layer.Layer<A, E>
): Layer.Layer<A, E | Config.ConfigError> =>
  Layer.unwrap(Effect.zipWith(Wrapped.unwrap<First>(first), Wrapped.unwrap<EtcdProcess.Options>(options), layer))

/**
 * Runs one node for as long as the layer lives, and connects to it.
 *
 * Without a configuration the node is private: it listens on a Unix socket that only its owner can reach, and its data
 * is removed at the end. Give a `dataDir` to keep the data. Fails as `EtcdProcess.make` and {@link connect} do.
 *
 * @example
 * ```ts
 * import { NodeRuntime } from "@effect/platform-node"
 * import { Console, Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   yield* EtcdKv.put("hello", "world")
 *   yield* Console.log(yield* EtcdKv.getString("hello"))
 * })
 *
 * program.pipe(Effect.provide(EtcdLayer.embedded()), NodeRuntime.runMain)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const embedded = (
  config: EtcdConfig.Input = {},
  options: EtcdProcess.Options = {}
): Layer.Layer<Services | EtcdProcess.EtcdProcess, EtcdError.EtcdError | EtcdProcessError.EtcdProcessError> =>
  run((layers) => layers.embedded(connect, config, options))

/**
 * As {@link embedded}, with the configuration of etcd, and how it is run, from Effect's `Config`, read when the layer
 * is built: see `EtcdProcess.layerConfig`.
 *
 * @example
 * ```ts
 * import { Config, Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(
 *     EtcdLayer.embeddedConfig({ name: Config.String("HOSTNAME"), dataDir: Config.String("ETCD_DATA") }, {
 *       binary: Config.withDefault(Config.String("ETCD_BINARY"), "fetch")
 *     })
 *   )
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const embeddedConfig = (
  config: EtcdClient.ConfigOf<EtcdConfig.Input> = {},
  options: EtcdClient.ConfigOf<EtcdProcess.Options> = {}
): Layer.Layer<
  Services | EtcdProcess.EtcdProcess,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> => configured(config, options, embedded)

/**
 * As {@link embedded}, with a node made for tests: see `EtcdProcess.ephemeral`.
 *
 * @example
 * ```ts
 * import { assert, layer } from "@effect/vitest"
 * import { Effect, Option } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * layer(EtcdLayer.ephemeral())("a setting", (it) => {
 *   it.effect("is what it was set to", () =>
 *     Effect.gen(function*() {
 *       yield* EtcdKv.put("settings/color", "green")
 *       assert.deepStrictEqual(yield* EtcdKv.getString("settings/color"), Option.some("green"))
 *     }))
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const ephemeral = (
  config: EtcdConfig.Input = {},
  options: EtcdProcess.Options = {}
): Layer.Layer<Services | EtcdProcess.EtcdProcess, EtcdError.EtcdError | EtcdProcessError.EtcdProcessError> =>
  run((layers) => layers.ephemeral(connect, config, options))

/**
 * As {@link ephemeral}, with the configuration of etcd, and how it is run, from Effect's `Config`, read when the layer
 * is built: see `EtcdProcess.layerConfig`.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link ephemeral} where it makes no
 * sense.
 *
 * @example
 * ```ts
 * import { assert, layer } from "@effect/vitest"
 * import { Config, Effect, Option } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * // ETCD_LOG=true shows what etcd says, where a test fails in a build.
 * const etcd = EtcdLayer.ephemeralConfig({}, { log: Config.withDefault(Config.Boolean("ETCD_LOG"), false) })
 *
 * layer(etcd)("a setting", (it) => {
 *   it.effect("is what it was set to", () =>
 *     Effect.gen(function*() {
 *       yield* EtcdKv.put("settings/color", "green")
 *       assert.deepStrictEqual(yield* EtcdKv.getString("settings/color"), Option.some("green"))
 *     }))
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const ephemeralConfig = (
  config: EtcdClient.ConfigOf<EtcdConfig.Input> = {},
  options: EtcdClient.ConfigOf<EtcdProcess.Options> = {}
): Layer.Layer<
  Services | EtcdProcess.EtcdProcess,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> => configured(config, options, ephemeral)

/**
 * As {@link embedded}, with the configuration from the `[etcd]` table of a TOML file: see `EtcdConfig.fromToml`.
 *
 * Fails with `InvalidConfig`, before anything is started, if the file cannot be read, or with all that is wrong in it.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(Effect.provide(EtcdLayer.fromToml("etcd.toml")))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const fromToml = (
  path: string,
  options: EtcdProcess.Options = {}
): Layer.Layer<Services | EtcdProcess.EtcdProcess, EtcdError.EtcdError | EtcdProcessError.EtcdProcessError> =>
  run((layers) => layers.fromToml(connect, options, path))

/**
 * As {@link fromToml}, with the path of the file, and how etcd is run, from Effect's `Config`, read when the layer is
 * built: see `EtcdProcess.layerConfig`.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link fromToml}.
 *
 * @example
 * ```ts
 * import { Config, Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * // ORDERS_ETCD=/etc/orders/etcd.toml ORDERS_ETCD_START_TIMEOUT="1 minute"
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(
 *     EtcdLayer.fromTomlConfig(Config.String("ORDERS_ETCD"), {
 *       startTimeout: Config.withDefault(Config.Duration("ORDERS_ETCD_START_TIMEOUT"), "30 seconds")
 *     })
 *   )
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const fromTomlConfig = (
  path: EtcdClient.ConfigOf<string>,
  options: EtcdClient.ConfigOf<EtcdProcess.Options> = {}
): Layer.Layer<
  Services | EtcdProcess.EtcdProcess,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> => configured(path, options, fromToml)

/**
 * As {@link embedded}, with the configuration from etcd's own YAML file, as `etcd --config-file` takes it: see
 * `EtcdConfig.fromYaml`.
 *
 * Fails with `InvalidConfig`, before anything is started, if the file cannot be read, or with all that is wrong in it.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(Effect.provide(EtcdLayer.fromYaml("/etc/etcd/etcd.conf.yml")))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const fromYaml = (
  path: string,
  options: EtcdProcess.Options = {}
): Layer.Layer<Services | EtcdProcess.EtcdProcess, EtcdError.EtcdError | EtcdProcessError.EtcdProcessError> =>
  run((layers) => layers.fromYaml(connect, options, path))

/**
 * As {@link fromYaml}, with the path of the file, and how etcd is run, from Effect's `Config`, read when the layer is
 * built: see `EtcdProcess.layerConfig`.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link fromYaml}.
 *
 * @example
 * ```ts
 * import { Config, Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * // ORDERS_ETCD=/etc/orders/etcd.conf.yml ORDERS_ETCD_START_TIMEOUT="1 minute"
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(
 *     EtcdLayer.fromYamlConfig(Config.String("ORDERS_ETCD"), {
 *       startTimeout: Config.withDefault(Config.Duration("ORDERS_ETCD_START_TIMEOUT"), "30 seconds")
 *     })
 *   )
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const fromYamlConfig = (
  path: EtcdClient.ConfigOf<string>,
  options: EtcdClient.ConfigOf<EtcdProcess.Options> = {}
): Layer.Layer<
  Services | EtcdProcess.EtcdProcess,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> => configured(path, options, fromYaml)

/**
 * As {@link embedded}, with the configuration from the current `ConfigProvider`, below `prefix`: from etcd's own
 * environment variables (`ETCD_LISTEN_CLIENT_URLS`) where nothing else is provided. See `EtcdConfig.config`. How it is run
 * may come from there as well: the options are what those of {@link embeddedConfig} are.
 *
 * Fails with `ConfigError` that lists every wrong value, and with `InvalidConfig` where they do not go together.
 *
 * @example
 * ```ts
 * import { ConfigProvider, Effect, Layer } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const settings = ConfigProvider.layer(
 *   ConfigProvider.fromUnknown({ etcd: { name: "infra0", listenClientUrls: "http://127.0.0.1:2379" } })
 * )
 *
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(EtcdLayer.fromConfig().pipe(Layer.provide(settings)))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const fromConfig = (
  prefix = "etcd",
  options: EtcdClient.ConfigOf<EtcdProcess.Options> = {}
): Layer.Layer<
  Services | EtcdProcess.EtcdProcess,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> =>
  Layer.unwrap(
    Effect.map(Wrapped.unwrap<EtcdProcess.Options>(options), (given) =>
      run((layers) => layers.fromConfig(connect, given, prefix))
    )
  )

/**
 * Runs a cluster for as long as the layer lives, and connects to all of its members that have a vote, also when they change.
 *
 * Without a `dataDir` the data go with it. Fails as `EtcdCluster.make` and {@link connect} do.
 *
 * @example
 * ```ts
 * import { NodeRuntime } from "@effect/platform-node"
 * import { Console, Effect } from "effect"
 * import { EtcdCluster, EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const cluster = yield* EtcdCluster.EtcdCluster
 *   yield* EtcdKv.put("hello", "world")
 *   const leader = yield* cluster.awaitLeader
 *   yield* leader.stop
 *   yield* Console.log(yield* EtcdKv.getString("hello")) // of those who are left
 * })
 *
 * program.pipe(Effect.provide(EtcdLayer.cluster()), NodeRuntime.runMain)
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const cluster = (
  options: EtcdCluster.Options = {}
): Layer.Layer<Services | EtcdCluster.EtcdCluster, EtcdError.EtcdError | EtcdProcessError.EtcdProcessError> =>
  run((layers) => layers.cluster(connect, options))

/**
 * As {@link cluster}, with options from Effect's `Config`, read when the layer is built: see `EtcdCluster.layerConfig`.
 *
 * @example
 * ```ts
 * import { Config, Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(EtcdLayer.clusterConfig({ dataDir: Config.String("ETCD_DATA") }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const clusterConfig = (
  options: EtcdClient.ConfigOf<EtcdCluster.Options>
): Layer.Layer<
  Services | EtcdCluster.EtcdCluster,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> => Layer.unwrap(Effect.map(Wrapped.unwrap<EtcdCluster.Options>(options), cluster))

/**
 * Runs a node that is a member of a cluster of such instances, and connects to the voters that the cluster has just now.
 * See `EtcdMember`. Fails as `EtcdMember.make` and {@link connect} do.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(
 *     EtcdLayer.member({
 *       name: "a",
 *       dataDir: "data/a",
 *       peerUrl: "https://127.0.0.1:2380",
 *       clientUrl: "http://127.0.0.1:2379",
 *       peers: ["https://127.0.0.1:2380", "https://127.0.0.1:2480", "https://127.0.0.1:2580"],
 *       size: 3
 *     })
 *   )
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const member = (
  options: EtcdMember.Options
): Layer.Layer<
  Services | EtcdMember.EtcdMember,
  EtcdError.EtcdError | EtcdMemberError.EtcdMemberError | EtcdProcessError.EtcdProcessError
> => run((layers) => layers.member(connect, options))

/**
 * As {@link member}, with options from Effect's `Config`, read when the layer is built: see `EtcdMember.layerConfig`.
 *
 * @example
 * ```ts
 * import { Config, Effect, Schema } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.getString("hello").pipe(
 *   Effect.provide(
 *     EtcdLayer.memberConfig({
 *       name: Config.String("HOSTNAME"),
 *       dataDir: Config.String("ETCD_DATA"),
 *       peerUrl: Config.String("ETCD_PEER_URL"),
 *       clientUrl: Config.String("ETCD_CLIENT_URL"),
 *       peers: Config.Array(Schema.String, "ETCD_PEERS"),
 *       size: 3
 *     })
 *   )
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const memberConfig = (
  options: EtcdClient.ConfigOf<EtcdMember.Options>
): Layer.Layer<
  Services | EtcdMember.EtcdMember,
  Config.ConfigError | EtcdError.EtcdError | EtcdMemberError.EtcdMemberError | EtcdProcessError.EtcdProcessError
> => Layer.unwrap(Effect.map(Wrapped.unwrap<EtcdMember.Options>(options), member))

/**
 * The same services, for the keys that begin with the prefix and no others, without the prefix. See `EtcdNamespace`. A prefix
 * that makes no sense is told by every call (`InvalidArgument`).
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = EtcdKv.put("color", "green").pipe( // writes app/color
 *   Effect.provide(EtcdLayer.namespace("app/")),
 *   Effect.provide(EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const namespace = (prefix: KeyRange.Bytes): Layer.Layer<Services, never, EtcdClient.EtcdClient> =>
  EtcdNamespace.layer(prefix, services)
