/**
 * A member that leaves: the leadership is handed on, clients are led to others, it is removed, ends, and its data go.
 *
 * In this order: a leader that hands over drops what a follower forwards to it and says nothing, so that nobody knows what
 * has become of a write, and answers with an error what it was asked itself, which clients try again.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdMembership from "../../EtcdMembership.ts"
import type { Fleet } from "../cluster/fleet.ts"
import type { Leaving } from "../cluster/manifest.ts"
import * as Committed from "../maintenance/committed.ts"
import * as Time from "../time.ts"
import { whenConnected } from "./health.ts"
import * as Joining from "./joining.ts"
import * as MoveLeader from "./moveLeader.ts"
import type { Refuse, Step } from "./operation.ts"
import * as Survey from "./survey.ts"

/** How long one that was removed may take to end by itself. */
const lastBreathMillis = 10_000

/** What is left to do until nothing of it is there. `one`: undefined where it is no member any more. */
export const steps = (
  fleet: Fleet,
  client: EtcdClient.Client,
  refuse: Refuse,
  leaving: Leaving,
  one: Survey.Surveyed | undefined
): ReadonlyArray<Step> => {
  const { name } = leaving
  const membership = EtcdMembership.fromClient(client)
  /** It may have become the leader since it was looked at. */
  const handOn = ({ leader, voters }: Survey.Whole) => {
    const next = leader.member.id === one?.member.id ? MoveLeader.mostAdvanced(voters, leader) : undefined
    return next === undefined ? Effect.undefined : MoveLeader.step(client, leader, next).run(() => Effect.void)
  }
  const remove: Step = {
    title: `remove ${name}`,
    run: (tell) =>
      Effect.gen(function* () {
        const node = Joining.nodeOf(fleet, name)
        const { endpoint, member, status } = one!
        yield* fleet.leave(leaving)
        const survey = yield* Survey.settled(client, refuse)
        // Clients are not led to it any more: they need to be to the others.
        yield* Joining.admit(
          fleet,
          survey.voters.filter((other) => other.member.id !== member.id)
        )
        const led = yield* handOn(survey)
        // One that stands still: what etcd writes to a socket has no deadline, and the leader that removes it would wait for
        // it for good, and with it the cluster.
        const isSilent = survey.members.some((other) => other.member.id === member.id && other.status === undefined)
        if (node !== undefined && isSilent) yield* node.signal("SIGKILL")
        const remove = membership.remove(member.id).pipe(
          whenConnected(tell),
          Effect.catchReason("EtcdError", "MemberNotFound", () => Effect.void)
        )
        if (node === undefined || member.isLearner) yield* remove
        else {
          // What it was asked before that is done when this is.
          const answered = status === undefined ? Effect.void : Committed.writeDown(client, endpoint)
          yield* Effect.onError(Effect.all([fleet.close(node), answered, remove]), () => fleet.open(node))
        }
        yield* Committed.writeDown(client)
        return led
      })
  }
  const forget: Step = {
    title: `delete the data of ${name}`,
    run: () =>
      Effect.gen(function* () {
        const time = yield* Time.Time
        const node = Joining.nodeOf(fleet, name)
        if (node !== undefined) {
          // It hears that it was removed, and ends. A restart schedule is not to bring it back.
          const ended = SubscriptionRef.changes(node.role).pipe(
            Stream.filter(({ role }) => role === "stopped"),
            Stream.take(1),
            Stream.runDrain
          )
          yield* Time.within(time, ended, lastBreathMillis, () => Effect.void)
          yield* fleet.dismiss(node)
        }
        yield* fleet.forget(name)
        return undefined
      })
  }
  return one === undefined ? [forget] : [remove, forget]
}
