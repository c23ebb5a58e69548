import { fromBinary } from "@bufbuild/protobuf"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { KV, PutRequestSchema, RangeRequestSchema } from "../src/internal/proto/rpc_pb.ts"
import * as Fake from "./support/client/fakeTransport.ts"

describe("the first calls of a process", () => {
  it.live("send what their arrays held when they began, though they must wait for what encodes them", () =>
    Effect.gen(function* () {
      // What is loaded for the first call is there for those that follow.
      vi.resetModules()
      const { makeWith } = yield* Effect.promise(() => import("../src/internal/client/client.ts"))
      const { isReady } = yield* Effect.promise(() => import("../src/internal/client/codec.ts"))
      const fake = Fake.make({ "a:1": { answer: () => Effect.succeed(new Uint8Array(0)) } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      assert.isFalse(isReady())
      const key = Uint8Array.of(1)
      const put = client.unary(KV.method.put, { key, value: key })
      const range = Stream.runDrain(client.serverStream(KV.method.rangeStream, { key }))
      const calls: ReadonlyArray<Effect.Effect<unknown, unknown>> = [put, range]
      const begun = yield* Effect.forEach(calls, (call) => Effect.forkChild(call, { startImmediately: true }))
      key[0] = 2
      yield* Effect.forEach(begun, Fiber.await)
      const sent = new Map(fake.sent.map(({ path, request }) => [path, request]))
      const written = fromBinary(PutRequestSchema, sent.get("/etcdserverpb.KV/Put")!)
      assert.deepStrictEqual([written.key[0], written.value[0]], [1, 1])
      const read = fromBinary(RangeRequestSchema, sent.get("/etcdserverpb.KV/RangeStream")!)
      assert.strictEqual(read.key[0], 1)
    })
  )
})
