/**
 * What a failure means for watches. All the rules are here.
 *
 * @internal
 */
import * as EtcdError from "../../EtcdError.ts"
import { closedError } from "../client/engine.ts"
import { decide } from "../client/retryRules.ts"

const internal = 13

/**
 * Whether another call may do better than the one that ended with this. A call of watches only reads, so that INTERNAL,
 * which a proxy says that broke off in the middle, is a broken call to it, as it is to etcd's own client (`isHaltErr` in
 * etcd's `client/v3/client.go`).
 */
export const isWorthwhile = ({ reason }: EtcdError.EtcdError): boolean =>
  (decide(reason) !== "fail" && reason._tag !== "ClusterIdMismatch") ||
  reason._tag === "WatchCanceled" ||
  reason._tag === "Canceled" ||
  reason._tag === "DeadlineExceeded" ||
  (reason._tag === "GrpcStatus" && reason.code === internal)

/** Whether no connection can come, however often it is tried, until somebody mends what is wrong; nobody has closed it. */
export const isLasting = (error: EtcdError.EtcdError): boolean =>
  error.reason._tag === "Unreachable" && error.reason.lasting === true && !isClientClosed(error) && error !== closed

/**
 * Whether this tells only what is wrong with the endpoint that was asked, so that another may do better. `isServed`: it
 * had taken watches, so that it knows how.
 */
export const isOfEndpoint = (error: EtcdError.EtcdError, isServed: boolean): boolean => {
  switch (error.reason._tag) {
    case "ClusterIdMismatch":
    case "NotGrpc":
      return true
    case "ProtocolViolation":
    case "Unsupported":
      return !isServed
    case "GrpcStatus":
      return !isServed && !isWorthwhile(error)
    default:
      return isLasting(error)
  }
}

/**
 * Whether one of the watches of a call may have brought this about for all of them: by what it asked for, or by what a
 * server had to send for it. `isServed`: the server had taken watches, so that it is not the call itself that is wrong.
 */
export const isOfOneWatch = ({ reason }: EtcdError.EtcdError, isServed: boolean): boolean =>
  reason._tag === "RequestTooLarge" ||
  (isServed && (reason._tag === "ProtocolViolation" || reason._tag === "GrpcStatus"))

/** Whether another token may do. */
export const isTokenRefused = ({ reason }: EtcdError.EtcdError): boolean =>
  reason._tag === "InvalidAuthToken" || reason._tag === "AuthOldRevision" || reason._tag === "UserNameEmpty"

/** How often in a row a token may be refused before the watch fails. */
export const maxRenewals = 3

/** Whether the client that a call was made with has ended. */
export const isClientClosed = (error: EtcdError.EtcdError): boolean => error === closedError

/** What a watch is told whose service, or its client, has ended. */
export const closed = EtcdError.make(
  new EtcdError.Unreachable({
    message: "The watch has ended, because the service that it belongs to, or its client, was closed.",
    outcome: "not-applied",
    method: "Watch.Watch",
    lasting: true
  })
)
