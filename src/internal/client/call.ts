/**
 * A call from its beginning to its end, over all tries, and one try of it.
 *
 * @internal
 */
import type * as Schedule from "effect/Schedule"
import type * as Tracer from "effect/Tracer"
import type { EtcdError } from "../../EtcdError.ts"
import type { Connection, Holder, CallOptions as TransportCallOptions } from "../grpc/Transport.ts"
import type * as Time from "../time.ts"
import type * as Credentials from "./credentials.ts"
import type { Kind, Method } from "./rpcs.ts"
import type { Link, Subchannel } from "./subchannel.ts"
import type { View } from "./view.ts"

export type Retry = Schedule.Schedule<unknown, EtcdError>

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
  pinned: Subchannel | undefined

  /** How often it was sent. */
  tries: number
  /** The gRPC status code of the last try. */
  code: number
  /** What was tried since the last pause. */
  tried: Set<Subchannel> | undefined
  /** What failed since then that may go well after a pause. */
  mendable: EtcdError | undefined
  /** Where it has dialled, or waited for a dial. */
  dialled: Set<Subchannel> | undefined
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
  readonly subchannel: Subchannel
  readonly link: Link
  readonly connection: Connection
  readonly options: TransportCallOptions
  readonly metadata: Credentials.Metadata
}
