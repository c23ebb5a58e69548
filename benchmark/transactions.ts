/**
 * Transactions: each caller reads a number and writes the next one, over and over, on a key of its own ("commits apart"),
 * or all on the same one ("commits on one key"), where all but one of those that try at the same time lose and try again.
 *
 * All have the isolation that is the default of all of them, serializable snapshot, and try until they succeed, which
 * etcd3 has to be told (it gives up after three tries otherwise). The numbers are read afterwards: a client that has
 * written less than it says is an error.
 */
import { Effect, Layer, Option } from "effect"
import { EtcdKv, EtcdLayer, KeyRange } from "effect-etcd"
import { EtcdStm } from "effect-etcd/coordination"
import type { Etcd3 } from "etcd3"
import { type Contender, ourName, type Round } from "./contest.ts"
import { measure } from "./round.ts"
import { BenchError, benchError } from "./support.ts"

const oneKey = "commits on one key"

/** Below which the numbers of a client are, called as in go/transactions.go. */
export const prefixOf = (client: string) => `bench/stm/${client}/`

const keyOf = (client: string, { scenario }: Round, caller: number) =>
  `${prefixOf(client)}${scenario === oneKey ? "one" : caller}`

const callersOf = (client: string, round: Round) =>
  Array.from({ length: round.inFlight }, (_, caller) => keyOf(client, round, caller))

const nextOf = (value: string | null) => String(Number(value ?? "0") + 1)

export const etcd3 = (client: Etcd3): Contender => {
  const name = "etcd3"
  const increment = (key: string) =>
    client.stm({ retries: Number.POSITIVE_INFINITY }).transact(async (tx) => {
      await tx.put(key).value(nextOf(await tx.get(key).string()))
    })
  return {
    name,
    round: (round) =>
      measure(round, (latencies, end) =>
        Effect.tryPromise({
          try: () =>
            Promise.all(
              callersOf(name, round).map(async (key) => {
                while (performance.now() < end) {
                  const begun = performance.now()
                  await increment(key)
                  latencies.add(performance.now() - begun)
                }
              })
            ),
          catch: (cause) => benchError(name, cause)
        })
      )
  }
}

export const ours = (endpoint: string) =>
  Effect.map(Layer.build(EtcdLayer.connect({ endpoints: [endpoint] })), (connected): Contender => {
    const increment = (key: string) =>
      EtcdStm.tx(Effect.flatMap(EtcdStm.getString(key), (value) => EtcdStm.put(key, nextOf(Option.getOrNull(value)))))
    return {
      name: ourName,
      round: (round) =>
        measure(round, (latencies, end) =>
          Effect.forEach(
            callersOf(ourName, round),
            (key) => {
              const once = Effect.suspend(() => {
                const begun = performance.now()
                return Effect.map(increment(key), () => latencies.add(performance.now() - begun))
              })
              return Effect.whileLoop({ while: () => performance.now() < end, body: () => once, step: () => {} })
            },
            { concurrency: "unbounded", discard: true }
          )
        ).pipe(
          Effect.mapError((cause) => benchError(ourName, cause)),
          Effect.provideContext(connected)
        )
    }
  })

/** What all numbers of a client come to. */
const sumOf = (client: string) =>
  Effect.map(EtcdKv.range(KeyRange.prefix(prefixOf(client))), ({ kvs }) =>
    kvs.reduce((sum, { valueString }) => sum + Number(valueString), 0)
  )

/** The same one, but it fails where not all of what it has done is there. */
export const verified = (endpoint: string, { name, round }: Contender) =>
  Effect.map(Layer.build(EtcdLayer.connect({ endpoints: [endpoint] })), (connected): Contender => {
    const sum = Effect.mapError(Effect.provideContext(sumOf(name), connected), (cause) => benchError(name, cause))
    return {
      name,
      round: (asked) =>
        Effect.gen(function* () {
          const before = yield* sum
          const measured = yield* round(asked)
          const grown = (yield* sum) - before
          if (grown === measured.ops) return measured
          return yield* new BenchError({
            message: `${name}: ${measured.ops} transactions, and the numbers have grown by ${grown}`
          })
        })
    }
  })

export const warmUp = (millis: number): Round => ({ scenario: "commits apart", inFlight: 64, millis })

export const scenarios = (millis: number): ReadonlyArray<Round> => [
  { scenario: "commits apart", inFlight: 1, millis },
  { scenario: "commits apart", inFlight: 64, millis },
  { scenario: oneKey, inFlight: 64, millis }
]
