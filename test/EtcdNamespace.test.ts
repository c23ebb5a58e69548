import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import fc from "fast-check"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdNamespace from "../src/EtcdNamespace.ts"
import type * as EtcdResponse from "../src/EtcdResponse.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import * as Namespace from "../src/internal/kv/namespace.ts"
import { Election } from "../src/internal/proto/election_pb.ts"
import { Lock } from "../src/internal/proto/lock_pb.ts"
import { Auth, KV, Lease } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"

const compare = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b)

/** What etcd makes of a range: see `RangeRequest` in its API. */
const contains = (range: { key: Uint8Array; end: Uint8Array }, key: Uint8Array): boolean => {
  if (range.end.length === 0) return compare(range.key, key) === 0
  if (compare(range.key, key) > 0) return false
  return (range.end.length === 1 && range.end[0] === 0) || compare(key, range.end) < 0
}

const startsWith = (key: Uint8Array, prefix: Uint8Array) => compare(key.subarray(0, prefix.length), prefix) === 0

// Small alphabets, so that prefixes, equal keys and 0xff are common.
const edgy = fc
  .array(fc.constantFrom(0, 1, 0x61, 0xfe, 0xff), { minLength: 1, maxLength: 3 })
  .map((bytes) => Uint8Array.from(bytes))
const anyRange = fc.oneof(
  edgy.map(KeyRange.prefix),
  edgy.map(KeyRange.from),
  edgy.map(KeyRange.single),
  fc.tuple(edgy, edgy).map(([start, end]) => KeyRange.interval(start, end)),
  fc.constant(KeyRange.all)
)

const services = Layer.mergeAll(EtcdKv.layer, EtcdTxn.layer, EtcdWatch.layer)
const live = Layer.provideMerge(EtcdTxn.layer, EtcdLayer.ephemeral({}, { log: false }))
const within = (prefix: KeyRange.Bytes) => Effect.provide(EtcdNamespace.layer(prefix, services))

const entries = (kvs: ReadonlyArray<EtcdResponse.KeyValue>) => kvs.map((kv) => `${kv.keyString}=${kv.valueString}`)
const all = Effect.map(EtcdKv.range(KeyRange.all), (result) => entries(result.kvs))

const bytes = KeyRange.toBytes
const hex = (key: Uint8Array) => Buffer.from(key).toString("hex")

describe("ranges in a namespace", () => {
  it("hold exactly the keys of the range, below the prefix, and none outside", () => {
    fc.assert(
      fc.property(edgy, anyRange, edgy, (prefix, range, key) => {
        const entered = Namespace.enterRange(Namespace.make(prefix), { key: range.key, rangeEnd: range.end })
        const outer = { key: entered.key, end: entered.rangeEnd }
        // Every key of the namespace is in it if and only if it was.
        assert.strictEqual(contains(outer, Buffer.concat([prefix, key])), contains(range, key))
        // Nothing else is.
        if (!startsWith(key, prefix) || key.length === prefix.length) assert.isFalse(contains(outer, key))
      }),
      { numRuns: 20_000 }
    )
  })

  it("nested are those of the prefixes joined", () => {
    fc.assert(
      fc.property(edgy, edgy, anyRange, edgy, (outer, inner, range, key) => {
        const request = { key: range.key, rangeEnd: range.end }
        const nested = Namespace.enterRange(Namespace.make(outer), Namespace.enterRange(Namespace.make(inner), request))
        const joined = Namespace.enterRange(Namespace.make(Buffer.concat([outer, inner])), request)
        for (const candidate of [key, Buffer.concat([outer, key]), Buffer.concat([outer, inner, key])]) {
          assert.strictEqual(
            contains({ key: nested.key, end: nested.rangeEnd }, candidate),
            contains({ key: joined.key, end: joined.rangeEnd }, candidate)
          )
        }
      }),
      { numRuns: 10_000 }
    )
  })
})

describe("EtcdNamespace", () => {
  layer(live)((it) => {
    const fresh = EtcdKv.delete(KeyRange.all)

    it.effect("reads, writes and deletes below the prefix, and nothing else", () =>
      Effect.gen(function* () {
        yield* fresh
        for (const key of ["app", "app/", "app0", "ap", "zzz"]) yield* EtcdKv.put(key, "outside")
        yield* Effect.gen(function* () {
          yield* EtcdKv.put("a", "0")
          const put = yield* EtcdKv.put("a", "1", { previousValue: true })
          assert.strictEqual(Option.getOrThrow(put.previous).keyString, "a")
          yield* EtcdKv.put("b", "2")
          assert.deepStrictEqual(yield* all, ["a=1", "b=2"])
          assert.deepStrictEqual(entries((yield* EtcdKv.range(KeyRange.from("b"))).kvs), ["b=2"])
          assert.deepStrictEqual(entries((yield* EtcdKv.range(KeyRange.prefix(""))).kvs), ["a=1", "b=2"])
          assert.strictEqual((yield* EtcdKv.range(KeyRange.all, { countOnly: true })).count, 2n)
          assert.strictEqual(Option.getOrThrow(yield* EtcdKv.get("a")).keyString, "a")
          assert.deepStrictEqual(entries(yield* Stream.runCollect(EtcdKv.stream(KeyRange.all, { pageSize: 1 }))), [
            "a=1",
            "b=2"
          ])
          const deleted = yield* EtcdKv.delete(KeyRange.all, { previousValues: true })
          assert.deepStrictEqual(entries(deleted.previous), ["a=1", "b=2"])
          yield* EtcdKv.put("c", "3")
        }).pipe(within("app/"))
        assert.deepStrictEqual(yield* all, [
          "ap=outside",
          "app=outside",
          "app/=outside",
          "app/c=3",
          "app0=outside",
          "zzz=outside"
        ])
      })
    )

    it.effect("an empty key is refused as etcd refuses it, and not taken for the prefix", () =>
      Effect.gen(function* () {
        const empty: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn>> = [
          EtcdKv.get(""),
          EtcdKv.put("", "x"),
          EtcdKv.delete(""),
          EtcdTxn.commit(EtcdTxn.put("", "x")),
          Stream.runDrain(EtcdKv.stream(""))
        ]
        for (const call of empty) {
          const outside = yield* Effect.flip(call)
          const inside = yield* Effect.flip(within("app/")(call))
          assert.strictEqual(outside.reason._tag, "InvalidArgument")
          assert.strictEqual(inside.reason._tag, "InvalidArgument")
          assert.strictEqual(inside.reason.outcome, "not-applied")
        }
        const client = EtcdNamespace.fromClient(yield* EtcdClient.EtcdClient, "app/")
        const raw = client.unary(KV.method.txn, { success: [{ request: { case: "requestPut", value: {} } }] })
        assert.strictEqual((yield* Effect.flip(raw)).reason._tag, "InvalidArgument")
        const missing = yield* EtcdKv.delete("nothing", { errorOnMissing: true }).pipe(within("app/"), Effect.flip)
        assert.strictEqual(missing.message, 'There is no key "nothing".')
      })
    )

    it.effect("transactions, nested ones included", () =>
      Effect.gen(function* () {
        yield* fresh
        yield* EtcdKv.put("k", "outside")
        const txn = EtcdTxn.make({
          compare: [EtcdTxn.missing("k"), EtcdTxn.missing(KeyRange.all)],
          success: [
            EtcdTxn.make({
              compare: [EtcdTxn.missing(KeyRange.from("a"))],
              success: [EtcdTxn.put("k", "1"), EtcdTxn.put("l", "2")]
            }),
            EtcdTxn.range(KeyRange.all)
          ],
          failure: [EtcdTxn.delete(KeyRange.all, { previousValues: true }), EtcdTxn.get("k")]
        })
        const first = yield* EtcdTxn.commit(txn).pipe(within("ns/"))
        assert(first.succeeded)
        assert.deepStrictEqual(entries(first.results[1].kvs), ["k=1", "l=2"])
        const overwrite = EtcdTxn.make({
          compare: [EtcdTxn.value("k").equals("1")],
          success: EtcdTxn.put("k", "3", { previousValue: true })
        })
        const overwritten = yield* EtcdTxn.commit(overwrite).pipe(within("ns/"))
        assert(overwritten.succeeded)
        assert.strictEqual(Option.getOrThrow(overwritten.results.previous).keyString, "k")
        const second = yield* EtcdTxn.commit(txn).pipe(within("ns/"))
        assert(!second.succeeded)
        assert.deepStrictEqual(entries(second.results[0].previous), ["k=3", "l=2"])
        assert.deepStrictEqual(yield* all, ["k=outside"])
      })
    )

    it.effect("watches see the namespace and no more", () =>
      Effect.gen(function* () {
        yield* fresh
        const { header } = yield* EtcdKv.put("w/a", "1")
        yield* EtcdKv.put("w", "outside")
        yield* EtcdKv.put("w0", "outside")
        yield* EtcdKv.put("w/b", "2")
        yield* EtcdKv.delete("w/a")
        for (const range of [KeyRange.all, KeyRange.from("a"), KeyRange.prefix("")]) {
          const events = yield* EtcdWatch.watch(range, { startRevision: header.revision, previousValues: true }).pipe(
            Stream.take(3),
            Stream.runCollect,
            within("w/")
          )
          assert.deepStrictEqual(
            events.map((event) => [
              event._tag,
              event.kv.keyString,
              Option.map(event.previous, (kv) => [kv.keyString, kv.valueString])
            ]),
            [
              ["Put", "a", Option.none()],
              ["Put", "b", Option.none()],
              ["Delete", "a", Option.some(["a", "1"])]
            ]
          )
        }
      })
    )

    it.effect("nested, and next to each other", () =>
      Effect.gen(function* () {
        yield* fresh
        yield* EtcdKv.put("k", "inner").pipe(within("b/"), within("a/"))
        yield* EtcdKv.put("k", "outer").pipe(within("a/"))
        yield* EtcdKv.put("k", "other").pipe(within("c/"))
        yield* EtcdKv.put("k", "none").pipe(within(""))
        assert.deepStrictEqual(yield* all, ["a/b/k=inner", "a/k=outer", "c/k=other", "k=none"])
        assert.deepStrictEqual(yield* all.pipe(within("b/"), within("a/")), ["k=inner"])
        assert.deepStrictEqual(yield* all.pipe(within("a/")), ["b/k=inner", "k=outer"])
      })
    )

    it.effect("the keys of a lease, permissions, and etcd's own locks and elections", () =>
      Effect.gen(function* () {
        yield* fresh
        const outside = yield* EtcdClient.EtcdClient
        const inside = EtcdNamespace.fromClient(outside, "n/")
        const { ID } = yield* outside.unary(Lease.method.leaseGrant, { TTL: 60n })
        for (const key of ["n", "n/", "n/a", "m"]) {
          yield* outside.unary(KV.method.put, { key: bytes(key), lease: ID })
        }
        const listed = yield* inside.unary(Lease.method.leaseTimeToLive, { ID, keys: true })
        assert.deepStrictEqual(listed.keys.map(hex), [hex(bytes("a"))])

        const locked = yield* inside.unary(Lock.method.lock, { name: bytes("lock"), lease: ID })
        assert.match(Buffer.from(locked.key).toString(), /^lock\//)
        assert.strictEqual((yield* EtcdKv.range(KeyRange.prefix("n/lock/"))).kvs.length, 1)
        yield* inside.unary(Lock.method.unlock, { key: locked.key })
        assert.strictEqual((yield* EtcdKv.range(KeyRange.prefix("n/lock/"))).kvs.length, 0)

        const name = bytes("vote")
        const { leader } = yield* inside.unary(Election.method.campaign, { name, lease: ID, value: bytes("me") })
        assert(leader !== undefined)
        assert.match(Buffer.from(leader.key).toString(), /^vote\//)
        yield* inside.unary(Election.method.proclaim, { leader, value: bytes("still me") })
        const found = yield* inside.unary(Election.method.leader, { name })
        assert.strictEqual(hex(found.kv!.key), hex(leader.key))
        const observed = yield* Stream.runHead(inside.serverStream(Election.method.observe, { name }))
        assert.strictEqual(hex(Option.getOrThrow(observed).kv!.key), hex(leader.key))
        yield* inside.unary(Election.method.resign, { leader })
        assert.strictEqual((yield* EtcdKv.range(KeyRange.prefix("n/vote/"))).kvs.length, 0)

        yield* outside.unary(Auth.method.roleAdd, { name: "r" })
        const grant = (client: EtcdClient.Client, range: KeyRange.KeyRange) =>
          client.unary(Auth.method.roleGrantPermission, {
            name: "r",
            perm: { key: range.key, rangeEnd: range.end }
          })
        const permissions = (client: EtcdClient.Client) =>
          Effect.map(client.unary(Auth.method.roleGet, { role: "r" }), ({ perm }) =>
            perm.map(({ key, rangeEnd }) => `${Buffer.from(key)} ${Buffer.from(rangeEnd)}`)
          )
        yield* grant(inside, KeyRange.single("a"))
        yield* grant(inside, KeyRange.prefix("b/"))
        yield* grant(inside, KeyRange.from("c"))
        yield* grant(outside, KeyRange.prefix("m"))
        yield* grant(outside, KeyRange.interval("n/x", "o"))
        assert.sameMembers(yield* permissions(inside), ["a ", "b/ b0", "c \0", "x \0"])
        assert.sameMembers(yield* permissions(outside), ["n/a ", "n/b/ n/b0", "n/c n0", "m n", "n/x o"])
        yield* inside.unary(Auth.method.roleRevokePermission, { role: "r", key: bytes("b/"), rangeEnd: bytes("b0") })
        yield* grant(outside, KeyRange.all)
        assert.sameMembers(yield* permissions(inside), ["a ", "c \0", "x \0", "\0 \0"])
      })
    )

    it.effect("random ranges, read and deleted, against the same without a namespace", () =>
      Effect.gen(function* () {
        yield* fresh
        const keys = fc.sample(edgy, 120)
        yield* Effect.forEach(keys, (key) => EtcdKv.put(key, ""), { discard: true })
        const stored = (yield* EtcdKv.range(KeyRange.all)).kvs.map((kv) => kv.key)
        const client = yield* EtcdClient.EtcdClient
        const expected = (prefix: Uint8Array, range: KeyRange.KeyRange) =>
          stored
            .filter((key) => key.length > prefix.length && startsWith(key, prefix))
            .map((key) => key.subarray(prefix.length))
            .filter((key) => contains(range, key))
            .map(hex)
        yield* Effect.forEach(
          fc.sample(fc.tuple(edgy, anyRange), 300),
          ([prefix, range]) =>
            Effect.gen(function* () {
              const kv = EtcdKv.fromClient(EtcdNamespace.fromClient(client, prefix))
              const read = yield* kv.range(range)
              assert.deepStrictEqual(
                read.kvs.map((kv) => hex(kv.key)),
                expected(prefix, range)
              )
              assert.strictEqual(read.count, BigInt(read.kvs.length))
            }),
          { concurrency: 8, discard: true }
        )
        const prefix = Uint8Array.of(0xff)
        const gone = expected(prefix, KeyRange.all)
        const kv = EtcdKv.fromClient(EtcdNamespace.fromClient(client, prefix))
        const deleted = yield* kv.delete(KeyRange.all, { previousValues: true })
        assert.deepStrictEqual(
          deleted.previous.map((kv) => hex(kv.key)),
          gone
        )
        const left = (yield* EtcdKv.range(KeyRange.all)).kvs.length
        assert.strictEqual(left, stored.length - gone.length)
      })
    )
  })
})
