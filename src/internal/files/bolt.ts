/**
 * Where the pages of etcd's database are.
 *
 * Which bytes are in use: those of the pages that its newest state leads to. All others belong to pages that are free, or
 * that never were.
 *
 * (Facts: `internal/common/page.go`, `meta.go`, `inode.go` and `bucket.go` of bbolt. All numbers are those of this machine's
 * byte order, which is little-endian wherever etcd runs but on s390x.)
 *
 * @internal
 */

/** The bytes from `from` on, up to and without `to`. */
export interface Span {
  readonly from: number
  readonly to: number
}

const magic = 0xed0cdaed
const branch = 0x01
const leaf = 0x02
const bucket = 0x01
const pageHead = 16
const elementBytes = 16

/** What the newest state of a database says of all of it. */
export interface Head {
  readonly pageSize: number
  /** The page where it begins. */
  readonly root: number
  /** How many pages there have ever been. A file may have room for more, but not for less. */
  readonly pages: number
}

/** How many bytes surely have the head, whatever the size of pages. */
export const headBytes = 128 * 1024

/** Reads the first bytes of a file; nothing where it is no database. */
export const headOf = (file: Uint8Array): Head | undefined =>
  rootOf(new DataView(file.buffer, file.byteOffset, file.byteLength))

/** Where the newest state begins; nothing where the file is no database. */
const rootOf = (view: DataView): Head | undefined => {
  const pageSize = view.byteLength < 4096 ? 0 : view.getUint32(pageHead + 8, true)
  const metas = [0, pageSize]
    .map((page) => page + pageHead)
    .filter((at) => at + 64 <= view.byteLength && view.getUint32(at, true) === magic)
    .map((at) => ({
      root: Number(view.getBigUint64(at + 16, true)),
      pages: Number(view.getBigUint64(at + 40, true)),
      transaction: view.getBigUint64(at + 48, true)
    }))
  const newest = metas.reduce<(typeof metas)[number] | undefined>(
    (one, other) => (one !== undefined && one.transaction > other.transaction ? one : other),
    undefined
  )
  return newest === undefined ? undefined : { pageSize, root: newest.root, pages: newest.pages }
}

/** What is in use. A page that makes no sense, as after damage, leads nowhere. */
export const used = (file: Uint8Array): ReadonlyArray<Span> => {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const start = rootOf(view)
  if (start === undefined) return []
  const { pageSize, root } = start
  const spans: Array<Span> = []
  const seen = new Set<number>()
  const toVisit = [root]

  const visit = (page: number): void => {
    const from = page * pageSize
    if (seen.has(page) || page < 2 || from + pageSize > file.length) return
    seen.add(page)
    const flags = view.getUint16(from + 8, true)
    const count = view.getUint16(from + 10, true)
    const end = from + pageSize * (1 + view.getUint32(from + 12, true))
    let to = from + pageHead + count * elementBytes
    if ((flags !== branch && flags !== leaf) || end > file.length || to > end) return
    for (let element = from + pageHead; element < from + pageHead + count * elementBytes; element += elementBytes) {
      if (flags === branch) {
        to = Math.max(to, element + view.getUint32(element, true) + view.getUint32(element + 4, true))
        toVisit.push(Number(view.getBigUint64(element + 8, true)))
        continue
      }
      const value = element + view.getUint32(element + 4, true) + view.getUint32(element + 8, true)
      to = Math.max(to, value + view.getUint32(element + 12, true))
      // A bucket that is small is in place, and has no root.
      if (view.getUint32(element, true) === bucket && value + 8 <= end) {
        toVisit.push(Number(view.getBigUint64(value, true)))
      }
    }
    spans.push({ from, to: Math.min(to, end) })
  }

  for (let next = toVisit.pop(); next !== undefined; next = toVisit.pop()) visit(next)
  return spans
}
