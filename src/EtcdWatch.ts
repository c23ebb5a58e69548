/**
 * Watching keys change.
 *
 * A watch is a `Stream`: it delivers every change of its range once, in the order of the revisions, from the revision
 * it was asked to start at, or fails with the reason why it cannot.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdClient from "./EtcdClient.ts"
import * as EtcdError from "./EtcdError.ts"
import type { KeyValue } from "./EtcdKv.ts"
import type * as Proto from "./internal/proto/kv_pb.ts"
import { Event_EventType } from "./internal/proto/kv_pb.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as Wire from "./internal/wire.ts"
import * as KeyRange from "./KeyRange.ts"

/**
 * A key was written.
 *
 * @category models
 * @since 0.1.0
 */
export class Put extends Data.TaggedClass("Put")<{
  readonly kv: KeyValue
  /** What the key held before, if it existed and `previousValues` was asked for. */
  readonly previous: Option.Option<KeyValue>
}> {
  /** Whether the write created the key. */
  get isCreate(): boolean {
    return this.kv.createRevision === this.kv.modRevision
  }
}

/**
 * A key was deleted, by a request or by the end of its lease.
 *
 * @category models
 * @since 0.1.0
 */
export class Delete extends Data.TaggedClass("Delete")<{
  /** The key, and as `modRevision` the revision that deleted it. The value is empty. */
  readonly kv: KeyValue
  /** What the key held, if `previousValues` was asked for. */
  readonly previous: Option.Option<KeyValue>
}> {}

/**
 * A change of a key.
 *
 * @category models
 * @since 0.1.0
 */
export type WatchEvent = Put | Delete

/**
 * What a watch delivers.
 *
 * @category options
 * @since 0.1.0
 */
export interface WatchOptions {
  /** Delivers the changes from this revision on, itself included. Default: those that come after the watch started. */
  readonly startRevision?: bigint | undefined
  /** Delivers with each change what the key held before. Default: false. */
  readonly previousValues?: boolean | undefined
  /** Leaves out writes, or deletions. Default: neither. */
  readonly ignore?: "puts" | "deletes" | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Watch {
  readonly watch: (
    range: KeyRange.Input,
    options?: WatchOptions | undefined
  ) => Stream.Stream<WatchEvent, EtcdError.EtcdError>
  readonly next: (
    key: KeyRange.Input,
    options?: WatchOptions | undefined
  ) => Effect.Effect<WatchEvent, EtcdError.EtcdError>
}

/**
 * The service that watches keys.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdWatch extends Context.Service<EtcdWatch, Watch>()("effect-etcd/EtcdWatch") {}

const watchEvent = (event: Proto.Event): WatchEvent => {
  const fields = { kv: Wire.keyValue(event.kv!), previous: Wire.optionalKeyValue(event.prevKv) }
  return event.type === Event_EventType.DELETE ? new Delete(fields) : new Put(fields)
}

const filters = (options: WatchOptions) => {
  if (options.ignore === "puts") return [Rpc.WatchCreateRequest_FilterType.NOPUT]
  return options.ignore === "deletes" ? [Rpc.WatchCreateRequest_FilterType.NODELETE] : []
}

const createRequest = (range: KeyRange.KeyRange, options: WatchOptions) => ({
  requestUnion: {
    case: "createRequest" as const,
    value: {
      key: range.key,
      rangeEnd: range.end,
      startRevision: options.startRevision ?? 0n,
      prevKv: options.previousValues ?? false,
      filters: filters(options)
    }
  }
})

/** The events of an answer, or why the server ended the watch. */
const eventsOf = (response: Rpc.WatchResponse) =>
  response.canceled ? Effect.fail(EtcdError.watchCanceled(response)) : Effect.succeed(response.events.map(watchEvent))

/**
 * The service over a client.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: EtcdClient.EtcdClient["Service"]): Watch => {
  const watch: Watch["watch"] = (range, options = {}) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const call = yield* client.bidirectional(Rpc.Watch.method.watch)
        yield* call.send(createRequest(KeyRange.fromInput(range), options))
        return call.messages.pipe(Stream.mapEffect(eventsOf), Stream.flattenIterable)
      })
    )
  return {
    watch,
    next: (key, options) =>
      Effect.flatMap(Stream.runHead(watch(key, options)), (first) =>
        Option.isSome(first) ? Effect.succeed(first.value) : Effect.fail(EtcdError.watchEnded())
      )
  }
}

/**
 * Provides {@link EtcdWatch} over the {@link EtcdClient.EtcdClient} that is there.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdWatch, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdWatch,
  Effect.map(EtcdClient.EtcdClient, make)
)

/**
 * The changes of a key or a range. Closing the stream ends the watch on the server.
 *
 * Fails with `Compacted` when the history that it needs is gone, and with the reason when the connection is lost.
 *
 * @example
 * ```ts
 * import { Console, Stream } from "effect"
 * import { EtcdWatch, KeyRange } from "effect-etcd"
 *
 * const follow = EtcdWatch.watch(KeyRange.prefix("settings/")).pipe(
 *   Stream.runForEach((event) => Console.log(event._tag, event.kv.keyString, event.kv.valueString))
 * )
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const watch = (
  range: KeyRange.Input,
  options?: WatchOptions | undefined
): Stream.Stream<WatchEvent, EtcdError.EtcdError, EtcdWatch> =>
  Stream.unwrap(EtcdWatch.useSync((service) => service.watch(range, options)))

/**
 * Waits for the next change of a key (or range), and answers with it.
 *
 * "Next" counts from when the server has taken the watch. To miss nothing since a read or write of which the revision
 * is known, give `startRevision: revision + 1n`.
 *
 * @category watching
 * @since 0.1.0
 */
export const next = (
  key: KeyRange.Input,
  options?: WatchOptions | undefined
): Effect.Effect<WatchEvent, EtcdError.EtcdError, EtcdWatch> => EtcdWatch.use((service) => service.next(key, options))
