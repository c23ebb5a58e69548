/**
 * Which time is which.
 *
 * There are two kinds. What talks to a real server or process runs on **real time**: deadlines, pauses between tries,
 * dials, keep-alives, leases, the ages of calls. What a program means, and waits for itself, is its own `Clock`:
 * `Effect.sleep`, `Effect.timeout` and schedules around a call. So a `TestClock` neither freezes a keep-alive nor ends a
 * lease, and a test that never moves it can still connect.
 *
 * Real time is monotonic: it goes on at the same pace when the wall clock is set, which NTP and resumed machines do. It
 * does not count the time for which the machine itself was suspended.
 *
 * And time in which this process stood still (a long computation, a collection of garbage, SIGSTOP) is nobody else's
 * fault: a timer that is overdue fires before the sockets are read, though the answer may be in them. Therefore whoever
 * would blame a server for its silence asks {@link patience} how long it was really listened to.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"

/** The longest time that `setTimeout` takes, in milliseconds. */
export const longestTimer = 0x7fffffff

export interface Time {
  /** Milliseconds that never go back. Beside each other they are since the epoch, so that a schedule may take them. */
  readonly now: () => number
  /** For effects that wait by themselves, such as those with a schedule. */
  readonly clock: Clock.Clock
}

const { timeOrigin } = performance

const live: Time = {
  now: () => timeOrigin + performance.now(),
  clock: Clock.Clock.defaultValue()
}

/** Real time, unless a test puts a clock of its own in its place. */
export const Time: Context.Reference<Time> = Context.Reference("effect-etcd/Time", { defaultValue: () => live })

/** A clock as real time, for tests that move it. */
export const fromClock = (clock: Clock.Clock): Time => ({
  now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1_000_000,
  clock
})

/** How far the wall clock is ahead of real time. It runs ahead while the machine is suspended, and where it is set. */
export const driftOf = (time: Time): number => time.clock.currentTimeMillisUnsafe() - time.now()

/** Runs an effect in real time, with all that waits in it. */
export const inRealTime = <A, E, R>(time: Time, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(effect, Clock.Clock, time.clock)

/** As {@link inRealTime}, for those who have no time at hand. */
export const really = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Time, (time) => inRealTime(time, effect))

export const sleep = (time: Time, millis: number): Effect.Effect<void> => time.clock.sleep(Duration.millis(millis))

/** Ends an effect that takes longer, and goes on with another one. */
export const within = <A, E, R, A2, E2, R2>(
  time: Time,
  effect: Effect.Effect<A, E, R>,
  millis: number,
  orElse: () => Effect.Effect<A2, E2, R2>
): Effect.Effect<A | A2, E | E2, R | R2> => Effect.raceFirst(effect, Effect.flatMap(sleep(time, millis), orElse))

/** Pauses that are twice as long each time, up to the longest, with jitter, for ever. */
export const pauses = (first: Duration.Input, longest: Duration.Input): Schedule.Schedule<unknown> =>
  Schedule.exponential(first).pipe(
    Schedule.modifyDelay(({ duration }) => Effect.succeed(Duration.min(duration, Duration.fromInputUnsafe(longest)))),
    Schedule.jittered
  )

/** What a schedule does when it is asked. */
export type Step<Input> = (now: number, input: Input) => Pull.Pull<[unknown, Duration.Duration], never, unknown>

/** The next pause of a schedule, in milliseconds; `undefined` where it has ended. */
export const nextPause = <Input>(time: Time, step: Step<Input>, input: Input): Effect.Effect<number | undefined> =>
  Pull.catchDone(
    Effect.map(step(time.now(), input), ([, pause]): number | undefined => Duration.toMillis(pause)),
    () => Effect.undefined
  )

/** Lets what has come over the sockets be read: a timer fires before they are. */
export const reading: Effect.Effect<void> = Effect.callback((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

/** A timer that fires so much later was kept from it. */
const standstillMillis = 100

/** For how much longer somebody is waited for whose time was over so late: as long as this process stood still. */
const secondChance = (late: number, allowance: number): number =>
  late > standstillMillis ? Math.min(late, allowance) : 0

/**
 * As {@link within}, for what somebody else is to do: it is given up after what had come by then was read. The time for
 * which this process stood still is waited for once more, up to as long again in all.
 */
export const patiently = <A, E, R, A2, E2, R2>(
  time: Time,
  effect: Effect.Effect<A, E, R>,
  millis: number,
  orElse: () => Effect.Effect<A2, E2, R2>
): Effect.Effect<A | A2, E | E2, R | R2> => {
  const wait = (span: number, allowance: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const due = time.now() + span
      return Effect.flatMap(sleep(time, span), () => {
        const again = secondChance(time.now() - due, allowance)
        return again > 0 ? wait(again, allowance - again) : reading
      })
    })
  return Effect.raceFirst(effect, Effect.flatMap(wait(millis, millis), orElse))
}

/** How long reading on may take, and how long nothing more comes when that was all. */
const longestReading = 1000
const quietMillis = 100

/**
 * Goes on when all is read that had come before a timer fired, which it did so many milliseconds too late. That may be
 * more than is read at once, and whoever sent it may wait for room to send the rest. So where this process stood still,
 * it is read on while more is heard, for no longer than it stood still, and a second at most.
 */
export const whenRead = (heard: () => number, lateMillis: number, goOn: () => void): void => {
  const patientUntil = performance.now() + (lateMillis > standstillMillis ? Math.min(lateMillis, longestReading) : 0)
  const read = (before: number): void =>
    void setImmediate(() => {
      const now = heard()
      if (now === before || performance.now() >= patientUntil) goOn()
      else setTimeout(read, quietMillis, now).unref()
    })
  read(heard())
}

/**
 * Calls back when somebody was listened to for so long, and after what had come by then was read. The time for which
 * this process stood still is waited for once more, up to as long again in all. Returns what stops it. It keeps no
 * process alive.
 */
export const patience = (millis: number, runOut: () => void): (() => void) => {
  let timer: NodeJS.Timeout | undefined
  let reading: NodeJS.Immediate | undefined
  const wait = (span: number, allowance: number): void => {
    const due = performance.now() + span
    const onDue = () => {
      const again = secondChance(performance.now() - due, allowance)
      if (again > 0) wait(again, allowance - again)
      else reading = setImmediate(runOut)
    }
    timer = setTimeout(onDue, span).unref()
  }
  const span = Math.min(millis, longestTimer)
  wait(span, span)
  return () => {
    clearTimeout(timer)
    clearImmediate(reading)
  }
}
