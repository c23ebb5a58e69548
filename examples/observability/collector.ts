/** Stands in for a collector of OpenTelemetry: prints the spans that it is sent, as trees. */
import { createServer } from "node:http"
import { Effect } from "effect"

interface Span {
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly attributes: ReadonlyArray<{ readonly key: string; readonly value: { readonly stringValue?: string } }>
}

const print = (spans: ReadonlyArray<Span>, parent?: string, indent = "") => {
  for (const { attributes, name, spanId } of spans.filter(({ parentSpanId }) => parentSpanId === parent)) {
    const status = attributes.find(({ key }) => key === "rpc.status_code")?.value.stringValue ?? ""
    console.log(`${indent}${name} ${status}`.trimEnd())
    print(spans, spanId, `${indent}  `)
  }
}

/** Listens until the scope closes. */
export const collector = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
    const server = createServer((request, response) => {
      let body = ""
      request.on("data", (chunk) => {
        body += chunk
      })
      request.on("end", () => {
        if (request.url === "/v1/traces") {
          const spans: Array<Span> = JSON.parse(body).resourceSpans[0].scopeSpans[0].spans
          print(spans.toSorted((a, b) => (a.startTimeUnixNano < b.startTimeUnixNano ? -1 : 1)))
        }
        response.setHeader("connection", "close").end("{}")
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { readonly port: number }
      resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, close: () => server.close() }))
    })
  }),
  ({ close }) => Effect.sync(close)
)
