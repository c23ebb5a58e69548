/**
 * Transactions of any reads and writes, against a `Map`: what a body sees while it runs, and what there is afterwards; and,
 * among others, against what the history of the store has just before each and just after.
 */
import { isDeepStrictEqual } from "node:util"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import fc from "fast-check"
import * as EtcdStm from "../../src/coordination/EtcdStm.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { type Fate, losing } from "../support/coordination/losing.ts"

type Model = Map<string, string>

interface Range {
  readonly from: string
  /** Undefined: no end. */
  readonly to: string | undefined
  readonly limit?: number
}

type Step =
  | { readonly _tag: "get"; readonly key: string }
  | { readonly _tag: "put"; readonly key: string; readonly value: string }
  | { readonly _tag: "delete"; readonly key: string }
  | ({ readonly _tag: "range" } & Range)
  | ({ readonly _tag: "deleteRange" } & Range)

const prefix = "model/"
const key = fc.constantFrom("a", "a\0", "aa", "ab", "b", "ba", "c", "\u00ff", "\u{1f600}").map((name) => prefix + name)
const bounds = fc.tuple(key, key).map(([one, other]): Range => {
  const [from, to] = one < other ? [one, other] : [other, one]
  return from === to ? { from, to: undefined } : { from, to }
})

const step: fc.Arbitrary<Step> = fc.oneof(
  key.map((key): Step => ({ _tag: "get", key })),
  fc.record({ _tag: fc.constant("put" as const), key, value: fc.constantFrom("1", "2", "") }),
  key.map((key): Step => ({ _tag: "delete", key })),
  bounds.map((range): Step => ({ _tag: "range", ...range })),
  fc.tuple(bounds, fc.integer({ min: 0, max: 3 })).map(([range, limit]): Step => ({ _tag: "range", ...range, limit })),
  bounds.map((range): Step => ({ _tag: "deleteRange", ...range }))
)

const program = fc.record({
  before: fc.dictionary(key, fc.constantFrom("x", "y"), { maxKeys: 6, noNullPrototype: true }),
  steps: fc.array(step, { maxLength: 14 }),
  receipt: fc.boolean(),
  isolation: fc.constantFrom("serializable-snapshot" as const, "serializable" as const)
})

const rangeOf = ({ from, to }: Range): KeyRange.KeyRange =>
  to === undefined ? KeyRange.from(from) : KeyRange.interval(from, to)

// All keys are of characters whose order is that of their bytes.
const within = ({ from, to }: Range, key: string): boolean => key >= from && (to === undefined || key < to)

const inOrder = (model: Model): ReadonlyArray<string> =>
  [...model].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}=${value}`)

/** What the model shows of a step. */
const onModel = (model: Model, step: Step): unknown => {
  switch (step._tag) {
    case "get":
      return Option.fromUndefinedOr(model.get(step.key))
    case "put":
      return void model.set(step.key, step.value)
    case "delete":
      return void model.delete(step.key)
    case "range":
      return inOrder(new Map([...model].filter(([key]) => within(step, key)))).slice(0, step.limit || undefined)
    case "deleteRange":
      for (const key of [...model.keys()]) if (within(step, key)) model.delete(key)
      return undefined
  }
}

/** What a transaction shows of it. */
const inTransaction = (step: Step): Effect.Effect<unknown, never, EtcdStm.Tx> => {
  switch (step._tag) {
    case "get":
      return EtcdStm.getString(step.key)
    case "put":
      return EtcdStm.put(step.key, step.value)
    case "delete":
      return EtcdStm.delete(step.key)
    case "range":
      return Effect.map(EtcdStm.range(rangeOf(step), { limit: step.limit }), (kvs) =>
        kvs.map((kv) => `${kv.keyString}=${kv.valueString}`)
      )
    case "deleteRange":
      return EtcdStm.delete(rangeOf(step))
  }
}

const fates: ReadonlyArray<Fate> = ["answered", "applied", "lost", "late"]

/** A transaction among others, some of whose answers are lost. */
const transaction = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 6 }),
  fates: fc.oneof(fc.constant([]), fc.array(fc.constantFrom(...fates), { maxLength: 2 })),
  receipt: fc.boolean(),
  isolation: fc.constantFrom("serializable-snapshot" as const, "serializable" as const)
})

const outcomeOf = (exit: Exit.Exit<unknown, EtcdError.EtcdError>) =>
  Exit.isSuccess(exit) ? "applied" : Option.getOrUndefined(Exit.findErrorOption(exit))?.outcome

layer(EtcdLayer.ephemeral({}, { log: false }))((it) => {
  describe("a transaction of any reads and writes", () => {
    it.effect("shows what a Map would, and leaves what a Map would", () =>
      Effect.gen(function* () {
        const kv = yield* EtcdKv.EtcdKv
        const context = yield* Effect.context<EtcdClient.EtcdClient>()
        const run = (given: typeof program extends fc.Arbitrary<infer A> ? A : never) =>
          Effect.gen(function* () {
            const { before, isolation, receipt, steps } = given
            yield* kv.deletePrefix(prefix)
            const model: Model = new Map(Object.entries(before))
            yield* Effect.forEach(model, ([key, value]) => kv.put(key, value), { concurrency: "unbounded" })
            const seen = yield* EtcdStm.tx(Effect.forEach(steps, inTransaction), { isolation, receipt })
            assert.deepStrictEqual(
              seen,
              steps.map((step) => onModel(model, step))
            )
            const { kvs } = yield* kv.range(KeyRange.from(prefix))
            assert.deepStrictEqual(
              kvs.map((kv) => `${kv.keyString}=${kv.valueString}`),
              inOrder(model)
            )
          })
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(program, (given) => Effect.runPromiseWith(context)(run(given))),
            { numRuns: 100 }
          )
        )
      })
    )

    it.effect(
      "among others is as if all of it had happened at the revision of its commit, whatever answers are lost",
      () =>
        Effect.gen(function* () {
          const { endpoints } = yield* EtcdProcess.EtcdProcess
          const kv = yield* EtcdKv.EtcdKv
          const stateAt = (revision: bigint) =>
            Effect.map(
              kv.range(KeyRange.from(prefix), { revision }),
              ({ kvs }): Model => new Map(kvs.map((kv) => [kv.keyString, kv.valueString]))
            )
          const committed: Array<{ readonly steps: ReadonlyArray<Step>; readonly done: EtcdStm.Done<unknown> }> = []
          const program = Effect.gen(function* () {
            const made = yield* EtcdClient.make({ endpoints })
            for (const { fates, isolation, receipt, steps } of fc.sample(transaction, 40)) {
              const { client, landing } = losing(made, fates)
              const exit = yield* EtcdStm.txWithRevision(Effect.forEach(steps, inTransaction), {
                isolation,
                receipt
              }).pipe(Effect.provideService(EtcdClient.EtcdClient, client), Effect.exit)
              yield* landing
              if (Exit.isSuccess(exit)) committed.push({ steps, done: exit.value })
              else assert.deepStrictEqual([outcomeOf(exit), receipt], ["unknown", false])
            }
          })
          yield* Effect.all([program, program, program, program], { concurrency: "unbounded" })
          for (const { done, steps } of committed) {
            const after = yield* stateAt(done.revision)
            const comesFrom = (before: Model) => {
              const model = new Map(before)
              const seen = steps.map((step) => onModel(model, step))
              return isDeepStrictEqual(seen, done.value) && isDeepStrictEqual(inOrder(model), inOrder(after))
            }
            // What changes nothing has no revision of its own.
            const isRight = comesFrom(after) || comesFrom(yield* stateAt(done.revision - 1n))
            assert.isTrue(isRight, `${fc.stringify(steps)} showed ${fc.stringify(done)}`)
          }
        })
    )
  })
})
