/**
 * What a member's write-ahead log has come to, read from its files, as etcd reads them when it starts.
 *
 * Each record has a checksum of its data and of all before it; the first record of a file has the one that the file before
 * ended with (CRC-32C; `pkg/crc`, and `server/storage/wal/decoder.go` of etcd). An entry takes the place of one with its
 * index, and of all after that. How far the entries are known to be committed is written beside them, and later: of those
 * after that, others may have been told that they are.
 *
 * @internal
 */
import type { Span } from "./bolt.ts"
import * as Wal from "./wal.ts"

const types = { metadata: 1, entry: 2, state: 3, checksum: 4, snapshot: 5 } as const

/** A place in the log of a cluster: that of a later term is further, and of one term, the one with the higher index. */
export interface Position {
  readonly term: bigint
  readonly index: bigint
}

export const isBefore = (a: Position, b: Position): boolean => (a.term === b.term ? a.index < b.index : a.term < b.term)

/** What raft remembers. */
export interface HardState {
  readonly term: bigint
  readonly vote: bigint
  readonly commit: bigint
}

/** Who has written a log. */
export interface Ids {
  readonly memberId: bigint
  readonly clusterId: bigint
}

export interface Log extends Ids {
  /** The last entry, or the snapshot that stands for it. */
  readonly last: Position
  readonly state: HardState
  /** Where the last file ends, and with which checksum. What is after it was not written to its end. */
  readonly end: number
  readonly checksum: number
  readonly isTorn: boolean
  /** The entry that removes whose log it is, and all after that; mostly none. */
  readonly sinceRemoval: ReadonlyArray<Entry>
}

/** An entry, as it is written. */
interface Entry extends Position {
  readonly data: Uint8Array
}

// ── checksums ──

const polynomial = 0x82f63b78

const table = /*#__PURE__*/ Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ polynomial : value >>> 1
  return value
})

const extend = (checksum: number, bytes: Uint8Array): number => {
  let value = ~checksum
  for (let at = 0; at < bytes.length; at++) value = table[(value ^ bytes[at]!) & 0xff]! ^ (value >>> 8)
  return ~value >>> 0
}

// ── messages ──

/** The numbers of a message by their fields, up to the first field that is none. Zero is what is not there. */
const numbersOf = (bytes: Uint8Array, fields: number): ReadonlyArray<bigint> => {
  const found = Array.from({ length: fields + 1 }, () => 0n)
  let at = 0
  const readNumber = (): bigint => {
    let value = 0n
    for (let shift = 0n; at < bytes.length; shift += 7n) {
      const byte = bytes[at++]!
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) break
    }
    return value
  }
  while (at < bytes.length) {
    const tag = Number(readNumber())
    if ((tag & 7) !== 0) break
    const value = readNumber()
    if (tag >> 3 <= fields) found[tag >> 3] = value
  }
  return found
}

const entryFields = { type: 1, term: 2, index: 3, data: 4 } as const
/** An entry that changes who is a member, and the changes there are. */
const change = 1n
const remove = 1n

const number = (value: bigint): Array<number> => {
  const bytes: Array<number> = []
  for (; value > 0x7fn; value >>= 7n) bytes.push(Number(value & 0x7fn) | 0x80)
  bytes.push(Number(value))
  return bytes
}

const inSpan = (file: Uint8Array, { from, to }: Span) => file.subarray(from, to)

const typeOf = (file: Uint8Array, { body }: Wal.Record): number => Number(numbersOf(inSpan(file, body), 1)[1])

/** The ids of a record of metadata. */
const idsOf = (data: Uint8Array): Ids => {
  const [, memberId, clusterId] = numbersOf(data, 2)
  return { memberId: memberId!, clusterId: clusterId! }
}

/** The ids with which a file of the log begins, of which that is enough: in its second record, after the first checksum. */
export const idsIn = (file: Uint8Array): Ids | undefined => {
  const record = Wal.records(file)
    .slice(0, 2)
    .find((one) => typeOf(file, one) === types.metadata)
  const ids = record === undefined ? undefined : idsOf(inSpan(file, Wal.dataOf(file, record.body)))
  return ids === undefined || ids.memberId === 0n || ids.clusterId === 0n ? undefined : ids
}

/**
 * Whether nothing was written since a log was made, by the head of its newest file. etcd that starts with such a one begins
 * nothing, and waits for ever where no other member tells it what there is.
 */
export const isBlank = (head: Uint8Array): boolean => {
  const records = Wal.records(head)
  const isMade = (record: Wal.Record): boolean => {
    const type = typeOf(head, record)
    const [, index] = numbersOf(inSpan(head, Wal.dataOf(head, record.body)), 1)
    return type === types.checksum || type === types.metadata || (type === types.snapshot && index === 0n)
  }
  return records.every(isMade) && head.subarray(records.at(-1)?.to ?? 0).every((byte) => byte === 0)
}

/** Thrown nowhere: what is told of a log that etcd would not start with. */
export interface Damage {
  readonly damage: string
}

export const isDamage = (log: Log | Damage): log is Damage => "damage" in log

export interface Reader {
  /** Reads the next file, in the order of their names. */
  readonly add: (file: Uint8Array) => void
  readonly end: () => Log | Damage
}

/** Whether an entry that changes who is a member removes that one. */
const removes = (entry: Uint8Array, memberId: bigint | undefined): boolean => {
  const data = Wal.dataOf(entry, { from: 0, to: entry.length }, entryFields.data)
  const [, , type, member] = numbersOf(inSpan(entry, data), 3)
  return type === remove && member === memberId
}

export const makeReader = (): Reader => {
  let checksum = 0
  let damage: string | undefined
  let isTorn = false
  let end = 0
  let metadata: Ids | undefined
  let last: Position = { term: 0n, index: 0n }
  let state: HardState = { term: 0n, vote: 0n, commit: 0n }
  let sinceRemoval: ReadonlyArray<Entry> = []

  const takeEntry = (data: Uint8Array): void => {
    const [, type, term, index] = numbersOf(data, 3)
    last = { term: term!, index: index! }
    sinceRemoval = sinceRemoval.filter((entry) => entry.index < last.index)
    if (sinceRemoval.length > 0 || (type === change && removes(data, metadata?.memberId))) {
      sinceRemoval = [...sinceRemoval, { ...last, data: data.slice() }]
    }
  }

  const take = (type: number, data: Uint8Array): void => {
    if (type === types.metadata) {
      metadata = idsOf(data)
    } else if (type === types.entry) {
      takeEntry(data)
    } else if (type === types.state) {
      const [, term, vote, commit] = numbersOf(data, 3)
      state = { term: term!, vote: vote!, commit: commit! }
    } else if (type === types.snapshot) {
      const [, index, term] = numbersOf(data, 2)
      if (index! > last.index) last = { term: term!, index: index! }
    }
  }

  const add = (file: Uint8Array): void => {
    if (damage !== undefined) return
    if (isTorn) {
      damage = "a file before the last one ends within a record"
      return
    }
    end = 0
    for (const record of Wal.records(file)) {
      const [, type, expected] = numbersOf(inSpan(file, record.body), 2)
      const data = inSpan(file, Wal.dataOf(file, record.body))
      if (Number(type) === types.checksum) {
        if (checksum !== 0 && BigInt(checksum) !== expected) damage = "a file does not go on where the one before ends"
        checksum = Number(expected)
      } else {
        const extended = extend(checksum, data)
        if (BigInt(extended) !== expected) {
          if (Wal.mayBeTorn(file, record)) isTorn = true
          else damage = `the record at ${record.from} is not what its checksum says`
        } else {
          checksum = extended
          take(Number(type), data)
        }
      }
      if (isTorn || damage !== undefined) return
      end = record.to
    }
    // A length that leads beyond the end is that of a record of which no more was written.
    if (file.subarray(end, end + 8).some((byte) => byte !== 0)) isTorn = true
  }

  return {
    add,
    end: () => {
      if (damage !== undefined) return { damage }
      if (metadata === undefined) return { damage: "it does not say whose it is" }
      return { ...metadata, last, state, end, checksum, isTorn, sinceRemoval }
    }
  }
}

const numberField = (field: number, value: bigint) => [field << 3, ...number(value)]
const bytesField = (field: number, bytes: Iterable<number> & { readonly length: number }) => [
  (field << 3) | 2,
  ...number(BigInt(bytes.length)),
  ...bytes
]

const entryOf = ({ index, term }: Position, type = 0n): Array<number> => [
  ...numberField(entryFields.type, type),
  ...numberField(entryFields.term, term),
  ...numberField(entryFields.index, index)
]

/** Gives a learner its vote, and changes nothing of who has one (`ConfigChangeContext` in etcd's `membership`). */
const promotion = (at: Position, memberId: bigint): Array<number> => {
  const context = Buffer.from(`{"id":${memberId},"peerURLs":[],"isPromote":true}`)
  return [
    ...entryOf(at, change),
    ...bytesField(entryFields.data, [...numberField(3, memberId), ...bytesField(4, context)])
  ]
}

/** A record, with its length before it, and the checksum of all up to its end. */
const record = (type: number, data: Uint8Array, before: number) => {
  const checksum = extend(before, data)
  const body = Buffer.from([
    ...numberField(1, BigInt(type)),
    ...numberField(2, BigInt(checksum)),
    ...bytesField(3, data)
  ])
  const padding = -body.length & 7
  const bytes = Buffer.alloc(8 + body.length + padding)
  bytes.writeBigUInt64LE(BigInt(body.length))
  if (padding > 0) bytes.writeUInt8(0x80 | padding, 7)
  bytes.set(body, 8)
  return { bytes, checksum }
}

/**
 * The records that say that all entries of a log are committed; they are to be written where the log ends. Whose log it is
 * can go on alone after that: it is not removed, and has a vote.
 */
export const commitAll = ({ checksum, last, memberId, sinceRemoval, state }: Log): Uint8Array => {
  const term = state.term > last.term ? state.term : last.term
  const promoted = { term, index: last.index + 1n }
  const [removal, ...others] = sinceRemoval
  const entries = [
    ...(removal === undefined ? [] : [entryOf(removal), ...others.map(({ data }) => data)]),
    promotion(promoted, memberId)
  ]
  const committed = [...numberField(1, term), ...numberField(2, state.vote), ...numberField(3, promoted.index)]
  const written: Array<Uint8Array> = []
  let sum = checksum
  const write = (type: number, data: Iterable<number>) => {
    const { bytes, checksum } = record(type, Uint8Array.from(data), sum)
    sum = checksum
    written.push(bytes)
  }
  for (const entry of entries) write(types.entry, entry)
  write(types.state, committed)
  return Buffer.concat(written)
}
