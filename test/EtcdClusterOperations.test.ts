/**
 * What changes a cluster that runs here: what each operation does, in which order, what it refuses, and that whatever was going
 * on in the cluster goes on. etcd changes no member before all have been connected for five seconds, so most of the time
 * is spent waiting, for all tests at once.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import type { Finding } from "../src/EtcdOperationError.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import { by, listed, membersOf, named, namesOf, titles } from "./support/clusters.ts"
import { reasonOf } from "./support/effects.ts"
import { host } from "./support/host.ts"
import { terms, underLoad } from "./support/load.ts"
import { freePort, temporaryDirectory } from "./support/machine.ts"
import { executables, isWithNewest, lines, newest, oldest } from "./support/versions.ts"

const make = (options: EtcdCluster.Options = {}) => EtcdCluster.ephemeral({ log: false, ...options })

/** Has a leader that stays, however busy the machine is. */
const lasting = { electionTimeout: "5 seconds" } as const

const followersOf = (cluster: EtcdCluster.Cluster) =>
  Effect.map(cluster.awaitLeader, (leader) => membersOf(cluster).filter((node) => node !== leader))

const refusalOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.flip(effect), (error) =>
    error._tag === "ClusterRefused"
      ? Effect.succeed(error as Extract<E, { readonly _tag: "ClusterRefused" }>)
      : Effect.die(error)
  )

const failureOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.flip(effect), (error) =>
    error._tag === "OperationFailed"
      ? Effect.succeed(error as Extract<E, { readonly _tag: "OperationFailed" }>)
      : Effect.die(error)
  )

const told = (finding: Finding, evidence: RegExp, help: RegExp) => ({ finding, evidence, help })

const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (result) => ({ lines, result }))
  })

const live = (
  name: string,
  test: () => Effect.Effect<void, unknown, NodeServices.NodeServices | import("effect/Scope").Scope>
) => it.live(name, () => test().pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

/**
 * Begins an operation, and interrupts it when it tells of something for the nth time, or begins with such a step. Answers
 * whether it came to that.
 */
const interruptedAt = (where: number | RegExp, operation: (options: EtcdOperations.Options) => EtcdCluster.Operation) =>
  Effect.gen(function* () {
    const reached = yield* Deferred.make<boolean>()
    let count = 0
    const isThere = ({ detail, step }: EtcdOperations.Progress) =>
      typeof where === "number" ? count++ === where : detail === undefined && where.test(step)
    const onProgress = (progress: EtcdOperations.Progress) =>
      isThere(progress) ? Effect.andThen(Deferred.succeed(reached, true), Effect.never) : Effect.void
    const fiber = yield* Effect.forkChild(operation({ onProgress }), { startImmediately: true })
    const isReached = yield* Effect.raceFirst(Deferred.await(reached), Effect.as(Fiber.join(fiber), false))
    yield* Fiber.interrupt(fiber)
    return isReached
  })

/** What is kept of the members of a cluster, and where their data are. */
const keptIn = (dataDir: string) => ({
  manifest: (JSON.parse(readFileSync(join(dataDir, "cluster.json"), "utf8")).members as ReadonlyArray<any>).map(
    ({ name, state }) => `${name} ${state}`
  ),
  directories: readdirSync(dataDir).filter((name) => name !== "cluster.json")
})

// The longest begin first.
describe("a cluster as a value", { concurrent: true }, () => {
  live("goes on where its host was killed", () =>
    Effect.gen(function* () {
      const killedAt = (dataDir: string, step: string, operation: string, before = "") =>
        Effect.scoped(
          Effect.gen(function* () {
            const { kill } = yield* host(`
              const EtcdCluster = yield* Effect.promise(() => import("effect-etcd/EtcdCluster"))
              const cluster = yield* EtcdCluster.ephemeral(${JSON.stringify({ dataDir, log: false })})
              const onProgress = ({ detail, step }) => step === ${JSON.stringify(step)} && detail === undefined
                ? Effect.andThen(Effect.sync(() => say(step)), Effect.never)
                : Effect.void
              ${before}
              yield* cluster.${operation}
            `)
            yield* kill
          })
        )
      const begun = (dataDir: string, size: number) => Effect.scoped(Effect.asVoid(make({ size, dataDir })))
      const grows = Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory
        yield* begun(dataDir, 1)
        yield* killedAt(dataDir, "promote node1", "grow({ onProgress })")
        assert.deepStrictEqual(keptIn(dataDir).manifest, ["node0 member", "node1 joining"])
        const cluster = yield* make({ dataDir })
        // It is no voter yet, and clients are not led to it.
        assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1?"])
        assert.deepStrictEqual(yield* Stream.runHead(cluster.endpoints), Option.some(named(cluster, "node0").endpoints))
        assert.deepStrictEqual(titles(yield* cluster.grow()), ["promote node1"])
        assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1"])
      }).pipe(Effect.scoped)
      const shrinks = Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory
        yield* begun(dataDir, 2)
        yield* killedAt(dataDir, "delete the data of node1", `shrink("node1", { onProgress })`)
        assert.deepStrictEqual(keptIn(dataDir).manifest, ["node0 member", "node1 leaving"])
        // As if it had been in the midst of that. Nobody tries to start what is left.
        rmSync(join(dataDir, "node1.etcd", "member", "wal"), { recursive: true })
        const { lines, result: cluster } = yield* logged(make({ dataDir }))
        assert.notMatch(lines.join("\n"), /node1|did not start/)
        assert.deepStrictEqual(namesOf(cluster), ["node0"])
        assert.deepStrictEqual(titles(yield* cluster.shrink("node1")), ["delete the data of node1"])
        assert.deepStrictEqual(keptIn(dataDir), { manifest: ["node0 member"], directories: ["node0.etcd"] })
      }).pipe(Effect.scoped)
      const replaces = Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory
        yield* begun(dataDir, 1)
        yield* killedAt(dataDir, "remove node0", `replace("node0", { onProgress })`)
        const cluster = yield* make({ dataDir })
        assert.deepStrictEqual(titles(yield* cluster.replace("node0")), ["remove node0", "delete the data of node0"])
        assert.deepStrictEqual(yield* listed(cluster), ["node1"])
        assert.deepStrictEqual(keptIn(dataDir), { manifest: ["node1 member"], directories: ["node1.etcd"] })
      }).pipe(Effect.scoped)
      const replacesDead = Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory
        yield* begun(dataDir, 3)
        const dies = `
          const leader = yield* cluster.awaitLeader
          const dead = (yield* SubscriptionRef.get(cluster.members)).find((node) => node !== leader)
          yield* dead.signal("SIGKILL")
          yield* dead.exit`
        yield* killedAt(dataDir, "start node3", "replace(dead.name, { onProgress })", dies)
        const { manifest } = keptIn(dataDir)
        const dead = manifest.find((one) => one.endsWith(" leaving"))!.slice(0, 5)
        // It has its data, and hears that it was removed.
        const { lines, result: cluster } = yield* logged(make({ dataDir }))
        assert.match(lines.join("\n"), /Warn A member that was leaving did not start/)
        const again = yield* cluster.replace(dead)
        assert.deepStrictEqual(titles(again), ["start node3", "promote node3", `delete the data of ${dead}`])
        const names = namesOf(cluster)
        assert.notInclude(names, dead)
        assert.deepStrictEqual(yield* listed(cluster), [...names].sort())
        assert.deepStrictEqual(
          keptIn(dataDir).directories,
          [...names].sort().map((name) => `${name}.etcd`)
        )
        // Done, it is not done once more.
        assert.strictEqual((yield* refusalOf(cluster.replace(dead))).finding, "no-such-member")
      }).pipe(Effect.scoped)
      yield* Effect.all([replacesDead, grows, shrinks, replaces], { concurrency: "unbounded" })
    })
  )

  it.live.skipIf(lines.length < 2)("goes up by a version at a time while everything goes on, and down again", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const [first = "", ...others] = lines
      const cluster = yield* make({ binary: first, config: { logger: "zap", ...lasting } })
      const run = (binary: string, operation: EtcdCluster.Operation) =>
        Effect.gen(function* () {
          const before = yield* by(cluster)(terms)
          const { result } = yield* underLoad(operation).pipe(by(cluster))
          assert.isAtMost((yield* by(cluster)(terms)) - before, 1)
          const { version } = executables.find(({ path }) => path === binary)!
          assert.isTrue(membersOf(cluster).every((node) => SemVer.Order(node.version, version) === 0))
          return result
        })
      for (const [index, binary] of others.entries()) {
        const backup = join(directory, `${index}.db`)
        const result = yield* run(binary, cluster.upgrade({ binary, backup }))
        assert.strictEqual(titles(result)[0], `back up to ${backup}`)
        assert.isTrue(existsSync(backup))
        assert.match(titles(result).at(-1)!, /^await that the cluster has version 3\.\d$/)
        assert.deepStrictEqual(titles(yield* cluster.upgrade({ binary, backup: false })), [])
      }
      const [back, newestOne] = [lines.at(-2)!, executables.find(({ path }) => path === lines.at(-1))!]
      if (newestOne.version.minor >= 6) {
        const downgrade = (options: EtcdOperations.Options = {}) => cluster.downgrade({ ...options, binary: back })
        // Ended half-way when it was prepared, and again when a member had the older version; which is taken back then.
        assert.isTrue(yield* interruptedAt(/^run etcd/, downgrade))
        assert.isTrue(yield* interruptedAt(/^hand the leadership/, downgrade))
        const up = yield* run(newestOne.path, cluster.upgrade({ binary: newestOne.path, backup: false }))
        assert.strictEqual(titles(up)[0], "cancel the downgrade")
        const result = yield* run(back, downgrade())
        assert.match(titles(result)[0]!, /^prepare the cluster for 3\.\d$/)
        assert.deepStrictEqual(titles(yield* downgrade()), [])
      }
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1", "node2"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  const five = newest(5)
  it.live.skipIf(!isWithNewest || five === undefined || executables[0]?.version.minor !== 4)(
    "goes from 3.5 to a 3.4 that takes that",
    () =>
      Effect.gen(function* () {
        const fours = executables.filter(({ version }) => version.minor === 4)
        const dataDir = yield* temporaryDirectory
        const scope = yield* Scope.fork(yield* Effect.scope)
        const cluster = yield* Scope.provide(make({ dataDir, binary: five!, config: lasting }), scope)
        for (const { path, version } of fours) {
          if (version.patch >= 32) continue
          const refused = yield* refusalOf(cluster.downgrade({ binary: path }))
          assert.strictEqual(refused.finding, "unsupported-version")
          assert.match(refused.message, /does not take data of 3\.5, as 3\.4 does from 3\.4\.32 on/)
        }
        const four = fours.at(-1)!
        if (four.version.patch < 32) return
        const downgrade = (options: EtcdOperations.Options = {}) => cluster.downgrade({ ...options, binary: four.path })
        yield* EtcdAuth.addUser("somebody", Redacted.make("secret")).pipe(by(cluster))
        assert.match((yield* refusalOf(downgrade())).message, /there are users with passwords/)
        yield* EtcdAuth.deleteUser("somebody").pipe(by(cluster))
        // Interrupted where the first one waits for the others, ended where the last one does not start as usual, taken
        // back, and done.
        const isTaking = ({ config }: EtcdProcess.Node) => config.options.nextClusterVersionCompatible === true
        const taking = Stream.filter(SubscriptionRef.changes(cluster.members), (nodes) => nodes.some(isTaking))
        yield* Effect.raceFirst(Effect.exit(downgrade()), Stream.runHead(taking))
        assert.isTrue(membersOf(cluster).some(isTaking))
        // Whoever is asked: one of 3.4 does not answer all.
        const planned = yield* Effect.all(Array.from({ length: 10 }, () => downgrade({ dryRun: true })))
        assert.deepStrictEqual([...new Set(planned.map(({ steps }) => steps.length))], [5])
        const last = yield* cluster.awaitLeader
        const failing = join(yield* temporaryDirectory, "etcd")
        const script = [
          "#!/bin/sh",
          `case "$*" in *--next-cluster*) ;; *--name=${last.name}" "*) exit 1 ;; esac`,
          `exec '${four.path}' "$@"`
        ]
        writeFileSync(failing, script.join("\n"), { mode: 0o755 })
        const failed = yield* failureOf(cluster.downgrade({ binary: failing }))
        assert.match(failed.step, new RegExp(`^run etcd .* as ${last.name}$`))
        const up = yield* cluster.upgrade({ binary: five!, backup: false })
        assert.strictEqual(titles(up).filter((title) => title.startsWith("run etcd 3.5")).length, 3)
        const before = yield* by(cluster)(terms)
        const { result } = yield* underLoad(downgrade()).pipe(by(cluster))
        assert.isAtMost((yield* by(cluster)(terms)) - before, 1)
        assert.strictEqual(titles(result).at(-1), "await that the cluster has version 3.4")
        assert.isTrue(membersOf(cluster).every(({ version }) => SemVer.Order(version, four.version) === 0))
        // They are started without what let them take the data, and go back again.
        yield* Scope.close(scope, Exit.void)
        const again = yield* make({ dataDir, binary: four.path, config: lasting })
        yield* underLoad(again.upgrade({ binary: five!, backup: false })).pipe(by(again))
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  const six = newest(6)
  it.live.skipIf(!isWithNewest || five === undefined || six === undefined)(
    "comes back from a downgrade to 3.5 that was ended half-way: also where one of 3.5 leads, or all are of 3.5",
    () =>
      Effect.gen(function* () {
        const comesBack = (size: number, at: RegExp) =>
          Effect.gen(function* () {
            const cluster = yield* make({ size, binary: six!, config: lasting })
            const lead = yield* cluster.awaitLeader
            const where = new RegExp(at.source.replace("leader", lead.name))
            assert.isTrue(
              yield* interruptedAt(where, (options) => cluster.downgrade({ ...options, binary: five! })),
              `ended at ${where}`
            )
            // One of 3.5 that leads cancels it by itself some seconds later: whether it has to be cancelled is a matter of time.
            yield* cluster.upgrade({ binary: six!, backup: false })
            assert.isTrue(membersOf(cluster).every(({ version }) => version.minor === 6))
          }).pipe(Effect.scoped)
        yield* Effect.all([comesBack(2, /^run etcd .* as leader$/), comesBack(1, /^await/)], {
          concurrency: "unbounded"
        })
      }).pipe(Effect.provide(NodeServices.layer))
  )

  const seven = newest(7)
  it.live.skipIf(!isWithNewest || six === undefined || seven === undefined)(
    "lets no member go on as what it is for a moment, where its upgrade is interrupted",
    () =>
      Effect.gen(function* () {
        const cluster = yield* make({ size: 1, binary: six! })
        const writesSnapshots = ({ config }: EtcdProcess.Node) => config.options.snapshotCount === 1
        const writing = Stream.filter(SubscriptionRef.changes(cluster.members), (nodes) => nodes.some(writesSnapshots))
        const upgraded = Effect.exit(cluster.upgrade({ binary: seven!, backup: false }))
        yield* Effect.raceFirst(upgraded, Stream.runHead(writing))
        assert.isFalse(membersOf(cluster).some(writesSnapshots))
        assert.strictEqual(named(cluster, "node0").version.minor, 7)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  live("grows and shrinks, and tells of it", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const cluster = yield* make({ size: 1, dataDir })
      const steps = ["add node1 as a learner", "start node1", "promote node1"]
      const before = keptIn(dataDir)
      const planned = yield* cluster.grow({ dryRun: true })
      assert.isTrue(planned.dryRun)
      assert.deepStrictEqual(titles(planned), steps)
      assert.isTrue(planned.steps.every(({ outcome }) => outcome === "planned"))
      assert.deepStrictEqual(keptIn(dataDir), before)
      assert.deepStrictEqual(yield* listed(cluster), ["node0"])

      const endpoints = Effect.map(Stream.runHead(cluster.endpoints), Option.getOrThrow)
      const progress: Array<string> = []
      const grown = yield* logged(
        cluster.grow({
          onProgress: ({ detail, index, operation, step, total }) =>
            Effect.gen(function* () {
              assert.strictEqual(operation, "grow")
              progress.push(`${index + 1}/${total} ${step}${detail === undefined ? "" : ": …"}`)
              if (step !== "promote node1") return
              // It is there, and no client is led to it.
              assert.deepStrictEqual(namesOf(cluster), ["node0", "node1"])
              assert.deepStrictEqual(yield* endpoints, named(cluster, "node0").endpoints)
            })
        })
      )
      assert.deepStrictEqual(titles(grown.result), steps)
      assert.includeMembers(progress, ["1/3 add node1 as a learner", "2/3 start node1: …", "3/3 promote node1"])
      assert.include(grown.lines, "Info grow 1/3: add node1 as a learner")
      assert.isTrue(grown.lines.some((line) => line.startsWith("Warn A cluster of two members stands still")))
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1"])
      assert.deepStrictEqual(
        yield* endpoints,
        membersOf(cluster).flatMap((node) => node.endpoints)
      )
      assert.deepStrictEqual(keptIn(dataDir).manifest, ["node0 member", "node1 member"])

      // One that leads hands that on; the last one is the last to come that does not lead.
      const leader = yield* cluster.awaitLeader
      const { refused, result, writes } = yield* underLoad(cluster.shrink(leader.name)).pipe(by(cluster))
      assert.isAbove(writes, 0)
      // Of nothing it is unknown what has become of it.
      assert.deepStrictEqual(refused, [])
      assert.deepStrictEqual(titles(result), [`remove ${leader.name}`, `delete the data of ${leader.name}`])
      const left = namesOf(cluster)
      assert.notInclude(left, leader.name)
      assert.deepStrictEqual(yield* listed(cluster), left)
      assert.deepStrictEqual(keptIn(dataDir), {
        manifest: [`${left[0]} member`],
        directories: [`${left[0]}.etcd`]
      })
      assert.strictEqual((yield* refusalOf(cluster.shrink())).finding, "quorum-at-risk")
    })
  )

  live("grows to as many as are wanted, while writes, watches, a lock and a leader go on", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 1 })
      const { result } = yield* underLoad(cluster.grow({ to: 3 })).pipe(by(cluster))
      assert.deepStrictEqual(
        titles(result),
        ["node1", "node2"].flatMap((name) => [`add ${name} as a learner`, `start ${name}`, `promote ${name}`])
      )
      assert.deepStrictEqual(titles(yield* cluster.grow({ to: 3 })), [])
      const tooFew = yield* refusalOf(cluster.grow({ to: 2 }))
      assert.strictEqual(tooFew.finding, "size")
      assert.include(tooFew.help, "shrink")
      const tooMany = yield* refusalOf(cluster.grow({ to: 8 }))
      assert.strictEqual(tooMany.finding, "size")
      assert.include(tooMany.message, "8 are wanted")
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1", "node2"])
    })
  )

  live("puts a member in the place of one that lives, though that leads, and of one that is dead", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const cluster = yield* make({ dataDir })
      const leader = yield* cluster.awaitLeader
      const alive = yield* underLoad(cluster.replace(leader.name)).pipe(by(cluster))
      assert.deepStrictEqual(titles(alive.result), [
        `let node3 take the place of ${leader.name}`,
        "add node3 as a learner",
        "start node3",
        "promote node3",
        `remove ${leader.name}`,
        `delete the data of ${leader.name}`
      ])
      const [dead] = yield* followersOf(cluster)
      yield* dead!.signal("SIGKILL")
      yield* dead!.exit
      const { result } = yield* underLoad(cluster.replace(dead!.id)).pipe(by(cluster))
      assert.deepStrictEqual(titles(result), [
        `let node4 take the place of ${dead!.name}`,
        `remove ${dead!.name}`,
        "add node4 as a learner",
        "start node4",
        "promote node4",
        `delete the data of ${dead!.name}`
      ])
      const names = [...namesOf(cluster)].sort()
      assert.lengthOf(names, 3)
      assert.notIncludeMembers(names, [leader.name, dead!.name])
      assert.deepStrictEqual(yield* listed(cluster), names)
      assert.deepStrictEqual(
        keptIn(dataDir).directories,
        names.map((name) => `${name}.etcd`)
      )
    })
  )

  live("puts members in the place of two that are dead, one after the other", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 5, config: lasting })
      const leader = yield* cluster.awaitLeader
      const [one, two] = yield* followersOf(cluster)
      yield* Effect.all([one!.stop, two!.stop], { concurrency: "unbounded" })
      // Some versions add nobody while a member is down: 3.4, and 3.5 up to some patch release.
      const first = yield* Effect.result(cluster.replace(one!.name))
      yield* cluster.replace(two!.name)
      if (Result.isFailure(first)) {
        assert.include(first.failure.message, `${two!.name} (`)
        assert.include(first.failure.message, "or replace it first, and this one again")
        yield* cluster.replace(one!.name)
      }
      const names = [...namesOf(cluster)].sort()
      assert.deepStrictEqual(yield* listed(cluster), names)
      assert.includeMembers(names, [leader.name, "node5", "node6"])
      assert.lengthOf(names, 5)
    })
  )

  live(
    "starts its members again, who is down first and who leads last, and stops at the first that does not come back",
    () =>
      Effect.gen(function* () {
        const cluster = yield* make({ config: lasting })
        const leader = yield* cluster.awaitLeader
        const [down, other] = yield* followersOf(cluster)
        yield* down!.stop
        const pids = yield* Effect.forEach([leader, other!], (node) => node.pid)
        const before = yield* by(cluster)(terms)
        const { result } = yield* underLoad(cluster.restart()).pipe(by(cluster))
        assert.deepStrictEqual(titles(result), [
          `restart ${down!.name}`,
          `restart ${other!.name}`,
          `hand the leadership of ${leader.name} on`,
          `restart ${leader.name}`
        ])
        assert.isAtMost((yield* by(cluster)(terms)) - before, 1)
        for (const [index, node] of [leader, other!].entries()) assert.notDeepEqual(yield* node.pid, pids[index])

        const [broken, last] = yield* followersOf(cluster)
        const db = join(broken!.config.dataDir, "member", "snap", "db")
        const failed = yield* failureOf(
          cluster.restart({
            onProgress: ({ detail, step }) =>
              Effect.sync(() => {
                // What runs has it open. Who starts finds a directory there.
                if (step !== `restart ${broken!.name}` || detail !== undefined || existsSync(`${db}.away`)) return
                renameSync(db, `${db}.away`)
                mkdirSync(db)
              })
          })
        )
        assert.strictEqual(failed.step, `restart ${broken!.name}`)
        assert.include(failed.message, "Run it again when the cause is gone")
        assert.isTrue(Option.isSome(yield* last!.pid))
        rmSync(db, { recursive: true })
        renameSync(`${db}.away`, db)
        assert.strictEqual(titles(yield* cluster.restart())[0], `restart ${broken!.name}`)
        assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1", "node2"])
      })
  )

  live("can be started by its members though one alone could be started neither as a newer version nor as it was", () =>
    Effect.gen(function* () {
      const { path, version } = yield* EtcdBinary.find()
      const directory = yield* temporaryDirectory
      const fails = join(directory, "fails")
      const script = (name: string, asked: string) => {
        const file = join(directory, name)
        const lines = ["#!/bin/sh", `case "$*" in *--version*) ${asked} ;; *) [ ! -e '${fails}' ] || exit 1 ;; esac`]
        writeFileSync(file, [...lines, `exec '${path}' "$@"`].join("\n"), { mode: 0o755 })
        return file
      }
      const cluster = yield* make({ size: 1, binary: script("older", "") })
      const newer = { ...version, patch: version.patch + 1 }
      const said = `echo 'etcd Version: ${newer.major}.${newer.minor}.${newer.patch}'; exit 0`
      yield* EtcdKv.put("a", "1").pipe(by(cluster))
      writeFileSync(fails, "")
      yield* failureOf(cluster.upgrade({ binary: script("newer", said), backup: false }))
      rmSync(fails)
      yield* named(cluster, "node0").start
      assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
    })
  )

  live("starts all that are down before any other, and none while one is missed that runs elsewhere", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 5, config: lasting })
      const leader = yield* cluster.awaitLeader
      const [one, two, ...others] = yield* followersOf(cluster)
      const down = [one!, two!].map(({ name }) => name)
      for (const node of [one!, two!]) yield* node.stop
      assert.deepStrictEqual(titles(yield* cluster.restart()), [
        ...[...down, ...others.map(({ name }) => name)].map((name) => `restart ${name}`),
        `hand the leadership of ${leader.name} on`,
        `restart ${leader.name}`
      ])
      yield* Effect.gen(function* () {
        const { member } = yield* EtcdMembership.add(["http://127.0.0.1:1"]).pipe(
          Effect.retry(Schedule.spaced("200 millis"))
        )
        const { evidence, finding } = yield* refusalOf(cluster.restart({ dryRun: true }))
        assert.strictEqual(finding, "unhealthy-member")
        assert.match(evidence.join("\n"), /^member \w+ \(\w+\) has never been started$/)
        yield* EtcdMembership.remove(member.id)
      }).pipe(by(cluster))
    })
  )

  live("goes on when somebody answers again, where nobody did for a moment", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 2 })
      const all = (each: (node: EtcdProcess.Node) => Effect.Effect<unknown, unknown>) =>
        Effect.forEach(membersOf(cluster), (node) => Effect.orDie(each(node)), { concurrency: "unbounded" })
      const starting = yield* Scope.fork(yield* Effect.scope)
      const report = yield* cluster.restart({
        onProgress: ({ detail, step }) =>
          detail !== undefined || !step.startsWith("hand the leadership")
            ? Effect.void
            : Effect.andThen(
                all((node) => Effect.andThen(node.signal("SIGKILL"), node.exit)),
                all((node) => node.start).pipe(Effect.delay("50 millis"), Effect.forkIn(starting), Effect.asVoid)
              )
      })
      assert.lengthOf(report.steps, 3)
    })
  )

  live("starts its members again though one that has left has its data still", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      const [leaving, other] = yield* followersOf(cluster)
      const leader = yield* cluster.awaitLeader
      assert.isTrue(yield* interruptedAt(/^delete/, (options) => cluster.shrink(leaving!.name, options)))
      assert.deepStrictEqual(titles(yield* cluster.restart()), [
        `restart ${other!.name}`,
        `hand the leadership of ${leader.name} on`,
        `restart ${leader.name}`
      ])
      assert.deepStrictEqual(titles(yield* cluster.shrink()), [`delete the data of ${leaving!.name}`])
    })
  )

  live("starts who is down also while an alarm keeps etcd from taking a lock", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ config: lasting })
      const leader = yield* cluster.awaitLeader
      const [down] = yield* followersOf(cluster)
      yield* Effect.gen(function* () {
        for (const type of ["NoSpace", "Corrupt"] as const) {
          yield* EtcdMaintenance.armAlarm({ memberId: leader.id, type })
          yield* down!.stop
          // That it is down keeps the alarm from being dealt with.
          if (type === "NoSpace") {
            assert.strictEqual((yield* refusalOf(EtcdOperations.clearNoSpace())).finding, "unhealthy-member")
          }
          // Whose data are right nobody knows, so that none are handed on.
          else assert.include((yield* failureOf(cluster.replace(down!.name))).message, "corrupt cluster")
          const { steps } = yield* cluster.restart({ dryRun: true })
          const report = yield* cluster.restart()
          assert.deepStrictEqual(titles(report), titles({ ...report, steps }))
          assert.strictEqual(titles(report)[0], `restart ${down!.name}`)
          yield* type === "NoSpace" ? EtcdOperations.clearNoSpace() : cluster.repairCorrupt()
        }
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
      }).pipe(by(cluster))
    })
  )

  live("has no more room than the smallest of its members, though that is a learner", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 1 })
      // Older ones do not tell.
      if (named(cluster, "node0").version.minor < 6) return
      const small = { quotaBackendBytes: "16 MiB" } as const
      yield* interruptedAt(/^promote/, (options) => cluster.grow({ ...options, config: small }))
      yield* Effect.gen(function* () {
        let puts = 0
        const put = Effect.suspend(() => EtcdKv.put(`large/${puts++}`, new Uint8Array(1024 * 1024)))
        const { endpoints: learner } = named(cluster, "node1")
        yield* Effect.gen(function* () {
          yield* EtcdMaintenance.disarmAlarms()
          assert.strictEqual((yield* reasonOf(Effect.repeat(put, Schedule.forever)))._tag, "NoSpace")
          // The put that raises the alarm may leave a member just below its quota.
          return (yield* Effect.provide(EtcdMaintenance.status(), EtcdLayer.connect({ endpoints: learner }))).dbSize
        }).pipe(Effect.repeat({ until: (size) => size >= 16 * 1024 * 1024 }))
        yield* EtcdKv.deletePrefix("large/")
        // Nobody knows how it is where the client does not reach it.
        const unseen = yield* refusalOf(EtcdOperations.clearNoSpace())
        assert.match(
          unseen.message,
          /\(unhealthy-member\): node1 .* does not answer\. Its database could be at its quota/
        )
        const endpoints = membersOf(cluster).flatMap((node) => node.endpoints)
        const { message } = yield* failureOf(EtcdOperations.clearNoSpace()).pipe(
          Effect.provide(EtcdLayer.connect({ endpoints }))
        )
        assert.match(
          message,
          /\(disarm .*node1 has \d+[.\d]* MiB of 16 MiB, and is defragmented only when it is a voter\. /
        )
        assert.strictEqual((yield* EtcdMaintenance.alarms()).length, 1)
        assert.deepStrictEqual(titles(yield* cluster.grow()), ["promote node1"])
        yield* EtcdOperations.clearNoSpace()
        yield* EtcdKv.put("large", "")
        assert.deepStrictEqual(yield* EtcdMaintenance.alarms(), [])
      }).pipe(by(cluster))
    })
  )

  live("refuses what would harm it, with what it has seen", () =>
    Effect.gen(function* () {
      const cluster = yield* make()
      const leader = yield* cluster.awaitLeader
      const [one, two] = yield* followersOf(cluster)
      const binary = one!.version.minor >= 6 ? newest(4) : undefined
      const refused = (operation: EtcdCluster.Operation, { evidence, finding, help }: ReturnType<typeof told>) =>
        Effect.gen(function* () {
          const refusal = yield* refusalOf(operation)
          assert.strictEqual(refusal.finding, finding)
          assert.match(refusal.evidence.join("\n"), evidence)
          assert.match(refusal.help, help)
          assert.include(refusal.message, "Nothing was done.")
        })
      const noSuch = told("no-such-member", /there is no member named "node7"\nnode\d \(/, /Name one of these/)
      yield* refused(cluster.shrink("node7"), noSuch)
      yield* refused(cluster.replace("node7", { dryRun: true }), noSuch)
      for (const path of ["/nowhere/etcd", process.execPath]) {
        const none = told("binary", path === process.execPath ? /node/ : /nowhere/, /Give the path of an etcd/)
        yield* refused(cluster.upgrade({ binary: path, backup: false }), none)
        yield* refused(cluster.downgrade({ binary: path }), none)
      }
      if (binary !== undefined) {
        yield* refused(
          cluster.upgrade({ binary, backup: false }),
          told("unsupported-version", /has a newer version than etcd 3.4/, /Use downgrade/)
        )
        yield* refused(
          cluster.downgrade({ binary }),
          told("unsupported-version", /is more than one minor version/, /Downgrade to 3.\d first/)
        )
      }
      yield* Effect.gen(function* () {
        const { member } = yield* EtcdMembership.add(["http://127.0.0.1:1"], { isLearner: true }).pipe(
          Effect.retry(Schedule.spaced("200 millis"))
        )
        const learner = told("learner", /has never been started/, /shrink|EtcdMembership/)
        yield* refused(cluster.grow(), learner)
        yield* refused(cluster.replace(member.id), learner)
        yield* EtcdMembership.remove(member.id)
      }).pipe(by(cluster))
      yield* one!.stop
      const silent = new RegExp(`${one!.name} \\(\\w+\\) does not answer`)
      yield* refused(cluster.grow(), told("unhealthy-member", silent, /let replace put another in its place/))
      yield* refused(cluster.replace(two!.name), told("unhealthy-member", silent, /Start it/))
      yield* refused(cluster.shrink(two!.name), told("quorum-at-risk", silent, /Start the members that are down/))
      const own = (yield* EtcdBinary.find()).path
      yield* refused(cluster.upgrade({ binary: own, backup: false }), told("unhealthy-member", silent, /start them/))
      yield* two!.stop
      const alone = told("no-quorum", /1 of 3 voters answer/, /Start the members that are down/)
      const all: ReadonlyArray<EtcdCluster.Operation> = [
        cluster.grow(),
        cluster.shrink(one!.name),
        cluster.replace(one!.name, { dryRun: true }),
        cluster.restart(),
        cluster.upgrade({ binary: own, backup: false }),
        cluster.downgrade({ binary: own })
      ]
      yield* Effect.forEach(all, (operation) => refused(operation, alone), { concurrency: "unbounded" })
      assert.isTrue(Option.isSome(yield* leader.pid))
      yield* leader.stop
      const nobody = told("no-quorum", /^nobody says who the members are: .* cannot connect/, /Start the members/)
      yield* Effect.forEach(all, (operation) => refused(operation, nobody), { concurrency: "unbounded" })
    })
  )

  live("goes on where an operation was interrupted, at whatever step", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const one = make({ size: 1, dataDir })
      for (let nth = 0, reached = true; reached; nth++) {
        yield* Effect.gen(function* () {
          const cluster = yield* one
          yield* EtcdKv.put("a", "1").pipe(by(cluster))
          reached = yield* interruptedAt(nth, cluster.grow)
          if (reached) yield* cluster.grow()
          assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1"], `grow, interrupted at ${nth}`)
          const restarted = yield* interruptedAt(nth, cluster.restart)
          if (restarted) yield* cluster.restart()
          assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
          assert.deepStrictEqual(keptIn(dataDir), {
            manifest: ["node0 member", "node1 member"],
            directories: ["node0.etcd", "node1.etcd"]
          })
        }).pipe(Effect.scoped)
        rmSync(dataDir, { recursive: true })
      }
    })
  )

  live("puts another one in the place of one that has joined, though nobody was there to write that down", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 1 })
      assert.isTrue(yield* interruptedAt(/^promote/, cluster.grow))
      yield* Effect.gen(function* () {
        const { members } = yield* EtcdMembership.list()
        const { id } = members.find(({ isLearner }) => isLearner)!
        yield* Effect.retry(EtcdMembership.promote(id), { schedule: Schedule.spaced("100 millis") })
      }).pipe(by(cluster))
      assert.strictEqual(titles(yield* cluster.replace("node1"))[0], "let node2 take the place of node1")
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node2"])
      assert.deepStrictEqual(namesOf(cluster), ["node0", "node2"])
    })
  )

  live("puts one in the place of one, whatever was done between two tries", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 1 })
      const replace = (options: EtcdOperations.Options = {}) => cluster.replace("node0", options)
      const left = Effect.map(replace({ dryRun: true }), titles)
      yield* interruptedAt(/^add node1/, replace)
      // The one that was to take its place is one more now.
      yield* cluster.grow()
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1"])
      assert.strictEqual((yield* left)[0], "let node2 take the place of node0")
      // And the next one is given up.
      yield* interruptedAt(/^add node2/, replace)
      yield* cluster.shrink("node2")
      yield* interruptedAt(/^remove node0/, replace)
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1", "node3"])
      assert.deepStrictEqual(yield* left, ["remove node0", "delete the data of node0"])
      // Who goes takes along who was to come in its place.
      yield* interruptedAt(/^promote node4/, (options) => cluster.replace("node1", options))
      yield* cluster.shrink("node1")
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node3"])
      assert.deepStrictEqual(namesOf(cluster), ["node0", "node3"])
    })
  )

  live("is changed by one at a time", () =>
    Effect.gen(function* () {
      const cluster = yield* make({ size: 1 })
      const { lines, result } = yield* logged(
        Effect.all([cluster.grow(), cluster.grow(), EtcdOperations.moveLeader().pipe(Effect.exit, by(cluster))], {
          concurrency: "unbounded"
        })
      )
      assert.deepStrictEqual(
        result.slice(0, 2).map((report) => (report as EtcdOperations.Report).steps.length),
        [3, 3]
      )
      assert.deepStrictEqual(yield* listed(cluster), ["node0", "node1", "node2"])
      // What one is at is never between steps of the other.
      const steps = lines.flatMap((line) => /^Info grow \d\/3: \w+ (node\d)/.exec(line)?.[1] ?? [])
      assert.deepStrictEqual(steps, [...steps].sort())
      // Nor does one wait for one that waits for it.
      const refusals: Array<string> = []
      const onProgress = () =>
        Effect.map(Effect.orDie(refusalOf(cluster.restart())), ({ finding }) => void refusals.push(finding))
      yield* EtcdOperations.moveLeader(undefined, { onProgress }).pipe(by(cluster))
      yield* cluster.shrink(undefined, { onProgress })
      assert.isAtLeast(refusals.length, 3)
      assert.isTrue(refusals.every((finding) => finding === "changed"))
    })
  )

  live("has members on ports, with a configuration each", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const ports = yield* Effect.forEach([0, 1, 2, 3, 4, 5], () => freePort)
      const url = (index: number) => [`http://127.0.0.1:${ports[index]}`]
      const timing = { heartbeatInterval: "50 millis", electionTimeout: "500 millis" } as const
      const cluster = yield* EtcdCluster.fromConfigs(
        [
          {
            name: "a",
            listenPeerUrls: url(0),
            initialAdvertisePeerUrls: url(0),
            listenClientUrls: "http://127.0.0.1:0",
            advertiseClientUrls: "http://127.0.0.1:0",
            initialCluster: { a: url(0) },
            ...timing
          }
        ],
        { log: false }
      )
      yield* EtcdKv.put("a", "1").pipe(by(cluster))
      const none = yield* refusalOf(cluster.grow())
      assert.strictEqual(none.finding, "config")
      assert.match(none.message, /have a configuration each/)
      const dataDir = join(directory, "b")
      const b = { name: "b", dataDir, listenPeerUrls: url(1), initialAdvertisePeerUrls: url(1), ...timing }
      mkdirSync(dataDir)
      writeFileSync(join(dataDir, "precious"), "")
      const inTheWay = yield* refusalOf(cluster.grow({ config: b }))
      assert.strictEqual(inTheWay.finding, "data-in-the-way")
      assert.isTrue(existsSync(join(dataDir, "precious")))
      rmSync(dataDir, { recursive: true })
      const sameName = yield* refusalOf(cluster.grow({ config: { ...b, name: "a" } }))
      assert.strictEqual(sameName.finding, "config")
      const sameUrl = yield* refusalOf(cluster.grow({ config: { ...b, initialAdvertisePeerUrls: url(0) } }))
      assert.strictEqual(sameUrl.finding, "config")
      yield* cluster.grow({ config: b })
      assert.deepStrictEqual(yield* listed(cluster), ["a", "b"])
      const endpoints = membersOf(cluster).flatMap((node) => node.endpoints)
      yield* cluster.restart()
      const current = executables.find(({ version }) => SemVer.Order(version, named(cluster, "a").version) === 0)
      const other = executables.find(
        ({ version }) =>
          version.minor === named(cluster, "a").version.minor && SemVer.Order(version, named(cluster, "a").version) > 0
      )
      if (current !== undefined && other !== undefined) {
        yield* cluster.upgrade({ binary: other.path, backup: join(directory, "backup.db") })
        assert.isTrue(existsSync(join(directory, "backup.db")))
      }
      assert.deepStrictEqual(
        membersOf(cluster).flatMap((node) => node.endpoints),
        endpoints
      )
      assert.deepStrictEqual(yield* EtcdKv.getString("a").pipe(by(cluster)), Option.some("1"))
      yield* cluster.shrink("b")
      assert.isFalse(existsSync(dataDir))
      assert.deepStrictEqual(yield* listed(cluster), ["a"])
    })
  )

  const early = oldest(5)
  it.live.skipIf(!isWithNewest || early === undefined || early.version.patch >= 26 || six === undefined)(
    "goes to 3.6 only from a 3.5 that is new enough, and by one minor version at a time, with options that there are",
    () =>
      Effect.gen(function* () {
        const [own, others, clients] = yield* Effect.map(Effect.all([freePort, freePort, freePort]), (ports) =>
          ports.map((port) => `http://127.0.0.1:${port}`)
        )
        const reached = { listenPeerUrls: own!, initialAdvertisePeerUrls: own!, initialCluster: { node0: own! } }
        const config = { enableV2: true, ...reached }
        const cluster = yield* make({ size: 1, binary: early!.path, config })
        const refused = (binary: string) => refusalOf(cluster.upgrade({ binary, backup: false }))
        const tooOld = yield* refused(six!)
        assert.strictEqual(tooOld.finding, "unsupported-version")
        assert.match(tooOld.message, /all members have to come from 3\.5\.26 or newer/)
        if (newest(7) !== undefined) assert.match((yield* refused(newest(7)!)).message, /more than one minor version/)
        const newer = newest(5)!
        yield* cluster.upgrade({ binary: newer, backup: false })
        const gone = yield* refused(six!)
        assert.strictEqual(gone.finding, "config")
        assert.match(gone.message, /enable-?v2/i)
        // One that runs elsewhere counts as well.
        yield* EtcdMembership.add([others!], { isLearner: true }).pipe(by(cluster))
        yield* EtcdProcess.ephemeral(
          {
            name: "other",
            listenPeerUrls: others!,
            initialAdvertisePeerUrls: others!,
            listenClientUrls: clients!,
            initialCluster: { node0: own!, other: others! },
            initialClusterState: "existing"
          },
          { binary: early!.path, log: false }
        )
        const old = /other has 3\.5\.\d+, and to 3\.6 all members have to come from/
        assert.match((yield* refused(six!)).message, old)
        assert.strictEqual((yield* refusalOf(cluster.downgrade({ binary: six! }))).finding, "unsupported-version")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
