/**
 * One gRPC call of a watch stream, from when it is open to its end: what is asked of the server, and what its answers are
 * for.
 *
 * The answers are read and handed out as they come, whatever the readers of the single watches do. Ids of watches are
 * chosen here and never used twice, so that what is on its way when a watch is canceled is taken for nobody else's. One
 * that stands between, etcd's gRPC proxy, chooses its own and need not answer in the order of the requests: when that
 * shows, the call is made again, and its watches are created one after the other.
 *
 * A server keeps a little of each watch that is canceled while it has events under way, until the call ends (`pending` in
 * etcd's `sendLoop`); therefore a call wears out after many of them, which means that it takes no more watches.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import * as Reasons from "../client/reasons.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import * as Identity from "./identity.ts"
import type { Pool } from "./pool.ts"
import * as Progress from "./progress.ts"
import * as Rules from "./rules.ts"
import type { Sharing, StreamOptions, Subscription } from "./subscription.ts"
import { Verification } from "./verification.ts"

type WatchRequest = MessageInitShape<typeof Rpc.WatchRequestSchema>
type Duplex = EtcdClient.Duplex<typeof Rpc.WatchRequestSchema, typeof Rpc.WatchResponseSchema>

const maxCancels = 1000

/** The id of an answer that is for all watches of the call, or for one that was never made. */
const noId = -1n

/** Ids begin here, where those that a proxy counts from 0 do not get. */
const firstId = 1n << 32n

/** So many requests for progress are not left unanswered for another reason than that a watch is early. */
const unansweredInARow = 2

/** A watch as the server of this call knows it. */
export interface Watcher {
  id: bigint
  readonly subscription: Subscription
  /** How far the store was when the server took the watch. */
  takenAt: Identity.Position | undefined
  /** How many progress requests had been sent by then. */
  askedBefore: number
  left: boolean
  /** Whether it is certain that the store is the one that the watch has seen, however far behind the server is. */
  readonly isTrusted: boolean
  /** Whether events came while that was not certain, and were not taken. */
  hasMissed: boolean
}

/** How a call ends that is only to be made again: its server takes no more calls, or it was made in the wrong way. */
export type Ending = "draining" | "again"

/** What a call needs of its stream. */
export interface Host {
  readonly pool: Pool
  readonly options: StreamOptions
  readonly sharing: Sharing
  /** Whether ids are the server's to choose, and watches are created one at a time. */
  readonly isSerial: boolean
  /** Gives the server time to take a watch: from now on, or from when it was given last if it still has some. */
  readonly expect: (anew: boolean) => void
  readonly expectNothing: () => void
  /** The server has taken a watch. */
  readonly served: () => void
  /** Says that the outage is over, if the server has taken a watch. */
  readonly tellOfService: Effect.Effect<void>
  /** The server has ended the watch. */
  readonly dropped: (subscription: Subscription) => void
  /** Takes a watch off the stream, and tells it why. */
  readonly expel: (subscription: Subscription, tell: (subscription: Subscription) => void) => void
  /** Sees to it that the call is made again, with ids that are the server's to choose. */
  readonly goSerial: () => void
  /** Whether the call is no good as it is. */
  readonly isBroken: boolean
}

const createRequest = ({ id, subscription: { cursor, request } }: Watcher): WatchRequest => ({
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

const isTokenRefused = (answer: Rpc.WatchResponse): boolean =>
  answer.created && answer.canceled && Rules.isTokenRefused(Reasons.watchCanceled(answer))

export class WatchCall {
  readonly endpoint: string
  /** Whether the call takes no more watches. */
  isWorn = false

  private readonly host: Host
  private readonly duplex: Duplex
  private readonly watchers = new Map<Subscription, Watcher>()
  /** Whether a token was refused that the program has given, and that the client cannot get another for. */
  private isTokenGiven = false
  /** Those that the server has been told of, or that it has told of where ids are its own. */
  private readonly byId = new Map<bigint, Watcher>()
  /** What was asked for and not answered, in the order of the answers. */
  private readonly creating: Array<Watcher> = []
  private readonly outbox: Array<WatchRequest> = []
  private wakeWriter: (() => void) | undefined
  private nextId = firstId
  private cancels = 0
  private asked = 0
  private answered = 0
  /** The server's version, once it was asked. */
  private version: string | undefined
  /** Whether the server has said anything since it was asked for progress, or would have been. */
  private isHeard = false
  private readonly verification: Verification

  /** Asks for the watches that there are. */
  constructor(host: Host, duplex: Duplex, subscriptions: Iterable<Subscription>) {
    this.host = host
    this.duplex = duplex
    this.endpoint = duplex.endpoint
    this.verification = new Verification(host, duplex.endpoint, this.watchers, (watcher) => this.trust(watcher))
    for (const subscription of subscriptions) this.create(this.newWatcher(subscription, false))
    host.expect(true)
    this.verification.begin()
  }

  /** How much is remembered, for tests. */
  get load() {
    return { watchers: this.byId.size, creating: this.creating.length }
  }

  /** Whether the server has yet to take a watch. */
  get isAwaiting(): boolean {
    return this.creating.some((watcher) => !watcher.left)
  }

  /** Asks for a watch. */
  join(subscription: Subscription): void {
    this.create(this.newWatcher(subscription, false))
    this.verification.join(subscription)
  }

  /** Lets go of a watch, and tells the server. */
  leave(subscription: Subscription): void {
    const watcher = this.watchers.get(subscription)
    if (watcher === undefined) return
    this.watchers.delete(subscription)
    this.vacate(watcher)
  }

  /** Has the watches carried until the call ends, and says how it ended. */
  get run(): Effect.Effect<Ending, EtcdError.EtcdError> {
    // A server that stops in good order waits for its calls to end. What has come is read before: where the connection is
    // lost, that ends with the reason.
    const draining: Effect.Effect<Ending> = Effect.as(Effect.andThen(this.duplex.draining, Time.reading), "draining")
    return Effect.raceAllFirst([this.read, draining, this.write, this.verification.run, this.keepUp])
  }

  // What is asked

  private newWatcher(subscription: Subscription, isTrusted: boolean): Watcher {
    const watcher: Watcher = {
      id: this.nextId++,
      subscription,
      takenAt: undefined,
      askedBefore: 0,
      left: false,
      isTrusted,
      hasMissed: false
    }
    this.watchers.set(subscription, watcher)
    return watcher
  }

  private create(watcher: Watcher): void {
    const { isSerial } = this.host
    watcher.subscription.cursor.rewind()
    this.creating.push(watcher)
    this.host.expect(false)
    if (!isSerial) this.byId.set(watcher.id, watcher)
    if (!isSerial || this.creating.length === 1) this.send(createRequest(watcher))
  }

  private createNext(): void {
    while (this.creating[0]?.left === true) this.creating.shift()
    const [watcher] = this.creating
    if (watcher !== undefined) this.send(createRequest(watcher))
  }

  /** What comes for the watcher from now on is for nobody. */
  private vacate(watcher: Watcher): void {
    watcher.left = true
    this.verification.forget(watcher)
    if (this.byId.delete(watcher.id)) this.cancel(watcher.id)
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
  private get write(): Effect.Effect<never> {
    const sendAll = Effect.flatMap(this.nextRequests, (requests) =>
      Effect.forEach(requests, this.duplex.send, { discard: true })
    )
    return Effect.catch(Effect.forever(sendAll), () => Effect.never)
  }

  // What the server says

  private get read(): Effect.Effect<never, EtcdError.EtcdError> {
    return Effect.andThen(
      Stream.runForEachArray(this.duplex.messages, (answers) => Effect.suspend(() => this.hear(answers))),
      Effect.fail(Reasons.watchEnded())
    )
  }

  private hear(answers: ReadonlyArray<Rpc.WatchResponse>): Effect.Effect<void> {
    // Before its watches hear of it, so that they do not come again with the same token.
    return answers.some(isTokenRefused)
      ? Effect.flatMap(this.duplex.renewToken, (isRenewed) => {
          this.isTokenGiven = !isRenewed
          return this.handOut(answers)
        })
      : this.handOut(answers)
  }

  private handOut(answers: ReadonlyArray<Rpc.WatchResponse>): Effect.Effect<void> {
    this.isHeard = true
    for (const answer of answers) this.receive(answer)
    if (!this.isAwaiting) this.host.expectNothing()
    return this.host.tellOfService
  }

  private receive(answer: Rpc.WatchResponse): void {
    if (answer.created) this.onCreated(answer)
    else if (answer.watchId === noId) this.onProgressOfAll(answer)
    else this.onAnswer(this.byId.get(answer.watchId), answer)
  }

  private onAnswer(watcher: Watcher | undefined, answer: Rpc.WatchResponse): void {
    // What was on its way when the watch was canceled, and the server's word that it was, are for nobody.
    if (watcher === undefined) return
    const { subscription } = watcher
    if (answer.canceled) this.onCanceled(watcher, answer)
    else if (this.verification.doubts(watcher)) watcher.hasMissed = true
    else if (answer.events.length > 0) {
      subscription.events(answer.events, answer.fragment, Identity.positionOf(answer.header))
    } else subscription.progress(Identity.positionOf(answer.header))
  }

  private onCreated(answer: Rpc.WatchResponse): void {
    const watcher = this.creating.shift()
    if (watcher === undefined || this.host.isBroken) return
    this.host.expect(true)
    if (answer.canceled) this.onRefused(watcher, answer)
    else if (this.host.isSerial || answer.watchId === watcher.id) this.onTaken(watcher, answer)
    else this.host.goSerial()
    if (this.host.isSerial) this.createNext()
  }

  private onTaken(watcher: Watcher, answer: Rpc.WatchResponse): void {
    if (watcher.left) {
      if (this.host.isSerial) this.cancel(answer.watchId)
      return
    }
    const takenAt = Identity.positionOf(answer.header)
    watcher.id = answer.watchId
    watcher.takenAt = takenAt
    watcher.askedBefore = this.asked
    this.byId.set(watcher.id, watcher)
    if (!watcher.isTrusted && Identity.isBehind(takenAt, watcher.subscription.seen)) {
      this.verification.doubt(watcher)
    } else {
      this.serve(watcher, takenAt)
    }
  }

  private serve(watcher: Watcher, takenAt: Identity.Position): void {
    this.host.served()
    watcher.subscription.created(takenAt, this.endpoint)
  }

  private onRefused(watcher: Watcher, answer: Rpc.WatchResponse): void {
    if (watcher.left) return
    const told = Reasons.watchCanceled(answer)
    const isLasting = told.reason._tag === "InvalidAuthToken" && this.isTokenGiven
    const error = isLasting ? Reasons.retold(told, { message: told.message, lasting: true }) : told
    // The call cannot have another token: the next watch had better have another call.
    if (Rules.isTokenRefused(error)) this.isWorn = true
    this.drop(watcher)
    watcher.subscription.canceled(error)
  }

  private onCanceled(watcher: Watcher, answer: Rpc.WatchResponse): void {
    // After a compaction the server remembers the watch until it is told to forget it.
    if (answer.compactRevision > 0n) this.cancel(watcher.id)
    this.drop(watcher)
    watcher.subscription.canceled(Reasons.watchCanceled(answer))
  }

  /** Lets go of a watch that the server has ended. */
  private drop(watcher: Watcher): void {
    watcher.left = true
    this.verification.forget(watcher)
    this.byId.delete(watcher.id)
    this.watchers.delete(watcher.subscription)
    this.host.dropped(watcher.subscription)
  }

  /**
   * The server answers if, when it got the request, every watch that it had was up to date. That was true of a watch
   * that it had already created: which is certain if the request was sent after the server's word of that (some requests
   * are not answered, so the nth answer is to the nth request or a later one), and if the store has moved on since.
   */
  private onProgressOfAll(answer: Rpc.WatchResponse): void {
    const now = Identity.positionOf(answer.header)
    this.answered++
    for (const watcher of [...this.byId.values()]) {
      const { askedBefore, subscription, takenAt } = watcher
      if (takenAt === undefined || watcher.left || this.verification.doubts(watcher)) continue
      if (this.answered > askedBefore || now.revision > takenAt.revision) subscription.progress(now)
    }
  }

  /** The server only lags behind: it will come to where the watch is. */
  private trust(watcher: Watcher): void {
    if (watcher.hasMissed) {
      this.vacate(watcher)
      this.create(this.newWatcher(watcher.subscription, true))
    } else {
      this.serve(watcher, watcher.takenAt!)
    }
  }

  // How far its watches are

  private readonly askVersion: Effect.Effect<string, EtcdError.EtcdError> = Effect.suspend(() => {
    const { endpoint } = this
    const { metadata } = this.host.options
    const { client, settings, time } = this.host.pool
    const asked = Effect.map(client.unary(Rpc.Maintenance.method.status, {}, { endpoint, metadata }), ({ version }) => {
      this.version = version
      return version
    })
    return Time.patiently(time, asked, settings.askMillis, () =>
      Effect.fail(Progress.unanswered(endpoint, settings.askMillis))
    )
  })

  private askAs(version: string): Effect.Effect<void, EtcdError.EtcdError> {
    if (!Progress.saysTheTruth(version)) return Effect.fail(Progress.unsupported(this.endpoint, version))
    this.asked++
    this.send(progressRequest)
    return Effect.void
  }

  /** Asks for the progress of all watches, and fails where the server does not answer. */
  readonly askProgress: Effect.Effect<void, EtcdError.EtcdError> = Effect.flatMap(this.askVersion, (version) =>
    this.askAs(version)
  )

  /**
   * A server that does not answer may have a watch that waits for a revision to come: that goes to others like it, and
   * what waits no longer leaves those.
   */
  private separateEarly(): void {
    const { host } = this
    if (host.sharing === "none" || this.asked - this.answered < unansweredInARow) return
    for (const subscription of [...this.watchers.keys()]) {
      const sharing = subscription.isEarly ? "early" : "any"
      if (sharing !== host.sharing) host.expel(subscription, (one) => one.moveTo(sharing))
    }
  }

  /** A watch whose keys are quiet learns how far it is, so that it can go on from there when the call has broken. */
  private readonly keepUp: Effect.Effect<never> = Effect.suspend(() => {
    const { settings, time } = this.host.pool
    const interval = Effect.flatMap(Random.nextBetween(0.9, 1.1), (part) =>
      Time.sleep(time, settings.progressIntervalMillis * part)
    )
    const ask = Effect.suspend(() => {
      this.separateEarly()
      if (!this.isHeard) this.verification.suspectSilence()
      this.isHeard = false
      return this.version === undefined ? this.askProgress : this.askAs(this.version)
    })
    return Effect.forever(Effect.andThen(interval, Effect.ignore(ask)))
  })
}
