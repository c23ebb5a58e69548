/**
 * One etcd node as a scoped resource.
 *
 * {@link make} starts the executable, waits until the node answers requests, and yields what a program wants to know of
 * it: its id, version, configuration and endpoints, a `Stream` of the events in its log, its Raft role as a
 * `SubscriptionRef`, and its end. Closing the scope stops it. A host that dies without closing the scope, even by
 * SIGKILL, takes the node with it.
 *
 * Without a configuration the node is private to its owner: it listens on Unix sockets in a directory of mode 0700 and
 * on no port, and its data is removed when the scope closes.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as ChildProcess from "effect/process/ChildProcess"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Record from "effect/Record"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as SemVer from "effect/SemVer"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdBinary from "./EtcdBinary.ts"
import type * as EtcdClient from "./EtcdClient.ts"
import * as EtcdConfig from "./EtcdConfig.ts"
import * as EtcdId from "./EtcdId.ts"
import type * as EtcdLog from "./EtcdLog.ts"
import type * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Json from "./internal/json.ts"
import { allOrNothing } from "./internal/process/allOrNothing.ts"
import * as Child from "./internal/process/child.ts"
import * as History from "./internal/process/history.ts"
import * as Logging from "./internal/process/logging.ts"
import * as ProcessOptions from "./internal/process/options.ts"
import * as Place from "./internal/process/place.ts"
import * as Readiness from "./internal/process/readiness.ts"
import * as Run from "./internal/process/run.ts"
import * as Sockets from "./internal/process/sockets.ts"
import * as Supervisor from "./internal/process/supervisor.ts"
import * as WatchRole from "./internal/process/watchRole.ts"
import * as Time from "./internal/time.ts"
import * as Tracing from "./internal/tracing.ts"
import * as Wrapped from "./internal/wrapped.ts"
import * as Role from "./Role.ts"

/**
 * How a process ended: by an exit code, or by a signal.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExitStatus {
  /** The exit code; null where a signal ended it. */
  readonly code: number | null
  /** The signal that ended it, such as `SIGKILL`; null where it ended by itself. */
  readonly signal: string | null
}

/**
 * How a node ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Exit extends ExitStatus {
  /** Why the last try to start it again failed; absent where that was not tried. */
  readonly error?: EtcdProcessError.EtcdProcessError | undefined
}

/**
 * Stands for the events that a reader of {@link Node.events} was too slow for.
 *
 * @category models
 * @since 0.1.0
 */
export class Missed extends Data.TaggedClass("Missed")<{
  /** How many events were dropped before the next one. */
  readonly count: number
}> {}

/**
 * A running node.
 *
 * @category models
 * @since 0.1.0
 */
export interface Node {
  /** That of its configuration. */
  readonly name: string
  /**
   * The member id. It stays the same as long as the data directory does. 0, as {@link Node.clusterId}, where etcd wants a
   * password or a certificate which `client` does not have, or shows one that it does not trust, and the log level hides
   * what its log would say.
   */
  readonly id: EtcdId.MemberId
  /** The cluster that it is a member of. */
  readonly clusterId: EtcdId.ClusterId
  /** The version of etcd, as its executable says it. */
  readonly version: SemVer.SemVer
  /** The configuration in force, defaults filled in. */
  readonly config: EtcdConfig.Resolved
  /** Where clients reach the node: `http://127.0.0.1:2379`, `unix:///directory/client.sock:0`. */
  readonly endpoints: readonly [string, ...Array<string>]
  /** The process id, while there is a process. */
  readonly pid: Effect.Effect<Option.Option<number>>
  /**
   * Whether the node serves. True when {@link make} returns, false from an exit until it serves again, and from when it
   * is found not to answer (see `Role`) until it does.
   */
  readonly ready: SubscriptionRef.SubscriptionRef<boolean>
  /** What the node is in its cluster: see `Role`, which says what of it can be relied on. */
  readonly role: SubscriptionRef.SubscriptionRef<Role.State>
  /**
   * What etcd logs, from the start of the node (as far back as the buffer reaches) until it has stopped for good.
   * Readers do not slow etcd or each other. One that falls behind by more than the buffer gets a {@link Missed} in
   * place of what is gone; the role, which is folded before buffering, misses nothing.
   */
  readonly events: Stream.Stream<EtcdLog.Event | Missed>
  /** Waits until there is no process and none is about to be started again by the restart schedule. */
  readonly exit: Effect.Effect<Exit>
  /**
   * Sends a signal to etcd, for example `SIGKILL`, `SIGSTOP` or `SIGCONT`; and to what has started it, where the executable
   * is a script. Does nothing if there is no process.
   */
  readonly signal: (signal: ChildProcess.Signal) => Effect.Effect<void>
  /**
   * Stops the process (SIGTERM, SIGKILL after the grace period). The restart schedule does not bring it back. Whoever
   * waits in `start` gets `Stopped`.
   */
  readonly stop: Effect.Effect<void>
  /**
   * Starts the process again with the same data directory, and waits until it serves: at once, also while the restart
   * schedule pauses. Does nothing if it runs. Interrupted, it takes back what it has begun. Fails with `Stopped` where
   * the node is stopped meanwhile, or its scope is closed.
   */
  readonly start: Effect.Effect<void, EtcdProcessError.EtcdProcessError>
}

/**
 * The service of the node that a layer of this module started.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdProcess extends Context.Service<EtcdProcess, Node>()("effect-etcd/EtcdProcess") {}

/**
 * How to run the process, as opposed to how etcd is configured.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * The executable: a path, `"fetch"` (what is installed, or else a release that is fetched once), or `{ fetch: … }`
   * with the release to use. Default: what is installed, see `EtcdBinary.find`.
   */
  readonly binary?: EtcdBinary.Input | undefined
  /** How long the node may take until it serves; neither zero nor a bare number below 100. Default: 30 seconds. */
  readonly startTimeout?: Duration.Input | undefined
  /** How long etcd may take to end after SIGTERM before it gets SIGKILL. Default: 5 seconds. */
  readonly gracePeriod?: Duration.Input | undefined
  /**
   * Starts etcd again, with the same data directory, when it ends by itself. The schedule is for one outage, from the end of
   * the process until the node serves again: it says how long to wait before each try, and after how many to give up; the
   * next outage begins it anew. An etcd that serves and ends at once is started again for ever: let the schedule pause.
   * Default: it stays down.
   */
  readonly restart?: Schedule.Schedule<unknown, ExitStatus> | undefined
  /**
   * Whether to log to Effect's logger, with the name of the node as the annotation `member`: one line at `Info` when it
   * serves, etcd's own warnings and errors at their level while it does, and the rest of etcd's lines at `Debug`, each
   * annotated with its fields. Where a start fails, the error has the last lines. Default: true.
   */
  readonly log?: boolean | undefined
  /** How many events {@link Node.events} holds for its readers, from 1 up to 16,777,216. Default: 4096. */
  readonly eventBuffer?: number | undefined
  /**
   * How often etcd's `Status` is asked for the role, as a check of what the log said. Default: 10 seconds, or 250
   * milliseconds where the log level hides the lines that the role comes from. A leader is asked four times in an
   * election timeout at least, since one that does not answer is none (see `Role`). Infinity: nobody is ever asked. It
   * cannot be zero.
   */
  readonly statusInterval?: Duration.Input | undefined
  /** The working directory of etcd, in which relative sockets live. Default: a temporary one of mode 0700. */
  readonly runDirectory?: string | undefined
  /** Whether the given `runDirectory` goes when the host dies without closing the scope. Default: false. */
  readonly runDirectoryIsTemporary?: boolean | undefined
  /**
   * Variables of etcd's environment, such as `GOMAXPROCS`, beside those of this process and over them. None of etcd's own
   * (`ETCD_…`), which are the configuration's business. The peers of a node that listens to them on Unix sockets cannot be
   * reached through an HTTP proxy: `HTTP_PROXY` and `HTTPS_PROXY` are then handed on only from here. Default: none.
   */
  readonly environment?: Record.ReadonlyRecord<string, string> | undefined
  /**
   * What this library's own requests to the node need, where the node asks for TLS or a password. Default: nothing, as for
   * a node that asks for neither.
   */
  readonly client?: Partial<Omit<EtcdClient.Options, "endpoints">> | undefined
}

/**
 * Starts a node and waits until it serves. It lives as long as the scope.
 *
 * Fails with an `EtcdProcessError` that says what was wrong: the executable, the configuration, an address or a data
 * directory in use, an early exit with its code and last log lines. After a failure nothing is left running.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Console, Effect, SemVer } from "effect"
 * import { EtcdProcess, Role } from "effect-etcd"
 *
 * const program = Effect.scoped(
 *   Effect.gen(function*() {
 *     const etcd = yield* EtcdProcess.make({ name: "a" })
 *     yield* Console.log(`etcd ${SemVer.format(etcd.version)} serves at ${etcd.endpoints[0]}`)
 *     yield* Role.whileLeader(etcd, Console.log("and leads"))
 *   })
 * )
 *
 * program.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  config: EtcdConfig.Input = {},
  options: Options = {}
): Effect.Effect<
  Node,
  EtcdProcessError.EtcdProcessError,
  Scope.Scope | FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> => Tracing.traced(Time.really(allOrNothing(makeWith(config, () => ({}), options))), "EtcdProcess.make")

/**
 * A node for tests: it elects itself within milliseconds, does not sync its data to disk where its version can leave
 * that out, and is otherwise as {@link make} without a configuration, so that any number of them run side by side.
 *
 * What `config` says takes the place of what `EtcdConfig.ephemeral` does. Fails as {@link make} does.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdProcess, Role } from "effect-etcd"
 *
 * // What does a program do when its node is killed, and comes back?
 * const program = Effect.gen(function*() {
 *   const node = yield* EtcdProcess.ephemeral()
 *   yield* Effect.forkScoped(Role.whileLeader(node, Effect.never))
 *   yield* node.signal("SIGKILL")
 *   const { signal } = yield* node.exit // "SIGKILL"
 *   yield* node.start
 *   return signal
 * }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const ephemeral = (
  config: EtcdConfig.Input = {},
  options: Options = {}
): Effect.Effect<
  Node,
  EtcdProcessError.EtcdProcessError,
  Scope.Scope | FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> => Tracing.traced(Time.really(allOrNothing(makeWith(config, EtcdConfig.ephemeral, options))), "EtcdProcess.ephemeral")

/** A run, and what is told of its role. */
interface Watched extends Run.Run {
  readonly watched: WatchRole.WatchRole
  readonly logged: Logging.Logging
}

const makeWith = Effect.fnUntraced(function* (
  input: EtcdConfig.Input,
  preset: (version: SemVer.SemVer) => EtcdConfig.Input,
  options: Options
): Effect.fn.Return<
  Node,
  EtcdProcessError.EtcdProcessError,
  Scope.Scope | FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> {
  const time = yield* Time.Time
  yield* ProcessOptions.check("EtcdProcess", ProcessOptions.ofNode, options)
  const given = yield* EtcdConfig.decode(input)
  const binary = yield* EtcdBinary.fromInput(options.binary)
  const wanted = { ...(yield* EtcdConfig.decode(preset(binary.version))), ...given }
  const { config, guard, runDirectory, sockets } = yield* Place.make(wanted, binary.version, options)
  const endpoints = EtcdConfig.endpoints(config, runDirectory)
  yield* ProcessOptions.checkClient("EtcdProcess", options, endpoints[0])
  const startTimeout = Duration.fromInputUnsafe(options.startTimeout ?? "30 seconds")
  const gracePeriod = Duration.fromInputUnsafe(options.gracePeriod ?? "5 seconds")
  const interval = options.statusInterval ?? (EtcdConfig.showsRole(config) ? "10 seconds" : "250 millis")

  const named = Effect.annotateLogs({ member: config.name })

  const history = yield* Effect.acquireRelease(
    Effect.sync(() => History.make<EtcdLog.Event>(options.eventBuffer ?? 4096)),
    (history) => Effect.sync(history.end)
  )
  const role = yield* SubscriptionRef.make<Role.State>(Role.initial(yield* DateTime.now))
  const ready = yield* SubscriptionRef.make(false)
  yield* Sockets.claim(sockets)
  const connect = Readiness.connectTo(endpoints[0], options.client)
  // Who waits until it serves asks again, and is to hear at once that it is not let in.
  const ask = Effect.scoped(
    Effect.flatten(Readiness.connectTo(endpoints[0], options.client, { retry: Schedule.recurs(0) }))
  )

  const withoutSecrets = Logging.withoutSecrets(config)
  const child: Child.Options = {
    command: binary.path,
    args: EtcdConfig.toFlags(config),
    environment: { ...Child.withoutProxies(config), ...EtcdConfig.toEnvironment(config), ...options.environment },
    workingDirectory: runDirectory,
    gracePeriodMillis: Duration.toMillis(gracePeriod),
    guard
  }

  const launch = Effect.gen(function* () {
    yield* Effect.interruptible(yield* Child.MayStart)
    yield* Sockets.clear(sockets)
    yield* Place.beginAnew(config, Time.sleep(time, 1000))
    const watched = WatchRole.make({
      role,
      ready,
      connect,
      electionTimeout: config.options.electionTimeout ?? Duration.seconds(1),
      interval
    })
    const logged = Logging.make({ log: options.log, version: binary.version, endpoints })
    const run = yield* Run.start(child, { withoutSecrets, history, watched, logged })
    return { ...run, watched, logged }
  })

  const platform = Tracing.withoutParent(
    yield* Effect.context<FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner>()
  )
  const node = yield* Supervisor.make<Readiness.Status, Watched>({
    time,
    restart: options.restart ?? Schedule.recurs(0),
    launch: Effect.provideContext(launch, platform),
    serves: (run) =>
      Readiness.started(run, ask, config, { time, startTimeout }).pipe(
        Effect.tap(run.watched.serves),
        Effect.tap(run.logged.serves)
      ),
    whileUp: ({ watched }) => watched.watch,
    onDown: ({ logged, watched }) => Effect.andThen(logged.leaves, watched.leaves),
    onEnd: ({ watched }) => watched.ended
  }).pipe(named)
  const warn = (warning: string) => Effect.ignoreCause(Effect.logWarning(warning))
  yield* named(Effect.forEach(config.warnings, warn, { discard: true }))
  const first = yield* node.start

  const made: Node = {
    name: config.name,
    id: EtcdId.MemberId(first.memberId),
    clusterId: EtcdId.ClusterId(first.clusterId),
    version: binary.version,
    config,
    endpoints,
    pid: Effect.sync(() => Option.fromUndefinedOr(node.run()?.pid)),
    ready,
    role,
    events: history.stream((count) => new Missed({ count })),
    exit: node.ended,
    signal: (signal) =>
      Effect.suspend(() => {
        const run = node.run()
        return run === undefined ? Effect.void : Child.signal(run.pid, signal)
      }),
    stop: node.stop,
    start: Effect.asVoid(node.start)
  }
  return Json.showing(made, ({ clusterId, endpoints, id, name, version }) => ({
    name,
    id,
    clusterId,
    version,
    endpoints
  }))
})

/**
 * Provides the node that {@link make} starts, which stops with the layer. Fails as {@link make} does. `EtcdLayer.embedded`
 * provides a client beside it.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdProcess } from "effect-etcd"
 *
 * const program = EtcdProcess.EtcdProcess.use((etcd) => Effect.log(etcd.endpoints[0]))
 *
 * program.pipe(
 *   Effect.provide(EtcdProcess.layer({ dataDir: "data" })),
 *   Effect.provide(NodeServices.layer),
 *   NodeRuntime.runMain
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  config: EtcdConfig.Input = {},
  options: Options = {}
): Layer.Layer<
  EtcdProcess,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> => Layer.effect(EtcdProcess, make(config, options))

/**
 * As {@link layer}, with the configuration of etcd, and how it is run, from Effect's `Config`, read when the layer is built.
 *
 * `EtcdConfig.config()` reads all of etcd's own options. Fails with `ConfigError` where something is missing or is not
 * of its type, and as {@link make} where it makes no sense.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { EtcdConfig, EtcdProcess } from "effect-etcd"
 *
 * // ETCD_NAME=infra0 ETCD_LISTEN_CLIENT_URLS=http://127.0.0.1:2379 ETCD_START_TIMEOUT="1 minute"
 * const live = EtcdProcess.layerConfig(EtcdConfig.config(), {
 *   startTimeout: Config.withDefault(Config.Duration("ETCD_START_TIMEOUT"), "30 seconds")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: EtcdClient.ConfigOf<EtcdConfig.Input> = {},
  options: EtcdClient.ConfigOf<Options> = {}
): Layer.Layer<
  EtcdProcess,
  Config.ConfigError | EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> =>
  Layer.effect(
    EtcdProcess,
    Effect.flatMap(
      Config.all([Wrapped.unwrap<EtcdConfig.Input>(config), Wrapped.unwrap<Options>(options)]),
      ([config, options]) => make(config, options)
    )
  )
