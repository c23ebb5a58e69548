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
import * as Keys from "../kv/keys.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import type { Place } from "./batchingLane.ts"

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
}

export class Member {
  readonly operation: Operation
  request: Request
  readonly options: EtcdClient.CallOptions | undefined
  /** How much of a transaction it takes, roughly. */
  readonly bytes: number
  /** What tells calls on the same key, where their order matters. */
  readonly key: string | undefined
  readonly deadlineMillis: number | undefined
  /** Whether its deadline is its own affair, and none that the client sets for the request. */
  readonly isTimed: boolean

  state: State = "new"
  /** Whether another call on the same key is before it. */
  blocked = false
  /** The next call on the same key. */
  next: Member | undefined = undefined
  shared: Shared | undefined = undefined
  context: Context.Context<never> | undefined = undefined
  /** What it takes in the lane, when it was sent alone. */
  place: Place | undefined = undefined
  /** When its time is up, in the client's time; infinity where it has no deadline of its own. */
  deadlineAt = Number.POSITIVE_INFINITY

  private resume: ((effect: Effect.Effect<Message, EtcdError.EtcdError>) => void) | undefined = undefined
  private deadline: Deadline | undefined = undefined

  constructor(
    operation: Operation,
    request: Request,
    options: EtcdClient.CallOptions | undefined,
    bytes: number,
    key: string | undefined,
    deadlineMillis: number | undefined,
    isTimed: boolean
  ) {
    this.operation = operation
    this.request = request
    this.options = options
    this.bytes = bytes
    this.key = key
    this.deadlineMillis = deadlineMillis
    this.isTimed = isTimed
  }

  /** Its caller waits from now on, and may use the arrays of its key and value for something else meanwhile. */
  suspend(
    context: Context.Context<never>,
    now: number,
    resume: (effect: Effect.Effect<Message, EtcdError.EtcdError>) => void
  ): void {
    this.context = context
    this.resume = resume
    this.request = owned(this.request)
    if (this.deadlineMillis === undefined) return
    this.deadlineAt = now + this.deadlineMillis
    this.deadline = new Deadline(this, this.deadlineMillis)
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

  disarm(): void {
    this.deadline?.stop()
    this.deadline = undefined
  }

  /** The call as it is without batching, with the time that is left. */
  direct(client: EtcdClient.Client, now: number): Effect.Effect<Message, EtcdError.EtcdError> {
    const options =
      this.deadlineAt === Number.POSITIVE_INFINITY
        ? this.options
        : { ...this.options, deadline: Math.max(0, this.deadlineAt - now) }
    return client.unary(methods[this.operation.name], this.request, options) as Effect.Effect<
      Message,
      EtcdError.EtcdError
    >
  }

  /** The caller is told; what was sent stays on its way for the other callers. */
  expire(): void {
    this.deadline = undefined
    if (this.state === "waiting" || this.state === "shared") this.resume?.(Effect.fail(this.tooLate()))
  }

  private tooLate(): EtcdError.EtcdError {
    const { kind, name } = this.operation
    const outcome = kind === "write" && this.state === "shared" ? "unknown" : "not-applied"
    const where = this.state === "shared" ? "before the answer came" : "before the request could be sent"
    const doubt = outcome === "unknown" ? " Whether it was applied is unknown." : ""
    const message = `${name} failed: the deadline passed ${where}. Give the call more time, or look at the server's load.${doubt}`
    return EtcdError.make(new EtcdError.DeadlineExceeded({ message, outcome, method: name }))
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
