/**
 * A learner that waits for a place takes that of a voter that has not answered for long, if it is told to.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as EtcdId from "../../EtcdId.ts"
import type { Member } from "../../EtcdMembership.ts"
import type * as Time from "../time.ts"
import * as Consult from "./consult.ts"
import * as Join from "./join.ts"
import type { Settings } from "./settings.ts"

/** How often each voter is asked while a learner waits. */
const pauseMillis = 1000

/** Looks at the voters once, and removes the one that is due. etcd refuses where the rest would have no majority. */
export const make = (settings: Settings, time: Time.Time, { membership }: Consult.Cluster) => {
  const { replaceAfterMillis } = settings
  const silentSince = new Map<bigint, number>()
  let askedAt = Number.NEGATIVE_INFINITY

  return (members: ReadonlyArray<Member>): Effect.Effect<void> => {
    if (replaceAfterMillis === Number.POSITIVE_INFINITY) return Effect.void
    return Effect.gen(function* () {
      const now = time.now()
      if (now - askedAt < pauseMillis) return
      // Where this process stood still, it is this one that has not asked.
      if (now - askedAt > 10 * pauseMillis) silentSince.clear()
      askedAt = now
      const voters = Consult.votersOf(members)
      yield* Effect.forEach(
        voters,
        (voter) =>
          Effect.map(Consult.isAlive(settings, voter), (isAlive) => {
            if (isAlive) silentSince.delete(voter.id)
            else if (!silentSince.has(voter.id)) silentSince.set(voter.id, now)
          }),
        { concurrency: "unbounded", discard: true }
      )
      const due = voters.find(({ id }) => now - (silentSince.get(id) ?? now) >= replaceAfterMillis)
      if (due === undefined) return
      yield* Effect.logWarning(
        `etcd member ${due.name} (${EtcdId.format(due.id)}) has not answered for ${replaceAfterMillis} ms; taking its place`
      )
      yield* Effect.ignore(membership.remove(due.id, Join.change))
      silentSince.delete(due.id)
    })
  }
}
