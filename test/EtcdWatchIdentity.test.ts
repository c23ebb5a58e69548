/**
 * Watches whose store goes back under them: an older backup is restored, or the data is wiped, and the node starts anew
 * at the same address.
 *
 * Restoring a snapshot takes etcdutl, or etcdctl where that still does it: from beside `ETCDCTL_BINARY`, or from the
 * `PATH`. Where there is neither, that is left out.
 */
import { execFile, spawn } from "node:child_process"
import * as NodeFs from "node:fs"
import * as NodePath from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdConfig from "../src/EtcdConfig.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as EtcdWatch from "../src/EtcdWatch.ts"
import { Settings } from "../src/internal/watch/settings.ts"
import * as KeyRange from "../src/KeyRange.ts"
import { freePort, freeze, startAgain, temporaryDirectory, until } from "./support/machine.ts"
import * as Metrics from "./support/watch/metrics.ts"

const isExecutable = (file: string): boolean => NodeFs.statSync(file, { throwIfNoEntry: false })?.isFile() === true

const places = [
  NodePath.dirname(process.env.ETCDCTL_BINARY ?? ""),
  ...(process.env.PATH ?? "").split(NodePath.delimiter)
]

const restorer = ["etcdutl", "etcdctl"]
  .flatMap((name) => places.map((place) => NodePath.join(place, name)))
  .find(isExecutable)

/** Makes data of the snapshot, for the same member of the same cluster. */
const restore = (node: EtcdProcess.Node, snapshot: string, dataDir: string) =>
  Effect.callback<void>((resume) => {
    const identity = EtcdConfig.toFlags(node.config).filter((flag) =>
      /^--(name|initial-cluster|initial-advertise-peer-urls)=/.test(flag)
    )
    const args = ["snapshot", "restore", snapshot, "--data-dir", dataDir, ...identity]
    execFile(restorer!, args, { env: { ETCDCTL_API: "3" } }, (error) =>
      resume(error === null ? Effect.void : Effect.die(error))
    )
  })

/** A reader that keeps what it got. */
const watching = (
  service: EtcdWatch.Service,
  key: KeyRange.Input,
  options: EtcdWatch.ChangesOptions,
  onChange = Effect.void
) =>
  Effect.gen(function* () {
    const got: Array<EtcdWatch.Change> = []
    const fiber = yield* service.changes(key, options).pipe(
      Stream.runForEach((change) => {
        got.push(change)
        return onChange
      }),
      Effect.forkScoped({ startImmediately: true })
    )
    return { got, fiber }
  })

/** etcd's own proxy before the node. It goes on with the watches that it has when the node is back. */
const grpcProxy = (node: EtcdProcess.Node) =>
  Effect.gen(function* () {
    const directory = yield* temporaryDirectory
    const port = yield* freePort
    const args = ["grpc-proxy", "start", `--endpoints=${node.endpoints[0]}`, `--listen-addr=127.0.0.1:${port}`]
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.env.ETCD_BINARY ?? "etcd", [...args, "--data-dir=proxy"], { cwd: directory, stdio: "ignore" })
      ),
      (child) =>
        Effect.callback<void>((resume) => {
          child.once("exit", () => resume(Effect.void))
          child.kill("SIGKILL")
        })
    )
    return `http://127.0.0.1:${port}`
  })

/** A node whose data can be exchanged, and a service whose calls can be kept from it meanwhile. */
const start = Effect.gen(function* () {
  const directory = yield* temporaryDirectory
  const dataDir = NodePath.join(directory, "data")
  const backup = NodePath.join(directory, "backup")
  const node = yield* EtcdProcess.ephemeral({ dataDir }, { log: false })
  const client = yield* EtcdClient.make({ endpoints: node.endpoints, reconnect: Schedule.spaced("10 millis") })
  const mayRead = Latch.makeUnsafe(true)
  const reads: Array<bigint> = []
  const toRead = (request: unknown) =>
    Effect.suspend(() => {
      const { revision = 0n } = request as { readonly revision?: bigint }
      reads.push(revision)
      return revision === 0n ? Effect.void : mayRead.await
    })
  const service = yield* EtcdWatch.fromClient({
    ...client,
    unary: (method, request, options) => {
      const call = client.unary(method, request, options)
      return method.name === "Range" ? Effect.andThen(toRead(request), call) : call
    },
    serverStream: (method, request, options) =>
      Stream.unwrap(Effect.as(toRead(request), client.serverStream(method, request, options)))
  })
  const mayTry = Latch.makeUnsafe(true)
  const retry: typeof EtcdWatch.defaultRetry = Schedule.spaced("5 millis").pipe(
    Schedule.modifyDelay(({ duration }) => Effect.as(mayTry.await, duration))
  )
  const kill = Effect.andThen(node.signal("SIGKILL"), node.exit)
  return {
    node,
    kv: EtcdKv.fromClient(client),
    mayTry,
    /** Reads at a revision that is past, wait for this. */
    mayRead,
    /** The revisions at which it was read; 0 is the latest. */
    reads,
    restart: Effect.andThen(kill, startAgain(node)),
    /** Makes the copy of a snapshot of the data as they are now. */
    save: Effect.gen(function* () {
      const snapshot = NodePath.join(directory, "snapshot.db")
      yield* EtcdMaintenance.fromClient(client).snapshotToFile(snapshot)
      yield* restore(node, snapshot, backup)
    }),
    /** Keeps a copy of the data as they are now. */
    keep: Effect.gen(function* () {
      yield* node.stop
      NodeFs.cpSync(dataDir, backup, { recursive: true })
      yield* startAgain(node)
    }),
    /** Kills the node, and starts it with the copy, or with nothing where there is none. */
    goBack: Effect.gen(function* () {
      yield* kill
      NodeFs.rmSync(dataDir, { recursive: true, force: true })
      if (NodeFs.existsSync(backup)) NodeFs.cpSync(backup, dataDir, { recursive: true })
      yield* startAgain(node)
    }),
    reading: (options: EtcdWatch.ChangesOptions = {}, key: KeyRange.Input = "a", onChange = Effect.void) =>
      watching(service, key, { retry, ...options }, onChange)
  }
})

type Store = Effect.Success<typeof start>

const putAll = ({ kv }: Store, key: string, count: number) =>
  Effect.forEach(
    Array.from({ length: count }, (_, n) => String(n)),
    (value) => kv.put(key, value),
    { discard: true }
  )

const regression = (fiber: Fiber.Fiber<unknown, EtcdError.EtcdError>) =>
  Effect.map(Effect.flip(Fiber.join(fiber)), ({ message, reason }) => {
    assert.strictEqual(reason._tag, "RevisionRegressed", message)
    return reason._tag === "RevisionRegressed" ? reason : assert.fail()
  })

const revisions = (got: ReadonlyArray<EtcdWatch.Change>) =>
  got.flatMap((change) => (change._tag === "Revision" ? [change.revision] : []))

const provided = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(Effect.scoped, Effect.provide(NodeServices.layer))

describe("a store that goes back", () => {
  const waysBack = ["is wiped", "gets an older copy of its data", "is restored from an older snapshot"] as const
  const keep = (store: Store, what: (typeof waysBack)[number]) => {
    if (what === "is wiped") return Effect.void
    return what === "gets an older copy of its data" ? store.keep : store.save
  }

  for (const what of waysBack) {
    const live = what === "is restored from an older snapshot" && restorer === undefined ? it.live.skip : it.live
    live(`because it ${what} ends the watches that have seen more`, () =>
      provided(
        Effect.gen(function* () {
          const store = yield* start
          const busy = yield* store.reading({ startRevision: 1n })
          const mayRead = Latch.makeUnsafe(false)
          const slow = yield* store.reading({ startRevision: 1n, bufferSize: 600 }, "a", mayRead.await)
          yield* putAll(store, "a", 1)
          yield* until(() => slow.got.length === 1)
          yield* putAll(store, "a", 9)
          yield* keep(store, what)
          yield* putAll(store, "a", 10)
          yield* until(() => revisions(busy.got).length === 20)
          const quiet = yield* store.reading({ created: true }, "quiet")
          yield* until(() => quiet.got.length === 1)
          yield* store.goBack
          const { current, seen } = yield* regression(busy.fiber)
          assert.deepStrictEqual([seen, current], [21n, what === "is wiped" ? 1n : 11n])
          yield* regression(quiet.fiber)
          // The slow reader gets what had come for it. What it has seen may be in the backup: then it goes on.
          yield* mayRead.open
          if (what === "is wiped") {
            yield* regression(slow.fiber)
            assert.isBelow(slow.got.length, 20)
          } else {
            const { header } = yield* store.kv.put("a", "new")
            yield* until(() => revisions(slow.got).at(-1) === header.revision)
            assert.strictEqual(header.revision, 12n)
          }
          assert.deepStrictEqual(
            revisions(slow.got),
            slow.got.map((_, index) => BigInt(index + 2))
          )
        })
      )
    )

    live(`because it ${what} is told by a snapshot to those who want one`, () =>
      provided(
        Effect.gen(function* () {
          const store = yield* start
          if (what !== "is wiped") yield* store.kv.put("a", "kept")
          yield* keep(store, what)
          const whenNeeded = yield* store.reading({ startRevision: 1n, snapshot: "when-compacted" })
          const first = yield* store.reading({ snapshot: "first" })
          yield* until(() => first.got.length === 1)
          yield* putAll(store, "a", 20)
          yield* until(() => revisions(whenNeeded.got).length >= 20 && revisions(first.got).length >= 20)
          const before = [whenNeeded.got.length, first.got.length]
          yield* store.goBack
          yield* until(() => whenNeeded.got.length > before[0]! && first.got.length > before[1]!)
          const { header } = yield* store.kv.put("a", "new")
          for (const [index, { got }] of [whenNeeded, first].entries()) {
            yield* until(() => got.length >= before[index]! + 2)
            const [snapshot, change] = got.slice(before[index]!)
            assert.isTrue(snapshot?._tag === "Snapshot" && snapshot.revision === (what === "is wiped" ? 1n : 2n))
            assert.isTrue(snapshot?._tag === "Snapshot" && snapshot.cause === "regressed")
            assert.deepStrictEqual(
              snapshot?._tag === "Snapshot" && snapshot.kvs.map(({ valueString }) => valueString),
              what === "is wiped" ? [] : ["kept"]
            )
            assert.isTrue(change?._tag === "Revision" && change.revision === header.revision)
          }
        })
      )
    )
  }

  it.live("and has passed the old revision since is told by what its history lacks", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        const { got, fiber } = yield* store.reading({ startRevision: 1n })
        yield* putAll(store, "a", 10)
        yield* until(() => revisions(got).length === 10)
        yield* store.mayTry.close
        yield* store.goBack
        yield* putAll(store, "b", 30)
        yield* store.mayTry.open
        const { current, message, seen } = yield* regression(fiber)
        assert.deepStrictEqual([seen, current], [11n, 31n])
        assert.include(message, '"a"')
      })
    )
  )

  it.live("and has passed the old revision since is told by what a snapshot of it had", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        yield* putAll(store, "quiet/b", 2)
        yield* store.kv.put("quiet/a", "last")
        yield* putAll(store, "b", 5)
        const prefix = KeyRange.prefix("quiet/")
        const { fiber, got } = yield* store.reading({ snapshot: "first", created: true }, prefix)
        yield* until(() => got.length === 2)
        yield* store.mayTry.close
        yield* store.goBack
        yield* putAll(store, "b", 30)
        yield* store.mayTry.open
        yield* until(() => got.length === 3)
        const again = got[2]!
        assert.isTrue(again._tag === "Snapshot" && again.kvs.length === 0 && again.revision === 31n)
        assert.isUndefined(fiber.pollUnsafe())
      })
    )
  )

  it.live("while the pages of a snapshot are read has the snapshot read anew", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => `a${n}`),
          (key) => store.kv.put(key, "old")
        )
        yield* store.mayRead.close
        const { fiber, got } = yield* store.reading({ snapshot: "first" }, KeyRange.prefix("a"))
        // The second page is asked for at the revision of the first.
        yield* until(() => store.reads.at(-1) === 101n)
        yield* store.goBack
        yield* store.kv.put("a1", "new")
        yield* store.mayRead.open
        yield* until(() => got.length === 1 || fiber.pollUnsafe() !== undefined)
        const snapshot = got[0]!
        assert.isTrue(snapshot?._tag === "Snapshot" && snapshot.revision === 2n)
        assert.deepStrictEqual(
          snapshot?._tag === "Snapshot" && snapshot.kvs.map(({ keyString, valueString }) => [keyString, valueString]),
          [["a1", "new"]]
        )
        const { header } = yield* store.kv.put("a2", "new")
        yield* until(() => revisions(got).at(-1) === header.revision)
      })
    )
  )

  it.live("while a quiet key is looked up that was compacted is asked for the watch again", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        yield* store.kv.put("a", "1")
        const { fiber, got } = yield* store.reading({ created: true })
        yield* until(() => got.length === 1)
        yield* store.mayTry.close
        yield* putAll(store, "b", 20)
        const { header } = yield* store.kv.put("b", "last")
        yield* store.kv.compact(header.revision, { physical: true })
        yield* store.restart
        yield* store.mayRead.close
        yield* store.mayTry.open
        yield* until(() => store.reads.includes(header.revision))
        yield* store.goBack
        yield* store.mayRead.open
        const { current } = yield* regression(fiber)
        assert.strictEqual(current, 1n)
      })
    )
  )

  it.live("and has passed the old revision since is told by its leader's term", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        for (const _ of [1, 2, 3]) yield* store.restart
        const { got, fiber } = yield* store.reading({ created: true }, "quiet")
        yield* until(() => got.length === 1)
        yield* store.mayTry.close
        yield* store.goBack
        yield* putAll(store, "b", 30)
        yield* store.mayTry.open
        const { message } = yield* regression(fiber)
        assert.include(message, "raft term")
      })
    )
  )

  it.live("behind a proxy that keeps the call is told where nothing is heard", () =>
    provided(
      Effect.gen(function* () {
        const dataDir = NodePath.join(yield* temporaryDirectory, "data")
        const url = `http://127.0.0.1:${yield* freePort}`
        const node = yield* EtcdProcess.ephemeral(
          { dataDir, listenClientUrls: [url], advertiseClientUrls: [url] },
          { log: false }
        )
        const proxy = yield* grpcProxy(node)
        const client = yield* EtcdClient.make({ endpoints: [proxy] })
        const service = yield* EtcdWatch.fromClient(client).pipe(
          Effect.provideService(Settings, { ...Context.get(Context.empty(), Settings), progressIntervalMillis: 50 })
        )
        const kv = EtcdKv.fromClient(client)
        const putSurely = Effect.retry(kv.put("a", "1"), Schedule.spaced("20 millis"))
        yield* putSurely
        const watches = yield* Effect.forEach(["a", "quiet"], (key) => watching(service, key, { created: true }))
        yield* until(() => watches.every(({ got }) => got.length === 1))
        for (let n = 0; n < 20; n++) yield* putSurely
        yield* until(() => watches[0]!.got.length > 20)
        yield* node.signal("SIGKILL")
        yield* node.exit
        NodeFs.rmSync(dataDir, { recursive: true, force: true })
        yield* startAgain(node)
        for (const { fiber } of watches) yield* regression(fiber)
      })
    )
  )

  it.live("is nothing to a watch for a revision to come", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        const { got, fiber } = yield* store.reading({ startRevision: 5n, created: true })
        yield* until(() => got.length === 1)
        yield* store.goBack
        yield* putAll(store, "a", 6)
        yield* until(() => revisions(got).length === 3)
        assert.deepStrictEqual(revisions(got), [5n, 6n, 7n])
        assert.isUndefined(fiber.pollUnsafe())
      })
    )
  )

  it.live("is not seen in one that only restarts", () =>
    provided(
      Effect.gen(function* () {
        const store = yield* start
        const watches = yield* Effect.forEach(["a", "a", "quiet"], (key) => store.reading({ created: true }, key))
        yield* until(() => watches.every(({ got }) => got.length === 1))
        for (const n of [1, 2, 3]) {
          yield* store.kv.put("a", String(n))
          yield* until(() => watches.slice(0, 2).every(({ got }) => revisions(got).length === n))
          yield* store.restart
        }
        yield* store.kv.put("quiet", "now", { retry: Schedule.spaced("20 millis") })
        yield* until(() => watches[2]!.got.length === 2)
        assert.isTrue(watches.every(({ fiber }) => fiber.pollUnsafe() === undefined))
      })
    )
  )
})

describe("a member that lags", () => {
  it.live("keeps a watch waiting that has come from one that does not", () =>
    provided(
      Effect.gen(function* () {
        const cluster = yield* EtcdCluster.ephemeral({ log: false })
        const leader = yield* cluster.awaitLeader
        const [lagging, other] = SubscriptionRef.getUnsafe(cluster.members).filter((node) => node !== leader)
        const client = yield* EtcdClient.make({
          endpoints: [...leader.endpoints, ...lagging!.endpoints],
          keepAliveInterval: "200 millis",
          keepAliveTimeout: "200 millis",
          reconnect: Schedule.spaced("10 millis")
        })
        const service = yield* EtcdWatch.fromClient(client)
        const kv = EtcdKv.fromClient(client)
        const got: Array<bigint> = []
        yield* freeze(lagging!)
        const watching = yield* service.changes(KeyRange.all, { startRevision: 1n, requireLeader: false }).pipe(
          Stream.runForEach((change) =>
            Effect.sync(() => {
              if (change._tag === "Revision") got.push(change.revision)
            })
          ),
          Effect.forkScoped({ startImmediately: true })
        )
        // A server that is slow to give a sign of life leaves it unknown whether a write was applied.
        const putSurely = (value: string) =>
          Effect.retry(kv.put("a", value, { retry: Schedule.spaced("20 millis") }), Schedule.spaced("20 millis"))
        for (let n = 0; n < 200; n++) yield* putSurely(String(n))
        yield* until(() => got.length >= 200)
        // The two that know more are gone; the one that is left knows less, and nobody to ask.
        yield* Effect.forEach([leader, other!], freeze, { discard: true })
        yield* lagging!.signal("SIGCONT")
        yield* Effect.sleep("20 millis").pipe(
          Effect.repeat({ while: () => Effect.map(Metrics.watchers(lagging!), (count) => count === 0) })
        )
        assert.isUndefined(watching.pollUnsafe())
        yield* Effect.forEach([leader, other!], (node) => node.signal("SIGCONT"), { discard: true })
        const { header } = yield* putSurely("last")
        yield* until(() => got.at(-1) === header.revision)
        assert.deepStrictEqual(
          got,
          got.map((_, index) => got[0]! + BigInt(index))
        )
        assert.isUndefined(watching.pollUnsafe())
      })
    )
  )
})
