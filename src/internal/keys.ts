/**
 * Small things that one does with the bytes of keys and values.
 *
 * @internal
 */
import type { Bytes } from "../KeyRange.ts"

const encoder = new TextEncoder()

/** Up to here a loop takes less time than the encoder. */
const shortText = 64

/** What the encoder would say; `undefined` unless the text is ASCII. */
const encodeAscii = (text: string): Uint8Array | undefined => {
  const bytes = new Uint8Array(text.length)
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index)
    if (code > 0x7f) return undefined
    bytes[index] = code
  }
  return bytes
}

const encode = (text: string): Uint8Array =>
  (text.length <= shortText ? encodeAscii(text) : undefined) ?? encoder.encode(text)

/** Whether it is text that has a UTF-8, or bytes. */
export const isBytes = (input: unknown): input is Bytes =>
  typeof input === "string" ? input.isWellFormed() : input instanceof Uint8Array

/** An array is not copied. */
export const toBytes = (input: Bytes): Uint8Array => (typeof input === "string" ? encode(input) : input)

/** Bytes that nobody else has, and that may be kept. */
export const own = (input: Bytes): Uint8Array => (typeof input === "string" ? encode(input) : new Uint8Array(input))

/** Up to this length V8 keeps the elements of a typed array in the object itself, which makes it cheap. */
export const shortData = 64

/** A copy for a little while: a long one is a part of a larger piece of memory. */
export const copy = (bytes: Uint8Array): Uint8Array =>
  bytes.length <= shortData ? new Uint8Array(bytes) : Buffer.from(bytes)

/** The bytes as text by which a `Map` has them: different bytes are different text, which they are not as UTF-8. */
export const nameOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1")

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
