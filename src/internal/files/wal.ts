/**
 * Where the records of a file of etcd's write-ahead log lie, and what of them a checksum vouches for.
 *
 * A file is allocated whole, and what is not written yet is zero. A record has eight bytes before it: its length, and in the
 * highest byte, if the highest bit is set, how many bytes of padding come after it. It is a message of a type, a checksum
 * and data, in that order. The checksum is that of the data alone: a type or a length that is another one is found where it
 * makes no sense, or taken for the end of the log. So is a record that is damaged, and has nothing but zeros in a sector of
 * the disk: it is taken for one that a loss of power tore. (Facts: `server/storage/wal/encoder.go` and `decoder.go`, and
 * `walpb/record.proto`, of etcd 3.5 to 3.7, `wal/` of 3.4.)
 *
 * @internal
 */
import type { Span } from "./bolt.ts"

const headBytes = 8

const sectorBytes = 512

/** The field of a record that has its data, which comes last. */
const dataField = 3

/** A record, from its length to its padding. `body`: the message. */
export interface Record extends Span {
  readonly body: Span
}

/** The newest of the files in the directory of the log: they are named by their number, in hexadecimal digits. */
export const newest = (names: ReadonlyArray<string>): string | undefined =>
  names
    .filter((name) => name.endsWith(".wal"))
    .sort()
    .at(-1)

export const records = (file: Uint8Array): ReadonlyArray<Record> => {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const found: Array<Record> = []
  let from = 0
  while (from + headBytes <= file.length) {
    const highest = view.getUint8(from + 7)
    const length = Number(view.getBigUint64(from, true) & 0x00ff_ffff_ffff_ffffn)
    const body = { from: from + headBytes, to: from + headBytes + length }
    const to = body.to + (highest >= 0x80 ? highest & 7 : 0)
    if (length === 0 || to > file.length) break
    found.push({ from, to, body })
    from = to
  }
  return found
}

/** Where the data of a message are: of a record, if no other field is named. Where there are none, nothing. */
export const dataOf = (file: Uint8Array, { from, to }: Span, field = dataField): Span => {
  let at = from
  const readNumber = (): number => {
    let value = 0
    for (let scale = 1; at < to; scale *= 0x80) {
      const byte = file[at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) break
    }
    return value
  }
  while (at < to) {
    const tag = readNumber()
    const value = readNumber()
    if (tag === ((field << 3) | 2)) return { from: at, to: Math.min(at + value, to) }
  }
  return { from: to, to }
}

/** Whether a record that is damaged is taken for one that was torn. */
export const mayBeTorn = (file: Uint8Array, { body, to }: Record): boolean => {
  for (let at = body.from, next = at; at < to; at = next) {
    next = Math.min(to, (Math.floor(at / sectorBytes) + 1) * sectorBytes)
    if (file.subarray(at, next).every((byte) => byte === 0)) return true
  }
  return false
}

/** The bytes of which etcd finds every one that has changed. */
export const vouchedFor = (file: Uint8Array): ReadonlyArray<Span> =>
  records(file)
    .filter((record) => !mayBeTorn(file, record))
    .map(({ body }) => dataOf(file, body))
