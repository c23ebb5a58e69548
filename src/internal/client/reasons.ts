/**
 * From what the transport and etcd say to the reasons of an `EtcdError`.
 *
 * @internal
 */
import * as EtcdError from "../../EtcdError.ts"
import type { TransportError } from "../grpc/Transport.ts"
import { displayName, kindOfPath, sinceVersion } from "./rpcs.ts"

/** What a call was, for the error that it failed with. */
export interface Call {
  /** The path of the RPC, as `/etcdserverpb.KV/Put`. */
  readonly method: string
  readonly endpoint: string
  /** Whether the call can change something. Default: what etcd's API says of the method, `write` in doubt. */
  readonly kind?: "read" | "write" | undefined
}

interface Details {
  readonly message: string
  readonly outcome: EtcdError.Outcome
  readonly method?: string
  readonly endpoint?: string
}

interface Known {
  readonly reason: (details: Details) => EtcdError.Reason
  readonly outcome: EtcdError.Outcome
  /** What would fix it. */
  readonly advice: string
}

const notApplied = (reason: (details: Details) => EtcdError.Reason, advice: string): Known => ({
  reason,
  outcome: "not-applied",
  advice
})

const uncertain = (reason: (details: Details) => EtcdError.Reason, advice: string): Known => ({
  reason,
  outcome: "unknown",
  advice
})

const invalidArgument = (advice: string): Known =>
  notApplied((details) => new EtcdError.InvalidArgument(details), advice)

const serverTimeout = (during: EtcdError.ServerTimeout["during"]): Known =>
  uncertain(
    (details) => new EtcdError.ServerTimeout({ ...details, during }),
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
    notApplied((details) => new EtcdError.KeyNotFound(details), "Only an existing key can keep its value or lease.")
  ],
  ["value is provided", invalidArgument("Leave the value out when the key is to keep its value.")],
  ["lease is provided", invalidArgument("Leave the lease out when the key is to keep its lease.")],
  ["invalid sort option", invalidArgument("Sort by one of the orders and targets that etcd has.")],
  ["invalid client api version", invalidArgument("The server does not take the version that the client sends.")],
  [
    "too many operations in txn request",
    notApplied(
      (details) => new EtcdError.TooManyOps(details),
      "Split the transaction, or raise the server's --max-txn-ops."
    )
  ],
  [
    "duplicate key given in txn request",
    notApplied((details) => new EtcdError.DuplicateKey(details), "Put each key at most once in a transaction.")
  ],
  [
    "mvcc: required revision has been compacted",
    notApplied(
      (details) => new EtcdError.Compacted(details),
      "Read at a newer revision, or start again from the current state."
    )
  ],
  [
    "mvcc: required revision is a future revision",
    notApplied(
      (details) => new EtcdError.FutureRevision(details),
      "Ask for a revision that a response header has shown."
    )
  ],
  [
    "mvcc: database space exceeded",
    uncertain(
      (details) => new EtcdError.NoSpace(details),
      "Compact and defragment, then disarm the alarm; or raise the server's --quota-backend-bytes."
    )
  ],
  ["requested lease not found", notApplied((details) => new EtcdError.LeaseNotFound(details), "Grant a new lease.")],
  [
    "lease already exists",
    notApplied((details) => new EtcdError.LeaseExists(details), "Take another id, or let etcd choose one.")
  ],
  [
    "too large lease TTL",
    notApplied((details) => new EtcdError.LeaseTtlTooLarge(details), "Take a shorter time to live.")
  ],
  ["mvcc: watcher range is empty", invalidArgument("The end of a range has to be after its start.")],
  ["watch canceled", uncertain((details) => new EtcdError.WatchCanceled(details), "Watch again.")],
  ["member ID already exist", notApplied((details) => new EtcdError.MemberExists(details), "List the members.")],
  [
    "Peer URLs already exists",
    notApplied((details) => new EtcdError.PeerUrlExists(details), "List the members and their URLs.")
  ],
  [
    "re-configuration failed due to not enough started members",
    notApplied((details) => new EtcdError.NotEnoughStartedMembers(details), "Start the members that are down first.")
  ],
  ["given member URLs are invalid", invalidArgument("Give URLs such as http://10.0.0.1:2380.")],
  ["member not found", notApplied((details) => new EtcdError.MemberNotFound(details), "List the members.")],
  [
    "can only promote a learner member",
    notApplied((details) => new EtcdError.MemberNotLearner(details), "The member votes already.")
  ],
  [
    "can only promote a learner member which is in sync with leader",
    notApplied((details) => new EtcdError.LearnerNotReady(details), "Wait until the learner has caught up.")
  ],
  [
    "too many learner members in cluster",
    notApplied((details) => new EtcdError.TooManyLearners(details), "Promote or remove a learner first.")
  ],
  ["cluster ID mismatch", notApplied((details) => new EtcdError.ClusterIdMismatch(details), "Check the endpoints.")],
  [
    "request is too large",
    notApplied(
      (details) => new EtcdError.RequestTooLarge(details),
      "Send less at once, or raise the server's --max-request-bytes."
    )
  ],
  [
    "too many requests",
    notApplied((details) => new EtcdError.TooManyRequests(details), "Try again later, and less at a time.")
  ],
  ["root user does not exist", notApplied((details) => new EtcdError.RootUserNotFound(details), "Add the user root.")],
  [
    "root user does not have root role",
    notApplied((details) => new EtcdError.RootRoleNotGranted(details), "Grant the role root to the user root.")
  ],
  ["user name already exists", notApplied((details) => new EtcdError.UserExists(details), "Take another name.")],
  [
    "user name is empty",
    notApplied(
      (details) => new EtcdError.UserNameEmpty(details),
      "Authentication is on, and the request came without a user: give the client credentials."
    )
  ],
  ["user name not found", notApplied((details) => new EtcdError.UserNotFound(details), "List the users.")],
  ["role name already exists", notApplied((details) => new EtcdError.RoleExists(details), "Take another name.")],
  ["role name not found", notApplied((details) => new EtcdError.RoleNotFound(details), "List the roles.")],
  ["role name is empty", invalidArgument("Give a role name.")],
  [
    "authentication failed, invalid user ID or password",
    notApplied((details) => new EtcdError.AuthenticationFailed(details), "Check the user name and the password.")
  ],
  [
    "authentication failed, password was given for no password user",
    notApplied(
      (details) => new EtcdError.AuthenticationFailed(details),
      "The user has no password, and can only be told by a client certificate."
    )
  ],
  ["permission not given", invalidArgument("Give a permission.")],
  [
    "permission denied",
    notApplied((details) => new EtcdError.PermissionDenied(details), "Grant a role with the permission to the user.")
  ],
  [
    "role is not granted to the user",
    notApplied((details) => new EtcdError.RoleNotGranted(details), "Look at the user's roles.")
  ],
  [
    "permission is not granted to the role",
    notApplied((details) => new EtcdError.PermissionNotGranted(details), "Look at the role's permissions.")
  ],
  [
    "authentication is not enabled",
    notApplied(
      (details) => new EtcdError.AuthNotEnabled(details),
      "Enable authentication, or connect without credentials."
    )
  ],
  [
    "invalid auth token",
    notApplied((details) => new EtcdError.InvalidAuthToken(details), "Check the client's credentials.")
  ],
  [
    "invalid auth management",
    notApplied(
      (details) => new EtcdError.InvalidAuthManagement(details),
      "Disable authentication before changing root."
    )
  ],
  ["revision of auth store is old", notApplied((details) => new EtcdError.AuthOldRevision(details), "Try again.")],
  [
    "no leader",
    notApplied((details) => new EtcdError.NoLeader(details), "Wait for an election, or ask another member.")
  ],
  ["not leader", notApplied((details) => new EtcdError.NotLeader(details), "Ask the leader.")],
  ["leader changed", uncertain((details) => new EtcdError.LeaderChanged(details), "Try again.")],
  [
    "not capable",
    notApplied((details) => new EtcdError.NotCapable(details), "Wait until every member runs the new version.")
  ],
  ["server stopped", uncertain((details) => new EtcdError.ServerStopped(details), "Ask another member.")],
  ["request timed out", serverTimeout("request")],
  ["request timed out, possibly due to previous leader failure", serverTimeout("leader-failure")],
  ["request timed out, possibly due to connection lost", serverTimeout("connection-lost")],
  ["request timed out, waiting for the applied index took too long", serverTimeout("applied-index")],
  [
    "unhealthy cluster",
    notApplied((details) => new EtcdError.Unhealthy(details), "Bring the other members back first.")
  ],
  [
    "corrupt cluster",
    notApplied(
      (details) => new EtcdError.Corrupt(details),
      "Find the corrupt member, replace it, and disarm the alarm."
    )
  ],
  [
    "rpc not supported for learner",
    notApplied((details) => new EtcdError.NotSupportedForLearner(details), "Ask a voting member.")
  ],
  [
    "bad leader transferee",
    notApplied((details) => new EtcdError.BadLeaderTransferee(details), "Name a voting member that is up.")
  ],
  [
    "wrong downgrade target version format",
    notApplied((details) => new EtcdError.InvalidDowngradeTarget(details), "Give a version such as 3.6.0.")
  ],
  [
    "invalid downgrade target version",
    notApplied(
      (details) => new EtcdError.InvalidDowngradeTarget(details),
      "Give the minor version just below the cluster's."
    )
  ],
  [
    "cluster version not found during downgrade",
    notApplied(
      (details) => new EtcdError.ClusterVersionUnavailable(details),
      "Try again once the cluster has a leader."
    )
  ],
  [
    "cluster has a downgrade job in progress",
    notApplied((details) => new EtcdError.DowngradeInProgress(details), "Cancel it first, or let it end.")
  ],
  [
    "no inflight downgrade job",
    notApplied((details) => new EtcdError.NoDowngrade(details), "There is nothing to cancel.")
  ],
  [
    "raft proposal dropped",
    notApplied((details) => new EtcdError.ProposalDropped(details), "Try again once the cluster has a leader.")
  ],
  ["raft: stopped", uncertain((details) => new EtcdError.ServerStopped(details), "Ask another member.")],
  ["request canceled", uncertain((details) => new EtcdError.Canceled(details), "Try again.")],
  [
    "context deadline exceeded",
    uncertain((details) => new EtcdError.DeadlineExceeded(details), "Give the call more time.")
  ]
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
      return uncertain((details) => new EtcdError.Canceled(details), "Try again.")
    case 4:
      return uncertain(
        (details) => new EtcdError.DeadlineExceeded(details),
        "Give the call more time, or look at the server's load."
      )
    case 8:
      // grpc-go refuses a request beyond its own limit (etcd's, and 512 KiB) before etcd sees it.
      return message.startsWith("grpc: received message larger than max")
        ? notApplied(
            (details) => new EtcdError.RequestTooLarge(details),
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
    (details) => new EtcdError.Unsupported({ ...details, feature, ...(since === undefined ? {} : { since }) }),
    since === undefined ? "Is the endpoint an etcd, 3.4 or newer?" : `etcd has it since version ${since}.`
  )
}

const genericStatus = (code: number, message: string): Known =>
  uncertain((details) => new EtcdError.GrpcStatus({ ...details, code, status: message }), "")

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
          new EtcdError.Unreachable({
            ...details,
            ...(error.lasting === true ? { lasting: error.lasting } : {}),
            ...withCause(error.cause)
          }),
        ""
      )
    case "ConnectionLost":
      return uncertain((details) => new EtcdError.ConnectionLost({ ...details, ...withCause(error.cause) }), "")
    case "Deadline":
      return uncertain(
        (details) => new EtcdError.DeadlineExceeded(details),
        "Give the call more time, or look at the server's load."
      )
    case "Protocol":
      return uncertain((details) => new EtcdError.ProtocolViolation({ ...details, ...withCause(error.cause) }), "")
    case "Http":
      return uncertain(
        (details) => new EtcdError.NotGrpc({ ...details, code: error.code }),
        "Is the endpoint etcd's client URL, and is there a proxy that does not let gRPC through?"
      )
    case "Identity":
      return uncertain((details) => new EtcdError.ClusterIdMismatch({ ...details, ...error.clusters }), "")
    case "LeaderLost":
      return uncertain((details) => new EtcdError.LeaderChanged(details), "")
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

const unknownOutcome = "Whether it was applied is unknown."

/**
 * The error of a call that failed in the transport or at the server.
 *
 * The outcome is `not-applied` for a call that only reads, for a request that the server certainly did not act on, and for
 * those of etcd's own refusals that come before anything is written.
 */
export const fromTransport = (error: TransportError, call: Call): EtcdError.EtcdError => {
  const known = knownFailure(error, call.method)
  const kind = call.kind ?? kindOfPath(call.method)
  const outcome = kind === "read" || error.processed === "no" ? "not-applied" : known.outcome
  const method = displayName(call.method)
  const told = describe(error, call)
  const where = told.includes(call.endpoint) ? method : `${method} at ${call.endpoint}`
  const message = [sentence(`${where} failed: ${told}`), known.advice, outcome === "unknown" ? unknownOutcome : ""]
  return EtcdError.make(
    known.reason({
      message: message.filter((part) => part !== "").join(" "),
      outcome,
      method,
      endpoint: call.endpoint
    })
  )
}

/** A server ended a watch. */
export const watchCanceled = (answer: {
  readonly compactRevision: bigint
  readonly cancelReason: string
}): EtcdError.EtcdError => {
  const method = "Watch.Watch"
  const outcome = "not-applied"
  if (answer.compactRevision > 0n) {
    const message =
      `The watch cannot begin at the revision asked for: everything before revision ${answer.compactRevision} is ` +
      "compacted. Read the current state and watch from there."
    return EtcdError.make(
      new EtcdError.Compacted({ message, outcome, method, compactedRevision: answer.compactRevision })
    )
  }
  const told = withoutPrefixes(answer.cancelReason)
  const known = knownMessages.get(told)
  const message = `${sentence(`The server ended the watch: ${told === "" ? "it gave no reason" : told}`)} ${known?.advice ?? ""}`
  const details = { message: message.trim(), outcome, method } as const
  return EtcdError.make(known === undefined ? new EtcdError.WatchCanceled(details) : known.reason(details))
}

/** The server ended the call of a watch without giving a reason. */
export const watchEnded = (): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.WatchCanceled({
      message: "The server ended the watch without a reason. Watch again.",
      outcome: "not-applied",
      method: "Watch.Watch"
    })
  )

/** The same failure, told otherwise. */
export const retold = (
  { reason }: EtcdError.EtcdError,
  fields: {
    readonly message: string
    readonly outcome?: EtcdError.Outcome
    readonly method?: string
    readonly lasting?: true
  }
): EtcdError.EtcdError => {
  const Reason = reason.constructor as new (fields: object) => EtcdError.Reason
  // An Error does not count its cause among what is copied.
  const cause = reason.cause === undefined ? {} : { cause: reason.cause }
  return EtcdError.make(new Reason({ ...reason, ...cause, ...fields }))
}

/** The same failure, of which has turned out what came of it. */
export const turnedOutNotApplied = (error: EtcdError.EtcdError): EtcdError.EtcdError =>
  retold(error, {
    message: error.reason.message.replace(unknownOutcome, "It was not applied."),
    outcome: "not-applied"
  })
