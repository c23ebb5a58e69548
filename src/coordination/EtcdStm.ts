/**
 * Transactional memory: programs that read and write keys as if nobody else did.
 *
 * The body of a transaction is an effect that reads and writes with the functions of this module. Nothing is written
 * while it runs. When it has succeeded, its writes are sent as one transaction of etcd, together with what it has read:
 * where that is no longer so, nothing is written, and the body is run again. So it is with Effect's own `Effect.tx`,
 * whose counterpart this is for keys that several programs share.
 *
 * Bodies are composed as effects are, and one `tx` is put around the whole. A body needs {@link Tx} and nothing else, so
 * that what must not be done twice is not done in it: it may be run many times, and a try that is lost leaves no trace.
 *
 * **Reads.** All reads of a try are of one revision, that of the first one, which is linearizable: it reflects every
 * write that was acknowledged before. So a body never sees a state that there never was, and what it makes of it (a
 * failure or a defect, too) is reported as it is, without asking again. Each key and each range is read once a try. A
 * body sees its own writes, in ranges also. If the revision is compacted while a body runs, or the store goes back to an
 * older one, it is run again.
 *
 * **Commits.** With both levels of {@link Isolation} a transaction that commits did so as if all of it had happened at
 * the revision of its commit. They are those of etcd's Go client, for ranges too:
 *
 * | somebody else, between reads and commit | `serializable-snapshot` | `serializable` |
 * | --- | --- | --- |
 * | writes or deletes a key that was read (lost updates, write skew) | run again | run again |
 * | creates a key that was read and did not exist | run again | run again |
 * | creates a key in a range that was read, empty or not (phantoms) | run again | run again |
 * | deletes a key of a range that was read (phantoms) | run again | run again |
 * | writes a key, or a key of a range, that is only written here | run again | written over |
 * | deletes a key that is only written here | written over | written over |
 *
 * Where nothing was read nothing is compared: such writes are unconditional. A body that writes nothing needs no commit:
 * it has seen the store as it was at one revision, at some time while it ran.
 *
 * A commit has a comparison for each key and each range that was read, and one for each key that was found in a range,
 * since only so a deletion shows. With `serializable-snapshot` there is one for each written key besides. More than 128
 * comparisons or operations are refused with `TooManyOps` before they are sent, as a server would do it; one that was
 * told otherwise (`--max-txn-ops`) has the option `maxOperations`. What only reads may read as much as it likes.
 *
 * **Lost answers.** When the answer to a commit is lost, it may have been applied. It is sent again where it would refuse
 * itself, had it been applied: where a key is written that existed when it was read. If it is refused then, its own first
 * sending may have been the reason, or somebody else; unless the keys rule the former out, the transaction fails with the
 * error whose `outcome` is `unknown`. Where it would not refuse itself, the first lost answer is reported so.
 *
 * With `receipt: true` each commit also writes a key below `effect-etcd/receipts/` (within the client's namespace), by
 * which it is told what became of it, and which keeps it from being applied twice or late; so every commit is sent again,
 * and the outcome is known unless the cluster cannot be asked for longer than the client's `retry` says. A receipt costs
 * a put in the same transaction, and counts as two towards what that may have. It is not deleted but goes with its lease,
 * which a thousand transactions of a minute share and which ends two minutes after it was granted. The user has to be
 * allowed to read and write these keys. Ranges that have them, such as `KeyRange.all`, are read and deleted in transactions
 * without them. Where the store is full, what only deletes is refused too, since a receipt is put.
 *
 * **Contention.** Whoever commits first wins; the others begin again with the values that came along when they lost. Those
 * of one client, its namespaces and locks included, that have lost to the same key or range try again one after another, so
 * that a thousand fibers which write one key are no more than one to other programs, and each comes through at its second
 * try; a body that takes longer than 100 ms is not waited for. Between programs there are the pauses of a schedule.
 *
 * **Waiting.** {@link retry} gives up a try, and waits until something changes that it has read.
 *
 * Pauses run in real time, whatever `Clock` the program has. A transaction may be interrupted at any time; whether it was
 * committed is not known then if it was just being sent. All of a transaction goes through one client, so that it stays
 * in its namespace, and within a lock behind its fence (`EtcdLock`), which counts towards `--max-txn-ops` besides.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import * as EtcdClient from "../EtcdClient.ts"
import type { EtcdError } from "../EtcdError.ts"
import type { LeaseId } from "../EtcdId.ts"
import type { KeyValue } from "../EtcdResponse.ts"
import * as Stm from "../internal/coordination/stm.ts"
import * as Json from "../internal/json.ts"
import * as Keys from "../internal/keys.ts"
import * as Checks from "../internal/options.ts"
import * as Tracing from "../internal/tracing.ts"
import * as KeyRange from "../KeyRange.ts"

const TypeId = "~effect-etcd/EtcdStm/Transaction"

/**
 * A transaction under way, which only the functions of this module know to use.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transaction {
  readonly [TypeId]: typeof TypeId
}

/**
 * What a body needs to read and to write, and all that it may need. {@link tx} provides it.
 *
 * @category services
 * @since 0.1.0
 */
export class Tx extends Context.Service<Tx, Transaction>()("effect-etcd/EtcdStm/Tx") {}

/**
 * What a transaction is run again for.
 *
 * - `serializable-snapshot`: something that it has read was changed, or something that it writes was written.
 * - `serializable`: something that it has read was changed.
 *
 * @category options
 * @since 0.1.0
 */
export type Isolation = "serializable-snapshot" | "serializable"

/**
 * A try of a transaction came to nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Conflict {
  /** How many tries were lost since the transaction began, or was woken from {@link retry}. */
  readonly tries: number
  /**
   * Why.
   *
   * - `changed`: somebody else changed what it had read, or wrote what it writes.
   * - `compacted`: the revision that it read at is not there any more: it was compacted, or the store went back.
   */
  readonly reason: "changed" | "compacted"
}

/**
 * The schedule of a transaction has ended, and each try has come to nothing. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class TooManyConflicts extends Data.TaggedError("TooManyConflicts")<Conflict> {
  /** How often it was tried, and what came in between. */
  override get message(): string {
    const why = this.reason === "changed" ? "what it had read was changed" : "the revision that it read at was gone"
    return (
      `The transaction was tried ${this.tries} times, and then its schedule ended: the last time, ${why} before it could ` +
      "be committed. Nothing was written. Try more often, or let fewer write the same keys."
    )
  }

  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The pauses after tries that were lost, and when to give up.
 *
 * @category options
 * @since 0.1.0
 */
export type ConflictSchedule = Schedule.Schedule<unknown, Conflict>

/**
 * How a transaction is run.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<S extends ConflictSchedule | undefined = ConflictSchedule | undefined> {
  /** What it is run again for. Default: `serializable-snapshot`. */
  readonly isolation?: Isolation | undefined
  /**
   * The pauses after tries that were lost, in real time, and when to give up, which fails with
   * {@link TooManyConflicts}. It is given the {@link Conflict}, and begins anew after {@link retry}. Where the pause is
   * zero, the next try begins with the values that came along when the last one was lost; after any other pause they
   * are read again, since they are old then. Default: {@link defaultSchedule}.
   */
  readonly schedule?: S | undefined
  /** Writes a key along that tells what became of a commit whose answer is lost. Default: false. */
  readonly receipt?: boolean | undefined
  /**
   * The most comparisons, and the most operations, of a commit: as many as the servers take (`--max-txn-ops`). Infinity
   * leaves it to them. Default: 128, as theirs.
   */
  readonly maxOperations?: number | undefined
}

/**
 * How a transaction fails that has this schedule: the default one never ends.
 *
 * @category errors
 * @since 0.1.0
 */
export type Failure<S> = EtcdError | ([S] extends [undefined] ? never : TooManyConflicts)

/**
 * What a transaction came to, and when.
 *
 * @category models
 * @since 0.1.0
 */
export interface Done<out A> {
  /** What the body has succeeded with. */
  readonly value: A
  /**
   * The revision of the commit; where nothing was written, that of the reads; 0 where nothing was read either. Who reads
   * at this revision, or later, sees what the transaction wrote.
   */
  readonly revision: bigint
}

/**
 * How a key is written.
 *
 * @category options
 * @since 0.1.0
 */
export interface PutOptions {
  /** Deletes the key when this lease ends. Default, and `0n`: the key stays. */
  readonly lease?: LeaseId | undefined
}

/**
 * None after the first try that was lost, since the values came along; then by chance, within a time that grows from 2
 * ms on up to 50 ms, for ever. Where hundreds of programs write the same key, let them pause for longer.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultSchedule: ConflictSchedule = Stm.defaultSchedule

// -----------------------------------------------------------------------------
// Reads and writes
// -----------------------------------------------------------------------------

/** What the service is, which is nobody else's business. */
const opaque = (attempt: Stm.Try): Transaction => attempt as unknown as Transaction

const tryOf = (transaction: Transaction): Stm.Try => transaction as unknown as Stm.Try

const using = <A>(f: (attempt: Stm.Try) => Effect.Effect<A>): Effect.Effect<A, never, Tx> =>
  Tx.use((transaction) => f(tryOf(transaction)))

/** Ends the transaction where an argument makes no sense. */
const checked = <A>(
  problem: string | undefined,
  f: (attempt: Stm.Try) => Effect.Effect<A>
): Effect.Effect<A, never, Tx> => using((attempt) => (problem === undefined ? f(attempt) : attempt.refuse(problem)))

const getAs = (who: string, key: KeyRange.Bytes): Effect.Effect<Option.Option<KeyValue>, never, Tx> =>
  checked(Checks.problemOfArgument(who, "the key", Checks.key, key), (attempt) => attempt.get(Keys.own(key)))

/**
 * Reads one key: its value and history, or `None` if there is no such key.
 *
 * A key that the transaction itself has put has its value and lease, and revisions and version of `0n`, since it has none
 * yet. When etcd cannot be read the transaction fails; a body sees no failure of this.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdStm } from "effect-etcd/coordination"
 *
 * // writes a default, unless somebody has written the key
 * const initialize = EtcdStm.tx(Effect.gen(function*() {
 *   const kv = yield* EtcdStm.get("settings/color")
 *   if (Option.isNone(kv)) yield* EtcdStm.put("settings/color", "green")
 * }))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const get = (key: KeyRange.Bytes): Effect.Effect<Option.Option<KeyValue>, never, Tx> => getAs("EtcdStm.get", key)

/**
 * Reads the value of one key as text, or `None` if there is no such key. Otherwise as {@link get}.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdStm } from "effect-etcd/coordination"
 *
 * const visit = EtcdStm.tx(Effect.gen(function*() {
 *   const before = Option.getOrElse(yield* EtcdStm.getString("visits"), () => "0")
 *   yield* EtcdStm.put("visits", String(Number(before) + 1))
 * }))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const getString = (key: KeyRange.Bytes): Effect.Effect<Option.Option<string>, never, Tx> =>
  Effect.map(
    getAs("EtcdStm.getString", key),
    Option.map((kv) => kv.valueString)
  )

/**
 * How a range is read.
 *
 * @category options
 * @since 0.1.0
 */
export interface RangeOptions {
  /** At most so many keys, from the first one on. Default, 0 and infinity: no limit. */
  readonly limit?: number | bigint | undefined
}

const ofRange: Checks.Checks<RangeOptions> = { limit: Checks.limit }

/**
 * Reads a range of keys, in their order.
 *
 * With a `limit` only so much of it counts as read as was needed: what others do behind the last key that was found is
 * no conflict. So does the first of a long queue not depend on what is put at its end, and a commit not grow with it.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdStm } from "effect-etcd/coordination"
 * import { KeyRange } from "effect-etcd"
 *
 * // The first of a line, or undefined. What is added behind it meanwhile is no conflict.
 * const take = EtcdStm.tx(Effect.gen(function*() {
 *   const [first] = yield* EtcdStm.range(KeyRange.prefix("line/"), { limit: 1 })
 *   if (first !== undefined) yield* EtcdStm.delete(first.key)
 *   return first?.valueString
 * }))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const range = (
  range: KeyRange.Input,
  options?: RangeOptions | undefined
): Effect.Effect<ReadonlyArray<KeyValue>, never, Tx> =>
  checked(
    Checks.problemOfArgument("EtcdStm.range", "the range", Checks.rangeOfKeys, range) ??
      Checks.problemOf("EtcdStm.range", ofRange, options),
    (attempt) =>
      attempt.range(KeyRange.fromInput(range), Number(Checks.limitOf(options?.limit)) || Number.POSITIVE_INFINITY)
  )

const ofPut: Checks.Checks<PutOptions> = { lease: Checks.lease }

/**
 * Writes one key, when the transaction commits. A later write takes the place of an earlier one.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdStm } from "effect-etcd/coordination"
 *
 * const move = (from: string, to: string) => EtcdStm.tx(Effect.gen(function*() {
 *   const value = yield* EtcdStm.getString(from)
 *   if (Option.isNone(value)) return false
 *   yield* EtcdStm.delete(from)
 *   yield* EtcdStm.put(to, value.value)
 *   return true
 * }))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const put = (
  key: KeyRange.Bytes,
  value: KeyRange.Bytes,
  options?: PutOptions | undefined
): Effect.Effect<void, never, Tx> =>
  checked(
    Checks.problemOfArgument("EtcdStm.put", "the key", Checks.key, key) ??
      Checks.problemOfArgument("EtcdStm.put", "the value", Checks.value, value) ??
      Checks.problemOf("EtcdStm.put", ofPut, options),
    (attempt) => attempt.put(Keys.own(key), Keys.own(value), options?.lease)
  )

const delete_ = (range: KeyRange.Input): Effect.Effect<void, never, Tx> =>
  checked(Checks.problemOfArgument("EtcdStm.delete", "the range", Checks.rangeOfKeys, range), (attempt) =>
    attempt.delete(KeyRange.fromInput(range))
  )

export {
  /**
   * Deletes one key, or a range of keys, when the transaction commits. That there is none is no error. Of a range that
   * was not read, it deletes what there is at the commit.
   *
   * @example
   * ```ts
   * import { Effect } from "effect"
   * import { EtcdStm } from "effect-etcd/coordination"
   * import { KeyRange } from "effect-etcd"
   *
   * const replaceAll = (settings: Readonly<Record<string, string>>) =>
   *   EtcdStm.tx(Effect.gen(function*() {
   *     yield* EtcdStm.delete(KeyRange.prefix("settings/"))
   *     for (const [name, value] of Object.entries(settings)) yield* EtcdStm.put(`settings/${name}`, value)
   *   }))
   * ```
   *
   * @category operations
   * @since 0.1.0
   */
  delete_ as delete
}

/**
 * Gives up this try, and runs the transaction again when something changes that it has read: it waits for a key to
 * appear, a balance to rise, a queue to have something in it.
 *
 * It waits by watches, without asking again and again. A transaction that has read nothing would wait for ever, and fails
 * with `InvalidArgument`. A body that fails after this, where it catches the interruption, has failed.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { KeyRange } from "effect-etcd"
 * import { EtcdStm } from "effect-etcd/coordination"
 *
 * // takes the first entry of a queue, and waits while there is none
 * const dequeue = EtcdStm.tx(Effect.gen(function*() {
 *   const [first] = yield* EtcdStm.range(KeyRange.prefix("queue/"), { limit: 1 })
 *   if (first === undefined) return yield* EtcdStm.retry
 *   yield* EtcdStm.delete(first.key)
 *   return first.valueString
 * }))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const retry: Effect.Effect<never, never, Tx> = using((attempt) => attempt.retry)

// -----------------------------------------------------------------------------
// Transactions
// -----------------------------------------------------------------------------

const ofTx: Checks.Checks<Options> = {
  isolation: Checks.oneOf("serializable-snapshot", "serializable"),
  schedule: Checks.schedule,
  receipt: Checks.flag,
  maxOperations: Checks.count
}

const aBody: Checks.Check = { accepts: Effect.isEffect, due: "an Effect that needs no more than EtcdStm.Tx" }

const nested =
  "EtcdStm.tx: there is a transaction under way, and one within another would be two. Use the body of the inner one as " +
  "it is: it becomes a part of the outer one."

/** A transaction cannot begin within another one; what a body has left behind when it ended, may. */
const wrongPlace: Effect.Effect<void, EtcdError> = Effect.flatMap(Effect.serviceOption(Tx), (around) =>
  Option.isSome(around) && tryOf(around.value).isOpen ? Effect.fail(Checks.invalid(nested)) : Effect.void
)

const settingsOf = (options: Options | undefined): Stm.Settings => ({
  isolation: options?.isolation ?? "serializable-snapshot",
  receipt: options?.receipt ?? false,
  maxOperations: options?.maxOperations ?? 128,
  schedule: options?.schedule ?? defaultSchedule
})

const runAs = <A, E>(
  who: string,
  body: Effect.Effect<A, E, Tx>,
  options: Options | undefined
): Effect.Effect<Done<A>, E | EtcdError | TooManyConflicts, EtcdClient.EtcdClient> => {
  const problem = Checks.problemOfArgument(who, "the body", aBody, body) ?? Checks.problemOf(who, ofTx, options)
  if (problem !== undefined) return Effect.fail(Checks.invalid(problem))
  const settings = settingsOf(options)
  return Tracing.traced(
    Effect.andThen(
      wrongPlace,
      EtcdClient.EtcdClient.use((client) =>
        Stm.run(
          client,
          (attempt) => Effect.provideService(body, Tx, opaque(attempt)),
          settings,
          (conflict) => new TooManyConflicts(conflict)
        )
      )
    ),
    who
  )
}

/**
 * As {@link tx}, and tells the revision as well: for who goes on to read elsewhere what the transaction wrote.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdWatch, KeyRange } from "effect-etcd"
 * import { EtcdStm } from "effect-etcd/coordination"
 *
 * // everything that happens to the jobs after this one was added
 * const added = EtcdStm.txWithRevision(EtcdStm.put("jobs/1", "resize")).pipe(
 *   Effect.map(({ revision }) => EtcdWatch.watch(KeyRange.prefix("jobs/"), { startRevision: revision + 1n }))
 * )
 * ```
 *
 * @category transactions
 * @since 0.1.0
 */
export const txWithRevision = <A, E, S extends ConflictSchedule | undefined = undefined>(
  body: Effect.Effect<A, E, Tx>,
  options?: Options<S> | undefined
): Effect.Effect<Done<A>, E | Failure<S>, EtcdClient.EtcdClient> =>
  runAs("EtcdStm.txWithRevision", body, options) as Effect.Effect<Done<A>, E | Failure<S>, EtcdClient.EtcdClient>

/**
 * Runs a body as one transaction, again and again until what it has read is still so when its writes are committed, and
 * succeeds with its result.
 *
 * Where the body fails, nothing is written, and the transaction fails with it. It fails with `TooManyOps` if it is larger
 * than the servers take, and as reads and transactions do (`EtcdKv`, `EtcdTxn`); with the outcome `unknown` where it
 * could not be found out whether it was committed.
 *
 * @example
 * ```ts
 * import { Data, Effect, Option } from "effect"
 * import { EtcdStm } from "effect-etcd/coordination"
 *
 * class Insufficient extends Data.TaggedError("Insufficient")<{ readonly balance: number }> {}
 *
 * const balance = (account: string) =>
 *   Effect.map(EtcdStm.getString(account), (text) => Number(Option.getOrElse(text, () => "0")))
 *
 * const transfer = (from: string, to: string, amount: number) =>
 *   Effect.gen(function*() {
 *     const before = yield* balance(from)
 *     if (before < amount) return yield* new Insufficient({ balance: before })
 *     yield* EtcdStm.put(from, String(before - amount))
 *     yield* EtcdStm.put(to, String((yield* balance(to)) + amount))
 *   })
 *
 * const program = EtcdStm.tx(transfer("ann", "bob", 5), { receipt: true })
 * ```
 *
 * @category transactions
 * @since 0.1.0
 */
export const tx = <A, E, S extends ConflictSchedule | undefined = undefined>(
  body: Effect.Effect<A, E, Tx>,
  options?: Options<S> | undefined
): Effect.Effect<A, E | Failure<S>, EtcdClient.EtcdClient> =>
  Effect.map(runAs("EtcdStm.tx", body, options), ({ value }) => value) as Effect.Effect<
    A,
    E | Failure<S>,
    EtcdClient.EtcdClient
  >
