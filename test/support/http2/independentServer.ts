/**
 * A server with a thread of its own, which goes on while the test that it answers stands still.
 */
import * as http2 from "node:http2"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { answer, message } from "./frames.ts"
import { reply } from "./nodeServer.ts"
import { type Peer, rawServer } from "./rawServer.ts"

/**
 * What it says to each call: one message of so many bytes; or the call's own message, and then it closes the connection,
 * or resets it.
 */
type Manner = number | "end" | "reset"

const serve = (manner: Manner, listening: (port: number) => void): void => {
  if (typeof manner === "number") {
    const body = message(new Uint8Array(manner))
    const server = http2.createServer({ maxSessionMemory: 1000 })
    server.on("stream", (stream) =>
      reply(
        stream.on("error", () => {}),
        body
      )
    )
    server.listen(0, "127.0.0.1", () => listening((server.address() as AddressInfo).port))
    return
  }
  const leave = ({ socket }: Peer) =>
    manner === "end" ? socket.destroySoon() : socket.write("", () => socket.resetAndDestroy())
  const onRequestEnd = (stream: number, peer: Peer) => {
    peer.send(answer(stream, peer.frames.at(-1)!.payload.subarray(5)))
    leave(peer)
  }
  const serving = Effect.flatMap(rawServer({ onRequestEnd }), ({ port }) => {
    listening(port)
    return Effect.never
  })
  Effect.runFork(Effect.scoped(serving))
}

if (!isMainThread && workerData?.manner !== undefined) {
  serve(workerData.manner, (port) => parentPort!.postMessage(port))
}

/** Returns the port of loopback on which it listens until the scope closes. */
export const independentServer = (manner: Manner): Effect.Effect<number, never, Scope.Scope> =>
  Effect.gen(function* () {
    const worker = yield* Effect.acquireRelease(
      Effect.sync(() => new Worker(fileURLToPath(import.meta.url), { workerData: { manner } })),
      (worker) => Effect.promise(() => worker.terminate())
    )
    return yield* Effect.callback<number>((resume) => {
      worker.once("message", (port: number) => resume(Effect.succeed(port)))
    })
  })
