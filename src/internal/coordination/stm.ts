/**
 * A transaction: its body is tried until what a try has read is still so when it is committed.
 *
 * A try ends with its body, or before, with a verdict: it is to be made again when something changes, it cannot go on,
 * or it failed. A verdict interrupts the body, and holds whatever the body makes of that, unless the body fails of itself
 * where it was to be made again (which is how an alternative is written).
 *
 * @internal
 */

import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import type { Client } from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import type { LeaseId } from "../../EtcdId.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Json from "../json.ts"
import * as Options from "../options.ts"
import * as Time from "../time.ts"
import * as Commit from "./stmCommit.ts"
import { behind, withoutReceipts } from "./stmRanges.ts"
import { type Fresh, type Reading, Snapshot } from "./stmReads.ts"
import { inTurn } from "./stmTurns.ts"
import { untilChanged } from "./stmWaiting.ts"
import { Writes } from "./stmWrites.ts"

/** Why a try came to nothing. */
export interface Conflict {
  readonly tries: number
  readonly reason: "changed" | "compacted"
}

export interface Settings extends Commit.Settings {
  readonly schedule: Schedule.Schedule<unknown, Conflict>
}

/** Longer ones starve who has lost often, and let no more be done: who wins goes on at once, and wins again. */
const longestPause = Duration.millis(50)

/** At once the first time, since the values came along; then by chance, within a time that grows. */
export const defaultSchedule: Schedule.Schedule<unknown, Conflict> = Schedule.exponential("1 millis").pipe(
  Schedule.modifyDelay(({ attempt, duration }) =>
    attempt === 1
      ? Effect.succeed(Duration.zero)
      : Effect.map(Random.next, (part) => Duration.times(Duration.min(duration, longestPause), part))
  )
)

type Verdict =
  | { readonly _tag: "Retry" }
  /** The revision that it reads at: it was compacted, or the store went back behind it. */
  | { readonly _tag: "Gone" }
  | { readonly _tag: "Failed"; readonly error: EtcdError }

/** One try. */
export class Try {
  readonly snapshot: Snapshot
  readonly writes = new Writes()
  verdict: Verdict | undefined
  isOpen = true

  constructor(kv: EtcdKv.Service, fresh: Fresh | undefined) {
    this.snapshot = new Snapshot(kv, fresh)
  }

  /** Who still runs when the try has ended, or has its verdict, is interrupted. */
  private while<A>(effect: () => Effect.Effect<A>): Effect.Effect<A> {
    return Effect.suspend(() => (this.isOpen && this.verdict === undefined ? effect() : Effect.interrupt))
  }

  private end(verdict: Verdict): Effect.Effect<never> {
    return this.while(() => {
      this.verdict = verdict
      return Effect.interrupt
    })
  }

  private fail(error: EtcdError): Effect.Effect<never> {
    const isGone = error.reason._tag === "Compacted" || error.reason._tag === "FutureRevision"
    return this.end(isGone ? { _tag: "Gone" } : { _tag: "Failed", error })
  }

  /** What is answered when the try has ended is no part of it: it is being committed, or is lost, without that. */
  private read(range: KeyRange.KeyRange, limit = Number.POSITIVE_INFINITY): Effect.Effect<Reading> {
    return this.snapshot.read(range, limit).pipe(
      Effect.catch((error) => this.fail(error)),
      Effect.flatMap((reading) =>
        this.while(() => {
          this.snapshot.readings.add(reading)
          return Effect.succeed(reading)
        })
      )
    )
  }

  /** Something was asked for that makes no sense. */
  refuse(problem: string): Effect.Effect<never> {
    return this.while(() => this.fail(Options.invalid(problem)))
  }

  get(key: Uint8Array): Effect.Effect<Option.Option<KeyValue>> {
    return this.while(() => {
      const written = this.writes.find(key)
      if (written !== undefined) return Effect.succeed(written.put)
      return Effect.map(this.read(KeyRange.single(key)), ({ kvs }) => Option.fromUndefinedOr(kvs[0]))
    })
  }

  /**
   * The first keys of a range, after its own writes. Where keys that were found are deleted by them, it is read on until
   * there are as many as were asked for.
   */
  range(range: KeyRange.KeyRange, limit: number): Effect.Effect<ReadonlyArray<KeyValue>> {
    const readOn = (
      [piece, ...others]: ReadonlyArray<KeyRange.KeyRange>,
      found: ReadonlyArray<KeyValue>
    ): Effect.Effect<ReadonlyArray<KeyValue>> => {
      if (piece === undefined) return Effect.succeed(this.writes.over(range, found).slice(0, limit))
      return Effect.flatMap(this.read(piece, limit), (reading) => {
        const all = [...found, ...reading.kvs]
        const left = [...behind(piece, reading.range), ...others]
        const seen = left[0] === undefined ? range : KeyRange.interval(range.key, left[0].key)
        const shown = this.writes.over(seen, all)
        return shown.length < limit ? readOn(left, all) : Effect.succeed(shown.slice(0, limit))
      })
    }
    return this.while(() => readOn(withoutReceipts(range), []))
  }

  put(key: Uint8Array, value: Uint8Array, lease: LeaseId | undefined): Effect.Effect<void> {
    return this.while(() => {
      this.writes.put(key, value, lease)
      return Effect.void
    })
  }

  delete(range: KeyRange.KeyRange): Effect.Effect<void> {
    return this.while(() => {
      this.writes.delete(range)
      return Effect.void
    })
  }

  readonly retry: Effect.Effect<never> = this.while(() =>
    this.snapshot.readings.isEmpty
      ? this.refuse(
          "EtcdStm.retry waits until something changes that the transaction has read, and it has read nothing: read " +
            "first what it is to wait for."
        )
      : this.end({ _tag: "Retry" })
  )
}

export interface Done<A> {
  readonly value: A
  /** Of the commit, or of the reads where nothing was written; 0 where there were none. */
  readonly revision: bigint
}

/** What comes after a try. */
type After<A> =
  | { readonly _tag: "Done"; readonly done: Done<A> }
  | { readonly _tag: "Lost"; readonly reason: Conflict["reason"]; readonly fresh: Fresh | undefined }
  | { readonly _tag: "Retry" }

/** Whether a body that was to wait has failed of itself. */
const isFailure = <A, E>(exit: Exit.Exit<A, E>): exit is Exit.Failure<A, E> =>
  Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)

const commit = <A>(client: Client, attempt: Try, value: A, settings: Settings): Effect.Effect<After<A>, EtcdError> => {
  if (attempt.writes.isEmpty) {
    return Effect.succeed({ _tag: "Done", done: Json.answer({ value, revision: attempt.snapshot.revision ?? 0n }) })
  }
  return Effect.map(
    Commit.commit(client, attempt, settings),
    (outcome): After<A> =>
      outcome._tag === "Committed"
        ? { _tag: "Done", done: Json.answer({ value, revision: outcome.revision }) }
        : { _tag: "Lost", reason: "changed", fresh: outcome.fresh }
  )
}

const after = <A, E>(
  client: Client,
  attempt: Try,
  exit: Exit.Exit<A, E>,
  settings: Settings
): Effect.Effect<After<A>, E | EtcdError> => {
  switch (attempt.verdict?._tag) {
    case "Failed":
      return Effect.fail(attempt.verdict.error)
    case "Gone":
      return Effect.succeed({ _tag: "Lost", reason: "compacted", fresh: undefined })
    case "Retry":
      return isFailure(exit) ? Effect.failCause(exit.cause) : Effect.succeed({ _tag: "Retry" })
    case undefined:
      return Exit.isFailure(exit) ? Effect.failCause(exit.cause) : commit(client, attempt, exit.value, settings)
  }
}

const waitFor = (client: Client, { snapshot }: Try): Effect.Effect<void, EtcdError> =>
  untilChanged(
    client,
    snapshot.readings.all.map(({ range }) => range),
    snapshot.revision!
  )

/** Makes one try, and commits it. */
const tryOnce = <A, E>(
  client: Client,
  kv: EtcdKv.Service,
  body: (attempt: Try) => Effect.Effect<A, E>,
  settings: Settings,
  fresh: Fresh | undefined
): Effect.Effect<{ readonly attempt: Try; readonly next: After<A> }, E | EtcdError> =>
  Effect.suspend(() => {
    const attempt = new Try(kv, fresh)
    const close = Effect.sync(() => {
      attempt.isOpen = false
    })
    return Effect.exit(Effect.ensuring(body(attempt), close)).pipe(
      Effect.flatMap((exit) => after(client, attempt, exit, settings)),
      Effect.map((next) => ({ attempt, next }))
    )
  })

/** Tries until there is an end of it; `body` is what a try does. `exhausted`: the schedule has ended. */
export const run = <A, E, E2>(
  client: Client,
  body: (attempt: Try) => Effect.Effect<A, E>,
  settings: Settings,
  exhausted: (conflict: Conflict) => E2
): Effect.Effect<Done<A>, E | E2 | EtcdError> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    const kv = EtcdKv.fromClient(client)
    let step = yield* Schedule.toStep(settings.schedule)
    let tries = 0
    let fresh: Fresh | undefined
    let line: string | undefined
    while (true) {
      const { attempt, next } = yield* inTurn(client, time, line, (hasWaited) =>
        tryOnce(client, kv, body, settings, hasWaited ? undefined : fresh)
      )
      if (next._tag === "Done") return next.done
      fresh = undefined
      line = undefined
      if (next._tag === "Retry") {
        yield* waitFor(client, attempt)
        tries = 0
        step = yield* Schedule.toStep(settings.schedule)
      } else {
        tries++
        const conflict: Conflict = { tries, reason: next.reason }
        const pause = yield* Time.nextPause(time, step, conflict)
        if (pause === undefined) return yield* Effect.fail(exhausted(conflict))
        if (next.fresh !== undefined) line = attempt.snapshot.readings.changedIn(next.fresh.readings)
        // After a pause the values that came along are old.
        if (pause === 0) fresh = next.fresh
        else yield* Time.sleep(time, pause)
      }
    }
  })
