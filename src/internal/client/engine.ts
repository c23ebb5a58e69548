/**
 * How a call gets to an endpoint and what happens when it fails: choosing the endpoint, the token, the deadline, and
 * trying again. The rules for trying again are in `retryRules.ts`. What happens to a call that is out for long is in
 * `inquiry.ts`.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as EtcdError from "../../EtcdError.ts"
import { type CallOptions as TransportCallOptions, TransportError } from "../grpc/Transport.ts"
import * as Options from "../options.ts"
import * as Time from "../time.ts"
import type { Call, Retry, Try } from "./call.ts"
import * as Credentials from "./credentials.ts"
import * as Inquiry from "./inquiry.ts"
import { tooLate as tooLateText } from "./limit.ts"
import * as Reasons from "./reasons.ts"
import * as Resolver from "./resolver.ts"
import { blamesEndpoint, decide } from "./retryRules.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"

/** How a call is made, where its caller does not say. */
export interface Defaults {
  readonly deadline: Duration.Duration | undefined
  readonly retry: Retry
}

export interface Engine {
  readonly environment: Subchannel.Environment
  readonly selection: Selection.Selection
  /** Endpoints that single calls asked for and that are not in the list. */
  readonly others: Map<string, Subchannel.Subchannel>
  readonly configured: Resolver.Configured
  readonly defaults: (service: string) => Defaults
  readonly inquiry: Inquiry.Inquiry
}

/** Nothing more is done by a client whose scope is closed. */
export const closedError = EtcdError.make(
  new EtcdError.Unreachable({ message: "The client is closed.", outcome: "not-applied" })
)

/** The error of a try. */
export const failure = (call: Call, subchannel: Subchannel.Subchannel, error: TransportError): EtcdError.EtcdError => {
  call.code = error.code
  if (error === Subchannel.clientClosed) return closedError
  return Reasons.fromTransport(error.kind === "Deadline" ? retold(call, error) : error, {
    method: call.method.path,
    endpoint: subchannel.endpoint.address,
    kind: call.kind
  })
}

/** A deadline is the call's: what was left of it for the last try says little. */
const retold = (call: Call, error: TransportError): TransportError => {
  const limit = { millis: call.deadlineAt - call.begunAt, isTimed: call.isTimed }
  const tries = call.tries > 1 ? ` (in ${call.tries} tries)` : ""
  const because = error.waitedFor === undefined ? "" : `, because ${error.waitedFor}`
  return new TransportError({
    kind: error.kind,
    code: error.code,
    processed: error.processed,
    message: tooLateText(limit, error.processed !== "no", `${tries}${because}`)
  })
}

/** How long at least an endpoint stays connected that single calls have named, after the last one, in milliseconds. */
const lingerMillis = 10_000

/** Lets go of an endpoint that only single calls have named, when none has for a while. */
const letGo = (engine: Engine, subchannel: Subchannel.Subchannel): Effect.Effect<void> => {
  const { address } = subchannel.endpoint
  const isUnused = () => {
    if (subchannel.isNamed) {
      subchannel.isNamed = false
      return false
    }
    return subchannel.link === undefined ? subchannel.dialing === undefined : Subchannel.isIdle(subchannel.link)
  }
  const wait = Time.sleep(engine.environment.time, lingerMillis)
  return Effect.gen(function* () {
    for (let idle = 0; idle < 2; idle = isUnused() ? idle + 1 : 0) yield* wait
    if (engine.others.get(address) !== subchannel) return
    engine.others.delete(address)
    yield* Subchannel.remove(subchannel)
  })
}

/** The subchannel of an endpoint that a call names. */
export const pin = (engine: Engine, text: string): Result.Result<Subchannel.Subchannel, EtcdError.EtcdError> => {
  const admitted = Resolver.admit(engine.configured, text)
  if (Result.isFailure(admitted)) return Result.fail(Options.invalid(admitted.failure))
  const endpoint = admitted.success
  const known =
    Selection.all(engine.selection).find((subchannel) => subchannel.endpoint.address === endpoint.address) ??
    engine.others.get(endpoint.address)
  if (known !== undefined) {
    known.isNamed = true
    return Result.succeed(known)
  }
  const subchannel = Subchannel.make(endpoint, false)
  engine.others.set(endpoint.address, subchannel)
  Subchannel.fork(engine.environment, letGo(engine, subchannel))
  return Result.succeed(subchannel)
}

const tooLate = new TransportError({ kind: "Deadline", code: 4, processed: "no", message: "too late" })

const withDeadline = <A>(
  engine: Engine,
  effect: Effect.Effect<A, EtcdError.EtcdError>,
  call: Call,
  subchannel: Subchannel.Subchannel
): Effect.Effect<A, EtcdError.EtcdError> => {
  const { time } = engine.environment
  return call.deadlineAt === Number.POSITIVE_INFINITY
    ? effect
    : Time.within(time, effect, Math.max(0, call.deadlineAt - time.now()), () =>
        Effect.fail(failure(call, subchannel, tooLate))
      )
}

const transportOptions = (call: Call, metadata: Credentials.Metadata, now: number): TransportCallOptions => {
  const own = call.requireLeader ? metadata.withLeader : metadata.plain
  return {
    metadata: call.metadata === undefined ? own : { ...call.metadata, ...own },
    timeoutMillis: call.isTimed ? Math.min(Math.max(1, call.deadlineAt - now), Time.longestTimer) : undefined,
    holder: call
  }
}

/** The pause before the next try; none where the schedule has ended or the deadline would pass. */
const pause = Effect.fnUntraced(function* (engine: Engine, call: Call, error: EtcdError.EtcdError) {
  const { ended, time } = engine.environment
  call.step ??= yield* Schedule.toStep(call.retry)
  const millis = yield* Time.nextPause(time, call.step, error)
  if (millis === undefined || time.now() + millis >= call.deadlineAt) return false
  yield* Effect.raceFirst(Time.sleep(time, millis), Deferred.await(ended))
  call.tried = undefined
  call.mendable = undefined
  return true
})

type Run<A, R> = (attempt: Try) => Effect.Effect<A, TransportError | EtcdError.EtcdError, R>

const afterPause = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  error: EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.flatMap(pause(engine, call, error), (again) => (again ? perform(engine, call, run) : Effect.fail(error)))

/** Asks another endpoint, if there is one that was not asked since the last pause. */
const elsewhere = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  subchannel: Subchannel.Subchannel,
  otherwise: Effect.Effect<A, EtcdError.EtcdError, R>
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  call.tried ??= new Set()
  call.tried.add(subchannel)
  return Selection.hasOther(engine.selection, call, subchannel) ? perform(engine, call, run) : otherwise
}

const leave = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  subchannel: Subchannel.Subchannel,
  error: EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.andThen(Subchannel.blame(subchannel, engine.environment, undefined), () => {
    call.mendable = error
    return elsewhere(engine, call, run, subchannel, afterPause(engine, call, run, error))
  })

/** Time does not mend this endpoint. If it does not mend any, the call has failed. */
const giveUp = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  subchannel: Subchannel.Subchannel,
  error: EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  const { mendable } = call
  const last = mendable === undefined ? Effect.fail(error) : afterPause(engine, call, run, mendable)
  return elsewhere(engine, call, run, subchannel, last)
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
  failed: EtcdError.EtcdError
): boolean => (error.kind === "Deadline" ? Inquiry.isQuiet(engine, link) : blamesEndpoint(failed.reason))

/** One of those who share a call has waited for as long as it could; the call goes on. What he does next goes elsewhere. */
export const doubt = (engine: Engine, { link }: Call): void => {
  const { environment } = engine
  if (link === undefined || !Inquiry.isQuiet(engine, link)) return
  const blaming = Effect.asVoid(Subchannel.blame(link.subchannel, environment, undefined))
  Subchannel.fork(environment, blaming, { startImmediately: true })
}

/** In a row: a member that lags behind does not know a token yet that is new. Each costs the server the hash of a password. */
const mostRenewals = 3

/** Without a password there is no token to renew, but a client certificate may go with the users as they are now. */
const mayRenew = (call: Call, failed: EtcdError.EtcdError): boolean =>
  call.credentials !== Credentials.none || failed.reason._tag === "AuthOldRevision"

/** What to do about a failed try. */
const recover = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  link: Subchannel.Link,
  metadata: Credentials.Metadata,
  error: TransportError | EtcdError.EtcdError
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  if (error._tag === "EtcdError") return Effect.fail(error)
  const { subchannel } = link
  const failed = failure(call, subchannel, error)
  if (missedConnection(error) && !call.resent) {
    call.resent = true
    return perform(engine, call, run)
  }
  Inquiry.failed(engine, subchannel, failed)
  const decision = decide(failed.reason)
  // The token was good: should it expire later, that is another matter.
  if (decision !== "renew" && error.kind === "Status") call.renewals = 0
  switch (decision) {
    case "fail":
      return raisesDoubt(engine, link, error, failed)
        ? Effect.andThen(Subchannel.blame(subchannel, engine.environment, error), Effect.fail(failed))
        : Effect.fail(failed)
    case "renew":
      call.credentials.refuse(metadata)
      if (!mayRenew(call, failed) || ++call.renewals > mostRenewals) return Effect.fail(failed)
      return call.renewals === 1 ? perform(engine, call, run) : afterPause(engine, call, run, failed)
    case "later":
      return afterPause(engine, call, run, failed)
    case "elsewhere":
      return leave(engine, call, run, subchannel, failed)
    case "another":
      return giveUp(engine, call, run, subchannel, failed)
  }
}

const send = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  link: Subchannel.Link,
  metadata: Credentials.Metadata,
  now: number
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  const { connection, subchannel } = link
  if (now >= call.deadlineAt) return Effect.fail(failure(call, subchannel, tooLate))
  call.tries++
  call.sentAt = now
  if (call.span !== undefined) Telemetry.asked(call.span, subchannel.endpoint)
  const options = transportOptions(call, metadata, now)
  return Effect.matchEffect(run({ subchannel, link, connection, options, metadata }), {
    onFailure: (error) => {
      const closing = Subchannel.leave(call)
      const recovery = recover(engine, call, run, link, metadata, error)
      return closing === undefined ? recovery : Effect.andThen(closing, recovery)
    },
    onSuccess: (answer) => {
      const closing = Subchannel.leave(call)
      call.code = Telemetry.ok
      if (!call.isStream && subchannel.avoidUntil !== 0) Subchannel.praise(subchannel)
      return closing === undefined ? Effect.succeed(answer) : Effect.as(closing, answer)
    }
  })
}

/**
 * How long a call waits for one endpoint to be connected to while there is another to ask, in milliseconds: one that is
 * connected, or any. It counts also where all have been asked, since those may know more by now.
 */
const patienceBesideConnected = 100
const patience = 1000

const patienceFor = ({ selection }: Engine, call: Call, subchannel: Subchannel.Subchannel): number => {
  if (call.pinned !== undefined) return Number.POSITIVE_INFINITY
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
  metadata: Credentials.Metadata
): Effect.Effect<Subchannel.Link, EtcdError.EtcdError> => {
  const { environment } = engine
  const { time } = environment
  // With nowhere else to go, a call dials each endpoint once before it fails, whatever befell others before.
  const insists = call.dialled?.has(subchannel) !== true
  const acquired = Effect.tap(Subchannel.acquire(subchannel, environment, insists), (link) =>
    Subchannel.isUnknown(link, metadata) ? Subchannel.introduce(link, environment) : Effect.void
  )
  call.dialled ??= new Set()
  call.dialled.add(subchannel)
  const most = patienceFor(engine, call, subchannel)
  const wait = Math.ceil(Math.min(most, (call.deadlineAt - time.now()) / 2))
  const patient = Number.isFinite(most) ? Time.patiently(time, acquired, wait, () => Effect.fail(slow(wait))) : acquired
  return Effect.mapError(patient, (error) => failure(call, subchannel, error))
}

const prepare = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  subchannel: Subchannel.Subchannel
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.matchEffect(withDeadline(engine, call.credentials.get, call, subchannel), {
    // It was tried to authenticate at every endpoint that there is.
    onFailure: (error) =>
      isPassing(error.reason) && !engine.environment.closed ? afterPause(engine, call, run, error) : Effect.fail(error),
    onSuccess: (metadata) => reach(engine, call, run, subchannel, metadata)
  })

const isPassing = (reason: EtcdError.Reason): boolean => {
  const decision = decide(reason)
  return decision === "elsewhere" || decision === "later"
}

const reach = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  subchannel: Subchannel.Subchannel,
  metadata: Credentials.Metadata
): Effect.Effect<A, EtcdError.EtcdError, R> =>
  Effect.matchEffect(withDeadline(engine, connect(engine, call, subchannel, metadata), call, subchannel), {
    onFailure: (error) => {
      if (subchannel.removed) return perform(engine, call, run)
      Inquiry.failed(engine, subchannel, error)
      switch (decide(error.reason)) {
        case "elsewhere":
          return leave(engine, call, run, subchannel, error)
        case "another":
          return giveUp(engine, call, run, subchannel, error)
        default:
          return Effect.fail(error)
      }
    },
    onSuccess: (link) =>
      call.credentials.current() === metadata
        ? send(engine, call, run, link, metadata, engine.environment.time.now())
        : perform(engine, call, run)
  })

/** Performs the call now: on the endpoint that is best, and again elsewhere or later as the rules say. */
export const perform = <A, R>(
  engine: Engine,
  call: Call,
  run: Run<A, R>,
  now: number = engine.environment.time.now()
): Effect.Effect<A, EtcdError.EtcdError, R> => {
  const { environment, selection } = engine
  if (environment.closed) return Effect.fail(closedError)
  if (call.pinned?.removed === true) {
    // The list has dropped it since, but the call has named it.
    const pinned = pin(engine, call.pinned.endpoint.address)
    if (Result.isFailure(pinned)) return Effect.fail(pinned.failure)
    call.pinned = pinned.success
  }
  const subchannel = call.pinned ?? Selection.pick(selection, call.tried, now)
  const metadata = call.credentials.current()
  const { link } = subchannel
  return link === undefined || metadata === undefined || Subchannel.isUnknown(link, metadata)
    ? prepare(engine, call, run, subchannel)
    : send(engine, call, run, link, metadata, now)
}

/** Runs a call, and tells of it when it has ended. */
export const observed = <A, E, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  engine: Engine,
  call: Call,
  run: () => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.onExitPrimitive(Effect.suspend(run), (exit) => {
    const code = Exit.hasInterrupts(exit) ? Telemetry.cancelled : call.code
    const millis = engine.environment.time.now() - call.begunAt
    Telemetry.ended(call.method, code, millis, call.tries, fiber.context)
    if (call.span !== undefined) Telemetry.answered(call.span, code, call.tries)
    return Subchannel.leave(call)
  })

/** What a header says of who answered; what is wrong with that, if anything is. */
export const heard = (
  engine: Engine,
  link: Subchannel.Link,
  header: { readonly clusterId: bigint; readonly memberId: bigint; readonly raftTerm: bigint }
): TransportError | undefined => {
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

/** A stream that had begun broke off: what its reader is told, and what is remembered of the endpoint. */
export const broke = (
  engine: Engine,
  call: Call,
  attempt: Try,
  error: TransportError
): Effect.Effect<never, EtcdError.EtcdError> => {
  const failed = failure(call, attempt.subchannel, error)
  if (engine.environment.closed) return Effect.fail(closedError)
  if (decide(failed.reason) === "renew") call.credentials.refuse(attempt.metadata)
  return blamesEndpoint(failed.reason)
    ? Effect.andThen(Subchannel.blame(attempt.subchannel, engine.environment, error), Effect.fail(failed))
    : Effect.fail(failed)
}
