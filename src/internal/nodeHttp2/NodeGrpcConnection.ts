/**
 * A connection of gRPC over a session of `node:http2`.
 *
 * Calls wait for the server's limit of concurrent streams here and not inside `node:http2`, which does not tell whether a
 * request has left.
 *
 * The peer is watched with SETTINGS, which `node:http2` also sends on a connection that is draining, where it refuses to
 * send PINGs.
 *
 * @internal
 */
import type * as http2 from "node:http2"
import * as Result from "effect/Result"
import type { CallListener } from "../grpc/CallListener.ts"
import { finite } from "../grpc/Deadline.ts"
import { authorityOf } from "../grpc/dial.ts"
import {
  describeBreak,
  describeGoaway,
  headersTooLarge,
  lost,
  noMoreStreams,
  refused,
  unsendable
} from "../grpc/errors.ts"
import { type Dialled, GrpcConnection } from "../grpc/GrpcConnection.ts"
import { fieldBytes, largestHeaderList, unsendableName } from "../grpc/metadata.ts"
import { formatTimeout, Reset } from "../grpc/status.ts"
import type { CallOptions, TransportError } from "../grpc/Transport.ts"
import { NodeCall, type NodeCallHost } from "./NodeCall.ts"

export class NodeGrpcConnection extends GrpcConnection<NodeCall> implements NodeCallHost {
  private readonly session: http2.ClientHttp2Session
  private readonly handle: object | undefined
  private readonly scheme: string
  private readonly authority: string
  private readonly onWire = new Set<NodeCall>()
  protected openStreams = 0
  private maxStreams: number

  constructor(dialled: Dialled, session: http2.ClientHttp2Session) {
    super(dialled)
    const { target } = dialled
    this.session = session
    this.handle = nativeHandleOf(session)
    this.scheme = target.tls === undefined ? "http" : "https"
    this.authority = authorityOf(target)
    this.maxStreams = maxStreamsOf(session)
    session.on("remoteSettings", () => {
      this.maxStreams = maxStreamsOf(session)
      this.onRoom()
    })
    session.on("goaway", (code, lastStreamId, data) => this.onGoaway(code, lastStreamId, data))
    session.on("error", (error) => this.lose(describeBreak(error), error))
    session.on("close", () => this.lose("the connection was closed"))
  }

  get bytesHeard(): number {
    return this.socket.bytesRead
  }

  get waitingFor(): string {
    return noMoreStreams(this.maxStreams)
  }

  protected get hasRoom(): boolean {
    return this.openStreams < this.maxStreams
  }

  /** All that it was given may have left; what has not, has no id, or its stream says so. */
  protected get sentStreamId(): number {
    return Number.POSITIVE_INFINITY
  }

  protected get callsOnWire(): ReadonlyArray<NodeCall> {
    return [...this.onWire]
  }

  protected makeCall(path: string, options: CallOptions | undefined, listener: CallListener): NodeCall {
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
    return new NodeCall(this, path, options, listener, headers)
  }

  /** `node:http2` itself closes the connection where headers are too large. */
  protected checkHeaders(call: NodeCall): TransportError | undefined {
    const { headers, options } = call
    const bad = unsendableName(options?.metadata)
    if (bad !== undefined) return unsendable(call.name, bad)
    const limit = Math.min(this.session.remoteSettings.maxHeaderListSize ?? largestHeaderList, largestHeaderList)
    let bytes = 0
    for (const name in headers) bytes += fieldBytes(name, String(headers[name]))
    return bytes > limit ? headersTooLarge(call.name, bytes, limit) : undefined
  }

  protected openStream(call: NodeCall): void {
    if (this.session.closed || this.session.destroyed) {
      call.end(refused(call.path, this.retire("the connection is closing")))
      return
    }
    // Headers were looked at before, so what is wrong is the session. Node.js 24 tells that by the stream's error instead.
    const opened = Result.try(() => this.session.request(call.headers))
    if (Result.isFailure(opened)) {
      call.endUnsent(opened.failure)
      return
    }
    this.openStreams++
    this.onWire.add(call)
    call.start(opened.success)
  }

  protected probe(onAnswer: () => void): void {
    if (!this.session.destroyed) this.session.settings({}, onAnswer)
  }

  protected closeHttp2(): void {
    this.session.destroy()
  }

  protected sayGoodbye(why: string): void {
    this.endLost(this.callsOnWire, why)
    this.session.destroy()
  }

  // ── what its calls tell ──

  override ended(call: NodeCall): void {
    this.onWire.delete(call)
    super.ended(call)
  }

  streamClosed(stream: http2.ClientHttp2Stream): void {
    if (stream.rstCode !== Reset.noError && this.handle !== undefined) outlive.register(stream, this.handle)
    this.openStreams--
    this.onRoom()
  }

  checkBroken(streamError: Error | undefined): void {
    if (!this.socket.destroyed && !this.session.destroyed) return
    const error = this.socketError ?? streamError
    this.lose(describeBreak(error), error)
  }

  sendFailed(call: NodeCall, why: string, processed: "no" | "unknown", cause?: unknown): TransportError {
    this.retire(`the connection is closing, because ${why}`)
    return lost(call.name, this.goaway?.message ?? why, processed, cause)
  }

  // ── what its session tells ──

  private onGoaway(code: number, lastStreamId: number, data: Uint8Array | undefined): void {
    const message = describeGoaway(code, data)
    this.drain(lastStreamId, message)
    if (code !== Reset.noError) this.lose(message)
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
