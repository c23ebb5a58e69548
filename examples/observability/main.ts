import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Schema } from "effect"
import { HttpServer } from "effect/http"
import { EtcdLayer, EtcdStore } from "effect-etcd"
import { EtcdLock, EtcdSession } from "effect-etcd/coordination"
import { collector } from "./collector.ts"
import { exported, scraped } from "./telemetry.ts"

const stock = EtcdStore.make("shop/stock/", Schema.Number)

const count = (item: string) => stock.update(item, (n) => Option.getOrElse(n, () => 0) + 1)

/** What the program does: a span of its own, with those of the library below. */
const order = count("apples").pipe(
  EtcdLock.withLock(EtcdLock.make("shop/orders")),
  Effect.withSpan("order", { attributes: { "shop.item": "apples" } })
)

/** What Prometheus would get. */
const scrape = Effect.flatMap(HttpServer.HttpServer, ({ address }) => {
  const port = address._tag === "UnixPathAddress" ? undefined : address.port
  return Effect.promise(() => fetch(`http://127.0.0.1:${port}/metrics`).then((answer) => answer.text()))
})

const program = Effect.gen(function* () {
  yield* count("pears")
  yield* order
  const lines = (yield* scrape).split("\n")
  yield* Console.log(lines.filter((line) => line.startsWith("# TYPE")).join("\n"))
  yield* Console.log(lines.filter((line) => /_count\{.*KV.Txn/.test(line)).join("\n"))
})

const etcd = Layer.provideMerge(EtcdSession.layer, EtcdLayer.connect({ endpoints: ["http://127.0.0.1:2379"] }))

Effect.gen(function* () {
  const { url } = yield* collector
  yield* program.pipe(Effect.provide(etcd), Effect.provide(scraped), Effect.provide(exported(url)))
}).pipe(Effect.scoped, NodeRuntime.runMain)
