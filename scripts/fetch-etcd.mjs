/**
 * Fetches the pinned release of etcd into the user's cache directory. Progress goes to stderr where that is a terminal,
 * the reason of a failure to stdout.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as EtcdBinary from "../src/EtcdBinary.ts"

const mebibytes = (bytes) => (bytes / (1 << 20)).toFixed(1)

const onProgress = ({ receivedBytes, totalBytes }) =>
  Effect.sync(() => {
    const total = Option.match(totalBytes, { onNone: () => "", onSome: (bytes) => ` of ${mebibytes(bytes)}` })
    process.stderr.write(`\r  ${mebibytes(receivedBytes)}${total} MiB`)
  })

const endLine = Effect.sync(() => process.stderr.write("\n"))

const isTerminal = process.stderr.isTTY === true

EtcdBinary.fetch(isTerminal ? { onProgress } : {}).pipe(
  Effect.ensuring(isTerminal ? endLine : Effect.void),
  Effect.catchTag("EtcdProcessError", (error) =>
    Effect.andThen(
      Console.log(error.message),
      Effect.sync(() => {
        process.exitCode = 1
      })
    )
  ),
  Effect.provide(Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)),
  // Who runs this says that it does.
  Effect.provideService(References.MinimumLogLevel, "Warn"),
  NodeRuntime.runMain
)
