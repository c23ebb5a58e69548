/**
 * The last values of a running sequence, read by any number of readers at their own pace.
 *
 * The values are held once, whatever the number of readers. Publishing never waits; a reader that falls further behind
 * than the capacity is told how many values it missed instead of losing them silently.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

export interface History<A> {
  readonly publish: (value: A) => void
  /** Ends the readers once they have read what is there. */
  readonly end: () => void
  /** The values still held, oldest first. */
  readonly values: () => Array<A>
  /** The values still held, then all that follow. */
  readonly stream: <B>(onMissed: (count: number) => B) => Stream.Stream<A | B>
}

export const make = <A>(capacity: number): History<A> => {
  const ring = new Array<A>(capacity)
  let next = 0
  let ended = false
  const waiting = new Set<() => void>()

  const wake = () => {
    const readers = Array.from(waiting)
    waiting.clear()
    for (const resume of readers) resume()
  }

  const slice = (from: number) => {
    const values: Array<A> = []
    for (let at = from; at < next; at++) values.push(ring[at % capacity]!)
    return values
  }

  const news = (from: number) =>
    Effect.callback<void>((resume) => {
      if (next > from || ended) return resume(Effect.void)
      const reader = () => resume(Effect.void)
      waiting.add(reader)
      return Effect.sync(() => waiting.delete(reader))
    })

  return {
    publish: (value) => {
      if (ended) return
      ring[next % capacity] = value
      next++
      if (waiting.size > 0) wake()
    },
    end: () => {
      ended = true
      wake()
    },
    values: () => slice(Math.max(0, next - capacity)),
    stream: <B>(onMissed: (count: number) => B) =>
      Stream.fromPull(
        Effect.sync(() => {
          let at = Math.max(0, next - capacity)
          return Effect.flatMap(
            Effect.suspend(() => news(at)),
            () => {
              const oldest = Math.max(0, next - capacity)
              const values: Array<A | B> = slice(Math.max(at, oldest))
              if (oldest > at) values.unshift(onMissed(oldest - at))
              at = next
              return values.length === 0 ? Cause.done() : Effect.succeed(values as [A | B, ...Array<A | B>])
            }
          )
        })
      )
  }
}
