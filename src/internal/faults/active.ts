/**
 * The faults that are on.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Refuses a fault: which, and why. */
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
  /** In the order in which they began, in words. */
  readonly all: Effect.Effect<ReadonlyArray<string>>
}

const say = (what: string) => Effect.logInfo(`fault: ${what}`)

export const make = <Refused>(refuse: Refuse<Refused>): Active<Refused> => {
  const faults = new Set<Fault>()
  let isClosed = false

  const end = (fault: Fault) =>
    Effect.suspend(() =>
      faults.delete(fault) ? Effect.andThen(fault.takeBack, say(`${fault.what}, over`)) : Effect.void
    )

  const heal = Effect.suspend(() => Effect.forEach([...faults].reverse(), end, { discard: true }))

  return {
    begin: (name, whom, begin) =>
      Effect.asVoid(
        Effect.acquireRelease(
          Effect.gen(function* () {
            if (isClosed) return yield* refuse(name, "the cluster is closed.")
            const fault: Fault = { what: `${name} ${whom}`, takeBack: yield* begin }
            faults.add(fault)
            yield* say(fault.what)
            return fault
          }),
          end
        )
      ),
    heal,
    close: Effect.suspend(() => {
      isClosed = true
      return heal
    }),
    all: Effect.sync(() => [...faults].map(({ what }) => what))
  }
}
