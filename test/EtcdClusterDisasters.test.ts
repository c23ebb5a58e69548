import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdLock from "../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { replaceInDatabase } from "./support/database.ts"
import { reasonOf } from "./support/effects.ts"
import { bumping } from "./support/etcdutl.ts"
import { temporaryDirectory } from "./support/machine.ts"

const services = Layer.mergeAll(
  EtcdKv.layer,
  EtcdLease.layer,
  EtcdMaintenance.layer,
  EtcdMembership.layer,
  EtcdWatch.layer,
  EtcdSession.layer
)

/** By a client of the cluster as it is then. */
const by = ({ client }: EtcdCluster.Cluster) =>
  Effect.provide(Layer.fresh(services).pipe(Layer.provideMerge(Layer.fresh(client))))

const nodes = ({ members }: EtcdCluster.Cluster) => SubscriptionRef.getUnsafe(members)

const names = (cluster: EtcdCluster.Cluster) => nodes(cluster).map(({ name }) => name)

const titles = ({ steps }: EtcdOperations.Report) => steps.map(({ title }) => title)

const lock = EtcdLock.make("lock")

/** A token of the lock, which is not given back when `Effect.never` is what is done under it. */
const tokenOf = EtcdLock.Held.useSync(({ token }) => token).pipe(EtcdLock.withLock(lock))

describe("a cluster whose data are not what they should be", { concurrent: true }, () => {
  it.live("is repaired: who is corrupt is replaced, also where it leads, before the alarm is disarmed", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const odd = yield* cluster.awaitLeader
      yield* Effect.gen(function* () {
        yield* EtcdKv.put("key", "what all have")
        assert.deepStrictEqual(titles(yield* cluster.repairCorrupt()), [])
        yield* replaceInDatabase(odd, "what all have", "what one has!")
        yield* cluster.awaitLeader
        yield* EtcdOperations.moveLeader(odd.id)
        yield* EtcdMaintenance.armAlarm({ memberId: odd.id, type: "Corrupt" })
        const planned = yield* cluster.repairCorrupt({ dryRun: true })
        const disarm = "disarm the alarms, where all members have the same data"
        assert.match(titles(planned)[0]!, new RegExp(`^move the leader from ${odd.name} to node`))
        assert.deepStrictEqual(titles(planned).slice(1), [
          `put another member in the place of ${odd.name}, whose data are not those of the others`,
          disarm
        ])
        // Ended half-way, when it was removed: it is compared with nobody then, and its data are there.
        const reached = yield* Deferred.make<void>()
        const onProgress = ({ detail }: EtcdOperations.Progress) =>
          detail === `delete the data of ${odd.name}`
            ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
            : Effect.void
        const repairing = yield* Effect.forkChild(cluster.repairCorrupt({ onProgress }))
        yield* Effect.raceFirst(Deferred.await(reached), Fiber.join(repairing))
        yield* Fiber.interrupt(repairing)
        assert.isTrue(existsSync(odd.config.dataDir))
        assert.deepStrictEqual(titles(yield* cluster.repairCorrupt()), [
          `put another member in the place of ${odd.name}, which was begun`,
          disarm
        ])
        assert.isFalse(existsSync(odd.config.dataDir))
        assert.deepStrictEqual(titles(yield* cluster.repairCorrupt()), [])
        assert.notInclude(names(cluster), odd.name)
        assert.lengthOf(names(cluster), 3)
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
        assert.strictEqual((yield* EtcdOperations.findCorrupt()).verdict, "sound")
        for (const { endpoints } of nodes(cluster)) {
          const own = { endpoint: endpoints[0], serializable: true }
          assert.deepStrictEqual(yield* EtcdKv.getString("key", own), Option.some("what all have"))
        }
        yield* EtcdKv.put("key", "goes on")
      }).pipe(by(cluster))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "is restored: no revision is given twice, nobody holds a lock who is gone, and what was there is kept",
    (context) =>
      Effect.gen(function* () {
        yield* bumping(context)
        const directory = yield* temporaryDirectory
        const snapshot = join(directory, "snapshot.db")
        const cluster = yield* EtcdCluster.ephemeral({ log: false, dataDir: join(directory, "data") })
        const before = yield* Effect.gen(function* () {
          yield* EtcdKv.put("key", "in the snapshot")
          const held = yield* Deferred.make<bigint>()
          // Whoever holds it is there when the snapshot is taken, and not any more when it is restored.
          yield* EtcdLock.Held.useSync(({ token }) => Deferred.doneUnsafe(held, Effect.succeed(token))).pipe(
            Effect.andThen(Effect.never),
            EtcdLock.withLock(lock),
            Effect.forkScoped
          )
          const token = yield* Deferred.await(held)
          yield* EtcdMaintenance.snapshotToFile(snapshot)
          const { header } = yield* EtcdKv.put("key", "after it")
          return { token, revision: header.revision }
        }).pipe(Effect.scoped, by(cluster))
        const ids = nodes(cluster).map(({ clusterId }) => clusterId)
        const done = yield* cluster.restore(snapshot)
        assert.deepStrictEqual(titles(done).slice(-3), [
          "stop all members",
          "put the data of all members in place",
          "start all members"
        ])
        assert.notInclude(ids, nodes(cluster)[0].clusterId)
        yield* Effect.gen(function* () {
          assert.deepStrictEqual(yield* EtcdKv.getString("key"), Option.some("in the snapshot"))
          assert.deepStrictEqual(yield* EtcdLease.list(), [])
          assert.isAbove(Number(yield* tokenOf), Number(before.token))
          const { header } = yield* EtcdKv.put("key", "goes on")
          assert.isAbove(Number(header.revision), Number(before.revision))
          // Whoever watched before is told that there is no history to go on with.
          const watched = EtcdWatch.watch("key", { startRevision: before.revision + 1n }).pipe(Stream.runHead)
          assert.strictEqual((yield* reasonOf(watched))._tag, "Compacted")
        }).pipe(by(cluster))
        const kept = readdirSync(join(directory, "data", "node0.etcd")).filter((name) => name.startsWith(".before-"))
        assert.lengthOf(kept, 1)
        assert.strictEqual((yield* Effect.flip(cluster.recover()))._tag, "ClusterRefused")
        writeFileSync(snapshot, readFileSync(snapshot).subarray(0, 10_000))
        const refusal = yield* Effect.flip(cluster.restore(snapshot))
        assert.strictEqual(refusal._tag === "ClusterRefused" && refusal.finding, "truncated-snapshot")
        assert.deepStrictEqual(
          yield* Effect.provide(EtcdKv.getString("key"), services).pipe(by(cluster)),
          Option.some("goes on")
        )
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "is made anew where its quorum is lost, while it runs and by its directories, and refuses all else until then",
    (context) =>
      Effect.gen(function* () {
        yield* bumping(context)
        const dataDir = join(yield* temporaryDirectory, "data")
        const start = EtcdCluster.ephemeral({ log: false, dataDir })
        yield* Effect.gen(function* () {
          const cluster = yield* start
          yield* EtcdKv.put("key", "acknowledged").pipe(by(cluster))
          const [, ...lost] = nodes(cluster)
          for (const node of lost) {
            yield* node.stop
            rmSync(node.config.dataDir, { recursive: true })
          }
          const all = [
            cluster.grow(),
            cluster.shrink(),
            cluster.replace("node1"),
            cluster.restart(),
            cluster.repairCorrupt(),
            EtcdOperations.defragment().pipe(by(cluster))
          ]
          for (const refused of all) {
            const error = yield* Effect.flip(refused)
            assert.strictEqual(error._tag === "ClusterRefused" && error.finding, "no-quorum")
          }
          const planned = yield* cluster.recover({ dryRun: true })
          assert.deepStrictEqual(titles(yield* cluster.recover()), titles(planned))
          assert.deepStrictEqual(yield* EtcdKv.getString("key").pipe(by(cluster)), Option.some("acknowledged"))
          assert.lengthOf((yield* EtcdMembership.list().pipe(by(cluster))).members, 3)
          yield* EtcdKv.put("key", "once more").pipe(by(cluster))
        }).pipe(Effect.scoped)
        for (const name of ["node0.etcd", "node2.etcd"]) rmSync(join(dataDir, name), { recursive: true })
        const refusal = yield* Effect.flip(Effect.scoped(start))
        assert.include(refusal.message, "does not have node0.etcd, node2.etcd")
        yield* EtcdCluster.recover({ dataDir })
        yield* Effect.gen(function* () {
          const cluster = yield* start
          assert.deepStrictEqual(yield* EtcdKv.getString("key").pipe(by(cluster)), Option.some("once more"))
        }).pipe(Effect.scoped)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "is restored where it does not run, and a restore that was killed is brought to its end when it starts",
    (context) =>
      Effect.gen(function* () {
        yield* bumping(context)
        const directory = yield* temporaryDirectory
        const snapshot = join(directory, "snapshot.db")
        const first = yield* EtcdCluster.ephemeral({ log: false, size: 1 })
        yield* Effect.andThen(EtcdKv.put("key", "value"), EtcdMaintenance.snapshotToFile(snapshot)).pipe(by(first))
        const dataDir = join(directory, "data")
        const restore = (options: Partial<EtcdCluster.RestoreDataOptions> = {}) =>
          EtcdCluster.restore(snapshot, { dataDir, size: 3, ...options })
        const planned = titles(yield* restore({ dryRun: true }))
        assert.deepStrictEqual(readdirSync(directory), ["snapshot.db"])
        for (const step of planned) {
          const reached = yield* Deferred.make<void>()
          const fiber = yield* Effect.forkChild(
            restore({
              onProgress: (progress) =>
                progress.step === step
                  ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never)
                  : Effect.void
            })
          )
          yield* Deferred.await(reached)
          yield* Fiber.interrupt(fiber)
        }
        yield* restore()
        assert.strictEqual((yield* Effect.flip(restore()))._tag, "ClusterRefused")
        const cluster = yield* EtcdCluster.ephemeral({ log: false, dataDir })
        assert.deepStrictEqual(yield* EtcdKv.getString("key").pipe(by(cluster)), Option.some("value"))
        assert.lengthOf(names(cluster), 3)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
