/**
 * Watching keys change.
 *
 * A watch is a `Stream` that keeps what etcd promises: it delivers every change of its range once, in the order of the
 * revisions, the changes of one revision together, from the revision that it was asked to start at; otherwise it fails
 * with the reason why it cannot. It goes on by itself when its server stops, loses its leader, is cut off, breaks off, or
 * no longer knows the token: on another member if need be, right after the last revision that it has delivered. While no
 * server takes it, the log says so, once.
 *
 * Watches share calls to the server. Each has a buffer of its own; when its reader is so slow that the buffer is full,
 * the watch leaves the server, and comes back for the rest, from etcd's history, when the reader has caught up. Other
 * watches do not notice, nor do they of one that cannot go on. A reader that stays away until its place in the history
 * is compacted gets `Compacted`.
 *
 * Where nothing changes, a server is asked about every 30 seconds how far the watch is, so that a connection that breaks
 * costs nothing although the history before is compacted. Servers before 3.4.25 and 3.5.8 cannot be asked (see
 * {@link requestProgress}): on them a range that was quiet for longer than the history lasts, and whose connection
 * breaks, may get `Compacted` though nothing was lost. A single key that is there does not: it tells itself whether it
 * was changed.
 *
 * A store may go back under a watch: an older backup is restored, or the data is wiped, and etcd starts again at the same
 * address. The watch notices that by revisions and raft terms that are behind those that it has seen, and by a history that
 * lacks what it has delivered; a linearizable read makes sure that it is not just a member that lags. It checks this
 * whenever its call is made again, and about every 30 seconds while it hears nothing, since a proxy may keep the call while
 * the store behind it goes back. Then the watch fails with `RevisionRegressed`, or continues with a {@link Snapshot}. It
 * cannot notice a new history that has passed the old revision and term by then, if that has the last write that was
 * delivered (or if none was).
 *
 * {@link watch}, {@link changes} and {@link next} fail alike: {@link watch} names the reasons. What another try may mend is
 * no failure as long as `retry` goes on.
 *
 * Some servers do not keep their side, which no client can see: a watch that lags behind a compaction may miss changes
 * (etcd before 3.4.31 and 3.5.13, https://github.com/etcd-io/etcd/pull/17612), and so may one that begins at the very
 * revision that was compacted, where a key was deleted (before 3.4.36 and 3.5.18,
 * https://github.com/etcd-io/etcd/pull/19249).
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Arr from "effect/Array"
import type * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { KeyValue } from "./EtcdResponse.ts"
import * as Reasons from "./internal/client/reasons.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Json from "./internal/json.ts"
import type * as Proto from "./internal/proto/kv_pb.ts"
import { Event_EventType } from "./internal/proto/kv_pb.ts"
import * as Time from "./internal/time.ts"
import * as Tracing from "./internal/tracing.ts"
import * as Options from "./internal/watch/options.ts"
import * as Pool from "./internal/watch/pool.ts"
import { type Delivery, Subscription } from "./internal/watch/subscription.ts"
import type * as KeyRange from "./KeyRange.ts"

/**
 * A key was written.
 *
 * @category models
 * @since 0.1.0
 */
export class Put extends Data.TaggedClass("Put")<{
  /** The key as it was written; its `modRevision` is that of the write. */
  readonly kv: KeyValue
  /** What the key held before, if it existed and `previousValues` was asked for. */
  readonly previous: Option.Option<KeyValue>
}> {
  /** Whether the write created the key. */
  get isCreate(): boolean {
    return this.kv.createRevision === this.kv.modRevision
  }

  /** As JSON, of which `EtcdResponse` says more. */
  toJSON(): unknown {
    return Json.ofFields(this)
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
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  toJSON(): unknown {
    return Json.ofFields(this)
  }
}

/**
 * A change of a key.
 *
 * @category models
 * @since 0.1.0
 */
export type Event = Put | Delete

/**
 * All changes of a range at one revision, which is what one request or transaction did there, in the order in which it
 * did it.
 *
 * @category models
 * @since 0.1.0
 */
export class Revision extends Data.TaggedClass("Revision")<{
  /** The `modRevision` of all of them. */
  readonly revision: bigint
  readonly events: Arr.NonEmptyReadonlyArray<Event>
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  toJSON(): unknown {
    return Json.ofFields(this)
  }
}

/**
 * Every change up to this revision has been delivered.
 *
 * @category models
 * @since 0.1.0
 */
export class Progress extends Data.TaggedClass("Progress")<{
  /** A watch from the next one on misses nothing. */
  readonly revision: bigint
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  toJSON(): unknown {
    return Json.ofFields(this)
  }
}

/**
 * A server has taken the watch.
 *
 * @category models
 * @since 0.1.0
 */
export class Created extends Data.TaggedClass("Created")<{
  /** The first revision that the watch delivers. */
  readonly startRevision: bigint
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  toJSON(): unknown {
    return Json.ofFields(this)
  }
}

/**
 * All keys of the range as they were at one revision. It takes the place of the changes up to then; those after it
 * follow. Where the store has gone back, its revision may be lower than those delivered before.
 *
 * @category models
 * @since 0.1.0
 */
export class Snapshot extends Data.TaggedClass("Snapshot")<{
  /** The revision at which they were read. */
  readonly revision: bigint
  /** In the order of the keys. */
  readonly kvs: ReadonlyArray<KeyValue>
  /**
   * Why there is one.
   *
   * - `first`: the watch begins with it.
   * - `compacted`: the changes since the last one that was delivered are gone, in the same history.
   * - `regressed`: the store has gone back, and has another history now.
   */
  readonly cause: "first" | "compacted" | "regressed"
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  toJSON(): unknown {
    return Json.ofFields(this)
  }
}

/**
 * What {@link changes} delivers: whole revisions, and the rest where it is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export type Change = Revision | Progress | Created | Snapshot

/**
 * What a watch delivers, and how.
 *
 * @category options
 * @since 0.1.0
 */
export interface WatchOptions extends Pick<EtcdClient.CallOptions, "endpoint" | "metadata" | "requireLeader"> {
  /**
   * Delivers the changes from this revision on, itself included; it may be one that is still to come. Default, and `0n`:
   * those that come after a server has taken the watch.
   */
  readonly startRevision?: bigint | undefined
  /** Delivers with each change what the key held before. Default: false. */
  readonly previousValues?: boolean | undefined
  /** Leaves out writes, or deletions. Default: neither. */
  readonly ignore?: "puts" | "deletes" | undefined
  /**
   * Lets the server send in pieces what is larger than its limit for requests (`--max-request-bytes`, 1.5 MiB by
   * default); they are put together here, and what is complete is delivered at once. Worth it where values are large:
   * without it, up to 1000 revisions come in one message, and one that is larger than the client takes
   * (`maxReceiveMessageSize`) ends the watch. Not worth it where single revisions have thousands of small events, which
   * etcd cuts up slowly (its `sendFragments` measures all that it has collected again for each event). Default: false.
   */
  readonly fragment?: boolean | undefined
  /**
   * How much may wait for the reader, before the watch leaves the server until the reader has caught up; at least one
   * byte, `Infinity` for as much as there is. An event counts with its keys and values and 256 bytes. What one message of
   * the server holds may come on top; see `fragment`. Default: 4 MiB.
   */
  readonly bufferSize?: ByteSize.Input | undefined
  /**
   * The pauses between tries to find a server, in real time, and when to give up. It starts anew whenever a server has
   * taken the watch, and is not asked when a server only sends its calls elsewhere, because it stops. Watches with the
   * same schedule (the same object) can share a call. Default: {@link defaultRetry}.
   */
  readonly retry?: Schedule.Schedule<unknown, EtcdError.EtcdError> | undefined
}

/**
 * What {@link changes} delivers, and how.
 *
 * @category options
 * @since 0.1.0
 */
export interface ChangesOptions extends WatchOptions {
  /**
   * Delivers {@link Progress} when the server says so: about every 30 seconds (before 3.4.25 and 3.5.8 only where
   * nothing happens, every 10 minutes, unless `--watch-progress-notify-interval` says otherwise), and when
   * {@link requestProgress} asks. Default: false.
   */
  readonly progress?: boolean | undefined
  /**
   * Delivers {@link Created} first, once. With `snapshot: "first"` the snapshot waits for it, until a server has taken
   * the watch. Default: false.
   */
  readonly created?: boolean | undefined
  /**
   * What is done where changes alone cannot tell what the keys are.
   *
   * - `never`: the watch fails with `Compacted` when a part of the history that it needs is gone, and with
   *   `RevisionRegressed` when the store has gone back.
   * - `when-compacted`: it then goes on with a fresh {@link Snapshot} of the range.
   * - `first`: it begins with one as well, and `startRevision` does not matter.
   *
   * Default: `never`.
   */
  readonly snapshot?: "never" | "when-compacted" | "first" | undefined
}

/**
 * Watches keys of one cluster. Its functions are those of this module, which have more to say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /**
   * The changes of a key or a range, one by one. Closing the stream ends the watch on the server. More at
   * {@link watch}.
   */
  readonly watch: (
    range: KeyRange.Input,
    options?: WatchOptions | undefined
  ) => Stream.Stream<Event, EtcdError.EtcdError>
  /**
   * The changes of a key or a range, one revision at a time, with what else is asked for: where the watch began, how
   * far it is when nothing happens, and the whole range at first or when its history is gone. Fails as {@link watch}
   * does. More at {@link changes}.
   */
  readonly changes: (
    range: KeyRange.Input,
    options?: ChangesOptions | undefined
  ) => Stream.Stream<Change, EtcdError.EtcdError>
  /** Waits for the next change of a key (or range), and answers with it. More at {@link next}. */
  readonly next: (key: KeyRange.Input, options?: WatchOptions | undefined) => Effect.Effect<Event, EtcdError.EtcdError>
  /**
   * Asks the servers how far the watches of this service are, all at once. Those with `progress` deliver the answer as
   * {@link Progress}; a server does not answer while one of the watches that share the call is not up to date, so ask
   * again. Watches that no server has at the moment are not asked for. More at {@link requestProgress}.
   */
  readonly requestProgress: Effect.Effect<void, EtcdError.EtcdError>
}

/**
 * The service that watches keys: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdWatch extends Context.Service<EtcdWatch, Service>()("effect-etcd/EtcdWatch") {}

/**
 * The pauses between tries to find a server for a watch: 25 ms, twice as long each time up to one second, with jitter,
 * for ever.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultRetry: Schedule.Schedule<unknown, EtcdError.EtcdError> = Time.pauses("25 millis", "1 second")

const watchEvent = (event: Proto.Event): Event => {
  const fields = { kv: Wire.keyValue(event.kv!), previous: Wire.optionalKeyValue(event.prevKv) }
  return event.type === Event_EventType.DELETE ? new Delete(fields) : new Put(fields)
}

const eventsOf = (deliveries: Arr.NonEmptyReadonlyArray<Delivery>): ReadonlyArray<Event> => {
  const events: Array<Event> = []
  for (const delivery of deliveries) {
    if (delivery._tag === "Events") for (const event of delivery.events) events.push(watchEvent(event))
  }
  return events
}

const addRevisions = (events: ReadonlyArray<Proto.Event>, changes: Array<Change>): void => {
  let revision = 0n
  let together: Array<Event> = []
  for (const event of events) {
    if (event.kv!.modRevision !== revision) {
      revision = event.kv!.modRevision
      together = []
      changes.push(new Revision({ revision, events: together as unknown as Arr.NonEmptyReadonlyArray<Event> }))
    }
    together.push(watchEvent(event))
  }
}

const snapshotOf = ({ cause, kvs, revision }: Extract<Delivery, { _tag: "Snapshot" }>): Snapshot =>
  new Snapshot({ revision, kvs: kvs.map(Wire.keyValue), cause })

const changesOf = (deliveries: Arr.NonEmptyReadonlyArray<Delivery>): ReadonlyArray<Change> => {
  const changes: Array<Change> = []
  for (const delivery of deliveries) {
    switch (delivery._tag) {
      case "Events":
        addRevisions(delivery.events, changes)
        break
      case "Progress":
        changes.push(new Progress({ revision: delivery.revision }))
        break
      case "Created":
        changes.push(new Created({ startRevision: delivery.revision }))
        break
      case "Snapshot":
        changes.push(snapshotOf(delivery))
        break
    }
  }
  return changes
}

/**
 * The service over a client. Its watches end with the scope, and it takes no more then: what is asked of it fails at once
 * with `Unreachable`.
 *
 * @example
 * ```ts
 * import { Console, Effect, Stream } from "effect"
 * import { EtcdClient, EtcdWatch, KeyRange } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"] })
 *   const watches = yield* EtcdWatch.fromClient(client)
 *   yield* Stream.runForEach(watches.watch(KeyRange.prefix("jobs/")), (event) => Console.log(event._tag))
 * })
 * const watching = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Effect.Effect<Service, never, Scope.Scope> =>
  Effect.map(Pool.make(client), (pool) => {
    const subscribe = <A>(
      who: string,
      checks: Parameters<typeof Options.request>[1],
      range: KeyRange.Input,
      options: ChangesOptions | undefined,
      itemsOf: (deliveries: Arr.NonEmptyReadonlyArray<Delivery>) => ReadonlyArray<A>
    ): Stream.Stream<A, EtcdError.EtcdError> =>
      Tracing.tracedStream(
        Stream.unwrap(
          Effect.gen(function* () {
            yield* pool.asked
            const subscription = new Subscription(
              pool,
              yield* Effect.fromResult(Options.request(who, checks, range, options, defaultRetry)),
              yield* Tracing.tell
            )
            yield* Effect.addFinalizer(() => Effect.sync(() => subscription.close()))
            const pull: Effect.Effect<Arr.NonEmptyReadonlyArray<A>, EtcdError.EtcdError> = Effect.flatMap(
              subscription.pull,
              (deliveries) => {
                const items = itemsOf(deliveries)
                return Arr.isReadonlyArrayNonEmpty(items) ? Effect.succeed(items) : pull
              }
            )
            return Stream.fromPull(Effect.succeed(pull))
          })
        ),
        who
      )
    const watchAs =
      (who: string): Service["watch"] =>
      (range, options) =>
        subscribe(who, Options.ofWatch, range, options, eventsOf)
    const one = watchAs("EtcdWatch.next")
    return {
      watch: watchAs("EtcdWatch.watch"),
      changes: (range, options) => subscribe("EtcdWatch.changes", Options.ofChanges, range, options, changesOf),
      next: (key, options) =>
        Effect.flatMap(Stream.runHead(one(key, options)), (first) =>
          Option.isSome(first) ? Effect.succeed(first.value) : Effect.fail(Reasons.watchEnded())
        ),
      requestProgress: pool.requestProgress
    }
  })

/**
 * Provides {@link EtcdWatch} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides it with
 * all the others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdWatch } from "effect-etcd"
 *
 * const live = EtcdWatch.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdWatch, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdWatch,
  Effect.flatMap(EtcdClient.EtcdClient, fromClient)
)

/**
 * The changes of a key or a range, one by one. Closing the stream ends the watch on the server.
 *
 * Fails with `Compacted` when the history that it needs is gone, with `RevisionRegressed` when the store has gone back,
 * with `ClusterIdMismatch` when only another cluster answers, with `PermissionDenied` when the user may not read all of
 * the range, with `InvalidArgument` for an option that makes no sense and a range that no key can be in, with
 * `ProtocolViolation` for a message that is larger than the client takes, with the last failure when `retry` gives up,
 * and with `Unreachable` when the client or the service is closed, or when no connection can come until somebody mends
 * what is wrong (an authority that is unknown, say) and no server has ever had the watch.
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
): Stream.Stream<Event, EtcdError.EtcdError, EtcdWatch> =>
  Stream.unwrap(EtcdWatch.useSync((service) => service.watch(range, options)))

/**
 * The changes of a key or a range, one revision at a time, with what else is asked for: where the watch began, how far
 * it is when nothing happens, and the whole range at first or when its history is gone. Fails as {@link watch} does.
 *
 * With `snapshot: "first"` it is all that a copy of the range needs:
 *
 * @example
 * ```ts
 * import { Stream } from "effect"
 * import { EtcdWatch, KeyRange } from "effect-etcd"
 *
 * const copies = EtcdWatch.changes(KeyRange.prefix("settings/"), { snapshot: "first" }).pipe(
 *   Stream.scan(() => new Map<string, string>(), (copy, change) => {
 *     if (change._tag === "Snapshot") return new Map(change.kvs.map((kv) => [kv.keyString, kv.valueString]))
 *     if (change._tag !== "Revision") return copy
 *     const next = new Map(copy)
 *     for (const { _tag, kv } of change.events) {
 *       if (_tag === "Put") next.set(kv.keyString, kv.valueString)
 *       else next.delete(kv.keyString)
 *     }
 *     return next
 *   })
 * )
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const changes = (
  range: KeyRange.Input,
  options?: ChangesOptions | undefined
): Stream.Stream<Change, EtcdError.EtcdError, EtcdWatch> =>
  Stream.unwrap(EtcdWatch.useSync((service) => service.changes(range, options)))

/**
 * Waits for the next change of a key (or range), and answers with it.
 *
 * "Next" counts from when the server has taken the watch. To miss nothing since a read or write of which the revision
 * is known, give `startRevision: revision + 1n`. Fails as {@link watch} does. It waits as long as it takes; bound it with
 * `Effect.timeout`, which ends the watch on the server too.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv, EtcdWatch } from "effect-etcd"
 *
 * const answered = Effect.gen(function*() {
 *   const { header } = yield* EtcdKv.put("questions/1", "why?")
 *   return yield* EtcdWatch.next("answers/1", { startRevision: header.revision + 1n, ignore: "deletes" })
 * }).pipe(Effect.timeout("1 minute"))
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const next = (
  key: KeyRange.Input,
  options?: WatchOptions | undefined
): Effect.Effect<Event, EtcdError.EtcdError, EtcdWatch> => EtcdWatch.use((service) => service.next(key, options))

/**
 * Asks the servers how far the watches of this service are, all at once. Those with `progress` deliver the answer as
 * {@link Progress}; a server does not answer while one of the watches that share the call is not up to date, so ask
 * again. Watches that no server has at the moment are not asked for.
 *
 * Fails with `Unsupported` where a server's answer could not be relied on: before 3.4.25 and 3.5.8 it may be ahead of
 * the changes that were sent (https://github.com/etcd-io/etcd/issues/15220). Fails with `DeadlineExceeded`, which names
 * the endpoint, where a server does not say within 5 seconds which version it is. The others were asked all the same.
 *
 * @example
 * ```ts
 * import { Effect, Option, Stream } from "effect"
 * import { EtcdWatch, KeyRange } from "effect-etcd"
 *
 * // The first revision of which a watch is sure that it has delivered everything up to it.
 * const caughtUpTo = EtcdWatch.changes(KeyRange.prefix("jobs/"), { progress: true, created: true }).pipe(
 *   Stream.tap((change) => (change._tag === "Created" ? EtcdWatch.requestProgress : Effect.void)),
 *   Stream.filter((change) => change._tag === "Progress"),
 *   Stream.runHead,
 *   Effect.map(Option.map(({ revision }) => revision))
 * )
 * ```
 *
 * @category watching
 * @since 0.1.0
 */
export const requestProgress: Effect.Effect<void, EtcdError.EtcdError, EtcdWatch> = EtcdWatch.use(
  (service) => service.requestProgress
)
