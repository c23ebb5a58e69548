/**
 * The faults that are on.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"

/** Refuses a fault: which, and why, in a sentence. */
export type Refuse<Refused> = (fault: string, why: string) => Effect.Effect<never, Refused>

interface Fault {
  readonly what: string
  readonly takeBack: Effect.Effect<void>
}

export interface Active<Refused> {
  /** Begins a fault, and takes it back when the scope closes. `begin` answers what takes it back. */
  readonly begin: <E, R>(
    fault: string,
    whom: string,
    begin: Effect.Effect<Effect.Effect<void>, E, R>
  ) => Effect.Effect<void, E | Refused, R | Scope.Scope>
  /** Takes back all of them, the last one first. */
  readonly heal: Effect.Effect<void>
  /** As {@link heal}, and refuses all that are to come. */
  readonly close: Effect.Effect<void>
  /** Refuses what is asked for after that. */
  readonly whileOpen: (fault: string) => Effect.Effect<void, Refused>
  readonly awaitClosed: Effect.Effect<void>
  /** In the order in which they began, in words. */
  readonly all: Effect.Effect<ReadonlyArray<string>>
}

/** A logger of the program's that fails is no reason to stop. */
const say = (what: string) => Effect.ignoreCause(Effect.logInfo(`fault: ${what}`))

export const make = <Refused>(refuse: Refuse<Refused>): Active<Refused> => {
  const faults = new Set<Fault>()
  const closed = Latch.makeUnsafe(false)
  let isClosed = false

  const end = (fault: Fault) =>
    Effect.uninterruptible(
      Effect.suspend(() =>
        faults.delete(fault) ? Effect.andThen(fault.takeBack, say(`${fault.what}, over`)) : Effect.void
      )
    )

  const heal = Effect.suspend(() => Effect.forEach([...faults].reverse(), end, { discard: true }))

  const whileOpen = (fault: string) =>
    Effect.suspend(() => (isClosed ? refuse(fault, "the cluster is closed.") : Effect.void))

  return {
    begin: (name, whom, begin) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.gen(function* () {
            yield* whileOpen(name)
            const fault: Fault = { what: `${name} ${whom}`, takeBack: yield* begin }
            faults.add(fault)
            // It may have been closed while this began.
            yield* Effect.onError(whileOpen(name), () => end(fault))
            yield* say(fault.what)
            return fault
          }),
          end
        )
      ),
    heal,
    close: Effect.suspend(() => {
      isClosed = true
      closed.openUnsafe()
      return heal
    }),
    whileOpen,
    awaitClosed: closed.await,
    all: Effect.sync(() => [...faults].map(({ what }) => what))
  }
}
