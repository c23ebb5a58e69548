/**
 * The token that shows who is calling.
 *
 * However many callers need one, there is one authentication at a time. The token is used until a server refuses it.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import type { EtcdError } from "../../EtcdError.ts"

/** What a call carries: two records made once for each token, because there are many calls. */
export interface Metadata {
  readonly token: string | undefined
  readonly plain: Readonly<Record<string, string>>
  /** Asks the member to refuse the call at once when it knows no leader. */
  readonly withLeader: Readonly<Record<string, string>>
}

// The names are those of etcd's `api/v3rpc/rpctypes/metadatafields.go` and `md.go`.
export const metadata = (token: string | undefined): Metadata => {
  const plain = token === undefined ? {} : { token }
  return { token, plain, withLeader: { ...plain, hasleader: "true" } }
}

export const anonymous = metadata(undefined)

export interface Credentials {
  readonly current: () => Metadata | undefined
  /** What a call is to carry, after authenticating if need be. */
  readonly get: Effect.Effect<Metadata, EtcdError>
  /** The server refused the token: the next call gets a new one, unless that has happened already. */
  readonly refuse: (refused: Metadata) => void
}

/** No user: nothing to show. */
export const none: Credentials = {
  current: () => anonymous,
  get: Effect.succeed(anonymous),
  refuse: () => {}
}

/** `authenticate` yields a token, or nothing where the server does not authenticate anybody. */
export const make = (
  authenticate: Effect.Effect<string | undefined, EtcdError>,
  closed: EtcdError,
  scope: Scope.Scope,
  onToken: () => void
): Credentials => {
  let held: Metadata | undefined
  let waiting: Deferred.Deferred<Metadata, EtcdError> | undefined

  const done = (deferred: Deferred.Deferred<Metadata, EtcdError>, exit: Exit.Exit<Metadata, EtcdError>) => {
    waiting = undefined
    if (Exit.isSuccess(exit)) {
      held = exit.value
      onToken()
    }
    Deferred.doneUnsafe(deferred, Exit.hasInterrupts(exit) ? Exit.fail(closed) : exit)
  }

  return {
    current: () => held,
    get: Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        if (held !== undefined) return Effect.succeed(held)
        if (waiting !== undefined) return restore(Deferred.await(waiting))
        const deferred = Deferred.makeUnsafe<Metadata, EtcdError>()
        waiting = deferred
        return Effect.flatMap(Effect.forkIn(Effect.map(authenticate, metadata), scope), (fiber) => {
          fiber.addObserver((exit) => done(deferred, exit))
          return restore(Deferred.await(deferred))
        })
      })
    ),
    refuse: (refused) => {
      if (held === refused) held = undefined
    }
  }
}
