/**
 * One try of a call: the endpoint is chosen, the token got, the connection made where there is none, and the request sent.
 *
 * ```
 * choose ──► token ──► connection ──► send ──► answered
 *               │           │           │
 *               └───────────┴───────────┴────► failed
 * ```
 *
 * Where the connection is there, and who is calling is known, it is sent at once. It ends with an answer, or hands on
 * how it has failed ({@link Failed}); what is done about that is for `call.ts` to say.
 *
 * @internal
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as EtcdError from "../../EtcdError.ts"
import { type Holder, type CallOptions as TransportCallOptions, TransportError } from "../grpc/Transport.ts"
import type { ResponseHeader } from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import type { Call, Past } from "./call.ts"
import * as Codec from "./codec.ts"
import * as Credentials from "./credentials.ts"
import { closedError, type Engine } from "./engine.ts"
import * as Inquiry from "./inquiry.ts"
import { tooLate as tooLateText } from "./limit.ts"
import * as Named from "./named.ts"
import * as Reasons from "./reasons.ts"
import type { Method } from "./rpcs.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"
import type { View } from "./view.ts"

/** A try that is sent, or was. Times are those of the client, in milliseconds. */
export interface Attempt extends Holder {
  readonly call: Call
  readonly past: Past
  readonly link: Subchannel.Link
  readonly metadata: Credentials.Metadata
  /** The first one is 1. */
  readonly number: number
  readonly sentAt: number

  // ── while it is under way, as a single exchange (see `subchannel.ts` and `inquiry.ts`) ──

  isUnderWay: boolean
  /** What its member had said of itself when it was sent, if that was lately. */
  view: View | undefined
  /** Since when there is evidence that it will not be answered, or only late. */
  doubtedAt: number | undefined
  /** Whether it was ended because of what is known of its member, and is sent on. */
  isMoved: boolean
  /** Its neighbours among those under way over the same connection. */
  previous: Attempt | undefined
  next: Attempt | undefined
}

/** Sends what the call asks for, and waits for the answer. */
export type Run<A, R> = (attempt: Attempt, options: TransportCallOptions) => Effect.Effect<A, TransportError, R>

/** How a try has failed. */
export type Failed =
  /** What it was to use is another by now. */
  | { readonly at: "change"; readonly past: Past }
  | { readonly at: "token"; readonly past: Past; readonly error: EtcdError.EtcdError }
  | {
      readonly at: "connection"
      readonly past: Past
      readonly subchannel: Subchannel.Subchannel
      readonly error: EtcdError.EtcdError
    }
  | { readonly at: "sent"; readonly attempt: Attempt; readonly error: TransportError }

/** What is done where a try has failed. */
export type Recovery<A, R> = (failed: Failed) => Effect.Effect<A, EtcdError.EtcdError, R>

// ── what a failure is called ──

/** A deadline is the call's: what was left of it for the last try says little. */
const retold = (call: Call, error: TransportError): TransportError => {
  const limit = { millis: call.deadlineAt - call.begunAt, isTimed: call.isTimed }
  const number = call.attempt?.number ?? 0
  const tries = number > 1 ? ` (in ${number} tries)` : ""
  const because = error.waitedFor === undefined ? "" : `, because ${error.waitedFor}`
  return new TransportError({
    kind: error.kind,
    code: error.code,
    processed: error.processed,
    message: tooLateText(limit, error.processed !== "no", `${tries}${because}`)
  })
}

/** The error of a try, as its caller may get it. Its code is from now on that of the call. */
export const errorOf = (
  call: Call,
  { endpoint }: Subchannel.Subchannel,
  error: TransportError
): EtcdError.EtcdError => {
  call.code = error.code
  if (error === Subchannel.clientClosed) return closedError
  const failed = Reasons.fromTransport(error.kind === "Deadline" ? retold(call, error) : error, {
    method: call.method.path,
    endpoint: endpoint.address,
    kind: call.kind
  })
  return isLasting(call, failed) ? Reasons.retold(failed, { message: failed.message, lasting: true }) : failed
}

/** Whether the same call cannot but fail again: nobody can get it another token, or it has no time. */
const isLasting = ({ begunAt, credentials, deadlineAt }: Call, { reason }: EtcdError.EtcdError): boolean =>
  (reason._tag === "InvalidAuthToken" && credentials === Credentials.none) ||
  (reason._tag === "DeadlineExceeded" && deadlineAt <= begunAt)

const tooLate = new TransportError({ kind: "Deadline", code: 4, processed: "no", message: "too late" })

const withDeadline = <A>(
  engine: Engine,
  call: Call,
  subchannel: Subchannel.Subchannel,
  effect: Effect.Effect<A, EtcdError.EtcdError>
): Effect.Effect<A, EtcdError.EtcdError> => {
  const { time } = engine.environment
  return call.deadlineAt === Number.POSITIVE_INFINITY
    ? effect
    : Time.within(time, effect, Math.max(0, call.deadlineAt - time.now()), () =>
        Effect.fail(errorOf(call, subchannel, tooLate))
      )
}

// ── sending ──

const transportOptions = (attempt: Attempt): TransportCallOptions => {
  const { call, metadata, sentAt } = attempt
  const own = call.requireLeader ? metadata.withLeader : metadata.plain
  return {
    metadata: call.metadata === undefined ? own : { ...call.metadata, ...own },
    timeoutMillis: call.isTimed ? Math.min(Math.max(1, call.deadlineAt - sentAt), Time.longestTimer) : undefined,
    holder: attempt
  }
}

const send = <A, R>(
  call: Call,
  past: Past,
  run: Run<A, R>,
  link: Subchannel.Link,
  metadata: Credentials.Metadata,
  sentAt: number,
  recover: Recovery<A, R>
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  const { subchannel } = link
  if (sentAt >= call.deadlineAt) return Effect.fail(errorOf(call, subchannel, tooLate))
  const attempt: Attempt = {
    call,
    past,
    link,
    metadata,
    number: call.attempt === undefined ? 1 : call.attempt.number + 1,
    sentAt,
    begun: undefined,
    isUnderWay: false,
    view: undefined,
    doubtedAt: undefined,
    isMoved: false,
    previous: undefined,
    next: undefined
  }
  call.attempt = attempt
  return Effect.matchEffect(run(attempt, transportOptions(attempt)), {
    onFailure: (error) => {
      const closing = Subchannel.leave(attempt)
      const recovery = recover({ at: "sent", attempt, error })
      return closing === undefined ? recovery : Effect.andThen(closing, recovery)
    },
    onSuccess: (answer) => {
      const closing = Subchannel.leave(attempt)
      call.code = Telemetry.ok
      if (!call.isStream && subchannel.avoidUntil !== 0) Subchannel.praise(subchannel)
      return closing === undefined ? Effect.succeed(answer) : Effect.as(closing, answer)
    }
  })
}

// ── the connection ──

/**
 * How long a call waits for one endpoint to be connected to while there is another to ask, in milliseconds: one that is
 * connected, or any. It counts also where all have been asked, since those may know more by now.
 */
const patienceBesideConnected = 100
const patience = 1000

const patienceFor = ({ selection }: Engine, call: Call, subchannel: Subchannel.Subchannel): number => {
  if (call.named !== undefined) return Number.POSITIVE_INFINITY
  const others = Selection.all(selection).filter((other) => other !== subchannel)
  if (others.length === 0) return Number.POSITIVE_INFINITY
  return others.some(({ link }) => link !== undefined) ? patienceBesideConnected : patience
}

const slow = (millis: number): TransportError =>
  new TransportError({
    kind: "Unreachable",
    code: 14,
    processed: "no",
    message: `no connection within ${millis} ms, while there were other endpoints to ask`
  })

/**
 * The connection to the endpoint. A host that does not answer at all must not cost the call its deadline while another
 * endpoint would answer; the dial goes on, for whoever comes later.
 */
const connect = (
  engine: Engine,
  call: Call,
  subchannel: Subchannel.Subchannel,
  metadata: Credentials.Metadata,
  insists: boolean
): Effect.Effect<Subchannel.Link, EtcdError.EtcdError> => {
  const { environment } = engine
  const { time } = environment
  const acquired = Effect.tap(Subchannel.acquire(subchannel, environment, insists), (link) =>
    Subchannel.isUnknown(link, metadata) ? Subchannel.introduce(link, environment) : Effect.void
  )
  const most = patienceFor(engine, call, subchannel)
  const wait = Math.ceil(Math.min(most, (call.deadlineAt - time.now()) / 2))
  const patient = Number.isFinite(most) ? Time.patiently(time, acquired, wait, () => Effect.fail(slow(wait))) : acquired
  return Effect.mapError(patient, (error) => errorOf(call, subchannel, error))
}

/** The token; where it has to be asked for, that is a part of the call. */
const tokenFor = ({ credentials, span }: Call): typeof credentials.get =>
  span === undefined ? credentials.get : Effect.withParentSpan(credentials.get, span)

/** Sends the request when there are a token, if one is needed, and a connection. */
const prepare = <A, R>(
  engine: Engine,
  call: Call,
  before: Past,
  run: Run<A, R>,
  subchannel: Subchannel.Subchannel,
  recover: Recovery<A, R>
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.matchEffect(withDeadline(engine, call, subchannel, tokenFor(call)), {
    onFailure: (error) => recover({ at: "token", past: before, error }),
    onSuccess: (metadata) => {
      // With nowhere else to go, a call dials each endpoint once before it fails, whatever befell others before.
      const insists = !before.dialled.has(subchannel)
      const past = insists ? { ...before, dialled: new Set(before.dialled).add(subchannel) } : before
      const connected = connect(engine, call, subchannel, metadata, insists)
      return Effect.matchEffect(withDeadline(engine, call, subchannel, connected), {
        onFailure: (error) =>
          recover(subchannel.removed ? { at: "change", past } : { at: "connection", past, subchannel, error }),
        onSuccess: (link) =>
          call.credentials.current() === metadata
            ? send(call, past, run, link, metadata, engine.environment.time.now(), recover)
            : recover({ at: "change", past })
      })
    }
  })

/** One try of the call, now, on the endpoint that is best. */
export const attempt = <A, R>(
  engine: Engine,
  call: Call,
  past: Past,
  run: Run<A, R>,
  now: number,
  recover: Recovery<A, R>
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  if (engine.environment.closed) return Effect.fail(closedError)
  let subchannel = call.named ?? Selection.pick(engine.selection, past.tried, now)
  if (subchannel === call.named && subchannel.removed) {
    // The list has dropped it since, but the call has named it.
    const found = Named.find(engine, subchannel.endpoint.address)
    if (Result.isFailure(found)) return Effect.fail(found.failure)
    subchannel = found.success
  }
  call.asked = subchannel.endpoint
  const metadata = call.credentials.current()
  const { link } = subchannel
  return link === undefined || metadata === undefined || Subchannel.isUnknown(link, metadata)
    ? prepare(engine, call, past, run, subchannel, recover)
    : send(call, past, run, link, metadata, now, recover)
}

// ── the answer ──

/** What a header says of who answered; what is wrong with that, if anything is. */
const judge = (engine: Engine, link: Subchannel.Link, header: ResponseHeader): TransportError | undefined => {
  const { environment } = engine
  const { subchannel } = link
  link.isConfirmed = true
  if (header.clusterId !== environment.identity.clusterId) {
    const wrong = Subchannel.belongs(environment, link, header.clusterId, "yes")
    if (wrong !== undefined) return wrong
  }
  const { view } = subchannel
  if (view !== undefined && (header.raftTerm > view.term || header.memberId !== view.memberId)) {
    subchannel.view = { ...view, memberId: header.memberId, term: header.raftTerm, leader: undefined }
    // That another member answers at the same address is what a load balancer does, and no election.
    if (header.raftTerm > view.term) Inquiry.termChanged(engine)
  }
  return undefined
}

/** Reads an answer, which lies from `start` up to `end`, and looks at who has sent it. */
export const read = <O extends DescMessage>(
  engine: Engine,
  { call, link }: Attempt,
  schema: O,
  bytes: Uint8Array,
  start: number,
  end: number,
  context: Context.Context<never>
): Exit.Exit<MessageShape<O>, TransportError> => {
  Telemetry.received(call.method, end - start, context)
  const decoded = Codec.decode(schema, bytes, start, end)
  if (Exit.isFailure(decoded)) return decoded
  const { header } = decoded.value as { readonly header?: ResponseHeader | undefined }
  const wrong = header === undefined ? undefined : judge(engine, link, header)
  return wrong === undefined ? decoded : Exit.fail(wrong)
}

/** A single exchange: one request, one answer. */
export const exchange =
  <O extends DescMessage>(
    engine: Engine,
    method: Method,
    output: O,
    request: Uint8Array,
    context: Context.Context<never>
  ): Run<MessageShape<O>, never> =>
  (attempt, options) => {
    Telemetry.sent(method, request.length, context)
    Subchannel.enter(attempt)
    Inquiry.notice(engine)
    return attempt.link.connection.unary(method.path, request, options, (bytes, start, end) =>
      read(engine, attempt, output, bytes, start, end, context)
    )
  }
