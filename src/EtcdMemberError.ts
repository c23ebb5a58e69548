/**
 * Why an instance could not join its cluster, or leave it.
 *
 * There is one error, {@link EtcdMemberError}, whose `reason` says which of the known things happened, so that a program
 * can react to one of them with `Effect.catchReason("EtcdMemberError", "NameInUse", ...)`. What befalls the node itself is
 * an `EtcdProcessError`.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as Json from "./internal/json.ts"

/**
 * The time to join (`joinTimeout`) was over. `message` says what was waited for.
 *
 * @category reasons
 * @since 0.1.0
 */
export class JoinTimeout extends Schema.TaggedError<JoinTimeout>()("JoinTimeout", { message: Schema.String }) {}

/**
 * Those who answer at the peers' URLs belong to another cluster than this instance, or to several. Nothing was changed,
 * here or there.
 *
 * @category reasons
 * @since 0.1.0
 */
export class WrongCluster extends Schema.TaggedError<WrongCluster>()("WrongCluster", {
  message: Schema.String,
  /** The cluster of this instance: that of its data, or the one that its options name, where they tell. */
  expected: Schema.optionalKey(Schema.BigInt),
  /** The clusters of those who answered. */
  found: Schema.Array(Schema.BigInt)
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * Another instance has this one's name, or its peer URL, and is alive. Of two that wait for others, it is the one that came
 * later which hears of it.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NameInUse extends Schema.TaggedError<NameInUse>()("NameInUse", {
  message: Schema.String,
  /** Where the other one is reached by its peers. */
  peerUrls: Schema.Array(Schema.String)
}) {}

/**
 * The instance cannot leave now without harm: the rest would have no majority, or there is no rest. Nothing was changed.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LeaveRefused extends Schema.TaggedError<LeaveRefused>()("LeaveRefused", { message: Schema.String }) {}

/**
 * The instance has left its cluster, its scope is closed, or it could not go on: it takes part no more.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NotAMember extends Schema.TaggedError<NotAMember>()("NotAMember", { message: Schema.String }) {}

/**
 * The schema of a {@link Reason}.
 *
 * @category reasons
 * @since 0.1.0
 */
export const Reason = Schema.Union([JoinTimeout, WrongCluster, NameInUse, LeaveRefused, NotAMember])

/**
 * Why an instance could not join its cluster, or leave it: one of the reasons of this module, told apart by `_tag`.
 *
 * @category reasons
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * An instance could not join its cluster, or leave it; `reason` says why.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMember } from "effect-etcd"
 *
 * const leave = (member: EtcdMember.Member) =>
 *   member.leave.pipe(
 *     Effect.catchReason("EtcdMemberError", "LeaveRefused", (reason) => Effect.logWarning(reason.message))
 *   )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class EtcdMemberError extends Schema.TaggedError<EtcdMemberError>()("EtcdMemberError", {
  reason: Reason
}) {
  /** That of the reason: what was wrong, and what would fix it. */
  override get message(): string {
    return this.reason.message
  }
}

/**
 * An error with this reason, as members fail with it: for what stands in for one of them in a test.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdMemberError } from "effect-etcd"
 *
 * const refused = Effect.fail(
 *   EtcdMemberError.make(new EtcdMemberError.LeaveRefused({ message: "the rest would have no majority" }))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (reason: Reason): EtcdMemberError => new EtcdMemberError({ reason })
