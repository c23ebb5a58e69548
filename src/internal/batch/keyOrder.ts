/**
 * The order in which calls on one key go.
 *
 * @internal
 */
import type { Member } from "./member.ts"

/** So many keys without calls are not worth a sweep. */
const fewestIdle = 4096

/**
 * Calls on one key go one after the other, in the order they came: etcd takes up requests that are under way at the
 * same time in any order, and refuses a transaction that writes a key twice.
 *
 * Keys are forgotten many at a time, into a new map. (A map whose entries come and go keeps the garbage collector from
 * letting go of what it held, as `StreamTable` of the HTTP/2 client explains.)
 */
export class KeyOrder {
  /** The last call on each key that has calls, and nothing for keys that had some. */
  private last = new Map<string, Member | undefined>()
  /** How often keys ran out of calls since the last sweep. */
  private idle = 0

  isFree(key: string | undefined): boolean {
    return key === undefined || this.last.get(key) === undefined
  }

  /** Whether the call may go now. Otherwise `leave` answers with it when it may. */
  enter(member: Member): boolean {
    if (member.key === undefined) return true
    const before = this.last.get(member.key)
    this.last.set(member.key, member)
    if (before === undefined) return true
    before.next = member
    member.blocked = true
    return false
  }

  /** The call has ended. The next one on its key, if there is one, may go. */
  leave(member: Member): Member | undefined {
    if (member.key === undefined) return undefined
    let next = member.next
    while (next !== undefined && next.state === "ended") next = next.next
    member.next = undefined
    if (next !== undefined) next.blocked = false
    else this.retire(member.key)
    return next
  }

  private retire(key: string): void {
    this.last.set(key, undefined)
    if (++this.idle < fewestIdle || this.idle < this.last.size / 2) return
    this.idle = 0
    this.last = new Map([...this.last].filter(([, member]) => member !== undefined))
  }
}
