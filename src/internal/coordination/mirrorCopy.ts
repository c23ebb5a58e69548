/**
 * What a mirror has of its keys: the view, what became of it lately, and who waits for what is to come of it.
 *
 * All of it changes in one step, without anybody between, so that nobody sees a part of a revision. What is read, and
 * when, is the business of `mirror.ts`.
 *
 * @internal
 */

import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Pull from "effect/Pull"
import type * as EtcdError from "../../EtcdError.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import type * as EtcdWatch from "../../EtcdWatch.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Json from "../json.ts"
import * as Keys from "../keys.ts"
import * as MirrorMap from "./mirrorMap.ts"
import { SortedMap } from "./mirrorMap.ts"

/** What a mirror is of. */
export interface Kind<A> {
  readonly range: KeyRange.KeyRange
  /** How many bytes of each key are not told. */
  readonly prefixLength: number
  readonly decode: (kvs: ReadonlyArray<KeyValue>) => Effect.Effect<ReadonlyArray<A>>
  /** The revision that wrote a value. */
  readonly modRevisionOf: (value: A) => bigint | undefined
  /** Whether values of two histories are surely the same. */
  readonly isSame: (a: A, b: A) => boolean
}

/**
 * How much is kept for those who read the changes one revision at a time, and have not yet: so many changes, or as many
 * KiB of values. The last revision is kept, however much it is.
 */
const mostKept = 4096

const weightOf = ({ value }: KeyValue): number => 1 + value.length / 1024

/** What became of a key. */
type Event<A> = { readonly key: string; readonly keyBytes: Uint8Array } & (
  | { readonly _tag: "Put"; readonly value: A; readonly previous: Option.Option<A> }
  | { readonly _tag: "Delete"; readonly previous: A }
)

/** What one revision did, or the difference that several make, in one history or across two. */
interface Update<A> {
  readonly _tag: "Update"
  readonly revision: bigint
  readonly events: ReadonlyArray<Event<A>>
  readonly history: "complete" | "joined" | "lost"
}

interface Kept<A> {
  readonly update: Update<A>
  readonly weight: number
}

type Changes<A> = Arr.NonEmptyReadonlyArray<{ readonly _tag: "Snapshot"; readonly view: View<A> } | Update<A>>

export class View<A> {
  readonly revision: bigint
  private readonly map: SortedMap<A>

  constructor(map: SortedMap<A>, revision: bigint) {
    this.map = map
    this.revision = revision
  }

  get size(): number {
    return this.map.size
  }

  toJSON(): unknown {
    return { revision: String(this.revision), entries: Array.from(this, ([key, value]) => [key, Json.json(value)]) }
  }

  get(key: KeyRange.Bytes): Option.Option<A> {
    return Option.fromUndefinedOr(Keys.isBytes(key) ? this.map.get(MirrorMap.keyOf(key)) : undefined)
  }

  *range(range: KeyRange.Input): IterableIterator<[key: string, value: A]> {
    const { end, key } = KeyRange.fromInput(range)
    // The byte 0 as a start means "from the first key on", and a store may have the empty one.
    const from = end.length > 0 && Keys.isUnbounded(key) ? "" : MirrorMap.keyOf(key)
    const to = end.length === 0 ? `${from}\0` : Keys.isUnbounded(end) ? undefined : MirrorMap.keyOf(end)
    yield* entriesOf(this.map, from, to)
  }

  [Symbol.iterator](): IterableIterator<[key: string, value: A]> {
    return entriesOf(this.map)
  }
}

function* entriesOf<A>(map: SortedMap<A>, from?: string, to?: string): IterableIterator<[key: string, value: A]> {
  for (const [key, value] of map.entries(from, to)) yield [MirrorMap.textOf(key), value]
}

const eventOf = <A>({ after, before, key }: MirrorMap.Difference<A>): Event<A> => {
  const keys = { key: MirrorMap.textOf(key), keyBytes: MirrorMap.bytesOf(key) }
  return after === undefined
    ? Json.answer({ _tag: "Delete", ...keys, previous: before! } as const)
    : Json.answer({ _tag: "Put", ...keys, value: after, previous: Option.fromUndefinedOr(before) } as const)
}

/** Somebody who waits for a revision. */
export interface Want {
  readonly revision: bigint
}

/** Where somebody is who reads the changes. */
interface Place<A> {
  readonly map: SortedMap<A>
  readonly sequence: number
}

/** Somebody who reads the changes, and has no place before the beginning. */
interface Reader<A> {
  place: Place<A> | undefined
}

export class Copy<A> {
  readonly kind: Kind<A>
  revision = 0n
  /** How many histories it has had: 0 before the first snapshot. Each time that the store has gone back is one more. */
  history = 0
  /** How often the keys have changed. */
  sequence = 0
  failure: Cause.Cause<EtcdError.EtcdError> | undefined
  private map = SortedMap.empty<A>()
  private currentView: View<A> | undefined
  private readonly wants = new Set<Want>()
  private readonly listeners = new Set<() => void>()

  // What is kept for readers: the last changes that not all of them have had
  private readonly readers = new Set<Reader<A>>()
  private readonly updates: Array<Kept<A>> = []
  private weight = 0
  /** When the store went back last, by the sequence. */
  private lostAt = 0

  constructor(kind: Kind<A>) {
    this.kind = kind
  }

  // ── reading ──

  get view(): View<A> {
    this.currentView ??= new View(this.map, this.revision)
    return this.currentView
  }

  get(key: KeyRange.Bytes): Option.Option<A> {
    return Option.fromUndefinedOr(this.map.get(MirrorMap.keyOf(key)))
  }

  get size(): number {
    return this.map.size
  }

  /** Whether somebody waits for a revision that the view is not at. */
  get isWanting(): boolean {
    for (const { revision } of this.wants) if (revision > this.revision) return true
    return false
  }

  /** Waits until the view is at a revision, another history has begun, or the copy has failed. */
  reach(revision: bigint, onWant: () => void): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { history } = this
      const hasCome = () => this.revision >= revision || this.history !== history || this.failure !== undefined
      if (hasCome()) return Effect.void
      const want: Want = { revision }
      this.wants.add(want)
      onWant()
      return Effect.ensuring(
        this.until(hasCome),
        Effect.sync(() => this.wants.delete(want))
      )
    })
  }

  /** Waits until something holds that changes with the copy. */
  until(holds: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const look = () => {
        if (!holds()) return
        this.listeners.delete(look)
        resume(Effect.void)
      }
      this.listeners.add(look)
      look()
      return Effect.sync(() => this.listeners.delete(look))
    })
  }

  // ── what comes of a watch ──

  /** Takes what a watch has delivered. */
  take(changes: ReadonlyArray<EtcdWatch.Change>): Effect.Effect<void> {
    return changes.some(({ _tag }) => _tag === "Snapshot")
      ? Effect.forEach(
          changes,
          (change) => (change._tag === "Snapshot" ? this.replace(change) : this.follow([change])),
          {
            discard: true
          }
        )
      : this.follow(changes)
  }

  private follow(changes: ReadonlyArray<EtcdWatch.Change>): Effect.Effect<void> {
    const written: Array<KeyValue> = []
    for (const change of changes) {
      if (change._tag !== "Revision") continue
      for (const event of change.events) if (event._tag === "Put") written.push(event.kv)
    }
    return Effect.map(this.kind.decode(written), (values) => this.apply(changes, values))
  }

  private apply(changes: ReadonlyArray<EtcdWatch.Change>, values: ReadonlyArray<A>): void {
    let edit: MirrorMap.Edit<A> | undefined
    let value = 0
    for (const change of changes) {
      if (change._tag === "Revision") {
        edit ??= this.map.edit()
        const isNew = change.revision > this.revision
        const events: Array<Event<A>> = []
        let weight = 1
        for (const event of change.events) {
          weight += weightOf(event.kv)
          const after = event._tag === "Put" ? values[value++]! : undefined
          if (isNew) this.applyEvent(edit, event.kv.key, after, events)
        }
        if (isNew)
          this.step(
            Json.answer({ _tag: "Update", revision: change.revision, events, history: "complete" } as const),
            weight
          )
      } else if (change._tag === "Progress" && change.revision > this.revision) this.revision = change.revision
    }
    if (edit !== undefined) this.map = edit.done()
    this.changed()
  }

  private applyEvent(edit: MirrorMap.Edit<A>, whole: Uint8Array, after: A | undefined, events: Array<Event<A>>) {
    const { prefixLength } = this.kind
    const key = MirrorMap.keyOf(prefixLength === 0 ? whole : whole.subarray(prefixLength))
    if (this.readers.size > 0) {
      const before = edit.get(key)
      if (before !== undefined || after !== undefined) events.push(eventOf({ key, before, after }))
    }
    if (after === undefined) edit.delete(key)
    else edit.set(key, after)
  }

  /** Takes all keys as they are. What has not changed stays the same object. */
  private replace({ cause, kvs, revision }: EtcdWatch.Snapshot): Effect.Effect<void> {
    const isLost = this.history > 0 && (cause !== "compacted" || revision < this.revision)
    const keys = kvs.map(({ key }) => MirrorMap.keyOf(key.subarray(this.kind.prefixLength)))
    const old = keys.map((key) => this.map.get(key))
    const isKnown = (value: A | undefined, { modRevision }: KeyValue) =>
      !isLost && value !== undefined && this.kind.modRevisionOf(value) === modRevision
    const unknown = kvs.filter((kv, at) => !isKnown(old[at], kv))
    return Effect.map(this.kind.decode(unknown), (decoded) => {
      let next = 0
      const values = kvs.map((kv, at) => {
        const before = old[at]
        if (isKnown(before, kv)) return before!
        const value = decoded[next++]!
        return before !== undefined && isLost && this.kind.isSame(before, value) ? before : value
      })
      const weight = unknown.reduce((sum, kv) => sum + weightOf(kv), 1)
      this.become(SortedMap.fromSorted(keys, values), revision, isLost, weight)
    })
  }

  private become(map: SortedMap<A>, revision: bigint, isLost: boolean, weight: number): void {
    const before = this.map
    const isFirst = this.history === 0
    this.map = map
    if (isFirst || isLost) this.history++
    const differences = isFirst ? [] : map.since(before)
    if (isLost || differences.length > 0) {
      const history = isLost ? "lost" : "joined"
      this.step(Json.answer({ _tag: "Update", revision, events: differences.map(eventOf), history } as const), weight)
    }
    this.revision = revision
    this.changed()
  }

  private step(update: Update<A>, weight: number): void {
    this.revision = update.revision
    this.sequence++
    if (update.history === "lost") this.lostAt = this.sequence
    if (this.readers.size === 0) return
    this.updates.push({ update, weight })
    this.weight += weight
    while (this.weight > mostKept && this.updates.length > 1) this.drop()
  }

  private drop(): void {
    this.weight -= this.updates.shift()!.weight
  }

  /** It is known by other means that at this revision the keys are what they are in the view. */
  advance(revision: bigint): void {
    if (revision > this.revision) this.revision = revision
    this.changed()
  }

  /** There is no more to come. */
  fail(cause: Cause.Cause<EtcdError.EtcdError>): void {
    this.failure ??= cause
    this.changed()
  }

  private changed(): void {
    this.currentView = undefined
    this.tell()
  }

  /** Whoever waits looks again. */
  tell(): void {
    for (const listener of [...this.listeners]) listener()
  }

  // ── those who read the changes ──

  /** Somebody begins to read. Returns what is read with, and what ends it. */
  reader(): { readonly pull: Pull.Pull<Changes<A>, EtcdError.EtcdError>; readonly close: () => void } {
    const reader: Reader<A> = { place: undefined }
    this.readers.add(reader)
    const catchUp = () => {
      reader.place = { map: this.map, sequence: this.sequence }
    }
    const pull: Pull.Pull<Changes<A>, EtcdError.EtcdError> = Effect.suspend(() => {
      const before = reader.place
      if (before === undefined) {
        catchUp()
        return Effect.succeed<Changes<A>>([{ _tag: "Snapshot", view: this.view }])
      }
      if (this.sequence > before.sequence) {
        const [first, ...rest] = this.updatesSince(before)
        catchUp()
        this.dropRead()
        return first === undefined ? pull : Effect.succeed<Changes<A>>([first, ...rest])
      }
      if (this.failure !== undefined) return Effect.failCause(this.failure)
      return Effect.andThen(
        this.until(() => this.sequence > before.sequence || this.failure !== undefined),
        pull
      )
    })
    const close = () => {
      this.readers.delete(reader)
      this.dropRead()
    }
    return { pull, close }
  }

  /** Lets go of what all who read have had. */
  private dropRead(): void {
    let first = this.sequence
    for (const { place } of this.readers) if (place !== undefined) first = Math.min(first, place.sequence)
    while (this.updates.length > this.sequence - first) this.drop()
  }

  private updatesSince(place: Place<A>): ReadonlyArray<Update<A>> {
    const missed = this.sequence - place.sequence
    if (missed <= this.updates.length) return this.updates.slice(-missed).map(({ update }) => update)
    const events = this.map.since(place.map).map(eventOf)
    const isLost = this.lostAt > place.sequence
    if (events.length === 0 && !isLost) return []
    return [{ _tag: "Update", revision: this.revision, events, history: isLost ? "lost" : "joined" }]
  }
}
