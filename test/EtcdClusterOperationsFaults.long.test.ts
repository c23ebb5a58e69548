/**
 * Operations on a cluster while something goes wrong in it, and on clusters that are not as usual: with passwords, with TLS
 * between members, with a schedule that starts members again.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import type * as EtcdOperations from "../src/EtcdOperations.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as EtcdFaults from "../src/testing/EtcdFaults.ts"
import { underLoad } from "./support/load.ts"
import { freeze, until } from "./support/machine.ts"

const namesOf = ({ members }: EtcdCluster.Cluster) =>
  SubscriptionRef.getUnsafe(members)
    .map(({ name }) => name)
    .sort()

const by = (cluster: EtcdCluster.Cluster, client: EtcdCluster.Options["client"] = {}) =>
  Effect.provide(EtcdLayer.connect({ ...client, endpoints: cluster.endpoints }))

/** That those who run here are those whom etcd has, and that all have a vote. */
const agrees = (cluster: EtcdCluster.Cluster, client?: EtcdCluster.Options["client"]) =>
  Effect.gen(function* () {
    const { members } = yield* EtcdMembership.list().pipe(by(cluster, client))
    assert.deepStrictEqual(members.map(({ name }) => name).sort(), namesOf(cluster))
    assert.isTrue(members.every(({ isLearner }) => !isLearner))
  })

/** Does something once, when a step begins. */
const when = (wanted: RegExp, effect: Effect.Effect<unknown, unknown>): EtcdOperations.Options => {
  let isDone = false
  return {
    onProgress: ({ step }) => {
      if (isDone || !wanted.test(step)) return Effect.void
      isDone = true
      return Effect.orDie(Effect.asVoid(effect))
    }
  }
}

/** For a while, in the background. */
const passing = (fault: Effect.Effect<void, EtcdFaults.FaultRefused, Scope.Scope>, millis: number) =>
  Effect.forkDetach(Effect.scoped(Effect.andThen(fault, Effect.sleep(millis))), { startImmediately: true })

const live = (name: string, test: () => Effect.Effect<void, unknown, NodeServices.NodeServices | Scope.Scope>) =>
  it.live(name, () => test().pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

/** Runs an operation until it is complete. Each failure has to say how to go on. */
const insisted = (first: EtcdCluster.Operation, again: EtcdCluster.Operation, faults: EtcdFaults.Faults) =>
  Effect.gen(function* () {
    let result = yield* Effect.result(first)
    for (let tries = 0; Result.isFailure(result); tries++) {
      if (tries === 3) return yield* Effect.fail(result.failure)
      const { failure } = result
      assert.include(["OperationFailed", "ClusterRefused"], failure._tag)
      if (failure._tag === "OperationFailed") assert.match(failure.message, /Run it again when the cause is gone/)
      yield* faults.awaitHealthy
      result = yield* Effect.result(again)
    }
  })

describe("operations on a cluster", { concurrent: true }, () => {
  live("stop where somebody else may have begun one, and are taken up", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ size: 1, log: false })
      const robbed = when(
        /^start /,
        Effect.andThen(EtcdKv.deletePrefix("effect-etcd/operations/"), Effect.never).pipe(by(cluster))
      )
      const error = yield* Effect.flip(cluster.grow(robbed))
      assert.strictEqual(error._tag, "OperationFailed")
      if (error._tag !== "OperationFailed") return
      assert.strictEqual(error.cause._tag, "LockLost")
      assert.strictEqual(error.step, "start node1")
      assert.deepStrictEqual(
        error.done.map(({ title }) => title),
        ["add node1 as a learner"]
      )
      const { steps } = yield* cluster.grow()
      assert.deepStrictEqual(
        steps.map(({ title }) => title),
        ["start node1", "promote node1"]
      )
      yield* agrees(cluster)
    })
  )

  live("remove a member that stands still, to whom etcd would write for ever", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const leader = yield* cluster.awaitLeader
      const still = SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!
      yield* freeze(still)
      // More than a socket takes.
      const put = (key: number) => EtcdKv.put(String(key), "x".repeat(500_000))
      yield* Effect.forEach([0, 1, 2, 3], put).pipe(by(cluster))
      yield* cluster.replace(still.name)
      yield* agrees(cluster)
      yield* put(4).pipe(by(cluster))
    })
  )

  live("are those of a user with a password, where that is needed", () =>
    Effect.gen(function* () {
      const password = Redacted.make("hunter2")
      const client = { credentials: { username: "root", password } }
      const cluster = yield* EtcdCluster.ephemeral({ size: 1, log: false, client })
      yield* Effect.gen(function* () {
        yield* EtcdAuth.addUser("root", password)
        yield* EtcdAuth.addRole("root")
        yield* EtcdAuth.grantRole("root", "root")
        yield* EtcdAuth.enable()
      }).pipe(by(cluster))
      yield* cluster.grow()
      yield* cluster.restart()
      yield* cluster.replace("node0")
      yield* agrees(cluster, client)
      assert.deepStrictEqual(namesOf(cluster), ["node1", "node2"])
    })
  )

  live("end members that a schedule starts again, and lead a client of theirs to those that stay", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ size: 2, log: false, restart: Schedule.spaced("20 millis") })
      const writes = yield* Effect.gen(function* () {
        let written = 0
        let isOver = false
        const one = Effect.suspend(() => EtcdKv.put(`write/${written}`, ""))
        // While a member of two is started again there is no quorum, and what becomes of a write may not be known.
        const write = Effect.ignore(Effect.tap(one, () => Effect.sync(() => written++)))
        const writing = yield* Effect.forkChild(
          Effect.repeat(write, { until: () => isOver, schedule: Schedule.spaced(5) })
        )
        yield* cluster.restart()
        const { name } = yield* cluster.awaitLeader
        yield* cluster.shrink(name)
        const before = written
        yield* until(() => written > before + 5)
        isOver = true
        yield* Fiber.join(writing)
        const { count } = yield* EtcdKv.range(KeyRange.prefix("write/"), { countOnly: true })
        assert.isAtLeast(Number(count), written)
        return written
      }).pipe(Effect.provide(EtcdKv.layer), Effect.provide(cluster.client))
      assert.isAbove(writes, 5)
      yield* agrees(cluster)
      assert.lengthOf(namesOf(cluster), 1)
    })
  )
})

// All that members say passes through this process, which has to have time for it.
describe("operations on a cluster with faults", () => {
  live("are completed though the leader is killed in the midst of one", () =>
    Effect.gen(function* () {
      const faults = yield* EtcdFaults.make({ log: false })
      const { cluster } = faults
      const leader = yield* cluster.awaitLeader
      const { name } = SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!
      const killed = when(/^promote /, passing(faults.kill(leader), 1000))
      yield* underLoad(insisted(cluster.replace(name, killed), cluster.replace(name), faults)).pipe(by(cluster))
      yield* faults.awaitHealthy
      yield* agrees(cluster)
      assert.notInclude(namesOf(cluster), name)
      assert.lengthOf(namesOf(cluster), 3)
    })
  )

  live("leave no doubt about a write when they end a leader whose word takes long", () =>
    Effect.gen(function* () {
      const faults = yield* EtcdFaults.make({ log: false })
      const { cluster } = faults
      const [a, b, c] = namesOf(cluster)
      for (const [from, to] of [
        [a, b],
        [b, c],
        [c, a]
      ] as const) {
        yield* faults.slow(from!, to!, { delay: "20 millis" })
      }
      const { name } = yield* cluster.awaitLeader
      const { refused } = yield* underLoad(cluster.shrink(name)).pipe(by(cluster))
      assert.deepStrictEqual(refused, [])
    })
  )

  live("are completed though a member stands still, or is cut off, in the midst of one", () =>
    Effect.gen(function* () {
      const faults = yield* EtcdFaults.make({ log: false })
      const { cluster } = faults
      const leader = yield* cluster.awaitLeader
      const [one, other] = SubscriptionRef.getUnsafe(cluster.members).filter((node) => node !== leader)
      const stands = when(new RegExp(`^restart ${one!.name}`), passing(faults.pause(other!), 1500))
      const isolated = when(/^hand the leadership/, passing(faults.isolate(leader), 1500))
      yield* underLoad(
        Effect.gen(function* () {
          yield* insisted(cluster.restart(stands), cluster.restart(), faults)
          yield* insisted(cluster.restart(isolated), cluster.restart(), faults)
        })
      ).pipe(by(cluster))
      yield* faults.awaitHealthy
      yield* agrees(cluster)
    })
  )

  live("reach members with TLS between them, who are parties of the network as soon as they have joined", () =>
    Effect.gen(function* () {
      const faults = yield* EtcdFaults.make({ size: 1, log: false, config: { peerAutoTls: true } })
      const { cluster } = faults
      yield* cluster.grow({ to: 3 })
      yield* faults.isolate("node2").pipe(
        Effect.andThen(faults.active),
        Effect.tap((active) => Effect.sync(() => assert.deepStrictEqual(active, ["isolate node2 | node0, node1"]))),
        Effect.andThen(cluster.awaitLeader),
        Effect.scoped
      )
      yield* faults.awaitHealthy
      yield* cluster.restart()
      yield* cluster.shrink("node0")
      yield* agrees(cluster)
      assert.deepStrictEqual(namesOf(cluster), ["node1", "node2"])
    })
  )
})
