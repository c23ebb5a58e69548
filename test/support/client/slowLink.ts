/**
 * A network of few bytes a second between a client and a server of this machine.
 */
import type * as net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { relay } from "../relay.ts"

const pieceBytes = 16 * 1024

/** Passes on what the server sends, no faster than so many bytes a second. Answers where to connect to. */
export const slowLink = (endpoint: string, bytesPerSecond: number): Effect.Effect<string, never, Scope.Scope> => {
  const { hostname, port } = new URL(endpoint)
  const answer = (server: net.Socket, client: net.Socket) => {
    const waiting: Array<Buffer> = []
    const deliver = () => {
      const piece = waiting.shift()
      if (piece === undefined) return void server.resume()
      client.write(piece.subarray(0, pieceBytes))
      if (piece.length > pieceBytes) waiting.unshift(piece.subarray(pieceBytes))
      setTimeout(deliver, (1000 * Math.min(piece.length, pieceBytes)) / bytesPerSecond)
    }
    server.on("data", (piece: Buffer) => {
      server.pause()
      waiting.push(piece)
      deliver()
    })
  }
  return Effect.map(
    relay({ port: 0, host: "127.0.0.1" }, { port: Number(port), host: hostname }, answer),
    (server) => `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`
  )
}
