/**
 * Making another member the leader.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as EtcdClient from "../../EtcdClient.ts"
import { format } from "../../EtcdId.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type * as EtcdOperations from "../../EtcdOperations.ts"
import { type Failure, perform, refusal, type Step } from "./operation.ts"
import * as Survey from "./survey.ts"

const refuse = refusal("moveLeader")

/** The voter beside the leader that has applied most, so that it has least to catch up. */
export const mostAdvanced = (
  voters: ReadonlyArray<Survey.Surveyed>,
  leader: Survey.Surveyed
): Survey.Surveyed | undefined =>
  voters
    .filter((one) => one !== leader && Survey.ailment(leader, one) === undefined)
    .reduce<Survey.Surveyed | undefined>(
      (best, one) => (best === undefined || one.status!.raftAppliedIndex > best.status!.raftAppliedIndex ? one : best),
      undefined
    )

/** The one who is to lead; or a refusal. */
const targetOf = (survey: Survey.Whole, to: EtcdOperations.MemberRef | undefined) => {
  const all = survey.members.map(Survey.describe)
  if (to === undefined) {
    const best = mostAdvanced(survey.voters, survey.leader)
    if (best !== undefined) return Effect.succeed(best)
    return Effect.fail(refuse("unhealthy-member", all, "Another voter has to be there that answers."))
  }
  const target = Survey.find(survey.members, to)
  if (target === undefined) {
    return Effect.fail(refuse("no-such-member", [`there is no ${Survey.show(to)}`, ...all], "Name one of these."))
  }
  if (target.member.isLearner) {
    const help = "A learner cannot lead: name a voter, or promote it first."
    return Effect.fail(refuse("learner", [Survey.describe(target)], help))
  }
  const ailment = Survey.ailment(survey.leader, target)
  if (ailment === undefined) return Effect.succeed(target)
  return Effect.fail(refuse("unhealthy-member", [ailment], "Wait until it is well, or name another."))
}

/** For how long the leader is asked. etcd itself gives up after an election timeout, but does not say so. */
const patience = "10 seconds"

const leads = ({ header, leader }: EtcdMaintenance.Status) => Option.contains(leader, header.memberId)

/**
 * Hands the leadership on, and waits until the new leader says so, and a majority names it. Answers in which term; at once,
 * where it leads already.
 */
const handOn = (client: EtcdClient.Client, to: Survey.Surveyed): Effect.Effect<bigint, Failure> => {
  const maintenance = EtcdMaintenance.fromClient(client)
  const { id } = to.member
  return Effect.gen(function* () {
    const before = yield* Survey.settled(client, refuse)
    if (before.leader.member.id !== id) {
      yield* maintenance.moveLeader(id, { endpoint: before.leader.endpoint, deadline: patience }).pipe(
        // Whether the answer came, and who was asked, does not matter where it leads by now.
        Effect.catch((error) =>
          Effect.flatMap(maintenance.status({ endpoint: to.endpoint, deadline: patience }), (status) =>
            leads(status) ? Effect.void : Effect.fail(error)
          )
        )
      )
    }
    // Others may not have heard of it, and name the one before.
    const { leader } = yield* Effect.repeat(Survey.settled(client, refuse), {
      until: ({ leader }) => leader.member.id === id,
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "5 seconds" }))
    })
    if (leader.member.id === id) return leader.status!.raftTerm
    const evidence = [`${Survey.nameOf(to.member)} was asked to lead, and ${Survey.nameOf(leader.member)} leads`]
    return yield* Effect.fail(refuse("unhealthy-member", evidence, "Somebody else may have been elected meanwhile."))
  })
}

/** The leader may be another one than was seen. */
const isOver = (failure: Failure): boolean =>
  failure._tag === "EtcdError" && (failure.reason._tag === "NotLeader" || failure.reason._tag === "NoLeader")

/** The step that hands the leadership on, which is done when the new leader says so. */
export const step = (client: EtcdClient.Client, from: Survey.Surveyed, to: Survey.Surveyed): Step => ({
  title: `move the leader from ${Survey.nameOf(from.member)} to ${Survey.nameOf(to.member)}`,
  run: () =>
    handOn(client, to).pipe(
      Effect.retry({ while: isOver, schedule: Schedule.spaced("100 millis"), times: 20 }),
      Effect.map((term) => `${format(to.member.id)} leads since term ${term}`)
    )
})

export const moveLeader = (
  client: EtcdClient.Client,
  to: EtcdOperations.MemberRef | undefined,
  options: EtcdOperations.Options | undefined
) => {
  return perform(
    {
      name: "moveLeader",
      client,
      plan: Effect.gen(function* () {
        const survey = yield* Survey.whole(client, refuse)
        yield* Survey.noAlarm(client, survey, refuse)
        const target = yield* targetOf(survey, to)
        return target === survey.leader ? [] : [step(client, survey.leader, target)]
      })
    },
    options
  )
}
