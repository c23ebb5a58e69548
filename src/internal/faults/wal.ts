/**
 * Where the records of a file of etcd's write-ahead log lie.
 *
 * A file is allocated whole, and what is not written yet is zero. A record has eight bytes before it: its length, and in the
 * highest byte, if the highest bit is set, how many bytes of padding come after it. (Facts: `server/storage/wal/encoder.go`
 * and `decoder.go` of etcd 3.5 to 3.7, `wal/` of 3.4.)
 *
 * @internal
 */
import type { Span } from "./bolt.ts"

const headBytes = 8

/** A record, from its length to its padding. `body`: what its checksum vouches for, and the checksum. */
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
