/**
 * What tests do with effects again and again.
 */
import * as Effect from "effect/Effect"

/** Forks it, and goes on when it waits for the first time. */
export const start = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Why it fails, which it is to. */
export const reasonOf = <A, Reason, R>(effect: Effect.Effect<A, { readonly reason: Reason }, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)
