/**
 * A program that stands in an election: `candidate.ts CLIENT ENDPOINT ELECTION TTL_SECONDS`, where the client is
 * `effect-etcd` or `etcd3`. It is told by lines on stdin, `stand` and `resign`, one after the other, and says `elected`
 * and `resigned`. SIGTERM ends it as a program should end that may be the leader. It ends when stdin does.
 */
import { createInterface } from "node:readline"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Effect, Layer } from "effect"
import { EtcdLayer } from "effect-etcd"
import { EtcdElection, EtcdSession } from "effect-etcd/coordination"
import { type Campaign, Etcd3 } from "etcd3"

const [client, endpoint = "", election = "", ttl = ""] = process.argv.slice(2)

process.stdin.on("end", () => process.exit())
const lines = createInterface(process.stdin)[Symbol.asyncIterator]()

const withEffect = () => {
  const line = Effect.promise(() => lines.next())
  const say = (what: string) => Effect.sync(() => console.log(what))
  const served = EtcdElection.whileElected(
    Effect.andThen(say("elected"), line),
    EtcdElection.make(election),
    "effect-etcd"
  )
  const etcd = Layer.provideMerge(
    EtcdSession.layerWith({ ttl: `${Number(ttl)} seconds` }),
    EtcdLayer.connect({ endpoints: [endpoint] })
  )
  line.pipe(
    Effect.andThen(served),
    Effect.andThen(say("resigned")),
    Effect.forever,
    Effect.provide(etcd),
    NodeRuntime.runMain
  )
}

const withEtcd3 = async () => {
  const etcd3 = new Etcd3({ hosts: endpoint })
  let campaign: Campaign | undefined
  process.on("SIGTERM", async () => {
    await campaign?.resign()
    process.exit()
  })
  while (true) {
    await lines.next()
    campaign = etcd3.election(election, Number(ttl)).campaign("etcd3")
    await campaign.wait()
    console.log("elected")
    await lines.next()
    await campaign.resign()
    console.log("resigned")
  }
}

if (client === "etcd3") await withEtcd3()
else withEffect()
