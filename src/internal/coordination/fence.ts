/**
 * The fence of a lock: what is written under it is written by etcd only while the lock is held.
 *
 * Each put, delete and writing transaction is sent as a transaction which has it as its only operation, under the
 * condition that the key that marks the holder is still the one that it was. So the writes of a holder who has lost the
 * lock, whether it knows or not, cannot come to pass, however late they arrive. The answer is taken out of that of the
 * transaction again. It is done below all namespaces, where keys are what they are in etcd, and above everything that
 * says when and where a call is sent, for all that the fiber of the work writes and those that it forks (`Origin.Detour`),
 * and for what others write with the services that the work was given. A client of somebody else's making that has its calls
 * made by other fibers has to give those the context of who calls, as for spans.
 *
 * Another client goes to the same etcd if it has an endpoint in common with the one of the lock, or has had one, since a
 * client stays with its cluster when its endpoints change (`memberRefresh`, a `Stream`). Two clients that name different
 * members of a cluster are not known to: to the wire they are what two clusters with equal names would be. That a client
 * of somebody else's making, where the session is over one, leaves keys as they are is taken for granted.
 *
 * What tells it from a plain call:
 *
 * - A server counts the comparisons of a fence, at least one for each, towards what a transaction may have
 *   (`--max-txn-ops`).
 * - Servers up to 3.5.30 do not ask whether there is space for what a transaction within another one puts: where the store
 *   is full they refuse puts under a lock, and not transactions, nor puts under two locks.
 * - Nor do servers without the fixes of GHSA-rfx7-8w68-q57q and GHSA-x35m-3gp4-4fh5 ask whether the user may do what such a
 *   transaction does, nor whether a put in a transaction may read the value before, or attach the lease.
 * - A put that is to keep the value of a key that is not there, and names a lease that is not there either, fails because of
 *   the key and not of the lease, as in any transaction.
 * - A user needs the permission to read the key that marks the holder.
 * - Puts and deletes are not batched, nor are those that turn out to go to another etcd.
 *
 * @internal
 */
import type { DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { memoize } from "effect/Function"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as Origin from "../client/origin.ts"
import * as Reasons from "../client/reasons.ts"
import { kindOf, methodOf } from "../client/rpcs.ts"
import * as Comparisons from "../kv/comparisons.ts"
import * as Namespace from "../kv/namespace.ts"
import { answers } from "../kv/txnCheck.ts"
import * as Rpc from "../proto/rpc_pb.ts"

export interface Fence {
  /** What has to hold for a write to land, with keys as they are in etcd. */
  readonly compares: ReadonlyArray<Comparisons.Request>
  /** Where those keys are: what goes to another etcd is left alone. */
  readonly root: EtcdClient.Client
  /** A write was refused. It is called before whoever wrote is told. */
  readonly onFenced: () => void
}

/** The comparisons of a client as they are below its namespaces. */
export const below = (client: EtcdClient.Client, compare: EtcdTxn.Compare): ReadonlyArray<Comparisons.Request> => {
  const namespace = Namespace.make(Origin.of(client).prefix)
  return Comparisons.requestsOf(compare).map((request) => Namespace.enterRange(namespace, request))
}

type RequestOp = MessageInitShape<typeof Rpc.RequestOpSchema>

/** What is no transaction is for the client to refuse. */
const isWrite = (request: Rpc.TxnRequest): boolean =>
  Result.getOrElse(
    Result.try(() => kindOf(methodOf(Rpc.KV.method.txn), request) === "write"),
    () => false
  )

/** A write as an operation of a transaction. */
const operationOf = ({ name }: DescMethod, request: unknown): RequestOp | undefined => {
  switch (name) {
    case Rpc.KV.method.put.name:
      return { request: { case: "requestPut", value: request as Rpc.PutRequest } }
    case Rpc.KV.method.deleteRange.name:
      return { request: { case: "requestDeleteRange", value: request as Rpc.DeleteRangeRequest } }
    case Rpc.KV.method.txn.name:
      return isWrite(request as Rpc.TxnRequest)
        ? { request: { case: "requestTxn", value: request as Rpc.TxnRequest } }
        : undefined
    default:
      return undefined
  }
}

const fenced = (method: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.Fenced({
      message:
        `${method} was refused, and nothing of it was written: the lock that it was made under is not held any more. ` +
        "Acquire the lock again, and look at what others have done meanwhile, before writing.",
      outcome: "not-applied",
      method
    })
  )

const noAnswer = (method: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.ProtocolViolation({
      message:
        `The answer to ${method} under a lock is not that of the transaction that was sent. Is there something between ` +
        "client and server that changes what they send? Whether it was applied is unknown.",
      outcome: "unknown",
      method
    })
  )

/** How many of the operations that a server takes the fence needs. */
const sizeOf = ({ compares }: Fence): number => Math.max(1, compares.length)

/** The failure of the transaction as one of the call that is in it. */
const retold = (error: EtcdError.EtcdError, method: string, fence: Fence): EtcdError.EtcdError => {
  const { reason } = error
  const message = reason.message.replace("KV.Txn", method)
  const size = reason._tag === "TooManyOps" ? { fence: (reason.fence ?? 0) + sizeOf(fence) } : {}
  return Reasons.retold(error, { ...size, message, method })
}

/** The answer to the operation, as it is to the call: in a transaction it has no header but the revision. */
const answerOf = (operation: RequestOp, response: Rpc.TxnResponse): object | undefined => {
  const answer = response.responses[0]?.response
  const due = operation.request?.case
  if (due === undefined || answer === undefined || answer.case !== answers[due] || response.responses.length !== 1) {
    return undefined
  }
  answer.value.header = response.header
  return answer.value
}

const behind =
  (fence: Fence) =>
  (unary: EtcdClient.Client["unary"]): EtcdClient.Client["unary"] =>
  (method, request, options) =>
    // What is asked for is what there is when it is sent.
    Effect.suspend(() => {
      const operation = operationOf(method, request)
      if (operation === undefined) return unary(method, request, options)
      const { name } = methodOf(method)
      const txn = { compare: [...fence.compares], success: [operation], failure: [] }
      return unary(Rpc.KV.method.txn, txn, options).pipe(
        Effect.mapError((error) => retold(error, name, fence)),
        Effect.flatMap((response): Effect.Effect<MessageShape<typeof method.output>, EtcdError.EtcdError> => {
          if (!response.succeeded) {
            fence.onFenced()
            return Effect.fail(fenced(name))
          }
          const answer = answerOf(operation, response)
          return answer === undefined
            ? Effect.fail(noAnswer(name))
            : Effect.succeed(answer as MessageShape<typeof method.output>)
        })
      )
    })

/** Whether two clients have an endpoint in common, or have had one: then they talk to the same etcd. */
const meet = (one: EtcdClient.Client, other: EtcdClient.Client): Effect.Effect<boolean> =>
  Effect.zipWith(Origin.addressesOf(one), Origin.addressesOf(other), (some, others) =>
    [...some].some((endpoint) => others.has(endpoint))
  )

/** The same for what turns out to go to where the fence is. */
const behindIfThere =
  (fence: Fence, root: EtcdClient.Client) =>
  (unary: EtcdClient.Client["unary"]): EtcdClient.Client["unary"] => {
    const fenced = behind(fence)(unary)
    return (method, request, options) =>
      Effect.flatMap(meet(root, fence.root), (isThere) =>
        isThere ? fenced(method, request, options) : unary(method, request, options)
      )
  }

/** What becomes of what is written behind a fence, if it may go to where that is. */
export const detour = memoize(
  (fence: Fence): Origin.Detour =>
    ({ isMade, root }) => {
      if (root === fence.root) return behind(fence)
      return isMade ? behindIfThere(fence, root) : undefined
    }
)

/** A client that writes only while the fence holds, if it goes to where that is. */
export const client = (self: EtcdClient.Client, fence: Fence): EtcdClient.Client => {
  const grounded = Origin.ground(self)
  return {
    ...grounded,
    unary: (method, request, options) => {
      const call = grounded.unary(method, request, options)
      return Origin.mayWrite(method) ? Origin.detoured(call, detour(fence)) : call
    }
  }
}

/** What of {@link EtcdKv} may write: all that is not named here, so that something new does not compile unnoticed. */
type Writes = Omit<EtcdKv.Service, "get" | "getString" | "range" | "stream" | "compact">

const kv = (self: EtcdKv.Service, fence: Fence): EtcdKv.Service => {
  const writes: Writes = {
    put: (key, value, options) => Origin.detoured(self.put(key, value, options), detour(fence)),
    delete: (range, options) => Origin.detoured(self.delete(range, options), detour(fence)),
    deletePrefix: (prefix, options) => Origin.detoured(self.deletePrefix(prefix, options), detour(fence))
  }
  return { ...self, ...writes }
}

const txn = (self: EtcdTxn.Service, fence: Fence): EtcdTxn.Service => {
  const writes: EtcdTxn.Service = { commit: (op, options) => Origin.detoured(self.commit(op, options), detour(fence)) }
  return { ...self, ...writes }
}

/**
 * A context in which what is written lands only while the fence holds. Its client, and the services of it that write keys,
 * bring the fence along, for those who use them in a fiber that does not have it, such as one that a callback runs.
 */
export const services = <R>(context: Context.Context<R>, fence: Fence): Context.Context<R> => {
  const over = <I, S>(all: Context.Context<R>, key: Context.Key<I, S>, wrap: (self: S, fence: Fence) => S) =>
    Option.match(Context.getOption(all, key), {
      onNone: () => all,
      onSome: (service) => Context.add(all, key, wrap(service, fence)) as Context.Context<R>
    })
  const withClient = over(Origin.withDetour(context, detour(fence)), EtcdClient.EtcdClient, client)
  return over(over(withClient, EtcdKv.EtcdKv, kv), EtcdTxn.EtcdTxn, txn)
}
