/**
 * Which place in a cluster an instance without data may take, by the members that the cluster has.
 *
 * @internal
 */
import * as Array from "effect/Array"
import * as EtcdId from "../../EtcdId.ts"
import type * as EtcdMemberError from "../../EtcdMemberError.ts"
import type { Member } from "../../EtcdMembership.ts"
import * as Consult from "./consult.ts"
import * as Decide from "./decide.ts"
import * as Ids from "./ids.ts"
import { type Declared, isSame, type Settings } from "./settings.ts"

export type Place =
  /** A place of the first set that was never taken: begin as the others did. */
  | { readonly _tag: "First"; readonly urls: ReadonlyArray<string> }
  /** Was added, by this instance or for it, and has never started. */
  | { readonly _tag: "Added"; readonly member: Member }
  /** Has the name or the URL of this instance. Where it is dead, its place is free. */
  | { readonly _tag: "Predecessor"; readonly member: Member }
  /** There is a place for a learner. `isToVote`: and then for a voter. */
  | { readonly _tag: "Free"; readonly isToVote: boolean }
  /** Another one is a learner, and is to be a voter first. */
  | { readonly _tag: "Turn"; readonly learner: Member }
  /** There are as many voters as there are to be, and nothing else is wanted. */
  | { readonly _tag: "Full"; readonly learner: Member | undefined }

export const find = (settings: Settings, declared: Declared, { clusterId, members }: Consult.View): Place => {
  const own = members.find(({ peerUrls }) => peerUrls.some((url) => isSame(url, settings.peerUrl)))
  const namesake = members.find((member) => member !== own && member.name === settings.name)
  if (namesake !== undefined) return { _tag: "Predecessor", member: namesake }
  if (own !== undefined) {
    if (own.clientUrls.length > 0) return { _tag: "Predecessor", member: own }
    if (own.name === "") return { _tag: "Added", member: own }
    return clusterId === declared.clusterId && isFirst(settings, own)
      ? { _tag: "First", urls: declared.urls }
      : { _tag: "Predecessor", member: own }
  }
  const learner = members.find((member) => member.isLearner)
  const isToVote = Consult.votersOf(members).length < settings.size
  if (learner !== undefined) return isToVote ? { _tag: "Turn", learner } : { _tag: "Full", learner }
  return isToVote || settings.standby === "learner" ? { _tag: "Free", isToVote } : { _tag: "Full", learner }
}

const isFirst = (settings: Settings, { id, peerUrls }: Member): boolean =>
  peerUrls.length === 1 && id === Ids.ofFirstMember(peerUrls[0]!, settings.token)

/**
 * Whether a cluster began with another token, or all its members were somewhere else by then, which is not told from that.
 * It can be found as long as it has the members that it began with, of whose ids its own is made.
 */
export const strange = (
  settings: Settings,
  declared: Declared,
  { clusterId, members }: Consult.View
): EtcdMemberError.EtcdMemberError | undefined => {
  if (clusterId === declared.clusterId || Decide.namedBy(settings) === clusterId) return undefined
  if (members.some((member) => isFirst(settings, member))) return undefined
  const first = Consult.votersOf(members)
  const began = Ids.ofMembers(first.map(({ id }) => id)) === clusterId
  return began
    ? Decide.wrongCluster(
        `The peers are of the cluster ${EtcdId.format(clusterId)}, which began with another token than ` +
          `"${settings.token}"${declared.clusterId === undefined ? "" : ` (with it, and these peers, it would be ${EtcdId.format(declared.clusterId)})`}. ` +
          "Give the peers of the right cluster, or its token as the option cluster. If this is the right one, and all its " +
          `members have moved since it began, say so: client: { clusterId: EtcdId.ClusterId(0x${EtcdId.format(clusterId)}n) }.`,
        declared.clusterId,
        [clusterId]
      )
    : undefined
}

/** A name for a member that is not this one, as the text of the members has it: names do not matter, but have to differ. */
const nameOf = (url: string): string => url.replace(/^\w+:\/\//, "").replaceAll(/[,=]/g, "-")

/** The members as etcd is told of them. */
export const initialCluster = (
  settings: Settings,
  members: ReadonlyArray<{ readonly peerUrls: ReadonlyArray<string> }>
): Readonly<Record<string, ReadonlyArray<string>>> =>
  Object.fromEntries(
    Array.map(members, ({ peerUrls }) => {
      const isOwn = peerUrls.some((url) => isSame(url, settings.peerUrl))
      return [isOwn ? settings.name : nameOf(peerUrls[0]!), peerUrls]
    })
  )
