/**
 * Waiting until a key goes.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { EtcdError } from "../../EtcdError.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import type * as EtcdWatch from "../../EtcdWatch.ts"

/**
 * Waits until a key is deleted, and says at which revision, or what was found instead. The watch begins when a server has
 * taken it, so that it is served at once: etcd lets watches from an earlier revision wait for a tenth of a second, however
 * little is between. What is between is looked at, if there is anything, and so is a store that may have gone back. What is
 * told of before is no news: the server may lag behind. A key that `isNone` of those that are meant, when it is put, is as
 * good as gone.
 */
export const deletion = <A>(
  watch: EtcdWatch.Service,
  key: string,
  after: bigint,
  look: (revision: bigint) => Effect.Effect<Option.Option<A>, EtcdError>,
  isNone?: ((kv: KeyValue) => boolean) | undefined
): Effect.Effect<bigint | A, EtcdError> =>
  watch.changes(key, { created: true, ignore: isNone === undefined ? "puts" : undefined }).pipe(
    Stream.mapEffect((change): Effect.Effect<Option.Option<bigint | A>, EtcdError> => {
      if (change._tag === "Revision") {
        const isGone = change.events.some(({ _tag, kv }) => _tag === "Delete" || isNone?.(kv))
        return Effect.succeed(isGone && change.revision > after ? Option.some(change.revision) : Option.none())
      }
      if (change._tag !== "Created" || change.startRevision === after + 1n) return Effect.succeedNone
      return look(change.startRevision > after ? change.startRevision - 1n : after)
    }),
    Stream.filter(Option.isSome),
    Stream.runHead,
    Effect.flatMap((found) => (Option.isSome(found) ? Effect.succeed(found.value.value) : Effect.never))
  )
