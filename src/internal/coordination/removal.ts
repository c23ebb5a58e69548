/**
 * Removing what a session has put: for as long as its lease lives, since what is left when that is gone goes with it.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { EtcdError } from "../../EtcdError.ts"
import { LeaseId } from "../../EtcdId.ts"
import * as EtcdTxn from "../../EtcdTxn.ts"
import type * as Background from "../lease/background.ts"
import * as Time from "../time.ts"
import * as Session from "./session.ts"

/**
 * Deletes keys with a transaction, or without one where that is refused because the space is used up: etcd 3.4 then refuses
 * every transaction, and no deletion. Only for keys that nobody else has the names of.
 */
export const evenWithoutSpace = (
  { kv }: Session.Session,
  keys: ReadonlyArray<string>,
  transaction: Effect.Effect<unknown, EtcdError>
): Effect.Effect<unknown, EtcdError> =>
  Effect.catchReason(transaction, "EtcdError", "NoSpace", () =>
    Effect.forEach(keys, (key) => kv.delete(key), { discard: true })
  )

/** Deletes a key if it has the lease of the incarnation. */
export const deleteOwn = ({ txn }: Session.Session, { lease }: Session.Incarnation, key: string | Uint8Array) =>
  txn.commit(EtcdTxn.make({ compare: EtcdTxn.lease(key).equals(LeaseId(lease.id)), success: EtcdTxn.delete(key) }))

/** Does something about a key now, and so many times, or whenever, it is put. */
const sweepKey = (
  session: Session.Session,
  key: string | Uint8Array,
  puts: number,
  remove: Effect.Effect<unknown, EtcdError>
) => {
  const changes = session.watch.changes(key, { ignore: "deletes", snapshot: "first" })
  const sweeping: Effect.Effect<void> = Stream.take(changes, 1 + puts).pipe(
    Stream.mapEffect(() => remove),
    Stream.runDrain,
    Effect.catch(() =>
      Effect.andThen(
        Time.sleep(session.time, 1000),
        Effect.suspend(() => sweeping)
      )
    )
  )
  return sweeping
}

/**
 * Deletes what requests put there whose outcome is unknown, should they arrive when nobody wants the keys any more, until
 * the incarnation is lost; or, where others keep its lease on, until that is gone. For each key it is over as well when so
 * many puts have come.
 */
export const sweep = <K extends string | Uint8Array>(
  session: Session.Session,
  incarnation: Session.Incarnation,
  keys: ReadonlyArray<K>,
  remove: (key: K) => Effect.Effect<unknown, EtcdError>,
  puts: number = Number.POSITIVE_INFINITY
): Effect.Effect<Background.Task> => {
  const sweeping = Effect.forEach(keys, (key) => sweepKey(session, key, puts, remove(key)), {
    concurrency: "unbounded",
    discard: true
  })
  const gone = Session.leaseGone(incarnation)
  const over = incarnation.isShared ? gone : Effect.raceFirst(gone, Deferred.await(incarnation.lost))
  return session.background.run(Effect.raceFirst(sweeping, over), Number.NEGATIVE_INFINITY)
}
