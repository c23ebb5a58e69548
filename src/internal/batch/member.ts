/**
 * One call that may share a transaction with others, from when it is made until it has ended.
 *
 * @internal
 */
import type { DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Tracer from "effect/Tracer"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { Batched } from "../client/batched.ts"
import { deadlineExceeded, type Limit } from "../client/limit.ts"
import { Deadline } from "../grpc/Deadline.ts"
import * as Keys from "../keys.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import type * as Time from "../time.ts"
import type { Place } from "./queue.ts"
import type { Unhurried } from "./unhurried.ts"

export type Message = Rpc.RangeResponse | Rpc.PutResponse | Rpc.DeleteRangeResponse

/** What its caller waits for. */
export type Answer = Effect.Effect<Message, EtcdError.EtcdError>

interface Named {
  /** `etcdserverpb.KV/Put` */
  readonly method: string
  /** What the program has called. */
  readonly called: string
}

/** A kind of call that a transaction may have as an operation. */
export type Operation =
  | (Named & { readonly kind: "read"; readonly name: "KV.Range"; readonly request: "requestRange" })
  | (Named & { readonly kind: "write"; readonly name: "KV.Put"; readonly request: "requestPut" })
  | (Named & { readonly kind: "write"; readonly name: "KV.DeleteRange"; readonly request: "requestDeleteRange" })

export const get: Operation = {
  kind: "read",
  name: "KV.Range",
  method: "etcdserverpb.KV/Range",
  called: "EtcdKv.get",
  request: "requestRange"
}
export const put: Operation = {
  kind: "write",
  name: "KV.Put",
  method: "etcdserverpb.KV/Put",
  called: "EtcdKv.put",
  request: "requestPut"
}
export const remove: Operation = {
  kind: "write",
  name: "KV.DeleteRange",
  method: "etcdserverpb.KV/DeleteRange",
  called: "EtcdKv.delete",
  request: "requestDeleteRange"
}

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
  readonly links: ReadonlyArray<Tracer.SpanLink> | undefined
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
  /** The span of its caller's waiting, if somebody would see it. */
  span: Tracer.AnySpan | undefined = undefined
  /** What it takes in its queue, when it was sent alone. */
  place: Place | undefined = undefined
  /** When its time is up, in the client's time, once it waits; infinity: never. */
  deadlineAt = Number.POSITIVE_INFINITY
  /** Its neighbours among the calls without a deadline of their own. */
  older: Member | undefined = undefined
  younger: Member | undefined = undefined

  private resume: ((effect: Answer) => void) | undefined = undefined
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
  suspend(context: Context.Context<never>, now: number, unhurried: Unhurried, resume: (effect: Answer) => void): void {
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
  settle(effect: Answer): void {
    this.state = "ended"
    this.wake(effect)
  }

  wake(effect: Answer): void {
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
  direct(client: EtcdClient.Client, time: Time.Time): Answer {
    const method = methods[this.operation.name]
    if (this.deadlineAt === Number.POSITIVE_INFINITY) return client.unary(method, this.request, this.options) as Answer
    const left = this.timeLeft(time)
    const options = left.isTimed
      ? { ...this.options, deadline: left.millis }
      : { ...this.options, [Batched]: { limit: left, doubt: undefined, heard: undefined } }
    return Effect.mapError(client.unary(method, this.request, options) as Answer, (error) =>
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
    return deadlineExceeded(this.limit, { method: name, endpoint: request?.endpoint, outcome, wasSent })
  }
}
