/**
 * Doing something that is to be done whatever happens in between: it is tried until what is in its way has passed.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { EtcdError } from "../../EtcdError.ts"
import { retrying } from "../lease/requests.ts"
import * as Time from "../time.ts"
import * as Failures from "./failures.ts"
import type * as Line from "./line.ts"
import * as Session from "./session.ts"

/** Between tries of what is to be done as long as it takes. */
export const pauses: Schedule.Schedule<unknown> = Time.pauses("25 millis", "1 second")

/** Does something until it succeeds, or the lease is gone. */
export const untilDone = <A>(
  { time }: Session.Session,
  incarnation: Session.Incarnation,
  attempt: Effect.Effect<A, EtcdError>
): Effect.Effect<void> =>
  Effect.suspend(() =>
    Session.isLeaseGone(incarnation)
      ? Effect.void
      : Effect.ignore(
          retrying(time, attempt, pauses, () => !Session.isLeaseGone(incarnation), Session.leaseGone(incarnation))
        )
  )

/** Looks at something again and again until it is seen, or there is more to be said than that it was not. */
export const untilSeen = <A>(
  { time }: Session.Session,
  look: Effect.Effect<A, EtcdError>
): Effect.Effect<A, EtcdError> => retrying(time, look, pauses, Failures.onlyBlinds)

/**
 * Tries something, which is as interruptible as it makes itself, until it succeeds, or fails with what no time mends, or
 * the schedule of the pauses ends. The first failure is told with a warning. `what`: as in "etcd election is not joined at
 * the moment".
 */
export const untilPast = <A>(
  session: Session.Session,
  retry: Schedule.Schedule<unknown, EtcdError>,
  what: string,
  attempt: Effect.Effect<A, EtcdError>,
  restore: Line.Restore
): Effect.Effect<A, EtcdError> =>
  Effect.gen(function* () {
    const { time } = session
    const step = yield* Schedule.toStep(retry)
    for (let tries = 1; ; tries++) {
      const result = yield* Effect.result(attempt)
      if (Result.isSuccess(result)) return result.success
      const error = result.failure
      const isHopeless = session.isClosed || !Failures.mayPass(error)
      const pause = isHopeless ? undefined : yield* Time.nextPause(time, step, error)
      if (pause === undefined) return yield* Effect.fail(error)
      if (tries === 1) yield* Effect.logWarning(what, error.message)
      yield* restore(Time.sleep(time, pause))
    }
  })
