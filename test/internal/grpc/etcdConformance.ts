/**
 * What every gRPC transport must do against a real etcd, whatever it is made of.
 */
import { spawnSync } from "node:child_process"
import process from "node:process"
import { fileURLToPath } from "node:url"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { ConnectionOptions, Target, Transport } from "../../../src/internal/grpc/Transport.ts"
import { clientTls, type Etcd, etcd, type Listener } from "../../support/etcd.ts"
import {
  bytes,
  check,
  defaults,
  empty,
  lostNo,
  lostUnknown,
  protocol,
  requestsLeave,
  unreachable,
  unreachableForGood
} from "../../support/grpc/conformance.ts"
import { standStill } from "../../support/machine.ts"
import { certificateOf, trusted } from "../../support/tls.ts"

/** The node that the tests of a listener share, unless they harm it. */
class Node extends Context.Service<Node, Etcd>()("test/Node") {}

/** Messages of etcd, by hand: field number and wire type, length, value. */
const put = (key: number, value: Uint8Array): Uint8Array =>
  Uint8Array.from([0x0a, 1, key, 0x12, ...varint(value.length), ...value])
const range = (key: number): Uint8Array => bytes(0x0a, 1, key)
const watchFrom = (key: number): Uint8Array => bytes(0x0a, 3, 0x0a, 1, key)

const varint = (value: number): ReadonlyArray<number> =>
  value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]

/**
 * Writes while this process stands still, so that nothing that comes meanwhile is read before it goes on. Returns how
 * many writes were answered.
 */
const writeFromAnotherProcess = (target: Target, message: Uint8Array, times: number): Effect.Effect<number> =>
  Effect.sync(() => {
    const script = fileURLToPath(new URL("../../support/http2/writer.ts", import.meta.url))
    const input = JSON.stringify({ target, message: [...message], times })
    const { status, stdout, stderr } = spawnSync(process.execPath, [script], { input, encoding: "utf8" })
    assert.strictEqual(status, 0, stderr)
    return Number(stdout)
  })

/** How many calls of a megabyte the memory test makes. */
const megabyteCalls = Number(process.env.EFFECT_ETCD_MEGABYTE_CALLS ?? "300")

export const etcdConformance = (name: string, transport: Transport): void => {
  const connect = (target: Target, options: Partial<ConnectionOptions> = {}) =>
    transport.connect(target, { ...defaults, ...options })

  const failToConnect = (target: Target, options: Partial<ConnectionOptions> = {}) =>
    Effect.flip(Effect.scoped(connect(target, options)))

  describe(`conformance with a real etcd: ${name}`, () => {
    describe.each<Listener>(["tcp", "unix", "tls"])("over %s", (listener) => {
      layer(Layer.effect(Node, etcd(listener)), { excludeTestServices: true })((it) => {
        it.effect("reads and writes, and hands on etcd's errors", () =>
          Effect.gen(function* () {
            const { target } = yield* Node
            const connection = yield* connect(target)
            assert.isAbove((yield* connection.unary("/etcdserverpb.Maintenance/Status", empty)).length, 20)
            yield* connection.unary("/etcdserverpb.KV/Put", put(97, bytes(42, 43, 44)))
            const found = yield* connection.unary("/etcdserverpb.KV/Range", range(97))
            assert.include(Buffer.from(found).toString("hex"), "2a2b2c")
            assert.strictEqual(Object.getPrototypeOf(found), Uint8Array.prototype)
            const denied = yield* Effect.flip(connection.unary("/etcdserverpb.KV/Range", empty))
            check(denied, { kind: "Status", code: 3, processed: "yes" }, /^etcdserver: key is not provided$/)
            const unknown = yield* Effect.flip(connection.unary("/etcdserverpb.KV/Nothing", empty))
            check(unknown, { kind: "Status", code: 12, processed: "yes" }, /unknown method/)
          })
        )

        it.effect("moves a megabyte, and refuses one that is over the limit without harm to the next call", () =>
          Effect.gen(function* () {
            const { target } = yield* Node
            const value = new Uint8Array(1024 * 1024).fill(7)
            const connection = yield* connect(target)
            yield* connection.unary("/etcdserverpb.KV/Put", put(98, value))
            const found = yield* connection.unary("/etcdserverpb.KV/Range", range(98))
            assert.isTrue(Buffer.from(found).includes(Buffer.from(value)))
            const small = yield* connect(target, { maxReceiveMessageBytes: 1000 })
            const error = yield* Effect.flip(small.unary("/etcdserverpb.KV/Range", range(98)))
            check(error, protocol(8), /limit is 1000/)
            yield* small.unary("/etcdserverpb.KV/Range", range(97))
          })
        )

        it.effect("watches, and streams a snapshot to its end", () =>
          Effect.gen(function* () {
            const { target } = yield* Node
            const connection = yield* connect(target)
            yield* Effect.scoped(
              Effect.gen(function* () {
                const watch = yield* connection.bidirectional("/etcdserverpb.Watch/Watch")
                yield* watch.send(watchFrom(99))
                const writer = Effect.forEach([1, 2, 3], (n) =>
                  connection.unary("/etcdserverpb.KV/Put", put(99, bytes(n)))
                )
                const seen = yield* watch.messages.pipe(
                  Stream.zipWithIndex,
                  Stream.tap(([, index]) => (index === 0 ? writer : Effect.void)),
                  Stream.map(([message]) => message),
                  Stream.takeUntil((message) => Buffer.from(message).toString("hex").endsWith("2a0103")),
                  Stream.runCollect
                )
                assert.isAtLeast(seen.length, 2)
              })
            )
            const snapshot = yield* Stream.runFold(
              connection.serverStream("/etcdserverpb.Maintenance/Snapshot", empty),
              () => 0,
              (size, message) => size + message.length
            )
            assert.isAbove(snapshot, 1000)
          })
        )

        it.effect("is not thrown out for watching an idle connection closely", () =>
          Effect.gen(function* () {
            const { target } = yield* Node
            const connection = yield* connect(target, { keepAliveIntervalMillis: 20, keepAliveTimeoutMillis: 5000 })
            const closed = yield* Effect.forkChild(connection.closed)
            yield* Effect.sleep(600)
            assert.isUndefined(closed.pollUnsafe())
            yield* connection.unary("/etcdserverpb.KV/Range", range(97))
          })
        )

        it.effect("is not blamed for time in which this process stood still", () =>
          Effect.gen(function* () {
            const { target } = yield* Node
            const dial = yield* Effect.forkScoped(
              connect(target, {
                connectTimeoutMillis: 250,
                keepAliveIntervalMillis: 20,
                keepAliveTimeoutMillis: 50
              }),
              { startImmediately: true }
            )
            yield* standStill(400)
            const connection = yield* Fiber.join(dial)
            const closed = yield* Effect.forkChild(connection.closed)
            for (let round = 0; round < 3; round++) {
              connection.probe()
              yield* requestsLeave
              yield* standStill(150)
              yield* Effect.sleep(1)
            }
            for (let round = 0; round < 3; round++) {
              const call = yield* Effect.forkChild(
                connection.unary("/etcdserverpb.KV/Range", range(97), { timeoutMillis: 100 }),
                { startImmediately: true }
              )
              yield* requestsLeave
              yield* standStill(150)
              yield* Fiber.join(call)
            }
            assert.isUndefined(closed.pollUnsafe())
          })
        )
      })

      it.live("notices that etcd is paused, and that it was killed", () =>
        Effect.gen(function* () {
          const node = yield* etcd(listener)
          const paused = yield* connect(node.target, { keepAliveIntervalMillis: 40, keepAliveTimeoutMillis: 200 })
          yield* paused.unary("/etcdserverpb.KV/Range", range(97))
          const killed = yield* connect(node.target)
          node.signal("SIGSTOP")
          const call = yield* Effect.flip(Effect.forever(paused.unary("/etcdserverpb.KV/Put", put(97, empty))))
          check(call, lostUnknown, /not answered for 200 ms when asked/)
          check(yield* paused.closed, lostNo, /not answered/)
          const waiting = yield* Effect.forkChild(Effect.flip(killed.unary("/etcdserverpb.KV/Put", put(97, empty))), {
            startImmediately: true
          })
          node.signal("SIGKILL")
          check(yield* Fiber.join(waiting), lostUnknown)
          check(yield* killed.closed, lostNo)
          check(yield* Effect.flip(killed.unary("/etcdserverpb.KV/Range", range(97))), lostNo, /was not sent/)
        })
      )
    })

    it.live("a watch that is closed behind 24,000 small events harms no other call", () =>
      Effect.gen(function* () {
        const { target } = yield* etcd("tcp")
        const connection = yield* connect(target)
        const watches = 200
        const puts = 120
        yield* Effect.scoped(
          Effect.gen(function* () {
            const watch = yield* connection.bidirectional("/etcdserverpb.Watch/Watch")
            for (let count = 0; count < watches; count++) yield* watch.send(watchFrom(99))
            yield* Stream.runDrain(Stream.take(Stream.rechunk(watch.messages, 1), watches))
            const written = yield* writeFromAnotherProcess(target, put(99, empty), puts)
            assert.strictEqual(written, puts)
          })
        )
        for (let call = 0; call < 3; call++) yield* connection.unary("/etcdserverpb.KV/Range", range(97))
      })
    )

    it.live("calls of a megabyte run in flat memory", () =>
      Effect.gen(function* () {
        const { target } = yield* etcd("unix")
        const connection = yield* connect(target)
        yield* connection.unary("/etcdserverpb.KV/Put", put(98, new Uint8Array(1024 * 1024)))
        const calls = (count: number) =>
          Effect.forEach(Array.from({ length: count }), () => connection.unary("/etcdserverpb.KV/Range", range(98)), {
            concurrency: 8,
            discard: true
          })
        yield* calls(100)
        const before = process.memoryUsage().arrayBuffers
        yield* calls(megabyteCalls)
        yield* calls(8)
        assert.isBelow(process.memoryUsage().arrayBuffers - before, 128 * 1024 * 1024)
      })
    )

    it.live("etcd, which wants a client certificate", () =>
      Effect.gen(function* () {
        const { target } = yield* etcd("tls")
        yield* connect({ ...target, tls: clientTls })
        check(
          yield* failToConnect({ ...target, tls: trusted() }),
          unreachableForGood,
          /requires a client certificate, and none was given/
        )
        const other = { ...trusted(), ...certificateOf("other-client") }
        const rejected = yield* failToConnect({ ...target, tls: other })
        assert.match(rejected.message, /rejected the client certificate \([a-z0-9/ ]+\); use one that its CA signed/)
        check(yield* failToConnect({ ...target, tls: undefined }), unreachable, /may require TLS \(use https\)/)
      })
    )

    it.live("etcd, which has no TLS", () =>
      Effect.gen(function* () {
        const { target } = yield* etcd("tcp")
        for (const tls of [trusted(), clientTls]) {
          check(
            yield* failToConnect({ ...target, tls }),
            unreachable,
            /does not speak TLS on this address \(use http, or/
          )
        }
      })
    )
  })
}
