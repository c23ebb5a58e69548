/**
 * Small things that one does with the bytes of keys.
 *
 * @internal
 */
import * as KeyRange from "../../KeyRange.ts"

/** Bytes that nobody else has, and that may be kept. */
export const own = (input: KeyRange.Bytes): Uint8Array =>
  typeof input === "string" ? KeyRange.toBytes(input) : new Uint8Array(input)

/** Up to this length V8 keeps the elements of a typed array in the object itself, which makes it cheap. */
export const shortData = 64

/** A copy for a little while: a long one is a part of a larger piece of memory. */
export const copy = (bytes: Uint8Array): Uint8Array =>
  bytes.length <= shortData ? new Uint8Array(bytes) : Buffer.from(bytes)

/** Negative, zero or positive, as etcd orders keys. */
export const compare = (a: Uint8Array, b: Uint8Array): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

export const concat = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  const both = new Uint8Array(a.length + b.length)
  both.set(a)
  both.set(b, a.length)
  return both
}

const zero = new Uint8Array(1)

/** The first key after this one. */
export const next = (key: Uint8Array): Uint8Array => concat(key, zero)

export const startsWith = (key: Uint8Array, prefix: Uint8Array): boolean =>
  key.length >= prefix.length && compare(key.subarray(0, prefix.length), prefix) === 0

/** The end that means "no upper bound". */
export const isUnbounded = (end: Uint8Array): boolean => end.length === 1 && end[0] === 0

const decoder = new TextDecoder()

/** The key as a message shows it. */
export const show = (key: Uint8Array): string => JSON.stringify(decoder.decode(key))
