/**
 * Operations on a cluster that a person dares to run: each looks at the cluster first, refuses with a reason that says what
 * it found and what would help, and does one step after another only then.
 *
 * They need a client and nothing else, so they work on any etcd that can be reached. What needs the processes of a cluster
 * (to start, to replace, to upgrade its members) is on `EtcdCluster`'s value.
 *
 * - *`dryRun`* looks, refuses, and answers with the steps that would be taken, without any of them.
 * - *One at a time*: an operation holds the lock `effect-etcd/operations` in the cluster (see `EtcdLock`), and waits for the
 *   one that has it. Where the cluster takes no writes, or has no quorum while a member is away (one or two members), there is no
 *   lock. Who is killed has it for ten seconds more.
 * - *Killed half-way*, at whatever step: run again, it does what is left to do.
 * - Each step is logged at `Info`, and told to `onProgress`.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as EtcdClient from "./EtcdClient.ts"
import type * as EtcdError from "./EtcdError.ts"
import type { MemberId } from "./EtcdId.ts"
import type { ClusterRefused, OperationFailed } from "./EtcdOperationError.ts"
import { aMember, ofOperation } from "./internal/operations/options.ts"
import * as Checks from "./internal/options.ts"

/**
 * A step of an operation.
 *
 * @category models
 * @since 0.1.0
 */
export interface StepReport {
  /** What it does: "move the leader from node0 to node2". */
  readonly title: string
  /** `planned` in a dry run. */
  readonly outcome: "done" | "planned"
  /** What came of it, where there is something to tell. */
  readonly detail: string | undefined
  readonly took: Duration.Duration
}

/**
 * What an operation has done; without steps, where there was nothing to do.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  readonly operation: string
  readonly dryRun: boolean
  readonly steps: ReadonlyArray<StepReport>
  readonly took: Duration.Duration
}

/**
 * How far an operation is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly operation: string
  readonly step: string
  /** Which step it is, from 0 on. */
  readonly index: number
  /** How many there are. */
  readonly total: number
  /** What there is to tell within the step. */
  readonly detail: string | undefined
}

/**
 * How an operation is done.
 *
 * @category options
 * @since 0.1.0
 */
export interface Options {
  /** Looks and plans, and does nothing. Default: false. */
  readonly dryRun?: boolean | undefined
  /** Runs when a step begins, and where there is something to tell of it. */
  readonly onProgress?: ((progress: Progress) => Effect.Effect<void>) | undefined
}

/**
 * A member, by its name or its id.
 *
 * @category models
 * @since 0.1.0
 */
export type MemberRef = string | MemberId

type Done<A = Report> = Effect.Effect<A, ClusterRefused | OperationFailed | EtcdError.EtcdError, EtcdClient.EtcdClient>

const wrongOptions = (who: string, options: Options | undefined) => {
  const problem = Checks.problemOf(who, ofOperation, options)
  return problem === undefined ? undefined : Effect.fail(Checks.invalid(problem))
}

/**
 * Makes another voter the leader: the one that is named, or the one that has applied most. Nothing where it leads already.
 *
 * It is done when the new leader says that it leads. Writes that are under way meanwhile wait for it.
 *
 * Refused with `learner`, `no-such-member`, `unhealthy-member` (it does not answer, has an alarm, or more than 5000 entries
 * of the log to catch up) and `no-quorum`.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdOperations } from "effect-etcd"
 *
 * const away = EtcdOperations.moveLeader("node2").pipe(
 *   Effect.tap(({ took }) => Effect.log("moved in", took)),
 *   Effect.catchTag("ClusterRefused", ({ evidence, help }) => Effect.logWarning(...evidence, help))
 * )
 * ```
 *
 * @category operations
 * @since 0.1.0
 */
export const moveLeader = (to?: MemberRef | undefined, options?: Options | undefined): Done =>
  (to === undefined ? undefined : Checks.wrongArgument("EtcdOperations.moveLeader", "the member", aMember, to)) ??
  wrongOptions("EtcdOperations.moveLeader", options) ??
  Effect.flatMap(
    Effect.promise(() => import("./internal/operations/moveLeader.ts")),
    ({ moveLeader }) => EtcdClient.EtcdClient.use((client) => moveLeader(client, to, options))
  )
