/**
 * Waiting until something changes that a transaction has read. Who waits with the same client shares its watches.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as RcRef from "effect/RcRef"
import * as Scope from "effect/Scope"
import type { Client } from "../../EtcdClient.ts"
import type { EtcdError } from "../../EtcdError.ts"
import * as EtcdWatch from "../../EtcdWatch.ts"
import type { KeyRange } from "../../KeyRange.ts"

type Shared = RcRef.RcRef<EtcdWatch.Service>

const shared = new WeakMap<Client, Shared>()

/** It ends when nobody waits any more. */
const sharedOf = (client: Client): Effect.Effect<Shared> =>
  Effect.suspend(() => {
    const known = shared.get(client)
    if (known !== undefined) return Effect.succeed(known)
    return RcRef.make({ acquire: EtcdWatch.fromClient(client) }).pipe(
      Scope.provide(Scope.makeUnsafe()),
      Effect.tap((made) => Effect.sync(() => shared.set(client, made)))
    )
  })

/**
 * Waits until one of the ranges is not as it was at the revision. Where the history since is gone, or the store went
 * back, it may be: to look again does no harm.
 */
export const untilChanged = (
  client: Client,
  ranges: ReadonlyArray<KeyRange>,
  revision: bigint
): Effect.Effect<void, EtcdError> =>
  Effect.flatMap(sharedOf(client), RcRef.get).pipe(
    Effect.flatMap((watch) =>
      Effect.raceAllFirst(ranges.map((range) => watch.next(range, { startRevision: revision + 1n })))
    ),
    Effect.asVoid,
    Effect.catchReasons("EtcdError", { Compacted: () => Effect.void, RevisionRegressed: () => Effect.void }),
    Effect.scoped
  )
