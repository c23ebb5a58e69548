/**
 * Where one watch is in the history: what of an answer is new and complete, and from which revision to go on.
 *
 * What a server sends is not taken on trust. Events that were delivered before are dropped, because servers send them
 * again after they were restored from a leader's snapshot (etcd before 3.4.25 and 3.5.8), and to watches that wait for
 * a future revision (before 3.4.38 and 3.5.22). A revision whose events come in several answers is held until the last.
 *
 * @internal
 */
import type { Event } from "../proto/kv_pb.ts"

const none: ReadonlyArray<Event> = []

const revisionOf = (event: Event): bigint => event.kv!.modRevision

export class Cursor {
  /** The first revision that is still to come. 0: not known before a server has taken the watch. */
  next: bigint
  /** The beginning of a revision whose end has not come. */
  private held: Array<Event> | undefined

  constructor(start: bigint) {
    this.next = start
  }

  /** A server is asked from here on, and sends again what it had sent in part. */
  rewind(): void {
    this.held = undefined
  }

  /** A server has taken the watch when the store was at `revision`. */
  created(revision: bigint): void {
    if (this.next === 0n) this.next = revision + 1n
  }

  /** The events that are new and whose revisions are complete. `more`: the last revision may go on. */
  take(arrived: ReadonlyArray<Event>, more: boolean): ReadonlyArray<Event> {
    const fresh = this.unheard(arrived)
    if (this.held === undefined && !more) return this.pass(fresh)
    const events = this.held ?? []
    this.held = undefined
    for (const event of fresh) events.push(event)
    return more ? this.hold(events) : this.pass(events)
  }

  /** Nothing up to `revision` is still to come. False: that is no news. */
  progress(revision: bigint): boolean {
    if (this.held !== undefined || this.next === 0n || revision < this.next - 1n) return false
    this.next = revision + 1n
    return true
  }

  private unheard(events: ReadonlyArray<Event>): ReadonlyArray<Event> {
    const first = events[0]
    return first === undefined || revisionOf(first) >= this.next
      ? events
      : events.filter((event) => revisionOf(event) >= this.next)
  }

  private pass(events: ReadonlyArray<Event>): ReadonlyArray<Event> {
    const last = events.at(-1)
    if (last !== undefined) this.next = revisionOf(last) + 1n
    return events
  }

  private hold(events: Array<Event>): ReadonlyArray<Event> {
    const last = events.at(-1)
    if (last === undefined) return none
    const revision = revisionOf(last)
    const from = events.findLastIndex((event) => revisionOf(event) !== revision) + 1
    this.held = events.slice(from)
    return this.pass(events.slice(0, from))
  }
}
