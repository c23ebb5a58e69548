/**
 * How long a call may take.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as EtcdError from "../../EtcdError.ts"

/** How long a call may take, in milliseconds, and whether somebody has said so. */
export interface Limit {
  readonly millis: number
  readonly isTimed: boolean
}

export const unlimited: Limit = { millis: Number.POSITIVE_INFINITY, isTimed: false }

/** For calls with one answer whose callers do not say. */
const unsaid: Limit = { millis: 30_000, isTimed: false }

/** What is made of a deadline, if there is one. */
export const limitOf = (deadline: Duration.Input | undefined): Limit => {
  if (deadline === undefined) return unsaid
  const millis = Duration.toMillis(Duration.fromInputUnsafe(deadline))
  return millis === Number.POSITIVE_INFINITY ? unlimited : { millis, isTimed: true }
}

/** What is told of a call whose time is up. */
export const tooLate = ({ isTimed, millis }: Limit, wasSent: boolean, details: string): string => {
  const whose = isTimed
    ? `the deadline of ${Math.round(millis)} ms`
    : `${Math.round(millis)} ms, the limit where no deadline is set`
  return wasSent
    ? `no answer within ${whose}${details}`
    : `${whose}${isTimed ? "" : ","} passed before the request could be sent${details}`
}

/** The error of a call whose time is up. `details`: what is to be told after how long it was. */
export const deadlineExceeded = (
  limit: Limit,
  call: {
    readonly method: string
    readonly endpoint?: string | undefined
    readonly outcome: EtcdError.Outcome
    readonly wasSent: boolean
    readonly details?: string
  }
): EtcdError.EtcdError => {
  const { details = "", endpoint, method, outcome, wasSent } = call
  const where = endpoint === undefined ? method : `${method} at ${endpoint}`
  const doubt = outcome === "unknown" ? " Whether it was applied is unknown." : ""
  const message = `${where} failed: ${tooLate(limit, wasSent, details)}. Give the call more time, or look at the server's load.${doubt}`
  return EtcdError.make(
    new EtcdError.DeadlineExceeded({
      ...{ message, outcome, method },
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(limit.millis > 0 ? {} : { lasting: true })
    })
  )
}
