/**
 * The session of a program: one lease that all its locks, places in lines and announcements hang on.
 *
 * After the lease is lost another one is granted when it is needed: the session has *incarnations*, each with a lease of
 * its own. An incarnation is held until its time to live, less a margin, has passed since the last keep-alive that was
 * answered was *sent*. Then it is lost for good here, and whoever uses it is told; but its lease is kept on until they
 * have all ended, so that what they hold is given away only after that, if etcd can be reached at all. Then it is revoked.
 *
 * The clock of this process stands still while the machine is suspended, and the wall clock does not: where it has run
 * ahead, nothing is believed of the time that is left until a keep-alive has been answered that was sent afterwards.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import type { Client } from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { LeaseId } from "../../EtcdId.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as EtcdWatch from "../../EtcdWatch.ts"
import * as Caller from "../caller.ts"
import * as Origin from "../client/origin.ts"
import * as Background from "../lease/background.ts"
import type * as LeaseEntry from "../lease/entry.ts"
import { quantum } from "../lease/entry.ts"
import * as LeaseRequests from "../lease/requests.ts"
import * as Leases from "../lease/service.ts"
import * as Checks from "../options.ts"
import * as Time from "../time.ts"
import type { Entry } from "./line.ts"
import type { View } from "./view.ts"

/** Why an incarnation, or what stands on it, is held no longer. */
export interface Loss {
  readonly reason:
    | LeaseEntry.Loss["reason"]
    /** The key was deleted, or is another one. */
    | "deleted"
    /** etcd has refused a write that was made under it. */
    | "fenced"
    /** The store has gone back, or is another one. */
    | "regressed"
    /** Whether the key is still there cannot be seen any more. */
    | "unwatched"
    /** It was given back. */
    | "released"
  readonly cause: EtcdError.EtcdError | undefined
}

/** What stands on an incarnation, and has to be told when it is lost. */
export interface Dependent {
  readonly onLoss: (loss: Loss) => void
}

/** Who holds a place in a line. */
export interface Holder {
  /** The fiber that asked for it. */
  readonly fiberId: number
}

/** Who keeps a key. */
export interface Presence extends Dependent {
  readonly value: Uint8Array
  /** The incarnation that has put the key, or may have. */
  incarnation: Incarnation | undefined
  /** Whether this incarnation has put the key. */
  isPut: boolean
}

export interface Incarnation {
  /** Counts from 1. */
  readonly number: number
  readonly lease: LeaseEntry.Entry
  readonly marginMillis: number
  readonly lost: Deferred.Deferred<Loss>
  loss: Loss | undefined
  /** What is to be over before its lease is revoked. */
  readonly dependents: Set<Dependent>
  /** Open where there is none. */
  readonly idle: Latch.Latch
  /** Whether somebody else may have keys with this lease. */
  readonly isShared: boolean
  /** The keys with its lease that are there, or may be. */
  readonly keys: Set<string>
  /** Keys that are looked after for as long as the lease lives, since a put may still arrive that nobody wants. */
  readonly sweeping: Set<string>
  /** How many keys have had a number. */
  count: number
  /** How far the wall clock was ahead of real time when that was looked at last. */
  drift: number
  /** When the keep-alive was sent that had been answered last at that time. */
  renewedAt: number
  /** Since when no keep-alive has been answered that was sent after the wall clock had run ahead. */
  doubtedSince: number | undefined
  readonly scope: Scope.Closeable
}

export interface Options {
  readonly ttl: Duration.Duration
  readonly margin: Duration.Duration | undefined
  readonly leaseId: LeaseId | undefined
  readonly onClose: "revoke" | "leave"
}

export interface Session {
  /** For what it writes for itself, which is not fenced by what it is used under. */
  readonly client: Client
  readonly kv: EtcdKv.Service
  readonly txn: EtcdTxn.Service
  /** For what a program writes. */
  readonly txnUnder: EtcdTxn.Service
  readonly watch: EtcdWatch.Service
  readonly caller: Caller.Caller
  readonly time: Time.Time
  readonly background: Background.Background
  readonly options: Options
  readonly leases: Leases.Service
  readonly incarnations: Set<Incarnation>
  /** Who keeps a key, by its name. */
  readonly presences: Map<string, Set<Presence>>
  /** Who stands in a line, by each of its keys, until that is gone or nobody here knows. */
  readonly entries: Map<string, Entry>
  /** Who holds a place in which line, by its name. */
  readonly holders: Map<string, Set<Holder>>
  /** Lines that are watched as a whole, by the key beside them. */
  readonly views: Map<string, View>
  current: Incarnation | undefined
  granting: Deferred.Deferred<Incarnation, EtcdError.EtcdError> | undefined
  granted: number
  isClosed: boolean
}

/** For how long, in milliseconds, those who use a session may take to end when it is closed. */
const longestRest = 2500

/** How often, at least, the clocks are compared. */
const longestTick = 1000

/** How much the wall clock may run ahead between two keep-alives without any doubt: clocks are corrected all the time. */
const tolerance = ({ marginMillis }: Incarnation): number => Math.min(marginMillis / 2, 1000)

const closed = EtcdError.make(
  new EtcdError.Unreachable({
    message: "The session is closed, so nothing can be held in it any more. Use it while its layer lives.",
    outcome: "not-applied",
    lasting: true
  })
)

/** How something ended that nothing interrupts but the end of the session. */
const orClosed = <A, E>(exit: Exit.Exit<A, E>): Exit.Exit<A, E | EtcdError.EtcdError> =>
  Exit.hasInterrupts(exit) ? Exit.fail(closed) : exit

/** The answer of what runs in the background, or that the session was closed. */
export const answerOf = <A, E>(fiber: Fiber.Fiber<A, E>): Effect.Effect<A, E | EtcdError.EtcdError> =>
  Effect.flatMap(Fiber.await(fiber), orClosed)

// ── its time ──

const renewedAt = ({ lease }: Incarnation): number => lease.expiresAt - lease.ttl

/**
 * Whether what has its lease is gone, or goes by itself. A lease that others keep on may live for as long as they do, when
 * it is lost here.
 */
export const isLeaseGone = ({ isShared, lease: { loss } }: Incarnation): boolean =>
  loss !== undefined && (!isShared || loss.reason === "not-found" || loss.reason === "revoked")

/** Waits until that is so. */
export const leaseGone = (incarnation: Incarnation): Effect.Effect<void> =>
  Effect.flatMap(Deferred.await(incarnation.lease.lost), () => (isLeaseGone(incarnation) ? Effect.void : Effect.never))

/** Compares the clocks. */
const compareClocks = (session: Session, incarnation: Incarnation): void => {
  const drift = Time.driftOf(session.time)
  const renewed = renewedAt(incarnation)
  if (drift > incarnation.drift + tolerance(incarnation)) {
    incarnation.doubtedSince = session.time.now()
    incarnation.drift = drift
    session.leases.keeper.hasten(incarnation.lease)
  } else if (drift < incarnation.drift || renewed > incarnation.renewedAt) {
    incarnation.drift = drift
  }
  incarnation.renewedAt = renewed
  if (incarnation.doubtedSince !== undefined && renewed > incarnation.doubtedSince) incarnation.doubtedSince = undefined
}

/** Until when it is held unless a keep-alive is answered. What is doubted has no longer than the margin to be cleared. */
const heldUntil = ({ doubtedSince, lease, marginMillis }: Incarnation): number => {
  const until = lease.expiresAt - marginMillis
  return doubtedSince === undefined ? until : Math.min(until, doubtedSince + marginMillis)
}

/** For how many milliseconds it is held, as far as is known: none while that is in doubt. */
export const remaining = (session: Session, incarnation: Incarnation): number => {
  if (incarnation.loss !== undefined || incarnation.lease.loss !== undefined) return 0
  compareClocks(session, incarnation)
  return incarnation.doubtedSince === undefined ? Math.max(0, heldUntil(incarnation) - session.time.now()) : 0
}

/** When etcd may let the lease expire, as far as is known. */
export const expiresAt = ({ lease }: Incarnation): number => lease.expiresAt

const notRenewed: Loss = { reason: "not-renewed", cause: undefined }

/** The loss that the time tells, after all was read that had come. */
const lossByTime = (session: Session, incarnation: Incarnation): Effect.Effect<Loss | undefined> =>
  Effect.suspend(() => {
    const { keeper } = session.leases
    const { lease } = incarnation
    compareClocks(session, incarnation)
    if (lease.loss !== undefined || session.time.now() < heldUntil(incarnation)) return Effect.succeed(lease.loss)
    return Effect.map(keeper.read(lease), () => {
      compareClocks(session, incarnation)
      if (lease.loss !== undefined || session.time.now() < heldUntil(incarnation)) return lease.loss
      return notRenewed
    })
  })

// ── its end ──

/** Gives up the lease when nobody uses it any longer. */
const endWhenIdle = (session: Session, incarnation: Incarnation): Effect.Effect<void> =>
  Effect.andThen(incarnation.idle.await, () => {
    session.incarnations.delete(incarnation)
    return Scope.close(incarnation.scope, Exit.void)
  })

/** It is lost, and all that stands on it. Nothing is changed where that is known. */
export const lose = (session: Session, incarnation: Incarnation, loss: Loss): void => {
  if (incarnation.loss !== undefined) return
  incarnation.loss = loss
  if (session.current === incarnation) session.current = undefined
  Deferred.doneUnsafe(incarnation.lost, Exit.succeed(loss))
  for (const dependent of [...incarnation.dependents]) dependent.onLoss(loss)
}

/** Loses it if its time is over, for whoever does not trust that a timer has fired. */
export const checkTime = (session: Session, incarnation: Incarnation): Effect.Effect<void> =>
  Effect.map(lossByTime(session, incarnation), (loss) => {
    if (loss !== undefined) lose(session, incarnation, loss)
  })

/** How soon it is looked again at what is in doubt, in milliseconds. */
const doubtfulPause = ({ marginMillis }: Incarnation): number => Math.max(1, Math.min(100, marginMillis / 8))

/** Waits until it is held beyond doubt, or lost. */
export const settled = (session: Session, incarnation: Incarnation): Effect.Effect<void> =>
  Effect.andThen(checkTime(session, incarnation), () =>
    incarnation.loss !== undefined || remaining(session, incarnation) > 0
      ? Effect.void
      : Effect.andThen(Time.sleep(session.time, doubtfulPause(incarnation)), settled(session, incarnation))
  )

const follow = (session: Session, incarnation: Incarnation): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { lease } = incarnation
    const { time } = session
    while (incarnation.loss === undefined) {
      yield* checkTime(session, incarnation)
      if (incarnation.loss !== undefined) break
      const isDoubted = incarnation.doubtedSince !== undefined
      if (isDoubted) session.leases.keeper.hasten(lease)
      const tick = isDoubted ? doubtfulPause(incarnation) : Math.min(longestTick, lease.ttl / 10)
      const pause = Math.max(1, Math.min(tick, heldUntil(incarnation) - time.now()))
      yield* Effect.raceAllFirst([
        Time.sleep(time, pause),
        Deferred.await(lease.lost),
        Deferred.await(incarnation.lost)
      ])
    }
    yield* endWhenIdle(session, incarnation)
  })

/** What has to be over before the lease is revoked stands on it. */
export const lean = (incarnation: Incarnation, dependent: Dependent): void => {
  incarnation.dependents.add(dependent)
  incarnation.idle.closeUnsafe()
}

export const release = (incarnation: Incarnation, dependent: Dependent): void => {
  incarnation.dependents.delete(dependent)
  if (incarnation.dependents.size === 0) incarnation.idle.openUnsafe()
}

/** Runs an effect whose end the lease waits for. */
export const leaning = <A, E, R>(incarnation: Incarnation, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const dependent: Dependent = { onLoss: () => {} }
    lean(incarnation, dependent)
    return Effect.ensuring(
      effect,
      Effect.sync(() => release(incarnation, dependent))
    )
  })

// ── its beginning ──

/** A lease that is to outlive the session is only kept by it. */
const leaseOf = Effect.fnUntraced(function* (session: Session) {
  const { client, leases, options } = session
  const { leaseId, onClose } = options
  const ttl = BigInt(Math.ceil(Duration.toSeconds(options.ttl)))
  if (leaseId !== undefined && session.granted === 0) return yield* leases.adopt(leaseId, {})
  if (onClose === "revoke") return yield* leases.obtain(ttl, undefined, {})
  const granted = yield* leases.whileOpen(LeaseRequests.grant(client, 0n, ttl, {}))
  return yield* leases.adopt(LeaseId(granted.ID), {})
})

const marginOf = ({ margin }: Options, lease: LeaseEntry.Entry): number =>
  Math.max(quantum, margin === undefined ? lease.ttl / 5 : Duration.toMillis(margin))

/** The margin of a lease that is there already can be checked only when that is known. */
const marginCheck = ({ margin }: Options, { ttl }: LeaseEntry.Entry): Effect.Effect<void, EtcdError.EtcdError> => {
  if (margin === undefined || Duration.toMillis(margin) < ttl) return Effect.void
  const given = `${Duration.format(Duration.millis(ttl))}, and not ${Duration.format(margin)}`
  return Effect.fail(
    Checks.invalid(`EtcdSession: the option margin has to be shorter than the time to live of the lease, ${given}.`)
  )
}

const grant = Effect.fnUntraced(function* (session: Session) {
  const scope = yield* Scope.make()
  const lease = yield* Scope.provide(leaseOf(session), scope).pipe(
    Effect.tap((lease) => marginCheck(session.options, lease)),
    Effect.onError(() => Scope.close(scope, Exit.void))
  )
  const isShared = session.options.leaseId !== undefined && session.granted === 0
  session.granted++
  const incarnation: Incarnation = {
    number: session.granted,
    lease,
    marginMillis: marginOf(session.options, lease),
    lost: Deferred.makeUnsafe(),
    loss: undefined,
    dependents: new Set(),
    idle: Latch.makeUnsafe(true),
    isShared,
    keys: new Set(),
    sweeping: new Set(),
    count: 0,
    drift: Time.driftOf(session.time),
    renewedAt: lease.expiresAt - lease.ttl,
    doubtedSince: undefined,
    scope
  }
  session.incarnations.add(incarnation)
  session.current = incarnation
  if (session.isClosed) lose(session, incarnation, { reason: "closed", cause: undefined })
  yield* session.background.run(follow(session, incarnation), Number.POSITIVE_INFINITY)
  return incarnation
})

/** Asks for a lease, for all who wait for one. Who stops waiting leaves it to the others. */
const granting = (session: Session): Effect.Effect<Incarnation, EtcdError.EtcdError> =>
  Effect.uninterruptibleMask((restore) => {
    if (session.granting !== undefined) return restore(Deferred.await(session.granting))
    const answer = Deferred.makeUnsafe<Incarnation, EtcdError.EtcdError>()
    session.granting = answer
    const asking = Effect.onExit(grant(session), (exit) =>
      Effect.sync(() => {
        session.granting = undefined
        Deferred.doneUnsafe(answer, orClosed(exit))
      })
    )
    return Effect.andThen(session.background.run(asking, Number.NEGATIVE_INFINITY), restore(Deferred.await(answer)))
  })

/** The incarnation that is held; a new one where there is none. */
export const current = (session: Session): Effect.Effect<Incarnation, EtcdError.EtcdError> =>
  Effect.gen(function* () {
    yield* Caller.note(session.caller)
    const known = session.current
    if (known !== undefined) {
      yield* checkTime(session, known)
      if (known.loss === undefined) return known
    }
    if (session.isClosed) return yield* Effect.fail(closed)
    return session.current ?? (yield* granting(session))
  })

const close = Effect.fnUntraced(function* (session: Session) {
  session.isClosed = true
  const { background, time } = session
  for (const incarnation of session.incarnations) lose(session, incarnation, { reason: "closed", cause: undefined })
  yield* background.awaitAll(time.now() + longestRest)
  // What is not over by now goes without its lease.
  yield* Effect.forEach(session.incarnations, ({ scope }) => Scope.close(scope, Exit.void), {
    concurrency: "unbounded",
    discard: true
  })
  yield* background.stop
})

/** A session over a client; it ends with the scope. */
export const make = (given: Client, options: Options): Effect.Effect<Session, never, Scope.Scope> =>
  Effect.gen(function* () {
    const caller = yield* Caller.make
    const time = yield* Time.Time
    // They live on while the session is being closed.
    const scope = yield* Scope.fork(yield* Effect.scope)
    const client = Origin.outside(given)
    const session: Session = {
      client,
      kv: EtcdKv.fromClient(client),
      txn: EtcdTxn.fromClient(client),
      txnUnder: EtcdTxn.fromClient(given),
      watch: yield* Scope.provide(EtcdWatch.fromClient(client), scope),
      caller,
      time,
      background: Background.make(time),
      options,
      leases: yield* Scope.provide(Leases.make(client), scope),
      incarnations: new Set(),
      presences: new Map(),
      entries: new Map(),
      holders: new Map(),
      views: new Map(),
      current: undefined,
      granting: undefined,
      granted: 0,
      isClosed: false
    }
    yield* Effect.addFinalizer(() => close(session))
    return session
  })

/** Where a service has the session that it stands for, which is nobody else's business. */
export const Inside: unique symbol = Symbol.for("effect-etcd/coordination/session")

/** The session that a service stands for. */
export const of = (service: object): Session => {
  const session = (service as { readonly [Inside]?: Session })[Inside]
  if (session === undefined) throw new Error("This EtcdSession was not made by EtcdSession.fromClient.")
  return session
}
