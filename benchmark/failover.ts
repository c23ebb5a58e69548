/**
 * What a client makes of a leader that goes: how long it takes from there until a put is acknowledged that was begun
 * afterwards. All clients at the same time, beside each other, on the same cluster of three with etcd's own timing; each
 * puts one value after the other ("closed"), and one every 50 ms whatever became of those before ("open").
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Equal, Layer, Option, Schedule } from "effect"
import { EtcdClient, EtcdCluster, type EtcdId, EtcdKv, EtcdMaintenance } from "effect-etcd"
import { Etcd3 } from "etcd3"
import { type GoFailover, goFailover } from "./goClient.ts"
import { benchError, freePort, median, percentile, type Row, rounded, table } from "./support.ts"

const size = 3
const faults = { kill: "SIGKILL", pause: "SIGSTOP" } as const
const loops = ["closed", "open"] as const

type Fault = keyof typeof faults
type Loop = (typeof loops)[number]

const openEveryMillis = 50
/** Between the puts of a closed loop, so that all clients together leave the machine idle. */
const restMillis = 10
const longestWaitMillis = 15_000

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
      name: "etcd3",
      put: (key) => Effect.tryPromise(async () => client.put(key).value("v"))
    })
  )

const makePutters = (endpoints: ReadonlyArray<string>) =>
  Effect.all([
    ours("effect-etcd", endpoints, {}),
    ours("effect-etcd, deadline 2 s", endpoints, { deadline: "2 seconds" }),
    ours("effect-etcd batched", endpoints, { batching: true }),
    ours("effect-etcd batched, deadline 2 s", endpoints, { batching: true, deadline: "2 seconds" }),
    ours("effect-etcd, sticky", endpoints, { selection: "sticky" }),
    ours("effect-etcd, leader", endpoints, { selection: "leader" }),
    ours("effect-etcd, spread", endpoints, { selection: "spread" }),
    etcd3(endpoints)
  ])

/** When the first put was acknowledged that was begun after the fault; nothing where there was none in time. */
interface Mark {
  faultAt: number
  acknowledgedAt: number | undefined
}

const newMark = (): Mark => ({ faultAt: Number.POSITIVE_INFINITY, acknowledgedAt: undefined })

const putOnce = ({ put }: Putter, key: string, mark: Mark) =>
  Effect.suspend(() => {
    const begunAt = performance.now()
    return Effect.match(put(key), {
      onFailure: () => {},
      onSuccess: () => {
        if (begunAt >= mark.faultAt) mark.acknowledgedAt ??= performance.now()
      }
    })
  })

const run = (putter: Putter, loop: Loop, mark: Mark) => {
  const once = putOnce(putter, `bench/failover/${putter.name}/${loop}`, mark)
  return loop === "closed"
    ? Effect.forever(Effect.andThen(once, Effect.sleep(restMillis)))
    : Effect.forever(Effect.andThen(Effect.forkChild(once), Effect.sleep(openEveryMillis)))
}

const keyOf = (name: string, loop: Loop) => `${name}|${loop}`

/** Puts, lets the fault happen, and waits for what comes of it; others wait beside. */
const measure = <A, E>(putters: ReadonlyArray<Putter>, fault: Effect.Effect<void>, beside: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const marks = putters.flatMap((putter) => loops.map((loop) => ({ putter, loop, mark: newMark() })))
    for (const { loop, mark, putter } of marks) yield* Effect.forkScoped(run(putter, loop, mark))
    yield* Effect.sleep("1 second")
    yield* fault
    const faultAt = performance.now()
    for (const { mark } of marks) mark.faultAt = faultAt
    const isOver = () =>
      performance.now() - faultAt >= longestWaitMillis || marks.every(({ mark }) => mark.acknowledgedAt !== undefined)
    const [, others] = yield* Effect.all(
      [Effect.repeat(Effect.sleep("10 millis"), { while: () => !isOver() }), beside],
      {
        concurrency: 2
      }
    )
    const waits = marks.map(({ loop, mark, putter }) => {
      const wait = (mark.acknowledgedAt ?? faultAt + longestWaitMillis) - faultAt
      return [keyOf(putter.name, loop), wait] as const
    })
    return [new Map(waits), others] as const
  }).pipe(Effect.scoped)

/** How long it takes until another member leads, as the others say. */
const untilLed = (others: ReadonlyArray<string>, former: EtcdId.MemberId) =>
  Effect.gen(function* () {
    const maintenance = EtcdMaintenance.fromClient(yield* EtcdClient.make({ endpoints: others }))
    const begunAt = performance.now()
    const asked = Effect.forEach(others, (endpoint) =>
      Effect.match(maintenance.status({ endpoint, deadline: "1 second" }), {
        onFailure: () => false,
        onSuccess: ({ leader }) => Option.exists(leader, (id) => id !== former)
      })
    )
    yield* Effect.repeat(Effect.delay(asked, "10 millis"), { while: (led) => !led.includes(true) })
    return performance.now() - begunAt
  }).pipe(Effect.scoped)

/** Waits until all members know the same leader. */
const healthy = (cluster: EtcdCluster.Cluster) =>
  Effect.gen(function* () {
    const maintenance = EtcdMaintenance.fromClient(yield* EtcdClient.make({ endpoints: cluster.endpoints }))
    const leaderKnownAt = (endpoint: string) =>
      Effect.map(maintenance.status({ endpoint, deadline: "2 seconds" }), ({ leader }) => leader)
    yield* Effect.forEach(cluster.endpoints, leaderKnownAt).pipe(
      Effect.filterOrFail(([first, ...rest]) => Option.isSome(first!) && rest.every((one) => Equal.equals(one, first))),
      Effect.retry(Schedule.spaced("50 millis"))
    )
  }).pipe(Effect.scoped)

/** Three members with etcd's own timing, each on ports of this machine. */
export const makeCluster = Effect.gen(function* () {
  const members = yield* Effect.forEach(Array.from({ length: size }), (_, index) =>
    Effect.map(Effect.all([freePort, freePort]), ([client, peer]) => ({ name: `n${index}`, client, peer }))
  )
  const initialCluster = Object.fromEntries(members.map(({ name, peer }) => [name, `http://127.0.0.1:${peer}`]))
  const configs = members.map(({ client, name, peer }) => ({
    name,
    initialCluster,
    listenClientUrls: `http://127.0.0.1:${client}`,
    listenPeerUrls: `http://127.0.0.1:${peer}`,
    initialAdvertisePeerUrls: `http://127.0.0.1:${peer}`,
    unsafeNoFsync: true
  }))
  return yield* EtcdCluster.fromConfigs([configs[0]!, ...configs.slice(1)], { log: false })
})

interface Outcome {
  /** Milliseconds, by client and loop. */
  readonly waits: ReadonlyMap<string, number>
  readonly election: number
}

const round = (
  cluster: EtcdCluster.Cluster,
  putters: ReadonlyArray<Putter>,
  go: Option.Option<GoFailover>,
  fault: Fault
) =>
  Effect.gen(function* () {
    yield* healthy(cluster)
    const leader = yield* cluster.awaitLeader
    const others = cluster.members.filter((member) => member !== leader).flatMap((member) => member.endpoints)
    if (Option.isSome(go)) yield* go.value.start
    const beside = Effect.all(
      [untilLed(others, leader.id), Option.isSome(go) ? go.value.await(longestWaitMillis) : Effect.succeed(undefined)],
      { concurrency: 2 }
    )
    const [waits, [election, ofGo]] = yield* measure(putters, leader.signal(faults[fault]), beside)
    if (Option.isSome(go)) yield* go.value.stop
    if (ofGo !== undefined) for (const loop of loops) waits.set(keyOf("go clientv3", loop), ofGo[loop])
    if (fault === "pause") yield* leader.signal("SIGCONT")
    else yield* Effect.andThen(leader.exit, leader.start)
    const outcome: Outcome = { waits, election }
    return outcome
  })

const rowsOf = (fault: Fault, names: ReadonlyArray<string>, outcomes: ReadonlyArray<Outcome>): ReadonlyArray<Row> =>
  names.flatMap((name) =>
    loops.map((loop): Row => {
      const waits = outcomes.map((outcome) => outcome.waits.get(keyOf(name, loop)) ?? Number.NaN)
      return {
        scenario: `failover ${fault} ${loop}`,
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

/** Nobody knows how long a wait would have been that was given up. */
const shown = (millis: number): string =>
  millis >= longestWaitMillis ? `none in ${longestWaitMillis}` : `${Math.round(millis)}`

const print = (fault: Fault, names: ReadonlyArray<string>, outcomes: ReadonlyArray<Outcome>) => {
  const elections = outcomes.map(({ election }) => election)
  console.log(
    `failover, ${faults[fault]} of the leader, ${outcomes.length} times: milliseconds until a put is acknowledged that ` +
      `was begun afterwards (another leader was there after ${Math.round(median(elections))}, from ` +
      `${Math.round(Math.min(...elections))} to ${Math.round(Math.max(...elections))})`
  )
  const cells = (name: string, loop: Loop) => {
    const waits = outcomes.map(({ waits }) => waits.get(keyOf(name, loop)) ?? Number.NaN)
    return {
      [`${loop}, median`]: shown(median(waits)),
      [`${loop}, range`]: `${shown(Math.min(...waits))} - ${shown(Math.max(...waits))}`
    }
  }
  table(names.map((name) => ({ client: name, ...cells(name, "closed"), ...cells(name, "open") })))
}

export const failover = (quick: boolean) =>
  Effect.gen(function* () {
    const cluster = yield* makeCluster
    const putters = yield* makePutters(cluster.endpoints)
    const go = yield* goFailover(cluster.endpoints)
    const names = [...putters.map(({ name }) => name), ...(Option.isSome(go) ? ["go clientv3"] : [])]
    const rows: Array<Row> = []
    for (const fault of ["kill", "pause"] as const) {
      const outcomes: Array<Outcome> = []
      for (let index = 0; index < (quick ? 3 : 20); index++) {
        outcomes.push(yield* round(cluster, putters, go, fault))
      }
      print(fault, names, outcomes)
      rows.push(...rowsOf(fault, names, outcomes))
    }
    return rows
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) => benchError("failover", cause)),
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
