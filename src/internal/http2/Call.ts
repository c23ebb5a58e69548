/**
 * One gRPC call on one stream: what arrives is checked against the rules of gRPC and handed on as messages and one end.
 * It ends once: with the server's status, with what went wrong, or because nobody wants it any more, and then the stream
 * is reset unless both sides have ended it.
 *
 * While the call is paused, what comes is held as it came, up to the stream's window; an end that came behind it waits.
 *
 * @internal
 */
import { Deadline } from "../grpc/deadline.ts"
import { ForeignAnswer } from "../grpc/foreign.ts"
import type { FramingFailure } from "../grpc/framing.ts"
import {
  Code,
  codeOfHttpStatus,
  codeOfReset,
  header,
  isGrpcContentType,
  isProtocolReset,
  Reset,
  readMetadata,
  readStatus,
  resetName,
  shorten
} from "../grpc/status.ts"
import { type CallOptions, TransportError } from "../grpc/Transport.ts"
import type { HeaderBlock } from "./HeaderReader.ts"
import { HeldBytes } from "./HeldBytes.ts"
import { MessageReader } from "./MessageReader.ts"
import type { Stream, StreamHandler } from "./Stream.ts"

/** Who hears of a call. `onEnd` comes once and last; `undefined` is OK. */
export interface Observer {
  /** The stream exists: requests can go out from now on. */
  readonly onStart: (stream: Stream) => void
  /** A message, where it lies. */
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => void
  readonly onEnd: (error: TransportError | undefined) => void
  /** All that was to be sent is with the socket. */
  readonly onWritable: () => void
}

/** What a call needs of its connection. */
export interface Host {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  /** The last headers and trailers that were good and plain: the next ones are very likely the same object. */
  goodAnswer: HeaderBlock | undefined
  goodTrailers: HeaderBlock | undefined
  /** The call is over (`onEnd` follows). */
  readonly ended: (call: Call) => void
}

const longestTimer = 0x7fffffff
const messagePrefixBytes = 5

export class Call implements StreamHandler {
  readonly path: string
  readonly options: CallOptions | undefined
  readonly observer: Observer
  stream: Stream | undefined
  done = false

  private readonly host: Host
  private reader: MessageReader | undefined
  private answer: HeaderBlock | undefined
  private trailers: HeaderBlock | undefined
  private foreign: ForeignAnswer | undefined
  private timer: NodeJS.Timeout | undefined
  private deadline: Deadline | undefined
  private isPaused = false
  private held: HeldBytes | undefined
  private heldEnd: (() => void) | undefined

  constructor(host: Host, path: string, options: CallOptions | undefined, observer: Observer) {
    this.host = host
    this.path = path
    this.options = options
    this.observer = observer
  }

  /** Ends the call here when the time is up. */
  limit(timeoutMillis: number): void {
    this.deadline = new Deadline(timeoutMillis)
    this.timer = setTimeout(expire, Math.min(timeoutMillis, longestTimer), this, timeoutMillis)
    this.timer.unref()
  }

  expire(timeoutMillis: number): void {
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

  /** Ends the call, and resets its stream unless both sides have ended it. */
  end(error: TransportError | undefined): void {
    if (this.done) return
    this.release()
    this.observer.onEnd(error)
  }

  /** Ends the call as soon as what came before is read. */
  endAfterHeld(error: TransportError | undefined): void {
    this.afterHeld(() => this.end(error))
  }

  /** Nobody wants the call any more. */
  cancel(): void {
    if (!this.done) this.release()
  }

  private release(): void {
    this.done = true
    this.held = undefined
    if (this.timer !== undefined) clearTimeout(this.timer)
    if (this.foreign !== undefined) clearTimeout(this.foreign.timer)
    this.host.ended(this)
    this.stream?.reset(Reset.cancel)
  }

  // ── back pressure ──

  /** What comes from now on is held, and the server is not told of room for more. */
  pause(): void {
    this.isPaused = true
  }

  /** Hands on what was held. */
  resume(): void {
    this.isPaused = false
    while (this.held !== undefined && !this.isPaused && !this.done) {
      const block = this.held.shift()
      if (this.held.isEmpty) this.held = undefined
      if (block === undefined) break
      this.read(block, 0, block.length)
      this.stream?.free(block.length)
    }
    if (this.held === undefined && this.heldEnd !== undefined && !this.done) this.heldEnd()
  }

  private afterHeld(end: () => void) {
    if (this.held === undefined) return end()
    if (this.heldEnd !== undefined) return
    this.heldEnd = end
    if (this.timer !== undefined) clearTimeout(this.timer)
    if (this.stream?.isClosed === true) this.observer.onWritable()
  }

  // ── what the server says ──

  onHeaders(block: HeaderBlock, isEndOfStream: boolean): void {
    if (this.answer !== undefined) {
      this.trailers = block
      return
    }
    this.answer = block
    if (block !== this.host.goodAnswer || isEndOfStream) this.judge(block, isEndOfStream)
  }

  private judge(block: HeaderBlock, isEndOfStream: boolean): void {
    const { headers, status } = block
    const contentType = header(headers, "content-type")
    if (isEndOfStream && readStatus(headers) !== undefined) {
      this.trailers = block
    } else if (status === 200 && isGrpcContentType(contentType)) {
      this.checkEncoding(block)
    } else if (status === 200 && !/^text\//i.test(contentType ?? "")) {
      const found = contentType === undefined ? "missing" : `"${shorten(contentType, 80)}"`
      this.protocolError(Code.unknown, `the answer's content type is ${found}, not application/grpc`)
    } else {
      this.foreign = new ForeignAnswer(() => this.endForeign())
    }
  }

  private checkEncoding(block: HeaderBlock): void {
    const encoding = header(block.headers, "grpc-encoding")
    if (encoding === undefined || encoding === "identity") {
      this.host.goodAnswer = block
      return
    }
    this.protocolError(
      Code.unimplemented,
      `the server compresses its messages (grpc-encoding "${shorten(encoding, 40)}"), which it was not asked for`
    )
  }

  onData(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.done) return true
    if (this.foreign !== undefined) {
      this.foreign.push(bytes.slice(start, end))
      return true
    }
    if (this.isPaused || this.held !== undefined) {
      this.held ??= new HeldBytes()
      this.held.push(bytes, start, end)
      return false
    }
    if (this.reader === undefined && isOneMessage(bytes, start, end, this.host.maxReceiveMessageBytes)) {
      this.observer.onMessage(bytes, start + messagePrefixBytes, end)
    } else {
      this.read(bytes, start, end)
    }
    return true
  }

  private read(bytes: Uint8Array, start: number, end: number): void {
    this.reader ??= new MessageReader(this.host.maxReceiveMessageBytes)
    const failure = this.reader.push(bytes, start, end, this)
    if (failure !== undefined) this.framingFailed(failure)
  }

  /** Told by the reader of messages. */
  onMessage(bytes: Uint8Array, start: number, end: number): void {
    if (!this.done) this.observer.onMessage(bytes, start, end)
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

  onEnd(): void {
    if (this.done) return
    if (this.held !== undefined) this.afterHeld(() => this.finish())
    else this.finish()
  }

  private finish(): void {
    if (this.foreign !== undefined) this.endForeign()
    else if (this.trailers !== undefined) this.endByTrailers(this.trailers)
    else this.endWithoutStatus()
  }

  onReset(code: number, what: string | undefined): void {
    if (this.done) return
    this.afterHeld(() => this.endByReset(code, what))
  }

  private endByReset(code: number, what: string | undefined): void {
    if (this.foreign !== undefined) this.endForeign()
    else if (what !== undefined) this.protocolError(Code.internal, what)
    else if (code === Reset.noError) this.endWithoutStatus()
    else if (isProtocolReset(code)) this.protocolError(codeOfReset(code), resetText(code))
    else if (code === Reset.cancel && this.deadline?.isDue === true) this.expire(this.deadline.millis)
    else this.endByServersReset(code)
  }

  private endByServersReset(code: number): void {
    this.end(
      new TransportError({
        kind: "ConnectionLost",
        code: codeOfReset(code),
        message: `${this.path} to ${this.host.peer}: the call was reset with ${resetName(code)}`,
        processed: code === Reset.refusedStream ? "no" : "unknown"
      })
    )
  }

  onWritable(): void {
    if (!this.done) this.observer.onWritable()
  }

  private get isComplete(): boolean {
    return this.reader === undefined || this.reader.isComplete
  }

  private endByTrailers(trailers: HeaderBlock) {
    if (trailers === this.host.goodTrailers && this.isComplete) return this.end(undefined)
    const status = readStatus(trailers.headers)
    if (status === undefined) {
      this.endWithoutStatus()
    } else if (status.code !== 0) {
      this.end(
        new TransportError({
          kind: "Status",
          code: status.code,
          message: status.message,
          processed: "yes",
          metadata: readMetadata(trailers.headers)
        })
      )
    } else if (this.isComplete) {
      this.host.goodTrailers = trailers
      this.end(undefined)
    } else {
      this.protocolError(Code.internal, `the answer was cut off after ${this.reader?.progress}`)
    }
  }

  private endWithoutStatus(): void {
    this.protocolError(
      this.isComplete ? Code.unknown : Code.internal,
      this.isComplete
        ? "the server ended the call without a gRPC status"
        : `the answer was cut off after ${this.reader?.progress}, without a gRPC status`
    )
  }

  private endForeign(): void {
    const headers = this.answer?.headers ?? {}
    const status = this.answer?.status ?? 0
    const type = header(headers, "content-type")
    const location = header(headers, "location")
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
        metadata: readMetadata(headers)
      })
    )
  }

  private protocolError(code: number, what: string): void {
    this.end(
      new TransportError({
        kind: "Protocol",
        code,
        message: `${this.path} to ${this.host.peer}: ${what}`,
        processed: "unknown"
      })
    )
  }
}

const expire = (call: Call, timeoutMillis: number): void => call.expire(timeoutMillis)

const resetText = (code: number): string =>
  `the stream was reset with ${resetName(code)}: one side broke the rules of HTTP/2`

/** Whether the bytes are exactly one message, plain and within the limit, as most answers are. */
const isOneMessage = (bytes: Uint8Array, start: number, end: number, maxMessageBytes: number): boolean => {
  const length = end - start - messagePrefixBytes
  return (
    length >= 0 &&
    length <= maxMessageBytes &&
    bytes[start] === 0 &&
    bytes[start + 1] === 0 &&
    ((bytes[start + 2]! << 16) | (bytes[start + 3]! << 8) | bytes[start + 4]!) === length
  )
}
