import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Log from "../../../src/internal/files/log.ts"
import { owner } from "../../../src/internal/files/owner.ts"
import { temporaryDirectory } from "../../support/machine.ts"

/** Bit by bit, and not by a table. */
const checksumOf = (start: number, bytes: Uint8Array): number => {
  let value = ~start >>> 0
  for (const byte of bytes) {
    value ^= byte
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  }
  return ~value >>> 0
}

const number = (value: bigint): Array<number> =>
  value < 0x80n ? [Number(value)] : [Number(value & 0x7fn) | 0x80, ...number(value >> 7n)]

/** A message of numbers, by their fields. */
const message = (...numbers: ReadonlyArray<bigint>) =>
  Uint8Array.from(numbers.flatMap((value, index) => [(index + 1) << 3, ...number(value)]))

/** Writes files of a log as etcd does. */
const writer = () => {
  let checksum = 0
  const record = (type: number, data?: Uint8Array) => {
    if (data !== undefined) checksum = checksumOf(checksum, data)
    const body = [0x08, type, 0x10, ...number(BigInt(checksum))]
    if (data !== undefined) body.push(0x1a, ...number(BigInt(data.length)), ...data)
    const padding = -body.length & 7
    const bytes = Buffer.alloc(8 + body.length + padding)
    bytes.writeBigUInt64LE(BigInt(body.length))
    if (padding > 0) bytes[7] = 0x80 | padding
    bytes.set(body, 8)
    return bytes
  }
  return {
    begin: () => record(4),
    metadata: () => record(1, message(0xf00d_f00d_f00d_f00dn, 0x8000_0000_0000_0001n)),
    entry: (term: bigint, index: bigint, length = 10) =>
      record(
        2,
        Buffer.concat([
          message(0n, term, index),
          Buffer.from([0x22, ...number(BigInt(length))]),
          Buffer.alloc(length, 7)
        ])
      ),
    removal: (term: bigint, index: bigint, member: bigint) => {
      const change = message(7n, 1n, member)
      return record(2, Buffer.concat([message(1n, term, index), Buffer.from([0x22, change.length]), change]))
    },
    state: (term: bigint, commit: bigint) => record(3, message(term, 5n, commit)),
    snapshot: (index: bigint, term: bigint) => record(5, message(index, term))
  }
}

const read = (...files: ReadonlyArray<ReadonlyArray<Buffer>>) => {
  const reader = Log.makeReader()
  for (const file of files) reader.add(Buffer.concat([...file, Buffer.alloc(600)]))
  return reader.end()
}

const sound = (log: Log.Log | Log.Damage): Log.Log => (Log.isDamage(log) ? assert.fail(log.damage) : log)

describe("a log", () => {
  it("has come to its last entry, which may have taken the place of later ones, and to what is committed", () => {
    const { begin, entry, metadata, snapshot, state } = writer()
    const first = [begin(), metadata(), snapshot(0n, 0n), entry(1n, 1n), entry(1n, 2n), state(1n, 1n), entry(1n, 3n)]
    const second = [begin(), metadata(), entry(300n, 2n, 100), state(300n, 1n)]
    const log = sound(read(first, second))
    assert.deepStrictEqual(log.last, { term: 300n, index: 2n })
    assert.deepStrictEqual(log.state, { term: 300n, vote: 5n, commit: 1n })
    assert.strictEqual(log.memberId, 0xf00d_f00d_f00d_f00dn)
    assert.strictEqual(log.clusterId, 0x8000_0000_0000_0001n)
    assert.isFalse(log.isTorn)
    assert.strictEqual(log.end, Buffer.concat(second).length)
    // A member that was sent a snapshot has no entries before it.
    assert.deepStrictEqual(sound(read(first, second, [begin(), snapshot(9n, 301n)])).last, { term: 301n, index: 9n })
  })

  it("is committed by more records, which are read as etcd's are, and after which whose it is has a vote", () => {
    const { begin, entry, metadata, removal, state } = writer()
    const self = 0xf00d_f00d_f00d_f00dn
    const file = [begin(), metadata(), entry(2n, 1n), state(2n, 0n), entry(2n, 127n), removal(2n, 128n, 5n)]
    const log = sound(read(file))
    assert.deepStrictEqual([log.last.index, log.state.commit, log.sinceRemoval.length], [128n, 0n, 0])
    const committed = sound(read([...file, Buffer.from(Log.commitAll(log))]))
    // One of its own is after all that was there.
    assert.deepStrictEqual(committed.state, { term: 2n, vote: 5n, commit: 129n })
    assert.strictEqual(committed.last.index, 129n)
    assert.isFalse(committed.isTorn)

    // That it was removed is taken back, and what came after that is not.
    const removed = [...file, removal(3n, 129n, self), entry(3n, 130n), entry(3n, 131n)]
    const other = sound(read(removed))
    assert.deepStrictEqual(
      other.sinceRemoval.map(({ index }) => index),
      [129n, 130n, 131n]
    )
    const goesOn = sound(read([...removed, Buffer.from(Log.commitAll(other))]))
    assert.deepStrictEqual([goesOn.state.commit, goesOn.last.index, goesOn.sinceRemoval.length], [132n, 132n, 0])
    // As where it was overruled.
    assert.deepStrictEqual(sound(read([...removed, entry(4n, 129n)])).sinceRemoval, [])
  })

  it("ends where a record was not written to its end, and is damaged where one was changed", () => {
    const { begin, entry, metadata } = writer()
    const file = [begin(), metadata(), entry(1n, 1n)]
    const { length } = Buffer.concat(file)
    // Of a record that goes over several sectors of the disk, those that were written are there.
    const next = entry(1n, 2n, 1000)
    for (const kept of [1, 8, 512 - length]) {
      const torn = sound(read([...file, Buffer.concat([next.subarray(0, kept), Buffer.alloc(1200)])]))
      assert.deepStrictEqual([torn.isTorn, torn.end, torn.last.index], [true, length, 1n], `${kept}`)
    }
    const changed = Buffer.from(next)
    changed[60]! ^= 1
    assert.match((read([...file, changed]) as Log.Damage).damage, /^the record at \d+ is not what its checksum says$/)
    const other = writer()
    const strange = [other.begin(), other.metadata(), other.entry(5n, 5n), other.begin()]
    assert.match((read(file, strange.slice(3)) as Log.Damage).damage, /does not go on/)
    assert.match((read([...file, next.subarray(0, 8)], [begin()]) as Log.Damage).damage, /within a record/)
    assert.match((read([]) as Log.Damage).damage, /whose it is/)
  })

  it.live("is blank where nothing was written since it was made, and it has one file", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const isBlank = (name: string, ...records: ReadonlyArray<Buffer>) => {
        writeFileSync(join(directory, `${name}.wal`), Buffer.concat([...records, Buffer.alloc(600)]))
        return Effect.map(
          owner(directory),
          Option.exists((found) => found !== "unreadable" && found.isBlank)
        )
      }
      const { begin, entry, metadata, snapshot, state } = writer()
      const made = [begin(), metadata(), snapshot(0n, 0n)]
      const [first, second] = [0, 1].map((number) => `${String(number).padStart(16, "0")}-${"0".repeat(16)}`) as [
        string,
        string
      ]
      assert.isTrue(yield* isBlank(first, ...made))
      for (const more of [entry(1n, 1n), state(1n, 0n), snapshot(5n, 1n), Buffer.from([1])]) {
        assert.isFalse(yield* isBlank(first, ...made, more))
      }
      assert.isFalse(yield* isBlank(second, ...made))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
