/**
 * The main job in one program: three nodes from three TOML files, work that follows the leader, and a leader killed
 * under load. Run it with `npm run demo`.
 */
import { createServer } from "node:net"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import {
  Clock,
  Console,
  Deferred,
  Duration,
  Effect,
  Fiber,
  FileSystem,
  Option,
  Path,
  Schedule,
  Stream,
  SubscriptionRef
} from "effect"
import {
  type EtcdClient,
  EtcdCluster,
  EtcdConfig,
  EtcdKv,
  EtcdLayer,
  type EtcdProcess,
  EtcdWatch,
  KeyRange,
  Role
} from "effect-etcd"
import { makeView, type View } from "./view.ts"

class DemoFailed extends Error {}

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

const names = ["infra0", "infra1", "infra2"] as const

/** Writes the three configuration files, with ports that are free here. */
const writeConfigs = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-demo-" })
  const ports = yield* Effect.forEach(names, (name) =>
    Effect.all({ name: Effect.succeed(name), client: freePort, peer: freePort }, { concurrency: "unbounded" })
  )
  const initialCluster = ports.map(({ name, peer }) => `${name}=https://127.0.0.1:${peer}`).join(",")
  return yield* Effect.forEach(ports, ({ client, name, peer }) => {
    const file = path.join(directory, `${name}.toml`)
    const toml = `[etcd]
name = "${name}"
data-dir = "${path.join(directory, name)}"
initial-advertise-peer-urls = "https://127.0.0.1:${peer}"
listen-peer-urls = "https://127.0.0.1:${peer}"
listen-client-urls = "http://127.0.0.1:${client}"
advertise-client-urls = "http://127.0.0.1:${client}"
initial-cluster = "${initialCluster}"
host-whitelist = "127.0.0.1"
`
    return Effect.as(fs.writeFileString(file, toml), file)
  })
})

const client = (endpoints: EtcdClient.Endpoints) => EtcdLayer.connect({ endpoints })

const demo = Effect.gen(function* () {
  const view = yield* makeView(names)
  yield* view.say("starting three nodes from three TOML files")
  const files = yield* writeConfigs
  const configs = yield* Effect.forEach(files, (file) => EtcdConfig.fromToml(file))
  const [first, ...rest] = configs
  const cluster = yield* EtcdCluster.fromConfigs([first!, ...rest], { log: false })
  const version = SubscriptionRef.getUnsafe(cluster.members)[0].version
  yield* view.say(`all serve, etcd ${version.major}.${version.minor}.${version.patch}`)

  // Each role change is printed as it happens; whoever leads first writes `hello` from its callback.
  const greeted = yield* Deferred.make<EtcdProcess.Node>()
  for (const node of SubscriptionRef.getUnsafe(cluster.members)) {
    yield* SubscriptionRef.changes(node.role).pipe(
      Stream.runForEach((state) => view.state(node.name, state)),
      Effect.forkScoped
    )
    yield* Role.onTransition(node, {
      onLeader: () =>
        EtcdKv.put("hello", `from ${node.name}`).pipe(
          Effect.provide(client(node.endpoints)),
          Effect.andThen(Deferred.succeed(greeted, node))
        )
    })
  }
  const leader = yield* Deferred.await(greeted)
  yield* view.say(`${leader.name} wrote hello from its leader callback`)

  const follower = SubscriptionRef.getUnsafe(cluster.members).find((node) => node !== leader)!
  const hello = yield* EtcdKv.getString("hello").pipe(Effect.provide(client(follower.endpoints)))
  yield* view.say(`${follower.name}, a follower, reads hello = ${Option.getOrElse(hello, () => "nothing")}`)

  const result = yield* underLoad(cluster, leader, view).pipe(Effect.provide(client(cluster.endpoints)))
  yield* view.end
  return result
})

/** Writes numbered keys without a pause, kills the leader meanwhile, and reads everything back. */
const underLoad = Effect.fnUntraced(function* (cluster: EtcdCluster.Cluster, leader: EtcdProcess.Node, view: View) {
  const acknowledged: Array<number> = []
  let watched = 0
  const { header } = yield* EtcdKv.put("n/0", "0")
  const watching = yield* EtcdWatch.watch(KeyRange.prefix("n/"), { startRevision: header.revision }).pipe(
    Stream.runForEach(() => Effect.sync(() => watched++)),
    Effect.forkChild
  )
  let next = 1
  const write = Effect.suspend(() => {
    const n = next++
    return Effect.andThen(
      EtcdKv.put(`n/${n}`, String(n), { deadline: "500 millis" }),
      Effect.sync(() => acknowledged.push(n))
    )
  })
  // A write that fails is not counted, whatever became of it, and the next one is another key. The deadline is for the
  // write that a follower sends on to a leader that is dead already, for which etcd itself would wait seven seconds.
  const writing = yield* Effect.forkChild(Effect.forever(Effect.ignore(write)))
  const writes = (count: number) => awaitCondition(() => acknowledged.length >= count)

  yield* writes(500)
  const before = acknowledged.length
  const killedAt = yield* Clock.currentTimeMillis
  yield* leader.signal("SIGKILL")
  yield* leader.exit
  const atDeath = acknowledged.length
  yield* view.say(`killed ${leader.name} with SIGKILL after ${before} acknowledged writes`)
  yield* cluster.awaitLeader
  yield* writes(atDeath + 1)
  const failover = (yield* Clock.currentTimeMillis) - killedAt
  yield* writes(atDeath + 500)
  yield* Fiber.interrupt(writing)

  const stored = new Set((yield* EtcdKv.range(KeyRange.prefix("n/"))).kvs.map((kv) => kv.valueString))
  const lost = acknowledged.filter((n) => !stored.has(String(n))).length
  yield* Effect.raceFirst(
    awaitCondition(() => watched >= stored.size),
    Fiber.join(watching)
  )
  yield* view.say(`read ${stored.size} keys back, and saw ${watched} changes of them in the watch`)
  return { failover, writes: acknowledged.length, lost, watched, stored: stored.size }
})

const awaitCondition = (condition: () => boolean) =>
  Effect.sync(condition).pipe(Effect.repeat({ until: (met) => met, schedule: Schedule.spaced("1 millis") }))

const main = Effect.gen(function* () {
  const result = yield* Effect.scoped(demo)
  if (result.lost > 0 || result.watched < result.stored) {
    return yield* Effect.fail(
      new DemoFailed(
        `demo failed: ${result.lost} acknowledged writes lost, ${result.watched} of ${result.stored} changes watched`
      )
    )
  }
  yield* Console.log(`demo ok: failover in ${result.failover} ms, ${result.writes} acknowledged writes, 0 lost`)
}).pipe(
  Effect.timeoutOrElse({
    duration: Duration.minutes(2),
    orElse: () => Effect.fail(new DemoFailed("demo failed: not done within two minutes"))
  })
)

main.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
