import { existsSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import { titles } from "./support/clusters.ts"
import { replaceInDatabase } from "./support/database.ts"
import { bumping, findingOf } from "./support/etcdutl.ts"
import { temporaryDirectory } from "./support/machine.ts"
import { endedAt } from "./support/operations.ts"

const services = Layer.mergeAll(EtcdKv.layer, EtcdMaintenance.layer, EtcdMembership.layer)

/** By a client of the cluster as it is then. */
const by = ({ client }: EtcdCluster.Cluster) =>
  Effect.provide(Layer.fresh(services).pipe(Layer.provideMerge(Layer.fresh(client))))

const nodes = ({ members }: EtcdCluster.Cluster) => SubscriptionRef.getUnsafe(members)

const names = (cluster: EtcdCluster.Cluster) => nodes(cluster).map(({ name }) => name)

const placing = "put the data of all members in place"

describe("a cluster whose data are not what they should be", { concurrent: true }, () => {
  it.live("is repaired: who is corrupt is replaced, also where it leads, before the alarm is disarmed", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const odd = yield* cluster.awaitLeader
      yield* Effect.gen(function* () {
        yield* EtcdKv.put("key", "what all have")
        assert.deepStrictEqual(titles(yield* cluster.repairCorrupt()), [])
        const disarm = "disarm the alarms, where all members have the same data"
        // As long as nobody can look at the data of one, they may be what the alarm is about.
        const silent = nodes(cluster).find((node) => node !== odd)!
        yield* EtcdMaintenance.armAlarm({ memberId: silent.id, type: "Corrupt" })
        yield* silent.stop
        assert.strictEqual(yield* findingOf(cluster.repairCorrupt()), "undecided")
        yield* silent.start
        assert.deepStrictEqual(titles(yield* cluster.repairCorrupt()), [disarm])
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
        yield* replaceInDatabase(odd, "what all have", "what one has!")
        yield* cluster.awaitLeader
        yield* EtcdOperations.moveLeader(odd.id)
        yield* EtcdMaintenance.armAlarm({ memberId: odd.id, type: "Corrupt" })
        // What keeps it from being replaced is found before the leader is moved.
        const { member: learner } = yield* Effect.retry(
          EtcdMembership.add(["http://localhost:1"], { isLearner: true }),
          Schedule.spaced("200 millis")
        )
        assert.strictEqual(yield* findingOf(cluster.repairCorrupt()), "learner")
        yield* EtcdMaintenance.armAlarm({ memberId: learner.id, type: "Corrupt" })
        assert.strictEqual(yield* findingOf(cluster.repairCorrupt()), "undecided")
        yield* EtcdMembership.remove(learner.id)
        const planned = yield* cluster.repairCorrupt({ dryRun: true })
        assert.match(titles(planned)[0]!, new RegExp(`^move the leader from ${odd.name} to node`))
        assert.deepStrictEqual(titles(planned).slice(1), [
          `put another member in the place of ${odd.name}, whose data are not those of the others`,
          disarm
        ])
        // Ended half-way, when it was removed: it is compared with nobody then, and its data are there.
        yield* endedAt(({ detail }) => detail === `delete the data of ${odd.name}`, cluster.repairCorrupt)
        assert.isTrue(existsSync(odd.config.dataDir))
        // Run again, and twice at once, though etcd takes no lock.
        const both = yield* Effect.all([cluster.repairCorrupt(), cluster.repairCorrupt()], { concurrency: "unbounded" })
        assert.sameDeepMembers(both.map(titles), [
          [`put another member in the place of ${odd.name}, which was begun`, disarm],
          []
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
    "is made anew where its quorum is lost, while it runs and by its directories, and refuses all else until then",
    (context) =>
      Effect.gen(function* () {
        yield* bumping(context)
        const dataDir = join(yield* temporaryDirectory, "data")
        const start = EtcdCluster.ephemeral({ log: false, dataDir })
        yield* Effect.gen(function* () {
          const cluster = yield* start
          yield* EtcdKv.put("key", "acknowledged").pipe(by(cluster))
          // Two elect another leader: that there is none for a moment is no cause.
          const leader = yield* cluster.awaitLeader
          yield* leader.signal("SIGKILL")
          yield* leader.exit
          assert.strictEqual(yield* findingOf(cluster.recover()), "has-quorum")
          yield* leader.start
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
            assert.strictEqual(yield* findingOf(Effect.asVoid(refused)), "no-quorum")
          }
          // Their directories are there again, and are no others than those that were lost.
          yield* endedAt(placing, cluster.recover)
          const kept = JSON.parse(readFileSync(join(dataDir, "cluster.json"), "utf8"))
          assert.deepStrictEqual(kept.lost, ["node1.etcd", "node2.etcd"])
          const planned = yield* cluster.recover({ dryRun: true })
          assert.deepStrictEqual(titles(yield* cluster.recover()), titles(planned))
          assert.deepStrictEqual(yield* EtcdKv.getString("key").pipe(by(cluster)), Option.some("acknowledged"))
          assert.lengthOf((yield* EtcdMembership.list().pipe(by(cluster))).members, 3)
          yield* EtcdKv.put("key", "once more").pipe(by(cluster))
        }).pipe(Effect.scoped)
        for (const name of ["node0.etcd", "node2.etcd"]) rmSync(join(dataDir, name), { recursive: true })
        const isRefused = Effect.map(Effect.flip(Effect.scoped(start)), ({ message }) =>
          assert.include(message, "does not have node0.etcd, node2.etcd")
        )
        yield* isRefused
        // As long as nothing is in place: two that begin anew would decide without the third.
        for (const title of ["restore node0", placing]) {
          yield* endedAt(title, (options) => EtcdCluster.recover({ dataDir, ...options }))
          yield* isRefused
        }
        yield* EtcdCluster.recover({ dataDir })
        yield* Effect.gen(function* () {
          const cluster = yield* start
          assert.deepStrictEqual(yield* EtcdKv.getString("key").pipe(by(cluster)), Option.some("once more"))
        }).pipe(Effect.scoped)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is made anew without a warning of the cluster that it was", (context) =>
    Effect.gen(function* () {
      yield* bumping(context)
      const dataDir = join(yield* temporaryDirectory, "data")
      const cluster = yield* EtcdCluster.ephemeral({
        log: false,
        dataDir,
        // Who is still connected to the cluster that it was finds out at once.
        client: { reconnect: Schedule.spaced("10 millis") }
      })
      const [, ...lost] = nodes(cluster)
      for (const node of lost) {
        yield* node.signal("SIGKILL")
        yield* node.exit
        rmSync(node.config.dataDir, { recursive: true })
      }
      const warnings: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => {
        if (logLevel !== "Info" && logLevel !== "Debug") warnings.push(String(message))
      })
      yield* Effect.provide(cluster.recover(), Logger.layer([logger]))
      assert.deepStrictEqual(warnings, [])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
