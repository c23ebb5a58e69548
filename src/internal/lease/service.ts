/**
 * Who holds which lease: gets leases, keeps them, and ends them.
 *
 * A lease has one owner from when it is asked for: this service. It is asked for in the background, so that whoever
 * stops waiting, at whatever moment, leaves nothing behind: a request that is on its way is let end, because only its
 * answer tells what there is to revoke. What the service still holds when it ends, it revokes.
 *
 * The end of a lease: its holders are told, the work that was done as long as it was held is interrupted and has time
 * to end, and then it is revoked. When etcd is gone, leases that end together share one limit of the time that is spent
 * on this, and a lease whose own time is over is not waited for. What is not waited for is tried all the same.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { format } from "../../EtcdId.ts"
import * as Caller from "../caller.ts"
import { closedError } from "../client/engine.ts"
import * as Limit from "../client/limit.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Background from "./background.ts"
import * as Entry from "./entry.ts"
import * as Keeper from "./keeper.ts"
import * as Requests from "./requests.ts"

type Client = EtcdClient.Client

export interface Service {
  readonly time: Time.Time
  readonly keeper: Keeper.Keeper
  /** Runs what is not to be begun when the service has ended. */
  readonly whileOpen: <A, R>(
    effect: Effect.Effect<A, EtcdError.EtcdError, R>
  ) => Effect.Effect<A, EtcdError.EtcdError, R>
  /** Runs a request for a lease: that etcd does not have it is news for whoever holds it. */
  readonly about: <A>(
    id: bigint,
    options: EtcdClient.CallOptions,
    request: Effect.Effect<A, EtcdError.EtcdError>
  ) => Effect.Effect<A, EtcdError.EtcdError>
  /** A lease that is kept and revoked at the end of the scope. Without an id it gets one that nobody else has. */
  readonly obtain: (
    ttl: bigint,
    id: bigint | undefined,
    options: EtcdClient.CallOptions
  ) => Effect.Effect<Entry.Entry, EtcdError.EtcdError, Scope.Scope>
  /** A lease that exists, and is kept until the end of the scope. */
  readonly adopt: (
    id: bigint,
    options: EtcdClient.CallOptions
  ) => Effect.Effect<Entry.Entry, EtcdError.EtcdError, Scope.Scope>
}

/** For how long, in milliseconds, the end of leases waits for etcd, which lets them expire anyway. */
const longestEnd = 5000

/** How much of that the work has that is interrupted before. */
const longestRest = longestEnd / 2

/** How many leases are revoked at once: those that cannot be must not keep the program busy. */
const mostRevoking = 64

/** What a request made sure of: the lease lives for `ttl` seconds from `renewedAt` on. */
interface Lifetime {
  readonly id: bigint
  readonly ttl: bigint
  readonly renewedAt: number
}

/** A lease that is asked for. */
interface Granting {
  readonly origin: "own" | "named"
  /** The lease that is there, or may be. */
  id: bigint | undefined
  /** When its time is over, as far as is known. */
  expiresAt: number
  /** Granted, and not handed over yet. */
  lifetime: Lifetime | undefined
  isAbandoned: boolean
  readonly abandoned: Deferred.Deferred<void>
}

interface State {
  readonly client: Client
  readonly caller: Caller.Caller
  readonly time: Time.Time
  readonly keeper: Keeper.Keeper
  readonly background: Background.Background
  readonly revoking: Semaphore.Semaphore
  readonly grantings: Set<Granting>
  readonly closed: Deferred.Deferred<void>
  isClosed: boolean
  /** Until when ends that come together are waited for. */
  limit: number
  /** How often etcd has answered that a lease is gone, and how often it had when that limit was set. */
  revoked: number
  revokedBefore: number
  /** How many leases could not be revoked since the service is closed. */
  left: number
}

const closed = (outcome: EtcdError.Outcome) =>
  EtcdError.make(
    new EtcdError.Unreachable({
      message: "The service is closed, so it takes no more leases. Make them, and use them, while it lives.",
      outcome,
      lasting: true
    })
  )

const whileOpen = <A, R>(state: State, effect: Effect.Effect<A, EtcdError.EtcdError, R>) =>
  Effect.andThen(Caller.note(state.caller), () => (state.isClosed ? Effect.fail(closed("not-applied")) : effect))

/** Ends at once when the service does. */
const orClosed = <A>(
  state: State,
  effect: Effect.Effect<A, EtcdError.EtcdError>,
  outcome: EtcdError.Outcome
): Effect.Effect<A, EtcdError.EtcdError> =>
  Effect.raceFirst(
    Effect.flatMap(Deferred.await(state.closed), () => Effect.fail(closed(outcome))),
    effect
  )

// ── the end ──

/**
 * Until when an end is waited for. It is a new limit when etcd has revoked something since the last one was set, or
 * when that is long over.
 */
const limitOf = (state: State): number => {
  const now = state.time.now()
  if (state.revoked !== state.revokedBefore || now > state.limit + longestEnd) {
    state.limit = now + longestEnd
    state.revokedBefore = state.revoked
  }
  return state.limit
}

/** Until when a lease may be revoked: as long as it may live if nobody renews it, but never when it may be another's. */
const revocableUntil = (state: State, origin: Entry.Origin, expiresAt: number, ttlMillis: number): number => {
  const whileItMayLive = state.time.now() + ttlMillis
  return origin === "named" ? Math.min(expiresAt - Entry.quantum, whileItMayLive) : whileItMayLive
}

/**
 * A lease that was to be revoked will live on. When the service ends, it says once how many there are. Whoever has closed
 * the client before needs no warning: etcd does nothing wrong, and both may be closing at once.
 */
const tellOfFailure = (state: State, id: bigint, until: number, error: EtcdError.EtcdError) =>
  Effect.suspend(() => {
    const isExpected = state.time.now() >= until || error === closedError
    if (state.isClosed && !isExpected) state.left++
    const log = state.isClosed || isExpected ? Effect.logDebug : Effect.logWarning
    return Caller.say(state.caller, log("etcd lease could not be revoked, it will expire", format(id), error.message))
  })

const revoke = (state: State, id: bigint, until: number): Effect.Effect<void> => {
  const revoking = Effect.suspend(() => {
    if (state.time.now() >= until) return Effect.void
    return Effect.matchEffect(Requests.revokeUntil(state.client, state.time, id, until), {
      onFailure: (error) => tellOfFailure(state, id, until, error),
      onSuccess: () =>
        Effect.sync(() => {
          state.revoked++
        })
    })
  })
  return state.revoking.withPermit(revoking)
}

/** Revokes a lease that is there, or may be, and that nobody waits for. */
const revokeUnwanted = (state: State, granting: Granting, id: bigint, ttl: bigint): Effect.Effect<unknown> => {
  const until = revocableUntil(state, granting.origin, granting.expiresAt, Number(ttl) * 1000)
  return state.background.run(revoke(state, id, until), until)
}

/** Lets the work end that has been interrupted, and revokes. */
const retire = (state: State, entry: Entry.Entry): Effect.Effect<Background.Task> => {
  const { background, time } = state
  const { expiresAt, id, origin, ttl } = entry
  const millis = Math.min(longestRest, expiresAt - time.now())
  const rest = entry.working === 0 ? Effect.void : Time.within(time, Entry.rest(entry), millis, () => Effect.void)
  const revoking = Effect.suspend(() => revoke(state, id, revocableUntil(state, origin, expiresAt, ttl)))
  return background.run(Effect.andThen(rest, revoking), expiresAt)
}

const revoked: Entry.Loss = { reason: "revoked", cause: undefined }

const isGone = (loss: Entry.Loss | undefined): boolean => loss?.reason === "not-found" || loss?.reason === "revoked"

const end = (state: State, entry: Entry.Entry): Effect.Effect<void> =>
  Effect.suspend(() => {
    // The service, which ends at the same time, is revoking what it held.
    if (state.isClosed) return Effect.asVoid(state.background.awaitAll(limitOf(state)))
    if (isGone(entry.loss)) return Effect.void
    const isHeld = entry.loss === undefined
    state.keeper.settle(entry, revoked)
    return Effect.flatMap(retire(state, entry), (task) =>
      isHeld ? state.background.await(task, limitOf(state)) : Effect.void
    )
  })

// ── the beginning ──

/** A positive id, as etcd's own are, that nobody else has: 63 random bits. */
const randomId = (): bigint => {
  const [bits] = globalThis.crypto.getRandomValues(new BigUint64Array(1))
  return BigInt.asUintN(63, bits!) || 1n
}

/** The pauses of a request as long as somebody waits for the lease: what was never sent need not be sent any more. */
const whileWanted = (state: State, granting: Granting, { retry }: EtcdClient.CallOptions) =>
  Schedule.while(retry ?? state.client.defaults("Lease").retry ?? EtcdClient.defaultRetry, () => !granting.isAbandoned)

/** Asks for a lease, and remembers whether it is there, or may be. That of a caller's id may be somebody else's. */
const tryGrant = (state: State, granting: Granting, id: bigint, ttl: bigint, options: EtcdClient.CallOptions) =>
  Effect.suspend(() => {
    if (granting.isAbandoned) return Effect.fail(closed("not-applied"))
    const renewedAt = state.time.now()
    const before = granting.id
    if (granting.origin === "own") granting.id = id
    return Requests.grant(state.client, id, ttl, { ...options, retry: whileWanted(state, granting, options) }).pipe(
      Effect.map((answer): Lifetime => {
        granting.id = id
        granting.expiresAt = renewedAt + Number(answer.TTL) * 1000
        return { id, ttl: answer.TTL, renewedAt }
      }),
      Effect.tapError((error) =>
        Effect.sync(() => {
          if (error.outcome === "not-applied") granting.id = before
        })
      )
    )
  })

/**
 * Grants a lease with an id that nobody else can have. Therefore it can be asked for again when the outcome of a try is
 * unknown: if the id exists then, that try was applied, and nobody knows when.
 */
const grantOwn = (state: State, granting: Granting, ttl: bigint, options: EtcdClient.CallOptions) =>
  Effect.suspend(() => {
    const id = randomId()
    granting.id = undefined
    const schedule = options.retry ?? EtcdClient.defaultRetry
    return Requests.retrying(
      state.time,
      tryGrant(state, granting, id, ttl, options),
      schedule,
      Requests.isMendable,
      Deferred.await(granting.abandoned)
    ).pipe(
      Effect.catchIf(
        (error) => granting.id === id && error.reason._tag === "LeaseExists",
        () => Effect.succeed({ id, ttl, renewedAt: Number.NEGATIVE_INFINITY })
      )
    )
  })

/** Whether so little time has passed that the keeper would not renew the lease yet. */
const isFresh = (state: State, { renewedAt, ttl }: Lifetime): boolean =>
  state.time.now() - renewedAt <= (Number(ttl) * 1000) / 3

const renewed = (
  state: State,
  { id }: Lifetime,
  options: EtcdClient.CallOptions
): Effect.Effect<Lifetime, EtcdError.EtcdError> =>
  Effect.map(
    Requests.renewInTime(state.client, state.time, id, options),
    ({ sentAt, ttl }): Lifetime => ({ id, ttl, renewedAt: sentAt })
  )

/** Grants a lease whose time has not passed when that is known. */
const grantInTime = Effect.fnUntraced(function* (
  state: State,
  granting: Granting,
  ttl: bigint,
  id: bigint | undefined,
  options: EtcdClient.CallOptions
) {
  for (let round = 1; ; round++) {
    const lifetime = yield* id === undefined
      ? grantOwn(state, granting, ttl, options)
      : tryGrant(state, granting, id, ttl, options)
    if (granting.isAbandoned || isFresh(state, lifetime)) return lifetime
    const result = yield* Effect.result(
      Effect.raceFirst(renewed(state, lifetime, options), Effect.as(Deferred.await(granting.abandoned), lifetime))
    )
    if (Result.isSuccess(result)) return result.success
    const error = result.failure
    if (error.reason._tag === "LeaseNotFound") {
      // What is gone here may be there still: a member that lags behind says so too.
      if (granting.origin === "own") yield* revokeUnwanted(state, granting, lifetime.id, lifetime.ttl)
      granting.id = undefined
    } else if (Requests.isRunning(state.time, lifetime.ttl, lifetime.renewedAt)) {
      return lifetime
    }
    if (error.reason._tag !== "LeaseNotFound" || round === Requests.mostRounds) return yield* Effect.fail(error)
  }
})

/** Hands the lease over, or sees to it that none is left. */
const concluded = (state: State, granting: Granting, ttl: bigint, exit: Exit.Exit<Lifetime, unknown>) =>
  Effect.suspend(() => {
    if (Exit.isSuccess(exit) && !granting.isAbandoned) {
      granting.lifetime = exit.value
      return Effect.void
    }
    return granting.id === undefined ? Effect.void : revokeUnwanted(state, granting, granting.id, ttl)
  })

/** Nobody waits for the lease any more. */
const abandon = (state: State, granting: Granting): Effect.Effect<unknown> =>
  Effect.suspend(() => {
    if (granting.isAbandoned) return Effect.void
    granting.isAbandoned = true
    Deferred.doneUnsafe(granting.abandoned, Exit.void)
    state.grantings.delete(granting)
    const { lifetime } = granting
    return lifetime === undefined ? Effect.void : revokeUnwanted(state, granting, lifetime.id, lifetime.ttl)
  })

/** How long the answer to a grant is waited for at least when whoever asked for the lease has not the time. */
const leastPatience = Duration.seconds(30)

/** How long who asks for a lease waits, and the options of the request, which is not cut off with that. */
const patiently = (state: State, { deadline, ...rest }: EtcdClient.CallOptions) => {
  const given = deadline ?? state.client.defaults("Lease").deadline
  if (given === undefined) return { limit: Limit.unlimited, options: rest }
  const patience = Duration.max(Duration.fromInputUnsafe(given), leastPatience)
  return { limit: Limit.limitOf(given), options: { ...rest, deadline: patience } }
}

const obtain = (state: State, ttl: bigint, id: bigint | undefined, given: EtcdClient.CallOptions) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const { background, grantings, keeper, time } = state
      const { limit, options } = patiently(state, given)
      if (limit.millis <= 0) return yield* Effect.fail(Requests.withoutTime(limit, "Lease.LeaseGrant"))
      const granting: Granting = {
        origin: id === undefined ? "own" : "named",
        id: undefined,
        expiresAt: Number.NEGATIVE_INFINITY,
        lifetime: undefined,
        isAbandoned: false,
        abandoned: Deferred.makeUnsafe()
      }
      grantings.add(granting)
      const asking = Effect.onExit(grantInTime(state, granting, ttl, id, options), (exit) =>
        concluded(state, granting, ttl, exit)
      )
      const { fiber } = yield* background.run(asking, time.now() + Number(ttl) * 1000)
      const answer = orClosed(state, Fiber.join(fiber), "unknown")
      const lifetime = yield* restore(Requests.within(time, answer, limit, "Lease.LeaseGrant")).pipe(
        Effect.onError(() => abandon(state, granting))
      )
      // From here on the keeper has it: there is no moment between in which the service could end without it.
      if (granting.isAbandoned) return yield* Effect.fail(closed("unknown"))
      grantings.delete(granting)
      const entry = keeper.keep(lifetime.id, lifetime.ttl, lifetime.renewedAt, granting.origin)
      yield* Tracing.atClose(end(state, entry))
      return entry
    })
  )

const notFound: Entry.Loss = { reason: "not-found", cause: undefined }

const about = <A>(
  state: State,
  id: bigint,
  options: EtcdClient.CallOptions,
  request: Effect.Effect<A, EtcdError.EtcdError>
): Effect.Effect<A, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    // What is granted meanwhile with this id is another lease.
    const entry = state.keeper.find(id)
    if (entry === undefined) return request
    return Effect.tapError(request, ({ reason }) =>
      Effect.sync(() => {
        // An endpoint that the caller names may be anybody's.
        if (reason._tag === "LeaseNotFound" && options.endpoint === undefined) state.keeper.settle(entry, notFound)
      })
    )
  })

const adopt = (state: State, id: bigint, options: EtcdClient.CallOptions) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const { client, keeper, time } = state
      const asking = about(state, id, options, Requests.renewInTime(client, time, id, options))
      const { sentAt, ttl } = yield* restore(orClosed(state, asking, "not-applied"))
      if (state.isClosed) return yield* Effect.fail(closed("not-applied"))
      const entry = keeper.keep(id, ttl, sentAt, "found")
      yield* Effect.addFinalizer(() => Effect.sync(() => keeper.release(entry)))
      return entry
    })
  )

/** Refuses what comes, ends what is under way, and revokes what was granted here. */
const close = Effect.fnUntraced(function* (state: State) {
  state.isClosed = true
  Deferred.doneUnsafe(state.closed, Exit.void)
  yield* Effect.forEach([...state.grantings], (granting) => abandon(state, granting), { discard: true })
  yield* Effect.forEach(state.keeper.close(), (entry) => retire(state, entry), { discard: true })
  const left = (yield* state.background.awaitAll(limitOf(state))) + state.left
  yield* state.background.stop
  const warning = Effect.logWarning("etcd leases could not be revoked, they will expire", { leases: left })
  if (left > 0) yield* Caller.say(state.caller, warning)
})

/** The service over a client; it ends with the scope. */
export const make = (given: Client): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    const caller = yield* Caller.make
    const client = Caller.client(caller, given)
    const keeper = yield* Keeper.make(client, (saying) => Caller.say(caller, saying))
    const state: State = {
      client,
      caller,
      time,
      keeper,
      background: Background.make(time),
      revoking: Semaphore.makeUnsafe(mostRevoking),
      grantings: new Set(),
      closed: Deferred.makeUnsafe(),
      isClosed: false,
      limit: Number.NEGATIVE_INFINITY,
      revoked: 0,
      revokedBefore: 0,
      left: 0
    }
    const open = <A, R>(effect: Effect.Effect<A, EtcdError.EtcdError, R>) => whileOpen(state, effect)
    yield* Effect.addFinalizer(() => close(state))
    return {
      time,
      keeper,
      about: (id, options, request) => open(about(state, id, options, request)),
      whileOpen: open,
      obtain: (ttl, id, options) => open(obtain(state, ttl, id, options)),
      adopt: (id, options) => open(adopt(state, id, options))
    }
  })
