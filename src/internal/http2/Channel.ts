/**
 * One connection as gRPC sees it, from the moment its server has sent its settings until it takes no more calls.
 *
 * It knows which calls are on the wire and which still wait, for the server's limit of concurrent streams or for a socket
 * that is full, so that it can say of each call whether the server can have seen it.
 *
 * It watches the peer. When nothing was heard for the keep-alive interval it sends a frame that must be answered. That
 * frame is an empty SETTINGS, not a PING, because servers built on grpc-go count PINGs: etcd closes a connection with
 * GOAWAY "too_many_pings" when they come more often than its `--grpc-keepalive-min-time`, or, while no call is
 * outstanding, more often than every two hours. Both frames must be acknowledged at once (RFC 9113, 6.5.3 and 6.7).
 *
 * The socket keeps the process alive while a call is outstanding; an idle connection does not.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { authorityOf, describeTarget } from "../grpc/dial.ts"
import { Code, Reset, resetName, shorten } from "../grpc/status.ts"
import { type CallOptions, type ConnectionOptions, type Target, TransportError } from "../grpc/Transport.ts"
import { Call, type Host, type Observer } from "./Call.ts"
import type { HeaderBlock } from "./HeaderReader.ts"
import { RequestHeaders } from "./RequestHeaders.ts"
import type { Session, SessionListener } from "./Session.ts"

/** How many looks the keep-alive interval is divided into: silence is noticed at most one of them late. */
const looksPerInterval = 4

interface Goaway {
  readonly lastStreamId: number
  readonly message: string
}

export class Channel implements Host, SessionListener {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly closed = Deferred.makeUnsafe<TransportError>()
  goodAnswer: HeaderBlock | undefined
  goodTrailers: HeaderBlock | undefined

  private readonly session: Session
  private readonly socket: net.Socket
  private readonly options: ConnectionOptions
  private readonly retireAfterStreamId: number
  private readonly requestHeaders: RequestHeaders

  private readonly waiting = new Set<Call>()
  private refusal: TransportError | undefined
  private goaway: Goaway | undefined
  private isLost = false
  private isReferenced = true
  private socketError: Error | undefined
  private watchdog: NodeJS.Timeout | undefined
  private probe: NodeJS.Timeout | undefined
  private bytesHeard = 0
  private silentLooks = 0

  constructor(
    target: Target,
    session: Session,
    socket: net.Socket,
    options: ConnectionOptions,
    retireAfterStreamId: number
  ) {
    this.session = session
    this.socket = socket
    this.options = options
    this.retireAfterStreamId = retireAfterStreamId
    this.peer = describeTarget(target)
    const scheme = target.tls === undefined ? "http" : "https"
    this.requestHeaders = new RequestHeaders(session.encoder, scheme, authorityOf(target))
    this.maxReceiveMessageBytes = options.maxReceiveMessageBytes
    session.listener = this
    this.listen()
    this.watch()
    this.unreferenceWhenIdle()
  }

  private listen(): void {
    const { socket } = this
    socket.on("error", (error) => {
      this.socketError = error
    })
    socket.on("end", () => this.lose("the server closed the connection"))
    socket.on("close", () => {
      const error = this.socketError
      this.lose(error === undefined ? "the server closed the connection" : describeError(error), error)
    })
  }

  /** Puts a call on the wire, now or as soon as the server takes another one. */
  begin(path: string, options: CallOptions | undefined, observer: Observer): Call {
    const call = new Call(this, path, options, observer)
    const timeoutMillis = finite(options?.timeoutMillis)
    const unsendable = this.unsendable(path, options?.metadata)
    if (unsendable !== undefined) call.end(unsendable)
    else if (timeoutMillis !== undefined && timeoutMillis <= 0) call.end(this.tooLate(path))
    else if (this.refusal !== undefined) call.end(this.refuse(path, this.refusal))
    else this.schedule(call, timeoutMillis)
    return call
  }

  private schedule(call: Call, timeoutMillis: number | undefined): void {
    if (!this.isReferenced) {
      this.isReferenced = true
      this.socket.ref()
    }
    if (timeoutMillis !== undefined) call.limit(timeoutMillis)
    if (this.waiting.size > 0 || !this.session.hasRoom) this.waiting.add(call)
    else this.launch(call)
  }

  private launch(call: Call): void {
    const { metadata, timeoutMillis } = call.options ?? noOptions
    const stream = this.requestHeaders.encode(call.path, metadata, finite(timeoutMillis), (block, more) =>
      this.session.open(block, more, call)
    )
    call.stream = stream
    call.observer.onStart(stream)
    if (stream.id >= this.retireAfterStreamId) this.retire("the connection has used up its stream ids")
  }

  private startWaiting(): void {
    for (const call of this.waiting) {
      if (!this.session.hasRoom) return
      this.waiting.delete(call)
      this.launch(call)
    }
  }

  ended(call: Call): void {
    if (call.stream === undefined && this.waiting.delete(call)) this.unreferenceWhenIdle()
  }

  onSettings(): void {
    this.startWaiting()
  }

  onRoom(): void {
    if (this.waiting.size > 0) this.startWaiting()
    this.unreferenceWhenIdle()
    if (this.goaway !== undefined && this.session.openStreams === 0) this.lose(this.goaway.message)
  }

  onBroken(what: string): void {
    this.lose(`the server broke the rules of HTTP/2 (${what}), so the connection was closed`)
  }

  private unreferenceWhenIdle(): void {
    if (!this.isReferenced || this.session.openStreams > 0 || this.waiting.size > 0) return
    this.isReferenced = false
    this.socket.unref()
  }

  onGoaway(lastStreamId: number, code: number, debug: Uint8Array): void {
    const text = shorten(Buffer.from(debug).toString("utf8"), 100)
    const message = `the server is closing the connection (GOAWAY ${resetName(code)}${text === "" ? "" : `, "${text}"`})`
    this.goaway = { lastStreamId, message }
    this.retire(message)
    for (const stream of this.session.allStreams) {
      if (stream.id > lastStreamId) this.endCall(stream.handler, this.lostBefore(message, "no"))
    }
    if (this.session.openStreams === 0) this.lose(message)
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
    const reason = this.goaway === undefined ? why : this.goaway.message
    this.retire(reason)
    const streams = this.session.allStreams
    const { sentStreamId } = this.session.outbox
    const lastSeen = Math.min(sentStreamId, this.goaway?.lastStreamId ?? sentStreamId)
    this.dispose()
    this.socket.destroy()
    for (const { handler, id } of streams) {
      this.endCall(handler, this.lostBefore(reason, id > lastSeen ? "no" : "unknown", cause))
    }
  }

  private dispose(): void {
    clearInterval(this.watchdog)
    clearTimeout(this.probe)
    this.session.close()
  }

  /** Ends every call, says goodbye, and waits until the socket is gone. */
  readonly shutdown: Effect.Effect<void> = Effect.callback((resume) => {
    const { session, socket } = this
    if (socket.closed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    if (this.isLost) return
    this.isLost = true
    const why = "the connection was closed by this client"
    this.retire(why)
    const streams = session.allStreams
    session.goaway(Reset.noError)
    const { sentStreamId } = session.outbox
    this.dispose()
    setImmediate(() => socket.destroy())
    for (const { handler, id } of streams) {
      this.endCall(handler, this.lostBefore(why, id > sentStreamId ? "no" : "unknown"))
    }
  })

  private watch(): void {
    const { keepAliveIntervalMillis } = this.options
    if (keepAliveIntervalMillis <= 0) return
    const look = () => {
      const heard = this.session.bytesHeard
      this.silentLooks = heard === this.bytesHeard ? this.silentLooks + 1 : 0
      this.bytesHeard = heard
      if (this.silentLooks >= looksPerInterval && this.probe === undefined) this.sendProbe()
    }
    this.watchdog = setInterval(look, Math.max(1, keepAliveIntervalMillis / looksPerInterval)).unref()
  }

  private sendProbe(): void {
    const { keepAliveIntervalMillis, keepAliveTimeoutMillis } = this.options
    const heardBefore = this.session.bytesHeard
    const silence = `the server has not answered for ${keepAliveIntervalMillis + keepAliveTimeoutMillis} ms; it may be paused, overloaded, or cut off`
    this.probe = setTimeout(() => {
      this.probe = undefined
      if (this.session.bytesHeard === heardBefore) this.lose(silence)
    }, keepAliveTimeoutMillis).unref()
    this.session.probe(() => {
      clearTimeout(this.probe)
      this.probe = undefined
    })
  }

  private endCall(handler: unknown, error: (path: string) => TransportError): void {
    if (handler instanceof Call) handler.endAfterHeld(error(handler.path))
  }

  private lostBefore(why: string, processed: "no" | "unknown", cause?: unknown) {
    return (path: string): TransportError => this.lost(path, why, processed, cause)
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

  private unsendable(path: string, metadata: CallOptions["metadata"]): TransportError | undefined {
    const name = this.requestHeaders.unsendable(metadata)
    if (name !== undefined) {
      return this.malformed(
        `${path} to ${this.peer} was not sent: gRPC cannot carry its header "${name}"; header names are lower-case letters, digits, "-", "_" and ".", and values are printable ASCII`
      )
    }
    const bytes = this.requestHeaders.listBytes(path)
    if (bytes <= this.session.maxSendHeaderListBytes) return undefined
    return this.malformed(
      `${path} to ${this.peer}: the request could not be sent, because its headers have ${bytes} bytes and at most ${this.session.maxSendHeaderListBytes} are taken; send less metadata`
    )
  }

  private malformed(message: string): TransportError {
    return new TransportError({ kind: "Protocol", code: Code.internal, message, processed: "no" })
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

const noOptions: CallOptions = {}

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
      return `the connection broke (${error instanceof Error ? error.message : String(error)})`
  }
}
