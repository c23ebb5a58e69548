/**
 * One watch of the program: its place in the history, what waits for its reader, and how it is carried on.
 *
 * A reader that is slower than the events costs at most its buffer. When that is full the watch leaves its lane, and
 * when the reader has emptied it the watch takes a new one, from the revision where it was.
 *
 * @internal
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as EtcdError from "../../EtcdError.ts"
import type { KeyRange } from "../../KeyRange.ts"
import type { Event, KeyValue } from "../proto/kv_pb.ts"
import type { WatchCreateRequest_FilterType } from "../proto/rpc_pb.ts"
import { Cursor } from "./cursor.ts"

/** What a reader gets. The events are those of one or more whole revisions. */
export type Delivery =
  | { readonly _tag: "Events"; readonly events: ReadonlyArray<Event> }
  | { readonly _tag: "Progress"; readonly revision: bigint }
  | { readonly _tag: "Created"; readonly revision: bigint }
  | { readonly _tag: "Snapshot"; readonly revision: bigint; readonly kvs: ReadonlyArray<KeyValue> }

/** How the calls are made that carry a watch. Watches that agree in it can share one. */
export interface Carriage {
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
  readonly carriage: Carriage
}

/** What carries a watch. */
export interface Carrier {
  /** Lets go of the watch, and tells the server. */
  readonly leave: (subscription: Subscription) => void
}

/** What a subscription needs of those who carry it. */
export interface Office {
  /** Gives the watch a carrier. */
  readonly seat: (subscription: Subscription) => Effect.Effect<void>
  readonly renewToken: Effect.Effect<void>
  readonly readSnapshot: (request: Request) => Effect.Effect<Snapshot, EtcdError.EtcdError>
}

export type Snapshot = Extract<Delivery, { readonly _tag: "Snapshot" }>

/** What an event costs besides its bytes, roughly. */
const eventOverheadBytes = 256

/** How often in a row a token may be refused before the watch fails. */
const maxRenewals = 3

const bytesOf = (kv: KeyValue | undefined): number => (kv === undefined ? 0 : kv.key.length + kv.value.length)

const sizeOf = (events: ReadonlyArray<Event>): number => {
  let size = events.length * eventOverheadBytes
  for (const event of events) size += bytesOf(event.kv) + bytesOf(event.prevKv)
  return size
}

/** Whether another token may do. */
export const isTokenRefused = (error: EtcdError.EtcdError): boolean =>
  error.reason._tag === "InvalidAuthToken" ||
  error.reason._tag === "AuthOldRevision" ||
  error.reason._tag === "UserNameEmpty"

export class Subscription {
  readonly request: Request
  readonly cursor: Cursor
  /** Whether its reader was too slow once. It is not seated beside others again. */
  isSlow = false
  carrier: Carrier | undefined

  private readonly office: Office
  private waiting: Array<Delivery> = []
  private size = 0
  private failure: EtcdError.EtcdError | undefined
  private wake: (() => void) | undefined
  private wantsSnapshot: boolean
  private wantsToken = false
  private renewals = 0
  private announced = false

  constructor(office: Office, request: Request) {
    this.office = office
    this.request = request
    this.cursor = new Cursor(request.startRevision)
    this.wantsSnapshot = request.snapshot === "first"
  }

  /** What has arrived, as soon as there is something. */
  readonly pull: Effect.Effect<Arr.NonEmptyReadonlyArray<Delivery>, EtcdError.EtcdError> = Effect.suspend(() => {
    if (Arr.isArrayNonEmpty(this.waiting)) return Effect.succeed(this.handOver(this.waiting))
    if (this.failure !== undefined) return Effect.fail(this.failure)
    if (this.wantsSnapshot) return this.snapshot
    return this.carrier === undefined ? Effect.andThen(this.takeSeat, this.awaitArrival) : this.awaitArrival
  })

  private handOver<A>(waiting: A): A {
    this.waiting = []
    this.size = 0
    return waiting
  }

  private readonly takeSeat: Effect.Effect<void> = Effect.suspend(() => {
    if (!this.wantsToken) return this.office.seat(this)
    this.wantsToken = false
    return Effect.andThen(this.office.renewToken, this.office.seat(this))
  })

  private readonly awaitArrival: Effect.Effect<Arr.NonEmptyReadonlyArray<Delivery>, EtcdError.EtcdError> =
    Effect.flatMap(
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
    return this.waiting.length > 0 || this.failure !== undefined || this.wantsSnapshot || this.carrier === undefined
  }

  private readonly snapshot: Effect.Effect<Arr.NonEmptyReadonlyArray<Delivery>, EtcdError.EtcdError> = Effect.suspend(
    () =>
      Effect.map(this.office.readSnapshot(this.request), (snapshot) => {
        this.wantsSnapshot = false
        this.cursor.next = snapshot.revision + 1n
        return [snapshot]
      })
  )

  /** A server has taken the watch when its store was at this revision. */
  created(revision: bigint): void {
    this.renewals = 0
    this.cursor.created(revision)
    if (this.announced) return
    this.announced = true
    if (this.request.created) this.deliver({ _tag: "Created", revision: this.cursor.next }, 0)
  }

  /** Events have arrived. */
  events(arrived: ReadonlyArray<Event>, more: boolean): void {
    const events = this.cursor.take(arrived, more)
    if (events.length > 0) this.deliver({ _tag: "Events", events }, sizeOf(events))
  }

  /** The server has said that nothing up to this revision is still to come. */
  progress(revision: bigint): void {
    if (!this.cursor.progress(revision) || !this.request.progress) return
    if (this.waiting.at(-1)?._tag === "Progress") this.waiting.pop()
    this.deliver({ _tag: "Progress", revision }, 0)
  }

  /** The server has ended the watch. Nobody carries it any more. */
  canceled(error: EtcdError.EtcdError): void {
    this.carrier = undefined
    if (error.reason._tag === "Compacted" && this.request.snapshot !== "never") {
      this.wantsSnapshot = true
      this.tell()
    } else if (isTokenRefused(error) && this.renewals < maxRenewals) {
      this.renewals++
      this.wantsToken = true
      this.tell()
    } else {
      this.fail(error)
    }
  }

  /** The watch cannot go on. */
  fail(error: EtcdError.EtcdError): void {
    this.carrier = undefined
    this.failure ??= error
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
      this.isSlow = true
      this.leave()
    }
    this.tell()
  }

  private leave(): void {
    const { carrier } = this
    this.carrier = undefined
    carrier?.leave(this)
  }

  private tell(): void {
    const { wake } = this
    this.wake = undefined
    wake?.()
  }
}
