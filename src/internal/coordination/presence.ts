/**
 * A key that is there as long as a scope is open: each incarnation of the session puts it again.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { EtcdError } from "../../EtcdError.ts"
import { LeaseId } from "../../EtcdId.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import type * as KeyRange from "../../KeyRange.ts"
import * as Caller from "../caller.ts"
import * as Keys from "../keys.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Failures from "./failures.ts"
import * as Outage from "./outage.ts"
import * as Removal from "./removal.ts"
import * as Session from "./session.ts"

interface Presence extends Session.Presence {
  readonly session: Session.Session
  readonly key: Uint8Array
  /** Whether a put of the incarnation that it stands on may still arrive: its outcome is unknown, or it is under way. */
  isUncertain: boolean
}

/** How long the end of a presence waits for etcd to know of it, in milliseconds. */
const longestLeave = 2000

/** The presence stands on another incarnation now. */
const move = (presence: Presence, incarnation: Session.Incarnation): void => {
  const before = presence.incarnation
  if (before === incarnation) return
  presence.incarnation = incarnation
  Session.lean(incarnation, presence)
  if (before === undefined) return
  presence.isPut = false
  presence.isUncertain = false
  Session.release(before, presence)
}

/** Puts the key, with the lease of the incarnation that is held, and answers with the revision. */
const put = (presence: Presence): Effect.Effect<bigint, EtcdError> =>
  Effect.gen(function* () {
    const { key, session, value } = presence
    while (true) {
      const incarnation = yield* Session.current(session)
      move(presence, incarnation)
      const { isUncertain } = presence
      presence.isUncertain = true
      const result = yield* Effect.result(session.kv.put(key, value, { lease: LeaseId(incarnation.lease.id) }))
      const isKnown = Result.isSuccess(result) || result.failure.outcome === "not-applied"
      if (isKnown) presence.isUncertain = isUncertain
      if (Result.isSuccess(result)) {
        presence.isPut = true
        return result.success.header.revision
      }
      const error = result.failure
      if (error.reason._tag !== "LeaseNotFound") return yield* Effect.fail(error)
      Session.lose(session, incarnation, { reason: "not-found", cause: error })
    }
  })

/** How long it is waited, in milliseconds, before it is looked again where that was not possible. */
const lookPause = 100

/** Waits until the key is deleted. What others put there stays, also where nobody can be told any more what happened. */
const deletion = (presence: Presence, after: bigint): Effect.Effect<void, EtcdError> => {
  const { key, session } = presence
  const now = Outage.untilSeen(session, session.kv.range(key, { keysOnly: true }))
  const look = Effect.flatMap(now, ({ header, kvs }) =>
    kvs.length === 0 ? Effect.void : deletion(presence, header.revision)
  )
  return Effect.asVoid(session.watch.next(key, { startRevision: after + 1n, ignore: "puts" })).pipe(
    Effect.catchIf(Failures.mayPass, () => Effect.andThen(Time.sleep(session.time, lookPause), look))
  )
}

/** Waits until the key has to be put again: it was deleted, or its lease is lost. */
const absence = (presence: Presence, after: bigint): Effect.Effect<void> => {
  const { incarnation, session } = presence
  if (incarnation === undefined) return Effect.void
  const deleted = Effect.andThen(
    deletion(presence, after),
    // It may be the lease that is gone.
    Effect.sync(() => session.leases.keeper.hasten(incarnation.lease))
  )
  // What cannot be watched is put from time to time.
  const over = Effect.catch(deleted, () => Time.sleep(session.time, incarnation.lease.ttl))
  return Effect.raceFirst(Effect.asVoid(Deferred.await(incarnation.lost)), over)
}

/** Puts the key as often as it takes. */
const putAgain = Effect.fnUntraced(function* (presence: Presence) {
  const {
    key,
    session: { caller, time }
  } = presence
  const step = yield* Schedule.toStep(Outage.pauses)
  for (let tries = 1; ; tries++) {
    const result = yield* Effect.result(put(presence))
    if (Result.isSuccess(result)) return result.success
    const warning = Effect.logWarning("etcd key is not kept at the moment", Keys.show(key), result.failure.message)
    if (tries === 1) yield* Caller.say(caller, warning)
    yield* Time.sleep(time, (yield* Time.nextPause(time, step, undefined)) ?? 1000)
  }
})

const keepUp = Effect.fnUntraced(function* (presence: Presence, first: bigint) {
  let revision = first
  while (true) {
    yield* absence(presence, revision)
    revision = yield* putAgain(presence)
  }
})

/** Who keeps a key with the lease of an incarnation. */
const keepersOf = (session: Session.Session, incarnation: Session.Incarnation, name: string) =>
  [...(session.presences.get(name) ?? [])].filter((one) => one.incarnation === incarnation)

/**
 * Removes a key that nobody keeps any more. Who keeps it still has it back with its own value, and without it being away
 * in between. Where it is swept, who is about to put it sees to that.
 */
const tidy = (session: Session.Session, incarnation: Session.Incarnation, key: Uint8Array) =>
  Effect.suspend(() => {
    const name = Keys.nameOf(key)
    const keepers = keepersOf(session, incarnation, name)
    const there = keepers.filter(({ isPut }) => isPut)
    const last = there.at(-1)
    if (last === undefined) {
      const isLeft = keepers.length > 0 && incarnation.sweeping.has(name)
      return isLeft ? Effect.void : Effect.asVoid(Removal.deleteOwn(session, incarnation, key))
    }
    const lease = LeaseId(incarnation.lease.id)
    const isNoneOfThem = there.map(({ value }) => EtcdTxn.value(key).notEquals(value))
    const compare = EtcdTxn.every([EtcdTxn.lease(key).equals(lease), ...isNoneOfThem])
    const success = EtcdTxn.put(key, last.value, { lease })
    return Effect.asVoid(session.txn.commit(EtcdTxn.make({ compare, success })))
  })

const end = (presence: Presence): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { incarnation, isPut, isUncertain, key, session } = presence
    if (incarnation === undefined) return
    const name = Keys.nameOf(key)
    const isSwept = incarnation.sweeping.has(name)
    const isLeft = session.options.onClose === "leave" && keepersOf(session, incarnation, name).length === 0
    if (isLeft || !(isPut || isUncertain || isSwept)) return
    const tidying = tidy(session, incarnation, key)
    yield* Outage.untilDone(session, incarnation, tidying)
    if (!isUncertain || incarnation.sweeping.has(name) || Session.isLeaseGone(incarnation)) return
    incarnation.sweeping.add(name)
    // What others put with the same lease cannot be told from what is late. They put it again, without an end.
    const puts = incarnation.isShared ? 1 : Number.POSITIVE_INFINITY
    const { fiber } = yield* Removal.sweep(session, incarnation, [key], () => tidying, puts)
    if (incarnation.isShared) fiber.addObserver(() => incarnation.sweeping.delete(name))
  })

const leave = (presence: Presence): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { session } = presence
    withdraw(presence)
    const until = session.time.now() + longestLeave
    return session.background.run(Caller.as(session.caller, end(presence)), until).pipe(
      Effect.flatMap((task) => session.background.await(task, until)),
      Effect.andThen(
        Effect.sync(() => {
          if (presence.incarnation !== undefined) Session.release(presence.incarnation, presence)
        })
      )
    )
  })

const announce = (presence: Presence): void => {
  const { presences } = presence.session
  const name = Keys.nameOf(presence.key)
  const known = presences.get(name)
  if (known === undefined) presences.set(name, new Set([presence]))
  else known.add(presence)
}

const withdraw = (presence: Presence): void => {
  const { presences } = presence.session
  const name = Keys.nameOf(presence.key)
  const known = presences.get(name)
  if (known?.delete(presence) && known.size === 0) presences.delete(name)
}

/** Keeps a key until the scope closes. It is there when this succeeds. */
export const keep = (
  session: Session.Session,
  key: KeyRange.Bytes,
  value: KeyRange.Bytes
): Effect.Effect<void, EtcdError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const presence: Presence = {
        session,
        key: Keys.own(key),
        value: Keys.own(value),
        incarnation: undefined,
        isPut: false,
        isUncertain: false,
        // A session that is closed does not wait for what it keeps.
        onLoss: ({ reason }) => {
          if (reason === "closed" && presence.incarnation !== undefined) {
            Session.release(presence.incarnation, presence)
          }
        }
      }
      announce(presence)
      // It is let end, whoever waits for it, since only its answer tells what there is to remove.
      const { fiber } = yield* session.background.run(put(presence), Number.NEGATIVE_INFINITY)
      const gone = Effect.andThen(Fiber.await(fiber), leave(presence))
      const first = yield* Effect.onError(restore(Session.answerOf(fiber)), () =>
        session.background.run(gone, Number.NEGATIVE_INFINITY)
      )
      const keeping = yield* session.background.run(
        Tracing.inBackground(keepUp(presence, first)),
        Number.NEGATIVE_INFINITY
      )
      yield* Tracing.atClose(Effect.andThen(Fiber.interrupt(keeping.fiber), leave(presence)))
    })
  )
