/**
 * The service is started, asked, stopped, and started again with its data.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Stream, SubscriptionRef } from "effect"
import { FetchHttpClient, HttpClient, HttpServer } from "effect/http"
import { EtcdProcess } from "effect-etcd"
import { layer } from "./service.ts"

const ask = (method: "GET" | "POST", path: string) =>
  Effect.gen(function* () {
    const url = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(`${address}${path}`))
    const client = yield* HttpClient.HttpClient
    const { status, text } = yield* method === "GET" ? client.get(url) : client.post(url)
    yield* Console.log(method, path, status, yield* text)
  })

const first = Effect.gen(function* () {
  yield* ask("GET", "/health")
  yield* ask("POST", "/counters/visits")
  yield* ask("POST", "/counters/visits")
})

const second = Effect.gen(function* () {
  yield* ask("GET", "/counters/visits")
  const etcd = yield* EtcdProcess.EtcdProcess
  yield* etcd.stop
  yield* ask("GET", "/health")
  yield* etcd.start
  // A crash: etcd is started again automatically.
  yield* etcd.signal("SIGKILL")
  const changes = SubscriptionRef.changes(etcd.ready)
  yield* Stream.runDrain(Stream.takeUntil(changes, (ready) => !ready))
  yield* Stream.runDrain(Stream.takeUntil(changes, (ready) => ready))
  yield* ask("POST", "/counters/visits")
})

Effect.gen(function* () {
  const dataDir = yield* (yield* FileSystem.FileSystem).makeTempDirectoryScoped()
  const service = layer({ dataDir, port: 0 })
  yield* Effect.provide(first, service)
  yield* Console.log("stopped")
  yield* Effect.provide(second, service)
}).pipe(Effect.scoped, Effect.provide([NodeServices.layer, FetchHttpClient.layer]), NodeRuntime.runMain)
