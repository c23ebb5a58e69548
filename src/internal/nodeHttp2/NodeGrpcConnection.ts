/**
 * One HTTP/2 connection of `node:http2`, from the moment its server has sent its settings until it takes no more calls.
 *
 * It knows which calls are on the wire and which still wait for the server's limit of concurrent streams, so that it can
 * say of each call whether the server can have seen it. The waiting is done here and not inside `node:http2`, which does
 * not tell whether a request has left.
 *
 * It watches the peer ({@link KeepAlive}) with SETTINGS, which `node:http2` also sends on a connection that is draining,
 * where it refuses to send PINGs.
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
import { fieldBytes, largestHeaderList, unsendableName } from "../grpc/metadata.ts"
import { formatTimeout, Reset } from "../grpc/status.ts"
import type { CallOptions, ConnectionOptions, Target, TransportError } from "../grpc/Transport.ts"
import { type Host, NodeCall } from "./NodeCall.ts"

interface Goaway {
  readonly lastStreamId: number
  readonly message: string
}

export class NodeGrpcConnection implements Caller, Host {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly closed = Deferred.makeUnsafe<TransportError>()

  private readonly session: http2.ClientHttp2Session
  private readonly handle: object | undefined
  private readonly socket: net.Socket
  private readonly retireAfterStreamId: number
  readonly keepAlive: KeepAlive
  private readonly scheme: string
  private readonly authority: string

  private readonly onWire = new Set<NodeCall>()
  private readonly waiting = new Set<NodeCall>()
  private openStreams = 0
  private maxStreams: number
  private refusal: TransportError | undefined
  private goaway: Goaway | undefined
  private isLost = false
  private socketError: Error | undefined

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
    this.retireAfterStreamId = retireAfterStreamId
    this.peer = describeTarget(target)
    this.scheme = target.tls === undefined ? "http" : "https"
    this.authority = authorityOf(target)
    this.maxReceiveMessageBytes = options.maxReceiveMessageBytes
    this.maxStreams = maxStreamsOf(session)
    this.listen()
    this.keepAlive = new KeepAlive(options, {
      bytesHeard: () => this.bytesHeard,
      probe: (onAnswer) => {
        if (!session.destroyed) session.settings({}, onAnswer)
      },
      onSilence: (why) => this.lose(why)
    })
    session.unref()
  }

  get bytesHeard(): number {
    return this.socket.bytesRead
  }

  get waitingFor(): string {
    return noMoreStreams(this.maxStreams)
  }

  private listen(): void {
    const { session, socket } = this
    session.on("remoteSettings", () => {
      this.maxStreams = maxStreamsOf(session)
      this.startWaiting()
    })
    session.on("goaway", (code, lastStreamId, data) => this.onGoaway(code, lastStreamId, data))
    session.on("error", (error) => this.lose(describeBreak(error), error))
    session.on("close", () => this.lose("the connection was closed"))
    socket.on("error", (error) => {
      this.socketError = error
    })
    socket.on("close", () => this.lose(describeBreak(this.socketError), this.socketError))
  }

  /** Puts a call on the wire, now or as soon as the server takes another one. */
  begin(path: string, options: CallOptions | undefined, listener: CallListener): NodeCall {
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
    if (timeoutMillis === undefined) delete headers["grpc-timeout"]
    else headers["grpc-timeout"] = formatTimeout(timeoutMillis)
    const call = new NodeCall(this, path, headers, listener)
    const wrong = this.checkHeaders(path, headers, options?.metadata)
    if (wrong !== undefined) call.end(wrong)
    else if (timeoutMillis !== undefined && timeoutMillis <= 0) call.end(tooLate(this.name(path)))
    else if (this.refusal !== undefined) call.end(refused(path, this.refusal))
    else this.schedule(call, timeoutMillis)
    return call
  }

  /** `node:http2` itself closes the connection where headers are too large. */
  private checkHeaders(path: string, headers: http2.OutgoingHttpHeaders, metadata: CallOptions["metadata"]) {
    const bad = unsendableName(metadata)
    if (bad !== undefined) return unsendable(this.name(path), `its header "${bad}"`)
    const limit = Math.min(this.session.remoteSettings.maxHeaderListSize ?? largestHeaderList, largestHeaderList)
    let bytes = 0
    for (const name in headers) bytes += fieldBytes(name, String(headers[name]))
    return bytes > limit ? headersTooLarge(this.name(path), bytes, limit) : undefined
  }

  private schedule(call: NodeCall, timeoutMillis: number | undefined): void {
    if (this.openStreams === 0 && this.waiting.size === 0) this.session.ref()
    if (timeoutMillis !== undefined) call.limit(timeoutMillis)
    if (this.waiting.size > 0 || this.openStreams >= this.maxStreams) this.waiting.add(call)
    else this.launch(call)
  }

  private launch(call: NodeCall): void {
    if (this.session.closed || this.session.destroyed) {
      this.retire("the connection is closing")
      call.end(refused(call.path, this.refusal!))
      return
    }
    // Headers were looked at before, so what is wrong is the session. Node.js 24 tells that by the stream's error instead.
    const opened = Result.try(() => this.session.request(call.headers))
    if (Result.isFailure(opened)) {
      call.endUnsent(opened.failure)
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

  ended(call: NodeCall): void {
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
    this.lose(describeBreak(error), error)
  }

  sendFailed(call: NodeCall, why: string, processed: "no" | "unknown", cause?: unknown): TransportError {
    this.retire(`the connection is closing, because ${why}`)
    return lost(this.name(call.path), this.goaway?.message ?? why, processed, cause)
  }

  private unrefWhenIdle(): void {
    if (this.openStreams === 0 && this.waiting.size === 0 && !this.session.destroyed) this.session.unref()
  }

  private onGoaway(code: number, lastStreamId: number, data: Uint8Array | undefined): void {
    const message = describeGoaway(code, data)
    this.goaway = { lastStreamId, message }
    this.retire(message)
    for (const call of [...this.onWire]) {
      if (this.isPassedOver(call)) call.end(lost(this.name(call.path), message, this.mayHaveSeen(call)))
    }
    if (code !== Reset.noError) this.lose(message)
  }

  /** Whether the call never left, or is above the last id of a GOAWAY. */
  private isPassedOver(call: NodeCall): boolean {
    const id = call.stream?.id
    return id === undefined || (this.goaway !== undefined && id > this.goaway.lastStreamId)
  }

  /** Whether the server may have acted on the call; it has on one that it is answering, whatever it says of it. */
  private mayHaveSeen(call: NodeCall): "no" | "unknown" {
    return this.isPassedOver(call) && !call.isAnswered ? "no" : "unknown"
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
    this.keepAlive.stop()
    const reason = this.goaway === undefined ? why : this.goaway.message
    this.retire(reason)
    const calls = [...this.onWire]
    this.session.destroy()
    this.socket.destroy()
    for (const call of calls) {
      call.end(lost(this.name(call.path), reason, this.mayHaveSeen(call), cause))
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
    for (const call of calls) call.end(lost(this.name(call.path), why, this.mayHaveSeen(call)))
    this.keepAlive.stop()
    session.destroy()
    setImmediate(() => socket.destroy())
  })

  private name(path: string): string {
    return nameOf(path, this.peer)
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
