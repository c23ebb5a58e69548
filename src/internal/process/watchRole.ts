/**
 * The role of one run of the process, and whether it serves: from the lines of its log, and from what it answers when
 * it is asked.
 *
 * The log tells of each change, as long as there is somebody to write it. So a leader is asked for its `Status` as well,
 * four times in an election timeout. One that has answered no question that was put within the last election timeout is
 * *silent*: it is shown as a follower that knows no leader and does not serve, since raft may have another one by then.
 * A node that is silent and answers again serves at once. It leads again when it has said so for an election timeout,
 * for at first it does not know what it has missed.
 *
 * Nobody is silent who does not let this client in (TLS, a password): of such a node the log's word is all there is. And
 * time in which this process stood still is not the node's silence.
 *
 * Both references are the node's and outlive the run, so a run that has ended no longer writes to them: its last lines
 * may still be in the pipes.
 *
 * @internal
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdError from "../../EtcdError.ts"
import type * as EtcdLog from "../../EtcdLog.ts"
import * as Role from "../../Role.ts"
import * as Time from "../time.ts"

export interface Options {
  readonly role: SubscriptionRef.SubscriptionRef<Role.State>
  readonly ready: SubscriptionRef.SubscriptionRef<boolean>
  /** Gives what asks the node for its `Status`; a connection lives as long as the scope. */
  readonly connect: Effect.Effect<Effect.Effect<Role.Status, EtcdError.EtcdError>, EtcdError.EtcdError, Scope.Scope>
  readonly electionTimeout: Duration.Duration
  /** How often a node is asked at least. */
  readonly interval: Duration.Input
}

/** The role of one run. */
export interface WatchRole {
  /** Takes an event of the log. */
  readonly take: (event: EtcdLog.Event) => Effect.Effect<void>
  /**
   * The node serves: it has given this answer, to a question that was asked in this run. Term 0 where it has given none,
   * and this is what its log says.
   */
  readonly serves: (status: Role.Status) => Effect.Effect<void>
  /** Asks the node from time to time. It is for a node that serves, and to be interrupted with the run. */
  readonly watch: Effect.Effect<never>
  /** The process is about to be ended, or has ended: it serves no more. */
  readonly leaves: Effect.Effect<void>
  /** The process has ended. What comes after that changes nothing. */
  readonly ended: Effect.Effect<void>
}

/** Who elects faster than this is a test, on a machine where etcd may not get its turn for longer, in milliseconds. */
const shortestTimeout = 500

/** What counts as silence there. */
const silenceOfTests = 1000

/** What became of a question: an answer, an answer that says nothing of the role, or none. */
type Outcome = Role.Status | "withheld" | "silence"

/** Whether it may be the node's silence, rather than a refusal of this client. */
const isSilence = ({ reason }: EtcdError.EtcdError): boolean =>
  reason._tag === "DeadlineExceeded" ||
  reason._tag === "ConnectionLost" ||
  (reason._tag === "Unreachable" && reason.lasting !== true)

const sameState = (a: Role.State, b: Role.State): boolean =>
  a.role === b.role &&
  a.term === b.term &&
  a.since === b.since &&
  Option.getOrUndefined(a.leader) === Option.getOrUndefined(b.leader) &&
  Option.getOrUndefined(a.member) === Option.getOrUndefined(b.member)

/** Made before the process is spawned. */
export const make = (options: Options): WatchRole => {
  const { connect, ready, role } = options
  const electionTimeout = Duration.toMillis(options.electionTimeout)
  const bound = electionTimeout < shortestTimeout ? silenceOfTests : electionTimeout
  const interval = Duration.toMillis(Duration.fromInputUnsafe(options.interval))
  const pause = Math.min(bound / 4, interval)
  /** For so long an answer about a new leadership has to be the same: longer than it takes to apply an entry. */
  const settling = bound / 8
  /** Open while the node is to be asked often. */
  const leading = Latch.makeUnsafe(false)

  /** What raft says, by the log and by answers. */
  const first = SubscriptionRef.getUnsafe(role)
  let told = first
  /** Whether the log has said so. */
  let isLogged = false
  let silentSince: DateTime.Utc | undefined
  /** Since when a node that was silent answers again that it leads. */
  let again: number | undefined
  /** A leadership of which the log says nothing, since when it is claimed, and for how long it is not believed. */
  let claim: { readonly term: bigint; readonly since: number; readonly patience: number } | undefined
  /** Whether the node lets this client ask. */
  let hasAnswered = false
  let isLeaving = false
  let isOver = false

  const isLeaderByAnswers = () => told.role === "leader" && !isLogged

  const shown = (): Role.State =>
    silentSince === undefined || told.role === "stopped"
      ? told
      : told.role === "leader"
        ? { ...told, role: "follower", leader: Option.none(), since: silentSince }
        : { ...told, leader: Option.none() }

  /** Changes what is known, and shows it, in one step: lines and answers come from fibers of their own. */
  const update = (change: (now: DateTime.Utc) => void) =>
    Effect.flatMap(DateTime.now, (now) =>
      SubscriptionRef.updateSome(role, (before) => {
        if (!isOver) change(now)
        const after = shown()
        if (told.role === "leader") leading.openUnsafe()
        else leading.closeUnsafe()
        return isOver || sameState(before, after) ? Option.none() : Option.some(after)
      })
    )

  const setReady = (is: boolean) =>
    SubscriptionRef.updateSome(ready, (before) => (before === is || isLeaving ? Option.none() : Option.some(is)))

  /**
   * A leadership that only answers tell of. The term of an answer is that of the last entry which the node has applied,
   * and a new leader says that it leads before it has applied the first entry of its term. So the answer is believed
   * when later ones say the same. Where its term is one in which the node was known not to lead, which it cannot
   * lead afterwards, the next term is waited for; for an election timeout, after which what was known must be wrong.
   */
  const claims = (status: Role.Status, at: number, now: DateTime.Utc) => {
    if (claim?.term !== status.raftTerm) {
      const isNews = told.role === "stopped" || status.raftTerm > told.term
      claim = { term: status.raftTerm, since: at, patience: isNews ? settling : bound }
    }
    const claimed = at - claim.since
    if (told.role === "stopped") return Role.fromStatus(told, { ...status, leader: 0n }, now)
    if (status.raftTerm < told.term || claimed <= claim.patience) return told
    return Role.fromStatus(Role.stopped(told, now), status, now)
  }

  const answered = (status: Role.Status, asked: { readonly state: Role.State; readonly at: number }) =>
    update((now) => {
      const itself = status.leader === status.memberId
      const isKnown = told.role === "leader" && told.term === status.raftTerm
      // A line that came after the question is newer than the answer.
      if (told === asked.state) {
        told = itself && !isKnown ? claims(status, asked.at, now) : Role.fromStatus(told, status, now)
        if (told !== asked.state) isLogged = false
      }
      if (isKnown || !itself) claim = undefined
      if (silentSince === undefined) return
      again = itself ? (again ?? asked.at) : undefined
      // One that leads no more may not have said at which term it follows.
      const isBack = again === undefined ? told.role !== "leader" : asked.at - again >= bound
      if (isBack) heard(now)
    })

  /** It is silent no more. */
  const heard = (now: DateTime.Utc) => {
    silentSince = undefined
    again = undefined
    if (told.role === "leader") told = { ...told, since: now }
  }

  /** It is there, and says nothing of its role. Who is known to lead by answers alone is not known to any more. */
  const refused = update((now) => {
    if (isLeaderByAnswers()) told = { ...told, role: "follower", leader: Option.none(), since: now }
    if (silentSince !== undefined) heard(now)
    claim = undefined
  })

  /** It runs, and neither an answer nor a line has said as what. */
  const unknown = update((now) => {
    if (told.role === "stopped") told = { ...told, role: "follower", since: now }
  })

  const silent = update((now) => {
    silentSince ??= now
    again = undefined
    claim = undefined
  })

  const onOutcome = (outcome: Outcome, asked: { readonly state: Role.State; readonly at: number }) =>
    outcome === "silence"
      ? Effect.andThen(silent, setReady(false))
      : Effect.andThen(outcome === "withheld" ? refused : answered(outcome, asked), setReady(true))

  const asking = Effect.fnUntraced(function* (ask: Effect.Effect<Role.Status, EtcdError.EtcdError>) {
    const time = yield* Time.Time
    /** What it is if there is no answer in time. */
    let otherwise: Outcome = "silence"
    // A leader by its answers alone, which are now refused, is none before long.
    const tries: Effect.Effect<Outcome> = Effect.catch(ask, (error) => {
      if (!isSilence(error)) otherwise = "withheld"
      return otherwise === "withheld" && !isLeaderByAnswers()
        ? Effect.succeed(otherwise)
        : Effect.andThen(
            Time.sleep(time, pause),
            Effect.suspend(() => tries)
          )
    })
    /** How much of the election timeout is over when the question is put. */
    let over = pause
    while (true) {
      const asked = { state: told, at: time.now() }
      otherwise = "silence"
      const outcome = yield* Time.patiently(time, tries, bound - over, () => Effect.sync(() => otherwise))
      hasAnswered ||= typeof outcome === "object"
      if (hasAnswered) yield* onOutcome(outcome, asked)
      // Silence has lasted as long as the pause already.
      if (outcome === "silence") continue
      const took = time.now() - asked.at
      const isAskedOften = leading.isOpen() || silentSince !== undefined || claim !== undefined
      over = isAskedOften ? Math.min(Math.max(took, pause), bound - pause) : pause
      yield* isAskedOften
        ? Time.sleep(time, Math.max(pause - took, 0))
        : Effect.raceFirst(Time.sleep(time, interval), leading.await)
    }
  })

  return {
    take: (event) =>
      update(() => {
        const before = told
        told = Role.fold(before, event)
        if (told !== before) isLogged = true
      }),
    serves: (status) =>
      Effect.flatMap(Time.Time, (time) => {
        hasAnswered = status.raftTerm > 0n
        return hasAnswered ? answered(status, { state: first, at: time.now() }) : unknown
      }).pipe(Effect.andThen(setReady(true))),
    watch: Number.isFinite(interval)
      ? Effect.scoped(Effect.flatMap(connect, asking)).pipe(
          Effect.ignoreCause,
          Effect.andThen(Effect.flatMap(Time.Time, (time) => Time.sleep(time, interval))),
          Effect.forever
        )
      : Effect.never,
    leaves: Effect.andThen(
      setReady(false),
      Effect.sync(() => {
        isLeaving = true
      })
    ),
    ended: Effect.andThen(
      update((now) => {
        told = Role.stopped(told, now)
      }),
      Effect.sync(() => {
        isOver = true
      })
    )
  }
}
