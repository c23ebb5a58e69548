/**
 * Real time that a test moves.
 */
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Time from "../../src/internal/time.ts"

/** Makes something whose real time is the test's clock. */
export const byTestClock = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  TestClock.testClockWith((clock) => Effect.provideService(effect, Time.Time, Time.fromClock(clock)))
