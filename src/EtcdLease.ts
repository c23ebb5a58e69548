/**
 * Leases: time limits that keys are attached to.
 *
 * A lease lives as long as somebody renews it within its time to live; when it ends, etcd deletes the keys that were
 * written with it. {@link make} gives a lease that this program keeps alive as long as a scope is open, with an effect
 * that tells of its loss; the other functions are etcd's own requests, one by one.
 *
 * All leases that one service keeps alive share one stream to etcd. A keep-alive is sent when a third of the time to
 * live has passed since the last one that was answered, as in etcd's Go client. When the stream breaks, or its server
 * stops answering or is about to stop, it is opened again elsewhere, so that a lease outlives a reconnect or a failover
 * that takes less than its time to live.
 *
 * A lease is *held* until its time to live has passed since the last keep-alive that was answered was **sent**. That
 * time is real, monotonic time, whatever `Clock` the program or a test has, and wherever the wall clock is set. It stands
 * still while the machine is suspended.
 *
 * So much is a promise as long as etcd keeps its own: it begins to count when it receives a keep-alive, after it was
 * sent, and counts at the same speed. What cannot be excluded is that this program itself does something after its time
 * has passed: it may be stopped, or its machine suspended, between the look at the lease and the deed, and a request
 * may be under way for long. And etcd may end a lease early (see {@link Lease}). A fence excludes it: a transaction
 * that does its work only if a key of the lease is still there, by its lease or its create revision (`EtcdTxn`), fails
 * when the lease is gone, whatever anybody believes.
 *
 * Besides the reasons that are said of each function, all fail with `InvalidArgument` where an argument or an option makes no
 * sense, before anything is sent, with those of every call (`EtcdError`), and with `Unreachable` when the service has ended.
 * After a change has failed, `outcome` says whether it may have been made.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import { format, LeaseId } from "./EtcdId.ts"
import type { Header } from "./EtcdResponse.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Json from "./internal/json.ts"
import * as Entry from "./internal/lease/entry.ts"
import type * as Keeper from "./internal/lease/keeper.ts"
import * as Requests from "./internal/lease/requests.ts"
import * as Internal from "./internal/lease/service.ts"
import * as Options from "./internal/options.ts"
import type * as Time from "./internal/time.ts"
import * as Tracing from "./internal/tracing.ts"

/**
 * A lease was lost, so its keys are gone or will be soon.
 *
 * - `not-found`: etcd does not have it any more. It expired there, or somebody revoked it.
 * - `revoked`: this service revoked it, on request or because its scope was closed.
 * - `not-renewed`: its time to live passed, in this machine's monotonic time, without an answer to a keep-alive.
 * - `refused`: the user may not renew it, because one of its keys is not the user's to write. Of etcd 3.5 and 3.6, only
 *   the patch releases since 2026 ask.
 * - `closed`: the service ended, or the scope that kept it alive was closed, so that nobody renews it any more.
 *
 * It is what `lost` of a {@link Lease} gives, and what `whileHeld` fails with.
 *
 * @category errors
 * @since 0.1.0
 */
export class LeaseLost extends Data.TaggedError("LeaseLost")<{
  readonly id: LeaseId
  /** Which of these happened. */
  readonly reason: "not-found" | "revoked" | "not-renewed" | "refused" | "closed"
  readonly message: string
  /** What went wrong last between this program and etcd, where that is the reason. */
  readonly cause?: EtcdError.EtcdError
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * A lease that is kept alive.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  /** As on the wire: a signed number of 64 bits, whichever form it was given in. */
  readonly id: LeaseId
  /** The time to live that etcd granted: whole seconds, and at least etcd's minimum (1.5 election timeouts). */
  readonly ttl: Duration.Duration
  /**
   * Waits until the lease is lost, and tells why.
   *
   * It is lost when etcd says so, and also when the time to live has passed since the last answered keep-alive was
   * *sent*. Since etcd begins to count only when it receives one, the lease is lost here before etcd can give its keys
   * to somebody else. No timer is trusted: who asks after the time has passed, because this process stood still, is
   * told at once, unless an answer has come meanwhile that reaches beyond now.
   *
   * etcd may end a lease that was renewed. A leader that is resumed from a pause, and does not know yet that there is
   * another one, may revoke leases that the other has renewed meanwhile (etcd-io/etcd 12528, 15247 and 16822; seen on
   * 3.5.30, 3.6.16 and 3.7.3); and keep-alives may be answered although the lease is gone (14758, mended by 20590).
   * Here both show with the next keep-alive at the earliest. Watch a key of your own that has the lease, to be told at
   * once: it is deleted.
   */
  readonly lost: Effect.Effect<LeaseLost>
  /**
   * For how long the lease is held unless it is renewed: zero once it is lost. It may live longer in etcd, and shorter
   * if it is revoked.
   */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Runs an effect as long as the lease is held: when the lease is lost, the effect is interrupted, and the whole fails
   * with {@link LeaseLost}. So it does where the effect succeeded when the lease was held no more, which happens when
   * it kept this process from all else; and at once where the lease is lost already.
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
  /**
   * Any number of 64 bits but zero, signed or not. Default: etcd (for `grant`) or the client (for `make`) chooses one
   * that is free.
   */
  readonly id?: LeaseId | undefined
}

/**
 * A lease as etcd granted or renewed it.
 *
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
 * How it stands with a lease.
 *
 * @category models
 * @since 0.1.0
 */
export interface TimeToLive {
  readonly header: Header
  readonly id: LeaseId
  /** How long the lease lives unless it is renewed, in whole seconds, rounded down. */
  readonly ttl: Duration.Duration
  /** The time to live that a renewal gives it. */
  readonly grantedTtl: Duration.Duration
  /** The keys that are attached to it, and are deleted with it, if `keys` was asked for; empty otherwise. */
  readonly keys: ReadonlyArray<Uint8Array>
}

/**
 * Grants, keeps and ends leases. Its functions are those of this module, which have more to say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /**
   * A lease that is kept alive as long as the scope is open, and revoked when the scope closes: its keys are gone then,
   * without waiting for it to expire. More at {@link make}.
   */
  readonly make: (
    ttl: Duration.Input,
    options?: GrantOptions | undefined
  ) => Effect.Effect<Lease, EtcdError.EtcdError, Scope.Scope>
  /**
   * Keeps a lease alive that exists already, as long as the scope is open, and leaves it alone then. More at
   * {@link keepAlive}.
   */
  readonly keepAlive: (
    id: LeaseId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Lease, EtcdError.EtcdError, Scope.Scope>
  /**
   * Renews a lease once. Fails with `LeaseNotFound` if etcd does not have it. Without a deadline it is tried for 30
   * seconds; where a member is silent for a second, another one is asked.
   */
  readonly keepAliveOnce: (
    id: LeaseId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Granted, EtcdError.EtcdError>
  /**
   * Grants a lease, and leaves the rest to the caller. See {@link make} for one that is kept alive and revoked. More at
   * {@link grant}.
   */
  readonly grant: (
    ttl: Duration.Input,
    options?: GrantOptions | undefined
  ) => Effect.Effect<Granted, EtcdError.EtcdError>
  /**
   * Ends a lease now, and deletes its keys. Fails with `LeaseNotFound` if etcd does not have it. More at {@link revoke}.
   */
  readonly revoke: (
    id: LeaseId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
  /** How long a lease lives, and which keys it has. Fails with `LeaseNotFound` if etcd does not have it. */
  readonly timeToLive: (
    id: LeaseId,
    options?: TimeToLiveOptions | undefined
  ) => Effect.Effect<TimeToLive, EtcdError.EtcdError>
  /** The ids of all leases that etcd has, whoever they are of. */
  readonly list: (
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<ReadonlyArray<LeaseId>, EtcdError.EtcdError>
}

/**
 * The service for leases: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdLease extends Context.Service<EtcdLease, Service>()("effect-etcd/EtcdLease") {}

const lostBecause: { readonly [reason in LeaseLost["reason"]]: string } = {
  "not-found": "etcd does not have it any more: it expired, or somebody revoked it",
  revoked: "this program revoked it",
  "not-renewed": "its time to live passed without an answer to a keep-alive",
  refused: "the user may not renew it",
  closed: "the scope that kept it alive was closed"
}

const leaseLost = (id: LeaseId, { cause, reason }: Entry.Loss): LeaseLost =>
  new LeaseLost({
    id,
    reason,
    message: `The lease ${format(id)} is lost: ${lostBecause[reason]}.${cause === undefined ? "" : ` ${cause.message}`}`,
    ...(cause === undefined ? {} : { cause })
  })

const seconds = (count: bigint): Duration.Duration => Duration.seconds(Math.max(0, Number(count)))

const handle = (keeper: Keeper.Keeper, time: Time.Time, entry: Entry.Entry): Lease => {
  const id = LeaseId(entry.id)
  const lossNow = Effect.map(keeper.lossOf(entry), (loss) => (loss === undefined ? undefined : leaseLost(id, loss)))
  const later = Effect.map(Deferred.await(entry.lost), (loss) => leaseLost(id, loss))
  const lost = Effect.flatMap(lossNow, (loss) => (loss === undefined ? later : Effect.succeed(loss)))
  const held = Effect.flatMap(lossNow, (loss) => (loss === undefined ? Effect.void : Effect.fail(loss)))
  const lease: Lease = {
    id,
    ttl: Duration.millis(entry.ttl),
    lost,
    remaining: Effect.map(lossNow, (loss) =>
      Duration.millis(loss === undefined ? Math.max(0, entry.expiresAt - time.now()) : 0)
    ),
    whileHeld: (effect) => {
      const work = Entry.working(entry, Effect.raceFirst(effect, Effect.flatMap(later, Effect.fail)))
      return Effect.andThen(
        held,
        Effect.tap(work, () => held)
      )
    }
  }
  return Json.showing(lease, ({ id, ttl }) => ({ id, ttl }))
}

// All of them, since deadlines count here too.
const ofGrant: Options.Checks<GrantOptions> = { ...Options.ofCall, id: Options.id("the new lease") }

const ofTimeToLive: Options.Checks<TimeToLiveOptions> = { ...Options.ofCall, keys: Options.flag }

const wrongTtl = (who: string, ttl: unknown) => Options.wrongArgument(who, "the time to live", Options.timeToLive, ttl)

const anId = Options.id("a lease")

const wrongId = (who: string, id: unknown) => Options.wrongArgument(who, "the id", anId, id)

/** Whole seconds, as etcd wants them. What it finds too long it says itself. */
const secondsOf = (ttl: Duration.Input): bigint =>
  BigInt(Math.min(Math.ceil(Duration.toSeconds(Duration.fromInputUnsafe(ttl))), Number.MAX_SAFE_INTEGER))

/**
 * The service over a client. It lives as long as the scope.
 *
 * When the scope is closed, everything that the service holds is lost with the reason `closed`. What runs in
 * `whileHeld` is interrupted and has 2.5 seconds to end; then the leases that {@link make} granted are revoked, those
 * too that are being granted at that moment, all at once and within 5 seconds in all. Those that {@link keepAlive} was
 * given are left alone. A service that has ended refuses all calls with `Unreachable`.
 *
 * So the keys of a lease go with the service even where the scope of the lease is closed later, as in
 * `program.pipe(Effect.provide(EtcdLayer.connect(options)), Effect.scoped)`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdLease } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"] })
 *   const leases = yield* EtcdLease.fromClient(client)
 *   const lease = yield* leases.make("10 seconds")
 *   yield* lease.whileHeld(Effect.log("held"))
 * })
 * const done = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.map(Internal.make(client), ({ about, adopt, keeper, obtain, time, whileOpen }) => ({
    make: (ttl, options) =>
      wrongTtl("EtcdLease.make", ttl) ??
      Options.wrongOptions("EtcdLease.make", ofGrant, options) ??
      Effect.suspend(() => {
        const { id, ...call } = options ?? {}
        const own = id === undefined ? undefined : LeaseId(id)
        const obtained = Tracing.traced(obtain(secondsOf(ttl), own, call), "EtcdLease.make")
        return Effect.map(obtained, (entry) => handle(keeper, time, entry))
      }),
    keepAlive: (id, options) =>
      wrongId("EtcdLease.keepAlive", id) ??
      Options.wrongCall("EtcdLease.keepAlive", options) ??
      Effect.map(Tracing.traced(adopt(LeaseId(id), options ?? {}), "EtcdLease.keepAlive"), (entry) =>
        handle(keeper, time, entry)
      ),
    keepAliveOnce: (id, options) =>
      wrongId("EtcdLease.keepAliveOnce", id) ??
      Options.wrongCall("EtcdLease.keepAliveOnce", options) ??
      Effect.suspend(() => {
        const wire = LeaseId(id)
        const renewed = about(wire, options ?? {}, Requests.renew(client, time, wire, options ?? {}))
        return Effect.map(renewed, ({ header, ttl }) =>
          Json.answer({ header: Wire.header(header), id: wire, ttl: seconds(ttl) })
        )
      }),
    grant: (ttl, options) =>
      wrongTtl("EtcdLease.grant", ttl) ??
      Options.wrongOptions("EtcdLease.grant", ofGrant, options) ??
      Effect.suspend(() => {
        const { id, ...call } = options ?? {}
        const wire = id === undefined ? 0n : LeaseId(id)
        return Effect.map(whileOpen(Requests.grant(client, wire, secondsOf(ttl), call)), (answer) =>
          Json.answer({ header: Wire.header(answer.header), id: LeaseId(answer.ID), ttl: seconds(answer.TTL) })
        )
      }),
    revoke: (id, options) =>
      wrongId("EtcdLease.revoke", id) ??
      Options.wrongCall("EtcdLease.revoke", options) ??
      Effect.suspend(() => {
        const wire = LeaseId(id)
        const entry = keeper.find(wire)
        return Effect.map(about(wire, options ?? {}, Requests.revoke(client, wire, options ?? {})), (answer) => {
          if (entry !== undefined) keeper.settle(entry, { reason: "revoked", cause: undefined })
          return Wire.header(answer.header)
        })
      }),
    timeToLive: (id, options) =>
      wrongId("EtcdLease.timeToLive", id) ??
      Options.wrongOptions("EtcdLease.timeToLive", ofTimeToLive, options) ??
      Effect.suspend(() => {
        const { keys = false, ...call } = options ?? {}
        const wire = LeaseId(id)
        const asked = about(wire, call, Requests.timeToLive(client, wire, keys, call))
        return Effect.map(asked, (answer) =>
          Json.answer({
            header: Wire.header(answer.header),
            id: LeaseId(answer.ID),
            ttl: seconds(answer.TTL),
            grantedTtl: seconds(answer.grantedTTL),
            keys: answer.keys
          })
        )
      }),
    list: (options) =>
      Options.wrongCall("EtcdLease.list", options) ??
      Effect.map(whileOpen(Requests.list(client, options ?? {})), (answer) =>
        answer.leases.map((lease) => LeaseId(lease.ID))
      )
  }))

/**
 * Provides {@link EtcdLease} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides it with
 * all the others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdLease } from "effect-etcd"
 *
 * const live = EtcdLease.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
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
 * and etcd raises it to its minimum of 1.5 election timeouts (2 seconds by default). Through etcd's gRPC proxy, which
 * answers keep-alives late, take 5 seconds at least. A bare number counts milliseconds: one below 1000 is refused, since it
 * certainly lacks its unit (`10` for `"10 seconds"`).
 *
 * When the lease is lost before, nothing happens by itself: race with `lost`, or use `whileHeld`. The lease is held
 * when it is given out: where granting took long, it is renewed first, or granted anew.
 *
 * Granting is safe to interrupt and to fail. A request that is under way is let end in the background, and a lease that
 * was granted, or may have been, is revoked. With an `id` of the caller's the lease may be somebody else's where the
 * request failed without an answer, and again as soon as its time is over: then it is not revoked, and expires.
 *
 * When the scope closes, `lost` says `revoked`, what runs in `whileHeld` is interrupted and has 2.5 seconds to end, and
 * then the lease is revoked. Should etcd not be reachable, no more is waited for than 5 seconds for all leases that end
 * together, and for none whose time is over; they are tried on in the background while the service lives, and expire.
 *
 * Fails with `InvalidArgument` if the time to live is not positive and finite, with `LeaseTtlTooLarge` if it is longer
 * than etcd allows (9,000,000,000 seconds), with `LeaseExists` if the id given is taken, with `DeadlineExceeded` if
 * etcd takes longer to answer than the lease would live, and with `Unreachable` when the service has ended.
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
 * It is renewed at once; fails with `LeaseNotFound` if etcd does not have it, and with `Unreachable` when the service
 * has ended. Without a deadline it is tried for 30 seconds.
 *
 * A lease may have several holders. It is kept until the last of them leaves; but where {@link make} granted it, it is
 * revoked when that scope closes, and lost for all.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdId, EtcdLease } from "effect-etcd"
 *
 * // The id came from another process, which goes on with the lease afterwards.
 * const helpOut = (id: bigint) =>
 *   Effect.gen(function*() {
 *     const lease = yield* EtcdLease.keepAlive(EtcdId.LeaseId(id))
 *     yield* lease.whileHeld(Effect.sleep("1 minute"))
 *   }).pipe(Effect.scoped)
 * ```
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
 * Renews a lease once. Fails with `LeaseNotFound` if etcd does not have it. Without a deadline it is tried for 30
 * seconds; where a member is silent for a second, another one is asked.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdLease } from "effect-etcd"
 *
 * const renewed = Effect.gen(function*() {
 *   const { id } = yield* EtcdLease.grant("1 minute")
 *   const { ttl } = yield* EtcdLease.keepAliveOnce(id) // a minute from now
 *   return ttl
 * })
 * ```
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
 * The time to live is rounded up to whole seconds. Fails as {@link make} does. Where it fails with the outcome `unknown`, or
 * is interrupted, etcd may have a lease that nobody knows of, until it expires.
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
 * All its keys go in one step. Who holds it here, by {@link make} or {@link keepAlive}, is told: it is lost as `revoked`.
 *
 * @example
 * ```ts
 * import { EtcdId, EtcdLease } from "effect-etcd"
 *
 * const logOut = (session: bigint) => EtcdLease.revoke(EtcdId.LeaseId(session))
 * ```
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
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdId, EtcdLease } from "effect-etcd"
 *
 * const keysOf = (id: bigint) =>
 *   EtcdLease.timeToLive(EtcdId.LeaseId(id), { keys: true }).pipe(
 *     Effect.map(({ keys }) => keys.map((key) => new TextDecoder().decode(key)))
 *   )
 * ```
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
 * The ids of all leases that etcd has, whoever they are of.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdId, EtcdLease } from "effect-etcd"
 *
 * const shown = EtcdLease.list().pipe(Effect.map((ids) => ids.map(EtcdId.format))) // as etcdctl shows them
 * ```
 *
 * @category requests
 * @since 0.1.0
 */
export const list = (
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<ReadonlyArray<LeaseId>, EtcdError.EtcdError, EtcdLease> =>
  EtcdLease.use((leases) => leases.list(options))
