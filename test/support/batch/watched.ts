/**
 * A client that tells what goes through it, and lets a test hold it back.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { CallOptions, Client } from "../../../src/EtcdClient.ts"
import type { EtcdError } from "../../../src/EtcdError.ts"

/** One request that went through. */
export interface Sent {
  readonly name: string
  /** How many operations it has: 1 unless it is a transaction. */
  readonly operations: number
  /** What it asks for: one request, or the operations of a transaction. */
  readonly requests: ReadonlyArray<any>
  readonly options: CallOptions
  /** Whether its caller gave it up. */
  interrupted: boolean
}

export interface Watched {
  readonly client: Client
  readonly sent: Array<Sent>
  /** From now on requests wait on their way to etcd. */
  readonly hold: Effect.Effect<void>
  readonly release: Effect.Effect<void>
  /** What becomes of the answers. */
  answer: <A>(sent: Sent, answer: Effect.Effect<A, EtcdError>) => Effect.Effect<A, EtcdError>
}

const requestsOf = (name: string, request: any): ReadonlyArray<any> =>
  name === "Txn" ? request.success.map((operation: any) => operation.request.value) : [request]

export const make = (client: Client): Watched => {
  const sent: Array<Sent> = []
  const latch = Latch.makeUnsafe(true)
  const watched: Watched = {
    sent,
    hold: Effect.asVoid(latch.close),
    release: Effect.asVoid(latch.open),
    answer: (_, answer) => answer,
    client: {
      ...client,
      unary: (method, request, options) =>
        Effect.suspend(() => {
          const requests = requestsOf(method.name, request)
          const one: Sent = {
            name: method.name,
            operations: requests.length,
            requests,
            options: options ?? {},
            interrupted: false
          }
          sent.push(one)
          const answer = Effect.andThen(latch.await, client.unary(method, request, options))
          return Effect.onInterrupt(watched.answer(one, answer), () =>
            Effect.sync(() => {
              one.interrupted = true
            })
          )
        })
    }
  }
  return watched
}
