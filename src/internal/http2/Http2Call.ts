/**
 * A call on a stream of our own HTTP/2.
 *
 * While the call is paused, what comes is held as it came, up to the stream's window; an end that came behind it waits.
 *
 * @internal
 */
import type { HeaderSection } from "../grpc/answer.ts"
import type { CallListener } from "../grpc/CallListener.ts"
import { protocolError, resetError } from "../grpc/errors.ts"
import { messagePrefixBytes } from "../grpc/framing.ts"
import { type CallHost, GrpcCall } from "../grpc/GrpcCall.ts"
import { Code, Reset } from "../grpc/status.ts"
import type { CallOptions, TransportError } from "../grpc/Transport.ts"
import { HeldBytes } from "./HeldBytes.ts"
import type { Stream, StreamHandler } from "./Stream.ts"

/** What a call needs of its connection. */
export interface Http2CallHost extends CallHost {
  /** The last headers and trailers that were good and plain: the next ones are very likely the same object. */
  goodAnswer: HeaderSection | undefined
  goodTrailers: HeaderSection | undefined
}

export class Http2Call extends GrpcCall implements StreamHandler {
  protected readonly host: Http2CallHost
  stream: Stream | undefined
  private isPaused = false
  private held: HeldBytes | undefined
  private heldEnd: (() => void) | undefined

  constructor(host: Http2CallHost, path: string, options: CallOptions | undefined, listener: CallListener) {
    super(path, options, listener)
    this.host = host
  }

  get streamId(): number | undefined {
    return this.stream?.id
  }

  get isSent(): boolean {
    return this.stream !== undefined
  }

  /** The call goes out on `stream`. */
  start(stream: Stream): void {
    this.stream = stream
    this.sendOn(stream)
  }

  /** Ends the call as soon as what came before is read. */
  override endLost(error: TransportError): void {
    this.afterHeld(() => this.end(error))
  }

  protected leaveStream(): void {
    this.held = undefined
    this.stream?.reset(Reset.cancel)
  }

  // ── back pressure ──

  /** What comes from now on is held. */
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
    this.deadline?.stop()
    if (this.stream?.isClosed === true) this.listener.onWritable()
  }

  // ── what the server says ──

  onHeaders(block: HeaderSection, isEndOfStream: boolean): void {
    if (this.answer !== undefined) {
      this.trailers = block
      return
    }
    this.answer = block
    if (block === this.host.goodAnswer && !isEndOfStream) return
    if (this.judgeAnswer(block, isEndOfStream) === "messages") this.host.goodAnswer = block
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
      this.listener.onMessage(bytes, start + messagePrefixBytes, end)
    } else {
      this.read(bytes, start, end)
    }
    return true
  }

  onEnd(): void {
    if (this.done) return
    if (this.held !== undefined) this.afterHeld(() => this.finish())
    else this.finish()
  }

  protected override errorOf(trailers: HeaderSection): TransportError | undefined {
    const { host, reader } = this
    if (trailers === host.goodTrailers && (reader === undefined || reader.isComplete)) return undefined
    const error = super.errorOf(trailers)
    if (error === undefined) host.goodTrailers = trailers
    return error
  }

  onReset(code: number, what: string | undefined): void {
    if (this.done) return
    // Judged by when it came, and not by when it is read.
    const deadline = code === Reset.cancel && this.deadline?.isDue === true ? this.deadline : undefined
    this.afterHeld(() => (deadline === undefined ? this.endByReset(code, what) : this.expire(deadline.millis)))
  }

  private endByReset(code: number, what: string | undefined): void {
    if (this.foreign !== undefined) this.endForeign()
    else if (what !== undefined) this.end(protocolError(this.name, Code.internal, what))
    else if (code === Reset.noError) this.endWithoutStatus()
    else this.end(resetError(this.name, code, this.isAnswered))
  }
}

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
