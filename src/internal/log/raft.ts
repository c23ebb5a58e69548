/**
 * Raft's own lines, which are the same in every format.
 *
 * @internal
 */
import * as Option from "effect/Option"
import type { Entry, Event, RaftRole } from "../../EtcdLog.ts"
import { memberId } from "./events.ts"

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
export const raftEvent = (self: Entry): Event => {
  const message = self.message
  if (message.startsWith("raft.node: ")) {
    return leaderChange(self)
  }
  return message.length < 70 && message.includes(" became ") ? roleChange(self) : self
}
