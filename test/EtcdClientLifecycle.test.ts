/**
 * What the client holds, it lets go: endpoints, connections, and what it counts.
 */
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import type { EtcdError } from "../src/EtcdError.ts"
import { makeWith } from "../src/internal/client/client.ts"
import { KV, Maintenance, MemberListResponseSchema, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as Etcd from "./support/client/etcd.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import { reasonOf } from "./support/effects.ts"
import { byTestClock } from "./support/time.ts"

const nothing = new Uint8Array(0)
const ok = () => Effect.succeed(nothing)
const put = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key: nothing }, options)

/** Gives what runs in the background its turns. */
const turns = Effect.forEach(
  Array.from({ length: 20 }),
  () => Effect.andThen(Effect.yieldNow, TestClock.withLive(Effect.sleep("1 millis"))),
  { discard: true }
)

const connections = (endpoint: string) =>
  Effect.map(Metric.snapshot, (metrics) =>
    metrics.flatMap((metric) =>
      metric.id === "etcd_client_connections" &&
      `http://${metric.attributes?.["server.address"]}:${metric.attributes?.["server.port"]}` === endpoint &&
      metric.type === "Gauge"
        ? [metric.state.value]
        : []
    )
  )

describe("a scope that has a client", () => {
  it.effect("closes it when all is done that has come into the scope after it, however young its connections are", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      let ended = 0
      yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1"] }))
          const end = Effect.andThen(
            Effect.orDie(put(client, { deadline: "Infinity" })),
            Effect.sync(() => {
              ended++
            })
          )
          // One before there is a connection, and one while it is there.
          yield* Effect.addFinalizer(() => end)
          yield* put(client)
          yield* Effect.addFinalizer(() => end)
        })
      )
      assert.deepStrictEqual([ended, fake.open()], [2, 0])
    })
  )
})

describe("an endpoint", () => {
  it.effect("that single calls have named is let go when none has for a while, and stays while one is under way", () =>
    Effect.gen(function* () {
      const release = yield* Latch.make()
      const answer = (call: Fake.Sent) =>
        call.request.length > 0 ? Effect.as(release.await, nothing) : Effect.succeed(nothing)
      const fake = Fake.make({ "a:1": { answer: ok }, "x:1": { answer } })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1"] }))
      yield* put(client)
      yield* put(client, { endpoint: "x:1" })
      assert.strictEqual(fake.open(), 2)
      const slow = yield* Effect.forkChild(
        client.unary(KV.method.put, { key: new Uint8Array(1) }, { endpoint: "x:1", deadline: "Infinity" })
      )
      yield* turns
      yield* TestClock.adjust("1 minute")
      yield* turns
      assert.strictEqual(fake.open(), 2)
      yield* release.open
      yield* Fiber.join(slow)
      yield* TestClock.adjust("1 minute")
      yield* turns
      assert.strictEqual(fake.open(), 1)
      yield* put(client, { endpoint: "x:1" })
      assert.deepStrictEqual(fake.dials, ["a:1", "x:1", "x:1"])
    })
  )

  it.effect("that single calls name now and then keeps its connection", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok }, "x:1": { answer: ok } })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1"] }))
      for (let call = 0; call < 30; call++) {
        yield* put(client, { endpoint: "x:1" })
        yield* TestClock.adjust("4 seconds")
        yield* turns
      }
      assert.deepStrictEqual(fake.dials, ["x:1"])
    })
  )

  it.effect("that goes from the list tells its streams, whose connection is closed when they have left", () =>
    Effect.gen(function* () {
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, ["a:1"])
      const fake = Fake.make({ "a:1": { answer: () => Effect.never }, "b:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: Stream.fromQueue(lists) })
      const scope = yield* Scope.make()
      const watch = yield* Scope.provide(client.bidirectional(Watch.method.watch), scope)
      yield* Queue.offer(lists, ["b:1"])
      yield* watch.draining
      assert.strictEqual(fake.open(), 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(fake.open(), 0)
    })
  )

  it.effect(
    "that goes from the list is still asked by the calls that have named it, also again and for the first time",
    () =>
      Effect.gen(function* () {
        for (const isConnected of [true, false]) {
          const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
          yield* Queue.offer(lists, ["a:1", "b:1"])
          const release = yield* Latch.make()
          let hasLeader = false
          const dial = () => (isConnected ? Effect.void : release.await)
          const answer = () =>
            Effect.suspend(() =>
              hasLeader ? Effect.succeed(nothing) : Effect.fail(Fake.status(14, "etcdserver: no leader"))
            )
          const fake = Fake.make({ "a:1": { dial, answer }, "b:1": { answer: ok } })
          const client = yield* makeWith(fake.transport, { endpoints: Stream.fromQueue(lists) })
          const retry = Schedule.recurs(1000)
          const call = yield* Effect.forkChild(put(client, { endpoint: "a:1", retry }))
          yield* Effect.repeat(Effect.yieldNow, { while: () => (isConnected ? fake.sent : fake.dials).length === 0 })
          yield* Queue.offer(lists, ["b:1"])
          yield* Effect.repeat(Effect.yieldNow, {
            while: () => Effect.map(client.endpoints, ([one]) => one !== "http://b:1")
          })
          hasLeader = true
          yield* release.open
          yield* Fiber.join(call)
          assert.isTrue(fake.sent.every(({ address }) => address === "a:1"))
        }
      })
  )

  it.effect("that the members have taken the place of is left by its streams, and closed", () =>
    Effect.gen(function* () {
      const members = toBinary(
        MemberListResponseSchema,
        create(MemberListResponseSchema, { members: [{ name: "a", clientURLs: ["http://a:1"] }] })
      )
      const isAsked = yield* Latch.make()
      const answer = ({ path }: Fake.Sent) => {
        if (path.endsWith("MemberList")) return Effect.as(isAsked.await, members)
        return path.endsWith("Watch") ? Effect.never : Effect.succeed(nothing)
      }
      const fake = Fake.make({ "seed:1": { answer }, "a:1": { answer } })
      const options = { endpoints: ["seed:1"], memberRefresh: "1 minute" } as const
      const client = yield* makeWith(fake.transport, options)
      const scope = yield* Scope.make()
      const watch = yield* Scope.provide(client.bidirectional(Watch.method.watch), scope)
      yield* isAsked.open
      yield* watch.draining
      yield* Scope.close(scope, Exit.void)
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.open() > 0 })
      yield* put(client)
      assert.strictEqual(fake.sent.at(-1)?.address, "a:1")
    })
  )

  it.effect("that single calls have named keeps its connection when it comes into the list", () =>
    Effect.gen(function* () {
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, ["a:1"])
      const fake = Fake.make({ "a:1": { answer: ok }, "b:1": { answer: ok } })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: Stream.fromQueue(lists) }))
      yield* put(client, { endpoint: "b:1" })
      yield* Queue.offer(lists, ["b:1"])
      yield* Effect.repeat(Effect.yieldNow, {
        while: () => Effect.map(client.endpoints, ([one]) => one !== "http://b:1")
      })
      yield* put(client)
      assert.deepStrictEqual(fake.dials, ["b:1"])
      yield* TestClock.adjust("1 minute")
      yield* turns
      assert.strictEqual(fake.open(), 1)
    })
  )
})

describe("a connection", () => {
  it.effect("does not outlast calls that were interrupted, wherever they were", () =>
    Effect.gen(function* () {
      for (let step = 0; step < 200; step++) {
        const fake = Fake.make({ "a:1": { answer: () => Effect.as(Effect.yieldNow, nothing) } })
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(makeWith(fake.transport, { endpoints: ["a:1"] }), scope)
        yield* put(client)
        const watch = Effect.scoped(client.bidirectional(Watch.method.watch))
        const snapshot = Stream.runDrain(client.serverStream(Maintenance.method.snapshot, {}))
        // The fewest operations with which a fiber gets on: it gives way before each of them, but for the first ones.
        const calls = yield* Effect.forEach([put(client), watch, snapshot], (call) =>
          Effect.andThen(Effect.yieldNow, call as Effect.Effect<unknown, EtcdError>).pipe(
            Effect.provideService(References.MaxOpsBeforeYield, 3),
            Effect.forkChild({ startImmediately: true })
          )
        )
        for (let turn = 0; turn < step; turn++) yield* Effect.yieldNow
        yield* Effect.forEach(calls, (call) => Fiber.interrupt(call))
        fake.drop("a:1")
        yield* Effect.repeat(Effect.yieldNow, { while: () => fake.open() > 0, times: 1000 })
        assert.strictEqual(fake.open(), 0, `after ${step} steps`)
        yield* Scope.close(scope, Exit.void)
      }
    })
  )

  it.live("is counted as long as it is open", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(EtcdClient.make({ endpoints: [node.endpoint] }), scope)
      yield* put(client).pipe(Effect.exit)
      assert.deepStrictEqual(yield* connections(node.endpoint), [1])
      yield* node.kill
      yield* Effect.repeat(connections(node.endpoint), { while: ([open]) => open !== 0 })
      yield* node.start
      yield* Effect.exit(put(client, { retry: Schedule.spaced("20 millis"), deadline: "30 seconds" }))
      assert.deepStrictEqual(yield* connections(node.endpoint), [1])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* connections(node.endpoint), [0])
    })
  )

  it.effect("is counted where the client was made, whoever it is whose call is the last to end", () =>
    Effect.gen(function* () {
      const counted = <A, E, R>(effect: Effect.Effect<A, E, R>, registry: Map<string, any>) =>
        Effect.provideService(effect, Metric.MetricRegistry, registry)
      const [own, callers] = [new Map<string, any>(), new Map<string, any>()]
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, ["a:1"])
      const release = yield* Latch.make()
      const fake = Fake.make({ "a:1": { answer: () => Effect.as(release.await, nothing) }, "b:1": { answer: ok } })
      const client = yield* counted(makeWith(fake.transport, { endpoints: Stream.fromQueue(lists) }), own)
      const slow = yield* Effect.forkChild(counted(put(client), callers))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.sent.length === 0 })
      assert.deepStrictEqual(yield* counted(connections("http://a:1"), own), [1])
      yield* Queue.offer(lists, ["b:1"])
      yield* turns
      yield* release.open
      yield* Fiber.join(slow)
      assert.deepStrictEqual(yield* counted(connections("http://a:1"), own), [0])
      assert.deepStrictEqual(yield* counted(connections("http://a:1"), callers), [])
    })
  )
})

describe("a client that was closed", () => {
  it.live("ends calls at once that wait for their next try", () =>
    Effect.gen(function* () {
      const noLeader = Fake.status(14, "etcdserver: no leader")
      const fake = Fake.make({ "a:1": { answer: () => Effect.fail(noLeader) } })
      const scope = yield* Scope.make()
      const options = { endpoints: ["a:1"], credentials: { username: "root", password: Redacted.make("hunter2") } }
      const clients = yield* Effect.forEach([{ endpoints: ["a:1"] }, options], (options) =>
        Scope.provide(makeWith(fake.transport, options), scope)
      )
      const calls = yield* Effect.forEach(clients, (client) =>
        Effect.forkChild(reasonOf(put(client, { retry: Schedule.spaced("1 day"), deadline: "Infinity" })))
      )
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.sent.length < 2 })
      yield* Effect.sleep("20 millis")
      yield* Scope.close(scope, Exit.void)
      for (const call of calls) assert.include((yield* Fiber.join(call)).message, "closed")
    })
  )

  it.effect("refuses all work at once", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      for (const batching of [false, true]) {
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(makeWith(fake.transport, { endpoints: ["a:1"], batching }), scope)
        yield* put(client)
        yield* Scope.close(scope, Exit.void)
        const calls = [
          put(client),
          put(client, { endpoint: "b:1" }),
          Stream.runDrain(client.serverStream(KV.method.rangeStream, {})),
          Effect.scoped(client.bidirectional(Watch.method.watch))
        ]
        for (const call of calls) {
          const reason = yield* reasonOf(call as Effect.Effect<unknown, EtcdError>)
          assert.strictEqual(reason._tag, "Unreachable")
          assert.include(reason.message, "closed")
        }
      }
    })
  )
})

describe("an endpoint in doubt", () => {
  it.effect("is not praised for a stream that could be made, but for one that is answered", () =>
    Effect.gen(function* () {
      let fails = true
      const answer = (call: Fake.Sent) =>
        call.path.endsWith("Watch")
          ? Effect.never
          : Effect.suspend(() =>
              fails ? Effect.fail(Fake.status(14, "etcdserver: no leader")) : Effect.succeed(nothing)
            )
      const fake = Fake.make({ "a:1": { answer }, "b:1": { answer: ok } })
      const client = yield* byTestClock(
        makeWith(fake.transport, {
          endpoints: ["a:1", "b:1"],
          selection: "spread",
          reconnect: Schedule.spaced("1 minute")
        })
      )
      // Both are connected to, and the one has failed.
      for (let call = 0; call < 2; call++) yield* put(client)
      fails = false
      yield* Effect.scoped(client.bidirectional(Watch.method.watch, { endpoint: "a:1" }))
      fake.sent.length = 0
      for (let call = 0; call < 4; call++) yield* put(client)
      assert.deepStrictEqual(new Set(fake.sent.map((sent) => sent.address)), new Set(["b:1"]))
    })
  )

  it.effect("is not one whose connection was quiet, when somebody has no patience", () =>
    Effect.gen(function* () {
      const late = Fake.failure("Deadline", "unknown", "late", 4)
      const answer = ({ path }: Fake.Sent) =>
        path.endsWith("Put") ? Effect.succeed(nothing) : path.endsWith("Watch") ? Effect.never : Effect.fail(late)
      const fake = Fake.make({ "a:1": { answer }, "b:1": { answer } })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1", "b:1"], selection: "sticky" }))
      const { endpoint } = yield* client.bidirectional(Watch.method.watch)
      yield* TestClock.adjust("3 seconds")
      const deadline = "5 millis"
      for (const impatient of [
        Stream.runDrain(client.serverStream(Maintenance.method.snapshot, {}, { deadline })),
        client.unary(KV.method.range, {}, { deadline })
      ]) {
        const reason = yield* reasonOf(impatient as Effect.Effect<unknown, EtcdError>)
        assert.strictEqual(reason._tag, "DeadlineExceeded")
      }
      yield* put(client)
      assert.strictEqual(`http://${fake.sent.at(-1)?.address}`, endpoint)
    })
  )
})
