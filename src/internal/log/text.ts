/**
 * Plain text: the lines of the server and of raft in 3.4, and what Go itself prints.
 *
 * @internal
 */
import type { Severity } from "effect/LogLevel"
import * as Option from "effect/Option"
import * as EtcdId from "../../EtcdId.ts"
import type { Entry, Event } from "../../EtcdLog.ts"
import { entry, failure, fromEpochMillis, isGrave, memberId, noFields, undecided, unparsed } from "./events.ts"
import { failureEvent, goFailure, invalidConfig, repairedWal } from "./failures.ts"
import { raftEvent } from "./raft.ts"

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
      if (self.message.startsWith("repaired WAL ")) {
        return repairedWal(self)
      }
      const member = textMember(self)
      return member._tag === "Entry" ? textVersion(self) : member
    }
    default:
      return self
  }
}

export const serverText = (line: string): Event => {
  const match = serverPattern.exec(line)
  return match === null
    ? unparsed(line, 0)
    : serverEvent(textEntry(line, match[1]!, match[2]!, match[3]!, match[4]!), match[3]!)
}

export const raftText = (line: string): Event => {
  const match = raftPattern.exec(line)
  if (match === null) {
    return unparsed(line, 0)
  }
  const self = textEntry(line, match[1]!, match[2]!, "raft", match[3]!)
  return isGrave(self.level) ? failureEvent(self) : raftEvent(self)
}

// What the Go runtime and its flag parser print as etcd ends.
export const otherText = (line: string): Event => {
  const self = unparsed(line, 0)
  if (line.startsWith("flag provided but not defined: ") || line.startsWith("invalid value ")) {
    return failure({ ...self, level: "Error" }, { _tag: "InvalidConfig" }, line)
  }
  return goFailure(self) ?? self
}
