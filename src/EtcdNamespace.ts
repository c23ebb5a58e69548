/**
 * Namespaces: a part of etcd's keys that looks like all of them.
 *
 * Within a namespace every key gets its prefix on the way to etcd and loses it on the way back, in every service that is
 * built on {@link EtcdClient.EtcdClient}: reads, writes, transactions, watches, the keys of leases, permissions, and the
 * keys of etcd's own locks and elections. No request reaches a key outside: `KeyRange.all` and `KeyRange.from` end where
 * the namespace ends. Namespaces may be nested.
 *
 * What has no keys, or is none of etcd's API, is as it is without a namespace: revisions and their compaction, leases
 * (revoking one deletes its keys wherever they are), members, users, and the snapshot of the whole store. A namespace
 * keeps programs apart that mean well; to keep others out, grant roles permissions on the prefix.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type { DescMessage, DescMethod, MessageInitShape } from "@bufbuild/protobuf"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as EtcdClient from "./EtcdClient.ts"
import * as EtcdError from "./EtcdError.ts"
import * as Origin from "./internal/client/origin.ts"
import * as Keys from "./internal/keys.ts"
import * as Namespace from "./internal/kv/namespace.ts"
import * as Options from "./internal/options.ts"
import type * as KeyRange from "./KeyRange.ts"

const noKey = (method: DescMethod): EtcdError.EtcdError => {
  const name = `${method.parent.name}.${method.name}`
  return EtcdError.make(
    new EtcdError.InvalidArgument({
      message: `${name} was given an empty key. Give a key that is not empty.`,
      outcome: "not-applied",
      method: name
    })
  )
}

/**
 * What of a client may have to do with keys: all that is not named here, so that something new does not compile before
 * it has been thought of. The rest is inherited, what only this library knows of included.
 */
type Calls = Omit<EtcdClient.Client, "defaults" | "endpoints">

type Messages<I extends DescMessage, O extends DescMessage> = Omit<
  EtcdClient.Duplex<I, O>,
  "end" | "endpoint" | "draining" | "renewToken"
>

/**
 * A client that sees the keys that begin with the prefix, without the prefix, and no others.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdKv, EtcdNamespace } from "effect-etcd"
 *
 * const tenant = Effect.gen(function*() {
 *   const client = yield* EtcdClient.EtcdClient
 *   const kv = EtcdKv.fromClient(EtcdNamespace.fromClient(client, "tenants/a/"))
 *   yield* kv.put("color", "blue") // writes tenants/a/color
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromClient = (client: EtcdClient.Client, prefix: KeyRange.Bytes): EtcdClient.Client => {
  const wrong = Options.wrongArgument("EtcdNamespace", "the prefix", Options.bytes, prefix)
  const bytes = wrong === undefined ? Keys.own(prefix) : new Uint8Array(0)
  if (wrong === undefined && bytes.length === 0) return client
  const grounded = Origin.ground(client)
  const namespace = Namespace.make(bytes)

  /** What is wrong before anything is sent. */
  const refusal = (method: DescMethod, request: unknown): Effect.Effect<never, EtcdError.EtcdError> | undefined =>
    wrong ?? (Namespace.rewriteOf(method)?.isKeyless?.(request) === true ? Effect.fail(noKey(method)) : undefined)

  const enter = <I extends DescMessage>(method: DescMethod, request: MessageInitShape<I>): MessageInitShape<I> =>
    Namespace.rewriteOf(method)?.request?.(namespace, request) ?? request

  const leave = (method: DescMethod) => {
    const rewrite = Namespace.rewriteOf(method)?.response
    return <A>(response: A): A => {
      rewrite?.(namespace, response)
      return response
    }
  }

  const inside: Calls = {
    unary: (method, request, options) =>
      refusal(method, request) ?? Effect.map(grounded.unary(method, enter(method, request), options), leave(method)),
    serverStream: (method, request, options) => {
      const refused = refusal(method, request)
      return refused === undefined
        ? Stream.map(grounded.serverStream(method, enter(method, request), options), leave(method))
        : Stream.fromEffect(refused)
    },
    bidirectional: (method, options) =>
      wrong ??
      Effect.map(grounded.bidirectional(method, options), (duplex) => {
        const inside: Messages<typeof method.input, typeof method.output> = {
          send: (message) => duplex.send(enter(method, message)),
          messages: Stream.map(duplex.messages, leave(method))
        }
        return { ...duplex, ...inside }
      })
  }
  return Origin.within({ ...grounded, ...inside }, bytes)
}

const layerClient = (prefix: KeyRange.Bytes): Layer.Layer<EtcdClient.EtcdClient, never, EtcdClient.EtcdClient> =>
  Layer.effect(
    EtcdClient.EtcdClient,
    Effect.map(EtcdClient.EtcdClient, (client) => fromClient(client, prefix))
  )

/**
 * Provides services, and the client below them, within a namespace of the client that is there.
 *
 * The services are always made anew. (A layer that was built already is otherwise used again, and would still be the
 * one without the namespace. The same goes for layers of your own that are to exist in several namespaces: wrap them in
 * `Layer.fresh`.)
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { EtcdKv, EtcdLayer, EtcdNamespace, EtcdWatch } from "effect-etcd"
 *
 * const services = EtcdNamespace.layer("app/", Layer.mergeAll(EtcdKv.layer, EtcdWatch.layer))
 *
 * const program = EtcdKv.put("color", "blue").pipe( // writes app/color
 *   Effect.provide(services),
 *   Effect.provide(EtcdLayer.connect({ endpoints: ["localhost:2379"] }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <A, E, R>(
  prefix: KeyRange.Bytes,
  services: Layer.Layer<A, E, R>
): Layer.Layer<A | EtcdClient.EtcdClient, E, EtcdClient.EtcdClient | Exclude<R, EtcdClient.EtcdClient>> =>
  Layer.fresh(Layer.provideMerge(services, layerClient(prefix)))
