/**
 * A line as this process sees it: one watch of the whole of it, however many entries of the process stand there.
 *
 * It lives as long as one of them does. Whoever waits is asked about each state of the line, in the order in which etcd had
 * them; and each entry is told when its own key is not there any more, so that it needs no watch of its own. A watch that
 * begins is served at once if it begins with what is still to come (see `deletion.ts`); so the line is read when a
 * server has taken it, and what it tells that was read already is left out.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as EtcdError from "../../EtcdError.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import type * as EtcdWatch from "../../EtcdWatch.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import { rangeAtLeast } from "./deletion.ts"
import * as Outage from "./outage.ts"
import type * as Session from "./session.ts"
import * as Standings from "./standings.ts"

/** An entry of this process, which is told when its key is gone, or cannot be seen any more. */
export interface Follower {
  readonly key: string
  readonly revision: bigint
  readonly onGone: () => void
  readonly onFailure: (error: EtcdError.EtcdError) => void
}

/** Somebody who waits for a state of the line. */
interface Waiter {
  /** The first revision that matters. */
  readonly from: bigint
  /** Asks about a state; what it is told ends the wait. */
  readonly ask: (state: Standings.State) => boolean
  readonly fail: (error: EtcdError.EtcdError) => void
}

export interface View {
  readonly session: Session.Session
  readonly name: string
  /** The key beside the line. */
  readonly besideKey: string
  readonly followers: Map<string, Follower>
  readonly waiters: Set<Waiter>
  /** Open as soon as somebody waits. */
  readonly wanted: Latch.Latch
  /** Who stands there, in their order: nobody ever comes in before somebody else. */
  readonly standings: Map<string, Standings.Standing>
  beside: KeyValue | undefined
  /** Undefined where nothing is known yet. */
  state: Standings.State | undefined
  /** Why it ended. */
  failure: EtcdError.EtcdError | undefined
  watching: Fiber.Fiber<void> | undefined
}

/** What is over before that is not worth a watch. */
const shortMillis = 20

// ── what is known ──

const isGone = ({ standings, state }: View, { key, revision }: Follower): boolean =>
  state !== undefined && state.revision >= revision && standings.get(key)?.revision !== revision

/** All that is to be known of a revision is known. */
const publish = (view: View, revision: bigint, touched: Iterable<string>): void => {
  const state = { revision, standings: [...view.standings.values()], beside: view.beside }
  view.state = state
  for (const key of touched) {
    const follower = view.followers.get(key)
    if (follower !== undefined && isGone(view, follower)) follower.onGone()
  }
  for (const waiter of view.waiters) {
    if (waiter.from <= revision && waiter.ask(state)) view.waiters.delete(waiter)
  }
}

const put = (view: View, kv: KeyValue): void => {
  if (kv.keyString === view.besideKey) view.beside = kv
  const standing = Standings.standingOf(view.name, kv)
  // Who was there before keeps the place; who comes anew is the last one, and what has lost its lease is no place any more.
  if (view.standings.get(kv.keyString)?.revision !== standing?.revision) view.standings.delete(kv.keyString)
  if (standing !== undefined) view.standings.set(standing.key, standing)
}

const remove = (view: View, key: string): void => {
  if (key === view.besideKey) view.beside = undefined
  view.standings.delete(key)
}

const replace = (view: View, kvs: ReadonlyArray<KeyValue>): void => {
  view.standings.clear()
  for (const standing of Standings.standings(view.name, kvs)) view.standings.set(standing.key, standing)
  view.beside = kvs.find(({ keyString }) => keyString === view.besideKey)
}

/** What the store has had at least. */
const seenBy = ({ followers, state }: View): bigint => {
  let seen = state?.revision ?? 0n
  for (const { revision } of followers.values()) if (revision > seen) seen = revision
  return seen
}

/** `after`: what is told of is later. */
const read = Effect.fnUntraced(function* (view: View, after: bigint) {
  // Who joins meanwhile may have seen more.
  const seen = seenBy(view)
  const revision = seen > after ? seen : after
  const { header, kvs } = yield* rangeAtLeast(view.session.kv, Standings.prefixOf(view.name), revision)
  replace(view, kvs)
  publish(view, header.revision, [...view.followers.keys()])
})

const apply = (view: View, { events, revision }: EtcdWatch.Revision): void => {
  if (view.state === undefined || revision <= view.state.revision) return
  for (const { _tag, kv } of events) {
    if (_tag === "Put") put(view, kv)
    else remove(view, kv.keyString)
  }
  publish(
    view,
    revision,
    events.map(({ kv }) => kv.keyString)
  )
}

// ── its life ──

const watchOnce = (view: View): Effect.Effect<void, EtcdError.EtcdError> =>
  view.session.watch.changes(Standings.prefixOf(view.name), { created: true }).pipe(
    Stream.runForEach((change) => {
      if (change._tag === "Created") return read(view, change.startRevision - 1n)
      return change._tag === "Revision" ? Effect.sync(() => apply(view, change)) : Effect.void
    })
  )

/** The line is read anew with each try. */
const watch = (view: View): Effect.Effect<void> =>
  Effect.raceFirst(Time.sleep(view.session.time, shortMillis), view.wanted.await).pipe(
    Effect.andThen(Outage.untilSeen(view.session, Effect.forever(watchOnce(view)))),
    Effect.catch((error) => Effect.sync(() => fail(view, error)))
  )

const fail = (view: View, error: EtcdError.EtcdError): void => {
  view.failure = error
  forget(view)
  for (const { onFailure } of view.followers.values()) onFailure(error)
  for (const waiter of view.waiters) waiter.fail(error)
  view.waiters.clear()
}

const forget = (view: View): void => {
  const { views } = view.session
  if (views.get(view.besideKey) === view) views.delete(view.besideKey)
}

const make = (session: Session.Session, name: string, besideKey: string): View => ({
  session,
  name,
  besideKey,
  followers: new Map(),
  waiters: new Set(),
  wanted: Latch.makeUnsafe(false),
  standings: new Map(),
  beside: undefined,
  state: undefined,
  failure: undefined,
  watching: undefined
})

/** The view of a line for an entry in it, which is begun where there is none. To be run without interruption. */
export const attach = (
  session: Session.Session,
  name: string,
  besideKey: string,
  follower: Follower
): Effect.Effect<View> =>
  Effect.suspend(() => {
    const known = session.views.get(besideKey)
    const view = known ?? make(session, name, besideKey)
    view.followers.set(follower.key, follower)
    if (isGone(view, follower)) follower.onGone()
    if (known !== undefined) return Effect.succeed(known)
    session.views.set(besideKey, view)
    return Effect.map(
      session.background.run(Tracing.inBackground(watch(view)), Number.NEGATIVE_INFINITY),
      ({ fiber }) => {
        view.watching = fiber
        return view
      }
    )
  })

/** An entry has ended. */
export const detach = (view: View, follower: Follower): void => {
  if (view.followers.get(follower.key) === follower) view.followers.delete(follower.key)
  if (view.followers.size > 0) return
  forget(view)
  view.watching?.interruptUnsafe()
}

/**
 * Waits for a state of the line, from a revision on, of which something is to be said. All states are asked about that come
 * when somebody waits, one after the other.
 */
export const until = <A>(
  view: View,
  from: bigint,
  ask: (state: Standings.State) => Option.Option<A>
): Effect.Effect<A, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    const { failure, state } = view
    if (failure !== undefined) return Effect.fail(failure)
    const now = state === undefined || state.revision < from ? Option.none<A>() : ask(state)
    if (Option.isSome(now)) return Effect.succeed(now.value)
    const answer = Deferred.makeUnsafe<A, EtcdError.EtcdError>()
    const waiter: Waiter = {
      from,
      ask: (next) => {
        const found = ask(next)
        if (Option.isSome(found)) Deferred.doneUnsafe(answer, Exit.succeed(found.value))
        return Option.isSome(found)
      },
      fail: (error) => Deferred.doneUnsafe(answer, Exit.fail(error))
    }
    view.waiters.add(waiter)
    view.wanted.openUnsafe()
    return Effect.ensuring(
      Deferred.await(answer),
      Effect.sync(() => view.waiters.delete(waiter))
    )
  })
