/**
 * One gRPC call on one stream of `node:http2`: what arrives is checked against the rules of gRPC and handed on as
 * messages and one end. It ends once: with the server's status, with what went wrong, or because nobody wants it any
 * more, and then the stream is reset unless both sides have ended it.
 *
 * @internal
 */
import type * as http2 from "node:http2"
import { judge } from "../grpc/answer.ts"
import type { Begun, CallListener, Outgoing } from "../grpc/calls.ts"
import { Deadline } from "../grpc/Deadline.ts"
import {
  deadlinePassed,
  errorOfTrailers,
  foreignAnswer,
  framingError,
  messageOf,
  missingStatus,
  nameOf,
  resetError
} from "../grpc/errors.ts"
import { ForeignAnswer } from "../grpc/ForeignAnswer.ts"
import { messagePrefixBytes } from "../grpc/framing.ts"
import { MessageReader } from "../grpc/MessageReader.ts"
import { type Headers, Reset } from "../grpc/status.ts"
import type { TransportError } from "../grpc/Transport.ts"

/** What a call needs of its connection. */
export interface Host {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly bytesHeard: number
  /** What a call waits for that is not sent yet. */
  readonly waitingFor: string
  /** The call is over (`onEnd` follows). */
  readonly ended: (call: NodeCall) => void
  /** The stream is gone from the session. */
  readonly streamClosed: (stream: http2.ClientHttp2Stream) => void
  /** A stream ended without an answer: if the connection is gone as well, every call hears of it now. */
  readonly checkBroken: (streamError: Error | undefined) => void
  /** Something could not be sent, and `node:http2` closes the connection after that. Returns the error of its call. */
  readonly sendFailed: (call: NodeCall, why: string, processed: "no" | "unknown", cause?: unknown) => TransportError
}

const endStreamFlag = 0x1
const headersFrame = 0x1

export class NodeCall implements Begun {
  readonly path: string
  readonly headers: http2.OutgoingHttpHeaders
  readonly listener: CallListener
  stream: http2.ClientHttp2Stream | undefined
  done = false

  private readonly host: Host
  private readonly reader: MessageReader
  private answer: Headers | undefined
  private trailers: Headers | undefined
  private early: Array<Uint8Array> = []
  private foreign: ForeignAnswer | undefined
  private streamError: Error | undefined
  private deadline: Deadline | undefined

  constructor(host: Host, path: string, headers: http2.OutgoingHttpHeaders, listener: CallListener) {
    this.host = host
    this.path = path
    this.headers = headers
    this.listener = listener
    this.reader = new MessageReader(host.maxReceiveMessageBytes)
  }

  /** Ends the call here when the time is up. */
  limit(timeoutMillis: number): void {
    this.deadline = new Deadline(this, timeoutMillis)
  }

  expire(timeoutMillis: number): void {
    this.end(deadlinePassed(this.name, timeoutMillis, this.waitsFor))
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
    stream.on("drain", this.onWritable)
    // The server has closed it, which shows as its end only when what came before is read.
    stream.on("aborted", this.onWritable)
    this.listener.onStart(new NodeOutgoing(stream))
  }

  get bytesHeard(): number {
    return this.host.bytesHeard
  }

  get isSent(): boolean {
    return this.stream !== undefined
  }

  get waitsFor(): string | undefined {
    return this.isSent ? undefined : this.host.waitingFor
  }

  /** The answer has begun, so the server has acted on the request. */
  get isAnswered(): boolean {
    return this.answer !== undefined || this.early.length > 0
  }

  private get name(): string {
    return nameOf(this.path, this.host.peer)
  }

  /** Ends the call, and resets its stream unless both sides have ended it. */
  end(error: TransportError | undefined): void {
    if (this.done) return
    this.release()
    this.listener.onEnd(error)
  }

  /** Nobody wants the call any more. */
  cancel(): void {
    if (!this.done) this.release()
  }

  private release(): void {
    this.done = true
    this.deadline?.stop()
    this.foreign?.stop()
    this.host.ended(this)
    const stream = this.stream
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

  private readonly onWritable = (): void => {
    if (!this.done) this.listener.onWritable()
  }

  private readonly onResponse = (headers: Headers, flags: number): void => {
    if (this.done || this.answer !== undefined) return
    this.answer = headers
    this.judge(headers, flags)
    for (const piece of this.early.splice(0)) this.onData(piece)
  }

  private judge(headers: Headers, flags: number): void {
    const judgement = judge(this.name, Number(headers[":status"]), headers, (flags & endStreamFlag) !== 0)
    if (judgement === "trailers") this.trailers = headers
    else if (judgement === "foreign") this.foreign = new ForeignAnswer(() => this.endForeign())
    else if (judgement !== "messages") this.end(judgement)
  }

  private readonly onTrailers = (headers: Headers): void => {
    this.trailers = headers
  }

  private readonly onData = (piece: Uint8Array): void => {
    if (this.done) return
    if (this.answer === undefined) {
      this.early.push(piece)
      return
    }
    if (this.foreign !== undefined) {
      this.foreign.push(piece)
      return
    }
    const failure = this.reader.push(plain(piece), 0, piece.length, this)
    if (failure !== undefined) this.end(framingError(this.name, failure, this.host.maxReceiveMessageBytes))
  }

  /** Told by the reader of messages. */
  onMessage(bytes: Uint8Array, start: number, end: number): void {
    if (!this.done) this.listener.onMessage(bytes, start, end)
  }

  private readonly onEndOfStream = (): void => {
    if (this.done) return
    if (this.foreign !== undefined) this.endForeign()
    else if (this.trailers !== undefined) this.end(errorOfTrailers(this.name, this.trailers, this.reader))
    else if (this.stream?.closed !== true) this.endWithoutStatus()
  }

  private endWithoutStatus(): void {
    this.end(missingStatus(this.name, this.reader))
  }

  private endForeign(): void {
    const answer = this.answer ?? {}
    this.end(foreignAnswer(this.name, Number(answer[":status"]), answer, this.foreign?.text ?? ""))
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
    if (this.stream?.id === undefined) this.endUnsent(this.streamError)
    else if (this.foreign !== undefined) this.endForeign()
    else if (this.trailers !== undefined) this.end(errorOfTrailers(this.name, this.trailers, this.reader))
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
