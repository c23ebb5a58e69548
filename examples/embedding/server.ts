/**
 * The service as it is run: `DATA_DIR=/var/lib/counters PORT=8080 node server.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Effect } from "effect"
import { layer, untilEtcdEnds } from "./service.ts"

const settings = Config.all({
  dataDir: Config.withDefault(Config.String("DATA_DIR"), "data"),
  port: Config.withDefault(Config.Port("PORT"), 8080)
})

Effect.gen(function* () {
  const service = layer(yield* settings)
  // Runs until a signal comes, or until etcd has ended for good: then the process exits with code 1.
  yield* Effect.provide(untilEtcdEnds, service)
}).pipe(NodeRuntime.runMain)
