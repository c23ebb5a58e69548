/**
 * What is started on each host, with NAME, HOSTS, DATA_DIR, CERTIFICATES and ALICES_PASSWORD in its environment.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Stream, SubscriptionRef } from "effect"
import { EtcdMember } from "effect-etcd"
import { instance } from "./instance.ts"
import { users } from "./users.ts"

const settings = Config.all({
  name: Config.String("NAME"),
  /** Where all of them are: host1=10.0.0.1,host2=10.0.0.2,host3=10.0.0.3 */
  hosts: Config.String("HOSTS").pipe(
    Config.map((hosts) => new Map(hosts.split(",").map((host) => host.split("=", 2) as [string, string])))
  ),
  dataDir: Config.String("DATA_DIR"),
  certificates: Config.String("CERTIFICATES")
})

const etcd = Layer.unwrap(
  Effect.gen(function* () {
    const { certificates, dataDir, hosts, name } = yield* settings
    const urls = { peerUrl: `https://${hosts.get(name)}:2380`, clientUrl: `https://${hosts.get(name)}:2379` }
    const peers = Array.from(hosts.values(), (address) => `https://${address}:2380`)
    return instance({ name, dataDir, ...urls }, peers, certificates)
  })
)

const program = Effect.gen(function* () {
  yield* users(yield* Config.Redacted("ALICES_PASSWORD"))
  const member = yield* EtcdMember.EtcdMember
  const states = SubscriptionRef.changes(member.state)
  yield* Effect.raceFirst(
    member.exit,
    Stream.runForEach(states, ({ _tag }) => Console.log(`${member.name} is a ${_tag}`))
  )
})

program.pipe(Effect.provide(etcd), NodeRuntime.runMain)
