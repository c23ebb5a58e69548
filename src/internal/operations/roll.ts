/**
 * Going through the members one after another: followers first, then the leadership is handed on, once, and the member that
 * led is the last. The next one only when all are there again and name one leader.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdOperations from "../../EtcdOperations.ts"
import type * as EtcdProcess from "../../EtcdProcess.ts"
import type { Fleet } from "../cluster/fleet.ts"
import { awaitWhole } from "./health.ts"
import * as MoveLeader from "./moveLeader.ts"
import { type Failure, perform, type Refuse, refusal, type Step, type Tell } from "./operation.ts"
import * as Survey from "./survey.ts"

/** What is done to each member, which may be interrupted where that is no harm. */
export interface Stop {
  /** As in "restart". */
  readonly verb: string
  readonly run: (node: EtcdProcess.Node, tell: Tell) => Effect.Effect<string | undefined, Failure>
}

const isOf =
  (node: EtcdProcess.Node) =>
  ({ member }: Survey.Surveyed): boolean =>
    member.id === node.id

/** `nodes`: those that it is to be done to. One that was removed, and whose data are still there, cannot be started any more. */
export const steps = (
  client: EtcdClient.Client,
  refuse: Refuse,
  survey: Survey.Survey & { readonly leader: Survey.Surveyed },
  nodes: ReadonlyArray<EtcdProcess.Node>,
  stop: Stop
): ReadonlyArray<Step> => {
  const members = nodes.filter((node) => survey.members.some(isOf(node)))
  const leading = members.find((node) => isOf(node)(survey.leader))
  const isDown = (node: EtcdProcess.Node) => survey.members.find(isOf(node))?.status === undefined
  const followers = members.filter((node) => node !== leading)
  const down = followers.filter(isDown)
  const each = (node: EtcdProcess.Node): Step => ({
    title: `${stop.verb} ${node.name}`,
    // Of one or two members none can be missed.
    takesQuorum: survey.voters.length < 3,
    run: (tell) =>
      Effect.gen(function* () {
        const detail = yield* stop.run(node, tell)
        // The others that are down come next.
        if (!down.slice(0, -1).includes(node)) yield* awaitWhole(client, refuse, tell, node.id)
        return detail
      })
  })
  /** The one that leads by then, if that is still to be gone through. */
  const handOn = (node: EtcdProcess.Node): Step => ({
    title: `hand the leadership of ${node.name} on`,
    run: (tell) =>
      Effect.gen(function* () {
        const { leader, voters } = yield* Survey.settled(client, refuse)
        if (!isOf(node)(leader)) return `${Survey.nameOf(leader.member)} leads already`
        const next = MoveLeader.mostAdvanced(voters, leader)
        return next === undefined ? undefined : yield* MoveLeader.step(client, leader, next).run(tell)
      })
  })
  return [
    ...down.map(each),
    ...followers.filter((node) => !isDown(node)).map(each),
    ...(leading === undefined ? [] : [...(survey.voters.length > 1 ? [handOn(leading)] : []), each(leading)])
  ]
}

export const restart = (fleet: Fleet, client: EtcdClient.Client, options: EtcdOperations.Options = {}) => {
  const refuse = refusal("restart")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const nodes = SubscriptionRef.getUnsafe(fleet.members)
    // It would be missed while another one is started again.
    const missed = survey.voters.filter((one) => one.status === undefined && !nodes.some((node) => isOf(node)(one)))
    if (missed.length > 0) {
      const help = "It does not run here: start it where it does, or remove it."
      return yield* Effect.fail(refuse("unhealthy-member", missed.map(Survey.describe), help))
    }
    return steps(client, refuse, survey, nodes, {
      verb: "restart",
      run: (node) =>
        Effect.as(
          fleet.isLost(node) ? fleet.renew(node) : Effect.uninterruptible(Effect.andThen(node.stop, node.start)),
          undefined
        )
    })
  })
  return perform({ name: "restart", client, turn: fleet.turn, sparesData: true, plan }, options)
}
