/**
 * A server of this machine that passes on what clients say to another one.
 */
import * as net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** `answer` passes on what the other server says over a connection. A connection that closes takes its other half along. */
export const relay = (
  from: net.ListenOptions,
  to: net.NetConnectOpts,
  answer: (server: net.Socket, client: net.Socket) => void
): Effect.Effect<net.Server, never, Scope.Scope> => {
  const sockets = new Set<net.Socket>()
  const join = (client: net.Socket) => {
    const server = net.connect(to)
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
    answer(server, client)
  }
  return Effect.acquireRelease(
    Effect.callback<net.Server>((resume) => {
      const server = net.createServer(join).listen(from, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.callback<void>((resume) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resume(Effect.void))
      })
  )
}
