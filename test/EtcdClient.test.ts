/**
 * The three kinds of calls against a real etcd, over TCP and over a Unix socket.
 */
import { createHash } from "node:crypto"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import { KV, Lease, Maintenance, Watch } from "../src/internal/proto/rpc_pb.ts"
import { bytes } from "./support/bytes.ts"
import * as Etcd from "./support/client/etcd.ts"

const key = bytes("key")
const value = bytes("value")

/** The node that tests share. */
class Node extends Context.Service<Node, Etcd.Node>()("test/Node") {}

const calls = (client: EtcdClient.Client) =>
  Effect.gen(function* () {
    const put = yield* client.unary(KV.method.put, { key, value })
    const range = yield* client.unary(KV.method.range, { key })
    assert.deepStrictEqual(range.kvs[0]?.value, value)
    assert.strictEqual(range.kvs[0]?.modRevision, put.header?.revision)

    const watch = yield* client.bidirectional(Watch.method.watch)
    yield* watch.send({ requestUnion: { case: "createRequest", value: { key, startRevision: put.header!.revision } } })
    const [created, event] = yield* Stream.runCollect(Stream.take(watch.messages, 2))
    assert.isTrue(created?.created)
    assert.deepStrictEqual(event?.events[0]?.kv?.value, value)

    const parts = yield* Stream.runCollect(client.serverStream(Maintenance.method.snapshot, {}))
    const snapshot = Buffer.concat(parts.map((part) => part.blob))
    const [file, hash] = [snapshot.subarray(0, -32), snapshot.subarray(-32)]
    assert.isTrue(createHash("sha256").update(file).digest().equals(hash))
  })

describe("EtcdClient", () => {
  layer(Layer.effect(Node, Etcd.node()), { excludeTestServices: true })((it) => {
    it.effect("calls over TCP, by IP and by name", () =>
      Effect.gen(function* () {
        const node = yield* Node
        yield* calls(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
        const byName = node.endpoint.replace("http://127.0.0.1", "localhost")
        yield* calls(yield* EtcdClient.make({ endpoints: [byName] }))
      })
    )

    it.effect("is a service with a layer", () =>
      Effect.gen(function* () {
        const node = yield* Node
        const program = EtcdClient.EtcdClient.use((client) => client.unary(KV.method.put, { key, value }))
        yield* Effect.provide(program, EtcdClient.layer({ endpoints: [node.endpoint] }))
        const bad = yield* Effect.exit(Effect.scoped(Layer.build(EtcdClient.layer({ endpoints: ["ftp://etcd"] }))))
        assert.isTrue(Exit.isFailure(bad))
      })
    )

    it.effect("tells what a server refuses, and what it does not have", () =>
      Effect.gen(function* () {
        const node = yield* Node
        const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
        const refused = yield* Effect.flip(client.unary(Lease.method.leaseRevoke, { ID: 1n }))
        assert.strictEqual(refused.reason._tag, "LeaseNotFound")
        assert.strictEqual(refused.outcome, "not-applied")
        const future = yield* Effect.flip(client.unary(KV.method.range, { key, revision: 1000n }))
        assert.strictEqual(future.reason._tag, "FutureRevision")
        const large = yield* Effect.flip(client.unary(KV.method.put, { key, value: new Uint8Array(3 * 1024 * 1024) }))
        assert.strictEqual(large.reason._tag, "RequestTooLarge")
        const { version } = yield* client.unary(Maintenance.method.status, {})
        const [, minor] = version.split(".")
        const stream = Stream.runDrain(client.serverStream(KV.method.rangeStream, { key }))
        if (Number(minor) >= 7) return yield* stream
        const lacking = yield* Effect.flip(stream)
        assert.strictEqual(lacking.reason._tag, "Unsupported")
      })
    )

    it.effect("cancels on the server what is interrupted here", () =>
      Effect.gen(function* () {
        const node = yield* Node
        const client = yield* EtcdClient.make({ endpoints: [node.endpoint] })
        yield* client.unary(KV.method.put, { key, value })
        const one = Effect.gen(function* () {
          const call = yield* Effect.forkChild(client.unary(KV.method.range, { key }))
          yield* Effect.yieldNow
          yield* Fiber.interrupt(call)
        })
        yield* Effect.repeat(one, { times: 1000 })
        yield* client.unary(KV.method.range, { key })
      })
    )
  })

  it.live("calls over a Unix socket", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node({ socket: true })
      assert.match(node.endpoint, /^unix:\/\//)
      yield* calls(yield* EtcdClient.make({ endpoints: [node.endpoint] }))
    })
  )
})
