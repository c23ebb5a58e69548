/**
 * The members of a cluster: who they are, adding and removing them, and learners.
 *
 * A cluster of n voting members works as long as more than half of them do. Add a member here first and start it
 * afterwards, with `initial-cluster-state` set to `existing`; remove a dead one before adding its replacement. For members
 * that this program runs, `EtcdCluster` does all of it.
 *
 * With authentication, changes need a user with the role `root`. Besides the reasons that each function names, all fail with
 * `InvalidArgument` for what is no id or no URL, and with those of every call (`EtcdError`). After a change has failed,
 * `outcome` says whether it may have been made.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import { MemberId } from "./EtcdId.ts"
import type { Header } from "./EtcdResponse.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Json from "./internal/json.ts"
import * as Options from "./internal/options.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as Url from "./internal/url.ts"

/**
 * A member of the cluster.
 *
 * @category models
 * @since 0.1.0
 */
export interface Member {
  readonly id: MemberId
  /** Empty until the member has started for the first time. */
  readonly name: string
  /** Where the other members reach it. */
  readonly peerUrls: ReadonlyArray<string>
  /** Where clients reach it, as it says itself. Empty until the member has started for the first time. */
  readonly clientUrls: ReadonlyArray<string>
  /** Whether it only receives what the others decide, and has no vote. */
  readonly isLearner: boolean
}

/**
 * How the members are listed.
 *
 * @category options
 * @since 0.1.0
 */
export interface ListOptions extends EtcdClient.CallOptions {
  /**
   * Lets the member that is asked answer from what it knows, which works without a quorum and may be stale. Default:
   * false, the answer is linearizable. etcd 3.4 always answers from what the member knows.
   */
  readonly serializable?: boolean | undefined
}

/**
 * How a member is added.
 *
 * @category options
 * @since 0.1.0
 */
export interface AddOptions extends EtcdClient.CallOptions {
  /**
   * Adds it without a vote: it catches up without weakening the quorum, and is given its vote with {@link promote}.
   * Default: false.
   */
  readonly isLearner?: boolean | undefined
}

/**
 * The members, after a change or as they are.
 *
 * @category models
 * @since 0.1.0
 */
export interface Members {
  readonly header: Header
  readonly members: ReadonlyArray<Member>
}

/**
 * The members after one was added.
 *
 * @category models
 * @since 0.1.0
 */
export interface Added extends Members {
  /** The member that was added. */
  readonly member: Member
}

/**
 * Looks after the members of one cluster. Its functions are those of this module, which have more to say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** The members of the cluster, learners included. */
  readonly list: (options?: ListOptions | undefined) => Effect.Effect<Members, EtcdError.EtcdError>
  /** Adds a member that can be reached at these peer URLs, which is to be started next. More at {@link add}. */
  readonly add: (
    peerUrls: ReadonlyArray<string>,
    options?: AddOptions | undefined
  ) => Effect.Effect<Added, EtcdError.EtcdError>
  /**
   * Gives a learner its vote. Fails with `LearnerNotReady` while it has not caught up with the leader, with
   * `MemberNotLearner` if it has a vote, and with `MemberNotFound`.
   */
  readonly promote: (
    id: MemberId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Members, EtcdError.EtcdError>
  /**
   * Changes the peer URLs of a member. Fails with `MemberNotFound`, with `PeerUrlExists`, and with `InvalidArgument` if
   * a URL is none, or is given twice.
   */
  readonly update: (
    id: MemberId,
    peerUrls: ReadonlyArray<string>,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Members, EtcdError.EtcdError>
  /**
   * Removes a member for good: it stops, and cannot come back with its data. Fails with `MemberNotFound`, and with
   * `NotEnoughStartedMembers` or `Unhealthy` if the cluster might lose its quorum by it.
   */
  readonly remove: (
    id: MemberId,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<Members, EtcdError.EtcdError>
}

/**
 * The service for the members of the cluster: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdMembership extends Context.Service<EtcdMembership, Service>()("effect-etcd/EtcdMembership") {}

const fromWire = (member: Rpc.Member): Member =>
  Json.answer({
    id: MemberId(member.ID),
    name: member.name,
    peerUrls: member.peerURLs,
    clientUrls: member.clientURLs,
    isLearner: member.isLearner
  })

const toMembers = (answer: {
  readonly header?: Rpc.ResponseHeader | undefined
  readonly members: ReadonlyArray<Rpc.Member>
}): Members =>
  Json.answer({
    header: Wire.header(answer.header),
    members: answer.members.map(fromWire)
  })

/** The member as the answer repeats it, in its list and by itself. */
const toAdded = (answer: Rpc.MemberAddResponse): Added => {
  const all = toMembers(answer)
  const id = answer.member?.ID ?? 0n
  const member =
    all.members.find((one) => one.id === id) ??
    Json.answer({
      id: MemberId(id),
      name: "",
      peerUrls: answer.member?.peerURLs ?? [],
      clientUrls: [],
      isLearner: answer.member?.isLearner ?? false
    })
  return Json.answer({ ...all, member })
}

const ofList: Options.Checks<Options.Own<ListOptions>> = { serializable: Options.flag }

const ofAdd: Options.Checks<Options.Own<AddOptions>> = { isLearner: Options.flag }

const aMember = Options.id("a member")

const isUrl = (text: unknown): boolean =>
  typeof text === "string" && text === text.trim() && Result.isSuccess(Url.parse(text))

/** When a member is updated, etcd takes whatever it is given, and nobody reaches the member any more. */
const urls: Options.Check = {
  accepts: (value) =>
    Array.isArray(value) && value.length > 0 && value.every(isUrl) && new Set(value).size === value.length,
  due: "a list of different URLs, such as http://10.0.0.4:2380 (http or https, with a host and a port), with one at least"
}

const wrongMember = (who: string, id: unknown) => Options.wrongArgument(who, "the member", aMember, id)

const wrongUrls = (who: string, peerUrls: unknown) => Options.wrongArgument(who, "peerUrls", urls, peerUrls)

/**
 * The service over a client: for a program with more than one client. It ends with the client.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdMembership } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"] })
 *   return yield* EtcdMembership.fromClient(client).list()
 * })
 * const members = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Service => ({
  list: (options) =>
    Options.wrongOptions("EtcdMembership.list", ofList, options) ??
    Effect.map(
      client.unary(Rpc.Cluster.method.memberList, { linearizable: options?.serializable !== true }, options),
      toMembers
    ),
  add: (peerUrls, options) =>
    wrongUrls("EtcdMembership.add", peerUrls) ??
    Options.wrongOptions("EtcdMembership.add", ofAdd, options) ??
    Effect.map(
      client.unary(
        Rpc.Cluster.method.memberAdd,
        { peerURLs: [...peerUrls], isLearner: options?.isLearner ?? false },
        options
      ),
      toAdded
    ),
  promote: (id, options) =>
    wrongMember("EtcdMembership.promote", id) ??
    Options.wrongCall("EtcdMembership.promote", options) ??
    Effect.map(client.unary(Rpc.Cluster.method.memberPromote, { ID: MemberId(id) }, options), toMembers),
  update: (id, peerUrls, options) =>
    wrongMember("EtcdMembership.update", id) ??
    wrongUrls("EtcdMembership.update", peerUrls) ??
    Options.wrongCall("EtcdMembership.update", options) ??
    Effect.map(
      client.unary(Rpc.Cluster.method.memberUpdate, { ID: MemberId(id), peerURLs: [...peerUrls] }, options),
      toMembers
    ),
  remove: (id, options) =>
    wrongMember("EtcdMembership.remove", id) ??
    Options.wrongCall("EtcdMembership.remove", options) ??
    Effect.map(client.unary(Rpc.Cluster.method.memberRemove, { ID: MemberId(id) }, options), toMembers)
})

/**
 * Provides {@link EtcdMembership} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides it
 * with all the others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdMembership } from "effect-etcd"
 *
 * const live = EtcdMembership.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdMembership, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdMembership,
  Effect.map(EtcdClient.EtcdClient, fromClient)
)

/**
 * The members of the cluster, learners included.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdId, EtcdMembership } from "effect-etcd"
 *
 * const names = Effect.map(EtcdMembership.list(), ({ members }) =>
 *   members.map((member) => `${EtcdId.format(member.id)} ${member.name}`)
 * )
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const list = (options?: ListOptions | undefined): Effect.Effect<Members, EtcdError.EtcdError, EtcdMembership> =>
  EtcdMembership.use((membership) => membership.list(options))

/**
 * Adds a member that can be reached at these peer URLs, which is to be started next.
 *
 * Fails with `PeerUrlExists` if a member has one of the URLs, with `NotEnoughStartedMembers` or `Unhealthy` if the
 * cluster might lose its quorum by it, with `TooManyLearners` if there is a learner already (etcd allows one unless
 * told otherwise), and with `InvalidArgument` if a URL is none, or is given twice. Where the outcome is `unknown`, list the
 * members: it may have been added, and a voter that does not start counts for the quorum.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMembership } from "effect-etcd"
 *
 * const grow = Effect.gen(function*() {
 *   const { member } = yield* EtcdMembership.add(["https://10.0.0.4:2380"], { isLearner: true })
 *   // start it, let it catch up, and then:
 *   yield* EtcdMembership.promote(member.id)
 * })
 * ```
 *
 * @category changing
 * @since 0.1.0
 */
export const add = (
  peerUrls: ReadonlyArray<string>,
  options?: AddOptions | undefined
): Effect.Effect<Added, EtcdError.EtcdError, EtcdMembership> =>
  EtcdMembership.use((membership) => membership.add(peerUrls, options))

/**
 * Gives a learner its vote. Fails with `LearnerNotReady` while it has not caught up with the leader, with
 * `MemberNotLearner` if it has a vote, and with `MemberNotFound`.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { EtcdError, EtcdId, EtcdMembership } from "effect-etcd"
 *
 * const isBehind = (error: EtcdError.EtcdError) => error.reason._tag === "LearnerNotReady"
 *
 * const whenReady = (id: EtcdId.MemberId) =>
 *   EtcdMembership.promote(id).pipe(Effect.retry({ while: isBehind, schedule: Schedule.spaced("1 second") }))
 * ```
 *
 * @category changing
 * @since 0.1.0
 */
export const promote = (
  id: MemberId,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<Members, EtcdError.EtcdError, EtcdMembership> =>
  EtcdMembership.use((membership) => membership.promote(id, options))

/**
 * Changes the peer URLs of a member. Fails with `MemberNotFound`, with `PeerUrlExists`, and with `InvalidArgument` if a
 * URL is none, or is given twice.
 *
 * Change them before the member listens there: the others reach it by what is said here.
 *
 * @example
 * ```ts
 * import { EtcdId, EtcdMembership } from "effect-etcd"
 *
 * const move = (id: EtcdId.MemberId) => EtcdMembership.update(id, ["https://10.0.0.9:2380"])
 * ```
 *
 * @category changing
 * @since 0.1.0
 */
export const update = (
  id: MemberId,
  peerUrls: ReadonlyArray<string>,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<Members, EtcdError.EtcdError, EtcdMembership> =>
  EtcdMembership.use((membership) => membership.update(id, peerUrls, options))

/**
 * Removes a member for good: it stops, and cannot come back with its data. Fails with `MemberNotFound`, and with
 * `NotEnoughStartedMembers` or `Unhealthy` if the cluster might lose its quorum by it.
 *
 * Kill a member that is stopped, and not dead, before it is removed where members reach each other by Unix sockets: for what
 * etcd writes there it has no deadline, and the leader that removes such a member waits for it. `EtcdCluster`'s `shrink` and
 * `replace` do.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMembership } from "effect-etcd"
 *
 * const removeNamed = (name: string) =>
 *   Effect.gen(function*() {
 *     const { members } = yield* EtcdMembership.list()
 *     const gone = members.filter((member) => member.name === name)
 *     yield* Effect.forEach(gone, ({ id }) => EtcdMembership.remove(id))
 *   })
 * ```
 *
 * @category changing
 * @since 0.1.0
 */
export const remove = (
  id: MemberId,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<Members, EtcdError.EtcdError, EtcdMembership> =>
  EtcdMembership.use((membership) => membership.remove(id, options))
