/**
 * Barriers: waiting until something is open, and beginning and ending together.
 *
 * A {@link latch} is a key. As long as the key exists, the latch is closed, and whoever comes waits. It is the key of
 * the recipe `Barrier` of etcd's Go client, so that Go programs can close, open and await it as well; `etcdctl put`
 * closes it, and `etcdctl del` opens it. (`Wait` of Go's client 3.5 notices the opening only if nothing was written
 * between the closing and its call, by anybody; 3.6 has no such fault.) A latch belongs to nobody, and stays closed
 * when the program that closed it ends.
 *
 * {@link together} lets n programs, or fibers of them, run something in rounds: nobody begins before n have come, and
 * nobody goes on before all have ended. It may be used again and again. A participant that is fast, and comes back for
 * the next round, waits until all have left the last one, so that rounds never mix; so does one that comes when a round
 * is full. The keys hang on the leases of the programs' sessions (`EtcdSession`), so that nobody waits for ever for one
 * that is gone. The recipe `DoubleBarrier` of Go's client, which does not promise this, has other keys: the two do not
 * know of each other.
 *
 * | what happens | outcome |
 * | --- | --- |
 * | somebody is gone before the round has begun | another one is waited for in its place |
 * | somebody is gone when it has begun: crashed, interrupted, or failed | the effects of the others are interrupted, and they get {@link ParticipantsMissing}, which says who it was |
 * | somebody is gone after all have ended | nothing: the round is over |
 * | more than n come | those that are too many wait for the next round |
 * | somebody asks for another number than those before it | {@link ParticipantsMismatch} |
 * | the own place is lost, with the session or because somebody has deleted or put its key, or that of the round | before the round: it joins the line again; in the round: `EtcdLock.LockLost` |
 *
 * The others learn that a program is gone when its lease ends, at the latest after the time to live of its session.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Option from "effect/Option"
import type * as EtcdError from "../EtcdError.ts"
import * as EtcdKv from "../EtcdKv.ts"
import * as EtcdTxn from "../EtcdTxn.ts"
import * as EtcdWatch from "../EtcdWatch.ts"
import { deletion } from "../internal/coordination/deletion.ts"
import * as Held from "../internal/coordination/held.ts"
import * as Hold from "../internal/coordination/hold.ts"
import * as Line from "../internal/coordination/line.ts"
import * as Rounds from "../internal/coordination/rounds.ts"
import * as Session from "../internal/coordination/session.ts"
import * as Checks from "../internal/options.ts"
import * as Tracing from "../internal/tracing.ts"
import { LockLost } from "./EtcdLock.ts"
import { EtcdSession } from "./EtcdSession.ts"

// -----------------------------------------------------------------------------
// Latches
// -----------------------------------------------------------------------------

/**
 * Something that is open or closed, for all who know its name. All of it fails as {@link latch} says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Latch {
  /** Opens it, so that all who wait go on. Answers whether it was closed. */
  readonly open: Effect.Effect<boolean, EtcdError.EtcdError, EtcdKv.EtcdKv>
  /** Closes it: whoever comes now waits. Answers whether it was open. */
  readonly close: Effect.Effect<boolean, EtcdError.EtcdError, EtcdTxn.EtcdTxn>
  /** Waits until it is open. Whoever waits when it is opened goes on, even if it is closed again at once. */
  readonly await: Effect.Effect<void, EtcdError.EtcdError, EtcdKv.EtcdKv | EtcdWatch.EtcdWatch>
  /** Runs an effect as soon as it is open. */
  readonly whenOpen: <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | EtcdError.EtcdError, R | EtcdKv.EtcdKv | EtcdWatch.EtcdWatch>
  /** Whether it is open now. */
  readonly isOpen: Effect.Effect<boolean, EtcdError.EtcdError, EtcdKv.EtcdKv>
}

const isMissing = (key: string) => Effect.map(EtcdKv.range(key, { keysOnly: true }), ({ kvs }) => kvs.length === 0)

/** Waits until a key is not there, or another one than was there before. */
const absence = (
  key: string,
  before?: bigint | undefined
): Effect.Effect<void, EtcdError.EtcdError, EtcdKv.EtcdKv | EtcdWatch.EtcdWatch> =>
  Effect.gen(function* () {
    const kv = yield* EtcdKv.EtcdKv
    const watch = yield* EtcdWatch.EtcdWatch
    const { header, kvs } = yield* kv.range(key, { keysOnly: true })
    const created = kvs[0]?.createRevision
    if (created === undefined || (before !== undefined && created !== before)) return
    const look = () =>
      Effect.map(kv.range(key, { keysOnly: true }), ({ kvs: [now] }) =>
        now?.createRevision === created ? Option.none() : Option.some(true)
      )
    yield* deletion(watch, key, header.revision, look).pipe(
      // It may still be there, and closed as before.
      Effect.catchReason("EtcdError", "Compacted", () => absence(key, created)),
      Effect.catchReason("EtcdError", "RevisionRegressed", () => absence(key))
    )
  })

const nameCheck: Checks.Check = Line.nameCheck

/** The span of what is done at a barrier. */
const spanOf =
  (name: string): Tracing.Options =>
  () => ({ attributes: typeof name === "string" ? { "etcd.barrier.name": name } : {} })

/**
 * A latch of that name, which is the key. It is open unless somebody has closed it.
 *
 * A name is as that of a lock. What makes no sense is said when the latch is to be used (`InvalidArgument`). All of it fails
 * with the reasons of a call when etcd cannot be reached; waiting goes on through failovers.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdBarrier } from "effect-etcd/coordination"
 *
 * const migrated = EtcdBarrier.latch("db/migrated")
 *
 * const serve = Effect.log("the schema is there").pipe(migrated.whenOpen)
 *
 * const migrate = Effect.andThen(migrated.close, Effect.andThen(Effect.log("migrating"), migrated.open))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const latch = (name: string): Latch => {
  const checked = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | EtcdError.EtcdError, R> =>
    Checks.wrongArgument("EtcdBarrier.latch", "the name", nameCheck, name) ?? effect
  const opened = Tracing.traced(checked(Effect.suspend(() => absence(name))), "EtcdBarrier.await", spanOf(name))
  return {
    open: checked(Effect.suspend(() => Effect.map(EtcdKv.delete(name), ({ deleted }) => deleted > 0n))),
    close: checked(
      Effect.suspend(() =>
        Effect.map(
          EtcdTxn.commit(EtcdTxn.make({ compare: EtcdTxn.missing(name), success: EtcdTxn.put(name, "") })),
          ({ succeeded }) => succeeded
        )
      )
    ),
    await: opened,
    whenOpen: (self) => Effect.andThen(opened, self),
    isOpen: checked(Effect.suspend(() => isMissing(name)))
  }
}

// -----------------------------------------------------------------------------
// Together
// -----------------------------------------------------------------------------

/**
 * Somebody of a round.
 *
 * @category models
 * @since 0.1.0
 */
export interface Participant {
  readonly key: string
  /** What it says of itself: JSON, with `host` and `pid`. */
  readonly owner: string
}

/**
 * A round was not done by all: some had gone before all had ended.
 *
 * @category errors
 * @since 0.1.0
 */
export class ParticipantsMissing extends Data.TaggedError("ParticipantsMissing")<{
  readonly name: string
  /** Who had gone. */
  readonly missing: ReadonlyArray<Participant>
  readonly message: string
}> {}

/**
 * Somebody who came before waits for another number of participants: two programs disagree.
 *
 * @category errors
 * @since 0.1.0
 */
export class ParticipantsMismatch extends Data.TaggedError("ParticipantsMismatch")<{
  readonly name: string
  /** How many there are to be. */
  readonly participants: number
  /** How many there are to be for who came before; 0 where what stands there says nothing of it. */
  readonly found: number
  readonly message: string
}> {}

const missingOf = (name: string, missing: ReadonlyArray<Participant>): ParticipantsMissing =>
  new ParticipantsMissing({
    name,
    missing,
    message:
      `At the barrier ${JSON.stringify(name)} not all have ended together. Gone before were: ` +
      `${missing.map(({ key, owner }) => `${key} (${owner})`).join(", ")}.`
  })

const mismatch = (name: string, participants: number, found: number): ParticipantsMismatch =>
  new ParticipantsMismatch({
    name,
    participants,
    found,
    message:
      `At the barrier ${JSON.stringify(name)} ${participants} are to come together, and who came before waits for ` +
      `${found}. Use the same number everywhere.`
  })

const placeLost: Held.Tell<LockLost> = (entry, loss, overrunMillis) =>
  new LockLost(Held.lossOf("The place at the barrier", entry, loss, overrunMillis))

/** What a barrier is made of, in a session; or what is wrong. */
const prepared = Effect.fnUntraced(function* (name: string, participants: number) {
  const who = "EtcdBarrier.together"
  const problem =
    Checks.problemOfArgument(who, "the name", nameCheck, name) ??
    Checks.problemOfArgument(who, "the number of participants", Rounds.countCheck, participants)
  if (problem !== undefined) return yield* Effect.fail(Checks.invalid(problem))
  const session = Session.of(yield* EtcdSession)
  if (yield* Hold.holdsAlready(session, name)) {
    const message =
      `${who}: this is a part of what is run together at ${JSON.stringify(name)}, and would wait for itself. Use ` +
      "another name for what is inside of it."
    return yield* Effect.fail(Checks.invalid(message))
  }
  const barrier: Rounds.Barrier<ParticipantsMismatch> = {
    name,
    participants,
    mismatch: (found) => mismatch(name, participants, found)
  }
  return { barrier, session }
})

/** Ends when the round does. */
const awaitAll = (entry: Line.Entry, { name }: Rounds.Barrier<unknown>) =>
  Effect.flatMap(Rounds.awaitEnd(entry), (missing) =>
    missing.length === 0 ? Effect.void : Effect.fail(missingOf(name, missing))
  )

const runTogether = <A, E, R>(
  entry: Line.Entry,
  barrier: Rounds.Barrier<unknown>,
  self: Effect.Effect<A, E, R>,
  restore: Line.Restore
): Effect.Effect<A, E | LockLost | ParticipantsMissing | EtcdError.EtcdError, R> => {
  const own = Effect.tap(self, () => Rounds.finish(entry, barrier))
  const work = Effect.map(
    Effect.all([own, awaitAll(entry, barrier)], { concurrency: "unbounded" }),
    ([result]) => result
  )
  return Held.during(entry, { fence: false, overrun: undefined, tell: placeLost }, Context.empty(), work, restore).pipe(
    Effect.flatMap((end) => Hold.conclude(end, placeLost))
  )
}

/**
 * Runs an effect together with others: n effects in all begin when the last of them has come, and all go on when the last
 * has ended. Each has its own result.
 *
 * The others run the same name with the same number, in other programs or in other fibers of this one. What fails or is
 * interrupted leaves at once, and does not wait for the others; nor do they for it: they are interrupted, and fail with
 * {@link ParticipantsMissing}. To wait no longer than some time, use `Effect.timeout`.
 *
 * The number is from 1 to 5000. Each participant that comes reads who is there, and each change is sent to each program
 * that takes part.
 *
 * Fails with {@link ParticipantsMissing}, {@link ParticipantsMismatch}, with `EtcdLock.LockLost` where the own place is
 * lost, with `InvalidArgument` where name or number make no sense, or the effect is itself a part of what is run together
 * there, and with the reasons of a call when etcd cannot be reached.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdBarrier } from "effect-etcd/coordination"
 *
 * const step = (n: number) => Effect.log(`step ${n}`).pipe(EtcdBarrier.together("simulation", 4))
 *
 * // Of four programs that run this, none is ever a step ahead.
 * const simulate = Effect.forEach([1, 2, 3], step)
 * ```
 *
 * @category barriers
 * @since 0.1.0
 */
export const together: {
  (
    name: string,
    participants: number
  ): <A, E, R>(
    self: Effect.Effect<A, E, R>
  ) => Effect.Effect<
    A,
    E | LockLost | ParticipantsMissing | ParticipantsMismatch | EtcdError.EtcdError,
    R | EtcdSession
  >
  <A, E, R>(
    self: Effect.Effect<A, E, R>,
    name: string,
    participants: number
  ): Effect.Effect<A, E | LockLost | ParticipantsMissing | ParticipantsMismatch | EtcdError.EtcdError, R | EtcdSession>
} = dual(3, <A, E, R>(self: Effect.Effect<A, E, R>, name: string, participants: number) =>
  Tracing.traced(
    Effect.flatMap(prepared(name, participants), ({ barrier, session }) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(Effect.void), () =>
          Effect.flatMap(Line.take(session, Rounds.specOf(session, barrier), "waits", restore), (entry) =>
            runTogether(entry!, barrier, self, restore)
          )
        )
      )
    ),
    "EtcdBarrier.together",
    spanOf(name)
  )
)
