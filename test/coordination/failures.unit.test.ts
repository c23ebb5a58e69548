import { assert, describe, it } from "@effect/vitest"
import * as EtcdError from "../../src/EtcdError.ts"
import * as Failures from "../../src/internal/coordination/failures.ts"

const details = { message: "refused", outcome: "not-applied" } as const

describe("who asks", () => {
  it("is refused for good by what etcd, or a proxy, says of the user, and not by a token that the client renews", () => {
    const isOfUser = (reason: EtcdError.Reason) => Failures.isOfUser(EtcdError.make(reason))
    for (const reason of [
      new EtcdError.PermissionDenied(details),
      new EtcdError.AuthenticationFailed(details),
      new EtcdError.UserNameEmpty(details),
      new EtcdError.InvalidAuthToken({ ...details, lasting: true }),
      ...[7, 16].map((code) => new EtcdError.GrpcStatus({ ...details, code, status: "refused" }))
    ]) {
      assert.isTrue(isOfUser(reason), reason._tag)
      assert.isFalse(Failures.onlyBlinds(EtcdError.make(reason)), reason._tag)
    }
    for (const reason of [
      new EtcdError.InvalidAuthToken(details),
      new EtcdError.AuthOldRevision(details),
      new EtcdError.NoLeader(details),
      new EtcdError.Unreachable({ ...details, lasting: true }),
      new EtcdError.GrpcStatus({ ...details, code: 14, status: "refused" })
    ]) {
      assert.isFalse(isOfUser(reason), reason._tag)
      assert.isTrue(Failures.onlyBlinds(EtcdError.make(reason)), reason._tag)
    }
  })

  it("gives a call no time is told, and not waited for", () => {
    assert.isTrue(Failures.mayPass(EtcdError.make(new EtcdError.DeadlineExceeded(details))))
    assert.isFalse(Failures.mayPass(EtcdError.make(new EtcdError.DeadlineExceeded({ ...details, lasting: true }))))
  })
})
