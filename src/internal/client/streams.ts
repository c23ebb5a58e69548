/**
 * Calls with streams of answers, or of requests and answers.
 *
 * A stream can be opened elsewhere until its first answer is there, or, where it is for the caller to ask, until it is
 * open. After that it is its reader's: how it breaks off is told, and remembered of the endpoint.
 *
 * @internal
 */
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  MessageInitShape,
  MessageShape
} from "@bufbuild/protobuf"
import type * as Arr from "effect/Array"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { type CallOptions as TransportCallOptions, TransportError } from "../grpc/Transport.ts"
import * as Time from "../time.ts"
import * as Attempt from "./attempt.ts"
import * as Call from "./call.ts"
import * as Codec from "./codec.ts"
import * as Credentials from "./credentials.ts"
import { closedError, type Engine } from "./engine.ts"
import { blamesEndpoint, decide } from "./retryRules.ts"
import { kindOf, methodOf } from "./rpcs.ts"
import * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"

type Bytes = Arr.NonEmptyReadonlyArray<Uint8Array>

// ── a call that lasts as long as a scope ──

const begin = (
  beginning: Omit<Call.Beginning, "isStream">
): Effect.Effect<Call.Call, EtcdError.EtcdError, Scope.Scope> =>
  Effect.gen(function* () {
    const { engine, method } = beginning
    const span = yield* Telemetry.scopedSpan(method)
    const context = yield* Effect.context()
    engine.environment.caller.context = context
    const begun = Call.begin({ ...beginning, isStream: true }, span)
    if (Result.isFailure(begun)) return yield* Call.refused(span, begun.failure)
    const call = begun.success
    yield* Effect.addFinalizer((exit) =>
      Effect.sync(() => {
        // That its reader fails is no failure of the call.
        const isOwn = call.code !== Telemetry.ok || Exit.hasInterrupts(exit)
        Call.tell(engine, call, isOwn ? exit : Exit.void, context)
      })
    )
    return call
  })

/** Runs a try whose connection stays open as long as the scope; a try that fails leaves nothing behind. */
const holdingInScope = <A>(
  link: Subchannel.Link,
  open: Effect.Effect<A, TransportError, Scope.Scope>
): Effect.Effect<A, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    return yield* Effect.andThen(Subchannel.holdInScope(link), open).pipe(
      Scope.provide(scope),
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
  })

// ── its answers ──

const readAll = <O extends DescMessage>(
  engine: Engine,
  attempt: Attempt.Attempt,
  schema: O,
  batch: Bytes,
  context: Context.Context<never>
): Effect.Effect<Arr.NonEmptyReadonlyArray<MessageShape<O>>, TransportError> => {
  const { subchannel } = attempt.link
  const messages: Array<MessageShape<O>> = []
  for (const bytes of batch) {
    const message = Attempt.read(engine, attempt, schema, bytes, 0, bytes.length, context)
    if (Exit.isFailure(message)) return Effect.failCause(message.cause)
    messages.push(message.value)
  }
  // That a stream could be made shows little; that it is answered does.
  if (subchannel.avoidUntil !== 0) Subchannel.praise(subchannel)
  return Effect.succeed(messages as [MessageShape<O>, ...Array<MessageShape<O>>])
}

/** A stream that had begun broke off: what its reader is told, and what is remembered of the endpoint. */
const broke = (
  engine: Engine,
  { call, link: { subchannel }, metadata }: Attempt.Attempt,
  error: TransportError
): Effect.Effect<never, EtcdError.EtcdError> => {
  const failed = Attempt.errorOf(call, subchannel, error)
  if (engine.environment.closed) return Effect.fail(closedError)
  if (decide(failed.reason) === "renew") call.credentials.refuse(metadata)
  return blamesEndpoint(failed.reason)
    ? Effect.andThen(Subchannel.blame(subchannel, engine.environment, error), Effect.fail(failed))
    : Effect.fail(failed)
}

const reading = <O extends DescMessage>(
  engine: Engine,
  attempt: Attempt.Attempt,
  schema: O,
  messages: Stream.Stream<Uint8Array, TransportError>
): Stream.Stream<MessageShape<O>, EtcdError.EtcdError> =>
  messages.pipe(
    Stream.mapArrayEffect((batch) =>
      Effect.contextWith((context: Context.Context<never>) => readAll(engine, attempt, schema, batch, context))
    ),
    Stream.catch((error) => Stream.fromEffect(broke(engine, attempt, error)))
  )

// ── streams of answers ──

interface Opened {
  readonly attempt: Attempt.Attempt
  readonly first: Option.Option<Bytes>
  readonly rest: Pull.Pull<Bytes, TransportError>
}

/** Opens the stream and waits for its first answers. */
const open = (
  attempt: Attempt.Attempt,
  options: TransportCallOptions,
  request: Uint8Array
): Effect.Effect<Opened, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const { call, link } = attempt
    const rest = yield* Stream.toPull(link.connection.serverStream(call.method.path, request, options))
    const first = yield* Pull.catchDone(Effect.map(rest, Option.some), () => Effect.succeedNone)
    return { attempt, first, rest }
  })

const noFirstAnswer = new TransportError({ kind: "Deadline", code: 4, processed: "unknown", message: "too late" })

/** Ends a stream that nobody begins to answer, where its caller has not said for how long it may take. */
const inTime = <A, R>(
  { environment: { time } }: Engine,
  { deadlineAt, isTimed }: Call.Call,
  opening: Effect.Effect<A, TransportError, R>
): Effect.Effect<A, TransportError, R> =>
  isTimed || deadlineAt === Number.POSITIVE_INFINITY
    ? opening
    : Time.patiently(time, opening, Math.max(0, deadlineAt - time.now()), () => Effect.fail(noFirstAnswer))

export const makeServerStream =
  (engine: Engine, credentials: Credentials.Credentials): EtcdClient.Client["serverStream"] =>
  <I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: EtcdClient.CallOptions = {}
  ) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const method = methodOf(descriptor)
        const bytes = yield* Effect.fromResult(Codec.encode(method, descriptor.input, yield* Codec.ready(request)))
        const kind = kindOf(method, request)
        const call = yield* begin({
          engine,
          credentials,
          method,
          kind,
          request: request as object,
          options,
          isAnswered: true
        })
        const { attempt, first, rest } = yield* Call.perform(engine, call, (attempt, options) =>
          Effect.contextWith((context: Context.Context<Scope.Scope>) => {
            Telemetry.sent(method, bytes.length, context)
            Subchannel.listen(attempt.link, attempt.sentAt)
            return holdingInScope(attempt.link, inTime(engine, call, open(attempt, options, bytes)))
          })
        )
        if (Option.isNone(first)) return Stream.empty
        const all = Stream.concat(Stream.fromArray(first.value), Stream.fromPull(Effect.succeed(rest)))
        return reading(engine, attempt, descriptor.output, all)
      })
    )

// ── both directions ──

export const makeBidirectional =
  (engine: Engine, credentials: Credentials.Credentials): EtcdClient.Client["bidirectional"] =>
  <I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodBiDiStreaming<I, O>,
    options: EtcdClient.CallOptions = {}
  ) =>
    Effect.gen(function* () {
      yield* Codec.ready(undefined)
      const method = methodOf(descriptor)
      const kind = kindOf(method, undefined)
      const call = yield* begin({ engine, credentials, method, kind, request: undefined, options, isAnswered: false })
      const { attempt, duplex } = yield* Call.perform(engine, call, (attempt, options) =>
        Effect.map(
          holdingInScope(attempt.link, attempt.link.connection.bidirectional(method.path, options)),
          (duplex) => ({ attempt, duplex })
        )
      )
      const { connection, left, subchannel } = attempt.link
      return {
        send: (message: MessageInitShape<I>) => {
          const encoded = Codec.encode(method, descriptor.input, message)
          if (Result.isFailure(encoded)) return Effect.fail(encoded.failure)
          return Effect.contextWith((context: Context.Context<never>) => {
            Telemetry.sent(method, encoded.success.length, context)
            return Effect.catch(duplex.send(encoded.success), (error) => broke(engine, attempt, error))
          })
        },
        end: duplex.end,
        messages: reading(engine, attempt, descriptor.output, duplex.messages),
        endpoint: subchannel.endpoint.address,
        draining: Effect.raceFirst(Effect.asVoid(connection.closed), Deferred.await(left)),
        renewToken: Effect.sync(() => {
          credentials.refuse(attempt.metadata)
          return credentials !== Credentials.none
        })
      }
    })
