/**
 * Which cluster the client talks to: the first that answers, from then on no other.
 *
 * @internal
 */
import { format } from "../../EtcdId.ts"
import { TransportError } from "../grpc/Transport.ts"
import type { Session } from "./session.ts"

export interface Identity {
  /** 0 before anybody has answered. */
  clusterId: bigint
}

/**
 * What is wrong with an answer from this cluster, if anything is. `processed`: whether that cluster may have acted on the
 * request.
 */
export const check = (
  identity: Identity,
  { endpoint, isListed }: Session,
  clusterId: bigint,
  processed: "no" | "yes"
): TransportError | undefined => {
  // Without an id nothing can be told: so it is with servers that only look like etcd.
  if (clusterId === identity.clusterId || clusterId === 0n) return undefined
  if (identity.clusterId === 0n) {
    if (isListed) identity.clusterId = clusterId
    return undefined
  }
  const expected = identity.clusterId
  return new TransportError({
    kind: "Identity",
    code: 9,
    processed,
    message:
      `${endpoint.address} belongs to the cluster ${format(clusterId)}, and this client talks to the cluster ` +
      `${format(expected)}; check the endpoints, or make a new client if the cluster was replaced`,
    clusters: { expected, found: clusterId }
  })
}
