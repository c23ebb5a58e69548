/**
 * The lines of etcd's logger zap: JSON and console.
 *
 * @internal
 */
import type * as DateTime from "effect/DateTime"
import type { Severity } from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as EtcdId from "../../EtcdId.ts"
import type { Entry, Event } from "../../EtcdLog.ts"
import { entry, fieldId, fieldString, fromEpochMillis, isGrave, undecided, unparsed } from "./events.ts"
import { failureEvent, invalidConfig, repairedWal } from "./failures.ts"
import { raftEvent } from "./raft.ts"

const zapLevels: Readonly<Record<string, Severity>> = {
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  dpanic: "Fatal",
  panic: "Fatal",
  fatal: "Fatal"
}

const zapLevel = (level: unknown): Severity =>
  typeof level === "string" && Object.hasOwn(zapLevels, level) ? zapLevels[level]! : "Info"

// zap writes ISO 8601 text; before etcd has set it up, seconds.
const zapTime = (ts: unknown): Option.Option<DateTime.Utc> => {
  if (typeof ts === "string") {
    return fromEpochMillis(Date.parse(ts))
  }
  return typeof ts === "number" ? fromEpochMillis(ts * 1000) : Option.none()
}

const ready = (self: Entry): Event => ({ ...self, _tag: "Ready", address: fieldString(self, "address") })

const localMember = (self: Entry): Event =>
  Option.match(fieldId(self, "local-member-id"), {
    onNone: () => self,
    onSome: (id) => ({
      ...self,
      _tag: "LocalMember",
      member: EtcdId.MemberId(id),
      cluster: Option.map(fieldId(self, "cluster-id"), EtcdId.ClusterId)
    })
  })

const versionEvent =
  (versionField: string, clusterField: string) =>
  (self: Entry): Event => {
    const version = fieldString(self, versionField)
    const clusterVersion = Option.filter(fieldString(self, clusterField), (text) => text !== undecided)
    return Option.isNone(version) && Option.isNone(clusterVersion)
      ? self
      : { ...self, _tag: "Version", version, clusterVersion }
  }

const peerEvent = (self: Entry): Event => {
  const peer = fieldId(self, "peer-id")
  if (Option.isNone(peer)) {
    return self
  }
  return self.message === "peer became active"
    ? { ...self, _tag: "PeerUp", peer: EtcdId.MemberId(peer.value) }
    : { ...self, _tag: "PeerDown", peer: EtcdId.MemberId(peer.value), cause: fieldString(self, "error") }
}

const zapMessages = new Map<string, (self: Entry) => Event>([
  ["starting an etcd server", versionEvent("etcd-version", "cluster-version")],
  ["starting etcd server", versionEvent("local-server-version", "cluster-version")],
  ["set initial cluster version", versionEvent("", "cluster-version")],
  ["cluster version is updated", versionEvent("", "cluster-version")],
  // 3.4 calls both "from", and the last one is read.
  ["updated cluster version", (self) => versionEvent("", Option.isSome(fieldString(self, "to")) ? "to" : "from")(self)],
  ["starting local member", localMember],
  ["restarting local member", localMember],
  ["forcing restart member", localMember],
  ["now serving peer/client/metrics", localMember],
  ["ready to serve client requests", ready],
  ["serving client traffic insecurely; this is strongly discouraged!", ready],
  ["serving client traffic securely", ready],
  ["peer became active", peerEvent],
  ["peer became inactive (message send to peer failed)", peerEvent],
  ["db file is flocked by another process, or taking too long", failureEvent],
  ["repaired WAL", repairedWal],
  ["failed to verify flags", invalidConfig]
])

const zapEvent = (self: Entry): Event => {
  const known = zapMessages.get(self.message)
  if (known !== undefined) {
    return known(self)
  }
  return isGrave(self.level) ? failureEvent(self) : raftEvent(self)
}

const longInteger = /[:[,] ?-?\d{16}/
const integer = /^-?\d+$/

// etcd logs ids, revisions and the like as numbers of 64 bits, of which a number here would lose digits.
const exactly = (_key: string, value: unknown, context?: { readonly source?: string }): unknown =>
  typeof value === "number" && !Number.isSafeInteger(value) && integer.test(context?.source ?? "")
    ? BigInt(context!.source!)
    : value

const parseJson = (text: string): unknown =>
  Result.getOrUndefined(
    Result.try({
      try: () => JSON.parse(text, longInteger.test(text) ? exactly : undefined) as unknown,
      catch: () => undefined
    })
  )

export const zapJson = (line: string): Event => {
  const json = parseJson(line)
  if (!Predicate.isObject(json)) {
    return unparsed(line, 0)
  }
  const { level, ts, caller, msg, ...fields } = json as Record<string, unknown>
  return typeof msg === "string"
    ? zapEvent(entry(line, zapLevel(level), zapTime(ts), Option.liftPredicate(caller, Predicate.isString), msg, fields))
    : unparsed(line, 0)
}

export const consoleLevel = /^\d{4}-[^\t]*\t(debug|info|warn|error|dpanic|panic|fatal)\t/

// Time, level, sometimes the logger, the position, the message, and the fields as JSON; tabs between them.
export const zapConsole = (line: string): Event => {
  const parts = line.split("\t")
  const position = parts.findIndex((part, index) => index > 1 && index < 4 && /^\S+\.go:\d+$/.test(part))
  if (position === -1 || position + 1 >= parts.length) {
    return unparsed(line, 0)
  }
  // A tab in the message is one, while one in a field is escaped.
  const rest = parts.slice(position + 1)
  const last = rest.length > 1 ? parseJson(rest.at(-1)!) : undefined
  const fields = Predicate.isObject(last) ? (last as Record<string, unknown>) : undefined
  const message = (fields === undefined ? rest : rest.slice(0, -1)).join("\t")
  const logger = position === 3 ? { logger: parts[2] } : {}
  return zapEvent(
    entry(line, zapLevel(parts[1]), zapTime(parts[0]), Option.some(parts[position]!), message, {
      ...logger,
      ...fields
    })
  )
}
