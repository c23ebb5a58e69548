/**
 * Lines of keys: who put a key first comes first. Locks, elections, semaphores and barriers stand on them.
 *
 * A line is what its prefix, `<name>/`, has of keys that are called after the lease that they have, as etcd's own locks
 * and elections call them. Other keys below the prefix, those of lines with a longer name too, are none of its.
 *
 * One transaction joins one line, or several at once, by a key in each, and answers who stands there. All keys of an
 * *entry* have the same create revision, which is its place. Whether an entry is admitted is for a rule to say, which looks
 * at those who stand before it; since nobody ever comes in before it, an entry that is admitted stays so. It waits for the
 * last of those who keep it waiting, and for nobody else, so that who leaves wakes one. Nobody asks again and again.
 *
 * Where that is not enough, since values count, or several come in at once, a rule is asked about the whole line, which is
 * watched (`view`).
 *
 * A key names the lease, and no two entries ever have the same one. So a join whose outcome is unknown is sent again until
 * it is known, and finds its own place; and a request that may still arrive when the entry is over puts a key there that
 * nobody but the session that sent it can be meant by, which deletes it as long as it lives.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { memoize } from "effect/Function"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../../EtcdClient.ts"
import { EtcdError } from "../../EtcdError.ts"
import * as EtcdId from "../../EtcdId.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import type * as KeyRange from "../../KeyRange.ts"
import * as Caller from "../caller.ts"
import * as Origin from "../client/origin.ts"
import * as Keys from "../keys.ts"
import { isMendable } from "../lease/requests.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import { deletion, rangeAtLeast } from "./deletion.ts"
import * as Failures from "./failures.ts"
import * as Outage from "./outage.ts"
import * as Removal from "./removal.ts"
import * as Session from "./session.ts"
import * as Standings from "./standings.ts"
import * as View from "./view.ts"

export { nameCheck, prefixOf, type Standing, standingOf, standings } from "./standings.ts"

export type Kind = Standings.Kind

/** Says whether an entry is admitted: by who stands before it, or by the whole line. */
export type Rule<E = never> = Ahead | Whole<E>

export interface Ahead {
  readonly _tag: "Ahead"
  /**
   * Those of the line who keep an entry from being admitted, in their order. They stand before it, and that they go is
   * enough.
   */
  readonly waitsFor: (before: ReadonlyArray<Standings.Standing>) => ReadonlyArray<Standings.Standing>
}

/** A key beside the line matters as well. The line is watched, once for all of this process who stand there. */
export interface Whole<out E = never> {
  readonly _tag: "Whole"
  /** The key beside the line: `<name>/<beside>`. */
  readonly beside: string
  /** Comes in only where that is allowed, and otherwise looks. */
  readonly coming: (enter: EtcdTxn.Op<Coming>, look: EtcdTxn.Op<Coming>) => EtcdTxn.Op<Coming>
  /** `own` is undefined for an entry that was not allowed to come in. */
  readonly judge: (own: Standings.Standing | undefined, state: Standings.State) => Verdict<E>
  /** What is to be done when an entry has left; it may be done again. */
  readonly afterwards?: Effect.Effect<void, EtcdError> | undefined
}

/** What of an entry that wants to come in. */
export interface Coming {
  readonly isIn: boolean
  readonly ranges: ReadonlyArray<{ readonly kvs: ReadonlyArray<KeyValue> }>
}

/** An effect has to be done first, before a later state of the line is judged; or it fails with why it is refused. */
export type Verdict<E> = "admitted" | "waits" | Effect.Effect<void, E | EtcdError>

/** A place in one line. */
export interface Place<out E = never> {
  readonly name: string
  readonly kind: Kind
  readonly rule: Rule<E>
}

/** What an entry is made of. */
export interface Spec<out E = never> {
  readonly places: ReadonlyArray<Place<E>>
  /** What its keys hold. */
  readonly value: KeyRange.Bytes
  /** Whether the place is read again after waiting, together with the own key, before the entry counts as admitted. */
  readonly confirms: boolean
}

/** All who stand before wait, and are waited for. */
export const first: Ahead = { _tag: "Ahead", waitsFor: (before) => before }

/** Only who writes is waited for. */
export const noWriter: Ahead = {
  _tag: "Ahead",
  waitsFor: (before) => before.filter(({ kind }) => kind !== "read")
}

export interface Entry extends Session.Dependent, Session.Holder {
  readonly session: Session.Session
  readonly incarnation: Session.Incarnation
  readonly spec: Spec<unknown>
  /** Its key in each of its lines. */
  readonly keys: ReadonlyArray<string>
  /** Its place in all of them. */
  revision: bigint
  /** The cluster that it is in. */
  clusterId: EtcdId.ClusterId
  /** The revision at which it was first known to be admitted. */
  acquiredRevision: bigint
  readonly lost: Deferred.Deferred<Session.Loss>
  loss: Session.Loss | undefined
  /** Called as soon as it is lost, by whom what runs under it is ended. */
  onSettled: () => void
  /** Whether a request that may put its keys has an unknown outcome. */
  isUncertain: boolean
  isHeld: boolean
  /** Ends that it is seen when its keys go. */
  unwatch: () => void
  /** Its line, where that is watched as a whole. */
  view: View.View | undefined
  /** Done when its keys are gone, or it is for a watch to tell when they are. */
  readonly over: Deferred.Deferred<void>
  /** By which revision its keys were gone, where it was this program that has removed them. */
  removedAt: bigint | undefined
  leaving: Effect.Effect<void> | undefined
}

/** How long the end of an entry waits for etcd to know of it, in milliseconds. It is tried on afterwards. */
const longestLeave = 2000

// ── its names ──

/** A key as it is in etcd, below which namespace it may be. */
export const absolute = ({ client }: Session.Session, key: string): string =>
  decoder.decode(Keys.concat(Origin.of(client).prefix, Keys.toBytes(key)))

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** Whether two lines, seen by two sessions, are the same one. */
export const isSame = (one: Session.Session, name: string, other: Session.Session, otherName: string): boolean =>
  one === other
    ? name === otherName
    : Origin.of(one.client).root === Origin.of(other.client).root && absolute(one, name) === absolute(other, otherName)

// ── the life of an entry ──

/** Those of this program who wait for it go on, or begin to watch its keys. */
const finish = (entry: Entry, removedAt: bigint | undefined): void => {
  const { keys, over, session } = entry
  if (Deferred.isDoneUnsafe(over)) return
  entry.removedAt = removedAt
  for (const key of keys) if (session.entries.get(key) === entry) session.entries.delete(key)
  Deferred.doneUnsafe(over, Exit.void)
}

export const settle = (entry: Entry, loss: Session.Loss): void => {
  if (entry.loss !== undefined) return
  entry.loss = loss
  if (loss.reason !== "released") finish(entry, undefined)
  Deferred.doneUnsafe(entry.lost, Exit.succeed(loss))
  entry.onSettled()
}

/** Whether it is held, as far as anybody can know. */
export const isHeld = ({ incarnation, isHeld, loss, session }: Entry): boolean =>
  isHeld && loss === undefined && Session.remaining(session, incarnation) > 0

export const remaining = (entry: Entry): number =>
  entry.isHeld && entry.loss === undefined ? Session.remaining(entry.session, entry.incarnation) : 0

/** A number that no other session that has the same lease comes upon. */
const randomNumber = (): bigint => BigInt.asUintN(53, globalThis.crypto.getRandomValues(new BigUint64Array(1))[0]!)

/** Names of an entry's keys that nobody has had while the lease lives, unless they were given back for certain. */
const chooseKeys = (incarnation: Session.Incarnation, { places }: Spec<unknown>): ReadonlyArray<string> => {
  const lease = EtcdId.format(incarnation.lease.id)
  const keysWith = (suffix: string) =>
    places.map(({ kind, name }) => `${name}/${Standings.directories[kind]}${lease}${suffix}`)
  if (incarnation.isShared) return keysWith(`.${randomNumber()}`)
  const plain = keysWith("")
  return plain.some((key) => incarnation.keys.has(key)) ? keysWith(`.${++incarnation.count}`) : plain
}

const makeEntry = (
  session: Session.Session,
  incarnation: Session.Incarnation,
  spec: Spec<unknown>,
  fiberId: number
): Entry => {
  const entry: Entry = {
    session,
    incarnation,
    spec,
    keys: chooseKeys(incarnation, spec),
    revision: 0n,
    clusterId: EtcdId.ClusterId(0n),
    acquiredRevision: 0n,
    lost: Deferred.makeUnsafe(),
    loss: undefined,
    onSettled: () => {},
    isUncertain: false,
    fiberId,
    isHeld: false,
    unwatch: () => {},
    view: undefined,
    over: Deferred.makeUnsafe(),
    removedAt: undefined,
    leaving: undefined,
    onLoss: (loss) => settle(entry, loss)
  }
  for (const key of entry.keys) incarnation.keys.add(key)
  Session.lean(incarnation, entry)
  if (incarnation.loss !== undefined) settle(entry, incarnation.loss)
  return entry
}

// ── coming in ──

/** What the lines were like at a revision. */
type Look = ReadonlyArray<Standings.State>

interface Joined {
  readonly entry: Entry
  readonly look: Look
}

const besideOf = (name: string, { beside }: Whole<unknown>): string => `${name}/${beside}`

const stateOf = ({ name, rule }: Place<unknown>, revision: bigint, kvs: ReadonlyArray<KeyValue>): Standings.State => ({
  revision,
  standings: Standings.standings(name, kvs),
  beside: rule._tag === "Whole" ? kvs.find(({ keyString }) => keyString === besideOf(name, rule)) : undefined
})

// Not of their keys only: etcd 3.7 leaves out the leases then, which tell places from other keys.
const readingOf = memoize(({ name }: Place<unknown>) => EtcdTxn.range(Standings.prefixOf(name)))

const rangesOf = (results: ReadonlyArray<object | Coming["ranges"][number]>): Coming["ranges"] =>
  results.filter((result) => "kvs" in result)

/**
 * Puts the keys where none of them is there, and looks who stands in the lines. Where a line asks for nothing else, the puts
 * are no transaction of their own within this one, since older servers do not ask then whether there is space for them, nor
 * whether the user may do that.
 */
const joinOnce = (entry: Entry) => {
  const { incarnation, keys, session, spec } = entry
  const lease = EtcdId.LeaseId(incarnation.lease.id)
  const compare = keys.map((key) => EtcdTxn.missing(key))
  const failure = spec.places.map(readingOf)
  const success = [...keys.map((key) => EtcdTxn.put(key, spec.value, { lease })), ...failure]
  const isOpen = spec.places.every(({ rule }) => rule._tag === "Ahead")
  return isOpen
    ? Effect.map(session.txn.commit(EtcdTxn.make({ compare, success, failure })), ({ header, results, succeeded }) => ({
        header,
        succeeded,
        results: { isIn: succeeded, ranges: rangesOf(results) } satisfies Coming
      }))
    : session.txn.commit(guarded(spec, compare, success, failure))
}

/** Lets every line say whether the keys are put. */
const guarded = (
  { places }: Spec<unknown>,
  compare: ReadonlyArray<EtcdTxn.Compare>,
  success: ReadonlyArray<EtcdTxn.Op<object>>,
  failure: ReadonlyArray<EtcdTxn.Op<Coming["ranges"][number]>>
) => {
  const look = EtcdTxn.map(EtcdTxn.all(failure), (ranges): Coming => ({ isIn: false, ranges }))
  const enter = EtcdTxn.map(EtcdTxn.all(success), (all): Coming => ({ isIn: true, ranges: rangesOf(all) }))
  const coming = places.reduce((op, { rule }) => (rule._tag === "Whole" ? rule.coming(op, look) : op), enter)
  return EtcdTxn.make({ compare, success: coming, failure: look })
}

const ownOf = (key: string, { standings }: Standings.State) => standings.find((standing) => standing.key === key)

/** The place of an entry whose keys were there already, if they are its own. */
const ownPlace = ({ incarnation, keys }: Entry, look: Look): bigint | undefined => {
  const own = keys.map((key, index) => ownOf(key, look[index]!))
  const place = own[0]?.revision
  const areOwn = own.every((one) => one?.revision === place && one?.lease === incarnation.lease.id)
  return areOwn ? place : undefined
}

/** A line may not let anybody in as it is. */
interface Refused {
  readonly refused: Look
}

type Attempt = "renamed" | "lost" | Refused | Joined

/** Sends a join until its outcome is known. */
const attemptToJoin = Effect.fnUntraced(function* (
  entry: Entry,
  isWanted: () => boolean
): Effect.fn.Return<Attempt, EtcdError> {
  const { incarnation, keys, session, spec } = entry
  let step: Time.Step<EtcdError> | undefined
  while (true) {
    const result = yield* Effect.result(joinOnce(entry))
    if (Result.isSuccess(result)) {
      const { header, results, succeeded } = result.success
      const look = spec.places.map((place, index) => stateOf(place, header.revision, results.ranges[index]!.kvs))
      if (succeeded && !results.isIn) return { refused: look }
      // Keys that are there although nothing of ours may be on its way are of somebody who has the same lease.
      const place = succeeded ? header.revision : entry.isUncertain ? ownPlace(entry, look) : undefined
      if (place === undefined) return "renamed"
      entry.revision = place
      entry.clusterId = header.clusterId
      if (!Deferred.isDoneUnsafe(entry.over)) for (const key of keys) session.entries.set(key, entry)
      return { entry, look }
    }
    const error = result.failure
    if (error.reason._tag === "LeaseNotFound") {
      Session.lose(session, incarnation, { reason: "not-found", cause: error })
      return "lost"
    }
    if (error.outcome === "unknown") entry.isUncertain = true
    step ??= yield* Schedule.toStep(EtcdClient.defaultRetry)
    const pause = isMendable(error) && isWanted() ? yield* Time.nextPause(session.time, step, error) : undefined
    if (pause === undefined) return yield* Effect.fail(error)
    yield* Time.sleep(session.time, pause)
  }
})

/** Says why an entry was refused. */
const refuse = <E>({ places }: Spec<E>, look: Look) =>
  Effect.forEach(places, ({ rule }, index) => {
    const verdict = rule._tag === "Whole" ? rule.judge(undefined, look[index]!) : "admitted"
    return typeof verdict === "string" ? Effect.void : verdict
  })

/** Stands in line, at whatever place. */
const join = Effect.fnUntraced(function* <E>(
  session: Session.Session,
  spec: Spec<E>,
  fiberId: number,
  isWanted: () => boolean
) {
  while (true) {
    const incarnation = yield* Session.current(session)
    const entry = makeEntry(session, incarnation, spec, fiberId)
    const attempt = yield* Effect.onError(attemptToJoin(entry, isWanted), () => leave(entry))
    if (typeof attempt === "object" && "entry" in attempt) {
      yield* watchKeys(entry)
      return attempt
    }
    yield* leave(entry)
    // What is there already is not given back.
    if (attempt === "renamed") for (const key of entry.keys) incarnation.keys.add(key)
    if (typeof attempt === "object") yield* refuse(spec, attempt.refused)
  }
})

// ── while it is there ──

const missing: Session.Loss = { reason: "deleted", cause: undefined }

const lossBecause = (error: EtcdError): Session.Loss => ({
  reason: Failures.isRegression(error) ? "regressed" : "unwatched",
  cause: error
})

/** Whether a key is the entry's still. One that lost its lease would stay for ever, and nobody takes it for a place. */
const isOwn = ({ incarnation, revision }: Entry, { createRevision, lease }: KeyValue): boolean =>
  createRevision === revision && Option.contains(lease, incarnation.lease.id)

/** Waits until one of its keys is not there any more as it was put, and says why. */
const disappearance = (entry: Entry, key: string): Effect.Effect<Session.Loss> => {
  const isNone = (kv: KeyValue) => !isOwn(entry, kv)
  const look = (revision: bigint) =>
    Effect.map(rangeAtLeast(entry.session.kv, key, revision), ({ kvs }) =>
      kvs.every(isNone) ? Option.some(missing) : Option.none()
    )
  const gone = deletion(entry.session.watch, key, entry.revision, look, isNone)
  return Effect.match(Outage.untilSeen(entry.session, gone), { onSuccess: () => missing, onFailure: lossBecause })
}

/** It was seen that it is there no more; in a store that has gone back, nothing of the session is what it was. */
const vanish = (entry: Entry, loss: Session.Loss): void => {
  const { incarnation, session } = entry
  if (loss.reason === "regressed") Session.lose(session, incarnation, loss)
  settle(entry, loss)
  // It may be the lease that is gone.
  session.leases.keeper.hasten(incarnation.lease)
}

/** Sees to it that the entry is known as lost when a key of it goes. To be run without interruption. */
const watchKeys = (entry: Entry): Effect.Effect<void> =>
  Effect.map(isWhole(entry) ? follow(entry, entry.spec.places[0]!) : watchEach(entry), (unwatch) => {
    entry.unwatch = unwatch
    if (entry.leaving !== undefined) unwatch()
  })

/** A line that is watched as a whole is joined by itself. */
const isWhole = ({ spec: { places } }: Entry): boolean => places.length === 1 && places[0]!.rule._tag === "Whole"

/** What is over soon is not worth a watch; what has happened until then is found when the watch begins. */
const watchEach = (entry: Entry): Effect.Effect<() => void> => {
  const { keys, session } = entry
  const gone = Effect.suspend(() => Effect.raceAllFirst(keys.map((key) => disappearance(entry, key))))
  return session.background.soon(Tracing.inBackground(Effect.map(gone, (loss) => vanish(entry, loss))))
}

const follow = (entry: Entry, { name, rule }: Place<unknown>): Effect.Effect<() => void> => {
  const follower: View.Follower = {
    key: entry.keys[0]!,
    revision: entry.revision,
    onGone: () => vanish(entry, missing),
    onFailure: (error) => vanish(entry, lossBecause(error))
  }
  return Effect.map(View.attach(entry.session, name, besideOf(name, rule as Whole<unknown>), follower), (view) => {
    entry.view = view
    return () => View.detach(view, follower)
  })
}

// ── waiting, for who stands before ──

/** Those whom an entry has to wait for in a line. */
const waitsFor = ({ keys, revision }: Entry, index: number, rule: Ahead, { standings }: Standings.State) =>
  rule.waitsFor(standings.filter((one) => one.revision < revision && one.key !== keys[index]))

const stands = ({ standings }: Standings.State, key: string, revision: bigint): boolean =>
  standings.some((standing) => standing.key === key && standing.revision === revision)

/** The line up to an entry, at some revision at least. */
const lookAtLeast = (entry: Entry, index: number, revision: bigint) => {
  const place = entry.spec.places[index]!
  const upTo = { maxCreateRevision: entry.revision }
  return Effect.map(rangeAtLeast(entry.session.kv, Standings.prefixOf(place.name), revision, upTo), ({ header, kvs }) =>
    stateOf(place, header.revision, kvs)
  )
}

/** Waits until somebody has left the line, and says at which revision, or what it was like then. */
const departureSeen = (entry: Entry, index: number, who: Standings.Standing, after: bigint) => {
  const { name } = entry.spec.places[index]!
  const look = (revision: bigint) =>
    Effect.map(lookAtLeast(entry, index, revision), (state) =>
      stands(state, who.key, who.revision) ? Option.none() : Option.some(state)
    )
  const isNone = (kv: KeyValue) => Standings.standingOf(name, kv) === undefined
  return deletion(entry.session.watch, who.key, after, look, isNone).pipe(
    Effect.flatMap((left): Effect.Effect<bigint | Standings.State, EtcdError> => {
      if (!("isExact" in left)) return Effect.succeed(left)
      return left.isExact ? Effect.succeed(left.revision) : lookAtLeast(entry, index, left.revision)
    }),
    Effect.catchReason("EtcdError", "Compacted", () => lookAtLeast(entry, index, after))
  )
}

/** Who of this program stands at a place. */
const ownAt = ({ entries }: Session.Session, { key, revision }: Standings.Standing): Entry | undefined => {
  const own = entries.get(key)
  return own?.revision === revision ? own : undefined
}

/** The same. Who is of this program says so when etcd has acknowledged it. */
const departure = (entry: Entry, index: number, who: Standings.Standing, after: bigint) => {
  const own = ownAt(entry.session, who)
  const seen = Effect.suspend(() => departureSeen(entry, index, who, after))
  if (own === undefined) return seen
  return Effect.flatMap(Deferred.await(own.over), () =>
    own.removedAt === undefined ? seen : Effect.succeed(own.removedAt)
  )
}

/** By which revision all are gone, where it was this program that has removed all of them. */
const allRemovedAt = (entries: ReadonlyArray<Entry | undefined>): bigint | undefined => {
  let last = 0n
  for (const entry of entries) {
    if (entry?.removedAt === undefined) return undefined
    if (entry.removedAt > last) last = entry.removedAt
  }
  return last
}

/** Waits until those before an entry have left, and says by which revision they had. */
const admissionAfter = Effect.fnUntraced(function* (entry: Entry, index: number, rule: Ahead, look: Standings.State) {
  let now = look
  let hasWaited = false
  while (true) {
    const before = waitsFor(entry, index, rule, now)
    const isThere = stands(now, entry.keys[index]!, entry.revision)
    if (hasWaited && !isThere) return yield* awaitLoss(entry)
    const last = before.at(-1)
    if (last === undefined) return now.revision
    const own = before.map((one) => ownAt(entry.session, one))
    const left = yield* Outage.untilSeen(entry.session, departure(entry, index, last, now.revision))
    hasWaited = true
    // There was nobody else, and nobody comes in before. Had both one lease, that may be gone, and the own key with it,
    // unless its key was there to be removed.
    const isSure = before.length === 1 && last.lease !== entry.incarnation.lease.id
    const sure = entry.spec.confirms ? undefined : (allRemovedAt(own) ?? (isSure ? left : undefined))
    if (typeof sure === "bigint") return yield* Effect.as(Failures.notBefore(now.revision, sure), sure)
    now = typeof left === "bigint" ? yield* Outage.untilSeen(entry.session, lookAtLeast(entry, index, left)) : left
  }
})

// ── waiting, for a state of the line ──

/** Where the own key is gone, that will be heard of. */
const verdictOf = <E>({ keys, revision }: Entry, rule: Whole<E>, state: Standings.State): Verdict<E> => {
  const own = ownOf(keys[0]!, state)
  return own?.revision === revision ? rule.judge(own, state) : "waits"
}

interface Judged<E> {
  readonly state: Standings.State
  readonly verdict: Verdict<E>
}

const judgement = <E>(entry: Entry, rule: Whole<E>, from: bigint): Effect.Effect<Judged<E>, EtcdError> =>
  View.until(entry.view!, from, (state) => {
    const verdict = verdictOf(entry, rule, state)
    return verdict === "waits" ? Option.none() : Option.some({ state, verdict })
  })

/** Waits until the line lets an entry in, and says by which revision it did. */
const admissionBy = Effect.fnUntraced(function* <E>(entry: Entry, rule: Whole<E>, look: Standings.State) {
  let now: Judged<E> = { state: look, verdict: verdictOf(entry, rule, look) }
  while (now.verdict !== "admitted") {
    if (now.verdict !== "waits") yield* now.verdict
    now = yield* judgement(entry, rule, now.state.revision + 1n)
  }
  return now.state.revision
})

// ── being admitted ──

/** The own key is gone, which will be heard of. */
const awaitLoss = (entry: Entry): Effect.Effect<never> => Effect.andThen(Deferred.await(entry.lost), Effect.never)

const isPast = (error: unknown): error is EtcdError => error instanceof EtcdError && Failures.isRegression(error)

const admission = <E>(entry: Entry, index: number, { rule }: Place<E>, look: Standings.State) =>
  rule._tag === "Ahead" ? admissionAfter(entry, index, rule, look) : admissionBy(entry, rule, look)

/** Whether an entry is not admitted yet, when it has just come in. */
const hasToWait = (entry: Entry, { places }: Spec<unknown>, look: Look): boolean =>
  places.some(({ rule }, index) =>
    rule._tag === "Ahead"
      ? waitsFor(entry, index, rule, look[index]!).length > 0
      : verdictOf(entry, rule, look[index]!) === "waits"
  )

/** Whether an entry is admitted as soon as it has come in. */
const isAdmitted = <E>(entry: Entry, { rule }: Place<E>, index: number, look: Standings.State): boolean =>
  rule._tag === "Ahead" ? waitsFor(entry, index, rule, look).length === 0 : verdictOf(entry, rule, look) === "admitted"

/** Waits until an entry is admitted in all of its lines; it may be lost before. */
const awaitAdmission = <E>(entry: Entry, { places }: Spec<E>, look: Look): Effect.Effect<void, E | EtcdError> => {
  if (places.every((place, index) => isAdmitted(entry, place, index, look[index]!))) {
    entry.acquiredRevision = look[0]!.revision
    return Effect.void
  }
  const admitted = Effect.gen(function* () {
    for (const [index, place] of places.entries()) {
      const revision: bigint = yield* admission(entry, index, place, look[index]!)
      if (revision > entry.acquiredRevision) entry.acquiredRevision = revision
    }
  })
  return Effect.raceFirst(admitted, Effect.asVoid(Deferred.await(entry.lost))).pipe(
    Effect.catchIf(isPast, (error) =>
      Effect.sync(() => Session.lose(entry.session, entry.incarnation, lossBecause(error)))
    )
  )
}

// ── leaving ──

/** Deletes its keys where they are its own. */
const deleteOnce = (entry: Entry): Effect.Effect<unknown, EtcdError> => {
  const { keys, revision, session } = entry
  const deletions = keys.map((key) =>
    EtcdTxn.make({ compare: EtcdTxn.createRevision(key).equals(revision), success: EtcdTxn.delete(key) })
  )
  const op = deletions.length === 1 ? EtcdTxn.map(deletions[0]!, (deletion) => [deletion]) : EtcdTxn.all(deletions)
  const deleting = Effect.map(session.txn.commit(op), (results) =>
    finish(entry, results.every(({ succeeded }) => succeeded) ? results[0]!.header.revision : undefined)
  )
  // What becomes of it is seen by a watch.
  const seen = Effect.tapError(deleting, () => Effect.sync(() => finish(entry, undefined)))
  return Removal.evenWithoutSpace(session, keys, seen)
}

const afterwards = ({ spec: { places } }: Entry): Effect.Effect<void, EtcdError> =>
  Effect.forEach(places, ({ rule }) => (rule._tag === "Whole" && rule.afterwards) || Effect.void, { discard: true })

const end = (entry: Entry): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { incarnation, isUncertain, keys, session } = entry
    const after = afterwards(entry)
    if (entry.revision !== 0n) {
      yield* Outage.untilDone(session, incarnation, deleteOnce(entry))
      yield* Session.isLeaseGone(incarnation) ? Effect.ignore(after) : Outage.untilDone(session, incarnation, after)
    }
    if (Session.isLeaseGone(incarnation)) return
    const removeOwn = (key: string) =>
      Effect.andThen(Removal.evenWithoutSpace(session, [key], Removal.deleteOwn(session, incarnation, key)), after)
    if (isUncertain) yield* Removal.sweep(session, incarnation, keys, removeOwn)
    else for (const key of keys) incarnation.keys.delete(key)
  })

/**
 * Gives the place back. It is over for this program at once; that etcd knows of it is waited for only for a while, and
 * tried on as long as the lease lives.
 */
export const leave = (entry: Entry): Effect.Effect<void> =>
  Effect.suspend(() => {
    if (entry.leaving !== undefined) return entry.leaving
    const { incarnation, session } = entry
    entry.isHeld = false
    settle(entry, { reason: "released", cause: undefined })
    entry.unwatch()
    letGo(entry)
    const left = Deferred.makeUnsafe<void>()
    entry.leaving = Effect.asVoid(Deferred.await(left))
    const until = session.time.now() + longestLeave
    return session.background.run(Caller.as(session.caller, end(entry)), until).pipe(
      Effect.flatMap((task) => session.background.await(task, until)),
      Effect.ensuring(
        Effect.sync(() => {
          finish(entry, undefined)
          Session.release(incarnation, entry)
          Deferred.doneUnsafe(left, Exit.void)
        })
      ),
      Effect.uninterruptible
    )
  })

// ── the whole ──

const hold = (entry: Entry): void => {
  entry.isHeld = true
  const { holders } = entry.session
  for (const { name } of entry.spec.places) {
    const known = holders.get(name)
    if (known === undefined) holders.set(name, new Set([entry]))
    else known.add(entry)
  }
}

const letGo = (entry: Entry): void => {
  const { holders } = entry.session
  for (const { name } of entry.spec.places) {
    const known = holders.get(name)
    if (known?.delete(entry) && known.size === 0) holders.delete(name)
  }
}

/** Whether a fiber holds a place in a line. */
export const holds = (session: Session.Session, name: string, fiberId: number): boolean => {
  for (const holder of session.holders.get(name) ?? []) if (holder.fiberId === fiberId) return true
  return false
}

/** Joins in the background, so that whoever stops waiting leaves nothing behind: its answer is always heard. */
const joinUnlessLeft = <E>(session: Session.Session, spec: Spec<E>, fiberId: number, restore: Restore) =>
  Effect.gen(function* () {
    let isWanted = true
    // It is handed over in one step: somebody leaves who was not to come, or is the one to see to it.
    let handedOver: Entry | undefined
    const handOver = ({ entry }: Joined): Effect.Effect<void> => {
      if (!isWanted) return leave(entry)
      handedOver = entry
      return Effect.void
    }
    const joining = Effect.tap(
      join(session, spec, fiberId, () => isWanted),
      handOver
    )
    const { fiber } = yield* session.background.run(joining, Number.NEGATIVE_INFINITY)
    return yield* Effect.onInterrupt(restore(Session.answerOf(fiber)), () =>
      Effect.suspend(() => {
        isWanted = false
        return handedOver === undefined ? Effect.void : leave(handedOver)
      })
    )
  })

export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What becomes of an entry that has joined: it is held, has left because it is lost, or because that took too long. */
type Outcome = "held" | "lost" | "left"

const settleIn = <E>({ entry, look }: Joined, spec: Spec<E>, patience: Patience, restore: Restore) =>
  Effect.gen(function* () {
    if (patience === "leaves" && hasToWait(entry, spec, look)) {
      yield* leave(entry)
      return "left" satisfies Outcome
    }
    const waiting = Effect.andThen(awaitAdmission(entry, spec, look), Session.settled(entry.session, entry.incarnation))
    yield* Effect.onError(restore(waiting), () => leave(entry))
    if (entry.loss !== undefined) {
      yield* leave(entry)
      return "lost" satisfies Outcome
    }
    hold(entry)
    return "held" satisfies Outcome
  })

export type Patience = "waits" | "leaves"

/**
 * Takes a place, and waits until it is admitted; whoever takes it gives it back. Where it is lost before, because its lease
 * or its key is, another one is taken, at the end. Who leaves has no entry unless it is admitted at once. It is to be run
 * without interruption, but for where it is restored.
 */
export const take = <E>(
  session: Session.Session,
  spec: Spec<E>,
  patience: Patience,
  restore: Restore
): Effect.Effect<Entry | undefined, E | EtcdError> =>
  Effect.gen(function* () {
    const fiberId = yield* Effect.fiberId
    while (true) {
      const joined = yield* joinUnlessLeft(session, spec, fiberId, restore)
      const outcome = yield* settleIn(joined, spec, patience, restore)
      if (outcome === "held") return joined.entry
      if (outcome === "left") return undefined
    }
  })

/** As {@link take}, until the scope closes. */
export const enter = <E>(
  session: Session.Session,
  spec: Spec<E>,
  patience: Patience
): Effect.Effect<Entry | undefined, E | EtcdError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.tap(take(session, spec, patience, restore), (entry) =>
      entry === undefined ? Effect.void : Tracing.atClose(leave(entry))
    )
  )
