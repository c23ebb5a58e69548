import { execFile } from "node:child_process"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { make, nodeHttp2Transport } from "../../../src/internal/grpc/NodeHttp2Transport.ts"
import * as Frames from "../../support/http2/frames.ts"
import { nodeServer, reply } from "../../support/http2/nodeServer.ts"
import { transportConformance } from "./conformance.ts"

transportConformance("node:http2", nodeHttp2Transport)

describe("NodeHttp2Transport", () => {
  it.live("a connection that has used up its stream ids makes room for a new one", () =>
    Effect.gen(function* () {
      const answer = Uint8Array.of(1)
      const { port } = yield* nodeServer((stream) => reply(stream, Frames.message(answer)))
      const connection = yield* make({ retireAfterStreamId: 5 }).connect(
        { _tag: "Tcp", host: "127.0.0.1", port },
        {
          connectTimeoutMillis: 5000,
          keepAliveIntervalMillis: 0,
          keepAliveTimeoutMillis: 5000,
          maxReceiveMessageBytes: 1000
        }
      )
      for (let call = 0; call < 3; call++) {
        assert.deepStrictEqual(yield* connection.unary("/test.Service/Method", answer), answer)
      }
      const reason = yield* connection.closed
      assert.deepStrictEqual([reason.kind, reason.processed], ["ConnectionLost", "no"])
      assert.match(reason.message, /stream ids/)
      const refused = yield* Effect.flip(connection.unary("/test.Service/Method", answer))
      assert.strictEqual(refused.processed, "no")
    })
  )

  it.live("an idle connection keeps no process alive", () =>
    Effect.gen(function* () {
      const { port } = yield* nodeServer((stream) => reply(stream, Frames.message(Uint8Array.of(1))))
      const script = fileURLToPath(new URL("../../support/http2/idleProcess.ts", import.meta.url))
      const output = yield* Effect.callback<string, Error>((resume) => {
        const child = execFile(process.execPath, [script, String(port)], (error, stdout) =>
          resume(error === null ? Effect.succeed(stdout) : Effect.fail(error))
        )
        return Effect.sync(() => child.kill("SIGKILL"))
      })
      assert.strictEqual(output, "answered")
    })
  )
})
