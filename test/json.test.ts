/**
 * Everything that this library answers with, as JSON: printed without a throw, with its numbers and bytes as text, and
 * otherwise like a plain object.
 */
import * as nodeAssert from "node:assert"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdElection from "../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../src/coordination/EtcdLock.ts"
import * as EtcdMirror from "../src/coordination/EtcdMirror.ts"
import * as EtcdSession from "../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../src/coordination/EtcdStm.ts"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdError from "../src/EtcdError.ts"
import { ClusterId, LeaseId, MemberId } from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdResponse from "../src/EtcdResponse.ts"
import * as EtcdStore from "../src/EtcdStore.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Declarations from "./support/declarations.ts"
import { temporaryDirectory } from "./support/machine.ts"

type Json = { readonly [name: string]: any }

/** As it is printed, and read again by somebody else. */
const printed = (value: unknown, what = "it"): Json => {
  const text = JSON.stringify(value)
  assert.isString(text, what)
  // What the fields of classes of others would be printed as.
  assert.notMatch(text, /"_id":"(Option|Effect|Stream)"|"0":\d+,"1":/, `${what}: ${text}`)
  return JSON.parse(text)
}

const digits = /^\d+$/

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
        const { backup } = printed(yield* EtcdOperations.backup(path))
        assert.match(backup.revision, digits)
        const directory = yield* temporaryDirectory
        assert.match(printed((yield* EtcdOperations.backupToDirectory(directory)).backup).revision, digits)
        for (const stored of yield* EtcdOperations.listBackups(directory))
          assert.match(printed(stored).memberId, digits)
        assert.match(printed(yield* EtcdOperations.findCorrupt()).revision, digits)
      }).pipe(Effect.provide(NodeServices.layer))
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
    const has = /\b(bigint|LeaseId|MemberId|ClusterId|Uint8Array)\b/
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
      ...["EtcdResponse.Header", "EtcdKv.RangeResult", "EtcdKv.DeleteResult", "KeyRange.KeyRange"],
      ...["EtcdLease.Lease", "EtcdLease.Granted", "EtcdLease.TimeToLive", "EtcdAuth.Status"],
      ...["EtcdMaintenance.Status", "EtcdMaintenance.Alarm", "EtcdMaintenance.HashKv", "EtcdMembership.Member"],
      ...["EtcdStore.Entry", "EtcdStore.Delete", "EtcdStore.ListResult", "EtcdStore.Revision", "EtcdStore.Snapshot"],
      ...["EtcdProcess.Node", "EtcdMember.Member", "Role.State", "EtcdOperations.Backup", "EtcdOperations.Stored"],
      ...["EtcdLog.LocalMember", "EtcdLog.RoleChange", "EtcdLog.LeaderChange", "EtcdLog.PeerUp", "EtcdLog.PeerDown"],
      ...["EtcdSession.Session", "EtcdLock.Held", "EtcdLock.Waiter", "EtcdElection.Leadership", "EtcdElection.Leader"],
      ...["EtcdMirror.View", "EtcdMirror.Put", "EtcdMirror.Delete", "EtcdMirror.Update", "EtcdMirror.Lag"],
      ...["EtcdStm.Done", "EtcdOperations.Comparison"],
      // What is asked of: nothing answers with it.
      "Role.Status"
    ]
    assert.deepStrictEqual([...found].sort(), looked.sort())
  })

  it("is every error, with what it says", () => {
    const details = { message: "no", outcome: "unknown" } as const
    const errors: ReadonlyArray<readonly [Error, Json]> = [
      [EtcdError.make(new EtcdError.Compacted({ ...details, compactedRevision: 7n })), { compactedRevision: "7" }],
      [EtcdError.make(new EtcdError.ClusterIdMismatch({ ...details, expected: 1n, found: 2n })), { found: "2" }],
      [EtcdError.make(new EtcdError.RevisionRegressed({ ...details, seen: 2n, current: 1n })), { seen: "2" }]
    ]
    for (const [error, fields] of errors) {
      const { _tag, reason } = printed(error)
      assert.strictEqual(_tag, "EtcdError")
      assert.deepInclude(reason, { message: "no", outcome: "unknown", ...fields })
    }
    const cause = EtcdError.make(new EtcdError.Compacted({ ...details, compactedRevision: 7n }))
    const lost = [
      new EtcdLease.LeaseLost({ id: LeaseId(7n), reason: "refused", message: "no", cause }),
      new EtcdSession.SessionLost({ id: LeaseId(7n), incarnation: 1, reason: "refused", message: "no", cause }),
      new EtcdLock.LockLost({
        names: ["a"],
        token: 7n,
        reason: "fenced",
        message: "no",
        overrun: Duration.zero,
        cause
      }),
      new EtcdMirror.MirrorStale({ revision: 7n, age: Duration.zero, maxAge: Duration.infinity, message: "no" }),
      new EtcdStore.EtcdConflict({
        key: "a",
        keyBytes: new Uint8Array([97]),
        expectedRevision: 7n,
        current: Option.none()
      }),
      new EtcdStore.EtcdSchemaError({
        message: "no",
        operation: "decode",
        key: "a",
        keyBytes: new Uint8Array([97]),
        modRevision: 7n,
        cause: "no"
      })
    ]
    for (const error of lost) {
      const text = JSON.stringify(error)
      assert.include(text, '"7"', text)
      assert.include(JSON.parse(text).message, "", text)
      assert.strictEqual(JSON.parse(text)._tag, error._tag)
    }
  })

  it.effect("is a configuration, without its secrets, and whatever else there is", () =>
    Effect.gen(function* () {
      const options = yield* EtcdConfig.decode({
        electionTimeout: "1s",
        discoveryPassword: "hunter2",
        quotaBackendBytes: "8 GiB"
      })
      assert.notInclude(JSON.stringify(options), "hunter2")
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
})
