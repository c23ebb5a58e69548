/**
 * What befalls a cluster, its network and the workers, as a seed has it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdMaintenance from "../../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../../src/EtcdMembership.ts"
import { ClusterRefused, OperationFailed } from "../../src/EtcdOperationError.ts"
import * as EtcdOperations from "../../src/EtcdOperations.ts"
import type * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import type * as EtcdFaults from "../../src/testing/EtcdFaults.ts"
import { until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import type { Random } from "../support/random.ts"
import type { Observer } from "./observer.ts"
import { deletedKey, locksPrefix } from "./protocol.ts"
import type { Band } from "./run.ts"
import * as Workers from "./workers.ts"

export interface Nemesis {
  readonly faults: EtcdFaults.Faults
  /** How many members there were at first. */
  readonly size: number
  readonly maintenance: EtcdMaintenance.Service
  readonly txn: EtcdTxn.Service
  readonly observer: Observer
  readonly workers: ReadonlyArray<Workers.Worker>
  readonly record: Workers.Record
  /** Starts a worker's next process. */
  readonly startWorker: (worker: Workers.Worker) => void
  readonly bands: Array<{ -readonly [Name in keyof Band]: Band[Name] }>
  readonly random: Random
}

type Member = EtcdProcess.Node

/** Something that can befall. It lasts as long as its scope, and answers whom it has befallen. */
type Fault = (nemesis: Nemesis) => Effect.Effect<string, unknown, Scope.Scope>

const shuffled = <A>(random: Random, all: ReadonlyArray<A>): Array<A> => {
  const left = [...all]
  return all.map(() => left.splice(random(left.length), 1)[0]!)
}

const list = (members: ReadonlyArray<{ readonly name: string }>) => members.map(({ name }) => name).join(", ")

/** The member that leads, mostly; otherwise any. */
const one = ({ faults, random }: Nemesis): Effect.Effect<Member> =>
  Effect.map(SubscriptionRef.get(faults.cluster.leader), (leader) =>
    Option.isSome(leader) && random(3) > 0
      ? leader.value
      : SubscriptionRef.getUnsafe(faults.cluster.members)[
          random(SubscriptionRef.getUnsafe(faults.cluster.members).length)
        ]!
  )

const others = ({ faults }: Nemesis, member: Member): ReadonlyArray<Member> =>
  SubscriptionRef.getUnsafe(faults.cluster.members).filter((other) => other !== member)

const toOne =
  (befall: (nemesis: Nemesis, member: Member) => Effect.Effect<unknown, unknown, Scope.Scope>): Fault =>
  (nemesis) =>
    Effect.flatMap(one(nemesis), (member) => Effect.as(befall(nemesis, member), member.name))

/** Two parts of the members, at random. */
const halves = ({ faults, random }: Nemesis): readonly [ReadonlyArray<Member>, ReadonlyArray<Member>] => {
  const members = shuffled(random, SubscriptionRef.getUnsafe(faults.cluster.members))
  const size = 1 + random(members.length - 1)
  return [members.slice(0, size), members.slice(size)]
}

const mode = (random: Random) => ({ mode: random(2) === 0 ? "hang" : "cut" }) as const

const clusterFaults: { readonly [kind: string]: Fault } = {
  kill: toOne(({ faults }, member) => faults.kill(member)),
  "kill a majority": (nemesis) => {
    const { faults, random } = nemesis
    const members = SubscriptionRef.getUnsafe(faults.cluster.members)
    const some = shuffled(random, members).slice(0, Math.floor(members.length / 2) + 1)
    return Effect.as(Effect.forEach(some, faults.kill), list(some))
  },
  "kill all": ({ faults }) =>
    Effect.as(Effect.forEach(SubscriptionRef.getUnsafe(faults.cluster.members), faults.kill), "all"),
  stop: toOne(({ faults }, member) => faults.stop(member)),
  pause: toOne(({ faults }, member) => faults.pause(member)),
  stall: toOne(({ faults, random }, member) =>
    faults.stall(member, { duty: (1 + random(8)) / 10, period: 20 + random(400) })
  ),
  isolate: toOne(({ faults, random }, member) => faults.isolate(member, mode(random))),
  partition: (nemesis) => {
    const { faults, random } = nemesis
    const [some, rest] = halves(nemesis)
    return Effect.as(faults.partition([some, rest], mode(random)), `${list(some)} | ${list(rest)}`)
  },
  "hear nobody": toOne((nemesis, member) => nemesis.faults.block(others(nemesis, member), member)),
  "heard by nobody": toOne((nemesis, member) => nemesis.faults.block(member, others(nemesis, member))),
  bridge: (nemesis) => {
    const { faults, random } = nemesis
    const [some, rest] = halves(nemesis)
    // Somebody is left who hears both.
    const [smaller, larger] = some.length < rest.length ? [some, rest] : [rest, some]
    return Effect.as(
      faults.partition([smaller, larger.slice(1)], mode(random)),
      `${list(smaller)} | ${list(larger.slice(1))}, and ${larger[0]!.name} between`
    )
  },
  slow: toOne((nemesis, member) =>
    nemesis.faults.slow(member, others(nemesis, member), {
      delay: 5 + nemesis.random(200),
      jitter: 1 + nemesis.random(50)
    })
  ),
  "slow all": ({ faults, random }) => {
    const members = SubscriptionRef.getUnsafe(faults.cluster.members)
    return Effect.as(faults.slow(members, members, { delay: 5 + random(60), jitter: 5, rate: 50_000 }), "all")
  },
  noSpace: toOne(({ faults }, member) => faults.noSpace(member))
}

const aWorker = ({ random, workers }: Nemesis) => workers[random(workers.length)]!

const workerFaults: { readonly [kind: string]: Fault } = {
  "pause worker": (nemesis) => {
    const worker = aWorker(nemesis)
    return Effect.as(Workers.pause(worker, nemesis.record), worker.place)
  },
  "pause worker between": (nemesis) => {
    const worker = aWorker(nemesis)
    return Effect.as(Workers.pauseBetween(worker, nemesis.record), worker.place)
  },
  "kill worker": (nemesis) => {
    const worker = aWorker(nemesis)
    // Whoever has killed it starts it again.
    if (Programs.hasEnded(worker.child)) return Effect.fail("it is killed already")
    return Effect.acquireRelease(Effect.as(Workers.kill(worker), worker.place), () =>
      Effect.andThen(
        Effect.sync(() => nemesis.startWorker(worker)),
        until(() => worker.isReady || Programs.hasEnded(worker.child))
      )
    )
  },
  "cut worker off": (nemesis) => {
    const { faults, random } = nemesis
    const worker = aWorker(nemesis)
    const members = SubscriptionRef.getUnsafe(faults.cluster.members)
    const some = random(2) === 0 ? members : shuffled(random, members).slice(0, 1 + random(members.length))
    return Effect.as(faults.partition([[worker.place], some], mode(random)), `${worker.place} | ${list(some)}`)
  },
  "slow worker": (nemesis) => {
    const { faults, random } = nemesis
    const worker = aWorker(nemesis)
    return Effect.as(
      faults.slow(worker.place, SubscriptionRef.getUnsafe(faults.cluster.members), {
        delay: 5 + random(100),
        jitter: 5
      }),
      worker.place
    )
  }
}

const careFaults: { readonly [kind: string]: Fault } = {
  compact: ({ observer, random }) => Effect.as(observer.compact(random(200)), "the history"),
  defragment: (nemesis) =>
    Effect.flatMap(one(nemesis), (member) =>
      Effect.as(nemesis.maintenance.defragment({ endpoint: member.endpoints[0], deadline: "5 seconds" }), member.name)
    ),
  "move the leader": (nemesis) =>
    Effect.flatMap(one(nemesis), (member) =>
      Effect.as(nemesis.maintenance.moveLeader(member.id, { deadline: "3 seconds" }), `to ${member.name}`)
    ),
  "delete locks": ({ random, txn }) => {
    const deletion = EtcdTxn.all([EtcdTxn.put(deletedKey, ""), EtcdTxn.delete(KeyRange.prefix(locksPrefix))])
    const once = txn.commit(deletion, { deadline: "3 seconds" })
    // Again and again, so that one or the other comes just when somebody gives a lock back.
    const more = Effect.repeat(Effect.andThen(Effect.sleep(20 + random(80)), once), { times: random(12) })
    return Effect.as(Effect.andThen(once, more), "all")
  }
}

/** Whether it is no member from the beginning. */
const hasJoined = ({ size }: Nemesis, name: string) => Number(name.slice("node".length)) >= size

/** The one that joined last, if any has that is no member from the beginning. */
const grown = (nemesis: Nemesis) =>
  SubscriptionRef.getUnsafe(nemesis.faults.cluster.members).find(({ name }) => hasJoined(nemesis, name))

/** What is done to the cluster as a value. Who is there from the beginning stays, since workers go to those. */
const operations: { readonly [kind: string]: (nemesis: Nemesis) => Effect.Effect<unknown, unknown> } = {
  restart: ({ faults }) => faults.cluster.restart(),
  "move the leader by an operation": ({ faults }) => Effect.provide(EtcdOperations.moveLeader(), faults.cluster.client),
  "defragment by an operation": ({ faults }) =>
    Effect.provide(EtcdOperations.defragment({ minBytes: 1, minShare: 0.01 }), faults.cluster.client),
  resize: (nemesis) => {
    const { cluster } = nemesis.faults
    const one = grown(nemesis)
    return one === undefined ? cluster.grow() : cluster.shrink(one.name)
  },
  replace: (nemesis) => {
    const { cluster } = nemesis.faults
    const one = grown(nemesis)
    return one === undefined ? cluster.grow() : cluster.replace(one.name)
  }
}

/** How one came out, in a word or two. */
const outcome = <A, E>(exit: Exit.Exit<A, E>): string => {
  const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : Option.none()
  return Exit.isSuccess(exit) ? "done" : Option.match(failure, { onNone: () => "ended", onSome: outcomeOf })
}

const outcomeOf = (error: unknown): string =>
  error instanceof ClusterRefused
    ? `refused: ${error.finding}`
    : error instanceof OperationFailed
      ? `failed: ${error.step}`
      : String(error)

/** One operation after the other, which are refused, or fail, when something befalls the cluster meanwhile. */
const operate = (nemesis: Nemesis, calm: Semaphore.Semaphore) =>
  Effect.suspend(() => {
    const { bands, random } = nemesis
    const kinds = Object.keys(operations)
    const kind = kinds[random(kinds.length)]!
    // Members are changed only when all have been connected for a while, which they hardly are when something befalls them.
    const isCalm = random(2) === 0
    const patience = random(3) === 0 ? 200 + random(6000) : 40_000
    const once = Effect.suspend(() => {
      const from = Programs.now()
      return Effect.flatMap(Effect.exit(Effect.timeout(operations[kind]!(nemesis), patience)), (exit) =>
        Effect.sync(() => bands.push({ kind, what: outcome(exit), from, to: Programs.now() }))
      )
    })
    return Effect.andThen(isCalm ? calm.withPermits(faultsAtOnce)(once) : once, Effect.sleep(500 + random(3000)))
  }).pipe(Effect.forever)

/** Runs again what was ended half-way, and lets those go that have joined. Answers what is not as it was. */
export const settle = (nemesis: Nemesis) => {
  const { cluster } = nemesis.faults
  const once = Effect.gen(function* () {
    // A growth that was begun is brought to its end; where there is none, there is nothing to do, or too many to grow.
    yield* Effect.ignore(cluster.grow({ to: nemesis.size }))
    const { members } = yield* EtcdMembership.list().pipe(
      Effect.provide(EtcdMembership.layer),
      Effect.provide(cluster.client)
    )
    // One that has not started has no name.
    const one = members.find(({ isLearner, name }) => isLearner || hasJoined(nemesis, name))
    if (one !== undefined) yield* cluster.shrink(one.id)
    return one === undefined && members.length === nemesis.size
      ? []
      : [`${list(members)} are members, and there were ${nemesis.size} at first`]
  }).pipe(Effect.catch((error) => Effect.succeed([String(error)])))
  return Effect.repeat(once, { until: (wrong) => wrong.length === 0, times: 12 })
}

/** Lets one befall for a while, and tells of it as a band. One that is not possible now is passed over. */
const befall = (nemesis: Nemesis, kind: string, fault: Fault, lasting: number) =>
  Effect.gen(function* () {
    const from = Programs.now()
    const what = yield* fault(nemesis)
    const band = { kind, what, from, to: null as number | null }
    nemesis.bands.push(band)
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        band.to = Programs.now()
      })
    )
    yield* Effect.sleep(lasting)
  }).pipe(Effect.scoped, Effect.ignore)

/** One after the other, in rounds in which each comes once. */
const again = (
  nemesis: Nemesis,
  faults: { readonly [kind: string]: Fault },
  shape: { readonly lasting: number; readonly resting: number },
  afterwards: Effect.Effect<unknown, unknown>,
  calm?: Semaphore.Semaphore
) =>
  Effect.suspend(() => {
    const { random } = nemesis
    let deck: Array<string> = []
    return Effect.forever(
      Effect.suspend(() => {
        if (deck.length === 0) deck = shuffled(random, Object.keys(faults))
        const kind = deck.pop()!
        const befalls = Effect.andThen(
          befall(nemesis, kind, faults[kind]!, 200 + random(shape.lasting)),
          Effect.ignore(afterwards)
        )
        return (calm === undefined ? befalls : calm.withPermit(befalls)).pipe(
          Effect.andThen(Effect.sleep(100 + random(shape.resting)))
        )
      })
    )
  })

/** How many befall the cluster at the same time. */
const faultsAtOnce = 2

/** Goes on until it is interrupted. */
export const rage = (nemesis: Nemesis) => {
  const healthy = Effect.timeoutOption(nemesis.faults.awaitHealthy, "20 seconds")
  const calm = Semaphore.makeUnsafe(faultsAtOnce)
  return Effect.all(
    [
      again(nemesis, clusterFaults, { lasting: 3000, resting: 1500 }, healthy, calm),
      // Beside the first: two at once, now and then.
      again(nemesis, clusterFaults, { lasting: 1500, resting: 12_000 }, Effect.void, calm),
      // Longer than leases live, and than the history is kept.
      again(nemesis, workerFaults, { lasting: 6000, resting: 2000 }, Effect.void),
      again(nemesis, workerFaults, { lasting: 6000, resting: 2000 }, Effect.void),
      again(nemesis, careFaults, { lasting: 1, resting: 2500 }, Effect.void),
      operate(nemesis, calm)
    ],
    { concurrency: "unbounded", discard: true }
  )
}

/** Does something while all members are down. */
const whileDown = <A, E, R>({ faults }: Nemesis, effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const down = yield* Scope.make()
    yield* Effect.forEach(SubscriptionRef.getUnsafe(faults.cluster.members), (member) =>
      Scope.provide(faults.kill(member), down)
    )
    const result = yield* effect
    yield* Scope.close(down, Exit.void)
    yield* faults.awaitHealthy
    return result
  })

/**
 * Lets all members go back to an older state of their disks, and forget what they have acknowledged since. They are saved
 * at the same time, so that what one knows to be committed a majority of them has.
 */
export const rollBack = (nemesis: Nemesis) =>
  Effect.gen(function* () {
    const { bands, faults } = nemesis
    const members = SubscriptionRef.getUnsafe(faults.cluster.members)
    const copies = yield* whileDown(
      nemesis,
      Effect.forEach(members, (member) => Effect.map(faults.saveDisk(member), (copy) => ({ member, copy })))
    )
    yield* Effect.sleep("3 seconds")
    const from = Programs.now()
    yield* whileDown(
      nemesis,
      Effect.forEach(copies, ({ copy, member }) => faults.restoreDisk(member, copy))
    )
    bands.push({ kind: "roll back", what: "all", from, to: Programs.now() })
  }).pipe(Effect.scoped)
