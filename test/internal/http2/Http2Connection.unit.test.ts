/**
 * What a connection says on the wire, which rules it holds its server to, and what it bounds; against servers of raw
 * frames. What every transport must do is in the conformance suite.
 */
import type * as net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import type { Connection, ConnectionOptions } from "../../../src/internal/grpc/Transport.ts"
import { preface } from "../../../src/internal/http2/frames.ts"
import { HpackDecoder } from "../../../src/internal/http2/HpackDecoder.ts"
import { Http2Connection } from "../../../src/internal/http2/Http2Connection.ts"
import { http2Transport, make } from "../../../src/internal/http2/Http2Transport.ts"
import * as Frames from "../../support/http2/frames.ts"
import { nodeServer, reply } from "../../support/http2/nodeServer.ts"
import { type Peer, rawServer, type Script } from "../../support/http2/rawServer.ts"
import { until } from "../../support/machine.ts"
import { makeRandom } from "../../support/random.ts"

const options: ConnectionOptions = {
  connectTimeoutMillis: 10_000,
  keepAliveIntervalMillis: 0,
  keepAliveTimeoutMillis: 10_000,
  maxReceiveMessageBytes: 4 * 1024 * 1024
}

const bytes = (...values: ReadonlyArray<number>): Uint8Array => Uint8Array.from(values)
const request = bytes(1, 2, 3)
const method = "/test.Service/Method"
const { endHeaders, endStream } = Frames.Flag

const connectTo = (port: number, more: Partial<ConnectionOptions> = {}) =>
  http2Transport.connect({ _tag: "Tcp", host: "127.0.0.1", port }, { ...options, ...more })

const against = Effect.fnUntraced(function* (script: Script, more: Partial<ConnectionOptions> = {}) {
  const server = yield* rawServer(script)
  const connection = yield* connectTo(server.port, more)
  return { connection, peer: server.peers[0]! }
})

const echo = (connection: Connection, timeoutMillis?: number) =>
  Effect.map(connection.unary(method, request, { timeoutMillis }), (answer) => assert.deepStrictEqual(answer, request))

const answering: Script = { onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request)) }

const framesOf = (peer: Peer, type: number) => peer.frames.filter((frame) => frame.type === type)

const goawayCode = (peer: Peer) => framesOf(peer, Frames.Type.goaway)[0]?.payload.readUInt32BE(4)

describe("what goes out", () => {
  it.live("the preface, settings and a large connection window, then each call as two frames", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against(answering)
      yield* echo(connection)
      const types = peer.frames.map(({ flags, stream, type }) => [type, flags, stream])
      assert.deepStrictEqual(types.slice(0, 2), [
        [Frames.Type.settings, 0, 0],
        [Frames.Type.windowUpdate, 0, 0]
      ])
      yield* echo(connection)
      assert.strictEqual(framesOf(peer, Frames.Type.rstStream).length, 0)
      const [headers, data] = peer.frames.filter(({ stream }) => stream === 1)
      assert.deepStrictEqual([headers?.type, headers?.flags], [Frames.Type.headers, endHeaders])
      assert.deepStrictEqual([data?.type, data?.flags], [Frames.Type.data, endStream])
      const settings = framesOf(peer, Frames.Type.settings)[0]!.payload
      const values = Array.from({ length: settings.length / 6 }, (_, index) => [
        settings.readUInt16BE(index * 6),
        settings.readUInt32BE(index * 6 + 2)
      ])
      assert.deepStrictEqual(values, [
        [2, 0],
        [4, 2 * 1024 * 1024],
        [6, 65_536]
      ])
    })
  )

  it.live("the headers of a repeated call are a few bytes, with metadata and a deadline too", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against(answering)
      const decoder = new HpackDecoder()
      const sizeOfLast = () => framesOf(peer, Frames.Type.headers).at(-1)!.payload.length
      const token = "t".repeat(200)
      for (let call = 0; call < 4; call++) yield* echo(connection)
      assert.isAtMost(sizeOfLast(), 8)
      for (let call = 0; call < 4; call++) {
        yield* connection.unary(method, request, { metadata: { token }, timeoutMillis: 5000 + call })
      }
      assert.isAtMost(sizeOfLast(), 18)
      yield* connection.unary(method, request, { metadata: { token: "another" }, timeoutMillis: 70 })
      const seen = framesOf(peer, Frames.Type.headers).map(({ payload }) => {
        const fields: Record<string, string> = {}
        const block = new Uint8Array(payload)
        const failure = decoder.decode(block, 0, block.length, (name, value) => {
          fields[name] = value
        })
        assert.isUndefined(failure)
        return [fields[":path"], fields.token, fields["grpc-timeout"]]
      })
      assert.deepStrictEqual(seen, [
        ...Array.from({ length: 4 }, () => [method, undefined, undefined]),
        ...Array.from({ length: 4 }, (_, call) => [method, token, `${5000 + call}m`]),
        [method, "another", "70m"]
      ])
    })
  )

  it.live("the name of a header whose value always differs goes out once", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const decoded: Array<unknown> = []
      const { connection, peer } = yield* against(answering)
      const { port } = yield* nodeServer((stream, headers) => {
        decoded.push([headers.traceparent, headers.token])
        reply(stream, Frames.message(request))
      })
      const ofNode = yield* connectTo(port)
      const token = "a token of etcd"
      for (let call = 0; call < 20; call++) {
        const traceparent = `00-4bf92f3577b34da6a3ce929d0e0e${4000 + call}-00f067aa0ba902b7-01`
        const options = { metadata: { traceparent, token } }
        yield* connection.unary(method, request, options)
        yield* ofNode.unary(method, request, options)
        seen.push([traceparent, token])
      }
      assert.deepStrictEqual(decoded, seen)
      const sizes = framesOf(peer, Frames.Type.headers).map(({ payload }) => payload.length)
      for (const size of sizes.slice(1)) assert.isAtMost(size, 52)
    })
  )

  it.live("a table that the server makes small, or does without, is not used", () =>
    Effect.gen(function* () {
      for (const headerTableSize of [0, 100, 4096]) {
        const { port } = yield* nodeServer((stream) => reply(stream, Frames.message(request)), {
          settings: { headerTableSize }
        })
        const connection = yield* connectTo(port)
        for (let call = 0; call < 5; call++) yield* echo(connection, 5000)
      }
    })
  )

  it.live("headers are what they should be, also when the table has been through many others", () =>
    Effect.gen(function* () {
      const seen: Array<unknown> = []
      const { port } = yield* nodeServer((stream, headers) => {
        seen.push([headers[":path"], headers.token, headers.trace])
        reply(stream, Frames.message(request))
      })
      const connection = yield* connectTo(port)
      const random = makeRandom(9)
      const paths = Array.from({ length: 60 }, (_, index) => `/test.Service/${"M".repeat(30 + index)}`)
      const metadata = Array.from({ length: 4 }, (_, index) => ({ token: `${index}`.repeat(100 + 300 * index) }))
      const expected: Array<unknown> = []
      for (let call = 0; call < 600; call++) {
        const path = paths[random(random(2) === 0 ? 3 : 60)]!
        const known = metadata[random(4)]!
        const sent = random(4) === 0 ? { ...known, trace: `${random(5)}` } : known
        expected.push([path, sent.token, "trace" in sent ? sent.trace : undefined])
        yield* connection.unary(path, request, { metadata: sent })
      }
      assert.deepStrictEqual(seen, expected)
    })
  )

  it.live("headers that are longer than a frame are understood", () =>
    Effect.gen(function* () {
      let seen: unknown
      const { port } = yield* nodeServer(
        (stream, headers) => {
          seen = headers.token
          reply(stream, Frames.message(request))
        },
        { settings: { maxHeaderListSize: 100_000 }, maxHeaderListPairs: 100 }
      )
      const connection = yield* connectTo(port)
      const token = "^".repeat(40_000)
      yield* connection.unary(method, request, { metadata: { token } })
      assert.strictEqual(seen, token)
    })
  )

  it.live("headers over the server's limit are not sent", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({ ...answering, greeting: Frames.settings({ 6: 1000 }) })
      const metadata = { token: "x".repeat(800) }
      const error = yield* Effect.flip(connection.unary(method, request, { metadata }))
      assert.deepStrictEqual([error.kind, error.processed], ["Protocol", "no"])
      assert.match(error.message, /at most 1000 are taken/)
      yield* echo(connection)
      assert.strictEqual(framesOf(peer, Frames.Type.headers).length, 1)
    })
  )

  it.live("PING is answered with its own eight bytes, and SETTINGS with an acknowledgement", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({ ...answering, polite: false })
      peer.send(Frames.ping(bytes(1, 2, 3, 4, 5, 6, 7, 0xff)), Frames.settings({ 3: 7 }))
      yield* echo(connection)
      yield* until(() => framesOf(peer, Frames.Type.settings).length === 3)
      const [ping] = framesOf(peer, Frames.Type.ping)
      assert.deepStrictEqual([ping?.flags, ...ping!.payload], [1, 1, 2, 3, 4, 5, 6, 7, 0xff])
      const acks = framesOf(peer, Frames.Type.settings).filter(({ flags }) => flags === 1)
      assert.strictEqual(acks.length, 2)
    })
  )

  it.live("a request larger than the windows waits for them, a frame of at most 16 KiB at a time", () =>
    Effect.gen(function* () {
      let credited = 65_535
      let received = 0
      const { connection, peer } = yield* against({
        onFrame: ({ payload, stream, type }, peer) => {
          if (type !== Frames.Type.data) return
          received += payload.length
          assert.isAtMost(payload.length, 16_384)
          assert.isAtMost(received, credited)
          if (received < credited) return
          credited += 30_000
          peer.send(Frames.windowUpdate(stream, 30_000), Frames.windowUpdate(0, 30_000))
        },
        onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
      })
      const large = new Uint8Array(300_000).map((_, index) => index)
      assert.deepStrictEqual(yield* connection.unary(method, large), request)
      const sent = Buffer.concat(framesOf(peer, Frames.Type.data).map(({ payload }) => payload))
      assert.isTrue(sent.equals(Frames.message(large)))
    })
  )

  it.live(
    "streams that wait for the connection's window take turns, and a changed initial window counts for them",
    () =>
      Effect.gen(function* () {
        const { connection, peer } = yield* against({
          greeting: Frames.settings({ 4: 10 }),
          onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
        })
        const calls = yield* Effect.forEach([1, 2, 3], () =>
          Effect.forkChild(connection.unary(method, new Uint8Array(40_000)), { startImmediately: true })
        )
        yield* until(() => framesOf(peer, Frames.Type.data).length === 3)
        assert.deepStrictEqual(
          framesOf(peer, Frames.Type.data).map(({ payload, stream }) => [stream, payload.length]),
          [
            [1, 10],
            [3, 10],
            [5, 10]
          ]
        )
        peer.send(Frames.settings({ 4: 5 }), Frames.settings({ 4: 1_000_000 }))
        yield* until(() => framesOf(peer, Frames.Type.data).length >= 6)
        const next = framesOf(peer, Frames.Type.data).slice(3, 6)
        assert.deepStrictEqual(
          next.map(({ stream }) => stream),
          [1, 3, 5]
        )
        peer.send(Frames.windowUpdate(0, 1_000_000))
        for (const call of calls) assert.deepStrictEqual(yield* Fiber.join(call), request)
      })
  )

  it.live("room in the connection's window that comes a frame at a time goes to one stream after the other", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        greeting: Frames.settings({ 4: 1_000_000 }),
        onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
      })
      const data = () => framesOf(peer, Frames.Type.data)
      const large = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(connection.unary(method, new Uint8Array(200_000)), { startImmediately: true })
      )
      const received = () => data().reduce((sum, { payload }) => sum + payload.length, 0)
      yield* until(() => received() === 65_535)
      const before = data().length
      const small = yield* Effect.forkChild(echo(connection), { startImmediately: true })
      for (let turn = 0; turn < 8; turn++) {
        const due = received() + 16_384
        peer.send(Frames.windowUpdate(0, 16_384))
        yield* until(() => received() === due)
      }
      const turns = data()
        .slice(before)
        .map(({ stream }) => stream)
      assert.sameMembers(turns.slice(0, 4), [1, 3, 5, 7])
      assert.sameMembers(turns.slice(4, 7), [1, 3, 5])
      yield* Fiber.join(small)
      peer.send(Frames.windowUpdate(0, 1_000_000))
      yield* Fiber.joinAll(large)
    })
  )

  it.live.each([
    ["one upload", 1],
    ["many uploads", 64]
  ] as const)("calls beside %s that keeps the socket full go between its frames", ([, uploads]) =>
    Effect.gen(function* () {
      const uploadBytes = 64 * 1024 * 1024
      let received = 0
      const { connection } = yield* against({
        greeting: Buffer.concat([Frames.settings({ 4: 0x7fffffff }), Frames.windowUpdate(0, 0x7fff0000 - 65535)]),
        onFrame: ({ payload }) => {
          received += payload.length
        },
        onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
      })
      const large = yield* Effect.forEach(Array.from({ length: uploads }), () =>
        Effect.forkChild(connection.unary(method, new Uint8Array(uploadBytes / uploads)), { startImmediately: true })
      )
      for (let call = 0; call < 3; call++) yield* echo(connection)
      assert.isBelow(received, uploadBytes / 2)
      yield* Fiber.joinAll(large)
    })
  )

  it.live.each(Array.from({ length: 12 }, (_, seed) => seed))(
    "whatever a server makes of its windows, what is sent stays within them, and all of it comes (%i)",
    (seed) =>
      Effect.gen(function* () {
        const random = makeRandom(seed)
        const rules = { initial: 65_535, streams: 5 }
        const changes: Array<typeof rules> = [rules]
        const left = new Map<number, number>()
        const bodies = new Map<number, Array<Buffer>>()
        const wrong: Array<string> = []
        let connectionLeft = 65_535

        const onHeaders = (stream: number) => {
          if (left.size >= rules.streams) wrong.push(`more than ${rules.streams} calls`)
          left.set(stream, rules.initial)
          bodies.set(stream, [])
        }
        const onData = (stream: number, payload: Buffer) => {
          connectionLeft -= payload.length
          if (connectionLeft < 0) wrong.push("more than the connection's window")
          if (!left.has(stream)) return
          left.set(stream, left.get(stream)! - payload.length)
          if (payload.length > 0 && left.get(stream)! < 0) wrong.push("more than a stream's window")
          bodies.get(stream)!.push(payload)
        }
        const onEnd = (stream: number, peer: Peer) => {
          if (!left.delete(stream)) return
          const body = Buffer.concat(bodies.get(stream)!)
          const isWhole = body.readUInt32BE(1) === body.length - 5 && body.subarray(5).every((byte) => byte === body[5])
          if (!isWhole) wrong.push(`${body.length} bytes that were not sent so`)
          peer.send(random(8) === 0 ? Frames.rstStream(stream, 7) : Frames.answer(stream, body.subarray(5, 6)))
        }
        const onAcknowledged = () => {
          const next = changes.shift()!
          for (const [stream, bytes] of left) left.set(stream, bytes + next.initial - rules.initial)
          Object.assign(rules, next)
        }
        const act = (peer: Peer) => {
          const open = [...left.keys()]
          const stream = open[random(open.length || 1)]
          const room = random(random(5) === 0 ? 100_000 : 3000) + 1
          const what = random(5)
          if (what === 0) {
            const next = { initial: random(random(2) === 0 ? 100 : 100_000), streams: random(6) }
            changes.push(next)
            peer.send(Frames.settings({ 3: next.streams, 4: next.initial, 5: 16_384 + random(1000) }))
          } else if (what < 3 && stream !== undefined) {
            left.set(stream, left.get(stream)! + room)
            peer.send(Frames.windowUpdate(stream, room))
          } else {
            connectionLeft += room
            peer.send(Frames.windowUpdate(0, room))
          }
        }
        const { connection, peer } = yield* against({
          greeting: Frames.settings({ 3: rules.streams }),
          onFrame: ({ flags, payload, stream, type }, peer) => {
            if (type === Frames.Type.headers) onHeaders(stream)
            else if (type === Frames.Type.data) onData(stream, payload)
            else if (type === Frames.Type.rstStream) left.delete(stream)
            else if (type === Frames.Type.settings && flags === Frames.Flag.ack) onAcknowledged()
            if (type === Frames.Type.data && (flags & endStream) !== 0) onEnd(stream, peer)
          }
        })
        yield* Effect.acquireRelease(
          Effect.sync(() => setInterval(() => Array.from({ length: 10 }, () => act(peer)), 1)),
          (timer) => Effect.sync(() => clearInterval(timer))
        )
        const sizes = [1, 10, 16_379, 16_380, 40_000, 150_000]
        const call: Effect.Effect<void> = Effect.suspend(() => {
          const message = new Uint8Array(sizes[random(sizes.length)]!).fill(random(256))
          const timeoutMillis = random(5) === 0 ? random(20) + 1 : undefined
          return Effect.matchEffect(connection.unary(method, message, { timeoutMillis }), {
            onSuccess: (answer) => Effect.sync(() => assert.strictEqual(answer[0], message[0])),
            onFailure: (error) => {
              if (error.kind === "Deadline") return Effect.void
              return /REFUSED/.test(error.message) ? call : Effect.die(error)
            }
          })
        })
        yield* Effect.forEach(Array.from({ length: 100 }), () => call, { concurrency: 12, discard: true })
        assert.deepStrictEqual(wrong, [])
      })
  )

  it("calls that are begun again and again do not keep an upload from its turn", () => {
    const { drained, heard, connection, sent, socket } = connectionOfTest()
    connection.outbox.flush()
    heard(Frames.settings({ 4: 0x7fffffff }))
    heard(Frames.windowUpdate(0, 0x7fff0000 - 65_535))
    connection.open(bytes(0x83), undefined, ignoringHandler).write(new Uint8Array(8 * 1024 * 1024), true)
    connection.listener = {
      ...connection.listener,
      onRoom: () => {
        while (connection.hasRoom) {
          connection.open(bytes(0x83), undefined, ignoringHandler).write(new Uint8Array(10_000), true)
        }
      }
    }
    for (let turn = 0; turn < 200; turn++) {
      connection.outbox.flush()
      socket.writableNeedDrain = false
      drained()
    }
    const all = sent().filter(({ type }) => type === Frames.Type.data)
    assert.isTrue(all.some(({ flags, stream }) => stream === 1 && (flags & endStream) !== 0))
    assert.isAbove(all.filter(({ stream }) => stream !== 1).length, 200)
  })

  it.live("calls wait, unsent, while the socket is full", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        greeting: Buffer.concat([Frames.settings({ 4: 0x7fffffff }), Frames.windowUpdate(0, 0x7fff0000 - 65535)])
      })
      peer.socket.pause()
      yield* Effect.forkChild(connection.unary(method, new Uint8Array(64 * 1024 * 1024)), { startImmediately: true })
      const late = yield* Effect.flip(connection.unary(method, request, { timeoutMillis: 20 })).pipe(
        Effect.repeat({ until: ({ processed }) => processed === "no" })
      )
      assert.deepStrictEqual([late.kind, late.processed], ["Deadline", "no"])
    })
  )
})

describe("what comes in", () => {
  it.live("messages that nobody reads are kept close together, and all are there in the end", () =>
    Effect.gen(function* () {
      const count = 200_000
      const { connection } = yield* against({
        onRequestEnd: (stream, peer) => {
          const messages = Buffer.concat(Array.from({ length: 2000 }, () => Frames.message(new Uint8Array(0))))
          peer.send(Frames.headers(stream, Frames.grpcHeaders))
          for (let sent = 0; sent < count; sent += 2000) peer.send(Frames.data(stream, messages))
          peer.send(Frames.headers(stream, [["grpc-status", "11"]], endHeaders | endStream))
        }
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const call = yield* connection.bidirectional(method)
          yield* call.end
          const pull = yield* Stream.toPull(call.messages)
          let seen = (yield* pull).length
          const end = yield* Effect.flip(
            Effect.forever(
              Effect.map(pull, (messages) => {
                assert.isBelow(messages.length, 20_000)
                seen += messages.length
              })
            )
          )
          assert.propertyVal(end, "code", 11)
          assert.strictEqual(seen, count)
        })
      )
    })
  )

  it.live("an answer that waits to be read is not lost with its connection", () =>
    Effect.gen(function* () {
      const message = Frames.message(new Uint8Array(100_000))
      const { connection, peer } = yield* against({
        onRequestEnd: (stream, peer) => {
          peer.send(Frames.headers(stream, Frames.grpcHeaders))
          for (let at = 0; at < message.length * 10; at += 10_000) {
            const from = at % message.length
            peer.send(Frames.data(stream, message.subarray(from, from + 10_000)))
            if (from + 10_000 > message.length) at -= from + 10_000 - message.length
          }
          peer.send(Frames.headers(stream, [["grpc-status", "0"]], endHeaders | endStream))
        }
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const call = yield* connection.bidirectional(method)
          yield* call.end
          const pull = yield* Stream.toPull(call.messages)
          let seen = (yield* pull).length
          yield* echoUntilBehind(connection, peer)
          peer.socket.destroy()
          yield* connection.closed
          yield* Effect.ignore(Effect.forever(Effect.map(pull, (messages) => (seen += messages.length))))
          assert.strictEqual(seen, 10)
        })
      )
    })
  )

  const windowed: ReadonlyArray<readonly [string, (stream: number) => Buffer, count: number, payload: number]> = [
    ["plain", (stream) => Frames.data(stream, Frames.message(new Uint8Array(16_379))), 1500, 16_379],
    [
      "padded",
      (stream) => {
        const message = Frames.message(new Uint8Array(195))
        return Frames.data(stream, Buffer.concat([bytes(255), message, new Uint8Array(255)]), Frames.Flag.padded)
      },
      12_000,
      195
    ]
  ]

  it.live.each(windowed)("both windows are given back as messages are read: %s DATA", ([, frameOf, count, payload]) =>
    Effect.gen(function* () {
      const cost = frameOf(1).length - 9
      const windows = new Map([
        [0, 65_535],
        [1, 2 * 1024 * 1024]
      ])
      let left = count
      const isStopped = () => Math.min(...windows.values()) < cost
      const pump = (peer: Peer) => {
        while (left > 0 && !isStopped()) {
          for (const [id, size] of windows) windows.set(id, size - cost)
          left--
          peer.send(frameOf(1))
          if (left === 0) peer.send(Frames.headers(1, [["grpc-status", "0"]], endHeaders | endStream))
        }
      }
      const { connection } = yield* against({
        onRequestEnd: (stream, peer) => {
          if (stream > 1) return peer.send(Frames.answer(stream, request))
          peer.send(Frames.headers(stream, Frames.grpcHeaders))
          pump(peer)
        },
        onFrame: ({ payload, stream, type }, peer) => {
          if (type !== Frames.Type.windowUpdate) return
          windows.set(stream, windows.get(stream)! + payload.readUInt32BE(0))
          if (left < count) pump(peer)
        }
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const call = yield* connection.bidirectional(method)
          yield* call.end
          yield* until(() => left < count && isStopped())
          yield* echo(connection)
          const size = yield* Stream.runFold(
            call.messages,
            () => 0,
            (size, message) => size + message.length
          )
          assert.strictEqual(size, count * payload)
        })
      )
    })
  )

  it.live("a connection that has used up its stream ids makes room for a new one", () =>
    Effect.gen(function* () {
      const { port } = yield* rawServer(answering)
      const transport = make({ retireAfterStreamId: 5 })
      const connection = yield* transport.connect({ _tag: "Tcp", host: "127.0.0.1", port }, options)
      for (let call = 0; call < 3; call++) yield* echo(connection)
      const reason = yield* connection.closed
      assert.deepStrictEqual([reason.kind, reason.processed], ["ConnectionLost", "no"])
      assert.match(reason.message, /stream ids/)
      assert.strictEqual((yield* Effect.flip(connection.unary(method, request))).processed, "no")
    })
  )

  it.live("a GOAWAY with an error lets the calls that the server took be answered", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({})
      const calls = yield* Effect.forEach([1, 2], () =>
        Effect.forkChild(Effect.exit(connection.unary(method, request)), { startImmediately: true })
      )
      yield* until(() => framesOf(peer, Frames.Type.data).length === 2)
      peer.send(Frames.goaway(1, 11, "too_many_pings"))
      const refused = yield* Effect.flip(yield* Fiber.join(calls[1]!))
      assert.deepInclude(refused, { kind: "ConnectionLost", processed: "no" })
      peer.send(Frames.answer(1, request))
      assert.deepStrictEqual(yield* yield* Fiber.join(calls[0]!), request)
      assert.match((yield* connection.closed).message, /too_many_pings/)
      yield* until(() => peer.socket.destroyed)
    })
  )

  it.live("sending on a call that was reset behind messages that nobody has read fails", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        onRequest: (stream, peer) => {
          peer.send(Frames.headers(stream, Frames.grpcHeaders))
          for (let sent = 0; sent < 40; sent++) peer.send(Frames.data(stream, Frames.message(new Uint8Array(16_000))))
        }
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const call = yield* connection.bidirectional(method)
          const sender = yield* Effect.forkChild(Effect.flip(Effect.forever(call.send(new Uint8Array(16_000)))))
          yield* until(() => framesOf(peer, Frames.Type.data).length > 0)
          peer.send(Frames.rstStream(1, 2))
          assert.deepInclude(yield* Fiber.join(sender), { kind: "ConnectionLost", processed: "no" })
          let messages = 0
          const counting = Stream.runForEach(call.messages, () => Effect.sync(() => messages++))
          assert.match((yield* Effect.flip(counting)).message, /INTERNAL_ERROR/)
          assert.strictEqual(messages, 40)
        })
      )
    })
  )

  it.live("a call that had not reached the socket when the connection broke was not processed", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({})
      const first = yield* Effect.forkChild(Effect.flip(connection.unary(method, request)), {
        startImmediately: true
      })
      yield* until(() => framesOf(peer, Frames.Type.data).length === 1)
      const again = Effect.flip(connection.unary(method, request))
      const second = yield* Effect.forkChild(Effect.andThen(Effect.flip(connection.unary(method, request)), again), {
        startImmediately: true
      })
      yield* until(() => framesOf(peer, Frames.Type.data).length === 2)
      peer.send(Frames.rstStream(3, 2), Frames.frame(4, 0, 0, bytes(1)))
      assert.deepInclude(yield* Fiber.join(first), { kind: "ConnectionLost", processed: "unknown" })
      assert.deepInclude(yield* Fiber.join(second), { kind: "ConnectionLost", processed: "no" })
      yield* until(() => goawayCode(peer) === 6)
      assert.isUndefined(peer.frames.find(({ stream }) => stream === 5))
    })
  )

  it.live("a connection that drained closes its socket", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against(answering)
      yield* echo(connection)
      peer.send(Frames.goaway(1, 0))
      yield* connection.closed
      yield* until(() => peer.socket.destroyed)
    })
  )
})

/** Waits until all that the server has sent has been heard here: it answers calls in order. */
const echoUntilBehind = (connection: Connection, peer: Peer) =>
  Effect.gen(function* () {
    const stream = peer.frames.findLast(({ type }) => type === Frames.Type.headers)!.stream + 2
    const call = yield* Effect.forkChild(Effect.flip(connection.unary(method, request)), { startImmediately: true })
    yield* until(() => peer.frames.some((frame) => frame.stream === stream))
    peer.send(Frames.rstStream(stream, 2))
    yield* Fiber.join(call)
  })

/** A header of 3000 bytes, put into the table, and thirty times the same. */
const bulk = Buffer.concat([
  bytes(0x40, 1, 0x78, 0x7f, 0xb9, 0x16),
  new Uint8Array(3000).fill(0x79),
  new Uint8Array(30).fill(0xbe)
])

const good = (stream: number) => Frames.headers(stream, Frames.grpcHeaders)

describe("rules that concern one stream", () => {
  const data = Frames.message(request)
  const trailers = (stream: number, list: Frames.HeaderList, flags: number = endHeaders | endStream) =>
    Frames.headers(stream, list, flags)

  const broken: ReadonlyArray<readonly [string, (stream: number) => Uint8Array, code: number]> = [
    ["DATA before HEADERS", (stream) => Buffer.concat([1, 2].map(() => Frames.data(stream, request))), 1],
    ["upper-case header names", (stream) => Frames.headers(stream, [...Frames.grpcHeaders, ["Bad", "x"]]), 1],
    ["no status", (stream) => Frames.headers(stream, [["content-type", "application/grpc"]]), 1],
    ["two statuses", (stream) => Frames.headers(stream, [[":status", "200"], ...Frames.grpcHeaders]), 1],
    ["connection headers", (stream) => Frames.headers(stream, [...Frames.grpcHeaders, ["connection", "close"]]), 1],
    ["an interim answer that ends", (stream) => Frames.headers(stream, [[":status", "103"]], 0x5), 1],
    ["trailers with a status", (stream) => Buffer.concat([good(stream), trailers(stream, Frames.grpcHeaders)]), 1],
    ["trailers that do not end", (stream) => Buffer.concat([good(stream), trailers(stream, [["a", "b"]], 4)]), 1],
    ["a window update of nothing", (stream) => Frames.windowUpdate(stream, 0), 1],
    ["a window that overflows", (stream) => Frames.windowUpdate(stream, 0x7fffffff), 3],
    ["PRIORITY of odd length", (stream) => Frames.frame(2, 0, stream, bytes(1)), 6],
    [
      "headers larger than allowed",
      (stream) => Frames.frame(1, 4, stream, Buffer.concat([Frames.headerBlock(Frames.grpcHeaders), bulk])),
      1
    ],
    [
      "more DATA than the stream's window",
      (stream) =>
        Buffer.concat([
          good(stream),
          ...Array.from({ length: 200 }, () => Frames.data(stream, Frames.message(new Uint8Array(16_379))))
        ]),
      3
    ]
  ]

  it.live.each(broken)("%s: the stream is reset, and the connection lives", ([name, frames, code]) =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        onRequestEnd: (stream, peer) =>
          stream === 1 ? peer.send(frames(stream)) : peer.send(Frames.answer(stream, request))
      })
      const run = name.startsWith("more DATA")
        ? Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              yield* call.end
              const pull = yield* Stream.toPull(call.messages)
              yield* until(() => framesOf(peer, Frames.Type.rstStream).length > 0)
              return yield* Effect.flip(Effect.forever(pull))
            })
          )
        : Effect.flip(connection.unary(method, request))
      const error = yield* run
      if (!name.startsWith("more DATA")) {
        const kind = name === "DATA before HEADERS" ? "ConnectionLost" : "Protocol"
        assert.deepInclude(error, { kind, code: 13, processed: "unknown" })
      }
      yield* echo(connection)
      const [reset] = framesOf(peer, Frames.Type.rstStream)
      assert.deepStrictEqual([reset?.stream, reset?.payload.readUInt32BE(0)], [1, code])
    })
  )

  it.live.each([
    ["DATA", Frames.data(1, data)],
    ["HEADERS", trailers(1, [["a", "b"]])]
  ] as const)("%s after the end of an answer that nobody has read yet is refused", ([, late]) =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        onRequest: (stream, peer) => {
          if (stream > 1) return
          peer.send(good(1))
          for (let sent = 0; sent < 40; sent++) peer.send(Frames.data(1, Frames.message(new Uint8Array(16_000))))
          peer.send(trailers(1, [["grpc-status", "0"]]), late)
        },
        onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const call = yield* connection.bidirectional(method)
          yield* until(() => framesOf(peer, Frames.Type.rstStream).length > 0)
          assert.strictEqual((yield* Stream.runCollect(call.messages)).length, 40)
        })
      )
      const [reset] = framesOf(peer, Frames.Type.rstStream)
      assert.deepStrictEqual([reset?.stream, reset?.payload.readUInt32BE(0)], [1, 5])
      yield* echo(connection)
    })
  )
})

describe("rules that concern the connection", () => {
  const broken: ReadonlyArray<readonly [string, (stream: number) => Uint8Array, code: number]> = [
    ["DATA on stream 0", () => Frames.data(0, request), 1],
    ["DATA on a stream of the server's", () => Frames.data(2, request), 1],
    ["HEADERS on an idle stream", () => Frames.headers(999, Frames.grpcHeaders), 1],
    ["RST_STREAM on an idle stream", () => Frames.rstStream(999, 1), 1],
    ["RST_STREAM on stream 0", () => Frames.rstStream(0, 1), 1],
    ["WINDOW_UPDATE on an idle stream", () => Frames.windowUpdate(999, 1), 1],
    ["CONTINUATION out of the blue", (stream) => Frames.frame(9, 4, stream, bytes()), 1],
    [
      "CONTINUATION of another stream",
      (stream) => Buffer.concat([Frames.headers(stream, [], 0), Frames.frame(9, 4, 7)]),
      1
    ],
    ["a header block that is interrupted", (s) => Buffer.concat([Frames.headers(s, [], 0), Frames.ping()]), 1],
    ["DATA within a header block", (s) => Buffer.concat([Frames.headers(s, [], 0), Frames.data(s, request)]), 1],
    ["a header block that is none", (stream) => Frames.frame(1, 4, stream, bytes(0xff, 0xff, 0xff, 0xff, 0xff)), 9],
    ["a header block that is none, of a stream that is closed", () => Frames.frame(1, 4, 1, bytes(0x80)), 9],
    ["PUSH_PROMISE", (stream) => Frames.frame(5, 4, stream, bytes(0, 0, 0, 2)), 1],
    ["padding longer than DATA", (stream) => Frames.frame(0, 8, stream, bytes(200, 1)), 1],
    ["padded DATA of nothing", (stream) => Frames.frame(0, 8, stream, bytes()), 6],
    ["padding longer than HEADERS", (stream) => Frames.frame(1, 0xc, stream, bytes(200, 1)), 1],
    ["HEADERS without room for their priority", (stream) => Frames.frame(1, 0x24, stream, bytes(1, 2)), 1],
    ["SETTINGS of odd length", () => Frames.frame(4, 0, 0, bytes(1, 2, 3)), 6],
    ["SETTINGS on a stream", (stream) => Frames.frame(4, 0, stream), 1],
    ["SETTINGS that switch push on", () => Frames.settings({ 2: 1 }), 1],
    ["SETTINGS with a window that is too large", () => Frames.settings({ 4: 0xffffffff }), 3],
    ["SETTINGS with frames that are too small", () => Frames.settings({ 5: 1 }), 1],
    ["an acknowledgement with a payload", () => Frames.frame(4, 1, 0, bytes(0, 3, 0, 0, 0, 1)), 6],
    ["an unasked acknowledgement", () => Frames.settingsAck, 1],
    ["PING of odd length", () => Frames.frame(6, 0, 0, bytes(1, 2, 3)), 6],
    ["PING on a stream", (stream) => Frames.frame(6, 0, stream, new Uint8Array(8)), 1],
    ["GOAWAY of odd length", () => Frames.frame(7, 0, 0, bytes(1)), 6],
    ["GOAWAY on a stream", (stream) => Frames.frame(7, 0, stream, new Uint8Array(8)), 1],
    ["a WINDOW_UPDATE of nothing", () => Frames.windowUpdate(0, 0), 1],
    ["a WINDOW_UPDATE of odd length", () => Frames.frame(8, 0, 0, bytes(1)), 6],
    ["a window that overflows", () => Frames.windowUpdate(0, 0x7fffffff), 3],
    ["RST_STREAM of odd length", (stream) => Frames.frame(3, 0, stream, bytes(1)), 6],
    ["PRIORITY on stream 0", () => Frames.frame(2, 0, 0, bytes(0, 0, 0, 0, 1)), 1],
    ["a frame larger than allowed", (stream) => Frames.data(stream, new Uint8Array(16_385)), 6]
  ]

  it.live.each(broken)("%s: GOAWAY says so, and so does the error", ([, frames, code]) =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        onRequestEnd: (stream, peer) => peer.send(stream === 1 ? Frames.answer(stream, request) : frames(stream))
      })
      yield* echo(connection)
      const error = yield* Effect.flip(connection.unary(method, request))
      assert.deepInclude(error, { kind: "ConnectionLost", code: 14, processed: "unknown" })
      assert.match(error.message, /broke the rules of HTTP\/2 \(.*\)/)
      yield* until(() => goawayCode(peer) === code)
      yield* until(() => peer.socket.destroyed)
    })
  )

  it.live("a server whose first frame is not SETTINGS does not speak HTTP/2", () =>
    Effect.gen(function* () {
      const server = yield* rawServer({ greeting: Frames.ping() })
      const error = yield* Effect.flip(Effect.scoped(connectTo(server.port)))
      assert.deepInclude(error, { kind: "Unreachable", processed: "no" })
      assert.match(error.message, /does not speak HTTP\/2/)
    })
  )

  it.live("a server that says goodbye at once", () =>
    Effect.gen(function* () {
      const { port } = yield* rawServer({ greeting: Buffer.concat([Frames.settings(), Frames.goaway(0, 11, "busy")]) })
      const connection = yield* connectTo(port)
      assert.match((yield* connection.closed).message, /ENHANCE_YOUR_CALM, "busy"/)
    })
  )
})

const ignore = () => {}

const ignoringHandler = {
  onHeaders: ignore,
  onData: () => true,
  onEnd: ignore,
  onReset: ignore,
  onWritable: ignore
}

/** A connection on a socket that a test plays. */
const connectionOfTest = () => {
  const handlers = new Map<string, (chunk?: Buffer) => void>()
  const broken: Array<string> = []
  const frames: Array<Frames.Frame> = []
  const read = Frames.makeFrameReader((frame) => void frames.push(frame))
  let written = 0
  const socket = {
    writableNeedDrain: false,
    writableLength: 0,
    on: (event: string, handler: () => void) => void handlers.set(event, handler),
    write: (piece: Uint8Array) => {
      read(Buffer.from(written === 0 ? piece.subarray(preface.length) : piece))
      written += piece.length
      socket.writableNeedDrain = true
    },
    cork: ignore,
    uncork: ignore
  }
  const connection = new Http2Connection(socket as unknown as net.Socket, {
    onSettings: ignore,
    onGoaway: ignore,
    onRoom: ignore,
    onBroken: (what) => void broken.push(what)
  })
  connection.start()
  return {
    connection,
    socket,
    broken,
    written: () => written,
    sent: (): ReadonlyArray<Frames.Frame> => frames,
    heard: (chunk: Buffer) => handlers.get("data")!(chunk),
    drained: () => handlers.get("drain")!()
  }
}

describe("many streams that wait", () => {
  /** Streams that count how often one of them is looked at. */
  const counted = (connection: Http2Connection) => {
    const looks = { count: 0 }
    const streams = Array.from({ length: 1000 }, () => {
      const stream = connection.open(bytes(), undefined, ignoringHandler)
      const { get } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(stream), "isBlocked")!
      Object.defineProperty(stream, "isBlocked", {
        get: () => {
          looks.count++
          return get!.call(stream)
        }
      })
      return stream
    })
    return { looks, streams }
  }

  it("for the window of the connection cost a message no look at those that wait already, nor an end", () => {
    const { connection, drained, sent, socket } = connectionOfTest()
    const { looks, streams } = counted(connection)
    const flush = () => {
      connection.outbox.flush()
      socket.writableNeedDrain = false
    }
    for (const stream of streams) {
      stream.write(new Uint8Array(1000), false)
      flush()
    }
    assert.isBelow(looks.count, 5 * streams.length)
    assert.isBelow(sent().filter(({ type }) => type === Frames.Type.data).length, 70)
    for (const stream of streams) {
      stream.end()
      flush()
    }
    assert.isBelow(looks.count, 10 * streams.length)
    drained()
    assert.isBelow(looks.count, 15 * streams.length)
  })

  it("for windows of their own cost no look at the others, neither a message nor more room", () => {
    const { connection, heard, sent, socket } = connectionOfTest()
    heard(Frames.settings({ 4: 10 }))
    heard(Frames.windowUpdate(0, 1_000_000))
    const { looks, streams } = counted(connection)
    const flush = () => {
      connection.outbox.flush()
      socket.writableNeedDrain = false
    }
    flush()
    const sentOf = (id: number) =>
      sent()
        .filter(({ stream, type }) => type === Frames.Type.data && stream === id)
        .map(({ payload }) => payload.length)
    for (const stream of streams) {
      stream.write(new Uint8Array(1000), true)
      flush()
    }
    assert.isBelow(looks.count, 10 * streams.length)
    for (const { id } of streams) assert.deepStrictEqual(sentOf(id), [10])
    for (const { id } of streams) {
      heard(Frames.windowUpdate(id, 20))
      flush()
    }
    assert.isBelow(looks.count, 20 * streams.length)
    for (const { id } of streams) assert.deepStrictEqual(sentOf(id), [10, 20])
  })

  it("for the socket go on in their turn when it takes more, also beside one that has just come", () => {
    const { connection, drained, heard, sent, socket } = connectionOfTest()
    heard(Frames.settings())
    heard(Frames.windowUpdate(0, 1_000_000))
    const [first, second, third] = [0, 1, 2].map(() => connection.open(bytes(), undefined, ignoringHandler))
    connection.outbox.flush()
    assert.isTrue(socket.writableNeedDrain)
    first!.write(new Uint8Array(20_000), true)
    second!.write(new Uint8Array(20_000), true)
    socket.writableNeedDrain = false
    third!.write(new Uint8Array(20_000), true)
    for (let round = 0; round < 6; round++) {
      connection.outbox.flush()
      socket.writableNeedDrain = false
      drained()
    }
    const order = sent().flatMap(({ stream, type }) => (type === Frames.Type.data ? [stream] : []))
    assert.deepStrictEqual(order, [first!.id, second!.id, third!.id, first!.id, second!.id, third!.id])
  })
})

describe("limits", () => {
  const floods: ReadonlyArray<readonly [string, (stream: number) => ReadonlyArray<Uint8Array>]> = [
    ["PING", () => [Frames.ping()]],
    ["SETTINGS", () => [Frames.settings({ 3: 100 })]],
    ["acknowledged PING", () => [Frames.ping(new Uint8Array(8), 1)]],
    ["empty DATA", (stream) => [Frames.data(stream, bytes())]],
    ["PRIORITY", (stream) => [Frames.frame(2, 0, stream, bytes(0, 0, 0, 0, 1))]],
    ["unknown frames", (stream) => [Frames.frame(0x99, 0, stream, bytes(1))]],
    ["WINDOW_UPDATE", (stream) => [Frames.windowUpdate(stream, 1)]],
    ["RST_STREAM of closed streams", () => [Frames.rstStream(1, 8)]],
    ["HEADERS of closed streams", () => [Frames.headers(1, [])]],
    ["interim answers", (stream) => [Frames.headers(stream, [[":status", "103"]])]]
  ]

  it.live.each(floods)("a flood of %s ends the connection", ([name, frames]) =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against({
        onRequestEnd: (stream, peer) => {
          if (stream === 1) return peer.send(Frames.answer(stream, request))
          const isAnswered = name !== "interim answers"
          if (isAnswered) peer.send(Frames.headers(stream, Frames.grpcHeaders))
          const batch = Buffer.concat(Array.from({ length: 1000 }, () => frames(stream)).flat())
          for (let count = 0; count < 12; count++) peer.send(batch)
        }
      })
      yield* echo(connection)
      const error = yield* Effect.flip(connection.unary(method, request))
      assert.deepInclude(error, { kind: "ConnectionLost", processed: "unknown" })
      assert.match(error.message, /in a row that are for no call/)
      // The answers to so many PINGs may leave no room for GOAWAY.
      yield* until(() => goawayCode(peer) === 11 || (name === "PING" && peer.socket.destroyed))
    })
  )

  it.live("what servers do say between answers does not add up", () =>
    Effect.gen(function* () {
      const { connection } = yield* against({
        onRequestEnd: (stream, peer) => {
          const chatter = Array.from({ length: 100 }, () => [Frames.ping(), Frames.windowUpdate(0, 1)]).flat()
          peer.send(...chatter, Frames.answer(stream, request))
        }
      })
      for (let call = 0; call < 120; call++) yield* echo(connection)
    })
  )

  it.live("late answers to calls that were cancelled are not held against a server", () =>
    Effect.gen(function* () {
      const count = 6000
      const late: Array<number> = []
      const { connection } = yield* against({
        onRequestEnd: (stream, peer) => {
          if (late.length < count) return void late.push(stream)
          for (const each of late) peer.send(Frames.answer(each, request))
          peer.send(Frames.answer(stream, request))
        }
      })
      const calls = yield* Effect.forEach(Array.from({ length: count }), () =>
        Effect.forkChild(connection.unary(method, request), { startImmediately: true })
      )
      yield* until(() => late.length === count)
      yield* Fiber.interruptAll(calls)
      yield* echo(connection)
    })
  )

  it.live("DATA of a stream that was reset may be as much as its window had left, and a byte more is too much", () =>
    Effect.gen(function* () {
      const first = Frames.data(1, Frames.message(new Uint8Array(10_000)))
      const left = 2 * 1024 * 1024 - (first.length - 9)
      const { connection, peer } = yield* against({
        onRequestEnd: (stream, peer) =>
          peer.send(...(stream === 1 ? [good(1), first] : [Frames.answer(stream, request)])),
        onFrame: ({ stream, type }, peer) => {
          if (type !== Frames.Type.rstStream || stream !== 1) return
          for (let sent = 0; sent < left; sent += 1000) {
            peer.send(Frames.data(1, new Uint8Array(Math.min(1000, left - sent))))
          }
        }
      })
      yield* Stream.runDrain(Stream.take(connection.serverStream(method, request), 1))
      yield* until(() => framesOf(peer, Frames.Type.rstStream).length === 1)
      yield* echo(connection)
      peer.send(Frames.data(1, bytes(1)))
      assert.match((yield* connection.closed).message, /more DATA of closed streams than their windows had left/)
      yield* until(() => goawayCode(peer) === 3)
    })
  )

  it.live("a stream that the server has ended has no window left", () =>
    Effect.gen(function* () {
      const { connection, peer } = yield* against(answering)
      yield* echo(connection)
      peer.send(Frames.data(1, bytes(1)))
      assert.match((yield* connection.closed).message, /more DATA of closed streams than their windows had left/)
      yield* until(() => goawayCode(peer) === 3)
    })
  )

  it.live("room for a request that was reset may be given back as slowly as it was used up", () =>
    Effect.gen(function* () {
      const sent = 12_000
      const { connection, peer } = yield* against({
        onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request)),
        onFrame: ({ stream, type }, peer) => {
          if (type !== Frames.Type.rstStream || stream !== 1) return
          peer.send(...Array.from({ length: sent }, () => Frames.windowUpdate(1, 1)))
        }
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const call = yield* connection.bidirectional(method)
          yield* call.send(new Uint8Array(sent))
          yield* until(() => framesOf(peer, Frames.Type.data).length > 0)
        })
      )
      yield* until(() => framesOf(peer, Frames.Type.rstStream).length === 1)
      yield* echo(connection)
    })
  )

  it("a frame is one frame, in however many pieces it comes", () => {
    const { broken, heard, connection } = connectionOfTest()
    heard(Frames.settings())
    connection.open(bytes(0x83), undefined, ignoringHandler).reset(8)
    for (const byte of Frames.data(1, new Uint8Array(16_000))) heard(Buffer.of(byte))
    assert.deepStrictEqual(broken, [])
  })

  it("frames that came while this process stood still are not held against a server, and a flood is", () => {
    const { now } = performance
    const { broken, heard } = connectionOfTest()
    const pings = Buffer.concat(Array.from({ length: 6000 }, () => Frames.ping(new Uint8Array(8), 1)))
    heard(Frames.settings())
    performance.now = () => now.call(performance) + 3_600_000
    heard(pings)
    heard(pings)
    assert.deepStrictEqual(broken, [])
    heard(pings)
    heard(pings)
    performance.now = now
    assert.strictEqual(broken.length, 1)
  })

  it.live("a header block without end is not waited for", () =>
    Effect.gen(function* () {
      for (const [size, count] of [
        [0, 100],
        [16_000, 10]
      ] as const) {
        const { connection, peer } = yield* against({
          onRequestEnd: (stream, peer) => {
            peer.send(Frames.headers(stream, [], 0))
            for (let part = 0; part < count; part++) peer.send(Frames.frame(9, 0, stream, new Uint8Array(size)))
          }
        })
        const error = yield* Effect.flip(connection.unary(method, request))
        assert.match(error.message, /header block that is too long/)
        yield* until(() => goawayCode(peer) === 11)
      }
    })
  )

  it.live("a server that asks and never reads the answers is given up", () =>
    Effect.gen(function* () {
      const { connection } = yield* against({
        onRequestEnd: (stream, peer) => {
          peer.socket.pause()
          const message = Frames.message(new Uint8Array(1_000_000))
          const pings = Buffer.concat(Array.from({ length: 5000 }, () => Frames.ping()))
          let at = 0
          const ask = () => {
            if (peer.socket.destroyed) return
            const useful = Frames.data(stream, message.subarray(at, at + 1))
            at++
            peer.socket.write(Buffer.concat([pings, useful]), ask)
          }
          peer.send(Frames.headers(stream, Frames.grpcHeaders))
          ask()
        }
      })
      const error = yield* Effect.flip(connection.unary(method, request))
      assert.match(error.message, /does not read the answers/)
    })
  )

  it("what is sent waits with its stream, and not with a socket that is full", () => {
    const { drained, heard, connection, socket, written } = connectionOfTest()
    connection.outbox.flush()
    socket.writableNeedDrain = false
    heard(Frames.settings({ 4: 0x7fffffff }))
    heard(Frames.windowUpdate(0, 0x7fff0000 - 65_535))
    const large = 16 * 1024 * 1024
    connection.open(bytes(0x83), undefined, ignoringHandler).write(new Uint8Array(large), true)
    connection.outbox.flush()
    assert.isFalse(connection.hasRoom)
    assert.isAtMost(written(), 512 * 1024)
    for (let turns = 0; written() < large; turns++) {
      const before = written()
      socket.writableNeedDrain = false
      drained()
      connection.outbox.flush()
      assert.isAbove(written(), before)
      assert.isAtMost(written() - before, 512 * 1024)
      assert.isBelow(turns, 1000)
    }
  })
})
