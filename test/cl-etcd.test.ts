/**
 * What the Common Lisp library cl-etcd does, row by row of the table in docs/from-cl-etcd.md.
 */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Ref from "effect/Ref"
import * as SemVer from "effect/SemVer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as Role from "../src/Role.ts"
import { freePort, temporaryDirectory as temporary } from "./support/machine.ts"

const quiet = { log: false } as const

const fixtures = new URL("./fixtures/config/", import.meta.url)

/** The three files of the README, with ports that are free here. */
const files = Effect.gen(function* () {
  const directory = yield* temporary
  const ports: Record<string, number> = {}
  for (const port of ["2379", "2380", "2479", "2480", "2579", "2580"]) ports[port] = yield* freePort
  return ["infra0", "infra1", "infra2"].map((name) => {
    const file = join(directory, `${name}.toml`)
    copyFileSync(new URL(`${name}.toml`, fixtures), file)
    const text = readFileSync(file, "utf8").replace(/:(2[345][78][09])\b/g, (_, port) => `:${ports[port]}`)
    writeFileSync(file, text)
    return file
  })
})

describe("cl-etcd", () => {
  it.live("with-etcd without a configuration: id, version, ready, role, config", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.make({}, quiet)
      assert.isTrue(etcd.id > 0n)
      assert.isTrue(SemVer.isGreaterThanOrEqualTo(etcd.version, SemVer.parseUnsafe("3.4.0")))
      assert.isTrue(yield* SubscriptionRef.get(etcd.ready))
      assert.include(["leader", "follower", "candidate", "pre-candidate"], (yield* SubscriptionRef.get(etcd.role)).role)
      assert.strictEqual(etcd.config.name, "default")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("with-etcd with a configuration", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const etcd = yield* EtcdProcess.make({ name: "lisp", listenClientUrls: `http://127.0.0.1:${port}` }, quiet)
      assert.strictEqual(etcd.config.name, "lisp")
      assert.deepStrictEqual([...etcd.endpoints], [`http://127.0.0.1:${port}`])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("on-leader and on-follower", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.ephemeral({}, quiet)
      const led = yield* Deferred.make<Role.State>()
      yield* Role.onTransition(etcd, { onLeader: (state) => Deferred.succeed(led, state) })
      assert.strictEqual((yield* Deferred.await(led)).role, "leader")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("get-etcd, (setf get-etcd), delete-etcd, delete-dir-etcd, error-on-missing, watch-etcd", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* EtcdKv.getString("hello"), Option.none())
      yield* EtcdKv.put("hello", "world")
      assert.deepStrictEqual(yield* EtcdKv.getString("hello"), Option.some("world"))
      const changed = yield* Effect.forkChild(EtcdWatch.next("hello", { startRevision: 1n }))
      assert.strictEqual((yield* Fiber.join(changed)).kv.valueString, "world")
      assert.strictEqual((yield* EtcdKv.delete("hello")).deleted, 1n)
      const missing = yield* Effect.flip(EtcdKv.delete("hello", { errorOnMissing: true }))
      assert.strictEqual(missing.reason._tag, "KeyNotFound")
      yield* EtcdKv.put("dir/a", "1")
      yield* EtcdKv.put("dir/b", "2")
      assert.strictEqual((yield* EtcdKv.deletePrefix("dir/", { errorOnMissing: true })).deleted, 2n)
      const empty = yield* Effect.flip(EtcdKv.deletePrefix("dir/", { errorOnMissing: true }))
      assert.strictEqual(empty.reason._tag, "KeyNotFound")
    }).pipe(Effect.provide(EtcdLayer.ephemeral({}, quiet)))
  )

  it.live("three nodes from three files", () =>
    Effect.gen(function* () {
      const [first, ...rest] = yield* Effect.forEach(yield* files, (file) => EtcdConfig.fromToml(file))
      const cluster = yield* EtcdCluster.fromConfigs([first!, ...rest], quiet)
      const followers = yield* Ref.make(0)
      for (const node of SubscriptionRef.getUnsafe(cluster.members)) {
        yield* Role.onTransition(node, { onFollower: () => Ref.update(followers, (count) => count + 1) })
        assert.isAbove(node.config.warnings.filter((warning) => warning.includes("encrypted")).length, 0)
      }
      const leader = yield* cluster.awaitLeader
      yield* Effect.provide(EtcdKv.put("a", leader.name), EtcdLayer.connect({ endpoints: leader.endpoints }))
      for (const node of SubscriptionRef.getUnsafe(cluster.members)) {
        const read = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: node.endpoints }))
        assert.deepStrictEqual(yield* read, Option.some(leader.name))
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a configuration from a TOML file as a layer", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const port = yield* freePort
      const file = join(directory, "etcd.toml")
      writeFileSync(file, `[etcd]\nname = "toml"\nlisten-client-urls = "http://127.0.0.1:${port}"\n`)
      const name = Effect.gen(function* () {
        yield* EtcdKv.put("a", "b")
        return (yield* EtcdProcess.EtcdProcess).name
      })
      assert.strictEqual(yield* Effect.provide(name, EtcdLayer.fromToml(file, quiet)), "toml")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
