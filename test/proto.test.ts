import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import { rpcs } from "../src/internal/client/rpcs.ts"
import * as Proto from "../src/proto.ts"
import { bytes } from "./support/bytes.ts"

describe("the wire contract", () => {
  it("has every service and method that the client knows, and every message", () => {
    const known = new Map<string, object>(Object.entries(Proto))
    for (const [service, methods] of Object.entries(rpcs)) {
      const descriptor = Reflect.get(Proto, service.slice(service.indexOf(".") + 1))
      assert.strictEqual(descriptor.typeName, service)
      assert.sameMembers(
        descriptor.methods.map((method: { readonly name: string }) => method.name),
        Object.keys(methods)
      )
    }
    const generated = join(import.meta.dirname, "..", "src", "internal", "proto")
    const values = readdirSync(generated).flatMap((file) =>
      Array.from(readFileSync(join(generated, file), "utf8").matchAll(/^export const (\w+)/gm), ([, name]) => name!)
    )
    assert.isAbove(values.length, 100)
    assert.sameMembers(Array.from(known.keys()), values)
  })

  layer(EtcdLayer.ephemeral({}, { log: false }), { excludeTestServices: true })((it) => {
    it.effect("makes the calls that no service has: etcd's own lock and election", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const { id: lease } = yield* EtcdLease.make("10 seconds")

        const { key } = yield* client.unary(Proto.Lock.method.lock, { name: bytes("jobs"), lease })
        assert.strictEqual((yield* EtcdKv.get(key))._tag, "Some")
        yield* client.unary(Proto.Lock.method.unlock, { key })
        assert.strictEqual((yield* EtcdKv.get(key))._tag, "None")

        const name = bytes("leaders")
        const { leader } = yield* client.unary(Proto.Election.method.campaign, { name, lease, value: bytes("me") })
        const [told] = yield* client
          .serverStream(Proto.Election.method.observe, { name })
          .pipe(Stream.take(1), Stream.runCollect)
        assert.deepStrictEqual(told?.kv?.key, leader?.key)
      }).pipe(Effect.scoped)
    )

    it.effect("fails as every other call does", () =>
      Effect.gen(function* () {
        const client = yield* EtcdClient.EtcdClient
        const error = yield* Effect.flip(client.unary(Proto.Lock.method.lock, { name: bytes("jobs"), lease: 1n }))
        assert.instanceOf(error, EtcdError.EtcdError)
        assert.strictEqual(error.reason._tag, "LeaseNotFound")
      }).pipe(Effect.scoped)
    )
  })
})
