/**
 * What a client makes of a fault: how long it takes from there until a put is acknowledged that was begun afterwards. All
 * clients at the same time, beside each other, on the same cluster of three with etcd's own timing; each puts one value
 * after the other ("closed"), and one every 50 ms whatever became of those before ("open").
 *
 * The faults are those of `effect-etcd/testing`, so each client has endpoints of its own, and all that it says, and all that
 * members say to each other, passes through proxies in this process. That is the same for all of them, and the load is light.
 * But `etcd3` and this library run in this process, beside the proxies and each other, and Go's client in one of its own: on
 * a machine that is busy they are later than it by what this process has to wait for.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer, Option, References, type Scope } from "effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { EtcdClient, type EtcdId, EtcdKv, EtcdMaintenance } from "effect-etcd"
import { EtcdFaults } from "effect-etcd/testing"
import { Etcd3 } from "etcd3"
import { type GoFailover, goFailover } from "./goClient.ts"
import type { Line, Timeline } from "./results.ts"
import { benchError, median, percentile, type Row, rounded, table } from "./support.ts"

const size = 3
const electionMillis = 1000
const config = { heartbeatInterval: "100 millis", electionTimeout: electionMillis } as const

const loops = ["closed", "open"] as const

type Loop = (typeof loops)[number]

const openEveryMillis = 50
/** Between the puts of a closed loop, so that all clients together leave the machine idle. */
const restMillis = 10
const longestWaitMillis = 10_000

/** A client that runs in this process. */
interface Putter {
  readonly name: string
  readonly put: (key: string) => Effect.Effect<unknown, unknown>
}

const ours = (name: string, endpoints: ReadonlyArray<string>, options: Omit<EtcdClient.Options, "endpoints">) =>
  Effect.map(EtcdClient.make({ ...options, endpoints }), (client): Putter => {
    const kv = EtcdKv.fromClient(client)
    return { name, put: (key) => kv.put(key, "v") }
  })

const etcd3 = (endpoints: ReadonlyArray<string>) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Etcd3({ hosts: [...endpoints] })),
      (client) => Effect.sync(() => client.close())
    ),
    (client): Putter => ({
      name: etcd3Name,
      put: (key) => Effect.tryPromise(async () => client.put(key).value("v"))
    })
  )

/** Whom it is about, and whose measure are the others. */
const ourName = "effect-etcd"
const etcd3Name = "etcd3"
const goName = "go clientv3"

const ourOptions: Readonly<Record<string, Omit<EtcdClient.Options, "endpoints">>> = {
  [ourName]: {},
  "effect-etcd, deadline 2 s": { deadline: "2 seconds" },
  "effect-etcd batched": { batching: true },
  "effect-etcd batched, deadline 2 s": { batching: true, deadline: "2 seconds" },
  "effect-etcd, sticky": { selection: "sticky" },
  "effect-etcd, spread": { selection: "spread" }
}

/** What is measured, and what befalls it. */
interface Stage {
  readonly faults: EtcdFaults.Faults
  /** Who can be cut off: the clients. */
  readonly parties: ReadonlyArray<EtcdFaults.Client>
  readonly putters: ReadonlyArray<Putter>
  readonly go: Option.Option<GoFailover>
}

const makeStage = Effect.gen(function* () {
  const faults = yield* EtcdFaults.make({ size, config, log: false })
  const parties: Array<EtcdFaults.Client> = []
  const endpointsOf = (name: string) =>
    Effect.map(faults.client(name, { listen: "tcp" }), (party) => {
      parties.push(party)
      return party.endpoints
    })
  const putters: Array<Putter> = []
  for (const [name, options] of Object.entries(ourOptions)) {
    putters.push(yield* ours(name, yield* endpointsOf(name), options))
  }
  putters.push(yield* etcd3(yield* endpointsOf(etcd3Name)))
  const stage: Stage = { faults, parties, putters, go: yield* goFailover(yield* endpointsOf(goName)) }
  return stage
})

/** A put that was acknowledged, or failed: when it was begun, and when it ended, on the clock of `performance.now`. */
interface Ended {
  readonly begunAt: number
  readonly endedAt: number
  readonly acknowledged: boolean
}

/**
 * When a put was acknowledged that was begun after the fault, the first of so many in a row that were; nothing where there
 * was none in time.
 */
interface Mark {
  readonly row: number
  faultAt: number
  /** How many puts were begun. */
  puts: number
  /** All puts that have ended. */
  readonly ended: Array<Ended>
  /** When those were acknowledged that were begun after the fault, by their numbers. */
  readonly times: Map<number, number>
  acknowledgedAt: number | undefined
}

const newMark = (row: number): Mark => ({
  row,
  faultAt: Number.POSITIVE_INFINITY,
  puts: 0,
  ended: [],
  times: new Map(),
  acknowledgedAt: undefined
})

const note = (mark: Mark, number: number): void => {
  const { row, times } = mark
  times.set(number, performance.now())
  let first = number
  while (times.has(first - 1)) first--
  let last = number
  while (times.has(last + 1)) last++
  if (last - first + 1 >= row) mark.acknowledgedAt ??= times.get(first)
}

const putOnce = ({ put }: Putter, key: string, mark: Mark) =>
  Effect.suspend(() => {
    const begunAt = performance.now()
    const number = ++mark.puts
    const end = (acknowledged: boolean) => mark.ended.push({ begunAt, endedAt: performance.now(), acknowledged })
    return Effect.match(put(key), {
      onFailure: () => void end(false),
      onSuccess: () => {
        end(true)
        if (begunAt >= mark.faultAt) note(mark, number)
      }
    })
  })

const run = (putter: Putter, loop: Loop, mark: Mark) => {
  const once = putOnce(putter, `bench/failover/${putter.name}/${loop}`, mark)
  return loop === "closed"
    ? Effect.forever(Effect.andThen(once, Effect.sleep(restMillis)))
    : Effect.forever(Effect.andThen(Effect.forkChild(once), Effect.sleep(openEveryMillis)))
}

/** From two seconds before the fault on. */
const lineOf = ({ ended }: Mark, faultAt: number): Line => {
  const puts = ended
    .map((one) => ({ ...one, begunAt: one.begunAt - faultAt, endedAt: one.endedAt - faultAt }))
    .filter(({ begunAt }) => begunAt >= -2000)
  const those = (wanted: boolean) =>
    puts
      .filter(({ acknowledged }) => acknowledged === wanted)
      .map(({ begunAt, endedAt }) => [Math.round(begunAt), Math.round(endedAt)] as const)
  return { acknowledged: those(true), failed: those(false) }
}

const keyOf = (name: string, loop: Loop) => `${name}|${loop}`

/** What others wait for beside, since the fault. */
type Beside<A, E, R> = (faultAt: number) => Effect.Effect<A, E, R>

/** Lets clients put, and a fault happen, and waits for what comes of it. Then it is over. */
const measure = <A, E, R>(
  putters: ReadonlyArray<Putter>,
  row: number,
  fault: Effect.Effect<void, EtcdFaults.FaultRefused, Scope.Scope>,
  beside: Beside<A, E, R>
) =>
  Effect.gen(function* () {
    const marks = putters.flatMap((putter) => loops.map((loop) => ({ putter, loop, mark: newMark(row) })))
    for (const { loop, mark, putter } of marks) yield* Effect.forkScoped(run(putter, loop, mark))
    yield* Effect.sleep("1 second")
    yield* fault
    const faultAt = performance.now()
    for (const { mark } of marks) mark.faultAt = faultAt
    const isOver = () =>
      performance.now() - faultAt >= longestWaitMillis || marks.every(({ mark }) => mark.acknowledgedAt !== undefined)
    const waited = Effect.repeat(Effect.sleep("10 millis"), { while: () => !isOver() })
    const [, others] = yield* Effect.all([waited, beside(faultAt)], { concurrency: 2 })
    // For the picture: what was begun while nobody led has an end then, too.
    yield* Effect.sleep("2 seconds")
    const waits = marks.map(({ loop, mark, putter }) => {
      const wait = (mark.acknowledgedAt ?? faultAt + longestWaitMillis) - faultAt
      return [keyOf(putter.name, loop), wait] as const
    })
    const timelines = marks.map(({ loop, mark, putter }) => [keyOf(putter.name, loop), lineOf(mark, faultAt)] as const)
    return [new Map(waits), others, new Map(timelines)] as const
  }).pipe(Effect.scoped)

/** How long it takes until another member leads, as the others say. */
const untilLed = (others: ReadonlyArray<string>, former: EtcdId.MemberId) => (faultAt: number) =>
  Effect.gen(function* () {
    const maintenance = EtcdMaintenance.fromClient(yield* EtcdClient.make({ endpoints: others }))
    const asked = Effect.forEach(others, (endpoint) =>
      Effect.match(maintenance.status({ endpoint, deadline: "1 second" }), {
        onFailure: () => false,
        onSuccess: ({ leader }) => Option.exists(leader, (id) => id !== former)
      })
    )
    yield* Effect.repeat(Effect.delay(asked, "10 millis"), { while: (led) => !led.includes(true) })
    return performance.now() - faultAt
  }).pipe(Effect.scoped)

/** Milliseconds, by client and loop. */
type Waits = ReadonlyMap<string, number>

type Lines = ReadonlyMap<string, Line>

interface Outcome {
  readonly waits: Waits
  readonly lines: Lines
  /** How long it took until there was another leader, where there had to be one. */
  readonly election: number | undefined
}

/** How long clients wait, with Go's beside those of this process. */
const waitsFor = <A, E, R>(
  { go: maybeGo, putters }: Stage,
  row: number,
  fault: Effect.Effect<void, EtcdFaults.FaultRefused, Scope.Scope>,
  beside: Beside<A, E, R>
) =>
  Effect.gen(function* () {
    if (Option.isNone(maybeGo)) return yield* measure(putters, row, fault, beside)
    const go = maybeGo.value
    yield* go.start
    const both = (faultAt: number) => {
      const since = Math.ceil(Date.now() - performance.now() + faultAt)
      return Effect.all([go.await(since, row, longestWaitMillis), beside(faultAt)], { concurrency: 2 })
    }
    const [waits, [ofGo, other], lines] = yield* measure(putters, row, fault, both)
    const ofGoLines = yield* go.stop
    for (const loop of loops) {
      waits.set(keyOf(goName, loop), ofGo[loop])
      lines.set(keyOf(goName, loop), ofGoLines[loop])
    }
    return [waits, other, lines] as const
  })

interface Fault {
  readonly name: string
  /** For the reader: what happens, and until when is measured. */
  readonly title: string
  readonly round: (stage: Stage) => ReturnType<typeof roundOfLeader>
}

/** Something befalls the leader, and another one is elected. */
const roundOfLeader = (stage: Stage, befall: EtcdFaults.Faults["kill"]) =>
  Effect.gen(function* () {
    const { awaitHealthy, cluster } = stage.faults
    yield* awaitHealthy
    const leader = yield* cluster.awaitLeader
    const others = SubscriptionRef.getUnsafe(cluster.members)
      .filter((member) => member !== leader)
      .flatMap((member) => member.endpoints)
    const [waits, election, lines] = yield* waitsFor(stage, 1, befall(leader), untilLed(others, leader.id))
    const outcome: Outcome = { waits, lines, election }
    return outcome
  })

const longestOf = (all: ReadonlyArray<Waits>): Waits =>
  new Map([...all[0]!.keys()].map((key) => [key, Math.max(...all.map((waits) => waits.get(key)!))]))

/** So many puts go by every member, by chance too; one every 50 ms, they are those of a second. */
const rowOfCut = 20

/** All clients are cut off from a member, from one after the other. */
const roundOfClients = (stage: Stage) =>
  Effect.gen(function* () {
    const { awaitHealthy, cluster, partition } = stage.faults
    const all = yield* Effect.forEach(SubscriptionRef.getUnsafe(cluster.members), (member) =>
      Effect.andThen(
        awaitHealthy,
        waitsFor(stage, rowOfCut, partition([stage.parties, [member]]), () => Effect.void)
      )
    )
    const outcome: Outcome = { waits: longestOf(all.map(([waits]) => waits)), lines: new Map(), election: undefined }
    return outcome
  })

const untilAPut = "milliseconds until a put is acknowledged that was begun afterwards"

const kinds: ReadonlyArray<Fault> = [
  {
    name: "kill",
    title: `SIGKILL of the leader: ${untilAPut}`,
    round: (stage) => roundOfLeader(stage, stage.faults.kill)
  },
  {
    name: "pause",
    title: `SIGSTOP of the leader: ${untilAPut}`,
    round: (stage) => roundOfLeader(stage, stage.faults.pause)
  },
  {
    name: "isolate",
    title: `a leader that hears of no other member, and of clients (connections hang): ${untilAPut}`,
    round: (stage) => roundOfLeader(stage, (leader) => stage.faults.isolate(leader))
  },
  {
    name: "cut",
    title:
      `a client that hears of one member no more (connections hang): ${untilAPut}, and the ${rowOfCut - 1} after it are ` +
      "too, since some clients keep to one member, and others send a put to each; the member is each one in turn, and the " +
      "longest of the waits counts, which is that for a member that the client talks to",
    round: roundOfClients
  }
]

// -----------------------------------------------------------------------------
// what is shown
// -----------------------------------------------------------------------------

const waitsOf = (outcomes: ReadonlyArray<Outcome>, name: string, loop: Loop): ReadonlyArray<number> =>
  outcomes.map(({ waits }) => waits.get(keyOf(name, loop)) ?? Number.NaN)

const rowsOf = (fault: Fault, names: ReadonlyArray<string>, outcomes: ReadonlyArray<Outcome>): ReadonlyArray<Row> =>
  names.flatMap((name) =>
    loops.map((loop): Row => {
      const waits = waitsOf(outcomes, name, loop)
      return {
        scenario: `failover ${fault.name} ${loop}`,
        client: name,
        inFlight: 1,
        valueBytes: 1,
        opsPerSecond: rounded(1000 / median(waits), 2),
        spread: `${(1000 / Math.max(...waits)).toFixed(2)}-${(1000 / Math.min(...waits)).toFixed(2)}`,
        p50Micros: Math.round(median(waits) * 1000),
        p99Micros: Math.round(percentile(waits, 0.99) * 1000),
        cpuMicrosPerOp: 0
      }
    })
  )

/** The lines of the round whose wait of this library is the median, each of a client and a loop. */
const timelinesOf = (fault: Fault, outcomes: ReadonlyArray<Outcome>): ReadonlyArray<Timeline> => {
  const wait = ({ waits }: Outcome) => waits.get(keyOf(ourName, "closed")) ?? Number.NaN
  const middle = outcomes.find((outcome) => wait(outcome) === median(outcomes.map(wait)))
  return [ourName, goName, etcd3Name].flatMap((client) =>
    loops.flatMap((loop) => {
      const line = middle?.lines.get(keyOf(client, loop))
      const election = middle?.election
      return line === undefined || election === undefined
        ? []
        : [{ fault: fault.name, client, loop, electionMillis: Math.round(election), ...line }]
    })
  )
}

/** Nobody knows how long a wait would have been that was given up. */
const isGivenUp = (millis: number): boolean => millis >= longestWaitMillis

const shown = (millis: number): string => (isGivenUp(millis) ? `none in ${longestWaitMillis}` : `${Math.round(millis)}`)

/** What the others take is the measure. */
const share = (ours: number, theirs: number): string => {
  if (isGivenUp(ours)) return isGivenUp(theirs) ? "none, as they" : `more than ${(ours / theirs).toFixed(2)}`
  return `${isGivenUp(theirs) ? "less than " : ""}${(ours / theirs).toFixed(2)}`
}

const sharesOf = (outcomes: ReadonlyArray<Outcome>, of: (loop: Loop) => number): string =>
  loops.map((loop) => `${share(median(waitsOf(outcomes, ourName, loop)), of(loop))} (${loop})`).join(" and ")

/** Whether this library is where it is to be: not slower than the others, and as fast as etcd is to elect. */
const goals = (fault: Fault, names: ReadonlyArray<string>, outcomes: ReadonlyArray<Outcome>): ReadonlyArray<string> => {
  const beside = [etcd3Name, goName]
    .filter((name) => names.includes(name))
    .map((name) => `${sharesOf(outcomes, (loop) => median(waitsOf(outcomes, name, loop)))} of what ${name} takes`)
  const bound = 1.5 * electionMillis
  const ofBound = `${sharesOf(outcomes, () => bound)} of 1.5 election timeouts (${bound} ms)`
  return fault.name === "kill" ? [...beside, ofBound] : beside
}

const electionsOf = (outcomes: ReadonlyArray<Outcome>): string => {
  const elections = outcomes.flatMap(({ election }) => (election === undefined ? [] : [election]))
  return elections.length === 0
    ? ""
    : ` (another leader was there after ${Math.round(median(elections))}, from ` +
        `${Math.round(Math.min(...elections))} to ${Math.round(Math.max(...elections))})`
}

const print = (fault: Fault, names: ReadonlyArray<string>, outcomes: ReadonlyArray<Outcome>) => {
  console.log(`failover, ${outcomes.length} times ${fault.title}${electionsOf(outcomes)}`)
  const cells = (name: string, loop: Loop) => {
    const waits = waitsOf(outcomes, name, loop)
    return {
      [`${loop}, median`]: shown(median(waits)),
      [`${loop}, range`]: `${shown(Math.min(...waits))} - ${shown(Math.max(...waits))}`
    }
  }
  table(names.map((name) => ({ client: name, ...cells(name, "closed"), ...cells(name, "open") })))
  console.log(`${ourName}, by medians: ${goals(fault, names, outcomes).join("; ")}\n`)
}

export const failover = (quick: boolean) =>
  Effect.gen(function* () {
    const stage = yield* makeStage
    const names = [...stage.putters.map(({ name }) => name), ...(Option.isSome(stage.go) ? [goName] : [])]
    const rows: Array<Row> = []
    const timelines: Array<Timeline> = []
    for (const fault of kinds) {
      const outcomes: Array<Outcome> = []
      for (let index = 0; index < (quick ? 3 : 20); index++) outcomes.push(yield* fault.round(stage))
      print(fault, names, outcomes)
      rows.push(...rowsOf(fault, names, outcomes))
      timelines.push(...timelinesOf(fault, outcomes))
    }
    return { rows, timelines }
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) => benchError("failover", cause)),
    // What is said of faults, and of connections that are lost, would hide the results.
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
