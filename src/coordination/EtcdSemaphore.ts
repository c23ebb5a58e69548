/**
 * Semaphores: so many at a time in the whole cluster, and no more.
 *
 * A semaphore is a value, made of a name and a number of permits; {@link withPermits} runs an effect while it has some of
 * them. Whoever wants permits puts a key into the line of the semaphore, `<name>/`, and gets them when those of all who
 * stand there, up to and including its own, fit into the limit. So the order is strict: a large request is never starved
 * by small ones that come later, which wait even where there would be permits for them. Permits hang on the lease of the
 * program's session (`EtcdSession`): those of a program that crashed come back when its time to live is over.
 *
 * **The limit** is in etcd, in the key `<name>/permits`, so that all have the same one. The first program writes it there,
 * with the number that {@link make} was given. A program with another number is refused with {@link LimitMismatch}, before
 * it has taken anything, since one of the two programs must be wrong. {@link resize} changes the limit while programs
 * use it. From then on only the number in etcd counts, and those of the programs are ignored: running programs go on,
 * and need no new configuration when they are started again. So changing the number in a program does not change the
 * limit; resize it. (The version of the key shows that it was resized. `etcdctl put <name>/permits 8` resizes as well.)
 *
 * What is held, what its loss is, and how writes are fenced, is as with `EtcdLock`, whose `Held` and `LockLost` are used
 * here; the fence of a semaphore holds as long as the own permits are taken. Apart from that, see there for what happens
 * when etcd fails over, is cut off, and so on. (etcd before 3.5.35 gives permits also where its space is used up.)
 *
 * | what happens | outcome |
 * | --- | --- |
 * | more permits are asked for than there are | {@link LimitExceeded} at once |
 * | the limit becomes less than what somebody waits for | `LimitExceeded` at that moment |
 * | the limit becomes less than what is taken | nobody loses permits; others wait until enough have come back |
 * | the limit becomes more | those that fit now are woken, in the order of the line |
 * | interrupted while it waits, at whatever moment | no key stays, and no permit is lost |
 * | permits are taken while others are held | allowed, as with Effect's `Semaphore`; see below |
 *
 * A semaphore does not know to whom its permits belong, so an effect with permits may ask for more. If several do so,
 * they may wait for each other for ever: take all that is needed at once. Only what can never be granted is refused, with
 * `LimitExceeded`: more permits than there are, counting those that the same work holds within {@link withPermits}.
 *
 * However many of a program wait at a semaphore, or hold permits of it, the program has one watch of its line, as long as
 * one of them does; what is over within a moment needs none. Each change of the line is sent to each program that is there:
 * a program with a permit hears of all that come and go. Joining reads the line with its values: about 130 bytes for each
 * key in it.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import type * as EtcdError from "../EtcdError.ts"
import * as EtcdKv from "../EtcdKv.ts"
import * as EtcdTxn from "../EtcdTxn.ts"
import * as Held_ from "../internal/coordination/held.ts"
import * as Hold from "../internal/coordination/hold.ts"
import * as Line from "../internal/coordination/line.ts"
import { self as owner } from "../internal/coordination/parts.ts"
import * as Permits from "../internal/coordination/permits.ts"
import * as Session from "../internal/coordination/session.ts"
import * as Checks from "../internal/options.ts"
import * as Tracing from "../internal/tracing.ts"
import { Held, LockLost } from "./EtcdLock.ts"
import { EtcdSession } from "./EtcdSession.ts"

const TypeId = "~effect-etcd/coordination/EtcdSemaphore"

/**
 * The semaphore has another limit than the one it was made with, and nobody has resized it: two programs disagree.
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitMismatch extends Data.TaggedError("LimitMismatch")<{
  readonly name: string
  /** The limit that it was made with. */
  readonly permits: number
  /** The limit in etcd. Undefined where what is there is no number of permits. */
  readonly limit: number | undefined
  readonly message: string
}> {}

/**
 * More permits are asked for than there are, so that they would be waited for in vain.
 *
 * @category errors
 * @since 0.1.0
 */
export class LimitExceeded extends Data.TaggedError("LimitExceeded")<{
  readonly name: string
  /** How many were asked for. */
  readonly permits: number
  /** How many the work holds already that has asked, and keeps while it waits. */
  readonly held: number
  /** How many there are. */
  readonly limit: number
  readonly message: string
}> {}

/**
 * A semaphore. It is a value, which may be used as often as need be, at the same time as well.
 *
 * @category models
 * @since 0.1.0
 */
export interface Semaphore {
  readonly [TypeId]: typeof TypeId
  readonly name: string
  /** The limit that it was made with. */
  readonly permits: number
}

/**
 * What a semaphore is made of.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** How many permits there are, unless it was resized: a whole number from 1 on. */
  readonly permits: number
  /**
   * Lets etcd carry out what is written inside of `withPermits` only while the permits are held. Default: true. Without it
   * the writes of a holder that was stopped may land when others have its permits.
   */
  readonly fence?: boolean | undefined
  /**
   * What is done, once, when the effect goes on though it was interrupted and others could have the permits: when the lease
   * has run out, or the margin of the session has passed since the key went. `process.exit` is an option. Default: an error
   * in the log, and one more in the metric `etcd_coordination_overruns_total`.
   */
  readonly overrun?: ((lost: LockLost) => Effect.Effect<unknown>) | undefined
}

// -----------------------------------------------------------------------------
// Semaphores as values
// -----------------------------------------------------------------------------

interface Parts {
  readonly name: string
  readonly permits: number
  readonly fence: boolean
  readonly overrun: ((lost: LockLost) => Effect.Effect<unknown>) | undefined
  /** What is wrong with it, if anything is: said when it is to be used. */
  readonly problem: string | undefined
}

const partsOf = (semaphore: Semaphore): Parts => semaphore[TypeId] as never

const aSemaphore: Checks.Check = {
  accepts: (input) => Predicate.hasProperty(input, TypeId),
  due: "a semaphore, as EtcdSemaphore.make gives it"
}

const ofSemaphore: Checks.Checks<Options> = {
  permits: Permits.permitsCheck,
  fence: Checks.flag,
  overrun: Checks.callback
}

/**
 * A semaphore of that name.
 *
 * A name is as that of a lock; use it for one of the two. What makes no sense is said when the semaphore is to be used
 * (`InvalidArgument`).
 *
 * @example
 * ```ts
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const exports = EtcdSemaphore.make("exports", { permits: 5 })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (name: string, options: Options): Semaphore => {
  const who = "EtcdSemaphore.make"
  const problem =
    Checks.problemOfArgument(who, "the name", Line.nameCheck, name) ??
    Checks.problemOfArgument(who, "what it is made of", anObject, options) ??
    Checks.problemOf(who, ofSemaphore, options) ??
    Checks.problemOfArgument(who, "the option permits", Permits.permitsCheck, options.permits)
  const { fence = true, overrun, permits } = problem === undefined ? options : { permits: Number.NaN }
  const parts: Parts = { name, permits, fence, overrun, problem }
  return { [TypeId]: parts as never, name, permits }
}

const anObject: Checks.Check = { accepts: Checks.isObject, due: "{ permits }, such as { permits: 5 }" }

/** What a semaphore is made of, or what is wrong with it. */
const checked = (who: string, semaphore: Semaphore): Effect.Effect<Parts, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    const wrong = Checks.wrongArgument(who, "the semaphore", aSemaphore, semaphore)
    if (wrong !== undefined) return wrong
    const parts = partsOf(semaphore)
    return parts.problem === undefined ? Effect.succeed(parts) : Effect.fail(Checks.invalid(parts.problem))
  })

const checkedPermits = (who: string, permits: number): Effect.Effect<void, EtcdError.EtcdError> =>
  Checks.wrongArgument(who, "the number of permits", Permits.permitsCheck, permits) ?? Effect.void

// -----------------------------------------------------------------------------
// Taking permits
// -----------------------------------------------------------------------------

/**
 * Why permits are not given.
 *
 * @category errors
 * @since 0.1.0
 */
export type Refused = LimitMismatch | LimitExceeded

const mismatch = ({ name, permits }: Parts, limit: number | undefined): LimitMismatch => {
  const found = limit === undefined ? "no number of permits" : `${limit}`
  return new LimitMismatch({
    name,
    permits,
    limit,
    message:
      `The semaphore ${JSON.stringify(name)} was made with ${permits} permits here, and etcd has ${found} ` +
      `(in ${JSON.stringify(Permits.limitKey(name))}). Make it with the same number everywhere, or resize it.`
  })
}

const exceeded = (name: string, permits: number, held: number, limit: number): LimitExceeded => {
  const together = held === 0 ? "" : ` beside the ${held} that the same work holds, which would wait for itself`
  return new LimitExceeded({
    name,
    permits,
    held,
    limit,
    message: `The semaphore ${JSON.stringify(name)} has ${limit} permits, and ${permits} were asked for${together}.`
  })
}

const permitsLost: Held_.Tell<LockLost> = (entry, loss, overrunMillis) =>
  new LockLost(Held_.lossOf("A permit of", entry, loss, overrunMillis))

const specOf = (parts: Parts, permits: number, around: number): Line.Spec<Refused> => {
  const { name, permits: limit } = parts
  const rule = Permits.rule<Refused>({
    name,
    limit,
    permits,
    around,
    mismatch: (found) => mismatch(parts, found),
    exceeded: (found) => exceeded(name, permits, around, found)
  })
  return { places: [{ name, kind: "own", rule }], value: owner({ permits }), confirms: false }
}

/** What is to be taken of a semaphore, by a session; or what is wrong. */
const prepared = Effect.fnUntraced(function* (who: string, semaphore: Semaphore, permits: number) {
  const parts = yield* checked(who, semaphore)
  yield* checkedPermits(who, permits)
  const session = Session.of(yield* EtcdSession)
  const around = yield* Permits.around(session, parts.name)
  return { parts, session, spec: specOf(parts, permits, around) }
})

/** The span of what is done with a semaphore. */
const spanOf =
  (semaphore: Semaphore, permits?: number): Tracing.Options =>
  () => ({
    attributes: {
      ...(Predicate.hasProperty(semaphore, TypeId) ? { "etcd.semaphore.name": partsOf(semaphore).name } : {}),
      ...(permits === undefined ? {} : { "etcd.semaphore.permits": permits })
    }
  })

const runWith = <A, E, R>(
  who: string,
  self: Effect.Effect<A, E, R>,
  semaphore: Semaphore,
  permits: number,
  patience: Line.Patience
): Effect.Effect<Option.Option<A>, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession> =>
  Tracing.traced(
    Effect.flatMap(prepared(who, semaphore, permits), ({ parts: { fence, overrun }, session, spec }) => {
      const run = (entry: Line.Entry, restore: Line.Restore) =>
        Effect.flatMap(
          Held_.during(
            entry,
            { fence, overrun, tell: permitsLost },
            Held.context(Held_.make(entry, permitsLost)),
            self,
            restore
          ),
          (end) => Hold.conclude(end, permitsLost)
        )
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(Effect.void), () =>
          Effect.flatMap(Line.take(session, spec, patience, restore), (entry) =>
            entry === undefined ? Effect.succeedNone : Effect.map(run(entry, restore), Option.some)
          )
        )
      )
    }),
    who,
    spanOf(semaphore, permits)
  )

/**
 * Runs an effect while it has so many permits. It waits for them, and gives them back when the effect has ended, however it
 * ends.
 *
 * When the permits are lost, the effect is interrupted, and the whole fails with `EtcdLock.LockLost` when the effect has
 * ended; so it does where the effect has succeeded nevertheless. The effect has `EtcdLock.Held` as a service, and all that
 * it writes to this etcd is fenced, as within `EtcdLock.withLock`.
 *
 * Where the session is lost while it waits, it stands in line anew. To wait no longer than some time, use
 * `Effect.timeout`.
 *
 * Fails with {@link LimitMismatch} where etcd has another limit, with {@link LimitExceeded} where there are not so many
 * permits, with `InvalidArgument` where the semaphore or the number makes no sense, with `NoSpace` and `PermissionDenied`,
 * and with the reasons of a call when etcd cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const memory = EtcdSemaphore.make("render/gigabytes", { permits: 64 })
 *
 * const render = Effect.log("8 of 64, whoever else renders").pipe(EtcdSemaphore.withPermits(memory, 8))
 * ```
 *
 * @category permits
 * @since 0.1.0
 */
export const withPermits: {
  (
    semaphore: Semaphore,
    permits: number
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    semaphore: Semaphore,
    permits: number
  ): Effect.Effect<A, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
} = dual(3, <A, E, R>(self: Effect.Effect<A, E, R>, semaphore: Semaphore, permits: number) =>
  Effect.map(runWith("EtcdSemaphore.withPermits", self, semaphore, permits, "waits"), Option.getOrThrow)
)

/**
 * Runs an effect while it has one permit, as {@link withPermits} does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const exports = EtcdSemaphore.make("exports", { permits: 5 })
 *
 * const one = Effect.log("one of five").pipe(EtcdSemaphore.withPermit(exports))
 * ```
 *
 * @category permits
 * @since 0.1.0
 */
export const withPermit: {
  (
    semaphore: Semaphore
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    semaphore: Semaphore
  ): Effect.Effect<A, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, semaphore: Semaphore) =>
  Effect.map(runWith("EtcdSemaphore.withPermit", self, semaphore, 1, "waits"), Option.getOrThrow)
)

/**
 * As {@link withPermits}, if there are so many permits and nobody waits for any: otherwise the effect is not run, and the
 * result is `None`. More than there are at all is an error here as well.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const exports = EtcdSemaphore.make("exports", { permits: 5 })
 *
 * const maybe = Effect.log("there was room").pipe(EtcdSemaphore.withPermitsIfAvailable(exports, 2))
 * ```
 *
 * @category permits
 * @since 0.1.0
 */
export const withPermitsIfAvailable: {
  (
    semaphore: Semaphore,
    permits: number
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    semaphore: Semaphore,
    permits: number
  ): Effect.Effect<Option.Option<A>, E | LockLost | Refused | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
} = dual(3, <A, E, R>(self: Effect.Effect<A, E, R>, semaphore: Semaphore, permits: number) =>
  runWith("EtcdSemaphore.withPermitsIfAvailable", self, semaphore, permits, "leaves")
)

/**
 * Takes permits, waiting for them, and holds them until the scope closes.
 *
 * What depends on them is not interrupted by itself when they are lost: race with `lost`, or use {@link withPermits}.
 * Neither is there a fence but that of the transactions that `commit` sends, or that compare `fence`. Fails as
 * {@link withPermits} does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const connections = EtcdSemaphore.make("db/connections", { permits: 20 })
 *
 * const connected = Effect.gen(function*() {
 *   const held = yield* EtcdSemaphore.takeScoped(connections, 2)
 *   yield* Effect.log(`two connections, as number ${held.token}`)
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category permits
 * @since 0.1.0
 */
export const takeScoped = (
  semaphore: Semaphore,
  permits: number
): Effect.Effect<Held, Refused | EtcdError.EtcdError, Scope.Scope | EtcdSession> =>
  Tracing.traced(
    Effect.gen(function* () {
      const { session, spec } = yield* prepared("EtcdSemaphore.takeScoped", semaphore, permits)
      const entry = yield* Line.enter(session, spec, "waits")
      return Held_.make(entry!, permitsLost)
    }),
    "EtcdSemaphore.takeScoped",
    spanOf(semaphore, permits)
  )

// -----------------------------------------------------------------------------
// The limit
// -----------------------------------------------------------------------------

/**
 * How many permits could be had now without waiting. There are none where somebody waits, since nobody comes in before.
 *
 * Fails with {@link LimitMismatch} where etcd has another limit.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const exports = EtcdSemaphore.make("exports", { permits: 5 })
 *
 * const isBusy = Effect.map(EtcdSemaphore.available(exports), (permits) => permits === 0)
 * ```
 *
 * @category limit
 * @since 0.1.0
 */
export const available = (
  semaphore: Semaphore
): Effect.Effect<number, LimitMismatch | EtcdError.EtcdError, EtcdKv.EtcdKv> =>
  Tracing.traced(
    Effect.gen(function* () {
      const parts = yield* checked("EtcdSemaphore.available", semaphore)
      const { name, permits } = parts
      const { kvs } = yield* EtcdKv.range(Line.prefixOf(name))
      const found = kvs.find(({ keyString }) => keyString === Permits.limitKey(name))
      const limit = found === undefined ? { permits, isResized: false } : Permits.limitOf(found)
      if (limit.permits === undefined || (!limit.isResized && limit.permits !== permits)) {
        return yield* Effect.fail(mismatch(parts, limit.permits))
      }
      return Math.max(0, limit.permits - Permits.taken(Line.standings(name, kvs)))
    }),
    "EtcdSemaphore.available",
    spanOf(semaphore)
  )

/**
 * Changes the limit for all who use the semaphore, whatever they were made with.
 *
 * Where it becomes more, those who wait and fit in now are woken. Where it becomes less, nobody loses what is held, and who
 * waits for more than there are now gets {@link LimitExceeded}.
 *
 * Fails with `InvalidArgument` where the semaphore or the number makes no sense, and as `EtcdTxn.commit` does. Where the
 * outcome is `unknown`, the limit may have been changed: set it again.
 *
 * @example
 * ```ts
 * import { EtcdSemaphore } from "effect-etcd/coordination"
 *
 * const exports = EtcdSemaphore.make("exports", { permits: 5 })
 *
 * const more = EtcdSemaphore.resize(exports, 8)
 * ```
 *
 * @category limit
 * @since 0.1.0
 */
export const resize = (
  semaphore: Semaphore,
  permits: number
): Effect.Effect<void, EtcdError.EtcdError, EtcdTxn.EtcdTxn> =>
  Tracing.traced(
    Effect.gen(function* () {
      const who = "EtcdSemaphore.resize"
      const parts = yield* checked(who, semaphore)
      yield* checkedPermits(who, permits)
      const key = Permits.limitKey(parts.name)
      // That it was resized shows by the version of the key.
      yield* EtcdTxn.commit(
        EtcdTxn.make({ compare: EtcdTxn.missing(key), success: EtcdTxn.put(key, String(parts.permits)) })
      )
      yield* EtcdTxn.commit(EtcdTxn.put(key, String(permits)))
    }),
    "EtcdSemaphore.resize",
    spanOf(semaphore, permits)
  )
