import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdAuth from "../src/EtcdAuth.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdProcess from "../src/EtcdProcess.ts"
import * as Role from "../src/Role.ts"
import { freeze } from "./support/machine.ts"
import { fixture } from "./support/tls.ts"

const quiet = { log: false } as const

const awaitState = (node: EtcdProcess.Node, holds: (state: Role.State) => boolean) =>
  Effect.asVoid(Stream.runHead(Stream.filter(SubscriptionRef.changes(node.role), holds)))

const awaitReady = (node: EtcdProcess.Node, is: boolean) =>
  Effect.asVoid(Stream.runHead(Stream.filter(SubscriptionRef.changes(node.ready), (ready) => ready === is)))

/** What is shown of a node's role from now on. */
const rolesOf = Effect.fnUntraced(function* (node: EtcdProcess.Node) {
  const shown: Array<string> = []
  yield* Effect.forkScoped(
    Stream.runForEach(Role.changes(node), (state) => Effect.sync(() => shown.push(`${state.role}@${state.term}`)))
  )
  return shown
})

describe("the role of an etcd", { concurrent: true }, () => {
  it.live("a frozen leader's work ends, another's begins, and the old one follows when it is back", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.make({
        ...quiet,
        config: { heartbeatInterval: "50 millis", electionTimeout: "500 millis" }
      })
      const works = yield* SubscriptionRef.make<ReadonlyArray<string>>([])
      const work = (node: EtcdProcess.Node) =>
        Effect.acquireUseRelease(
          SubscriptionRef.update(works, (names) => [...names, node.name]),
          () => Effect.never,
          () => SubscriptionRef.update(works, (names) => names.filter((name) => name !== node.name))
        )
      for (const node of SubscriptionRef.getUnsafe(cluster.members))
        yield* Effect.forkScoped(Role.whileLeader(node, work(node)))
      const does = (holds: (names: ReadonlyArray<string>) => boolean) =>
        Effect.map(Stream.runHead(Stream.filter(SubscriptionRef.changes(works), holds)), Option.getOrThrow)
      const [name] = yield* does((names) => names.length === 1)
      const first = SubscriptionRef.getUnsafe(cluster.members).find((node) => node.name === name)!
      const { term } = yield* SubscriptionRef.get(first.role)
      const shown = yield* rolesOf(first)
      yield* freeze(first)
      yield* does((names) => names.length === 1 && names[0] !== first.name)
      assert.deepInclude(yield* SubscriptionRef.get(first.role), { role: "follower", term, leader: Option.none() })
      yield* awaitReady(first, false)
      yield* first.signal("SIGCONT")
      yield* awaitState(first, (state) => state.term > term && Option.isSome(state.leader))
      yield* awaitReady(first, true)
      assert.strictEqual(shown.filter((name) => name === `leader@${term}`).length, 1, shown.join())
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  for (const logLevel of ["info", "error"] as const) {
    it.live(`a frozen node alone leads the same term when it is back, with a log of level ${logLevel}`, () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.ephemeral({ logLevel }, quiet)
        yield* awaitState(node, ({ role }) => role === "leader")
        const { term } = yield* SubscriptionRef.get(node.role)
        yield* freeze(node)
        yield* awaitState(node, ({ role }) => role === "follower")
        yield* awaitReady(node, false)
        yield* node.signal("SIGCONT")
        yield* awaitReady(node, true)
        yield* awaitState(node, ({ role }) => role === "leader")
        assert.strictEqual((yield* SubscriptionRef.get(node.role)).term, term)
        yield* freeze(node)
        yield* awaitReady(node, false)
        yield* node.signal("SIGKILL")
        yield* awaitState(node, ({ role }) => role === "stopped")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  }

  it.live("no term has two leaders, and nobody leads one twice, where only answers tell", () =>
    Effect.gen(function* () {
      const cluster = yield* EtcdCluster.make({
        ...quiet,
        statusInterval: "4 millis",
        config: { heartbeatInterval: "50 millis", electionTimeout: "500 millis", logLevel: "error" }
      })
      const led: Array<bigint> = []
      for (const node of SubscriptionRef.getUnsafe(cluster.members)) {
        yield* Effect.forkScoped(
          Stream.runForEach(Role.changes(node), ({ role, term }) =>
            Effect.sync(() => void (role === "leader" && led.push(term)))
          )
        )
      }
      const at = (member: EtcdProcess.Node) => EtcdLayer.connect({ endpoints: member.endpoints })
      let leader = yield* cluster.awaitLeader
      for (let move = 1; move <= 4; move++) {
        const target = SubscriptionRef.getUnsafe(cluster.members).find((member) => member !== leader)!
        yield* awaitState(target, ({ leader: known }) => Option.contains(known, leader.id))
        yield* Effect.provide(EtcdMaintenance.moveLeader(target.id), at(leader))
        yield* awaitState(target, ({ role }) => role === "leader")
        leader = target
      }
      assert.deepStrictEqual(led, [...new Set(led)])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a node that asks for a certificate which this client has not is what its log says", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral(
        {
          listenClientUrls: "https://127.0.0.1:0",
          advertiseClientUrls: "https://127.0.0.1:1",
          certFile: fixture.path("server.pem"),
          keyFile: fixture.path("server.key"),
          trustedCaFile: fixture.path("ca.pem"),
          clientCertAuth: true
        },
        quiet
      )
      yield* awaitState(node, ({ role }) => role === "leader")
      const shown = yield* rolesOf(node)
      yield* Effect.sleep("1200 millis")
      assert.strictEqual(shown.length, 1)
      assert.isTrue(yield* SubscriptionRef.get(node.ready))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a node whose certificate is not trusted, and whose log says nothing, serves and is a follower", () =>
    Effect.gen(function* () {
      const node = yield* EtcdProcess.ephemeral(
        {
          listenClientUrls: "https://127.0.0.1:0",
          advertiseClientUrls: "https://127.0.0.1:1",
          certFile: fixture.path("server.pem"),
          keyFile: fixture.path("server.key"),
          logLevel: "error"
        },
        { ...quiet, startTimeout: "10 seconds" }
      )
      assert.isTrue(yield* SubscriptionRef.get(node.ready))
      assert.strictEqual((yield* SubscriptionRef.get(node.role)).role, "follower")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a node that wants a password, and whose log says nothing, starts, serves and is a follower", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const dataDir = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-" })
      const start = EtcdProcess.ephemeral({ dataDir, logLevel: "error" }, { ...quiet, startTimeout: "10 seconds" })
      const check = Effect.fnUntraced(function* (node: EtcdProcess.Node) {
        assert.isTrue(yield* SubscriptionRef.get(node.ready))
        assert.notStrictEqual((yield* SubscriptionRef.get(node.role)).role, "stopped")
      })
      const id = yield* Effect.scoped(
        Effect.gen(function* () {
          const node = yield* start
          const protect = Effect.gen(function* () {
            const auth = yield* EtcdAuth.EtcdAuth
            yield* auth.addUser("root", Redacted.make("secret"))
            yield* Effect.ignore(auth.addRole("root"))
            yield* auth.grantRole("root", "root")
            yield* auth.enable()
          })
          yield* Effect.provide(protect, EtcdLayer.connect({ endpoints: node.endpoints }))
          yield* node.stop
          yield* node.start
          yield* check(node)
          return node.id
        })
      )
      const again = yield* start
      yield* check(again)
      assert.include([0n, id], again.id)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("an etcd that prints each line to two pipes leads each term once", () =>
    Effect.forEach(
      [1, 2, 3],
      () =>
        Effect.scoped(
          Effect.gen(function* () {
            const node = yield* EtcdProcess.ephemeral({ logOutputs: ["stderr"] }, quiet)
            yield* awaitState(node, ({ role }) => role === "leader")
            const shown = yield* rolesOf(node)
            yield* node.stop
            yield* awaitState(node, ({ role }) => role === "stopped")
            assert.deepStrictEqual(shown.filter((name) => name.startsWith("leader")).length, 1, shown.join())
          })
        ),
      { discard: true }
    ).pipe(Effect.provide(NodeServices.layer))
  )
})
