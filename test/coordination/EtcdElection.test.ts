import { type ChildProcess, spawn } from "node:child_process"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { expectTypeOf } from "vitest"
import * as EtcdElection from "../../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import type * as EtcdError from "../../src/EtcdError.ts"
import * as EtcdId from "../../src/EtcdId.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLayer from "../../src/EtcdLayer.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import * as EtcdProcess from "../../src/EtcdProcess.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { start } from "../support/effects.ts"
import { etcdctl, missing } from "../support/etcdctl.ts"
import { host } from "../support/host.ts"
import { makeRandom } from "../support/random.ts"
import { turns } from "../support/time.ts"

// Leases end soon in a cluster that elects soon.
const etcd = EtcdLayer.ephemeral({ heartbeatInterval: "20 millis", electionTimeout: "100 millis" }, { log: false })

const keysBelow = (name: string) =>
  Effect.map(EtcdKv.range(KeyRange.prefix(`${name}/`), { keysOnly: true }), ({ kvs }) => kvs.map((kv) => kv.keyString))

/** Until so many stand in an election. */
const standing = (name: string, count: number) =>
  EtcdLock.line(EtcdLock.make(name)).pipe(Effect.repeat({ until: (line) => line.length === count }))

/** Another program: the effect has a session of its own. */
const elsewhere = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, Layer.fresh(EtcdSession.layer))

const textOf = Option.map(({ valueString }: EtcdElection.Leader) => valueString)

const nameOf = (leader: Option.Option<EtcdElection.Leader>) => Option.getOrElse(textOf(leader), () => "nobody")

/** What `changes` tells, one by one. */
const told = Effect.fnUntraced(function* (election: EtcdElection.Election) {
  const queue = yield* Queue.unbounded<string>()
  yield* EtcdElection.changes(election).pipe(
    Stream.runForEach((leader) => Queue.offer(queue, nameOf(leader))),
    Effect.forkScoped({ startImmediately: true })
  )
  return Queue.take(queue)
})

/** Watches that hold back little. */
const smallWatch = Layer.effect(
  EtcdWatch.EtcdWatch,
  Effect.map(EtcdWatch.EtcdWatch, (watch) => ({
    ...watch,
    changes: (range: KeyRange.Input, options?: EtcdWatch.ChangesOptions | undefined) =>
      watch.changes(range, { ...options, bufferSize: 2000 })
  }))
)

/** Stands, leads until it is told to resign, and says so. */
const candidate = Effect.fnUntraced(function* (election: EtcdElection.Election, value: string) {
  const leads = yield* Deferred.make<EtcdElection.Leadership, EtcdError.EtcdError>()
  const scope = yield* Scope.make()
  const standing = EtcdElection.campaign(election, value).pipe(
    Scope.provide(scope),
    Effect.onExit((exit) => Deferred.done(leads, exit)),
    Effect.andThen(Effect.never)
  )
  const fiber = yield* start(elsewhere(standing))
  const resign = Effect.andThen(Scope.close(scope, Exit.void), Fiber.interrupt(fiber))
  return { leads: Deferred.await(leads), resign }
})

describe("EtcdElection", () => {
  layer(Layer.mergeAll(EtcdSession.layer, EtcdLease.layer).pipe(Layer.provideMerge(etcd)), {
    excludeTestServices: true
  })((it) => {
    it.effect("is won in the order of the candidates, and who resigns hands over", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("won/order")
        const next = yield* told(election)
        assert.strictEqual(yield* next, "nobody")
        const a = yield* candidate(election, "a")
        const first = yield* a.leads
        assert.strictEqual(yield* next, "a")
        const b = yield* candidate(election, "b")
        yield* standing("won/order", 2)
        const c = yield* candidate(election, "c")
        const line = yield* standing("won/order", 3)
        assert.deepStrictEqual(
          line.map(({ mode, owner }) => `${mode} ${owner}`),
          ["exclusive a", "exclusive b", "exclusive c"]
        )
        assert.strictEqual(first.key, `won/order/${EtcdId.format(line[0]!.lease)}`)
        assert.isTrue(first.isHeldUnsafe())
        assert.deepStrictEqual(Option.getOrThrow(yield* EtcdElection.leader(election)), {
          key: first.key,
          value: new TextEncoder().encode("a"),
          valueString: "a",
          token: first.token,
          revision: first.token,
          lease: line[0]!.lease
        })
        yield* a.resign
        const second = yield* b.leads
        assert.isTrue(second.token > first.token && second.acquiredRevision > second.token)
        assert.strictEqual(yield* next, "b")
        yield* b.resign
        yield* c.leads
        assert.strictEqual(yield* next, "c")
        yield* c.resign
        assert.strictEqual(yield* next, "nobody")
        assert.deepStrictEqual(yield* keysBelow("won/order"), [])
        assert.isTrue(Option.isNone(yield* EtcdElection.leader(election)))
      })
    )

    it.effect("lets its leader proclaim another value, and nobody who does not lead any more", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("proclaim")
        const next = yield* told(election)
        yield* next
        const a = yield* candidate(election, "a")
        const leadership = yield* a.leads
        yield* leadership.proclaim("a2")
        yield* leadership.proclaim("a2")
        yield* leadership.proclaim(new Uint8Array([255]))
        assert.deepStrictEqual([yield* next, yield* next, yield* next, yield* next], ["a", "a2", "a2", "\ufffd"])
        const leader = Option.getOrThrow(yield* EtcdElection.leader(election))
        assert.deepStrictEqual(leader.value, new Uint8Array([255]))
        assert.isTrue(leader.revision > leader.token && leader.token === leadership.token)
        // The key goes with its lease.
        const [waiter] = yield* standing("proclaim", 1)
        assert.strictEqual(waiter!.lease, leader.lease)
        const refused = yield* Effect.flip(leadership.proclaim(5 as never))
        assert.strictEqual(refused._tag === "EtcdError" ? refused.reason._tag : refused._tag, "InvalidArgument")
        yield* EtcdKv.delete(leadership.key)
        const lost = yield* Effect.flip(leadership.proclaim("a3"))
        assert.strictEqual(lost._tag, "LockLost")
        assert.match(lost.message, /The leadership of "proclaim" is lost/)
        assert.strictEqual(yield* next, "nobody")
        yield* a.resign
        const late = yield* Effect.flip(leadership.proclaim("a4"))
        assert.strictEqual(late._tag, "LockLost")
        assert.deepStrictEqual(yield* keysBelow("proclaim"), [])
      })
    )

    it.effect("is led by who came first, and not by who sorts first, nor by what is no candidate", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("first")
        const leases = [0x7_0000_0003n, 0x7_0000_0002n, 0x7_0000_0001n].map((id) => EtcdId.LeaseId(id))
        for (const id of leases) yield* EtcdLease.grant("60 seconds", { id })
        const keys = leases.map((id) => `first/${EtcdId.format(id)}`)
        yield* EtcdKv.put("first/plain", "nobody")
        yield* EtcdKv.put(`first/nested/${EtcdId.format(leases[2]!)}`, "nested", { lease: leases[2]! })
        const next = yield* told(election)
        assert.strictEqual(yield* next, "nobody")
        assert.isTrue(Option.isNone(yield* EtcdElection.leader(election)))
        for (const [n, key] of keys.entries()) yield* EtcdKv.put(key, String(n), { lease: leases[n]! })
        assert.strictEqual(yield* next, "0")
        assert.deepStrictEqual(textOf(yield* EtcdElection.leader(election)), Option.some("0"))
        // Who only waits is not told of; when the first goes in the same step, the next one is named once.
        yield* EtcdKv.put(keys[1]!, "one", { lease: leases[1]! })
        yield* EtcdKv.put(keys[2]!, "two", { lease: leases[2]! })
        yield* EtcdTxn.EtcdTxn.use((txn) =>
          txn.commit(EtcdTxn.all([EtcdTxn.delete(keys[0]!), EtcdTxn.put(keys[1]!, "uno", { lease: leases[1]! })]))
        )
        assert.strictEqual(yield* next, "uno")
        // One that somebody writes over, without a lease, stands no more.
        yield* EtcdKv.put(keys[1]!, "mine")
        assert.strictEqual(yield* next, "two")
        assert.deepStrictEqual(textOf(yield* EtcdElection.leader(election)), Option.some("two"))
        for (const id of leases) yield* EtcdLease.revoke(id)
        assert.strictEqual(yield* next, "nobody")
      })
    )

    it.effect("is told on after a compaction, with who leads then, and nothing twice", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("compacted")
        const leases = yield* Effect.forEach([1, 2], () => EtcdLease.grant("60 seconds"))
        const [a, b] = leases.map(({ id }) => ({ id, key: `compacted/${EtcdId.format(id)}` }))
        yield* EtcdKv.put(a!.key, "a", { lease: a!.id })
        const gate = yield* Latch.make(true)
        const heard: Array<string> = []
        const scope = yield* Effect.scope
        yield* Effect.forkIn(
          // A watch that reads nothing, so that it falls behind.
          EtcdElection.changes(election).pipe(
            Stream.runForEach((leader) =>
              Effect.andThen(
                gate.await,
                Effect.sync(() => heard.push(nameOf(leader)))
              )
            ),
            Effect.provide(Layer.fresh(smallWatch))
          ),
          scope,
          { startImmediately: true }
        )
        yield* Effect.sync(() => heard.length).pipe(Effect.repeat({ until: (n) => n === 1 }))
        yield* gate.close
        for (let n = 0; n < 60; n++) yield* EtcdKv.put(a!.key, `${n} ${"x".repeat(500)}`, { lease: a!.id })
        yield* EtcdKv.put(b!.key, "b", { lease: b!.id })
        const { header } = yield* EtcdKv.put(a!.key, "last", { lease: a!.id })
        yield* EtcdKv.compact(header.revision)
        yield* gate.open
        yield* Effect.sync(() => heard.at(-1)).pipe(Effect.repeat({ until: (last) => last === "last" }))
        yield* EtcdLease.revoke(a!.id)
        yield* Effect.sync(() => heard.at(-1)).pipe(Effect.repeat({ until: (last) => last === "b" }))
        assert.isBelow(heard.length, 62)
        assert.strictEqual(heard.filter((text) => text === "last" || text === "b").length, 2)
        yield* EtcdLease.revoke(b!.id)
      })
    )

    it.effect("is not won with a key that is gone: its place is looked at together with it", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("confirmed")
        const a = yield* candidate(election, "a")
        yield* a.leads
        const b = yield* candidate(election, "b")
        const c = yield* standing("confirmed", 2)
        const [first, second] = c
        yield* EtcdTxn.EtcdTxn.use((txn) =>
          txn.commit(EtcdTxn.all([EtcdTxn.delete(first!.key), EtcdTxn.delete(second!.key)]))
        )
        const leadership = yield* b.leads
        assert.isTrue(leadership.token > second!.token)
        assert.isTrue(yield* EtcdLock.check(leadership.sequencer))
        yield* a.resign
        yield* b.resign
      })
    )

    it.effect("runs an effect whenever this program leads, in one run after the other", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("while/again")
        const runs = yield* Queue.unbounded<{ readonly key: string; readonly incarnation: number }>()
        let inside = 0
        const work = Effect.gen(function* () {
          assert.strictEqual(++inside, 1)
          const leadership = yield* EtcdElection.Leadership
          assert.strictEqual((yield* EtcdLock.Held).token, leadership.token)
          const { incarnation } = yield* EtcdSession.current
          yield* Queue.offer(runs, { key: leadership.key, incarnation })
          yield* Effect.never
        }).pipe(
          Effect.onInterrupt(() =>
            Effect.andThen(
              turns(20),
              Effect.sync(() => inside--)
            )
          )
        )
        const fiber = yield* start(elsewhere(EtcdElection.whileElected(work, election, "me")))
        const first = yield* Queue.take(runs)
        assert.strictEqual(first.incarnation, 1)
        yield* EtcdKv.delete(first.key)
        const second = yield* Queue.take(runs)
        assert.strictEqual(second.incarnation, 1)
        const [holder] = yield* standing("while/again", 1)
        yield* EtcdLease.revoke(holder!.lease)
        const third = yield* Queue.take(runs)
        assert.strictEqual(third.incarnation, 2)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(inside, 0)
        assert.deepStrictEqual(yield* keysBelow("while/again"), [])
      })
    )

    it.effect("ends with what the effect ends with, and resigns", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("while/end")
        const run = <A, E, R>(work: Effect.Effect<A, E, R>) => work.pipe(EtcdElection.whileElected(election, "me"))
        assert.strictEqual(yield* run(Effect.succeed(1)), 1)
        assert.strictEqual(yield* Effect.flip(run(Effect.fail("broken" as const))), "broken")
        const died = yield* Effect.exit(run(Effect.die("defect")))
        assert.isTrue(Exit.isFailure(died) && Exit.hasDies(died))
        const interrupted = yield* Effect.exit(run(Effect.interrupt))
        assert.isTrue(Exit.isFailure(interrupted) && Exit.hasInterrupts(interrupted))
        // When the leadership is lost: a success is one, and so is what a finalizer fails with.
        const losing = Effect.flatMap(EtcdElection.Leadership, ({ key }) => EtcdKv.delete(key))
        assert.strictEqual(yield* run(Effect.as(Effect.uninterruptible(losing), 2)), 2)
        const failing = Effect.andThen(losing, Effect.never).pipe(Effect.ensuring(Effect.die("finalizer")))
        const failed = yield* Effect.exit(run(failing))
        assert.isTrue(Exit.isFailure(failed) && Exit.hasDies(failed))
        assert.deepStrictEqual(yield* keysBelow("while/end"), [])
      })
    )

    it.effect("lets nothing be written that comes after the loss, which is no end of the effect", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("while/fenced")
        let runs = 0
        // What is written after the loss, before the interruption.
        const late = [
          EtcdKv.put("fenced/late", ""),
          Effect.orDie(EtcdKv.put("fenced/late", "")),
          Effect.flatMap(EtcdElection.Leadership, ({ proclaim }) => proclaim("late")),
          Effect.flatMap(EtcdLock.Held, ({ commit }) => commit(EtcdTxn.put("fenced/late", ""))),
          EtcdClient.EtcdClient.use((client) => EtcdKv.fromClient(client).put("fenced/late", "")),
          Effect.provide(EtcdKv.put("fenced/late", ""), EtcdKv.layer)
        ]
        const work = Effect.gen(function* () {
          const write = late[runs++]
          if (write === undefined) return runs
          const leadership = yield* EtcdElection.Leadership
          yield* EtcdKv.put("fenced/in-time", String(leadership.token))
          return yield* Effect.uninterruptible(
            Effect.gen(function* () {
              yield* EtcdTxn.EtcdTxn.use((txn) => txn.commit(EtcdTxn.delete(leadership.key)))
              yield* write
              return assert.fail(`${runs}: it was written`)
            })
          )
        })
        assert.strictEqual(yield* EtcdElection.whileElected(work, election, "me"), late.length + 1)
        assert.isTrue(Option.isNone(yield* EtcdKv.get("fenced/late")))
      })
    )

    it.effect("that makes no sense is refused, and so is who would wait for itself", () =>
      Effect.gen(function* () {
        const fine = EtcdElection.make("fine")
        const wrong = [
          ...["", "/a", "a/", "a\0b", "a/read", "write", "\ud800", 5 as never].map((name) => EtcdElection.make(name)),
          EtcdElection.make("a", { fence: 1 as never }),
          EtcdElection.make("a", { retry: "1 second" as never }),
          EtcdElection.make("a", { mode: "shared" } as never),
          {} as never,
          undefined as never
        ]
        const isRefused = <A, E, R>(self: Effect.Effect<A, E, R>) =>
          Effect.map(Effect.flip(self), (error) =>
            assert.strictEqual((error as unknown as EtcdError.EtcdError).reason._tag, "InvalidArgument")
          )
        for (const election of wrong) {
          yield* isRefused(Effect.scoped(EtcdElection.campaign(election, "me")))
          yield* isRefused(EtcdElection.whileElected(Effect.void, election, "me"))
          yield* isRefused(Effect.scoped(Layer.build(EtcdElection.layerWhileElected(Layer.empty, election, "me"))))
          yield* isRefused(EtcdElection.leader(election))
          yield* isRefused(Stream.runDrain(EtcdElection.changes(election)))
        }
        for (const value of [5, null, {}, "\ud800"]) {
          yield* isRefused(Effect.scoped(EtcdElection.campaign(fine, value as never)))
          yield* isRefused(EtcdElection.whileElected(Effect.void, fine, value as never))
          yield* isRefused(
            Effect.scoped(Layer.build(EtcdElection.layerWhileElected(Layer.empty, fine, value as never)))
          )
        }
        const again = Effect.scoped(EtcdElection.campaign(fine, "me"))
        yield* Effect.scoped(Effect.andThen(EtcdElection.campaign(fine, "me"), isRefused(again)))
        yield* EtcdElection.whileElected(isRefused(again), fine, "me")
        yield* EtcdElection.whileElected(isRefused(EtcdElection.whileElected(Effect.void, fine, "me")), fine, "me")
        // A lock of that name is the same line.
        yield* EtcdElection.whileElected(isRefused(EtcdLock.withLock(Effect.void, EtcdLock.make("fine"))), fine, "me")
        assert.deepStrictEqual(yield* keysBelow("fine"), [])
      })
    )

    it.effect("builds a layer whenever this program leads, and releases it when it does not any more", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("layer")
        const events = yield* Queue.unbounded<string>()
        let builds = 0
        const inner = Layer.effectDiscard(
          Effect.gen(function* () {
            if (++builds === 3) return yield* Effect.fail("broken")
            const { key } = yield* EtcdElection.Leadership
            yield* Effect.addFinalizer(() => Queue.offer(events, "released"))
            yield* Queue.offer(events, key)
          })
        )
        const scope = yield* Scope.make()
        yield* Layer.buildWithScope(EtcdElection.layerWhileElected(inner, election, "me"), scope).pipe(
          Effect.provideService(References.MinimumLogLevel, "None")
        )
        for (let n = 0; n < 2; n++) {
          const key = yield* Queue.take(events)
          yield* EtcdKv.delete(key)
          assert.strictEqual(yield* Queue.take(events), "released")
        }
        // The third one fails, and there is another try.
        assert.match(yield* Queue.take(events), /^layer\//)
        assert.strictEqual(builds, 4)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* Queue.take(events), "released")
        assert.deepStrictEqual(yield* keysBelow("layer"), [])
      })
    )

    it.effect("leaves no key of who is interrupted, at whatever step, and whoever leads", () =>
      Effect.gen(function* () {
        const election = EtcdElection.make("sweep")
        const gone = (count: number) =>
          keysBelow("sweep").pipe(Effect.repeat({ until: (keys) => keys.length === count }))
        const steps = [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 20, 40]
        const ways = [
          Effect.scoped(Effect.andThen(EtcdElection.campaign(election, "me"), Effect.never)),
          EtcdElection.whileElected(Effect.never, election, "me")
        ]
        const sweep = (others: number) =>
          Effect.forEach(ways, (way) =>
            Effect.forEach(steps, (step) =>
              Effect.gen(function* () {
                const fiber = yield* start(way)
                yield* turns(step)
                yield* Fiber.interrupt(fiber)
                yield* gone(others)
              })
            )
          )
        yield* sweep(0)
        const other = yield* candidate(election, "other")
        yield* other.leads
        yield* sweep(1)
        yield* other.resign
        assert.strictEqual(yield* EtcdElection.whileElected(Effect.succeed(1), election, "me"), 1)
      })
    )

    it.effect(
      "lets no write of a past leader land, nor two runs of a program overlap, whatever keys and leases go",
      () =>
        Effect.gen(function* () {
          const election = EtcdElection.make("chaos/election")
          const random = makeRandom(11)
          const { header } = yield* EtcdKv.put("chaos/begin", "")
          const scope = yield* Scope.make()
          let runs = 0
          const program = (name: string) => {
            let inside = 0
            const work = Effect.gen(function* () {
              runs++
              assert.strictEqual(++inside, 1)
              const { token } = yield* EtcdElection.Leadership
              while (true) yield* EtcdKv.put("chaos/ledger", String(token))
            }).pipe(Effect.ensuring(Effect.sync(() => inside--)))
            return EtcdElection.whileElected(work, election, name)
          }
          const fibers = yield* Effect.forEach([1, 2, 3], (n) =>
            Effect.forkIn(elsewhere(program(String(n))), scope, { startImmediately: true })
          )
          for (let round = 0; round < 40 || runs <= 10; round++) {
            const line = yield* EtcdLock.line(EtcdLock.make("chaos/election"))
            const victim = line[random(Math.max(1, line.length))]
            if (victim !== undefined) {
              yield* random(3) === 0 ? Effect.ignore(EtcdLease.revoke(victim.lease)) : EtcdKv.delete(victim.key)
            }
            yield* turns(random(30))
          }
          assert.isAbove(runs, 10)
          for (const fiber of fibers) assert.isUndefined(fiber.pollUnsafe())
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual(yield* keysBelow("chaos/election"), [])
          yield* EtcdKv.put("chaos/ledger", "end")
          const tokens = yield* EtcdWatch.watch("chaos/ledger", { startRevision: header.revision }).pipe(
            Stream.map((event) => event.kv.valueString),
            Stream.takeUntil((value) => value === "end"),
            Stream.runCollect
          )
          const counted = tokens.slice(0, -1).map(BigInt)
          assert.isAbove(counted.length, 20)
          for (const [n, token] of counted.entries()) assert.isTrue(n === 0 || counted[n - 1]! <= token)
        })
    )

    it.effect("passes on when its leader is killed", () =>
      Effect.gen(function* () {
        const [endpoint] = yield* EtcdProcess.EtcdProcess.use((node) => Effect.succeed(node.endpoints))
        const election = EtcdElection.make("killed")
        const leader = yield* host(`
          const Layer = yield* Effect.promise(() => import("effect/Layer"))
          const EtcdLayer = yield* Effect.promise(() => import("effect-etcd/EtcdLayer"))
          const { EtcdElection, EtcdSession } = yield* Effect.promise(() => import("effect-etcd/coordination"))
          const etcd = EtcdLayer.connect({ endpoints: ["${endpoint}"] })
          const session = EtcdSession.layerWith({ ttl: "1 second" }).pipe(Layer.provide(etcd))
          const lead = EtcdElection.whileElected(
            Effect.andThen(Effect.sync(() => say("leads")), Effect.never),
            EtcdElection.make("killed"),
            "theirs"
          )
          yield* Effect.forkChild(Effect.provide(lead, session))
        `)
        assert.strictEqual(leader.said, "leads")
        const next = yield* told(election)
        assert.strictEqual(yield* next, "theirs")
        const mine = yield* start(EtcdElection.whileElected(next, election, "mine"))
        yield* standing("killed", 2)
        yield* leader.kill
        assert.strictEqual(yield* Fiber.join(mine), "mine")
      }).pipe(Effect.scoped)
    )

    it.effect.skipIf(etcdctl === undefined)(`has one line with etcdctl elect${missing}`, () =>
      Effect.gen(function* () {
        const [endpoint = ""] = yield* EtcdProcess.EtcdProcess.use((node) => Effect.succeed(node.endpoints))
        const election = EtcdElection.make("ctl")
        const elect = (...args: ReadonlyArray<string>) =>
          Effect.acquireRelease(
            Effect.sync(() =>
              spawn(etcdctl!, ["--endpoints", endpoint, "elect", ...args], {
                env: { ETCDCTL_API: "3" },
                stdio: ["ignore", "pipe", "ignore"]
              })
            ),
            (child) => Effect.sync(() => child.kill("SIGKILL"))
          )
        /** Until it has printed so many lines. */
        const lines = (child: ChildProcess, count: number) =>
          Effect.callback<ReadonlyArray<string>>((resume) => {
            let text = ""
            child.stdout!.on("data", (data) => {
              text += data
              const whole = text.split("\n").slice(0, -1)
              if (whole.length >= count) resume(Effect.succeed(whole))
            })
          })
        const next = yield* told(election)
        assert.strictEqual(yield* next, "nobody")
        const ours = yield* candidate(election, "ours")
        const leadership = yield* ours.leads
        assert.strictEqual(yield* next, "ours")
        const observer = yield* elect("-l", "ctl")
        assert.deepStrictEqual(yield* lines(observer, 2), [leadership.key, "ours"])
        const theirs = yield* elect("ctl", "theirs")
        const line = yield* standing("ctl", 2)
        assert.strictEqual(line[1]!.owner, "theirs")
        const again = yield* start(EtcdElection.whileElected(next, election, "again"))
        yield* standing("ctl", 3)
        yield* ours.resign
        assert.strictEqual(yield* next, "theirs")
        assert.deepStrictEqual(textOf(yield* EtcdElection.leader(election)), Option.some("theirs"))
        theirs.kill("SIGINT")
        assert.strictEqual(yield* Fiber.join(again), "again")
      }).pipe(Effect.scoped)
    )
  })

  layer(etcd, { excludeTestServices: true })((it) => {
    it.effect("is stood in through an outage, which is told once", () =>
      Effect.gen(function* () {
        const node = yield* EtcdProcess.EtcdProcess
        const election = EtcdElection.make("outage")
        const runs = yield* Queue.unbounded<bigint>()
        const warnings: Array<string> = []
        const logger = Logger.make(({ logLevel, message }) => {
          if (logLevel === "Warn" && String(message).includes("election")) warnings.push(String(message))
        })
        const work = Effect.gen(function* () {
          yield* Queue.offer(runs, (yield* EtcdElection.Leadership).token)
          yield* Effect.never
        })
        yield* node.stop
        const fiber = yield* start(
          EtcdElection.whileElected(work, election, "me").pipe(
            Effect.provide(EtcdSession.layer),
            Effect.provide(Logger.layer([logger]))
          )
        )
        yield* Effect.sync(() => warnings.length).pipe(Effect.repeat({ until: (n) => n === 1 }))
        yield* node.start
        const token = yield* Queue.take(runs)
        assert.strictEqual(Option.getOrThrow(yield* EtcdElection.leader(election)).token, token)
        assert.strictEqual(warnings.length, 1)
        yield* Fiber.interrupt(fiber)
      })
    )
  })
})

describe("the types", () => {
  it("say what work needs that is run by who leads", () => {
    const election = EtcdElection.make("a")
    const work = Effect.gen(function* () {
      yield* EtcdLock.Held
      yield* EtcdElection.Leadership
    })
    const led = EtcdElection.whileElected(work, election, "me")
    const locked = EtcdLock.withLock(work, EtcdLock.make("a"))
    expectTypeOf<Effect.Services<typeof led>>().toEqualTypeOf<EtcdSession.EtcdSession>()
    // A lock is no leadership.
    expectTypeOf<Effect.Services<typeof locked>>().toEqualTypeOf<EtcdElection.Elected | EtcdSession.EtcdSession>()
    expectTypeOf<Effect.Error<typeof led>>().toEqualTypeOf<EtcdError.EtcdError>()
  })
})
