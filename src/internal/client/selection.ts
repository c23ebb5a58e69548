/**
 * Which endpoint a call goes to.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Call, Past } from "./call.ts"
import type { Endpoint } from "./endpoint.ts"
import * as Subchannel from "./subchannel.ts"

export type Policy = "leader" | "sticky" | "spread"

export interface Selection {
  readonly policy: Policy
  subchannels: ReadonlyArray<Subchannel.Subchannel>
  /** The addresses of all that it was ever given: of one cluster, whichever of them it has now. */
  readonly addresses: Set<string>
  /**
   * What the program has configured, where the cluster itself has named others since: the way back, should none of those
   * be reached from here.
   */
  seeds: ReadonlyArray<Subchannel.Subchannel>
  /** The endpoint in use, unless calls are spread. */
  current: Subchannel.Subchannel
  /** Whose turn it is, where they are. */
  turn: number
}

export const make = (policy: Policy, endpoints: ReadonlyArray<Endpoint>, first: number): Selection => {
  const subchannels = endpoints.map((endpoint) => Subchannel.make(endpoint, true))
  const addresses = new Set(endpoints.map(({ address }) => address))
  return { policy, subchannels, addresses, seeds: [], current: subchannels[first]!, turn: first }
}

/** The place of one of these, by chance. */
export const anyOf = (all: ReadonlyArray<unknown>): Effect.Effect<number> =>
  Random.nextIntBetween(0, all.length, { halfOpen: true })

const better = (subchannel: Subchannel.Subchannel, best: Subchannel.Subchannel | undefined): boolean =>
  best === undefined || subchannel.avoidUntil < best.avoidUntil

/** How long it takes to ask there, roughly: a connection that is there, one to be made, one that is long in coming. */
const distance = (subchannel: Subchannel.Subchannel): number =>
  subchannel.link !== undefined ? 0 : subchannel.dialing === undefined ? 1 : 2

/**
 * The best of these that was not tried: the nearest of those that are not to be avoided, in their order; else the one to
 * be avoided the least.
 */
const bestOf = (
  subchannels: ReadonlyArray<Subchannel.Subchannel>,
  start: number,
  tried: ReadonlySet<Subchannel.Subchannel>,
  now: number
): Subchannel.Subchannel | undefined => {
  let nearest: Subchannel.Subchannel | undefined
  let least: Subchannel.Subchannel | undefined
  for (let offset = 0; offset < subchannels.length; offset++) {
    const subchannel = subchannels[(start + offset) % subchannels.length]!
    if (tried.has(subchannel)) continue
    if (subchannel.avoidUntil > now) least = better(subchannel, least) ? subchannel : least
    else if (nearest === undefined || distance(subchannel) < distance(nearest)) nearest = subchannel
  }
  return nearest ?? least
}

/** Whether it need not be avoided, nor its connection waited for that others wait for already. */
const isAtHand = ({ avoidUntil, dialing }: Subchannel.Subchannel, now: number): boolean =>
  avoidUntil <= now && dialing === undefined

/** A seed is used where the listed endpoints are to be avoided, are long in coming, or have been tried. */
const choose = (
  { seeds, subchannels, turn }: Selection,
  first: Subchannel.Subchannel,
  tried: ReadonlySet<Subchannel.Subchannel>,
  now: number
): Subchannel.Subchannel => {
  if (isAtHand(first, now) && !tried.has(first)) return first
  const listed = bestOf(subchannels, Math.max(0, subchannels.indexOf(first)), tried, now)
  if (listed !== undefined && (seeds.length === 0 || isAtHand(listed, now))) return listed
  const seed = bestOf(seeds, turn, tried, now)
  if (seed === undefined || listed === undefined) return seed ?? listed ?? first
  return better(seed, listed) || (seed.link !== undefined && isAtHand(seed, now)) ? seed : listed
}

/** An endpoint that the call has not tried. When all are tried, the one in use. */
export const pick = (
  selection: Selection,
  tried: ReadonlySet<Subchannel.Subchannel>,
  now: number
): Subchannel.Subchannel => {
  if (selection.policy === "spread") {
    const first = selection.subchannels[selection.turn++ % selection.subchannels.length]!
    return choose(selection, first, tried, now)
  }
  const { current } = selection
  if (current.avoidUntil === 0 && tried.size === 0) return current
  selection.current = choose(selection, current, tried, now)
  return selection.current
}

/** All endpoints that calls may go to, the best first. */
export const all = ({ seeds, subchannels }: Selection): ReadonlyArray<Subchannel.Subchannel> =>
  seeds.length === 0 ? subchannels : [...subchannels, ...seeds]

/** Whether a call that is at this endpoint, or was, has another one to go to before it has tried them all. */
export const hasOther = (selection: Selection, call: Call, { tried }: Past, than: Subchannel.Subchannel): boolean =>
  call.named === undefined && all(selection).some((subchannel) => subchannel !== than && !tried.has(subchannel))

/** Takes up a new list: what stays keeps its connection, what goes is closed when its calls have ended. */
export const update = (
  selection: Selection,
  endpoints: ReadonlyArray<Endpoint>,
  seeds: ReadonlyArray<Endpoint>,
  others: Map<string, Subchannel.Subchannel>
): Effect.Effect<{ readonly added: number; readonly removed: number }> =>
  Effect.flatMap(anyOf(endpoints), (first) => {
    const before = all(selection)
    const known = new Map(before.map((subchannel) => [subchannel.endpoint.address, subchannel]))
    const subchannelOf = (endpoint: Endpoint): Subchannel.Subchannel => {
      const { address } = endpoint
      const subchannel = known.get(address) ?? others.get(address) ?? Subchannel.make(endpoint, true)
      subchannel.isListed = true
      others.delete(address)
      known.set(address, subchannel)
      return subchannel
    }
    const subchannels = endpoints.map(subchannelOf)
    const extra = seeds.map(subchannelOf).filter((subchannel) => !subchannels.includes(subchannel))
    const added = subchannels.filter((subchannel) => !before.includes(subchannel)).length
    const gone = before.filter((subchannel) => !subchannels.includes(subchannel) && !extra.includes(subchannel))
    // They are not used any more, unless the others cannot be reached.
    const replaced = extra.filter((subchannel) => selection.subchannels.includes(subchannel))
    selection.subchannels = subchannels
    for (const { address } of endpoints) selection.addresses.add(address)
    selection.seeds = extra
    if (gone.includes(selection.current) || replaced.includes(selection.current))
      selection.current = subchannels[first]!
    return Effect.forEach(gone, Subchannel.remove, { discard: true }).pipe(
      Effect.andThen(Effect.forEach(replaced, Subchannel.disconnect, { discard: true })),
      Effect.as({ added, removed: gone.length })
    )
  })
