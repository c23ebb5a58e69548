/**
 * What every operation has in common: it looks first, and says what it would do as a list of steps; then it does them one
 * after another, tells of each, and answers with what was done. Where it was ended half-way, the list that it makes the next
 * time is of what is left to do.
 *
 * Where the cluster has a quorum, one operation is under way at a time: it holds a lock in the cluster. Those of one program
 * on a cluster that runs there take turns also without it.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { PlatformError } from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type * as Semaphore from "effect/Semaphore"
import * as EtcdLock from "../../coordination/EtcdLock.ts"
import * as EtcdSession from "../../coordination/EtcdSession.ts"
import type * as EtcdClient from "../../EtcdClient.ts"
import type * as EtcdError from "../../EtcdError.ts"
import type { LeaseId } from "../../EtcdId.ts"
import * as EtcdKv from "../../EtcdKv.ts"
import { ClusterRefused, type Finding, OperationFailed } from "../../EtcdOperationError.ts"
import type { Options, Report, StepReport } from "../../EtcdOperations.ts"
import type { EtcdProcessError } from "../../EtcdProcessError.ts"
import * as Json from "../json.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"

/** What may go wrong in a step. */
export type Failure = EtcdError.EtcdError | EtcdProcessError | PlatformError | ClusterRefused

/** Tells of what a step is doing. */
export type Tell = (detail: string) => Effect.Effect<void>

/** A failure of what the caller has brought along, which is no failure of the operation's own: it is the caller's as it is. */
export class Passed<E> {
  readonly _tag = "Passed"
  readonly error: E
  constructor(error: E) {
    this.error = error
  }
}

export interface Step<E = never, R = never> {
  /** What it does, as in "promote node3". */
  readonly title: string
  /** Does it, and answers what is to be told of that. */
  readonly run: (tell: Tell) => Effect.Effect<string | undefined, Failure | Passed<E>, R>
  /** Whether the cluster may decide nothing meanwhile, so that no lock could be held. */
  readonly takesQuorum?: boolean | undefined
}

export interface Operation<E = never, R = never> {
  readonly name: string
  /** The client of the cluster, where it has a quorum, so that a lock can be held in it. */
  readonly client: EtcdClient.Client | undefined
  /** Whose turn it is of the operations on a cluster that runs here: also where no lock can be held, or it may be lost. */
  readonly turn?: Semaphore.Semaphore | undefined
  /** Whether it hands on nobody's data, so that it may be done while some of them may be corrupt. */
  readonly sparesData?: boolean | undefined
  /** Looks at the cluster as it is now, and answers what is to be done, or refuses. It changes nothing. */
  readonly plan: Effect.Effect<ReadonlyArray<Step<E, R>>, Failure, R>
}

/** The lock that operations hold. What is killed in one keeps the next one waiting for so long. */
const operationsLock = EtcdLock.make("effect-etcd/operations", { fence: false })
const lockTimeToLive = "10 seconds"

/** Makes the refusal of an operation. */
export type Refuse = (finding: Finding, evidence: ReadonlyArray<string>, help: string) => ClusterRefused

export const refusal =
  (operation: string): Refuse =>
  (finding, evidence, help) =>
    new ClusterRefused({
      operation,
      finding,
      evidence,
      help,
      message: `${operation} was refused (${finding}): ${evidence.join("; ")}. ${help} Nothing was done.`
    })

/** Why a step failed, without the full stop. */
const sentenceOf = (cause: OperationFailed["cause"]): string => {
  // What is found out in a step was no refusal: something may have been done.
  if (cause._tag === "ClusterRefused") return `${cause.evidence.join("; ")}. ${cause.help}`.replace(/\.$/, "")
  // That a disk is full, say, is in what the system said, and not in what is made of it.
  const system = cause._tag === "PlatformError" ? cause.reason.cause : undefined
  return `${cause.message.replace(/\.$/, "")}${system instanceof Error ? `: ${system.message}` : ""}`
}

const failed = (
  operation: string,
  step: string,
  done: ReadonlyArray<StepReport>,
  of: number,
  cause: OperationFailed["cause"]
): OperationFailed =>
  new OperationFailed({
    operation,
    step,
    done,
    cause,
    message:
      `${operation} stopped at step ${done.length + 1} of ${of} (${step}): ${sentenceOf(cause)}. ` +
      `${done.length === 0 ? "Nothing was done before" : `Done before: ${done.map(({ title }) => title).join(", ")}`}. ` +
      "Run it again when the cause is gone: it goes on from where the cluster is then."
  })

const isPassed = <E>(cause: Failure | Passed<E>): cause is Passed<E> => cause._tag === "Passed"

interface Progress {
  step: string
  of: number
  readonly done: Array<StepReport>
}

const runAll = <E, R>(
  name: string,
  steps: ReadonlyArray<Step<E, R>>,
  progress: Progress,
  { onProgress = () => Effect.void }: Options,
  time: Time.Time
): Effect.Effect<void, OperationFailed | Passed<E>, R> =>
  Effect.forEach(
    steps,
    ({ run, title }, index) =>
      Effect.gen(function* () {
        progress.step = title
        progress.of = steps.length
        const tell = (detail?: string) =>
          Effect.andThen(
            Effect.logInfo(
              `${name} ${index + 1}/${steps.length}: ${title}${detail === undefined ? "" : `: ${detail}`}`
            ),
            onProgress({ operation: name, step: title, index, total: steps.length, detail })
          )
        yield* tell()
        const begun = time.now()
        const doing = Tracing.traced(run(tell), `${name} step`, () => ({
          attributes: { "etcd.operation.step": title }
        }))
        const detail = yield* Effect.mapError(doing, (cause) =>
          isPassed(cause) ? cause : failed(name, title, progress.done, steps.length, cause)
        )
        const took = Duration.millis(time.now() - begun)
        if (typeof detail === "string") yield* tell(detail)
        progress.done.push(Json.answer<StepReport>({ title, outcome: "done", detail: detail ?? undefined, took }))
      }),
    { discard: true }
  )

/** What an operation that is under way has. */
interface Ongoing {
  readonly turn: Semaphore.Semaphore | undefined
  /** That of its lock. */
  lease?: LeaseId
  isOver: boolean
}

/** Those that are told of by what runs. One that it begins on the same cluster would wait for itself. */
const Around: Context.Reference<ReadonlyArray<Ongoing>> = Context.Reference("effect-etcd/operations/Around", {
  defaultValue: (): ReadonlyArray<Ongoing> => []
})

/** Whose operation is under way. */
const holderOf = (client: EtcdClient.Client) =>
  EtcdLock.line(operationsLock).pipe(
    Effect.provideService(EtcdKv.EtcdKv, EtcdKv.fromClient(client)),
    Effect.map(([holder]) => holder),
    Effect.orElseSucceed(() => undefined)
  )

/** Runs it while the lock is held. Where that may be lost, it goes on nevertheless. */
const underLock = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  mayLoseIt: boolean
): Effect.Effect<A, E | EtcdLock.LockLost | EtcdError.EtcdError, R | EtcdSession.EtcdSession> =>
  mayLoseIt
    ? Effect.acquireUseRelease(
        Scope.make(),
        (scope) => Effect.andThen(Scope.provide(EtcdLock.acquire(operationsLock), scope), effect),
        Scope.close
      )
    : EtcdLock.withLock(effect, operationsLock)

/** Whether it is an alarm that keeps the cluster from taking a lock, and that can be done without one. */
const goesWithout = ({ reason }: EtcdError.EtcdError, sparesData: boolean): boolean =>
  reason._tag === "NoSpace" || (reason._tag === "Corrupt" && sparesData)

/** Whether a failure to plan may be due to what somebody else is doing, and be over when that is done. */
const mayPass = (failure: ClusterRefused | OperationFailed | { readonly _tag: "Passed" }): boolean =>
  failure._tag === "ClusterRefused" && failure.finding !== "no-quorum"

/** Plans, and, unless that is all that is wanted, does it. */
export const perform = <E = never, R = never>(
  { client, name, plan, sparesData = false, turn }: Operation<E, R>,
  options: Options = {}
): Effect.Effect<Report, ClusterRefused | OperationFailed | E, R> =>
  Effect.gen(function* () {
    const time = yield* Time.Time
    // What the program is told of runs by its own clock.
    const clock = yield* Clock.Clock
    const { dryRun = false, onProgress } = options
    const around = yield* Around
    const own: Ongoing = { turn, isOver: false }
    const telling: Options =
      onProgress === undefined
        ? {}
        : {
            onProgress: (progress) =>
              onProgress(progress).pipe(
                Effect.provideService(Around, [...around, own]),
                Effect.provideService(Clock.Clock, clock)
              )
          }
    const begun = time.now()
    const report = (steps: ReadonlyArray<StepReport>): Report =>
      Json.answer({ operation: name, dryRun, steps, took: Duration.millis(time.now() - begun) })
    const progress: Progress = { step: "look at the cluster", of: 1, done: [] }
    const failure = (cause: OperationFailed["cause"]) => failed(name, progress.step, progress.done, progress.of, cause)
    const look = Effect.mapError(plan, (cause) => (cause._tag === "ClusterRefused" ? cause : failure(cause)))

    const performed = Effect.gen(function* () {
      const first = yield* Effect.result(look)
      const isOfNoUse = client === undefined || dryRun || (Result.isFailure(first) && !mayPass(first.failure))
      const holder = isOfNoUse ? undefined : yield* holderOf(client)
      // What another operation does may be why: a member that it starts again does not answer.
      if (Result.isFailure(first) && holder === undefined) return yield* Effect.fail(first.failure)
      const planned = Result.getOrElse(first, (): ReadonlyArray<Step<E, R>> => [])
      if (dryRun) {
        return report(
          planned.map(({ title }) =>
            Json.answer<StepReport>({ title, outcome: "planned", detail: undefined, took: Duration.zero })
          )
        )
      }
      if (Result.isSuccess(first) && planned.length === 0) return report([])
      const doAll = (steps: ReadonlyArray<Step<E, R>>) => runAll(name, steps, progress, telling, time)
      if (client === undefined && turn === undefined) {
        yield* doAll(planned)
        return report(progress.done)
      }
      const waitsForItself = around.some(
        ({ isOver, lease, turn: taken }) =>
          !isOver && ((taken !== undefined && taken === turn) || (holder !== undefined && lease === holder.lease))
      )
      if (waitsForItself) {
        const evidence = [
          "it was begun in onProgress of another operation on this cluster, which goes on only after that"
        ]
        return yield* Effect.fail(refusal(name)("changed", evidence, "Begin it when the other one has ended."))
      }
      progress.step = "wait for other operations"
      if (holder !== undefined) yield* Effect.logInfo(`${name} waits for the operation of ${holder.owner}`)
      // What was seen may be past by the time that the lock is held.
      const again = Effect.flatMap(look, doAll)
      const lookAgain = turn === undefined ? again : turn.withPermit(again)
      if (client === undefined) {
        yield* lookAgain
        return report(progress.done)
      }
      let isHeld = false
      const mayLoseIt = planned.some(({ takesQuorum }) => takesQuorum === true)
      const holding = Effect.gen(function* () {
        isHeld = true
        const session = yield* EtcdSession.EtcdSession
        own.lease = (yield* session.current).id
        yield* lookAgain
      })
      yield* underLock(holding, mayLoseIt).pipe(
        Effect.provideServiceEffect(EtcdSession.EtcdSession, EtcdSession.fromClient(client, { ttl: lockTimeToLive })),
        Effect.scoped,
        Effect.catchIf(
          (cause) => cause._tag === "EtcdError" && goesWithout(cause, sparesData) && !isHeld && holder === undefined,
          () => lookAgain
        ),
        Effect.mapError((cause) => (cause._tag === "LockLost" || cause._tag === "EtcdError" ? failure(cause) : cause))
      )
      return report(progress.done)
    })
    const over = Effect.sync(() => {
      own.isOver = true
    })
    return yield* Time.inRealTime(time, performed).pipe(
      Effect.ensuring(over),
      Effect.mapError((cause) => (cause._tag === "Passed" ? cause.error : cause))
    )
  })

/** A step of steps that can only be planned when it is their turn. */
export const composite = (title: string, plan: Effect.Effect<ReadonlyArray<Step>, Failure>): Step => ({
  title,
  run: (tell) =>
    Effect.gen(function* () {
      for (const step of yield* plan) {
        yield* tell(step.title)
        const detail = yield* step.run(tell)
        if (detail !== undefined) yield* tell(`${step.title}: ${detail}`)
      }
      return undefined
    })
})
