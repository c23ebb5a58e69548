/**
 * Waiting until a cluster, or one of its members, is as it has to be before the next step.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import type { MemberId } from "../../EtcdId.ts"
import * as Time from "../time.ts"
import type { Refuse, Tell } from "./operation.ts"
import * as Survey from "./survey.ts"

/** For how long a member that catches up may get no further. */
const catchUpMillis = 120_000

const appliedBy = ({ members }: Survey.Survey, id: MemberId | undefined): bigint | undefined =>
  members.find(({ member }) => member.id === id)?.status?.raftAppliedIndex

/**
 * Why a cluster is not whole: who does not answer, or names another leader; and whether a member has applied less than the
 * leader had.
 */
const missing = (
  survey: Survey.Survey,
  id: MemberId | undefined,
  index: bigint,
  but: ReadonlyArray<MemberId>
): string | undefined => {
  const { leader } = survey
  const voters = survey.voters.filter(({ member }) => !but.includes(member.id))
  if (leader === undefined) return "no leader that a majority names"
  const silent = voters.filter(({ status }) => status === undefined)
  if (silent.length > 0) return silent.map(Survey.describe).join(", ")
  const strange = voters.filter((one) => !Survey.names(one, leader))
  if (strange.length > 0) return `${strange.map(({ member }) => Survey.nameOf(member)).join(", ")} names another leader`
  const one = survey.members.find(({ member }) => member.id === id)
  if (one === undefined) return undefined
  const applied = appliedBy(survey, id) ?? 0n
  return applied >= index ? undefined : `${Survey.nameOf(one.member)} has applied ${applied} of ${index} entries`
}

/**
 * Waits until all voters answer and name one leader, and a member has applied what the leader had when this began: as long
 * as it gets on. Refuses what is not so in time. `but`: those that nobody waits for, since they did not answer before.
 */
export const awaitWhole = (
  client: EtcdClient.Client,
  refuse: Refuse,
  tell: Tell,
  id?: MemberId | undefined,
  but: ReadonlyArray<MemberId> = []
): Effect.Effect<Survey.Survey, EtcdError.EtcdError | ReturnType<Refuse>> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    let giveUp = time.now() + catchUpMillis
    let index: bigint | undefined
    let applied = 0n
    let told: string | undefined
    while (true) {
      const survey = yield* Effect.option(Survey.make(client))
      if (survey._tag === "Some") index ??= survey.value.leader?.status?.raftAppliedIndex
      const why = survey._tag === "Some" ? missing(survey.value, id, index ?? 0n, but) : "nobody answers"
      if (survey._tag === "Some" && why === undefined) return survey.value
      const now = survey._tag === "Some" ? (appliedBy(survey.value, id) ?? applied) : applied
      // What it does beyond that is no progress: others write.
      if (now > applied && applied < (index ?? now)) giveUp = time.now() + catchUpMillis
      applied = now
      if (time.now() > giveUp) {
        return yield* Effect.fail(
          refuse("unhealthy-member", [why!], `Nothing got on for ${catchUpMillis / 1000} seconds.`)
        )
      }
      if (told !== why) yield* tell(`waits: ${why}`)
      told = why
      yield* Time.sleep(time, 50)
    }
  })

/**
 * etcd changes no member before all have been connected for five seconds (`HealthInterval` in its `server.go`). It is tried for
 * a minute, or for so many seconds.
 */
export const whenConnected =
  (tell: Tell, reasons: ReadonlyArray<EtcdError.EtcdError["reason"]["_tag"]> = ["Unhealthy"], seconds = 60) =>
  <A>(change: Effect.Effect<A, EtcdError.EtcdError>): Effect.Effect<A, EtcdError.EtcdError> => {
    const isEarly = ({ reason }: EtcdError.EtcdError) => reasons.includes(reason._tag)
    let told = false
    return change.pipe(
      Effect.tapError((error) => {
        if (told || !isEarly(error)) return Effect.void
        told = true
        return tell(
          error.reason._tag === "Unhealthy"
            ? "waits until all have been connected for five seconds, as etcd does before members change"
            : `waits: ${error.message}`
        )
      }),
      Effect.retry({ while: isEarly, schedule: Schedule.spaced("200 millis"), times: seconds * 5 })
    )
  }
