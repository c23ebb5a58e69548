/**
 * What the failure of a transaction means for the calls in it.
 *
 * @internal
 */
import type * as EtcdError from "../../EtcdError.ts"
import * as Reasons from "../client/reasons.ts"
import type { Kind } from "../client/rpcs.ts"

type Tag = EtcdError.Reason["_tag"]

/** What one call in a transaction can bring upon all of them. etcd checks all of it before it applies anything. */
const faults: ReadonlySet<Tag> = new Set<Tag>([
  "Compacted",
  "FutureRevision",
  "TooManyOps",
  "DuplicateKey",
  "RequestTooLarge",
  "KeyNotFound",
  "LeaseNotFound",
  "PermissionDenied",
  "InvalidArgument"
])

const unavailable = 14

/**
 * What may come from the size of the answer, or from nobody knows what. Reading once more does no harm. That a server is
 * unavailable is no fault of a call, and the client has tried again for as long as is worth it.
 */
const isDoubtful = (reason: EtcdError.Reason): boolean =>
  reason._tag === "ProtocolViolation" || (reason._tag === "GrpcStatus" && reason.code !== unavailable)

/** Whether the calls may be sent again, and some of them may then succeed. */
export const mayHaveOneCulprit = ({ reason }: EtcdError.EtcdError, kind: Kind): boolean =>
  reason.outcome === "not-applied" && (faults.has(reason._tag) || (kind === "read" && isDoubtful(reason)))

/** The error as one of the calls has it. */
export const retold = (error: EtcdError.EtcdError, method: string): EtcdError.EtcdError =>
  Reasons.retold(error, { message: error.reason.message.replace("KV.Txn", `${method} (batched)`), method })
