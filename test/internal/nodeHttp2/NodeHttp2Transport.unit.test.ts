import * as http2 from "node:http2"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { make, nodeHttp2Transport } from "../../../src/internal/nodeHttp2/NodeHttp2Transport.ts"
import * as Frames from "../../support/http2/frames.ts"
import { nodeServer, reply } from "../../support/http2/nodeServer.ts"
import { transportConformance } from "../grpc/conformance.ts"

transportConformance("node:http2", nodeHttp2Transport)

const options = {
  connectTimeoutMillis: 5000,
  keepAliveIntervalMillis: 0,
  keepAliveTimeoutMillis: 5000,
  maxReceiveMessageBytes: 1000
}

/** Does something to a session just before each of its requests. */
const beforeRequest = (before: (session: http2.ClientHttp2Session) => unknown) =>
  Effect.gen(function* () {
    const session = yield* Effect.acquireRelease(
      Effect.sync(() => http2.connect("http://127.0.0.1:1").on("error", () => {})),
      (session) => Effect.sync(() => session.destroy())
    )
    const prototype: http2.ClientHttp2Session = Object.getPrototypeOf(session)
    const { request } = prototype
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        prototype.request = function (this: http2.ClientHttp2Session, ...args) {
          before(this)
          return request.apply(this, args)
        }
      }),
      () =>
        Effect.sync(() => {
          prototype.request = request
        })
    )
  })

describe("NodeHttp2Transport", () => {
  it.live("a connection that has used up its stream ids makes room for a new one", () =>
    Effect.gen(function* () {
      const answer = Uint8Array.of(1)
      const { port } = yield* nodeServer((stream) => reply(stream, Frames.message(answer)))
      const connection = yield* make({ retireAfterStreamId: 5 }).connect(
        { _tag: "Tcp", host: "127.0.0.1", port },
        options
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

  const failing = (code: string) => () => {
    throw Object.assign(new Error("the session does not take it"), { code })
  }

  /** Node.js has this method, and its types do not. */
  const useUpStreamIds = (session: http2.ClientHttp2Session) =>
    (session as unknown as { setNextStreamID: (id: number) => void }).setNextStreamID(2 ** 31 - 1)

  it.live.each<readonly [string, (session: http2.ClientHttp2Session) => unknown]>([
    ["throws that the session drains, as in Node.js 22", failing("ERR_HTTP2_GOAWAY_SESSION")],
    ["throws that the session is gone, as in Node.js 22", failing("ERR_HTTP2_INVALID_SESSION")],
    ["throws what nobody expected", failing("ERR_INTERNAL_ASSERTION")],
    ["finds that the session drains", (session) => session.close()],
    ["finds that the session is gone", (session) => session.destroy()],
    ["finds that the session is gone, for a reason", (session) => session.destroy(new Error("a reason"))],
    ["finds that stream ids are used up", useUpStreamIds]
  ])("a request was not sent where node:http2 %s", ([, before]) =>
    Effect.gen(function* () {
      const answer = Uint8Array.of(1)
      const { port } = yield* nodeServer((stream) => reply(stream, Frames.message(answer)))
      const transport = make({ retireAfterStreamId: 2 ** 31 })
      const connection = yield* transport.connect({ _tag: "Tcp", host: "127.0.0.1", port }, options)
      const path = "/test.Service/Method"
      yield* connection.unary(path, answer)
      yield* beforeRequest(before)
      const failed = yield* Effect.flip(Effect.forever(connection.unary(path, answer)))
      assert.deepStrictEqual([failed.kind, failed.code, failed.processed], ["ConnectionLost", 14, "no"], failed.message)
      const reason = yield* connection.closed
      assert.deepStrictEqual([reason.kind, reason.processed], ["ConnectionLost", "no"])
    })
  )
})
