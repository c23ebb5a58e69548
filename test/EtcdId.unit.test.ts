import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as EtcdId from "../src/EtcdId.ts"

describe("EtcdId", () => {
  it("makes the form that answers have of either one", () => {
    const unsigned = 0x8e9e05c52164694dn
    const signed = BigInt.asIntN(64, unsigned)
    for (const id of [unsigned, signed]) {
      assert.strictEqual(EtcdId.MemberId(id), unsigned)
      assert.strictEqual(EtcdId.ClusterId(id), unsigned)
      assert.strictEqual(EtcdId.LeaseId(id), signed)
      assert.strictEqual(EtcdId.format(id), "8e9e05c52164694d")
    }
    assert.deepStrictEqual(EtcdId.parse("8e9e05c52164694d"), Option.some(unsigned))
  })

  it("makes no other number of one that has more than 64 bits, so that it is refused", () => {
    for (const id of [(1n << 64n) + 7n, -(1n << 63n) - 1n]) {
      assert.strictEqual(EtcdId.MemberId(id), id)
      assert.strictEqual(EtcdId.ClusterId(id), id)
      assert.strictEqual(EtcdId.LeaseId(id), id)
    }
    assert.strictEqual(EtcdId.format((1n << 64n) + 7n), "10000000000000007")
    assert.deepStrictEqual(EtcdId.parse("10000000000000007"), Option.none())
  })
})
