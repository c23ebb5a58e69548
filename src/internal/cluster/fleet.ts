/**
 * Members of one cluster, from one scope.
 *
 * @internal
 */
import * as Array from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Cluster, Options } from "../../EtcdCluster.ts"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdId from "../../EtcdId.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { allOrNothing } from "../process/allOrNothing.ts"
import * as Child from "../process/child.ts"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Place from "../process/place.ts"
import * as Time from "../time.ts"
import * as ClusterOptions from "./options.ts"

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
export const startAll = Effect.fnUntraced(function* (
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

/** Makes what is to be there before the members, and answers what each has for itself. */
export type Prepare = (
  home: Home
) => Effect.Effect<(name: string) => Own, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform>

const nothing: Prepare = () => Effect.succeed(() => ({}))

/** The name of a member's socket for clients, and of that for its peers. */
export const clientSocketOf = (name: string): string => `${name}.client:0`
export const peerSocketOf = (name: string): string => `${name}.peer:0`

export const onSockets = (
  start: typeof EtcdProcess.make,
  options: Options,
  preset: EtcdConfig.Input,
  prepare: Prepare = nothing
): Effect.Effect<Cluster, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.gen(function* () {
    yield* ProcessOptions.check("EtcdCluster", ClusterOptions.ofCluster, options)
    const { config = {}, dataDir, size = 3, ...ofMembers } = options
    const shared = yield* ClusterOptions.decodeShared("EtcdCluster", config)
    const names = Array.makeBy(size, (index) => `node${index}`)
    const dataDirectories = dataDir === undefined ? [] : yield* makeDataDirectories(dataDir, names)
    const { runDirectory } = yield* Place.makeRunDirectory(names.map(clientSocketOf))
    const ownOf = yield* prepare({ runDirectory, names, shared })
    const initialCluster = Object.fromEntries(names.map((name) => [name, `unix://${peerSocketOf(name)}`]))
    const startMember = (name: string, dataDir: string | undefined) => {
      const own = ownOf(name)
      return start(
        Object.assign(
          {
            listenClientUrls: `unix://${clientSocketOf(name)}`,
            listenPeerUrls: `unix://${peerSocketOf(name)}`,
            initialAdvertisePeerUrls: `unix://${peerSocketOf(name)}`,
            initialCluster
          } satisfies EtcdConfig.Input,
          preset,
          shared,
          own.config,
          { name, dataDir }
        ),
        { ...ofMembers, ...own.options, runDirectory, runDirectoryIsTemporary: true }
      ).pipe(
        Effect.provideService(Child.Through, own.through ?? []),
        Effect.provideService(Child.MayStart, own.mayStart ?? Effect.void)
      )
    }
    return yield* startAll((index) => startMember(names[index]!, dataDirectories[index]), size)
  }).pipe(allOrNothing)
