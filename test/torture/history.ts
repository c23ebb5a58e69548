/**
 * What a torture run has seen, as its judges and its report read it. Judges share this, and no code.
 *
 * Everything that a client asked for is one transaction: a get is one without comparisons that gets a key, a put one
 * that puts it. Values are text, and no two writes of a run write the same.
 */

/** Milliseconds on a clock that all processes of the machine share, and nobody sets. */
export type Instant = number

/** What a key holds; `null`: it is not there. */
export type Value = string | null

/** A comparison holds where the key holds just this. */
export interface Comparison {
  readonly key: string
  readonly value: Value
}

export type Step =
  | { readonly do: "get"; readonly key: string }
  | { readonly do: "put"; readonly key: string; readonly value: string }
  | { readonly do: "delete"; readonly key: string }

/** What a client asked for. No branch has the same key in two writes, and gets come before writes of their key. */
export interface Call {
  /** What it was for who made it: `get`, `put`, `cas`, `txn`, `stm` … */
  readonly name: string
  /** Whether it is content with what a member has. Only reads are. */
  readonly serializable: boolean
  readonly compare: ReadonlyArray<Comparison>
  /** Whether it may share its transaction, and so its revision, with others: of one step each, without comparisons. */
  readonly isBatched?: boolean
  /** What is done where all comparisons hold, or there are none. */
  readonly success: ReadonlyArray<Step>
  readonly failure: ReadonlyArray<Step>
}

export interface Answered {
  readonly outcome: "answered"
  /** The revision of the answer's header, and who answered. */
  readonly revision: number
  readonly memberId: string
  /** Whether the comparisons held. */
  readonly succeeded: boolean
  /** For each step of the branch that was taken: what a get found; `null` for a write. */
  readonly found: ReadonlyArray<Value>
}

/** How a call ended for who made it. */
export type Result =
  | Answered
  /** It surely had no effect. */
  | { readonly outcome: "not-applied"; readonly error: string }
  /** It may have been applied, or may still be. */
  | { readonly outcome: "unknown"; readonly error: string }

export interface Operation {
  /** Like no other of the run. */
  readonly id: number
  /** Who made it. It makes one after the other. */
  readonly client: string
  readonly begun: Instant
  /** When the result was known; `null`: it never was, as the client was killed. The result is `unknown` then. */
  readonly ended: Instant | null
  readonly call: Call
  readonly result: Result
}

/** What the store did at one revision. */
export interface Entry {
  readonly revision: number
  readonly changes: ReadonlyArray<{ readonly key: string; readonly value: Value }>
}

/** Keys of one group are written together; no call has keys of two. It is what stands before the last slash of a key. */
export const groupOf = (key: string): string => key.slice(0, key.lastIndexOf("/") + 1)

/** What a judge has against a history. */
export interface Violation {
  /** A word for its kind, such as `lost write`. */
  readonly kind: string
  /** A sentence with the keys, values, revisions and times that it is about. */
  readonly message: string
  /** The operations that it is about. */
  readonly operations: ReadonlyArray<number>
  /** When it came to be, where that tells whose it is. */
  readonly at?: Instant | undefined
}
