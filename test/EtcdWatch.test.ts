import { assert, describe, layer } from "@effect/vitest"
import { Effect, Fiber, Option, Stream } from "effect"
import { EtcdKv, EtcdLayer, EtcdWatch, KeyRange } from "effect-etcd"

const describeEvent = (event: EtcdWatch.WatchEvent) =>
  event._tag === "Put" ? `${event.kv.keyString}=${event.kv.valueString}` : `${event.kv.keyString} deleted`

describe("EtcdWatch", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }), { timeout: "30 seconds" })((it) => {
    it.effect("delivers all changes of a range, in order, from the revision asked for", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("w/a", "1")
        yield* EtcdKv.put("w/b", "2")
        yield* EtcdKv.put("other", "x")
        yield* EtcdKv.delete("w/a")
        yield* EtcdKv.put("w/a", "3")
        const events = yield* EtcdWatch.watch(KeyRange.prefix("w/"), { startRevision: header.revision }).pipe(
          Stream.take(4),
          Stream.runCollect
        )
        assert.deepStrictEqual(events.map(describeEvent), ["w/a=1", "w/b=2", "w/a deleted", "w/a=3"])
        const revisions = events.map((event) => event.kv.modRevision)
        assert.deepStrictEqual(revisions, [...revisions].sort())
        assert.deepStrictEqual(
          events.map((event) => event._tag === "Put" && event.isCreate),
          [true, true, false, true]
        )
      })
    )

    it.effect("previous values and filters", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("p/a", "1")
        yield* EtcdKv.put("p/a", "2")
        yield* EtcdKv.delete("p/a")
        const options = { startRevision: header.revision + 1n, previousValues: true }
        const events = yield* Stream.runCollect(Stream.take(EtcdWatch.watch("p/a", options), 2))
        assert.deepStrictEqual(
          events.map((event) => Option.getOrThrow(event.previous).valueString),
          ["1", "2"]
        )
        const deletes = yield* EtcdWatch.next("p/a", { ...options, ignore: "puts" })
        assert.strictEqual(describeEvent(deletes), "p/a deleted")
        const puts = yield* EtcdWatch.next("p/a", { ...options, ignore: "deletes" })
        assert.strictEqual(describeEvent(puts), "p/a=2")
      })
    )

    it.effect("next waits for a change of its key", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("n/a", "1")
        const waiting = yield* Effect.forkChild(EtcdWatch.next("n/a", { startRevision: header.revision + 1n }))
        yield* EtcdKv.put("n/b", "not this one")
        yield* EtcdKv.put("n/a", "2")
        assert.strictEqual(describeEvent(yield* Fiber.join(waiting)), "n/a=2")
      })
    )

    it.effect("a watch from a compacted revision fails with it", () =>
      Effect.gen(function* () {
        const { header } = yield* EtcdKv.put("c/a", "1")
        yield* EtcdKv.put("c/a", "2")
        yield* EtcdKv.compact(header.revision + 1n)
        const error = yield* Effect.flip(EtcdWatch.next("c/a", { startRevision: header.revision }))
        assert.strictEqual(error.reason._tag, "Compacted")
        if (error.reason._tag === "Compacted") {
          assert.strictEqual(error.reason.compactedRevision, header.revision + 1n)
        }
      })
    )
  })
})
