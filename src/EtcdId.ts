/**
 * The 64-bit numbers that etcd names things by.
 *
 * etcd prints them in hexadecimal; on the wire they are 64-bit integers, so here they are `bigint`, and branded so that
 * a member is not taken for a lease.
 *
 * @since 0.1.0
 */
import * as Brand from "effect/Brand"
import * as Option from "effect/Option"

/**
 * The id of a cluster member.
 *
 * @category models
 * @since 0.1.0
 */
export type MemberId = Brand.Branded<bigint, "effect-etcd/MemberId">

/**
 * @category constructors
 * @since 0.1.0
 */
export const MemberId = Brand.nominal<MemberId>()

/**
 * The id of a cluster.
 *
 * @category models
 * @since 0.1.0
 */
export type ClusterId = Brand.Branded<bigint, "effect-etcd/ClusterId">

/**
 * @category constructors
 * @since 0.1.0
 */
export const ClusterId = Brand.nominal<ClusterId>()

/**
 * The id of a lease. All 64 bits are used, and etcd treats it as signed.
 *
 * @category models
 * @since 0.1.0
 */
export type LeaseId = Brand.Branded<bigint, "effect-etcd/LeaseId">

/**
 * @category constructors
 * @since 0.1.0
 */
export const LeaseId = Brand.nominal<LeaseId>()

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
export const format = (id: bigint): string => BigInt.asUintN(64, id).toString(16)

const hexadecimal = /^[0-9a-f]{1,16}$/i

/**
 * Reads an id from etcd's hexadecimal text.
 *
 * @category conversions
 * @since 0.1.0
 */
export const parse = (text: string): Option.Option<bigint> =>
  hexadecimal.test(text) ? Option.some(BigInt(`0x${text}`)) : Option.none()
