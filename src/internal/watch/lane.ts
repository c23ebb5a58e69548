/**
 * One call to the server that carries many watches, and that is made again, elsewhere if need be, when it breaks.
 *
 * The answers are read and handed out as they come, whatever the readers of the single watches do. Ids of watches are
 * chosen here and never used twice, so that what is on its way when a watch is canceled is taken for nobody else's. One
 * that stands between, etcd's gRPC proxy, chooses its own and need not answer in the order of the requests: when that
 * shows, the call is made again, and its watches are created one after the other.
 *
 * A server keeps a little of each watch that is canceled while it has events under way, until the call ends (`pending` in
 * etcd's `sendLoop`); therefore a call wears out after many of them, which means that it takes no more watches.
 *
 * A call that ends for good because of one of its watches is divided in halves, again and again, until that watch is
 * alone and only it ends.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import * as Reasons from "../client/reasons.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import * as Identity from "./identity.ts"
import { type Desk, Outage } from "./outage.ts"
import * as Progress from "./progress.ts"
import * as Rules from "./rules.ts"
import type { Settings } from "./settings.ts"
import type { Carriage, Carrier, Company, Subscription } from "./subscription.ts"

type WatchRequest = MessageInitShape<typeof Rpc.WatchRequestSchema>
type Duplex = EtcdClient.Duplex<typeof Rpc.WatchRequestSchema, typeof Rpc.WatchResponseSchema>

/** How many watches share a call. Each has its own answers, and a server queues 128 of them for a call. */
const maxWatches = 1000

const maxCancels = 1000

/** The id of an answer that is for all watches of the call, or for one that was never made. */
const noId = -1n

/** Ids begin here, where those that a proxy counts from 0 do not get. */
const firstId = 1n << 32n

/** Servers that send their calls away more often than this are not followed without a pause, in milliseconds. */
const restlessMillis = 1000
const restMillis = 100

/** A server that was too slow is given twice the time, so often in a row. */
const maxDoublings = 3

/** So many requests for progress are not left unanswered for another reason than that a watch is early. */
const unansweredInARow = 2

/** A watch as this call knows it. */
interface Seat {
  id: bigint
  readonly subscription: Subscription
  /** How far the store was when the server took the watch. */
  takenAt: Identity.Sighting | undefined
  /** How many progress requests had been sent by then. */
  askedBefore: number
  left: boolean
  /** Whether it is certain that the store is the one that the watch has seen, however far behind the server is. */
  readonly isTrusted: boolean
  /** Whether events came while that was not certain, and were not taken. */
  hasMissed: boolean
}

/** The call that there is. */
interface Call {
  readonly endpoint: string
  /** The server's version, once it was asked. */
  version: string | undefined
}

/** What a member knew of the store when something was asked about it. */
interface Suspicion {
  readonly subscription: Subscription
  readonly seat: Seat
  readonly seen: Identity.Sighting
}

/** What is to be looked up: a write, or, where there was none, only how far the store is. */
interface Testimony {
  readonly witness: Identity.Witness | undefined
  readonly of: Subscription | undefined
}

/** What a lane needs of those who keep it. */
export interface Keeper extends Desk {
  readonly settings: Settings
  /** The lane has no watches, and takes no more. */
  readonly gone: (lane: Lane) => void
  /** Gives each of the groups a lane. */
  readonly divide: (
    carriage: Carriage,
    company: Company,
    groups: ReadonlyArray<ReadonlyArray<Subscription>>
  ) => Effect.Effect<void>
  /** Looks at the store, as often as it takes. */
  readonly look: (
    carriage: Carriage,
    question: Identity.Question
  ) => Effect.Effect<Identity.Evidence, EtcdError.EtcdError>
}

/** How a call ends that is only to be made again: its server takes no more calls, or it was made in the wrong way. */
type Ending = "draining" | "again"

const createRequest = ({ id, subscription: { cursor, request } }: Seat): WatchRequest => ({
  requestUnion: {
    case: "createRequest",
    value: {
      key: request.range.key,
      rangeEnd: request.range.end,
      startRevision: cursor.next,
      // Always asked for: it costs next to nothing, and a watch that knows how far it got resumes after a compaction.
      progressNotify: true,
      filters: [...request.filters],
      prevKv: request.previousValues,
      watchId: id,
      fragment: request.fragment
    }
  }
})

const cancelRequest = (watchId: bigint): WatchRequest => ({
  requestUnion: { case: "cancelRequest", value: { watchId } }
})

const progressRequest: WatchRequest = { requestUnion: { case: "progressRequest", value: {} } }

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

const isTokenRefused = (answer: Rpc.WatchResponse): boolean =>
  answer.created && answer.canceled && Rules.isTokenRefused(Reasons.watchCanceled(answer))

export class Lane implements Carrier {
  readonly carriage: Carriage
  readonly company: Company

  private readonly keeper: Keeper
  private readonly outage: Outage
  private readonly emptied = Deferred.makeUnsafe<void>()
  private readonly members = new Map<Subscription, Seat>()
  private readonly seats = new Map<bigint, Seat>()
  /** What was asked for and not answered, in the order of the answers. */
  private creating: Array<Seat> = []
  private outbox: Array<WatchRequest> = []
  private wakeWriter: (() => void) | undefined
  private nextId = firstId
  private cancels = 0
  private asked = 0
  private answered = 0
  private call: Call | undefined
  /** The endpoint of the last call, or the one that it was tried with. */
  private lastEndpoint: string | undefined
  /** Where calls have ended lately that took no watch, */
  private readonly avoided = new Set<string>()
  /** and whether time may mend what was wrong with one of them. */
  private mayMend = false
  /** Whether the server has said anything since it was asked for progress, or would have been. */
  private isHeard = false
  /** Whether the server has taken a watch on this call. */
  private isServed = false
  private renewals = 0
  private silences = 0
  private movedAt = Number.NEGATIVE_INFINITY
  /** Whether the call takes no more watches. */
  private isWorn = false
  /** Whether the lane has had its last watch. */
  private isClosed = false
  /** Whether ids are the server's to choose, and watches are created one at a time. */
  private isSerial = false
  /** Completes when the call is no good as it is. */
  private broken = Deferred.makeUnsafe<Ending, EtcdError.EtcdError>()
  private stopExpecting: (() => void) | undefined
  /** Those whose server may have another store than the one that they have seen. */
  private readonly doubted = new Set<Seat>()
  /** What is to be looked up of one member, or of all. */
  private testimonies: Array<Testimony> = []
  /** Open when there is something to be looked up. */
  private readonly doubt = Latch.makeUnsafe(false)

  constructor(keeper: Keeper, carriage: Carriage, company: Company) {
    this.keeper = keeper
    this.carriage = carriage
    this.company = company
    this.outage = new Outage(keeper, carriage, "call")
  }

  get hasRoom(): boolean {
    return !this.isClosed && !this.isWorn && this.company !== "none" && this.members.size < maxWatches
  }

  /** How much is remembered, for tests. */
  get load() {
    return { watches: this.members.size, seats: this.seats.size, creating: this.creating.length }
  }

  join(subscription: Subscription): void {
    subscription.carrier = this
    const seat = this.seat(subscription, false)
    if (this.call === undefined) return
    this.create(seat)
    const { witness } = subscription
    if (witness !== undefined) this.testify({ witness, of: subscription })
  }

  leave(subscription: Subscription): void {
    const seat = this.members.get(subscription)
    if (seat === undefined) return
    this.members.delete(subscription)
    this.vacate(seat)
    this.closeIfEmpty()
  }

  /** Ends what is left of it. */
  end(exit: Exit.Exit<unknown>): void {
    this.outage.forget()
    this.endAll(Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? exit.cause : Cause.fail(Rules.closed))
  }

  private seat(subscription: Subscription, isTrusted: boolean): Seat {
    const seat: Seat = {
      id: this.nextId++,
      subscription,
      takenAt: undefined,
      askedBefore: 0,
      left: false,
      isTrusted,
      hasMissed: false
    }
    this.members.set(subscription, seat)
    return seat
  }

  private create(seat: Seat): void {
    seat.subscription.cursor.rewind()
    this.creating.push(seat)
    if (this.stopExpecting === undefined) this.expect()
    if (!this.isSerial) this.seats.set(seat.id, seat)
    if (!this.isSerial || this.creating.length === 1) this.send(createRequest(seat))
  }

  private createNext(): void {
    while (this.creating[0]?.left === true) this.creating.shift()
    const [seat] = this.creating
    if (seat !== undefined) this.send(createRequest(seat))
  }

  /** What comes for the seat from now on is for nobody. */
  private vacate(seat: Seat): void {
    seat.left = true
    this.doubted.delete(seat)
    if (this.seats.delete(seat.id)) this.cancel(seat.id)
  }

  private cancel(id: bigint): void {
    this.send(cancelRequest(id))
    if (++this.cancels >= maxCancels) this.isWorn = true
  }

  private send(request: WatchRequest): void {
    this.outbox.push(request)
    const wake = this.wakeWriter
    this.wakeWriter = undefined
    wake?.()
  }

  /** Lets go of a watch that the server has ended. */
  private drop(seat: Seat): void {
    seat.left = true
    this.doubted.delete(seat)
    this.seats.delete(seat.id)
    this.members.delete(seat.subscription)
    this.closeIfEmpty()
  }

  private closeIfEmpty(): void {
    if (this.members.size > 0) return
    this.isClosed = true
    this.keeper.gone(this)
    Deferred.doneUnsafe(this.emptied, Exit.void)
  }

  private endAll(cause: Cause.Cause<EtcdError.EtcdError>): void {
    const subscriptions = [...this.members.keys()]
    this.members.clear()
    this.closeIfEmpty()
    for (const subscription of subscriptions) subscription.end(cause)
  }

  // What the server says

  private hear(call: Duplex, answers: ReadonlyArray<Rpc.WatchResponse>): Effect.Effect<void> {
    // Before its watches hear of it, so that they do not come again with the same token.
    return answers.some(isTokenRefused)
      ? Effect.flatMap(call.renewToken, () => this.handOut(answers))
      : this.handOut(answers)
  }

  private handOut(answers: ReadonlyArray<Rpc.WatchResponse>): Effect.Effect<void> {
    this.isHeard = true
    for (const answer of answers) this.receive(answer)
    if (!this.isAwaiting) this.expectNothing()
    return this.tellOfService
  }

  private get tellOfService(): Effect.Effect<void> {
    return this.isServed ? this.outage.over : Effect.void
  }

  private receive(answer: Rpc.WatchResponse): void {
    if (answer.created) this.onCreated(answer)
    else if (answer.watchId === noId) this.onProgressOfAll(answer)
    else this.onAnswer(this.seats.get(answer.watchId), answer)
  }

  private onAnswer(seat: Seat | undefined, answer: Rpc.WatchResponse): void {
    // What was on its way when the watch was canceled, and the server's word that it was, are for nobody.
    if (seat === undefined) return
    const { subscription } = seat
    if (answer.canceled) this.onCanceled(seat, answer)
    else if (this.doubted.has(seat)) seat.hasMissed = true
    else if (answer.events.length > 0) {
      subscription.events(answer.events, answer.fragment, Identity.sighting(answer.header))
    } else subscription.progress(Identity.sighting(answer.header))
  }

  private onCreated(answer: Rpc.WatchResponse): void {
    const seat = this.creating.shift()
    if (seat === undefined || Deferred.isDoneUnsafe(this.broken)) return
    this.expect()
    if (answer.canceled) this.onRefused(seat, answer)
    else if (this.isSerial || answer.watchId === seat.id) this.onTaken(seat, answer)
    else this.goSerial()
    if (this.isSerial) this.createNext()
  }

  private goSerial(): void {
    this.isSerial = true
    Deferred.doneUnsafe(this.broken, Exit.succeed("again"))
  }

  private onTaken(seat: Seat, answer: Rpc.WatchResponse): void {
    if (seat.left) {
      if (this.isSerial) this.cancel(answer.watchId)
      return
    }
    const takenAt = Identity.sighting(answer.header)
    seat.id = answer.watchId
    seat.takenAt = takenAt
    seat.askedBefore = this.asked
    this.seats.set(seat.id, seat)
    if (!seat.isTrusted && Identity.isBehind(takenAt, seat.subscription.seen)) {
      this.doubted.add(seat)
      this.doubt.openUnsafe()
    } else {
      this.serve(seat, takenAt)
    }
  }

  private serve(seat: Seat, takenAt: Identity.Sighting): void {
    this.isServed = true
    this.renewals = 0
    this.silences = 0
    this.forgive()
    seat.subscription.created(takenAt)
  }

  private onRefused(seat: Seat, answer: Rpc.WatchResponse): void {
    if (seat.left) return
    const error = Reasons.watchCanceled(answer)
    // The call cannot have another token: the next watch had better have another call.
    if (Rules.isTokenRefused(error)) this.isWorn = true
    this.drop(seat)
    seat.subscription.canceled(error)
  }

  private onCanceled(seat: Seat, answer: Rpc.WatchResponse): void {
    // After a compaction the server remembers the watch until it is told to forget it.
    if (answer.compactRevision > 0n) this.cancel(seat.id)
    this.drop(seat)
    seat.subscription.canceled(Reasons.watchCanceled(answer))
  }

  /**
   * The server answers if, when it got the request, every watch that it had was up to date. That was true of a watch
   * that it had already created: which is certain if the request was sent after the server's word of that (some requests
   * are not answered, so the nth answer is to the nth request or a later one), and if the store has moved on since.
   */
  private onProgressOfAll(answer: Rpc.WatchResponse): void {
    const now = Identity.sighting(answer.header)
    this.answered++
    for (const seat of [...this.seats.values()]) {
      if (seat.takenAt === undefined || seat.left || this.doubted.has(seat)) continue
      if (this.answered > seat.askedBefore || now.revision > seat.takenAt.revision) seat.subscription.progress(now)
    }
  }

  // Its silence

  private get isAwaiting(): boolean {
    return this.call === undefined || this.creating.some((seat) => !seat.left)
  }

  private expect(): void {
    this.expectNothing()
    const millis = this.keeper.settings.createdMillis * 2 ** Math.min(this.silences, maxDoublings)
    this.stopExpecting = Time.patience(millis, () => {
      this.stopExpecting = undefined
      if (!this.isAwaiting) return
      this.silences++
      Deferred.doneUnsafe(this.broken, Exit.fail(silent(this.lastEndpoint, millis)))
    })
  }

  private expectNothing(): void {
    this.stopExpecting?.()
    this.stopExpecting = undefined
  }

  // Whether the store is the one that was watched

  private latestWitness(): Identity.Witness | undefined {
    let latest: Identity.Witness | undefined
    for (const { witness } of this.members.keys()) {
      if (witness !== undefined && (latest === undefined || witness.revision > latest.revision)) latest = witness
    }
    return latest
  }

  private testify(testimony: Testimony): void {
    this.testimonies.push(testimony)
    this.doubt.openUnsafe()
  }

  /** Looks up what is doubtful, one thing after the other. */
  private readonly verify: Effect.Effect<never> = Effect.forever(
    Effect.suspend(() => {
      const testimony = this.testimonies.shift()
      const [asker] = this.doubted
      if (testimony !== undefined) return this.verifyWitness(testimony)
      if (asker !== undefined) return this.verifyPlace(asker)
      this.doubt.closeUnsafe()
      return this.doubt.await
    })
  )

  /** Where that cannot be looked up for good, one goes on without. */
  private verifyWitness({ of, witness }: Testimony): Effect.Effect<void> {
    const suspicions = this.suspicions.filter(({ subscription }) => of === undefined || of === subscription)
    const key = witness?.key ?? suspicions[0]?.subscription.request.range.key
    return key === undefined ? Effect.void : Effect.catch(this.look(key, witness, suspicions), () => Effect.void)
  }

  /** What is behind cannot be left at that. */
  private verifyPlace(asker: Seat): Effect.Effect<void> {
    const { subscription } = asker
    return Effect.catch(this.look(subscription.request.range.key, undefined, this.suspicions), (error) =>
      Effect.sync(() => {
        if (!asker.left) this.expel(subscription, (one) => one.fail(error))
      })
    )
  }

  private get suspicions(): ReadonlyArray<Suspicion> {
    return Array.from(this.members, ([subscription, seat]) => ({ subscription, seat, seen: subscription.seen }))
  }

  private look(key: Uint8Array, witness: Identity.Witness | undefined, suspicions: ReadonlyArray<Suspicion>) {
    const { term } = suspicions.map(({ seen }) => seen).reduce(Identity.later, Identity.nothing)
    const { endpoint } = this.call!
    return Effect.flatMap(this.keeper.look(this.carriage, { endpoint, key, witness, term }), (evidence) => {
      this.judge(suspicions, evidence)
      return this.tellOfService
    })
  }

  private judge(suspicions: ReadonlyArray<Suspicion>, evidence: Identity.Evidence): void {
    for (const { seat, seen, subscription } of suspicions) {
      if (this.members.get(subscription) !== seat) continue
      const wrong = Identity.verdict(seen, evidence)
      if (wrong !== undefined) this.expel(subscription, (one) => one.regressed(wrong))
      else if (this.doubted.delete(seat)) this.trust(seat)
    }
  }

  private expel(subscription: Subscription, tell: (subscription: Subscription) => void): void {
    this.leave(subscription)
    tell(subscription)
  }

  /** The server only lags behind: it will come to where the watch is. */
  private trust(seat: Seat): void {
    if (seat.hasMissed) {
      this.vacate(seat)
      this.create(this.seat(seat.subscription, true))
    } else {
      this.serve(seat, seat.takenAt!)
    }
  }

  // Its progress

  private versionOf(call: Call): Effect.Effect<string, EtcdError.EtcdError> {
    const { client, settings, time } = this.keeper
    const { endpoint } = call
    const { metadata } = this.carriage
    const asked = Effect.map(client.unary(Rpc.Maintenance.method.status, {}, { endpoint, metadata }), ({ version }) => {
      call.version = version
      return version
    })
    return Time.patiently(time, asked, settings.askMillis, () =>
      Effect.fail(Progress.unanswered(endpoint, settings.askMillis))
    )
  }

  private askAs(call: Call, version: string): Effect.Effect<void, EtcdError.EtcdError> {
    if (!Progress.saysTheTruth(version)) return Effect.fail(Progress.unsupported(call.endpoint, version))
    if (this.call === call) {
      this.asked++
      this.send(progressRequest)
    }
    return Effect.void
  }

  /** Asks for the progress of all watches, if there is a call, and fails where its server does not answer. */
  readonly askProgress: Effect.Effect<void, EtcdError.EtcdError> = Effect.suspend(() => {
    const { call } = this
    return call === undefined
      ? Effect.void
      : Effect.flatMap(this.versionOf(call), (version) => this.askAs(call, version))
  })

  /**
   * A server that does not answer may have a watch that waits for a revision to come: that goes to others like it, and
   * what waits no longer leaves those.
   */
  private partEarly(): void {
    if (this.company === "none" || this.asked - this.answered < unansweredInARow) return
    for (const subscription of [...this.members.keys()]) {
      const company = subscription.isEarly ? "early" : "any"
      if (company !== this.company) this.expel(subscription, (one) => one.keepCompany(company))
    }
  }

  /**
   * The call may be kept by a proxy, and the store behind it have gone back: then it is silent. What still waits to be
   * looked up, since the store cannot be read now, will do for that.
   */
  private suspectSilence(): void {
    const isSuspect = !this.isHeard && this.call !== undefined && this.testimonies.length === 0
    if (isSuspect) this.testify({ witness: this.latestWitness(), of: undefined })
    this.isHeard = false
  }

  /** A watch whose keys are quiet learns how far it is, so that it can go on from there when the call has broken. */
  private readonly keepUp: Effect.Effect<never> = Effect.suspend(() => {
    const { settings, time } = this.keeper
    const interval = Effect.flatMap(Random.nextBetween(0.9, 1.1), (part) =>
      Time.sleep(time, settings.progressIntervalMillis * part)
    )
    const ask = Effect.suspend(() => {
      this.partEarly()
      this.suspectSilence()
      const { call } = this
      return call?.version === undefined ? this.askProgress : this.askAs(call, call.version)
    })
    return Effect.forever(Effect.andThen(interval, Effect.ignore(ask)))
  })

  // The call

  private connected(endpoint: string): void {
    this.lastEndpoint = endpoint
    this.call = { endpoint, version: undefined }
    for (const { subscription } of [...this.members.values()]) this.create(this.seat(subscription, false))
    this.expect()
    const witness = this.latestWitness()
    if (witness !== undefined) this.testify({ witness, of: undefined })
  }

  private disconnected(): void {
    this.expectNothing()
    this.call = undefined
    this.isWorn = false
    this.seats.clear()
    this.doubted.clear()
    this.testimonies = []
    this.creating = []
    this.outbox = []
    this.wakeWriter = undefined
    this.asked = 0
    this.answered = 0
    this.cancels = 0
  }

  private readonly nextRequests: Effect.Effect<ReadonlyArray<WatchRequest>> = Effect.suspend(() => {
    if (this.outbox.length > 0) return Effect.succeed(this.outbox.splice(0))
    return Effect.flatMap(
      Effect.callback<void>((resume) => {
        this.wakeWriter = () => resume(Effect.void)
        return Effect.sync(() => {
          this.wakeWriter = undefined
        })
      }),
      () => this.nextRequests
    )
  })

  /** Sends what there is to send. That the call is broken is for the reader to say. */
  private write(call: Duplex): Effect.Effect<never> {
    const sendAll = Effect.flatMap(this.nextRequests, (requests) =>
      Effect.forEach(requests, call.send, { discard: true })
    )
    return Effect.catch(Effect.forever(sendAll), () => Effect.never)
  }

  private read(call: Duplex): Effect.Effect<never, EtcdError.EtcdError> {
    return Effect.andThen(
      Stream.runForEachArray(call.messages, (answers) => Effect.suspend(() => this.hear(call, answers))),
      Effect.fail(Reasons.watchEnded())
    )
  }

  /** The client's choice, unless that led to servers that did nothing, and there is another. */
  private readonly place: Effect.Effect<string | undefined> = Effect.suspend(() => {
    const { endpoint } = this.carriage
    if (endpoint !== undefined || this.avoided.size === 0) return Effect.succeed(endpoint)
    return Effect.map(this.keeper.client.endpoints, (endpoints) => {
      const other = endpoints.find((endpoint) => !this.avoided.has(endpoint))
      if (other === undefined) this.forgive()
      return other
    })
  })

  private forgive(): void {
    this.avoided.clear()
    this.mayMend = false
  }

  private readonly carry = Effect.gen({ self: this }, function* () {
    const { metadata, requireLeader } = this.carriage
    const endpoint = yield* this.place
    this.lastEndpoint = endpoint
    const call = yield* this.keeper.client.bidirectional(Rpc.Watch.method.watch, {
      endpoint,
      metadata,
      requireLeader,
      deadline: Duration.infinity,
      retry: Schedule.recurs(0)
    })
    this.connected(call.endpoint)
    // A server that stops in good order waits for its calls to end. What has come is read before: where the connection is
    // lost, that ends with the reason.
    const draining: Effect.Effect<Ending> = Effect.as(Effect.andThen(call.draining, Time.reading), "draining")
    return yield* Effect.raceAllFirst([this.read(call), draining, this.write(call), this.verify, this.keepUp])
  })

  private readonly callOnce: Effect.Effect<Ending, EtcdError.EtcdError> = Effect.suspend(() => {
    this.broken = Deferred.makeUnsafe()
    this.isServed = false
    this.expect()
    return Effect.raceFirst(Effect.scoped(this.carry), Deferred.await(this.broken))
  }).pipe(Effect.ensuring(Effect.sync(() => this.disconnected())))

  /** Goes on at once, unless that is all that there is to be done. */
  private readonly move: Effect.Effect<void> = Effect.suspend(() => {
    const { time } = this.keeper
    const since = time.now() - this.movedAt
    this.movedAt = time.now()
    return since < restlessMillis ? Time.sleep(time, restMillis) : Effect.void
  })

  private readonly divide: Effect.Effect<void> = Effect.suspend(() => {
    const subscriptions = [...this.members.keys()]
    const half = Math.ceil(subscriptions.length / 2)
    this.members.clear()
    // The calls of the halves are begun here, and others may ask for a watch meanwhile.
    this.isClosed = true
    return this.keeper.divide(this.carriage, this.company, [subscriptions.slice(0, half), subscriptions.slice(half)])
  }).pipe(Effect.andThen(Effect.sync(() => this.closeIfEmpty())), Effect.uninterruptible)

  /** Whether the lane goes on after its call has ended with this. If so, it is time for the next one. */
  private survive(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    if (Rules.isClientClosed(error)) return this.give(Rules.closed)
    return Rules.isOfEndpoint(error, this.isServed)
      ? Effect.flatMap(this.mayDoElsewhere, (may) => (may ? this.waitToGoOn(error) : this.surviveVerdict(error)))
      : this.surviveVerdict(error)
  }

  /** What is wrong with one endpoint, of which the client has not said that it is all there is, is no verdict. */
  private readonly mayDoElsewhere: Effect.Effect<boolean> = Effect.suspend(() => {
    const { lastEndpoint } = this
    if (this.carriage.endpoint !== undefined || lastEndpoint === undefined) return Effect.succeed(false)
    this.avoided.add(lastEndpoint)
    return Effect.map(
      this.keeper.client.endpoints,
      (endpoints) => this.mayMend || endpoints.some((endpoint) => !this.avoided.has(endpoint))
    )
  })

  private surviveVerdict(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    const { isServed } = this
    if (!Rules.isWorthwhile(error)) {
      return this.members.size > 1 && Rules.isOfOneWatch(error, isServed)
        ? Effect.as(this.divide, false)
        : this.give(error)
    }
    if (Rules.isLasting(error)) {
      for (const subscription of [...this.members.keys()]) {
        if (!subscription.isServed) this.expel(subscription, (one) => one.fail(error))
      }
      if (this.isClosed) return Effect.succeed(false)
    }
    if (!isServed && this.lastEndpoint !== undefined) {
      this.avoided.add(this.lastEndpoint)
      this.mayMend = true
    }
    if (Rules.isTokenRefused(error) && ++this.renewals > Rules.maxRenewals) return this.give(error)
    return this.waitToGoOn(error)
  }

  private waitToGoOn(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    return this.outage.pause(error, this.silences > 0).pipe(
      Effect.as(true),
      Effect.catch((error) => this.give(error))
    )
  }

  private give(error: EtcdError.EtcdError): Effect.Effect<boolean> {
    return Effect.sync(() => {
      this.endAll(Cause.fail(error))
      return false
    })
  }

  private readonly carryOn: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    while (true) {
      const end = yield* Effect.result(this.callOnce)
      if (Result.isSuccess(end) && (this.isServed || end.success === "again")) yield* this.move
      else if (!(yield* this.survive(Result.isSuccess(end) ? Reasons.watchEnded() : end.failure))) return
    }
  })

  /** Carries its watches until there are none. */
  get run(): Effect.Effect<void> {
    return Effect.raceFirst(this.carryOn, Deferred.await(this.emptied))
  }
}
