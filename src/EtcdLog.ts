/**
 * What etcd prints, as typed events: one line, one event.
 *
 * Read are the JSON lines of etcd 3.4 to 3.7, the plain text that 3.4 writes by default (the line prefix of the server
 * and that of its raft library), and the console format of newer versions. A line of any other kind is kept as
 * {@link Unparsed}. Nothing here throws, whatever the bytes.
 *
 * {@link parse} takes one line, {@link decode} a stream of bytes, and {@link makeLineReader} cuts bytes into lines for
 * those who drive the parser by hand. A line is read without knowledge of the lines before it; {@link explain} picks
 * from several events the one that says best why etcd ended.
 *
 * The wording of the lines was taken from the output of etcd 3.4.23, 3.5.16, 3.5.30, 3.6.14 and 3.7.1.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import { dual } from "effect/Function"
import type { Severity } from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as EtcdId from "./EtcdId.ts"

/**
 * What every event has.
 *
 * @category models
 * @since 0.1.0
 */
export interface Common {
  /** The line as etcd printed it, without its line break. What a reader left out of it is missing here too. */
  readonly line: string
  /** etcd's level under the name that Effect's logger has for it; `panic` and `dpanic` are `Fatal`. */
  readonly level: Severity
  /** When etcd wrote the line, to the millisecond. Plain text has no time zone: it is read as this process' own. */
  readonly time: Option.Option<DateTime.Utc>
  /** Where in etcd the line comes from: a source position (`embed/etcd.go:323`), in plain text only the package. */
  readonly caller: Option.Option<string>
  /** The message; in an {@link Unparsed} line all of it. */
  readonly message: string
  /** All other keys of the line as etcd wrote them, `logger` and `stacktrace` among them. Empty for plain text. */
  readonly fields: Readonly<Record<string, unknown>>
}

/**
 * A line that was understood and that has no type of its own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Entry extends Common {
  readonly _tag: "Entry"
}

/**
 * A line in none of the formats of etcd: a stack trace, a usage text, a message from before the logger is up.
 *
 * @category models
 * @since 0.1.0
 */
export interface Unparsed extends Common {
  readonly _tag: "Unparsed"
  /** How many bytes of the line are missing in `message`, because the line was longer than the limit; otherwise 0. */
  readonly omittedBytes: number
}

/**
 * The version of etcd, or of the cluster, or both.
 *
 * @category models
 * @since 0.1.0
 */
export interface Version extends Common {
  readonly _tag: "Version"
  /** The version of this etcd, such as `3.5.30`. */
  readonly version: Option.Option<string>
  /** The version that the members have agreed on, such as `3.5`. */
  readonly clusterVersion: Option.Option<string>
}

/**
 * The node told its own member id, and the cluster it belongs to.
 *
 * @category models
 * @since 0.1.0
 */
export interface LocalMember extends Common {
  readonly _tag: "LocalMember"
  readonly member: EtcdId.MemberId
  readonly cluster: Option.Option<EtcdId.ClusterId>
}

/**
 * The node serves clients. etcd says it for each listener, and some versions twice.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ready extends Common {
  readonly _tag: "Ready"
  /** The address that is served, where the line tells it. */
  readonly address: Option.Option<string>
}

/**
 * The roles that raft knows.
 *
 * @category models
 * @since 0.1.0
 */
export type RaftRole = "follower" | "pre-candidate" | "candidate" | "leader"

/**
 * The node took a role. It writes this for every term, also when the role is the one that it had.
 *
 * @category models
 * @since 0.1.0
 */
export interface RoleChange extends Common {
  readonly _tag: "RoleChange"
  /** The node itself: raft reports no other member's role. */
  readonly member: EtcdId.MemberId
  readonly role: RaftRole
  readonly term: bigint
}

/**
 * The node knows of another leader than before, or of none.
 *
 * @category models
 * @since 0.1.0
 */
export interface LeaderChange extends Common {
  readonly _tag: "LeaderChange"
  /** The node that says so. */
  readonly member: EtcdId.MemberId
  readonly leader: Option.Option<EtcdId.MemberId>
  readonly previous: Option.Option<EtcdId.MemberId>
  readonly term: bigint
}

/**
 * The connection to another member works.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerUp extends Common {
  readonly _tag: "PeerUp"
  readonly peer: EtcdId.MemberId
}

/**
 * The connection to another member is lost.
 *
 * @category models
 * @since 0.1.0
 */
export interface PeerDown extends Common {
  readonly _tag: "PeerDown"
  readonly peer: EtcdId.MemberId
  /** What went wrong, in etcd's words. */
  readonly cause: Option.Option<string>
}

/**
 * What a {@link Failure} is about.
 *
 * - `AddressInUse`: something else listens on `address`.
 * - `AddressUnavailable`: this machine or user cannot listen on `address`.
 * - `DataDirInUse`: another process holds the data directory. etcd says this after ten seconds and goes on waiting.
 * - `DataDirCorrupt`: what is in the data directory cannot be read.
 * - `DataDirInaccessible`: the operating system refuses access to the data directory.
 * - `DiskFull`: no space, quota or file size left.
 * - `ClusterMismatch`: the node and the cluster do not fit together (cluster id, member list, removed member).
 * - `ClusterUnreachable`: no member of the cluster to join answered.
 * - `IncompatibleVersion`: this version of etcd cannot take part in the cluster, or read its data.
 * - `InvalidConfig`: an option is unknown or has a wrong value.
 * - `Other`: etcd gave up for another reason.
 *
 * @category models
 * @since 0.1.0
 */
export type FailureReason =
  | { readonly _tag: "AddressInUse"; readonly address: string }
  | { readonly _tag: "AddressUnavailable"; readonly address: string }
  | { readonly _tag: "DataDirInUse"; readonly path: Option.Option<string> }
  | { readonly _tag: "DataDirCorrupt"; readonly path: Option.Option<string> }
  | { readonly _tag: "DataDirInaccessible"; readonly path: Option.Option<string> }
  | { readonly _tag: "DiskFull"; readonly path: Option.Option<string> }
  | { readonly _tag: "ClusterMismatch" }
  | { readonly _tag: "ClusterUnreachable" }
  | { readonly _tag: "IncompatibleVersion" }
  | { readonly _tag: "InvalidConfig" }
  | { readonly _tag: "Other" }

/**
 * A line that would explain why etcd ended or does not become ready.
 *
 * It does not say that etcd has ended: an etcd that waits for a lock, or whose peer is misconfigured, writes such lines
 * and lives on. One exit usually comes with several of them, see {@link explain}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Failure extends Common {
  readonly _tag: "Failure"
  readonly reason: FailureReason
  /** etcd's own words: the line's error where it has one, otherwise its message. */
  readonly detail: string
}

/**
 * Everything that a line may be.
 *
 * @category models
 * @since 0.1.0
 */
export type Event =
  | Entry
  | Unparsed
  | Version
  | LocalMember
  | Ready
  | RoleChange
  | LeaderChange
  | PeerUp
  | PeerDown
  | Failure

// -----------------------------------------------------------------------------
// building events
// -----------------------------------------------------------------------------

const noFields: Readonly<Record<string, unknown>> = Object.freeze({})

const entry = (
  line: string,
  level: Severity,
  time: Option.Option<DateTime.Utc>,
  caller: Option.Option<string>,
  message: string,
  fields: Readonly<Record<string, unknown>>
): Entry => ({ _tag: "Entry", line, level, time, caller, message, fields })

const unparsed = (line: string, omittedBytes: number): Unparsed => ({
  _tag: "Unparsed",
  line,
  level: line.startsWith("[WARNING]") ? "Warn" : "Info",
  time: Option.none(),
  caller: Option.none(),
  message: line,
  fields: noFields,
  omittedBytes
})

const failure = (common: Common, reason: FailureReason, detail: string): Failure => ({
  ...common,
  _tag: "Failure",
  reason,
  detail
})

const memberId = (text: string): EtcdId.MemberId => EtcdId.MemberId(BigInt(`0x${text}`))

const fieldString = (self: Common, name: string): Option.Option<string> => {
  const value = self.fields[name]
  return typeof value === "string" && value !== "" ? Option.some(value) : Option.none()
}

const fieldId = (self: Common, name: string): Option.Option<bigint> =>
  Option.flatMap(fieldString(self, name), EtcdId.parse)

const fromEpochMillis = (millis: number): Option.Option<DateTime.Utc> =>
  Number.isFinite(millis) ? DateTime.make({ epochMilliseconds: millis }) : Option.none()

// -----------------------------------------------------------------------------
// messages that are the same in every format
// -----------------------------------------------------------------------------

const rolePattern = /^([0-9a-f]{1,16}) became (follower|pre-candidate|candidate|leader) at term (\d{1,20})$/

const leaderPattern =
  /^raft\.node: ([0-9a-f]{1,16}) (?:elected leader ([0-9a-f]{1,16})|lost leader ([0-9a-f]{1,16})|changed leader from ([0-9a-f]{1,16}) to ([0-9a-f]{1,16})) at term (\d{1,20})$/

const roleChange = (self: Entry): Event => {
  const match = rolePattern.exec(self.message)
  return match === null
    ? self
    : {
        ...self,
        _tag: "RoleChange",
        member: memberId(match[1]!),
        role: match[2] as RaftRole,
        term: BigInt(match[3]!)
      }
}

const leaderChange = (self: Entry): Event => {
  const match = leaderPattern.exec(self.message)
  if (match === null) {
    return self
  }
  const [, member, elected, lost, from, to, term] = match
  const id = (text: string | undefined) => Option.map(Option.fromNullishOr(text), memberId)
  return {
    ...self,
    _tag: "LeaderChange",
    member: memberId(member!),
    leader: id(elected ?? to),
    previous: id(lost ?? from),
    term: BigInt(term!)
  }
}

// Most lines are neither, and are told by a comparison or two.
const raftEvent = (self: Entry): Event => {
  const message = self.message
  if (message.startsWith("raft.node: ")) {
    return leaderChange(self)
  }
  return message.length < 70 && message.includes(" became ") ? roleChange(self) : self
}

// -----------------------------------------------------------------------------
// failures
// -----------------------------------------------------------------------------

const listenPattern = /\blisten (?:tcp[46]?|unix) (\S+): (.*)/s
const diskFullPattern = /no space left on device|disk quota exceeded|file too large/
const lockedPattern = /file already locked|flocked by another process|holds the file lock/
const refusedPattern = /permission denied|not a directory|read-only file system|operation not permitted/
const noDataDirPattern = /error listing data dir|failed to list data directory|cannot access data directory/
const dataDirPattern = /data.?dir|database|backend|snap|\bwal\b|\/member\b/i
const mismatchPattern =
  /cluster ID mismatch|permanently removed|must be removed|error validating peerURLs|member count is unequal|unmatched member|mismatch member ID|already been bootstrapped/
const unreachablePattern = /could not retrieve cluster information/
const versionPattern =
  /invalid downgrade|cannot be downgraded|cannot downgrade|incompatible with current running cluster|incompatible version|version "[^"]*" is not supported/
const corruptPattern =
  /\bwal: (?!max-wals)|walpb: |crc mismatch|snap: (?:crc|empty|snapshot)|invalid database|invalid freelist|invalid page|file size too small|checksum error|out of range \[lastIndex|cannot use none as id|cannot be repaired|failed to (?:open|read|repair) WAL|unexpected fault address|max entry size limit exceeded/
const configPattern =
  /couldn't find local name|is required when|flag provided but not defined|^invalid value |should be at least|different advertised .* URLs|has different advertised|conflicting (?:environment|flag)|--initial-cluster has|error verifying flags|expected IP in URL|URL scheme must be/

const pathPattern =
  /(?:open|stat|mkdir|readdirent|unlinkat|rename|database at|directory|dir:|process is using) "?(\/[^\s:",()]+)/

const pathOf = (self: Common, detail: string): Option.Option<string> =>
  Option.firstSomeOf([
    fieldString(self, "path"),
    fieldString(self, "dir"),
    fieldString(self, "data-dir"),
    Option.fromNullishOr(pathPattern.exec(detail)?.[1])
  ])

const listenReason = (address: string, problem: string): FailureReason =>
  problem.includes("address already in use")
    ? { _tag: "AddressInUse", address }
    : { _tag: "AddressUnavailable", address }

const reasonOf = (self: Common, detail: string): FailureReason => {
  const listen = listenPattern.exec(detail)
  if (listen !== null) {
    return listenReason(listen[1]!, listen[2]!)
  }
  if (diskFullPattern.test(detail)) {
    return { _tag: "DiskFull", path: pathOf(self, detail) }
  }
  if (lockedPattern.test(detail)) {
    return { _tag: "DataDirInUse", path: pathOf(self, detail) }
  }
  if (noDataDirPattern.test(self.message)) {
    return { _tag: "DataDirInaccessible", path: pathOf(self, detail) }
  }
  if (refusedPattern.test(detail)) {
    return dataDirPattern.test(self.message) || dataDirPattern.test(detail)
      ? { _tag: "DataDirInaccessible", path: pathOf(self, detail) }
      : { _tag: "Other" }
  }
  if (versionPattern.test(detail) || versionPattern.test(self.message)) {
    return { _tag: "IncompatibleVersion" }
  }
  if (mismatchPattern.test(detail)) {
    return { _tag: "ClusterMismatch" }
  }
  if (unreachablePattern.test(detail)) {
    return { _tag: "ClusterUnreachable" }
  }
  if (configPattern.test(detail)) {
    return { _tag: "InvalidConfig" }
  }
  if (corruptPattern.test(detail) || corruptPattern.test(self.message)) {
    return { _tag: "DataDirCorrupt", path: pathOf(self, detail) }
  }
  return { _tag: "Other" }
}

const isGrave = (level: Severity): boolean => level === "Fatal" || level === "Error" || level === "Warn"

// A fatal line always explains an exit; a lesser one only if it says something that is known to.
const failureEvent = (self: Entry): Event => {
  const detail = Option.getOrElse(fieldString(self, "error"), () => self.message)
  const reason = reasonOf(self, detail)
  return self.level === "Fatal" || reason._tag !== "Other" ? failure(self, reason, detail) : self
}

// -----------------------------------------------------------------------------
// zap: JSON and console
// -----------------------------------------------------------------------------

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

const undecided = "to_be_decided"

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

// etcd goes on after it, but if nothing is left of the log it may not get far.
const repairedWal = (self: Entry): Event =>
  failure(
    self,
    { _tag: "DataDirCorrupt", path: Option.none() },
    Option.getOrElse(fieldString(self, "error"), () => self.message)
  )

const invalidConfig = (self: Entry): Event =>
  failure(
    self,
    { _tag: "InvalidConfig" },
    Option.getOrElse(fieldString(self, "error"), () => self.message)
  )

const zapMessages = new Map<string, (self: Entry) => Event>([
  ["starting an etcd server", versionEvent("etcd-version", "cluster-version")],
  ["starting etcd server", versionEvent("local-server-version", "cluster-version")],
  ["set initial cluster version", versionEvent("", "cluster-version")],
  ["cluster version is updated", versionEvent("", "cluster-version")],
  ["updated cluster version", versionEvent("", "to")],
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

const parseJson = (text: string): unknown =>
  Result.getOrUndefined(Result.try({ try: () => JSON.parse(text) as unknown, catch: () => undefined }))

const zapJson = (line: string): Event => {
  const json = parseJson(line)
  if (!Predicate.isObject(json)) {
    return unparsed(line, 0)
  }
  const { level, ts, caller, msg, ...fields } = json as Record<string, unknown>
  return typeof msg === "string"
    ? zapEvent(entry(line, zapLevel(level), zapTime(ts), Option.liftPredicate(caller, Predicate.isString), msg, fields))
    : unparsed(line, 0)
}

const consoleLevel = /^\d{4}-[^\t]*\t(debug|info|warn|error|dpanic|panic|fatal)\t/

// Time, level, sometimes the logger, the position, the message, and the fields as JSON; tabs between them.
const zapConsole = (line: string): Event => {
  const parts = line.split("\t")
  const position = parts.findIndex((part, index) => index > 1 && index < 4 && /^\S+\.go:\d+$/.test(part))
  if (position === -1 || position + 1 >= parts.length) {
    return unparsed(line, 0)
  }
  const json = parts.length > position + 2 ? parseJson(parts.slice(position + 2).join("\t")) : undefined
  const fields = Predicate.isObject(json) ? (json as Record<string, unknown>) : {}
  const logger = position === 3 ? { logger: parts[2] } : {}
  return zapEvent(
    entry(line, zapLevel(parts[1]), zapTime(parts[0]), Option.some(parts[position]!), parts[position + 1]!, {
      ...logger,
      ...fields
    })
  )
}

// -----------------------------------------------------------------------------
// plain text of 3.4
// -----------------------------------------------------------------------------

const serverPattern = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ([A-Z]) \| ([^: ]+): (.*)$/s
const raftPattern = /^raft(\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d(?:\.\d+)?) ([A-Z]+): (.*)$/s

const textLevels: Readonly<Record<string, Severity>> = {
  C: "Fatal",
  E: "Error",
  W: "Warn",
  N: "Info",
  I: "Info",
  D: "Debug",
  T: "Trace",
  FATAL: "Fatal",
  PANIC: "Fatal",
  ERROR: "Error",
  WARN: "Warn",
  INFO: "Info",
  DEBUG: "Debug"
}

const textEntry = (line: string, time: string, level: string, caller: string, message: string): Entry =>
  entry(
    line,
    textLevels[level] ?? "Info",
    fromEpochMillis(Date.parse(time.replaceAll("/", "-").replace(" ", "T"))),
    Option.some(caller),
    message,
    noFields
  )

const peerPattern = /^peer ([0-9a-f]{1,16}) became (?:active|inactive(?: \((.*)\))?)$/s
const memberPattern = /^(?:starting|restarting|forcing restart of) member ([0-9a-f]{1,16}) in cluster ([0-9a-f]{1,16})/
const versionsPattern = /^etcd Version: (\S+)$|^starting server\.\.\. \[version: (\S+), cluster version: (\S+)\]$/
const clusterVersionPattern = /^(?:set the initial cluster version to|updated the cluster version from \S+ to) (\S+)$/
const servingPattern = /^serving (?:insecure )?client requests on ([^\s,]+)/

const textPeer = (self: Entry): Event => {
  const match = peerPattern.exec(self.message)
  if (match === null) {
    return self
  }
  const peer = memberId(match[1]!)
  return self.message.endsWith(" became active")
    ? { ...self, _tag: "PeerUp", peer }
    : { ...self, _tag: "PeerDown", peer, cause: Option.fromNullishOr(match[2]) }
}

const textMember = (self: Entry): Event => {
  const match = memberPattern.exec(self.message)
  return match === null
    ? self
    : {
        ...self,
        _tag: "LocalMember",
        member: memberId(match[1]!),
        cluster: Option.some(EtcdId.ClusterId(BigInt(`0x${match[2]}`)))
      }
}

const textVersion = (self: Entry): Event => {
  const version = versionsPattern.exec(self.message)
  if (version !== null) {
    return {
      ...self,
      _tag: "Version",
      version: Option.fromNullishOr(version[1] ?? version[2]),
      clusterVersion: Option.filter(Option.fromNullishOr(version[3]), (text) => text !== undecided)
    }
  }
  const cluster = clusterVersionPattern.exec(self.message)
  return cluster === null
    ? self
    : { ...self, _tag: "Version", version: Option.none(), clusterVersion: Option.fromNullishOr(cluster[1]) }
}

const textReady = (self: Entry): Event => {
  if (self.message === "ready to serve client requests") {
    return { ...self, _tag: "Ready", address: Option.none() }
  }
  const match = servingPattern.exec(self.message)
  return match === null ? self : { ...self, _tag: "Ready", address: Option.fromNullishOr(match[1]) }
}

const textFlags = "error verifying flags"

const serverEvent = (self: Entry, pkg: string): Event => {
  if (isGrave(self.level)) {
    return self.message.startsWith(textFlags) ? invalidConfig(self) : failureEvent(self)
  }
  switch (pkg) {
    case "rafthttp":
      return self.message.startsWith("peer ") ? textPeer(self) : self
    case "embed":
      return textReady(self)
    case "etcdmain":
    case "etcdserver/membership":
      return textVersion(self)
    case "etcdserver": {
      const member = textMember(self)
      return member._tag === "Entry" ? textVersion(self) : member
    }
    default:
      return self
  }
}

const serverText = (line: string): Event => {
  const match = serverPattern.exec(line)
  return match === null
    ? unparsed(line, 0)
    : serverEvent(textEntry(line, match[1]!, match[2]!, match[3]!, match[4]!), match[3]!)
}

const raftText = (line: string): Event => {
  const match = raftPattern.exec(line)
  return match === null ? unparsed(line, 0) : raftEvent(textEntry(line, match[1]!, match[2]!, "raft", match[3]!))
}

// What the Go runtime and its flag parser print as etcd ends.
const otherText = (line: string): Event => {
  const self = unparsed(line, 0)
  if (line.startsWith("panic: ") || line.startsWith("fatal error: ") || line.startsWith("unexpected fault address")) {
    const common: Common = { ...self, level: "Fatal" }
    return failure(common, reasonOf(common, line), line)
  }
  if (line.startsWith("flag provided but not defined: ") || line.startsWith("invalid value ")) {
    return failure({ ...self, level: "Error" }, { _tag: "InvalidConfig" }, line)
  }
  return self
}

// etcd prints what it takes from its environment, which is where its secrets are, and who it is for a discovery service.
// A line that was too long, or whose rest never came, may end in the middle of that.
const secretFields = /("(?:variable-value|discovery-user|discovery-password)": ?)"(?:(?:[^"\\]|\\.)+"?|\\$)/g

const withoutSecrets = (line: string): string =>
  line.includes('"variable-value"') || line.includes('"discovery-')
    ? line.replace(secretFields, '$1"<redacted>"')
    : line

/**
 * Reads one line of etcd's output, given without its line break. Of a line that shows what etcd has taken from its
 * environment, or the credentials for a discovery service, the event has everything but those values.
 *
 * @example
 * ```ts
 * import { EtcdLog } from "effect-etcd"
 *
 * const event = EtcdLog.parse("raft2026/11/23 04:03:49 INFO: 76dd2145bcd0fd58 became leader at term 2")
 * if (event._tag === "RoleChange") {
 *   event.role // "leader"
 *   event.term // 2n
 * }
 * ```
 *
 * @category parsing
 * @since 0.1.0
 */
export const parse = (given: string): Event => {
  const line = withoutSecrets(given)
  const first = line.charCodeAt(0)
  if (first === 0x7b) {
    return zapJson(line)
  }
  if (first >= 0x30 && first <= 0x39) {
    return consoleLevel.test(line) ? zapConsole(line) : serverText(line)
  }
  return line.startsWith("raft2") ? raftText(line) : otherText(line)
}

// -----------------------------------------------------------------------------
// bytes to lines
// -----------------------------------------------------------------------------

/**
 * One line of output.
 *
 * @category lines
 * @since 0.1.0
 */
export interface Line {
  /** The text without its line break. What is not UTF-8 is replaced by U+FFFD. */
  readonly text: string
  /** How many bytes were left out at the end, because the line was longer than the limit; otherwise 0. */
  readonly omittedBytes: number
}

/**
 * How lines are cut.
 *
 * @category lines
 * @since 0.1.0
 */
export interface LineOptions {
  /**
   * The longest line that is kept whole, in bytes without the line break. Of a longer one the first 4096 bytes are
   * kept, or this many if that is less. A whole number up to 1 GiB; anything else is the default. Default: 1 MiB.
   */
  readonly maxLineBytes?: number | undefined
}

/**
 * Cuts bytes into lines. It belongs to one output: standard output and standard error need one each.
 *
 * @category lines
 * @since 0.1.0
 */
export interface LineReader {
  /** Takes the next bytes and answers the lines that they complete. The chunk may be reused afterwards. */
  readonly push: (chunk: Uint8Array) => ReadonlyArray<Line>
  /** Answers what was left without a line break. The reader starts afresh after it. */
  readonly end: () => ReadonlyArray<Line>
}

const defaultMaxLineBytes = 1024 * 1024
const isLineLimit = (value: number | undefined): value is number =>
  Number.isSafeInteger(value) && value! >= 0 && value! <= 1024 ** 3
const headBytes = 4096
const initialCapacity = 4096
const keptCapacity = 64 * 1024
const lineFeed = 0x0a
const carriageReturn = 0x0d

/**
 * A {@link LineReader}: for every way in which the output may be cut into chunks the lines are the same. A line ends
 * with LF or CRLF. Memory is bounded by the longest line allowed.
 *
 * @example
 * ```ts
 * import { EtcdLog } from "effect-etcd"
 *
 * const reader = EtcdLog.makeLineReader()
 * const bytes = new TextEncoder().encode("one\r\ntwo\nthr")
 * reader.push(bytes).map((line) => line.text) // ["one", "two"]
 * reader.end().map((line) => line.text) // ["thr"]
 * ```
 *
 * @category lines
 * @since 0.1.0
 */
export const makeLineReader = (options?: LineOptions): LineReader => {
  const given = options?.maxLineBytes
  const maxLineBytes = isLineLimit(given) ? given : defaultMaxLineBytes
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  // One byte more than the limit is held, since a CR before the LF does not count.
  const capacity = maxLineBytes + 1
  let pending = new Uint8Array(0)
  let held = 0
  let seen = 0
  let lastByte = 0

  const reserve = (size: number): void => {
    if (size > pending.length) {
      const grown = new Uint8Array(Math.min(capacity, Math.max(size, pending.length * 2, initialCapacity)))
      grown.set(pending.subarray(0, held))
      pending = grown
    }
  }

  const hold = (bytes: Uint8Array): void => {
    if (bytes.length === 0) {
      return
    }
    const fitting = Math.min(bytes.length, capacity - held)
    reserve(held + fitting)
    pending.set(bytes.subarray(0, fitting), held)
    held += fitting
    seen += bytes.length
    lastByte = bytes[bytes.length - 1]!
  }

  const whole = (bytes: Uint8Array, length: number): Line => ({
    text: decoder.decode(bytes.subarray(0, length)),
    omittedBytes: 0
  })

  // A code point that the cut would split is left out as a whole.
  const cut = (bytes: Uint8Array, length: number): Line => {
    let end = Math.min(headBytes, maxLineBytes)
    while (end > 0 && (bytes[end]! & 0xc0) === 0x80) {
      end--
    }
    return { text: decoder.decode(bytes.subarray(0, end)), omittedBytes: length - end }
  }

  const line = (bytes: Uint8Array, length: number): Line =>
    length > maxLineBytes ? cut(bytes, length) : whole(bytes, length)

  const release = (): void => {
    held = 0
    seen = 0
    if (pending.length > keptCapacity) {
      pending = new Uint8Array(0)
    }
  }

  const takeHeld = (terminated: boolean): Line => {
    const taken = line(pending, terminated && lastByte === carriageReturn ? seen - 1 : seen)
    release()
    return taken
  }

  const takeFrom = (chunk: Uint8Array, start: number, end: number): Line => {
    if (seen > 0) {
      hold(chunk.subarray(start, end))
      return takeHeld(true)
    }
    const length = end > start && chunk[end - 1] === carriageReturn ? end - start - 1 : end - start
    return line(chunk.subarray(start, end), length)
  }

  return {
    push: (chunk) => {
      const lines: Array<Line> = []
      let start = 0
      let end = chunk.indexOf(lineFeed)
      while (end !== -1) {
        lines.push(takeFrom(chunk, start, end))
        start = end + 1
        end = chunk.indexOf(lineFeed, start)
      }
      hold(chunk.subarray(start))
      return lines
    },
    end: () => (seen === 0 ? [] : [takeHeld(false)])
  }
}

/**
 * Reads a line from a {@link LineReader}. One that was too long is {@link Unparsed}.
 *
 * @category parsing
 * @since 0.1.0
 */
export const fromLine = (line: Line): Event =>
  line.omittedBytes === 0 ? parse(line.text) : unparsed(withoutSecrets(line.text), line.omittedBytes)

/**
 * Turns the bytes that etcd prints into events. What comes after the last line break becomes an event when the stream
 * ends; if the stream fails, it is lost.
 *
 * @example
 * ```ts
 * import { Stream } from "effect"
 * import { EtcdLog } from "effect-etcd"
 *
 * const roles = (output: Stream.Stream<Uint8Array>) =>
 *   EtcdLog.decode(output).pipe(Stream.filter((event) => event._tag === "RoleChange"))
 * ```
 *
 * @category parsing
 * @since 0.1.0
 */
export const decode = <E, R>(self: Stream.Stream<Uint8Array, E, R>): Stream.Stream<Event, E, R> => decodeWith(self, {})

/**
 * As {@link decode}, with a limit of one's own for the length of a line.
 *
 * @example
 * ```ts
 * import { Stream } from "effect"
 * import { EtcdLog } from "effect-etcd"
 *
 * const events = (output: Stream.Stream<Uint8Array>) => EtcdLog.decodeWith(output, { maxLineBytes: 64 * 1024 })
 * ```
 *
 * @category parsing
 * @since 0.1.0
 */
export const decodeWith: {
  (options: LineOptions): <E, R>(self: Stream.Stream<Uint8Array, E, R>) => Stream.Stream<Event, E, R>
  <E, R>(self: Stream.Stream<Uint8Array, E, R>, options: LineOptions): Stream.Stream<Event, E, R>
} = dual(
  2,
  <E, R>(self: Stream.Stream<Uint8Array, E, R>, options: LineOptions): Stream.Stream<Event, E, R> =>
    Stream.mapAccumArray(
      self,
      () => makeLineReader(options),
      (reader, chunks) => [reader, chunks.flatMap(reader.push).map(fromLine)],
      { onHalt: (reader) => reader.end().map(fromLine) }
    )
)

const hasKnownReason = (event: Event): event is Failure => event._tag === "Failure" && event.reason._tag !== "Other"

/**
 * Of the events given, oldest first, the one that tells best why etcd ended: the last failure with a known reason, or
 * else the last fatal line.
 *
 * @category failures
 * @since 0.1.0
 */
export const explain = (events: ReadonlyArray<Event>): Option.Option<Failure> => {
  const known = events.findLast(hasKnownReason)
  const last = known ?? events.findLast((event) => event._tag === "Failure")
  return Option.fromNullishOr(last)
}
