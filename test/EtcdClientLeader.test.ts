/**
 * Against real clusters whose leader is killed, paused, cut off from the others, or moved.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../src/EtcdClient.ts"
import type { EtcdError } from "../src/EtcdError.ts"
import { KV, Maintenance } from "../src/internal/proto/rpc_pb.ts"
import { bytes } from "./support/bytes.ts"
import * as Etcd from "./support/client/etcd.ts"
import { slowLink } from "./support/client/slowLink.ts"

const put = (client: EtcdClient.Client, key: string, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key: bytes(key) }, options)
const get = (client: EtcdClient.Client, key: string) => client.unary(KV.method.range, { key: bytes(key) })

const endpointsOf = (nodes: ReadonlyArray<Etcd.Node>) => nodes.map((node) => node.endpoint)

const statusOf = (client: EtcdClient.Client, node: Etcd.Node) =>
  client.unary(Maintenance.method.status, {}, { endpoint: node.endpoint, deadline: "2 seconds" })

/** Puts one after the other, until it is stopped. */
const load = (client: EtcdClient.Client, key: string) =>
  Effect.gen(function* () {
    const failures: Array<EtcdError> = []
    let acknowledged = 0
    let running = true
    const fiber = yield* Effect.forkChild(
      Effect.repeat(Effect.result(put(client, key)), {
        while: (result) => {
          if (Result.isSuccess(result)) acknowledged++
          else failures.push(result.failure)
          return running
        }
      })
    )
    return {
      failures,
      /** Waits until so many more were acknowledged. */
      progress: (count: number) =>
        Effect.suspend(() => {
          const wanted = acknowledged + count
          return Effect.repeat(Effect.sleep("5 millis"), { while: () => acknowledged < wanted })
        }),
      stop: Effect.suspend(() => {
        running = false
        return Fiber.join(fiber)
      })
    }
  })

describe("when the leader goes", () => {
  for (const fault of ["kill", "pause"] as const) {
    for (const [selection, batching] of [
      ["sticky", false],
      ["sticky", true],
      ["leader", false],
      ["spread", false]
    ] as const) {
      it.live(`writes do not wait for etcd's own timeout (${fault}, ${selection}${batching ? ", batched" : ""})`, () =>
        Effect.gen(function* () {
          const nodes = yield* Etcd.cluster(3)
          const leader = yield* Etcd.leading(nodes)
          // One client by each way that a write can take: through a follower, and at the leader.
          const client = yield* EtcdClient.make({ endpoints: endpointsOf(nodes), selection, batching })
          const others = nodes.filter((node) => node !== leader)
          const follower = yield* EtcdClient.make({ endpoints: endpointsOf(others), selection, batching })
          const loads = yield* Effect.all([load(client, "a"), load(follower, "b")])
          for (const { progress } of loads) yield* progress(20)
          yield* leader[fault]
          for (const { failures, progress, stop } of loads) {
            yield* progress(5)
            yield* stop
            for (const { reason } of failures) {
              assert.include(["LeaderChanged", "ConnectionLost", "NoLeader"], reason._tag, reason.message)
            }
          }
        })
      )
    }
  }

  it.live("reads at a leader that is paused are answered by the others", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const leader = yield* Etcd.leading(nodes)
      const client = yield* EtcdClient.make({
        endpoints: endpointsOf(nodes),
        selection: "leader",
        keepAliveInterval: "Infinity"
      })
      yield* put(client, "k")
      const isLeaders = Effect.gen(function* () {
        const [answer, status] = yield* Effect.all([get(client, "k"), statusOf(client, leader)])
        return answer.header!.memberId === status.header!.memberId
      })
      yield* Effect.repeat(isLeaders, { while: (is) => !is })
      yield* leader.pause
      const reads = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => index),
        () => get(client, "k"),
        { concurrency: "unbounded" }
      )
      for (const read of reads) assert.strictEqual(read.count, 1n)
      yield* put(client, "k")
    })
  )
})

describe("a leader that is slow, and goes on to lead,", () => {
  it.live("answers what it was asked meanwhile", () =>
    Effect.gen(function* () {
      // Nobody stands for election while it stands still.
      const flags = ["--heartbeat-interval", "500", "--election-timeout", "5000"]
      const nodes = yield* Etcd.cluster(3, { flags })
      const leader = yield* Etcd.leading(nodes)
      const clients = yield* Effect.forEach(
        [
          { selection: "leader" },
          { selection: "leader", batching: true },
          { selection: "sticky" },
          { selection: "spread" }
        ] as const,
        (options) => EtcdClient.make({ endpoints: endpointsOf(nodes), ...options })
      )
      for (const client of clients) for (let call = 0; call < 20; call++) yield* put(client, "k")
      yield* leader.pause
      const calls = yield* Effect.forEach(
        clients.flatMap((client, index) =>
          Array.from({ length: 20 }, (_, call) => ({ client, key: `${index}/${call}` }))
        ),
        ({ client, key }) =>
          Effect.forkChild(Effect.all([put(client, key), get(client, key)]), { startImmediately: true })
      )
      // Long enough for the clients to ask all that they can, and shorter than an election takes.
      yield* Effect.sleep("1500 millis")
      yield* leader.resume
      for (const call of calls) {
        const [, { kvs }] = yield* Fiber.join(call)
        assert.strictEqual(kvs[0]!.version, 1n)
      }
    })
  )
})

describe("an answer that takes long on its way", () => {
  it.live("comes, though there are other members to ask, who say who leads", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const endpoints = endpointsOf(nodes)
      const fast = yield* EtcdClient.make({ endpoints })
      const value = new Uint8Array(1_000_000)
      for (const key of ["a", "b", "c"]) yield* fast.unary(KV.method.put, { key: bytes(key), value })
      // The greeting, and the question who leads, wait behind what is under way.
      const slow = yield* Effect.forEach(endpoints, (endpoint) => slowLink(endpoint, 1_000_000))
      for (const transport of ["http2", "node:http2"] as const) {
        const client = yield* EtcdClient.make({ endpoints: slow, transport })
        yield* get(client, "none")
        const all = yield* client.unary(
          KV.method.range,
          { key: bytes("a"), rangeEnd: bytes("d") },
          { retry: Schedule.recurs(0) }
        )
        assert.strictEqual(all.kvs.length, 3)
      }
    })
  )
})

describe("a client that keeps to the leader", () => {
  const isAtLeader = (client: EtcdClient.Client, nodes: ReadonlyArray<Etcd.Node>) =>
    Effect.gen(function* () {
      const answer = yield* get(client, "k")
      for (const node of nodes) {
        const status = yield* Effect.exit(statusOf(client, node))
        if (Exit.isSuccess(status) && status.value.leader === status.value.header!.memberId) {
          return status.value.leader === answer.header!.memberId
        }
      }
      return false
    })

  /** And stays there. */
  const settled = (client: EtcdClient.Client, nodes: ReadonlyArray<Etcd.Node>) =>
    Effect.gen(function* () {
      yield* Effect.repeat(isAtLeader(client, nodes), { while: (is) => !is })
      for (let look = 0; look < 5; look++) assert.isTrue(yield* isAtLeader(client, nodes))
    })

  it.live("finds it, and the next one, whether the last one is killed, paused, or has handed over", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const client = yield* EtcdClient.make({ endpoints: endpointsOf(nodes), selection: "leader" })
      yield* put(client, "k")
      yield* settled(client, nodes)
      for (const fault of ["kill", "pause", "stop"] as const) {
        const leader = yield* Etcd.leading(nodes)
        yield* leader[fault]
        yield* Effect.repeat(Effect.exit(put(client, "k")), { while: Exit.isFailure })
        yield* settled(
          client,
          nodes.filter((node) => node !== leader)
        )
        if (fault === "pause") yield* leader.resume
        else yield* leader.start
        yield* Etcd.serving(leader)
        yield* Etcd.leading(nodes)
      }
      const leader = yield* Etcd.leading(nodes)
      const next = yield* statusOf(client, nodes.find((node) => node !== leader)!)
      yield* client.unary(
        Maintenance.method.moveLeader,
        { targetID: next.header!.memberId },
        { endpoint: leader.endpoint, deadline: "10 seconds" }
      )
      yield* put(client, "k")
      yield* settled(client, nodes)
    })
  )

  it.live("uses whom it can reach where the leader is not among its endpoints", () =>
    Effect.gen(function* () {
      const nodes = yield* Etcd.cluster(3)
      const leader = yield* Etcd.leading(nodes)
      const client = yield* EtcdClient.make({
        endpoints: endpointsOf(nodes.filter((node) => node !== leader)),
        selection: "leader"
      })
      for (let call = 0; call < 20; call++) yield* put(client, "k")
    })
  )
})
