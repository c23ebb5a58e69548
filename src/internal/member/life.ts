/**
 * The owner of an instance: one fiber, which finds a place, runs a node in it, and begins anew when that has ended.
 *
 * ```
 *   no data ──► join ──► start ──► follow ──► ended ──┐
 *     ▲                    ▲          │               │
 *     │ removed            └── data ──┼───────────────┘
 *     └───────────────────────────────┤
 *                                     └── leave ──► left
 * ```
 *
 * `leave` is the one thing that is done beside it: it changes the members first, and then ends the fiber.
 *
 * @internal
 */

import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdBinary from "../../EtcdBinary.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as EtcdId from "../../EtcdId.ts"
import type * as EtcdMember from "../../EtcdMember.ts"
import * as EtcdMemberError from "../../EtcdMemberError.ts"
import type { Member } from "../../EtcdMembership.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import * as Json from "../json.ts"
import { allOrNothing } from "../process/allOrNothing.ts"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Answers from "./answers.ts"
import * as Consult from "./consult.ts"
import * as Data from "./data.ts"
import * as Decide from "./decide.ts"
import * as Http from "./http.ts"
import * as Join from "./join.ts"
import * as Leave from "./leave.ts"
import * as Node from "./node.ts"
import * as Peers from "./peers.ts"
import * as Replace from "./replace.ts"
import * as Settings from "./settings.ts"

type Platform = FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner

/** How a run of the node has ended. */
type Ended = "removed" | "down"

/** How often the members are looked at: while this instance waits for its vote or a place, and while it has one. */
const waitingPause = "250 millis"
const restingPause = "2 seconds"

/** How often in a row a node may fail to start, or to serve for long. */
const mostFailures = 5
const servedForMillis = 10_000

/** How many different things are logged that are waited for. */
const mostSaid = 100

/** What one waits for that has begun, or has data. */
const ofMajority = "a majority of its cluster"

const reasonOf = (state: EtcdMember.State) => ("reason" in state ? state.reason : undefined)
const nodeOf = (state: EtcdMember.State) => ("node" in state ? state.node : undefined)

const closedError = EtcdMemberError.make(
  new EtcdMemberError.NotAMember({
    message: "The instance has left its cluster, its scope is closed, or it could not go on."
  })
)

export const make = (
  options: EtcdMember.Options
): Effect.Effect<EtcdMember.Member, EtcdMember.Failure, Scope.Scope | Platform> =>
  Time.really(allOrNothing(Effect.flatMap(Settings.make(options), makeWith)))

/** What is wrong with the executable or the configuration is told before anybody else is asked. */
const checkNode = Effect.fnUntraced(function* (settings: Settings.Settings) {
  const { version } = yield* EtcdBinary.fromInput(settings.process.binary)
  const config = Node.configOf(settings, { _tag: "Begin", urls: [settings.peerUrl], clusterId: 0n })
  const resolved = yield* EtcdConfig.resolve(config, { version, dataDir: settings.dataDir })
  const [endpoint] = EtcdConfig.endpoints(resolved, settings.runDirectory ?? "")
  yield* ProcessOptions.checkClient("EtcdMember", settings.process, endpoint)
  if (settings.peerTls.isAutomatic) return
  const { asking, ...tls } = settings.peerTls
  yield* Effect.forEach([tls, { ...tls, ...asking }], Http.material).pipe(
    Effect.mapError((why) =>
      ProcessOptions.refused("peerCertFile", `EtcdMember: the certificates for peers in config cannot be used: ${why}`)
    )
  )
})

const makeWith = Effect.fnUntraced(function* (
  settings: Settings.Settings
): Effect.fn.Return<EtcdMember.Member, EtcdMember.Failure, Scope.Scope | Platform> {
  const time = yield* Time.Time
  const platform = Tracing.withoutParent(yield* Effect.context<Platform>())
  yield* checkNode(settings)
  const source = yield* Peers.make(settings)
  const state = yield* SubscriptionRef.make<EtcdMember.State>({ _tag: "Waiting", reason: "the peers" })
  const endpoints = yield* SubscriptionRef.make<ReadonlyArray<string>>([])
  const settled = yield* Deferred.make<void, EtcdMember.Failure>()
  const ended = yield* Deferred.make<void, EtcdMember.Failure>()
  const named = Effect.annotateLogs({ member: settings.name })
  /** `connect`: to its cluster, for longer than the node runs. */
  let running:
    | (Omit<Leave.Running, "cluster"> & { readonly connect: Effect.Effect<Consult.Cluster, never, Scope.Scope> })
    | undefined
  /** Whether it has left, once that is known, while it is about to. */
  let leaving: Deferred.Deferred<boolean> | undefined
  let hasLeft = false
  /** Its cluster, once it has one. */
  let clusterId: EtcdId.ClusterId | undefined
  /** As what it was added, until its node serves. */
  let added: Join.Joining | undefined
  let failures = 0
  const said = new Set<string>()

  const become = (next: EtcdMember.State) =>
    Effect.suspend(() => {
      const now = SubscriptionRef.getUnsafe(state)
      const isOld = now._tag === next._tag && reasonOf(now) === reasonOf(next) && nodeOf(now) === nodeOf(next)
      return isOld ? Effect.void : SubscriptionRef.set(state, next)
    })

  const take = (members: ReadonlyArray<Member>) =>
    Effect.suspend(() => {
      const next = Consult.endpointsOf(settings, Consult.servingVoters(members))
      const now = SubscriptionRef.getUnsafe(endpoints)
      const isOld = next.length === 0 || (next.length === now.length && next.every((one) => now.includes(one)))
      return isOld ? Effect.void : SubscriptionRef.set(endpoints, next)
    })

  const listener: Join.Listener = {
    waits: (what, details = "") =>
      Effect.suspend(() => {
        const isNew = !said.has(what) && said.size < mostSaid
        said.add(what)
        const reason = details === "" ? what : `${what} (${details})`
        const log = Effect.logInfo(`etcd member ${settings.name} waits for ${reason}`)
        return Effect.andThen(become({ _tag: "Waiting", reason }), isNew ? Effect.ignoreCause(log) : Effect.void)
      }),
    joins: (reason) => become({ _tag: "Joining", reason }),
    isAdded: (start) =>
      Effect.suspend(() => {
        added = start
        return become({ _tag: "Joining", reason: `its node, the member ${EtcdId.format(start.member.id)}` })
      }),
    isClient: (view) =>
      Effect.suspend(() => {
        clusterId = EtcdId.ClusterId(view.clusterId)
        return Effect.andThen(
          take(view.members),
          Effect.andThen(become({ _tag: "Client" }), Deferred.succeed(settled, undefined))
        )
      }),
    known: () => {
      const clientUrls = SubscriptionRef.getUnsafe(endpoints)
      return clusterId === undefined || clientUrls.length === 0 ? undefined : { clusterId, clientUrls }
    }
  }

  const removeData = Effect.provideContext(Data.remove(settings), platform)

  /** Not those of another one, which was given the same directory. */
  const removeDataOf = (member: Member) =>
    Effect.flatMap(Effect.provideContext(Data.read(settings), platform), (data) =>
      Option.exists(data, (ids) => ids !== "unreadable" && ids.memberId === member.id) ? removeData : Effect.void
    )

  // ── a node that serves ──

  /** The members, asked where this node is until others are known. */
  const firstEndpoints = (own: EtcdId.MemberId, node: EtcdProcess.Node, known: ReadonlyArray<Member>) =>
    Effect.gen(function* () {
      const answer = known.length > 0 ? undefined : yield* Answers.ask(settings, settings.peerUrl)
      const members = answer?._tag === "Etcd" ? answer.members : known
      const others = Consult.endpointsOf(
        settings,
        members.filter((member) => !member.isLearner)
      )
      const isLearner = members.some(({ id, isLearner }) => id === own && isLearner)
      return others.length === 0 || !isLearner ? Consult.together(settings, [...others, ...node.endpoints]) : others
    })

  /** Follows the members until this node is none of them. */
  const follow = ({ cluster, id, node }: Leave.Running): Effect.Effect<void> =>
    Effect.gen(function* () {
      const replace = Replace.make(settings, time)
      let isWarned = false
      /** Whoever is not let in, or trusts nobody, waits for somebody who changes that. */
      const tell = (what: string, error: EtcdError.EtcdError) =>
        Effect.suspend(() => {
          const isLasting = error.reason._tag === "Unreachable" && error.reason.lasting === true
          if (isWarned || !(isLasting || Consult.isRefusal(error))) return Effect.logDebug(what, error.message)
          isWarned = true
          return Effect.ignoreCause(Effect.logWarning(`etcd member ${settings.name} ${what}: ${error.message}`))
        })
      while (true) {
        const view = yield* Effect.result(Consult.view(cluster))
        let pause: Duration.Input = restingPause
        if (Result.isFailure(view)) {
          yield* tell("cannot ask for the members of its cluster", view.failure)
        } else {
          const { members } = view.success
          const own = members.find((member) => member.id === id)
          if (own === undefined) {
            if (yield* Consult.isGone(settings, cluster, view.success, id)) return
            yield* Effect.sleep(waitingPause)
            continue
          }
          yield* Effect.ignore(Consult.tellAddress(settings, cluster, own))
          yield* take(members)
          const hasPlace = Consult.votersOf(members).length < settings.size
          if (!own.isLearner) {
            yield* become({ _tag: "Voter", node })
            yield* Deferred.succeed(settled, undefined)
          } else {
            pause = waitingPause
            yield* become({ _tag: "Learner", node })
            if (!hasPlace) {
              yield* Deferred.succeed(settled, undefined)
              if (settings.replaceAfterMillis !== Number.POSITIVE_INFINITY) yield* replace(cluster, members)
            } else if (leaving === undefined) {
              const promoted = yield* Effect.result(cluster.membership.promote(own.id, Consult.once))
              if (Result.isSuccess(promoted)) continue
              yield* tell("has no vote yet", promoted.failure)
            }
          }
        }
        yield* Effect.sleep(pause)
      }
    })

  /** Takes back what was added, where it does not come to serve. */
  const takeBack = Effect.suspend(() => {
    if (added === undefined) return Effect.void
    const { clusterId, member, members } = added
    added = undefined
    return Effect.scoped(
      Effect.flatMap(
        Consult.connect(settings, Consult.endpointsOf(settings, Consult.servingVoters(members)), clusterId),
        ({ membership }) => membership.remove(member.id, Consult.once)
      )
    ).pipe(Effect.timeoutOption("5 seconds"), Effect.ignore, Effect.andThen(Effect.ignore(removeDataOf(member))))
  })

  const run = (beginning: Node.Beginning): Effect.Effect<Ended, EtcdMember.Failure, Platform> =>
    Effect.gen(function* () {
      const starting = Effect.onError(Node.start(settings, source, beginning), () => takeBack)
      const node = yield* Effect.raceAllFirst([starting, untilRemoved(beginning), tellWhatFor(beginning)])
      if (node === "removed") return node
      added = undefined
      const servesSince = time.now()
      // The node cannot be asked where a learner does not let this client in, and its log may not tell.
      const data = Option.getOrUndefined(yield* Data.read(settings))
      const ids = data === undefined || data === "unreadable" ? { memberId: node.id, clusterId: node.clusterId } : data
      const id = EtcdId.MemberId(ids.memberId)
      clusterId = EtcdId.ClusterId(ids.clusterId)
      const first = yield* firstEndpoints(id, node, beginning._tag === "Join" ? beginning.members : [])
      const connect = Consult.connect(
        settings,
        Stream.concat(
          Stream.make(first),
          Stream.filter(SubscriptionRef.changes(endpoints), (list) => list.length > 0)
        ),
        clusterId
      ).pipe(Effect.orDie)
      const cluster = yield* connect
      running = { id, node, connect }
      const gone = Effect.andThen(
        follow({ id, node, cluster }),
        Effect.as(Effect.timeoutOption(node.exit, "10 seconds"), "removed" as const)
      )
      const how = yield* Effect.raceFirst(gone, Effect.as(node.exit, "down" as const))
      if (time.now() - servesSince > servedForMillis) failures = 0
      return how
    }).pipe(
      Effect.scoped,
      Effect.ensuring(
        Effect.sync(() => {
          running = undefined
        })
      )
    )

  // ── from one node to the next ──

  /** Whether a cluster with a leader has this member no more. One that has it is told where it is now. */
  const wasRemoved = (data: Data.Data): Effect.Effect<boolean> =>
    Effect.gen(function* () {
      const known = Option.getOrUndefined(yield* Effect.timeoutOption(source, "2 seconds"))
      const urls =
        known?._tag === "Success" ? known.success.filter((url) => !Settings.isSame(url, settings.peerUrl)) : []
      const answers = yield* Answers.askAll(settings, urls)
      const members = [...answers.values()].flatMap((answer) =>
        answer._tag === "Etcd" && answer.clusterId === data.clusterId ? answer.members : []
      )
      const found = Consult.endpointsOf(settings, members)
      if (found.length === 0) return false
      return yield* Effect.gen(function* () {
        const cluster = yield* Consult.connect(settings, found, data.clusterId)
        const view = yield* Consult.view(cluster)
        const own = view.members.find(({ id }) => id === data.memberId)
        if (own === undefined) return yield* Consult.isGone(settings, cluster, view, data.memberId)
        // Its node may run elsewhere, and this instance have been given its directory by mistake.
        const isElsewhere = !Consult.isHere(settings, own) && (yield* Consult.servesClients(settings, own))
        if (!isElsewhere) yield* Consult.tellAddress(settings, cluster, own)
        return false
      }).pipe(
        Effect.scoped,
        Effect.orElseSucceed(() => false)
      )
    })

  /** Those who know may come later than this one, and where its node does not look for them. */
  const untilRemoved = (beginning: Node.Beginning): Effect.Effect<"removed"> =>
    beginning._tag !== "Return" || beginning.data === "unreadable"
      ? Effect.never
      : Effect.andThen(Effect.sleep("1 second"), wasRemoved(beginning.data)).pipe(
          Effect.repeat({ until: (isRemoved) => isRemoved }),
          Effect.as("removed" as const)
        )

  /** Of who waits for others, where they are said to be: it may be that they are somewhere else now. */
  const tellWhatFor = (beginning: Node.Beginning): Effect.Effect<never> =>
    Effect.gen(function* () {
      if (beginning._tag === "Join") return
      yield* Effect.sleep("3 seconds")
      const answer = yield* Answers.ask(settings, settings.peerUrl)
      const members = answer._tag === "Etcd" ? answer.members : []
      const others = members.filter((member) => !Consult.isHere(settings, member)).map(({ peerUrls }) => peerUrls[0])
      if (others.length === 0 || said.has(ofMajority)) return
      said.add(ofMajority)
      yield* Effect.logInfo(`etcd member ${settings.name} waits for ${ofMajority}, which was at ${others.join(", ")}`)
    }).pipe(Effect.ignoreCause, Effect.andThen(Effect.never))

  const beginning: Effect.Effect<Node.Beginning, EtcdMember.Failure, Platform> = Effect.gen(function* () {
    const data = yield* Data.read(settings)
    if (Option.isNone(data)) {
      return (yield* Join.make(settings, time, source, listener)) ?? (yield* beginning)
    }
    const other = data.value === "unreadable" ? undefined : Decide.otherThanNamed(settings, data.value.clusterId)
    if (other !== undefined) return yield* other
    yield* become({ _tag: "Returning" })
    if (data.value !== "unreadable" && (yield* wasRemoved(data.value))) {
      yield* beginAnew
      return yield* beginning
    }
    return { _tag: "Return", data: data.value }
  })

  const beginAnew = Effect.gen(function* () {
    if (leaving !== undefined && (yield* Deferred.await(leaving))) return yield* Effect.never
    yield* Effect.logWarning(
      `The cluster has removed the etcd member ${settings.name}: its data are deleted, and it joins anew`
    )
    yield* Data.remove(settings)
  })

  const mayPass = ({ reason }: EtcdMember.Failure, beginning: Node.Beginning): boolean =>
    ({
      AddressInUse: true,
      DataDirInUse: true,
      ExitedEarly: true,
      ClusterMismatch: true,
      StartTimeout: beginning._tag === "Join"
    })[reason._tag as string] === true

  const turn = Effect.gen(function* () {
    const next = yield* beginning
    if (next._tag === "Begin") yield* become({ _tag: "Bootstrapping" })
    const how = yield* run(next).pipe(
      Effect.catch((error) =>
        Effect.gen(function* () {
          if (Failures.wasRemoved(error)) return "removed" as const
          if (!mayPass(error, next) || failures + 1 >= mostFailures) return yield* error
          yield* Effect.logWarning(`etcd member ${settings.name} is started again: ${error.message}`)
          return "failed" as const
        })
      )
    )
    if (how === "removed") return yield* beginAnew
    failures++
    if (how === "down") yield* become({ _tag: "Returning" })
    // One that has served is started at once, where it is not again and again.
    if (how === "failed" || failures > 1) yield* Effect.sleep(Duration.millis(Math.min(5000, 200 * 2 ** failures)))
  }).pipe(Effect.onInterrupt(() => takeBack))

  const end = (how: "Left" | "Stopped") =>
    Effect.gen(function* () {
      yield* SubscriptionRef.set(state, { _tag: how })
      yield* Deferred.succeed(ended, undefined)
      yield* Deferred.fail(settled, closedError)
    })

  const finish = (exit: Exit.Exit<never, EtcdMember.Failure>) =>
    Effect.gen(function* () {
      yield* SubscriptionRef.set(endpoints, [])
      // Who leaves has ended when its data are gone.
      if (hasLeft) return
      if (Exit.isSuccess(exit) || Exit.hasInterrupts(exit)) return yield* end("Stopped")
      yield* SubscriptionRef.set(state, { _tag: "Failed" })
      const isTold = yield* Deferred.failCause(settled, exit.cause)
      if (!isTold) yield* Effect.ignoreCause(Effect.logError("etcd member cannot go on", exit.cause))
      yield* Deferred.failCause(ended, exit.cause)
    })

  const owner = yield* Effect.forkScoped(Tracing.inBackground(named(Effect.onExit(Effect.forever(turn), finish))))

  // ── leaving ──

  const one = Semaphore.makeUnsafe(1)

  /** Without a node there is nothing to remove, unless there are data: whose member they are nobody can be asked now. */
  const withoutNode = Effect.gen(function* () {
    if (Option.isNone(yield* Effect.orDie(Data.read(settings)))) return
    return yield* Leave.refused(
      `The node of ${settings.name} does not serve now, and its cluster cannot be asked to let it go. Try again when it serves.`
    )
  })

  const unlessEnded = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.raceFirst(effect, Effect.andThen(Effect.exit(Deferred.await(ended)), closedError))

  /** Its node may end meanwhile, as one does that is removed. */
  const removeNode = (
    { connect, id, node }: NonNullable<typeof running>,
    restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  ) =>
    Effect.gen(function* () {
      const on = { id, node, cluster: yield* connect }
      const allowed = yield* restore(unlessEnded(Leave.prepare(settings, on)))
      yield* unlessEnded(Leave.remove(settings, on, allowed))
    }).pipe(Effect.scoped)

  const leave = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      if (hasLeft) return
      if (Deferred.isDoneUnsafe(ended)) return yield* closedError
      const done = Deferred.makeUnsafe<boolean>()
      const now = running
      leaving = done
      const removing: Effect.Effect<void, EtcdMemberError.EtcdMemberError | EtcdError.EtcdError, Platform> =
        now === undefined ? withoutNode : removeNode(now, restore)
      yield* Effect.onError(removing, () =>
        Effect.suspend(() => {
          leaving = undefined
          return Deferred.succeed(done, false)
        })
      )
      hasLeft = true
      yield* Deferred.succeed(done, true)
      yield* Fiber.interrupt(owner)
      yield* Effect.ensuring(Effect.orDie(removeData), end("Left"))
    })
  ).pipe(one.withPermit, Effect.provideContext(platform), named, Time.really, (left) =>
    Tracing.traced(left, "EtcdMember.leave")
  )

  yield* Time.within(time, Deferred.await(settled), settings.joinTimeoutMillis, () => {
    const now = SubscriptionRef.getUnsafe(state)
    const waited = "reason" in now ? now.reason : now._tag === "Learner" ? "its vote" : ofMajority
    return Effect.fail(
      EtcdMemberError.make(
        new EtcdMemberError.JoinTimeout({
          message: `etcd member ${settings.name} has no place in its cluster after ${settings.joinTimeoutMillis} ms: it waits for ${waited}.`
        })
      )
    )
  })

  return Json.showing(
    { name: settings.name, clusterId: clusterId!, state, endpoints, leave, exit: Deferred.await(ended) },
    ({ clusterId, name }) => ({ name, clusterId })
  )
})
