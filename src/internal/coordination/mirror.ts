/**
 * What a mirror does in the background: three fibers, which live as long as its scope.
 *
 * - One *follows* a watch, which begins with a snapshot, and hands what it delivers to the copy (`mirrorCopy.ts`).
 * - One *proves*, where somebody waits for a revision, that the view is at it although nothing comes: it asks for the
 *   progress of the watch. Where a server's answer could not be relied on, or none comes, the number of keys and the
 *   latest change among them tell. Those are read in one answer of another revision; if nothing was changed since the
 *   view's, and there are as many keys, then none was deleted either, and the view is what the store was then.
 * - One *looks*, from time to time, how far the store is, by a linearizable read, and waits until the view is there. So
 *   it is known when the view was current last, and noticed if the store has gone back, or if the user may not read it any
 *   more: etcd asks for permissions when a watch begins, and lets it go on.
 *
 * All of it is real time.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdClient from "../../EtcdClient.ts"
import * as EtcdError from "../../EtcdError.ts"
import type * as EtcdKv from "../../EtcdKv.ts"
import type * as EtcdWatch from "../../EtcdWatch.ts"
import * as Time from "../time.ts"
import * as Tracing from "../tracing.ts"
import * as Failures from "./failures.ts"
import { Copy, type Kind } from "./mirrorCopy.ts"

export interface Request<A> {
  readonly kind: Kind<A>
  readonly kv: EtcdKv.Service
  readonly watch: EtcdWatch.Service
  readonly call: Pick<EtcdClient.CallOptions, "endpoint" | "metadata" | "requireLeader">
  /** How often the store is looked at. */
  readonly intervalMillis: number
  readonly time: Time.Time
}

/** The pauses between tries to prove something, in milliseconds. Who comes anew waits for the first at most. */
const firstPause = 50
const longestPause = 1000

/** After so many requests for progress in vain the keys are compared. */
const patientTries = 3

/** How long a look may take until the mirror counts as cut off, and the pause after one that has failed. */
const lookMillis = 5000
const lookAgainMillis = 1000

const regressed = (seen: bigint, current: bigint): EtcdError.EtcdError =>
  EtcdError.make(
    new EtcdError.RevisionRegressed({
      message:
        `The store has gone back while revision ${seen} was waited for: the view is at revision ${current} of another ` +
        "history now, in which that revision means something else.",
      outcome: "not-applied",
      seen,
      current
    })
  )

const closed = EtcdError.make(
  new EtcdError.Unreachable({
    message: "The mirror has ended, because its scope was closed.",
    outcome: "not-applied",
    lasting: true
  })
)

const isUnsupported = (exit: Exit.Exit<unknown, EtcdError.EtcdError>): boolean =>
  Exit.isFailure(exit) &&
  exit.cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error.reason._tag === "Unsupported")

export class Follower<A> {
  readonly copy: Copy<A>
  /** When the view was surely current last, and how far the wall clock was ahead then. */
  private currentAt = Number.NEGATIVE_INFINITY
  private drift = 0
  isConnected = false
  private readonly request: Request<A>
  /** Opens when somebody begins to wait for a revision. */
  private readonly hasWants = Latch.makeUnsafe(false)
  /** Completes when the watch is to be begun anew. */
  private abandoned = Deferred.makeUnsafe<void>()

  constructor(request: Request<A>) {
    this.request = request
    this.copy = new Copy(request.kind)
  }

  /** Where the wall clock has run ahead since, the machine may have been suspended for as long. */
  get age(): number {
    const { time } = this.request
    return time.now() - this.currentAt + Math.max(0, Time.driftOf(time) - this.drift)
  }

  private becomeCurrent(at: number, drift: number): void {
    this.isConnected = true
    if (at <= this.currentAt) return
    this.currentAt = at
    this.drift = drift
  }

  // ── for those who use the mirror ──

  private get failing(): Effect.Effect<void, EtcdError.EtcdError> {
    const { failure } = this.copy
    return failure === undefined ? Effect.void : Effect.failCause(failure)
  }

  /** Waits until the view is at a revision of the history that it is in now. */
  readonly awaitRevision = Effect.fnUntraced(function* (
    this: Follower<A>,
    revision: bigint
  ): Effect.fn.Return<void, EtcdError.EtcdError> {
    const { copy } = this
    const { history } = copy
    yield* copy.reach(revision, () => this.hasWants.openUnsafe())
    yield* this.failing
    if (copy.history !== history) yield* Effect.fail(regressed(revision, copy.revision))
  })

  /** Asks how far the store is, and waits until the view is there. */
  readonly confirm: Effect.Effect<void, EtcdError.EtcdError> = Effect.suspend(() => {
    const { copy, request } = this
    const { history, revision } = copy
    const asked = request.time.now()
    const drift = Time.driftOf(request.time)
    const again = () => this.confirm
    return Effect.flatMap(this.readRevision, (now) => {
      if (copy.history !== history) return again()
      if (now < revision) return Effect.andThen(this.startOver(history), again)
      return this.awaitRevision(now).pipe(
        Effect.andThen(
          Effect.sync(() => {
            this.becomeCurrent(asked, drift)
            copy.tell()
          })
        ),
        Effect.catchReason("EtcdError", "RevisionRegressed", again)
      )
    })
  })

  /** Waits until it has failed. */
  readonly failed: Effect.Effect<never, EtcdError.EtcdError> = Effect.suspend(() =>
    Effect.andThen(
      this.copy.until(() => this.copy.failure !== undefined),
      Effect.suspend(() => Effect.failCause(this.copy.failure!))
    )
  )

  // ── the background ──

  /** Begins, and goes on when the view is known to be current. If it does not come to that, nothing is left. */
  readonly start: Effect.Effect<void, EtcdError.EtcdError, Scope.Scope> = Effect.uninterruptibleMask((restore) =>
    Effect.gen({ self: this }, function* () {
      const scope = yield* Scope.fork(yield* Effect.scope)
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => this.copy.fail(Cause.fail(closed)))
      )
      for (const fiber of [this.follow, this.prove, this.look])
        yield* Effect.forkIn(Tracing.inBackground(Effect.interruptible(fiber)), scope)
      const first = this.copy.until(() => Number.isFinite(this.currentAt) || this.copy.failure !== undefined)
      yield* restore(Effect.andThen(first, () => this.failing)).pipe(
        Effect.onError(() => Scope.close(scope, Exit.void))
      )
    })
  )

  private get readRevision(): Effect.Effect<bigint, EtcdError.EtcdError> {
    const { call, kind, kv } = this.request
    return Effect.map(kv.range(kind.range.key, { ...call, countOnly: true }), ({ header }) => header.revision)
  }

  private readonly follow: Effect.Effect<void> = Effect.suspend(() => {
    const { call, kind, watch } = this.request
    const changes = watch.changes(kind.range, { ...call, snapshot: "first", progress: true, fragment: true })
    const takeAll = Stream.runForEachArray(changes, (changes) => this.copy.take(changes))
    return Effect.forever(
      Effect.suspend(() => {
        this.abandoned = Deferred.makeUnsafe()
        return Effect.raceFirst(takeAll, Deferred.await(this.abandoned))
      })
    )
  }).pipe(Effect.catchCause((cause) => Effect.sync(() => this.copy.fail(cause))))

  /** The store has gone back, and the watch has not noticed yet. */
  private startOver(history: number): Effect.Effect<void, EtcdError.EtcdError> {
    const { copy, request } = this
    return Effect.suspend(() => {
      if (copy.history === history) Deferred.doneUnsafe(this.abandoned, Exit.void)
      // Two stores that answer in turns are not read without a pause.
      return copy
        .until(() => copy.history !== history || copy.failure !== undefined)
        .pipe(Effect.andThen(Time.sleep(request.time, firstPause)), Effect.andThen(Effect.suspend(() => this.failing)))
    })
  }

  private readonly prove: Effect.Effect<never> = Effect.forever(
    Effect.suspend(() => {
      if (this.copy.isWanting) return this.proveAll
      this.hasWants.closeUnsafe()
      return this.hasWants.await
    })
  )

  private readonly proveAll: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const { copy, request } = this
    const isDone = copy.until(() => !copy.isWanting)
    for (let tries = 1; copy.isWanting; tries = this.hasWants.isOpen() ? 1 : tries + 1) {
      this.hasWants.closeUnsafe()
      const asked = Effect.exit(request.watch.requestProgress)
      const exit = yield* Effect.raceFirst(asked, Effect.as(isDone, Exit.void))
      const mustCompare = isUnsupported(exit) || tries % patientTries === 0
      if (mustCompare && copy.isWanting) yield* Effect.ignore(this.compare)
      if (!copy.isWanting) return
      const rest = Math.min(firstPause * 2 ** (tries - 1), longestPause) - firstPause
      const pause = Effect.andThen(
        Time.sleep(request.time, firstPause),
        Effect.raceFirst(this.hasWants.await, Time.sleep(request.time, rest))
      )
      yield* Effect.raceFirst(isDone, pause)
    }
  })

  /** Whether the keys are as they are in the view, at a later revision. */
  private readonly compare: Effect.Effect<void, EtcdError.EtcdError> = Effect.gen({ self: this }, function* () {
    const { copy, request } = this
    // A server reads all of the range for it, which is for nothing where it is not as far as anybody wants.
    if ((yield* this.readRevision) <= copy.revision) return
    const { sequence, history, revision } = copy
    const { count, header, kvs } = yield* request.kv.range(request.kind.range, {
      ...request.call,
      minModRevision: revision + 1n,
      limit: 1,
      keysOnly: true
    })
    const isSame = kvs.length === 0 && count === BigInt(copy.size)
    if (isSame && copy.sequence === sequence && copy.history === history) copy.advance(header.revision)
  })

  private readonly look: Effect.Effect<never> = Effect.suspend(() => {
    const { copy } = this
    const { intervalMillis, time } = this.request
    const giveUp = () =>
      Effect.suspend(() => {
        this.isConnected = false
        return Effect.never
      })
    const looking = Effect.flatMap(Time.patiently(time, Effect.exit(this.confirm), lookMillis, giveUp), (exit) => {
      this.isConnected = Exit.isSuccess(exit)
      if (Exit.isFailure(exit) && Option.exists(Cause.findErrorOption(exit.cause), Failures.isOfUser))
        copy.fail(exit.cause)
      if (copy.failure !== undefined) return Effect.never
      return Time.sleep(time, this.isConnected ? intervalMillis : Math.min(intervalMillis, lookAgainMillis))
    })
    return Effect.andThen(
      copy.until(() => copy.history > 0),
      Effect.forever(looking)
    )
  })
}
