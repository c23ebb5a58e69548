import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as EtcdRegistry from "../../src/coordination/EtcdRegistry.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"

const live = EtcdSession.layer.pipe(Layer.provideMerge(EtcdLayer.ephemeral({}, { log: false })))

/** Waits until the addresses are these. */
const addressesAre = (
  mirror: Effect.Success<ReturnType<typeof EtcdRegistry.endpoints>>,
  expected: ReadonlyArray<string>
) =>
  Effect.flatMap(mirror.view, (view) => {
    const found = EtcdRegistry.addresses(view)
    return found.join() === expected.join() ? Effect.succeed(view) : Effect.fail(`${found} and not ${expected}`)
  }).pipe(Effect.retry(Schedule.spaced(10)))

describe("a registry", () => {
  layer(live, { excludeTestServices: true })((it) => {
    it.effect("has the JSON of Go's endpoints, and finds what Go has written", () =>
      Effect.gen(function* () {
        const users = yield* EtcdRegistry.endpoints("go/users")
        yield* EtcdRegistry.register({ service: "go/users", address: "10.0.0.7:80" })
        yield* EtcdRegistry.register({ service: "go/users", address: "10.0.0.8:80", metadata: { zone: "eu", w: [1] } })
        assert.deepStrictEqual(
          yield* EtcdKv.getString("go/users/10.0.0.7:80"),
          Option.some('{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}')
        )
        assert.deepStrictEqual(
          yield* EtcdKv.getString("go/users/10.0.0.8:80"),
          Option.some('{"Op":0,"Addr":"10.0.0.8:80","Metadata":{"zone":"eu","w":[1]}}')
        )
        yield* EtcdKv.put("go/users/named", '{"Op":0,"Addr":"[::1]:80","Metadata":"\\u003cb\\u003e"}')
        yield* EtcdKv.put("go/users/old", '{"Addr":"10.0.0.7:80"}')
        yield* EtcdKv.put("go/users/wrong", '{"Addr":""}')
        yield* EtcdKv.put("go/users2/other", '{"Addr":"elsewhere"}')
        const view = yield* addressesAre(users, ["10.0.0.7:80", "10.0.0.8:80", "[::1]:80"])
        const found = (yield* users.fresh).get("named").pipe(Option.getOrThrow, Result.getOrThrow)
        assert.deepStrictEqual(found.value, { address: "[::1]:80", metadata: "<b>" })
        assert.isAtLeast(view.size, 3)
        const wrong = Option.getOrThrow((yield* users.fresh).get("wrong"))
        assert.isTrue(Result.isFailure(wrong) && wrong.failure.key === "go/users/wrong")
      }).pipe(Effect.scoped)
    )

    it.effect("forgets an endpoint with its scope, and has it again after the lease was lost", () =>
      Effect.gen(function* () {
        const cache = yield* EtcdRegistry.endpoints("cache")
        const scope = yield* Scope.make()
        yield* Scope.provide(EtcdRegistry.register({ service: "cache", address: "a" }), scope)
        yield* EtcdRegistry.register({ service: "cache", address: "b" })
        yield* addressesAre(cache, ["a", "b"])
        const { id } = yield* EtcdSession.current
        yield* EtcdLease.revoke(id)
        yield* Effect.repeat(EtcdSession.current, {
          schedule: Schedule.spaced(10),
          until: (session) => session.id !== id
        })
        yield* addressesAre(cache, ["a", "b"])
        yield* Scope.close(scope, Exit.void)
        yield* addressesAre(cache, ["b"])
      }).pipe(Effect.scoped)
    )

    it.effect("refuses what makes no sense", () =>
      Effect.gen(function* () {
        const fine = { service: "s", address: "a" }
        const circular: { [key: string]: unknown } = {}
        circular.itself = circular
        let deep: ReadonlyArray<unknown> = []
        for (let depth = 0; depth < 100_000; depth++) deep = [deep]
        for (const given of [
          null,
          5,
          {},
          { service: "s" },
          { address: "a" },
          ...["", "/s", "s/", "s\0", "\ud800", 5, null].map((service) => ({ ...fine, service })),
          ...["", "a\0", "\ud800", 5, null].map((address) => ({ ...fine, address })),
          ...[Number.NaN, 5n, () => 5, { a: undefined }, new Date(0), circular, deep].map((metadata) => ({
            ...fine,
            metadata
          })),
          { ...fine, meta: {} }
        ]) {
          const { message, reason } = yield* Effect.flip(EtcdRegistry.register(given as EtcdRegistry.Registration))
          assert.strictEqual(reason._tag, "InvalidArgument", message)
        }
        for (const service of ["", "/s", "s/", 5, null, undefined]) {
          const { reason } = yield* Effect.flip(EtcdRegistry.endpoints(service as string))
          assert.strictEqual(reason._tag, "InvalidArgument")
        }
        const { reason } = yield* Effect.flip(EtcdRegistry.endpoints("s", { maxAge: 0 }))
        assert.strictEqual(reason._tag, "InvalidArgument")
      }).pipe(Effect.scoped)
    )
  })
})
