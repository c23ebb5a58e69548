import { spawn } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import type * as EtcdProcessError from "../src/EtcdProcessError.ts"
import * as Wal from "../src/internal/files/wal.ts"
import { freeze, temporaryDirectory, variable } from "./support/machine.ts"
import { soon } from "./support/time.ts"

describe("EtcdCluster", () => {
  it.live("three members elect a leader, replicate, survive its death, and take it back", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.scoped(
        Effect.gen(function* () {
          const cluster = yield* EtcdCluster.ephemeral({ log: false })
          const told: Array<EtcdProcess.Node | undefined> = []
          yield* SubscriptionRef.changes(cluster.leader).pipe(
            Stream.runForEach((leader) => Effect.sync(() => void told.push(Option.getOrUndefined(leader)))),
            Effect.forkScoped({ startImmediately: true })
          )
          assert.strictEqual(new Set(SubscriptionRef.getUnsafe(cluster.members).map((node) => node.id)).size, 3)
          assert.strictEqual(new Set(SubscriptionRef.getUnsafe(cluster.members).map((node) => node.clusterId)).size, 1)
          const first = yield* cluster.awaitLeader
          yield* Effect.provide(EtcdKv.put("a", "1"), EtcdLayer.connect({ endpoints: first.endpoints }))
          yield* first.signal("SIGKILL")
          yield* first.exit
          const second = yield* cluster.awaitLeader
          assert.notStrictEqual(second.id, first.id)
          const others = SubscriptionRef.getUnsafe(cluster.members).filter((node) => node !== first)
          for (const node of others) {
            const read = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: node.endpoints }))
            assert.deepStrictEqual(yield* read, Option.some("1"))
          }
          yield* first.start
          assert.isTrue(yield* SubscriptionRef.get(first.ready))
          const back = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: first.endpoints }))
          assert.deepStrictEqual(yield* back, Option.some("1"))
          // Who leads is told once.
          assert.isEmpty(told.filter((leader, index) => index > 0 && leader === told[index - 1]))
          return dirname(new URL(first.endpoints[0]).pathname)
        })
      )
      assert.isFalse(existsSync(directory))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("keeps its data in a directory, for whichever process starts it again, also after a host was killed", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* temporaryDirectory, "a/b")
      const script = `
        import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
        import * as NodeServices from "@effect/platform-node/NodeServices"
        import * as Effect from "effect/Effect"
        import * as EtcdCluster from "effect-etcd/EtcdCluster"
        import * as EtcdKv from "effect-etcd/EtcdKv"
        import * as EtcdLayer from "effect-etcd/EtcdLayer"
        const program = Effect.gen(function*() {
          const cluster = yield* EtcdCluster.ephemeral({ dataDir: ${JSON.stringify(dataDir)}, log: false })
          yield* Effect.provide(EtcdKv.put("a", "1"), EtcdLayer.connect({ endpoints: cluster.endpoints }))
          console.log("put")
          yield* Effect.never
        })
        NodeRuntime.runMain(program.pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
      `
      const host = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, ["--conditions=effect-etcd-source", "--input-type=module", "--eval", script], {
            stdio: ["ignore", "pipe", "inherit"]
          })
        ),
        (host) => Effect.sync(() => host.kill("SIGKILL"))
      )
      yield* Effect.callback<void>((resume) => {
        host.stdout.on("data", (data) => /^put$/m.test(String(data)) && resume(Effect.void))
      })
      host.kill("SIGKILL")
      const again = (options: EtcdCluster.Options = {}) => EtcdCluster.ephemeral({ ...options, dataDir, log: false })
      yield* Effect.gen(function* () {
        const cluster = yield* again()
        const { endpoints } = cluster
        const members = SubscriptionRef.getUnsafe(cluster.members)
        assert.deepStrictEqual(
          yield* Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints })),
          Option.some("1")
        )
        assert.deepStrictEqual(
          members.map((node) => node.config.dataDir),
          [0, 1, 2].map((index) => join(dataDir, `node${index}.etcd`))
        )
      }).pipe(Effect.scoped)
      const refusal = (options: EtcdCluster.Options) =>
        Effect.map(Effect.flip(Effect.scoped(again(options))), ({ reason }) => `${reason._tag}: ${reason.message}`)
      assert.include(
        yield* refusal({ size: 1 }),
        `InvalidConfig: EtcdCluster: the cluster in ${dataDir} has 3 members (node0, node1, node2), and the size is 1`
      )
      assert.include(yield* refusal({ size: 4 }), "and the size is 4")
      // Its directory is there, as that of one that has not begun: the others know better.
      rmSync(join(dataDir, "node2.etcd", "member"), { recursive: true })
      assert.include(yield* refusal({}), "has already been bootstrapped")
      // Nor does it where they do not know it by the id that it would have: with another token, as where all were restored.
      const file = join(dataDir, "cluster.json")
      writeFileSync(file, readFileSync(file, "utf8").replace(/"token": "[^"]+"/, '"token": "another"'))
      assert.include(yield* refusal({}), "node2 has no data in")
      rmSync(join(dataDir, "node1.etcd"), { recursive: true })
      assert.include(yield* refusal({}), "does not have node1.etcd")
      assert.deepStrictEqual(readdirSync(dataDir), ["cluster.json", "node0.etcd", "node2.etcd"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("whose members are on Unix sockets needs no proxy, though the environment names one", () =>
    Effect.gen(function* () {
      for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"]) {
        yield* variable(name, "http://127.0.0.1:9")
      }
      for (const name of ["NO_PROXY", "no_proxy"]) yield* variable(name, "")
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const { endpoints } = cluster
      const members = SubscriptionRef.getUnsafe(cluster.members)
      yield* Effect.provide(EtcdKv.put("a", "1"), EtcdLayer.connect({ endpoints }))
      for (const node of members) {
        // It asks the others whether it may answer.
        const read = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: node.endpoints }))
        assert.deepStrictEqual(yield* read, Option.some("1"))
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("has an id of its own, and begins where a first start was cut short", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const directories = ["node0.etcd", "node1.etcd"].map((name) => join(dataDir, name))
      for (const directory of directories) mkdirSync(directory)
      const started = (options: EtcdCluster.Options) =>
        Effect.map(EtcdCluster.ephemeral({ size: 2, log: false, ...options }), ({ members }) => {
          const ids = SubscriptionRef.getUnsafe(members).map(({ clusterId }) => clusterId)
          assert.deepStrictEqual(ids, [ids[0], ids[0]])
          return ids[0]
        })
      // Killed when one had made its data, and the other one had not.
      const binary = join(yield* temporaryDirectory, "etcd")
      const real = process.env.ETCD_BINARY ?? "etcd"
      const script = `#!/bin/sh\ncase "$*" in *--name=node1*) exit 1 ;; esac\nexec '${real}' "$@"`
      writeFileSync(binary, script, { mode: 0o755 })
      yield* Effect.flip(Effect.scoped(started({ dataDir, binary })))
      assert.deepStrictEqual(
        directories.map((directory) => existsSync(join(directory, "member", "wal"))),
        [true, false]
      )
      const first = yield* Effect.scoped(started({ dataDir }))
      // Killed when they had just made their logs, and written nothing into them.
      for (const directory of directories) {
        const logs = join(directory, "member", "wal")
        const log = join(logs, readdirSync(logs).find((name) => name.endsWith(".wal"))!)
        const file = readFileSync(log)
        writeFileSync(log, file.fill(0, Wal.records(file)[2]!.to))
      }
      assert.strictEqual(yield* started({ dataDir }), first)
      assert.notStrictEqual(yield* started({}), first)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("stops in real time, whatever clock the program has", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const cluster = yield* EtcdCluster.ephemeral({ log: false, gracePeriod: "200 millis" }).pipe(Scope.provide(scope))
      yield* freeze(SubscriptionRef.getUnsafe(cluster.members)[0])
      yield* soon(Scope.close(scope, Exit.void))
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("a member that cannot start takes the others down", () =>
    Effect.gen(function* () {
      const error = yield* EtcdCluster.fromConfigs([{ name: "a" }, { name: "b", listenPeerUrls: "nonsense" }], {
        log: false
      }).pipe(Effect.scoped, Effect.flip)
      assert.strictEqual(error.reason._tag, "InvalidConfig")
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("what makes no sense is refused before anything is started", () =>
    Effect.gen(function* () {
      // Whoever got as far as that would say that there is no such executable.
      const binary = "/nowhere/etcd"
      const refused: ReadonlyArray<readonly [Effect.Effect<unknown, EtcdProcessError.EtcdProcessError, any>, string]> =
        [
          [EtcdCluster.make({ binary, size: 0 }), "a whole number from 1 up to 7"],
          [EtcdCluster.make({ binary, config: { name: "a" } }), "config has name, which no two members can share"],
          [EtcdCluster.ephemeral({ binary, config: { dataDir: "/data" } }), "config has dataDir"],
          [EtcdCluster.make({ binary, config: { walDir: "/wal" } }), "config has walDir"],
          [EtcdCluster.make({ binary, dataDir: "" }), "the option dataDir has to be the name of a directory"],
          [
            EtcdCluster.fromConfigs([{ dataDir: "/a" }, { dataDir: "/a" }], { binary }),
            "two members have the dataDir /a"
          ],
          [EtcdCluster.fromConfigs([{ walDir: "/a" }, { walDir: "/a" }], { binary }), "two members have the walDir /a"],
          [EtcdCluster.fromConfigs([{}, {}], { binary, runDirectory: "/a" }), "two members are named default"],
          [
            EtcdCluster.fromConfigs(
              [
                { name: "a", dataDir: "/a" },
                { name: "a", dataDir: "/b" }
              ],
              { binary }
            ),
            "two members are named a"
          ],
          [
            EtcdCluster.fromConfigs([{ name: "a" }, { name: "b" }], { binary }),
            "a has no data, and its initialCluster"
          ],
          [EtcdCluster.make({ binary, config: { electionTimeout: "soon" as never } }), "electionTimeout: expected"],
          [EtcdCluster.make({ binary, config: 5 as never }), "the option config has to be an object"],
          [
            EtcdCluster.make({ binary, runDirectory: "/run" } as EtcdCluster.Options),
            'there is no option "runDirectory"'
          ],
          [EtcdCluster.ephemeral(null as never), "the options have to be an object, and not null"],
          [EtcdCluster.fromConfigs([] as never, { binary }), "with one at least, and not []"],
          [EtcdCluster.fromConfigs([{}, { nam: "b" } as never], { binary }), "did you mean name?"],
          [EtcdCluster.fromConfigs([{}], { binary, startTimeout: 0 }), "a positive duration"],
          [EtcdProcess.make(5 as never, { binary }), "expected an object of options, got 5"],
          [EtcdProcess.ephemeral(null as never, { binary }), "expected an object of options, got null"],
          [EtcdProcess.ephemeral("text" as never, { binary }), 'expected an object of options, got "text"'],
          [EtcdProcess.make({}, { binary, client: { endpoints: ["a:1"] } as object }), "they are those of the node"],
          [EtcdProcess.make({}, { binary, client: { tsl: {} } as object }), 'there is no option "tsl"']
        ]
      for (const [effect, said] of refused) {
        const { reason } = yield* Effect.flip(Effect.scoped(effect))
        assert.strictEqual(reason._tag, "InvalidConfig", reason.message)
        assert.include(reason.message, said)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("as a layer", () =>
    Effect.gen(function* () {
      yield* EtcdKv.put("a", "1")
      const cluster = yield* EtcdCluster.EtcdCluster
      assert.strictEqual(SubscriptionRef.getUnsafe(cluster.members).length, 3)
    }).pipe(
      Effect.provide(
        EtcdLayer.cluster({ log: false, config: { heartbeatInterval: "50 millis", electionTimeout: "500 millis" } })
      )
    )
  )
})

describe("EtcdLayer", () => {
  it.live("connect inside a program that has an etcd of its own means the other one", () =>
    Effect.gen(function* () {
      const other = yield* EtcdProcess.ephemeral({}, { log: false })
      yield* EtcdKv.put("whose", "own")
      const elsewhere = EtcdLayer.connect({ endpoints: other.endpoints })
      assert.deepStrictEqual(yield* Effect.provide(EtcdKv.getString("whose"), elsewhere), Option.none())
      yield* Effect.provide(EtcdKv.put("whose", "other"), elsewhere)
      assert.deepStrictEqual(yield* EtcdKv.getString("whose"), Option.some("own"))
    }).pipe(Effect.scoped, Effect.provide(EtcdLayer.ephemeral({}, { log: false })), Effect.provide(NodeServices.layer))
  )

  it.live("embedded, and connect to what runs", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.EtcdProcess
      yield* EtcdKv.put("a", "1")
      const read = Effect.provide(EtcdKv.getString("a"), EtcdLayer.connect({ endpoints: etcd.endpoints }))
      assert.deepStrictEqual(yield* read, Option.some("1"))
    }).pipe(Effect.provide(EtcdLayer.embedded({}, { log: false })))
  )
})
