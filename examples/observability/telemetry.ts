/** Where a program sends its telemetry. The library reports to it without further configuration. */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Layer } from "effect"
import { FetchHttpClient, HttpMiddleware, HttpRouter } from "effect/http"
import { Otlp, PrometheusMetrics } from "effect/observability"
import { EtcdTelemetry } from "effect-etcd"

/** Spans, metrics and log lines go to a collector of OpenTelemetry, by OTLP over HTTP. */
export const exported = (collector: string) =>
  Otlp.layerJson({ baseUrl: collector, resource: { serviceName: "shop" } }).pipe(Layer.provide(FetchHttpClient.layer))

/** A Prometheus can scrape the program itself at `/metrics`. These requests are not traced. */
export const scraped = PrometheusMetrics.layerHttp({ metricNameMapper: EtcdTelemetry.prometheusName }).pipe(
  (routes) => HttpRouter.serve(routes, { disableListenLog: true, disableLogger: true }),
  Layer.provide(HttpMiddleware.layerTracerDisabledForUrls(["/metrics"])),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
)
