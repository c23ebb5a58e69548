/**
 * What befalls the processes of members, and is taken back.
 *
 * A member is down, and a process stands still, for as long as anybody wants it so: of two faults that overlap the one that
 * ends first takes nothing back.
 *
 * @internal
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { ExitStatus, Node } from "../../EtcdProcess.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Time from "../time.ts"

/** It makes no sense to do this to a member now. */
export class NotNow extends Data.TaggedClass("NotNow")<{
  /** In words that go after the name of the member. */
  readonly why: string
}> {}

export const isNotNow = (error: unknown): error is NotNow => error instanceof NotNow

const refuse = (why: string) => Effect.fail(new NotNow({ why }))

/** Who is at rest says so at once. */
const restMillis = 1000

/** Who has failed to write has ended after that. */
const lastBreathMillis = 250

const notRunning = "does not run"

/** To who waits for a member when the cluster is closed. */
export const closed = EtcdProcessError.make(
  new EtcdProcessError.Stopped({ message: "The scope of the cluster is closed: its members do not come back." })
)

/** The process of a member. */
const pidOf = (node: Node): Effect.Effect<number, NotNow> =>
  Effect.flatMap(node.pid, Option.match({ onNone: () => refuse(notRunning), onSome: (pid) => Effect.succeed(pid) }))

/** Who is stopped, or killed, ends by a signal. */
const isByItself = ({ signal }: ExitStatus): boolean => signal === null

const isGone = (node: Node, pid: number) => Effect.map(node.pid, (now) => !Option.contains(now, pid))

export interface Processes {
  /** Fails if it does not run. */
  readonly runs: (node: Node) => Effect.Effect<void, NotNow>
  /** Fails if it runs, or is going to before somebody asks for it. */
  readonly isStopped: (node: Node) => Effect.Effect<void, NotNow>
  /** Kills it. */
  readonly kill: (node: Node) => Effect.Effect<void, NotNow>
  /** Stops it, as its owner would. */
  readonly stop: (node: Node) => Effect.Effect<void, NotNow>
  /** Lets a member that was killed or stopped come back, if nobody else wants it to be down. It is not waited for. */
  readonly bringBack: (node: Node) => Effect.Effect<void>
  /** Whether a fault wants it to be down, or may have ended it. */
  readonly isAfflicted: (node: Node) => boolean
  /** Starts it again, unless a fault wants it to be down by then. It is not waited for. */
  readonly comeBack: (node: Node) => Effect.Effect<void>
  /**
   * Lets nobody start a member while something is done, by hand either; who would have does so when it is done. For one at a
   * time.
   */
  readonly keepDown: <A, E, R>(node: Node, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /**
   * For what may end a member: answers what starts it again if it has ended by itself meanwhile, or does so in a moment, and
   * no fault wants it to be down. It is not waited for.
   */
  readonly reviving: (node: Node) => Effect.Effect<Effect.Effect<void>>
  /** Kills it and starts it again, and waits until it serves. */
  readonly restart: (node: Node) => Effect.Effect<void, NotNow | EtcdProcessError.EtcdProcessError>
  /** Lets the process stand still until it is let go on, which is what it answers. */
  readonly pause: (node: Node) => Effect.Effect<Effect.Effect<void>, NotNow>
  /** Lets whatever process the member has stand still for a share of each period, for as long as the fiber runs. */
  readonly stall: (node: Node, stillMillis: number, goingMillis: number) => Effect.Effect<never>
  /** Waits for all that were let come back. Fails with why one could not, as long as it is not there. */
  readonly back: Effect.Effect<void, EtcdProcessError.EtcdProcessError>
}

const wantedDown = EtcdProcessError.make(
  new EtcdProcessError.Stopped({ message: "Another fault wants the member to be down: it was not started again." })
)

/**
 * `scope`: that of the members. `gates`: of each by its name, what its starts wait for. `isMember`: one may have left, or
 * another may have taken its place.
 */
export const make = (
  scope: Scope.Scope,
  time: Time.Time,
  gates: ReadonlyMap<string, Latch.Latch>,
  isMember: (node: Node) => boolean
): Processes => {
  /** How many want a member to be down, a process to stand still now, and to do so until they say otherwise. */
  const down = new Map<Node, number>()
  /** How many may end a member that nobody has stopped by hand. */
  const endangered = new Map<Node, number>()
  const still = new Map<number, number>()
  const paused = new Map<number, number>()
  /** How many are about to start a member that they have killed. */
  const restarting = new Map<Node, number>()
  const starts = new Map<Node, Fiber.Fiber<void, EtcdProcessError.EtcdProcessError>>()

  const add = <K>(counts: Map<K, number>, key: K, by: 1 | -1): number => {
    const count = (counts.get(key) ?? 0) + by
    if (count === 0) counts.delete(key)
    else counts.set(key, count)
    return count
  }

  const wantDown = (node: Node) => Effect.sync(() => void add(down, node, 1))

  const gateOf = ({ name }: Node): Latch.Latch => gates.get(name)!

  const killed = (node: Node, pid: number) =>
    Effect.gen(function* () {
      yield* node.signal("SIGKILL")
      // A restart schedule may have brought it back meanwhile.
      const gone = Effect.repeat(Effect.delay(isGone(node, pid), 1), { until: (gone) => gone })
      yield* Effect.raceFirst(Effect.asVoid(node.exit), Effect.asVoid(Time.inRealTime(time, gone)))
    })

  const standStill = (node: Node) =>
    Effect.flatMap(pidOf(node), (pid) => {
      const goOn = Effect.suspend(() =>
        add(still, pid, -1) > 0
          ? Effect.void
          : Effect.flatMap(isGone(node, pid), (gone) =>
              // Somebody else may want it to stand still by now.
              gone || still.has(pid) ? Effect.void : node.signal("SIGCONT")
            )
      )
      add(still, pid, 1)
      return Effect.as(node.signal("SIGSTOP"), goOn)
    })

  /** Starts it in the background, whatever becomes of who asks for it. */
  const startAgain = (node: Node, begin: Effect.Effect<void, EtcdProcessError.EtcdProcessError>) => {
    const start = Effect.tapError(begin, ({ message }) =>
      // Another fault may have ended it meanwhile.
      down.has(node) || !gateOf(node).isOpen() || !isMember(node)
        ? Effect.void
        : Effect.logError(`${node.name} has not come back: ${message}`)
    )
    return Effect.tap(Effect.forkIn(start, scope), (fiber) => Effect.sync(() => void starts.set(node, fiber)))
  }

  const isAfflicted = (node: Node) => down.has(node) || endangered.has(node)

  const unlessDown = (node: Node) => Effect.suspend(() => (down.has(node) ? Effect.void : node.start))

  const comeBack = (node: Node) => Effect.asVoid(startAgain(node, unlessDown(node)))

  /** Whether it neither runs nor is going to before somebody asks for it. */
  const isAtRest = (node: Node) =>
    Time.within(time, Effect.as(node.exit, true), restMillis, () => Effect.succeed(false))

  /** Whether a start that has failed is still why the member does not run: it may be down for another fault. */
  const isMissing = (node: Node) => Effect.map(isAtRest(node), (atRest) => atRest && !down.has(node))

  return {
    runs: (node) => Effect.asVoid(pidOf(node)),
    isStopped: (node) =>
      Effect.gen(function* () {
        if (Option.isSome(yield* node.pid)) yield* refuse("runs: stop it first, or kill it")
        const start = starts.get(node)
        const isStarting = restarting.has(node) || (start !== undefined && start.pollUnsafe() === undefined)
        if (isStarting || !(yield* isAtRest(node))) yield* refuse("is being started, or about to be")
      }),
    // Wanted first, so that a start that it cuts off is nothing to be told of.
    kill: (node) => Effect.flatMap(pidOf(node), (pid) => Effect.andThen(wantDown(node), killed(node, pid))),
    stop: (node) =>
      Effect.gen(function* () {
        const pid = yield* pidOf(node)
        if (paused.has(pid)) yield* refuse("stands still, and so cannot end by itself: kill it")
        yield* wantDown(node)
        yield* node.stop
      }),
    bringBack: (node) => Effect.suspend(() => (add(down, node, -1) > 0 ? Effect.void : comeBack(node))),
    isAfflicted,
    comeBack,
    keepDown: (node, effect) =>
      Effect.acquireUseRelease(
        gateOf(node).close,
        () => effect,
        () => gateOf(node).open
      ),
    reviving: (node) =>
      Effect.map(node.pid, (pid) => {
        if (Option.isNone(pid) && !isAfflicted(node)) return Effect.void
        add(endangered, node, 1)
        const hasEnded = Time.within(time, Effect.map(node.exit, isByItself), lastBreathMillis, () =>
          Effect.succeed(false)
        )
        const revived = Effect.flatMap(hasEnded, (ended) => (ended ? unlessDown(node) : Effect.void))
        return Effect.suspend(() =>
          add(endangered, node, -1) > 0 ? Effect.void : Effect.asVoid(startAgain(node, revived))
        )
      }),
    restart: (node) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.acquireUseRelease(
          Effect.sync(() => add(restarting, node, 1)),
          () =>
            Effect.gen(function* () {
              yield* killed(node, yield* pidOf(node))
              return yield* startAgain(
                node,
                Effect.suspend(() => (down.has(node) ? Effect.fail(wantedDown) : node.start))
              )
            }),
          () => Effect.sync(() => add(restarting, node, -1))
        ).pipe(
          Effect.flatMap((start) => restore(Fiber.await(start))),
          Effect.flatMap((exit) => (Exit.hasInterrupts(exit) ? Effect.fail(closed) : exit))
        )
      ),
    pause: (node) =>
      Effect.gen(function* () {
        const pid = yield* pidOf(node)
        const goOn = yield* standStill(node)
        add(paused, pid, 1)
        return Effect.suspend(() => {
          add(paused, pid, -1)
          return goOn
        })
      }),
    stall: (node, stillMillis, goingMillis) =>
      Effect.acquireUseRelease(
        Effect.orElseSucceed(standStill(node), () => Effect.void),
        () => Time.sleep(time, stillMillis),
        (goOn) => goOn
      ).pipe(Effect.andThen(Time.sleep(time, goingMillis)), Effect.forever),
    back: Effect.suspend(() =>
      Effect.forEach(
        starts,
        ([node, fiber]) =>
          Effect.gen(function* () {
            const exit = yield* Fiber.await(fiber)
            if (
              Exit.isFailure(exit) &&
              !Exit.hasInterrupts(exit) &&
              gateOf(node).isOpen() &&
              isMember(node) &&
              (yield* isMissing(node))
            ) {
              yield* exit
            }
            if (starts.get(node) === fiber && gateOf(node).isOpen()) starts.delete(node)
          }),
        { discard: true }
      )
    )
  }
}
