/**
 * The life of a call: what its caller wants, and what is done about each try that fails, until it has ended.
 *
 * ```
 * begin ──► a try ──► answered ─────────────────────► ended
 *            ▲  │
 *            │  └─ failed ──► what now? ── nothing ───► ended
 *            │                 │      │
 *            │                 │      └─ later ──► a pause
 *            └── at once, here or elsewhere ◄─────────┘
 * ```
 *
 * What a call is does not change while it lives ({@link Call}), and what its tries have shown is a value that each of them
 * is made with, and that is made anew when one has failed ({@link Past}). How a try goes is in `attempt.ts`, what failures
 * mean in `retryRules.ts`, and what becomes of a call that is out for long in `inquiry.ts`.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Tracer from "effect/Tracer"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import type { TransportError } from "../grpc/Transport.ts"
import * as Options from "../options.ts"
import * as Time from "../time.ts"
import { type Attempt, attempt, errorOf, type Failed, type Recovery, type Run } from "./attempt.ts"
import { Batched } from "./batched.ts"
import * as Credentials from "./credentials.ts"
import type { Endpoint } from "./endpoint.ts"
import type { Engine, Retry } from "./engine.ts"
import * as Inquiry from "./inquiry.ts"
import { type Limit, limitOf, unlimited } from "./limit.ts"
import * as Named from "./named.ts"
import { blamesEndpoint, decide } from "./retryRules.ts"
import { type Kind, type Method, needsLeader } from "./rpcs.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"

/** Times are those of the client (see `internal/time.ts`), in milliseconds. */
export interface Call {
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
  /** Whether there may be more than one answer: then that it could be sent does not show that anybody answers. */
  readonly isStream: boolean
  /** The only endpoint that may be asked. */
  readonly named: Subchannel.Subchannel | undefined

  /** Where it was to go last. */
  asked: Endpoint | undefined
  /** The try that was sent last. */
  attempt: Attempt | undefined
  /** The gRPC status code of the last try, for metrics. */
  code: number
}

/** What the tries of a call have shown so far. */
export interface Past {
  /** What was tried since the last pause. */
  readonly tried: ReadonlySet<Subchannel.Subchannel>
  /** What failed since then that may go well after a pause. */
  readonly mendable: EtcdError.EtcdError | undefined
  /** Where the call has dialled, or waited for a dial. */
  readonly dialled: ReadonlySet<Subchannel.Subchannel>
  /** Whether it was sent again because its connection was closed before the server took it up. */
  readonly isResent: boolean
  /** How often it was sent on because of what is known of its member. */
  readonly moves: number
  /** How often it has needed a new token, since one was taken. */
  readonly renewals: number
  /** Its retry schedule, once that has begun. */
  readonly step: Time.Step<EtcdError.EtcdError> | undefined
}

const none: ReadonlySet<Subchannel.Subchannel> = new Set()

const noPast: Past = {
  tried: none,
  mendable: undefined,
  dialled: none,
  isResent: false,
  moves: 0,
  renewals: 0,
  step: undefined
}

// ── the beginning ──

/** What a call is, before it is sent. */
export interface Beginning {
  readonly engine: Engine
  readonly credentials: Credentials.Credentials
  readonly method: Method
  readonly kind: Kind
  readonly request: { readonly serializable?: boolean } | undefined
  readonly options: EtcdClient.CallOptions
  /** A stream lasts as long as its reader likes, unless its own caller sets a deadline. */
  readonly isStream: boolean
  /** Whether it begins with an answer, which has its time as any other. */
  readonly isAnswered: boolean
}

const limitOfCall = ({ engine, isAnswered, isStream, method, options }: Beginning): Limit => {
  const left = (options as Batched)[Batched]?.limit
  if (left !== undefined) return left
  const given = options.deadline ?? (isStream ? undefined : engine.defaults(method.service).deadline)
  return given === undefined && (!isAnswered || method.takesLong) ? unlimited : limitOf(given)
}

const metadataOf = ({ options }: Beginning, span: Tracer.Span | undefined) =>
  span === undefined ? options.metadata : { ...options.metadata, ...Telemetry.traceContext(span) }

export const begin = (
  beginning: Beginning,
  span: Tracer.Span | undefined
): Result.Result<Call, EtcdError.EtcdError> => {
  const { credentials, engine, isStream, kind, method, options, request } = beginning
  const problem = Options.problemOfCall(method.name, options)
  if (problem !== undefined) return Result.fail(Options.invalid(problem))
  const limit = limitOfCall(beginning)
  let named: Subchannel.Subchannel | undefined
  if (options.endpoint !== undefined) {
    const found = Named.find(engine, options.endpoint)
    if (Result.isFailure(found)) return Result.fail(found.failure)
    named = found.success
  }
  const begunAt = engine.environment.time.now()
  return Result.succeed({
    method,
    kind,
    requireLeader: options.requireLeader ?? needsLeader(method, request),
    metadata: metadataOf(beginning, span),
    credentials,
    retry: options.retry ?? engine.defaults(method.service).retry,
    span,
    begunAt,
    deadlineAt: begunAt + limit.millis,
    isTimed: limit.isTimed,
    isStream,
    named,
    asked: undefined,
    attempt: undefined,
    code: Telemetry.invalidArgument
  })
}

// ── what now? ──

type Verdict = Effect.Effect<Past, EtcdError.EtcdError>

/** After a pause, unless the schedule has ended or the deadline would pass. */
const later = Effect.fnUntraced(function* (
  { environment: { ended, time } }: Engine,
  call: Call,
  past: Past,
  error: EtcdError.EtcdError
) {
  const step = past.step ?? (yield* Schedule.toStep(call.retry))
  const millis = yield* Time.nextPause(time, step, error)
  if (millis === undefined || time.now() + millis >= call.deadlineAt) return yield* Effect.fail(error)
  yield* Effect.raceFirst(Time.sleep(time, millis), Deferred.await(ended))
  return { ...past, step, tried: none, mendable: undefined }
})

/** At another endpoint, if there is one that was not asked since the last pause. */
const elsewhere = (
  engine: Engine,
  call: Call,
  past: Past,
  subchannel: Subchannel.Subchannel,
  otherwise: (past: Past) => Verdict
): Verdict => {
  const next = { ...past, tried: new Set(past.tried).add(subchannel) }
  return Selection.hasOther(engine.selection, call, next, subchannel) ? Effect.succeed(next) : otherwise(next)
}

/** This endpoint cannot now. */
const leave = (
  engine: Engine,
  call: Call,
  past: Past,
  subchannel: Subchannel.Subchannel,
  error: EtcdError.EtcdError
): Verdict =>
  Effect.flatMap(Subchannel.blame(subchannel, engine.environment, undefined), () =>
    elsewhere(engine, call, { ...past, mendable: error }, subchannel, (next) => later(engine, call, next, error))
  )

/** Time does not mend this endpoint. If it does not mend any, the call has failed. */
const giveUp = (
  engine: Engine,
  call: Call,
  past: Past,
  subchannel: Subchannel.Subchannel,
  error: EtcdError.EtcdError
): Verdict =>
  elsewhere(engine, call, past, subchannel, (next) =>
    next.mendable === undefined ? Effect.fail(error) : later(engine, call, next, next.mendable)
  )

const isPassing = (reason: EtcdError.Reason): boolean => {
  const decision = decide(reason)
  return decision === "elsewhere" || decision === "later"
}

const afterNoConnection = (
  engine: Engine,
  call: Call,
  past: Past,
  subchannel: Subchannel.Subchannel,
  error: EtcdError.EtcdError
): Verdict => {
  Inquiry.failed(engine, subchannel, error)
  switch (decide(error.reason)) {
    case "elsewhere":
      return leave(engine, call, past, subchannel, error)
    case "another":
      return giveUp(engine, call, past, subchannel, error)
    default:
      return Effect.fail(error)
  }
}

/** The connection was closed, or drained, under a call that the server did not take up: no fault of the endpoint. */
const missedConnection = (error: TransportError): boolean =>
  error.processed === "no" && (error.kind === "ConnectionLost" || error.kind === "Unreachable")

/**
 * Whether the next call had better ask another endpoint. An impatient caller is no evidence against this one: it must
 * have been silent for a while.
 */
const raisesDoubt = (
  engine: Engine,
  link: Subchannel.Link,
  error: TransportError,
  { reason }: EtcdError.EtcdError
): boolean => (error.kind === "Deadline" ? Inquiry.isQuiet(engine, link) : blamesEndpoint(reason))

/** In a row: a member that lags behind does not know a token yet that is new. Each costs the server the hash of a password. */
const mostRenewals = 3

/** Without a password there is no token to renew, but a client certificate may go with the users as they are now. */
const mayRenew = (call: Call, { reason }: EtcdError.EtcdError): boolean =>
  call.credentials !== Credentials.none || reason._tag === "AuthOldRevision"

const afterSent = (engine: Engine, call: Call, attempt: Attempt, error: TransportError): Verdict => {
  const { link, metadata } = attempt
  const { subchannel } = link
  const past = attempt.isMoved ? { ...attempt.past, moves: attempt.past.moves + 1 } : attempt.past
  const failed = errorOf(call, subchannel, error)
  if (missedConnection(error) && !past.isResent) return Effect.succeed({ ...past, isResent: true })
  Inquiry.failed(engine, subchannel, failed)
  const decision = decide(failed.reason)
  if (decision === "renew") {
    call.credentials.refuse(metadata)
    const renewals = past.renewals + 1
    if (!mayRenew(call, failed) || renewals > mostRenewals) return Effect.fail(failed)
    const next = { ...past, renewals }
    return renewals === 1 ? Effect.succeed(next) : later(engine, call, next, failed)
  }
  // The token was good: should it expire later, that is another matter.
  const next = error.kind === "Status" ? { ...past, renewals: 0 } : past
  switch (decision) {
    case "fail":
      return raisesDoubt(engine, link, error, failed)
        ? Effect.andThen(Subchannel.blame(subchannel, engine.environment, error), Effect.fail(failed))
        : Effect.fail(failed)
    case "later":
      return later(engine, call, next, failed)
    case "elsewhere":
      return leave(engine, call, next, subchannel, failed)
    case "another":
      return giveUp(engine, call, next, subchannel, failed)
  }
}

/** Whether there is another try, and with what. */
const whatNow = (engine: Engine, call: Call, failed: Failed): Verdict => {
  switch (failed.at) {
    case "change":
      return Effect.succeed(failed.past)
    case "token":
      // It was tried to authenticate at every endpoint that there is.
      return isPassing(failed.error.reason) && !engine.environment.closed
        ? later(engine, call, failed.past, failed.error)
        : Effect.fail(failed.error)
    case "connection":
      return afterNoConnection(engine, call, failed.past, failed.subchannel, failed.error)
    case "sent":
      return afterSent(engine, call, failed.attempt, failed.error)
  }
}

/** Performs the call: on the endpoint that is best, and again elsewhere or later as the rules say. */
export const perform = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  now: number = engine.environment.time.now()
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  const recover: Recovery<A, R> = (failed) =>
    Effect.flatMap(whatNow(engine, call, failed), (past) =>
      attempt(engine, call, past, run, engine.environment.time.now(), recover)
    )
  return attempt(engine, call, noPast, run, now, recover)
}

// ── the end ──

const placeOf = ({ asked, attempt }: Call): Telemetry.Place | undefined => {
  if (asked === undefined) return undefined
  const link = attempt?.link
  return { endpoint: asked, connection: link?.subchannel.endpoint === asked ? link.connection : undefined }
}

/** What makes no sense is not sent, and is no call that is counted. */
export const refused = (
  span: Tracer.Span | undefined,
  error: EtcdError.EtcdError
): Effect.Effect<never, EtcdError.EtcdError> => {
  if (span !== undefined) Telemetry.answered(span, undefined, Telemetry.invalidArgument, 0, Exit.fail(error))
  return Effect.fail(error)
}

/** Tells of a call that has ended. */
export const tell = (
  engine: Engine,
  call: Call,
  exit: Exit.Exit<unknown, unknown>,
  context: Context.Context<never>
): void => {
  const { asked, attempt, begunAt, method, span } = call
  const code = Exit.hasInterrupts(exit) ? Telemetry.cancelled : call.code
  const tries = attempt === undefined ? 0 : attempt.number
  Telemetry.ended(method, asked, code, engine.environment.time.now() - begunAt, tries, context)
  if (span !== undefined) Telemetry.answered(span, placeOf(call), code, tries, exit)
}

/**
 * Performs a call with one answer from its beginning to its end. Nothing is begun before it is sure that it is ended: a
 * fiber may give way, and be interrupted, between any two steps.
 */
export const performUnary = <A, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  engine: Engine,
  call: Call,
  run: Run<A, R>
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.onExitPrimitive(
    Effect.suspend(() => perform(engine, call, run, call.begunAt)),
    (exit) => {
      tell(engine, call, exit, fiber.context)
      return call.attempt === undefined ? undefined : Subchannel.leave(call.attempt)
    }
  )
