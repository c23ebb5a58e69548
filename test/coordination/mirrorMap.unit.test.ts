import { assert, describe, it } from "@effect/vitest"
import { bytesOf, keyOf, SortedMap, textOf } from "../../src/internal/coordination/mirrorMap.ts"
import * as Keys from "../../src/internal/keys.ts"
import { makeRandom } from "../support/random.ts"

type Entries = ReadonlyArray<readonly [string, unknown]>

/** Whether these are the same keys, with the very same values. */
const assertSame = (found: Entries, expected: Entries) => {
  assert.strictEqual(found.length, expected.length)
  const other = found.findIndex(([key, value], at) => key !== expected[at]![0] || value !== expected[at]![1])
  assert.deepStrictEqual(found[other], expected[other])
}

const sorted = <A>(model: ReadonlyMap<string, A>) => [...model].sort(([a], [b]) => (a < b ? -1 : 1))

describe("the map of a mirror", () => {
  it("is what a Map would be after the same changes, and its versions stay as they were", () => {
    for (let seed = 0; seed < 4; seed++) {
      const random = makeRandom(seed)
      const keys = 1 + random(2000)
      // Of one kind more than of the other, so that it grows and shrinks.
      const inclinations = [8, 2, 5, 0]
      let map: SortedMap<{ n: number }> = SortedMap.empty()
      const model = new Map<string, { n: number }>()
      const versions: Array<{ map: SortedMap<{ n: number }>; entries: Array<[string, { n: number }]> }> = []
      for (let round = 0; round < 24; round++) {
        const edit = map.edit()
        const inclination = inclinations[Math.floor(round / 6)]!
        for (let n = random(400); n > 0; n--) {
          const key = `key/${random(keys)}`
          if (random(10) < inclination) {
            const value = { n }
            edit.set(key, value)
            model.set(key, value)
          } else {
            edit.delete(key)
            model.delete(key)
          }
          if (n % 50 === 0) assert.strictEqual(edit.get(key), model.get(key))
        }
        map = edit.done()
        assert.strictEqual(map.size, model.size)
        versions.push({ map, entries: sorted(model) })
      }
      for (const { map, entries } of versions) assertSame([...map.entries()], entries)
      const last = sorted(model)
      for (let n = 0; n < 30; n++) {
        const key = `key/${random(keys)}`
        assert.strictEqual(map.get(key), model.get(key))
        const end = `key/${random(keys)}`
        const expected = last.filter(([one]) => one >= key && one < end)
        assertSame([...map.entries(key, end)], expected)
      }
      for (let n = 0; n < 12; n++) {
        const older = versions[random(versions.length)]!
        const newer = versions[random(versions.length)]!
        const replayed = new Map(older.entries)
        const expected = new Map(newer.entries)
        let last = ""
        for (const { after, before, key } of newer.map.since(older.map)) {
          assert.isTrue(key > last, "in the order of the keys, each once")
          last = key
          assert.strictEqual(before, replayed.get(key))
          assert.strictEqual(after, expected.get(key))
          assert.notStrictEqual(before, after)
          if (after === undefined) replayed.delete(key)
          else replayed.set(key, after)
        }
        assertSame(sorted(replayed), newer.entries)
      }
    }
  })

  it("is made of what is sorted", () => {
    for (const count of [0, 1, 191, 192, 193, 5000]) {
      const keys = Array.from({ length: count }, (_, n) => String(n).padStart(5, "0"))
      const map = SortedMap.fromSorted(
        keys,
        keys.map((key) => ({ key }))
      )
      assert.strictEqual(map.size, count)
      assert.deepStrictEqual(
        Array.from(map.entries(), ([key, value]) => [key, value.key]),
        keys.map((key) => [key, key])
      )
      for (const key of keys) assert.strictEqual(map.get(key)?.key, key)
      assert.isUndefined(map.get("x"))
      assert.isUndefined(map.get(""))
    }
  })

  it("has the order of etcd, whatever bytes a key has, and gives them back", () => {
    const random = makeRandom(1)
    const all = [
      ...["", "a", "ä", "日本", "😀", "\0", "a\0", "~"].map(Keys.toBytes),
      ...Array.from({ length: 100 }, () => Uint8Array.from({ length: random(6) }, () => random(256)))
    ]
    for (const a of all) {
      assert.deepStrictEqual(bytesOf(keyOf(a)), new Uint8Array(a))
      for (const b of all) {
        const [x, y] = [keyOf(a), keyOf(b)]
        assert.strictEqual(Math.sign(Keys.compare(a, b)), x < y ? -1 : x > y ? 1 : 0)
      }
    }
    for (const text of ["", "a", "ä", "日本", "😀"]) {
      assert.strictEqual(keyOf(text), keyOf(Keys.toBytes(text)))
      assert.strictEqual(textOf(keyOf(text)), text)
    }
  })
})
