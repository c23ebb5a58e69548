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

export const makeReader = (): Reader => {
  let checksum = 0
  let damage: string | undefined
  let isTorn = false
  let end = 0
  let metadata: Ids | undefined
  let last: Position = { term: 0n, index: 0n }
  let state: HardState = { term: 0n, vote: 0n, commit: 0n }

  const take = (type: number, data: Uint8Array): void => {
    if (type === types.metadata) {
      metadata = idsOf(data)
    } else if (type === types.entry) {
      const [, , term, index] = numbersOf(data, 3)
      last = { term: term!, index: index! }
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
      return { ...metadata, last, state, end, checksum, isTorn }
    }
  }
}

/** The record that says that all entries of a log are committed; it is to be written where the log ends. */
export const commitAll = ({ checksum, last, state }: Log): Uint8Array => {
  const term = state.term > last.term ? state.term : last.term
  const data = Uint8Array.from([0x08, ...number(term), 0x10, ...number(state.vote), 0x18, ...number(last.index)])
  const extended = extend(checksum, data)
  const body = [0x08, types.state, 0x10, ...number(BigInt(extended)), 0x1a, data.length, ...data]
  const padding = -body.length & 7
  const record = new Uint8Array(8 + body.length + padding)
  const view = new DataView(record.buffer)
  view.setBigUint64(0, BigInt(body.length), true)
  if (padding > 0) view.setUint8(7, 0x80 | padding)
  record.set(body, 8)
  return record
}
