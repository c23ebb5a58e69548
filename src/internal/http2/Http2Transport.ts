/**
 * The gRPC transport over this library's own HTTP/2: made for many small calls at a time, which cost a fraction of what
 * they cost over `node:http2`.
 *
 * **Where things are.** `Session` is the connection of HTTP/2 and `Stream` one of its streams, over `frames`, `settings`,
 * `windows`, and HPACK (`HpackEncoder`, `HpackDecoder`); `Outbox` puts what is sent in one turn of the event loop into one
 * write. `Channel` is the connection as gRPC sees it and `Call` a call, over `MessageReader`; `UnaryCall` and
 * `StreamingCall` are calls as Effect sees them.
 *
 * **Windows.** A stream may have 2 MiB under way, which carries 100 MB/s over a round trip of 20 ms, and is also the most
 * that a reader who does not read can hold up, together with the messages that wait for it. The connection may have
 * 16 MiB under way. The frame size stays at 16 KiB, because grpc-go never sends larger ones.
 *
 * @internal
 */
import type { TLSSocket } from "node:tls"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import {
  describeAlpn,
  describeDialError,
  describeHangUp,
  describeTimeout,
  describeTlsMaterial,
  openSocket,
  type Phase,
  unreachable
} from "../grpc/dial.ts"
import { resetName } from "../grpc/status.ts"
import { streaming } from "../grpc/streaming.ts"
import type { ConnectionOptions, Target, Transport, TransportError } from "../grpc/Transport.ts"
import { Channel } from "./Channel.ts"
import { Session } from "./Session.ts"
import { StreamingCall } from "./StreamingCall.ts"
import { unary } from "./UnaryCall.ts"

/** Stream ids end at 2^31 - 1, and a connection that ran for a day can get there: it makes room for a new one before. */
const lastComfortableStreamId = 0x7fff0000

/** Where a dial leaves its connection, so that a finalizer that is there before sees it. */
interface Dialled {
  channel: Channel | undefined
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
    let session: Session | undefined
    let phase: Phase = "connecting"
    let settled = false

    const settle = (result: Effect.Effect<void, TransportError>) => {
      if (settled) return
      settled = true
      clearTimeout(timer)
      resume(result)
    }
    const abandon = () => {
      session?.close()
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
      session = new Session(socket, {
        onSettings: () => {
          if (settled || session === undefined) return
          dialled.channel = new Channel(target, session, socket, options, retireAfterStreamId)
          settle(Effect.void)
        },
        onGoaway: (_, code) => fail(`the server closed the connection at once (GOAWAY ${resetName(code)})`),
        onBroken: (what) =>
          fail(`the server does not speak HTTP/2 (it sent ${what}); check that this is etcd's client address`),
        onRoom: () => {}
      })
      session.start()
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

/** For tests of what happens when a connection has used up its stream ids. */
export interface Options {
  readonly retireAfterStreamId?: number | undefined
}

export const make = (options?: Options): Transport => ({
  name: "http2",
  connect: Effect.fnUntraced(function* (target, connectionOptions) {
    const dialled: Dialled = { channel: undefined }
    yield* Effect.addFinalizer(() => Effect.suspend(() => dialled.channel?.shutdown ?? Effect.void))
    yield* dial(target, connectionOptions, options?.retireAfterStreamId ?? lastComfortableStreamId, dialled)
    const channel = dialled.channel!
    return {
      unary: unary(channel),
      ...streaming((path, options, request) => new StreamingCall(channel, path, options, request)),
      closed: Deferred.await(channel.closed)
    }
  })
})

export const http2Transport: Transport = make()
