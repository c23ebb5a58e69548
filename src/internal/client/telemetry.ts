/**
 * What the client tells of itself: spans, metrics and log lines.
 *
 * A span is made only when a tracer is installed. Its attributes are OpenTelemetry's for RPCs, and its identity goes to
 * etcd as W3C trace context, so that an etcd that traces (`--experimental-enable-distributed-tracing`) joins in.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
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

const seconds = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

interface Series {
  readonly calls: Map<number, Metric.Counter<number>>
  readonly duration: Metric.Histogram<number>
  readonly sent: Metric.Counter<number>
  readonly received: Metric.Counter<number>
  readonly resent: Metric.Counter<number>
}

const counter = (name: string, description: string, attributes: Record<string, string>): Metric.Counter<number> =>
  Metric.counter(name, { description, attributes, incremental: true })

const makeSeries = (method: string): Series => ({
  calls: new Map(),
  duration: Metric.histogram("etcd_client_call_duration_seconds", {
    description: "How long calls took, all tries included",
    attributes: { method },
    boundaries: seconds
  }),
  sent: counter("etcd_client_sent_bytes", "Bytes of requests, without framing", { method }),
  received: counter("etcd_client_received_bytes", "Bytes of answers, without framing", { method }),
  resent: counter("etcd_client_resent_calls", "Tries after the first", { method })
})

const allSeries = new Map<string, Series>()

const seriesOf = (method: Method): Series => {
  const known = allSeries.get(method.name)
  if (known !== undefined) return known
  const series = makeSeries(method.name)
  allSeries.set(method.name, series)
  return series
}

const callsOf = (series: Series, method: Method, code: number): Metric.Counter<number> => {
  const known = series.calls.get(code)
  if (known !== undefined) return known
  const calls = counter("etcd_client_calls", "Calls that have ended", { method: method.name, code: codeName(code) })
  series.calls.set(code, calls)
  return calls
}

type AnyContext = Context.Context<never>

/** A call has ended. */
export const ended = (method: Method, code: number, millis: number, tries: number, context: AnyContext): void => {
  const series = seriesOf(method)
  callsOf(series, method, code).updateUnsafe(1, context)
  series.duration.updateUnsafe(millis / 1000, context)
  if (tries > 1) series.resent.updateUnsafe(tries - 1, context)
}

export const sent = (method: Method, bytes: number, context: AnyContext): void =>
  seriesOf(method).sent.updateUnsafe(bytes, context)

export const received = (method: Method, bytes: number, context: AnyContext): void =>
  seriesOf(method).received.updateUnsafe(bytes, context)

const batchSizes = new Map<string, Metric.Histogram<number>>()

/** So many calls have gone out as one transaction. */
export const batched = (method: string, calls: number, context: AnyContext): void => {
  const known = batchSizes.get(method)
  const sizes =
    known ??
    Metric.histogram("etcd_client_batch_size", {
      description: "Calls that shared a transaction",
      attributes: { method },
      boundaries: [2, 4, 8, 16, 32, 64, 128, 256, 512]
    })
  if (known === undefined) batchSizes.set(method, sizes)
  sizes.updateUnsafe(calls, context)
}

const connections = (endpoint: Endpoint): Metric.Gauge<number> =>
  Metric.gauge("etcd_client_connections", {
    description: "Open connections",
    attributes: { endpoint: endpoint.address }
  })

const dials = (endpoint: Endpoint, result: "ok" | "failed"): Metric.Counter<number> =>
  counter("etcd_client_dials", "Attempts to connect", { endpoint: endpoint.address, result })

export const connectionListener: ConnectionListener = {
  connected: (endpoint) =>
    Effect.all(
      [
        Metric.modify(connections(endpoint), 1),
        Metric.update(dials(endpoint, "ok"), 1),
        Effect.logDebug(`etcd: connected to ${endpoint.address}`)
      ],
      { discard: true }
    ),
  disconnected: (endpoint, reason) =>
    Effect.logDebug(`etcd: the connection to ${endpoint.address} has ended: ${reason.message}`),
  closed: (endpoint) => Metric.modify(connections(endpoint), -1),
  dialFailed: (endpoint, error, pause) =>
    Effect.andThen(
      Metric.update(dials(endpoint, "failed"), 1),
      Effect.logDebug(
        `etcd: cannot connect to ${endpoint.address}: ${error.message}; leaving it for ${Duration.format(pause)}`
      )
    ),
  strange: (endpoint, error) => Effect.logWarning(`etcd: ${endpoint.address} is not used: ${error.message}`)
}

/** Whether somebody would see a span: the fiber has a tracer of its own, and tracing is not switched off. */
export const isTraced = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.cache.tracer !== undefined && fiber.cache.tracerEnabled

const spanOptions = (method: Method): Tracer.SpanOptionsNoTrace => ({
  kind: "client",
  attributes: {
    "rpc.system": "grpc",
    "rpc.service": method.service,
    "rpc.method": method.path.slice(method.path.lastIndexOf("/") + 1)
  }
})

const spanName = (method: Method): string => method.path.slice(1)

/** Runs a call in a span. */
export const withSpan = <A, E, R>(
  method: Method,
  run: (span: Tracer.Span) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => Effect.useSpan(spanName(method), spanOptions(method), run)

/** The span of a call that lasts as long as the scope, if somebody would see it. */
export const scopedSpan = (method: Method): Effect.Effect<Tracer.Span | undefined, never, Scope.Scope> =>
  Effect.withFiber((fiber) =>
    isTraced(fiber) ? Effect.makeSpanScoped(spanName(method), spanOptions(method)) : Effect.undefined
  )

/** Says which endpoint is asked. */
export const asked = (span: Tracer.Span, endpoint: Endpoint): void => {
  const { target } = endpoint
  span.attribute("network.transport", target._tag === "Tcp" ? "tcp" : "unix")
  span.attribute("server.address", target._tag === "Tcp" ? target.host : target.path)
  if (target._tag === "Tcp") span.attribute("server.port", target.port)
}

export const answered = (span: Tracer.Span, code: number, tries: number): void => {
  span.attribute("rpc.grpc.status_code", code)
  if (tries > 1) span.attribute("rpc.resend_count", tries - 1)
}

/** https://www.w3.org/TR/trace-context/ */
export const traceContext = (span: Tracer.Span): Readonly<Record<string, string>> => ({
  traceparent: `00-${span.traceId}-${span.spanId}-${span.sampled ? "01" : "00"}`
})
