/**
 * Transactions: several operations as one, under a condition.
 *
 * A transaction has comparisons and two branches of operations. When all comparisons hold, etcd runs the one branch,
 * otherwise the other one, in one step that nobody sees half of and that has one revision. Operations and transactions
 * are values, built without a connection; {@link commit} sends one. The type of what comes back follows from the
 * branches: a tuple of operations gives a tuple of results, a struct gives a struct, one operation its result.
 *
 * Since they are values, operations and comparisons do not fail when they are made, whatever they are made of. {@link commit}
 * fails with `InvalidArgument` where something in them makes no sense, and sends nothing then.
 *
 * The semantics are those of `TxnRequest` in etcd's API and of `server/etcdserver/txn` and `server/etcdserver/api/v3rpc`
 * in its source, from where the checks before sending come as well.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type { MessageInitShape } from "@bufbuild/protobuf"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Pipeable from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as Types from "effect/Types"
import * as EtcdClient from "./EtcdClient.ts"
import * as EtcdError from "./EtcdError.ts"
import { LeaseId } from "./EtcdId.ts"
import type * as EtcdKv from "./EtcdKv.ts"
import type * as EtcdResponse from "./EtcdResponse.ts"
import * as Origin from "./internal/client/origin.ts"
import { kindOf, methodOf } from "./internal/client/rpcs.ts"
import * as Wire from "./internal/client/wire.ts"
import * as Json from "./internal/json.ts"
import * as Keys from "./internal/keys.ts"
import * as Comparisons from "./internal/kv/comparisons.ts"
import * as Requests from "./internal/kv/requests.ts"
import * as Check from "./internal/kv/txnCheck.ts"
import * as Options from "./internal/options.ts"
import * as Rpc from "./internal/proto/rpc_pb.ts"
import * as KeyRange from "./KeyRange.ts"

const CompareTypeId: Comparisons.TypeId = Comparisons.TypeId
const OpTypeId = "~effect-etcd/EtcdTxn/Op"

type RequestOp = MessageInitShape<typeof Rpc.RequestOpSchema>
type TxnRequest = MessageInitShape<typeof Rpc.TxnRequestSchema>

/**
 * A condition of a transaction: what {@link exists}, {@link value} and the other comparisons make.
 *
 * @category models
 * @since 0.1.0
 */
export interface Compare {
  readonly [CompareTypeId]: typeof CompareTypeId
}

/**
 * An operation of a transaction, whose result is an `A`. A whole transaction is one as well, so that it may stand
 * within another one.
 *
 * @category models
 * @since 0.1.0
 */
export interface Op<out A> extends Pipeable.Pipeable {
  readonly [OpTypeId]: { readonly _A: Types.Covariant<A> }
}

/**
 * What a branch is made of: one operation, a tuple or an array of them, or a struct of them by names of your choice.
 *
 * The operations run in the order in which they stand; each sees what those before it did. JavaScript moves names that
 * look like whole numbers (`"1"`) to the front of a struct, so that several operations cannot have such names.
 *
 * @category models
 * @since 0.1.0
 */
export type Branch = Op<unknown> | ReadonlyArray<Op<unknown>> | { readonly [name: string]: Op<unknown> }

/**
 * The results of a {@link Branch}, in its shape.
 *
 * @category models
 * @since 0.1.0
 */
export type Results<B> =
  B extends Op<infer A>
    ? A
    : B extends ReadonlyArray<unknown>
      ? { readonly [I in keyof B]: B[I] extends Op<infer A> ? A : never }
      : { readonly [K in keyof B]: B[K] extends Op<infer A> ? A : never }

/**
 * What a transaction is made of.
 *
 * @category models
 * @since 0.1.0
 */
export interface Transaction<out Success extends Branch, out Failure extends Branch> {
  /** All of them have to hold for `success` to run. */
  readonly compare: Compare | ReadonlyArray<Compare>
  /** What runs if they do. Default: nothing. */
  readonly success?: Success | undefined
  /** What runs otherwise. Default: nothing. */
  readonly failure?: Failure | undefined
}

/**
 * All comparisons held, and `success` ran.
 *
 * @category models
 * @since 0.1.0
 */
export interface Succeeded<out A> {
  /** Tells it from {@link Failed}. */
  readonly succeeded: true
  readonly header: EtcdResponse.Header
  /** Those of `success`, in its shape. */
  readonly results: A
}

/**
 * A comparison did not hold, and `failure` ran.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failed<out A> {
  /** Tells it from {@link Succeeded}. */
  readonly succeeded: false
  readonly header: EtcdResponse.Header
  /** Those of `failure`, in its shape. */
  readonly results: A
}

/**
 * How a key is read in a transaction: `EtcdKv.ReadOptions` without those of a call. `serializable` counts where all
 * operations, of both branches, are reads that say so.
 *
 * @category options
 * @since 0.1.0
 */
export interface ReadOptions extends Omit<EtcdKv.ReadOptions, keyof EtcdClient.CallOptions> {}

/**
 * How a range is read in a transaction: `EtcdKv.RangeOptions` without those of a call.
 *
 * @category options
 * @since 0.1.0
 */
export interface RangeOptions extends Omit<EtcdKv.RangeOptions, keyof EtcdClient.CallOptions> {}

/**
 * How a key is written in a transaction: `EtcdKv.PutOptions` without those of a call.
 *
 * @category options
 * @since 0.1.0
 */
export interface PutOptions extends Omit<EtcdKv.PutOptions, keyof EtcdClient.CallOptions> {}

/**
 * How keys are deleted in a transaction.
 *
 * @category options
 * @since 0.1.0
 */
export interface DeleteOptions extends Pick<EtcdKv.DeleteOptions, "previousValues"> {}

/**
 * Commits transactions to one cluster.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** Sends a transaction, or a single operation, and answers with its results. More at {@link commit}. */
  readonly commit: <A>(op: Op<A>, options?: EtcdClient.CallOptions | undefined) => Effect.Effect<A, EtcdError.EtcdError>
}

/**
 * The service that commits transactions: a {@link Service}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdTxn extends Context.Service<EtcdTxn, Service>()("effect-etcd/EtcdTxn") {}

// -----------------------------------------------------------------------------
// What is in them, which is nobody else's business
// -----------------------------------------------------------------------------

interface OpParts<out A> {
  readonly request: RequestOp
  readonly decode: (response: Rpc.ResponseOp, header: EtcdResponse.Header) => A
  /** What its parts are called, and what is wrong with them, where this is a transaction. */
  readonly parts: Check.Parts | undefined
  /** What is wrong with it, if anything is: said when the transaction is to be sent. */
  readonly problem: string | undefined
}

class Committed extends Json.Answer {
  readonly succeeded: boolean
  readonly header: EtcdResponse.Header
  readonly results: unknown

  constructor(succeeded: boolean, header: EtcdResponse.Header, results: unknown) {
    super()
    this.succeeded = succeeded
    this.header = header
    this.results = results
  }
}

Json.asPlain(Committed)

class Operation extends Pipeable.Class {
  readonly [OpTypeId]: OpParts<unknown>

  constructor(parts: OpParts<unknown>) {
    super()
    this[OpTypeId] = parts
  }

  toJSON(): unknown {
    const { problem, request } = this[OpTypeId]
    return Json.ofFields({ ...request, problem })
  }
}

const makeOp = <A>(parts: OpParts<A>): Op<A> => new Operation(parts) as unknown as Op<A>

const partsOfOp = <A>(op: Op<A>): OpParts<A> => op[OpTypeId] as unknown as OpParts<A>

// -----------------------------------------------------------------------------
// Comparisons
// -----------------------------------------------------------------------------

/**
 * What a key is compared with, to say how.
 *
 * @category models
 * @since 0.1.0
 */
export interface Comparison<in A> {
  /** Holds where it is the same. */
  readonly equals: (other: A) => Compare
  /** Holds where it is another one. */
  readonly notEquals: (other: A) => Compare
  /** Holds where it is greater: as a number, or, of values, later in the order of bytes. */
  readonly greaterThan: (other: A) => Compare
  /** Holds where it is less: as a number, or, of values, earlier in the order of bytes. */
  readonly lessThan: (other: A) => Compare
}

type Target = Pick<Comparisons.Request, "target" | "targetUnion">

const { EQUAL, GREATER, LESS, NOT_EQUAL } = Rpc.Compare_CompareResult
const { CREATE, LEASE, MOD, VALUE, VERSION } = Rpc.Compare_CompareTarget

const comparison = <A>(
  name: string,
  input: KeyRange.Input,
  check: Options.Check,
  target: (other: A) => Target
): Comparison<A> => {
  const who = `EtcdTxn.${name}`
  const wrongRange = Options.problemOfArgument(who, "the range", Options.range, input)
  const { end, key } = wrongRange === undefined ? KeyRange.fromInput(input) : KeyRange.all
  const compare =
    (result: Rpc.Compare_CompareResult) =>
    (other: A): Compare => {
      const problem = wrongRange ?? Options.problemOfArgument(who, "what is compared with", check, other)
      const request = { key, rangeEnd: end, result, ...(problem === undefined ? target(other) : {}) }
      return Comparisons.make({ requests: [request], problem: problem === undefined ? undefined : { at: "", problem } })
    }
  return {
    equals: compare(EQUAL),
    notEquals: compare(NOT_EQUAL),
    greaterThan: compare(GREATER),
    lessThan: compare(LESS)
  }
}

const isCompare = (input: unknown): input is Compare => Predicate.hasProperty(input, CompareTypeId)

const areCompares = (input: unknown): input is ReadonlyArray<Compare> => Array.isArray(input) && input.every(isCompare)

const severalCompares: Options.Check = {
  accepts: areCompares,
  due: "a list of comparisons, such as EtcdTxn.exists(key)"
}

/**
 * Compares the value of a key, byte by byte.
 *
 * It does not hold for a key that does not exist, not even with `notEquals`. For a range, here as in the other
 * comparisons, it must hold for every key of the range.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const unchanged = EtcdTxn.value("config").equals("v1")
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const value = (key: KeyRange.Input): Comparison<KeyRange.Bytes> =>
  comparison("value", key, Options.value, (other) => ({
    target: VALUE,
    targetUnion: { case: "value", value: Keys.own(other) }
  }))

/**
 * Compares how often a key was written since it was created: 1 after creation, and 0 for a key that does not exist.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const isFresh = EtcdTxn.version("config").lessThan(2n) // created and not written since, or not there
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const version = (key: KeyRange.Input): Comparison<bigint> =>
  comparison("version", key, Options.revision, (other) => ({
    target: VERSION,
    targetUnion: { case: "version", value: other }
  }))

/**
 * Compares the revision that created a key: 0 for a key that does not exist.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * // Not deleted and made anew since it was read.
 * const isTheSame = (created: bigint) => EtcdTxn.createRevision("lock/owner").equals(created)
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const createRevision = (key: KeyRange.Input): Comparison<bigint> =>
  comparison("createRevision", key, Options.revision, (other) => ({
    target: CREATE,
    targetUnion: { case: "createRevision", value: other }
  }))

/**
 * Compares the revision that changed a key last: 0 for a key that does not exist.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdKv, EtcdTxn } from "effect-etcd"
 *
 * // Adds one, unless somebody has written the counter meanwhile.
 * const increment = Effect.gen(function*() {
 *   const read = yield* EtcdKv.get("counter")
 *   const [revision, count] = Option.match(read, {
 *     onNone: () => [0n, 0] as const,
 *     onSome: (kv) => [kv.modRevision, Number(kv.valueString)] as const
 *   })
 *   const { succeeded } = yield* EtcdTxn.commit(EtcdTxn.make({
 *     compare: EtcdTxn.modRevision("counter").equals(revision),
 *     success: EtcdTxn.put("counter", String(count + 1))
 *   }))
 *   return succeeded
 * })
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const modRevision = (key: KeyRange.Input): Comparison<bigint> =>
  comparison("modRevision", key, Options.revision, (other) => ({
    target: MOD,
    targetUnion: { case: "modRevision", value: other }
  }))

/**
 * Compares the lease of a key: 0 for a key without one, or a key that does not exist.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const stays = EtcdTxn.lease("config").equals(0n)
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const lease = (key: KeyRange.Input): Comparison<LeaseId | 0n> =>
  comparison("lease", key, Options.lease, (other) => ({
    target: LEASE,
    targetUnion: { case: "lease", value: LeaseId(other) }
  }))

/**
 * The key exists. For a range: it has a key.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const rename = (value: string) =>
 *   EtcdTxn.make({ compare: EtcdTxn.exists("old"), success: [EtcdTxn.put("new", value), EtcdTxn.delete("old")] })
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const exists = (key: KeyRange.Input): Compare => createRevision(key).notEquals(0n)

/**
 * The key does not exist. For a range: it has no key.
 *
 * @example
 * ```ts
 * import { EtcdTxn, KeyRange } from "effect-etcd"
 *
 * const first = EtcdTxn.make({
 *   compare: EtcdTxn.missing(KeyRange.prefix("members/")),
 *   success: EtcdTxn.put("members/1", "founder")
 * })
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const missing = (key: KeyRange.Input): Compare => createRevision(key).equals(0n)

/**
 * Several comparisons as one, which holds if all of them do. Without any it always holds.
 *
 * A server counts each of them (`--max-txn-ops`).
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const isMine = EtcdTxn.every([EtcdTxn.exists("owner"), EtcdTxn.value("owner").equals("me")])
 * const claim = EtcdTxn.make({ compare: [isMine, EtcdTxn.missing("done")], success: EtcdTxn.put("done", "yes") })
 * ```
 *
 * @category comparisons
 * @since 0.1.0
 */
export const every = (compares: ReadonlyArray<Compare>): Compare => {
  const problem = Options.problemOfArgument("EtcdTxn.every", "what it is given", severalCompares, compares)
  return problem === undefined
    ? Comparisons.every(compares)
    : Comparisons.make({ requests: [], problem: { at: "", problem } })
}

// -----------------------------------------------------------------------------
// Operations
// -----------------------------------------------------------------------------

type Case = Rpc.ResponseOp["response"]["case"] & string
type ResponseOf<C extends Case> = Extract<Rpc.ResponseOp["response"], { readonly case: C }>["value"]

/** That the answer is of the case `C` has been checked when `decode` is called. */
const operation = <C extends Case, A>(
  _answer: C,
  request: RequestOp["request"],
  decode: (response: ResponseOf<C>, header: EtcdResponse.Header) => A,
  parts?: Check.Parts
): Op<A> =>
  makeOp({
    request: { request } as RequestOp,
    decode: (response, header) => decode(response.response.value as ResponseOf<C>, header),
    parts,
    problem: undefined
  })

/** In the place of an operation that cannot be one. */
const impossible = (problem: string): Op<never> =>
  makeOp({
    request: {},
    decode: () => {
      throw new Error(problem)
    },
    parts: undefined,
    problem
  })

const wrongKey = (who: string, key: unknown) => Options.problemOfArgument(who, "the key", Options.key, key)

const wrongRange = (who: string, range: unknown) => Options.problemOfArgument(who, "the range", Options.range, range)

/** Of its own, the header of an operation has no more than the revision at which it saw the store. */
const headerOf = (own: Rpc.ResponseHeader | undefined, header: EtcdResponse.Header): EtcdResponse.Header =>
  own === undefined || own.revision === 0n ? header : Json.answer({ ...header, revision: own.revision })

/**
 * Whether something is an operation of a transaction, or a transaction.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * EtcdTxn.isOp(EtcdTxn.get("a")) // true
 * EtcdTxn.isOp(EtcdTxn.exists("a")) // false: a comparison
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isOp = (input: unknown): input is Op<unknown> => Predicate.hasProperty(input, OpTypeId)

const anOp: Options.Check = { accepts: isOp, due: "an operation or a transaction" }

const getAs = (
  who: string,
  key: KeyRange.Bytes,
  options: ReadOptions | undefined
): Op<Option.Option<EtcdResponse.KeyValue>> => {
  const problem = wrongKey(who, key) ?? Options.problemOf(who, Requests.ofRead, options)
  if (problem !== undefined) return impossible(problem)
  return operation(
    "responseRange",
    { case: "requestRange", value: Requests.range(KeyRange.single(key), options ?? {}) },
    (response) => Wire.optionalKeyValue(response.kvs[0])
  )
}

/**
 * Reads one key: its value and history, or `None` if there is no such key. It sees what the operations before it in the
 * branch did.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdTxn } from "effect-etcd"
 *
 * // The version of a key counts its writes: each caller gets a number of its own.
 * const next = EtcdTxn.commit(EtcdTxn.all([EtcdTxn.put("ids", ""), EtcdTxn.get("ids")])).pipe(
 *   Effect.map(([, ids]) => Option.getOrThrow(ids).version)
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const get = (key: KeyRange.Bytes, options?: ReadOptions | undefined): Op<Option.Option<EtcdResponse.KeyValue>> =>
  getAs("EtcdTxn.get", key, options)

/**
 * Reads the value of one key as text, or `None` if there is no such key; otherwise as {@link get}.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * // Effect<{ host: Option<string>, port: Option<string> }>: both of one revision
 * const database = EtcdTxn.commit(EtcdTxn.all({
 *   host: EtcdTxn.getString("db/host"),
 *   port: EtcdTxn.getString("db/port")
 * }))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const getString = (key: KeyRange.Bytes, options?: ReadOptions | undefined): Op<Option.Option<string>> =>
  map(
    getAs("EtcdTxn.getString", key, options),
    Option.map((kv) => kv.valueString)
  )

/**
 * Reads a range of keys, as `EtcdKv.range` does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdTxn, KeyRange } from "effect-etcd"
 *
 * // What is there, and how far it has got, of one revision.
 * const jobs = EtcdTxn.commit(EtcdTxn.all({
 *   open: EtcdTxn.range(KeyRange.prefix("jobs/"), { limit: 100 }),
 *   done: EtcdTxn.range(KeyRange.prefix("done/"), { countOnly: true })
 * })).pipe(
 *   Effect.map(({ done, open }) => ({ open: open.kvs, done: done.count }))
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const range = (range: KeyRange.Input, options?: RangeOptions | undefined): Op<EtcdKv.RangeResult> => {
  const who = "EtcdTxn.range"
  const problem = wrongRange(who, range) ?? Options.problemOf(who, Requests.ofRange, options)
  if (problem !== undefined) return impossible(problem)
  return operation(
    "responseRange",
    { case: "requestRange", value: Requests.range(KeyRange.fromInput(range), options ?? {}) },
    (response, header) => Requests.rangeResult(response, headerOf(response.header, header))
  )
}

/**
 * Writes one key. A branch may write a key only once, and not delete it as well: {@link commit} fails with `DuplicateKey`
 * then.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const rename = (name: string) =>
 *   EtcdTxn.commit(EtcdTxn.all([EtcdTxn.put("users/1", name), EtcdTxn.put(`names/${name}`, "1")]))
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const put = (
  key: KeyRange.Bytes,
  value: KeyRange.Bytes,
  options?: PutOptions | undefined
): Op<EtcdKv.PutResult> => {
  const who = "EtcdTxn.put"
  const problem =
    wrongKey(who, key) ??
    Options.problemOfArgument(who, "the value", Options.value, value) ??
    Options.problemOf(who, Requests.ofPut, options)
  if (problem !== undefined) return impossible(problem)
  return operation(
    "responsePut",
    { case: "requestPut", value: Requests.put(Keys.own(key), Keys.own(value), options ?? {}) },
    (response, header) => Requests.putResult(response, headerOf(response.header, header))
  )
}

const deleteAs = (
  who: string,
  range: KeyRange.KeyRange,
  options: DeleteOptions | undefined
): Op<EtcdKv.DeleteResult> => {
  const problem = Options.problemOf(who, Requests.ofDeleteInTxn, options)
  if (problem !== undefined) return impossible(problem)
  return operation(
    "responseDeleteRange",
    { case: "requestDeleteRange", value: Requests.deleteRange(range, options ?? {}) },
    (response, header) => Requests.deleteResult(response, headerOf(response.header, header))
  )
}

const delete_ = (range: KeyRange.Input, options?: DeleteOptions | undefined): Op<EtcdKv.DeleteResult> => {
  const who = "EtcdTxn.delete"
  const problem = wrongRange(who, range)
  return problem === undefined ? deleteAs(who, KeyRange.fromInput(range), options) : impossible(problem)
}

export {
  /**
   * Deletes one key, or a range of keys. That there is none is no error.
   *
   * @example
   * ```ts
   * import { EtcdTxn } from "effect-etcd"
   *
   * // Only if it is still mine.
   * const release = EtcdTxn.commit(EtcdTxn.make({
   *   compare: EtcdTxn.value("owner").equals("me"),
   *   success: EtcdTxn.delete("owner")
   * }))
   * ```
   *
   * @category operations
   * @since 0.1.0
   */
  delete_ as delete
}

/**
 * Deletes all keys that begin with the prefix; the empty one is every key.
 *
 * @example
 * ```ts
 * import { EtcdTxn } from "effect-etcd"
 *
 * const replace = EtcdTxn.all([EtcdTxn.deletePrefix("v1/"), EtcdTxn.put("v2/config", "{}")])
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const deletePrefix = (prefix: KeyRange.Bytes, options?: DeleteOptions | undefined): Op<EtcdKv.DeleteResult> => {
  const who = "EtcdTxn.deletePrefix"
  const problem = Options.problemOfArgument(who, "the prefix", Options.bytes, prefix)
  return problem === undefined ? deleteAs(who, KeyRange.prefix(prefix), options) : impossible(problem)
}

/**
 * Makes another value of the result of an operation, or of a whole transaction.
 *
 * @example
 * ```ts
 * import { EtcdTxn, KeyRange } from "effect-etcd"
 *
 * const names = EtcdTxn.range(KeyRange.prefix("users/"), { keysOnly: true }).pipe(
 *   EtcdTxn.map((users) => users.kvs.map((kv) => kv.keyString))
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const map: {
  <A, B>(f: (result: A) => B): (self: Op<A>) => Op<B>
  <A, B>(self: Op<A>, f: (result: A) => B): Op<B>
} = dual(2, <A, B>(self: Op<A>, f: (result: A) => B): Op<B> => {
  const problem =
    Options.problemOfArgument("EtcdTxn.map", "what is mapped", anOp, self) ??
    Options.problemOfArgument("EtcdTxn.map", "what makes the new result", Options.callback, f)
  if (problem !== undefined) return impossible(problem)
  const own = partsOfOp(self)
  return makeOp({ ...own, decode: (response, header) => f(own.decode(response, header)) })
})

// -----------------------------------------------------------------------------
// Transactions
// -----------------------------------------------------------------------------

/** A branch as the list that it is on the wire, and how to give the results its shape again. */
interface Shape {
  readonly ops: ReadonlyArray<Op<unknown>>
  /** Undefined: by their places. */
  readonly labels: ReadonlyArray<string> | undefined
  readonly build: (results: ReadonlyArray<unknown>) => unknown
}

const aTransaction: Options.Check = { accepts: Options.isObject, due: "{ compare, success, failure }" }

/** Each operation of it is looked at by itself. */
const branch: Options.Check = {
  accepts: (value) => isOp(value) || Array.isArray(value) || Options.isObject(value),
  due: "an operation, a list of operations, or an object with operations"
}

/** Such names come first in an object, in the order of the numbers. */
const isMoved = (name: string): boolean => /^(?:0|[1-9][0-9]*)$/.test(name)

const unordered = (name: string): string =>
  `a struct does not keep the place of a name that is a whole number, as ${JSON.stringify(name)}: use other names, or an array`

const shapeOf = (branch: Branch): Shape => {
  if (isOp(branch)) return { ops: [branch], labels: [""], build: (results) => results[0] }
  if (Array.isArray(branch)) {
    return { ops: [...branch], labels: undefined, build: (results) => results }
  }
  const entries = Object.entries(branch)
  const moved = entries.length > 1 ? entries.find(([name]) => isMoved(name)) : undefined
  return {
    ops: moved === undefined ? entries.map(([, op]) => op) : [impossible(unordered(moved[0]))],
    labels: entries.map(([name]) => `.${name}`),
    build: (results) => Object.fromEntries(entries.map(([name], index) => [name, results[index]]))
  }
}

/** Whoever does not heed the types gives something else now and then. */
const partsOf = (op: unknown): OpParts<unknown> => {
  const problem = Options.problemOfArgument("EtcdTxn", "what is to be done", anOp, op)
  return partsOfOp(problem === undefined ? (op as Op<unknown>) : impossible(problem))
}

const requestsOf = (shape: Shape): Array<RequestOp> => shape.ops.map((op) => partsOf(op).request)

/** Whether there is nothing to be said of it beyond its place. */
const isPlain = (op: unknown): boolean => {
  const { parts, problem } = partsOf(op)
  return parts === undefined && problem === undefined
}

const namesOf = (shape: Shape): ReadonlyArray<Check.Part> =>
  shape.labels === undefined && shape.ops.every(isPlain)
    ? []
    : shape.ops.map((op, index) => {
        const { parts, problem } = partsOf(op)
        return { label: shape.labels?.[index] ?? `[${index}]`, parts, problem }
      })

const resultsOf = (shape: Shape, responses: ReadonlyArray<Rpc.ResponseOp>, header: EtcdResponse.Header): unknown =>
  shape.build(shape.ops.map((op, index) => partsOfOp(op).decode(responses[index]!, header)))

const ofTransaction: Options.Checks<Transaction<Branch, Branch>> = {
  compare: {
    accepts: (value) => isCompare(value) || areCompares(value),
    due: "a comparison, such as EtcdTxn.exists(key), or a list of them"
  },
  success: branch,
  failure: branch
}

const problemOfTransaction = (who: string, parts: Transaction<Branch, Branch>): string | undefined =>
  Options.problemOfArgument(who, "what it is given", aTransaction, parts) ??
  Options.problemOf(who, ofTransaction, parts) ??
  Options.problemOfArgument(who, "the option compare", ofTransaction.compare, parts.compare)

/**
 * A transaction: if all comparisons hold, the operations of `success` run, otherwise those of `failure`.
 *
 * A branch is one operation, a tuple, or a struct; the results have the same shape, and are told apart by `succeeded`.
 * What makes no sense in it is said by {@link commit}, which fails with `InvalidArgument`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdTxn } from "effect-etcd"
 *
 * const claim = Effect.gen(function*() {
 *   const claimed = yield* EtcdTxn.commit(EtcdTxn.make({
 *     compare: [EtcdTxn.missing("owner")],
 *     success: { owner: EtcdTxn.put("owner", "me"), log: EtcdTxn.put("log/1", "claimed") },
 *     failure: { owner: EtcdTxn.getString("owner") }
 *   }))
 *   return claimed.succeeded
 *     ? claimed.results.owner.header.revision // bigint
 *     : claimed.results.owner // Option<string>
 * })
 * ```
 *
 * @category transactions
 * @since 0.1.0
 */
export const make = <const Success extends Branch = readonly [], const Failure extends Branch = readonly []>(
  parts: Transaction<Success, Failure>
): Op<Succeeded<Results<Success>> | Failed<Results<Failure>>> => {
  const problem = problemOfTransaction("EtcdTxn.make", parts)
  if (problem !== undefined) return impossible(problem)
  const compares = isCompare(parts.compare) ? [parts.compare] : parts.compare
  const success = shapeOf(parts.success ?? [])
  const failure = shapeOf(parts.failure ?? [])
  return operation(
    "responseTxn",
    {
      case: "requestTxn",
      value: {
        compare: compares.flatMap(Comparisons.requestsOf),
        success: requestsOf(success),
        failure: requestsOf(failure)
      }
    },
    (response, outer) => {
      const header = headerOf(response.header, outer)
      const { responses, succeeded } = response
      const results = resultsOf(succeeded ? success : failure, responses, header)
      return new Committed(succeeded, header, results) as Succeeded<Results<Success>> | Failed<Results<Failure>>
    },
    {
      compare: compares.map(Comparisons.problemOf),
      success: namesOf(success),
      failure: namesOf(failure)
    }
  )
}

/**
 * Several operations as one, without a condition. The result is that of the branch alone.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdTxn } from "effect-etcd"
 *
 * // both as they are at one and the same revision
 * const pair = EtcdTxn.commit(EtcdTxn.all({ user: EtcdTxn.get("user"), group: EtcdTxn.get("group") })).pipe(
 *   Effect.map(({ user, group }) => [user, group])
 * )
 * ```
 *
 * @category transactions
 * @since 0.1.0
 */
export const all = <const B extends Branch>(operations: B): Op<Results<B>> => {
  const problem = Options.problemOfArgument("EtcdTxn.all", "what it is given", branch, operations)
  if (problem !== undefined) return impossible(problem)
  return map(make({ compare: [], success: operations }), (result) => result.results as Results<B>)
}

/** The request and its parts. An operation that is no transaction is put into one. */
const requestOf = <A>(op: Op<A>): OpParts<A> & { readonly txn: TxnRequest } => {
  const own = partsOfOp(op)
  if (own.request.request?.case === "requestTxn") return { ...own, txn: own.request.request.value }
  return requestOf(all(op) as Op<A>)
}

const noAnswer = (request: TxnRequest) => {
  const outcome = kindOf(methodOf(Rpc.KV.method.txn), request) === "read" ? "not-applied" : "unknown"
  return EtcdError.make(
    new EtcdError.ProtocolViolation({
      message:
        "The answer to the transaction does not have the operations that were asked for. Is there something between " +
        `client and server that changes what they send?${outcome === "unknown" ? " Whether it was applied is unknown." : ""}`,
      outcome,
      method: "KV.Txn"
    })
  )
}

/**
 * The service over a client: for a program with more than one client. It ends with the client.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdTxn } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"] })
 *   return yield* EtcdTxn.fromClient(client).commit(EtcdTxn.all([EtcdTxn.getString("a"), EtcdTxn.getString("b")]))
 * })
 * const both = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client): Service => {
  const grounded = Origin.ground(client)
  return {
    commit: (op, options) =>
      Effect.suspend(() => {
        const wrong =
          Options.wrongArgument("EtcdTxn.commit", "what is committed", anOp, op) ??
          Options.wrongCall("EtcdTxn.commit", options)
        if (wrong !== undefined) return wrong
        const { problem } = partsOfOp(op)
        if (problem !== undefined) return Effect.fail(Options.invalid(problem))
        const { decode, parts, txn } = requestOf(op)
        const refused = Check.check(txn, parts)
        if (refused !== undefined) return Effect.fail(refused)
        return grounded.unary(Rpc.KV.method.txn, txn, options).pipe(
          Effect.catchReason("EtcdError", "TooManyOps", (reason) => Effect.fail(Check.tooManyOps(txn, reason))),
          Effect.flatMap((response) =>
            Check.isAnswerTo(txn, response)
              ? Effect.sync(() => decode(asOperation(response), Wire.header(response.header)))
              : Effect.fail(noAnswer(txn))
          )
        )
      })
  }
}

const asOperation = (response: Rpc.TxnResponse): Rpc.ResponseOp => ({
  $typeName: "etcdserverpb.ResponseOp",
  response: { case: "responseTxn", value: response }
})

/**
 * Provides {@link EtcdTxn} over the {@link EtcdClient.EtcdClient} that is there. `EtcdLayer.connect` provides it with
 * all the others.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { EtcdClient, EtcdTxn } from "effect-etcd"
 *
 * const live = EtcdTxn.layer.pipe(Layer.provide(EtcdClient.layer({ endpoints: ["127.0.0.1:2379"] })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<EtcdTxn, never, EtcdClient.EtcdClient> = Layer.effect(
  EtcdTxn,
  Effect.map(EtcdClient.EtcdClient, fromClient)
)

/**
 * Sends a transaction, or a single operation, and answers with its results.
 *
 * That `failure` ran is no error. Fails with `DuplicateKey` or `InvalidArgument`, without sending it, when the server
 * would refuse it, with `TooManyOps` when it has more comparisons or operations than the server takes (`--max-txn-ops`,
 * 128 by default), and with the reasons of reads and writes. A transaction that only reads is sent again after a failure,
 * as a read is; one that may write only if it certainly was not applied, and otherwise `outcome` of the error is `unknown`.
 * Interrupting it cancels the call; a transaction that writes may have been applied all the same.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdTxn } from "effect-etcd"
 *
 * const create = (key: string, value: string) =>
 *   EtcdTxn.commit(EtcdTxn.make({ compare: EtcdTxn.missing(key), success: EtcdTxn.put(key, value) })).pipe(
 *     Effect.map(({ succeeded }) => succeeded) // false: there is one already
 *   )
 * ```
 *
 * @category transactions
 * @since 0.1.0
 */
export const commit = <A>(
  op: Op<A>,
  options?: EtcdClient.CallOptions | undefined
): Effect.Effect<A, EtcdError.EtcdError, EtcdTxn> => EtcdTxn.use((service) => service.commit(op, options))
