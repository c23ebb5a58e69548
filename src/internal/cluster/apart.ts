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
import * as Checks from "../options.ts"
import * as Failures from "../process/failures.ts"
import * as Manifest from "./manifest.ts"
import { aSnapshot, ofCluster, ofRestore } from "./options.ts"
import { peerUrlOf } from "./sockets.ts"

/** Where the data of all members are, and below which directory. */
export interface Places {
  readonly members: ReadonlyArray<{
    readonly name: string
    readonly peerUrls: ReadonlyArray<string>
    readonly dataDir: string
  }>
  readonly workDirectory: string
}

/**
 * Those that are to be members: who was joining or leaving, too, where it has data, which are of a cluster that is not to be,
 * or which were just moved aside for those that wait beside them.
 */
const placesOf = Effect.fnUntraced(
  function* ({ current, directoryOf }: Manifest.Keeper) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const { isStaged } = yield* Effect.promise(() => import("../operations/restoreMember.ts"))
    const hasData = (dataDir: string) =>
      Effect.flatMap(fs.exists(path.join(dataDir, "member")), (has) =>
        has ? Effect.succeed(true) : isStaged({ dataDir })
      )
    const members = yield* Effect.filter(current().members, ({ directory, state }) =>
      state === "member" ? Effect.succeed(true) : hasData(directoryOf(directory))
    )
    const places: Places = {
      members: members.map(({ directory, name, peer }) => ({
        name,
        peerUrls: peer?.initialAdvertisePeerUrls ?? [peerUrlOf(name)],
        dataDir: directoryOf(directory)
      })),
      workDirectory: directoryOf("")
    }
    return places
  },
  Effect.mapError(Failures.systemFailure("look for the data of the members"))
)

/** The etcd that is to run it, and its etcdutl. */
const tools = ({ binary, etcdutl }: Pick<EtcdCluster.RestoreDataOptions, "binary" | "etcdutl">) =>
  Effect.flatMap(EtcdBinary.fromInput(binary), (etcd) =>
    Effect.map(EtcdBinary.findUtl(etcd, { path: etcdutl }), (utl) => ({ etcd, utl }))
  )

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
    (name === "restore" ? Checks.problemOfArgument(who, "the snapshot", aSnapshot, snapshot) : undefined) ??
    Checks.problemOfArgument(who, "the option dataDir", ofCluster.dataDir, options?.dataDir) ??
    Checks.problemOf(who, name === "restore" ? ofRestoreData : (ofRecoverData as typeof ofRestoreData), options)
  return wrong === undefined ? Effect.void : Effect.fail(Checks.invalid(wrong))
}

/**
 * Who is to be restored, though the data of some may be lost, and what does that. Nothing is changed before the manifest is
 * kept.
 */
export const look = ({
  dataDir,
  size,
  ...executables
}: Pick<EtcdCluster.RestoreDataOptions, "binary" | "dataDir" | "etcdutl" | "size">) =>
  Effect.gen(function* () {
    const keeper = yield* Manifest.inDirectory(dataDir, size, { mayLack: true })
    return { keeper, ...(yield* placesOf(keeper)), tools: tools(executables) }
  })
