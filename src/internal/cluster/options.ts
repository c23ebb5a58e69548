/**
 * What a program may say of a cluster.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type { Options as ClusterOptions, RecoverOptions, RestoreOptions } from "../../EtcdCluster.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Read from "../config/read.ts"
import { mostVoters, ofOperation } from "../operations/options.ts"
import * as Options from "../options.ts"
import * as ProcessOptions from "../process/options.ts"

const aDirectory = Options.text("the name of a directory")

const { runDirectory: _, runDirectoryIsTemporary: __, ...ofMember } = ProcessOptions.ofNode

export const ofCluster: Options.Checks<ClusterOptions> = {
  ...ofMember,
  size: Options.countUpTo(mostVoters),
  dataDir: aDirectory,
  // What is in it is checked as a configuration is.
  config: { accepts: Options.isObject, due: "an object with options of etcd" }
}

const configs: Options.Check = {
  accepts: (value) => Array.isArray(value) && value.length > 0,
  due: "a list of configurations, with one at least"
}

/** Reads each member's own. Fails with the first that makes no sense, and where two have one directory, or one name. */
export const decodeAll = (
  who: string,
  given: ReadonlyArray<EtcdConfig.Input>
): Effect.Effect<ReadonlyArray<EtcdConfig.EtcdOptions>, EtcdProcessError.EtcdProcessError> => {
  const wrong = Read.wrongArgument(who, "configs", configs, given)
  if (wrong !== undefined) return Effect.fail(wrong)
  return Effect.flatMap(Effect.forEach(given, EtcdConfig.decode), (members) => {
    for (const option of ["dataDir", "walDir"] as const) {
      const directories = members.flatMap((member) => member[option] ?? [])
      const shared = directories.find((directory, index) => directories.indexOf(directory) !== index)
      if (shared !== undefined) {
        return Effect.fail(
          ProcessOptions.refused(option, `${who}: two members have the ${option} ${shared}. Give each its own.`)
        )
      }
    }
    // What is done to one is done to whoever has its name.
    const names = members.map(({ name = "default" }) => name)
    const shared = names.find((name, index) => names.indexOf(name) !== index)
    return shared === undefined
      ? Effect.succeed(members)
      : Effect.fail(
          ProcessOptions.refused("name", `${who}: two members are named ${shared}. Give each a name of its own.`)
        )
  })
}

/** What each member of a cluster has to have for itself. */
const own = ["name", "dataDir", "walDir"] as const

/** Reads the configuration that members share. */
export const decodeShared = (
  who: string,
  given: EtcdConfig.Input
): Effect.Effect<EtcdConfig.EtcdOptions, EtcdProcessError.EtcdProcessError> =>
  Effect.flatMap(EtcdConfig.decode(given), (options) => {
    const option = own.find((name) => options[name] !== undefined)
    if (option === undefined) return Effect.succeed(options)
    const instead = option === "dataDir" ? "Give the option dataDir of the cluster, which" : "fromConfigs"
    return Effect.fail(
      ProcessOptions.refused(
        option,
        `${who}: config has ${option}, which no two members can share. ${instead} gives each its own.`
      )
    )
  })

/** Reads what one member has for itself. */
export const decodeOwn = (
  who: string,
  given: EtcdConfig.Input
): Effect.Effect<EtcdConfig.EtcdOptions, EtcdProcessError.EtcdProcessError> =>
  Effect.map(decodeAll(who, [given]), ([own]) => own!)

export const ofRecover: Options.Checks<RecoverOptions> = {
  ...ofOperation,
  etcdutl: Options.text("the name of an executable"),
  token: Options.text("a name for the new cluster"),
  revisionsMayGoBack: Options.flag
}

export const ofRestore: Options.Checks<RestoreOptions> = {
  ...ofRecover,
  bumpRevision: {
    // What is beyond JavaScript's numbers is taken for damage by the next restore, which would not be above it.
    accepts: (value) => typeof value === "bigint" && value >= 0n && value < 2n ** 52n,
    due: "a bigint from 0 on, and below 2 ** 52"
  },
  skipHashCheck: Options.flag
}

export const aSnapshot = Options.text("the name of a file")
