/**
 * Servers of `node:http2`: they keep the rules of HTTP/2 and let a test break those of gRPC.
 */
import * as http2 from "node:http2"
import type * as net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface NodeServer {
  readonly port: number
  readonly server: http2.Http2Server
  /** Every stream there was, oldest first. */
  readonly streams: Array<http2.ServerHttp2Stream>
  readonly sessions: Set<http2.ServerHttp2Session>
}

export type Handler = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void

const listening = (
  server: http2.Http2Server,
  handler: Handler,
  options: net.ListenOptions
): Effect.Effect<NodeServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<NodeServer>((resume) => {
      const streams: Array<http2.ServerHttp2Stream> = []
      const sessions = new Set<http2.ServerHttp2Session>()
      server.on("session", (session) => {
        sessions.add(session)
        session.on("close", () => sessions.delete(session))
        session.on("error", () => {})
      })
      server.on("sessionError", () => {})
      server.on("tlsClientError", () => {})
      server.on("stream", (stream, headers) => {
        streams.push(stream)
        stream.on("error", () => {})
        handler(stream, headers)
      })
      server.listen(options, () => {
        const address = server.address()
        const port = address !== null && typeof address === "object" ? address.port : 0
        resume(Effect.succeed({ port, server, streams, sessions }))
      })
    }),
    ({ sessions }) =>
      Effect.callback<void>((resume) => {
        for (const session of sessions) session.destroy()
        server.close(() => resume(Effect.void))
      })
  )

/** Listens on a free port of loopback until the scope closes. */
export const nodeServer = (handler: Handler, options: http2.ServerOptions = {}, host = "127.0.0.1") =>
  Effect.suspend(() => listening(http2.createServer(options), handler, { port: 0, host }))

/** Listens with TLS on a free port of loopback, or on a Unix socket, until the scope closes. */
export const secureServer = (handler: Handler, options: http2.SecureServerOptions, path?: string) =>
  Effect.suspend(() =>
    listening(
      http2.createSecureServer(options),
      handler,
      path === undefined ? { port: 0, host: "127.0.0.1" } : { path }
    )
  )

export const unixServer = (handler: Handler, path: string) =>
  Effect.suspend(() => listening(http2.createServer(), handler, { path }))

export const grpcHeaders = { ":status": 200, "content-type": "application/grpc" }

/** Answers with these bytes as the body, and then these trailers. */
export const reply = (
  stream: http2.ServerHttp2Stream,
  body: Uint8Array,
  trailers: http2.OutgoingHttpHeaders = { "grpc-status": "0" }
): void => {
  stream.respond(grpcHeaders, { waitForTrailers: true })
  stream.on("wantTrailers", () => stream.sendTrailers(trailers))
  stream.end(body)
}
