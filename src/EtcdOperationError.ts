/**
 * Why an operation on a cluster was refused, or stopped half-way. See `EtcdOperations`, and the operations of `EtcdCluster`.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type { PlatformError } from "effect/PlatformError"
import type { LockLost } from "./coordination/EtcdLock.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { StepReport } from "./EtcdOperations.ts"
import type { EtcdProcessError } from "./EtcdProcessError.ts"
import * as Json from "./internal/json.ts"

/**
 * Why an operation was refused.
 *
 * - `no-quorum`: so few voters answer that the cluster can decide nothing.
 * - `quorum-at-risk`: the operation would leave a cluster that the loss of one more member stops, or that stops at once.
 * - `unhealthy-member`: a member that is to take part does not answer, or lags behind.
 * - `no-such-member`: there is no member of that name or id.
 * - `learner`: it is about a voter, and this is a learner.
 * - `unsupported-version`: the cluster, or one of its members, has a version that cannot do that.
 * - `size`: there would be more members, or fewer, than there can be or than the operation is for.
 * - `binary`: the executable is none that can be used for that.
 * - `config`: the configuration makes no sense with that version.
 * - `alarm`: an alarm is armed that has to be dealt with first.
 * - `undecided`: no majority of the members has the same data, or what is left of them contradicts itself.
 * - `no-snapshot`: there is no such file.
 * - `truncated-snapshot`: the snapshot is shorter than what it begins with says.
 * - `foreign-snapshot`: it is no database of etcd, or one that was copied, without the checksum that a snapshot ends with.
 * - `damaged-snapshot`: what is in it is not what its checksum says, or does not fit together.
 * - `data-in-the-way`: there is something where data are to be put.
 * - `member-runs`: a member runs that has to be stopped.
 * - `has-quorum`: the cluster can decide, and need not be recovered.
 * - `no-survivor`: of the data of no member can anything be made.
 * - `token`: the new cluster would have the id of the old one.
 * - `changed`: somebody else is just changing the cluster.
 * - `other-cluster`: there are data of several clusters.
 * - `revisions-would-go-back`: the etcdutl that was found cannot raise the revision of what it restores.
 *
 * @category models
 * @since 0.1.0
 */
export type Finding =
  | "no-quorum"
  | "quorum-at-risk"
  | "unhealthy-member"
  | "no-such-member"
  | "learner"
  | "unsupported-version"
  | "size"
  | "binary"
  | "config"
  | "alarm"
  | "undecided"
  | "no-snapshot"
  | "truncated-snapshot"
  | "foreign-snapshot"
  | "damaged-snapshot"
  | "data-in-the-way"
  | "has-quorum"
  | "member-runs"
  | "no-survivor"
  | "token"
  | "changed"
  | "other-cluster"
  | "revisions-would-go-back"

/**
 * The operation was refused, and nothing was done.
 *
 * @category errors
 * @since 0.1.0
 */
export class ClusterRefused extends Data.TaggedError("ClusterRefused")<{
  /** Which operation it was: `defragment`. */
  readonly operation: string
  /** Why. */
  readonly finding: Finding
  /** What was seen, a line a fact: "node1 (8e9e05c52164694d) does not answer". */
  readonly evidence: ReadonlyArray<string>
  /** What would help. */
  readonly help: string
  /** All of it as text. */
  readonly message: string
}> {}

/**
 * The operation stopped at a step. What was done before that stays; run again, it goes on from where the cluster is.
 *
 * @category errors
 * @since 0.1.0
 */
export class OperationFailed extends Data.TaggedError("OperationFailed")<{
  /** Which operation it was: `defragment`. */
  readonly operation: string
  /** The step that failed. */
  readonly step: string
  /** The steps that were done before. */
  readonly done: ReadonlyArray<StepReport>
  /** What it failed with. */
  readonly cause: EtcdError.EtcdError | EtcdProcessError | PlatformError | ClusterRefused | LockLost
  readonly message: string
}> {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}
