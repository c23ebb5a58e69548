/**
 * One HTTP/2 connection of `node:http2`, from the moment its server has sent its settings until it takes no more calls.
 *
 * It knows which calls are on the wire and which still wait for the server's limit of concurrent streams, so that it can
 * say of each call whether the server can have seen it. The waiting is done here and not inside `node:http2`, which does
 * not tell whether a request has left.
 *
 * It watches the peer. When nothing was heard for the keep-alive interval it sends a frame that must be answered. That
 * frame is an empty SETTINGS, not a PING, because servers built on grpc-go count PINGs: etcd closes a connection with
 * GOAWAY "too_many_pings" when they come more often than its `--grpc-keepalive-min-time`, or, while no call is
 * outstanding, more often than every two hours. Both frames must be acknowledged at once (RFC 9113, 6.5.3 and 6.7), and
 * `node:http2` also sends SETTINGS on a connection that is draining, where it refuses to send PINGs.
 *
 * The socket keeps the process alive while a call is outstanding; an idle connection does not.
 *
 * @internal
 */
import type * as http2 from "node:http2"
import type * as net from "node:net"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { Call, type Host, type Observer } from "./Call.ts"
import { authorityOf, describeTarget } from "./dial.ts"
import { Code, formatTimeout, Reset, resetName, shorten } from "./status.ts"
import { type CallOptions, type ConnectionOptions, type Target, TransportError } from "./Transport.ts"

/** How many looks the keep-alive interval is divided into: silence is noticed at most one of them late. */
const looksPerInterval = 4

interface Goaway {
  readonly lastStreamId: number
  readonly message: string
}

export class NodeConnection implements Host {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly closed = Deferred.makeUnsafe<TransportError>()

  private readonly session: http2.ClientHttp2Session
  private readonly handle: object | undefined
  private readonly socket: net.Socket
  private readonly options: ConnectionOptions
  private readonly retireAfterStreamId: number
  private readonly scheme: string
  private readonly authority: string

  private readonly onWire = new Set<Call>()
  private readonly waiting = new Set<Call>()
  private openStreams = 0
  private maxStreams: number
  private refusal: TransportError | undefined
  private goaway: Goaway | undefined
  private isLost = false
  private socketError: Error | undefined
  private watchdog: NodeJS.Timeout | undefined
  private probe: NodeJS.Timeout | undefined
  private bytesHeard = 0
  private silentLooks = 0

  constructor(
    target: Target,
    session: http2.ClientHttp2Session,
    socket: net.Socket,
    options: ConnectionOptions,
    retireAfterStreamId: number
  ) {
    this.session = session
    this.handle = nativeHandleOf(session)
    this.socket = socket
    this.options = options
    this.retireAfterStreamId = retireAfterStreamId
    this.peer = describeTarget(target)
    this.scheme = target.tls === undefined ? "http" : "https"
    this.authority = authorityOf(target)
    this.maxReceiveMessageBytes = options.maxReceiveMessageBytes
    this.maxStreams = maxStreamsOf(session)
    this.listen()
    this.watch()
    session.unref()
  }

  private listen(): void {
    const { session, socket } = this
    session.on("remoteSettings", () => {
      this.maxStreams = maxStreamsOf(session)
      this.startWaiting()
    })
    session.on("goaway", (code, lastStreamId, data) => this.onGoaway(code, lastStreamId, data))
    session.on("error", (error) => this.lose(describeError(error), error))
    session.on("close", () => this.lose("the connection was closed"))
    socket.on("error", (error) => {
      this.socketError = error
    })
    socket.on("close", () =>
      this.lose(
        this.socketError === undefined ? "the server closed the connection" : describeError(this.socketError),
        this.socketError
      )
    )
  }

  /** Puts a call on the wire, now or as soon as the server takes another one. */
  begin(path: string, options: CallOptions | undefined, observer: Observer): Call {
    const timeoutMillis = finite(options?.timeoutMillis)
    const headers: http2.OutgoingHttpHeaders = {
      ...options?.metadata,
      ":method": "POST",
      ":scheme": this.scheme,
      ":authority": this.authority,
      ":path": path,
      te: "trailers",
      "content-type": "application/grpc",
      "user-agent": "effect-etcd",
      "grpc-accept-encoding": "identity"
    }
    if (timeoutMillis !== undefined) headers["grpc-timeout"] = formatTimeout(timeoutMillis)
    const call = new Call(this, path, headers, observer)
    const unsendable = unsendableName(options?.metadata)
    if (unsendable !== undefined) call.end(this.unsendable(path, `its header "${unsendable}"`))
    else if (timeoutMillis !== undefined && timeoutMillis <= 0) call.end(this.tooLate(path))
    else if (this.refusal !== undefined) call.end(this.refuse(path, this.refusal))
    else this.schedule(call, timeoutMillis)
    return call
  }

  private schedule(call: Call, timeoutMillis: number | undefined): void {
    if (this.openStreams === 0 && this.waiting.size === 0) this.session.ref()
    if (timeoutMillis !== undefined) call.limit(timeoutMillis)
    if (this.waiting.size > 0 || this.openStreams >= this.maxStreams) this.waiting.add(call)
    else this.launch(call)
  }

  private launch(call: Call): void {
    if (this.session.closed || this.session.destroyed) {
      this.retire("the connection is closing")
      call.end(this.refuse(call.path, this.refusal!))
      return
    }
    const opened = Result.try(() => this.session.request(call.headers))
    if (Result.isFailure(opened)) {
      call.end(this.unsendable(call.path, `its headers (${messageOf(opened.failure)})`))
      this.unrefWhenIdle()
      return
    }
    const stream = opened.success
    this.openStreams++
    this.onWire.add(call)
    call.start(stream)
    if ((stream.id ?? 0) >= this.retireAfterStreamId) this.retire("the connection has used up its stream ids")
  }

  private startWaiting(): void {
    for (const call of this.waiting) {
      if (this.openStreams >= this.maxStreams) return
      this.waiting.delete(call)
      this.launch(call)
    }
  }

  ended(call: Call): void {
    this.onWire.delete(call)
    if (this.waiting.delete(call)) this.unrefWhenIdle()
  }

  streamClosed(stream: http2.ClientHttp2Stream): void {
    if (stream.rstCode !== Reset.noError && this.handle !== undefined) outlive.register(stream, this.handle)
    this.openStreams--
    this.startWaiting()
    this.unrefWhenIdle()
  }

  checkBroken(streamError: Error | undefined): void {
    const error = this.socketError ?? streamError
    if (!this.socket.destroyed && !this.session.destroyed) return
    this.lose(error === undefined ? "the server closed the connection" : describeError(error), error)
  }

  sendFailed(): void {
    this.retire("the connection is closing, because a frame could not be sent")
  }

  private unrefWhenIdle(): void {
    if (this.openStreams === 0 && this.waiting.size === 0 && !this.session.destroyed) this.session.unref()
  }

  private onGoaway(code: number, lastStreamId: number, data: Uint8Array | undefined): void {
    const text = data === undefined ? "" : shorten(Buffer.from(data).toString("utf8"), 100)
    const message = `the server is closing the connection (GOAWAY ${resetName(code)}${text === "" ? "" : `, "${text}"`})`
    this.goaway = { lastStreamId, message }
    this.retire(message)
    for (const call of [...this.onWire]) {
      if (this.isAboveGoaway(call)) call.end(this.lost(call.path, message, "no"))
    }
    if (code !== Reset.noError) this.lose(message)
  }

  private isAboveGoaway(call: Call): boolean {
    const id = call.stream?.id
    return this.goaway !== undefined && id !== undefined && id > this.goaway.lastStreamId
  }

  /** Takes no more calls; those on the wire go on. */
  private retire(why: string): void {
    if (this.refusal !== undefined) return
    this.refusal = new TransportError({
      kind: "ConnectionLost",
      code: Code.unavailable,
      message: `${this.peer}: ${why}`,
      processed: "no"
    })
    Deferred.doneUnsafe(this.closed, Effect.succeed(this.refusal))
    for (const call of [...this.waiting]) call.end(this.lost(call.path, why, "no"))
  }

  /** The connection is gone, and every call with it. */
  private lose(why: string, cause?: unknown): void {
    if (this.isLost) return
    this.isLost = true
    clearTimeout(this.watchdog)
    clearTimeout(this.probe)
    const reason = this.goaway === undefined ? why : this.goaway.message
    this.retire(reason)
    const calls = [...this.onWire]
    this.session.destroy()
    this.socket.destroy()
    for (const call of calls) {
      call.end(this.lost(call.path, reason, this.isAboveGoaway(call) ? "no" : "unknown", cause))
    }
  }

  /** Ends every call, says goodbye, and waits until the socket is gone. */
  readonly shutdown: Effect.Effect<void> = Effect.callback((resume) => {
    const { session, socket } = this
    if (socket.closed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    const why = "the connection was closed by this client"
    this.retire(why)
    const calls = [...this.onWire]
    for (const call of calls) call.end(this.lost(call.path, why, "unknown"))
    clearTimeout(this.watchdog)
    clearTimeout(this.probe)
    session.destroy()
    setImmediate(() => socket.destroy())
  })

  private watch(): void {
    const { keepAliveIntervalMillis } = this.options
    if (keepAliveIntervalMillis <= 0) return
    const look = () => {
      const heard = this.socket.bytesRead
      this.silentLooks = heard === this.bytesHeard ? this.silentLooks + 1 : 0
      this.bytesHeard = heard
      if (this.silentLooks >= looksPerInterval && this.probe === undefined) this.sendProbe()
    }
    this.watchdog = setInterval(look, Math.max(1, keepAliveIntervalMillis / looksPerInterval)).unref()
  }

  private sendProbe(): void {
    if (this.session.destroyed) return
    const { keepAliveTimeoutMillis } = this.options
    const heardBefore = this.socket.bytesRead
    const silence = `the server has not answered for ${this.options.keepAliveIntervalMillis + keepAliveTimeoutMillis} ms; it may be paused, overloaded, or cut off`
    this.probe = setTimeout(() => {
      this.probe = undefined
      if (this.socket.bytesRead === heardBefore) this.lose(silence)
    }, keepAliveTimeoutMillis).unref()
    this.session.settings({}, () => {
      clearTimeout(this.probe)
      this.probe = undefined
    })
  }

  private refuse(path: string, why: TransportError): TransportError {
    return new TransportError({
      kind: "ConnectionLost",
      code: Code.unavailable,
      message: `${path} was not sent: ${why.message}`,
      processed: "no"
    })
  }

  private tooLate(path: string): TransportError {
    return new TransportError({
      kind: "Deadline",
      code: Code.deadlineExceeded,
      message: `${path} to ${this.peer} was not sent: its deadline had already passed`,
      processed: "no"
    })
  }

  private unsendable(path: string, what: string): TransportError {
    return new TransportError({
      kind: "Protocol",
      code: Code.internal,
      message: `${path} to ${this.peer} was not sent: gRPC cannot carry ${what}; header names are lower-case letters, digits, "-", "_" and ".", and values are printable ASCII`,
      processed: "no"
    })
  }

  private lost(path: string, why: string, processed: "no" | "unknown", cause?: unknown): TransportError {
    return new TransportError({
      kind: "ConnectionLost",
      code: Code.unavailable,
      message: `${path} to ${this.peer}: ${why}`,
      processed,
      ...(cause === undefined ? {} : { cause })
    })
  }
}

/**
 * Keeps the native half of a session until a stream has been collected.
 *
 * A stream that a server ended with malformed headers may still hold some of them, in memory that its session accounts
 * for. If the garbage collector frees the session first, Node.js finds the account not empty and aborts the process
 * ("Assertion failed: (current_nghttp2_memory_) == (0)", seen in Node.js 22 and 24).
 */
const outlive = new FinalizationRegistry<object>(() => {})

/** `undefined` should a version of Node.js keep it elsewhere. */
const nativeHandleOf = (session: http2.ClientHttp2Session): object | undefined => {
  const key = Object.getOwnPropertySymbols(session).find((symbol) => symbol.description === "kHandle")
  const handle: unknown = key === undefined ? undefined : Reflect.get(session, key)
  return typeof handle === "object" && handle !== null ? handle : undefined
}

const maxStreamsOf = (session: http2.ClientHttp2Session): number =>
  session.remoteSettings.maxConcurrentStreams ?? Number.POSITIVE_INFINITY

/** The first header that gRPC's grammar (and no check in `node:http2`) keeps off the wire. */
const unsendableName = (metadata: CallOptions["metadata"]): string | undefined => {
  if (metadata === undefined) return undefined
  for (const name in metadata) {
    if (!/^[0-9a-z_.-]+$/.test(name) || !/^[\x20-\x7e]*$/.test(metadata[name]!)) return shorten(name, 40)
  }
  return undefined
}

const finite = (millis: number | undefined): number | undefined =>
  millis !== undefined && Number.isFinite(millis) ? millis : undefined

const describeError = (error: unknown): string => {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : undefined
  switch (code) {
    case "ECONNRESET":
      return "the connection was reset"
    case "EPIPE":
      return "the server closed the connection"
    case "ETIMEDOUT":
      return "the connection timed out"
    default:
      return `the connection broke (${messageOf(error)})`
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
