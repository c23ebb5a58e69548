/**
 * The client's side: which of the instances is called.
 */
import { Clock, Data, Effect } from "effect"
import { EtcdRegistry } from "effect-etcd/coordination"

export class NoInstance extends Data.TaggedError("NoInstance")<{ readonly service: string }> {}

/** How long an instance that did not answer is skipped, in milliseconds. */
const doubt = 5000

/**
 * Calls the instances of a service in turn. Reading the list makes no call: it is a live view.
 *
 * An instance that was killed stays on the list until its lease has run out. So after a failed call an instance is skipped for
 * a while, and the call is made to another one, three times at most. Use this only for what may be done twice: an instance that
 * did not answer may have done it.
 */
export const make = Effect.fnUntraced(function* (service: string) {
  const live = yield* EtcdRegistry.endpoints(service)
  const doubted = new Map<string, number>()
  let turn = 0

  const next = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const all = EtcdRegistry.addresses(yield* live.view)
    const good = all.filter((address) => (doubted.get(address) ?? 0) <= now)
    // If all are in doubt, it is rather the network of this program: none is worse than another.
    const from = good.length > 0 ? good : all
    if (from.length === 0) return yield* new NoInstance({ service })
    return from[turn++ % from.length]!
  })

  const once = <A, E, R>(call: (address: string) => Effect.Effect<A, E, R>) =>
    Effect.flatMap(next, (address) =>
      Effect.tapError(call(address), () =>
        Effect.map(Clock.currentTimeMillis, (now) => doubted.set(address, now + doubt))
      )
    )

  return {
    live,
    call: <A, E, R>(call: (address: string) => Effect.Effect<A, E, R>) => Effect.retry(once(call), { times: 2 })
  }
})
