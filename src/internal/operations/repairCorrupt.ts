/**
 * Replacing members whose data are not those of the others, and letting the cluster take requests again.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import { format } from "../../EtcdId.ts"
import * as EtcdMaintenance from "../../EtcdMaintenance.ts"
import type { Comparison } from "../../EtcdOperations.ts"
import type { Fleet } from "../cluster/fleet.ts"
import { findCorrupt } from "./findCorrupt.ts"
import * as MoveLeader from "./moveLeader.ts"
import { composite, perform, type Refuse, refusal, type Step } from "./operation.ts"
import { replacing } from "./resize.ts"
import * as Survey from "./survey.ts"

const armed = (client: EtcdClient.Client) =>
  Effect.map(EtcdMaintenance.fromClient(client).alarms({ deadline: "3 seconds" }), (alarms) =>
    alarms.filter(({ type }) => type === "Corrupt")
  )

/**
 * A refusal where an alarm may be due to somebody whose data nobody has compared: a voter that is down, say, or a learner for
 * which it is armed. `but`: those that are replaced in any case.
 */
const allCompared = (
  { evidence, unknown }: Comparison,
  alarms: ReadonlyArray<EtcdMaintenance.Alarm>,
  refuse: Refuse,
  but: ReadonlyArray<string> = []
) => {
  const left = unknown.filter(
    ({ id, isLearner, name }) => !but.includes(name) && (!isLearner || alarms.some(({ memberId }) => memberId === id))
  )
  if (left.length === 0) return Effect.void
  const whose = left.map((member) => `the data of ${Survey.nameOf(member)} were not compared`)
  const help =
    "Start who is down, or remove it (EtcdMembership.remove), as a learner has to be for which the alarm is armed."
  return Effect.fail(refuse("undecided", [...whose, ...evidence], help))
}

/** Never before it is known that all are alike: etcd would go on with data that differ. */
const disarm = (client: EtcdClient.Client, refuse: Refuse): Step => ({
  title: "disarm the alarms, where all members have the same data",
  run: () =>
    Effect.gen(function* () {
      const comparison = yield* findCorrupt(client)
      if (comparison.verdict !== "sound") {
        return yield* Effect.fail(refuse("alarm", comparison.evidence, "Run it again."))
      }
      const maintenance = EtcdMaintenance.fromClient(client)
      const alarms = yield* armed(client)
      yield* allCompared(comparison, alarms, refuse)
      yield* Effect.forEach(alarms, (alarm) => maintenance.disarmAlarm(alarm), { discard: true })
      const again = yield* armed(client)
      if (again.length === 0) return alarms.length === 1 ? "one alarm" : `${alarms.length} alarms`
      const whose = again.map(({ memberId }) => `the alarm Corrupt was armed again for member ${format(memberId)}`)
      return yield* Effect.fail(refuse("alarm", whose, "Run it again."))
    })
})

export const repairCorrupt = (fleet: Fleet, client: EtcdClient.Client, options: EtcdCluster.ReplaceOptions = {}) => {
  const refuse = refusal("repairCorrupt")
  const plan = Effect.gen(function* () {
    const survey = yield* Survey.whole(client, refuse)
    const comparison = yield* findCorrupt(client)
    const { corrupt, evidence, sound, verdict } = comparison
    if (verdict === "undecided") {
      return yield* Effect.fail(
        refuse(
          "undecided",
          evidence,
          "Start the members that are down; where no majority has the same data, restore the cluster from a snapshot."
        )
      )
    }
    const ids = new Set(corrupt.map(({ id }) => id))
    const isCorrupt = ({ member }: Survey.Surveyed) => ids.has(member.id)
    const next = MoveLeader.mostAdvanced(
      survey.voters.filter((one) => sound.some(({ id }) => id === one.member.id)),
      survey.leader
    )
    // Who was being replaced when that was ended half-way may be no member any more, so that nothing of it is found corrupt.
    const begun = fleet
      .unfinished()
      .leaving.filter(({ name, successor }) => successor !== undefined && !corrupt.some((one) => one.name === name))
    const alarms = yield* armed(client)
    if (corrupt.length + begun.length + alarms.length === 0) return []
    yield* allCompared(
      comparison,
      alarms,
      refuse,
      begun.map(({ name }) => name)
    )
    const replacements = [
      ...begun.map(({ name }) => ({
        title: `put another member in the place of ${name}, which was begun`,
        plan: replacing(fleet, client, refuse, name, options.config)
      })),
      ...corrupt.map((member) => ({
        title: `put another member in the place of ${Survey.nameOf(member)}, whose data are not those of the others`,
        plan: replacing(fleet, client, refuse, member.name === "" ? member.id : member.name, options.config)
      }))
    ]
    const [first] = replacements
    // What is in its way is found before anything is done. How it is when the turn of the others has come is not known yet.
    if (first !== undefined) yield* first.plan
    return [
      // Who joins is given the data of the leader.
      ...(isCorrupt(survey.leader) && next !== undefined ? [MoveLeader.step(client, survey.leader, next)] : []),
      ...replacements.map(({ plan, title }) => composite(title, plan)),
      disarm(client, refuse)
    ]
  })
  const isArmed = Effect.orElseSucceed(
    Effect.map(armed(client), ({ length }) => length > 0),
    () => true
  )
  return Effect.flatMap(isArmed, (isArmed) =>
    // The key of a lock could not be put.
    perform({ name: "repairCorrupt", client: isArmed ? undefined : client, turn: fleet.turn, plan }, options)
  )
}
