/**
 * What a failure means.
 *
 * @internal
 */
import * as Option from "effect/Option"
import type { Common, Entry, Event, Failure, FailureReason } from "../../EtcdLog.ts"
import { failure, fieldString, isGrave } from "./events.ts"

const listenPattern = /\blisten (?:tcp[46]?|unix) (\S+): (.*)/s
const diskFullPattern = /no space left on device|disk quota exceeded|file too large/
// Go's runtime, and mmap as bbolt passes it on.
const outOfMemoryPattern =
  /\bout of memory\b|cannot allocate memory|mmap too large|failed to reserve page summary memory/
// The operating system, etcd itself, and Go's runtime, which opens one for all its sockets.
const openFilesPattern = /too many open files|file descriptor limit of etcd process is too low|netpollinit failed/
const lockedPattern = /file already locked|flocked by another process|holds the file lock/
const refusedPattern = /permission denied|not a directory|read-only file system|operation not permitted/
const noDataDirPattern = /error listing data dir|failed to list data directory|cannot access (?:data|member) directory/
const dataDirPattern = /data.?dir|database|backend|snap|\bwal\b|\/member\b/i
const mismatchPattern =
  /cluster ID mismatch|permanently removed|must be removed|error validating peerURLs|member count is unequal|unmatched member|mismatch member ID|already been bootstrapped/
const unreachablePattern = /could not retrieve cluster information/
const versionPattern =
  /invalid downgrade|cannot be downgraded|cannot downgrade|incompatible with current running cluster|incompatible version|version "[^"]*" is not supported/
const configPattern =
  /couldn't find local name|is required when|flag provided but not defined|^invalid value |should be at least|different advertised .* URLs|has different advertised|conflicting (?:environment|flag)|--initial-cluster has|error verifying flags|expected IP in URL|URL scheme must be/

// What etcd and its libraries say of damaged files, by where they say it (etcd 3.4 to 3.7, bbolt 1.3.3 to 1.5.0).
const damagePattern = new RegExp(
  [
    // bbolt: errors.go, db.go (meta pages, sizes), internal/common/meta.go
    "invalid database",
    "checksum error",
    "(?:^|: |\\()version mismatch\\)?$",
    "invalid meta pages",
    "file size too small",
    "pg[iI]d \\(\\d+\\) above high water mark",
    // bbolt: every assertion but those about its callers (page.go, node.go, cursor.go, bucket.go, inode.go, freelist)
    "assertion failed: (?!tx closed|managed tx|database file)",
    // bbolt: db.go (free pages are looked for in the whole file), tx_check.go, tx.go
    "failed to get all reachable pages",
    "page \\d+: (?:already freed|multiple references|out of bounds|reachable freed|unreachable unfreed|invalid type)",
    "page \\d+ already freed",
    "unexpected page type \\(flags",
    "panic: check fail: ",
    // bbolt: cursor.go, bucket.go, node.go
    "invalid page type",
    "misplaced bucket header",
    "unexpected bucket header flag",
    "inline bucket non-zero page access",
    "invalid childAt\\(",
    "inode overflow: ",
    "put: zero-length (?:old|new) key",
    // bbolt: freelist.go, freelist_hmap.go, internal/freelist, page.go
    "invalid freelist",
    "invalid page allocation",
    "cannot free page 0 or 1",
    "leading element count \\d+ overflows",
    "pgids not sorted",
    "mergepgids bad len",
    "[dD]etected (?:duplicated|overlapped) free (?:page )?ID",
    "[dD]etected mismatch, f\\.freemaps",
    "freed page \\(\\d+\\) was allocated by the same transaction",
    // wal/wal.go, wal/decoder.go, wal/repair.go, walpb/record.go, and those who open it (raft.go, storage.go, bootstrap.go)
    "\\bwal: (?!max-wals)",
    "walpb: ",
    "crc mismatch",
    "max entry size limit exceeded",
    "unexpected block type",
    "failed to (?:open|read|repair) WAL",
    "(?:open|read) wal error",
    "cannot be repaired",
    "snapshot is missing (?:index|term)",
    "is missing ConfState",
    // snap/snapshotter.go, snap/db.go, etcdserver/backend.go, storage/backend.go, bootstrap.go, server.go
    "snap: (?:crc|empty|snapshot)",
    "failed to find database snapshot file",
    "does not match with snapshot",
    "\\) of the backend is missing",
    "is older than snapshot index",
    "failed to re(?:cover|store) (?:from snapshot|store|v3 backend|v2 store|mvcc store|alarm)",
    "(?:recovering backend from snapshot|recovered store from snapshot|recovery store|restore KV|restore alarms) error",
    // pkg/pbutil, mvcc/kvstore*.go, membership, auth, lease, schema: what the database holds cannot be read
    "(?:failed to|cannot|could not) [uU]nmarshal",
    "unmarshal.* should never fail",
    "lease proto item",
    "lease ID must be 8-byte",
    "couldn't read members from backend",
    "failed to get (?:removed )?members from store",
    "get store(?:Removed)?Members should never fail",
    "failed to nodeToMember",
    "nodeToMember should never fail",
    "failed to parse member id from key",
    "unexpected parse member id error",
    "when getting cluster version from (?:backend|store)",
    "unexpected version format of the downgrade target",
    // mvcc/kvstore_txn.go, mvcc/key_index.go, mvcc/index.go, mvcc/revision.go, backend/batch_tx.go
    "range (?:failed to find revision pair|cannot find rev )",
    "'(?:put|restore|get|tombstone|since|compact)' (?:with|got) an unexpected",
    "store\\.(?:key)?index: ",
    "invalid revision length",
    "invalid separator in bucket key",
    "negative revision: ",
    "failed to find a bucket",
    "bucket \\S+ does not exist",
    // raft/log.go, raft/log_unstable.go, raft/raft.go, raft/storage.go, etcdserver/server.go: the log lacks what was there
    "cannot use none as id",
    "out of range \\[lastIndex",
    "out of range \\[prevApplied",
    "state\\.commit \\d+ is out of range",
    "conflict with committed entry",
    "missing log entry \\[last",
    "out of bound (?:lastindex|\\[)",
    "is unavailable from storage",
    "requested entry at index is unavailable",
    "unable to restore config",
    "unexpected error when getting (?:unapplied entries|the last term)",
    "unexpected committed entry index",
    "unexpected leader snapshot from outdated index",
    "first index of committed entry",
    "snapshot index \\[\\d+\\] should >",
    // etcdserver/corrupt.go, where `initialCorruptCheck` is on
    "found data inconsistency with peers",
    // the Go runtime: a mapped file that ends too early or cannot be read
    "unexpected fault address"
  ].join("|")
)
// The operating system, of a disk that fails, or of what is no file.
const unreadablePattern = /input\/output error|structure needs cleaning|: is a directory/

const pathPattern =
  /(?:open|stat|mkdir|readdirent|unlinkat|rename|database at|directory|dir:|process is using) "?(\/[^\s:",()]+)/

const pathOf = (self: Common, detail: string): Option.Option<string> =>
  Option.firstSomeOf([
    fieldString(self, "path"),
    fieldString(self, "dir"),
    fieldString(self, "data-dir"),
    Option.fromNullishOr(pathPattern.exec(detail)?.[1])
  ])

const isAboutData = (self: Common, detail: string): boolean =>
  dataDirPattern.test(self.message) || dataDirPattern.test(detail)

const listenReason = (address: string, problem: string): FailureReason =>
  problem.includes("address already in use")
    ? { _tag: "AddressInUse", address }
    : { _tag: "AddressUnavailable", address }

// A warning tells of damage that etcd gets over: a snapshot file that is set aside, a message of another member.
const isDamage = (self: Common, detail: string): boolean =>
  self.level !== "Warn" &&
  (damagePattern.test(detail) ||
    damagePattern.test(self.message) ||
    (unreadablePattern.test(detail) && isAboutData(self, detail)))

export const reasonOf = (self: Common, detail: string): FailureReason => {
  if (outOfMemoryPattern.test(detail)) {
    return { _tag: "OutOfMemory" }
  }
  if (openFilesPattern.test(detail)) {
    return { _tag: "TooManyOpenFiles" }
  }
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
    return isAboutData(self, detail) ? { _tag: "DataDirInaccessible", path: pathOf(self, detail) } : { _tag: "Other" }
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
  if (isDamage(self, detail)) {
    return { _tag: "DataDirCorrupt", path: pathOf(self, detail) }
  }
  return { _tag: "Other" }
}

const detailOf = (self: Common): string => Option.getOrElse(fieldString(self, "error"), () => self.message)

// A fatal line always explains an exit; a lesser one only if it says something that is known to.
export const failureEvent = (self: Entry): Event => {
  const detail = detailOf(self)
  const reason = reasonOf(self, detail)
  return self.level === "Fatal" || reason._tag !== "Other" ? failure(self, reason, detail) : self
}

// etcd goes on after it, but if nothing is left of the log it may not get far.
export const repairedWal = (self: Entry): Event =>
  failure(self, { _tag: "DataDirCorrupt", path: Option.none() }, detailOf(self))

export const invalidConfig = (self: Entry): Event => failure(self, { _tag: "InvalidConfig" }, detailOf(self))

const goPattern =
  /^(?:panic|fatal error): |^runtime\/cgo: |^runtime: (?:out of memory|cannot allocate|failed to create new OS thread)/

/** What the Go runtime prints as etcd ends, if the line is that. */
export const goFailure = (self: Common): Failure | undefined => {
  const isGo = goPattern.test(self.line) || self.line.startsWith("unexpected fault address")
  const fatal: Common = { ...self, level: "Fatal" }
  return isGo ? failure(fatal, reasonOf(fatal, self.line), self.line) : undefined
}

// -----------------------------------------------------------------------------
// from several lines to one reason
// -----------------------------------------------------------------------------

const failuresKept = 100

/** What the lines up to now say of why etcd may end. */
export interface Account {
  readonly failures: Array<Failure>
  /** Whether the last failure is one of Go's that says nothing by itself, and the stack is yet to say where it was. */
  isUnlocated: boolean
  /** The last line with an error that is no failure. Some versions end with nothing but that. */
  complaint: Entry | undefined
  /** How far the database says that it is. */
  applied: bigint
  /** Whether the log of a member that is alone ends before that. */
  isBehind: boolean
  /** What etcd is, and what its cluster is, whose version the data has. */
  version: string
  clusterVersion: string
}

export const makeAccount = (): Account => ({
  failures: [],
  isUnlocated: false,
  complaint: undefined,
  applied: 0n,
  isBehind: false,
  version: "",
  clusterVersion: ""
})

// What happened where the stack says, as opposed to what befell the whole process (a thread that it did not get).
const locatedPattern = /^panic: |^fatal error: (?:fault|stack overflow)$/

// The first function of the stack that is neither Go's own nor its library's: `go.etcd.io/bbolt.(*DB).page(...)`.
const framePattern = /^[a-z][\w-]*(?:\.[\w-]+)+\/\S+\(/

// Who reads the data directory: bbolt, the write-ahead log, snapshots, the store, and the first part of a start.
const readerPattern =
  /^go\.etcd\.io\/(?:[^\s(]*\/)?(?:bbolt|wal|snap|backend|schema|mvcc)[./]|^go\.etcd\.io\/[^\s(]*etcdserver\.bootstrap/

const push = (self: Account, event: Failure): void => {
  self.failures.push(event)
  if (self.failures.length > failuresKept) self.failures.shift()
}

const newRaftPattern = /^newRaft [0-9a-f]+ \[peers: \[([0-9a-f]*)\], .*\blastindex: (\d+)/

// The write-ahead log is older than the database, or gone. Such a member leads, and applies nothing: 3.6 and newer do not
// become ready, and say no word of it. (In a cluster, the others have what is missing.)
const compareLog = (self: Account, event: Entry): void => {
  const index = event.message === "restore consistentIndex" ? event.fields.index : undefined
  if (typeof index === "number" || typeof index === "bigint") self.applied = BigInt(index)
  const lastIndex = event.message.startsWith("newRaft ") ? newRaftPattern.exec(event.message)?.[2] : undefined
  if (lastIndex === undefined || BigInt(lastIndex) >= self.applied) return
  self.isBehind = true
  const detail = `the database is at index ${self.applied}, but the write-ahead log ends at ${lastIndex}`
  push(self, failure(event, { _tag: "DataDirCorrupt", path: Option.none() }, detail))
}

/** Takes the next event. Memory is bounded. */
export const hear = (self: Account, event: Event): void => {
  if (event._tag === "Failure") {
    push(self, event)
    self.isUnlocated = event.reason._tag === "Other" && locatedPattern.test(event.line)
  } else if (event._tag === "Entry") {
    if (isGrave(event.level) && event.fields.error !== undefined) self.complaint = event
    compareLog(self, event)
  } else if (event._tag === "Version") {
    self.version = Option.getOrElse(event.version, () => self.version)
    self.clusterVersion = Option.getOrElse(event.clusterVersion, () => self.clusterVersion)
  } else if (self.isUnlocated && event._tag === "Unparsed" && framePattern.test(event.line)) {
    self.isUnlocated = false
    if (readerPattern.test(event.line)) {
      const last = self.failures.pop()!
      self.failures.push({ ...last, reason: { _tag: "DataDirCorrupt", path: Option.none() } })
    }
  }
}

const isFatal = (event: Failure): boolean => event.level === "Fatal"
const isKnown = (event: Failure): boolean => event.reason._tag !== "Other"

// etcd takes the data of the version before. Of older data it says nothing, but fails on the first thing that it does not
// know (3.7: "unmarshal should never fail"; 3.6 on data of 3.4: "removed all voters"), though nothing is damaged.
const isTooNew = ({ clusterVersion, version }: Account): boolean => {
  const [major, minor] = version.split(".").map(Number)
  const [dataMajor, dataMinor] = clusterVersion.split(".").map(Number)
  return major === dataMajor && minor! > dataMinor! + 1
}

// Members of 3.5 announce themselves with requests of the API before v3. They are in the log until there is a snapshot, of
// which there is one in 10,000 entries, also where 3.6 has been since. 3.7 cannot read them.
const hasOldRequests = ({ version }: Account, { detail }: Failure): boolean => {
  const [major, minor] = version.split(".").map(Number)
  return major === 3 && minor! >= 7 && /\bunmarshal should never fail\b/.test(detail)
}

const ofVersion = (self: Account, found: Failure): Failure => {
  const isUnexplained = found.reason._tag === "Other" || found.reason._tag === "DataDirCorrupt"
  if (!isUnexplained || !isFatal(found)) return found
  const why = isTooNew(self)
    ? `the data is of etcd ${self.clusterVersion}, and no version may be left out on the way to ${self.version}`
    : hasOldRequests(self, found)
      ? `the log has requests of etcd 3.5, which ${self.version} cannot read; nothing is damaged: let all members run etcd ` +
        "3.6 with `snapshotCount: 1` once, until each has started, and then this one"
      : undefined
  if (why === undefined) return found
  return { ...found, reason: { _tag: "IncompatibleVersion" }, detail: `${why}: ${found.detail}` }
}

// What comes after the first fatal line is mostly its consequence; of lesser lines the newest is nearest to the end.
export const verdict = (self: Account): Option.Option<Failure> => {
  const { failures } = self
  const found =
    failures.find((event) => isFatal(event) && isKnown(event)) ??
    failures.findLast(isKnown) ??
    failures.find(isFatal) ??
    failures.at(-1)
  return Option.map(Option.fromUndefinedOr(found), (failure) => ofVersion(self, failure))
}

export const explain = (events: ReadonlyArray<Event>): Option.Option<Failure> => {
  const account = makeAccount()
  for (const event of events) hear(account, event)
  return verdict(account)
}
