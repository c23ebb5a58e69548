/**
 * Reading and writing keys.
 *
 * Keys and values are bytes to etcd: they go in as text or bytes and come out as bytes with getters for the text. Every
 * change of any key has a revision, a number that grows through the whole store; `header.revision` of an answer is the
 * store's revision when it was given.
 *
 * Besides the reasons that are said of each function, all of them fail with `InvalidArgument` where an argument or an option
 * makes no sense, before anything is sent, and with those of every call: `Unreachable`, `DeadlineExceeded`,
 * `PermissionDenied` and so on (`EtcdError`). After a write has failed, `outcome` of the error
 * says whether it was certainly not applied, or whether that is unknown. Interrupting a call cancels it; a write may
 * have been applied all the same.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdClient from "./EtcdClient.ts"
import * as EtcdError from "./EtcdError.ts"
import type { LeaseId } from "./EtcdId.ts"
import type { Header, KeyValue } from "./EtcdResponse.ts"
import * as Origin from "./internal/client/origin.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Keys from "./internal/keys.ts"
import * as Requests from "./internal/kv/requests.ts"
import * as KeyStream from "./internal/kv/stream.ts"
import * as Options from "./internal/options.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as Tracing from "./internal/tracing.ts"
import * as KeyRange from "./KeyRange.ts"

/**
 * How a key or a range is read.
 *
 * @category options
 * @since 0.1.0
 */
export interface ReadOptions extends EtcdClient.CallOptions {
  /**
   * Reads the store as it was at this revision. Default, and `0n`: as it is now. Fails with `Compacted` where it is
   * gone.
   */
  readonly revision?: bigint | undefined
  /**
   * Lets the member that is asked answer from what it has, which is faster and may be stale. Default: false, the answer
   * is linearizable (it reflects every write acknowledged before the request).
   */
  readonly serializable?: boolean | undefined
}

/**
 * How a range is read.
 *
 * @category options
 * @since 0.1.0
 */
export interface RangeOptions extends ReadOptions {
  /** At most so many keys, the first ones in the order. Default, 0 and infinity: no limit. */
  readonly limit?: number | bigint | undefined
  /** What to sort by. Default: by key. */
  readonly sortBy?: "key" | "version" | "createRevision" | "modRevision" | "value" | undefined
  /** From small to large, or from large to small. Default: ascending. */
  readonly order?: "ascending" | "descending" | undefined
  /** Leaves the values out: they are empty. Default: false. */
  readonly keysOnly?: boolean | undefined
  /** Leaves the keys out as well: only `count` is answered. Default: false. */
  readonly countOnly?: boolean | undefined
  /** Leaves out keys changed last before this revision. Default, and `0n`: no bound. */
  readonly minModRevision?: bigint | undefined
  /** Leaves out keys changed last after this revision. Default, and `0n`: no bound. */
  readonly maxModRevision?: bigint | undefined
  /** Leaves out keys created before this revision. Default, and `0n`: no bound. */
  readonly minCreateRevision?: bigint | undefined
  /** Leaves out keys created after this revision. Default, and `0n`: no bound. */
  readonly maxCreateRevision?: bigint | undefined
}

/**
 * How a range is streamed.
 *
 * @category options
 * @since 0.1.0
 */
export interface StreamOptions extends ReadOptions {
  /** Leaves the values out: they are empty. Default: false. */
  readonly keysOnly?: boolean | undefined
  /**
   * At most so many keys in one answer. There are fewer where the values are large, so that an answer has about 2 MiB;
   * how large the next ones are shows only when they come, so take less than the default if most values of a range are
   * small and some are very large. From 1 on. Default: 16,384.
   */
  readonly pageSize?: number | undefined
}

/**
 * The keys of a range.
 *
 * @category models
 * @since 0.1.0
 */
export interface RangeResult {
  readonly header: Header
  /** In the order asked for; empty with `countOnly`. */
  readonly kvs: ReadonlyArray<KeyValue>
  /** Whether the limit left keys out; false with `countOnly`. */
  readonly more: boolean
  /** How many keys the range has, whatever the limit, and the bounds of revisions, leave out. */
  readonly count: bigint
}

/**
 * How a key is written.
 *
 * @category options
 * @since 0.1.0
 */
export interface PutOptions extends EtcdClient.CallOptions {
  /** Deletes the key when this lease ends. Default, and `0n`: the key stays. */
  readonly lease?: LeaseId | undefined
  /** Answers with what the key held before. Default: false. */
  readonly previousValue?: boolean | undefined
  /**
   * Keeps the value that the key has, and changes the rest. The key must exist (or `KeyNotFound`), and the value given be
   * empty (or `InvalidArgument`). Default: false.
   */
  readonly ignoreValue?: boolean | undefined
  /**
   * Keeps the lease that the key has. The key must exist (or `KeyNotFound`), and no `lease` be given (or
   * `InvalidArgument`). Default: false, so that a put without `lease` takes the key's away.
   */
  readonly ignoreLease?: boolean | undefined
}

/**
 * A key was written, at the revision of the header.
 *
 * @category models
 * @since 0.1.0
 */
export interface PutResult {
  readonly header: Header
  /** What the key held before, if it existed and `previousValue` was asked for. */
  readonly previous: Option.Option<KeyValue>
}

/**
 * How keys are deleted.
 *
 * @category options
 * @since 0.1.0
 */
export interface DeleteOptions extends EtcdClient.CallOptions {
  /** Answers with what the keys held. Default: false. */
  readonly previousValues?: boolean | undefined
  /** Fails with `KeyNotFound` when there was nothing to delete. Default: false. */
  readonly errorOnMissing?: boolean | undefined
}

/**
 * Keys were deleted, at the revision of the header, or none was, which makes no revision.
 *
 * @category models
 * @since 0.1.0
 */
export interface DeleteResult {
  readonly header: Header
  /** How many keys were deleted: `0n` where there was none. */
  readonly deleted: bigint
  /** What the keys held, in their order, if `previousValues` was asked for; empty otherwise. */
  readonly previous: ReadonlyArray<KeyValue>
}

/**
 * How the history is compacted.
 *
 * @category options
 * @since 0.1.0
 */
export interface CompactOptions extends EtcdClient.CallOptions {
  /** Waits until the old revisions are gone from the member's disk too. Default: false. */
  readonly physical?: boolean | undefined
}

/**
 * Reads and writes the keys of one cluster. Its functions are those of this module, which have more to say.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** The value and history of one key, or `None` if there is no such key. More at {@link get}. */
  readonly get: (
    key: KeyRange.Bytes,
    options?: ReadOptions | undefined
  ) => Effect.Effect<Option.Option<KeyValue>, EtcdError.EtcdError>
  /** The value of one key as text, or `None` if there is no such key. More at {@link getString}. */
  readonly getString: (
    key: KeyRange.Bytes,
    options?: ReadOptions | undefined
  ) => Effect.Effect<Option.Option<string>, EtcdError.EtcdError>
  /** The keys of a range, in one answer. More at {@link range}. */
  readonly range: (
    range: KeyRange.Input,
    options?: RangeOptions | undefined
  ) => Effect.Effect<RangeResult, EtcdError.EtcdError>
  /**
   * All keys of a range in their order, as they are at one revision: that of the first answer, or the one given. More at
   * {@link stream}.
   */
  readonly stream: (
    range: KeyRange.Input,
    options?: StreamOptions | undefined
  ) => Stream.Stream<KeyValue, EtcdError.EtcdError>
  /** Writes one key. When it succeeds, the write is on the disks of a majority of the cluster. More at {@link put}. */
  readonly put: (
    key: KeyRange.Bytes,
    value: KeyRange.Bytes,
    options?: PutOptions | undefined
  ) => Effect.Effect<PutResult, EtcdError.EtcdError>
  /**
   * Deletes one key, or a range of keys. That there is none is no error, unless `errorOnMissing` asks for one
   * (`KeyNotFound`). More at `delete` of the module.
   */
  readonly delete: (
    range: KeyRange.Input,
    options?: DeleteOptions | undefined
  ) => Effect.Effect<DeleteResult, EtcdError.EtcdError>
  /** Deletes all keys that begin with the prefix, like a directory. More at {@link deletePrefix}. */
  readonly deletePrefix: (
    prefix: KeyRange.Bytes,
    options?: DeleteOptions | undefined
  ) => Effect.Effect<DeleteResult, EtcdError.EtcdError>
  /**
   * Forgets the history before a revision. Reads and watches from before it fail with `Compacted` afterwards. More at
   * {@link compact}.
   */
  readonly compact: (
    revision: bigint,
    options?: CompactOptions | undefined
  ) => Effect.Effect<Header, EtcdError.EtcdError>
}

/**
 * The service that reads and writes keys: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdKv extends Context.Service<EtcdKv, Service>()("effect-etcd/EtcdKv") {}

const ofCompact: Options.Checks<Options.Own<CompactOptions>> = { physical: Options.flag }

const wrongKey = (who: string, key: unknown) => Options.wrongArgument(who, "the key", Options.key, key)

const wrongRange = (who: string, range: unknown) => Options.wrongArgument(who, "the range", Options.range, range)

/** A key, or any key of a range, had to exist and does not. */
const keyNotFound = ({ end, key }: KeyRange.KeyRange): EtcdError.EtcdError => {
  const message =
    end.length === 0
      ? `There is no key ${Keys.show(key)}.`
      : `There is no key from ${Keys.show(key)} up to ${Keys.show(end)}.`
  return EtcdError.make(new EtcdError.KeyNotFound({ message, outcome: "not-applied" }))
}

/**
 * The service over a client: for a program with more than one client. It ends with the client.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdKv } from "effect-etcd"
 *
 * const copied = Effect.gen(function*() {
 *   const here = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints: ["10.0.0.1:2379"] }))
 *   const there = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints: ["10.1.0.1:2379"] }))
 *   const { kvs } = yield* here.range("settings/color")
 *   for (const kv of kvs) yield* there.put(kv.key, kv.value)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Service => {
  const grounded = Origin.ground(client)
  const getAs =
    (who: string): Service["get"] =>
    (key, options) =>
      wrongKey(who, key) ??
      Options.wrongOptions(who, Requests.ofRead, options) ??
      Effect.map(
        grounded.unary(
          Rpc.KV.method.range,
          {
            key: KeyRange.toBytes(key),
            revision: options?.revision ?? 0n,
            serializable: options?.serializable ?? false
          },
          options
        ),
        (response) => Wire.optionalKeyValue(response.kvs[0])
      )

  const getKey = getAs("EtcdKv.getString")

  const deleteAs = (who: string, range: KeyRange.KeyRange, options: DeleteOptions | undefined) =>
    Options.wrongOptions(who, Requests.ofDelete, options) ??
    Effect.flatMap(
      grounded.unary(Rpc.KV.method.deleteRange, Requests.deleteRange(range, options ?? {}), options),
      (response) =>
        options?.errorOnMissing === true && response.deleted === 0n
          ? Effect.fail(keyNotFound(range))
          : Effect.succeed(Requests.deleteResult(response, Wire.header(response.header)))
    )

  return {
    get: getAs("EtcdKv.get"),
    getString: (key, options) =>
      Effect.map(
        getKey(key, options),
        Option.map((kv) => kv.valueString)
      ),
    range: (range, options) =>
      wrongRange("EtcdKv.range", range) ??
      Options.wrongOptions("EtcdKv.range", Requests.ofRange, options) ??
      Effect.map(
        grounded.unary(Rpc.KV.method.range, Requests.range(KeyRange.fromInput(range), options ?? {}), options),
        (response) => Requests.rangeResult(response, Wire.header(response.header))
      ),
    stream: (range, options) => {
      const wrong =
        wrongRange("EtcdKv.stream", range) ?? Options.wrongOptions("EtcdKv.stream", Requests.ofStream, options)
      return wrong === undefined
        ? Tracing.tracedStream(KeyStream.stream(grounded, KeyRange.fromInput(range), options ?? {}), "EtcdKv.stream")
        : Stream.fromEffect(wrong)
    },
    put: (key, value, options) =>
      wrongKey("EtcdKv.put", key) ??
      Options.wrongArgument("EtcdKv.put", "the value", Options.value, value) ??
      Options.wrongOptions("EtcdKv.put", Requests.ofPut, options) ??
      Effect.map(grounded.unary(Rpc.KV.method.put, Requests.put(key, value, options ?? {}), options), (response) =>
        Requests.putResult(response, Wire.header(response.header))
      ),
    delete: (range, options) =>
      wrongRange("EtcdKv.delete", range) ?? deleteAs("EtcdKv.delete", KeyRange.fromInput(range), options),
    deletePrefix: (prefix, options) =>
      Options.wrongArgument("EtcdKv.deletePrefix", "the prefix", Options.bytes, prefix) ??
      deleteAs("EtcdKv.deletePrefix", KeyRange.prefix(prefix), options),
    compact: (revision, options) =>
      Options.wrongArgument("EtcdKv.compact", "the revision", Options.revision, revision) ??
      Options.wrongOptions("EtcdKv.compact", ofCompact, options) ??
      Effect.map(
        grounded.unary(Rpc.KV.method.compact, { revision, physical: options?.physical ?? false }, options),
        (response) => Wire.header(response.header)
      )
  }
}

/**
 * Provides {@link EtcdKv} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides it with all the
 * others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdKv } from "effect-etcd"
 *
 * const live = EtcdKv.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdKv, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdKv,
  Effect.map(EtcdClient.EtcdClient, fromClient)
)

/**
 * The value and history of one key, or `None` if there is no such key.
 *
 * With a `revision`: as it was then. Fails with `Compacted` where that is gone, and with `FutureRevision` where it is yet to
 * come.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdKv } from "effect-etcd"
 *
 * const changedLast = Effect.gen(function*() {
 *   const kv = yield* EtcdKv.get("settings/color")
 *   return Option.map(kv, ({ modRevision, valueString }) => `${valueString}, since revision ${modRevision}`)
 * })
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const get = (
  key: KeyRange.Bytes,
  options?: ReadOptions | undefined
): Effect.Effect<Option.Option<KeyValue>, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.get(key, options))

/**
 * The value of one key as text, or `None` if there is no such key. Bytes that are no UTF-8 become U+FFFD; {@link get} has
 * them as they are.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 *
 * const greet = Effect.gen(function*() {
 *   yield* EtcdKv.put("hello", "world")
 *   return yield* EtcdKv.getString("hello") // Option.some("world")
 * })
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const getString = (
  key: KeyRange.Bytes,
  options?: ReadOptions | undefined
): Effect.Effect<Option.Option<string>, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.getString(key, options))

/**
 * The keys of a range, in one answer.
 *
 * An answer larger than the client takes (`maxReceiveMessageSize`, 2 GiB by default) fails with `ProtocolViolation`, and a
 * large one costs memory here and at the server: set a `limit`, or use {@link stream}. Fails as {@link get} does.
 *
 * @example
 * ```ts
 * import { EtcdKv, KeyRange } from "effect-etcd"
 *
 * const newest = EtcdKv.range(KeyRange.prefix("jobs/"), { sortBy: "createRevision", order: "descending", limit: 10 })
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const range = (
  range: KeyRange.Input,
  options?: RangeOptions | undefined
): Effect.Effect<RangeResult, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.range(range, options))

/**
 * All keys of a range in their order, as they are at one revision: that of the first answer, or the one given.
 *
 * They are read page by page, the next page while the last one is being used, so that memory stays flat however many
 * keys there are. A member that fails on the way does not end the stream; another one goes on at the same key and
 * revision. `deadline` and `retry` hold for each page. A stream that is read so slowly that the history is compacted
 * meanwhile fails with `Compacted`, and with `FutureRevision` where the store has gone back (a backup was restored).
 *
 * To go on from there with a watch, read the revision first (`EtcdKv.range` with `countOnly`), and give it to both.
 *
 * @example
 * ```ts
 * import { Console, Stream } from "effect"
 * import { EtcdKv, KeyRange } from "effect-etcd"
 *
 * const dump = EtcdKv.stream(KeyRange.all).pipe(
 *   Stream.runForEach((kv) => Console.log(kv.keyString, kv.valueString))
 * )
 * ```
 *
 * @category reading
 * @since 0.1.0
 */
export const stream = (
  range: KeyRange.Input,
  options?: StreamOptions | undefined
): Stream.Stream<KeyValue, EtcdError.EtcdError, EtcdKv> =>
  Stream.unwrap(EtcdKv.useSync((kv) => kv.stream(range, options)))

/**
 * Writes one key. When it succeeds, the write is on the disks of a majority of the cluster.
 *
 * When it fails, the reason's `outcome` says whether the write was certainly not applied or whether that is unknown.
 * Fails with `LeaseNotFound` where there is no such `lease`, with `RequestTooLarge` beyond the server's limit (1.5 MiB
 * by default), and with `NoSpace` when a member's quota is used up (outcome: `unknown`).
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdKv } from "effect-etcd"
 *
 * const paint = Effect.gen(function*() {
 *   const { header, previous } = yield* EtcdKv.put("settings/color", "green", { previousValue: true })
 *   const before = Option.map(previous, (kv) => kv.valueString)
 *   return { at: header.revision, before }
 * })
 * ```
 *
 * @category writing
 * @since 0.1.0
 */
export const put = (
  key: KeyRange.Bytes,
  value: KeyRange.Bytes,
  options?: PutOptions | undefined
): Effect.Effect<PutResult, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.put(key, value, options))

const delete_ = (
  range: KeyRange.Input,
  options?: DeleteOptions | undefined
): Effect.Effect<DeleteResult, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.delete(range, options))

export {
  /**
   * Deletes one key, or a range of keys. That there is none is no error, unless `errorOnMissing` asks for one
   * (`KeyNotFound`). All go in one step, at one revision.
   *
   * @example
   * ```ts
   * import { EtcdKv } from "effect-etcd"
   *
   * const gone = EtcdKv.delete("hello", { errorOnMissing: true })
   * ```
   *
   * @category writing
   * @since 0.1.0
   */
  delete_ as delete
}

/**
 * Deletes all keys that begin with the prefix, like a directory. All go in one step, at one revision. The empty prefix is
 * every key.
 *
 * @example
 * ```ts
 * import { EtcdKv } from "effect-etcd"
 *
 * const cleared = EtcdKv.deletePrefix("cache/") // not "cache", which "cached" begins with too
 * ```
 *
 * @category writing
 * @since 0.1.0
 */
export const deletePrefix = (
  prefix: KeyRange.Bytes,
  options?: DeleteOptions | undefined
): Effect.Effect<DeleteResult, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.deletePrefix(prefix, options))

/**
 * Forgets the history before a revision. Reads and watches from before it fail with `Compacted` afterwards. What every key
 * holds at that revision stays.
 *
 * Fails with `Compacted` where that has been done already, and with `FutureRevision` for a revision that is yet to come.
 * With authentication, etcd 3.5 and newer take it only from who has the role `root`. It has no deadline by default. The
 * room within the database is free for new revisions then; `EtcdMaintenance.defragment` gives it back to the file system.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 *
 * const keepThousand = Effect.gen(function*() {
 *   const { header } = yield* EtcdKv.range("any", { countOnly: true })
 *   if (header.revision > 1000n) yield* EtcdKv.compact(header.revision - 1000n)
 * })
 * ```
 *
 * @category writing
 * @since 0.1.0
 */
export const compact = (
  revision: bigint,
  options?: CompactOptions | undefined
): Effect.Effect<Header, EtcdError.EtcdError, EtcdKv> => EtcdKv.use((kv) => kv.compact(revision, options))
