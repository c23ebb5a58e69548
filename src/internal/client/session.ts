/**
 * One endpoint and the connection to it.
 *
 * The connection is opened when it is first needed; however many callers wait for it, there is one dial. After a
 * failure the endpoint is left alone for a while: longer each time, with jitter, as the reconnect schedule says.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { type Connection, type ConnectionOptions, type Tls, type Transport, TransportError } from "../grpc/Transport.ts"
import type { Endpoint } from "./endpoint.ts"

/** An open connection, closed when it is retired and its last call has ended. */
export interface Link {
  readonly connection: Connection
  readonly scope: Scope.Closeable
  inFlight: number
  retired: boolean
}

export interface Session {
  readonly endpoint: Endpoint
  link: Link | undefined
  dialing: Deferred.Deferred<Link, TransportError> | undefined
  /** Why the last dial failed, until one succeeds. */
  dialFailure: TransportError | undefined
  /** Not before this time, in milliseconds since the epoch, unless nothing better is there. 0: not blamed. */
  avoidUntil: number
  backoff:
    | ((now: number, input: TransportError | undefined) => Pull.Pull<[unknown, Duration.Duration], never, unknown>)
    | undefined
  removed: boolean
}

/** What is seen of the connections, for metrics and logs. */
export interface Observer {
  readonly connected: (endpoint: Endpoint) => Effect.Effect<void>
  readonly disconnected: (endpoint: Endpoint, reason: TransportError) => Effect.Effect<void>
  readonly dialFailed: (endpoint: Endpoint, error: TransportError, pause: Duration.Duration) => Effect.Effect<void>
}

export interface Environment {
  readonly scope: Scope.Scope
  /** What connections are opened and watched in: not that of the caller who happens to be first. */
  readonly context: Context.Context<never>
  /** The scope is being closed: no more calls. */
  closed: boolean
  readonly transport: Transport
  readonly connection: ConnectionOptions
  readonly tls: Effect.Effect<Tls, TransportError>
  readonly reconnect: Schedule.Schedule<unknown, TransportError | undefined>
  readonly observer: Observer
}

export const make = (endpoint: Endpoint): Session => ({
  endpoint,
  link: undefined,
  dialing: undefined,
  dialFailure: undefined,
  avoidUntil: 0,
  backoff: undefined,
  removed: false
})

/** Where a reconnect schedule that has ended leaves off. */
const lastPause = Duration.seconds(30)

/** Leaves the endpoint alone for a while, and says for how long. */
export const blame = Effect.fnUntraced(function* (
  session: Session,
  environment: Environment,
  error: TransportError | undefined
) {
  const now = yield* Clock.currentTimeMillis
  if (session.avoidUntil > now) return Duration.millis(session.avoidUntil - now)
  const step = session.backoff ?? (yield* Schedule.toStep(environment.reconnect))
  session.backoff = step
  const [, pause] = yield* Pull.catchDone(step(now, error), () =>
    Effect.succeed<[unknown, Duration.Duration]>([undefined, lastPause])
  )
  session.avoidUntil = now + Duration.toMillis(pause)
  return pause
})

/** A call went well: the endpoint is as good as any. */
export const praise = (session: Session): void => {
  session.avoidUntil = 0
  session.backoff = undefined
}

const close = (link: Link): Effect.Effect<void> => Scope.close(link.scope, Exit.void)

const retire = (session: Session, link: Link): Effect.Effect<void> => {
  if (session.link === link) session.link = undefined
  link.retired = true
  return link.inFlight === 0 ? close(link) : Effect.void
}

/** A call on the link has ended. */
export const release = (link: Link): Effect.Effect<void> | undefined => {
  link.inFlight--
  return link.retired && link.inFlight === 0 ? close(link) : undefined
}

const open = Effect.fnUntraced(function* (session: Session, environment: Environment) {
  const { endpoint } = session
  const target = endpoint.secure ? { ...endpoint.target, tls: yield* environment.tls } : endpoint.target
  const scope = yield* Scope.fork(environment.scope)
  const connection = yield* environment.transport.connect(target, environment.connection).pipe(
    Scope.provide(scope),
    Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
  )
  const link: Link = { connection, scope, inFlight: 0, retired: false }
  return link
})

const watch = (session: Session, link: Link, environment: Environment): Effect.Effect<unknown> =>
  link.connection.closed.pipe(
    Effect.flatMap((reason) =>
      Effect.andThen(retire(session, link), environment.observer.disconnected(session.endpoint, reason))
    ),
    Effect.forkIn(environment.scope, { startImmediately: true })
  )

const opened = (session: Session, link: Link, environment: Environment): Effect.Effect<unknown> => {
  session.dialFailure = undefined
  session.link = link
  return Effect.andThen(
    environment.observer.connected(session.endpoint),
    session.removed ? retire(session, link) : watch(session, link, environment)
  )
}

const failed = (session: Session, error: TransportError, environment: Environment): Effect.Effect<void> => {
  session.dialFailure = error
  return Effect.flatMap(blame(session, environment, error), (pause) =>
    environment.observer.dialFailed(session.endpoint, error, pause)
  )
}

const clientClosed = new TransportError({
  kind: "Unreachable",
  code: 14,
  processed: "no",
  message: "the client is closed"
})

const dial = (session: Session, environment: Environment): Effect.Effect<Link, TransportError> =>
  open(session, environment).pipe(
    Effect.tap((link) => opened(session, link, environment)),
    Effect.tapError((error) => failed(session, error, environment)),
    Effect.setContext(environment.context)
  )

/** The connection, opened if need be. Fails at once while the endpoint is left alone after a failed dial. */
export const acquire = (session: Session, environment: Environment): Effect.Effect<Link, TransportError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.clockWith((clock) => {
      if (environment.closed) return Effect.fail(clientClosed)
      if (session.link !== undefined) return Effect.succeed(session.link)
      if (session.dialing !== undefined) return restore(Deferred.await(session.dialing))
      if (session.dialFailure !== undefined && clock.currentTimeMillisUnsafe() < session.avoidUntil) {
        return Effect.fail(session.dialFailure)
      }
      const waiting = Deferred.makeUnsafe<Link, TransportError>()
      session.dialing = waiting
      return Effect.flatMap(Effect.forkIn(dial(session, environment), environment.scope), (fiber) => {
        fiber.addObserver((exit) => {
          session.dialing = undefined
          Deferred.doneUnsafe(waiting, Exit.hasInterrupts(exit) ? Exit.fail(clientClosed) : exit)
        })
        return restore(Deferred.await(waiting))
      })
    })
  )

/** The endpoint is no longer wanted: its calls may end, and then the connection is closed. */
export const remove = (session: Session): Effect.Effect<void> =>
  Effect.suspend(() => {
    session.removed = true
    return session.link === undefined ? Effect.void : retire(session, session.link)
  })
