/**
 * The session of a program in a cluster: one lease, which everything hangs on that is to end with the program.
 *
 * Locks, elections, permits and announcements of a program share its session, so that a thousand of them cost one
 * keep-alive for each third of the time to live, and nothing else. The lease is granted when it is first needed. When it is
 * lost, all that stands on it is lost and told so, and the next one who needs the session gets a new *incarnation* of it,
 * with a new lease.
 *
 * An incarnation is *held* until its time to live, less `margin`, has passed since the last keep-alive that was answered
 * was **sent**. In etcd its keys live longer than that, by the margin at least: this is the time for what depends on them
 * to end before anybody else can have them. After that the lease is kept on, where etcd can be reached, until all of it has
 * ended.
 *
 * - That time is real and monotonic, whatever `Clock` the program has, and wherever the wall clock is set.
 * - Where the wall clock has run ahead of it, the machine may have been suspended: then `remaining` is zero, and the
 *   incarnation counts as not held, until a keep-alive is answered that was sent afterwards, for which there is as long as
 *   the margin. So a wall clock that is set costs one keep-alive.
 * - A process that stood still (SIGSTOP, a blocked event loop) finds out when it goes on: whoever looks at the session
 *   compares its time with now. What it may have done before it looked is for a fence to prevent (`EtcdLock`).
 * - So much is true as long as the clocks of this machine and of etcd's leader run at the same pace, within the part that
 *   the margin is of the time to live.
 *
 * etcd fails over within that time without anybody noticing. It renews all leases when a new leader takes over, so that
 * they may live longer than their time, never shorter; but see `EtcdLease.Lease` for the few ways in which a lease can be
 * lost before its time, which locks notice by their keys.
 *
 * Besides what is said of each function, all fail with `InvalidArgument` where an argument or an option makes no sense.
 * {@link current} and {@link keep} fail with the reasons of every call as well (`EtcdError`), and with `Unreachable` when the
 * session is closed.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../EtcdClient.ts"
import type * as EtcdError from "../EtcdError.ts"
import { format, LeaseId } from "../EtcdId.ts"
import * as Presence from "../internal/coordination/presence.ts"
import * as Internal from "../internal/coordination/session.ts"
import * as Json from "../internal/json.ts"
import * as Checks from "../internal/options.ts"
import * as Tracing from "../internal/tracing.ts"
import * as Wrapped from "../internal/wrapped.ts"
import type * as KeyRange from "../KeyRange.ts"

/**
 * An incarnation of the session was lost.
 *
 * - `not-renewed`: no keep-alive was answered in time.
 * - `not-found`: etcd does not have the lease any more; it expired there, or somebody revoked it.
 * - `refused`: the user may not renew it.
 * - `regressed`: the store has gone back (a backup was restored), or is that of another cluster.
 * - `closed`, `revoked`: the session was closed.
 *
 * @category errors
 * @since 0.1.0
 */
export class SessionLost extends Data.TaggedError("SessionLost")<{
  /** Its lease. */
  readonly id: LeaseId
  /** Which incarnation of the session it was, from 1 on. */
  readonly incarnation: number
  /** Which of these happened. */
  readonly reason: "not-renewed" | "not-found" | "refused" | "regressed" | "closed" | "revoked"
  readonly message: string
  /** What went wrong between this program and etcd, where that is known. */
  readonly cause?: EtcdError.EtcdError
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * An incarnation of the session.
 *
 * @category models
 * @since 0.1.0
 */
export interface Session {
  /** Its lease. What is put with it is deleted when it ends. */
  readonly id: LeaseId
  /** Which incarnation it is of this session, from 1 on. */
  readonly incarnation: number
  /** The time to live that etcd granted: whole seconds, and at least etcd's minimum (1.5 election timeouts). */
  readonly ttl: Duration.Duration
  /** Waits until it is lost, and tells why. */
  readonly lost: Effect.Effect<SessionLost>
  /** For how long it is held unless it is renewed, in real time. Zero once it is lost, and while the clock is in doubt. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /** Whether it is held now, as far as this program can know. To be asked right before what must not happen otherwise. */
  readonly isHeldUnsafe: () => boolean
  /**
   * Runs an effect as long as it is held: when it is lost, the effect is interrupted, and the whole fails with
   * {@link SessionLost} when the effect has ended. So it does where the effect succeeded, and it was lost meanwhile.
   */
  readonly whileHeld: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | SessionLost, R>
}

/**
 * What a session is made of.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /**
   * How long what hangs on the session outlives a program that is killed or cut off; and, less the margin, for how long a
   * program can be without etcd before it loses all of it. A second at least, rounded up to whole seconds, and raised by
   * etcd to its minimum (1.5 election timeouts, 2 seconds by default). A bare number counts milliseconds, and one below
   * 1000 is refused, since it lacks its unit. Default: 10 seconds.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * For how long before the end of the time to live the session counts as lost. It is the time for what depends on it to
   * end, and what allows for clocks of different pace. Shorter than the time to live. Default: a fifth of the time to live.
   */
  readonly margin?: Duration.Input | undefined
  /**
   * A lease that is there already, for the first incarnation. It is kept, and left alone when the session is closed; its
   * time to live is its own. Default: none, a lease is granted.
   */
  readonly leaseId?: LeaseId | undefined
  /**
   * What becomes of the lease when the session is closed. `leave` lets it live until its time is over, and what
   * {@link keep} has put with it, so that a program which is started anew does not disappear meanwhile; places in lines are
   * given back in either case. Default: `revoke`.
   */
  readonly onClose?: "revoke" | "leave" | undefined
}

/**
 * Holds the lease that everything else of this folder hangs on.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /**
   * The incarnation of the session that is held. Where there is none, because none was needed yet or the last one is lost, a
   * lease is granted. More at {@link current}.
   */
  readonly current: Effect.Effect<Session, EtcdError.EtcdError>
  /**
   * Keeps a key until the scope closes, so that others see that this program is there. Each incarnation puts it again. More
   * at {@link keep}.
   */
  readonly keep: (key: KeyRange.Bytes, value: KeyRange.Bytes) => Effect.Effect<void, EtcdError.EtcdError, Scope.Scope>
}

/**
 * The session of a program: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdSession extends Context.Service<EtcdSession, Service>()("effect-etcd/coordination/EtcdSession") {}

const second = 1000

const ttlCheck: Checks.Check = Checks.withUnit(
  {
    accepts: (value) =>
      Checks.finiteDuration.accepts(value) &&
      Duration.toMillis(Duration.fromInputUnsafe(value as Duration.Input)) >= second,
    due: 'a finite duration of one second at least, such as "10 seconds"'
  },
  second
)

const ofSession: Checks.Checks<Options> = {
  ttl: ttlCheck,
  margin: Checks.withUnit(Checks.finiteDuration),
  leaseId: Checks.id("a lease"),
  onClose: Checks.oneOf("revoke", "leave")
}

const defaultTtl = Duration.seconds(10)

/** The options with their defaults, or what is wrong with them. */
const settingsOf = (options: Options): Effect.Effect<Internal.Options, EtcdError.EtcdError> => {
  const wrong = Checks.problemOf("EtcdSession", ofSession, options)
  if (wrong !== undefined) return Effect.fail(Checks.invalid(wrong))
  const ttl = options.ttl === undefined ? defaultTtl : Duration.fromInputUnsafe(options.ttl)
  const margin = options.margin === undefined ? undefined : Duration.fromInputUnsafe(options.margin)
  if (margin !== undefined && Duration.isGreaterThanOrEqualTo(margin, ttl)) {
    const message = `EtcdSession: the option margin has to be shorter than ttl, ${Duration.format(ttl)}, and not ${Duration.format(margin)}.`
    return Effect.fail(Checks.invalid(message))
  }
  const leaseId = options.leaseId === undefined ? undefined : LeaseId(options.leaseId)
  return Effect.succeed({ ttl, margin, leaseId, onClose: options.onClose ?? "revoke" })
}

const lostBecause: { readonly [reason in SessionLost["reason"]]: string } = {
  "not-renewed": "no keep-alive was answered in time",
  "not-found": "etcd does not have its lease any more: it expired, or somebody revoked it",
  refused: "the user may not renew its lease",
  regressed: "the store has gone back, or is that of another cluster",
  closed: "it was closed",
  revoked: "it was closed"
}

/** What is said of an incarnation only. */
const reasonOf = ({ reason }: Internal.Loss): SessionLost["reason"] =>
  reason in lostBecause ? (reason as SessionLost["reason"]) : "not-found"

const sessionLost = (incarnation: Internal.Incarnation, loss: Internal.Loss): SessionLost => {
  const id = LeaseId(incarnation.lease.id)
  const reason = reasonOf(loss)
  const because = loss.cause === undefined ? "" : ` ${loss.cause.message}`
  return new SessionLost({
    id,
    incarnation: incarnation.number,
    reason,
    message: `The session with the lease ${format(id)} is lost: ${lostBecause[reason]}.${because}`,
    ...(loss.cause === undefined ? {} : { cause: loss.cause })
  })
}

const handle = (session: Internal.Session, incarnation: Internal.Incarnation): Session => {
  const later = Effect.map(Deferred.await(incarnation.lost), (loss) => sessionLost(incarnation, loss))
  const held = Effect.suspend(() =>
    incarnation.loss === undefined ? Effect.void : Effect.fail(sessionLost(incarnation, incarnation.loss))
  )
  const own: Session = {
    id: LeaseId(incarnation.lease.id),
    incarnation: incarnation.number,
    ttl: Duration.millis(incarnation.lease.ttl),
    lost: later,
    remaining: Effect.sync(() => Duration.millis(Internal.remaining(session, incarnation))),
    isHeldUnsafe: () => Internal.remaining(session, incarnation) > 0,
    whileHeld: (effect) =>
      Effect.andThen(
        held,
        Effect.tap(Internal.leaning(incarnation, Effect.raceFirst(effect, Effect.flatMap(later, Effect.fail))), () =>
          Effect.andThen(Internal.checkTime(session, incarnation), held)
        )
      )
  }
  return Json.showing(own, ({ id, incarnation, ttl }) => ({ id, incarnation, ttl }))
}

/** An incarnation that is held: one that is in doubt is waited for, until it is held, or lost. */
const held = (session: Internal.Session): Effect.Effect<Internal.Incarnation, EtcdError.EtcdError> =>
  Effect.flatMap(Internal.current(session), (incarnation) =>
    Effect.flatMap(Internal.settled(session, incarnation), () =>
      incarnation.loss === undefined ? Effect.succeed(incarnation) : held(session)
    )
  )

const wrongKey = (key: unknown) => Checks.wrongArgument("EtcdSession.keep", "the key", Checks.key, key)

const wrongValue = (value: unknown) => Checks.wrongArgument("EtcdSession.keep", "the value", Checks.value, value)

/**
 * The session over a client. It ends with the scope: what stands on it is lost then, with the reason `closed`; what runs
 * as long as it is held has 2.5 seconds to end, and gives back its places in lines; then the lease is revoked.
 *
 * Fails with `InvalidArgument` where an option makes no sense. The lease is granted when it is first needed.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient } from "effect-etcd"
 * import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"] })
 *   const session = yield* EtcdSession.fromClient(client, { ttl: "15 seconds" })
 *   yield* Effect.log("nobody else does this now").pipe(
 *     EtcdLock.withLock(EtcdLock.make("jobs/cleanup")),
 *     Effect.provideService(EtcdSession.EtcdSession, session)
 *   )
 * })
 * const done = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (
  client: EtcdClient.Client,
  options?: Options | undefined
): Effect.Effect<Service, EtcdError.EtcdError, Scope.Scope> =>
  Effect.gen(function* () {
    const session = yield* Internal.make(client, yield* settingsOf(options === undefined ? {} : options))
    const service: Service = {
      current: Effect.map(held(session), (incarnation) => handle(session, incarnation)),
      keep: (key, value) =>
        wrongKey(key) ?? wrongValue(value) ?? Tracing.traced(Presence.keep(session, key, value), "EtcdSession.keep")
    }
    return Object.assign(service, { [Internal.Inside]: session })
  })

/**
 * Provides {@link EtcdSession} over the {@link EtcdClient.EtcdClient} that is there. Fails as {@link fromClient} does.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { EtcdLayer } from "effect-etcd"
 * import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
 *
 * const etcd = EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] })
 *
 * const program = Effect.log("nobody else does this now").pipe(
 *   EtcdLock.withLock(EtcdLock.make("jobs/cleanup")),
 *   Effect.provide(EtcdSession.layerWith({ ttl: "15 seconds" }).pipe(Layer.provideMerge(etcd)))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerWith = (options: Options): Layer.Layer<EtcdSession, EtcdError.EtcdError, EtcdClient.EtcdClient> =>
  Layer.effect(
    EtcdSession,
    Effect.flatMap(EtcdClient.EtcdClient, (client) => fromClient(client, options))
  )

/**
 * As {@link layerWith}, with options from Effect's `Config`, read when the layer is built.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link layerWith} where it makes no
 * sense.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { EtcdSession } from "effect-etcd/coordination"
 *
 * // ETCD_SESSION_TTL="30 seconds"
 * const live = EtcdSession.layerConfig({
 *   ttl: Config.withDefault(Config.Duration("ETCD_SESSION_TTL"), "10 seconds")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: EtcdClient.ConfigOf<Options>
): Layer.Layer<EtcdSession, Config.ConfigError | EtcdError.EtcdError, EtcdClient.EtcdClient> =>
  Layer.unwrap(Effect.map(Wrapped.unwrap<Options>(options), layerWith))

/**
 * Provides {@link EtcdSession}, with a time to live of 10 seconds, over the {@link EtcdClient.EtcdClient} that is there.
 *
 * Where it was built already it is used again, as any layer is, and what hangs on it is where the first one is. For a
 * session of its own in a namespace, in another etcd, or on another client (a second program in one test), use
 * `Layer.fresh(EtcdSession.layer)`. It is built without asking etcd, and so does not fail when that cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { EtcdLayer } from "effect-etcd"
 * import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
 *
 * const etcd = EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] })
 *
 * const program = Effect.log("nobody else does this now").pipe(
 *   EtcdLock.withLock(EtcdLock.make("jobs/cleanup")),
 *   Effect.provide(EtcdSession.layer.pipe(Layer.provideMerge(etcd)))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdSession, EtcdError.EtcdError, EtcdClient.EtcdClient> = layerWith({})

/**
 * The incarnation of the session that is held. Where there is none, because none was needed yet or the last one is lost, a
 * lease is granted.
 *
 * It is held when it is given out. All who ask at the same time get the same one. Fails as `EtcdLease.make` does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdSession } from "effect-etcd/coordination"
 *
 * // As long as this program is there, and etcd sees it.
 * const working = Effect.gen(function*() {
 *   const session = yield* EtcdSession.current
 *   yield* EtcdKv.put("working/1", "yes", { lease: session.id })
 *   yield* session.whileHeld(Effect.never)
 * })
 * ```
 *
 * @category session
 * @since 0.1.0
 */
export const current: Effect.Effect<Session, EtcdError.EtcdError, EtcdSession> = EtcdSession.use(
  (session) => session.current
)

/**
 * Keeps a key until the scope closes, so that others see that this program is there. The key is there when this succeeds.
 *
 * It goes with the session when the program is gone, and is put again by the next incarnation when the session was lost,
 * and when somebody deletes it; failures of that are tried on for ever, with one warning in the log. What somebody else
 * writes there stays, as of the same service on its way in while this one is on its way out, until it is deleted or this
 * session is lost. When the scope closes the key is deleted, unless somebody else has written it meanwhile, or the session
 * is one that leaves what it has (`onClose`). Where another scope of this program keeps it as well, it has the value of
 * that one then, and is not away in between.
 *
 * Fails as {@link current} and `EtcdKv.put` do where the key cannot be put the first time.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdSession } from "effect-etcd/coordination"
 *
 * const announce = Effect.andThen(EtcdSession.keep("workers/1", "10.0.0.7"), Effect.never).pipe(Effect.scoped)
 * ```
 *
 * @category session
 * @since 0.1.0
 */
export const keep = (
  key: KeyRange.Bytes,
  value: KeyRange.Bytes
): Effect.Effect<void, EtcdError.EtcdError, EtcdSession | Scope.Scope> =>
  EtcdSession.use((session) => session.keep(key, value))
