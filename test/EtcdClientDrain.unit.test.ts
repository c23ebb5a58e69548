/**
 * A server that drains with GOAWAY says which of the requests it has taken up; the others are sent again, and each write
 * is applied exactly once.
 */
import { fromBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../src/EtcdClient.ts"
import { KV, PutRequestSchema } from "../src/internal/proto/rpc_pb.ts"
import * as Frames from "./support/http2/frames.ts"
import { type Peer, rawServer } from "./support/http2/rawServer.ts"

const writes = 200
/** How many requests each connection takes up. */
const taken = 7

/** The key of a put, from the frames of its stream. */
const keyOf = (peer: Peer, stream: number): string => {
  const body = peer.frames.filter((frame) => frame.type === Frames.Type.data && frame.stream === stream)
  const message = Buffer.concat(body.map((frame) => frame.payload)).subarray(5)
  return new TextDecoder().decode(fromBinary(PutRequestSchema, message).key)
}

describe("a server that drains", () => {
  it.live.each([
    ["http2", 0, false],
    ["http2", 0, true],
    ["http2", 11, true],
    ["node:http2", 0, false],
    ["node:http2", 0, true],
    ["node:http2", 11, true]
  ] as const)(
    "after every few requests gets each of the others again, and none twice (%s, GOAWAY %i, announced: %s)",
    ([transport, code, isAnnounced]) =>
      Effect.gen(function* () {
        const applied = new Map<string, number>()
        const seen = new Map<Peer, ReadonlyArray<number>>()
        const answer = (peer: Peer, stream: number) => peer.send(Frames.answer(stream, new Uint8Array(0)))
        const apply = (peer: Peer, stream: number) => {
          const key = keyOf(peer, stream)
          applied.set(key, (applied.get(key) ?? 0) + 1)
          answer(peer, stream)
        }
        let requests = 0
        const server = yield* rawServer({
          onRequestEnd: (stream, peer) => {
            // The client's own question who is there.
            if (keyOf(peer, stream) === "") return answer(peer, stream)
            requests++
            const streams = [...(seen.get(peer) ?? []), stream]
            seen.set(peer, streams)
            if (streams.length <= taken) apply(peer, stream)
            else if (streams.length === taken + 1) {
              const announced = isAnnounced ? [Frames.goaway(0x7fffffff, 0), Frames.ping()] : []
              peer.send(...announced, Frames.goaway(streams[taken - 1]!, code, "draining"))
            }
          }
        })
        const client = yield* EtcdClient.make({ endpoints: [`127.0.0.1:${server.port}`], transport })
        // A request that is passed over again and again is sent for as long as it takes.
        const patient = { deadline: "Infinity", retry: Schedule.spaced("25 millis") } as const
        const put = (index: number) =>
          client.unary(KV.method.put, { key: new TextEncoder().encode(`k${index}`) }, patient)
        yield* Effect.forEach(Array.from({ length: writes }), (_, index) => put(index), { concurrency: 20 })
        assert.strictEqual(applied.size, writes)
        assert.deepStrictEqual(new Set(applied.values()), new Set([1]))
        assert.isAbove(server.peers.length, 1)
        assert.isAbove(requests, writes)
      })
  )
})
