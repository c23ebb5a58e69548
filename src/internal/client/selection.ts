/**
 * Which endpoint a call goes to.
 *
 * @internal
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Endpoint } from "./endpoint.ts"
import * as Session from "./session.ts"

export type Policy = "sticky" | "spread"

export interface Selection {
  readonly policy: Policy
  sessions: ReadonlyArray<Session.Session>
  /** The endpoint in use (sticky), or the one whose turn it is (spread). */
  index: number
}

export const make = (policy: Policy, endpoints: ReadonlyArray<Endpoint>, first: number): Selection => ({
  policy,
  sessions: endpoints.map(Session.make),
  index: first % endpoints.length
})

const better = (session: Session.Session, best: Session.Session | undefined): boolean =>
  best === undefined || session.avoidUntil < best.avoidUntil

/**
 * An endpoint that the call has not tried: the one in use, else the next that is not to be avoided, else the one to be
 * avoided the least. When all are tried, the one in use.
 */
export const pick = (
  selection: Selection,
  tried: ReadonlySet<Session.Session> | undefined,
  clock: Clock.Clock
): Session.Session => {
  const { sessions } = selection
  const start = (selection.policy === "spread" ? selection.index++ : selection.index) % sessions.length
  const first = sessions[start]!
  if (first.avoidUntil === 0 && tried === undefined) return first
  const time = clock.currentTimeMillisUnsafe()
  let best: Session.Session | undefined
  let bestIndex = start
  for (let offset = 0; offset < sessions.length; offset++) {
    const index = (start + offset) % sessions.length
    const session = sessions[index]!
    if (tried?.has(session)) continue
    if (session.avoidUntil <= time) {
      best = session
      bestIndex = index
      break
    }
    if (better(session, best)) {
      best = session
      bestIndex = index
    }
  }
  if (selection.policy === "sticky") selection.index = bestIndex
  return best ?? first
}

/** Takes up a new list: what stays keeps its connection, what goes is closed when its calls have ended. */
export const update = (
  selection: Selection,
  endpoints: ReadonlyArray<Endpoint>
): Effect.Effect<{ readonly added: number; readonly removed: number }> =>
  Effect.suspend(() => {
    const current = selection.sessions[selection.index % selection.sessions.length]
    const known = new Map(selection.sessions.map((session) => [session.endpoint.address, session]))
    const sessions = endpoints.map((endpoint) => known.get(endpoint.address) ?? Session.make(endpoint))
    const gone = selection.sessions.filter((session) => !sessions.includes(session))
    selection.sessions = sessions
    selection.index = Math.max(0, current === undefined ? 0 : sessions.indexOf(current))
    const added = sessions.length - (known.size - gone.length)
    return Effect.as(Effect.forEach(gone, Session.remove, { discard: true }), { added, removed: gone.length })
  })
