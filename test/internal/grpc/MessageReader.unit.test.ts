import process from "node:process"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { detach } from "../../../src/internal/grpc/framing.ts"
import { MessageReader } from "../../../src/internal/grpc/MessageReader.ts"
import { message } from "../../support/http2/frames.ts"

const frame = (bytes: Uint8Array) => message(bytes)

const decode = (pieces: ReadonlyArray<Uint8Array>, limit = 1 << 20) => {
  const reader = new MessageReader(limit)
  const messages: Array<Uint8Array> = []
  const sink = {
    onMessage: (bytes: Uint8Array, start: number, end: number) => void messages.push(detach(bytes, start, end))
  }
  for (const piece of pieces) {
    const failure = reader.push(piece, 0, piece.length, sink)
    if (failure !== undefined) return { messages, failure, reader }
  }
  return { messages, failure: undefined, reader }
}

const cut = (bytes: Uint8Array, at: ReadonlyArray<number>): ReadonlyArray<Uint8Array> => {
  const cuts = [0, ...at.map((position) => position % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return cuts.slice(1).map((end, index) => bytes.subarray(cuts[index], end))
}

describe("MessageReader", () => {
  it("gives back any messages, however the bytes are cut", () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 }),
        fc.array(fc.nat({ max: 400 }), { maxLength: 12 }),
        (messages, at) => {
          const { failure, messages: decoded, reader } = decode(cut(Buffer.concat(messages.map(frame)), at))
          assert.isUndefined(failure)
          assert.isTrue(reader.isComplete)
          assert.deepStrictEqual(decoded, messages)
        }
      )
    )
  })

  it("knows when a message is not complete", () => {
    const whole = frame(new Uint8Array(10))
    for (let length = 1; length < whole.length; length++) {
      assert.isFalse(decode([whole.subarray(0, length)]).reader.isComplete, `${length}`)
    }
    assert.strictEqual(decode([whole.subarray(0, 3)]).reader.progress, "3 of 5 bytes of a message's prefix")
    assert.strictEqual(decode([whole.subarray(0, 9)]).reader.progress, "4 of 10 bytes of a message")
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

  it("puts a long message together from any pieces, in memory that grows with it", () => {
    const sizes = [0, 1, 100, 66_000, 300_000, 1_100_000, 3]
    const messages = sizes.map((size) => new Uint8Array(size).map((_, index) => index))
    const whole = new Uint8Array(Buffer.concat(messages.map(frame)))
    for (const longest of [9, 1000, 16_384, 2_000_000]) {
      const pieces: Array<Uint8Array> = []
      for (let at = 0; at < whole.length; at += longest) pieces.push(whole.slice(at, at + longest))
      const decoded = decode(pieces, 2_000_000)
      assert.isUndefined(decoded.failure)
      assert.isTrue(decoded.reader.isComplete)
      assert.strictEqual(decoded.messages.length, messages.length)
      decoded.messages.forEach((message, index) => {
        assert.isTrue(Buffer.from(message).equals(messages[index]!))
        assert.isAtMost(message.buffer.byteLength, Math.max(64, message.length * 2))
      })
    }
  })

  it("takes memory as bytes arrive, and not because a prefix announces them", () => {
    const before = process.memoryUsage().arrayBuffers
    const { failure, reader } = decode([Uint8Array.of(0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3)], 0xffffffff)
    assert.isUndefined(failure)
    assert.isBelow(process.memoryUsage().arrayBuffers - before, 10_000_000)
    assert.strictEqual(reader.progress, "3 of 4294967295 bytes of a message")
  })

  it("takes random bytes without throwing", () => {
    fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (pieces) => void decode(pieces, 1000)))
  })
})
