/**
 * What this library reports of itself. The names of its spans, metrics and log annotations are in the guide to
 * observability. Spans go to the program's `Tracer`, log lines to its loggers, and metrics are in its registry; nothing
 * has to be switched on, and without a tracer spans cost nothing.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

/** What a name of the conventions becomes where OTLP is translated for Prometheus: dots go, and the unit comes. */
const prometheusNames: ReadonlyMap<string, string> = new Map([
  ["rpc.client.call.duration", "rpc_client_call_duration_seconds"]
])

/**
 * The name that a metric of this library has in Prometheus, for Effect's `PrometheusMetrics`, which by itself makes dots
 * underscores, but adds no unit (`rpc_client_call_duration`). This makes `rpc_client_call_duration_seconds` of
 * OpenTelemetry's `rpc.client.call.duration`, as the OpenTelemetry Collector and Prometheus' own receiver of OTLP do. All
 * other names, those of other libraries too, stay as they are.
 *
 * See https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
 *
 * @example
 * ```ts
 * import { PrometheusMetrics } from "effect/observability"
 * import { EtcdTelemetry } from "effect-etcd"
 *
 * // Serves GET /metrics with an HttpRouter.
 * const metrics = PrometheusMetrics.layerHttp({ metricNameMapper: EtcdTelemetry.prometheusName })
 * ```
 *
 * @category metrics
 * @since 0.1.0
 */
export const prometheusName = (metric: string): string => prometheusNames.get(metric) ?? metric
