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
 * Nothing at all must have come from a member for it to be silent. And no call is sent on more often than there are
 * endpoints: what takes long to read takes long everywhere, and must be answered in the end.
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
import { type Holder, TransportError } from "../grpc/Transport.ts"
import * as Time from "../time.ts"
import type { Attempt } from "./attempt.ts"
import type { Engine } from "./engine.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"
import type * as View from "./view.ts"

/** How long a call may be out before the members are asked, besides two round trips, in milliseconds. */
const longMillis = 300

/** After so long a member is asked how things are whose last word is old. */
const firstMillis = 100

/** How long a member may leave a question unanswered that takes nothing to answer, besides two round trips. */
const silentMillis = 400

/** How often calls are looked at. */
const lookMillis = 25

/** A look that is so late was kept from it. */
const standstillMillis = 8 * lookMillis

/** How long what came meanwhile may take to be read. */
const readingMillis = 1000

/** A question is asked again after this part of the time for which the oldest call has been out. */
const askAgainAfter = 1 / 20
const longestAskMillis = 1000

/** How long the answer to a question is waited for. */
const answerMillis = 1000

/** How often it is asked in a row who leads, where nobody is found who does. */
const mostSearches = 40
const longestSearchMillis = 1000

/** A question that was not answered yet. */
interface Question {
  readonly holder: Holder
  readonly askedAt: number
  /** Since when nothing has come over the connection, and how much had come by then. */
  since: number
  heard: number
}

export interface Inquiry {
  /** Whether calls are being looked at. */
  isWatching: boolean
  /** When that was done last. */
  lookedAt: number
  /** Not before this time are the members asked again. */
  askAt: number
  /** Not before this time is a call ended because it has been out for too long: what had come in time is being read. */
  endAt: number
  /** Whose time was up before this is ended even so: this process has stood still again, and had read since. */
  overAt: number
  /** When it was seen that this process had stood still, for the first time in about as long as reading may take. */
  stoodAt: number
  /** The connections whose members have not answered the first question since their last answer. */
  readonly asked: Map<Subchannel.Link, Question>
  /** The connections that a question is on its way over, and the members that are connected to for one. */
  readonly asking: Set<Subchannel.Link | Subchannel.Subchannel>
  /** Whether the leader is being looked for. */
  isSeeking: boolean
}

export const make = (): Inquiry => ({
  isWatching: false,
  lookedAt: 0,
  askAt: 0,
  endAt: 0,
  overAt: Number.NEGATIVE_INFINITY,
  stoodAt: Number.NEGATIVE_INFINITY,
  asked: new Map(),
  asking: new Set(),
  isSeeking: false
})

// ── asking ──

const askOver = (engine: Engine, link: Subchannel.Link): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { environment, inquiry } = engine
    const { connection, roundTrip, subchannel } = link
    const now = environment.time.now()
    const question: Question = {
      holder: { begun: undefined },
      askedAt: now,
      since: now,
      heard: connection.bytesHeard()
    }
    if (!inquiry.asked.has(link)) inquiry.asked.set(link, question)
    const options = { timeoutMillis: answerMillis + 2 * roundTrip, holder: question.holder }
    return Effect.match(Subchannel.ask(link, environment, options), {
      onFailure: ({ processed }) => {
        // It has not left: the member does not know of it.
        if (processed === "no" && inquiry.asked.get(link) === question) inquiry.asked.delete(link)
      },
      onSuccess: (view) => {
        inquiry.asked.delete(link)
        link.roundTrip = Math.min(link.roundTrip, environment.time.now() - question.askedAt)
        link.isMeasured = true
        // Whoever tells nobody may be no etcd at all.
        if (view === undefined && link.isReserved) subchannel.evadedAt = environment.time.now()
        if (view === undefined || Subchannel.belongs(environment, link, view.clusterId, "no") !== undefined) return
        subchannel.view = view
        viewed(engine)
      }
    })
  })

/** Asks a member who leads, unless it is being asked. One that is not connected is asked by connecting to it. */
const ask = (engine: Engine, subchannel: Subchannel.Subchannel, link: Subchannel.Link | undefined): void => {
  const { environment, inquiry } = engine
  const way = link ?? subchannel
  if (inquiry.asking.has(way)) return
  inquiry.asking.add(way)
  const asking =
    link === undefined ? Effect.ignore(Subchannel.acquire(subchannel, environment, false)) : askOver(engine, link)
  const done = Effect.sync(() => inquiry.asking.delete(way))
  Subchannel.fork(environment, Effect.ensuring(asking, done))
}

const askAll = (engine: Engine): void => {
  for (const subchannel of Selection.all(engine.selection)) ask(engine, subchannel, subchannel.link)
}

// ── what the answers show ──

/** Counts the silence of those who have been asked from the last that came, and not before the question has left. */
const listen = ({ environment, inquiry }: Engine, now: number): void => {
  for (const [link, question] of inquiry.asked) {
    if (!environment.links.has(link)) inquiry.asked.delete(link)
    const heard = link.connection.bytesHeard()
    if (heard === question.heard && question.holder.begun?.isSent === true) continue
    question.heard = heard
    question.since = now
  }
}

/** What the endpoints' members have said since then of who leads. What another cluster says is none of this one's. */
const told = ({ environment, selection }: Engine, since: number): ReadonlyArray<View.View> =>
  Selection.all(selection).flatMap(({ view }) =>
    view !== undefined &&
    view.at >= since &&
    view.leader !== undefined &&
    view.clusterId === environment.identity.clusterId
      ? [view]
      : []
  )

const hasLeader = (view: View.View): boolean => view.leader !== undefined && view.leader !== 0n

/** Whether the leader that one view knows came after the one that the other knew. */
const isNewer = (view: View.View, than: View.View): boolean =>
  hasLeader(view) &&
  (view.term > than.term || (view.term === than.term && hasLeader(than) && view.leader !== than.leader))

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
  /** Whether the others, as many as have told, have all lost the leader. */
  readonly isLeaderLost: boolean
  readonly isSilent: boolean
  /** Whether it is silent while another member knows a leader, or answers at least, and does not tell. */
  readonly isLeft: boolean
}

const find = (engine: Engine, link: Subchannel.Link, now: number): Findings => {
  const { subchannel } = link
  const last = subchannel.view
  const views = told(engine, now - recentMillis)
  const own = last !== undefined && last.at >= now - recentMillis ? last : undefined
  const others = views.filter(({ memberId }) => memberId !== last?.memberId)
  const asked = engine.inquiry.asked.get(link)
  const isEvaded = Selection.all(engine.selection).some(
    (other) => other !== subchannel && other.evadedAt >= now - recentMillis
  )
  const isSilent = asked !== undefined && now - asked.since >= silentMillis + 2 * link.roundTrip
  return {
    last,
    own,
    newest: newestOf(own === undefined ? views : [...views, own]),
    isLeaderLost: others.length > 0 && others.every(({ leader }) => leader === 0n),
    isSilent,
    isLeft: isSilent && (isEvaded || others.some(hasLeader))
  }
}

const describeLeader = ({ leader, memberId, term }: View.View): string =>
  `the member ${format(memberId)} says that ${format(leader ?? 0n)} leads in term ${term}`

/** Why a call will not be answered by the member that has it, as far as is known. */
const evidence = (attempt: Attempt, { isLeaderLost, isSilent, last, newest, own }: Findings): string | undefined => {
  const then = attempt.view
  // Behind a load balancer it may be another member that answers.
  const itself = own?.memberId === then?.memberId ? own : undefined
  if (then !== undefined) {
    // Two members that name different leaders in the same term: one of them is behind, and it may be the other one.
    const after = newest !== undefined && newest.term > then.term ? newest : itself
    if (after !== undefined && isNewer(after, then)) {
      return `the leader has changed while the call was under way (${describeLeader(after)})`
    }
  }
  if (newest !== undefined && last !== undefined && isSilent && newest.term > last.term) {
    return `the member does not answer, and the leader has changed since it did (${describeLeader(newest)})`
  }
  if (then === undefined || !hasLeader(then)) return undefined
  if (itself?.leader === 0n) return "the member has lost its leader while the call was under way"
  if (isSilent && isLeaderLost && then.leader === then.memberId) {
    return "the member, which led, does not answer, and the others have lost it"
  }
  return undefined
}

// ── ending calls ──

const isSent = (attempt: Attempt): boolean => attempt.begun?.isSent === true

const end = ({ begun }: Attempt, kind: TransportError["kind"], code: number, message: string): void => {
  if (begun === undefined) return
  const { isSent, waitsFor: waitedFor } = begun
  begun.end(new TransportError({ kind, code, message, processed: isSent ? "unknown" : "no", waitedFor }))
}

const move = (attempt: Attempt, kind: TransportError["kind"], why: string): void => {
  attempt.isMoved = true
  end(attempt, kind, 14, why)
}

const subchannelOfMember = ({ selection }: Engine, memberId: bigint | undefined): Subchannel.Subchannel | undefined =>
  Selection.all(selection).find(({ view }) => view?.memberId === memberId)

/** The next calls go to who leads now or, where that is no endpoint, to who knows it. */
const turnTo = (engine: Engine, newest: View.View | undefined, now: number): void => {
  if (newest === undefined || engine.selection.policy === "spread") return
  const subchannel = subchannelOfMember(engine, newest.leader) ?? subchannelOfMember(engine, newest.memberId)
  if (subchannel !== undefined && subchannel.avoidUntil <= now) engine.selection.current = subchannel
}

const silence = "the member does not even answer who leads, and others do"

/** Whether the call can be sent on: what certainly was not applied, and not for ever. */
const mayMove = ({ selection }: Engine, attempt: Attempt): boolean =>
  (attempt.call.kind === "read" || !isSent(attempt)) && attempt.past.moves < Selection.all(selection).length

/** Draws the conclusions for the calls that a member has. */
const judge = (engine: Engine, link: Subchannel.Link, attempts: ReadonlyArray<Attempt>, now: number): void => {
  const findings = find(engine, link, now)
  for (const attempt of attempts) {
    // The end of one may be that of others.
    if (!attempt.isUnderWay) continue
    const { call, past } = attempt
    const why = evidence(attempt, findings)
    // What was decided before the change is answered in these moments.
    attempt.doubtedAt = why === undefined ? undefined : (attempt.doubtedAt ?? now)
    if (why !== undefined && now - attempt.doubtedAt! >= lookMillis) {
      turnTo(engine, findings.newest, now)
      if (mayMove(engine, attempt)) move(attempt, "LeaderLost", why)
      else if (call.kind === "write" && isSent(attempt)) end(attempt, "LeaderLost", 14, why)
    } else if (
      findings.isLeft &&
      mayMove(engine, attempt) &&
      Selection.hasOther(engine.selection, call, past, link.subchannel)
    ) {
      move(attempt, "ConnectionLost", silence)
    }
  }
}

/** Leaves a member that is silent while others answer. */
const leaveSilent = (engine: Engine, link: Subchannel.Link, now: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (link.retired || !find(engine, link, now).isLeft) return Effect.void
    // A write waits on: it ends with an answer, with evidence, or when the connection shows no sign of life.
    link.connection.probe()
    return Effect.andThen(Subchannel.blame(link.subchannel, engine.environment, undefined), Subchannel.abandon(link))
  })

// ── calls that are out for long ──

/** What has been out for so long. */
const olderThan = (link: Subchannel.Link, millis: number, now: number): ReadonlyArray<Attempt> => {
  const attempts: Array<Attempt> = []
  let attempt = link.first
  while (attempt !== undefined && now - attempt.sentAt >= millis) {
    attempts.push(attempt)
    attempt = attempt.next
  }
  return attempts
}

/**
 * A call is measured by what its member knew when it was sent. Where that is not known, the member's next word counts,
 * which comes soon after.
 */
const takeBearings = (engine: Engine, link: Subchannel.Link, attempts: ReadonlyArray<Attempt>): void => {
  const { subchannel } = link
  for (const attempt of attempts) {
    const { sentAt, view } = attempt
    if (view?.leader !== undefined) continue
    const own = subchannel.view
    if (own === undefined || own.at < sentAt || own.leader === undefined) ask(engine, subchannel, link)
    else if (view === undefined || view.term === own.term) attempt.view = own
  }
}

/** Looks at the calls of a connection, and answers for how long the oldest has been out that makes one wonder. */
const lookAt = (engine: Engine, link: Subchannel.Link, now: number): number => {
  const travel = 2 * link.roundTrip
  const age = link.first === undefined ? 0 : now - link.first.sentAt
  if (!link.isMeasured && age >= firstMillis) ask(engine, link.subchannel, link)
  const old = olderThan(link, firstMillis + travel, now)
  if (old.length === 0) return 0
  const { endAt, overAt } = engine.inquiry
  const limit = now >= endAt ? now : overAt
  for (const attempt of old) {
    const { deadlineAt, isTimed } = attempt.call
    if (attempt.isUnderWay && !isTimed && deadlineAt <= limit) end(attempt, "Deadline", 4, "too late")
  }
  const left = old.filter(({ begun, call }) => begun !== undefined && !call.method.takesLong)
  takeBearings(engine, link, left)
  const long = left.filter(({ sentAt }) => now - sentAt >= longMillis + travel)
  if (long.length === 0) return 0
  judge(engine, link, long, now)
  return now - long[0]!.sentAt
}

/** Looks at all calls under way, and answers whether there are any. */
const look = (engine: Engine): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    const { environment, inquiry } = engine
    const now = environment.time.now()
    listen(engine, now)
    const links = [...environment.links].filter((link) => link.first !== undefined)
    // Not from the last call: what came after it may be no more than that it has arrived.
    for (const link of links) Subchannel.listen(link, now)
    const ages = links.map((link) => lookAt(engine, link, now))
    const oldest = Math.max(0, ...ages)
    if (oldest === 0) {
      for (const link of inquiry.asked.keys()) if (!inquiry.asking.has(link)) inquiry.asked.delete(link)
      inquiry.askAt = 0
      return links.length > 0
    }
    for (const link of [...inquiry.asked.keys()]) yield* leaveSilent(engine, link, now)
    if (now >= inquiry.askAt) {
      inquiry.askAt = now + Math.min(oldest * askAgainAfter, longestAskMillis)
      for (const [index, link] of links.entries()) if (ages[index]! > 0) ask(engine, link.subchannel, link)
      askAll(engine)
    }
    return true
  })

/** This process did not listen until now. */
const stoodStill = ({ environment, inquiry }: Engine, now: number): void => {
  for (const question of inquiry.asked.values()) question.since = now
  for (const link of environment.links) link.quietSince = now
  inquiry.endAt = now + readingMillis
  if (now < inquiry.stoodAt + readingMillis) return
  inquiry.overAt = inquiry.stoodAt
  inquiry.stoodAt = now
}

const watchCalls = (engine: Engine): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { environment, inquiry } = engine
    let before: number
    do {
      before = environment.time.now()
      yield* Time.sleep(environment.time, lookMillis)
      yield* Time.reading
      const now = environment.time.now()
      if (now - before > standstillMillis) stoodStill(engine, now)
      inquiry.lookedAt = now
    } while (yield* look(engine))
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        engine.inquiry.isWatching = false
      })
    )
  )

/** A call is being sent: from now on it is looked after. */
export const notice = (engine: Engine): void => {
  if (engine.inquiry.isWatching) return
  engine.inquiry.isWatching = true
  Subchannel.fork(engine.environment, watchCalls(engine))
}

/**
 * Whether a member has said nothing for longer than is usual. What counts is time in which calls were looked at: where they
 * were not, this process stood still, and neither has what it asked left nor what came been read.
 */
export const isQuiet = ({ environment, inquiry }: Engine, link: Subchannel.Link): boolean => {
  const now = environment.time.now()
  const until = inquiry.isWatching ? Math.min(now, inquiry.lookedAt + standstillMillis) : now
  return Subchannel.silence(link, until) >= longMillis
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
  const leader = subchannelOfMember(engine, newest.leader)
  if (leader === undefined) return views.length === Selection.all(selection).length
  if (leader.link === undefined || leader.avoidUntil > environment.time.now()) return false
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
  Subchannel.fork(engine.environment, seekLeader(engine))
}

/** There is a token: those who tell things only to whom they know may tell them now. */
export const introduced = (engine: Engine): void => {
  for (const link of engine.environment.links) if (link.isReserved && !link.retired) ask(engine, link.subchannel, link)
}

/** A member has told who leads. */
export const viewed = (engine: Engine): void => {
  const { environment, selection } = engine
  const { view } = selection.current
  if (selection.policy !== "leader" || view === undefined) return
  const now = environment.time.now()
  const newest = newestOf(told(engine, now - recentMillis))
  // A leader that is cut off from the others is the last to know that there is another one.
  if (newest !== undefined && newest.term > view.term && newest.leader !== view.memberId) turnTo(engine, newest, now)
  const used = selection.current.view
  if (used !== undefined && used.leader !== used.memberId) seek(engine)
}

/** An answer has shown that there was an election. */
export const termChanged = (engine: Engine): void => seek(engine)

/** A call has failed. If the leader is gone, there will be another one, or it comes back. */
export const failed = (engine: Engine, { view }: Subchannel.Subchannel, { reason }: EtcdError): void => {
  const led = view !== undefined && view.leader === view.memberId
  if (reason._tag === "NoLeader" || reason._tag === "LeaderChanged" || (led && blames(reason))) seek(engine)
}

const blames = ({ _tag }: EtcdError["reason"]): boolean =>
  _tag === "ConnectionLost" || _tag === "ServerStopped" || _tag === "Unreachable"
