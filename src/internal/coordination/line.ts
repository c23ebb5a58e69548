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
 * A key names the lease, and no two entries ever have the same one. So a join whose outcome is unknown is sent again until
 * it is known, and finds its own place; and a request that may still arrive when the entry is over puts a key there that
 * nobody but the session that sent it can be meant by, which deletes it as long as it lives.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import * as EtcdId from "../../EtcdId.ts"
import type { Header, KeyValue } from "../../EtcdResponse.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Caller from "../caller.ts"
import * as Origin from "../client/origin.ts"
import { decide } from "../client/retryRules.ts"
import * as Keys from "../keys.ts"
import { isMendable } from "../lease/requests.ts"
import * as Time from "../time.ts"
import * as Removal from "./removal.ts"
import * as Session from "./session.ts"

/** Who stands in a line. */
export interface Standing {
  readonly key: string
  /** Its place: the revision that created the key. */
  readonly revision: bigint
  readonly lease: EtcdId.LeaseId
  /** What kind of entry it is, by where its key is. */
  readonly kind: Kind
  readonly kv: KeyValue
}

/**
 * Go's `RWMutex` puts the keys of readers and writers into directories of their own, and everybody else into the line
 * itself.
 */
export type Kind = "own" | "read" | "write"

const directories: { readonly [K in Kind]: string } = { own: "", read: "read/", write: "write/" }

/**
 * Those of the line who keep an entry from being admitted, in their order. They stand before it, and that they go is
 * enough.
 */
export type Rule = (before: ReadonlyArray<Standing>) => ReadonlyArray<Standing>

/** A place in one line. */
export interface Place {
  readonly name: string
  readonly kind: Kind
  readonly rule: Rule
}

/** What an entry is made of. */
export interface Spec {
  readonly places: ReadonlyArray<Place>
  /** What its keys hold. */
  readonly value: KeyRange.Bytes
  /** Whether the place is read again after waiting, together with the own key, before the entry counts as admitted. */
  readonly confirms: boolean
}

/** All who stand before wait, and are waited for. */
export const first: Rule = (before) => before

/** Only who writes is waited for. */
export const noWriter: Rule = (before) => before.filter(({ kind }) => kind !== "read")

export interface Entry extends Session.Dependent, Session.Holder {
  readonly session: Session.Session
  readonly incarnation: Session.Incarnation
  readonly spec: Spec
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
  /** Whether a request that may put its keys has an unknown outcome. */
  isUncertain: boolean
  isHeld: boolean
  watching: Fiber.Fiber<void> | undefined
  leaving: Effect.Effect<void> | undefined
}

/** How long the end of an entry waits for etcd to know of it, in milliseconds. It is tried on afterwards. */
const longestLeave = 2000

// ── reading a line ──

const isText = (text: string): boolean => text !== "" && text.isWellFormed() && !text.includes("\0")

/** What the name of a line has to be. */
export const nameCheck = {
  accepts: (name: unknown): boolean =>
    typeof name === "string" && isText(name) && !/^\/|\/$|(?:^|\/)(?:read|write)$/.test(name),
  due:
    "text that is not empty, without a slash at its beginning or end and without NUL; the last part of it cannot be " +
    '"read" or "write", where the keys of shared locks are'
}

export const prefixOf = (name: string): KeyRange.KeyRange => KeyRange.prefix(`${name}/`)

const pattern = /^(?:(read|write)\/)?([^/]+)$/

/** Keys of locks and elections are called after their lease; those of Go's shared locks have one. */
const kindOf = (suffix: string, lease: EtcdId.LeaseId): Kind | undefined => {
  const [, directory, own] = pattern.exec(suffix) ?? []
  if (own === undefined) return undefined
  if (directory !== undefined) return directory as Kind
  const hex = EtcdId.format(lease)
  return own === hex || own.startsWith(`${hex}.`) ? "own" : undefined
}

/** Who has a key in a line, if anybody stands there with it. */
export const standingOf = (name: string, kv: KeyValue): Standing | undefined => {
  const lease = Option.getOrUndefined(kv.lease)
  if (lease === undefined) return undefined
  const key = kv.keyString
  const kind = kindOf(key.slice(name.length + 1), lease)
  return kind === undefined ? undefined : { key, revision: kv.createRevision, lease, kind, kv }
}

const byPlace = (one: Standing, other: Standing): number => (one.revision < other.revision ? -1 : 1)

/** Who stands in a line, in their order. */
export const standings = (name: string, kvs: ReadonlyArray<KeyValue>): ReadonlyArray<Standing> =>
  kvs
    .map((kv) => standingOf(name, kv))
    .filter((standing) => standing !== undefined)
    .sort(byPlace)

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

export const settle = (entry: Entry, loss: Session.Loss): void => {
  if (entry.loss !== undefined) return
  entry.loss = loss
  Deferred.doneUnsafe(entry.lost, Exit.succeed(loss))
}

/** Whether it is held, as far as anybody can know. */
export const isHeld = ({ incarnation, isHeld, loss, session }: Entry): boolean =>
  isHeld && loss === undefined && Session.remaining(session, incarnation) > 0

export const remaining = (entry: Entry): number =>
  entry.isHeld && entry.loss === undefined ? Session.remaining(entry.session, entry.incarnation) : 0

/** A number that no other session that has the same lease comes upon. */
const randomNumber = (): bigint => BigInt.asUintN(53, globalThis.crypto.getRandomValues(new BigUint64Array(1))[0]!)

/** Names of an entry's keys that nobody has had while the lease lives, unless they were given back for certain. */
const chooseKeys = (incarnation: Session.Incarnation, { places }: Spec): ReadonlyArray<string> => {
  const lease = EtcdId.format(incarnation.lease.id)
  const keysWith = (suffix: string) => places.map(({ kind, name }) => `${name}/${directories[kind]}${lease}${suffix}`)
  if (incarnation.isShared) return keysWith(`.${randomNumber()}`)
  const plain = keysWith("")
  return plain.some((key) => incarnation.keys.has(key)) ? keysWith(`.${++incarnation.count}`) : plain
}

const makeEntry = (session: Session.Session, incarnation: Session.Incarnation, spec: Spec, fiberId: number): Entry => {
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
    isUncertain: false,
    fiberId,
    isHeld: false,
    watching: undefined,
    leaving: undefined,
    onLoss: (loss) => settle(entry, loss)
  }
  for (const key of entry.keys) incarnation.keys.set(key, entry)
  Session.lean(incarnation, entry)
  if (incarnation.loss !== undefined) settle(entry, incarnation.loss)
  return entry
}

// ── coming in ──

/** What the lines were like at a revision. */
interface Look {
  readonly revision: bigint
  readonly lines: ReadonlyArray<ReadonlyArray<Standing>>
}

interface Joined extends Look {
  readonly entry: Entry
}

// Not of their keys only: etcd 3.7 leaves out the leases then, which tell places from other keys.
const linesOf = ({ places }: Spec) => places.map(({ name }) => EtcdTxn.range(prefixOf(name)))

const lookOf = (
  { places }: Spec,
  header: Header,
  ranges: ReadonlyArray<{ readonly kvs: ReadonlyArray<KeyValue> }>
): Look => ({
  revision: header.revision,
  lines: places.map(({ name }, index) => standings(name, ranges[index]!.kvs))
})

/** Puts the keys where none of them is there, and looks who stands in the lines. */
const joinOnce = (entry: Entry) => {
  const { incarnation, keys, session, spec } = entry
  const lines = EtcdTxn.all(linesOf(spec))
  const lease = EtcdId.LeaseId(incarnation.lease.id)
  return session.txn.commit(
    EtcdTxn.make({
      compare: keys.map((key) => EtcdTxn.missing(key)),
      success: { puts: EtcdTxn.all(keys.map((key) => EtcdTxn.put(key, spec.value, { lease }))), lines },
      failure: { lines }
    })
  )
}

/** The place of an entry whose keys were there already, if they are its own. */
const ownPlace = ({ incarnation, keys }: Entry, { lines }: Look): bigint | undefined => {
  const own = keys.map((key, index) => lines[index]!.find((standing) => standing.key === key))
  const place = own[0]?.revision
  const areOwn = own.every((one) => one?.revision === place && one?.lease === incarnation.lease.id)
  return areOwn ? place : undefined
}

type Attempt = "renamed" | "lost" | Joined

/** Sends a join until its outcome is known. */
const attemptToJoin = Effect.fnUntraced(function* (entry: Entry, isWanted: () => boolean) {
  const { incarnation, session, spec } = entry
  const step = yield* Schedule.toStep(EtcdClient.defaultRetry)
  while (true) {
    const result = yield* Effect.result(joinOnce(entry))
    if (Result.isSuccess(result)) {
      const { header, results, succeeded } = result.success
      const look = lookOf(spec, header, results.lines)
      // Keys that are there although nothing of ours may be on its way are of somebody who has the same lease.
      const place = succeeded ? header.revision : entry.isUncertain ? ownPlace(entry, look) : undefined
      if (place === undefined) return "renamed" satisfies Attempt
      entry.revision = place
      entry.clusterId = header.clusterId
      return { ...look, entry } satisfies Attempt
    }
    const error = result.failure
    if (error.reason._tag === "LeaseNotFound") {
      Session.lose(session, incarnation, { reason: "not-found", cause: error })
      return "lost" satisfies Attempt
    }
    if (error.outcome === "unknown") entry.isUncertain = true
    const pause = isMendable(error) && isWanted() ? yield* Time.nextPause(session.time, step, error) : undefined
    if (pause === undefined) return yield* Effect.fail(error)
    yield* Time.sleep(session.time, pause)
  }
})

/** Stands in line, at whatever place. */
const join = Effect.fnUntraced(function* (
  session: Session.Session,
  spec: Spec,
  fiberId: number,
  isWanted: () => boolean
) {
  while (true) {
    const incarnation = yield* Session.current(session)
    const entry = makeEntry(session, incarnation, spec, fiberId)
    const attempt = yield* Effect.onError(attemptToJoin(entry, isWanted), () => leave(entry))
    if (attempt !== "renamed" && attempt !== "lost") {
      yield* watchKeys(entry)
      return attempt
    }
    yield* leave(entry)
  }
})

// ── while it is there ──

const missing: Session.Loss = { reason: "deleted", cause: undefined }

const isPast = ({ reason: { _tag } }: EtcdError): boolean =>
  _tag === "RevisionRegressed" || _tag === "ClusterIdMismatch"

const lossBecause = (error: EtcdError): Session.Loss => ({
  reason: isPast(error) ? "regressed" : "unwatched",
  cause: error
})

/**
 * Waits until a key is deleted, and says at which revision, or what was found instead. The watch begins when a server has
 * taken it, so that it is served at once: etcd lets watches from an earlier revision wait for a tenth of a second, however
 * little is between. What is between is looked at, if there is anything.
 */
const deletion = <A>(
  { session }: Entry,
  key: string,
  after: bigint,
  look: (revision: bigint) => Effect.Effect<Option.Option<A>, EtcdError>
): Effect.Effect<bigint | A, EtcdError> =>
  session.watch.changes(key, { created: true, ignore: "puts" }).pipe(
    Stream.mapEffect((change): Effect.Effect<Option.Option<bigint | A>, EtcdError> => {
      if (change._tag === "Revision") return Effect.succeed(Option.some(change.revision))
      const isAfter = change._tag === "Created" && change.startRevision > after + 1n
      return isAfter ? look(change.startRevision - 1n) : Effect.succeedNone
    }),
    Stream.filter(Option.isSome),
    Stream.runHead,
    Effect.flatMap((found) => (Option.isSome(found) ? Effect.succeed(found.value.value) : Effect.never))
  )

/** Whether a key is the entry's still. One that lost its lease would stay for ever, and nobody takes it for a place. */
const isOwn = ({ incarnation, revision }: Entry, { createRevision, lease }: KeyValue): boolean =>
  createRevision === revision && Option.contains(lease, incarnation.lease.id)

const isMissing = (entry: Entry, key: string): Effect.Effect<boolean, EtcdError> =>
  Effect.map(entry.session.kv.range(key), ({ kvs }) => !kvs.some((kv) => isOwn(entry, kv)))

/** How long it is waited, in milliseconds, before it is looked again where that was not possible. */
const lookPause = 100

/** Waits until one of its keys is not there any more as it was put, and says why. */
const disappearance = (entry: Entry, key: string): Effect.Effect<Session.Loss> => {
  const { session } = entry
  const again = Effect.andThen(
    Time.sleep(session.time, lookPause),
    Effect.suspend(() => disappearance(entry, key))
  )
  return session.watch.changes(key, { created: true }).pipe(
    Stream.mapEffect((change) => {
      if (change._tag === "Revision") {
        return Effect.succeed(change.events.some(({ _tag, kv }) => _tag === "Delete" || !isOwn(entry, kv)))
      }
      const isAfter = change._tag === "Created" && change.startRevision > entry.revision + 1n
      return isAfter ? isMissing(entry, key) : Effect.succeed(false)
    }),
    Stream.filter((isGone) => isGone),
    Stream.runHead,
    Effect.as(missing),
    Effect.catch((error) => (isPassing(error) ? again : Effect.succeed(lossBecause(error))))
  )
}

/** Whether a failure says nothing about the key. */
const isPassing = (error: EtcdError): boolean =>
  error.reason._tag === "Compacted" || (!isPast(error) && decide(error.reason) !== "fail")

/** What is over before that is not worth a watch; what has happened until then is found when the watch begins. */
const shortMillis = 20

/** Sees to it that the entry is known as lost when a key of it goes. */
const watchKeys = (entry: Entry): Effect.Effect<void> => {
  const { keys, session } = entry
  const gone = Effect.raceAllFirst(keys.map((key) => disappearance(entry, key)))
  const watching = Effect.flatMap(Effect.andThen(Time.sleep(session.time, shortMillis), gone), (loss) =>
    Effect.sync(() => {
      settle(entry, loss)
      // It may be the lease that is gone.
      session.leases.keeper.hasten(entry.incarnation.lease)
    })
  )
  return Effect.map(session.background.run(watching, Number.NEGATIVE_INFINITY), ({ fiber }) => {
    entry.watching = fiber
    if (entry.leaving !== undefined) fiber.interruptUnsafe()
  })
}

// ── waiting ──

/** Those whom an entry has to wait for in a line. */
const ahead = ({ keys, revision, spec }: Entry, index: number, line: ReadonlyArray<Standing>) =>
  spec.places[index]!.rule(line.filter((one) => one.revision < revision && one.key !== keys[index]))

/**
 * Whether whoever is gone from the line gave its place back. Of those with another lease it does not matter; but where it
 * is the lease that is gone, the own key went with it, and the place of who leaves because of that was not given back.
 */
const hasLeft = ({ incarnation }: Entry, { key, lease }: Standing): boolean => {
  if (lease !== incarnation.lease.id) return true
  const holder = incarnation.keys.get(key)
  return holder === undefined ? !incarnation.isShared : holder.loss?.reason === "released"
}

const hasOwn = ({ keys, revision }: Entry, index: number, line: ReadonlyArray<Standing>): boolean =>
  line.some((standing) => standing.key === keys[index] && standing.revision === revision)

/** The line as some member has it, if that is not behind a revision; else as it is. */
const lookAtLeast = Effect.fnUntraced(function* (entry: Entry, index: number, revision: bigint) {
  const { kv } = entry.session
  const { name } = entry.spec.places[index]!
  const near = yield* kv.range(prefixOf(name), { serializable: true })
  const { header, kvs } =
    near.header.revision >= revision && near.header.clusterId === entry.clusterId
      ? near
      : yield* kv.range(prefixOf(name))
  return { revision: header.revision, line: standings(name, kvs) } satisfies LineAt
})

/** A line, and the revision that it was so at. */
interface LineAt {
  readonly revision: bigint
  readonly line: ReadonlyArray<Standing>
}

/** Waits until somebody has left the line, and says at which revision, or what it was like then. */
const departure = (entry: Entry, index: number, who: Standing, after: bigint) => {
  const left = deletion(entry, who.key, after, (revision) =>
    Effect.map(
      lookAtLeast(entry, index, revision),
      (look): Option.Option<LineAt> =>
        look.line.some(({ key, revision }) => key === who.key && revision === who.revision)
          ? Option.none()
          : Option.some(look)
    )
  )
  return Effect.catchReason(left, "EtcdError", "Compacted", () => lookAtLeast(entry, index, after))
}

/** Waits until an entry is admitted in one of its lines, and says by which revision it is. */
const admission = Effect.fnUntraced(function* (entry: Entry, index: number, { lines, revision }: Look) {
  let now: LineAt = { revision, line: lines[index]! }
  let hasWaited = false
  while (true) {
    const waitsFor = ahead(entry, index, now.line)
    if (hasWaited && !hasOwn(entry, index, now.line)) return yield* awaitLoss(entry)
    const last = waitsFor.at(-1)
    if (last === undefined) return now.revision
    const left = yield* departure(entry, index, last, now.revision)
    hasWaited = true
    // There was nobody else, and nobody comes in before.
    const isSure = waitsFor.length === 1 && !entry.spec.confirms && hasLeft(entry, last)
    if (typeof left === "bigint" && isSure) return left
    now = typeof left === "bigint" ? yield* lookAtLeast(entry, index, left) : left
  }
})

/** The own key is gone, which will be heard of. */
const awaitLoss = (entry: Entry): Effect.Effect<never> => Effect.andThen(Deferred.await(entry.lost), Effect.never)

/** Waits until an entry is admitted in all of its lines; it may be lost before. */
const awaitAdmission = (entry: Entry, look: Look): Effect.Effect<void, EtcdError> => {
  const admitted = Effect.gen(function* () {
    for (let index = 0; index < entry.keys.length; index++) {
      const revision = yield* admission(entry, index, look)
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
const deleteOnce = ({ keys, revision, session }: Entry): Effect.Effect<unknown, EtcdError> => {
  const op = EtcdTxn.all(
    keys.map((key) =>
      EtcdTxn.make({ compare: EtcdTxn.createRevision(key).equals(revision), success: EtcdTxn.delete(key) })
    )
  )
  return Removal.evenWithoutSpace(session, keys, session.txn.commit(op))
}

const isLeaseGone = ({ incarnation: { lease } }: Entry): boolean => lease.loss !== undefined

const end = (entry: Entry): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { incarnation, isUncertain, keys, session } = entry
    if (entry.revision !== 0n) yield* Removal.untilDone(session, incarnation, deleteOnce(entry))
    if (isLeaseGone(entry)) return
    const removeOwn = (key: string) =>
      Removal.evenWithoutSpace(session, [key], Removal.deleteOwn(session, incarnation, key))
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
    entry.watching?.interruptUnsafe()
    letGo(entry)
    const left = Deferred.makeUnsafe<void>()
    entry.leaving = Effect.asVoid(Deferred.await(left))
    const until = session.time.now() + longestLeave
    return session.background.run(Caller.as(session.caller, end(entry)), until).pipe(
      Effect.flatMap((task) => session.background.await(task, until)),
      Effect.ensuring(
        Effect.sync(() => {
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
const joinUnlessLeft = (session: Session.Session, spec: Spec, fiberId: number, restore: Restore) =>
  Effect.gen(function* () {
    let isWanted = true
    const joining = join(session, spec, fiberId, () => isWanted).pipe(
      Effect.tap(({ entry }) => (isWanted ? Effect.void : leave(entry)))
    )
    const { fiber } = yield* session.background.run(joining, Number.NEGATIVE_INFINITY)
    return yield* Effect.onInterrupt(restore(Session.answerOf(fiber)), () =>
      Effect.suspend(() => {
        isWanted = false
        const exit = fiber.pollUnsafe()
        return exit !== undefined && Exit.isSuccess(exit) ? leave(exit.value.entry) : Effect.void
      })
    )
  })

export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** What becomes of an entry that has joined: it is held, has left because it is lost, or because that took too long. */
type Outcome = "held" | "lost" | "left"

const settleIn = (entry: Entry, look: Look, patience: Patience, restore: Restore) =>
  Effect.gen(function* () {
    const isAhead = entry.keys.some((_, index) => ahead(entry, index, look.lines[index]!).length > 0)
    if (patience === "leaves" && isAhead) {
      yield* leave(entry)
      return "left" satisfies Outcome
    }
    const waiting = Effect.andThen(awaitAdmission(entry, look), Session.settled(entry.session, entry.incarnation))
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
export const take = (
  session: Session.Session,
  spec: Spec,
  patience: Patience,
  restore: Restore
): Effect.Effect<Entry | undefined, EtcdError> =>
  Effect.gen(function* () {
    const fiberId = yield* Effect.fiberId
    while (true) {
      const { entry, ...look } = yield* joinUnlessLeft(session, spec, fiberId, restore)
      const outcome = yield* settleIn(entry, look, patience, restore)
      if (outcome === "held") return entry
      if (outcome === "left") return undefined
    }
  })

/** As {@link take}, until the scope closes. */
export const enter = (
  session: Session.Session,
  spec: Spec,
  patience: Patience
): Effect.Effect<Entry | undefined, EtcdError, Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.tap(take(session, spec, patience, restore), (entry) =>
      entry === undefined ? Effect.void : Effect.addFinalizer(() => leave(entry))
    )
  )
