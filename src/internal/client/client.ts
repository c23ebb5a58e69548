/**
 * Puts the client together: options, endpoints, credentials, and the kinds of calls.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import type { Transport } from "../grpc/Transport.ts"
import { http2Transport } from "../http2/Http2Transport.ts"
import { nodeHttp2Transport } from "../nodeHttp2/NodeHttp2Transport.ts"
import * as RequestOptions from "../options.ts"
import { Auth } from "../proto/rpc_pb.ts"
import * as Tracing from "../tracing.ts"
import { MessageLimit } from "./batched.ts"
import * as Credentials from "./credentials.ts"
import * as Engine from "./engine.ts"
import * as Inquiry from "./inquiry.ts"
import * as ClientOptions from "./options.ts"
import * as Origin from "./origin.ts"
import * as Resolver from "./resolver.ts"
import { serviceNamed } from "./rpcs.ts"
import * as Streams from "./streams.ts"
import * as Subchannel from "./subchannel.ts"
import * as Unary from "./unary.ts"

type Options = EtcdClient.Options

/**
 * Who is to be authenticated. An effect that says so has the context of where the client was made, and is in the trace of the
 * call that waits for it.
 */
const currentCredentials = (
  { environment }: Engine.Engine,
  given: NonNullable<Options["credentials"]>
): Effect.Effect<EtcdClient.Credentials, EtcdError.EtcdError> =>
  Effect.flatMap(
    Effect.isEffect(given)
      ? Effect.updateContext(given, (around: Context.Context<never>) => Tracing.inTraceOf(environment.context, around))
      : Effect.succeed(given),
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
  const unary = Unary.make(engine, Credentials.none)
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
  const engine = yield* Engine.make(transport, settings, options.tls, first)
  const { scope } = engine.environment
  const credentials =
    options.credentials === undefined
      ? Credentials.none
      : Credentials.make(authenticate(engine, options.credentials), Engine.closedError, scope, () =>
          Inquiry.introduced(engine)
        )
  engine.environment.credentials = credentials
  const plain: EtcdClient.Client & MessageLimit = {
    [MessageLimit]: settings.connection.maxReceiveMessageBytes,
    unary: Unary.make(engine, credentials),
    serverStream: Streams.makeServerStream(engine, credentials),
    bidirectional: Streams.makeBidirectional(engine, credentials),
    defaults: (service) => engine.defaults(serviceNamed(service) ?? service),
    endpoints: Effect.sync(() => engine.selection.subchannels.map((subchannel) => subchannel.endpoint.address))
  }
  const client = Origin.addressed(plain, engine.selection.addresses)
  if (rest !== undefined) yield* Effect.forkIn(Tracing.onItsOwn(Resolver.follow(engine, rest)), scope)
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
