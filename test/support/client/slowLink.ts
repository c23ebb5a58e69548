/**
 * A network of few bytes a second between a client and a server of this machine.
 */
import * as net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

const pieceBytes = 16 * 1024

/** Passes on what the server sends, no faster than so many bytes a second. Answers where to connect to. */
export const slowLink = (endpoint: string, bytesPerSecond: number): Effect.Effect<string, never, Scope.Scope> => {
  const { hostname, port } = new URL(endpoint)
  const sockets = new Set<net.Socket>()
  const join = (client: net.Socket) => {
    const server = net.connect(Number(port), hostname)
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.on("close", () => {
        sockets.delete(socket)
        client.destroy()
        server.destroy()
      })
    }
    client.pipe(server)
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
  return Effect.acquireRelease(
    Effect.callback<{ readonly server: net.Server; readonly endpoint: string }>((resume) => {
      const server = net.createServer(join).listen(0, "127.0.0.1", () => {
        const { port } = server.address() as net.AddressInfo
        resume(Effect.succeed({ server, endpoint: `http://127.0.0.1:${port}` }))
      })
    }),
    ({ server }) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  ).pipe(Effect.map(({ endpoint }) => endpoint))
}
