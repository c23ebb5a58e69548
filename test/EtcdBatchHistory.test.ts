/**
 * Random calls at the same time, on few keys, over a real etcd. What each caller was told must agree with the store's
 * history, and with what was acknowledged before it called. The calls go with and without batching, so that what is
 * demanded here is known to hold for etcd itself.
 */
import { assert, describe, layer } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as EtcdBatch from "../src/EtcdBatch.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import type * as EtcdResponse from "../src/EtcdResponse.ts"
import * as KeyRange from "../src/KeyRange.ts"

const Operation = Schema.Struct({
  _tag: Schema.Literals(["get", "put", "keep", "delete"]),
  key: Schema.Literals(["a", "b", "c", "d"]),
  previous: Schema.Boolean
})
type Operation = typeof Operation.Type

/** Each list is what one fiber does, one after the other. */
const program = Arbitrary.array(Arbitrary.array(Arbitrary.schema(Operation), { minLength: 1, maxLength: 6 }), {
  minLength: 1,
  maxLength: 24
})

const options = Schema.Struct({
  maxOperations: Schema.Literals([1, 2, 3, 5, 8, 128]),
  maxInFlight: Schema.Literals([1, 2, 4])
})

/** One call, and what its caller knew when it began and when it ended. */
interface Told {
  readonly operation: Operation
  readonly value: string
  /** In the order of the calls. */
  readonly begun: number
  /** The newest revision acknowledged to anybody when the call was made. */
  readonly after: bigint
  readonly answer: Exit.Exit<Answer, EtcdError.EtcdError>
}

interface Answer {
  readonly revision: bigint
  /** What the key held: now for a get, before for the rest. `undefined`: not asked for. */
  readonly held: string | null | undefined
  readonly deleted?: bigint
}

const held = (kv: EtcdResponse.KeyValue | undefined) => (kv === undefined ? null : kv.valueString)

const perform = (
  kv: EtcdKv.Service,
  prefix: string,
  operation: Operation,
  value: string
): Effect.Effect<Answer, EtcdError.EtcdError> => {
  const key = prefix + operation.key
  switch (operation._tag) {
    case "get":
      return Effect.map(kv.range(key), ({ header, kvs }) => ({ revision: header.revision, held: held(kvs[0]) }))
    case "put":
      return Effect.map(kv.put(key, value, { previousValue: operation.previous }), ({ header, previous }) => ({
        revision: header.revision,
        held: operation.previous ? held(Option.getOrUndefined(previous)) : undefined
      }))
    case "keep":
      return Effect.map(kv.put(key, "", { ignoreValue: true, previousValue: true }), ({ header, previous }) => ({
        revision: header.revision,
        held: held(Option.getOrUndefined(previous))
      }))
    case "delete":
      return Effect.map(
        kv.delete(key, { previousValues: operation.previous }),
        ({ deleted, header, previous }): Answer => ({
          revision: header.revision,
          held: operation.previous ? held(previous[0]) : undefined,
          deleted
        })
      )
  }
}

let runs = 0

const run = Effect.fnUntraced(function* (kv: EtcdKv.Service, lists: ReadonlyArray<ReadonlyArray<Operation>>) {
  const prefix = `${runs++}/`
  const told: Array<Told> = []
  let acknowledged = (yield* kv.put(`${prefix}before`, "")).header.revision
  const first = acknowledged
  let values = 0
  let begun = 0
  const one = (operation: Operation) =>
    Effect.suspend(() => {
      const value = `v${values++}`
      const order = begun++
      const after = acknowledged
      return Effect.exit(perform(kv, prefix, operation, value)).pipe(
        Effect.map((answer) => {
          if (Exit.isSuccess(answer) && answer.value.revision > acknowledged) acknowledged = answer.value.revision
          return told.push({ operation, value, begun: order, after, answer })
        })
      )
    })
  yield* Effect.forEach(lists, (list) => Effect.forEach(list, one, { discard: true }), {
    concurrency: "unbounded",
    discard: true
  })
  return { prefix, first, last: (yield* kv.put(`${prefix}after`, "")).header.revision, told }
})

type State = ReadonlyMap<string, { readonly value: string; readonly modified: bigint }>

/** The store's own account, one revision after the other. */
const historyOf = Effect.fnUntraced(function* (prefix: string, first: bigint, last: bigint) {
  const plain = yield* EtcdKv.EtcdKv
  const states = new Map<bigint, State>()
  const revisions = Array.from({ length: Number(last - first) + 1 }, (_, index) => first + BigInt(index))
  yield* Effect.forEach(
    revisions,
    (revision) =>
      Effect.map(plain.range(KeyRange.prefix(prefix), { revision }), ({ kvs }) => {
        const entries = kvs.map(
          (kv) => [kv.keyString.slice(prefix.length), { value: kv.valueString, modified: kv.modRevision }] as const
        )
        states.set(revision, new Map(entries))
      }),
    { concurrency: 16, discard: true }
  )
  return states
})

const agrees = ({ after, answer, operation, value }: Told, states: ReadonlyMap<bigint, State>, last: bigint) => {
  const stateOf = (revision: bigint) => states.get(revision)?.get(operation.key)
  if (Exit.isFailure(answer)) {
    const error = Option.getOrThrow(Cause.findErrorOption(answer.cause))
    assert.strictEqual(error.reason._tag, "KeyNotFound")
    assert.strictEqual(operation._tag, "keep")
    assert.isTrue([...states].some(([revision]) => revision >= after && stateOf(revision) === undefined))
    return
  }
  const { deleted, revision } = answer.value
  const now = stateOf(revision)
  const before = stateOf(revision - 1n)
  assert.isTrue(revision <= last, "a revision that the store does not have")
  assert.isTrue(revision >= after, "an answer older than what was acknowledged before")
  const expectHeld = (expected: string | undefined) => {
    if (answer.value.held !== undefined) assert.strictEqual(answer.value.held, expected ?? null)
  }
  switch (operation._tag) {
    case "get":
      expectHeld(now?.value)
      break
    case "put":
    case "keep":
      assert.isTrue(revision > after)
      assert.strictEqual(now?.modified, revision)
      assert.strictEqual(now?.value, operation._tag === "put" ? value : before?.value)
      expectHeld(before?.value)
      break
    case "delete":
      assert.isUndefined(now)
      if (deleted === 0n) expectHeld(undefined)
      else {
        assert.isTrue(revision > after)
        assert.isDefined(before)
        expectHeld(before?.value)
      }
  }
}

const isWrite = ({ answer, operation }: Told) =>
  Exit.isSuccess(answer) && operation._tag !== "get" && answer.value.deleted !== 0n

const revisionOf = ({ answer }: Told) => (Exit.isSuccess(answer) ? answer.value.revision : 0n)

/** Every change of a key is the work of one write, and every write is one change. */
const isComplete = (told: ReadonlyArray<Told>, states: ReadonlyMap<bigint, State>, first: bigint, last: bigint) => {
  for (const key of ["a", "b", "c", "d"]) {
    const writes = told.filter((one) => one.operation.key === key && isWrite(one)).map(revisionOf)
    assert.strictEqual(new Set(writes).size, writes.length, "two writes of a key with one revision")
    for (let revision = first + 1n; revision <= last; revision++) {
      const now = states.get(revision)?.get(key)
      const before = states.get(revision - 1n)?.get(key)
      assert.strictEqual(now?.modified !== before?.modified, writes.includes(revision), `${key} at ${revision}`)
    }
  }
}

const isInOrder = (told: ReadonlyArray<Told>) => {
  for (const key of ["a", "b", "c", "d"]) {
    const writes = told.filter((one) => one.operation.key === key && isWrite(one)).sort((a, b) => a.begun - b.begun)
    for (const [index, one] of writes.slice(1).entries()) {
      assert.isTrue(revisionOf(one) > revisionOf(writes[index]!), "writes of a key out of order")
    }
  }
}

describe("EtcdBatch", () => {
  layer(EtcdLayer.ephemeral({}, { log: false }), { excludeTestServices: true })((it) => {
    const check = Effect.fnUntraced(function* (kv: EtcdKv.Service, lists: ReadonlyArray<ReadonlyArray<Operation>>) {
      const { first, last, prefix, told } = yield* run(kv, lists)
      const states = yield* historyOf(prefix, first, last)
      for (const one of told) agrees(one, states, last)
      isComplete(told, states, first, last)
      assert.strictEqual(told.length, lists.flat().length)
      return told
    })

    it.effect.prop(
      "without batching, answers agree with the history",
      [program],
      ([lists]) => Effect.flatMap(EtcdKv.EtcdKv, (kv) => check(kv, lists)),
      { arbitrary: { runs: 20 } }
    )

    it.effect.prop(
      "with batching, answers agree with the history, and writes of a key keep their order",
      [program, options],
      ([lists, options]) =>
        Effect.gen(function* () {
          const kv = EtcdKv.fromClient(yield* EtcdBatch.fromClient(yield* EtcdClient.EtcdClient, options))
          isInOrder(yield* check(kv, lists))
        }),
      { arbitrary: { runs: 80 } }
    )
  })
})
