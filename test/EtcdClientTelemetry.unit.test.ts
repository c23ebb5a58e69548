/**
 * What the client tells of itself.
 */
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as TestClock from "effect/testing/TestClock"
import type * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { makeWith } from "../src/internal/client/client.ts"

import { mostEndpoints } from "../src/internal/client/telemetry.ts"
import { AuthenticateResponseSchema, KV, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as Tracing from "../src/internal/tracing.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import { recorder } from "./support/spans.ts"
import { byTestClock, turns } from "./support/time.ts"

const key = new Uint8Array([1, 2, 3])
const nothing = new Uint8Array(0)
const put = (client: EtcdClient.Client) => client.unary(KV.method.put, { key })

/** Fails with the given messages, one after the other, then succeeds. */
const failing = (...messages: ReadonlyArray<string>) => {
  const left = [...messages]
  return Fake.make({
    "a:1": {
      answer: () =>
        Effect.suspend(() => {
          const message = left.shift()
          return message === undefined ? Effect.succeed(nothing) : Effect.fail(Fake.status(14, message))
        })
    }
  })
}

const options = { endpoints: ["a:1"], retry: Schedule.recurs(3) }

describe("spans", () => {
  it.effect("have OpenTelemetry's attributes for RPCs", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const client = yield* makeWith(failing("etcdserver: no leader").transport, options)
      yield* Effect.withTracer(put(client), tracer)
      assert.strictEqual(spans.length, 1)
      const [span] = spans
      assert.strictEqual(span?.name, "etcdserverpb.KV/Put")
      assert.strictEqual(span?.kind, "client")
      assert.strictEqual(span?.status._tag, "Ended")
      assert.deepStrictEqual(Object.fromEntries(span!.attributes), {
        "rpc.system.name": "grpc",
        "rpc.method": "etcdserverpb.KV/Put",
        "network.transport": "tcp",
        "server.address": "a",
        "server.port": 1,
        "rpc.status_code": "OK",
        "etcd.rpc.resend_count": 1
      })
    })
  )

  it.effect("say how a call failed", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const client = yield* makeWith(failing("etcdserver: server stopped").transport, options)
      yield* Effect.exit(Effect.withTracer(put(client), tracer))
      const status = spans[0]?.status
      assert.isTrue(status?._tag === "Ended" && Exit.isFailure(status.exit))
      assert.deepInclude(Object.fromEntries(spans[0]!.attributes), {
        "rpc.status_code": "UNAVAILABLE",
        "error.type": "UNAVAILABLE",
        "etcd.error.reason": "ServerStopped"
      })
    })
  )

  it.effect("say where a call was to go that found no connection", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const down = Fake.failure("Unreachable", "no", "connect ECONNREFUSED a:1")
      const fake = Fake.make({ "a:1": { dial: () => Effect.fail(down), answer: () => Effect.succeed(nothing) } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], retry: Schedule.recurs(0) })
      yield* Effect.exit(Effect.withTracer(put(client), tracer))
      assert.deepInclude(Object.fromEntries(spans[0]!.attributes), {
        "server.address": "a",
        "server.port": 1,
        "rpc.status_code": "UNAVAILABLE",
        "error.type": "UNAVAILABLE",
        "etcd.error.reason": "Unreachable"
      })
    })
  )

  it.effect("say of a call that went on to another endpoint where it went last, and nothing of the first", () =>
    Effect.gen(function* () {
      const socket = "/run/etcd.sock"
      /** A client whose first try fails wherever it goes, and where it went then. */
      const once = Effect.gen(function* () {
        const { spans, tracer } = recorder()
        const answer = ({ address }: Fake.Sent) =>
          fake.sent.every((sent) => sent.address === address)
            ? Effect.fail(Fake.status(14, "etcdserver: no leader"))
            : Effect.succeed(nothing)
        const fake: Fake.Fake = Fake.make({ "a:1": { answer }, [socket]: { answer } })
        const client = yield* makeWith(fake.transport, { ...options, endpoints: ["a:1", `unix://${socket}`] })
        yield* Effect.withTracer(put(client), tracer)
        const place = Object.fromEntries(
          [...spans[0]!.attributes].filter(([name]) => name.startsWith("server.") || name === "network.transport")
        )
        return { last: fake.sent.at(-1)!.address, place }
      }).pipe(Effect.scoped)
      const expected = {
        "a:1": { "server.address": "a", "server.port": 1, "network.transport": "tcp" },
        [socket]: { "server.address": socket, "network.transport": "unix" }
      }
      // Where it begins is a matter of chance.
      const missing = new Set(Object.keys(expected))
      while (missing.size > 0) {
        const { last, place } = yield* once
        missing.delete(last)
        assert.deepStrictEqual(place, expected[last as keyof typeof expected] as never)
      }
    })
  )

  it.effect("say that a call was given up, and that one makes no sense", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const fake = Fake.make({ "a:1": { answer: () => Effect.never } })
      const client = yield* makeWith(fake.transport, options)
      const fiber = yield* Effect.forkChild(Effect.withTracer(put(client), tracer))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.sent.length === 0 })
      yield* Fiber.interrupt(fiber)
      const deadline = -1
      yield* Effect.exit(Effect.withTracer(client.unary(KV.method.put, { key }, { deadline }), tracer))
      const none = null as unknown as EtcdClient.CallOptions
      yield* Effect.exit(Effect.withTracer(client.unary(KV.method.put, { key }, none), tracer))
      const watch = client.bidirectional(Watch.method.watch, { deadline })
      yield* Effect.exit(Effect.withTracer(Effect.scoped(watch), tracer))
      const attributes = spans.map((span) => [
        span.attributes.get("rpc.status_code"),
        span.attributes.get("error.type"),
        span.attributes.get("etcd.error.reason"),
        span.status._tag
      ])
      assert.deepStrictEqual(attributes, [
        ["CANCELLED", "CANCELLED", undefined, "Ended"],
        ["INVALID_ARGUMENT", "INVALID_ARGUMENT", "InvalidArgument", "Ended"],
        ["INVALID_ARGUMENT", "INVALID_ARGUMENT", "InvalidArgument", "Ended"],
        ["INVALID_ARGUMENT", "INVALID_ARGUMENT", "InvalidArgument", "Ended"]
      ])
    })
  )

  it.effect("are below no span that has ended, but link to it, and are seen if that was", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const client = yield* makeWith(failing().transport, options)
      for (const sampled of [true, false]) {
        spans.length = 0
        const parent = yield* Effect.makeSpan("request", { sampled }).pipe(Effect.withTracer(tracer))
        parent.end(1n, Exit.void)
        yield* put(client).pipe(Effect.withParentSpan(parent), Effect.withTracer(tracer))
        const call = spans[1]!
        assert.isTrue(Option.isNone(call.parent))
        assert.notStrictEqual(call.traceId, parent.traceId)
        assert.deepStrictEqual(
          call.links.map(({ span }) => span.spanId),
          [parent.spanId]
        )
        assert.strictEqual(call.sampled, sampled)
      }
    })
  )

  it.effect("of asking for a token are a part of the call that needs one", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const token = toBinary(AuthenticateResponseSchema, create(AuthenticateResponseSchema, { token: "t" }))
      const fake = Fake.make({
        "a:1": { answer: ({ path }) => Effect.succeed(path.endsWith("Authenticate") ? token : nothing) }
      })
      // Those of the program, that it asks somebody for its password, too.
      const credentials = Effect.succeed({ username: "root", password: Redacted.make("p") }).pipe(
        Effect.withSpan("vault")
      )
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], credentials })
      yield* Effect.withTracer(put(client), tracer)
      assert.deepStrictEqual(
        spans.map(({ name, parent }) => [name, Option.getOrUndefined(parent)?.spanId]),
        [
          ["etcdserverpb.KV/Put", undefined],
          ["vault", spans[0]!.spanId],
          ["etcdserverpb.Auth/Authenticate", spans[0]!.spanId]
        ]
      )
    })
  )

  it.effect("tell etcd of a trace whose id is short in the form that it knows", () =>
    Effect.gen(function* () {
      const { tracer } = recorder()
      const fake = failing()
      const client = yield* makeWith(fake.transport, options)
      const parent = Tracer.externalSpan({ traceId: "0123456789abcdef", spanId: "0123456789abcdef" })
      yield* put(client).pipe(Effect.withParentSpan(parent), Effect.withTracer(tracer))
      assert.match(
        fake.sent[0]!.options.metadata!.traceparent!,
        /^00-00000000000000000123456789abcdef-[0-9a-f]{16}-01$/
      )
    })
  )

  it.effect("tell etcd that a trace is not sampled", () =>
    Effect.gen(function* () {
      const { tracer } = recorder()
      const fake = failing()
      const client = yield* makeWith(fake.transport, options)
      yield* put(client).pipe(Effect.withSpan("caller", { sampled: false }), Effect.withTracer(tracer))
      assert.match(fake.sent[0]!.options.metadata!.traceparent!, /-00$/)
    })
  )

  it.effect(
    "are not made of what the client does in the background, whoever has made it, and whatever ends with it",
    () =>
      Effect.gen(function* () {
        const { spans, tracer } = recorder()
        const fake = Fake.make({ "a:1": { answer: () => Effect.succeed(nothing) } })
        yield* Effect.gen(function* () {
          const client = yield* byTestClock(makeWith(fake.transport, { ...options, memberRefresh: "1 minute" }))
          yield* put(client)
          yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 minute"), turns(10)), {
            while: () => !fake.sent.some(({ path }) => path.endsWith("MemberList"))
          })
        }).pipe(Effect.withSpan("main"), Effect.withTracer(tracer))
        assert.deepStrictEqual(
          spans.map(({ name }) => name),
          ["main", "etcdserverpb.KV/Put"]
        )
      })
  )

  it.effect("hang together with those of the caller and of etcd", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const fake = failing()
      const client = yield* makeWith(fake.transport, options)
      yield* put(client).pipe(Effect.withSpan("caller"), Effect.withTracer(tracer))
      const [caller, call] = spans
      assert.strictEqual(call?.traceId, caller?.traceId)
      assert.strictEqual(fake.sent[0]?.options.metadata?.traceparent, `00-${call?.traceId}-${call?.spanId}-01`)
    })
  )

  it.effect("last as long as the stream that they are of", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const client = yield* makeWith(failing().transport, options)
      const whole = Effect.scoped(
        Effect.gen(function* () {
          const watch = yield* client.bidirectional(Watch.method.watch)
          yield* Stream.runDrain(watch.messages)
          assert.strictEqual(spans[0]?.status._tag, "Started")
        })
      )
      yield* Effect.withTracer(whole, tracer)
      assert.strictEqual(spans[0]?.name, "etcdserverpb.Watch/Watch")
      assert.strictEqual(spans[0]?.status._tag, "Ended")
      assert.strictEqual(spans[0]?.attributes.get("rpc.status_code"), "OK")
    })
  )

  it.effect("have no more events than exporters keep, however long they last", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const told = Effect.flatMap(Tracing.tell, (tell) =>
        Effect.sync(() => {
          for (let failover = 0; failover < 1000; failover++) tell?.("etcd.watch.created", { failover })
        })
      )
      yield* told.pipe(Effect.withSpan("EtcdWatch.watch"), Effect.withTracer(tracer))
      assert.strictEqual(spans[0]?.events.length, 128)
    })
  )

  it.effect("of a program's own stream of endpoints are below no span that has ended", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const more = yield* Deferred.make<void>()
      const later = Effect.as(Deferred.await(more), ["a:1"]).pipe(
        Effect.tap(() => Effect.withSpan(Effect.void, "looking"))
      )
      const endpoints = Stream.concat(Stream.make(["a:1"]), Stream.fromEffect(later))
      yield* Effect.withTracer(Effect.withSpan(makeWith(failing().transport, { endpoints }), "making"), tracer)
      yield* Deferred.succeed(more, undefined)
      while (!spans.some(({ name }) => name === "looking")) yield* Effect.yieldNow
      assert.deepStrictEqual(
        spans.map(({ name, parent }) => [name, Option.isSome(parent)]),
        [
          ["making", false],
          ["looking", false]
        ]
      )
    })
  )

  it.effect("are not made when nobody traces", () =>
    Effect.gen(function* () {
      const { spans, tracer } = recorder()
      const fake = failing()
      const client = yield* makeWith(fake.transport, options)
      yield* put(client)
      yield* put(client).pipe(Effect.withTracerEnabled(false), Effect.withTracer(tracer))
      assert.deepStrictEqual(spans, [])
      assert.isUndefined(fake.sent[0]?.options.metadata?.traceparent)
    })
  )
})

describe("metrics", () => {
  it.effect("count calls, tries, bytes, connections and dials", () =>
    Effect.gen(function* () {
      const fake = failing("etcdserver: no leader", "etcdserver: server stopped")
      const client = yield* makeWith(fake.transport, options)
      yield* Effect.exit(put(client))
      yield* put(client)
      fake.drop("a:1")
      yield* Effect.repeat(put(client), { while: () => fake.dials.length < 2 })
      const snapshot = yield* Metric.snapshot
      const value = (id: string, attributes: Record<string, string>) => {
        const found = snapshot.find(
          (metric) =>
            metric.id === id &&
            Object.entries(attributes).every(([name, expected]) => metric.attributes?.[name] === expected)
        )?.state as { readonly count?: number; readonly value?: number } | undefined
        return found?.count ?? found?.value
      }
      const calls = fake.sent.length
      const puts = { "rpc.method": "etcdserverpb.KV/Put" }
      const a = { "server.address": "a", "server.port": "1" }
      const failed = { "rpc.status_code": "UNAVAILABLE", "error.type": "UNAVAILABLE" }
      assert.strictEqual(value("rpc.client.call.duration", { ...puts, ...a, ...failed }), 1)
      assert.strictEqual(value("rpc.client.call.duration", { ...puts, ...a, "rpc.status_code": "OK" }), calls - 2)
      assert.strictEqual(value("etcd_client_resends_total", puts), 1)
      assert.strictEqual(value("etcd_client_sent_bytes_total", puts), calls * 5)
      assert.strictEqual(value("etcd_client_received_bytes_total", puts), 0)
      assert.strictEqual(value("etcd_client_connections", a), 1)
      assert.strictEqual(value("etcd_client_dials_total", a), 2)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("are of the endpoints that were used last, and of those with a connection, however many there were", () =>
    Effect.gen(function* () {
      const names = Array.from({ length: mostEndpoints * 3 }, (_, index) => `gone${index}:1`)
      const fake = Fake.make(
        Object.fromEntries(["a:1", "busy:1", ...names].map((name) => [name, { answer: () => Effect.succeed(nothing) }]))
      )
      const lasting = yield* makeWith(fake.transport, options)
      yield* put(lasting)
      for (const name of names) {
        for (const endpoint of [name, "busy:1"]) {
          yield* Effect.scoped(Effect.flatMap(makeWith(fake.transport, { endpoints: [endpoint] }), put))
        }
      }
      const snapshot = yield* Metric.snapshot
      const addressesOf = (id: string) =>
        new Set(snapshot.filter((metric) => metric.id === id).map(({ attributes }) => attributes?.["server.address"]))
      for (const id of ["rpc.client.call.duration", "etcd_client_connections", "etcd_client_dials_total"]) {
        const addresses = addressesOf(id)
        assert.isAtMost(addresses.size, mostEndpoints, id)
        assert.isTrue(addresses.has("a") && addresses.has("busy") && addresses.has(`gone${names.length - 1}`), id)
      }
      const dials = snapshot.find(
        ({ attributes, id }) => id === "etcd_client_dials_total" && attributes?.["server.address"] === "busy"
      )?.state as { readonly count: number }
      assert.strictEqual(dials.count, names.length)
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("are forgotten of all that were connected to at once, with TLS or without, and not those of others", () => {
    const registry: ReturnType<(typeof Metric.MetricRegistry)["defaultValue"]> = new Map()
    const names = Array.from({ length: mostEndpoints * 2 }, (_, index) => `gone${index}:1`)
    const addressesOf = (id: string) => {
      const own = [...registry.values()].filter((metric) => metric.id === id && metric.attributes?.unit !== "others")
      return new Set(own.map(({ attributes }) => attributes?.["server.address"]))
    }
    return Effect.gen(function* () {
      const fake = Fake.make(
        Object.fromEntries([...names, "both:1"].map((name) => [name, { answer: () => Effect.succeed(nothing) }]))
      )
      const attributes = { "rpc.method": "other.Service/Do", "server.address": "gone0", "server.port": "1" }
      const others = Metric.counter("rpc.client.call.duration", { attributes: { ...attributes, unit: "others" } })
      yield* Metric.update(others, 1)
      const ids = ["rpc.client.call.duration", "etcd_client_connections", "etcd_client_dials_total"]
      yield* Effect.scoped(
        Effect.gen(function* () {
          for (const name of names) yield* Effect.flatMap(makeWith(fake.transport, { endpoints: [name] }), put)
          for (const id of ids) assert.strictEqual(addressesOf(id).size, names.length, id)
        })
      )
      for (const id of ids) assert.isAtMost(addressesOf(id).size, mostEndpoints, id)
      assert.strictEqual((yield* Metric.value(others)).count, 1)

      // One stays connected, and its series stay with it, whatever becomes of the other.
      yield* Effect.flatMap(makeWith(fake.transport, { endpoints: ["both:1"] }), put)
      yield* Effect.scoped(Effect.flatMap(makeWith(fake.transport, { endpoints: ["https://both:1"] }), put))
      for (const name of names) {
        yield* Effect.scoped(Effect.flatMap(makeWith(fake.transport, { endpoints: [name] }), put))
      }
      for (const id of ids) assert.isTrue(addressesOf(id).has("both"), id)
    }).pipe(Effect.scoped, Effect.provideService(Metric.MetricRegistry, registry))
  })
})

/** A server that can be connected to as long as it is up. */
const flaky = () => {
  const answers = { up: true }
  const down = Fake.failure("Unreachable", "no", "connect ECONNREFUSED a:1")
  const fake = Fake.make({
    "a:1": {
      dial: () => (answers.up ? Effect.void : Effect.fail(down)),
      answer: ({ path }) => (path.endsWith("Watch") ? Effect.fail(down) : Effect.succeed(nothing))
    }
  })
  return { answers, fake }
}

describe("the log", () => {
  it.effect("tells of connections at debug level, and no secrets", () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel} ${String(message)}`)
    })
    return Effect.gen(function* () {
      const fake = failing()
      const client = yield* makeWith(fake.transport, options)
      yield* put(client)
      fake.drop("a:1")
      yield* Effect.exit(client.unary(KV.method.put, { key }, { endpoint: "down:1", retry: Schedule.recurs(0) }))
      yield* Effect.repeat(put(client), { while: () => fake.dials.filter((dial) => dial === "a:1").length < 2 })
      assert.include(lines.join("\n"), "Debug etcd: connected to http://a:1")
      assert.include(lines.join("\n"), "Debug etcd: the connection to http://a:1 has ended")
      assert.include(lines.join("\n"), "Debug etcd: cannot connect to http://down:1")
    }).pipe(Effect.provide(Logger.layer([logger])), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  it.effect("says of each connection where it leads, and why it is none, in annotations", () => {
    const told: Array<readonly [string, unknown]> = []
    const logger = Logger.make(({ fiber, message }) => {
      told.push([String(message), fiber.getRef(References.CurrentLogAnnotations)])
    })
    return Effect.gen(function* () {
      const fake = failing()
      const client = yield* makeWith(fake.transport, options)
      yield* put(client)
      yield* Effect.exit(client.unary(KV.method.put, { key }, { endpoint: "down:1", retry: Schedule.recurs(0) }))
      const of = (text: string) => told.find(([message]) => message.includes(text))?.[1]
      assert.deepStrictEqual(of("connected to"), { endpoint: "http://a:1", "server.address": "a", "server.port": 1 })
      const { pauseMillis, ...rest } = of("cannot connect to") as { readonly pauseMillis: number }
      assert.isAbove(pauseMillis, 0)
      assert.deepStrictEqual(rest, {
        endpoint: "http://down:1",
        "server.address": "down",
        "server.port": 1,
        "error.type": "Unreachable"
      })
    }).pipe(Effect.provide(Logger.layer([logger])), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  const keeping = () => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel} ${String(message)}`)
    })
    return { lines, layer: Logger.layer([logger]) }
  }

  it.live("is that of who calls, with its level, and not that of where the services were made", () =>
    Effect.gen(function* () {
      const [made, used] = [keeping(), keeping()]
      const debug = Effect.provideService(References.MinimumLogLevel, "Debug")
      const { answers, fake } = flaky()
      const { client, leases, watches } = yield* Effect.gen(function* () {
        const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], retry: Schedule.recurs(0) })
        return { client, leases: yield* EtcdLease.fromClient(client), watches: yield* EtcdWatch.fromClient(client) }
      }).pipe(Effect.provide(made.layer), debug)

      const has = (text: string) =>
        Effect.repeat(Effect.sleep("5 millis"), { while: () => !used.lines.some((line) => line.includes(text)) })
      const uses: ReadonlyArray<readonly [Effect.Effect<unknown, unknown>, ReadonlyArray<string>]> = [
        [put(client), ["Debug etcd: connected to"]],
        [Stream.runDrain(watches.watch("a")), ["Debug etcd watches go on", "Warn etcd watches have no server"]],
        [Effect.scoped(leases.make("1 minute")), ["Debug etcd: cannot connect to"]]
      ]
      for (const [use, texts] of uses) {
        used.lines.length = 0
        const fiber = yield* Effect.forkChild(use.pipe(Effect.provide(used.layer), debug))
        for (const text of texts) yield* has(text)
        answers.up = false
        fake.drop("a:1")
        yield* Fiber.interrupt(fiber)
      }
      assert.deepStrictEqual(made.lines, [])

      // A level that is set around the program counts as well.
      used.lines.length = 0
      const quiet = Effect.exit(put(client)).pipe(
        Effect.provide(used.layer),
        Effect.provideService(References.MinimumLogLevel, "Error")
      )
      yield* Effect.repeat(quiet, { times: 20 })
      assert.deepStrictEqual(used.lines, [])
    })
  )
})
