/**
 * A look at all members of a cluster at once, through a client: who there is, who answers, and what each says.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import { format, MemberId as Id, type MemberId } from "../../EtcdId.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import * as EtcdMembership from "../../EtcdMembership.ts"
import type { MemberRef } from "../../EtcdOperations.ts"
import type { Refuse } from "./operation.ts"

/** A member, and what it says of itself, if it answers. */
export interface Surveyed {
  readonly member: EtcdMembership.Member
  /** Where it was reached. */
  readonly endpoint: string | undefined
  readonly status: EtcdMaintenance.Status | undefined
}

export interface Survey {
  readonly clusterId: bigint
  readonly members: ReadonlyArray<Surveyed>
  readonly voters: ReadonlyArray<Surveyed>
  readonly learners: ReadonlyArray<Surveyed>
  /** The leader that a majority of the voters names. */
  readonly leader: Surveyed | undefined
}

/** How long a member may take to say how it is, before it counts as one that does not answer. */
const patience = "3 seconds"

const once = { deadline: patience, retry: Schedule.recurs(0) } as const

/** As messages name a member. */
export const nameOf = ({ id, name }: EtcdMembership.Member): string => (name === "" ? `member ${format(id)}` : name)

/** As messages name who was asked for. */
export const show = (ref: MemberRef): string =>
  typeof ref === "string" ? `member named ${JSON.stringify(ref)}` : `member ${format(ref)}`

/** The member of that name, or id. */
export const find = (members: ReadonlyArray<Surveyed>, ref: MemberRef): Surveyed | undefined =>
  members.find(({ member }) => (typeof ref === "string" ? member.name === ref : member.id === Id(ref)))

/** How many of so many are more than half of them. */
export const majority = (count: number): number => Math.floor(count / 2) + 1

const answering = ({ voters }: Pick<Survey, "voters">): number =>
  voters.filter(({ status }) => status !== undefined).length

/** Whether a member says that another one leads. */
export const names = ({ status }: Surveyed, leader: Surveyed): boolean =>
  status !== undefined && Option.contains(status.leader, leader.member.id)

/** Whether so many voters answer that they can decide. */
export const hasQuorum = (survey: Survey): boolean =>
  survey.leader !== undefined && answering(survey) >= majority(survey.voters.length)

/** What a member says or does not say, for evidence. */
export const describe = ({ endpoint, member, status }: Surveyed): string => {
  const who = `${nameOf(member)} (${format(member.id)})`
  if (status === undefined) {
    return member.clientUrls.length === 0 ? `${who} has never been started` : `${who} does not answer`
  }
  const role = Option.contains(status.leader, member.id) ? "leads" : member.isLearner ? "is a learner" : "follows"
  return `${who} ${role} at ${endpoint}, etcd ${status.version}, applied ${status.raftAppliedIndex}`
}

/** Whether the caller may not ask, which tells nothing of who was asked. */
export const isForbidden = ({ reason }: EtcdError.EtcdError): boolean =>
  reason._tag === "PermissionDenied" || reason._tag === "UserNameEmpty"

const statusAt = (client: EtcdClient.Client, endpoint: string) =>
  EtcdMaintenance.fromClient(client)
    .status({ ...once, endpoint })
    .pipe(
      Effect.map((status) => Option.some({ endpoint, status })),
      // Who may not know how they are has not found out that they do not answer.
      Effect.catchIf(
        (error) => !isForbidden(error),
        () => Effect.succeedNone
      )
    )

/** Asks the members who there are: who leads, or, where nobody does, anybody. */
const membersOf = (client: EtcdClient.Client) => {
  const membership = EtcdMembership.fromClient(client)
  return Effect.catch(membership.list({ ...once, requireLeader: true }), () =>
    membership.list({ ...once, serializable: true })
  )
}

export const make = (client: EtcdClient.Client): Effect.Effect<Survey, EtcdError.EtcdError> =>
  Effect.gen(function* () {
    const [{ header, members }, known] = yield* Effect.all([membersOf(client), client.endpoints], {
      concurrency: "unbounded"
    })
    const ask = (endpoints: ReadonlyArray<string>) =>
      Effect.map(
        Effect.forEach(endpoints, (endpoint) => statusAt(client, endpoint), { concurrency: "unbounded" }),
        (answers) => answers.flatMap(Option.toArray)
      )
    const first = yield* ask(known)
    const isFound = (id: MemberId) => first.some(({ status }) => status.header.memberId === id)
    const others = members.filter(({ id }) => !isFound(id)).flatMap(({ clientUrls }) => clientUrls)
    const answers = [...first, ...(yield* ask(others.filter((url) => !known.includes(url))))]
    const surveyed = members.map((member): Surveyed => {
      const answer = answers.find(({ status }) => status.header.memberId === member.id)
      return { member, endpoint: answer?.endpoint, status: answer?.status }
    })
    const voters = surveyed.filter(({ member }) => !member.isLearner)
    const named = (one: Surveyed) => voters.filter((voter) => names(voter, one)).length
    const leader = voters.find((one) => one.status !== undefined && named(one) >= majority(voters.length))
    return {
      clusterId: header.clusterId,
      members: surveyed,
      voters,
      learners: surveyed.filter(({ member }) => member.isLearner),
      leader
    }
  })

/** A cluster that can decide, and its leader. */
export interface Whole extends Survey {
  readonly leader: Surveyed
}

/** Not where this client trusts nobody, or is not trusted: it would find nobody wherever they are. */
const isSilence = ({ reason }: EtcdError.EtcdError): boolean =>
  reason._tag === "Unreachable"
    ? reason.lasting !== true
    : reason._tag === "ConnectionLost" || reason._tag === "DeadlineExceeded"

/** A cluster that can decide, and its leader; or a refusal. */
export const whole = (client: EtcdClient.Client, refuse: Refuse) =>
  Effect.gen(function* () {
    const help = "Start the members that are down; where they are lost for good, see EtcdCluster's recover."
    const survey = yield* Effect.catchIf(make(client), isSilence, ({ message }) =>
      Effect.fail(refuse("no-quorum", [`nobody says who the members are: ${message.replace(/\.$/, "")}`], help))
    )
    const { leader, members, voters } = survey
    if (leader !== undefined && hasQuorum(survey)) {
      const found: Whole = { ...survey, leader }
      return found
    }
    return yield* Effect.fail(
      refuse(
        "no-quorum",
        [
          `${answering(survey)} of ${voters.length} voters answer, and no majority names a leader`,
          ...members.map(describe)
        ],
        help
      )
    )
  })

/** How long it may take until a majority has heard of who was elected. */
const settling = "5 seconds"

/** As {@link whole}, in the midst of an operation: nobody may answer for a moment, or somebody was elected just now. */
export const settled = (client: EtcdClient.Client, refuse: Refuse) =>
  Effect.retry(whole(client, refuse), {
    while: (failure) => failure._tag === "ClusterRefused" || !isForbidden(failure),
    schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: settling }))
  })

const cures: { readonly [type in EtcdMaintenance.AlarmType]: string } = {
  NoSpace: "See clearNoSpace: it makes room, and disarms the alarm.",
  Corrupt: "See findCorrupt: the member whose data are not those of the others has to be replaced first."
}

/** A refusal where one of these alarms is armed: of a cluster that takes no writes, or whose members differ. */
export const noAlarm = (
  client: EtcdClient.Client,
  { members }: Survey,
  refuse: Refuse,
  types: ReadonlyArray<EtcdMaintenance.AlarmType> = ["NoSpace", "Corrupt"]
) =>
  Effect.gen(function* () {
    const alarms = yield* EtcdMaintenance.fromClient(client).alarms({ deadline: patience })
    // What ails the data comes before what ails their size.
    const armed = alarms
      .filter(({ type }) => types.includes(type))
      .sort((one, other) => (one.type < other.type ? -1 : 1))
    const [first] = armed
    if (first === undefined) return
    const evidence = armed.map(({ memberId, type }) => {
      const whose = find(members, memberId)?.member
      return `the alarm ${type} is armed for ${whose === undefined ? `member ${format(memberId)}` : nameOf(whose)}`
    })
    yield* Effect.fail(refuse("alarm", evidence, cures[first.type]))
  })

/** How far behind the leader a member may be that takes part: as far as etcd itself lets requests get ahead of it. */
export const tolerance = 5000n

const lagOf = (leader: Surveyed, { status }: Surveyed): bigint =>
  leader.status!.raftAppliedIndex - (status?.raftAppliedIndex ?? 0n)

/** What is wrong with a member; nothing, where it may take part. Alarms are the cluster's, and no matter of its own. */
export const ailment = (leader: Surveyed, one: Surveyed): string | undefined => {
  if (one.status === undefined) return describe(one)
  if (Option.isNone(one.status.leader)) return `${describe(one)}, and knows of no leader`
  const lag = lagOf(leader, one)
  return lag > tolerance ? `${describe(one)}, and has ${lag} entries of the log still to apply` : undefined
}

/** A refusal where not all voters are well: of what keeps one of them busy while it lasts. */
export const allWell = (survey: Whole, refuse: Refuse) => {
  const ailments = survey.voters.flatMap((one) => ailment(survey.leader, one) ?? [])
  const help =
    "Start who is down, or remove it; wait for who lags behind, or is still at what an operation that was killed had asked it for."
  return ailments.length === 0 ? Effect.void : Effect.fail(refuse("unhealthy-member", ailments, help))
}
