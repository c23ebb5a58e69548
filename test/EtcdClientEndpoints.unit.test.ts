/**
 * Which endpoint a call goes to, when it is dialled, and when a call ends: over a transport without a network, so that
 * every moment is under control.
 */
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type * as EtcdClient from "../src/EtcdClient.ts"
import type { EtcdError } from "../src/EtcdError.ts"
import * as Client from "../src/internal/client/client.ts"
import * as Endpoint from "../src/internal/client/endpoint.ts"
import { invalid } from "../src/internal/options.ts"
import { Auth, Cluster, KV, Lease, Maintenance, MemberListResponseSchema, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import { reasonOf } from "./support/effects.ts"
import { byTestClock } from "./support/time.ts"

/** The test's clock is its time. */
const makeWith = (...args: Parameters<typeof Client.makeWith>) => byTestClock(Client.makeWith(...args))

const nothing = new Uint8Array(0)
const ok = () => Effect.succeed(nothing)
const unreachable = Fake.failure("Unreachable", "no", "connect ECONNREFUSED")

const get = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.range, { key: nothing }, options)
const put = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key: nothing }, options)

const addresses = (fake: Fake.Fake) => fake.sent.map((call) => call.address)

describe("an endpoint", () => {
  it("is a host and port, a URL, or a socket", () => {
    const parsed = (text: string, secure = false): unknown => {
      const result = Endpoint.parse(text, secure)
      return Result.isSuccess(result) ? result.success : result.failure
    }
    const tcp = (address: string, host: string, port: number, secure = false) => ({
      address,
      target: { _tag: "Tcp", host, port },
      secure
    })
    const unix = (address: string, path: string, secure = false) => ({
      address,
      target: { _tag: "Unix", path },
      secure
    })
    assert.deepStrictEqual(parsed("etcd:1234"), tcp("http://etcd:1234", "etcd", 1234))
    assert.deepStrictEqual(parsed("etcd"), tcp("http://etcd:2379", "etcd", 2379))
    assert.deepStrictEqual(parsed("etcd:1234", true), tcp("https://etcd:1234", "etcd", 1234, true))
    assert.deepStrictEqual(parsed("http://etcd:80/", true), tcp("http://etcd:80", "etcd", 80))
    assert.deepStrictEqual(parsed("HTTPS://etcd"), tcp("https://etcd:2379", "etcd", 2379, true))
    assert.deepStrictEqual(parsed("[::1]:2379"), tcp("http://[::1]:2379", "::1", 2379))
    assert.deepStrictEqual(parsed("http://[fe80::1%eth0]"), tcp("http://[fe80::1%eth0]:2379", "fe80::1%eth0", 2379))
    assert.deepStrictEqual(parsed("unix:///run/etcd.sock"), unix("unix:///run/etcd.sock", "/run/etcd.sock"))
    assert.deepStrictEqual(parsed("unixs://etcd.sock:0"), unix("unixs://etcd.sock:0", "etcd.sock:0", true))
  })

  it.effect("that is none is refused, all of them in one message", () =>
    Effect.gen(function* () {
      const fake = Fake.make({})
      for (const bad of [
        "",
        "ftp://etcd",
        "etcd:0",
        "etcd:99999",
        "http://etcd/path",
        "a b",
        "unix://",
        "::1",
        ":2379"
      ]) {
        const reason = yield* reasonOf(makeWith(fake.transport, { endpoints: ["good:1", bad] }))
        assert.strictEqual(reason._tag, "InvalidArgument", bad)
        assert.include(reason.message, JSON.stringify(bad))
      }
      const two = yield* reasonOf(makeWith(fake.transport, { endpoints: ["ftp://a", "b:0"] }))
      assert.include(two.message, "ftp://a")
      assert.include(two.message, "b:0")
      const none = yield* reasonOf(makeWith(fake.transport, { endpoints: [] }))
      assert.strictEqual(none._tag, "InvalidArgument")
    })
  )

  it.effect("with a password in it is refused, and the password is not told", () =>
    Effect.gen(function* () {
      for (const scheme of ["http://", "https://", "etcd://", "redis://", ""]) {
        const endpoints = [`${scheme}root:hunter2@etcd:2379`]
        const reason = yield* reasonOf(makeWith(Fake.make({}).transport, { endpoints }))
        assert.strictEqual(reason._tag, "InvalidArgument")
        assert.notInclude(JSON.stringify(reason), "hunter2")
      }
    })
  )

  it.effect("that is plain is refused where the client has TLS options", () =>
    Effect.gen(function* () {
      const plain = makeWith(Fake.make({}).transport, { endpoints: ["http://etcd"], tls: {} })
      assert.include((yield* reasonOf(plain)).message, "https://")
    })
  )
})

describe("a call goes", () => {
  it.effect("to the same endpoint as the one before", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok }, "b:1": { answer: ok }, "c:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"] })
      yield* Effect.forEach(Array.from({ length: 30 }), () => get(client))
      assert.strictEqual(new Set(addresses(fake)).size, 1)
      assert.strictEqual(fake.dials.length, 1)
    })
  )

  it.effect("to one that was chosen by chance, each as often as the others, also where the list has changed", () =>
    Effect.gen(function* () {
      const servers = { "a:1": { answer: ok }, "b:1": { answer: ok }, "c:1": { answer: ok } }
      const endpoints = Object.keys(servers)
      const [first, second]: ReadonlyArray<Array<string>> = [[], []]
      for (let chance = 0; chance < 30; chance++) {
        const fake = Fake.make({ ...servers, "seed:1": { answer: ok } })
        const random = { nextDoubleUnsafe: () => chance / 30, nextIntUnsafe: () => chance }
        const byChance = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.provideService(effect, Random.Random, random)
        yield* put(yield* byChance(makeWith(fake.transport, { endpoints, selection: "sticky" })))
        first.push(...addresses(fake))

        const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
        yield* Queue.offer(lists, ["seed:1"])
        const options = { endpoints: Stream.fromQueue(lists), selection: "sticky" } as const
        const client = yield* byChance(makeWith(fake.transport, options))
        yield* Queue.offer(lists, endpoints)
        yield* Effect.repeat(Effect.yieldNow, { while: () => Effect.map(client.endpoints, (all) => all.length !== 3) })
        yield* put(client)
        second.push(fake.sent.at(-1)!.address)
      }
      for (const chosen of [first, second]) {
        const counts = endpoints.map((endpoint) => chosen.filter((address) => address === endpoint).length)
        assert.deepStrictEqual(counts, [10, 10, 10])
      }
    })
  )

  it.effect("to each endpoint in turn where they are spread", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok }, "b:1": { answer: ok }, "c:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"], selection: "spread" })
      yield* Effect.forEach(Array.from({ length: 30 }), () => get(client))
      for (const address of ["a:1", "b:1", "c:1"]) {
        assert.strictEqual(addresses(fake).filter((sent) => sent === address).length, 10)
      }
    })
  )

  it.effect("to the endpoint that it names and to no other, even if that one fails", () =>
    Effect.gen(function* () {
      const answer = () => Effect.fail(Fake.status(14, "etcdserver: no leader"))
      const fake = Fake.make({ "a:1": { answer: ok }, "b:1": { answer: ok }, "x:1": { answer } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1"] })
      yield* get(client, { endpoint: "b:1" })
      const reason = yield* reasonOf(get(client, { endpoint: "http://x:1", retry: Schedule.recurs(2) }))
      assert.strictEqual(reason._tag, "NoLeader")
      assert.strictEqual(reason.endpoint, "http://x:1")
      assert.deepStrictEqual(addresses(fake), ["b:1", "x:1", "x:1", "x:1"])
      const bad = yield* reasonOf(get(client, { endpoint: "nonsense://" }))
      assert.strictEqual(bad._tag, "InvalidArgument")
    })
  )

  it.effect("to another endpoint at once when one fails, and back only when that one fails in turn", () =>
    Effect.gen(function* () {
      const down = new Set<string>()
      const server = (address: string): Fake.Server => ({
        answer: () =>
          Effect.suspend(() =>
            down.has(address) ? Effect.fail(Fake.status(14, "etcdserver: no leader")) : Effect.succeed(nothing)
          )
      })
      const fake = Fake.make({ "a:1": server("a:1"), "b:1": server("b:1") })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1"] })
      yield* put(client)
      const first = addresses(fake)[0]!
      const second = first === "a:1" ? "b:1" : "a:1"
      down.add(first)
      yield* put(client)
      assert.deepStrictEqual(addresses(fake), [first, first, second])
      down.delete(first)
      yield* TestClock.adjust("1 hour")
      yield* put(client)
      assert.strictEqual(addresses(fake).at(-1), second)
      down.add(second)
      yield* put(client)
      assert.strictEqual(addresses(fake).at(-1), first)
    })
  )

  it.effect("to another endpoint when one does not answer the dial at all", () =>
    Effect.gen(function* () {
      let dials = 0
      const server: Fake.Server = {
        dial: () => Effect.suspend(() => (dials++ === 0 ? Effect.never : Effect.void)),
        answer: ok
      }
      const fake = Fake.make({ "a:1": server, "b:1": server, "c:1": server })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"] })
      const call = yield* Effect.forkChild(put(client, { deadline: "3 seconds" }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(call)
      assert.strictEqual(fake.sent.length, 1)
      assert.notStrictEqual(fake.sent[0]?.address, fake.dials[0])
      yield* put(client)
      assert.strictEqual(fake.sent[1]?.address, fake.sent[0]?.address)
    })
  )

  it.effect("to the endpoints of an effect, whose failure is the client's", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: Effect.succeed(["a:1"]) })
      yield* get(client)
      assert.deepStrictEqual(addresses(fake), ["a:1"])
      const lost = makeWith(fake.transport, { endpoints: Effect.fail(invalid("no endpoints known")) })
      assert.strictEqual((yield* reasonOf(lost)).message, "no endpoints known")
      const empty = makeWith(fake.transport, { endpoints: Stream.empty })
      assert.include((yield* reasonOf(empty)).message, "ended before its first list")
    })
  )

  it.effect("to the endpoints of a stream, as they change", () =>
    Effect.gen(function* () {
      const release = yield* Latch.make()
      const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
      const answer = (call: Fake.Sent) =>
        call.path.endsWith("Put") ? Effect.as(release.await, nothing) : Effect.succeed(nothing)
      const fake = Fake.make({ "a:1": { answer }, "b:1": { answer } })
      yield* Queue.offer(lists, ["a:1"])
      const client = yield* makeWith(fake.transport, { endpoints: Stream.fromQueue(lists) })
      const slow = yield* Effect.forkChild(put(client))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.sent.length === 0 })
      yield* get(client)
      yield* Queue.offer(lists, ["b:1"])
      yield* Effect.repeat(Effect.yieldNow, {
        while: () => Effect.map(client.endpoints, ([one]) => one !== "http://b:1")
      })
      yield* get(client)
      assert.deepStrictEqual(addresses(fake).slice(1), ["a:1", "b:1"])
      assert.strictEqual(fake.open(), 2, "the call on the endpoint that went may end")
      yield* release.open
      yield* Fiber.join(slow)
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.open() !== 1 })
      yield* Queue.offer(lists, ["not an endpoint"])
      yield* Queue.offer(lists, ["b:1", "a:1"])
      yield* Effect.repeat(Effect.yieldNow, { while: () => Effect.map(client.endpoints, (all) => all.length !== 2) })
      yield* get(client)
      assert.strictEqual(fake.dials.length, 2, "the endpoint that stayed kept its connection")
    })
  )

  it.effect("to the members that the cluster lists, where that is asked for", () =>
    Effect.gen(function* () {
      const members = toBinary(
        MemberListResponseSchema,
        create(MemberListResponseSchema, {
          members: [
            { name: "a", clientURLs: ["http://a:1"] },
            { name: "b", clientURLs: ["http://b:1"] },
            { name: "l", clientURLs: ["http://learner:1"], isLearner: true },
            { name: "", clientURLs: [] }
          ]
        })
      )
      const answer = (call: Fake.Sent) => Effect.succeed(call.path.endsWith("MemberList") ? members : nothing)
      for (const selection of ["leader", "sticky", "spread"] as const) {
        const fake = Fake.make({ "seed:1": { answer }, "a:1": { answer }, "b:1": { answer } })
        const options = { endpoints: ["seed:1"], memberRefresh: "1 minute", selection } as const
        const client = yield* makeWith(fake.transport, options)
        yield* Effect.repeat(Effect.yieldNow, { while: () => Effect.map(client.endpoints, (all) => all.length !== 2) })
        assert.deepStrictEqual(yield* client.endpoints, ["http://a:1", "http://b:1"])
        yield* TestClock.adjust("61 seconds")
        assert.strictEqual(fake.sent.length, 2)
        yield* put(client)
        assert.notStrictEqual(addresses(fake).at(-1), "seed:1")
      }
    })
  )

  it.effect(
    "to those that were given, at once, while none of the members that are listed lets itself be connected to",
    () =>
      Effect.gen(function* () {
        const members = toBinary(
          MemberListResponseSchema,
          create(MemberListResponseSchema, { members: [{ name: "a", clientURLs: ["http://a:1"] }] })
        )
        const answer = (call: Fake.Sent) => Effect.succeed(call.path.endsWith("MemberList") ? members : nothing)
        for (const selection of ["leader", "sticky", "spread"] as const) {
          const fake = Fake.make({ "seed:1": { answer }, "a:1": { dial: () => Effect.never, answer } })
          const options = { endpoints: ["seed:1"], memberRefresh: "1 hour", selection } as const
          const client = yield* makeWith(fake.transport, options)
          yield* Effect.repeat(Effect.yieldNow, {
            while: () => Effect.map(client.endpoints, ([one]) => one !== "http://a:1")
          })
          const first = yield* Effect.forkChild(put(client))
          yield* Effect.repeat(TestClock.adjust("100 millis"), { while: () => first.pollUnsafe() === undefined })
          yield* Fiber.join(first)
          for (let call = 0; call < 5; call++) yield* put(client)
          assert.strictEqual(fake.sent.length, 7)
        }
      })
  )

  it.effect("to the last list of a stream that fails or breaks down, with a warning", () =>
    Effect.gen(function* () {
      const ends: ReadonlyArray<Stream.Stream<never, EtcdError>> = [
        Stream.fail(invalid("no more")),
        Stream.die("no more")
      ]
      for (const end of ends) {
        const lines: Array<string> = []
        const logger = Logger.make<unknown, void>(({ cause, logLevel, message }) => {
          if (logLevel === "Warn") lines.push(`${message} ${Cause.pretty(cause)}`)
        })
        const fake = Fake.make({ "a:1": { answer: ok } })
        const endpoints = Stream.concat(Stream.make(["a:1"]), end)
        const client = yield* Effect.provide(makeWith(fake.transport, { endpoints }), Logger.layer([logger]))
        yield* Effect.repeat(Effect.yieldNow, { while: () => lines.length === 0 })
        yield* put(client)
        assert.include(lines[0], "etcd endpoints stay as they are")
        assert.include(lines[0], "no more")
      }
    })
  )

  it.effect("with the wish for a leader, except where a member answers for itself", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      yield* put(client)
      yield* get(client)
      yield* client.unary(Lease.method.leaseGrant, {})
      yield* client.unary(Auth.method.userList, {})
      yield* client.unary(Maintenance.method.status, {}, { requireLeader: true })
      yield* client.unary(KV.method.range, { serializable: true })
      yield* client.unary(Maintenance.method.status, {})
      yield* client.unary(Cluster.method.memberList, {})
      yield* put(client, { requireLeader: false, metadata: { "x-mine": "1" } })
      assert.deepStrictEqual(
        fake.sent.map((call) => call.options.metadata?.hasleader),
        ["true", "true", "true", "true", "true", undefined, undefined, undefined, undefined]
      )
      assert.strictEqual(fake.sent.at(-1)?.options.metadata?.["x-mine"], "1")
    })
  )
})

describe("a connection", () => {
  it.effect("is dialled when it is first needed, once for all callers", () =>
    Effect.gen(function* () {
      const dialled = yield* Latch.make()
      const fake = Fake.make({ "a:1": { dial: () => dialled.await, answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      assert.deepStrictEqual(fake.dials, [])
      const callers = yield* Effect.forkChild(
        Effect.forEach(Array.from({ length: 1000 }), () => get(client), { concurrency: "unbounded", discard: true })
      )
      const impatient = yield* Effect.forkChild(get(client))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.dials.length === 0 })
      yield* Fiber.interrupt(impatient)
      yield* dialled.open
      yield* Fiber.join(callers)
      assert.deepStrictEqual(fake.dials, ["a:1"])
      assert.strictEqual(fake.sent.length, 1000)
    })
  )

  it.effect("is not dialled again before the pause after a failure is over, while there is another endpoint", () =>
    Effect.gen(function* () {
      let up = false
      const dial = () => Effect.suspend(() => (up ? Effect.void : Effect.fail(unreachable)))
      const fake = Fake.make({ "a:1": { dial, answer: ok }, "b:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, {
        endpoints: ["a:1", "b:1"],
        selection: "spread",
        reconnect: Schedule.spaced("10 seconds")
      })
      const dials = () => fake.dials.filter((address) => address === "a:1").length
      yield* Effect.forEach(Array.from({ length: 100 }), () => put(client))
      assert.strictEqual(dials(), 1)
      up = true
      yield* TestClock.adjust("11 seconds")
      yield* put(client)
      yield* put(client)
      assert.strictEqual(dials(), 2)
    })
  )

  it.effect("is dialled before a call fails that has nowhere else to go, and the error says what happened now", () =>
    Effect.gen(function* () {
      let up = false
      const dial = () => Effect.suspend(() => (up ? Effect.void : Effect.fail(unreachable)))
      const fake = Fake.make({ "a:1": { dial, answer: ok }, "b:1": { dial, answer: ok } })
      const client = yield* makeWith(fake.transport, {
        endpoints: ["a:1", "b:1"],
        retry: Schedule.recurs(0),
        reconnect: Schedule.spaced("1 minute")
      })
      for (let call = 1; call <= 10; call++) {
        const before = fake.dials.length
        const fiber = yield* Effect.forkChild(reasonOf(put(client)))
        yield* Effect.repeat(TestClock.adjust("25 millis"), { while: () => fiber.pollUnsafe() === undefined })
        const reason = yield* Fiber.join(fiber)
        assert.strictEqual(reason._tag, "Unreachable")
        assert.strictEqual(reason.outcome, "not-applied")
        assert.isAbove(fake.dials.length, before)
        if (call > 2) assert.match(reason.message, /connect ECONNREFUSED|ms ago/)
      }
      // Long before the pause is over.
      up = true
      const fiber = yield* Effect.forkChild(put(client))
      yield* Effect.repeat(TestClock.adjust("25 millis"), { while: () => fiber.pollUnsafe() === undefined })
      yield* Fiber.join(fiber)
    })
  )

  it.effect("is dialled at each endpoint before a call fails, whichever of them has come back", () =>
    Effect.gen(function* () {
      const up = new Set<string>()
      const server = (address: string): Fake.Server => ({
        dial: () => Effect.suspend(() => (up.has(address) ? Effect.void : Effect.fail(unreachable))),
        answer: ok
      })
      for (const back of ["a:1", "b:1", "c:1"]) {
        up.clear()
        const fake = Fake.make({ "a:1": server("a:1"), "b:1": server("b:1"), "c:1": server("c:1") })
        const client = yield* makeWith(fake.transport, {
          endpoints: ["a:1", "b:1", "c:1"],
          retry: Schedule.recurs(0),
          reconnect: Schedule.spaced("1 minute")
        })
        const call = Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(Effect.exit(put(client)))
          yield* Effect.repeat(TestClock.adjust("25 millis"), { while: () => fiber.pollUnsafe() === undefined })
          return yield* Fiber.join(fiber)
        })
        assert.isTrue(Exit.isFailure(yield* call))
        up.add(back)
        assert.isTrue(Exit.isSuccess(yield* call), back)
      }
    })
  )

  it.effect("is dialled once for all who have nowhere else to go, and not all the time", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { dial: () => Effect.fail(unreachable), answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], retry: Schedule.recurs(0) })
      const callers = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: 100 }),
          () => Effect.forEach(Array.from({ length: 10 }), () => Effect.exit(put(client))),
          { concurrency: "unbounded" }
        )
      )
      yield* Effect.repeat(TestClock.adjust("25 millis"), { while: () => callers.pollUnsafe() === undefined })
      yield* Fiber.join(callers)
      assert.isAtMost(fake.dials.length, 100)
    })
  )

  it.effect("pauses longer after each failure, up to a limit", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { dial: () => Effect.fail(unreachable), answer: ok }, "b:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1", "b:1"], selection: "spread" })
      const dials = () => fake.dials.filter((address) => address === "a:1").length
      const dialsIn = (seconds: number) =>
        Effect.gen(function* () {
          const before = dials()
          for (let tenth = 0; tenth < seconds * 10; tenth++) {
            yield* put(client)
            yield* TestClock.adjust("100 millis")
          }
          return dials() - before
        })
      const first = yield* dialsIn(5)
      yield* dialsIn(20)
      const later = yield* dialsIn(20)
      assert.isAtLeast(first, 5)
      assert.isAtLeast(later, 10)
      assert.isAtMost(later, 30)
    })
  )

  it.effect("begins with the shortest pause when the last failure is long past", () =>
    Effect.gen(function* () {
      let up = false
      const dial = () => Effect.suspend(() => (up ? Effect.void : Effect.fail(unreachable)))
      const fake = Fake.make({ "a:1": { dial, answer: ok }, "b:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, {
        endpoints: ["a:1", "b:1"],
        selection: "spread",
        reconnect: Schedule.exponential("100 millis")
      })
      const dials = () => fake.dials.filter((address) => address === "a:1").length
      // Blips, each of them minutes after the one before.
      for (let blip = 0; blip < 8; blip++) {
        yield* put(client)
        yield* put(client)
        yield* TestClock.adjust("5 minutes")
      }
      const before = dials()
      yield* put(client)
      yield* put(client)
      assert.strictEqual(dials(), before + 1)
      up = true
      yield* TestClock.adjust("150 millis")
      yield* put(client)
      yield* put(client)
      assert.strictEqual(dials(), before + 2)
    })
  )

  it.effect("that drains lets its calls end, while new ones go over a new connection", () =>
    Effect.gen(function* () {
      const release = yield* Latch.make()
      const answer = (call: Fake.Sent) =>
        call.path.endsWith("Put") ? Effect.as(release.await, nothing) : Effect.succeed(nothing)
      const fake = Fake.make({ "a:1": { answer } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const slow = yield* Effect.forkChild(put(client))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.sent.length === 0 })
      yield* get(client)
      fake.drop("a:1", Fake.failure("ConnectionLost", "no", "GOAWAY"))
      yield* Effect.repeat(get(client), { while: () => fake.dials.length < 2 })
      assert.strictEqual(fake.open(), 2)
      yield* release.open
      yield* Fiber.join(slow)
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.open() !== 1 })
      assert.deepStrictEqual(fake.dials, ["a:1", "a:1"])
    })
  )

  it.effect("does not outlive the client, and nobody waits for it then", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const fake = Fake.make({ "a:1": { answer: ok }, "never:1": { dial: () => Effect.never, answer: ok } })
      const client = yield* Scope.provide(makeWith(fake.transport, { endpoints: ["a:1"] }), scope)
      yield* get(client)
      const waiting = yield* Effect.forkChild(get(client, { endpoint: "never:1", retry: Schedule.recurs(0) }))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.dials.length < 2 })
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(fake.open(), 0)
      const reason = yield* reasonOf(Fiber.join(waiting))
      assert.strictEqual(reason._tag, "Unreachable")
      const late = yield* reasonOf(get(client))
      assert.strictEqual(late._tag, "Unreachable")
      assert.include(late.message, "closed")
    })
  )
})

describe("a call ends", () => {
  it.effect("at its deadline while the connection is dialled, and was not applied", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { dial: () => Effect.never, answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const call = yield* Effect.forkChild(reasonOf(put(client, { deadline: "3 seconds" })))
      yield* TestClock.adjust("3 seconds")
      const reason = yield* Fiber.join(call)
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.strictEqual(reason.outcome, "not-applied")
    })
  )

  it.effect("at its deadline where it has waited before it was sent, and the server is told what is left", () =>
    Effect.gen(function* () {
      let isUp = false
      const fake = Fake.make({
        "a:1": {
          dial: () => (isUp ? Effect.void : Effect.fail(unreachable)),
          answer: () => (fake.sent.length === 1 ? ok() : Effect.never)
        }
      })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const options = { deadline: "10 seconds", retry: Schedule.spaced("9 seconds") } as const
      const call = yield* Effect.forkChild(reasonOf(put(client, options)), { startImmediately: true })
      yield* TestClock.adjust("8 seconds")
      isUp = true
      yield* put(client)
      yield* TestClock.adjust("1 second")
      const told = fake.sent.at(-1)?.options.timeoutMillis ?? Number.POSITIVE_INFINITY
      assert.strictEqual(fake.sent.length, 2)
      assert.isAtMost(told, 1000)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(call))._tag, "DeadlineExceeded")
    })
  )

  it.effect("before a pause that its deadline does not allow, with what went wrong", () =>
    Effect.gen(function* () {
      const answer = () => Effect.fail(Fake.status(14, "etcdserver: no leader"))
      const fake = Fake.make({ "a:1": { answer } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], retry: Schedule.spaced("1 second") })
      const call = yield* Effect.forkChild(reasonOf(put(client, { deadline: "2500 millis" })))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(call))._tag, "NoLeader")
      assert.strictEqual(fake.sent.length, 3)
      assert.deepStrictEqual(
        fake.sent.map((sent) => sent.options.timeoutMillis),
        [2500, 1500, 500]
      )
    })
  )

  it.effect("by the deadline and the schedule of the call, else of the service, else of the client", () =>
    Effect.gen(function* () {
      const answer = () => Effect.fail(Fake.status(14, "etcdserver: no leader"))
      const fake = Fake.make({ "a:1": { answer } })
      const client = yield* makeWith(fake.transport, {
        endpoints: ["a:1"],
        deadline: "1 minute",
        retry: Schedule.recurs(1),
        services: { KV: { deadline: "2 minutes", retry: Schedule.recurs(2) }, Lease: { retry: Schedule.recurs(4) } }
      })
      const attempt = (effect: Effect.Effect<unknown, EtcdError>) =>
        Effect.gen(function* () {
          fake.sent.length = 0
          yield* Effect.exit(effect)
          return [fake.sent.length, fake.sent[0]?.options.timeoutMillis]
        })
      assert.deepStrictEqual(yield* attempt(client.unary(Cluster.method.memberList, {})), [2, 60_000])
      assert.deepStrictEqual(yield* attempt(put(client)), [3, 120_000])
      assert.deepStrictEqual(yield* attempt(client.unary(Lease.method.leaseGrant, {})), [5, 60_000])
      const own = { deadline: "5 seconds", retry: Schedule.recurs(3) } as const
      assert.deepStrictEqual(yield* attempt(put(client, own)), [4, 5000])
    })
  )

  it.effect("when it ends, where the deadline is infinite or further than a timer can wait", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], keepAliveInterval: "Infinity" })
      yield* put(client, { deadline: "Infinity" })
      yield* put(client, { deadline: "1000 days" })
      assert.deepStrictEqual(
        fake.sent.map((sent) => sent.options.timeoutMillis),
        [undefined, 2_147_483_647]
      )
    })
  )

  it.effect("that is a stream only by a deadline of its own", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], deadline: "1 second" })
      yield* Effect.scoped(client.bidirectional(Watch.method.watch))
      yield* Stream.runDrain(client.serverStream(Maintenance.method.snapshot, {}))
      yield* Stream.runDrain(client.serverStream(Maintenance.method.snapshot, {}, { deadline: "2 seconds" }))
      assert.deepStrictEqual(
        fake.sent.map((sent) => sent.options.timeoutMillis),
        [undefined, 2000]
      )
    })
  )

  it.effect("with InvalidArgument where it cannot be encoded or its options make no sense", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: ok } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const beyond = client.unary(KV.method.range, { limit: 2n ** 64n })
      assert.strictEqual((yield* reasonOf(beyond))._tag, "InvalidArgument")
      assert.strictEqual((yield* reasonOf(put(client, { deadline: "soon" as never })))._tag, "InvalidArgument")
      assert.strictEqual(
        (yield* reasonOf(makeWith(fake.transport, { endpoints: ["a:1"], connectTimeout: "soon" as never })))._tag,
        "InvalidArgument"
      )
      assert.strictEqual(fake.sent.length, 0)
    })
  )

  it.effect("with ProtocolViolation where the answer is not what it should be", () =>
    Effect.gen(function* () {
      const fake = Fake.make({ "a:1": { answer: () => Effect.succeed(new Uint8Array([0x0a, 0x7f])) } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const reason = yield* reasonOf(put(client))
      assert.strictEqual(reason._tag, "ProtocolViolation")
      assert.strictEqual(reason.outcome, "unknown")
    })
  )

  it.effect("when it is interrupted, wherever it is", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<void>()
      const answer = () =>
        Effect.never.pipe(Effect.onInterrupt(() => Effect.asVoid(Deferred.succeed(interrupted, undefined))))
      const fake = Fake.make({ "a:1": { answer } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const call = yield* Effect.forkChild(put(client))
      yield* Effect.repeat(Effect.yieldNow, { while: () => fake.sent.length === 0 })
      yield* Fiber.interrupt(call)
      yield* Deferred.await(interrupted)
    })
  )
})
