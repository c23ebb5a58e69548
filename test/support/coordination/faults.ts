/**
 * What happens to a session between a program and etcd: calls that fail, or whose answers get lost.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdError from "../../../src/EtcdError.ts"

/**
 * What becomes of a call. `lost`: etcd does it, and nobody hears of it. `never`: it does not get there. `late`: it gets
 * there when all who waited have been told that it is lost.
 */
export type Fate = "ok" | "lost" | "never" | "late"

export const cut = (outcome: EtcdError.Outcome = "unknown") =>
  EtcdError.make(new EtcdError.ConnectionLost({ message: "The connection broke.", outcome }))

export interface Faulty {
  readonly client: EtcdClient.Client
  /** The fates of the next calls of a method, as `Txn`; `ok` where there are none. */
  readonly fates: { [method in string]?: Array<Fate> }
  /** How often each method was called. */
  readonly calls: { [method in string]?: number }
  /** Sends the calls that are late. */
  readonly arrive: Effect.Effect<void>
}

/** A client some of whose calls have no answer. */
export const faulty = (client: EtcdClient.Client): Faulty => {
  const fates: Faulty["fates"] = {}
  const calls: { [method in string]?: number } = {}
  const late: Array<Effect.Effect<unknown, unknown>> = []
  return {
    client: {
      ...client,
      unary: (method, request, options) =>
        Effect.suspend(() => {
          const { name } = method
          calls[name] = (calls[name] ?? 0) + 1
          const fate = fates[name]?.shift() ?? "ok"
          const call = client.unary(method, request, options)
          if (fate === "ok") return call
          if (fate === "late") late.push(call)
          return fate === "lost" ? Effect.andThen(call, Effect.fail(cut())) : Effect.fail(cut())
        })
    },
    fates,
    calls,
    arrive: Effect.suspend(() => Effect.forEach(late.splice(0), Effect.exit, { discard: true }))
  }
}

/** A client whose calls of a method wait until they may go. */
export const held = (client: EtcdClient.Client, name: string) => {
  const latch = Latch.makeUnsafe()
  let waiting = 0
  const own: EtcdClient.Client = {
    ...client,
    unary: (method, request, options) =>
      method.name === name
        ? Effect.suspend(() => {
            waiting++
            return Effect.andThen(latch.await, client.unary(method, request, options))
          })
        : client.unary(method, request, options)
  }
  return { client: own, go: latch.open, waiting: () => waiting }
}
