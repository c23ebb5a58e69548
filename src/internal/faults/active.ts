/**
 * The faults that are on.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"

/** Refuses a fault: which, and why, in a sentence. */
export type Refuse<Refused> = (fault: string, why: string) => Effect.Effect<never, Refused>

interface Fault {
  readonly what: string
  readonly takeBack: Effect.Effect<void>
  /** Open when it has been taken back: by whom ever, all who want that wait for it. */
  readonly over: Latch.Latch
  isEnding: boolean
}

export interface Active<Refused> {
  /** Begins a fault, and takes it back when the scope closes. `begin` answers what takes it back. */
  readonly begin: <E, R>(
    fault: string,
    whom: string,
    begin: Effect.Effect<Effect.Effect<void>, E, R>
  ) => Effect.Effect<void, E | Refused, R | Scope.Scope>
  /** Takes back all of them, the last one first, also where one of them cannot be. */
  readonly heal: Effect.Effect<void>
  /** As {@link heal}, and refuses all that are to come. What is being done is waited for: what it needs may go after this. */
  readonly close: Effect.Effect<void>
  /** Refuses what is asked for after that. */
  readonly whileOpen: (fault: string) => Effect.Effect<void, Refused>
  /** What is no fault, but is refused and waited for as they are. */
  readonly during: <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | Refused, R>
  readonly awaitClosed: Effect.Effect<void>
  /** In the order in which they began, in words. */
  readonly all: Effect.Effect<ReadonlyArray<string>>
}

/** A logger of the program's that fails is no reason to stop. */
const say = (what: string) => Effect.ignoreCause(Effect.logInfo(`fault: ${what}`))

export const make = <Refused>(refuse: Refuse<Refused>): Active<Refused> => {
  const faults = new Set<Fault>()
  const closed = Latch.makeUnsafe(false)
  /** How many are being done, and whether there is none. */
  let underWay = 0
  const nothingUnderWay = Latch.makeUnsafe(true)

  const end = (fault: Fault) =>
    Effect.uninterruptible(
      Effect.suspend(() => {
        if (fault.isEnding) return fault.over.await
        fault.isEnding = true
        const isOver = Effect.sync(() => {
          faults.delete(fault)
          fault.over.openUnsafe()
        })
        return Effect.andThen(Effect.ensuring(fault.takeBack, isOver), say(`${fault.what}, over`))
      })
    )

  const heal = Effect.suspend(() =>
    Effect.flatMap(
      Effect.forEach([...faults].reverse(), (fault) => Effect.exit(end(fault))),
      Exit.asVoidAll
    )
  )

  const whileOpen = (fault: string) =>
    Effect.suspend(() => (closed.isOpen() ? refuse(fault, "the cluster is closed.") : Effect.void))

  const during = <A, E, R>(name: string, effect: Effect.Effect<A, E, R>) =>
    Effect.acquireUseRelease(
      Effect.andThen(
        whileOpen(name),
        Effect.sync(() => {
          underWay++
          nothingUnderWay.closeUnsafe()
        })
      ),
      () => effect,
      () =>
        Effect.sync(() => {
          if (--underWay === 0) nothingUnderWay.openUnsafe()
        })
    )

  return {
    begin: (name, whom, begin) =>
      Effect.asVoid(
        Effect.acquireRelease(
          during(
            name,
            Effect.gen(function* () {
              const fault: Fault = {
                what: `${name} ${whom}`,
                takeBack: yield* begin,
                over: Latch.makeUnsafe(false),
                isEnding: false
              }
              faults.add(fault)
              // It may have been closed while this began.
              yield* Effect.onError(whileOpen(name), () => end(fault))
              yield* say(fault.what)
              return fault
            })
          ),
          end
        )
      ),
    heal,
    close: Effect.suspend(() => {
      closed.openUnsafe()
      return Effect.ensuring(heal, nothingUnderWay.await)
    }),
    whileOpen,
    during,
    awaitClosed: closed.await,
    all: Effect.sync(() => [...faults].filter(({ isEnding }) => !isEnding).map(({ what }) => what))
  }
}
