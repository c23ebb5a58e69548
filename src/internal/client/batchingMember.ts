/**
 * One call that may share a transaction with others, from when it is made until it has ended, and the order in which
 * calls on one key go.
 *
 * @internal
 */
import type { DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import { Deadline } from "../grpc/deadline.ts"
import * as Keys from "../keys.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import type { Place } from "./batchingLane.ts"
import { Batched, type Limit, tooLate } from "./call.ts"

type Call = Effect.Effect<Message, EtcdError.EtcdError>

export type Message = Rpc.RangeResponse | Rpc.PutResponse | Rpc.DeleteRangeResponse

/** A kind of call that a transaction may have as an operation. */
export type Operation =
  | { readonly kind: "read"; readonly name: "KV.Range"; readonly request: "requestRange" }
  | { readonly kind: "write"; readonly name: "KV.Put"; readonly request: "requestPut" }
  | { readonly kind: "write"; readonly name: "KV.DeleteRange"; readonly request: "requestDeleteRange" }

export const get: Operation = { kind: "read", name: "KV.Range", request: "requestRange" }
export const put: Operation = { kind: "write", name: "KV.Put", request: "requestPut" }
export const remove: Operation = { kind: "write", name: "KV.DeleteRange", request: "requestDeleteRange" }

export type Request =
  | MessageInitShape<typeof Rpc.RangeRequestSchema>
  | MessageInitShape<typeof Rpc.PutRequestSchema>
  | MessageInitShape<typeof Rpc.DeleteRangeRequestSchema>

const owned = (request: Request): Request => {
  const key = Keys.copy(request.key!)
  return "value" in request && request.value !== undefined
    ? { ...request, key, value: Keys.copy(request.value) }
    : { ...request, key }
}

export const methods: { readonly [Name in Operation["name"]]: DescMethodUnary } = {
  "KV.Range": Rpc.KV.method.range,
  "KV.Put": Rpc.KV.method.put,
  "KV.DeleteRange": Rpc.KV.method.deleteRange
}

/**
 * - `new`: not begun.
 * - `waiting`: in the queue, or behind another call on its key.
 * - `shared`: sent, in a transaction with others.
 * - `alone`: sent, as the call that it is.
 * - `ended`: answered, failed, or given up by its caller.
 */
export type State = "new" | "waiting" | "shared" | "alone" | "ended"

/** A transaction under way. */
export interface Shared {
  /** How many callers still wait for it. */
  waiting: number
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  readonly limit: Limit | undefined
  /** Tells the client below that somebody has waited in vain. */
  doubt: (() => void) | undefined
  /** How much has come over its connection. */
  heard: (() => number) | undefined
}

/** Timers and the timeouts that servers are told are rounded. */
const toleranceMillis = 2

export class Member {
  readonly operation: Operation
  request: Request
  readonly options: EtcdClient.CallOptions | undefined
  /** How much of a transaction it takes, roughly. */
  readonly bytes: number
  /** What tells calls on the same key, where their order matters. */
  readonly key: string | undefined
  readonly limit: Limit

  state: State = "new"
  /** Whether another call on the same key is before it. */
  blocked = false
  /** The next call on the same key. */
  next: Member | undefined = undefined
  shared: Shared | undefined = undefined
  context: Context.Context<never> | undefined = undefined
  /** What it takes in the lane, when it was sent alone. */
  place: Place | undefined = undefined
  /** When its time is up, in the client's time, once it waits; infinity: never. */
  deadlineAt = Number.POSITIVE_INFINITY
  /** Its neighbours among the calls without a deadline of their own. */
  older: Member | undefined = undefined
  younger: Member | undefined = undefined

  private resume: ((effect: Effect.Effect<Message, EtcdError.EtcdError>) => void) | undefined = undefined
  private deadline: Deadline | undefined = undefined
  private unhurried: Unhurried | undefined = undefined

  constructor(
    operation: Operation,
    request: Request,
    options: EtcdClient.CallOptions | undefined,
    bytes: number,
    key: string | undefined,
    limit: Limit
  ) {
    this.operation = operation
    this.request = request
    this.options = options
    this.bytes = bytes
    this.key = key
    this.limit = limit
  }

  /** Its caller waits from now on, and may use the arrays of its key and value for something else meanwhile. */
  suspend(
    context: Context.Context<never>,
    now: number,
    unhurried: Unhurried,
    resume: (effect: Effect.Effect<Message, EtcdError.EtcdError>) => void
  ): void {
    this.context = context
    this.resume = resume
    this.request = owned(this.request)
    const { isTimed, millis } = this.limit
    if (millis === Number.POSITIVE_INFINITY) return
    this.deadlineAt = now + millis
    if (isTimed) this.deadline = new Deadline(this, millis)
    else {
      this.unhurried = unhurried
      unhurried.add(this)
    }
  }

  /** What is left of the time that it has. */
  timeLeft(time: Time.Time): Limit {
    return { millis: Math.max(0, this.deadlineAt - time.now()), isTimed: this.limit.isTimed }
  }

  /** Whether its answer is to have what was there before. */
  get wantsPrevious(): boolean {
    return "prevKv" in this.request && this.request.prevKv === true
  }

  /** Goes on with its caller. */
  settle(effect: Effect.Effect<Message, EtcdError.EtcdError>): void {
    this.state = "ended"
    this.wake(effect)
  }

  wake(effect: Effect.Effect<Message, EtcdError.EtcdError>): void {
    this.disarm()
    this.resume?.(effect)
  }

  /** Its time is no affair of its own any more. */
  disarm(): void {
    this.deadline?.stop()
    this.deadline = undefined
    this.unhurried?.remove(this)
    this.unhurried = undefined
  }

  /** The call as it is without batching, with the time that is left. */
  direct(client: EtcdClient.Client, time: Time.Time): Call {
    const method = methods[this.operation.name]
    if (this.deadlineAt === Number.POSITIVE_INFINITY) return client.unary(method, this.request, this.options) as Call
    const left = this.timeLeft(time)
    const options = left.isTimed
      ? { ...this.options, deadline: left.millis }
      : { ...this.options, [Batched]: { limit: left, doubt: undefined, heard: undefined } }
    return Effect.mapError(client.unary(method, this.request, options) as Call, (error) =>
      this.ranOut(error, time.now()) ? this.tooLate(error.reason) : error
    )
  }

  get bytesHeard(): number | undefined {
    return this.shared?.heard?.()
  }

  /** The caller is told; what was sent stays on its way for the other callers. */
  expire(): void {
    this.disarm()
    const { state } = this
    if (state !== "waiting" && state !== "shared") return
    if (state === "shared") this.shared?.doubt?.()
    this.resume?.(Effect.fail(this.tooLate(undefined)))
  }

  isDue(now: number): boolean {
    return now >= this.deadlineAt - toleranceMillis
  }

  /** Whether its request failed because its time is up: of how much there was, the request knows only a part. */
  ranOut({ reason }: EtcdError.EtcdError, now: number): boolean {
    return reason._tag === "DeadlineExceeded" && this.isDue(now)
  }

  /** What a caller is told whose time is up, with what is known of the request that it shared. */
  tooLate(request: EtcdError.Reason | undefined): EtcdError.EtcdError {
    const { kind, name } = this.operation
    const wasSent = request === undefined ? this.state === "shared" : kind === "read" || request.outcome === "unknown"
    const outcome = kind === "write" && wasSent ? "unknown" : "not-applied"
    const endpoint = request?.endpoint
    const where = endpoint === undefined ? name : `${name} at ${endpoint}`
    const doubt = outcome === "unknown" ? " Whether it was applied is unknown." : ""
    const message = `${where} failed: ${tooLate(this.limit, wasSent, "")}. Give the call more time, or look at the server's load.${doubt}`
    const details = { message, outcome, method: name } as const
    return EtcdError.make(new EtcdError.DeadlineExceeded(endpoint === undefined ? details : { ...details, endpoint }))
  }
}

/**
 * The calls whose callers have set no deadline, the oldest first. All of them may take the same time, so that one timer
 * does for them.
 */
export class Unhurried {
  private readonly time: Time.Time
  private first: Member | undefined = undefined
  private last: Member | undefined = undefined
  private isTiming = false

  constructor(time: Time.Time) {
    this.time = time
  }

  add(member: Member): void {
    member.older = this.last
    if (this.last === undefined) this.first = member
    else this.last.younger = member
    this.last = member
    this.wait()
  }

  /** What it pointed to is let go of, since it may be kept by somebody who is old. */
  remove(member: Member): void {
    const { older, younger } = member
    if (older === undefined) this.first = younger
    else older.younger = younger
    if (younger === undefined) this.last = older
    else younger.older = older
    member.older = undefined
    member.younger = undefined
  }

  private wait(): void {
    if (this.isTiming || this.first === undefined) return
    this.isTiming = true
    Time.patience(Math.max(0, this.first.deadlineAt - this.time.now()), () => {
      this.isTiming = false
      const now = this.time.now()
      while (this.first?.isDue(now) === true) this.first.expire()
      this.wait()
    })
  }
}

/** So many keys without calls are not worth a sweep. */
const fewestIdle = 4096

/**
 * Calls on one key go one after the other, in the order they came: etcd takes up requests that are under way at the
 * same time in any order, and refuses a transaction that writes a key twice.
 *
 * Keys are forgotten many at a time, into a new map. (A map whose entries come and go keeps the garbage collector from
 * letting go of what it held, as `StreamTable` of the HTTP/2 client explains.)
 */
export class KeyOrder {
  /** The last call on each key that has calls, and nothing for keys that had some. */
  private last = new Map<string, Member | undefined>()
  /** How often keys ran out of calls since the last sweep. */
  private idle = 0

  isFree(key: string | undefined): boolean {
    return key === undefined || this.last.get(key) === undefined
  }

  /** Whether the call may go now. Otherwise `leave` answers with it when it may. */
  enter(member: Member): boolean {
    if (member.key === undefined) return true
    const before = this.last.get(member.key)
    this.last.set(member.key, member)
    if (before === undefined) return true
    before.next = member
    member.blocked = true
    return false
  }

  /** The call has ended. The next one on its key, if there is one, may go. */
  leave(member: Member): Member | undefined {
    if (member.key === undefined) return undefined
    let next = member.next
    while (next !== undefined && next.state === "ended") next = next.next
    member.next = undefined
    if (next !== undefined) next.blocked = false
    else this.retire(member.key)
    return next
  }

  private retire(key: string): void {
    this.last.set(key, undefined)
    if (++this.idle < fewestIdle || this.idle < this.last.size / 2) return
    this.idle = 0
    this.last = new Map([...this.last].filter(([, member]) => member !== undefined))
  }
}
