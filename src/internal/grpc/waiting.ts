/**
 * Fibers that wait for something to happen on a call.
 *
 * @internal
 */
import * as Effect from "effect/Effect"

/** Lets all go on that wait. */
export const wake = (waiting: Set<() => void>): void => {
  if (waiting.size === 0) return
  for (const resume of [...waiting]) {
    waiting.delete(resume)
    resume()
  }
}

/** Waits for the next {@link wake}. */
export const waitIn = (waiting: Set<() => void>): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const done = () => resume(Effect.void)
    waiting.add(done)
    return Effect.sync(() => waiting.delete(done))
  })
