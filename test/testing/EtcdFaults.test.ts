/**
 * Faults of a real cluster: that each is what it is said to be, and nothing else, and that it is over when it is over.
 *
 * Tests share a cluster where they can, and heal it in between. None depends on which member leads.
 */
import { execFile, execFileSync } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { request } from "node:http"
import { dirname, join } from "node:path"
import { text as readText } from "node:stream/consumers"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdCluster from "../../src/EtcdCluster.ts"
import type * as EtcdConfig from "../../src/EtcdConfig.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdMaintenance from "../../src/EtcdMaintenance.ts"
import type * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as Asked from "../../src/internal/faults/asked.ts"
import * as Time from "../../src/internal/time.ts"
import type * as Role from "../../src/Role.ts"
import * as EtcdFaults from "../../src/testing/EtcdFaults.ts"
import { reasonOf, start } from "../support/effects.ts"
import * as Etcdctl from "../support/etcdctl.ts"
import { isExecutable } from "../support/etcdctl.ts"
import { host } from "../support/host.ts"
import { isAlive, ownTemporaryDirectory, standing, temporaryDirectory, until, variable } from "../support/machine.ts"
import * as Clocks from "../support/time.ts"
import { turns } from "../support/time.ts"
import { fixture, trusted } from "../support/tls.ts"

const quiet = { log: false } as const

/** It must not take long, and a slow machine is no reason to fail. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.timeoutOrElse(effect, { duration: "20 seconds", orElse: () => Effect.die("it hangs") })

/** Five members with faults on, in a process that is going to be killed. */
const doomed = `
  const { EtcdFaults } = yield* Effect.promise(() => import("effect-etcd/testing"))
  const faults = yield* EtcdFaults.make({ size: 5, log: false })
  const [a, b, c, d, e] = SubscriptionRef.getUnsafe(faults.cluster.members)
  const pids = yield* Effect.forEach(SubscriptionRef.getUnsafe(faults.cluster.members), pidOf)
  yield* faults.client("app", { listen: "tcp" })
  yield* faults.pause(a)
  yield* faults.stall(b)
  yield* faults.partition([[c], [d, e]])
  say(pids)
`

/** Beside the executable of etcd, or where else there is one. */
const besides = join(dirname(process.env.ETCD_BINARY ?? ""), "etcdctl")
const etcdctl = isExecutable(besides) ? besides : Etcdctl.etcdctl
const missing = etcdctl === undefined ? Etcdctl.missing : ""

/** How long one is waited for who is not to answer: the only thing that takes time, and no more than that. */
const aWhile = "400 millis"

/** A new leader may lose what it was asked at first: for calls that are made again. */
const askedAgain = { deadline: "2 seconds" } as const

type Node = EtcdProcess.Node

/** A client of one member, around the network. */
const at = (
  node: { readonly endpoints: readonly [string, ...Array<string>] },
  options: Omit<EtcdClient.Options, "endpoints"> = {}
) =>
  Effect.gen(function* () {
    const client = yield* EtcdClient.make({ endpoints: [node.endpoints[0]], retry: Schedule.recurs(0), ...options })
    return { kv: EtcdKv.fromClient(client), lease: yield* EtcdLease.fromClient(client) }
  })

let keys = 0
const unique = (name = "key") => `${name}-${keys++}`

/** What it does not answer within a while. */
const isSilent = <A, R>(call: Effect.Effect<A, EtcdError.EtcdError, R>) =>
  Effect.map(Effect.exit(call), (exit) => {
    assert.isTrue(Exit.isFailure(exit), "it has answered")
  })

/** Asks again and again until there is an answer, and the one that is waited for. */
const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>, holds: (value: A) => boolean = () => true) =>
  soon(Effect.retry(Effect.filterOrFail(effect, holds), Schedule.spaced("10 millis")))

/** Until a member leads that is one of these. */
const awaitLeaderOf = (nodes: ReadonlyArray<Node>) =>
  eventually(
    Effect.forEach(nodes, (node) =>
      Effect.map(SubscriptionRef.get(node.role), ({ role, term }) => ({ node, role, term }))
    ),
    (states) => states.some(({ role }) => role === "leader")
  ).pipe(Effect.map((states) => states.find(({ role }) => role === "leader")!.node))

const others = (cluster: EtcdCluster.Cluster, ...nodes: ReadonlyArray<Node>) =>
  SubscriptionRef.getUnsafe(cluster.members).filter((node) => !nodes.includes(node))

/** A cluster in which all is well again, and who leads it. */
const wellAgain = Effect.gen(function* () {
  const faults = yield* EtcdFaults.EtcdFaults
  yield* faults.heal
  yield* soon(faults.awaitHealthy)
  assert.deepStrictEqual(yield* faults.active, [])
  const leader = yield* soon(faults.cluster.awaitLeader)
  return { faults, cluster: faults.cluster, leader, followers: others(faults.cluster, leader) }
})

/** Why a fault is refused, and that nothing was done. */
const refusal = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.instanceOf(error, EtcdFaults.FaultRefused)
    return (error as EtcdFaults.FaultRefused).message
  })

const pidOf = (node: Node) => Effect.map(node.pid, Option.getOrThrow)

const isUp = (node: Node) => soon(until(() => SubscriptionRef.getUnsafe(node.ready)))

const stands = (pid: number): boolean =>
  /^T/.test(String(execFileSync("sh", ["-c", `ps -o stat= -p ${pid} || true`])).trim())

const goes = (pid: number) => soon(until(() => isAlive(pid) && !stands(pid)))

/** That a minority whose first member leads is cut off, and catches up. */
const showsAPartition = Effect.fnUntraced(function* (
  cluster: EtcdCluster.Cluster,
  minority: readonly [Node, ...Array<Node>],
  partition: Effect.Effect<void, EtcdFaults.FaultRefused, Scope.Scope>
) {
  const key = unique()
  const cutOff = yield* at(minority[0], { deadline: aWhile })
  yield* eventually((yield* at(minority[0], askedAgain)).kv.put(key, "before"))
  const during = Effect.gen(function* () {
    yield* partition
    const going = yield* at(yield* awaitLeaderOf(others(cluster, ...minority)), askedAgain)
    yield* eventually(going.kv.put(key, "after"))
    yield* Effect.all([isSilent(cutOff.kv.put(key, "lost")), isSilent(cutOff.kv.getString(key))], { concurrency: 2 })
    yield* eventually(cutOff.kv.getString(key, { serializable: true }), Option.contains("before"))
    yield* eventually(going.kv.getString(key), Option.contains("after"))
  })
  yield* Effect.scoped(during)
  yield* eventually(cutOff.kv.getString(key), Option.contains("after"))
})

const live = { excludeTestServices: true, timeout: "1 minute" } as const

layer(EtcdFaults.layer(quiet), live)("the network", (it) => {
  for (const mode of ["hang", "cut"] as const) {
    it.effect(`cuts off a leader (${mode}), which acknowledges and reads nothing, while the others go on`, () =>
      Effect.gen(function* () {
        const { cluster, faults, leader } = yield* wellAgain
        yield* showsAPartition(cluster, [leader], faults.partition([[leader], others(cluster, leader)], { mode }))
      }).pipe(Effect.scoped)
    )
  }

  it.effect("cuts off keep-alives that a follower passes on, so that they keep no lease", () =>
    Effect.gen(function* () {
      const { faults, followers, leader } = yield* wellAgain
      const [follower] = followers as [Node]
      const key = unique()
      const toLeader = yield* at(leader)
      const toFollower = yield* at(follower, { deadline: "200 millis" })
      const { id } = yield* toLeader.lease.grant("1 second")
      yield* toLeader.kv.put(key, "leased", { lease: id })
      yield* toFollower.lease.keepAliveOnce(id, { deadline: "1 minute" })
      yield* faults.isolate(follower)
      yield* start(Effect.forever(Effect.andThen(Effect.exit(toFollower.lease.keepAliveOnce(id)), Effect.sleep(10))))
      yield* eventually(toLeader.kv.getString(key), Option.isNone)
    }).pipe(Effect.scoped)
  )

  it.effect("lets a member that is in no group hear of all, and be heard", () =>
    Effect.gen(function* () {
      const { faults, followers, leader } = yield* wellAgain
      const [one, other] = followers as [Node, Node]
      yield* faults.partition([[leader], [one]])
      const { kv } = yield* at(other, { deadline: "5 seconds" })
      const key = unique()
      yield* eventually(Effect.andThen(kv.put(key, "1"), kv.getString(key)), Option.contains("1"))
    }).pipe(Effect.scoped)
  )

  it.effect("stops what a leader says, which still hears of the next one", () =>
    Effect.gen(function* () {
      const { cluster, faults, leader } = yield* wellAgain
      const mute = yield* at(leader, { deadline: aWhile })
      yield* faults.block(leader, others(cluster, leader))
      const next = yield* awaitLeaderOf(others(cluster, leader))
      const isKnown = ({ role, ...state }: Role.State) =>
        role === "follower" && "leader" in state && Option.contains(state.leader, next.id)
      yield* soon(until(() => isKnown(SubscriptionRef.getUnsafe(leader.role))))
      yield* isSilent(mute.kv.put(unique(), "lost"))
    }).pipe(Effect.scoped)
  )

  it.effect("stops what a leader hears, which is still heard, and steps down", () =>
    Effect.gen(function* () {
      const { cluster, faults, leader } = yield* wellAgain
      const deaf = yield* at(leader, { deadline: aWhile })
      const key = unique()
      yield* eventually(deaf.kv.put(key, "before"))
      yield* faults.block(others(cluster, leader), leader)
      const next = yield* awaitLeaderOf(others(cluster, leader))
      const { kv } = yield* at(next, askedAgain)
      yield* eventually(kv.put(key, "after"))
      yield* isSilent(deaf.kv.getString(key))
      yield* eventually(deaf.kv.getString(key, { serializable: true }), Option.contains("before"))
      // It wants to lead again, and says so to those whom it does not hear.
      const asks = new RegExp(`Msg(?:Pre)?Vote from ${leader.id.toString(16)}`)
      yield* soon(
        next.events.pipe(
          Stream.takeUntil((event) => event._tag !== "Missed" && asks.test(event.message)),
          Stream.runDrain
        )
      )
    }).pipe(Effect.scoped)
  )

  it.effect("cuts one client off from a member or from all, and nobody else", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [first, ...rest] = SubscriptionRef.getUnsafe(cluster.members)
      const app = yield* faults.client("app")
      const key = unique()
      const via = (index: number) =>
        Effect.map(at({ endpoints: [app.endpoints[index]!] }, { deadline: aWhile }), ({ kv }) => kv)
      const [toFirst, toSecond] = [yield* via(0), yield* via(1)]
      yield* eventually(toFirst.put(key, "1"))
      yield* eventually(toSecond.put(key, "1"))
      for (const mode of ["hang", "cut"] as const) {
        const fromOne = Effect.gen(function* () {
          yield* faults.partition([[app], [first]], { mode })
          yield* isSilent(toFirst.put(key, "2"))
          yield* eventually(toSecond.put(key, "3"))
          yield* EtcdKv.put(key, "4", { endpoint: faults.endpoints[0], deadline: "1 minute" })
        })
        yield* Effect.scoped(fromOne)
        yield* eventually(toFirst.put(key, "5"))
        const fromAll = Effect.gen(function* () {
          yield* faults.isolate("app", { mode })
          yield* Effect.all([isSilent(toFirst.getString(key)), isSilent(toSecond.getString(key))], { concurrency: 2 })
          yield* EtcdKv.put(key, "6")
        })
        yield* Effect.scoped(fromAll)
        yield* eventually(toSecond.put(key, "7"))
      }
      yield* faults.slow(app, [first, ...rest], { delay: "1 hour", jitter: "1 minute", rate: "1 KiB" })
      yield* isSilent(toFirst.getString(key))
      yield* EtcdKv.put(key, "8")
      yield* faults.heal
      yield* eventually(toFirst.getString(key), Option.contains("8"))
    }).pipe(Effect.scoped)
  )

  it.effect.skipIf(etcdctl === undefined)(`is there for other programs${missing}`, () =>
    Effect.gen(function* () {
      const { faults } = yield* wellAgain
      const shell = yield* faults.client("shell", { listen: "tcp" })
      const run = (...args: ReadonlyArray<string>) =>
        Effect.callback<string, string>((resume) => {
          const all = [`--endpoints=${shell.endpoints.join(",")}`, ...args]
          execFile(etcdctl!, all, { env: { ETCDCTL_API: "3" } }, (error, stdout, stderr) =>
            resume(error === null ? Effect.succeed(stdout) : Effect.fail(stderr))
          )
        })
      const key = unique()
      assert.strictEqual(yield* run("put", key, "value"), "OK\n")
      yield* faults.isolate(shell)
      yield* Effect.flip(run("--command-timeout=300ms", "--dial-timeout=300ms", "get", key))
      assert.deepStrictEqual(yield* EtcdKv.getString(key), Option.some("value"))
      yield* faults.heal
      assert.include(yield* run("get", key), "value")
    }).pipe(Effect.scoped)
  )

  it.effect("leads a member's JSON gateway to that member, and not out", ({ skip }) =>
    Effect.gen(function* () {
      const { cluster } = yield* wellAgain
      if (SubscriptionRef.getUnsafe(cluster.members)[0].config.options.enableGrpcGateway === false) skip("it has none")
      const key = unique()
      yield* EtcdKv.put(key, "value")
      const socketPath = SubscriptionRef.getUnsafe(cluster.members)[0].endpoints[0].slice("unix://".length)
      const answer = yield* Effect.callback<string, Error>((resume) => {
        const asked = request({ socketPath, path: "/v3/kv/range", method: "POST" }, (answer) => {
          resume(Effect.promise(() => readText(answer)))
        })
        asked.on("error", (error) => resume(Effect.fail(error)))
        asked.end(JSON.stringify({ key: btoa(key) }))
      })
      assert.include(answer, btoa("value"))
    }).pipe(Effect.scoped)
  )

  it.effect("lets a client go with its scope, and another one have its name", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const once = Effect.gen(function* () {
        const gone = yield* faults.client("guest")
        assert.include(yield* refusal(faults.client("guest")), "there is a guest already")
        assert.isTrue(existsSync(new URL(gone.endpoints[0]).pathname))
        return gone
      }).pipe(Effect.scoped)
      const gone = yield* once
      assert.isFalse(existsSync(new URL(gone.endpoints[0]).pathname))
      assert.include(
        yield* refusal(faults.isolate("guest")),
        'there is no "guest" here. There are node0, node1, node2, clients.'
      )
      yield* once
      const guest = yield* faults.client("guest")
      assert.include(yield* refusal(faults.isolate(gone)), "no such guest here")
      yield* faults.isolate([guest, SubscriptionRef.getUnsafe(cluster.members)[0]])
    }).pipe(Effect.scoped)
  )
})

layer(EtcdFaults.layer(quiet), live)("a process", (it) => {
  it.effect("that is killed is gone, and comes back when all who want it down have had enough", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      const before = yield* pidOf(node)
      yield* Scope.provide(faults.kill(node), first)
      assert.isFalse(isAlive(before))
      assert.deepStrictEqual(yield* node.pid, Option.none())
      assert.deepStrictEqual(yield* faults.active, ["kill node0"])
      for (const fault of [
        faults.kill(node),
        faults.stop(node),
        faults.pause(node),
        faults.stall(node),
        faults.restart(node)
      ]) {
        assert.match(yield* refusal(fault), /: node0 does not run/)
      }
      assert.deepStrictEqual(yield* faults.active, ["kill node0"])
      // Somebody has brought it back by hand.
      yield* soon(node.start)
      yield* Scope.provide(faults.kill("node0"), second)
      yield* Scope.close(first, Exit.void)
      assert.deepStrictEqual(yield* faults.active, ["kill node0"])
      assert.deepStrictEqual(yield* node.pid, Option.none())
      yield* Scope.close(second, Exit.void)
      yield* soon(faults.awaitHealthy)
      assert.notStrictEqual(yield* pidOf(node), before)
    }).pipe(Effect.scoped)
  )

  it.effect("that is stopped, or restarted, is there again", () =>
    Effect.gen(function* () {
      const { faults, leader } = yield* wellAgain
      const before = yield* pidOf(leader)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* faults.stop(leader)
          assert.deepStrictEqual(yield* leader.pid, Option.none())
          assert.strictEqual((yield* leader.exit).signal === null || (yield* leader.exit).signal === "SIGTERM", true)
        })
      )
      yield* soon(faults.awaitHealthy)
      const between = yield* pidOf(leader)
      assert.notStrictEqual(between, before)
      yield* soon(faults.restart(leader))
      assert.isTrue(yield* SubscriptionRef.get(leader.ready))
      assert.notStrictEqual(yield* pidOf(leader), between)
      // Who waits no more for a restart has it nevertheless.
      const restarting = yield* start(faults.restart(leader))
      yield* soon(until(() => !SubscriptionRef.getUnsafe(leader.ready)))
      yield* soon(Fiber.interrupt(restarting))
      yield* soon(faults.awaitHealthy)
    }).pipe(Effect.scoped)
  )

  it.effect("that is restarted while somebody kills it is not there before that is over", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const restarting = yield* start(Effect.flip(faults.restart(node)))
          yield* faults.kill(node)
          assert.match((yield* soon(Fiber.join(restarting))).message, /Another fault wants the member to be down/)
          assert.deepStrictEqual(yield* node.pid, Option.none())
        })
      )
      yield* soon(faults.awaitHealthy)
    })
  )

  it.effect("that is being stopped does not come back for a fault that is over meanwhile", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      const scope = yield* Scope.make()
      yield* Scope.provide(faults.kill(node), scope)
      yield* soon(node.start)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const outer = yield* Effect.scope
          const stopping = yield* start(Scope.provide(faults.stop(node), outer))
          yield* Scope.close(scope, Exit.void)
          yield* Fiber.join(stopping)
          // Which is refused where it is about to be started.
          yield* faults.tearWal(node)
        })
      )
      yield* soon(faults.awaitHealthy)
    }).pipe(Effect.scoped)
  )

  it.effect("that is paused stands still, until the last pause is over", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      const pid = yield* pidOf(node)
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* Scope.provide(faults.pause(node), first)
      yield* soon(standing(pid))
      yield* Scope.provide(faults.pause(node), second)
      yield* Scope.provide(faults.stall(node, { period: "2 millis", duty: 0.9 }), second)
      assert.deepStrictEqual(yield* faults.active, ["pause node0", "pause node0", "stall node0"])
      assert.include(yield* refusal(faults.stop(node)), "node0 stands still, and so cannot end by itself: kill it")
      yield* Scope.close(second, Exit.void)
      assert.isTrue(stands(pid))
      yield* Scope.close(first, Exit.void)
      yield* goes(pid)
      assert.strictEqual(yield* pidOf(node), pid)
      yield* soon(faults.awaitHealthy)
    }).pipe(Effect.scoped)
  )

  it.effect("can be killed while it stands still, and its next process does not", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [, node] = SubscriptionRef.getUnsafe(cluster.members) as unknown as [Node, Node]
      const before = yield* pidOf(node)
      yield* faults.pause(node)
      yield* Effect.scoped(faults.kill(node))
      assert.isFalse(isAlive(before))
      yield* soon(faults.awaitHealthy)
      const now = yield* pidOf(node)
      assert.notStrictEqual(now, before)
      yield* faults.heal
      yield* goes(now)
    }).pipe(Effect.scoped)
  )

  it.effect("that stalls stands still and goes on, as does its next one, and can be stopped", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      yield* faults.stall(node, { duty: 0.5, period: "40 millis" })
      const showsBoth = Effect.gen(function* () {
        const pid = yield* pidOf(node)
        yield* soon(until(() => stands(pid)))
        yield* soon(until(() => !stands(pid)))
      })
      yield* showsBoth
      yield* Effect.scoped(faults.stop(node))
      yield* isUp(node)
      yield* showsBoth
      yield* faults.heal
      yield* goes(yield* pidOf(node))
    }).pipe(Effect.scoped)
  )

  it.effect("that was stopped by hand is somebody else's, and all that were killed come back", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      yield* node.stop
      assert.include(yield* refusal(faults.kill(node)), "node0 does not run")
      yield* soon(node.start)
      yield* Effect.scoped(Effect.forEach(SubscriptionRef.getUnsafe(cluster.members), faults.kill))
      yield* soon(faults.awaitHealthy)
      yield* EtcdKv.put(unique(), "1")
    }).pipe(Effect.scoped)
  )

  it.effect("is befallen only until it is healed, whatever its scope does then", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [one, two, three] = SubscriptionRef.getUnsafe(cluster.members) as unknown as [Node, Node, Node]
      const scope = yield* Scope.make()
      const all = Effect.all([faults.kill(one), faults.pause(two), faults.isolate(three), faults.stall(two)])
      yield* Scope.provide(all, scope)
      assert.lengthOf(yield* faults.active, 4)
      yield* soon(faults.heal)
      assert.deepStrictEqual(yield* faults.active, [])
      yield* soon(faults.awaitHealthy)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* faults.pause(two)
          yield* Scope.close(scope, Exit.void)
          const pid = yield* pidOf(two)
          yield* soon(standing(pid))
          assert.deepStrictEqual(yield* faults.active, ["pause node1"])
        })
      )
      // Whoever interrupts what heals, or begins, leaves nothing half done.
      for (const waits of [0, 1, 2, 3, 5, 8]) {
        const beginning = yield* start(Effect.scoped(Effect.andThen(faults.pause(one), faults.heal)))
        yield* turns(waits)
        yield* Fiber.interrupt(beginning)
        yield* goes(yield* pidOf(one))
      }
      const killing = yield* start(Effect.scoped(Effect.andThen(faults.kill(one), Effect.never)))
      yield* turns(1)
      yield* Fiber.interrupt(killing)
      yield* soon(faults.awaitHealthy)
    }).pipe(Effect.scoped)
  )

  it.effect("without space refuses what is put, and deletes, until nobody wants that any more", () =>
    Effect.gen(function* () {
      const { cluster, faults, followers, leader } = yield* wellAgain
      const key = unique()
      yield* EtcdKv.put(key, "1")
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* Scope.provide(faults.noSpace(leader), first)
      yield* Scope.provide(faults.noSpace(leader), second)
      assert.strictEqual((yield* reasonOf(EtcdKv.put(key, "2")))._tag, "NoSpace")
      assert.strictEqual((yield* EtcdKv.delete(key)).deleted, 1n)
      yield* Scope.close(first, Exit.void)
      assert.strictEqual((yield* reasonOf(EtcdKv.put(key, "2")))._tag, "NoSpace")
      yield* Scope.close(second, Exit.void)
      yield* EtcdKv.put(key, "3")
      // Without a majority there is nobody who could note that it is over.
      const third = yield* Scope.make()
      yield* Scope.provide(faults.noSpace(followers[0]!), third)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* faults.kill(leader)
          yield* faults.kill(followers[1]!)
          yield* soon(Scope.close(third, Exit.void))
          assert.notInclude(yield* faults.active, "noSpace")
          // Nor that it begins; who does not wait for that has not begun it.
          const beginning = yield* start(Effect.scoped(faults.noSpace(followers[0]!)))
          yield* turns(10)
          yield* soon(Fiber.interrupt(beginning))
        })
      )
      yield* soon(faults.awaitHealthy)
      yield* EtcdKv.put(key, "4")
      assert.lengthOf(SubscriptionRef.getUnsafe(cluster.members), 3)
    }).pipe(Effect.scoped)
  )

  it.effect("has space again also where etcd is late to raise the alarm", () =>
    Effect.gen(function* () {
      const { cluster, faults, followers, leader } = yield* wellAgain
      const [follower] = followers
      const maintenanceOf = (member: EtcdProcess.Node, deadline: "300 millis" | "5 seconds") =>
        Effect.map(EtcdClient.make({ endpoints: member.endpoints, deadline }), EtcdMaintenance.fromClient)
      const { armAlarm } = yield* maintenanceOf(follower!, "300 millis")
      const maintenance = { ...(yield* maintenanceOf(leader, "5 seconds")), armAlarm }
      const endpoints = SubscriptionRef.getUnsafe(cluster.members).map(({ endpoints: [endpoint] }) => endpoint)
      const asked = Asked.make(maintenance, () => endpoints, yield* Effect.scope, yield* Time.Time)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* faults.block(follower!, leader)
          yield* Effect.flip(asked.wantAlarm(follower!, Effect.never))
          yield* asked.unwantAlarm(follower!)
          assert.deepStrictEqual(yield* maintenance.alarms(), [])
        })
      )
      yield* Effect.repeat(maintenance.alarms(), { until: (alarms) => alarms.length > 0 })
      yield* soon(Effect.repeat(asked.agree, { until: (agree) => agree }))
      assert.deepStrictEqual(yield* maintenance.alarms(), [])
    }).pipe(Effect.scoped)
  )

  it.effect("is left alone by what makes no sense, which is told why", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [node] = SubscriptionRef.getUnsafe(cluster.members)
      const refused: ReadonlyArray<readonly [Effect.Effect<unknown, unknown, Scope.Scope>, string]> = [
        [faults.partition([]), "there have to be two groups of parties at least"],
        [faults.partition([["node0", "node1"]]), "there have to be two groups of parties at least"],
        [faults.partition(null as never), "there have to be two groups of parties at least"],
        [faults.partition("x" as never), "there have to be two groups of parties at least"],
        [faults.partition([[], ["node0"]]), "nobody is named. There are node0, node1, node2, clients."],
        [faults.partition([["node0"], ["node3"]]), `there is no "node3" here. There are node0`],
        [faults.partition([["node0"], [null as never]]), "there is no null here"],
        [faults.partition([["node0"], ["node1", node]]), "node0 is named twice"],
        [faults.partition([["node0"], ["node1"]], { mode: "drop" as never }), "the option mode has to be"],
        [faults.partition([["node0"], ["node1"]], null as never), "the options have to be an object, and not null"],
        [faults.partition([["node0"], ["node1"]], { modus: "cut" } as never), "there is no option"],
        [faults.isolate([]), "nobody is named"],
        [faults.isolate(["node0", "node1", "node2"]), "there is no other member"],
        [faults.isolate(undefined as never), "there is no undefined here"],
        [faults.isolate({ ...node }), "there is no such node0 here"],
        [faults.block("node0", "node0"), "nobody of them calls another"],
        [faults.block("clients", "clients"), "nobody of them calls another"],
        [faults.block("node0", [] as never), "nobody is named"],
        [faults.slow("node0", "node1", {}), "give a delay, a jitter or a rate"],
        [faults.slow("node0", "node1", undefined as never), "give a delay, a jitter or a rate"],
        [faults.slow("node0", "node1", { delay: "x" as never }), "the option delay has to be"],
        [faults.slow("node0", "node1", { delay: Number.NaN }), "the option delay has to be"],
        [faults.slow("node0", "node1", { jitter: null as never }), "the option jitter has to be"],
        [faults.slow("node0", "node1", { rate: 0 }), "the option rate has to be"],
        [faults.stall(node, { duty: 1 }), "the option duty has to be a share of the time"],
        [faults.stall(node, { duty: Number.NaN }), "the option duty has to be a share of the time"],
        [faults.stall(node, { period: 0 }), "the option period has to be"],
        [faults.stall(node, { period: Number.POSITIVE_INFINITY }), "the option period has to be"],
        [faults.kill("clients"), "there is no member"],
        [faults.kill(null as never), "there is no member null. There are node0, node1, node2."],
        [faults.stop("node7"), "there is no member"],
        [faults.restart(5 as never), "there is no member 5"],
        [faults.pause(""), "there is no member"],
        [faults.noSpace("nobody"), "there is no member"],
        [faults.client("clients"), "there is a clients already"],
        [faults.client("node1"), "there is a node1 already"],
        [faults.client(""), "the name has to be"],
        [faults.client(null as never), "the name has to be"],
        [faults.client("other", { listen: "udp" as never }), "the option listen has to be"]
      ]
      for (const [fault, why] of refused) assert.include(yield* refusal(fault), why)
      assert.deepStrictEqual(yield* faults.active, [])
      yield* soon(faults.awaitHealthy)
    }).pipe(Effect.scoped)
  )

  it.effect("and its network keep nothing of a hundred faults", () =>
    Effect.gen(function* () {
      const { cluster, faults } = yield* wellAgain
      const [one, two] = SubscriptionRef.getUnsafe(cluster.members) as unknown as [Node, Node]
      const app = yield* faults.client("app")
      const { kv } = yield* at(app)
      const round = (mode: "hang" | "cut") =>
        Effect.gen(function* () {
          yield* faults.slow(app, two, { delay: "1 hour" })
          yield* faults.block(app, one)
          yield* faults.isolate(one, { mode })
          yield* faults.pause(two)
          yield* faults.stall(two)
          yield* faults.client("guest")
          yield* Effect.ignore(kv.getString("key", { deadline: "2 millis" }))
        }).pipe(Effect.scoped)
      const rounds = Effect.andThen(round("hang"), round("cut"))
      const counted = () => process.getActiveResourcesInfo().length
      yield* rounds
      yield* soon(faults.awaitHealthy)
      const before = counted()
      yield* Effect.repeat(rounds, { times: 9 })
      yield* soon(faults.awaitHealthy)
      // How many connections members have to each other varies by some.
      yield* soon(until(() => counted() < before + 20))
    }).pipe(Effect.scoped)
  )
})

describe("a cluster", () => {
  it.live("of five is split in two and in three, and closed with ten faults on it leaves nothing", () =>
    Effect.gen(function* () {
      const directory = yield* ownTemporaryDirectory
      const scope = yield* Scope.make()
      const outer = yield* Effect.scope
      const faults = yield* Scope.provide(EtcdFaults.make({ ...quiet, size: 5 }), scope)
      const { awaitLeader } = faults.cluster
      const members = SubscriptionRef.getUnsafe(faults.cluster.members)
      const leader = yield* soon(awaitLeader)
      const [a, b, c, d] = others(faults.cluster, leader) as [Node, Node, Node, Node]
      yield* showsAPartition(
        faults.cluster,
        [leader, a],
        faults.partition([
          [leader, a],
          [b, c, d]
        ])
      )
      yield* soon(faults.awaitHealthy)
      const inThree = Effect.gen(function* () {
        yield* faults.partition([[leader, a], [b, c], [d]])
        const isLed = (node: Node) => SubscriptionRef.getUnsafe(node.role).role === "leader"
        yield* soon(until(() => !members.some(isLed)))
        const isMute = (node: Node) =>
          Effect.flatMap(at(node, { deadline: aWhile }), ({ kv }) => isSilent(kv.put(unique(), "lost")))
        yield* Effect.forEach(members, isMute, { concurrency: "unbounded" })
      })
      yield* Effect.scoped(inThree)
      yield* soon(faults.awaitHealthy)
      const app = yield* Scope.provide(faults.client("app"), scope)
      const ten = [
        faults.noSpace(a),
        faults.isolate(app),
        faults.kill(a),
        faults.pause(b),
        faults.stall(c),
        faults.pause(c),
        faults.partition([[c], [d]], { mode: "cut" }),
        faults.isolate(leader),
        faults.slow("clients", members, { rate: "1 KiB", delay: "1 minute" }),
        faults.block(d, leader)
      ]
      const pids = yield* Effect.forEach(members, pidOf)
      // In a scope that outlives the cluster's.
      yield* Scope.provide(Effect.all(ten), outer)
      assert.lengthOf(yield* faults.active, 10)
      const waiting = yield* start(Effect.flip(faults.awaitHealthy))
      yield* soon(Scope.close(scope, Exit.void))
      assert.strictEqual((yield* soon(Fiber.join(waiting))).reason._tag, "Stopped")
      assert.deepStrictEqual(yield* faults.active, [])
      assert.deepStrictEqual(pids.filter(isAlive), [])
      assert.deepStrictEqual(readdirSync(directory), [])
      const refused = [
        faults.kill(a),
        faults.stop(a),
        faults.restart(a),
        faults.pause(a),
        faults.stall(a),
        faults.noSpace(a),
        faults.isolate(a),
        faults.partition([[a], [b]]),
        faults.block(a, b),
        faults.slow(a, b, { delay: 1 }),
        faults.client("late")
      ]
      for (const fault of refused) assert.match(yield* refusal(fault), /the cluster is closed|does not run/)
      assert.strictEqual((yield* Effect.flip(faults.awaitHealthy)).reason._tag, "Stopped")
      yield* faults.heal
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("with TLS between its members is cut off as others are, whichever way they have their certificates", () =>
    Effect.gen(function* () {
      const files = { peerCertFile: fixture.path("server.pem"), peerKeyFile: fixture.path("server.key") }
      const withCa = { ...files, peerTrustedCaFile: fixture.path("ca.pem") }
      const run = Effect.fnUntraced(function* (config: EtcdConfig.Input) {
        const { cluster, isolate } = yield* EtcdFaults.make({ ...quiet, config })
        const leader = yield* soon(cluster.awaitLeader)
        yield* showsAPartition(cluster, [leader], isolate(leader))
      }, Effect.scoped)
      yield* Effect.all([run({ peerAutoTls: true }), run(withCa)], { concurrency: 2 })
    }).pipe(Effect.provide(NodeServices.layer))
  )

  it.live("with TLS between its members, and data that are kept, has them when it is started again", () =>
    Effect.gen(function* () {
      const options = { ...quiet, size: 2, dataDir: yield* temporaryDirectory, config: { peerAutoTls: true } }
      const startAndAsk = Effect.gen(function* () {
        const faults = yield* soon(EtcdFaults.make(options))
        const { kv } = yield* at(faults, askedAgain)
        const before = yield* eventually(kv.getString("key"))
        yield* eventually(kv.put("key", "kept"))
        return before
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(yield* startAndAsk, Option.none())
      assert.deepStrictEqual(yield* startAndAsk, Option.some("kept"))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("whose members have URLs of their own for clients, with TLS, is reached by them, and cut off", () =>
    Effect.gen(function* () {
      const config = {
        listenClientUrls: "https://127.0.0.1:0",
        advertiseClientUrls: "https://127.0.0.1:0",
        certFile: fixture.path("server.pem"),
        keyFile: fixture.path("server.key")
      }
      const tls = trusted()
      const faults = yield* EtcdFaults.make({ ...quiet, size: 1, config, client: { tls } })
      const clients = [yield* faults.client("a"), yield* faults.client("b", { listen: "tcp" })]
      const kvs = yield* Effect.forEach(clients, (client) =>
        Effect.map(at(client, { deadline: aWhile, tls }), ({ kv }) => kv)
      )
      yield* Effect.forEach(kvs, (kv) => eventually(kv.put("key", "value")))
      yield* faults.isolate(clients)
      yield* Effect.forEach(kvs, (kv) => isSilent(kv.getString("key")), { concurrency: 2 })
      yield* faults.heal
      yield* soon(faults.awaitHealthy)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is reached where this process has a proxy, and brings back what a restart schedule has brought back", () =>
    Effect.gen(function* () {
      for (const name of ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"]) {
        yield* variable(name, "http://127.0.0.1:9")
      }
      for (const name of ["NO_PROXY", "no_proxy"]) yield* variable(name, "*")
      const options = { ...quiet, restart: Schedule.spaced("10 millis"), environment: { GOMAXPROCS: "1" } }
      const faults = yield* EtcdFaults.make(options)
      const leader = yield* soon(faults.cluster.awaitLeader)
      const before = yield* pidOf(leader)
      const killed = Effect.gen(function* () {
        yield* faults.kill(leader)
        yield* isUp(leader)
        assert.notStrictEqual(yield* pidOf(leader), before)
        yield* faults.kill(leader)
        yield* isUp(leader)
      })
      yield* Effect.scoped(killed)
      yield* soon(faults.awaitHealthy)
      const next = yield* soon(faults.cluster.awaitLeader)
      yield* showsAPartition(faults.cluster, [next], faults.isolate(next, { mode: "cut" }))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.effect("is healed, stalled and waited for in real time, whatever clock the program has", () =>
    Effect.gen(function* () {
      const options = { ...quiet, size: 1, dataDir: yield* temporaryDirectory }
      const first = Effect.gen(function* () {
        const faults = yield* EtcdFaults.make(options)
        const [node] = SubscriptionRef.getUnsafe(faults.cluster.members)
        const pid = yield* pidOf(node)
        yield* faults.stall(node, { period: "20 millis" })
        yield* Clocks.soon(until(() => stands(pid)))
        yield* Clocks.soon(faults.heal)
        yield* Effect.scoped(Effect.all([faults.noSpace(node), faults.kill(node)]))
        yield* Clocks.soon(faults.awaitHealthy)
        assert.include(yield* refusal(faults.isolate(node)), "there is no other member")
        yield* faults.noSpace(node)
      })
      yield* Effect.scoped(first)
      // What etcd keeps with its data is over, too.
      const { cluster } = yield* EtcdFaults.make(options)
      yield* (yield* at(SubscriptionRef.getUnsafe(cluster.members)[0])).kv.put("key", "value")
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("goes with its host, however that ends and whatever is on", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { kill, said } = yield* host(doomed, { env: { TMPDIR: directory } })
      const pids = said as ReadonlyArray<number>
      assert.lengthOf(pids, 5)
      yield* kill
      yield* soon(until(() => readdirSync(directory).length === 0 && !pids.some(isAlive)))
    }).pipe(Effect.scoped)
  )
})
