/**
 * What others see of etcd's log: its events without the secrets that the node was given, and its lines on Effect's
 * logger.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import type * as EtcdLog from "../../EtcdLog.ts"
import { isPlainObject } from "../json.ts"
import * as Secrets from "../log/secrets.ts"

// -----------------------------------------------------------------------------
// secrets
// -----------------------------------------------------------------------------

const decoded = (text: string): string =>
  Result.getOrElse(
    Result.try(() => decodeURIComponent(text)),
    () => text
  )

// As Go reads it, and as it was meant where a slash stands in the password, which Go refuses.
const userPatterns = [/^[^/]*\/\/([^/?#]*)@/, /^[^/]*\/\/(.*)@/s]

/** Who is let in by a URL. What stands alone may be a token. etcd prints it without the `//` before it, too. */
const userOf = (url: string): string => {
  const user = userPatterns.map((pattern) => pattern.exec(url)?.[1]).find((user) => user !== undefined) ?? ""
  return user.slice(user.indexOf(":") + 1)
}

/** Not a word of the path, which may stand anywhere. */
const isToken = (part: string): boolean => part.length >= 16 || /\d/.test(part)

/** The path names a cluster, and who knows it can join. etcd prints it as a whole, and the end of it in keys. */
const pathOf = (url: string): ReadonlyArray<string> => {
  const [, path = "", query = ""] = /^[^/]*\/\/[^/?#]*([^?#]*)[?#]?(.*)/s.exec(url) ?? []
  return [path, path.split("/").findLast(isToken) ?? "", query]
}

const ofUrl = (url: string): ReadonlyArray<string> => [decoded(userOf(url))]
const ofDiscovery = (url: string): ReadonlyArray<string> => [userOf(url), ...pathOf(url)].map(decoded)

/** Of `user:password` the password. The name alone is hidden by its place, since it may be any word. */
const ofUser = (user: string): ReadonlyArray<string> =>
  user.includes(":") ? [user, user.slice(user.indexOf(":") + 1)] : []

/** What is secret of an option that is. Of a URL the host is not: it says what could not be reached. */
const secretParts: { readonly [key: string]: (secret: string) => ReadonlyArray<string> } = {
  discovery: ofDiscovery,
  discoveryProxy: ofUrl,
  discoveryUser: ofUser
}

const secretsOf = ({ options }: EtcdConfig.Resolved): ReadonlyArray<string> =>
  Object.entries(options).flatMap(([key, value]) => {
    if (!Redacted.isRedacted(value)) return []
    const secret = Redacted.value(value as Redacted.Redacted<string>)
    return secretParts[key]?.(secret) ?? [secret]
  })

/** The event as anybody may see it. */
export const withoutSecrets = (config: EtcdConfig.Resolved): ((event: EtcdLog.Event) => EtcdLog.Event) =>
  Secrets.hide(secretsOf(config))

// -----------------------------------------------------------------------------
// the logger
// -----------------------------------------------------------------------------

/**
 * Where a run is: before it has served, while it serves, and from when it is to end.
 *
 * What a starting node says is in the error where the start fails, and how a node stops is not news to who stops it.
 */
export type Phase = "starting" | "serving" | "stopping"

const isGrave = ({ level }: EtcdLog.Event): boolean => level === "Warn" || level === "Error" || level === "Fatal"

/** Digits as etcd has printed them: loggers write a bigint with an `n`, or not at all. */
const readable = (value: unknown): unknown => {
  if (typeof value === "bigint") return String(value)
  if (Array.isArray(value)) return value.map(readable)
  return isPlainObject(value)
    ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, readable(item)]))
    : value
}

// `member` is the node itself. A stack trace says nothing to who runs an etcd, and the event has it.
const annotationsOf = ({ fields }: EtcdLog.Event): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(fields)
      .filter(([key]) => key !== "stacktrace")
      .map(([key, value]) => [key === "member" ? "etcd.member" : key, readable(value)])
  )

/**
 * Passes a line on to Effect's logger, annotated with its fields: a warning or an error of a node that serves at its own
 * level, everything else at `Debug`.
 */
export const logEvent = (event: EtcdLog.Event, phase: Phase): Effect.Effect<void> => {
  const level = isGrave(event) && phase === "serving" ? event.level : "Debug"
  return Effect.annotateLogs(Effect.logWithLevel(level)(event.message), annotationsOf(event))
}

// Somebody else ends it: with `Node.signal`, or from outside.
const signalPattern = /^received (?:\S+ )?signal[;,] shutting down/

/** The log of one run, which knows how far the run is. */
export interface Logging {
  /** Takes an event of the log. */
  readonly take: (event: EtcdLog.Event) => Effect.Effect<void>
  /** The node serves. */
  readonly serves: Effect.Effect<void>
  /** The process is about to be ended, or has ended. */
  readonly leaves: Effect.Effect<void>
}

const silent: Logging = { take: () => Effect.void, serves: Effect.void, leaves: Effect.void }

export const make = (options: {
  readonly log: boolean | undefined
  readonly version: SemVer.SemVer
  readonly endpoints: ReadonlyArray<string>
}): Logging => {
  if (options.log === false) return silent
  let phase: Phase = "starting"
  const enter = (next: Phase) =>
    Effect.sync(() => {
      phase = next
    })
  const told = `etcd ${SemVer.format(options.version)} serves at ${options.endpoints.join(", ")}`
  return {
    take: (event) =>
      Effect.suspend(() => {
        if (signalPattern.test(event.message)) phase = "stopping"
        return logEvent(event, phase)
      }),
    // A logger of the program's that fails is no reason not to serve.
    serves: Effect.andThen(enter("serving"), Effect.ignoreCause(Effect.logInfo(told))),
    leaves: enter("stopping")
  }
}
