import type { MessageInitShape } from "@bufbuild/protobuf"
import { assert, describe, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import fc from "fast-check"
import * as EtcdBatch from "../../src/EtcdBatch.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdNamespace from "../../src/EtcdNamespace.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as Origin from "../../src/internal/client/origin.ts"
import * as Fence from "../../src/internal/coordination/fence.ts"
import { check } from "../../src/internal/kv/txnCheck.ts"
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  type CompareSchema,
  type DeleteRangeRequestSchema,
  KV,
  Lease,
  type PutRequestSchema,
  type RequestOpSchema,
  type TxnRequestSchema
} from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"

type Put = MessageInitShape<typeof PutRequestSchema>
type DeleteRange = MessageInitShape<typeof DeleteRangeRequestSchema>
type Txn = MessageInitShape<typeof TxnRequestSchema>
type Operation = MessageInitShape<typeof RequestOpSchema>
type Compare = MessageInitShape<typeof CompareSchema>

const ephemeral = EtcdLayer.ephemeral({}, { log: false })
const live = Layer.provideMerge(EtcdTxn.layer, ephemeral)

const bytes = KeyRange.toBytes

const reason = <A, R>(effect: Effect.Effect<A, EtcdError.EtcdError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** A lock, as far as a fence is concerned: a key, and who is told that it is not there any more. */
interface Held {
  readonly fence: Fence.Fence
  readonly release: Effect.Effect<void, EtcdError.EtcdError>
  readonly refusals: () => number
}

const hold = Effect.fnUntraced(function* (client: EtcdClient.Client, key: string) {
  const kv = EtcdKv.fromClient(client)
  const { header } = yield* kv.put(key, "")
  let refusals = 0
  const held: Held = {
    fence: {
      compares: Fence.below(client, EtcdTxn.createRevision(key).equals(header.revision)),
      root: Origin.of(client).root,
      onFenced: () => {
        refusals++
      }
    },
    release: Effect.asVoid(kv.delete(key)),
    refusals: () => refusals
  }
  return held
})

const lock = (key: string) => Effect.flatMap(EtcdClient.EtcdClient, (client) => hold(client, key))

const fenced = (held: Held) => Effect.map(EtcdClient.EtcdClient, (client) => Fence.client(client, held.fence))

const valueOf = (key: string) => Effect.map(EtcdKv.getString(key), Option.getOrUndefined)

/** A node with nothing in it, and its client. */
const node = Effect.map(Layer.build(Layer.fresh(ephemeral)), Context.get(EtcdClient.EtcdClient))

type Write = { readonly put: Put } | { readonly remove: DeleteRange } | { readonly txn: Txn }

const send = (client: EtcdClient.Client, write: Write): Effect.Effect<object, EtcdError.EtcdError> => {
  if ("put" in write) return client.unary(KV.method.put, write.put)
  return "remove" in write ? client.unary(KV.method.deleteRange, write.remove) : client.unary(KV.method.txn, write.txn)
}

interface Side {
  readonly client: EtcdClient.Client
  /** What all answers of the node have in their header, and no others. */
  readonly ids: { readonly clusterId: bigint; readonly memberId: bigint; readonly raftTerm: bigint }
}

const side = Effect.fnUntraced(function* (client: EtcdClient.Client) {
  const { header } = yield* EtcdKv.fromClient(client)
    .get("none")
    .pipe(Effect.andThen(client.unary(KV.method.range, { key: bytes("none") })))
  assert(header !== undefined)
  const { clusterId, memberId, raftTerm } = header
  const result: Side = { client, ids: { clusterId, memberId, raftTerm } }
  return result
})

/** An answer, or a failure, with nothing in it that two nodes do not have in common. */
const outcome = Effect.fnUntraced(function* ({ client, ids }: Side, write: Write) {
  const result = yield* Effect.result(send(client, write))
  if (Result.isFailure(result)) {
    const { endpoint = "", message, method, outcome, _tag } = result.failure.reason
    return { _tag, outcome, method, message: message.replaceAll(endpoint, "there") }
  }
  const { header } = result.success as { header: Side["ids"] & { readonly revision: bigint } }
  const { clusterId, memberId, raftTerm } = header
  assert.deepStrictEqual({ clusterId, memberId, raftTerm }, ids)
  return { ...result.success, header: header.revision }
})

/** Two nodes on which the same has happened, the one seen through its client, the other through fences that hold. */
const sides = Effect.fnUntraced(function* (fences: number) {
  const plain = yield* node
  const other = yield* node
  let through = other
  for (let count = 0; count < fences; count++) {
    yield* hold(plain, `lock/${count}`)
    through = Fence.client(through, (yield* hold(other, `lock/${count}`)).fence)
  }
  for (const client of [plain, other]) yield* client.unary(Lease.method.leaseGrant, { ID: 7n, TTL: 600n })
  return { plain: yield* side(plain), fenced: yield* side(through) }
})

const same = Effect.fnUntraced(function* (
  { fenced, plain }: { readonly plain: Side; readonly fenced: Side },
  write: Write
) {
  const expected = yield* outcome(plain, write)
  const actual = yield* outcome(fenced, write)
  const shown = JSON.stringify(write, (_, value) => (typeof value === "bigint" ? String(value) : value))
  assert.deepStrictEqual(actual, expected, shown)
  return expected
})

const key = bytes("k")
const everything = { key: new Uint8Array(1), rangeEnd: new Uint8Array(1) }

const put = (value: Put): Operation => ({ request: { case: "requestPut", value } })
const remove = (value: DeleteRange): Operation => ({ request: { case: "requestDeleteRange", value } })
const get = (key: Uint8Array): Operation => ({ request: { case: "requestRange", value: { key } } })
const txn = (value: Txn): Operation => ({ request: { case: "requestTxn", value } })
const isVersion = (key: Uint8Array, version: bigint): Compare => ({
  key,
  target: Compare_CompareTarget.VERSION,
  result: Compare_CompareResult.EQUAL,
  targetUnion: { case: "version", value: version }
})

/** One after the other; each finds what those before it have left. */
const writes: ReadonlyArray<Write> = [
  { put: { key, value: bytes("1") } },
  { put: { key, value: bytes("2"), prevKv: true, lease: 7n } },
  { put: { key, ignoreValue: true, prevKv: true } },
  { put: { key, value: bytes("3"), lease: 7n } },
  { put: { key, value: bytes("4"), ignoreLease: true, prevKv: true } },
  { put: { key: bytes("none"), prevKv: true } },
  { put: { key: bytes("absent"), ignoreValue: true } },
  { put: { key: bytes("absent"), lease: 8n } },
  { put: { key: new Uint8Array(0), value: bytes("1") } },
  { put: { key, value: bytes("1"), ignoreValue: true } },
  { put: { key, value: "no bytes" as unknown as Uint8Array } },
  { remove: { key: bytes("absent") } },
  { remove: { key: bytes("absent"), prevKv: true } },
  { remove: { key: bytes("none"), prevKv: true } },
  { put: { key: bytes("range/1"), value: bytes("1") } },
  { put: { key: bytes("range/2"), value: bytes("2") } },
  { remove: { key: bytes("range/"), rangeEnd: bytes("range0"), prevKv: true } },
  { remove: { key: bytes("range/"), rangeEnd: bytes("range0") } },
  { txn: { success: [put({ key, value: bytes("5"), prevKv: true }), get(key)] } },
  {
    txn: { compare: [isVersion(key, 99n)], success: [put({ key })], failure: [get(key), remove({ key: bytes("x") })] }
  },
  { txn: { compare: [isVersion(key, 99n)], success: [put({ key })] } },
  { txn: { compare: [isVersion(key, 99n)], failure: [put({ key: bytes("failed"), value: bytes("1") })] } },
  { txn: { compare: [isVersion(key, 99n)], success: [get(key)], failure: [put({ key: bytes("failed") })] } },
  { txn: { success: [txn({ success: [txn({ success: [put({ key: bytes("deep"), prevKv: true })] })] }), get(key)] } },
  {
    txn: {
      success: [
        txn({
          compare: [isVersion(key, 99n)],
          success: [put({ key })],
          failure: [put({ key: bytes("inner") }), get(key)]
        }),
        remove({ key: bytes("deep"), prevKv: true })
      ]
    }
  },
  { txn: {} },
  { txn: { success: [get(key)] } },
  { txn: { success: [{}] } },
  { txn: { success: [put({ key }), put({ key })] } },
  { txn: { success: [put({ key: bytes("absent"), ignoreLease: true })] } },
  { txn: { success: [{ request: { case: "requestRange", value: { key, revision: 1n << 40n } } }, put({ key })] } }
]

describe("a fence", () => {
  layer(live)((it) => {
    it.effect("lets every write land while the lock is held, with the answer that it would have without", () =>
      Effect.gen(function* () {
        for (const fences of [1, 2]) {
          const both = yield* sides(fences)
          for (const write of writes) yield* same(both, write)
          const left = { key: bytes("a"), rangeEnd: bytes("l") }
          const stores = yield* Effect.forEach([both.plain, both.fenced], ({ client }) =>
            client.unary(KV.method.range, left)
          )
          assert.deepStrictEqual(stores[1]?.kvs, stores[0]?.kvs)
          assert.isAbove(stores[0]?.kvs.length ?? 0, 2)
        }
      }).pipe(Effect.scoped)
    )

    it.effect("does to random writes nothing that can be told", () =>
      Effect.gen(function* () {
        const both = yield* sides(2)
        const some = fc.constantFrom("a", "b", "c", "d").map(bytes)
        const end = fc.constantFrom(new Uint8Array(0), bytes("c"), bytes("l"))
        const value = fc.constantFrom("", "1", "2").map(bytes)
        const lease = fc.oneof({ weight: 5, arbitrary: fc.constant(0n) }, fc.constantFrom(7n, 8n))
        const rarely = fc.oneof({ weight: 5, arbitrary: fc.constant(false) }, fc.constant(true))
        // Where a put has both faults, it is told of the one alone, and of the other one in a transaction.
        const aPut = fc
          .record({ key: some, value, lease, prevKv: fc.boolean(), ignoreValue: rarely, ignoreLease: rarely })
          .map((put) => (put.ignoreValue && put.lease === 8n ? { ...put, lease: 7n } : put))
        const aRemove = fc.record({ key: some, rangeEnd: end, prevKv: fc.boolean() })
        const aRange = fc.record({ key: some, rangeEnd: end, countOnly: rarely, limit: fc.constantFrom(0n, 1n) })
        const result = fc.constantFrom(
          Compare_CompareResult.EQUAL,
          Compare_CompareResult.NOT_EQUAL,
          Compare_CompareResult.GREATER,
          Compare_CompareResult.LESS
        )
        const union = fc.oneof(
          fc.record({ case: fc.constant("version" as const), value: fc.bigInt(0n, 3n) }),
          fc.record({ case: fc.constant("value" as const), value }),
          fc.record({ case: fc.constant("createRevision" as const), value: fc.bigInt(0n, 2n) }),
          fc.record({ case: fc.constant("lease" as const), value: fc.constantFrom(0n, 7n) })
        )
        const targets = {
          version: Compare_CompareTarget.VERSION,
          value: Compare_CompareTarget.VALUE,
          createRevision: Compare_CompareTarget.CREATE,
          lease: Compare_CompareTarget.LEASE
        }
        const aCompare = fc
          .record({ key: some, rangeEnd: end, result, targetUnion: union })
          .map((compare): Compare => ({ ...compare, target: targets[compare.targetUnion.case] }))
        const { aTxn } = fc.letrec<{ operation: Operation; aTxn: Txn }>((tie) => ({
          operation: fc.oneof(
            { depthSize: "small", withCrossShrink: true },
            aPut.map(put),
            aRemove.map(remove),
            aRange.map((value): Operation => ({ request: { case: "requestRange", value } })),
            tie("aTxn").map(txn)
          ),
          aTxn: fc.record({
            compare: fc.array(aCompare, { maxLength: 2 }),
            success: fc.array(tie("operation"), { maxLength: 3 }),
            failure: fc.array(tie("operation"), { maxLength: 3 })
          })
        }))
        const aWrite: fc.Arbitrary<Write> = fc.oneof(
          aPut.map((put) => ({ put })),
          aRemove.map((remove) => ({ remove })),
          { weight: 4, arbitrary: aTxn.map((txn) => ({ txn })) }
        )
        // Of what `check` refuses, some would be the end of the server.
        const sendable = fc
          .sample(aWrite, 1200)
          .filter((write) => !("txn" in write) || check(write.txn, undefined) === undefined)
        const seen = new Map<string, number>()
        for (const write of sendable) {
          const expected = yield* same(both, write)
          const kind =
            "_tag" in expected ? expected._tag : "succeeded" in expected ? String(expected.succeeded) : "single"
          seen.set(kind, (seen.get(kind) ?? 0) + 1)
        }
        for (const kind of ["true", "false", "single", "KeyNotFound", "LeaseNotFound", "InvalidArgument"]) {
          assert.isAbove(seen.get(kind) ?? 0, 5, kind)
        }
        const stores = yield* Effect.forEach([both.plain, both.fenced], ({ client }) =>
          client.unary(KV.method.range, everything)
        )
        assert.deepStrictEqual(stores[1]?.kvs, stores[0]?.kvs)
      }).pipe(Effect.scoped)
    )

    it.effect("lets no write land once the key is gone, nor when it is there again", () =>
      Effect.gen(function* () {
        const changes: ReadonlyArray<Write> = [
          { put: { key: bytes("gone/k"), value: bytes("late") } },
          { remove: { key: bytes("gone/k") } },
          { remove: everything },
          { txn: { success: [put({ key: bytes("gone/k"), value: bytes("late") })] } },
          { txn: { compare: [isVersion(bytes("gone/k"), 99n)], failure: [remove({ key: bytes("gone/k") })] } },
          { txn: { success: [txn({ success: [put({ key: bytes("gone/other") })] })] } }
        ]
        const held = yield* lock("gone/lock")
        const client = yield* fenced(held)
        yield* send(client, { put: { key: bytes("gone/k"), value: bytes("in time") } })
        yield* held.release
        const refused = Effect.forEach(changes, (write) =>
          Effect.gen(function* () {
            const method = "put" in write ? "KV.Put" : "remove" in write ? "KV.DeleteRange" : "KV.Txn"
            const before = held.refusals()
            const told = yield* reason(send(client, write))
            assert.deepInclude(told, { _tag: "Fenced", outcome: "not-applied", method })
            assert.include(told.message, `${method} was refused, and nothing of it was written`)
            assert.strictEqual(held.refusals(), before + 1)
          })
        )
        yield* refused
        yield* EtcdKv.put("gone/lock", "")
        yield* refused
        assert.strictEqual(yield* valueOf("gone/k"), "in time")
        assert.isUndefined(yield* valueOf("gone/other"))
      })
    )

    it.effect("leaves alone what only reads, and what is no key", () =>
      Effect.gen(function* () {
        const held = yield* lock("read/lock")
        const client = yield* fenced(held)
        yield* EtcdKv.put("read/k", "1")
        yield* held.release
        const read = yield* client.unary(KV.method.range, { key: bytes("read/k") })
        assert.strictEqual(read.count, 1n)
        const both = yield* client.unary(KV.method.txn, { success: [get(bytes("read/k"))], failure: [] })
        assert.isTrue(both.succeeded)
        assert.isTrue((yield* client.unary(KV.method.txn, {})).succeeded)
        const { ID } = yield* client.unary(Lease.method.leaseGrant, { TTL: 60n })
        yield* client.unary(Lease.method.leaseRevoke, { ID })
        assert.deepStrictEqual(yield* client.endpoints, yield* (yield* EtcdClient.EtcdClient).endpoints)
        assert.strictEqual(held.refusals(), 0)
      })
    )

    it.effect("stands below namespaces, on either side of it", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const outer = EtcdNamespace.fromClient(client, "ns/")
        const inner = EtcdNamespace.fromClient(outer, "inner/")
        const held = yield* hold(inner, "lock")
        assert.strictEqual(yield* valueOf("ns/inner/lock"), "")
        const writers: ReadonlyArray<readonly [string, EtcdClient.Client]> = [
          ["ns/1", Fence.client(client, held.fence)],
          ["1", Fence.client(outer, held.fence)],
          ["1", Fence.client(inner, held.fence)],
          ["1", EtcdNamespace.fromClient(Fence.client(outer, held.fence), "other/")],
          ["1", Fence.client(EtcdNamespace.fromClient(Fence.client(outer, held.fence), "twice/"), held.fence)]
        ]
        for (const [key, writer] of writers) {
          const kv = EtcdKv.fromClient(writer)
          yield* kv.put(key, "1")
          const { previous } = yield* kv.put(key, "2", { previousValue: true })
          assert.strictEqual(Option.getOrThrow(previous).keyString, key)
          const { deleted, previous: all } = yield* kv.deletePrefix(key, { previousValues: true })
          assert.deepStrictEqual([deleted, ...all.map((kv) => kv.keyString)], [1n, key])
          yield* kv.put(key, "3")
        }
        yield* held.release
        for (const [key, writer] of writers) {
          assert.strictEqual((yield* reason(EtcdKv.fromClient(writer).put(key, "4")))._tag, "Fenced")
          assert.strictEqual((yield* reason(EtcdKv.fromClient(writer).deletePrefix("")))._tag, "Fenced")
        }
        for (const key of ["ns/1", "ns/inner/1", "ns/other/1", "ns/twice/1"]) {
          assert.strictEqual(yield* valueOf(key), "3", key)
        }
      })
    )

    it.effect("holds with batching above it and below it", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdClient.EtcdClient
        const batching = yield* EtcdClient.make({ endpoints: yield* endpoints, batching: true })
        const held = yield* hold(batching, "batch/lock")
        const clients = [
          Fence.client(batching, held.fence),
          yield* EtcdBatch.fromClient(Fence.client(batching, held.fence)),
          Fence.client(yield* EtcdBatch.fromClient(EtcdNamespace.fromClient(batching, "in/")), held.fence)
        ]
        const names = ["batch/1", "batch/2", "batch/3"]
        const all = (client: EtcdClient.Client, value: string) => {
          const kv = EtcdKv.fromClient(client)
          const each = (name: string) => Effect.result(Effect.andThen(kv.getString(name), kv.put(name, value)))
          return Effect.forEach(names, each, { concurrency: "unbounded" })
        }
        for (const client of clients) {
          for (const result of yield* all(client, "1")) assert(Result.isSuccess(result))
        }
        yield* held.release
        for (const client of clients) {
          for (const result of yield* all(client, "2")) {
            assert(Result.isFailure(result))
            assert.deepInclude(result.failure.reason, { _tag: "Fenced", method: "KV.Put" })
          }
        }
        for (const name of names) {
          assert.strictEqual(yield* valueOf(name), "1")
          assert.strictEqual(yield* valueOf(`in/${name}`), "1")
        }
        // More than a server takes at once, whose count includes the fence.
        const again = yield* lock("batch/lock")
        const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(yield* fenced(again)))
        const many = Array.from({ length: 300 }, (_, index) => `batch/many/${index}`)
        yield* Effect.forEach(many, (name) => kv.put(name, ""), { concurrency: "unbounded" })
        assert.lengthOf((yield* EtcdKv.range(KeyRange.prefix("batch/many/"))).kvs, 300)
      }).pipe(Effect.scoped)
    )

    it.effect("within another one both have to hold, and the one that does not is told", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        for (const lost of ["outer", "inner"] as const) {
          const outer = yield* lock("both/outer")
          const inner = yield* lock("both/inner")
          const kv = EtcdKv.fromClient(Fence.client(Fence.client(client, outer.fence), inner.fence))
          yield* kv.put("both/k", lost)
          yield* (lost === "outer" ? outer : inner).release
          assert.deepInclude(yield* reason(kv.put("both/k", "late")), { _tag: "Fenced", method: "KV.Put" })
          assert.deepStrictEqual([outer.refusals(), inner.refusals()], lost === "outer" ? [1, 0] : [0, 1])
          assert.strictEqual(yield* valueOf("both/k"), lost)
          yield* EtcdKv.deletePrefix("both/")
        }
      })
    )

    it.effect("is brought along by the services that are given out, to fibers that do not have it", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const held = yield* lock("services/lock")
        const made = { ...EtcdKv.fromClient(client), getString: () => Effect.succeedSome("made up") }
        const context = Context.make(EtcdClient.EtcdClient, client).pipe(
          Context.add(EtcdKv.EtcdKv, made),
          Context.add(EtcdTxn.EtcdTxn, EtcdTxn.fromClient(EtcdNamespace.fromClient(client, "services/")))
        )
        const inside = Fence.services(context, held.fence)
        const [kv, txn] = [Context.get(inside, EtcdKv.EtcdKv), Context.get(inside, EtcdTxn.EtcdTxn)]
        const below = Context.get(inside, EtcdClient.EtcdClient)
        assert.deepStrictEqual(yield* kv.getString("services/k"), Option.some("made up"))
        const all = (value: string) => [
          kv.put("services/1", value),
          kv.delete("services/2"),
          kv.deletePrefix("services/3", { previousValues: true }),
          txn.commit(EtcdTxn.put("4", value)),
          below.unary(KV.method.put, { key: bytes("services/5"), value: bytes(value) })
        ]
        yield* Effect.all(all("1"))
        yield* held.release
        for (const write of all("2")) assert.strictEqual((yield* reason<unknown, never>(write))._tag, "Fenced")
        for (const index of [1, 4, 5]) assert.strictEqual(yield* valueOf(`services/${index}`), "1")
        assert.isTrue(Option.isNone(yield* txn.commit(EtcdTxn.get("2"))))
        assert.include((yield* reason(kv.put("", "")))?.message, "EtcdKv.put: the key has to be")
        const noOptions = 5 as unknown as EtcdKv.PutOptions
        assert.strictEqual((yield* reason(kv.put("k", "", noOptions)))._tag, "InvalidArgument")
      }).pipe(Effect.scoped)
    )

    it.effect("is there for other clients of the same etcd, and not for those of another", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const held = yield* lock("others/lock")
        const [endpoint = ""] = yield* client.endpoints
        const same = yield* EtcdClient.make({ endpoints: [endpoint, "http://127.0.0.1:1"], batching: true })
        const elsewhere = yield* node
        const foreign: EtcdClient.Client = {
          unary: (...call) => client.unary(...call),
          serverStream: (...call) => client.serverStream(...call),
          bidirectional: (...call) => client.bidirectional(...call),
          defaults: client.defaults,
          endpoints: client.endpoints
        }
        const write = (client: EtcdClient.Client, value: string) => {
          const services = Context.make(EtcdClient.EtcdClient, client).pipe(
            Context.add(EtcdKv.EtcdKv, EtcdKv.fromClient(client)),
            Context.add(EtcdTxn.EtcdTxn, EtcdTxn.fromClient(EtcdNamespace.fromClient(client, "others/")))
          )
          const put = { key: bytes("others/3"), value: bytes(value) }
          type Services = EtcdClient.EtcdClient | EtcdKv.EtcdKv | EtcdTxn.EtcdTxn
          const all: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError, Services>> = [
            EtcdKv.put("others/1", value),
            EtcdTxn.commit(EtcdTxn.put("2", value)),
            EtcdClient.EtcdClient.use((client) => client.unary(KV.method.put, put))
          ]
          const one = (write: (typeof all)[number]) =>
            Effect.match(Effect.provide(write, Fence.services(services, held.fence)), {
              onFailure: (error) => error.reason._tag,
              onSuccess: () => "landed"
            })
          return Effect.forEach(all, one)
        }
        const landed = ["landed", "landed", "landed"]
        const refused = ["Fenced", "Fenced", "Fenced"]
        for (const each of [client, same, elsewhere, foreign]) assert.deepStrictEqual(yield* write(each, "1"), landed)
        yield* held.release
        assert.deepStrictEqual(yield* write(same, "2"), refused)
        assert.deepStrictEqual(yield* write(client, "2"), refused)
        assert.strictEqual(yield* valueOf("others/1"), "1")
        assert.deepStrictEqual(yield* write(elsewhere, "2"), landed)
        // Of somebody else's making, it is no client of that etcd, but calls one.
        assert.deepStrictEqual(yield* write(foreign, "2"), refused)
      }).pipe(Effect.scoped)
    )

    it.effect("is there for other clients of the same etcd also when one of them has moved on to other endpoints", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const endpoints = yield* client.endpoints
        const lists = yield* Queue.make<ReadonlyArray<string>>()
        yield* Queue.offer(lists, endpoints)
        const moving = yield* EtcdClient.make({ endpoints: Stream.fromQueue(lists) })
        const [mine, yours] = [yield* hold(moving, "moved/mine"), yield* hold(client, "moved/yours")]
        yield* Queue.offer(lists, ["http://127.0.0.1:1"])
        yield* moving.endpoints.pipe(Effect.repeat({ until: ([now]) => now === "http://127.0.0.1:1" }))
        yield* EtcdKv.deletePrefix("moved/")
        const put = (client: EtcdClient.Client, endpoint?: string) =>
          client.unary(KV.method.put, { key: bytes("moved/1"), value: bytes("late") }, { endpoint })
        assert.strictEqual((yield* reason(put(Fence.client(client, mine.fence))))._tag, "Fenced")
        assert.strictEqual((yield* reason(put(Fence.client(moving, yours.fence), endpoints[0])))._tag, "Fenced")
        assert.isUndefined(yield* valueOf("moved/1"))
      }).pipe(Effect.scoped)
    )

    it.effect("holds for a layer that is provided inside, also where it was built outside already", () =>
      Effect.gen(function* () {
        const held = yield* lock("layers/lock")
        const writing = Effect.provide(EtcdKv.put("layers/k", "v"), EtcdKv.layer)
        const inside = Effect.updateContext(writing, (context: Context.Context<EtcdClient.EtcdClient>) =>
          Fence.services(context, held.fence)
        )
        yield* inside
        yield* held.release
        assert.strictEqual((yield* reason(inside))._tag, "Fenced")
        assert.strictEqual(held.refusals(), 1)
      }).pipe(Effect.provide(EtcdKv.layer))
    )

    it.effect("holds for a client that is made of the fenced one, and for one that it is made of", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const held = yield* lock("copy/lock")
        const shouting = (client: EtcdClient.Client): EtcdClient.Client => ({
          ...client,
          unary: (method, request, options) =>
            (method as object) === KV.method.put
              ? client.unary(method, { ...request, value: bytes("LOUD") }, options)
              : client.unary(method, request, options)
        })
        const clients = [
          Fence.client(shouting(EtcdNamespace.fromClient(client, "copy/")), held.fence),
          shouting(Fence.client(EtcdNamespace.fromClient(client, "copy/"), held.fence)),
          EtcdNamespace.fromClient(Fence.client(shouting(client), held.fence), "copy/")
        ].map(EtcdKv.fromClient)
        for (const kv of clients) {
          yield* kv.put("k", "soft")
          assert.strictEqual(yield* valueOf("copy/k"), "LOUD")
          yield* kv.delete("k")
        }
        yield* held.release
        for (const kv of clients) assert.strictEqual((yield* reason(kv.put("k", "soft")))._tag, "Fenced")
        assert.isUndefined(yield* valueOf("copy/k"))
      })
    )

    it.effect("refuses what makes no sense as the client does, and looks at a request when it is sent", () =>
      Effect.gen(function* () {
        const held = yield* lock("odd/lock")
        const client = yield* fenced(held)
        const plain = yield* EtcdClient.EtcdClient
        for (const request of [null, 5, "text"] as ReadonlyArray<any>) {
          for (const write of [{ put: request }, { remove: request }, { txn: request }]) {
            assert.strictEqual((yield* reason(send(client, write)))._tag, "InvalidArgument")
          }
        }
        for (const options of [5, "text", null, ["a"], new Map([["deadline", 5]]), { deadline: "soon" }]) {
          const write = client.unary(KV.method.put, { key: bytes("odd/k") }, options as EtcdClient.CallOptions)
          assert.strictEqual((yield* reason(write))._tag, "InvalidArgument")
          const services = Fence.services(Context.make(EtcdKv.EtcdKv, EtcdKv.fromClient(plain)), held.fence)
          const put = Context.get(services, EtcdKv.EtcdKv).put("odd/k", "", options as EtcdKv.PutOptions)
          assert.strictEqual((yield* reason(put))._tag, "InvalidArgument")
        }
        const late = client.unary(KV.method.put, { key: bytes("odd/k") }, { deadline: 0 })
        assert.deepInclude(yield* reason(late), { _tag: "DeadlineExceeded", method: "KV.Put" })
        assert.isUndefined(yield* valueOf("odd/k"))

        const request: { success: Array<Operation> } = { success: [get(bytes("odd/k"))] }
        const changed = client.unary(KV.method.txn, request)
        request.success.push(put({ key: bytes("odd/k") }))
        yield* held.release
        assert.strictEqual((yield* reason(changed))._tag, "Fenced")
        assert.isUndefined(yield* valueOf("odd/k"))
      })
    )

    it.effect("says how many operations it takes of those that a server allows", () =>
      Effect.gen(function* () {
        const held = yield* lock("many/lock")
        const other = yield* lock("many/other")
        const puts = (count: number) =>
          EtcdTxn.all(Array.from({ length: count }, (_, index) => EtcdTxn.put(`many/${index}`, "")))
        const once = EtcdTxn.fromClient(yield* fenced(held))
        yield* once.commit(puts(127))
        const told = yield* reason(once.commit(puts(128)))
        assert.deepInclude(told, { _tag: "TooManyOps", fence: 1 })
        assert.include(told.message, "has 128 comparisons or operations in a branch")
        assert.include(told.message, "besides 1 for the lock that it is made under")
        const twice = EtcdTxn.fromClient(Fence.client(yield* fenced(held), other.fence))
        yield* twice.commit(puts(126))
        assert.deepInclude(yield* reason(twice.commit(puts(127))), { _tag: "TooManyOps", fence: 2 })
      })
    )
  })
})
