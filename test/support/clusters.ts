/**
 * What a cluster of the tests is like, and a client of it.
 */
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdCluster from "../../src/EtcdCluster.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdMembership from "../../src/EtcdMembership.ts"
import type * as EtcdOperations from "../../src/EtcdOperations.ts"

export const membersOf = ({ members }: EtcdCluster.Cluster) => SubscriptionRef.getUnsafe(members)

export const namesOf = (cluster: EtcdCluster.Cluster) => membersOf(cluster).map(({ name }) => name)

export const named = (cluster: EtcdCluster.Cluster, name: string) =>
  membersOf(cluster).find((node) => node.name === name)!

export const titles = ({ steps }: EtcdOperations.Report) => steps.map(({ title }) => title)

/** A client of the cluster, for as long as it takes. */
export const by = (cluster: EtcdCluster.Cluster) => Effect.provide(EtcdLayer.connect({ endpoints: cluster.endpoints }))

/** Who etcd says is a member, a learner with a question mark. */
export const listed = (cluster: EtcdCluster.Cluster) =>
  Effect.map(EtcdMembership.list(), ({ members }) =>
    members.map(({ isLearner, name }) => `${name}${isLearner ? "?" : ""}`).sort()
  ).pipe(by(cluster))
