/**
 * What contenders and those who watch over them say to each other.
 */
/** What a contender is told when it starts. */
export interface Settings {
  /** What begins all keys of the run. */
  readonly prefix: string
  readonly endpoints: readonly [string, ...Array<string>]
  /** The socket of the file server. */
  readonly files: string
  readonly locks: ReadonlyArray<string>
  readonly fibers: number
  readonly ttlMillis: number
  readonly fence: boolean
  readonly seed: number
}

/** How work under a lock ended: in the end with `withLock`, which says whether the lock was held all the time. */
export type Outcome = "done" | "lost" | "refused" | "failed"

/** What a contender says, each on a line of its own. Times are those of `now` in `support/programs.ts`. */
export type Said =
  | { readonly _tag: "Ready" }
  /** The work has the locks. */
  | { readonly _tag: "Entered"; readonly token: number; readonly locks: ReadonlyArray<string>; readonly at: number }
  /** It has read, is about to write, and sends itself SIGSTOP. */
  | { readonly _tag: "Stopping"; readonly token: number; readonly locks: ReadonlyArray<string>; readonly at: number }
  /** The work has ended. */
  | { readonly _tag: "Left"; readonly token: number; readonly at: number }
  /** `withLock` has ended. */
  | { readonly _tag: "Returned"; readonly token: number; readonly outcome: Outcome; readonly why: string }
  /** Nothing could be locked. */
  | { readonly _tag: "NotAcquired"; readonly why: string }
  /** Work went on when somebody else could have the locks. */
  | { readonly _tag: "Overrun" }
  /** Its event loop stood still. */
  | { readonly _tag: "Stalled"; readonly from: number; readonly to: number }

/** Tells the next work that comes between reading and writing to stop there. */
export const stopBetween = "stop"

/** How often each work writes. */
export const steps = 3

/** What is written under a lock. */
export interface Written {
  /** How many have written before, as who wrote first under this token had read it. */
  readonly count: number
  readonly token: number
  readonly step: number
}

/** What the file server is asked. */
export interface FileWrite {
  readonly lock: string
  readonly token: number
}

export const ledgerOf = (prefix: string, lock: string): string => `${prefix}ledger/${lock}`

export const nameOf = (prefix: string, lock: string): string => `${prefix}locks/${lock}`
