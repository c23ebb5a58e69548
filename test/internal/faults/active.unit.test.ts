import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Active from "../../../src/internal/faults/active.ts"
import { start } from "../../support/effects.ts"
import { turns } from "../../support/time.ts"

/** Who waits for it cannot be interrupted: it is opened where a test fails, too. */
const gate = Effect.acquireRelease(Deferred.make<void>(), (gate) => Deferred.succeed(gate, undefined))

const make = () => Active.make((fault, why) => Effect.fail(`${fault}: ${why}`))

it.effect("A fault that somebody takes back is over for all who want that when it has been taken back", () =>
  Effect.gen(function* () {
    const { all, begin, heal } = make()
    const goOn = yield* gate
    const scope = yield* Scope.make()
    yield* Scope.provide(begin("harm", "node0", Effect.succeed(Deferred.await(goOn))), scope)
    const waiting = [yield* start(heal), yield* start(Scope.close(scope, Exit.void)), yield* start(heal)]
    yield* turns(10)
    assert.deepStrictEqual(yield* all, [])
    for (const fiber of waiting) assert.isUndefined(fiber.pollUnsafe())
    yield* Deferred.succeed(goOn, undefined)
    for (const fiber of waiting) yield* Fiber.join(fiber)
  })
)

it.effect("Who closes waits for what is being done, which is refused and undone", () =>
  Effect.gen(function* () {
    const { begin, close, during } = make()
    const goOn = yield* gate
    const done: Array<string> = []
    const see = (what: string) => Effect.sync(() => void done.push(what))
    const beginning = yield* start(
      Effect.flip(Effect.scoped(begin("harm", "node0", Effect.as(Deferred.await(goOn), see("undone")))))
    )
    const copying = yield* start(during("copy", Effect.andThen(Deferred.await(goOn), see("copied"))))
    const closing = yield* start(Effect.andThen(close, see("closed")))
    yield* turns(10)
    assert.deepStrictEqual(done, [])
    yield* Deferred.succeed(goOn, undefined)
    assert.strictEqual(yield* Fiber.join(beginning), "harm: the cluster is closed.")
    yield* Effect.all([Fiber.join(copying), Fiber.join(closing)])
    assert.deepStrictEqual(done.toSorted(), ["closed", "copied", "undone"])
    assert.strictEqual(done.at(-1), "closed")
    assert.strictEqual(yield* Effect.flip(during("copy", Effect.void)), "copy: the cluster is closed.")
  })
)

it.effect("A fault that cannot be taken back keeps no other from that, and nobody who closes from waiting", () =>
  Effect.gen(function* () {
    const { all, begin, close, during, heal } = make()
    const goOn = yield* gate
    const done: Array<string> = []
    const see = (what: string) => Effect.sync(() => void done.push(what))
    const scope = yield* Scope.make()
    const beginAll = Effect.gen(function* () {
      yield* begin("first", "node0", Effect.succeed(see("first")))
      yield* begin("second", "node0", Effect.succeed(Effect.die("no such file")))
      yield* begin("third", "node0", Effect.succeed(see("third")))
    }).pipe(Scope.provide(scope))
    yield* beginAll
    assert.isTrue(Exit.hasDies(yield* Effect.exit(heal)))
    assert.deepStrictEqual(done.splice(0), ["third", "first"])
    assert.deepStrictEqual(yield* all, [])
    yield* beginAll
    yield* start(during("copy", Effect.andThen(Deferred.await(goOn), see("copied"))))
    const closing = yield* start(close)
    yield* turns(10)
    assert.deepStrictEqual(done, ["third", "first"])
    assert.isUndefined(closing.pollUnsafe())
    yield* Deferred.succeed(goOn, undefined)
    assert.isTrue(Exit.hasDies(yield* Fiber.await(closing)))
    assert.deepStrictEqual(done, ["third", "first", "copied"])
  })
)
