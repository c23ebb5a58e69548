/**
 * Operations: reads, writes, transactions and bursts of them, each told of before and after.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as EtcdStm from "../../../src/coordination/EtcdStm.ts"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import type { Header } from "../../../src/EtcdResponse.ts"
import * as EtcdTxn from "../../../src/EtcdTxn.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import * as Programs from "../../support/programs.ts"
import { makeRandom } from "../../support/random.ts"
import type { Answered, Call, Comparison, Result, Step, Value } from "../history.ts"
import { keysOfGroup, stored } from "../protocol.ts"
import { aGroup, failed, pick, say, settings, textOf, turns } from "./program.ts"

let nextId = settings.firstId

const answered = (header: Header, succeeded: boolean, found: ReadonlyArray<Value>): Answered => ({
  outcome: "answered",
  revision: Number(header.revision),
  memberId: header.memberId.toString(16),
  succeeded,
  found
})

/** Makes an operation, and tells of it before and after. */
const operate = <R>(
  client: string,
  deadline: number,
  call: Call,
  make: Effect.Effect<Answered, unknown, R>,
  after?: number
): Effect.Effect<Result, never, R> =>
  Effect.suspend(() => {
    const id = nextId++
    say({ _tag: "Begun", id, client, at: Programs.now(), deadline, call, after })
    return Effect.map(Effect.exit(make), (exit) => {
      const result = Exit.isSuccess(exit) ? exit.value : failed(exit.cause)
      say({ _tag: "Ended", id, at: Programs.now(), result })
      return result
    })
  })

const get = (key: string): Step => ({ do: "get", key })
const remove = (key: string): Step => ({ do: "delete", key })

const call = (
  name: string,
  success: ReadonlyArray<Step>,
  compare: ReadonlyArray<Comparison> = [],
  failure: ReadonlyArray<Step> = []
): Call => ({ name, serializable: false, compare, success, failure })

const compareOf = ({ key, value }: Comparison): EtcdTxn.Compare =>
  value === null ? EtcdTxn.missing(key) : EtcdTxn.value(key).equals(stored(value))

/** A step of a transaction, which answers what was found. */
const opOf = (step: Step): EtcdTxn.Op<Value> => {
  switch (step.do) {
    case "get":
      return EtcdTxn.map(EtcdTxn.get(step.key), (kv) => textOf(Option.getOrUndefined(kv)))
    case "put":
      return EtcdTxn.map(EtcdTxn.put(step.key, stored(step.value)), () => null)
    case "delete":
      return EtcdTxn.map(EtcdTxn.delete(step.key), () => null)
  }
}

const commit = ({ compare, failure, success }: Call, options: EtcdClient.CallOptions) =>
  Effect.map(
    EtcdTxn.commit(
      EtcdTxn.make({ compare: compare.map(compareOf), success: success.map(opOf), failure: failure.map(opOf) }),
      options
    ),
    (result) => answered(result.header, result.succeeded, result.results)
  )

/** One who makes operations, and what it knows of keys. */
export const operator = (index: number) => {
  const client = `${settings.name}.${index}`
  const random = makeRandom(settings.seed * 1000 + index)
  const known = new Map<string, Value>()
  let written = 0
  const fresh = () => `${client}-${written++}`
  const expected = (key: string): Comparison => ({ key, value: known.get(key) ?? null })
  const learn = ({ failure, success }: Call, result: Result) => {
    if (result.outcome !== "answered") return
    const steps = result.succeeded ? success : failure
    for (const [at, step] of steps.entries()) {
      known.set(step.key, step.do === "get" ? result.found[at]! : step.do === "put" ? step.value : null)
    }
  }

  /** A transaction that reads keys and writes what it makes of them, with what it has read. */
  const stm = (keys: ReadonlyArray<string>, deadline: number) =>
    Effect.suspend(() => {
      const receipt = random(2) === 0
      // A range that may be empty, or have one key.
      const read =
        random(2) === 0 ? EtcdStm.get : (key: string) => Effect.map(EtcdStm.range(KeyRange.prefix(key)), Arr.head)
      const puts = keys.slice(0, 1 + random(2)).map((key) => ({ do: "put", key, value: fresh() }) as const)
      const made = call("stm", [...keys.map(get), ...puts])
      const body = Effect.gen(function* () {
        const found = yield* Effect.forEach(keys, (key) =>
          Effect.map(read(key), (kv) => textOf(Option.getOrUndefined(kv)))
        )
        for (const { key, value } of puts) yield* EtcdStm.put(key, stored(value))
        return found
      })
      const run = Effect.map(
        Effect.timeout(EtcdStm.txWithRevision(body, { receipt }), deadline),
        ({ revision, value }): Answered => ({
          outcome: "answered",
          revision: Number(revision),
          memberId: "",
          succeeded: true,
          found: [...value, ...puts.map(() => null)]
        })
      )
      return operate(client, deadline, made, run)
    })

  /** Puts of keys, twice each, none of which waits for another. Those of one key that are batched go in their order. */
  const burst = (keys: ReadonlyArray<string>, options: EtcdClient.CallOptions & { readonly deadline: number }) =>
    Effect.suspend(() => {
      const first = nextId
      const puts = [...keys, ...keys].map((key, index) => {
        const value = fresh()
        return operate(
          `${client}.${index}`,
          options.deadline,
          { ...call("put", [{ do: "put", key, value }]), isBatched: true },
          Effect.map(EtcdKv.put(key, stored(value), options), ({ header }) => answered(header, true, [null])),
          index < keys.length ? undefined : first + index - keys.length
        )
      })
      return Effect.all(puts, { concurrency: "unbounded" })
    })

  const turn = Effect.suspend(
    (): Effect.Effect<unknown, never, EtcdClient.EtcdClient | EtcdKv.EtcdKv | EtcdTxn.EtcdTxn> => {
      const keys = keysOfGroup(aGroup(random))
      const key = pick(random, keys)
      const others = keys.filter((other) => other !== key)
      const deadline = 500 + random(3000)
      const options = { deadline }
      const put = (key: string): Step => ({ do: "put", key, value: fresh() })
      const make = (made: Call, run: Effect.Effect<Answered, unknown, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn>) => {
        // Now and then nobody waits for it any more.
        const given = random(20) === 0 ? Effect.timeout(run, random(20)) : run
        return Effect.tap(operate(client, deadline, made, given), (result) => Effect.sync(() => learn(made, result)))
      }
      if (settings.batching && random(12) === 0) return burst(keys, options)
      const kind = random(100)
      if (kind < 30) {
        const serializable = kind < 8
        return make(
          { ...call("get", [get(key)]), serializable },
          Effect.map(EtcdKv.range(key, { ...options, serializable }), ({ header, kvs }) =>
            answered(header, true, [textOf(kvs[0])])
          )
        )
      }
      if (kind < 40) {
        return make(
          call("range", keys.map(get)),
          Effect.map(EtcdKv.range(KeyRange.prefix(key.slice(0, -1)), options), ({ header, kvs }) =>
            answered(
              header,
              true,
              keys.map((key) => textOf(kvs.find(({ keyString }) => keyString === key)))
            )
          )
        )
      }
      if (kind < 60) {
        const value = fresh()
        return make(
          { ...call("put", [{ do: "put", key, value }]), isBatched: settings.batching },
          Effect.map(EtcdKv.put(key, stored(value), options), ({ header }) => answered(header, true, [null]))
        )
      }
      if (kind < 67) {
        return make(
          { ...call("delete", [remove(key)]), isBatched: settings.batching },
          Effect.map(EtcdKv.delete(key, options), ({ header }) => answered(header, true, [null]))
        )
      }
      if (kind < 80) {
        const made = call("cas", [put(key)], [expected(key)], [get(key)])
        return make(made, commit(made, options))
      }
      if (kind < 92) {
        const [one, other] = others as [string, string]
        const made = call(
          "txn",
          [get(one), put(key), random(3) === 0 ? remove(other) : put(other)],
          [expected(one)],
          keys.map(get)
        )
        return make(made, commit(made, options))
      }
      return stm(keys, deadline)
    }
  )

  return turns(Effect.andThen(turn, Effect.sleep(random(30))))
}
