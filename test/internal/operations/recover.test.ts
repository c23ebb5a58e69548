import { spawnSync } from "node:child_process"
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdCluster from "../../../src/EtcdCluster.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as EtcdLease from "../../../src/EtcdLease.ts"
import * as EtcdMembership from "../../../src/EtcdMembership.ts"
import * as EtcdProcess from "../../../src/EtcdProcess.ts"
import * as Wal from "../../../src/internal/files/wal.ts"
import type * as RestoreMember from "../../../src/internal/operations/restoreMember.ts"
import * as Survivors from "../../../src/internal/operations/survivors.ts"
import * as Utl from "../../support/etcdutl.ts"
import { freeze, temporaryDirectory, until } from "../../support/machine.ts"
import { endedAt } from "../../support/operations.ts"
import { membersIn, recover } from "../../support/restoring.ts"
import * as Snapshots from "../../support/snapshots.ts"

/** Writes one after the other, and kills all members in the midst of that. Answers the last one that was acknowledged. */
const lost = Effect.fnUntraced(function* (root: string) {
  return yield* Effect.scoped(
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ dataDir: root, log: false })
      const nodes = SubscriptionRef.getUnsafe(cluster.members)
      let acknowledged = 0
      const writing = yield* Effect.gen(function* () {
        const { id } = yield* EtcdLease.grant("1 hour")
        yield* EtcdKv.put("lock/ghost", "", { lease: id })
        for (let count = 1; ; count++) {
          yield* EtcdKv.put("count", String(count))
          acknowledged = count
        }
      }).pipe(Effect.provide(Snapshots.connect(cluster.endpoints)), Effect.forkChild)
      yield* until(() => acknowledged >= 50)
      yield* Effect.forEach(nodes, (node) => node.signal("SIGKILL"), { concurrency: "unbounded", discard: true })
      yield* Effect.forEach(nodes, (node) => node.exit, { concurrency: "unbounded", discard: true })
      yield* Fiber.interrupt(writing)
      return acknowledged
    })
  )
})

describe("a cluster that has lost its quorum", () => {
  it.live("is recovered with all that was acknowledged, from who knows most, without leases", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const root = yield* temporaryDirectory
      const acknowledged = yield* lost(root)
      const { ranked } = yield* Survivors.survivors(membersIn(root))
      assert.strictEqual(ranked.length, 3)
      // Of the others no more than a directory is left, and what is none of theirs.
      for (const { dataDir } of ranked.slice(1)) rmSync(join(dataDir, "member"), { recursive: true })
      const planned = yield* recover(root, {}, { dryRun: true })
      assert.match(
        planned.steps[0]!.title,
        new RegExp(`^take what there is: ${ranked[0]!.name} knows most: up to entry \\d+ of term`)
      )
      yield* recover(root)
      const revision = yield* Effect.scoped(
        Effect.gen(function* () {
          const { endpoints } = yield* EtcdCluster.ephemeral({ dataDir: root, log: false })
          return yield* Effect.gen(function* () {
            const count = Number(Option.getOrThrow(yield* EtcdKv.getString("count")))
            // One more may have been on its way.
            assert.include([acknowledged, acknowledged + 1], count)
            assert.deepStrictEqual(yield* EtcdLease.list(), [])
            assert.deepStrictEqual(yield* EtcdKv.getString("lock/ghost"), Option.none())
            return (yield* EtcdKv.put("count", "on")).header.revision
          }).pipe(Effect.provide(Snapshots.connect(endpoints)))
        })
      )
      assert.isTrue(revision > 1_000_000_000n)
      // What it was made of is still there.
      const kept = readdirSync(ranked[0]!.dataDir).filter((name) => name.startsWith(".before-"))
      assert.deepStrictEqual(readdirSync(join(ranked[0]!.dataDir, kept[0]!, "member")).sort(), ["snap", "wal"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("keeps what was acknowledged, and not known to be committed where it survived", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const root = yield* temporaryDirectory
      const members = membersIn(root).slice(0, 1)
      const [{ dataDir, name }] = members as [(typeof members)[0]]
      yield* Effect.scoped(
        Effect.gen(function* () {
          const node = yield* EtcdProcess.ephemeral({ name, dataDir }, { log: false })
          yield* Effect.gen(function* () {
            for (let count = 1; count <= 20; count++) yield* EtcdKv.put("count", String(count))
          }).pipe(Effect.provide(Snapshots.connect(node.endpoints)))
          yield* node.signal("SIGKILL")
          yield* node.exit
        })
      )
      // As on a member that was killed when it had the last entries, and nothing more.
      const walDir = join(dataDir, "member", "wal")
      const file = join(walDir, readdirSync(walDir).find((one) => one.endsWith(".wal"))!)
      const bytes = readFileSync(file)
      const entry = Wal.records(bytes).findLast(({ body }) => bytes[body.from + 1] === 2)!
      bytes.fill(0, entry.to)
      writeFileSync(file, bytes)
      const { ranked } = yield* Survivors.survivors(members)
      const { last, state } = ranked[0]!.log
      assert.isTrue(state.commit < last.index)

      const { steps } = yield* recover(root, { members })
      assert.match(steps[0]!.title, /, with \d+ that it did not know to be committed$/)
      yield* Snapshots.withNode(
        { name, dataDir },
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* EtcdKv.getString("count"), Option.some("20"))
        })
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is recovered from a learner, and from who was just being removed", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const root = yield* temporaryDirectory
      const kill = ({ members }: EtcdCluster.Cluster) =>
        Effect.forEach(
          SubscriptionRef.getUnsafe(members),
          (node) => Effect.andThen(node.signal("SIGKILL"), node.exit),
          {
            discard: true
          }
        )
      const by = <A, E, R>({ endpoints }: Pick<EtcdClient.Options, "endpoints">, effect: Effect.Effect<A, E, R>) =>
        Effect.provide(effect, Layer.provideMerge(EtcdMembership.layer, Snapshots.connect(endpoints)))
      const has = (value: string) => (cluster: EtcdCluster.Cluster) =>
        Effect.map(by(cluster, EtcdKv.getString("key")), (found) => assert.deepStrictEqual(found, Option.some(value)))
      const first = join(root, "first")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const cluster = yield* EtcdCluster.ephemeral({ dataDir: first, size: 1, log: false })
          const learns = Effect.gen(function* () {
            yield* by(cluster, EtcdKv.put("key", "learnt"))
            const [, learner] = SubscriptionRef.getUnsafe(cluster.members)
            const own = { serializable: true, endpoint: learner!.endpoints[0] }
            yield* Effect.repeat(by(learner!, EtcdKv.getString("key", own)), { until: Option.isSome })
          })
          yield* endedAt(({ step }) => step.startsWith("promote"), cluster.grow, learns)
          yield* kill(cluster)
        })
      )
      rmSync(join(first, "node0.etcd"), { recursive: true })
      yield* EtcdCluster.recover({ dataDir: first })
      yield* Effect.scoped(Effect.flatMap(EtcdCluster.ephemeral({ dataDir: first, log: false }), has("learnt")))

      /** Of two members that let the one be removed that leads. */
      const ofTwo = <A, E, R>(
        dataDir: string,
        use: (cluster: EtcdCluster.Cluster, leader: EtcdProcess.Node) => Effect.Effect<A, E, R>
      ) =>
        Effect.scoped(
          Effect.gen(function* () {
            const config = { strictReconfigCheck: false }
            const cluster = yield* EtcdCluster.ephemeral({ dataDir, size: 2, log: false, config })
            yield* by(cluster, EtcdKv.put("key", "before"))
            return yield* use(cluster, yield* cluster.awaitLeader)
          })
        )
      const second = join(root, "second")
      const removed = yield* ofTwo(second, (cluster, leader) =>
        Effect.gen(function* () {
          const follower = SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!
          yield* freeze(follower)
          yield* Effect.exit(by(leader, EtcdMembership.remove(leader.id, { deadline: "300 millis" })))
          yield* kill(cluster)
          return leader
        })
      )
      const { ranked } = yield* Survivors.survivors(membersIn(second).slice(0, 2))
      assert.deepStrictEqual([ranked[0]!.name, ranked[0]!.log.sinceRemoval.length], [removed.name, 1])
      yield* EtcdCluster.recover({ dataDir: second })
      yield* Effect.scoped(Effect.flatMap(EtcdCluster.ephemeral({ dataDir: second, log: false }), has("before")))

      // One that knows that it was, while nobody else is left.
      const third = join(root, "third")
      const gone = yield* ofTwo(third, (_, leader) =>
        Effect.gen(function* () {
          yield* Effect.exit(by(leader, EtcdMembership.remove(leader.id, { deadline: "1 second" })))
          yield* leader.exit
          return leader.name
        })
      )
      for (const { dataDir, name } of membersIn(third)) {
        if (name !== gone) rmSync(dataDir, { recursive: true, force: true })
      }
      yield* EtcdCluster.recover({ dataDir: third })
      yield* Effect.scoped(Effect.flatMap(EtcdCluster.ephemeral({ dataDir: third, log: false }), has("before")))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is not recovered where one began anew without what it had, and decided otherwise", (context) =>
    Effect.gen(function* () {
      yield* Utl.any(context)
      const root = yield* temporaryDirectory
      const [first, second] = membersIn(root)
      const running = <A, E, R>(dataDir: string, effect: Effect.Effect<A, E, R>) =>
        Snapshots.withNode({ name: "node0", dataDir }, effect)
      yield* running(
        first!.dataDir,
        Effect.forEach(Array.from({ length: 20 }), () => EtcdKv.put("key", "acknowledged"))
      )
      // Each start brings another term.
      for (let term = 0; term < 3; term++) yield* running(second!.dataDir, EtcdKv.put("key", "otherwise"))
      assert.strictEqual(yield* Utl.findingOf(recover(root, { revisionsMayGoBack: true })), "undecided")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is not recovered while a member runs, from data of two clusters, or from nothing", (context) =>
    Effect.gen(function* () {
      yield* Utl.any(context)
      const root = yield* temporaryDirectory
      const members = membersIn(root)
      const [first, second] = members as ReadonlyArray<RestoreMember.Member> as [
        RestoreMember.Member,
        RestoreMember.Member
      ]
      const recovered = recover(root, { revisionsMayGoBack: true })
      assert.strictEqual(yield* Utl.findingOf(recovered), "no-survivor")

      const canLock = spawnSync("flock", ["--version"]).status === 0
      const running = ({ dataDir, name }: RestoreMember.Member, initialClusterToken: string) =>
        EtcdProcess.ephemeral({ dataDir, name, initialClusterToken }, { log: false })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* running(first, "one")
          if (canLock) assert.strictEqual(yield* Utl.findingOf(recovered), "member-runs")
        })
      )
      yield* Effect.scoped(running(second, "other"))
      const refused = yield* Effect.flip(recovered)
      assert.strictEqual(yield* Utl.findingOf(Effect.fail(refused)), "other-cluster")
      assert.include(refused.message, "node2 has no data")

      // What is damaged is left out, and told of.
      const walDir = join(second.dataDir, "member", "wal")
      const file = join(walDir, readdirSync(walDir).find((one) => one.endsWith(".wal"))!)
      const bytes = readFileSync(file)
      const { from } = Wal.vouchedFor(bytes).find((data) => data.to > data.from)!
      bytes.writeUInt8(bytes[from]! ^ 1, from)
      writeFileSync(file, bytes)
      const { steps } = yield* recover(root, { revisionsMayGoBack: true }, { dryRun: true })
      assert.match(steps[0]!.title, /^take what there is: node0 knows most/)
      const { lost } = yield* Survivors.survivors(members)
      assert.deepStrictEqual(
        lost.map(({ name, why }) => `${name} ${why.replace(/: .*/, "")}`),
        ["node1 has a log that is damaged", "node2 has no data"]
      )
      rmSync(join(first.dataDir, "member"), { recursive: true })
      assert.strictEqual(yield* Utl.findingOf(recovered), "no-survivor")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
