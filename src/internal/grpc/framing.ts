/**
 * gRPC's length-prefixed messages: one byte that says whether the message is compressed, four bytes of length (big
 * endian), then the message. Frames of HTTP/2 and messages of gRPC do not line up, so a message may arrive in any
 * number of pieces, and one piece may hold any number of messages.
 *
 * Source of facts: "gRPC over HTTP2" (grpc/grpc, doc/PROTOCOL-HTTP2.md), Length-Prefixed-Message.
 *
 * @internal
 */
import * as Exit from "effect/Exit"
import type { Read } from "./Transport.ts"

const prefixLength = 5

/** The message behind its prefix, in one piece of memory, so that it goes out in one write. */
export const frame = (message: Uint8Array): Buffer => {
  const framed = Buffer.allocUnsafe(prefixLength + message.length)
  framed[0] = 0
  framed.writeUInt32BE(message.length, 1)
  framed.set(message, prefixLength)
  return framed
}

/**
 * A message that may be kept: as it lies there if it fills at least half of the memory that is kept with it, else as a
 * copy. A socket is read 64 KiB at a time, and a small value that somebody keeps must not keep all of that.
 */
export const detach = (bytes: Uint8Array, start: number, end: number): Uint8Array =>
  (end - start) * 2 >= bytes.buffer.byteLength
    ? new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start)
    : new Uint8Array(bytes.subarray(start, end))

/** Reads a message as its bytes. */
export const readBytes: Read<Uint8Array> = (bytes, start, end) => Exit.succeed(detach(bytes, start, end))

/** Why the bytes are not messages that can be taken. */
export type FramingFailure =
  | { readonly _tag: "Compressed"; readonly flag: number }
  | { readonly _tag: "TooLarge"; readonly length: number }

/**
 * Puts messages together from pieces.
 *
 * A message that lies within one piece is detached from it. Messages are plain `Uint8Array`s, never `Buffer`s, whose
 * `slice` means something else. Memory is taken as bytes arrive, never because a prefix announces them.
 */
export class MessageDecoder {
  private readonly maxMessageBytes: number
  private readonly prefix = new Uint8Array(prefixLength)
  private prefixFilled = 0
  private length = -1
  private pieces: Array<Uint8Array> = []
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
      ? `${this.prefixFilled} of ${prefixLength} bytes of a message's prefix`
      : `${this.received} of ${this.length} bytes of a message`
  }

  /** Takes the next piece. After a failure the decoder is of no more use. */
  push(piece: Uint8Array, emit: (message: Uint8Array) => void): FramingFailure | undefined {
    let offset = 0
    while (true) {
      if (this.length < 0) {
        offset = this.fillPrefix(piece, offset)
        if (this.prefixFilled < prefixLength) return undefined
        const failure = this.readPrefix()
        if (failure !== undefined) return failure
      }
      offset = this.fillMessage(piece, offset, emit)
      if (offset < 0) return undefined
    }
  }

  private fillPrefix(piece: Uint8Array, from: number): number {
    let offset = from
    while (this.prefixFilled < prefixLength && offset < piece.length) {
      this.prefix[this.prefixFilled++] = piece[offset++]!
    }
    return offset
  }

  private readPrefix(): FramingFailure | undefined {
    const prefix = this.prefix
    const flag = prefix[0]!
    if (flag !== 0) return { _tag: "Compressed", flag }
    const length = prefix[1]! * 0x1000000 + (prefix[2]! << 16) + (prefix[3]! << 8) + prefix[4]!
    if (length > this.maxMessageBytes) return { _tag: "TooLarge", length }
    this.prefixFilled = 0
    this.length = length
    return undefined
  }

  /** Where the message ends in the piece, or -1 when the piece ends first. */
  private fillMessage(piece: Uint8Array, offset: number, emit: (message: Uint8Array) => void): number {
    const missing = this.length - this.received
    const available = piece.length - offset
    if (available < missing) {
      if (available > 0) {
        this.pieces.push(offset === 0 ? piece : piece.subarray(offset))
        this.received += available
      }
      return -1
    }
    const end = offset + missing
    const message =
      this.received === 0 ? detach(piece, offset, end) : join(this.pieces, piece.subarray(offset, end), this.length)
    this.pieces = []
    this.received = 0
    this.length = -1
    emit(message)
    return end
  }
}

const join = (pieces: ReadonlyArray<Uint8Array>, last: Uint8Array, length: number): Uint8Array => {
  const joined = new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
  let offset = 0
  for (const piece of pieces) {
    joined.set(piece, offset)
    offset += piece.length
  }
  joined.set(last, offset)
  return joined
}
