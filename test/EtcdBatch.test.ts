import { create } from "@bufbuild/protobuf"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import { vi } from "vitest"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdBatch from "../src/EtcdBatch.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as EtcdNamespace from "../src/EtcdNamespace.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { Batched } from "../src/internal/client/batched.ts"
import type { Limit } from "../src/internal/client/limit.ts"
import { KV, TxnResponseSchema } from "../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Watched from "./support/batch/watched.ts"
import { bytes, text } from "./support/bytes.ts"
import { start } from "./support/effects.ts"
import { freeze, standStill, until } from "./support/machine.ts"
import { recorder } from "./support/spans.ts"
import { turns } from "./support/time.ts"

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

const batched = Effect.fnUntraced(function* (options?: EtcdBatch.Options) {
  const watched = Watched.make(yield* EtcdClient.EtcdClient)
  const client = yield* EtcdBatch.fromClient(watched.client, options)
  return { watched, sent: watched.sent, client, kv: EtcdKv.fromClient(client) }
})

/** Starts the first call while nothing is in flight, and the others while it is. */
const together = <A, E>(watched: Watched.Watched, calls: ReadonlyArray<Effect.Effect<A, E>>) =>
  Effect.gen(function* () {
    yield* watched.hold
    const fibers = yield* Effect.forEach(calls, start)
    yield* watched.release
    return yield* Effect.forEach(fibers, Fiber.await)
  })

const all = <A, E>(exits: ReadonlyArray<Exit.Exit<A, E>>) => Effect.forEach(exits, (exit) => exit)

const reasonOf = (exit: Exit.Exit<unknown, EtcdError.EtcdError>) =>
  Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause))?.reason : undefined

const tagOf = (exit: Exit.Exit<unknown, EtcdError.EtcdError>) => (Exit.isSuccess(exit) ? "ok" : reasonOf(exit)?._tag)

const shape = (sent: ReadonlyArray<Watched.Sent>) => sent.map((one) => `${one.name} ${one.operations}`)

/** Until it holds, turn after turn of the event loop. */
const node = Layer.provideMerge(EtcdLease.layer, EtcdLayer.ephemeral({}, { log: false }))
const live = { excludeTestServices: true } as const

describe("EtcdBatch", () => {
  layer(
    node,
    live
  )((it) => {
    it.effect("with nothing in flight a call goes out as it is", () =>
      Effect.gen(function* () {
        const { client, kv, sent } = yield* batched()
        yield* kv.put("alone", "1")
        yield* kv.get("alone")
        yield* kv.delete("alone")
        assert.deepStrictEqual(shape(sent), ["Put 1", "Range 1", "DeleteRange 1"])
        // And nothing stands in its way: it is on its way before its fiber first gives way.
        const before = sent.length
        const fiber = yield* start(client.unary(KV.method.range, { key: bytes("alone") }))
        assert.strictEqual(sent.length, before + 1)
        yield* Fiber.join(fiber)
      })
    )

    it.effect("the size of each batch is counted", () =>
      Effect.gen(function* () {
        const { kv, watched } = yield* batched({ maxInFlight: 1 })
        const sizes = Effect.map(Metric.snapshot, (all) => {
          const found = all.find(
            ({ attributes, id }) =>
              id === "etcd_client_batch_size" && attributes?.["rpc.method"] === "etcdserverpb.KV/Put"
          )
          return found?.type === "Histogram" ? [found.state.count, found.state.sum] : [0, 0]
        })
        const [batches = 0, calls = 0] = yield* sizes
        yield* all(
          yield* together(
            watched,
            numbers(6).map((index) => kv.put(`sized/${index}`, "1"))
          )
        )
        // The first went out alone, as itself.
        assert.deepStrictEqual(yield* sizes, [batches + 1, calls + 5])
      })
    )

    it.effect("what is called while a call is in flight goes together, each kind on its own", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const revision = (yield* kv.put("t/now", "1")).header.revision
        sent.length = 0
        const kinds = numbers(4).flatMap(
          (index): ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError>> => [
            kv.get("t/now"),
            kv.get("t/now", { serializable: true }),
            kv.get("t/now", { revision }),
            kv.get("t/now", { revision, serializable: true }),
            kv.put(`t/put/${index}`, "x"),
            kv.delete(`t/delete/${index}`)
          ]
        )
        yield* Effect.flatMap(together(watched, kinds), all)
        const alone = ["Range 1", "Range 1", "Range 1", "Range 1", "Put 1", "DeleteRange 1"]
        assert.deepStrictEqual(shape(sent.slice(0, 6)), alone)
        assert.deepStrictEqual(shape(sent.slice(6)), Array(6).fill("Txn 3"))
        for (const { requests } of sent.slice(6)) {
          const kind = ({ revision, serializable, value, $typeName: _, ...rest }: any) =>
            `${revision} ${serializable} ${value === undefined ? "" : "put"} ${Object.keys(rest).join()}`
          assert.strictEqual(new Set(requests.map(kind)).size, 1)
        }
        // A member that knows no leader may answer serializable reads, and no others.
        assert.deepStrictEqual(
          sent.slice(6).map(({ requests, options }) => [requests[0].serializable === true, options.requireLeader]),
          sent
            .slice(6)
            .map(({ requests }) => [
              requests[0].serializable === true,
              requests[0].serializable === true ? false : undefined
            ])
        )
      })
    )

    it.effect("each caller gets what it would have got alone", () =>
      Effect.gen(function* () {
        const plain = yield* EtcdKv.EtcdKv
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const header = (yield* plain.put("r/1", "one")).header
        const first = yield* plain.put("r/2", "two")
        const kept = yield* plain.put("r/2", "zwei")
        yield* plain.put("r/4", "four")

        const [, one, two, old, none] = yield* together(watched, [
          kv.range("r/0"),
          kv.range("r/1"),
          kv.range("r/2"),
          kv.range("r/2", { countOnly: true }),
          kv.range("r/3")
        ]).pipe(Effect.flatMap(all))
        assert.deepStrictEqual(one, yield* plain.range("r/1"))
        assert.deepStrictEqual(two, yield* plain.range("r/2"))
        assert.deepStrictEqual(old, yield* plain.range("r/2", { countOnly: true }))
        assert.deepStrictEqual(none, yield* plain.range("r/3"))

        const past = yield* together(
          watched,
          numbers(3).map(() => kv.range("r/2", { revision: first.header.revision }))
        ).pipe(Effect.flatMap(all))
        assert.deepStrictEqual(past[2], yield* plain.range("r/2", { revision: first.header.revision }))

        const puts = yield* together(watched, [
          kv.put("r/0", "zero"),
          kv.put("r/1", "eins", { previousValue: true }),
          kv.put("r/2", "", { ignoreValue: true }),
          kv.put("r/3", "three", { previousValue: true })
        ]).pipe(Effect.flatMap(all))
        assert.strictEqual(Option.getOrThrow(puts[1]!.previous).valueString, "one")
        assert.deepStrictEqual(puts[2]!.previous, Option.none())
        assert.deepStrictEqual(puts[3]!.previous, Option.none())
        const revision = puts[1]!.header.revision
        assert.strictEqual(revision, puts[0]!.header.revision + 1n)
        for (const put of puts.slice(1)) assert.deepStrictEqual(put.header, { ...header, revision })
        const now = Option.getOrThrow(yield* plain.get("r/2"))
        assert.deepStrictEqual([now.valueString, now.modRevision, now.version], ["zwei", revision, 3n])
        assert.strictEqual(now.createRevision, first.header.revision)
        assert.isTrue(now.createRevision < kept.header.revision)

        const deletes = yield* together(watched, [
          kv.delete("r/0"),
          kv.delete("r/none", { previousValues: true }),
          kv.delete("r/1", { previousValues: true }),
          kv.delete("r/2"),
          kv.delete("r/nothing", { errorOnMissing: true })
        ])
        const [, missing, had, gone] = yield* all(deletes.slice(0, 4))
        assert.strictEqual(tagOf(deletes[4]!), "KeyNotFound")
        assert.deepStrictEqual([missing!.deleted, missing!.previous.length], [0n, 0])
        assert.deepStrictEqual([had!.deleted, had!.previous[0]!.valueString], [1n, "eins"])
        assert.deepStrictEqual([gone!.deleted, gone!.previous.length], [1n, 0])
        assert.deepStrictEqual(had!.header, { ...header, revision: revision + 2n })
        assert.deepStrictEqual(yield* plain.get("r/1"), Option.none())
        assert.isAtLeast(sent.filter((one) => one.name === "Txn").length, 4)
      })
    )

    it.effect("keys and values are those of the call, however soon their arrays are used for something else", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const key = bytes("reused/0000")
        const value = new Uint8Array(100)
        const with_ = <A>(index: number, call: () => A): A => {
          key.set(bytes(String(index).padStart(4, "0")), 7)
          value.fill(index)
          return call()
        }
        const name = (index: number) => `reused/${String(index).padStart(4, "0")}`
        /** All of them with the same two arrays, and afterwards there is something else in them. */
        const reusing = <A, E>(count: number, call: () => Effect.Effect<A, E>, before: Effect.Effect<unknown, E>) =>
          Effect.gen(function* () {
            yield* watched.hold
            yield* start(before)
            const fibers = yield* Effect.forEach(numbers(count), (index) => with_(index, () => start(call())))
            with_(9999, () => undefined)
            yield* watched.release
            return yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
          })
        yield* reusing(20, () => kv.put(key, value), kv.put("reused/held", ""))
        for (const index of numbers(20)) {
          const found = Option.getOrThrow(yield* EtcdKv.get(name(index)))
          assert.deepStrictEqual([found.version, found.value], [1n, new Uint8Array(100).fill(index)])
        }
        assert.isTrue(sent.some((one) => one.operations > 1))
        const got = yield* reusing(20, () => kv.get(key), kv.get("reused/held"))
        assert.deepStrictEqual(
          got.map((one) => Option.getOrThrow(one).keyString),
          numbers(20).map(name)
        )
        const remove = () => kv.delete(key, { previousValues: true })
        const deleted = yield* reusing(20, remove, kv.delete("reused/held"))
        assert.deepStrictEqual(
          deleted.map(({ previous }) => previous.map((one) => one.keyString)),
          numbers(20).map((index) => [name(index)])
        )
        // Those of one key wait for each other, and the last one wins.
        yield* reusing(5, () => kv.put("reused/one", value), kv.put("reused/held", ""))
        const one = Option.getOrThrow(yield* EtcdKv.get("reused/one"))
        assert.deepStrictEqual([one.version, one.value], [5n, new Uint8Array(100).fill(4)])
      })
    )

    it.effect("calls with an endpoint, metadata or retries of their own, and other calls, go through as they are", () =>
      Effect.gen(function* () {
        const { kv, client, sent, watched } = yield* batched({ maxInFlight: 1 })
        const endpoint = (yield* client.endpoints)[0]!
        const exits = yield* together<unknown, EtcdError.EtcdError>(watched, [
          kv.get("b/held"),
          kv.get("b/1", { endpoint }),
          kv.get("b/1", { metadata: { "x-test": "1" } }),
          kv.get("b/1", { retry: EtcdClient.defaultRetry }),
          kv.get("b/1", { requireLeader: false }),
          kv.get("b/1", { requireLeader: true }),
          kv.get("b/1", { serializable: true, requireLeader: true }),
          kv.range(KeyRange.prefix("b/")),
          kv.delete(KeyRange.prefix("b/")),
          kv.get(""),
          kv.put("", "x"),
          kv.get("b/1", { deadline: "never" as never })
        ])
        assert.deepStrictEqual(exits.map(tagOf), [
          ...Array(9).fill("ok"),
          "InvalidArgument",
          "InvalidArgument",
          "InvalidArgument"
        ])
        assert.deepStrictEqual(sent.map(({ name }) => name).sort(), [...Array(9).fill("Range"), "DeleteRange"].sort())
      })
    )

    it.effect("requests that are none are refused as they are without batching", () =>
      Effect.gen(function* () {
        const { client, sent, watched } = yield* batched({ maxInFlight: 1 })
        const wrong = [
          { key: "text", value: bytes("1") },
          { key: bytes("none/a"), value: "text" }
        ].map((request) => client.unary(KV.method.put, request as never))
        const exits = yield* together<unknown, EtcdError.EtcdError>(watched, [
          client.unary(KV.method.put, { key: bytes("none/held"), value: bytes("1") }),
          ...wrong,
          client.unary(KV.method.deleteRange, { key: "text" } as never),
          client.unary(KV.method.range, { key: "text" } as never),
          client.unary(KV.method.put, { key: bytes("none/b") })
        ])
        assert.deepStrictEqual(exits.map(tagOf), ["ok", ...Array(4).fill("InvalidArgument"), "ok"])
        assert.isTrue(sent.every(({ name }) => name !== "Txn"))
        assert.deepStrictEqual(yield* EtcdKv.get("none/a"), Option.none())
      })
    )

    it.effect("limits on operations, bytes and requests in flight", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxOperations: 10, maxBytes: 2000, maxInFlight: 2 })
        let inFlight = 0
        let most = 0
        watched.answer = (_, answer) =>
          Effect.suspend(() => {
            most = Math.max(most, ++inFlight)
            return Effect.ensuring(
              answer,
              Effect.sync(() => {
                inFlight--
              })
            )
          })
        yield* together(
          watched,
          numbers(100).map((index) => kv.get(`l/${index}`))
        ).pipe(Effect.flatMap(all))
        assert.strictEqual(Math.max(...sent.map((one) => one.operations)), 10)
        assert.strictEqual(most, 2)
        sent.length = 0
        const sizes = [1, 900, 900, 900, 5000, 900, 1, 1, 1]
        yield* together(
          watched,
          sizes.map((size, index) => kv.put(`l/${index}`, "x".repeat(size)))
        ).pipe(Effect.flatMap(all))
        for (const { operations, requests } of sent) {
          const size = requests.reduce((sum, { key, value }) => sum + key.length + value.length, 0)
          assert.isTrue(operations === 1 || size <= 2000, `${operations} operations of ${size} bytes`)
        }
        assert.strictEqual(
          sent.reduce((sum, one) => sum + one.operations, 0),
          sizes.length
        )
        assert.isTrue(sent.some((one) => one.operations > 1))
      })
    )

    it.effect("options that make no sense are refused", () =>
      Effect.gen(function* () {
        for (const options of [{ maxOperations: 0 }, { maxBytes: 1.5 }, { maxInFlight: Number.NaN }]) {
          const error = yield* Effect.flip(batched(options))
          assert.strictEqual(error.reason._tag, "InvalidArgument")
          assert.include(error.message, Object.keys(options)[0]!)
        }
        const error = yield* Effect.flip(
          Effect.scoped(EtcdClient.make({ endpoints: ["127.0.0.1:1"], batching: { maxOperations: -1 } }))
        )
        assert.include(error.message, "maxOperations")
      })
    )

    it.effect("writes of one key never share a transaction, and keep their order", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched()
        interface Answer {
          readonly key: string
          readonly value: string | undefined
          readonly revision: bigint
          readonly previous: ReadonlyArray<string>
        }
        const writes = numbers(60).map((index): Effect.Effect<Answer, EtcdError.EtcdError> => {
          const key = `o/${index % 3}`
          return index % 4 === 3
            ? Effect.map(kv.delete(key, { previousValues: true }), ({ header, previous }) => ({
                key,
                value: undefined,
                revision: header.revision,
                previous: previous.map((kv) => kv.valueString)
              }))
            : Effect.map(kv.put(key, `${index}`, { previousValue: true }), ({ header, previous }) => ({
                key,
                value: `${index}`,
                revision: header.revision,
                previous: Option.toArray(previous).map((kv) => kv.valueString)
              }))
        })
        const answers = yield* Effect.flatMap(together(watched, writes), all)
        for (const key of ["o/0", "o/1", "o/2"]) {
          let revision = 0n
          let value: ReadonlyArray<string> = []
          for (const answer of answers.filter((one) => one.key === key)) {
            assert.isTrue(answer.revision > revision)
            assert.deepStrictEqual(answer.previous, value)
            revision = answer.revision
            value = Option.toArray(Option.fromUndefinedOr(answer.value))
          }
        }
        for (const { requests } of sent) {
          assert.strictEqual(new Set(requests.map(({ key }) => text(key))).size, requests.length)
        }
        assert.isTrue(sent.some((one) => one.operations > 1))
      })
    )

    it.effect("a caller that gives up before its call is sent is left out", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        yield* watched.hold
        const first = yield* start(kv.put("c/first", "1"))
        const waiting = yield* Effect.forEach(numbers(5), (index) => start(kv.put(`c/${index}`, "1")))
        const behind = yield* start(kv.put("c/1", "2"))
        const last = yield* start(kv.put("c/1", "3"))
        yield* Fiber.interrupt(behind)
        yield* Fiber.interrupt(waiting[1]!)
        yield* Fiber.interrupt(waiting[3]!)
        yield* watched.release
        yield* Fiber.join(first)
        yield* Fiber.join(last)
        for (const index of [0, 2, 4]) yield* Fiber.join(waiting[index]!)
        assert.deepStrictEqual(
          sent.flatMap(({ requests }) => requests.map(({ key, value }) => `${text(key)}=${text(value)}`)).sort(),
          ["c/0=1", "c/1=3", "c/2=1", "c/4=1", "c/first=1"]
        )
        const kept = Option.getOrThrow(yield* kv.get("c/1"))
        assert.deepStrictEqual([kept.valueString, kept.version], ["3", 1n])
      })
    )

    it.effect("a caller that gives up later leaves the others alone; the last one ends the request", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched()
        yield* watched.hold
        const first = yield* start(kv.put("g/first", "1"))
        const some = yield* Effect.forEach(numbers(3), (index) => start(kv.put(`g/${index}`, "1")))
        yield* until(() => sent.length === 2)
        yield* Fiber.interrupt(some[0]!)
        assert.isFalse(sent[1]!.interrupted)
        yield* watched.release
        yield* Effect.forEach([first, some[1]!, some[2]!], Fiber.join)
        assert.strictEqual(Option.getOrThrow(yield* kv.get("g/0")).valueString, "1")

        sent.length = 0
        yield* watched.hold
        const held = yield* start(kv.get("g/first"))
        const others = yield* Effect.forEach(numbers(3), (index) => start(kv.get(`g/${index}`)))
        yield* until(() => sent.length === 2)
        yield* Fiber.interrupt(others[0]!)
        yield* Fiber.interrupt(others[1]!)
        assert.isFalse(sent[1]!.interrupted)
        yield* Fiber.interrupt(others[2]!)
        yield* until(() => sent[1]!.interrupted)
        yield* Fiber.interrupt(held)
        yield* until(() => sent[0]!.interrupted)
        yield* watched.release
        // No place is lost.
        yield* together(
          watched,
          numbers(20).map((index) => kv.get(`g/${index}`))
        ).pipe(Effect.flatMap(all))
      })
    )

    it.effect("deadlines hold for each caller, whether it was sent or not", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        yield* watched.hold
        const first = yield* start(kv.put("d/first", "1"))
        const unsent = yield* Effect.exit(kv.put("d/unsent", "1", { deadline: "10 millis" }))
        const stuck = yield* Effect.exit(kv.put("d/first", "2", { deadline: "10 millis" }))
        yield* watched.release
        yield* Fiber.join(first)
        assert.strictEqual(sent.length, 1)
        for (const exit of [unsent, stuck]) {
          assert.strictEqual(tagOf(exit), "DeadlineExceeded")
          assert.strictEqual(reasonOf(exit)?.outcome, "not-applied")
        }
        assert.deepStrictEqual(yield* kv.get("d/unsent"), Option.none())

        const late = yield* batched()
        yield* late.watched.hold
        const others = yield* Effect.forEach(numbers(3), (index) =>
          start(late.kv.put(`d/${index}`, "1", { deadline: "1 minute" }))
        )
        const write = yield* Effect.exit(late.kv.put("d/late", "1", { deadline: "50 millis" }))
        const held = yield* start(late.kv.get("d/held"))
        const read = yield* start(Effect.exit(late.kv.get("d/late", { deadline: "50 millis" })))
        const other = yield* start(late.kv.get("d/0", { deadline: "1 minute" }))
        const readExit = yield* Fiber.join(read)
        yield* late.watched.release
        yield* Effect.forEach([...others, held, other], (fiber) => Fiber.join(fiber as Fiber.Fiber<unknown>))
        assert.deepStrictEqual([tagOf(write), reasonOf(write)?.outcome], ["DeadlineExceeded", "unknown"])
        assert.deepStrictEqual([tagOf(readExit), reasonOf(readExit)?.outcome], ["DeadlineExceeded", "not-applied"])
        assert.include(reasonOf(write)?.message, "KV.Put")
      })
    )

    it.effect("the client's deadline counts from the call, and one of the call's own takes its place", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        const client = yield* EtcdClient.make({ endpoints: etcd.endpoints, deadline: "20 millis" })
        const watched = Watched.make(client)
        const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(watched.client, { maxInFlight: 1 }))
        yield* kv.get("e/connected", { deadline: "1 minute" })
        yield* watched.hold
        const patient = { deadline: "1 minute" } as const
        const first = yield* start(kv.get("e/first", patient))
        const late = yield* Effect.forEach([kv.get("e/1"), kv.get("e/2"), kv.get("e/3")], (get) =>
          start(Effect.exit(get))
        )
        const others = yield* Effect.forEach([kv.get("e/4", patient), kv.get("e/5", { deadline: "Infinity" })], start)
        for (const exit of yield* Effect.forEach(late, (fiber) => Fiber.join(fiber))) {
          assert.deepStrictEqual([tagOf(exit), reasonOf(exit)?.outcome], ["DeadlineExceeded", "not-applied"])
        }
        yield* watched.release
        yield* Effect.forEach([first, ...others], (fiber) =>
          Fiber.join(fiber as Fiber.Fiber<unknown, EtcdError.EtcdError>)
        )
      }).pipe(Effect.scoped)
    )

    it.effect("calls share a transaction whatever their deadlines are, and each is told of its own", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        yield* watched.hold
        const first = yield* start(kv.put("mixed/first", "1"))
        const options = [undefined, { deadline: "Infinity" }, { deadline: "1 minute" }, { deadline: 20 }] as const
        const fibers = yield* Effect.forEach(numbers(12), (index) =>
          start(Effect.exit(kv.put(`mixed/${index}`, "1", options[index % 4])))
        )
        const late = yield* Effect.forEach([3, 7, 11], (index) => Fiber.join(fibers[index]!))
        yield* watched.release
        yield* Fiber.join(first)
        const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
        assert.deepStrictEqual(
          exits.map(tagOf),
          numbers(12).map((index) => (index % 4 === 3 ? "DeadlineExceeded" : "ok"))
        )
        for (const exit of late) assert.include(reasonOf(exit)?.message, "the deadline of 20 ms")
        assert.deepStrictEqual(shape(sent), ["Put 1", "Txn 9"])
      })
    )

    it.effect("whose time is up is told of its own deadline, whatever the request had left of it", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        const { kv, sent } = yield* batched({ maxInFlight: 1 })
        yield* kv.get("told/connected")
        sent.length = 0
        const told = Effect.fnUntraced(function* (calls: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError>>) {
          // Not from within the answer to a call before.
          yield* Effect.yieldNow
          const held = yield* start(calls[0]!)
          const fibers = yield* Effect.forEach(calls.slice(1), (call) => start(Effect.flip(call)))
          // What was before them is given up.
          yield* Fiber.interrupt(held)
          return yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
        })
        const put = (index: number, deadline: number) => kv.put(`told/${index}`, "1", { deadline })
        yield* freeze(etcd)
        yield* Effect.gen(function* () {
          const both = yield* told([put(0, 300), put(1, 300), put(2, 400)])
          assert.deepStrictEqual(shape(sent), ["Put 1", "Txn 2"])
          for (const [index, error] of both.entries()) {
            assert.deepStrictEqual([error.reason._tag, error.outcome], ["DeadlineExceeded", "unknown"])
            assert.include(error.message, `KV.Put`)
            assert.include(error.message, `no answer within the deadline of ${[300, 400][index]} ms. Give`)
          }
          const alone = yield* told([put(0, 300), put(0, 350)])
          assert.deepStrictEqual(shape(sent.slice(2)), ["Put 1", "Put 1"])
          assert.include(alone[0]!.message, "no answer within the deadline of 350 ms. Give")
          const [read] = yield* told([kv.get("told/0"), kv.get("told/1", { deadline: 300 })])
          assert.deepStrictEqual([read!.reason._tag, read!.outcome], ["DeadlineExceeded", "not-applied"])
          assert.include(read!.message, "no answer within the deadline of 300 ms. Give")
        }).pipe(Effect.ensuring(etcd.signal("SIGCONT")))
      })
    )

    /** What became of each put, in the store, has to be what its caller was told. */
    const agree = Effect.fnUntraced(function* (
      puts: ReadonlyMap<string, Exit.Exit<unknown, EtcdError.EtcdError>>,
      prefix: string
    ) {
      const { kvs } = yield* EtcdKv.range(KeyRange.prefix(prefix))
      const versions = new Map(kvs.map((kv) => [kv.keyString, kv.version]))
      for (const [key, exit] of puts) {
        const version = versions.get(key)
        if (Exit.isSuccess(exit)) assert.strictEqual(version, 1n, key)
        else if (reasonOf(exit)?.outcome === "not-applied") assert.isUndefined(version, key)
        else assert.isTrue(version === undefined || version === 1n, key)
      }
    })

    it.effect("a thousand callers, late, patient and gone, while the only member stands still", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        const own = yield* EtcdClient.make({ endpoints: etcd.endpoints, keepAliveInterval: "Infinity" })
        const watched = Watched.make(own)
        const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(watched.client))
        yield* kv.get("still")
        const options = [
          undefined,
          { deadline: 1 },
          { deadline: "Infinity" },
          { deadline: "1 minute" },
          undefined
        ] as const
        const isLate = (index: number) => index % 5 === 1
        const isGone = (index: number) => index % 5 === 4
        const started = yield* Effect.gen(function* () {
          yield* freeze(etcd)
          const started = yield* Effect.forEach(numbers(1000), (index) => {
            const key = `still/${index}`
            const calls: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError>> = [
              kv.put(key, "1", options[index % 5]),
              kv.get(key, options[index % 5]),
              kv.delete(`${key}/none`, options[index % 5])
            ]
            return Effect.forEach(calls, (call) => start(Effect.exit(call)))
          })
          for (const [index, calls] of started.entries()) {
            if (isGone(index)) yield* Fiber.interruptAll(calls)
            else if (isLate(index)) yield* Fiber.awaitAll(calls)
          }
          return started
        }).pipe(Effect.ensuring(etcd.signal("SIGCONT")))
        const puts = new Map<string, Exit.Exit<unknown, EtcdError.EtcdError>>()
        for (const [index, calls] of started.entries()) {
          const exits = yield* Effect.forEach(calls, Fiber.await)
          if (isGone(index)) continue
          for (const exit of exits) {
            const told = yield* exit
            assert.strictEqual(tagOf(told), isLate(index) ? "DeadlineExceeded" : "ok")
          }
          puts.set(`still/${index}`, yield* exits[0]!)
        }
        yield* agree(puts, "still/")
        watched.sent.length = 0
        yield* Effect.all([kv.put("still", "1"), kv.get("still"), kv.delete("still")])
        assert.deepStrictEqual(shape(watched.sent), ["Put 1", "Range 1", "DeleteRange 1"])
      }).pipe(Effect.scoped)
    )

    it.effect("a client that closes ends every call, and each says whether it may have been applied", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        for (const isPaused of [true, false]) {
          const prefix = `closing/${isPaused}/`
          const scope = yield* Scope.make()
          const client = yield* Scope.provide(EtcdClient.make({ endpoints: etcd.endpoints, batching: true }), scope)
          const kv = EtcdKv.fromClient(client)
          yield* kv.get("closing")
          if (isPaused) yield* freeze(etcd)
          const exits = yield* Effect.gen(function* () {
            const keys = numbers(1500).map((index) => `${prefix}${index}`)
            const fibers = yield* Effect.forEach(keys, (key) => start(Effect.exit(kv.put(key, "1"))))
            // What is on its way now cannot be known.
            yield* Effect.yieldNow
            yield* Scope.close(scope, Exit.void)
            const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))
            return new Map(keys.map((key, index) => [key, exits[index]!]))
          }).pipe(Effect.ensuring(etcd.signal("SIGCONT")))
          const outcomes = new Set([...exits.values()].map((exit) => reasonOf(exit)?.outcome))
          if (isPaused) assert.includeMembers([...outcomes], ["not-applied", "unknown"])
          const after = yield* Effect.exit(kv.put("closing", "1"))
          assert.deepStrictEqual([tagOf(after), reasonOf(after)?.outcome], ["Unreachable", "not-applied"])
          yield* agree(exits, prefix)
        }
      })
    )

    it.effect("a request that is out for long does not hold up the others", () =>
      Effect.gen(function* () {
        const { kv, watched } = yield* batched({ maxInFlight: 1 })
        const held: Array<Watched.Sent> = []
        const release = yield* Latch.make()
        watched.answer = (sent, answer) => {
          if (held.length > 0) return answer
          held.push(sent)
          return Effect.andThen(release.await, answer)
        }
        const slow = yield* start(kv.put("h/slow", "1"))
        yield* Effect.forEach(numbers(300), (index) => kv.put(`h/${index}`, "1"), { concurrency: "unbounded" })
        assert.strictEqual(slow.pollUnsafe(), undefined)
        yield* release.open
        yield* Fiber.join(slow)
      })
    )

    it.effect("what one call is refused for, the others do not suffer", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const { id: lease } = yield* EtcdLease.grant("1 minute")
        const { id: ended } = yield* EtcdLease.grant("1 minute")
        yield* EtcdLease.revoke(ended)
        const exits = yield* together(
          watched,
          numbers(40).map((index) => {
            switch (index) {
              case 5:
                return kv.put("s/none", "", { ignoreValue: true })
              case 11:
                return kv.put("s/none/either", "x", { ignoreLease: true })
              case 17:
                return kv.put("s/ended", "x", { lease: ended })
              case 23:
                return kv.put("s/both", "x", { ignoreValue: true })
              case 29:
                return kv.put("s/both/too", "x", { ignoreLease: true, lease })
              default:
                return kv.put(`s/${index}`, "x", { lease })
            }
          })
        )
        const failures = new Map([
          [5, "KeyNotFound"],
          [11, "KeyNotFound"],
          [17, "LeaseNotFound"],
          [23, "InvalidArgument"],
          [29, "InvalidArgument"]
        ])
        for (const [index, exit] of exits.entries()) {
          assert.strictEqual(tagOf(exit), failures.get(index) ?? "ok", `call ${index}`)
          if (failures.has(index)) {
            assert.strictEqual(reasonOf(exit)?.outcome, "not-applied")
            assert.strictEqual(reasonOf(exit)?.method, "KV.Put")
          }
        }
        assert.isTrue(sent.some((one) => one.name === "Txn" && one.operations > 1))
        for (const index of [1, 4, 6, 39]) {
          assert.deepStrictEqual(Option.getOrThrow(yield* EtcdKv.get(`s/${index}`)).version, 1n)
        }
        yield* EtcdLease.revoke(lease)
      })
    )

    it.effect("reads of revisions that are gone or not yet there fail alone", () =>
      Effect.gen(function* () {
        const { kv, watched } = yield* batched({ maxInFlight: 1 })
        const old = (yield* kv.put("a/x", "1")).header.revision
        const kept = (yield* kv.put("a/x", "2")).header.revision
        yield* kv.compact(kept)
        const exits = yield* together(watched, [
          kv.get("a/x", { revision: kept }),
          kv.get("a/x", { revision: kept }),
          kv.get("a/x", { revision: old }),
          kv.get("a/x", { revision: kept + 1000n }),
          kv.get("a/x", { revision: kept }),
          kv.get("a/x")
        ])
        assert.deepStrictEqual(exits.map(tagOf), ["ok", "ok", "Compacted", "FutureRevision", "ok", "ok"])
        assert.strictEqual(Option.getOrThrow(yield* exits[4]!).valueString, "2")
      })
    )

    it.effect("a transaction with an unknown outcome is not sent again, and every write in it says so", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const lost = EtcdError.make(
          new EtcdError.ConnectionLost({
            message: "KV.Txn at a:1 failed: gone.",
            outcome: "unknown",
            method: "KV.Txn",
            endpoint: "a:1"
          })
        )
        watched.answer = (one, answer) =>
          one.name === "Txn" ? Effect.flatMap(answer, () => Effect.fail(lost)) : answer
        const exits = yield* together(
          watched,
          numbers(6).map((index) => kv.put(`u/${index}`, "1"))
        )
        assert.deepStrictEqual(exits.map(tagOf), ["ok", ...Array(5).fill("ConnectionLost")])
        for (const exit of exits.slice(1)) {
          const reason = reasonOf(exit)!
          assert.deepStrictEqual([reason.outcome, reason.method, reason.endpoint], ["unknown", "KV.Put", "a:1"])
          assert.include(reason.message, "KV.Put (batched) at a:1")
        }
        assert.deepStrictEqual(shape(sent), ["Put 1", "Txn 5"])
        assert.strictEqual(Option.getOrThrow(yield* EtcdKv.get("u/3")).version, 1n)
      })
    )

    it.effect("reads that nobody could answer now are not asked again one by one", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const refused = (code: number) =>
          EtcdError.make(
            new EtcdError.GrpcStatus({ message: "On purpose.", outcome: "not-applied", code, status: "on purpose" })
          )
        const gets = numbers(9).map((index) => kv.get(`refused/${index}`))
        // The client below has tried that for as long as is worth it.
        watched.answer = (one, answer) => (one.name === "Txn" ? Effect.fail(refused(14)) : answer)
        const exits = yield* together(watched, gets)
        assert.deepStrictEqual(exits.map(tagOf), ["ok", ...Array(8).fill("GrpcStatus")])
        assert.deepStrictEqual(shape(sent), ["Range 1", "Txn 8"])
        // What is wrong with the answer to all of them may be right with each.
        watched.answer = (one, answer) => (one.name === "Txn" ? Effect.fail(refused(8)) : answer)
        yield* Effect.flatMap(together(watched, gets), all)
      })
    )

    it.effect("under a namespace, and over one", () =>
      Effect.gen(function* () {
        const { client, watched } = yield* batched({ maxInFlight: 1 })
        const under = EtcdKv.fromClient(EtcdNamespace.fromClient(client, "ns/"))
        const over = EtcdKv.fromClient(
          yield* EtcdBatch.fromClient(EtcdNamespace.fromClient(watched.client, "ns/"), { maxInFlight: 1 })
        )
        yield* together(
          watched,
          numbers(5).map((index) => under.put(`k${index}`, `${index}`))
        ).pipe(Effect.flatMap(all))
        for (const kv of [under, over]) {
          const found = yield* together(
            watched,
            numbers(6).map((index) => kv.get(`k${index}`))
          ).pipe(Effect.flatMap(all))
          assert.deepStrictEqual(
            found.map((kv) => Option.getOrUndefined(Option.map(kv, (kv) => `${kv.keyString}=${kv.valueString}`))),
            ["k0=0", "k1=1", "k2=2", "k3=3", "k4=4", undefined]
          )
        }
        assert.isTrue(watched.sent.filter((one) => one.name === "Txn").length >= 3)
        assert.strictEqual(Option.getOrThrow(yield* EtcdKv.getString("ns/k3")), "3")
      })
    )

    it.effect("a small value that is kept does not keep the large ones that came with it", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const longKey = `kept/${"k".repeat(100)}`
        yield* EtcdKv.put("kept/large", new Uint8Array(1_000_000))
        yield* EtcdKv.put("kept/small", new Uint8Array(100).fill(1))
        yield* EtcdKv.put(longKey, new Uint8Array(200).fill(2))
        const keys = ["kept", "kept/small", "kept/large", longKey]
        const found = yield* Effect.flatMap(
          together(
            watched,
            keys.map((key) => kv.get(key))
          ),
          all
        )
        const previous = yield* Effect.flatMap(
          together(
            watched,
            keys.map((key) => kv.put(key, "", { previousValue: true }))
          ),
          all
        )
        yield* Effect.forEach(keys, (key) => EtcdKv.put(key, new Uint8Array(key === "kept/large" ? 1_000_000 : 100)))
        const deleted = yield* Effect.flatMap(
          together(
            watched,
            keys.map((key) => kv.delete(key, { previousValues: true }))
          ),
          all
        )
        assert.deepStrictEqual(
          shape(sent).filter((one) => one.startsWith("Txn")),
          ["Txn 3", "Txn 3", "Txn 3"]
        )
        assert.deepStrictEqual(Option.getOrThrow(found[1]!).value, new Uint8Array(100).fill(1))
        assert.strictEqual(Option.getOrThrow(found[3]!).keyString, longKey)
        for (const index of [1, 3]) {
          const kvs = [found[index]!, previous[index]!.previous, Option.some(deleted[index]!.previous[0]!)]
          for (const kv of kvs.map((kv) => Option.getOrThrow(kv))) {
            assert.isBelow(kv.value.buffer.byteLength, 10_000)
            assert.isBelow(kv.key.buffer.byteLength, 10_000)
          }
        }
        // A large one is not copied for it.
        assert.isAbove(Option.getOrThrow(found[2]!).value.buffer.byteLength, 1_000_000)
      })
    )

    it.effect("large values are not read many at once", () =>
      Effect.gen(function* () {
        const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
        const keys = numbers(8).map((index) => `large/${index}`)
        for (const key of keys) yield* EtcdKv.put(key, "x".repeat(500_000))
        const gets = [...keys, ...keys, ...keys, ...keys].map((key) => kv.get(key))
        yield* Effect.flatMap(together(watched, gets), all)
        sent.length = 0
        yield* Effect.flatMap(together(watched, gets), all)
        assert.isTrue(sent.length > 1)
        assert.isTrue(sent.every((one) => one.operations <= 3))
        yield* EtcdKv.deletePrefix("large/")
        for (let round = 0; round < 20; round++) yield* Effect.flatMap(together(watched, gets), all)
        assert.isAtLeast(sent.at(-1)!.operations, gets.length - 1)
      })
    )

    it.effect("values that were there before are asked for together only as far as a message has room for them", () =>
      Effect.gen(function* () {
        const { endpoints } = yield* EtcdProcess.EtcdProcess
        const client = yield* EtcdClient.make({ endpoints, maxReceiveMessageSize: "4 MiB" })
        for (const over of [client, EtcdNamespace.fromClient(client, "before/")]) {
          const watched = Watched.make(over)
          const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(watched.client, { maxInFlight: 1 }))
          const keys = numbers(8).map((index) => `before/${index}`)
          for (const key of keys) yield* kv.put(key, new Uint8Array(1_400_000).fill(1))
          const writes = (key: string) => [
            kv.put(key, "x", { previousValue: true }),
            kv.put(`${key}/other`, "x"),
            kv.delete(key, { previousValues: true })
          ]
          const exits = yield* together<unknown, EtcdError.EtcdError>(watched, keys.flatMap(writes))
          assert.deepStrictEqual(exits.map(tagOf), Array(24).fill("ok"))
          assert.isTrue(watched.sent.some((one) => one.operations > 2))
        }
      }).pipe(Effect.scoped)
    )

    it.effect("a call that waited has a span, and so has the transaction", () =>
      Effect.gen(function* () {
        const { kv, watched } = yield* batched({ maxInFlight: 1 })
        const { spans, tracer } = recorder()
        yield* together(
          watched,
          numbers(3).map((index) => kv.get(`span/${index}`))
        ).pipe(Effect.flatMap(all), Effect.withTracer(tracer))
        const parentOf = (span: Tracer.NativeSpan) =>
          spans.find((other) => other.spanId === Option.getOrUndefined(span.parent)?.spanId)?.name
        assert.deepStrictEqual(spans.map((span) => [span.name, parentOf(span), span.status._tag]).sort(), [
          ["EtcdKv.get", undefined, "Ended"],
          ["EtcdKv.get", undefined, "Ended"],
          ["etcdserverpb.KV/Range", undefined, "Ended"],
          ["etcdserverpb.KV/Txn", "EtcdKv.get", "Ended"]
        ])
        // It has one place in a trace, and links to the others whom it serves.
        const transaction = spans.find(({ name }) => name.endsWith("Txn"))!
        const others = spans.filter(
          ({ name, spanId }) => name === "EtcdKv.get" && spanId !== Option.getOrUndefined(transaction.parent)?.spanId
        )
        assert.deepStrictEqual(
          transaction.links.map(({ span }) => span.spanId),
          others.map(({ spanId }) => spanId)
        )
      })
    )

    it.effect("many thousands at once", () =>
      Effect.gen(function* () {
        const { kv, sent } = yield* batched()
        const keys = numbers(5000)
        const puts = yield* Effect.forEach(keys, (index) => kv.put(`many/${index % 4000}`, `${index}`), {
          concurrency: "unbounded"
        })
        assert.strictEqual(puts.length, keys.length)
        const got = yield* Effect.forEach(keys, (index) => kv.getString(`many/${index % 4000}`), {
          concurrency: "unbounded"
        })
        for (const [index, value] of got.entries()) {
          const last = index % 4000 < 1000 ? (index % 4000) + 4000 : index % 4000
          assert.deepStrictEqual(value, Option.some(`${last}`))
        }
        assert.isTrue(sent.length < 200)
      })
    )

    it.effect("for a part of a program, and for a client", () =>
      Effect.gen(function* () {
        const watched = Watched.make(yield* EtcdClient.EtcdClient)
        const calls = Effect.forEach(numbers(50), (index) => EtcdKv.put(`p/${index}`, "1"), {
          concurrency: "unbounded",
          discard: true
        })
        yield* calls.pipe(
          Effect.provide(EtcdBatch.layer(EtcdKv.layer)),
          Effect.provideService(EtcdClient.EtcdClient, watched.client)
        )
        assert.isTrue(watched.sent.length < 10)
        assert.isTrue(watched.sent.some((one) => one.name === "Txn"))

        const etcd = yield* EtcdProcess.EtcdProcess
        const kv = EtcdKv.fromClient(
          yield* EtcdClient.make({ endpoints: etcd.endpoints, batching: true, deadline: "20 seconds" })
        )
        const revisions = yield* Effect.forEach(
          numbers(50),
          (index) => Effect.map(kv.put(`q/${index}`, "1"), ({ header }) => header.revision),
          { concurrency: "unbounded" }
        )
        assert.isTrue(new Set(revisions).size < 50)
      }).pipe(Effect.scoped)
    )
  })

  describe("a server with smaller limits", () => {
    const small = EtcdLayer.ephemeral({ maxTxnOps: 3, maxRequestBytes: 4096 }, { log: false })
    layer(
      small,
      live
    )((it) => {
      it.effect("is noticed", () =>
        Effect.gen(function* () {
          const { kv, sent, watched } = yield* batched({ maxInFlight: 1 })
          const gets = numbers(40).map((index) => kv.get(`small/${index}`))
          yield* Effect.flatMap(together(watched, gets), all)
          sent.length = 0
          yield* Effect.flatMap(together(watched, gets), all)
          assert.isTrue(sent.every((one) => one.operations <= 3))

          const puts = numbers(30).map((index) => kv.put(`small/${index}`, "x".repeat(index === 7 ? 5000 : 1500)))
          const exits = yield* together(watched, puts)
          for (const [index, exit] of exits.entries()) {
            assert.strictEqual(tagOf(exit), index === 7 ? "RequestTooLarge" : "ok", `put ${index}`)
          }
        })
      )
    })
  })

  /** A client that has no server. */
  const stub = (
    unary: (method: string, options: EtcdClient.CallOptions & Batched) => Effect.Effect<any, EtcdError.EtcdError>
  ): EtcdClient.Client => ({
    unary: (method, _, options) => Effect.suspend(() => unary(method.name, options ?? {})),
    serverStream: () => Stream.never,
    bidirectional: () => Effect.never,
    defaults: () => ({}),
    endpoints: Effect.succeed([])
  })

  it.live("an answer that came in time is read, however long it is, where this process stood still", () =>
    Effect.gen(function* () {
      const response = { response: { case: "responseRange" as const, value: { header: {} } } }
      const answer = create(TxnResponseSchema, { header: {}, succeeded: true, responses: [response, response] })
      const arrived = yield* Latch.make()
      const sent: Array<string> = []
      const client = stub((method, options) => {
        sent.push(method)
        if (method !== "Txn") return Effect.never
        // More of it is read each time that one looks.
        options[Batched]!.heard = () => performance.now()
        return Effect.as(arrived.await, answer)
      })
      const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(client, { maxInFlight: 1 }))
      const held = yield* start(kv.get("held"))
      const gets = yield* Effect.forEach(numbers(2), (index) => start(kv.get(`${index}`, { deadline: 500 + index })))
      yield* Fiber.interrupt(held)
      assert.deepStrictEqual(sent, ["Range", "Txn"])
      yield* standStill(2500)
      yield* Effect.sleep("150 millis")
      yield* arrived.open
      for (const get of gets) assert.deepStrictEqual(yield* Fiber.join(get), Option.none())
    })
  )

  it("a call whose caller sets no deadline has the usual one from when it is made, wherever it waits", () =>
    Effect.gen(function* () {
      yield* Effect.acquireRelease(
        Effect.sync(() => vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] })),
        () => Effect.sync(() => vi.useRealTimers())
      )
      const sent: Array<{ readonly name: string; readonly limit: Limit | undefined }> = []
      const silent = stub((method, options) => {
        sent.push({ name: method, limit: options[Batched]?.limit })
        return Effect.never
      })
      const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(silent, { maxInFlight: 1 }))
      const pass = (millis: number) =>
        Effect.andThen(
          Effect.sync(() => vi.advanceTimersByTime(millis)),
          // What is overdue lets the sockets be read first.
          turns(20)
        )
      yield* start(kv.put("a", "1"))
      const behind = yield* start(Effect.flip(kv.put("a", "2")))
      yield* pass(100)
      const shared = yield* start(Effect.flip(kv.put("b", "1")))
      yield* pass(50)
      yield* start(kv.put("c", "1"))
      yield* pass(950)
      // The place of the first call was given away.
      assert.deepStrictEqual(
        sent.map(({ name }) => name),
        ["Put", "Txn"]
      )
      assert.strictEqual(sent[1]!.limit?.isTimed, false)
      assert.isAtMost(sent[1]!.limit!.millis, 30_000 - 200)
      yield* pass(28_000)
      const late = yield* start(Effect.flip(kv.put("a", "3")))
      assert.isUndefined(behind.pollUnsafe())
      yield* pass(900)
      const error = yield* Fiber.join(behind)
      assert.deepStrictEqual([error.reason._tag, error.outcome], ["DeadlineExceeded", "not-applied"])
      assert.include(
        error.message,
        "30000 ms, the limit where no deadline is set, passed before the request could be sent."
      )
      yield* pass(100)
      const first = yield* Fiber.join(shared)
      assert.deepStrictEqual([first.reason._tag, first.outcome], ["DeadlineExceeded", "unknown"])
      assert.include(first.message, "no answer within 30000 ms, the limit where no deadline is set.")
      assert.isUndefined(late.pollUnsafe())
    }).pipe(Effect.scoped, Effect.runPromise))

  it.live("what one key is forbidden for, the others do not suffer", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.EtcdProcess
      yield* EtcdAuth.addUser("root", Redacted.make("r"))
      yield* EtcdAuth.addRole("root")
      yield* EtcdAuth.grantRole("root", "root")
      yield* EtcdAuth.addRole("app")
      yield* EtcdAuth.grantPermission("app", "readwrite", KeyRange.prefix("app/"))
      yield* EtcdAuth.addUser("app", Redacted.make("a"))
      yield* EtcdAuth.grantRole("app", "app")
      yield* EtcdAuth.enable()
      const credentials = { username: "app", password: Redacted.make("a") }
      const watched = Watched.make(yield* EtcdClient.make({ endpoints: etcd.endpoints, credentials }))
      const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(watched.client, { maxInFlight: 1 }))
      yield* kv.put("app/0", "0")
      const key = (index: number) => (index % 7 === 3 ? `other/${index}` : `app/${index}`)
      const expected = numbers(20).map((index) => (index % 7 === 3 ? "PermissionDenied" : "ok"))
      const puts = yield* together(
        watched,
        numbers(20).map((index) => kv.put(key(index), `${index}`))
      )
      assert.deepStrictEqual(puts.map(tagOf), expected)
      const gets = yield* together(
        watched,
        numbers(20).map((index) => kv.getString(key(index)))
      )
      assert.deepStrictEqual(gets.map(tagOf), expected)
      assert.deepStrictEqual(yield* gets[19]!, Option.some("19"))
      const deletes = yield* together(
        watched,
        numbers(20).map((index) => kv.delete(key(index)))
      )
      assert.deepStrictEqual(deletes.map(tagOf), expected)
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(EtcdAuth.layer, EtcdLayer.ephemeral({}, { log: false }))))
  )
})
