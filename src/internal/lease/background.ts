/**
 * What goes on when nobody waits for it any longer, as long as the service lives.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Time from "../time.ts"

export interface Task<out A = unknown, out E = unknown> {
  readonly fiber: Fiber.Fiber<A, E>
  /** Until when it is worth waiting for. */
  readonly until: number
}

export interface Background {
  readonly run: <A, E>(effect: Effect.Effect<A, E>, until: number) => Effect.Effect<Task<A, E>>
  /**
   * Begins something in a moment, and answers with what ends it. What is ended before costs next to nothing. Nobody waits
   * for it.
   */
  readonly soon: (effect: Effect.Effect<unknown>) => Effect.Effect<() => void>
  /** Waits for a task, until that time at the most. */
  readonly await: (task: Task, until: number) => Effect.Effect<void>
  /** Waits for all tasks, and for those that begin meanwhile. Answers how many have not ended. */
  readonly awaitAll: (until: number) => Effect.Effect<number>
  /** Ends what has not ended; nothing begins any more. */
  readonly stop: Effect.Effect<void>
}

/** How soon, at least, in milliseconds. */
const soonMillis = 20

/** What is to begin soon. */
interface Young {
  readonly effect: Effect.Effect<unknown>
  readonly due: number
  fiber: Fiber.Fiber<unknown> | undefined
}

export const make = (time: Time.Time): Background => {
  const tasks = new Set<Task>()
  let isStopped = false

  const awaitTask = ({ fiber, until }: Task, limit: number): Effect.Effect<void> => {
    const millis = Math.min(until, limit) - time.now()
    if (millis <= 0 || fiber.pollUnsafe() !== undefined) return Effect.void
    // A race would cost twice as much.
    return Effect.flatMap(Effect.forkDetach(Time.sleep(time, millis)), (timer) =>
      Effect.callback<void>((resume) => {
        const goOn = () => resume(Effect.void)
        timer.addObserver(goOn)
        const stop = fiber.addObserver(() => {
          timer.interruptUnsafe()
          goOn()
        })
        return Effect.sync(() => {
          timer.interruptUnsafe()
          stop()
        })
      })
    )
  }

  const awaitAll = (limit: number): Effect.Effect<number> =>
    Effect.suspend(() => {
      const now = time.now()
      const worthwhile = [...tasks].filter(({ until }) => until > now)
      if (worthwhile.length === 0 || limit <= now) return Effect.succeed(worthwhile.length)
      const all = Effect.forEach(worthwhile, (task) => awaitTask(task, limit), {
        concurrency: "unbounded",
        discard: true
      })
      return Effect.andThen(all, awaitAll(limit))
    })

  const run: Background["run"] = (effect, until) =>
    Effect.map(Effect.forkDetach(isStopped ? Effect.interrupt : effect, { startImmediately: true }), (fiber) => {
      const task = { fiber, until }
      tasks.add(task)
      fiber.addObserver(() => tasks.delete(task))
      return task
    })

  /** In the order in which they are due. */
  const young = new Set<Young>()
  let isWaiting = false

  const beginYoung = Effect.gen(function* () {
    while (young.size > 0) {
      yield* Time.sleep(time, soonMillis)
      const now = time.now()
      for (const one of young) {
        if (one.due > now) break
        const { fiber } = yield* run(one.effect, Number.NEGATIVE_INFINITY)
        one.fiber = fiber
        // It may have been ended while it began.
        if (!young.delete(one)) fiber.interruptUnsafe()
      }
    }
    isWaiting = false
  })

  return {
    run,
    soon: (effect) =>
      Effect.contextWith((context: Context.Context<never>) => {
        const one: Young = {
          // Instead of what is around whoever the timer was begun for.
          effect: Effect.updateContext(effect, () => context),
          due: time.now() + soonMillis,
          fiber: undefined
        }
        young.add(one)
        const stop = () => {
          young.delete(one)
          one.fiber?.interruptUnsafe()
        }
        if (isWaiting) return Effect.succeed(stop)
        isWaiting = true
        return Effect.as(run(beginYoung, Number.NEGATIVE_INFINITY), stop)
      }),
    await: awaitTask,
    awaitAll,
    stop: Effect.suspend(() => {
      isStopped = true
      return Fiber.interruptAll([...tasks].map(({ fiber }) => fiber))
    })
  }
}
