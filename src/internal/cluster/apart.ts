/**
 * The data of a cluster that does not run.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as EtcdBinary from "../../EtcdBinary.ts"
import type * as EtcdCluster from "../../EtcdCluster.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { aFile, ofRestore } from "../operations/options.ts"
import * as Checks from "../options.ts"
import * as Failures from "../process/failures.ts"
import * as Manifest from "./manifest.ts"
import { ofCluster } from "./options.ts"
import { peerSocketOf } from "./sockets.ts"

/** Where the data of all members are, and below which directory. */
export interface Places {
  readonly members: ReadonlyArray<{
    readonly name: string
    readonly peerUrls: ReadonlyArray<string>
    readonly dataDir: string
  }>
  readonly workDirectory: string
}

/** Those that are to be members; who was joining is none yet. */
export const placesOf = ({ current, directoryOf }: Manifest.Keeper): Places => ({
  members: current()
    .members.filter(({ state }) => state !== "joining")
    .map(({ directory, name }) => ({
      name,
      peerUrls: [`unix://${peerSocketOf(name)}`],
      dataDir: directoryOf(directory)
    })),
  workDirectory: directoryOf("")
})

/** The etcd that is to run it, and its etcdutl. */
export const tools = (binary: EtcdBinary.Input | undefined) =>
  Effect.flatMap(EtcdBinary.fromInput(binary), (etcd) => Effect.map(EtcdBinary.findUtl(etcd), (utl) => ({ etcd, utl })))

const ofRestoreData: Checks.Checks<EtcdCluster.RestoreDataOptions> = {
  ...ofRestore,
  dataDir: ofCluster.dataDir,
  size: ofCluster.size,
  binary: ofCluster.binary,
  setAside: Checks.flag
}

const { setAside: _, skipHashCheck: __, ...ofRecoverData } = ofRestoreData

/** Fails with what makes no sense. */
export const check = (name: "restore" | "recover", options: EtcdCluster.RestoreDataOptions, snapshot?: string) => {
  const who = `EtcdCluster.${name}`
  const wrong =
    (name === "restore" ? Checks.problemOfArgument(who, "the snapshot", aFile, snapshot) : undefined) ??
    Checks.problemOfArgument(who, "the option dataDir", ofCluster.dataDir, options?.dataDir) ??
    Checks.problemOf(who, name === "restore" ? ofRestoreData : (ofRecoverData as typeof ofRestoreData), options)
  return wrong === undefined ? Effect.void : Effect.fail(Checks.invalid(wrong))
}

/** Who is to be restored, though the data of some may be lost. Nothing is changed before the manifest is kept. */
export const look = ({
  dataDir,
  size
}: Pick<EtcdCluster.Options, "size"> & { readonly dataDir: string }): Effect.Effect<
  Manifest.Keeper,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path
> => Manifest.inDirectory(dataDir, size, { mayLack: true })

/** Brings a restore to its end that was ended half-way, before the members are started. */
export const settle = (keeper: Manifest.Keeper) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const { join } = yield* Path.Path
    const places = placesOf(keeper)
    // Loaded only where there is something of that.
    if (!(yield* fs.exists(join(places.workDirectory, ".restoring")))) return
    const { settle } = yield* Effect.promise(() => import("../operations/restoreCluster.ts"))
    yield* settle(places)
  }).pipe(Effect.mapError(Failures.systemFailure("bring a restore to its end")))
