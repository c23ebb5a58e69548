/**
 * One gRPC call on one stream: what arrives is checked against the rules of gRPC and handed on as messages and one end.
 *
 * **What holds of every call.** It ends once: with the server's status, with what went wrong, or because nobody wants it
 * any more. Whichever it is, its timers are stopped and its stream is reset, unless both sides have ended it, before the
 * listener hears of the end; and it hears of nothing after that.
 *
 * How a call hears of its stream, and what is done while nobody reads, is its transport's own.
 *
 * @internal
 */
import { type HeaderSection, type Judgement, judge } from "./answer.ts"
import type { CallListener, Outgoing } from "./CallListener.ts"
import { Deadline } from "./Deadline.ts"
import { deadlinePassed, errorOfTrailers, foreignAnswer, framingError, missingStatus, nameOf } from "./errors.ts"
import { ForeignAnswer } from "./ForeignAnswer.ts"
import { MessageReader } from "./MessageReader.ts"
import type { CallOptions, TransportError } from "./Transport.ts"

/** What a call needs of its connection. */
export interface CallHost {
  readonly peer: string
  readonly maxReceiveMessageBytes: number
  readonly bytesHeard: number
  /** What a call waits for that is not sent yet. */
  readonly waitingFor: string
  /** The call is over (`onEnd` follows). */
  ended(call: GrpcCall): void
}

export abstract class GrpcCall {
  readonly path: string
  readonly options: CallOptions | undefined
  readonly listener: CallListener
  done = false
  /** The only message that it sends, until it is sent. */
  request: Uint8Array | undefined

  protected answer: HeaderSection | undefined
  protected trailers: HeaderSection | undefined
  protected foreign: ForeignAnswer | undefined
  protected reader: MessageReader | undefined
  protected deadline: Deadline | undefined

  constructor(path: string, options: CallOptions | undefined, listener: CallListener) {
    this.path = path
    this.options = options
    this.listener = listener
  }

  protected abstract readonly host: CallHost

  /** `undefined` while it has no stream, or one without an id. */
  abstract readonly streamId: number | undefined

  /** Whether the request may have left. */
  abstract readonly isSent: boolean

  /** The server is not told of room for more until {@link GrpcCall.resume}. */
  abstract pause(): void

  abstract resume(): void

  /** The call is over, and its stream of no more use. */
  protected abstract leaveStream(): void

  /** For error texts. */
  get name(): string {
    return nameOf(this.path, this.host.peer)
  }

  get bytesHeard(): number {
    return this.host.bytesHeard
  }

  /** What it waits for while it is not sent. */
  get waitsFor(): string | undefined {
    return this.isSent ? undefined : this.host.waitingFor
  }

  /** The answer has begun, so the server has acted on the request. */
  get isAnswered(): boolean {
    return this.answer !== undefined
  }

  /** Its stream exists: a call with one message ends its half with that, and any other one is told. */
  protected sendOn(stream: Outgoing): void {
    const { request } = this
    if (request === undefined) this.listener.onStart(stream)
    else {
      this.request = undefined
      stream.write(request, true)
    }
  }

  // ── its end ──

  /** Ends the call here when the time is up. */
  limit(timeoutMillis: number): void {
    this.deadline = new Deadline(this, timeoutMillis)
  }

  expire(timeoutMillis: number): void {
    this.end(deadlinePassed(this.name, timeoutMillis, this.waitsFor))
  }

  /** Ends the call, and resets its stream unless both sides have ended it. */
  end(error: TransportError | undefined): void {
    if (this.done) return
    this.release()
    this.listener.onEnd(error)
  }

  /** Its connection is lost under it. */
  endLost(error: TransportError): void {
    this.end(error)
  }

  /** Nobody wants the call any more. */
  cancel(): void {
    if (!this.done) this.release()
  }

  private release(): void {
    this.done = true
    if (this.deadline !== undefined) this.deadline.stop()
    if (this.foreign !== undefined) this.foreign.stop()
    this.host.ended(this)
    this.leaveStream()
  }

  // ── what the server says ──

  /** Looks at the headers of the answer, and ends the call if they are not those of gRPC. */
  protected judgeAnswer(answer: HeaderSection, isEndOfStream: boolean): Judgement {
    const judgement = judge(this.name, answer, isEndOfStream)
    if (judgement === "trailers") this.trailers = answer
    else if (judgement === "foreign") this.foreign = new ForeignAnswer(() => this.endForeign())
    else if (judgement !== "messages") this.end(judgement)
    return judgement
  }

  protected read(bytes: Uint8Array, start: number, end: number): void {
    this.reader ??= new MessageReader(this.host.maxReceiveMessageBytes)
    const failure = this.reader.push(bytes, start, end, this)
    if (failure !== undefined) this.end(framingError(this.name, failure, this.host.maxReceiveMessageBytes))
  }

  /** Told by the reader of messages. */
  onMessage(bytes: Uint8Array, start: number, end: number): void {
    if (!this.done) this.listener.onMessage(bytes, start, end)
  }

  onWritable(): void {
    if (!this.done) this.listener.onWritable()
  }

  /** The server has ended its half, in good order. */
  protected finish(): void {
    if (this.foreign !== undefined) this.endForeign()
    else if (this.trailers !== undefined) this.end(this.errorOf(this.trailers))
    else this.endWithoutStatus()
  }

  /** What the trailers say; `undefined` is OK. */
  protected errorOf(trailers: HeaderSection): TransportError | undefined {
    return errorOfTrailers(this.name, trailers.headers, this.reader)
  }

  protected endWithoutStatus(): void {
    this.end(missingStatus(this.name, this.reader))
  }

  protected endForeign(): void {
    const { headers = {}, status = 0 } = this.answer ?? {}
    this.end(foreignAnswer(this.name, status, headers, this.foreign?.text ?? ""))
  }
}
