import { EventEmitter } from "node:events"
import type * as http2 from "node:http2"
import { assert, describe, it } from "@effect/vitest"
import { lost } from "../../../src/internal/grpc/errors.ts"
import type { TransportError } from "../../../src/internal/grpc/Transport.ts"
import { NodeCall, type NodeCallHost } from "../../../src/internal/nodeHttp2/NodeCall.ts"
import { message } from "../../support/http2/frames.ts"

const host: NodeCallHost = {
  peer: "http://127.0.0.1:1",
  maxReceiveMessageBytes: 1000,
  bytesHeard: 0,
  waitingFor: "nothing",
  ended: () => {},
  streamClosed: () => {},
  checkBroken: () => {},
  sendFailed: (call, why, processed, cause) => lost(call.path, why, processed, cause)
}

/** A call on a stream of which a test emits the events, in an order that a real one may come to. */
const started = (options: { readonly id: number | undefined } = { id: 1 }) => {
  const messages: Array<Uint8Array> = []
  const ends: Array<TransportError | undefined> = []
  const stream = Object.assign(new EventEmitter(), { closed: true, rstCode: 0, ...options })
  const call = new NodeCall(
    host,
    "/test.Service/Method",
    undefined,
    {
      onStart: () => {},
      onMessage: (bytes, start, end) => void messages.push(bytes.slice(start, end)),
      onWritable: () => {},
      onEnd: (error) => void ends.push(error)
    },
    {}
  )
  call.start(stream as unknown as http2.ClientHttp2Stream)
  return { call, stream, messages, ends }
}

describe("NodeCall", () => {
  it("judges data that comes before the headers by the headers", () => {
    const good = started()
    good.stream.emit("data", message(Uint8Array.of(1)))
    good.stream.emit("response", { ":status": 200, "content-type": "application/grpc" }, 0)
    good.stream.emit("trailers", { "grpc-status": "0" })
    good.stream.emit("end")
    assert.deepStrictEqual(good.messages, [Uint8Array.of(1)])
    assert.deepStrictEqual(good.ends, [undefined])

    const page = started()
    page.stream.emit("data", Buffer.from("<html>"))
    page.stream.emit("response", { ":status": 502 }, 0)
    page.stream.emit("end")
    assert.strictEqual(page.ends.length, 1)
    assert.deepStrictEqual([page.ends[0]?.kind, page.ends[0]?.code], ["Http", 14])
    assert.include(page.ends[0]?.message, "<html>")
  })

  it("takes the server's CANCEL for the deadline that both keep, once that is due, and not before", () => {
    for (const [timeoutMillis, kind] of [
      [1, "Deadline"],
      [60_000, "ConnectionLost"]
    ] as const) {
      const { call, ends, stream } = started()
      call.limit(timeoutMillis)
      stream.rstCode = 8
      stream.emit("close")
      assert.deepStrictEqual(
        ends.map((error) => error?.kind),
        [kind]
      )
    }
  })

  it("was not sent where its stream never had an id, or its headers were dropped", () => {
    for (const [frameType, processed] of [
      [1, "no"],
      [0, "unknown"]
    ] as const) {
      const { ends, stream } = started()
      stream.emit("frameError", frameType, 2)
      stream.rstCode = 7
      stream.emit("close")
      assert.deepStrictEqual(
        ends.map((error) => [error?.kind, error?.processed]),
        [["ConnectionLost", processed]]
      )
    }
    const unopened = started({ id: undefined })
    unopened.stream.emit("error", new Error("New streams cannot be created after receiving a GOAWAY"))
    unopened.stream.emit("close")
    assert.deepStrictEqual(
      unopened.ends.map((error) => [error?.kind, error?.processed]),
      [["ConnectionLost", "no"]]
    )
    assert.match(unopened.ends[0]!.message, /GOAWAY/)
  })

  it("ends once, whatever comes after", () => {
    const { ends, messages, stream } = started()
    stream.emit("response", { ":status": 200, "content-type": "application/grpc", "grpc-status": "5" }, 1)
    stream.emit("end")
    stream.emit("response", { ":status": 502 }, 0)
    stream.emit("data", message(Uint8Array.of(1)))
    stream.emit("trailers", { "grpc-status": "0" })
    stream.emit("error", new Error("late"))
    stream.emit("close")
    assert.deepStrictEqual(
      ends.map((error) => error?.code),
      [5]
    )
    assert.deepStrictEqual(messages, [])
  })
})
