/**
 * A way to a server that breaks off in the middle of what the server says.
 */
import * as net from "node:net"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import type { Node } from "../../../src/EtcdProcess.ts"
import { temporaryDirectory } from "../machine.ts"

/** Each connection is cut when so much of what the node says has gone through; `cuts` counts those. */
export const cutting = (node: Node, bytesOf: (connection: number) => number) =>
  Effect.gen(function* () {
    const file = join(yield* temporaryDirectory, "cut.sock")
    const counts = { connections: 0, cuts: 0 }
    const sockets = new Set<net.Socket>()
    const joined = (client: net.Socket) => {
      const server = net.connect(node.endpoints[0].replace("unix://", ""))
      let left = bytesOf(counts.connections++)
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
      server.on("data", (bytes: Buffer) => {
        left -= bytes.length
        if (left > 0) return void client.write(bytes)
        counts.cuts++
        server.pause()
        client.end(bytes.subarray(0, bytes.length + left))
      })
    }
    yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const server = net.createServer(joined).listen(file, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    return { endpoint: `unix://${file}`, counts }
  })
