/**
 * The members of a cluster that run here, from one scope: who there is, who leads, and what starts one more, or ends one.
 *
 * @internal
 */
import * as Array from "effect/Array"
import type * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdBinary from "../../EtcdBinary.ts"
import type { Options } from "../../EtcdCluster.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import { format as formatId, type MemberId } from "../../EtcdId.ts"
import type * as EtcdMembership from "../../EtcdMembership.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { holder } from "../files/owner.ts"
import * as Json from "../json.ts"
import * as Ids from "../member/ids.ts"
import { twoVoters } from "../operations/options.ts"
import { allOrNothing } from "../process/allOrNothing.ts"
import * as Child from "../process/child.ts"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Place from "../process/place.ts"
import * as Readiness from "../process/readiness.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Manifest from "./manifest.ts"
import * as ClusterOptions from "./options.ts"
import { clientSocketOf, peerUrlOf } from "./sockets.ts"
import * as Turns from "./turns.ts"
import * as Unfinished from "./unfinished.ts"

export type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner

type Nodes = Array.NonEmptyReadonlyArray<EtcdProcess.Node>

type Starting = Effect.Effect<EtcdProcess.Node, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform>

/** The members that run here. */
export interface Crew {
  /** What they need of this machine. */
  readonly platform: Context.Context<Platform>
  readonly members: SubscriptionRef.SubscriptionRef<Nodes>
  readonly leader: SubscriptionRef.SubscriptionRef<Option.Option<EtcdProcess.Node>>
  readonly awaitLeader: Effect.Effect<EtcdProcess.Node>
  /** Those that clients may go to: they have a vote. */
  readonly opened: SubscriptionRef.SubscriptionRef<ReadonlyArray<EtcdProcess.Node>>
  /** Starts another one. Clients are not led to it until it is opened. */
  readonly start: (starting: Starting) => Effect.Effect<EtcdProcess.Node, EtcdProcessError.EtcdProcessError>
  /**
   * Ends it, and starts it anew in another way. Where that fails it is started as it was (`before`), and this fails
   * nevertheless. Where that fails too it is lost: whoever starts it has it exchanged once more. It cannot be interrupted.
   */
  readonly exchange: (
    node: EtcdProcess.Node,
    starting: Starting,
    before: Starting
  ) => Effect.Effect<EtcdProcess.Node, EtcdProcessError.EtcdProcessError>
  readonly isLost: (node: EtcdProcess.Node) => boolean
  /** Leads clients to it. */
  readonly open: (node: EtcdProcess.Node) => Effect.Effect<void>
  /** Leads no client to it any more. */
  readonly close: (node: EtcdProcess.Node) => Effect.Effect<void>
  /** Ends it, and forgets it. */
  readonly dismiss: (node: EtcdProcess.Node) => Effect.Effect<void>
  /** Ends all, which can be started again. */
  readonly stop: Effect.Effect<void>
  /** Whose turn it is to change them. */
  readonly turn: Semaphore.Semaphore
}

/** One who is to join. */
export interface Newcomer {
  readonly name: string
  /** How the others are to reach it. */
  readonly peerUrls: ReadonlyArray<string>
  /** Whether it has joined already, since the cluster was started here. */
  readonly hasJoined: boolean
  /** Directories of its own in which there is something that nobody knows of; where it was added, as `id`, other data. */
  readonly inTheWay: (id: MemberId | undefined) => Effect.Effect<ReadonlyArray<string>>
  /** Remembers that it is joining. */
  readonly begin: Remembering
  /** Starts it, or starts it again: the cluster has told whom it joins. */
  readonly join: (initialCluster: Readonly<Record<string, ReadonlyArray<string>>>) => Starting
  /** Remembers that it has joined. */
  readonly settle: Remembering
  /** Deletes its data: it has joined in vain. */
  readonly clear: Remembering
}

/** What a member has for itself since it joined, or was upgraded: not what all were started with. */
export interface Change {
  readonly binary?: EtcdBinary.Input | undefined
  readonly config?: EtcdConfig.EtcdOptions | undefined
}

type Remembering = Effect.Effect<void, EtcdProcessError.EtcdProcessError>

/** The members that run here, and what changes them. */
export interface Fleet extends Omit<Crew, "exchange"> {
  /**
   * Who is to join: somebody who had begun to, or else somebody new. `index`: how many others join before. `config`: where
   * nothing is known of how it is to live. `members`: who there are: where it was added already it keeps the URLs that it was
   * added with.
   */
  readonly newcomer: (
    config: EtcdConfig.Input | undefined,
    index: number,
    members?: ReadonlyArray<Pick<EtcdMembership.Member, "name" | "peerUrls">>
  ) => Effect.Effect<Newcomer, EtcdProcessError.EtcdProcessError>
  /** Who had begun to join, and who to leave. */
  readonly unfinished: () => {
    readonly joining: ReadonlyArray<string>
    readonly leaving: ReadonlyArray<Manifest.Leaving>
  }
  /**
   * Ends it, and starts it with the data that it has: from now on as another version, where a binary is given, and with another
   * configuration until it is started anew the next time. Where that fails it is started as it was, and this fails
   * nevertheless. It cannot be interrupted. `had`: the other configuration that it was given for this one time.
   */
  readonly renew: (
    node: EtcdProcess.Node,
    change?: Change,
    had?: EtcdConfig.EtcdOptions
  ) => Effect.Effect<EtcdProcess.Node, EtcdProcessError.EtcdProcessError>
  /** Which executable it runs, as that was said. */
  readonly binaryOf: (node: EtcdProcess.Node) => EtcdBinary.Input | undefined
  /** Fails where its configuration makes no sense with that version. */
  readonly suits: (node: EtcdProcess.Node, version: SemVer.SemVer) => Remembering
  /** Remembers whose directories are lost, before data are made anew in them. */
  readonly rememberLost: Remembering
  /** Remembers that it is leaving. */
  readonly leave: (leaving: Manifest.Leaving) => Remembering
  /** Remembers that it is not leaving any more. */
  readonly stay: (name: string) => Remembering
  /** Deletes the data of one that has left, and remembers nothing of it. */
  readonly forget: (name: string) => Remembering
}

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
const awaitAlone = (node: EtcdProcess.Node, others: ReadonlySet<MemberId>, since: DateTime.Utc) => {
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

/**
 * What a member that joins is to run: what the oldest of the others does, which no version of a cluster is too new for. One
 * that has ended may be none of them any more.
 */
export const oldest = (members: SubscriptionRef.SubscriptionRef<Nodes>): EtcdProcess.Node => {
  const all = SubscriptionRef.getUnsafe(members)
  const running = all.filter(isRunning)
  return (Array.isArrayNonEmpty(running) ? running : all).reduce((old, node) =>
    SemVer.Order(node.version, old.version) < 0 ? node : old
  )
}

/** Where ports are chosen for a node, which it keeps when it is started anew. */
const ofPorts = ["listenClientUrls", "advertiseClientUrls", "listenClientHttpUrls", "listenMetricsUrls"] as const

/** The ports that were chosen for a node where its configuration leaves that open. */
export const portsOf = ({ config }: EtcdProcess.Node, given: EtcdConfig.EtcdOptions): EtcdConfig.EtcdOptions =>
  Object.fromEntries(ofPorts.flatMap((name) => (given[name] === undefined ? [] : [[name, config.options[name]]])))

/** The leader, now and whenever a member has another role, or there are other members. */
const leaders = (members: SubscriptionRef.SubscriptionRef<Nodes>): Stream.Stream<Option.Option<EtcdProcess.Node>> =>
  SubscriptionRef.changes(members).pipe(
    Stream.switchMap((nodes) =>
      Stream.mergeAll(
        nodes.map((node) => SubscriptionRef.changes(node.role)),
        { concurrency: "unbounded" }
      )
    ),
    Stream.map(() => leaderOf(SubscriptionRef.getUnsafe(members)))
  )

interface Berth {
  readonly node: EtcdProcess.Node
  readonly scope: Scope.Closeable
}

/** One that is to be started with all. */
interface Recruit {
  readonly start: Starting
  readonly state: Manifest.Member["state"]
  /** Whether it may be a learner, to which clients are not led. */
  readonly mayLearn: boolean
  /** Remembers that it is no member any more: somebody has removed it, and that is not this cluster's doing. */
  readonly removed: Remembering
}

/** Whether it has a vote, as it says itself, or, where it does not say so, as far as that is remembered. */
const hasVote = ({ endpoints }: EtcdProcess.Node, state: Manifest.Member["state"], client: Options["client"]) =>
  Readiness.connectTo(endpoints[0], client, { retry: Schedule.recurs(0) }).pipe(
    Effect.flatten,
    Effect.scoped,
    Effect.match({
      onSuccess: ({ isLearner }) => !isLearner,
      onFailure: ({ reason }) => state !== "joining" && reason._tag !== "NotSupportedForLearner"
    })
  )

const isRunning = ({ role }: EtcdProcess.Node): boolean => SubscriptionRef.getUnsafe(role).role !== "stopped"

/**
 * Starts all at once, since none serves before a majority is there. One that is joining or leaving, and may be none any more,
 * or not yet, is started with them, and does not keep the others from serving.
 */
export const startAll = Effect.fnUntraced(function* (
  starting: ReadonlyArray<Recruit>,
  client: Options["client"]
): Effect.fn.Return<Crew, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> {
  const platform = Tracing.withoutParent(yield* Effect.context<Platform>())
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const board = (start: Starting): Effect.Effect<Berth, EtcdProcessError.EtcdProcessError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const own = yield* Scope.fork(scope)
        const node = yield* restore(Effect.provideContext(Scope.provide(start, own), platform)).pipe(
          Effect.onError((cause) => Scope.close(own, Exit.failCause(cause)))
        )
        return { node, scope: own }
      })
    )
  const boarded = yield* Effect.forEach(
    starting,
    ({ mayLearn, removed, start, state }) =>
      Effect.result(board(start)).pipe(
        Effect.tap((result) => {
          if (Result.isSuccess(result) || state !== "member") return Effect.void
          return Failures.wasRemoved(result.failure) ? removed : Effect.fail(result.failure)
        }),
        Effect.map((result) => ({ result, mayLearn, state }))
      ),
    { concurrency: "unbounded" }
  )
  const found = boarded.flatMap(({ mayLearn, result, state }) =>
    Result.isSuccess(result) ? [{ berth: result.success, mayLearn, state }] : []
  )
  for (const { result, state } of boarded) {
    if (Result.isSuccess(result)) continue
    if (found.length === 0) return yield* Effect.fail(result.failure)
    const was = state === "member" ? "removed" : state
    yield* Effect.logWarning(`A member that was ${was} did not start: ${result.failure.message}`)
  }
  // Where they may not be asked it is 0.
  const known = found.map(({ berth }) => berth.node).filter(({ clusterId }) => clusterId !== 0n)
  if (known.some(({ clusterId }) => clusterId !== known[0]!.clusterId)) {
    const whose = known.map(({ clusterId, name }) => `${name} of ${formatId(clusterId)}`).join(", ")
    const message = `EtcdCluster: its members have data of different clusters (${whose}). Start each with those of its own.`
    return yield* Effect.fail(ProcessOptions.refused("dataDir", message))
  }
  if (found.length === 2) yield* Effect.logWarning(twoVoters)
  let berths = found.map(({ berth }) => berth)
  const lost = new WeakSet<EtcdProcess.Node>()
  const members = yield* SubscriptionRef.make(berths.map(({ node }) => node) as unknown as Nodes)
  const voting = yield* Effect.filter(
    found,
    ({ berth, mayLearn, state }) => (mayLearn ? hasVote(berth.node, state, client) : Effect.succeed(true)),
    { concurrency: "unbounded" }
  )
  const opened = yield* SubscriptionRef.make<ReadonlyArray<EtcdProcess.Node>>(voting.map(({ berth }) => berth.node))
  const stop = Effect.suspend(() => stopAll(berths.map(({ node }) => node)))
  yield* Effect.addFinalizer(() => stop)
  const leader = yield* SubscriptionRef.make(leaderOf(SubscriptionRef.getUnsafe(members)))
  /** Whoever leads has a vote, though somebody else may have given it to it, and removed those that clients are led to. */
  const leadToLeader = Option.match({
    onNone: () => Effect.void,
    onSome: (node: EtcdProcess.Node) =>
      SubscriptionRef.updateSome(opened, (nodes) =>
        nodes.some(isRunning) ? Option.none() : Option.some([...nodes, node])
      )
  })
  yield* leaders(members).pipe(
    Stream.tap(leadToLeader),
    Stream.filter((now) => !Equal.equals(now, SubscriptionRef.getUnsafe(leader))),
    Stream.runForEach((now) => SubscriptionRef.set(leader, now)),
    Effect.forkScoped
  )

  const set = (changed: ReadonlyArray<Berth>) =>
    Effect.suspend(() => {
      berths = [...changed]
      return SubscriptionRef.set(members, berths.map(({ node }) => node) as unknown as Nodes)
    })
  const close = (node: EtcdProcess.Node) =>
    SubscriptionRef.update(opened, (nodes) => nodes.filter((one) => one !== node))
  const crew: Crew = {
    platform,
    members,
    leader,
    awaitLeader: leaders(members).pipe(
      Stream.filter(Option.isSome),
      Stream.runHead,
      Effect.map((found) => Option.getOrThrow(Option.flatten(found)))
    ),
    opened,
    start: (start) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(board(start)), (berth) => Effect.as(set([...berths, berth]), berth.node))
      ),
    isLost: (node) => lost.has(node),
    exchange: (node, start, before) =>
      Effect.gen(function* () {
        const old = berths.find((one) => one.node === node)!
        yield* Scope.close(old.scope, Exit.void)
        const take = (berth: Berth) =>
          Effect.gen(function* () {
            yield* set(berths.map((one) => (one === old ? berth : one)))
            yield* SubscriptionRef.update(opened, (nodes) => nodes.map((one) => (one === node ? berth.node : one)))
            return berth.node
          })
        /** Without a quorum there is no operation that could: whoever starts it has it started as it was. */
        const lose = Effect.suspend(() => {
          const again = Effect.suspend(() => {
            const now = berths.find((one) => one.node.name === node.name)?.node
            return now === gone ? Effect.asVoid(crew.exchange(gone, before, before)) : (now ?? node).start
          })
          const gone: EtcdProcess.Node = Json.copy(node, { start: Semaphore.makeUnsafe(1).withPermit(again) })
          lost.add(gone)
          return take({ node: gone, scope: old.scope })
        })
        return yield* Effect.matchCauseEffect(board(start), {
          onSuccess: take,
          onFailure: (cause) =>
            Effect.flatMap(board(before), take).pipe(
              Effect.catchCause(() => lose),
              Effect.andThen(Effect.failCause(cause))
            )
        })
      }).pipe(Effect.uninterruptible),
    stop,
    turn: Semaphore.makeUnsafe(1),
    open: (node) => SubscriptionRef.update(opened, (nodes) => (nodes.includes(node) ? nodes : [...nodes, node])),
    close,
    dismiss: (node) =>
      Effect.uninterruptible(
        Effect.gen(function* () {
          yield* close(node)
          const berth = berths.find((one) => one.node === node)
          if (berth === undefined) return
          yield* Scope.close(berth.scope, Exit.void)
          if (berths.length > 1) yield* set(berths.filter((one) => one !== berth))
        })
      )
  }
  return crew
}, Time.really)

/** For tests: short election times, and (`EtcdProcess.ephemeral`) no sync to disk. */
export const ephemeral = {
  heartbeatInterval: "50 millis",
  electionTimeout: "500 millis"
} as const satisfies EtcdConfig.Input

/** Where members are to live, which is there before them. */
export interface Home {
  readonly runDirectory: string
  readonly names: ReadonlyArray<string>
  /** The configuration that they share. */
  readonly shared: EtcdConfig.EtcdOptions
}

/** What a member has for itself. */
export interface Own {
  readonly config?: EtcdConfig.EtcdOptions
  readonly options?: EtcdProcess.Options
  /** What it is started through. */
  readonly through?: ReadonlyArray<string>
  /** What each of its starts waits for. */
  readonly mayStart?: Effect.Effect<void>
}

/** What a member has for itself, which may be one that joins later. */
export type OwnOf = (name: string) => Effect.Effect<Own, EtcdProcessError.EtcdProcessError>

/** Makes what is to be there before the members, and answers what each has for itself. */
export type Prepare = (home: Home) => Effect.Effect<OwnOf, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform>

const nothing: Prepare = () => Effect.succeed(() => Effect.succeed({}))

/** Where it says one of the two, the others reach a member where it listens, and not at a socket. */
const withBothUrls = (config: EtcdConfig.EtcdOptions): EtcdConfig.EtcdOptions => {
  const urls = config.listenPeerUrls ?? config.initialAdvertisePeerUrls
  return urls === undefined ? config : { listenPeerUrls: urls, initialAdvertisePeerUrls: urls, ...config }
}

export const onSockets = (
  start: typeof EtcdProcess.make,
  options: Options,
  preset: EtcdConfig.Input,
  prepare: Prepare = nothing
): Effect.Effect<Fleet, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.gen(function* () {
    yield* ProcessOptions.check("EtcdCluster", ClusterOptions.ofCluster, options)
    const { config = {}, dataDir, size, ...ofMembers } = options
    const shared = yield* ClusterOptions.decodeShared("EtcdCluster", config)
    if (dataDir !== undefined) yield* Unfinished.finish([dataDir])
    const kept = dataDir === undefined ? undefined : yield* Manifest.inDirectory(dataDir, size)
    if (kept !== undefined) yield* kept.keep
    const first = (kept?.current() ?? Manifest.ofSize(size ?? 3)).members
    const names = first.map(({ name }) => name)
    const { runDirectory } = yield* Place.makeRunDirectory(names.map(clientSocketOf))
    const manifest = kept ?? (yield* Manifest.inMemory(runDirectory, size ?? 3))
    const ownOf = yield* prepare({ runDirectory, names, shared })
    // Who comes or goes begins no cluster, and may be somebody of whom only the id is known.
    const initialCluster = Object.fromEntries(
      first.flatMap(({ name, state }) => (state === "member" ? [[name, peerUrlOf(name)]] : []))
    )
    const { token: initialClusterToken } = manifest.current()
    /** What members have that have joined, or were upgraded, since all were started; of those before, how they are reached. */
    const changes = new Map<string, Change>(
      first.flatMap(({ name, peer }) => (peer === undefined ? [] : [[name, { config: peer }] as const]))
    )
    const changeOf = (name: string): Change => changes.get(name) ?? {}
    const urlOf = (name: string, config: EtcdConfig.EtcdOptions | undefined) =>
      config?.initialAdvertisePeerUrls ?? shared.initialAdvertisePeerUrls ?? [peerUrlOf(name)]
    const configOf = ({ directory, name }: Manifest.Member, own: Own, { config }: Change): EtcdConfig.Input =>
      Object.assign(
        {
          listenClientUrls: `unix://${clientSocketOf(name)}`,
          listenPeerUrls: peerUrlOf(name),
          initialAdvertisePeerUrls: peerUrlOf(name),
          ...(initialClusterToken === undefined ? {} : { initialClusterToken })
        } satisfies EtcdConfig.Input,
        preset,
        shared,
        // Who has joined is in none that all share.
        { initialCluster: { ...initialCluster, [name]: urlOf(name, config), ...shared.initialCluster } },
        own.config,
        config,
        { name, dataDir: manifest.directoryOf(directory) }
      )
    const turns = new Map<string, Effect.Effect<void>>()
    const starting = (member: Manifest.Member, change: Change): Starting =>
      Effect.flatMap(ownOf(member.name), (own) =>
        start(configOf(member, own, change), {
          ...ofMembers,
          ...own.options,
          ...(change.binary === undefined ? {} : { binary: change.binary }),
          runDirectory,
          runDirectoryIsTemporary: true
        }).pipe(
          Effect.provideService(Child.Through, own.through ?? []),
          Effect.provideService(
            Child.MayStart,
            Effect.andThen(own.mayStart ?? Effect.void, turns.get(member.name) ?? Effect.void)
          )
        )
      )
    const fs = yield* FileSystem.FileSystem
    const deleteData = ({ directory, name }: Manifest.Member) =>
      Effect.mapError(
        fs.remove(manifest.directoryOf(directory), { recursive: true, force: true }),
        Failures.systemFailure(`delete the data of ${name}`)
      )
    /**
     * Of one that joins or leaves there may be some of the data, and no log: it was killed while they were made, or deleted.
     * It would begin a cluster of its own.
     */
    const dataOf = ({ directory, name }: Manifest.Member) =>
      Effect.mapError(
        holder({ dataDir: manifest.directoryOf(directory), walDir: undefined }),
        Failures.systemFailure(`look for the data of ${name}`)
      )
    const holdsData = (member: Manifest.Member) => Effect.map(dataOf(member), Option.isSome)
    const withData = yield* Effect.filter(first, holdsData)
    const started = first.filter((member) => member.state === "member" || withData.includes(member))
    const addressOf = (name: string) =>
      Effect.map(ownOf(name), ({ config }) => {
        const own = changeOf(name).config?.listenPeerUrls ?? config?.listenPeerUrls
        const urls = own ?? shared.listenPeerUrls ?? [peerUrlOf(name)]
        return Turns.addressOf(urls, runDirectory)
      })
    if (withData.length === 0) {
      const addresses = yield* Effect.forEach(names, addressOf)
      for (const [index, turn] of (yield* Turns.make(addresses)).entries()) turns.set(names[index]!, turn)
    } else if (started.some((one) => !withData.includes(one))) {
      const clusters = (yield* Effect.forEach(withData, dataOf)).flatMap((data) =>
        Option.isSome(data) && data.value !== "unreadable" ? [data.value.clusterId] : []
      )
      const turn = yield* Turns.afterOneOf(yield* Effect.forEach(withData, ({ name }) => addressOf(name)))
      for (const one of started) {
        if (withData.includes(one)) continue
        const { initialCluster = {}, initialClusterToken = "etcd-cluster" } = yield* EtcdConfig.decode(
          configOf(one, yield* ownOf(one.name), changeOf(one.name))
        )
        // It joined later, or all were restored since: etcd does not know it by the id that it would have.
        const own = Ids.ofCluster(Object.values(initialCluster), initialClusterToken)
        if (clusters.length > 0 && !clusters.includes(own)) {
          const message =
            `EtcdCluster: ${one.name} has no data in ${manifest.directoryOf(one.directory)}, and cannot begin anew under ` +
            "its name. Where they are lost, EtcdCluster.recover makes those of all members anew from what is left."
          return yield* Effect.fail(ProcessOptions.refused("dataDir", message))
        }
        turns.set(one.name, turn)
      }
    }
    const crew = yield* startAll(
      started.map((member) => ({
        start: starting(member, changeOf(member.name)),
        state: member.state,
        mayLearn: member.state !== "member",
        removed: manifest.update(Manifest.leaving({ name: member.name, id: undefined, successor: undefined }))
      })),
      options.client
    )
    const fleet: Fleet = {
      ...crew,
      unfinished: () => Manifest.unfinished(manifest.current()),
      newcomer: (config, index, members = []) =>
        Effect.gen(function* () {
          const found = Manifest.newcomer(
            manifest.current(),
            index,
            members.map(({ name }) => name)
          )
          const { name } = found
          const own = yield* ownOf(name)
          const urlsOf = ({ initialAdvertisePeerUrls }: EtcdConfig.EtcdOptions) =>
            initialAdvertisePeerUrls ?? own.config?.initialAdvertisePeerUrls ?? [peerUrlOf(name)]
          // Who goes on with it need not say once more how it is to live.
          const begun = changeOf(name).config ?? {}
          const wanted =
            config === undefined ? begun : withBothUrls(yield* ClusterOptions.decodeShared("EtcdCluster", config))
          const isThere = members.some(({ peerUrls }) => urlsOf(begun).some((url) => peerUrls.includes(url)))
          const given = isThere ? Manifest.withPeerOf(begun, wanted) : wanted
          const member = { ...found, peer: Manifest.peerOf(given) }
          return {
            name,
            peerUrls: urlsOf(given),
            hasJoined: false,
            inTheWay: () => Effect.succeed([]),
            begin: Effect.tap(manifest.update(Manifest.withMember(member)), () =>
              Effect.sync(() => changes.set(name, { ...changeOf(name), config: given }))
            ),
            join: (initialCluster) =>
              Effect.suspend(() => {
                const change = { ...changeOf(oldest(crew.members).name), config: given }
                changes.set(name, change)
                return starting(member, {
                  ...change,
                  config: { ...given, initialCluster, initialClusterState: "existing" }
                })
              }),
            settle: manifest.update(Manifest.withMember({ ...member, state: "member" })),
            clear: Effect.tap(deleteData(member), () => Effect.sync(() => changes.delete(name)))
          }
        }),
      renew: (node, { binary, config } = {}, had = {}) =>
        Effect.gen(function* () {
          const { name } = node
          const own = yield* ownOf(name)
          const before = changeOf(name)
          const change = binary === undefined ? before : { ...before, binary }
          const ports = portsOf(node, { ...shared, ...own.config, ...before.config })
          const anew = ({ binary, config }: Change) =>
            starting(manifest.memberOf(name), { binary, config: { ...config, ...ports } })
          const renewed = yield* crew.exchange(
            node,
            anew({ ...change, config: { ...change.config, ...config } }),
            anew({ ...before, config: { ...before.config, ...had } })
          )
          changes.set(name, change)
          return renewed
        }).pipe(Effect.uninterruptible),
      binaryOf: ({ name }) => changeOf(name).binary ?? options.binary,
      suits: ({ config: { dataDir }, name }, version) =>
        Effect.flatMap(ownOf(name), (own) =>
          Effect.asVoid(
            EtcdConfig.resolve(configOf(manifest.memberOf(name), own, changeOf(name)), { version, dataDir })
          )
        ),
      rememberLost: manifest.rememberLost,
      leave: (leaving) => manifest.update(Manifest.leaving(leaving)),
      // Of one that runs elsewhere there is nothing here that could be started.
      stay: (name) =>
        Effect.flatMap(Effect.provideContext(holdsData(manifest.memberOf(name)), crew.platform), (isHere) =>
          manifest.update(isHere ? Manifest.staying(name) : Manifest.withoutMember(name))
        ),
      forget: (name) =>
        Effect.suspend(() =>
          Effect.andThen(deleteData(manifest.memberOf(name)), manifest.update(Manifest.withoutMember(name)))
        )
    }
    return fleet
  }).pipe(allOrNothing)
