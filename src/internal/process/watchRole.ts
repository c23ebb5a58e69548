/**
 * The role of one run of the process, and whether it serves: from the lines of its log, and from what it answers when
 * it is asked.
 *
 * Both references are the node's and outlive the run, so a run that has ended no longer writes to them: its last lines
 * may still be in the pipes.
 *
 * @internal
 */
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as EtcdError from "../../EtcdError.ts"
import type * as EtcdLog from "../../EtcdLog.ts"
import * as Role from "../../Role.ts"

export interface Options {
  readonly role: SubscriptionRef.SubscriptionRef<Role.RoleState>
  readonly ready: SubscriptionRef.SubscriptionRef<boolean>
  /** Gives what asks the node for its `Status`; a connection lives as long as the scope. */
  readonly connect: Effect.Effect<Effect.Effect<Role.Status, EtcdError.EtcdError>, EtcdError.EtcdError, Scope.Scope>
  readonly electionTimeout: Duration.Duration
  /** How often a node is asked at least. */
  readonly interval: Duration.Input
}

/** The role of one run. */
export interface WatchRole {
  /** Takes an event of the log. */
  readonly take: (event: EtcdLog.Event) => Effect.Effect<void>
  /** The node serves: it has given this answer, to a question that was asked in this run. */
  readonly serves: (status: Role.Status) => Effect.Effect<void>
  /** Asks the node from time to time, from when it serves. It is to be interrupted with the run. */
  readonly watch: Effect.Effect<never>
  /** The process is about to be ended, or has ended: it serves no more. */
  readonly leaves: Effect.Effect<void>
  /** The process has ended. What comes after that changes nothing. */
  readonly ended: Effect.Effect<void>
}

/** Made before the process is spawned. */
export const make = ({ connect, interval, ready, role }: Options): WatchRole => {
  const before = SubscriptionRef.getUnsafe(role)
  const serving = Latch.makeUnsafe(false)
  let isOver = false

  const update = (next: (state: Role.RoleState) => Role.RoleState) =>
    SubscriptionRef.updateSome(role, (state) => {
      const after = isOver ? state : next(state)
      return after === state ? Option.none() : Option.some(after)
    })

  const answered = (status: Role.Status, asked: Role.RoleState) =>
    Effect.flatMap(DateTime.now, (now) =>
      update((state) => (state === asked ? Role.fromStatus(state, status, now) : state))
    )

  const check = (ask: Effect.Effect<Role.Status, EtcdError.EtcdError>) =>
    Effect.suspend(() => {
      const asked = SubscriptionRef.getUnsafe(role)
      return Effect.flatMap(ask, (status) => answered(status, asked))
    })

  return {
    take: (event) => update((state) => Role.fold(state, event)),
    serves: (status) =>
      answered(status, before).pipe(Effect.andThen(SubscriptionRef.set(ready, true)), Effect.andThen(serving.open)),
    watch: Effect.scoped(Effect.flatMap(connect, check)).pipe(
      Effect.ignore,
      Effect.delay(interval),
      Effect.forever,
      (asking) => Effect.andThen(serving.await, asking)
    ),
    leaves: SubscriptionRef.set(ready, false),
    ended: Effect.flatMap(DateTime.now, (now) =>
      Effect.andThen(
        update((state) => Role.stopped(state, now)),
        Effect.sync(() => {
          isOver = true
        })
      )
    )
  }
}
