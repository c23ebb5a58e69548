/**
 * All watches of a service, and the streams that they share: watches whose calls would be the same share streams, and a
 * slow reader gets one of its own.
 *
 * The words of this room:
 *
 * - A *subscription* is one watch of the program: what was asked for, what it has seen, what waits for its reader
 *   (`subscription.ts`). Its *cursor* is its place in the history (`cursor.ts`).
 * - A *watch stream* carries up to a thousand subscriptions, over one call after the other (`watchStream.ts`).
 * - A *call* is one gRPC call of `Watch.Watch`, from its opening to its end (`watchCall.ts`).
 * - A *watcher*, as in etcd's server, is a subscription as the server of one call knows it: by an id.
 * - The *pool* puts subscriptions on streams, and makes the reads that they need (`reading.ts`, `identity.ts`).
 * - A *position* is how far a store was, by revision and raft term. A store that is behind one has *regressed*, or its
 *   member lags (`identity.ts`); which of them, the *verification* of each call finds out (`verification.ts`).
 * - An *outage* is the time in which no server does what watches need of one (`outage.ts`).
 *
 * `options.ts` checks what a program gives, `settings.ts` has what only tests set, and `rules.ts` what failures mean for
 * watches.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { CallOptions, Client } from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Caller from "../caller.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Identity from "./identity.ts"
import { Outage } from "./outage.ts"
import * as Reading from "./reading.ts"
import * as Rules from "./rules.ts"
import { Settings } from "./settings.ts"
import type { Sharing, StreamOptions, Subscription } from "./subscription.ts"
import { WatchStream } from "./watchStream.ts"

export interface Pool {
  readonly client: Client
  /** Whoever asked for a watch last. */
  readonly caller: Caller.Caller
  readonly settings: Settings
  readonly time: Time.Time
  /** Those in use. */
  readonly streams: ReadonlySet<WatchStream>
  /** The outages that the log has been told of. */
  readonly told: Map<string, Outage>

  // For the service

  /** Somebody asks for a watch. */
  readonly asked: Effect.Effect<void>
  /** Asks for the progress of all watches. */
  readonly requestProgress: Effect.Effect<void, EtcdError.EtcdError>

  // For a subscription

  /** Puts the watch on a stream, or ends it where there are none any more. */
  readonly place: (subscription: Subscription) => Effect.Effect<void>
  readonly readSnapshot: (subscription: Subscription) => Effect.Effect<Reading.Snapshot, EtcdError.EtcdError>
  readonly readKey: (
    subscription: Subscription,
    revision: bigint
  ) => Effect.Effect<Reading.KeyState, EtcdError.EtcdError>

  // For a stream

  /** The stream has no watches, and takes no more. */
  readonly gone: (stream: WatchStream) => void
  /** Gives each of the groups a stream. */
  readonly divide: (
    options: StreamOptions,
    sharing: Sharing,
    groups: ReadonlyArray<ReadonlyArray<Subscription>>
  ) => Effect.Effect<void>
  /** Looks at the store, as often as it takes. */
  readonly look: (
    options: StreamOptions,
    question: Identity.Question
  ) => Effect.Effect<Identity.Evidence, EtcdError.EtcdError>
}

const isSameMetadata = (a: StreamOptions["metadata"] = {}, b: StreamOptions["metadata"] = {}): boolean => {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name])
}

const isSame = (a: StreamOptions, b: StreamOptions): boolean =>
  a.endpoint === b.endpoint &&
  a.requireLeader === b.requireLeader &&
  a.retry === b.retry &&
  isSameMetadata(a.metadata, b.metadata)

/** One try at each endpoint: when and whether there is another is decided here. */
const onceOptions = ({ endpoint, metadata, requireLeader }: StreamOptions, { readMillis }: Settings): CallOptions => ({
  endpoint,
  metadata,
  requireLeader,
  retry: Schedule.recurs(0),
  deadline: Duration.millis(readMillis)
})

/** A read that took too long is given twice the time, so often in a row. */
const maxDoublings = 5

/** The client, whose reads are tried for as long as a call of watches is. */
const persistent = (pool: Pool, streamOptions: StreamOptions, isServed: () => boolean) => {
  const { client: given, settings } = pool
  const outage = new Outage(pool, streamOptions, "read")
  const mayDoBetter = (error: EtcdError.EtcdError): boolean =>
    Rules.isWorthwhile(error) && (isServed() || !Rules.isLasting(error))
  type Read<A> = (deadline: Duration.Duration) => Effect.Effect<A, EtcdError.EtcdError>
  const keep = <A>(read: Read<A>, delays = 0, refusals = 0): Effect.Effect<A, EtcdError.EtcdError> =>
    Effect.matchEffect(read(Duration.millis(settings.readMillis * 2 ** Math.min(delays, maxDoublings))), {
      onSuccess: (answer) => Effect.as(outage.over, answer),
      onFailure: (error) => {
        if (Rules.isClientClosed(error)) return Effect.fail(Rules.closed)
        const isRefused = Rules.isTokenRefused(error)
        if (!mayDoBetter(error) || (isRefused && refusals === Rules.maxRenewals)) return Effect.fail(error)
        const isLate = error.reason._tag === "DeadlineExceeded"
        return Effect.andThen(
          outage.pause(error, isLate),
          keep(read, isLate ? delays + 1 : delays, isRefused ? refusals + 1 : 0)
        )
      }
    })
  const client: Client = {
    ...given,
    unary: (method, request, options) => keep((deadline) => given.unary(method, request, { ...options, deadline }))
  }
  return { client, forget: Effect.sync(() => outage.forget()) }
}

export const make = Effect.fnUntraced(function* (given: Client): Effect.fn.Return<Pool, never, Scope.Scope> {
  const caller = yield* Caller.make
  const client = Caller.client(caller, given)
  const context = Tracing.withoutTrace(yield* Effect.context<Scope.Scope>())
  const scope = Context.get(context, Scope.Scope)
  const settings = Context.get(context, Settings)
  const time = Context.get(context, Time.Time)
  const streams = new Set<WatchStream>()
  const ended = yield* Deferred.make<never, EtcdError.EtcdError>()
  yield* Scope.addFinalizer(scope, Deferred.fail(ended, Rules.closed))

  const isClosed = () => scope.state._tag === "Closed"

  const streamFor = ({ sharing, request: { streamOptions } }: Subscription): WatchStream | undefined => {
    for (const stream of streams) {
      if (stream.sharing === sharing && stream.hasRoom && isSame(stream.options, streamOptions)) return stream
    }
    return undefined
  }

  const open = (options: StreamOptions, sharing: Sharing, subscriptions: ReadonlyArray<Subscription>): WatchStream => {
    const stream = new WatchStream(pool, options, sharing)
    streams.add(stream)
    for (const subscription of subscriptions) stream.join(subscription)
    return stream
  }

  // A stream is nobody's: it has the service's context, not that of the first watch, which may end before the others.
  // Where the service has ended meanwhile the fiber never runs, and its end is that of the watches all the same.
  const start = (stream: WatchStream) =>
    Effect.updateContext(Time.inRealTime(time, stream.run), (_: Context.Context<never>) => context).pipe(
      Effect.forkIn(scope, { startImmediately: true }),
      Effect.flatMap((fiber) => Effect.sync(() => fiber.addObserver((exit) => stream.end(exit))))
    )

  const place = (subscription: Subscription) =>
    Effect.suspend(() => {
      const { sharing, request } = subscription
      if (isClosed()) {
        subscription.fail(Rules.closed)
        return Effect.void
      }
      const shared = streamFor(subscription)
      if (shared === undefined) return start(open(request.streamOptions, sharing, [subscription]))
      shared.join(subscription)
      return Effect.void
    })

  /** Makes a read that a watch needs, until it is done or the service has ended. */
  const reading = <A>(
    options: StreamOptions,
    isServed: () => boolean,
    read: (client: Client, options: CallOptions) => Effect.Effect<A, EtcdError.EtcdError>
  ): Effect.Effect<A, EtcdError.EtcdError> =>
    Effect.suspend(() => {
      if (isClosed()) return Effect.fail(Rules.closed)
      const { client, forget } = persistent(pool, options, isServed)
      return Effect.raceFirst(read(client, onceOptions(options, settings)), Deferred.await(ended)).pipe(
        Effect.ensuring(forget)
      )
    })

  /** All at once, so that none waits for another that does not answer. */
  const askStreams = Effect.suspend(() =>
    Effect.forEach([...streams], (stream) => Effect.exit(stream.askProgress), { concurrency: "unbounded" })
  )

  const pool: Pool = {
    client,
    caller,
    settings,
    time,
    streams,
    told: new Map(),
    asked: Caller.note(caller),
    requestProgress: Effect.suspend(() =>
      isClosed()
        ? Effect.fail(Rules.closed)
        : Effect.flatMap(askStreams, (exits) => exits.find(Exit.isFailure) ?? Effect.void)
    ),
    place: (subscription) => Effect.uninterruptible(place(subscription)),
    readSnapshot: (subscription) =>
      reading(
        subscription.request.streamOptions,
        () => subscription.isServed,
        (client, options) => Reading.readSnapshot(client, subscription.request.range, options)
      ),
    readKey: (subscription, revision) =>
      reading(
        subscription.request.streamOptions,
        () => subscription.isServed,
        (client, options) => Reading.readKey(client, subscription.request.range.key, revision, options)
      ),
    gone: (stream) => streams.delete(stream),
    divide: (options, sharing, groups) =>
      Effect.suspend(() => {
        const fresh = groups.map((subscriptions) => open(options, sharing, subscriptions))
        return Effect.forEach(fresh, start, { discard: true })
      }),
    look: (options, question) =>
      reading(
        options,
        () => true,
        (persistent, options) => Identity.look(persistent, question, options, client)
      )
  }
  return pool
})
