import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as KeyRange from "../src/KeyRange.ts"

const reason = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

describe("EtcdKv", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }))((it) => {
    it.effect("put, get and getString", () =>
      Effect.gen(function* () {
        const first = yield* EtcdKv.put("kv/a", "one")
        assert.deepStrictEqual(first.previous, Option.none())
        const second = yield* EtcdKv.put("kv/a", "two", { previousValue: true })
        assert.strictEqual(Option.getOrThrow(second.previous).valueString, "one")
        assert.isTrue(second.header.revision > first.header.revision)
        const kv = Option.getOrThrow(yield* EtcdKv.get("kv/a"))
        assert.strictEqual(kv.keyString, "kv/a")
        assert.strictEqual(kv.valueString, "two")
        assert.strictEqual(kv.version, 2n)
        assert.strictEqual(kv.createRevision, first.header.revision)
        assert.strictEqual(kv.modRevision, second.header.revision)
        assert.deepStrictEqual(kv.lease, Option.none())
        assert.deepStrictEqual(yield* EtcdKv.getString("kv/a", { revision: first.header.revision }), Option.some("one"))
        assert.deepStrictEqual(yield* EtcdKv.getString("kv/a", { serializable: true }), Option.some("two"))
        assert.deepStrictEqual(yield* EtcdKv.get("kv/none"), Option.none())
      })
    )

    it.effect("bytes that are no text, and empty values, come back as they went", () =>
      Effect.gen(function* () {
        const key = Uint8Array.of(0x6b, 0x00, 0xff, 0xfe)
        const value = Uint8Array.of(0xff, 0x00, 0x80)
        yield* EtcdKv.put(key, value)
        const kv = Option.getOrThrow(yield* EtcdKv.get(key))
        assert.deepStrictEqual(Uint8Array.from(kv.key), key)
        assert.deepStrictEqual(Uint8Array.from(kv.value), value)
        yield* EtcdKv.put("kv/empty", "")
        assert.deepStrictEqual(yield* EtcdKv.getString("kv/empty"), Option.some(""))
        yield* EtcdKv.put("kv/ü", "\ufeffé")
        assert.deepStrictEqual(yield* EtcdKv.getString("kv/ü"), Option.some("\ufeffé"))
      })
    )

    it.effect("what is sent is what the arrays held when the call began, though it must wait for a connection", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdProcess.EtcdProcess
        const kv = EtcdKv.fromClient(yield* EtcdClient.make({ endpoints }))
        const key = new TextEncoder().encode("kv/array/0")
        const value = new Uint8Array(100)
        const begun = yield* Effect.forEach(Array.from({ length: 5 }), (_, index) => {
          key[9] = 0x30 + index
          value.fill(index)
          return Effect.forkChild(kv.put(key, value), { startImmediately: true })
        })
        value.fill(9)
        key[9] = 0x39
        yield* Effect.forEach(begun, (fiber) => Fiber.join(fiber))
        const { kvs } = yield* EtcdKv.range(KeyRange.prefix("kv/array/"))
        assert.deepStrictEqual(
          kvs.map((kv) => [kv.keyString, kv.value[0], kv.value[99]]),
          [0, 1, 2, 3, 4].map((index) => [`kv/array/${index}`, index, index])
        )
        key[9] = 0x30
        const pages = yield* Effect.forkChild(Stream.runCollect(kv.stream(KeyRange.from(key), { pageSize: 1 })), {
          startImmediately: true
        })
        const removal = yield* Effect.forkChild(kv.delete(key), { startImmediately: true })
        key[9] = 0x39
        assert.isAtLeast((yield* Fiber.join(pages)).length, 4)
        assert.strictEqual((yield* Fiber.join(removal)).deleted, 1n)
      }).pipe(Effect.scoped)
    )

    it.effect("range options", () =>
      Effect.gen(function* () {
        for (const [key, value] of [
          ["r/a", "3"],
          ["r/b", "1"],
          ["r/c", "2"]
        ] as const) {
          yield* EtcdKv.put(key, value)
        }
        const changed = yield* EtcdKv.put("r/a", "0")
        const names = (range: KeyRange.Input, options?: EtcdKv.RangeOptions) =>
          Effect.map(EtcdKv.range(range, options), ({ kvs }) => kvs.map((kv) => kv.keyString).join(" "))
        const r = KeyRange.prefix("r/")
        assert.strictEqual(yield* names(r), "r/a r/b r/c")
        assert.strictEqual(yield* names(KeyRange.interval("r/a", "r/c")), "r/a r/b")
        assert.strictEqual(yield* names(KeyRange.interval("r/c", "r/a")), "")
        assert.strictEqual(yield* names("r/b"), "r/b")
        assert.include(yield* names(KeyRange.from("r/b")), "r/b r/c")
        assert.strictEqual(yield* names(r, { order: "descending" }), "r/c r/b r/a")
        assert.strictEqual(yield* names(r, { sortBy: "value" }), "r/a r/b r/c")
        assert.strictEqual(yield* names(r, { sortBy: "createRevision", order: "descending" }), "r/c r/b r/a")
        assert.strictEqual(yield* names(r, { sortBy: "modRevision" }), "r/b r/c r/a")
        assert.strictEqual(yield* names(r, { sortBy: "version", order: "descending", limit: 1 }), "r/a")
        assert.strictEqual(yield* names(r, { minModRevision: changed.header.revision }), "r/a")
        assert.strictEqual(yield* names(r, { maxModRevision: changed.header.revision - 1n }), "r/b r/c")
        const limited = yield* EtcdKv.range(r, { limit: 2 })
        assert.isTrue(limited.more)
        assert.strictEqual(limited.count, 3n)
        const keysOnly = yield* EtcdKv.range(r, { keysOnly: true })
        assert.isTrue(keysOnly.kvs.every((kv) => kv.value.length === 0))
        const countOnly = yield* EtcdKv.range(r, { countOnly: true })
        assert.deepStrictEqual([countOnly.kvs.length, countOnly.count], [0, 3n])
        const before = yield* EtcdKv.range(r, { revision: changed.header.revision - 1n, sortBy: "value" })
        assert.strictEqual(before.kvs.map((kv) => kv.valueString).join(""), "123")
      })
    )

    it.effect("delete, deletePrefix and errorOnMissing", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("d/a", "1")
        yield* EtcdKv.put("d/b", "2")
        yield* EtcdKv.put("d/c", "3")
        const one = yield* EtcdKv.delete("d/a", { previousValues: true })
        assert.strictEqual(one.deleted, 1n)
        assert.deepStrictEqual(
          one.previous.map((kv) => kv.valueString),
          ["1"]
        )
        assert.strictEqual((yield* EtcdKv.delete("d/a")).deleted, 0n)
        assert.strictEqual(yield* reason(EtcdKv.delete("d/a", { errorOnMissing: true })), "KeyNotFound")
        const all = yield* EtcdKv.deletePrefix("d/", { previousValues: true, errorOnMissing: true })
        assert.strictEqual(all.deleted, 2n)
        assert.strictEqual(all.previous.length, 2)
        assert.strictEqual((yield* EtcdKv.deletePrefix("d/")).deleted, 0n)
        assert.strictEqual(yield* reason(EtcdKv.deletePrefix("d/", { errorOnMissing: true })), "KeyNotFound")
      })
    )

    it.effect("what etcd refuses is a reason of its own", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("e/a", "1")
        assert.strictEqual(yield* reason(EtcdKv.get("e/a", { revision: header.revision + 1000n })), "FutureRevision")
        assert.strictEqual(yield* reason(EtcdKv.put("e/a", "1", { lease: EtcdId.LeaseId(77n) })), "LeaseNotFound")
        assert.strictEqual(yield* reason(EtcdKv.put("e/none", "", { ignoreValue: true })), "KeyNotFound")
        yield* EtcdKv.put("e/a", "2")
        yield* EtcdKv.compact(header.revision + 1n, { physical: true })
        assert.strictEqual(yield* reason(EtcdKv.get("e/a", { revision: header.revision })), "Compacted")
        const large = yield* Effect.exit(EtcdKv.put("e/large", new Uint8Array(2 * 1024 * 1024)))
        assert.isTrue(Exit.isFailure(large))
        const caught = yield* EtcdKv.get("e/a", { revision: header.revision }).pipe(
          Effect.catchReason("EtcdError", "Compacted", (compacted) => Effect.succeed(compacted.outcome))
        )
        assert.strictEqual(caught, "not-applied")
      })
    )
  })
})
