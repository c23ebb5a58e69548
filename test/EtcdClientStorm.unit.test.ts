/**
 * Many calls while endpoints come and go, lists change, tokens expire and callers lose patience, beside an endpoint that is
 * no good for ever: no call hangs, none gets what is wrong with that one, nothing is done by strangers, and nothing stays.
 */
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Client } from "../src/EtcdClient.ts"
import type { EtcdError, Reason } from "../src/EtcdError.ts"
import { makeWith } from "../src/internal/client/client.ts"
import { type CallOptions, TransportError } from "../src/internal/grpc/Transport.ts"
import { AuthenticateResponseSchema, KV, PutResponseSchema, Watch } from "../src/internal/proto/rpc_pb.ts"
import * as Fake from "./support/client/fakeTransport.ts"

const good = ["a:1", "b:1", "c:1"]
const bad = "d:1"
const all = [...good, bad]

const header = (clusterId: bigint) => ({ clusterId, memberId: 1n, revision: 7n, raftTerm: 2n })
const putAnswer = (clusterId: bigint) =>
  toBinary(PutResponseSchema, create(PutResponseSchema, { header: header(clusterId) }))
const tokenOf = (clusterId: bigint, token: number) =>
  toBinary(
    AuthenticateResponseSchema,
    create(AuthenticateResponseSchema, { header: header(clusterId), token: String(token) })
  )

const untrusted = new TransportError({
  kind: "Unreachable",
  code: 14,
  processed: "no",
  message: "a CA that is not trusted",
  lasting: true
})

type Mode = "up" | "down" | "slow" | "silent" | "leaderless" | "strange" | "untrusted"

/** Servers that are as the test says, and take only the last token. */
const servers = () => {
  const modes = new Map<string, Mode>()
  /** Those that have done what they were asked. */
  const acted = new Set<string>()
  let token = 1
  const judge = ({ metadata }: CallOptions) =>
    metadata?.token === undefined
      ? Effect.fail(Fake.status(3, "etcdserver: user name is empty"))
      : metadata.token === String(token)
        ? Effect.void
        : Effect.fail(Fake.status(16, "etcdserver: invalid auth token"))
  const lost = Effect.andThen(
    Effect.sleep("100 millis"),
    Effect.fail(Fake.failure("ConnectionLost", "unknown", "lost"))
  )
  const clusterOf = (mode: Mode | undefined) => (mode === "strange" ? 2n : 1n)

  const server = (address: string): Fake.Server => {
    const mode = () => modes.get(address)
    return {
      dial: () =>
        Effect.suspend(() => {
          if (mode() === "untrusted") return Effect.fail(untrusted)
          const refused = Effect.fail(Fake.failure("Unreachable", "no", "refused"))
          return mode() === "down" ? refused : mode() === "slow" ? Effect.delay(refused, "30 millis") : Effect.yieldNow
        }),
      status: (question) =>
        Effect.suspend(() =>
          mode() === "silent"
            ? Effect.never
            : Effect.as(judge(question), {
                clusterId: clusterOf(mode()),
                memberId: BigInt(all.indexOf(address)),
                leader: 1n,
                term: 2n
              })
        ),
      answer: ({ options, path }) =>
        Effect.suspend(() => {
          if (mode() === "silent") return lost
          if (path.endsWith("Authenticate")) {
            return Effect.delay(
              Effect.sync(() => tokenOf(clusterOf(mode()), token)),
              "1 millis"
            )
          }
          const answer = Effect.delay(Effect.succeed(putAnswer(clusterOf(mode()))), "1 millis")
          const leaderless = Effect.fail(Fake.status(14, "etcdserver: no leader"))
          return Effect.andThen(judge(options), () => {
            if (mode() === "leaderless") return leaderless
            acted.add(address)
            return answer
          })
        })
    }
  }
  return {
    fake: Fake.make(Object.fromEntries(all.map((address) => [address, server(address)]))),
    modes,
    acted,
    expire: () => {
      token++
    },
    tokens: () => token
  }
}

const choose = <A>(values: ReadonlyArray<A>) =>
  Effect.map(Random.nextIntBetween(0, values.length, { halfOpen: true }), (index) => values[index]!)

const chance = (part: number) => Effect.map(Random.next, (next) => next < part)

/** Calls of all kinds, one after the other; answers what was wrong with those that could go to any endpoint. */
const calling = Effect.fnUntraced(function* (client: Client, isOver: () => boolean) {
  const reasons: Array<Reason> = []
  while (!isOver()) {
    const endpoint = (yield* chance(0.2)) ? yield* choose(all) : undefined
    const call: Effect.Effect<unknown, EtcdError> = (yield* chance(0.7))
      ? client.unary(KV.method.put, {}, { endpoint })
      : (yield* chance(0.5))
        ? Effect.scoped(
            Effect.andThen(client.bidirectional(Watch.method.watch, { endpoint }), Effect.sleep("2 millis"))
          )
        : Stream.runDrain(client.serverStream(KV.method.rangeStream, {}, { endpoint }))
    const fiber = yield* Effect.forkChild(Effect.result(call))
    if (yield* chance(0.1)) {
      yield* Effect.sleep("1 millis")
      yield* Fiber.interrupt(fiber)
      continue
    }
    const result = yield* Fiber.join(fiber)
    if (Result.isFailure(result) && endpoint === undefined) reasons.push(result.failure.reason)
  }
  return reasons
})

const open = Effect.map(Metric.snapshot, (metrics) =>
  metrics.flatMap((metric) =>
    metric.id === "etcd_client_connections" && metric.type === "Gauge" ? [metric.state.value] : []
  )
)

describe("whatever happens to its endpoints, a client", () => {
  for (const selection of ["leader", "sticky", "spread"] as const) {
    for (const lasting of ["strange", "untrusted"] as const) {
      it.live(`answers or tells the truth, and leaves nothing behind (${selection}, one is ${lasting})`, () =>
        Effect.gen(function* () {
          const { acted, expire, fake, modes, tokens } = servers()
          const lists = yield* Queue.unbounded<ReadonlyArray<string>>()
          yield* Queue.offer(lists, good)
          modes.set(bad, lasting)
          const scope = yield* Scope.make()
          const client = yield* makeWith(fake.transport, {
            endpoints: Stream.fromQueue(lists),
            selection,
            credentials: { username: "root", password: Redacted.make("hunter2") },
            connectTimeout: "30 millis"
          }).pipe(Scope.provide(scope))
          yield* client.unary(KV.method.put, {})
          let isOver = false
          const callers = yield* Effect.forEach(Array.from({ length: 20 }), () =>
            Effect.forkChild(calling(client, () => isOver))
          )
          for (let event = 0; event < 60; event++) {
            const address = yield* choose(good)
            const mode = yield* choose(["up", "down", "slow", "silent", "leaderless"] as const)
            // One of them can always be asked.
            if (good.some((other) => other !== address && (modes.get(other) ?? "up") === "up")) modes.set(address, mode)
            else modes.set(address, "up")
            if (yield* chance(0.5)) fake.drop(address)
            if (yield* chance(0.2)) expire()
            if (yield* chance(0.2)) yield* Queue.offer(lists, (yield* chance(0.5)) ? all : [bad, yield* choose(good)])
            yield* Effect.sleep("10 millis")
          }
          for (const address of good) modes.set(address, "up")
          yield* Queue.offer(lists, all)
          yield* client.unary(KV.method.put, {})
          isOver = true
          const reasons = (yield* Effect.forEach(callers, (caller) => Fiber.join(caller))).flat()
          for (const reason of reasons) {
            assert.notInclude(["ClusterIdMismatch", "DeadlineExceeded"], reason._tag, reason.message)
            assert.isFalse(reason._tag === "Unreachable" && reason.lasting === true, reason.message)
          }
          assert.isFalse(acted.has(bad))
          const authentications = fake.sent.filter(({ path }) => path.endsWith("Authenticate")).length
          assert.isAtMost(authentications, 4 * tokens())
          yield* Scope.close(scope, Exit.void)
          assert.strictEqual(fake.open(), 0)
          assert.isTrue((yield* open).every((count) => count === 0))
        }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()), Random.withSeed(`${selection} ${lasting}`))
      )
    }
  }
})
