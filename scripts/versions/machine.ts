/**
 * The etcd of this machine: `ETCD_BINARY`, or on the `PATH`.
 */
import process from "node:process"
import * as Effect from "effect/Effect"
import * as Path from "effect/Path"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import { failed, type Source, versionsDirectory } from "./source.ts"

export const machine: Source = {
  name: "this machine",
  get: Effect.gen(function* () {
    const nowhere = (yield* Path.Path).join(yield* versionsDirectory, "none")
    return (yield* EtcdBinary.find({ cacheDirectory: nowhere })).path
  }).pipe(
    Effect.catchReason("EtcdProcessError", "BinaryNotFound", (reason) =>
      failed(process.env.ETCD_BINARY ? reason.message : "no etcd is installed")
    ),
    Effect.catchTag("EtcdProcessError", (error) => failed(error.message))
  )
}
