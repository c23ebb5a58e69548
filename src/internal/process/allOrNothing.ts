/**
 * What a program is given whole or not at all.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as EtcdProcessError from "../../EtcdProcessError.ts"

const closed = EtcdProcessError.make(
  new EtcdProcessError.Stopped({ message: "The scope was closed before all had started." })
)

/**
 * Makes something that lives as long as the scope. Where that fails or is interrupted, all that was begun goes at once,
 * though the scope may live for long. Where the scope is closed meanwhile, the making ends first, so that nothing is begun
 * in a scope that has gone; it fails with `Stopped`.
 */
export const allOrNothing = <A, E, R>(
  make: Effect.Effect<A, E, R>
): Effect.Effect<A, E | EtcdProcessError.EtcdProcessError, Exclude<R, Scope.Scope> | Scope.Scope> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* (): Effect.gen.Return<
      A,
      E | EtcdProcessError.EtcdProcessError,
      Exclude<R, Scope.Scope> | Scope.Scope
    > {
      const outer = yield* Scope.fork(yield* Effect.scope)
      const inner = yield* Scope.make()
      const making = yield* Effect.forkChild(Scope.provide(make, inner))
      yield* Scope.addFinalizerExit(outer, (exit) => Effect.andThen(Fiber.interrupt(making), Scope.close(inner, exit)))
      return yield* restore(Fiber.await(making)).pipe(
        Effect.flatMap(
          (exit): Effect.Effect<A, E | EtcdProcessError.EtcdProcessError> =>
            Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Effect.fail(closed) : exit
        ),
        Effect.onError((cause) => Scope.close(outer, Exit.failCause(cause)))
      )
    })
  )
