import * as NodeCrypto from "node:crypto"
import * as NodeFs from "node:fs"
import * as NodePath from "node:path"
import { create } from "@bufbuild/protobuf"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { SnapshotResponseSchema } from "../src/internal/proto/rpc_pb.ts"
import { freeze } from "./support/machine.ts"

const reason = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

const sha256 = (bytes: Uint8Array) => NodeCrypto.createHash("sha256").update(bytes).digest()

const concat = (chunks: ReadonlyArray<Uint8Array>) => new Uint8Array(Buffer.concat(chunks))

const directory = Effect.flatMap(FileSystem.FileSystem, (fs) =>
  fs.makeTempDirectoryScoped({ prefix: "effect-etcd-test-" })
)

/** A client whose server sends these pieces of a snapshot, and then ends as told. */
const sending = (pieces: ReadonlyArray<Uint8Array>, end: Stream.Stream<never, EtcdError.EtcdError> = Stream.empty) => {
  const total = pieces.reduce((sum, piece) => sum + piece.length, 0)
  let sent = 0
  const messages = pieces.map((blob) => {
    sent += blob.length
    return create(SnapshotResponseSchema, { blob, remainingBytes: BigInt(Math.max(0, total - sent - 32)) })
  })
  const client = { serverStream: () => Stream.concat(Stream.fromIterable(messages), end) }
  return EtcdMaintenance.fromClient(client as unknown as EtcdClient.Client)
}

describe("EtcdMaintenance", () => {
  const node = EtcdMaintenance.layer.pipe(
    Layer.provideMerge(EtcdLayer.ephemeral({}, { log: false })),
    Layer.provideMerge(NodeServices.layer)
  )

  layer(node, { excludeTestServices: true })((it) => {
    it.effect("status", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        const status = yield* EtcdMaintenance.status({ endpoint: etcd.endpoints[0] })
        assert.strictEqual(status.header.memberId, etcd.id)
        assert.deepStrictEqual(status.leader, Option.some(etcd.id))
        assert.match(status.version, /^3\.\d+\.\d+/)
        assert.isTrue(status.dbSize >= status.dbSizeInUse && status.dbSizeInUse > 0n)
        assert.isTrue(status.raftIndex >= status.raftAppliedIndex && status.raftAppliedIndex > 0n)
        assert.isTrue(status.raftTerm > 0n)
        assert.deepStrictEqual(status.errors, [])
        assert.isFalse(status.isLearner)
        if (etcd.version.minor < 6) assert.deepStrictEqual(status.storageVersion, Option.none())
        assert.deepStrictEqual(status.downgradeTarget, Option.none())
      })
    )

    it.effect("alarms are armed, stop writes, and are disarmed", () =>
      Effect.gen(function* () {
        const { id } = yield* EtcdProcess.EtcdProcess
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
        const noSpace = { memberId: id, type: "NoSpace" } as const
        assert.deepStrictEqual(yield* EtcdMaintenance.armAlarm(noSpace), [noSpace])
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [noSpace])
        assert.strictEqual(yield* reason(EtcdKv.put("alarm", "1")), "NoSpace")
        assert.strictEqual((yield* EtcdMaintenance.status()).errors.length, 1)
        assert.deepStrictEqual(yield* EtcdMaintenance.disarmAlarm(noSpace), [noSpace])
        assert.deepStrictEqual(yield* EtcdMaintenance.disarmAlarm(noSpace), [])
        yield* EtcdKv.put("alarm", "1")
        const other = { memberId: EtcdId.MemberId(77n), type: "NoSpace" } as const
        yield* EtcdMaintenance.armAlarm(noSpace)
        yield* EtcdMaintenance.armAlarm(other)
        assert.strictEqual((yield* EtcdMaintenance.disarmAlarms()).length, 2)
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
        assert.deepStrictEqual(yield* EtcdMaintenance.disarmAlarms(), [])
        yield* EtcdKv.put("alarm", "1")
      })
    )

    it.effect("defragment gives space back", () =>
      Effect.gen(function* () {
        yield* Effect.forEach(
          Array.from({ length: 64 }, (_, index) => index),
          (index) => EtcdKv.put(`space/${index}`, new Uint8Array(64 * 1024)),
          { concurrency: 8 }
        )
        const { header } = yield* EtcdKv.deletePrefix("space/")
        yield* EtcdKv.compact(header.revision, { physical: true })
        const before = yield* EtcdMaintenance.status()
        // etcd says nothing of the store in its answer, so there is nothing to be had.
        assert.isUndefined(yield* EtcdMaintenance.defragment())
        const after = yield* EtcdMaintenance.status()
        assert.isTrue(after.dbSize < before.dbSize, `${before.dbSize} ${after.dbSize}`)
      })
    )

    it.effect("hashes", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("hash", "1")
        const first = yield* EtcdMaintenance.hashKv({ revision: header.revision })
        const later = yield* EtcdKv.put("hash", "2")
        const again = yield* EtcdMaintenance.hashKv({ revision: header.revision })
        assert.strictEqual(first.hash, again.hash)
        assert.strictEqual(first.compactRevision, again.compactRevision)
        const now = yield* EtcdMaintenance.hashKv()
        assert.notStrictEqual(now.hash, first.hash)
        assert.strictEqual((yield* EtcdMaintenance.hashKv({ revision: later.header.revision })).hash, now.hash)
        assert.strictEqual(
          yield* reason(EtcdMaintenance.hashKv({ revision: later.header.revision + 1000n })),
          "FutureRevision"
        )
        assert.isTrue((yield* EtcdMaintenance.hash()).hash > 0)
      })
    )

    it.effect("a snapshot as a stream ends in the digest of what came before", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("snapshot/stream", new Uint8Array(1024 * 1024))
        const bytes = concat(yield* Stream.runCollect(EtcdMaintenance.snapshot()))
        assert.strictEqual(bytes.length % 512, 32)
        assert.deepStrictEqual(bytes.slice(-32), new Uint8Array(sha256(bytes.subarray(0, -32))))
      })
    )

    it.effect("a snapshot to a file, with progress", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("snapshot/file", new Uint8Array(1024 * 1024))
        const file = NodePath.join(yield* directory, "etcd.db")
        NodeFs.writeFileSync(file, "the one before")
        const progress: Array<EtcdMaintenance.SnapshotProgress> = []
        const written = yield* EtcdMaintenance.snapshotToFile(file, {
          onProgress: (step) => Effect.sync(() => void progress.push(step))
        })
        const bytes = NodeFs.readFileSync(file)
        assert.strictEqual(written.path, file)
        assert.strictEqual(written.bytes, bytes.length)
        assert.strictEqual(written.sha256, sha256(bytes.subarray(0, -32)).toString("hex"))
        assert.strictEqual(NodeFs.statSync(file).mode & 0o777, 0o600)
        assert.deepStrictEqual(NodeFs.readdirSync(NodePath.dirname(file)), ["etcd.db"])
        assert.isTrue(progress.length > 1)
        assert.deepStrictEqual(progress.at(-1), { receivedBytes: bytes.length - 32, totalBytes: bytes.length - 32 })
        assert.isTrue(progress.every((step) => step.totalBytes === bytes.length - 32))
      })
    )

    it.effect("downgrade: of what is no version, and where there is none", () =>
      Effect.gen(function* () {
        const { version } = yield* EtcdProcess.EtcdProcess
        if (version.minor < 5) {
          const error = yield* Effect.flip(EtcdMaintenance.validateDowngrade("3.3.0"))
          assert.strictEqual(error.reason._tag, "Unsupported")
          assert.strictEqual(error.outcome, "not-applied")
          assert.include(error.message, "3.5")
          assert.strictEqual(yield* reason(EtcdMaintenance.enableDowngrade("3.3.0")), "Unsupported")
          assert.strictEqual(yield* reason(EtcdMaintenance.cancelDowngrade()), "Unsupported")
          return
        }
        const target = `3.${version.minor - 1}.0`
        assert.strictEqual(yield* reason(EtcdMaintenance.validateDowngrade("nonsense")), "InvalidDowngradeTarget")
        // The version of the cluster is decided a moment after it serves.
        const { clusterVersion } = yield* EtcdMaintenance.validateDowngrade(target).pipe(
          Effect.retry({
            while: ({ reason }) =>
              reason._tag === "ClusterVersionUnavailable" || reason._tag === "InvalidDowngradeTarget",
            schedule: Schedule.spaced(50),
            times: 100
          })
        )
        assert.match(clusterVersion, /^3\.\d+/)
        assert.strictEqual(yield* reason(EtcdMaintenance.validateDowngrade("3.1.0")), "InvalidDowngradeTarget")
        if (version.minor === 5) assert.strictEqual(yield* reason(EtcdMaintenance.cancelDowngrade()), "NoDowngrade")
        // etcd 3.5 does what it is asked, and never answers.
        const ask = <A>(request: (options: EtcdClient.CallOptions) => Effect.Effect<A, EtcdError.EtcdError>) =>
          version.minor === 5
            ? Effect.map(reason(request({ deadline: "300 millis" })), (tag) =>
                assert.include(["DeadlineExceeded", "ServerTimeout"], tag)
              )
            : request({})
        const maintenance = yield* EtcdMaintenance.EtcdMaintenance
        yield* ask((options) => maintenance.enableDowngrade(target, options))
        assert.strictEqual(yield* reason(EtcdMaintenance.validateDowngrade(target)), "DowngradeInProgress")
        if (version.minor >= 6) {
          assert.include(Option.getOrThrow((yield* EtcdMaintenance.status()).downgradeTarget), `3.${version.minor - 1}`)
        }
        yield* ask((options) => maintenance.cancelDowngrade(options))
        yield* EtcdMaintenance.validateDowngrade(target)
      })
    )
  })

  it.live("moves the leader, whoever is asked", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.ephemeral({ log: false })
      const leader = yield* cluster.awaitLeader
      const [other, third] = SubscriptionRef.getUnsafe(cluster.members).filter((node) => node !== leader)
      const maintenance = EtcdMaintenance.fromClient(yield* EtcdClient.make({ endpoints: cluster.endpoints }))
      assert.strictEqual(
        yield* reason(maintenance.moveLeader(other!.id, { endpoint: third!.endpoints[0] })),
        "NotLeader"
      )
      assert.strictEqual(yield* reason(maintenance.moveLeader(EtcdId.MemberId(404n))), "BadLeaderTransferee")
      assert.isUndefined(yield* maintenance.moveLeader(other!.id))
      const { leader: now } = yield* maintenance.status({ endpoint: other!.endpoints[0] })
      assert.deepStrictEqual(now, Option.some(other!.id))
      yield* Effect.forEach(SubscriptionRef.getUnsafe(cluster.members), (node) =>
        Effect.map(maintenance.status({ endpoint: node.endpoints[0] }), ({ header }) =>
          assert.strictEqual(header.memberId, node.id)
        )
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("looks for the leader within the deadline of the call", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.EtcdProcess
      const client = yield* EtcdClient.make({ endpoints: etcd.endpoints, keepAliveInterval: "Infinity" })
      const maintenance = EtcdMaintenance.fromClient(client)
      const { header } = yield* maintenance.status()
      yield* freeze(etcd)
      // It may go on for a moment.
      yield* Effect.eventually(Effect.flip(maintenance.status({ deadline: "200 millis" })))
      const error = yield* Effect.flip(maintenance.moveLeader(header.memberId, { deadline: "500 millis" })).pipe(
        // Nobody is asked for longer than 30 seconds.
        Effect.timeout("15 seconds"),
        Effect.ensuring(etcd.signal("SIGCONT"))
      )
      assert.deepStrictEqual([error.reason._tag, error.outcome], ["DeadlineExceeded", "not-applied"])
      assert.include(error.message, "the deadline of 500 ms passed before")
    }).pipe(Effect.scoped, Effect.provide(EtcdLayer.ephemeral({}, { log: false })))
  )

  describe("a snapshot that is not right", () => {
    const database = new Uint8Array(1024).fill(7)
    const digest = new Uint8Array(sha256(database))
    const whole = concat([database, digest])

    it.effect("is told from one that is, however it is cut", () =>
      Effect.gen(function* () {
        for (const size of [1, 31, 32, 33, 500, 1024, 1056]) {
          const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, index) =>
            whole.slice(index * size, (index + 1) * size)
          )
          assert.deepStrictEqual(concat(yield* Stream.runCollect(sending(pieces).snapshot())), whole)
          const flipped = pieces.map((piece) => piece.slice())
          flipped[0]![0]! ^= 1
          assert.strictEqual(yield* reason(Stream.runDrain(sending(flipped).snapshot())), "ProtocolViolation")
        }
        for (const pieces of [[], [digest], [database], [whole.slice(0, -1)]]) {
          assert.strictEqual(yield* reason(Stream.runDrain(sending(pieces).snapshot())), "ProtocolViolation")
        }
      })
    )

    it.effect("leaves the file that was there, and nothing else", () =>
      Effect.gen(function* () {
        const folder = yield* directory
        const file = NodePath.join(folder, "etcd.db")
        NodeFs.writeFileSync(file, "the one before")
        const lost = EtcdError.make(new EtcdError.ConnectionLost({ message: "Gone.", outcome: "not-applied" }))
        const saved = (maintenance: EtcdMaintenance.Service) => Effect.flip(maintenance.snapshotToFile(file))
        for (const error of [
          yield* saved(sending([database, digest.map((byte) => byte ^ 1)])),
          yield* saved(sending([database], Stream.fail(lost)))
        ]) {
          assert.strictEqual(error._tag, "EtcdError")
          assert.deepStrictEqual(NodeFs.readdirSync(folder), ["etcd.db"])
          assert.strictEqual(NodeFs.readFileSync(file, "utf8"), "the one before")
        }
        const begun = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(
          sending([database], Stream.never).snapshotToFile(file, {
            onProgress: () => Effect.asVoid(Deferred.succeed(begun, undefined))
          })
        )
        yield* Deferred.await(begun)
        assert.strictEqual(NodeFs.readdirSync(folder).length, 2)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(NodeFs.readdirSync(folder), ["etcd.db"])
        const nowhere = sending([whole]).snapshotToFile(NodePath.join(folder, "none", "etcd.db"))
        assert.strictEqual((yield* Effect.flip(nowhere))._tag, "PlatformError")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  })
})
