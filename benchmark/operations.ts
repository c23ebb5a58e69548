/**
 * What operations on a cluster cost those who use it: for each of them how long it takes, and the longest time without an
 * acknowledged write, while one program writes one value after another, a lock is held and somebody is elected. Three members
 * with etcd's own timing, which sync to disk; a new cluster for each round, so that each operation finds the same.
 *
 * Versions are those that `npm run etcd:versions` has got: without two of them nothing is upgraded.
 */
import { existsSync, readdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { Effect, Fiber, Logger, Option, SemVer, SubscriptionRef } from "effect"
import {
  EtcdBinary,
  EtcdClient,
  EtcdCluster,
  EtcdKv,
  EtcdLayer,
  EtcdMaintenance,
  EtcdOperations,
  KeyRange
} from "effect-etcd"
import { EtcdElection, EtcdLock, EtcdSession } from "effect-etcd/coordination"
import { benchError, median, type Row, rounded, table } from "./support.ts"

const size = 3

interface Versions {
  readonly older: EtcdBinary.EtcdBinary
  readonly newer: EtcdBinary.EtcdBinary
}

/** The two newest minor versions that are there. */
const versions = Effect.gen(function* () {
  const directory = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "effect-etcd", "versions")
  const paths = (existsSync(directory) ? readdirSync(directory) : []).map((name) => join(directory, name, "etcd"))
  const found = yield* Effect.forEach(
    paths.filter((path) => existsSync(path)),
    (path) => EtcdBinary.find({ path })
  )
  const newest = new Map(
    [...found]
      .sort((one, other) => SemVer.Order(one.version, other.version))
      .map((binary) => [binary.version.minor, binary])
  )
  const [older, newer] = [...newest.values()].slice(-2)
  return older === undefined || newer === undefined ? Option.none() : Option.some<Versions>({ older, newer })
})

interface Seen {
  readonly seconds: number
  readonly gap: number
  readonly writes: number
  readonly refused: number
  readonly changes: number
}

const termOf = Effect.map(EtcdMaintenance.status(), ({ raftTerm }) => Number(raftTerm))

const watched = (cluster: EtcdCluster.Cluster, operation: Effect.Effect<unknown, unknown, EtcdClient.EtcdClient>) =>
  Effect.gen(function* () {
    const session = yield* EtcdSession.fromClient(yield* EtcdClient.EtcdClient)
    const own = Effect.provideService(EtcdSession.EtcdSession, session)
    const held = yield* own(EtcdLock.acquire(EtcdLock.make("bench/lock")))
    const leading = yield* own(EtcdElection.campaign(EtcdElection.make("bench/election"), "bench"))
    let last = performance.now()
    let gap = 0
    let refused = 0
    let isOver = false
    const acknowledged: Array<number> = []
    let next = 0
    const write = Effect.suspend(() => {
      const number = next++
      return EtcdKv.put(`bench/write/${number}`, String(number)).pipe(
        Effect.match({
          onFailure: () => void refused++,
          onSuccess: () => {
            const now = performance.now()
            gap = Math.max(gap, now - last)
            last = now
            acknowledged.push(number)
          }
        })
      )
    })
    const writing = yield* Effect.forkScoped(Effect.repeat(write, { until: () => isOver }))
    const before = yield* termOf
    const begun = performance.now()
    yield* operation
    const seconds = (performance.now() - begun) / 1000
    const changes = (yield* termOf) - before
    isOver = true
    yield* Fiber.join(writing)
    const { kvs } = yield* EtcdKv.range(KeyRange.prefix("bench/write/"))
    const stored = new Set(kvs.map(({ valueString }) => Number(valueString)))
    const lost = acknowledged.filter((number) => !stored.has(number)).length
    if (lost > 0) return yield* Effect.fail(new Error(`${lost} acknowledged writes are gone`))
    if (!held.isHeldUnsafe() || !leading.isHeldUnsafe()) {
      return yield* Effect.fail(new Error("the lock, or the leadership of the election, was lost"))
    }
    const seen: Seen = { seconds, gap, writes: acknowledged.length, refused, changes }
    return seen
  }).pipe(Effect.scoped, Effect.provide(EtcdLayer.connect({ endpoints: cluster.endpoints })))

/** etcd changes no member before all have been connected for five seconds, which is no time of an operation's own. */
const connected = Effect.sleep("6 seconds")

const nameOfLeader = ({ awaitLeader }: EtcdCluster.Cluster) => Effect.map(awaitLeader, ({ name }) => name)

export const operations = (quick: boolean) =>
  Effect.gen(function* () {
    const rounds = quick ? 1 : 5
    const found = yield* versions
    const seen = new Map<string, Array<Seen>>()
    for (let round = 0; round < rounds; round++) {
      const binary = Option.getOrUndefined(Option.map(found, ({ older }) => older.path))
      yield* Effect.gen(function* () {
        const cluster = yield* EtcdCluster.make({ size, log: false, binary })
        const measure = (name: string, operation: Effect.Effect<unknown, unknown, EtcdClient.EtcdClient>) =>
          Effect.gen(function* () {
            yield* cluster.awaitLeader
            yield* connected
            const one = yield* Effect.mapError(watched(cluster, operation), (cause) => benchError(name, cause))
            seen.set(name, [...(seen.get(name) ?? []), one])
          })
        yield* measure("nothing", Effect.sleep("5 seconds"))
        yield* measure("grow", cluster.grow())
        yield* measure(
          "shrink, the leader",
          Effect.flatMap(nameOfLeader(cluster), (name) => cluster.shrink(name))
        )
        yield* measure(
          "replace, a follower",
          Effect.flatMap(cluster.awaitLeader, (leader) =>
            cluster.replace(SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!.name)
          )
        )
        yield* measure(
          "replace, the leader",
          Effect.flatMap(nameOfLeader(cluster), (name) => cluster.replace(name))
        )
        yield* measure("moveLeader", EtcdOperations.moveLeader())
        yield* measure("restart", cluster.restart())
        yield* measure("defragment", EtcdOperations.defragment({ minBytes: 1, minShare: 0.000001 }))
        if (Option.isSome(found)) {
          const { newer, older } = found.value
          yield* measure("upgrade", cluster.upgrade({ binary: newer.path, backup: false }))
          yield* measure("downgrade", cluster.downgrade({ binary: older.path }))
        }
      }).pipe(Effect.scoped)
    }
    console.log(`${size} members, etcd's own timing, ${rounds} rounds, medians; the longest gap of all rounds`)
    if (Option.isSome(found)) {
      const [older, newer] = [found.value.older, found.value.newer].map(({ version }) => SemVer.format(version))
      console.log(`etcd ${older}; upgraded to ${newer}, and back`)
    }
    table(
      [...seen].map(([operation, all]) => ({
        operation,
        seconds: rounded(median(all.map(({ seconds }) => seconds)), 1),
        "gap ms": Math.round(median(all.map(({ gap }) => gap))),
        "longest ms": Math.round(Math.max(...all.map(({ gap }) => gap))),
        "other leaders": Math.max(...all.map(({ changes }) => changes)),
        writes: Math.round(median(all.map(({ writes }) => writes))),
        refused: all.reduce((sum, { refused }) => sum + refused, 0)
      }))
    )
    return [] as ReadonlyArray<Row>
  }).pipe(
    Effect.mapError((cause) => benchError("operations", cause)),
    Effect.provide(NodeServices.layer),
    Effect.provide(Logger.layer([]))
  )
