/**
 * One stream of a client (RFC 9113, 5.1), reduced to what gRPC needs: it opens with its request's headers, each side
 * ends its half once, and a reset ends both. A stream that exists here is open or half-closed; one that is closed is
 * known to nobody but its call.
 *
 * @internal
 */
import { streamWindowBytes } from "../grpc/flow.ts"
import { messagePrefixBytes } from "../grpc/framing.ts"
import { Reset } from "../grpc/status.ts"
import { Flag, FrameType, maxFrameBytes } from "./frames.ts"
import type { HeaderBlock } from "./HeaderReader.ts"
import type { Http2Connection } from "./Http2Connection.ts"
import { ReceiveWindow, SendWindow } from "./windows.ts"

/** Who hears of what the server says on a stream. After `onEnd` or `onReset` there is nothing more. */
export interface StreamHandler {
  /** The headers of the answer, or its trailers. */
  readonly onHeaders: (block: HeaderBlock, isEndOfStream: boolean) => void
  /** A piece of the answer's body, valid until the call returns. Returns whether its room is free again. */
  readonly onData: (bytes: Uint8Array, start: number, end: number) => boolean
  /** The server has ended its half. */
  readonly onEnd: () => void
  /** The server reset the stream, or broke a rule of HTTP/2 on it (`what`), and then it was reset from here. */
  readonly onReset: (code: number, what: string | undefined) => void
  /** All that was to be sent is with the socket. */
  readonly onWritable: () => void
}

const messagePrefix = (length: number): Uint8Array =>
  Uint8Array.of(0, length >>> 24, (length >>> 16) & 0xff, (length >>> 8) & 0xff, length & 0xff)

/** What most streams have queued, always; never put into. */
const nothingQueued: Array<Uint8Array> = []

export class Stream {
  readonly id: number
  readonly handler: StreamHandler
  readonly sendWindow: SendWindow
  /** The answer's headers have come; what follows is its body, and its trailers. */
  isAnswered = false
  isLocalEnded = false
  isRemoteEnded = false
  isClosed = false

  private readonly connection: Http2Connection
  private receiveWindow: ReceiveWindow | undefined
  private queue: Array<Uint8Array> = nothingQueued
  private isEndQueued = false

  constructor(connection: Http2Connection, id: number, sendWindow: number, handler: StreamHandler) {
    this.connection = connection
    this.id = id
    this.sendWindow = new SendWindow(sendWindow)
    this.handler = handler
  }

  /** Whether something waits for a window or for the socket. */
  get isBlocked(): boolean {
    return !this.isClosed && (this.queue.length > 0 || (this.isEndQueued && !this.isLocalEnded))
  }

  /** Whether only the end is left to be sent, which needs no room in a window. */
  get isEndAllThatWaits(): boolean {
    return this.queue.length === 0 && this.isEndQueued && !this.isLocalEnded
  }

  /** Whether this side's half has ended, or will when all that waits has gone. */
  get isEnding(): boolean {
    return this.isEndQueued || this.isLocalEnded || this.isClosed
  }

  /** Sends a gRPC message, now as far as windows and socket allow, and the rest as soon as they do. */
  write(message: Uint8Array, isLast: boolean): void {
    const { connection } = this
    const length = messagePrefixBytes + message.length
    if (this.queue.length === 0 && length <= maxFrameBytes && connection.takeWindows(this, length)) {
      connection.outbox.message(isLast ? Flag.endStream : 0, this.id, message)
      if (isLast) this.endLocal()
      return
    }
    if (this.queue === nothingQueued) this.queue = []
    this.queue.push(messagePrefix(message.length))
    if (message.length > 0) this.queue.push(message)
    if (isLast) this.isEndQueued = true
    connection.pump(this)
  }

  /** Ends this side's half after what is still to be sent. */
  end(): void {
    if (this.isEnding) return
    this.isEndQueued = true
    this.connection.pump(this)
  }

  /** Sends one DATA frame of what waits, of at most `allowed` bytes. */
  sendQueued(allowed: number): void {
    const pieces: Array<Uint8Array> = []
    let length = 0
    while (this.queue.length > 0 && length < allowed) {
      const piece = this.queue[0]!
      const room = allowed - length
      if (piece.length <= room) {
        pieces.push(piece)
        this.queue.shift()
      } else {
        pieces.push(piece.subarray(0, room))
        this.queue[0] = piece.subarray(room)
      }
      length += Math.min(piece.length, room)
    }
    const isLast = this.isEndQueued && this.queue.length === 0
    this.connection.spendWindows(this, length)
    this.connection.outbox.data(isLast ? Flag.endStream : 0, this.id, pieces, length)
    if (isLast) this.endLocal()
    else if (this.queue.length === 0) this.handler.onWritable()
  }

  private endLocal(): void {
    this.isLocalEnded = true
    if (this.isRemoteEnded) this.close()
  }

  /** Nobody wants the stream any more. */
  reset(code: number): void {
    this.resetFromHere(code, this.roomLeft)
  }

  private resetFromHere(code: number, dataOnItsWay: number): void {
    if (this.isClosed) return
    this.connection.outbox.words(FrameType.rstStream, 0, this.id, code)
    this.connection.excuse(this, dataOnItsWay)
    this.close()
  }

  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.queue = nothingQueued
    this.connection.forget(this)
  }

  /** DATA came: `frameLength` counts against the window, padding included. Returns whether the window allowed it. */
  receive(frameLength: number): boolean {
    if (frameLength === 0) return true
    this.receiveWindow ??= new ReceiveWindow(streamWindowBytes)
    return this.receiveWindow.receive(frameLength)
  }

  /** How much DATA the server may send yet. */
  private get roomLeft(): number {
    if (this.isRemoteEnded) return 0
    return this.receiveWindow === undefined ? streamWindowBytes : this.receiveWindow.available
  }

  /** Bytes that came take no more room here, so the server may send as many more. */
  free(length: number): void {
    if (length === 0 || this.isClosed || this.isRemoteEnded) return
    const increment = this.receiveWindow?.free(length) ?? 0
    if (increment > 0) this.connection.outbox.words(FrameType.windowUpdate, 0, this.id, increment)
  }

  endRemote(): void {
    if (this.isClosed) return
    this.isRemoteEnded = true
    if (this.isLocalEnded) this.close()
    this.handler.onEnd()
  }

  /**
   * The server broke a rule that concerns this stream alone (RFC 9113, 5.4.2). More of the same may be on its way, so a
   * window's worth of it is passed over.
   */
  fail(code: number, what: string): void {
    if (this.isClosed) return
    this.resetFromHere(code, streamWindowBytes)
    this.handler.onReset(code, what)
  }

  /**
   * DATA came before the answer's headers. That is malformed (RFC 9113, 8.1), and what a server in Go sends that ends a
   * call while it is answering it (`WriteStatus` and `Write` in grpc-go's `internal/transport/http2_server.go`; seen with
   * etcd 3.4): it breaks the call off, and does not answer wrongly.
   */
  breakOff(): void {
    if (this.isClosed) return
    this.resetFromHere(Reset.protocolError, streamWindowBytes)
    this.handler.onReset(Reset.protocolError, undefined)
  }

  resetByServer(code: number): void {
    if (this.isClosed) return
    this.close()
    this.handler.onReset(code, undefined)
  }

  onHeaders(block: HeaderBlock, isEndOfStream: boolean) {
    if (this.isRemoteEnded) return this.fail(Reset.streamClosed, "the server sent headers after the end of its answer")
    const wrong = block.malformed ?? this.misplaced(block, isEndOfStream)
    if (wrong !== undefined) return this.fail(Reset.protocolError, `the answer is malformed: ${wrong}`)
    if (block.status !== undefined && block.status < 200) return
    this.isAnswered = true
    this.handler.onHeaders(block, isEndOfStream)
    if (isEndOfStream) this.endRemote()
  }

  private misplaced(block: HeaderBlock, isEndOfStream: boolean): string | undefined {
    if (this.isAnswered) {
      if (block.status !== undefined) return "its trailers have a :status"
      return isEndOfStream ? undefined : "its trailers are not its end"
    }
    if (block.status === undefined) return "it has no :status"
    return block.status < 200 && isEndOfStream ? "it ends with an interim status" : undefined
  }
}
