/**
 * Leaving a cluster without harm to the rest.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as EtcdError from "../../EtcdError.ts"
import type * as EtcdId from "../../EtcdId.ts"
import * as EtcdMemberError from "../../EtcdMemberError.ts"
import type { Member } from "../../EtcdMembership.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import * as Committed from "../maintenance/committed.ts"
import * as Consult from "./consult.ts"
import { majorityOf, type Settings } from "./settings.ts"

/** The node that is to leave, and its cluster. */
export interface Running {
  /** Also where the node could not be asked for it. */
  readonly id: EtcdId.MemberId
  readonly node: EtcdProcess.Node
  readonly cluster: Consult.Cluster
}

type Failure = EtcdMemberError.EtcdMemberError | EtcdError.EtcdError

export const refused = (message: string): EtcdMemberError.EtcdMemberError =>
  EtcdMemberError.make(new EtcdMemberError.LeaveRefused({ message }))

/** A voter that answers, and where. */
interface Answering {
  readonly member: Member
  readonly endpoint: string
  readonly applied: bigint
}

const answering = (settings: Settings, { maintenance }: Consult.Cluster, member: Member) =>
  Effect.raceAll(
    Consult.endpointsOf(settings, [member]).map((endpoint) =>
      maintenance.status({ endpoint, deadline: "2 seconds", retry: Schedule.recurs(0) }).pipe(
        Effect.filterOrFail(({ header, leader }) => header.memberId === member.id && Option.isSome(leader)),
        Effect.map(({ raftAppliedIndex }): Answering => ({ member, endpoint, applied: raftAppliedIndex }))
      )
    )
  ).pipe(Effect.option)

/** Those who stay, and answer: the one that has applied most is the first. */
const stayingOf = (settings: Settings, cluster: Consult.Cluster, others: ReadonlyArray<Member>) =>
  Effect.map(
    Effect.forEach(
      others.filter((member) => Consult.endpointsOf(settings, [member]).length > 0),
      (member) => answering(settings, cluster, member),
      { concurrency: "unbounded" }
    ),
    (found) =>
      found.flatMap((one) => (Option.isSome(one) ? [one.value] : [])).sort((a, b) => (a.applied < b.applied ? 1 : -1))
  )

/** What is decided before anything is done: through whom the member is removed, which may be any. */
export interface Allowed {
  readonly through: string | undefined
}

const prepareWith = (
  settings: Settings,
  { cluster, id, node }: Running,
  { members }: Consult.View
): Effect.Effect<Allowed, Failure> =>
  Effect.gen(function* () {
    const own = members.find((member) => member.id === id)
    if (own === undefined) return { through: undefined }
    const others = Consult.votersOf(members).filter((member) => member !== own)
    const staying = yield* stayingOf(settings, cluster, others)
    if (own.isLearner) return { through: staying[0]?.endpoint }
    if (others.length === 0) {
      return yield* refused(
        `${settings.name} is the only voter of its cluster, which would end. Let another instance join before, or stop this ` +
          "one and delete its data."
      )
    }
    if (staying.length < majorityOf(others.length)) {
      const missing = others.filter((member) => !staying.some((one) => one.member === member))
      return yield* refused(
        `Without ${settings.name} the cluster would have ${others.length} voters, of which ${staying.length} answer, and ` +
          `${majorityOf(others.length)} are needed. These do not answer: ${missing.map(({ name, peerUrls }) => `${name} (${peerUrls.join(", ")})`).join(", ")}.`
      )
    }
    const first = staying[0]!
    const { leader } = yield* cluster.maintenance.status({ endpoint: first.endpoint, deadline: "2 seconds" })
    if (Option.contains(leader, id)) {
      // Where it is not taken, the cluster elects one when this one has gone.
      yield* Effect.ignore(
        cluster.maintenance.moveLeader(first.member.id, { endpoint: node.endpoints[0], deadline: "10 seconds" })
      )
    }
    return { through: first.endpoint }
  })

/** Refuses what would harm the rest, and hands the leadership on. */
export const prepare = (settings: Settings, running: Running): Effect.Effect<Allowed, Failure> =>
  Consult.view(running.cluster).pipe(
    Effect.mapError((error) =>
      Consult.isRefusal(error)
        ? error
        : refused(
            `${settings.name} cannot be let go without a majority of its cluster, which does not answer: ${error.message}`
          )
    ),
    Effect.flatMap((view) => prepareWith(settings, running, view))
  )

/** Whoever asks again after an answer that was lost hears that it is gone. */
const tryToRemove = ({ cluster, id }: Running, { through }: Allowed): Effect.Effect<void, EtcdError.EtcdError> =>
  cluster.membership.remove(id, through === undefined ? Consult.once : { ...Consult.once, endpoint: through }).pipe(
    Effect.asVoid,
    Effect.catchReason("EtcdError", "MemberNotFound", () => Effect.void)
  )

/** Removes the member. Before it tries again it looks anew: through whom it was to be removed may have left meanwhile. */
export const remove = (settings: Settings, running: Running, allowed: Allowed): Effect.Effect<void, Failure> =>
  Consult.standsStill(settings, [settings.peerUrl]).pipe(
    // Killed it may be started again until it is removed, and hears of that.
    Effect.flatMap((isStill) => (isStill ? running.node.signal("SIGKILL") : Effect.void)),
    Effect.andThen(tryToRemove(running, allowed)),
    Effect.catch(() =>
      Consult.view(running.cluster).pipe(
        Effect.flatMap((view) => prepareWith(settings, running, view)),
        Effect.flatMap((allowed) => tryToRemove(running, allowed)),
        Effect.delay("500 millis"),
        Effect.retry({
          while: ({ reason }) => reason._tag !== "LeaveRefused",
          schedule: Schedule.upTo(Schedule.forever, { duration: "15 seconds" })
        })
      )
    ),
    Effect.andThen(Committed.writeDown(running.cluster.client))
  )
