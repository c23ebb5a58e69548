/**
 * The numbers that etcd names things by.
 *
 * @internal
 */

/** Whether it is a number of 64 bits, signed or not. */
export const isId = (input: unknown): input is bigint =>
  typeof input === "bigint" && (BigInt.asIntN(64, input) === input || BigInt.asUintN(64, input) === input)
