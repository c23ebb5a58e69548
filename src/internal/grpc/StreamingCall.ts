/**
 * A call whose messages are pulled: while more than {@link readAheadBytes} wait for the reader the call is paused, and
 * what the server still may send is bounded by the stream's window.
 *
 * @internal
 */
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Stream from "effect/Stream"
import type { CallListener, Outgoing } from "./CallListener.ts"
import { lost, unsent } from "./errors.ts"
import { detach } from "./framing.ts"
import type { GrpcCall } from "./GrpcCall.ts"
import type { GrpcConnection } from "./GrpcConnection.ts"
import { type CallOptions, type Connection, type RawDuplex, TransportError } from "./Transport.ts"
import { waitIn, wake } from "./waiting.ts"

type Messages = Arr.NonEmptyReadonlyArray<Uint8Array>

/** How many bytes of messages wait for a reader before its call is paused. */
const readAheadBytes = 256 * 1024

/** What a message counts for besides its bytes, so that small and empty ones are bounded as well. */
const messageOverhead = 128

const alreadyEnded = "the server has already ended the call"
const brokeOff = "the call broke off, behind messages that are still to be read"

class StreamingCall implements CallListener {
  private readonly call: GrpcCall
  private stream: Outgoing | undefined
  private arrived: Array<Uint8Array> = []
  private arrivedBytes = 0
  private isPaused = false
  private result: Exit.Exit<never, TransportError | Cause.Done> | undefined
  private readonly readers = new Set<() => void>()
  private readonly writers = new Set<() => void>()

  constructor(
    connection: GrpcConnection,
    path: string,
    options: CallOptions | undefined,
    request: Uint8Array | undefined
  ) {
    this.call = connection.begin(path, options, request, this)
  }

  onStart(stream: Outgoing): void {
    this.stream = stream
    wake(this.writers)
  }

  onMessage(bytes: Uint8Array, start: number, end: number): void {
    const message = detach(bytes, start, end)
    this.arrived.push(message)
    this.arrivedBytes += message.length + messageOverhead
    if (this.arrivedBytes > readAheadBytes && !this.isPaused) {
      this.isPaused = true
      this.call.pause()
    }
    wake(this.readers)
  }

  onWritable(): void {
    wake(this.writers)
  }

  onEnd(error: TransportError | undefined): void {
    this.result = error === undefined ? Exit.fail(Cause.Done()) : Exit.fail(error)
    wake(this.readers)
    wake(this.writers)
  }

  readonly pull: Pull.Pull<Messages, TransportError> = Effect.suspend(() => {
    if (this.arrived.length > 0) return Effect.succeed(this.take())
    if (this.result !== undefined) return this.result
    return Effect.flatMap(waitIn(this.readers), () => this.pull)
  })

  private take(): Messages {
    const messages = this.arrived
    this.arrived = []
    this.arrivedBytes = 0
    if (this.isPaused) {
      this.isPaused = false
      this.call.resume()
    }
    return messages as unknown as Messages
  }

  readonly send = (message: Uint8Array): Effect.Effect<void, TransportError> =>
    Effect.suspend(() => {
      if (this.result !== undefined) return Effect.fail(this.failureOfSend(this.result))
      const { stream } = this
      if (stream === undefined) return Effect.flatMap(waitIn(this.writers), () => this.send(message))
      if (stream.isClosed) return Effect.fail(this.lost)
      if (stream.isEnding) return Effect.fail(this.unsent("the sending side was already ended here"))
      if (stream.isBlocked) return Effect.flatMap(waitIn(this.writers), () => this.send(message))
      stream.write(message, false)
      return stream.isBlocked ? this.drained : Effect.void
    })

  private readonly drained: Effect.Effect<void, TransportError> = Effect.suspend(() => {
    if (this.result !== undefined) return Effect.fail(this.failureOfSend(this.result))
    if (this.stream?.isClosed === true) return Effect.fail(this.lost)
    if (this.stream?.isBlocked !== true) return Effect.void
    return Effect.flatMap(waitIn(this.writers), () => this.drained)
  })

  readonly end: Effect.Effect<void> = Effect.suspend(() => {
    if (this.result !== undefined) return Effect.void
    if (this.stream === undefined) return Effect.flatMap(waitIn(this.writers), () => this.end)
    this.stream.end()
    return Effect.void
  })

  readonly close: Effect.Effect<void> = Effect.sync(() => {
    this.call.cancel()
    if (this.result === undefined) this.onEnd(this.unsent("the call was closed"))
  })

  private failureOfSend(result: Exit.Exit<never, TransportError | Cause.Done>): TransportError {
    const reason = Exit.isFailure(result) ? result.cause.reasons.find(Cause.isFailReason)?.error : undefined
    return reason instanceof TransportError ? reason : this.unsent(alreadyEnded)
  }

  private unsent(why: string): TransportError {
    return unsent(`${this.call.name}: the message was not sent, because ${why}`)
  }

  private get lost(): TransportError {
    return lost(this.call.name, `the message was not sent, because ${brokeOff}`, "no")
  }
}

const messagesOf = (call: StreamingCall): Stream.Stream<Uint8Array, TransportError> =>
  Stream.fromPull(Effect.succeed(call.pull))

/** The streaming calls of a connection. */
export const streaming = (connection: GrpcConnection): Pick<Connection, "serverStream" | "bidirectional"> => {
  const open = (path: string, options: CallOptions | undefined, request: Uint8Array | undefined) =>
    Effect.acquireRelease(
      Effect.sync(() => new StreamingCall(connection, path, options, request)),
      ({ close }) => close
    )
  return {
    serverStream: (path, request, options) => Stream.unwrap(Effect.map(open(path, options, request), messagesOf)),
    bidirectional: (path, options) =>
      Effect.map(
        open(path, options, undefined),
        (call): RawDuplex => ({ send: call.send, end: call.end, messages: messagesOf(call) })
      )
  }
}
