/**
 * What a client works with as long as it lives.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import type { Transport } from "../grpc/Transport.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Credentials from "./credentials.ts"
import * as Inquiry from "./inquiry.ts"
import type * as ClientOptions from "./options.ts"
import * as Resolver from "./resolver.ts"
import * as Selection from "./selection.ts"
import type * as Subchannel from "./subchannel.ts"
import * as Telemetry from "./telemetry.ts"
import * as Tls from "./tls.ts"

export type Retry = Schedule.Schedule<unknown, EtcdError.EtcdError>

/** How a call is made, where its caller does not say. */
export interface Defaults {
  readonly deadline: Duration.Duration | undefined
  readonly retry: Retry
}

export interface Engine {
  readonly environment: Subchannel.Environment
  readonly selection: Selection.Selection
  /** Endpoints that single calls have named and that are not in the list. */
  readonly others: Map<string, Subchannel.Subchannel>
  readonly configured: Resolver.Configured
  readonly defaults: (service: string) => Defaults
  readonly inquiry: Inquiry.Inquiry
}

/** Nothing more is done by a client whose scope is closed. */
export const closedError = EtcdError.make(
  new EtcdError.Unreachable({ message: "The client is closed.", outcome: "not-applied", lasting: true })
)

export const make = Effect.fnUntraced(function* (
  transport: Transport,
  { clusterId, connection, defaults, reconnect, selection }: ClientOptions.Settings,
  tls: EtcdClient.Options["tls"],
  first: ReadonlyArray<string>
) {
  const configured = yield* Effect.fromResult(Resolver.configure(first, tls !== undefined))
  const environment: Subchannel.Environment = {
    // Whatever is opened later closes where the client does: after all that was made of it in the same scope.
    scope: yield* Scope.fork(yield* Effect.scope),
    context: Tracing.withoutTrace(yield* Effect.context<never>()),
    caller: yield* Caller.make,
    time: yield* Time.Time,
    closed: false,
    ended: Deferred.makeUnsafe(),
    transport,
    connection,
    tls: Tls.material(tls ?? {}),
    reconnect,
    identity: { clusterId },
    credentials: Credentials.none,
    listener: Telemetry.connectionListener,
    links: new Set(),
    onView: () => Inquiry.viewed(engine)
  }
  const start = yield* Selection.anyOf(configured.endpoints)
  const engine: Engine = {
    environment,
    selection: Selection.make(selection, configured.endpoints, start),
    others: new Map(),
    configured,
    defaults,
    inquiry: Inquiry.make()
  }
  return engine
})
