/**
 * Who waits for a place takes that of a voter that has not answered for long, if it is told to.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as EtcdId from "../../EtcdId.ts"
import type { Member } from "../../EtcdMembership.ts"
import type * as Time from "../time.ts"
import * as Consult from "./consult.ts"
import type { Settings } from "./settings.ts"

/** How often each voter is asked meanwhile. */
const pauseMillis = 1000

/** How long it may take until they are asked again, where nobody answers who is asked in between. */
const longestPauseMillis = 30_000

/**
 * Looks at the voters once, and removes the one that is due. etcd refuses where the rest would have no majority. Answers
 * whether one of them is silent.
 */
export const make = (settings: Settings, time: Time.Time) => {
  const { replaceAfterMillis } = settings
  const silentSince = new Map<bigint, number>()
  let askedAt = Number.NEGATIVE_INFINITY

  return ({ membership }: Consult.Cluster, members: ReadonlyArray<Member>): Effect.Effect<boolean> =>
    Effect.gen(function* () {
      const now = time.now()
      if (now - askedAt < pauseMillis) return silentSince.size > 0
      // Where this process stood still, it is this one that has not asked.
      if (now - askedAt > longestPauseMillis) silentSince.clear()
      askedAt = now
      const voters = Consult.votersOf(members)
      for (const id of silentSince.keys()) if (!voters.some((voter) => voter.id === id)) silentSince.delete(id)
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
      if (due === undefined) return silentSince.size > 0
      yield* Effect.logWarning(
        `etcd member ${due.name} (${EtcdId.format(due.id)}) has not answered for ${replaceAfterMillis} ms; taking its place`
      )
      yield* Effect.ignore(membership.remove(due.id, Consult.once))
      silentSince.delete(due.id)
      return true
    })
}
