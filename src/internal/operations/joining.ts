/**
 * A member that joins: it is added as a learner, started with what the cluster says of its members, and given its vote when
 * it has caught up. Each step looks at what is there already, so that one which was ended half-way is taken up.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "../../EtcdClient.ts"
import { format } from "../../EtcdId.ts"
import * as EtcdMembership from "../../EtcdMembership.ts"
import type { Fleet, Newcomer } from "../cluster/fleet.ts"
import { awaitWhole, whenConnected } from "./health.ts"
import type { Refuse, Step } from "./operation.ts"
import * as Survey from "./survey.ts"

/** The member that can be reached there: before it has started it has no name. */
export const at = (
  members: ReadonlyArray<EtcdMembership.Member>,
  { peerUrls }: Pick<Newcomer, "peerUrls">
): EtcdMembership.Member | undefined => members.find((member) => member.peerUrls.some((url) => peerUrls.includes(url)))

/** Whom it joins, as the option `initial-cluster` has it. */
const initialClusterOf = (members: ReadonlyArray<EtcdMembership.Member>, newcomer: Newcomer) => {
  const own = at(members, newcomer)
  /** None of its own, or one that another one has as well. */
  const isNameless = ({ name }: EtcdMembership.Member) =>
    name === "" || members.filter((other) => other.name === name).length > 1
  return Object.fromEntries(
    members.map((one) => [
      one.id === own?.id ? newcomer.name : isNameless(one) ? format(one.id) : one.name,
      one.peerUrls
    ])
  )
}

/** For what is done where something has failed, or nobody waits for it any more. */
const inHaste = { deadline: "3 seconds" } as const

/** The member of that name that runs here. */
export const nodeOf = (fleet: Fleet, name: string) =>
  SubscriptionRef.getUnsafe(fleet.members).find((node) => node.name === name)

/** Whether it is where somebody joins. */
export const isAt = (joiner: Newcomer) => (one: Survey.Surveyed) => at([one.member], joiner) !== undefined

/** Those that had begun to join, in their order. */
export const joiners = (fleet: Fleet) =>
  Effect.forEach(fleet.unfinished().joining, (_, index) => fleet.newcomer(undefined, index))

/** Those with a vote that run here, and that clients are not led to: who promoted them has not come to that. */
export const unopened = (fleet: Fleet, voters: ReadonlyArray<Survey.Surveyed>) => {
  const opened = SubscriptionRef.getUnsafe(fleet.opened)
  return SubscriptionRef.getUnsafe(fleet.members).filter(
    (node) => !opened.includes(node) && voters.some(({ member }) => member.id === node.id)
  )
}

/** Who has a vote is a member, and clients are led to it, though nobody was there to write that down. */
export const admit = (fleet: Fleet, voters: ReadonlyArray<Survey.Surveyed>) =>
  Effect.gen(function* () {
    yield* Effect.forEach(unopened(fleet, voters), fleet.open, { discard: true })
    // Where it was given URLs of its own, it is known by its name.
    const settled = (yield* joiners(fleet)).filter((joiner) =>
      voters.some((one) => one.member.name === joiner.name || isAt(joiner)(one))
    )
    yield* Effect.forEach(settled, ({ settle }) => settle, { discard: true })
  })

/** What is left to do until it is a member with a vote. `members`: as they are now. */
export const steps = (
  fleet: Fleet,
  client: EtcdClient.Client,
  refuse: Refuse,
  newcomer: Newcomer,
  members: ReadonlyArray<Survey.Surveyed>
): ReadonlyArray<Step> => {
  const { name } = newcomer
  const membership = EtcdMembership.fromClient(client)
  const seen = at(
    members.map(({ member }) => member),
    newcomer
  )
  const dismiss = Effect.suspend(() => {
    const node = nodeOf(fleet, name)
    return node === undefined ? Effect.void : fleet.dismiss(node)
  })
  const current = Effect.map(membership.list(inHaste), ({ members }) => at(members, newcomer))
  /** It is no member any more, nor is anything left of it. One to whom somebody else has given its vote meanwhile stays. */
  const undo = Effect.gen(function* () {
    const member = yield* current
    if (member?.isLearner === false) return
    if (member !== undefined) yield* membership.remove(member.id, inHaste)
    yield* dismiss
    yield* newcomer.clear
  })
  /** Nobody waits for it any more. Ended before it is a member no more, it would be missed where it has a vote. */
  const giveUp = (starting: Fiber.Fiber<unknown, unknown>) =>
    Effect.flatMap(Effect.option(current), (member) =>
      Option.exists(member, (one) => one?.isLearner === false) ? Fiber.await(starting) : Fiber.interrupt(starting)
    )
  const isDown = members.some(({ member, status }) => member.id === seen?.id && status === undefined)
  /** Those that are down, and nobody waits for: of two that are dead one is replaced after the other. */
  const dead = members.filter(({ member, status }) => member.id !== seen?.id && status === undefined)
  const help = "This etcd adds nobody while a member is down: start it, or replace it first, and this one again."
  const add: Step = {
    title: `add ${name} as a learner`,
    run: (tell) =>
      Effect.gen(function* () {
        yield* dismiss
        // Data of one that was removed again are of no use to whoever comes.
        yield* newcomer.clear
        yield* newcomer.begin
        const { member } = yield* membership.add(newcomer.peerUrls, { isLearner: true }).pipe(
          // The id is made of the URLs and of the second: one that was removed in the same second has it, for good.
          whenConnected(tell, ["Unhealthy", "MemberNotFound"], dead.length === 0 ? undefined : 10),
          // Newer ones do.
          Effect.mapError((error) =>
            dead.length > 0 && error.reason._tag === "Unhealthy"
              ? refuse("unhealthy-member", dead.map(Survey.describe), help)
              : error
          )
        )
        return `it is ${format(member.id)}`
      })
  }
  const start: Step = {
    title: `start ${name}`,
    run: () =>
      Effect.gen(function* () {
        yield* newcomer.begin
        const down = nodeOf(fleet, name)
        if (down !== undefined) return yield* Effect.as(down.start, undefined)
        const { members } = yield* membership.list()
        const starting = yield* Effect.forkChild(fleet.start(newcomer.join(initialClusterOf(members, newcomer))))
        const node = yield* Effect.onInterrupt(Fiber.join(starting), () => giveUp(starting))
        return `it serves at ${node.endpoints[0]}`
      }).pipe(
        // Not started in time: nobody is to wait for it. Where it cannot be removed it keeps its data: without them it could
        // not come back under its id.
        Effect.onError(() => (seen?.isLearner === false ? Effect.void : Effect.ignore(undo)))
      )
  }
  const promote: Step = {
    title: `promote ${name}`,
    run: (tell) =>
      Effect.gen(function* () {
        const { members } = yield* membership.list()
        const member = at(members, newcomer)
        if (member === undefined) {
          return yield* Effect.fail(
            refuse("no-such-member", [`${name} is no member any more`], "Somebody has removed it.")
          )
        }
        if (member.isLearner) {
          yield* membership.promote(member.id).pipe(whenConnected(tell, ["LearnerNotReady", "Unhealthy"]))
        }
        yield* awaitWhole(
          client,
          refuse,
          tell,
          member.id,
          dead.map((one) => one.member.id)
        )
        const node = nodeOf(fleet, name)
        // Both or neither: what is written down is not done again.
        yield* Effect.uninterruptible(
          Effect.andThen(newcomer.settle, node === undefined ? Effect.void : fleet.open(node))
        )
        return undefined
      })
  }
  return [
    ...(seen === undefined ? [add] : []),
    ...(nodeOf(fleet, name) === undefined || isDown || seen === undefined ? [start] : []),
    promote
  ]
}
