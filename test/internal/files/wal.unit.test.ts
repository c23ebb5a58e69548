import { assert, it } from "@effect/vitest"
import * as Wal from "../../../src/internal/files/wal.ts"

const checksum = [0x10, 0xff, 0xff, 0xff, 0xff, 0x0f]

/** A record as etcd writes it. */
const record = (type: number, data?: Uint8Array): Uint8Array => {
  const length = data === undefined ? [] : [0x1a, 0x80 | (data.length & 0x7f), data.length >> 7]
  const message = Uint8Array.of(0x08, type, ...checksum, ...length, ...(data ?? []))
  const padding = -message.length & 7
  const head = Buffer.alloc(8)
  head.writeBigUInt64LE(BigInt(message.length))
  if (padding > 0) head[7] = 0x80 | padding
  return Buffer.concat([head, message, Buffer.alloc(padding)])
}

it("A checksum in a log vouches for the data of records, but for those that may have been torn", () => {
  const ones = new Uint8Array(200).fill(1)
  const zeros = new Uint8Array(1500)
  // It ends with a byte that is not zero, and with some that are, in the next sector.
  const ofTwoSectors = new Uint8Array(300).fill(1)
  const records = [record(4), record(1, ones), record(2, zeros), record(3), record(2, ofTwoSectors), record(2, ones)]
  const file = Buffer.concat([...records, Buffer.alloc(1000)])
  const found = Wal.vouchedFor(file).filter(({ from, to }) => from < to)
  assert.deepStrictEqual(
    found.map(({ from, to }) => to - from),
    [200, 300, 200]
  )
  for (const { from, to } of found) assert.isTrue(file.subarray(from, to).every((byte) => byte === 1))
  assert.deepStrictEqual(Wal.vouchedFor(new Uint8Array(100)), [])
})
