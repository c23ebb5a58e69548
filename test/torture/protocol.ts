/**
 * What workers and those who watch over them say to each other.
 */
import type { Call, Instant, Result, Value } from "./history.ts"
import type { Plant } from "./plants.ts"

/** What a worker is told when it starts. */
export interface Settings {
  readonly name: string
  readonly endpoints: readonly [string, ...Array<string>]
  /** How many fibers make operations, one after the other each. */
  readonly clients: number
  readonly groups: number
  readonly batching: boolean
  readonly seed: number
  /** Its operations are numbered from here on. */
  readonly firstId: number
  readonly plant: Plant | undefined
}

/** What a worker says, each on a line of its own. */
export type Said =
  | { readonly _tag: "Ready" }
  /** An operation is about to be made. */
  | {
      readonly _tag: "Begun"
      readonly id: number
      readonly client: string
      readonly at: Instant
      /** What etcd is told to take at the longest, in milliseconds. */
      readonly deadline: number
      readonly call: Call
      /** The operation on the same key that was begun right before it, and that it must come after. */
      readonly after?: number | undefined
    }
  | { readonly _tag: "Ended"; readonly id: number; readonly at: Instant; readonly result: Result }
  /** What a watch of the keys with a prefix delivered. `from`: the first revision that it was for. */
  | { readonly _tag: "Watching"; readonly watch: string; readonly prefix: string; readonly from: number }
  | { readonly _tag: "Watched"; readonly watch: string; readonly told: Told }
  /** What a mirror of all groups had. `asked`: when it was, where it was to be fresh. */
  | {
      readonly _tag: "Mirrored"
      readonly at: Instant
      readonly asked: Instant | undefined
      readonly revision: number
      readonly keys: ReadonlyArray<readonly [key: string, value: string]>
    }
  /** At that time the lease of a key was held, as far as who holds it can know. `token`: the revision that made the key. */
  | { readonly _tag: "Held"; readonly key: string; readonly token: number; readonly at: Instant }
  /** A place in a line was the first at that revision. `token`: the revision that made its key. */
  | { readonly _tag: "Acquired"; readonly key: string; readonly token: number; readonly revision: number }
  /** It has read under a lock, is about to write, and sends itself SIGSTOP. */
  | { readonly _tag: "Stopping" }
  /** Something that never must be. */
  | { readonly _tag: "Problem"; readonly what: string }
  /** Its event loop stood still. */
  | { readonly _tag: "Stalled"; readonly from: Instant; readonly to: Instant }
  /** What is left in the process when all has ended that was not there before. */
  | { readonly _tag: "Left"; readonly what: ReadonlyArray<string> }

export type Told =
  | {
      readonly _tag: "Revision"
      readonly revision: number
      readonly changes: ReadonlyArray<{ readonly key: string; readonly value: Value }>
    }
  | { readonly _tag: "Progress"; readonly revision: number }
  | {
      readonly _tag: "Snapshot"
      readonly revision: number
      readonly keys: ReadonlyArray<readonly [key: string, value: string]>
    }

/** Tells a worker to stop itself where it is about to write under a lock the next time. */
export const stopBetween = "stop"

/** All keys of a run. What is in groups is written by operations, and by nothing else. */
export const groupsPrefix = "t/g/"
export const keysOfGroup = (group: number): readonly [string, string, string] => {
  const prefix = `${groupsPrefix}${String(group).padStart(3, "0")}/`
  return [`${prefix}a`, `${prefix}b`, `${prefix}c`]
}
/** Large enough that a server sends what many revisions have done in pieces, and the keys of all groups on several pages. */
const largeValue = 32 * 1024

/** What stands in etcd for the value of an operation: some are large. */
export const stored = (value: string): string => (value.endsWith("0") ? value.padEnd(largeValue) : value)

/** The value that stands there. */
export const valueOf = (text: string): string => text.trimEnd()

/** Keys that hang on a lease. */
export const leasedPrefix = "t/l/"
/** What is written under locks, and by who leads. */
export const ledgerPrefix = "t/k/"
/** The same is written there at the same time. */
export const besidePrefix = "t/b/"
export const locksPrefix = "t/locks/"
/** Is written where keys of locks are deleted by somebody who has none of them. */
export const deletedKey = "t/deleted"
export const endKey = "t/end"

/** What is written under a lock, or a leadership. */
export interface Written {
  readonly token: number
  /** How many have written before, as who writes has read it. */
  readonly count: number
}
