/**
 * What one operation had begun on a cluster that runs here, and another one finds: it is gone on with, taken back, or stepped
 * over, and nothing is done to a member that nobody meant.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { dirname, join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import type * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import type * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { by, listed, membersOf, named, namesOf, titles } from "./support/clusters.ts"
import { freePort, temporaryDirectory } from "./support/machine.ts"
import { endedAt } from "./support/operations.ts"
import { lines } from "./support/versions.ts"

const make = (options: EtcdCluster.Options = {}) => EtcdCluster.ephemeral({ log: false, size: 1, ...options })

/** To whom clients are led. */
const ledTo = (cluster: EtcdCluster.Cluster) =>
  Effect.map(Stream.runHead(cluster.endpoints), (endpoints) =>
    membersOf(cluster).flatMap((node) => (Option.getOrThrow(endpoints).includes(node.endpoints[0]!) ? [node.name] : []))
  )

const findingOf = (operation: EtcdCluster.Operation) =>
  Effect.flatMap(Effect.flip(operation), (error) =>
    error._tag === "ClusterRefused" ? Effect.succeed(error.finding) : Effect.die(error)
  )

/** Ends an operation that is about to promote somebody, who is promoted then, as where it had ended a moment later. */
const endedOncePromoted = (
  cluster: EtcdCluster.Cluster,
  name: string,
  operation: (options: EtcdOperations.Options) => EtcdCluster.Operation
) =>
  endedAt(
    `promote ${name}`,
    operation,
    Effect.gen(function* () {
      const { members } = yield* EtcdMembership.list()
      const { id } = members.find(({ isLearner }) => isLearner)!
      yield* Effect.retry(EtcdMembership.promote(id), { schedule: Schedule.spaced("100 millis") })
    }).pipe(by(cluster))
  )

/** Whoever has a vote removes another one by hand, and waits until that has ended. */
const removedBy = (one: EtcdProcess.Node, other: EtcdProcess.Node) =>
  EtcdMembership.remove(other.id).pipe(
    Effect.retry({ schedule: Schedule.spaced("100 millis") }),
    // Who is removed has no answer to give.
    Effect.provide(EtcdLayer.connect({ endpoints: one.endpoints })),
    Effect.andThen(
      SubscriptionRef.changes(other.role).pipe(
        Stream.takeUntil(({ role }) => role === "stopped"),
        Stream.runDrain
      )
    )
  )

const live = (name: string, test: () => Effect.Effect<void, unknown, NodeServices.NodeServices | Scope.Scope>) =>
  it.live(name, () => test().pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

/** What a member has that the others do not reach by its socket. */
const ownUrl = Effect.map(freePort, (port) => {
  const url = `http://127.0.0.1:${port}`
  return { listenPeerUrls: url, initialAdvertisePeerUrls: url }
})

/** A cluster of one that keeps its data, and what ends an operation on it as soon as something is written down of a member. */
const watched = (options: EtcdCluster.Options = {}) =>
  Effect.gen(function* () {
    let written = Effect.void
    const dataDir = yield* temporaryDirectory
    const file = join(dataDir, "cluster.json")
    const cluster = yield* make({ ...options, dataDir }).pipe(
      Effect.updateService(FileSystem.FileSystem, (fs) => ({
        ...fs,
        rename: (from, to) =>
          Effect.tap(fs.rename(from, to), () => Effect.suspend(() => (to === file ? written : Effect.void)))
      }))
    )
    const kept = (): ReadonlyArray<string> =>
      JSON.parse(readFileSync(file, "utf8")).members.map(
        ({ name, state }: { readonly name: string; readonly state: string }) => `${name} ${state}`
      )
    const endedOnceWritten = (what: string, operation: EtcdCluster.Operation) =>
      Effect.gen(function* () {
        const isWritten = yield* Deferred.make<void>()
        // What is under way then is written to the end.
        written = Effect.suspend(() =>
          kept().includes(what) ? Effect.andThen(Deferred.succeed(isWritten, undefined), Effect.yieldNow) : Effect.void
        )
        yield* Effect.raceFirst(operation, Deferred.await(isWritten))
        written = Effect.void
      })
    return { cluster, dataDir, endedOnceWritten, kept }
  })

/** Where a member lives that has a directory and a port of its own. */
const configIn = (directory: string) => (name: string) =>
  Effect.map(freePort, (port) => ({
    name,
    dataDir: join(directory, name),
    listenPeerUrls: `http://127.0.0.1:${port}`,
    initialAdvertisePeerUrls: `http://127.0.0.1:${port}`,
    heartbeatInterval: "50 millis" as const,
    electionTimeout: "500 millis" as const
  }))

/** A cluster of one, `a`, with a configuration for each that may join. */
const configured = Effect.gen(function* () {
  const configOf = configIn(yield* temporaryDirectory)
  const a = {
    ...(yield* configOf("a")),
    listenClientUrls: "http://127.0.0.1:0",
    advertiseClientUrls: "http://127.0.0.1:0"
  }
  const cluster = yield* EtcdCluster.fromConfigs([{ ...a, initialCluster: { a: [a.initialAdvertisePeerUrls] } }], {
    log: false
  })
  return { cluster, a, b: yield* configOf("b"), configOf }
})

describe("what one operation had begun on a cluster", { concurrent: true }, () => {
  live("leaves clients a member to go to, though who came was promoted by nobody who could say so", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      yield* endedOncePromoted(cluster, "node1", cluster.grow)
      assert.deepStrictEqual(yield* ledTo(cluster), ["node0"])
      yield* cluster.shrink("node0")
      assert.deepStrictEqual(yield* ledTo(cluster), ["node1"])
      // It is a member, and none that is to come.
      assert.deepStrictEqual(titles(yield* cluster.grow({ dryRun: true }))[0], "add node2 as a learner")
    })
  )

  live("keeps a member that somebody else has given its vote before it was started to the end", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      const isStarting = yield* Deferred.make<void>()
      const growing = yield* Effect.forkChild(
        cluster.grow({
          onProgress: ({ step }) =>
            step === "start node1" ? Effect.asVoid(Deferred.succeed(isStarting, undefined)) : Effect.void
        })
      )
      yield* Deferred.await(isStarting)
      yield* Effect.gen(function* () {
        const { id } = (yield* EtcdMembership.list()).members.find(({ isLearner }) => isLearner)!
        yield* Effect.retry(EtcdMembership.promote(id), { while: ({ _tag }) => _tag === "EtcdError" })
      }).pipe(by(cluster))
      yield* Fiber.interrupt(growing)
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1"])
      assert.deepStrictEqual(namesOf(cluster), ["node0", "node1"])
      yield* cluster.grow({ to: 2 })
      assert.deepStrictEqual(yield* ledTo(cluster), ["node0", "node1"])
    })
  )

  live("leads clients to whoever is written down as a member, though it was ended in that moment", () =>
    Effect.gen(function* () {
      const { cluster, endedOnceWritten } = yield* watched()
      yield* endedOnceWritten("node1 member", cluster.replace("node0"))
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1"])
      assert.deepStrictEqual(yield* ledTo(cluster), ["node0", "node1"])
      yield* cluster.replace("node0")
      assert.deepStrictEqual(yield* ledTo(cluster), ["node1"])
    })
  )

  live("leaves members that reach each other when they are started again, with URLs of their own", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      yield* Effect.gen(function* () {
        const cluster = yield* make({ dataDir })
        yield* endedOncePromoted(cluster, "node1", (options) =>
          Effect.flatMap(ownUrl, (config) => cluster.grow({ ...options, config }))
        )
        yield* cluster.shrink("node0")
        const { listenPeerUrls } = yield* ownUrl
        yield* cluster.grow({ config: { listenPeerUrls } })
        const { members } = yield* EtcdMembership.list().pipe(by(cluster))
        assert.deepStrictEqual(members.find(({ name }) => name === "node2")?.peerUrls, [listenPeerUrls])
      }).pipe(Effect.scoped)
      const cluster = yield* make({ dataDir })
      assert.deepStrictEqual(yield* ledTo(cluster), ["node1", "node2"])
      yield* EtcdKv.put("a", "1").pipe(by(cluster))
    })
  )

  live("is known by the URLs that it was given, also where it has not been started and they are not given again", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      const config = yield* ownUrl
      const grow = (options: EtcdCluster.GrowOptions) => cluster.grow({ ...options, config })
      // No two can have them.
      assert.strictEqual(yield* findingOf(grow({ to: 3 })), "config")
      yield* endedAt("start node1", grow)
      for (const config of [undefined, yield* ownUrl]) {
        assert.deepStrictEqual(titles(yield* cluster.grow({ config, dryRun: true })), ["start node1", "promote node1"])
      }
      yield* cluster.shrink("node1")
      assert.deepStrictEqual(yield* listed(cluster), ["node0"])
      yield* endedOncePromoted(cluster, "node2", grow)
      yield* cluster.replace("node0")
      assert.deepStrictEqual(yield* listed(cluster), ["node2", "node3"])
      assert.deepStrictEqual(yield* ledTo(cluster), ["node2", "node3"])
    })
  )

  live("is taken back, and that is gone on with, by whichever is next", () =>
    Effect.gen(function* () {
      const { cluster, endedOnceWritten, kept } = yield* watched()
      yield* endedAt("promote node1", (options) => cluster.replace("node0", options))
      assert.deepStrictEqual(kept(), ["node0 leaving", "node1 joining"])
      yield* endedOnceWritten("node1 leaving", cluster.shrink("node1"))
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1?"])
      // Nobody takes its place any more.
      assert.deepStrictEqual(kept(), ["node0 member", "node1 leaving"])
      const goes = ["remove node1", "delete the data of node1"]
      for (const operation of [
        cluster.grow,
        cluster.shrink.bind(cluster, undefined),
        cluster.replace.bind(cluster, "node0")
      ]) {
        assert.deepStrictEqual(titles(yield* operation({ dryRun: true })).slice(0, 2), goes)
      }
      yield* cluster.grow()
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node2"])
      assert.deepStrictEqual(namesOf(cluster), ["node0", "node2"])
      assert.deepStrictEqual(kept(), ["node0 member", "node2 member"])
    })
  )

  live("is no less done where who took the place of one has been replaced itself", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      const replace = (options: EtcdOperations.Options) => cluster.replace("node0", options)
      yield* endedAt("remove node0", replace)
      yield* cluster.replace("node1")
      assert.deepStrictEqual(titles(yield* replace({})), ["remove node0", "delete the data of node0"])
      assert.deepStrictEqual(yield* listed(cluster), ["node2"])
    })
  )

  live("is gone on with where one is to be promoted, and another one was", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      yield* endedOncePromoted(cluster, "node1", cluster.grow)
      yield* endedAt("promote node2", (options) => cluster.replace("node0", options))
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1", "node2?"])
      assert.deepStrictEqual(titles(yield* cluster.grow()), ["promote node1", "promote node2"])
      assert.deepStrictEqual(yield* ledTo(cluster), ["node0", "node1", "node2"])
    })
  )

  live("keeps nobody else from being started again, nor the cluster from being started with the size that it has", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      yield* Effect.gen(function* () {
        const cluster = yield* make({ dataDir })
        yield* endedAt("promote node1", cluster.grow)
        const { role, stop } = named(cluster, "node1")
        yield* stop
        // Who has never come to a vote is taken back where it is not waited for, as a whole.
        const growing = yield* Effect.forkChild(cluster.grow())
        yield* SubscriptionRef.changes(role).pipe(
          Stream.filter((state) => state.role !== "stopped"),
          Stream.runHead
        )
        yield* Fiber.interrupt(growing)
        assert.deepStrictEqual(yield* listed(cluster), namesOf(cluster))
        yield* cluster.grow({ to: 2 })
        yield* endedAt("delete the data of node0", (options) => cluster.replace("node0", options))
        assert.deepStrictEqual(yield* listed(cluster), ["node1", "node2"])
        const restarted = titles(yield* cluster.restart())
        assert.deepStrictEqual(restarted.flatMap((title) => /^restart (.*)/.exec(title)?.[1] ?? []).sort(), [
          "node1",
          "node2"
        ])
      }).pipe(Effect.scoped)
      const cluster = yield* make({ dataDir, size: 2 })
      assert.deepStrictEqual(titles(yield* cluster.replace("node0")), ["delete the data of node0"])
      assert.deepStrictEqual(namesOf(cluster), ["node1", "node2"])
    })
  )

  it.live.skipIf(lines.length < 3)("keeps nobody else from having newer versions, nor those who come then", () =>
    Effect.gen(function* () {
      const [first, next, last] = lines.slice(-3)
      const cluster = yield* make({ size: 2, binary: first })
      yield* endedAt("delete the data of node1", (options) => cluster.shrink("node1", options))
      yield* cluster.upgrade({ binary: next!, backup: false })
      yield* cluster.grow({ config: yield* ownUrl })
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node2"])
      assert.strictEqual(named(cluster, "node2").version.minor, named(cluster, "node0").version.minor)
      yield* cluster.upgrade({ binary: last!, backup: false })
      yield* cluster.shrink("node1")
      assert.deepStrictEqual(namesOf(cluster), ["node0", "node2"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live.skipIf(!lines.slice(-2).every((path) => existsSync(join(dirname(path), "etcdutl"))) || lines.length < 2)(
    "is made anew where it has lost its quorum when an upgrade was ended half-way, which goes on then",
    () =>
      Effect.gen(function* () {
        const [binary, next] = lines.slice(-2)
        const cluster = yield* make({ size: 2, binary: binary! })
        yield* EtcdKv.put("key", "acknowledged").pipe(by(cluster))
        const upgrade = (options?: EtcdOperations.Options) =>
          cluster.upgrade({ binary: next!, backup: false, ...options })
        const versions = () => new Set(membersOf(cluster).map(({ version }) => version.minor)).size
        yield* endedAt(({ step }) => step.startsWith("run etcd") && versions() === 2, upgrade)
        const [, lost] = membersOf(cluster)
        yield* lost!.signal("SIGKILL")
        yield* lost!.exit
        yield* cluster.recover({ etcdutl: join(dirname(binary!), "etcdutl") })
        assert.strictEqual(versions(), 2)
        yield* upgrade()
        assert.strictEqual(versions(), 1)
        assert.deepStrictEqual(yield* EtcdKv.getString("key").pipe(by(cluster)), Option.some("acknowledged"))
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  live("deletes what is left of a member that somebody else has removed, also where it was started again", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const inDirectory = make({ size: 3, dataDir })
      const before = yield* Effect.gen(function* () {
        const cluster = yield* inDirectory
        const leader = yield* cluster.awaitLeader
        const [one, other] = membersOf(cluster).filter((node) => node !== leader)
        yield* EtcdKv.put("a", "1").pipe(by(cluster))
        yield* removedBy(leader, one!)
        assert.deepStrictEqual(titles(yield* cluster.shrink(one!.name)), [`delete the data of ${one!.name}`])
        assert.deepStrictEqual((yield* ledTo(cluster)).sort(), [leader.name, other!.name].sort())
        yield* removedBy(leader, other!)
        return { leader: leader.name, other: other!.name }
      }).pipe(Effect.scoped)
      const cluster = yield* inDirectory
      assert.deepStrictEqual(namesOf(cluster), [before.leader])
      assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
      assert.deepStrictEqual(titles(yield* cluster.shrink(before.other)), [`delete the data of ${before.other}`])
      assert.isFalse(existsSync(join(dataDir, `${before.other}.etcd`)))
      assert.deepStrictEqual(yield* listed(cluster), [before.leader])
    })
  )

  live("is written down of two members that somebody has removed, though both are found at the same time", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const inDirectory = make({ size: 3, dataDir })
      const name = yield* Effect.gen(function* () {
        const cluster = yield* inDirectory
        const leader = yield* cluster.awaitLeader
        for (const other of membersOf(cluster).filter((node) => node !== leader)) yield* removedBy(leader, other)
        return leader.name
      }).pipe(Effect.scoped)
      const cluster = yield* inDirectory.pipe(
        Effect.updateService(FileSystem.FileSystem, (fs) => ({
          ...fs,
          rename: (from, to) => Effect.delay(fs.rename(from, to), "2 seconds")
        }))
      )
      assert.deepStrictEqual(namesOf(cluster), [name])
      for (const other of ["node0", "node1", "node2"].filter((other) => other !== name)) {
        assert.deepStrictEqual(titles(yield* cluster.shrink(other)), [`delete the data of ${other}`])
      }
    })
  )

  live("leads nobody to a learner that was to leave, where the cluster is started again", () =>
    Effect.gen(function* () {
      const { cluster, dataDir, endedOnceWritten } = yield* watched()
      yield* endedAt("promote node1", cluster.grow)
      yield* endedOnceWritten("node1 leaving", cluster.shrink("node1"))
      yield* Effect.forEach(membersOf(cluster), ({ stop }) => stop)
      const again = yield* make({ dataDir })
      assert.deepStrictEqual(yield* listed(again), ["node0", "node1?"])
      assert.deepStrictEqual(yield* ledTo(again), ["node0"])
      yield* again.shrink("node1")
      assert.deepStrictEqual(namesOf(again), ["node0"])
    })
  )

  live("leads clients to whoever has got a vote, where those that they were led to are removed by hand", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      yield* Effect.gen(function* () {
        const cluster = yield* make({ dataDir })
        yield* endedOncePromoted(cluster, "node1", cluster.grow)
        yield* removedBy(named(cluster, "node1"), named(cluster, "node0"))
        yield* cluster.endpoints.pipe(
          Stream.filter((endpoints) => endpoints.includes(named(cluster, "node1").endpoints[0]!)),
          Stream.runHead
        )
        assert.deepStrictEqual(titles(yield* cluster.shrink("node0", { dryRun: true })), ["delete the data of node0"])
      }).pipe(Effect.scoped)
      const cluster = yield* make({ dataDir })
      assert.deepStrictEqual(yield* ledTo(cluster), ["node1"])
      yield* cluster.shrink("node0")
      assert.deepStrictEqual(yield* listed(cluster), ["node1"])
    })
  )

  live("does nothing to a member whose name another one has that runs elsewhere", () =>
    Effect.gen(function* () {
      const [own, url] = [`http://127.0.0.1:${yield* freePort}`, `http://127.0.0.1:${yield* freePort}`]
      const { cluster, dataDir, endedOnceWritten, kept } = yield* watched({
        config: { listenPeerUrls: own, initialAdvertisePeerUrls: own, initialCluster: { node0: own } }
      })
      yield* EtcdKv.put("a", "1").pipe(by(cluster))
      yield* EtcdMembership.add([url]).pipe(by(cluster))
      const { id } = yield* EtcdProcess.make(
        {
          name: "node0",
          listenPeerUrls: url,
          initialAdvertisePeerUrls: url,
          initialCluster: { node0: url, other: own },
          initialClusterState: "existing",
          listenClientUrls: "http://127.0.0.1:0",
          advertiseClientUrls: "http://127.0.0.1:0",
          heartbeatInterval: "50 millis",
          electionTimeout: "500 millis"
        },
        { log: false }
      )
      const named = `member ${EtcdId.format(id)}`
      // Where nobody takes its place any more it stays, and nobody here is to be started for it.
      yield* endedAt("add node1 as a learner", (options) => cluster.replace(id, options))
      assert.deepStrictEqual(kept(), ["node0 member", "node1 joining", `${named} leaving`])
      yield* cluster.shrink("node1")
      assert.deepStrictEqual(kept(), ["node0 member"])
      // Both are members for whoever joins.
      const config = yield* ownUrl
      yield* endedAt("promote node2", (options) => cluster.grow({ ...options, config }))
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node0", "node2?"])
      yield* cluster.shrink("node2")
      // It is the last one here, and would take the client along.
      assert.strictEqual(yield* findingOf(cluster.shrink("node0")), "quorum-at-risk")
      yield* endedOnceWritten(`${named} leaving`, cluster.shrink(id))
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node0"])
      assert.deepStrictEqual(titles(yield* cluster.shrink(id)), [`remove ${named}`, `delete the data of ${named}`])
      assert.deepStrictEqual(yield* listed(cluster), ["node0"])
      assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
      assert.isTrue(existsSync(join(dataDir, "node0.etcd")))
      // Its id is no number of a member.
      assert.deepStrictEqual(titles(yield* cluster.grow({ dryRun: true }))[0], "add node3 as a learner")
    })
  )

  live("keeps the cluster from being started no more where somebody leaves who has no name", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const leaves = yield* Effect.gen(function* () {
        const cluster = yield* make({ dataDir })
        const { member } = yield* EtcdMembership.add(["http://127.0.0.1:1"], { isLearner: true }).pipe(by(cluster))
        const last = `delete the data of member ${EtcdId.format(member.id)}`
        yield* endedAt(last, (options) => cluster.shrink(member.id, options))
        return last
      }).pipe(Effect.scoped)
      const cluster = yield* make({ dataDir })
      assert.deepStrictEqual(titles(yield* cluster.shrink()), [leaves])
      assert.deepStrictEqual(readdirSync(dataDir).sort(), ["cluster.json", "node0.etcd"])
    })
  )

  live("puts nobody in the place of itself, where members have a configuration each", () =>
    Effect.gen(function* () {
      const { a, b, cluster, configOf } = yield* configured
      yield* EtcdKv.put("a", "1").pipe(by(cluster))
      for (const config of [a, { ...(yield* configOf("a")), dataDir: `${a.dataDir}2` }]) {
        assert.strictEqual(yield* findingOf(cluster.replace("a", { config })), "config")
      }
      assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
      yield* cluster.grow({ config: b })
      yield* cluster.grow({ config: yield* configOf("c") })
      yield* named(cluster, "b").stop
      // The new one would go with the data of the old one.
      assert.strictEqual(yield* findingOf(cluster.replace("b", { config: b })), "config")
      const d = yield* configOf("d")
      yield* endedAt("add d as a learner", (options) => cluster.replace("b", { ...options, config: d }))
      assert.strictEqual(yield* findingOf(cluster.replace("b", { config: b })), "config")
      yield* cluster.replace("b", { config: d })
      assert.deepStrictEqual(yield* listed(cluster), ["a", "c", "d"])
      // Nobody comes twice, nor who was there before: there would be one less.
      assert.strictEqual(yield* findingOf(cluster.replace("d", { config: a })), "config")
      assert.strictEqual(yield* findingOf(cluster.replace("a", { config: d })), "config")
      assert.deepStrictEqual(yield* ledTo(cluster), ["a", "c", "d"])
    })
  )

  live("takes members that have begun a cluster each for no cluster", () =>
    Effect.gen(function* () {
      const { b, configOf } = yield* configured
      const alone = (config: typeof b) => ({ ...config, initialCluster: { [config.name]: [config.listenPeerUrls] } })
      const [one, other] = [alone(b), alone(yield* configOf("c"))]
      const start = (...configs: readonly [EtcdConfig.Input, ...Array<EtcdConfig.Input>]) =>
        Effect.scoped(EtcdCluster.fromConfigs(configs, { log: false }))
      for (const config of [one, other]) yield* start(config)
      assert.match((yield* Effect.flip(start(one, other))).message, /data of different clusters \(b of \w+, c of \w+\)/)
    })
  )

  live(
    "starts those again that have joined one that has a URL of its own, whether it says so of the cluster or not",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory
        const own = yield* ownUrl
        yield* Effect.gen(function* () {
          const cluster = yield* make({ dataDir, config: own })
          const { listenPeerUrls } = yield* ownUrl
          yield* cluster.grow({ config: { listenPeerUrls } })
        }).pipe(Effect.scoped)
        const config = { ...own, initialCluster: { node0: own.listenPeerUrls } }
        const cluster = yield* EtcdCluster.ephemeral({ log: false, dataDir, config })
        assert.deepStrictEqual(yield* ledTo(cluster), ["node0", "node1"])
      })
  )

  live("starts nobody without the data of a member that has begun, though it is to join one that is there", () =>
    Effect.gen(function* () {
      const configOf = configIn(yield* temporaryDirectory)
      const [one, other] = [yield* configOf("a"), yield* configOf("b")]
      const initialCluster = { a: [one.listenPeerUrls], b: [other.listenPeerUrls] }
      const [a, b] = [
        { ...one, initialCluster },
        { ...other, initialCluster }
      ]
      const start = (...configs: readonly [EtcdConfig.Input, ...Array<EtcdConfig.Input>]) =>
        Effect.scoped(EtcdCluster.fromConfigs(configs, { log: false, gracePeriod: "100 millis" }))
      yield* start(a, b)
      rmSync(b.dataDir, { recursive: true })
      const { message, reason } = yield* Effect.flip(start({ ...b, initialClusterState: "existing" }, a))
      assert.strictEqual(reason._tag, "ClusterMismatch", message)
      assert.match(message, /b has no data, and has been a member before/)
      assert.isFalse(existsSync(b.dataDir))
    })
  )

  live("lets nobody have the directory of another one, whatever it was to have before", () =>
    Effect.gen(function* () {
      const { a, b, cluster, configOf } = yield* configured
      yield* EtcdKv.put("a", "1").pipe(by(cluster))
      yield* endedAt("start b", (options) => cluster.grow({ ...options, config: b }))
      for (const dataDir of [a.dataDir, `${a.dataDir}/`, join(a.dataDir, "b"), join(a.dataDir, "..")]) {
        assert.strictEqual(yield* findingOf(cluster.grow({ config: { ...b, dataDir } })), "config")
      }
      const dataDir = `${b.dataDir}2`
      yield* cluster.grow({ config: { ...b, dataDir } })
      assert.deepStrictEqual(yield* listed(cluster), ["a", "b"])
      assert.isTrue(existsSync(dataDir))
      // Its data are where it was started with them.
      yield* endedAt("delete the data of b", (options) => cluster.shrink("b", options))
      // One of that name that comes now is not the one that goes.
      yield* cluster.grow({ config: { ...(yield* configOf("b")), dataDir: `${b.dataDir}3` } })
      assert.isFalse(existsSync(dataDir))
      yield* cluster.grow({ config: yield* configOf("c") })
      assert.notInclude(titles(yield* cluster.shrink(undefined, { dryRun: true })), "remove b")
      assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
    })
  )

  live("lets nobody who was added already have the data of another one, which would go where it does not start", () =>
    Effect.gen(function* () {
      const { b, cluster, configOf } = yield* configured
      const c = yield* configOf("c")
      yield* Effect.scoped(EtcdProcess.make({ ...c, initialCluster: { c: [c.listenPeerUrls] } }, { log: false }))
      yield* endedAt("start b", (options) => cluster.grow({ ...options, config: b }))
      const { dataDir } = c
      assert.strictEqual(yield* findingOf(cluster.grow({ config: { ...b, dataDir } })), "data-in-the-way")
      assert.isTrue(existsSync(join(dataDir, "member")))
      assert.deepStrictEqual(titles(yield* cluster.grow({ config: b })), ["start b", "promote b"])
    })
  )

  live("deletes all data of its own and no other, where members have one directory to run in", () =>
    Effect.gen(function* () {
      const runDirectory = yield* temporaryDirectory
      const configOf = (name: string) =>
        Effect.map(freePort, (port) => {
          const url = `http://127.0.0.1:${port}`
          return {
            name,
            listenPeerUrls: url,
            initialAdvertisePeerUrls: url,
            listenClientUrls: "http://127.0.0.1:0",
            advertiseClientUrls: "http://127.0.0.1:0",
            heartbeatInterval: "50 millis" as const,
            electionTimeout: "500 millis" as const
          }
        })
      const [a, b] = [yield* configOf("a"), yield* configOf("b")]
      const start = (...configs: readonly [EtcdConfig.Input, ...Array<EtcdConfig.Input>]) =>
        EtcdCluster.fromConfigs(configs, { log: false, runDirectory })
      // The data of the one would go with those of the other.
      const dataDir = join(runDirectory, "a.etcd", "b")
      assert.include((yield* Effect.flip(start(a, { ...b, dataDir }))).message, "Give each its own")
      yield* Effect.gen(function* () {
        const cluster = yield* start({ ...a, initialCluster: { a: a.initialAdvertisePeerUrls } })
        for (const _ of [1, 2]) {
          yield* cluster.grow({ config: b })
          yield* cluster.shrink("b")
          assert.deepStrictEqual(readdirSync(runDirectory), ["a.etcd"])
        }
        yield* endedAt("start b", (options) => cluster.grow({ ...options, config: b }))
      }).pipe(Effect.scoped)
      yield* Effect.gen(function* () {
        const cluster = yield* start(a, b)
        // Who was added, and has never been started, begins no cluster of its own.
        assert.deepStrictEqual(namesOf(cluster), ["a"])
        yield* endedAt("promote b", (options) => cluster.grow({ ...options, config: b }))
      }).pipe(Effect.scoped)
      yield* Effect.gen(function* () {
        const cluster = yield* start(a, b)
        assert.deepStrictEqual(yield* listed(cluster), ["a", "b?"])
        assert.deepStrictEqual(yield* ledTo(cluster), ["a"])
        yield* cluster.grow({ config: b })
        assert.deepStrictEqual(yield* ledTo(cluster), ["a", "b"])
        yield* endedAt("delete the data of b", (options) => cluster.shrink("b", options))
      }).pipe(Effect.scoped)
      // Who has left does not keep the others from being started, and can still be seen to.
      let isBusy = true
      const cluster = yield* start(a, b).pipe(
        Effect.updateService(FileSystem.FileSystem, (fs) => ({
          ...fs,
          remove: (path, options) =>
            fs.remove(isBusy && path.endsWith("b.etcd") ? join(path, "none") : path, isBusy ? undefined : options)
        }))
      )
      assert.deepStrictEqual(namesOf(cluster), ["a"])
      assert.strictEqual((yield* Effect.flip(cluster.shrink("b")))._tag, "OperationFailed")
      isBusy = false
      assert.deepStrictEqual(titles(yield* cluster.shrink("b")), ["delete the data of b"])
      assert.deepStrictEqual(readdirSync(runDirectory), ["a.etcd"])
    })
  )

  live("leads clients to who came, also where that is not remembered", () =>
    Effect.gen(function* () {
      const { b, cluster, configOf } = yield* configured
      const grow = (options: EtcdOperations.Options) => cluster.grow({ ...options, config: b, to: 2 })
      yield* endedOncePromoted(cluster, "b", grow)
      assert.deepStrictEqual(titles(yield* grow({})), ["lead clients to b"])
      assert.deepStrictEqual(yield* ledTo(cluster), ["a", "b"])
      yield* cluster.shrink("b")
      const c = yield* configOf("c")
      const replace = (options: EtcdOperations.Options) => cluster.replace("a", { ...options, config: c })
      yield* endedOncePromoted(cluster, "c", replace)
      assert.deepStrictEqual(titles(yield* replace({})), ["remove a", "delete the data of a"])
      assert.deepStrictEqual(yield* ledTo(cluster), ["c"])
      assert.deepStrictEqual(yield* listed(cluster), ["c"])
    })
  )
})
