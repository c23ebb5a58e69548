/**
 * How a try of a transaction is committed: what is compared, and what becomes of it where the answer is lost.
 *
 * A commit whose outcome is unknown may have been applied, and may be applied still. It is sent again only where at most
 * one of the two can be applied:
 *
 * - with a receipt, which both want to be missing and put;
 * - without one, where a key that existed is compared with the revision that wrote it, and is written: no key comes back
 *   to a revision that it was at. That a key did *not* exist, or was not changed since a revision, is not enough, since
 *   such a thing may be true again when somebody has deleted what the first commit put.
 *
 * Where the second one is applied, all is well. Where its comparisons are lost, the first may have won them. A receipt
 * tells: the second one looks at it, and makes it void where it is missing, in the same step, so that the first one can
 * no longer come late. Without a receipt only the keys themselves can tell, and seldom do (see `isRefuted`).
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as Reasons from "../client/reasons.ts"
import { blamesEndpoint } from "../client/retryRules.ts"
import * as Keys from "../keys.ts"
import * as LeaseRequests from "../lease/requests.ts"
import * as Time from "../time.ts"
import { covers, isSingle } from "./stmRanges.ts"
import { type Fresh, Readings, type Snapshot } from "./stmReads.ts"
import * as Receipts from "./stmReceipts.ts"
import type { Write, Writes } from "./stmWrites.ts"

export interface Settings {
  readonly isolation: "serializable-snapshot" | "serializable"
  readonly receipt: boolean
  readonly maxOperations: number
}

/** A try that is to be committed. */
export interface Attempt {
  readonly snapshot: Snapshot
  readonly writes: Writes
}

export interface Committed {
  readonly _tag: "Committed"
  readonly revision: bigint
}

/** Somebody else was first. */
export interface Lost {
  readonly _tag: "Lost"
  readonly fresh: Fresh
}

const committed = (revision: bigint): Committed => ({ _tag: "Committed", revision })

// ── what is compared ──

/** The revisions that keys were found at: 0 for one that was read and did not exist. */
const found = ({ snapshot }: Attempt): ReadonlyArray<EtcdTxn.Compare> => {
  const revisions = new Map<string, EtcdTxn.Compare>()
  const note = (key: Uint8Array, revision: bigint) =>
    revisions.set(Keys.nameOf(key), EtcdTxn.modRevision(key).equals(revision))
  for (const { kvs, range } of snapshot.readings.all) {
    if (isSingle(range) && kvs.length === 0) note(range.key, 0n)
    for (const kv of kvs) note(kv.key, kv.modRevision)
  }
  return [...revisions.values()]
}

/** Ranges in which nothing may have been written since. A deletion does not show in them. */
const quiet = ({ snapshot, writes }: Attempt, isolation: Settings["isolation"]) => {
  const read = snapshot.readings.all.map(({ range }) => range)
  const wide = read.filter((range) => !isSingle(range))
  const written = isolation === "serializable" ? [] : writes.ranges
  return [...wide, ...written.filter((range) => !read.some((read) => covers(read, range)))]
}

const comparisons = (attempt: Attempt, isolation: Settings["isolation"]): ReadonlyArray<EtcdTxn.Compare> => {
  const { readings, revision } = attempt.snapshot
  if (revision === undefined || readings.isEmpty) return []
  return [
    ...found(attempt),
    ...quiet(attempt, isolation).map((range) => EtcdTxn.modRevision(range).lessThan(revision + 1n))
  ]
}

// ── what is sent ──

/** When a receipt was written by the transaction itself, if it was. */
type Verdict = Option.Option<bigint>

const verdictOf = (receipt: Option.Option<KeyValue>): Verdict =>
  receipt.pipe(
    Option.filter(({ valueString }) => valueString !== Receipts.isVoid),
    Option.map(({ createRevision }) => createRevision)
  )

const verdict = ({ key, lease }: Receipts.Receipt): EtcdTxn.Op<Verdict> =>
  EtcdTxn.make({
    compare: EtcdTxn.missing(key),
    success: EtcdTxn.put(key, Receipts.isVoid, { lease }),
    failure: EtcdTxn.get(key)
  }).pipe(EtcdTxn.map((result) => (result.succeeded ? Option.none() : verdictOf(result.results))))

/** What is sent at first, and what is sent when it is unknown what became of that. */
interface Requests {
  readonly first: EtcdTxn.Op<Answer>
  readonly again: EtcdTxn.Op<Answer>
}

interface Answer {
  readonly succeeded: boolean
  readonly revision: bigint
  /** What was read as it is now, where it did not succeed. */
  readonly kvs: ReadonlyArray<ReadonlyArray<KeyValue>>
  readonly verdict: Verdict
}

interface Parts {
  readonly compares: ReadonlyArray<EtcdTxn.Compare>
  readonly operations: ReadonlyArray<EtcdTxn.Op<unknown>>
  readonly reads: ReadonlyArray<EtcdTxn.Op<EtcdKv.RangeResult>>
}

const request = (
  { compares, operations, reads }: Parts,
  judging: ReadonlyArray<EtcdTxn.Op<Verdict>>
): EtcdTxn.Op<Answer> =>
  EtcdTxn.make({ compare: compares, success: operations, failure: [...reads, ...judging] }).pipe(
    EtcdTxn.map(({ header, results, succeeded }) => {
      const values = succeeded ? [] : (results.slice(0, reads.length) as ReadonlyArray<EtcdKv.RangeResult>)
      const judged = succeeded ? [] : (results.slice(reads.length) as ReadonlyArray<Verdict>)
      return {
        succeeded,
        revision: header.revision,
        kvs: values.map(({ kvs }) => kvs),
        verdict: judged[0] ?? Option.none()
      }
    })
  )

const partsOf = (attempt: Attempt, isolation: Settings["isolation"]): Parts => ({
  compares: comparisons(attempt, isolation),
  operations: attempt.writes.operations,
  reads: attempt.snapshot.readings.all.map(({ range }) => EtcdTxn.range(range))
})

const withReceipt = ({ compares, operations, reads }: Parts, { key, lease }: Receipts.Receipt): Parts => ({
  compares: [...compares, EtcdTxn.missing(key)],
  operations: [...operations, EtcdTxn.put(key, Receipts.applied, { lease })],
  reads
})

const requestsOf = (parts: Parts, receipt: Receipts.Receipt | undefined): Requests => {
  if (receipt === undefined) {
    const only = request(parts, [])
    return { first: only, again: only }
  }
  const all = withReceipt(parts, receipt)
  return { first: request(all, []), again: request(all, [verdict(receipt)]) }
}

/** How many comparisons or operations a server counts, where there is a receipt those of its verdict too. */
const sizeOf = ({ compares, operations, reads }: Parts, receipt: boolean): number =>
  Math.max(compares.length, operations.length, reads.length) + (receipt ? 2 : 0)

const tooMany = ({ compares, operations }: Parts, receipt: boolean, size: number, most: number): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.TooManyOps({
      message:
        `The transaction was not sent: it has ${compares.length} comparisons (one for each key and each range that it ` +
        `read, and one for each key that it found in a range) and ${operations.length} operations, of which the larger ` +
        `number counts${receipt ? ", and two for the receipt" : ""}: ${size}, and ${most} are allowed. Read and write ` +
        "less in one transaction (a range may have a limit), or raise " +
        "--max-txn-ops of the servers (128 by default) and say so with the option maxOperations.",
      outcome: "not-applied",
      method: "KV.Txn"
    })
  )

// ── what is made of the answer ──

const freshOf = ({ snapshot }: Attempt, { kvs, revision }: Answer): Fresh => {
  const readings = new Readings()
  for (const [index, { range }] of snapshot.readings.all.entries()) readings.add({ range, kvs: kvs[index] ?? [] })
  return { revision, readings }
}

const outcomeOf = (attempt: Attempt, answer: Answer): Committed | Lost =>
  answer.succeeded ? committed(answer.revision) : { _tag: "Lost", fresh: freshOf(attempt, answer) }

/** The keys that existed when they were read. */
const existing = ({ snapshot }: Attempt): ReadonlyArray<KeyValue> => snapshot.readings.all.flatMap(({ kvs }) => kvs)

/** Whether the commit would not be applied twice. */
const refusesItself = (attempt: Attempt): boolean =>
  existing(attempt).some(({ key }) => attempt.writes.find(key) !== undefined)

const isSame = (put: KeyValue, kv: KeyValue): boolean =>
  Keys.compare(put.value, kv.value) === 0 && Option.getOrUndefined(put.lease) === Option.getOrUndefined(kv.lease)

/**
 * Whether what is there now shows that a write was not applied: the key was not written since it was read, or once, and
 * not so; or it was to be deleted, and never was.
 */
const isRefuted = (before: KeyValue, { put }: Write, now: KeyValue): boolean => {
  if (now.createRevision !== before.createRevision) return false
  if (Option.isNone(put) || now.version === before.version) return true
  return now.version === before.version + 1n && !isSame(put.value, now)
}

/**
 * Whether the commit was certainly not applied when these values were read, and never will be: a key that existed is not
 * at its revision any more, and is never again.
 */
const isRuledOut = (attempt: Attempt, { readings }: Fresh): boolean => {
  const now = (key: Uint8Array) => Option.getOrUndefined(readings.keyOf(key) ?? Option.none())
  const before = existing(attempt)
  return (
    before.some(({ key, modRevision }) => now(key)?.modRevision !== modRevision) &&
    before.some((kv) => {
      const write = attempt.writes.find(kv.key)
      const current = now(kv.key)
      return write !== undefined && current !== undefined && isRefuted(kv, write, current)
    })
  )
}

/** The same, with more to say. */
const adding = (error: EtcdError.EtcdError, message: string): EtcdError.EtcdError =>
  Reasons.retold(error, { message: `${error.reason.message} ${message}` })

const undecided =
  "Sent again, the transaction was refused, because something that it had read was changed: by itself the first time, " +
  "or by somebody else. With receipt: true it would be known which."

// ── what is done ──

/** Whether another try may find out what became of a commit. */
const isMendable = ({ reason }: EtcdError.EtcdError): boolean =>
  blamesEndpoint(reason) || reason._tag === "DeadlineExceeded"

const make = (client: EtcdClient.Client, time: Time.Time) => {
  const kv = EtcdKv.fromClient(client)
  const txn = EtcdTxn.fromClient(client)
  const retry = client.defaults("KV").retry ?? EtcdClient.defaultRetry

  /** Sends it again, with pauses, until there is an answer; fails where that is no use. */
  const repeat = (again: EtcdTxn.Op<Answer>, first: EtcdError.EtcdError) =>
    Effect.gen(function* () {
      const step = yield* Schedule.toStep(retry)
      let failure = first
      while (isMendable(failure)) {
        const pause = yield* Time.nextPause(time, step, failure)
        if (pause === undefined) break
        yield* Time.sleep(time, pause)
        const result = yield* Effect.result(txn.commit(again))
        if (Result.isSuccess(result)) return result.success
        failure = result.failure
      }
      return undefined
    })

  /**
   * No receipt: the commit may come yet. But where it was refused for want of space, that is an answer to it, which etcd
   * gives whether or not it applies it just so. So, as long as the receipt would be there still, it was not applied.
   */
  const withoutTrace = ({ lease }: Receipts.Receipt, first: EtcdError.EtcdError) =>
    first.reason._tag === "NoSpace"
      ? Effect.matchEffect(LeaseRequests.timeToLive(client, lease, false, {}), {
          onFailure: () => Effect.fail(first),
          onSuccess: () => Effect.fail(Reasons.turnedOutNotApplied(first))
        })
      : Effect.fail(first)

  /** The last means: what was applied, if anything was, left its receipt. */
  const look = (receipt: Receipts.Receipt, first: EtcdError.EtcdError): Effect.Effect<Committed, EtcdError.EtcdError> =>
    Effect.matchEffect(kv.get(receipt.key), {
      onFailure: () => Effect.fail(first),
      onSuccess: (kv) =>
        Option.match(verdictOf(kv), {
          onNone: () => withoutTrace(receipt, first),
          onSome: (revision) => Effect.succeed(committed(revision))
        })
    })

  const settleByReceipt = (
    attempt: Attempt,
    { again }: Requests,
    receipt: Receipts.Receipt,
    first: EtcdError.EtcdError
  ): Effect.Effect<Committed | Lost, EtcdError.EtcdError> =>
    Effect.flatMap(repeat(again, first), (answer) => {
      if (answer === undefined) return look(receipt, first)
      return Effect.succeed(
        Option.match(answer.verdict, { onNone: () => outcomeOf(attempt, answer), onSome: committed })
      )
    })

  const settleByKeys = (
    attempt: Attempt,
    { again }: Requests,
    first: EtcdError.EtcdError
  ): Effect.Effect<Committed | Lost, EtcdError.EtcdError> => {
    if (!refusesItself(attempt)) return Effect.fail(first)
    return Effect.flatMap(repeat(again, first), (answer) => {
      if (answer === undefined) return Effect.fail(first)
      const outcome = outcomeOf(attempt, answer)
      if (outcome._tag === "Committed" || isRuledOut(attempt, outcome.fresh)) return Effect.succeed(outcome)
      return Effect.fail(adding(first, undecided))
    })
  }

  const send = (attempt: Attempt, parts: Parts, receipt: Receipts.Receipt | undefined) => {
    const requests = requestsOf(parts, receipt)
    return Effect.matchEffect(txn.commit(requests.first), {
      onSuccess: (answer) => Effect.succeed(outcomeOf(attempt, answer)),
      onFailure: (error) => {
        if (error.outcome === "not-applied") return Effect.fail(error)
        return receipt === undefined
          ? settleByKeys(attempt, requests, error)
          : settleByReceipt(attempt, requests, receipt, error)
      }
    })
  }

  /** The lease of receipts may have been revoked meanwhile; then there is another one. */
  const sendWithReceipt = (attempt: Attempt, parts: Parts, mayHaveLost: boolean): ReturnType<typeof send> =>
    Effect.flatMap(Receipts.take(client), (receipt) =>
      Effect.catchReason(send(attempt, parts, receipt), "EtcdError", "LeaseNotFound", (reason) => {
        Receipts.forget(client, receipt)
        return mayHaveLost ? sendWithReceipt(attempt, parts, false) : Effect.fail(EtcdError.make(reason))
      })
    )

  return { send, sendWithReceipt }
}

/** Commits what a try wrote, unless what it read is no longer so. */
export const commit = (
  client: EtcdClient.Client,
  attempt: Attempt,
  settings: Settings
): Effect.Effect<Committed | Lost, EtcdError.EtcdError> =>
  Effect.flatMap(Time.Time, (time) => {
    const parts = partsOf(attempt, settings.isolation)
    const size = sizeOf(parts, settings.receipt)
    if (size > settings.maxOperations)
      return Effect.fail(tooMany(parts, settings.receipt, size, settings.maxOperations))
    const { send, sendWithReceipt } = make(client, time)
    return settings.receipt ? sendWithReceipt(attempt, parts, true) : send(attempt, parts, undefined)
  })
