/**
 * In whose name the background acts. What happens between two calls, and to what several parts of a program share, is
 * logged with the logger, and at the level, of who asked last: not of the place where a layer happened to be built, which
 * knows nothing of what the program has set since.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as References from "effect/References"
import * as Stream from "effect/Stream"
import type { Client } from "../EtcdClient.ts"

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

const ofLogging = [
  References.CurrentLoggers,
  References.MinimumLogLevel,
  References.CurrentLogAnnotations,
  References.CurrentLogSpans
]

const withLogging = <R>(context: Context.Context<R>, from: Context.Context<never>): Context.Context<R> =>
  ofLogging.reduce(
    (all, reference: Context.Reference<any>) => Context.add(all, reference, Context.get(from, reference)),
    context as Context.Context<any>
  )

/** Does something in the name of who asked last: as to what it logs, and what is logged because of it. */
export const as = <A, E, R>(caller: Caller, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() =>
    Effect.updateContext(effect, (context: Context.Context<R>) => withLogging(context, caller.context))
  )

/** Says something to who asked last. What hears it may break down, and nothing else comes to harm by that. */
export const say = (caller: Caller, saying: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.ignoreCause(as(caller, saying))

/** A client whose calls are made in the name of who asked last. */
export const client = (caller: Caller, self: Client): Client => ({
  ...self,
  unary: (method, request, options) => as(caller, self.unary(method, request, options)),
  serverStream: (method, request, options) =>
    Stream.suspend(() =>
      Stream.updateContext(self.serverStream(method, request, options), (context: Context.Context<never>) =>
        withLogging(context, caller.context)
      )
    ),
  bidirectional: (method, options) => as(caller, self.bidirectional(method, options))
})
