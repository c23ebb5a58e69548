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
import { perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Survey from "./survey.ts"

/** The voter beside the leader that has applied most, so that it has least to catch up. */
export const mostAdvanced = (voters: ReadonlyArray<Survey.Surveyed>, leader: Survey.Surveyed) =>
  voters
    .filter((one) => one !== leader && one.status !== undefined && one.status.errors.length === 0)
    .reduce<Survey.Surveyed | undefined>(
      (best, one) => (best === undefined || one.status!.raftAppliedIndex > best.status!.raftAppliedIndex ? one : best),
      undefined
    )

/** How far behind the leader a member may be that is to lead. */
const tolerance = 5000n

/** The one who is to lead; or a refusal. */
const targetOf = (
  { leader, members, voters }: Survey.Survey & { readonly leader: Survey.Surveyed },
  to: EtcdOperations.MemberRef | undefined,
  refuse: Refuse
) => {
  const all = members.map(Survey.describe)
  if (to === undefined) {
    const best = mostAdvanced(voters, leader)
    if (best !== undefined) return Effect.succeed(best)
    return Effect.fail(refuse("unhealthy-member", all, "Another voter has to be there that answers."))
  }
  const target = Survey.find(members, to)
  if (target === undefined) {
    return Effect.fail(refuse("no-such-member", [`there is no ${Survey.show(to)}`, ...all], "Name one of these."))
  }
  const evidence = [Survey.describe(target)]
  if (target.member.isLearner) {
    return Effect.fail(refuse("learner", evidence, "A learner cannot lead: name a voter, or promote it first."))
  }
  const { status } = target
  if (status === undefined || status.errors.length > 0) {
    const errors = status?.errors ?? []
    return Effect.fail(refuse("unhealthy-member", [...evidence, ...errors], "Wait until it is well, or name another."))
  }
  const behind = leader.status!.raftAppliedIndex - status.raftAppliedIndex
  if (behind > tolerance) {
    const lag = `it has ${behind} entries of the log still to apply`
    return Effect.fail(refuse("unhealthy-member", [...evidence, lag], "Wait until it has caught up, or name another."))
  }
  return Effect.succeed(target)
}

/** The step that hands the leadership on, which is done when the new leader says so. */
export const step = (client: EtcdClient.Client, from: Survey.Surveyed, to: Survey.Surveyed): Step => {
  const maintenance = EtcdMaintenance.fromClient(client)
  return {
    title: `move the leader from ${Survey.nameOf(from.member)} to ${Survey.nameOf(to.member)}`,
    run: () =>
      Effect.gen(function* () {
        yield* maintenance.moveLeader(to.member.id, { endpoint: from.endpoint })
        const { raftTerm } = yield* maintenance.status({ endpoint: to.endpoint }).pipe(
          Effect.repeat({
            until: ({ leader }) => Option.contains(leader, to.member.id),
            schedule: Schedule.spaced("50 millis"),
            times: 100
          })
        )
        return `${format(to.member.id)} leads since term ${raftTerm}`
      })
  }
}

export const moveLeader = (
  client: EtcdClient.Client,
  to: EtcdOperations.MemberRef | undefined,
  options: EtcdOperations.Options | undefined
) => {
  const name = "moveLeader"
  const refuse = refusal(name)
  return perform(
    {
      name,
      client,
      plan: Effect.gen(function* () {
        const survey = yield* Survey.whole(client, refuse)
        const target = yield* targetOf(survey, to, refuse)
        return target === survey.leader ? [] : [step(client, survey.leader, target)]
      })
    },
    options
  )
}
