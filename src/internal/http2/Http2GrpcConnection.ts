/**
 * A connection of gRPC over our own HTTP/2.
 *
 * Calls wait for the server's limit of concurrent streams, and for a socket that is full. A connection that drains is
 * closed when its last call is over.
 *
 * @internal
 */
import type { HeaderSection } from "../grpc/answer.ts"
import type { CallListener } from "../grpc/CallListener.ts"
import { finite } from "../grpc/Deadline.ts"
import { authorityOf } from "../grpc/dial.ts"
import { describeBreak, describeGoaway, headersTooLarge, noMoreStreams, unsendable } from "../grpc/errors.ts"
import { type Dialled, GrpcConnection } from "../grpc/GrpcConnection.ts"
import { Reset } from "../grpc/status.ts"
import type { CallOptions, TransportError } from "../grpc/Transport.ts"
import { Http2Call, type Http2CallHost } from "./Http2Call.ts"
import type { Http2Connection, Http2ConnectionListener } from "./Http2Connection.ts"
import { hearOut } from "./hearOut.ts"
import { RequestHeaders } from "./RequestHeaders.ts"

const noOptions: CallOptions = {}

/** What calls wait for while the socket is full. */
const slowReader = "the server reads more slowly than it is sent to"

export class Http2GrpcConnection extends GrpcConnection<Http2Call> implements Http2CallHost, Http2ConnectionListener {
  goodAnswer: HeaderSection | undefined
  goodTrailers: HeaderSection | undefined
  private readonly http2: Http2Connection
  private readonly requestHeaders: RequestHeaders

  constructor(dialled: Dialled, http2: Http2Connection) {
    super(dialled)
    const { socket, target } = dialled
    this.http2 = http2
    const scheme = target.tls === undefined ? "http" : "https"
    this.requestHeaders = new RequestHeaders(http2.encoder, scheme, authorityOf(target))
    http2.listener = this
    hearOut(socket, (error) => this.retire(describeBreak(error)))
    socket.on("end", () => this.lose("the server closed the connection"))
  }

  get bytesHeard(): number {
    return this.http2.bytesHeard
  }

  get waitingFor(): string {
    const { maxConcurrentStreams, openStreams } = this.http2
    return openStreams >= maxConcurrentStreams ? noMoreStreams(maxConcurrentStreams) : slowReader
  }

  protected get openStreams(): number {
    return this.http2.openStreams
  }

  protected get hasRoom(): boolean {
    return this.http2.hasRoom
  }

  protected get sentStreamId(): number {
    return this.http2.outbox.sentStreamId
  }

  protected get callsOnWire(): ReadonlyArray<Http2Call> {
    return this.http2.allStreams.map(({ handler }) => handler).filter((handler) => handler instanceof Http2Call)
  }

  protected makeCall(path: string, options: CallOptions | undefined, listener: CallListener): Http2Call {
    return new Http2Call(this, path, options, listener)
  }

  protected checkHeaders(call: Http2Call): TransportError | undefined {
    const { options, path } = call
    const bad = this.requestHeaders.unsendable(options?.metadata)
    if (bad !== undefined) return unsendable(call.name, bad)
    const limit = this.http2.maxSendHeaderListBytes
    const bytes = this.requestHeaders.bytesOver(limit, path, finite(options?.timeoutMillis))
    return bytes === undefined ? undefined : headersTooLarge(call.name, bytes, limit)
  }

  protected openStream(call: Http2Call): void {
    const { metadata, timeoutMillis } = call.options ?? noOptions
    const stream = this.requestHeaders.encode(call.path, metadata, finite(timeoutMillis), (block, more) =>
      this.http2.open(block, more, call)
    )
    call.start(stream)
  }

  protected probe(onAnswer: () => void): void {
    this.http2.probe(onAnswer)
  }

  protected closeHttp2(): void {
    this.http2.close()
  }

  protected sayGoodbye(why: string): void {
    const calls = this.callsOnWire
    this.http2.goaway(Reset.noError)
    this.http2.close()
    this.endLost(calls, why)
  }

  // ── what its HTTP/2 tells ──

  onSettings(): void {
    this.onRoom()
  }

  override onRoom(): void {
    super.onRoom()
    if (this.goaway !== undefined && this.openStreams === 0) this.lose(this.goaway.message)
  }

  onGoaway(lastStreamId: number, code: number, debug: Uint8Array): void {
    const message = describeGoaway(code, debug)
    this.drain(lastStreamId, message)
    if (this.openStreams === 0) this.lose(message)
  }

  onBroken(what: string): void {
    this.lose(`the server broke the rules of HTTP/2 (${what}), so the connection was closed`)
  }
}
