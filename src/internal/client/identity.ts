/**
 * Which cluster the client talks to: the one that it was told, or else the first that answers; from then on no other.
 *
 * @internal
 */
import { format } from "../../EtcdId.ts"
import { TransportError } from "../grpc/Transport.ts"
import type { Subchannel } from "./subchannel.ts"

export interface Identity {
  /** 0 before anybody has answered. */
  clusterId: bigint
}

/** Whether this is the id of another cluster. Without an id nothing can be told: so it is with what only looks like etcd. */
export const isOther = (identity: Identity, clusterId: bigint): boolean =>
  clusterId !== identity.clusterId && clusterId !== 0n && identity.clusterId !== 0n

/** An endpoint of the client has answered. Answers whether it is by this that the client's cluster is known. */
export const learn = (identity: Identity, { isListed }: Subchannel, clusterId: bigint): boolean => {
  if (identity.clusterId !== 0n || clusterId === 0n || !isListed) return false
  identity.clusterId = clusterId
  return true
}

/** What is wrong with an answer from another cluster. `processed`: whether that may have acted on the request. */
export const mismatch = (
  { clusterId: expected }: Identity,
  { endpoint }: Subchannel,
  found: bigint,
  processed: "no" | "yes"
): TransportError =>
  new TransportError({
    kind: "Identity",
    code: 9,
    processed,
    message:
      `${endpoint.address} belongs to the cluster ${format(found)}, and this client talks to the cluster ` +
      `${format(expected)}; check the endpoints, or make a new client if the cluster was replaced`,
    clusters: { expected, found }
  })
