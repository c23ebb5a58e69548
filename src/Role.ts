/**
 * The part that a node plays in its cluster, and work that lives while it plays it.
 *
 * Roles are raft's here: a node is a follower, a candidate or the leader. (The roles that users have, and that permissions
 * are granted to, are those of `EtcdAuth`.)
 *
 * A {@link State} is a fold: {@link fold} takes the events of the node's log, {@link fromStatus} what the node
 * answers when asked, {@link stopped} its end. For a running node, {@link changes} is the role as a stream,
 * {@link whileLeader} runs an effect as long as the node leads, and {@link onTransition} calls back on each transition.
 *
 * ## What leading means, and what it does not
 *
 * A node leads in the sense of this module when its own raft says so and the node is not silent. A leader is asked for
 * its `Status` four times in an *election timeout* (`electionTimeout`; a second where that is under half of one). One
 * that has answered none of the questions that were put within the last election timeout, because it is paused, hangs,
 * cannot be reached or defragments its database for so long (from etcd 3.6 on), is shown as a follower that knows no
 * leader, and its `ready` is false. It serves again with its next answer, and leads again when it has said so for an
 * election timeout. For as long raft waits: the members elect another leader an election timeout after the last
 * heartbeat of the old one at the earliest, and a leader that has not heard from a majority for so long resigns (raft's
 * *CheckQuorum*).
 *
 * So there may be two leaders for a moment, and no module outside of raft can exclude it:
 *
 * - Another node may be elected as soon as the old one is taken for silent, or a heartbeat earlier. Then the work is
 *   interrupted, which takes as long as its finalizers and what cannot be interrupted.
 * - A leader that is cut off from the other members, and not from this process, answers `Status` and leads until it
 *   resigns, which takes up to two election timeouts.
 * - So does one whose disk hangs, where it answers from memory. Of its successor it hears from that one, and its log says
 *   so, but its `Status` may not before the disk is back.
 * - Time in which this process itself stood still is not counted as the node's silence; the work stood still as well,
 *   and goes on until the next answer. The pause of a whole machine is such a time.
 * - Where `Status` is refused to this client (TLS, a password), or is never asked for (`statusInterval: Infinity`), there
 *   is only what the log says, if it shows the role.
 *
 * Use a role for what is wasteful or untidy when two do it: timers, caches, reports. What must never be done twice needs
 * a *fence*, which is checked where the effect takes place. In etcd that is a transaction (`EtcdTxn`) that compares what
 * only the latest holder has: the mod revision of a key that each leader writes when it begins (see {@link whileLeader}),
 * or the create revision of a key on a lease (`EtcdLease`), as etcd's own elections and locks have it. What is not etcd
 * takes that revision along with each request, and refuses one that is lower than it has seen.
 *
 * A program that runs no node, or is to lead whichever node does, stands in an election of its own, whose leader's writes
 * to etcd are fenced: `EtcdElection.whileElected` of `effect-etcd/coordination`, which says how the two differ.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Cause from "effect/Cause"
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdId from "./EtcdId.ts"
import type * as EtcdLog from "./EtcdLog.ts"
import * as Json from "./internal/json.ts"

/**
 * What a node is: one of raft's roles, or `stopped` while its process does not run.
 *
 * A learner is a `follower`. `pre-candidate` exists from etcd 3.4 on, where the option `pre-vote` is set (the default
 * from 3.5 on).
 *
 * @category models
 * @since 0.1.0
 */
export type Role = EtcdLog.RaftRole | "stopped"

/**
 * What is known of a node's role.
 *
 * @category models
 * @since 0.1.0
 */
export interface State {
  /** What the node is. One that is silent is shown as a `follower`. */
  readonly role: Role
  /** Raft's term: it never decreases while the node keeps its data, and has at most one leader. 0 before the first. */
  readonly term: bigint
  /** The leader of the cluster as this node knows it, which may be the node itself. None of a node that is silent. */
  readonly leader: Option.Option<EtcdId.MemberId>
  /** Since when the node has had this role in this term, or was found silent. */
  readonly since: DateTime.Utc
  /** The node's own id, once known. */
  readonly member: Option.Option<EtcdId.MemberId>
}

/**
 * The part of the answer to etcd's `Status` call that tells of the role.
 *
 * @category models
 * @since 0.1.0
 */
export interface Status {
  /** The member that answers. */
  readonly memberId: bigint
  /** The member that it takes for the leader; 0 if it knows none. */
  readonly leader: bigint
  /**
   * The term of the last entry that the member has applied, and not the one that it is in: a member that has just been
   * elected answers with an earlier one. The header of the answer has the same, read before the leader was.
   */
  readonly raftTerm: bigint
}

/**
 * Anything that has a role, such as an `EtcdProcess`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Node {
  /** The role that it has now, and whenever that changes. */
  readonly role: SubscriptionRef.SubscriptionRef<State>
}

/**
 * The state of a node of which nothing is known yet: stopped, at term 0. It is where a fold begins, as that of
 * {@link fold}.
 *
 * @example
 * ```ts
 * import { DateTime, Effect } from "effect"
 * import { EtcdLog, Role } from "effect-etcd"
 *
 * const roleAfter = (lines: ReadonlyArray<string>) =>
 *   Effect.map(DateTime.now, (now) => lines.map(EtcdLog.parse).reduce(Role.fold, Role.initial(now)).role)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const initial = (now: DateTime.Utc): State =>
  Json.answer<State>({
    role: "stopped",
    term: 0n,
    leader: Option.none(),
    since: now,
    member: Option.none()
  })

const sameLeader = Option.makeEquivalence<EtcdId.MemberId>((a, b) => a === b)

const isOwn = (state: State, member: bigint): boolean => Option.isNone(state.member) || state.member.value === member

// A new process may have lost its data and start again at term 0.
const isPast = (state: State, term: bigint): boolean => state.role !== "stopped" && term < state.term

/** The next state, or the same object if nothing is different. */
const next = (
  state: State,
  role: Role,
  term: bigint,
  leader: Option.Option<EtcdId.MemberId>,
  member: Option.Option<EtcdId.MemberId>,
  time: Option.Option<DateTime.Utc>
): State => {
  const changed = state.role !== role || state.term !== term
  if (!changed && sameLeader(state.leader, leader) && sameLeader(state.member, member)) {
    return state
  }
  return Json.answer({
    role,
    term,
    leader,
    member,
    since: changed ? Option.getOrElse(time, () => state.since) : state.since
  })
}

/**
 * What raft lets a node become within a term, by what it is. A term begins for a node when it becomes a candidate, which
 * takes it to the next one, or a follower, when it hears of it. It leads a term at most once, and only as the candidate
 * of that term; a pre-candidate asks whether it may begin the next one.
 *
 * A line that says something else is one that has been read before: etcd can be told to print each to two pipes, which
 * are read in any order.
 */
const withinTerm: Readonly<Record<EtcdLog.RaftRole, ReadonlyArray<EtcdLog.RaftRole>>> = {
  candidate: ["leader", "follower", "pre-candidate"],
  leader: ["follower"],
  follower: ["pre-candidate"],
  "pre-candidate": ["follower"]
}

// Into a later term a node may come by lines that were not read, so every role is taken there, as it is from a new
// process.
const mayBecome = (state: State, role: EtcdLog.RaftRole, term: bigint): boolean =>
  state.role === "stopped" ||
  term > state.term ||
  (term === state.term && (role === state.role || withinTerm[state.role].includes(role)))

const leaderAfter = (state: State, event: EtcdLog.RoleChange): Option.Option<EtcdId.MemberId> => {
  switch (event.role) {
    case "leader":
      return Option.some(event.member)
    case "follower":
      return state.term === event.term
        ? Option.filter(state.leader, (leader) => leader !== event.member)
        : Option.none()
    default:
      return Option.none()
  }
}

const foldRole = (state: State, event: EtcdLog.RoleChange): State =>
  isOwn(state, event.member) && mayBecome(state, event.role, event.term)
    ? next(state, event.role, event.term, leaderAfter(state, event), Option.some(event.member), event.time)
    : state

// Who campaigns knows no leader, and who leads knows itself.
const foldLeader = (state: State, event: EtcdLog.LeaderChange): State =>
  state.role === "follower" && isOwn(state, event.member) && event.term === state.term
    ? next(state, state.role, state.term, event.leader, state.member, event.time)
    : state

/**
 * Takes one event of the node's log into the state. The own member id is learned from the log as well; events about
 * another member change nothing, and neither does what raft cannot do: a role of an older term, a candidate that leads or
 * has led that term, a leader that was not its candidate. So a line that is read twice does not make a node lead twice.
 * If nothing changes, the result is the same object. A line without a time leaves `since` as it was.
 *
 * @example
 * ```ts
 * import { Effect, Stream, DateTime } from "effect"
 * import { EtcdLog, Role } from "effect-etcd"
 *
 * // Every state that a recorded log went through.
 * const replay = (log: Stream.Stream<Uint8Array>, start: DateTime.Utc) =>
 *   log.pipe(EtcdLog.decode, Stream.scan(() => Role.initial(start), Role.fold), Stream.runCollect)
 * ```
 *
 * @category folding
 * @since 0.1.0
 */
export const fold: {
  (event: EtcdLog.Event): (state: State) => State
  (state: State, event: EtcdLog.Event): State
} = dual(2, (state: State, event: EtcdLog.Event): State => {
  switch (event._tag) {
    case "RoleChange":
      return foldRole(state, event)
    case "LeaderChange":
      return foldLeader(state, event)
    case "LocalMember":
      return next(state, state.role, state.term, state.leader, Option.some(event.member), Option.none())
    default:
      return state
  }
})

/**
 * The node's process has ended. Term and member id stay, the leader is forgotten.
 *
 * @example
 * ```ts
 * import { DateTime, Effect } from "effect"
 * import { Role } from "effect-etcd"
 *
 * const afterExit = (state: Role.State) => Effect.map(DateTime.now, (now) => Role.stopped(state, now))
 * ```
 *
 * @category folding
 * @since 0.1.0
 */
export const stopped: {
  (now: DateTime.Utc): (state: State) => State
  (state: State, now: DateTime.Utc): State
} = dual(
  2,
  (state: State, now: DateTime.Utc): State =>
    next(state, "stopped", state.term, Option.none(), state.member, Option.some(now))
)

// Who has followed in a term does not lead it afterwards; it has applied nothing of the term that it leads.
const leadsLaterTerm = (state: State, status: Status): boolean =>
  status.leader === status.memberId &&
  status.raftTerm === state.term &&
  (state.role === "follower" || state.role === "pre-candidate")

const roleFromStatus = (state: State, status: Status): Role => {
  if (status.leader === status.memberId) {
    return "leader"
  }
  const campaigns = state.role === "candidate" || state.role === "pre-candidate"
  return status.leader === 0n && campaigns && status.raftTerm === state.term ? state.role : "follower"
}

/**
 * Takes the answer to a `Status` call into the state. An answer of an older term, or from another member, changes
 * nothing, unless the node is stopped: a new process may have other data. `state` is to be the one that held when the
 * question was asked: if a log line has changed it meanwhile, that line is newer than the answer, and the answer is to
 * be dropped.
 *
 * A status does not tell whether a node that knows no leader campaigns; such a node keeps the role of candidate or
 * pre-candidate that it has in the same term, and is a follower otherwise.
 *
 * Nor does it tell the term that a node leads, only that of the last entry which it has applied. A node that has followed
 * in a term does not lead it any more, so an answer that seems to say that changes nothing; the next will tell the term.
 * A node of which nothing was known, or that has applied entries of other leaders meanwhile, may seem to lead a term that
 * it does not: ask twice.
 *
 * @example
 * ```ts
 * import { DateTime, Effect, Option } from "effect"
 * import { EtcdMaintenance, Role } from "effect-etcd"
 *
 * const look = (state: Role.State) =>
 *   Effect.gen(function*() {
 *     const { header, leader, raftTerm } = yield* EtcdMaintenance.status()
 *     const status = { memberId: header.memberId, leader: Option.getOrElse(leader, () => 0n), raftTerm }
 *     return Role.fromStatus(state, status, yield* DateTime.now)
 *   })
 * ```
 *
 * @category folding
 * @since 0.1.0
 */
export const fromStatus: {
  (status: Status, now: DateTime.Utc): (state: State) => State
  (state: State, status: Status, now: DateTime.Utc): State
} = dual(3, (state: State, status: Status, now: DateTime.Utc): State => {
  const isAnother = state.role !== "stopped" && !isOwn(state, status.memberId)
  if (isAnother || isPast(state, status.raftTerm) || leadsLaterTerm(state, status)) {
    return state
  }
  return next(
    state,
    roleFromStatus(state, status),
    status.raftTerm,
    status.leader === 0n ? Option.none() : Option.some(EtcdId.MemberId(status.leader)),
    Option.some(EtcdId.MemberId(status.memberId)),
    Option.some(now)
  )
})

const sameRole = (a: State, b: State): boolean => a.role === b.role && a.term === b.term

/**
 * The role of the node: first the current one, then each change of role or term. None is lost, however slow the
 * consumer is; what it has not taken yet waits in memory. A change of nothing but the leader's id is not repeated here
 * (use `SubscriptionRef.changes(node.role)` for that). The stream does not end by itself, since a stopped node may come
 * back.
 *
 * @example
 * ```ts
 * import { Console, Stream } from "effect"
 * import { Role } from "effect-etcd"
 *
 * const untilStopped = (node: Role.Node) =>
 *   Role.changes(node).pipe(
 *     Stream.takeUntil((state) => state.role === "stopped"),
 *     Stream.runForEach((state) => Console.log(`${state.role} at term ${state.term}`))
 *   )
 * ```
 *
 * @category observing
 * @since 0.1.0
 */
export const changes = (node: Node): Stream.Stream<State> =>
  Stream.changesWith(SubscriptionRef.changes(node.role), sameRole)

const awaitState = (node: Node, holds: (state: State) => boolean): Effect.Effect<State> =>
  SubscriptionRef.changes(node.role).pipe(
    Stream.filter(holds),
    Stream.runHead,
    Effect.flatMap(
      Option.match({
        onNone: () => Effect.never,
        onSome: Effect.succeed
      })
    )
  )

const isInterrupted = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)

/**
 * Runs the effect while the node leads.
 *
 * It starts as soon as the node leads (at once, if it does already). If the node stops leading, the effect is
 * interrupted, and it is run again the next time that the node leads; two runs never overlap, for the next one waits
 * until the finalizers of the one before are through. If the effect ends otherwise than by that interruption, so does
 * `whileLeader`, with the same result; a finalizer that fails is such an end. So an effect that never ends by itself
 * serves for as long as the caller lets it, and a finite one is carried through once by a leader.
 *
 * Leading at another term counts as another leadership. One that a silence has hidden is gone on with at the same term,
 * by another run. If the node never leads again, because it was stopped for good, `whileLeader` waits; run it in the
 * scope of the node. How long the effect may run on beside that of another leader is said at the top of this module.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { Role } from "effect-etcd"
 *
 * const cleanUp = Effect.log("removing what has expired").pipe(Effect.repeat(Schedule.spaced("1 minute")))
 *
 * const program = (node: Role.Node) => Role.whileLeader(node, cleanUp).pipe(Effect.forkScoped)
 * ```
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdTxn, Role } from "effect-etcd"
 *
 * // With a fence: once another leader has begun, nothing that this one still tries has an effect.
 * const work = Effect.gen(function*() {
 *   const { header } = yield* EtcdKv.put("fence", "")
 *   return yield* EtcdTxn.commit(EtcdTxn.make({
 *     compare: [EtcdTxn.modRevision("fence").equals(header.revision)],
 *     success: [EtcdTxn.put("paid/42", "yes")]
 *   }))
 * })
 *
 * const program = (node: Role.Node) => Role.whileLeader(node, work)
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const whileLeader: {
  <A, E, R>(effect: Effect.Effect<A, E, R>): (node: Node) => Effect.Effect<A, E, R>
  <A, E, R>(node: Node, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R>
} = dual(
  2,
  Effect.fnUntraced(function* <A, E, R>(node: Node, effect: Effect.Effect<A, E, R>): Effect.fn.Return<A, E, R> {
    while (true) {
      const leadership = yield* awaitState(node, (state) => state.role === "leader")
      const lost = awaitState(node, (state) => !sameRole(state, leadership))
      // A race leaves out how the one ended that it interrupts: a finalizer may have failed.
      const work: { end?: Exit.Exit<A, E> } = {}
      const isLost = yield* Effect.raceFirst(
        Effect.as(
          Effect.exit(Effect.onExit(effect, (exit) => Effect.sync(() => Object.assign(work, { end: exit })))),
          false
        ),
        Effect.as(lost, true)
      )
      if (work.end !== undefined && !(isLost && isInterrupted(work.end))) {
        return yield* work.end
      }
    }
  })
)

/**
 * What {@link onTransition} calls.
 *
 * @category models
 * @since 0.1.0
 */
export interface Callbacks<R1 = never, R2 = never, R3 = never> {
  /** The node has become the leader, of whichever term. Default: nothing, as of the other two. */
  readonly onLeader?: ((state: State) => Effect.Effect<unknown, unknown, R1>) | undefined
  /** The node has become a follower and was none before. A follower that only learns of a new term stays one. */
  readonly onFollower?: ((state: State) => Effect.Effect<unknown, unknown, R2>) | undefined
  /** The role or the term is another one, whichever. It is called in addition to the other two. */
  readonly onChange?: ((state: State) => Effect.Effect<unknown, unknown, R3>) | undefined
}

const leads = (state: State): boolean => state.role === "leader"

const becameFollower = (previous: Option.Option<State>, state: State): boolean =>
  state.role === "follower" && Option.match(previous, { onNone: () => true, onSome: ({ role }) => role !== "follower" })

const reportFailure = (name: keyof Callbacks, state: State) => (cause: Cause.Cause<unknown>) =>
  Cause.hasInterruptsOnly(cause)
    ? Effect.void
    : Effect.logError(`${name} failed`, cause).pipe(Effect.annotateLogs({ role: state.role, term: String(state.term) }))

/**
 * Calls back on each transition of the node's role, beginning with the role that it has now, until the scope closes.
 *
 * Each call is a fiber of its own in that scope. They are started in the order of the transitions, and none is left
 * out. The next transition neither waits for a callback that still runs nor interrupts it: it runs to its end, unless
 * the scope closes before. For work that is to stop with the role, use {@link whileLeader}. A callback that fails or
 * dies is logged as an error, with its cause, and stops nothing else.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { Role } from "effect-etcd"
 *
 * const program = (node: Role.Node) =>
 *   Role.onTransition(node, {
 *     onLeader: (state) => Effect.log(`leading at term ${state.term}`),
 *     onFollower: () => Effect.log("following")
 *   })
 * ```
 *
 * @category running
 * @since 0.1.0
 */
export const onTransition: {
  <R1 = never, R2 = never, R3 = never>(
    callbacks: Callbacks<R1, R2, R3>
  ): (node: Node) => Effect.Effect<void, never, Scope.Scope | R1 | R2 | R3>
  <R1 = never, R2 = never, R3 = never>(
    node: Node,
    callbacks: Callbacks<R1, R2, R3>
  ): Effect.Effect<void, never, Scope.Scope | R1 | R2 | R3>
} = dual(
  2,
  Effect.fnUntraced(function* <R1, R2, R3>(
    node: Node,
    callbacks: Callbacks<R1, R2, R3>
  ): Effect.fn.Return<void, never, Scope.Scope | R1 | R2 | R3> {
    const call = <R>(
      name: keyof Callbacks,
      callback: ((state: State) => Effect.Effect<unknown, unknown, R>) | undefined,
      state: State
    ): Effect.Effect<void, never, R | Scope.Scope> =>
      callback === undefined
        ? Effect.void
        : Effect.suspend(() => callback(state)).pipe(
            Effect.catchCause(reportFailure(name, state)),
            Effect.forkScoped,
            Effect.asVoid
          )

    // Subscribed before this returns, so that no later transition is missed.
    const subscription = yield* PubSub.subscribe(node.role.pubsub)
    yield* Stream.fromSubscription(subscription).pipe(
      Stream.changesWith(sameRole),
      Stream.zipWithPrevious,
      Stream.runForEach(
        Effect.fnUntraced(function* ([previous, state]: [Option.Option<State>, State]) {
          if (leads(state)) {
            yield* call("onLeader", callbacks.onLeader, state)
          }
          if (becameFollower(previous, state)) {
            yield* call("onFollower", callbacks.onFollower, state)
          }
          yield* call("onChange", callbacks.onChange, state)
        })
      ),
      Effect.forkScoped
    )
  })
)
