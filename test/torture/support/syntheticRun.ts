/**
 * Runs that no cluster has made: they look like what a cluster under faults does, and are the same for the same seed.
 */
import { makeRandom, type Random } from "../../support/random.ts"
import type { Call, Entry, Operation, Result, Value, Violation } from "../history.ts"
import type { Band, RoleAt, Run, Verdict } from "../run.ts"

export interface Options {
  readonly operations: number
  readonly clients: number
  readonly seconds: number
  /** Whether reads are stale now and then, which judges have found. */
  readonly isFaulty: boolean
  readonly seed?: number
}

/** As clocks that count since a machine has started. */
const begun = 5_000_000.25

const members = ["m1", "m2", "m3", "m4", "m5"]

interface Outage {
  readonly from: number
  readonly to: number
  readonly kind: string
  readonly victim: number
}

const kinds = ["kill", "partition", "pause", "slow disk", "slow network"]

interface Reign {
  readonly leader: number
  readonly from: number
  readonly term: number
}

interface Faults {
  readonly outages: ReadonlyArray<Outage>
  readonly reigns: ReadonlyArray<Reign>
}

/** Every other one befalls who leads, and who is not just slow then is followed by somebody else soon. */
const faultsOf = (random: Random, millis: number): Faults => {
  const every = millis / 12
  const outages: Array<Outage> = []
  const reigns: Array<Reign> = [{ leader: 0, from: begun + 200, term: 2 }]
  for (let index = 0; index < 11; index++) {
    const kind = kinds[index % kinds.length]!
    const last = reigns.at(-1)!
    const victim = index % 2 === 0 ? last.leader : random(members.length)
    const from = begun + every * (index + 0.4) + random(Math.max(1, Math.floor(every / 3)))
    const to = index === 10 ? begun + millis : from + every * 0.15 + random(Math.max(1, Math.floor(every / 2)))
    outages.push({ from, to, kind, victim })
    if (victim !== last.leader || kind.startsWith("slow")) continue
    const leader = (victim + 1 + random(members.length - 1)) % members.length
    reigns.push({ leader, from: from + 900 + random(1400), term: last.term + 1 + random(2) })
  }
  return { outages, reigns }
}

const rolesOf = (reigns: ReadonlyArray<Reign>, outages: ReadonlyArray<Outage>): ReadonlyArray<RoleAt> => {
  const roles: Array<RoleAt> = members.map((member) => ({ member, at: begun, role: "follower", term: 1 }))
  for (const { from, leader, term } of reigns) {
    roles.push({ member: members[leader]!, at: from - 150, role: "pre-candidate", term: term - 1 })
    roles.push({ member: members[leader]!, at: from - 60, role: "candidate", term })
    for (const [index, member] of members.entries()) {
      roles.push({ member, at: from, role: index === leader ? "leader" : "follower", term })
    }
  }
  for (const { from, kind, to, victim } of outages) {
    if (kind !== "kill") continue
    const term = reigns.findLast((reign) => reign.from <= to)?.term ?? 1
    roles.push({ member: members[victim]!, at: from, role: "stopped", term })
    roles.push({ member: members[victim]!, at: to, role: "follower", term })
  }
  const isStopped = (member: string, at: number) =>
    outages.some(
      (outage) => outage.kind === "kill" && members[outage.victim] === member && outage.from < at && at < outage.to
    )
  return roles.filter(({ at, member }) => !isStopped(member, at)).toSorted((one, other) => one.at - other.at)
}

const get = (key: string, serializable: boolean): Call => ({
  name: "get",
  serializable,
  compare: [],
  success: [{ do: "get", key }],
  failure: []
})

const callOf = (random: Random, id: number, store: ReadonlyMap<string, Value>): Call => {
  const key = `/torture/${random(6)}/${random(4)}`
  const put = { do: "put", key, value: `v${id}` } as const
  const plain = { serializable: false, compare: [], failure: [] }
  switch (random(8)) {
    case 0:
    case 1:
      return get(key, random(3) === 0)
    case 2:
      return { ...plain, name: "delete", success: [{ do: "delete", key }] }
    case 3:
    case 4:
      return {
        ...plain,
        name: "cas",
        compare: [{ key, value: random(3) === 0 ? "v0" : (store.get(key) ?? null) }],
        success: [put],
        failure: [{ do: "get", key }]
      }
    default:
      return { ...plain, name: "put", success: [put] }
  }
}

interface Store {
  readonly held: Map<string, Value>
  readonly entries: Array<Entry>
}

const apply = (store: Store, call: Call): { readonly succeeded: boolean; readonly found: ReadonlyArray<Value> } => {
  const succeeded = call.compare.every(({ key, value }) => (store.held.get(key) ?? null) === value)
  const steps = succeeded ? call.success : call.failure
  const found = steps.map((step) => (step.do === "get" ? (store.held.get(step.key) ?? null) : null))
  const changes = steps.flatMap((step) => {
    if (step.do === "get") return []
    return [{ key: step.key, value: step.do === "put" ? step.value : null }]
  })
  for (const { key, value } of changes) store.held.set(key, value)
  if (changes.length > 0) store.entries.push({ revision: store.entries.length + 2, changes })
  return { succeeded, found }
}

/** Fewer are quick than are a little slower, and a few are slow. */
const latency = (random: Random): number => {
  const base = 0.8 + random(3000) / 1000
  return random(100) === 0 ? base * (5 + random(20)) : base
}

const isLeaderless = (at: number, outages: ReadonlyArray<Outage>, reigns: ReadonlyArray<Reign>): boolean => {
  const reign = reigns.findLastIndex(({ from }) => from <= at)
  if (reign === -1) return true
  const { leader } = reigns[reign]!
  return outages.some(
    ({ from, kind, to, victim }) => victim === leader && from <= at && at <= to && !kind.startsWith("slow")
  )
}

const violationsOf = (operations: ReadonlyArray<Operation>, seconds: number): ReadonlyArray<Violation> => {
  const isPut = ({ call, result }: Operation) => call.name === "put" && result.outcome === "answered"
  const at = operations.findIndex((operation) => isPut(operation) && operation.begun > begun + seconds * 550)
  const written = operations[at]
  const key = written?.call.success[0]?.key
  const read = operations
    .slice(at + 1)
    .find(({ call, result }) => call.name === "get" && call.success[0]?.key === key && result.outcome === "answered")
  if (written === undefined || read === undefined) return []
  return [
    {
      kind: "stale read",
      message: `#${read.id} of ${read.client} has read ${key} without what #${written.id} of ${written.client} had put before it began, which was acknowledged with its revision.`,
      operations: [written.id, read.id]
    }
  ]
}

const judges: ReadonlyArray<readonly [judge: string, examined: string]> = [
  ["linearizable", "groups of keys"],
  ["revisions", "revisions"],
  ["serializable reads", "reads of what a member has"],
  ["watch", "events of all watches"]
]

export const syntheticRun = ({ clients, isFaulty, operations: wanted, seconds, seed = 7 }: Options): Run => {
  const random = makeRandom(seed)
  const millis = seconds * 1000
  const { outages, reigns } = faultsOf(random, millis)
  const store: Store = { held: new Map(), entries: [] }
  const free = Array.from({ length: clients }, (_, index) => begun + 30 + index)
  const pause = (millis * clients) / wanted
  const operations: Array<Operation> = []
  for (let id = 1; id <= wanted; id++) {
    const client = free.indexOf(Math.min(...free))
    const at = free[client]!
    const call = callOf(random, id, store.held)
    const isBad = isLeaderless(at, outages, reigns) && !call.serializable
    let took = latency(random)
    let result: Result
    if (isBad && random(10) < 8) {
      took = 60 + random(400)
      result =
        random(3) === 0
          ? { outcome: "not-applied", error: "unavailable: etcdserver: no leader" }
          : { outcome: "unknown", error: "deadline exceeded: etcdserver: request timed out" }
      if (result.outcome === "unknown" && random(2) === 0) apply(store, call)
    } else {
      const { found, succeeded } = apply(store, call)
      const memberId = members[random(members.length)]!
      result = { outcome: "answered", revision: store.entries.length + 1, memberId, succeeded, found }
    }
    const isKilled = result.outcome === "unknown" && random(20) === 0
    operations.push({ id, client: `client-${client + 1}`, begun: at, ended: isKilled ? null : at + took, call, result })
    free[client] = at + took + Math.max(0.05, (pause - 3) * (0.5 + random(1000) / 1000))
  }
  const ended = begun + millis
  const kept = operations.filter((operation) => operation.begun < ended)
  const violations = isFaulty ? violationsOf(kept, seconds) : []
  const bands: ReadonlyArray<Band> = outages.map(({ from, kind, to, victim }, index) => ({
    kind,
    what: kind === "partition" ? `${members[victim]} | the others` : members[victim]!,
    from,
    to: index === outages.length - 1 ? null : to
  }))
  const verdicts: ReadonlyArray<Verdict> = judges.map(([judge, examined], index) => ({
    judge,
    examined: `${(kept.length / (index + 1)).toFixed(0)} ${examined}`,
    millis: 12.5 * (index + 1) ** 4,
    violations: index === 0 ? violations : []
  }))
  return {
    etcd: "3.6.4",
    seed,
    size: members.length,
    seconds,
    command: `npm run torture -- --seed ${seed} --size ${members.length} --seconds ${seconds}`,
    begun,
    ended,
    members,
    operations: kept,
    entries: store.entries,
    bands,
    roles: rolesOf(reigns, outages),
    verdicts,
    expected: [],
    longestUnavailability: longestOf(kept)
  }
}

const longestOf = (operations: ReadonlyArray<Operation>): Run["longestUnavailability"] => {
  const acknowledged = operations
    .flatMap(({ call, ended, result }) =>
      ended !== null && result.outcome === "answered" && call.name !== "get" ? [ended] : []
    )
    .toSorted((one, other) => one - other)
  return acknowledged.reduce(
    (longest, at, index) => {
      const from = acknowledged[index - 1] ?? begun
      return at - from > longest.millis ? { millis: at - from, from } : longest
    },
    { millis: 0, from: begun }
  )
}
