/**
 * How a transport connects: it dials a socket, has HTTP/2 started on it, and waits until the server has sent its
 * settings. What HTTP/2 is made of is the transport's own.
 *
 * @internal
 */
import type { Socket } from "node:net"
import type { TLSSocket } from "node:tls"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { patience } from "../time.ts"
import { openSocket } from "./dial.ts"
import {
  badTlsMaterial,
  type DialFailure,
  hungUp,
  noAlpn,
  notHttp2,
  type Phase,
  passing,
  socketFailed,
  timedOut,
  unreachable
} from "./dialFailure.ts"
import type { Dialled, GrpcConnection } from "./GrpcConnection.ts"
import { streaming } from "./StreamingCall.ts"
import type { Connection, ConnectionOptions, Target, Transport, TransportError } from "./Transport.ts"
import { unary } from "./UnaryCall.ts"

/** Stream ids end at 2^31 - 1, and a connection that ran for a day can get there: it makes room for a new one before. */
const lastComfortableStreamId = 0x7fff0000

/** How much of what a server says first is kept for messages. */
const greetingBytes = 200

/** A dial that has its socket, as HTTP/2 is started on it. */
export interface Dial extends Dialled {
  /** The server has sent its settings: the dial ends with the connection that is made now, unless it has ended. */
  readonly ready: (makeConnection: () => GrpcConnection) => void
  readonly fail: (why: string) => void
  readonly failWith: (error: unknown) => void
  /** What the server says is not HTTP/2. */
  readonly failAsOther: (what: string) => void
  /** How the server begins, for the message should it not go on as it ought to. */
  readonly hear: (greeting: Uint8Array) => void
}

/** Starts HTTP/2 on a dial's socket. Returns what ends it again when the dial fails. */
type StartHttp2 = (dial: Dial) => () => void

/** For tests of what happens when a connection has used up its stream ids. */
export interface Options {
  readonly retireAfterStreamId?: number | undefined
}

/** Where a dial leaves its connection, so that a finalizer that is there before sees it. */
interface Made {
  connection: GrpcConnection | undefined
  peer: Connection["peer"]
}

const peerOf = (target: Target, { remoteAddress, remotePort }: Socket): Connection["peer"] =>
  target._tag === "Unix"
    ? { address: target.path }
    : remoteAddress === undefined
      ? undefined
      : { address: remoteAddress, port: remotePort }

/** Connects, and waits until TLS is verified and the server has sent its settings. */
const dial = (
  startHttp2: StartHttp2,
  target: Target,
  options: ConnectionOptions,
  retireAfterStreamId: number,
  made: Made
): Effect.Effect<void, TransportError> =>
  Effect.callback((resume) => {
    const opened = Result.try(() => openSocket(target, options.connectTimeoutMillis))
    if (Result.isFailure(opened)) {
      resume(Effect.fail(unreachable(target, badTlsMaterial(opened.failure), opened.failure)))
      return
    }
    const socket = opened.success
    let stopHttp2 = () => {}
    let phase: Phase = "connecting"
    let settled = false
    let greeting: Uint8Array | undefined

    const settle = (result: Effect.Effect<void, TransportError>) => {
      if (settled) return
      settled = true
      stopWaiting()
      resume(result)
    }
    const abandon = () => {
      stopHttp2()
      socket.destroy()
    }
    const fail = (failure: DialFailure, cause?: unknown) => {
      if (settled) return
      abandon()
      settle(Effect.fail(unreachable(target, failure, cause)))
    }
    const failWith = (error: unknown) => fail(socketFailed(target, phase, error, greeting), error)
    const ready = (makeConnection: () => GrpcConnection) => {
      if (settled) return
      made.connection = makeConnection()
      settle(Effect.void)
    }
    const stopWaiting = patience(options.connectTimeoutMillis, () =>
      fail(timedOut(phase, options.connectTimeoutMillis))
    )
    const start = () => {
      phase = "HTTP/2 settings"
      stopHttp2 = startHttp2({
        target,
        options,
        retireAfterStreamId,
        socket,
        ready,
        fail: (why) => fail(passing(why)),
        failWith,
        failAsOther: (what) => fail(notHttp2(target, greeting, what)),
        hear: (bytes) => {
          greeting = new Uint8Array(bytes.subarray(0, greetingBytes))
        }
      })
    }
    socket.on("error", failWith)
    socket.once("close", () => fail(hungUp(target, phase, greeting)))
    socket.once("connect", () => {
      made.peer = peerOf(target, socket)
      if (target.tls === undefined) start()
      else phase = "TLS handshake"
    })
    socket.once("secureConnect", () => {
      const protocol = (socket as TLSSocket).alpnProtocol
      if (protocol === "h2") start()
      else fail(noAlpn(protocol))
    })
    return Effect.sync(() => {
      settled = true
      stopWaiting()
      abandon()
    })
  })

/** Makes a transport of how it starts HTTP/2. */
export const transportOf =
  (name: string, startHttp2: StartHttp2) =>
  (options?: Options): Transport => ({
    name,
    connect: Effect.fnUntraced(function* (target, connectionOptions) {
      const made: Made = { connection: undefined, peer: undefined }
      yield* Effect.addFinalizer(() => Effect.suspend(() => made.connection?.shutdown ?? Effect.void))
      yield* dial(startHttp2, target, connectionOptions, options?.retireAfterStreamId ?? lastComfortableStreamId, made)
      const connection = made.connection!
      return {
        peer: made.peer,
        unary: unary(connection),
        ...streaming(connection),
        closed: Deferred.await(connection.closed),
        bytesHeard: () => connection.bytesHeard,
        probe: () => connection.keepAlive.ask()
      }
    })
  })
