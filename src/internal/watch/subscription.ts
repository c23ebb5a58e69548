/**
 * One watch of the program: its place in the history, what waits for its reader, and how it goes on.
 *
 * A reader that is slower than the events costs at most its buffer. When that is full the watch leaves its stream, and
 * when the reader has emptied it the watch takes a new one, from the revision where it was.
 *
 * @internal
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as EtcdError from "../../EtcdError.ts"
import type { KeyRange } from "../../KeyRange.ts"
import { type Event, Event_EventType, type KeyValue } from "../proto/kv_pb.ts"
import type { WatchCreateRequest_FilterType } from "../proto/rpc_pb.ts"
import type * as Tracing from "../tracing.ts"
import { Cursor } from "./cursor.ts"
import * as Identity from "./identity.ts"
import type { Pool } from "./pool.ts"
import * as Reading from "./reading.ts"
import * as Rules from "./rules.ts"
import type { WatchStream } from "./watchStream.ts"

/** What a reader gets. The events are those of one or more whole revisions. */
export type Delivery =
  | { readonly _tag: "Events"; readonly events: ReadonlyArray<Event> }
  | { readonly _tag: "Progress"; readonly revision: bigint }
  | { readonly _tag: "Created"; readonly revision: bigint }
  | {
      readonly _tag: "Snapshot"
      readonly revision: bigint
      readonly kvs: ReadonlyArray<KeyValue>
      readonly cause: SnapshotCause
    }

/** Why a snapshot takes the place of the changes. */
export type SnapshotCause = "first" | "compacted" | "regressed"

/** How the calls of a watch stream are made. Watches that agree in it can share one. */
export interface StreamOptions {
  readonly requireLeader: boolean | undefined
  readonly endpoint: string | undefined
  readonly metadata: Readonly<Record<string, string>> | undefined
  readonly retry: Schedule.Schedule<unknown, EtcdError.EtcdError>
}

export interface Request {
  readonly range: KeyRange
  /** 0: from now on. */
  readonly startRevision: bigint
  readonly previousValues: boolean
  readonly filters: ReadonlyArray<WatchCreateRequest_FilterType>
  readonly fragment: boolean
  /** Whether the reader wants to hear of progress, and of the beginning. */
  readonly progress: boolean
  readonly created: boolean
  readonly snapshot: "never" | "when-compacted" | "first"
  readonly bufferBytes: number
  readonly streamOptions: StreamOptions
}

/**
 * Which others a watch shares its stream with.
 *
 * - `any`: all whose calls are made in the same way.
 * - `early`: those that wait for a revision to come. A server says nothing of progress while it has one of them.
 * - `none`: its reader was too slow once.
 */
export type Sharing = "any" | "early" | "none"

/** What an event costs besides its bytes, roughly. */
const eventOverheadBytes = 256

const bytesOf = (kv: KeyValue | undefined): number => (kv === undefined ? 0 : kv.key.length + kv.value.length)

const sizeOf = (events: ReadonlyArray<Event>): number => {
  let size = events.length * eventOverheadBytes
  for (const event of events) size += bytesOf(event.kv) + bytesOf(event.prevKv)
  return size
}

/** No cluster compacts so many revisions away from a watch; who restores one raises its revision by no less (`--bump-revision`). */
const leap = 1_000_000_000n

/** A part of the history that is gone, up to a revision; and what that is, if it is not known to be empty. */
interface Gap {
  readonly revision: bigint
  readonly error: EtcdError.EtcdError
}

type Arrived = Effect.Effect<Arr.NonEmptyReadonlyArray<Delivery>, EtcdError.EtcdError>

export class Subscription {
  readonly request: Request
  readonly cursor: Cursor
  sharing: Sharing = "any"
  /** The stream that it is on, if it is on any. */
  stream: WatchStream | undefined
  /** How far the store was, by what servers have said. The revision that the program asked for is not among it. */
  seen: Identity.Position = Identity.unknown
  /** A write that was delivered, by itself or in a snapshot; the last one, or about. */
  write: Identity.Write | undefined

  private readonly pool: Pool
  /** Tells of it in the trace of its reader. */
  private readonly note: Tracing.Tell | undefined
  private waiting: Array<Delivery> = []
  private size = 0
  private failure: Cause.Cause<EtcdError.EtcdError> | undefined
  private wake: (() => void) | undefined
  /** Why the reader is to have a snapshot, if it is to have one. */
  private wantsSnapshot: SnapshotCause | undefined
  /** A snapshot that waits until the reader has been told that a server has the watch. */
  private held: Extract<Delivery, { _tag: "Snapshot" }> | undefined
  /** What is to be looked into before the watch goes on. */
  private gap: Gap | undefined
  /** Where such a gap ended that could not be looked into. One that is told of again ends the watch. */
  private unreadable: bigint | undefined
  private renewals = 0
  private announced = false

  constructor(pool: Pool, request: Request, note?: Tracing.Tell | undefined) {
    this.pool = pool
    this.request = request
    this.note = note
    this.cursor = new Cursor(request.startRevision)
    this.wantsSnapshot = request.snapshot === "first" ? "first" : undefined
  }

  /** Whether any server has done anything for it. */
  get isServed(): boolean {
    return this.seen !== Identity.unknown
  }

  /** What has arrived, as soon as there is something. */
  readonly pull: Arrived = Effect.suspend(() => {
    if (Arr.isArrayNonEmpty(this.waiting)) return Effect.succeed(this.handOver(this.waiting))
    if (this.failure !== undefined) return Effect.failCause(this.failure)
    if (this.wantsSnapshot !== undefined) return this.snapshot(this.wantsSnapshot)
    if (this.gap !== undefined) return this.goOnIfQuiet(this.gap)
    return this.stream === undefined ? Effect.andThen(this.pool.place(this), this.awaitArrival) : this.awaitArrival
  })

  private handOver<A>(waiting: A): A {
    this.waiting = []
    this.size = 0
    return waiting
  }

  private readonly awaitArrival: Arrived = Effect.flatMap(
    Effect.callback<void>((resume) => {
      const arrived = () => resume(Effect.void)
      if (this.hasNews) return arrived()
      this.wake = arrived
      return Effect.sync(() => {
        this.wake = undefined
      })
    }),
    () => this.pull
  )

  private get hasNews(): boolean {
    return (
      this.waiting.length > 0 ||
      this.failure !== undefined ||
      this.wantsSnapshot !== undefined ||
      this.stream === undefined
    )
  }

  private snapshot(cause: SnapshotCause): Arrived {
    return Effect.flatMap(this.pool.readSnapshot(this), ({ kvs, last, revision, term }) => {
      const snapshot = { _tag: "Snapshot", revision, kvs, cause: this.causeNow(cause, revision) } as const
      this.wantsSnapshot = undefined
      this.cursor.next = revision + 1n
      this.seen = { revision, term }
      this.write = last
      if (this.announced || !this.request.created) return Effect.succeed(Arr.of(snapshot))
      this.held = snapshot
      return this.pull
    })
  }

  /** What the reader was not told is no news, and a compacted history may be another one as well. */
  private causeNow(cause: SnapshotCause, revision: bigint): SnapshotCause {
    if (this.held !== undefined) return this.held.cause
    return cause === "compacted" && revision < this.seen.revision ? "regressed" : cause
  }

  /**
   * The history is gone that tells what has happened to the key. But as it was at the revision that the history begins
   * with, the key itself may tell that nothing had.
   */
  private goOnIfQuiet({ error, revision }: Gap): Arrived {
    const read = this.pool.readKey(this, revision).pipe(
      // More is compacted since, or the store has gone back: whoever takes the watch now will show it.
      Effect.catchReason("EtcdError", "Compacted", () => Effect.undefined),
      Effect.catchReason("EtcdError", "FutureRevision", () => Effect.undefined)
    )
    return Effect.flatMap(read, (found) => {
      this.gap = undefined
      if (found === undefined) {
        if (this.unreadable === revision) this.fail(error)
        this.unreadable = revision
        return this.pull
      }
      const regression = Identity.regressionOf(this.seen, { now: found.now, missing: undefined, term: undefined })
      if (regression !== undefined) this.fail(regression)
      else if (this.isUnchanged(found, revision)) this.cursor.next = revision + 1n
      else this.fail(error)
      return this.pull
    })
  }

  /**
   * A key that is there, and that was written last when it was delivered last, has not been deleted since, either. Of one of
   * which nothing was delivered, that it was not written since where the watch is to begin tells no more than that of this
   * history; and there may be another one where a restore has raised the revision.
   */
  private isUnchanged({ modRevision, now }: Reading.KeyState, compacted: bigint): boolean {
    if (now === undefined || Identity.isBehind(now, this.seen)) return false
    if (modRevision === undefined || modRevision >= this.cursor.next) return false
    return this.write === undefined ? compacted - this.cursor.next < leap : this.write.revision === modRevision
  }

  private see(now: Identity.Position): void {
    this.seen = Identity.later(this.seen, now)
  }

  /** A server has taken the watch when its store was so far. */
  created(at: Identity.Position, endpoint: string): void {
    this.note?.("etcd.watch.created", { "etcd.endpoint": endpoint, "etcd.revision": at.revision })
    this.renewals = 0
    this.cursor.created(at.revision)
    this.see(at)
    if (this.announced) return
    this.announced = true
    if (this.request.created) this.deliver({ _tag: "Created", revision: this.cursor.next }, 0)
    const { held } = this
    this.held = undefined
    if (held !== undefined) this.deliver(held, 0)
  }

  /** Events have arrived. */
  events(arrived: ReadonlyArray<Event>, more: boolean, at: Identity.Position): void {
    this.see(at)
    const events = this.cursor.take(arrived, more)
    const last = events.at(-1)
    if (last === undefined) return
    this.see({ revision: last.kv!.modRevision, term: 0n })
    if (last.type === Event_EventType.PUT) this.remember(last.kv!)
    this.deliver({ _tag: "Events", events }, sizeOf(events))
  }

  private remember(kv: KeyValue): void {
    const { end, key } = this.request.range
    this.write = end.length === 0 ? { key, revision: kv.modRevision } : Reading.writeOf(kv)
  }

  /** The server has said that nothing up to this revision is still to come. */
  progress(at: Identity.Position): void {
    this.see(at)
    const { revision } = at
    if (!this.cursor.progress(revision) || !this.request.progress) return
    if (this.waiting.at(-1)?._tag === "Progress") this.waiting.pop()
    this.deliver({ _tag: "Progress", revision }, 0)
  }

  /** The server has ended the watch. It is on no stream any more. */
  canceled(error: EtcdError.EtcdError): void {
    this.stream = undefined
    if (error.reason._tag === "Compacted") {
      const revision = error.reason.compactedRevision
      if (this.request.snapshot !== "never") this.wantsSnapshot ??= "compacted"
      else if (this.request.range.end.length === 0 && revision !== undefined) this.gap = { error, revision }
      else this.fail(error)
    } else if (Rules.isTokenRefused(error) && this.renewals < Rules.maxRenewals) {
      this.renewals++
    } else {
      this.fail(error)
    }
    this.tell()
  }

  /** Whether the revision that it is to begin with is still to come, and not just the next one. */
  get isEarly(): boolean {
    const { next } = this.cursor
    return next === this.request.startRevision && next > this.seen.revision + 1n
  }

  /** It is to share its stream with others. It is on none any more. */
  moveTo(sharing: Sharing): void {
    this.stream = undefined
    this.sharing = sharing
    this.tell()
  }

  /** The store is not the one that it was. The watch is on no stream any more. */
  regressed(error: EtcdError.EtcdError): void {
    this.stream = undefined
    if (this.request.snapshot === "never") this.fail(error)
    else this.wantsSnapshot = "regressed"
    this.tell()
  }

  /** The watch cannot go on. */
  fail(error: EtcdError.EtcdError): void {
    this.end(Cause.fail(error))
  }

  /** The watch has ended. */
  end(cause: Cause.Cause<EtcdError.EtcdError>): void {
    this.stream = undefined
    this.failure ??= cause
    this.tell()
  }

  /** Nobody reads any more. */
  close(): void {
    this.leave()
    this.waiting = []
  }

  private deliver(delivery: Delivery, size: number): void {
    this.waiting.push(delivery)
    this.size += size
    if (this.size > this.request.bufferBytes) {
      this.sharing = "none"
      this.leave()
    }
    this.tell()
  }

  private leave(): void {
    const { stream } = this
    this.stream = undefined
    stream?.leave(this)
  }

  private tell(): void {
    const { wake } = this
    this.wake = undefined
    wake?.()
  }
}
