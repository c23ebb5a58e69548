/**
 * Puts gRPC's length-prefixed messages together from the places where they lie. Frames of HTTP/2 and messages of gRPC do
 * not line up, so a message may arrive in any number of pieces, and one piece may hold any number of messages.
 *
 * A message that lies within a piece is handed on where it lies. Any other is put into memory of its own as its bytes
 * arrive, which grows with them and not because a prefix announces them.
 *
 * Source of facts: "gRPC over HTTP2" (grpc/grpc, doc/PROTOCOL-HTTP2.md), Length-Prefixed-Message.
 *
 * @internal
 */
import { messagePrefixBytes } from "./framing.ts"

/** Why the bytes are not messages that can be taken. */
export type FramingFailure =
  | { readonly _tag: "Compressed"; readonly flag: number }
  | { readonly _tag: "TooLarge"; readonly length: number }

const firstAllocation = 256 * 1024
const growth = 4

interface MessageSink {
  readonly onMessage: (bytes: Uint8Array, start: number, end: number) => void
}

export class MessageReader {
  private readonly maxMessageBytes: number
  private prefixFilled = 0
  private prefixFlag = 0
  private prefixLength = 0
  private length = -1
  private message: Uint8Array | undefined
  private received = 0

  constructor(maxMessageBytes: number) {
    this.maxMessageBytes = maxMessageBytes
  }

  /** Whether the bytes so far end where a message ends. */
  get isComplete(): boolean {
    return this.prefixFilled === 0 && this.length < 0
  }

  /** How much of the message under way is there, for an error text. */
  get progress(): string {
    return this.length < 0
      ? `${this.prefixFilled} of ${messagePrefixBytes} bytes of a message's prefix`
      : `${this.received} of ${this.length} bytes of a message`
  }

  /** Takes the next bytes. After a failure the reader is of no more use. */
  push(bytes: Uint8Array, start: number, end: number, sink: MessageSink): FramingFailure | undefined {
    let at = start
    while (true) {
      if (this.length < 0) {
        while (this.prefixFilled < messagePrefixBytes && at < end) this.takePrefixByte(bytes[at++]!)
        if (this.prefixFilled < messagePrefixBytes) return undefined
        if (this.prefixFlag !== 0) return { _tag: "Compressed", flag: this.prefixFlag }
        if (this.prefixLength > this.maxMessageBytes) return { _tag: "TooLarge", length: this.prefixLength }
        this.prefixFilled = 0
        this.length = this.prefixLength
      }
      const { length } = this
      const missing = length - this.received
      if (end - at < missing) {
        if (end > at) this.append(bytes, at, end)
        return undefined
      }
      const stop = at + missing
      const whole = this.received === 0 ? undefined : this.complete(bytes, at, stop)
      const start = at
      this.message = undefined
      this.received = 0
      this.length = -1
      at = stop
      if (whole === undefined) sink.onMessage(bytes, start, stop)
      else sink.onMessage(whole, 0, whole.length)
    }
  }

  private takePrefixByte(byte: number): void {
    if (this.prefixFilled === 0) {
      this.prefixFlag = byte
      this.prefixLength = 0
    } else {
      this.prefixLength = this.prefixLength * 256 + byte
    }
    this.prefixFilled++
  }

  private append(bytes: Uint8Array, start: number, end: number): void {
    const needed = this.received + (end - start)
    const { message } = this
    if (message === undefined || message.length < needed) {
      const size = Math.max(needed, firstAllocation, this.received * growth)
      const larger = allocate(Math.min(this.length, size))
      if (message !== undefined) larger.set(message.subarray(0, this.received))
      this.message = larger
    }
    this.message!.set(bytes.subarray(start, end), this.received)
    this.received = needed
  }

  private complete(bytes: Uint8Array, start: number, end: number): Uint8Array {
    this.append(bytes, start, end)
    return this.message!
  }
}

/** Memory that is not cleared first, because all of it is written to. */
const allocate = (length: number): Uint8Array => new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
