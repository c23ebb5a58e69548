/**
 * What the client tells of itself: spans, metrics and log lines.
 *
 * Names are those of OpenTelemetry's semantic conventions, which are stable for RPCs since 1.45.0; what they have no name
 * for begins with `etcd`. A test holds them against the conventions' own package. Which spans there are says
 * `internal/tracing.ts`. The identity of a span goes to etcd as W3C trace context, so that an etcd that traces
 * (`--enable-distributed-tracing`) joins in.
 *
 * Metrics of this library's own have names as Prometheus wants them, which OTLP leaves as they are. The one that the
 * conventions have a name for has that name, and `EtcdTelemetry.prometheusName` makes what OTLP's receivers make of it.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { Connection } from "../grpc/Transport.ts"
import * as Tracing from "../tracing.ts"
import type { Endpoint } from "./endpoint.ts"
import type { Method } from "./rpcs.ts"
import type { ConnectionListener } from "./subchannel.ts"

// The numbers and names of https://grpc.github.io/grpc/core/md_doc_statuscodes.html
const codeNames = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED"
] as const

export const ok = 0
export const cancelled = 1
export const invalidArgument = 3

const codeName = (code: number): string => codeNames[code] ?? `CODE_${code}`

// ── metrics ──

/** The conventions' buckets: https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/#metric-rpcclientcallduration */
const seconds = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

/** What a metric is measured in, by UCUM. What is counted is in braces, of which no exporter makes a suffix. */
type Unit = "s" | "By" | `{${string}}`

type Attributes = Readonly<Record<string, string>>

const counter = (name: string, description: string, unit: Unit, attributes: Attributes): Metric.Counter<number> =>
  Metric.counter(name, { description, attributes: { ...attributes, unit }, incremental: true })

/** Where an endpoint is, as the conventions say it. */
const addressOf = ({ target }: Endpoint): { readonly "server.address": string; readonly "server.port"?: number } =>
  target._tag === "Tcp"
    ? { "server.address": target.host, "server.port": target.port }
    : { "server.address": target.path }

const labelsOf = (endpoint: Endpoint): Attributes => {
  const { "server.address": address, "server.port": port } = addressOf(endpoint)
  return port === undefined ? { "server.address": address } : { "server.address": address, "server.port": String(port) }
}

/** What has labels of its own: with TLS and without, it is the same place, and has the same series. */
const placeOf = ({ target }: Endpoint): string =>
  target._tag === "Tcp" ? `${target.host}:${target.port}` : `unix:${target.path}`

/** By the status code. */
type Durations = Array<Metric.Histogram<number> | undefined>

interface Series {
  readonly sent: Metric.Counter<number>
  readonly received: Metric.Counter<number>
  readonly resent: Metric.Counter<number>
}

const makeSeries = (method: string): Series => {
  const attributes = { "rpc.method": method }
  return {
    sent: counter("etcd_client_sent_bytes_total", "Bytes of requests, without framing", "By", attributes),
    received: counter("etcd_client_received_bytes_total", "Bytes of answers, without framing", "By", attributes),
    resent: counter("etcd_client_resends_total", "Tries of calls after their first", "{try}", attributes)
  }
}

const allSeries = new Map<string, Series>()

/** `etcdserverpb.KV/Put` */
const fullName = ({ path }: Method): string => path.slice(1)

const seriesOf = (method: Method): Series => {
  const known = allSeries.get(method.path)
  if (known !== undefined) return known
  const series = makeSeries(fullName(method))
  allSeries.set(method.path, series)
  return series
}

type AnyContext = Context.Context<never>

/** An endpoint that there are metrics of. */
interface Measured {
  readonly labels: Attributes
  /** By the path of the method. */
  readonly durations: Map<string, Durations>
  connections: number
  /** When it was used last, among all uses. */
  usedAt: number
}

type Registry = ReturnType<(typeof Metric.MetricRegistry)["defaultValue"]>

/** So many endpoints have metrics: those that were used last, and all with a connection. A registry forgets nothing itself. */
export const mostEndpoints = 200

const ofEndpoints: ReadonlySet<string> = new Set([
  "rpc.client.call.duration",
  "etcd_client_connections",
  "etcd_client_dials_total"
])

const allMeasured = new WeakMap<Registry, Map<string, Measured>>()
let uses = 0

/** Those of an endpoint that nobody else measures: calls of other libraries have a name of the conventions as well. */
const forget = (registry: Registry, { durations, labels }: Measured): void => {
  for (const [key, { attributes = {}, id }] of registry) {
    const isOfIt = ["server.address", "server.port"].every((name) => attributes[name] === labels[name])
    const isOwn = id !== "rpc.client.call.duration" || durations.has(`/${attributes["rpc.method"]}`)
    if (isOfIt && isOwn && ofEndpoints.has(id)) registry.delete(key)
  }
}

/** Keeps at most so many, of those without a connection the ones that were used last. */
const keepAtMost = (most: number, registry: Registry, all: Map<string, Measured>): void => {
  while (all.size > most) {
    let oldest: readonly [place: string, measured: Measured] | undefined
    for (const entry of all) {
      if (entry[1].connections === 0 && entry[1].usedAt < (oldest?.[1].usedAt ?? uses)) oldest = entry
    }
    if (oldest === undefined) return
    all.delete(oldest[0])
    forget(registry, oldest[1])
  }
}

/** What is used now of the endpoint that was asked last; of none where none was. */
const measuredOf = (endpoint: Endpoint | undefined, context: AnyContext): Measured => {
  const registry = Context.get(context, Metric.MetricRegistry)
  let all = allMeasured.get(registry)
  if (all === undefined) {
    all = new Map()
    allMeasured.set(registry, all)
  }
  const place = endpoint === undefined ? "" : placeOf(endpoint)
  let measured = all.get(place)
  if (measured === undefined) {
    keepAtMost(mostEndpoints - 1, registry, all)
    const labels = endpoint === undefined ? {} : labelsOf(endpoint)
    measured = { labels, durations: new Map(), connections: 0, usedAt: 0 }
    all.set(place, measured)
  }
  measured.usedAt = ++uses
  return measured
}

const durationOf = (method: Method, { durations, labels }: Measured, code: number): Metric.Histogram<number> => {
  let byCode = durations.get(method.path)
  if (byCode === undefined) {
    byCode = []
    durations.set(method.path, byCode)
  }
  const known = byCode[code]
  if (known !== undefined) return known
  const duration = Metric.histogram("rpc.client.call.duration", {
    description: "How long calls took, all tries included",
    attributes: {
      "rpc.system.name": "grpc",
      "rpc.method": fullName(method),
      "rpc.status_code": codeName(code),
      ...(code === ok ? {} : { "error.type": codeName(code) }),
      ...labels,
      unit: "s"
    },
    boundaries: seconds
  })
  byCode[code] = duration
  return duration
}

/** A call has ended. */
export const ended = (
  method: Method,
  endpoint: Endpoint | undefined,
  code: number,
  millis: number,
  tries: number,
  context: AnyContext
): void => {
  durationOf(method, measuredOf(endpoint, context), code).updateUnsafe(millis / 1000, context)
  if (tries > 1) seriesOf(method).resent.updateUnsafe(tries - 1, context)
}

export const sent = (method: Method, bytes: number, context: AnyContext): void =>
  seriesOf(method).sent.updateUnsafe(bytes, context)

export const received = (method: Method, bytes: number, context: AnyContext): void =>
  seriesOf(method).received.updateUnsafe(bytes, context)

const batchSizes = new Map<string, Metric.Histogram<number>>()

/** So many calls of a method (`etcdserverpb.KV/Put`) have gone out as one transaction. */
export const batched = (method: string, calls: number, context: AnyContext): void => {
  const known = batchSizes.get(method)
  const sizes =
    known ??
    Metric.histogram("etcd_client_batch_size", {
      description: "Calls that shared a transaction",
      attributes: { "rpc.method": method, unit: "{call}" },
      boundaries: [2, 4, 8, 16, 32, 64, 128, 256, 512]
    })
  if (known === undefined) batchSizes.set(method, sizes)
  sizes.updateUnsafe(calls, context)
}

/** So many more connections than before. */
const connections = (endpoint: Endpoint, more: number): Effect.Effect<void> =>
  Effect.contextWith((context: AnyContext) => {
    const measured = measuredOf(endpoint, context)
    measured.connections += more
    const open = Metric.gauge("etcd_client_connections", {
      description: "Open connections",
      attributes: { ...measured.labels, unit: "{connection}" }
    })
    open.modifyUnsafe(more, context)
    if (measured.connections === 0) {
      const registry = Context.get(context, Metric.MetricRegistry)
      keepAtMost(mostEndpoints, registry, allMeasured.get(registry)!)
    }
    return Effect.void
  })

const dialled = (endpoint: Endpoint, failure?: string): Effect.Effect<void> =>
  Effect.contextWith((context: AnyContext) => {
    const dials = counter("etcd_client_dials_total", "Attempts to connect", "{dial}", {
      ...measuredOf(endpoint, context).labels,
      ...(failure === undefined ? {} : { "error.type": failure })
    })
    dials.updateUnsafe(1, context)
    return Effect.void
  })

// ── the log ──

const annotated = (endpoint: Endpoint, line: Effect.Effect<void>, others: Record<string, unknown> = {}) =>
  Effect.annotateLogs(line, { endpoint: endpoint.address, ...addressOf(endpoint), ...others })

export const connectionListener: ConnectionListener = {
  connected: (endpoint) =>
    Effect.all(
      [
        connections(endpoint, 1),
        dialled(endpoint),
        annotated(endpoint, Effect.logDebug(`etcd: connected to ${endpoint.address}`))
      ],
      { discard: true }
    ),
  disconnected: (endpoint, reason) =>
    annotated(endpoint, Effect.logDebug(`etcd: the connection to ${endpoint.address} has ended: ${reason.message}`), {
      "error.type": reason.kind
    }),
  closed: (endpoint) => connections(endpoint, -1),
  dialFailed: (endpoint, error, pause) =>
    Effect.andThen(
      dialled(endpoint, error.kind),
      annotated(
        endpoint,
        Effect.logDebug(
          `etcd: cannot connect to ${endpoint.address}: ${error.message}; leaving it for ${Duration.format(pause)}`
        ),
        { "error.type": error.kind, pauseMillis: Duration.toMillis(pause) }
      )
    ),
  strange: (endpoint, error) =>
    annotated(endpoint, Effect.logWarning(`etcd: ${endpoint.address} is not used: ${error.message}`), {
      "error.type": error.kind
    })
}

// ── spans ──

const attributesOf = new Map<string, Readonly<Record<string, unknown>>>()

const optionsFor = (fiber: Fiber.Fiber<unknown, unknown>, method: Method, links: ReadonlyArray<Tracer.SpanLink>) => {
  let attributes = attributesOf.get(method.path)
  if (attributes === undefined) {
    attributes = { "rpc.system.name": "grpc", "rpc.method": fullName(method) }
    attributesOf.set(method.path, attributes)
  }
  return Tracing.optionsOf(fiber, { kind: "client", attributes, links })
}

/** Runs a call in a span. `links`: whose calls it stands for as well. */
export const withSpan = <A, E, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  method: Method,
  links: ReadonlyArray<Tracer.SpanLink>,
  run: (span: Tracer.Span) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.useSpan(fullName(method), optionsFor(fiber, method, links), run)

/** The span of a call that lasts as long as the scope, if somebody would see it. */
export const scopedSpan = (method: Method): Effect.Effect<Tracer.Span | undefined, never, Scope.Scope> =>
  Effect.withFiber((fiber) =>
    Tracing.isTraced(fiber) ? Effect.makeSpanScoped(fullName(method), optionsFor(fiber, method, [])) : Effect.undefined
  )

/** Where a call was to go last, and over which connection, if there was one. */
export interface Place {
  readonly endpoint: Endpoint
  readonly connection: Connection | undefined
}

/** An attribute cannot be taken back, and so where a call goes is told when it has ended. */
const tellPlace = (span: Tracer.Span, { connection, endpoint }: Place): void => {
  const { "server.address": address, "server.port": port } = addressOf(endpoint)
  span.attribute("server.address", address)
  if (port !== undefined) span.attribute("server.port", port)
  span.attribute("network.transport", endpoint.target._tag === "Tcp" ? "tcp" : "unix")
  const peer = connection?.peer
  if (peer === undefined) return
  span.attribute("network.peer.address", peer.address)
  if (peer.port !== undefined) span.attribute("network.peer.port", peer.port)
}

/** Says how a call has ended. */
export const answered = (
  span: Tracer.Span,
  place: Place | undefined,
  code: number,
  tries: number,
  exit: Exit.Exit<unknown, unknown>
): void => {
  if (place !== undefined) tellPlace(span, place)
  span.attribute("rpc.status_code", codeName(code))
  if (tries > 1) span.attribute("etcd.rpc.resend_count", tries - 1)
  if (code !== ok) span.attribute("error.type", codeName(code))
  // What became of it says more than gRPC's few codes.
  const reason = Tracing.errorType(exit)
  if (reason !== undefined) span.attribute("etcd.error.reason", reason)
}

/** https://www.w3.org/TR/trace-context/ */
export const traceContext = (span: Tracer.Span): Readonly<Record<string, string>> => ({
  // Some tracers have ids of half the length.
  traceparent: `00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`
})
