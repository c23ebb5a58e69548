/**
 * Moves the keys in requests into a namespace, and those in answers out of it again.
 *
 * A table says where each RPC has keys; what is not in it has none. Requests are copied, because they are the caller's.
 * Answers are changed in place: they have just been decoded, nobody else has them, and there may be many keys in them.
 *
 * @internal
 */
import type { MessageInitShape } from "@bufbuild/protobuf"
import * as KeyRange from "../../KeyRange.ts"
import * as Keys from "../keys.ts"
import type * as Auth from "../proto/auth_pb.ts"
import * as Election from "../proto/election_pb.ts"
import type * as Kv from "../proto/kv_pb.ts"
import * as Lock from "../proto/lock_pb.ts"
import * as Rpc from "../proto/rpc_pb.ts"

type RequestOp = MessageInitShape<typeof Rpc.RequestOpSchema>
type TxnRequest = MessageInitShape<typeof Rpc.TxnRequestSchema>
type WatchRequest = MessageInitShape<typeof Rpc.WatchRequestSchema>
type LeaderKey = MessageInitShape<typeof Election.LeaderKeySchema>

interface Keyed {
  readonly key?: Uint8Array
}

interface Ranged extends Keyed {
  readonly rangeEnd?: Uint8Array
}

/** The keys of one namespace. */
export interface Namespace {
  readonly prefix: Uint8Array
  /** The first key after the namespace. */
  readonly end: Uint8Array
}

export const make = (prefix: Uint8Array): Namespace => ({ prefix, end: KeyRange.prefixEnd(prefix) })

const empty = new Uint8Array(0)
const zero = new Uint8Array(1)

const enter = ({ prefix }: Namespace, key: Uint8Array | undefined): Uint8Array => Keys.concat(prefix, key ?? empty)

const leave = ({ prefix }: Namespace, key: Uint8Array): Uint8Array => key.subarray(prefix.length)

const enterEnd = (namespace: Namespace, end: Uint8Array | undefined): Uint8Array => {
  if (end === undefined || end.length === 0) return empty
  return Keys.isUnbounded(end) ? namespace.end : enter(namespace, end)
}

const enterKey = <A extends Keyed>(namespace: Namespace, request: A): A => ({
  ...request,
  key: enter(namespace, request.key)
})

/** The request with its key or range in the namespace. */
export const enterRange = <A extends Ranged>(namespace: Namespace, request: A): A => ({
  ...request,
  key: enter(namespace, request.key),
  rangeEnd: enterEnd(namespace, request.rangeEnd)
})

const enterOperation = (namespace: Namespace, operation: RequestOp): RequestOp => {
  const request = operation.request
  switch (request?.case) {
    case "requestRange":
      return { request: { case: request.case, value: enterRange(namespace, request.value) } }
    case "requestPut":
      return { request: { case: request.case, value: enterKey(namespace, request.value) } }
    case "requestDeleteRange":
      return { request: { case: request.case, value: enterRange(namespace, request.value) } }
    case "requestTxn":
      return { request: { case: request.case, value: enterTxn(namespace, request.value) } }
    default:
      return operation
  }
}

const enterTxn = (namespace: Namespace, request: TxnRequest): TxnRequest => ({
  compare: (request.compare ?? []).map((compare) => enterRange(namespace, compare)),
  success: (request.success ?? []).map((operation) => enterOperation(namespace, operation)),
  failure: (request.failure ?? []).map((operation) => enterOperation(namespace, operation))
})

/** To a watch, and to it alone, the empty key is the first one: see `Watch` in `server/etcdserver/api/v3rpc/watch.go`. */
const enterWatch = (namespace: Namespace, request: WatchRequest): WatchRequest => {
  const union = request.requestUnion
  if (union?.case !== "createRequest") return request
  const key = union.value.key ?? empty
  const value = enterRange(namespace, { ...union.value, key: key.length === 0 ? zero : key })
  return { requestUnion: { case: union.case, value } }
}

const enterLeader = (namespace: Namespace, leader: LeaderKey | undefined): { leader?: LeaderKey } =>
  leader === undefined
    ? {}
    : { leader: { ...leader, name: enter(namespace, leader.name), key: enter(namespace, leader.key) } }

const leaveKey = (namespace: Namespace, message: { key: Uint8Array } | undefined): void => {
  if (message !== undefined) message.key = leave(namespace, message.key)
}

const leaveKeys = (namespace: Namespace, kvs: ReadonlyArray<Kv.KeyValue>): void => {
  for (const kv of kvs) kv.key = leave(namespace, kv.key)
}

const leaveOperation = (namespace: Namespace, { response }: Rpc.ResponseOp): void => {
  if (response.case === "responseRange") leaveKeys(namespace, response.value.kvs)
  else if (response.case === "responsePut") leaveKey(namespace, response.value.prevKv)
  else if (response.case === "responseDeleteRange") leaveKeys(namespace, response.value.prevKvs)
  else if (response.case === "responseTxn") leaveTxn(namespace, response.value)
}

const leaveTxn = (namespace: Namespace, response: Rpc.TxnResponse): void => {
  for (const operation of response.responses) leaveOperation(namespace, operation)
}

const leaveEvents = (namespace: Namespace, response: Rpc.WatchResponse): void => {
  for (const event of response.events) {
    leaveKey(namespace, event.kv)
    leaveKey(namespace, event.prevKv)
  }
}

const contains = ({ prefix }: Namespace, key: Uint8Array): boolean =>
  key.length > prefix.length && Keys.startsWith(key, prefix)

/** What a range has of the namespace, as a range inside of it. */
const clip = (namespace: Namespace, key: Uint8Array, end: Uint8Array): Required<Ranged> | undefined => {
  const { prefix } = namespace
  if (end.length === 0) {
    return contains(namespace, key) ? { key: leave(namespace, key), rangeEnd: end } : undefined
  }
  const open = Keys.isUnbounded(end) || (!Keys.isUnbounded(namespace.end) && Keys.compare(end, namespace.end) >= 0)
  const whole = Keys.compare(key, prefix) <= 0
  if (!whole && !contains(namespace, key)) return undefined
  if (!open && !contains(namespace, end)) return undefined
  const first = whole ? zero : leave(namespace, key)
  if (open) return { key: first, rangeEnd: zero }
  const last = leave(namespace, end)
  return Keys.compare(first, last) < 0 ? { key: first, rangeEnd: last } : undefined
}

/** Of the permissions of a role, those on keys of the namespace. */
const leavePermissions = (namespace: Namespace, response: Rpc.AuthRoleGetResponse): void => {
  response.perm = response.perm.flatMap((permission): Array<Auth.Permission> => {
    const clipped = clip(namespace, permission.key, permission.rangeEnd)
    return clipped === undefined ? [] : [{ ...permission, ...clipped }]
  })
}

const enterPermission = (
  namespace: Namespace,
  request: MessageInitShape<typeof Rpc.AuthRoleGrantPermissionRequestSchema>
) => (request.perm === undefined ? request : { ...request, perm: enterRange(namespace, request.perm) })

const keyless = (message: Keyed | undefined): boolean => message !== undefined && (message.key ?? empty).length === 0

const operationKeyless = (operation: RequestOp): boolean => {
  const request = operation.request
  if (request?.case === undefined) return false
  return request.case === "requestTxn" ? txnKeyless(request.value) : keyless(request.value)
}

const txnKeyless = (request: TxnRequest): boolean =>
  (request.compare ?? []).some(keyless) ||
  (request.success ?? []).some(operationKeyless) ||
  (request.failure ?? []).some(operationKeyless)

const leaderKeyless = (request: { readonly leader?: LeaderKey }): boolean => keyless(request.leader)

/** How the messages of an RPC are changed. */
export interface Rewrite {
  /** Whether a request lacks a key that etcd would ask for, and would no longer miss once there is a prefix. */
  readonly isKeyless?: (request: any) => boolean
  readonly request?: (namespace: Namespace, request: any) => any
  readonly response?: (namespace: Namespace, response: any) => void
}

const enterName = (namespace: Namespace, request: { readonly name?: Uint8Array }) => ({
  ...request,
  name: enter(namespace, request.name)
})

const leaveRange = (namespace: Namespace, response: Rpc.RangeResponse | undefined): void => {
  if (response !== undefined) leaveKeys(namespace, response.kvs)
}

const leaveLeader = (namespace: Namespace, { leader }: Election.CampaignResponse): void => {
  if (leader === undefined) return
  leader.name = leave(namespace, leader.name)
  leader.key = leave(namespace, leader.key)
}

const enterLeaderOf = (namespace: Namespace, request: { readonly leader?: LeaderKey }) => ({
  ...request,
  ...enterLeader(namespace, request.leader)
})

const leaveLeaderValue = (namespace: Namespace, response: Election.LeaderResponse): void =>
  leaveKey(namespace, response.kv)

const { range, rangeStream, put, deleteRange, txn } = Rpc.KV.method
const { roleGrantPermission, roleRevokePermission, roleGet } = Rpc.Auth.method
const { campaign, proclaim, leader, observe, resign } = Election.Election.method

interface Method {
  readonly name: string
  readonly parent: { readonly typeName: string }
}

const nameOf = (method: Method): string => `${method.parent.typeName}/${method.name}`

const entry = (method: Method, rewrite: Rewrite): readonly [string, Rewrite] => [nameOf(method), rewrite]

/** Every RPC that carries keys. */
const rewrites: ReadonlyMap<string, Rewrite> = new Map([
  entry(range, { isKeyless: keyless, request: enterRange, response: leaveRange }),
  entry(rangeStream, {
    isKeyless: keyless,
    request: enterRange,
    response: (namespace, response: Rpc.RangeStreamResponse) => leaveRange(namespace, response.rangeResponse)
  }),
  entry(put, {
    isKeyless: keyless,
    request: enterKey,
    response: (namespace, response: Rpc.PutResponse) => leaveKey(namespace, response.prevKv)
  }),
  entry(deleteRange, {
    isKeyless: keyless,
    request: enterRange,
    response: (namespace, response: Rpc.DeleteRangeResponse) => leaveKeys(namespace, response.prevKvs)
  }),
  entry(txn, { isKeyless: txnKeyless, request: enterTxn, response: leaveTxn }),
  entry(Rpc.Watch.method.watch, { request: enterWatch, response: leaveEvents }),
  entry(Rpc.Lease.method.leaseTimeToLive, {
    response: (namespace, response: Rpc.LeaseTimeToLiveResponse) => {
      response.keys = response.keys.filter((key) => contains(namespace, key)).map((key) => leave(namespace, key))
    }
  }),
  entry(roleGrantPermission, { isKeyless: (request) => keyless(request.perm), request: enterPermission }),
  entry(roleRevokePermission, { isKeyless: keyless, request: enterRange }),
  entry(roleGet, { response: leavePermissions }),
  entry(Lock.Lock.method.lock, { request: enterName, response: leaveKey }),
  entry(Lock.Lock.method.unlock, { isKeyless: keyless, request: enterKey }),
  entry(campaign, { request: enterName, response: leaveLeader }),
  entry(proclaim, { isKeyless: leaderKeyless, request: enterLeaderOf }),
  entry(leader, { request: enterName, response: leaveLeaderValue }),
  entry(observe, { request: enterName, response: leaveLeaderValue }),
  entry(resign, { isKeyless: leaderKeyless, request: enterLeaderOf })
])

export const rewriteOf = (method: Method): Rewrite | undefined => rewrites.get(nameOf(method))
