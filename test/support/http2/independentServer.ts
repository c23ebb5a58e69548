/**
 * A server with a thread of its own, which goes on while the test that it answers stands still. To each call it says one
 * message of so many bytes as it was started with.
 */
import * as http2 from "node:http2"
import type { AddressInfo } from "node:net"
import { fileURLToPath } from "node:url"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { message } from "./frames.ts"
import { reply } from "./nodeServer.ts"

if (!isMainThread && workerData?.answerBytes !== undefined) {
  const body = message(new Uint8Array(workerData.answerBytes))
  const server = http2.createServer({ maxSessionMemory: 1000 }).on("stream", (stream) =>
    reply(
      stream.on("error", () => {}),
      body
    )
  )
  server.listen(0, "127.0.0.1", () => parentPort!.postMessage((server.address() as AddressInfo).port))
}

/** Returns the port of loopback on which it listens until the scope closes. */
export const independentServer = (answerBytes: number): Effect.Effect<number, never, Scope.Scope> =>
  Effect.gen(function* () {
    const worker = yield* Effect.acquireRelease(
      Effect.sync(() => new Worker(fileURLToPath(import.meta.url), { workerData: { answerBytes } })),
      (worker) => Effect.promise(() => worker.terminate())
    )
    return yield* Effect.callback<number>((resume) => {
      worker.once("message", (port: number) => resume(Effect.succeed(port)))
    })
  })
