/**
 * The connection to etcd: endpoints, TLS, credentials, deadlines and retries. Every service of this library that talks
 * to etcd calls it; programs use it directly only for calls that no service has.
 *
 * A call goes to one endpoint, over a connection that is opened when it is first needed. When the endpoint fails, the
 * call is sent to another one at once, and then again after pauses, if and only if it is certain that it was not
 * applied: that is so for every call that only reads, and for a write that certainly did not reach etcd or that etcd
 * refused. Otherwise it fails, and `outcome` of the error says `unknown`.
 *
 * When a call takes long (300 ms, and two round trips), the client asks the members who leads, and in which term. If the
 * leader has changed since the call was sent, or is gone, the member that has the call will not answer it, or only when
 * etcd itself gives up after seconds. Then calls that only read are sent elsewhere, and a write ends with the reason
 * `LeaderChanged` and the outcome `unknown`. A member that sends not a single byte while others answer is left: calls that
 * only read go elsewhere, and so do calls that were not sent yet, at most once to each endpoint. A write that such a member
 * has waits for a change of the leader, or until the connection shows no sign of life (see `keepAliveInterval`). Otherwise
 * a call is left alone, however long it takes. So a client whose endpoints are all members of the cluster has recovered
 * from the loss of a leader about 100 ms after there is a new one.
 *
 * The client talks to one cluster: that of the first endpoint that answers, or the one that `clusterId` names. An
 * endpoint of another cluster is only asked which cluster it belongs to (with the token, if it requires one). It is
 * then skipped, with a warning in the log, and calls that have nowhere else to go fail with `ClusterIdMismatch`.
 *
 * Deadlines, pauses and keep-alives run in real, monotonic time, whatever `Clock` the program has, and whatever becomes of
 * the wall clock. Schedules that are given for them are asked in that time too. What a program does around a call, such
 * as `Effect.timeout`, runs on its own `Clock`.
 *
 * Where a tracer is installed, each call is a span with OpenTelemetry's attributes for RPCs (`rpc.system.name`,
 * `rpc.method`, `rpc.status_code`, `error.type`, `server.address`, `server.port` and others), whose identity is sent to
 * etcd. What the client does in the background is in no trace. Metrics: OpenTelemetry's `rpc.client.call.duration`, and
 * `etcd_client_resends_total`, `etcd_client_sent_bytes_total`, `etcd_client_received_bytes_total`,
 * `etcd_client_batch_size`, `etcd_client_connections` and `etcd_client_dials_total`. Connections that come and go are
 * logged at debug level, annotated with `endpoint`, `server.address` and `server.port`, with the logger of who called
 * last. The guide to observability has all of it.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type {
  DescMessage,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape
} from "@bufbuild/protobuf"
import type * as ByteSize from "effect/ByteSize"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Pipeable } from "effect/Pipeable"
import type * as Redacted from "effect/Redacted"
import type * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { EtcdError } from "./EtcdError.ts"
import type * as EtcdId from "./EtcdId.ts"
import * as Batch from "./internal/batch/batch.ts"
import * as internal from "./internal/client/client.ts"
import * as defaults from "./internal/client/options.ts"
import * as Origin from "./internal/client/origin.ts"
import * as Wrapped from "./internal/wrapped.ts"

/**
 * How one call is made.
 *
 * @category options
 * @since 0.1.0
 */
export interface CallOptions {
  /**
   * How long the call may take in all, every try and every pause included. When it is over the call fails with
   * `DeadlineExceeded`. Zero is no time at all, infinity as long as it takes. Default: that of the service, or of the
   * client.
   */
  readonly deadline?: Duration.Input | undefined
  /**
   * The pauses between tries, and when to give up. It is not asked before the first switch to each other endpoint.
   * Whether a call may be sent again at all is not a matter of the schedule. Default: that of the service, or of the
   * client.
   */
  readonly retry?: Schedule.Schedule<unknown, EtcdError> | undefined
  /**
   * Asks this endpoint and no other. It need not be one of the client's; then its connection is closed when no call has
   * named it for 20 to 30 seconds. Where the client talks TLS it has to be secure, or the call fails with
   * `InvalidArgument`. Default: the one that the client's `selection` says.
   */
  readonly endpoint?: string | undefined
  /**
   * Whether a member that knows no leader is to refuse the call at once, so that another is asked. Default: true for
   * what needs the whole cluster, false for serializable reads, the member list, and the maintenance of a member.
   */
  readonly requireLeader?: boolean | undefined
  /**
   * More gRPC metadata: lower-case names that are not HTTP's or gRPC's own, and values of printable ASCII; anything else
   * fails with `InvalidArgument`. Default: none.
   */
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

/**
 * How calls are made whose callers do not say.
 *
 * @category options
 * @since 0.1.0
 */
export interface CallDefaults {
  /**
   * For calls with one answer; a stream has a deadline only if its caller sets one.
   *
   * Default: 30 seconds, for all calls but those that by their nature take as long as the data are large or as somebody
   * lets them wait: `Defragment`, `Hash`, `HashKV`, `Compact`, `MoveLeader`, and etcd's own `Lock`, `Campaign` and
   * `Observe`. The first answer of a `serverStream` has as long. This default is not sent to the server, and looked after
   * some times a second. A bare number counts milliseconds; one below 100 is refused here, since it certainly lacks its
   * unit.
   */
  readonly deadline?: Duration.Input | undefined
  /** Default: {@link defaultRetry}. */
  readonly retry?: Schedule.Schedule<unknown, EtcdError> | undefined
}

/**
 * PEM text, or a file with it. A file is read again for each connection, so that a renewed one is taken up; one that is
 * missing or half-written fails the connection, which is tried again, and never makes it less secure.
 *
 * @category options
 * @since 0.1.0
 */
export type Pem =
  | string
  | Redacted.Redacted<string>
  | {
      /** The name of the file. A relative one is relative to the working directory. */
      readonly file: string
    }

/**
 * How connections to `https` and `unixs` endpoints are secured.
 *
 * @category options
 * @since 0.1.0
 */
export interface Tls {
  /** Certificates of the authorities that may vouch for the server. Default: those of the system. */
  readonly ca?: Pem | undefined
  /**
   * What the client shows, with `key`, to a server that asks for a certificate (`--client-cert-auth`). Default: none.
   */
  readonly certificate?: Pem | undefined
  /** The private key of `certificate`, neither without the other: in a file, or in a `Redacted`. Default: none. */
  readonly key?: Exclude<Pem, string> | undefined
  /** The name that the server's certificate must be for. Default: the host of the endpoint. */
  readonly serverName?: string | undefined
  /** Default: TLS 1.2. */
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  /** Takes any certificate: whoever is on the way can read and change everything. Default: false. */
  readonly insecureSkipVerify?: boolean | undefined
}

/**
 * Who is calling. With client certificates alone (`--client-cert-auth`), none is needed.
 *
 * @category options
 * @since 0.1.0
 */
export interface Credentials {
  readonly username: string
  readonly password: Redacted.Redacted<string>
}

/**
 * Where the cluster is: `host:port`, `http://host:port`, `https://host:port`, `unix:///path/to.sock` or
 * `unixs:///path/to.sock`, for one or more members. The port is 2379 unless given. A bare `host:port` is secure if and
 * only if the client has TLS options.
 *
 * Where one of them is secure, all have to be, except for Unix sockets; and whatever endpoints come later are passed over,
 * with a warning in the log, unless they are secure too. So it is from the first list of a `Stream` on that has a secure
 * one.
 *
 * An `Effect` is asked once, when the client is made. Each list of a `Stream` takes the place of the one before it;
 * calls under way on an endpoint that goes may end, and streams go on elsewhere. A later list in which there is no endpoint,
 * and a `Stream` that fails, leave the endpoints as they are, with a warning in the log.
 *
 * @category options
 * @since 0.1.0
 */
export type Endpoints =
  | ReadonlyArray<string>
  | Effect.Effect<ReadonlyArray<string>, EtcdError>
  | Stream.Stream<ReadonlyArray<string>, EtcdError>

/**
 * How much goes out together, where calls share transactions: see `EtcdBatch`. Numbers are whole ones from 1 on;
 * `Infinity` is no limit but the server's.
 *
 * @category options
 * @since 0.1.0
 */
export interface BatchingOptions {
  /**
   * The most calls in one transaction. A server that takes fewer (`--max-txn-ops`) is noticed. Default: 128, as etcd's.
   */
  readonly maxOperations?: number | undefined
  /**
   * The most bytes in one transaction; a larger call goes alone. A server that takes less (`--max-request-bytes`) is
   * noticed. Default: 1.5 MiB, as etcd's, less 16 KiB.
   */
  readonly maxBytes?: ByteSize.Input | undefined
  /**
   * How many requests are on their way at once, for each kind of call; what comes meanwhile gathers. More places give
   * smaller transactions. Default: 4.
   */
  readonly maxInFlight?: number | undefined
}

/**
 * What a client is made of.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options extends CallDefaults {
  /** Where the cluster is. One member is enough to begin with; with all of them the client goes on when one fails. */
  readonly endpoints: Endpoints
  /** The cluster that the client talks to, by its id. Default: that of the first endpoint that answers. */
  readonly clusterId?: EtcdId.ClusterId | undefined
  /**
   * Which endpoint a call goes to, and a stream when it is opened.
   *
   * - `leader`: the member that leads, if it is among the endpoints. Everything but serializable reads needs the leader
   *   anyway, so this spares a hop: a fifth to a third less time for a call, and as much more throughput, where all
   *   members are equally near (`npm run bench -- selection`). The client learns who leads from the first connection, and
   *   of a new leader from the answers and when the old one fails; it goes on with another member meanwhile.
   * - `sticky`: one endpoint, chosen at random, until it fails. For a client whose reads are mostly serializable, which
   *   any member answers by itself, and for thousands of clients or watches, which would all burden the leader.
   * - `spread`: one call here, the next there, which shares the load of one busy client among the members. Serializable
   *   reads that follow each other may go back in time.
   *
   * Where some members are much nearer than others, give only those. Default: `leader`.
   */
  readonly selection?: "leader" | "sticky" | "spread" | undefined
  /**
   * How connections to `https` and `unixs` endpoints are secured; where there are TLS options, a bare `host:port` is such a
   * one. Default: that of {@link Tls}.
   */
  readonly tls?: Tls | undefined
  /**
   * Who is calling. A password that changes may come from an `Effect`, which is asked for each authentication. The token
   * that is got for it is used until a server refuses it. Default: nobody, or who the client certificate is for.
   */
  readonly credentials?: Credentials | Effect.Effect<Credentials, EtcdError> | undefined
  /** How the calls of single services are made, by their names: `{ KV: { deadline: "2 seconds" } }`. Default: as all. */
  readonly services?: { readonly [service in ServiceName]?: CallDefaults } | undefined
  /**
   * How often the member list takes the place of the endpoints. Where none of the addresses that the members advertise
   * can be reached from here, the endpoints that were given are used. Default, and infinity: never.
   */
  readonly memberRefresh?: Duration.Input | undefined
  /**
   * How long opening a connection may take, TLS included, and the member's first answer, which has half of that at
   * least. No duration here can be zero, or a bare number below 100 (milliseconds). Default: 5 seconds.
   */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How long nothing may be heard from a server before it is asked for a sign of life. Infinity: never. Default: 6
   * seconds, so that a server that is paused or cut off is noticed within 10, also where there is nobody else to ask.
   */
  readonly keepAliveInterval?: Duration.Input | undefined
  /** How long the server may take to give that sign before it counts as lost. Default: 3 seconds. */
  readonly keepAliveTimeout?: Duration.Input | undefined
  /**
   * How long an endpoint that failed is left alone while there is another to ask, again and again until a call succeeds
   * or ten seconds have passed since the last pause. A call that has nowhere else to go dials each endpoint once before
   * it fails. Default: {@link defaultReconnect}.
   */
  readonly reconnect?: Schedule.Schedule<unknown, unknown> | undefined
  /**
   * Lets gets, puts and deletes of one key that are made at the same time share transactions: see `EtcdBatch`.
   * Default: false.
   */
  readonly batching?: boolean | BatchingOptions | undefined
  /**
   * What carries the calls: this library's own HTTP/2 client, made for gRPC, or the one of Node.js, which is slower and
   * the reference. Default: `http2`.
   */
  readonly transport?: "http2" | "node:http2" | undefined
  /** The largest message taken from a server. Default, and most: 2,147,483,647 bytes, as in etcd's own clients. */
  readonly maxReceiveMessageSize?: ByteSize.Input | undefined
}

/**
 * A service of etcd's gRPC API, without its package.
 *
 * @category options
 * @since 0.1.0
 */
export type ServiceName = "KV" | "Watch" | "Lease" | "Cluster" | "Maintenance" | "Auth" | "Lock" | "Election"

/**
 * Both directions of a bidirectional call. When the call ends otherwise than in order, `messages` fails with the reason.
 *
 * @category models
 * @since 0.1.0
 */
export interface Duplex<I extends DescMessage, O extends DescMessage> {
  /**
   * Waits while the server does not take the message. Fails with `InvalidArgument` for what is no such message, and with the
   * reason when the call has ended.
   */
  readonly send: (message: MessageInitShape<I>) => Effect.Effect<void, EtcdError>
  /** Says that no more messages will be sent. */
  readonly end: Effect.Effect<void>
  /** What the server sends. A reader that does not pull stops the sender. To be read once. */
  readonly messages: Stream.Stream<MessageShape<O>, EtcdError>
  /** The endpoint that was chosen. */
  readonly endpoint: string
  /**
   * Completes when the stream had better go on elsewhere: the server is about to stop and waits for its calls to end, the
   * connection is lost, the endpoint is none of the client's any more, or it says nothing while others answer.
   */
  readonly draining: Effect.Effect<void>
  /**
   * For a server that refuses the token in a message: the next call, or stream, authenticates. Does nothing where that has
   * happened since this stream was opened, so that many may ask for it. The stream itself keeps the token that it has.
   * Answers whether there can be another token at all: a client without credentials gets none.
   */
  readonly renewToken: Effect.Effect<boolean>
}

/**
 * What all services of this library stand on: a call of each kind that gRPC has. Their methods are in `effect-etcd/proto`.
 *
 * Each kind of call fails with `InvalidArgument`, before anything is sent, where the request or an option makes no sense, and
 * with the reason that the server gave, or for which there is no answer (`EtcdError`).
 *
 * @category models
 * @since 0.1.0
 */
export interface Client {
  /**
   * One request, one answer. Interrupting it cancels the call on the server; whether a write that was sent is applied
   * all the same is unknown.
   */
  readonly unary: <I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions | undefined
  ) => Effect.Effect<MessageShape<O>, EtcdError>
  /**
   * One request, many answers. It is sent again only before the first answer has come; what fails after that fails the
   * stream. Ending the stream early cancels the call on the server.
   */
  readonly serverStream: <I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options?: CallOptions | undefined
  ) => Stream.Stream<MessageShape<O>, EtcdError>
  /**
   * Many requests, many answers, until the scope is closed, which cancels the call. It succeeds when the stream is open at
   * an endpoint; after that it is not opened again by itself.
   */
  readonly bidirectional: <I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options?: CallOptions | undefined
  ) => Effect.Effect<Duplex<I, O>, EtcdError, Scope.Scope>
  /** How calls of a service are made whose callers do not say: what the client was given. */
  readonly defaults: (service: ServiceName) => CallDefaults
  /** The endpoints that calls may go to now. */
  readonly endpoints: Effect.Effect<ReadonlyArray<string>>
}

/**
 * The connection to etcd: a {@link Client}.
 *
 * @category services
 * @since 0.1.0
 */
export class EtcdClient extends Context.Service<EtcdClient, Client>()("effect-etcd/EtcdClient") {}

/**
 * The pauses between tries of a call: 25 ms, twice as long each time up to 250 ms, with jitter, until 5 seconds have
 * passed since the first failure.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultRetry: Schedule.Schedule<unknown, EtcdError> = defaults.defaultRetry

/**
 * How long a failed endpoint is left alone: 50 ms, twice as long each time up to one second, with jitter.
 *
 * @category schedules
 * @since 0.1.0
 */
export const defaultReconnect: Schedule.Schedule<unknown, unknown> = defaults.defaultReconnect

/**
 * A client that lives as long as the scope. It connects when it is first used.
 *
 * Fails with `InvalidArgument` if an option makes no sense, such as an endpoint that is none, or if there is no endpoint,
 * and with what the `Effect` or `Stream` of endpoints fails with.
 *
 * When the scope closes, the connections are closed and calls that are under way fail: those that only read with
 * `Unreachable`, a write that was sent with `ConnectionLost` and the outcome `unknown`. What comes later is refused with
 * `Unreachable`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdClient, EtcdKv } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const client = yield* EtcdClient.make({ endpoints: ["127.0.0.1:2379"], deadline: "5 seconds" })
 *   const kv = EtcdKv.fromClient(client)
 *   return yield* kv.getString("hello")
 * })
 * const greeting = Effect.scoped(program)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Client, EtcdError, Scope.Scope> =>
  Effect.flatMap(internal.make(options), (made) => {
    const client = Origin.made(made)
    const { batching = false } = options
    return batching === false ? Effect.succeed(client) : Batch.make(client, batching === true ? {} : batching)
  })

/**
 * Provides {@link EtcdClient}, with the options of {@link make}, and fails as that does. A layer for all services at once is
 * `EtcdLayer.connect`.
 *
 * @example
 * ```ts
 * import { Redacted } from "effect"
 * import { EtcdClient } from "effect-etcd"
 *
 * const live = EtcdClient.layer({
 *   endpoints: ["https://etcd-1.example:2379", "https://etcd-2.example:2379"],
 *   tls: { ca: { file: "/etc/etcd/ca.pem" } },
 *   credentials: { username: "app", password: Redacted.make("secret") },
 *   deadline: "10 seconds"
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<EtcdClient, EtcdError> => Layer.effect(EtcdClient, make(options))

/**
 * What a layer takes whose options come from Effect's `Config`: a `Config` of all of them, or of each, or of each field of
 * one (of `credentials`, the user and the password); and what the program says itself as it is, without a `Config`. A list
 * is one `Config` (`Config.Array`), and not a list of them. A `Config` is read once, when the layer is built, also where
 * the option may be an `Effect` that is asked again (`credentials`).
 *
 * @category options
 * @since 0.1.0
 */
export type ConfigOf<A> =
  | A
  | Config.Config<A>
  | (A extends Pipeable | ReadonlyArray<unknown> | ((...args: never) => unknown)
      ? never
      : A extends object
        ? { readonly [Name in keyof A]: ConfigOf<A[Name]> }
        : never)

/**
 * Provides {@link EtcdClient}, with options that are read from Effect's `Config` when the layer is built.
 *
 * Fails with `ConfigError` where something is missing or is not of its type, and as {@link layer} where it makes no sense. A
 * password is `Redacted` from the beginning.
 *
 * @example
 * ```ts
 * import { Config, Schedule, Schema } from "effect"
 * import { EtcdClient } from "effect-etcd"
 *
 * // ETCD_ENDPOINTS=https://etcd-1.example:2379,https://etcd-2.example:2379 ETCD_CA=/etc/etcd/ca.pem
 * // ETCD_USER=app ETCD_PASSWORD=secret
 * const live = EtcdClient.layerConfig({
 *   endpoints: Config.Array(Schema.String, "ETCD_ENDPOINTS"),
 *   tls: { ca: Config.map(Config.String("ETCD_CA"), (file) => ({ file })) },
 *   credentials: { username: Config.String("ETCD_USER"), password: Config.Redacted("ETCD_PASSWORD") },
 *   deadline: Config.withDefault(Config.Duration("ETCD_DEADLINE"), "10 seconds"),
 *   retry: Schedule.recurs(3)
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (options: ConfigOf<Options>): Layer.Layer<EtcdClient, Config.ConfigError | EtcdError> =>
  Layer.effect(EtcdClient, Effect.flatMap(Wrapped.unwrap<Options>(options), make))
