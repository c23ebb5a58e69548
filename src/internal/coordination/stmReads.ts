/**
 * What a try of a transaction reads: all of it at one revision, each key and each range once.
 *
 * The first read is linearizable and says the revision. Those after it ask for what there was at that revision, which is
 * the same on whatever member: so any member may answer by itself, unless it is not there yet, and then it is asked once
 * more to catch up first. Where a try before has lost its comparisons, the values that came along are the first read.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import type { EtcdError } from "../../EtcdError.ts"
import type * as EtcdKv from "../../EtcdKv.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Keys from "../keys.ts"
import { contains, covers, isSingle, nameOfRange } from "./stmRanges.ts"

/** A range, which may be that of one key, and what there is in it. */
export interface Reading {
  readonly range: KeyRange.KeyRange
  readonly kvs: ReadonlyArray<KeyValue>
}

/**
 * What the first keys of a range say, where there may be more. What comes after the last of them was not read: so it is
 * nobody's conflict.
 */
const upToLimit = ({ kvs, range }: Reading, limit: number): Reading => {
  const last = kvs[limit - 1]
  if (last === undefined || isSingle(range)) return { range, kvs }
  return { range: KeyRange.interval(range.key, Keys.next(last.key)), kvs: kvs.slice(0, limit) }
}

/** What was read. */
export class Readings {
  private readonly byRange = new Map<string, Reading>()
  private readonly wide: Array<Reading> = []

  get isEmpty(): boolean {
    return this.byRange.size === 0
  }

  add(reading: Reading): void {
    const name = nameOfRange(reading.range)
    if (this.byRange.has(name)) return
    this.byRange.set(name, reading)
    if (!isSingle(reading.range)) this.wide.push(reading)
  }

  /** What is known of a range, where it was read as such or is that of one key in one that was read. */
  find(range: KeyRange.KeyRange): Reading | undefined {
    const own = this.byRange.get(nameOfRange(range))
    if (own !== undefined || !isSingle(range)) return own
    const around = this.around(range.key)
    return around === undefined
      ? undefined
      : { range, kvs: around.kvs.filter((kv) => Keys.compare(kv.key, range.key) === 0) }
  }

  /** A range of more than one key that was read, and in which the key is. */
  private around(key: Uint8Array): Reading | undefined {
    return this.wide.find(({ range }) => contains(range, key))
  }

  /** A range that was read with which this one begins. */
  beginning(range: KeyRange.KeyRange): Reading | undefined {
    return this.wide.find((one) => Keys.compare(one.range.key, range.key) === 0 && covers(range, one.range))
  }

  /** Without what is in wider ones anyway. */
  get all(): ReadonlyArray<Reading> {
    return [...this.byRange.values()].filter(
      (reading) => !this.wide.some((other) => other !== reading && covers(other.range, reading.range))
    )
  }

  /** Something that is not as it is in other readings of the same, by a name. */
  changedIn(other: Readings): string | undefined {
    const changed = this.all.find(({ kvs, range }) => {
      const now = other.find(range)?.kvs ?? []
      return now.length !== kvs.length || kvs.some((kv, index) => now[index]!.modRevision !== kv.modRevision)
    })
    return changed === undefined ? undefined : nameOfRange(changed.range)
  }

  /** The key as it was read, if it was; `None` inside where it did not exist. */
  keyOf(key: Uint8Array): Option.Option<KeyValue> | undefined {
    const reading = this.find(KeyRange.single(key))
    return reading === undefined ? undefined : Option.fromUndefinedOr(reading.kvs[0])
  }
}

/** Values that came along with an answer. */
export interface Fresh {
  readonly revision: bigint
  readonly readings: Readings
}

/** The reads of one try. */
export class Snapshot {
  /** At which everything is read; unknown before the first read. */
  revision: bigint | undefined
  /** What this try has read, as far as it was told. */
  readonly readings = new Readings()
  private readonly kv: EtcdKv.Service
  private readonly known: Readings | undefined
  private readonly first = Semaphore.makeUnsafe(1)

  constructor(kv: EtcdKv.Service, fresh: Fresh | undefined) {
    this.kv = kv
    this.known = fresh?.readings
    this.revision = fresh?.revision
  }

  /** Reads a range or, where there is a limit, the beginning of it. */
  read(range: KeyRange.KeyRange, limit: number): Effect.Effect<Reading, EtcdError> {
    const beginning = Number.isFinite(limit) ? this.readings.beginning(range) : undefined
    const known = this.readings.find(range) ?? beginning ?? this.known?.find(range)
    const reading = known === undefined ? this.fetch(range, limit) : Effect.succeed(known)
    return Effect.map(reading, (reading) => upToLimit(reading, limit))
  }

  private fetch(range: KeyRange.KeyRange, limit: number): Effect.Effect<Reading, EtcdError> {
    return this.revision === undefined
      ? this.first.withPermit(this.fetchFirst(range, limit))
      : this.fetchAt(range, limit, this.revision)
  }

  /** Of those that are asked at the same time, one is the first. */
  private fetchFirst(range: KeyRange.KeyRange, limit: number): Effect.Effect<Reading, EtcdError> {
    return Effect.suspend(() => {
      if (this.revision !== undefined) return this.fetchAt(range, limit, this.revision)
      return Effect.map(this.kv.range(range, { limit }), ({ header, kvs }) => {
        this.revision = header.revision
        return { range, kvs }
      })
    })
  }

  private fetchAt(range: KeyRange.KeyRange, limit: number, revision: bigint): Effect.Effect<Reading, EtcdError> {
    return this.kv.range(range, { limit, revision, serializable: true }).pipe(
      Effect.catchReason("EtcdError", "FutureRevision", () => this.kv.range(range, { limit, revision })),
      Effect.map(({ kvs }) => ({ range, kvs }))
    )
  }
}
