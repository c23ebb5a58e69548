/**
 * One HTTP/2 connection, seen from the client (RFC 9113): what comes from the socket is checked and told to its streams,
 * and what streams send goes out within the server's windows.
 *
 * **Windows.** The connection's receive window is given back as soon as DATA is there, a stream's only when its call has
 * taken the bytes. So what is kept for calls that nobody reads is bounded stream by stream, and none holds up another.
 * Streams that wait for a window of the server, or for the socket, take turns, a frame each, and leave room for calls
 * that begin: so a large request holds up no other.
 *
 * **Broken rules.** What concerns one stream resets that stream; anything else ends the connection with GOAWAY
 * (RFC 9113, 5.4). Frames of streams that are closed here are passed over, since the server may not know yet; frames of
 * streams that were never opened are an error (5.1.1). Frames of unknown types, and PRIORITY, are passed over (5.5, 5.3.2).
 *
 * **Limits** on what costs the server little and us something (RFC 9113, 10.5): the size of a header block and the number
 * of its CONTINUATION frames; how many frames come that carry nothing for a call (PING, SETTINGS, empty DATA and so on);
 * and how many answers to them may wait for a server that does not read. What flow control bounds is counted in bytes
 * and not in frames, however small they are: DATA of streams that were reset from here, by what their windows had left;
 * and WINDOW_UPDATE, by what was sent.
 *
 * @internal
 */
import type * as net from "node:net"
import { connectionWindowBytes, streamWindowBytes } from "../grpc/flow.ts"
import { largestHeaderList } from "../grpc/metadata.ts"
import { Reset } from "../grpc/status.ts"
import { type FrameHandler, FrameReader } from "./FrameReader.ts"
import { Flag, FrameType, maxFrameBytes, preface, uint31At, uint32At } from "./frames.ts"
import { HeaderReader, maxHeaderListBytes } from "./HeaderReader.ts"
import { HpackEncoder } from "./HpackEncoder.ts"
import { Outbox } from "./Outbox.ts"
import { Stream, type StreamHandler } from "./Stream.ts"
import { StreamTable } from "./StreamTable.ts"
import { type BrokenRule, readSettings, SettingId } from "./settings.ts"
import { initialWindow, largestWindow, ReceiveWindow, SendWindow } from "./windows.ts"

/** Who hears of the connection as a whole. */
export interface Http2ConnectionListener {
  /** The server's settings are there, for the first time or changed. */
  readonly onSettings: () => void
  readonly onGoaway: (lastStreamId: number, code: number, debug: Uint8Array) => void
  /** There is room for another stream, perhaps. */
  readonly onRoom: () => void
  /** The server broke a rule that concerns the whole connection; GOAWAY is on its way. */
  readonly onBroken: (what: string) => void
}

/** A block's bytes on the wire, and the frames that it may be cut into. */
const maxHeaderBlockBytes = maxHeaderListBytes
const maxContinuations = 64

/** How many frames without use for a call are taken in a row, unless they take at least this long. */
const idleFrames = 10_000
const idleFramesMillis = 10_000

/**
 * How many frames a server may have on its way for a stream that is reset, besides those that flow control bounds:
 * headers, trailers, a reset, empty DATA.
 */
const excusedFrames = 8

const noDebug = new Uint8Array(0)

interface OpenBlock {
  readonly streamId: number
  readonly isEndOfStream: boolean
  readonly pieces: Array<Uint8Array>
  length: number
}

export class Http2Connection implements FrameHandler {
  listener: Http2ConnectionListener
  readonly outbox: Outbox
  readonly encoder = new HpackEncoder()
  maxConcurrentStreams = Number.POSITIVE_INFINITY
  /** The largest list of headers that the server takes, as far as it says, and nothing absurd. */
  maxSendHeaderListBytes = largestHeaderList
  /** How many bytes came; for whoever wants to know whether the server lives. */
  bytesHeard = 0

  private readonly socket: net.Socket
  private readonly reader = new FrameReader(this)
  private readonly headers = new HeaderReader()
  private readonly streams = new StreamTable()
  private readonly blocked = new Set<Stream>()
  /** Whether all that are blocked wait for a window, and not for the socket. */
  private isSettled = true
  private readonly sendWindow = new SendWindow(initialWindow)
  private readonly receiveWindow = new ReceiveWindow(connectionWindowBytes)
  private readonly settingsAcks: Array<() => void> = []
  private initialSendWindow = initialWindow
  /** The connection's send window when nothing is under way. */
  private fullSendWindow = initialWindow
  private nextStreamId = 1
  private hasServerSettings = false
  private openBlock: OpenBlock | undefined
  private useless = 0
  /** When the first of them came in the row under way, and in the one before. */
  private rowBegan = performance.now()
  private rowBefore = this.rowBegan
  /** How much DATA, and how much room for DATA, may still come for streams that were reset from here. */
  private lateBytes = 0
  private lateRoom = 0
  private isClosed = false

  constructor(socket: net.Socket, listener: Http2ConnectionListener) {
    this.socket = socket
    this.listener = listener
    this.outbox = new Outbox(socket)
  }

  /** Says hello; from now on the socket is read. */
  start(): void {
    const settings = [
      [SettingId.enablePush, 0],
      [SettingId.initialWindowSize, streamWindowBytes],
      [SettingId.maxHeaderListSize, maxHeaderListBytes]
    ] as const
    const payload = Buffer.alloc(settings.length * 6)
    settings.forEach(([id, value], index) => {
      payload.writeUInt16BE(id, index * 6)
      payload.writeUInt32BE(value, index * 6 + 2)
    })
    this.outbox.bytes(Buffer.from(preface, "latin1"))
    this.outbox.frame(FrameType.settings, 0, 0, payload)
    this.outbox.words(FrameType.windowUpdate, 0, 0, connectionWindowBytes - initialWindow)
    this.settingsAcks.push(() => {})
    this.socket.on("data", (chunk: Buffer) => {
      this.bytesHeard += chunk.length
      this.reader.push(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length))
    })
    this.socket.on("drain", () => {
      this.pumpAll()
      if (!this.isClosed) this.listener.onRoom()
    })
  }

  /** Nothing more is read or written. */
  close(): void {
    this.isClosed = true
    this.reader.stop()
    this.outbox.close()
    this.blocked.clear()
    for (const stream of this.streams.values()) stream.isClosed = true
    this.streams.clear()
  }

  get openStreams(): number {
    return this.streams.size
  }

  /** Those that are open, oldest first. */
  get allStreams(): ReadonlyArray<Stream> {
    return this.streams.values()
  }

  /** Whether another stream can be opened now. */
  get hasRoom(): boolean {
    return this.streams.size < this.maxConcurrentStreams && !this.outbox.isCongested
  }

  /** Opens a stream with these headers (in one part or two). */
  open(block: Uint8Array, more: Uint8Array | undefined, handler: StreamHandler): Stream {
    const stream = new Stream(this, this.nextStreamId, this.initialSendWindow, handler)
    this.nextStreamId += 2
    this.streams.add(stream)
    this.outbox.headers(stream.id, block, more)
    return stream
  }

  /** Sends SETTINGS that change nothing, which the server must acknowledge (RFC 9113, 6.5.3). */
  probe(acknowledged: () => void): void {
    this.settingsAcks.push(acknowledged)
    this.outbox.words(FrameType.settings, 0, 0)
  }

  /** Says that no more is coming (RFC 9113, 6.8). */
  goaway(code: number): void {
    this.outbox.words(FrameType.goaway, 0, 0, 0, code)
    this.outbox.flush()
  }

  forget(stream: Stream): void {
    this.blocked.delete(stream)
    if (this.streams.delete(stream.id) && !this.isClosed) this.listener.onRoom()
  }

  // ── sending ──

  /** Takes so many bytes of both windows, if they have as many and the socket takes them. */
  takeWindows(stream: Stream, length: number): boolean {
    if (length > this.sendWindow.size || length > stream.sendWindow.size || this.outbox.isCongested) return false
    this.spendWindows(stream, length)
    return true
  }

  spendWindows(stream: Stream, length: number): void {
    this.sendWindow.size -= length
    stream.sendWindow.size -= length
    this.wasUseful()
  }

  /** Sends what waits in a stream, as far as it may go, and that of the others before it. */
  pump(stream: Stream): void {
    this.blocked.add(stream)
    this.goOn(stream)
  }

  /**
   * A stream may be able to go on. None of the others is, unless the socket was full when they were looked at last: to
   * look at all of them each time takes a second for 20,000 calls.
   */
  private goOn(stream: Stream) {
    if (!this.isSettled) return this.pumpAll()
    while (!this.outbox.isFullForQueued) if (!this.sendFrame(stream)) return
    this.isSettled = false
  }

  /**
   * A frame for the stream that has waited longest since its last, again and again, until none can go on: also where
   * room comes a frame at a time, none is passed over.
   */
  private pumpAll(): void {
    this.isSettled = false
    for (const stream of this.blocked) {
      if (this.outbox.isFullForQueued) return
      this.sendFrame(stream)
    }
    this.isSettled = true
  }

  /** Sends a frame of what waits in a stream, which then waits behind the others. Returns whether there is more. */
  private sendFrame(stream: Stream): boolean {
    const allowed = Math.min(this.sendWindow.size, stream.sendWindow.size, maxFrameBytes)
    if (allowed <= 0 && stream.isBlocked && !stream.isEndAllThatWaits) return false
    this.blocked.delete(stream)
    if (!stream.isBlocked) return false
    stream.sendQueued(Math.max(0, allowed))
    if (!stream.isBlocked) return false
    this.blocked.add(stream)
    return true
  }

  // ── receiving ──

  onData(streamId: number, bytes: Uint8Array, start: number, end: number, frameLength: number, isEndOfStream: boolean) {
    if (!this.isExpected(FrameType.data, streamId)) return
    if (frameLength > 0 && !this.receiveOnConnection(frameLength)) return
    const stream = this.streams.get(streamId)
    if (stream === undefined) return this.onLateData(streamId, frameLength, end > start)
    if (end > start) this.wasUseful()
    else if (!isEndOfStream) this.countUseless()
    if (!stream.isAnswered) return stream.breakOff()
    if (stream.isRemoteEnded) return stream.fail(Reset.streamClosed, "the server sent DATA after the end of its answer")
    if (!stream.receive(frameLength)) return stream.fail(Reset.flowControlError, "the server sent more than its window")
    if (end > start && stream.handler.onData(bytes, start, end)) stream.free(end - start)
    if (isEndOfStream) stream.endRemote()
  }

  onFrame(type: number, flags: number, streamId: number, bytes: Uint8Array, start: number, end: number) {
    if (!this.isExpected(type, streamId)) return
    switch (type) {
      case FrameType.data:
        return this.onPaddedData(flags, streamId, bytes, start, end)
      case FrameType.headers:
        return this.onHeaders(flags, streamId, bytes, start, end)
      case FrameType.continuation:
        return this.onContinuation(flags, bytes, start, end)
      case FrameType.rstStream:
        return this.onRstStream(streamId, bytes, start, end)
      case FrameType.settings:
        return this.onSettings(flags, streamId, bytes, start, end)
      case FrameType.ping:
        return this.onPing(flags, streamId, bytes, start, end)
      case FrameType.goaway:
        return this.onGoaway(streamId, bytes, start, end)
      case FrameType.windowUpdate:
        return this.onWindowUpdate(streamId, bytes, start, end)
      case FrameType.pushPromise:
        return this.break(Reset.protocolError, "PUSH_PROMISE, which was switched off")
      case FrameType.priority:
        return this.onPriority(streamId, end - start)
      default:
        return this.countUseless()
    }
  }

  onBroken(code: number, what: string): void {
    this.break(code, what)
  }

  /** Whether a frame of this type may come now: settings first, and nothing between the parts of a header block. */
  private isExpected(type: number, streamId: number): boolean {
    if (this.openBlock !== undefined) {
      if (type === FrameType.continuation && streamId === this.openBlock.streamId) return true
      this.break(Reset.protocolError, "a header block that is interrupted by another frame")
      return false
    }
    if (!this.hasServerSettings && type !== FrameType.settings) {
      this.break(Reset.protocolError, "its first frame is not SETTINGS")
      return false
    }
    if (type === FrameType.continuation) {
      this.break(Reset.protocolError, "CONTINUATION without a header block")
      return false
    }
    return true
  }

  /** DATA of a stream that is closed here. A frame that comes in pieces has its length with the first of them. */
  private onLateData(streamId: number, frameLength: number, isPiece: boolean) {
    if (!this.isKnown(streamId) || (frameLength === 0 && !isPiece)) return this.onClosedStream(streamId, "DATA")
    this.lateBytes -= frameLength
    if (this.lateBytes >= 0) return
    this.break(Reset.flowControlError, "more DATA of closed streams than their windows had left")
  }

  private receiveOnConnection(frameLength: number): boolean {
    if (!this.receiveWindow.receive(frameLength)) {
      this.break(Reset.flowControlError, "more DATA than the connection's window")
      return false
    }
    const increment = this.receiveWindow.free(frameLength)
    if (increment > 0) this.outbox.words(FrameType.windowUpdate, 0, 0, increment)
    return true
  }

  private onPaddedData(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number) {
    const padding = start < end ? bytes[start]! : 0
    if (start === end) return this.break(Reset.frameSizeError, "padded DATA without the length of its padding")
    if (start + 1 + padding > end) return this.break(Reset.protocolError, "DATA with more padding than it has room for")
    const length = end - start
    this.onData(streamId, bytes, start + 1, end - padding, length, (flags & Flag.endStream) !== 0)
    this.streams.get(streamId)?.free(1 + padding)
  }

  private onHeaders(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number) {
    let from = start
    let padding = 0
    if ((flags & Flag.padded) !== 0) {
      if (from >= end) return this.break(Reset.frameSizeError, "padded HEADERS without the length of its padding")
      padding = bytes[from++]!
    }
    if ((flags & Flag.priority) !== 0) from += 5
    if (from + padding > end) return this.break(Reset.protocolError, "HEADERS with more padding than it has room for")
    const isEndOfStream = (flags & Flag.endStream) !== 0
    if ((flags & Flag.endHeaders) !== 0) {
      this.onHeaderBlock(streamId, bytes, from, end - padding, isEndOfStream)
    } else if (this.isOpenable(streamId)) {
      const piece = bytes.slice(from, end - padding)
      this.openBlock = { streamId, isEndOfStream, pieces: [piece], length: piece.length }
    }
  }

  private onContinuation(flags: number, bytes: Uint8Array, start: number, end: number) {
    const block = this.openBlock!
    block.pieces.push(bytes.slice(start, end))
    block.length += end - start
    if (block.length > maxHeaderBlockBytes || block.pieces.length > maxContinuations) {
      return this.break(Reset.enhanceYourCalm, "a header block that is too long")
    }
    if ((flags & Flag.endHeaders) === 0) return
    this.openBlock = undefined
    const whole = Buffer.concat(block.pieces)
    this.onHeaderBlock(block.streamId, new Uint8Array(whole), 0, whole.length, block.isEndOfStream)
  }

  /** Every block is decoded, whoever it is for, since the tables of the two sides have to agree. */
  private onHeaderBlock(streamId: number, bytes: Uint8Array, start: number, end: number, isEnd: boolean) {
    const stream = this.streams.get(streamId)
    if (stream === undefined && !this.isOpenable(streamId)) return
    const block = this.headers.read(bytes, start, end)
    if (typeof block === "string") return this.break(Reset.compressionError, `headers that cannot be read: ${block}`)
    if (stream === undefined) return this.countUseless()
    if (block.status !== undefined && block.status < 200) this.countUseless()
    else this.wasUseful()
    if (!this.isClosed) stream.onHeaders(block, isEnd)
  }

  /** Whether a stream of this id was ever opened; that it was not is an error of the connection. */
  private isOpenable(streamId: number): boolean {
    if (this.isKnown(streamId)) return true
    this.break(Reset.protocolError, `HEADERS on stream ${streamId}, which was never opened`)
    return false
  }

  private isKnown(streamId: number): boolean {
    return (streamId & 1) === 1 && streamId < this.nextStreamId
  }

  private onClosedStream(streamId: number, frame: string): void {
    if (this.isKnown(streamId)) this.countUseless()
    else this.break(Reset.protocolError, `${frame} on stream ${streamId}, which was never opened`)
  }

  private onRstStream(streamId: number, bytes: Uint8Array, start: number, end: number) {
    if (end - start !== 4) return this.break(Reset.frameSizeError, `RST_STREAM of ${end - start} bytes`)
    const stream = this.streams.get(streamId)
    if (stream === undefined) this.onClosedStream(streamId, "RST_STREAM")
    else stream.resetByServer(uint32At(bytes, start))
  }

  private onSettings(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number) {
    if (streamId !== 0) return this.break(Reset.protocolError, "SETTINGS on a stream")
    if ((flags & Flag.ack) !== 0) return this.onSettingsAck(end - start)
    this.countUseless()
    const broken = readSettings(bytes, start, end, this.applySetting) ?? this.badWindow
    if (broken !== undefined) return this.break(broken.code, broken.what)
    this.hasServerSettings = true
    this.answer(() => this.outbox.words(FrameType.settings, Flag.ack, 0))
    this.pumpAll()
    if (!this.isClosed) this.listener.onSettings()
  }

  private onSettingsAck(length: number) {
    if (!this.hasServerSettings) return this.break(Reset.protocolError, "its first frame is not SETTINGS")
    if (length !== 0) return this.break(Reset.frameSizeError, `an acknowledgement of SETTINGS of ${length} bytes`)
    const acknowledged = this.settingsAcks.shift()
    if (acknowledged === undefined) return this.break(Reset.protocolError, "an unasked acknowledgement of SETTINGS")
    acknowledged()
  }

  private badWindow: BrokenRule | undefined

  private readonly applySetting = (id: number, value: number): void => {
    switch (id) {
      case SettingId.headerTableSize:
        this.encoder.limitTable(value)
        return
      case SettingId.maxConcurrentStreams:
        this.maxConcurrentStreams = value
        return
      case SettingId.initialWindowSize:
        this.changeInitialWindow(value)
        return
      case SettingId.maxHeaderListSize:
        this.maxSendHeaderListBytes = Math.min(value, largestHeaderList)
        return
    }
  }

  /** Changes the window of every stream by the difference (RFC 9113, 6.9.2). */
  private changeInitialWindow(size: number): void {
    const difference = size - this.initialSendWindow
    this.initialSendWindow = size
    for (const stream of this.streams.values()) {
      if (!stream.sendWindow.grow(difference)) {
        this.badWindow = { code: Reset.flowControlError, what: `a window of more than ${largestWindow} bytes` }
      }
    }
  }

  private onPing(flags: number, streamId: number, bytes: Uint8Array, start: number, end: number) {
    if (streamId !== 0) return this.break(Reset.protocolError, "PING on a stream")
    if (end - start !== 8) return this.break(Reset.frameSizeError, `PING of ${end - start} bytes`)
    this.countUseless()
    if ((flags & Flag.ack) !== 0) return
    const first = uint32At(bytes, start)
    const second = uint32At(bytes, start + 4)
    this.answer(() => this.outbox.words(FrameType.ping, Flag.ack, 0, first, second))
  }

  private onGoaway(streamId: number, bytes: Uint8Array, start: number, end: number) {
    if (streamId !== 0) return this.break(Reset.protocolError, "GOAWAY on a stream")
    if (end - start < 8) return this.break(Reset.frameSizeError, `GOAWAY of ${end - start} bytes`)
    this.countUseless()
    const debug = end - start > 8 ? bytes.slice(start + 8, end) : noDebug
    if (!this.isClosed) this.listener.onGoaway(uint31At(bytes, start), uint32At(bytes, start + 4), debug)
  }

  private onWindowUpdate(streamId: number, bytes: Uint8Array, start: number, end: number) {
    if (end - start !== 4) return this.break(Reset.frameSizeError, `WINDOW_UPDATE of ${end - start} bytes`)
    const increment = uint31At(bytes, start)
    const stream = this.streams.get(streamId)
    if (streamId !== 0 && stream === undefined) return this.onLateWindowUpdate(streamId, increment)
    const window = stream?.sendWindow ?? this.sendWindow
    if (window.size >= (stream === undefined ? this.fullSendWindow : this.initialSendWindow)) this.countUseless()
    const isGrown = increment > 0 && window.grow(increment)
    if (!isGrown) {
      const code = increment === 0 ? Reset.protocolError : Reset.flowControlError
      const what = increment === 0 ? "a WINDOW_UPDATE of nothing" : `a window of more than ${largestWindow} bytes`
      return stream === undefined ? this.break(code, what) : stream.fail(code, `the server sent ${what}`)
    }
    if (stream === undefined && window.size > this.fullSendWindow) this.fullSendWindow = window.size
    if (stream === undefined) this.pumpAll()
    else if (this.blocked.has(stream)) this.goOn(stream)
  }

  private onLateWindowUpdate(streamId: number, increment: number): void {
    const isDue = this.isKnown(streamId) && increment > 0 && increment <= this.lateRoom
    if (isDue) this.lateRoom -= increment
    else this.onClosedStream(streamId, "WINDOW_UPDATE")
  }

  private onPriority(streamId: number, length: number) {
    if (streamId === 0) return this.break(Reset.protocolError, "PRIORITY on the connection")
    const stream = this.streams.get(streamId)
    if (length !== 5) stream?.fail(Reset.frameSizeError, `the server sent PRIORITY of ${length} bytes`)
    this.countUseless()
  }

  // ── limits ──

  private answer(write: () => void): void {
    if (this.isClosed) return
    if (this.outbox.isOverrun) this.break(Reset.enhanceYourCalm, "it asks, and does not read the answers")
    else write()
  }

  private countUseless(): void {
    if (this.isClosed) return
    if (this.useless++ === 0) {
      this.rowBefore = this.rowBegan
      this.rowBegan = performance.now()
    }
    if (this.useless <= idleFrames) return
    // What came while this process stood still is read in a moment, so the time counts from the row before.
    if (performance.now() - this.rowBefore < idleFramesMillis) {
      this.break(Reset.enhanceYourCalm, `${idleFrames} frames in a row that are for no call`)
    } else {
      this.rowBefore = performance.now()
      this.useless = 1
    }
  }

  private wasUseful(): void {
    if (this.useless > 0) this.useless = 0
  }

  /** A stream is reset from here: what the server sends before it knows is not held against it, up to so much DATA. */
  excuse(stream: Stream, dataBytes: number): void {
    this.useless -= excusedFrames
    this.lateBytes += dataBytes
    this.lateRoom += Math.max(0, this.initialSendWindow - stream.sendWindow.size)
  }

  private break(code: number, what: string): void {
    if (this.isClosed) return
    this.outbox.discard()
    this.goaway(code)
    this.reader.stop()
    this.listener.onBroken(what)
  }
}
