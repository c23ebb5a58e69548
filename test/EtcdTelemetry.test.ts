/**
 * What this library tells, as a program's exporters tell it on: to a receiver of OTLP, and to Prometheus.
 */
import { readFileSync } from "node:fs"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Stable from "@opentelemetry/semantic-conventions"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as EtcdBarrier from "../src/coordination/EtcdBarrier.ts"
import * as EtcdElection from "../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../src/coordination/EtcdLock.ts"
import * as EtcdSemaphore from "../src/coordination/EtcdSemaphore.ts"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../src/coordination/EtcdStm.ts"
import * as EtcdBatch from "../src/EtcdBatch.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdStore from "../src/EtcdStore.ts"
import * as EtcdTelemetry from "../src/EtcdTelemetry.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { pointsOf, type Received, receiver, record, type Span } from "./support/otlp.ts"

class Node extends Context.Service<Node, EtcdProcess.Node>()("test/Node") {}

const served = Layer.effect(Node, EtcdProcess.ephemeral({ listenClientUrls: "http://127.0.0.1:0" })).pipe(
  Layer.provide(NodeServices.layer)
)

/** Runs a program that exports, with metrics of its own, and gives what has been received. */
const exported = <A, E, R>(program: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { endpoints } = yield* Node
    const { exporter, received } = yield* receiver
    const session = EtcdSession.layerWith({ ttl: "3 seconds" })
    yield* program.pipe(
      Effect.provide(Layer.fresh(Layer.provideMerge(session, EtcdLayer.connect({ endpoints })))),
      Effect.provide(exporter),
      Effect.provideService(References.MinimumLogLevel, "Debug"),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
    return received
  }).pipe(Effect.scoped)

/** The spans as a tree: names, each below its parent, in the order of their beginning. */
const treeOf = ({ spans }: Received): ReadonlyArray<string> => {
  const inOrder = spans.toSorted((a, b) => Number(BigInt(a.startTimeUnixNano) - BigInt(b.startTimeUnixNano)))
  const known = new Set(spans.map(({ spanId }) => spanId))
  const below = (parent: string | undefined, indent: string): ReadonlyArray<string> =>
    inOrder
      .filter(({ parentSpanId }) => parentSpanId === parent)
      .flatMap(({ name, spanId }) => [`${indent}${name}`, ...below(spanId, `${indent}  `)])
  const foreign = inOrder.filter(({ parentSpanId }) => parentSpanId !== undefined && !known.has(parentSpanId))
  return [...below(undefined, ""), ...foreign.map(({ name }) => `(no parent was exported) ${name}`)]
}

/** A program that waits for long enough that what goes on in the background would show. */
const aWhile = Effect.sleep("300 millis")

const users = EtcdStore.make("users/", Schema.Number)
const increment = (id: string) => users.update(id, (n) => Option.getOrElse(n, () => 0) + 1)

layer(served, { excludeTestServices: true })("what a program has called", (it) => {
  const traces = (
    what: string,
    program: Effect.Effect<unknown, unknown, EtcdLayer.Services | EtcdSession.EtcdSession>,
    tree: ReadonlyArray<string>
  ) =>
    it.effect(what, () =>
      Effect.gen(function* () {
        assert.deepStrictEqual(treeOf(yield* exported(Effect.ignoreCause(program))), tree)
      })
    )

  traces("is one span where it is one RPC", EtcdKv.put("one", "1"), ["etcdserverpb.KV/Put"])

  traces("is one span with its RPCs below, in a store", increment("ada"), [
    "update users/",
    "  etcdserverpb.KV/Range",
    "  etcdserverpb.KV/Txn"
  ])

  traces("is one span with its pages below, in a stream", Stream.runDrain(users.stream()), [
    "stream users/",
    "  EtcdKv.stream",
    "    etcdserverpb.KV/Range"
  ])

  traces(
    "is one span with the work under a lock below it, and the end of the session another",
    EtcdLock.withLock(Effect.withSpan(aWhile, "work"), EtcdLock.make("of a trace")),
    [
      "EtcdLock.withLock",
      "  etcdserverpb.Lease/LeaseGrant",
      "  etcdserverpb.KV/Txn",
      "  work",
      "  etcdserverpb.KV/Txn",
      "etcdserverpb.Lease/LeaseRevoke"
    ]
  )

  traces(
    "is below the program's own span, and what ends with a scope below who closes it",
    Effect.scoped(
      Effect.andThen(Effect.withSpan(EtcdLock.acquire(EtcdLock.make("of a scope")), "setting up"), aWhile)
    ).pipe(Effect.withSpan("request")),
    [
      "request",
      "  setting up",
      "    EtcdLock.acquire",
      "      etcdserverpb.Lease/LeaseGrant",
      "      etcdserverpb.KV/Txn",
      "  etcdserverpb.KV/Txn",
      "etcdserverpb.Lease/LeaseRevoke"
    ]
  )

  traces(
    "is one span until it is elected",
    EtcdElection.whileElected(Effect.withSpan(aWhile, "work"), EtcdElection.make("of a trace"), "me"),
    [
      "EtcdElection.campaign",
      "  etcdserverpb.Lease/LeaseGrant",
      "  etcdserverpb.KV/Txn",
      "work",
      "etcdserverpb.KV/Txn",
      "etcdserverpb.Lease/LeaseRevoke"
    ]
  )

  traces(
    "is one span with all tries, in a transaction",
    EtcdStm.tx(Effect.andThen(EtcdStm.get("in memory"), EtcdStm.put("in memory", "1"))),
    ["EtcdStm.tx", "  etcdserverpb.KV/Range", "  etcdserverpb.KV/Txn"]
  )

  traces(
    "is one span for as long as it watches",
    Effect.gen(function* () {
      const seen = yield* Effect.forkChild(Stream.runDrain(Stream.take(EtcdWatch.watch("watched"), 1)))
      yield* Effect.repeat(EtcdKv.put("watched", "1").pipe(Effect.andThen(Effect.yieldNow)), {
        while: () => seen.pollUnsafe() === undefined
      }).pipe(Effect.withTracerEnabled(false))
      yield* Fiber.join(seen)
    }),
    ["EtcdWatch.watch"]
  )

  traces(
    "is one span while a lease is made, which is then kept in no trace, and revoked in another",
    Effect.scoped(Effect.andThen(EtcdLease.make("2 seconds"), Effect.sleep("1 second"))).pipe(
      Effect.withSpan("request")
    ),
    ["request", "  EtcdLease.make", "    etcdserverpb.Lease/LeaseGrant", "  etcdserverpb.Lease/LeaseRevoke"]
  )

  traces(
    "is one span where it is several calls of one service",
    Effect.all([
      EtcdMaintenance.disarmAlarms(),
      EtcdSemaphore.available(EtcdSemaphore.make("of a trace", { permits: 1 })),
      EtcdBarrier.latch("of a trace").await
    ]),
    [
      "EtcdMaintenance.disarmAlarms",
      "  etcdserverpb.Maintenance/Alarm",
      "EtcdSemaphore.available",
      "  etcdserverpb.KV/Range",
      "EtcdBarrier.await",
      "  etcdserverpb.KV/Range"
    ]
  )

  it.effect("is told which transaction it shares, however many traces share it", () =>
    Effect.gen(function* () {
      const keys = Array.from({ length: 300 }, (_, index) => `batched/${index}`)
      const put = (key: string) => EtcdKv.put(key, "1").pipe(Effect.withSpan("request"))
      const { spans } = yield* exported(
        Effect.forEach(keys, put, { concurrency: "unbounded" }).pipe(
          Effect.provide(EtcdBatch.layer(EtcdKv.layer, { maxInFlight: 1 }))
        )
      )
      const byId = new Map(spans.map((span) => [span.spanId, span]))
      const transactions = spans.filter(({ name }) => name === "etcdserverpb.KV/Txn")
      assert.isNotEmpty(transactions)
      for (const { links, parentSpanId } of transactions) {
        assert.strictEqual(byId.get(parentSpanId!)?.name, "EtcdKv.put")
        assert.isAtMost(links.length, 128)
        for (const { spanId } of links) assert.strictEqual(byId.get(spanId)?.name, "EtcdKv.put")
      }
      const requests = spans.filter(({ name }) => name === "request")
      assert.strictEqual(requests.length, keys.length)
      assert.strictEqual(new Set(requests.map(({ traceId }) => traceId)).size, keys.length)
    })
  )

  it.effect("fails as it does without a tracer, whatever it fails with", () =>
    Effect.gen(function* () {
      const failures = [{ _tag: "EtcdError" }, { _tag: "EtcdError", reason: null }, "text", undefined, () => {}]
      for (const failure of failures) {
        let exit: unknown
        yield* exported(
          EtcdLock.withLock(Effect.fail(failure), EtcdLock.make("of a failure")).pipe(
            Effect.onExit((end) =>
              Effect.sync(() => {
                exit = end
              })
            ),
            Effect.ignore
          )
        )
        assert.deepStrictEqual(exit, Exit.fail(failure))
      }
      const noText = Object.create(null) as string
      yield* exported(
        Effect.gen(function* () {
          const refused = yield* Effect.flip(EtcdBarrier.latch(noText).await)
          assert.strictEqual(refused.reason._tag, "InvalidArgument")
        })
      )
    })
  )

  it.effect("has not failed where its reader has", () =>
    Effect.gen(function* () {
      const { spans } = yield* exported(
        Effect.gen(function* () {
          const { snapshot } = yield* EtcdMaintenance.EtcdMaintenance
          yield* EtcdKv.put("read", "1")
          const full = () => Effect.fail("full")
          yield* Effect.exit(Stream.runForEach(snapshot(), full))
          yield* Effect.exit(Stream.runForEach(EtcdKv.stream("read"), full))
          yield* Effect.exit(Stream.runForEach(EtcdWatch.watch("read", { startRevision: 1n }), full))
        })
      )
      const names = ["etcdserverpb.Maintenance/Snapshot", "EtcdKv.stream", "EtcdWatch.watch"]
      assert.includeMembers(
        spans.map(({ name }) => name),
        names
      )
      for (const { attributes } of spans.filter(({ name }) => names.includes(name))) {
        assert.doesNotHaveAnyKeys(record(attributes), ["error.type", "etcd.error.reason"])
      }
    })
  )

  it.effect("is in one trace, be it thousands of calls", () =>
    Effect.gen(function* () {
      const puts = Effect.forEach(Array.from({ length: 3000 }), (_, n) => EtcdKv.put(`many/${n % 100}`, "1"), {
        concurrency: 64
      })
      const { spans } = yield* exported(Effect.withSpan(puts, "import"))
      assert.strictEqual(spans.length, 3001)
      assert.strictEqual(new Set(spans.map(({ traceId }) => traceId)).size, 1)
    })
  )
})

// What the package of the conventions has under a stable name, without what it has only for who still uses the old ones.
const known = (prefix: string): ReadonlySet<unknown> =>
  new Set(Object.entries(Stable).flatMap(([name, value]) => (name.startsWith(prefix) ? [value] : [])))
const attributesOfConventions = known("ATTR_")
const metricsOfConventions = known("METRIC_")

/** What Effect adds by itself, to spans of who was interrupted, to points and to lines. */
const ofEffect = new Set(["effect.fiber.interrupted", "unit", "effect.fiberId"])

const isOwn = (name: string) => name.startsWith("etcd.") || name.startsWith("etcd_")

const foreignTo = (names: Iterable<string>, conventions: ReadonlySet<unknown>): ReadonlyArray<string> => [
  ...new Set([...names].filter((name) => !conventions.has(name) && !isOwn(name) && !ofEffect.has(name)))
]

const failing = Effect.gen(function* () {
  yield* Effect.ignore(EtcdKv.put("late", "1", { deadline: "1 millis", endpoint: "http://127.0.0.1:1" }))
  yield* Effect.ignore(EtcdLease.revoke(EtcdId.LeaseId(1234n)))
  yield* Effect.ignore(users.compareAndSet("ada", 1, { revision: 7n }))
  yield* Effect.ignore(Stream.runDrain(EtcdKv.stream("ada", { revision: 1_000_000_000n })))
  const seen = yield* Effect.forkChild(Stream.runDrain(Stream.take(users.changes({ created: true }), 1)))
  yield* Fiber.join(seen)
  yield* Effect.timeoutOption(Stream.runDrain(users.watch()), "50 millis")
})

const everything = Effect.gen(function* () {
  yield* increment("ada")
  yield* EtcdLock.withLock(Effect.void, EtcdLock.make("of names"))
  yield* EtcdElection.whileElected(Effect.void, EtcdElection.make("of names"), "me")
  yield* EtcdSemaphore.withPermit(Effect.void, EtcdSemaphore.make("of names", { permits: 2 }))
  yield* EtcdBarrier.together(Effect.void, "of names", 1)
  yield* Effect.forEach(Array.from({ length: 20 }), (_, n) => EtcdKv.get(`names/${n}`), {
    concurrency: "unbounded"
  }).pipe(Effect.provide(EtcdBatch.layer(EtcdKv.layer, { maxInFlight: 1 })))
  yield* failing
})

const only = (spans: ReadonlyArray<Span>, name: string): ReadonlyArray<Span> =>
  spans.filter((span) => span.name === name)

layer(served, { excludeTestServices: true })("names", (it) => {
  it.effect("are those of the stable conventions, or begin with etcd", () =>
    Effect.gen(function* () {
      const { metrics, spans } = yield* exported(everything)
      const ofSpans = spans.flatMap(({ attributes }) => attributes.map(({ key }) => key))
      const ofPoints = metrics.flatMap((metric) =>
        pointsOf(metric).flatMap(({ attributes }) => attributes.map(({ key }) => key))
      )
      assert.includeMembers(ofSpans, ["rpc.method", "db.system.name", "error.type", "etcd.lock.name"])
      assert.deepStrictEqual(foreignTo([...ofSpans, ...ofPoints], attributesOfConventions), [])
      const names = metrics.map(({ name }) => name)
      assert.include(names, "rpc.client.call.duration")
      assert.deepStrictEqual(foreignTo(names, metricsOfConventions), [])
      // And the guide has them all.
      const guide = readFileSync(new URL("../docs/observability.md", import.meta.url), "utf8")
      const told = [...ofSpans, ...ofPoints, ...names, ...spans.flatMap(({ events }) => events.map(({ name }) => name))]
      const missing = told.filter(
        (name) => !guide.includes(`\`${name}\``) && !ofEffect.has(name) && name !== "exception"
      )
      assert.deepStrictEqual([...new Set(missing)], [])
    })
  )

  it.effect("of spans stand for what the conventions say", () =>
    Effect.gen(function* () {
      const { endpoints } = yield* Node
      const port = Number(new URL(endpoints[0]).port)
      const { spans } = yield* exported(Effect.andThen(increment("bea"), failing))
      const [range] = only(spans, "etcdserverpb.KV/Range")
      assert.strictEqual(range?.kind, 3)
      assert.deepStrictEqual(record(range!.attributes), {
        [Stable.ATTR_RPC_SYSTEM_NAME]: Stable.RPC_SYSTEM_NAME_VALUE_GRPC,
        [Stable.ATTR_RPC_METHOD]: "etcdserverpb.KV/Range",
        [Stable.ATTR_RPC_STATUS_CODE]: "OK",
        [Stable.ATTR_SERVER_ADDRESS]: "127.0.0.1",
        [Stable.ATTR_SERVER_PORT]: port,
        [Stable.ATTR_NETWORK_PEER_ADDRESS]: "127.0.0.1",
        [Stable.ATTR_NETWORK_PEER_PORT]: port,
        [Stable.ATTR_NETWORK_TRANSPORT]: Stable.NETWORK_TRANSPORT_VALUE_TCP
      })
      const [update] = only(spans, "update users/")
      assert.strictEqual(update?.kind, 3)
      assert.deepStrictEqual(record(update!.attributes), {
        [Stable.ATTR_DB_SYSTEM_NAME]: "etcd",
        [Stable.ATTR_DB_OPERATION_NAME]: "update",
        [Stable.ATTR_DB_COLLECTION_NAME]: "users/"
      })
      const [revoke] = only(spans, "etcdserverpb.Lease/LeaseRevoke")
      assert.strictEqual(revoke?.status.code, 2)
      assert.deepInclude(record(revoke!.attributes), {
        [Stable.ATTR_RPC_STATUS_CODE]: "NOT_FOUND",
        [Stable.ATTR_ERROR_TYPE]: "NOT_FOUND",
        "etcd.error.reason": "LeaseNotFound"
      })
      const [conflict] = only(spans, "compareAndSet users/")
      assert.strictEqual(record(conflict!.attributes)[Stable.ATTR_ERROR_TYPE], "EtcdConflict")
      const [late] = only(spans, "etcdserverpb.KV/Put")
      assert.deepInclude(record(late!.attributes), {
        [Stable.ATTR_SERVER_ADDRESS]: "127.0.0.1",
        [Stable.ATTR_SERVER_PORT]: 1
      })
      assert.isDefined(record(late!.attributes)[Stable.ATTR_ERROR_TYPE])
      // The watch is told to a server in the background; that one has it is an event.
      const [watching] = only(spans, "EtcdWatch.watch")
      assert.deepStrictEqual(
        watching?.events.map(({ attributes, name }) => [name, record(attributes)["etcd.endpoint"]]),
        [["etcd.watch.created", endpoints[0]]]
      )
      const [tooFar] = only(spans, "EtcdKv.stream")
      assert.strictEqual(record(tooFar!.attributes)[Stable.ATTR_ERROR_TYPE], "FutureRevision")
      // Nobody waits for a watch any more whose reader was interrupted: that is no error.
      const [watch] = only(spans, "watch users/")
      assert.strictEqual(watch?.status.code, 0)
      assert.isUndefined(record(watch!.attributes)[Stable.ATTR_ERROR_TYPE])
    })
  )

  it.effect("of metrics have a unit and a description, and histograms of durations the buckets that are advised", () =>
    Effect.gen(function* () {
      const { metrics } = yield* exported(everything)
      for (const { description, name, unit } of metrics) {
        assert.isString(description, name)
        assert.match(unit, /^(s|By|\{\w+\})$/, name)
      }
      const duration = metrics.find(({ name }) => name === Stable.METRIC_RPC_CLIENT_CALL_DURATION)!
      assert.strictEqual(duration.unit, "s")
      const puts = pointsOf(duration).filter(
        ({ attributes }) => record(attributes)[Stable.ATTR_RPC_METHOD] === "etcdserverpb.KV/Txn"
      )
      assert.isNotEmpty(puts)
      for (const { count, explicitBounds, sum } of puts) {
        assert.deepStrictEqual(
          explicitBounds,
          [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
        )
        // In seconds.
        assert.isBelow(sum! / count!, 5)
      }
      const counters = metrics.filter(({ sum }) => sum?.isMonotonic).map(({ name }) => name)
      assert.includeMembers(counters, ["etcd_client_dials_total", "etcd_client_sent_bytes_total"])
      for (const name of counters) assert.match(name, /_total$/)
    })
  )

  it.effect("in Prometheus are as it wants them, and as what translates OTLP makes them", () =>
    Effect.gen(function* () {
      let text = ""
      yield* exported(
        Effect.andThen(
          everything,
          Effect.map(PrometheusMetrics.format({ metricNameMapper: EtcdTelemetry.prometheusName }), (formatted) => {
            text = formatted
          })
        )
      )
      const types = Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, type]) => `${name} ${type}`)
      assert.deepStrictEqual(types.sort(), [
        "etcd_client_batch_size histogram",
        "etcd_client_connections gauge",
        "etcd_client_dials_total counter",
        "etcd_client_received_bytes_total counter",
        "etcd_client_sent_bytes_total counter",
        "rpc_client_call_duration_seconds histogram"
      ])
      const helped = Array.from(text.matchAll(/^# HELP (\S+) \S/gm), ([, name]) => name)
      assert.strictEqual(helped.length, types.length)
      assert.match(
        text,
        /^rpc_client_call_duration_seconds_count\{rpc_system_name="grpc",rpc_method="etcdserverpb\.KV\/Txn",rpc_status_code="OK",server_address="127\.0\.0\.1",server_port="\d+"\} [1-9]\d*$/m
      )
    })
  )

  it.effect("in log lines of connections say where they lead", () =>
    Effect.gen(function* () {
      const { endpoints } = yield* Node
      const { logs } = yield* exported(EtcdKv.get("logged"))
      const connected = logs.find(({ body }) => body.stringValue?.includes("connected to"))!
      assert.deepInclude(record(connected.attributes), {
        endpoint: endpoints[0],
        [Stable.ATTR_SERVER_ADDRESS]: "127.0.0.1",
        [Stable.ATTR_SERVER_PORT]: Number(new URL(endpoints[0]).port)
      })
      assert.strictEqual(connected.severityText, "Debug")
    })
  )
})

describe("a node", () => {
  it.live("is one span while it starts, and is asked for its state in none", () =>
    Effect.gen(function* () {
      const { exporter, received } = yield* receiver
      yield* Effect.sleep("1 second").pipe(
        Effect.provide(EtcdLayer.ephemeral()),
        Effect.provide(NodeServices.layer),
        Effect.provide(exporter)
      )
      assert.deepStrictEqual(treeOf(received).slice(0, 2), ["EtcdProcess.ephemeral", "  EtcdBinary.fromInput"])
      assert.notMatch(treeOf(received).join("\n"), /Maintenance\/Status/)
    }).pipe(Effect.scoped)
  )
})
