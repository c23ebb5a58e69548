/**
 * Why a call to etcd failed.
 *
 * There is one error, {@link EtcdError}, whose `reason` says which of the known things happened, so that a program can
 * react to one of them with `Effect.catchReason("EtcdError", "Compacted", ...)`. Each of etcd's own messages that a
 * program may want to react to has a reason of its own; any other gRPC status is a {@link GrpcStatus}.
 *
 * Every reason says in `outcome` whether what the call asked for was surely not applied, or whether that is unknown:
 * a write whose outcome is unknown may have happened, may happen still, and is not safe to repeat unless repeating it
 * does no harm.
 *
 * etcd's messages are those of `api/v3rpc/rpctypes/error.go`, 3.4 to 3.7. They are told by their text, because their
 * codes differ between versions.
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * What became of the write that a failed call asked for.
 *
 * - `not-applied`: it did not happen and will not. So it is for every call that only reads.
 * - `unknown`: it may have happened, and it may happen still.
 *
 * @category models
 * @since 0.1.0
 */
export type Outcome = typeof Outcome.Type

/**
 * @category models
 * @since 0.1.0
 */
export const Outcome = Schema.Literals(["not-applied", "unknown"])

const details = {
  /** What was wrong, where, and what would fix it. */
  message: Schema.String,
  outcome: Outcome,
  /** The call, as `KV.Put`. */
  method: Schema.optionalKey(Schema.String),
  /** The endpoint that was asked. */
  endpoint: Schema.optionalKey(Schema.String)
}

/**
 * The history before the revision asked for has been compacted away.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Compacted extends Schema.TaggedError<Compacted>()("Compacted", {
  ...details,
  /** The oldest revision that can still be read, where etcd tells it (a watch does, a read does not). */
  compactedRevision: Schema.optionalKey(Schema.BigInt)
}) {}

/**
 * The revision asked for does not exist yet.
 *
 * @category reasons
 * @since 0.1.0
 */
export class FutureRevision extends Schema.TaggedError<FutureRevision>()("FutureRevision", details) {}

/**
 * A member's space quota is used up (`--quota-backend-bytes`), and the cluster takes no more puts until the alarm is
 * disarmed.
 *
 * The outcome is unknown: etcd checks the quota before it proposes a put, and once more when it applies it; the second
 * check answers with the same message although the put that crossed the line is stored
 * (`quotaApplierV3` in etcd's `server/etcdserver/apply`).
 *
 * @category reasons
 * @since 0.1.0
 */
export class NoSpace extends Schema.TaggedError<NoSpace>()("NoSpace", details) {}

/**
 * A transaction has more operations than the server takes (`--max-txn-ops`, 128 by default).
 *
 * @category reasons
 * @since 0.1.0
 */
export class TooManyOps extends Schema.TaggedError<TooManyOps>()("TooManyOps", {
  ...details,
  /** How many of those that the server takes were needed for the fences of locks, if any were. */
  fence: Schema.optionalKey(Schema.Int)
}) {}

/**
 * A transaction puts the same key twice.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DuplicateKey extends Schema.TaggedError<DuplicateKey>()("DuplicateKey", details) {}

/**
 * A request is larger than the server takes (`--max-request-bytes`, 1.5 MiB by default).
 *
 * @category reasons
 * @since 0.1.0
 */
export class RequestTooLarge extends Schema.TaggedError<RequestTooLarge>()("RequestTooLarge", details) {}

/**
 * A key that had to exist does not.
 *
 * @category reasons
 * @since 0.1.0
 */
export class KeyNotFound extends Schema.TaggedError<KeyNotFound>()("KeyNotFound", details) {}

/**
 * The server is too far behind to take more writes.
 *
 * @category reasons
 * @since 0.1.0
 */
export class TooManyRequests extends Schema.TaggedError<TooManyRequests>()("TooManyRequests", details) {}

/**
 * There is no such lease; it expired, or was revoked.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LeaseNotFound extends Schema.TaggedError<LeaseNotFound>()("LeaseNotFound", details) {}

/**
 * A lease with the id asked for exists already.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LeaseExists extends Schema.TaggedError<LeaseExists>()("LeaseExists", details) {}

/**
 * The time to live is longer than etcd allows (9,000,000,000 seconds).
 *
 * @category reasons
 * @since 0.1.0
 */
export class LeaseTtlTooLarge extends Schema.TaggedError<LeaseTtlTooLarge>()("LeaseTtlTooLarge", details) {}

/**
 * The server canceled a watch, for a reason that it gives in the message.
 *
 * @category reasons
 * @since 0.1.0
 */
export class WatchCanceled extends Schema.TaggedError<WatchCanceled>()("WatchCanceled", details) {}

/**
 * There is no such member, or it was removed.
 *
 * @category reasons
 * @since 0.1.0
 */
export class MemberNotFound extends Schema.TaggedError<MemberNotFound>()("MemberNotFound", details) {}

/**
 * A member with this id exists already.
 *
 * @category reasons
 * @since 0.1.0
 */
export class MemberExists extends Schema.TaggedError<MemberExists>()("MemberExists", details) {}

/**
 * Another member has one of the peer URLs.
 *
 * @category reasons
 * @since 0.1.0
 */
export class PeerUrlExists extends Schema.TaggedError<PeerUrlExists>()("PeerUrlExists", details) {}

/**
 * Changing the membership now would cost the cluster its quorum.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NotEnoughStartedMembers extends Schema.TaggedError<NotEnoughStartedMembers>()(
  "NotEnoughStartedMembers",
  details
) {}

/**
 * Only a learner can be promoted.
 *
 * @category reasons
 * @since 0.1.0
 */
export class MemberNotLearner extends Schema.TaggedError<MemberNotLearner>()("MemberNotLearner", details) {}

/**
 * The learner is too far behind the leader to be promoted.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LearnerNotReady extends Schema.TaggedError<LearnerNotReady>()("LearnerNotReady", details) {}

/**
 * The cluster has as many learners as it may have (`--max-learners`, 1 by default).
 *
 * @category reasons
 * @since 0.1.0
 */
export class TooManyLearners extends Schema.TaggedError<TooManyLearners>()("TooManyLearners", details) {}

/**
 * The server belongs to another cluster than the client has talked to so far, so the call was not sent to it.
 *
 * Where that shows only in the answer (behind a proxy that passes each call to a cluster of its choice), the outcome of a
 * write is `unknown`: the other cluster may have applied it.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ClusterIdMismatch extends Schema.TaggedError<ClusterIdMismatch>()("ClusterIdMismatch", {
  ...details,
  /** The client's cluster. Absent where the server itself found the mismatch. */
  expected: Schema.optionalKey(Schema.BigInt),
  /** The cluster that answered. */
  found: Schema.optionalKey(Schema.BigInt)
}) {}

/**
 * The store is at a revision before one that it was seen at: it was restored from a backup, or its data was wiped. What
 * has happened in between cannot be told, so a watch cannot go on as if nothing had.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RevisionRegressed extends Schema.TaggedError<RevisionRegressed>()("RevisionRegressed", {
  ...details,
  /** The latest revision that was seen before. */
  seen: Schema.BigInt,
  /** The revision that the store is at now. */
  current: Schema.BigInt
}) {}

/**
 * A user of this name exists already.
 *
 * @category reasons
 * @since 0.1.0
 */
export class UserExists extends Schema.TaggedError<UserExists>()("UserExists", details) {}

/**
 * There is no user of this name.
 *
 * @category reasons
 * @since 0.1.0
 */
export class UserNotFound extends Schema.TaggedError<UserNotFound>()("UserNotFound", details) {}

/**
 * The user name is empty. A server with authentication enabled also says so of a call without a token.
 *
 * @category reasons
 * @since 0.1.0
 */
export class UserNameEmpty extends Schema.TaggedError<UserNameEmpty>()("UserNameEmpty", details) {}

/**
 * A role of this name, which users can have, exists already.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RoleExists extends Schema.TaggedError<RoleExists>()("RoleExists", details) {}

/**
 * There is no role of this name, which users could have.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RoleNotFound extends Schema.TaggedError<RoleNotFound>()("RoleNotFound", details) {}

/**
 * The user does not have the role.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RoleNotGranted extends Schema.TaggedError<RoleNotGranted>()("RoleNotGranted", details) {}

/**
 * The role does not have the permission.
 *
 * @category reasons
 * @since 0.1.0
 */
export class PermissionNotGranted extends Schema.TaggedError<PermissionNotGranted>()("PermissionNotGranted", details) {}

/**
 * Authentication cannot be enabled before there is a user `root`.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RootUserNotFound extends Schema.TaggedError<RootUserNotFound>()("RootUserNotFound", details) {}

/**
 * Authentication cannot be enabled before the user `root` has the role `root`.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RootRoleNotGranted extends Schema.TaggedError<RootRoleNotGranted>()("RootRoleNotGranted", details) {}

/**
 * etcd refuses to take away from `root` what authentication needs.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidAuthManagement extends Schema.TaggedError<InvalidAuthManagement>()(
  "InvalidAuthManagement",
  details
) {}

/**
 * The user name or the password is wrong.
 *
 * @category reasons
 * @since 0.1.0
 */
export class AuthenticationFailed extends Schema.TaggedError<AuthenticationFailed>()("AuthenticationFailed", details) {}

/**
 * The server does not authenticate anybody.
 *
 * @category reasons
 * @since 0.1.0
 */
export class AuthNotEnabled extends Schema.TaggedError<AuthNotEnabled>()("AuthNotEnabled", details) {}

/**
 * The token is unknown to the server or has expired. The client gets a new one by itself, up to three times in a row.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidAuthToken extends Schema.TaggedError<InvalidAuthToken>()("InvalidAuthToken", details) {}

/**
 * Users or roles changed while the call was under way. The client tries once more with a new token by itself.
 *
 * @category reasons
 * @since 0.1.0
 */
export class AuthOldRevision extends Schema.TaggedError<AuthOldRevision>()("AuthOldRevision", details) {}

/**
 * The user may not do this.
 *
 * @category reasons
 * @since 0.1.0
 */
export class PermissionDenied extends Schema.TaggedError<PermissionDenied>()("PermissionDenied", details) {}

/**
 * The member that was asked knows no leader.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NoLeader extends Schema.TaggedError<NoLeader>()("NoLeader", details) {}

/**
 * Only the leader takes this call, and the member that was asked is not the leader.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NotLeader extends Schema.TaggedError<NotLeader>()("NotLeader", details) {}

/**
 * The leader changed during the call.
 *
 * @category reasons
 * @since 0.1.0
 */
export class LeaderChanged extends Schema.TaggedError<LeaderChanged>()("LeaderChanged", details) {}

/**
 * Raft did not take the write: there is no leader, or leadership is being handed over.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ProposalDropped extends Schema.TaggedError<ProposalDropped>()("ProposalDropped", details) {}

/**
 * etcd gave up on the request, which may still be applied later.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ServerTimeout extends Schema.TaggedError<ServerTimeout>()("ServerTimeout", {
  ...details,
  /** What etcd supposes to be behind it. */
  during: Schema.Literals(["request", "leader-failure", "connection-lost", "applied-index"])
}) {}

/**
 * The member was stopped during the call.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ServerStopped extends Schema.TaggedError<ServerStopped>()("ServerStopped", details) {}

/**
 * The cluster, as a whole, is not yet of a version that can do this.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NotCapable extends Schema.TaggedError<NotCapable>()("NotCapable", details) {}

/**
 * Too few members are connected to change the membership safely.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Unhealthy extends Schema.TaggedError<Unhealthy>()("Unhealthy", details) {}

/**
 * A member's data is corrupt, and the cluster takes no requests until the alarm is disarmed.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Corrupt extends Schema.TaggedError<Corrupt>()("Corrupt", details) {}

/**
 * The member that was asked is a learner, which answers only serializable reads and `Status`.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NotSupportedForLearner extends Schema.TaggedError<NotSupportedForLearner>()(
  "NotSupportedForLearner",
  details
) {}

/**
 * Leadership cannot go to this member.
 *
 * @category reasons
 * @since 0.1.0
 */
export class BadLeaderTransferee extends Schema.TaggedError<BadLeaderTransferee>()("BadLeaderTransferee", details) {}

/**
 * The cluster cannot be downgraded to this version.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidDowngradeTarget extends Schema.TaggedError<InvalidDowngradeTarget>()(
  "InvalidDowngradeTarget",
  details
) {}

/**
 * The cluster's version is not known yet.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ClusterVersionUnavailable extends Schema.TaggedError<ClusterVersionUnavailable>()(
  "ClusterVersionUnavailable",
  details
) {}

/**
 * A downgrade is under way already.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DowngradeInProgress extends Schema.TaggedError<DowngradeInProgress>()("DowngradeInProgress", details) {}

/**
 * There is no downgrade to cancel.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NoDowngrade extends Schema.TaggedError<NoDowngrade>()("NoDowngrade", details) {}

/**
 * The request, or an option of the client, makes no sense; the message says which. It was refused here or by the
 * server.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidArgument extends Schema.TaggedError<InvalidArgument>()("InvalidArgument", details) {}

/**
 * The server does not have this call.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Unsupported extends Schema.TaggedError<Unsupported>()("Unsupported", {
  ...details,
  /** The call, as `KV.RangeStream`. */
  feature: Schema.String,
  /** The version of etcd that the call is in since; absent where it is not a matter of the version. */
  since: Schema.optionalKey(Schema.String)
}) {}

/**
 * No endpoint could be connected to, so the request was never sent.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  ...details,
  /**
   * That it is no use to try again before somebody changes something: the server's certificate is not from an authority
   * that is trusted, or for another name; TLS is spoken to a port without it; the server wants a certificate that was not
   * given. Absent where it may mend itself, or is not certain.
   */
  lasting: Schema.optionalKey(Schema.Literal(true)),
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * The connection broke during the call, or the call's stream did: a server or a proxy ended it without an answer.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>()("ConnectionLost", {
  ...details,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * The time given for the call was up.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>()("DeadlineExceeded", details) {}

/**
 * The server ended the call as canceled.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Canceled extends Schema.TaggedError<Canceled>()("Canceled", details) {}

/**
 * The answer broke the rules of HTTP/2, gRPC or Protocol Buffers, or is larger than the client takes.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ProtocolViolation extends Schema.TaggedError<ProtocolViolation>()("ProtocolViolation", {
  ...details,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * A write was made under a lock, or as a leader, and etcd refused it, because the lock is not held any more: what marks
 * its holder in etcd is gone. Nothing of it was written, and nothing that is written under that hold will be.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Fenced extends Schema.TaggedError<Fenced>()("Fenced", details) {}

/**
 * Something answered that does not speak gRPC, such as a proxy.
 *
 * @category reasons
 * @since 0.1.0
 */
export class NotGrpc extends Schema.TaggedError<NotGrpc>()("NotGrpc", {
  ...details,
  /** The gRPC status code that the HTTP status stands for. */
  code: Schema.Int
}) {}

/**
 * Any other gRPC status.
 *
 * @category reasons
 * @since 0.1.0
 */
export class GrpcStatus extends Schema.TaggedError<GrpcStatus>()("GrpcStatus", {
  ...details,
  /** https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
  code: Schema.Int,
  /** The message as the server gave it. */
  status: Schema.String
}) {}

/**
 * Every reason of an {@link EtcdError}.
 *
 * @category reasons
 * @since 0.1.0
 */
export const Reason = Schema.Union([
  Compacted,
  FutureRevision,
  NoSpace,
  TooManyOps,
  DuplicateKey,
  RequestTooLarge,
  KeyNotFound,
  TooManyRequests,
  LeaseNotFound,
  LeaseExists,
  LeaseTtlTooLarge,
  WatchCanceled,
  MemberNotFound,
  MemberExists,
  PeerUrlExists,
  NotEnoughStartedMembers,
  MemberNotLearner,
  LearnerNotReady,
  TooManyLearners,
  ClusterIdMismatch,
  RevisionRegressed,
  UserExists,
  UserNotFound,
  UserNameEmpty,
  RoleExists,
  RoleNotFound,
  RoleNotGranted,
  PermissionNotGranted,
  RootUserNotFound,
  RootRoleNotGranted,
  InvalidAuthManagement,
  AuthenticationFailed,
  AuthNotEnabled,
  InvalidAuthToken,
  AuthOldRevision,
  PermissionDenied,
  NoLeader,
  NotLeader,
  LeaderChanged,
  ProposalDropped,
  ServerTimeout,
  ServerStopped,
  NotCapable,
  Unhealthy,
  Corrupt,
  NotSupportedForLearner,
  BadLeaderTransferee,
  InvalidDowngradeTarget,
  ClusterVersionUnavailable,
  DowngradeInProgress,
  NoDowngrade,
  InvalidArgument,
  Unsupported,
  Unreachable,
  ConnectionLost,
  DeadlineExceeded,
  Canceled,
  ProtocolViolation,
  Fenced,
  NotGrpc,
  GrpcStatus
])

/**
 * Every reason of an {@link EtcdError}.
 *
 * @category reasons
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * A call to etcd failed; `reason` says why, and whether a write may have happened all the same.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdKv } from "effect-etcd"
 *
 * const atRevision5 = EtcdKv.getString("key", { revision: 5n }).pipe(
 *   Effect.catchReason("EtcdError", "Compacted", () => EtcdKv.getString("key"))
 * )
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class EtcdError extends Schema.TaggedError<EtcdError>()("EtcdError", {
  reason: Reason
}) {
  override get message(): string {
    return this.reason.message
  }
  /** Whether what the call asked for was surely not applied. */
  get outcome(): Outcome {
    return this.reason.outcome
  }
}

/**
 * Wraps a reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (reason: Reason): EtcdError => new EtcdError({ reason })
