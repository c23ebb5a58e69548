/**
 * What carries many watches: one call to a server after the other, elsewhere if need be, as long as there are watches.
 *
 * A call that breaks is made again, through the client, which chooses another member; each watch goes on from where its
 * cursor is. A call that ends for good because of one of its watches divides the stream in halves, again and again, until
 * that watch is alone and only it ends.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as EtcdError from "../../EtcdError.ts"
import * as Reasons from "../client/reasons.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import { Outage } from "./outage.ts"
import type { Pool } from "./pool.ts"
import * as Rules from "./rules.ts"
import type { Sharing, StreamOptions, Subscription } from "./subscription.ts"
import { type Ending, type Host, WatchCall } from "./watchCall.ts"

/** How many watches share a call. Each has its own answers, and a server queues 128 of them for a call. */
const maxWatches = 1000

/** Servers that send their calls away more often than this are not followed without a pause, in milliseconds. */
const restlessMillis = 1000
const restMillis = 100

/** A server that was too slow is given twice the time, so often in a row. */
const maxDoublings = 3

const silent = (endpoint: string | undefined, millis: number): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.DeadlineExceeded({
      message:
        `${endpoint === undefined ? "No endpoint has" : `${endpoint} has not`} taken the watch within ${millis} ms. Does ` +
        "it answer other calls, and does it, or a proxy before it, take as many at a time as there are?",
      outcome: "not-applied",
      method: "Watch.Watch",
      ...(endpoint === undefined ? {} : { endpoint })
    })
  )

export class WatchStream implements Host {
  readonly pool: Pool
  readonly options: StreamOptions
  readonly sharing: Sharing
  isSerial = false

  private readonly outage: Outage
  private readonly subscriptions = new Set<Subscription>()
  /** Open while there is no watch. */
  private readonly emptied = Latch.makeUnsafe()
  private emptiedAt = 0
  /** Whether the stream has had its last watch. */
  private isClosed = false
  /** The call that there is. */
  private call: WatchCall | undefined
  /** Completes when the call is no good as it is. */
  private broken = Deferred.makeUnsafe<Ending, EtcdError.EtcdError>()
  /** Whether the server has taken a watch on this call, or did on the last one. */
  private isServed = false
  /** The endpoint of the last call, or the one that it was tried with. */
  private lastEndpoint: string | undefined
  /** Where calls have ended lately that took no watch, */
  private readonly avoided = new Set<string>()
  /** and whether time may mend what was wrong with one of them. */
  private mayMend = false
  private renewals = 0
  private silences = 0
  private movedAt = Number.NEGATIVE_INFINITY
  private stopExpecting: (() => void) | undefined

  constructor(pool: Pool, options: StreamOptions, sharing: Sharing) {
    this.pool = pool
    this.options = options
    this.sharing = sharing
    this.outage = new Outage(pool, options, "call")
  }

  // Its watches

  get hasRoom(): boolean {
    return (
      !this.isClosed && this.call?.isWorn !== true && this.sharing !== "none" && this.subscriptions.size < maxWatches
    )
  }

  /** How much is remembered, for tests. */
  get load() {
    return { watches: this.subscriptions.size, watchers: 0, creating: 0, ...this.call?.load }
  }

  join(subscription: Subscription): void {
    subscription.stream = this
    this.subscriptions.add(subscription)
    this.emptied.closeUnsafe()
    this.call?.join(subscription)
  }

  /** Lets go of the watch, and tells the server. */
  leave(subscription: Subscription): void {
    if (!this.subscriptions.delete(subscription)) return
    this.call?.leave(subscription)
    this.closeIfEmpty()
  }

  dropped(subscription: Subscription): void {
    this.subscriptions.delete(subscription)
    this.closeIfEmpty()
  }

  expel(subscription: Subscription, tell: (subscription: Subscription) => void): void {
    this.leave(subscription)
    tell(subscription)
  }

  /** Ends what is left of it. */
  end(exit: Exit.Exit<unknown>): void {
    this.outage.forget()
    this.close()
    this.endAll(Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? exit.cause : Cause.fail(Rules.closed))
  }

  /** A call that is good is kept for a while: whoever waits for one change after another asks for a watch again and again. */
  private closeIfEmpty(): void {
    if (this.subscriptions.size > 0) return
    if (this.call === undefined || !this.isServed || !this.hasRoom) this.close()
    this.emptiedAt = this.pool.time.now()
    this.emptied.openUnsafe()
  }

  private close(): void {
    this.isClosed = true
    this.pool.gone(this)
  }

  private endAll(cause: Cause.Cause<EtcdError.EtcdError>): void {
    const subscriptions = [...this.subscriptions]
    this.subscriptions.clear()
    this.closeIfEmpty()
    for (const subscription of subscriptions) subscription.end(cause)
  }

  // What its call tells it

  served(): void {
    this.isServed = true
    this.renewals = 0
    this.silences = 0
    this.forgive()
  }

  get tellOfService(): Effect.Effect<void> {
    return this.isServed ? this.outage.over : Effect.void
  }

  goSerial(): void {
    this.isSerial = true
    Deferred.doneUnsafe(this.broken, Exit.succeed("again"))
  }

  get isBroken(): boolean {
    return Deferred.isDoneUnsafe(this.broken)
  }

  expect(anew: boolean): void {
    if (this.stopExpecting !== undefined && !anew) return
    this.expectNothing()
    const millis = this.pool.settings.createdMillis * 2 ** Math.min(this.silences, maxDoublings)
    this.stopExpecting = Time.patience(millis, () => {
      this.stopExpecting = undefined
      if (this.call?.isAwaiting === false) return
      this.silences++
      Deferred.doneUnsafe(this.broken, Exit.fail(silent(this.lastEndpoint, millis)))
    })
  }

  expectNothing(): void {
    this.stopExpecting?.()
    this.stopExpecting = undefined
  }

  /** Asks for the progress of all watches, if there is a call, and fails where its server does not answer. */
  readonly askProgress: Effect.Effect<void, EtcdError.EtcdError> = Effect.suspend(
    () => this.call?.askProgress ?? Effect.void
  )

  // One call after the other

  /** The client's choice, unless that led to servers that did nothing, and there is another. */
  private readonly chooseEndpoint: Effect.Effect<string | undefined> = Effect.suspend(() => {
    const { endpoint } = this.options
    if (endpoint !== undefined || this.avoided.size === 0) return Effect.succeed(endpoint)
    return Effect.map(this.pool.client.endpoints, (endpoints) => {
      const other = endpoints.find((endpoint) => !this.avoided.has(endpoint))
      if (other === undefined) this.forgive()
      return other
    })
  })

  private forgive(): void {
    this.avoided.clear()
    this.mayMend = false
  }

  private readonly open = Effect.gen({ self: this }, function* () {
    const { metadata, requireLeader } = this.options
    const endpoint = yield* this.chooseEndpoint
    this.lastEndpoint = endpoint
    const duplex = yield* this.pool.client.bidirectional(Rpc.Watch.method.watch, {
      endpoint,
      metadata,
      requireLeader,
      deadline: Duration.infinity,
      retry: Schedule.recurs(0)
    })
    this.lastEndpoint = duplex.endpoint
    this.call = new WatchCall(this, duplex, this.subscriptions)
    return yield* this.call.run
  })

  private readonly callOnce: Effect.Effect<Ending, EtcdError.EtcdError> = Effect.suspend(() => {
    this.broken = Deferred.makeUnsafe()
    this.isServed = false
    this.expect(true)
    return Effect.raceFirst(Effect.scoped(this.open), Deferred.await(this.broken))
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        this.expectNothing()
        this.call = undefined
      })
    )
  )

  /** Goes on at once, unless that is all that there is to be done. */
  private readonly move: Effect.Effect<void> = Effect.suspend(() => {
    const { time } = this.pool
    const since = time.now() - this.movedAt
    this.movedAt = time.now()
    return since < restlessMillis ? Time.sleep(time, restMillis) : Effect.void
  })

  private readonly divide: Effect.Effect<void> = Effect.suspend(() => {
    const subscriptions = [...this.subscriptions]
    const half = Math.ceil(subscriptions.length / 2)
    this.subscriptions.clear()
    // The calls of the halves are begun here, and others may ask for a watch meanwhile.
    this.isClosed = true
    return this.pool.divide(this.options, this.sharing, [subscriptions.slice(0, half), subscriptions.slice(half)])
  }).pipe(Effect.andThen(Effect.sync(() => this.closeIfEmpty())), Effect.uninterruptible)

  /** Whether the stream goes on after its call has ended with this. If so, it is time for the next one. */
  private survive(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    if (Rules.isClientClosed(error)) return this.giveUp(Rules.closed)
    return Rules.isOfEndpoint(error, this.isServed)
      ? Effect.flatMap(this.mayDoElsewhere, (may) => (may ? this.waitToGoOn(error) : this.surviveVerdict(error)))
      : this.surviveVerdict(error)
  }

  /** What is wrong with one endpoint, of which the client has not said that it is all there is, is no verdict. */
  private readonly mayDoElsewhere: Effect.Effect<boolean> = Effect.suspend(() => {
    const { lastEndpoint } = this
    if (this.options.endpoint !== undefined || lastEndpoint === undefined) return Effect.succeed(false)
    this.avoided.add(lastEndpoint)
    return Effect.map(
      this.pool.client.endpoints,
      (endpoints) => this.mayMend || endpoints.some((endpoint) => !this.avoided.has(endpoint))
    )
  })

  private surviveVerdict(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    const { isServed } = this
    if (!Rules.isWorthwhile(error)) {
      return this.subscriptions.size > 1 && Rules.isOfOneWatch(error, isServed)
        ? Effect.as(this.divide, false)
        : this.giveUp(error)
    }
    if (Rules.isLasting(error)) {
      for (const subscription of [...this.subscriptions]) {
        if (!subscription.isServed) this.expel(subscription, (one) => one.fail(error))
      }
      if (this.isClosed) return Effect.succeed(false)
    }
    if (!isServed && this.lastEndpoint !== undefined) {
      this.avoided.add(this.lastEndpoint)
      this.mayMend = true
    }
    if (Rules.isTokenRefused(error) && ++this.renewals > Rules.maxRenewals) return this.giveUp(error)
    return this.waitToGoOn(error)
  }

  private waitToGoOn(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    return this.outage.pause(error, this.silences > 0).pipe(
      Effect.as(true),
      Effect.catch((error) => this.giveUp(error))
    )
  }

  private giveUp(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    return Effect.sync(() => {
      this.endAll(Cause.fail(error))
      return false
    })
  }

  private readonly callAgainAndAgain: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    while (true) {
      const end = yield* Effect.result(this.callOnce)
      if (this.subscriptions.size === 0) return
      if (Result.isSuccess(end) && (this.isServed || end.success === "again")) yield* this.move
      else if (!(yield* this.survive(Result.isSuccess(end) ? Reasons.watchEnded() : end.failure))) return
    }
  })

  /** Waits until there have been no watches for a while, or there can be none any more. */
  private readonly disuse: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const { settings, time } = this.pool
    while (true) {
      yield* this.emptied.await
      const left = this.emptiedAt + settings.lingerMillis - time.now()
      if (this.isClosed || left <= 0) return this.close()
      yield* Time.sleep(time, left)
    }
  })

  /** Carries its watches until there are none. */
  get run(): Effect.Effect<void> {
    return Effect.raceFirst(this.callAgainAndAgain, this.disuse)
  }
}
