/**
 * Who carries which watch: watches whose calls would be the same share lanes, and a slow reader gets one of its own.
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
import * as Identity from "./identity.ts"
import { type Keeper, Lane } from "./lane.ts"
import { type Desk, Outage } from "./outage.ts"
import * as Reading from "./reading.ts"
import * as Rules from "./rules.ts"
import { Settings } from "./settings.ts"
import type { Carriage, Company, Office, Subscription } from "./subscription.ts"

const isSameMetadata = (a: Carriage["metadata"] = {}, b: Carriage["metadata"] = {}): boolean => {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name])
}

const isSame = (a: Carriage, b: Carriage): boolean =>
  a.endpoint === b.endpoint &&
  a.requireLeader === b.requireLeader &&
  a.retry === b.retry &&
  isSameMetadata(a.metadata, b.metadata)

/** One try at each endpoint: when and whether there is another is decided here. */
const onceOptions = ({ endpoint, metadata, requireLeader }: Carriage, { readMillis }: Settings): CallOptions => ({
  endpoint,
  metadata,
  requireLeader,
  retry: Schedule.recurs(0),
  deadline: Duration.millis(readMillis)
})

/** A read that took too long is given twice the time, so often in a row. */
const maxDoublings = 5

export interface Lanes extends Office {
  /** Somebody asks for a watch. */
  readonly asked: Effect.Effect<void>
  /** Asks for the progress of all watches. */
  readonly requestProgress: Effect.Effect<void, EtcdError.EtcdError>
  /** Those in use, for tests. */
  readonly lanes: ReadonlySet<Lane>
}

/** The client, whose reads are tried for as long as a call of watches is. */
const persistent = (desk: Desk, settings: Settings, carriage: Carriage, isServed: () => boolean) => {
  const outage = new Outage(desk, carriage, "read")
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
    ...desk.client,
    unary: (method, request, options) =>
      keep((deadline) => desk.client.unary(method, request, { ...options, deadline }))
  }
  return { client, forget: Effect.sync(() => outage.forget()) }
}

export const make = Effect.fnUntraced(function* (given: Client): Effect.fn.Return<Lanes, never, Scope.Scope> {
  const caller = yield* Caller.make
  const client = Caller.client(caller, given)
  const context = yield* Effect.context<Scope.Scope>()
  const scope = Context.get(context, Scope.Scope)
  const settings = Context.get(context, Settings)
  const lanes = new Set<Lane>()
  const ended = yield* Deferred.make<never, EtcdError.EtcdError>()
  yield* Scope.addFinalizer(scope, Deferred.fail(ended, Rules.closed))

  const isClosed = () => scope.state._tag === "Closed"

  const laneFor = ({ company, request: { carriage } }: Subscription): Lane | undefined => {
    for (const lane of lanes) {
      if (lane.company === company && lane.hasRoom && isSame(lane.carriage, carriage)) return lane
    }
    return undefined
  }

  const open = (carriage: Carriage, company: Company, members: ReadonlyArray<Subscription>): Lane => {
    const lane = new Lane(keeper, carriage, company)
    lanes.add(lane)
    for (const member of members) lane.join(member)
    return lane
  }

  // A lane is nobody's: it has the service's context, not that of the first watch, which may end before the others.
  // Where the service has ended meanwhile the fiber never runs, and its end is that of the watches all the same.
  const start = (lane: Lane) =>
    Effect.updateContext(Time.inRealTime(keeper.time, lane.run), (_: Context.Context<never>) => context).pipe(
      Effect.forkIn(scope, { startImmediately: true }),
      Effect.flatMap((fiber) => Effect.sync(() => fiber.addObserver((exit) => lane.end(exit))))
    )

  /** Makes a read that a watch needs, until it is done or the service has ended. */
  const reading = <A>(
    carriage: Carriage,
    isServed: () => boolean,
    read: (client: Client, options: CallOptions) => Effect.Effect<A, EtcdError.EtcdError>
  ): Effect.Effect<A, EtcdError.EtcdError> =>
    Effect.suspend(() => {
      if (isClosed()) return Effect.fail(Rules.closed)
      const { client, forget } = persistent(keeper, settings, carriage, isServed)
      return Effect.raceFirst(read(client, onceOptions(carriage, settings)), Deferred.await(ended)).pipe(
        Effect.ensuring(forget)
      )
    })

  const keeper: Keeper = {
    client,
    caller,
    settings,
    time: Context.get(context, Time.Time),
    told: new Map(),
    gone: (lane) => lanes.delete(lane),
    divide: (carriage, company, groups) =>
      Effect.suspend(() => {
        const fresh = groups.map((members) => open(carriage, company, members))
        return Effect.forEach(fresh, start, { discard: true })
      }),
    look: (carriage, question) =>
      reading(
        carriage,
        () => true,
        (persistent, options) => Identity.look(persistent, question, options, client)
      )
  }

  const takeSeat = (subscription: Subscription) =>
    Effect.suspend(() => {
      const { company, request } = subscription
      if (isClosed()) {
        subscription.fail(Rules.closed)
        return Effect.void
      }
      const shared = laneFor(subscription)
      if (shared === undefined) return start(open(request.carriage, company, [subscription]))
      shared.join(subscription)
      return Effect.void
    })

  /** All at once, so that none waits for another that does not answer. */
  const askLanes = Effect.suspend(() =>
    Effect.forEach([...lanes], (lane) => Effect.exit(lane.askProgress), { concurrency: "unbounded" })
  )

  return {
    asked: Caller.note(caller),
    seat: (subscription) => Effect.uninterruptible(takeSeat(subscription)),
    readSnapshot: (subscription) =>
      reading(
        subscription.request.carriage,
        () => subscription.isServed,
        (client, options) => Reading.readSnapshot(client, subscription.request.range, options)
      ),
    readKey: (subscription, revision) =>
      reading(
        subscription.request.carriage,
        () => subscription.isServed,
        (client, options) => Reading.readKey(client, subscription.request.range.key, revision, options)
      ),
    requestProgress: Effect.suspend(() =>
      isClosed()
        ? Effect.fail(Rules.closed)
        : Effect.flatMap(askLanes, (exits) => exits.find(Exit.isFailure) ?? Effect.void)
    ),
    lanes
  }
})
