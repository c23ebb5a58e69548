/**
 * Doing something that is to be done whatever happens in between: it is tried until what is in its way has passed.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type { EtcdError, Reason } from "../../EtcdError.ts"
import { worthwhile } from "../client/retryRules.ts"
import * as Time from "../time.ts"
import { isClientClosed, isLasting } from "../watch/rules.ts"
import type * as Line from "./line.ts"
import type * as Session from "./session.ts"

/** What a client asks for once only, since nobody should wait for it without knowing, and which may pass nevertheless. */
const passing: ReadonlySet<Reason["_tag"]> = new Set([
  "NoSpace",
  "DeadlineExceeded",
  "Canceled",
  "LeaseNotFound",
  "Compacted",
  "RevisionRegressed",
  "NotCapable",
  "Unhealthy"
])

const internal = 13

/** Whether time may mend it, by itself or by what those do who look after etcd. */
export const mayPass = (error: EtcdError): boolean => {
  const { reason } = error
  if (passing.has(reason._tag)) return true
  if (isLasting(error) || reason._tag === "ClusterIdMismatch" || reason._tag === "UserNameEmpty") return false
  if (reason._tag === "GrpcStatus" && reason.code === internal) return true
  return worthwhile(reason) !== "fail"
}

/**
 * Tries something, which is as interruptible as it makes itself, until it succeeds, or fails with what no time mends, or the schedule of the pauses ends. The first
 * failure is told with a warning. `what`: as in "etcd election is not joined at the moment".
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
      const isHopeless = session.isClosed || isClientClosed(error) || !mayPass(error)
      const pause = isHopeless ? undefined : yield* Time.nextPause(time, step, error)
      if (pause === undefined) return yield* Effect.fail(error)
      if (tries === 1) yield* Effect.logWarning(what, error.message)
      yield* restore(Time.sleep(time, pause))
    }
  })
