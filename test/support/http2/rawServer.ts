/**
 * A server of raw frames: it says to the client what a test tells it to say, whether the rules allow it or not.
 */
import * as net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Flag, type Frame, makeFrameReader, settings, settingsAck, Type } from "./frames.ts"

const prefaceLength = 24

export interface Peer {
  readonly socket: net.Socket
  /** Every frame that came from the client, oldest first. */
  readonly frames: Array<Frame>
  readonly send: (...bytes: ReadonlyArray<Uint8Array>) => void
}

export interface Script {
  /** What is said first; a SETTINGS frame unless given. */
  readonly greeting?: Uint8Array | undefined
  /** Whether SETTINGS and PING are acknowledged; yes unless given. */
  readonly polite?: boolean | undefined
  /** Told of each frame, after it was acknowledged where that is due. */
  readonly onFrame?: ((frame: Frame, peer: Peer) => void) | undefined
  /** Told of each request, as soon as its headers are there. */
  readonly onRequest?: ((stream: number, peer: Peer) => void) | undefined
  /** Told of each request, when the client has ended it. */
  readonly onRequestEnd?: ((stream: number, peer: Peer) => void) | undefined
}

export interface RawServer {
  readonly port: number
  /** Every connection there was, oldest first. */
  readonly peers: Array<Peer>
}

/** Listens on a free port of loopback until the scope closes. */
export const rawServer = (script: Script): Effect.Effect<RawServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<RawServer & { readonly server: net.Server }>((resume) => {
      const peers: Array<Peer> = []
      const server = net.createServer((socket) => {
        peers.push(serve(socket, script))
      })
      server.listen(0, "127.0.0.1", () => {
        resume(Effect.succeed({ server, peers, port: (server.address() as net.AddressInfo).port }))
      })
    }),
    ({ peers, server }) =>
      Effect.callback<void>((resume) => {
        for (const { socket } of peers) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )

const serve = (socket: net.Socket, script: Script): Peer => {
  const peer: Peer = {
    socket,
    frames: [],
    send: (...bytes) => {
      if (!socket.destroyed) socket.write(Buffer.concat(bytes))
    }
  }
  const read = makeFrameReader((frame) => {
    peer.frames.push(frame)
    if (script.polite !== false) acknowledge(frame, peer)
    script.onFrame?.(frame, peer)
    if (frame.type === Type.headers) script.onRequest?.(frame.stream, peer)
    if (isEnd(frame)) script.onRequestEnd?.(frame.stream, peer)
  })
  let skip = prefaceLength
  socket.on("data", (chunk) => {
    const rest = chunk.subarray(skip)
    skip = Math.max(0, skip - chunk.length)
    if (rest.length > 0) read(rest)
  })
  socket.on("error", () => {})
  socket.setNoDelay(true)
  peer.send(script.greeting ?? settings())
  return peer
}

const acknowledge = (frame: Frame, peer: Peer): void => {
  if (frame.type === Type.settings && (frame.flags & Flag.ack) === 0) peer.send(settingsAck)
  if (frame.type === Type.ping && (frame.flags & Flag.ack) === 0) {
    const header = Buffer.from([0, 0, 8, Type.ping, Flag.ack, 0, 0, 0, 0])
    peer.send(header, frame.payload)
  }
}

const isEnd = (frame: Frame): boolean =>
  (frame.type === Type.data || frame.type === Type.headers) && (frame.flags & Flag.endStream) !== 0
