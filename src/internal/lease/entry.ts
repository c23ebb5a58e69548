/**
 * A lease that is kept alive, as its keeper, its holders and its end see it. All times are milliseconds of real time.
 *
 * A lease is held until its time to live has passed since the last keep-alive that was answered was *sent*.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { EtcdError } from "../../EtcdError.ts"

/** Why a lease is held no longer. */
export interface Loss {
  readonly reason: "not-found" | "revoked" | "not-renewed" | "refused" | "closed"
  /** What failed last on the way to the server, if anything did since it was heard. */
  readonly cause: EtcdError | undefined
}

export const never = Number.POSITIVE_INFINITY

/** What happens within this time happens at once: leases are sent a bit early and given up a bit early, never late. */
export const quantum = 50

/**
 * Whose a lease is. `own`: granted here, with an id that nobody else can have. `named`: granted here, with an id of the
 * caller's, so that it may be somebody else's as soon as its time is over. `found`: it was there, and is only kept.
 */
export type Origin = "own" | "named" | "found"

export interface Entry {
  /** Signed, as on the wire. */
  readonly id: bigint
  /** Which lease of all this is: later ones have larger numbers. */
  readonly number: number
  readonly lost: Deferred.Deferred<Loss>
  loss: Loss | undefined
  readonly origin: Origin
  ttl: number
  /** When the server may let the lease expire, unless it is renewed before. */
  expiresAt: number
  /** When the next keep-alive is due; never while one is waiting to be sent or answered. */
  dueAt: number
  /** Since when a keep-alive is waiting to be sent or answered; never when none is. */
  waitingSince: number
  /** When the keep-alives were sent that this stream has not answered yet: the first of them, and perhaps one more. */
  sentAt: number
  sentAgainAt: number
  /** When it is to be looked at next, and where it is on the agenda. */
  checkAt: number
  place: number
  /** How many want it kept. */
  holders: number
  /** How many effects run as long as it is held. */
  working: number
  rested: Latch.Latch | undefined
}

let count = 0

export const make = (id: bigint, origin: Origin): Entry => ({
  id,
  number: count++,
  lost: Deferred.makeUnsafe(),
  loss: undefined,
  origin,
  ttl: 0,
  expiresAt: 0,
  dueAt: never,
  waitingSince: never,
  sentAt: never,
  sentAgainAt: never,
  checkAt: never,
  place: -1,
  holders: 0,
  working: 0,
  rested: undefined
})

/** A lease whose time has passed. Whether it is lost depends on what there is still to read. */
export const isOver = (entry: Entry, now: number): boolean => entry.expiresAt <= now + quantum

/** The server has begun to count anew, at `sentAt` at the earliest. */
export const renew = (entry: Entry, ttlSeconds: bigint, sentAt: number): void => {
  const ttl = Number(ttlSeconds) * 1000
  const isShorter = ttl < entry.ttl
  entry.ttl = ttl
  // What was sent later may be answered before. But a shorter time to live leaves nothing of what a longer one gave.
  entry.expiresAt = isShorter ? sentAt + ttl : Math.max(entry.expiresAt, sentAt + ttl)
  entry.dueAt = entry.expiresAt - (entry.ttl * 2) / 3
  entry.waitingSince = never
}

/** Runs an effect that the end of the lease may have to wait for. */
export const working = <A, E, R>(entry: Entry, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    entry.working++
    return Effect.ensuring(
      effect,
      Effect.sync(() => {
        entry.working--
        if (entry.working === 0) entry.rested?.openUnsafe()
      })
    )
  })

/** Waits until no effect runs any more that would do so only as long as the lease is held. */
export const rest = (entry: Entry): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (entry.working === 0) return Effect.void
    entry.rested ??= Latch.makeUnsafe()
    return entry.rested.await
  })
