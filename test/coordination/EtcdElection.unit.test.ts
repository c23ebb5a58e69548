/**
 * What an election is stood in through, and what ends it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdElection from "../../src/coordination/EtcdElection.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import { KeyValue } from "../../src/EtcdResponse.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import { makeWith } from "../../src/internal/client/client.ts"
import { rules } from "../../src/internal/client/retryRules.ts"
import * as Failures from "../../src/internal/coordination/failures.ts"
import * as Keys from "../../src/internal/keys.ts"
import * as Fake from "../support/client/fakeTransport.ts"
import { byTestClock } from "../support/time.ts"

const passes = (_tag: string, fields: object = {}): boolean =>
  Failures.mayPass({ reason: { _tag, outcome: "unknown", message: "", ...fields } } as unknown as EtcdError.EtcdError)

describe("an election", () => {
  it("is stood in through what time may mend, and through nothing else", () => {
    const passing = Object.keys(rules).filter((tag) => passes(tag, { code: 14 }))
    assert.sameMembers(passing, [
      "AuthOldRevision",
      "Canceled",
      "Compacted",
      "ConnectionLost",
      "DeadlineExceeded",
      "GrpcStatus",
      "InvalidAuthToken",
      "LeaderChanged",
      "LeaseNotFound",
      "NoLeader",
      "NoSpace",
      "NotCapable",
      "NotGrpc",
      "NotSupportedForLearner",
      "ProposalDropped",
      "RevisionRegressed",
      "ServerStopped",
      "ServerTimeout",
      "TooManyRequests",
      "Unhealthy",
      "Unreachable",
      "WatchCanceled"
    ])
    assert.isTrue(passes("GrpcStatus", { code: 13 }))
    assert.isFalse(passes("GrpcStatus", { code: 12 }))
    assert.isFalse(passes("NotGrpc"))
    assert.isFalse(passes("Unreachable", { lasting: true }))
    assert.isFalse(passes("InvalidAuthToken", { lasting: true }))
  })

  it.effect("is told of anew where the store has gone back and has another value at the same revision", () =>
    Effect.gen(function* () {
      const snapshot = (cause: EtcdWatch.Snapshot["cause"], value: string) =>
        new EtcdWatch.Snapshot({
          revision: 4n,
          cause,
          kvs: [
            new KeyValue({
              key: Keys.toBytes("a/1f"),
              value: Keys.toBytes(value),
              createRevision: 3n,
              modRevision: 4n,
              version: 2n,
              lease: 0x1fn
            })
          ]
        })
      const seen = Stream.make(snapshot("first", "one"), snapshot("compacted", "one"), snapshot("regressed", "two"))
      const told = yield* Stream.runCollect(EtcdElection.changes(EtcdElection.make("a"))).pipe(
        Effect.provideService(EtcdWatch.EtcdWatch, { changes: () => seen } as never)
      )
      assert.deepStrictEqual(
        told.map((leader) => Option.getOrThrow(leader).valueString),
        ["one", "two"]
      )
    })
  )

  it.effect("is not stood in any more by a layer whose session is closed, which is told once", () =>
    Effect.gen(function* () {
      const client = yield* makeWith(Fake.make({}).transport, { endpoints: ["a:1"] })
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(EtcdSession.fromClient(client), scope)
      yield* Scope.close(scope, Exit.void)
      const errors: Array<string> = []
      const logger = Logger.make(({ message }) => errors.push(String(message)))
      yield* Layer.build(EtcdElection.layerWhileElected(Layer.empty, EtcdElection.make("a"), "me")).pipe(
        Effect.provideService(EtcdSession.EtcdSession, session),
        Effect.provide(Logger.layer([logger]))
      )
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(errors.length, 1)
      assert.match(errors[0]!, /what runs while elected has failed: "a"/)
    }).pipe(Effect.scoped, byTestClock)
  )

  it.live("is not stood in for ever where the user may not, nor by a session that is closed", () =>
    Effect.gen(function* () {
      const denied = Fake.status(7, "etcdserver: permission denied")
      const fake = Fake.make({ "a:1": { answer: () => Effect.fail(denied) } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"] })
      const election = EtcdElection.make("a")
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(EtcdSession.fromClient(client), scope)
      const standing = EtcdElection.whileElected(Effect.never, election, "me").pipe(
        Effect.provideService(EtcdSession.EtcdSession, session)
      )
      assert.strictEqual((yield* Effect.flip(standing)).reason._tag, "PermissionDenied")
      yield* Scope.close(scope, Exit.void)
      const { message } = yield* Effect.flip(standing)
      assert.match(message, /The session is closed/)
    }).pipe(Effect.scoped)
  )
})
