/**
 * etcdctl agrees: what it writes is read here, and the other way round.
 *
 * It comes from `ETCDCTL_BINARY`, or from the `PATH`; `etcdutl`, where newer versions have the restoring of snapshots,
 * from beside it. Where there is none, nothing is tested.
 */
import { execFile } from "node:child_process"
import * as NodeFs from "node:fs"
import * as NodePath from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, layer } from "@effect/vitest"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { etcdctl, isExecutable, missing } from "./support/etcdctl.ts"

const etcdutl = [etcdctl === undefined ? "" : NodePath.join(NodePath.dirname(etcdctl), "etcdutl")].find(isExecutable)

class CommandFailed extends Data.TaggedError("CommandFailed")<{ readonly message: string }> {}

const run = (command: string, args: ReadonlyArray<string>): Effect.Effect<string, CommandFailed> =>
  Effect.callback((resume) => {
    const child = execFile(command, [...args], { env: { ETCDCTL_API: "3" } }, (error, stdout, stderr) =>
      resume(error === null ? Effect.succeed(stdout.trim()) : Effect.fail(new CommandFailed({ message: stderr })))
    )
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

/** Runs etcdctl against the node of the test, and answers with what it prints. */
const ctl = (...args: ReadonlyArray<string>) =>
  EtcdProcess.EtcdProcess.use((etcd) => run(etcdctl!, ["--endpoints", etcd.endpoints[0], ...args]))

const restore = (snapshot: string, dataDir: string) =>
  run(etcdutl ?? etcdctl!, ["snapshot", "restore", snapshot, "--data-dir", dataDir])

const words = (output: string) => output.split(/\s+/)

const bytes = (text: string) => [...new TextEncoder().encode(text)]

const node = Layer.mergeAll(EtcdAuth.layer, EtcdLease.layer, EtcdMembership.layer, EtcdMaintenance.layer).pipe(
  Layer.provideMerge(EtcdLayer.ephemeral({}, { log: false })),
  Layer.provideMerge(NodeServices.layer)
)

describe.skipIf(etcdctl === undefined)(`etcdctl agrees${missing}`, () => {
  layer(node, { excludeTestServices: true })((it) => {
    it.effect("on keys", () =>
      Effect.gen(function* () {
        yield* ctl("put", "ctl/theirs", "größer")
        assert.deepStrictEqual(yield* EtcdKv.getString("ctl/theirs"), Option.some("größer"))
        yield* EtcdKv.put("ctl/ours", "kleiner")
        assert.strictEqual(yield* ctl("get", "ctl/ours", "--print-value-only"), "kleiner")
        assert.strictEqual(yield* ctl("del", "ctl/", "--prefix"), "2")
      })
    )

    it.effect("on leases", () =>
      Effect.gen(function* () {
        const granted = yield* ctl("lease", "grant", "100")
        const theirs = EtcdId.LeaseId(Option.getOrThrow(EtcdId.parse(words(granted)[1]!)))
        yield* ctl("put", "ctl/leased", "1", `--lease=${EtcdId.format(theirs)}`)
        const found = yield* EtcdLease.timeToLive(theirs, { keys: true })
        assert.strictEqual(Duration.toSeconds(found.grantedTtl), 100)
        assert.deepStrictEqual(
          found.keys.map((key) => [...key]),
          [bytes("ctl/leased")]
        )
        assert.include(yield* EtcdLease.list(), theirs)
        assert.deepStrictEqual(Option.getOrThrow(yield* EtcdKv.get("ctl/leased")).lease, Option.some(theirs))

        const ours = yield* EtcdLease.make("200 seconds")
        yield* EtcdKv.put("ctl/ours", "1", { lease: ours.id })
        const id = EtcdId.format(ours.id)
        const shown = yield* ctl("lease", "timetolive", id, "--keys")
        assert.include(shown, "granted with TTL(200s)")
        assert.include(shown, "attached keys([ctl/ours])")
        assert.include(yield* ctl("lease", "list"), id)
        assert.include(yield* ctl("lease", "keep-alive", id, "--once"), "keepalived with TTL(200)")
        yield* ctl("lease", "revoke", id)
        assert.deepStrictEqual(yield* EtcdKv.get("ctl/ours"), Option.none())
        yield* EtcdLease.revoke(theirs)
        assert.include(yield* ctl("lease", "timetolive", EtcdId.format(theirs)), "already expired")
      })
    )

    it.effect("on members", () =>
      Effect.gen(function* () {
        const lines = Effect.map(ctl("member", "list"), (output) => output.split("\n").map((line) => line.split(", ")))
        const { members } = yield* EtcdMembership.list()
        assert.deepStrictEqual(
          (yield* lines).map(([id, state, name, peers, clients]) => [id, state, name, peers, clients]),
          members.map((member) => [
            EtcdId.format(member.id),
            "started",
            member.name,
            member.peerUrls.join(","),
            member.clientUrls.join(",")
          ])
        )
        const { member } = yield* EtcdMembership.add(["http://127.0.0.1:1"], { isLearner: true })
        const added = (yield* lines).find(([id]) => id === EtcdId.format(member.id))
        assert.deepStrictEqual([added![1], added![3], added![5]], ["unstarted", "http://127.0.0.1:1", "true"])
        yield* ctl("member", "update", EtcdId.format(member.id), "--peer-urls=http://127.0.0.1:2")
        const updated = (yield* EtcdMembership.list()).members.find(({ id }) => id === member.id)
        assert.deepStrictEqual(updated?.peerUrls, ["http://127.0.0.1:2"])
        yield* ctl("member", "remove", EtcdId.format(member.id))
        assert.deepStrictEqual((yield* EtcdMembership.list()).members, members)
      })
    )

    it.effect("on alarms", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdProcess.EtcdProcess
        yield* EtcdMaintenance.armAlarm({ memberId: id, type: "NoSpace" })
        assert.strictEqual(yield* ctl("alarm", "list"), `memberID:${id} alarm:NOSPACE`)
        yield* ctl("alarm", "disarm")
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
      })
    )

    it.effect("on the status and the hash of keys", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        const [line] = (yield* ctl("endpoint", "status")).split("\n")
        const [, id, version] = line!.split(", ")
        const status = yield* EtcdMaintenance.status()
        assert.deepStrictEqual([id, version], [EtcdId.format(etcd.id), status.version])
        const { hash } = yield* EtcdMaintenance.hashKv()
        const [hashed] = (yield* ctl("endpoint", "hashkv")).split("\n")
        assert.strictEqual(hashed!.split(", ")[1], String(hash))
      })
    )

    it.effect("on users, roles and permissions", () =>
      Effect.gen(function* () {
        yield* ctl("role", "add", "theirs")
        yield* ctl("role", "grant-permission", "theirs", "readwrite", "a/", "--prefix=true")
        yield* ctl("role", "grant-permission", "theirs", "read", "b", "--from-key=true")
        yield* ctl("role", "grant-permission", "theirs", "write", "key")
        yield* ctl("role", "grant-permission", "theirs", "read", "m", "n")
        assert.deepStrictEqual(
          (yield* EtcdAuth.rolePermissions("theirs")).map(({ access, range }) => [access, range]),
          [
            ["readwrite", KeyRange.prefix("a/")],
            ["read", KeyRange.from("b")],
            ["write", KeyRange.single("key")],
            ["read", KeyRange.interval("m", "n")]
          ]
        )
        yield* EtcdAuth.addRole("ours")
        yield* EtcdAuth.grantPermission("ours", "read", KeyRange.prefix("p/"))
        yield* EtcdAuth.grantPermission("ours", "write", "k")
        const shown = yield* ctl("role", "get", "ours")
        assert.match(shown, /KV Read:\s+\[p\/, p0\) \(prefix p\/\)/)
        assert.match(shown, /KV Write:\s+k/)
        yield* ctl("role", "revoke-permission", "ours", "p/", "--prefix=true")
        assert.strictEqual((yield* EtcdAuth.rolePermissions("ours")).length, 1)

        yield* ctl("user", "add", "them:secret")
        yield* ctl("user", "grant-role", "them", "theirs")
        assert.include(yield* EtcdAuth.users(), "them")
        assert.deepStrictEqual(yield* EtcdAuth.userRoles("them"), ["theirs"])
        yield* EtcdAuth.addUser("us", Redacted.make("secret"))
        yield* EtcdAuth.grantRole("us", "ours")
        assert.deepStrictEqual(words(yield* ctl("user", "list")).sort(), ["them", "us"])
        assert.match(yield* ctl("user", "get", "us"), /Roles: ours/)
        assert.deepStrictEqual(words(yield* ctl("role", "list")).sort(), ["ours", "theirs"])

        yield* ctl("user", "add", "root:top")
        yield* ctl("user", "grant-role", "root", "root")
        yield* ctl("auth", "enable")
        const etcd = yield* EtcdProcess.EtcdProcess
        const connect = (username: string, password: string) =>
          EtcdClient.make({ endpoints: etcd.endpoints, credentials: { username, password: Redacted.make(password) } })
        const them = EtcdKv.fromClient(yield* connect("them", "secret"))
        yield* them.put("a/b", "1")
        assert.strictEqual((yield* Effect.flip(them.put("x", "1"))).reason._tag, "PermissionDenied")
        assert.include((yield* Effect.flip(ctl("--user", "us:secret", "get", "a/b"))).message, "permission denied")
        yield* ctl("--user", "us:secret", "put", "k", "1")
        yield* EtcdAuth.fromClient(yield* connect("root", "top")).disable()
        yield* ctl("put", "x", "1")
      })
    )

    it.effect("on snapshots: ours is restored by it", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("ctl/saved", "in the snapshot")
        yield* EtcdKv.put("ctl/large", new Uint8Array(1024 * 1024))
        const fs = yield* FileSystem.FileSystem
        const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-test-" })
        const ours = NodePath.join(directory, "ours.db")
        yield* EtcdMaintenance.snapshotToFile(ours)
        const dataDir = NodePath.join(directory, "restored")
        yield* restore(ours, dataDir)
        const restored = yield* EtcdProcess.ephemeral({ dataDir }, { log: false })
        const kv = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints: restored.endpoints }))
        assert.deepStrictEqual(yield* kv.getString("ctl/saved"), Option.some("in the snapshot"))

        const streamed = NodePath.join(directory, "streamed.db")
        yield* Stream.run(EtcdMaintenance.snapshot(), fs.sink(streamed))
        const damaged = NodeFs.readFileSync(streamed)
        damaged[4096 * 2 + 100]! ^= 1
        NodeFs.writeFileSync(streamed, damaged)
        const refused = yield* Effect.flip(restore(streamed, NodePath.join(directory, "damaged")))
        assert.include(refused.message, "sha256")
      })
    )
  })
})
