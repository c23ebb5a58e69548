/**
 * Operations that are ended half-way.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Options, Progress } from "../../src/EtcdOperations.ts"

/** Ends it when it is that far, or about to begin a step of that title, after `meanwhile`. */
export const endedAt = <A, E, R, B = void, E2 = never, R2 = never>(
  at: string | ((progress: Progress) => boolean),
  operation: (options: Pick<Options, "onProgress">) => Effect.Effect<A, E, R>,
  meanwhile?: Effect.Effect<B, E2, R2>
) =>
  Effect.gen(function* () {
    const reached = yield* Deferred.make<void>()
    const isThere = typeof at === "string" ? ({ step }: Progress) => step === at : at
    const onProgress = (progress: Progress) =>
      isThere(progress) ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.never) : Effect.void
    const fiber = yield* Effect.forkChild(operation({ onProgress }))
    yield* Effect.raceFirst(Deferred.await(reached), Fiber.join(fiber))
    if (meanwhile !== undefined) yield* meanwhile
    yield* Fiber.interrupt(fiber)
  })
