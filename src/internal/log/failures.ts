/**
 * What a failure means.
 *
 * @internal
 */
import * as Option from "effect/Option"
import type { Common, Entry, Event, Failure, FailureReason } from "../../EtcdLog.ts"
import { failure, fieldString } from "./events.ts"

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

export const reasonOf = (self: Common, detail: string): FailureReason => {
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

// A fatal line always explains an exit; a lesser one only if it says something that is known to.
export const failureEvent = (self: Entry): Event => {
  const detail = Option.getOrElse(fieldString(self, "error"), () => self.message)
  const reason = reasonOf(self, detail)
  return self.level === "Fatal" || reason._tag !== "Other" ? failure(self, reason, detail) : self
}

// etcd goes on after it, but if nothing is left of the log it may not get far.
export const repairedWal = (self: Entry): Event =>
  failure(
    self,
    { _tag: "DataDirCorrupt", path: Option.none() },
    Option.getOrElse(fieldString(self, "error"), () => self.message)
  )

export const invalidConfig = (self: Entry): Event =>
  failure(
    self,
    { _tag: "InvalidConfig" },
    Option.getOrElse(fieldString(self, "error"), () => self.message)
  )

const hasKnownReason = (event: Event): event is Failure => event._tag === "Failure" && event.reason._tag !== "Other"

export const explain = (events: ReadonlyArray<Event>): Option.Option<Failure> => {
  const known = events.findLast(hasKnownReason)
  const last = known ?? events.findLast((event) => event._tag === "Failure")
  return Option.fromNullishOr(last)
}
