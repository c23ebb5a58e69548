/**
 * Leases: time limits that keys are attached to.
 *
 * A lease lives as long as somebody renews it within its time to live; when it ends, etcd deletes the keys that were
 * written with it. {@link make} gives a lease that this program keeps alive as long as a scope is open, with an effect
 * that tells of its loss; the other functions are etcd's own requests, one by one.
 *
 * All leases that one service keeps alive share one stream to etcd. A keep-alive is sent when a third of the time to
 * live has passed since the last one that was answered, as in etcd's Go client. When the stream breaks, or its server
 * stops answering, it is opened again elsewhere, so that a lease outlives a reconnect or a failover that takes less
 * than its time to live.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdClient from "./EtcdClient.ts"
import * as EtcdError from "./EtcdError.ts"
import { format, LeaseId } from "./EtcdId.ts"
import type { Header } from "./EtcdKv.ts"
import { decide } from "./internal/client/retryRules.ts"
import * as Keeper from "./internal/lease/keeper.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as Wire from "./internal/wire.ts"

/**
 * A lease was lost, so its keys are gone or will be soon.
 *
 * - `not-found`: etcd does not have it any more. It expired there, or somebody revoked it.
 * - `revoked`: this service revoked it.
 * - `not-renewed`: its time to live passed, by this program's clock, without an answer to a keep-alive.
 * - `refused`: the user may not renew it, because one of its keys is not the user's to write. Of etcd 3.5 and 3.6, only
 *   the patch releases since 2026 ask.
 * - `closed`: the scope that kept it alive was closed, so that nobody renews it any more.
 *
 * @category errors
 * @since 0.1.0
 */
export class LeaseLost extends Data.TaggedError("LeaseLost")<{
  readonly id: LeaseId
  readonly reason: "not-found" | "revoked" | "not-renewed" | "refused" | "closed"
  readonly message: string
  /** What went wrong last between this program and etcd, where that is the reason. */
  readonly cause?: EtcdError.EtcdError
}> {}

/**
 * A lease that is kept alive.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  readonly id: LeaseId
  /** The time to live that etcd granted: whole seconds, and at least etcd's minimum (1.5 election timeouts). */
  readonly ttl: Duration.Duration
  /**
   * Waits until the lease is lost, and tells why.
   *
   * It is lost when etcd says so, and also when the time to live has passed since the last answered keep-alive was
   * *sent*, measured with this machine's monotonic clock. Since etcd begins to count only when it receives one, the
   * lease is lost here before etcd can give its keys to somebody else, as long as both clocks run at the same speed
   * and this program is not stopped.
   */
  readonly lost: Effect.Effect<LeaseLost>
  /** How long the lease will certainly live, unless it is revoked: zero once it is lost. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Runs an effect as long as the lease is held: when the lease is lost, the effect is interrupted, and the whole fails
   * with {@link LeaseLost}.
   */
  readonly whileHeld: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | LeaseLost, R>
}

/**
 * How a lease is granted.
 *
 * @category options
 * @since 0.1.0
 */
export interface GrantOptions extends EtcdClient.CallOptions {
  /** Default: etcd (for `grant`) or the client (for `make`) chooses one that is free. */
  readonly id?: LeaseId | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  readonly header: Header
  readonly id: LeaseId
  /** The time to live that etcd granted: whole seconds, and at least etcd's minimum (1.5 election timeouts). */
  readonly ttl: Duration.Duration
}

/**
 * How a lease is looked at.
 *
 * @category options
 * @since 0.1.0
 */
export interface TimeToLiveOptions extends EtcdClient.CallOptions {
  /** Answers with the keys that are attached to the lease. Default: false. */
  readonly keys?: boolean | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface TimeToLive {
  readonly header: Header
  readonly id: LeaseId
  /** How long the lease lives unless it is renewed, in whole seconds. */
  readonly ttl: Duration.Duration
  /** The time to live that a renewal gives it. */
  readonly grantedTtl: Duration.Duration
  /** The keys that are attached to it, if `keys` was asked for. */
  readonly keys: ReadonlyArray<Uint8Array>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Leases {
  readonly make: (
    ttl: Duration.Input,
    options?: GrantOptions | undefined
  ) => Effect.Effect<Lease, EtcdError.EtcdError, Scope.Scope>
  readonly keepAlive: (
    id: LeaseId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Lease, EtcdError.EtcdError, Scope.Scope>
  readonly keepAliveOnce: (
    id: LeaseId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Granted, EtcdError.EtcdError>
  readonly grant: (
    ttl: Duration.Input,
    options?: GrantOptions | undefined
  ) => Effect.Effect<Granted, EtcdError.EtcdError>
  readonly revoke: (
    id: LeaseId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  readonly timeToLive: (
    id: LeaseId,
    options?: TimeToLiveOptions | undefined
  ) => Effect.Effect<TimeToLive, EtcdError.EtcdError>
  readonly list: (
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<ReadonlyArray<LeaseId>, EtcdError.EtcdError>
}

/**
 * The service for leases.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdLease extends Context.Service<EtcdLease, Leases>()("effect-etcd/EtcdLease") {}

const lostBecause: { readonly [reason in LeaseLost["reason"]]: string } = {
  "not-found": "etcd does not have it any more: it expired, or somebody revoked it",
  revoked: "this program revoked it",
  "not-renewed": "its time to live passed without an answer to a keep-alive",
  refused: "the user may not renew it",
  closed: "the scope that kept it alive was closed"
}

const leaseLost = (id: LeaseId, { cause, reason }: Keeper.Loss): LeaseLost =>
  new LeaseLost({
    id,
    reason,
    message: `The lease ${format(id)} is lost: ${lostBecause[reason]}.${cause === undefined ? "" : ` ${cause.message}`}`,
    ...(cause === undefined ? {} : { cause })
  })

const notFound = (id: bigint, method: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.LeaseNotFound({
      message: `There is no lease ${format(id)}: it was never granted, has expired, or was revoked. Grant a new lease.`,
      outcome: "not-applied",
      method
    })
  )

const ttlSeconds = (input: Duration.Input): Effect.Effect<bigint, EtcdError.EtcdError> => {
  const seconds = Option.match(Duration.fromInput(input), { onNone: () => 0, onSome: Duration.toSeconds })
  return seconds > 0 && Number.isFinite(seconds)
    ? Effect.succeed(BigInt(Math.ceil(seconds)))
    : Effect.fail(
        EtcdError.invalid(`The time to live of a lease is a positive, finite duration, and not ${String(input)}.`)
      )
}

/** On the wire lease ids are signed, in etcd's texts and in `EtcdId.parse` they are not. */
const signed = (id: bigint): bigint => BigInt.asIntN(64, id)

/** A positive id, as etcd's own are, that nobody else has: 63 random bits. */
const randomId = (): bigint => {
  const [bits] = globalThis.crypto.getRandomValues(new BigUint64Array(1))
  return BigInt.asUintN(63, bits!) || 1n
}

const seconds = (count: bigint): Duration.Duration => Duration.seconds(Math.max(0, Number(count)))

const isTransient = (error: EtcdError.EtcdError): boolean => decide(error.reason) !== "fail"

const isUncertain = (error: EtcdError.EtcdError): boolean =>
  error.outcome === "unknown" && error.reason._tag !== "DeadlineExceeded"

/** Holds several tries of a call to the deadline of one. */
const within = <A, R>(
  effect: Effect.Effect<A, EtcdError.EtcdError, R>,
  deadline: Duration.Input | undefined,
  method: string
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  const duration = deadline === undefined ? Option.none() : Duration.fromInput(deadline)
  if (Option.isNone(duration)) return effect
  const message = `${method} failed: no answer within ${Duration.format(duration.value)}. Give the call more time.`
  return Effect.timeoutOrElse(effect, {
    duration: duration.value,
    orElse: () => Effect.fail(EtcdError.make(new EtcdError.DeadlineExceeded({ message, outcome: "unknown", method })))
  })
}

const unanswered = EtcdError.make(
  new EtcdError.ConnectionLost({
    message: "Lease.LeaseKeepAlive failed: the server ended the stream without an answer. Try again.",
    outcome: "not-applied",
    method: "Lease.LeaseKeepAlive"
  })
)

/** For how long, in milliseconds, the end of a scope waits for etcd to revoke a lease, which would expire anyway. */
const longestRevoke = 5000

type Client = EtcdClient.EtcdClient["Service"]

const grantRequest = (client: Client, id: bigint, ttl: bigint, options: EtcdClient.CallOptions) =>
  client.unary(Rpc.Lease.method.leaseGrant, { ID: signed(id), TTL: ttl }, options)

const revokeRequest = (client: Client, id: bigint, options: EtcdClient.CallOptions) =>
  client.unary(Rpc.Lease.method.leaseRevoke, { ID: signed(id) }, options)

/** What a request made sure of: the lease lives for `ttl` seconds from `renewedAt` on. */
interface Term {
  readonly ttl: bigint
  readonly renewedAt: number
}

/**
 * Grants a lease with an id that nobody else can have. Therefore it can be asked for again when the outcome of a try is
 * unknown: if the id exists then, that try was applied.
 */
const grantOwn = (
  client: Client,
  now: () => number,
  id: bigint,
  ttl: bigint,
  options: EtcdClient.CallOptions
): Effect.Effect<Term, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    const begun = now()
    let uncertain = false
    const attempt = Effect.suspend(() => {
      const renewedAt = now()
      return Effect.map(grantRequest(client, id, ttl, options), (answer): Term => ({ ttl: answer.TTL, renewedAt }))
    })
    return attempt.pipe(
      Effect.tapError((error) =>
        Effect.sync(() => {
          uncertain ||= isUncertain(error)
        })
      ),
      Effect.retry({ while: isUncertain, schedule: EtcdClient.defaultRetry }),
      Effect.catchIf(
        (error) => uncertain && error.reason._tag === "LeaseExists",
        () => Effect.succeed({ ttl, renewedAt: begun })
      ),
      (granting) => within(granting, options.deadline, "Lease.LeaseGrant")
    )
  })

/** Revokes a lease, as well as can be done within a time, for which it can be asked as often as need be. */
const revokeQuietly = (client: Client, id: bigint, timeoutMillis: number): Effect.Effect<void> =>
  revokeRequest(client, id, { deadline: timeoutMillis }).pipe(
    Effect.retry({ while: isUncertain, schedule: Schedule.spaced(50) }),
    Effect.catchReason("EtcdError", "LeaseNotFound", () => Effect.void),
    Effect.interruptible,
    Effect.timeout(timeoutMillis),
    Effect.catch((error) => Effect.logDebug("etcd lease not revoked, it will expire", format(id), error.message)),
    Effect.asVoid
  )

const revokeTimeout = (ttl: bigint): number => Math.min(Number(ttl) * 1000, longestRevoke)

/** Sends one keep-alive on a stream of its own, and again when that stream breaks before the answer. */
const renewOnce = (
  client: Client,
  id: LeaseId,
  options: EtcdClient.CallOptions
): Effect.Effect<Granted, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    let opened = false
    const attempt = Effect.gen(function* () {
      opened = false
      const duplex = yield* client.bidirectional(Rpc.Lease.method.leaseKeepAlive, options)
      opened = true
      yield* duplex.send({ ID: signed(id) })
      const answer = yield* Stream.runHead(duplex.messages)
      if (Option.isNone(answer)) return yield* Effect.fail(unanswered)
      const { header, ID, TTL } = answer.value
      if (TTL <= 0n) return yield* Effect.fail(notFound(id, "Lease.LeaseKeepAlive"))
      return { header: Wire.header(header), id: LeaseId(ID), ttl: seconds(TTL) }
    })
    return Effect.scoped(attempt).pipe(
      Effect.retry({
        while: (error) => opened && isTransient(error),
        schedule: options.retry ?? EtcdClient.defaultRetry
      }),
      (renewing) => within(renewing, options.deadline, "Lease.LeaseKeepAlive")
    )
  })

const isGone = ({ reason }: Keeper.Loss): boolean => reason === "not-found" || reason === "revoked"

const revoked: Keeper.Loss = { reason: "revoked", cause: undefined }

const handle = (keeper: Keeper.Keeper, entry: Keeper.Entry): Lease => {
  const id = LeaseId(entry.id)
  const lost = Effect.map(Deferred.await(entry.lost), (loss) => leaseLost(id, loss))
  return {
    id,
    ttl: Duration.millis(entry.ttl),
    lost,
    remaining: Effect.sync(() =>
      Duration.millis(entry.loss !== undefined ? 0 : Math.max(0, entry.expiresAt - keeper.now()))
    ),
    whileHeld: (effect) =>
      Effect.suspend(() => {
        const failure = Effect.flatMap(lost, Effect.fail)
        return entry.loss !== undefined ? failure : Effect.raceFirst(effect, failure)
      })
  }
}

/**
 * The service over a client. Leases are kept alive until the scope is closed, at the longest.
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient: (client: EtcdClient.EtcdClient["Service"]) => Effect.Effect<Leases, never, Scope.Scope> =
  Effect.fnUntraced(function* (client) {
    const serviceScope = yield* Effect.scope
    const keeper = yield* Keeper.make(client)

    const revokeInBackground = (id: bigint, ttl: bigint) =>
      Effect.forkIn(revokeQuietly(client, id, revokeTimeout(ttl)), serviceScope)

    const grantFor = (ttl: bigint, { id, ...options }: GrantOptions) => {
      if (id !== undefined) {
        const renewedAt = keeper.now()
        return Effect.map(grantRequest(client, id, ttl, options), (answer) => ({ id, ttl: answer.TTL, renewedAt }))
      }
      const own = LeaseId(randomId())
      return grantOwn(client, keeper.now, own, ttl, options).pipe(
        Effect.map((term) => ({ id: own, ...term })),
        Effect.onError((cause) =>
          Cause.hasInterrupts(cause) ||
          Option.exists(Cause.findErrorOption(cause), ({ outcome }) => outcome === "unknown")
            ? revokeInBackground(own, ttl)
            : Effect.void
        )
      )
    }

    const endLease = (entry: Keeper.Entry) =>
      Effect.suspend(() => {
        if (entry.loss !== undefined && isGone(entry.loss)) return Effect.void
        keeper.settle(entry.id, revoked)
        return revokeQuietly(client, entry.id, revokeTimeout(BigInt(Math.ceil(entry.ttl / 1000))))
      })

    return {
      make: (ttl, options = {}) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.gen(function* () {
            const wanted = yield* ttlSeconds(ttl)
            const granted = yield* restore(Effect.suspend(() => grantFor(wanted, options)))
            const entry = keeper.keep(signed(granted.id), granted.ttl, granted.renewedAt)
            yield* Effect.addFinalizer(() => endLease(entry))
            return handle(keeper, entry)
          })
        ),
      keepAlive: (id, options = {}) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.gen(function* () {
            const renewedAt = keeper.now()
            const { ttl } = yield* restore(renewOnce(client, id, options))
            const entry = keeper.keep(signed(id), BigInt(Duration.toSeconds(ttl)), renewedAt)
            yield* Effect.addFinalizer(() => Effect.sync(() => keeper.release(entry)))
            return handle(keeper, entry)
          })
        ),
      keepAliveOnce: (id, options = {}) => renewOnce(client, id, options),
      grant: (ttl, { id = LeaseId(0n), ...options } = {}) =>
        Effect.flatMap(ttlSeconds(ttl), (wanted) =>
          Effect.map(grantRequest(client, id, wanted, options), (answer) => ({
            header: Wire.header(answer.header),
            id: LeaseId(answer.ID),
            ttl: seconds(answer.TTL)
          }))
        ),
      revoke: (id, options = {}) =>
        Effect.map(revokeRequest(client, id, options), (answer) => {
          keeper.settle(signed(id), revoked)
          return Wire.header(answer.header)
        }),
      timeToLive: (id, options = {}) =>
        Effect.flatMap(
          client.unary(Rpc.Lease.method.leaseTimeToLive, { ID: signed(id), keys: options.keys ?? false }, options),
          (answer) =>
            answer.TTL < 0n && answer.grantedTTL === 0n
              ? Effect.fail(notFound(id, "Lease.LeaseTimeToLive"))
              : Effect.succeed({
                  header: Wire.header(answer.header),
                  id: LeaseId(answer.ID),
                  ttl: seconds(answer.TTL),
                  grantedTtl: seconds(answer.grantedTTL),
                  keys: answer.keys
                })
        ),
      list: (options = {}) =>
        Effect.map(client.unary(Rpc.Lease.method.leaseLeases, {}, options), (answer) =>
          answer.leases.map((lease) => LeaseId(lease.ID))
        )
    }
  })

/**
 * Provides {@link EtcdLease} over the {@link EtcdClient.EtcdClient} that is there.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdLease, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdLease,
  Effect.flatMap(EtcdClient.EtcdClient, fromClient)
)

/**
 * A lease that is kept alive as long as the scope is open, and revoked when the scope closes: its keys are gone then,
 * without waiting for it to expire.
 *
 * The time to live is how long the keys outlive a program that is killed or cut off. It is rounded up to whole seconds,
 * and etcd raises it to its minimum of 1.5 election timeouts (2 seconds by default).
 *
 * When the lease is lost before, nothing happens by itself: race with `lost`, or use `whileHeld`. Granting is safe to
 * interrupt and to fail: a lease that may have been granted is revoked. Should etcd not be reachable when the scope
 * closes, at most 5 seconds are spent on it, and the lease expires.
 *
 * Fails with `InvalidArgument` if the time to live is not positive and finite, with `LeaseTtlTooLarge` if it is longer
 * than etcd allows (9,000,000,000 seconds), and with `LeaseExists` if the id given is taken.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLease } from "effect-etcd"
 *
 * const announce = Effect.scoped(
 *   Effect.gen(function*() {
 *     const lease = yield* EtcdLease.make("10 seconds")
 *     yield* EtcdKv.put("workers/1", "here I am", { lease: lease.id })
 *     yield* lease.whileHeld(Effect.never) // the work
 *   })
 * )
 * ```
 *
 * @category keeping
 * @since 0.1.0
 */
export const make = (
  ttl: Duration.Input,
  options?: GrantOptions | undefined
): Effect.Effect<Lease, EtcdError.EtcdError, EtcdLease | Scope.Scope> =>
  EtcdLease.use((leases) => leases.make(ttl, options))

/**
 * Keeps a lease alive that exists already, as long as the scope is open, and leaves it alone then.
 *
 * It is renewed at once; fails with `LeaseNotFound` if etcd does not have it.
 *
 * @category keeping
 * @since 0.1.0
 */
export const keepAlive = (
  id: LeaseId,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<Lease, EtcdError.EtcdError, EtcdLease | Scope.Scope> =>
  EtcdLease.use((leases) => leases.keepAlive(id, options))

/**
 * Renews a lease once. Fails with `LeaseNotFound` if etcd does not have it.
 *
 * @category requests
 * @since 0.1.0
 */
export const keepAliveOnce = (
  id: LeaseId,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<Granted, EtcdError.EtcdError, EtcdLease> =>
  EtcdLease.use((leases) => leases.keepAliveOnce(id, options))

/**
 * Grants a lease, and leaves the rest to the caller. See {@link make} for one that is kept alive and revoked.
 *
 * The time to live is rounded up to whole seconds. Fails as {@link make} does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdLease } from "effect-etcd"
 *
 * const forAnHour = Effect.gen(function*() {
 *   const { id } = yield* EtcdLease.grant("1 hour")
 *   yield* EtcdKv.put("sessions/7", "alice", { lease: id })
 * })
 * ```
 *
 * @category requests
 * @since 0.1.0
 */
export const grant = (
  ttl: Duration.Input,
  options?: GrantOptions | undefined
): Effect.Effect<Granted, EtcdError.EtcdError, EtcdLease> => EtcdLease.use((leases) => leases.grant(ttl, options))

/**
 * Ends a lease now, and deletes its keys. Fails with `LeaseNotFound` if etcd does not have it.
 *
 * @category requests
 * @since 0.1.0
 */
export const revoke = (
  id: LeaseId,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdLease> => EtcdLease.use((leases) => leases.revoke(id, options))

/**
 * How long a lease lives, and which keys it has. Fails with `LeaseNotFound` if etcd does not have it.
 *
 * @category requests
 * @since 0.1.0
 */
export const timeToLive = (
  id: LeaseId,
  options?: TimeToLiveOptions | undefined
): Effect.Effect<TimeToLive, EtcdError.EtcdError, EtcdLease> =>
  EtcdLease.use((leases) => leases.timeToLive(id, options))

/**
 * The ids of all leases.
 *
 * @category requests
 * @since 0.1.0
 */
export const list = (
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<ReadonlyArray<LeaseId>, EtcdError.EtcdError, EtcdLease> =>
  EtcdLease.use((leases) => leases.list(options))
