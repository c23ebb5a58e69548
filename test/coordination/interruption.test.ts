/**
 * Who waits for a lock, permits, an election or others at a barrier, or has them, is interrupted after any operation of any
 * fiber that works for it. Nothing is left.
 *
 * Some of the operations are taken by chance; `SWEEP=all` takes them all, which takes more than a quarter of an hour.
 */
import process from "node:process"
import { assert, describe, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as EtcdBarrier from "../../src/coordination/EtcdBarrier.ts"
import * as EtcdElection from "../../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSemaphore from "../../src/coordination/EtcdSemaphore.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as Inside from "../../src/internal/coordination/session.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { type Fate, type Faulty, faulty } from "../support/coordination/faults.ts"
import { makeRandom } from "../support/random.ts"

/** Counts the operations of the fibers that have it, and does something after the nth, when another fiber may run. */
class CountingScheduler extends Scheduler.MixedScheduler {
  count = 0
  private readonly at: number
  private readonly reached: () => void

  constructor(at: number, reached: () => void) {
    super()
    this.at = at
    this.reached = reached
  }

  override shouldYield(fiber: Fiber.Fiber<unknown, unknown>): boolean {
    if (++this.count !== this.at) return super.shouldYield(fiber)
    this.reached()
    return true
  }
}

interface Interrupted {
  /** How often it could have been interrupted. */
  readonly operations: number
  readonly exit: Exit.Exit<unknown, unknown>
}

/** Interrupts an effect after so many operations, its own and those that others do for it. */
const interruptedAfter = <R>(
  operations: number,
  effect: Effect.Effect<unknown, unknown, R>,
  meanwhile: Effect.Effect<unknown, EtcdError.EtcdError, R>
): Effect.Effect<Interrupted, EtcdError.EtcdError, R> =>
  Effect.gen(function* () {
    let fiber: Fiber.Fiber<unknown, unknown> | undefined
    const scheduler = new CountingScheduler(operations, () => fiber?.interruptUnsafe())
    // It begins when there is somebody to interrupt.
    fiber = yield* Effect.forkChild(Effect.provideService(effect, Scheduler.Scheduler, scheduler))
    yield* meanwhile
    const exit = yield* Fiber.await(fiber)
    return { operations: scheduler.count, exit }
  })

const lock = EtcdLock.make("swept")

const semaphore = EtcdSemaphore.make("swept/semaphore", { permits: 2 })

const election = EtcdElection.make("swept")

/** But for the limit of the semaphore, which stays. */
const isEmpty = Effect.map(EtcdKv.range(KeyRange.prefix("swept/"), { keysOnly: true }), ({ kvs }) =>
  kvs.every(({ keyString }) => keyString === `${semaphore.name}/permits`)
)

/** Nobody stands in line any more, nor is anything left in the session. */
const leavesNothing = (session: EtcdSession.Service) =>
  Effect.gen(function* () {
    const { holders, incarnations } = Inside.of(session)
    const isOver = () => holders.size === 0 && [...incarnations].every(({ dependents }) => dependents.size === 0)
    yield* Effect.repeat(
      Effect.map(isEmpty, (none) => none && isOver()),
      {
        until: (isTrue) => isTrue
      }
    )
  })

interface Way {
  readonly run: Effect.Effect<unknown, unknown, EtcdSession.EtcdSession>
  /** By which somebody else has it first. */
  readonly other: Effect.Effect<unknown, unknown, EtcdSession.EtcdSession | Scope.Scope>
}

interface Case extends Way {
  readonly title: string
  readonly isContended: boolean
  readonly fates: ReadonlyArray<Fate>
}

const locked = EtcdLock.acquire(lock)

const taken = EtcdSemaphore.takeScoped(semaphore, 2)

const ways: { readonly [title in string]: Way } = {
  withLock: { run: EtcdLock.withLock(Effect.yieldNow, lock), other: locked },
  acquire: { run: Effect.scoped(Effect.andThen(EtcdLock.acquire(lock), Effect.yieldNow)), other: locked },
  withLockIfAvailable: { run: EtcdLock.withLockIfAvailable(Effect.yieldNow, lock), other: locked },
  all: {
    run: EtcdLock.withLock(Effect.yieldNow, EtcdLock.all([lock, EtcdLock.make("swept/other")])),
    other: locked
  },
  withPermits: { run: EtcdSemaphore.withPermits(Effect.yieldNow, semaphore, 1), other: taken },
  takeScoped: {
    run: Effect.scoped(Effect.andThen(EtcdSemaphore.takeScoped(semaphore, 2), Effect.yieldNow)),
    other: taken
  },
  campaign: {
    run: Effect.scoped(Effect.andThen(EtcdElection.campaign(election, "me"), Effect.yieldNow)),
    other: locked
  },
  whileElected: { run: EtcdElection.whileElected(Effect.yieldNow, election, "me"), other: locked },
  together: {
    run: EtcdBarrier.together(Effect.yieldNow, "swept/barrier", 1),
    other: Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const work = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
      yield* Effect.forkScoped(EtcdBarrier.together(work, "swept/barrier", 1))
      yield* Deferred.await(begun)
    })
  }
}

const outcomes: { readonly [title in string]: ReadonlyArray<Fate> } = {
  "with answers": [],
  "whose join is done and not answered": ["lost"],
  "whose join arrives when all is over": ["late"],
  "whose leaving is not answered": ["ok", "lost", "lost"]
}

const cases: ReadonlyArray<Case> = Object.entries(ways).flatMap(([way, { other, run }]) =>
  Object.entries(outcomes).flatMap(([outcome, fates]) =>
    [false, true].map((isContended) => ({
      title: `${way} ${isContended ? "behind another" : "alone"}, ${outcome}`,
      run,
      other,
      isContended,
      fates
    }))
  )
)

/** How many operations are tried in a case. */
const tries = 2

/** How many there are, about. */
const usual = 300

/** How many entries of unknown outcome one session looks after in this test. */
const mostTries = 40

const root = EtcdLayer.ephemeral({}, { log: false })

describe("a place whose user is interrupted at any moment leaves nothing behind", () => {
  layer(root, { excludeTestServices: true })((it) => {
    const random = makeRandom(Number(process.env.SEED ?? Date.now() % 1_000_000))

    const once = Effect.fnUntraced(function* (
      { fates, isContended, other, run }: Case,
      operations: number,
      session: EtcdSession.Service,
      client: Faulty
    ) {
      const others = yield* EtcdSession.fromClient(yield* EtcdClient.EtcdClient)
      const interrupted = (meanwhile: Effect.Effect<unknown, EtcdError.EtcdError>) =>
        Effect.suspend(() => {
          client.fates.Txn = [...fates]
          return interruptedAfter(
            operations,
            run.pipe(Effect.provideService(EtcdSession.EtcdSession, session)),
            meanwhile
          )
        })
      const scope = yield* Scope.make()
      if (isContended) {
        yield* other.pipe(Effect.provideService(EtcdSession.EtcdSession, others), Scope.provide(scope), Effect.orDie)
      }
      const result = yield* interrupted(Effect.andThen(Effect.sleep(random(2) * 30), Scope.close(scope, Exit.void)))
      client.fates.Txn = []
      yield* client.arrive
      return result
    }, Effect.scoped)

    /** Tries some operations, and says how many there are if it comes upon the last. */
    const swept = Effect.fnUntraced(function* (one: Case, from: number, count: number) {
      const client = faulty(yield* EtcdClient.EtcdClient)
      const session = yield* EtcdSession.fromClient(client.client)
      yield* session.current
      for (let n = from; n < from + count; n++) {
        const { exit, operations } = yield* once(one, n, session, client)
        assert.isTrue(Exit.isSuccess(exit) || Exit.hasInterrupts(exit), `after ${n}: ${exit}`)
        yield* Effect.timeoutOrElse(leavesNothing(session), {
          duration: "30 seconds",
          orElse: () => Effect.die(`something is left after ${n} operations`)
        })
        if (operations < n) return operations
      }
      return undefined
    }, Effect.scoped)

    for (const one of cases) {
      it.effect(one.title, () =>
        Effect.gen(function* () {
          if (process.env.SWEEP !== "all") {
            for (let n = 0; n < tries; n++) yield* swept(one, 1 + random(usual), 1)
            return
          }
          let most: number | undefined
          for (let from = 1; most === undefined; from += mostTries) most = yield* swept(one, from, mostTries)
          console.log(`${one.title}: after each of ${most} operations`)
        })
      )
    }
  })
})
