/**
 * Moves the keys in requests into a namespace, and those in answers out of it again.
 *
 * A table for each service says where the messages of its RPCs have keys. It does not compile where one is left out.
 * Requests are copied, because they are the caller's. Answers are changed in place: they have just been decoded, nobody
 * else has them, and there may be many keys in them.
 *
 * @internal
 */
import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf"
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

interface Led {
  readonly leader?: LeaderKey | undefined
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
    case undefined:
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
  { name = "", perm }: MessageInitShape<typeof Rpc.AuthRoleGrantPermissionRequestSchema>
) => (perm === undefined ? { name } : { name, perm: enterRange(namespace, perm) })

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

const leaderKeyless = ({ leader }: Led): boolean => keyless(leader)

const enterName = <A extends { readonly name?: Uint8Array }>(namespace: Namespace, request: A): A => ({
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

const enterLeader = <A extends Led>(namespace: Namespace, request: A): A => {
  const { leader } = request
  return leader === undefined
    ? request
    : { ...request, leader: { ...leader, name: enter(namespace, leader.name), key: enter(namespace, leader.key) } }
}

const leaveLeaderValue = (namespace: Namespace, response: Election.LeaderResponse): void =>
  leaveKey(namespace, response.kv)

/** How the messages of an RPC are changed. */
interface Rewrite<I = any, O = any> {
  /** Whether a request lacks a key that etcd would ask for, and would no longer miss once there is a prefix. */
  readonly isKeyless?: (request: I) => boolean
  readonly request?: (namespace: Namespace, request: I) => I
  readonly response?: (namespace: Namespace, response: O) => void
}

interface Service {
  readonly typeName: string
  readonly method: { readonly [name: string]: { readonly input: DescMessage; readonly output: DescMessage } }
}

/** What is done for every RPC of a service. */
type Rewrites<S extends Service> = {
  readonly [M in keyof S["method"]]: Rewrite<
    MessageInitShape<S["method"][M]["input"]>,
    MessageShape<S["method"][M]["output"]>
  >
}

type Entry = readonly [service: string, { readonly [method: string]: Rewrite }]

const rewritesOf = <S extends Service>({ typeName }: S, rewrites: Rewrites<S>): Entry => [typeName, rewrites]

/** Of an RPC that has no keys, in either direction. */
const noKeys: Rewrite = {}

const services = new Map([
  rewritesOf(Rpc.KV, {
    range: { isKeyless: keyless, request: enterRange, response: leaveRange },
    rangeStream: {
      isKeyless: keyless,
      request: enterRange,
      response: (namespace, { rangeResponse }) => leaveRange(namespace, rangeResponse)
    },
    put: {
      isKeyless: keyless,
      request: enterKey,
      response: (namespace, { prevKv }) => leaveKey(namespace, prevKv)
    },
    deleteRange: {
      isKeyless: keyless,
      request: enterRange,
      response: (namespace, { prevKvs }) => leaveKeys(namespace, prevKvs)
    },
    txn: { isKeyless: txnKeyless, request: enterTxn, response: leaveTxn },
    compact: noKeys
  }),
  rewritesOf(Rpc.Watch, {
    watch: { request: enterWatch, response: leaveEvents }
  }),
  rewritesOf(Rpc.Lease, {
    leaseGrant: noKeys,
    leaseRevoke: noKeys,
    leaseKeepAlive: noKeys,
    leaseTimeToLive: {
      response: (namespace, response) => {
        response.keys = response.keys.filter((key) => contains(namespace, key)).map((key) => leave(namespace, key))
      }
    },
    leaseLeases: noKeys
  }),
  rewritesOf(Rpc.Cluster, {
    memberAdd: noKeys,
    memberRemove: noKeys,
    memberUpdate: noKeys,
    memberList: noKeys,
    memberPromote: noKeys
  }),
  rewritesOf(Rpc.Maintenance, {
    alarm: noKeys,
    status: noKeys,
    defragment: noKeys,
    hash: noKeys,
    hashKV: noKeys,
    snapshot: noKeys,
    moveLeader: noKeys,
    downgrade: noKeys
  }),
  rewritesOf(Rpc.Auth, {
    authEnable: noKeys,
    authDisable: noKeys,
    authStatus: noKeys,
    authenticate: noKeys,
    userAdd: noKeys,
    userGet: noKeys,
    userList: noKeys,
    userDelete: noKeys,
    userChangePassword: noKeys,
    userGrantRole: noKeys,
    userRevokeRole: noKeys,
    roleAdd: noKeys,
    roleGet: { response: leavePermissions },
    roleList: noKeys,
    roleDelete: noKeys,
    roleGrantPermission: { isKeyless: ({ perm }) => keyless(perm), request: enterPermission },
    roleRevokePermission: { isKeyless: keyless, request: enterRange }
  }),
  rewritesOf(Lock.Lock, {
    lock: { request: enterName, response: leaveKey },
    unlock: { isKeyless: keyless, request: enterKey }
  }),
  rewritesOf(Election.Election, {
    campaign: { request: enterName, response: leaveLeader },
    proclaim: { isKeyless: leaderKeyless, request: enterLeader },
    leader: { request: enterName, response: leaveLeaderValue },
    observe: { request: enterName, response: leaveLeaderValue },
    resign: { isKeyless: leaderKeyless, request: enterLeader }
  })
])

/** Nothing is known of what is none of etcd's. */
export const rewriteOf = ({ localName, parent }: DescMethod): Rewrite | undefined =>
  services.get(parent.typeName)?.[localName]
