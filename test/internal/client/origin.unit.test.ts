import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as EtcdBatch from "../../../src/EtcdBatch.ts"
import * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdNamespace from "../../../src/EtcdNamespace.ts"
import * as Caller from "../../../src/internal/caller.ts"
import * as Origin from "../../../src/internal/client/origin.ts"
import { Cluster, KV } from "../../../src/internal/proto/rpc_pb.ts"

const prefixOf = (client: EtcdClient.Client) => new TextDecoder().decode(Origin.of(client).prefix)

/** A client of somebody else's making, which says what options it was given. */
const foreign = () => {
  const seen: Array<EtcdClient.CallOptions | undefined> = []
  const client: EtcdClient.Client = {
    unary: (_method, _request, options) => {
      seen.push(options)
      return Effect.succeed({ kvs: [] } as never)
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
  () =>
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

  it("is not seen by who looks at the names of a client", () => {
    const { client } = foreign()
    const names = ["bidirectional", "defaults", "endpoints", "serverStream", "unary"]
    assert.deepStrictEqual(Object.keys(EtcdNamespace.fromClient(client, "a/")).sort(), names)
  })
})

describe("a detour", () => {
  it.effect(
    "is made below all namespaces by what the fiber writes, the innermost first, and takes no options away",
    () =>
      Effect.gen(function* () {
        const { client, seen } = foreign()
        const inside = EtcdNamespace.fromClient(EtcdNamespace.fromClient(client, "a/"), "b/")
        const marks: Array<string> = []
        const [outer, inner] = [marking(marks, "outer"), marking(marks, "inner")]
        const own = { deadline: "1 second", metadata: { a: "b" } } as const
        const write = (options?: EtcdClient.CallOptions) =>
          inside.unary(KV.method.put, { key: new Uint8Array(1) }, options)
        const both = <A, E>(effect: Effect.Effect<A, E>) => Origin.detoured(Origin.detoured(effect, inner), outer)

        yield* both(write(own))
        assert.deepStrictEqual(marks.splice(0), ["inner", "outer"])
        assert.strictEqual(seen[0], own)
        yield* both(Origin.detoured(write(), outer))
        assert.deepStrictEqual(marks.splice(0), ["inner", "outer"])
        assert.isUndefined(seen[1])
        const context = Origin.withDetour(Origin.withDetour(Context.empty(), outer), inner)
        yield* Effect.provide(write(), context)
        assert.deepStrictEqual(marks.splice(0), ["inner", "outer"])
        yield* Effect.provide(Effect.flatMap(Effect.forkChild(write()), Fiber.join), context)
        assert.deepStrictEqual(marks.splice(0), ["inner", "outer"])
        yield* both(Origin.besides(write(), outer))
        assert.deepStrictEqual(marks.splice(0), ["inner"])

        for (const none of [
          write(),
          both(Origin.straight(write())),
          both(Origin.straight(Origin.detoured(write(), inner))),
          both(Origin.straight(Effect.flatMap(Effect.forkDetach(Origin.detoured(write(), inner)), Fiber.join))),
          both(Origin.outside(inside).unary(KV.method.put, { key: new Uint8Array(1) })),
          both(inside.unary(KV.method.range, { key: new Uint8Array(1) })),
          both(inside.unary(Cluster.method.memberList, {}))
        ]) {
          yield* none
        }
        assert.deepStrictEqual(marks, [])
        yield* both(Origin.straight(Effect.provide(write(), Origin.withDetour(Context.empty(), inner))))
        assert.deepStrictEqual(marks, ["inner"])
      })
  )

  it.effect("that leads elsewhere is left to what is below", () =>
    Effect.gen(function* () {
      const { client } = foreign()
      const below = Origin.ground(client)
      const above: EtcdClient.Client = { ...client, unary: (...call) => below.unary(...call) }
      const marks: Array<string> = []
      const here = marking(marks, "here")
      const detour: Origin.Detour = (origin) => (origin.root === client ? here(origin) : undefined)
      yield* Origin.detoured(Origin.ground(above).unary(KV.method.put, { key: new Uint8Array(1) }), detour)
      assert.deepStrictEqual(marks, ["here"])
      marks.length = 0
      // And made once where both would make it.
      yield* Origin.detoured(Origin.ground(above).unary(KV.method.put, { key: new Uint8Array(1) }), here)
      assert.deepStrictEqual(marks, ["here"])
    })
  )
})
