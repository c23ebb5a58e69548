/**
 * A map whose versions stay as they are, in the order of its keys.
 *
 * It is a sorted array in chunks. A change copies the chunk that it is in and the list of chunks, and shares the rest
 * with the version before; changes that are made together copy each chunk once. Two versions are told apart by looking
 * only into the chunks that they do not share. The newest version has an index as well, a `Map` that each version hands
 * on to the next: a binary search through 100,000 keys takes a microsecond, most of it to wait for memory.
 *
 * A key is text with a character for each byte, so that the order of texts is that of etcd's keys. What is ASCII, as
 * most keys are, is its own text.
 *
 * Of Effect's maps, `HashMap` has no order, and `Trie` takes a node for each character of a key: with 100,000 keys
 * more memory than the keys and values themselves, and more than two microseconds to find one.
 *
 * @internal
 */
import type { Bytes } from "../../KeyRange.ts"
import * as Keys from "../keys.ts"

// ── keys ──

const beyondAscii = /[^\0-\x7f]/

const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const latin1 = (bytes: Uint8Array): string => Buffer.prototype.latin1Slice.call(bytes, 0, bytes.length)

/** A key as this map has it. */
export const keyOf = (key: Bytes): string =>
  typeof key === "string" && !beyondAscii.test(key) ? key : latin1(Keys.toBytes(key))

/** The bytes of a key of this map. */
export const bytesOf = (key: string): Uint8Array => new Uint8Array(Buffer.from(key, "latin1"))

/** A key of this map as its text. */
export const textOf = (key: string): string => (beyondAscii.test(key) ? decoder.decode(bytesOf(key)) : key)

// ── chunks ──

/** How many keys a chunk may have. What it takes to find a key hardly depends on it, what a change costs does. */
const most = 256

/** A chunk with fewer keys joins its neighbour, if both together are not nearly full. */
const few = most / 8
const roomy = most / 2

interface Chunk<A> {
  readonly keys: Array<string>
  readonly values: Array<A>
  /** Who may change it, while that is under way. */
  readonly owner: object | undefined
}

/** The first place whose key is not before this one. */
const placeOf = (keys: ReadonlyArray<string>, key: string): number => {
  let low = 0
  let high = keys.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (keys[middle]! < key) low = middle + 1
    else high = middle
  }
  return low
}

/** The chunk that the key is in, if it is in any: the last one that does not begin after it. */
const chunkOf = (firsts: ReadonlyArray<string>, key: string): number => {
  let low = 1
  let high = firsts.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (firsts[middle]! <= key) low = middle + 1
    else high = middle
  }
  return low - 1
}

const find = <A>(firsts: ReadonlyArray<string>, chunks: ReadonlyArray<Chunk<A>>, key: string): A | undefined => {
  if (chunks.length === 0) return undefined
  const { keys, values } = chunks[chunkOf(firsts, key)]!
  const place = placeOf(keys, key)
  return keys[place] === key ? values[place] : undefined
}

// ── versions ──

/** What became of a key from one version to the next. */
export interface Difference<A> {
  readonly key: string
  readonly before: A | undefined
  readonly after: A | undefined
}

/** What the newest version has: all of it, by hash. */
interface Index<A> {
  readonly values: Map<string, A>
  newest: SortedMap<A> | undefined
}

/** No value is `undefined`. */
export class SortedMap<A> {
  readonly size: number
  private readonly firsts: ReadonlyArray<string>
  private readonly chunks: ReadonlyArray<Chunk<A>>
  private readonly index: Index<A>

  constructor(firsts: ReadonlyArray<string>, chunks: ReadonlyArray<Chunk<A>>, size: number, index: Index<A>) {
    this.firsts = firsts
    this.chunks = chunks
    this.size = size
    this.index = index
    index.newest = this
  }

  static empty<A>(): SortedMap<A> {
    return SortedMap.fromSorted<A>([], [])
  }

  /** Of keys that are in their order, each once. */
  static fromSorted<A>(keys: ReadonlyArray<string>, values: ReadonlyArray<A>): SortedMap<A> {
    const firsts: Array<string> = []
    const chunks: Array<Chunk<A>> = []
    const index: Index<A> = { values: new Map(), newest: undefined }
    const full = (most * 3) / 4
    for (let from = 0; from < keys.length; from += full) {
      firsts.push(keys[from]!)
      chunks.push({ keys: keys.slice(from, from + full), values: values.slice(from, from + full), owner: undefined })
    }
    for (let at = 0; at < keys.length; at++) index.values.set(keys[at]!, values[at]!)
    return new SortedMap(firsts, chunks, keys.length, index)
  }

  get(key: string): A | undefined {
    return this.index.newest === this ? this.index.values.get(key) : find(this.firsts, this.chunks, key)
  }

  /** Those from a key on, and before another one if there is one, in their order. */
  *entries(from = "", end?: string): IterableIterator<[key: string, value: A]> {
    if (this.chunks.length === 0) return
    const first = chunkOf(this.firsts, from)
    let place = placeOf(this.chunks[first]!.keys, from)
    for (let at = first; at < this.chunks.length; at++) {
      const { keys, values } = this.chunks[at]!
      for (; place < keys.length; place++) {
        const key = keys[place]!
        if (end !== undefined && key >= end) return
        yield [key, values[place]!]
      }
      place = 0
    }
  }

  /** Begins the next version, of the newest. */
  edit(): Edit<A> {
    const { index } = this
    index.newest = undefined
    return new Edit([...this.firsts], [...this.chunks], this.size, index)
  }

  /** What is other than in an older version, in the order of the keys. Values are compared by identity. */
  since(older: SortedMap<A>): ReadonlyArray<Difference<A>> {
    const differences: Array<Difference<A>> = []
    const old = new Cursor(older.chunks)
    const now = new Cursor(this.chunks)
    while (old.chunk !== undefined || now.chunk !== undefined) {
      if (old.chunk === now.chunk && old.place === 0 && now.place === 0) {
        old.skip()
        now.skip()
        continue
      }
      const { key: was } = old
      const { key: is } = now
      if (is === undefined || (was !== undefined && was < is)) {
        differences.push({ key: was!, before: old.value, after: undefined })
        old.next()
      } else if (was === undefined || is < was) {
        differences.push({ key: is, before: undefined, after: now.value })
        now.next()
      } else {
        if (old.value !== now.value) differences.push({ key: is, before: old.value, after: now.value })
        old.next()
        now.next()
      }
    }
    return differences
  }
}

/** A place in a version. */
class Cursor<A> {
  place = 0
  private at = 0
  private readonly chunks: ReadonlyArray<Chunk<A>>

  constructor(chunks: ReadonlyArray<Chunk<A>>) {
    this.chunks = chunks
  }

  get chunk(): Chunk<A> | undefined {
    return this.chunks[this.at]
  }

  get key(): string | undefined {
    return this.chunk?.keys[this.place]
  }

  get value(): A | undefined {
    return this.chunk?.values[this.place]
  }

  next(): void {
    if (++this.place === this.chunk!.keys.length) this.skip()
  }

  /** Goes to the next chunk. */
  skip(): void {
    this.at++
    this.place = 0
  }
}

/** Changes that make the next version together. */
export class Edit<A> {
  private readonly owner: object = {}
  private readonly firsts: Array<string>
  private readonly chunks: Array<Chunk<A>>
  private readonly index: Index<A>
  private size: number

  constructor(firsts: Array<string>, chunks: Array<Chunk<A>>, size: number, index: Index<A>) {
    this.firsts = firsts
    this.chunks = chunks
    this.size = size
    this.index = index
  }

  get(key: string): A | undefined {
    return this.index.values.get(key)
  }

  set(key: string, value: A): void {
    this.index.values.set(key, value)
    if (this.chunks.length === 0) {
      this.insertChunk(0, [key], [value])
      this.size++
      return
    }
    const at = chunkOf(this.firsts, key)
    const { keys, values } = this.own(at)
    const place = placeOf(keys, key)
    if (keys[place] === key) {
      values[place] = value
      return
    }
    keys.splice(place, 0, key)
    values.splice(place, 0, value)
    this.size++
    this.firsts[at] = keys[0]!
    if (keys.length > most) this.insertChunk(at + 1, keys.splice(most / 2), values.splice(most / 2))
  }

  delete(key: string): void {
    if (!this.index.values.delete(key)) return
    const at = chunkOf(this.firsts, key)
    const { keys, values } = this.own(at)
    const place = placeOf(keys, key)
    keys.splice(place, 1)
    values.splice(place, 1)
    this.size--
    if (keys.length === 0) this.removeChunk(at)
    else {
      this.firsts[at] = keys[0]!
      if (keys.length < few) this.joinNeighbour(at)
    }
  }

  /** The version that has come of it. No more is changed then. */
  done(): SortedMap<A> {
    return new SortedMap(this.firsts, this.chunks, this.size, this.index)
  }

  private own(at: number): Chunk<A> {
    const chunk = this.chunks[at]!
    if (chunk.owner === this.owner) return chunk
    const copy: Chunk<A> = { keys: [...chunk.keys], values: [...chunk.values], owner: this.owner }
    this.chunks[at] = copy
    return copy
  }

  private insertChunk(at: number, keys: Array<string>, values: Array<A>): void {
    this.firsts.splice(at, 0, keys[0]!)
    this.chunks.splice(at, 0, { keys, values, owner: this.owner })
  }

  private removeChunk(at: number): void {
    this.firsts.splice(at, 1)
    this.chunks.splice(at, 1)
  }

  private joinNeighbour(at: number): void {
    const left = at === 0 ? 0 : at - 1
    const right = this.chunks[left + 1]
    if (right === undefined || this.chunks[left]!.keys.length + right.keys.length > roomy) return
    const { keys, values } = this.own(left)
    keys.push(...right.keys)
    values.push(...right.values)
    this.removeChunk(left + 1)
  }
}
