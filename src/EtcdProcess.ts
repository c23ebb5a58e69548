/**
 * One etcd node as a scoped resource.
 *
 * {@link make} starts the executable, waits until the node answers requests, and yields what a program wants to know of
 * it: its id, version, configuration and endpoints, a `Stream` of the events in its log, its Raft role as a
 * `SubscriptionRef`, and its end. Closing the scope stops it. A host that dies without closing the scope, even by
 * SIGKILL, takes the node with it.
 *
 * Without a configuration the node is private to its owner: it listens on Unix sockets in a directory of mode 0700 and
 * on no port, and its data goes when the scope closes.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import type * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdBinary from "./EtcdBinary.ts"
import * as EtcdClient from "./EtcdClient.ts"
import * as EtcdConfig from "./EtcdConfig.ts"
import type * as EtcdError from "./EtcdError.ts"
import * as EtcdId from "./EtcdId.ts"
import * as EtcdLog from "./EtcdLog.ts"
import * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Child from "./internal/process/child.ts"
import * as Failures from "./internal/process/failures.ts"
import * as History from "./internal/process/history.ts"
import * as ProcessOptions from "./internal/process/options.ts"
import * as WatchRole from "./internal/process/watchRole.ts"
import { Maintenance } from "./internal/proto/rpc_pb.ts"
import * as Time from "./internal/time.ts"
import * as Role from "./Role.ts"

/**
 * How a process ended: by an exit code, or by a signal.
 *
 * @category models
 * @since 0.1.0
 */
export interface ExitStatus {
  readonly code: number | null
  readonly signal: string | null
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
  readonly name: string
  /** The member id. It stays the same as long as the data directory does. */
  readonly id: EtcdId.MemberId
  readonly clusterId: EtcdId.ClusterId
  readonly version: SemVer.SemVer
  /** The configuration in force, defaults filled in. */
  readonly config: EtcdConfig.Resolved
  /** Where clients reach the node: `http://127.0.0.1:2379`, `unix:///directory/client.sock:0`. */
  readonly endpoints: readonly [string, ...Array<string>]
  /** The process id, while there is a process. */
  readonly pid: Effect.Effect<Option.Option<number>>
  /** Whether the node serves. True when {@link make} returns, false from an exit until it serves again. */
  readonly ready: SubscriptionRef.SubscriptionRef<boolean>
  readonly role: SubscriptionRef.SubscriptionRef<Role.RoleState>
  /**
   * What etcd logs, from the start of the node (as far back as the buffer reaches) until it has stopped for good.
   * Readers do not slow etcd or each other. One that falls behind by more than the buffer gets a {@link Missed} in
   * place of what is gone; the role, which is folded before buffering, misses nothing.
   */
  readonly events: Stream.Stream<EtcdLog.Event | Missed>
  /** Waits until there is no process and none is about to be started again by the restart schedule. */
  readonly exit: Effect.Effect<ExitStatus>
  /** Sends a signal to etcd itself, for example `SIGKILL`, `SIGSTOP` or `SIGCONT`. Nothing if there is no process. */
  readonly signal: (signal: ChildProcess.Signal) => Effect.Effect<void>
  /** Stops the process (SIGTERM, SIGKILL after the grace period). The restart schedule does not bring it back. */
  readonly stop: Effect.Effect<void>
  /** Starts the process again with the same data directory. Nothing if it runs. */
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
  /** The executable. Without it, see `EtcdBinary.find`. */
  readonly binary?: string | undefined
  /** How long the node may take until it serves; not zero. Default: 30 seconds. */
  readonly startTimeout?: Duration.Input | undefined
  /** How long etcd may take to end after SIGTERM before it gets SIGKILL. Default: 5 seconds. */
  readonly gracePeriod?: Duration.Input | undefined
  /** Starts etcd again, with the same data directory, when it ends by itself. Default: it stays down. */
  readonly restart?: Schedule.Schedule<unknown, ExitStatus> | undefined
  /** Passes etcd's log lines on to Effect's logger, at the matching level. Default: true. */
  readonly log?: boolean | undefined
  /** How many events {@link Node.events} holds for its readers, from 1 up to 16,777,216. Default: 4096. */
  readonly eventBuffer?: number | undefined
  /**
   * How often etcd's `Status` is asked for the role, as a check of what the log said. Default: 10 seconds, or 250
   * milliseconds where the log level hides the lines that the role comes from. Infinity: never. It cannot be zero.
   */
  readonly statusInterval?: Duration.Input | undefined
  /** The working directory of etcd, in which relative sockets live. Default: a temporary one of mode 0700. */
  readonly runDirectory?: string | undefined
  /** Whether the given `runDirectory` goes when the host dies without closing the scope. Default: false. */
  readonly runDirectoryIsTemporary?: boolean | undefined
  /** What this library's own requests to the node need, where the node asks for TLS or a password. */
  readonly client?: Partial<Omit<EtcdClient.Options, "endpoints">> | undefined
}

interface Status {
  readonly memberId: bigint
  readonly clusterId: bigint
  readonly leader: bigint
  readonly raftTerm: bigint
}

const lastLinesKept = 20
const failuresKept = 100

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
> => Time.really(makeWith(config, () => ({}), options))

/**
 * A node for tests: it elects itself within milliseconds, does not sync its data to disk where its version can leave
 * that out, and is otherwise as {@link make} without a configuration, so that any number of them run side by side.
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
> => Time.really(makeWith(config, EtcdConfig.ephemeral, options))

/**
 * What one run of the process has said so far, as far as starting and ending are concerned.
 */
interface Output {
  readonly lastLines: Array<string>
  readonly failures: Array<EtcdLog.Failure>
  readonly ready: Latch.Latch
  /** Opens when a failure is told that etcd would wait for and not end by. */
  readonly stuck: Latch.Latch
  member: EtcdLog.LocalMember | undefined
}

const makeOutput = (): Output => ({
  lastLines: [],
  failures: [],
  ready: Latch.makeUnsafe(false),
  stuck: Latch.makeUnsafe(false),
  member: undefined
})

const remember = (output: Output, event: EtcdLog.Event) => {
  output.lastLines.push(event.line)
  if (output.lastLines.length > lastLinesKept) output.lastLines.shift()
  if (event._tag === "Ready") output.ready.openUnsafe()
  if (event._tag === "LocalMember") output.member = event
  if (event._tag === "Failure" && !output.ready.isOpen()) {
    output.failures.push(event)
    if (output.failures.length > failuresKept) output.failures.shift()
    if (event.reason._tag === "DataDirInUse") output.stuck.openUnsafe()
  }
}

/** One run of the process. */
interface Run {
  readonly pid: number
  readonly output: Output
  readonly role: WatchRole.WatchRole
  /** Completes when the process has ended and all that it printed has been read. */
  readonly ended: Effect.Effect<ExitStatus>
  /** Ends the process and waits for it. */
  readonly close: Effect.Effect<void>
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
  const fs = yield* FileSystem.FileSystem
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  yield* ProcessOptions.check("EtcdProcess", ProcessOptions.ofNode, options)
  const given = yield* EtcdConfig.decode(input)
  const binary = yield* EtcdBinary.find({ path: options.binary })
  const wanted: EtcdConfig.Input = Object.assign({}, preset(binary.version), given)
  const { config, runDirectory, temporaryDirectory } = yield* prepare(binary, wanted, options)
  const endpoints = EtcdConfig.endpoints(config, runDirectory)
  const startTimeout = Duration.fromInputUnsafe(options.startTimeout ?? "30 seconds")
  const gracePeriod = Duration.fromInputUnsafe(options.gracePeriod ?? "5 seconds")

  const history = History.make<EtcdLog.Event>(options.eventBuffer ?? 4096)
  const role = yield* SubscriptionRef.make<Role.RoleState>(Role.initial(yield* DateTime.now))
  const ready = yield* SubscriptionRef.make(false)
  const stopped = yield* SubscriptionRef.make(Option.none<ExitStatus>())
  const turns = yield* Semaphore.make(1)
  const background = yield* Scope.make()
  let current: Run | undefined
  let supervisor: Fiber.Fiber<void> | undefined
  let lastExit: ExitStatus = { code: null, signal: null }

  const onEvent = (output: Output, watched: WatchRole.WatchRole) => (event: EtcdLog.Event) => {
    remember(output, event)
    history.publish(event)
    const folded = watched.take(event)
    return options.log === false ? folded : Effect.andThen(folded, logEvent(event, config.name))
  }

  const launch: Effect.Effect<Run, EtcdProcessError.EtcdProcessError> = Effect.gen(function* () {
    yield* removeSockets(config, runDirectory).pipe(Effect.provideService(FileSystem.FileSystem, fs))
    const scope = yield* Scope.make()
    const child = yield* Child.spawn({
      command: binary.path,
      args: EtcdConfig.toFlags(config),
      environment: EtcdConfig.toEnvironment(config),
      workingDirectory: runDirectory,
      temporaryDirectory,
      gracePeriodMillis: Duration.toMillis(gracePeriod)
    }).pipe(
      Scope.provide(scope),
      Effect.provideService(ChildProcessSpawner.ChildProcessSpawner, spawner),
      Effect.mapError(EtcdProcessError.systemFailure(`start ${binary.path}`)),
      Effect.onError(() => Scope.close(scope, Exit.void))
    )
    const output = makeOutput()
    const watched = WatchRole.make({
      role,
      ready,
      connect: connectTo(endpoints[0], options.client),
      electionTimeout: config.options.electionTimeout ?? Duration.seconds(1),
      interval: options.statusInterval ?? (EtcdConfig.showsRole(config) ? "10 seconds" : "250 millis")
    })
    const read = (bytes: Stream.Stream<Uint8Array, PlatformError.PlatformError>) =>
      bytes.pipe(EtcdLog.decode, Stream.runForEach(onEvent(output, watched)), Effect.ignore)
    const readers = yield* Effect.forkIn(
      Effect.all([read(child.stdout), read(child.stderr)], { concurrency: 2, discard: true }),
      background
    )
    const exit = yield* child.exit.pipe(
      Effect.tap(() => child.dismissGuard),
      Effect.tap(() => Effect.timeoutOption(Fiber.await(readers), "1 second")),
      Effect.forkIn(background)
    )
    const ended = Fiber.join(exit)
    yield* Effect.forkIn(watched.watch, scope)
    return {
      pid: child.pid,
      output,
      role: watched,
      ended,
      close: Effect.andThen(Scope.close(scope, Exit.void), Effect.asVoid(ended))
    }
  })

  const askStatus = Effect.scoped(Effect.flatten(connectTo(endpoints[0], options.client)))

  const served = (run: Run) =>
    Effect.raceFirst(run.output.ready.await, Effect.sleep("50 millis")).pipe(
      Effect.andThen(askStatus),
      Effect.catch((error) => {
        const told = run.output.ready.isOpen() ? statusFromLog(run.output) : undefined
        return told === undefined || isTransient(error) ? Effect.fail(error) : Effect.succeed(told)
      }),
      Effect.retry(Schedule.spaced("10 millis")),
      Effect.orDie
    )

  const failed = (run: Run) =>
    Effect.map(run.ended, (status) =>
      Failures.exitedEarly({
        failure: EtcdLog.explain(run.output.failures),
        status,
        lastLines: run.output.lastLines,
        dataDir: config.dataDir
      })
    )

  const fails = (run: Run) =>
    Effect.raceAllFirst([
      failed(run),
      Effect.andThen(run.output.stuck.await, Effect.andThen(run.close, failed(run)))
    ]).pipe(Effect.flatMap((reason) => Effect.fail(EtcdProcessError.make(reason))))

  const started = (run: Run) =>
    Time.patiently(time, Effect.raceFirst(served(run), fails(run)), Duration.toMillis(startTimeout), () =>
      Effect.fail(EtcdProcessError.make(Failures.startTimeout(startTimeout, run.output)))
    )

  const takeDown: Effect.Effect<void> = Effect.suspend(() => {
    const run = current
    if (run === undefined) return Effect.void
    return Effect.gen(function* () {
      yield* run.role.leaves
      yield* run.close
      current = undefined
      lastExit = yield* run.ended
      yield* run.role.ended
    })
  })

  const bringUp: Effect.Effect<Status, EtcdProcessError.EtcdProcessError> = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const run = yield* launch
      current = run
      const status = yield* restore(started(run)).pipe(Effect.onError(() => takeDown))
      yield* run.role.serves(status)
      return status
    })
  )

  /** From now to the end of a run, which it starts if there is none. */
  const live: Effect.Effect<never, ExitStatus> = Effect.gen(function* () {
    if (current === undefined) {
      yield* Effect.logWarning(`etcd ended (${Failures.describeExit(lastExit)}); starting it again`)
      yield* bringUp.pipe(
        Effect.tapError((error) => Effect.logError(error.message)),
        Effect.mapError(() => lastExit)
      )
    }
    yield* current!.ended
    yield* takeDown
    return yield* Effect.fail(lastExit)
  })

  const setStopped = Effect.suspend(() => SubscriptionRef.set(stopped, Option.some(lastExit)))

  const supervise = Effect.gen(function* () {
    const step = yield* Schedule.toStep(options.restart ?? Schedule.recurs(0))
    let pause: number | undefined
    do {
      const status = yield* Effect.flip(live)
      pause = yield* Time.nextPause(time, step, status)
      if (pause !== undefined) yield* Time.sleep(time, pause)
    } while (pause !== undefined)
    yield* setStopped
  }).pipe(Effect.annotateLogs("member", config.name))

  const start = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      yield* SubscriptionRef.set(stopped, Option.none())
      const status = yield* Effect.onError(restore(bringUp), () => setStopped)
      supervisor = yield* Effect.forkIn(supervise, background)
      return status
    })
  )

  const stop = Effect.gen(function* () {
    if (supervisor !== undefined) yield* Fiber.interrupt(supervisor)
    yield* takeDown
    yield* setStopped
  }).pipe(Effect.uninterruptible)

  yield* Effect.addFinalizer(() =>
    turns
      .withPermit(stop)
      .pipe(Effect.andThen(Scope.close(background, Exit.void)), Effect.andThen(Effect.sync(history.end)))
  )
  const first = yield* turns.withPermit(start)

  return {
    name: config.name,
    id: EtcdId.MemberId(first.memberId),
    clusterId: EtcdId.ClusterId(first.clusterId),
    version: binary.version,
    config,
    endpoints,
    pid: Effect.sync(() => Option.fromUndefinedOr(current?.pid)),
    ready,
    role,
    events: history.stream((count) => new Missed({ count })),
    exit: SubscriptionRef.changes(stopped).pipe(
      Stream.filter(Option.isSome),
      Stream.runHead,
      Effect.map((status) => Option.getOrThrow(Option.flatten(status)))
    ),
    signal: (signal) => Effect.suspend(() => (current === undefined ? Effect.void : Child.signal(current.pid, signal))),
    stop: Time.inRealTime(time, turns.withPermit(stop)),
    start: Time.inRealTime(
      time,
      turns.withPermit(Effect.suspend(() => (current === undefined ? Effect.asVoid(start) : Effect.void)))
    )
  }
})

const prepare = Effect.fnUntraced(function* (binary: EtcdBinary.EtcdBinary, input: EtcdConfig.Input, options: Options) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const given = yield* EtcdConfig.decode(input)
  const runDirectory =
    options.runDirectory === undefined
      ? yield* Effect.mapError(
          fs.makeTempDirectoryScoped({ prefix: "effect-etcd-" }),
          EtcdProcessError.systemFailure("create a temporary directory")
        )
      : path.resolve(options.runDirectory)
  const isTemporary = options.runDirectory === undefined || options.runDirectoryIsTemporary === true
  const dataDir =
    given.dataDir === undefined
      ? path.join(runDirectory, `${given.name ?? "default"}.etcd`)
      : path.resolve(given.dataDir)
  const config = yield* EtcdConfig.resolve(given, { version: binary.version, dataDir })
  yield* Effect.mapError(
    fs.makeDirectory(dataDir, { recursive: true, mode: 0o700 }),
    EtcdProcessError.systemFailure(`create the data directory ${dataDir}`)
  )
  yield* Effect.annotateLogs(
    Effect.forEach(config.warnings, (warning) => Effect.logWarning(warning), { discard: true }),
    "member",
    config.name
  )
  return { config, runDirectory, temporaryDirectory: isTemporary ? runDirectory : undefined }
})

/** A killed etcd leaves the sockets of its directory behind, and 3.4 does not start over those of its clients. */
const removeSockets = Effect.fnUntraced(function* (config: EtcdConfig.Resolved, runDirectory: string) {
  const fs = yield* FileSystem.FileSystem
  const urls = [...(config.options.listenClientUrls ?? []), ...(config.options.listenPeerUrls ?? [])]
  const names = urls.flatMap((url) => /^unixs?:\/\/([^/]+)$/.exec(url)?.[1] ?? [])
  yield* Effect.forEach(names, (name) => Effect.ignore(fs.remove(`${runDirectory}/${name}`)), { discard: true })
})

/** Asks for the `Status`, on one connection that lives as long as the scope. */
const connectTo = (endpoint: string, options: Options["client"]) =>
  Effect.map(EtcdClient.make({ ...options, endpoints: [endpoint] }), (client) =>
    Effect.map(
      client.unary(Maintenance.method.status, {}, { deadline: "2 seconds" }),
      (response): Status => ({
        memberId: response.header?.memberId ?? 0n,
        clusterId: response.header?.clusterId ?? 0n,
        leader: response.leader,
        raftTerm: response.raftTerm
      })
    )
  )

/** Failures that the next request may not see. Others, of TLS or a password, stay; then the log's word is taken. */
const isTransient = (error: EtcdError.EtcdError) =>
  error.reason._tag === "DeadlineExceeded" || error.reason._tag === "NoLeader"

/** What `Status` would have said of the ids, where etcd does not answer this client. */
const statusFromLog = ({ member }: Output): Status | undefined =>
  member === undefined
    ? undefined
    : { memberId: member.member, clusterId: Option.getOrElse(member.cluster, () => 0n), leader: 0n, raftTerm: 0n }

const logEvent = (event: EtcdLog.Event, member: string) =>
  Effect.logWithLevel(event.level)(event.message).pipe(Effect.annotateLogs("member", member))

/**
 * Starts a node with the layer, and stops it with the layer.
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
