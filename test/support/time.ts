/**
 * Clocks that a test moves.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Time from "../../src/internal/time.ts"

/** Makes something whose real time is the test's clock. */
export const byTestClock = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  TestClock.testClockWith((clock) => Effect.provideService(effect, Time.Time, Time.fromClock(clock)))

/** Waits in real time, and fails where that would be for ever. */
export const soon = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
    const hanging = Effect.andThen(Effect.sleep("1 minute"), Effect.die("it hangs"))
    return yield* Effect.raceFirst(Fiber.join(fiber), TestClock.withLive(hanging))
  })

/** Lets the event loop turn so often: what is to be done now is done, and what has come is read. */
export const turns = (count: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const turn = (left: number): unknown => (left === 0 ? resume(Effect.void) : setImmediate(turn, left - 1))
    turn(count)
  })

/** The wall clock, which a test can set, until its scope closes. */
export const wallClock = Effect.acquireRelease(
  Effect.sync(() => {
    const { now } = Date
    let offset = 0
    Date.now = () => now() + offset
    return {
      /** Sets it by so many milliseconds. */
      step: (millis: number) => {
        offset += millis
      },
      restore: () => {
        Date.now = now
      }
    }
  }),
  ({ restore }) => Effect.sync(restore)
)
