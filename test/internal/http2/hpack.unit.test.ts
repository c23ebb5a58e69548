/** HPACK: the examples of RFC 7541, appendix C; what breaks its rules; and `node:http2`'s own as the other side. */
import * as http2 from "node:http2"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { HpackDecoder } from "../../../src/internal/http2/HpackDecoder.ts"
import { HpackEncoder } from "../../../src/internal/http2/HpackEncoder.ts"
import type { DynamicTable } from "../../../src/internal/http2/headerTables.ts"
import * as Huffman from "../../../src/internal/http2/huffman.ts"
import * as Frames from "../../support/http2/frames.ts"
import { rawServer } from "../../support/http2/rawServer.ts"
import { makeRandom, type Random } from "../../support/random.ts"

type Fields = ReadonlyArray<readonly [name: string, value: string]>

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(/\s/g, ""), "hex"))

const decodeWith = (decoder: HpackDecoder, block: Uint8Array): Fields | string => {
  const fields: Array<readonly [string, string]> = []
  const failure = decoder.decode(block, 0, block.length, (name, value) => fields.push([name, value]))
  return failure ?? fields
}

const encodeWith = (encoder: HpackEncoder, fields: Fields): Uint8Array => {
  encoder.start()
  for (const [name, value] of fields) encoder.steady(name, value)
  return new Uint8Array(encoder.finish())
}

const tableOf = (table: DynamicTable): Fields =>
  Array.from({ length: table.length }, (_, place) => {
    const { name, value } = table.at(place)!
    return [name, value] as const
  })

const one: Fields = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"]
]
const two: Fields = [...one, ["cache-control", "no-cache"]]
const three: Fields = [
  [":method", "GET"],
  [":scheme", "https"],
  [":path", "/index.html"],
  [":authority", "www.example.com"],
  ["custom-key", "custom-value"]
]
const requests = [one, two, three]
const tablesOfRequests: ReadonlyArray<{ readonly size: number; readonly fields: Fields }> = [
  { size: 57, fields: [[":authority", "www.example.com"]] },
  {
    size: 110,
    fields: [
      ["cache-control", "no-cache"],
      [":authority", "www.example.com"]
    ]
  },
  {
    size: 164,
    fields: [
      ["custom-key", "custom-value"],
      ["cache-control", "no-cache"],
      [":authority", "www.example.com"]
    ]
  }
]

const location = ["location", "https://www.example.com"] as const
const isPrivate = ["cache-control", "private"] as const
const date = ["date", "Mon, 21 Oct 2013 20:13:21 GMT"] as const
const later = ["date", "Mon, 21 Oct 2013 20:13:22 GMT"] as const
const cookie = ["set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"] as const
const answers: ReadonlyArray<Fields> = [
  [[":status", "302"], isPrivate, date, location],
  [[":status", "307"], isPrivate, date, location],
  [[":status", "200"], isPrivate, later, location, ["content-encoding", "gzip"], cookie]
]
const tablesOfAnswers: ReadonlyArray<{ readonly size: number; readonly fields: Fields }> = [
  { size: 222, fields: [location, date, isPrivate, [":status", "302"]] },
  { size: 222, fields: [[":status", "307"], location, date, isPrivate] },
  { size: 215, fields: [cookie, ["content-encoding", "gzip"], later] }
]

/** The blocks of each section, in order, on one connection. */
const sections = {
  "C.3, requests without Huffman coding": [
    "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    "8286 84be 5808 6e6f 2d63 6163 6865",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65"
  ],
  "C.4, requests with Huffman coding": [
    "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
    "8286 84be 5886 a8eb 1064 9cbf",
    "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"
  ],
  "C.5, answers without Huffman coding": [
    `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32
     3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
    "4803 3330 37c1 c0bf",
    `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970
     7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61
     6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`
  ],
  "C.6, answers with Huffman coding": [
    `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad
     1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
    "4883 640e ffc1 c0bf",
    `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2
     e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07`
  ]
}

describe("RFC 7541, appendix C", () => {
  it("C.1, integers", () => {
    const decoder = new HpackDecoder()
    // A size update of 10, and one of 1337, both in a prefix of 5 bits.
    assert.deepStrictEqual(decodeWith(decoder, hex("2a")), [])
    assert.strictEqual(decoder.table.maxSize, 10)
    assert.deepStrictEqual(decodeWith(decoder, hex("3f9a0a")), [])
    assert.strictEqual(decoder.table.maxSize, 1337)
  })

  it("C.2, single fields", () => {
    const indexed = new HpackDecoder()
    const block = hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")
    assert.deepStrictEqual(decodeWith(indexed, block), [["custom-key", "custom-header"]])
    assert.strictEqual(indexed.table.size, 55)
    const plain = new HpackDecoder()
    assert.deepStrictEqual(decodeWith(plain, hex("040c 2f73 616d 706c 652f 7061 7468")), [[":path", "/sample/path"]])
    assert.deepStrictEqual(decodeWith(plain, hex("1008 7061 7373 776f 7264 0673 6563 7265 74")), [
      ["password", "secret"]
    ])
    assert.deepStrictEqual(decodeWith(plain, hex("82")), [[":method", "GET"]])
    assert.strictEqual(plain.table.length, 0)
  })

  it.each(Object.entries(sections))("%s: decoding", (name, blocks) => {
    const isRequest = name.includes("requests")
    const decoder = new HpackDecoder()
    // The examples begin with tables of 4096 bytes, and of 256.
    decodeWith(decoder, hex(isRequest ? "3fe11f" : "3fe101"))
    blocks.forEach((block, index) => {
      assert.deepStrictEqual(decodeWith(decoder, hex(block)), (isRequest ? requests : answers)[index]!)
      const expected = (isRequest ? tablesOfRequests : tablesOfAnswers)[index]!
      assert.strictEqual(decoder.table.size, expected.size)
      assert.deepStrictEqual(tableOf(decoder.table), expected.fields)
    })
  })

  it.each([
    ["C.4, requests with Huffman coding", requests, 4096],
    ["C.6, answers with Huffman coding", answers, 256]
  ] as const)("%s: encoding", (name, lists, tableSize) => {
    const encoder = new HpackEncoder()
    encoder.limitTable(tableSize)
    // The examples do not say so.
    encodeWith(encoder, [])
    lists.forEach((fields, index) => {
      const block = Buffer.from(encodeWith(encoder, fields)).toString("hex")
      assert.strictEqual(block, Buffer.from(hex(sections[name][index]!)).toString("hex"))
    })
  })
})

describe("Huffman", () => {
  it("decodes what it encodes, every byte", () => {
    const random = makeRandom(7)
    for (let round = 0; round < 2000; round++) {
      const text = String.fromCharCode(...Array.from({ length: random(60) }, () => random(256)))
      const bytes = new Uint8Array(Huffman.encodedLength(text))
      assert.strictEqual(Huffman.encode(text, bytes, 0), bytes.length)
      assert.strictEqual(Huffman.decode(bytes, 0, bytes.length), text)
    }
  })

  it("refuses padding that is too long or not of ones, and the end of the string within it", () => {
    assert.isUndefined(Huffman.decode(hex("1fff"), 0, 2))
    assert.isUndefined(Huffman.decode(hex("18"), 0, 1))
    assert.isUndefined(Huffman.decode(hex("fffffffc"), 0, 4))
    assert.isUndefined(Huffman.decode(hex("ffffffff"), 0, 4))
    assert.strictEqual(Huffman.decode(hex("1f"), 0, 1), "a")
    assert.strictEqual(Huffman.decode(hex(""), 0, 0), "")
  })
})

describe("HpackDecoder", () => {
  it.each([
    ["index 0", "80", /index 0/],
    ["an index past the tables", "be", /index 62/],
    ["an integer without end", "ffffffffffffffffff", /too large/],
    ["an integer that is cut off", "ff80", /cut off/],
    ["a string that is cut off", "400a63", /cut off/],
    ["a literal without a value", "44", /cut off/],
    ["a string longer than anything", "007fffffff0f", /cut off|too large/],
    ["an invalid Huffman code", "0084ffffffff00", /Huffman/],
    ["a table larger than was allowed", "3fe21f", /limit of 4096/],
    ["a change of the table's size behind a field", "8220", /middle/]
  ])("refuses %s", (_, block, message) => {
    const failure = decodeWith(new HpackDecoder(), hex(block))
    assert.isString(failure)
    assert.match(failure as string, message)
  })

  it("never fails in another way, whatever comes", () => {
    const random = makeRandom(11)
    for (let round = 0; round < 20_000; round++) {
      const decoder = new HpackDecoder()
      for (let block = 0; block < 3; block++) {
        decodeWith(
          decoder,
          Uint8Array.from({ length: random(40) }, () => random(256))
        )
      }
      assert.isAtMost(decoder.table.size, 4096)
    }
  })
})

const randomText = (random: Random, max: number): string =>
  Array.from({ length: random(max) }, () => String.fromCharCode(33 + random(94))).join("")

const names = ["token", "traceparent", "x-a", "x-b", "x-c", "authorization", "hasleader", "user-agent", ":path"]

const randomFields = (random: Random): Fields =>
  Array.from({ length: random(12) }, () => {
    const value = random(3) === 0 ? randomText(random, random(8) === 0 ? 3000 : 30) : ["a", "bb", "/etcd"][random(3)]!
    return [names[random(names.length)]!, value] as const
  })

describe("HpackEncoder", () => {
  it("is understood by the decoder, with tables of any size that changes on the way", () => {
    const random = makeRandom(3)
    for (let connection = 0; connection < 200; connection++) {
      const encoder = new HpackEncoder()
      const decoder = new HpackDecoder()
      for (let block = 0; block < 40; block++) {
        for (let change = random(8) === 0 ? 1 + random(3) : 0; change > 0; change--) encoder.limitTable(random(4097))
        const fields = randomFields(random)
        encoder.start()
        for (const [name, value] of fields) {
          const how = random(3)
          if (how === 0) encoder.steady(name, value)
          else if (how === 1) encoder.varying(name, value)
          else encoder.volatile(name, value)
        }
        assert.deepStrictEqual(decodeWith(decoder, new Uint8Array(encoder.finish())), fields)
        assert.deepStrictEqual(tableOf(decoder.table), tableOf(encoder.table))
      }
    }
  })

  it("writes a field that comes again as its index", () => {
    const encoder = new HpackEncoder()
    const headers: Fields = [
      [":method", "POST"],
      [":path", "/etcdserverpb.KV/Range"],
      ["te", "trailers"]
    ]
    assert.isAbove(encodeWith(encoder, headers).length, 20)
    assert.strictEqual(encodeWith(encoder, headers).length, 3)
    assert.strictEqual(encoder.literals, 0)
  })

  it("keeps a value that comes again, and of those that always differ one, for the sake of its name", () => {
    const encoder = new HpackEncoder()
    const large = "x".repeat(300)
    for (let call = 0; call < 100; call++) {
      encoder.start()
      encoder.varying("token", "secret")
      encoder.varying("large", large)
      encoder.varying("traceparent", `trace ${call}`)
      encoder.varying("baggage", `${large} ${call}`)
      encoder.varying("authorization", `bearer ${call}`)
      encoder.volatile("grpc-timeout", `${call}m`)
    }
    assert.deepStrictEqual(tableOf(encoder.table), [
      ["large", large],
      ["grpc-timeout", "0m"],
      ["traceparent", "trace 0"],
      ["token", "secret"]
    ])
  })

  it("writes the name of a value that always differs once, and again when others have pushed it out", () => {
    const encoder = new HpackEncoder()
    const traceparent = (call: number) => `00-${call.toString(16).padStart(32, "0")}-00f067aa0ba902b7-01`
    const sizeOf = (call: number) => {
      encoder.start()
      encoder.varying("traceparent", traceparent(call))
      return encoder.finish().length
    }
    const valueSize = (call: number) => 1 + Huffman.encodedLength(traceparent(call))
    assert.isAbove(sizeOf(0), valueSize(0) + "traceparent".length / 2)
    for (let call = 1; call < 20; call++) assert.isAtMost(sizeOf(call), valueSize(call) + 2)
    for (let other = 0; other < 50; other++) encodeWith(encoder, [["other", "o".repeat(100 + other)]])
    assert.isAbove(sizeOf(20), valueSize(20) + "traceparent".length / 2)
    for (let call = 21; call < 40; call++) assert.isAtMost(sizeOf(call), valueSize(call) + 2)
  })

  it("lets many names whose values differ not push out what is the same", () => {
    const encoder = new HpackEncoder()
    const steady: Fields = Array.from(
      { length: 20 },
      (_, index) => [":path", `/etcdserverpb.KV/Method${index}`] as const
    )
    const randomly = makeRandom(13)
    for (let call = 0; call < 200; call++) {
      encodeWith(encoder, steady)
      if (call > 0) assert.strictEqual(encoder.literals, 0)
      encoder.start()
      for (let name = 0; name < 100; name++) encoder.varying(`name-${name}`, `${randomly(1_000_000)}`)
    }
  })

  it("does not change the table for a field that would fill it", () => {
    const encoder = new HpackEncoder()
    encodeWith(encoder, [["token", "x".repeat(3000)]])
    assert.strictEqual(encoder.table.length, 0)
  })
})

describe("node:http2 on the other side", () => {
  it.live("it decodes what is encoded here, and what it encodes is decoded here", () =>
    Effect.gen(function* () {
      const random = makeRandom(5)
      const rounds = 300
      const header = (): http2.OutgoingHttpHeaders =>
        Object.fromEntries(
          randomFields(random)
            .filter(([name]) => name !== ":path")
            .map(([name, value]) => [name, value])
        )
      const decoder = new HpackDecoder()
      const encoder = new HpackEncoder()
      const decoded: Array<Record<string, string>> = []
      let parts: Array<Buffer> = []
      const { port } = yield* rawServer({
        onFrame: ({ flags, payload, stream, type }, peer) => {
          if (type !== Frames.Type.headers && type !== Frames.Type.continuation) return
          const isPriority = type === Frames.Type.headers && (flags & Frames.Flag.priority) !== 0
          parts.push(isPriority ? payload.subarray(5) : payload)
          if ((flags & Frames.Flag.endHeaders) === 0) return
          const fields = decodeWith(decoder, new Uint8Array(Buffer.concat(parts)))
          parts = []
          assert.isArray(fields)
          const answer = (fields as Fields).filter(([name]) => !name.startsWith(":"))
          decoded.push(Object.fromEntries(answer))
          encoder.start()
          encoder.steady(":status", "200")
          for (const [name, value] of answer) encoder.varying(name, value)
          peer.send(Frames.frame(Frames.Type.headers, 0x5, stream, Buffer.from(encoder.finish())))
        }
      })
      yield* Effect.acquireUseRelease(
        Effect.callback<http2.ClientHttp2Session>((resume) => {
          const session = http2.connect(`http://127.0.0.1:${port}`, () => resume(Effect.succeed(session)))
        }),
        (session) =>
          Effect.gen(function* () {
            for (let round = 0; round < rounds; round++) {
              const sent = header()
              const received = yield* Effect.callback<http2.IncomingHttpHeaders>((resume) => {
                const stream = session.request({ ":method": "POST", ":path": "/x", ...sent }, { endStream: true })
                stream.once("response", (headers) => resume(Effect.succeed(headers)))
                stream.resume()
              })
              const got = Object.fromEntries(Object.entries(received).filter(([name]) => !name.startsWith(":")))
              assert.deepStrictEqual(decoded[round] as unknown, { ...sent })
              assert.deepStrictEqual(got as unknown, { ...sent })
            }
          }),
        (session) =>
          Effect.callback<void>((resume) => {
            session.once("close", () => resume(Effect.void))
            session.destroy()
          })
      )
    })
  )
})
