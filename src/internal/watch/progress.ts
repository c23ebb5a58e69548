/**
 * Asking a server how far watches are.
 *
 * @internal
 */
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import * as EtcdError from "../../EtcdError.ts"

/** Whether a member waits with its word on progress until the events before it are sent (etcd's issue 15220). */
export const saysTheTruth = (text: string): boolean => {
  const version = SemVer.parse(text)
  if (Result.isFailure(version)) return true
  const { major, minor, patch } = version.success
  if (major > 3 || minor > 5) return true
  return minor === 5 ? patch >= 8 : minor === 4 && patch >= 25
}

export const unsupported = (endpoint: string, version: string): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.Unsupported({
      message:
        `${endpoint} runs etcd ${version}, which answers a request for progress with a revision whose events it may ` +
        "not have sent. Run 3.4.25, 3.5.8 or newer, or wait for the notifications that etcd sends by itself.",
      outcome: "not-applied",
      method: "Watch.Watch",
      endpoint,
      feature: "Progress on request",
      since: "3.5.8"
    })
  )

export const unanswered = (endpoint: string, millis: number): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.DeadlineExceeded({
      message: `${endpoint} was not asked for progress: it did not say within ${millis} ms which version it is.`,
      outcome: "not-applied",
      method: "Maintenance.Status",
      endpoint
    })
  )
