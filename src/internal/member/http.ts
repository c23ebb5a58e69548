/**
 * HTTP over a peer URL of any kind: a question to whoever is there, and an answer in place of an etcd that is yet to start.
 *
 * @internal
 */
import type * as http from "node:http"
import type * as https from "node:https"
import type * as net from "node:net"
import type * as tls from "node:tls"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Url from "../url.ts"
import type { PeerTls, Settings } from "./settings.ts"

const loadHttp = (): typeof http => globalThis.process.getBuiltinModule("node:http")
const loadHttps = (): typeof https => globalThis.process.getBuiltinModule("node:https")
const loadTls = (): typeof tls => globalThis.process.getBuiltinModule("node:tls")

export type Where = Pick<Settings, "peerTls" | "runDirectory">

const placeOf = ({ runDirectory }: Where, url: Url.EtcdUrl): net.ListenOptions & { socketPath?: string } => {
  if (url.socket === undefined) return { host: url.host === "localhost" ? "127.0.0.1" : url.host, port: url.port! }
  const path = url.socket.startsWith("/") ? url.socket : `${runDirectory}/${url.socket}`
  return { path, socketPath: path }
}

const orWhy = <A>(get: () => A): Effect.Effect<A, string> =>
  Effect.try({ try: get, catch: (cause) => (cause instanceof Error ? cause.message : String(cause)) })

const readFile = (file: string | undefined) =>
  file === undefined ? Effect.undefined : orWhy(() => globalThis.process.getBuiltinModule("node:fs").readFileSync(file))

/** The certificates of this instance, as they are now. Fails with why they are none. */
export const material = ({ ca, certificate, isAutomatic, key }: Omit<PeerTls, "asking">) =>
  Effect.gen(function* () {
    const files = yield* Effect.all({ ca: readFile(ca), cert: readFile(certificate), key: readFile(key) })
    const secureContext = yield* orWhy(() => loadTls().createSecureContext(files))
    return { ...files, secureContext, rejectUnauthorized: !isAutomatic }
  })

/** What was answered: the body is cut off where it is longer than any answer of etcd's. */
export interface Answer {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

const longestBody = 1 << 20

const send = (options: https.RequestOptions, isEncrypted: boolean, millis: number): Effect.Effect<Answer, string> =>
  Effect.callback((resume) => {
    const fail = (why: string) => resume(Effect.fail(why))
    const request = (isEncrypted ? loadHttps() : loadHttp()).request({ ...options, agent: false }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        body += text
        if (body.length > longestBody) request.destroy(new Error("the answer does not end"))
      })
      response.on("error", (error) => fail(error.message))
      response.on("end", () =>
        resume(Effect.succeed({ status: response.statusCode ?? 0, headers: response.headers, body }))
      )
    })
    // In all, and not only while nothing comes.
    const timer = setTimeout(() => request.destroy(new Error(`no answer within ${millis} ms`)), millis)
    request.on("error", (error) => fail(error.message || "no connection"))
    request.on("close", () => {
      clearTimeout(timer)
      fail("the connection was closed")
    })
    request.end()
    return Effect.sync(() => request.destroy())
  })

/** Asks whoever is at a peer URL. Fails with why nothing was answered. */
export const get = (where: Where, text: string, path: string, millis: number): Effect.Effect<Answer, string> =>
  Effect.gen(function* () {
    const url = yield* Effect.fromResult(Url.parse(text))
    const { host, port, socketPath } = placeOf(where, url)
    const place: https.RequestOptions = { path, headers: { host: "localhost" } }
    if (socketPath === undefined) Object.assign(place, { host, port, headers: {} })
    else place.socketPath = socketPath
    if (!Url.isEncrypted(url)) return yield* send(place, false, millis)
    // By its name, which it may have a certificate for, also where its address is asked.
    const named = url.socket === undefined && !Url.isIp(url.host) ? { servername: url.host } : {}
    const { asking, ...tls } = where.peerTls
    const asked = send({ ...place, ...named, ...(yield* material({ ...tls, ...asking })) }, true, millis)
    // Who waits, and has no certificate of its own, cannot have one of etcd's making either.
    return yield* tls.isAutomatic ? Effect.catch(asked, () => send(place, false, millis)) : asked
  })

/** Listens where the node will, until the scope closes, and answers everybody the same. Fails with the error of the system. */
export const answer = (
  where: Where,
  text: string,
  body: () => string
): Effect.Effect<void, NodeJS.ErrnoException, Scope.Scope> =>
  Effect.gen(function* () {
    const url = Result.getOrThrow(Url.parse(text))
    const { host, path, port } = placeOf(where, url)
    const respond: http.RequestListener = (_, response) => {
      response.writeHead(503, { "content-type": "application/json", connection: "close" }).end(body())
    }
    const secured = Url.isEncrypted(url) && !where.peerTls.isAutomatic
    const tls = secured
      ? yield* Effect.mapError(material(where.peerTls), (why): NodeJS.ErrnoException => new Error(why))
      : undefined
    // Also those who have said nothing yet, whom a server with TLS does not count.
    const connected = new Set<net.Socket>()
    yield* Effect.acquireRelease(
      Effect.callback<net.Server, NodeJS.ErrnoException>((resume) => {
        const server =
          tls === undefined
            ? loadHttp().createServer(respond)
            : loadHttps().createServer({ ...tls, requestCert: false }, respond)
        server.on("error", (error) => resume(Effect.fail(error)))
        server.on("connection", (socket) => {
          connected.add(socket)
          socket.on("close", () => connected.delete(socket))
        })
        // A worker of `node:cluster` would otherwise share what another one has.
        server.listen({ ...(path === undefined ? { host, port } : { path }), exclusive: true }, () =>
          resume(Effect.succeed(server))
        )
        return Effect.sync(() => server.close())
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          for (const socket of connected) socket.destroy()
        })
    )
  })
