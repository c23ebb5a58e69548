/**
 * A server outside of etcd that lets nobody write with a lower token than it has seen.
 */
import { createServer, type Socket } from "node:net"
import * as Effect from "effect/Effect"
import { eachLine } from "../../support/programs.ts"
import type { FileWrite } from "./protocol.ts"

export interface Files {
  /** What was accepted, in its order. */
  readonly accepted: Array<FileWrite>
  readonly refused: Array<FileWrite>
  /** The highest token that it has seen for a lock. */
  readonly highest: (lock: string) => number
}

export const files = (path: string) =>
  Effect.gen(function* () {
    const seen = new Map<string, number>()
    const all: Files = { accepted: [], refused: [], highest: (lock) => seen.get(lock) ?? 0 }
    const answer = (write: FileWrite): "yes" | "no" => {
      if (write.token < all.highest(write.lock)) {
        all.refused.push(write)
        return "no"
      }
      seen.set(write.lock, write.token)
      all.accepted.push(write)
      return "yes"
    }
    const sockets = new Set<Socket>()
    yield* Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const server = createServer((socket) => {
          sockets.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => sockets.delete(socket))
          eachLine(socket, (line) => void socket.write(`${answer(JSON.parse(line) as FileWrite)}\n`))
        }).listen(path, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    return all
  })
