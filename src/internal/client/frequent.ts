/**
 * The wire format of the messages that there are most of: gets, puts and deletes, alone and in transactions, what etcd
 * answers to them, and the events of watches.
 *
 * They say the same as protobuf-es, in a fraction of its time, because they know the messages. Whatever is out of the
 * ordinary (a field that is rare or unknown, a number out of range, a message that is malformed) is left to protobuf-es:
 * then the answer here is `undefined`. The field numbers are those of `etcdserverpb` and `mvccpb`, the encoding is
 * https://protobuf.dev/programming-guides/encoding/.
 *
 * @internal
 */
import type { DescMessage } from "@bufbuild/protobuf"
import { detach } from "../grpc/framing.ts"
import { shortData } from "../keys.ts"
import type * as Kv from "../proto/kv_pb.ts"
import { Event_EventType } from "../proto/kv_pb.ts"
import * as Rpc from "../proto/rpc_pb.ts"

// ---------------------------------------------------------------------------------------------------------------------
// Requests
// ---------------------------------------------------------------------------------------------------------------------

type Fields = Readonly<Record<string, unknown>>

/** A request that cannot be written here. */
const none = -1

const maxInt64 = 2n ** 63n - 1n

const isBytes = (value: unknown): value is Uint8Array | undefined => value === undefined || value instanceof Uint8Array

const isFlag = (value: unknown): value is boolean | undefined => value === undefined || typeof value === "boolean"

const isNatural = (value: unknown): value is bigint | undefined =>
  value === undefined || (typeof value === "bigint" && value >= 0n && value <= maxInt64)

const isZero = (value: unknown): boolean => value === undefined || value === 0n || value === 0

const lengthOf = (value: number): number =>
  value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5

const lengthOf64 = (value: bigint): number => {
  let length = 1
  for (let rest = value; rest > 127n; rest >>= 7n) length++
  return length
}

const bytesSize = (value: Uint8Array | undefined): number =>
  value === undefined || value.length === 0 ? 0 : 1 + lengthOf(value.length) + value.length

const naturalSize = (value: bigint | undefined): number =>
  value === undefined || value === 0n ? 0 : 1 + lengthOf64(value)

const flagSize = (value: boolean | undefined): number => (value === true ? 2 : 0)

const rangeSize = (request: Fields): number => {
  const { countOnly, key, keysOnly, limit, rangeEnd, revision, serializable } = request
  const isPlain =
    isZero(request.sortOrder) &&
    isZero(request.sortTarget) &&
    isZero(request.minModRevision) &&
    isZero(request.maxModRevision) &&
    isZero(request.minCreateRevision) &&
    isZero(request.maxCreateRevision)
  if (!isPlain || !isBytes(key) || !isBytes(rangeEnd) || !isNatural(limit) || !isNatural(revision)) return none
  if (!isFlag(serializable) || !isFlag(keysOnly) || !isFlag(countOnly)) return none
  return (
    bytesSize(key) +
    bytesSize(rangeEnd) +
    naturalSize(limit) +
    naturalSize(revision) +
    flagSize(serializable) +
    flagSize(keysOnly) +
    flagSize(countOnly)
  )
}

const putSize = ({ ignoreLease, ignoreValue, key, lease, prevKv, value }: Fields): number => {
  if (!isBytes(key) || !isBytes(value) || !isNatural(lease)) return none
  if (!isFlag(prevKv) || !isFlag(ignoreValue) || !isFlag(ignoreLease)) return none
  return (
    bytesSize(key) +
    bytesSize(value) +
    naturalSize(lease) +
    flagSize(prevKv) +
    flagSize(ignoreValue) +
    flagSize(ignoreLease)
  )
}

const deleteSize = ({ key, prevKv, rangeEnd }: Fields): number =>
  isBytes(key) && isBytes(rangeEnd) && isFlag(prevKv) ? bytesSize(key) + bytesSize(rangeEnd) + flagSize(prevKv) : none

/** Up to here a loop takes less time than `set`. */
const longestLoop = 32

/** Writes what was found to fit. */
class Writer {
  readonly bytes: Uint8Array
  private at = 0

  constructor(length: number) {
    this.bytes = length <= shortData ? new Uint8Array(length) : Buffer.allocUnsafe(length)
  }

  byte(value: number): void {
    this.bytes[this.at++] = value
  }

  varint(value: number): void {
    let rest = value
    while (rest > 127) {
      this.byte((rest & 127) | 128)
      rest >>>= 7
    }
    this.byte(rest)
  }

  data(tag: number, value: unknown): void {
    const bytes = value as Uint8Array | undefined
    if (bytes === undefined || bytes.length === 0) return
    this.byte(tag)
    this.varint(bytes.length)
    if (bytes.length <= longestLoop) for (let index = 0; index < bytes.length; index++) this.byte(bytes[index]!)
    else this.set(bytes)
  }

  private set(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at)
    this.at += bytes.length
  }

  natural(tag: number, value: unknown): void {
    if (isZero(value)) return
    this.byte(tag)
    let rest = value as bigint
    for (; rest > 127n; rest >>= 7n) this.byte(Number(rest & 127n) | 128)
    this.byte(Number(rest))
  }

  flag(tag: number, value: unknown): void {
    if (value !== true) return
    this.byte(tag)
    this.byte(1)
  }
}

const lengthDelimited = 2

const dataTag = (field: number): number => (field << 3) | lengthDelimited

const numberTag = (field: number): number => field << 3

const writeRange = (writer: Writer, request: Fields): void => {
  writer.data(dataTag(1), request.key)
  writer.data(dataTag(2), request.rangeEnd)
  writer.natural(numberTag(3), request.limit)
  writer.natural(numberTag(4), request.revision)
  writer.flag(numberTag(7), request.serializable)
  writer.flag(numberTag(8), request.keysOnly)
  writer.flag(numberTag(9), request.countOnly)
}

const writePut = (writer: Writer, request: Fields): void => {
  writer.data(dataTag(1), request.key)
  writer.data(dataTag(2), request.value)
  writer.natural(numberTag(3), request.lease)
  writer.flag(numberTag(4), request.prevKv)
  writer.flag(numberTag(5), request.ignoreValue)
  writer.flag(numberTag(6), request.ignoreLease)
}

const writeDelete = (writer: Writer, request: Fields): void => {
  writer.data(dataTag(1), request.key)
  writer.data(dataTag(2), request.rangeEnd)
  writer.flag(numberTag(3), request.prevKv)
}

interface Format {
  /** Its number among the operations of a transaction. */
  readonly field: number
  readonly size: (request: Fields) => number
  readonly write: (writer: Writer, request: Fields) => void
}

const range: Format = { field: 1, size: rangeSize, write: writeRange }
const put: Format = { field: 2, size: putSize, write: writePut }
const deleteRange: Format = { field: 3, size: deleteSize, write: writeDelete }

const formats: { readonly [operation: string]: Format } = {
  requestRange: range,
  requestPut: put,
  requestDeleteRange: deleteRange
}

const encodeAlone = (format: Format, request: Fields): Uint8Array | undefined => {
  const size = request.$unknown === undefined ? format.size(request) : none
  if (size === none) return undefined
  const writer = new Writer(size)
  format.write(writer, request)
  return writer.bytes
}

interface Operation {
  readonly request?: { readonly case?: string | undefined; readonly value?: Fields } | undefined
}

const success = dataTag(2)

const encodeTxn = (request: Fields): Uint8Array | undefined => {
  const operations = request.success as ReadonlyArray<Operation> | undefined
  const compare = request.compare as ReadonlyArray<unknown> | undefined
  const failure = request.failure as ReadonlyArray<unknown> | undefined
  if (operations === undefined || (compare?.length ?? 0) > 0 || (failure?.length ?? 0) > 0) return undefined
  if (request.$unknown !== undefined) return undefined
  const sizes: Array<number> = []
  let length = 0
  for (const operation of operations) {
    const format = formats[operation.request?.case ?? ""]
    const value = operation.request?.value
    if (format === undefined || value === undefined || value.$unknown !== undefined) return undefined
    if ("$unknown" in operation) return undefined
    const size = format.size(value)
    if (size === none) return undefined
    sizes.push(size)
    const inner = 1 + lengthOf(size) + size
    length += 1 + lengthOf(inner) + inner
  }
  const writer = new Writer(length)
  for (let index = 0; index < operations.length; index++) {
    const { case: name, value } = operations[index]!.request!
    const { field, write } = formats[name!]!
    const size = sizes[index]!
    writer.byte(success)
    writer.varint(1 + lengthOf(size) + size)
    writer.byte(dataTag(field))
    writer.varint(size)
    write(writer, value!)
  }
  return writer.bytes
}

/** The request for the wire; `undefined` if it is not one of those that are known here. */
export const encode = (schema: DescMessage, request: object): Uint8Array | undefined => {
  switch (schema) {
    case Rpc.RangeRequestSchema:
      return encodeAlone(range, request as Fields)
    case Rpc.PutRequestSchema:
      return encodeAlone(put, request as Fields)
    case Rpc.DeleteRangeRequestSchema:
      return encodeAlone(deleteRange, request as Fields)
    case Rpc.TxnRequestSchema:
      return encodeTxn(request as Fields)
    default:
      return undefined
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Answers
// ---------------------------------------------------------------------------------------------------------------------

/** Versions, counts and zeros are mostly small, and making a `bigint` costs more than looking one up. */
const smallBigints = Array.from({ length: 256 }, (_, index) => BigInt(index))

/** Reads up to a field that it cannot read, and then is at its end, and `failed`. */
class Reader {
  readonly bytes: Uint8Array
  at: number
  failed = false
  private readonly start: number
  private readonly stop: number
  private kept: Uint8Array | undefined

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes
    this.at = start
    this.start = start
    this.stop = end
  }

  fail(): void {
    this.failed = true
  }

  /** Numbers up to 2^53 take the short way. */
  private low = 0

  /** A tag or a length. */
  varint(): number {
    const first = this.bytes[this.at]
    if (first !== undefined && first < 128) {
      this.at++
      return first
    }
    return this.longVarint(5) && this.low <= 0x7fffffff ? this.low : this.wrong()
  }

  private wrong(): number {
    this.failed = true
    return 0
  }

  /** Reads a number of up to so many bytes, seven at most, into `low`. */
  private longVarint(most: number): boolean {
    let value = 0
    let factor = 1
    for (let count = 0; count < most; count++) {
      const byte = this.bytes[this.at + count]
      if (byte === undefined) return false
      value += (byte & 127) * factor
      factor *= 128
      if (byte < 128) {
        this.at += count + 1
        this.low = value
        return true
      }
    }
    return false
  }

  /** The number that was read last, and what it is as a `bigint`: most answers have the same few. */
  private lastNumber = 0
  private lastBigint = 0n

  unsigned(): bigint {
    if (!this.longVarint(7)) return this.bigVarint()
    if (this.low < smallBigints.length) return smallBigints[this.low]!
    if (this.low !== this.lastNumber) {
      this.lastNumber = this.low
      this.lastBigint = BigInt(this.low)
    }
    return this.lastBigint
  }

  signed(): bigint {
    const value = this.unsigned()
    return value > maxInt64 ? BigInt.asIntN(64, value) : value
  }

  private bigVarint(): bigint {
    let value = 0n
    for (let count = 0; count < 10; count++) {
      const byte = this.bytes[this.at++]
      if (byte === undefined) break
      value |= BigInt(byte & 127) << BigInt(count * 7)
      if (byte < 128) return BigInt.asUintN(64, value)
    }
    this.failed = true
    return 0n
  }

  flag(): boolean {
    const byte = this.bytes[this.at++]
    if (byte === undefined || byte > 1) this.failed = true
    return byte === 1
  }

  /** Where the length-delimited field that begins here ends; it must end within the message around it. */
  end(limit: number): number {
    const length = this.varint()
    const end = this.at + length
    if (end > limit) this.failed = true
    return this.failed ? this.at : end
  }

  /** Short data is copied. Longer data is a part of the message, which then is kept. */
  data(limit: number): Uint8Array {
    const end = this.end(limit)
    const data = end - this.at <= shortData ? this.bytes.slice(this.at, end) : this.part(this.at, end)
    this.at = end
    return data
  }

  private part(from: number, to: number): Uint8Array {
    this.kept ??= detach(this.bytes, this.start, this.stop)
    return this.kept.subarray(from - this.start, to - this.start)
  }

  /** Goes past these bytes, if they are what comes next. */
  skip(bytes: Uint8Array, end: number): boolean {
    if (end - this.at < bytes.length) return false
    for (let index = 0; index < bytes.length; index++) {
      if (this.bytes[this.at + index] !== bytes[index]) return false
    }
    this.at += bytes.length
    return true
  }

  /** Whether there is more of the message. */
  more(end: number): boolean {
    if (this.at > end) this.failed = true
    return !this.failed && this.at < end
  }
}

const empty = (): Uint8Array => new Uint8Array(0)

/** Two ids with their tags, as long as they can be. */
const longestIds = 22

/** The ids of the header that was read last, and the bytes that say so: all answers of a member begin with them. */
let lastIds = { bytes: empty(), clusterId: 0n, memberId: 0n }

const readHeader = (reader: Reader, end: number): Rpc.ResponseHeader => {
  const start = reader.at
  let clusterId = 0n
  let memberId = 0n
  let revision = 0n
  let raftTerm = 0n
  if (reader.skip(lastIds.bytes, end)) {
    clusterId = lastIds.clusterId
    memberId = lastIds.memberId
  }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case numberTag(1):
        clusterId = reader.unsigned()
        break
      case numberTag(2):
        memberId = reader.unsigned()
        if (revision === 0n && raftTerm === 0n && reader.at - start <= longestIds) {
          lastIds = { bytes: reader.bytes.slice(start, reader.at), clusterId, memberId }
        }
        break
      case numberTag(3):
        revision = reader.signed()
        break
      case numberTag(4):
        raftTerm = reader.unsigned()
        break
      default:
        reader.fail()
    }
  }
  return { $typeName: "etcdserverpb.ResponseHeader", clusterId, memberId, revision, raftTerm }
}

const readKeyValue = (reader: Reader, end: number): Kv.KeyValue => {
  let key: Uint8Array | undefined
  let createRevision = 0n
  let modRevision = 0n
  let version = 0n
  let value: Uint8Array | undefined
  let lease = 0n
  while (reader.more(end)) {
    switch (reader.varint()) {
      case dataTag(1):
        key = reader.data(end)
        break
      case numberTag(2):
        createRevision = reader.signed()
        break
      case numberTag(3):
        modRevision = reader.signed()
        break
      case numberTag(4):
        version = reader.signed()
        break
      case dataTag(5):
        value = reader.data(end)
        break
      case numberTag(6):
        lease = reader.signed()
        break
      default:
        reader.fail()
    }
  }
  return {
    $typeName: "mvccpb.KeyValue",
    key: key ?? empty(),
    createRevision,
    modRevision,
    version,
    value: value ?? empty(),
    lease
  }
}

/** A field that may be there once; a second one would have to be merged, which no server asks for. */
const once = <A>(reader: Reader, before: A | undefined, limit: number, read: (reader: Reader, end: number) => A): A => {
  if (before !== undefined) reader.fail()
  return read(reader, reader.end(limit))
}

const readRange = (reader: Reader, end: number): Rpc.RangeResponse => {
  const response: Rpc.RangeResponse = { $typeName: "etcdserverpb.RangeResponse", kvs: [], more: false, count: 0n }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case dataTag(1):
        response.header = once(reader, response.header, end, readHeader)
        break
      case dataTag(2):
        response.kvs.push(readKeyValue(reader, reader.end(end)))
        break
      case numberTag(3):
        response.more = reader.flag()
        break
      case numberTag(4):
        response.count = reader.signed()
        break
      default:
        reader.fail()
    }
  }
  return response
}

const readPut = (reader: Reader, end: number): Rpc.PutResponse => {
  const response: Rpc.PutResponse = { $typeName: "etcdserverpb.PutResponse" }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case dataTag(1):
        response.header = once(reader, response.header, end, readHeader)
        break
      case dataTag(2):
        response.prevKv = once(reader, response.prevKv, end, readKeyValue)
        break
      default:
        reader.fail()
    }
  }
  return response
}

const readDelete = (reader: Reader, end: number): Rpc.DeleteRangeResponse => {
  const response: Rpc.DeleteRangeResponse = {
    $typeName: "etcdserverpb.DeleteRangeResponse",
    deleted: 0n,
    prevKvs: []
  }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case dataTag(1):
        response.header = once(reader, response.header, end, readHeader)
        break
      case numberTag(2):
        response.deleted = reader.signed()
        break
      case dataTag(3):
        response.prevKvs.push(readKeyValue(reader, reader.end(end)))
        break
      default:
        reader.fail()
    }
  }
  return response
}

type Answer = Rpc.ResponseOp["response"]

const readAnswer = (reader: Reader, limit: number): Answer => {
  switch (reader.varint()) {
    case dataTag(1):
      return { case: "responseRange", value: readRange(reader, reader.end(limit)) }
    case dataTag(2):
      return { case: "responsePut", value: readPut(reader, reader.end(limit)) }
    case dataTag(3):
      return { case: "responseDeleteRange", value: readDelete(reader, reader.end(limit)) }
    default:
      reader.fail()
      return { case: undefined }
  }
}

const readOperation = (reader: Reader, end: number): Rpc.ResponseOp => {
  const response: Answer = reader.more(end) ? readAnswer(reader, end) : { case: undefined }
  if (reader.more(end)) reader.fail()
  return { $typeName: "etcdserverpb.ResponseOp", response }
}

const readTxn = (reader: Reader, end: number): Rpc.TxnResponse => {
  const response: Rpc.TxnResponse = { $typeName: "etcdserverpb.TxnResponse", succeeded: false, responses: [] }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case dataTag(1):
        response.header = once(reader, response.header, end, readHeader)
        break
      case numberTag(2):
        response.succeeded = reader.flag()
        break
      case dataTag(3):
        response.responses.push(readOperation(reader, reader.end(end)))
        break
      default:
        reader.fail()
    }
  }
  return response
}

const readEvent = (reader: Reader, end: number): Kv.Event => {
  const event: Kv.Event = { $typeName: "mvccpb.Event", type: Event_EventType.PUT }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case numberTag(1):
        event.type = reader.flag() ? Event_EventType.DELETE : Event_EventType.PUT
        break
      case dataTag(2):
        event.kv = once(reader, event.kv, end, readKeyValue)
        break
      case dataTag(3):
        event.prevKv = once(reader, event.prevKv, end, readKeyValue)
        break
      default:
        reader.fail()
    }
  }
  return event
}

const readWatch = (reader: Reader, end: number): Rpc.WatchResponse => {
  const response: Rpc.WatchResponse = {
    $typeName: "etcdserverpb.WatchResponse",
    watchId: 0n,
    created: false,
    canceled: false,
    compactRevision: 0n,
    cancelReason: "",
    fragment: false,
    events: []
  }
  while (reader.more(end)) {
    switch (reader.varint()) {
      case dataTag(1):
        response.header = once(reader, response.header, end, readHeader)
        break
      case numberTag(2):
        response.watchId = reader.signed()
        break
      case numberTag(3):
        response.created = reader.flag()
        break
      case numberTag(7):
        response.fragment = reader.flag()
        break
      case dataTag(11):
        response.events.push(readEvent(reader, reader.end(end)))
        break
      default:
        reader.fail()
    }
  }
  return response
}

const read = (schema: DescMessage, reader: Reader, end: number): unknown => {
  switch (schema) {
    case Rpc.WatchResponseSchema:
      return readWatch(reader, end)
    case Rpc.TxnResponseSchema:
      return readTxn(reader, end)
    case Rpc.RangeResponseSchema:
      return readRange(reader, end)
    case Rpc.PutResponseSchema:
      return readPut(reader, end)
    case Rpc.DeleteRangeResponseSchema:
      return readDelete(reader, end)
    default:
      return undefined
  }
}

/**
 * The answer that lies from `start` up to `end`; `undefined` if it is not one of those that are known here, or has what
 * is not known here.
 */
export const decode = (schema: DescMessage, bytes: Uint8Array, start: number, end: number): unknown => {
  const reader = new Reader(bytes, start, end)
  const message = read(schema, reader, end)
  return reader.failed ? undefined : message
}
