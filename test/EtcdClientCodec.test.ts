/**
 * The codec of the most frequent messages says what protobuf-es says, or nothing.
 */
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary
} from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import fc from "fast-check"
import * as Codec from "../src/internal/client/codec.ts"
import * as Rpc from "../src/internal/proto/rpc_pb.ts"

const runs = { numRuns: 500 }
const bytes = fc.oneof(fc.uint8Array({ maxLength: 8 }), fc.uint8Array({ minLength: 120, maxLength: 140 }))
const int64 = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: 0n, max: 300n }),
  fc.constantFrom(0n, 127n, 128n, 2n ** 49n - 1n, 2n ** 49n, 2n ** 53n, 2n ** 63n - 1n)
)
const uint64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })
const natural = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 63n - 1n }), fc.constantFrom(0n, 127n, 128n))

const header = fc.record({ clusterId: uint64, memberId: uint64, revision: int64, raftTerm: uint64 })
const keyValue = fc.record({
  key: bytes,
  value: bytes,
  createRevision: int64,
  modRevision: int64,
  version: int64,
  lease: int64
})
const rangeResponse = fc.record(
  { header, kvs: fc.array(keyValue, { maxLength: 3 }), more: fc.boolean(), count: int64 },
  { requiredKeys: [] }
)
const putResponse = fc.record({ header, prevKv: keyValue }, { requiredKeys: [] })
const deleteResponse = fc.record(
  { header, deleted: int64, prevKvs: fc.array(keyValue, { maxLength: 3 }) },
  { requiredKeys: [] }
)
const response = fc.oneof(
  fc.record({ case: fc.constant("responseRange" as const), value: rangeResponse }),
  fc.record({ case: fc.constant("responsePut" as const), value: putResponse }),
  fc.record({ case: fc.constant("responseDeleteRange" as const), value: deleteResponse })
)
const txnResponse = fc.record(
  { header, succeeded: fc.boolean(), responses: fc.array(fc.record({ response }), { maxLength: 5 }) },
  { requiredKeys: [] }
)

const event = fc.record({ type: fc.constantFrom(0, 1), kv: keyValue, prevKv: keyValue }, { requiredKeys: [] })
const watchResponse = fc.record(
  { header, watchId: int64, created: fc.boolean(), fragment: fc.boolean(), events: fc.array(event, { maxLength: 3 }) },
  { requiredKeys: [] }
)

const rangeRequest = fc.record(
  {
    key: bytes,
    rangeEnd: bytes,
    limit: natural,
    revision: natural,
    serializable: fc.boolean(),
    keysOnly: fc.boolean(),
    countOnly: fc.boolean()
  },
  { requiredKeys: [] }
)
const putRequest = fc.record(
  {
    key: bytes,
    value: bytes,
    lease: natural,
    prevKv: fc.boolean(),
    ignoreValue: fc.boolean(),
    ignoreLease: fc.boolean()
  },
  { requiredKeys: [] }
)
const deleteRequest = fc.record({ key: bytes, rangeEnd: bytes, prevKv: fc.boolean() }, { requiredKeys: [] })
const request = fc.oneof(
  fc.record({ case: fc.constant("requestRange" as const), value: rangeRequest }),
  fc.record({ case: fc.constant("requestPut" as const), value: putRequest }),
  fc.record({ case: fc.constant("requestDeleteRange" as const), value: deleteRequest })
)
const txnRequest = fc.record({ success: fc.array(fc.record({ request }), { maxLength: 5 }) })

const reference = <S extends DescMessage>(schema: S, wire: Uint8Array): MessageShape<S> | undefined => {
  try {
    return fromBinary(schema, wire)
  } catch {
    return undefined
  }
}

const same = (schema: DescMessage, wire: Uint8Array) => {
  const decoded = Codec.decode(schema, wire)
  assert.isDefined(decoded)
  assert.deepStrictEqual(decoded, fromBinary(schema, wire))
}

describe("the codec of the most frequent messages", () => {
  it("writes transactions as protobuf-es does", () => {
    fc.assert(
      fc.property(txnRequest, (init) => {
        const message = create(Rpc.TxnRequestSchema, init)
        const expected = toBinary(Rpc.TxnRequestSchema, message)
        assert.deepStrictEqual(Codec.encode(Rpc.TxnRequestSchema, init), expected)
        assert.deepStrictEqual(Codec.encode(Rpc.TxnRequestSchema, message), expected)
      }),
      runs
    )
  })

  it("reads answers as protobuf-es does", () => {
    const schemas: ReadonlyArray<readonly [DescMessage, fc.Arbitrary<Record<string, unknown>>]> = [
      [Rpc.TxnResponseSchema, txnResponse],
      [Rpc.RangeResponseSchema, rangeResponse],
      [Rpc.PutResponseSchema, putResponse],
      [Rpc.WatchResponseSchema, watchResponse]
    ]
    for (const [schema, arbitrary] of schemas) {
      fc.assert(
        fc.property(arbitrary, (init) => same(schema, toBinary(schema, create(schema, init)))),
        runs
      )
    }
  })

  it("reads nothing out of damaged answers that protobuf-es does not", () => {
    const damage = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 3 })
    const check = <S extends DescMessage>(schema: S, arbitrary: fc.Arbitrary<Record<string, unknown>>) =>
      fc.assert(
        fc.property(arbitrary, damage, fc.option(fc.nat()), (init, damages, cut) => {
          const whole = toBinary(schema, create(schema, init as MessageInitShape<S>))
          const wire = cut === null ? whole : whole.slice(0, cut % (whole.length + 1))
          for (const [position, byte] of damages) if (wire.length > 0) wire[position % wire.length] = byte
          const decoded = Codec.decode(schema, wire)
          if (decoded !== undefined) assert.deepStrictEqual(decoded, reference(schema, wire))
        }),
        { numRuns: 5000 }
      )
    check(Rpc.TxnResponseSchema, txnResponse)
    check(Rpc.WatchResponseSchema, watchResponse)
  })

  it("leaves what it does not know to protobuf-es", () => {
    const operation = (value: object) => ({ success: [{ request: { case: "requestRange", value } }] })
    const key = Uint8Array.of(1)
    for (const request of [
      {},
      { ...operation({ key }), compare: [{ key }] },
      { ...operation({ key }), failure: operation({ key }).success },
      operation({ key, sortOrder: 1 }),
      operation({ key, minModRevision: 1n }),
      operation({ key, limit: -1n }),
      operation({ key, revision: 2n ** 63n }),
      operation({ key: "text" }),
      operation({ key, serializable: 1 }),
      operation({ key, $unknown: [] }),
      { success: [{ request: { case: "requestTxn", value: {} } }] },
      { success: [{ request: { case: undefined } }] },
      { success: [{}] }
    ]) {
      assert.isUndefined(Codec.encode(Rpc.TxnRequestSchema, request))
    }
    assert.isUndefined(Codec.encode(Rpc.CompactionRequestSchema, { revision: 1n }))
    assert.isUndefined(Codec.decode(Rpc.CompactionResponseSchema, new Uint8Array(0)))
    // A field that a later version may have.
    assert.isUndefined(Codec.decode(Rpc.PutResponseSchema, Uint8Array.of(0x78, 1)))
    // A field that is there twice is to be merged.
    assert.isUndefined(Codec.decode(Rpc.PutResponseSchema, Uint8Array.of(0x0a, 0, 0x0a, 0)))
  })
})
