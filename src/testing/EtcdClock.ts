/**
 * The clock of this process, which a test moves: the wall clock is set, the process stands still, or its clock is slow or
 * fast; and what of this library is made on it lives by that time.
 *
 * It is *real time* that is moved: that of deadlines, pauses between tries, keep-alives, and of how long leases,
 * sessions and locks are held. It goes on by itself, beside what a test does to it. The `Clock` of a program
 * (`Effect.sleep`, schedules) is another one, which a `TestClock` moves. etcd's own clocks, and those of sockets,
 * nobody moves.
 *
 * | what is done | what it is | leases, sessions and what is held with them |
 * | --- | --- | --- |
 * | {@link Clock.jump} ahead | the wall clock is set, or the machine was suspended | are in doubt until a keep-alive is answered: nothing is held for so long, and nothing acquired |
 * | {@link Clock.jump} back | the wall clock is set | are held as before |
 * | {@link Clock.standStill} | the process was stopped (SIGSTOP, a blocked event loop) | whose time is over are lost, at the next look, though etcd may have them still |
 * | {@link Clock.pace} below 1 | the clock is slow: etcd's leases end sooner than it shows | are kept alive later; what the `margin` allows for, they are lost before they end in etcd |
 * | {@link Clock.pace} above 1 | the clock is fast | are kept alive more often, and lost sooner |
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { EtcdClient, EtcdLayer } from "effect-etcd"
 * import { EtcdSession } from "effect-etcd/coordination"
 * import { EtcdClock } from "effect-etcd/testing"
 *
 * const program = Effect.gen(function*() {
 *   const clock = yield* EtcdClock.make
 *   const client = yield* EtcdClient.EtcdClient
 *   const session = yield* clock.by(EtcdSession.fromClient(client, { ttl: "10 seconds" }))
 *   const current = yield* session.current
 *   yield* clock.standStill("11 seconds")
 *   yield* Console.log(current.isHeldUnsafe()) // false
 *   const { incarnation } = yield* session.current
 *   yield* Console.log(incarnation) // 2
 * })
 *
 * program.pipe(Effect.scoped, Effect.provide(EtcdLayer.ephemeral()))
 * ```
 *
 * @packageDocumentation
 * @since 0.1.0
 */
import type * as EffectClock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as EtcdError from "../EtcdError.ts"
import * as Checks from "../internal/options.ts"
import * as Time from "../internal/time.ts"

/**
 * A time that a test moves. What makes no sense fails with `InvalidArgument`, and moves nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Clock {
  /**
   * Sets the wall clock: ahead, or back by a negative duration. Real time stays, as it does where NTP sets the clock, or the
   * machine was suspended.
   */
  readonly jump: (by: Duration.Input) => Effect.Effect<void, EtcdError.EtcdError>
  /**
   * So much time has passed in which the process did nothing, and no timer has fired yet. Timers fire as if it had not: when
   * they would have by the time that goes on.
   */
  readonly standStill: (duration: Duration.Input) => Effect.Effect<void, EtcdError.EtcdError>
  /**
   * From now on time passes so many times as fast as it does in fact; what waits already waits at the pace that was. At
   * first: 1.
   */
  readonly pace: (times: number) => Effect.Effect<void, EtcdError.EtcdError>
  /** Makes something that lives by this time, or does something by it. */
  readonly by: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** For layers of clients, leases and sessions that are to live by this time: `Layer.provide(clock.layer)`. */
  readonly layer: Layer.Layer<never>
}

const isFinite = (value: unknown, accepts: (millis: number) => boolean): boolean =>
  Option.exists(Checks.durationOf(value), (duration) => {
    const millis = Duration.toMillis(duration)
    return Number.isFinite(millis) && accepts(millis)
  })

const aJump: Checks.Check = {
  accepts: (value) => isFinite(value, () => true),
  due: 'a finite duration, such as "1 hour" or "-5 seconds"'
}

const aStandstill: Checks.Check = {
  accepts: (value) => isFinite(value, (millis) => millis >= 0),
  due: 'a finite duration that is not negative, such as "11 seconds"'
}

const aPace: Checks.Check = {
  accepts: (value) => typeof value === "number" && value > 0 && Number.isFinite(value),
  due: "a positive, finite number, such as 0.9"
}

/**
 * A clock that shows real time until it is moved. Each has its own time.
 *
 * @example
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { EtcdLayer } from "effect-etcd"
 * import { EtcdSession } from "effect-etcd/coordination"
 * import { EtcdClock } from "effect-etcd/testing"
 *
 * // A session whose clock is a fifth slow against etcd's.
 * const slow = Effect.map(Effect.tap(EtcdClock.make, (clock) => clock.pace(0.8)), (clock) =>
 *   EtcdSession.layer.pipe(Layer.provide(clock.layer), Layer.provideMerge(EtcdLayer.ephemeral()))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: Effect.Effect<Clock> = Effect.map(Time.Time, (real) => {
  let pace = 1
  let wallMillis = 0
  /** What this time was, when real time was that. */
  let since = { own: real.now(), real: real.now() }

  const now = () => since.own + (real.now() - since.real) * pace
  const wall = () => now() + Time.driftOf(real) + wallMillis
  const monotonicNanos = () => BigInt(Math.floor(now() * 1_000_000))
  const wallNanos = () => BigInt(Math.floor(wall() * 1_000_000))
  const clock: EffectClock.Clock = {
    currentTimeMillisUnsafe: () => Math.floor(wall()),
    currentTimeMillis: Effect.sync(() => Math.floor(wall())),
    currentTimeNanosUnsafe: wallNanos,
    currentTimeNanos: Effect.sync(wallNanos),
    monotonicTimeNanosUnsafe: monotonicNanos,
    monotonicTimeNanos: Effect.sync(monotonicNanos),
    sleep: (duration) => Effect.suspend(() => real.clock.sleep(Duration.times(duration, 1 / pace)))
  }
  const time: Time.Time = { now, clock }

  const checked = <A>(what: string, check: Checks.Check, value: A, move: (value: A) => void) =>
    Effect.suspend(() => {
      const wrong = Checks.wrongArgument(`EtcdClock.${what}`, "its argument", check, value)
      return wrong ?? Effect.sync(() => move(value))
    })
  const millisOf = (duration: Duration.Input) => Duration.toMillis(Duration.fromInputUnsafe(duration))

  return {
    jump: (by) =>
      checked("jump", aJump, by, () => {
        wallMillis += millisOf(by)
      }),
    standStill: (duration) =>
      checked("standStill", aStandstill, duration, () => {
        since = { ...since, own: since.own + millisOf(duration) }
      }),
    pace: (times) =>
      checked("pace", aPace, times, () => {
        since = { own: now(), real: real.now() }
        pace = times
      }),
    by: Effect.provideService(Time.Time, time),
    layer: Layer.succeed(Time.Time, time)
  }
})
