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

interface Data {
  readonly manner: Manner
  /** How many calls have been answered: all that goes out at once has gone. */
  readonly answered: Int32Array
}

export interface IndependentServer {
  /** The port of loopback on which it listens. */
  readonly port: number
  /** Keeps the event loop of the test until so many calls have been answered since the server began. */
  readonly standStillUntilAnswered: (count: number) => Effect.Effect<void>
}

const serve = ({ answered, manner }: Data, listening: (port: number) => void): void => {
  const hasAnswered = () =>
    setTimeout(() => {
      Atomics.add(answered, 0, 1)
      Atomics.notify(answered, 0)
    }, 10)
  if (typeof manner === "number") {
    const body = message(new Uint8Array(manner))
    const server = http2.createServer({ maxSessionMemory: 1000 })
    server.on("stream", (stream) => {
      reply(
        stream.on("error", () => {}),
        body
      )
      hasAnswered()
    })
    server.listen(0, "127.0.0.1", () => listening((server.address() as AddressInfo).port))
    return
  }
  const leave = ({ socket }: Peer) =>
    manner === "end" ? socket.destroySoon() : socket.write("", () => socket.resetAndDestroy())
  const onRequestEnd = (stream: number, peer: Peer) => {
    peer.send(answer(stream, peer.frames.at(-1)!.payload.subarray(5)))
    leave(peer)
    hasAnswered()
  }
  const serving = Effect.flatMap(rawServer({ onRequestEnd }), ({ port }) => {
    listening(port)
    return Effect.never
  })
  Effect.runFork(Effect.scoped(serving))
}

if (!isMainThread && workerData?.manner !== undefined) {
  serve(workerData, (port) => parentPort!.postMessage(port))
}

/** It serves until the scope closes. */
export const independentServer = (manner: Manner): Effect.Effect<IndependentServer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const answered = new Int32Array(new SharedArrayBuffer(4))
    const data: Data = { manner, answered }
    const worker = yield* Effect.acquireRelease(
      Effect.sync(() => new Worker(fileURLToPath(import.meta.url), { workerData: data })),
      (worker) => Effect.promise(() => worker.terminate())
    )
    const port = yield* Effect.callback<number>((resume) => {
      worker.once("message", (port: number) => resume(Effect.succeed(port)))
    })
    return {
      port,
      standStillUntilAnswered: (count) =>
        Effect.sync(() => {
          for (let now = 0; now < count; now = Atomics.load(answered, 0)) Atomics.wait(answered, 0, now)
        })
    }
  })
