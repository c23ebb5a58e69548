/**
 * Under load against real etcd nodes that are killed, paused, drained and restarted: calls go on, none hangs, and no
 * write is applied twice.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import { KV, Maintenance, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as Etcd from "./support/client/etcd.ts"
import * as Load from "./support/client/load.ts"

const connect = (nodes: ReadonlyArray<Etcd.Node>, options: Partial<EtcdClient.Options> = {}) =>
  EtcdClient.make({
    endpoints: nodes.map((node) => node.endpoint),
    keepAliveInterval: "500 millis",
    keepAliveTimeout: "500 millis",
    ...options
  })

/** etcd counts the writes of a key: each acknowledged one once, and none that was refused. */
const assertOnce = (keys: ReadonlyArray<{ readonly tally: Load.Tally; readonly version: number }>) => {
  for (const { tally, version } of keys) {
    assert.isAtLeast(version, tally.acknowledged)
    assert.isAtMost(version, tally.acknowledged + tally.unknown)
  }
}

/** The node that the client's calls go to. */
const inUse = (client: EtcdClient.Client, nodes: ReadonlyArray<Etcd.Node>) =>
  Effect.gen(function* () {
    const answer = yield* client.unary(KV.method.range, { key: new Uint8Array([1]) })
    for (const node of nodes) {
      const status = yield* client.unary(Maintenance.method.status, {}, { endpoint: node.endpoint })
      if (status.header?.memberId === answer.header?.memberId) return node
    }
    return yield* Effect.die("no node answered")
  })

describe("one node under load", () => {
  it.live("is killed and comes back", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const client = yield* connect([node])
      const load = yield* Load.start(client, 8)
      yield* load.progress(100)
      yield* node.kill
      yield* load.failures
      yield* node.start
      yield* load.progress(100)
      assertOnce(yield* load.stop)
    })
  )

  it.live("is paused and goes on", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const client = yield* connect([node])
      const load = yield* Load.start(client, 8)
      yield* load.progress(100)
      yield* node.pause
      yield* load.failures
      yield* node.resume
      yield* load.progress(100)
      assertOnce(yield* load.stop)
    })
  )

  it.live("is stopped, which drains its connections, and comes back", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const client = yield* connect([node])
      const load = yield* Load.start(client, 8)
      yield* load.progress(100)
      yield* node.stop
      yield* node.start
      yield* load.progress(100)
      assertOnce(yield* load.stop)
    })
  )
})

describe("a cluster of three under load", () => {
  it.live("loses each of its members in turn, and gets it back", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const client = yield* connect(nodes)
      const load = yield* Load.start(client, 8)
      for (const fault of ["kill", "stop"] as const) {
        for (const node of nodes) {
          yield* load.progress(50)
          yield* node[fault]
          yield* load.progress(50)
          yield* node.start
          yield* Etcd.serving(node)
          yield* Etcd.leading(nodes)
        }
      }
      yield* load.progress(50)
      const keys = yield* load.stop
      assertOnce(keys)
    })
  )

  it.live("goes on without the member in use, whether that is killed, paused or stopped", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const client = yield* connect(nodes)
      const load = yield* Load.start(client, 8)
      for (const fault of ["kill", "pause", "stop"] as const) {
        const node = yield* inUse(client, nodes)
        yield* node[fault]
        yield* load.progress(50)
        if (fault === "pause") yield* node.resume
        else yield* node.start
        yield* Etcd.serving(node)
        yield* Etcd.leading(nodes)
      }
      assertOnce(yield* load.stop)
    })
  )

  it.live("avoids a member that has lost its leader", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const leader = yield* Etcd.leading(nodes)
      const [alone, ...others] = [leader, ...nodes.filter((node) => node !== leader)]
      for (const node of others) yield* node.pause
      const client = yield* connect(nodes)
      const status = () => client.unary(Maintenance.method.status, {}, { endpoint: alone.endpoint })
      yield* Effect.repeat(status(), { while: (answer) => answer.leader !== 0n })
      const lonely = yield* connect([alone])
      const error = yield* Effect.flip(
        lonely.unary(KV.method.put, { key: new Uint8Array([1]) }, { deadline: "1 second" })
      )
      assert.strictEqual(error.reason._tag, "NoLeader")
      assert.strictEqual(error.outcome, "not-applied")
      const stale = yield* lonely.unary(KV.method.range, { key: new Uint8Array([1]), serializable: true })
      assert.strictEqual(stale.count, 0n)
      for (const node of others) yield* node.resume
      // One that is sent before the election may be lost in it, which its client tells.
      const put = client.unary(KV.method.put, { key: new Uint8Array([1]) }, { deadline: "30 seconds" })
      yield* Effect.retry(put, { while: ({ outcome }) => outcome === "unknown" })
    })
  )

  it.live("ends a watch on a member that dies, and opens the next one elsewhere", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const client = yield* connect(nodes)
      const watched = Effect.scoped(
        Effect.gen(function* () {
          const watch = yield* client.bidirectional(Watch.method.watch)
          yield* watch.send({ requestUnion: { case: "createRequest", value: { key: new Uint8Array([1]) } } })
          const node = nodes.find(({ endpoint }) => endpoint === watch.endpoint)!
          const end = yield* Effect.flip(
            Stream.runForEach(watch.messages, (message) => (message.created ? node.kill : Effect.void))
          )
          return { node, end }
        })
      )
      const { end, node } = yield* watched
      assert.strictEqual(end.reason._tag, "ConnectionLost")
      const again = yield* client.bidirectional(Watch.method.watch)
      assert.notStrictEqual(again.endpoint, node.endpoint)
    })
  )
})
