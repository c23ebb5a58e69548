import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { frame, MessageDecoder } from "../../../src/internal/grpc/framing.ts"

const decode = (pieces: ReadonlyArray<Uint8Array>, limit = 1 << 20) => {
  const decoder = new MessageDecoder(limit)
  const messages: Array<Uint8Array> = []
  for (const piece of pieces) {
    const failure = decoder.push(piece, (message) => void messages.push(message))
    if (failure !== undefined) return { messages, failure, decoder }
  }
  return { messages, failure: undefined, decoder }
}

const cut = (bytes: Uint8Array, at: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const cuts = [0, ...at.map((position) => position % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return cuts.slice(1).map((end, index) => bytes.subarray(cuts[index], end))
}

describe("framing", () => {
  it("gives back any messages, however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }),
        fc.array(fc.nat({ max: 400 }), { maxLength: 12 }),
        (messages, at) => {
          const { decoder, failure, messages: decoded } = decode(cut(Buffer.concat(messages.map(frame)), at))
          assert.isUndefined(failure)
          assert.isTrue(decoder.isComplete)
          assert.deepStrictEqual(decoded, messages)
        }
      )
    )
  })

  it("knows when a message is not complete", () => {
    const whole = frame(new Uint8Array(10))
    for (let length = 1; length < whole.length; length++) {
      assert.isFalse(decode([whole.subarray(0, length)]).decoder.isComplete, `${length}`)
    }
    assert.strictEqual(decode([whole.subarray(0, 3)]).decoder.progress, "3 of 5 bytes of a message's prefix")
    assert.strictEqual(decode([whole.subarray(0, 9)]).decoder.progress, "4 of 10 bytes of a message")
  })

  it("refuses a compressed message, and one over the limit, as soon as the prefix says so", () => {
    assert.deepStrictEqual(decode([Buffer.from([1, 0, 0, 0, 1])]).failure, { _tag: "Compressed", flag: 1 })
    const tooLarge = { _tag: "TooLarge", length: 0xffffffff } as const
    assert.deepStrictEqual(decode([Buffer.from([0, 255, 255, 255, 255])]).failure, tooLarge)
    assert.isUndefined(decode([frame(new Uint8Array(10))], 10).failure)
    assert.deepStrictEqual(decode([frame(new Uint8Array(11))], 10).failure, { _tag: "TooLarge", length: 11 })
  })

  it("does not copy a message that fills its memory, and does not let a small one keep much", () => {
    const large = new Uint8Array(5 + 1000)
    large.set(frame(new Uint8Array(1000).fill(1)))
    assert.strictEqual(decode([large]).messages[0]!.buffer, large.buffer)
    const slab = new Uint8Array(65536)
    slab.set(frame(new Uint8Array(10)))
    const small = decode([slab.subarray(0, 15)]).messages[0]!
    assert.strictEqual(small.buffer.byteLength, 10)
  })

  it("takes random bytes without throwing", () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (pieces) => void decode(pieces, 1000)))
  })
})
