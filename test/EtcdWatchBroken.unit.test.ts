/**
 * The ways in which the stream of a call of watches may break, over real HTTP/2, as servers end them, and proxies that
 * are idle or reload their configuration.
 */
import * as http2 from "node:http2"
import { create, type DescMessage, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import {
  RangeRequestSchema,
  RangeResponseSchema,
  StatusResponseSchema,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema
} from "../src/internal/proto/rpc_pb.ts"
import * as Frames from "./support/http2/frames.ts"
import * as Http2 from "./support/http2/nodeServer.ts"
import { until } from "./support/machine.ts"
import { put } from "./support/watch/server.ts"

const header = { clusterId: 1n, memberId: 1n, raftTerm: 1n, revision: 1000n }

type Answer = Omit<Exclude<MessageInitShape<typeof WatchResponseSchema>, WatchResponse>, "header">
type Server = http2.ServerHttp2Stream

const say = (stream: Server, answer: Answer): boolean =>
  stream.write(Frames.message(toBinary(WatchResponseSchema, create(WatchResponseSchema, { header, ...answer }))))

const reply = <S extends DescMessage>(stream: Server, schema: S, answer: MessageInitShape<S>) =>
  Http2.reply(stream, Frames.message(toBinary(schema, create(schema, answer))))

const finish = (stream: Server, trailers: http2.OutgoingHttpHeaders) => {
  stream.once("wantTrailers", () => stream.sendTrailers(trailers))
  stream.end()
}

const reset = (code: number) => (stream: Server) => stream.close(code)

const status = (code: number) => (stream: Server) =>
  finish(stream, { "grpc-status": String(code), "grpc-message": "broke off" })

const {
  NGHTTP2_CANCEL,
  NGHTTP2_ENHANCE_YOUR_CALM,
  NGHTTP2_FLOW_CONTROL_ERROR,
  NGHTTP2_INTERNAL_ERROR,
  NGHTTP2_NO_ERROR,
  NGHTTP2_PROTOCOL_ERROR,
  NGHTTP2_REFUSED_STREAM
} = http2.constants

/** What etcd's own client goes on after, and then some. */
const ways: Readonly<Record<string, (stream: Server) => void>> = {
  "without a status": (stream) => finish(stream, {}),
  "with OK": status(0),
  "with CANCELLED": status(1),
  "with INTERNAL": status(13),
  "with UNAVAILABLE": status(14),
  "by NO_ERROR": reset(NGHTTP2_NO_ERROR),
  "by PROTOCOL_ERROR": reset(NGHTTP2_PROTOCOL_ERROR),
  "by INTERNAL_ERROR": reset(NGHTTP2_INTERNAL_ERROR),
  "by FLOW_CONTROL_ERROR": reset(NGHTTP2_FLOW_CONTROL_ERROR),
  "by REFUSED_STREAM": reset(NGHTTP2_REFUSED_STREAM),
  "by CANCEL": reset(NGHTTP2_CANCEL),
  "by ENHANCE_YOUR_CALM": reset(NGHTTP2_ENHANCE_YOUR_CALM),
  "in the middle of a message": (stream) => {
    stream.write(Frames.message(Buffer.alloc(100)).subarray(0, 50))
    stream.close(NGHTTP2_NO_ERROR)
  },
  "with its connection": (stream) => stream.session?.destroy(),
  "by GOAWAY": (stream) => stream.session?.close()
}

/** A server of one store, which has a write at each revision from 2 on, and breaks each call after three of them. */
const breaking = (breakOff: (stream: Server) => void) =>
  Effect.gen(function* () {
    const calls = { count: 0 }
    const watch = (stream: Server) => {
      calls.count++
      stream.respond(Http2.grpcHeaders, { waitForTrailers: true })
      let bytes = Buffer.alloc(0)
      stream.on("data", (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk])
        while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
          const length = bytes.readUInt32BE(1)
          const { requestUnion } = fromBinary(WatchRequestSchema, bytes.subarray(5, 5 + length))
          bytes = bytes.subarray(5 + length)
          if (requestUnion.case !== "createRequest") continue
          const { startRevision, watchId } = requestUnion.value
          say(stream, { watchId, created: true })
          for (const n of [0n, 1n]) say(stream, { watchId, events: [put(startRevision + n)] })
          // Behind the first part of a revision, which is not to be delivered.
          say(stream, {
            watchId,
            fragment: true,
            events: [put(startRevision + 2n), put(startRevision + 3n, "k", "part")]
          })
          setImmediate(() => breakOff(stream))
        }
      })
    }
    const read = (stream: Server) =>
      stream.once("data", (bytes: Buffer) => {
        const { revision } = fromBinary(RangeRequestSchema, bytes.subarray(5))
        const { kv } = put(revision === 0n ? header.revision : revision)
        reply(stream, RangeResponseSchema, { header, kvs: [kv] })
      })
    const server = yield* Http2.nodeServer((stream, headers) => {
      const path = headers[":path"]
      if (path?.endsWith("/Watch") === true) watch(stream)
      else if (path?.endsWith("/Range") === true) read(stream)
      else reply(stream, StatusResponseSchema, { header, version: "3.5.30", leader: 1n })
    })
    return { endpoint: `http://127.0.0.1:${server.port}`, calls }
  })

describe("the stream of a call of watches", () => {
  for (const transport of ["http2", "node:http2"] as const) {
    for (const [name, breakOff] of Object.entries(ways)) {
      it.live(`may end ${name} (${transport})`, () =>
        Effect.gen(function* () {
          const { calls, endpoint } = yield* breaking(breakOff)
          const client = yield* EtcdClient.make({
            endpoints: [endpoint],
            transport,
            reconnect: Schedule.spaced("1 millis")
          })
          const service = yield* EtcdWatch.fromClient(client)
          const got: Array<bigint> = []
          const fiber = yield* service
            .changes("k", { startRevision: 2n, fragment: true, retry: Schedule.spaced("1 millis") })
            .pipe(
              Stream.runForEach((change) =>
                Effect.sync(() => {
                  if (change._tag !== "Revision") return
                  assert.isTrue(change.events.every(({ kv }) => kv.valueString !== "part"))
                  got.push(change.revision)
                })
              ),
              Effect.forkScoped({ startImmediately: true })
            )
          yield* until(() => got.length >= 9 || fiber.pollUnsafe() !== undefined)
          assert.isUndefined(fiber.pollUnsafe())
          assert.isAtLeast(calls.count, 3)
          assert.deepStrictEqual(
            got,
            got.map((_, index) => BigInt(index + 2))
          )
          yield* Fiber.interrupt(fiber)
        })
      )
    }
  }
})
