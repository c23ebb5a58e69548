/**
 * Frames on their way to the socket. Those of one turn of the event loop go out in one write, or in a few where there is
 * much to send.
 *
 * They are laid side by side in a piece of memory, which is handed to the socket as far as it is filled and then filled
 * on; it is never written to twice. Payloads above {@link longestCopy} are not copied there but take their own place
 * among what is written.
 *
 * @internal
 */
import type * as net from "node:net"
import { messagePrefixBytes } from "../grpc/framing.ts"
import { Flag, FrameType, frameHeaderBytes, maxFrameBytes } from "./frames.ts"

const slabBytes = 32 * 1024
const longestCopy = 4096

/** With so many messages, or a slab full, the server can begin to work while more is being made. */
const enoughMessages = 16

/** How much may wait for the socket before no more is put there. */
const enoughBytes = 256 * 1024

/** The same for DATA of what is too large to go at once: the rest is for calls that begin beside it. */
const enoughQueued = enoughBytes / 2

/** How much may wait for the socket because the server asks and does not read the answers. */
const tooMuchBytes = 4 * 1024 * 1024

export class Outbox {
  /** The highest stream id that was handed to the socket. */
  sentStreamId = 0
  private readonly socket: net.Socket
  private slab = Buffer.allocUnsafeSlow(slabBytes)
  private from = 0
  private at = 0
  private pieces: Array<Uint8Array> = []
  private unsent = 0
  private messages = 0
  private lastStreamId = 0
  private isScheduled = false
  private isClosed = false

  constructor(socket: net.Socket) {
    this.socket = socket
  }

  /** Whether the socket takes no messages and new calls now; its `drain` says so when it does. */
  get isCongested(): boolean {
    return this.socket.writableNeedDrain || this.unsent >= enoughBytes
  }

  /** The same for what waits in streams. */
  get isFullForQueued(): boolean {
    return this.socket.writableNeedDrain || this.unsent >= enoughQueued
  }

  get isOverrun(): boolean {
    return this.socket.writableLength + this.unsent > tooMuchBytes
  }

  /** Nothing more goes out, not even what is there. */
  close(): void {
    this.isClosed = true
    this.pieces = []
  }

  /** Takes back what was not handed to the socket yet, which begins where a frame begins. */
  discard(): void {
    this.pieces = []
    this.from = this.at
    this.unsent = 0
    this.lastStreamId = this.sentStreamId
  }

  bytes(bytes: Uint8Array): void {
    this.reserve(bytes.length)
    this.slab.set(bytes, this.at)
    this.advance(bytes.length)
  }

  /** A frame whose payload is numbers of 32 bits. */
  words(type: number, flags: number, streamId: number, ...words: ReadonlyArray<number>): void {
    const length = words.length * 4
    this.reserve(frameHeaderBytes + length)
    let at = this.header(length, type, flags, streamId)
    for (const word of words) at = this.slab.writeUInt32BE(word, at)
    this.advance(frameHeaderBytes + length)
  }

  frame(type: number, flags: number, streamId: number, payload: Uint8Array): void {
    const length = payload.length
    if (length > longestCopy) {
      this.reserve(frameHeaderBytes)
      this.header(length, type, flags, streamId)
      this.advance(frameHeaderBytes)
      this.refer(payload)
    } else {
      this.reserve(frameHeaderBytes + length)
      this.slab.set(payload, this.header(length, type, flags, streamId))
      this.advance(frameHeaderBytes + length)
    }
  }

  /** HEADERS, and CONTINUATION as far as needed (RFC 9113, 6.2 and 6.10); the block's end comes in a second part. */
  headers(streamId: number, block: Uint8Array, more: Uint8Array | undefined): void {
    const length = more === undefined ? block.length : block.length + more.length
    this.lastStreamId = streamId
    if (length > maxFrameBytes) {
      this.longHeaders(streamId, more === undefined ? block : Buffer.concat([block, more]))
      return
    }
    this.reserve(frameHeaderBytes + length)
    const at = this.header(length, FrameType.headers, Flag.endHeaders, streamId)
    const { slab } = this
    if (block.length < 48) for (let index = 0; index < block.length; index++) slab[at + index] = block[index]!
    else slab.set(block, at)
    if (more !== undefined) slab.set(more, at + block.length)
    this.advance(frameHeaderBytes + length)
  }

  private longHeaders(streamId: number, block: Uint8Array): void {
    for (let start = 0; start < block.length; start += maxFrameBytes) {
      const end = Math.min(start + maxFrameBytes, block.length)
      const flags = end === block.length ? Flag.endHeaders : 0
      const piece = new Uint8Array(block.subarray(start, end))
      this.frame(start === 0 ? FrameType.headers : FrameType.continuation, flags, streamId, piece)
    }
  }

  /** A whole gRPC message in one DATA frame. */
  message(flags: number, streamId: number, message: Uint8Array): void {
    const length = messagePrefixBytes + message.length
    const copied = frameHeaderBytes + messagePrefixBytes
    this.reserve(copied + (message.length > longestCopy ? 0 : message.length))
    const at = this.header(length, FrameType.data, flags, streamId)
    this.slab[at] = 0
    this.slab.writeUInt32BE(message.length, at + 1)
    if (message.length > longestCopy) {
      this.advance(copied)
      this.refer(message)
    } else {
      this.slab.set(message, at + messagePrefixBytes)
      this.advance(copied + message.length)
    }
    if (++this.messages >= enoughMessages || this.unsent >= slabBytes) this.send()
  }

  /** The header of a frame whose payload is put after it by the caller. Returns where the payload goes. */
  private header(length: number, type: number, flags: number, streamId: number): number {
    const { at, slab } = this
    slab[at] = length >>> 16
    slab[at + 1] = length >>> 8
    slab[at + 2] = length
    slab[at + 3] = type
    slab[at + 4] = flags
    slab[at + 5] = streamId >>> 24
    slab[at + 6] = streamId >>> 16
    slab[at + 7] = streamId >>> 8
    slab[at + 8] = streamId
    return at + frameHeaderBytes
  }

  /** DATA made of pieces. */
  data(flags: number, streamId: number, pieces: ReadonlyArray<Uint8Array>, length: number): void {
    this.reserve(frameHeaderBytes)
    this.header(length, FrameType.data, flags, streamId)
    this.advance(frameHeaderBytes)
    for (const piece of pieces) {
      if (piece.length > longestCopy) this.refer(piece)
      else this.bytes(piece)
    }
  }

  private reserve(length: number): void {
    if (this.slab.length - this.at >= length) return
    this.cut()
    this.slab = Buffer.allocUnsafeSlow(Math.max(slabBytes, length))
    this.from = 0
    this.at = 0
  }

  private advance(length: number): void {
    this.at += length
    this.unsent += length
    if (!this.isScheduled) this.schedule()
  }

  private refer(payload: Uint8Array): void {
    this.cut()
    this.pieces.push(payload)
    this.unsent += payload.length
  }

  /** What is in the slab becomes a piece of its own. */
  private cut(): void {
    if (this.at === this.from) return
    this.pieces.push(this.slab.subarray(this.from, this.at))
    this.from = this.at
  }

  private schedule(): void {
    this.isScheduled = true
    queueMicrotask(this.flush)
  }

  readonly flush = (): void => {
    this.isScheduled = false
    this.send()
  }

  private send(): void {
    if (this.isClosed || this.unsent === 0) return
    this.unsent = 0
    this.messages = 0
    this.sentStreamId = this.lastStreamId
    const { pieces, socket } = this
    if (pieces.length === 0) {
      const { from } = this
      this.from = this.at
      socket.write(this.slab.subarray(from, this.at))
      return
    }
    this.cut()
    this.pieces = []
    socket.cork()
    for (const piece of pieces) socket.write(piece)
    socket.uncork()
  }
}
