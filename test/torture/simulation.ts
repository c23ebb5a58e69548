/**
 * What clients of a correct store could have seen: operations and revisions from a seed, without any etcd.
 *
 * Its clients begin, and see the end of, what they call at different times than the store does it, so many overlap.
 * Some never learn what became of it: it may be done later, or never. Some are killed meanwhile, some call in vain, and
 * members that lag answer serializable reads. Keys hang on leases that expire. Much happens in the same instant.
 */
import { makeRandom, type Random } from "../support/random.ts"
import type { Answered, Call, Comparison, Entry, Instant, Operation, Result, Step, Value } from "./history.ts"

export interface Simulation {
  readonly initial: { readonly revision: number; readonly state: ReadonlyMap<string, string> }
  readonly operations: ReadonlyArray<Operation>
  readonly entries: ReadonlyArray<Entry>
  /** Whether a key hangs on a lease. */
  readonly mayVanish: (key: string) => boolean
}

export interface Settings {
  readonly seed: number
  readonly operations: number
  /** Default: 8. */
  readonly clients?: number | undefined
  /** Groups of keys. The last hangs on a lease. Default: 3. */
  readonly groups?: number | undefined
  /** Keys of each group. Default: 3. */
  readonly keys?: number | undefined
}

/** How many revisions a member may lag behind. */
const lag = 10

interface State {
  readonly revision: number
  readonly values: ReadonlyMap<string, string>
}

interface Client {
  name: string
  /** What it waits for, and whether the store has done it. */
  waiting:
    | { readonly id: number; readonly begun: Instant; readonly call: Call; answer: Answered | undefined }
    | undefined
}

const leased = "leased/"

export const simulate = (settings: Settings): Simulation => {
  const { clients: clientCount = 8, groups = 3, keys = 3 } = settings
  const random = makeRandom(settings.seed)
  const callOf = callsOf(random, groups, keys)
  const initial = { revision: 1 + random(3), state: new Map([["0/0", "initial"]]) }
  /** The states that a member may have: the last is the newest. */
  let states: ReadonlyArray<State> = [{ revision: initial.revision, values: initial.state }]
  const operations: Array<Operation> = []
  const entries: Array<Entry> = []
  /** What may be done although nobody waits for it any more. */
  const adrift: Array<Call> = []
  let now = 0
  let begunCount = 0
  let killed = 0

  const change = (changes: Entry["changes"]): void => {
    if (changes.length === 0) return
    const { revision, values } = states.at(-1)!
    const next = new Map(values)
    for (const { key, value } of changes) {
      if (value === null) next.delete(key)
      else next.set(key, value)
    }
    states = [...states.slice(-lag), { revision: revision + 1, values: next }]
    entries.push({ revision: revision + 1, changes })
  }

  const apply = (call: Call): Answered => {
    // etcd takes a transaction without any step for a serializable one.
    const isSerializable = call.serializable || (call.success.length === 0 && call.failure.length === 0)
    const before = isSerializable ? states[random(states.length)]! : states.at(-1)!
    const succeeded = call.compare.every(({ key, value }) => (before.values.get(key) ?? null) === value)
    const steps = succeeded ? call.success : call.failure
    const found = steps.map((step): Value => (step.do === "get" ? (before.values.get(step.key) ?? null) : null))
    const changes = steps.flatMap((step): Entry["changes"] => {
      if (step.do === "put") return [{ key: step.key, value: step.value }]
      return step.do === "delete" && before.values.has(step.key) ? [{ key: step.key, value: null }] : []
    })
    change(changes)
    const revision = changes.length === 0 ? before.revision : states.at(-1)!.revision
    return { outcome: "answered", revision, memberId: `${random(3)}`, succeeded, found }
  }

  const expire = (): void =>
    change(
      [...states.at(-1)!.values.keys()].filter((key) => key.startsWith(leased)).map((key) => ({ key, value: null }))
    )

  const end = (client: Client, result: Result, ended: Instant | null): void => {
    const { begun, call, id } = client.waiting!
    operations.push({ id, client: client.name, begun, ended, call, result })
    client.waiting = undefined
  }

  const loseTrack = (client: Client): void => {
    const { answer, call } = client.waiting!
    if (answer === undefined) adrift.push(call)
    const isKilled = random(3) === 0
    end(client, { outcome: "unknown", error: "unavailable" }, isKilled ? null : now)
    if (isKilled) client.name = `${client.name.split("+")[0]}+${++killed}`
  }

  const step = (client: Client): void => {
    const { waiting } = client
    if (waiting === undefined) {
      if (begunCount === settings.operations) return
      client.waiting = { id: begunCount++, begun: now, call: callOf(states.at(-1)!), answer: undefined }
      return
    }
    const fate = random(20)
    if (fate === 0) loseTrack(client)
    else if (waiting.answer !== undefined) end(client, waiting.answer, now)
    else if (fate === 1) end(client, { outcome: "not-applied", error: "refused" }, now)
    else waiting.answer = apply(waiting.call)
  }

  const clients = Array.from({ length: clientCount }, (_, index): Client => ({ name: `c${index}`, waiting: undefined }))
  while (operations.length < settings.operations) {
    now += random(3)
    step(clients[random(clientCount)]!)
    if (random(40) === 0) expire()
    if (adrift.length > 0 && random(10) === 0) {
      const [call] = adrift.splice(random(adrift.length), 1)
      if (random(2) === 0) apply(call!)
    }
  }
  return { initial, operations, entries, mayVanish: (key) => key.startsWith(leased) }
}

/** What clients ask for. No two values are the same. */
const callsOf = (random: Random, groups: number, keys: number) => {
  let written = 0
  const put = (key: string): Step => ({ do: "put", key, value: `v${written++}` })
  const get = (key: string): Step => ({ do: "get", key })
  const remove = (key: string): Step => ({ do: "delete", key })
  const someOf = (all: ReadonlyArray<string>) => all.filter(() => random(2) === 0)

  return ({ values }: State): Call => {
    const group = random(groups)
    const all = Array.from({ length: keys }, (_, key) => `${group === groups - 1 ? leased : `${group}/`}${key}`)
    const key = all[random(keys)]!
    const plain = { serializable: false, compare: [], failure: [] }
    const branch = (): ReadonlyArray<Step> => [
      ...someOf(all).map(get),
      ...someOf(all).map((one) => (random(2) === 0 ? put(one) : remove(one)))
    ]
    const comparison = (one: string): Comparison => ({
      key: one,
      value: random(4) === 0 ? null : (values.get(one) ?? null)
    })
    switch (random(10)) {
      case 0:
      case 1:
        return { ...plain, name: "put", success: [put(key)] }
      case 2:
        return { ...plain, name: "delete", success: [remove(key)] }
      case 3:
        return { ...plain, name: "cas", compare: [comparison(key)], success: [put(key)], failure: [get(key)] }
      case 4:
        return { ...plain, name: "cad", compare: someOf(all).map(comparison), success: [remove(key)] }
      case 5:
        return {
          name: "txn",
          serializable: false,
          compare: someOf(all).map(comparison),
          success: branch(),
          failure: branch()
        }
      case 6:
        return {
          ...plain,
          name: "reads",
          serializable: true,
          compare: someOf(all).map(comparison),
          success: all.map(get)
        }
      case 7:
        return { ...plain, name: "compare", serializable: random(2) === 0, compare: all.map(comparison), success: [] }
      default:
        return { ...plain, name: "get", serializable: random(4) === 0, success: [get(key)] }
    }
  }
}
