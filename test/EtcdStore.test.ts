import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Stream from "effect/Stream"
import { expectTypeOf } from "vitest"
import * as EtcdMirror from "../src/coordination/EtcdMirror.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdStore from "../src/EtcdStore.ts"
import * as EtcdTxn from "../src/EtcdTxn.ts"
import { Lease } from "../src/internal/proto/rpc_pb.ts"

class User extends Schema.Class<User>("User")({
  name: Schema.NonEmptyString,
  since: Schema.Date,
  id: Schema.BigInt,
  mail: Schema.Option(Schema.String)
}) {}

const ann = new User({ name: "Ann", since: new Date(1), id: 1n << 60n, mail: Option.some("ann@example.org") })
const bob = new User({ name: "Bob", since: new Date(2), id: 2n, mail: Option.none() })

const live = Layer.provideMerge(EtcdTxn.layer, EtcdLayer.ephemeral({}, { log: false }))

describe("EtcdStore.make", () => {
  layer(live)((it) => {
    it.effect("get, put, list, stream and delete", () =>
      Effect.gen(function* () {
        const users = EtcdStore.make("a/", User)
        expectTypeOf(users).toEqualTypeOf<EtcdStore.Store<User>>()
        assert.deepStrictEqual(yield* users.get("ann"), Option.none())
        const first = yield* users.put("ann", ann)
        yield* users.put("bob", bob)
        const read = Option.getOrThrow(yield* users.get("ann"))
        assert.deepStrictEqual(read.value, ann)
        assert.isTrue(read.value instanceof User)
        assert.strictEqual(read.key, "ann")
        assert.strictEqual(read.modRevision, first.revision)
        assert.strictEqual(read.version, 1n)
        const json = Option.getOrThrow(yield* EtcdKv.getString("a/bob"))
        assert.strictEqual(JSON.parse(json).name, "Bob")
        assert.deepStrictEqual(
          (yield* users.list()).entries.map((entry) => [entry.key, entry.value]),
          [
            ["ann", ann],
            ["bob", bob]
          ]
        )
        assert.deepStrictEqual(
          (yield* users.list({ order: "descending", limit: 1 })).entries.map((entry) => entry.key),
          ["bob"]
        )
        const streamed = yield* Stream.runCollect(users.stream({ pageSize: 1 }))
        assert.deepStrictEqual(
          streamed.map((entry) => entry.value),
          [ann, bob]
        )
        assert.isTrue(yield* users.delete("ann"))
        assert.isFalse(yield* users.delete("ann"))
      })
    )

    it.effect("keeps its prefix, whatever becomes of the array", () =>
      Effect.gen(function* () {
        const prefix = new TextEncoder().encode("k/")
        const store = EtcdStore.make(prefix, Schema.String)
        prefix.fill(0)
        yield* store.put("a", "1")
        assert.deepStrictEqual(Option.isSome(yield* EtcdKv.get("k/a")), true)
        assert.deepStrictEqual(
          (yield* store.list()).entries.map(({ key, value }) => [key, value]),
          [["a", "1"]]
        )
      })
    )

    it.effect("compare-and-set and compare-and-delete by revision", () =>
      Effect.gen(function* () {
        const users = EtcdStore.make("cas/", User)
        const created = yield* users.compareAndSet("u", ann, { revision: 0n })
        const exists = yield* Effect.flip(users.compareAndSet("u", bob, { revision: 0n }))
        assert(exists._tag === "EtcdConflict")
        assert.strictEqual(exists.key, "cas/u")
        assert.strictEqual(Option.getOrThrow(exists.current).modRevision, created.revision)
        assert.include(exists.message, '"cas/u" was expected not to exist; it is at revision')
        const changed = yield* users.compareAndSet("u", bob, { revision: created.revision })
        const late = yield* Effect.flip(users.compareAndDelete("u", { revision: created.revision }))
        assert(late._tag === "EtcdConflict")
        assert.deepStrictEqual(Option.getOrThrow(yield* users.get("u")).value, bob)
        yield* users.compareAndDelete("u", { revision: changed.revision })
        const gone = yield* Effect.flip(users.compareAndSet("u", ann, { revision: changed.revision }))
        assert(gone._tag === "EtcdConflict")
        assert.include(gone.message, "it does not exist")
      })
    )

    it.effect("update starts over when somebody else has written", () =>
      Effect.gen(function* () {
        const counters = EtcdStore.make("count/", Schema.Int)
        const add = counters.update("n", (current) => Option.getOrElse(current, () => 0) + 1)
        yield* Effect.all(
          Array.from({ length: 30 }, () => add),
          { concurrency: "unbounded", discard: true }
        )
        const entry = Option.getOrThrow(yield* counters.get("n"))
        assert.strictEqual(entry.value, 30)
        assert.strictEqual(entry.version, 30n)
        const failed = yield* Effect.flip(counters.updateEffect("n", () => Effect.fail("no" as const)))
        assert.strictEqual(failed, "no")
        assert.strictEqual(Option.getOrThrow(yield* counters.get("n")).version, 30n)
      })
    )

    it.effect("entries go with their lease", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const granted = yield* client.unary(Lease.method.leaseGrant, { TTL: 60n })
        const lease = EtcdId.LeaseId(granted.ID)
        const counters = EtcdStore.make("lease/", Schema.Int)
        yield* counters.put("a", 1, { lease })
        yield* counters.compareAndSet("b", 1, { lease, revision: 0n })
        yield* counters.update("c", () => 1, { lease })
        assert.deepStrictEqual(
          (yield* counters.list()).entries.map((entry) => entry.lease),
          [Option.some(lease), Option.some(lease), Option.some(lease)]
        )
        yield* client.unary(Lease.method.leaseRevoke, { ID: lease })
        assert.deepStrictEqual((yield* counters.list()).entries, [])
      })
    )

    it.effect("keys that are no text are told apart, wherever they come back", () =>
      Effect.gen(function* () {
        const store = EtcdStore.make(Uint8Array.of(0xfe, 0x2f), Schema.Int)
        const keys = [Uint8Array.of(0xfe), Uint8Array.of(0xff), Uint8Array.of(0xff, 0x00)]
        const { revision } = yield* store.put(keys[0]!, 0)
        yield* store.put(keys[1]!, 1)
        yield* store.put(keys[2]!, 2)
        const told = (entries: ReadonlyArray<EtcdStore.Entry<number>>) =>
          entries.map(({ keyBytes, value }) => [keyBytes, value])
        const expected = keys.map((key, index) => [key, index])
        assert.deepStrictEqual(told((yield* store.list()).entries), expected)
        assert.deepStrictEqual(told(yield* Stream.runCollect(store.stream())), expected)
        for (const { keyBytes, value } of (yield* store.list()).entries) {
          assert.strictEqual(Option.getOrThrow(yield* store.get(keyBytes)).value, value)
        }
        yield* store.delete(keys[1]!)
        const events = yield* store
          .watch({ startRevision: revision, previousValues: true })
          .pipe(Stream.take(4), Stream.runCollect)
        assert.deepStrictEqual(
          events.map((event) => (event._tag === "Put" ? event.entry.keyBytes : [event._tag, event.keyBytes])),
          [...keys, ["Delete", keys[1]]]
        )
        const whole = Uint8Array.of(0xfe, 0x2f, 0xff)
        const conflict = yield* Effect.flip(store.compareAndSet(keys[1]!, 1, { revision }))
        assert(conflict._tag === "EtcdConflict")
        assert.deepStrictEqual(conflict.keyBytes, whole)
        const unsent = yield* Effect.flip(store.put(keys[1]!, 1.5))
        assert(unsent._tag === "EtcdSchemaError")
        assert.deepStrictEqual(unsent.keyBytes, whole)
        yield* EtcdKv.put(whole, "no number")
        const unread = yield* Effect.flip(store.list())
        assert(unread._tag === "EtcdSchemaError")
        assert.deepStrictEqual(unread.keyBytes, whole)
      })
    )

    it.effect("what the schema throws is an error that names the key as well", () =>
      Effect.gen(function* () {
        const refuse = (what: unknown) => {
          throw new Error(`not ${what}`)
        }
        const decode = (text: string) => (text === "bad" ? refuse(text) : text)
        const encode = (text: string) => (text === "worse" ? refuse(text) : text)
        const schema = Schema.String.pipe(
          Schema.decodeTo(Schema.String, SchemaTransformation.transform({ decode, encode }))
        )
        const store = EtcdStore.make("throws/", schema, { format: "text" })
        yield* store.put("a", "bad")
        yield* store.put("b", "good")
        for (const failing of [
          store.get("a"),
          store.list(),
          Stream.runDrain(store.stream()),
          store.put("a", "worse")
        ]) {
          const error = yield* Effect.flip(failing as Effect.Effect<unknown, EtcdStore.EtcdSchemaError, EtcdKv.EtcdKv>)
          assert.strictEqual(error._tag, "EtcdSchemaError")
          assert.match(error.message, /"throws\/a".* does not fit the schema.*not (bad|worse)/)
        }
        assert.strictEqual((yield* store.list({ onInvalid: "skip" })).entries.length, 1)
        // One that anybody wrote does not end the mirror.
        const mirror = yield* EtcdMirror.make(store)
        const values = Array.from(yield* mirror.view, ([, decoded]) => Result.getOrUndefined(decoded)?.value)
        assert.deepStrictEqual(values, [undefined, "good"])
      }).pipe(Effect.scoped)
    )

    it.effect("what does not fit the schema is an error that names the key", () =>
      Effect.gen(function* () {
        const users = EtcdStore.make("bad/", User)
        const { header } = yield* EtcdKv.put("bad/json", "{")
        yield* EtcdKv.put("bad/shape", '{"name":""}')
        yield* EtcdKv.put("bad/text", Uint8Array.of(0x22, 0xff, 0x22))
        yield* users.put("good", ann)
        const wrong = yield* Effect.flip(users.get("json"))
        assert(wrong._tag === "EtcdSchemaError")
        assert.strictEqual(wrong.operation, "decode")
        assert.strictEqual(wrong.key, "bad/json")
        assert.strictEqual(wrong.modRevision, header.revision)
        assert.include(wrong.message, `The value of the key "bad/json", written at revision ${header.revision}`)
        for (const key of ["shape", "text"]) {
          const error = yield* Effect.flip(users.get(key))
          assert(error._tag === "EtcdSchemaError")
          assert.strictEqual(error.key, `bad/${key}`)
        }
        assert.strictEqual((yield* Effect.flip(users.list()))._tag, "EtcdSchemaError")
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(users.stream())))._tag, "EtcdSchemaError")
        const keys = (entries: ReadonlyArray<EtcdStore.Entry<User>>) => entries.map((entry) => entry.key)
        assert.deepStrictEqual(keys((yield* users.list({ onInvalid: "skip" })).entries), ["good"])
        assert.deepStrictEqual(keys(yield* Stream.runCollect(users.stream({ onInvalid: "skip" }))), ["good"])
        const unsent = yield* Effect.flip(users.put("new", { ...ann, name: "" } as User))
        assert(unsent._tag === "EtcdSchemaError")
        assert.strictEqual(unsent.operation, "encode")
        assert.include(unsent.message, '"bad/new"')
        assert.deepStrictEqual(yield* EtcdKv.get("bad/new"), Option.none())
      })
    )

    it.effect("watch decodes what changes", () =>
      Effect.gen(function* () {
        const counters = EtcdStore.make("watch/", Schema.Int)
        const { revision } = yield* counters.put("a", 1)
        const options = { startRevision: revision, previousValues: true } as const
        const seen = yield* Latch.make()
        const watched = yield* counters.watch({ ...options, onInvalid: "skip" }).pipe(
          Stream.tap(() => seen.open),
          Stream.take(3),
          Stream.runCollect,
          Effect.forkChild
        )
        yield* seen.await
        yield* EtcdKv.put("watch/bad", "x")
        const second = yield* counters.put("a", 2)
        yield* counters.delete("a")
        const [created, changed, deleted] = yield* Fiber.join(watched)
        assert(created?._tag === "Put" && changed?._tag === "Put" && deleted?._tag === "Delete")
        assert.strictEqual(created.entry.value, 1)
        assert.deepStrictEqual(created.previous, Option.none())
        assert.strictEqual(changed.entry.modRevision, second.revision)
        assert.strictEqual(Option.getOrThrow(changed.previous).value, 1)
        assert.strictEqual(deleted.key, "a")
        assert.strictEqual(deleted.revision, second.revision + 1n)
        assert.strictEqual(Option.getOrThrow(deleted.previous).value, 2)
        const error = yield* Effect.flip(Stream.runDrain(counters.watch(options)))
        assert(error._tag === "EtcdSchemaError")
        assert.strictEqual(error.key, "watch/bad")
      })
    )

    it.effect("a list says at which revision it is, and goes on with a watch from there", () =>
      Effect.gen(function* () {
        const counters = EtcdStore.make("from/", Schema.Int)
        yield* counters.put("a", 1)
        yield* counters.put("b", 2)
        const { count, entries, header, more } = yield* counters.list({ limit: 1 })
        assert.deepStrictEqual([entries.length, more, count], [1, true, 2n])
        yield* counters.put("c", 3)
        const [event] = yield* counters
          .watch({ startRevision: header.revision + 1n })
          .pipe(Stream.take(1), Stream.runCollect)
        assert.strictEqual(event?._tag === "Put" && event.entry.key, "c")
      })
    )

    it.effect("changes are all entries first, and then one revision after the other", () =>
      Effect.gen(function* () {
        const counters = EtcdStore.make("changes/", Schema.Int)
        yield* counters.put("a", 1)
        yield* EtcdKv.put("changes/bad", "x")
        const error = yield* Effect.flip(Stream.runDrain(counters.changes({ snapshot: "first" })))
        assert.strictEqual(error._tag, "EtcdSchemaError")
        const seen = yield* Latch.make()
        const changes = yield* counters.changes({ snapshot: "first", onInvalid: "skip" }).pipe(
          Stream.tap(() => seen.open),
          Stream.take(2),
          Stream.runCollect,
          Effect.forkChild
        )
        yield* seen.await
        const both = yield* EtcdTxn.commit(
          EtcdTxn.all([EtcdTxn.put("changes/b", "2"), EtcdTxn.put("changes/worse", "x"), EtcdTxn.delete("changes/a")])
        )
        const [snapshot, revision] = yield* Fiber.join(changes)
        assert(snapshot?._tag === "Snapshot" && revision?._tag === "Revision")
        assert.strictEqual(snapshot.cause, "first")
        assert.deepStrictEqual(
          snapshot.entries.map(({ key, value }) => [key, value]),
          [["a", 1]]
        )
        assert.strictEqual(revision.revision, both[0].header.revision)
        assert.deepStrictEqual(
          revision.events.map((event) => (event._tag === "Put" ? [event.entry.key, event.entry.value] : event.key)),
          [["b", 2], "a"]
        )
      })
    )

    it.effect("does not write what its format cannot spell", () =>
      Effect.gen(function* () {
        const stores: ReadonlyArray<readonly [EtcdStore.Store<any>, unknown, string]> = [
          [EtcdStore.make("no/", Schema.Number as never, { format: "text" }), 5, "what is no text"],
          [EtcdStore.make("no/", Schema.String, { format: "text" }), "a\ud800", "what is no text"],
          [EtcdStore.make("no/", Schema.String as never, { format: "bytes" }), "a", "what is no Uint8Array"]
        ]
        for (const [store, value, said] of stores) {
          const error = yield* Effect.flip(store.put("a", value))
          assert(error._tag === "EtcdSchemaError")
          assert.strictEqual(error.operation, "encode")
          assert.include(error.message, said)
        }
        assert.deepStrictEqual(yield* EtcdKv.get("no/a"), Option.none())
      })
    )

    it.effect("a watch passes over no change for what the key held before", () =>
      Effect.gen(function* () {
        const counters = EtcdStore.make("before/", Schema.Int)
        const { header } = yield* EtcdKv.put("before/a", "x")
        yield* counters.put("a", 1)
        yield* EtcdKv.put("before/a", "y")
        yield* counters.delete("a")
        const options = { startRevision: header.revision + 1n, previousValues: true } as const
        const [put, deleted] = yield* counters
          .watch({ ...options, onInvalid: "skip" })
          .pipe(Stream.take(2), Stream.runCollect)
        assert(put?._tag === "Put" && deleted?._tag === "Delete")
        assert.deepStrictEqual([put.entry.value, put.previous], [1, Option.none()])
        assert.deepStrictEqual([deleted.key, deleted.previous], ["a", Option.none()])
        const error = yield* Effect.flip(Stream.runDrain(counters.watch(options)))
        assert(error._tag === "EtcdSchemaError")
        assert.strictEqual(error.modRevision, header.revision)
      })
    )

    it.effect("other formats", () =>
      Effect.gen(function* () {
        const numbers = EtcdStore.make("text/", Schema.FiniteFromString, { format: "text" })
        yield* numbers.put("n", 12)
        assert.deepStrictEqual(yield* EtcdKv.getString("text/n"), Option.some("12"))
        assert.strictEqual(Option.getOrThrow(yield* numbers.get("n")).value, 12)
        const users = EtcdStore.make("bytes/", SchemaBinary.toCodec(User), { format: "bytes" })
        yield* users.put("ann", ann)
        yield* users.put("bob", bob)
        assert.deepStrictEqual(
          (yield* users.list()).entries.map((entry) => entry.value),
          [ann, bob]
        )
        // @ts-expect-error: the schema does not encode to text
        const _noText = () => EtcdStore.make("x/", User, { format: "text" })
        // @ts-expect-error: the schema does not encode to bytes
        const _noBytes = () => EtcdStore.make("x/", Schema.FiniteFromString, { format: "bytes" })
      })
    )
  })
})
