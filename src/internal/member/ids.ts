/**
 * The ids that etcd gives to a cluster and its members when it begins.
 *
 * A member's is a hash of its peer URLs and the token of the cluster, the cluster's one of those of its members: names have
 * no part in it. A member that is added later has one that the time is part of, and not the token. (Facts:
 * `computeMemberID` in `server/etcdserver/api/membership/member.go`, `genID` in `cluster.go`, and `MemberAdd` in
 * `server/etcdserver/api/v3rpc/member.go`, of etcd 3.5 to 3.7; the same in 3.4.)
 *
 * @internal
 */

const hash = (bytes: Uint8Array | string): bigint =>
  globalThis.process.getBuiltinModule("node:crypto").createHash("sha1").update(bytes).digest().readBigUInt64BE(0)

/** Of a URL, etcd changes nothing but the case of its scheme. */
export const ofFirstMember = (peerUrl: string, token: string): bigint =>
  hash(peerUrl.replace(/^\w+/, (scheme) => scheme.toLowerCase()) + token)

const ascending = (one: bigint, other: bigint): number => (one < other ? -1 : one > other ? 1 : 0)

export const ofMembers = (members: ReadonlyArray<bigint>): bigint => {
  const bytes = new Uint8Array(8 * members.length)
  const view = new DataView(bytes.buffer)
  for (const [index, id] of [...members].sort(ascending).entries()) view.setBigUint64(8 * index, id)
  return hash(bytes)
}

/** The id of the cluster that members begin which have these peer URLs each. */
export const ofCluster = (members: ReadonlyArray<ReadonlyArray<string>>, token: string): bigint =>
  ofMembers(members.map((peerUrls) => ofFirstMember([...peerUrls].sort().join(""), token)))
