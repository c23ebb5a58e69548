import { assert, describe, it } from "@effect/vitest"
import type { TransportError } from "../../../src/internal/grpc/Transport.ts"
import { Http2Call, type Http2CallHost } from "../../../src/internal/http2/Http2Call.ts"

const host: Http2CallHost = {
  peer: "http://127.0.0.1:1",
  maxReceiveMessageBytes: 1000,
  bytesHeard: 0,
  waitingFor: "nothing",
  goodAnswer: undefined,
  goodTrailers: undefined,
  ended: () => {}
}

describe("Http2Call", () => {
  it("takes the server's CANCEL for the deadline that both keep, once that is due, and not before", () => {
    for (const [timeoutMillis, kind] of [
      [1, "Deadline"],
      [60_000, "ConnectionLost"]
    ] as const) {
      const ends: Array<TransportError | undefined> = []
      const listener = {
        onStart: () => {},
        onMessage: () => {},
        onEnd: (error: TransportError | undefined) => void ends.push(error),
        onWritable: () => {}
      }
      const call = new Http2Call(host, "/test.Service/Method", {}, listener)
      call.limit(timeoutMillis)
      call.onReset(8, undefined)
      assert.deepStrictEqual(
        ends.map((error) => error?.kind),
        [kind]
      )
    }
  })
})
