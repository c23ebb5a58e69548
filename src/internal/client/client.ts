/**
 * Puts the client together: options, endpoints, credentials, and the three kinds of calls.
 *
 * @internal
 */
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
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
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import { type Read, type Transport, TransportError } from "../grpc/Transport.ts"
import { http2Transport } from "../http2/Http2Transport.ts"
import { nodeHttp2Transport } from "../nodeHttp2/NodeHttp2Transport.ts"
import * as RequestOptions from "../options.ts"
import { Auth, type ResponseHeader } from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import { Batched, MessageLimit } from "./batched.ts"
import type { Call, Try } from "./call.ts"
import * as Credentials from "./credentials.ts"
import * as Engine from "./engine.ts"
import * as Inquiry from "./inquiry.ts"
import { type Limit, limitOf, unlimited } from "./limit.ts"
import * as Messages from "./messages.ts"
import * as ClientOptions from "./options.ts"
import * as Resolver from "./resolver.ts"
import { type Kind, kindOf, type Method, methodOf, needsLeader, serviceNamed } from "./rpcs.ts"
import * as Selection from "./selection.ts"
import * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"
import * as Tls from "./tls.ts"

type Options = EtcdClient.Options

const makeEngine = Effect.fnUntraced(function* (
  transport: Transport,
  { connection, defaults, reconnect, selection }: ClientOptions.Settings,
  tls: Options["tls"],
  first: ReadonlyArray<string>
) {
  const configured = yield* Effect.fromResult(Resolver.configure(first, tls !== undefined))
  const environment: Subchannel.Environment = {
    // Whatever is opened later closes where the client does: after all that was made of it in the same scope.
    scope: yield* Scope.fork(yield* Effect.scope),
    context: yield* Effect.context(),
    caller: yield* Caller.make,
    time: yield* Time.Time,
    closed: false,
    ended: Deferred.makeUnsafe(),
    transport,
    connection,
    tls: Tls.material(tls ?? {}),
    reconnect,
    identity: { clusterId: 0n },
    credentials: Credentials.none,
    listener: Telemetry.connectionListener,
    links: new Set(),
    onView: () => Inquiry.viewed(engine)
  }
  const start = yield* Selection.anyOf(configured.endpoints)
  const engine: Engine.Engine = {
    environment,
    selection: Selection.make(selection, configured.endpoints, start),
    others: new Map(),
    configured,
    defaults,
    inquiry: Inquiry.make()
  }
  return engine
})

/** What a call is, before it is sent. */
interface Beginning {
  readonly engine: Engine.Engine
  readonly credentials: Credentials.Credentials
  readonly method: Method
  readonly kind: Kind
  readonly request: { readonly serializable?: boolean } | undefined
  readonly options: EtcdClient.CallOptions
  /** A stream lasts as long as its reader likes, unless its own caller sets a deadline. */
  readonly streaming: boolean
  /** Whether it begins with an answer, which has its time as any other. */
  readonly isAnswered: boolean
}

const limitOfCall = ({ engine, isAnswered, method, options, streaming }: Beginning): Limit => {
  const left = (options as Batched)[Batched]?.limit
  if (left !== undefined) return left
  const given = options.deadline ?? (streaming ? undefined : engine.defaults(method.service).deadline)
  return given === undefined && (!isAnswered || method.takesLong) ? unlimited : limitOf(given)
}

const pinnedOf = ({
  engine,
  options
}: Beginning): Result.Result<Subchannel.Subchannel | undefined, EtcdError.EtcdError> =>
  options.endpoint === undefined ? Result.succeed(undefined) : Engine.pin(engine, options.endpoint)

const metadataOf = ({ options }: Beginning, span: Tracer.Span | undefined) =>
  span === undefined ? options.metadata : { ...options.metadata, ...Telemetry.traceContext(span) }

const beginCall = (beginning: Beginning, span: Tracer.Span | undefined): Result.Result<Call, EtcdError.EtcdError> => {
  const { credentials, engine, kind, method, options, request, streaming } = beginning
  const problem = RequestOptions.problemOfCall(method.name, options)
  if (problem !== undefined) return Result.fail(RequestOptions.invalid(problem))
  const limit = limitOfCall(beginning)
  const pinned = pinnedOf(beginning)
  if (Result.isFailure(pinned)) return Result.fail(pinned.failure)
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
    takesLong: method.takesLong,
    isStream: streaming,
    pinned: pinned.success,
    tries: 0,
    code: Telemetry.invalidArgument,
    tried: undefined,
    mendable: undefined,
    dialled: undefined,
    resent: false,
    moves: 0,
    renewals: 0,
    step: undefined,
    sentAt: begunAt,
    view: undefined,
    doubtedAt: undefined,
    begun: undefined,
    link: undefined,
    previous: undefined,
    next: undefined
  })
}

/** What is wrong with who answered, if anything is. */
const wrongSender = (engine: Engine.Engine, link: Subchannel.Link, answer: object): TransportError | undefined => {
  const { header } = answer as { readonly header?: ResponseHeader | undefined }
  return header === undefined ? undefined : Engine.heard(engine, link, header)
}

/** A single exchange: one request, one answer. */
const exchange =
  <O extends DescMessage>(
    engine: Engine.Engine,
    call: Call,
    output: O,
    bytes: Uint8Array,
    context: Context.Context<never>
  ) =>
  ({ connection, link, options }: Try): Effect.Effect<MessageShape<O>, TransportError> => {
    const { method } = call
    Telemetry.sent(method, bytes.length, context)
    const read: Read<MessageShape<O>> = (answer, start, end) => {
      Telemetry.received(method, end - start, context)
      const decoded = Messages.decode(output, answer, start, end)
      const wrong = Exit.isSuccess(decoded) ? wrongSender(engine, link, decoded.value) : undefined
      return wrong === undefined ? decoded : Exit.fail(wrong)
    }
    Subchannel.enter(link, call)
    Inquiry.notice(engine)
    return connection.unary(method.path, bytes, options, read)
  }

const makeUnary = (engine: Engine.Engine, credentials: Credentials.Credentials): EtcdClient.Client["unary"] => {
  const unary = <I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: EtcdClient.CallOptions = {}
  ): Effect.Effect<MessageShape<O>, EtcdError.EtcdError> =>
    Effect.withFiber((fiber) => {
      const method = methodOf(descriptor)
      const encoded = Messages.encode(method, descriptor.input, request)
      // The first request that needs protobuf-es: begun again when that is there.
      if (!Messages.isEncoded(encoded)) return Effect.andThen(encoded, unary(descriptor, request, options))
      if (Exit.isFailure(encoded)) return Effect.failCause(encoded.cause)
      const kind = kindOf(method, request)
      const beginning = {
        engine,
        credentials,
        method,
        kind,
        request: request as object,
        options,
        streaming: false,
        isAnswered: true
      }
      engine.environment.caller.context = fiber.context
      const start = (span: Tracer.Span | undefined) => {
        const begun = beginCall(beginning, span)
        if (Result.isFailure(begun)) return Effect.fail(begun.failure)
        const call = begun.success
        const batched = (options as Batched)[Batched]
        if (batched !== undefined) {
          batched.doubt = () => Engine.doubt(engine, call)
          batched.heard = () => call.link?.connection.bytesHeard() ?? 0
        }
        const run = exchange(engine, call, descriptor.output, encoded.value, fiber.context)
        return Engine.observed(fiber, engine, call, () => Engine.perform(engine, call, run, call.begunAt))
      }
      return Telemetry.isTraced(fiber) ? Telemetry.withSpan(method, start) : start(undefined)
    })
  return unary
}

type Bytes = Arr.NonEmptyReadonlyArray<Uint8Array>

const decodeAll = <O extends DescMessage>(
  engine: Engine.Engine,
  method: Method,
  link: Subchannel.Link,
  schema: O,
  batch: Bytes,
  context: Context.Context<never>
): Effect.Effect<Arr.NonEmptyReadonlyArray<MessageShape<O>>, TransportError> => {
  const messages: Array<MessageShape<O>> = []
  for (const bytes of batch) {
    Telemetry.received(method, bytes.length, context)
    const decoded = Messages.decode(schema, bytes, 0, bytes.length)
    if (Exit.isFailure(decoded)) return Effect.failCause(decoded.cause)
    const wrong = wrongSender(engine, link, decoded.value)
    if (wrong !== undefined) return Effect.fail(wrong)
    messages.push(decoded.value)
  }
  // That a stream could be made shows little; that it is answered does.
  if (link.subchannel.avoidUntil !== 0) Subchannel.praise(link.subchannel)
  return Effect.succeed(messages as [MessageShape<O>, ...Array<MessageShape<O>>])
}

const decoding = <O extends DescMessage>(
  engine: Engine.Engine,
  call: Call,
  attempt: Try,
  schema: O,
  messages: Stream.Stream<Uint8Array, TransportError>
): Stream.Stream<MessageShape<O>, EtcdError.EtcdError> =>
  messages.pipe(
    Stream.mapArrayEffect((batch) =>
      Effect.contextWith((context: Context.Context<never>) =>
        decodeAll(engine, call.method, attempt.link, schema, batch, context)
      )
    ),
    Stream.catch((error) => Stream.fromEffect(Engine.broke(engine, call, attempt, error)))
  )

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

interface Opened {
  readonly attempt: Try
  readonly first: Option.Option<Bytes>
  readonly rest: Pull.Pull<Bytes, TransportError>
}

/** Opens the stream and waits for its first answers, so that until then it can be opened again elsewhere. */
const openStream = (
  attempt: Try,
  path: string,
  request: Uint8Array
): Effect.Effect<Opened, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const rest = yield* Stream.toPull(attempt.connection.serverStream(path, request, attempt.options))
    const first = yield* Pull.catchDone(Effect.map(rest, Option.some), () => Effect.succeedNone)
    return { attempt, first, rest }
  })

/** Begins a call that lasts as long as the scope. */
const beginScoped = (beginning: Omit<Beginning, "streaming">): Effect.Effect<Call, EtcdError.EtcdError, Scope.Scope> =>
  Effect.gen(function* () {
    const { environment } = beginning.engine
    const span = yield* Telemetry.scopedSpan(beginning.method)
    const context = yield* Effect.context()
    environment.caller.context = context
    const call = yield* Effect.fromResult(beginCall({ ...beginning, streaming: true }, span))
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        Telemetry.ended(call.method, call.code, environment.time.now() - call.begunAt, call.tries, context)
        if (span !== undefined) Telemetry.answered(span, call.code, call.tries)
      })
    )
    return call
  })

const noFirstAnswer = new TransportError({ kind: "Deadline", code: 4, processed: "unknown", message: "too late" })

/** Ends a stream that nobody begins to answer, where its caller has not said for how long it may take. */
const inTime = <A, R>(
  { environment: { time } }: Engine.Engine,
  call: Call,
  opening: Effect.Effect<A, TransportError, R>
): Effect.Effect<A, TransportError, R> =>
  call.isTimed || call.deadlineAt === Number.POSITIVE_INFINITY
    ? opening
    : Time.patiently(time, opening, Math.max(0, call.deadlineAt - time.now()), () => Effect.fail(noFirstAnswer))

const makeServerStream =
  (engine: Engine.Engine, credentials: Credentials.Credentials): EtcdClient.Client["serverStream"] =>
  <I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: EtcdClient.CallOptions = {}
  ) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const method = methodOf(descriptor)
        const bytes = yield* Messages.encode(method, descriptor.input, request)
        const kind = kindOf(method, request)
        const call = yield* beginScoped({
          engine,
          credentials,
          method,
          kind,
          request: request as object,
          options,
          isAnswered: true
        })
        const { attempt, first, rest } = yield* Engine.perform(engine, call, (attempt) =>
          Effect.contextWith((context: Context.Context<Scope.Scope>) => {
            Telemetry.sent(method, bytes.length, context)
            Subchannel.listen(attempt.link, call.sentAt)
            return holdingInScope(attempt.link, inTime(engine, call, openStream(attempt, method.path, bytes)))
          })
        )
        if (Option.isNone(first)) return Stream.empty
        const all = Stream.concat(Stream.fromArray(first.value), Stream.fromPull(Effect.succeed(rest)))
        return decoding(engine, call, attempt, descriptor.output, all)
      })
    )

const makeBidirectional =
  (engine: Engine.Engine, credentials: Credentials.Credentials): EtcdClient.Client["bidirectional"] =>
  <I extends DescMessage, O extends DescMessage>(
    descriptor: DescMethodBiDiStreaming<I, O>,
    options: EtcdClient.CallOptions = {}
  ) =>
    Effect.gen(function* () {
      const method = methodOf(descriptor)
      const kind = kindOf(method, undefined)
      const call = yield* beginScoped({
        engine,
        credentials,
        method,
        kind,
        request: undefined,
        options,
        isAnswered: false
      })
      const { attempt, duplex } = yield* Engine.perform(engine, call, (attempt) =>
        Effect.map(
          holdingInScope(attempt.link, attempt.connection.bidirectional(method.path, attempt.options)),
          (duplex) => ({ attempt, duplex })
        )
      )
      const failed = (error: TransportError) => Engine.broke(engine, call, attempt, error)
      return {
        send: (message: MessageInitShape<I>) =>
          Effect.flatMap(Messages.encode(method, descriptor.input, message), (bytes) =>
            Effect.contextWith((context: Context.Context<never>) => {
              Telemetry.sent(method, bytes.length, context)
              return Effect.catch(duplex.send(bytes), failed)
            })
          ),
        end: duplex.end,
        messages: decoding(engine, call, attempt, descriptor.output, duplex.messages),
        endpoint: attempt.subchannel.endpoint.address,
        draining: Effect.raceFirst(Effect.asVoid(attempt.connection.closed), Deferred.await(attempt.link.left)),
        renewToken: Effect.sync(() => credentials.refuse(attempt.metadata))
      }
    })

/** Who is to be authenticated. An effect that says so has the context of where the client was made. */
const currentCredentials = (
  { environment }: Engine.Engine,
  given: NonNullable<Options["credentials"]>
): Effect.Effect<EtcdClient.Credentials, EtcdError.EtcdError> =>
  Effect.flatMap(
    Effect.isEffect(given) ? Effect.setContext(given, environment.context) : Effect.succeed(given),
    // Also those that were checked before: a secret may have been wiped since.
    (credentials) => {
      const problem = ClientOptions.problemOfCredentials(credentials)
      return problem === undefined ? Effect.succeed(credentials) : Effect.fail(RequestOptions.invalid(problem))
    }
  )

/** How often it is tried to authenticate is for the calls to say that want to. */
const oneRound: EtcdClient.CallOptions = { retry: Schedule.recurs(0) }

/** Asks for a token, without one. */
const authenticate = (engine: Engine.Engine, given: NonNullable<Options["credentials"]>) => {
  const unary = makeUnary(engine, Credentials.none)
  const asked = Effect.flatMap(currentCredentials(engine, given), ({ username, password }) =>
    unary(Auth.method.authenticate, { name: username, password: Redacted.value(password) }, oneRound).pipe(
      Effect.map((answer): string | undefined => answer.token),
      Effect.catchReason("EtcdError", "AuthNotEnabled", () => Effect.undefined)
    )
  )
  return Caller.as(engine.environment.caller, asked)
}

/** A client over a transport of the caller's choice. */
export const makeWith = Effect.fnUntraced(function* (transport: Transport, options: Options) {
  const settings = yield* Effect.fromResult(ClientOptions.settings(options))
  const { first, rest } = yield* Resolver.lists(options.endpoints)
  const engine = yield* makeEngine(transport, settings, options.tls, first)
  const { scope } = engine.environment
  const credentials =
    options.credentials === undefined
      ? Credentials.none
      : Credentials.make(authenticate(engine, options.credentials), Engine.closedError, scope, () =>
          Inquiry.introduced(engine)
        )
  engine.environment.credentials = credentials
  const client: EtcdClient.Client & MessageLimit = {
    [MessageLimit]: settings.connection.maxReceiveMessageBytes,
    unary: makeUnary(engine, credentials),
    serverStream: makeServerStream(engine, credentials),
    bidirectional: makeBidirectional(engine, credentials),
    defaults: (service) => engine.defaults(serviceNamed(service) ?? service),
    endpoints: Effect.sync(() => engine.selection.subchannels.map((subchannel) => subchannel.endpoint.address))
  }
  if (rest !== undefined) yield* Effect.forkIn(Resolver.follow(engine, rest), scope)
  const { memberRefresh } = settings
  if (memberRefresh !== undefined) {
    Subchannel.fork(engine.environment, Resolver.refresh(engine, client, memberRefresh))
  }
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      engine.environment.closed = true
      Deferred.doneUnsafe(engine.environment.ended, Exit.void)
    })
  )
  return client
})

export const make = (options: Options): Effect.Effect<EtcdClient.Client, EtcdError.EtcdError, Scope.Scope> =>
  makeWith(options?.transport === "node:http2" ? nodeHttp2Transport : http2Transport, options)
