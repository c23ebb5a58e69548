/**
 * The client knows whom it talks to: one cluster, and no other.
 */
import * as net from "node:net"
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdId from "../src/EtcdId.ts"
import { makeWith } from "../src/internal/client/client.ts"
import {
  AuthenticateResponseSchema,
  KV,
  Maintenance,
  PutResponseSchema,
  RangeResponseSchema,
  Watch
} from "../src/internal/proto/rpc_pb.ts"
import * as Etcd from "./support/client/etcd.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import { reasonOf } from "./support/effects.ts"

const key = new Uint8Array([1])
const put = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key }, options)
const retry = Schedule.spaced("20 millis")
const get = (client: EtcdClient.Client) => client.unary(KV.method.range, { key })

const clusterOf = (endpoint: string) =>
  Effect.gen(function* () {
    const client = yield* EtcdClient.make({ endpoints: [endpoint] })
    return EtcdId.ClusterId((yield* client.unary(Maintenance.method.status, {})).header!.clusterId)
  }).pipe(Effect.scoped)

/** How often the key was written there. */
const versionAt = (endpoint: string) =>
  Effect.gen(function* () {
    const client = yield* EtcdClient.make({ endpoints: [endpoint] })
    return (yield* get(client)).kvs[0]?.version ?? 0n
  }).pipe(Effect.scoped)

const assertNamesBoth = (reason: EtcdError.Reason, expected: bigint, found: bigint) => {
  if (reason._tag !== "ClusterIdMismatch") return assert.fail(reason.message)
  assert.deepStrictEqual([reason.expected, reason.found], [expected, found])
  assert.include(reason.message, EtcdId.format(expected))
  assert.include(reason.message, EtcdId.format(found))
}

const header = (clusterId: bigint) => ({ clusterId, memberId: 1n, revision: 7n, raftTerm: 2n })

const putAnswer = (clusterId: bigint) =>
  toBinary(PutResponseSchema, create(PutResponseSchema, { header: header(clusterId) }))

/** Two clusters that know nothing of each other. */
const twoClusters = Effect.gen(function* () {
  return { mine: yield* Etcd.node(), strange: yield* Etcd.node({ flags: ["--initial-cluster-token", "other"] }) }
})

/** Those that tests share. */
class Clusters extends Context.Service<Clusters, Effect.Success<typeof twoClusters>>()("test/Clusters") {}

/** The same, where the key was never written. */
const untouched = Effect.gen(function* () {
  const clusters = yield* Clusters
  for (const { endpoint } of Object.values(clusters)) {
    const client = yield* EtcdClient.make({ endpoints: [endpoint] })
    yield* client.unary(KV.method.deleteRange, { key })
  }
  return clusters
})

/** A port whose connections go to one endpoint or another, as a test says. */
const switchboard = (first: string) =>
  Effect.gen(function* () {
    let target = new URL(first)
    const sockets = new Set<net.Socket>()
    const server = yield* Effect.acquireRelease(
      Effect.callback<net.Server>((resume) => {
        const server = net.createServer((socket) => {
          const onward = net.connect(Number(target.port), target.hostname)
          for (const one of [socket, onward]) {
            sockets.add(one)
            one.on("error", () => {})
            one.on("close", () => sockets.delete(one))
          }
          socket.pipe(onward).pipe(socket)
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          for (const socket of sockets) socket.destroy()
          server.close()
        })
    )
    return {
      endpoint: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
      /** From now on connections go there, and those that there are break. */
      connect: (endpoint: string) => {
        target = new URL(endpoint)
        for (const socket of sockets) socket.destroy()
      }
    }
  })

describe("an endpoint of another cluster", () => {
  layer(Layer.effect(Clusters, twoClusters), { excludeTestServices: true })((it) => {
    for (const selection of ["sticky", "spread", "leader"] as const) {
      it.effect(`gets nothing, and the others are used (${selection})`, () =>
        Effect.gen(function* () {
          const { mine, strange } = yield* untouched
          const client = yield* EtcdClient.make({ endpoints: [mine.endpoint, strange.endpoint], selection })
          yield* put(client)
          const [first, second] = (yield* versionAt(mine.endpoint)) === 1n ? [mine, strange] : [strange, mine]
          for (let call = 0; call < 20; call++) yield* put(client)
          assert.strictEqual(yield* versionAt(first.endpoint), 21n)
          assert.strictEqual(yield* versionAt(second.endpoint), 0n)

          const [expected, found] = [yield* clusterOf(first.endpoint), yield* clusterOf(second.endpoint)]
          const { endpoint } = second
          for (let call = 0; call < 3; call++) {
            const reason = yield* reasonOf(put(client, { endpoint }))
            assertNamesBoth(reason, expected, found)
            assert.strictEqual(reason.outcome, "not-applied")
          }
          const snapshot = client.serverStream(Maintenance.method.snapshot, {}, { endpoint })
          assertNamesBoth(yield* reasonOf(Stream.runDrain(snapshot)), expected, found)
          const watch = Effect.scoped(client.bidirectional(Watch.method.watch, { endpoint }))
          assertNamesBoth(yield* reasonOf(watch), expected, found)
          assert.strictEqual(yield* versionAt(endpoint), 0n)
        })
      )
    }

    it.effect("is each that is not the one that the client was told, whoever answers first", () =>
      Effect.gen(function* () {
        const { mine, strange } = yield* untouched
        const [clusterId, found] = [yield* clusterOf(mine.endpoint), yield* clusterOf(strange.endpoint)]
        const client = yield* EtcdClient.make({ endpoints: [strange.endpoint], clusterId })
        assertNamesBoth(yield* reasonOf(put(client)), clusterId, found)
        // Either form of an id is taken.
        const both = [strange.endpoint, mine.endpoint]
        for (const id of [clusterId, BigInt.asIntN(64, clusterId) as EtcdId.ClusterId]) {
          yield* put(yield* EtcdClient.make({ endpoints: both, clusterId: id, selection: "spread" }))
        }
        assert.deepStrictEqual([yield* versionAt(mine.endpoint), yield* versionAt(strange.endpoint)], [2n, 0n])
      })
    )

    it.effect("is told of in one warning", () =>
      Effect.gen(function* () {
        const { mine, strange } = yield* untouched
        const warnings: Array<string> = []
        const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
          if (logLevel === "Warn") warnings.push(String(message))
        })
        const client = yield* EtcdClient.make({ endpoints: [mine.endpoint] })
        yield* put(client)
        // Not where the client was made, but where it is used.
        const calls = Effect.forEach([1, 2, 3], () => reasonOf(put(client, { endpoint: strange.endpoint })))
        yield* Effect.provide(calls, Logger.layer([logger]))
        assert.strictEqual(warnings.length, 1)
        assert.include(warnings[0], strange.endpoint)
        assert.include(warnings[0], EtcdId.format(yield* clusterOf(mine.endpoint)))
        assert.include(warnings[0], EtcdId.format(yield* clusterOf(strange.endpoint)))
      })
    )

    it.effect("takes the place of the only one: calls fail at once, and nothing is written there", () =>
      Effect.gen(function* () {
        const { mine, strange } = yield* untouched
        const door = yield* switchboard(mine.endpoint)
        const client = yield* EtcdClient.make({ endpoints: [door.endpoint] })
        yield* put(client)
        const [expected, found] = [yield* clusterOf(mine.endpoint), yield* clusterOf(strange.endpoint)]
        door.connect(strange.endpoint)
        const reason = yield* Effect.repeat(reasonOf(put(client)), {
          while: (reason) => reason._tag === "ConnectionLost"
        })
        assertNamesBoth(reason, expected, found)
        assert.strictEqual(reason.outcome, "not-applied")
        assertNamesBoth(yield* reasonOf(get(client)), expected, found)
        assert.strictEqual(yield* versionAt(strange.endpoint), 0n)
        door.connect(mine.endpoint)
        yield* put(client, { retry })
        assert.strictEqual(yield* versionAt(mine.endpoint), 2n)
      })
    )

    it.effect("is left when it is known whose client this is", () =>
      Effect.gen(function* () {
        const { mine, strange } = yield* untouched
        const client = yield* EtcdClient.make({ endpoints: [mine.endpoint] })
        const { endpoint } = strange
        yield* client.unary(Maintenance.method.status, {}, { endpoint })
        const watch = yield* client.bidirectional(Watch.method.watch, { endpoint })
        yield* put(client)
        yield* watch.draining
        const reason = yield* reasonOf(put(client, { endpoint }))
        assertNamesBoth(reason, yield* clusterOf(mine.endpoint), yield* clusterOf(endpoint))
        assert.strictEqual(reason.outcome, "not-applied")
        assert.strictEqual(yield* versionAt(endpoint), 0n)
      })
    )

    it.effect("may be named by the first call, and does not become the client's", () =>
      Effect.gen(function* () {
        const { mine, strange } = yield* untouched
        const client = yield* EtcdClient.make({ endpoints: [mine.endpoint] })
        yield* client.unary(Maintenance.method.status, {}, { endpoint: strange.endpoint })
        yield* put(client)
        assert.strictEqual((yield* reasonOf(put(client, { endpoint: strange.endpoint })))._tag, "ClusterIdMismatch")
      })
    )
  })

  it.live("does not end calls while the right one is only down", () =>
    Effect.gen(function* () {
      const { mine, strange } = yield* twoClusters
      const door = yield* switchboard(mine.endpoint)
      const client = yield* EtcdClient.make({ endpoints: [mine.endpoint, door.endpoint], selection: "spread" })
      for (let call = 0; call < 2; call++) yield* put(client)
      door.connect(strange.endpoint)
      yield* mine.kill
      const read = yield* Effect.forkChild(Effect.result(client.unary(KV.method.range, { key }, { retry })))
      const reason = yield* Effect.repeat(reasonOf(put(client, { endpoint: door.endpoint })), {
        while: (reason) => reason._tag !== "ClusterIdMismatch"
      })
      assert.strictEqual(reason._tag, "ClusterIdMismatch")
      assert.strictEqual((yield* reasonOf(put(client, { retry: Schedule.recurs(3) })))._tag, "Unreachable")
      yield* mine.start
      assert.isTrue(Result.isSuccess(yield* Fiber.join(read)))
      assert.strictEqual(yield* versionAt(strange.endpoint), 0n)
    })
  )

  it.effect("is left also where its connection was there first and told nothing, and where it is just being made", () =>
    Effect.gen(function* () {
      const release = yield* Latch.make()
      const telling = (clusterId: bigint, server: Partial<Fake.Server> = {}): Fake.Server => ({
        answer: () => Effect.succeed(putAnswer(clusterId)),
        status: () => Effect.succeed({ clusterId, memberId: 1n, leader: 1n, term: 2n }),
        ...server
      })
      const fake = Fake.make({
        "a:1": telling(1n),
        "quiet:1": telling(2n, { status: undefined }),
        "slow:1": telling(2n, {
          status: () => Effect.as(release.await, { clusterId: 2n, memberId: 1n, leader: 1n, term: 9n })
        })
      })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      yield* put(client, { endpoint: "quiet:1" })
      const slow = yield* Effect.forkChild(Effect.flip(put(client, { endpoint: "slow:1" })))
      yield* Effect.repeat(Effect.yieldNow, { while: () => !fake.dials.includes("slow:1") })
      yield* put(client)
      yield* release.open
      assert.strictEqual((yield* Fiber.join(slow)).reason._tag, "ClusterIdMismatch")
      assert.strictEqual(fake.open(), 1)
      assert.deepStrictEqual(
        fake.sent.map(({ address }) => address),
        ["quiet:1", "a:1"]
      )
    })
  )

  it.effect("that the list has no more does not become the client's, whatever is still under way there", () =>
    Effect.gen(function* () {
      for (const isConnected of [true, false]) {
        const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
        yield* Queue.offer(lists, ["old:1"])
        const release = yield* Latch.make()
        const waiting = (clusterId: bigint) => Effect.as(release.await, putAnswer(clusterId))
        const fake = Fake.make({
          "old:1": isConnected
            ? { answer: () => waiting(1n) }
            : {
                answer: () => Effect.succeed(putAnswer(1n)),
                status: () => Effect.as(release.await, { clusterId: 1n, memberId: 1n, leader: 1n, term: 2n })
              },
          "new:1": { answer: () => Effect.succeed(putAnswer(2n)) }
        })
        const client = yield* makeWith(fake.transport, { endpoints: Stream.fromQueue(lists) })
        const old = yield* Effect.forkChild(Effect.exit(put(client)))
        yield* Effect.repeat(Effect.yieldNow, { while: () => (isConnected ? fake.sent : fake.dials).length === 0 })
        yield* Queue.offer(lists, ["new:1"])
        yield* Effect.repeat(Effect.yieldNow, {
          while: () => Effect.map(client.endpoints, ([one]) => one !== "http://new:1")
        })
        yield* release.open
        yield* Fiber.join(old)
        assert.strictEqual((yield* put(client)).header?.clusterId, 2n)
      }
    })
  )
})

describe("an answer of another cluster, over a connection that was good", () => {
  /** A proxy that does not tell who is behind it, and passes calls to whom it likes. */
  const proxied = (clusters: () => bigint) => ({
    answer: (call: Fake.Sent) =>
      Effect.sync(() =>
        call.path.endsWith("Range")
          ? toBinary(RangeResponseSchema, create(RangeResponseSchema, { header: header(clusters()) }))
          : putAnswer(clusters())
      )
  })

  it.effect("is not taken: what reads goes elsewhere, what wrote is unknown", () =>
    Effect.gen(function* () {
      let strange = false
      const fake = Fake.make({ "a:1": proxied(() => (strange ? 2n : 1n)), "b:1": proxied(() => 1n) })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1"] })
      while (fake.sent.at(-1)?.address !== "a:1") {
        yield* put(client)
        if (fake.sent.at(-1)?.address !== "a:1") yield* put(client, { endpoint: "a:1" })
      }
      strange = true
      const reason = yield* reasonOf(put(client, { endpoint: "a:1" }))
      assertNamesBoth(reason, 1n, 2n)
      assert.strictEqual(reason.outcome, "unknown")
      for (let call = 0; call < 5; call++) assert.strictEqual((yield* get(client)).header?.clusterId, 1n)
    })
  )
})

describe("servers that tell who they are only to those whom they know", () => {
  const unnamed = Fake.status(3, "etcdserver: user name is empty")
  const unknown = Fake.status(16, "etcdserver: invalid auth token")

  /** A member of a cluster whose tokens are those of the others too, from the first one on that it takes. */
  const guarded = (clusterId: bigint, first = 1): Fake.Server => {
    const judge = ({ metadata }: { readonly metadata?: Readonly<Record<string, string>> | undefined }) => {
      const token = metadata?.token
      return token === undefined ? Effect.fail(unnamed) : Number(token) < first ? Effect.fail(unknown) : Effect.void
    }
    return {
      answer: ({ options, path }) =>
        path.endsWith("Authenticate") ? nextToken(clusterId) : Effect.as(judge(options), putAnswer(clusterId)),
      status: (question) => Effect.as(judge(question), { clusterId, memberId: 1n, leader: 1n, term: 2n })
    }
  }

  let tokens = 0
  const nextToken = (clusterId: bigint) =>
    Effect.sync(() =>
      toBinary(
        AuthenticateResponseSchema,
        create(AuthenticateResponseSchema, { header: header(clusterId), token: String(++tokens) })
      )
    )

  const credentials = { username: "root", password: Redacted.make("hunter2") }

  const putsAt = (fake: Fake.Fake) =>
    new Set(fake.sent.flatMap(({ address, path }) => (path.endsWith("Put") ? [address] : [])))

  it.effect("are shown the token, which others are not, and get no call if they are another cluster's", () =>
    Effect.gen(function* () {
      const shown = new Set<string>()
      const open: Fake.Server = {
        ...guarded(1n),
        status: ({ metadata }) => {
          shown.add(metadata?.token ?? "nothing")
          return Effect.succeed({ clusterId: 1n, memberId: 2n, leader: 1n, term: 2n })
        }
      }
      const fake = Fake.make({ "a:1": guarded(1n), "b:1": guarded(2n), "open:1": open })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "open:1"], credentials, selection: "spread" })
      for (let call = 0; call < 4; call++) yield* put(client)
      assertNamesBoth(yield* reasonOf(put(client, { endpoint: "b:1" })), 1n, 2n)
      assert.deepStrictEqual(putsAt(fake), new Set(["a:1", "open:1"]))
      assert.deepStrictEqual(shown, new Set(["nothing"]))
    })
  )

  it.effect("are asked again when there is another token, before a call goes there", () =>
    Effect.gen(function* () {
      tokens = 0
      const fake = Fake.make({ "a:1": guarded(1n), "b:1": guarded(2n, 2) })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], credentials })
      yield* put(client)
      assertNamesBoth(yield* reasonOf(put(client, { endpoint: "b:1" })), 1n, 2n)
      assert.strictEqual(tokens, 2)
      // It was refused, for the sake of the first token.
      assert.strictEqual(fake.sent.filter(({ address }) => address === "b:1").length, 1)
    })
  )

  it.effect("are asked who leads all the same", () =>
    Effect.gen(function* () {
      const member = (memberId: bigint): Fake.Server => ({
        ...guarded(1n),
        status: ({ metadata }) =>
          metadata?.token === undefined
            ? Effect.fail(unnamed)
            : Effect.succeed({ clusterId: 1n, memberId, leader: 3n, term: 2n })
      })
      const fake = Fake.make({ "a:1": member(1n), "b:1": member(2n), "c:1": member(3n) })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"], credentials })
      yield* Effect.repeat(put(client), { while: () => fake.sent.at(-1)?.address !== "c:1" })
    })
  )
})

describe("a server that does not tell who it is", () => {
  it.effect("is taken as it is", () =>
    Effect.gen(function* () {
      for (const status of [Fake.status(7, "etcdserver: permission denied"), Fake.failure("Http", "unknown", "404")]) {
        const fake = Fake.make({
          "a:1": { answer: () => Effect.succeed(key.slice(1)), status: () => Effect.fail(status) }
        })
        yield* put(yield* makeWith(fake.transport, { endpoints: ["a:1"] }))
        assert.strictEqual(fake.sent.length, 1)
      }
    })
  )

  it.effect("but says nothing at all is not connected to", () =>
    Effect.gen(function* () {
      const silent = {
        answer: () => Effect.never,
        status: () => Effect.fail(Fake.failure("Deadline", "unknown", "late", 4))
      }
      const fake = Fake.make({ "a:1": silent, "b:1": { answer: () => Effect.succeed(key.slice(1)) } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1"] })
      for (let call = 0; call < 5; call++) yield* put(client)
      const reason = yield* reasonOf(put(client, { endpoint: "a:1", retry: Schedule.recurs(0) }))
      assert.strictEqual(reason._tag, "Unreachable")
      assert.match(reason.message, /does not answer|ms ago/)
    })
  )
})
