/**
 * Batching: many small calls at the cost of few.
 *
 * Most of what a get or a put of one key costs, here and in etcd, it costs for being a request. With batching, calls
 * that are made at the same time go out together as one transaction, and each gets its own answer out of it. Nothing
 * waits for a batch to fill: with nothing in flight a call goes out at once, as it would without batching; what is
 * called while requests are in flight gathers, and goes out when one of them has come back.
 *
 * It pays where many fibers call at the same time, and there it multiplies the throughput. It changes nothing for a
 * program that makes one call after the other.
 *
 * What takes part are gets, puts and deletes of single keys, whichever service makes them. Ranges, transactions, watches
 * and everything else go through as they are; so do calls that choose their endpoint, metadata or retries, and what is
 * written under a lock, which is fenced.
 *
 * Each caller sees what it would have seen alone: a read as linearizable or serializable as it asked for; its own
 * result, previous value and error; its own deadline; and it can be interrupted alone. When etcd refuses a transaction
 * for what one call in it asks (a key that is missing, a lease that has ended, a permission that is not there, a size),
 * it has applied none of it, and the calls are sent again in halves, until the one stands alone. When it is unknown
 * whether a transaction was applied, every write in it fails with the outcome `unknown`, and none is sent again.
 *
 * The differences that can be seen:
 *
 * - Writes that share a transaction are one change of the store: they have one revision, and a watch sees them together.
 * - Calls that take part and write the same key go one after the other, in the order they were made. A program that
 *   writes one key many times at once is slower with batching.
 * - In a transaction etcd 3.4 does not ask whether the user may read what `previousValue` answers with, nor whether the
 *   other keys of a lease may be written.
 * - In metrics and spans the requests are the transactions. Where somebody traces, a call that waited has a span of its
 *   own (`EtcdKv.put`), and the transaction's span is below that of one of the calls in it, and links to those of the
 *   others, 128 at most.
 *
 * Switch it on for a client (`batching: true` in `EtcdClient.Options`), or for a part of a program with {@link layer}.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EtcdClient from "./EtcdClient.ts"
import type { EtcdError } from "./EtcdError.ts"
import * as Batch from "./internal/batch/batch.ts"
import * as Origin from "./internal/client/origin.ts"
import * as Wrapped from "./internal/wrapped.ts"

/**
 * How much goes out together.
 *
 * @category options
 * @since 0.1.0
 */
export type Options = EtcdClient.BatchingOptions

/**
 * A client whose calls on single keys share transactions. Nothing has to be closed: a transaction ends at the latest
 * when nobody waits for it any more.
 *
 * A deadline counts from the call, whether it is the call's own, the client's default, or the limit of 30 seconds where
 * there is neither; and so does its message.
 *
 * Fails with `InvalidArgument` if an option makes no sense.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdBatch, EtcdClient, EtcdKv } from "effect-etcd"
 *
 * const warmUp = (keys: ReadonlyArray<string>) =>
 *   Effect.gen(function*() {
 *     const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(yield* EtcdClient.EtcdClient))
 *     return yield* Effect.forEach(keys, (key) => kv.get(key), { concurrency: "unbounded" })
 *   })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (
  client: EtcdClient.Client,
  options: Options = {}
): Effect.Effect<EtcdClient.Client, EtcdError> => Batch.make(Origin.ground(client), options)

/**
 * Provides services, and the client below them, with batching over the client that is there. The services are always
 * made anew, so that they are not those without batching. Fails as {@link fromClient} does.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdBatch, EtcdKv, EtcdLayer } from "effect-etcd"
 *
 * const program = Effect.forEach(
 *   Array.from({ length: 1000 }, (_, index) => `item/${index}`),
 *   (key) => EtcdKv.put(key, "new"),
 *   { concurrency: "unbounded" }
 * ).pipe(
 *   Effect.provide(EtcdBatch.layer(EtcdKv.layer)),
 *   Effect.provide(EtcdLayer.connect({ endpoints: ["localhost:2379"] }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <A, E, R>(
  services: Layer.Layer<A, E, R>,
  options: Options = {}
): Layer.Layer<A | EtcdClient.EtcdClient, E | EtcdError, EtcdClient.EtcdClient | Exclude<R, EtcdClient.EtcdClient>> =>
  Layer.fresh(
    Layer.provideMerge(
      services,
      Layer.effect(
        EtcdClient.EtcdClient,
        Effect.flatMap(EtcdClient.EtcdClient, (client) => fromClient(client, options))
      )
    )
  )

/**
 * As {@link layer}, with options from Effect's `Config`, read when the layer is built.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link layer} where it makes no sense.
 *
 * @example
 * ```ts
 * import { Config } from "effect"
 * import { EtcdBatch, EtcdKv } from "effect-etcd"
 *
 * const live = EtcdBatch.layerConfig(EtcdKv.layer, {
 *   maxOperations: Config.withDefault(Config.Int("ETCD_MAX_TXN_OPS"), 128)
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <A, E, R>(
  services: Layer.Layer<A, E, R>,
  options: EtcdClient.ConfigOf<Options>
): Layer.Layer<
  A | EtcdClient.EtcdClient,
  E | Config.ConfigError | EtcdError,
  EtcdClient.EtcdClient | Exclude<R, EtcdClient.EtcdClient>
> => Layer.unwrap(Effect.map(Wrapped.unwrap<Options>(options), (options) => layer(services, options)))
