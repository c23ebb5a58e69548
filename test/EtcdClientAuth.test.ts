/**
 * Who is calling: tokens over a transport without a network, and over a real etcd with authentication enabled.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { makeWith } from "../src/internal/client/client.ts"
import type { CallOptions, TransportError } from "../src/internal/grpc/Transport.ts"
import { Permission_Type } from "../src/internal/proto/auth_pb.ts"
import {
  Auth,
  AuthenticateRequestSchema,
  AuthenticateResponseSchema,
  KV,
  Maintenance,
  Watch
} from "../src/internal/proto/rpc_pb.ts"
import { bytes } from "./support/bytes.ts"
import * as Etcd from "./support/client/etcd.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import { reasonOf } from "./support/effects.ts"
import { byTestClock } from "./support/time.ts"

const credentials = (password = "hunter2") => ({ username: "root", password: Redacted.make(password) })
const nothing = new Uint8Array(0)
const key = bytes("k")
const put = (client: EtcdClient.Client) => client.unary(KV.method.put, { key })

const tokenBytes = (token: string) =>
  toBinary(AuthenticateResponseSchema, create(AuthenticateResponseSchema, { token }))

/** A server that takes one password and the token that it gave last. */
const server = (password = "hunter2") => {
  let token = 0
  let enabled = true
  const authenticate = (call: Fake.Sent) => {
    if (!enabled) return Effect.fail(Fake.status(9, "etcdserver: authentication is not enabled"))
    if (fromBinary(AuthenticateRequestSchema, call.request).password !== password) {
      return Effect.fail(Fake.status(3, "etcdserver: authentication failed, invalid user ID or password"))
    }
    token++
    return Effect.succeed(tokenBytes(`t${token}`))
  }
  const decide = (call: Fake.Sent): Effect.Effect<Uint8Array, TransportError> => {
    if (call.path.endsWith("Authenticate")) return authenticate(call)
    const shown = call.options.metadata?.token
    if (enabled && shown === undefined) return Effect.fail(Fake.status(3, "etcdserver: user name is empty"))
    return shown !== undefined && shown !== `t${token}`
      ? Effect.fail(Fake.status(16, "etcdserver: invalid auth token"))
      : Effect.succeed(nothing)
  }
  // What is decided when the call comes in is told a little later, when others have come in as well.
  const answer = (call: Fake.Sent) =>
    Effect.suspend(() => {
      const decided = decide(call)
      return Effect.andThen(Effect.yieldNow, decided)
    })
  const fake = Fake.make({ "a:1": { answer } })
  return {
    fake,
    expire: () => {
      token++
    },
    changePassword: (to: string) => {
      password = to
      token++
    },
    enable: (on: boolean) => {
      enabled = on
    },
    authentications: () => fake.sent.filter((call) => call.path.endsWith("Authenticate")).length,
    calls: () => fake.sent.filter((call) => !call.path.endsWith("Authenticate")).length
  }
}

describe("a client with credentials", () => {
  it.effect("authenticates once for all callers, and shows the token with each call", () =>
    Effect.gen(function* () {
      const etcd = server()
      const client = yield* makeWith(etcd.fake.transport, { endpoints: ["a:1"], credentials: credentials() })
      yield* Effect.forEach(Array.from({ length: 1000 }), () => put(client), { concurrency: "unbounded" })
      assert.strictEqual(etcd.authentications(), 1)
      assert.strictEqual(etcd.calls(), 1000)
    })
  )

  it.effect("renews a refused token once for all callers, and resends their calls", () =>
    Effect.gen(function* () {
      const etcd = server()
      const client = yield* makeWith(etcd.fake.transport, { endpoints: ["a:1"], credentials: credentials() })
      yield* put(client)
      etcd.expire()
      yield* Effect.forEach(Array.from({ length: 100 }), () => put(client), { concurrency: "unbounded" })
      assert.strictEqual(etcd.authentications(), 2)
      assert.strictEqual(etcd.calls(), 201)
    })
  )

  it.effect("gives up on a token that is refused again and again", () =>
    Effect.gen(function* () {
      const refusing = Fake.make({
        "a:1": {
          answer: (call) =>
            call.path.endsWith("Authenticate")
              ? Effect.succeed(nothing)
              : Effect.fail(Fake.status(16, "etcdserver: invalid auth token"))
        }
      })
      const refused = yield* makeWith(refusing.transport, { endpoints: ["a:1"], credentials: credentials() })
      const failed = yield* Effect.flip(put(refused))
      assert.strictEqual(failed.reason._tag, "InvalidAuthToken")
      assert.isTrue(EtcdError.isTransient(failed))
      assert.strictEqual(refusing.sent.filter((call) => call.path.endsWith("Put")).length, 4)
      // Who has nothing to get another one with is refused for good.
      const anonymous = yield* makeWith(refusing.transport, { endpoints: ["a:1"] })
      const lasting = yield* Effect.flip(put(anonymous))
      assert.deepInclude(lasting.reason, { _tag: "InvalidAuthToken", lasting: true })
      assert.isTrue(EtcdError.isAuth(lasting))
      assert.isFalse(EtcdError.isTransient(lasting))
    })
  )

  it.effect("takes another token where a member does not know the first one yet", () =>
    Effect.gen(function* () {
      let refusals = 0
      const lagging = Fake.make({
        "a:1": {
          answer: (call) =>
            call.path.endsWith("Authenticate") || ++refusals > 2
              ? Effect.succeed(nothing)
              : Effect.fail(Fake.status(16, "etcdserver: invalid auth token"))
        }
      })
      yield* put(yield* makeWith(lagging.transport, { endpoints: ["a:1"], credentials: credentials() }))
    })
  )

  it.effect("fails fast with wrong credentials, and tells nobody the password", () =>
    Effect.gen(function* () {
      const etcd = server()
      const wrong = credentials("*****wrong-one")
      const client = yield* makeWith(etcd.fake.transport, {
        endpoints: ["a:1"],
        credentials: wrong,
        retry: Schedule.forever
      })
      const reason = yield* reasonOf(put(client))
      assert.strictEqual(reason._tag, "AuthenticationFailed")
      assert.strictEqual(reason.outcome, "not-applied")
      assert.strictEqual(etcd.authentications(), 1)
      assert.strictEqual(etcd.calls(), 0)
      assert.notInclude(JSON.stringify(reason), "wrong-one")
    })
  )

  it.effect("asks for the password again where it comes from an effect", () =>
    Effect.gen(function* () {
      const etcd = server("first")
      let password = "first"
      const client = yield* makeWith(etcd.fake.transport, {
        endpoints: ["a:1"],
        credentials: Effect.sync(() => credentials(password))
      })
      yield* put(client)
      password = "second"
      etcd.changePassword("second")
      yield* put(client)
      assert.strictEqual(etcd.authentications(), 2)
    })
  )

  it.effect("goes without a token while the server authenticates nobody", () =>
    Effect.gen(function* () {
      const etcd = server()
      etcd.enable(false)
      const client = yield* makeWith(etcd.fake.transport, { endpoints: ["a:1"], credentials: credentials() })
      yield* put(client)
      yield* put(client)
      assert.strictEqual(etcd.authentications(), 1)
      etcd.enable(true)
      yield* put(client)
      assert.strictEqual(etcd.authentications(), 2)
    })
  )

  it.effect("forgets the token that its streams were opened with, once for all of them", () =>
    Effect.gen(function* () {
      const etcd = server()
      const client = yield* makeWith(etcd.fake.transport, { endpoints: ["a:1"], credentials: credentials() })
      const open = client.bidirectional(Watch.method.watch)
      const [one, another] = [yield* open, yield* open]
      yield* one.renewToken
      yield* put(client)
      assert.strictEqual(etcd.authentications(), 2)
      yield* another.renewToken
      yield* one.renewToken
      yield* put(client)
      assert.strictEqual(etcd.authentications(), 2)
      yield* (yield* open).renewToken
      yield* put(client)
      assert.strictEqual(etcd.authentications(), 3)
    })
  )

  it.effect("renews the token of a call that is tried for long, as often as it has expired", () =>
    Effect.gen(function* () {
      let [tries, token] = [0, 0]
      const fake = Fake.make({
        "a:1": {
          answer: ({ options, path }) => {
            if (path.endsWith("Authenticate")) {
              token++
              return Effect.succeed(tokenBytes(`t${token}`))
            }
            if (options.metadata?.token !== `t${token}`)
              return Effect.fail(Fake.status(16, "etcdserver: invalid auth token"))
            if (++tries > 6) return Effect.succeed(nothing)
            // Before the next try it has expired.
            token++
            return Effect.fail(Fake.status(14, "etcdserver: no leader"))
          }
        }
      })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], credentials: credentials() })
      yield* client.unary(KV.method.put, { key }, { retry: Schedule.recurs(20) })
      assert.strictEqual(tries, 7)
    })
  )

  it.live("renews a token that a store which has gone back waits to know, for ever", () =>
    Effect.gen(function* () {
      let generation = 1
      const judge = (options: CallOptions) => {
        const token = options.metadata?.token
        if (token === undefined) return Effect.fail(Fake.status(3, "etcdserver: user name is empty"))
        return token === `t${generation}` ? Effect.void : Effect.never
      }
      const fake = Fake.make({
        "a:1": {
          answer: ({ options, path }) =>
            Effect.suspend(() =>
              path.endsWith("Authenticate")
                ? Effect.succeed(tokenBytes(`t${generation}`))
                : Effect.as(judge(options), nothing)
            ),
          status: (question) => Effect.as(judge(question), { clusterId: 1n, memberId: 1n, leader: 1n, term: 2n })
        }
      })
      const client = yield* makeWith(fake.transport, {
        endpoints: ["a:1"],
        credentials: credentials(),
        connectTimeout: "50 millis"
      })
      yield* put(client)
      generation++
      fake.drop("a:1")
      yield* Effect.repeat(put(client), { while: () => fake.dials.length < 2 })
    })
  )

  it.effect("tries for as long as the call says where it cannot authenticate, and no longer", () =>
    Effect.gen(function* () {
      let hasLeader = false
      const fake = Fake.make({
        "a:1": {
          answer: ({ path }) =>
            Effect.suspend(() => {
              if (!hasLeader) return Effect.fail(Fake.status(14, "etcdserver: no leader"))
              return Effect.succeed(path.endsWith("Authenticate") ? tokenBytes("t") : nothing)
            })
        }
      })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1"], credentials: credentials() }))
      const call = (retry: Schedule.Schedule<unknown>) =>
        client.unary(KV.method.put, { key }, { retry, deadline: "5 minutes" })
      assert.strictEqual((yield* reasonOf(call(Schedule.recurs(0))))._tag, "NoLeader")
      assert.strictEqual(fake.sent.length, 1)
      const patient = yield* Effect.forkChild(call(Schedule.spaced("1 second")))
      yield* Effect.repeat(TestClock.adjust("1 second"), { times: 60 })
      hasLeader = true
      yield* Effect.repeat(TestClock.adjust("1 second"), { while: () => patient.pollUnsafe() === undefined })
      yield* Fiber.join(patient)
    })
  )
})

const enableAuth = (endpoint: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* EtcdClient.make({ endpoints: [endpoint] })
      yield* client.unary(Auth.method.userAdd, { name: "root", password: "hunter2" })
      yield* client.unary(Auth.method.roleAdd, { name: "root" })
      yield* client.unary(Auth.method.userGrantRole, { user: "root", role: "root" })
      yield* client.unary(Auth.method.roleAdd, { name: "reader" })
      yield* client.unary(Auth.method.roleGrantPermission, {
        name: "reader",
        perm: { permType: Permission_Type.READ, key }
      })
      yield* client.unary(Auth.method.userAdd, { name: "reader", password: "r" })
      yield* client.unary(Auth.method.userGrantRole, { user: "reader", role: "reader" })
      yield* client.unary(Auth.method.authEnable, {})
    })
  )

/** How often it was authenticated, by the metrics. */
const authentications = Effect.map(Metric.snapshot, (metrics) =>
  metrics.reduce(
    (sum, { attributes, id, state }) =>
      id === "rpc.client.call.duration" &&
      attributes?.["rpc.method"] === "etcdserverpb.Auth/Authenticate" &&
      "count" in state
        ? sum + Number(state.count)
        : sum,
    0
  )
)

describe("etcd with authentication enabled", () => {
  it.live("lets in who has the password, as long as the token lives and after it", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node({ flags: ["--auth-token-ttl", "1"] })
      yield* enableAuth(node.endpoint)
      const endpoints = [node.endpoint]
      const root = yield* EtcdClient.make({ endpoints, credentials: credentials() })
      yield* put(root)

      const anonymous = yield* EtcdClient.make({ endpoints })
      assert.strictEqual((yield* reasonOf(put(anonymous)))._tag, "UserNameEmpty")

      const wrong = yield* EtcdClient.make({ endpoints, credentials: credentials("wrong") })
      assert.strictEqual((yield* reasonOf(put(wrong)))._tag, "AuthenticationFailed")

      const reader = yield* EtcdClient.make({
        endpoints,
        credentials: { username: "reader", password: Redacted.make("r") }
      })
      assert.strictEqual((yield* reader.unary(KV.method.range, { key })).count, 1n)
      assert.strictEqual((yield* reasonOf(put(reader)))._tag, "PermissionDenied")

      // etcd throws a token away that was not used for a second, and then the client gets a new one.
      const stale = yield* root.unary(Auth.method.authenticate, { name: "root", password: "hunter2" })
      const withToken = anonymous.unary(KV.method.range, { key }, { metadata: { token: stale.token } })
      yield* withToken
      const refused = Effect.retry(reasonOf(withToken), Schedule.spaced("1500 millis"))
      assert.strictEqual((yield* refused)._tag, "InvalidAuthToken")
      const before = yield* root.unary(KV.method.range, { key })
      yield* put(root)
      const after = yield* root.unary(KV.method.range, { key })
      assert.strictEqual(after.kvs[0]?.version, before.kvs[0]!.version + 1n)

      const watch = yield* root.bidirectional(Watch.method.watch)
      yield* watch.send({ requestUnion: { case: "createRequest", value: { key, startRevision: 1n } } })
      const [created] = yield* Stream.runCollect(Stream.take(watch.messages, 1))
      assert.isTrue(created?.created)
      assert.isFalse(created?.canceled)
    })
  )

  it.live(
    "says who leads to those whom it knows, so that the client keeps to the leader and is soon over its loss",
    () =>
      Effect.gen(function* () {
        const nodes = yield* Etcd.cluster(3)
        const leader = yield* Etcd.leading(nodes)
        yield* enableAuth(leader.endpoint)
        const endpoints = nodes.map(({ endpoint }) => endpoint)
        const followers = nodes.filter((node) => node !== leader).map(({ endpoint }) => endpoint)
        const client = yield* EtcdClient.make({ endpoints, credentials: credentials() })
        const { header } = yield* client.unary(Maintenance.method.status, {}, { endpoint: leader.endpoint })
        yield* Effect.repeat(put(client), { while: (answer) => answer.header?.memberId !== header?.memberId })

        // A follower keeps what it has sent on to a leader that does not answer, until etcd's own timeout of seconds.
        const other = yield* EtcdClient.make({ endpoints: followers, selection: "sticky", credentials: credentials() })
        yield* put(other)
        yield* leader.pause
        const lost = yield* Effect.result(put(other))
        const isLoss = ({ reason }: EtcdError.EtcdError) => ["LeaderChanged", "NoLeader"].includes(reason._tag)
        if (Result.isFailure(lost)) assert.isTrue(isLoss(lost.failure), String(lost.failure))
        // There may be more than one election.
        yield* Effect.retry(put(other), { while: isLoss })
      })
  )

  it.live("lets all watches in again with one new token", () =>
    Effect.gen(function* () {
      const node = yield* Etcd.node()
      const endpoints = [node.endpoint]
      yield* enableAuth(node.endpoint)
      const admin = yield* EtcdClient.make({ endpoints, credentials: credentials() })
      yield* put(admin)
      yield* Effect.gen(function* () {
        const watches = yield* EtcdWatch.fromClient(yield* EtcdClient.make({ endpoints, credentials: credentials() }))
        const watch = Stream.runHead(watches.watch("k", { startRevision: 1n }))
        // All of them come on one call.
        yield* Effect.forkChild(Stream.runDrain(watches.watch("other")))
        yield* watch
        assert.strictEqual(yield* authentications, 1)
        // A password that changes makes the tokens of its user worthless, also where it changes to what it was.
        yield* admin.unary(Auth.method.userChangePassword, { name: "root", password: "hunter2" })
        yield* Effect.forEach(Array.from({ length: 100 }), () => watch, { concurrency: "unbounded" })
        assert.strictEqual(yield* authentications, 2)
      }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
    })
  )
})
