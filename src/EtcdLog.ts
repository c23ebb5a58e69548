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
 * @packageDocumentation
 * @since 0.1.0
 */
import type * as DateTime from "effect/DateTime"
import { dual } from "effect/Function"
import type { Severity } from "effect/LogLevel"
import type * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type * as EtcdId from "./EtcdId.ts"
import * as Failures from "./internal/log/failures.ts"
import * as Lines from "./internal/log/lines.ts"
import * as Parse from "./internal/log/parse.ts"

/**
 * What every event has.
 *
 * @category models
 * @since 0.1.0
 */
export interface Common {
  /**
   * The line as etcd printed it, without its line break. What a reader left out of it is missing here too, and secrets
   * are replaced by `<redacted>`.
   */
  readonly line: string
  /** etcd's level under the name that Effect's logger has for it; `panic` and `dpanic` are `Fatal`. */
  readonly level: Severity
  /** When etcd wrote the line, to the millisecond. Plain text has no time zone: it is read as this process' own. */
  readonly time: Option.Option<DateTime.Utc>
  /** Where in etcd the line comes from: a source position (`embed/etcd.go:323`), in plain text only the package. */
  readonly caller: Option.Option<string>
  /** The message; in an {@link Unparsed} line all of it. */
  readonly message: string
  /**
   * All other keys of the line as etcd wrote them, `logger` and `stacktrace` among them. Whole numbers beyond those that
   * a number can hold are `bigint`s. Empty for plain text.
   */
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
  /** The node itself. */
  readonly member: EtcdId.MemberId
  /** Its cluster, where the line tells it. */
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
 * The roles that raft knows: a `follower` takes what the leader sends, a `pre-candidate` asks whether it would be elected
 * (without beginning a term), a `candidate` stands for election in a new term, and the `leader` was elected in its term.
 *
 * @category models
 * @since 0.1.0
 */
export type RaftRole = "follower" | "pre-candidate" | "candidate" | "leader"

/**
 * The node took one of raft's roles. It writes this for every term, also when the role is the one that it had.
 *
 * @category models
 * @since 0.1.0
 */
export interface RoleChange extends Common {
  readonly _tag: "RoleChange"
  /** The node itself: raft reports no other member's role. */
  readonly member: EtcdId.MemberId
  /** The role that it has now. */
  readonly role: RaftRole
  /** Raft's term, a number that grows with each election: the one that it has the role in. */
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
  /** Who leads now; none while nobody is known to. */
  readonly leader: Option.Option<EtcdId.MemberId>
  /** Who led before; none where nobody was known to. */
  readonly previous: Option.Option<EtcdId.MemberId>
  /** Raft's term, a number that grows with each election: the one that the node is in. */
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
  /** The other member. */
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
  /** The other member. */
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
 * - `DataDirCorrupt`: what is in the data directory cannot be read, or does not fit together.
 * - `DataDirInaccessible`: the operating system refuses access to the data directory.
 * - `DiskFull`: no space, quota or file size left.
 * - `OutOfMemory`: the operating system gave no more memory.
 * - `TooManyOpenFiles`: the limit of open files was reached.
 * - `ClusterMismatch`: the node and the cluster do not fit together (cluster id, member list, removed member).
 * - `ClusterUnreachable`: no member of the cluster to join answered.
 * - `IncompatibleVersion`: this version of etcd cannot take part in the cluster, or read its data.
 * - `InvalidConfig`: an option is unknown or has a wrong value.
 * - `Other`: etcd gave up for another reason.
 *
 * `path` is the directory or file that it is about, where the line names one.
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
  | { readonly _tag: "OutOfMemory" }
  | { readonly _tag: "TooManyOpenFiles" }
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
  /** What it is about. */
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

/**
 * Reads one line of etcd's output, given without its line break. What is secret by its place in the line is not in the
 * event: what etcd has found in its environment, the credentials for a discovery service and the path of its URL, which
 * names the cluster, passwords in URLs, a user there that stands alone (it may be a token), and the token of a user who
 * logs in.
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
export const parse: (line: string) => Event = Parse.parse

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
export const makeLineReader: (options?: LineOptions) => LineReader = Lines.makeLineReader

/**
 * Reads a line from a {@link LineReader}, as {@link parse} does. One that was too long is {@link Unparsed}.
 *
 * @example
 * ```ts
 * import { EtcdLog } from "effect-etcd"
 *
 * const reader = EtcdLog.makeLineReader()
 * const events = (chunk: Uint8Array) => reader.push(chunk).map(EtcdLog.fromLine)
 * ```
 *
 * @category parsing
 * @since 0.1.0
 */
export const fromLine: (line: Line) => Event = Parse.fromLine

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

/**
 * Of the events given, oldest first, the one that tells best why etcd ended: the first fatal line with a known reason,
 * since what follows is mostly its consequence; or else the last lesser line with one; or else the first fatal line.
 *
 * Where Go ended etcd with words that say nothing of a reason (`panic: runtime error: index out of range`), the stack
 * trace after them does: it is `DataDirCorrupt` if what failed was reading the data directory. An etcd that fails on the
 * data of a version that is not the one before its own is `IncompatibleVersion`. So pass all events, and not the failures
 * alone. `None` where no line would explain an end.
 *
 * @example
 * ```ts
 * import { Option } from "effect"
 * import { EtcdLog } from "effect-etcd"
 *
 * const why = (lines: ReadonlyArray<string>) =>
 *   EtcdLog.explain(lines.map(EtcdLog.parse)).pipe(
 *     Option.match({ onNone: () => "nothing is said", onSome: ({ detail, reason }) => `${reason._tag}: ${detail}` })
 *   )
 * ```
 *
 * @category failures
 * @since 0.1.0
 */
export const explain: (events: ReadonlyArray<Event>) => Option.Option<Failure> = Failures.explain
