/**
 * What every gRPC transport must do, whatever it is made of, against servers of `node:http2` that break the rules of gRPC, and
 * against servers of raw frames that break the rules of HTTP/2.
 */
import { execFile } from "node:child_process"
import type * as http2 from "node:http2"
import * as net from "node:net"
import * as path from "node:path"
import process from "node:process"
import { getDefaultHighWaterMark, setDefaultHighWaterMark } from "node:stream"
import * as tls from "node:tls"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import {
  type CallOptions,
  type Connection,
  type ConnectionOptions,
  type Holder,
  type Target,
  type Transport,
  TransportError
} from "../../../src/internal/grpc/Transport.ts"
import {
  brokenOff,
  bytes,
  check,
  defaults,
  empty,
  lostNo,
  lostUnknown,
  protocol,
  requestsLeave,
  tcp,
  unreachable,
  unreachableForGood
} from "../../support/grpc/conformance.ts"
import * as Frames from "../../support/http2/frames.ts"
import { fuzzedFrames } from "../../support/http2/fuzz.ts"
import { independentServer } from "../../support/http2/independentServer.ts"
import * as Node from "../../support/http2/nodeServer.ts"
import { type Peer, rawServer } from "../../support/http2/rawServer.ts"
import { standStill, temporaryDirectory, until } from "../../support/machine.ts"
import { makeRandom } from "../../support/random.ts"
import { certificateOf, fixture, trusted } from "../../support/tls.ts"

const request = bytes(1, 2, 3)
const method = "/test.Service/Method"

const listening = <Server extends net.Server>(server: Server): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Server>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))),
    (server) => Effect.sync(() => void server.close())
  )

const portOf = (server: net.Server): number => (server.address() as net.AddressInfo).port

/** For servers that leave a client in doubt whether anything will ever come. */
const watchedClosely = { keepAliveIntervalMillis: 16, keepAliveTimeoutMillis: 32 }

const howItEnds = <A>(call: Effect.Effect<A, TransportError>): Effect.Effect<string> =>
  Effect.matchCause(call, {
    onFailure: (cause) =>
      cause.reasons.map((reason) => (Cause.isFailReason(reason) ? reason.error._tag : reason)).join(),
    onSuccess: () => "ok"
  })

export const transportConformance = (name: string, transport: Transport): void => {
  const connect = (target: Target, options: Partial<ConnectionOptions> = {}) =>
    transport.connect(target, { ...defaults, ...options })

  const failToConnect = (target: Target, options: Partial<ConnectionOptions> = {}) =>
    Effect.flip(Effect.scoped(connect(target, options)))

  /** A server of node:http2 that does this with each call, and a connection to it. */
  const against = Effect.fnUntraced(function* (handler: Node.Handler, options: Partial<ConnectionOptions> = {}) {
    const server = yield* Node.nodeServer(handler)
    return { ...server, connection: yield* connect(tcp(server.port), options) }
  })

  /** The same with raw frames. */
  const againstRaw = Effect.fnUntraced(function* (
    script: Parameters<typeof rawServer>[0],
    options: Partial<ConnectionOptions> = {}
  ) {
    const server = yield* rawServer(script)
    const connection = yield* connect(tcp(server.port), options)
    return { connection, peers: server.peers, peer: server.peers[0]! }
  })

  /** How one unary call fails, and proof that the connection is none the worse for it. */
  const failureOf = Effect.fnUntraced(function* (handler: Node.Handler, options: Partial<ConnectionOptions> = {}) {
    const { connection } = yield* against((stream, headers) => {
      if (headers[":path"] === method) handler(stream, headers)
      else Node.reply(stream, Frames.message(request))
    }, options)
    const error = yield* Effect.flip(connection.unary(method, request))
    assert.deepStrictEqual(yield* connection.unary("/test.Service/Good", request), request)
    return error
  })

  const rawFailureOf = Effect.fnUntraced(function* (
    onRequestEnd: (stream: number, peer: Peer) => void,
    options: Partial<ConnectionOptions> = {}
  ) {
    const { connection } = yield* againstRaw({ onRequestEnd }, options)
    return yield* Effect.flip(connection.unary(method, request))
  })

  const echo = (connection: Connection) =>
    Effect.map(connection.unary(method, request), (answer) => assert.deepStrictEqual(answer, request))

  describe(`transport conformance: ${name}`, () => {
    describe("calls", () => {
      it.live("a message may come in any pieces", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => {
            stream.respond(Node.grpcHeaders, { waitForTrailers: true })
            stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }))
            const body = Buffer.concat([1, 2, 300].map((length) => Frames.message(new Uint8Array(length).fill(length))))
            const next = (at: number): void => {
              if (at < body.length) stream.write(body.subarray(at, at + 1), () => setImmediate(next, at + 1))
              else stream.end()
            }
            next(0)
          })
          const messages = yield* Stream.runCollect(connection.serverStream(method, request))
          assert.deepStrictEqual(
            messages,
            [1, 2, 300].map((length) => new Uint8Array(length).fill(length))
          )
        })
      )

      it.live("any number of messages may come in one piece, empty ones too", () =>
        Effect.gen(function* () {
          const sizes = Array.from({ length: 500 }, (_, index) => index % 7)
          const { connection } = yield* against((stream) =>
            Node.reply(stream, Buffer.concat(sizes.map((size) => Frames.message(new Uint8Array(size).fill(size)))))
          )
          const messages = yield* Stream.runCollect(connection.serverStream(method, request))
          assert.deepStrictEqual(
            messages.map((message) => message.length),
            sizes
          )
        })
      )

      it.live("a message that is kept does not keep more than twice its size", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => Node.reply(stream, Frames.message(new Uint8Array(64))))
          const kept = yield* connection.unary(method, request)
          assert.isAtMost(kept.buffer.byteLength, 128)
        })
      )

      it.live("sends what gRPC asks for, the caller's metadata, and the deadline", () =>
        Effect.gen(function* () {
          let seen: http2.IncomingHttpHeaders = {}
          const body: Array<Buffer> = []
          const { connection } = yield* against((stream, headers) => {
            seen = headers
            stream.on("data", (chunk: Buffer) => body.push(chunk))
            stream.on("end", () => Node.reply(stream, Frames.message(request)))
          })
          yield* connection.unary(method, request, { metadata: { token: "t1" }, timeoutMillis: 5000 })
          assert.strictEqual(seen[":method"], "POST")
          assert.strictEqual(seen[":path"], method)
          assert.strictEqual(seen.te, "trailers")
          assert.strictEqual(seen["content-type"], "application/grpc")
          assert.strictEqual(seen.token, "t1")
          assert.strictEqual(seen["grpc-timeout"], "5000m")
          assert.deepStrictEqual(Buffer.concat(body), Frames.message(request))
        })
      )

      it.live("metadata that cannot be sent fails its own call", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => Node.reply(stream, Frames.message(request)))
          for (const metadata of [
            { token: "bad\nsecret" },
            { Token: "secret" },
            { tö: "secret" },
            { connection: "secret" }
          ]) {
            const error = yield* Effect.flip(connection.unary(method, request, { metadata }))
            check(error, { kind: "Protocol", code: 13, processed: "no" })
            assert.notInclude(error.message, "secret")
          }
          yield* echo(connection)
        })
      )

      it.live("headers that are too large to be sent", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => Node.reply(stream, Frames.message(request)))
          const metadata = { token: "x".repeat(2 * 1024 * 1024) }
          const error = yield* Effect.flip(connection.unary(method, request, { metadata }))
          check(error, { kind: "Protocol", code: 13, processed: "no" }, /could not be sent/)
        })
      )

      it.live("headers may be as large as the server takes, however little that is", () =>
        Effect.gen(function* () {
          const sizes: Array<number> = []
          const { connection } = yield* against((stream, headers) => {
            sizes.push(
              Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + value!.length + 32, 0)
            )
            Node.reply(stream, Frames.message(request))
          })
          const kinds = [{}, { timeoutMillis: 5000 }, { metadata: { token: "t1" }, timeoutMillis: 60_000 }]
          for (const options of kinds) {
            yield* connection.unary(method, request, options)
            const size = sizes.at(-1)!
            assert.isBelow(size, 512)
            const limitedTo = (limit: number) =>
              Effect.map(
                againstRaw({
                  greeting: Frames.settings({ 6: limit }),
                  onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
                }),
                ({ connection }) => connection.unary(method, request, options)
              )
            assert.deepStrictEqual(yield* yield* limitedTo(size), request)
            check(
              yield* Effect.flip(yield* limitedTo(size - 1)),
              { kind: "Protocol", code: 13, processed: "no" },
              new RegExp(`its headers have ${size} bytes and at most ${size - 1} are taken`)
            )
          }
        })
      )

      it.live("a bidirectional call sends and receives at once, and half-closes", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => {
            stream.respond(Node.grpcHeaders, { waitForTrailers: true })
            stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }))
            stream.on("data", (chunk: Buffer) => stream.write(chunk))
            stream.on("end", () => stream.end())
          })
          const sent = Array.from({ length: 200 }, (_, index) => new Uint8Array(index * 50).fill(index))
          const received = yield* Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              const reader = yield* Effect.forkChild(Stream.runCollect(call.messages))
              yield* Effect.forEach(sent, call.send)
              yield* call.end
              return yield* Fiber.join(reader)
            })
          )
          assert.deepStrictEqual(received, sent)
        })
      )

      it.live("sending on a call that is over fails", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => Node.reply(stream, Frames.message(request)))
          const call = yield* connection.bidirectional(method)
          yield* Stream.runDrain(call.messages)
          check(
            yield* Effect.flip(call.send(request)),
            { kind: "Protocol", code: 13, processed: "no" },
            /already ended the call/
          )
          const refused = yield* against((stream) => Node.reply(stream, empty, { "grpc-status": "7" }))
          const denied = yield* refused.connection.bidirectional(method)
          yield* Effect.flip(Stream.runDrain(denied.messages))
          check(yield* Effect.flip(denied.send(request)), { kind: "Status", code: 7, processed: "yes" })
        })
      )
    })

    describe("status", () => {
      it.live("from trailers, with the message percent-decoded and the rest as metadata", () =>
        Effect.gen(function* () {
          const error = yield* failureOf((stream) =>
            Node.reply(stream, empty, {
              "grpc-status": "9",
              "grpc-message": "50%25 of %E2%82%AC %zz %FF",
              "grpc-status-details-bin": "!! not base64",
              detail: "x"
            })
          )
          check(error, { kind: "Status", code: 9, processed: "yes" })
          assert.strictEqual(error.message, "50% of € %zz \ufffd")
          assert.strictEqual(error.metadata?.detail, "x")
        })
      )

      it.live("from an answer of trailers only", () =>
        Effect.gen(function* () {
          const error = yield* failureOf((stream) =>
            stream.respond({ ...Node.grpcHeaders, "grpc-status": "5", "grpc-message": "gone" }, { endStream: true })
          )
          check(error, { kind: "Status", code: 5, processed: "yes" }, /^gone$/)
        })
      )

      it.live("in a stream, after the messages before it", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) =>
            Node.reply(stream, Buffer.concat([Frames.message(bytes(1)), Frames.message(bytes(2))]), {
              "grpc-status": "11"
            })
          )
          const seen: Array<Uint8Array> = []
          const error = yield* Effect.flip(
            Stream.runForEach(connection.serverStream(method, request), (message) =>
              Effect.sync(() => void seen.push(message))
            )
          )
          check(error, { kind: "Status", code: 11, processed: "yes" })
          assert.deepStrictEqual(seen, [bytes(1), bytes(2)])
        })
      )

      it.live("that is no status at all", () =>
        Effect.gen(function* () {
          for (const status of ["17", "-1", "abc", "1e1", ""]) {
            const error = yield* failureOf((stream) => Node.reply(stream, empty, { "grpc-status": status }))
            assert.strictEqual(error.code, 2, status)
          }
          check(
            yield* failureOf((stream) => Node.reply(stream, empty, { other: "x" })),
            brokenOff(2),
            /without a gRPC status/
          )
          check(
            yield* failureOf((stream) => {
              stream.respond(Node.grpcHeaders)
              stream.end()
            }),
            brokenOff(2),
            /without a gRPC status/
          )
        })
      )
    })

    describe("answers that break the rules of gRPC fail their own call", () => {
      it.live("HTTP errors, redirects and pages", () =>
        Effect.gen(function* () {
          const answer =
            (status: number, headers: http2.OutgoingHttpHeaders, body: string): Node.Handler =>
            (stream) => {
              stream.respond({ ":status": status, ...headers })
              stream.end(body)
            }
          const gateway = yield* failureOf(answer(502, { "content-type": "text/html" }, "<h1>Bad\r\nGateway</h1>"))
          check(gateway, { kind: "Http", code: 14, processed: "unknown" }, /HTTP 502.*<h1>Bad Gateway<\/h1>/)
          const redirect = yield* failureOf(answer(302, { location: "https://example/login" }, ""))
          check(redirect, { kind: "Http", code: 2, processed: "unknown" }, /302.*https:\/\/example\/login/)
          const page = yield* failureOf(
            answer(200, { "content-type": "text/html; charset=utf-8" }, "x".repeat(100_000))
          )
          check(page, { kind: "Http", code: 2, processed: "unknown" }, /HTTP 200/)
          assert.isBelow(page.message.length, 700)
          const codes = [
            [400, 13],
            [401, 16],
            [403, 7],
            [404, 12],
            [429, 14],
            [503, 14],
            [504, 14],
            [500, 2]
          ] as const
          for (const [status, code] of codes) {
            check(yield* failureOf(answer(status, {}, "")), { kind: "Http", code, processed: "unknown" })
          }
        })
      )

      it.live("an error page that never ends", () =>
        Effect.gen(function* () {
          const error = yield* failureOf((stream) => {
            stream.respond({ ":status": 503, "content-type": "text/plain" })
            stream.write("busy")
          })
          check(error, { kind: "Http", code: 14, processed: "unknown" }, /"busy"/)
        })
      )

      it.live("a wrong or missing content type", () =>
        Effect.gen(function* () {
          for (const type of ["application/json", "application/grpcx", undefined]) {
            const error = yield* failureOf((stream) => {
              stream.respond({ ":status": 200, ...(type !== undefined && { "content-type": type }) })
              stream.end("{}")
            })
            check(error, protocol(2), /content type/)
          }
        })
      )

      it.live("compressed and malformed messages", () =>
        Effect.gen(function* () {
          check(
            yield* failureOf((stream) => Node.reply(stream, Frames.message(request, 1))),
            protocol(13),
            /compressed/
          )
          check(
            yield* failureOf((stream) => Node.reply(stream, Frames.message(request, 77))),
            protocol(13),
            /malformed/
          )
          const encoded = yield* failureOf((stream) => {
            stream.respond({ ...Node.grpcHeaders, "grpc-encoding": "gzip" })
            stream.end(Frames.message(request))
          })
          check(encoded, protocol(12), /gzip/)
        })
      )

      it.live("truncated messages", () =>
        Effect.gen(function* () {
          const whole = Frames.message(new Uint8Array(100))
          for (const length of [1, 4, 5, 104]) {
            check(yield* failureOf((stream) => Node.reply(stream, whole.subarray(0, length))), protocol(13), /cut off/)
          }
          const status = yield* failureOf((stream) =>
            Node.reply(stream, whole.subarray(0, 50), { "grpc-status": "14" })
          )
          check(status, { kind: "Status", code: 14, processed: "yes" })
          const brokeOff = yield* failureOf((stream) => {
            stream.respond(Node.grpcHeaders)
            stream.end(whole.subarray(0, 50))
          })
          check(brokeOff, brokenOff(13), /cut off after 45 of 100 bytes of a message, without a gRPC status/)
        })
      )

      it.live("too large a message, before it has arrived", () =>
        Effect.gen(function* () {
          const error = yield* failureOf(
            (stream) => {
              stream.respond(Node.grpcHeaders)
              stream.write(Frames.message(new Uint8Array(2000)).subarray(0, 10))
            },
            { maxReceiveMessageBytes: 1999 }
          )
          check(error, protocol(8), /2000 bytes.*1999/)
          const huge = yield* failureOf((stream) => {
            stream.respond(Node.grpcHeaders)
            stream.write(Buffer.from([0, 0xff, 0xff, 0xff, 0xff]))
          })
          check(huge, protocol(8), /4294967295 bytes/)
        })
      )

      it.live("no message, or two, where one was due", () =>
        Effect.gen(function* () {
          check(yield* failureOf((stream) => Node.reply(stream, empty)), protocol(13), /no message/)
          const two = Buffer.concat([Frames.message(request), Frames.message(request)])
          check(yield* failureOf((stream) => Node.reply(stream, two)), protocol(12), /more than one/)
        })
      )
    })

    describe("deadlines and cancellation", () => {
      it.live("a deadline ends the call here, and resets it", () =>
        Effect.gen(function* () {
          const { connection, streams } = yield* against(() => {})
          const error = yield* Effect.flip(connection.unary(method, request, { timeoutMillis: 30 }))
          check(error, { kind: "Deadline", code: 4, processed: "unknown" }, /30 ms/)
          yield* until(() => streams[0]?.rstCode === 8)
          const stream = yield* Effect.flip(
            Stream.runDrain(connection.serverStream(method, request, { timeoutMillis: 30 }))
          )
          check(stream, { kind: "Deadline", code: 4, processed: "unknown" })
          const past = yield* Effect.flip(connection.unary(method, request, { timeoutMillis: 0 }))
          check(past, { kind: "Deadline", code: 4, processed: "no" })
          assert.strictEqual(streams.length, 2)
        })
      )

      it.live("a deadline of years, and one that is none, do not end the call", () =>
        Effect.gen(function* () {
          const seen: Array<unknown> = []
          const { connection } = yield* against((stream, headers) => {
            seen.push(headers["grpc-timeout"])
            Node.reply(stream, Frames.message(request))
          })
          yield* connection.unary(method, request, { timeoutMillis: 1e12 })
          yield* connection.unary(method, request, { timeoutMillis: Number.POSITIVE_INFINITY })
          yield* connection.unary(method, request, { timeoutMillis: 0.5 }).pipe(Effect.ignore)
          assert.deepStrictEqual(seen.slice(0, 2), ["16666667M", undefined])
        })
      )

      it.live("an answer that came in time is read, however long it is, where this process stood still", () =>
        Effect.gen(function* () {
          // Two of them are more than the buffers of a socket hold.
          const answerBytes = 8 * 1024 * 1024
          const areRead = Effect.gen(function* () {
            const server = yield* independentServer(answerBytes)
            const connection = yield* connect(tcp(server.port), { maxReceiveMessageBytes: answerBytes })
            const calls = yield* Effect.forEach([1, 2], () =>
              Effect.forkChild(connection.unary(method, request, { timeoutMillis: 200 }), { startImmediately: true })
            )
            yield* requestsLeave
            yield* server.standStillUntilAnswered(2)
            // So long that all the patience is there that there can be.
            yield* standStill(1300)
            const answers = yield* Effect.forEach(calls, (call) => Effect.result(Fiber.join(call)))
            return answers.every((answer) => Result.isSuccess(answer) && answer.success.length === answerBytes)
          }).pipe(Effect.scoped)
          // On a busy machine the server may not run for so long that this looks as if there were no more of it.
          yield* Effect.repeat(Effect.repeat(areRead, { until: (isRead) => isRead }), { times: 2 })
        })
      )

      it.live.each(["end", "reset"] as const)(
        "an answer that came is read, though its server has gone and more is sent before that (%s)",
        (leaves) =>
          Effect.gen(function* () {
            const server = yield* independentServer(leaves)
            for (const [round, later] of [0, 1, 3].entries()) {
              const connection = yield* connect(tcp(server.port))
              const call = yield* Effect.forkChild(echo(connection), { startImmediately: true })
              yield* requestsLeave
              yield* server.standStillUntilAnswered(round + 1)
              const calls = yield* Effect.forEach(Array.from({ length: later }), () =>
                Effect.tap(
                  Effect.forkChild(Effect.flip(connection.unary(method, request)), { startImmediately: true }),
                  () => Effect.promise(() => Promise.resolve())
                )
              )
              yield* Fiber.join(call)
              for (const { kind } of yield* Fiber.joinAll(calls)) assert.strictEqual(kind, "ConnectionLost")
              yield* connection.closed
            }
          })
      )

      it.live("a server that says nothing has no more time for it that this process stood still", () =>
        Effect.gen(function* () {
          const { connection } = yield* againstRaw({})
          const call = yield* Effect.forkChild(Effect.flip(connection.unary(method, request, { timeoutMillis: 100 })), {
            startImmediately: true
          })
          yield* requestsLeave
          yield* standStill(500)
          check(yield* Fiber.join(call), { kind: "Deadline", code: 4, processed: "unknown" })
        })
      )

      it.live("interrupting a call resets it on the wire", () =>
        Effect.gen(function* () {
          const { connection, streams } = yield* against((stream) => {
            stream.respond(Node.grpcHeaders)
            stream.write(Frames.message(request))
          })
          const calls = yield* Effect.forEach(
            [
              connection.unary(method, request),
              Stream.runDrain(connection.serverStream(method, request)),
              Effect.scoped(Effect.flatMap(connection.bidirectional(method), (call) => Stream.runDrain(call.messages)))
            ],
            (call) => Effect.forkChild(call)
          )
          yield* until(() => streams.length === 3)
          yield* Fiber.interruptAll(calls)
          yield* until(() => streams.every((stream) => stream.rstCode === 8))
        })
      )

      it.live("a stream that is read in part, and a scope that closes, reset it too", () =>
        Effect.gen(function* () {
          const { connection, streams } = yield* against((stream) => {
            stream.respond(Node.grpcHeaders)
            stream.write(Frames.message(request))
          })
          yield* Stream.runDrain(Stream.take(connection.serverStream(method, request), 1))
          yield* Effect.scoped(connection.bidirectional(method))
          yield* until(() => streams.length >= 1 && streams.every((stream) => stream.rstCode === 8))
        })
      )

      it.live("ten thousand interrupted calls leave no stream open", () =>
        Effect.gen(function* () {
          let open = 0
          const noLimit = { streamResetBurst: 1_000_000, streamResetRate: 1_000_000 }
          const { port } = yield* Node.nodeServer((stream, headers) => {
            open++
            stream.on("close", () => open--)
            if (headers[":path"] !== method) Node.reply(stream, Frames.message(request))
          }, noLimit)
          const connection = yield* connect(tcp(port))
          yield* Effect.forEach(
            Array.from({ length: 100 }),
            () =>
              Effect.gen(function* () {
                const calls = yield* Effect.forEach(Array.from({ length: 100 }), () =>
                  Effect.forkChild(connection.unary(method, request), { startImmediately: true })
                )
                yield* connection.unary("/test.Service/Good", request)
                yield* Fiber.interruptAll(calls)
              }),
            { discard: true }
          )
          yield* connection.unary("/test.Service/Good", request)
          yield* until(() => open === 0)
        })
      )
    })

    describe("a unary call that somebody holds", () => {
      const given = (message: string) =>
        new TransportError({ kind: "ConnectionLost", code: 14, processed: "unknown", message })
      const first = given("ended by its holder")
      const second = given("ended once more")

      const held = (connection: Connection, options: CallOptions = {}) =>
        Effect.gen(function* () {
          const holder: Holder = { begun: undefined }
          const fiber = yield* Effect.forkChild(
            Effect.exit(connection.unary(method, request, { ...options, holder })),
            {
              startImmediately: true
            }
          )
          return { fiber, call: holder.begun! }
        })

      const endTwice = Effect.fnUntraced(function* ({ call, fiber }: Effect.Success<ReturnType<typeof held>>) {
        call.end(first)
        call.end(second)
        assert.strictEqual(yield* Effect.flip(yield* Fiber.join(fiber)), first)
        call.end(second)
      })

      it.live("ends when it is on the wire, with part of its answer there or none, and its stream is reset", () =>
        Effect.gen(function* () {
          const whole = Frames.message(request)
          const begun: Array<http2.ServerHttp2Stream> = []
          const { connection } = yield* against((stream, headers) => {
            if (headers[":path"] !== method) return Node.reply(stream, whole)
            begun.push(stream)
            if (begun.length === 1) return
            stream.respond(Node.grpcHeaders)
            stream.write(begun.length === 2 ? whole : whole.subarray(0, 6))
          })
          for (let count = 1; count <= 3; count++) {
            const one = yield* held(connection)
            assert.isTrue(one.call.isSent)
            yield* until(() => begun.length === count)
            yield* connection.unary("/test.Service/Good", request)
            yield* endTwice(one)
            yield* until(() => begun.at(-1)?.rstCode === 8)
          }
          yield* connection.unary("/test.Service/Good", request)
        })
      )

      it.live("ends in the moment in which it begins", () =>
        Effect.gen(function* () {
          const { connection } = yield* against((stream) => Node.reply(stream, Frames.message(request)))
          for (let count = 0; count < 3; count++) yield* endTwice(yield* held(connection))
          yield* echo(connection)
        })
      )

      it.live("ends while it waits for room, and never goes out", () =>
        Effect.gen(function* () {
          const streams: Array<http2.ServerHttp2Stream> = []
          const server = yield* Node.nodeServer((stream) => void streams.push(stream), {
            settings: { maxConcurrentStreams: 1 }
          })
          const connection = yield* connect(tcp(server.port))
          const running = yield* held(connection)
          yield* until(() => streams.length === 1)
          const waiting = yield* held(connection)
          const last = yield* held(connection)
          assert.deepStrictEqual([running.call.isSent, waiting.call.isSent, last.call.isSent], [true, false, false])
          yield* endTwice(waiting)
          Node.reply(streams[0]!, Frames.message(request))
          assert.deepStrictEqual(yield* yield* Fiber.join(running.fiber), request)
          yield* until(() => streams.length === 2)
          assert.isTrue(last.call.isSent)
          Node.reply(streams[1]!, Frames.message(request))
          assert.deepStrictEqual(yield* yield* Fiber.join(last.fiber), request)
          assert.strictEqual(streams.length, 2)
        })
      )

      it.live("does not end again when it is over, however it ended", () =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const { port } = yield* Node.nodeServer((stream, headers) => {
            if (headers.silent === undefined) Node.reply(stream, Frames.message(request))
          })
          const connection = yield* Scope.provide(connect(tcp(port)), scope)
          const answered = yield* held(connection)
          assert.deepStrictEqual(yield* yield* Fiber.join(answered.fiber), request)
          answered.call.end(first)

          const interrupted = yield* held(connection, { metadata: { silent: "yes" } })
          yield* Fiber.interrupt(interrupted.fiber)
          interrupted.call.end(first)

          const expired = yield* held(connection, { metadata: { silent: "yes" }, timeoutMillis: 10 })
          assert.strictEqual((yield* Effect.flip(yield* Fiber.join(expired.fiber))).kind, "Deadline")
          expired.call.end(first)

          yield* Scope.close(scope, Exit.void)
          for (const options of [{}, { timeoutMillis: 0 }, { metadata: { "not a name": "x" } }]) {
            const failed = yield* held(connection, options)
            failed.call.end(first)
            const error = yield* Effect.flip(yield* Fiber.join(failed.fiber))
            assert.notStrictEqual(error, first)
            assert.strictEqual(error.processed, "no")
            assert.isFalse(failed.call.isSent)
          }
        })
      )
    })

    describe("the limit of concurrent streams", () => {
      it.live("calls over it wait; those that end before they are sent never go out", () =>
        Effect.gen(function* () {
          const held: Array<http2.ServerHttp2Stream> = []
          const server = yield* Node.nodeServer((stream) => void held.push(stream), {
            settings: { maxConcurrentStreams: 1 }
          })
          const connection = yield* connect(tcp(server.port))
          const first = yield* Effect.forkChild(connection.unary(method, request), { startImmediately: true })
          yield* until(() => held.length === 1)
          const late = yield* Effect.flip(connection.unary(method, request, { timeoutMillis: 20 }))
          check(
            late,
            { kind: "Deadline", code: 4, processed: "no" },
            /before the request was sent.*no more than 1 calls/
          )
          const interrupted = yield* Effect.forkChild(connection.unary(method, request), { startImmediately: true })
          yield* Fiber.interrupt(interrupted)
          const second = yield* Effect.forkChild(connection.unary(method, request), { startImmediately: true })
          const third = yield* Effect.forkChild(
            connection.bidirectional(method).pipe(
              Effect.flatMap((call) => Effect.andThen(call.send(request), Stream.runCollect(call.messages))),
              Effect.scoped
            ),
            { startImmediately: true }
          )
          for (const [index, fiber] of [first, second, third].entries()) {
            yield* until(() => held.length === index + 1)
            Node.reply(held[index]!, Frames.message(request))
            yield* Fiber.join<unknown, TransportError>(fiber)
          }
          assert.strictEqual(held.length, 3)
        })
      )

      it.live("calls that wait were not processed when the connection breaks", () =>
        Effect.gen(function* () {
          const { connection, peer } = yield* againstRaw({ greeting: Frames.settings({ 3: 1 }) })
          const first = yield* Effect.forkChild(Effect.flip(connection.unary(method, request)), {
            startImmediately: true
          })
          const second = yield* Effect.forkChild(Effect.flip(connection.unary(method, request)), {
            startImmediately: true
          })
          yield* until(() => peer.frames.some(({ type }) => type === Frames.Type.data))
          peer.socket.destroy()
          check(yield* Fiber.join(first), lostUnknown)
          check(yield* Fiber.join(second), lostNo)
        })
      )

      it.live("a limit that is raised lets the waiting calls go", () =>
        Effect.gen(function* () {
          const { connection, peer } = yield* againstRaw({
            greeting: Frames.settings({ 3: 0 }),
            onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request))
          })
          const call = yield* Effect.forkChild(echo(connection), { startImmediately: true })
          peer.send(Frames.settings({ 3: 10 }))
          yield* Fiber.join(call)
        })
      )

      it.live(
        "a limit that is lowered while calls are under way lets them end, and the next ones wait for their turn",
        () =>
          Effect.gen(function* () {
            const begun: Array<number> = []
            const { connection, peer } = yield* againstRaw({
              greeting: Frames.settings({ 3: 10 }),
              onRequestEnd: (stream) => void begun.push(stream)
            })
            const start = Effect.forkChild(echo(connection), { startImmediately: true })
            const answerNext = () => peer.send(Frames.answer(begun.shift()!, request))
            const settle = (limit: number) => {
              const acknowledged = peer.frames.length
              peer.send(Frames.settings({ 3: limit }))
              const isAcknowledged = ({ flags, type }: Frames.Frame) => type === Frames.Type.settings && flags === 1
              return until(() => peer.frames.slice(acknowledged).some(isAcknowledged))
            }
            const first = [yield* start, yield* start, yield* start]
            yield* until(() => begun.length === 3)
            yield* settle(0)
            const later = [yield* start, yield* start, yield* start]
            for (const call of first) {
              answerNext()
              yield* Fiber.join(call)
            }
            assert.strictEqual(begun.length, 0)
            yield* settle(1)
            for (const call of later) {
              yield* until(() => begun.length > 0)
              assert.strictEqual(begun.length, 1)
              answerNext()
              yield* Fiber.join(call)
            }
          })
      )
    })

    describe("flow control", () => {
      it.live("a reader that does not read stops the sender, and holds up nobody else", () =>
        Effect.gen(function* () {
          let sent = 0
          const chunk = Frames.message(new Uint8Array(64 * 1024 - 5))
          const { connection } = yield* against((stream, headers) => {
            if (headers[":path"] !== method) return Node.reply(stream, Frames.message(request))
            stream.respond(Node.grpcHeaders)
            const pump = () => {
              while (sent < 1024 * 1024 * 1024) {
                sent += chunk.length
                if (!stream.write(chunk)) return void stream.once("drain", pump)
              }
            }
            pump()
          })
          yield* Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              const step = yield* Stream.toPull(call.messages)
              yield* step
              let before = -1
              yield* until(() => {
                const still = sent === before
                before = sent
                return still && sent > 0
              })
              assert.isBelow(sent, 8 * 1024 * 1024)
              for (let index = 0; index < 20; index++) yield* connection.unary("/test.Service/Good", request)
              const target = sent + 16 * 1024 * 1024
              while (sent < target) yield* step
            })
          )
        })
      )

      it.live("a large message goes out wherever the program has set the high-water mark of its streams", () =>
        Effect.gen(function* () {
          const usual = getDefaultHighWaterMark(false)
          yield* Effect.addFinalizer(() => Effect.sync(() => setDefaultHighWaterMark(false, usual)))
          const large = new Uint8Array(4 * 1024 * 1024)
          const settings = { initialWindowSize: 0x7fffffff }
          const socket = path.join(yield* temporaryDirectory, "s.sock")
          const answered: Node.Handler = (stream) => {
            stream.resume()
            stream.on("end", () => Node.reply(stream, Frames.message(request)))
          }
          const certificate = { cert: fixture.text("server.pem"), key: fixture.text("server.key") }
          const plain = yield* Node.nodeServer(answered, { settings })
          const secure = yield* Node.secureServer(answered, { settings, ...certificate }, socket)
          for (const { server } of [plain, secure]) {
            server.on("session", (session) => session.setLocalWindowSize(0x7fff0000))
          }
          for (const target of [tcp(plain.port), { _tag: "Unix", path: socket, tls: trusted() } as const]) {
            for (const mark of [1, 8 * 1024 * 1024]) {
              setDefaultHighWaterMark(false, mark)
              const connection = yield* connect(target)
              yield* echo(connection)
              assert.deepStrictEqual(yield* connection.unary(method, large), request)
            }
          }
        })
      )

      it.live("messages that nobody reads are bounded in number too, and may be empty", () =>
        Effect.gen(function* () {
          const most = 16 * 1024 * 1024
          let sent = 0
          const chunk = Buffer.concat(Array.from({ length: 10_000 }, () => Frames.message(empty)))
          const { connection } = yield* against((stream) => {
            stream.respond(Node.grpcHeaders)
            const pump = () => {
              while (sent < most) {
                sent += chunk.length
                if (!stream.write(chunk)) return void stream.once("drain", pump)
              }
            }
            pump()
          })
          yield* Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              const step = yield* Stream.toPull(call.messages)
              yield* step
              let before = -1
              yield* until(() => {
                const still = sent === before
                before = sent
                return still && sent > 0
              })
              assert.isBelow(sent, most)
            })
          )
        })
      )

      it.live("sending waits for a server that does not read", () =>
        Effect.gen(function* () {
          const { connection, streams } = yield* against((stream, headers) => {
            if (headers[":path"] !== method) return Node.reply(stream, Frames.message(request))
            stream.respond(Node.grpcHeaders)
          })
          yield* Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              let sent = 0
              const chunk = new Uint8Array(64 * 1024)
              const sender = yield* Effect.forkChild(
                Effect.forever(
                  Effect.map(call.send(chunk), () => {
                    sent += chunk.length
                  })
                )
              )
              let before = -1
              yield* until(() => {
                const still = sent === before && streams.length === 1
                before = sent
                return still
              })
              assert.isBelow(sent, 8 * 1024 * 1024)
              const target = sent + 4 * 1024 * 1024
              streams[0]!.resume()
              yield* until(() => sent >= target)
              yield* Fiber.interrupt(sender)
            })
          )
        })
      )

      it.live("sending one large message waits until it has gone", () =>
        Effect.gen(function* () {
          const { connection, streams } = yield* against((stream) => stream.respond(Node.grpcHeaders))
          yield* Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              const sender = yield* Effect.forkChild(call.send(new Uint8Array(4 * 1024 * 1024)), {
                startImmediately: true
              })
              yield* until(() => streams.length === 1 && streams[0]!.readableLength > 0)
              assert.isUndefined(sender.pollUnsafe())
              streams[0]!.resume()
              yield* Fiber.join(sender)
            })
          )
        })
      )

      it.live("answers that were on their way to cancelled calls use up no window of the others", () =>
        Effect.gen(function* () {
          let window = 65_535
          let floods = 0
          const { connection } = yield* againstRaw({
            onFrame: ({ payload, stream, type }) => {
              if (type === Frames.Type.windowUpdate && stream === 0) window += payload.readUInt32BE(0)
            },
            onRequestEnd: (stream, peer) => {
              if (stream % 4 === 3) return peer.send(Frames.answer(stream, request))
              const frames = Math.min(127, Math.floor(window / 16_384))
              window -= frames * 16_384
              assert.strictEqual(frames, 127)
              const flood = Array.from({ length: frames }, () => Frames.data(stream, new Uint8Array(16_384)))
              peer.send(Frames.headers(stream, Frames.grpcHeaders), ...flood)
              floods++
            }
          })
          for (let count = 1; count <= 20; count++) {
            const call = yield* Effect.forkChild(
              Stream.runForEach(connection.serverStream(method, request), () => Effect.never),
              { startImmediately: true }
            )
            yield* until(() => floods === count)
            yield* Fiber.interrupt(call)
            yield* echo(connection)
          }
        })
      )
    })

    describe("resets and GOAWAY", () => {
      const reset = (code: number) => rawFailureOf((stream, peer) => peer.send(Frames.rstStream(stream, code)))

      it.live("a refused stream was not processed; any other reset may have been", () =>
        Effect.gen(function* () {
          const codes = [
            [1, 13, /PROTOCOL_ERROR/],
            [2, 13, /INTERNAL_ERROR/],
            [3, 13, /FLOW_CONTROL_ERROR/],
            [5, 13, /STREAM_CLOSED/],
            [6, 13, /FRAME_SIZE_ERROR/],
            [8, 1, /CANCEL/],
            [9, 13, /COMPRESSION_ERROR/],
            [11, 8, /ENHANCE_YOUR_CALM/],
            [12, 7, /INADEQUATE_SECURITY/],
            [0xabcdef, 13, /11259375/],
            [0, 2, /without a gRPC status/]
          ] as const
          check(yield* reset(7), lostNo, /REFUSED_STREAM/)
          for (const [code, status, message] of codes) check(yield* reset(code), brokenOff(status), message)
        })
      )

      it.live("a call whose answer has begun may have been processed, whatever the server says after it", () =>
        Effect.gen(function* () {
          const contradictions: ReadonlyArray<(stream: number) => ReadonlyArray<Buffer>> = [
            (stream) => [Frames.rstStream(stream, 7)],
            () => [Frames.goaway(0, 0)],
            () => [Frames.goaway(0, 2)],
            (stream) => [Frames.goaway(0, 0), Frames.rstStream(stream, 7)]
          ]
          for (const contradict of contradictions) {
            for (const begun of [empty, Frames.message(request).subarray(0, 6), Frames.message(request)]) {
              const error = yield* rawFailureOf((stream, peer) => {
                peer.send(Frames.headers(stream, Frames.grpcHeaders), Frames.data(stream, begun), ...contradict(stream))
              })
              assert.deepStrictEqual([error.kind, error.processed], ["ConnectionLost", "unknown"], error.message)
            }
          }
        })
      )

      it.live("a reset fails its own call alone", () =>
        Effect.gen(function* () {
          const { connection } = yield* againstRaw({
            onRequestEnd: (stream, peer) =>
              peer.send(stream === 1 ? Frames.rstStream(stream, 2) : Frames.answer(stream, request))
          })
          yield* Effect.flip(connection.unary(method, request))
          yield* echo(connection)
        })
      )

      it.live("a status that came before the reset counts", () =>
        Effect.gen(function* () {
          const error = yield* rawFailureOf((stream, peer) =>
            peer.send(
              Frames.headers(stream, [...Frames.grpcHeaders, ["grpc-status", "8"]], 0x5),
              Frames.rstStream(stream, 0)
            )
          )
          check(error, { kind: "Status", code: 8, processed: "yes" })
        })
      )

      it.live("a reset after part of a stream comes after the messages", () =>
        Effect.gen(function* () {
          const { connection } = yield* againstRaw({
            onRequestEnd: (stream, peer) =>
              peer.send(
                Frames.headers(stream, Frames.grpcHeaders),
                Frames.data(stream, Frames.message(request)),
                Frames.rstStream(stream, 2)
              )
          })
          const exit = yield* Effect.exit(Stream.runDrain(connection.serverStream(method, request)))
          assert.isTrue(Exit.isFailure(exit))
        })
      )

      it.live("sending on a call that broke off behind messages that are still to be read fails as such", () =>
        Effect.gen(function* () {
          for (const code of [0, 2]) {
            const { connection, peer } = yield* againstRaw({
              onRequest: (stream, peer) => {
                const messages = Array.from({ length: 40 }, () =>
                  Frames.data(stream, Frames.message(new Uint8Array(16_000)))
                )
                peer.send(Frames.headers(stream, Frames.grpcHeaders), ...messages)
              }
            })
            yield* Effect.scoped(
              Effect.gen(function* () {
                const call = yield* connection.bidirectional(method)
                const sender = yield* Effect.forkChild(Effect.flip(Effect.forever(call.send(new Uint8Array(16_000)))))
                const received = () =>
                  peer.frames.reduce((sum, { payload, type }) => sum + (type === 0 ? payload.length : 0), 0)
                yield* until(() => received() === 65_535)
                peer.send(Frames.rstStream(1, code))
                const { kind } = yield* Fiber.join(sender)
                assert.strictEqual(kind, "ConnectionLost")
              })
            )
          }
        })
      )

      it.live("a stream that ends in the middle, whether it was reset or not, was lost and broke no contract", () =>
        Effect.gen(function* () {
          const endings: ReadonlyArray<readonly [(stream: number) => Buffer, code: number]> = [
            [(stream) => Frames.rstStream(stream, 0), 2],
            [(stream) => Frames.rstStream(stream, 1), 13],
            [(stream) => Frames.rstStream(stream, 3), 13],
            [(stream) => Frames.data(stream, empty, Frames.Flag.endStream), 2],
            [(stream) => Frames.headers(stream, [["other", "x"]], 0x5), 2]
          ]
          for (const [ending, code] of endings) {
            const { connection } = yield* againstRaw({
              onRequestEnd: (stream, peer) =>
                peer.send(
                  Frames.headers(stream, Frames.grpcHeaders),
                  Frames.data(stream, Frames.message(request)),
                  ending(stream)
                )
            })
            check(yield* Effect.flip(Stream.runDrain(connection.serverStream(method, request))), brokenOff(code))
          }
          // A server in Go may do so that ends a call while it is answering it.
          const { connection } = yield* againstRaw({
            onRequestEnd: (stream, peer) =>
              peer.send(
                Frames.data(stream, Frames.message(request)),
                Frames.headers(stream, [...Frames.grpcHeaders, ["grpc-status", "8"]], 0x5)
              )
          })
          assert.strictEqual((yield* Effect.flip(connection.unary(method, request))).kind, "ConnectionLost")
        })
      )

      it.live("GOAWAY: calls above its id were not processed, those below it finish, new ones are refused", () =>
        Effect.gen(function* () {
          const { connection, peer } = yield* againstRaw({})
          const calls = yield* Effect.forEach([1, 2, 3], () =>
            Effect.forkChild(Effect.exit(connection.unary(method, request)), { startImmediately: true })
          )
          yield* until(() => peer.frames.filter(({ type }) => type === Frames.Type.data).length === 3)
          peer.send(Frames.goaway(0x7fffffff, 0))
          check(yield* connection.closed, lostNo, /GOAWAY NO_ERROR/)
          check(yield* Effect.flip(connection.unary(method, request)), lostNo, /was not sent/)
          peer.send(Frames.goaway(3, 0))
          const third = yield* Fiber.join(calls[2]!)
          check(yield* Effect.flip(third), lostNo, /GOAWAY/)
          peer.send(Frames.answer(1, request), Frames.answer(3, request))
          for (const call of calls.slice(0, 2)) {
            assert.deepStrictEqual(yield* yield* Fiber.join(call), request)
          }
        })
      )

      it.live.each([
        ["that is final", 1],
        ["that announces another one", 0x7fffffff]
      ] as const)("a call in the instant of a GOAWAY %s was not processed", ([, lastStreamId]) =>
        Effect.gen(function* () {
          for (const rest of [empty, Frames.ping(), Frames.goaway(1, 0)]) {
            const { connection, peer } = yield* againstRaw({
              onRequestEnd: (stream, peer) => {
                if (stream === 1) peer.send(Frames.answer(1, request), Frames.goaway(lastStreamId, 0), rest)
                else if (lastStreamId === 0x7fffffff) peer.send(Frames.goaway(1, 0))
              }
            })
            yield* echo(connection)
            check(yield* Effect.flip(connection.unary(method, request)), lostNo)
            check(yield* connection.closed, lostNo, /GOAWAY/)
            assert.isAtMost(peer.frames.filter(({ type }) => type === Frames.Type.headers).length, 2)
          }
        })
      )

      it.live("calls that are begun as a server drains again and again are answered, or were not processed", () =>
        Effect.gen(function* () {
          const perConnection = 5
          const taken = new Set<string>()
          const requests = new Map<Peer, number>()
          const server = yield* rawServer({
            onRequestEnd: (stream, peer) => {
              const count = (requests.get(peer) ?? 0) + 1
              requests.set(peer, count)
              const body = peer.frames.filter((frame) => frame.stream === stream && frame.type === Frames.Type.data)
              const message = Buffer.concat(body.map(({ payload }) => payload)).subarray(5)
              if (count <= perConnection) {
                assert.isFalse(taken.has(message.toString()), "no request is taken up twice")
                taken.add(message.toString())
                peer.send(Frames.answer(stream, message))
              }
              if (count === perConnection) peer.send(Frames.goaway(stream, 0))
            }
          })
          const open = connect(tcp(server.port))
          let connection = yield* open
          const call = (index: number): Effect.Effect<Uint8Array, TransportError, Scope.Scope> =>
            connection.unary(method, Buffer.from(`request ${index}`)).pipe(
              Effect.catch((error) => {
                check(error, lostNo)
                return Effect.flatMap(open, (another) => {
                  connection = another
                  return call(index)
                })
              })
            )
          const answers = yield* Effect.forEach(Array.from({ length: 100 }), (_, index) => call(index), {
            concurrency: 10
          })
          assert.strictEqual(answers.length, 100)
          assert.strictEqual(taken.size, 100)
        })
      )

      it.live("GOAWAY with an error fails what is outstanding and says why", () =>
        Effect.gen(function* () {
          const { connection, peer } = yield* againstRaw({})
          const calls = yield* Effect.forEach([1, 2], () =>
            Effect.forkChild(Effect.flip(connection.unary(method, request)), { startImmediately: true })
          )
          yield* until(() => peer.frames.filter(({ type }) => type === Frames.Type.data).length === 2)
          peer.send(Frames.goaway(1, 11, "too_many_pings"))
          peer.socket.end()
          check(yield* Fiber.join(calls[0]!), lostUnknown, /ENHANCE_YOUR_CALM.*too_many_pings/)
          check(yield* Fiber.join(calls[1]!), lostNo, /too_many_pings/)
          check(yield* connection.closed, lostNo, /too_many_pings/)
        })
      )

      it.live("a draining connection is still watched", () =>
        Effect.gen(function* () {
          let silent = false
          const { connection, peer } = yield* againstRaw(
            {
              polite: false,
              onFrame: (frame, peer) => {
                if (silent) return
                if (frame.type === Frames.Type.settings && frame.flags === 0) peer.send(Frames.settingsAck)
              }
            },
            { keepAliveIntervalMillis: 20, keepAliveTimeoutMillis: 50 }
          )
          const call = yield* Effect.forkChild(Effect.flip(connection.unary(method, request)), {
            startImmediately: true
          })
          yield* until(() => peer.frames.some(({ type }) => type === Frames.Type.data))
          peer.send(Frames.goaway(1, 0))
          yield* connection.closed
          silent = true
          check(yield* Fiber.join(call), lostUnknown)
        })
      )
    })

    describe("connections", () => {
      it.live("a server that goes silent is noticed, with a call outstanding and without", () =>
        Effect.gen(function* () {
          let silent = false
          const script = {
            polite: false,
            onFrame: (frame: Frames.Frame, peer: Peer) => {
              if (!silent && frame.type === Frames.Type.settings && frame.flags === 0) peer.send(Frames.settingsAck)
            }
          }
          const watched = { keepAliveIntervalMillis: 20, keepAliveTimeoutMillis: 50 }
          const idle = yield* againstRaw(script, watched)
          const busy = yield* againstRaw(script, watched)
          const call = yield* Effect.forkChild(Effect.flip(busy.connection.unary(method, request)))
          const probes = (peer: Peer) =>
            peer.frames.filter((frame) => frame.type === Frames.Type.settings && frame.flags === 0)
          yield* until(() => probes(idle.peer).length > 3 && probes(busy.peer).length > 3)
          silent = true
          check(yield* idle.connection.closed, lostNo, /not answered/)
          check(yield* Fiber.join(call), lostUnknown, /not answered/)
        })
      )

      it.live("a server is not given up for time in which this process stood still, and is when it is silent", () =>
        Effect.gen(function* () {
          let silent = false
          const { connection, peer } = yield* againstRaw(
            {
              polite: false,
              onFrame: (frame, peer) => {
                if (!silent && frame.type === Frames.Type.settings && frame.flags === 0) peer.send(Frames.settingsAck)
              }
            },
            { keepAliveIntervalMillis: 20, keepAliveTimeoutMillis: 50 }
          )
          const closed = yield* Effect.forkChild(connection.closed)
          for (let round = 0; round < 3; round++) {
            connection.probe()
            yield* requestsLeave
            yield* standStill(150)
            yield* Effect.sleep(20)
          }
          assert.isUndefined(closed.pollUnsafe())
          silent = true
          check(yield* Fiber.join(closed), lostNo, /not answered/)
          assert.isAbove(peer.frames.length, 1)
        })
      )

      it.live("a server that answers no question, and is heard all the time, is not given up", () =>
        Effect.gen(function* () {
          const { connection, peer } = yield* againstRaw(
            {
              polite: false,
              onFrame: (frame, peer) => {
                if (frame.type === Frames.Type.ping) setTimeout(() => peer.send(Frames.ping()), 3)
              }
            },
            { keepAliveIntervalMillis: 16, keepAliveTimeoutMillis: 20 }
          )
          peer.send(Frames.settingsAck, Frames.ping())
          const closed = yield* Effect.forkChild(connection.closed)
          for (let asked = 0; asked < 30; asked++) {
            const heard = connection.bytesHeard()
            yield* until(() => connection.bytesHeard() > heard || closed.pollUnsafe() !== undefined)
            connection.probe()
            yield* Effect.sleep(25)
          }
          assert.isUndefined(closed.pollUnsafe())
        })
      )

      it.live("a connection that breaks fails what is outstanding, and closes", () =>
        Effect.gen(function* () {
          for (const how of ["destroy", "resetAndDestroy", "end"] as const) {
            const { connection } = yield* againstRaw({ onRequestEnd: (_, peer) => void peer.socket[how]() })
            const stream = yield* Effect.forkChild(
              Effect.flip(Stream.runDrain(connection.serverStream(method, request))),
              { startImmediately: true }
            )
            check(yield* Effect.flip(connection.unary(method, request)), lostUnknown)
            check(yield* Fiber.join(stream), lostUnknown)
            check(yield* connection.closed, lostNo)
          }
        })
      )

      it.live("an idle connection keeps no process alive, however its calls have ended", () =>
        Effect.gen(function* () {
          const { port } = yield* rawServer({
            greeting: Frames.settings({ 3: 2 }),
            onFrame: ({ payload, stream, type }, peer) => {
              if (type === Frames.Type.data && payload[5] === 1) peer.send(Frames.answer(stream, request))
            }
          })
          const script = fileURLToPath(new URL("../../support/http2/idleProcess.ts", import.meta.url))
          const output = yield* Effect.callback<string, Error>((resume) => {
            const child = execFile(process.execPath, [script, name, String(port)], (error, stdout) =>
              resume(error === null ? Effect.succeed(stdout) : Effect.fail(error))
            )
            return Effect.sync(() => child.kill("SIGKILL"))
          })
          assert.strictEqual(output, "done")
        })
      )

      it.live("closing the scope fails what is outstanding and closes the socket", () =>
        Effect.gen(function* () {
          const { peers, port } = yield* rawServer({})
          const scope = yield* Scope.make()
          const connection = yield* Scope.provide(connect(tcp(port)), scope)
          const call = yield* Effect.forkChild(Effect.flip(connection.unary(method, request)), {
            startImmediately: true
          })
          yield* until(() => peers[0]!.frames.some(({ type }) => type === Frames.Type.data))
          yield* Scope.close(scope, Exit.void)
          check(yield* Fiber.join(call), lostUnknown, /closed by this client/)
          check(yield* connection.closed, lostNo, /closed by this client/)
          check(yield* Effect.flip(connection.unary(method, request)), lostNo)
          yield* until(() => peers[0]!.socket.destroyed)
          assert.isTrue(peers[0]!.frames.some(({ type }) => type === Frames.Type.goaway))
        })
      )

      it.live("closing the scope does not wait for a server that reads nothing", () =>
        Effect.gen(function* () {
          const { peers, port } = yield* rawServer({ greeting: Frames.settings({ 4: 0x7fffffff }) })
          yield* Effect.scoped(
            Effect.gen(function* () {
              const connection = yield* connect(tcp(port))
              peers[0]!.socket.pause()
              peers[0]!.send(Frames.windowUpdate(0, 0x7fff0000 - 65535))
              yield* Effect.forkChild(connection.unary(method, new Uint8Array(64 * 1024 * 1024)), {
                startImmediately: true
              })
              yield* Effect.sleep(20)
            })
          )
        })
      )
    })

    describe("dialling", () => {
      const silent = Effect.suspend(() => listening(net.createServer((socket) => void socket.on("error", () => {}))))

      const speaking = (answer: string) =>
        listening(
          net.createServer((socket) => {
            socket.on("error", () => {})
            socket.once("data", () => socket.end(answer, "latin1"))
          })
        )

      it.live("nobody there, no such name, no such socket", () =>
        Effect.gen(function* () {
          const server = yield* silent
          const port = portOf(server)
          yield* Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
          check(yield* failToConnect(tcp(port)), unreachable, new RegExp(`http://127.0.0.1:${port}.*refused`))
          check(yield* failToConnect({ _tag: "Tcp", host: "localhost", port }), unreachable, /refused/)
          check(yield* failToConnect({ _tag: "Tcp", host: "nowhere.invalid", port }), unreachable, /nowhere\.invalid/)
          check(yield* failToConnect({ _tag: "Unix", path: "/nonexistent/etcd.sock" }), unreachable, /no such socket/)
        })
      )

      it.live("a server that says nothing, with TLS and without", () =>
        Effect.gen(function* () {
          const port = portOf(yield* silent)
          const options = { connectTimeoutMillis: 50 }
          check(yield* failToConnect(tcp(port), options), unreachable, /no HTTP\/2 settings within 50 ms/)
          check(yield* failToConnect(tcp(port, trusted()), options), unreachable, /TLS handshake.*50 ms/)
        })
      )

      it.live("interrupting a dial closes its socket", () =>
        Effect.gen(function* () {
          const server = yield* silent
          let ended = false
          let came = false
          server.on("connection", (socket) => {
            came = true
            socket.resume()
            socket.on("close", () => {
              ended = true
            })
          })
          const dial = yield* Effect.forkChild(Effect.scoped(connect(tcp(portOf(server)))))
          yield* until(() => came)
          yield* Fiber.interrupt(dial)
          yield* until(() => ended)
        })
      )

      it.live("a server that speaks something else", () =>
        Effect.gen(function* () {
          const http = yield* speaking("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
          check(yield* failToConnect(tcp(portOf(http))), unreachable, /HTTP\/2/)
          check(yield* failToConnect(tcp(portOf(http), trusted())), unreachableForGood, /does not speak TLS.*use http/)
          const mute = yield* speaking("")
          check(yield* failToConnect(tcp(portOf(mute))), unreachable, /closed the connection at once.*use https/)
          check(
            yield* failToConnect(tcp(portOf(mute), trusted())),
            unreachable,
            /most likely it does not speak TLS on this address \(use http, or/
          )
          const alert = yield* speaking(String.fromCharCode(0x15, 3, 1, 0, 2, 2, 0x46))
          const told = yield* failToConnect(tcp(portOf(alert)))
          assert.match(told.message, /TLS/)
          const hint = yield* speaking(
            "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
          )
          const hinted = yield* failToConnect(tcp(portOf(hint)))
          assert.match(hinted.message, /HTTP/)
          // node:http2 does not tell what a server said.
          if (name !== "http2") return
          check(told, unreachableForGood, /speaks TLS on this address; use https/)
          check(hinted, unreachableForGood, /speaks TLS on this address .*use https/)
          check(
            yield* failToConnect(tcp(portOf(http))),
            unreachable,
            /HTTP\/1 and not HTTP\/2 .*"HTTP\/1\.1 400 Bad Request/
          )
        })
      )

      it.live("a name with several addresses, of which one answers", () =>
        Effect.gen(function* () {
          const { port } = yield* Node.nodeServer((stream) => Node.reply(stream, Frames.message(request)))
          yield* echo(yield* connect({ _tag: "Tcp", host: "localhost", port }))
        })
      )

      it.live("an IPv6 address, with brackets and without", () =>
        Effect.gen(function* () {
          let authority: string | undefined
          const server = yield* Node.nodeServer(
            (stream, headers) => {
              authority = headers[":authority"]
              Node.reply(stream, Frames.message(request))
            },
            {},
            "::1"
          )
          for (const host of ["::1", "[::1]"]) {
            yield* echo(yield* connect({ _tag: "Tcp", host, port: server.port }))
            assert.strictEqual(authority, `[::1]:${server.port}`)
          }
        })
      )

      it.live("a Unix socket", () =>
        Effect.gen(function* () {
          const socket = path.join(yield* temporaryDirectory, "s.sock")
          yield* Node.unixServer((stream) => Node.reply(stream, Frames.message(request)), socket)
          yield* echo(yield* connect({ _tag: "Unix", path: socket }))
        })
      )
    })

    describe("TLS", () => {
      const secure = (certificate: string, options: http2.SecureServerOptions = {}) =>
        Node.secureServer((stream) => Node.reply(stream, Frames.message(request)), {
          cert: fixture.text(`${certificate}.pem`),
          key: fixture.text("server.key"),
          ...options
        })
      const tlsServer = (options: tls.TlsOptions) =>
        listening(
          tls.createServer(
            { cert: fixture.text("server.pem"), key: fixture.text("server.key"), ...options },
            (socket) => socket.on("error", () => {})
          )
        )
      const clientsOnly: http2.SecureServerOptions = {
        requestCert: true,
        rejectUnauthorized: true,
        ca: fixture.text("ca.pem")
      }

      it.live("a server whose certificate is good", () =>
        Effect.gen(function* () {
          const { port } = yield* secure("server")
          for (const host of ["127.0.0.1", "localhost"]) {
            yield* echo(yield* connect({ _tag: "Tcp", host, port, tls: trusted() }))
          }
          yield* echo(yield* connect(tcp(port, { ...trusted(), minVersion: "TLSv1.3" })))
        })
      )

      it.live("a server that is not to be trusted, each with its reason", () =>
        Effect.gen(function* () {
          const good = yield* secure("server")
          const ca = { ca: fixture.text("other-ca.pem") }
          check(yield* failToConnect(tcp(good.port, ca)), unreachableForGood, /CA that is not trusted|signature/)
          check(yield* failToConnect(tcp(good.port, {})), unreachableForGood, /CA that is not trusted/)
          const expired = yield* secure("server-expired")
          check(yield* failToConnect(tcp(expired.port, trusted())), unreachable, /expired/)
          const wrong = yield* secure("server-wrong-name")
          check(yield* failToConnect(tcp(wrong.port, trusted())), unreachableForGood, /another name.*127\.0\.0\.1/)
          check(
            yield* failToConnect({ _tag: "Tcp", host: "localhost", port: wrong.port, tls: trusted() }),
            unreachableForGood,
            /another name.*localhost/
          )
        })
      )

      it.live("no authority at all is not those of the system", () =>
        Effect.gen(function* () {
          const authorities = tls.getCACertificates("default")
          yield* Effect.acquireRelease(
            Effect.sync(() => tls.setDefaultCACertificates([fixture.text("ca.pem")])),
            () => Effect.sync(() => tls.setDefaultCACertificates(authorities))
          )
          const good = yield* secure("server")
          yield* echo(yield* connect(tcp(good.port, {})))
          for (const ca of ["", " "]) check(yield* failToConnect(tcp(good.port, { ca })), unreachableForGood)
        })
      )

      it.live("a name of one's own, and no verification where that is asked for", () =>
        Effect.gen(function* () {
          const wrong = yield* secure("server-wrong-name")
          yield* echo(yield* connect(tcp(wrong.port, { ...trusted(), serverName: "wrong.example" })))
          yield* echo(yield* connect(tcp(wrong.port, { insecureSkipVerify: true })))
          const good = yield* secure("server")
          yield* echo(yield* connect(tcp(good.port, { ...trusted(), serverName: "127.0.0.1" })))
        })
      )

      it.live("a Unix socket, where the name is localhost", () =>
        Effect.gen(function* () {
          const directory = yield* temporaryDirectory
          for (const certificate of ["server", "server-wrong-name"]) {
            const socket = path.join(directory, `${certificate}.sock`)
            yield* Node.secureServer(
              (stream) => Node.reply(stream, Frames.message(request)),
              { cert: fixture.text(`${certificate}.pem`), key: fixture.text("server.key") },
              socket
            )
            const target: Target = { _tag: "Unix", path: socket, tls: trusted() }
            if (certificate === "server") yield* echo(yield* connect(target))
            else check(yield* failToConnect(target), unreachableForGood, /unixs:\/\/.*another name.*localhost/)
          }
        })
      )

      it.live("a server that wants a client certificate", () =>
        Effect.gen(function* () {
          for (const maxVersion of ["TLSv1.3", "TLSv1.2"] as const) {
            const { port } = yield* secure("server", { ...clientsOnly, maxVersion })
            yield* echo(yield* connect(tcp(port, trusted({ certificate: true }))))
            const none = yield* failToConnect(tcp(port, trusted()))
            check(
              none,
              maxVersion === "TLSv1.3" ? unreachableForGood : unreachable,
              /require a client certificate, and none was given|requires a client certificate, and none was given/
            )
            const other = yield* failToConnect(tcp(port, { ...trusted(), ...certificateOf("other-client") }))
            assert.match(other.message, /rejected the client certificate/)
          }
        })
      )

      it.live("keys that are none, or belong to another certificate", () =>
        Effect.gen(function* () {
          const { port } = yield* secure("server")
          const broken = { ...trusted(), certificate: "no PEM", ...{ key: certificateOf("client").key } }
          check(yield* failToConnect(tcp(port, broken)), unreachableForGood, /cannot be used/)
          const mixed = { ...certificateOf("client"), key: certificateOf("other-client").key }
          check(yield* failToConnect(tcp(port, { ...trusted(), ...mixed })), unreachableForGood, /cannot be used/)
        })
      )

      it.live("a server that does not choose HTTP/2, or speaks no TLS we allow", () =>
        Effect.gen(function* () {
          const plain = yield* Node.nodeServer(() => {})
          check(yield* failToConnect(tcp(plain.port, trusted())), unreachableForGood, /does not speak TLS.*use http/)
          const old = yield* secure("server", { maxVersion: "TLSv1.2" })
          const modern = { ...trusted(), minVersion: "TLSv1.3" as const }
          check(yield* failToConnect(tcp(old.port, modern)), unreachableForGood, /TLS of a version/)
          for (const ALPNProtocols of [["http/1.1"], []]) {
            const other = yield* tlsServer({ ALPNProtocols })
            check(yield* failToConnect(tcp(portOf(other), trusted())), unreachableForGood, /HTTP\/2/)
          }
        })
      )
    })

    describe("raw frames that the rules allow", () => {
      const answers = Effect.fnUntraced(function* (onRequestEnd: (stream: number, peer: Peer) => void) {
        const { connection } = yield* againstRaw({ onRequestEnd })
        yield* echo(connection)
        yield* echo(connection)
      })
      const { data, end, endHeaders, headers } = {
        data: Frames.message(request),
        end: Frames.Flag.endStream,
        endHeaders: Frames.Flag.endHeaders,
        headers: Frames.headerBlock(Frames.grpcHeaders)
      }
      const ok = Frames.headerBlock([["grpc-status", "0"]])

      it.live("padding, CONTINUATION, empty DATA, frames of unknown types, 1xx answers, PING and WINDOW_UPDATE", () =>
        Effect.gen(function* () {
          yield* answers((stream, peer) =>
            peer.send(
              Frames.headers(stream, [[":status", "103"]]),
              Frames.frame(0x42, 0xff, stream, bytes(1, 2, 3)),
              Frames.frame(Frames.Type.headers, 0, stream, headers.subarray(0, 5)),
              Frames.frame(Frames.Type.continuation, 0, stream, headers.subarray(5, 9)),
              Frames.frame(Frames.Type.continuation, endHeaders, stream, headers.subarray(9)),
              Frames.data(stream, empty),
              Frames.data(stream, Buffer.concat([bytes(7), data, new Uint8Array(7)]), Frames.Flag.padded),
              Frames.ping(),
              Frames.windowUpdate(stream, 5),
              Frames.windowUpdate(0, 5),
              Frames.frame(Frames.Type.priority, 0, stream, bytes(0, 0, 0, 0, 1)),
              Frames.data(stream, empty),
              Frames.frame(Frames.Type.headers, endHeaders | end, stream, ok)
            )
          )
        })
      )

      it.live("late frames of a call that was cancelled", () =>
        Effect.gen(function* () {
          const late: Array<() => void> = []
          const { connection, peer } = yield* againstRaw({
            onRequestEnd: (stream, peer) => {
              if (stream === 1) late.push(() => peer.send(Frames.answer(1, request)))
              else {
                for (const send of late) send()
                peer.send(Frames.answer(stream, request))
              }
            }
          })
          const call = yield* Effect.forkChild(connection.unary(method, request), { startImmediately: true })
          yield* until(() => late.length === 1)
          yield* Fiber.interrupt(call)
          yield* until(() => peer.frames.some(({ type }) => type === Frames.Type.rstStream))
          yield* echo(connection)
        })
      )

      it.live("any number of small frames that were on their way to a call when it was cancelled", () =>
        Effect.gen(function* () {
          const plain = Frames.data(1, data)
          const withPadding = Frames.data(1, Buffer.concat([bytes(7), data, new Uint8Array(7)]), Frames.Flag.padded)
          const batch = Buffer.concat(Array.from({ length: 500 }, () => [plain, withPadding]).flat())
          for (const isAnswered of [true, false]) {
            const answer = [Frames.headers(1, Frames.grpcHeaders), plain]
            const { connection, peer } = yield* againstRaw({
              onRequestEnd: (stream, peer) => {
                if (stream > 1) peer.send(Frames.answer(stream, request))
                else if (isAnswered) peer.send(...answer)
              },
              onFrame: ({ stream, type }, peer) => {
                if (type !== Frames.Type.rstStream || stream !== 1) return
                if (!isAnswered) peer.send(...answer)
                for (let count = 0; count < 20; count++) peer.send(batch)
              }
            })
            const call = Stream.runDrain(Stream.take(connection.serverStream(method, request), 1))
            const fiber = yield* Effect.forkChild(call, { startImmediately: true })
            yield* until(() => peer.frames.some(({ type }) => type === Frames.Type.data))
            yield* isAnswered ? Fiber.join(fiber) : Fiber.interrupt(fiber)
            yield* until(() => peer.frames.some(({ type }) => type === Frames.Type.rstStream))
            for (let call = 0; call < 3; call++) yield* echo(connection)
          }
        })
      )

      it.live("room that a server gives back for each of many small messages", () =>
        Effect.gen(function* () {
          const count = 6000
          let taken = 0
          const { connection } = yield* againstRaw({
            onRequestEnd: (stream, peer) => peer.send(Frames.answer(stream, request)),
            onFrame: ({ payload, stream, type }, peer) => {
              if (type !== Frames.Type.data || stream !== 1) return
              taken += payload.length
              if (taken < count * data.length) return
              const room = [Frames.windowUpdate(1, data.length), Frames.windowUpdate(0, data.length)]
              peer.send(...Array.from({ length: count }, () => room).flat())
            }
          })
          yield* Effect.scoped(
            Effect.gen(function* () {
              const call = yield* connection.bidirectional(method)
              for (let sent = 0; sent < count; sent++) yield* call.send(request)
              yield* until(() => taken === count * data.length)
              yield* echo(connection)
            })
          )
          yield* echo(connection)
        })
      )

      it.live("an answer before the request is complete", () =>
        Effect.gen(function* () {
          const { connection } = yield* againstRaw({
            greeting: Frames.settings({ 4: 10 }),
            onRequest: (stream, peer) =>
              peer.send(
                Frames.headers(stream, [...Frames.grpcHeaders, ["grpc-status", "8"], ["grpc-message", "too big"]], 0x5),
                Frames.rstStream(stream, 0)
              )
          })
          const error = yield* Effect.flip(connection.unary(method, new Uint8Array(1_000_000)))
          check(error, { kind: "Status", code: 8, processed: "yes" }, /too big/)
        })
      )
    })

    describe("raw frames that break the rules end in typed errors", () => {
      const broken: ReadonlyArray<readonly [string, (stream: number) => Uint8Array]> = [
        ["a header block that is none", (stream) => Frames.frame(1, 4, stream, bytes(0xff, 0xff, 0xff, 0xff, 0xff))],
        ["DATA before HEADERS", (stream) => Frames.data(stream, Frames.message(request))],
        ["DATA on stream 0", () => Frames.data(0, request)],
        ["HEADERS on a stream that was never opened", () => Frames.headers(999, Frames.grpcHeaders)],
        ["HEADERS without a status", (stream) => Frames.headers(stream, [["content-type", "application/grpc"]])],
        ["upper-case header names", (stream) => Frames.headers(stream, [...Frames.grpcHeaders, ["Bad", "x"]])],
        ["CONTINUATION out of the blue", (stream) => Frames.frame(9, 4, stream, bytes())],
        [
          "a header block that is interrupted",
          (stream) => Buffer.concat([Frames.headers(stream, [], 0), Frames.ping()])
        ],
        ["PUSH_PROMISE, which was switched off", (stream) => Frames.frame(5, 4, stream, bytes(0, 0, 0, 2))],
        ["padding longer than the frame", (stream) => Frames.frame(0, 8, stream, bytes(200, 1))],
        ["SETTINGS of odd length", () => Frames.frame(4, 0, 0, bytes(1, 2, 3))],
        ["PING of odd length", () => Frames.frame(6, 0, 0, bytes(1, 2, 3))],
        ["a WINDOW_UPDATE of nothing", () => Frames.windowUpdate(0, 0)],
        ["windows that overflow", () => Buffer.concat([1, 2].map(() => Frames.windowUpdate(0, 0x7fffffff)))],
        ["RST_STREAM of odd length", (stream) => Frames.frame(3, 0, stream, bytes(1))],
        ["a frame larger than allowed", (stream) => Frames.data(stream, new Uint8Array(16385))],
        ["GOAWAY of odd length", () => Frames.frame(7, 0, 0, bytes(1))],
        ["an unasked SETTINGS acknowledgement", () => Frames.settingsAck]
      ]

      it.live.each(broken)("%s", ([, frames]) =>
        Effect.gen(function* () {
          const error = yield* rawFailureOf((stream, peer) => peer.send(frames(stream)), watchedClosely)
          assert.strictEqual(error._tag, "TransportError")
          assert.include(["ConnectionLost", "Protocol"], error.kind, error.message)
          assert.strictEqual(error.processed, "unknown")
        })
      )

      it.live("more DATA than the windows allow", () =>
        Effect.gen(function* () {
          const frame = Frames.message(new Uint8Array(16384 - 5))
          const { connection } = yield* againstRaw({
            onRequestEnd: (stream, peer) => {
              peer.send(Frames.headers(stream, Frames.grpcHeaders))
              peer.send(...Array.from({ length: 512 }, () => Frames.data(stream, frame)))
            }
          })
          const call = yield* connection.bidirectional(method)
          yield* call.end
          assert.include(
            ["ConnectionLost", "Protocol"],
            (yield* Effect.flip(
              Stream.runDrain(
                call.messages.pipe(
                  Stream.rechunk(1),
                  Stream.mapEffect(() => Effect.sleep(1))
                )
              )
            )).kind
          )
        })
      )

      it.live(`${fuzzFrames} fuzzed frames`, () =>
        Effect.gen(function* () {
          const random = makeRandom(fuzzSeed)
          const framesPerConnection = 20
          const { port } = yield* rawServer({
            onRequestEnd: (stream, peer) => {
              if (stream !== 5) return
              const frames = fuzzedFrames(random, [1, 3, 5], framesPerConnection)
              for (const frame of frames) peer.send(frame)
              peer.socket.end()
            }
          })
          const round = Effect.scoped(
            Effect.gen(function* () {
              const connection = yield* connect(tcp(port), watchedClosely)
              const ends = yield* Effect.all(
                [
                  howItEnds(connection.unary(method, request)),
                  howItEnds(Stream.runDrain(connection.serverStream(method, request))),
                  howItEnds(connection.unary(method, request))
                ],
                { concurrency: "unbounded" }
              )
              yield* connection.closed
              for (const end of ends) assert.include(["ok", "TransportError"], end, `seed ${fuzzSeed}`)
            })
          )
          yield* Effect.forEach(Array.from({ length: fuzzFrames / framesPerConnection }), () => round, {
            concurrency: 8,
            discard: true
          })
        })
      )

      it.live("a flood of messages where one was due", () =>
        Effect.gen(function* () {
          const error = yield* rawFailureOf((stream, peer) => {
            peer.send(Frames.headers(stream, Frames.grpcHeaders))
            for (let index = 0; index < 1000; index++) peer.send(Frames.data(stream, new Uint8Array(16384)))
          })
          check(error, protocol(12), /more than one/)
        })
      )
    })
  })
}

/** How many fuzzed frames are sent, and where their randomness starts. */
const fuzzFrames = Number(process.env.EFFECT_ETCD_FUZZED_FRAMES ?? "100000")
const fuzzSeed = Number(process.env.EFFECT_ETCD_FUZZ_SEED ?? "1")
