/**
 * One endpoint and the connection to it: what gRPC calls a subchannel.
 *
 * The connection is opened when it is first needed; however many callers wait for it, there is one dial. It is not there
 * before the member has told who it is (see `view.ts`). After a failure the endpoint is left alone for a while: longer
 * each time, with jitter, as the reconnect schedule says, until a call succeeds or the failures are long past. A caller
 * with nowhere else to go may insist, and then it is dialled all the same.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Caller from "../caller.ts"
import {
  type CallOptions,
  type Connection,
  type ConnectionOptions,
  type Tls,
  type Transport,
  TransportError
} from "../grpc/Transport.ts"
import * as Time from "../time.ts"
import type { Attempt } from "./attempt.ts"
import type * as Credentials from "./credentials.ts"
import type { Endpoint } from "./endpoint.ts"
import * as Identity from "./identity.ts"
import * as TlsMaterial from "./tls.ts"
import * as View from "./view.ts"

/** An open connection, closed when it is retired and its last call has ended. */
export interface Link {
  readonly subchannel: Subchannel
  readonly connection: Connection
  readonly scope: Scope.Closeable
  /** Streams stop using the connection when this completes, though it may still live. */
  readonly left: Deferred.Deferred<void>
  /** The cluster that it leads to, as far as is known: else 0. */
  clusterId: bigint
  /** Whether the member tells who it is only to those who show a token, and what it was shown last. */
  isReserved: boolean
  shown: Credentials.Metadata | undefined
  retired: boolean
  /** The streams that use it. */
  streams: number
  /** The single exchanges under way, in the order in which they were sent. */
  first: Attempt | undefined
  last: Attempt | undefined
  /** Whether one of them was answered since the last one was sent. */
  isConfirmed: boolean
  /** When the last one was sent, and when one was that was answered before it. */
  sentAt: number
  confirmedAt: number
  /** How much had come from the server when that was looked at last, and since when nothing more has come. */
  heard: number
  quietSince: number
  /** How long the member took for its quickest answer so far to a question of the client's own, in milliseconds. */
  roundTrip: number
  /** Whether that is more than its first answer, which may have come while much else was done here or there. */
  isMeasured: boolean
}

export interface Subchannel {
  readonly endpoint: Endpoint
  /** Whether it is one of the client's endpoints, and not only one that a single call has named. */
  isListed: boolean
  /** Whether a call has named it since that was asked last. */
  isNamed: boolean
  link: Link | undefined
  dialing: Deferred.Deferred<Link, TransportError> | undefined
  /** Why the last dial failed, until one succeeds. */
  dialFailure: TransportError | undefined
  dialledAt: number
  /** Not before this time unless nothing better is there. 0: not blamed. */
  avoidUntil: number
  backoff: Backoff | undefined
  removed: boolean
  /** What the member said last. */
  view: View.View | undefined
  /** When it last answered, and did not tell, because it wants a token, or another one. */
  evadedAt: number
}

type Step = (now: number, input: TransportError | undefined) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

interface Backoff {
  readonly step: Step
  /** From here on, what was is forgotten. */
  forgetAt: number
}

/** What is seen of the connections, for metrics and logs. */
export interface ConnectionListener {
  readonly connected: (endpoint: Endpoint) => Effect.Effect<void>
  /** The connection takes no more calls. */
  readonly disconnected: (endpoint: Endpoint, reason: TransportError) => Effect.Effect<void>
  /** It is gone, for whatever reason. */
  readonly closed: (endpoint: Endpoint) => Effect.Effect<void>
  readonly dialFailed: (endpoint: Endpoint, error: TransportError, pause: Duration.Duration) => Effect.Effect<void>
  /** It is another cluster's, which it was not before. */
  readonly strange: (endpoint: Endpoint, error: TransportError) => Effect.Effect<void>
}

export interface Environment {
  readonly scope: Scope.Scope
  /** What connections are opened and watched in: not that of the caller who happens to be first. */
  readonly context: Context.Context<never>
  readonly caller: Caller.Caller
  readonly time: Time.Time
  /** The scope is being closed: no more calls, and nobody waits for the next try. */
  closed: boolean
  readonly ended: Deferred.Deferred<void>
  readonly transport: Transport
  readonly connection: ConnectionOptions
  readonly tls: Effect.Effect<Tls, TransportError>
  readonly reconnect: Schedule.Schedule<unknown, TransportError | undefined>
  readonly identity: Identity.Identity
  /** Who is calling. */
  credentials: Credentials.Credentials
  readonly listener: ConnectionListener
  /** The connections that are open. */
  readonly links: Set<Link>
  /** A member has told who leads. */
  readonly onView: () => void
}

export const make = (endpoint: Endpoint, isListed: boolean): Subchannel => ({
  endpoint,
  isListed,
  isNamed: false,
  link: undefined,
  dialing: undefined,
  dialFailure: undefined,
  dialledAt: Number.NEGATIVE_INFINITY,
  avoidUntil: 0,
  backoff: undefined,
  removed: false,
  view: undefined,
  evadedAt: Number.NEGATIVE_INFINITY
})

/** Does something in the background, in real time, as long as the client lives. */
export const fork = (environment: Environment, effect: Effect.Effect<void>, options?: ForkOptions): void => {
  const { context, scope, time } = environment
  Effect.runForkWith(context)(Effect.forkIn(Time.inRealTime(time, effect), scope, options))
}

interface ForkOptions {
  /** What can be done at once is done when this returns. */
  readonly startImmediately: boolean
}

// ── blame ──

/** Where a reconnect schedule that has ended leaves off. */
const lastPause = Duration.seconds(30)

/** How long a failure counts at least, in milliseconds; and at most twice the pause after it. */
const shortestMemory = 10_000

/** Leaves the endpoint alone for a while, and says for how long. */
export const blame = Effect.fnUntraced(function* (
  subchannel: Subchannel,
  environment: Environment,
  error: TransportError | undefined
) {
  const now = environment.time.now()
  if (subchannel.avoidUntil > now) return Duration.millis(subchannel.avoidUntil - now)
  const known = subchannel.backoff !== undefined && now < subchannel.backoff.forgetAt ? subchannel.backoff : undefined
  const step: Step = known?.step ?? (yield* Schedule.toStep(environment.reconnect))
  // Time does not make another cluster the right one.
  const next = error?.kind === "Identity" ? Cause.done() : step(now, error)
  const [, pause] = yield* Pull.catchDone(next, () =>
    Effect.succeed<[unknown, Duration.Duration]>([undefined, lastPause])
  )
  const millis = Duration.toMillis(pause)
  subchannel.avoidUntil = now + millis
  subchannel.backoff = { step, forgetAt: subchannel.avoidUntil + Math.max(millis, shortestMemory) }
  return pause
})

/** A call went well: the endpoint is as good as any. */
export const praise = (subchannel: Subchannel): void => {
  subchannel.avoidUntil = 0
  subchannel.backoff = undefined
}

// ── the connection and its calls ──

const close = (link: Link): Effect.Effect<void> => Scope.close(link.scope, Exit.void)

/** Whether nothing uses it. */
export const isIdle = (link: Link): boolean => link.streams === 0 && link.first === undefined

/** No call is begun over the connection any more. It is closed when those under way have ended. */
const retire = (subchannel: Subchannel, link: Link): Effect.Effect<void> => {
  if (subchannel.link === link) subchannel.link = undefined
  link.retired = true
  return isIdle(link) ? close(link) : Effect.void
}

/** A use of the connection has ended. */
const freed = (link: Link): Effect.Effect<void> | undefined => (link.retired && isIdle(link) ? close(link) : undefined)

/**
 * For so long after an answer, what a member has said of itself is taken to hold, in milliseconds: also after its answer to
 * the question, since while the leader is lost no call may be answered for longer.
 */
const freshMillis = 1000

const isFresh = ({ confirmedAt, subchannel: { view } }: Link, now: number): boolean =>
  now - Math.max(confirmedAt, view?.at ?? confirmedAt) < freshMillis

/** What was heard, while nothing is asked for whose answer could be missed. */
const nothingAsked = -1

/** Something is, or was, asked for: the server's silence counts from now on, unless it has been silent for longer. */
export const listen = (link: Link, now: number): void => {
  const heard = link.connection.bytesHeard()
  if (heard === link.heard) return
  link.heard = heard
  link.quietSince = now
}

/** A connection is idle over which nothing is under way, and nothing was sent for so long, in milliseconds. */
const idleMillis = 300

/** A single exchange begins. */
export const enter = (attempt: Attempt): void => {
  const { link, sentAt } = attempt
  // Where nothing was asked for, nothing had to come.
  if (link.last === undefined && sentAt - link.sentAt >= idleMillis) link.heard = nothingAsked
  if (link.isConfirmed) {
    link.isConfirmed = false
    link.confirmedAt = link.sentAt
  }
  link.sentAt = sentAt
  attempt.view = isFresh(link, sentAt) ? link.subchannel.view : undefined
  attempt.isUnderWay = true
  attempt.previous = link.last
  if (link.last === undefined) link.first = attempt
  else link.last.next = attempt
  link.last = attempt
  listen(link, sentAt)
}

/** The exchange has ended. What it pointed to is let go of, since it may be kept by somebody who is old. */
export const leave = (attempt: Attempt): Effect.Effect<void> | undefined => {
  const { isUnderWay, link, next, previous } = attempt
  if (!isUnderWay) return undefined
  if (previous === undefined) link.first = next
  else previous.next = next
  if (next === undefined) link.last = previous
  else next.previous = previous
  attempt.isUnderWay = false
  attempt.previous = undefined
  attempt.next = undefined
  attempt.begun = undefined
  return freed(link)
}

/** A stream uses the connection as long as the scope is open. */
export const holdInScope = (link: Link): Effect.Effect<void, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      link.streams++
    }),
    () =>
      Effect.suspend(() => {
        link.streams--
        return freed(link) ?? Effect.void
      })
  )

/** How long nothing has come over the connection although something was asked for, in milliseconds. */
export const silence = (link: Link, now: number): number =>
  link.connection.bytesHeard() === link.heard ? now - link.quietSince : 0

/** Nothing new goes over the connection from now on. Answers with what closes it, where nothing is under way. */
const forsake = (link: Link): Effect.Effect<void> => {
  const closing = retire(link.subchannel, link)
  Deferred.doneUnsafe(link.left, Exit.void)
  return closing
}

/** The connection may live, but its member is not to be used: streams go elsewhere, and so do new calls. */
export const abandon = (link: Link): Effect.Effect<void> => Effect.suspend(() => forsake(link))

// ── whose client this is ──

/** Leaves the connections to other clusters at once, those that were there before the client's cluster was known too. */
const leaveOthers = (environment: Environment): void => {
  for (const link of environment.links) {
    if (!link.retired && Identity.isOther(environment.identity, link.clusterId)) fork(environment, forsake(link))
  }
}

/**
 * The connection's server has said which cluster it belongs to; what is wrong with that, if anything is. Then nothing more
 * is asked over the connection, and the next one asks again who is there.
 */
export const belongs = (
  environment: Environment,
  link: Link,
  clusterId: bigint,
  processed: "no" | "yes"
): TransportError | undefined => {
  const { identity } = environment
  link.clusterId = clusterId
  if (Identity.learn(identity, link.subchannel, clusterId)) leaveOthers(environment)
  if (!Identity.isOther(identity, clusterId)) return undefined
  if (!link.retired) fork(environment, forsake(link))
  return Identity.mismatch(identity, link.subchannel, clusterId, processed)
}

// ── dialling ──

const material = ({
  connection: { connectTimeoutMillis },
  time,
  tls
}: Environment): Effect.Effect<Tls, TransportError> =>
  Time.patiently(time, tls, connectTimeoutMillis, () => Effect.fail(TlsMaterial.unread(connectTimeoutMillis)))

const open = Effect.fnUntraced(function* (subchannel: Subchannel, environment: Environment) {
  const { endpoint } = subchannel
  const { connection: options, time } = environment
  const began = time.now()
  const target = endpoint.secure ? { ...endpoint.target, tls: yield* material(environment) } : endpoint.target
  const scope = yield* Scope.fork(environment.scope)
  return yield* Effect.gen(function* () {
    const connection = yield* environment.transport.connect(target, options)
    const connected = time.now()
    const link: Link = {
      subchannel,
      connection,
      scope,
      left: Deferred.makeUnsafe(),
      clusterId: 0n,
      isReserved: false,
      shown: undefined,
      retired: false,
      streams: 0,
      first: undefined,
      last: undefined,
      isConfirmed: true,
      sentAt: connected,
      confirmedAt: connected,
      heard: nothingAsked,
      quietSince: connected,
      roundTrip: 0,
      isMeasured: false
    }
    yield* greet(link, environment, began)
    // Those who want to know who is asking were asked twice.
    link.roundTrip = (time.now() - connected) / (link.shown === undefined ? 1 : 2)
    return link
  }).pipe(
    Scope.provide(scope),
    Effect.onExit((exit) => (Exit.isFailure(exit) ? Scope.close(scope, exit) : Effect.void))
  )
})

/** Asks the member of a connection how things are, as somebody whom it knows if it wants that. */
export const ask = Effect.fnUntraced(function* (
  link: Link,
  { credentials, time }: Environment,
  options: Pick<CallOptions, "timeoutMillis" | "holder">
) {
  const { connection } = link
  const shown = credentials.current()
  const hasToken = shown?.token !== undefined
  // Without a token it is asked all the same: that it answers shows that it lives.
  if (!link.isReserved || !hasToken) {
    const answer = yield* View.ask(connection, time.now, options)
    if (answer !== "reserved") return answer
    link.isReserved = true
  }
  if (!hasToken) return undefined
  const answer = yield* View.ask(connection, time.now, { ...options, metadata: shown.plain })
  link.shown = shown
  return answer === "reserved" ? undefined : answer
})

/** Asks who is there, before anything else is. `since`: when the connection began to be made. */
const greet = Effect.fnUntraced(function* (link: Link, environment: Environment, since: number) {
  const { endpoint } = link.subchannel
  const { connectTimeoutMillis } = environment.connection
  const began = environment.time.now()
  // What was before may have taken long because this process stood still: that is not the member's fault.
  const timeoutMillis = Math.ceil(Math.max(connectTimeoutMillis / 2, connectTimeoutMillis - (began - since)))
  const view = yield* Effect.catch(ask(link, environment, { timeoutMillis }), (error) => {
    if (!link.isReserved || error.kind !== "Deadline") {
      return Effect.fail(unanswered(endpoint, connectTimeoutMillis, error))
    }
    // It has answered, but not to this token: a store that was behind its making waits for that to come.
    const shown = environment.credentials.current()
    if (shown !== undefined) environment.credentials.refuse(shown)
    return Effect.undefined
  })
  const now = environment.time.now()
  link.sentAt = now
  link.confirmedAt = now
  if (view === undefined) return
  const wrong = belongs(environment, link, view.clusterId, "no")
  if (wrong !== undefined) return yield* Effect.fail(wrong)
  link.subchannel.view = view
})

/** Whether it is not known yet whom the connection leads to, and may be known now that there is this to show. */
export const isUnknown = (link: Link, metadata: Credentials.Metadata): boolean =>
  link.isReserved && link.clusterId === 0n && metadata.token !== undefined && metadata !== link.shown

/** Asks who is there, where that was not told to somebody without a token. */
export const introduce = (link: Link, environment: Environment): Effect.Effect<void, TransportError> =>
  Effect.suspend(() => greet(link, environment, environment.time.now())).pipe(
    Effect.tapError((error) => blame(link.subchannel, environment, error))
  )

/** Somebody took the connection who does not answer over it. */
const unanswered = (endpoint: Endpoint, millis: number, { cause, kind, message }: TransportError): TransportError =>
  new TransportError({
    kind: "Unreachable",
    code: 14,
    processed: "no",
    message:
      kind === "Deadline"
        ? `${endpoint.address} takes connections but does not answer: nothing within ${millis} ms; it may be paused or overloaded, or a proxy stands before an etcd that is down`
        : message,
    ...(cause === undefined ? {} : { cause })
  })

const watch = (subchannel: Subchannel, link: Link, environment: Environment): Effect.Effect<unknown> =>
  link.connection.closed.pipe(
    Effect.flatMap((reason) =>
      Effect.andThen(
        retire(subchannel, link),
        Caller.say(environment.caller, environment.listener.disconnected(subchannel.endpoint, reason))
      )
    ),
    Effect.forkIn(environment.scope, { startImmediately: true })
  )

/** The connection counts from now on, until its scope is closed. */
const count = (link: Link, environment: Environment): Effect.Effect<void> =>
  Effect.suspend(() => {
    environment.links.add(link)
    return Scope.addFinalizer(
      link.scope,
      Effect.suspend(() => {
        environment.links.delete(link)
        // Whoever closes it: it is counted where it was opened.
        const closed = Caller.as(environment.caller, environment.listener.closed(link.subchannel.endpoint))
        return Effect.setContext(closed, environment.context)
      })
    )
  })

const opened = (subchannel: Subchannel, link: Link, environment: Environment): Effect.Effect<unknown> => {
  subchannel.dialFailure = undefined
  subchannel.link = link
  environment.onView()
  return Effect.andThen(
    Effect.andThen(
      count(link, environment),
      Caller.say(environment.caller, environment.listener.connected(subchannel.endpoint))
    ),
    subchannel.removed || Identity.isOther(environment.identity, link.clusterId)
      ? abandon(link)
      : watch(subchannel, link, environment)
  )
}

const failed = (subchannel: Subchannel, error: TransportError, environment: Environment): Effect.Effect<void> => {
  const { dialFailed, strange } = environment.listener
  const isNews = error.kind === "Identity" && subchannel.dialFailure?.kind !== "Identity"
  subchannel.dialFailure = error
  return Effect.flatMap(blame(subchannel, environment, error), (pause) =>
    Effect.andThen(
      Caller.say(environment.caller, dialFailed(subchannel.endpoint, error, pause)),
      isNews ? Caller.say(environment.caller, strange(subchannel.endpoint, error)) : Effect.void
    )
  )
}

export const clientClosed = new TransportError({
  kind: "Unreachable",
  code: 14,
  processed: "no",
  message: "the client is closed"
})

const dial = (subchannel: Subchannel, environment: Environment): Effect.Effect<Link, TransportError> =>
  open(subchannel, environment).pipe(
    Effect.tap((link) => Effect.uninterruptible(opened(subchannel, link, environment))),
    Effect.tapError((error) => failed(subchannel, error, environment)),
    Effect.setContext(environment.context)
  )

/** How soon after a dial that failed the next one may be insisted on, in milliseconds. */
const shortestPause = 25

/** The failure of a dial, for a call that did not dial itself. */
const past = (subchannel: Subchannel, now: number, error: TransportError): TransportError => {
  const ago = Math.round(now - subchannel.dialledAt)
  const left = Math.ceil(subchannel.avoidUntil - now)
  const { cause, clusters, code, kind, lasting, processed } = error
  return new TransportError({
    kind,
    code,
    processed,
    lasting,
    clusters,
    message: `${error.message} (so it was ${ago} ms ago; it is not tried again for ${left} ms)`,
    ...(cause === undefined ? {} : { cause })
  })
}

/** For a dial that would begin after the endpoint was left for good: whoever wants it has to look for it anew. */
const removed = new TransportError({
  kind: "Unreachable",
  code: 14,
  processed: "no",
  message: "the endpoint is none of the client's any more"
})

const startDial = (
  subchannel: Subchannel,
  environment: Environment
): Effect.Effect<Deferred.Deferred<Link, TransportError>> =>
  Effect.suspend(() => {
    const waiting = Deferred.makeUnsafe<Link, TransportError>()
    subchannel.dialing = waiting
    return Effect.map(Effect.forkIn(dial(subchannel, environment), environment.scope), (fiber) => {
      fiber.addObserver((exit) => {
        subchannel.dialing = undefined
        subchannel.dialledAt = environment.time.now()
        Deferred.doneUnsafe(waiting, Exit.hasInterrupts(exit) ? Exit.fail(clientClosed) : exit)
      })
      return waiting
    })
  })

/**
 * The connection, opened if need be. While the endpoint is left alone after a dial that failed, this fails at once, or
 * dials all the same if the caller insists.
 */
export const acquire = (
  subchannel: Subchannel,
  environment: Environment,
  insists: boolean
): Effect.Effect<Link, TransportError> =>
  Effect.uninterruptibleMask((restore) => {
    const since = environment.time.now()
    const attempt: Effect.Effect<Link, TransportError> = Effect.suspend(() => {
      if (environment.closed) return Effect.fail(clientClosed)
      if (subchannel.removed) return Effect.fail(removed)
      if (subchannel.link !== undefined) return Effect.succeed(subchannel.link)
      if (subchannel.dialing !== undefined) return restore(Deferred.await(subchannel.dialing))
      const now = environment.time.now()
      if (subchannel.dialFailure !== undefined && now < subchannel.avoidUntil) {
        if (subchannel.dialledAt > since) return Effect.fail(subchannel.dialFailure)
        if (!insists) return Effect.fail(past(subchannel, now, subchannel.dialFailure))
        const wait = Math.ceil(Math.min(subchannel.avoidUntil, subchannel.dialledAt + shortestPause) - now)
        if (wait > 0) return Effect.andThen(restore(Time.sleep(environment.time, wait)), attempt)
      }
      return Effect.flatMap(startDial(subchannel, environment), (waiting) => restore(Deferred.await(waiting)))
    })
    return attempt
  })

/** Lets go of the connection: its calls may end, its streams go elsewhere, and then it is closed. */
export const disconnect = ({ link }: Subchannel): Effect.Effect<void> =>
  link === undefined ? Effect.void : abandon(link)

/** The endpoint is no longer wanted: its calls may end, its streams go elsewhere, and then the connection is closed. */
export const remove = (subchannel: Subchannel): Effect.Effect<void> =>
  Effect.suspend(() => {
    subchannel.removed = true
    subchannel.isListed = false
    return disconnect(subchannel)
  })
