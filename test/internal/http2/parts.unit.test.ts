/** The parts below a connection, each on its own: the reader of frames, windows, settings, and the outbox. */
import type * as net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { FrameReader } from "../../../src/internal/http2/FrameReader.ts"
import { HeaderReader } from "../../../src/internal/http2/HeaderReader.ts"
import { HeldBytes } from "../../../src/internal/http2/HeldBytes.ts"
import { Outbox } from "../../../src/internal/http2/Outbox.ts"
import type { Stream } from "../../../src/internal/http2/Stream.ts"
import { StreamTable } from "../../../src/internal/http2/StreamTable.ts"
import { readSettings } from "../../../src/internal/http2/settings.ts"
import { ReceiveWindow, SendWindow } from "../../../src/internal/http2/windows.ts"
import * as Frames from "../../support/http2/frames.ts"
import { makeRandom, type Random } from "../../support/random.ts"

const bytes = (...values: ReadonlyArray<number>): Uint8Array => Uint8Array.from(values)
const plain = (buffer: Uint8Array): Uint8Array => new Uint8Array(buffer)
const filled = (length: number): Uint8Array => new Uint8Array(length).map((_, index) => index)

/** Cuts bytes into random pieces. */
const cut = (random: Random, whole: Uint8Array, longest: number): ReadonlyArray<Uint8Array> => {
  const pieces: Array<Uint8Array> = []
  for (let at = 0; at < whole.length; ) {
    const length = 1 + random(longest)
    pieces.push(whole.slice(at, at + length))
    at += length
  }
  return pieces
}

/** What a reader makes of chunks, with the pieces of each DATA frame put together. */
const readFrames = (chunks: ReadonlyArray<Uint8Array>) => {
  const seen: Array<{ type: number; flags: number; stream: number; payload: Array<number> }> = []
  const broken: Array<number> = []
  let due = 0
  const reader = new FrameReader({
    onFrame: (type, flags, stream, from, start, end) =>
      void seen.push({ type, flags, stream, payload: [...from.subarray(start, end)] }),
    onData: (stream, from, start, end, frameLength, isEnd) => {
      if (due === 0) {
        seen.push({ type: 0, flags: 0, stream, payload: [] })
        due = frameLength
      }
      const frame = seen[seen.length - 1]!
      frame.payload.push(...from.subarray(start, end))
      if (isEnd) frame.flags = 1
      due -= end - start
    },
    onBroken: (code) => {
      broken.push(code)
      reader.stop()
    }
  })
  for (const chunk of chunks) reader.push(chunk)
  return { seen, broken }
}

describe("FrameReader", () => {
  const sent = [
    Frames.settings({ 3: 100 }),
    Frames.headers(1, Frames.grpcHeaders),
    Frames.data(1, filled(300)),
    Frames.data(1, new Uint8Array(0), Frames.Flag.endStream),
    Frames.frame(0, 0x8, 3, Buffer.concat([bytes(4), filled(20), new Uint8Array(4)])),
    Frames.frame(0x77, 0xff, 5, filled(40)),
    Frames.data(7, filled(16384), Frames.Flag.endStream),
    Frames.ping()
  ]
  const whole = plain(Buffer.concat(sent))
  const expected = readFrames([whole])

  it("finds the frames, whatever the chunks", () => {
    assert.deepStrictEqual(
      expected.seen.map(({ type, stream, payload }) => [type, stream, payload.length]),
      [
        [4, 0, 6],
        [1, 1, 44],
        [0, 1, 300],
        [0, 1, 0],
        [0, 3, 25],
        [0x77, 5, 40],
        [0, 7, 16384],
        [6, 0, 8]
      ]
    )
    const random = makeRandom(1)
    for (const longest of [1, 2, 3, 8, 9, 10, 100, 5000]) {
      for (let round = 0; round < 4; round++) {
        assert.deepStrictEqual(readFrames(cut(random, whole, longest)), expected)
      }
    }
  })

  it("refuses a frame that is too large as soon as its length is there", () => {
    for (const type of [0, 1]) {
      const frame = plain(Frames.frame(type, 0, 1, new Uint8Array(16385)))
      assert.deepStrictEqual(readFrames([frame.subarray(0, 9)]), { seen: [], broken: [6] })
      assert.deepStrictEqual(readFrames([frame.subarray(0, 5), frame.subarray(5, 20)]), { seen: [], broken: [6] })
    }
  })

  it("stops in the middle of a chunk", () => {
    let count = 0
    const reader = new FrameReader({
      onFrame: () => {
        count++
        reader.stop()
      },
      onData: () => {},
      onBroken: () => {}
    })
    reader.push(plain(Buffer.concat([Frames.ping(), Frames.ping()])))
    assert.strictEqual(count, 1)
  })
})

describe("windows", () => {
  it("a send window may be below zero, but not above 2^31 - 1", () => {
    const window = new SendWindow(10)
    assert.isTrue(window.grow(-100))
    assert.strictEqual(window.size, -90)
    assert.isTrue(window.grow(0x7fffffff))
    assert.isFalse(window.grow(91))
  })

  it("a receive window is given back in halves, and what is over it is refused", () => {
    const window = new ReceiveWindow(100)
    assert.isTrue(window.receive(100))
    assert.isFalse(window.receive(1))
    const other = new ReceiveWindow(100)
    assert.isTrue(other.receive(60))
    assert.strictEqual(other.free(49), 0)
    assert.strictEqual(other.free(11), 60)
    assert.isTrue(other.receive(100))
  })
})

describe("readSettings", () => {
  const read = (payload: Uint8Array) => {
    const seen: Array<readonly [number, number]> = []
    const broken = readSettings(payload, 0, payload.length, (id, value) => void seen.push([id, value]))
    return broken?.code ?? seen
  }
  const payload = (values: Readonly<Record<number, number>>) => plain(Frames.settings(values)).subarray(9)

  it("takes what the rules allow, and codes what they do not", () => {
    assert.deepStrictEqual(read(payload({ 3: 0xffffffff, 4: 0x7fffffff, 5: 16384, 99: 1 })), [
      [3, 0xffffffff],
      [4, 0x7fffffff],
      [5, 16384],
      [99, 1]
    ])
    assert.strictEqual(read(payload({ 2: 1 })), 1)
    assert.strictEqual(read(payload({ 4: 0x80000000 })), 3)
    assert.strictEqual(read(payload({ 5: 16383 })), 1)
    assert.strictEqual(read(payload({ 5: 0x1000000 })), 1)
    assert.strictEqual(read(bytes(0, 1, 0)), 6)
  })
})

describe("HeaderReader", () => {
  const read = (reader: HeaderReader, list: Frames.HeaderList) => {
    const block = plain(Frames.headerBlock(list))
    return reader.read(block, 0, block.length)
  }
  const malformed = (list: Frames.HeaderList) => {
    const block = read(new HeaderReader(), list)
    return typeof block === "string" ? block : block.malformed
  }

  it("joins the values of a header that comes twice, and takes any name as a name", () => {
    const block = read(new HeaderReader(), [
      [":status", "200"],
      ["a", "1"],
      ["a", "2"],
      ["__proto__", "x"],
      ["constructor", "y"]
    ])
    assert.isNotString(block)
    if (typeof block === "string") return
    assert.strictEqual(block.status, 200)
    assert.isUndefined(block.malformed)
    assert.deepStrictEqual(Object.entries(block.headers), [
      ["a", "1, 2"],
      ["__proto__", "x"],
      ["constructor", "y"]
    ])
  })

  it("says what is malformed", () => {
    const good = Frames.grpcHeaders
    assert.isUndefined(malformed(good))
    assert.match(malformed([...good, ["Bad", "x"]])!, /lower case/)
    assert.match(malformed([...good, ["", "x"]])!, /name/)
    assert.match(malformed([...good, ["a b", "x"]])!, /name/)
    assert.match(malformed([...good, ["a", "x\r\ny"]])!, /value of its header "a"/)
    assert.match(malformed([...good, ["connection", "close"]])!, /"connection"/)
    assert.match(malformed([...good, [":status", "200"]])!, /two values|first/)
    assert.match(
      malformed([
        ["a", "b"],
        [":status", "200"]
      ])!,
      /first/
    )
    assert.match(malformed([[":path", "/"]])!, /pseudo header/)
    for (const status of ["", "99", "1000", "2e2", "-20"])
      assert.match(malformed([[":status", status]])!, /three digits/)
    assert.match(malformed([...good, ["a", "x".repeat(70_000)]])!, /larger than/)
  })

  it("gives a block that comes again as the same object, until the table changes", () => {
    const reader = new HeaderReader()
    const indexed = bytes(0x88)
    const first = reader.read(indexed, 0, 1)
    assert.strictEqual(reader.read(indexed, 0, 1), first)
    const insertion = bytes(0x40, 1, 0x61, 1, 0x62)
    reader.read(insertion, 0, 5)
    const newest = bytes(0xbe)
    assert.propertyVal((reader.read(newest, 0, 1) as { headers: object }).headers, "a", "b")
    assert.strictEqual(reader.read(newest, 0, 1), reader.read(newest, 0, 1))
    reader.read(bytes(0x40, 1, 0x61, 1, 0x63), 0, 5)
    assert.propertyVal((reader.read(newest, 0, 1) as { headers: object }).headers, "a", "c")
  })
})

describe("StreamTable", () => {
  it("knows the streams that are open, whatever their number and age", () => {
    const random = makeRandom(7)
    const table = new StreamTable()
    const open = new Map<number, Stream>()
    let nextId = 1
    const opened = () => {
      const stream = { id: nextId } as Stream
      nextId += 2
      table.add(stream)
      open.set(stream.id, stream)
    }
    const closed = (id: number) => {
      assert.strictEqual(table.delete(id), open.delete(id))
      assert.isUndefined(table.get(id))
    }
    // The first ten are never closed, as watches are.
    const lasting = 10
    for (let step = 0; step < 20_000; step++) {
      opened()
      const wanted = step % 5000 < 2500 ? 20 : 2000
      while (open.size > wanted) closed([...open.keys()][lasting + random(open.size - lasting)]!)
      const some = random(2) === 0 ? 1 + 2 * random(lasting) : 1 + 2 * random(nextId >>> 1)
      assert.strictEqual(table.get(some), open.get(some))
      assert.strictEqual(table.size, open.size)
    }
    assert.isFalse(table.delete(nextId))
    assert.deepStrictEqual(table.values(), [...open.values()])
    table.clear()
    assert.deepStrictEqual([table.size, table.values().length], [0, 0])
  })
})

describe("HeldBytes", () => {
  it("gives back what was put in, close together", () => {
    const random = makeRandom(4)
    const whole = filled(200_000)
    const held = new HeldBytes()
    const back: Array<Uint8Array> = []
    for (const piece of cut(random, whole, 3000)) {
      held.push(piece, 0, piece.length)
      if (random(40) === 0) back.push(held.shift()!)
    }
    while (!held.isEmpty) back.push(held.shift()!)
    assert.isTrue(Buffer.concat(back).equals(whole))
    assert.isUndefined(held.shift())
  })
})

describe("Outbox", () => {
  /** A socket that keeps what it is given. */
  const makeSocket = () => {
    const writes: Array<Uint8Array> = []
    let corks = 0
    let groups = 0
    const socket = {
      writableNeedDrain: false,
      writableLength: 0,
      write: (piece: Uint8Array) => {
        if (corks === 0) groups++
        writes.push(piece)
        return true
      },
      cork: () => {
        corks++
      },
      uncork: () => {
        corks--
        groups++
      }
    }
    return { outbox: new Outbox(socket as unknown as net.Socket), writes, groups: () => groups }
  }

  it("writes the frames of one turn at once, and never again over what it has handed on", async () => {
    const { groups, outbox, writes } = makeSocket()
    const request = filled(50)
    const expected: Array<Uint8Array> = []
    for (let turn = 0; turn < 300; turn++) {
      for (let call = 0; call < 4; call++) {
        const id = turn * 8 + call * 2 + 1
        outbox.headers(id, bytes(1, 2, 3), call % 2 === 0 ? undefined : bytes(4))
        outbox.message(1, id, request)
        const block = call % 2 === 0 ? bytes(1, 2, 3) : bytes(1, 2, 3, 4)
        expected.push(Frames.frame(1, 4, id, block), Frames.data(id, Frames.message(request), 1))
      }
      outbox.words(8, 0, 0, 1000)
      expected.push(Frames.windowUpdate(0, 1000))
      await Promise.resolve()
      assert.strictEqual(groups(), turn + 1)
      assert.strictEqual(outbox.sentStreamId, turn * 8 + 7)
    }
    assert.isTrue(Buffer.concat(writes).equals(Buffer.concat(expected)))
  })

  it("does not copy what is large", () => {
    const { outbox, writes } = makeSocket()
    const large = filled(10_000)
    outbox.message(0, 1, large)
    outbox.data(1, 1, [bytes(1), large.subarray(5000)], 5001)
    outbox.flush()
    assert.isTrue(writes.some((piece) => piece === large))
    const expected = [
      Frames.data(1, Frames.message(large)),
      Frames.data(1, Buffer.concat([bytes(1), large.subarray(5000)]), 1)
    ]
    assert.isTrue(Buffer.concat(writes).equals(Buffer.concat(expected)))
  })

  it("cuts a header block that is longer than a frame", () => {
    const { outbox, writes } = makeSocket()
    const block = filled(40_000)
    outbox.headers(3, block.subarray(0, 30_000), block.subarray(30_000))
    outbox.flush()
    const frames = readFrames([plain(Buffer.concat(writes))]).seen
    assert.deepStrictEqual(
      frames.map(({ flags, payload, type }) => [type, flags, payload.length]),
      [
        [1, 0, 16384],
        [9, 0, 16384],
        [9, 4, 7232]
      ]
    )
    assert.isTrue(Buffer.from(frames.flatMap(({ payload }) => payload)).equals(block))
  })
})
