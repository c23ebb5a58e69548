/**
 * What the client asks of a gRPC transport: calls over one HTTP/2 connection to one address, with messages as bytes.
 *
 * Nothing above this interface knows which implementation it talks through, and nothing below it knows what the bytes
 * mean. Which endpoint to use, whether to try again, and who is calling are decided above.
 *
 * @internal
 */
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"

/** Where a connection goes. A name with several addresses is tried one address after the other. */
export type Target =
  | { readonly _tag: "Tcp"; readonly host: string; readonly port: number; readonly tls?: Tls | undefined }
  | { readonly _tag: "Unix"; readonly path: string; readonly tls?: Tls | undefined }

/** What TLS needs; PEM text, read anew by the caller for each connection. */
export interface Tls {
  readonly ca?: string | undefined
  readonly certificate?: string | undefined
  readonly key?: Redacted.Redacted<string> | undefined
  readonly serverName?: string | undefined
  readonly minVersion?: "TLSv1.2" | "TLSv1.3" | undefined
  readonly insecureSkipVerify?: boolean | undefined
}

export interface ConnectionOptions {
  /** How long a dial may take, TLS and SETTINGS included. */
  readonly connectTimeoutMillis: number
  /**
   * How long nothing may be heard before the server is sent a frame that it must answer, with calls outstanding or
   * without. 0: never. Any interval is safe with etcd, because that frame is not one that grpc-go's keep-alive policy
   * counts.
   */
  readonly keepAliveIntervalMillis: number
  /** How long nothing may be heard after that frame before the connection counts as lost. */
  readonly keepAliveTimeoutMillis: number
  /** The largest message that is taken from the server, in bytes. */
  readonly maxReceiveMessageBytes: number
}

/** Headers by their lower-case names. */
export type Metadata = Readonly<Record<string, string>>

export interface CallOptions {
  /** More request headers: values are of printable ASCII. */
  readonly metadata?: Metadata | undefined
  /** From now: sent as `grpc-timeout`, and enforced here as well. */
  readonly timeoutMillis?: number | undefined
  /** Who may end a unary call from outside: is given the call when it begins. Each call needs one of its own. */
  readonly holder?: Holder | undefined
}

/** Holds a unary call, from its beginning on and also when it is over. */
export interface Holder {
  begun: Held | undefined
}

interface Held {
  /** Whether the request may have left; if not, the server certainly did not act on it. */
  readonly isSent: boolean
  /** What it waits for while it is not sent. */
  readonly waitsFor: string | undefined
  /** Fails the call, and resets its stream on the wire. Does nothing to a call that is over. */
  readonly end: (error: TransportError) => void
}

/**
 * Why a call failed.
 *
 * - `Status`: the server answered with a gRPC status other than OK.
 * - `Unreachable`: there is no connection, and the request was never sent.
 * - `ConnectionLost`: the connection broke or drained under the call, or the call's stream broke off: it was reset, or
 *   ended without a status.
 * - `Deadline`: the time was up here, before an answer came.
 * - `Protocol`: the answer broke the rules of HTTP/2 or gRPC, and so would the next one: wrong content type, malformed,
 *   compressed or oversized message, two messages where one was due. Or the request cannot be sent.
 * - `Http`: an answer that is not gRPC (a proxy's 502, a redirect, an HTML page).
 *
 * Two more are found above the transport:
 *
 * - `Identity`: the server belongs to another cluster.
 * - `LeaderLost`: other members show that nobody is there any more who could answer, or not before long.
 */
export class TransportError extends Data.TaggedError("TransportError")<{
  readonly kind:
    | "Status"
    | "Unreachable"
    | "ConnectionLost"
    | "Deadline"
    | "Protocol"
    | "Http"
    | "Identity"
    | "LeaderLost"
  /** The gRPC status code, 1 to 16; for kinds other than `Status` the one gRPC's specification maps them to. */
  readonly code: number
  readonly message: string
  /** `no`: the server certainly did not act on the request (never sent, refused stream, above GOAWAY's last id). */
  readonly processed: "no" | "unknown" | "yes"
  /**
   * A dial failed for a reason that does not go away unless somebody changes something: the server's certificate is not
   * from an authority that is trusted, or for another name; TLS is spoken to a port without it, or the other way round;
   * the server has no HTTP/2, no version of TLS in common, or wants a certificate that was not given or that it does not
   * trust; PEM that cannot be used. It is only there where that is certain, and never for what may mend itself: nothing
   * listens yet, a file is missing or half-written, a certificate has expired and may be renewed.
   */
  readonly lasting?: true | undefined
  /** Of a `Deadline` of a request that was never sent: what it waited for. */
  readonly waitedFor?: string | undefined
  readonly metadata?: Metadata | undefined
  /** Of an `Identity`: the cluster that was expected, and the one that answered. */
  readonly clusters?: { readonly expected: bigint; readonly found: bigint } | undefined
  readonly cause?: unknown
}> {}

/** Reads a message where it lies, from `start` up to `end`, in memory that may hold much else. */
export type Read<A> = (bytes: Uint8Array, start: number, end: number) => Exit.Exit<A, TransportError>

export interface RawDuplex {
  /** Waits while the peer's flow control does not let the message go. */
  readonly send: (message: Uint8Array) => Effect.Effect<void, TransportError>
  /** Half-closes: the server sees the end of the requests. */
  readonly end: Effect.Effect<void>
  /** Ends when the server ends the call with OK. A reader that does not pull stops the sender. Read it once. */
  readonly messages: Stream.Stream<Uint8Array, TransportError>
}

export interface Connection {
  /** Who is at the other end of the socket: an IP address and a port, or the path of a Unix socket. */
  readonly peer?: { readonly address: string; readonly port?: number | undefined } | undefined
  /** Without `read` the answer is the message as bytes. */
  readonly unary: <A = Uint8Array>(
    path: string,
    request: Uint8Array,
    options?: CallOptions | undefined,
    read?: Read<A> | undefined
  ) => Effect.Effect<A, TransportError>
  readonly serverStream: (
    path: string,
    request: Uint8Array,
    options?: CallOptions | undefined
  ) => Stream.Stream<Uint8Array, TransportError>
  /** Closing the scope resets the stream on the wire unless the server has ended it. */
  readonly bidirectional: (
    path: string,
    options?: CallOptions | undefined
  ) => Effect.Effect<RawDuplex, TransportError, Scope.Scope>
  /** Completes, with the reason, once the connection takes no more calls (lost, drained by GOAWAY, or closed here). */
  readonly closed: Effect.Effect<TransportError>
  /** How much has come from the server so far: whether it was heard between two moments. */
  readonly bytesHeard: () => number
  /** Asks the server for a sign of life now. When none comes within the keep-alive timeout, the connection is lost. */
  readonly probe: () => void
}

export interface Transport {
  readonly name: string
  /** Dials. The connection lives as long as the scope; closing the scope lets nothing linger. */
  readonly connect: (
    target: Target,
    options: ConnectionOptions
  ) => Effect.Effect<Connection, TransportError, Scope.Scope>
}
