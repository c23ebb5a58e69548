/**
 * What goes on when nobody waits for it any longer, as long as the service lives.
 *
 * @internal
 */
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
  /** Waits for a task, until that time at the most. */
  readonly await: (task: Task, until: number) => Effect.Effect<void>
  /** Waits for all tasks, and for those that begin meanwhile. Answers how many have not ended. */
  readonly awaitAll: (until: number) => Effect.Effect<number>
  /** Ends what has not ended; nothing begins any more. */
  readonly stop: Effect.Effect<void>
}

export const make = (time: Time.Time): Background => {
  const tasks = new Set<Task>()
  let isStopped = false

  const awaitTask = ({ fiber, until }: Task, limit: number): Effect.Effect<void> => {
    const millis = Math.min(until, limit) - time.now()
    return millis <= 0 || fiber.pollUnsafe() !== undefined
      ? Effect.void
      : Time.within(time, Effect.asVoid(Fiber.await(fiber)), millis, () => Effect.void)
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

  return {
    run: (effect, until) =>
      Effect.map(Effect.forkDetach(isStopped ? Effect.interrupt : effect, { startImmediately: true }), (fiber) => {
        const task = { fiber, until }
        tasks.add(task)
        fiber.addObserver(() => tasks.delete(task))
        return task
      }),
    await: awaitTask,
    awaitAll,
    stop: Effect.suspend(() => {
      isStopped = true
      return Fiber.interruptAll([...tasks].map(({ fiber }) => fiber))
    })
  }
}
