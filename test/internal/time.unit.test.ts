/**
 * Real time: it goes on whatever the clocks of the program and of the wall say, and does not blame a server for the time
 * in which this process stood still.
 */
import * as net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Time from "../../src/internal/time.ts"
import { standStill } from "../support/machine.ts"
import { byTestClock, wallClock } from "../support/time.ts"

const real = Context.get(Context.empty(), Time.Time)

const outOfPatience = (millis: number) =>
  Effect.callback<void>((resume) => {
    const stop = Time.patience(millis, () => resume(Effect.void))
    return Effect.sync(stop)
  })

describe("real time", () => {
  it.effect("goes on while a test clock stands still", () =>
    Effect.gen(function* () {
      const before = real.now()
      yield* Time.sleep(real, 5)
      yield* Time.inRealTime(real, Effect.sleep("5 millis"))
      assert.isAtLeast(real.now() - before, 9)
    })
  )

  it.live("goes on when the wall clock is set back", () =>
    Effect.gen(function* () {
      const clock = yield* wallClock
      const before = real.now()
      clock.step(-3_600_000)
      yield* Time.sleep(real, 5)
      assert.isAtLeast(real.now(), before)
      assert.isBelow(real.now(), before + 60_000)
    }).pipe(Effect.scoped)
  )

  it.effect("is that of a clock where a test says so", () =>
    Effect.gen(function* () {
      const time = yield* byTestClock(Time.Time)
      const waiting = yield* Effect.forkChild(
        Time.within(time, Effect.never, 1000, () => Effect.succeed("too late" as const))
      )
      yield* TestClock.adjust("999 millis")
      assert.strictEqual(waiting.pollUnsafe(), undefined)
      assert.strictEqual(time.now(), 999)
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(yield* Fiber.join(waiting), "too late")
    })
  )
})

describe("patience", () => {
  it.live("does not run out before what came is read, however long this process stood still", () =>
    Effect.gen(function* () {
      const server = yield* Effect.acquireRelease(
        Effect.callback<net.Server>((resume) => {
          const server = net.createServer((socket) => socket.pipe(socket))
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = server.address() as net.AddressInfo
      const socket = yield* Effect.acquireRelease(
        Effect.callback<net.Socket>((resume) => {
          const socket = net.connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
        }),
        (socket) => Effect.sync(() => socket.destroy())
      )
      const happened: Array<string> = []
      socket.on("data", () => happened.push("heard"))
      socket.write("?")
      const fiber = yield* Effect.forkChild(
        Effect.andThen(
          outOfPatience(20),
          Effect.sync(() => happened.push("out of patience"))
        ),
        { startImmediately: true }
      )
      yield* standStill(500)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(happened, ["heard", "out of patience"])
    }).pipe(Effect.scoped)
  )

  it.live("runs out where this process stands still again and again", () =>
    Effect.gen(function* () {
      const blocking = setInterval(() => Effect.runSync(standStill(150)), 1)
      yield* outOfPatience(300).pipe(Effect.ensuring(Effect.sync(() => clearInterval(blocking))))
    })
  )
})
