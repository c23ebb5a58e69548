/**
 * When a call is sent again. All the rules are here.
 *
 * The first rule is in {@link decide}: nothing is sent again unless it is certain that it was not applied. That holds
 * for every call that only reads, and for a write whose failure has the outcome `not-applied`. The second rule is the
 * table: only a failure that another try may not have is worth one.
 *
 * @internal
 */
import type { Reason } from "../../EtcdError.ts"

/**
 * What to do about a failed call.
 *
 * - `fail`: tell the caller.
 * - `elsewhere`: leave this endpoint for a while and ask another; the same one again where there is no other.
 * - `another`: ask another; where there is none left, time will not help.
 * - `later`: ask again after a pause, wherever.
 * - `renew`: authenticate again and resend, at once the first time, later after pauses, and not often.
 */
export type Decision = "fail" | "elsewhere" | "another" | "later" | "renew"

/** What another try may do about each failure. `unavailable`: as `elsewhere`, if the gRPC status is UNAVAILABLE. */
export const rules: { readonly [Tag in Reason["_tag"]]: Decision | "unavailable" } = {
  // Nothing was sent, or the endpoint broke off.
  Unreachable: "elsewhere",
  ConnectionLost: "elsewhere",
  ServerStopped: "elsewhere",
  // The member cannot answer now, another may.
  NoLeader: "elsewhere",
  LeaderChanged: "elsewhere",
  ServerTimeout: "elsewhere",
  NotSupportedForLearner: "elsewhere",
  GrpcStatus: "unavailable",
  NotGrpc: "unavailable",
  // This endpoint is none of the client's cluster.
  ClusterIdMismatch: "another",
  // No member can answer now.
  ProposalDropped: "later",
  TooManyRequests: "later",
  // The token is not good any more.
  InvalidAuthToken: "renew",
  AuthOldRevision: "renew",
  UserNameEmpty: "renew",
  // Every other member, and every other time, would say the same.
  Compacted: "fail",
  FutureRevision: "fail",
  NoSpace: "fail",
  TooManyOps: "fail",
  DuplicateKey: "fail",
  RequestTooLarge: "fail",
  KeyNotFound: "fail",
  LeaseNotFound: "fail",
  LeaseExists: "fail",
  LeaseTtlTooLarge: "fail",
  WatchCanceled: "fail",
  MemberNotFound: "fail",
  MemberExists: "fail",
  PeerUrlExists: "fail",
  NotEnoughStartedMembers: "fail",
  MemberNotLearner: "fail",
  LearnerNotReady: "fail",
  TooManyLearners: "fail",
  RevisionRegressed: "fail",
  UserExists: "fail",
  UserNotFound: "fail",
  RoleExists: "fail",
  RoleNotFound: "fail",
  RoleNotGranted: "fail",
  PermissionNotGranted: "fail",
  RootUserNotFound: "fail",
  RootRoleNotGranted: "fail",
  InvalidAuthManagement: "fail",
  AuthenticationFailed: "fail",
  AuthNotEnabled: "fail",
  PermissionDenied: "fail",
  // Which member is the leader is for the caller to find out: only MoveLeader says so.
  NotLeader: "fail",
  NotCapable: "fail",
  Unhealthy: "fail",
  Corrupt: "fail",
  BadLeaderTransferee: "fail",
  InvalidDowngradeTarget: "fail",
  ClusterVersionUnavailable: "fail",
  DowngradeInProgress: "fail",
  NoDowngrade: "fail",
  InvalidArgument: "fail",
  Unsupported: "fail",
  DeadlineExceeded: "fail",
  Canceled: "fail",
  ProtocolViolation: "fail",
  Fenced: "fail"
}

const unavailable = 14

/** What to do about a failure, whatever its outcome: what the table says. */
export const worthwhile = (reason: Reason): Decision => {
  if (reason._tag === "Unreachable" && reason.lasting === true) return "another"
  const rule = rules[reason._tag]
  if (rule !== "unavailable") return rule
  return "code" in reason && reason.code === unavailable ? "elsewhere" : "fail"
}

/** Whether the endpoint is to be left for a while. */
export const blamesEndpoint = (reason: Reason): boolean => {
  const decision = worthwhile(reason)
  return decision === "elsewhere" || decision === "another"
}

/** What to do about a failed call. */
export const decide = (reason: Reason): Decision => (reason.outcome === "not-applied" ? worthwhile(reason) : "fail")
