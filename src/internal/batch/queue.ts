/**
 * Calls of one kind on their way: who waits, what is in flight, and what goes out next.
 *
 * With nothing in flight a call goes out at once, as the call that it is. Otherwise it waits for the end of this turn
 * of the event loop, or for a place, and goes out with the others that wait, as one transaction. The transaction runs
 * in a fiber of its own, which ends when nobody waits for it any more.
 *
 * A request that is out for long takes no place any more while others wait for one: an etcd that holds a few requests
 * back, because their leader is gone, does not hold up all that comes later.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { Batched } from "../client/batched.ts"
import * as Telemetry from "../client/telemetry.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import { answers, valueBytes } from "./answers.ts"
import { mayHaveOneCulprit, retold } from "./errors.ts"
import type { KeyOrder } from "./keyOrder.ts"
import type { Answer, Member, Operation, Request, Shared } from "./member.ts"
import type { Unhurried } from "./unhurried.ts"

/** What a transaction may hold. The first two sink when a server shows that it takes less. */
export interface Limits {
  operations: number
  bytes: number
  /** How many calls that want what was there before. */
  readonly previous: number
  readonly inFlight: number
}

type TxnRequest = MessageInitShape<typeof Rpc.TxnRequestSchema>

/** An operation of a transaction, as long as that is under way. */
interface Requested {
  readonly request: { readonly case: Operation["request"]; value: Request | undefined }
}

type Options = EtcdClient.CallOptions & Batched

/** A transaction smaller than this is not made just because there is another place. */
const worthAPlace = 32

/** A request takes a place for so long at most, while calls wait, in milliseconds. */
const longestStay = 300

/** What a request takes while it is on its way. */
export interface Place {
  readonly since: number
  counts: boolean
}

/** Ended calls at the front of the queue are let go of when there are so many. */
const slack = 1024

export class Queue {
  private readonly client: EtcdClient.Client
  private readonly operation: Operation
  private readonly limits: Limits
  private readonly order: KeyOrder
  private readonly unhurried: Unhurried
  private readonly options: EtcdClient.CallOptions
  private readonly time: Time.Time
  /** Where calls go that may go now because another one has ended. */
  private readonly admit: (member: Member) => void

  private members: Array<Member> = []
  private head = 0
  /** Of the requests on their way, in the order of their sending, and how many of them count. */
  private places: Array<Place> = []
  private inFlight = 0
  private isTiming = false
  private scheduled = false
  private flushing = false
  private settling = false
  /** How many bytes of values an answer has, going by the last ones. */
  private expected = 0

  constructor(
    client: EtcdClient.Client,
    operation: Operation,
    limits: Limits,
    order: KeyOrder,
    unhurried: Unhurried,
    options: EtcdClient.CallOptions,
    time: Time.Time,
    admit: (member: Member) => void
  ) {
    this.client = client
    this.operation = operation
    this.limits = limits
    this.order = order
    this.unhurried = unhurried
    this.options = options
    this.time = time
    this.admit = admit
  }

  call(member: Member): Answer {
    return Effect.onExitPrimitive(
      Effect.withFiber((fiber) => (this.mayGoAlone(member) ? this.alone(member) : this.wait(member, fiber))),
      () => {
        if (member.state === "ended") member.disarm()
        else this.end(member)
        return undefined
      }
    )
  }

  /** The call waits no more for another one on its key. */
  push(member: Member): void {
    this.members.push(member)
  }

  private mayGoAlone(member: Member): boolean {
    return this.inFlight === 0 && !this.settling && this.head === this.members.length && this.order.isFree(member.key)
  }

  private alone(member: Member): Answer {
    this.order.enter(member)
    member.place = this.takePlace()
    member.state = "alone"
    return member.direct(this.client, this.time)
  }

  private wait(member: Member, fiber: Fiber.Fiber<unknown, unknown>): Answer {
    if (!Tracing.isTraced(fiber)) return this.park(member, fiber)
    const parked = Effect.withFiber((inner) => {
      member.span = inner.cache.span
      return this.park(member, inner)
    })
    return Tracing.traced(parked, this.operation.called)
  }

  private park(member: Member, fiber: Fiber.Fiber<unknown, unknown>): Answer {
    return Effect.callback((resume) => {
      member.state = "waiting"
      member.suspend(fiber.context, this.time.now(), this.unhurried, resume)
      if (!this.order.enter(member)) return
      this.members.push(member)
      this.schedule(fiber)
    })
  }

  /** Whoever else makes a call in this turn of the event loop goes along. */
  private schedule(fiber: Fiber.Fiber<unknown, unknown>): void {
    if (this.scheduled || this.settling) return
    if (this.inFlight >= this.limits.inFlight) {
      this.timePlaces()
      return
    }
    this.scheduled = true
    fiber.currentDispatcher.scheduleTask(() => {
      this.scheduled = false
      this.flush()
    }, 0)
  }

  /** The call was given up, or went alone and has ended. */
  private end(member: Member): void {
    const { shared, state } = member
    member.state = "ended"
    member.disarm()
    switch (state) {
      case "waiting":
        if (!member.blocked) this.leave(member)
        break
      case "alone":
        this.leave(member)
        this.freePlace(member.place!)
        this.flush()
        break
      case "shared":
        if (shared !== undefined && --shared.waiting === 0) shared.fiber?.interruptUnsafe()
        break
      default:
    }
  }

  private leave(member: Member): void {
    const next = this.order.leave(member)
    if (next !== undefined) this.admit(next)
  }

  /** Sends what waits, as long as there are places. */
  flush(): void {
    if (this.flushing || this.settling) return
    this.flushing = true
    while (this.inFlight < this.limits.inFlight) {
      const members = this.take()
      if (members.length === 0) break
      this.send(members)
    }
    this.flushing = false
    if (this.head < this.members.length) this.timePlaces()
  }

  private takePlace(): Place {
    const place = { since: this.time.now(), counts: true }
    this.places.push(place)
    this.inFlight++
    return place
  }

  private freePlace(place: Place): void {
    this.places.splice(this.places.indexOf(place), 1)
    if (place.counts) this.inFlight--
  }

  /** Somebody waits for a place: those that were taken long ago are given away. */
  private timePlaces(): void {
    if (this.isTiming) return
    const oldest = this.places.find((place) => place.counts)
    if (oldest === undefined) return
    this.isTiming = true
    Time.patience(Math.max(0, oldest.since + longestStay - this.time.now()), () => {
      this.isTiming = false
      const now = this.time.now()
      for (const place of this.places) {
        if (place.counts && now - place.since >= longestStay) {
          place.counts = false
          this.inFlight--
        }
      }
      this.flush()
    })
  }

  private take(): Array<Member> {
    const free = this.limits.inFlight - this.inFlight
    const share = Math.max(worthAPlace, Math.ceil((this.members.length - this.head) / free))
    const limit = Math.min(share, this.limits.operations, this.answerLimit())
    const taken: Array<Member> = []
    let bytes = 0
    let previous = 0
    while (this.head < this.members.length && taken.length < limit) {
      const member = this.members[this.head]!
      if (member.state === "waiting") {
        bytes += member.bytes
        if (member.wantsPrevious) previous++
        if (taken.length > 0 && (bytes > this.limits.bytes || previous > this.limits.previous)) break
        taken.push(member)
      }
      this.head++
    }
    this.tidy()
    return taken
  }

  /**
   * Where values are large nothing is gained by reading many together, and who reads a small one would wait for them.
   * There are always two, so that it shows when they are small again.
   */
  private answerLimit(): number {
    return Math.max(2, Math.floor(this.limits.bytes / (this.expected + 1)))
  }

  private tidy(): void {
    if (this.head === this.members.length) {
      this.members = []
      this.head = 0
    } else if (this.head > slack && this.head * 2 > this.members.length) {
      this.members = this.members.slice(this.head)
      this.head = 0
    }
  }

  /** Takes a place for the calls, however many are taken. */
  private send(members: Array<Member>): void {
    const place = this.takePlace()
    if (members.length === 1) this.sendAlone(members[0]!, place)
    else this.sendShared(members, place)
  }

  private sendAlone(member: Member, place: Place): void {
    member.state = "alone"
    member.place = place
    member.wake(Effect.suspend(() => member.direct(this.client, this.time)))
  }

  private sendShared(members: Array<Member>, place: Place): void {
    const { options, shared } = this.transaction(members)
    for (const member of members) {
      member.state = "shared"
      member.shared = shared
    }
    // Below the span of one of them, since it has one place in a trace; it links to the others'.
    const first = members.find((member) => member.span?.sampled) ?? members[0]!
    const run = Effect.runForkWith(first.context!)
    Telemetry.batched(this.operation.method, members.length, first.context!)
    const operations = this.operations(members)
    shared.fiber = run(this.client.unary(Rpc.KV.method.txn, { success: operations } as TxnRequest, options))
    shared.fiber.addObserver((exit) => {
      this.settle(members, place, exit as Exit.Exit<Rpc.TxnResponse, EtcdError.EtcdError>)
      // V8 learns to allocate these in the old generation, where they would keep calls that have ended, and what they ask.
      members.length = 0
      for (const { request } of operations) request.value = undefined
    })
  }

  /** Sends it with the latest deadline of its calls; each of them has an eye on its own. */
  private transaction(members: ReadonlyArray<Member>): { readonly shared: Shared; readonly options: Options } {
    const latest = members.reduce((latest, member) => (member.deadlineAt > latest.deadlineAt ? member : latest))
    const left = latest.timeLeft(this.time)
    const limit = left.isTimed || left.millis === Number.POSITIVE_INFINITY ? undefined : left
    const links = linksTo(members)
    const shared: Shared = {
      waiting: members.length,
      fiber: undefined,
      limit,
      doubt: undefined,
      heard: undefined,
      links
    }
    const options = { ...this.options, [Batched]: shared }
    return { shared, options: limit === undefined ? { ...options, deadline: left.millis } : options }
  }

  private operations(members: ReadonlyArray<Member>): ReadonlyArray<Requested> {
    const { request } = this.operation
    return members.map((member) => ({ request: { case: request, value: member.request } }))
  }

  /** Tells everybody who still waits, and then sends what they ask for next. */
  private settle(
    members: ReadonlyArray<Member>,
    place: Place,
    exit: Exit.Exit<Rpc.TxnResponse, EtcdError.EtcdError>
  ): void {
    const outer = this.settling
    this.settling = true
    if (Exit.isSuccess(exit)) this.answer(members, exit.value)
    else {
      const error = Option.getOrUndefined(Exit.findErrorOption(exit))
      if (error === undefined) for (const member of members) this.tell(member, Effect.failCause(exit.cause as never))
      else if (mayHaveOneCulprit(error, this.operation.kind)) this.split(members, error)
      else this.fail(members, error)
    }
    this.settling = outer
    this.freePlace(place)
    this.flush()
  }

  private answer(members: ReadonlyArray<Member>, response: Rpc.TxnResponse): void {
    const messages = answers(this.operation, response, members.length)
    if (messages === undefined) {
      this.fail(members, foreign(this.operation))
      return
    }
    const bytes = valueBytes(messages) / members.length
    this.expected = bytes > this.expected ? bytes : (3 * this.expected + bytes) / 4
    for (let index = 0; index < members.length; index++) {
      this.tell(members[index]!, Effect.succeed(messages[index]!))
    }
  }

  private fail(members: ReadonlyArray<Member>, error: EtcdError.EtcdError): void {
    const failed = Effect.fail(retold(error, this.operation.name))
    const now = this.time.now()
    for (const member of members) {
      this.tell(member, member.ranOut(error, now) ? Effect.fail(member.tooLate(error.reason)) : failed)
    }
  }

  private tell(member: Member, effect: Answer): void {
    this.leave(member)
    if (member.state === "shared") member.settle(effect)
  }

  /** One of them may be to blame, and the others are not to suffer for it: each half goes on its own. */
  private split(members: ReadonlyArray<Member>, error: EtcdError.EtcdError): void {
    this.learn(members, error)
    const waiting: Array<Member> = []
    for (const member of members) {
      if (member.state === "shared") waiting.push(member)
      else this.leave(member)
    }
    const half = Math.ceil(waiting.length / 2)
    if (half > 0) this.send(waiting.slice(0, half))
    if (half < waiting.length) this.send(waiting.slice(half))
  }

  private learn(members: ReadonlyArray<Member>, { reason }: EtcdError.EtcdError): void {
    if (reason._tag === "TooManyOps") {
      this.limits.operations = Math.min(this.limits.operations, Math.ceil(members.length / 2))
    }
    if (reason._tag === "RequestTooLarge") {
      const bytes = members.reduce((sum, member) => sum + member.bytes, 0)
      this.limits.bytes = Math.min(this.limits.bytes, Math.ceil(bytes / 2))
    }
  }
}

/** The spans of those who share a transaction, beside the one that it is below. */
const linksTo = (members: ReadonlyArray<Member>): ReadonlyArray<Tracer.SpanLink> | undefined => {
  let links: Array<Tracer.SpanLink> | undefined
  let isFirst = true
  for (const { span } of members) {
    if (span?.sampled !== true) continue
    if (isFirst) isFirst = false
    else {
      links ??= []
      links.push({ span, attributes: {} })
      if (links.length === Tracing.most) break
    }
  }
  return links
}

const foreign = ({ kind }: Operation): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.ProtocolViolation({
      message: "KV.Txn failed: the answer does not have what the transaction asked for. Is the endpoint etcd?",
      outcome: kind === "read" ? "not-applied" : "unknown",
      method: "KV.Txn"
    })
  )
