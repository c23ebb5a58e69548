/**
 * Why a call to etcd failed.
 *
 * There is one error, {@link EtcdError}, whose `reason` says which of the known things happened, so that a program can
 * react to one of them with `Effect.catchReason("EtcdError", "Compacted", ...)`. Each of etcd's own messages that a
 * program may want to react to has a reason of its own; any other gRPC status is a {@link GrpcStatus}.
 *
 * Every reason says in `outcome` whether what the call asked for was certainly not applied, or whether that is unknown:
 * a write whose outcome is unknown may have happened, may happen still, and is not safe to repeat unless repeating it
 * does no harm.
 *
 * What a program does about one is decided by predicates: {@link isTransient} (the same may work later), {@link isRetryable}
 * (and repeating it certainly does no harm), {@link isAuth}, {@link isNotFound}, {@link isAlreadyExists} and
 * {@link isOutcomeUnknown}. Reason by reason:
 *
 * | reason | it is | what helps |
 * | --- | --- | --- |
 * | `Compacted` | | read at a newer revision, or begin anew with what is there now |
 * | `FutureRevision` | | ask for a revision that an answer has shown |
 * | `NoSpace` | | make room: `EtcdOperations.clearNoSpace` |
 * | `TooManyOps` | | split the transaction |
 * | `DuplicateKey` | | put each key once |
 * | `RequestTooLarge` | | send less at once |
 * | `KeyNotFound` | not found | put the key first |
 * | `TooManyRequests` | transient | send less, later |
 * | `LeaseNotFound` | not found | grant a new lease |
 * | `LeaseExists` | already exists | take another id |
 * | `LeaseTtlTooLarge` | | take a shorter time |
 * | `WatchCanceled` | transient | watch again |
 * | `MemberNotFound` | not found | look at the list of members |
 * | `MemberExists` | already exists | look at the list of members |
 * | `PeerUrlExists` | already exists | look at the list of members |
 * | `NotEnoughStartedMembers` | transient | wait until the others have started |
 * | `MemberNotLearner` | | nothing: it votes already |
 * | `LearnerNotReady` | transient | wait until it has caught up |
 * | `TooManyLearners` | | promote or remove one |
 * | `ClusterIdMismatch` | | look whether the endpoints are those of the cluster |
 * | `RevisionRegressed` | | begin anew with what is there now |
 * | `UserExists` | already exists | take another name |
 * | `UserNotFound` | not found | look at the list of users |
 * | `UserNameEmpty` | auth | give the client credentials |
 * | `RoleExists` | already exists | take another name |
 * | `RoleNotFound` | not found | look at the list of roles |
 * | `RoleNotGranted` | not found | look at the roles of the user |
 * | `PermissionNotGranted` | not found | look at the permissions of the role |
 * | `RootUserNotFound` | | add the user `root` |
 * | `RootRoleNotGranted` | | grant it the role `root` |
 * | `InvalidAuthManagement` | | disable authentication first |
 * | `AuthenticationFailed` | auth | look at name and password |
 * | `AuthNotEnabled` | | enable authentication, or do without |
 * | `InvalidAuthToken` | auth, transient unless `lasting` | look at the credentials, if it stays |
 * | `AuthOldRevision` | auth, transient | nothing: users or roles have just changed |
 * | `PermissionDenied` | auth | grant the user a role that may |
 * | `NoLeader` | transient | wait for an election |
 * | `NotLeader` | transient | ask again: the leader has just changed |
 * | `LeaderChanged` | transient | wait for the new one |
 * | `ProposalDropped` | transient | wait for an election |
 * | `ServerTimeout` | transient | wait until there is a quorum, or less to do |
 * | `ServerStopped` | transient | ask another member |
 * | `NotCapable` | transient | wait until all members run the version |
 * | `Unhealthy` | transient | wait until the others are back |
 * | `Corrupt` | | find the corrupt member, and replace it |
 * | `NotSupportedForLearner` | | ask a voter, or promote it |
 * | `BadLeaderTransferee` | | name a voter that is up |
 * | `InvalidDowngradeTarget` | | name the minor version before |
 * | `ClusterVersionUnavailable` | transient | wait for an election |
 * | `DowngradeInProgress` | | let it end, or cancel it |
 * | `NoDowngrade` | | nothing: there is none to cancel |
 * | `InvalidArgument` | | mend the request, as the message says |
 * | `Unsupported` | | use a newer etcd |
 * | `Unreachable` | transient, unless `lasting` | look at addresses, TLS and the network, if it stays |
 * | `ConnectionLost` | transient | connect again |
 * | `DeadlineExceeded` | transient, unless `lasting` | give it more time, or less to do |
 * | `Canceled` | transient | ask again |
 * | `ProtocolViolation` | | look at who answers |
 * | `Fenced` | | stop: another one may hold the lock |
 * | `NotGrpc` | transient (10, 14), auth (7, 16), not found (5), already exists (6), by its code | look at the proxy that answers |
 * | `GrpcStatus` | transient (10, 14), auth (7, 16), not found (5), already exists (6), by its code | read the message |
 *
 * etcd's messages are those of `api/v3rpc/rpctypes/error.go`, 3.4 to 3.7. They are told by their text, because their
 * codes differ between versions.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import * as Schema from "effect/Schema"
import * as Json from "./internal/json.ts"

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
 * The schema of an {@link Outcome}: `not-applied` or `unknown`.
 *
 * @category models
 * @since 0.1.0
 */
export const Outcome = Schema.Literals(["not-applied", "unknown"])

const details = {
  /** What was wrong, where, and what would fix it. */
  message: Schema.String,
  /** Whether what was asked for was certainly not applied. What only reads is always `not-applied`. */
  outcome: Outcome,
  /** The call, as `KV.Put`. Absent where none was made, as for options that make no sense. */
  method: Schema.optionalKey(Schema.String),
  /** The endpoint that was asked, the last one of several. Absent where none was. */
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
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The revision asked for does not exist yet.
 *
 * @category reasons
 * @since 0.1.0
 */
export class FutureRevision extends Schema.TaggedError<FutureRevision>()("FutureRevision", details) {}

/**
 * A member's space quota is used up (`--quota-backend-bytes`), and the cluster takes no more puts and grants no more leases
 * until the alarm is disarmed.
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
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

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
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

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
 * The token is unknown to the server or has expired. A client with credentials gets a new one and tries again by itself, up
 * to three times in a row, before a call fails with this.
 *
 * @category reasons
 * @since 0.1.0
 */
export class InvalidAuthToken extends Schema.TaggedError<InvalidAuthToken>()("InvalidAuthToken", {
  ...details,
  /**
   * That the client has no credentials to get another one with: the token is one that the program itself has given, in
   * `metadata`, and has to be given anew. Absent where the client renews it.
   */
  lasting: Schema.optionalKey(Schema.Literal(true))
}) {}

/**
 * Users or roles changed while the call was under way. The client tries again by itself, with a new token if it has
 * credentials, up to three times in a row, before a call fails with this.
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
 * No endpoint could be connected to, so the request was never sent; or the client, or the service that was called, has
 * ended with its scope.
 *
 * @category reasons
 * @since 0.1.0
 */
export class Unreachable extends Schema.TaggedError<Unreachable>()("Unreachable", {
  ...details,
  /**
   * That it is no use to try again before somebody changes something: the server's certificate is not from an authority
   * that is trusted, or for another name; TLS is spoken to a port without it; the server wants a certificate that was not
   * given; the client, or the service that was asked, is closed. Absent where it may mend itself, or is not certain.
   */
  lasting: Schema.optionalKey(Schema.Literal(true)),
  /** What the system or TLS said of it, where they did. */
  cause: Schema.optionalKey(Schema.Defect())
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The connection broke during the call, or the call's stream did: a server or a proxy ended it without an answer.
 *
 * @category reasons
 * @since 0.1.0
 */
export class ConnectionLost extends Schema.TaggedError<ConnectionLost>()("ConnectionLost", {
  ...details,
  /** What the system said of it, where it did. */
  cause: Schema.optionalKey(Schema.Defect())
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

/**
 * The time given for the call was up, or the client's limit for a call that was given none.
 *
 * @category reasons
 * @since 0.1.0
 */
export class DeadlineExceeded extends Schema.TaggedError<DeadlineExceeded>()("DeadlineExceeded", {
  ...details,
  /** That it was given no time at all (`deadline: 0`), in which nothing can be done. Absent where it was given some. */
  lasting: Schema.optionalKey(Schema.Literal(true))
}) {}

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
  /** What could not be read, as whoever tried says it, where it does. */
  cause: Schema.optionalKey(Schema.Defect())
}) {
  /** As JSON, of which `EtcdResponse` says more. */
  override toJSON(): object {
    return Json.ofError(this)
  }
}

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
  /** The number of the status: https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
  code: Schema.Int,
  /** The message as the server gave it. */
  status: Schema.String
}) {}

/**
 * The schema of a {@link Reason}.
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
 * Why a call failed: one of the reasons of this module, told apart by `_tag`.
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
  /** That of the reason: what was wrong, where, and what would fix it. */
  override get message(): string {
    return this.reason.message
  }
  /** Whether what the call asked for was certainly not applied. */
  get outcome(): Outcome {
    return this.reason.outcome
  }
}

/**
 * An error with this reason, as the services of this library fail with it: for what stands in for one of them in a test.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdError } from "effect-etcd"
 *
 * const noMember = Effect.fail(
 *   EtcdError.make(new EtcdError.Unreachable({ message: "no member answers", outcome: "not-applied" }))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (reason: Reason): EtcdError => new EtcdError({ reason })

// ── what to do about it ──

type Tag = Reason["_tag"]

/** The reasons for which the predicates below hold; all are asked of `kinds`, so that no reason is forgotten. */
type Kind = "transient" | "auth" | "notFound" | "alreadyExists"

const none: ReadonlyArray<Kind> = []
const transient: ReadonlyArray<Kind> = ["transient"]
const auth: ReadonlyArray<Kind> = ["auth"]
const token: ReadonlyArray<Kind> = ["auth", "transient"]
const notFound: ReadonlyArray<Kind> = ["notFound"]
const alreadyExists: ReadonlyArray<Kind> = ["alreadyExists"]

/** https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
const ofStatus = ({ code }: { readonly code: number }): ReadonlyArray<Kind> => {
  switch (code) {
    case 10: // aborted
    case 14: // unavailable
      return transient
    case 7: // permission denied
    case 16: // unauthenticated
      return auth
    case 5: // not found
      return notFound
    case 6: // already exists
      return alreadyExists
    default:
      return none
  }
}

const kinds: {
  readonly [T in Tag]: ReadonlyArray<Kind> | ((reason: Extract<Reason, { _tag: T }>) => ReadonlyArray<Kind>)
} = {
  Compacted: none,
  FutureRevision: none,
  NoSpace: none,
  TooManyOps: none,
  DuplicateKey: none,
  RequestTooLarge: none,
  KeyNotFound: notFound,
  TooManyRequests: transient,
  LeaseNotFound: notFound,
  LeaseExists: alreadyExists,
  LeaseTtlTooLarge: none,
  // What etcd calls by a name, and would say again, has a reason of its own.
  WatchCanceled: transient,
  MemberNotFound: notFound,
  MemberExists: alreadyExists,
  PeerUrlExists: alreadyExists,
  NotEnoughStartedMembers: transient,
  MemberNotLearner: none,
  LearnerNotReady: transient,
  TooManyLearners: none,
  ClusterIdMismatch: none,
  RevisionRegressed: none,
  UserExists: alreadyExists,
  UserNotFound: notFound,
  UserNameEmpty: auth,
  RoleExists: alreadyExists,
  RoleNotFound: notFound,
  RoleNotGranted: notFound,
  PermissionNotGranted: notFound,
  RootUserNotFound: none,
  RootRoleNotGranted: none,
  InvalidAuthManagement: none,
  AuthenticationFailed: auth,
  AuthNotEnabled: none,
  InvalidAuthToken: ({ lasting }) => (lasting === true ? auth : token),
  AuthOldRevision: token,
  PermissionDenied: auth,
  NoLeader: transient,
  NotLeader: transient,
  LeaderChanged: transient,
  ProposalDropped: transient,
  ServerTimeout: transient,
  ServerStopped: transient,
  NotCapable: transient,
  Unhealthy: transient,
  Corrupt: none,
  // It is one until somebody promotes it. The client itself has asked all others.
  NotSupportedForLearner: none,
  BadLeaderTransferee: none,
  InvalidDowngradeTarget: none,
  ClusterVersionUnavailable: transient,
  DowngradeInProgress: none,
  NoDowngrade: none,
  InvalidArgument: none,
  Unsupported: none,
  Unreachable: ({ lasting }) => (lasting === true ? none : transient),
  ConnectionLost: transient,
  DeadlineExceeded: ({ lasting }) => (lasting === true ? none : transient),
  Canceled: transient,
  ProtocolViolation: none,
  Fenced: none,
  NotGrpc: ofStatus,
  GrpcStatus: ofStatus
}

const is = (error: unknown, kind: Kind): boolean => {
  if (!(error instanceof EtcdError)) return false
  const found = kinds[error.reason._tag] as ReadonlyArray<Kind> | ((reason: Reason) => ReadonlyArray<Kind>)
  return (typeof found === "function" ? found(error.reason) : found).includes(kind)
}

/**
 * Whether it is worth trying the same again later, with nothing changed: the cluster elects a leader, is overloaded, cannot
 * be reached just now, or was too slow. The table at the top of this module has all reasons. False of what stays until
 * somebody changes something, and of what is no `EtcdError`, so that it can be asked of whatever a program fails with.
 *
 * It says nothing of what became of the call. Of a **write**, `outcome` may be `unknown` (`ConnectionLost`,
 * `DeadlineExceeded`, `LeaderChanged`, …): it may have happened already, and repeating it is right only where it does no
 * harm to do it twice, as with the put of a value that does not depend on what was there. {@link isRetryable} is false
 * then. The client itself repeats what was certainly not applied, for five seconds by default, so that a program sees such
 * an error only after that.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { EtcdError, EtcdKv } from "effect-etcd"
 *
 * // Twice does no harm: the value is the same. What may mend itself need not, and so there is an end to it.
 * const announce = EtcdKv.put("services/api", "10.0.0.7:8080").pipe(
 *   Effect.retry({
 *     while: EtcdError.isTransient,
 *     schedule: Schedule.upTo(Schedule.spaced("5 seconds"), { duration: "10 minutes" })
 *   })
 * )
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isTransient = (error: unknown): boolean => is(error, "transient")

/**
 * Whether it {@link isTransient}, and the one call that failed was certainly not applied: trying that call again later
 * can do no harm, whatever it writes. It says nothing of the calls before: an effect of several writes may have done some of
 * them, and is not safe to repeat as a whole.
 *
 * @example
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { EtcdError, EtcdLease } from "effect-etcd"
 *
 * // A second lease would live for nothing.
 * const lease = EtcdLease.grant("1 hour").pipe(
 *   Effect.retry({
 *     while: EtcdError.isRetryable,
 *     schedule: Schedule.upTo(Schedule.spaced("5 seconds"), { times: 10 })
 *   })
 * )
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isRetryable = (error: unknown): boolean => isTransient(error) && !isOutcomeUnknown(error)

/**
 * Whether it is unknown what became of the write that failed: it may have happened, and may happen still. To read what is
 * there does not settle that, since it may happen after. What does is a write that only one of both can do, as a
 * transaction which creates a key: once that is answered, the other one has happened, or never will.
 *
 * @example
 * ```ts
 * import { Effect, Option, Schedule } from "effect"
 * import { EtcdError, EtcdTxn } from "effect-etcd"
 *
 * // Of however many that arrive, one creates the key, and the others find it. Who paid is in the value.
 * const pay = (order: string, payment: string) =>
 *   EtcdTxn.commit(
 *     EtcdTxn.make({
 *       compare: EtcdTxn.missing(order),
 *       success: EtcdTxn.put(order, payment),
 *       failure: EtcdTxn.get(order)
 *     })
 *   ).pipe(
 *     Effect.retry({ while: EtcdError.isOutcomeUnknown, schedule: Schedule.recurs(3) }),
 *     Effect.map(
 *       (result) => result.succeeded || Option.exists(result.results, ({ valueString }) => valueString === payment)
 *     )
 *   )
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOutcomeUnknown = (error: unknown): boolean => error instanceof EtcdError && error.outcome === "unknown"

/**
 * Whether etcd, or a proxy before it, refused who is calling: there are no credentials where some are needed, they are
 * wrong, their token is not good any more, or the user may not do this. Somebody has to change the credentials or the
 * permissions, but for a token that the client renews (it {@link isTransient} as well).
 *
 * What a user may not see can be told from wrong credentials by the reason: it is `PermissionDenied`.
 *
 * A server that wants a client certificate does not answer at all: that is `Unreachable`, with `lasting`.
 *
 * @example
 * ```ts
 * import { Effect, Option } from "effect"
 * import { EtcdError, EtcdKv } from "effect-etcd"
 *
 * // What this user may not see is as if it were not there.
 * const secret = EtcdKv.getString("secrets/7").pipe(
 *   Effect.catchReason("EtcdError", "PermissionDenied", () => Effect.succeed(Option.none<string>())),
 *   // The credentials themselves are no good: nothing that is tried with them will be.
 *   Effect.catchIf(EtcdError.isAuth, Effect.die)
 * )
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAuth = (error: unknown): boolean => is(error, "auth")

/**
 * Whether what was to be changed or removed is not there: a key, a lease, a member, a user, a role, or what one of them was
 * granted. Whoever wants it gone has nothing left to do.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth, EtcdError } from "effect-etcd"
 *
 * const gone = EtcdAuth.deleteUser("alice").pipe(Effect.catchIf(EtcdError.isNotFound, () => Effect.void))
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isNotFound = (error: unknown): boolean => is(error, "notFound")

/**
 * Whether what was to be made is there already: a lease, a member or its URL, a user, or a role. Whoever wants it there has
 * nothing left to do, but to look whether it is as it should be.
 *
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdAuth, EtcdError } from "effect-etcd"
 *
 * const there = EtcdAuth.addRole("readers").pipe(Effect.catchIf(EtcdError.isAlreadyExists, () => Effect.void))
 * ```
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAlreadyExists = (error: unknown): boolean => is(error, "alreadyExists")
