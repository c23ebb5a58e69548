/**
 * A call on a stream of `node:http2`, which tells what the server says by events, and holds it itself while the call is
 * paused.
 *
 * @internal
 */
import type * as http2 from "node:http2"
import type { CallListener, Outgoing } from "../grpc/CallListener.ts"
import { messageOf, resetError } from "../grpc/errors.ts"
import { messagePrefixBytes } from "../grpc/framing.ts"
import { type CallHost, GrpcCall } from "../grpc/GrpcCall.ts"
import { type Headers, Reset } from "../grpc/status.ts"
import type { CallOptions, TransportError } from "../grpc/Transport.ts"

/** What a call needs of its connection. */
export interface NodeCallHost extends CallHost {
  /** The stream is gone from the session. */
  streamClosed(stream: http2.ClientHttp2Stream): void
  /** A stream ended without an answer: if the connection is gone as well, every call hears of it now. */
  checkBroken(streamError: Error | undefined): void
  /** Something could not be sent, and `node:http2` closes the connection after that. Returns the error of its call. */
  sendFailed(call: NodeCall, why: string, processed: "no" | "unknown", cause?: unknown): TransportError
}

const endStreamFlag = 0x1
const headersFrame = 0x1

export class NodeCall extends GrpcCall {
  protected readonly host: NodeCallHost
  readonly headers: http2.OutgoingHttpHeaders
  private stream: http2.ClientHttp2Stream | undefined
  private early: Array<Uint8Array> = []
  private streamError: Error | undefined

  constructor(
    host: NodeCallHost,
    path: string,
    options: CallOptions | undefined,
    listener: CallListener,
    headers: http2.OutgoingHttpHeaders
  ) {
    super(path, options, listener)
    this.host = host
    this.headers = headers
  }

  get streamId(): number | undefined {
    return this.stream?.id
  }

  get isSent(): boolean {
    return this.stream !== undefined
  }

  override get isAnswered(): boolean {
    return super.isAnswered || this.early.length > 0
  }

  /** The call goes out on `stream`. */
  start(stream: http2.ClientHttp2Stream): void {
    this.stream = stream
    stream.on("response", this.onResponse)
    stream.on("trailers", this.onTrailers)
    stream.on("data", this.onData)
    stream.on("end", this.onEndOfStream)
    stream.on("error", this.onError)
    stream.on("close", this.onClose)
    stream.on("frameError", this.onFrameError)
    stream.on("drain", () => this.onWritable())
    // The server has closed it, which shows as its end only when what came before is read.
    stream.on("aborted", () => this.onWritable())
    this.sendOn(new NodeOutgoing(stream))
  }

  protected leaveStream(): void {
    const { stream } = this
    if (stream !== undefined && !stream.closed && !(stream.readableEnded && stream.writableFinished)) {
      stream.close(Reset.cancel)
    }
  }

  pause(): void {
    this.stream?.pause()
  }

  resume(): void {
    if (!this.done) this.stream?.resume()
  }

  private readonly onResponse = (headers: Headers, flags: number): void => {
    if (this.done || this.answer !== undefined) return
    this.answer = { headers, status: Number(headers[":status"]) }
    this.judgeAnswer(this.answer, (flags & endStreamFlag) !== 0)
    for (const piece of this.early.splice(0)) this.onData(piece)
  }

  private readonly onTrailers = (headers: Headers): void => {
    this.trailers = { headers, status: undefined }
  }

  private readonly onData = (piece: Uint8Array): void => {
    if (this.done) return
    if (this.answer === undefined) this.early.push(piece)
    else if (this.foreign !== undefined) this.foreign.push(piece)
    else this.read(plain(piece), 0, piece.length)
  }

  /** Whether what has come says how the call ends. */
  private get isConcluded(): boolean {
    return this.foreign !== undefined || this.trailers !== undefined
  }

  private readonly onEndOfStream = (): void => {
    if (this.done) return
    if (this.isConcluded || this.stream?.closed !== true) this.finish()
  }

  /** Headers that are submitted wait in nghttp2, which drops them when a GOAWAY comes before they are sent. */
  private readonly onFrameError = (type: number, code: number): void => {
    const why = `a frame could not be sent (frame type ${type}, nghttp2 error ${code})`
    this.end(this.host.sendFailed(this, why, type === headersFrame ? "no" : "unknown"))
  }

  private readonly onError = (error: Error): void => {
    this.streamError = error
  }

  /** The last event of every stream. What has not ended the call by now was no orderly end. */
  private readonly onClose = (): void => {
    this.host.streamClosed(this.stream!)
    if (this.done) return
    this.host.checkBroken(this.streamError)
    if (this.done) return
    if (this.streamId === undefined) this.endUnsent(this.streamError)
    else if (this.isConcluded) this.finish()
    else this.endByReset(this.stream?.rstCode ?? Reset.noError)
  }

  /** `node:http2` had no stream id for it: the session closes, or has used them up. */
  endUnsent(cause: unknown): void {
    const why =
      cause === undefined ? "a stream could not be opened" : `a stream could not be opened (${messageOf(cause)})`
    this.end(this.host.sendFailed(this, why, "no", cause))
  }

  private endByReset(code: number): void {
    if (code === Reset.noError && this.streamError === undefined) this.endWithoutStatus()
    else if (code === Reset.cancel && this.deadline?.isDue === true) this.expire(this.deadline.millis)
    else this.end(resetError(this.name, code, this.isAnswered, this.streamError))
  }
}

class NodeOutgoing implements Outgoing {
  private readonly stream: http2.ClientHttp2Stream

  constructor(stream: http2.ClientHttp2Stream) {
    this.stream = stream
  }

  get isClosed(): boolean {
    return this.stream.closed
  }

  get isEnding(): boolean {
    return this.stream.writableEnded
  }

  get isBlocked(): boolean {
    return this.stream.writableNeedDrain
  }

  write(message: Uint8Array, isLast: boolean): void {
    if (isLast) this.stream.end(frame(message))
    else this.stream.write(frame(message))
  }

  end(): void {
    this.stream.end()
  }
}

/** The message behind its prefix, in one piece of memory, so that it goes out in one write. */
const frame = (message: Uint8Array): Buffer => {
  const framed = Buffer.allocUnsafe(messagePrefixBytes + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, messagePrefixBytes)
  return framed
}

/** The bytes of a `Buffer`, whose `slice` does not copy. */
const plain = (piece: Uint8Array): Uint8Array => new Uint8Array(piece.buffer, piece.byteOffset, piece.length)
