import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Schedule from "effect/Schedule"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdConfig from "../src/EtcdConfig.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"

const reason = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

const retrying = { schedule: Schedule.spaced(50), times: 200 }

/** One node whose sockets are in a directory where others can join it. */
const setUp = Effect.fnUntraced(function* (more: EtcdConfig.Input = {}) {
  const fs = yield* FileSystem.FileSystem
  const runDirectory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-test-" })
  const config = (name: string) => ({
    name,
    listenClientUrls: `unix://${name}.client:0`,
    listenPeerUrls: `unix://${name}.peer:0`,
    initialAdvertisePeerUrls: `unix://${name}.peer:0`
  })
  const options = { log: false, runDirectory }
  const first = yield* EtcdProcess.ephemeral(
    { ...config("first"), initialCluster: { first: "unix://first.peer:0" }, ...more },
    options
  )
  const join = (name: string) =>
    EtcdProcess.ephemeral(
      {
        ...config(name),
        initialCluster: { first: "unix://first.peer:0", [name]: `unix://${name}.peer:0` },
        initialClusterState: "existing"
      },
      options
    ).pipe(
      // As long as the first one has not decided on the version of the cluster.
      Effect.retry({
        while: ({ message }) => message.includes("incompatible with current running cluster"),
        ...retrying
      })
    )
  const membership = EtcdMembership.fromClient(yield* EtcdClient.make({ endpoints: first.endpoints }))
  return { first, join, membership }
})

describe("EtcdMembership", () => {
  it.live("lists, adds a learner, promotes, updates and removes", () =>
    Effect.gen(function* () {
      // Otherwise etcd wants every member to have been up for five seconds before each change.
      const { first, join, membership } = yield* setUp({ strictReconfigCheck: false })
      const { header, members } = yield* membership.list()
      assert.strictEqual(header.memberId, first.id)
      assert.deepStrictEqual(
        members.map((member) => ({ ...member, clientUrls: member.clientUrls.length })),
        [{ id: first.id, name: "first", peerUrls: ["unix://first.peer:0"], clientUrls: 1, isLearner: false }]
      )
      assert.deepStrictEqual((yield* membership.list({ serializable: true })).members, members)

      const added = yield* membership.add(["unix://second.peer:0"], { isLearner: true })
      assert.isTrue(added.member.isLearner)
      assert.strictEqual(added.member.name, "")
      assert.strictEqual(added.members.length, 2)
      assert.deepInclude(added.members, added.member)
      assert.strictEqual(yield* reason(membership.promote(added.member.id)), "LearnerNotReady")
      assert.strictEqual(yield* reason(membership.promote(first.id)), "MemberNotLearner")

      const second = yield* join("second")
      assert.strictEqual(second.id, added.member.id)
      const promoted = yield* membership
        .promote(second.id)
        .pipe(Effect.retry({ while: (error) => error.reason._tag === "LearnerNotReady", ...retrying }))
      assert.isTrue(promoted.members.every((member) => !member.isLearner))

      const moved = yield* membership.update(second.id, ["unix://second.peer:0", "unix://elsewhere.peer:0"])
      assert.deepStrictEqual([...moved.members.find((member) => member.id === second.id)!.peerUrls].sort(), [
        "unix://elsewhere.peer:0",
        "unix://second.peer:0"
      ])

      const left = yield* membership.remove(second.id)
      assert.deepStrictEqual(
        left.members.map((member) => member.id),
        [first.id]
      )
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("what is refused is a reason of its own", () =>
    Effect.gen(function* () {
      const { membership } = yield* setUp()
      const nobody = EtcdId.MemberId(404n)
      assert.strictEqual(yield* reason(membership.remove(nobody)), "MemberNotFound")
      assert.strictEqual(yield* reason(membership.update(nobody, ["http://127.0.0.1:1"])), "MemberNotFound")
      assert.strictEqual(yield* reason(membership.promote(nobody)), "MemberNotFound")
      assert.strictEqual(yield* reason(membership.add(["no URL"])), "InvalidArgument")
      assert.strictEqual(yield* reason(membership.add(["unix://first.peer:0"])), "PeerUrlExists")
      const voter = yield* membership.add(["unix://voter.peer:0"])
      assert.isFalse(voter.member.isLearner)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("takes every URL at which a member may be reached", () =>
    Effect.gen(function* () {
      const { first, membership } = yield* setUp()
      // Of the link-local address of a machine the zone is a part.
      const urls = ["http://[fe80::1%25eth0]:2380", "https://[::1]:2380", "http://a_b.example:2380", "unix://a.peer:0"]
      const { members } = yield* membership.update(first.id, urls)
      assert.deepStrictEqual([...members[0]!.peerUrls].sort(), urls.toSorted())
      for (const url of ["http://[fe80::1%eth0]:2380", "http://[fe80::1%25]:2380", "http://a%25b:2380"]) {
        assert.strictEqual(yield* reason(membership.update(first.id, [url])), "InvalidArgument", url)
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )
})
