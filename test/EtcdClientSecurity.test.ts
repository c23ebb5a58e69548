/**
 * A client that was given TLS never goes without, whatever a server or a list says; and a list of addresses that cannot
 * be reached from here does not cut it off.
 */
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import { Auth, KV, Maintenance } from "../src/internal/proto/rpc_pb.ts"
import * as Etcd from "./support/client/etcd.ts"
import { reasonOf } from "./support/effects.ts"
import * as Http2 from "./support/http2/nodeServer.ts"
import { freePort, temporaryDirectory, until } from "./support/machine.ts"
import { fixture } from "./support/tls.ts"

const secureFlags = ["--cert-file", fixture.path("server.pem"), "--key-file", fixture.path("server.key")]
const tls = { ca: fixture.file("ca.pem") }
const credentials = { username: "root", password: Redacted.make("hunter2") }
const key = new Uint8Array([1])
const value = new TextEncoder().encode("a secret")

const put = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key, value }, options)
const once = { retry: Schedule.recurs(0) }

/** Answers every call as if it were etcd, or as one without a leader, and keeps what it was told. */
const recording = (hasLeader = true) => {
  const heard: Array<string> = []
  const handler: Http2.Handler = (stream, headers) => {
    heard.push(`${headers[":path"]} ${headers.token ?? ""}`)
    stream.on("data", (bytes: Uint8Array) => heard.push(new TextDecoder().decode(bytes)))
    stream.on("end", () =>
      hasLeader
        ? Http2.reply(stream, new Uint8Array(5))
        : Http2.reply(stream, new Uint8Array(0), { "grpc-status": "14", "grpc-message": "etcdserver: no leader" })
    )
  }
  return { heard, handler }
}

/** A plain server. */
const listening = Effect.fnUntraced(function* (hasLeader: boolean) {
  const { handler, heard } = recording(hasLeader)
  const server = yield* Http2.nodeServer(handler)
  return { heard, sessions: server.sessions, endpoint: `http://127.0.0.1:${server.port}` }
})

const listener = listening(true)

/** An etcd with TLS and users, that tells others to come to a plain address. */
const secureNode = (advertised: string) =>
  Effect.gen(function* () {
    const node = yield* Etcd.node({
      scheme: "https",
      flags: [...secureFlags, "--advertise-client-urls", advertised],
      client: { tls }
    })
    const client = yield* EtcdClient.make({ endpoints: [node.endpoint], tls })
    yield* client.unary(Auth.method.userAdd, { name: "root", password: "hunter2" })
    yield* client.unary(Auth.method.roleAdd, { name: "root" })
    yield* client.unary(Auth.method.userGrantRole, { user: "root", role: "root" })
    yield* client.unary(Auth.method.authEnable, {})
    return node
  })

/** What is logged at level warning and above. */
const warnings = () => {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel === "Warn") lines.push(String(message))
  })
  return { lines, layer: Logger.layer([logger]) }
}

const untilFirst = (client: EtcdClient.Client, endpoint: string) =>
  Effect.repeat(Effect.sleep("5 millis"), {
    while: () => Effect.map(client.endpoints, ([first]) => first !== endpoint)
  })

describe("a client with TLS", () => {
  it.live("does not follow its cluster to a plain address, and warns", () =>
    Effect.gen(function* () {
      const plain = yield* listener
      const node = yield* secureNode(plain.endpoint)
      const { layer, lines } = warnings()
      const client = yield* EtcdClient.make({
        endpoints: [node.endpoint],
        tls,
        credentials,
        memberRefresh: "10 millis"
      }).pipe(Effect.provide(layer))
      yield* until(() => lines.length > 2)
      for (let call = 0; call < 10; call++) yield* put(client)
      assert.deepStrictEqual(yield* client.endpoints, [node.endpoint])
      assert.deepStrictEqual(plain.heard, [])
      assert.strictEqual(plain.sessions.size, 0)
      assert.include(lines.join("\n"), plain.endpoint)
      assert.notInclude(lines.join("\n"), "hunter2")
    })
  )

  it.live("does not follow a stream of endpoints to a plain address, even with secure ones beside it", () => {
    const { layer, lines } = warnings()
    return Effect.gen(function* () {
      const plain = yield* listener
      const node = yield* secureNode("https://127.0.0.1:1")
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, [node.endpoint])
      const client = yield* EtcdClient.make({
        endpoints: Stream.fromQueue(lists),
        tls,
        credentials,
        selection: "spread"
      })
      yield* put(client)
      for (const list of [[plain.endpoint], [plain.endpoint, node.endpoint]]) {
        const before = lines.length
        yield* Queue.offer(lists, list)
        yield* until(() => lines.length > before)
        for (let call = 0; call < 4; call++) yield* put(client)
      }
      // Without a scheme it is what the client is.
      yield* Queue.offer(lists, [plain.endpoint.replace("http://", "")])
      const secured = plain.endpoint.replace("http:", "https:")
      yield* untilFirst(client, secured)
      assert.deepStrictEqual(yield* client.endpoints, [secured])
      assert.deepStrictEqual(plain.heard, [])
    }).pipe(Effect.provide(layer))
  })

  it.live("refuses to ask a plain endpoint that a single call names", () =>
    Effect.gen(function* () {
      const plain = yield* listener
      const node = yield* secureNode(plain.endpoint)
      const options = { endpoints: [node.endpoint], tls, credentials }
      const client = yield* EtcdClient.make(options)
      yield* put(client)
      for (const endpoint of [plain.endpoint, "unix:///tmp/etcd.sock"]) {
        const reason = yield* reasonOf(client.unary(Maintenance.method.status, {}, { endpoint }))
        assert.strictEqual(reason._tag, "InvalidArgument")
        assert.include(reason.message, endpoint)
      }
      const stream = client.serverStream(Maintenance.method.snapshot, {}, { endpoint: plain.endpoint })
      assert.strictEqual((yield* reasonOf(Stream.runDrain(stream)))._tag, "InvalidArgument")
      assert.strictEqual(plain.sessions.size, 0)
    })
  )

  it.live("is one that has secure endpoints, also without further options", () =>
    Effect.gen(function* () {
      const plain = yield* listener
      const client = yield* EtcdClient.make({ endpoints: ["https://127.0.0.1:1"], retry: Schedule.recurs(0) })
      const reason = yield* reasonOf(client.unary(Maintenance.method.status, {}, { endpoint: plain.endpoint }))
      assert.strictEqual(reason._tag, "InvalidArgument")
      assert.strictEqual(plain.sessions.size, 0)
    })
  )

  it.live("is one that a stream has given secure endpoints, from then on", () => {
    const { layer, lines } = warnings()
    return Effect.gen(function* () {
      const [before, after, named] = [yield* listener, yield* listener, yield* listening(false)]
      const [first, second] = ["https://127.0.0.1:1", "https://127.0.0.1:2"] as const
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, [before.endpoint])
      const client = yield* EtcdClient.make({ endpoints: Stream.fromQueue(lists), credentials })
      yield* put(client)
      // A call that is still being tried where the client may not go any more.
      const { endpoint } = named
      const trying = yield* Effect.forkChild(reasonOf(put(client, { endpoint, retry: Schedule.spaced("5 millis") })))
      yield* until(() => named.heard.length > 10)

      yield* Queue.offer(lists, [first, after.endpoint])
      yield* untilFirst(client, first)
      const toldNamed = named.heard.length
      assert.deepStrictEqual(yield* client.endpoints, [first])
      assert.strictEqual((yield* Fiber.join(trying))._tag, "InvalidArgument")
      // A try that had been sent may have been on its way: its headers and its message.
      assert.isAtMost(named.heard.length, toldNamed + 2)
      const servers = [before, after, named]
      const told = servers.map(({ heard }) => heard.length)
      for (const list of [[after.endpoint], [after.endpoint, second]]) {
        const warned = lines.length
        yield* Queue.offer(lists, list)
        yield* until(() => lines.length > warned)
        assert.strictEqual((yield* reasonOf(put(client, once)))._tag, "Unreachable")
      }
      yield* untilFirst(client, second)
      for (const { endpoint } of servers) {
        assert.strictEqual((yield* reasonOf(put(client, { endpoint })))._tag, "InvalidArgument")
      }
      assert.deepStrictEqual(
        servers.map(({ heard }) => heard.length),
        told
      )
      assert.strictEqual(after.heard.length, 0)
      yield* until(() => servers.every(({ sessions }) => sessions.size === 0))
      assert.include(lines.join("\n"), after.endpoint)
    }).pipe(Effect.provide(layer))
  })

  it.live("may have sockets of this machine beside, where the program itself says so", () => {
    const { layer, lines } = warnings()
    return Effect.gen(function* () {
      const elsewhere = "unix://elsewhere.sock:0"
      const node = yield* secureNode(elsewhere)
      const path = join(yield* temporaryDirectory, "own.sock")
      const { handler, heard } = recording()
      yield* Http2.unixServer(handler, path)
      const socket = `unix://${path}`
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      yield* Queue.offer(lists, [node.endpoint])
      const client = yield* EtcdClient.make({ endpoints: Stream.fromQueue(lists), tls, credentials })
      yield* Queue.offer(lists, [socket, node.endpoint])
      yield* untilFirst(client, socket)
      yield* client.unary(Maintenance.method.status, {}, { endpoint: socket })
      assert.isAbove(heard.length, 0)
      assert.deepStrictEqual(lines, [])
      // What the cluster says is another thing, and so is what no list has any more.
      yield* Queue.offer(lists, [node.endpoint])
      yield* untilFirst(client, node.endpoint)
      for (const endpoint of [socket, elsewhere]) {
        assert.strictEqual((yield* reasonOf(put(client, { endpoint })))._tag, "InvalidArgument")
      }
      const following = yield* EtcdClient.make({
        endpoints: [node.endpoint],
        tls,
        credentials,
        memberRefresh: "10 millis"
      })
      yield* until(() => lines.length > 1)
      assert.deepStrictEqual(yield* following.endpoints, [node.endpoint])
      assert.include(lines.join("\n"), elsewhere)
    }).pipe(Effect.provide(layer))
  })

  it.effect("has no plain endpoints beside", () =>
    Effect.gen(function* () {
      for (const endpoints of [
        ["https://a", "http://b"],
        ["http://b", "unixs:///run/a"]
      ]) {
        const reason = yield* reasonOf(EtcdClient.make({ endpoints }))
        assert.strictEqual(reason._tag, "InvalidArgument")
        assert.include(reason.message, "http://b")
      }
      yield* EtcdClient.make({ endpoints: ["https://a", "unix:///run/etcd.sock"], tls })
    })
  )
})

describe("a client whose cluster advertises addresses that cannot be reached from here", () => {
  it.live("goes on with those that it was given, also after etcd was away", () =>
    Effect.gen(function* () {
      const closed = `http://127.0.0.1:${yield* freePort}`
      const node = yield* Etcd.node({ flags: ["--advertise-client-urls", closed] })
      for (const selection of ["sticky", "spread", "leader"] as const) {
        const client = yield* EtcdClient.make({ endpoints: [node.endpoint], memberRefresh: "10 millis", selection })
        yield* Effect.repeat(Effect.sleep("5 millis"), {
          while: () => Effect.map(client.endpoints, ([first]) => first !== closed)
        })
        for (let call = 0; call < 5; call++) yield* put(client)
        yield* node.kill
        const lost = yield* Effect.exit(put(client).pipe(Effect.timeout("100 millis")))
        assert.strictEqual(lost._tag, "Failure")
        yield* node.start
        yield* put(client)
        yield* put(client)
      }
    })
  )
})
