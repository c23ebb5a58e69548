/**
 * A restore that was ended while data were put in place: some members have those of the new cluster, and some those of the
 * old one. It is finished before any of them is started. Of one that had not come so far, nothing is left; and while one is
 * under way, nothing is started.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"

/** `directories`: those that may have been restored in. */
export const finish = (directories: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const orFail = Effect.mapError(Failures.systemFailure("finish a restore that was begun"))
    for (const directory of new Set(directories.map((one) => path.resolve(one)))) {
      if (!(yield* orFail(fs.exists(path.join(directory, ".effect-etcd-restore"))))) continue
      const { resume } = yield* Effect.promise(() => import("../operations/restoreCluster.ts"))
      if (!(yield* orFail(resume(directory)))) continue
      const message = `EtcdCluster: data of the members in ${directory} are just being made anew. Wait for that. Nothing was started.`
      return yield* Effect.fail(ProcessOptions.refused("dataDir", message))
    }
  })
