/**
 * The service's side: it can be found as long as it is of use.
 */
import { type Duration, Effect, Schedule } from "effect"
import { EtcdRegistry } from "effect-etcd/coordination"

/**
 * Announces an endpoint while it is healthy, until the scope closes. Then it removes the announcement, and waits for the time
 * `drain`. Clients with the old list are still served meanwhile, since what was opened before this is closed after it.
 *
 * It does not wait for etcd: a service that answers is of use to those that know it already.
 */
export const announce = Effect.fnUntraced(function* <E, R>(
  registration: EtcdRegistry.Registration,
  options: { readonly isHealthy: Effect.Effect<boolean, E, R>; readonly drain: Duration.Input }
) {
  const untilHealth = (wanted: boolean) =>
    options.isHealthy.pipe(
      Effect.orElseSucceed(() => false),
      Effect.repeat({ schedule: Schedule.spaced("1 second"), until: (isHealthy) => isHealthy === wanted })
    )

  yield* Effect.addFinalizer(() => Effect.sleep(options.drain))
  yield* untilHealth(true).pipe(
    Effect.andThen(EtcdRegistry.register(registration)),
    Effect.andThen(untilHealth(false)),
    Effect.scoped,
    Effect.forever,
    Effect.tapError((error) => Effect.logError(`${registration.address} cannot be announced:`, error.message)),
    Effect.retry(Schedule.spaced("1 second")),
    Effect.forkScoped
  )
})
