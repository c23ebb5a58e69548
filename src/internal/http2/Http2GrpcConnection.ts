/**
 * One connection as gRPC sees it, from the moment its server has sent its settings until it takes no more calls.
 *
 * It knows which calls are on the wire and which still wait, for the server's limit of concurrent streams or for a socket
 * that is full, so that it can say of each call whether the server can have seen it.
 *
 * The socket keeps the process alive while a call is outstanding; an idle connection does not.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { Caller, CallListener } from "../grpc/calls.ts"
import { finite } from "../grpc/Deadline.ts"
import { authorityOf, describeTarget } from "../grpc/dial.ts"
import {
  describeBreak,
  describeGoaway,
  headersTooLarge,
  lost,
  nameOf,
  noMoreStreams,
  refused,
  retired,
  tooLate,
  unsendable
} from "../grpc/errors.ts"
import { KeepAlive } from "../grpc/KeepAlive.ts"
import { Reset } from "../grpc/status.ts"
import type { CallOptions, ConnectionOptions, Target, TransportError } from "../grpc/Transport.ts"
import type { HeaderBlock } from "./HeaderReader.ts"
import { type Host, Http2Call } from "./Http2Call.ts"
import type { Http2Connection, Http2ConnectionListener } from "./Http2Connection.ts"
import { hearOut } from "./hearOut.ts"
import { RequestHeaders } from "./RequestHeaders.ts"
import type { Stream } from "./Stream.ts"

interface Goaway {
  readonly lastStreamId: number
  readonly message: string
}

export class Http2GrpcConnection implements Caller, Host, Http2ConnectionListener {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly closed = Deferred.makeUnsafe<TransportError>()
  readonly keepAlive: KeepAlive
  goodAnswer: HeaderBlock | undefined
  goodTrailers: HeaderBlock | undefined

  private readonly http2: Http2Connection
  private readonly socket: net.Socket
  private readonly retireAfterStreamId: number
  private readonly requestHeaders: RequestHeaders

  private readonly waiting = new Set<Http2Call>()
  private refusal: TransportError | undefined
  private goaway: Goaway | undefined
  private isLost = false
  private isReferenced = true
  private socketError: Error | undefined

  constructor(
    target: Target,
    http2: Http2Connection,
    socket: net.Socket,
    options: ConnectionOptions,
    retireAfterStreamId: number
  ) {
    this.http2 = http2
    this.socket = socket
    this.retireAfterStreamId = retireAfterStreamId
    this.peer = describeTarget(target)
    const scheme = target.tls === undefined ? "http" : "https"
    this.requestHeaders = new RequestHeaders(http2.encoder, scheme, authorityOf(target))
    this.maxReceiveMessageBytes = options.maxReceiveMessageBytes
    http2.listener = this
    this.listen()
    this.keepAlive = new KeepAlive(options, {
      bytesHeard: () => this.bytesHeard,
      probe: (onAnswer) => http2.probe(onAnswer),
      onSilence: (why) => this.lose(why)
    })
    this.unreferenceWhenIdle()
  }

  get bytesHeard(): number {
    return this.http2.bytesHeard
  }

  get waitingFor(): string {
    const { maxConcurrentStreams, openStreams } = this.http2
    return openStreams >= maxConcurrentStreams ? noMoreStreams(maxConcurrentStreams) : slowReader
  }

  private listen(): void {
    const { socket } = this
    socket.on("error", (error) => {
      this.socketError = error
    })
    hearOut(socket, (error) => this.retire(describeBreak(error)))
    socket.on("end", () => this.lose("the server closed the connection"))
    socket.on("close", () => this.lose(describeBreak(this.socketError), this.socketError))
  }

  /** Puts a call on the wire, now or as soon as the server takes another one. */
  begin(path: string, options: CallOptions | undefined, listener: CallListener): Http2Call {
    const call = new Http2Call(this, path, options, listener)
    const timeoutMillis = finite(options?.timeoutMillis)
    const wrong = this.checkHeaders(path, options)
    if (wrong !== undefined) call.end(wrong)
    else if (timeoutMillis !== undefined && timeoutMillis <= 0) call.end(tooLate(this.name(path)))
    else if (this.refusal !== undefined) call.end(refused(path, this.refusal))
    else this.schedule(call, timeoutMillis)
    return call
  }

  private schedule(call: Http2Call, timeoutMillis: number | undefined): void {
    if (!this.isReferenced) {
      this.isReferenced = true
      this.socket.ref()
    }
    if (timeoutMillis !== undefined) call.limit(timeoutMillis)
    if (this.waiting.size > 0 || !this.http2.hasRoom) this.waiting.add(call)
    else this.launch(call)
  }

  private launch(call: Http2Call): void {
    const { metadata, timeoutMillis } = call.options ?? noOptions
    const stream = this.requestHeaders.encode(call.path, metadata, finite(timeoutMillis), (block, more) =>
      this.http2.open(block, more, call)
    )
    call.stream = stream
    call.listener.onStart(stream)
    if (stream.id >= this.retireAfterStreamId) this.retire("the connection has used up its stream ids")
  }

  private startWaiting(): void {
    for (const call of this.waiting) {
      if (!this.http2.hasRoom) return
      this.waiting.delete(call)
      this.launch(call)
    }
  }

  ended(call: Http2Call): void {
    if (call.stream === undefined && this.waiting.delete(call)) this.unreferenceWhenIdle()
  }

  onSettings(): void {
    this.startWaiting()
  }

  onRoom(): void {
    if (this.waiting.size > 0) this.startWaiting()
    this.unreferenceWhenIdle()
    if (this.goaway !== undefined && this.http2.openStreams === 0) this.lose(this.goaway.message)
  }

  onBroken(what: string): void {
    this.lose(`the server broke the rules of HTTP/2 (${what}), so the connection was closed`)
  }

  private unreferenceWhenIdle(): void {
    if (!this.isReferenced || this.http2.openStreams > 0 || this.waiting.size > 0) return
    this.isReferenced = false
    this.socket.unref()
  }

  onGoaway(lastStreamId: number, code: number, debug: Uint8Array): void {
    const message = describeGoaway(code, debug)
    this.goaway = { lastStreamId, message }
    this.retire(message)
    for (const stream of this.http2.allStreams) {
      if (stream.id > lastStreamId) this.endCall(stream, message, lastStreamId)
    }
    if (this.http2.openStreams === 0) this.lose(message)
  }

  /** Takes no more calls; those on the wire go on. */
  private retire(why: string): void {
    if (this.refusal !== undefined) return
    this.refusal = retired(this.peer, why)
    Deferred.doneUnsafe(this.closed, Effect.succeed(this.refusal))
    for (const call of [...this.waiting]) call.end(lost(this.name(call.path), why, "no"))
  }

  /** The connection is gone, and every call with it. */
  private lose(why: string, cause?: unknown): void {
    if (this.isLost) return
    this.isLost = true
    const reason = this.goaway === undefined ? why : this.goaway.message
    this.retire(reason)
    const streams = this.http2.allStreams
    const { sentStreamId } = this.http2.outbox
    const lastSeen = Math.min(sentStreamId, this.goaway?.lastStreamId ?? sentStreamId)
    this.dispose()
    this.socket.destroy()
    for (const stream of streams) this.endCall(stream, reason, lastSeen, cause)
  }

  private dispose(): void {
    this.keepAlive.stop()
    this.http2.close()
  }

  /** Ends every call, says goodbye, and waits until the socket is gone. */
  readonly shutdown: Effect.Effect<void> = Effect.callback((resume) => {
    const { http2, socket } = this
    if (socket.closed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    if (this.isLost) return
    this.isLost = true
    const why = "the connection was closed by this client"
    this.retire(why)
    const streams = http2.allStreams
    http2.goaway(Reset.noError)
    const { sentStreamId } = http2.outbox
    this.dispose()
    setImmediate(() => socket.destroy())
    for (const stream of streams) this.endCall(stream, why, sentStreamId)
  })

  /** Ends the call of a stream that is lost; the server surely has not seen those above `lastSeen`. */
  private endCall({ handler, id, isAnswered }: Stream, why: string, lastSeen: number, cause?: unknown): void {
    if (!(handler instanceof Http2Call)) return
    const processed = id > lastSeen && !isAnswered ? "no" : "unknown"
    handler.endAfterHeld(lost(this.name(handler.path), why, processed, cause))
  }

  private checkHeaders(path: string, options: CallOptions | undefined): TransportError | undefined {
    const bad = this.requestHeaders.unsendable(options?.metadata)
    if (bad !== undefined) return unsendable(this.name(path), `its header "${bad}"`)
    const limit = this.http2.maxSendHeaderListBytes
    const bytes = this.requestHeaders.bytesOver(limit, path, finite(options?.timeoutMillis))
    return bytes === undefined ? undefined : headersTooLarge(this.name(path), bytes, limit)
  }

  private name(path: string): string {
    return nameOf(path, this.peer)
  }
}

const noOptions: CallOptions = {}

/** What calls wait for while the socket is full. */
const slowReader = "the server reads more slowly than it is sent to"
