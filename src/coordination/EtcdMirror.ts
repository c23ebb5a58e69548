/**
 * A live copy of the keys below a prefix, in this process: what is read is there already.
 *
 * A mirror begins with a snapshot and follows with a watch, whole revisions at a time: nobody sees half a transaction. It
 * lives through failovers and compactions, and fails only for what time cannot mend: a permission that is missing, a
 * client that was closed. What does not fit the schema of a store is an entry in error, and not the end of the mirror.
 * {@link Mirror.failed} tells when it has failed. Everything else of a failed mirror fails with the same error.
 *
 * A permission may be taken away later, the user may be deleted, or authentication enabled. etcd asks for permissions when
 * a watch begins, and goes on to tell a watch that is there; it is the next look at the store (below) that fails, and then
 * the mirror does, with what was said to it: `PermissionDenied`, `AuthenticationFailed`, `UserNameEmpty` where the client
 * has no credentials, `InvalidAuthToken` where the token is the program's own, or what a proxy says (`EtcdError.isAuth`).
 * To go on after somebody has mended it, make another mirror.
 *
 * How old may what it says be? A mirror looks at the store every ten seconds, or three times in `maxAge`: it reads the
 * store's revision, linearizably, and waits until its view is there. {@link Mirror.lag} says how long ago it began the
 * last look that ended well. Nothing else counts, since a server that is cut off from its cluster, or behind it, may go on
 * to tell of what is long past. With `maxAge` a read fails, or goes to the server, where the view may be older. Where the
 * wall clock has run ahead, the machine may have been suspended, and the view counts as so much older until the next look.
 *
 * To read what was just written, here or by somebody else, give its revision to {@link Mirror.awaitRevision};
 * {@link Mirror.fresh} is a linearizable read. Where the mirror's keys are quiet while others change, servers are asked
 * how far its watch is. On those before 3.4.25 and 3.5.8, whose answer cannot be relied on, the mirror reads instead how
 * many of its keys there are and whether one was changed, for which a server goes through all of them.
 *
 * A store may go back: a backup is restored, or its data is wiped. Then the mirror starts again from a snapshot, and
 * {@link Mirror.changes} tells what is different, with the mark that history was lost. A client keeps to the cluster that
 * it has known, so that another cluster at the same address ends the mirror with `ClusterIdMismatch`.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../EtcdClient.ts"
import type * as EtcdError from "../EtcdError.ts"
import * as EtcdKv from "../EtcdKv.ts"
import { KeyValue } from "../EtcdResponse.ts"
import * as EtcdStore from "../EtcdStore.ts"
import * as EtcdWatch from "../EtcdWatch.ts"
import { Follower } from "../internal/coordination/mirror.ts"
import type { Kind } from "../internal/coordination/mirrorCopy.ts"
import * as Json from "../internal/json.ts"
import * as Keys from "../internal/keys.ts"
import * as Checks from "../internal/options.ts"
import * as Time from "../internal/time.ts"
import * as Tracing from "../internal/tracing.ts"
import * as KeyRange from "../KeyRange.ts"

/**
 * The view was not known to be current for longer than `maxAge` allows.
 *
 * @category errors
 * @since 0.1.0
 */
export class MirrorStale extends Data.TaggedError("MirrorStale")<{
  /** The revision that the view is at. */
  readonly revision: bigint
  /** How long ago the view was certainly current. */
  readonly age: Duration.Duration
  /** How long ago it may have been, as the options say. */
  readonly maxAge: Duration.Duration
  readonly message: string
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * All keys as they were at one revision, in their order: `for (const [key, value] of view)`. It stays as it is.
 *
 * Keys are those of the source: whole, or without the prefix of a store. A key that is not UTF-8 is told as text as well
 * as that can be; the value has its bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface View<out A> extends Iterable<[key: string, value: A]> {
  /** The revision that it is at. */
  readonly revision: bigint
  /** How many keys there are. */
  readonly size: number
  /** The value of a key, or `None` if there is no such key. */
  readonly get: (key: KeyRange.Bytes) => Option.Option<A>
  /** Those of a range, in their order: `view.range(KeyRange.prefix("eu/"))`. */
  readonly range: (range: KeyRange.Input) => Iterable<[key: string, value: A]>
}

/**
 * A key was written.
 *
 * @category models
 * @since 0.1.0
 */
export interface Put<out A> {
  readonly _tag: "Put"
  readonly key: string
  readonly keyBytes: Uint8Array
  readonly value: A
  /** What the view had before, if it had the key. */
  readonly previous: Option.Option<A>
}

/**
 * A key was deleted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Delete<out A> {
  readonly _tag: "Delete"
  readonly key: string
  readonly keyBytes: Uint8Array
  /** What the view had before. */
  readonly previous: A
}

/**
 * What became of a key.
 *
 * @category models
 * @since 0.1.0
 */
export type Event<A> = Put<A> | Delete<A>

/**
 * All that there is. Each reader of {@link Mirror.changes} gets it first.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot<out A> {
  readonly _tag: "Snapshot"
  /** All keys, at one revision. */
  readonly view: View<A>
}

/**
 * What is different from what the reader was told before: a whole revision, or several, never a part.
 *
 * @category models
 * @since 0.1.0
 */
export interface Update<out A> {
  readonly _tag: "Update"
  /** The revision that the reader's copy is at then. Lower than before, maybe, where history was lost. */
  readonly revision: bigint
  readonly events: ReadonlyArray<Event<A>>
  /**
   * - `complete`: what one revision did, all of it, in the order in which it did it.
   * - `joined`: the difference that several revisions make together, each key once, in the order of the keys. What was
   *   written in between and is no more is not told. So it is for a reader that is slower than the changes, and where
   *   the history was compacted before the mirror had it.
   * - `lost`: the same, where the store has gone back in between, and what was acknowledged may be gone. There need be no
   *   event: what is lost may have been the same before. Of an `EtcdStore` all entries are told that there are then.
   */
  readonly history: "complete" | "joined" | "lost"
}

/**
 * What {@link Mirror.changes} deliver.
 *
 * @category models
 * @since 0.1.0
 */
export type Change<A> = Snapshot<A> | Update<A>

/**
 * How far behind a mirror may be.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lag {
  /** The revision that the view is at. */
  readonly revision: bigint
  /** How long ago the view was certainly current: a linearizable read would have answered the same then. */
  readonly age: Duration.Duration
  /**
   * Whether the last look at the store ended well: a server answered, and the view was found to be, or came to be, where
   * the store was. Not while one takes longer than five seconds.
   */
  readonly connected: boolean
}

/**
 * A live copy. All effects of it fail with what the mirror failed with, once it has failed, and with `Unreachable` once
 * its scope is closed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mirror<out A> {
  /** The value of a key as the view has it, or `None`. Fails with {@link MirrorStale} where `maxAge` says so. */
  readonly get: (key: KeyRange.Bytes) => Effect.Effect<Option.Option<A>, EtcdError.EtcdError | MirrorStale>
  /** All keys as they are here now. Fails with {@link MirrorStale} where `maxAge` says so. */
  readonly view: Effect.Effect<View<A>, EtcdError.EtcdError | MirrorStale>
  /** All keys as they are in the store, or later: as a linearizable read. */
  readonly fresh: Effect.Effect<View<A>, EtcdError.EtcdError>
  /**
   * Waits until the view is at least at a revision, `header.revision` of a write, say, and answers with it. It may be a
   * revision that is still to come. Fails with `RevisionRegressed` if the store goes back meanwhile.
   */
  readonly awaitRevision: (revision: bigint) => Effect.Effect<View<A>, EtcdError.EtcdError>
  /** How far behind the view may be. Never fails: it tells of a mirror that has failed, too. */
  readonly lag: Effect.Effect<Lag>
  /**
   * What there is, and then what changes, exactly: who replays it has what the view has, at each revision that is told.
   *
   * Memory is bounded, however slow a reader is: the last few thousand changes, or 4 MiB of values, are kept until all
   * have read them, and who is further behind gets the difference from what it was told to what there is now, as one
   * {@link Update} that is `joined`. Progress without a change is not told.
   */
  readonly changes: Stream.Stream<Change<A>, EtcdError.EtcdError>
  /**
   * Waits until the mirror has failed, and tells why: what `EtcdError.isAuth` is true of where the client may not read all
   * of the range any more (`PermissionDenied`, `UserNameEmpty`, …), `ClusterIdMismatch`, or `Unreachable` when the client
   * or the scope was closed.
   */
  readonly failed: Effect.Effect<EtcdError.EtcdError>
}

/**
 * What a mirror of a store has for a key: the entry, or why it does not decode.
 *
 * @category models
 * @since 0.1.0
 */
export type Decoded<A> = Result.Result<EtcdStore.Entry<A>, EtcdStore.EtcdSchemaError>

/**
 * How a mirror is kept, and how it is read.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends Pick<EtcdClient.CallOptions, "endpoint" | "metadata" | "requireLeader"> {
  /**
   * For how long the view may not be known to be current, before `onStale` is done. The store is looked at three times in
   * it, at most forty times a second. Default: Infinity, and a look every ten seconds.
   */
  readonly maxAge?: Duration.Input | undefined
  /**
   * What `get` and `view` do when the view is older than `maxAge`: fail with {@link MirrorStale}, or ask the server as
   * `fresh` does. Default: `fail`.
   */
  readonly onStale?: "fail" | "ask" | undefined
}

const { endpoint, metadata, requireLeader } = Checks.ofCall

const ofMirror: Checks.Checks<Options> = {
  maxAge: Checks.duration,
  onStale: Checks.oneOf("fail", "ask"),
  endpoint,
  metadata,
  requireLeader
}

const source: Checks.Check = {
  accepts: (value) =>
    EtcdStore.isStore(value) || (KeyRange.isKeyRange(value) ? Checks.rangeOfKeys.accepts(value) : Keys.isBytes(value)),
  due: "an EtcdStore, a prefix (text, without half a surrogate pair, or a Uint8Array), or a KeyRange that has room"
}

/** What is longer lies in one piece of memory with all that came with it, which lives as long as any of it. */
const isPart = (bytes: Uint8Array): boolean => bytes.length > Keys.shortData

/** What may be kept. */
const own = (kv: KeyValue): KeyValue =>
  isPart(kv.key) || isPart(kv.value)
    ? new KeyValue({
        key: Keys.own(kv.key),
        value: Keys.own(kv.value),
        createRevision: kv.createRevision,
        modRevision: kv.modRevision,
        version: kv.version,
        lease: Option.getOrElse(kv.lease, () => 0n)
      })
    : kv

const ofRange = (range: KeyRange.KeyRange): Kind<KeyValue> => ({
  range,
  prefixLength: 0,
  decode: (kvs) => Effect.succeed(kvs.map(own)),
  modRevisionOf: (kv) => kv.modRevision,
  isSame: (a, b) =>
    a.modRevision === b.modRevision &&
    a.createRevision === b.createRevision &&
    a.version === b.version &&
    Equal.equals(a.lease, b.lease) &&
    Keys.compare(a.value, b.value) === 0
})

const ofStore = <A, RD, RE>(store: EtcdStore.Store<A, RD, RE>): Effect.Effect<Kind<Decoded<A>>, never, RD> =>
  Effect.contextWith((context: Context.Context<RD>) => {
    const { entry, prefixLength, range } = store["~effect-etcd/EtcdStore"]
    const decode = (kv: KeyValue) => Effect.result(entry(own(kv)))
    return Effect.succeed<Kind<Decoded<A>>>({
      range,
      prefixLength,
      decode: (kvs) => Effect.provideContext(Effect.forEach(kvs, decode), context),
      modRevisionOf: (decoded) =>
        Result.isSuccess(decoded) ? decoded.success.modRevision : decoded.failure.modRevision,
      // What was decoded may keep to itself what it is made of, as a `URLSearchParams` does.
      isSame: () => false
    })
  })

const intervalOf = (maxAge: Duration.Duration): number =>
  Math.min(longestInterval, Math.max(shortestInterval, Duration.toMillis(maxAge) / 3))

const longestInterval = 10_000
const shortestInterval = 25

const mirrorOf = <A>(follower: Follower<A>, maxAge: Duration.Duration, onStale: Options["onStale"]): Mirror<A> => {
  const { copy } = follower
  const maxMillis = Duration.toMillis(maxAge)
  const viewNow = Effect.sync(() => copy.view)
  const fresh = Effect.andThen(follower.confirm, viewNow)
  const stale = () => {
    const age = Duration.millis(Math.round(follower.age))
    return new MirrorStale({
      revision: copy.revision,
      age,
      maxAge,
      message:
        `The mirror was last known to be current ${Duration.format(age)} ago, at revision ${copy.revision}, and may be ` +
        `${Duration.format(maxAge)} old. No server answers, or the watch does not come along; onStale: "ask" would wait.`
    })
  }
  const reading = <B>(read: () => B): Effect.Effect<B, EtcdError.EtcdError | MirrorStale> => {
    const again = Effect.map(follower.confirm, read)
    return Effect.suspend((): Effect.Effect<B, EtcdError.EtcdError | MirrorStale> => {
      if (copy.failure !== undefined) return Effect.failCause(copy.failure)
      if (maxMillis === Number.POSITIVE_INFINITY || follower.age <= maxMillis) return Effect.succeed(read())
      return onStale === "ask" ? again : Effect.fail(stale())
    })
  }
  return {
    get: (key) =>
      Checks.wrongArgument("EtcdMirror's get", "the key", Checks.bytes, key) ?? reading(() => copy.get(key)),
    view: reading(() => copy.view),
    fresh,
    awaitRevision: (revision) =>
      Checks.wrongArgument("EtcdMirror's awaitRevision", "the revision", Checks.revision, revision) ??
      Effect.andThen(follower.awaitRevision(revision), viewNow),
    lag: Effect.sync(() =>
      Json.answer({
        revision: copy.revision,
        age: Duration.millis(follower.age),
        connected: follower.isConnected && copy.failure === undefined
      })
    ),
    changes: Stream.unwrap(
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => copy.reader()),
          (reader) => Effect.sync(reader.close)
        ),
        ({ pull }) => Stream.fromPull(Effect.succeed(pull))
      )
    ),
    failed: Effect.flip(follower.failed)
  }
}

/** A mirror of one kind. */
const makeOf = <A>(kind: Kind<A>, { maxAge: given, onStale, ...call }: Options) =>
  Tracing.traced(
    Effect.gen(function* () {
      const maxAge = Duration.fromInputUnsafe(given ?? Duration.infinity)
      const follower = new Follower({
        kind,
        kv: yield* EtcdKv.EtcdKv,
        watch: yield* EtcdWatch.EtcdWatch,
        call,
        intervalMillis: intervalOf(maxAge),
        time: yield* Time.Time
      })
      yield* follower.start
      return mirrorOf(follower, maxAge, onStale)
    }),
    "EtcdMirror.make"
  )

const rangeOf = (source: KeyRange.Bytes | KeyRange.KeyRange): KeyRange.KeyRange =>
  KeyRange.isKeyRange(source) ? source : KeyRange.prefix(source)

/**
 * A live copy of the keys below a prefix, or in a range, as they are; or of a store, whose values are decoded. It is kept
 * until the scope closes. Goes on when there is a view that is current, however long no server answers; whoever is less
 * patient uses `Effect.timeout`. A learner does not answer what a mirror reads: where there are no others, it waits, and
 * the log says why, until one is promoted.
 *
 * Fails with `PermissionDenied` where the user may not read all of the range, with `Unreachable` where the client is
 * closed or no connection can come until somebody mends what is wrong, with `ClusterIdMismatch`, and with
 * `InvalidArgument` for an option, a prefix, a range or a store that makes no sense.
 *
 * It takes about 600 bytes for a key besides its bytes and its value, and the requests of a watch and of a look at the
 * store every ten seconds. `npm run bench -- mirror` measures what that is on a machine, and what a read takes.
 *
 * @example
 * ```ts
 * import { Effect, Option, Result, Schema } from "effect"
 * import { EtcdStore } from "effect-etcd"
 * import { EtcdMirror } from "effect-etcd/coordination"
 *
 * const flags = EtcdStore.make("flags/", Schema.Boolean)
 *
 * const program = Effect.gen(function*() {
 *   const mirror = yield* EtcdMirror.make(flags)
 *   const isOn = Effect.map(mirror.get("dark-mode"), (found) =>
 *     Option.exists(found, (decoded) => Result.isSuccess(decoded) && decoded.success.value)
 *   )
 *   // As often as one likes: nothing is asked of a server.
 *   return yield* isOn
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <A, RD, RE>(
    store: EtcdStore.Store<A, RD, RE>,
    options?: Options | undefined
  ): Effect.Effect<Mirror<Decoded<A>>, EtcdError.EtcdError, EtcdKv.EtcdKv | EtcdWatch.EtcdWatch | Scope.Scope | RD>
  (
    prefix: KeyRange.Bytes | KeyRange.KeyRange,
    options?: Options | undefined
  ): Effect.Effect<Mirror<KeyValue>, EtcdError.EtcdError, EtcdKv.EtcdKv | EtcdWatch.EtcdWatch | Scope.Scope>
} = <A, RD, RE>(
  given: EtcdStore.Store<A, RD, RE> | KeyRange.Bytes | KeyRange.KeyRange,
  options: Options = {}
): Effect.Effect<any, EtcdError.EtcdError, any> => {
  const problem =
    Checks.problemOfArgument("EtcdMirror.make", "the source", source, given) ??
    Checks.problemOf("EtcdMirror.make", ofMirror, options)
  if (problem !== undefined) return Effect.fail(Checks.invalid(problem))
  if (typeof given === "string" || given instanceof Uint8Array || KeyRange.isKeyRange(given)) {
    return makeOf(ofRange(rangeOf(given)), options)
  }
  const { problem: ofStoreItself } = given["~effect-etcd/EtcdStore"]
  return Option.isSome(ofStoreItself)
    ? Effect.fail(ofStoreItself.value)
    : Effect.flatMap(ofStore(given), (kind) => makeOf(kind, options))
}
