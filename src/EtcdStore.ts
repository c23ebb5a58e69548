/**
 * A typed store: the keys below a prefix, whose values are encoded and decoded by a schema.
 *
 * A store is a value, made without a connection; its functions need the services that they use. Keys are given and come
 * back without the prefix, as text and as bytes: what is not UTF-8 only the bytes tell.
 *
 * Values are JSON unless the store is told otherwise: what `Schema.toCodecJson` makes of the schema, so that dates,
 * bigints, options and the like come back as they went.
 *
 * Besides what is said of each function of a store, all fail with `InvalidArgument` where the store, a key or an option makes
 * no sense, and as the functions of `EtcdKv`, `EtcdTxn` and `EtcdWatch` that they call. Those that read fail with
 * {@link EtcdSchemaError} where a value does not decode, unless they are told to leave it out (`onInvalid`); those that write,
 * where one does not encode, before anything is sent.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Arr from "effect/Array"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { LeaseId } from "./EtcdId.ts"
import * as EtcdKv from "./EtcdKv.ts"
import type * as EtcdResponse from "./EtcdResponse.ts"
import * as EtcdTxn from "./EtcdTxn.ts"
import * as EtcdWatch from "./EtcdWatch.ts"
import * as Json from "./internal/json.ts"
import * as Keys from "./internal/keys.ts"
import * as Requests from "./internal/kv/requests.ts"
import * as Checks from "./internal/options.ts"
import * as Tracing from "./internal/tracing.ts"
import * as WatchChecks from "./internal/watch/options.ts"
import * as KeyRange from "./KeyRange.ts"

/**
 * A value does not fit the schema: one that was read and does not decode, or one that was to be written and does not
 * encode (it was not sent). The message names the key, and `cause` is the `SchemaError` that says what does not fit, or
 * what a transformation of the schema has thrown.
 *
 * @category errors
 * @since 0.1.0
 */
export class EtcdSchemaError extends Schema.TaggedError<EtcdSchemaError>()("EtcdSchemaError", {
  message: Schema.String,
  /** `decode` of what was read, or `encode` of what was to be written. */
  operation: Schema.Literals(["decode", "encode"]),
  /** The whole key as text, with the prefix. */
  key: Schema.String,
  /** The whole key as it is. */
  keyBytes: Schema.Uint8Array,
  /** The revision that wrote the value, where it was read. */
  modRevision: Schema.optionalKey(Schema.BigInt),
  cause: Schema.Defect()
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The key is not, or no longer, at the revision that a compare-and-set expected. Nothing was written.
 *
 * @category errors
 * @since 0.1.0
 */
export class EtcdConflict extends Data.TaggedError("EtcdConflict")<{
  /** The whole key as text, with the prefix. */
  readonly key: string
  /** The whole key as it is. */
  readonly keyBytes: Uint8Array
  /** 0 where the key was expected not to exist. */
  readonly expectedRevision: bigint
  /** The key as it is, if it exists. */
  readonly current: Option.Option<EtcdResponse.KeyValue>
}> {
  /** What was expected, and what was found. */
  override get message(): string {
    const expected = this.expectedRevision === 0n ? "not to exist" : `to be at revision ${this.expectedRevision}`
    const found = Option.match(this.current, {
      onNone: () => "it does not exist",
      onSome: (kv) => `it is at revision ${kv.modRevision}`
    })
    return `The key ${JSON.stringify(this.key)} was expected ${expected}; ${found}. Read it again and decide anew.`
  }

  /** As JSON, of which `EtcdResponse` says more. The value is left out: it may be secret, which only its schema knows. */
  override toJSON(): object {
    const current = Option.map(this.current, ({ createRevision, modRevision, version }) => ({
      createRevision,
      modRevision,
      version
    }))
    return { ...Json.ofError(this), current: Json.json(current) }
  }
}

/**
 * A decoded value with its key and history.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry<out A> {
  /** The key as text, without the store's prefix. */
  readonly key: string
  /** The key as it is, without the store's prefix. */
  readonly keyBytes: Uint8Array
  /** What the schema makes of the bytes. */
  readonly value: A
  /** The revision that created the key. */
  readonly createRevision: bigint
  /** The revision that changed the key last: what a compare-and-set wants to know. */
  readonly modRevision: bigint
  /** How often the key was written since it was created: 1 after creation. */
  readonly version: bigint
  /** The lease whose end deletes the key. */
  readonly lease: Option.Option<LeaseId>
}

/**
 * An entry was written.
 *
 * @category models
 * @since 0.1.0
 */
export interface Put<out A> {
  readonly _tag: "Put"
  readonly entry: Entry<A>
  /** What the key held before, if it existed and `previousValues` was asked for. */
  readonly previous: Option.Option<Entry<A>>
}

/**
 * An entry was deleted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Delete<out A> {
  readonly _tag: "Delete"
  /** The key as text, without the store's prefix. */
  readonly key: string
  /** The key as it is, without the store's prefix. */
  readonly keyBytes: Uint8Array
  /** The revision that deleted it. */
  readonly revision: bigint
  /** What the key held, if `previousValues` was asked for. */
  readonly previous: Option.Option<Entry<A>>
}

/**
 * A change of a store.
 *
 * @category models
 * @since 0.1.0
 */
export type Event<A> = Put<A> | Delete<A>

/**
 * The entries of a store as they were at one revision, that of the header.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListResult<out A> {
  readonly header: EtcdResponse.Header
  /** Without those that were passed over, since they do not decode. */
  readonly entries: ReadonlyArray<Entry<A>>
  /** Whether the limit left entries out. */
  readonly more: boolean
  /** How many keys the store has, whatever the limit. */
  readonly count: bigint
}

/**
 * All changes of a store at one revision, which is what one request or transaction did there. There may be none where
 * what does not decode is passed over.
 *
 * @category models
 * @since 0.1.0
 */
export interface Revision<out A> {
  readonly _tag: "Revision"
  /** The `modRevision` of all of them. */
  readonly revision: bigint
  readonly events: ReadonlyArray<Event<A>>
}

/**
 * All entries as they were at one revision, as `EtcdWatch.Snapshot`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot<out A> {
  readonly _tag: "Snapshot"
  /** The revision at which they were read. */
  readonly revision: bigint
  /** In the order of the keys, without those that were passed over. */
  readonly entries: ReadonlyArray<Entry<A>>
  /** Why there is one: see `EtcdWatch.Snapshot`. */
  readonly cause: EtcdWatch.Snapshot["cause"]
}

/**
 * What a store's `changes` deliver: whole revisions, and the rest where it is asked for.
 *
 * @category models
 * @since 0.1.0
 */
export type Change<A> = Revision<A> | Snapshot<A> | EtcdWatch.Progress | EtcdWatch.Created

/**
 * How values are written as bytes.
 *
 * - `json`: as JSON text, by what `Schema.toCodecJson` makes of the schema.
 * - `text`: as what the schema encodes to, which must be a string; as UTF-8.
 * - `bytes`: as what the schema encodes to, which must be a `Uint8Array`.
 *
 * @category options
 * @since 0.1.0
 */
export type Format = "json" | "text" | "bytes"

/**
 * What {@link make} takes.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options<F extends Format = Format> {
  /** How values are written. Default: `json`. */
  readonly format?: F | undefined
}

/**
 * What becomes of values that do not decode where many are read.
 *
 * @category options
 * @since 0.1.0
 */
export interface InvalidOptions {
  /**
   * Fails with {@link EtcdSchemaError}, or passes the entry over with a warning in the log. Where only what a key held
   * before does not decode, a change is told all the same, without it. Default: `fail`.
   */
  readonly onInvalid?: "fail" | "skip" | undefined
}

/**
 * How entries are listed.
 *
 * @category options
 * @since 0.1.0
 */
export interface ListOptions extends EtcdKv.RangeOptions, InvalidOptions {
  /** Not for stores, whose entries have values. Default: they come along. */
  readonly keysOnly?: undefined
  /** Not for stores: `count` is answered anyway, also with a `limit`. Default: entries come along. */
  readonly countOnly?: undefined
}

/**
 * How entries are streamed.
 *
 * @category options
 * @since 0.1.0
 */
export interface StreamOptions extends EtcdKv.StreamOptions, InvalidOptions {
  /** Not for stores, whose entries have values. Default: they come along. */
  readonly keysOnly?: undefined
}

/**
 * How entries are watched.
 *
 * @category options
 * @since 0.1.0
 */
export interface WatchOptions extends EtcdWatch.WatchOptions, InvalidOptions {}

/**
 * Which changes are delivered, and how.
 *
 * @category options
 * @since 0.1.0
 */
export interface ChangesOptions extends EtcdWatch.ChangesOptions, InvalidOptions {}

/**
 * How an entry is written.
 *
 * @category options
 * @since 0.1.0
 */
export interface PutOptions extends EtcdClient.CallOptions {
  /** Deletes the entry when this lease ends. Default, and `0n`: the entry stays. */
  readonly lease?: LeaseId | undefined
}

/**
 * What a key has to be for a compare-and-set.
 *
 * @category options
 * @since 0.1.0
 */
export interface Expected {
  /** The `modRevision` that the key has to be at; 0 if it must not exist. */
  readonly revision: bigint
}

/**
 * What a call on a store fails with: that of etcd, or what is stored is not what the schema says.
 *
 * @category models
 * @since 0.1.0
 */
export type Failure = EtcdError.EtcdError | EtcdSchemaError

const TypeId = "~effect-etcd/EtcdStore"

/**
 * The keys below a prefix, with values of type `A`. `RD` and `RE` are what the schema needs to decode and encode.
 *
 * @category models
 * @since 0.1.0
 */
export interface Store<in out A, out RD = never, out RE = never> {
  readonly [TypeId]: {
    readonly range: KeyRange.KeyRange
    readonly prefixLength: number
    readonly entry: (kv: EtcdResponse.KeyValue) => Effect.Effect<Entry<A>, EtcdSchemaError, RD>
    /** What is wrong with the way in which the store was made. */
    readonly problem: Option.Option<EtcdError.EtcdError>
  }
  /** The prefix as text. */
  readonly prefix: string
  /** The entry, or `None` if there is no such key. Fails with {@link EtcdSchemaError} where the value does not decode. */
  readonly get: (
    key: KeyRange.Bytes,
    options?: EtcdKv.ReadOptions | undefined
  ) => Effect.Effect<Option.Option<Entry<A>>, Failure, EtcdKv.EtcdKv | RD>
  /**
   * Writes, whatever was there. `header.revision` is the key's new revision. Fails with {@link EtcdSchemaError}, and sends
   * nothing, where the value does not encode; and as `EtcdKv.put` does.
   */
  readonly put: (
    key: KeyRange.Bytes,
    value: A,
    options?: PutOptions | undefined
  ) => Effect.Effect<EtcdResponse.Header, Failure, EtcdKv.EtcdKv | RE>
  /**
   * Writes if the key is at the revision given, or does not exist where that is 0. Otherwise fails with
   * {@link EtcdConflict}. `header.revision` is the key's new revision. Where the outcome of a failure is `unknown`, read the
   * key: a second try of a write that was applied is a conflict with itself.
   */
  readonly compareAndSet: (
    key: KeyRange.Bytes,
    value: A,
    options: PutOptions & Expected
  ) => Effect.Effect<EtcdResponse.Header, Failure | EtcdConflict, EtcdTxn.EtcdTxn | RE>
  /**
   * Writes what the function makes of the current value, and answers with it; starts over when somebody else has written
   * meanwhile, so the function may be called several times. The entry has the lease that `options` gives, if any, and
   * not the one that it had.
   */
  readonly update: (
    key: KeyRange.Bytes,
    f: (current: Option.Option<A>) => A,
    options?: PutOptions | undefined
  ) => Effect.Effect<A, Failure, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn | RD | RE>
  /** As `update`, with an effect. Nothing is written when it fails. */
  readonly updateEffect: <E, R>(
    key: KeyRange.Bytes,
    f: (current: Option.Option<A>) => Effect.Effect<A, E, R>,
    options?: PutOptions | undefined
  ) => Effect.Effect<A, Failure | E, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn | RD | RE | R>
  /** Deletes, and says whether there was such a key. */
  readonly delete: (
    key: KeyRange.Bytes,
    options?: EtcdClient.CallOptions | undefined
  ) => Effect.Effect<boolean, EtcdError.EtcdError, EtcdKv.EtcdKv>
  /** Deletes if the key is at the revision given. Otherwise fails with {@link EtcdConflict}. */
  readonly compareAndDelete: (
    key: KeyRange.Bytes,
    options: EtcdClient.CallOptions & Expected
  ) => Effect.Effect<void, EtcdError.EtcdError | EtcdConflict, EtcdTxn.EtcdTxn>
  /**
   * All entries, in one answer, with its header: a watch from `header.revision + 1n` on misses nothing. To follow a store
   * from a list on, {@link Store.changes} with `snapshot: "first"` is simpler, and `EtcdMirror.make` simpler still.
   */
  readonly list: (options?: ListOptions | undefined) => Effect.Effect<ListResult<A>, Failure, EtcdKv.EtcdKv | RD>
  /** All entries, with flat memory, as `EtcdKv.stream`. */
  readonly stream: (options?: StreamOptions | undefined) => Stream.Stream<Entry<A>, Failure, EtcdKv.EtcdKv | RD>
  /** The changes of all entries, as `EtcdWatch.watch`. */
  readonly watch: (options?: WatchOptions | undefined) => Stream.Stream<Event<A>, Failure, EtcdWatch.EtcdWatch | RD>
  /**
   * The changes of all entries, one revision at a time, with what else is asked for, as `EtcdWatch.changes`: all entries
   * at first, say, and again when the history is gone.
   *
   * Whoever keeps a copy does not learn with `onInvalid: "skip"` that an entry is no longer what it was, where it was
   * overwritten with what does not decode. `EtcdMirror.make` tells of such entries.
   */
  readonly changes: (
    options?: ChangesOptions | undefined
  ) => Stream.Stream<Change<A>, Failure, EtcdWatch.EtcdWatch | RD>
}

/**
 * Whether something is a store that {@link make} has made.
 *
 * @example
 * ```ts
 * import { Schema } from "effect"
 * import { EtcdStore } from "effect-etcd"
 *
 * EtcdStore.isStore(EtcdStore.make("users/", Schema.String)) // true
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isStore = (input: unknown): input is Store<unknown, unknown, unknown> =>
  Predicate.hasProperty(input, TypeId)

/** What makes no sense for values that are to be decoded. */
const leftOut: Checks.Check = { accepts: (value) => value === false, due: "left out, since an entry has its value" }

const ofStore: Checks.Checks<Options> = { format: Checks.oneOf("json", "text", "bytes") }

const ofInvalid: Checks.Checks<InvalidOptions> = { onInvalid: Checks.oneOf("fail", "skip") }

const ofList: Checks.Checks<Checks.Own<ListOptions>> = {
  ...Requests.ofRange,
  ...ofInvalid,
  keysOnly: leftOut,
  countOnly: leftOut
}

const ofStream: Checks.Checks<Checks.Own<StreamOptions>> = {
  ...Requests.ofStream,
  ...ofInvalid,
  keysOnly: leftOut
}

const ofWatch: Checks.Checks<WatchOptions> = { ...WatchChecks.ofWatch, ...ofInvalid }

const ofChanges: Checks.Checks<ChangesOptions> = { ...WatchChecks.ofChanges, ...ofInvalid }

const ofPut: Checks.Checks<Checks.Own<PutOptions>> = { lease: Checks.lease }

const ofExpected: Checks.Checks<Expected> = { revision: Checks.revision }

const ofSet: Checks.Checks<Checks.Own<PutOptions & Expected>> = { ...ofPut, ...ofExpected }

const aSchema: Checks.Check = { accepts: Schema.isSchema, due: "a Schema" }

const wrongKey = (who: string, key: unknown) => Checks.wrongArgument(who, "the key", Checks.bytes, key)

const wrongExpectation = (who: string, options: Partial<Expected> | undefined) =>
  Checks.wrongArgument(who, "the option revision", ofExpected.revision, options?.revision)

/** A store that was made in a way that makes no sense. */
const impossible = (problem: string): Store<any, any, any> => {
  const error = Checks.invalid(problem)
  const failing = () => Effect.fail(error)
  const failingStream = () => Stream.fail(error)
  return {
    [TypeId]: { range: KeyRange.all, prefixLength: 0, entry: () => Effect.die(error), problem: Option.some(error) },
    prefix: "",
    get: failing,
    put: failing,
    compareAndSet: failing,
    update: failing,
    updateEffect: failing,
    delete: failing,
    compareAndDelete: failing,
    list: failing,
    stream: failingStream,
    watch: failingStream,
    changes: failingStream
  }
}

const strictDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

/** Between the bytes in etcd and what the schema encodes to. */
interface Outer {
  readonly fromBytes: (bytes: Uint8Array) => Result.Result<unknown, unknown>
  readonly toBytes: (encoded: unknown) => Result.Result<Uint8Array, string>
}

const utf8: Outer = {
  fromBytes: (bytes) => Result.try(() => strictDecoder.decode(bytes)),
  toBytes: (encoded) =>
    typeof encoded === "string" && encoded.isWellFormed()
      ? Result.succeed(KeyRange.toBytes(encoded))
      : Result.fail("it encodes to what is no text (without half a surrogate pair)")
}

const raw: Outer = {
  fromBytes: Result.succeed,
  toBytes: (encoded) =>
    encoded instanceof Uint8Array ? Result.succeed(encoded) : Result.fail("it encodes to what is no Uint8Array")
}

const messageOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

const undecodable = (kv: EtcdResponse.KeyValue) => (cause: unknown) =>
  new EtcdSchemaError({
    message:
      `The value of the key ${JSON.stringify(kv.keyString)}, written at revision ${kv.modRevision}, does not fit the ` +
      `schema: ${messageOf(cause)}`,
    operation: "decode",
    key: kv.keyString,
    keyBytes: kv.key,
    modRevision: kv.modRevision,
    cause
  })

const unencodable = (key: Uint8Array) => (cause: unknown) =>
  new EtcdSchemaError({
    message: `The value for the key ${Keys.show(key)} does not fit the schema and was not sent: ${messageOf(cause)}`,
    operation: "encode",
    key: decoder.decode(key),
    keyBytes: key,
    cause
  })

/** What a schema throws is about the value, too: one that anybody may have written ends nobody's program. */
const orThrown = <A, E, R>(coding: Effect.Effect<A, E, R>): Effect.Effect<A, unknown, R> =>
  Effect.catchDefect(coding, (thrown) => Effect.fail<unknown>(thrown))

const codecOf = <A, RD, RE>(schema: Schema.ConstraintCodec<A, unknown, RD, RE>, format: Format) => {
  const outer = format === "bytes" ? raw : utf8
  const codec: Schema.ConstraintCodec<A, unknown, RD, RE> =
    format === "json" ? Schema.fromJsonString(Schema.toCodecJson(schema)) : schema
  const fromEncoded = Schema.decodeUnknownEffect(codec)
  const toEncoded = Schema.encodeUnknownEffect(codec)
  return {
    decode: (kv: EtcdResponse.KeyValue): Effect.Effect<A, EtcdSchemaError, RD> =>
      Effect.mapError(
        orThrown(Effect.flatMap(Effect.fromResult(outer.fromBytes(kv.value)), fromEncoded)),
        undecodable(kv)
      ),
    encode: (key: Uint8Array, value: A): Effect.Effect<Uint8Array, EtcdSchemaError, RE> =>
      Effect.mapError(
        orThrown(Effect.flatMap(toEncoded(value), (encoded) => Effect.fromResult(outer.toBytes(encoded)))),
        unencodable(key)
      )
  }
}

/** What a decoding gives; `None` where it failed and is to be passed over. */
const orSkip = <A, RD>(
  decoded: Effect.Effect<A, EtcdSchemaError, RD>,
  onInvalid: InvalidOptions["onInvalid"]
): Effect.Effect<Option.Option<A>, EtcdSchemaError, RD> => {
  const some = Effect.map(decoded, Option.some)
  return onInvalid === "skip"
    ? Effect.catch(some, (error) => Effect.as(Effect.logWarning(error.message), Option.none()))
    : some
}

const somes = <A, E, R>(stream: Stream.Stream<Option.Option<A>, E, R>): Stream.Stream<A, E, R> =>
  stream.pipe(
    Stream.filter(Option.isSome),
    Stream.map((some) => some.value)
  )

/**
 * A store: the keys below a prefix, with values that a schema encodes and decodes.
 *
 * A value that does not decode fails with an {@link EtcdSchemaError} that names the key. For anything else than JSON give
 * a schema that encodes to a string or to bytes, and `format: "text"` or `format: "bytes"`; `SchemaBinary.toCodec`, for
 * one, makes such a schema of any other. A store that was made in a way that makes no sense fails with `InvalidArgument`
 * when it is used.
 *
 * @example
 * ```ts
 * import { Option, Schema } from "effect"
 * import { EtcdStore } from "effect-etcd"
 *
 * class User extends Schema.Class<User>("User")({ name: Schema.String, since: Schema.Date }) {}
 *
 * const users = EtcdStore.make("users/", User)
 *
 * const rename = (id: string, name: string) =>
 *   users.update(id, (user) => new User({ since: new Date(0), ...Option.getOrUndefined(user), name }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <A, E, RD = never, RE = never>(
    prefix: KeyRange.Bytes,
    schema: Schema.ConstraintCodec<A, E, RD, RE>,
    options?: Options<"json"> | undefined
  ): Store<A, RD, RE>
  <A, RD = never, RE = never>(
    prefix: KeyRange.Bytes,
    schema: Schema.ConstraintCodec<A, string, RD, RE>,
    options: Options<"text"> & { readonly format: "text" }
  ): Store<A, RD, RE>
  <A, RD = never, RE = never>(
    prefix: KeyRange.Bytes,
    schema: Schema.ConstraintCodec<A, Uint8Array, RD, RE>,
    options: Options<"bytes"> & { readonly format: "bytes" }
  ): Store<A, RD, RE>
} = <A, RD, RE>(
  prefix: KeyRange.Bytes,
  schema: Schema.ConstraintCodec<A, unknown, RD, RE>,
  options: Options = {}
): Store<A, RD, RE> => {
  const problem =
    Checks.problemOfArgument("EtcdStore.make", "the prefix", Checks.bytes, prefix) ??
    Checks.problemOfArgument("EtcdStore.make", "the schema", aSchema, schema) ??
    Checks.problemOf("EtcdStore.make", ofStore, options)
  if (problem !== undefined) return impossible(problem)
  const prefixBytes = Keys.own(prefix)
  const range = KeyRange.prefix(prefixBytes)
  const collection = decoder.decode(prefixBytes)
  /** A span by the conventions for databases: the store is the collection. */
  const span = (operation: string) =>
    [
      collection === "" ? operation : `${operation} ${collection}`,
      (): ReturnType<Tracing.Options> => ({
        kind: "client",
        attributes: {
          "db.system.name": "etcd",
          "db.operation.name": operation,
          ...(collection === "" ? {} : { "db.collection.name": collection })
        }
      })
    ] as const
  const [getSpan, putSpan, setSpan, updateSpan, deleteSpan, compareAndDeleteSpan, listSpan] = [
    span("get"),
    span("put"),
    span("compareAndSet"),
    span("update"),
    span("delete"),
    span("compareAndDelete"),
    span("list")
  ]
  const { decode, encode } = codecOf(schema, options.format ?? "json")

  const fullKey = (key: KeyRange.Bytes): Uint8Array => Keys.concat(prefixBytes, KeyRange.toBytes(key))
  const ownKey = (key: Uint8Array): Pick<Entry<A>, "key" | "keyBytes"> => {
    const keyBytes = key.subarray(prefixBytes.length)
    return { key: decoder.decode(keyBytes), keyBytes }
  }

  const entry = (kv: EtcdResponse.KeyValue): Effect.Effect<Entry<A>, EtcdSchemaError, RD> =>
    Effect.map(decode(kv), (value) =>
      Json.answer({
        ...ownKey(kv.key),
        value,
        createRevision: kv.createRevision,
        modRevision: kv.modRevision,
        version: kv.version,
        lease: kv.lease
      })
    )

  const optionalEntry = (
    kv: Option.Option<EtcdResponse.KeyValue>
  ): Effect.Effect<Option.Option<Entry<A>>, EtcdSchemaError, RD> =>
    Option.match(kv, { onNone: () => Effect.succeedNone, onSome: (kv) => Effect.map(entry(kv), Option.some) })

  const previousEntry = (kv: Option.Option<EtcdResponse.KeyValue>, onInvalid: InvalidOptions["onInvalid"]) =>
    Option.match(kv, { onNone: () => Effect.succeedNone, onSome: (kv) => orSkip(entry(kv), onInvalid) })

  /** That a key held before what does not decode is no reason to pass over what it holds now, or that it is gone. */
  const event = (
    change: EtcdWatch.Event,
    onInvalid: InvalidOptions["onInvalid"]
  ): Effect.Effect<Event<A>, EtcdSchemaError, RD> =>
    Effect.flatMap(previousEntry(change.previous, onInvalid), (previous) =>
      change._tag === "Put"
        ? Effect.map(entry(change.kv), (entry): Event<A> => Json.answer<Event<A>>({ _tag: "Put", entry, previous }))
        : Effect.succeed(
            Json.answer<Event<A>>({
              _tag: "Delete",
              ...ownKey(change.kv.key),
              revision: change.kv.modRevision,
              previous
            })
          )
    )

  const change = (
    change: EtcdWatch.Change,
    onInvalid: InvalidOptions["onInvalid"]
  ): Effect.Effect<Change<A>, EtcdSchemaError, RD> => {
    switch (change._tag) {
      case "Revision":
        return Effect.map(
          Effect.forEach(change.events, (one) => orSkip(event(one, onInvalid), onInvalid)),
          (events): Change<A> =>
            Json.answer<Change<A>>({ _tag: "Revision", revision: change.revision, events: Arr.getSomes(events) })
        )
      case "Snapshot":
        return Effect.map(
          Effect.forEach(change.kvs, (kv) => orSkip(entry(kv), onInvalid)),
          (entries): Change<A> =>
            Json.answer<Change<A>>({
              _tag: "Snapshot",
              revision: change.revision,
              entries: Arr.getSomes(entries),
              cause: change.cause
            })
        )
      default:
        return Effect.succeed(change)
    }
  }

  const ifAt = <B>(key: Uint8Array, expectedRevision: bigint, op: EtcdTxn.Op<B>, options: EtcdClient.CallOptions) =>
    Effect.flatMap(
      EtcdTxn.commit(
        EtcdTxn.make({
          compare: EtcdTxn.modRevision(key).equals(expectedRevision),
          success: op,
          failure: EtcdTxn.get(key)
        }),
        options
      ),
      (result) =>
        result.succeeded
          ? Effect.succeed(result.header)
          : Effect.fail(
              new EtcdConflict({ key: decoder.decode(key), keyBytes: key, expectedRevision, current: result.results })
            )
    )

  const setAt = (key: Uint8Array, value: A, revision: bigint, { lease, ...call }: PutOptions) =>
    Effect.flatMap(encode(key, value), (bytes) => ifAt(key, revision, EtcdTxn.put(key, bytes, { lease }), call))

  const updateAs = <E, R>(
    who: string,
    key: KeyRange.Bytes,
    f: (current: Option.Option<A>) => Effect.Effect<A, E, R>,
    options: PutOptions | undefined
  ): Effect.Effect<A, Failure | E, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn | RD | RE | R> => {
    const wrong =
      wrongKey(who, key) ??
      Checks.wrongArgument(who, "what makes the new value", Checks.callback, f) ??
      Checks.wrongOptions(who, ofPut, options)
    if (wrong !== undefined) return wrong
    const full = fullKey(key)
    const { lease: _, ...call } = options ?? {}
    const attempt = (
      current: Option.Option<EtcdResponse.KeyValue>
    ): Effect.Effect<A, Failure | E, EtcdTxn.EtcdTxn | RD | RE | R> =>
      Effect.gen(function* () {
        const before = yield* optionalEntry(current)
        const value = yield* f(Option.map(before, (entry) => entry.value))
        const revision = Option.match(current, { onNone: () => 0n, onSome: (kv) => kv.modRevision })
        return yield* setAt(full, value, revision, options ?? {}).pipe(
          Effect.as(value),
          Effect.catchTag("EtcdConflict", (conflict) => attempt(conflict.current))
        )
      })
    return Tracing.traced(Effect.flatMap(EtcdKv.get(full, call), attempt), ...updateSpan)
  }

  return {
    [TypeId]: { range, prefixLength: prefixBytes.length, entry, problem: Option.none() },
    prefix: collection,
    get: (key, options) =>
      wrongKey("EtcdStore's get", key) ??
      Checks.wrongOptions("EtcdStore's get", Requests.ofRead, options) ??
      Tracing.traced(
        Effect.suspend(() => Effect.flatMap(EtcdKv.get(fullKey(key), options), optionalEntry)),
        ...getSpan
      ),
    put: (key, value, options) =>
      wrongKey("EtcdStore's put", key) ??
      Checks.wrongOptions("EtcdStore's put", ofPut, options) ??
      Tracing.traced(
        Effect.suspend(() => {
          const full = fullKey(key)
          return Effect.flatMap(encode(full, value), (bytes) =>
            Effect.map(EtcdKv.put(full, bytes, options), (result) => result.header)
          )
        }),
        ...putSpan
      ),
    compareAndSet: (key, value, options) =>
      wrongKey("EtcdStore's compareAndSet", key) ??
      wrongExpectation("EtcdStore's compareAndSet", options) ??
      Checks.wrongOptions("EtcdStore's compareAndSet", ofSet, options) ??
      Tracing.traced(
        Effect.suspend(() => {
          const { revision, ...put } = options
          return setAt(fullKey(key), value, revision, put)
        }),
        ...setSpan
      ),
    update: (key, f, options) =>
      Checks.wrongArgument("EtcdStore's update", "what makes the new value", Checks.callback, f) ??
      updateAs("EtcdStore's update", key, (current) => Effect.sync(() => f(current)), options),
    updateEffect: (key, f, options) => updateAs("EtcdStore's updateEffect", key, f, options),
    delete: (key, options) =>
      wrongKey("EtcdStore's delete", key) ??
      Checks.wrongCall("EtcdStore's delete", options) ??
      Tracing.traced(
        Effect.map(EtcdKv.delete(fullKey(key), options), (result) => result.deleted > 0n),
        ...deleteSpan
      ),
    compareAndDelete: (key, options) =>
      wrongKey("EtcdStore's compareAndDelete", key) ??
      wrongExpectation("EtcdStore's compareAndDelete", options) ??
      Checks.wrongOptions("EtcdStore's compareAndDelete", ofExpected, options) ??
      Tracing.traced(
        Effect.suspend(() => {
          const { revision, ...call } = options
          const full = fullKey(key)
          return Effect.asVoid(ifAt(full, revision, EtcdTxn.delete(full), call))
        }),
        ...compareAndDeleteSpan
      ),
    list: (options) =>
      Checks.wrongOptions("EtcdStore's list", ofList, options) ??
      Tracing.traced(
        Effect.suspend(() => {
          const { onInvalid, ...read } = options ?? {}
          return Effect.flatMap(EtcdKv.range(range, read), (result) =>
            Effect.map(
              Effect.forEach(result.kvs, (kv) => orSkip(entry(kv), onInvalid)),
              (entries) =>
                Json.answer({
                  header: result.header,
                  entries: Arr.getSomes(entries),
                  more: result.more,
                  count: result.count
                })
            )
          )
        }),
        ...listSpan
      ),
    stream: (options) => {
      const wrong = Checks.wrongOptions("EtcdStore's stream", ofStream, options)
      if (wrong !== undefined) return Stream.fromEffect(wrong)
      const { onInvalid, ...read } = options ?? {}
      return EtcdKv.stream(range, read).pipe(
        Stream.mapArrayEffect((kvs) => Effect.forEach(kvs, (kv) => orSkip(entry(kv), onInvalid))),
        somes,
        (all) => Tracing.tracedStream(all, ...span("stream"))
      )
    },
    watch: (options) => {
      const problem = Checks.problemOf("EtcdStore's watch", ofWatch, options)
      if (problem !== undefined) return Stream.fail(Checks.invalid(problem))
      const { onInvalid, ...watch } = options ?? {}
      return EtcdWatch.watch(range, watch).pipe(
        Stream.mapEffect((change) => orSkip(event(change, onInvalid), onInvalid)),
        somes,
        (all) => Tracing.tracedStream(all, ...span("watch"))
      )
    },
    changes: (options) => {
      const problem = Checks.problemOf("EtcdStore's changes", ofChanges, options)
      if (problem !== undefined) return Stream.fail(Checks.invalid(problem))
      const { onInvalid, ...changes } = options ?? {}
      const all = Stream.mapEffect(EtcdWatch.changes(range, changes), (one) => change(one, onInvalid))
      return Tracing.tracedStream(all, ...span("changes"))
    }
  }
}
