import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, rmSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdLock from "../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import { MemberId } from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { reasonOf } from "./support/effects.ts"
import * as Utl from "./support/etcdutl.ts"
import { freePort, temporaryDirectory } from "./support/machine.ts"
import { endedAt } from "./support/operations.ts"
import { membersIn, mortal, restore } from "./support/restoring.ts"
import * as Snapshots from "./support/snapshots.ts"
import * as Versions from "./support/versions.ts"

const lock = EtcdLock.make("lock")

const nodesOf = ({ members }: EtcdCluster.Cluster) => SubscriptionRef.getUnsafe(members)

/** By a client of its own, since the cluster is another one after a restore. */
const by = <A, E, R>(cluster: EtcdCluster.Cluster, effect: Effect.Effect<A, E, R>) =>
  Effect.provide(effect, Snapshots.connect(cluster.endpoints))

const put = (value: string) => Effect.map(EtcdKv.put("key", value), ({ header }) => header.revision)

describe("the data of a running cluster", { concurrent: true }, () => {
  it.live("are given back from a snapshot, in another cluster, and nothing of before is lost", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const directory = yield* temporaryDirectory
      const root = join(directory, "cluster")
      const snapshot = join(directory, "snapshot.db")
      const cluster = yield* EtcdCluster.ephemeral({ dataDir: root, log: false })
      const before = nodesOf(cluster).map(({ clusterId, id }) => [clusterId, id])
      const later = yield* by(
        cluster,
        Effect.gen(function* () {
          yield* put("before")
          const { id } = yield* EtcdLease.grant("1 hour")
          yield* EtcdKv.put("lock/ghost", "", { lease: id })
          const token = yield* Effect.scoped(
            Effect.gen(function* () {
              const { token } = yield* EtcdLock.acquire(lock)
              yield* EtcdMaintenance.snapshotToFile(snapshot)
              return token
            }).pipe(Effect.provide(EtcdSession.layer))
          )
          return { token, revision: yield* put("after") }
        })
      )
      const planned = yield* cluster.restore(snapshot, { dryRun: true })
      assert.strictEqual(yield* by(cluster, Effect.map(EtcdKv.getString("key"), Option.getOrThrow)), "after")
      const titles = planned.steps.map(({ title }) => title)
      assert.deepStrictEqual(titles.slice(1), [
        "restore node0",
        "restore node1",
        "restore node2",
        "stop all members",
        "put the data of all members in place",
        "start all members"
      ])

      const done = yield* Effect.scoped(
        Effect.gen(function* () {
          const of = yield* EtcdKv.EtcdKv
          yield* of.put("other", "")
          const [report, other] = yield* Effect.all(
            [cluster.restore(snapshot, { token: "mine" }), Utl.findingOf(cluster.restore(snapshot))],
            { concurrency: 2 }
          )
          assert.strictEqual(other, "changed")
          // Who knew the old cluster does not take this one for it.
          const refused = yield* reasonOf(of.getString("key", { deadline: "2 seconds" }))
          assert.strictEqual(refused._tag, "ClusterIdMismatch")
          return report
        }).pipe(Effect.provide(EtcdLayer.connect({ endpoints: cluster.endpoints })))
      )
      assert.deepStrictEqual(
        done.steps.map(({ title }) => title),
        titles
      )
      for (const { clusterId, id, name } of nodesOf(cluster)) {
        assert.isFalse(before.some(([oldCluster, old]) => old === id || oldCluster === clusterId))
        const kept = readdirSync(join(root, `${name}.etcd`))
        assert.strictEqual(kept.length, 2)
        assert.match(kept.sort()[0]!, /^\.before-/)
      }
      const revision = yield* by(
        cluster,
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* EtcdKv.getString("key"), Option.some("before"))
          assert.deepStrictEqual(yield* EtcdLease.list(), [])
          assert.deepStrictEqual(yield* EtcdKv.getString("lock/ghost"), Option.none())
          // Whoever held it when the snapshot was taken is gone, and comes before whoever has it now.
          const token = EtcdLock.withLock(
            EtcdLock.Held.useSync(({ token }) => token),
            lock
          )
          assert.isTrue((yield* Effect.provide(token, EtcdSession.layer)) > later.token)
          return yield* put("on")
        })
      )
      assert.isTrue(revision > later.revision)

      assert.strictEqual(yield* Utl.findingOf(cluster.restore(snapshot, { token: "mine" })), "token")
      assert.strictEqual(nodesOf(cluster).length, 3)

      // All directories were lost.
      rmSync(root, { recursive: true })
      yield* cluster.restore(snapshot)
      assert.deepStrictEqual(yield* by(cluster, EtcdKv.getString("key")), Option.some("before"))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("are put in place to the end before a cluster is started whose restore was killed", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const { directory, snapshot } = yield* Snapshots.taken(put("before"), Effect.void)
      const root = join(directory, "cluster")
      const { dieAfter, fs } = mortal(yield* FileSystem.FileSystem)
      // When one member has its data, and the others have not.
      const onProgress = ({ index }: EtcdOperations.Progress) => (index === 4 ? dieAfter(3) : Effect.void)
      const killed = restore(snapshot, root, {}, { onProgress })
      yield* Effect.exit(Effect.provideService(killed, FileSystem.FileSystem, fs))
      const placed = membersIn(root).filter(({ dataDir }) => existsSync(join(dataDir, "member")))
      assert.deepStrictEqual(
        placed.map(({ name }) => name),
        ["node0"]
      )
      const cluster = yield* EtcdCluster.ephemeral({ dataDir: root, log: false })
      assert.strictEqual(new Set(nodesOf(cluster).map(({ clusterId }) => clusterId)).size, 1)
      assert.deepStrictEqual(yield* by(cluster, EtcdKv.getString("key")), Option.some("before"))
      assert.deepStrictEqual(readdirSync(root).sort(), ["cluster.json", "node0.etcd", "node1.etcd", "node2.etcd"])

      // Of one who was killed before, nothing is left by the next start, and the data are those that there were.
      const early = join(directory, "early")
      const { dieAfter: dieEarly, fs: dying } = mortal(yield* FileSystem.FileSystem)
      const one = { members: membersIn(early).slice(0, 1) }
      const ended = restore(snapshot, early, one, {
        onProgress: ({ index }) => (index === 2 ? dieEarly(0) : Effect.void)
      })
      yield* Effect.exit(Effect.provideService(ended, FileSystem.FileSystem, dying))
      assert.deepStrictEqual(readdirSync(early).sort(), [".effect-etcd-restore", "node0.etcd"])
      const started = yield* EtcdCluster.ephemeral({ dataDir: early, size: 1, log: false })
      assert.deepStrictEqual(yield* by(started, EtcdKv.getString("key")), Option.none())
      assert.deepStrictEqual(readdirSync(early).sort(), ["cluster.json", "node0.etcd"])
      assert.deepStrictEqual(readdirSync(join(early, "node0.etcd")), ["member"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "are made by one at a time, and what one has begun to put in place is put there before another begins",
    (context) =>
      Effect.gen(function* () {
        yield* Utl.bumping(context)
        const canLock = spawnSync("flock", ["--version"]).status === 0
        const { directory, snapshot } = yield* Snapshots.taken(put("before"), Effect.void)
        const dataDir = join(directory, "cluster")
        const make = (options: Partial<EtcdCluster.RestoreDataOptions> = {}) =>
          EtcdCluster.restore(snapshot, { dataDir, size: 2, ...options })
        const planned = yield* make({ dryRun: true })
        assert.isFalse(existsSync(dataDir))
        const start = EtcdCluster.ephemeral({ dataDir, log: false })
        const others = Effect.gen(function* () {
          if (!canLock) return
          assert.include((yield* Effect.flip(make())).message, "somebody else makes data of the members")
          assert.include((yield* Effect.flip(Effect.scoped(start))).message, "are just being made anew")
        })
        yield* endedAt("restore node1", make, others)
        assert.include((yield* Effect.flip(make({ bumpRevision: 2n ** 52n }))).message, "below 2 ** 52")
        // A revision that is above the time stays so.
        const done = yield* make({ bumpRevision: 10n ** 15n })
        assert.deepStrictEqual(
          done.steps.map(({ title }) => title),
          planned.steps.map(({ title }) => title)
        )
        assert.strictEqual(yield* Utl.findingOf(make()), "data-in-the-way")
        yield* make({ setAside: true, token: "mine" })
        assert.strictEqual(yield* Utl.findingOf(make({ setAside: true, token: "mine" })), "token")

        // One is killed when it has put the data of the first member in place, and another comes from another snapshot.
        const other = join(directory, "other.db")
        yield* Snapshots.withNode({}, Effect.andThen(put("other"), EtcdMaintenance.snapshotToFile(other)))
        const { dieAfter, fs } = mortal(yield* FileSystem.FileSystem)
        const killed = make({ setAside: true, onProgress: ({ index }) => (index === 4 ? dieAfter(5) : Effect.void) })
        yield* Effect.exit(Effect.provideService(killed, FileSystem.FileSystem, fs))
        const staged = ["node0", "node1"].filter((name) =>
          existsSync(join(dataDir, `${name}.etcd`, ".restored", "member"))
        )
        assert.deepStrictEqual(staged, ["node1"])
        // It is brought to its end alone where nothing else is asked for.
        const titlesOf = (planning: ReturnType<typeof make>) =>
          Effect.map(planning, ({ steps }) => steps.map(({ title }) => title))
        const again = { dataDir, setAside: true, dryRun: true }
        assert.strictEqual((yield* titlesOf(make(again))).length, 2)
        assert.strictEqual((yield* titlesOf(make({ ...again, bumpRevision: 1n }))).length, 5)
        const recovering = yield* titlesOf(EtcdCluster.recover({ dataDir, dryRun: true }))
        assert.strictEqual(recovering[1], "take what there is: of who knows most")
        yield* endedAt("restore node0", (options) =>
          EtcdCluster.restore(other, { dataDir, setAside: true, ...options })
        )
        const cluster = yield* start
        assert.deepStrictEqual(yield* by(cluster, EtcdKv.getString("key")), Option.some("before"))
        assert.isTrue((yield* by(cluster, put("on"))) > 10n ** 15n)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "are not touched where they are in use, a log is apart, the snapshot is none, corrupt or newer, or there is no etcdutl",
    (context) =>
      Effect.gen(function* () {
        const utl = yield* Utl.any(context)
        const directory = yield* temporaryDirectory
        const dataDir = join(directory, "cluster")
        const cluster = yield* EtcdCluster.ephemeral({ dataDir, size: 1, log: false })
        if (spawnSync("flock", ["--version"]).status === 0) {
          const below = EtcdCluster.restore(join(directory, "none"), {
            dataDir,
            setAside: true,
            revisionsMayGoBack: true
          })
          assert.strictEqual(yield* Utl.findingOf(below), "member-runs")
          const inUse = cluster.restore(join(dataDir, "node0.etcd", "member", "snap", "db"), {
            skipHashCheck: true,
            revisionsMayGoBack: true
          })
          assert.strictEqual(yield* Utl.findingOf(inUse), "member-runs")
        }
        const may = { revisionsMayGoBack: true }
        // One that was just joining, and has no data yet, is left behind.
        const joining = EtcdMembership.add(["unix://joining.peer:0"], { isLearner: true })
        yield* by(cluster, Effect.provide(joining, EtcdMembership.layer))
        assert.strictEqual(yield* Utl.findingOf(cluster.restore(join(directory, "none"), may)), "no-snapshot")
        const none = cluster.restore(join(directory, "none"), { ...may, etcdutl: join(directory, "etcdutl") })
        assert.strictEqual(yield* Utl.findingOf(none), "binary")
        assert.match((yield* Effect.flip(none)).message, /no snapshot can be restored/)
        const apartNone = { ...may, dataDir: join(directory, "apart"), etcdutl: join(directory, "etcdutl") }
        assert.strictEqual(yield* Utl.findingOf(EtcdCluster.recover(apartNone)), "binary")
        const newer = Versions.newest(7)
        if (newer !== undefined && utl.version.minor < 7) {
          const snapshot = join(directory, "newer.db")
          const { endpoints } = yield* EtcdProcess.ephemeral({}, { binary: newer, log: false })
          yield* Effect.gen(function* () {
            // It is written a moment after the first start.
            yield* Effect.repeat(EtcdMaintenance.status(), {
              until: ({ storageVersion }) => Option.contains(storageVersion, "3.7.0")
            })
            yield* EtcdMaintenance.snapshotToFile(snapshot)
          }).pipe(Effect.provide(Snapshots.connect(endpoints)))
          assert.strictEqual(yield* Utl.findingOf(cluster.restore(snapshot, may)), "unsupported-version")
        }
        const apart = yield* EtcdCluster.fromConfigs([
          { name: "apart", dataDir: join(directory, "data"), walDir: join(directory, "wal") }
        ])
        assert.strictEqual(yield* Utl.findingOf(apart.restore(join(directory, "none"), may)), "config")
        // Who runs elsewhere goes on without the one that is dead here.
        const [here, elsewhere] = yield* Effect.forEach(["here", "elsewhere"], (name) =>
          Effect.map(freePort, (port) => {
            const initialAdvertisePeerUrls = [`http://127.0.0.1:${port}`]
            const own = { name, dataDir: join(directory, name), listenPeerUrls: initialAdvertisePeerUrls }
            return { ...own, initialAdvertisePeerUrls }
          })
        )
        const initialCluster = Object.fromEntries(
          [here!, elsewhere!].map(({ initialAdvertisePeerUrls, name }) => [name, initialAdvertisePeerUrls])
        )
        const [split] = yield* Effect.all(
          [here!, elsewhere!].map((own) => EtcdCluster.fromConfigs([{ ...own, initialCluster }], { log: false })),
          { concurrency: 2 }
        )
        const [dead] = nodesOf(split!)
        yield* dead!.signal("SIGKILL")
        yield* dead!.exit
        for (const operation of [split!.recover(may), split!.restore(join(directory, "none"), may)]) {
          const { message } = yield* Effect.flip(operation)
          assert.match(message, /\(member-runs\): elsewhere answers at http:.*, and its data are not here/)
        }
        // The alarm that is armed for a member is about its data, and not about those of others.
        const [{ id }] = nodesOf(cluster)
        for (const [armed, isRefused] of [
          [id, true],
          [MemberId(1n), false]
        ] as const) {
          const path = join(directory, "backup.db")
          yield* Effect.gen(function* () {
            yield* EtcdMaintenance.armAlarm({ memberId: armed, type: "Corrupt" })
            yield* EtcdOperations.backup(path, { member: id })
            yield* EtcdMaintenance.disarmAlarms()
          }).pipe((effect) => by(cluster, effect))
          const restored = EtcdCluster.restore(path, { ...may, dataDir: join(directory, "restored"), size: 1 })
          const message = yield* Effect.match(restored, { onFailure: ({ message }) => message, onSuccess: () => "" })
          assert.strictEqual(message.includes("Corrupt is armed"), isRefused, message)
        }
        // Where nobody is told who does not say who is asking: etcd's log does.
        const root = { username: "root", password: Redacted.make("secret") }
        yield* by(
          cluster,
          Effect.all([EtcdAuth.addUser("root", root.password), EtcdAuth.grantRole("root", "root"), EtcdAuth.enable()])
        )
        assert.strictEqual(yield* Utl.findingOf(cluster.recover(may)), "has-quorum")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
