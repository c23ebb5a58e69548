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
  /** Of whom it was said that they stand still. */
  const still = new Set<bigint>()
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
      for (const voter of voters) {
        if (now - (silentSince.get(voter.id) ?? now) < replaceAfterMillis) continue
        const who = `etcd member ${voter.name} (${EtcdId.format(voter.id)})`
        if (yield* Consult.standsStill(settings, voter.peerUrls)) {
          if (!still.has(voter.id))
            yield* Effect.logWarning(`${who} stands still; its place is taken when it was killed`)
          still.add(voter.id)
          continue
        }
        yield* Effect.logWarning(`${who} has not answered for ${replaceAfterMillis} ms; taking its place`)
        yield* Effect.ignore(membership.remove(voter.id, Consult.once))
        silentSince.delete(voter.id)
        return true
      }
      return silentSince.size > 0
    })
}
