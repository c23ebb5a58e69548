/**
 * Locks: one holder at a time in the whole cluster, or many who only share.
 *
 * A lock is a value, made of a name; {@link withLock} runs an effect while it is held. Whoever wants it puts a key into the
 * line of the lock, `<name>/`, and gets it in the order of the keys' revisions: first come, first served, and whoever leaves
 * wakes one. The keys are those of etcd's own locks, so that Go programs (`concurrency.Mutex`) and `etcdctl lock` stand
 * in the same line. They hang on the lease of the program's session (`EtcdSession`).
 *
 * A lock is **held** until the session is lost, which is before its lease can expire (see `EtcdSession`), or its key is
 * deleted, or changed hands in any other way: the key is watched. Then the effect is interrupted, and when it has ended
 * `withLock` fails with {@link LockLost}. It never returns before the effect has ended, and the key is never given back
 * before that.
 *
 * No lock of this kind keeps a program from acting that was stopped after it had last looked: another one may hold the lock
 * when it goes on. What does is a **fence**. All that is written to etcd inside of `withLock` goes through one: each put,
 * delete and transaction is carried out by etcd only if the key of the holder is still there, in the same step. So a write
 * by a past holder cannot land at all, however late it arrives; it fails with the reason `Fenced`, and the lock is known as
 * lost. It costs two comparisons for a write, which count towards what a transaction may have (`--max-txn-ops`), and writes
 * under it are not batched.
 *
 * The fence is part of the context of the work, as a span is. So it is there for all fibers that the work starts, also
 * those that outlive it, for finalizers that it adds, and for services that were made long before, such as a layer that took
 * its `EtcdKv` when it was built: they write in the fiber that calls them. And `EtcdKv`, `EtcdTxn` and `EtcdClient` that the
 * work asks for bring it along to where that context is not, such as a callback that calls `Effect.runPromise`.
 *
 * It is not there for
 *
 * - a fiber that was there before, or that runs with another context, and writes with a service of its own: behind a queue,
 *   by a `FiberSet.makeRuntime`, in a batch of `Effect.request`;
 * - another etcd, and a client that has, and has had, no endpoint in common with that of the session, in whatever namespace:
 *   so use one client;
 * - a client of the program's own making that uses none of this library's, where it is called by itself;
 * - keys that go with their lease (`EtcdLease.revoke`), what a session puts and removes for itself (its places in
 *   lines, what it keeps), and etcd's own lock and election RPCs;
 * - what is to land although the lock is lost: {@link withoutFence}.
 *
 * For what is outside of etcd there is the `token`, which rises along the line: a resource that remembers the highest it has
 * seen, and refuses lower ones, is safe as well.
 *
 * | what happens | outcome |
 * | --- | --- |
 * | etcd fails over within the time to live less the margin | nothing, the order is kept |
 * | no keep-alive is answered until then | `LockLost`, the effect is interrupted, and has the margin to end |
 * | the lease is revoked, or the key deleted, by whomever | `LockLost` at that moment |
 * | the lease is gone although keep-alives are answered (etcd-io/etcd 14758, 20590) | the same: the key is gone |
 * | this process stood still, the machine slept | on waking, at the next look; writes to etcd fail by the fence |
 * | the store goes back (a backup is restored), or is another cluster's | `LockLost` |
 * | interrupted while it waits, at whatever moment | no key stays |
 * | giving back is not acknowledged | two seconds are waited for it; the session repeats it as long as its lease lives |
 * | the space quota is used up | acquiring fails with `NoSpace`; what is held stays held, and can be given back |
 * | the history is compacted while it waits | the place in the line is kept |
 *
 * An effect that goes on when somebody else could have the lock runs `overrun`; see {@link Options}.
 *
 * Joining a line reads who stands there: about 100 bytes for each, and half a millisecond more for a hundred of
 * them, six for a thousand. Waiting costs nothing; when the one before leaves, the line is read once more unless there was
 * nobody else.
 *
 * There are no lock delays, as in Consul: no delay is long enough for a holder that is stopped, and the fence needs none.
 * etcd's own lock RPCs are not used: they wait on one member, and do not tell of a loss. Nor are there queues, whose items
 * such a lock could lose with their consumer, or counters (`EtcdStore.update`).
 *
 * Besides what is said of each function, all fail with `InvalidArgument` where the lock makes no sense, before anything is
 * sent, and with the reasons of every call (`EtcdError`).
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../EtcdClient.ts"
import type * as EtcdError from "../EtcdError.ts"
import type { LeaseId } from "../EtcdId.ts"
import * as EtcdKv from "../EtcdKv.ts"
import type * as EtcdTxn from "../EtcdTxn.ts"
import * as Origin from "../internal/client/origin.ts"
import * as Held_ from "../internal/coordination/held.ts"
import * as Hold from "../internal/coordination/hold.ts"
import * as Line from "../internal/coordination/line.ts"
import * as Parts_ from "../internal/coordination/parts.ts"
import * as Session from "../internal/coordination/session.ts"
import * as Json from "../internal/json.ts"
import * as Checks from "../internal/options.ts"
import * as Tracing from "../internal/tracing.ts"
import { EtcdSession } from "./EtcdSession.ts"

const TypeId = "~effect-etcd/coordination/EtcdLock"

/**
 * A lock was lost, so that somebody else may have it.
 *
 * - `not-renewed`: no keep-alive of the session was answered in time.
 * - `not-found`: etcd does not have the lease of the session any more; it expired, or somebody revoked it.
 * - `deleted`: the key was deleted, with its lease or by itself, or somebody else put it with another lease, or none.
 * - `fenced`: etcd refused a write, since the key is not there any more.
 * - `refused`: the user may not renew the lease of the session.
 * - `regressed`: the store has gone back, or is that of another cluster.
 * - `unwatched`: whether the key is there cannot be seen any more, as the user may not read it.
 * - `closed`, `revoked`: the session was closed.
 * - `released`: it was given back; who still uses what was acquired learns that.
 *
 * @category errors
 * @since 0.1.0
 */
export class LockLost extends Data.TaggedError("LockLost")<{
  /** The names of what was locked. */
  readonly names: ReadonlyArray<string>
  /** The token of the hold that was lost: the create revision of its key. */
  readonly token: bigint
  /** Which of these happened. */
  readonly reason: Session.Loss["reason"]
  readonly message: string
  /**
   * For how long the effect went on when somebody else could have the lock. Zero where it ended in time, and where it did
   * not run yet.
   */
  readonly overrun: Duration.Duration
  /** What went wrong between this program and etcd, where that is known. */
  readonly cause?: EtcdError.EtcdError
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * Whether a lock is for one, or for all who share it.
 *
 * - `exclusive`: nobody else has it. As Go's `Mutex` and `etcdctl lock`.
 * - `shared`: nobody has it exclusively. As `RLock` of Go's `RWMutex`.
 * - `write`: as `exclusive`, in the way of `Lock` of Go's `RWMutex`: its readers do not see the keys of a `Mutex`.
 *
 * These see each other in any order, but for readers of Go's `RWMutex`, which see `write` only.
 *
 * @category models
 * @since 0.1.0
 */
export type Mode = "exclusive" | "shared" | "write"

/**
 * What is locked, and how. It is a value, which may be used as often as need be, at the same time as well.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lock {
  readonly [TypeId]: typeof TypeId
  /** What is locked: one name, or several at once. */
  readonly places: ReadonlyArray<{
    readonly name: string
    /** How it is locked. */
    readonly mode: Mode
  }>
}

/**
 * How something is locked.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Who else may have it at the same time. Default: `exclusive`, nobody. */
  readonly mode?: Mode | undefined
  /**
   * Lets etcd carry out what is written inside of `withLock` only while the lock is held. Default: true. Without it the
   * writes of a holder that was stopped may land when somebody else has the lock.
   */
  readonly fence?: boolean | undefined
  /**
   * What is done, once, when the effect goes on though it was interrupted and somebody else could have the lock: when the
   * lease has run out, or the margin of the session has passed since the key went. `process.exit` is an option. Default: an
   * error in the log, and one more in the metric `etcd_coordination_overruns_total`.
   */
  readonly overrun?: ((lost: LockLost) => Effect.Effect<unknown>) | undefined
  /** What others find in the line about who holds it, or waits. Default: JSON with `host` and `pid`. */
  readonly owner?: string | undefined
}

/**
 * The claim to hold a lock, which can be shown to others (it can be encoded as JSON); they ask etcd whether it is true
 * ({@link check}).
 *
 * @category models
 * @since 0.1.0
 */
export interface Sequencer extends Schema.Schema.Type<typeof Sequencer> {}

/**
 * The schema of a {@link Sequencer}, by which it is shown to others and read by them.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Sequencer = Schema.Struct({
  /** The key of the holder, with all namespaces. */
  key: Schema.String,
  /** Its create revision, which is the token. */
  revision: Schema.BigInt,
  /** The cluster that the key is in. */
  clusterId: Schema.BigInt
})

/**
 * A lock that is held, until its scope closes or it is lost. Inside of `withLock` it is a service.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  /** The key in the line: the first one, where several things are locked. */
  readonly key: string
  /** The keys in all lines. */
  readonly keys: ReadonlyArray<string>
  /** The create revision of the key. Later holders have higher ones. For resources outside of etcd. */
  readonly token: bigint
  /**
   * The revision of the store at which the lock was known to be held: `ETCD_LOCK_REV` of `etcdctl lock`, and the header's
   * revision of Go's `Mutex`. It rises along the line as well; where Go programs fence a resource with that, everybody has
   * to.
   */
  readonly acquiredRevision: bigint
  /** Waits until it is lost, or given back (`released`), and tells why. */
  readonly lost: Effect.Effect<LockLost>
  /** For how long it is held unless the session is renewed, in real time. Zero once it is lost. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /** Whether it is held now, as far as this program can know. To be asked right before what must not happen otherwise. */
  readonly isHeldUnsafe: () => boolean
  /** Holds only while the lock is held. A transaction with it cannot be carried out by a past holder. */
  readonly fence: EtcdTxn.Compare
  /**
   * Sends a transaction, or an operation of one, that is carried out only while the lock is held; otherwise it fails with
   * {@link LockLost}, and nothing was written.
   */
  readonly commit: <A>(op: EtcdTxn.Op<A>) => Effect.Effect<A, EtcdError.EtcdError | LockLost>
  /** What shows others that this program holds the lock. */
  readonly sequencer: Sequencer
}

/**
 * The lock that is held around an effect: the service that {@link withLock} provides to it.
 *
 * @category services
 * @since 0.1.0
 */
export const Held: Context.Service<Held, Held> = Context.Service("effect-etcd/coordination/EtcdLock/Held")

/**
 * Who stands in the line of a lock.
 *
 * @category models
 * @since 0.1.0
 */
export interface Waiter {
  /** The name of the lock. */
  readonly name: string
  /** Its key in the line. */
  readonly key: string
  /** How it has the lock, or wants it. */
  readonly mode: Mode
  /** The create revision of the key, in the order of which they stand. */
  readonly token: bigint
  /** The lease of its session, with which its key goes. */
  readonly lease: LeaseId
  /** What it says of itself: JSON with `host` and `pid`, unless it chose something else. Go's are empty. */
  readonly owner: string
}

// -----------------------------------------------------------------------------
// Locks as values
// -----------------------------------------------------------------------------

type Parts = Parts_.Parts<LockLost>

const makeLock = (parts: Parts): Lock => ({
  [TypeId]: parts as never,
  places: parts.places.map(({ kind, name }) => ({ name, mode: modes[kind] }))
})

const partsOf = (lock: Lock): Parts => lock[TypeId] as never

const kinds: { readonly [M in Mode]: Line.Kind } = { exclusive: "own", shared: "read", write: "write" }

const modes: { readonly [K in Line.Kind]: Mode } = { own: "exclusive", read: "shared", write: "write" }

const isLock = (input: unknown): input is Lock => Predicate.hasProperty(input, TypeId)

const aLock: Checks.Check = { accepts: isLock, due: "a lock, as EtcdLock.make gives it" }

const ofLock: Checks.Checks<Options> = {
  mode: Checks.oneOf("exclusive", "shared", "write"),
  fence: Checks.flag,
  overrun: Checks.callback,
  owner: Checks.text("what is said of who holds it")
}

const nothing: Omit<Parts, "problem"> = {
  places: [],
  fence: true,
  overrun: undefined,
  owner: undefined
}

const impossible = (problem: string): Lock => makeLock({ ...nothing, problem })

/**
 * A lock of that name.
 *
 * A name is text without NUL, and without a slash at its beginning or end; its last part is neither `read` nor `write`. What
 * makes no sense is said when the lock is to be acquired (`InvalidArgument`). Locks `a` and `a/b` have nothing to do with
 * each other.
 *
 * @example
 * ```ts
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const migration = EtcdLock.make("db/migration")
 * const reading = EtcdLock.make("catalog", { mode: "shared" })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (name: string, options?: Options | undefined): Lock => {
  const problem =
    Checks.problemOfArgument("EtcdLock.make", "the name", Line.nameCheck, name) ??
    Checks.problemOf("EtcdLock.make", ofLock, options)
  if (problem !== undefined) return impossible(problem)
  const { fence = true, mode = "exclusive", overrun, owner } = options ?? {}
  const rule = mode === "shared" ? Line.noWriter : Line.first
  return makeLock({
    ...nothing,
    places: [{ name, kind: kinds[mode], rule }],
    fence,
    overrun,
    owner,
    problem: undefined
  })
}

/**
 * Several locks as one. All lines are joined in one step, so that no two who lock several things wait for each other,
 * whatever the order in which they name them.
 *
 * It is fenced unless none of them is; `overrun` and `owner` are those of the first that has them.
 *
 * @example
 * ```ts
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const both = EtcdLock.all([EtcdLock.make("accounts/a"), EtcdLock.make("accounts/b")])
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const all = (locks: ReadonlyArray<Lock>): Lock => {
  const who = "EtcdLock.all"
  if (!Array.isArray(locks) || locks.length === 0 || !locks.every(isLock)) {
    return impossible(`${who}: what it is given has to be a list of locks that is not empty.`)
  }
  const parts = locks.map(partsOf)
  const wrong = parts.find(({ problem }) => problem !== undefined)
  if (wrong?.problem !== undefined) return impossible(wrong.problem)
  const places = parts.flatMap((part) => part.places)
  const twice = places.find(({ name }, index) => places.findIndex((place) => place.name === name) < index)
  if (twice !== undefined) {
    return impossible(`${who}: ${JSON.stringify(twice.name)} is among the locks twice, and would wait for itself.`)
  }
  return makeLock({
    ...nothing,
    places,
    fence: parts.some(({ fence }) => fence),
    overrun: parts.find(({ overrun }) => overrun !== undefined)?.overrun,
    owner: parts.find(({ owner }) => owner !== undefined)?.owner,
    problem: undefined
  })
}

// -----------------------------------------------------------------------------
// What is held
// -----------------------------------------------------------------------------

const lockLost: Held_.Tell<LockLost> = (entry, loss, overrunMillis) =>
  new LockLost(Held_.lossOf("The lock", entry, loss, overrunMillis))

const specOf = ({ owner, places }: Parts): Line.Spec => ({
  places,
  value: owner ?? Parts_.self(),
  confirms: false
})

/** The span of what is done with a lock. */
const spanOf =
  (lock: Lock): Tracing.Options =>
  () => ({
    attributes: isLock(lock)
      ? {
          "etcd.lock.name": partsOf(lock)
            .places.map(({ name }) => name)
            .join(", ")
        }
      : {}
  })

/** What is locked, by a session; or what is wrong. */
const prepared = Effect.fnUntraced(function* (who: string, lock: Lock) {
  const wrong = Checks.wrongArgument(who, "the lock", aLock, lock)
  if (wrong !== undefined) return yield* wrong
  const parts = partsOf(lock)
  if (parts.problem !== undefined) return yield* Effect.fail(Checks.invalid(parts.problem))
  const session = Session.of(yield* EtcdSession)
  const names = parts.places.map(({ name }) => name)
  yield* Held_.notAgain("EtcdLock", "lock", session, names)
  return { parts, session }
})

/**
 * Acquires a lock, waiting for it, and holds it until the scope closes.
 *
 * What depends on it is not interrupted by itself when it is lost: race with `lost`, or use {@link withLock}. Neither is
 * there a fence but that of the transactions that `commit` sends, or that compare `fence`. Closing the scope gives it back,
 * and waits for two seconds at most until etcd has acknowledged that; otherwise the session goes on with it.
 *
 * While it waits, an outage of etcd is waited for, as long as the session is held. Where that is lost, it stands in line
 * anew. To wait no longer than some time, use `Effect.timeout`.
 *
 * Fails with `InvalidArgument` where the lock makes no sense, or this fiber (or, within {@link withLock}, what it is a part
 * of) holds it already; with `NoSpace` and `PermissionDenied`; and with the reasons of a call when etcd cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdTxn } from "effect-etcd"
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const once = Effect.gen(function*() {
 *   const held = yield* EtcdLock.acquire(EtcdLock.make("jobs/cleanup"))
 *   yield* held.commit(EtcdTxn.put("jobs/cleanup-done", "yes"))
 * }).pipe(Effect.scoped)
 * ```
 *
 * @category locking
 * @since 0.1.0
 */
export const acquire = (lock: Lock): Effect.Effect<Held, EtcdError.EtcdError, Scope.Scope | EtcdSession> =>
  Tracing.traced(
    Effect.gen(function* () {
      const { parts, session } = yield* prepared("EtcdLock.acquire", lock)
      const entry = yield* Line.enter(session, specOf(parts), "waits")
      return Held_.make(entry!, lockLost)
    }),
    "EtcdLock.acquire",
    spanOf(lock)
  )

/** Runs an effect under an entry, and gives that back. */
const runUnder = <A, E, R>(
  entry: Line.Entry,
  { fence, overrun }: Parts,
  self: Effect.Effect<A, E, R>,
  restore: Line.Restore
): Effect.Effect<A, E | LockLost, Exclude<R, Held>> =>
  Effect.flatMap(
    Held_.during(entry, { fence, overrun, tell: lockLost }, Held.context(Held_.make(entry, lockLost)), self, restore),
    (end) => Hold.conclude(end, lockLost)
  )

const runLocked = <A, E, R>(
  who: string,
  self: Effect.Effect<A, E, R>,
  lock: Lock,
  patience: Line.Patience
): Effect.Effect<Option.Option<A>, E | LockLost | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession> =>
  Tracing.traced(
    Effect.flatMap(prepared(who, lock), ({ parts, session }) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(Effect.void), () =>
          Effect.flatMap(Line.take(session, specOf(parts), patience, restore), (entry) =>
            entry === undefined ? Effect.succeedNone : Effect.map(runUnder(entry, parts, self, restore), Option.some)
          )
        )
      )
    ),
    who,
    spanOf(lock)
  )

/**
 * Runs an effect while a lock is held. It waits for the lock, and gives it back when the effect has ended, however it ends.
 *
 * When the lock is lost, the effect is interrupted, and the whole fails with {@link LockLost} when the effect has ended. So
 * it does where the effect has succeeded nevertheless and the loss is known by then: of a key that somebody deletes in the
 * last moment nothing is heard, and what is written after that does not land. The effect has `Held` as a service, and all
 * that it writes to this etcd is fenced.
 *
 * Waiting and failing is as with {@link acquire}.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const migrate = Effect.gen(function*() {
 *   const { token } = yield* EtcdLock.Held
 *   yield* Effect.log(`migrating, as number ${token}`)
 *   yield* EtcdKv.put("db/version", "2") // not at all, if the lock is lost
 * }).pipe(EtcdLock.withLock(EtcdLock.make("db/migration")))
 * ```
 *
 * @category locking
 * @since 0.1.0
 */
export const withLock: {
  (
    lock: Lock
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | LockLost | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    lock: Lock
  ): Effect.Effect<A, E | LockLost | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, lock: Lock) =>
  Effect.map(runLocked("EtcdLock.withLock", self, lock, "waits"), Option.getOrThrow)
)

/**
 * Runs an effect whose writes are not fenced, inside of work under a lock, a leadership or permits: for what is to land
 * although that is lost, such as a note of how far the work has come. Somebody else may hold the lock when it does.
 *
 * A lock that is taken inside of it fences what is written under that one. It leaves the fences that its own fiber has: a
 * callback that runs in another fiber has none to leave, and a service that was asked for inside brings the fence along
 * there. Use one that was taken outside of the lock.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const work = EtcdKv.put("report", "done").pipe(
 *   Effect.onError(() => Effect.ignore(EtcdLock.withoutFence(EtcdKv.put("report/failed", "by me")))),
 *   EtcdLock.withLock(EtcdLock.make("report/lock"))
 * )
 * ```
 *
 * @category locking
 * @since 0.1.0
 */
export const withoutFence = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => Origin.straight(self)

/**
 * As {@link withLock}, if nobody else has the lock, nor waits for it: otherwise the effect is not run, and the result is
 * `None`.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const once = Effect.log("done here").pipe(
 *   EtcdLock.withLockIfAvailable(EtcdLock.make("jobs/hourly")),
 *   Effect.tap((done) => Option.isNone(done) ? Effect.log("somebody else is at it") : Effect.void)
 * )
 * ```
 *
 * @category locking
 * @since 0.1.0
 */
export const withLockIfAvailable: {
  (
    lock: Lock
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | LockLost | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    lock: Lock
  ): Effect.Effect<Option.Option<A>, E | LockLost | EtcdError.EtcdError, Exclude<R, Held> | EtcdSession>
} = dual(2, <A, E, R>(self: Effect.Effect<A, E, R>, lock: Lock) =>
  runLocked("EtcdLock.withLockIfAvailable", self, lock, "leaves")
)

/**
 * Who stands in the line of a lock, in their order: who has it, and who waits for it. Of several locks one line after the
 * other. Fails as `EtcdKv.range` does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const shown = Effect.gen(function*() {
 *   const [holder, ...waiting] = yield* EtcdLock.line(EtcdLock.make("db/migration"))
 *   if (holder !== undefined) yield* Effect.log(`${holder.owner} has it, ${waiting.length} wait`)
 * })
 * ```
 *
 * @category observing
 * @since 0.1.0
 */
export const line = (lock: Lock): Effect.Effect<ReadonlyArray<Waiter>, EtcdError.EtcdError, EtcdKv.EtcdKv> =>
  Tracing.traced(
    Effect.gen(function* () {
      const wrong = Checks.wrongArgument("EtcdLock.line", "the lock", aLock, lock)
      if (wrong !== undefined) return yield* wrong
      const { places, problem } = partsOf(lock)
      if (problem !== undefined) return yield* Effect.fail(Checks.invalid(problem))
      const lines = yield* Effect.forEach(places, ({ name }) =>
        Effect.map(EtcdKv.range(Line.prefixOf(name)), ({ kvs }) =>
          Line.standings(name, kvs).map(
            ({ key, kind, kv, lease, revision }): Waiter =>
              Json.answer({
                name,
                key,
                mode: modes[kind],
                token: revision,
                lease,
                owner: kv.valueString
              })
          )
        )
      )
      return lines.flat()
    }),
    "EtcdLock.line",
    spanOf(lock)
  )

/**
 * Asks etcd whether a claim is true: whether its key is there, as it was put, in that cluster, in whatever namespace the
 * holder is, and who asks. It says nothing of the next moment; where a fence is possible, use one. Fails as `EtcdKv.range`
 * does; that the claim is not true is no failure.
 *
 * @example
 * ```ts
 * import { Effect, Schema } from "effect"
 * import { EtcdLock } from "effect-etcd/coordination"
 *
 * const claim = Schema.decodeEffect(Schema.fromJsonString(Schema.toCodecJson(EtcdLock.Sequencer)))
 *
 * // In a server that is shown what `held.sequencer` says.
 * const mayWrite = (header: string) => Effect.flatMap(claim(header), EtcdLock.check)
 * ```
 *
 * @category observing
 * @since 0.1.0
 */
export const check = (sequencer: Sequencer): Effect.Effect<boolean, EtcdError.EtcdError, EtcdClient.EtcdClient> =>
  EtcdClient.EtcdClient.use((client) => {
    const problem = Checks.problemOfArgument("EtcdLock.check", "the sequencer", aSequencer, sequencer)
    if (problem !== undefined) return Effect.fail(Checks.invalid(problem))
    const { clusterId, key, revision } = sequencer
    // One that has lost its lease is no place in a line. Where only keys are asked for, etcd 3.7 leaves out the leases.
    const line = key.slice(0, key.lastIndexOf("/"))
    // The key is the one in etcd, below whatever namespace who asks is.
    return Effect.map(
      EtcdKv.fromClient(Origin.of(client).root).range(key),
      ({ header, kvs: [kv] }) =>
        header.clusterId === clusterId && kv?.createRevision === revision && Line.standingOf(line, kv) !== undefined
    )
  })

const isSequencer = Schema.is(Sequencer)

const aSequencer: Checks.Check = {
  accepts: (value) => isSequencer(value) && value.key !== "",
  due: "what a lock that was held has as its sequencer"
}
