import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as EtcdBatch from "../../../src/EtcdBatch.ts"
import * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as EtcdNamespace from "../../../src/EtcdNamespace.ts"
import * as EtcdTxn from "../../../src/EtcdTxn.ts"
import * as Caller from "../../../src/internal/caller.ts"
import * as Origin from "../../../src/internal/client/origin.ts"
import { Cluster } from "../../../src/internal/proto/rpc_pb.ts"

const prefixOf = (client: EtcdClient.Client) => new TextDecoder().decode(Origin.of(client).prefix)

/** A client of somebody else's making, which says what options it was given. */
const foreign = () => {
  const seen: Array<EtcdClient.CallOptions | undefined> = []
  const client: EtcdClient.Client = {
    unary: (_method, _request, options) => {
      seen.push(options)
      return Effect.never
    },
    serverStream: () => Stream.never,
    bidirectional: () => Effect.never,
    defaults: () => ({}),
    endpoints: Effect.succeed([])
  }
  return { client, seen }
}

/** A detour that says so. */
const marking =
  (marks: Array<string>, mark: string): Origin.Detour =>
  (unary) =>
  (method, request, options) => {
    marks.push(mark)
    return unary(method, request, options)
  }

describe("where a client's calls go", () => {
  it.live("is known of a client, of all that is made of it, and of copies", () =>
    Effect.gen(function* () {
      const caller = yield* Caller.make
      for (const batching of [false, true]) {
        const client = yield* EtcdClient.make({ endpoints: ["localhost:1"], batching })
        const { root } = Origin.of(client)
        assert.strictEqual(prefixOf(client), "")
        const outer = EtcdNamespace.fromClient(client, "a/")
        const inner = EtcdNamespace.fromClient({ ...outer }, "b/")
        const made = [
          [{ ...client }, ""],
          [Caller.client(caller, client), ""],
          [EtcdNamespace.fromClient(client, ""), ""],
          [outer, "a/"],
          [inner, "a/b/"],
          [yield* EtcdBatch.fromClient(inner), "a/b/"],
          [EtcdNamespace.fromClient(yield* EtcdBatch.fromClient(inner), "c/"), "a/b/c/"]
        ] as const
        for (const [client, prefix] of made) {
          assert.strictEqual(Origin.of(client).root, root)
          assert.strictEqual(prefixOf(client), prefix)
        }
        const other = yield* EtcdClient.make({ endpoints: ["localhost:1"], batching })
        assert.notStrictEqual(Origin.of(other).root, root)
      }
    }).pipe(Effect.scoped)
  )

  it("is a client itself of which nobody has said it", () => {
    const { client } = foreign()
    assert.strictEqual(Origin.of(client).root, client)
    assert.strictEqual(prefixOf(client), "")
    assert.strictEqual(Origin.of(Origin.ground(client)).root, client)
    for (const prefix of ["a/", "b/"]) {
      assert.strictEqual(Origin.of(EtcdNamespace.fromClient(client, prefix)).root, client)
    }
    const grounded = Origin.ground(client)
    assert.strictEqual(Origin.ground(grounded), grounded)
  })

  it("is not seen by who looks at the names of a client, or of a service", () => {
    const { client } = foreign()
    const names = ["bidirectional", "defaults", "endpoints", "serverStream", "unary"]
    assert.deepStrictEqual(Object.keys(EtcdNamespace.fromClient(client, "a/")).sort(), names)
    assert.deepStrictEqual(Object.keys(EtcdTxn.fromClient(client)), ["commit"])
  })

  it("is remembered by services, and by copies of them", () => {
    const { client } = foreign()
    assert.strictEqual(Origin.clientOf(EtcdKv.fromClient(client)), client)
    assert.strictEqual(Origin.clientOf({ ...EtcdTxn.fromClient(client) }), client)
    assert.isUndefined(Origin.clientOf({ commit: () => Effect.never }))
  })
})

describe("a detour", () => {
  it("is made below all namespaces, in the order in which they were asked for, and takes nothing from the other options", () => {
    const { client, seen } = foreign()
    const inside = EtcdNamespace.fromClient(EtcdNamespace.fromClient(client, "a/"), "b/")
    const marks: Array<string> = []
    const own = { deadline: "1 second", metadata: { a: "b" } } as const
    const options = Origin.withDetour(Origin.withDetour(own, marking(marks, "first")), marking(marks, "last"))
    inside.unary(Cluster.method.memberList, {}, options)
    assert.deepStrictEqual(marks, ["first", "last"])
    assert.deepInclude(seen[0], own)
    assert.isUndefined((seen[0] as Origin.Detoured)[Origin.Detour])
    inside.unary(Cluster.method.memberList, {}, own)
    assert.strictEqual(seen[1], own)
    inside.unary(Cluster.method.memberList, {})
    assert.isUndefined(seen[2])
    assert.strictEqual(marks.length, 2)
  })
})
