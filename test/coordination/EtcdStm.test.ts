import { assert, describe, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/testing/TestClock"
import { expectTypeOf } from "vitest"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../../src/coordination/EtcdStm.ts"
import * as EtcdBatch from "../../src/EtcdBatch.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdError from "../../src/EtcdError.ts"
import { LeaseId } from "../../src/EtcdId.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdNamespace from "../../src/EtcdNamespace.ts"
import { KV } from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { reasonOf, start } from "../support/effects.ts"
import { until } from "../support/machine.ts"

const live = EtcdLayer.ephemeral({}, { log: false })

class Refused extends Data.TaggedError("Refused") {}

/** What somebody else does, in the middle of the first try. */
const once = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<void> => {
  let isDone = false
  return Effect.suspend(() => {
    if (isDone) return Effect.void
    isDone = true
    return Effect.asVoid(Effect.orDie(effect))
  })
}

const numberAt = (key: string) =>
  Effect.map(EtcdStm.getString(key), (text) => Number(Option.getOrElse(text, () => "0")))

const increment = (key: string) => Effect.flatMap(numberAt(key), (n) => EtcdStm.put(key, String(n + 1)))

const texts = (kvs: ReadonlyArray<{ readonly keyString: string; readonly valueString: string }>) =>
  kvs.map(({ keyString, valueString }) => `${keyString}=${valueString}`)

/** Counts the calls of a client. */
const counting = (client: EtcdClient.Client) => {
  const counts = { reads: 0, transactions: 0, serializable: 0 }
  const unary: EtcdClient.Client["unary"] = (method, request, options) => {
    if ((method as object) === KV.method.range) {
      counts.reads++
      if ((request as { readonly serializable?: boolean }).serializable === true) counts.serializable++
    }
    if ((method as object) === KV.method.txn) counts.transactions++
    return client.unary(method, request, options)
  }
  return { counts, client: { ...client, unary } satisfies EtcdClient.Client }
}

const levels = ["serializable-snapshot", "serializable"] as const

layer(live)((it) => {
  describe("EtcdStm.tx", () => {
    it.effect("writes what its body wrote, at one revision, and succeeds with its result", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("one/a", "1")
        const { revision, value } = yield* EtcdStm.txWithRevision(
          Effect.gen(function* () {
            const a = yield* EtcdStm.get("one/a")
            yield* EtcdStm.put("one/b", Option.getOrThrow(a).value)
            yield* EtcdStm.delete("one/a")
            return "done"
          })
        )
        assert.strictEqual(value, "done")
        const { kvs } = yield* EtcdKv.range(KeyRange.prefix("one/"))
        assert.deepStrictEqual(texts(kvs), ["one/b=1"])
        assert.strictEqual(kvs[0]!.modRevision, revision)
      })
    )

    it.effect("reads at the revision of its first read, each key once, and needs no commit where it only reads", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("snap/a", "1")
        const before = yield* kv.put("snap/b", "1")
        const meanwhile = once(Effect.andThen(kv.put("snap/a", "2"), kv.put("snap/b", "2")))
        const { revision, value } = yield* EtcdStm.txWithRevision(
          Effect.gen(function* () {
            const a = yield* EtcdStm.getString("snap/a")
            yield* meanwhile
            return [a, yield* EtcdStm.getString("snap/b"), yield* EtcdStm.getString("snap/a")]
          })
        ).pipe(Effect.provideService(EtcdClient.EtcdClient, client))
        assert.deepStrictEqual(value, [Option.some("1"), Option.some("1"), Option.some("1")])
        assert.strictEqual(revision, before.header.revision)
        assert.deepStrictEqual(counts, { reads: 2, transactions: 0, serializable: 1 })
      })
    )

    it.effect("asks a member that is not there yet to catch up, and reads nothing older from it", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("lag/a", "1")
        yield* kv.put("lag/b", "1")
        const future = new EtcdError.FutureRevision({ message: "a future revision", outcome: "not-applied" })
        const lagging: EtcdClient.Client["unary"] = (method, request, options) =>
          (request as { readonly serializable?: boolean }).serializable === true
            ? Effect.fail(EtcdError.make(future))
            : client.unary(method, request, options)
        const both = Effect.all([EtcdStm.getString("lag/a"), EtcdStm.getString("lag/b")])
        const values = yield* Effect.provideService(EtcdStm.tx(both), EtcdClient.EtcdClient, {
          ...client,
          unary: lagging
        })
        assert.deepStrictEqual(values, [Option.some("1"), Option.some("1")])
      })
    )

    it.effect("has one first read, however many are asked for at the same time", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const keys = ["many/a", "many/b", "many/c"]
        yield* Effect.forEach(keys, (key) => EtcdKv.put(key, key))
        const values = yield* EtcdStm.tx(Effect.forEach(keys, EtcdStm.getString, { concurrency: "unbounded" })).pipe(
          Effect.provideService(EtcdClient.EtcdClient, client)
        )
        assert.deepStrictEqual(values, keys.map(Option.some))
        assert.deepStrictEqual(counts, { reads: 3, transactions: 0, serializable: 2 })
      })
    )

    it.effect("knows a key from a range that has it, and one that is missing from a range that has it not", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        yield* EtcdKv.put("known/a", "1")
        const values = yield* EtcdStm.tx(
          Effect.gen(function* () {
            yield* EtcdStm.range(KeyRange.prefix("known/"))
            return [yield* EtcdStm.getString("known/a"), yield* EtcdStm.getString("known/b")]
          })
        ).pipe(Effect.provideService(EtcdClient.EtcdClient, client))
        assert.deepStrictEqual(values, [Option.some("1"), Option.none()])
        assert.strictEqual(counts.reads, 1)
      })
    )

    it.effect("sees its own writes, in ranges also, in the order of the keys", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("own/b", "1")
        yield* EtcdKv.put("own/d", "1")
        const lease = yield* EtcdLease.grant("1 minute")
        const seen = yield* EtcdStm.tx(
          Effect.gen(function* () {
            yield* EtcdStm.put("own/c", "2", { lease: lease.id })
            yield* EtcdStm.put("own/a", "2")
            yield* EtcdStm.put("own/b", "3")
            yield* EtcdStm.delete("own/d")
            const c = Option.getOrThrow(yield* EtcdStm.get("own/c"))
            assert.deepStrictEqual([c.modRevision, c.createRevision, c.version], [0n, 0n, 0n])
            assert.deepStrictEqual(c.lease, Option.some(lease.id))
            const first = texts(yield* EtcdStm.range(KeyRange.prefix("own/")))
            yield* EtcdStm.delete(KeyRange.interval("own/b", "own/d"))
            const then = texts(yield* EtcdStm.range(KeyRange.prefix("own/")))
            yield* EtcdStm.put("own/bb", "4")
            return [first, then, texts(yield* EtcdStm.range(KeyRange.from("own/"))), yield* EtcdStm.get("own/b")]
          })
        )
        assert.deepStrictEqual(seen.slice(0, 2), [["own/a=2", "own/b=3", "own/c=2"], ["own/a=2"]])
        assert.deepStrictEqual((seen[2] as Array<string>).slice(0, 2), ["own/a=2", "own/bb=4"])
        assert.deepStrictEqual(seen[3], Option.none())
        assert.deepStrictEqual(texts((yield* EtcdKv.range(KeyRange.prefix("own/"))).kvs), ["own/a=2", "own/bb=4"])
        yield* EtcdLease.revoke(lease.id)
      })
    )

    it.effect("reads the first keys of a range, however long that is, and is lost to nothing behind them", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const kv = yield* EtcdKv.EtcdKv
        const names = Array.from({ length: 200 }, (_, index) => `long/${1000 + index}`)
        yield* Effect.forEach([names.slice(0, 100), names.slice(100)], (some) =>
          EtcdStm.tx(Effect.forEach(some, (key) => EtcdStm.put(key, "1")))
        )
        let tries = 0
        const take = Effect.gen(function* () {
          const [first] = yield* EtcdStm.range(KeyRange.prefix("long/"), { limit: 1 })
          yield* EtcdStm.delete(first!.key)
          return first!.keyString
        })
        const taking = (meanwhile: Effect.Effect<void>) => {
          tries = 0
          const body = Effect.gen(function* () {
            tries++
            const taken = [yield* take, yield* take, yield* take]
            yield* meanwhile
            return taken
          })
          return Effect.provideService(EtcdStm.tx(body), EtcdClient.EtcdClient, client)
        }
        const behind = once(Effect.andThen(kv.put("long/1003", "2"), kv.put("long/9999", "2")))
        assert.deepStrictEqual(yield* taking(behind), ["long/1000", "long/1001", "long/1002"])
        assert.strictEqual(tries, 1)
        // What was found is not asked for again.
        assert.deepStrictEqual(counts, { reads: 3, transactions: 1, serializable: 2 })
        assert.deepStrictEqual(yield* taking(once(kv.put("long/10031", "2"))), ["long/1003", "long/10031", "long/1004"])
        assert.strictEqual(tries, 2)
        const few = EtcdStm.tx(EtcdStm.range(KeyRange.prefix("long/"), { limit: 5 }))
        assert.strictEqual((yield* few).length, 5)
      })
    )

    it.effect("puts with a lease, whose end deletes the key", () =>
      Effect.gen(function* () {
        const lease = yield* EtcdLease.grant("1 minute")
        yield* EtcdStm.tx(EtcdStm.put("leased", "1", { lease: lease.id }))
        assert.deepStrictEqual(Option.getOrThrow(yield* EtcdKv.get("leased")).lease, Option.some(lease.id))
        yield* EtcdLease.revoke(lease.id)
        assert.deepStrictEqual(yield* EtcdKv.get("leased"), Option.none())
        const reason = yield* reasonOf(EtcdStm.tx(EtcdStm.put("leased", "1", { lease: lease.id })))
        assert.strictEqual(reason._tag, "LeaseNotFound")
      })
    )

    it.effect("writes nothing where its body fails, dies or is interrupted, and ends as it did", () =>
      Effect.gen(function* () {
        const ending = <E>(end: Effect.Effect<never, E>) =>
          Effect.exit(EtcdStm.tx(Effect.andThen(EtcdStm.put("failed", "1"), end)))
        assert.deepStrictEqual(yield* ending(Effect.fail("no")), Exit.fail("no"))
        assert.deepStrictEqual(yield* ending(Effect.die("broken")), Exit.die("broken"))
        const interrupted = yield* ending(Effect.interrupt)
        assert.isTrue(Exit.isFailure(interrupted) && Cause.hasInterruptsOnly(interrupted.cause))
        assert.deepStrictEqual(yield* EtcdKv.get("failed"), Option.none())
      })
    )

    it.effect("reads nothing anew to tell a failure: it was made of one state of the store", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("state/a", "1")
        yield* kv.put("state/b", "1")
        const tries: Array<string> = []
        const meanwhile = once(Effect.andThen(kv.put("state/b", "2"), kv.put("state/a", "2")))
        const exit = yield* Effect.exit(
          EtcdStm.tx(
            Effect.gen(function* () {
              const a = yield* numberAt("state/a")
              yield* meanwhile
              const b = yield* numberAt("state/b")
              tries.push(`${a}${b}`)
              return yield* new Refused()
            })
          )
        )
        assert.deepStrictEqual(exit, Exit.fail(new Refused()))
        assert.deepStrictEqual(tries, ["11"])
      })
    )
  })

  describe("with either level of isolation", () => {
    for (const isolation of levels) {
      const name = (text: string) => `${text} (${isolation})`
      const key = (text: string) => `${isolation}/${text}`
      const range = (text: string) => KeyRange.prefix(key(text))

      it.effect(name("no update is lost: what is made of a value is written only in its place"), () =>
        Effect.gen(function* () {
          const kv = yield* EtcdKv.EtcdKv
          yield* kv.put(key("lost"), "1")
          const meanwhile = once(kv.put(key("lost"), "10"))
          const body = Effect.gen(function* () {
            const n = yield* numberAt(key("lost"))
            yield* meanwhile
            yield* EtcdStm.put(key("lost"), String(n + 1))
          })
          yield* EtcdStm.tx(body, { isolation })
          assert.deepStrictEqual(yield* kv.getString(key("lost")), Option.some("11"))
        })
      )

      it.effect(name("there is no write skew: of two who each read what the other writes, one reads again"), () =>
        Effect.gen(function* () {
          const kv = yield* EtcdKv.EtcdKv
          yield* kv.put(key("skew/ann"), "on call")
          yield* kv.put(key("skew/bob"), "on call")
          const met = yield* Latch.make()
          let reading = 0
          const meet = Effect.suspend(() => (++reading === 2 ? met.open : met.await))
          const leave = (who: string) =>
            Effect.gen(function* () {
              const all = yield* Effect.forEach(["ann", "bob"], (who) => EtcdStm.getString(key(`skew/${who}`)))
              yield* meet
              if (all.every((state) => Option.getOrThrow(state) === "on call")) {
                yield* EtcdStm.put(key(`skew/${who}`), "away")
              }
            })
          yield* Effect.forEach(["ann", "bob"], (who) => EtcdStm.tx(leave(who), { isolation }), {
            concurrency: "unbounded"
          })
          assert.sameMembers(
            (yield* kv.range(range("skew/"))).kvs.map(({ valueString }) => valueString),
            ["away", "on call"]
          )
        })
      )

      for (const before of [[], ["a"]]) {
        const what = before.length === 0 ? "an empty range" : "a range"
        const prefix = `insert${before.length}/`

        it.effect(name(`there is no phantom by insertion into ${what} that was read`), () =>
          Effect.gen(function* () {
            const kv = yield* EtcdKv.EtcdKv
            yield* Effect.forEach(before, (name) => kv.put(key(prefix + name), "1"))
            const meanwhile = once(kv.put(key(`${prefix}b`), "1"))
            const body = Effect.gen(function* () {
              const { length } = yield* EtcdStm.range(range(prefix))
              yield* meanwhile
              yield* EtcdStm.put(key(`count${before.length}`), String(length))
            })
            yield* EtcdStm.tx(body, { isolation })
            assert.deepStrictEqual(
              yield* kv.getString(key(`count${before.length}`)),
              Option.some(String(before.length + 1))
            )
          })
        )
      }

      it.effect(name("there is no phantom by deletion from a range that was read"), () =>
        Effect.gen(function* () {
          const kv = yield* EtcdKv.EtcdKv
          yield* Effect.forEach(["a", "b"], (name) => kv.put(key(`deletion/${name}`), "1"))
          const meanwhile = once(kv.delete(key("deletion/a")))
          const body = Effect.gen(function* () {
            const { length } = yield* EtcdStm.range(range("deletion/"))
            yield* meanwhile
            yield* EtcdStm.put(key("left"), String(length))
          })
          yield* EtcdStm.tx(body, { isolation })
          assert.deepStrictEqual(yield* kv.getString(key("left")), Option.some("1"))
        })
      )

      it.effect(name("a key that was read and missing stays so until the commit"), () =>
        Effect.gen(function* () {
          const kv = yield* EtcdKv.EtcdKv
          const meanwhile = once(kv.put(key("owner"), "other"))
          const body = Effect.gen(function* () {
            const owner = yield* EtcdStm.getString(key("owner"))
            yield* meanwhile
            if (Option.isNone(owner)) yield* EtcdStm.put(key("owner"), "me")
            return owner
          })
          assert.deepStrictEqual(yield* EtcdStm.tx(body, { isolation }), Option.some("other"))
          assert.deepStrictEqual(yield* kv.getString(key("owner")), Option.some("other"))
        })
      )

      it.effect(name("what was changed and changed back was changed"), () =>
        Effect.gen(function* () {
          const kv = yield* EtcdKv.EtcdKv
          yield* kv.put(key("back"), "1")
          let tries = 0
          const meanwhile = once(Effect.andThen(kv.delete(key("back")), kv.put(key("back"), "1")))
          const body = Effect.gen(function* () {
            tries++
            yield* EtcdStm.get(key("back"))
            yield* meanwhile
            yield* EtcdStm.put(key("seen"), "1")
          })
          yield* EtcdStm.tx(body, { isolation })
          assert.strictEqual(tries, 2)
        })
      )

      it.effect(
        name("a write that somebody else made of a key that is only written is seen, or not, as documented"),
        () =>
          Effect.gen(function* () {
            const kv = yield* EtcdKv.EtcdKv
            yield* kv.put(key("blind/read"), "1")
            const tries = { key: 0, range: 0, deletion: 0, unconditional: 0 }
            const trying = (
              name: keyof typeof tries,
              other: Effect.Effect<unknown, unknown>,
              write: Effect.Effect<void, never, EtcdStm.Tx>
            ) => {
              const meanwhile = once(other)
              return EtcdStm.tx(
                Effect.gen(function* () {
                  tries[name]++
                  if (name !== "unconditional") yield* EtcdStm.get(key("blind/read"))
                  yield* meanwhile
                  yield* write
                }),
                { isolation }
              )
            }
            const blind = key("blind/written/a")
            yield* trying("key", kv.put(blind, "other"), EtcdStm.put(blind, "mine"))
            yield* trying("range", kv.put(blind, "other"), EtcdStm.delete(range("blind/written/")))
            yield* kv.put(blind, "other")
            yield* trying("deletion", kv.delete(blind), EtcdStm.put(blind, "mine"))
            yield* trying("unconditional", kv.put(blind, "other"), EtcdStm.put(blind, "mine"))
            assert.deepStrictEqual(yield* kv.getString(blind), Option.some("mine"))
            const seen = isolation === "serializable-snapshot" ? 2 : 1
            assert.deepStrictEqual(tries, { key: seen, range: seen, deletion: 1, unconditional: 1 })
          })
      )
    }
  })

  describe("a try that is lost", () => {
    it.effect("leaves the values to the next one, at the revision at which it was lost", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("fresh/a", "1")
        yield* kv.put("fresh/r/1", "1")
        const sums: Array<string> = []
        const meanwhile = once(Effect.andThen(kv.put("fresh/a", "2"), kv.put("fresh/r/2", "2")))
        const body = Effect.gen(function* () {
          const a = yield* numberAt("fresh/a")
          const range = yield* EtcdStm.range(KeyRange.prefix("fresh/r/"))
          sums.push([a, ...texts(range)].join(" "))
          yield* meanwhile
          yield* EtcdStm.put("fresh/sum", "1")
        })
        yield* EtcdStm.tx(body).pipe(Effect.provideService(EtcdClient.EtcdClient, client))
        assert.deepStrictEqual(sums, ["1 fresh/r/1=1", "2 fresh/r/1=1 fresh/r/2=2"])
        assert.deepStrictEqual(counts, { reads: 2, transactions: 2, serializable: 1 })
      })
    )

    it.effect("is followed by others as its schedule says, which is told how many there were", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        const conflicts: Array<EtcdStm.Conflict> = []
        const schedule = Schedule.recurs(2).pipe(
          Schedule.setInputType<EtcdStm.Conflict>(),
          Schedule.tap(({ input }) => Effect.sync(() => conflicts.push(input)))
        )
        const body = Effect.gen(function* () {
          yield* increment("never")
          yield* Effect.orDie(kv.put("never", "0"))
        })
        const failing = EtcdStm.tx(body, { schedule })
        expectTypeOf(failing).toEqualTypeOf<
          Effect.Effect<void, EtcdError.EtcdError | EtcdStm.TooManyConflicts, EtcdClient.EtcdClient>
        >()
        const error = yield* Effect.flip(failing)
        assert(error._tag === "TooManyConflicts")
        assert.deepStrictEqual([error.tries, error.reason], [3, "changed"])
        assert.include(error.message, "tried 3 times")
        assert.deepStrictEqual(
          conflicts.map(({ tries }) => tries),
          [1, 2]
        )
        assert.deepStrictEqual(yield* kv.getString("never"), Option.some("0"))
      })
    )

    it.effect("is followed by others for ever, at once the first time, and soon however many were lost", () =>
      Effect.gen(function* () {
        const step = yield* Schedule.toStep(EtcdStm.defaultSchedule)
        const pauses: Array<number> = []
        for (let tries = 1; tries <= 200; tries++) {
          const [, pause] = yield* Effect.orDie(step(tries, { tries, reason: "changed" }))
          pauses.push(Duration.toMillis(pause))
        }
        assert.strictEqual(pauses[0], 0)
        assert.isAbove(Math.max(...pauses), 25)
        assert.isAtMost(Math.max(...pauses), 50)
      })
    )

    it.effect("reads again after a pause", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const kv = yield* EtcdKv.EtcdKv
        const meanwhile = once(kv.put("paused", "10"))
        const body = Effect.gen(function* () {
          yield* increment("paused")
          yield* meanwhile
        })
        yield* EtcdStm.tx(body, { schedule: Schedule.spaced("1 millis") }).pipe(
          Effect.provideService(EtcdClient.EtcdClient, client)
        )
        assert.deepStrictEqual(counts, { reads: 2, transactions: 2, serializable: 0 })
        assert.deepStrictEqual(yield* kv.getString("paused"), Option.some("11"))
      })
    )

    it.effect("takes nothing in that is answered when it has ended", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const kv = yield* EtcdKv.EtcdKv
        yield* Effect.forEach(["late/a", "late/b", "late/c"], (key) => kv.put(key, "1"))
        const [isRead, isLost] = [yield* Latch.make(), yield* Latch.make()]
        let reading: Fiber.Fiber<unknown> | undefined
        // The answer to a range comes when its try is lost, and nobody has been told of that yet.
        const unary: EtcdClient.Client["unary"] = (method, request, options) => {
          const call = client.unary(method, request, options)
          if ((method as object) === KV.method.range && (request as any).rangeEnd.length > 0) {
            return Effect.tap(call, () => Effect.andThen(isRead.open, isLost.await))
          }
          if ((method as object) !== KV.method.txn) return call
          return Effect.tap(call, () => Effect.andThen(isLost.open, Fiber.await(reading!)))
        }
        const seen: Array<string> = []
        const meanwhile = once(
          Effect.gen(function* () {
            yield* isRead.await
            yield* kv.put("late/b", "2")
          })
        )
        const body = Effect.gen(function* () {
          const c = yield* numberAt("late/c")
          reading ??= yield* Effect.forkDetach(EtcdStm.range(KeyRange.prefix("late/")))
          const both = [yield* numberAt("late/a"), yield* numberAt("late/b")]
          yield* meanwhile
          seen.push([...both, c].join())
          yield* EtcdStm.put("later", "1")
        })
        yield* Effect.provideService(EtcdStm.tx(body), EtcdClient.EtcdClient, { ...client, unary })
        assert.deepStrictEqual(seen, ["1,1,1", "1,2,1"])
        assert.isTrue(Exit.isFailure(yield* Fiber.await(reading!)))
      })
    )

    it.effect("waits its turn among those of its client, but for no body that waits", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        const gate = yield* Latch.make()
        let waiting = 0
        const slow = Effect.gen(function* () {
          const n = yield* numberAt("turn")
          // The first try is lost; then one after the other has its turn, and keeps it.
          if (n === 0) yield* Effect.orDie(kv.put("turn", "10"))
          else {
            waiting++
            yield* gate.await
          }
          yield* EtcdStm.put("turn", String(n + 1))
        })
        const all = yield* start(Effect.all([EtcdStm.tx(slow), EtcdStm.tx(slow)], { concurrency: "unbounded" }))
        yield* until(() => waiting === 2)
        yield* gate.open
        yield* Fiber.join(all)
        assert.deepStrictEqual(yield* kv.getString("turn"), Option.some("12"))
      })
    )

    it.effect("by a compaction begins anew", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("compacted/a", "1")
        yield* kv.put("compacted/b", "1")
        const seen: Array<number> = []
        const meanwhile = once(
          Effect.gen(function* () {
            yield* kv.put("compacted/a", "2")
            const { header } = yield* kv.put("compacted/b", "2")
            yield* kv.compact(header.revision)
          })
        )
        const body = Effect.gen(function* () {
          seen.push(yield* numberAt("compacted/a"))
          yield* meanwhile
          seen.push(yield* numberAt("compacted/b"))
        })
        yield* EtcdStm.tx(body)
        assert.deepStrictEqual(seen, [1, 2, 2])
      })
    )

    it.effect("by a store that has gone back begins anew", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const kv = yield* EtcdKv.EtcdKv
        yield* Effect.forEach(["back/a", "back/b"], (key) => kv.put(key, "1"))
        let oldest = 0n
        const future = new EtcdError.FutureRevision({ message: "a future revision", outcome: "not-applied" })
        const unary: EtcdClient.Client["unary"] = (method, request, options) => {
          const { revision = 0n } = request as { readonly revision?: bigint }
          const isGone = revision > 0n && revision < oldest
          return isGone ? Effect.fail(EtcdError.make(future)) : client.unary(method, request, options)
        }
        const seen: Array<number> = []
        // What it had read at first is of a revision that there is none of, as if that were to come yet.
        const goingBack = once(
          Effect.map(kv.put("back/a", "0"), ({ header }) => {
            oldest = header.revision
          })
        )
        const body = Effect.gen(function* () {
          seen.push(yield* numberAt("back/a"))
          yield* goingBack
          yield* EtcdStm.put("back/b", String(yield* numberAt("back/b")))
        })
        const conflicts: Array<EtcdStm.Conflict> = []
        const schedule = Schedule.forever.pipe(
          Schedule.setInputType<EtcdStm.Conflict>(),
          Schedule.tap(({ input }) => Effect.sync(() => conflicts.push(input)))
        )
        yield* EtcdStm.tx(body, { schedule }).pipe(Effect.provideService(EtcdClient.EtcdClient, { ...client, unary }))
        assert.deepStrictEqual([seen, conflicts], [[1, 0], [{ tries: 1, reason: "compacted" }]])
      })
    )

    it.effect("makes room for the others: a thousand writers of one key all come through", () =>
      Effect.gen(function* () {
        yield* Effect.forEach(Array.from({ length: 1000 }), () => EtcdStm.tx(increment("counter")), {
          concurrency: "unbounded",
          discard: true
        })
        assert.deepStrictEqual(yield* EtcdKv.getString("counter"), Option.some("1000"))
      })
    )

    it.effect("makes room for the others, though each has a namespace of its own for the same keys", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const writer = EtcdStm.tx(increment("counter"))
        yield* Effect.forEach(
          Array.from({ length: 50 }, () => EtcdNamespace.fromClient(client, "room/")),
          (inside) => Effect.provideService(writer, EtcdClient.EtcdClient, inside),
          { concurrency: "unbounded", discard: true }
        )
        assert.deepStrictEqual(yield* EtcdKv.getString("room/counter"), Option.some("50"))
        assert.isBelow(counts.transactions, 150)
      })
    )
  })

  describe("EtcdStm.retry", () => {
    const dequeue = (prefix: string) =>
      Effect.gen(function* () {
        const [first] = yield* EtcdStm.range(KeyRange.prefix(prefix), { limit: 1 })
        if (first === undefined) return yield* EtcdStm.retry
        yield* EtcdStm.delete(first.key)
        return first.valueString
      })

    it.effect("waits for a range to have something, and gives it to one", () =>
      Effect.gen(function* () {
        const takers = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 8 }), () => EtcdStm.tx(dequeue("queue/")), { concurrency: "unbounded" })
        )
        const names = Array.from({ length: 8 }, (_, index) => `job ${index}`)
        yield* Effect.forEach(names, (name, index) => EtcdKv.put(`queue/${index}`, name))
        assert.sameMembers([...(yield* Fiber.join(takers))], names)
        assert.strictEqual((yield* EtcdKv.range(KeyRange.prefix("queue/"))).kvs.length, 0)
      })
    )

    it.effect("waits for a key that is missing, for one to change, and for one to be deleted", () =>
      Effect.gen(function* () {
        let tries = 0
        const waiting = yield* start(
          EtcdStm.tx(
            Effect.gen(function* () {
              const flag = yield* EtcdStm.getString("flag")
              tries++
              if (tries < 4) return yield* EtcdStm.retry
              return flag
            })
          )
        )
        const step = (count: number, effect: Effect.Effect<unknown, unknown, EtcdKv.EtcdKv>) =>
          Effect.andThen(
            until(() => tries === count),
            Effect.orDie(effect)
          )
        yield* step(1, EtcdKv.put("flag", "1"))
        yield* step(2, EtcdKv.put("flag", "2"))
        yield* step(3, EtcdKv.delete("flag"))
        assert.deepStrictEqual(yield* Fiber.join(waiting), Option.none())
      })
    )

    it.effect("misses nothing that happens before it waits", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        const meanwhile = once(kv.put("missed", "1"))
        const body = Effect.gen(function* () {
          const missed = yield* EtcdStm.getString("missed")
          yield* meanwhile
          return Option.isNone(missed) ? yield* EtcdStm.retry : missed
        })
        assert.deepStrictEqual(yield* EtcdStm.tx(body), Option.some("1"))
      })
    )

    it.effect("does not wait for a change that was compacted", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        const meanwhile = once(
          Effect.gen(function* () {
            yield* kv.put("gone", "1")
            const { header } = yield* kv.put("other", "1")
            yield* kv.compact(header.revision)
          })
        )
        const body = Effect.gen(function* () {
          const gone = yield* EtcdStm.getString("gone")
          yield* meanwhile
          return Option.isNone(gone) ? yield* EtcdStm.retry : gone
        })
        assert.deepStrictEqual(yield* EtcdStm.tx(body), Option.some("1"))
      })
    )

    it.effect("holds, whatever the body makes of it, unless it fails: that is an alternative", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("held", "1")
        const wait = Effect.andThen(EtcdStm.get("held"), EtcdStm.retry)
        const stubborn = EtcdStm.tx(
          Effect.gen(function* () {
            const held = yield* EtcdStm.getString("held")
            if (Option.contains(held, "2")) return "2"
            return yield* Effect.catchCause(wait, () => Effect.succeed("never"))
          })
        )
        const waiting = yield* start(stubborn)
        yield* EtcdKv.put("held", "2")
        assert.strictEqual(yield* Fiber.join(waiting), "2")
        const otherwise = EtcdStm.tx(Effect.catchCause(wait, () => Effect.fail("no")))
        assert.deepStrictEqual(yield* Effect.exit(otherwise), Exit.fail("no"))
      })
    )

    it.effect("is refused where nothing was read that could change", () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(EtcdStm.tx(Effect.andThen(EtcdStm.put("a", "1"), EtcdStm.retry)))
        assert.strictEqual(error.reason._tag, "InvalidArgument")
        assert.include(error.message, "it has read nothing")
      })
    )

    it.effect("ends at once when it is interrupted, and leaves nothing", () =>
      Effect.gen(function* () {
        const waiting = yield* start(EtcdStm.tx(dequeue("nothing/")))
        yield* EtcdStm.tx(EtcdStm.get("something"))
        yield* Fiber.interrupt(waiting)
        yield* EtcdKv.put("nothing/a", "1")
        assert.isTrue(Option.isSome(yield* EtcdKv.get("nothing/a")))
      })
    )
  })

  describe("what makes no sense", () => {
    it.effect("is refused with what would be right", () =>
      Effect.gen(function* () {
        const anything: any = null
        const refused: ReadonlyArray<
          readonly [Effect.Effect<unknown, EtcdError.EtcdError, EtcdClient.EtcdClient>, string]
        > = [
          [EtcdStm.tx(EtcdStm.get("")), "EtcdStm.get: the key has to be"],
          [EtcdStm.tx(EtcdStm.getString("\ud800")), "EtcdStm.getString: the key has to be"],
          [EtcdStm.tx(EtcdStm.put("", "1")), "EtcdStm.put: the key has to be"],
          [EtcdStm.tx(EtcdStm.put("a", anything)), "EtcdStm.put: the value has to be"],
          [EtcdStm.tx(EtcdStm.put("a", "1", { lease: 1 as never })), "the option lease has to be"],
          [EtcdStm.tx(EtcdStm.put("a", "1", { ttl: 1 } as never)), "there is no option"],
          [EtcdStm.tx(EtcdStm.range(anything)), "EtcdStm.range: the range has to be"],
          [EtcdStm.tx(EtcdStm.range(KeyRange.interval("b", "a"))), "has to be after its start"],
          [EtcdStm.tx(EtcdStm.range("a", { limit: -1 })), "EtcdStm.range: the option limit has to be"],
          [EtcdStm.tx(EtcdStm.delete("")), "EtcdStm.delete: the range has to be"],
          [EtcdStm.tx(anything), "EtcdStm.tx: the body has to be an Effect"],
          [EtcdStm.tx((() => Effect.void) as never), "EtcdStm.tx: the body has to be an Effect"],
          [EtcdStm.tx(EtcdStm.get("a"), { isolation: "none" as never }), "the option isolation has to be"],
          [EtcdStm.tx(EtcdStm.get("a"), { schedule: 5 as never }), "the option schedule has to be"],
          [EtcdStm.tx(EtcdStm.get("a"), { receipt: 1 as never }), "the option receipt has to be"],
          [EtcdStm.tx(EtcdStm.get("a"), { maxOperations: 0 }), "the option maxOperations has to be"],
          [EtcdStm.tx(EtcdStm.get("a"), { timeout: 1 } as never), "there is no option"]
        ] as never
        for (const [effect, said] of refused) {
          const error = yield* Effect.flip(effect)
          assert.strictEqual(error.reason._tag, "InvalidArgument", said)
          assert.strictEqual(error.outcome, "not-applied")
          assert.include(error.message, said)
        }
      })
    )

    it.effect("does not compile where a body needs more than Tx, or is used without a transaction", () =>
      Effect.sync(() => {
        // @ts-expect-error: what else there is may not be used in what runs more than once
        const _more = () => EtcdStm.tx(EtcdKv.get("a"))
        // @ts-expect-error: a transaction within another one needs a client, which a body has not
        const _nested = () => EtcdStm.tx(EtcdStm.tx(EtcdStm.get("a")))
        // @ts-expect-error: no transaction
        const _outside: () => Effect.Effect<unknown> = () => EtcdStm.get("a")
        expectTypeOf(EtcdStm.tx(EtcdStm.getString("a"))).toEqualTypeOf<
          Effect.Effect<Option.Option<string>, EtcdError.EtcdError, EtcdClient.EtcdClient>
        >()
        expectTypeOf(EtcdStm.tx(EtcdStm.getString("a"), { receipt: true })).toEqualTypeOf<
          Effect.Effect<Option.Option<string>, EtcdError.EtcdError, EtcdClient.EtcdClient>
        >()
        expectTypeOf(EtcdStm.getString("a").pipe(EtcdStm.tx)).toEqualTypeOf<
          Effect.Effect<Option.Option<string>, EtcdError.EtcdError, EtcdClient.EtcdClient>
        >()
      })
    )

    it.effect("as a transaction within another one is refused", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const inner = Effect.provideService(EtcdStm.tx(EtcdStm.put("inner", "1")), EtcdClient.EtcdClient, client)
        const error = yield* Effect.flip(EtcdStm.tx(Effect.andThen(EtcdStm.put("outer", "1"), inner)))
        assert.strictEqual(error.reason._tag, "InvalidArgument")
        assert.include(error.message, "Use the body of the inner one")
        assert.deepStrictEqual(yield* EtcdKv.get("outer"), Option.none())
      })
    )

    it.effect("as a fiber that outlives its transaction is interrupted, and may begin one of its own", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const own = Effect.provideService(EtcdStm.tx(EtcdStm.put("own", "1")), EtcdClient.EtcdClient, client)
        const gate = yield* start(Effect.never)
        const fork = (effect: Effect.Effect<unknown, unknown, EtcdStm.Tx>) =>
          Effect.forkDetach(Effect.andThen(Effect.exit(Fiber.await(gate)), effect))
        const [late, another] = yield* EtcdStm.tx(Effect.all([fork(EtcdStm.put("late", "1")), fork(Effect.orDie(own))]))
        yield* Fiber.interrupt(gate)
        const exit = yield* Fiber.await(late!)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        yield* Fiber.await(another!)
        assert.deepStrictEqual(yield* EtcdKv.get("late"), Option.none())
        assert.deepStrictEqual(yield* EtcdKv.getString("own"), Option.some("1"))
      })
    )

    it.effect("as more than the servers take is refused before it is sent, and allowed where they take more", () =>
      Effect.gen(function* () {
        const { client, counts } = counting(yield* EtcdClient.EtcdClient)
        const keys = Array.from({ length: 129 }, (_, index) => `large/${index}`)
        const writing = EtcdStm.tx(Effect.forEach(keys, (key) => EtcdStm.put(key, "1"), { discard: true }))
        const error = yield* Effect.flip(Effect.provideService(writing, EtcdClient.EtcdClient, client))
        assert.strictEqual(error.reason._tag, "TooManyOps")
        assert.strictEqual(error.outcome, "not-applied")
        assert.include(error.message, "129 operations")
        const receipted = yield* reasonOf(EtcdStm.tx(EtcdStm.put("a", "1"), { receipt: true, maxOperations: 2 }))
        assert.include(
          receipted.message,
          "1 operations, of which the larger number counts, and two for the receipt: 3,"
        )
        assert.strictEqual(counts.transactions, 0)
        const all = Effect.forEach(keys, (key) => EtcdStm.put(key, "1"), { discard: true })
        const byServer = yield* reasonOf(EtcdStm.tx(all, { maxOperations: Number.POSITIVE_INFINITY }))
        assert.strictEqual(byServer._tag, "TooManyOps")
        assert.include(byServer.message, "--max-txn-ops")
        yield* Effect.forEach(keys, (key) => EtcdKv.put(key, "1"), { concurrency: 8 })
        const reading = EtcdStm.range(KeyRange.prefix("large/"))
        assert.strictEqual((yield* EtcdStm.tx(reading)).length, 129)
        const both = yield* reasonOf(EtcdStm.tx(Effect.andThen(reading, EtcdStm.put("a", "1"))))
        assert.include(both.message, "131 comparisons")
      })
    )
  })

  describe("a transaction", () => {
    it.effect("stays within the namespace of its client, with its receipts and what it waits for", () =>
      Effect.gen(function* () {
        const outer = yield* EtcdClient.EtcdClient
        const client = EtcdNamespace.fromClient(outer, "tenant/")
        const body = Effect.gen(function* () {
          const a = yield* EtcdStm.getString("a")
          if (Option.isNone(a)) return yield* EtcdStm.retry
          yield* EtcdStm.delete(KeyRange.all)
          yield* EtcdStm.put("b", a.value)
        })
        yield* EtcdKv.put("outside", "1")
        const waiting = yield* start(
          Effect.provideService(EtcdStm.tx(body, { receipt: true }), EtcdClient.EtcdClient, client)
        )
        yield* EtcdKv.put("tenant/a", "1")
        yield* Fiber.join(waiting)
        assert.deepStrictEqual(yield* EtcdKv.getString("outside"), Option.some("1"))
        const keys = (yield* EtcdKv.range(KeyRange.prefix("tenant/"))).kvs.map((kv) => kv.keyString)
        assert.deepStrictEqual(
          keys.map((key) => key.replace(/receipts\/.*/, "receipts/")),
          ["tenant/b", "tenant/effect-etcd/receipts/"]
        )
      })
    )

    it.effect("reads and deletes all there is without the receipts of others, and is not lost to one", () =>
      Effect.gen(function* () {
        const client = EtcdNamespace.fromClient(yield* EtcdClient.EtcdClient, "whole-tenant/")
        const kv = EtcdKv.fromClient(client)
        const write = (key: string) => EtcdStm.tx(EtcdStm.put(key, "1"), { receipt: true })
        let tries = 0
        const another = once(kv.put("effect-etcd/receipts/0/1", "applied"))
        const body = Effect.gen(function* () {
          tries++
          const all = [yield* EtcdStm.range(KeyRange.all), yield* EtcdStm.range(KeyRange.from("b"))]
          yield* another
          yield* EtcdStm.delete(KeyRange.all)
          yield* EtcdStm.put("c", "2")
          return [...all, yield* EtcdStm.range(KeyRange.all)].map(texts)
        })
        const inside = Effect.provideService(EtcdClient.EtcdClient, client)
        yield* inside(Effect.all([write("a"), write("z")]))
        assert.deepStrictEqual(yield* inside(EtcdStm.tx(body)), [["a=1", "z=1"], ["z=1"], ["c=2"]])
        assert.strictEqual(tries, 1)
        const { kvs } = yield* kv.range(KeyRange.all)
        assert.deepStrictEqual(texts(kvs.filter((kv) => !kv.keyString.startsWith("effect-etcd/"))), ["c=2"])
        assert.strictEqual(kvs.length, 4)
      })
    )

    it.effect("may be interrupted anywhere, and is then either there as a whole or not at all", () =>
      Effect.gen(function* () {
        const body = Effect.gen(function* () {
          const n = yield* numberAt("whole/a")
          yield* EtcdStm.put("whole/a", String(n + 1))
          yield* EtcdStm.put("whole/b", String((yield* numberAt("whole/b")) + 1))
        })
        for (let pause = 0; pause < 20; pause++) {
          const fiber = yield* start(EtcdStm.tx(body, { receipt: pause % 2 === 0 }))
          yield* TestClock.withLive(Effect.sleep(Duration.micros(BigInt(pause * 200))))
          yield* Fiber.interrupt(fiber)
          const { kvs } = yield* EtcdKv.range(KeyRange.prefix("whole/"))
          assert.isTrue(kvs.length === 0 || kvs[0]!.valueString === kvs[1]!.valueString, texts(kvs).join())
        }
        yield* EtcdStm.tx(body)
      })
    )

    it.effect("under a lock is written through its fence, with its receipt, and not at all when the lock is lost", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        yield* kv.put("fenced", "1")
        const meanwhile = once(kv.put("fenced", "10"))
        const body = Effect.gen(function* () {
          const n = yield* numberAt("fenced")
          yield* meanwhile
          yield* EtcdStm.put("fenced", String(n + 1))
        })
        const lock = EtcdLock.make("stm/lock")
        const locked = EtcdLock.withLock(lock)
        const { revision } = yield* locked(EtcdStm.txWithRevision(body, { receipt: true }))
        const written = Option.getOrThrow(yield* kv.get("fenced"))
        assert.deepStrictEqual([written.valueString, written.modRevision], ["11", revision])
        const losing = Effect.andThen(kv.deletePrefix("stm/lock/"), EtcdStm.tx(EtcdStm.put("fenced", "never")))
        assert.strictEqual((yield* Effect.flip(locked(losing)))._tag, "LockLost")
        assert.deepStrictEqual(yield* kv.getString("fenced"), Option.some("11"))
      }).pipe(Effect.provide(EtcdSession.layer))
    )

    it.effect("reads one state of the store also where calls share transactions", () =>
      Effect.gen(function* () {
        const client = yield* EtcdBatch.fromClient(yield* EtcdClient.EtcdClient)
        yield* EtcdKv.put("batched/a", "100")
        yield* EtcdKv.put("batched/b", "0")
        const move = Effect.gen(function* () {
          const [a, b] = [yield* numberAt("batched/a"), yield* numberAt("batched/b")]
          assert.strictEqual(a + b, 100)
          yield* EtcdStm.put("batched/a", String(a - 1))
          yield* EtcdStm.put("batched/b", String(b + 1))
        })
        yield* Effect.forEach(Array.from({ length: 50 }), () => EtcdStm.tx(move), { concurrency: 16 }).pipe(
          Effect.provideService(EtcdClient.EtcdClient, client)
        )
        assert.deepStrictEqual(yield* EtcdKv.getString("batched/b"), Option.some("50"))
      })
    )

    it.effect("takes one lease for its receipts and those of others, which ends them", () =>
      Effect.gen(function* () {
        const receipts = KeyRange.prefix("effect-etcd/receipts/")
        const write = EtcdStm.tx(increment("receipted"), { receipt: true })
        const locked = EtcdLock.withLock(write, EtcdLock.make("receipted/lock"))
        yield* Effect.all([write, locked, locked, locked, write])
        const { kvs } = yield* EtcdKv.range(receipts)
        assert.isAtLeast(kvs.length, 5)
        assert.strictEqual(new Set(kvs.slice(-5).map((kv) => Option.getOrThrow(kv.lease))).size, 1)
        const leases = new Set(kvs.map((kv) => Option.getOrThrow(kv.lease)))
        for (const lease of leases) yield* EtcdLease.revoke(lease)
        assert.strictEqual((yield* EtcdKv.range(receipts)).kvs.length, 0)
        // The next one is refused for want of the lease, and takes another.
        yield* write
        assert.deepStrictEqual(yield* EtcdKv.getString("receipted"), Option.some("6"))
        const [kv] = (yield* EtcdKv.range(receipts)).kvs
        assert.isFalse(leases.has(LeaseId(Option.getOrThrow(kv!.lease))))
      }).pipe(Effect.provide(EtcdSession.layer))
    )
  })
})
