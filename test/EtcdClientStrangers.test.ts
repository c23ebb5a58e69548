/**
 * What a client says of an address at which there is not what it was told: an etcd without TLS or with it, somebody else, or
 * nobody. In words that say what to change, over either transport.
 */
import * as http from "node:http"
import * as http2 from "node:http2"
import * as https from "node:https"
import * as net from "node:net"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as Etcd from "./support/client/etcd.ts"
import { freePort, temporaryDirectory } from "./support/machine.ts"
import { fixture } from "./support/tls.ts"

const transports = ["http2", "node:http2"] as const

const ca = fixture.file("ca.pem")

/** Where a server listens. */
const listening = (server: net.Server, path?: string) =>
  Effect.acquireRelease(
    Effect.callback<string>((resume) => {
      server.listen(path === undefined ? { port: 0, host: "127.0.0.1" } : { path }, () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "string" ? address : `127.0.0.1:${address?.port}`))
      })
    }),
    () => Effect.sync(() => server.close())
  )

/** Somebody who says something to whoever comes, and then nothing, or leaves. */
const saying = (bytes: string, leaves: boolean) =>
  listening(
    net.createServer((socket) => {
      socket.on("error", () => {})
      if (leaves) socket.end(bytes, "latin1")
      else socket.write(bytes, "latin1")
    })
  )

const certificate = { cert: fixture.text("server.pem"), key: fixture.text("server.key") }

/** How a write to that address fails, with the client's own patience cut short. */
const failure = (endpoint: string, transport: "http2" | "node:http2", tls?: EtcdClient.Tls) =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* EtcdClient.make({
        endpoints: [endpoint],
        transport,
        connectTimeout: "200 millis",
        retry: Schedule.recurs(0),
        ...(tls === undefined ? {} : { tls })
      })
      return (yield* Effect.flip(EtcdKv.fromClient(client).put("a", "b"))).reason
    })
  )

const told = Effect.fnUntraced(function* (
  endpoint: string,
  says: RegExp | { readonly [transport in (typeof transports)[number]]: RegExp },
  expected: { readonly lasting?: boolean; readonly tls?: EtcdClient.Tls; readonly tag?: EtcdError.Reason["_tag"] } = {}
) {
  for (const transport of transports) {
    const reason = yield* failure(endpoint, transport, expected.tls)
    assert.strictEqual(reason._tag, expected.tag ?? "Unreachable", reason.message)
    assert.match(reason.message, says instanceof RegExp ? says : says[transport])
    assert.include(reason.message, endpoint)
    if (reason._tag !== "Unreachable") continue
    assert.strictEqual(reason.outcome, "not-applied")
    assert.strictEqual(reason.lasting === true, expected.lasting === true, reason.message)
  }
})

describe("what a client says of", () => {
  it.live("an etcd that speaks plain text, or TLS, where it was told otherwise", () =>
    Effect.gen(function* () {
      const plain = yield* Etcd.node({})
      const address = plain.endpoint.replace("http://", "")
      yield* told(`https://${address}`, /most likely it does not speak TLS on this address \(use http, or/)
      yield* told(`https://${address}`, /most likely it does not speak TLS on this address \(use http, or/, {
        tls: { ca }
      })
      const secure = yield* Etcd.node({
        scheme: "https",
        flags: ["--cert-file", fixture.path("server.pem"), "--key-file", fixture.path("server.key")],
        client: { tls: { ca } }
      })
      yield* told(secure.endpoint.replace("https://", "http://"), /it may require TLS \(use https\)/)
    })
  )

  it.live("a Unix socket with TLS, without, and one that is not there", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const secure = yield* listening(http2.createSecureServer(certificate), join(directory, "secure.sock"))
      yield* told(`unix://${secure}`, /it may require TLS \(use unixs\)/)
      const plain = yield* listening(
        net.createServer((socket) => socket.once("data", () => socket.destroy())),
        join(directory, "plain.sock")
      )
      yield* told(`unixs://${plain}`, /most likely it does not speak TLS on this address \(use unix, or/, {
        tls: { ca }
      })
      yield* told(`unix://${join(directory, "none.sock")}`, /there is no such socket; check the path/)
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("a web server", () =>
    Effect.gen(function* () {
      const answer: http.RequestListener = (_, response) => response.end("hello")
      const one = yield* listening(http.createServer(answer))
      yield* told(`http://${one}`, {
        http2: /speaks HTTP\/1 and not HTTP\/2 \(it answered "HTTP\/1.1 400 Bad Request/,
        "node:http2": /does not speak HTTP\/2 \(Protocol error\); check that this is etcd's client address/
      })
      yield* told(`https://${one}`, /does not speak TLS on this address; use http, or the address/, { lasting: true })
      const secure = yield* listening(https.createServer(certificate, answer))
      yield* told(`http://${secure}`, /it may require TLS \(use https\)/)
      yield* told(`https://${secure}`, /does not offer HTTP\/2 \(ALPN h2\); check/, { lasting: true, tls: { ca } })
      const two = http2.createServer((_, response) => {
        response.writeHead(404, { "content-type": "text/html" })
        response.end("<h1>not here</h1>")
      })
      yield* told(
        `http://${yield* listening(two)}`,
        /not gRPC but HTTP 404.*not here.*check that the address is etcd's/,
        {
          tag: "NotGrpc"
        }
      )
    })
  )

  it.live("a server of another kind", () =>
    Effect.gen(function* () {
      const others: ReadonlyArray<readonly [string, string, boolean]> = [
        ["SSH-2.0-OpenSSH_9.2p1", "SSH-2.0-OpenSSH_9.2p1\r\n", false],
        ["220 mail.example ESMTP", "220 mail.example ESMTP\r\n", true],
        ["-ERR unknown command", "-ERR unknown command\r\n", true]
      ]
      for (const [line, bytes, leaves] of others) {
        const address = yield* saying(bytes, leaves)
        yield* told(`http://${address}`, {
          http2: new RegExp(
            `speaks another protocol \\(it said "${line}"\\); check that this is etcd's client address`
          ),
          "node:http2": /does not speak HTTP\/2 \(Protocol error\); check that this is etcd's client address/
        })
        yield* told(`https://${address}`, /does not speak TLS on this address/, { lasting: true })
      }
      // Not in words: MySQL.
      const database = yield* saying("\x4a\0\0\0\x0a8.0.36\0", false)
      yield* told(`http://${database}`, /does not speak HTTP\/2 .*; check that this is etcd's client address/)
    })
  )

  it.live("somebody who says nothing, or leaves, and nobody", () =>
    Effect.gen(function* () {
      const silent = yield* saying("", false)
      yield* told(`http://${silent}`, /sent no HTTP\/2 settings within 200 ms; it may be paused or overloaded/)
      yield* told(`https://${silent}`, /TLS handshake did not finish within 200 ms; check that the server speaks TLS/)
      const leaving = yield* saying("", true)
      yield* told(`http://${leaving}`, /closed the connection at once/)
      yield* told(`https://${leaving}`, /most likely it does not speak TLS on this address/)
      const nobody = `127.0.0.1:${yield* freePort}`
      yield* told(`http://${nobody}`, /the connection was refused; nothing listens there/)
      yield* told(`https://${nobody}`, /the connection was refused; nothing listens there/)
      yield* told("http://no-such-host.invalid:2379", /host name (does not exist|could not be looked up)/)
    })
  )
})
