/**
 * What is found out by asking the members, rather than by waiting for what they do not say.
 *
 * **Calls that are out for long.** When the leader dies, a follower keeps what it had sent on to it until etcd's own
 * timeout of some seconds, and a leader that is paused keeps everything. So when a call is out for longer than is usual,
 * the members are asked who leads, and in which term: the one that has the call, and the others. That a newer leader is
 * there, or that a member has lost the one that it had, is evidence that the call will not be answered, or only late;
 * and so is that a member says nothing while others do. Then what only reads is sent to another member, and so is what
 * had not left yet; a write that the member has ends with an unknown outcome, and is not sent again. Without such
 * evidence a call is left alone, however long it takes: a slow disk is no reason to leave a member.
 *
 * **Who leads**, for a client that keeps to the leader: it is asked for when the first connection is there, when an
 * answer shows a new term, and when the leader fails.
 *
 * And calls whose callers set no deadline are ended when they have been out for the default one.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type { EtcdError } from "../../EtcdError.ts"
import { format } from "../../EtcdId.ts"
import { TransportError } from "../grpc/Transport.ts"
import * as Time from "../time.ts"
import type { Call } from "./call.ts"
import type { Engine } from "./engine.ts"
import * as Selection from "./selection.ts"
import * as Session from "./session.ts"
import * as View from "./view.ts"

/** How long a call may be out before the members are asked, besides two round trips, in milliseconds. */
export const longMillis = 300

/** After so long a member is asked how things are whose last word is old. */
const firstMillis = 100

/** How long a member may leave a question unanswered that takes nothing to answer, besides two round trips. */
const silentMillis = 400

/** How often calls are looked at. */
const lookMillis = 25

/** A question is asked again after this part of the time for which the oldest call has been out. */
const askAgainAfter = 1 / 20
const longestAskMillis = 1000

/** How long the answer to a question is waited for. */
const answerMillis = 1000

/** How often it is asked in a row who leads, where nobody is found who does. */
const mostSearches = 40
const longestSearchMillis = 1000

export interface Inquiry {
  /** Whether calls are being looked at. */
  isWatching: boolean
  /** Not before this time are the members asked again. */
  askAt: number
  /** Since when a connection's member is being asked without an answer, and how many answers had come over it then. */
  readonly asked: Map<Session.Link, { readonly since: number; readonly answers: number }>
  /** The members that a question is on its way to. */
  readonly asking: Set<Session.Session>
  /** Whether the leader is being looked for. */
  isSeeking: boolean
}

export const make = (): Inquiry => ({
  isWatching: false,
  askAt: 0,
  asked: new Map(),
  asking: new Set(),
  isSeeking: false
})

// ── asking ──

const askOver = (engine: Engine, link: Session.Link): Effect.Effect<void, TransportError> =>
  Effect.suspend(() => {
    const { environment, inquiry } = engine
    return Effect.map(View.ask(link.connection, answerMillis, environment.time.now), (view) => {
      inquiry.asked.delete(link)
      if (view === undefined) return
      link.session.view = view
      viewed(engine)
    })
  })

/** Asks a member who leads, unless it is being asked. One that is not connected is asked by connecting to it. */
const ask = (engine: Engine, session: Session.Session, link: Session.Link | undefined): void => {
  const { environment, inquiry } = engine
  if (link !== undefined && !inquiry.asked.has(link)) {
    inquiry.asked.set(link, { since: environment.time.now(), answers: link.answers })
  }
  if (inquiry.asking.has(session)) return
  inquiry.asking.add(session)
  const asking =
    link === undefined ? Effect.asVoid(Session.acquire(session, environment, false)) : askOver(engine, link)
  const done = Effect.sync(() => inquiry.asking.delete(session))
  Session.fork(environment, Effect.ensuring(Effect.ignore(asking), done))
}

const askAll = (engine: Engine): void => {
  for (const session of Selection.all(engine.selection)) ask(engine, session, session.link)
}

// ── what the answers show ──

/** What the endpoints' members have said since then of who leads. */
const told = ({ selection }: Engine, since: number): ReadonlyArray<View.View> =>
  Selection.all(selection).flatMap(({ view }) =>
    view !== undefined && view.at >= since && view.leader !== undefined ? [view] : []
  )

const hasLeader = (view: View.View): boolean => view.leader !== undefined && view.leader !== 0n

/** Whether the leader that one view knows came after the one that the other knew. */
const isNewer = (view: View.View, than: View.View): boolean =>
  view.term > than.term || (view.term === than.term && hasLeader(than) && view.leader !== than.leader)

const newestOf = (views: ReadonlyArray<View.View>): View.View | undefined =>
  views
    .filter(hasLeader)
    .reduce<View.View | undefined>(
      (best, view) =>
        best === undefined || view.term > best.term || (view.term === best.term && view.at > best.at) ? view : best,
      undefined
    )

/** What a member said longer ago does not show that it lives, in milliseconds. */
const recentMillis = 2000

/** What is known of a member. */
interface Findings {
  /** What it said last, ever, and lately. */
  readonly last: View.View | undefined
  readonly own: View.View | undefined
  readonly newest: View.View | undefined
  /** Whether another member has lost the leader. */
  readonly isLeaderLost: boolean
  readonly isSilent: boolean
  /** Whether it is silent while another member knows a leader. */
  readonly isLeft: boolean
}

const find = (engine: Engine, link: Session.Link, now: number): Findings => {
  const { session } = link
  const last = session.view
  const views = told(engine, now - recentMillis)
  const own = last !== undefined && last.at >= now - recentMillis ? last : undefined
  const others = views.filter(({ memberId }) => memberId !== last?.memberId)
  const asked = engine.inquiry.asked.get(link)
  const isSilent =
    asked !== undefined && link.answers === asked.answers && now - asked.since >= silentMillis + 2 * link.roundTrip
  return {
    last,
    own,
    newest: newestOf(own === undefined ? views : [...views, own]),
    isLeaderLost: others.some(({ leader }) => leader === 0n),
    isSilent,
    isLeft: isSilent && others.some(hasLeader)
  }
}

const describeLeader = ({ leader, memberId, term }: View.View): string =>
  `the member ${format(memberId)} says that ${format(leader ?? 0n)} leads in term ${term}`

/** Why a call will not be answered by the member that has it, as far as is known. */
const evidence = (call: Call, { isLeaderLost, isSilent, last, newest, own }: Findings): string | undefined => {
  const then = call.view
  if (newest !== undefined && then !== undefined && isNewer(newest, then)) {
    return `the leader has changed while the call was under way (${describeLeader(newest)})`
  }
  if (newest !== undefined && last !== undefined && isSilent && isNewer(newest, last)) {
    return `the member does not answer, and the leader has changed since it did (${describeLeader(newest)})`
  }
  if (then === undefined || !hasLeader(then)) return undefined
  if (own?.leader === 0n) return "the member has lost its leader while the call was under way"
  if (isSilent && isLeaderLost && then.leader === then.memberId) {
    return "the member, which led, does not answer, and the others have lost it"
  }
  return undefined
}

// ── ending calls ──

const isSent = (call: Call): boolean => call.begun?.isSent === true

const end = (call: Call, kind: TransportError["kind"], code: number, message: string): void =>
  call.begun?.end(new TransportError({ kind, code, message, processed: isSent(call) ? "unknown" : "no" }))

const memberSession = ({ selection }: Engine, memberId: bigint | undefined): Session.Session | undefined =>
  Selection.all(selection).find(({ view }) => view?.memberId === memberId)

/** The next calls go to who leads now or, where that is no endpoint, to who knows it. */
const turnTo = (engine: Engine, newest: View.View | undefined, now: number): void => {
  if (newest === undefined || engine.selection.policy === "spread") return
  const session = memberSession(engine, newest.leader) ?? memberSession(engine, newest.memberId)
  if (session !== undefined && session.avoidUntil <= now) engine.selection.current = session
}

const silence = "the member does not even say who leads, and others do"

/** Draws the conclusions for the calls that a member has. */
const judge = (engine: Engine, link: Session.Link, calls: ReadonlyArray<Call>, now: number): void => {
  const findings = find(engine, link, now)
  for (const call of calls) {
    const why = evidence(call, findings)
    // What was decided before the change is answered in these moments.
    call.doubtedAt = why === undefined ? undefined : (call.doubtedAt ?? now)
    if (why !== undefined && now - call.doubtedAt! >= lookMillis) {
      turnTo(engine, findings.newest, now)
      end(call, "LeaderLost", 14, why)
    } else if (findings.isLeft && (call.kind === "read" || !isSent(call))) {
      end(call, "ConnectionLost", 14, silence)
    }
  }
}

/** Leaves a member that is silent while others answer. */
const leaveSilent = (engine: Engine, link: Session.Link, now: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (link.retired || !find(engine, link, now).isLeft) return Effect.void
    // A write waits on: it ends with an answer, with evidence, or when the connection shows no sign of life.
    link.connection.probe()
    return Effect.andThen(Session.blame(link.session, engine.environment, undefined), Session.abandon(link))
  })

// ── calls that are out for long ──

/** The calls that have been out for so long. */
const olderThan = (link: Session.Link, millis: number, now: number): ReadonlyArray<Call> => {
  const calls: Array<Call> = []
  for (let call = link.first; call !== undefined && now - call.sentAt >= millis; call = call.next) calls.push(call)
  return calls
}

/**
 * A call is measured by what its member knew when it was sent. Where that is not known, the member's next word counts,
 * which comes soon after.
 */
const takeBearings = (engine: Engine, link: Session.Link, calls: ReadonlyArray<Call>): void => {
  const { session } = link
  for (const call of calls) {
    const { view } = call
    if (view?.leader !== undefined) continue
    const own = session.view
    if (own === undefined || own.at < call.sentAt || own.leader === undefined) ask(engine, session, link)
    else if (view === undefined || view.term === own.term) call.view = own
  }
}

/** Looks at the calls of a connection, and answers for how long the oldest has been out that makes one wonder. */
const lookAt = (engine: Engine, link: Session.Link, now: number): number => {
  const travel = 2 * link.roundTrip
  const old = olderThan(link, firstMillis + travel, now)
  if (old.length === 0) return 0
  for (const call of old) if (!call.isTimed && call.deadlineAt <= now) end(call, "Deadline", 4, "too late")
  const calls = old.filter((call) => call.begun !== undefined && !call.takesLong)
  takeBearings(engine, link, calls)
  const long = calls.filter((call) => now - call.sentAt >= longMillis + travel)
  if (long.length === 0) return 0
  judge(engine, link, long, now)
  return now - long[0]!.sentAt
}

/** Looks at all calls under way, and answers whether there are any. */
const look = (engine: Engine): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    const { environment, inquiry } = engine
    const now = environment.time.now()
    const links = [...environment.links].filter((link) => link.first !== undefined)
    const ages = links.map((link) => lookAt(engine, link, now))
    const oldest = Math.max(0, ...ages)
    if (oldest === 0) {
      inquiry.asked.clear()
      inquiry.askAt = 0
      return links.length > 0
    }
    for (const link of [...inquiry.asked.keys()]) yield* leaveSilent(engine, link, now)
    if (now >= inquiry.askAt) {
      inquiry.askAt = now + Math.min(oldest * askAgainAfter, longestAskMillis)
      for (const [index, link] of links.entries()) if (ages[index]! > 0) ask(engine, link.session, link)
      askAll(engine)
    }
    return true
  })

const watchCalls = (engine: Engine): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { environment, inquiry } = engine
    let before: number
    do {
      before = environment.time.now()
      yield* Time.sleep(environment.time, lookMillis)
      yield* Time.reading
      // This process stood still, and so did those who would have told that they were asked.
      if (environment.time.now() - before > 8 * lookMillis) inquiry.asked.clear()
    } while (yield* look(engine))
    inquiry.isWatching = false
  })

/** A call is being sent: from now on it is looked after. */
export const notice = (engine: Engine): void => {
  if (engine.inquiry.isWatching) return
  engine.inquiry.isWatching = true
  Session.fork(engine.environment, watchCalls(engine))
}

// ── who leads ──

/**
 * Keeps to the leader, if somebody has told since then who that is, and it can be used. Answers whether the search is
 * over: also where all endpoints have told, and none of them leads.
 */
const follow = (engine: Engine, since: number): boolean => {
  const { environment, selection } = engine
  const views = told(engine, since)
  const newest = newestOf(views)
  if (newest === undefined) return false
  const leader = memberSession(engine, newest.leader)
  if (leader === undefined) return views.length === Selection.all(selection).length
  if (leader.avoidUntil > environment.time.now()) return false
  selection.current = leader
  return true
}

const seekLeader = (engine: Engine): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { environment, inquiry } = engine
    const since = environment.time.now()
    let pause = lookMillis
    for (let search = 0; search < mostSearches && !follow(engine, since); search++) {
      askAll(engine)
      yield* Time.sleep(environment.time, pause)
      pause = Math.min(pause * 1.2, longestSearchMillis)
    }
    inquiry.isSeeking = false
  })

/** The leader is another one, or is not known. */
const seek = (engine: Engine): void => {
  const { policy } = engine.selection
  if (policy !== "leader" || engine.inquiry.isSeeking || Selection.all(engine.selection).length === 1) return
  engine.inquiry.isSeeking = true
  Session.fork(engine.environment, seekLeader(engine))
}

/** A member has told who leads. */
export const viewed = (engine: Engine): void => {
  const { policy, current } = engine.selection
  if (policy === "leader" && current.view !== undefined && current.view.leader !== current.view.memberId) seek(engine)
}

/** An answer has shown that there was an election. */
export const termChanged = (engine: Engine): void => seek(engine)

/** A call has failed. If the leader is gone, there will be another one. */
export const failed = (engine: Engine, link: Session.Link, { reason }: EtcdError): void => {
  const { view } = link.session
  const led = view !== undefined && view.leader === view.memberId
  if (reason._tag === "NoLeader" || reason._tag === "LeaderChanged" || (led && blames(reason))) seek(engine)
}

const blames = ({ _tag }: EtcdError["reason"]): boolean => _tag === "ConnectionLost" || _tag === "ServerStopped"
