/**
 * Waiting until a key goes, and looking at what there is at some revision at least.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { EtcdError } from "../../EtcdError.ts"
import type * as EtcdKv from "../../EtcdKv.ts"
import type { KeyValue } from "../../EtcdResponse.ts"
import type * as EtcdWatch from "../../EtcdWatch.ts"
import type * as KeyRange from "../../KeyRange.ts"
import * as Failures from "./failures.ts"

/**
 * What some member has, if that is not behind a revision, and otherwise what there is: one that the others do not hear can
 * say the first only. No store is behind a revision that has not gone back.
 */
export const rangeAtLeast = (
  kv: EtcdKv.Service,
  range: KeyRange.Input,
  revision: bigint,
  options?: EtcdKv.RangeOptions
) =>
  kv.range(range, { ...options, serializable: true }).pipe(
    Effect.flatMap((near) => (near.header.revision >= revision ? Effect.succeed(near) : kv.range(range, options))),
    Effect.tap(({ header }) => Failures.notBefore(revision, header.revision))
  )

/** A look that takes long keeps nothing from being heard. */
const besides = { concurrency: "unbounded", unordered: true } as const

/** When a key went; one of its name that came later, where that is not exact. */
export interface Deletion {
  readonly revision: bigint
  readonly isExact: boolean
}

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
): Effect.Effect<Deletion | A, EtcdError> =>
  Effect.suspend(() => {
    /** Whether all is known that can have happened to it before what is told next. */
    let isExact = false
    return watch.changes(key, { created: true, ignore: isNone === undefined ? "puts" : undefined }).pipe(
      Stream.mapEffect((change): Effect.Effect<Option.Option<Deletion | A>, EtcdError> => {
        if (change._tag === "Revision") {
          const { events, revision } = change
          const isGone = events.some(({ _tag, kv }) => _tag === "Delete" || isNone?.(kv))
          return Effect.succeed(isGone && revision > after ? Option.some({ revision, isExact }) : Option.none())
        }
        if (change._tag !== "Created") return Effect.succeedNone
        isExact = change.startRevision === after + 1n
        if (isExact) return Effect.succeedNone
        return Effect.tap(look(change.startRevision > after ? change.startRevision - 1n : after), (found) =>
          Effect.sync(() => {
            isExact = Option.isNone(found)
          })
        )
      }, besides),
      Stream.filter(Option.isSome),
      Stream.runHead,
      Effect.flatMap((found) => (Option.isSome(found) ? Effect.succeed(found.value.value) : Effect.never))
    )
  })
