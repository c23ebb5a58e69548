/**
 * Which endpoint a call goes to.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Call } from "./call.ts"
import type { Endpoint } from "./endpoint.ts"
import * as Session from "./session.ts"

export type Policy = "leader" | "sticky" | "spread"

export interface Selection {
  readonly policy: Policy
  sessions: ReadonlyArray<Session.Session>
  /**
   * What the program has configured, where the cluster itself has named others since: the way back, should none of those
   * be reached from here.
   */
  seeds: ReadonlyArray<Session.Session>
  /** The endpoint in use, unless calls are spread. */
  current: Session.Session
  /** Whose turn it is, where they are. */
  turn: number
}

export const make = (policy: Policy, endpoints: ReadonlyArray<Endpoint>, first: number): Selection => {
  const sessions = endpoints.map((endpoint) => Session.make(endpoint, true))
  return { policy, sessions, seeds: [], current: sessions[first]!, turn: first }
}

/** The place of one of these, by chance. */
export const anyOf = (all: ReadonlyArray<unknown>): Effect.Effect<number> =>
  Random.nextIntBetween(0, all.length, { halfOpen: true })

const better = (session: Session.Session, best: Session.Session | undefined): boolean =>
  best === undefined || session.avoidUntil < best.avoidUntil

/** How long it takes to ask there, roughly: a connection that is there, one to be made, one that is long in coming. */
const distance = (session: Session.Session): number =>
  session.link !== undefined ? 0 : session.dialing === undefined ? 1 : 2

/**
 * The best of these that was not tried: the nearest of those that are not to be avoided, in their order; else the one to
 * be avoided the least.
 */
const bestOf = (
  sessions: ReadonlyArray<Session.Session>,
  start: number,
  tried: ReadonlySet<Session.Session> | undefined,
  now: number
): Session.Session | undefined => {
  let nearest: Session.Session | undefined
  let least: Session.Session | undefined
  for (let offset = 0; offset < sessions.length; offset++) {
    const session = sessions[(start + offset) % sessions.length]!
    if (tried?.has(session)) continue
    if (session.avoidUntil > now) least = better(session, least) ? session : least
    else if (nearest === undefined || distance(session) < distance(nearest)) nearest = session
  }
  return nearest ?? least
}

/** Whether it need not be avoided, nor its connection waited for that others wait for already. */
const isAtHand = ({ avoidUntil, dialing }: Session.Session, now: number): boolean =>
  avoidUntil <= now && dialing === undefined

/** A seed is used where the listed endpoints are to be avoided, are long in coming, or have been tried. */
const choose = (
  { seeds, sessions, turn }: Selection,
  first: Session.Session,
  tried: ReadonlySet<Session.Session> | undefined,
  now: number
): Session.Session => {
  if (isAtHand(first, now) && tried?.has(first) !== true) return first
  const listed = bestOf(sessions, Math.max(0, sessions.indexOf(first)), tried, now)
  if (listed !== undefined && (seeds.length === 0 || isAtHand(listed, now))) return listed
  const seed = bestOf(seeds, turn, tried, now)
  if (seed === undefined || listed === undefined) return seed ?? listed ?? first
  return better(seed, listed) || (seed.link !== undefined && isAtHand(seed, now)) ? seed : listed
}

/** An endpoint that the call has not tried. When all are tried, the one in use. */
export const pick = (
  selection: Selection,
  tried: ReadonlySet<Session.Session> | undefined,
  now: number
): Session.Session => {
  if (selection.policy === "spread") {
    const first = selection.sessions[selection.turn++ % selection.sessions.length]!
    return choose(selection, first, tried, now)
  }
  const { current } = selection
  if (current.avoidUntil === 0 && tried === undefined) return current
  selection.current = choose(selection, current, tried, now)
  return selection.current
}

/** All endpoints that calls may go to, the best first. */
export const all = ({ seeds, sessions }: Selection): ReadonlyArray<Session.Session> =>
  seeds.length === 0 ? sessions : [...sessions, ...seeds]

/** Whether a call that is at this endpoint, or was, has another one to go to before it has tried them all. */
export const hasOther = (selection: Selection, call: Call, than: Session.Session): boolean =>
  call.pinned === undefined && all(selection).some((session) => session !== than && call.tried?.has(session) !== true)

/** Takes up a new list: what stays keeps its connection, what goes is closed when its calls have ended. */
export const update = (
  selection: Selection,
  endpoints: ReadonlyArray<Endpoint>,
  seeds: ReadonlyArray<Endpoint>,
  others: Map<string, Session.Session>
): Effect.Effect<{ readonly added: number; readonly removed: number }> =>
  Effect.flatMap(anyOf(endpoints), (first) => {
    const before = all(selection)
    const known = new Map(before.map((session) => [session.endpoint.address, session]))
    const sessionOf = (endpoint: Endpoint): Session.Session => {
      const { address } = endpoint
      const session = known.get(address) ?? others.get(address) ?? Session.make(endpoint, true)
      session.isListed = true
      others.delete(address)
      known.set(address, session)
      return session
    }
    const sessions = endpoints.map(sessionOf)
    const extra = seeds.map(sessionOf).filter((session) => !sessions.includes(session))
    const added = sessions.filter((session) => !before.includes(session)).length
    const gone = before.filter((session) => !sessions.includes(session) && !extra.includes(session))
    // They are not used any more, unless the others cannot be reached.
    const replaced = extra.filter((session) => selection.sessions.includes(session))
    selection.sessions = sessions
    selection.seeds = extra
    if (gone.includes(selection.current) || replaced.includes(selection.current)) selection.current = sessions[first]!
    return Effect.forEach(gone, Session.remove, { discard: true }).pipe(
      Effect.andThen(Effect.forEach(replaced, Session.disconnect, { discard: true })),
      Effect.as({ added, removed: gone.length })
    )
  })
