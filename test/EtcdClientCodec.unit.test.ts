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
import * as Codec from "../src/internal/client/frequent.ts"
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
const { txn: txnResponse } = fc.letrec<{ txn: Record<string, unknown>; response: unknown }>((tie) => ({
  txn: fc.record(
    {
      header,
      succeeded: fc.boolean(),
      responses: fc.array(fc.record({ response: tie("response") }), { maxLength: 5, depthIdentifier: "txn" })
    },
    { requiredKeys: [] }
  ),
  response: fc.oneof(
    { depthIdentifier: "txn", withCrossShrink: true },
    fc.record({ case: fc.constant("responseRange" as const), value: rangeResponse }),
    fc.record({ case: fc.constant("responsePut" as const), value: putResponse }),
    fc.record({ case: fc.constant("responseDeleteRange" as const), value: deleteResponse }),
    fc.record({ case: fc.constant("responseTxn" as const), value: tie("txn") })
  )
}))

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
    countOnly: fc.boolean(),
    minModRevision: natural,
    maxModRevision: natural,
    minCreateRevision: natural,
    maxCreateRevision: natural
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
const numberTarget = fc.constantFrom(...(["version", "createRevision", "modRevision", "lease"] as const))
const compare = fc.record(
  {
    result: fc.integer({ min: 0, max: 3 }),
    target: fc.integer({ min: 0, max: 4 }),
    key: bytes,
    rangeEnd: bytes,
    targetUnion: fc.oneof(
      fc.record({ case: numberTarget, value: natural }),
      fc.record({ case: fc.constant("value" as const), value: bytes })
    )
  },
  { requiredKeys: [] }
)
const { txn: txnRequest } = fc.letrec<{ txn: Record<string, unknown>; request: unknown }>((tie) => {
  const operations = fc.array(fc.record({ request: tie("request") }), { maxLength: 4, depthIdentifier: "request" })
  return {
    txn: fc.record(
      { compare: fc.array(compare, { maxLength: 3 }), success: operations, failure: operations },
      { requiredKeys: [] }
    ),
    request: fc.oneof(
      { depthIdentifier: "request", withCrossShrink: true },
      fc.record({ case: fc.constant("requestRange" as const), value: rangeRequest }),
      fc.record({ case: fc.constant("requestPut" as const), value: putRequest }),
      fc.record({ case: fc.constant("requestDeleteRange" as const), value: deleteRequest }),
      fc.record({ case: fc.constant("requestTxn" as const), value: tie("txn") })
    )
  }
})

const reference = <S extends DescMessage>(schema: S, wire: Uint8Array): MessageShape<S> | undefined => {
  try {
    return fromBinary(schema, wire)
  } catch {
    return undefined
  }
}

/** Reads the message from the midst of other bytes, as it lies in what a socket delivers. */
const decode = (schema: DescMessage, wire: Uint8Array, around: Uint8Array = Uint8Array.of(8, 1, 8, 1, 8)): unknown => {
  const chunk = Uint8Array.of(...around, ...wire, ...around)
  const decoded = Codec.decode(schema, chunk, around.length, around.length + wire.length)
  // What was read is not to depend on what becomes of the chunk.
  if (wire.length * 2 < chunk.length) chunk.fill(0xff)
  return decoded
}

const same = (schema: DescMessage, wire: Uint8Array) => {
  const decoded = decode(schema, wire, new Uint8Array(wire.length + 1).fill(10))
  assert.isDefined(decoded)
  assert.deepStrictEqual(decoded, fromBinary(schema, wire))
}

describe("the codec of the most frequent messages", () => {
  it("writes requests as protobuf-es does", () => {
    const schemas: ReadonlyArray<readonly [DescMessage, fc.Arbitrary<Record<string, unknown>>]> = [
      [Rpc.TxnRequestSchema, txnRequest],
      [Rpc.RangeRequestSchema, rangeRequest],
      [Rpc.PutRequestSchema, putRequest],
      [Rpc.DeleteRangeRequestSchema, deleteRequest]
    ]
    for (const [schema, arbitrary] of schemas) {
      fc.assert(
        fc.property(arbitrary, (init) => {
          const message = create(schema, init)
          const expected = toBinary(schema, message)
          assert.deepStrictEqual(Codec.encode(schema, init), expected)
          assert.deepStrictEqual(Codec.encode(schema, message), expected)
        }),
        runs
      )
    }
  })

  it("reads answers as protobuf-es does", () => {
    const schemas: ReadonlyArray<readonly [DescMessage, fc.Arbitrary<Record<string, unknown>>]> = [
      [Rpc.TxnResponseSchema, txnResponse],
      [Rpc.RangeResponseSchema, rangeResponse],
      [Rpc.PutResponseSchema, putResponse],
      [Rpc.DeleteRangeResponseSchema, deleteResponse],
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
          const decoded = decode(schema, wire, wire)
          if (decoded !== undefined) assert.deepStrictEqual(decoded, reference(schema, wire))
        }),
        { numRuns: 5000 }
      )
    check(Rpc.TxnResponseSchema, txnResponse)
    check(Rpc.RangeResponseSchema, rangeResponse)
    check(Rpc.PutResponseSchema, putResponse)
    check(Rpc.DeleteRangeResponseSchema, deleteResponse)
    check(Rpc.WatchResponseSchema, watchResponse)
  })

  it("remembers nothing of the header of a damaged answer", () => {
    const ids = Uint8Array.of(0x08, 1, 0x10, ...new Array<number>(9).fill(0xff))
    const answer = (...rest: ReadonlyArray<number>) => Uint8Array.of(0x0a, ids.length + rest.length, ...ids, ...rest)
    const damaged = answer(0xff, 0x18, 5)
    for (let times = 1; times <= 2; times++) assert.isUndefined(decode(Rpc.RangeResponseSchema, damaged))
    const whole = answer(0x01, 0x18, 5)
    assert.deepStrictEqual(decode(Rpc.RangeResponseSchema, whole), reference(Rpc.RangeResponseSchema, whole))
  })

  it("leaves what it does not know to protobuf-es", () => {
    const operation = (value: object) => ({ success: [{ request: { case: "requestRange", value } }] })
    const key = Uint8Array.of(1)
    let deep: object = {}
    for (let depth = 0; depth < 20; depth++) deep = { success: [{ request: { case: "requestTxn", value: deep } }] }
    for (const request of [
      deep,
      { compare: [{ result: 1.5 }] },
      { compare: [{ target: 128 }] },
      { compare: [{ key: "text" }] },
      { compare: [{ targetUnion: { case: "lease", value: -1n } }] },
      { compare: [{ targetUnion: { case: "version", value: 1 } }] },
      { compare: [{ targetUnion: { case: "value", value: "text" } }] },
      { compare: [{ targetUnion: { case: "other", value: 1n } }] },
      { compare: [{ targetUnion: null }] },
      { compare: [{ $unknown: [] }] },
      { compare: [null] },
      { compare: 1 },
      { failure: "text" },
      { success: [{ request: { case: "requestPut", value: "text" } }] },
      { success: [{ request: { case: "toString", value: {} } }] },
      operation({ key, sortOrder: 1 }),
      operation({ key, minModRevision: -1n }),
      operation({ key, limit: -1n }),
      operation({ key, revision: 2n ** 63n }),
      operation({ key: "text" }),
      operation({ key, serializable: 1 }),
      operation({ key, $unknown: [] }),
      { success: [{ request: { case: "requestTxn", value: operation({ key, limit: -1n }) } }] },
      { success: [{ request: { case: undefined } }] },
      { success: [{}] }
    ]) {
      assert.isUndefined(Codec.encode(Rpc.TxnRequestSchema, request))
    }
    assert.isUndefined(Codec.encode(Rpc.RangeRequestSchema, { key, sortOrder: 1 }))
    assert.isUndefined(Codec.encode(Rpc.PutRequestSchema, { key, lease: -1n }))
    assert.isUndefined(Codec.encode(Rpc.DeleteRangeRequestSchema, { key, $unknown: [] }))
    assert.isUndefined(Codec.encode(Rpc.CompactionRequestSchema, { revision: 1n }))
    assert.isUndefined(decode(Rpc.CompactionResponseSchema, new Uint8Array(0)))
    let nested = new Uint8Array(0)
    // As what anybody could send who takes the place of a server.
    for (let depth = 0; depth < 40; depth++)
      nested = Uint8Array.of(0x1a, nested.length + 2, 0x22, nested.length, ...nested)
    assert.isUndefined(decode(Rpc.TxnResponseSchema, nested))
    // A field that a later version may have.
    assert.isUndefined(decode(Rpc.PutResponseSchema, Uint8Array.of(0x78, 1)))
    // A field that is there twice is to be merged.
    assert.isUndefined(decode(Rpc.PutResponseSchema, Uint8Array.of(0x0a, 0, 0x0a, 0)))
  })
})
