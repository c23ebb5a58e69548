import { assert, describe, it } from "@effect/vitest"
import fc from "fast-check"
import * as KeyRange from "../src/KeyRange.ts"

const bytes = fc.uint8Array({ minLength: 0, maxLength: 4 })

const compare = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b)

/** What etcd makes of a range: see `RangeRequest` in its API. */
const contains = (range: KeyRange.KeyRange, key: Uint8Array): boolean => {
  if (range.end.length === 0) return compare(range.key, key) === 0
  if (compare(range.key, key) > 0) return false
  return (range.end.length === 1 && range.end[0] === 0) || compare(key, range.end) < 0
}

const startsWith = (key: Uint8Array, prefix: Uint8Array) =>
  key.length >= prefix.length && compare(key.subarray(0, prefix.length), prefix) === 0

const nonEmpty = fc.uint8Array({ minLength: 1, maxLength: 4 })
// Small alphabets, so that prefixes, equal keys and 0xff are common.
const edgy = fc
  .array(fc.constantFrom(0, 1, 0x61, 0xfe, 0xff), { minLength: 0, maxLength: 4 })
  .map((bytes) => Uint8Array.from(bytes))
const edgyKey = edgy.filter((key) => key.length > 0)

describe("KeyRange", () => {
  it("prefix holds exactly the keys that begin with it", () => {
    for (const [prefixes, keys] of [
      [bytes, nonEmpty],
      [edgy, edgyKey]
    ] as const) {
      fc.assert(
        fc.property(
          prefixes,
          keys,
          (prefix, key) => contains(KeyRange.prefix(prefix), key) === startsWith(key, prefix)
        ),
        { numRuns: 2000 }
      )
    }
  })

  it("from holds exactly the keys from it on", () => {
    fc.assert(
      fc.property(edgy, edgyKey, (start, key) => contains(KeyRange.from(start), key) === compare(key, start) >= 0),
      { numRuns: 2000 }
    )
  })

  it("interval holds exactly the keys between, and without an end all from the start on", () => {
    fc.assert(
      fc.property(edgy, edgy, edgyKey, (start, end, key) => {
        const inside = compare(key, start) >= 0 && (end.length === 0 || compare(key, end) < 0)
        return contains(KeyRange.interval(start, end), key) === inside
      }),
      { numRuns: 5000 }
    )
  })

  it("all holds every key, and the empty prefix is all", () => {
    fc.assert(fc.property(edgyKey, (key) => contains(KeyRange.all, key)))
    assert.deepStrictEqual(KeyRange.prefix(""), KeyRange.all)
    assert.deepStrictEqual(KeyRange.from(""), KeyRange.all)
  })

  it("a prefix of 0xff bytes has no key after it", () => {
    assert.deepStrictEqual(KeyRange.prefixEnd(Uint8Array.of(0xff, 0xff)), Uint8Array.of(0))
    assert.deepStrictEqual(KeyRange.prefixEnd(Uint8Array.of(0x61, 0xff)), Uint8Array.of(0x62))
  })

  it("leaves the bytes alone that it is given, a Node.js Buffer too", () => {
    const buffer = Buffer.from("a")
    assert.deepStrictEqual(KeyRange.prefix(buffer).end, Uint8Array.of(0x62))
    assert.strictEqual(buffer.toString(), "a")
  })

  it("keeps what it was made of, whatever becomes of the array", () => {
    const made: ReadonlyArray<(bytes: Uint8Array) => KeyRange.KeyRange> = [
      KeyRange.single,
      KeyRange.prefix,
      KeyRange.from,
      (bytes) => KeyRange.interval(bytes, "z"),
      (bytes) => KeyRange.interval("a", bytes),
      KeyRange.fromInput
    ]
    for (const make of made) {
      const array = Uint8Array.of(0x62, 0x63)
      const buffer = Buffer.from(array)
      const ranges = [make(array), make(buffer)]
      array.fill(0)
      buffer.fill(0)
      for (const range of ranges) assert.deepStrictEqual(range, make(Uint8Array.of(0x62, 0x63)))
    }
  })

  it("gives away nothing that others have: an end is its caller's to change", () => {
    KeyRange.prefixEnd(Uint8Array.of(0xff)).fill(7)
    assert.deepStrictEqual(KeyRange.all, KeyRange.from(""))
    assert.deepStrictEqual([KeyRange.all.key, KeyRange.all.end], [Uint8Array.of(0), Uint8Array.of(0)])
  })

  it("a key alone stands for its own range", () => {
    assert.deepStrictEqual(KeyRange.fromInput("a"), KeyRange.single(Uint8Array.of(0x61)))
    assert.strictEqual(KeyRange.fromInput(KeyRange.all), KeyRange.all)
  })
})
