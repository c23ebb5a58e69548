/**
 * The side of the client: which of the instances is asked.
 */
import { Clock, Data, Effect } from "effect"
import { EtcdRegistry } from "effect-etcd/coordination"

export class NoInstance extends Data.TaggedError("NoInstance")<{ readonly service: string }> {}

/** For how long an instance that did not answer is passed over, in milliseconds. */
const doubt = 5000

/**
 * The instances of a service, one after another. Reading the list asks nobody: it is a live view.
 *
 * An instance that was killed stands there until its lease has run out. So one that a call has failed with is passed over for a
 * while, and the call goes to another one, three times at the most. Use it for what may be done twice: whoever did not answer
 * may have done it.
 */
export const make = Effect.fnUntraced(function* (service: string) {
  const live = yield* EtcdRegistry.endpoints(service)
  const doubted = new Map<string, number>()
  let turn = 0

  const next = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const all = EtcdRegistry.addresses(yield* live.view)
    const good = all.filter((address) => (doubted.get(address) ?? 0) <= now)
    // Where all are in doubt it is rather the network of this program: none is worse than another.
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
