/**
 * What begins soon begins for whom it was asked for, and not when that is over.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Background from "../../../src/internal/lease/background.ts"
import * as Time from "../../../src/internal/time.ts"

const Around: Context.Reference<string> = Context.Reference("test/Around", { defaultValue: () => "nothing" })

const make = Effect.map(Clock.Clock, (clock) => Background.make(Time.fromClock(clock)))

describe("what begins soon", () => {
  it.effect("does so in what is around whom it is for, though all share a timer", () =>
    Effect.gen(function* () {
      const background = yield* make
      const seen: Array<string> = []
      const look = Effect.map(Around, (around) => seen.push(around))
      yield* Effect.provideService(background.soon(look), Around, "something")
      yield* background.soon(look)
      assert.deepStrictEqual(seen, [])
      yield* TestClock.adjust(20)
      assert.deepStrictEqual(seen, ["something", "nothing"])
    })
  )

  it.effect("does not go on where it is ended before, while or after it begins", () =>
    Effect.gen(function* () {
      const background = yield* make
      const seen: Array<string> = []
      let endWhile = () => {}
      const noting = (name: string, begin: () => void) =>
        Effect.onInterrupt(
          Effect.andThen(
            Effect.sync(() => {
              seen.push(`${name} begins`)
              begin()
            }),
            Effect.never
          ),
          () => Effect.sync(() => seen.push(`${name} ends`))
        )
      const endBefore = yield* background.soon(noting("before", () => {}))
      endWhile = yield* background.soon(noting("while", () => endWhile()))
      const endAfter = yield* background.soon(noting("after", () => {}))
      endBefore()
      yield* TestClock.adjust(20)
      assert.deepStrictEqual(seen, ["while begins", "while ends", "after begins"])
      endAfter()
      assert.deepStrictEqual(seen.slice(3), ["after ends"])
    })
  )
})
