/**
 * Making a cluster larger, smaller, and putting a member in the place of another.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdOperations from "../../EtcdOperations.ts"
import type { Fleet } from "../cluster/fleet.ts"
import * as Joining from "./joining.ts"
import * as Leaving from "./leaving.ts"
import { perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Survey from "./survey.ts"

type Whole = Survey.Survey & { readonly leader: Survey.Surveyed }

/** All voters have to be there before somebody else is to vote: what is lost by a mistake then is not the quorum. */
const allAnswer = (survey: Whole, refuse: Refuse, but?: Survey.Surveyed) => {
  const silent = survey.voters.filter((one) => one !== but && one.status === undefined)
  if (silent.length === 0) return Effect.void
  return Effect.fail(
    refuse("unhealthy-member", silent.map(Survey.describe), "Start it, or let replace put another in its place.")
  )
}

/** etcd has one learner at a time. */
const noLearner = (survey: Whole, refuse: Refuse, own: ReadonlyArray<string>) => {
  const strange = survey.learners.filter(({ member }) => !member.peerUrls.some((url) => own.includes(url)))
  if (strange.length === 0) return Effect.void
  return Effect.fail(
    refuse(
      "learner",
      strange.map(Survey.describe),
      "etcd has one learner at a time: promote this one, or remove it (EtcdMembership)."
    )
  )
}

const mostVoters = 99

export const grow = (fleet: Fleet, client: EtcdClient.Client, options: EtcdCluster.GrowOptions = {}) => {
  const refuse = refusal("grow")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const begun = fleet.unfinished().joining.length
    const isVoter = (urls: ReadonlyArray<string>) =>
      survey.voters.some(({ member }) => member.peerUrls.some((url) => urls.includes(url)))
    // One that had got its vote before it was remembered counts as one that is still to come.
    const early = yield* Effect.filter(
      Array.from({ length: begun }, (_, index) => index),
      (index) => Effect.map(fleet.newcomer(options.config, index), ({ peerUrls }) => isVoter(peerUrls))
    )
    const voters = survey.voters.length - early.length
    const wanted = options.to ?? voters + Math.max(1, begun)
    if (wanted > mostVoters) {
      return yield* Effect.fail(refuse("size", [`${wanted} voters are wanted`], `There are ${mostVoters} at most.`))
    }
    if (wanted < voters) {
      const evidence = [`there are ${voters} voters, and ${wanted} are wanted`]
      return yield* Effect.fail(refuse("size", evidence, "Use shrink to make the cluster smaller."))
    }
    const newcomers = yield* Effect.forEach(
      Array.from({ length: Math.max(wanted - voters, begun) }, (_, index) => index),
      (index) => fleet.newcomer(options.config, index)
    )
    if (newcomers.length === 0) return []
    yield* allAnswer(survey, refuse)
    yield* noLearner(survey, refuse, newcomers[0]!.peerUrls)
    return newcomers.flatMap((newcomer) => Joining.steps(fleet, client, refuse, newcomer, survey.members))
  })
  return perform({ name: "grow", client, plan }, options)
}

/** Whether the others can decide without it, and would still if they had one member less. */
const canSpare = (survey: Whole, one: Survey.Surveyed, refuse: Refuse) => {
  const others = survey.voters.filter((other) => other !== one)
  const answering = others.filter(({ status }) => status !== undefined)
  if (one.member.isLearner || (others.length > 0 && answering.length >= Survey.majority(others.length)))
    return Effect.void
  return Effect.fail(
    refuse(
      "quorum-at-risk",
      [
        `without ${Survey.nameOf(one.member)} ${answering.length} of ${others.length} voters would answer, and ` +
          `${Survey.majority(others.length)} have to`,
        ...survey.members.map(Survey.describe)
      ],
      others.length === 0
        ? "The last member cannot be removed: close the cluster."
        : "Start the members that are down first."
    )
  )
}

const found = (survey: Whole, ref: EtcdOperations.MemberRef, refuse: Refuse) => {
  const one = Survey.find(survey.members, ref)
  return one === undefined
    ? Effect.fail(
        refuse(
          "no-such-member",
          [`there is no ${Survey.show(ref)}`, ...survey.members.map(Survey.describe)],
          "Name one of these."
        )
      )
    : Effect.succeed(one)
}

/** The one to go where none is named: the last that neither leads nor is needed to. */
const lastFollower = ({ leader, voters }: Whole) => voters.findLast((one) => one !== leader) ?? leader

export const shrink = (
  fleet: Fleet,
  client: EtcdClient.Client,
  ref: EtcdOperations.MemberRef | undefined,
  options: EtcdOperations.Options = {}
) => {
  const refuse = refusal("shrink")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const begun = fleet.unfinished().leaving.find((name) => ref === undefined || ref === name)
    if (begun !== undefined) return Leaving.steps(fleet, client, refuse, begun, Survey.find(survey.members, begun))
    const one = ref === undefined ? lastFollower(survey) : yield* found(survey, ref, refuse)
    yield* canSpare(survey, one, refuse)
    return Leaving.steps(fleet, client, refuse, Survey.nameOf(one.member), one)
  })
  return perform({ name: "shrink", client, plan }, options)
}

export const replace = (
  fleet: Fleet,
  client: EtcdClient.Client,
  ref: EtcdOperations.MemberRef,
  options: EtcdCluster.ReplaceOptions = {}
) => {
  const refuse = refusal("replace")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const begun = fleet.unfinished().leaving.find((name) => ref === name)
    const newcomer = yield* fleet.newcomer(options.config, 0)
    const join = (members: ReadonlyArray<Survey.Surveyed>) => Joining.steps(fleet, client, refuse, newcomer, members)
    if (begun !== undefined) {
      // It had been remembered with who comes: where nobody is still to come, he is there.
      const old = Survey.find(survey.members, begun)
      const leave = Leaving.steps(fleet, client, refuse, begun, old)
      if (fleet.unfinished().joining.length === 0) return leave
      const others = survey.members.filter((other) => other !== old)
      return old?.status === undefined
        ? [...leave.slice(0, -1), ...join(others), leave.at(-1)!]
        : [...join(survey.members), ...leave]
    }
    const one = yield* found(survey, ref, refuse)
    if (one.member.isLearner) {
      return yield* Effect.fail(
        refuse("learner", [Survey.describe(one)], "Remove it (shrink), and grow the cluster anew.")
      )
    }
    yield* noLearner(survey, refuse, newcomer.peerUrls)
    const name = Survey.nameOf(one.member)
    const remember: Step = {
      title: `let ${newcomer.name} take the place of ${name}`,
      run: () => Effect.as(Effect.andThen(newcomer.begin, fleet.leave(name)), undefined)
    }
    const [remove, forget] = Leaving.steps(fleet, client, refuse, name, one) as readonly [Step, Step]
    if (one.status !== undefined) {
      yield* allAnswer(survey, refuse)
      return [remember, ...join(survey.members), remove, forget]
    }
    yield* canSpare(survey, one, refuse)
    const others = survey.members.filter((other) => other !== one)
    return [remember, remove, ...join(others), forget]
  })
  return perform({ name: "replace", client, plan }, options)
}
