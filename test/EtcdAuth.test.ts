import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as KeyRange from "../src/KeyRange.ts"

const reason = <A, R>(effect: Effect.Effect<A, { readonly reason: { readonly _tag: string } }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason._tag)

const node = Layer.provideMerge(EtcdAuth.layer, EtcdLayer.ephemeral({}, { log: false }))

const ranges = (permissions: ReadonlyArray<EtcdAuth.Permission>) =>
  permissions.map(({ access, range }) => [access, [...range.key], [...range.end]])

const expected = (access: EtcdAuth.Access, range: KeyRange.KeyRange) => [access, [...range.key], [...range.end]]

describe("EtcdAuth", () => {
  layer(node, { excludeTestServices: true })((it) => {
    it.effect("users", () =>
      Effect.gen(function* () {
        yield* EtcdAuth.addUser("ann", Redacted.make("one"))
        yield* EtcdAuth.addUser("bot")
        assert.includeMembers([...(yield* EtcdAuth.users())], ["ann", "bot"])
        assert.deepStrictEqual(yield* EtcdAuth.userRoles("ann"), [])
        yield* EtcdAuth.addRole("reader")
        yield* EtcdAuth.grantRole("ann", "reader")
        assert.deepStrictEqual(yield* EtcdAuth.userRoles("ann"), ["reader"])
        yield* EtcdAuth.revokeRole("ann", "reader")
        assert.deepStrictEqual(yield* EtcdAuth.userRoles("ann"), [])
        yield* EtcdAuth.changePassword("ann", Redacted.make("two"))
        yield* EtcdAuth.deleteUser("bot")
        assert.notInclude(yield* EtcdAuth.users(), "bot")
        assert.strictEqual(yield* reason(EtcdAuth.addUser("ann")), "UserExists")
        assert.strictEqual(yield* reason(EtcdAuth.deleteUser("bot")), "UserNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.userRoles("bot")), "UserNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.changePassword("bot", Redacted.make("x"))), "UserNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.grantRole("bot", "reader")), "UserNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.grantRole("ann", "none")), "RoleNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.revokeRole("ann", "reader")), "RoleNotGranted")
        assert.strictEqual(yield* reason(EtcdAuth.addUser("", Redacted.make("x"))), "InvalidArgument")
        yield* EtcdAuth.deleteUser("ann")
        yield* EtcdAuth.deleteRole("reader")
      })
    )

    it.effect("roles, and permissions by key, prefix and range", () =>
      Effect.gen(function* () {
        yield* EtcdAuth.addRole("app")
        const given: ReadonlyArray<readonly [EtcdAuth.Access, KeyRange.KeyRange]> = [
          ["read", KeyRange.single("a")],
          ["write", KeyRange.prefix("b/")],
          ["readwrite", KeyRange.interval("c", "d")],
          ["read", KeyRange.from("z")]
        ]
        for (const [access, range] of given) yield* EtcdAuth.grantPermission("app", access, range)
        assert.deepStrictEqual(
          ranges(yield* EtcdAuth.rolePermissions("app")),
          given.map(([access, range]) => expected(access, range))
        )
        yield* EtcdAuth.grantPermission("app", "readwrite", "a")
        for (const [, range] of given.slice(1)) yield* EtcdAuth.revokePermission("app", range)
        assert.deepStrictEqual(ranges(yield* EtcdAuth.rolePermissions("app")), [
          expected("readwrite", KeyRange.single("a"))
        ])
        yield* EtcdAuth.addRole("all")
        yield* EtcdAuth.grantPermission("all", "read", KeyRange.all)
        assert.deepStrictEqual(ranges(yield* EtcdAuth.rolePermissions("all")), [expected("read", KeyRange.all)])
        yield* EtcdAuth.revokePermission("all", KeyRange.all)
        assert.deepStrictEqual(yield* EtcdAuth.rolePermissions("all"), [])
        assert.includeMembers([...(yield* EtcdAuth.roles())], ["all", "app"])
        assert.strictEqual(yield* reason(EtcdAuth.addRole("app")), "RoleExists")
        assert.strictEqual(yield* reason(EtcdAuth.revokePermission("app", "b")), "PermissionNotGranted")
        yield* EtcdAuth.deleteRole("all")
        yield* EtcdAuth.deleteRole("app")
        assert.strictEqual(yield* reason(EtcdAuth.deleteRole("app")), "RoleNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.rolePermissions("app")), "RoleNotFound")
        assert.strictEqual(yield* reason(EtcdAuth.grantPermission("app", "read", "a")), "RoleNotFound")
        // A longer one stops etcd itself.
        const longest = "é".repeat(16_384)
        for (const add of [EtcdAuth.addUser, EtcdAuth.addRole]) {
          assert.strictEqual(yield* reason(add(`${longest}x`)), "InvalidArgument")
          yield* add(longest)
        }
        yield* EtcdAuth.deleteUser(longest)
        yield* EtcdAuth.deleteRole(longest)
        // bcrypt looks at 72 bytes, and older versions of etcd say nothing of the rest.
        const long = Redacted.make(`${"é".repeat(36)}x`)
        assert.strictEqual(yield* reason(EtcdAuth.addUser("long", long)), "InvalidArgument")
        yield* EtcdAuth.addUser("long", Redacted.make("é".repeat(36)))
        assert.strictEqual(yield* reason(EtcdAuth.changePassword("long", long)), "InvalidArgument")
        yield* EtcdAuth.deleteUser("long")
        // Old versions take it, and newer ones say that root is to be left alone.
        for (const range of [KeyRange.interval("b", "a"), KeyRange.interval("b", "b")]) {
          assert.strictEqual(yield* reason(EtcdAuth.grantPermission("app", "read", range)), "InvalidArgument")
        }
      })
    )

    it.effect("status, and what goes without authentication", () =>
      Effect.gen(function* () {
        const etcd = yield* EtcdProcess.EtcdProcess
        if (etcd.version.minor < 5) {
          const error = yield* Effect.flip(EtcdAuth.status())
          assert.strictEqual(error.reason._tag, "Unsupported")
          assert.include(error.message, "3.5")
        } else {
          const before = yield* EtcdAuth.status()
          assert.isFalse(before.enabled)
          yield* EtcdAuth.addRole("counted")
          assert.isTrue((yield* EtcdAuth.status()).revision > before.revision)
          yield* EtcdAuth.deleteRole("counted")
        }
        assert.strictEqual(yield* reason(EtcdAuth.authenticate("x", Redacted.make("y"))), "AuthNotEnabled")
        assert.strictEqual(yield* reason(EtcdAuth.enable()), "RootUserNotFound")
        yield* EtcdAuth.disable()
      })
    )
  })

  it.live("enabled, everybody may do what the roles allow and nothing else", () =>
    Effect.gen(function* () {
      const etcd = yield* EtcdProcess.EtcdProcess
      const as = (username: string, password: string) =>
        EtcdClient.make({ endpoints: etcd.endpoints, credentials: { username, password: Redacted.make(password) } })
      const root = EtcdAuth.fromClient(yield* as("root", "r"))
      const kvAs = (username: string, password: string) => Effect.map(as(username, password), EtcdKv.fromClient)
      const app = yield* kvAs("app", "a")
      const impostor = yield* kvAs("app", "b")
      yield* EtcdAuth.addUser("root", Redacted.make("r"))
      assert.strictEqual(yield* reason(EtcdAuth.enable()), "RootRoleNotGranted")
      yield* EtcdAuth.addRole("root")
      yield* EtcdAuth.grantRole("root", "root")
      yield* EtcdAuth.addRole("app")
      yield* EtcdAuth.grantPermission("app", "readwrite", KeyRange.prefix("app/"))
      yield* EtcdAuth.grantPermission("app", "read", "shared")
      yield* EtcdAuth.addUser("app", Redacted.make("a"))
      yield* EtcdAuth.grantRole("app", "app")
      yield* EtcdAuth.enable()

      yield* app.put("app/a", "1")
      yield* app.get("shared")
      assert.strictEqual(yield* reason(app.put("shared", "1")), "PermissionDenied")
      assert.strictEqual(yield* reason(app.range(KeyRange.all)), "PermissionDenied")
      assert.strictEqual(yield* reason(impostor.get("app/a")), "AuthenticationFailed")
      // Whom a client certificate alone can tell.
      yield* root.addUser("certified")
      const refused = yield* Effect.flip(EtcdAuth.authenticate("certified", Redacted.make("a")))
      assert.strictEqual(refused.reason._tag, "AuthenticationFailed")
      assert.strictEqual(yield* reason((yield* kvAs("certified", "a")).get("app/a")), "AuthenticationFailed")
      assert.strictEqual(yield* reason(EtcdKv.get("app/a")), "UserNameEmpty")

      const token = yield* EtcdAuth.authenticate("app", Redacted.make("a"))
      assert.isTrue(Redacted.value(token).length > 0)
      assert.notInclude(String(token), Redacted.value(token))
      assert.strictEqual(yield* reason(root.deleteUser("root")), "InvalidAuthManagement")
      assert.strictEqual(yield* reason(root.revokeRole("root", "root")), "InvalidAuthManagement")
      yield* root.disable()
      yield* EtcdKv.put("shared", "1")
    }).pipe(Effect.scoped, Effect.provide(node))
  )
})
