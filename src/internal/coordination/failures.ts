/**
 * What a failure means for what stands in a line, or is looked at again and again. All the rules are here.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as EtcdError from "../../EtcdError.ts"
import { worthwhile } from "../client/retryRules.ts"
import * as WatchRules from "../watch/rules.ts"

/** What a client asks for once only, since nobody should wait for it without knowing, and which may pass nevertheless. */
const passing: ReadonlySet<EtcdError.Reason["_tag"]> = new Set([
  "NoSpace",
  "DeadlineExceeded",
  "Canceled",
  "WatchCanceled",
  "LeaseNotFound",
  "Compacted",
  "RevisionRegressed",
  "NotCapable",
  "Unhealthy"
])

const internal = 13

/** Whether time may mend it, by itself or by what those do who look after etcd. */
export const mayPass = (error: EtcdError.EtcdError): boolean => {
  const { reason } = error
  // As where the client, or its service, has ended, or a call is given no time.
  if ("lasting" in reason && reason.lasting === true) return false
  if (passing.has(reason._tag)) return true
  if (reason._tag === "ClusterIdMismatch" || reason._tag === "UserNameEmpty") return false
  if (reason._tag === "GrpcStatus" && reason.code === internal) return true
  return worthwhile(reason) !== "fail"
}

/** Whether it is who asks that is wrong: the same is said again, until somebody changes credentials, or what users may. */
export const isOfUser = (error: EtcdError.EtcdError): boolean =>
  EtcdError.isAuth(error) && !EtcdError.isTransient(error)

/** Whether the store has gone back, or is another one. */
export const isRegression = ({ reason: { _tag } }: EtcdError.EtcdError): boolean =>
  _tag === "RevisionRegressed" || _tag === "ClusterIdMismatch"

/**
 * Whether it says nothing about the keys that were looked at, and they may be seen again. Where no connection can come,
 * nothing is renewed either, so that it is the time of the lease that ends the wait.
 */
export const onlyBlinds = (error: EtcdError.EtcdError): boolean =>
  !isRegression(error) && (mayPass(error) || WatchRules.isLasting(error))

/** Fails where a store is at a revision, as it said to a linearizable read, and has been at a later one. */
export const notBefore = (seen: bigint, current: bigint): Effect.Effect<void, EtcdError.EtcdError> =>
  current >= seen
    ? Effect.void
    : Effect.fail(
        EtcdError.make(
          new EtcdError.RevisionRegressed({
            message: `The store has gone back: it was at revision ${seen}, and is at ${current} now.`,
            outcome: "not-applied",
            seen,
            current
          })
        )
      )
