/**
 * Which spans there are: those of a program that traces, and no others.
 *
 * - What the program has called is one span, and below it there is one for each RPC that this makes, with all its tries.
 *   A call that is one RPC is the span of that RPC and no other ({@link traced} and `client/telemetry.ts`).
 * - What nobody waits for is in no trace ({@link inBackground}): connections and their first question, the streams that
 *   carry watches and keep leases alive, what a node or a member is asked from time to time, and what follows a key in the
 *   background. Metrics count its calls as all others.
 * - A span is below one that is still open. What is done later in the name of one that has ended, as the end of a lease
 *   whose scope closes is, is below the span of who closes it; where that has ended too, it is a trace of its own, which
 *   links to it.
 * - Without a tracer no span is made, nor anything for one.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"

/** Whether somebody would see a span: the fiber has a tracer of its own, and tracing is not switched off. */
export const isTraced = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.cache.tracer !== undefined && fiber.cache.tracerEnabled

/** A span that has ended, and is no parent any more. */
const endedParent = (span: Tracer.AnySpan | undefined): Tracer.Span | undefined =>
  span?._tag === "Span" && span.status._tag === "Ended" && !Context.get(span.annotations, Tracer.DisablePropagation)
    ? span
    : undefined

/** The options of a span that is made now in this fiber. */
export const optionsOf = (
  fiber: Fiber.Fiber<unknown, unknown>,
  options: Pick<Tracer.SpanOptionsNoTrace, "attributes" | "kind" | "links">
): Tracer.SpanOptionsNoTrace => {
  const ended = endedParent(fiber.cache.span)
  if (ended === undefined) return options
  const links = [...(options.links ?? []), { span: ended, attributes: {} }]
  return ended.sampled ? { ...options, root: true, links } : { ...options, root: true, links, sampled: false }
}

/** A program's failure may be anything. */
const textOf = (value: unknown, property: string): string | undefined => {
  const text = Predicate.hasProperty(value, property) ? value[property] : undefined
  return typeof text === "string" ? text : undefined
}

/** What a failure is called in `error.type`; undefined where there is none, or no more than an interruption. */
export const errorType = (exit: Exit.Exit<unknown, unknown>): string | undefined => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return undefined
  const error: unknown = Cause.squash(exit.cause)
  const tag = textOf(error, "_tag")
  // An EtcdError is told by its reason; others may be called so too.
  const reason =
    tag === "EtcdError" && Predicate.hasProperty(error, "reason") ? textOf(error.reason, "_tag") : undefined
  return reason ?? tag ?? textOf(error, "name") ?? "_OTHER"
}

/** Says on a span how what it is about has failed, if it has. */
export const concluded = (span: Tracer.Span, exit: Exit.Exit<unknown, unknown>): void => {
  const type = errorType(exit)
  if (type !== undefined) span.attribute("error.type", type)
}

/** What a span has beside its name, made when there is one. */
export type Options = () => Pick<Tracer.SpanOptionsNoTrace, "attributes" | "kind">

const nothing: Options = () => ({})

/** Runs what the program has called in a span of its own, if somebody would see it. */
export const traced = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  name: string,
  options: Options = nothing
): Effect.Effect<A, E, R> =>
  Effect.withFiber((fiber) =>
    isTraced(fiber)
      ? Effect.useSpan(name, optionsOf(fiber, options()), (span) =>
          Effect.onExit(Effect.provideService(self, Tracer.ParentSpan, span), (exit) =>
            Effect.sync(() => concluded(span, exit))
          )
        )
      : self
  ) as Effect.Effect<A, E, R>

/**
 * As {@link traced}, from the first pull of a stream until it ends. That its reader fails is no failure of it: the status of
 * the span has it, as with `Stream.withSpan`, but `error.type` has not.
 */
export const tracedStream = <A, E, R>(
  self: Stream.Stream<A, E, R>,
  name: string,
  options: Options = nothing
): Stream.Stream<A, E, R> =>
  Stream.unwrap(
    Effect.withFiber((fiber) => {
      if (!isTraced(fiber)) return Effect.succeed(self)
      return Effect.map(Effect.makeSpanScoped(name, optionsOf(fiber, options())), (span) =>
        self.pipe(
          Stream.tapCause((cause) => Effect.sync(() => concluded(span, Exit.failCause(cause)))),
          Stream.provideService(Tracer.ParentSpan, span)
        )
      )
    })
  ) as Stream.Stream<A, E, R>

/** As many links, and as many events, as exporters keep of a span. One that lasts for months is not to collect more. */
export const most = 128

/** What tells events on the span that is around, the first of them; undefined where nobody would see them. */
export type Tell = (event: string, attributes: Record<string, unknown>) => void

export const tell: Effect.Effect<Tell | undefined> = Effect.withFiber((fiber) => {
  const { span } = fiber.cache
  if (!isTraced(fiber) || span?._tag !== "Span") return Effect.undefined
  const clock = fiber.getRef(Clock.Clock)
  let left = most
  return Effect.succeed<Tell>((event, attributes) => {
    if (left === 0) return
    left--
    span.event(event, clock.currentTimeNanosUnsafe(), attributes)
  })
})

/** A context for what is done later, in the name of who asks for it then. */
export const withoutParent = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.omit(Tracer.ParentSpan)(context) as Context.Context<R>

const ofTracing = [Tracer.ParentSpan, Tracer.Tracer, References.TracerEnabled] as const

/** A context for a part of what is done in another one: in the trace of that. */
export const inTraceOf = <R>(context: Context.Context<R>, around: Context.Context<never>): Context.Context<R> =>
  Context.merge(Context.omit(...ofTracing)(context), Context.pick(...ofTracing)(around)) as Context.Context<R>

/** A context for what nobody waits for: in no trace. */
export const withoutTrace = <R>(context: Context.Context<R>): Context.Context<R> =>
  Context.add(withoutParent(context), References.TracerEnabled, false) as Context.Context<R>

/** Does what nobody waits for: in no trace. */
export const inBackground = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(self, (context: Context.Context<R>) => withoutTrace(context))

/** Goes on with what is the program's own, whose spans are a trace of their own then. */
export const onItsOwn = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.updateContext(self, (context: Context.Context<R>) => withoutParent(context))

/** At the end of the scope, in the name of who closes it, not of who has opened what ends then. */
export const atClose = (finalizer: Effect.Effect<void>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizer(scope, finalizer))
