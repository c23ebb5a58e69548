/**
 * Making room in a cluster whose space quota is used up, and letting it take writes again.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as EtcdClient from "../../EtcdClient.ts"
import { format } from "../../EtcdId.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { ClearNoSpaceOptions } from "../../EtcdOperations.ts"
import * as Checks from "../options.ts"
import * as Defragment from "./defragment.ts"
import { perform, type Refuse, refusal, type Step } from "./operation.ts"
import * as Survey from "./survey.ts"

/** etcd's own, where none is given (`DefaultQuotaBytes` in `server/storage/quota.go`). */
const defaultQuota = 2n * 1024n ** 3n

/**
 * Compacts the history, and waits until each member has done so itself: only then has it something to give back. Who is
 * asked for a compaction that there was already refuses it, but not before it is through with all that it was asked for
 * until then (`updateCompactRev` and `compactBarrier` in etcd's `server/storage/mvcc/kvstore.go`). Learners take no such
 * request; what they have not compacted yet they keep.
 */
const compact = (client: EtcdClient.Client, refuse: Refuse): Step => ({
  title: "compact the history up to the current revision",
  run: Effect.fnUntraced(function* () {
    const survey = yield* Survey.settled(client, refuse)
    yield* Survey.allWell(survey, refuse)
    const { revision } = survey.leader.status!.header
    yield* Effect.forEach(
      survey.voters,
      ({ endpoint }) =>
        EtcdKv.fromClient(client)
          .compact(revision, { physical: true, endpoint, deadline: Duration.infinity })
          .pipe(
            Effect.asVoid,
            Effect.catchIf(
              ({ reason }) => reason._tag === "Compacted",
              () => Effect.void
            )
          ),
      { discard: true }
    )
    return `up to revision ${revision}`
  })
})

const noSpaceOf = (client: EtcdClient.Client) =>
  Effect.map(EtcdMaintenance.fromClient(client).alarms(), (alarms) => alarms.filter(({ type }) => type === "NoSpace"))

/** The alarms, of which nobody raises one anew who is not seen: all voters answer, and each learner that has one. */
const alarmsOf = Effect.fnUntraced(function* (client: EtcdClient.Client, survey: Survey.Whole, refuse: Refuse) {
  yield* Survey.allWell(survey, refuse)
  const alarms = yield* noSpaceOf(client)
  const hasOne = ({ member, status }: Survey.Surveyed) =>
    status === undefined && alarms.some(({ memberId }) => memberId === member.id)
  const silent = survey.learners.filter(hasOne).map(Survey.describe)
  if (silent.length === 0) return alarms
  const help = "Its database could be at its quota still: start it, give the client its endpoint, or remove it."
  return yield* Effect.fail(refuse("unhealthy-member", silent, help))
})

/** Where a member's database is not below its quota, in words. */
const excessOf = ({ member, status }: Survey.Surveyed, given: bigint | undefined): string | undefined => {
  if (status === undefined) return undefined
  const { dbSize, dbSizeQuota } = status
  const quota = Option.getOrElse(dbSizeQuota, () => given ?? defaultQuota)
  // Where it is negative there is none.
  if (quota < 0n || dbSize < quota) return undefined
  const until = member.isLearner ? ", and is defragmented only when it is a voter" : ""
  return `${Survey.nameOf(member)} has ${Defragment.sizeOf(dbSize)} of ${Defragment.sizeOf(quota)}${until}`
}

const tooLarge =
  "Delete keys, which is possible, and run it again; or start the members with a larger --quota-backend-bytes. Before etcd " +
  "3.6 members do not tell their quota: where it is not etcd's own, 2 GiB, give the option quota."

const disarm = (client: EtcdClient.Client, quota: bigint | undefined, refuse: Refuse): Step => ({
  title: "disarm the alarms, where all members are below their quota",
  run: Effect.fnUntraced(function* () {
    const maintenance = EtcdMaintenance.fromClient(client)
    const survey = yield* Survey.settled(client, refuse)
    const alarms = yield* alarmsOf(client, survey, refuse)
    const excess = survey.members.flatMap((one) => excessOf(one, quota) ?? [])
    if (excess.length > 0) return yield* Effect.fail(refuse("alarm", excess, tooLarge))
    yield* Effect.forEach(alarms, (alarm) => maintenance.disarmAlarm(alarm), { discard: true })
    const again = yield* noSpaceOf(client)
    if (again.length === 0) return `${alarms.length === 1 ? "one alarm" : `${alarms.length} alarms`}`
    const evidence = again.map(({ memberId }) => `the alarm NoSpace was armed again for member ${format(memberId)}`)
    return yield* Effect.fail(refuse("alarm", evidence, tooLarge))
  })
})

export const clearNoSpace = (client: EtcdClient.Client, options: ClearNoSpaceOptions = {}) => {
  const name = "clearNoSpace"
  const refuse = refusal(name)
  const { keepHistory = false } = options
  const bytes = Checks.bytesOf(options.quota)
  const quota = bytes === undefined ? undefined : bytes === Number.POSITIVE_INFINITY ? -1n : BigInt(bytes)
  return perform(
    {
      name,
      // Its key could not be put.
      client: undefined,
      plan: Effect.gen(function* () {
        const survey = yield* Survey.whole(client, refuse)
        yield* Survey.noAlarm(client, survey, refuse, ["Corrupt"])
        if ((yield* noSpaceOf(client)).length === 0) return []
        yield* alarmsOf(client, survey, refuse)
        return [
          ...(keepHistory ? [] : [compact(client, refuse)]),
          // All of them: what compaction has freed counts as free one transaction of the database later.
          ...Defragment.steps(client, survey, survey.voters, refuse),
          disarm(client, quota, refuse)
        ]
      })
    },
    options
  )
}
