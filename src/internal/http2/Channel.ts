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
import type { Caller, Observer } from "../grpc/calls.ts"
import { finite } from "../grpc/deadline.ts"
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
  slowReader,
  tooLate,
  unsendable
} from "../grpc/errors.ts"
import { KeepAlive } from "../grpc/KeepAlive.ts"
import { Reset } from "../grpc/status.ts"
import type { CallOptions, ConnectionOptions, Target, TransportError } from "../grpc/Transport.ts"
import { Call, type Host } from "./Call.ts"
import type { HeaderBlock } from "./HeaderReader.ts"
import { hearOut } from "./hearOut.ts"
import { RequestHeaders } from "./RequestHeaders.ts"
import type { Session, SessionListener } from "./Session.ts"
import type { Stream } from "./Stream.ts"

interface Goaway {
  readonly lastStreamId: number
  readonly message: string
}

export class Channel implements Caller, Host, SessionListener {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly closed = Deferred.makeUnsafe<TransportError>()
  readonly keepAlive: KeepAlive
  goodAnswer: HeaderBlock | undefined
  goodTrailers: HeaderBlock | undefined

  private readonly session: Session
  private readonly socket: net.Socket
  private readonly retireAfterStreamId: number
  private readonly requestHeaders: RequestHeaders

  private readonly waiting = new Set<Call>()
  private refusal: TransportError | undefined
  private goaway: Goaway | undefined
  private isLost = false
  private isReferenced = true
  private socketError: Error | undefined

  constructor(
    target: Target,
    session: Session,
    socket: net.Socket,
    options: ConnectionOptions,
    retireAfterStreamId: number
  ) {
    this.session = session
    this.socket = socket
    this.retireAfterStreamId = retireAfterStreamId
    this.peer = describeTarget(target)
    const scheme = target.tls === undefined ? "http" : "https"
    this.requestHeaders = new RequestHeaders(session.encoder, scheme, authorityOf(target))
    this.maxReceiveMessageBytes = options.maxReceiveMessageBytes
    session.listener = this
    this.listen()
    this.keepAlive = new KeepAlive(options, {
      bytesHeard: () => this.bytesHeard,
      probe: (onAnswer) => session.probe(onAnswer),
      onSilence: (why) => this.lose(why)
    })
    this.unreferenceWhenIdle()
  }

  get bytesHeard(): number {
    return this.session.bytesHeard
  }

  get waitingFor(): string {
    const { maxConcurrentStreams, openStreams } = this.session
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
  begin(path: string, options: CallOptions | undefined, observer: Observer): Call {
    const call = new Call(this, path, options, observer)
    const timeoutMillis = finite(options?.timeoutMillis)
    const wrong = this.checkHeaders(path, options)
    if (wrong !== undefined) call.end(wrong)
    else if (timeoutMillis !== undefined && timeoutMillis <= 0) call.end(tooLate(this.name(path)))
    else if (this.refusal !== undefined) call.end(refused(path, this.refusal))
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
    const message = describeGoaway(code, debug)
    this.goaway = { lastStreamId, message }
    this.retire(message)
    for (const stream of this.session.allStreams) {
      if (stream.id > lastStreamId) this.endCall(stream, message, lastStreamId)
    }
    if (this.session.openStreams === 0) this.lose(message)
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
    const streams = this.session.allStreams
    const { sentStreamId } = this.session.outbox
    const lastSeen = Math.min(sentStreamId, this.goaway?.lastStreamId ?? sentStreamId)
    this.dispose()
    this.socket.destroy()
    for (const stream of streams) this.endCall(stream, reason, lastSeen, cause)
  }

  private dispose(): void {
    this.keepAlive.stop()
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
    for (const stream of streams) this.endCall(stream, why, sentStreamId)
  })

  /** Ends the call of a stream that is lost; the server surely has not seen those above `lastSeen`. */
  private endCall({ handler, id, isAnswered }: Stream, why: string, lastSeen: number, cause?: unknown): void {
    if (!(handler instanceof Call)) return
    const processed = id > lastSeen && !isAnswered ? "no" : "unknown"
    handler.endAfterHeld(lost(this.name(handler.path), why, processed, cause))
  }

  private checkHeaders(path: string, options: CallOptions | undefined): TransportError | undefined {
    const bad = this.requestHeaders.unsendable(options?.metadata)
    if (bad !== undefined) return unsendable(this.name(path), `its header "${bad}"`)
    const limit = this.session.maxSendHeaderListBytes
    const bytes = this.requestHeaders.bytesOver(limit, path, finite(options?.timeoutMillis))
    return bytes === undefined ? undefined : headersTooLarge(this.name(path), bytes, limit)
  }

  private name(path: string): string {
    return nameOf(path, this.peer)
  }
}

const noOptions: CallOptions = {}
