/**
 * Making a cluster larger, smaller, and putting a member in the place of another.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import { format, MemberId } from "../../EtcdId.ts"
import type * as EtcdOperations from "../../EtcdOperations.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type { Fleet, Newcomer } from "../cluster/fleet.ts"
import type { Leaving as Gone } from "../cluster/manifest.ts"
import * as Joining from "./joining.ts"
import * as Leaving from "./leaving.ts"
import { perform, type Refuse, refusal, type Step, type Tell } from "./operation.ts"
import { mostVoters, twoVoters } from "./options.ts"
import * as Survey from "./survey.ts"

type Whole = Survey.Survey & { readonly leader: Survey.Surveyed }

/** All voters have to be there before somebody else is to vote: what is lost by a mistake then is not the quorum. */
const allAnswer = (survey: Whole, refuse: Refuse) => {
  const silent = survey.voters.filter(({ status }) => status === undefined)
  if (silent.length === 0) return Effect.void
  return Effect.fail(
    refuse("unhealthy-member", silent.map(Survey.describe), "Start it, or let replace put another in its place.")
  )
}

/** How much is left to do until it has a vote: nothing, but to write that down; to promote it; or all. */
const left = ({ members, voters }: Whole, newcomer: Newcomer): 0 | 1 | 2 => {
  const isThere = Joining.isAt(newcomer)
  return voters.some(isThere) ? 0 : members.some(isThere) ? 1 : 2
}

/** etcd has one learner at a time, which is in the way of one that is to be added, unless it is promoted or removed before. */
const noLearner = (fleet: Fleet, survey: Whole, refuse: Refuse, newcomers: ReadonlyArray<Newcomer>) => {
  const { leaving } = fleet.unfinished()
  const strange = survey.learners.filter(
    (one) =>
      !newcomers.some((newcomer) => Joining.isAt(newcomer)(one)) &&
      !leaving.some(({ id }) => id === format(one.member.id))
  )
  if (strange.length === 0 || !newcomers.some((one) => left(survey, one) === 2)) return Effect.void
  return Effect.fail(
    refuse(
      "learner",
      strange.map(Survey.describe),
      "etcd has one learner at a time: promote this one, or remove it (EtcdMembership)."
    )
  )
}

/** Who is to join, which is asked of what is known of the cluster, and of the configuration that is given. */
const newcomer = (
  fleet: Fleet,
  { members }: Whole,
  refuse: Refuse,
  config: EtcdConfig.Input | undefined,
  index: number
) =>
  Effect.mapError(
    fleet.newcomer(
      config,
      index,
      members.map(({ member }) => member)
    ),
    ({ message }) => refuse("config", [message], "Change the option config.")
  )

/** A name, an address and a directory are one member's. `before`: who joins before it. */
const isOwn = (survey: Whole, newcomer: Newcomer, refuse: Refuse, before: ReadonlyArray<Newcomer> = []) =>
  Effect.gen(function* () {
    const { name } = newcomer
    const namesake = before.find(({ peerUrls }) => peerUrls.some((url) => newcomer.peerUrls.includes(url)))
    if (namesake !== undefined) {
      const evidence = `${namesake.name} and ${name} would both be reached at ${newcomer.peerUrls.join(", ")}`
      return yield* Effect.fail(refuse("config", [evidence], "Let one join after the other, each with its own URLs."))
    }
    const members = survey.members.map(({ member }) => member)
    const there = Joining.at(members, newcomer)
    const other =
      there === undefined || ["", name].includes(there.name)
        ? members.find((one) => one !== there && one.name === name)
        : there
    if (other !== undefined) {
      const evidence = `there is a member ${Survey.nameOf(other)} at ${other.peerUrls.join(", ")}`
      return yield* Effect.fail(refuse("config", [evidence], "Give a name and URLs that no other member has."))
    }
    const inTheWay = yield* newcomer.inTheWay(there?.id)
    if (inTheWay.length === 0) return
    const evidence = inTheWay.map((directory) => `there is something in ${directory}`)
    yield* Effect.fail(
      refuse("data-in-the-way", evidence, "A new member begins with empty data: give other directories.")
    )
  })

/** Says before a step that there are going to be two voters. */
const warning = (step: Step): Step => ({
  title: step.title,
  run: (tell) => Effect.andThen(Effect.logWarning(twoVoters), step.run(tell))
})

/**
 * It takes nobody's place but this one's, though it was to take another's, which was not brought to its end: who is a voter
 * yet stays one.
 */
const claim = (fleet: Fleet, { voters }: Whole, { name }: Pick<Newcomer, "name">, place?: string) =>
  Effect.forEach(
    fleet.unfinished().leaving.filter((one) => one.successor === name && one.name !== place),
    (one) =>
      voters.some(({ member: { id } }) => format(id) === one.id || id === Joining.nodeOf(fleet, one.name)?.id)
        ? fleet.stay(one.name)
        : fleet.leave({ ...one, successor: undefined }),
    { discard: true }
  )

/** Those that were to leave, and are in the way of who joins: that is brought to its end. `but`: who is seen to in another way. */
const leavers = (
  fleet: Fleet,
  client: EtcdClient.Client,
  survey: Whole,
  refuse: Refuse,
  but: (one: Survey.Surveyed) => boolean
): ReadonlyArray<Step> =>
  fleet.unfinished().leaving.flatMap((gone) => {
    const there = survey.learners.find(({ member }) => format(member.id) === gone.id)
    return there === undefined || but(there) ? [] : Leaving.steps(fleet, client, refuse, gone, there)
  })

/** Leads clients to those that have got a vote, where whoever gave it to them did not come to that. */
const leadTo = (fleet: Fleet, { voters }: Whole): ReadonlyArray<Step> =>
  Joining.unopened(fleet, voters).map((node) => ({
    title: `lead clients to ${node.name}`,
    run: () => Effect.as(fleet.open(node), undefined)
  }))

export const grow = (fleet: Fleet, client: EtcdClient.Client, options: EtcdCluster.GrowOptions = {}) => {
  const refuse = refusal("grow")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const count = survey.voters.length
    const begun = fleet.unfinished().joining.length
    /** Who is nearest to a vote comes first. */
    const comers = (many: number) =>
      Effect.map(
        Effect.forEach(
          Array.from({ length: Math.max(many, begun) }, (_, index) => index),
          (index) => newcomer(fleet, survey, refuse, options.config, index)
        ),
        (all) => all.sort((one, other) => left(survey, one) - left(survey, other)).slice(0, many)
      )
    // One that had got its vote before that was remembered counts as one that is still to come.
    const early = (yield* comers(begun)).filter((one) => left(survey, one) === 0).length
    const wanted = options.to ?? count - early + Math.max(1, begun)
    if (wanted > mostVoters) {
      const evidence = [`there are ${count} voters, and ${wanted} are wanted`]
      return yield* Effect.fail(
        refuse("size", evidence, `There are ${mostVoters} at most: each write waits for a majority of them.`)
      )
    }
    if (wanted < count) {
      const evidence = [`there are ${count} voters, and ${wanted} are wanted`]
      return yield* Effect.fail(refuse("size", evidence, "Use shrink to make the cluster smaller."))
    }
    const newcomers = yield* comers(wanted - count + early)
    if (newcomers.length === 0) return leadTo(fleet, survey)
    yield* allAnswer(survey, refuse)
    yield* noLearner(fleet, survey, refuse, newcomers)
    yield* Effect.forEach(newcomers, (one, index) => isOwn(survey, one, refuse, newcomers.slice(0, index)), {
      discard: true
    })
    const steps = newcomers.flatMap((one) => {
      const [first, ...others] = Joining.steps(fleet, client, refuse, one, survey.members)
      return [
        { ...first!, run: (tell: Tell) => Effect.andThen(claim(fleet, survey, one), first!.run(tell)) },
        ...others
      ]
    })
    return [
      ...leavers(fleet, client, survey, refuse, (one) => newcomers.some((comer) => Joining.isAt(comer)(one))),
      ...(wanted === 2 ? [warning(steps[0]!), ...steps.slice(1)] : steps)
    ]
  })
  return perform({ name: "grow", client, turn: fleet.turn, plan }, options)
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

/** The last one here takes the client along by which it would be seen that it has left, and all that this program has. */
const isLastHere = (fleet: Fleet, survey: Whole, one: Survey.Surveyed) => {
  const here = SubscriptionRef.getUnsafe(fleet.members).flatMap(({ id }) =>
    survey.voters.filter(({ member, status }) => member.id === id && status !== undefined)
  )
  return here.length === 1 && here[0] === one
}

const isOf =
  (ref: EtcdOperations.MemberRef | undefined) =>
  ({ id, name }: Gone): boolean =>
    ref === undefined || (typeof ref === "string" ? ref === name : format(MemberId(ref)) === id)

/** The one to go where none is named: of those that run here, or else of all, the one that came last, but not the leader. */
const lastFollower = (fleet: Fleet, { leader, voters }: Whole) => {
  const followers = voters.filter((one) => one !== leader)
  const isFollower = ({ id }: EtcdProcess.Node) => followers.some(({ member }) => member.id === id)
  const last = SubscriptionRef.getUnsafe(fleet.members).findLast(isFollower)
  return followers.find(({ member }) => member.id === last?.id) ?? followers.at(-1) ?? leader
}

const leavingOf = (name: string, one: Survey.Surveyed | undefined, begun?: Gone): Gone => ({
  name,
  id: one === undefined ? begun?.id : format(one.member.id),
  successor: begun?.successor
})

/** One that was removed by somebody else, and has ended: its data are still there. */
const removed = (fleet: Fleet, { members }: Whole, ref: EtcdOperations.MemberRef | undefined): Gone | undefined =>
  SubscriptionRef.getUnsafe(fleet.members)
    .filter(
      ({ id, role }) =>
        SubscriptionRef.getUnsafe(role).role === "stopped" && !members.some(({ member }) => member.id === id)
    )
    .map(({ id, name }) => ({ name, id: format(id), successor: undefined }))
    .find(isOf(ref))

/**
 * Who is meant, by the name that it has here: a member, or one that was leaving or joining when that was ended half-way, and
 * may be none.
 */
const meant = (fleet: Fleet, survey: Whole, ref: EtcdOperations.MemberRef | undefined, refuse: Refuse) =>
  Effect.gen(function* () {
    const begun = fleet.unfinished().leaving.find(isOf(ref)) ?? removed(fleet, survey, ref)
    const joining = yield* Joining.joiners(fleet)
    const named = begun?.name ?? ref
    const came = joining.find(({ name }) => name === named)
    // One that runs elsewhere may have the name of one that runs here.
    const here = typeof named === "string" ? Joining.nodeOf(fleet, named)?.id : undefined
    const one =
      named === undefined
        ? lastFollower(fleet, survey)
        : (survey.members.find(({ member }) => format(member.id) === begun?.id) ??
          Survey.find(survey.members, here ?? named) ??
          Survey.find(survey.members, named) ??
          (came === undefined ? undefined : survey.members.find(Joining.isAt(came))))
    if (one === undefined && begun === undefined && came === undefined) {
      const evidence = [`there is no ${Survey.show(named!)}`, ...survey.members.map(Survey.describe)]
      return yield* Effect.fail(refuse("no-such-member", evidence, "Name one of these."))
    }
    const nameOf = (one: Survey.Surveyed) => {
      const { id, name } = one.member
      const namesake = Joining.nodeOf(fleet, name)
      const isOther = namesake !== undefined && namesake.id !== id
      return (
        joining.find((joiner) => Joining.isAt(joiner)(one))?.name ??
        Survey.nameOf(isOther ? { ...one.member, name: "" } : one.member)
      )
    }
    const name = begun?.name ?? (one === undefined ? came!.name : nameOf(one))
    return { one, leaving: leavingOf(name, one, begun) }
  })

export const shrink = (
  fleet: Fleet,
  client: EtcdClient.Client,
  ref: EtcdOperations.MemberRef | undefined,
  options: EtcdOperations.Options = {}
) => {
  const refuse = refusal("shrink")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const { leaving, one } = yield* meant(fleet, survey, ref, refuse)
    if (one !== undefined) {
      yield* canSpare(survey, one, refuse)
      if (isLastHere(fleet, survey, one)) {
        const evidence = [`${Survey.nameOf(one.member)} is the last one with a vote that runs here`]
        const help =
          "Replace it; or close this cluster, and let it be removed where another one runs (EtcdMembership.remove)."
        return yield* Effect.fail(refuse("quorum-at-risk", evidence, help))
      }
    }
    // Who was to take its place, and has no vote yet, is not to come any more.
    const comer = (yield* Joining.joiners(fleet)).find(({ name }) => name === leaving.successor)
    const came = comer && survey.members.find(Joining.isAt(comer))
    const [first, ...others] = Leaving.steps(fleet, client, refuse, leaving, one)
    const steps = [
      ...leavers(fleet, client, survey, refuse, (other) => other === one),
      ...(comer === undefined || came?.member.isLearner === false
        ? []
        : Leaving.steps(fleet, client, refuse, leavingOf(comer.name, came), came)),
      // Where it was to take the place of another one, that is taken back.
      { ...first!, run: (tell: Tell) => Effect.andThen(claim(fleet, survey, leaving), first!.run(tell)) },
      ...others
    ]
    const isTwo = survey.voters.length === 3 && one?.member.isLearner === false
    return isTwo ? [warning(steps[0]!), ...steps.slice(1)] : steps
  })
  return perform({ name: "shrink", client, turn: fleet.turn, plan }, options)
}

/** Who comes would go with the one in whose place it is put; and who has joined before does not come. */
const isAnother = ({ hasJoined, name }: Newcomer, place: string, refuse: Refuse) => {
  if (name !== place && !hasJoined) return Effect.void
  const evidence =
    name === place ? `${name} is the name of the one in whose place it is put` : `${name} has joined already`
  return Effect.fail(refuse("config", [evidence], "Give a name and URLs that no other member has."))
}

/** What is to be done to put another one in the place of a member. */
export const replacing = (
  fleet: Fleet,
  client: EtcdClient.Client,
  refuse: Refuse,
  ref: EtcdOperations.MemberRef,
  config: EtcdConfig.Input | undefined
) =>
  Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const { leaving: seen, one } = yield* meant(fleet, survey, ref, refuse)
    if (one?.member.isLearner === true) {
      return yield* Effect.fail(
        refuse("learner", [Survey.describe(one)], "Remove it (shrink), and grow the cluster anew.")
      )
    }
    const joining = yield* Joining.joiners(fleet)
    const isJoining = (wanted: string | undefined) => joining.some(({ name }) => name === wanted)
    // It is remembered with who comes, who may be there by now.
    const isThere = survey.voters.some(({ member: { name } }) => name === seen.successor && !isJoining(name))
    // One that has its vote already is a member, though that was not remembered: it takes the place of nobody else.
    const comer = joining.findIndex((joiner) =>
      isJoining(seen.successor)
        ? joiner.name === seen.successor
        : joiner.name !== seen.name && !survey.voters.some(Joining.isAt(joiner))
    )
    const comes = isThere
      ? undefined
      : yield* newcomer(fleet, survey, refuse, config, comer < 0 ? joining.length : comer)
    const leaving = { ...seen, successor: comes?.name ?? seen.successor }
    const others = survey.members.filter((other) => other !== one)
    const join = comes === undefined ? [] : Joining.steps(fleet, client, refuse, comes, others)
    if (comes !== undefined) {
      yield* noLearner(fleet, survey, refuse, [comes])
      yield* isAnother(comes, leaving.name, refuse)
      yield* isOwn(survey, comes, refuse)
    }
    const remember: ReadonlyArray<Step> =
      comes === undefined || seen.successor === comes.name
        ? []
        : [
            {
              title: `let ${comes.name} take the place of ${leaving.name}`,
              run: () =>
                Effect.as(
                  Effect.all([comes.begin, claim(fleet, survey, comes, leaving.name), fleet.leave(leaving)]),
                  undefined
                )
            }
          ]
    const leave = Leaving.steps(fleet, client, refuse, leaving, one)
    const isComing = (one: Survey.Surveyed) => comes !== undefined && Joining.isAt(comes)(one)
    const before = [...leavers(fleet, client, survey, refuse, isComing), ...remember]
    if (one?.status === undefined) {
      if (one !== undefined) yield* canSpare(survey, one, refuse)
      return [...before, ...leave.slice(0, -1), ...join, leave.at(-1)!]
    }
    yield* allAnswer(survey, refuse)
    return [...before, ...join, ...leave]
  })

export const replace = (
  fleet: Fleet,
  client: EtcdClient.Client,
  ref: EtcdOperations.MemberRef,
  options: EtcdCluster.ReplaceOptions = {}
) =>
  perform(
    {
      name: "replace",
      client,
      turn: fleet.turn,
      plan: replacing(fleet, client, refusal("replace"), ref, options.config)
    },
    options
  )
