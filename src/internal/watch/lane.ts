/**
 * One call to the server that carries many watches, and that is made again, elsewhere if need be, when it breaks.
 *
 * The answers are read and handed out as they come, whatever the readers of the single watches do. Ids of watches are
 * chosen here and never used twice, so that what is on its way when a watch is canceled is taken for nobody else's. One
 * that stands between, etcd's gRPC proxy, chooses its own and need not answer in the order of the requests: when that
 * shows, the call is made again, and its watches are created one after the other.
 *
 * A server keeps a little of each watch that is canceled while it has events under way, until the call ends (`pending` in
 * etcd's `sendLoop`); therefore a lane retires after many of them, which means that it takes no more watches.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Client, Duplex } from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { decide } from "../client/retryRules.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import { type Carriage, type Carrier, isTokenRefused, type Subscription } from "./subscription.ts"

type WatchRequest = MessageInitShape<typeof Rpc.WatchRequestSchema>

/** How many watches share a call. Each has its own answers, and a server queues 128 of them for a call. */
const maxWatches = 1000

const maxCancels = 1000

/** The id of an answer that is for all watches of the call, or for one that was never made. */
const noId = -1n

/** Ids begin here, where those that a proxy counts from 0 do not get. */
const firstId = 1n << 32n

/** A watch as this call knows it. */
interface Seat {
  id: bigint
  readonly subscription: Subscription
  /** The store's revision when the server took the watch. */
  createdAt: bigint | undefined
  /** How many progress requests had been sent by then. */
  askedBefore: number
  left: boolean
}

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

/** Whether another call may do better than the one that ended with this. */
const isWorthwhile = ({ reason }: EtcdError.EtcdError): boolean =>
  decide(reason) !== "fail" ||
  reason._tag === "WatchCanceled" ||
  reason._tag === "Canceled" ||
  reason._tag === "DeadlineExceeded"

const clientClosed = EtcdError.make(
  new EtcdError.Unreachable({
    message: "The watch has ended, because the client that it belongs to was closed.",
    outcome: "not-applied",
    method: "Watch.Watch"
  })
)

export class Lane implements Carrier {
  readonly carriage: Carriage
  /** For one watch alone, whose reader is slow. */
  readonly isPrivate: boolean
  /** The endpoint of the call, while there is one. */
  endpoint: string | undefined
  /** It takes no more watches. */
  isRetired = false

  private readonly onEmpty: (lane: Lane) => void
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
  private heard = false
  /** Whether ids are the server's to choose, and watches are created one at a time. */
  private isSerial = false
  /** Completes when the call is no good as it is. */
  private broken = Deferred.makeUnsafe<void>()

  constructor(carriage: Carriage, isPrivate: boolean, onEmpty: (lane: Lane) => void) {
    this.carriage = carriage
    this.isPrivate = isPrivate
    this.onEmpty = onEmpty
  }

  get hasRoom(): boolean {
    return !this.isRetired && !this.isPrivate && this.members.size < maxWatches
  }

  /** How much is remembered, for tests. */
  get load() {
    return { watches: this.members.size, seats: this.seats.size, creating: this.creating.length }
  }

  join(subscription: Subscription): void {
    subscription.carrier = this
    const seat = this.seat(subscription)
    if (this.endpoint !== undefined) this.create(seat)
  }

  leave(subscription: Subscription): void {
    const seat = this.members.get(subscription)
    if (seat === undefined) return
    seat.left = true
    this.members.delete(subscription)
    if (this.seats.delete(seat.id)) this.cancel(seat.id)
    this.closeIfEmpty()
  }

  /** Asks for the progress of all watches. */
  askProgress(): void {
    this.asked++
    this.send(progressRequest)
  }

  private seat(subscription: Subscription): Seat {
    const seat: Seat = { id: this.nextId++, subscription, createdAt: undefined, askedBefore: 0, left: false }
    this.members.set(subscription, seat)
    return seat
  }

  private create(seat: Seat): void {
    seat.subscription.cursor.rewind()
    this.creating.push(seat)
    if (!this.isSerial) this.seats.set(seat.id, seat)
    if (!this.isSerial || this.creating.length === 1) this.send(createRequest(seat))
  }

  private createNext(): void {
    while (this.creating[0]?.left === true) this.creating.shift()
    const [seat] = this.creating
    if (seat !== undefined) this.send(createRequest(seat))
  }

  private cancel(id: bigint): void {
    this.send(cancelRequest(id))
    if (++this.cancels >= maxCancels) this.isRetired = true
  }

  private send(request: WatchRequest): void {
    this.outbox.push(request)
    const wake = this.wakeWriter
    this.wakeWriter = undefined
    wake?.()
  }

  /** Lets go of a watch that the server has ended. */
  private drop(seat: Seat): void {
    this.seats.delete(seat.id)
    this.members.delete(seat.subscription)
    this.closeIfEmpty()
  }

  private closeIfEmpty(): void {
    if (this.members.size > 0) return
    this.isRetired = true
    this.onEmpty(this)
    Deferred.doneUnsafe(this.emptied, Exit.void)
  }

  private failAll(error: EtcdError.EtcdError): void {
    const subscriptions = [...this.members.keys()]
    this.members.clear()
    this.closeIfEmpty()
    for (const subscription of subscriptions) subscription.fail(error)
  }

  // What the server says

  private receive(answer: Rpc.WatchResponse): void {
    if (answer.created) this.onCreated(answer)
    else if (answer.watchId === noId) this.onProgressOfAll(answer)
    else this.onAnswer(this.seats.get(answer.watchId), answer)
  }

  private onAnswer(seat: Seat | undefined, answer: Rpc.WatchResponse): void {
    // What was on its way when the watch was canceled, and the server's word that it was, are for nobody.
    if (seat === undefined) return
    if (answer.canceled) this.onCanceled(seat, answer)
    else if (answer.events.length > 0) seat.subscription.events(answer.events, answer.fragment)
    else seat.subscription.progress(answer.header?.revision ?? 0n)
  }

  private onCreated(answer: Rpc.WatchResponse): void {
    const seat = this.creating.shift()
    if (seat === undefined || Deferred.isDoneUnsafe(this.broken)) return
    if (answer.canceled) this.onRefused(seat, answer)
    else if (this.isSerial || answer.watchId === seat.id) this.onTaken(seat, answer)
    else this.goSerial()
    if (this.isSerial) this.createNext()
  }

  private goSerial(): void {
    this.isSerial = true
    Deferred.doneUnsafe(this.broken, Exit.void)
  }

  private onTaken(seat: Seat, answer: Rpc.WatchResponse): void {
    if (seat.left) {
      if (this.isSerial) this.cancel(answer.watchId)
      return
    }
    seat.id = answer.watchId
    seat.createdAt = answer.header?.revision ?? 0n
    seat.askedBefore = this.asked
    this.seats.set(seat.id, seat)
    seat.subscription.created(seat.createdAt)
  }

  private onRefused(seat: Seat, answer: Rpc.WatchResponse): void {
    if (seat.left) return
    const error = EtcdError.watchCanceled(answer)
    // The call cannot have another token: the next watch had better have another call.
    if (isTokenRefused(error)) this.isRetired = true
    this.drop(seat)
    seat.subscription.canceled(error)
  }

  private onCanceled(seat: Seat, answer: Rpc.WatchResponse): void {
    // After a compaction the server remembers the watch until it is told to forget it.
    if (answer.compactRevision > 0n) this.cancel(seat.id)
    this.drop(seat)
    seat.subscription.canceled(EtcdError.watchCanceled(answer))
  }

  /**
   * The server answers if, when it got the request, every watch that it had was up to date. That was true of a watch
   * that it had already created: which is certain if the request was sent after the server's word of that (some requests
   * are not answered, so the nth answer is to the nth request or a later one), and if the store has moved on since.
   */
  private onProgressOfAll(answer: Rpc.WatchResponse): void {
    const revision = answer.header?.revision ?? 0n
    this.answered++
    for (const seat of [...this.seats.values()]) {
      if (seat.createdAt === undefined) continue
      if (this.answered > seat.askedBefore || revision > seat.createdAt) seat.subscription.progress(revision)
    }
  }

  // The call

  private connected(endpoint: string): void {
    this.endpoint = endpoint
    this.broken = Deferred.makeUnsafe()
    for (const { subscription } of [...this.members.values()]) this.create(this.seat(subscription))
  }

  private disconnected(): void {
    this.endpoint = undefined
    this.seats.clear()
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
  private write(call: Duplex<typeof Rpc.WatchRequestSchema, typeof Rpc.WatchResponseSchema>): Effect.Effect<never> {
    const sendAll = Effect.flatMap(this.nextRequests, (requests) =>
      Effect.forEach(requests, call.send, { discard: true })
    )
    return Effect.catch(Effect.forever(sendAll), () => Effect.never)
  }

  private callOnce(client: Client): Effect.Effect<never, EtcdError.EtcdError> {
    const { endpoint, metadata, requireLeader } = this.carriage
    const options = {
      endpoint,
      metadata,
      requireLeader,
      deadline: Duration.infinity,
      retry: Schedule.recurs(0)
    } as const
    const carry = Effect.gen({ self: this }, function* () {
      const call = yield* client.bidirectional(Rpc.Watch.method.watch, options)
      this.connected(call.endpoint)
      const read = Stream.runForEachArray(call.messages, (answers) =>
        Effect.sync(() => {
          this.heard = true
          for (const answer of answers) this.receive(answer)
        })
      )
      // A server that stops in good order waits for its calls to end.
      yield* Effect.raceAllFirst([read, call.draining, Deferred.await(this.broken), this.write(call)])
      return yield* Effect.fail(EtcdError.watchEnded())
    })
    return Effect.ensuring(
      Effect.scoped(carry),
      Effect.sync(() => this.disconnected())
    )
  }

  private carryOn(client: Client): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      let step = yield* Schedule.toStep(this.carriage.retry)
      while (true) {
        const error = yield* Effect.flip(this.callOnce(client))
        if (!isWorthwhile(error)) return this.failAll(error)
        if (isTokenRefused(error)) yield* client.renewToken
        if (this.heard) step = yield* Schedule.toStep(this.carriage.retry)
        this.heard = false
        const next = yield* Pull.catchDone(
          Effect.map(step(yield* Clock.currentTimeMillis, error), Option.some),
          () => Effect.succeedNone
        )
        if (Option.isNone(next)) return this.failAll(error)
        const [, pause] = next.value
        yield* Effect.logDebug("etcd watches go on elsewhere", {
          watches: this.members.size,
          pause,
          error: error.message
        })
        yield* Effect.sleep(pause)
      }
    })
  }

  /** Carries its watches until there are none. */
  run(client: Client): Effect.Effect<void> {
    return Effect.raceFirst(this.carryOn(client), Deferred.await(this.emptied)).pipe(
      Effect.onExit(() => Effect.sync(() => this.failAll(clientClosed)))
    )
  }
}
