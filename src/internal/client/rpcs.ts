/**
 * What the client knows of each RPC: whether it only reads, whether it may take its time, and since which version servers
 * have it.
 *
 * A call that only reads can be sent again whenever another endpoint may do better; anything else only when it is
 * certain that it was not applied. An RPC that is missing here counts as a write.
 *
 * @internal
 */
import type { DescMessage, DescMethod, MessageInitShape } from "@bufbuild/protobuf"
import {
  AlarmRequest_AlarmAction as AlarmAction,
  type AlarmRequestSchema,
  DowngradeRequest_DowngradeAction as DowngradeAction,
  type DowngradeRequestSchema,
  type TxnRequestSchema
} from "../proto/rpc_pb.ts"

/** Whether a call can change something. */
export type Kind = "read" | "write"

type KindOf = Kind | ((request: any) => Kind)

interface Rpc {
  readonly kind: KindOf
  /**
   * Whether it takes as long as the data are large, or as somebody else lets it wait: then no default deadline ends it,
   * and that it is out for long means nothing.
   */
  readonly takesLong?: true
  /** The first version of etcd, after 3.4, that has it. */
  readonly since?: string
}

const read: Rpc = { kind: "read" }
const write: Rpc = { kind: "write" }

type Txn = MessageInitShape<typeof TxnRequestSchema>
type Operation = NonNullable<Txn["success"]>[number]

const operationReads = (operation: Operation): boolean => {
  const request = operation.request
  if (request?.case === undefined || request.case === "requestRange") return true
  return request.case === "requestTxn" && txnKind(request.value as Txn) === "read"
}

const txnKind = (request: Txn): Kind =>
  (request.success ?? []).every(operationReads) && (request.failure ?? []).every(operationReads) ? "read" : "write"

const alarmKind = (request: MessageInitShape<typeof AlarmRequestSchema>): Kind =>
  (request.action ?? AlarmAction.GET) === AlarmAction.GET ? "read" : "write"

const downgradeKind = (request: MessageInitShape<typeof DowngradeRequestSchema>): Kind =>
  (request.action ?? DowngradeAction.VALIDATE) === DowngradeAction.VALIDATE ? "read" : "write"

/** Every RPC, by the name of its service and its own. */
export const rpcs: { readonly [service: string]: { readonly [method: string]: Rpc } } = {
  "etcdserverpb.KV": {
    Range: read,
    RangeStream: { kind: "read", since: "3.7" },
    Put: write,
    DeleteRange: write,
    Txn: { kind: txnKind },
    // Where it is to wait until the member's disk is rid of what was compacted.
    Compact: { kind: "write", takesLong: true }
  },
  "etcdserverpb.Watch": {
    Watch: read
  },
  "etcdserverpb.Lease": {
    LeaseGrant: write,
    LeaseRevoke: write,
    LeaseKeepAlive: read,
    LeaseTimeToLive: read,
    LeaseLeases: read
  },
  "etcdserverpb.Cluster": {
    MemberAdd: write,
    MemberRemove: write,
    MemberUpdate: write,
    MemberList: read,
    MemberPromote: write
  },
  "etcdserverpb.Maintenance": {
    Alarm: { kind: alarmKind },
    Status: read,
    Defragment: { kind: "write", takesLong: true },
    Hash: { kind: "read", takesLong: true },
    HashKV: { kind: "read", takesLong: true },
    Snapshot: read,
    // It waits for the member that is to lead, as long as the caller does.
    MoveLeader: { kind: "write", takesLong: true },
    Downgrade: { kind: downgradeKind, since: "3.5" }
  },
  "etcdserverpb.Auth": {
    AuthEnable: write,
    AuthDisable: write,
    AuthStatus: { kind: "read", since: "3.5" },
    Authenticate: read,
    UserAdd: write,
    UserGet: read,
    UserList: read,
    UserDelete: write,
    UserChangePassword: write,
    UserGrantRole: write,
    UserRevokeRole: write,
    RoleAdd: write,
    RoleGet: read,
    RoleList: read,
    RoleDelete: write,
    RoleGrantPermission: write,
    RoleRevokePermission: write
  },
  "v3lockpb.Lock": {
    Lock: { kind: "write", takesLong: true },
    Unlock: write
  },
  "v3electionpb.Election": {
    Campaign: { kind: "write", takesLong: true },
    Proclaim: write,
    Leader: read,
    // It begins when there is a leader to tell of.
    Observe: { kind: "read", takesLong: true },
    Resign: write
  }
}

/** `etcdserverpb.KV` for `KV`. */
export const serviceNamed = (name: string): string | undefined =>
  Object.keys(rpcs).find((service) => service.endsWith(`.${name}`))

/** One RPC, as the client calls it. */
export interface Method {
  /** As on the wire: `/etcdserverpb.KV/Put`. */
  readonly path: string
  /** As people say it: `KV.Put`. */
  readonly name: string
  /** `etcdserverpb.KV` */
  readonly service: string
  readonly kind: KindOf
  readonly takesLong: boolean
}

const methods = new WeakMap<DescMethod, Method>()

const describe = (descriptor: DescMethod): Method => {
  const service = descriptor.parent.typeName
  const path = `/${service}/${descriptor.name}`
  const known = rpcs[service]?.[descriptor.name]
  const method: Method = {
    path,
    name: displayName(path),
    service,
    kind: known?.kind ?? "write",
    takesLong: known === undefined || known.takesLong === true
  }
  methods.set(descriptor, method)
  return method
}

export const methodOf = (descriptor: DescMethod): Method => methods.get(descriptor) ?? describe(descriptor)

export const kindOf = <I extends DescMessage>(method: Method, request: MessageInitShape<I> | undefined): Kind =>
  typeof method.kind === "string" ? method.kind : request === undefined ? "write" : method.kind(request)

const parts = (path: string): readonly [service: string, method: string] => {
  const [, service = "", method = ""] = path.split("/")
  return [service, method]
}

/** `KV.Put` for `/etcdserverpb.KV/Put`. */
export const displayName = (path: string): string => {
  const [service, method] = parts(path)
  return method === "" ? path : `${service.slice(service.lastIndexOf(".") + 1)}.${method}`
}

/** The first version of etcd that has the RPC, where not every supported one does. */
export const sinceVersion = (path: string): string | undefined => {
  const [service, method] = parts(path)
  return rpcs[service]?.[method]?.since
}

/** What the path alone tells: `write` where it depends on the request. */
export const kindOfPath = (path: string): Kind => {
  const [service, method] = parts(path)
  const kind = rpcs[service]?.[method]?.kind
  return kind === "read" ? "read" : "write"
}

/**
 * Whether the member that is asked should refuse at once when it knows no leader, so that another can be asked: where
 * the answer needs the whole cluster. What members say of themselves, they can say without a leader.
 */
export const needsLeader = (method: Method, request: { readonly serializable?: boolean } | undefined): boolean =>
  method.service !== "etcdserverpb.Maintenance" &&
  method.name !== "Cluster.MemberList" &&
  request?.serializable !== true
