/**
 * What a program costs that holds locks and does nothing: one keep-alive of its session for a third of the time to live.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import { until } from "../support/machine.ts"

/** A client, and the names of all that is sent over it, message by message. */
const counting = (client: EtcdClient.Client) => {
  const sent: Array<string> = []
  const counted: EtcdClient.Client = {
    ...client,
    unary: (method, request, options) => {
      sent.push(method.name)
      return client.unary(method, request, options)
    },
    serverStream: (method, request, options) => {
      sent.push(method.name)
      return client.serverStream(method, request, options)
    },
    bidirectional: (method, options) =>
      Effect.map(client.bidirectional(method, options), (duplex) => ({
        ...duplex,
        send: (message) => {
          sent.push(method.name)
          return duplex.send(message)
        }
      }))
  }
  return { client: counted, sent }
}

const locks = 1000

/** Nothing else was sent between two keep-alives. */
const isQuiet = (sent: ReadonlyArray<string>): boolean => sent.slice(-2).every((name) => name === "LeaseKeepAlive")

describe("what is held", () => {
  it.live("costs one keep-alive for a third of the time to live, however much it is", () =>
    Effect.gen(function* () {
      const { client, sent } = counting(yield* EtcdClient.EtcdClient)
      const countOf = (name: string) => sent.filter((one) => one === name).length
      // As long as a machine that has much else to do may need for a thousand of them.
      const session = yield* EtcdSession.fromClient(client, { ttl: "4 seconds" })
      const held = yield* Effect.forEach(
        Array.from({ length: locks }, (_, index) => EtcdLock.make(`rest/${index}`)),
        EtcdLock.acquire,
        { concurrency: 64 }
      ).pipe(Effect.provideService(EtcdSession.EtcdSession, session))
      // A lease, and a transaction for each lock. Their keys are watched on one call, and looked at once when that begins.
      yield* until(() => countOf("Watch") >= locks && isQuiet(sent))
      assert.strictEqual(countOf("LeaseGrant"), 1)
      assert.strictEqual(countOf("Txn"), locks)
      assert.isAtMost(countOf("Range"), locks)
      const settled = sent.length
      yield* until(() => sent.length >= settled + 2)
      assert.deepStrictEqual(sent.slice(settled), ["LeaseKeepAlive", "LeaseKeepAlive"])
      for (const { isHeldUnsafe, remaining } of held) {
        assert.isTrue(isHeldUnsafe())
        assert.isTrue(Duration.isPositive(yield* remaining))
      }
    }).pipe(Effect.scoped, Effect.provide(EtcdLayer.ephemeral({}, { log: false })))
  )
})
