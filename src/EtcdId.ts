/**
 * The 64-bit numbers that etcd names things by.
 *
 * etcd prints them in hexadecimal; on the wire they are 64-bit integers, so here they are `bigint`, and branded so that
 * a member is not taken for a lease.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Option from "effect/Option"
import { isId } from "./internal/ids.ts"

// What has more bits stays as it is, and is refused by whoever is to do something with it: cut off, it would be the id
// of something else.
const unsigned = (id: bigint): bigint => (isId(id) ? BigInt.asUintN(64, id) : id)
const signed = (id: bigint): bigint => (isId(id) ? BigInt.asIntN(64, id) : id)

/**
 * The id of a cluster member: an unsigned number of 64 bits.
 *
 * @category models
 * @since 0.1.0
 */
export type MemberId = Brand.Branded<bigint, "effect-etcd/MemberId">

/**
 * The id of a cluster member, from either form.
 *
 * @example
 * ```ts
 * import { EtcdId, EtcdMaintenance } from "effect-etcd"
 *
 * const handOver = EtcdMaintenance.moveLeader(EtcdId.MemberId(0x8e9e05c52164694dn))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const MemberId = (id: bigint): MemberId => nominalMember(unsigned(id))

const nominalMember = Brand.nominal<MemberId>()

/**
 * The id of a cluster: an unsigned number of 64 bits.
 *
 * @category models
 * @since 0.1.0
 */
export type ClusterId = Brand.Branded<bigint, "effect-etcd/ClusterId">

/**
 * The id of a cluster, from either form.
 *
 * @example
 * ```ts
 * import { EtcdClient, EtcdId } from "effect-etcd"
 *
 * // talks to this cluster, and to no other that may be found at that address
 * const live = EtcdClient.layer({ endpoints: ["10.0.0.1:2379"], clusterId: EtcdId.ClusterId(0xcdf818194e3a8c32n) })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const ClusterId = (id: bigint): ClusterId => nominalCluster(unsigned(id))

const nominalCluster = Brand.nominal<ClusterId>()

/**
 * The id of a lease: a signed number of 64 bits, so that some are negative. What takes one takes the unsigned form too.
 *
 * @category models
 * @since 0.1.0
 */
export type LeaseId = Brand.Branded<bigint, "effect-etcd/LeaseId">

/**
 * The id of a lease, from either form.
 *
 * @example
 * ```ts
 * import { Option } from "effect"
 * import { EtcdId } from "effect-etcd"
 *
 * Option.map(EtcdId.parse("8e9e05c52164694d"), EtcdId.LeaseId) // -8170086329776576179n, as answers have it
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const LeaseId = (id: bigint): LeaseId => nominalLease(signed(id))

const nominalLease = Brand.nominal<LeaseId>()

/**
 * The hexadecimal text that etcd's logs and tools use for an id.
 *
 * @example
 * ```ts
 * import { EtcdId } from "effect-etcd"
 *
 * EtcdId.format(EtcdId.MemberId(0x8e9e05c52164694dn)) // "8e9e05c52164694d"
 * ```
 *
 * @category conversions
 * @since 0.1.0
 */
export const format = (id: bigint): string => unsigned(id).toString(16)

const hexadecimal = /^[0-9a-f]{1,16}$/i

/**
 * Reads an id from etcd's hexadecimal text, as an unsigned number; the constructors of this module make of it what
 * answers have. `None` for what is no number of 1 to 16 hexadecimal digits.
 *
 * @example
 * ```ts
 * import { Option } from "effect"
 * import { EtcdId } from "effect-etcd"
 *
 * const member = Option.map(EtcdId.parse("8e9e05c52164694d"), EtcdId.MemberId)
 * ```
 *
 * @category conversions
 * @since 0.1.0
 */
export const parse = (text: string): Option.Option<bigint> =>
  hexadecimal.test(text) ? Option.some(BigInt(`0x${text}`)) : Option.none()
