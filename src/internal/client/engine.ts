/**
 * How a call gets to an endpoint and what happens when it fails: choosing the endpoint, the token, the deadline, and
 * trying again. The rules for trying again are in `retryRules.ts`.
 *
 * @internal
 */
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Tracer from "effect/Tracer"
import * as EtcdError from "../../EtcdError.ts"

import { detach } from "../grpc/framing.ts"
import { type Connection, type CallOptions as TransportCallOptions, TransportError } from "../grpc/Transport.ts"
import { longestTimer } from "../time.ts"
import * as Codec from "./codec.ts"
import * as Credentials from "./credentials.ts"
import * as Endpoint from "./endpoint.ts"
import { blamesEndpoint, decide } from "./retryRules.ts"
import type { Kind, Method } from "./rpcs.ts"
import * as Selection from "./selection.ts"
import * as Session from "./session.ts"
import * as Telemetry from "./telemetry.ts"

/** How a call is made, where its caller does not say. */
export interface Defaults {
  readonly deadline: Duration.Duration | undefined
  readonly retry: Schedule.Schedule<unknown, EtcdError.EtcdError>
}

export interface Engine {
  readonly environment: Session.Environment
  readonly selection: Selection.Selection
  /** Endpoints that single calls asked for and that are not in the list. */
  readonly others: Map<string, Session.Session>
  readonly secureByDefault: boolean
  readonly defaults: (service: string) => Defaults
}

/** A call from its beginning to its end, over all tries. */
export interface Call {
  readonly method: Method
  readonly kind: Kind
  readonly requireLeader: boolean
  readonly metadata: Readonly<Record<string, string>> | undefined
  readonly credentials: Credentials.Credentials
  readonly retry: Schedule.Schedule<unknown, EtcdError.EtcdError>
  readonly clock: Clock.Clock
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number | undefined
  readonly span: Tracer.Span | undefined
  /** How often it was sent. */
  tries: number
  /** The gRPC status code of the last try. */
  code: number
  /** The only endpoint that may be asked. */
  readonly pinned: Session.Session | undefined
  /** What was tried since the last pause. */
  tried: Set<Session.Session> | undefined
  /** Whether the call was sent again because its connection was closed before the server took it up. */
  resent: boolean
  /** Whether the call was sent again with a new token. */
  renewed: boolean
  step:
    | ((now: number, input: EtcdError.EtcdError) => Pull.Pull<[unknown, Duration.Duration], never, unknown>)
    | undefined
}

/** One try of a call. */
export interface Try {
  readonly session: Session.Session
  readonly link: Session.Link
  readonly connection: Connection
  readonly options: TransportCallOptions
  readonly metadata: Credentials.Metadata
}

/** Makes the call's request ready for the wire. */
export const encode = <I extends DescMessage>(
  method: Method,
  schema: I,
  request: MessageInitShape<I>
): Result.Result<Uint8Array, EtcdError.EtcdError> => {
  const bytes = Codec.encode(schema, request)
  return bytes === undefined ? encodeAny(method, schema, request) : Result.succeed(bytes)
}

const encodeAny = <I extends DescMessage>(
  method: Method,
  schema: I,
  request: MessageInitShape<I>
): Result.Result<Uint8Array, EtcdError.EtcdError> =>
  Result.try({
    try: () => toBinary(schema, create(schema, request)),
    catch: (cause) =>
      EtcdError.make(
        new EtcdError.InvalidArgument({
          message: `The request of ${method.name} cannot be encoded: ${String(cause)}`,
          outcome: "not-applied",
          method: method.name
        })
      )
  })

/** Reads an answer of the server, which lies from `start` up to `end`. */
export const decode = <O extends DescMessage>(
  schema: O,
  bytes: Uint8Array,
  start: number,
  end: number
): Exit.Exit<MessageShape<O>, TransportError> => {
  const message = Codec.decode(schema, bytes, start, end) as MessageShape<O> | undefined
  return message === undefined ? decodeAny(schema, detach(bytes, start, end)) : Exit.succeed(message)
}

const decodeAny = <O extends DescMessage>(schema: O, bytes: Uint8Array): Exit.Exit<MessageShape<O>, TransportError> => {
  const message = Result.try(() => fromBinary(schema, bytes))
  return Result.isSuccess(message)
    ? Exit.succeed(message.success)
    : Exit.fail(
        new TransportError({
          kind: "Protocol",
          code: 13,
          processed: "unknown",
          message: `the answer is no ${schema.typeName}`,
          cause: message.failure
        })
      )
}

/** The error of a try. */
export const failure = (call: Call, session: Session.Session, error: TransportError): EtcdError.EtcdError => {
  call.code = error.code
  return EtcdError.fromTransport(error, {
    method: call.method.path,
    endpoint: session.endpoint.address,
    kind: call.kind
  })
}

/** The session of an endpoint that a call names. */
export const pin = (engine: Engine, text: string): Result.Result<Session.Session, EtcdError.EtcdError> => {
  const parsed = Endpoint.parse(text, engine.secureByDefault)
  if (Result.isFailure(parsed)) return Result.fail(EtcdError.invalid(parsed.failure))
  const { address } = parsed.success
  const listed = engine.selection.sessions.find((session) => session.endpoint.address === address)
  const session = listed ?? engine.others.get(address) ?? Session.make(parsed.success)
  if (listed === undefined) engine.others.set(address, session)
  return Result.succeed(session)
}

const tooLate = new TransportError({
  kind: "Deadline",
  code: 4,
  processed: "no",
  message: "the deadline passed before the request could be sent"
})

const remaining = (call: Call): number | undefined =>
  call.deadlineAt === undefined ? undefined : call.deadlineAt - call.clock.currentTimeMillisUnsafe()

const withDeadline = <A>(
  effect: Effect.Effect<A, EtcdError.EtcdError>,
  call: Call,
  session: Session.Session
): Effect.Effect<A, EtcdError.EtcdError> => {
  const millis = remaining(call)
  return millis === undefined
    ? effect
    : Effect.timeoutOrElse(effect, {
        duration: Math.max(0, millis),
        orElse: () => Effect.fail(failure(call, session, tooLate))
      })
}

const transportOptions = (
  call: Call,
  metadata: Credentials.Metadata,
  timeoutMillis: number | undefined
): TransportCallOptions => {
  const own = call.requireLeader ? metadata.withLeader : metadata.plain
  return {
    metadata: call.metadata === undefined ? own : { ...call.metadata, ...own },
    timeoutMillis: timeoutMillis === undefined ? undefined : Math.min(Math.max(1, timeoutMillis), longestTimer)
  }
}

/** The pause before the next try; none where the schedule has ended or the deadline would pass. */
const pause = Effect.fnUntraced(function* (call: Call, error: EtcdError.EtcdError) {
  call.step ??= yield* Schedule.toStep(call.retry)
  const now = call.clock.currentTimeMillisUnsafe()
  const next = yield* Pull.catchDone(Effect.map(call.step(now, error), Option.some), () => Effect.succeedNone)
  if (Option.isNone(next)) return false
  const [, delay] = next.value
  if (call.deadlineAt !== undefined && now + Duration.toMillis(delay) >= call.deadlineAt) return false
  yield* Effect.sleep(delay)
  call.tried = undefined
  return true
})

type Run<A, R> = (attempt: Try) => Effect.Effect<A, TransportError | EtcdError.EtcdError, R>

const afterPause = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  error: EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.flatMap(pause(call, error), (again) => (again ? perform(engine, call, run) : Effect.fail(error)))

const hasOther = (engine: Engine, call: Call, than: Session.Session): boolean =>
  call.pinned === undefined &&
  engine.selection.sessions.some((session) => session !== than && call.tried?.has(session) !== true)

const leave = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  session: Session.Session,
  error: EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  call.tried ??= new Set()
  call.tried.add(session)
  return Effect.andThen(Session.blame(session, engine.environment, undefined), () =>
    hasOther(engine, call, session) ? perform(engine, call, run) : afterPause(engine, call, run, error)
  )
}

/** The connection was closed, or drained, under a call that the server did not take up: no fault of the endpoint. */
const missedConnection = (error: TransportError): boolean =>
  error.processed === "no" && (error.kind === "ConnectionLost" || error.kind === "Unreachable")

/** The endpoint may be paused: the next call had better ask another. */
const raisesDoubt = (error: TransportError, failed: EtcdError.EtcdError): boolean =>
  error.kind === "Deadline" || blamesEndpoint(failed.reason)

/** Without a password there is no token to renew, but a client certificate may go with the users as they are now. */
const mayRenew = (call: Call, failed: EtcdError.EtcdError): boolean =>
  call.credentials !== Credentials.none || failed.reason._tag === "AuthOldRevision"

/** What to do about a failed try. */
const recover = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  session: Session.Session,
  metadata: Credentials.Metadata | undefined,
  error: TransportError | EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  if (error._tag === "EtcdError") return Effect.fail(error)
  const failed = failure(call, session, error)
  if (missedConnection(error) && !call.resent) {
    call.resent = true
    return perform(engine, call, run)
  }
  switch (decide(failed.reason)) {
    case "fail":
      return raisesDoubt(error, failed)
        ? Effect.andThen(Session.blame(session, engine.environment, error), Effect.fail(failed))
        : Effect.fail(failed)
    case "renew":
      if (metadata !== undefined) call.credentials.refuse(metadata)
      if (call.renewed || !mayRenew(call, failed)) return Effect.fail(failed)
      call.renewed = true
      return perform(engine, call, run)
    case "later":
      return afterPause(engine, call, run, failed)
    case "elsewhere":
      return leave(engine, call, run, session, failed)
  }
}

const send = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  session: Session.Session,
  link: Session.Link,
  metadata: Credentials.Metadata,
  timeoutMillis: number | undefined
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  call.tries++
  if (call.span !== undefined) Telemetry.asked(call.span, session.endpoint)
  const options = transportOptions(call, metadata, timeoutMillis)
  return Effect.matchEffect(run({ session, link, connection: link.connection, options, metadata }), {
    onFailure: (error) => recover(engine, call, run, session, metadata, error),
    onSuccess: (answer) => {
      call.code = Telemetry.ok
      if (session.avoidUntil !== 0) Session.praise(session)
      return Effect.succeed(answer)
    }
  })
}

/** How long a call waits for one endpoint to be connected to while there is another to ask, in milliseconds. */
const patience = 1000

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
  session: Session.Session,
  millis: number | undefined
): Effect.Effect<Session.Link, EtcdError.EtcdError> => {
  const acquired = Session.acquire(session, engine.environment)
  const wait = Math.ceil(Math.min(patience, (millis ?? patience * 2) / 2))
  const patient = hasOther(engine, call, session)
    ? Effect.timeoutOrElse(acquired, { duration: wait, orElse: () => Effect.fail(slow(wait)) })
    : acquired
  return Effect.mapError(patient, (error) => failure(call, session, error))
}

const prepare = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  session: Session.Session
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.flatMap(withDeadline(call.credentials.get, call, session), (metadata) =>
    Effect.matchEffect(withDeadline(connect(engine, call, session, remaining(call)), call, session), {
      onFailure: (error) =>
        decide(error.reason) === "elsewhere" ? leave(engine, call, run, session, error) : Effect.fail(error),
      onSuccess: (link) => send(engine, call, run, session, link, metadata, remaining(call))
    })
  )

/** Nothing more is done by a client whose scope is closed. */
export const closedError = EtcdError.make(
  new EtcdError.Unreachable({ message: "The client is closed.", outcome: "not-applied" })
)

/** Performs the call now: on the endpoint that is best, and again elsewhere or later as the rules say. */
export const perform = <A, R>(engine: Engine, call: Call, run: Run<A, R>): Effect.Effect<A, EtcdError.EtcdError, R> => {
  if (engine.environment.closed) return Effect.fail(closedError)
  const session = call.pinned ?? Selection.pick(engine.selection, call.tried, call.clock)
  const metadata = call.credentials.current()
  if (session.link === undefined || metadata === undefined) return prepare(engine, call, run, session)
  const millis = remaining(call)
  return millis === undefined || millis > 0
    ? send(engine, call, run, session, session.link, metadata, millis)
    : Effect.fail(failure(call, session, tooLate))
}

/** Tells of a call when it has ended. */
export const observed = <A, E, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  call: Call,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const { clock } = call
  const begun = clock.currentTimeNanosUnsafe()
  return Effect.onExitPrimitive(effect, (exit) => {
    const code = Exit.hasInterrupts(exit) ? Telemetry.cancelled : call.code
    Telemetry.ended(call.method, code, clock.currentTimeNanosUnsafe() - begun, call.tries, fiber.context)
    if (call.span !== undefined) Telemetry.answered(call.span, code, call.tries)
    return undefined
  })
}

/** Runs a single exchange on the connection, which stays open until it has ended. */
export const holding = <A, E, R>(link: Session.Link, exchange: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  link.inFlight++
  return Effect.onExitPrimitive(exchange, () => Session.release(link))
}

/** A stream that had begun broke off: what its reader is told, and what is remembered of the endpoint. */
export const broke = (
  engine: Engine,
  call: Call,
  attempt: Try,
  error: TransportError
): Effect.Effect<never, EtcdError.EtcdError> => {
  const failed = failure(call, attempt.session, error)
  if (decide(failed.reason) === "renew") call.credentials.refuse(attempt.metadata)
  return blamesEndpoint(failed.reason)
    ? Effect.andThen(Session.blame(attempt.session, engine.environment, error), Effect.fail(failed))
    : Effect.fail(failed)
}
