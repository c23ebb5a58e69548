/**
 * Faults on demand: a cluster for tests, whose processes, network and disks go wrong when a test wants them to, and recover
 * when the scope of the fault closes.
 *
 * It needs neither root nor another program (except `unshare`, for disks that can be full: see {@link canFillDisk}). The
 * members run as those of `EtcdCluster.ephemeral`, and all traffic between them, and between clients and them, passes
 * through this process, which can hold it up. All faults act on a real etcd, which reacts as it always does.
 *
 * A *party* is what can be cut off: a member, or a client. Clients that use {@link Faults.endpoints}, as the layers here do,
 * are one party, `clients`; {@link client} makes another one, whose endpoints may be given to any program on this machine.
 *
 * | fault | what happens | when the scope closes |
 * | --- | --- | --- |
 * | {@link kill} | SIGKILL | the member is started again |
 * | {@link stop} | the member ends in order | it is started again |
 * | {@link restart} | SIGKILL, and a start at once | (it serves when this returns) |
 * | {@link pause} | SIGSTOP: the process stands still | SIGCONT |
 * | {@link stall} | it stands still again and again: a slow disk, a processor that others use | it goes on |
 * | {@link partition}, {@link isolate} | parties do not hear each other, in either direction | what was sent arrives |
 * | {@link block} | one party does not hear another, which still hears it | what was sent arrives |
 * | {@link slow} | what parties send each other is late, or slow | |
 * | {@link noSpace} | writes are refused as if a quota were exceeded | they are not |
 * | {@link fillDisk} | there is no room left | there is, and a member that has ended for it is started again |
 * | {@link flipBytes} | a member that is stopped has other bytes in its data | they are as they were, unless it has served |
 * | {@link tearWal} | it lacks the end of its write-ahead log | it has it again, unless it has served |
 * | {@link restoreDisk} | it has the data that it had before ({@link saveDisk}) | it has the newer ones, unless it has served |
 *
 * Faults may overlap. A connection has the worst of them (delays add up). A member comes back, or goes on, when the
 * last fault that keeps it down, or still, is over; and when the last fault that changed its data is over, these are as
 * they were before the first. Faults that make no sense, or not now, all fail with {@link FaultRefused}, and nothing is
 * done. Those that are active when the cluster's own scope closes end with it. The log has a line at `Info` when a fault
 * begins and when it is over, even with `log: false`, which only silences the members.
 *
 * Limits of this network: it does not lose packets, since it works on connections; a connection that hangs is noticed
 * only by those that ask for signs of life. It runs in this process: while that stands still, so does the network. A
 * client that takes its endpoints from the members (`memberRefresh`) goes around it. A member that joins with
 * `cluster.grow` is a party like the others; one that is added by hand (`EtcdMembership.add`) is not: it and the others
 * reach each other directly, on 127.0.0.1, without TLS between them, and in their directory.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type { AddressInfo } from "node:net"
import type { NonEmptyReadonlyArray } from "effect/Array"
import type * as ByteSize from "effect/ByteSize"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../EtcdClient.ts"
import * as EtcdCluster from "../EtcdCluster.ts"
import type * as EtcdError from "../EtcdError.ts"
import * as EtcdLayer from "../EtcdLayer.ts"
import * as EtcdMaintenance from "../EtcdMaintenance.ts"
import type * as EtcdProcess from "../EtcdProcess.ts"
import type * as EtcdProcessError from "../EtcdProcessError.ts"
import * as Endpoint from "../internal/client/endpoint.ts"
import * as ClusterOptions from "../internal/cluster/options.ts"
import { fromFleet } from "../internal/cluster/value.ts"
import * as Active from "../internal/faults/active.ts"
import * as Asked from "../internal/faults/asked.ts"
import * as Disk from "../internal/faults/disk.ts"
import * as Mounts from "../internal/faults/mounts.ts"
import * as Networked from "../internal/faults/networked.ts"
import * as Processes from "../internal/faults/processes.ts"
import * as Rules from "../internal/faults/rules.ts"
import { machine } from "../internal/layers.ts"
import * as Checks from "../internal/options.ts"
import * as ProcessOptions from "../internal/process/options.ts"
import * as Time from "../internal/time.ts"
import * as Wrapped from "../internal/wrapped.ts"

/**
 * A fault that makes no sense as it was asked for, or not now. Nothing was done.
 *
 * @category errors
 * @since 0.1.0
 */
export class FaultRefused extends Schema.TaggedError<FaultRefused>()("FaultRefused", {
  /** Whom it was to befall, why it does not, and what would help. */
  message: Schema.String,
  /** Which it was: `pause`, `partition`. */
  fault: Schema.String
}) {}

/**
 * Who calls members over a network of its own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Client {
  /** The party that it is. */
  readonly name: string
  /** Where it reaches each member, in the order of the members. */
  readonly endpoints: NonEmptyReadonlyArray<string>
}

/**
 * Who can be cut off: a member, or a client, by itself or by its name.
 *
 * @category models
 * @since 0.1.0
 */
export type Party = string | EtcdProcess.Node | Client

/**
 * A member, by itself or by its name: `node0`.
 *
 * @category models
 * @since 0.1.0
 */
export type Member = string | EtcdProcess.Node

/**
 * What becomes of connections between parties that are cut off from each other.
 *
 * - `hang`: nothing gets through, and nobody is told, as where packets are dropped. New connections are made, and hang too.
 *   What was sent arrives when it is over, late.
 * - `cut`: they are closed, and so is each new one at once.
 *
 * @category options
 * @since 0.1.0
 */
export interface PartitionOptions {
  /** What they notice of it. Default: `hang`. */
  readonly mode?: "hang" | "cut" | undefined
}

/**
 * How a connection is slow. One of them has to be given.
 *
 * @category options
 * @since 0.1.0
 */
export interface SlowOptions {
  /** How much later everything arrives, in each direction. Default: none. */
  readonly delay?: Duration.Input | undefined
  /** Up to so much is added to the delay, or taken from it, anew for each piece; the order stays. Default: none. */
  readonly jitter?: Duration.Input | undefined
  /** How much of a connection gets through in a second, in each direction. Default: no limit. */
  readonly rate?: ByteSize.Input | undefined
}

/**
 * In which rhythm a process stands still.
 *
 * @category options
 * @since 0.1.0
 */
export interface StallOptions {
  /** The share of time that the process has: more than 0, less than 1. Default: 0.5. */
  readonly duty?: number | undefined
  /** How long it takes to stand still and go on once. Default: 100 milliseconds. */
  readonly period?: Duration.Input | undefined
}

/**
 * Where a client listens for its members.
 *
 * @category options
 * @since 0.1.0
 */
export interface ClientOptions {
  /**
   * `unix`: sockets in a directory that only this user can enter. `tcp`: ports of 127.0.0.1, for programs that know nothing
   * else. Default: `unix`.
   */
  readonly listen?: "unix" | "tcp" | undefined
}

/**
 * What a cluster that can go wrong is made of.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends EtcdCluster.Options {
  /**
   * Gives each member a disk of its own of so much room, "128 MiB" at least, which {@link fillDisk} can fill; one that joins
   * later too. It is in memory, of which etcd takes 128 MB at once, for its log. It goes with the cluster. Fails with
   * `InvalidConfig` where {@link canFillDisk} says no. Default: members have their data in the usual place for
   * temporary files.
   */
  readonly disks?: ByteSize.Input | undefined
}

/**
 * Which bytes of a member's data are flipped.
 *
 * @category options
 * @since 0.1.0
 */
export interface FlipOptions {
  /** `db`: its database. `wal`: the newest file of its write-ahead log. */
  readonly where: "db" | "wal"
  /** How many. Default: 1. */
  readonly count?: number | undefined
  /** The same seed chooses the same places of the same data. Default: others each time. */
  readonly seed?: string | number | undefined
}

/**
 * How much of the log is lost.
 *
 * @category options
 * @since 0.1.0
 */
export interface TearOptions {
  /** How many of the bytes that are written, from the end. Default: half of the last record. */
  readonly bytes?: number | undefined
}

/**
 * A copy of a member's data.
 *
 * @category models
 * @since 0.1.0
 */
export interface DiskCopy {
  /** The name of the member. */
  readonly member: string
  /** Where it is: what etcd has as `member` in a data directory. */
  readonly directory: string
}

/**
 * A cluster, and what can befall it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Faults {
  /**
   * The cluster. Its `endpoints` and its `client` lead through the network, to members that join later too; those of a
   * member itself (`node.endpoints`) go around it, for a test that looks at what nobody is to disturb. A leader that is
   * cut off leads as far as it knows, until it has not heard from a majority for an election timeout: `awaitLeader` may
   * name it until then.
   */
  readonly cluster: EtcdCluster.Cluster
  /** Where the party `clients` reaches the members that the cluster began with. */
  readonly endpoints: NonEmptyReadonlyArray<string>
  /** Another client, which can be cut off by itself. More at {@link client}. */
  readonly client: (name: string, options?: ClientOptions) => Effect.Effect<Client, FaultRefused, Scope.Scope>
  /**
   * Kills a member (SIGKILL), and starts it again when the scope closes; that is not waited for (see
   * {@link awaitHealthy}). More at {@link kill}.
   */
  readonly kill: (member: Member) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Stops a member as its owner would: a leader hands over first. It is started again when the scope closes. More at
   * {@link stop}.
   */
  readonly stop: (member: Member) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /** Kills a member, starts it again, and waits until it serves. More at {@link restart}. */
  readonly restart: (member: Member) => Effect.Effect<void, FaultRefused | EtcdProcessError.EtcdProcessError>
  /** Lets the process of a member stand still (SIGSTOP) until the scope closes. More at {@link pause}. */
  readonly pause: (member: Member) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Lets a member stand still for a part of each period until the scope closes, as it does on a disk that is slow to sync,
   * or on a processor that others use: it lives, and is late. More at {@link stall}.
   */
  readonly stall: (member: Member, options?: StallOptions) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /** Cuts groups of parties off from each other until the scope closes. More at {@link partition}. */
  readonly partition: (
    groups: ReadonlyArray<ReadonlyArray<Party>>,
    options?: PartitionOptions
  ) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Cuts parties off from all other members until the scope closes; not from each other, and members not from clients.
   * More at {@link isolate}.
   */
  readonly isolate: (
    parties: Party | ReadonlyArray<Party>,
    options?: PartitionOptions
  ) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Lets nothing of what some parties say arrive at others until the scope closes; what these say arrives. More at
   * {@link block}.
   */
  readonly block: (
    from: Party | ReadonlyArray<Party>,
    to: Party | ReadonlyArray<Party>
  ) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Makes what some parties say to others late or slow, in both directions, until the scope closes. More at
   * {@link slow}.
   */
  readonly slow: (
    one: Party | ReadonlyArray<Party>,
    other: Party | ReadonlyArray<Party>,
    options: SlowOptions
  ) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Lets the cluster refuse writes with `NoSpace` until the scope closes, as if the quota of a member were exceeded: its
   * alarm is raised, and disarmed. More at {@link noSpace}.
   */
  readonly noSpace: (member: Member) => Effect.Effect<void, FaultRefused | EtcdError.EtcdError, Scope.Scope>
  /** Fills the disk of a member, until the scope closes. More at {@link fillDisk}. */
  readonly fillDisk: (member: Member) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /** Flips bytes of a member's data at places that are in use. More at {@link flipBytes}. */
  readonly flipBytes: (member: Member, options: FlipOptions) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /**
   * Cuts off the end of what a member has written to its log, as where a machine loses power. More at {@link tearWal}.
   */
  readonly tearWal: (member: Member, options?: TearOptions) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /** Copies the data of a member, to a directory that goes with the scope, or with the cluster. More at {@link saveDisk}. */
  readonly saveDisk: (member: Member) => Effect.Effect<DiskCopy, FaultRefused, Scope.Scope>
  /**
   * Puts a copy in place of a member's data, as a machine that is restored from a backup, or a disk that did not write
   * what it said it had: the member forgets what it has acknowledged since. More at {@link restoreDisk}.
   */
  readonly restoreDisk: (member: Member, copy: DiskCopy) => Effect.Effect<void, FaultRefused, Scope.Scope>
  /** Takes back every fault that is on, before their scopes close. */
  readonly heal: Effect.Effect<void>
  /** The faults that are on, in the order in which they began, in words: `pause node0`. */
  readonly active: Effect.Effect<ReadonlyArray<string>>
  /**
   * Waits until every member runs, serves, and names the same leader as the others, and there is no alarm, as long as that
   * takes: where a fault that is on keeps them from it, until that is over. More at {@link awaitHealthy}.
   */
  readonly awaitHealthy: Effect.Effect<void, EtcdProcessError.EtcdProcessError>
}

/**
 * The service of the cluster that a layer of this module started.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdFaults extends Context.Service<EtcdFaults, Faults>()("effect-etcd/testing/EtcdFaults") {}

// -----------------------------------------------------------------------------
// Options and parties
// -----------------------------------------------------------------------------

const ofPartition: Checks.Checks<PartitionOptions> = { mode: Checks.oneOf("hang", "cut") }

const ofSlow: Checks.Checks<SlowOptions> = {
  delay: Checks.finiteDuration,
  jitter: Checks.finiteDuration,
  rate: Checks.size
}

const ofStall: Checks.Checks<StallOptions> = {
  duty: {
    accepts: (value) => typeof value === "number" && value > 0 && value < 1,
    due: "a share of the time, more than 0 and less than 1"
  },
  period: Checks.finiteDuration
}

/**
 * etcd allocates the first file of its log whole, and the next one: 64,000,000 bytes each. Where there is no room for the
 * next one it does without it, but it takes what is left for a moment, in which nothing else can be written.
 */
const smallestDisk = 128 * 1024 * 1024

const ofOptions: Checks.Checks<Options> = {
  ...ClusterOptions.ofCluster,
  disks: {
    accepts: (value) => {
      const bytes = Checks.bytesOf(value)
      return bytes !== undefined && bytes >= smallestDisk && bytes !== Number.POSITIVE_INFINITY
    },
    due: 'a size of at least "128 MiB", such as "160 MiB"'
  }
}

const noDataDir = ProcessOptions.refused(
  "dataDir",
  "EtcdFaults: members with disks of their own have their data there, and not in dataDir. Give one of the two."
)

const ofFlip: Checks.Checks<FlipOptions> = {
  where: Checks.oneOf("db", "wal"),
  count: Checks.count,
  seed: {
    accepts: (value) => typeof value === "string" || Number.isFinite(value),
    due: "text or a number"
  }
}

const ofTear: Checks.Checks<TearOptions> = { bytes: Checks.count }

const aCopy: Checks.Check = {
  accepts: (value) => Checks.isObject(value) && typeof value.member === "string" && typeof value.directory === "string",
  due: "a copy that saveDisk has made"
}

const aName = Checks.text("the name of a client")

const ofClient: Checks.Checks<ClientOptions> = { listen: Checks.oneOf("unix", "tcp") }

const millisOf = (duration: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(duration))

type Parties = Party | ReadonlyArray<Party>

/** The one that is meant: by its name, or itself, and not somebody of that name in another cluster. */
const findIn = <A extends object>(all: ReadonlyMap<string, A>, given: unknown): [string, A] | undefined =>
  [...all].find(([name, one]) => given === name || given === one)

/** As it was given, for messages. */
const wordFor = (given: unknown): string =>
  typeof given === "string" || !Checks.isObject(given) || typeof given.name !== "string"
    ? Checks.show(given)
    : `such ${given.name}`

/** The party of those who use the endpoints of the cluster. */
const everybody = "clients"

// -----------------------------------------------------------------------------
// Clusters
// -----------------------------------------------------------------------------

/**
 * Starts a cluster, and waits until all members serve. It lives as long as the scope.
 *
 * Members listen on Unix sockets. Where the configuration has `peerAutoTls`, or a certificate for peers (for the name
 * `localhost`), they talk to each other with TLS, on ports of 127.0.0.1 and through the same network: what they say is not
 * read there. Where they have URLs of their own for clients (`listenClientUrls`, with port 0), these are where the network
 * leads; and if they are encrypted, so is what leads there, as `unixs` and for the name `localhost`. Fails as
 * `EtcdCluster.ephemeral` does.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   const faults = yield* EtcdFaults.make({ size: 3 })
 *   yield* Effect.scoped(
 *     Effect.gen(function*() {
 *       yield* faults.kill("node0")
 *       yield* faults.cluster.awaitLeader // one of the others, before long
 *     })
 *   )
 *   yield* faults.awaitHealthy
 * }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  options: Options = {}
): Effect.Effect<
  Faults,
  EtcdProcessError.EtcdProcessError,
  Scope.Scope | FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    yield* ProcessOptions.check("EtcdFaults", ofOptions, options)
    const { disks: wanted, ...ofCluster } = options
    if (wanted !== undefined && options.dataDir !== undefined) return yield* Effect.fail(noDataDir)
    const bytes = wanted === undefined ? undefined : Checks.bytesOf(wanted)
    const { disks, fleet, gates, network, runDirectory } = yield* Networked.start(ofCluster, bytes)
    const scope = yield* Scope.fork(yield* Effect.scope)
    const nodes = () => SubscriptionRef.getUnsafe(fleet.members)
    const processes = Processes.make(scope, time, gates, (node) => nodes().includes(node))

    const refuse: Active.Refuse<FaultRefused> = (fault, why) =>
      Effect.fail(new FaultRefused({ fault, message: `${fault}: ${why}` }))
    const checked = <O extends object>(fault: string, checks: Checks.Checks<O>, options: O | undefined) => {
      const problem = Checks.problemOf(`EtcdFaults.${fault}`, checks, options)
      return problem === undefined ? Effect.void : Effect.fail(new FaultRefused({ fault, message: problem }))
    }
    const { all, awaitClosed, begin, close, during, heal, whileOpen } = Active.make(refuse)

    // ── whom it befalls ──

    const members = () => new Map(nodes().map((member) => [member.name, member]))
    const clients = new Map<string, Client>()
    const parties = () => [...members().keys(), ...clients.keys()].join(", ")

    const partiesOf = (fault: string, given: Parties) =>
      Effect.suspend(() => {
        const all = new Map<string, Client | EtcdProcess.Node>([...members(), ...clients])
        const wanted: ReadonlyArray<unknown> = Array.isArray(given) ? given : [given]
        if (wanted.length === 0) return refuse(fault, `nobody is named. There are ${parties()}.`)
        return Effect.forEach(wanted, (one) => {
          const found = findIn(all, one)
          return found === undefined
            ? refuse(fault, `there is no ${wordFor(one)} here. There are ${parties()}.`)
            : Effect.succeed(found[0])
        })
      })

    const memberOf = (fault: string, given: Member) =>
      Effect.suspend(() => {
        const found = findIn(members(), given)
        if (found !== undefined) return Effect.succeed(found[1])
        return refuse(fault, `there is no member ${wordFor(given)}. There are ${[...members().keys()].join(", ")}.`)
      })

    // ── processes ──

    const orRefuse =
      (fault: string, { name }: EtcdProcess.Node) =>
      <A, E, R>(effect: Effect.Effect<A, E | Processes.NotNow, R>) =>
        Effect.catchIf(effect, Processes.isNotNow, ({ why }) => refuse(fault, `${name} ${why}.`))

    const down =
      (fault: "kill" | "stop"): Faults["kill"] =>
      (given) =>
        Effect.flatMap(memberOf(fault, given), (member) => {
          const gone = processes[fault](member).pipe(orRefuse(fault, member))
          return begin(fault, member.name, Effect.as(gone, processes.bringBack(member)))
        })

    const restart: Faults["restart"] = (given) =>
      Effect.flatMap(memberOf("restart", given), (member) =>
        processes.restart(member).pipe(orRefuse("restart", member))
      )

    const pause: Faults["pause"] = (given) =>
      Effect.flatMap(memberOf("pause", given), (member) =>
        begin("pause", member.name, processes.pause(member).pipe(orRefuse("pause", member)))
      )

    const stall: Faults["stall"] = (given, options) =>
      Effect.gen(function* () {
        yield* checked("stall", ofStall, options)
        const { duty = 0.5, period = "100 millis" } = options ?? {}
        const member = yield* memberOf("stall", given)
        const going = duty * millisOf(period)
        const stalling = Effect.map(
          Effect.forkIn(processes.stall(member, millisOf(period) - going, going), scope),
          Fiber.interrupt
        )
        yield* begin(
          "stall",
          member.name,
          Effect.andThen(processes.runs(member), stalling).pipe(orRefuse("stall", member))
        )
      })

    // ── network ──

    /** Whether somebody calls somebody there: clients call members only. */
    const concernsAnybody = ({ concerns }: Rules.Named): boolean =>
      [...members().keys()].some((member) =>
        [...members().keys(), ...clients.keys()].some(
          (other) => other !== member && (concerns(member, other) || concerns(other, member))
        )
      )

    const disturb = (fault: string, rule: Rules.Named) =>
      begin(
        fault,
        rule.whom,
        Effect.suspend(() => {
          if (!concernsAnybody(rule))
            return refuse(fault, "nobody of them calls another. Name a member and another party.")
          network.disturb(rule)
          return Effect.succeed(Effect.sync(() => network.settle(rule)))
        })
      )

    const partition: Faults["partition"] = (given, options) =>
      Effect.gen(function* () {
        yield* checked("partition", ofPartition, options)
        if (!Array.isArray(given) || given.length < 2) {
          return yield* refuse("partition", "there have to be two groups of parties at least.")
        }
        const groups = yield* Effect.forEach(given, (group) => partiesOf("partition", group))
        const all = groups.flat()
        const twice = all.find((name, index) => all.indexOf(name) !== index)
        if (twice !== undefined) return yield* refuse("partition", `${twice} is named twice.`)
        yield* disturb("partition", Rules.apart(groups, options?.mode ?? "hang"))
      })

    const isolate: Faults["isolate"] = (given, options) =>
      Effect.gen(function* () {
        yield* checked("isolate", ofPartition, options)
        const names = yield* partiesOf("isolate", given)
        const others = [...members().keys()].filter((name) => !names.includes(name))
        if (others.length === 0) return yield* refuse("isolate", "there is no other member.")
        yield* disturb("isolate", Rules.apart([names, others], options?.mode ?? "hang"))
      })

    const block: Faults["block"] = (from, to) =>
      Effect.gen(function* () {
        const speakers = yield* partiesOf("block", from)
        yield* disturb("block", Rules.oneWay(speakers, yield* partiesOf("block", to)))
      })

    const slow: Faults["slow"] = (one, other, options) =>
      Effect.gen(function* () {
        yield* checked("slow", ofSlow, options)
        const { delay, jitter, rate } = options ?? {}
        if (delay === undefined && jitter === undefined && rate === undefined) {
          return yield* refuse("slow", "give a delay, a jitter or a rate.")
        }
        const some = yield* partiesOf("slow", one)
        const others = yield* partiesOf("slow", other)
        const condition = {
          delayMillis: millisOf(delay ?? 0),
          jitterMillis: millisOf(jitter ?? 0),
          bytesPerSecond: rate === undefined ? Number.POSITIVE_INFINITY : Checks.bytesOf(rate)!
        }
        yield* disturb("slow", Rules.slow(some, others, condition))
      })

    // ── clients ──

    let clientsMade = 0

    const endpointTo = (name: string, number: number, member: EtcdProcess.Node, options: ClientOptions | undefined) => {
      // It was checked before the member started.
      const { secure, target } = Result.getOrThrow(Endpoint.parse(member.endpoints[0], false))
      const address = target._tag === "Unix" ? { path: target.path } : { host: target.host, port: target.port }
      const to = { name: member.name, address }
      const path = `${runDirectory}/c${number}-${member.name}`
      return Effect.orDie(
        options?.listen === "tcp"
          ? Effect.map(network.wayIn(name, to, { host: "127.0.0.1", port: 0 }), (server) => {
              const { port } = server.address() as AddressInfo
              return `${secure ? "https" : "http"}://127.0.0.1:${port}`
            })
          : Effect.as(network.wayIn(name, to, { path }), `${secure ? "unixs" : "unix"}://${path}`)
      )
    }

    const addClient: Faults["client"] = (name, options) =>
      Effect.gen(function* () {
        const problem = Checks.problemOfArgument("EtcdFaults.client", "the name", aName, name)
        if (problem !== undefined) return yield* Effect.fail(new FaultRefused({ fault: "client", message: problem }))
        yield* checked("client", ofClient, options)
        yield* whileOpen("client")
        if (members().has(name) || clients.has(name)) {
          return yield* refuse("client", `there is a ${name} already. There are ${parties()}.`)
        }
        const number = clientsMade++
        const endpoints: Array<string> = []
        const client: Client = { name, endpoints: endpoints as unknown as Client["endpoints"] }
        yield* Effect.acquireRelease(
          Effect.sync(() => clients.set(name, client)),
          () => Effect.sync(() => clients.delete(name))
        )
        for (const member of members().values()) endpoints.push(yield* endpointTo(name, number, member, options))
        return client
      })

    // ── disks ──

    const disk = yield* Disk.make(processes, { runDirectory, disks, scope, time })

    const fillDisk: Faults["fillDisk"] = (given) =>
      Effect.flatMap(memberOf("fillDisk", given), (member) =>
        begin("fillDisk", member.name, disk.fill(member).pipe(orRefuse("fillDisk", member)))
      )

    const flipBytes: Faults["flipBytes"] = (given, options) =>
      Effect.gen(function* () {
        yield* checked("flipBytes", ofFlip, options)
        const { count = 1, seed, where } = options ?? {}
        if (where === undefined) return yield* refuse("flipBytes", "say where: db or wal.")
        const member = yield* memberOf("flipBytes", given)
        const flipped = disk.flip(member, where, count, seed).pipe(orRefuse("flipBytes", member))
        yield* begin("flipBytes", `${member.name}, ${count} in its ${where}`, flipped)
      })

    const tearWal: Faults["tearWal"] = (given, options) =>
      Effect.gen(function* () {
        yield* checked("tearWal", ofTear, options)
        const member = yield* memberOf("tearWal", given)
        yield* begin("tearWal", member.name, disk.tear(member, options?.bytes).pipe(orRefuse("tearWal", member)))
      })

    const saveDisk: Faults["saveDisk"] = (given) =>
      Effect.gen(function* () {
        const member = yield* memberOf("saveDisk", given)
        const directory = yield* during("saveDisk", disk.save(member).pipe(orRefuse("saveDisk", member)))
        return { member: member.name, directory }
      })

    const restoreDisk: Faults["restoreDisk"] = (given, copy) =>
      Effect.gen(function* () {
        const problem = Checks.problemOfArgument("EtcdFaults.restoreDisk", "the copy", aCopy, copy)
        if (problem !== undefined)
          return yield* Effect.fail(new FaultRefused({ fault: "restoreDisk", message: problem }))
        const member = yield* memberOf("restoreDisk", given)
        if (copy.member !== member.name) {
          return yield* refuse("restoreDisk", `the copy is of ${copy.member}, and ${member.name} is another member.`)
        }
        const restored = disk.restore(member, copy.directory).pipe(orRefuse("restoreDisk", member))
        yield* begin("restoreDisk", member.name, restored)
      })

    // ── what etcd itself is asked ──

    const around = () => nodes().flatMap(({ endpoints }) => endpoints)
    const direct = SubscriptionRef.changes(fleet.members).pipe(Stream.map(around))
    const client = yield* EtcdClient.make({ ...options.client, endpoints: direct }).pipe(Effect.orDie)
    const asked = Asked.make(EtcdMaintenance.fromClient(client), around, scope, time)

    const noSpace: Faults["noSpace"] = (given) =>
      Effect.flatMap(memberOf("noSpace", given), (member) => {
        const takeBack = asked.unwantAlarm(member)
        // Nobody who closes the cluster waits for a majority that there may not be.
        const unlessClosed = Effect.andThen(awaitClosed, refuse("noSpace", "the cluster is closed."))
        const armed = asked.wantAlarm(member, unlessClosed)
        return begin(
          "noSpace",
          member.name,
          Effect.as(
            Effect.onError(armed, () => takeBack),
            takeBack
          )
        )
      })

    // A member may be let come back, and fail to, while it is waited for.
    const healthy = Effect.andThen(processes.back, asked.agree).pipe(
      Effect.repeat({ until: (agree) => agree, schedule: Schedule.spaced("20 millis") }),
      Effect.asVoid,
      (waiting) => Time.inRealTime(time, waiting)
    )

    // What is done in the background first: nobody is to be started again for nothing.
    yield* Effect.addFinalizer(() => Effect.andThen(Scope.close(scope, Exit.void), close))
    const { endpoints } = yield* Effect.orDie(addClient(everybody))
    /** Who has joined later is reached by a way of its own. */
    const ways = new Map([...members().keys()].map((name, index) => [name, endpoints[index]!]))
    const ownScope = yield* Effect.scope
    const endpointsOf = (node: EtcdProcess.Node) =>
      Effect.suspend(() => {
        const way = ways.get(node.name)
        if (way !== undefined) return Effect.succeed([way])
        return endpointTo(everybody, 0, node, undefined).pipe(
          Effect.tap((made) => Effect.sync(() => ways.set(node.name, made))),
          Effect.map((made) => [made]),
          Scope.provide(ownScope)
        )
      })

    return {
      cluster: fromFleet(fleet, options, endpointsOf),
      endpoints,
      client: addClient,
      kill: down("kill"),
      stop: down("stop"),
      restart,
      pause,
      stall,
      partition,
      isolate,
      block,
      slow,
      noSpace,
      fillDisk,
      flipBytes,
      tearWal,
      saveDisk,
      restoreDisk,
      heal,
      active: all,
      awaitHealthy: Effect.raceFirst(healthy, Effect.andThen(awaitClosed, Effect.fail(Processes.closed)))
    }
  })

/**
 * Starts a cluster with the layer, and connects to all of its members over the network, as the party `clients`. Fails as
 * {@link make} and `EtcdLayer.connect` do.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { EtcdCluster, EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *   yield* Effect.scoped(
 *     Effect.gen(function*() {
 *       yield* EtcdFaults.isolate(yield* awaitLeader)
 *       // A read is asked again of the leader that the others elect.
 *       yield* EtcdKv.getString("hello")
 *     })
 *   )
 *   yield* EtcdFaults.awaitHealthy
 *   yield* Console.log(yield* EtcdKv.getString("hello"))
 * })
 *
 * program.pipe(Effect.provide(EtcdFaults.layer({ size: 3 })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Options = {}
): Layer.Layer<
  EtcdFaults | EtcdCluster.EtcdCluster | EtcdLayer.Services,
  EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> =>
  Layer.unwrap(
    EtcdFaults.useSync(({ cluster }) =>
      Layer.merge(
        Layer.succeed(EtcdCluster.EtcdCluster, cluster),
        EtcdLayer.connect({ ...options.client, endpoints: cluster.endpoints })
      )
    )
  ).pipe(Layer.provideMerge(Layer.effect(EtcdFaults, make(options))), Layer.provide(machine))

/**
 * As {@link layer}, with options from Effect's `Config`, read when the layer is built.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link make} where it makes no sense.
 *
 * @example
 * ```ts
 * import { Config, Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   yield* EtcdFaults.restart("node0")
 *   yield* EtcdKv.put("hello", "world")
 * })
 *
 * // A nightly run sets ETCD_MEMBERS=5 and ETCD_START_TIMEOUT="2 minutes".
 * const cluster = EtcdFaults.layerConfig({
 *   size: Config.withDefault(Config.Int("ETCD_MEMBERS"), 3),
 *   startTimeout: Config.withDefault(Config.Duration("ETCD_START_TIMEOUT"), "30 seconds")
 * })
 *
 * program.pipe(Effect.provide(cluster))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: EtcdClient.ConfigOf<Options>
): Layer.Layer<
  EtcdFaults | EtcdCluster.EtcdCluster | EtcdLayer.Services,
  Config.ConfigError | EtcdError.EtcdError | EtcdProcessError.EtcdProcessError
> => Layer.unwrap(Effect.map(Wrapped.unwrap<Options>(options), layer))

/**
 * Another client, which can be cut off by itself. Its endpoints last as long as the scope. Refused where there is a party of
 * that name. Faults go by names: one that is on when a client goes befalls the next one that has its name.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdKv, EtcdLayer } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   const app = yield* EtcdFaults.client("app")
 *   const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *   const member = yield* awaitLeader
 *   yield* EtcdFaults.partition([[app], [member]])
 *   yield* EtcdKv.put("hello", "world").pipe(Effect.provide(EtcdLayer.connect({ endpoints: app.endpoints })))
 * }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer()))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const client = (
  name: string,
  options?: ClientOptions
): Effect.Effect<Client, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.client(name, options))

// -----------------------------------------------------------------------------
// Processes
// -----------------------------------------------------------------------------

/**
 * Kills a member (SIGKILL), and starts it again when the scope closes; that is not waited for (see {@link awaitHealthy}).
 * Refused where it does not run. A restart schedule of the cluster's brings it back before.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   yield* Effect.scoped(Effect.andThen(EtcdFaults.kill("node0"), EtcdKv.put("hello", "world"))) // by the other two
 *   yield* EtcdFaults.awaitHealthy
 * }).pipe(Effect.provide(EtcdFaults.layer({ size: 3 })))
 * ```
 *
 * @category processes
 * @since 0.1.0
 */
export const kill = (member: Member): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.kill(member))

/**
 * Stops a member as its owner would: a leader hands over first. It is started again when the scope closes; that is not
 * waited for. Refused where it does not run, or is paused.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // What of a program's work notices a rolling restart?
 * const rolling = Effect.forEach(["node0", "node1", "node2"], (member) =>
 *   Effect.scoped(EtcdFaults.stop(member)).pipe(Effect.andThen(EtcdFaults.awaitHealthy))
 * )
 * ```
 *
 * @category processes
 * @since 0.1.0
 */
export const stop = (member: Member): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.stop(member))

/**
 * Kills a member, starts it again, and waits until it serves. Interrupted, it is not waited for. Refused where it does not
 * run. Fails with `Stopped` where another fault wants it to be down by then.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const crashed = Effect.forEach(["node0", "node1", "node2"], EtcdFaults.restart)
 * ```
 *
 * @category processes
 * @since 0.1.0
 */
export const restart = (
  member: Member
): Effect.Effect<void, FaultRefused | EtcdProcessError.EtcdProcessError, EtcdFaults> =>
  EtcdFaults.use((faults) => faults.restart(member))

/**
 * Lets the process of a member stand still (SIGSTOP) until the scope closes. It answers nothing, and closes nothing. Refused
 * where it does not run.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const leaderHangs = Effect.gen(function*() {
 *   const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *   yield* EtcdFaults.pause(yield* awaitLeader)
 *   yield* EtcdKv.getString("hello") // answered by the next leader
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category processes
 * @since 0.1.0
 */
export const pause = (member: Member): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.pause(member))

/**
 * Lets a member stand still for a part of each period until the scope closes, as it does on a disk that is slow to sync, or
 * on a processor that others use: it lives, and is late. It goes on with a process that takes the member's place. Refused
 * where it does not run.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // It has a tenth of the time, in pieces of 20 milliseconds.
 * const sluggish = Effect.scoped(
 *   Effect.andThen(EtcdFaults.stall("node0", { duty: 0.1, period: "200 millis" }), EtcdKv.getString("hello"))
 * )
 * ```
 *
 * @category processes
 * @since 0.1.0
 */
export const stall = (
  member: Member,
  options?: StallOptions
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.stall(member, options))

// -----------------------------------------------------------------------------
// Network
// -----------------------------------------------------------------------------

/**
 * Cuts groups of parties off from each other until the scope closes. A party in no group reaches all, and is reached by all,
 * as are clients that are not named. Refused where there are less than two groups, one of them has nobody, or somebody is in
 * two of them; and, as are all faults of the network, where none of them calls another, since clients call only members.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // One member on one side, two on the other. The client of the layer reaches both sides.
 * const program = Effect.gen(function*() {
 *   yield* EtcdFaults.partition([["node0"], ["node1", "node2"]])
 *   yield* EtcdKv.getString("hello") // by the majority, as soon as it has a leader
 * }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer()))
 * ```
 *
 * @category network
 * @since 0.1.0
 */
export const partition = (
  groups: ReadonlyArray<ReadonlyArray<Party>>,
  options?: PartitionOptions
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.partition(groups, options))

/**
 * Cuts parties off from all other members until the scope closes; not from each other, and members not from clients.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *   yield* EtcdFaults.isolate(yield* awaitLeader)
 *   yield* EtcdKv.getString("hello") // by the next leader
 * }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer()))
 * ```
 *
 * @category network
 * @since 0.1.0
 */
export const isolate = (
  parties: Party | ReadonlyArray<Party>,
  options?: PartitionOptions
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.isolate(parties, options))

/**
 * Lets nothing of what some parties say arrive at others until the scope closes; what these say arrives. It concerns what is
 * said, whoever has made the connection. (A leader that is heard by nobody, and hears all, is not the same as one that hears
 * nobody.)
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // The requests of this program arrive, and their answers do not.
 * const unanswered = Effect.scoped(
 *   Effect.gen(function*() {
 *     yield* EtcdKv.getString("hello") // over a connection that the put has as well
 *     yield* EtcdFaults.block(["node0", "node1", "node2"], "clients")
 *     const error = yield* Effect.flip(EtcdKv.put("hello", "world", { deadline: "1 second" }))
 *     yield* Effect.log(error.outcome) // "unknown"
 *   })
 * )
 * ```
 *
 * @category network
 * @since 0.1.0
 */
export const block = (
  from: Party | ReadonlyArray<Party>,
  to: Party | ReadonlyArray<Party>
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> => EtcdFaults.use((faults) => faults.block(from, to))

/**
 * Makes what some parties say to others late or slow, in both directions, until the scope closes. It arrives in order.
 * Refused where nothing is to be slow.
 *
 * @example
 * ```ts
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // The third member is on another continent.
 * const abroad = EtcdFaults.slow("node2", ["node0", "node1", "clients"], { delay: "80 millis", jitter: "10 millis" })
 * ```
 *
 * @category network
 * @since 0.1.0
 */
export const slow = (
  one: Party | ReadonlyArray<Party>,
  other: Party | ReadonlyArray<Party>,
  options: SlowOptions
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.slow(one, other, options))

// -----------------------------------------------------------------------------
// Disks
// -----------------------------------------------------------------------------

/**
 * Lets the cluster refuse writes with `NoSpace` until the scope closes, as if the quota of a member were exceeded: its alarm
 * is raised, and disarmed. Deleting goes on. Where there is no majority that could take note of the end, it is waited for
 * for a second, and then tried in the background. An alarm that etcd raises when nobody
 * waits for it any more (it was interrupted, or has failed, while the member was cut off) is disarmed by
 * {@link awaitHealthy}. A quota that is exceeded in fact (`config: { quotaBackendBytes }`) stays
 * until somebody makes room.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const refused = Effect.scoped(
 *   Effect.gen(function*() {
 *     yield* EtcdFaults.noSpace("node0")
 *     const { reason } = yield* Effect.flip(EtcdKv.put("hello", "world"))
 *     yield* Effect.log(reason._tag) // "NoSpace"
 *   })
 * )
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const noSpace = (
  member: Member
): Effect.Effect<void, FaultRefused | EtcdError.EtcdError, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.noSpace(member))

/**
 * Whether members can have disks of their own here: the option `disks` of {@link make}. That takes Linux, with `unshare` and
 * `nsenter` (util-linux), and a user who may make namespaces; it takes no root. It is tried.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { EtcdCluster, EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.scoped(
 *   Effect.gen(function*() {
 *     const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *     const member = yield* awaitLeader
 *     yield* EtcdFaults.fillDisk(member)
 *     yield* EtcdKv.put("hello", "world".repeat(100_000))
 *     yield* Console.log(yield* member.exit)
 *   })
 * ).pipe(Effect.andThen(EtcdFaults.awaitHealthy))
 *
 * const withDisks = program.pipe(Effect.provide(EtcdFaults.layer({ disks: "160 MiB" })))
 *
 * Effect.flatMap(EtcdFaults.canFillDisk, (can) =>
 *   can ? withDisks : Console.log("skipped: no disks of their own on this machine")
 * )
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const canFillDisk: Effect.Effect<boolean> = Effect.provide(Mounts.canMount, machine)

/**
 * Fills the disk of a member, until the scope closes. Refused where the cluster was made without the option `disks`.
 *
 * etcd notices when it writes where it has not written before: not in its log, which is allocated, but in its database, with
 * what does not fit between what was removed (some 100 kB do). Then it ends at once, with `no space left on device`,
 * and does so again where it is started. When the scope closes it is started again, also where that happens in that
 * moment; a member that was stopped by hand is not.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // The others go on. Where `canFillDisk` is false, there are no such disks.
 * const program = Effect.gen(function*() {
 *   yield* EtcdFaults.fillDisk("node0")
 *   yield* EtcdKv.put("hello", "world".repeat(100_000))
 * }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer({ disks: "160 MiB" })))
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const fillDisk = (member: Member): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.fillDisk(member))

/**
 * Flips bytes of a member's data at places that are in use. Refused where it runs: what is on a disk changes while nobody
 * looks.
 *
 * In the log a checksum vouches for every one of them: etcd reads it as it starts, and does not start (`DataDirCorrupt`).
 * (None is taken of a record that has nothing but zeros in a sector of the disk: where that is damaged, etcd believes
 * that a loss of power tore it, and repairs the log.) In the database none vouches for any. A flip may be found as etcd
 * starts (`DataDirCorrupt`, or `ExitedEarly` where it panics), or when it comes to the place, at which it panics; or, in a
 * value, by nobody: then another value is read from this member, by a linearizable read, too. The more bytes are
 * flipped, the sooner it is found; etcd 3.4 looks at less of it as it starts.
 *
 * When the scope closes the data are put back as they were, where the member has not served since; it is stopped for that if
 * it is starting, and is started again where a fault had stopped it. If it has served, it has made something of what it
 * found, and told others: then its data stay.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { EtcdCluster } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *   const member = yield* awaitLeader
 *   yield* Effect.scoped(
 *     Effect.gen(function*() {
 *       yield* EtcdFaults.kill(member)
 *       yield* EtcdFaults.flipBytes(member, { where: "wal" })
 *       const { reason } = yield* Effect.flip(member.start)
 *       yield* Console.log(reason._tag) // DataDirCorrupt
 *     })
 *   )
 *   yield* EtcdFaults.awaitHealthy
 * })
 *
 * program.pipe(Effect.provide(EtcdFaults.layer({ size: 3 })))
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const flipBytes = (
  member: Member,
  options: FlipOptions
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.flipBytes(member, options))

/**
 * Cuts off the end of what a member has written to its log, as where a machine loses power. Refused where it runs. When the
 * scope closes it is as with {@link flipBytes}.
 *
 * etcd repairs a log that ends within a record. What the member then lacks it has acknowledged: a leader that has heard that
 * does not send it again, and the member panics when it hears how far the cluster is. From a leader that was elected
 * since it gets what it lacks. One that is alone, and lacks what its database has, is not well again before the scope
 * closes.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const powerFails = Effect.scoped(
 *   Effect.gen(function*() {
 *     yield* EtcdFaults.kill("node0")
 *     yield* EtcdFaults.tearWal("node0")
 *     const { cluster } = yield* EtcdFaults.EtcdFaults
 *     yield* cluster.awaitLeader
 *   })
 * ).pipe(Effect.andThen(EtcdFaults.awaitHealthy))
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const tearWal = (
  member: Member,
  options?: TearOptions
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.tearWal(member, options))

/**
 * Copies the data of a member, to a directory that goes with the scope, or with the cluster. A member that runs stands still
 * meanwhile (some tens of milliseconds where there is not much), and the copy is what a SIGKILL would have left.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdCluster, EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // A cluster of one is put back to where it was.
 * const program = Effect.gen(function*() {
 *   const { awaitLeader } = yield* EtcdCluster.EtcdCluster
 *   const node = yield* awaitLeader
 *   const copy = yield* EtcdFaults.saveDisk(node)
 *   yield* EtcdKv.put("hello", "world")
 *   yield* EtcdFaults.kill(node)
 *   yield* EtcdFaults.restoreDisk(node, copy)
 *   yield* node.start
 *   yield* EtcdKv.getString("hello") // None
 * }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer({ size: 1 })))
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const saveDisk = (member: Member): Effect.Effect<DiskCopy, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.saveDisk(member))

/**
 * Puts a copy in place of a member's data, as a machine that is restored from a backup, or a disk that did not write what it
 * said it had: the member forgets what it has acknowledged since. Refused where it runs, and where the copy is of another
 * member, or of another cluster's. When the scope closes it is as with {@link flipBytes}.
 *
 * Where a majority forgets, writes that were acknowledged are gone, and a member that remembers them panics, or is
 * overruled. Where fewer do, the cluster knows; it is with such a member as with {@link tearWal}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const forgetful = Effect.scoped(
 *   Effect.gen(function*() {
 *     const copy = yield* EtcdFaults.saveDisk("node0")
 *     yield* EtcdKv.put("hello", "world")
 *     yield* EtcdFaults.kill("node0")
 *     yield* EtcdFaults.restoreDisk("node0", copy)
 *     yield* EtcdKv.getString("hello") // the others know
 *   })
 * ).pipe(Effect.andThen(EtcdFaults.awaitHealthy))
 * ```
 *
 * @category disks
 * @since 0.1.0
 */
export const restoreDisk = (
  member: Member,
  copy: DiskCopy
): Effect.Effect<void, FaultRefused, Scope.Scope | EtcdFaults> =>
  EtcdFaults.use((faults) => faults.restoreDisk(member, copy))

// -----------------------------------------------------------------------------
// Afterwards
// -----------------------------------------------------------------------------

/**
 * Takes back every fault that is on, before their scopes close.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * const program = Effect.scoped(
 *   Effect.gen(function*() {
 *     yield* EtcdFaults.pause("node0")
 *     yield* EtcdFaults.isolate("node1")
 *     yield* EtcdFaults.heal
 *     yield* EtcdFaults.awaitHealthy
 *   })
 * ).pipe(Effect.provide(EtcdFaults.layer({ size: 3 })))
 * ```
 *
 * @category recovery
 * @since 0.1.0
 */
export const heal: Effect.Effect<void, never, EtcdFaults> = EtcdFaults.use((faults) => faults.heal)

/**
 * Waits until every member runs, serves, and names the same leader as the others, and there is no alarm, as long as that
 * takes: where a fault that is on keeps them from it, until that is over. What clients reach of them is not looked at,
 * nor is how much of the log a member has. Fails with why a member could not be started again, and with `Stopped` where
 * the cluster is closed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdFaults } from "effect-etcd/testing"
 *
 * // A test that leaves the cluster well for the next one.
 * const test = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
 *   Effect.scoped(effect).pipe(Effect.tap(EtcdFaults.awaitHealthy))
 * ```
 *
 * @category recovery
 * @since 0.1.0
 */
export const awaitHealthy: Effect.Effect<void, EtcdProcessError.EtcdProcessError, EtcdFaults> = EtcdFaults.use(
  (faults) => faults.awaitHealthy
)
