/**
 * The gRPC transport over `node:http2`: the one that is short and obviously right, and the reference for any other.
 *
 * **Windows.** A stream may have 2 MiB under way, which carries 100 MB/s over a round trip of 20 ms, and is also the most
 * that a reader who does not read can hold up, together with the messages that wait in {@link readAheadBytes}. The
 * connection may have 16 MiB under way; `node:http2` gives that window back as soon as data is read from the socket, so
 * a slow stream never holds up the others. The frame size stays at 16 KiB, because grpc-go never sends larger ones.
 *
 * **Limits of `node:http2` that are lifted.** `maxSessionMemory` (10 MB by default) counts what is queued to be sent and
 * would reject large requests; memory is bounded here by flow control and by `maxReceiveMessageBytes`. Request headers may
 * have 1 MiB instead of 64 KiB, because a request that is over that limit costs the whole connection.
 *
 * **What `node:http2` cannot do.** A GOAWAY with an error code ends the calls that are outstanding, though the server
 * might still have answered them. And after some violations of the protocol it stops to read and tells nobody (Node.js 22
 * more often than 24); then it is the keep-alive that ends the calls.
 *
 * @internal
 */
import * as http2 from "node:http2"
import type { TLSSocket } from "node:tls"
import type * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import type { Call } from "./Call.ts"
import {
  describeAlpn,
  describeDialError,
  describeHangUp,
  describeTimeout,
  describeTlsMaterial,
  openSocket,
  type Phase,
  unreachable
} from "./dial.ts"
import { frame, readBytes } from "./framing.ts"
import { NodeConnection } from "./NodeConnection.ts"
import { Code } from "./status.ts"
import { streaming } from "./streaming.ts"
import {
  type CallOptions,
  type Connection,
  type ConnectionOptions,
  type Read,
  type Target,
  type Transport,
  TransportError
} from "./Transport.ts"
import { waitIn, wake } from "./waiting.ts"

const streamWindowBytes = 2 * 1024 * 1024
const connectionWindowBytes = 16 * 1024 * 1024

/** How many bytes of messages wait for a reader before its stream is paused. */
const readAheadBytes = 256 * 1024

/** Stream ids end at 2^31 - 1, and a connection that ran for a day can get there: it makes room for a new one before. */
const lastComfortableStreamId = 0x7fff0000

const sessionOptions = {
  settings: { enablePush: false, initialWindowSize: streamWindowBytes },
  maxSessionMemory: 1_000_000,
  peerMaxConcurrentStreams: 0x7fffffff,
  maxReservedRemoteStreams: 0,
  maxSendHeaderBlockLength: 1024 * 1024
}

/** Where a dial leaves its connection, so that a finalizer that is there before sees it. */
interface Dialled {
  connection: NodeConnection | undefined
}

/** Connects, and waits until TLS is verified and the server has sent its settings. */
const dial = (
  target: Target,
  options: ConnectionOptions,
  retireAfterStreamId: number,
  dialled: Dialled
): Effect.Effect<void, TransportError> =>
  Effect.callback((resume) => {
    const opened = Result.try(() => openSocket(target, options.connectTimeoutMillis))
    if (Result.isFailure(opened)) {
      resume(Effect.fail(unreachable(target, describeTlsMaterial(opened.failure), opened.failure)))
      return
    }
    const socket = opened.success
    let session: http2.ClientHttp2Session | undefined
    let phase: Phase = "connecting"
    let settled = false

    const settle = (result: Effect.Effect<void, TransportError>) => {
      if (settled) return
      settled = true
      clearTimeout(timer)
      resume(result)
    }
    const abandon = () => {
      session?.destroy()
      socket.destroy()
    }
    const fail = (why: string, cause?: unknown) => {
      if (settled) return
      abandon()
      settle(Effect.fail(unreachable(target, why, cause)))
    }
    const onError = (error: unknown) => fail(describeDialError(target, phase, error), error)
    const timer = setTimeout(
      () => fail(describeTimeout(phase, options.connectTimeoutMillis)),
      Math.min(options.connectTimeoutMillis, 0x7fffffff)
    )
    const startHttp2 = () => {
      phase = "HTTP/2 settings"
      session = http2.connect("http://localhost", { ...sessionOptions, createConnection: () => socket })
      session.on("error", onError)
      session.once("connect", () => session?.setLocalWindowSize(connectionWindowBytes))
      session.once("goaway", (code) => fail(`the server closed the connection at once (GOAWAY, error code ${code})`))
      session.once("remoteSettings", () => {
        if (settled) return
        dialled.connection = new NodeConnection(target, session!, socket, options, retireAfterStreamId)
        settle(Effect.void)
      })
    }
    socket.on("error", onError)
    socket.once("close", () => fail(describeHangUp(target, phase)))
    socket.once("connect", () => {
      if (target.tls === undefined) startHttp2()
      else phase = "TLS handshake"
    })
    socket.once("secureConnect", () => {
      const protocol = (socket as TLSSocket).alpnProtocol
      if (protocol === "h2") startHttp2()
      else fail(describeAlpn(protocol))
    })
    return Effect.sync(() => {
      settled = true
      clearTimeout(timer)
      abandon()
    })
  })

const unary =
  (connection: NodeConnection): Connection["unary"] =>
  <A>(path: string, request: Uint8Array, options?: CallOptions | undefined, read: Read<A> = readBytes as Read<any>) =>
    Effect.callback<A, TransportError>((resume) => {
      let answer: Exit.Exit<A, TransportError> | undefined
      const call = connection.begin(path, options, {
        onStart: (stream) => {
          stream.end(frame(request))
        },
        onMessage: (message) => {
          if (answer === undefined) answer = read(message, 0, message.length)
          else call.end(wrongCount(connection, path, Code.unimplemented, "sent more than one message"))
        },
        onEnd: (error) => {
          if (error !== undefined) resume(Exit.fail(error))
          else if (answer !== undefined) resume(answer)
          else resume(Exit.fail(wrongCount(connection, path, Code.internal, "answered OK with no message")))
        }
      })
      return Effect.sync(() => call.cancel())
    })

const wrongCount = (connection: NodeConnection, path: string, code: number, what: string): TransportError =>
  new TransportError({
    kind: "Protocol",
    code,
    message: `${path} to ${connection.peer}: the server ${what}, and one was due`,
    processed: "unknown"
  })

type Messages = Arr.NonEmptyReadonlyArray<Uint8Array>

/** A call whose messages are pulled: its stream is paused while more than `readAheadBytes` wait for the reader. */
class StreamingCall {
  readonly call: Call
  private readonly connection: NodeConnection
  private readonly path: string
  private readonly request: Uint8Array | undefined
  private stream: http2.ClientHttp2Stream | undefined
  private arrived: Array<Uint8Array> = []
  private arrivedBytes = 0
  private result: Exit.Exit<never, TransportError | Cause.Done> | undefined
  private readonly readers = new Set<() => void>()
  private readonly writers = new Set<() => void>()

  /** With a request, it is the only one: it is sent and the sending side ended as soon as the call is on the wire. */
  constructor(
    connection: NodeConnection,
    path: string,
    options: CallOptions | undefined,
    request: Uint8Array | undefined
  ) {
    this.connection = connection
    this.path = path
    this.request = request
    this.call = connection.begin(path, options, this)
  }

  onStart(stream: http2.ClientHttp2Stream): void {
    this.stream = stream
    if (this.request !== undefined) stream.end(frame(this.request))
    stream.on("drain", () => wake(this.writers))
    wake(this.writers)
  }

  onMessage(message: Uint8Array): void {
    this.arrived.push(message)
    this.arrivedBytes += message.length
    if (this.arrivedBytes > readAheadBytes) this.stream?.pause()
    wake(this.readers)
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
    if (this.result === undefined && this.stream?.isPaused() === true) this.stream.resume()
    return messages as unknown as Messages
  }

  readonly send = (message: Uint8Array): Effect.Effect<void, TransportError> =>
    Effect.suspend(() => {
      if (this.result !== undefined) return Effect.fail(this.failureOfSend(this.result))
      const stream = this.stream
      if (stream === undefined || stream.writableNeedDrain) {
        return Effect.flatMap(waitIn(this.writers), () => this.send(message))
      }
      if (stream.writableEnded) return Effect.fail(this.unsent("the sending side was already ended here"))
      return stream.write(frame(message)) ? Effect.void : this.drained
    })

  private readonly drained: Effect.Effect<void, TransportError> = Effect.suspend(() => {
    if (this.result !== undefined) return Effect.fail(this.failureOfSend(this.result))
    if (this.stream?.writableNeedDrain !== true) return Effect.void
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
    return reason instanceof TransportError ? reason : this.unsent("the server has already ended the call")
  }

  private unsent(why: string): TransportError {
    return new TransportError({
      kind: "Protocol",
      code: Code.internal,
      message: `${this.path} to ${this.connection.peer}: the message was not sent, because ${why}`,
      processed: "no"
    })
  }
}

/** For tests of what happens when a connection has used up its stream ids. */
export interface Options {
  readonly retireAfterStreamId?: number | undefined
}

export const make = (options?: Options): Transport => ({
  name: "node:http2",
  connect: Effect.fnUntraced(function* (target, connectionOptions) {
    const dialled: Dialled = { connection: undefined }
    yield* Effect.addFinalizer(() => Effect.suspend(() => dialled.connection?.shutdown ?? Effect.void))
    yield* dial(target, connectionOptions, options?.retireAfterStreamId ?? lastComfortableStreamId, dialled)
    const connection = dialled.connection!
    return {
      unary: unary(connection),
      ...streaming((path, options, request) => new StreamingCall(connection, path, options, request)),
      closed: Deferred.await(connection.closed)
    }
  })
})

export const nodeHttp2Transport: Transport = make()
