/**
 * Batching while members of a cluster are killed, restarted and paused, and the leader is moved: nothing is applied
 * twice, nobody is told what is not so, nothing hangs.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import type * as EtcdProcess from "../src/EtcdProcess.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Load from "./support/batch/load.ts"
import * as Verdict from "./support/batch/verdict.ts"
import { freeze } from "./support/machine.ts"
import { recorder } from "./support/spans.ts"

const enough = 200

const nodeOf = (cluster: EtcdCluster.Cluster, memberId: bigint) =>
  Effect.orDie(Effect.fromNullishOr(SubscriptionRef.getUnsafe(cluster.members).find(({ id }) => id === memberId)))

/** The member that the writes go to. */
const inUse = (cluster: EtcdCluster.Cluster, load: Load.Load) =>
  Effect.flatMap(load.memberId, (memberId) => nodeOf(cluster, memberId))

const revive = (node: EtcdProcess.Node, load: Load.Load) =>
  Effect.gen(function* () {
    yield* node.exit
    yield* load.answered(enough)
    yield* node.start
  })

const kill = (node: EtcdProcess.Node, load: Load.Load) => Effect.andThen(node.signal("SIGKILL"), revive(node, load))

/** The revision of the newest value in the store, as the member knows it. */
const newestAt = (node: EtcdProcess.Node, plain: EtcdKv.Service) =>
  Effect.map(
    plain.range(KeyRange.all, {
      endpoint: node.endpoints[0],
      sortBy: "modRevision",
      order: "descending",
      limit: 1,
      keysOnly: true
    }),
    ({ kvs }) => kvs[0]?.modRevision ?? 0n
  )

/** Kills a follower when puts have been applied that it has not answered: sent again, they would be there twice. */
const killUnanswered = (node: EtcdProcess.Node, load: Load.Load, leader: EtcdProcess.Node, plain: EtcdKv.Service) =>
  Effect.gen(function* () {
    const halt = Effect.gen(function* () {
      yield* load.writing
      yield* freeze(node)
      const applied = yield* newestAt(leader, plain)
      // What was answered before it stood still has come by the time of the second answer.
      yield* newestAt(leader, plain)
      if (applied > (yield* load.newest)) return true
      yield* node.signal("SIGCONT")
      return false
    })
    yield* Effect.repeat(halt, { until: (isUnanswered) => isUnanswered })
    yield* node.signal("SIGKILL")
    yield* revive(node, load)
  }).pipe(Effect.ensuring(node.signal("SIGCONT")))

const restart = (node: EtcdProcess.Node, load: Load.Load) =>
  Effect.gen(function* () {
    yield* node.stop
    yield* load.answered(enough)
    yield* node.start
  })

const pause = (node: EtcdProcess.Node, load: Load.Load) =>
  Effect.andThen(freeze(node), load.answered(enough)).pipe(Effect.ensuring(node.signal("SIGCONT")))

const awaitOtherLeader = (cluster: EtcdCluster.Cluster, than: EtcdProcess.Node) =>
  Effect.repeat(Effect.andThen(Effect.sleep("5 millis"), cluster.awaitLeader), { until: (leader) => leader !== than })

/** A member that has just come back may not be up to date enough to lead, and etcd does not say so: it waits. */
const moveLeader = (cluster: EtcdCluster.Cluster) =>
  Effect.gen(function* () {
    const maintenance = EtcdMaintenance.fromClient(yield* EtcdClient.make({ endpoints: cluster.endpoints }))
    const leader = yield* cluster.awaitLeader
    const other = SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!
    yield* maintenance.moveLeader(other.id, { deadline: "1 second" })
    yield* awaitOtherLeader(cluster, leader)
  }).pipe(Effect.scoped, Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 50 }))

/** Moves the leader, at least once, until the writes go to a follower. */
const useFollower = (cluster: EtcdCluster.Cluster, load: Load.Load) =>
  Effect.gen(function* () {
    yield* moveLeader(cluster)
    yield* load.answered(enough)
    const node = yield* inUse(cluster, load)
    if (node === (yield* cluster.awaitLeader)) return yield* Effect.fail("the writes go to the leader")
    return node
  }).pipe(Effect.retry({ times: 20 }))

const failureOf = (exit: Exit.Exit<unknown, EtcdError.EtcdError>) => {
  const error = Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined
  return [error?.reason._tag, error?.outcome]
}

const spanNames = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { spans, tracer } = recorder()
    yield* Effect.withTracer(effect, tracer)
    return spans.map(({ name }) => name)
  })

/** Nothing is under way and no key is held: each call goes out as it is, and waits for no other. */
const isIdle = Effect.fnUntraced(function* (kv: EtcdKv.Service, keys: ReadonlyArray<string>) {
  for (const key of keys) {
    const calls: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError>> = [
      kv.put(key, "after"),
      kv.get(key),
      kv.get(key, { serializable: true }),
      kv.delete(key)
    ]
    assert.deepStrictEqual(
      yield* spanNames(Effect.forEach(calls, (call) => call)),
      ["Put", "Range", "Range", "DeleteRange"].map((name) => `etcdserverpb.KV/${name}`)
    )
  }
})

/** Stops the load, and checks what it was told. */
const conclude = Effect.fnUntraced(function* (plain: EtcdClient.Client, load: Load.Load) {
  yield* load.stop
  const { header } = yield* EtcdKv.fromClient(plain).delete("none")
  const history = yield* Verdict.historyUpTo(plain, load.prefix, header.revision)
  Verdict.check(load.told, history)
  return history
})

const cluster = Layer.effect(EtcdCluster.EtcdCluster, EtcdCluster.ephemeral({ log: false }))

describe("EtcdBatch, in a cluster whose members fail", () => {
  layer(Layer.provide(cluster, NodeServices.layer), { excludeTestServices: true })((it) => {
    it.effect("keeps its promises", () =>
      Effect.gen(function* () {
        const cluster = yield* EtcdCluster.EtcdCluster
        const { endpoints } = cluster
        const plain = yield* EtcdClient.make({ endpoints })
        const options = { endpoints, batching: true, deadline: "500 millis", selection: "sticky" } as const
        const sticky = EtcdKv.fromClient(yield* EtcdClient.make(options))
        // Who reads from one member after the other would notice an answer that is stale.
        const spread = EtcdKv.fromClient(yield* EtcdClient.make({ ...options, selection: "spread" }))
        const load = yield* Load.start([sticky, spread], {
          prefix: "all/",
          keys: 48,
          burst: 3,
          readers: 4,
          impatient: 16
        })
        yield* load.answered(enough)
        const follower = yield* useFollower(cluster, load)
        yield* killUnanswered(follower, load, yield* cluster.awaitLeader, EtcdKv.fromClient(plain))
        yield* load.answered(enough)
        yield* load.writing
        yield* kill(yield* cluster.awaitLeader, load)
        for (const fault of [restart, pause]) {
          for (const victim of [inUse(cluster, load), cluster.awaitLeader]) {
            yield* load.answered(enough)
            yield* load.writing
            yield* fault(yield* victim, load)
            yield* cluster.awaitLeader
          }
        }
        yield* load.answered(enough)
        const { changes } = yield* conclude(plain, load)
        yield* isIdle(sticky, load.keys)
        yield* isIdle(spread, load.keys.slice(0, 1))
        const revisions = new Set(changes.map(({ revision }) => revision))
        assert.isBelow(revisions.size, changes.length / 2, "writes did not share transactions")
        const uncertain = load.told.filter(Verdict.isUncertain)
        assert.isTrue(
          uncertain.some((one) => Load.errorOf(one) !== undefined),
          "no write under way was lost"
        )
        assert.isTrue(
          uncertain.some(({ isImpatient }) => isImpatient),
          "nobody gave up"
        )
      })
    )

    it.effect("leaves a member that is paused", () =>
      Effect.gen(function* () {
        const cluster = yield* EtcdCluster.EtcdCluster
        // Followers, so that nobody has to be elected when one of them stands still.
        const leader = yield* cluster.awaitLeader
        const endpoints = SubscriptionRef.getUnsafe(cluster.members)
          .filter((node) => node !== leader)
          .flatMap((node) => node.endpoints)
        const client = yield* EtcdClient.make({
          endpoints,
          batching: true,
          deadline: "1 second",
          keepAliveInterval: "Infinity",
          reconnect: Schedule.spaced("1 minute")
        })
        const kv = EtcdKv.fromClient(client)
        const paused = yield* nodeOf(cluster, (yield* kv.put("paused", "")).header.memberId)
        const keys = Array.from({ length: 64 }, (_, index) => `paused/${index}`)
        const everything = (value: string) =>
          Effect.forEach(
            keys,
            (key) => {
              const calls = [kv.put(key, value), kv.range(key, { deadline: "10 seconds" })] as const
              return Effect.all([Effect.exit(calls[0]), Effect.exit(calls[1])], { concurrency: 2 })
            },
            { concurrency: "unbounded" }
          )
        const patient = { deadline: "1 minute" } as const
        yield* Effect.gen(function* () {
          yield* freeze(paused)
          // With these in flight none of the others goes alone.
          const held = yield* Effect.forEach([kv.put("paused", "held", patient), kv.range("paused", patient)], (call) =>
            Effect.forkChild(call as Effect.Effect<unknown, EtcdError.EtcdError>, { startImmediately: true })
          )
          for (const [put, range] of yield* everything("first")) {
            if (Exit.isFailure(put)) assert.deepStrictEqual(failureOf(put), ["DeadlineExceeded", "unknown"])
            // What only reads is sent to the other follower, as soon as this one is seen to be silent.
            assert.isTrue(Exit.isSuccess(range))
          }
          for (const exit of (yield* everything("second")).flat()) {
            assert.notStrictEqual((yield* exit).header.memberId, paused.id)
          }
          yield* paused.signal("SIGCONT")
          yield* Effect.forEach(held, (fiber) => Fiber.join(fiber))
        }).pipe(Effect.ensuring(paused.signal("SIGCONT")))
        for (const key of keys) {
          const { version } = Option.getOrThrow(yield* kv.get(key))
          assert.isTrue(version === 1n || version === 2n)
        }
        yield* isIdle(kv, keys)
      })
    )

    it.effect("leaves a member of whom one caller has waited in vain, while others have more time", () =>
      Effect.gen(function* () {
        const cluster = yield* EtcdCluster.EtcdCluster
        const leader = yield* cluster.awaitLeader
        const endpoints = SubscriptionRef.getUnsafe(cluster.members)
          .filter((node) => node !== leader)
          .flatMap((node) => node.endpoints)
        const client = yield* EtcdClient.make({
          endpoints,
          batching: { maxInFlight: 1 },
          keepAliveInterval: "Infinity",
          reconnect: Schedule.spaced("1 minute")
        })
        const kv = EtcdKv.fromClient(client)
        const paused = yield* nodeOf(cluster, (yield* kv.put("doubted", "")).header.memberId)
        const start = <A>(call: Effect.Effect<A, EtcdError.EtcdError>) =>
          Effect.forkChild(call, { startImmediately: true })
        yield* Effect.gen(function* () {
          yield* freeze(paused)
          const held = yield* start(kv.put("doubted", "held"))
          const patient = yield* start(kv.put("doubted/patient", "1"))
          const endless = yield* start(kv.put("doubted/endless", "1", { deadline: "Infinity" }))
          const impatient = yield* start(
            Effect.flatMap(Effect.exit(kv.put("doubted/impatient", "1", { deadline: "500 millis" })), (exit) =>
              // In the very moment in which it is told; it need not wait for the others.
              Effect.map(kv.delete("doubted/next", { deadline: "10 seconds" }), ({ header }) => ({ exit, header }))
            )
          )
          // So that the three of them go together.
          yield* Fiber.interrupt(held)
          const { exit, header } = yield* Fiber.join(impatient)
          assert.deepStrictEqual(failureOf(exit), ["DeadlineExceeded", "unknown"])
          assert.notStrictEqual(header.memberId, paused.id)
          assert.isUndefined(patient.pollUnsafe())
          yield* paused.signal("SIGCONT")
          yield* Effect.forEach([patient, endless], (fiber) => Fiber.join(fiber))
        }).pipe(Effect.ensuring(paused.signal("SIGCONT")))
      })
    )
  })
})
