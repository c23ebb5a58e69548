/**
 * The node of an instance, as it is started in each case.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import * as EtcdId from "../../EtcdId.ts"
import * as EtcdProcess from "../../EtcdProcess.ts"
import * as Answers from "./answers.ts"
import type { Data } from "./data.ts"
import * as Decide from "./decide.ts"
import type { Failure, Start } from "./join.ts"
import type { Source } from "./peers.ts"
import * as Place from "./place.ts"
import { declaredBy, isSame, majorityOf, type Settings } from "./settings.ts"

/** With the data that there are, or as a join has told. */
export type Beginning = Start | { readonly _tag: "Return"; readonly data: Data | "unreadable" }

const asOf = (settings: Settings, beginning: Beginning): EtcdConfig.Input => {
  switch (beginning._tag) {
    case "Begin":
      return {
        initialClusterState: "new",
        // As the others write it: capitals in names are no difference, but to etcd.
        initialAdvertisePeerUrls: beginning.urls.filter((url) => isSame(url, settings.peerUrl)),
        initialCluster: Place.initialCluster(
          settings,
          beginning.urls.map((url) => ({ peerUrls: [url] }))
        )
      }
    case "Join":
      return {
        initialClusterState: "existing",
        initialAdvertisePeerUrls: beginning.member.peerUrls,
        initialCluster: Place.initialCluster(settings, beginning.members)
      }
    case "Return":
      // Without data, which are there, etcd would begin nothing.
      return {
        initialClusterState: "existing",
        initialAdvertisePeerUrls: [settings.peerUrl],
        initialCluster: { [settings.name]: [settings.peerUrl] }
      }
  }
}

export const configOf = (settings: Settings, beginning: Beginning): EtcdConfig.Input =>
  Object.assign({}, settings.config, asOf(settings, beginning), {
    name: settings.name,
    dataDir: settings.dataDir,
    listenPeerUrls: settings.listenPeerUrls,
    advertiseClientUrls: [settings.clientUrl],
    initialClusterToken: settings.token
  } satisfies EtcdConfig.Input)

/** The cluster that it is going to be of. */
const clusterOf = (beginning: Beginning): bigint | undefined => {
  if (beginning._tag === "Begin") return beginning.clusterId
  return beginning._tag === "Return" && beginning.data !== "unreadable" ? beginning.data.clusterId : undefined
}

/**
 * Watches, as long as the node waits for a majority, whether the peers are those of another cluster. One of them may have
 * been given away; where most of them are, it would wait for ever.
 */
const watchOthers = (settings: Settings, source: Source, expected: bigint): Effect.Effect<never, Failure> =>
  Effect.gen(function* () {
    const known = yield* source
    if (Result.isFailure(known)) return
    const others = declaredBy(settings, known.success).urls.filter((url) => !isSame(url, settings.peerUrl))
    const clusters = Decide.clustersOf(yield* Answers.askAll(settings, others))
    const foreign = [...clusters.values()].flat().length
    if (clusters.has(expected) || foreign === 0 || foreign < majorityOf(others.length)) return
    yield* Decide.wrongCluster(
      `The data in ${settings.dataDir} are of the cluster ${EtcdId.format(expected)}, and the peers are of another one: ` +
        `${Decide.describeClusters(clusters)}. Give the peers of the right one, or another dataDir.`,
      expected,
      [...clusters.keys()]
    )
  }).pipe(Effect.andThen(Effect.sleep("1 second")), Effect.forever)

/** Starts the node, and waits until it serves: for a member that was added as long as a start may take, otherwise for ever. */
export const start = (settings: Settings, source: Source, beginning: Beginning) => {
  const startTimeout = beginning._tag === "Join" ? settings.startTimeout : Duration.infinity
  const started = EtcdProcess.make(configOf(settings, beginning), { ...settings.process, startTimeout })
  const expected = clusterOf(beginning)
  return expected === undefined ? started : Effect.raceFirst(started, watchOthers(settings, source, expected))
}
