import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Time from "../../src/internal/time.ts"
import * as EtcdClock from "../../src/testing/EtcdClock.ts"
import { reasonOf, start } from "../support/effects.ts"
import { byTestClock } from "../support/time.ts"

/** What a clock shows to who is made by it. */
const shown = (clock: EtcdClock.Clock) => clock.by(Effect.map(Time.Time, (time) => time))

/** A clock on a time in which nothing moves by itself. */
const still = byTestClock(EtcdClock.make)

describe("EtcdClock", () => {
  it.effect("shows real time until it is moved", () =>
    Effect.gen(function* () {
      const time = yield* shown(yield* still)
      for (const duration of ["1 minute", "1 hour"] as const) {
        yield* TestClock.adjust(duration)
        const now = yield* Clock.currentTimeMillis
        assert.strictEqual(time.clock.currentTimeMillisUnsafe(), now)
        assert.strictEqual(time.now(), Number(yield* Clock.monotonicTimeNanos) / 1_000_000)
        assert.strictEqual(yield* time.clock.currentTimeNanos, BigInt(now) * 1_000_000n)
      }
    })
  )

  it.effect("jumps on the wall, ahead and back, and nowhere else", () =>
    Effect.gen(function* () {
      const clock = yield* still
      const time = yield* shown(clock)
      const before = { now: time.now(), wall: yield* time.clock.currentTimeMillis }
      yield* clock.jump("1 hour")
      assert.strictEqual(yield* time.clock.currentTimeMillis, before.wall + 3_600_000)
      yield* clock.jump("-2 hours")
      assert.strictEqual(yield* time.clock.currentTimeMillis, before.wall - 3_600_000)
      assert.strictEqual(time.now(), before.now)
    })
  )

  it.effect("shows the time in which the process stood still, and fires no timer for it", () =>
    Effect.gen(function* () {
      const clock = yield* still
      const time = yield* shown(clock)
      const before = { now: time.now(), drift: Time.driftOf(time) }
      const sleeper = yield* start(Time.sleep(time, 1000))
      yield* clock.standStill("5 seconds")
      assert.strictEqual(time.now(), before.now + 5000)
      assert.strictEqual(Time.driftOf(time), before.drift)
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(sleeper.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(sleeper)
    })
  )

  it.effect("goes on at another pace, as those do who wait from then on", () =>
    Effect.gen(function* () {
      const clock = yield* still
      const time = yield* shown(clock)
      const before = { now: time.now(), wall: yield* time.clock.currentTimeMillis }
      yield* clock.pace(0.5)
      assert.strictEqual(time.now(), before.now)
      const sleeper = yield* start(Time.sleep(time, 1000))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(time.now(), before.now + 500)
      assert.strictEqual(yield* time.clock.currentTimeMillis, before.wall + 500)
      assert.isUndefined(sleeper.pollUnsafe())
      yield* clock.pace(4)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(time.now(), before.now + 4500)
      yield* Fiber.join(sleeper)
    })
  )

  it.effect("is there for layers, and is another one for each who makes it", () =>
    Effect.gen(function* () {
      const [one, other] = yield* Effect.all([still, still])
      yield* one.standStill("1 minute")
      const seen: Array<Time.Time> = []
      const layer = Layer.effectDiscard(Effect.map(Time.Time, (time) => seen.push(time)))
      yield* Effect.scoped(Layer.build(Layer.provide(layer, one.layer)))
      assert.deepStrictEqual(seen, [yield* shown(one)])
      assert.strictEqual(seen[0]!.now() - (yield* shown(other)).now(), 60_000)
    })
  )

  it.effect("is not moved by what makes no sense", () =>
    Effect.gen(function* () {
      const clock = yield* still
      const time = yield* shown(clock)
      const before = time.now()
      for (const move of [
        clock.jump(Duration.infinity),
        clock.jump("soon" as never),
        clock.standStill("-1 second"),
        clock.standStill(Number.NaN),
        clock.pace(0),
        clock.pace(Number.POSITIVE_INFINITY),
        clock.pace("2" as never)
      ]) {
        assert.strictEqual((yield* reasonOf(move))._tag, "InvalidArgument")
      }
      yield* TestClock.adjust("1 second")
      assert.strictEqual(time.now(), before + 1000)
      assert.strictEqual(Time.driftOf(time), 0)
    })
  )
})
