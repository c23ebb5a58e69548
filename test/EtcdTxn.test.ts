import type { MessageInitShape } from "@bufbuild/protobuf"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import fc from "fast-check"
import { expectTypeOf } from "vitest"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import type * as EtcdResponse from "../src/EtcdResponse.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import { check, sizeOf } from "../src/internal/kv/txnCheck.ts"
import { KV, Lease, type RequestOpSchema, type TxnRequestSchema } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"

const live = Layer.provideMerge(EtcdTxn.layer, EtcdLayer.ephemeral({}, { log: false }))

const reason = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

const message = <A, R>(effect: Effect.Effect<A, { readonly message: string }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.message)

const holds = (...compare: ReadonlyArray<EtcdTxn.Compare>) =>
  Effect.map(EtcdTxn.commit(EtcdTxn.make({ compare })), (result) => result.succeeded)

describe("EtcdTxn", () => {
  layer(live)((it) => {
    it.effect("runs one branch, and gives its results in the branch's shape", () =>
      Effect.gen(function* () {
        const claim = EtcdTxn.make({
          compare: EtcdTxn.missing("t/owner"),
          success: { owner: EtcdTxn.put("t/owner", "a"), log: EtcdTxn.put("t/log", "claimed") },
          failure: [EtcdTxn.getString("t/owner"), EtcdTxn.range(KeyRange.prefix("t/"))]
        })
        const first = yield* EtcdTxn.commit(claim)
        assert(first.succeeded)
        assert.strictEqual(first.results.owner.header.revision, first.header.revision)
        assert.strictEqual(first.results.log.header.memberId, first.header.memberId)
        assert.isTrue(first.header.memberId !== 0n)
        const second = yield* EtcdTxn.commit(claim)
        assert(!second.succeeded)
        const [owner, all] = second.results
        assert.deepStrictEqual(owner, Option.some("a"))
        assert.deepStrictEqual(
          all.kvs.map((kv) => [kv.keyString, kv.modRevision]),
          [
            ["t/log", first.header.revision],
            ["t/owner", first.header.revision]
          ]
        )
        const single = yield* EtcdTxn.commit(EtcdTxn.make({ compare: [], success: EtcdTxn.get("t/owner") }))
        assert(single.succeeded)
        assert.strictEqual(Option.getOrThrow(single.results).valueString, "a")
        const none = yield* EtcdTxn.commit(EtcdTxn.make({ compare: [] }))
        assert.deepStrictEqual(none.results, [])
      })
    )

    it.effect("the types follow from the branches", () =>
      Effect.sync(() => {
        const txn = EtcdTxn.make({
          compare: [EtcdTxn.exists("k")],
          success: [EtcdTxn.get("k"), EtcdTxn.put("l", "1")],
          failure: {
            name: EtcdTxn.getString("k"),
            inner: EtcdTxn.make({ compare: [], success: EtcdTxn.delete("k"), failure: [EtcdTxn.range(KeyRange.all)] })
          }
        })
        type Inner = EtcdTxn.Succeeded<EtcdKv.DeleteResult> | EtcdTxn.Failed<readonly [EtcdKv.RangeResult]>
        expectTypeOf(txn).toEqualTypeOf<
          EtcdTxn.Op<
            | EtcdTxn.Succeeded<readonly [Option.Option<EtcdResponse.KeyValue>, EtcdKv.PutResult]>
            | EtcdTxn.Failed<{ readonly name: Option.Option<string>; readonly inner: Inner }>
          >
        >()
        expectTypeOf(EtcdTxn.make({ compare: [] })).toEqualTypeOf<
          EtcdTxn.Op<EtcdTxn.Succeeded<readonly []> | EtcdTxn.Failed<readonly []>>
        >()
        expectTypeOf(EtcdTxn.all({ a: EtcdTxn.getString("a"), b: EtcdTxn.put("b", "") })).toEqualTypeOf<
          EtcdTxn.Op<{ readonly a: Option.Option<string>; readonly b: EtcdKv.PutResult }>
        >()
        const many: Array<EtcdTxn.Op<EtcdKv.PutResult>> = []
        expectTypeOf(EtcdTxn.all(many)).toEqualTypeOf<EtcdTxn.Op<ReadonlyArray<EtcdKv.PutResult>>>()
        expectTypeOf(EtcdTxn.getString("a").pipe(EtcdTxn.map(Option.isSome))).toEqualTypeOf<EtcdTxn.Op<boolean>>()
        // @ts-expect-error: a version is a bigint
        EtcdTxn.version("k").equals("1")
        // @ts-expect-error: a branch is made of operations
        const _noOperation = () => EtcdTxn.make({ compare: [], success: ["k"] })
        // @ts-expect-error: there is no such branch
        const _noBranch = () => EtcdTxn.make({ compare: [], otherwise: [] })
      })
    )

    it.effect("compares value, version, revisions and lease", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const granted = yield* client.unary(Lease.method.leaseGrant, { TTL: 60n })
        const lease = EtcdId.LeaseId(granted.ID)
        yield* EtcdKv.put("c/a", "b")
        const { header } = yield* EtcdKv.put("c/a", "m", { lease })
        const kv = Option.getOrThrow(yield* EtcdKv.get("c/a"))
        const targets = [
          [EtcdTxn.version("c/a"), 2n],
          [EtcdTxn.createRevision("c/a"), kv.createRevision],
          [EtcdTxn.modRevision("c/a"), header.revision]
        ] as const
        for (const [target, is] of targets) {
          assert.isTrue(yield* holds(target.equals(is), target.greaterThan(is - 1n), target.lessThan(is + 1n)))
          assert.isTrue(yield* holds(target.notEquals(is + 1n)))
          assert.isFalse(yield* holds(target.equals(is + 1n)))
          assert.isFalse(yield* holds(target.notEquals(is)))
          assert.isFalse(yield* holds(target.greaterThan(is)))
          assert.isFalse(yield* holds(target.lessThan(is)))
        }
        const value = EtcdTxn.value("c/a")
        assert.isTrue(yield* holds(value.equals("m"), value.greaterThan("a"), value.lessThan("z"), value.notEquals("")))
        assert.isFalse(yield* holds(value.equals("n")))
        assert.isTrue(yield* holds(EtcdTxn.lease("c/a").equals(lease)))
        assert.isFalse(yield* holds(EtcdTxn.lease("c/a").equals(0n)))
        assert.isTrue(yield* holds(EtcdTxn.exists("c/a"), EtcdTxn.missing("c/none")))
        assert.isFalse(yield* holds(EtcdTxn.missing("c/a")))
        assert.isFalse(yield* holds(EtcdTxn.exists("c/none")))
        // What is not there has no value, not even another one; its numbers are 0.
        assert.isFalse(yield* holds(EtcdTxn.value("c/none").notEquals("x")))
        assert.isTrue(yield* holds(EtcdTxn.version("c/none").equals(0n), EtcdTxn.lease("c/none").equals(0n)))
      })
    )

    it.effect("a comparison of a range must hold for every key of it", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("cr/a", "1")
        yield* EtcdKv.put("cr/b", "2")
        yield* EtcdKv.put("cr/b", "1")
        const range = KeyRange.prefix("cr/")
        assert.isTrue(yield* holds(EtcdTxn.value(range).equals("1"), EtcdTxn.version(range).greaterThan(0n)))
        assert.isFalse(yield* holds(EtcdTxn.version(range).equals(1n)))
        assert.isTrue(yield* holds(EtcdTxn.exists(range), EtcdTxn.missing(KeyRange.prefix("cr/none"))))
        assert.isFalse(yield* holds(EtcdTxn.missing(range)))
        assert.isFalse(yield* holds(EtcdTxn.exists(KeyRange.prefix("cr/none"))))
      })
    )

    it.effect("operations see those before them, with all of their options", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("o/a", "1")
        yield* EtcdKv.put("o/b", "2")
        const { header, results } = yield* Effect.map(
          EtcdTxn.commit(
            EtcdTxn.make({
              compare: [],
              success: [
                EtcdTxn.put("o/a", "3", { previousValue: true }),
                EtcdTxn.get("o/a"),
                EtcdTxn.delete("o/b", { previousValues: true }),
                EtcdTxn.range(KeyRange.prefix("o/"), { order: "descending", keysOnly: true }),
                EtcdTxn.deletePrefix("o/none")
              ]
            })
          ),
          (result) => {
            assert(result.succeeded)
            return result
          }
        )
        const [put, get, deleted, range, none] = results
        assert.strictEqual(Option.getOrThrow(put.previous).valueString, "1")
        assert.strictEqual(Option.getOrThrow(get).valueString, "3")
        assert.strictEqual(Option.getOrThrow(get).modRevision, header.revision)
        assert.deepStrictEqual(
          deleted.previous.map((kv) => kv.valueString),
          ["2"]
        )
        assert.deepStrictEqual(
          range.kvs.map((kv) => kv.keyString + kv.valueString),
          ["o/a"]
        )
        assert.strictEqual(none.deleted, 0n)
      })
    )

    it.effect("transactions within transactions", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("n/a", "1")
        const inner = (key: string) =>
          EtcdTxn.make({
            compare: [EtcdTxn.exists(key)],
            success: { was: EtcdTxn.getString(key), now: EtcdTxn.put(key, "again") },
            failure: EtcdTxn.put(key, "first")
          })
        const outer = yield* EtcdTxn.commit(EtcdTxn.all([inner("n/a"), inner("n/b"), EtcdTxn.getString("n/b")]))
        assert(outer[0].succeeded)
        assert.deepStrictEqual(outer[0].results.was, Option.some("1"))
        assert(!outer[1].succeeded)
        assert.deepStrictEqual(outer[1].results.previous, Option.none())
        assert.isTrue(outer[1].header.memberId !== 0n)
        assert.deepStrictEqual(outer[2], Option.some("first"))
      })
    )

    it.effect("several comparisons as one hold if all of them do, whatever is in them", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("e/a", "1")
        const [yes, no] = [EtcdTxn.exists("e/a"), EtcdTxn.missing("e/a")]
        const { every } = EtcdTxn
        assert.isTrue(yield* holds(every([])))
        assert.isTrue(yield* holds(every([yes, EtcdTxn.value("e/a").equals("1"), EtcdTxn.missing("e/b")])))
        assert.isFalse(yield* holds(every([yes, no])))
        assert.isFalse(yield* holds(yes, every([every([]), every([yes, every([no])])])))
        assert.isTrue(yield* holds(every([every([yes]), every([yes, every([yes])])]), yes))
        const single = EtcdTxn.make({ compare: every([yes, no]), success: [], failure: EtcdTxn.getString("e/a") })
        const result = yield* EtcdTxn.commit(single)
        assert.deepStrictEqual(result.results, Option.some("1"))
        const given = [yes]
        const copied = every(given)
        given.push(no)
        assert.isTrue(yield* holds(copied))
        expectTypeOf(every([yes])).toEqualTypeOf<EtcdTxn.Compare>()
        // @ts-expect-error: an operation is no comparison
        every([EtcdTxn.get("e/a")])
      })
    )

    it.effect("what is wrong with one of several comparisons is told with its place", () =>
      Effect.gen(function* () {
        const yes = EtcdTxn.missing("w/a")
        const wrong = EtcdTxn.version("w/a").equals(-1n)
        const told = (...compare: ReadonlyArray<EtcdTxn.Compare>) => message(holds(...compare))
        const { every } = EtcdTxn
        assert.match(yield* told(yes, wrong), /^compare\[1\]: EtcdTxn\.version: /)
        assert.match(yield* told(every([yes, yes, yes]), wrong), /^compare\[1\]: EtcdTxn\.version: /)
        assert.match(yield* told(yes, every([yes, yes, wrong])), /^compare\[1\]\[2\]: EtcdTxn\.version: /)
        assert.match(yield* told(every([yes, every([yes, wrong])])), /^compare\[0\]\[1\]\[1\]: EtcdTxn\.version: /)
        const noList = yes as unknown as ReadonlyArray<EtcdTxn.Compare>
        assert.match(yield* told(yes, every(noList)), /^compare\[1\]: EtcdTxn\.every: .*a list of comparisons/)
        const noCompare = [yes, EtcdTxn.get("w/a")] as unknown as ReadonlyArray<EtcdTxn.Compare>
        assert.match(yield* told(every(noCompare)), /^compare\[0\]: EtcdTxn\.every: .*a list of comparisons/)
        const inner = EtcdTxn.make({ compare: every([wrong]), success: EtcdTxn.put("w/a", "") })
        const within = EtcdTxn.commit(EtcdTxn.make({ compare: yes, failure: { inner } }))
        assert.match(yield* message(within), /^failure\.inner\.compare\[0\]\[0\]: EtcdTxn\.version: /)
      })
    )

    it.effect("a single operation may be committed, and map changes what comes back", () =>
      Effect.gen(function* () {
        yield* EtcdTxn.commit(EtcdTxn.put("s/a", "1"))
        const length = EtcdTxn.range(KeyRange.prefix("s/")).pipe(EtcdTxn.map((result) => result.kvs.length))
        assert.strictEqual(yield* EtcdTxn.commit(length), 1)
        const named = EtcdTxn.map(EtcdTxn.make({ compare: [], success: length }), (result) => [result.results])
        assert.deepStrictEqual(yield* EtcdTxn.commit(named), [1])
      })
    )

    it.effect("is what it was made of, whatever becomes of the arrays", () =>
      Effect.gen(function* () {
        const bytes = (text: string) => new TextEncoder().encode(text)
        const key = bytes("v/a")
        const value = bytes("one")
        const branch = [EtcdTxn.put(key, value), EtcdTxn.get(key), EtcdTxn.range(KeyRange.single(key))]
        const compare = [EtcdTxn.missing(key)]
        const created = EtcdTxn.make({ compare, success: branch })
        const replaced = EtcdTxn.make({ compare: EtcdTxn.value(key).equals(value), success: EtcdTxn.delete(key) })
        key.set(bytes("v/b"))
        value.set(bytes("two"))
        branch.push(EtcdTxn.get("v/c"))
        compare.push(EtcdTxn.exists("v/c"))
        const first = yield* EtcdTxn.commit(created)
        assert.deepStrictEqual([first.succeeded, first.results.length], [true, 3])
        assert.deepStrictEqual(
          (yield* EtcdKv.range(KeyRange.prefix("v/"))).kvs.map((kv) => [kv.keyString, kv.valueString]),
          [["v/a", "one"]]
        )
        assert.isTrue((yield* EtcdTxn.commit(replaced)).succeeded)
        assert.deepStrictEqual((yield* EtcdKv.range(KeyRange.prefix("v/"))).kvs, [])
      })
    )

    it.effect("a struct whose order JavaScript does not keep is refused, and not run in another one", () =>
      Effect.gen(function* () {
        const put = EtcdTxn.put("order/a", "1")
        const get = EtcdTxn.getString("order/a")
        for (const branch of [
          { get, "1": put },
          { get, 10: put },
          { "0": get, put }
        ]) {
          const error = yield* Effect.flip(EtcdTxn.commit(EtcdTxn.all(branch)))
          assert.strictEqual(error.reason._tag, "InvalidArgument")
          assert.include(error.message, "a name that is a whole number")
        }
        assert.deepStrictEqual(yield* EtcdTxn.commit(EtcdTxn.all({ "7": get })), { "7": Option.none() })
        const names = { "01": get, "-1": put, "1.0": get }
        const results = yield* EtcdTxn.commit(EtcdTxn.all(names))
        assert.deepStrictEqual([results["01"], results["1.0"]], [Option.none(), Option.some("1")])
      })
    )

    it.effect("an answer to something else is none; only of what writes it is unknown whether it was applied", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        // What comes back has an operation less than was asked for.
        const { commit } = EtcdTxn.fromClient({
          ...client,
          unary: (method, request: any, options) =>
            client.unary(method, { ...request, success: request.success.slice(1) }, options)
        })
        const read = yield* Effect.flip(commit(EtcdTxn.all([EtcdTxn.get("w/a"), EtcdTxn.get("w/b")])))
        assert.deepStrictEqual([read.reason._tag, read.outcome], ["ProtocolViolation", "not-applied"])
        assert.notInclude(read.message, "Whether it was applied")
        const write = yield* Effect.flip(commit(EtcdTxn.all([EtcdTxn.get("w/a"), EtcdTxn.put("w/b", "1")])))
        assert.deepStrictEqual([write.reason._tag, write.outcome], ["ProtocolViolation", "unknown"])
        assert.include(write.message, "Whether it was applied is unknown.")
      })
    )

    it.effect("refuses what the server would refuse, and says where", () =>
      Effect.gen(function* () {
        const put = (key: string) => EtcdTxn.put(key, "")
        const twice = EtcdTxn.commit(EtcdTxn.all({ a: put("k"), b: put("k") }))
        assert.strictEqual(yield* reason(twice), "DuplicateKey")
        assert.include(yield* message(twice), 'success.a and success.b both put the key "k"')
        const deleted = EtcdTxn.commit(
          EtcdTxn.all([EtcdTxn.deletePrefix("k"), EtcdTxn.make({ compare: [], failure: { put: put("key") } })])
        )
        assert.include(yield* message(deleted), 'success[1].failure.put puts the key "key", which success[0] deletes')
        // etcd would take this one, and stop with a panic.
        yield* EtcdKv.put("keep", "1")
        const keepDeleted = EtcdTxn.all([
          EtcdTxn.delete(KeyRange.from("k")),
          EtcdTxn.put("keep", "", { ignoreValue: true })
        ])
        assert.strictEqual(yield* reason(EtcdTxn.commit(keepDeleted)), "DuplicateKey")
        assert.deepStrictEqual(yield* EtcdKv.getString("keep"), Option.some("1"))
        assert.include(yield* message(EtcdTxn.commit(put(""))), "EtcdTxn.put: the key has to be")
        assert.include(yield* message(holds(EtcdTxn.exists("a"), EtcdTxn.exists(""))), "compare[1]: ")
        const keeps = EtcdTxn.commit(EtcdTxn.put("k", "v", { ignoreValue: true }))
        assert.strictEqual(yield* reason(keeps), "InvalidArgument")
        const many = EtcdTxn.all(Array.from({ length: 129 }, (_, index) => put(`many/${index}`)))
        assert.strictEqual(yield* reason(EtcdTxn.commit(many)), "TooManyOps")
        assert.include(yield* message(EtcdTxn.commit(many)), "has 129 comparisons or operations")
        assert.deepStrictEqual((yield* EtcdKv.range(KeyRange.prefix("many/"))).kvs, [])
        assert.strictEqual(
          yield* reason(EtcdTxn.commit(EtcdTxn.put("k", "", { lease: EtcdId.LeaseId(78n) }))),
          "LeaseNotFound"
        )
        assert.strictEqual(yield* reason(EtcdTxn.commit(EtcdTxn.get("k", { revision: 1n << 40n }))), "FutureRevision")
      })
    )
  })

  const maxOps = 6
  const small = Layer.fresh(EtcdLayer.ephemeral({ maxTxnOps: maxOps }, { log: false }))

  layer(small)((it) => {
    type Txn = MessageInitShape<typeof TxnRequestSchema>
    type Operation = MessageInitShape<typeof RequestOpSchema>

    const key = fc
      .array(fc.constantFrom(0, 0x61, 0xff), { minLength: 1, maxLength: 2 })
      .map((bytes) => Uint8Array.from(bytes))
    const maybe = <A>(arbitrary: fc.Arbitrary<A>) =>
      fc.oneof({ weight: 4, arbitrary: fc.constant(undefined) }, arbitrary)
    const { operation } = fc.letrec<{ operation: Operation; txn: Txn }>((tie) => ({
      operation: fc.oneof(
        { depthSize: "small", withCrossShrink: true },
        key.map((key): Operation => ({ request: { case: "requestPut", value: { key } } })),
        fc.tuple(key, maybe(key)).map(
          ([key, end]): Operation => ({
            request: { case: "requestDeleteRange", value: { key, rangeEnd: end ?? new Uint8Array(0) } }
          })
        ),
        key.map((key): Operation => ({ request: { case: "requestRange", value: { key } } })),
        fc.tuple(key, fc.boolean(), fc.boolean()).map(
          ([key, ignoreValue, empty]): Operation => ({
            request: {
              case: "requestPut",
              value: { key, ignoreValue, value: new Uint8Array(empty ? 0 : 1), ignoreLease: false }
            }
          })
        ),
        tie("txn").map((value): Operation => ({ request: { case: "requestTxn", value } }))
      ),
      txn: fc.record({
        success: fc.array(tie("operation"), { maxLength: 3 }),
        failure: fc.array(tie("operation"), { maxLength: 2 })
      })
    }))
    const request: fc.Arbitrary<Txn> = fc.record({
      compare: fc.array(
        key.map((key) => ({ key })),
        { maxLength: maxOps + 1 }
      ),
      success: fc.array(operation, { maxLength: maxOps + 1 }),
      failure: fc.array(operation, { maxLength: 2 })
    })

    /** Whether it is refused only because of puts that keep what a deletion without an end takes away. */
    const stopsTheServer = (txn: Txn): boolean => {
      const giving = (operation: Operation): Operation => {
        const { request } = operation
        if (request?.case === "requestPut") return { request: { ...request, value: { key: request.value.key! } } }
        if (request?.case === "requestTxn") return { request: { ...request, value: givingAll(request.value) } }
        return operation
      }
      const givingAll = (txn: Txn): Txn => ({
        compare: txn.compare ?? [],
        success: (txn.success ?? []).map(giving),
        failure: (txn.failure ?? []).map(giving)
      })
      return check(givingAll(txn), undefined) === undefined
    }

    it.effect("the checks and the server agree on random transactions", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const own = ["TooManyOps", "DuplicateKey", "InvalidArgument"]
        const seen = new Map<string, number>()
        yield* Effect.forEach(
          fc.sample(request, 3000),
          (txn) =>
            Effect.gen(function* () {
              const refused = check(txn, undefined)?.reason._tag
              const isTooLarge = sizeOf(txn) > maxOps
              // The one thing that the server does not refuse, and which would be the end of it.
              if (refused === "DuplicateKey" && !isTooLarge && stopsTheServer(txn)) return
              const answer = yield* Effect.result(client.unary(KV.method.txn, txn))
              const told = answer._tag === "Failure" ? answer.failure.reason._tag : undefined
              // An absent key that is to keep its value is found only when the transaction is applied.
              const actual = told === "KeyNotFound" ? undefined : told
              const shown = JSON.stringify(txn, (_, value) => (typeof value === "bigint" ? String(value) : value))
              // Of what is too large, the server may see first what is wrong with a part.
              const expected = isTooLarge
                ? ["TooManyOps", refused === "InvalidArgument" ? refused : "TooManyOps"]
                : [refused]
              assert.include(expected, actual, `${shown} ${answer._tag === "Failure" ? answer.failure.message : ""}`)
              seen.set(String(actual), (seen.get(String(actual)) ?? 0) + 1)
            }),
          { concurrency: 16, discard: true }
        )
        for (const verdict of [...own, "undefined"]) assert.isAbove(seen.get(verdict) ?? 0, 100, verdict)
      })
    )
  })
})
