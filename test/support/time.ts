/**
 * Clocks that a test moves.
 */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Time from "../../src/internal/time.ts"

/** Makes something whose real time is the test's clock. */
export const byTestClock = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  TestClock.testClockWith((clock) => Effect.provideService(effect, Time.Time, Time.fromClock(clock)))

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
