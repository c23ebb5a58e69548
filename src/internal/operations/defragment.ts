/**
 * Defragmenting the members of a cluster, one after the other.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { DefragmentOptions } from "../../EtcdOperations.ts"
import * as Checks from "../options.ts"
import * as Health from "./health.ts"
import * as MoveLeader from "./moveLeader.ts"
import { perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Survey from "./survey.ts"

/** As messages show a size. */
export const sizeOf = (bytes: bigint): string => ByteSize.format(ByteSize.bytes(bytes))

/** What defragmenting a member gives back to its file system. */
const gainOf = ({ dbSize, dbSizeInUse }: EtcdMaintenance.Status): bigint => dbSize - dbSizeInUse

/** What is worth to be defragmented. */
export interface Worth {
  readonly minBytes: number
  readonly minShare: number
}

export const isWorth = (status: EtcdMaintenance.Status, { minBytes, minShare }: Worth): boolean => {
  const gain = Number(gainOf(status))
  return gain >= minBytes && gain >= minShare * Number(status.dbSize)
}

/**
 * Defragments a member: when all others are well, and it does not lead unless it is alone; and waits until it has caught up.
 */
const defragmentOne = (
  client: EtcdClient.Client,
  { member }: Survey.Surveyed,
  refuse: Refuse,
  worth: Worth | undefined
): Step["run"] =>
  Effect.fnUntraced(function* (tell) {
    const survey = yield* Survey.settled(client, refuse)
    const one = Survey.find(survey.members, member.id)
    if (one === undefined) return "it is no member any more"
    yield* Survey.allWell(survey, refuse)
    const before = one.status!
    if (worth !== undefined && !isWorth(before, worth)) return `${sizeOf(gainOf(before))} would be gained by now`
    const next = MoveLeader.mostAdvanced(survey.voters, survey.leader)
    if (one === survey.leader && next !== undefined) {
      const { run, title } = MoveLeader.step(client, one, next)
      yield* tell(title)
      yield* run(tell)
    }
    yield* EtcdMaintenance.fromClient(client).defragment({ endpoint: one.endpoint, deadline: Duration.infinity })
    const after = yield* Health.awaitWhole(client, refuse, tell, member.id)
    const size = Survey.find(after.members, member.id)?.status?.dbSize
    return size === undefined ? undefined : `${sizeOf(before.dbSize)} became ${sizeOf(size)}`
  })

/** Moves the leader, where it still is the one that was seen. */
const moveAway = (client: EtcdClient.Client, from: Survey.Surveyed, to: Survey.Surveyed, refuse: Refuse): Step => {
  const { run, title } = MoveLeader.step(client, from, to)
  return {
    title,
    run: (tell) =>
      Effect.flatMap(Survey.settled(client, refuse), ({ leader }) =>
        leader.member.id === from.member.id
          ? run(tell)
          : Effect.succeed(`${Survey.nameOf(leader.member)} leads already`)
      )
  }
}

/**
 * The steps that defragment these members: who follows comes first, and then, when the leader has been moved to one of
 * them, who led. `worth`: what each has to be worth when its turn has come.
 */
export const steps = (
  client: EtcdClient.Client,
  survey: Survey.Whole,
  wanted: ReadonlyArray<Survey.Surveyed>,
  refuse: Refuse,
  worth?: Worth
): ReadonlyArray<Step> => {
  const { leader } = survey
  const one = (member: Survey.Surveyed): Step => ({
    title: `defragment ${Survey.nameOf(member.member)}`,
    takesQuorum: survey.voters.length === 1 && member === leader,
    run: defragmentOne(client, member, refuse, worth)
  })
  const followers = wanted.filter((member) => member !== leader).map(one)
  if (!wanted.includes(leader)) return followers
  const next = MoveLeader.mostAdvanced(survey.voters, survey.leader)
  return [...followers, ...(next === undefined ? [] : [moveAway(client, leader, next, refuse)]), one(leader)]
}

const defaultBytes = 64 * 1024 * 1024
const defaultShare = 0.3

export const defragment = (client: EtcdClient.Client, options: DefragmentOptions = {}) => {
  const name = "defragment"
  const refuse = refusal(name)
  const worth: Worth = {
    minBytes: Checks.bytesOf(options.minBytes) ?? defaultBytes,
    minShare: options.minShare ?? defaultShare
  }
  return perform(
    {
      name,
      client,
      plan: Effect.gen(function* () {
        const survey = yield* Survey.whole(client, refuse)
        yield* Survey.noAlarm(client, survey, refuse)
        yield* Survey.allWell(survey, refuse)
        const wanted = survey.voters.filter(({ status }) => isWorth(status!, worth))
        return steps(client, survey, wanted, refuse, worth)
      })
    },
    options
  )
}
