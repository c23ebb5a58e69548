/**
 * The owner of a node's life: one fiber, which starts etcd, waits for its end, starts it again, and takes what it is
 * asked for (`start`, `stop`, `close`) one after another. Nobody else starts or ends a run.
 *
 * ```
 *           start                serves            ends
 *   down ──────────► starting ───────────► up ───────────────► away ◄──────────┐
 *    ▲                   │ fails           │ stop              │  │            │ fails
 *    ├───────────────────┴─────────────────┘                   │  │ the pause is over, or start
 *    └── stop, or the schedule has ended ──────────────────────┘  └──► starting again ──► up
 * ```
 *
 * An outage lasts from the end of a run until the node serves again. The restart schedule says how long to wait before
 * each try, and begins anew with the next outage. `close` is taken in every state, and ends the fiber: who still waits
 * for something, or asks later, is refused.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Exit as Ended, ExitStatus } from "../../EtcdProcess.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Failures from "./failures.ts"
import type { Run } from "./run.ts"

type Failure = EtcdProcessError.EtcdProcessError

/** What a life consists of. `A`: what is known of a run that serves. */
export interface Life<A, R extends Run> {
  readonly time: Time.Time
  /** How long to wait before each try to start it again, in an outage. */
  readonly restart: Schedule.Schedule<unknown, ExitStatus>
  /** Starts etcd. */
  readonly launch: Effect.Effect<R, Failure>
  /** Waits until it serves. */
  readonly serves: (run: R) => Effect.Effect<A, Failure>
  /** What goes on as long as it serves. */
  readonly whileUp: (run: R) => Effect.Effect<unknown>
  /** It serves no more, and is going to end if it has not. */
  readonly onDown: (run: R) => Effect.Effect<void>
  /** It has ended. */
  readonly onEnd: (run: R) => Effect.Effect<void>
}

export interface Supervisor<A, R extends Run> {
  /**
   * Starts etcd, unless it serves, and waits until it does. Who stops waiting takes back what nobody else has asked for. Fails
   * with `Stopped` where somebody stops the node meanwhile, or has closed its scope.
   */
  readonly start: Effect.Effect<A, Failure>
  readonly stop: Effect.Effect<void>
  /** Waits until etcd neither runs nor is about to be started again. */
  readonly ended: Effect.Effect<Ended>
  /** The process that there is. */
  readonly run: () => R | undefined
}

type Starter<A> = Deferred.Deferred<A, Failure>

type Command<A> =
  | { readonly _tag: "Start"; readonly starter: Starter<A> }
  | { readonly _tag: "Abandon"; readonly starter: Starter<A>; readonly done: Deferred.Deferred<void> }
  | { readonly _tag: "Stop" | "Close"; readonly done: Deferred.Deferred<void> }

/** What the fiber does until it does something else. */
interface Phase extends Effect.Effect<Phase | undefined> {}

type Step = Time.Step<ExitStatus>

const stopped = EtcdProcessError.make(
  new EtcdProcessError.Stopped({ message: "The node was stopped before it served." })
)

const closed = EtcdProcessError.make(
  new EtcdProcessError.Stopped({ message: "The scope of the node is closed: it cannot be started any more." })
)

/** A logger of the program's that fails is no reason to stop. */
const quietly = Effect.ignoreCause

export const make = <A, R extends Run>(life: Life<A, R>): Effect.Effect<Supervisor<A, R>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { time } = life
    const commands: Array<Command<A>> = []
    const asked = Latch.makeUnsafe(false)
    const end = yield* SubscriptionRef.make(Option.none<Ended>())
    let isOpen = true
    let run: R | undefined
    let last: Ended = { code: null, signal: null }

    // ── what is asked for ──

    const refuse = (command: Command<A>): void => {
      if (command._tag === "Start") Deferred.doneUnsafe(command.starter, Exit.fail(closed))
      else Deferred.doneUnsafe(command.done, Exit.void)
    }

    const ask = (command: Command<A>): void => {
      if (isOpen) commands.push(command)
      else refuse(command)
      asked.openUnsafe()
    }

    const next = (): Command<A> | undefined => {
      if (commands.length <= 1) asked.closeUnsafe()
      return commands.shift()
    }

    /** Does the work, unless what is asked for meanwhile leads elsewhere. */
    const during = <B, E>(
      work: Effect.Effect<B, E>,
      take: (command: Command<A>) => Phase | undefined,
      then: (exit: Exit.Exit<B, E>) => Phase
    ): Phase =>
      Effect.gen(function* () {
        const fiber = yield* Effect.forkChild(work, { startImmediately: true })
        while (true) {
          yield* Effect.raceFirst(Fiber.await(fiber), asked.await)
          const command = next()
          const exit = fiber.pollUnsafe()
          if (command === undefined && exit !== undefined) return then(exit)
          const phase = command === undefined ? undefined : take(command)
          if (phase === undefined) continue
          yield* Fiber.interrupt(fiber)
          return phase
        }
      })

    // ── what is done ──

    const takeDown = Effect.suspend(() => {
      const ending = run
      if (ending === undefined) return Effect.void
      return Effect.gen(function* () {
        yield* life.onDown(ending)
        last = yield* ending.close
        run = undefined
        yield* life.onEnd(ending)
      })
    }).pipe(Effect.uninterruptible)

    const bringUp = Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const launched = yield* life.launch
        run = launched
        return yield* Effect.onError(restore(life.serves(launched)), () => takeDown)
      })
    )

    const rest = Effect.suspend(() => SubscriptionRef.set(end, Option.some(last)))

    /** Ends what runs, and tells who has asked for that. */
    const halt = (command: Extract<Command<A>, { readonly done: unknown }>): Phase =>
      Effect.gen(function* () {
        yield* takeDown
        yield* rest
        Deferred.doneUnsafe(command.done, Exit.void)
        return command._tag === "Close" ? undefined : down
      })

    const tellAll = (starters: ReadonlyArray<Starter<A>>, exit: Exit.Exit<A, Failure>): void => {
      for (const starter of starters) Deferred.doneUnsafe(starter, exit)
    }

    /** Where nothing is there that could be taken back. */
    const grant = (command: Extract<Command<A>, { readonly _tag: "Abandon" }>): undefined => {
      Deferred.doneUnsafe(command.done, Exit.void)
    }

    /** What is done where nothing is being started: only `Start` is taken in different ways. */
    const onStart =
      (begin: (starter: Starter<A>) => Phase | undefined) =>
      (command: Command<A>): Phase | undefined => {
        switch (command._tag) {
          case "Start":
            return begin(command.starter)
          case "Abandon":
            return grant(command)
          default:
            return halt(command)
        }
      }

    const down: Phase = Effect.suspend(() =>
      during(
        Effect.never,
        onStart((starter) => Effect.as(SubscriptionRef.set(end, Option.none()), starting([starter], undefined))),
        () => down
      )
    )

    const starting = (starters: Array<Starter<A>>, outage: Step | undefined): Phase =>
      during(
        bringUp,
        (command) => {
          switch (command._tag) {
            case "Start":
              starters.push(command.starter)
              return undefined
            case "Abandon":
              if (starters.includes(command.starter)) starters.splice(starters.indexOf(command.starter), 1)
              if (starters.length === 0 && outage === undefined) return halt(command)
              return grant(command)
            default:
              tellAll(starters, Exit.fail(command._tag === "Close" ? closed : stopped))
              return halt(command)
          }
        },
        (exit) => {
          tellAll(starters, exit)
          if (Exit.isSuccess(exit)) return up(run!, exit.value)
          const error = Option.getOrUndefined(Exit.findErrorOption(exit))
          last = { code: last.code, signal: last.signal, error }
          if (outage === undefined) return Effect.as(rest, down)
          const told = error === undefined ? Effect.logError(exit.cause) : Effect.logError(error.message)
          return Effect.as(quietly(told), away(outage))
        }
      )

    const up = (running: R, answer: A): Phase =>
      during(
        Effect.raceFirst(running.ended, Effect.andThen(quietly(life.whileUp(running)), Effect.never)),
        onStart((starter) => {
          Deferred.doneUnsafe(starter, Exit.succeed(answer))
          return undefined
        }),
        () => Effect.andThen(takeDown, Effect.map(Schedule.toStep(life.restart), away))
      )

    /** Whether the schedule has said to go on, after the pause that it wanted. It is the program's, and may fail. */
    const pause = (outage: Step): Effect.Effect<boolean> =>
      Time.nextPause(time, outage, last).pipe(
        Effect.flatMap((millis) =>
          millis === undefined ? Effect.succeed(false) : Effect.as(Time.sleep(time, millis), true)
        ),
        Effect.catchCause((cause) => Effect.as(quietly(Effect.logError("The restart schedule failed", cause)), false))
      )

    const away = (outage: Step): Phase =>
      during(
        pause(outage),
        onStart((starter) => starting([starter], outage)),
        (exit) => {
          if (Exit.isFailure(exit) || !exit.value) return Effect.as(rest, down)
          const told = Effect.logWarning(`etcd ended (${Failures.describeExit(last)}); starting it again`)
          return Effect.as(quietly(told), starting([], outage))
        }
      )

    const live = Effect.gen(function* () {
      let phase: Phase | undefined = down
      while (phase !== undefined) phase = yield* phase
    }).pipe(
      // However it ends, nothing runs on without an owner.
      Effect.ensuring(quietly(takeDown)),
      Effect.ensuring(rest),
      Effect.ensuring(
        Effect.sync(() => {
          isOpen = false
          for (const command of commands.splice(0)) refuse(command)
        })
      )
    )

    const done = (tag: "Stop" | "Close") =>
      Effect.suspend(() => {
        const done = Deferred.makeUnsafe<void>()
        ask({ _tag: tag, done })
        return Deferred.await(done)
      })

    yield* Effect.acquireRelease(Effect.forkDetach(Tracing.inBackground(live)), () => done("Close"))

    return {
      // What is asked for can be taken back from then on.
      start: Effect.uninterruptibleMask((restore) => {
        const starter = Deferred.makeUnsafe<A, Failure>()
        ask({ _tag: "Start", starter })
        return Effect.onInterrupt(restore(Deferred.await(starter)), () => {
          const done = Deferred.makeUnsafe<void>()
          ask({ _tag: "Abandon", starter, done })
          return Deferred.await(done)
        })
      }),
      stop: done("Stop"),
      ended: SubscriptionRef.changes(end).pipe(
        Stream.filter(Option.isSome),
        Stream.runHead,
        Effect.map((found) => Option.getOrThrow(Option.flatten(found)))
      ),
      run: () => run
    }
  })
