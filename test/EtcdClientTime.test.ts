/**
 * The client's time is real: wall clocks that are set, test clocks that stand still, and computing that keeps the event
 * loop do not change what it does.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import { makeWith } from "../src/internal/client/client.ts"
import { describeTarget } from "../src/internal/grpc/dial.ts"
import type { Transport } from "../src/internal/grpc/Transport.ts"
import { http2Transport } from "../src/internal/http2/Http2Transport.ts"
import { nodeHttp2Transport } from "../src/internal/nodeHttp2/NodeHttp2Transport.ts"
import { KV } from "../src/internal/proto/rpc_pb.ts"
import * as Time from "../src/internal/time.ts"
import * as Etcd from "./support/client/etcd.ts"
import { reasonOf } from "./support/effects.ts"
import { independentServer } from "./support/http2/independentServer.ts"
import { freePort, standStill } from "./support/machine.ts"
import { wallClock } from "./support/time.ts"

const hour = 3_600_000
const key = new Uint8Array([1])
const put = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key }, options)

/** A transport, and where it was asked to connect to. */
const counting = (transport: Transport) => {
  const dialled: Array<string> = []
  const carrier: Transport = {
    ...transport,
    connect: (target, options) => {
      dialled.push(describeTarget(target))
      return transport.connect(target, options)
    }
  }
  return { carrier, dialled }
}

/** How long it takes, by a clock that nobody sets. */
const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const begun = performance.now()
    return Effect.map(effect, (result) => [performance.now() - begun, result] as const)
  })

/** A wait that is far above what it should take, and far below what would be a wrong clock's. */
const soon = 20_000

describe("a wall clock that is set", () => {
  for (const [name, step] of [
    ["back", -hour],
    ["forward", hour]
  ] as const) {
    it.live(`${name} does not keep the client from an etcd that is there again`, () =>
      Effect.gen(function* () {
        const node = yield* Etcd.node()
        const clock = yield* wallClock
        for (const batching of [false, true]) {
          const client = yield* EtcdClient.make({ endpoints: [node.endpoint], batching })
          yield* put(client)
          yield* node.kill
          yield* Effect.exit(put(client, { retry: Schedule.recurs(1) }))
          clock.step(step)
          yield* node.start
          const [took] = yield* timed(put(client, { deadline: "1 minute", retry: Schedule.spaced("50 millis") }))
          assert.isBelow(took, soon)
        }
      })
    )
  }

  it.live("back does not make calls outlast their deadlines", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const clock = yield* wallClock
      for (const batching of [false, true]) {
        const client = yield* EtcdClient.make({ endpoints: [node.endpoint], batching })
        yield* put(client)
        yield* node.pause
        const calls = yield* Effect.forEach([1, 2, 3], () =>
          Effect.forkChild(timed(reasonOf(put(client, { deadline: "200 millis" }))), { startImmediately: true })
        )
        clock.step(-hour)
        for (const call of calls) {
          const [took, reason] = yield* Fiber.join(call)
          assert.strictEqual(reason._tag, "DeadlineExceeded")
          assert.isBelow(took, soon)
        }
        yield* node.resume
      }
    })
  )

  it.live("back does not make a call try for longer than its schedule says", () =>
    Effect.gen(function* () {
      const clock = yield* wallClock
      const client = yield* EtcdClient.make({ endpoints: [`127.0.0.1:${yield* freePort}`] })
      const retry = Schedule.spaced("10 millis").pipe(Schedule.upTo({ duration: "300 millis" }))
      const call = yield* Effect.forkChild(timed(reasonOf(put(client, { retry }))), { startImmediately: true })
      yield* Effect.sleep("100 millis")
      clock.step(-hour)
      const [took, reason] = yield* Fiber.join(call)
      assert.strictEqual(reason._tag, "Unreachable")
      assert.isBelow(took, soon)
    })
  )

  it.live("forward does not end calls early", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const clock = yield* wallClock
      for (const batching of [false, true]) {
        const client = yield* EtcdClient.make({ endpoints: [node.endpoint], batching, keepAliveInterval: "Infinity" })
        yield* put(client)
        yield* node.pause
        const calls = yield* Effect.forEach([1, 2, 3], () =>
          Effect.forkChild(put(client, { deadline: "1 minute" }), { startImmediately: true })
        )
        clock.step(hour)
        yield* Effect.sleep("100 millis")
        yield* node.resume
        yield* Effect.forEach(calls, (call) => Fiber.join(call))
      }
    })
  )
})

describe("a test clock that nobody moves", () => {
  it.effect("lets calls, dials and retries go on", () =>
    Effect.gen(function* () {
      const closed = yield* EtcdClient.make({ endpoints: [`127.0.0.1:${yield* freePort}`] })
      const retry = Schedule.spaced("10 millis").pipe(Schedule.upTo({ times: 3 }))
      assert.strictEqual((yield* reasonOf(put(closed, { retry })))._tag, "Unreachable")
      const late = yield* reasonOf(put(closed, { retry: Schedule.spaced("20 millis"), deadline: "100 millis" }))
      // By whether the deadline comes between two dials, or while one is under way.
      assert.include(["Unreachable", "DeadlineExceeded"], late._tag)

      const node = yield* Etcd.node()
      const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
      yield* put(client)
      yield* node.kill
      const patient = put(client, { deadline: "1 minute", retry: Schedule.spaced("20 millis") })
      // One that is sent before the client has heard of the end may be lost with it, which its client tells.
      const call = yield* Effect.forkChild(Effect.retry(patient, { while: ({ outcome }) => outcome === "unknown" }))
      yield* node.start
      yield* Fiber.join(call)
    })
  )

  it.effect("lets an embedded node start, and serve", () =>
    Effect.gen(function* () {
      yield* EtcdKv.put("hello", "world")
      yield* TestClock.adjust("1 day")
      assert.strictEqual(
        (yield* EtcdKv.getString("hello")).pipe((hello) => JSON.stringify(hello)).includes("world"),
        true
      )
    }).pipe(Effect.provide(EtcdLayer.ephemeral({}, { log: false })))
  )

  it.effect("is the program's own: it does not move the client's deadlines when it is moved", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
      yield* put(client)
      yield* node.pause
      const call = yield* Effect.forkChild(put(client, { deadline: "1 minute" }), { startImmediately: true })
      // What the program itself waits for, beside a call or for one.
      const waiting = [
        yield* Effect.forkChild(Effect.timeoutOption(Effect.never, Duration.hours(1))),
        yield* Effect.forkChild(Effect.timeoutOption(put(client, { deadline: "Infinity" }), Duration.hours(1)))
      ]
      yield* TestClock.adjust("1 hour")
      for (const fiber of waiting) assert.isTrue(Option.isNone(yield* Fiber.join(fiber)))
      yield* node.resume
      yield* Fiber.join(call)
    })
  )
})

describe("a program that keeps the event loop", () => {
  it.live("loses no call and no connection, whatever is under way", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const endpoints = nodes.map(({ endpoint }) => endpoint)
      for (const options of [
        { selection: "leader" },
        { selection: "spread" },
        { selection: "sticky", batching: true },
        { selection: "leader", transport: "node:http2" }
      ] as const) {
        const { carrier, dialled } = counting(options.transport === "node:http2" ? nodeHttp2Transport : http2Transport)
        const client = yield* makeWith(carrier, { endpoints, deadline: "2 seconds", ...options })
        yield* Effect.forEach(Array.from({ length: 20 }), () => put(client), { concurrency: 10 })
        const calls = yield* Effect.forEach(Array.from({ length: 50 }), (_, index) =>
          Effect.forkChild(client.unary(KV.method.put, { key: Uint8Array.of(1, index) }), { startImmediately: true })
        )
        // All that is to go out has gone.
        yield* Time.reading
        yield* Time.reading
        yield* standStill(2500)
        for (const call of calls) yield* Fiber.join(call)
        yield* put(client)
        assert.strictEqual(dialled.length, new Set(dialled).size)
      }
    })
  )

  it.live("gets the answer that has come meanwhile, though its deadline has passed", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      for (const transport of ["http2", "node:http2"] as const) {
        const client = yield* EtcdClient.make({ endpoints: [node.endpoint], transport })
        yield* put(client)
        const call = yield* Effect.forkChild(put(client, { deadline: "150 millis" }), { startImmediately: true })
        yield* Effect.yieldNow
        yield* standStill(400)
        yield* Fiber.join(call)
      }
    })
  )

  it.live("does not leave an endpoint for a connection that has come meanwhile", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const { carrier, dialled } = counting(http2Transport)
      const endpoints = nodes.map(({ endpoint }) => endpoint)
      const client = yield* makeWith(carrier, { endpoints, selection: "sticky" })
      const call = yield* Effect.forkChild(put(client), { startImmediately: true })
      yield* Effect.yieldNow
      yield* standStill(1500)
      yield* Fiber.join(call)
      assert.strictEqual(dialled.length, 1)
    })
  )

  it.live("gets the answer that has come meanwhile, however long it is, though nobody has set a deadline", () =>
    Effect.gen(function* () {
      const { port } = yield* independentServer(16 * 1024 * 1024)
      for (const transport of ["http2", "node:http2"] as const) {
        let stoodStill = 0
        const time: Time.Time = { now: () => performance.now() + stoodStill, clock: Clock.Clock.defaultValue() }
        const client = yield* EtcdClient.make({ endpoints: [`127.0.0.1:${port}`], transport }).pipe(
          Effect.provideService(Time.Time, time)
        )
        // The greeting is as long, and read before.
        yield* Effect.exit(put(client))
        const call = yield* Effect.forkChild(reasonOf(put(client)), { startImmediately: true })
        yield* Effect.sleep("1 millis")
        yield* standStill(300)
        stoodStill = 31_000
        const reason = yield* Fiber.join(call)
        // What it says is nothing that etcd would.
        assert.strictEqual(reason._tag, "ProtocolViolation", reason.message)
      }
    })
  )
})
