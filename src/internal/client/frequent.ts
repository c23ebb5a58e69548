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

const isObject = (value: unknown): value is object => typeof value === "object" && value !== null

const isFlag = (value: unknown): value is boolean | undefined => value === undefined || typeof value === "boolean"

const isNatural = (value: unknown): value is bigint | undefined =>
  value === undefined || (typeof value === "bigint" && value >= 0n && value <= maxInt64)

const isZero = (value: unknown): boolean => value === undefined || value === 0n || value === 0

const lengthOf = (value: number): number =>
  value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5

const shift49 = 49n
const below49 = 2n ** shift49

/** Numbers up to 2^49 take the short way; ids of leases take all of it. */
const lengthOf64 = (value: bigint): number => {
  let length = 1
  let rest = Number(value)
  if (value >= below49) {
    length = 8
    rest = Number(value >> shift49)
  }
  for (; rest > 127; rest = Math.floor(rest / 128)) length++
  return length
}

const bytesSize = (value: Uint8Array | undefined): number =>
  value === undefined || value.length === 0 ? 0 : 1 + lengthOf(value.length) + value.length

const naturalSize = (value: bigint | undefined): number =>
  value === undefined || value === 0n ? 0 : 1 + lengthOf64(value)

const flagSize = (value: boolean | undefined): number => (value === true ? 2 : 0)

const rangeSize = (request: Fields): number => {
  const { countOnly, key, keysOnly, limit, rangeEnd, revision, serializable } = request
  const { maxCreateRevision, maxModRevision, minCreateRevision, minModRevision } = request
  if (!isZero(request.sortOrder) || !isZero(request.sortTarget)) return none
  if (!isBytes(key) || !isBytes(rangeEnd) || !isNatural(limit) || !isNatural(revision)) return none
  if (!isFlag(serializable) || !isFlag(keysOnly) || !isFlag(countOnly)) return none
  if (!isNatural(minModRevision) || !isNatural(maxModRevision)) return none
  if (!isNatural(minCreateRevision) || !isNatural(maxCreateRevision)) return none
  return (
    bytesSize(key) +
    bytesSize(rangeEnd) +
    naturalSize(limit) +
    naturalSize(revision) +
    flagSize(serializable) +
    flagSize(keysOnly) +
    flagSize(countOnly) +
    naturalSize(minModRevision) +
    naturalSize(maxModRevision) +
    naturalSize(minCreateRevision) +
    naturalSize(maxCreateRevision)
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

/** A number of an enumeration whose names are few. */
const isChoice = (value: unknown): value is number | undefined =>
  value === undefined || (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 128)

const choiceSize = (value: number | undefined): number => (isZero(value) ? 0 : 2)

/** What a comparison compares with, which is written even if it is zero, or empty. */
interface Target {
  readonly case?: string | undefined
  readonly value?: unknown
}

const targetFields: ReadonlyMap<unknown, number> = new Map([
  ["version", 4],
  ["createRevision", 5],
  ["modRevision", 6],
  ["value", 7],
  ["lease", 8]
])

const targetSize = ({ case: name, value }: Target): number => {
  if (name === undefined) return 0
  if (name === "value") return value instanceof Uint8Array ? 1 + lengthOf(value.length) + value.length : none
  return targetFields.has(name) && typeof value === "bigint" && isNatural(value) ? 1 + lengthOf64(value) : none
}

const noTarget: Target = {}

const compareSize = ({ $unknown, key, rangeEnd, result, target, targetUnion = noTarget }: Fields): number => {
  if ($unknown !== undefined || !isObject(targetUnion)) return none
  if (!isChoice(result) || !isChoice(target) || !isBytes(key) || !isBytes(rangeEnd)) return none
  const union = targetSize(targetUnion as Target)
  if (union === none) return none
  // The number of the field of the end takes two bytes.
  const end = bytesSize(rangeEnd)
  return choiceSize(result) + choiceSize(target) + bytesSize(key) + union + (end === 0 ? 0 : end + 1)
}

/** Up to here a loop takes less time than `set`. */
const longestLoop = 32

/** The sizes of the messages within a message, in the order in which they are written. */
interface Sizes {
  readonly list: Array<number>
  /** How deep in transactions within transactions it is. */
  depth: number
}

/** Writes what was found to fit. */
class Writer {
  readonly bytes: Uint8Array
  private at = 0
  private readonly sizes: Sizes
  private written = 0

  constructor(length: number, sizes: Sizes) {
    this.bytes = length <= shortData ? new Uint8Array(length) : Buffer.allocUnsafe(length)
    this.sizes = sizes
  }

  /** The size of the next message. */
  size(): number {
    return this.sizes.list[this.written++]!
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
    if (bytes !== undefined && bytes.length > 0) this.allData(tag, bytes)
  }

  /** Even if there is none. */
  allData(tag: number, bytes: Uint8Array): void {
    this.varint(tag)
    this.varint(bytes.length)
    if (bytes.length <= longestLoop) for (let index = 0; index < bytes.length; index++) this.byte(bytes[index]!)
    else this.set(bytes)
  }

  private set(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at)
    this.at += bytes.length
  }

  natural(tag: number, value: unknown): void {
    if (!isZero(value)) this.anyNatural(tag, value as bigint)
  }

  /** Even if it is zero. */
  anyNatural(tag: number, value: bigint): void {
    this.byte(tag)
    this.last(value < below49 ? Number(value) : this.firstSeven(value))
  }

  /** Writes seven bytes, and answers with what is left. */
  private firstSeven(value: bigint): number {
    let rest = Number(BigInt.asUintN(49, value))
    for (let count = 0; count < 7; count++) {
      this.byte((rest % 128) | 128)
      rest = Math.floor(rest / 128)
    }
    return Number(value >> shift49)
  }

  private last(value: number): void {
    let rest = value
    for (; rest > 127; rest = Math.floor(rest / 128)) this.byte((rest % 128) | 128)
    this.byte(rest)
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
  writer.natural(numberTag(10), request.minModRevision)
  writer.natural(numberTag(11), request.maxModRevision)
  writer.natural(numberTag(12), request.minCreateRevision)
  writer.natural(numberTag(13), request.maxCreateRevision)
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

const writeCompare = (writer: Writer, request: Fields): void => {
  if (!isZero(request.result)) {
    writer.byte(numberTag(1))
    writer.byte(request.result as number)
  }
  if (!isZero(request.target)) {
    writer.byte(numberTag(2))
    writer.byte(request.target as number)
  }
  writer.data(dataTag(3), request.key)
  const { case: name, value } = (request.targetUnion ?? noTarget) as Target
  if (name === "value") writer.allData(dataTag(7), value as Uint8Array)
  else if (name !== undefined) writer.anyNatural(numberTag(targetFields.get(name)!), value as bigint)
  writer.data(dataTag(64), request.rangeEnd)
}

interface Operation {
  readonly $unknown?: unknown
  readonly request?: { readonly case?: string | undefined; readonly value?: Fields } | undefined
}

/** Messages as fields: with the tag, and the size before each. */
const framed = (size: number): number => 1 + lengthOf(size) + size

const operationSize = (operation: Operation, sizes: Sizes): number => {
  const format = formats.get(operation.request?.case)
  const value = operation.request?.value
  if (format === undefined || !isObject(value) || value.$unknown !== undefined || "$unknown" in operation) return none
  const index = sizes.list.push(none) - 1
  const size = format.size(value, sizes)
  sizes.list[index] = size
  return size === none ? none : framed(size)
}

const sizeOfAll = <A extends object>(
  messages: ReadonlyArray<A> | undefined,
  sizes: Sizes,
  measure: (message: A, sizes: Sizes) => number
): number => {
  if (messages === undefined) return 0
  if (!Array.isArray(messages)) return none
  let length = 0
  for (const message of messages as ReadonlyArray<A>) {
    if (!isObject(message)) return none
    const index = sizes.list.push(none) - 1
    const size = measure(message, sizes)
    if (size === none) return none
    sizes.list[index] = size
    length += framed(size)
  }
  return length
}

interface Transaction {
  readonly compare?: ReadonlyArray<Fields>
  readonly success?: ReadonlyArray<Operation>
  readonly failure?: ReadonlyArray<Operation>
}

/** What is deeper than anybody asks for is left to protobuf-es. */
const deepest = 16

const txnSize = (request: Fields, sizes: Sizes): number => {
  const { compare, failure, success } = request as Transaction
  if (++sizes.depth > deepest) return none
  const compareLength = sizeOfAll(compare, sizes, compareSize)
  if (compareLength === none) return none
  const successLength = sizeOfAll(success, sizes, operationSize)
  if (successLength === none) return none
  const failureLength = sizeOfAll(failure, sizes, operationSize)
  sizes.depth--
  return failureLength === none ? none : compareLength + successLength + failureLength
}

const writeOperations = (writer: Writer, tag: number, operations: ReadonlyArray<Operation> | undefined): void => {
  for (const operation of operations ?? []) {
    const { case: name, value } = operation.request!
    const { field, write } = formats.get(name)!
    writer.byte(tag)
    writer.varint(writer.size())
    writer.byte(dataTag(field))
    writer.varint(writer.size())
    write(writer, value!)
  }
}

const writeTxn = (writer: Writer, request: Fields): void => {
  const { compare, failure, success } = request as Transaction
  for (const one of compare ?? []) {
    writer.byte(dataTag(1))
    writer.varint(writer.size())
    writeCompare(writer, one)
  }
  writeOperations(writer, dataTag(2), success)
  writeOperations(writer, dataTag(3), failure)
}

interface Format {
  /** Its number among the operations of a transaction. */
  readonly field: number
  readonly size: (request: Fields, sizes: Sizes) => number
  readonly write: (writer: Writer, request: Fields) => void
}

const range: Format = { field: 1, size: rangeSize, write: writeRange }
const put: Format = { field: 2, size: putSize, write: writePut }
const deleteRange: Format = { field: 3, size: deleteSize, write: writeDelete }
const txn: Format = { field: 4, size: txnSize, write: writeTxn }

const formats: ReadonlyMap<unknown, Format> = new Map([
  ["requestRange", range],
  ["requestPut", put],
  ["requestDeleteRange", deleteRange],
  ["requestTxn", txn]
])

const encodeAs = (format: Format, request: Fields): Uint8Array | undefined => {
  const sizes: Sizes = { list: [], depth: 0 }
  const size = request.$unknown === undefined ? format.size(request, sizes) : none
  if (size === none) return undefined
  const writer = new Writer(size, sizes)
  format.write(writer, request)
  return writer.bytes
}

/** The request for the wire; `undefined` if it is not one of those that are known here. */
export const encode = (schema: DescMessage, request: object): Uint8Array | undefined => {
  switch (schema) {
    case Rpc.RangeRequestSchema:
      return encodeAs(range, request as Fields)
    case Rpc.PutRequestSchema:
      return encodeAs(put, request as Fields)
    case Rpc.DeleteRangeRequestSchema:
      return encodeAs(deleteRange, request as Fields)
    case Rpc.TxnRequestSchema:
      return encodeAs(txn, request as Fields)
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
  /** How deep in transactions within transactions it is. */
  depth = 0
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

  /** What has more than seven bytes: the first seven make one number, and the others another. */
  private bigVarint(): bigint {
    const low = this.sevenBits(7)
    if (this.isLast) return BigInt(low)
    const high = this.sevenBits(3)
    if (this.isLast) return BigInt.asUintN(64, (BigInt(high) << shift49) | BigInt(low))
    this.failed = true
    return 0n
  }

  /** Whether what was read last was the end of a number. */
  private isLast = false

  private sevenBits(most: number): number {
    this.isLast = false
    let value = 0
    let factor = 1
    for (let count = 0; count < most && !this.isLast; count++) {
      const byte = this.bytes[this.at++]
      if (byte === undefined) break
      value += (byte & 127) * factor
      factor *= 128
      this.isLast = byte < 128
    }
    return value
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
        if (!reader.failed && revision === 0n && raftTerm === 0n && reader.at - start <= longestIds) {
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
    case dataTag(4):
      return { case: "responseTxn", value: readInnerTxn(reader, reader.end(limit)) }
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

const readInnerTxn = (reader: Reader, end: number): Rpc.TxnResponse => {
  if (++reader.depth > deepest) reader.fail()
  const response = readTxn(reader, end)
  reader.depth--
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
