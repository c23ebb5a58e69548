/**
 * In whose name the background acts. What happens between two calls, and to what several parts of a program share, is
 * logged with the logger, and at the level, of who asked last: not of the place where a layer happened to be built, which
 * knows nothing of what the program has set since.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** Who asked last. */
export interface Caller {
  context: Context.Context<never>
}

/** Who runs this, until somebody asks. */
export const make: Effect.Effect<Caller> = Effect.contextWith((context: Context.Context<never>) =>
  Effect.succeed({ context })
)

/** Who runs this has asked. */
export const note = (caller: Caller): Effect.Effect<void> =>
  Effect.contextWith((context: Context.Context<never>) => {
    caller.context = context
    return Effect.void
  })

/** Does something, such as logging, in the name of who asked last. */
export const as = <A, E>(caller: Caller, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.suspend(() => Effect.setContext(effect, caller.context))
