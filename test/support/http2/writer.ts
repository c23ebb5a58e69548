/** Puts a message to etcd so many times, as standard input says, and prints how often that was answered. */
import { readFileSync } from "node:fs"
import process from "node:process"
import * as Effect from "effect/Effect"
import { http2Transport } from "../../../src/internal/http2/Http2Transport.ts"

const { message, target, times } = JSON.parse(readFileSync(0, "utf8"))

const options = {
  connectTimeoutMillis: 10_000,
  keepAliveIntervalMillis: 0,
  keepAliveTimeoutMillis: 10_000,
  maxReceiveMessageBytes: 100_000
}

const writes = Effect.gen(function* () {
  const connection = yield* http2Transport.connect(target, options)
  const put = connection.unary("/etcdserverpb.KV/Put", Uint8Array.from(message))
  const answers = yield* Effect.forEach(Array.from({ length: times }), () => put)
  process.stdout.write(String(answers.length))
})

Effect.runFork(Effect.scoped(writes))
