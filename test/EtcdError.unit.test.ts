import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as EtcdError from "../src/EtcdError.ts"
import * as Reasons from "../src/internal/client/reasons.ts"
import * as RetryRules from "../src/internal/client/retryRules.ts"
import { TransportError } from "../src/internal/grpc/Transport.ts"
import * as Options from "../src/internal/options.ts"

const put = { method: "/etcdserverpb.KV/Put", endpoint: "http://127.0.0.1:2379" }
const range = { method: "/etcdserverpb.KV/Range", endpoint: "http://127.0.0.1:2379" }

const status = (code: number, message: string, processed: TransportError["processed"] = "yes") =>
  new TransportError({ kind: "Status", code, message, processed })

// The messages of etcd 3.4 to 3.7, and what a program sees of each.
const messages: ReadonlyArray<readonly [message: string, tag: EtcdError.Reason["_tag"], outcome: EtcdError.Outcome]> = [
  ["key is not provided", "InvalidArgument", "not-applied"],
  ["key not found", "KeyNotFound", "not-applied"],
  ["value is provided", "InvalidArgument", "not-applied"],
  ["lease is provided", "InvalidArgument", "not-applied"],
  ["too many operations in txn request", "TooManyOps", "not-applied"],
  ["duplicate key given in txn request", "DuplicateKey", "not-applied"],
  ["invalid client api version", "InvalidArgument", "not-applied"],
  ["invalid sort option", "InvalidArgument", "not-applied"],
  ["mvcc: required revision has been compacted", "Compacted", "not-applied"],
  ["mvcc: required revision is a future revision", "FutureRevision", "not-applied"],
  ["mvcc: database space exceeded", "NoSpace", "unknown"],
  ["requested lease not found", "LeaseNotFound", "not-applied"],
  ["lease already exists", "LeaseExists", "not-applied"],
  ["too large lease TTL", "LeaseTtlTooLarge", "not-applied"],
  ["watch canceled", "WatchCanceled", "unknown"],
  ["member ID already exist", "MemberExists", "not-applied"],
  ["Peer URLs already exists", "PeerUrlExists", "not-applied"],
  ["re-configuration failed due to not enough started members", "NotEnoughStartedMembers", "not-applied"],
  ["given member URLs are invalid", "InvalidArgument", "not-applied"],
  ["member not found", "MemberNotFound", "not-applied"],
  ["can only promote a learner member", "MemberNotLearner", "not-applied"],
  ["can only promote a learner member which is in sync with leader", "LearnerNotReady", "not-applied"],
  ["too many learner members in cluster", "TooManyLearners", "not-applied"],
  ["cluster ID mismatch", "ClusterIdMismatch", "not-applied"],
  ["request is too large", "RequestTooLarge", "not-applied"],
  ["too many requests", "TooManyRequests", "not-applied"],
  ["root user does not exist", "RootUserNotFound", "not-applied"],
  ["root user does not have root role", "RootRoleNotGranted", "not-applied"],
  ["user name already exists", "UserExists", "not-applied"],
  ["user name is empty", "UserNameEmpty", "not-applied"],
  ["user name not found", "UserNotFound", "not-applied"],
  ["role name already exists", "RoleExists", "not-applied"],
  ["role name not found", "RoleNotFound", "not-applied"],
  ["role name is empty", "InvalidArgument", "not-applied"],
  ["authentication failed, invalid user ID or password", "AuthenticationFailed", "not-applied"],
  ["authentication failed, password was given for no password user", "AuthenticationFailed", "not-applied"],
  ["permission not given", "InvalidArgument", "not-applied"],
  ["permission denied", "PermissionDenied", "not-applied"],
  ["role is not granted to the user", "RoleNotGranted", "not-applied"],
  ["permission is not granted to the role", "PermissionNotGranted", "not-applied"],
  ["authentication is not enabled", "AuthNotEnabled", "not-applied"],
  ["invalid auth token", "InvalidAuthToken", "not-applied"],
  ["invalid auth management", "InvalidAuthManagement", "not-applied"],
  ["revision of auth store is old", "AuthOldRevision", "not-applied"],
  ["no leader", "NoLeader", "not-applied"],
  ["not leader", "NotLeader", "not-applied"],
  ["leader changed", "LeaderChanged", "unknown"],
  ["not capable", "NotCapable", "not-applied"],
  ["server stopped", "ServerStopped", "unknown"],
  ["request timed out", "ServerTimeout", "unknown"],
  ["request timed out, possibly due to previous leader failure", "ServerTimeout", "unknown"],
  ["request timed out, possibly due to connection lost", "ServerTimeout", "unknown"],
  ["request timed out, waiting for the applied index took too long", "ServerTimeout", "unknown"],
  ["unhealthy cluster", "Unhealthy", "not-applied"],
  ["corrupt cluster", "Corrupt", "not-applied"],
  ["rpc not supported for learner", "NotSupportedForLearner", "not-applied"],
  ["bad leader transferee", "BadLeaderTransferee", "not-applied"],
  ["wrong downgrade target version format", "InvalidDowngradeTarget", "not-applied"],
  ["invalid downgrade target version", "InvalidDowngradeTarget", "not-applied"],
  ["cluster version not found during downgrade", "ClusterVersionUnavailable", "not-applied"],
  ["cluster has a downgrade job in progress", "DowngradeInProgress", "not-applied"],
  ["no inflight downgrade job", "NoDowngrade", "not-applied"],
  ["request canceled", "Canceled", "unknown"],
  ["context deadline exceeded", "DeadlineExceeded", "unknown"]
]

describe("EtcdError", () => {
  it("has a reason for each of etcd's messages, whatever its code", () => {
    for (const [message, tag, outcome] of messages) {
      for (const code of [2, 9, 14]) {
        const { reason } = Reasons.fromTransport(status(code, `etcdserver: ${message}`), put)
        assert.strictEqual(reason._tag, tag, message)
        assert.strictEqual(reason.outcome, outcome, message)
      }
    }
  })

  it("says that nothing was applied by a call that only reads, or that the server did not take up", () => {
    for (const [message] of messages) {
      const error = status(14, `etcdserver: ${message}`)
      assert.strictEqual(Reasons.fromTransport(error, range).outcome, "not-applied")
      assert.strictEqual(Reasons.fromTransport(error, { ...put, kind: "read" }).outcome, "not-applied")
    }
    const refused = new TransportError({ kind: "ConnectionLost", code: 14, message: "refused", processed: "no" })
    assert.strictEqual(Reasons.fromTransport(refused, put).outcome, "not-applied")
  })

  it("says what was wrong, where, what would fix it, and that a write may have happened", () => {
    const compacted = Reasons.fromTransport(status(11, "etcdserver: mvcc: required revision has been compacted"), range)
    assert.strictEqual(
      compacted.message,
      "KV.Range at http://127.0.0.1:2379 failed: mvcc: required revision has been compacted. " +
        "Read at a newer revision, or start again from the current state."
    )
    assert.strictEqual(compacted.reason.method, "KV.Range")
    assert.strictEqual(compacted.reason.endpoint, "http://127.0.0.1:2379")
    const timeout = Reasons.fromTransport(status(14, "etcdserver: request timed out"), put)
    assert.include(timeout.message, "Whether it was applied is unknown.")
  })

  it("keeps any other status", () => {
    const { reason } = Reasons.fromTransport(status(13, "odd"), put)
    assert.deepInclude(reason, { _tag: "GrpcStatus", code: 13, status: "odd", outcome: "unknown" })
    assert.include(Reasons.fromTransport(status(13, ""), put).message, "gRPC status 13")
  })

  it("tells a feature that the server lacks, and since when there is one", () => {
    const stream = Reasons.fromTransport(status(12, "unknown method"), {
      ...put,
      method: "/etcdserverpb.KV/RangeStream"
    })
    assert.deepInclude(stream.reason, { _tag: "Unsupported", feature: "KV.RangeStream", since: "3.7" })
    assert.include(stream.message, "3.7")
    const other = Reasons.fromTransport(status(12, "unknown service"), put)
    assert.deepInclude(other.reason, { _tag: "Unsupported", feature: "KV.Put" })
  })

  it("tells the limit of grpc-go from that of etcd", () => {
    const { reason } = Reasons.fromTransport(status(8, "grpc: received message larger than max (9 vs. 1)"), put)
    assert.deepInclude(reason, { _tag: "RequestTooLarge", outcome: "not-applied" })
  })

  it("tells why a watch was canceled", () => {
    const compacted = Reasons.watchCanceled({ compactRevision: 7n, cancelReason: "" }).reason
    assert.deepInclude(compacted, { _tag: "Compacted", compactedRevision: 7n })
    const canceled = (cancelReason: string) => Reasons.watchCanceled({ compactRevision: 0n, cancelReason }).reason
    assert.strictEqual(
      canceled("rpc error: code = PermissionDenied desc = etcdserver: permission denied")._tag,
      "PermissionDenied"
    )
    assert.strictEqual(canceled("etcdserver: invalid auth token")._tag, "InvalidAuthToken")
    assert.strictEqual(canceled("mvcc: watcher range is empty")._tag, "InvalidArgument")
    assert.strictEqual(canceled("something new")._tag, "WatchCanceled")
    assert.include(canceled("something new").message, "something new")
    assert.strictEqual(canceled("")._tag, "WatchCanceled")
  })

  it.effect("is caught by its reason", () =>
    Effect.gen(function* () {
      const failing: Effect.Effect<string, EtcdError.EtcdError> = Effect.fail(Options.invalid("no"))
      const caught = failing.pipe(
        Effect.catchReason("EtcdError", "InvalidArgument", (reason) => Effect.succeed(reason.message))
      )
      assert.strictEqual(yield* caught, "no")
    })
  )

  it.effect("survives being encoded", () =>
    Effect.gen(function* () {
      const error = Reasons.watchCanceled({ compactRevision: 7n, cancelReason: "" })
      const encoded = yield* Schema.encodeEffect(EtcdError.EtcdError)(error)
      const decoded = yield* Schema.decodeEffect(EtcdError.EtcdError)(encoded)
      assert.strictEqual(decoded.message, error.message)
      assert.strictEqual(decoded.reason._tag, "Compacted")
    })
  )
})

/** Every reason there is, with what some of them need beside what all have. */
const others: { readonly [tag: string]: ReadonlyArray<object> } = {
  RevisionRegressed: [{ seen: 2n, current: 1n }],
  ServerTimeout: [{ during: "request" }],
  Unsupported: [{ feature: "KV.RangeStream" }],
  Unreachable: [{}, { lasting: true }],
  InvalidAuthToken: [{}, { lasting: true }],
  DeadlineExceeded: [{}, { lasting: true }],
  NotGrpc: Array.from({ length: 17 }, (_, code) => ({ code })),
  GrpcStatus: Array.from({ length: 17 }, (_, code) => ({ code, status: "odd" }))
}

const every: ReadonlyArray<EtcdError.EtcdError> = EtcdError.Reason.members.flatMap((Reason) => {
  const make = Reason as unknown as new (fields: object) => EtcdError.Reason
  const tag = new make({ message: "no", outcome: "unknown", ...others[Reason.name]?.[0] })._tag
  return (["not-applied", "unknown"] as const).flatMap((outcome) =>
    (others[tag] ?? [{}]).map((more) => EtcdError.make(new make({ message: "no", outcome, ...more })))
  )
})

const predicates = {
  transient: EtcdError.isTransient,
  auth: EtcdError.isAuth,
  "not found": EtcdError.isNotFound,
  "already exists": EtcdError.isAlreadyExists
}

/** What the table in the documentation says of a reason. */
const documented = (): ReadonlyMap<string, string> => {
  const source = readFileSync(join(import.meta.dirname, "../src/EtcdError.ts"), "utf8")
  return new Map(
    Array.from(source.matchAll(/^ \* \| `(\w+)` \| (.*?) ?\| (?:.+) \|$/gm), ([, tag, is]) => [tag!, is!] as const)
  )
}

describe("what to do about an EtcdError", () => {
  it("is said for each reason by the documentation as the predicates say it", () => {
    const table = documented()
    assert.deepStrictEqual([...table.keys()].sort(), [...new Set(every.map(({ reason }) => reason._tag))].sort())
    const byCode: { readonly [code: number]: string } = {
      ...{ 10: "transient", 14: "transient", 7: "auth", 16: "auth" },
      ...{ 5: "not found", 6: "already exists" }
    }
    for (const error of every) {
      const { reason } = error
      const said = table.get(reason._tag)!
      const due = /by its code/.test(said)
        ? (byCode[(reason as EtcdError.NotGrpc).code] ?? "")
        : (reason as EtcdError.Unreachable).lasting === true
          ? said.replace(/(, )?transient,? unless `lasting`/, "")
          : said.replace(/,? unless.*/, "")
      const held = Object.entries(predicates).flatMap(([name, holds]) => (holds(error) ? [name] : []))
      assert.deepStrictEqual(held, due === "" ? [] : due.split(", ").sort().reverse(), reason._tag)
    }
  })

  it("is the same as what the client does by itself", () => {
    for (const error of every) {
      const rule = RetryRules.worthwhile(error.reason)
      // The client asks a voter; where it knows none, or may ask none, a learner is one until somebody promotes it.
      const isElsewhere = rule === "elsewhere" && error.reason._tag !== "NotSupportedForLearner"
      if (isElsewhere || rule === "later") assert.isTrue(EtcdError.isTransient(error), error.reason._tag)
      if (rule === "another") assert.isFalse(EtcdError.isTransient(error), error.reason._tag)
      if (rule === "renew") assert.isTrue(EtcdError.isAuth(error), error.reason._tag)
    }
  })

  it("depends on what became of a write only where harm could be done", () => {
    for (const error of every) {
      assert.strictEqual(EtcdError.isOutcomeUnknown(error), error.outcome === "unknown")
      assert.strictEqual(
        EtcdError.isRetryable(error),
        EtcdError.isTransient(error) && error.outcome === "not-applied",
        error.reason._tag
      )
    }
  })

  it("can be asked of whatever a program fails with", () => {
    const holds = [...Object.values(predicates), EtcdError.isRetryable, EtcdError.isOutcomeUnknown]
    for (const other of [undefined, null, "no", new Error("no"), { _tag: "EtcdError" }]) {
      assert.isFalse(holds.some((is) => is(other)))
    }
  })

  it.effect("decides about another try", () =>
    Effect.gen(function* () {
      let tries = 0
      const failing = (reason: EtcdError.Reason): Effect.Effect<never, EtcdError.EtcdError | "other"> =>
        Effect.suspend(() => {
          tries++
          return Effect.fail(EtcdError.make(reason))
        })
      const details = { message: "no", outcome: "unknown" } as const
      const schedule = Schedule.recurs(2)
      const lost = failing(new EtcdError.ConnectionLost(details))
      yield* Effect.flip(Effect.retry(lost, { while: EtcdError.isTransient, schedule }))
      assert.strictEqual(tries, 3)
      yield* Effect.flip(Effect.retry(lost, { while: EtcdError.isRetryable, schedule }))
      assert.strictEqual(tries, 4)
      yield* Effect.flip(
        Effect.retry(failing(new EtcdError.Compacted(details)), { while: EtcdError.isTransient, schedule })
      )
      assert.strictEqual(tries, 5)
      // What is caught leaves the other reasons to be told.
      const there: Effect.Effect<string, EtcdError.EtcdError | "other"> = failing(
        new EtcdError.UserExists(details)
      ).pipe(Effect.catchIf(EtcdError.isAlreadyExists, () => Effect.succeed("there")))
      assert.strictEqual(yield* there, "there")
    })
  )
})
