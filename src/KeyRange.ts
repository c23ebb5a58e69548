/**
 * Ranges of keys.
 *
 * etcd orders keys by their bytes and names a range by its first key and the key after its last one. This module makes
 * such ranges, right at the edges: a prefix that ends in `0xff`, and the empty prefix, which is every key.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Predicate from "effect/Predicate"
import * as Json from "./internal/json.ts"
import * as Keys from "./internal/keys.ts"

/**
 * Text (taken as UTF-8) or bytes, for keys and values on their way to etcd.
 *
 * Whoever gives bytes may use the array for something else as soon as the call has begun (its effect runs); what is made
 * of them before that, a {@link KeyRange} or a part of a transaction, has a copy.
 *
 * @category models
 * @since 0.1.0
 */
export type Bytes = string | Uint8Array

const TypeId = "~effect-etcd/KeyRange"

/**
 * A range of keys: one key, or all keys from `key` up to but not including `end`.
 *
 * @category models
 * @since 0.1.0
 */
export interface KeyRange {
  readonly [TypeId]: typeof TypeId
  /** The first key. */
  readonly key: Uint8Array
  /** The key after the last one. Empty: `key` alone. The byte 0: no upper bound. */
  readonly end: Uint8Array
}

/**
 * What functions that take a range accept: a range, or a key for the range of that key alone.
 *
 * @category models
 * @since 0.1.0
 */
export type Input = KeyRange | Bytes

const empty = new Uint8Array(0)
const zero = new Uint8Array(1)

/**
 * The bytes of a key or value; an array that is given is not copied. Half a surrogate pair in a text, which has no UTF-8,
 * becomes U+FFFD; the functions that send keys and values refuse it.
 *
 * @example
 * ```ts
 * import { KeyRange } from "effect-etcd"
 *
 * KeyRange.toBytes("é") // Uint8Array [ 195, 169 ]
 * ```
 *
 * @category conversions
 * @since 0.1.0
 */
export const toBytes: (input: Bytes) => Uint8Array = Keys.toBytes

// A range lives on, and its end follows from what the key was when it was made: it has bytes of its own.
const make = (key: Uint8Array, end: Uint8Array): KeyRange => Json.answer({ [TypeId]: TypeId, key, end } as const)

/** What is no key stays in the range as it is, and is refused by whoever is to do something with the range. */
const refusable = (given: Bytes): KeyRange => make(given as Uint8Array, empty)

/**
 * Whether something is a range that this module has made.
 *
 * @example
 * ```ts
 * import { KeyRange } from "effect-etcd"
 *
 * KeyRange.isKeyRange(KeyRange.prefix("jobs/")) // true
 * KeyRange.isKeyRange("jobs/") // false: a key
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isKeyRange = (input: unknown): input is KeyRange => Predicate.hasProperty(input, TypeId)

/**
 * The range that is meant: a range stays as it is, a key becomes the range of that key alone. For functions of your own
 * that take both.
 *
 * @example
 * ```ts
 * import { EtcdKv, KeyRange } from "effect-etcd"
 *
 * const count = (input: KeyRange.Input) => EtcdKv.range(KeyRange.fromInput(input), { countOnly: true })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromInput = (input: Input): KeyRange => (isKeyRange(input) ? input : single(input))

/**
 * One key. Functions that take a range take the key itself as well.
 *
 * @example
 * ```ts
 * import { EtcdWatch, KeyRange } from "effect-etcd"
 *
 * const one = EtcdWatch.watch(KeyRange.single("settings/color")) // as EtcdWatch.watch("settings/color")
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const single = (key: Bytes): KeyRange => (Keys.isBytes(key) ? make(Keys.own(key), empty) : refusable(key))

/**
 * The first key after all keys that begin with the prefix; the byte 0 (no upper bound) where there is none.
 *
 * @example
 * ```ts
 * import { KeyRange } from "effect-etcd"
 *
 * KeyRange.prefixEnd("a/") // the bytes of "a0"
 * KeyRange.prefixEnd(new Uint8Array([97, 255])) // the bytes of "b"
 * ```
 *
 * @category conversions
 * @since 0.1.0
 */
export const prefixEnd = (prefix: Bytes): Uint8Array => {
  const bytes = toBytes(prefix)
  const last = bytes.findLastIndex((byte) => byte < 0xff)
  if (last === -1) return new Uint8Array(1)
  // A copy: `slice` of a Node.js Buffer is none.
  const end = new Uint8Array(bytes.subarray(0, last + 1))
  end[last]!++
  return end
}

/**
 * All keys that begin with the prefix. The empty prefix is {@link all}.
 *
 * @example
 * ```ts
 * import { EtcdKv, KeyRange } from "effect-etcd"
 *
 * const settings = EtcdKv.range(KeyRange.prefix("settings/"))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const prefix = (prefix: Bytes): KeyRange => {
  if (!Keys.isBytes(prefix)) return refusable(prefix)
  const bytes = Keys.own(prefix)
  return bytes.length === 0 ? all : make(bytes, prefixEnd(bytes))
}

/**
 * All keys from this one on, itself included, up to the last one of the store. From the empty key: {@link all}.
 *
 * @example
 * ```ts
 * import { EtcdKv, KeyRange } from "effect-etcd"
 *
 * const next = EtcdKv.range(KeyRange.from("jobs/0042"), { limit: 1 }) // whatever comes first from there on
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const from = (key: Bytes): KeyRange => {
  if (!Keys.isBytes(key)) return refusable(key)
  const bytes = Keys.own(key)
  return bytes.length === 0 ? all : make(bytes, zero)
}

/**
 * All keys from `start` (included) to `end` (not included). Nothing, where `end` is not after `start`. An empty `end`
 * is no upper bound.
 *
 * @example
 * ```ts
 * import { EtcdKv, KeyRange } from "effect-etcd"
 *
 * const may = EtcdKv.range(KeyRange.interval("logs/2026-05", "logs/2026-06"))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const interval = (start: Bytes, end: Bytes): KeyRange => {
  if (!Keys.isBytes(start) || !Keys.isBytes(end)) return refusable(Keys.isBytes(start) ? end : start)
  const first = Keys.own(start)
  const last = Keys.own(end)
  if (last.length === 0) return from(first)
  // On the wire the byte 0 as an end means "no upper bound", but no key comes before it.
  if (last.length === 1 && last[0] === 0) return make(last.with(0, 1), last.with(0, 1))
  return make(first.length === 0 ? zero : first, last)
}

/**
 * Every key of the store, or, below an `EtcdNamespace`, every key of that.
 *
 * @category constructors
 * @since 0.1.0
 */
export const all: KeyRange = make(zero, zero)
