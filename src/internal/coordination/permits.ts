/**
 * The line of a semaphore: who stands there takes as many permits as the value of the key says, and is admitted when those
 * of all up to and including its own fit into the limit. That is in a key beside the line.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { memoize } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as Checks from "../options.ts"
import * as Hold from "./hold.ts"
import type * as Line from "./line.ts"
import type * as Session from "./session.ts"
import type * as Standings from "./standings.ts"

/** How many permits there are, and how many somebody may ask for. */
export const permitsCheck = Checks.countUpTo(Number.MAX_SAFE_INTEGER)

/** The name of the key with the limit, below that of the semaphore. */
const beside = "permits"

export const limitKey = (name: string): string => `${name}/${beside}`

/** A limit as etcd has it. */
export interface Limit {
  /** Undefined where what is there is none. */
  readonly permits: number | undefined
  /** Whether it is another one than who came first has brought along. */
  readonly isResized: boolean
}

export const limitOf = (kv: KeyValue): Limit => {
  const text = kv.valueString
  const permits = /^[1-9][0-9]*$/.test(text) ? Number(text) : undefined
  return { permits: permitsCheck.accepts(permits) ? permits : undefined, isResized: kv.version > 1n }
}

const Value = Schema.fromJsonString(Schema.Struct({ permits: Schema.Int.check(Schema.isGreaterThan(0)) }))

const decode = Schema.decodeUnknownOption(Value)

/** As many as a value says. What says nothing of permits takes one. */
const permitsIn = (value: unknown): number =>
  Option.match(decode(value), { onNone: () => 1, onSome: ({ permits }) => permits })

/** How many permits somebody takes, or waits for. */
const permitsOf = memoize((standing: Standings.Standing): number => permitsIn(standing.kv.valueString))

/** How many all take together. */
export const taken = (standings: ReadonlyArray<Standings.Standing>): number =>
  standings.reduce((sum, standing) => sum + permitsOf(standing), 0)

/** The place of the last one who fits into the limit with all before. */
const lastIn = (standings: ReadonlyArray<Standings.Standing>, limit: number): bigint => {
  let sum = 0
  let last = 0n
  for (const standing of standings) {
    sum += permitsOf(standing)
    if (sum > limit) break
    last = standing.revision
  }
  return last
}

/** For a state of the line, which all who wait in this process are asked about. */
const lastsIn = new WeakMap<Standings.State, { readonly limit: number; readonly place: bigint }>()

const lastInState = (state: Standings.State, limit: number): bigint => {
  const before = lastsIn.get(state)
  if (before?.limit === limit) return before.place
  const place = lastIn(state.standings, limit)
  lastsIn.set(state, { limit, place })
  return place
}

/** How many permits the work has that this is a part of, and that it keeps while this waits. */
export const around = (session: Session.Session, name: string): Effect.Effect<number> =>
  Effect.withFiber((fiber) => {
    const held = Context.get(fiber.context, Hold.Holding).filter(
      (entry) => entry.session === session && entry.isHeld && entry.spec.places.some((place) => place.name === name)
    )
    return Effect.succeed(held.reduce((sum, { spec }) => sum + permitsIn(spec.value), 0))
  })

/** What somebody asks of a semaphore. */
export interface Request<E> {
  readonly name: string
  /** What the limit is to be, unless it is resized. */
  readonly limit: number
  readonly permits: number
  /** How many it has already that it keeps while it waits. */
  readonly around: number
  readonly mismatch: (limit: number | undefined) => E
  readonly exceeded: (limit: number) => E
}

export const rule = <E>({ around, exceeded, limit, mismatch, name, permits }: Request<E>): Line.Whole<E> => {
  const key = limitKey(name)
  const text = String(limit)
  const isAgreed = ({ isResized, permits }: Limit): boolean => isResized || permits === limit
  return {
    _tag: "Whole",
    beside,
    coming: (enter, look) => {
      const ifAgreed = EtcdTxn.make({ compare: EtcdTxn.value(key).equals(text), success: enter, failure: look })
      const ifThere = EtcdTxn.make({
        compare: EtcdTxn.version(key).greaterThan(1n),
        success: enter,
        failure: EtcdTxn.map(ifAgreed, ({ results }) => results)
      })
      const op = EtcdTxn.make({
        compare: EtcdTxn.missing(key),
        success: { limit: EtcdTxn.put(key, text), enter },
        failure: EtcdTxn.map(ifThere, ({ results }) => results)
      })
      return EtcdTxn.map(op, (result) => (result.succeeded ? result.results.enter : result.results))
    },
    judge: (own, state) => {
      const now = state.beside === undefined ? { permits: limit, isResized: false } : limitOf(state.beside)
      if (own === undefined || now.permits === undefined) return Effect.fail(mismatch(now.permits))
      if (own.revision <= lastInState(state, now.permits)) return "admitted"
      if (!isAgreed(now)) return Effect.fail(mismatch(now.permits))
      return permits + around > now.permits ? Effect.fail(exceeded(now.permits)) : "waits"
    }
  }
}
