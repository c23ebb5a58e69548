import { spawnSync } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { join } from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as EtcdAuth from "../../../src/EtcdAuth.ts"
import * as EtcdCluster from "../../../src/EtcdCluster.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as EtcdLease from "../../../src/EtcdLease.ts"
import type { Progress } from "../../../src/EtcdOperations.ts"
import * as EtcdWatch from "../../../src/EtcdWatch.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import { reasonOf } from "../../support/effects.ts"
import * as Utl from "../../support/etcdutl.ts"
import { membersIn, mortal, names, restore, restoreClean } from "../../support/restoring.ts"
import * as Snapshots from "../../support/snapshots.ts"

/** Runs what was restored. */
const running = <A, E, R>(root: string, effect: Effect.Effect<A, E, R>, options?: Snapshots.ClientOptions) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { endpoints } = yield* EtcdCluster.ephemeral({ dataDir: root, log: false })
      return yield* Effect.provide(effect, Snapshots.connect(endpoints, options))
    })
  )

const user = { username: "root", password: Redacted.make("secret") }

/** A key, one that is locked, users; and what the snapshot does not know. */
const taken = Snapshots.taken(
  Effect.gen(function* () {
    yield* EtcdKv.put("key", "before")
    const { id } = yield* EtcdLease.grant("1 hour")
    yield* EtcdKv.put("lock/ghost", "", { lease: id })
    yield* EtcdAuth.addUser("root", user.password)
    yield* EtcdAuth.grantRole("root", "root")
    yield* EtcdAuth.enable()
  }),
  Effect.gen(function* () {
    const token = yield* EtcdKv.put("lock/later", "")
    for (let index = 0; index < 10; index++) yield* EtcdKv.put("key", `after ${index}`)
    return token.header.revision
  }),
  { credentials: user }
)

const directories = names.map((name) => `${name}.etcd`)

/** Nothing but the data of all members, and what belongs to the cluster. */
const isTidy = (root: string) => {
  assert.deepStrictEqual(
    readdirSync(root).filter((name) => name !== "cluster.json"),
    directories
  )
  for (const name of directories) assert.deepStrictEqual(readdirSync(join(root, name)), ["member"])
}

const restoredKey = Effect.gen(function* () {
  assert.deepStrictEqual(yield* EtcdLease.list(), [])
  assert.deepStrictEqual(yield* EtcdKv.getString("lock/ghost"), Option.none())
  assert.deepStrictEqual(yield* EtcdKv.getString("key"), Option.some("before"))
  return (yield* EtcdKv.put("lock/next", "")).header.revision
})

describe("a cluster", () => {
  it.live("is restored without leases, and above every revision that it has given out", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const { directory, later, snapshot } = yield* taken
      const root = join(directory, "restored=once, or twice")
      const planned = yield* restore(snapshot, root, {}, { dryRun: true })
      assert.isFalse(existsSync(root))
      const { steps } = yield* restore(snapshot, root)
      assert.deepStrictEqual(
        steps.map(({ title }) => title),
        planned.steps.map(({ title }) => title)
      )
      assert.deepStrictEqual(
        steps.map(({ title }) => title.split(" ").slice(0, 2).join(" ")),
        ["make a", "restore node0", "restore node1", "restore node2", "put the"]
      )
      assert.match(steps[0]!.detail!, /^the cluster goes on at revision \d+$/)
      isTidy(root)
      const revision = yield* running(
        root,
        Effect.gen(function* () {
          const revision = yield* restoredKey
          assert.isTrue(revision > later)
          // A watch that had come so far is told, and not left in silence.
          for (const range of ["key", KeyRange.prefix("k")]) {
            const watch = EtcdWatch.changes(range, { startRevision: later }).pipe(Stream.runDrain)
            assert.strictEqual((yield* reasonOf(watch))._tag, "Compacted")
          }
          assert.deepStrictEqual((yield* EtcdAuth.users()).length, 1)
          return revision
        }),
        { credentials: user }
      )

      // Once more, from the same snapshot: what is there is refused, or moved away, and the revision does not go back.
      const twice = restore(snapshot, root)
      assert.strictEqual(yield* Utl.findingOf(twice), "data-in-the-way")
      const again = yield* restore(snapshot, root, { setAside: true })
      assert.match(again.steps.at(-1)!.detail!, /^what was there before is in .*node0.etcd.\.before-/)
      for (const name of directories) {
        const [before = "", ...rest] = readdirSync(join(root, name))
        assert.match(before, /^\.before-/)
        assert.deepStrictEqual(rest, ["member"])
        assert.deepStrictEqual(readdirSync(join(root, name, before, "member")).sort(), ["snap", "wal"])
      }
      const next = yield* running(root, restoredKey, { credentials: user })
      assert.isTrue(next > revision)
      const anonymous = yield* running(root, reasonOf(EtcdKv.getString("key")))
      assert.strictEqual(anonymous._tag, "UserNameEmpty")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is restored by who comes after those who were killed before anything was in place", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const { directory, snapshot } = yield* taken
      const root = join(directory, "restored")
      const program = join(import.meta.dirname, "..", "..", "support", "restoring.ts")
      // When leases were just revoked, and when all members were restored.
      for (const after of [1, 6]) {
        const settings = JSON.stringify({ snapshot, root, after })
        const { signal } = spawnSync(process.execPath, [program, settings], { stdio: "ignore" })
        assert.strictEqual(signal, "SIGKILL", `${after}`)
        for (const name of directories) assert.isFalse(existsSync(join(root, name, "member")))
      }
      yield* restore(snapshot, root)
      isTidy(root)
      yield* running(root, restoredKey, { credentials: user })
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is put in place to the end by who comes after those who were killed while they did", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const fs = yield* FileSystem.FileSystem
      const { directory, snapshot } = yield* taken
      const stepCount = 4
      const kill = Effect.fnUntraced(function* (root: string, setAside: boolean, after: number) {
        const { dieAfter, fs: dying } = mortal(fs)
        const members = membersIn(root).slice(0, 2)
        const onProgress = ({ index }: Progress) => (index === stepCount - 1 ? dieAfter(after) : Effect.void)
        const exit = yield* Effect.exit(
          Effect.provideService(
            restoreClean(snapshot, root, { members, setAside }, { onProgress }),
            FileSystem.FileSystem,
            dying
          )
        )
        const { steps } = yield* restoreClean(snapshot, root, { members, setAside })
        for (const { dataDir } of members) {
          assert.deepStrictEqual(
            readdirSync(dataDir).filter((name) => !name.startsWith(".before-")),
            ["member"]
          )
        }
        assert.isFalse(existsSync(join(root, ".effect-etcd-restore")))
        return { isDone: Exit.isSuccess(exit), steps: steps.length }
      })
      // Where what is there is refused, nothing is left to do for who comes later but renames.
      for (const after of [2, 3, 5]) {
        const { steps } = yield* kill(join(directory, `restored-${after}`), false, after)
        assert.strictEqual(steps, 1)
      }
      // And where it is moved away, none is moved twice.
      let isDone = false
      for (let after = 0; !isDone; after++) isDone = (yield* kill(join(directory, "restored"), true, after)).isDone
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is not taken apart by another one that is refused, or fails, before it has begun", (context) =>
    Effect.gen(function* () {
      yield* Utl.bumping(context)
      const fs = yield* FileSystem.FileSystem
      const { directory, snapshot } = yield* taken
      const root = join(directory, "restored")
      const of = { members: membersIn(root).slice(0, 2), setAside: true }
      const { dieAfter, fs: dying } = mortal(fs)
      const onProgress = ({ index }: Progress) => (index === 3 ? dieAfter(3) : Effect.void)
      const killed = restoreClean(snapshot, root, of, { onProgress })
      yield* Effect.exit(Effect.provideService(killed, FileSystem.FileSystem, dying))
      const isPlaced = () => of.members.map(({ dataDir }) => existsSync(join(dataDir, "member")))
      assert.deepStrictEqual(isPlaced(), [true, false])

      const other = (own: Parameters<typeof restoreClean>[2]) =>
        restoreClean(snapshot, root, { ...of, token: "other", ...own })
      assert.strictEqual(
        (yield* Effect.flip(other({ begin: Effect.fail(Utl.refuse("changed", ["it is made"], "Wait.")) })))._tag,
        "OperationFailed"
      )
      const { dieAfter: dieAtOnce, fs: full } = mortal(fs)
      yield* dieAtOnce(0)
      yield* Effect.exit(Effect.provideService(other({}), FileSystem.FileSystem, full))
      const { steps } = yield* restoreClean(snapshot, root, of)
      assert.strictEqual(steps.length, 1)
      assert.deepStrictEqual(isPlaced(), [true, true])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
