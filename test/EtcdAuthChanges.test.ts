/**
 * What becomes of clients that are running when authentication, users and passwords change.
 */
import { inspect } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdClient from "../src/EtcdClient.ts"
import type * as EtcdError from "../src/EtcdError.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as KeyRange from "../src/KeyRange.ts"
import * as Etcd from "./support/client/etcd.ts"
import { reasonOf } from "./support/effects.ts"
import { until } from "./support/machine.ts"
import * as Spans from "./support/spans.ts"

/** An etcd with the users root and app, whose passwords are "r" and "a"; authentication is not enabled yet. */
const setUp = Effect.fnUntraced(function* (flags: ReadonlyArray<string> = []) {
  const node = yield* Etcd.node({ flags })
  const as = (username: string, password: string) =>
    EtcdClient.make({ endpoints: [node.endpoint], credentials: { username, password: Redacted.make(password) } })
  const root = EtcdAuth.fromClient(yield* as("root", "r"))
  for (const [name, password] of [
    ["root", "r"],
    ["app", "a"]
  ] as const) {
    yield* root.addUser(name, Redacted.make(password))
    yield* root.addRole(name)
    yield* root.grantRole(name, name)
  }
  yield* root.grantPermission("app", "readwrite", KeyRange.prefix("app/"))
  return { node, as, root }
})

describe("a client that is running", () => {
  it.live("goes on when authentication is enabled, disabled, and enabled again", () =>
    Effect.gen(function* () {
      const { as, root } = yield* setUp()
      const app = EtcdKv.fromClient(yield* as("app", "a"))
      yield* app.put("app/a", "1")
      yield* app.put("other", "1")
      for (let round = 0; round < 2; round++) {
        yield* root.enable()
        yield* app.put("app/a", "2")
        assert.strictEqual((yield* reasonOf(app.put("other", "2")))._tag, "PermissionDenied")
        yield* root.disable()
        yield* app.put("other", "3")
      }
    })
  )

  it.live("loses nothing, and does nothing twice, when its tokens are refused while many calls are under way", () =>
    Effect.gen(function* () {
      const { as, root } = yield* setUp()
      yield* root.enable()
      const app = EtcdKv.fromClient(yield* as("app", "a"))
      const writes = Array.from({ length: 32 }, () => 0)
      let [written, isOver] = [0, false]
      const put = (writer: number) =>
        Effect.map(app.put(`app/${writer}`, ""), () => {
          writes[writer]!++
          written++
          return isOver
        })
      const writing = yield* Effect.forkChild(
        Effect.forEach(writes.keys(), (writer) => Effect.repeat(put(writer), { until: (isOver) => isOver }), {
          concurrency: "unbounded",
          discard: true
        })
      )
      for (let changes = 0; changes < 4; changes++) {
        // It may be the same: the tokens that etcd has given for it are void.
        yield* root.changePassword("app", Redacted.make("a"))
        const before = written
        yield* until(() => written >= before + 200 || writing.pollUnsafe() !== undefined)
      }
      isOver = true
      yield* Fiber.join(writing)
      const { kvs } = yield* app.range(KeyRange.prefix("app/"))
      assert.sameMembers(
        kvs.map(({ keyString, version }) => `${keyString} ${version}`),
        writes.map((count, writer) => `app/${writer} ${count}`)
      )
    })
  )

  it.live("is told that its password is wrong when it was changed, or its user deleted", () =>
    Effect.gen(function* () {
      const { as, root } = yield* setUp()
      yield* root.enable()
      for (const end of ["changed", "deleted"] as const) {
        const app = EtcdKv.fromClient(yield* as("app", "a"))
        yield* app.get("app/a")
        yield* end === "changed" ? root.changePassword("app", Redacted.make("b")) : root.deleteUser("app")
        const reason = yield* reasonOf(app.put("app/a", "1"))
        assert.strictEqual(reason._tag, "AuthenticationFailed")
        assert.strictEqual(reason.outcome, "not-applied")
        assert.include(reason.message, "password")
        if (end === "changed") yield* root.changePassword("app", Redacted.make("a"))
      }
    })
  )
})

describe("a password", () => {
  it.live("is in no error, no line of the log and no span, whatever befalls the call that has it", () =>
    Effect.gen(function* () {
      const secret = "correct horse battery staple"
      const { root } = yield* setUp()
      const { spans, tracer } = Spans.recorder()
      const told: Array<unknown> = []
      const logger = Logger.make(({ cause, message }) => void told.push(message, cause))
      const password = Redacted.make(secret)
      const gone = yield* EtcdClient.make({ endpoints: ["127.0.0.1:1"], credentials: { username: "app", password } })
      const away = EtcdAuth.fromClient(gone)
      const calls: ReadonlyArray<Effect.Effect<unknown, EtcdError.EtcdError>> = [
        root.addUser("app", password),
        root.changePassword("nobody", password),
        root.authenticate("app", password),
        away.addUser("one", password, { deadline: "1 second" }),
        away.authenticate("one", password, { deadline: "1 second" }),
        root.addUser("two", secret as any),
        root.changePassword("two", { password: secret } as any),
        root.authenticate("two", Redacted.make({ secret }) as any),
        root.addUser(Redacted.make(secret) as any, password),
        root.enable({ metadata: { token: secret, Bad: secret } })
      ]
      for (const call of calls) {
        const exit = yield* Effect.exit(
          call.pipe(
            Effect.tapCause((cause) => Effect.logError(cause)),
            Effect.withTracer(tracer),
            Effect.provideService(Logger.CurrentLoggers, new Set([logger])),
            Effect.provideService(References.MinimumLogLevel, "All")
          )
        )
        told.push(exit, String(exit), JSON.stringify(exit))
      }
      assert.isAbove(spans.length, 5)
      for (const span of spans) told.push([...span.attributes.entries()], span.events, span.status)
      assert.notInclude(inspect(told, { depth: 20, showHidden: true, maxStringLength: null }), secret)
    })
  )
})
