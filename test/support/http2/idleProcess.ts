/**
 * A process of its own that makes a connection of the transport that it is told, has calls on it that end in every way,
 * says so, and then only keeps the connection. The server takes two calls at a time, and answers those that ask with 1.
 */
import process from "node:process"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { http2Transport } from "../../../src/internal/http2/Http2Transport.ts"
import { nodeHttp2Transport } from "../../../src/internal/nodeHttp2/NodeHttp2Transport.ts"

const [name, port] = process.argv.slice(2)
const transport = [http2Transport, nodeHttp2Transport].find((transport) => transport.name === name)!
const method = "/test.Service/Method"
const request = Uint8Array.of(1)

const program = Effect.gen(function* () {
  const connection = yield* transport.connect(
    { _tag: "Tcp", host: "127.0.0.1", port: Number(port) },
    {
      connectTimeoutMillis: 10_000,
      keepAliveIntervalMillis: 60_000,
      keepAliveTimeoutMillis: 60_000,
      maxReceiveMessageBytes: 1000
    }
  )
  const good = connection.unary(method, request, { timeoutMillis: 600_000 })
  const silent = (options = {}) => connection.unary(method, Uint8Array.of(2), options)
  yield* good
  yield* Effect.flip(silent({ timeoutMillis: 5 }))
  const calls = yield* Effect.forEach([silent(), silent(), silent(), good], (call) =>
    Effect.forkChild(call, { startImmediately: true })
  )
  yield* Fiber.interruptAll(calls)
  yield* Effect.scoped(connection.bidirectional(method))
  yield* Stream.runDrain(Stream.take(connection.serverStream(method, request), 1))
  yield* good
  process.stdout.write("done")
})

Effect.runFork(Scope.provide(program, Scope.makeUnsafe()))
