/**
 * A cluster whose members have a configuration each. Nothing is remembered of who joins and leaves: it is as etcd says.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Scope from "effect/Scope"
import type * as EtcdBinary from "../../EtcdBinary.ts"
import * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdProcess from "../../EtcdProcess.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import { discovers } from "../config/values.ts"
import { holder } from "../files/owner.ts"
import * as Answers from "../member/answers.ts"
import { isSame, peerTlsOf } from "../member/settings.ts"
import * as Child from "../process/child.ts"
import * as Failures from "../process/failures.ts"
import * as ProcessOptions from "../process/options.ts"
import * as Place from "../process/place.ts"
import { type Fleet, oldest, type Platform, portsOf, startAll } from "./fleet.ts"
import { inherit, type Leaving } from "./manifest.ts"
import * as ClusterOptions from "./options.ts"
import * as Turns from "./turns.ts"
import * as Unfinished from "./unfinished.ts"

const needed = (what: string) =>
  Effect.fail(
    ProcessOptions.refused(
      "config",
      `EtcdCluster: the members of this cluster have a configuration each, so who joins needs one as well: ${what}.`
    )
  )

/** Whether it would begin a cluster all by itself. */
const isAlone = (config: EtcdConfig.EtcdOptions) =>
  !discovers(config) && Object.keys(config.initialCluster ?? {}).every((name) => name === (config.name ?? "default"))

/**
 * A member that has no data any more begins nothing in its own name, as etcd would where it is to join one that is there
 * (`initialClusterState`), or was given its id when it joined: what it has acknowledged, and for whom it has voted, is lost.
 * `others`: where those may be who know.
 */
const refuseBegun = (config: EtcdConfig.EtcdOptions, others: ReadonlyArray<string>, runDirectory: string | undefined) =>
  Effect.gen(function* () {
    const { resolve } = yield* Path.Path
    const { initialAdvertisePeerUrls: own = [], name = "default" } = config
    const isOwn = (url: string) => own.some((other) => isSame(url, other))
    const peerTls = peerTlsOf(config, (file) => (file === undefined ? undefined : resolve(file)))
    const asked = [...new Set([...others, ...Object.values(config.initialCluster ?? {}).flat()])]
    const answers = yield* Answers.askAll(
      { peerTls, runDirectory },
      asked.filter((url) => !isOwn(url))
    )
    const hasBegun = [...answers.values()].some(
      (answer) =>
        answer._tag === "Etcd" &&
        answer.members.some(({ clientUrls, peerUrls }) => clientUrls.length > 0 && peerUrls.some(isOwn))
    )
    if (!hasBegun) return
    const message =
      `EtcdCluster.fromConfigs: ${name} has no data, and has been a member before. Without them it cannot begin anew ` +
      "under its name: leave it out, and replace it."
    const reason = new EtcdProcessError.ClusterMismatch({ message, lastLines: [], exitCode: null, signal: null })
    return yield* Effect.fail(EtcdProcessError.make(reason))
  })

/** How a member is started, and where it lives where that is nowhere that the program knows. */
interface Given {
  readonly config: EtcdConfig.EtcdOptions
  readonly binary: EtcdBinary.Input | undefined
  readonly home: string | undefined
  readonly hasJoined?: boolean
}

export const make = (
  each: ReadonlyArray<EtcdConfig.EtcdOptions>,
  options: EtcdProcess.Options
): Effect.Effect<Fleet, EtcdProcessError.EtcdProcessError, Scope.Scope | Platform> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const scope = yield* Effect.scope
    const given = new Map<string, Given>()
    const leaving = new Map<string, Leaving>()
    const starting = ({ binary, config, home }: Given) =>
      EtcdProcess.make(config, {
        ...options,
        binary,
        ...(home === undefined ? {} : { runDirectory: home, runDirectoryIsTemporary: true })
      })
    /** Where a member lives is there for longer than its process: it may be started as another version. */
    const house = (config: EtcdConfig.EtcdOptions, binary: EtcdBinary.Input | undefined) =>
      Effect.map(
        options.runDirectory === undefined ? Scope.provide(Place.makeHome(config), scope) : Effect.undefined,
        (home): Given => ({ config, binary, home })
      )
    const { dirname, join, resolve, sep } = yield* Path.Path
    /** Where they share a directory to run in, that is where their data are, which stay when they have gone. */
    const settled = (config: EtcdConfig.EtcdOptions): EtcdConfig.EtcdOptions =>
      options.runDirectory === undefined
        ? config
        : { dataDir: join(options.runDirectory, Place.dataDirectoryOf(config.name ?? "default")), ...config }
    const configs = each.map(settled)
    const holdsData = ({ dataDir, walDir }: EtcdConfig.EtcdOptions) =>
      dataDir === undefined
        ? Effect.succeed(false)
        : Effect.mapBoth(holder({ dataDir, walDir }), {
            onSuccess: Option.isSome,
            onFailure: Failures.systemFailure(`look for data in ${dataDir}`)
          })
    const directoriesOf = ({ dataDir, walDir }: EtcdConfig.EtcdOptions) =>
      [dataDir, walDir].filter((directory) => directory !== undefined)
    /** A directory that is another one's, or is in it, or has it: what deletes the data of one would delete the other's. */
    const sharedWith = (others: ReadonlyArray<EtcdConfig.EtcdOptions>, own: EtcdConfig.EtcdOptions) => {
      const taken = others.flatMap(directoriesOf).map((directory) => `${resolve(directory)}${sep}`)
      return directoriesOf(own).find((directory) =>
        taken.some(
          (other) => other.startsWith(`${resolve(directory)}${sep}`) || `${resolve(directory)}${sep}`.startsWith(other)
        )
      )
    }
    for (const [index, config] of configs.entries()) {
      const shared = sharedWith(configs.slice(0, index), config)
      if (shared !== undefined) {
        const message = `EtcdCluster.fromConfigs: ${shared} is in a directory of another member, or has it. Give each its own.`
        return yield* Effect.fail(ProcessOptions.refused("dataDir", message))
      }
    }
    yield* Unfinished.finish(configs.flatMap(({ dataDir }) => (dataDir === undefined ? [] : [dirname(dataDir)])))
    const holding = yield* Effect.filter(configs, holdsData)
    // It was added, and has not started yet, or has left: it would begin a cluster of its own.
    const alone = configs.length === 1 ? [] : configs.filter((one) => !holding.includes(one) && isAlone(one))
    for (const { name = "default" } of alone) {
      const why = `${name} has no data, and its initialCluster names nobody else whose cluster it is to be in`
      if (holding.length === 0) {
        const message = `EtcdCluster.fromConfigs: ${why}. Say there who the members are.`
        return yield* Effect.fail(ProcessOptions.refused("initialCluster", message))
      }
      yield* Effect.logWarning(`A member was not started: ${why}. Let it join by grow.`)
    }
    const first = yield* Effect.forEach(
      configs.filter((one) => !alone.includes(one)),
      (config) => house(config, options.binary),
      { concurrency: "unbounded" }
    )
    // Where they have data already, one of them may be here to go on with what it had begun.
    const hasJoined = holding.length === 0
    for (const one of first) given.set(one.config.name ?? "default", { ...one, hasJoined })
    const addressOf = ({ config: { listenPeerUrls }, home }: Given) =>
      Turns.addressOf(listenPeerUrls, home ?? options.runDirectory)
    const isHolding = ({ config }: Given) => holding.includes(config)
    const afterHolding = first.every(isHolding)
      ? Effect.void
      : yield* Turns.afterOneOf(first.filter(isHolding).map(addressOf))
    const others = holding.flatMap(({ initialAdvertisePeerUrls = [] }) => initialAdvertisePeerUrls)
    const beginning = ({ config }: Given) =>
      holding.length > 0 || config.initialClusterState === "existing"
        ? Effect.andThen(afterHolding, refuseBegun(config, others, options.runDirectory))
        : Effect.void
    const turns = holding.length > 0 ? [] : yield* Turns.make(first.map(addressOf))
    const crew = yield* startAll(
      first.map((one, index) => ({
        start: Effect.andThen(
          isHolding(one) ? Effect.void : beginning(one),
          Effect.provideService(starting(one), Child.MayStart, turns[index] ?? Effect.void)
        ),
        state: "member",
        mayLearn: holding.length > 0,
        removed: Effect.sync(() => {
          const { name = "default" } = one.config
          leaving.set(name, { name, id: undefined, successor: undefined })
        })
      })),
      options.client
    )
    const remove = (directory: string) =>
      Effect.mapError(
        fs.remove(directory, { recursive: true, force: true }),
        Failures.systemFailure(`delete ${directory}`)
      )
    const clear = (name: string) =>
      Effect.suspend(() => {
        const { config = {}, home } = given.get(name) ?? {}
        return Effect.andThen(
          Effect.forEach([...directoriesOf(config), ...(home === undefined ? [] : [home])], remove, { discard: true }),
          Effect.sync(() => given.delete(name))
        )
      })
    const isEmpty = (directory: string) =>
      Effect.orElseSucceed(
        Effect.map(fs.readDirectory(directory), (found) => found.length === 0),
        () => true
      )
    const holdsOthers = ({ dataDir, walDir }: EtcdConfig.EtcdOptions, id: bigint) =>
      dataDir === undefined
        ? Effect.succeed(false)
        : Effect.match(holder({ dataDir, walDir }), {
            onSuccess: Option.exists((one) => one === "unreadable" || one.memberId !== id),
            onFailure: () => true
          })
    const fleet: Fleet = {
      ...crew,
      unfinished: () => ({ joining: [], leaving: [...leaving.values()] }),
      newcomer: (config, index) =>
        Effect.gen(function* () {
          if (config === undefined) return yield* needed("give the option config, with a name and URLs of its own")
          if (index > 0) return yield* needed("let one join after the other, each with its own")
          const own = settled(yield* ClusterOptions.decodeOwn("EtcdCluster", config))
          const { initialAdvertisePeerUrls, name } = own
          if (name === undefined || initialAdvertisePeerUrls === undefined) {
            return yield* needed("name and initialAdvertisePeerUrls cannot be left out")
          }
          const others = [...given].flatMap(([other, { config }]) => (other === name ? [] : [config]))
          const taken = sharedWith(others, own)
          if (taken !== undefined) return yield* needed(`give directories of its own, ${taken} is that of another one`)
          return {
            name,
            peerUrls: initialAdvertisePeerUrls,
            hasJoined: given.get(name)?.hasJoined === true,
            inTheWay: (id) =>
              Effect.gen(function* () {
                const known = directoriesOf(given.get(name)?.config ?? {})
                const found = yield* Effect.filter(
                  directoriesOf(own).filter((directory) => !known.includes(directory)),
                  (directory) => Effect.map(isEmpty(directory), (empty) => !empty)
                )
                // Of one that was added there may be what it had begun with. What is another one's would go with it.
                return id === undefined || (yield* holdsOthers(own, id)) ? found : []
              }).pipe(Effect.provideContext(crew.platform)),
            begin: Effect.suspend(() => {
              leaving.delete(name)
              return given.has(name)
                ? Effect.void
                : Effect.map(
                    Effect.provideContext(house(own, given.get(oldest(crew.members).name)?.binary), crew.platform),
                    (one) => void given.set(name, one)
                  )
            }),
            join: (initialCluster) =>
              Effect.suspend(() => {
                const one = { ...given.get(name)!, config: own }
                given.set(name, one)
                return starting({ ...one, config: { ...own, initialCluster, initialClusterState: "existing" } })
              }),
            settle: Effect.sync(() => {
              const one = given.get(name)
              if (one !== undefined) given.set(name, { ...one, hasJoined: true })
              leaving.delete(name)
            }),
            clear: clear(name)
          }
        }),
      renew: (node, { binary, config } = {}, had = {}) =>
        Effect.gen(function* () {
          const one = given.get(node.name)!
          const before: Given = { ...one, config: { ...one.config, ...portsOf(node, one.config) } }
          const after = binary === undefined ? before : { ...before, binary }
          const now: Given = { ...after, config: { ...after.config, ...config } }
          const was: Given = { ...before, config: { ...before.config, ...had } }
          const renewed = yield* crew.exchange(node, starting(now), starting(was))
          given.set(node.name, after)
          return renewed
        }).pipe(Effect.uninterruptible),
      binaryOf: ({ name }) => given.get(name)?.binary,
      suits: ({ config: { dataDir }, name }, version) =>
        Effect.suspend(() => Effect.asVoid(EtcdConfig.resolve(given.get(name)!.config, { version, dataDir }))),
      rememberLost: Effect.void,
      leave: (one) => Effect.sync(() => leaving.set(one.name, one)),
      stay: (name) => Effect.sync(() => leaving.delete(name)),
      forget: (name) =>
        Effect.andThen(
          clear(name),
          Effect.sync(() => {
            const successor = leaving.get(name)?.successor
            leaving.delete(name)
            for (const [other, one] of leaving) leaving.set(other, inherit(one, name, successor))
          })
        )
    }
    return fleet
  })
