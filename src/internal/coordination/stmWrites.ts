/**
 * What a try of a transaction is to write: what its own reads see of it, and the operations that it comes to.
 *
 * @internal
 */
import * as Option from "effect/Option"
import { LeaseId } from "../../EtcdId.ts"
import { KeyValue } from "../../EtcdResponse.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import * as KeyRange from "../../KeyRange.ts"
import * as Keys from "../keys.ts"
import { contains, isBefore, isSingle, upTo, withoutReceipts } from "./stmRanges.ts"

/** What becomes of one key. */
export interface Write {
  readonly key: Uint8Array
  /** What is put; `None` where the key is deleted. */
  readonly put: Option.Option<KeyValue>
}

/** A key that no revision has yet. */
const uncommitted = (key: Uint8Array, value: Uint8Array, lease: LeaseId | undefined): KeyValue =>
  new KeyValue({
    key,
    value,
    createRevision: 0n,
    modRevision: 0n,
    version: 0n,
    lease: lease === undefined ? 0n : LeaseId(lease)
  })

const byKey = (a: { readonly key: Uint8Array }, b: { readonly key: Uint8Array }): number => Keys.compare(a.key, b.key)

const operation = ({ key, put }: Write): EtcdTxn.Op<unknown> =>
  Option.match(put, {
    onNone: () => EtcdTxn.delete(key),
    onSome: ({ lease, value }) => EtcdTxn.put(key, value, { lease: Option.getOrUndefined(lease) })
  })

/** A range without some of its keys, which are in their order: etcd does not put in a transaction what it deletes. */
const without = (range: KeyRange.KeyRange, keys: ReadonlyArray<Uint8Array>): ReadonlyArray<KeyRange.KeyRange> => {
  const pieces: Array<KeyRange.KeyRange> = []
  let from = range.key
  for (const key of keys) {
    if (Keys.compare(from, key) < 0) pieces.push(KeyRange.interval(from, key))
    from = Keys.next(key)
  }
  if (!isBefore(range.end, from)) pieces.push(upTo(from, range.end))
  return pieces
}

/** What is written, the later of two writes in the place of the earlier one. */
export class Writes {
  /** Ranges that are deleted, but for the keys that were put after. */
  private deletions: Array<KeyRange.KeyRange> = []
  private readonly keys = new Map<string, Write>()

  get isEmpty(): boolean {
    return this.deletions.length === 0 && this.keys.size === 0
  }

  put(key: Uint8Array, value: Uint8Array, lease: LeaseId | undefined): void {
    this.keys.set(Keys.nameOf(key), { key, put: Option.some(uncommitted(key, value, lease)) })
  }

  delete(range: KeyRange.KeyRange): void {
    if (isSingle(range)) {
      this.keys.set(Keys.nameOf(range.key), { key: range.key, put: Option.none() })
      return
    }
    for (const piece of withoutReceipts(range)) {
      for (const [name, { key }] of this.keys) if (contains(piece, key)) this.keys.delete(name)
      this.deletions.push(piece)
    }
  }

  /** What becomes of a key, if anything does. */
  find(key: Uint8Array): Write | undefined {
    const own = this.keys.get(Keys.nameOf(key))
    if (own !== undefined) return own
    return this.deletions.some((range) => contains(range, key)) ? { key, put: Option.none() } : undefined
  }

  /** What a range will have, in the order of the keys, where it has these now. */
  over(range: KeyRange.KeyRange, kvs: ReadonlyArray<KeyValue>): ReadonlyArray<KeyValue> {
    const kept = kvs.filter((kv) => this.find(kv.key) === undefined)
    const put = this.puts.filter((kv) => contains(range, kv.key))
    return put.length === 0 ? kept : [...kept, ...put].sort(byKey)
  }

  /** The ranges that are written, those of single keys included. */
  get ranges(): ReadonlyArray<KeyRange.KeyRange> {
    return [...this.deletions, ...[...this.keys.values()].map(({ key }) => KeyRange.single(key))]
  }

  get operations(): ReadonlyArray<EtcdTxn.Op<unknown>> {
    const puts = this.puts.map(({ key }) => key).sort(Keys.compare)
    const deletions = this.deletions.flatMap((range) =>
      without(
        range,
        puts.filter((key) => contains(range, key))
      )
    )
    const single = [...this.keys.values()].filter(({ key, put }) => Option.isSome(put) || !this.isInDeletion(key))
    return [...deletions.map((range) => EtcdTxn.delete(range)), ...single.map(operation)]
  }

  private get puts(): ReadonlyArray<KeyValue> {
    return [...this.keys.values()].flatMap(({ put }) => Option.toArray(put))
  }

  private isInDeletion(key: Uint8Array): boolean {
    return this.deletions.some((range) => contains(range, key))
  }
}
