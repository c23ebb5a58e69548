/**
 * A client whose calls on single keys share transactions.
 *
 * Only calls that a transaction answers as they would be answered alone take part: gets, puts and deletes of one key
 * that do not choose their endpoint, their metadata or their retries, and, if they write, are not fenced. Everything else
 * goes through as it is.
 *
 * There is a queue for each kind of call: linearizable and serializable gets, of now and of a revision given, puts, and
 * deletes. A transaction never mixes queues: a get of a revision that is compacted fails the whole transaction; a
 * transaction is serializable only if all its gets are (`IsTxnSerializable` in etcd's `server/etcdserver/txn/txn.go`);
 * and where the space is used up, a delete is taken and a put is not.
 *
 * @internal
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { MessageLimit } from "../client/batched.ts"
import { limitOf } from "../client/limit.ts"
import { goesAlone } from "../client/origin.ts"
import * as Keys from "../keys.ts"
import * as Options from "../options.ts"
import * as Rpc from "../proto/rpc_pb.ts"
import * as Time from "../time.ts"
import { KeyOrder } from "./keyOrder.ts"
import { type Answer, get, Member, methods, type Operation, put, type Request, remove } from "./member.ts"
import { type Limits, Queue } from "./queue.ts"
import { Unhurried } from "./unhurried.ts"

/** etcd's own default for `--max-txn-ops`. */
const defaultOperations = 128

/** etcd's own default for `--max-request-bytes`. */
const largestValue = 1.5 * 1024 * 1024

/** It, less what the transaction and the proposal around it take. */
const defaultBytes = largestValue - 16 * 1024

const defaultInFlight = 4

/** What an operation takes in a transaction besides its key and its value, at most. */
const overhead = 64

const bounded = (limit: number): number => Math.min(limit, Number.MAX_SAFE_INTEGER)

/**
 * How many calls in a transaction may want what was there before. That may be as large as a request for each, and a write
 * whose answer is too large to be read has been applied all the same.
 */
const previousOf = (client: EtcdClient.Client & MessageLimit): number =>
  Math.max(1, Math.floor((client[MessageLimit] ?? Number.MAX_SAFE_INTEGER) / largestValue))

const limitsOf = (
  client: EtcdClient.Client,
  { maxBytes, maxInFlight, maxOperations }: EtcdClient.BatchingOptions
): Limits => ({
  operations: bounded(maxOperations ?? defaultOperations),
  bytes: bounded(Options.bytesOf(maxBytes) ?? defaultBytes),
  previous: previousOf(client),
  inFlight: bounded(maxInFlight ?? defaultInFlight)
})

/** Of one key. What is no request is for the client to refuse. */
const isSingle = (request: { readonly key?: Uint8Array; readonly rangeEnd?: Uint8Array }): boolean =>
  request.key instanceof Uint8Array &&
  request.key.length > 0 &&
  (request.rangeEnd === undefined || request.rangeEnd.length === 0)

/** Who chooses more than how long the call may take wants a call of its own. */
const isPlain = (options: EtcdClient.CallOptions | undefined, requireLeader: boolean): boolean =>
  options === undefined ||
  (options.endpoint === undefined &&
    options.metadata === undefined &&
    options.retry === undefined &&
    (options.requireLeader === undefined || options.requireLeader === requireLeader))

type Queues = { readonly [name in "get" | "getStale" | "getAt" | "getStaleAt" | "put" | "remove"]: Queue }

const makeQueues = (client: EtcdClient.Client, limits: Limits, order: KeyOrder, time: Time.Time): Queues => {
  const unhurried = new Unhurried(time)
  const admit = (member: Member): void => {
    const queue = member.operation === put ? queues.put : queues.remove
    queue.push(member)
    queue.flush()
  }
  const queue = (operation: Operation, options: EtcdClient.CallOptions = {}) =>
    new Queue(client, operation, limits, order, unhurried, options, time, admit)
  const stale = { requireLeader: false }
  const queues = {
    get: queue(get),
    getStale: queue(get, stale),
    getAt: queue(get),
    getStaleAt: queue(get, stale),
    put: queue(put),
    remove: queue(remove)
  }
  return queues
}

const getQueue = (queues: Queues, request: MessageInitShape<typeof Rpc.RangeRequestSchema>): Queue => {
  const isNow = request.revision === undefined || request.revision === 0n
  if (request.serializable === true) return isNow ? queues.getStale : queues.getStaleAt
  return isNow ? queues.get : queues.getAt
}

const wrap = (client: EtcdClient.Client, limits: Limits, time: Time.Time): EtcdClient.Client => {
  const order = new KeyOrder()
  const queues = makeQueues(client, limits, order, time)
  const usual = limitOf(client.defaults("KV").deadline)

  const share = (
    queue: Queue,
    operation: Operation,
    request: Request,
    options: EtcdClient.CallOptions | undefined,
    bytes: number,
    key: Uint8Array | undefined
  ) => {
    // What is no deadline is for the client to refuse.
    if (options?.deadline !== undefined && !Options.deadline.accepts(options.deadline)) return undefined
    const limit = options?.deadline === undefined ? usual : limitOf(options.deadline)
    return Effect.withFiber((fiber) => {
      if (operation.kind === "write" && goesAlone(fiber)) {
        return client.unary(methods[operation.name], request, options) as Answer
      }
      const sameKey = key === undefined ? undefined : Keys.nameOf(key)
      return queue.call(new Member(operation, request, options, bytes, sameKey, limit))
    })
  }

  /** The call as one of a queue, if it may be one. */
  const shared = (method: DescMethodUnary, message: unknown, options: EtcdClient.CallOptions | undefined) => {
    switch (method) {
      case Rpc.KV.method.range: {
        const request = message as MessageInitShape<typeof Rpc.RangeRequestSchema>
        if (!isSingle(request) || !isPlain(options, request.serializable !== true)) return undefined
        return share(getQueue(queues, request), get, request, options, request.key!.length + overhead, undefined)
      }
      case Rpc.KV.method.put: {
        const request = message as MessageInitShape<typeof Rpc.PutRequestSchema>
        const { value } = request
        if (!isSingle(request) || !isPlain(options, true)) return undefined
        if (value !== undefined && !(value instanceof Uint8Array)) return undefined
        const bytes = request.key!.length + (value?.length ?? 0) + overhead
        return share(queues.put, put, request, options, bytes, request.key)
      }
      case Rpc.KV.method.deleteRange: {
        const request = message as MessageInitShape<typeof Rpc.DeleteRangeRequestSchema>
        if (!isSingle(request) || !isPlain(options, true)) return undefined
        return share(queues.remove, remove, request, options, request.key!.length + overhead, request.key)
      }
      default:
        return undefined
    }
  }

  return {
    ...client,
    unary: <I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      request: MessageInitShape<I>,
      options?: EtcdClient.CallOptions | undefined
    ) =>
      (shared(method, request, options) as Effect.Effect<MessageShape<O>, EtcdError.EtcdError> | undefined) ??
      client.unary(method, request, options)
  }
}

/** The client with batching. */
export const make = (
  client: EtcdClient.Client,
  options: EtcdClient.BatchingOptions
): Effect.Effect<EtcdClient.Client, EtcdError.EtcdError> =>
  Effect.suspend(() => {
    const problem = Options.problemOf("EtcdBatch", Options.ofBatching, options)
    return problem === undefined
      ? Effect.map(Time.Time, (time) => wrap(client, limitsOf(client, options), time))
      : Effect.fail(Options.invalid(problem))
  })
