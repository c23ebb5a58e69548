/**
 * Finds the frames of HTTP/2 (RFC 9113, 4) in what comes from a socket.
 *
 * Chunks of a socket and frames do not line up. A frame that lies within a chunk is handed on as a place in that chunk.
 * DATA that goes over the end of a chunk is handed on in pieces; any other frame is put together first, and none is
 * larger than `maxFrameBytes`.
 *
 * @internal
 */
import { Reset } from "../grpc/status.ts"
import { Flag, FrameType, frameHeaderBytes, maxFrameBytes, uint31At } from "./frames.ts"

/** Who is told of frames. Places in `bytes` are valid until the call returns. */
export interface FrameHandler {
  /** A whole frame other than DATA without padding. */
  readonly onFrame: (
    type: number,
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number
  ) => void
  /** DATA without padding, or a piece of it; `frameLength` is the frame's with the first piece and 0 with the others. */
  readonly onData: (
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
    frameLength: number,
    isEndOfStream: boolean
  ) => void
  readonly onBroken: (code: number, what: string) => void
}

export class FrameReader {
  private readonly handler: FrameHandler
  private stopped = false
  /** The beginning of a frame that goes over the end of a chunk. */
  private held: Uint8Array | undefined
  private heldLength = 0
  /** What is due of a DATA frame whose beginning was handed on. */
  private dataLeft = 0
  private dataStream = 0
  private dataEnds = false

  constructor(handler: FrameHandler) {
    this.handler = handler
  }

  /** Nothing more is handed on, not even from the chunk that is being read. */
  stop(): void {
    this.stopped = true
  }

  /** Reads the next chunk of the socket. */
  push(bytes: Uint8Array) {
    const length = bytes.length
    let at = this.dataLeft > 0 ? this.moreData(bytes) : this.heldLength > 0 ? this.moreHeld(bytes) : 0
    while (!this.stopped && length - at >= frameHeaderBytes) {
      const size = sizeAt(bytes, at)
      if (size > maxFrameBytes) return this.tooLarge(size)
      const type = bytes[at + 3]!
      const flags = bytes[at + 4]!
      const streamId = uint31At(bytes, at + 5)
      const start = at + frameHeaderBytes
      const end = start + size
      if (type === FrameType.data && (flags & Flag.padded) === 0) {
        const isEndOfStream = (flags & Flag.endStream) !== 0
        if (end > length) {
          this.dataLeft = end - length
          this.dataStream = streamId
          this.dataEnds = isEndOfStream
          return this.handler.onData(streamId, bytes, start, length, size, false)
        }
        this.handler.onData(streamId, bytes, start, end, size, isEndOfStream)
      } else {
        if (end > length) break
        this.handler.onFrame(type, flags, streamId, bytes, start, end)
      }
      at = end
    }
    if (!this.stopped && at < length) this.hold(bytes, at, length)
  }

  private moreData(bytes: Uint8Array): number {
    const taken = Math.min(this.dataLeft, bytes.length)
    this.dataLeft -= taken
    this.handler.onData(this.dataStream, bytes, 0, taken, 0, this.dataLeft === 0 && this.dataEnds)
    return taken
  }

  /** Completes the frame that is held, as far as the chunk goes, and returns where the next one begins. */
  private moreHeld(bytes: Uint8Array): number {
    const held = this.held!
    let at = 0
    if (this.heldLength < frameHeaderBytes) {
      at = Math.min(frameHeaderBytes - this.heldLength, bytes.length)
      this.hold(bytes, 0, at)
      if (this.heldLength < frameHeaderBytes) return at
      const isPlainData = held[3] === FrameType.data && (held[4]! & Flag.padded) === 0
      if (isPlainData) return this.beginHeldData(held, bytes, at)
    }
    const size = sizeAt(held, 0)
    if (size > maxFrameBytes) {
      this.tooLarge(size)
      return bytes.length
    }
    const end = frameHeaderBytes + size
    const taken = Math.min(end - this.heldLength, bytes.length - at)
    this.hold(bytes, at, at + taken)
    if (this.heldLength === end) {
      this.heldLength = 0
      this.handler.onFrame(held[3]!, held[4]!, uint31At(held, 5), held, frameHeaderBytes, end)
    }
    return at + taken
  }

  private beginHeldData(held: Uint8Array, bytes: Uint8Array, at: number): number {
    const size = sizeAt(held, 0)
    this.heldLength = 0
    if (size > maxFrameBytes) {
      this.tooLarge(size)
      return bytes.length
    }
    const taken = Math.min(size, bytes.length - at)
    this.dataLeft = size - taken
    this.dataStream = uint31At(held, 5)
    this.dataEnds = (held[4]! & Flag.endStream) !== 0
    this.handler.onData(this.dataStream, bytes, at, at + taken, size, this.dataLeft === 0 && this.dataEnds)
    return at + taken
  }

  private hold(bytes: Uint8Array, start: number, end: number): void {
    this.held ??= new Uint8Array(frameHeaderBytes + maxFrameBytes)
    this.held.set(bytes.subarray(start, end), this.heldLength)
    this.heldLength += end - start
  }

  private tooLarge(size: number): void {
    this.handler.onBroken(Reset.frameSizeError, `a frame of ${size} bytes, and ${maxFrameBytes} are allowed`)
  }
}

const sizeAt = (bytes: Uint8Array, at: number): number => (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!
