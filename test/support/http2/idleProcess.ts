/**
 * A process of its own that makes a connection, calls once, says so, and then only keeps the connection.
 */
import process from "node:process"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { nodeHttp2Transport } from "../../../src/internal/grpc/NodeHttp2Transport.ts"

const program = Effect.gen(function* () {
  const connection = yield* nodeHttp2Transport.connect(
    { _tag: "Tcp", host: "127.0.0.1", port: Number(process.argv[2]) },
    {
      connectTimeoutMillis: 10_000,
      keepAliveIntervalMillis: 60_000,
      keepAliveTimeoutMillis: 60_000,
      maxReceiveMessageBytes: 1000
    }
  )
  yield* connection.unary("/test.Service/Method", Uint8Array.of(1), { timeoutMillis: 600_000 })
  process.stdout.write("answered")
})

Effect.runFork(Scope.provide(program, Scope.makeUnsafe()))
