/**
 * Ranges of keys, as transactions read and write them.
 *
 * @internal
 */
import * as KeyRange from "../../KeyRange.ts"
import * as Keys from "../keys.ts"
import * as Receipts from "./stmReceipts.ts"

export const nameOfRange = ({ end, key }: KeyRange.KeyRange): string =>
  `${key.length}:${Keys.nameOf(key)}${Keys.nameOf(end)}`

export const isSingle = ({ end }: KeyRange.KeyRange): boolean => end.length === 0

export const contains = ({ end, key: first }: KeyRange.KeyRange, key: Uint8Array): boolean => {
  if (end.length === 0) return Keys.compare(first, key) === 0
  return Keys.compare(first, key) <= 0 && (Keys.isUnbounded(end) || Keys.compare(key, end) < 0)
}

/** Whether every key of the one range is in the other one. */
export const covers = (outer: KeyRange.KeyRange, inner: KeyRange.KeyRange): boolean => {
  if (!contains(outer, inner.key)) return false
  if (isSingle(inner) || Keys.isUnbounded(outer.end)) return true
  return !isSingle(outer) && !Keys.isUnbounded(inner.end) && Keys.compare(inner.end, outer.end) <= 0
}

export const isBefore = (end: Uint8Array, key: Uint8Array): boolean =>
  !Keys.isUnbounded(end) && Keys.compare(end, key) <= 0

export const upTo = (first: Uint8Array, end: Uint8Array): KeyRange.KeyRange =>
  Keys.isUnbounded(end) ? KeyRange.from(first) : KeyRange.interval(first, end)

/** What of a range is behind another one, with which it begins. */
export const behind = (range: KeyRange.KeyRange, { end }: KeyRange.KeyRange): ReadonlyArray<KeyRange.KeyRange> =>
  end.length === 0 || Keys.isUnbounded(end) || isBefore(range.end, end) ? [] : [upTo(end, range.end)]

/** What of a range is not in another one, which has an end. */
const outside = (range: KeyRange.KeyRange, hole: KeyRange.KeyRange): ReadonlyArray<KeyRange.KeyRange> => {
  if (isBefore(range.end, hole.key) || isBefore(hole.end, range.key)) return [range]
  return [
    ...(Keys.compare(range.key, hole.key) < 0 ? [KeyRange.interval(range.key, hole.key)] : []),
    ...(isBefore(range.end, hole.end) ? [] : [upTo(hole.end, range.end)])
  ]
}

const receipts = KeyRange.prefix(Receipts.prefix)

/**
 * A range without the receipts in it: they come with each transaction, and go by themselves, so that who reads all there
 * is would be run again for each of them, and they are for nobody to delete. A key that is asked for by its name is itself.
 */
export const withoutReceipts = (range: KeyRange.KeyRange): ReadonlyArray<KeyRange.KeyRange> =>
  isSingle(range) ? [range] : outside(range, receipts)
