/**
 * The line of a barrier: its first n begin a round together, when nobody of the round before stands there any more, and end
 * it together.
 *
 * Which round is on is in a key beside the line: up to which place it goes, who is of it, and, when that is known, how it
 * ended. It is only ever written over what it was when the line was looked at, so that all who are of a round read the same
 * of it, however late they look. Who has done its work says so in the value of its own key, and stays in the line until the
 * end is known. Whoever is not there then, has not done its work: its key went with its lease, or it gave up.
 *
 * One of the line writes: the last of those who begin, and the first of those who end. If that one is gone, there is another
 * one that is the last or the first.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import { memoize } from "effect/Function"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as EtcdClient from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import * as EtcdId from "../../EtcdId.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import { isMendable, retrying } from "../lease/requests.ts"
import * as Checks from "../options.ts"
import * as Line from "./line.ts"
import { self } from "./parts.ts"
import type * as Session from "./session.ts"
import type * as Standings from "./standings.ts"
import * as View from "./view.ts"

/** How many there are to be: all of them are named in one value, which etcd takes up to about a mebibyte of. */
export const countCheck = Checks.countUpTo(5000)

/** The name of the key with the round, below that of the barrier. */
const beside = "round"

/** Somebody of a round. */
export interface Member {
  readonly key: string
  /** What it says of itself. */
  readonly owner: string
}

interface Round {
  /** The place of the last one of it. */
  readonly to: bigint
  readonly members: ReadonlyArray<Member>
  /** Who was gone before all had done their work: set when the round has ended. */
  readonly missing?: ReadonlyArray<Member>
}

const members = Schema.Array(Schema.Struct({ key: Schema.String, owner: Schema.String }))

const Round = Schema.fromJsonString(
  Schema.toCodecJson(Schema.Struct({ to: Schema.BigInt, members, missing: Schema.optionalKey(members) }))
)

const encode = Schema.encodeSync(Round)

const decode = Schema.decodeUnknownOption(Round)

const known = new WeakMap<KeyValue, Round>()

/**
 * The round that is on, or was the last. All who are of it came before it was written: another one is none of this store,
 * into which somebody has copied the keys of another one.
 */
const roundOf = ({ beside }: Standings.State): Round | undefined => {
  if (beside === undefined) return undefined
  const before = known.get(beside)
  if (before !== undefined) return before
  const round = Option.getOrUndefined(decode(beside.valueString))
  if (round === undefined || round.to >= beside.modRevision) return undefined
  known.set(beside, round)
  return round
}

// ── what a key says ──

const Value = Schema.fromJsonString(
  Schema.Struct({ participants: Schema.Int, done: Schema.optionalKey(Schema.Boolean) })
)

const decodeValue = Schema.decodeUnknownOption(Value)

type Value = typeof Value.Type

const valueOf = memoize(
  ({ kv }: Standings.Standing): Value =>
    Option.getOrElse(decodeValue(kv.valueString), (): Value => ({ participants: 0 }))
)

const waiting = (participants: number): string => self({ participants })

const done = (participants: number): string => self({ participants, done: true })

// ── writing ──

/**
 * Writes the round, if it is still as it was in that state, and if the writer is still there: so nothing is written any more
 * when that one has left, however late it arrives.
 */
const write = (
  session: Session.Session,
  name: string,
  state: Standings.State,
  writer: { readonly key: string; readonly revision: bigint },
  round: Round
) => {
  const key = `${name}/${beside}`
  const compare = EtcdTxn.every([
    EtcdTxn.modRevision(key).equals(state.beside?.modRevision ?? 0n),
    EtcdTxn.createRevision(writer.key).equals(writer.revision)
  ])
  return surely(session, EtcdTxn.make({ compare, success: EtcdTxn.put(key, encode(round)) }))
}

/** Sends what does no harm if it is sent again, until its outcome is known. */
const surely = <A>({ time, txn }: Session.Session, op: EtcdTxn.Op<A>): Effect.Effect<A, EtcdError> =>
  retrying(time, txn.commit(op), EtcdClient.defaultRetry, isMendable)

// ── the beginning ──

export interface Barrier<E> {
  readonly name: string
  readonly participants: number
  /** There is somebody before who waits for another number of participants. */
  readonly mismatch: (found: number) => E
}

const memberOf = ({ key, kv }: Standings.Standing): Member => ({ key, owner: kv.valueString })

/** Who stands in line for a round to come. */
const comingAfter = (round: Round | undefined, { standings }: Standings.State) =>
  standings.filter(({ revision }) => revision > (round?.to ?? 0n))

/** A state of the line, as somebody sees it who waits for a round. */
const judge =
  <E>(session: Session.Session, { mismatch, name, participants }: Barrier<E>) =>
  (own: Standings.Standing | undefined, state: Standings.State): Line.Verdict<E> => {
    const round = roundOf(state)
    const to = round?.to ?? 0n
    if (own === undefined) return "waits"
    if (own.revision <= to) return "admitted"
    const coming = comingAfter(round, state)
    // Who waits for another number than the first leaves by itself. Who says nothing of a number is at no barrier, and stays.
    const stranger = coming.find((one) => one.revision < own.revision && valueOf(one).participants === 0)
    const { participants: found } = valueOf(stranger ?? coming[0]!)
    if (found !== participants) return Effect.fail(mismatch(found))
    const isNext = coming.length === state.standings.length && coming[participants - 1]?.key === own.key
    if (!isNext) return "waits"
    const members = coming.slice(0, participants).map(memberOf)
    return Effect.asVoid(write(session, name, state, own, { to: own.revision, members }))
  }

/** Removes what is known of a round when nobody of it is there any more. What stays is written over by the next one. */
const removeRound = Effect.fnUntraced(function* (session: Session.Session, name: string) {
  const key = `${name}/${beside}`
  const { header, kvs } = yield* session.kv.range(Line.prefixOf(name))
  const there = kvs.find(({ keyString }) => keyString === key)
  const state = { revision: header.revision, standings: Line.standings(name, kvs), beside: there }
  if (there === undefined || comingAfter(roundOf(state), state).length < state.standings.length) return
  const compare = EtcdTxn.modRevision(key).equals(there.modRevision)
  yield* session.txn.commit(EtcdTxn.make({ compare, success: EtcdTxn.delete(key) }))
})

export const specOf = <E>(session: Session.Session, barrier: Barrier<E>): Line.Spec<E> => ({
  places: [
    {
      name: barrier.name,
      kind: "own",
      rule: {
        _tag: "Whole",
        beside,
        coming: (enter) => enter,
        judge: judge(session, barrier),
        afterwards: removeRound(session, barrier.name)
      }
    }
  ],
  value: waiting(barrier.participants),
  confirms: false
})

// ── the end ──

const removed: Session.Loss = { reason: "deleted", cause: undefined }

/** What is to be done about a state of the line by somebody of the round, or how the round has ended. */
type End = ReadonlyArray<Member> | Effect.Effect<void, EtcdError>

const endOf = (entry: Line.Entry, state: Standings.State): Option.Option<End> => {
  const { keys, revision, session, spec } = entry
  const round = roundOf(state)
  // Nobody but a stranger removes a round, or writes over it, as long as somebody of it stands there.
  if (round === undefined || round.to < revision) return Option.some(Effect.sync(() => Line.settle(entry, removed)))
  if (round.missing !== undefined) return Option.some(round.missing)
  const there = state.standings.filter(({ revision }) => revision <= round.to)
  if (there[0]?.key !== keys[0]) return Option.none()
  const present = new Set(there.map(({ key }) => key))
  const missing = round.members.filter(({ key }) => !present.has(key))
  if (missing.length === 0 && !there.every((one) => valueOf(one).done === true)) return Option.none()
  const writer = { key: keys[0]!, revision }
  return Option.some(Effect.asVoid(write(session, spec.places[0]!.name, state, writer, { ...round, missing })))
}

/** Waits until the round has ended of somebody who is of it, and says who was missing. */
export const awaitEnd = Effect.fnUntraced(function* (entry: Line.Entry) {
  let from = entry.acquiredRevision
  while (true) {
    const { end, revision } = yield* View.until(entry.view!, from, (state) =>
      Option.map(endOf(entry, state), (end) => ({ end, revision: state.revision }))
    )
    if (!Effect.isEffect(end)) return end
    yield* end
    from = revision + 1n
  }
})

/** Says that somebody has done its work. */
export const finish = ({ incarnation, keys, revision, session }: Line.Entry, { participants }: Barrier<unknown>) => {
  const key = keys[0]!
  const lease = EtcdId.LeaseId(incarnation.lease.id)
  const compare = EtcdTxn.createRevision(key).equals(revision)
  // Where it is gone, that is heard of.
  return Effect.asVoid(
    surely(session, EtcdTxn.make({ compare, success: EtcdTxn.put(key, done(participants), { lease }) }))
  )
}
