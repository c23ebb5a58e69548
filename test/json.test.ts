/**
 * Everything that this library answers with, as JSON: printed without a throw, with its numbers and bytes as text, and
 * otherwise like a plain object.
 */
import * as nodeAssert from "node:assert"
import { inspect } from "node:util"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PlatformError from "effect/PlatformError"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SemVer from "effect/SemVer"
import * as Sink from "effect/Sink"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdBarrier from "../src/coordination/EtcdBarrier.ts"
import * as EtcdElection from "../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../src/coordination/EtcdLock.ts"
import * as EtcdMirror from "../src/coordination/EtcdMirror.ts"
import * as EtcdSemaphore from "../src/coordination/EtcdSemaphore.ts"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../src/coordination/EtcdStm.ts"
import * as Coordination from "../src/coordination/index.ts"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdError from "../src/EtcdError.ts"
import { ClusterId, LeaseId, MemberId } from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdOperationError from "../src/EtcdOperationError.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdResponse from "../src/EtcdResponse.ts"
import * as EtcdStore from "../src/EtcdStore.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as Library from "../src/index.ts"
import * as Printing from "../src/internal/json.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Testing from "../src/testing/index.ts"
import * as Declarations from "./support/declarations.ts"
import { temporaryDirectory } from "./support/machine.ts"

type Json = { readonly [name: string]: any }

/** As it is printed, and read again by somebody else. */
const printed = (value: unknown, what = "it"): Json => {
  const text = JSON.stringify(value)
  assert.isString(text, what)
  // What the fields of classes of others would be printed as.
  assert.notMatch(text, /"_id":"(Option|Duration|SemVer|Effect|Stream)"|"0":\d+,"1":/, `${what}: ${text}`)
  return JSON.parse(text)
}

const digits = /^\d+$/
const duration = /^(\d+(d|h|m|s|ms|ns) ?)+$/

const layer = EtcdSession.layer.pipe(Layer.provideMerge(EtcdLayer.ephemeral({}, { log: false })))

describe("as JSON", () => {
  it.layer(layer)((it) => {
    it.effect("is every answer of a client", () =>
      Effect.gen(function* () {
        const put = yield* EtcdKv.put("json/a", "one")
        const { header } = printed(put)
        assert.deepStrictEqual(Object.keys(header), ["clusterId", "memberId", "revision", "raftTerm"])
        assert.strictEqual(header.revision, String(put.header.revision))
        assert.strictEqual(header.clusterId, String(put.header.clusterId))
        const granted = yield* EtcdLease.grant("1 minute")
        assert.deepInclude(printed(granted), { id: String(granted.id), ttl: "1m" })
        yield* EtcdKv.put("json/b", "two", { lease: granted.id })
        const range = printed(yield* EtcdKv.range(KeyRange.prefix("json/")))
        assert.strictEqual(range.count, "2")
        assert.deepInclude(range.kvs[1], { key: "json/b", value: "two", lease: String(granted.id), version: "1" })
        assert.strictEqual(range.kvs[0].lease, null)
        const lease = printed(yield* EtcdLease.timeToLive(granted.id, { keys: true }))
        assert.deepStrictEqual(lease.keys, ["json/b"])
        assert.strictEqual(printed(yield* EtcdLease.keepAliveOnce(granted.id)).id, String(granted.id))
        const overwritten = printed(yield* EtcdKv.put("json/a", "1", { previousValue: true }))
        assert.strictEqual(overwritten.previous.value, "one")
        assert.deepInclude(printed(yield* EtcdKv.delete("json/a", { previousValues: true })), { deleted: "1" })
        const committed = printed(
          yield* EtcdTxn.commit(
            EtcdTxn.make({
              compare: EtcdTxn.exists("json/b"),
              success: { read: EtcdTxn.get("json/b"), all: EtcdTxn.range(KeyRange.prefix("json/")) }
            })
          )
        )
        assert.isTrue(committed.succeeded)
        assert.strictEqual(committed.results.all.count, "1")
        assert.match(printed(yield* EtcdKv.compact(put.header.revision)).revision, digits)
        const status = printed(yield* EtcdMaintenance.status())
        for (const name of ["dbSize", "dbSizeInUse", "leader", "raftTerm", "raftIndex"])
          assert.match(status[name], digits)
        const hash = printed(yield* EtcdMaintenance.hashKv())
        assert.match(hash.compactRevision, digits)
        printed(yield* EtcdMaintenance.hash())
        const alarm = { memberId: put.header.memberId, type: "NoSpace" } as const
        const [armed] = yield* EtcdMaintenance.armAlarm(alarm)
        assert.deepStrictEqual(printed(armed), { memberId: String(put.header.memberId), type: "NoSpace" })
        yield* EtcdMaintenance.disarmAlarms()
        const members = printed(yield* EtcdMembership.list())
        assert.match(members.members[0].id, digits)
        // Older ones do not tell.
        const { version } = yield* EtcdMaintenance.status()
        if (!version.startsWith("3.4.")) assert.match(printed(yield* EtcdAuth.status()).revision, digits)
      })
    )

    it.effect("is what a watch, a store and a mirror tell", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("told/a", "7")
        yield* EtcdKv.delete("told/a")
        const changes = EtcdWatch.changes(KeyRange.prefix("told/"), {
          startRevision: header.revision,
          created: true,
          previousValues: true
        }).pipe(Stream.take(3), Stream.runCollect)
        const [created, first, second] = Array.from(yield* changes, (change) => printed(change))
        assert.strictEqual(created!.startRevision, String(header.revision))
        assert.deepInclude(first!.events[0], { _tag: "Put" })
        assert.strictEqual(second!.events[0].previous.value, "7")
        const store = EtcdStore.make("told/", Schema.Struct({ size: Schema.Number }))
        yield* store.put("b", { size: 1 })
        const list = printed(yield* store.list())
        assert.deepInclude(list.entries[0], { key: "b", keyBytes: "b", value: { size: 1 }, lease: null, version: "1" })
        const [snapshot] = Array.from(yield* Stream.runCollect(Stream.take(store.changes({ snapshot: "first" }), 1)))
        assert.strictEqual(printed(snapshot).entries[0].keyBytes, "b")
        const mirror = yield* EtcdMirror.make(store)
        yield* store.put("c", { size: 2 })
        const view = printed(yield* mirror.fresh)
        assert.deepStrictEqual(
          view.entries.map(([key]: [string]) => key),
          ["b", "c"]
        )
        assert.match(view.revision, digits)
        printed(yield* mirror.lag)
      }).pipe(Effect.scoped)
    )

    it.effect("is what is held, and who holds it", () =>
      Effect.gen(function* () {
        const lease = yield* EtcdLease.make("1 minute")
        assert.deepStrictEqual(printed(lease), { id: String(lease.id), ttl: "1m" })
        assert.deepInclude(printed(yield* EtcdSession.current), { incarnation: 1, ttl: "10s" })
        const lock = EtcdLock.make("json/lock")
        const held = yield* EtcdLock.acquire(lock)
        assert.match(printed(held).token, digits)
        assert.match(printed(held.sequencer).revision, digits)
        const [waiter] = yield* EtcdLock.line(lock)
        assert.match(printed(waiter).lease, digits)
        const election = EtcdElection.make("json/election")
        const leadership = yield* EtcdElection.campaign(election, "me")
        assert.match(printed(leadership).token, digits)
        const leader = printed(Option.getOrThrow(yield* EtcdElection.leader(election)))
        assert.deepInclude(leader, { value: "me", valueString: "me" })
        const done = printed(yield* EtcdStm.txWithRevision(EtcdStm.put("json/stm", "x")))
        assert.match(done.revision, digits)
      }).pipe(Effect.scoped)
    )

    it.effect("is a node, its role, its log and a backup of it", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const binary = yield* EtcdBinary.find()
        assert.deepStrictEqual(printed(binary), { path: binary.path, version: SemVer.format(binary.version) })
        const utl = yield* Effect.option(EtcdBinary.findUtl(binary))
        if (Option.isSome(utl)) assert.strictEqual(printed(utl.value).version, SemVer.format(utl.value.version))
        assert.deepInclude(printed(node.config), { name: node.name, version: SemVer.format(binary.version) })
        assert.deepInclude(printed(node), { name: node.name, id: String(node.id), clusterId: String(node.clusterId) })
        assert.match(printed(SubscriptionRef.getUnsafe(node.role)).term, digits)
        const events = yield* node.events.pipe(
          Stream.takeUntil((event) => event._tag === "RoleChange"),
          Stream.runCollect
        )
        const tags = new Set(Array.from(events, (event) => printed(event, JSON.stringify(event))._tag))
        assert.isTrue(tags.has("RoleChange"))
        assert.match(printed(Array.from(events).at(-1)).term, digits)
        const path = `${yield* temporaryDirectory}/backup.db`
        const report = printed(yield* EtcdOperations.backup(path))
        assert.match(report.backup.revision, digits)
        assert.match(report.backup.takenAt, /^\d{4}-\d\d-\d\dT/)
        for (const { took } of [report, ...report.steps]) assert.match(took, duration)
        const planned = printed(yield* EtcdOperations.backup(path, { dryRun: true }))
        assert.deepInclude(planned.steps[0], { outcome: "planned", took: "0" })
        const sent = printed(yield* EtcdOperations.backupToSink(Sink.map(Sink.drain, () => 7n)))
        assert.strictEqual(sent.result, "7")
        assert.strictEqual(printed(yield* EtcdOperations.backupToSink(Sink.drain, { dryRun: true })).result, null)
        const file = printed(yield* EtcdMaintenance.snapshotToFile(`${yield* temporaryDirectory}/snapshot.db`))
        // etcd 3.6 and newer know it, some time after they serve.
        for (const { storageVersion } of [file, report.backup])
          assert.match(String(storageVersion), /^(null|\d+\.\d+\.\d+)$/)
        const directory = yield* temporaryDirectory
        assert.match(printed((yield* EtcdOperations.backupToDirectory(directory)).backup).revision, digits)
        for (const stored of yield* EtcdOperations.listBackups(directory))
          assert.match(printed(stored).memberId, digits)
        assert.match(printed(yield* EtcdOperations.findCorrupt()).revision, digits)
      }).pipe(Effect.provide(NodeServices.layer))
    )

    it.effect("is a cluster, by its members", () =>
      Effect.gen(function* () {
        const cluster = yield* EtcdCluster.ephemeral({ size: 1, log: false })
        const leader = yield* cluster.awaitLeader
        assert.deepStrictEqual(printed(cluster), { members: [printed(leader)], leader: leader.name })
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )

    it.effect("is equal to a plain object in other respects", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("json/plain", "")
        const plain = { ...header }
        nodeAssert.deepStrictEqual(header, plain)
        assert.deepStrictEqual(header, plain)
        assert.isTrue(Equal.equals(header, plain))
        assert.strictEqual(Object.getOwnPropertyNames(header).includes("toJSON"), false)
        assert.deepStrictEqual(structuredClone(header), plain)
        assert.deepStrictEqual(EtcdResponse.toJson({ own: plain, at: [header.revision], none: undefined }), {
          own: JSON.parse(JSON.stringify(header)),
          at: [String(header.revision)]
        })
      })
    )
  })

  it("is looked at for every interface that has what JSON does not", () => {
    const has =
      /\b(bigint|LeaseId|MemberId|ClusterId|Uint8Array|Option\.Option|Duration\.Duration|DateTime\.Utc|SemVer\.SemVer)\b/
    const propertiesOf = (name: string) =>
      Result.getOrElse(
        Result.try(() => Declarations.propertiesOf(name)),
        () => []
      )
    const found = Declarations.names.filter(
      (name) =>
        // What is given, and what only asks.
        !/(Options|Expected|Input|Service|Store)$/.test(name) &&
        propertiesOf(name).some(({ type }) => has.test(type) && !/=>|Effect\.|Stream\./.test(type))
    )
    const looked = [
      ...["EtcdResponse.Header", "EtcdKv.RangeResult", "EtcdKv.PutResult", "EtcdKv.DeleteResult", "KeyRange.KeyRange"],
      ...["EtcdLease.Lease", "EtcdLease.Granted", "EtcdLease.TimeToLive", "EtcdAuth.Status"],
      ...["EtcdMaintenance.Status", "EtcdMaintenance.Alarm", "EtcdMaintenance.HashKv", "EtcdMaintenance.SnapshotFile"],
      ...["EtcdMembership.Member", "EtcdBinary.Progress", "EtcdCluster.Cluster"],
      ...["EtcdBinary.EtcdBinary", "EtcdBinary.EtcdUtl", "EtcdConfig.Resolved"],
      ...[
        "EtcdStore.Entry",
        "EtcdStore.Put",
        "EtcdStore.Delete",
        "EtcdStore.ListResult",
        "EtcdStore.Revision",
        "EtcdStore.Snapshot"
      ],
      ...["EtcdProcess.Node", "EtcdMember.Member", "Role.State", "EtcdOperations.Backup", "EtcdOperations.Stored"],
      ...["EtcdOperations.Report", "EtcdOperations.StepReport", "EtcdOperations.BackupReport"],
      "EtcdOperations.SinkReport",
      ...["EtcdLog.Common", "EtcdLog.Entry", "EtcdLog.Failure", "EtcdLog.Ready", "EtcdLog.Unparsed", "EtcdLog.Version"],
      ...["EtcdLog.LocalMember", "EtcdLog.RoleChange", "EtcdLog.LeaderChange", "EtcdLog.PeerUp", "EtcdLog.PeerDown"],
      ...["EtcdSession.Session", "EtcdLock.Held", "EtcdLock.Waiter", "EtcdElection.Leadership", "EtcdElection.Leader"],
      ...["EtcdMirror.View", "EtcdMirror.Put", "EtcdMirror.Delete", "EtcdMirror.Update", "EtcdMirror.Lag"],
      ...["EtcdStm.Done", "EtcdOperations.Comparison"],
      // What is asked of, and what is given: nothing answers with it.
      ...["Role.Status", "EtcdConfig.Context"]
    ]
    assert.deepStrictEqual([...found].sort(), looked.sort())
  })

  /** As TLS gives it: with a certificate that has signed itself. */
  const refused = (): Error => {
    const cert: { issuerCertificate?: unknown; raw: Uint8Array } = { raw: new Uint8Array(2) }
    cert.issuerCertificate = cert
    return Object.assign(new Error("self-signed certificate"), { code: "DEPTH_ZERO_SELF_SIGNED_CERT", cert })
  }

  const details = { message: "no", outcome: "unknown" } as const
  const compacted = EtcdError.make(new EtcdError.Compacted({ ...details, compactedRevision: 7n }))
  const unreachable = EtcdError.make(new EtcdError.Unreachable({ ...details, cause: refused() }))

  /** Each error of which no schema tells what is in it, with what is in it. */
  const others: ReadonlyArray<Error & { readonly _tag: string }> = [
    new EtcdLease.LeaseLost({ id: LeaseId(7n), reason: "refused", message: "no", cause: unreachable }),
    new EtcdSession.SessionLost({
      id: LeaseId(7n),
      incarnation: 1,
      reason: "refused",
      message: "no",
      cause: unreachable
    }),
    new EtcdLock.LockLost({
      names: ["a"],
      token: 7n,
      reason: "fenced",
      message: "no",
      overrun: Duration.seconds(7),
      cause: unreachable
    }),
    new EtcdMirror.MirrorStale({ revision: 7n, age: Duration.zero, maxAge: Duration.infinity, message: "no" }),
    new EtcdStore.EtcdConflict({
      key: "a",
      keyBytes: new Uint8Array([97]),
      expectedRevision: 7n,
      current: Option.none()
    }),
    new EtcdStm.TooManyConflicts({ tries: 7, reason: "changed" }),
    new EtcdSemaphore.LimitMismatch({ name: "a", permits: 7, limit: undefined, message: "no" }),
    new EtcdSemaphore.LimitExceeded({ name: "a", permits: 7, held: 1, limit: 2, message: "no" }),
    new EtcdBarrier.ParticipantsMissing({ name: "a", missing: [{ key: "7", owner: "b" }], message: "no" }),
    new EtcdBarrier.ParticipantsMismatch({ name: "a", participants: 7, found: 1, message: "no" }),
    new EtcdOperationError.ClusterRefused({
      operation: "a",
      finding: "no-quorum",
      evidence: ["7"],
      help: "none",
      message: "no"
    }),
    new EtcdOperationError.OperationFailed({
      operation: "a",
      step: "b",
      done: [{ title: "c", outcome: "done", detail: "7", took: Duration.seconds(7) }],
      cause: unreachable,
      message: "no"
    })
  ]

  /** What fits into a field of a schema. */
  const samples: ReadonlyArray<unknown> = [
    true,
    7n,
    7,
    "7",
    new Uint8Array([55]),
    [7n],
    ["7"],
    [{ option: "7", message: "7" }]
  ]

  const sampleOf = (name: string, field: any): unknown => {
    if (name === "cause") return refused()
    const schema = field.schema ?? field
    const candidates = [...samples, ...(schema.literals ?? [])]
    return candidates.find(Schema.is(schema))
  }

  type Fields = { readonly [name: string]: unknown }

  const ofSchema = (Class: any): ReadonlyArray<Error & { readonly _tag: string }> => {
    const { _tag: _, reason, ...fields } = Class.fields as Fields & { readonly reason?: any }
    return reason?.members === undefined
      ? [new Class(Object.fromEntries(Object.entries(Class.fields).map(([name, one]) => [name, sampleOf(name, one)])))]
      : reason.members.flatMap(ofSchema).map((reason: Error) => new Class({ ...fields, reason }))
  }

  /** The errors that are exported, of all modules. */
  const classes = [Library, Coordination, Testing].flatMap((index) =>
    Object.values(index).flatMap((module) =>
      Object.values(module).filter((one: any) => typeof one === "function" && one.prototype instanceof Error)
    )
  ) as ReadonlyArray<any>

  it("is every error that is exported, with what it says and why, whatever the cause is", () => {
    const withSchema = classes.filter(Schema.isSchema)
    assert.deepStrictEqual(
      classes.filter((one) => !Schema.isSchema(one) && !others.some((error) => error instanceof one)),
      []
    )
    const errors = [...withSchema.flatMap(ofSchema), ...others]
    assert.isAbove(withSchema.length, 80)
    for (const error of errors) {
      const { cause, message, reason, ...fields } = printed(error, error._tag)
      const { reason: why = error } = error as { readonly reason?: Error }
      assert.strictEqual(fields._tag, error._tag)
      assert.strictEqual(typeof reason === "object" ? reason.message : message, error.message, error._tag)
      const shown = (typeof reason === "object" ? reason : { cause }).cause
      if (!(why instanceof Error) || why.cause === undefined) continue
      if (why.cause instanceof EtcdError.EtcdError) {
        const { message, name } = why.cause
        assert.deepInclude(shown, { name, message, _tag: "EtcdError" })
        assert.deepStrictEqual(shown, EtcdResponse.toJson(why.cause))
      } else {
        const { code, name } = why.cause as NodeJS.ErrnoException
        assert.deepStrictEqual(shown, { name, message: (why.cause as Error).message, code }, error._tag)
      }
    }
  })

  it("is what is in an error", () => {
    const text = JSON.stringify(compacted)
    assert.deepInclude(JSON.parse(text), { _tag: "EtcdError" })
    assert.deepStrictEqual(JSON.parse(text).reason, { _tag: "Compacted", ...details, compactedRevision: "7" })
    const wrong = new Library.EtcdMemberError.WrongCluster({ message: "no", expected: 1n, found: [2n, 3n] })
    assert.deepInclude(printed(wrong), { expected: "1", found: ["2", "3"] })
    assert.deepInclude(printed(others.find(({ _tag }) => _tag === "LockLost")), { token: "7", overrun: "7s" })
    const failed = printed(others.find(({ _tag }) => _tag === "OperationFailed"))
    assert.deepStrictEqual(failed.done, [{ title: "c", outcome: "done", detail: "7", took: "7s" }])
    assert.deepInclude(printed(others.find(({ _tag }) => _tag === "MirrorStale")), { maxAge: "Infinity" })
  })

  it.effect("is a configuration, without its secrets, and whatever else there is", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.decode({
        electionTimeout: "1s",
        discoveryPassword: "hunter2",
        discovery: "http://me:hunter2@a:1/token",
        discoveryProxy: "http://me:hunter2@b:1",
        quotaBackendBytes: "8 GiB"
      })
      assert.notInclude(JSON.stringify(options), "hunter2")
      assert.notInclude(inspect(options, { depth: 9 }), "hunter2")
      const context = { version: SemVer.parseUnsafe("3.5.30"), dataDir: "/data" }
      const { discoveryPassword: _, ...older } = options
      const resolved = yield* EtcdConfig.resolve(older, context)
      assert.notInclude(JSON.stringify(resolved), "hunter2")
      assert.notInclude(JSON.stringify(EtcdResponse.toJson({ password: Redacted.make("hunter2") })), "hunter2")
      assert.deepStrictEqual(printed(KeyRange.interval("a", "b")), { key: "a", end: "b" })
      assert.deepStrictEqual(EtcdResponse.toJson([MemberId(7n), ClusterId(8n), new Map([["a", 1n]]), new Set([2n])]), [
        "7",
        "8",
        [["a", "1"]],
        ["2"]
      ])
    })
  )

  it("is a value of Effect's or JavaScript's own that is in it", () => {
    const at = DateTime.makeUnsafe(0)
    const shown = (value: unknown): unknown => JSON.parse(JSON.stringify(EtcdResponse.toJson({ value }))).value
    const cases: ReadonlyArray<readonly [value: unknown, expected: unknown]> = [
      [Option.some(7n), "7"],
      [Option.none(), null],
      [Option.some(Option.some(Duration.seconds(7))), "7s"],
      [Duration.infinity, "Infinity"],
      [at, "1970-01-01T00:00:00.000Z"],
      [DateTime.setZoneOffset(at, 0), "1970-01-01T00:00:00.000Z"],
      [Exit.succeed(7n), { _id: "Exit", _tag: "Success", value: "7" }],
      [
        Cause.fail(new Error("no")),
        { _id: "Cause", reasons: [{ _tag: "Fail", error: { name: "Error", message: "no" } }] }
      ],
      [Result.succeed(7n), { _id: "Result", _tag: "Success", value: "7" }],
      [new Uint8Array([97, 98]), "ab"],
      [Buffer.from("ab"), "ab"],
      [new Uint8Array([97, 98]).buffer, "ab"],
      [new DataView(new Uint8Array([97, 98]).buffer, 1), "b"],
      [new Uint16Array([1, 2]), [1, 2]],
      [new Float64Array([0.5]), [0.5]],
      [new BigInt64Array([7n]), ["7"]],
      [Effect.sync(() => 7n), undefined],
      [{ "~mine": 1, "~effect/Mark": 2, "~effect-etcd/Mark": 3 }, { "~mine": 1 }],
      [new AggregateError([new Error("a")], "all").errors, [{ name: "Error", message: "a" }]],
      [
        new RangeError("no", { cause: new Error("why") }),
        { name: "RangeError", message: "no", cause: { name: "Error", message: "why" } }
      ]
    ]
    for (const [value, expected] of cases) assert.deepStrictEqual(shown(value), expected, String(value))
    const failure = shown(Exit.die(unreachable)) as Json
    assert.strictEqual(failure.cause.reasons[0].defect.reason.cause.code, "DEPTH_ZERO_SELF_SIGNED_CERT")
    const noFile = PlatformError.systemError({
      _tag: "NotFound",
      module: "FileSystem",
      method: "open",
      cause: refused()
    })
    const notFound = { name: "PlatformError", message: noFile.message, _tag: "PlatformError" }
    assert.deepInclude(shown(noFile), notFound)
    assert.strictEqual((shown(noFile) as Json).reason.cause.message, "self-signed certificate")
    const operation = { operation: "a", step: "b", done: [], message: "no" }
    const stopped = new EtcdOperationError.OperationFailed({ ...operation, cause: noFile })
    assert.deepInclude(printed(stopped).cause, notFound)
    // A field of this name is a field, and no prototype.
    const text = '{"__proto__":{"a":"1"}}'
    assert.strictEqual(JSON.stringify(EtcdResponse.toJson(JSON.parse(text))), text)
  })

  it("ends where something is in itself", () => {
    const shown = (value: unknown): unknown => JSON.parse(JSON.stringify(EtcdResponse.toJson(value)))
    const object: { [name: string]: unknown } = { a: 1n }
    object.self = object
    object.list = [object]
    object.map = new Map([["in", object]])
    assert.deepStrictEqual(shown(object), {
      a: "1",
      self: "[Circular]",
      list: ["[Circular]"],
      map: [["in", "[Circular]"]]
    })
    // What is there twice is no circle.
    const twice = { b: 1n }
    assert.deepStrictEqual(shown([twice, twice]), [{ b: "1" }, { b: "1" }])
    const itself = {
      c: 1n,
      toJSON() {
        return this
      }
    }
    assert.deepStrictEqual(shown({ itself }), { itself: { c: "1" } })
    // Through an error of this library, which asks again.
    const cause: Error & { cause?: unknown } = new Error("first")
    const reason = new EtcdError.Unreachable({ ...details, cause })
    cause.cause = reason
    assert.deepInclude(printed(reason).cause, { message: "first", cause: "[Circular]" })
    // Through what Effect prints of its own errors and data: copies.
    class Failed extends Data.TaggedError("Failed")<{ cause?: unknown }> {}
    const [one, other] = [new Failed({}), new Failed({})]
    Object.assign(one, { cause: other })
    Object.assign(other, { cause: one })
    const failed = { name: "Failed", message: "", _tag: "Failed" }
    assert.deepStrictEqual(shown({ one }), { one: { ...failed, cause: { ...failed, cause: "[Circular]" } } })
    assert.deepStrictEqual(shown({ one, other: 1 }), {
      one: { ...failed, cause: { ...failed, cause: "[Circular]" } },
      other: 1
    })
    class Lazy {
      readonly parent: Lazy
      constructor(parent?: Lazy) {
        this.parent = parent ?? this
      }
      toJSON() {
        return { copy: { ...this } }
      }
    }
    assert.deepStrictEqual(shown(new Lazy(new Lazy())), { copy: { parent: { copy: { parent: "[Circular]" } } } })
  })

  it("says why where something cannot be printed, and prints the rest", () => {
    const broken = () => {
      throw new Error("broken")
    }
    const value = {
      asked: { d: 1, toJSON: broken },
      read: {
        get a() {
          return broken()
        },
        b: 7n
      },
      list: [{ [Symbol.iterator]: broken }, new Proxy({}, { ownKeys: broken })],
      thrown: {
        toJSON() {
          throw Object.create(null)
        }
      }
    }
    const expected = {
      asked: "[not printed: broken]",
      read: { a: "[not printed: broken]", b: "7" },
      list: [{}, "[not printed: broken]"],
      thrown: "[not printed: object]"
    }
    for (const _ of ["", "again"]) {
      assert.deepStrictEqual(JSON.parse(JSON.stringify(EtcdResponse.toJson(value))), expected)
    }
    const error = new EtcdLease.LeaseLost({ id: LeaseId(7n), reason: "refused", message: "no" })
    Object.defineProperty(error, "message", { get: broken })
    assert.deepInclude(printed(error), { message: "[not printed: broken]", id: "7" })
  })

  it("is a transaction, as etcd is asked for it", () => {
    const put = EtcdTxn.put("a", "b", { lease: LeaseId(7n) })
    assert.deepNestedInclude(printed(put), {
      "request.case": "requestPut",
      "request.value.key": "a",
      "request.value.value": "b",
      "request.value.lease": "7"
    })
    const compare = EtcdTxn.modRevision("a").equals(8n)
    assert.deepNestedInclude(printed(compare), {
      "requests[0].key": "a",
      "requests[0].targetUnion": { case: "modRevision", value: "8" }
    })
    const transaction = EtcdTxn.make({ compare, success: { put }, failure: [EtcdTxn.get("a")] })
    assert.deepNestedInclude(printed({ transaction }), {
      "transaction.request.case": "requestTxn",
      "transaction.request.value.compare[0].key": "a",
      "transaction.request.value.success[0].request.value.lease": "7"
    })
    // What is wrong with one is told by it, too.
    assert.match(printed(EtcdTxn.put("", "b")).problem, /key/)
    for (const one of [put, compare, transaction]) assert.deepStrictEqual(EtcdResponse.toJson(one), printed(one))
  })

  it("is what a copy of what is held is, too", () => {
    const held = Printing.showing({ id: 7n, stop: Effect.void }, ({ id }) => ({ id }))
    const copy = Printing.copy(held, { id: 8n })
    assert.deepStrictEqual(printed(copy), { id: "8" })
    assert.deepStrictEqual(Object.keys(copy), ["id", "stop"])
  })
})
