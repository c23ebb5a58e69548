/**
 * One gRPC call on one stream: what arrives is checked against the rules of gRPC and handed on as messages and one end.
 * It ends once: with the server's status, with what went wrong, or because nobody wants it any more, and then the stream
 * is reset unless both sides have ended it.
 *
 * While the call is paused, what comes is held as it came, up to the stream's window; an end that came behind it waits.
 *
 * @internal
 */
import { judge } from "../grpc/answer.ts"
import type { Begun, CallListener } from "../grpc/calls.ts"
import { Deadline } from "../grpc/Deadline.ts"
import {
  deadlinePassed,
  errorOfTrailers,
  foreignAnswer,
  framingError,
  missingStatus,
  nameOf,
  protocolError,
  resetError
} from "../grpc/errors.ts"
import { ForeignAnswer } from "../grpc/ForeignAnswer.ts"
import { messagePrefixBytes } from "../grpc/framing.ts"
import { MessageReader } from "../grpc/MessageReader.ts"
import { Code, Reset } from "../grpc/status.ts"
import type { CallOptions, TransportError } from "../grpc/Transport.ts"
import type { HeaderBlock } from "./HeaderReader.ts"
import { HeldBytes } from "./HeldBytes.ts"
import type { Stream, StreamHandler } from "./Stream.ts"

/** What a call needs of its connection. */
export interface Host {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly bytesHeard: number
  /** What a call waits for that is not sent yet. */
  readonly waitingFor: string
  /** The last headers and trailers that were good and plain: the next ones are very likely the same object. */
  goodAnswer: HeaderBlock | undefined
  goodTrailers: HeaderBlock | undefined
  /** The call is over (`onEnd` follows). */
  readonly ended: (call: Http2Call) => void
}

export class Http2Call implements Begun, StreamHandler {
  readonly path: string
  readonly options: CallOptions | undefined
  readonly listener: CallListener
  stream: Stream | undefined
  done = false

  private readonly host: Host
  private reader: MessageReader | undefined
  private answer: HeaderBlock | undefined
  private trailers: HeaderBlock | undefined
  private foreign: ForeignAnswer | undefined
  private deadline: Deadline | undefined
  private isPaused = false
  private held: HeldBytes | undefined
  private heldEnd: (() => void) | undefined

  constructor(host: Host, path: string, options: CallOptions | undefined, listener: CallListener) {
    this.host = host
    this.path = path
    this.options = options
    this.listener = listener
  }

  /** Ends the call here when the time is up. */
  limit(timeoutMillis: number): void {
    this.deadline = new Deadline(this, timeoutMillis)
  }

  expire(timeoutMillis: number): void {
    this.end(deadlinePassed(this.name, timeoutMillis, this.waitsFor))
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
    return this.answer !== undefined
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
    if (this.deadline !== undefined) this.deadline.stop()
    if (this.foreign !== undefined) this.foreign.stop()
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
    this.deadline?.stop()
    if (this.stream?.isClosed === true) this.listener.onWritable()
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
    const judgement = judge(this.name, block.status ?? 0, block.headers, isEndOfStream)
    if (judgement === "trailers") this.trailers = block
    else if (judgement === "messages") this.host.goodAnswer = block
    else if (judgement === "foreign") this.foreign = new ForeignAnswer(() => this.endForeign())
    else this.end(judgement)
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

  private read(bytes: Uint8Array, start: number, end: number): void {
    this.reader ??= new MessageReader(this.host.maxReceiveMessageBytes)
    const failure = this.reader.push(bytes, start, end, this)
    if (failure !== undefined) this.end(framingError(this.name, failure, this.host.maxReceiveMessageBytes))
  }

  /** Told by the reader of messages. */
  onMessage(bytes: Uint8Array, start: number, end: number): void {
    if (!this.done) this.listener.onMessage(bytes, start, end)
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

  onWritable(): void {
    if (!this.done) this.listener.onWritable()
  }

  private get isComplete(): boolean {
    return this.reader === undefined || this.reader.isComplete
  }

  private endByTrailers(trailers: HeaderBlock) {
    if (trailers === this.host.goodTrailers && this.isComplete) return this.end(undefined)
    const error = errorOfTrailers(this.name, trailers.headers, this.reader)
    if (error === undefined) this.host.goodTrailers = trailers
    this.end(error)
  }

  private endWithoutStatus(): void {
    this.end(missingStatus(this.name, this.reader))
  }

  private endForeign(): void {
    const { headers = {}, status = 0 } = this.answer ?? {}
    this.end(foreignAnswer(this.name, status, headers, this.foreign?.text ?? ""))
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
