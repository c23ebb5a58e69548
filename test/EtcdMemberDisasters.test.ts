/**
 * Instances that have lost a majority, or are to have the data of a backup: one is given what `EtcdCluster` makes of it, and
 * the others join it. The guide to operations rests on this.
 */
import { existsSync, mkdirSync, renameSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import type * as EtcdMember from "../src/EtcdMember.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as Utl from "./support/etcdutl.ts"
import { connect, home, nodeOf, tagOf } from "./support/members.ts"

const abc = ["a", "b", "c"]

const by = <A, E, R>(member: EtcdMember.Member, effect: Effect.Effect<A, E, R>) =>
  Effect.provide(effect, connect(member))

const put = (value: string) => Effect.map(EtcdKv.put("key", value), ({ header }) => header.revision)

/** Three that have written, and are stopped; with a backup of what was there first. */
const stopped = Effect.gen(function* () {
  const { directory, loseData, start } = yield* home
  const [a, b, c] = yield* Effect.all([start("a", abc), start("b", abc), start("c", abc)], { concurrency: 3 })
  const backup = join(directory, "backup.db")
  const revision = yield* by(
    a.member,
    Effect.gen(function* () {
      const { id } = yield* EtcdLease.grant("1 hour")
      yield* EtcdKv.put("leased", "", { lease: id })
      yield* put("before")
      yield* EtcdOperations.backup(backup)
      return yield* put("after")
    })
  )
  const { clusterId } = nodeOf(a.member)
  yield* Effect.all([a.stop, b.stop, c.stop], { concurrency: 3 })
  yield* loseData("b")
  yield* loseData("c")
  /** One that has the data, and the others, which are told of the cluster. */
  const goOn = Effect.gen(function* () {
    const first = yield* start("a", abc)
    assert.notStrictEqual(first.member.clusterId, clusterId)
    const told = { client: { clusterId: first.member.clusterId } }
    const others = yield* Effect.all([start("b", abc, told), start("c", abc, told)], { concurrency: 2 })
    for (const { member } of others) assert.strictEqual(tagOf(member), "Voter")
    const found = yield* by(others[0].member, EtcdKv.getString("key"))
    assert.deepStrictEqual(yield* by(others[1].member, EtcdKv.getString("leased")), Option.none())
    assert.isTrue((yield* by(others[1].member, put("on"))) > revision)
    // From then on it is a cluster like any other.
    yield* others[0].stop
    yield* start("b", abc)
    return Option.getOrThrow(found)
  })
  return { directory, backup, goOn }
})

describe("instances", { concurrent: true }, () => {
  it.live("go on with what one of them has, where the others are lost", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const { directory, goOn } = yield* stopped
      const dataDir = join(directory, "recovered")
      mkdirSync(dataDir)
      renameSync(join(directory, "a"), join(dataDir, "node0.etcd"))
      yield* EtcdCluster.recover({ dataDir, size: 1 })
      renameSync(join(dataDir, "node0.etcd"), join(directory, "a"))
      assert.strictEqual(yield* goOn, "after")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("go on with a backup", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const { backup, directory, goOn } = yield* stopped
      const dataDir = join(directory, "restored")
      yield* EtcdCluster.restore(backup, { dataDir, size: 1 })
      renameSync(join(directory, "a"), join(directory, "a.before"))
      renameSync(join(dataDir, "node0.etcd"), join(directory, "a"))
      assert.strictEqual(yield* goOn, "before")
      assert.isTrue(existsSync(join(directory, "a.before", "member")))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
