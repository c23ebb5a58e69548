/** Random exchanges that keep the rules, the same ones over both transports, have the same results. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Connection, Transport, TransportError } from "../../../src/internal/grpc/Transport.ts"
import { http2Transport } from "../../../src/internal/http2/Http2Transport.ts"
import { nodeHttp2Transport } from "../../../src/internal/nodeHttp2/NodeHttp2Transport.ts"
import * as Frames from "../../support/http2/frames.ts"
import { type Peer, rawServer } from "../../support/http2/rawServer.ts"
import { makeRandom, type Random } from "../../support/random.ts"

const exchanges = Number(process.env.EFFECT_ETCD_EXCHANGES ?? "400")
const seed = Number(process.env.EFFECT_ETCD_FUZZ_SEED ?? "1")
const { endHeaders, endStream, padded } = Frames.Flag

const filled = (random: Random, length: number): Uint8Array => new Uint8Array(length).fill(random(256))
const oneOf = <A>(random: Random, choices: ReadonlyArray<A>): A => choices[random(choices.length)]!

const sizes = [0, 1, 5, 64, 1000, 16_379, 20_000, 70_000]

/** A header block in one frame or several. */
const headers = (random: Random, stream: number, list: Frames.HeaderList, flags: number): ReadonlyArray<Buffer> => {
  const block = Frames.headerBlock(list)
  if (random(4) > 0) return [Frames.frame(Frames.Type.headers, endHeaders | flags, stream, block)]
  const cut = random(block.length)
  return [
    Frames.frame(Frames.Type.headers, flags, stream, block.subarray(0, cut)),
    Frames.frame(Frames.Type.continuation, endHeaders, stream, block.subarray(cut))
  ]
}

const dataFrame = (random: Random, stream: number, piece: Uint8Array): Buffer => {
  if (random(5) > 0 || piece.length > 16_000) return Frames.data(stream, piece)
  const padding = random(100)
  return Frames.data(stream, Buffer.concat([Uint8Array.of(padding), piece, new Uint8Array(padding)]), padded)
}

const body = (random: Random, stream: number, bytes: Buffer): ReadonlyArray<Buffer> => {
  const frames: Array<Buffer> = []
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random(random(3) === 0 ? 20 : 16_384)
    frames.push(dataFrame(random, stream, bytes.subarray(at, at + length)))
    if (random(8) === 0) frames.push(Frames.data(stream, new Uint8Array(0)))
    if (random(8) === 0) frames.push(Frames.ping(), Frames.windowUpdate(0, 1), Frames.frame(0x55, 0, stream))
    at += length
  }
  return frames
}

const statuses = ["0", "0", "0", "0", "1", "5", "14", "99", "x"]

/** An answer to a call, with everything that the rules of HTTP/2 allow. */
const answer = (random: Random, stream: number): ReadonlyArray<Buffer> => {
  const interim = random(5) === 0 ? headers(random, stream, [[":status", "103"]], 0) : []
  const status = [
    ["grpc-status", oneOf(random, statuses)],
    ["grpc-message", oneOf(random, ["", "50%25", "%E2%82%AC", "plain", "%zz"])],
    ["extra", "x".repeat(random(200))]
  ] as const
  switch (random(12)) {
    case 0:
      return [...interim, ...headers(random, stream, [...Frames.grpcHeaders, ...status], endStream)]
    case 1:
      return [...interim, Frames.rstStream(stream, random(14))]
    case 2:
      return [
        ...headers(random, stream, [[":status", oneOf(random, ["404", "502"])]], 0),
        Frames.data(stream, Buffer.from("a page"), endStream)
      ]
    case 3:
      return [
        ...headers(random, stream, Frames.grpcHeaders, 0),
        Frames.data(stream, Frames.message(filled(random, 50)).subarray(0, random(55)), endStream)
      ]
    default: {
      const count = oneOf(random, [0, 1, 1, 1, 1, 2, 5])
      const messages = Array.from({ length: count }, () => Frames.message(filled(random, oneOf(random, sizes))))
      return [
        ...interim,
        ...headers(random, stream, Frames.grpcHeaders, 0),
        ...body(random, stream, Buffer.concat(messages)),
        ...headers(random, stream, status, endStream)
      ]
    }
  }
}

/** Sends frames in writes that may end anywhere. */
const sendInPieces = (random: Random, peer: Peer, frames: ReadonlyArray<Buffer>): void => {
  const whole = Buffer.concat(frames)
  for (let at = 0; at < whole.length; ) {
    const length = 1 + random(random(2) === 0 ? 50 : 100_000)
    peer.send(whole.subarray(at, at + length))
    at += length
  }
}

const describeError = (error: TransportError) => ({
  kind: error.kind,
  code: error.code,
  processed: error.processed,
  message: error.message.replaceAll(/127\.0\.0\.1:\d+/g, "server"),
  metadata: { ...error.metadata }
})

const sizesAndFirst = (messages: ReadonlyArray<Uint8Array>) => messages.map((message) => [message.length, message[0]])

const call = (connection: Connection, random: Random) => {
  const request = filled(random, oneOf(random, sizes))
  const options = random(3) === 0 ? { metadata: { token: "t".repeat(random(50)) }, timeoutMillis: 60_000 } : undefined
  const seen: Array<Uint8Array> = []
  const keep = (message: Uint8Array) => Effect.sync(() => void seen.push(message))
  const method = "/test.Service/Method"
  const run =
    random(2) === 0
      ? Effect.flatMap(connection.unary(method, request, options), keep)
      : Stream.runForEach(connection.serverStream(method, request, options), keep)
  return Effect.map(Effect.result(run), (result) => ({
    seen: sizesAndFirst(seen),
    end: result._tag === "Success" ? "ok" : describeError(result.failure)
  }))
}

const resultsOver = Effect.fnUntraced(function* (transport: Transport) {
  const ofServer = makeRandom(seed)
  const ofClient = makeRandom(seed + 1)
  const requests: Array<number> = []
  const { port } = yield* rawServer({
    greeting: Frames.settings({ 4: 30_000 }),
    onFrame: ({ payload, stream, type }, peer) => {
      if (type !== Frames.Type.data || payload.length === 0) return
      requests[stream] = (requests[stream] ?? 0) + payload.length
      peer.send(Frames.windowUpdate(stream, payload.length), Frames.windowUpdate(0, payload.length))
    },
    onRequestEnd: (stream, peer) => sendInPieces(ofServer, peer, answer(ofServer, stream))
  })
  const connection = yield* transport.connect(
    { _tag: "Tcp", host: "127.0.0.1", port },
    {
      connectTimeoutMillis: 10_000,
      keepAliveIntervalMillis: 0,
      keepAliveTimeoutMillis: 10_000,
      maxReceiveMessageBytes: 60_000
    }
  )
  const results = yield* Effect.forEach(Array.from({ length: exchanges }), () => call(connection, ofClient))
  return { results, requests }
})

describe("equivalence", () => {
  it.live(`${exchanges} random exchanges have the same results over node:http2`, () =>
    Effect.gen(function* () {
      const expected = yield* resultsOver(nodeHttp2Transport)
      const found = yield* resultsOver(http2Transport)
      found.results.forEach((result, index) => {
        assert.deepStrictEqual(result, expected.results[index], `seed ${seed}, exchange ${index}`)
      })
      assert.deepStrictEqual(found.requests, expected.requests)
    })
  )
})
