/**
 * One gRPC call on one stream of `node:http2`: what arrives is checked against the rules of gRPC and handed on as
 * messages and one end. It ends once: with the server's status, with what went wrong, or because nobody wants it any
 * more, and then the stream is reset unless both sides have ended it.
 *
 * @internal
 */
import type * as http2 from "node:http2"
import { Deadline } from "./deadline.ts"
import { ForeignAnswer } from "./foreign.ts"
import { type FramingFailure, MessageDecoder } from "./framing.ts"
import {
  Code,
  codeOfHttpStatus,
  codeOfReset,
  type Headers,
  header,
  isGrpcContentType,
  isProtocolReset,
  Reset,
  readMetadata,
  readStatus,
  resetName,
  shorten
} from "./status.ts"
import { TransportError } from "./Transport.ts"

/** Who hears of a call. `onEnd` comes once and last; `undefined` is OK. */
export interface Observer {
  readonly onMessage: (message: Uint8Array) => void
  readonly onEnd: (error: TransportError | undefined) => void
  /** The stream exists: requests can go out from now on. */
  readonly onStart: (stream: http2.ClientHttp2Stream) => void
}

/** What a call needs of its connection. */
export interface Host {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  /** The call is over (`onEnd` follows). */
  readonly ended: (call: Call) => void
  /** The stream is gone from the session. */
  readonly streamClosed: (stream: http2.ClientHttp2Stream) => void
  /** A stream ended without an answer: if the connection is gone as well, every call hears of it now. */
  readonly checkBroken: (streamError: Error | undefined) => void
  /** A frame could not be sent; `node:http2` closes the connection after that. */
  readonly sendFailed: () => void
}

const longestTimer = 0x7fffffff
const endStreamFlag = 0x1
const headersFrame = 0x1

export class Call {
  readonly path: string
  readonly headers: http2.OutgoingHttpHeaders
  readonly observer: Observer
  stream: http2.ClientHttp2Stream | undefined
  done = false

  private readonly host: Host
  private readonly decoder: MessageDecoder
  private answer: Headers | undefined
  private trailers: Headers | undefined
  private early: Array<Uint8Array> = []
  private foreign: ForeignAnswer | undefined
  private streamError: Error | undefined
  private timer: NodeJS.Timeout | undefined
  private deadline: Deadline | undefined

  constructor(host: Host, path: string, headers: http2.OutgoingHttpHeaders, observer: Observer) {
    this.host = host
    this.path = path
    this.headers = headers
    this.observer = observer
    this.decoder = new MessageDecoder(host.maxReceiveMessageBytes)
  }

  /** Ends the call here when the time is up. */
  limit(timeoutMillis: number): void {
    this.deadline = new Deadline(timeoutMillis)
    this.timer = setTimeout(() => this.expire(timeoutMillis), Math.min(timeoutMillis, longestTimer))
    this.timer.unref()
  }

  private expire(timeoutMillis: number): void {
    this.end(
      new TransportError({
        kind: "Deadline",
        code: Code.deadlineExceeded,
        message:
          this.stream === undefined
            ? `${this.path} to ${this.host.peer}: the deadline of ${timeoutMillis} ms passed before the request was sent, because the server takes no more calls at a time`
            : `${this.path} to ${this.host.peer}: no answer within the deadline of ${timeoutMillis} ms`,
        processed: this.stream === undefined ? "no" : "unknown"
      })
    )
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
    this.observer.onStart(stream)
  }

  /** Ends the call, and resets its stream unless both sides have ended it. */
  end(error: TransportError | undefined): void {
    if (this.done) return
    this.release()
    this.observer.onEnd(error)
  }

  /** Nobody wants the call any more. */
  cancel(): void {
    if (!this.done) this.release()
  }

  private release(): void {
    this.done = true
    clearTimeout(this.timer)
    clearTimeout(this.foreign?.timer)
    this.host.ended(this)
    const stream = this.stream
    if (stream !== undefined && !stream.closed && !(stream.readableEnded && stream.writableFinished)) {
      stream.close(Reset.cancel)
    }
  }

  private readonly onResponse = (headers: Headers, flags: number): void => {
    if (this.done || this.answer !== undefined) return
    this.answer = headers
    this.judge(headers, flags)
    for (const piece of this.early.splice(0)) this.onData(piece)
  }

  private judge(headers: Headers, flags: number): void {
    const contentType = header(headers, "content-type")
    const isGrpc = isGrpcContentType(contentType)
    if ((flags & endStreamFlag) !== 0 && readStatus(headers) !== undefined) {
      this.trailers = headers
      return
    }
    const status = Number(headers[":status"])
    if (status === 200 && isGrpc) {
      this.checkEncoding(headers)
    } else if (status === 200 && !/^text\//i.test(contentType ?? "")) {
      const found = contentType === undefined ? "missing" : `"${shorten(contentType, 80)}"`
      this.protocolError(Code.unknown, `the answer's content type is ${found}, not application/grpc`)
    } else {
      this.foreign = new ForeignAnswer(() => this.endForeign())
    }
  }

  private checkEncoding(headers: Headers): void {
    const encoding = header(headers, "grpc-encoding")
    if (encoding !== undefined && encoding !== "identity") {
      this.protocolError(
        Code.unimplemented,
        `the server compresses its messages (grpc-encoding "${shorten(encoding, 40)}"), which it was not asked for`
      )
    }
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
    const failure = this.decoder.push(piece, this.onMessage)
    if (failure !== undefined) this.framingFailed(failure)
  }

  private readonly onMessage = (message: Uint8Array): void => {
    if (!this.done) this.observer.onMessage(message)
  }

  private framingFailed(failure: FramingFailure): void {
    if (failure._tag === "TooLarge") {
      const limit = this.host.maxReceiveMessageBytes
      this.protocolError(
        Code.resourceExhausted,
        `the server sent a message of ${failure.length} bytes, and the limit is ${limit}; raise the limit, or ask for less at a time`
      )
    } else {
      this.protocolError(
        Code.internal,
        failure.flag === 1
          ? "the server sent a compressed message, which it was not asked for"
          : `the server sent a malformed message (compression flag ${failure.flag})`
      )
    }
  }

  private readonly onEndOfStream = (): void => {
    if (this.done) return
    if (this.foreign !== undefined) this.endForeign()
    else if (this.trailers !== undefined) this.endByTrailers(this.trailers)
    else if (this.stream?.closed !== true) this.endWithoutStatus()
  }

  private endByTrailers(trailers: Headers): void {
    const status = readStatus(trailers)
    if (status === undefined) {
      this.endWithoutStatus()
    } else if (status.code !== 0) {
      this.end(
        new TransportError({
          kind: "Status",
          code: status.code,
          message: status.message,
          processed: "yes",
          metadata: readMetadata(trailers)
        })
      )
    } else if (this.decoder.isComplete) {
      this.end(undefined)
    } else {
      this.protocolError(Code.internal, `the answer was cut off after ${this.decoder.progress}`)
    }
  }

  private endWithoutStatus(): void {
    this.protocolError(
      this.decoder.isComplete ? Code.unknown : Code.internal,
      this.decoder.isComplete
        ? "the server ended the call without a gRPC status"
        : `the answer was cut off after ${this.decoder.progress}, without a gRPC status`
    )
  }

  private endForeign(): void {
    const answer = this.answer ?? {}
    const status = Number(answer[":status"])
    const type = header(answer, "content-type")
    const location = header(answer, "location")
    const body = this.foreign?.text ?? ""
    const parts = [
      `${this.path} to ${this.host.peer}: the answer is not gRPC but HTTP ${status}`,
      ...(type === undefined ? [] : [`content type "${shorten(type, 80)}"`]),
      ...(location === undefined ? [] : [`redirected to "${shorten(location, 200)}"`]),
      ...(body === "" ? [] : [`"${body}"`])
    ]
    this.end(
      new TransportError({
        kind: "Http",
        code: codeOfHttpStatus(status),
        message: `${parts.join(", ")}; check that the address is etcd's, and that any proxy in between passes gRPC`,
        processed: "unknown",
        metadata: readMetadata(answer)
      })
    )
  }

  private protocolError(code: number, what: string, cause?: unknown): void {
    this.end(
      new TransportError({
        kind: "Protocol",
        code,
        message: `${this.path} to ${this.host.peer}: ${what}`,
        processed: "unknown",
        ...(cause === undefined ? {} : { cause })
      })
    )
  }

  private readonly onFrameError = (type: number, code: number): void => {
    this.host.sendFailed()
    this.end(
      new TransportError({
        kind: "Protocol",
        code: Code.internal,
        message: `${this.path} to ${this.host.peer}: the request could not be sent (frame type ${type}, nghttp2 error ${code}); its headers may be too large`,
        processed: type === headersFrame ? "no" : "unknown"
      })
    )
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
    if (this.foreign !== undefined) this.endForeign()
    else if (this.trailers !== undefined) this.endByTrailers(this.trailers)
    else this.endByReset(this.stream?.rstCode ?? Reset.noError)
  }

  private endByReset(code: number): void {
    if (code === Reset.noError && this.streamError === undefined) this.endWithoutStatus()
    else if (isProtocolReset(code)) this.protocolError(codeOfReset(code), resetText(code), this.streamError)
    else if (code === Reset.cancel && this.deadline?.isDue === true) this.expire(this.deadline.millis)
    else this.endByPlainReset(code)
  }

  private endByPlainReset(code: number): void {
    this.end(
      new TransportError({
        kind: "ConnectionLost",
        code: codeOfReset(code),
        message: `${this.path} to ${this.host.peer}: the call was reset with ${resetName(code)}`,
        processed: code === Reset.refusedStream ? "no" : "unknown",
        ...(this.streamError === undefined ? {} : { cause: this.streamError })
      })
    )
  }
}

const resetText = (code: number): string =>
  `the stream was reset with ${resetName(code)}: one side broke the rules of HTTP/2`
