/**
 * Which id a cluster gets that is made of members and a token (`computeMemberID` and `genID` in etcd's
 * `server/etcdserver/api/membership`).
 *
 * @internal
 */
import type { Member } from "./restoreMember.ts"

const digest = (bytes: Uint8Array): bigint =>
  globalThis.process.getBuiltinModule("node:crypto").createHash("sha1").update(bytes).digest().readBigUInt64BE()

const memberIdOf = ({ peerUrls }: Pick<Member, "peerUrls">, token: string): bigint =>
  digest(Buffer.from([...peerUrls].sort().join("") + token))

export const clusterIdOf = (members: ReadonlyArray<Pick<Member, "peerUrls">>, token: string): bigint => {
  const ids = members.map((member) => memberIdOf(member, token)).sort((a, b) => (a < b ? -1 : 1))
  const bytes = Buffer.alloc(8 * ids.length)
  for (const [index, id] of ids.entries()) bytes.writeBigUInt64BE(id, 8 * index)
  return digest(bytes)
}
