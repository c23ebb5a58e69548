/**
 * One HTTP/2 connection as gRPC sees it, from the moment its server has sent its settings until it takes no more calls.
 *
 * **What holds of every connection.**
 *
 * - A call waits, or it is on the wire, or it is over. It waits while there is no room for its stream, behind those that
 *   waited before; one that waits has certainly not been seen by the server. Calls wait here and not inside HTTP/2, so that
 *   it can be said of each whether the server can have seen it: not if it never left, nor above the last id of a GOAWAY.
 * - It takes calls until there is a reason not to. The first reason stays: it ends the calls that wait, `closed` tells
 *   it, and calls that are begun later are refused with it. Those on the wire go on.
 * - It is lost once, and every call on the wire with it. Where the server has said why (GOAWAY), that is the reason,
 *   whatever breaks then.
 * - The peer is watched ({@link KeepAlive}) until the connection is lost or shut.
 * - The socket keeps the process alive while a call is outstanding; an idle connection does not.
 *
 * How streams are opened, counted and closed is its transport's own.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { CallListener } from "./CallListener.ts"
import { finite } from "./Deadline.ts"
import { describeTarget } from "./dial.ts"
import { describeBreak, lost, refused, retired, tooLate } from "./errors.ts"
import type { CallHost, GrpcCall } from "./GrpcCall.ts"
import { KeepAlive } from "./KeepAlive.ts"
import type { CallOptions, ConnectionOptions, Target, TransportError } from "./Transport.ts"

/** What a dial has made before there is HTTP/2. */
export interface Dialled {
  readonly target: Target
  readonly options: ConnectionOptions
  readonly socket: net.Socket
  /** With a stream of this id or above, the connection makes room for another. */
  readonly retireAfterStreamId: number
}

interface Goaway {
  readonly lastStreamId: number
  readonly message: string
}

export abstract class GrpcConnection<Call extends GrpcCall = GrpcCall> implements CallHost {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  /** Done, with the reason, once it takes no more calls. */
  readonly closed = Deferred.makeUnsafe<TransportError>()
  readonly keepAlive: KeepAlive

  protected readonly socket: net.Socket
  protected socketError: Error | undefined
  protected goaway: Goaway | undefined

  private readonly retireAfterStreamId: number
  private readonly waiting = new Set<Call>()
  private refusal: TransportError | undefined
  private isLost = false
  private isReferenced = false

  constructor({ options, retireAfterStreamId, socket, target }: Dialled) {
    this.peer = describeTarget(target)
    this.maxReceiveMessageBytes = options.maxReceiveMessageBytes
    this.socket = socket
    this.retireAfterStreamId = retireAfterStreamId
    this.keepAlive = new KeepAlive(options, {
      bytesHeard: () => this.bytesHeard,
      probe: (onAnswer) => this.probe(onAnswer),
      onSilence: (why) => this.lose(why)
    })
    socket.on("error", (error) => {
      this.socketError = error
    })
    socket.on("close", () => this.lose(describeBreak(this.socketError), this.socketError))
    socket.unref()
  }

  // ── what its HTTP/2 is asked ──

  abstract readonly bytesHeard: number
  abstract readonly waitingFor: string
  protected abstract readonly openStreams: number
  /** Whether another stream can be opened now. */
  protected abstract readonly hasRoom: boolean
  /** The highest id of a stream that may have left. */
  protected abstract readonly sentStreamId: number
  /** Oldest first. */
  protected abstract readonly callsOnWire: ReadonlyArray<Call>

  protected abstract makeCall(path: string, options: CallOptions | undefined, listener: CallListener): Call
  /** Why the request headers of the call cannot be sent, if they cannot. */
  protected abstract checkHeaders(call: Call): TransportError | undefined
  /** Puts the call on the wire. */
  protected abstract openStream(call: Call): void
  /** Sends SETTINGS that change nothing, which the server must acknowledge (RFC 9113, 6.5.3). */
  protected abstract probe(onAnswer: () => void): void
  /** Nothing more is read or written. */
  protected abstract closeHttp2(): void
  /** The same, by this client's will: calls on the wire are ended ({@link endLost}), and the server is told. */
  protected abstract sayGoodbye(why: string): void

  // ── calls ──

  /**
   * Puts a call on the wire, now or as soon as the server takes another one. With a request, it is the only one: it is sent
   * and the sending side ended as soon as the call is on the wire.
   */
  begin(path: string, options: CallOptions | undefined, request: Uint8Array | undefined, listener: CallListener): Call {
    const call = this.makeCall(path, options, listener)
    call.request = request
    const timeoutMillis = finite(options?.timeoutMillis)
    const wrong = this.checkHeaders(call)
    if (wrong !== undefined) call.end(wrong)
    else if (timeoutMillis !== undefined && timeoutMillis <= 0) call.end(tooLate(call.name))
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
    if (this.waiting.size > 0 || !this.hasRoom) this.waiting.add(call)
    else this.launch(call)
  }

  private launch(call: Call): void {
    this.openStream(call)
    const id = call.streamId
    if (id !== undefined && id >= this.retireAfterStreamId) this.retire("the connection has used up its stream ids")
  }

  /** There is room for another stream, perhaps. */
  onRoom(): void {
    if (this.waiting.size > 0) this.launchWaiting()
    this.unreferenceWhenIdle()
  }

  private launchWaiting(): void {
    for (const call of this.waiting) {
      if (!this.hasRoom) return
      this.waiting.delete(call)
      this.launch(call)
    }
  }

  ended(call: Call): void {
    if (call.isSent) return
    this.waiting.delete(call)
    this.unreferenceWhenIdle()
  }

  private unreferenceWhenIdle(): void {
    if (!this.isReferenced || this.openStreams > 0 || this.waiting.size > 0) return
    this.isReferenced = false
    this.socket.unref()
  }

  // ── its end ──

  /** Takes no more calls; those on the wire go on. Returns what calls are refused with. */
  protected retire(why: string): TransportError {
    if (this.refusal !== undefined) return this.refusal
    const refusal = retired(this.peer, why)
    this.refusal = refusal
    Deferred.doneUnsafe(this.closed, Effect.succeed(refusal))
    for (const call of [...this.waiting]) call.end(lost(call.name, why, "no"))
    return refusal
  }

  /** The server takes no more calls, and goes on with those up to the last id. */
  protected drain(lastStreamId: number, message: string): void {
    this.goaway = { lastStreamId, message }
    this.retire(message)
    const passedOver = this.callsOnWire.filter(({ streamId }) => streamId === undefined || streamId > lastStreamId)
    this.endLost(passedOver, message)
  }

  /** The connection is gone, and every call with it. */
  protected lose(why: string, cause?: unknown): void {
    if (this.isLost) return
    this.isLost = true
    this.keepAlive.stop()
    const reason = this.goaway?.message ?? why
    this.retire(reason)
    const calls = this.callsOnWire
    this.closeHttp2()
    this.socket.destroy()
    this.endLost(calls, reason, cause)
  }

  /** Ends every call, says goodbye, and waits until the socket is gone. */
  readonly shutdown: Effect.Effect<void> = Effect.callback((resume) => {
    const { socket } = this
    if (socket.closed) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
    if (this.isLost) return
    this.isLost = true
    this.keepAlive.stop()
    const why = "the connection was closed by this client"
    this.retire(why)
    this.sayGoodbye(why)
    setImmediate(() => socket.destroy())
  })

  protected endLost(calls: ReadonlyArray<Call>, why: string, cause?: unknown): void {
    for (const call of calls) call.endLost(lost(call.name, why, this.mayHaveSeen(call), cause))
  }

  /** Whether the server may have acted on the call; it has on one that it is answering, whatever it says of it. */
  private mayHaveSeen({ isAnswered, streamId }: Call): "no" | "unknown" {
    const last = Math.min(this.sentStreamId, this.goaway?.lastStreamId ?? Number.POSITIVE_INFINITY)
    return !isAnswered && (streamId === undefined || streamId > last) ? "no" : "unknown"
  }
}
