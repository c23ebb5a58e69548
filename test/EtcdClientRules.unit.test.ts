/**
 * When a call is sent again: every RPC against every failure, over a transport that fails as told.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf"
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as EtcdError from "../src/EtcdError.ts"
import { makeWith } from "../src/internal/client/client.ts"
import { rules } from "../src/internal/client/retryRules.ts"
import { rpcs } from "../src/internal/client/rpcs.ts"
import type { TransportError } from "../src/internal/grpc/Transport.ts"
import { Election } from "../src/internal/proto/election_pb.ts"
import { Lock } from "../src/internal/proto/lock_pb.ts"
import * as Proto from "../src/internal/proto/rpc_pb.ts"
import * as Fake from "./support/client/fakeTransport.ts"

const services: ReadonlyArray<DescService> = [
  Proto.KV,
  Proto.Watch,
  Proto.Lease,
  Proto.Cluster,
  Proto.Maintenance,
  Proto.Auth,
  Lock,
  Election
]

const methods = services.flatMap((service) => service.methods)
const nameOf = (method: DescMethod) => `${method.parent.name}.${method.name}`

// What changes something, as etcd's documentation says: stated here once more, so that the client's table is not
// checked against itself.
const writes = new Set([
  "KV.Put",
  "KV.DeleteRange",
  "KV.Compact",
  "Lease.LeaseGrant",
  "Lease.LeaseRevoke",
  "Cluster.MemberAdd",
  "Cluster.MemberRemove",
  "Cluster.MemberUpdate",
  "Cluster.MemberPromote",
  "Maintenance.Defragment",
  "Maintenance.MoveLeader",
  "Auth.AuthEnable",
  "Auth.AuthDisable",
  "Auth.UserAdd",
  "Auth.UserDelete",
  "Auth.UserChangePassword",
  "Auth.UserGrantRole",
  "Auth.UserRevokeRole",
  "Auth.RoleAdd",
  "Auth.RoleDelete",
  "Auth.RoleGrantPermission",
  "Auth.RoleRevokePermission",
  "Lock.Lock",
  "Lock.Unlock",
  "Election.Campaign",
  "Election.Proclaim",
  "Election.Resign"
])

interface Request {
  readonly label: string
  readonly method: DescMethod
  readonly message: object
  readonly writes: boolean
}

const put = { request: { case: "requestPut", value: { key: new Uint8Array([1]) } } }
const range = { request: { case: "requestRange", value: { key: new Uint8Array([1]) } } }
const txn = (value: object) => ({ request: { case: "requestTxn", value } })
const { ACTIVATE, DEACTIVATE } = Proto.AlarmRequest_AlarmAction
const { CANCEL, ENABLE } = Proto.DowngradeRequest_DowngradeAction

const request = (
  method: DescMethod,
  message: object = {},
  changes = writes.has(nameOf(method)),
  note = ""
): Request => ({
  label: nameOf(method) + note,
  method,
  message,
  writes: changes
})

const requests: ReadonlyArray<Request> = [
  ...methods.filter((method) => method.methodKind !== "bidi_streaming").map((method) => request(method)),
  request(Proto.KV.method.txn, { success: [range], failure: [txn({ success: [range] })] }, false, " that reads"),
  request(Proto.KV.method.txn, { success: [range, put] }, true, " that puts"),
  request(Proto.KV.method.txn, { failure: [put] }, true, " that may put"),
  request(Proto.KV.method.txn, { success: [txn({ failure: [put] })] }, true, " that may put within"),
  request(Proto.Maintenance.method.alarm, { action: ACTIVATE }, true, " that is raised"),
  request(Proto.Maintenance.method.alarm, { action: DEACTIVATE }, true, " that is disarmed"),
  request(Proto.Maintenance.method.downgrade, { action: ENABLE }, true, " that is enabled"),
  request(Proto.Maintenance.method.downgrade, { action: CANCEL }, true, " that is cancelled")
]

interface Failure {
  readonly label: string
  readonly error: TransportError
  readonly resent: { readonly read: boolean; readonly write: boolean }
  readonly outcome: EtcdError.Outcome
  /** The token is refused, so a client with credentials sends the call once more. */
  readonly token?: true
}

const both = { read: true, write: true }
const reads = { read: true, write: false }
const never = { read: false, write: false }
const failed = (
  error: TransportError,
  resent: Failure["resent"],
  outcome: EtcdError.Outcome,
  extra: { readonly token?: true } = {}
): Failure => ({
  label: `${error.kind} ${error.processed} ${error.code} ${error.message}`,
  error,
  resent,
  outcome,
  ...extra
})
const etcd = (code: number, message: string) => Fake.status(code, `etcdserver: ${message}`)

const failures: ReadonlyArray<Failure> = [
  // The network.
  failed(Fake.failure("Unreachable", "no"), both, "not-applied"),
  failed(Fake.failure("ConnectionLost", "no", "refused stream"), both, "not-applied"),
  failed(Fake.failure("ConnectionLost", "unknown", "reset"), reads, "unknown"),
  failed(Fake.failure("Http", "unknown", "502 Bad Gateway"), reads, "unknown"),
  failed(Fake.failure("Http", "unknown", "404 Not Found", 12), never, "unknown"),
  failed(Fake.failure("Protocol", "unknown", "truncated", 13), never, "unknown"),
  failed(Fake.failure("Deadline", "unknown", "time is up", 4), never, "unknown"),
  failed(Fake.failure("Deadline", "no", "time is up", 4), never, "not-applied"),
  failed(Fake.failure("Identity", "yes", "another cluster", 9), reads, "unknown"),
  failed(Fake.failure("LeaderLost", "unknown", "another leader"), reads, "unknown"),
  failed(Fake.failure("LeaderLost", "no", "another leader"), both, "not-applied"),
  // A member that another may stand in for.
  failed(etcd(14, "no leader"), both, "not-applied"),
  failed(etcd(14, "leader changed"), reads, "unknown"),
  failed(etcd(14, "server stopped"), reads, "unknown"),
  failed(etcd(14, "request timed out"), reads, "unknown"),
  failed(etcd(14, "request timed out, possibly due to previous leader failure"), reads, "unknown"),
  failed(etcd(14, "request timed out, possibly due to connection lost"), reads, "unknown"),
  failed(etcd(14, "request timed out, waiting for the applied index took too long"), reads, "unknown"),
  failed(etcd(14, "rpc not supported for learner"), both, "not-applied"),
  failed(etcd(9, "rpc not supported for learner"), both, "not-applied"),
  failed(Fake.status(14, "transport is closing"), reads, "unknown"),
  // A cluster that may do better in a moment.
  failed(Fake.status(2, "raft proposal dropped"), both, "not-applied"),
  failed(etcd(8, "too many requests"), both, "not-applied"),
  // A token that is not good any more: nothing to renew without credentials.
  failed(etcd(16, "invalid auth token"), never, "not-applied", { token: true }),
  failed(etcd(3, "revision of auth store is old"), both, "not-applied", { token: true }),
  failed(etcd(3, "user name is empty"), never, "not-applied", { token: true }),
  // What stays wrong, whoever is asked.
  failed(etcd(3, "key is not provided"), never, "not-applied"),
  failed(etcd(3, "key not found"), never, "not-applied"),
  failed(etcd(3, "value is provided"), never, "not-applied"),
  failed(etcd(3, "lease is provided"), never, "not-applied"),
  failed(etcd(3, "invalid sort option"), never, "not-applied"),
  failed(etcd(3, "too many operations in txn request"), never, "not-applied"),
  failed(etcd(3, "duplicate key given in txn request"), never, "not-applied"),
  failed(etcd(3, "invalid client api version"), never, "not-applied"),
  failed(etcd(11, "mvcc: required revision has been compacted"), never, "not-applied"),
  failed(etcd(11, "mvcc: required revision is a future revision"), never, "not-applied"),
  failed(etcd(8, "mvcc: database space exceeded"), never, "unknown"),
  failed(etcd(5, "requested lease not found"), never, "not-applied"),
  failed(etcd(9, "lease already exists"), never, "not-applied"),
  failed(etcd(11, "too large lease TTL"), never, "not-applied"),
  failed(etcd(1, "watch canceled"), never, "unknown"),
  failed(etcd(9, "member ID already exist"), never, "not-applied"),
  failed(etcd(9, "Peer URLs already exists"), never, "not-applied"),
  failed(etcd(9, "re-configuration failed due to not enough started members"), never, "not-applied"),
  failed(etcd(3, "given member URLs are invalid"), never, "not-applied"),
  failed(etcd(5, "member not found"), never, "not-applied"),
  failed(etcd(9, "can only promote a learner member"), never, "not-applied"),
  failed(etcd(9, "can only promote a learner member which is in sync with leader"), never, "not-applied"),
  failed(etcd(9, "too many learner members in cluster"), never, "not-applied"),
  failed(etcd(9, "cluster ID mismatch"), both, "not-applied"),
  failed(etcd(3, "request is too large"), never, "not-applied"),
  failed(Fake.status(8, "grpc: received message larger than max (2 vs. 1)"), never, "not-applied"),
  failed(etcd(9, "root user does not exist"), never, "not-applied"),
  failed(etcd(9, "root user does not have root role"), never, "not-applied"),
  failed(etcd(9, "user name already exists"), never, "not-applied"),
  failed(etcd(9, "user name not found"), never, "not-applied"),
  failed(etcd(9, "role name already exists"), never, "not-applied"),
  failed(etcd(9, "role name not found"), never, "not-applied"),
  failed(etcd(3, "role name is empty"), never, "not-applied"),
  failed(etcd(3, "authentication failed, invalid user ID or password"), never, "not-applied"),
  failed(Fake.status(2, "auth: authentication failed, password was given for no password user"), never, "not-applied"),
  failed(etcd(3, "permission not given"), never, "not-applied"),
  failed(etcd(7, "permission denied"), never, "not-applied"),
  failed(etcd(9, "role is not granted to the user"), never, "not-applied"),
  failed(etcd(9, "permission is not granted to the role"), never, "not-applied"),
  failed(etcd(9, "authentication is not enabled"), never, "not-applied"),
  failed(etcd(3, "invalid auth management"), never, "not-applied"),
  failed(etcd(9, "not leader"), never, "not-applied"),
  failed(etcd(14, "not capable"), never, "not-applied"),
  failed(etcd(14, "unhealthy cluster"), never, "not-applied"),
  failed(etcd(15, "corrupt cluster"), never, "not-applied"),
  failed(etcd(9, "bad leader transferee"), never, "not-applied"),
  failed(etcd(3, "wrong downgrade target version format"), never, "not-applied"),
  failed(etcd(3, "invalid downgrade target version"), never, "not-applied"),
  failed(etcd(14, "cluster version not found during downgrade"), never, "not-applied"),
  failed(etcd(9, "cluster has a downgrade job in progress"), never, "not-applied"),
  failed(etcd(9, "no inflight downgrade job"), never, "not-applied"),
  failed(etcd(1, "request canceled"), never, "unknown"),
  failed(etcd(4, "context deadline exceeded"), never, "unknown"),
  failed(Fake.status(12, "unknown service"), never, "not-applied"),
  failed(Fake.status(13, "something else"), never, "unknown")
]

const nothing = new Uint8Array(0)
const isPath = (method: DescMethod, path: string) => path === `/${method.parent.typeName}/${method.name}`
const authenticated = toBinary(
  Proto.AuthenticateResponseSchema,
  create(Proto.AuthenticateResponseSchema, { token: "t" })
)

/** Two endpoints, of which the first that is asked fails; how often the call was sent, and how it ended. */
const perform = (row: Failure, { message, method }: Request, options: { readonly credentials?: boolean } = {}) =>
  Effect.gen(function* () {
    let failuresLeft = 1
    const answer = (call: Fake.Sent) =>
      Effect.suspend(() => {
        if (!isPath(method, call.path)) return Effect.succeed(authenticated)
        return failuresLeft-- > 0 ? Effect.fail(row.error) : Effect.succeed(nothing)
      })
    const fake = Fake.make({ "a:1": { answer }, "b:1": { answer } })
    const client = yield* makeWith(fake.transport, {
      endpoints: ["a:1", "b:1"],
      retry: Schedule.spaced("1 milli"),
      ...(options.credentials === true ? { credentials: { username: "u", password: Redacted.make("p") } } : {})
    })
    const call =
      method.methodKind === "server_streaming"
        ? Stream.runDrain(client.serverStream(method as never, message as never))
        : client.unary(method as never, message as never)
    const exit = yield* Effect.exit(call)
    return { exit, sent: fake.sent.filter((sent) => isPath(method, sent.path)) }
  }).pipe(Effect.scoped)

const expectedOutcome = (row: Failure, request: Request): EtcdError.Outcome =>
  request.writes && row.error.processed !== "no" ? row.outcome : "not-applied"

describe("the table of RPCs", () => {
  it("has a row for each RPC, and no other", () => {
    const rows = Object.entries(rpcs).flatMap(([service, own]) => Object.keys(own).map((name) => `${service}/${name}`))
    assert.sameMembers(
      rows,
      methods.map((method) => `${method.parent.typeName}/${method.name}`)
    )
  })

  it("has a rule for each reason, and no other", () => {
    const reasons = EtcdError.Reason.members.map((member) => member.identifier)
    assert.sameMembers(Object.keys(rules), reasons)
  })
})

describe("a call that failed", () => {
  for (const row of failures) {
    it.live(
      `${row.label}: ${row.resent.read ? "reads" : "nothing"}${row.resent.write ? " and writes" : ""} resent`,
      () =>
        Effect.gen(function* () {
          for (const request of requests) {
            const { exit, sent } = yield* perform(row, request)
            const resent = request.writes ? row.resent.write : row.resent.read
            assert.strictEqual(sent.length, resent ? 2 : 1, request.label)
            assert.strictEqual(Exit.isSuccess(exit), resent, request.label)
            if (Exit.isFailure(exit)) {
              const error = yield* Effect.flip(exit)
              assert.strictEqual(error.outcome, expectedOutcome(row, request), request.label)
            }
          }
        })
    )
  }

  it.live("is sent once more with a new token where the token was refused", () =>
    Effect.gen(function* () {
      for (const row of failures.filter((failure) => failure.token === true)) {
        for (const request of requests.filter(({ method }) => method.name !== "Authenticate")) {
          const { exit, sent } = yield* perform(row, request, { credentials: true })
          assert.strictEqual(sent.length, 2, request.label)
          assert.isTrue(Exit.isSuccess(exit), request.label)
        }
      }
    })
  )

  it.live("is asked of another endpoint, where one endpoint is to blame", () =>
    Effect.gen(function* () {
      const row = failed(etcd(14, "no leader"), both, "not-applied")
      const { sent } = yield* perform(row, request(Proto.KV.method.put))
      assert.sameMembers(
        sent.map(({ address }) => address),
        ["a:1", "b:1"]
      )
    })
  )
})
