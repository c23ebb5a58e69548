/**
 * Which lease is to be looked at next: a binary heap, whose members know their places, so that any of them can be moved
 * or taken out. Of those of the same time the oldest comes first.
 *
 * @internal
 */
import { type Entry, never } from "./entry.ts"

const nowhere = -1

const isBefore = (one: Entry, other: Entry): boolean =>
  one.checkAt < other.checkAt || (one.checkAt === other.checkAt && one.number < other.number)

export class Agenda {
  private readonly heap: Array<Entry> = []

  /** When the first is to be looked at. */
  get nextAt(): number {
    return this.heap[0]?.checkAt ?? never
  }

  /** Puts a lease in, or moves it. */
  put(entry: Entry, at: number): void {
    entry.checkAt = at
    if (entry.place === nowhere) {
      entry.place = this.heap.length
      this.heap.push(entry)
    }
    this.rise(entry)
    this.sink(entry)
  }

  remove(entry: Entry): void {
    const { place } = entry
    if (place === nowhere) return
    entry.place = nowhere
    const last = this.heap.pop()!
    if (last === entry) return
    this.set(last, place)
    this.rise(last)
    this.sink(last)
  }

  /** Takes out the first, if it is its time. */
  take(now: number): Entry | undefined {
    const [first] = this.heap
    if (first === undefined || first.checkAt > now) return undefined
    this.remove(first)
    return first
  }

  private set(entry: Entry, place: number): void {
    this.heap[place] = entry
    entry.place = place
  }

  private swap(entry: Entry, other: Entry): void {
    const { place } = entry
    this.set(entry, other.place)
    this.set(other, place)
  }

  private rise(entry: Entry): void {
    while (entry.place > 0) {
      const parent = this.heap[(entry.place - 1) >> 1]!
      if (isBefore(parent, entry)) return
      this.swap(entry, parent)
    }
  }

  private sink(entry: Entry): void {
    while (true) {
      const left = this.heap[2 * entry.place + 1]
      const right = this.heap[2 * entry.place + 2]
      const child = right !== undefined && isBefore(right, left!) ? right : left
      if (child === undefined || isBefore(entry, child)) return
      this.swap(entry, child)
    }
  }
}
