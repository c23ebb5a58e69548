/**
 * What is kept of a torture run, for its report.
 */
import type { Entry, Instant, Operation, Violation } from "./history.ts"

/** Something that was done to the cluster, its network, or a program. */
export interface Band {
  /** `partition`, `kill` … */
  readonly kind: string
  /** Whom it befell, in words. */
  readonly what: string
  readonly from: Instant
  /** `null`: until the end of the run. */
  readonly to: Instant | null
}

/** A role that a member took. It has it until the next. */
export interface RoleAt {
  readonly member: string
  readonly at: Instant
  readonly role: "leader" | "follower" | "candidate" | "pre-candidate" | "learner" | "stopped" | "unknown"
  readonly term: number
}

/** What a judge has said. */
export interface Verdict {
  readonly judge: string
  /** What it looked at: `12,345 operations, 4,567 revisions`. */
  readonly examined: string
  readonly millis: number
  readonly violations: ReadonlyArray<Violation>
}

export interface Run {
  readonly etcd: string
  readonly seed: number
  readonly size: number
  readonly seconds: number
  /** The command that runs it again. */
  readonly command: string
  readonly begun: Instant
  readonly ended: Instant
  readonly members: ReadonlyArray<string>
  readonly operations: ReadonlyArray<Operation>
  readonly entries: ReadonlyArray<Entry>
  readonly bands: ReadonlyArray<Band>
  readonly roles: ReadonlyArray<RoleAt>
  readonly verdicts: ReadonlyArray<Verdict>
  /** Violations that this version of etcd is known for, with the issue of etcd's. */
  readonly expected: ReadonlyArray<{ readonly violation: Violation; readonly issue: string }>
  /** The longest time without an acknowledged write, in milliseconds, and when it began. */
  readonly longestUnavailability: { readonly millis: number; readonly from: Instant }
}
