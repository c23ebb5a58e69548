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
import * as EtcdId from "../../EtcdId.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import * as EtcdMembership from "../../EtcdMembership.ts"
import * as Committed from "../maintenance/committed.ts"
import * as Sockets from "../process/sockets.ts"
import { Maintenance } from "../proto/rpc_pb.ts"
import * as Answers from "./answers.ts"
import { isEncrypted, isSame, reached, type Settings } from "./settings.ts"

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

/**
 * `clusterId`: of the one that is meant, where that is known. Where a member was that is gone now, another cluster may answer
 * first.
 */
export const connect = (
  settings: Settings,
  endpoints: EtcdClient.Endpoints,
  clusterId: bigint | undefined
): Effect.Effect<Cluster, EtcdError.EtcdError, Scope.Scope> => {
  const given = settings.process.client
  const known = given?.clusterId ?? (clusterId === undefined ? undefined : EtcdId.ClusterId(clusterId))
  return Effect.map(EtcdClient.make({ ...given, batching: false, endpoints, clusterId: known }), fromClient)
}

/**
 * Those that one client takes, where some members have TLS at their client URLs and others do not have it yet, or any more:
 * with TLS none that can be read on the way, and without it the others.
 */
export const together = ({ clientUrl, process }: Settings, endpoints: ReadonlyArray<string>): ReadonlyArray<string> => {
  const different = [...new Set(endpoints)]
  const open = different.filter((url) => /^http:/i.test(url))
  if (open.length === 0) return different
  const isSecure = process.client?.tls !== undefined || isEncrypted(clientUrl)
  return different.filter((url) => (isSecure ? !open.includes(url) : !isEncrypted(url)))
}

/** Where clients reach a member; an address without a port is nobody's. */
export const endpointsOf = (
  settings: Settings,
  members: ReadonlyArray<Pick<EtcdMembership.Member, "clientUrls">>
): ReadonlyArray<string> =>
  together(
    settings,
    members.flatMap(({ clientUrls }) =>
      clientUrls.filter((url) => !/^https?:.*:0$/.test(url)).map((url) => reached(settings, url))
    )
  )

/** Voters that have served: those that clients go to. */
export const servingVoters = (members: ReadonlyArray<EtcdMembership.Member>): ReadonlyArray<EtcdMembership.Member> =>
  members.filter((member) => !member.isLearner && member.clientUrls.length > 0)

export const votersOf = (members: ReadonlyArray<EtcdMembership.Member>): ReadonlyArray<EtcdMembership.Member> =>
  members.filter((member) => !member.isLearner)

const deadline = "3 seconds"

/** What nobody is asked twice for in one call: between two tries the members may have changed. */
export const once = { deadline: "5 seconds", retry: Schedule.recurs(0) } as const

/** Fails where there is no leader. */
export const view = ({ membership }: Cluster): Effect.Effect<View, EtcdError.EtcdError> =>
  Effect.map(membership.list({ deadline, requireLeader: true }), ({ header, members }) => ({
    clusterId: header.clusterId,
    members
  }))

/**
 * Whether there is no such member any more. Who was asked for the members may lag (3.4): so the others are asked again, each
 * when it has read what a majority has.
 */
export const isGone = (
  settings: Settings,
  { client, membership }: Cluster,
  { members }: View,
  id: bigint
): Effect.Effect<boolean> => {
  if (members.some((member) => member.id === id)) return Effect.succeed(false)
  const kv = EtcdKv.fromClient(client)
  const ask = (endpoint: string) =>
    kv.get(Committed.nobody, { ...once, endpoint }).pipe(
      // Who may not read it has waited for a majority, too.
      Effect.catchIf(isRefusal, () => Effect.void),
      Effect.andThen(membership.list({ ...once, endpoint })),
      Effect.map(({ members }) => !members.some((member) => member.id === id))
    )
  const endpoints = endpointsOf(settings, servingVoters(members))
  return endpoints.length === 0
    ? Effect.succeed(false)
    : Effect.orElseSucceed(Effect.raceAll(endpoints.map(ask)), () => false)
}

/** Whether a member is where this instance is. */
export const isHere = ({ peerUrl }: Settings, { peerUrls }: Pick<EtcdMembership.Member, "peerUrls">): boolean =>
  peerUrls.some((url) => isSame(url, peerUrl))

/**
 * Tells the others where this instance is now, where that is not what they know. A learner is removed, and joins anew: etcd
 * before May 2026 counts it among the voters when it has another address, though it has no vote, and never gets one
 * (etcd-io/etcd 21694).
 */
export const tellAddress = (
  settings: Settings,
  { membership }: Cluster,
  own: EtcdMembership.Member
): Effect.Effect<void, EtcdError.EtcdError> => {
  if (isHere(settings, own)) return Effect.void
  return Effect.asVoid(
    own.isLearner ? membership.remove(own.id, once) : membership.update(own.id, [settings.peerUrl], once)
  )
}

/** Whether a member answers at its client URLs as itself. */
export const servesClients = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> => {
  const endpoints = endpointsOf(settings, [member])
  const ask = (endpoint: string) =>
    Effect.scoped(
      Effect.flatMap(connect(settings, [endpoint], undefined), ({ client }) =>
        client.unary(Maintenance.method.status, {}, { deadline: "2 seconds", retry: Schedule.recurs(0) })
      )
    ).pipe(
      Effect.map(({ header }) => header?.memberId === member.id),
      // Whoever refuses to answer this client is there, and may be it.
      Effect.catch((error) => Effect.succeed(isRefusal(error)))
    )
  return Effect.map(Effect.forEach(endpoints, ask, { concurrency: "unbounded" }), (answers) => answers.includes(true))
}

const refusals: ReadonlySet<EtcdError.Reason["_tag"]> = new Set([
  "AuthenticationFailed",
  "PermissionDenied",
  "InvalidAuthToken",
  "UserNameEmpty"
])

/** Whether a member answers, and does not let this client in. */
export const isRefusal = ({ reason }: EtcdError.EtcdError): boolean =>
  reason.outcome === "not-applied" && refusals.has(reason._tag)

/** Its peer URLs, but for the one where this instance itself is. */
const elsewhere = ({ peerUrl }: Settings, { peerUrls }: EtcdMembership.Member): ReadonlyArray<string> =>
  peerUrls.filter((url) => !isSame(url, peerUrl))

/** Whether an etcd answers at its peer URLs. */
const servesPeers = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> =>
  Effect.map(
    Effect.forEach(elsewhere(settings, member), (url) => Answers.ask(settings, url), { concurrency: "unbounded" }),
    (answers) => answers.some(({ _tag }) => _tag === "Etcd")
  )

/** Whether a member answers anybody, as far as this instance can reach it. */
export const isAlive = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> =>
  Effect.map(
    Effect.all([servesClients(settings, member), servesPeers(settings, member)], { concurrency: 2 }),
    (answers) => answers.includes(true)
  )

/**
 * Whether a member has a socket for its peers, and stands still: it takes connections there, and answers nothing. Who is dead
 * takes none. For what etcd writes to a socket it has no deadline, other than for a port: a leader that is writing to such a
 * member waits for it for good when that is removed, and with it the cluster.
 */
export const standsStill = (settings: Settings, peerUrls: ReadonlyArray<string>): Effect.Effect<boolean> =>
  Effect.map(
    Effect.forEach(peerUrls, (url) => {
      const [name] = Sockets.namesIn([url])
      if (name === undefined) return Effect.succeed(false)
      const isListenedTo = Sockets.isListenedTo(Sockets.pathOf(settings.runDirectory ?? "", name))
      return Effect.flatMap(Answers.ask(settings, url), ({ _tag }) =>
        _tag === "Nobody" ? isListenedTo : Effect.succeed(false)
      )
    }),
    (answers) => answers.includes(true)
  )

/** Whether a member is not to be removed, since it is alive, or may be. */
export const isThere = (settings: Settings, member: EtcdMembership.Member): Effect.Effect<boolean> =>
  Effect.flatMap(isAlive(settings, member), (isAlive) =>
    isAlive ? Effect.succeed(true) : standsStill(settings, elsewhere(settings, member))
  )
