/**
 * What an election is stood in through, and what ends it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as EtcdElection from "../../src/coordination/EtcdElection.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import { makeWith } from "../../src/internal/client/client.ts"
import { rules } from "../../src/internal/client/retryRules.ts"
import * as Failures from "../../src/internal/coordination/failures.ts"
import * as Fake from "../support/client/fakeTransport.ts"

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
  })

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
