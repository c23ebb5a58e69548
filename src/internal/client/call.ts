/**
 * A call from its beginning to its end, over all tries, and one try of it.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import type * as Schedule from "effect/Schedule"
import type * as Tracer from "effect/Tracer"
import type { EtcdError } from "../../EtcdError.ts"
import type { Connection, Holder, CallOptions as TransportCallOptions } from "../grpc/Transport.ts"
import type * as Time from "../time.ts"
import type * as Credentials from "./credentials.ts"
import type { Kind, Method } from "./rpcs.ts"
import type { Link, Session } from "./session.ts"
import type { View } from "./view.ts"

export type Retry = Schedule.Schedule<unknown, EtcdError>

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
export const tooLate = ({ isTimed, millis }: Limit, wasSent: boolean, tries: string): string => {
  const whose = isTimed
    ? `the deadline of ${Math.round(millis)} ms`
    : `${Math.round(millis)} ms, the limit where no deadline is set`
  return wasSent
    ? `no answer within ${whose}${tries}`
    : `${whose}${isTimed ? "" : ","} passed before the request could be sent${tries}`
}

/** What batching gives along with the options of a call, under a name that nobody else can use. */
export const Batched = Symbol("effect-etcd/Batched")

export interface Batched {
  readonly [Batched]?: {
    /** What is left of the usual limit, where nobody has set a deadline. */
    readonly limit: Limit | undefined
    /**
     * Set by the client, for when the time of one of several callers is up while the call goes on. What its endpoint would
     * be suspected of, had it been a call of its own, it is suspected of then.
     */
    doubt: (() => void) | undefined
    /** Set by the client: how much has come over the connection that the call is out on. */
    heard: (() => number) | undefined
  }
}

/** Times are those of the client (see `internal/time.ts`), in milliseconds. */
export interface Call extends Holder {
  readonly method: Method
  readonly kind: Kind
  readonly requireLeader: boolean
  readonly metadata: Readonly<Record<string, string>> | undefined
  readonly credentials: Credentials.Credentials
  readonly retry: Retry
  readonly span: Tracer.Span | undefined
  readonly begunAt: number
  /** When its time is up; infinity: never. */
  readonly deadlineAt: number
  /** Whether somebody has set the deadline. One that nobody has set is looked after from time to time, and not sent. */
  readonly isTimed: boolean
  /** Whether it may take its time by nature. */
  readonly takesLong: boolean
  /** Whether there may be more than one answer: then that it could be sent does not show that anybody answers. */
  readonly isStream: boolean
  /** The only endpoint that may be asked. */
  pinned: Session | undefined

  /** How often it was sent. */
  tries: number
  /** The gRPC status code of the last try. */
  code: number
  /** What was tried since the last pause. */
  tried: Set<Session> | undefined
  /** What failed since then that may go well after a pause. */
  mendable: EtcdError | undefined
  /** Where it has dialled, or waited for a dial. */
  dialled: Set<Session> | undefined
  /** Whether it was sent again because its connection was closed before the server took it up. */
  resent: boolean
  /** How often it was sent on because of what is known of its member. */
  moves: number
  /** How often it has needed a new token, since one was taken. */
  renewals: number
  step: Time.Step<EtcdError> | undefined

  // ── the try under way, while it is a single exchange ──

  /** When it was sent. */
  sentAt: number
  /** What its member had said of itself by then, if that was lately. */
  view: View | undefined
  /** Since when there is evidence that it will not be answered, or only late. */
  doubtedAt: number | undefined
  link: Link | undefined
  previous: Call | undefined
  next: Call | undefined
}

/** One try of a call. */
export interface Try {
  readonly session: Session
  readonly link: Link
  readonly connection: Connection
  readonly options: TransportCallOptions
  readonly metadata: Credentials.Metadata
}
