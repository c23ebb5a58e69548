import { rmSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { expectTypeOf } from "vitest"
import * as EtcdMirror from "../../src/coordination/EtcdMirror.ts"
import * as EtcdAuth from "../../src/EtcdAuth.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import type { KeyValue } from "../../src/EtcdResponse.ts"
import * as EtcdStore from "../../src/EtcdStore.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import { Auth } from "../../src/internal/proto/rpc_pb.ts"
import * as Time from "../../src/internal/time.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { start } from "../support/effects.ts"
import { freeze, temporaryDirectory, until } from "../support/machine.ts"
import { replaying } from "../support/mirror.ts"
import { wallClock } from "../support/time.ts"

const live = Layer.provideMerge(EtcdTxn.layer, EtcdLayer.ephemeral({}, { log: false }))

const texts = (view: EtcdMirror.View<KeyValue>) => Array.from(view, ([key, kv]) => `${key}=${kv.valueString}`)

describe("a mirror", () => {
  layer(live, { excludeTestServices: true })((it) => {
    it.effect("is what the store is, in the order of its keys", () =>
      Effect.gen(function* () {
        yield* EtcdKv.put("a/2", "two")
        yield* EtcdKv.put("a/1", "one")
        yield* EtcdKv.put("b/1", "other")
        const mirror = yield* EtcdMirror.make("a/")
        expectTypeOf(mirror).toEqualTypeOf<EtcdMirror.Mirror<KeyValue>>()
        const first = yield* mirror.view
        assert.deepStrictEqual(texts(first), ["a/1=one", "a/2=two"])
        const { header } = yield* EtcdTxn.commit(
          EtcdTxn.all({ gone: EtcdTxn.delete("a/1"), a: EtcdTxn.put("a/3", "three"), b: EtcdTxn.put("a/20", "twenty") })
        ).pipe(Effect.map((answers) => answers.gone))
        const second = yield* mirror.awaitRevision(header.revision)
        assert.isAtLeast(Number(second.revision), Number(header.revision))
        assert.deepStrictEqual(texts(second), ["a/2=two", "a/20=twenty", "a/3=three"])
        assert.strictEqual(second.size, 3)
        assert.deepStrictEqual(
          Array.from(second.range(KeyRange.prefix("a/2")), ([key]) => key),
          ["a/2", "a/20"]
        )
        assert.deepStrictEqual(
          Array.from(second.range("a/2"), ([key]) => key),
          ["a/2"]
        )
        assert.deepStrictEqual(
          Array.from(second.range(KeyRange.interval("a/20", "a/3")), ([key]) => key),
          ["a/20"]
        )
        assert.strictEqual([...second.range(KeyRange.all)].length, 3)
        assert.strictEqual(Option.getOrThrow(yield* mirror.get("a/3")).valueString, "three")
        assert.deepStrictEqual(yield* mirror.get("a/1"), Option.none())
        assert.deepStrictEqual(yield* mirror.get("b/1"), Option.none())
        // What somebody has stays as it is.
        assert.deepStrictEqual(texts(first), ["a/1=one", "a/2=two"])
        assert.strictEqual(Option.getOrThrow(first.get("a/1")).valueString, "one")
        assert.deepStrictEqual(first.get("a/3"), Option.none())
      }).pipe(Effect.scoped)
    )

    it.effect("of a store has its entries, and what does not fit the schema as an error", () =>
      Effect.gen(function* () {
        const counters = EtcdStore.make("counters/", Schema.Int)
        yield* counters.put("ä", 1)
        yield* counters.put("", 0)
        yield* EtcdKv.put("counters/bad", "x")
        const mirror = yield* EtcdMirror.make(counters)
        expectTypeOf(mirror).toEqualTypeOf<EtcdMirror.Mirror<EtcdMirror.Decoded<number>>>()
        const { all } = yield* replaying(mirror)
        const value = (key: string) =>
          Effect.map(
            mirror.get(key),
            Option.map(
              Result.match({ onSuccess: (entry) => entry.value, onFailure: (error) => [error._tag, error.key] })
            )
          )
        assert.deepStrictEqual(yield* value("ä"), Option.some(1))
        assert.deepStrictEqual(yield* value(""), Option.some(0))
        assert.deepStrictEqual(yield* value("bad"), Option.some(["EtcdSchemaError", "counters/bad"]))
        const bad = yield* EtcdKv.put("counters/ä", "1.5")
        yield* mirror.awaitRevision(bad.header.revision)
        assert.deepStrictEqual(yield* value("ä"), Option.some(["EtcdSchemaError", "counters/ä"]))
        const good = yield* counters.put("bad", 2)
        const view = yield* mirror.awaitRevision(good.revision)
        assert.deepStrictEqual(yield* value("bad"), Option.some(2))
        assert.deepStrictEqual(
          Array.from(view, ([key]) => key),
          ["", "bad", "ä"]
        )
        assert.strictEqual([...view.range(KeyRange.all)].length, 3)
        yield* until(() => all().revision >= good.revision)
        assert.deepStrictEqual(all().map, new Map(view))
      }).pipe(Effect.scoped)
    )

    it.effect("has whole transactions only, at every moment", () =>
      Effect.gen(function* () {
        const put = (n: number) =>
          EtcdTxn.commit(EtcdTxn.all(Array.from({ length: 20 }, (_, key) => EtcdTxn.put(`whole/${key}`, String(n)))))
        yield* put(0)
        const mirror = yield* EtcdMirror.make("whole/")
        const seen = new Set<string>()
        const reading = yield* mirror.view.pipe(
          Effect.map((view) => seen.add([...new Set(Array.from(view, ([, kv]) => kv.valueString))].join())),
          Effect.andThen(Effect.yieldNow),
          Effect.forever,
          Effect.forkChild
        )
        const told = yield* mirror.changes.pipe(
          Stream.takeUntil((change) => change._tag === "Update" && change.events.some(isPutOf("200"))),
          Stream.runCollect,
          Effect.forkChild({ startImmediately: true })
        )
        yield* Effect.forEach(
          Array.from({ length: 200 }, (_, n) => n + 1),
          put,
          { concurrency: 10 }
        )
        // The last one may not be the latest.
        yield* put(200)
        for (const change of yield* Fiber.join(told)) {
          if (change._tag === "Update") assert.strictEqual(change.events.length, 20)
        }
        yield* Fiber.interrupt(reading)
        assert.isAbove(seen.size, 1)
        for (const values of seen) assert.match(values, /^\d+$/)
      }).pipe(Effect.scoped)
    )

    it.effect("tells a slow reader the difference from where it was, at whole revisions", () =>
      Effect.gen(function* () {
        const mirror = yield* EtcdMirror.make("slow/")
        const scope = yield* Effect.scope
        const pull = yield* Scope.provide(Stream.toPull(mirror.changes), scope)
        const [snapshot] = yield* pull
        assert.strictEqual(snapshot._tag === "Snapshot" && snapshot.view.size, 0)
        const write = (n: number) => EtcdKv.put(`slow/${n % 100}`, String(n))
        yield* Effect.forEach(Array.from({ length: 50 }).keys(), write, { concurrency: 16 })
        yield* mirror.fresh
        const some = yield* pull
        assert.strictEqual(some.length, 50)
        assert.isTrue(some.every((change) => change._tag === "Update" && change.history === "complete"))
        // More than is kept.
        const hundred = (n: number) => Array.from({ length: 100 }, (_, key) => EtcdTxn.put(`slow/${key}`, `${n}`))
        yield* Effect.forEach(Array.from({ length: 45 }).keys(), (n) => EtcdTxn.commit(EtcdTxn.all(hundred(n))))
        yield* EtcdKv.delete("slow/7")
        const view = yield* mirror.fresh
        const [rest, ...none] = yield* pull
        assert.deepStrictEqual(none, [])
        assert(rest._tag === "Update")
        assert.strictEqual(rest.history, "joined")
        assert.isAtLeast(Number(view.revision), Number(rest.revision))
        assert.strictEqual(rest.events.length, 100)
        assert.deepStrictEqual(
          rest.events.map(({ key }) => key),
          [...rest.events.map(({ key }) => key)].sort()
        )
        for (const event of rest.events) {
          assert.deepStrictEqual(
            event._tag === "Put" ? Option.some(event.value) : Option.none(),
            view.get(event.keyBytes)
          )
        }
      }).pipe(Effect.scoped)
    )

    it.effect("keeps no more of large values for a slow reader than of many", () =>
      Effect.gen(function* () {
        const mirror = yield* EtcdMirror.make("large/")
        const pull = yield* Stream.toPull(mirror.changes)
        yield* pull
        const value = new Uint8Array(1 << 20)
        for (let n = 0; n < 6; n++) yield* EtcdKv.put("large/a", value)
        yield* mirror.fresh
        const changes = yield* pull
        assert.deepStrictEqual(
          changes.map((change) => change._tag === "Update" && change.history),
          ["joined"]
        )
        yield* EtcdKv.put("large/a", value)
        const [change] = yield* pull
        assert.strictEqual(change._tag === "Update" && change.history, "complete")
      }).pipe(Effect.scoped)
    )

    it.effect("tells what one revision did as it did it, however much that is", () =>
      Effect.gen(function* () {
        const hundred = (n: number) =>
          EtcdTxn.commit(
            EtcdTxn.all(Array.from({ length: 100 }, (_, key) => EtcdTxn.put(`much/${n % 2}/${n * 100 + key}`, "")))
          )
        yield* Effect.forEach(Array.from({ length: 42 }).keys(), hundred, { concurrency: 8 })
        const mirror = yield* EtcdMirror.make("much/")
        const pull = yield* Stream.toPull(mirror.changes)
        yield* pull
        const gone = ["much/1/", "much/0/"].map((prefix) => EtcdTxn.delete(KeyRange.prefix(prefix)))
        yield* EtcdTxn.commit(EtcdTxn.all(gone))
        const [change] = yield* pull
        assert(change._tag === "Update")
        assert.deepStrictEqual([change.history, change.events.length], ["complete", 4200])
        assert.match(change.events[0]!.key, /^much\/1/)
      }).pipe(Effect.scoped)
    )

    it.effect("comes to a revision that only other keys have brought, by progress or by comparing", () =>
      Effect.gen(function* () {
        const watch = yield* EtcdWatch.EtcdWatch
        const unable: EtcdWatch.Service = {
          ...watch,
          changes: (range, options) => watch.changes(range, { ...options, progress: false }),
          requestProgress: Effect.fail(
            EtcdError.make(
              new EtcdError.Unsupported({ message: "as before 3.5.8", outcome: "not-applied", feature: "progress" })
            )
          )
        }
        for (const service of [watch, unable]) {
          const mirror = yield* Effect.provideService(EtcdMirror.make("quiet/"), EtcdWatch.EtcdWatch, service)
          for (let n = 0; n < 3; n++) {
            const { header } = yield* EtcdKv.put("busy/a", "1")
            const view = yield* mirror.awaitRevision(header.revision)
            assert.isAtLeast(Number(view.revision), Number(header.revision))
            yield* EtcdKv.put("busy/a", "2")
            const written = yield* EtcdKv.put(`quiet/${n}`, "1")
            yield* EtcdKv.put("busy/a", "3")
            const fresh = yield* mirror.fresh
            assert.isAbove(Number(fresh.revision), Number(written.header.revision))
            assert.isTrue(Option.isSome(fresh.get(`quiet/${n}`)))
            yield* EtcdKv.delete(`quiet/${n}`)
            yield* EtcdKv.put("busy/a", "4")
            assert.isTrue(Option.isNone((yield* mirror.fresh).get(`quiet/${n}`)))
          }
        }
      }).pipe(Effect.scoped)
    )

    it.effect("waits for a revision that is still to come", () =>
      Effect.gen(function* () {
        const mirror = yield* EtcdMirror.make("future/")
        const { header } = yield* EtcdKv.put("elsewhere", "1")
        const waiting = yield* start(mirror.awaitRevision(header.revision + 3n))
        const given = yield* start(mirror.awaitRevision(header.revision + 1000n))
        yield* EtcdKv.put("elsewhere", "2")
        yield* EtcdKv.put("elsewhere", "3")
        yield* mirror.fresh
        assert.isUndefined(waiting.pollUnsafe())
        yield* EtcdKv.put("elsewhere", "4")
        assert.strictEqual((yield* Fiber.join(waiting)).size, 0)
        yield* Fiber.interrupt(given)
      }).pipe(Effect.scoped)
    )

    it.effect("is not kept waiting by who waits for what is far away", () =>
      Effect.gen(function* () {
        const clock = yield* Clock.Clock
        const pauses: Array<number> = []
        const sleep = (duration: Duration.Duration) => {
          const millis = Duration.toMillis(duration)
          pauses.push(millis)
          // Those that grow do not end here.
          return millis <= 50 ? clock.sleep(duration) : Effect.never
        }
        const time = Time.fromClock(Object.create(clock, { sleep: { value: sleep } }))
        const mirror = yield* Effect.provideService(EtcdMirror.make("patient/"), Time.Time, time)
        const far = yield* start(mirror.awaitRevision(1n << 62n))
        yield* until(() => pauses.some((millis) => millis > 50 && millis <= 1000))
        for (let n = 0; n < 3; n++) {
          yield* EtcdKv.put("elsewhere", "1")
          yield* mirror.fresh
        }
        assert.isUndefined(far.pollUnsafe())
      }).pipe(Effect.scoped)
    )

    it.effect(
      "is as old as the wall clock says where the machine may have slept, and no younger where it is set back",
      () =>
        Effect.gen(function* () {
          const mirror = yield* EtcdMirror.make("asleep/", { maxAge: "10 seconds" })
          const clock = yield* wallClock
          clock.step(3_600_000)
          const error = yield* Effect.flip(mirror.view)
          assert(error._tag === "MirrorStale")
          assert.isAtLeast(Duration.toMillis(error.age), 3_599_000)
          yield* mirror.fresh
          assert.strictEqual((yield* mirror.view).size, 0)
          clock.step(-7_200_000)
          assert.strictEqual((yield* mirror.view).size, 0)
          assert.isAtLeast(Duration.toMillis((yield* mirror.lag).age), 0)
        }).pipe(Effect.scoped)
    )

    it.effect("ends with its scope, and says so", () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const mirror = yield* Scope.provide(EtcdMirror.make("end/"), scope)
        const changes = yield* start(Stream.runDrain(mirror.changes))
        const waiting = yield* start(mirror.awaitRevision(1n << 62n))
        const failed = yield* start(mirror.failed)
        yield* Scope.close(scope, Exit.void)
        for (const ended of [Fiber.join(changes), Fiber.join(waiting), mirror.fresh, mirror.get("a"), mirror.view]) {
          const error = yield* Effect.flip(ended as Effect.Effect<unknown, EtcdError.EtcdError>)
          assert.strictEqual(error.reason._tag, "Unreachable")
        }
        assert.strictEqual((yield* Fiber.join(failed)).reason._tag, "Unreachable")
        assert.isFalse((yield* mirror.lag).connected)
      })
    )

    it.effect("refuses what makes no sense", () =>
      Effect.gen(function* () {
        const given: ReadonlyArray<readonly [unknown, unknown]> = [
          [5, {}],
          [null, {}],
          [undefined, {}],
          ["half \ud800", {}],
          [{ prefix: "a/" }, {}],
          [KeyRange.interval("b", "a"), {}],
          [KeyRange.prefix(5 as never), {}],
          [EtcdStore.make(5 as never, Schema.String), {}],
          ["a/", { maxAge: 0 }],
          ["a/", { maxAge: "soon" }],
          ["a/", { maxAge: -1 }],
          ["a/", { onStale: "wait" }],
          ["a/", { maxage: "1 second" }],
          ["a/", { endpoint: "" }],
          ["a/", { metadata: { A: "b" } }],
          ["a/", 5],
          ["a/", null]
        ]
        for (const [source, options] of given) {
          const { reason } = yield* Effect.flip(EtcdMirror.make(source as string, options as EtcdMirror.Options))
          assert.strictEqual(reason._tag, "InvalidArgument", `${String(source)} ${JSON.stringify(options)}`)
        }
        const mirror = yield* EtcdMirror.make("sense/")
        for (const refused of [mirror.get(5 as never), mirror.awaitRevision(-1n), mirror.awaitRevision(5 as never)]) {
          const error = yield* Effect.flip(refused as Effect.Effect<unknown, EtcdError.EtcdError>)
          assert.strictEqual(error.reason._tag, "InvalidArgument")
        }
        const view = yield* mirror.view
        assert.deepStrictEqual(view.get(5 as never), Option.none())
      }).pipe(Effect.scoped)
    )
  })
})

const isPutOf = (value: string) => (event: EtcdMirror.Event<KeyValue>) =>
  event._tag === "Put" && event.value.valueString === value

describe("a mirror whose server", () => {
  it.live("stands still is stale after its time, and no longer when it goes on", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { log: false })
      const services = yield* Layer.build(EtcdLayer.connect({ endpoints: node.endpoints }))
      yield* Effect.gen(function* () {
        yield* EtcdKv.put("s/a", "1")
        const failing = yield* EtcdMirror.make("s/", { maxAge: "600 millis" })
        const asking = yield* EtcdMirror.make("s/", { maxAge: "600 millis", onStale: "ask" })
        const indifferent = yield* EtcdMirror.make("s/")
        assert.isTrue((yield* failing.lag).connected)
        yield* freeze(node)
        const error = yield* Effect.flip(Effect.forever(Effect.andThen(failing.get("s/a"), Effect.sleep(20))))
        assert(error._tag === "MirrorStale")
        assert.isAtLeast(Duration.toMillis(error.age), 600)
        assert.include(error.message, "may be 600ms old")
        assert.strictEqual((yield* Effect.flip(failing.view))._tag, "MirrorStale")
        assert.isAtLeast(Duration.toMillis((yield* failing.lag).age), 600)
        assert.strictEqual((yield* indifferent.view).size, 1)
        yield* asking.lag.pipe(
          Effect.tap(Effect.sleep(20)),
          Effect.repeat({ until: ({ age }) => Duration.toMillis(age) > 600 })
        )
        const asked = yield* start(asking.view)
        yield* Effect.sleep(20)
        assert.isUndefined(asked.pollUnsafe())
        yield* node.signal("SIGCONT")
        assert.strictEqual((yield* Fiber.join(asked)).size, 1)
        yield* failing.view.pipe(Effect.retry(Schedule.spaced(20)))
      }).pipe(Effect.scoped, Effect.provideContext(services))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("was wiped starts again, and tells the difference and that history was lost", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* temporaryDirectory, "data")
      const node = yield* EtcdProcess.ephemeral({ dataDir }, { log: false })
      const client = yield* EtcdClient.make({ endpoints: node.endpoints, reconnect: Schedule.spaced(10) })
      const kv = EtcdKv.fromClient(client)
      const services = Context.make(EtcdKv.EtcdKv, kv).pipe(
        Context.add(EtcdWatch.EtcdWatch, yield* EtcdWatch.fromClient(client))
      )
      // What the values are made of does not show from outside.
      const queries = EtcdStore.make("q/", Schema.URLSearchParams)
      yield* Effect.provideContext(queries.put("a", new URLSearchParams("n=1")), services)
      yield* Effect.forEach(["a", "b", "c", "other"], (key) => kv.put(`w/${key}`, "old"))
      const ofStore = yield* Effect.provideContext(EtcdMirror.make(queries), services)
      const mirror = yield* Effect.provideContext(EtcdMirror.make("w/"), services)
      const quiet = yield* Effect.provideContext(EtcdMirror.make("nothing/"), services)
      const { all, got } = yield* replaying(mirror)
      const ofQuiet = yield* replaying(quiet)
      yield* until(() => got.length > 0 && ofQuiet.got.length > 0)
      const waiting = yield* start(Effect.flip(mirror.awaitRevision(1000n)))
      yield* node.stop
      rmSync(dataDir, { recursive: true })
      yield* node.start
      const putAgain = queries.put("a", new URLSearchParams("n=2")).pipe(Effect.retry(Schedule.spaced(20)))
      assert.strictEqual((yield* Effect.provideContext(putAgain, services)).revision, 2n)
      yield* kv.put("w/b", "new")
      const { header } = yield* kv.put("w/d", "new")
      const view = yield* mirror.fresh
      assert.isBelow(Number(view.revision), 5)
      assert.deepStrictEqual(texts(view), ["w/b=new", "w/d=new"])
      yield* until(() => all().revision === header.revision)
      assert.deepStrictEqual(all().map, new Map(view))
      assert.isTrue(got.some((change) => change._tag === "Update" && change.history === "lost"))
      assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "RevisionRegressed")
      // Written at the same revisions, and yet another value.
      const query = Option.getOrThrow((yield* ofStore.fresh).get("a"))
      assert.strictEqual(String(Result.getOrThrow(query).value), "n=2")
      // Nothing is different for this one, and yet it is told.
      yield* quiet.fresh
      yield* until(() => ofQuiet.got.length > 1)
      const [, lost] = ofQuiet.got
      assert(lost?._tag === "Update")
      assert.deepStrictEqual([lost.history, lost.events], ["lost", []])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is away while its history is compacted tells the exact difference, deletions included", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { log: false })
      const near = yield* Layer.build(EtcdLayer.connect({ endpoints: node.endpoints }))
      const kv = Context.get(near, EtcdKv.EtcdKv)
      yield* Effect.forEach(["a", "b", "c"], (key) => kv.put(`c/${key}`, "1"))
      const watch = Context.get(near, EtcdWatch.EtcdWatch)
      const mirror = yield* EtcdMirror.make("c/").pipe(
        // As if its reader were slow, and the watch came back to a history that is gone.
        Effect.provideService(EtcdWatch.EtcdWatch, {
          ...watch,
          changes: (range, options) =>
            Stream.tap(watch.changes(range, { ...options, bufferSize: 1 }), (change) =>
              change._tag === "Revision" && change.events.some(({ kv }) => kv.keyString === "c/wait")
                ? compacting
                : Effect.void
            )
        }),
        Effect.provideService(EtcdKv.EtcdKv, kv)
      )
      const compacting = Effect.gen(function* () {
        yield* kv.put("c/a", "2")
        yield* kv.delete("c/b")
        yield* kv.put("c/d", "1")
        yield* kv.delete("c/d")
        const { header } = yield* kv.put("c/e", "1")
        yield* kv.compact(header.revision)
      }).pipe(Effect.orDie)
      const { all, got } = yield* replaying(mirror)
      yield* until(() => got.length > 0)
      yield* kv.put("c/wait", "1")
      yield* until(() => all().map.has("c/e"))
      const view = yield* mirror.fresh
      assert.deepStrictEqual(texts(view), ["c/a=2", "c/c=1", "c/e=1", "c/wait=1"])
      assert.deepStrictEqual(all().map, new Map(view))
      const joined = got.flatMap((change) => (change._tag === "Update" && change.history === "joined" ? [change] : []))
      assert.deepStrictEqual(
        joined.map(({ events }) => events.map(({ _tag, key }) => `${_tag} ${key}`)),
        [["Put c/a", "Delete c/b", "Put c/e"]]
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("lets the user read no longer fails with that, whatever its watch still tells", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { log: false })
      const secret = Redacted.make("secret")
      const auth = EtcdAuth.fromClient(yield* EtcdClient.make({ endpoints: node.endpoints }))
      yield* auth.addUser("root", secret)
      yield* auth.addRole("root")
      yield* auth.grantRole("root", "root")
      yield* auth.addRole("reader")
      yield* auth.grantPermission("reader", "read", KeyRange.prefix("a/"))
      for (const user of ["ann", "bob"]) {
        yield* auth.addUser(user, secret)
        yield* auth.grantRole(user, "reader")
      }
      const { endpoints } = node
      const anonymous = yield* EtcdClient.make({ endpoints })
      const client = (username: string) => EtcdClient.make({ endpoints, credentials: { username, password: secret } })
      const mirrorOf = (client: EtcdClient.Client, options?: EtcdMirror.Options) =>
        Effect.gen(function* () {
          return yield* EtcdMirror.make("a/", { maxAge: "300 millis", ...options }).pipe(
            Effect.provideService(EtcdKv.EtcdKv, EtcdKv.fromClient(client)),
            Effect.provideService(EtcdWatch.EtcdWatch, yield* EtcdWatch.fromClient(client))
          )
        })
      const nobody = yield* mirrorOf(anonymous)
      yield* nobody.fresh
      yield* auth.enable()
      // Who has no credentials is refused for good, and says so.
      assert.strictEqual((yield* nobody.failed).reason._tag, "UserNameEmpty")
      const ann = yield* mirrorOf(yield* client("ann"))
      const bob = yield* mirrorOf(yield* client("bob"))
      const root = EtcdAuth.fromClient(yield* client("root"))
      const reading = yield* Effect.forkChild(Effect.flip(Stream.runDrain(bob.changes)))
      const waiting = yield* Effect.forkChild(Effect.flip(bob.awaitRevision(1_000_000n)))
      yield* root.revokeRole("bob", "reader")
      for (const failed of [bob.failed, Fiber.join(reading), Fiber.join(waiting), Effect.flip(bob.fresh)]) {
        assert.strictEqual((yield* failed).reason._tag, "PermissionDenied")
      }
      assert.isFalse((yield* bob.lag).connected)
      // Ann may read, and then there is no such user.
      yield* ann.fresh
      yield* root.deleteUser("ann")
      assert.include(["AuthenticationFailed", "PermissionDenied"], (yield* ann.failed).reason._tag)
      // A token of the program's own is good as long as authentication is not disabled.
      const request = { name: "root", password: Redacted.value(secret) }
      const { token } = yield* anonymous.unary(Auth.method.authenticate, request)
      const own = yield* mirrorOf(anonymous, { metadata: { token } })
      yield* own.fresh
      yield* root.disable()
      yield* root.enable()
      assert.deepInclude((yield* own.failed).reason, { _tag: "InvalidAuthToken", lasting: true })
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("does not let the user read fails with that, and one that nobody answers leaves nothing", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral({}, { log: false })
      const root = { username: "root", password: Redacted.make("secret") }
      const admin = yield* EtcdClient.make({ endpoints: node.endpoints })
      const auth = EtcdAuth.fromClient(admin)
      yield* auth.addUser("root", root.password)
      yield* auth.addRole("root")
      yield* auth.grantRole("root", "root")
      yield* auth.addUser("ann", Redacted.make("secret"))
      yield* auth.enable()
      const connected = EtcdLayer.connect({
        endpoints: node.endpoints,
        credentials: { username: "ann", password: Redacted.make("secret") }
      })
      const { reason } = yield* Effect.flip(Effect.provide(EtcdMirror.make("a/"), connected)).pipe(Effect.scoped)
      assert.strictEqual(reason._tag, "PermissionDenied")
      yield* node.stop
      const scope = yield* Scope.make()
      const nowhere = yield* Scope.provide(Layer.build(connected), scope)
      const gone = yield* EtcdMirror.make("a/").pipe(
        Effect.provideContext(nowhere),
        Scope.provide(scope),
        Effect.timeoutOption("50 millis")
      )
      assert.deepStrictEqual(gone, Option.none())
      assert.strictEqual(scope.state._tag === "Open" && scope.state.finalizers?.size, 1)
      yield* Scope.close(scope, Exit.void)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
