/**
 * A receiver of OpenTelemetry's protocol (OTLP over HTTP, as JSON) that keeps what it is sent: what an exporter really
 * says, and not what a tracer of a test is told.
 */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"

interface Value {
  readonly stringValue?: string
  readonly intValue?: number | string
  readonly doubleValue?: number
  readonly boolValue?: boolean
}

interface KeyValue {
  readonly key: string
  readonly value: Value
}

export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  /** 1: internal, 3: client. */
  readonly kind: number
  readonly attributes: ReadonlyArray<KeyValue>
  readonly events: ReadonlyArray<{ readonly name: string; readonly attributes: ReadonlyArray<KeyValue> }>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
  /** 2: an error. */
  readonly status: { readonly code: number; readonly message?: string }
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
}

export interface DataPoint {
  readonly attributes: ReadonlyArray<KeyValue>
  readonly asDouble?: number
  readonly count?: number
  readonly sum?: number
  readonly explicitBounds?: ReadonlyArray<number>
}

export interface Metric {
  readonly name: string
  readonly description?: string
  readonly unit: string
  readonly sum?: { readonly dataPoints: ReadonlyArray<DataPoint>; readonly isMonotonic: boolean }
  readonly gauge?: { readonly dataPoints: ReadonlyArray<DataPoint> }
  readonly histogram?: { readonly dataPoints: ReadonlyArray<DataPoint> }
}

export interface LogRecord {
  readonly severityText: string
  readonly body: Value
  readonly attributes: ReadonlyArray<KeyValue>
  readonly traceId?: string
}

export interface Received {
  readonly spans: Array<Span>
  /** Of the last export. */
  metrics: ReadonlyArray<Metric>
  readonly logs: Array<LogRecord>
}

/** Attributes as an object. */
export const record = (attributes: ReadonlyArray<KeyValue>): Readonly<Record<string, string | number | boolean>> =>
  Object.fromEntries(
    attributes.map(({ key, value: { boolValue, doubleValue, intValue, stringValue } }) => [
      key,
      stringValue ?? boolValue ?? doubleValue ?? Number(intValue)
    ])
  )

export const pointsOf = ({ gauge, histogram, sum }: Metric): ReadonlyArray<DataPoint> =>
  (sum ?? gauge ?? histogram)?.dataPoints ?? []

/** A receiver until the scope closes, and a layer that exports to it: all of it when the layer is released. */
export const receiver = Effect.acquireRelease(
  Effect.callback<{ readonly received: Received; readonly url: string; readonly close: () => void }>((resume) => {
    const received: Received = { spans: [], metrics: [], logs: [] }
    const take = (path: string | undefined, body: any) => {
      const parts = (resources: ReadonlyArray<any>, scopes: string, items: string) =>
        resources.flatMap((resource) => resource[scopes].flatMap((scope: any) => scope[items]))
      if (path === "/v1/traces") received.spans.push(...parts(body.resourceSpans, "scopeSpans", "spans"))
      if (path === "/v1/metrics") received.metrics = parts(body.resourceMetrics, "scopeMetrics", "metrics")
      if (path === "/v1/logs") received.logs.push(...parts(body.resourceLogs, "scopeLogs", "logRecords"))
    }
    const server = createServer((request, response) => {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk) => chunks.push(chunk))
      request.on("end", () => {
        take(request.url, JSON.parse(Buffer.concat(chunks).toString()))
        response.setHeader("connection", "close")
        response.end("{}")
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      resume(Effect.succeed({ received, url: `http://127.0.0.1:${port}`, close: () => server.close() }))
    })
  }),
  ({ close }) => Effect.sync(close)
).pipe(
  Effect.map(({ received, url }) => ({
    received,
    exporter: Otlp.layerJson({
      baseUrl: url,
      resource: { serviceName: "shop" },
      loggerMergeWithExisting: false,
      shutdownTimeout: "30 seconds"
    }).pipe(Layer.provide(FetchHttpClient.layer))
  }))
)
