/**
 * What an instance without data does next, by what the others answer.
 *
 * A cluster begins only where a majority of the declared set have no data and wait for each other, each with the same set
 * and the same token. That is more than etcd asks for, which begins whenever it is told to: an instance that has lost its
 * data, and comes back before the others, would begin under the id that it had, and vote as if it had never promised
 * anything. Who sees that there has been a cluster waits until it has a leader again, and is taken up by it. Who has left
 * one waits for those who stayed: they have data, also while none of them is there.
 *
 * @internal
 */
import * as EtcdId from "../../EtcdId.ts"
import * as EtcdMemberError from "../../EtcdMemberError.ts"
import type { Answer } from "./answers.ts"
import { type Declared, isSame, majorityOf, type Settings } from "./settings.ts"

export type Decision =
  /** Begin the cluster, with the whole set. */
  | { readonly _tag: "Begin"; readonly urls: ReadonlyArray<string>; readonly clusterId: bigint }
  /** There is a cluster, or has been: ask it, if it has a leader. */
  | { readonly _tag: "Consult"; readonly clusterId: bigint; readonly clientUrls: ReadonlyArray<string> }
  | { readonly _tag: "Wait"; readonly what: string; readonly details?: string }
  | { readonly _tag: "Refuse"; readonly error: EtcdMemberError.EtcdMemberError }

export const wrongCluster = (
  message: string,
  expected: bigint | undefined,
  found: ReadonlyArray<bigint>
): EtcdMemberError.EtcdMemberError =>
  EtcdMemberError.make(
    new EtcdMemberError.WrongCluster({ message, found: [...found], ...(expected === undefined ? {} : { expected }) })
  )

/** The cluster that the program says is the one. */
export const namedBy = ({ process }: Settings): bigint | undefined =>
  process.client?.clusterId === undefined ? undefined : EtcdId.ClusterId(process.client.clusterId)

/** What is wrong with a cluster, where the program says that another one is meant. */
export const otherThanNamed = (settings: Settings, clusterId: bigint): EtcdMemberError.EtcdMemberError | undefined => {
  const named = namedBy(settings)
  if (named === undefined || named === clusterId) return undefined
  const message =
    `This instance would be of the cluster ${EtcdId.format(clusterId)}, by its data, its peers and its token, and the ` +
    `option client says that it is of ${EtcdId.format(named)}. Give the right clusterId, peers or dataDir.`
  return wrongCluster(message, named, [clusterId])
}

const wait = (what: string, details: ReadonlyArray<string>): Decision => ({
  ...{ _tag: "Wait", what },
  details: details.filter((text) => text !== "").join("; ")
})

const urlsOf = (which: ReadonlyArray<{ readonly url: string }>): ReadonlyArray<string> => which.map(({ url }) => url)

const isUndecided = ({ clusterId }: { readonly clusterId: bigint | undefined }): boolean => clusterId === undefined

const list = (texts: ReadonlyArray<string>): string => texts.join(", ")

const nobodies = (answers: ReadonlyMap<string, Answer>): string => {
  const absent = [...answers].flatMap(([url, answer]) => (answer._tag === "Nobody" ? [`${url} (${answer.why})`] : []))
  return absent.length === 0 ? "" : `not there: ${list(absent)}`
}

/** The clusters of those who answered as etcd does, each with their URLs. */
export const clustersOf = (answers: ReadonlyMap<string, Answer>): ReadonlyMap<bigint, ReadonlyArray<string>> => {
  const clusters = new Map<bigint, Array<string>>()
  for (const [url, answer] of answers) {
    if (answer._tag !== "Etcd") continue
    clusters.set(answer.clusterId, [...(clusters.get(answer.clusterId) ?? []), url])
  }
  return clusters
}

/** In words: which cluster is where. */
export const describeClusters = (clusters: ReadonlyMap<bigint, ReadonlyArray<string>>): string =>
  list([...clusters].map(([id, urls]) => `${EtcdId.format(id)} at ${list(urls)}`))

/**
 * `answers`: of all but this instance.
 *
 * `since`: from when on it has waited. Of two with the same name the one that came later hears that it did; where an answer
 * took too long to tell, the one whose URL comes later.
 */
export const decide = (
  settings: Settings,
  declared: Declared,
  answers: ReadonlyMap<string, Answer>,
  since: number
): Decision => {
  const { name, size } = settings
  const clusters = clustersOf(answers)
  const [clusterId] = clusters.keys()
  const all = [...answers.values()]
  if (clusters.size > 1) {
    return {
      _tag: "Refuse",
      error: wrongCluster(
        `The peers that were given belong to different clusters: ${describeClusters(clusters)}. Give those of one.`,
        declared.clusterId,
        [...clusters.keys()]
      )
    }
  }
  const waiting = [...answers].flatMap(([url, answer]) => (answer._tag === "Waiting" ? [{ ...answer, url }] : []))
  const namesakes = waiting.filter((one) => one.name === name)
  const earlier = namesakes.filter(
    ({ asked: { from, to }, url, waitedMillis }) =>
      waitedMillis >= to - since || (waitedMillis >= from - since && url < settings.peerUrl)
  )
  if (earlier.length > 0) {
    return { _tag: "Refuse", error: nameInUse(settings, urlsOf(earlier)) }
  }

  const clientUrls = all.flatMap((answer) =>
    answer._tag === "Etcd" ? answer.members.flatMap((member) => member.clientUrls) : []
  )
  if (clusterId !== undefined && clientUrls.length > 0) {
    return { _tag: "Consult", clusterId, clientUrls: [...new Set(clientUrls)] }
  }
  if (declared.clusterId === undefined) {
    const missing = declared.hasOwn ? "" : `, without ${settings.peerUrl}`
    return wait(
      `a cluster to join, or the set to begin one: the peers are ${declared.urls.length} of ${size}${missing}`,
      [nobodies(answers)]
    )
  }
  if (clusterId !== undefined && clusterId !== declared.clusterId) {
    const id = EtcdId.format(declared.clusterId)
    return {
      _tag: "Refuse",
      error: wrongCluster(
        `This instance would begin the cluster ${id} (by its peers and the token "${settings.token}"), and ` +
          `${describeClusters(clusters)} is about to begin. Give all the same peers and the same token.`,
        declared.clusterId,
        [clusterId]
      )
    }
  }
  const beginning = all.filter((answer) => answer._tag === "Etcd").length
  const ready = waiting.filter((one) => one.name !== name && one.clusterId === declared.clusterId).length
  const majority = majorityOf(size)
  if (declared.left !== undefined) {
    return wait(
      `those who stayed in the cluster ${EtcdId.format(declared.left)}, which it has left; to begin another one with ` +
        "the same peers, give all of them another token, or other data directories",
      [nobodies(answers)]
    )
  }
  // They may have done so already, and promised each other something.
  if (beginning >= majority) return wait("the first leader of those who have begun", [nobodies(answers)])
  if (1 + ready + beginning >= majority) {
    return { _tag: "Begin", urls: declared.urls, clusterId: declared.clusterId }
  }
  const but = (what: string, which: ReadonlyArray<{ readonly url: string }>): string =>
    which.length === 0 ? "" : `, and with ${what} ${list(urlsOf(which))}`
  const disagreeing = waiting.filter((one) => one.name !== name && one.clusterId !== declared.clusterId)
  const [undecided, others] = [disagreeing.filter(isUndecided), disagreeing.filter((one) => !isUndecided(one))]
  return wait(
    `a majority of the declared set: ${1 + ready + beginning} of ${size} are there` +
      but("another set or token than this one", others) +
      but("no cluster to begin (a set that is not complete, or one that they have left)", undecided) +
      but("the name of this one", namesakes),
    [nobodies(answers)]
  )
}

export const nameInUse = (
  { name, peerUrl }: Settings,
  peerUrls: ReadonlyArray<string>
): EtcdMemberError.EtcdMemberError => {
  const isSamePlace = peerUrls.some((url) => isSame(url, peerUrl))
  return EtcdMemberError.make(
    new EtcdMemberError.NameInUse({
      message: isSamePlace
        ? `Another instance is alive at ${peerUrl}, where this one was to be. Stop it, or give this one a peerUrl of its own.`
        : `Another instance is named ${name}, and alive at ${list(peerUrls)}. Stop it, or give this one a name of its own.`,
      peerUrls: [...peerUrls]
    })
  )
}
