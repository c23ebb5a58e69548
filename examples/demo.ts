/**
 * The main job in one program: three nodes from three TOML files, work that follows the leader, and a leader killed
 * under load. Run it with `npm run demo`.
 */
import { createServer } from "node:net"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Deferred, Duration, Effect, FileSystem, Option, Path, Ref, Schedule, Stream } from "effect"
import { EtcdCluster, EtcdConfig, EtcdKv, EtcdLayer, type EtcdProcess, EtcdWatch, KeyRange, Role } from "effect-etcd"
import { makeView } from "./demo/view.ts"

class DemoFailed extends Error {}

const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address()
    server.close(() => resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0)))
  })
})

const names = ["infra0", "infra1", "infra2"] as const

/** Writes the three configuration files, with ports that are free here. */
const writeConfigs = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-demo-" })
  const ports = yield* Effect.forEach(names, (name) =>
    Effect.all({ name: Effect.succeed(name), client: freePort, peer: freePort }, { concurrency: "unbounded" })
  )
  const initialCluster = ports.map(({ name, peer }) => `${name}=http://127.0.0.1:${peer}`).join(",")
  return yield* Effect.forEach(ports, ({ client, name, peer }) => {
    const file = path.join(directory, `${name}.toml`)
    const toml = `[etcd]
name = "${name}"
data-dir = "${path.join(directory, name)}"
initial-advertise-peer-urls = "http://127.0.0.1:${peer}"
listen-peer-urls = "http://127.0.0.1:${peer}"
listen-client-urls = "http://127.0.0.1:${client}"
advertise-client-urls = "http://127.0.0.1:${client}"
initial-cluster = "${initialCluster}"
host-whitelist = "127.0.0.1"
`
    return Effect.as(fs.writeFileString(file, toml), file)
  })
})

const client = (endpoints: ReadonlyArray<string>) => EtcdLayer.connect({ endpoints })

const demo = Effect.gen(function*() {
  const view = yield* makeView(names)
  yield* view.say("starting three nodes from three TOML files")
  const files = yield* writeConfigs
  const configs = yield* Effect.forEach(files, (file) => EtcdConfig.fromToml(file))
  const [first, ...rest] = configs
  const cluster = yield* EtcdCluster.fromConfigs([first!, ...rest], { log: false })
  const version = cluster.members[0].version
  yield* view.say(`all serve, etcd ${version.major}.${version.minor}.${version.patch}`)

  // Each role change is printed as it happens; whoever leads first writes `hello` from its callback.
  const greeted = yield* Deferred.make<EtcdProcess.Node>()
  for (const node of cluster.members) {
    yield* Role.changes(node).pipe(
      Stream.runForEach((state) => view.role(node.name, state)),
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

  const follower = cluster.members.find((node) => node !== leader)!
  const hello = yield* EtcdKv.getString("hello").pipe(Effect.provide(client(follower.endpoints)))
  yield* view.say(`${follower.name}, a follower, reads hello = ${Option.getOrElse(hello, () => "nothing")}`)

  // Everything from here goes to the cluster as a whole.
  const watched = yield* Ref.make(0)
  const acknowledged = yield* Ref.make<ReadonlyArray<number>>([])
  const watching = yield* EtcdWatch.watch(KeyRange.prefix("n/"), { startRevision: 1n }).pipe(
    Stream.runForEach(() => Ref.update(watched, (count) => count + 1)),
    Effect.retry(Schedule.spaced("50 millis")),
    Effect.provide(client(follower.endpoints)),
    Effect.forkScoped
  )

  const writeOne = (n: number) =>
    EtcdKv.put(`n/${n}`, String(n)).pipe(
      Effect.andThen(Ref.update(acknowledged, (all) => [...all, n])),
      Effect.ignore
    )
  const counter = yield* Ref.make(0)
  const writer = yield* Ref.updateAndGet(counter, (n) => n + 1).pipe(
    Effect.flatMap(writeOne),
    Effect.andThen(Effect.sleep("1 millis")),
    Effect.forever,
    Effect.forkScoped
  )
  const countAcknowledged = Effect.map(Ref.get(acknowledged), (all) => all.length)
  const moreThan = (count: number) =>
    Effect.repeat(countAcknowledged, { until: (now) => now > count, schedule: Schedule.spaced("1 millis") })

  yield* moreThan(200)
  const before = yield* countAcknowledged
  const killedAt = yield* Clock.currentTimeMillis
  yield* leader.signal("SIGKILL")
  yield* leader.exit
  yield* view.say(`killed ${leader.name} with SIGKILL after ${before} acknowledged writes`)
  const atKill = yield* countAcknowledged
  const next = yield* cluster.awaitLeader
  yield* moreThan(atKill)
  const failover = (yield* Clock.currentTimeMillis) - killedAt
  yield* view.say(`${next.name} leads now`)
  yield* moreThan(atKill + 200)
  yield* Effect.sync(() => writer.interruptUnsafe())

  // Every write that was acknowledged must be there, on the members that are left.
  const wanted = yield* Ref.get(acknowledged)
  const there = new Set((yield* EtcdKv.range(KeyRange.prefix("n/"))).kvs.map((kv) => kv.valueString))
  const lost = wanted.filter((n) => !there.has(String(n)))
  yield* Ref.get(watched).pipe(
    Effect.repeat({ until: (count) => count >= there.size, schedule: Schedule.spaced("5 millis") }),
    Effect.timeoutOption("10 seconds")
  )
  yield* Effect.sync(() => watching.interruptUnsafe())
  yield* view.say(`read ${there.size} keys back, ${yield* Ref.get(watched)} changes watched`)
  yield* view.end
  return { failover, writes: wanted.length, lost: lost.length, watched: yield* Ref.get(watched), keys: there.size }
})

const main = Effect.gen(function*() {
  const result = yield* Effect.scoped(demo)
  if (result.lost > 0 || result.watched < result.keys) {
    return yield* Effect.fail(
      new DemoFailed(`demo failed: ${result.lost} acknowledged writes lost, ${result.watched} of ${result.keys} watched`)
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
