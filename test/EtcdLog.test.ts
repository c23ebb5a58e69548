import { cpSync, readFileSync, writeFileSync } from "node:fs"
import * as net from "node:net"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLog from "../src/EtcdLog.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as Role from "../src/Role.ts"

const epoch = DateTime.makeUnsafe({ epochMilliseconds: 0 })

const spawnEtcd = Effect.fnUntraced(function* (...flags: ReadonlyArray<string>) {
  const binary = yield* EtcdBinary.find()
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(
    ChildProcess.make(
      binary.path,
      [
        "--name=n",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--initial-advertise-peer-urls=http://127.0.0.1:1",
        "--initial-cluster=n=http://127.0.0.1:1",
        ...flags
      ],
      { env: { PATH: process.env.PATH }, extendEnv: false, killSignal: "SIGKILL" }
    )
  )
  return { version: binary.version, events: EtcdLog.decode(handle.all) }
})

const occupied = Effect.acquireRelease(
  Effect.callback<net.Server>((resume) => {
    const server = net.createServer()
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
).pipe(Effect.map((server) => ({ listeningOn: `127.0.0.1:${(server.address() as net.AddressInfo).port}` })))

const pageSize = 4096

const changed =
  (path: string, change: (bytes: Buffer<ArrayBuffer>) => Buffer<ArrayBuffer>) =>
  (member: string): void => {
    const bytes = readFileSync(join(member, path))
    writeFileSync(join(member, path), change(bytes))
  }

/** Ways to damage what an etcd has left in its data directory. */
const damages: Readonly<Record<string, (member: string) => void>> = {
  "pages of zeroes": changed("snap/db", (bytes) => bytes.fill(0, 2 * pageSize)),
  "pages that have another number": changed("snap/db", (bytes) => {
    for (let page = 2 * pageSize; page < bytes.length; page += pageSize) bytes.writeUInt32LE(0xffff, page)
    return bytes
  }),
  "pages with another content": changed("snap/db", (bytes) => {
    for (let page = 2 * pageSize; page < bytes.length; page += pageSize) bytes.fill(0xa5, page + 16, page + pageSize)
    return bytes
  }),
  "meta pages of another version": changed("snap/db", (bytes) => {
    for (const page of [0, pageSize]) bytes.writeUInt32LE(9, page + 20)
    return bytes
  }),
  "a database cut short": changed("snap/db", (bytes) => bytes.subarray(0, 3 * pageSize)),
  "a log with a flipped bit": changed("wal/0000000000000000-0000000000000000.wal", (bytes) => {
    bytes[bytes.indexOf("vvvv")]! ^= 0x10
    return bytes
  }),
  "an empty log": changed("wal/0000000000000000-0000000000000000.wal", () => Buffer.alloc(0))
}

describe("EtcdLog: a running etcd", () => {
  it.live("whose data directory was damaged fails with DataDirCorrupt, in whatever way", () =>
    Effect.gen(function* () {
      const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
      const dataDir = join(directory, "data")
      yield* Effect.scoped(
        Effect.flatMap(EtcdProcess.ephemeral({ dataDir }, { log: false }), (node) =>
          Effect.provide(
            Effect.forEach(
              Array.from({ length: 40 }, (_, n) => n),
              (n) => EtcdKv.put(`${n}`, "v".repeat(2000))
            ),
            EtcdLayer.connect({ endpoints: node.endpoints })
          )
        )
      )
      yield* Effect.forEach(
        Object.entries(damages),
        ([way, damage]) =>
          Effect.gen(function* () {
            const damaged = join(directory, way)
            cpSync(dataDir, damaged, { recursive: true })
            damage(join(damaged, "member"))
            const error = yield* Effect.flip(Effect.scoped(EtcdProcess.ephemeral({ dataDir: damaged }, { log: false })))
            assert.strictEqual(error.reason._tag, "DataDirCorrupt", `${way}: ${error.message}`)
            assert.include(error.message, "restore it from a snapshot")
          }),
        { concurrency: 4, discard: true }
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("says who it is, that it leads, and that it serves", () =>
    Effect.gen(function* () {
      const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
      const { events, version } = yield* spawnEtcd(
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:1",
        `--data-dir=${directory}/data`
      )
      const seen = yield* events.pipe(
        Stream.takeUntil((event) => event._tag === "Ready"),
        Stream.runCollect
      )
      const state = seen.reduce(Role.fold, Role.initial(epoch))
      assert.strictEqual(state.role, "leader")
      assert.deepStrictEqual(state.leader, state.member)
      const own = seen.find((event) => event._tag === "LocalMember")
      assert.deepStrictEqual(state.member, Option.some(own!.member))
      const said = seen.find((event) => event._tag === "Version")
      assert.deepStrictEqual(said?.version, Option.some(SemVer.format(version)))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("says which address is in use", () =>
    Effect.gen(function* () {
      const directory = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
      const { listeningOn } = yield* occupied
      const { events } = yield* spawnEtcd(
        `--listen-client-urls=http://${listeningOn}`,
        `--advertise-client-urls=http://${listeningOn}`,
        `--data-dir=${directory}/data`
      )
      const failure = Option.getOrThrow(EtcdLog.explain(yield* Stream.runCollect(events)))
      assert.deepStrictEqual(failure.reason, { _tag: "AddressInUse", address: listeningOn })
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
