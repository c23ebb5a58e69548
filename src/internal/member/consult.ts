/**
 * Asking a cluster: who its members are by the word of a majority, and which of them are alive.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { MemberId } from "../../EtcdId.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import * as EtcdMembership from "../../EtcdMembership.ts"
import { Maintenance } from "../proto/rpc_pb.ts"
import * as Answers from "./answers.ts"
import { isSame, reached, type Settings } from "./settings.ts"

/** A client of the cluster, for what concerns its members. */
export interface Cluster {
  readonly client: EtcdClient.Client
  readonly membership: EtcdMembership.Service
  readonly maintenance: EtcdMaintenance.Service
}

/** The members, as a majority knows them. On 3.4, as a member with a leader does. */
export interface View {
  readonly clusterId: bigint
  readonly members: ReadonlyArray<EtcdMembership.Member>
}

const fromClient = (client: EtcdClient.Client): Cluster => ({
  client,
  membership: EtcdMembership.fromClient(client),
  maintenance: EtcdMaintenance.fromClient(client)
})

export const connect = (
  settings: Settings,
  endpoints: EtcdClient.Endpoints
): Effect.Effect<Cluster, EtcdError.EtcdError, Scope.Scope> =>
  Effect.map(EtcdClient.make({ ...settings.process.client, batching: false, endpoints }), fromClient)

/** Where clients reach a member; an address without a port is nobody's. */
export const endpointsOf = (
  settings: Settings,
  members: ReadonlyArray<Pick<EtcdMembership.Member, "clientUrls">>
): ReadonlyArray<string> => [
  ...new Set(
    members.flatMap(({ clientUrls }) =>
      clientUrls.filter((url) => !/^https?:.*:0$/.test(url)).map((url) => reached(settings, url))
    )
  )
]

/** Voters that have served: those that clients go to. */
export const servingVoters = (members: ReadonlyArray<EtcdMembership.Member>): ReadonlyArray<EtcdMembership.Member> =>
  members.filter((member) => !member.isLearner && member.clientUrls.length > 0)

export const votersOf = (members: ReadonlyArray<EtcdMembership.Member>): ReadonlyArray<EtcdMembership.Member> =>
  members.filter((member) => !member.isLearner)

const deadline = "3 seconds"

/** Fails where there is no leader. */
export const view = ({ membership }: Cluster): Effect.Effect<View, EtcdError.EtcdError> =>
  Effect.map(membership.list({ deadline, requireLeader: true }), ({ header, members }) => ({
    clusterId: header.clusterId,
    members
  }))

/**
 * Whether there is no such member any more. Who was asked for the members may lag (3.4): whoever leads knows, and says of
 * one that is none that it is none, before it looks whether it is to be promoted.
 */
export const isGone = ({ membership }: Cluster, { members }: View, id: bigint): Effect.Effect<boolean> =>
  members.some((member) => member.id === id)
    ? Effect.succeed(false)
    : Effect.match(membership.promote(MemberId(id), { deadline: "5 seconds", retry: Schedule.recurs(0) }), {
        onSuccess: () => false,
        onFailure: ({ reason }) => reason._tag === "MemberNotFound"
      })

/** Tells the others where this instance is now, where that is not what they know. */
export const tellAddress = (
  { peerUrl }: Settings,
  { membership }: Cluster,
  { id, peerUrls }: EtcdMembership.Member
): Effect.Effect<void, EtcdError.EtcdError> =>
  peerUrls.some((url) => isSame(url, peerUrl))
    ? Effect.void
    : Effect.asVoid(membership.update(id, [peerUrl], { deadline: "5 seconds", retry: Schedule.recurs(0) }))

/** Whether a member answers at its client URLs as itself. */
const servesClients = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> => {
  const endpoints = endpointsOf(settings, [member])
  const ask = (endpoint: string) =>
    Effect.scoped(
      Effect.flatMap(connect(settings, [endpoint]), ({ client }) =>
        client.unary(Maintenance.method.status, {}, { deadline: "2 seconds", retry: Schedule.recurs(0) })
      )
    ).pipe(
      Effect.map(({ header }) => header?.memberId === member.id),
      // Whoever refuses to answer this client is there, and may be it.
      Effect.catch(({ reason }) => Effect.succeed(reason.outcome === "not-applied" && isRefusal(reason._tag)))
    )
  return Effect.map(Effect.forEach(endpoints, ask, { concurrency: "unbounded" }), (answers) => answers.includes(true))
}

const isRefusal = (tag: EtcdError.Reason["_tag"]): boolean =>
  tag === "AuthenticationFailed" || tag === "PermissionDenied" || tag === "InvalidAuthToken" || tag === "UserNameEmpty"

/** Whether an etcd answers at its peer URLs. Not asked where this instance itself is. */
const servesPeers = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> =>
  Effect.map(
    Effect.forEach(
      member.peerUrls.filter((url) => !isSame(url, settings.peerUrl)),
      (url) => Answers.ask(settings, url),
      { concurrency: "unbounded" }
    ),
    (answers) => answers.some(({ _tag }) => _tag === "Etcd")
  )

/** Whether a member answers anybody, as far as this instance can reach it. */
export const isAlive = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> =>
  Effect.map(
    Effect.all([servesClients(settings, member), servesPeers(settings, member)], { concurrency: 2 }),
    (answers) => answers.includes(true)
  )
