/**
 * Work that lives while an entry is held: it is interrupted when that is lost, and the entry is not given back before it
 * has ended.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import { EtcdError } from "../../EtcdError.ts"
import * as Time from "../time.ts"
import * as Line from "./line.ts"
import * as Session from "./session.ts"

/** What the work that is running holds, by which it shows that it would wait for itself. */
export const Holding: Context.Reference<ReadonlyArray<Line.Entry>> = Context.Reference(
  "effect-etcd/coordination/Holding",
  { defaultValue: (): ReadonlyArray<Line.Entry> => [] }
)

/**
 * Whether this fiber holds a place in a line already, or the work that it is a part of does, or who runs that work and
 * waits for it.
 */
export const holdsAlready = (session: Session.Session, name: string): Effect.Effect<boolean> =>
  Effect.withFiber((fiber) => {
    const around = Context.get(fiber.context, Holding).filter(({ isHeld }) => isHeld)
    const isAround = around.some(({ session: other, spec }) =>
      spec.places.some((place) => Line.isSame(other, place.name, session, name))
    )
    const fibers = [fiber.id, ...around.map(({ fiberId }) => fiberId)]
    return Effect.succeed(isAround || fibers.some((id) => Line.holds(session, name, id)))
  })

/** How the work ended. */
export interface End<out A, out E> {
  readonly entry: Line.Entry
  readonly exit: Exit.Exit<A, E>
  /** Why the entry was lost meanwhile. */
  readonly loss: Session.Loss | undefined
  /** For how many milliseconds it went on when somebody else could have had the place. */
  readonly overrunMillis: number
}

/** Work that has to end. */
interface Ending {
  readonly entry: Line.Entry
  readonly loss: Session.Loss
  readonly lostAt: number
  /** When its lease was given up. */
  goneAt: number
  readonly ended: Deferred.Deferred<void>
}

/** Whether the key goes when the time of its lease is over; otherwise it is gone already. */
const isRunningOut = ({ reason }: Session.Loss): boolean =>
  reason === "not-renewed" || reason === "refused" || reason === "closed" || reason === "revoked"

/** When somebody else may have the place; where they may already, when the work should have ended. */
const limitOf = ({ entry: { incarnation }, goneAt, loss, lostAt }: Ending): number =>
  isRunningOut(loss)
    ? Math.min(goneAt, Math.max(lostAt, Session.expiresAt(incarnation)))
    : lostAt + incarnation.marginMillis

/** Waits until the lease is not there any more, although its time is not over. */
const endOfLease = (ending: Ending): Effect.Effect<void> => {
  const { incarnation, session } = ending.entry
  return Effect.flatMap(Deferred.await(incarnation.lease.lost), ({ reason }) => {
    if (reason !== "revoked" && reason !== "not-found") return Effect.never
    ending.goneAt = Math.min(ending.goneAt, session.time.now())
    return Effect.void
  })
}

/** Waits until the limit is over, which moves on where the lease is still renewed. */
const untilLimit = (ending: Ending): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { time } = ending.entry.session
    const left = limitOf(ending) - time.now()
    return left <= 0
      ? Effect.void
      : Effect.andThen(Effect.raceFirst(Time.sleep(time, left), endOfLease(ending)), untilLimit(ending))
  })

/** Waits until work has ended, or its entry is lost. */
const endOrLoss = (entry: Line.Entry, fiber: Fiber.Fiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const goOn = () => resume(Effect.void)
    entry.onSettled = goOn
    if (entry.loss !== undefined) return goOn()
    const stop = fiber.addObserver(goOn)
    return Effect.sync(stop)
  })

/**
 * Runs work while an entry is held. `overrun` is done if the work goes on when somebody else could have the place.
 */
export const run = <A, E, R>(
  entry: Line.Entry,
  work: Effect.Effect<A, E, R>,
  overrun: (loss: Session.Loss) => Effect.Effect<unknown>,
  restore: Line.Restore
): Effect.Effect<End<A, E>, never, R> =>
  Effect.gen(function* () {
    const { incarnation, session } = entry
    const inside = Effect.updateService(work, Holding, (others) => [...others, entry])
    const fiber = yield* Effect.forkDetach(inside, { startImmediately: true })
    let ending: Ending | undefined
    yield* Effect.exit(restore(endOrLoss(entry, fiber)))
    let exit = fiber.pollUnsafe()
    while (exit === undefined) {
      const { loss } = entry
      if (loss !== undefined && ending === undefined) {
        const ended = Deferred.makeUnsafe<void>()
        ending = { entry, loss, lostAt: session.time.now(), goneAt: Number.POSITIVE_INFINITY, ended }
        const late = Effect.andThen(untilLimit(ending), Effect.ignoreCause(Effect.suspend(() => overrun(loss))))
        // The session may end before the work does.
        yield* Effect.forkDetach(Effect.raceFirst(late, Deferred.await(ended)), { startImmediately: true })
      }
      fiber.interruptUnsafe()
      yield* ending === undefined ? endOrLoss(entry, fiber) : Fiber.await(fiber)
      exit = fiber.pollUnsafe()
    }
    yield* Session.checkTime(session, incarnation)
    if (ending !== undefined) Deferred.doneUnsafe(ending.ended, Exit.void)
    const overrunMillis = ending === undefined ? 0 : Math.max(0, session.time.now() - limitOf(ending))
    return { entry, exit, loss: entry.loss, overrunMillis }
  })

const isFenced = (error: unknown): boolean => error instanceof EtcdError && error.reason._tag === "Fenced"

/** Whether an error tells the very loss, by which the work has learned of it. */
const tells = ({ revision, spec }: Line.Entry, error: unknown): boolean => {
  if (!Predicate.isTagged(error, "LockLost")) return false
  const { names, token } = error as unknown as { readonly names: ReadonlyArray<string>; readonly token: bigint }
  return token === revision && names.length === spec.places.length && names[0] === spec.places[0]!.name
}

/** Whether it says no more than that the entry was lost: the interruption, and what was refused under it. */
const isOfLoss = <E>(entry: Line.Entry, reason: Cause.Reason<E>): boolean => {
  if (Cause.isInterruptReason(reason)) return true
  const error = Cause.isFailReason(reason) ? reason.error : reason.defect
  return isFenced(error) || tells(entry, error)
}

/** What a failure says beside the loss of the entry. */
const ownReasons = <E>(entry: Line.Entry, cause: Cause.Cause<E>): ReadonlyArray<Cause.Reason<E>> =>
  cause.reasons.filter((reason) => !isOfLoss(entry, reason))

/** Whether work ended because its entry was lost, and for no other reason. */
export const isByLoss = <A, E>({ entry, exit, loss }: End<A, E>): boolean =>
  loss !== undefined && Exit.isFailure(exit) && ownReasons(entry, exit.cause).length === 0

/** The result of work: where its entry was lost that is the failure, beside what else went wrong. */
export const conclude = <A, E, L>(
  { entry, exit, loss, overrunMillis }: End<A, E>,
  tell: (entry: Line.Entry, loss: Session.Loss, overrunMillis: number) => L
): Exit.Exit<A, E | L> => {
  if (loss === undefined) return exit
  const failure = Cause.makeFailReason(tell(entry, loss, overrunMillis))
  const others = Exit.isFailure(exit) ? ownReasons(entry, exit.cause) : []
  return Exit.failCause(Cause.fromReasons<E | L>([failure, ...others]))
}
