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
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { displayName, kindOfPath, sinceVersion } from "./internal/client/rpcs.ts"
import type { TransportError } from "./internal/grpc/Transport.ts"

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
export class TooManyOps extends Schema.TaggedError<TooManyOps>()("TooManyOps", details) {}

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
 * A role of this name exists already.
 *
 * @category reasons
 * @since 0.1.0
 */
export class RoleExists extends Schema.TaggedError<RoleExists>()("RoleExists", details) {}

/**
 * There is no role of this name.
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

/**
 * What a call was, for the error that it failed with.
 *
 * @internal
 * @category models
 * @since 0.1.0
 */
export interface Call {
  /** The path of the RPC, as `/etcdserverpb.KV/Put`. */
  readonly method: string
  readonly endpoint: string
  /** Whether the call can change something. Default: what etcd's API says of the method, `write` in doubt. */
  readonly kind?: "read" | "write" | undefined
}

interface Details {
  readonly message: string
  readonly outcome: Outcome
  readonly method?: string
  readonly endpoint?: string
}

interface Known {
  readonly reason: (details: Details) => Reason
  readonly outcome: Outcome
  /** What would fix it. */
  readonly advice: string
}

const notApplied = (reason: (details: Details) => Reason, advice: string): Known => ({
  reason,
  outcome: "not-applied",
  advice
})

const uncertain = (reason: (details: Details) => Reason, advice: string): Known => ({
  reason,
  outcome: "unknown",
  advice
})

const invalidArgument = (advice: string): Known => notApplied((details) => new InvalidArgument(details), advice)

const serverTimeout = (during: ServerTimeout["during"]): Known =>
  uncertain(
    (details) => new ServerTimeout({ ...details, during }),
    "The cluster has no leader, has lost its quorum, or is overloaded; look at the health of its members."
  )

/**
 * etcd's messages, without the prefix `etcdserver: `. A message that is not here becomes a `GrpcStatus` with an unknown
 * outcome.
 */
const knownMessages: ReadonlyMap<string, Known> = new Map<string, Known>([
  ["key is not provided", invalidArgument("Give a key that is not empty.")],
  [
    "key not found",
    notApplied((details) => new KeyNotFound(details), "Only an existing key can keep its value or lease.")
  ],
  ["value is provided", invalidArgument("Leave the value out when the key is to keep its value.")],
  ["lease is provided", invalidArgument("Leave the lease out when the key is to keep its lease.")],
  ["invalid sort option", invalidArgument("Sort by one of the orders and targets that etcd has.")],
  ["invalid client api version", invalidArgument("The server does not take the version that the client sends.")],
  [
    "too many operations in txn request",
    notApplied((details) => new TooManyOps(details), "Split the transaction, or raise the server's --max-txn-ops.")
  ],
  [
    "duplicate key given in txn request",
    notApplied((details) => new DuplicateKey(details), "Put each key at most once in a transaction.")
  ],
  [
    "mvcc: required revision has been compacted",
    notApplied((details) => new Compacted(details), "Read at a newer revision, or start again from the current state.")
  ],
  [
    "mvcc: required revision is a future revision",
    notApplied((details) => new FutureRevision(details), "Ask for a revision that a response header has shown.")
  ],
  [
    "mvcc: database space exceeded",
    uncertain(
      (details) => new NoSpace(details),
      "Compact and defragment, then disarm the alarm; or raise the server's --quota-backend-bytes."
    )
  ],
  ["requested lease not found", notApplied((details) => new LeaseNotFound(details), "Grant a new lease.")],
  [
    "lease already exists",
    notApplied((details) => new LeaseExists(details), "Take another id, or let etcd choose one.")
  ],
  ["too large lease TTL", notApplied((details) => new LeaseTtlTooLarge(details), "Take a shorter time to live.")],
  ["watch canceled", uncertain((details) => new WatchCanceled(details), "Watch again.")],
  ["member ID already exist", notApplied((details) => new MemberExists(details), "List the members.")],
  ["Peer URLs already exists", notApplied((details) => new PeerUrlExists(details), "List the members and their URLs.")],
  [
    "re-configuration failed due to not enough started members",
    notApplied((details) => new NotEnoughStartedMembers(details), "Start the members that are down first.")
  ],
  ["given member URLs are invalid", invalidArgument("Give URLs such as http://10.0.0.1:2380.")],
  ["member not found", notApplied((details) => new MemberNotFound(details), "List the members.")],
  [
    "can only promote a learner member",
    notApplied((details) => new MemberNotLearner(details), "The member votes already.")
  ],
  [
    "can only promote a learner member which is in sync with leader",
    notApplied((details) => new LearnerNotReady(details), "Wait until the learner has caught up.")
  ],
  [
    "too many learner members in cluster",
    notApplied((details) => new TooManyLearners(details), "Promote or remove a learner first.")
  ],
  ["cluster ID mismatch", notApplied((details) => new ClusterIdMismatch(details), "Check the endpoints.")],
  [
    "request is too large",
    notApplied(
      (details) => new RequestTooLarge(details),
      "Send less at once, or raise the server's --max-request-bytes."
    )
  ],
  ["too many requests", notApplied((details) => new TooManyRequests(details), "Try again later, and less at a time.")],
  ["root user does not exist", notApplied((details) => new RootUserNotFound(details), "Add the user root.")],
  [
    "root user does not have root role",
    notApplied((details) => new RootRoleNotGranted(details), "Grant the role root to the user root.")
  ],
  ["user name already exists", notApplied((details) => new UserExists(details), "Take another name.")],
  [
    "user name is empty",
    notApplied(
      (details) => new UserNameEmpty(details),
      "Authentication is on, and the request came without a user: give the client credentials."
    )
  ],
  ["user name not found", notApplied((details) => new UserNotFound(details), "List the users.")],
  ["role name already exists", notApplied((details) => new RoleExists(details), "Take another name.")],
  ["role name not found", notApplied((details) => new RoleNotFound(details), "List the roles.")],
  ["role name is empty", invalidArgument("Give a role name.")],
  [
    "authentication failed, invalid user ID or password",
    notApplied((details) => new AuthenticationFailed(details), "Check the user name and the password.")
  ],
  [
    "authentication failed, password was given for no password user",
    notApplied(
      (details) => new AuthenticationFailed(details),
      "The user has no password, and can only be told by a client certificate."
    )
  ],
  ["permission not given", invalidArgument("Give a permission.")],
  [
    "permission denied",
    notApplied((details) => new PermissionDenied(details), "Grant a role with the permission to the user.")
  ],
  [
    "role is not granted to the user",
    notApplied((details) => new RoleNotGranted(details), "Look at the user's roles.")
  ],
  [
    "permission is not granted to the role",
    notApplied((details) => new PermissionNotGranted(details), "Look at the role's permissions.")
  ],
  [
    "authentication is not enabled",
    notApplied((details) => new AuthNotEnabled(details), "Enable authentication, or connect without credentials.")
  ],
  ["invalid auth token", notApplied((details) => new InvalidAuthToken(details), "Check the client's credentials.")],
  [
    "invalid auth management",
    notApplied((details) => new InvalidAuthManagement(details), "Disable authentication before changing root.")
  ],
  ["revision of auth store is old", notApplied((details) => new AuthOldRevision(details), "Try again.")],
  ["no leader", notApplied((details) => new NoLeader(details), "Wait for an election, or ask another member.")],
  ["not leader", notApplied((details) => new NotLeader(details), "Ask the leader.")],
  ["leader changed", uncertain((details) => new LeaderChanged(details), "Try again.")],
  ["not capable", notApplied((details) => new NotCapable(details), "Wait until every member runs the new version.")],
  ["server stopped", uncertain((details) => new ServerStopped(details), "Ask another member.")],
  ["request timed out", serverTimeout("request")],
  ["request timed out, possibly due to previous leader failure", serverTimeout("leader-failure")],
  ["request timed out, possibly due to connection lost", serverTimeout("connection-lost")],
  ["request timed out, waiting for the applied index took too long", serverTimeout("applied-index")],
  ["unhealthy cluster", notApplied((details) => new Unhealthy(details), "Bring the other members back first.")],
  [
    "corrupt cluster",
    notApplied((details) => new Corrupt(details), "Find the corrupt member, replace it, and disarm the alarm.")
  ],
  [
    "rpc not supported for learner",
    notApplied((details) => new NotSupportedForLearner(details), "Ask a voting member.")
  ],
  [
    "bad leader transferee",
    notApplied((details) => new BadLeaderTransferee(details), "Name a voting member that is up.")
  ],
  [
    "wrong downgrade target version format",
    notApplied((details) => new InvalidDowngradeTarget(details), "Give a version such as 3.6.0.")
  ],
  [
    "invalid downgrade target version",
    notApplied((details) => new InvalidDowngradeTarget(details), "Give the minor version just below the cluster's.")
  ],
  [
    "cluster version not found during downgrade",
    notApplied((details) => new ClusterVersionUnavailable(details), "Try again once the cluster has a leader.")
  ],
  [
    "cluster has a downgrade job in progress",
    notApplied((details) => new DowngradeInProgress(details), "Cancel it first, or let it end.")
  ],
  ["no inflight downgrade job", notApplied((details) => new NoDowngrade(details), "There is nothing to cancel.")],
  [
    "raft proposal dropped",
    notApplied((details) => new ProposalDropped(details), "Try again once the cluster has a leader.")
  ],
  ["raft: stopped", uncertain((details) => new ServerStopped(details), "Ask another member.")],
  ["request canceled", uncertain((details) => new Canceled(details), "Try again.")],
  ["context deadline exceeded", uncertain((details) => new DeadlineExceeded(details), "Give the call more time.")]
])

/**
 * What gRPC for Go, then etcd, put before a message; the first is in the reason that a watch is canceled for, `auth` in
 * what etcd's own table of errors does not have (`toGRPCErrorMap` in its `server/etcdserver/api/v3rpc/util.go`).
 */
const prefixes = /^(?:rpc error: code = \w+ desc = )?(?:etcdserver: |auth: )?/

const withoutPrefixes = (message: string): string => message.replace(prefixes, "")

const knownByCode = (code: number, message: string): Known | undefined => {
  switch (code) {
    case 1:
      return uncertain((details) => new Canceled(details), "Try again.")
    case 4:
      return uncertain(
        (details) => new DeadlineExceeded(details),
        "Give the call more time, or look at the server's load."
      )
    case 8:
      // grpc-go refuses a request beyond its own limit (etcd's, and 512 KiB) before etcd sees it.
      return message.startsWith("grpc: received message larger than max")
        ? notApplied(
            (details) => new RequestTooLarge(details),
            "Send less at once, or raise the server's --max-request-bytes."
          )
        : undefined
    default:
      return undefined
  }
}

const unsupported = (path: string): Known => {
  const feature = displayName(path)
  const since = sinceVersion(path)
  return notApplied(
    (details) => new Unsupported({ ...details, feature, ...(since === undefined ? {} : { since }) }),
    since === undefined ? "Is the endpoint an etcd, 3.4 or newer?" : `etcd has it since version ${since}.`
  )
}

const genericStatus = (code: number, message: string): Known =>
  uncertain((details) => new GrpcStatus({ ...details, code, status: message }), "")

const knownStatus = (code: number, message: string, path: string): Known =>
  code === 12
    ? unsupported(path)
    : (knownMessages.get(withoutPrefixes(message)) ?? knownByCode(code, message) ?? genericStatus(code, message))

const withCause = (cause: unknown): { readonly cause?: unknown } => (cause === undefined ? {} : { cause })

const knownFailure = (error: TransportError, path: string): Known => {
  switch (error.kind) {
    case "Status":
      return knownStatus(error.code, error.message, path)
    case "Unreachable":
      return notApplied(
        (details) =>
          new Unreachable({
            ...details,
            ...(error.lasting === true ? { lasting: error.lasting } : {}),
            ...withCause(error.cause)
          }),
        ""
      )
    case "ConnectionLost":
      return uncertain((details) => new ConnectionLost({ ...details, ...withCause(error.cause) }), "")
    case "Deadline":
      return uncertain(
        (details) => new DeadlineExceeded(details),
        "Give the call more time, or look at the server's load."
      )
    case "Protocol":
      return uncertain((details) => new ProtocolViolation({ ...details, ...withCause(error.cause) }), "")
    case "Http":
      return uncertain(
        (details) => new NotGrpc({ ...details, code: error.code }),
        "Is the endpoint etcd's client URL, and is there a proxy that does not let gRPC through?"
      )
    case "Identity":
      return uncertain((details) => new ClusterIdMismatch({ ...details, ...error.clusters }), "")
    case "LeaderLost":
      return uncertain((details) => new LeaderChanged(details), "")
  }
}

const sentence = (text: string): string => {
  const trimmed = text.trim()
  return trimmed === "" || /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`
}

/** What the transport tells, without the call, which is told already. */
const describe = (error: TransportError, call: Call): string => {
  const told = withoutPrefixes(error.message.replace(`${call.method} to ${call.endpoint}: `, ""))
  return told === "" ? `gRPC status ${error.code} without a message` : told
}

/**
 * The error of a call that failed in the transport or at the server.
 *
 * The outcome is `not-applied` for a call that only reads, for a request that the server surely did not act on, and for
 * those of etcd's own refusals that come before anything is written.
 *
 * @internal
 * @category constructors
 * @since 0.1.0
 */
export const fromTransport = (error: TransportError, call: Call): EtcdError => {
  const known = knownFailure(error, call.method)
  const kind = call.kind ?? kindOfPath(call.method)
  const outcome = kind === "read" || error.processed === "no" ? "not-applied" : known.outcome
  const method = displayName(call.method)
  const told = describe(error, call)
  const where = told.includes(call.endpoint) ? method : `${method} at ${call.endpoint}`
  const message = [
    sentence(`${where} failed: ${told}`),
    known.advice,
    outcome === "unknown" ? "Whether it was applied is unknown." : ""
  ]
  return make(
    known.reason({
      message: message.filter((part) => part !== "").join(" "),
      outcome,
      method,
      endpoint: call.endpoint
    })
  )
}

/**
 * What a caller asked for makes no sense, and was not sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const invalid = (message: string): EtcdError => make(new InvalidArgument({ message, outcome: "not-applied" }))

const decoder = new TextDecoder()

/**
 * A key, or any key of a range, had to exist and does not.
 *
 * @category constructors
 * @since 0.1.0
 */
export const keyNotFound = (range: { readonly key: Uint8Array; readonly end: Uint8Array }): EtcdError => {
  const key = JSON.stringify(decoder.decode(range.key))
  const message =
    range.end.length === 0
      ? `There is no key ${key}.`
      : `There is no key from ${key} up to ${JSON.stringify(decoder.decode(range.end))}.`
  return make(new KeyNotFound({ message, outcome: "not-applied" }))
}

/**
 * A server ended a watch.
 *
 * @category constructors
 * @since 0.1.0
 */
export const watchCanceled = (answer: {
  readonly compactRevision: bigint
  readonly cancelReason: string
}): EtcdError => {
  const method = "Watch.Watch"
  const outcome = "not-applied"
  if (answer.compactRevision > 0n) {
    const message =
      `The watch cannot begin at the revision asked for: everything before revision ${answer.compactRevision} is ` +
      "compacted. Read the current state and watch from there."
    return make(new Compacted({ message, outcome, method, compactedRevision: answer.compactRevision }))
  }
  const told = withoutPrefixes(answer.cancelReason)
  const known = knownMessages.get(told)
  const message = `${sentence(`The server ended the watch: ${told === "" ? "it gave no reason" : told}`)} ${known?.advice ?? ""}`
  const details = { message: message.trim(), outcome, method } as const
  return make(known === undefined ? new WatchCanceled(details) : known.reason(details))
}

/**
 * The server ended the call of a watch without giving a reason.
 *
 * @category constructors
 * @since 0.1.0
 */
export const watchEnded = (): EtcdError =>
  make(
    new WatchCanceled({
      message: "The server ended the watch without a reason. Watch again.",
      outcome: "not-applied",
      method: "Watch.Watch"
    })
  )
