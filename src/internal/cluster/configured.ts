/**
 * A cluster whose members have a configuration each. Nothing is remembered of who joins and leaves: it is as etcd says.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdProcess from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Child from "../process/child.ts"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"
import { type Fleet, type Platform, startAll } from "./fleet.ts"
import * as ClusterOptions from "./options.ts"
import * as Turns from "./turns.ts"

const needed = (what: string) =>
  Effect.fail(
    ProcessOptions.refused(
      "config",
      `EtcdCluster: the members of this cluster have a configuration each, so who joins needs one as well: ${what}.`
    )
  )

export const make = (
  configs: ReadonlyArray<EtcdConfig.EtcdOptions>,
  options: EtcdProcess.Options
): Effect.Effect<Fleet, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const given = new Map(configs.map((config) => [config.name ?? "default", config]))
    const starting = (config: EtcdConfig.Input) => EtcdProcess.make(config, options)
    const withData = yield* Effect.filter(configs, ({ dataDir }) =>
      dataDir === undefined
        ? Effect.succeed(false)
        : Effect.mapError(fs.exists(`${dataDir}/member`), Failures.systemFailure(`look for data in ${dataDir}`))
    )
    const turns =
      withData.length > 0
        ? []
        : yield* Turns.make(configs.map(({ listenPeerUrls }) => Turns.addressOf(listenPeerUrls, options.runDirectory)))
    const crew = yield* startAll(
      configs.map((config, index) => ({
        start: Effect.provideService(starting(config), Child.MayStart, turns[index] ?? Effect.void),
        mayFail: false
      }))
    )
    const remove = (directory: string) =>
      Effect.mapError(
        fs.remove(directory, { recursive: true, force: true }),
        Failures.systemFailure(`delete the data directory ${directory}`)
      )
    const clear = ({ dataDir, walDir }: EtcdConfig.EtcdOptions) =>
      Effect.forEach(
        [dataDir, walDir].filter((directory) => directory !== undefined),
        remove,
        { discard: true }
      )
    const fleet: Fleet = {
      ...crew,
      unfinished: () => ({ joining: [], leaving: [] }),
      newcomer: (config, index) =>
        Effect.gen(function* () {
          if (config === undefined) return yield* needed("give the option config, with a name and URLs of its own")
          if (index > 0) return yield* needed("let one join after the other, each with its own")
          const own = yield* ClusterOptions.decodeOwn("EtcdCluster", config)
          const { initialAdvertisePeerUrls, name } = own
          if (name === undefined || initialAdvertisePeerUrls === undefined) {
            return yield* needed("name and initialAdvertisePeerUrls cannot be left out")
          }
          return {
            name,
            peerUrls: initialAdvertisePeerUrls,
            begin: Effect.sync(() => given.set(name, own)),
            join: (initialCluster) => starting({ ...own, initialCluster, initialClusterState: "existing" }),
            settle: Effect.void,
            clear: clear(own)
          }
        }),
      again: ({ name }, binary) =>
        Effect.suspend(() =>
          EtcdProcess.make(given.get(name) ?? { name }, binary === undefined ? options : { ...options, binary })
        ),
      suits: ({ config: { dataDir }, name }, version) =>
        Effect.suspend(() => Effect.asVoid(EtcdConfig.resolve(given.get(name) ?? {}, { version, dataDir }))),
      leave: () => Effect.void,
      forget: (name) =>
        Effect.suspend(() => {
          const config = given.get(name) ?? {}
          given.delete(name)
          return clear(config)
        })
    }
    return fleet
  })
