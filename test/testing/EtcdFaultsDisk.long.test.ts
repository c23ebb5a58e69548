import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs"
import { dirname } from "node:path"
import process from "node:process"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdCluster from "../../src/EtcdCluster.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import type { Node } from "../../src/EtcdProcess.ts"
import * as EtcdFaults from "../../src/testing/EtcdFaults.ts"
import { reasonOf, start } from "../support/effects.ts"
import { host } from "../support/host.ts"
import { isAlive, ownTemporaryDirectory, standing, startAgain, temporaryDirectory, until } from "../support/machine.ts"

/** A member that does not lead. */
const aFollower = Effect.gen(function* () {
  const { awaitLeader, members } = yield* EtcdCluster.EtcdCluster
  const leader = yield* awaitLeader
  return SubscriptionRef.getUnsafe(members).find((member) => member !== leader)!
})

const aMember = EtcdCluster.EtcdCluster.useSync(({ members }) => SubscriptionRef.getUnsafe(members)[0])

/** What a member itself has under a key. */
const hasItself = (member: Node, key: string) =>
  EtcdKv.getString(key, { endpoint: member.endpoints[0], serializable: true })

/** Puts it, and once more where that was too early, or too late, for a leader. */
const put = (key: string, value: string) =>
  Effect.retry(EtcdKv.put(key, value), { schedule: Schedule.spaced("20 millis") })

/** It must not take long, and a slow machine is no reason to fail. What hangs may be what cannot be interrupted. */
const soon = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.forkDetach(effect, { startImmediately: true }), (fiber) =>
    Effect.timeoutOrElse(Fiber.join(fiber), { duration: "20 seconds", orElse: () => Effect.die("it hangs") })
  )

const healthy = soon(EtcdFaults.awaitHealthy)

/** What was to end with it does so where a test fails, too. */
const aScope = Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))

const some = "x".repeat(1000)

const putSome = (key: string) => Effect.forEach([1, 2, 3, 4, 5], (n) => put(`${key}/${n}`, some), { discard: true })

/** Where neither `unshare` nor another program is found. */
const withoutPrograms = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => process.env.PATH),
    () =>
      Effect.suspend(() => {
        process.env.PATH = "/no/such/directory"
        return effect
      }),
    (path) =>
      Effect.sync(() => {
        process.env.PATH = path
      })
  )

const whyRefused = <A, R>(effect: Effect.Effect<A, EtcdFaults.FaultRefused, R>) =>
  Effect.map(Effect.flip(effect), ({ message }) => message)

describe("A disk of a cluster", () => {
  layer(EtcdFaults.layer({ size: 3, gracePeriod: "5 minutes" }), { excludeTestServices: true })((it) => {
    it.effect("has bytes of the log flipped, which etcd finds, and has them back for the member that starts", () =>
      Effect.gen(function* () {
        const member = yield* aFollower
        yield* putSome("log")
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(member)
            yield* EtcdFaults.flipBytes(member, { where: "wal" })
            assert.strictEqual((yield* reasonOf(member.start))._tag, "DataDirCorrupt")
            assert.deepStrictEqual(yield* (yield* EtcdFaults.EtcdFaults).active, [
              `kill ${member.name}`,
              `flipBytes ${member.name}, 1 in its wal`
            ])
          })
        )
        yield* healthy
        assert.deepStrictEqual(yield* hasItself(member, "log/5"), Option.some(some))
      })
    )

    it.effect("has bytes flipped back by the same seed", () =>
      Effect.gen(function* () {
        const member = yield* aFollower
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(member)
            const flip = EtcdFaults.flipBytes(member, { where: "wal", count: 50, seed: "the same" })
            yield* flip
            assert.strictEqual((yield* reasonOf(member.start))._tag, "DataDirCorrupt")
            yield* flip
            yield* member.start
          })
        )
        yield* healthy
      })
    )

    it.effect("is mended for a member that was to come back meanwhile, and could not", () =>
      Effect.gen(function* () {
        const member = yield* aFollower
        const down = yield* aScope
        const damage = yield* aScope
        yield* Scope.provide(EtcdFaults.kill(member), down)
        yield* Scope.provide(EtcdFaults.flipBytes(member, { where: "wal" }), damage)
        const waiting = yield* start(healthy)
        yield* Scope.close(down, Exit.void)
        // Whoever waits is told, and as often as somebody does.
        for (const told of [soon(Fiber.join(waiting)), healthy, healthy]) {
          assert.strictEqual((yield* reasonOf(told))._tag, "DataDirCorrupt")
        }
        yield* Scope.close(damage, Exit.void)
        yield* healthy
      })
    )

    it.effect("has its data back when the last of two faults is over, also where the other one began first", () =>
      Effect.gen(function* () {
        const member = yield* aFollower
        const [older, newer] = [yield* aScope, yield* aScope]
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(member)
            yield* Scope.provide(EtcdFaults.flipBytes(member, { where: "wal" }), older)
          })
        )
        assert.strictEqual((yield* reasonOf(healthy))._tag, "DataDirCorrupt")
        yield* Scope.provide(EtcdFaults.tearWal(member), newer)
        yield* Scope.close(older, Exit.void)
        assert.strictEqual((yield* reasonOf(member.start))._tag, "DataDirCorrupt")
        yield* Scope.close(newer, Exit.void)
        yield* healthy
      })
    )

    it.effect("is harmed while nobody starts the member, who would have does so when that is done", () =>
      Effect.gen(function* () {
        const member = yield* aFollower
        const [down, damage] = [yield* aScope, yield* aScope]
        yield* Scope.provide(EtcdFaults.kill(member), down)
        const harming = yield* start(Scope.provide(EtcdFaults.flipBytes(member, { where: "wal" }), damage))
        yield* until(() => readdirSync(dirname(member.config.dataDir)).some((name) => name.includes("copy")))
        yield* Scope.close(down, Exit.void)
        // By hand it is not started either.
        const starting = yield* start(member.start)
        const isThere = Effect.repeat(member.pid, { until: Option.isSome, schedule: Schedule.spaced("1 millis") })
        yield* Effect.raceFirst(isThere, Fiber.await(starting))
        assert.isDefined(harming.pollUnsafe())
        yield* Fiber.join(harming)
        assert.strictEqual((yield* reasonOf(Fiber.join(starting)))._tag, "DataDirCorrupt")
        assert.strictEqual((yield* reasonOf(healthy))._tag, "DataDirCorrupt")
        yield* Scope.close(damage, Exit.void)
        yield* healthy
      })
    )

    it.effect("lacks the end of a log, which etcd repairs, and panics until a leader that does not know sends it", () =>
      Effect.gen(function* () {
        const { awaitLeader } = yield* EtcdCluster.EtcdCluster
        const member = yield* aFollower
        yield* putSome("torn")
        yield* Effect.repeat(hasItself(member, "torn/5"), { until: Option.isSome })
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(member)
            yield* EtcdFaults.tearWal(member, { bytes: 3000 })
            // It may serve before it hears how far the others are.
            yield* Effect.exit(member.start)
            assert.strictEqual((yield* member.exit).code, 2)
            yield* EtcdFaults.restart(yield* awaitLeader)
            yield* startAgain(member)
            yield* Effect.repeat(hasItself(member, "torn/5"), { until: Option.isSome })
          })
        )
        yield* healthy
      })
    )

    it.effect("of a majority forgets what was acknowledged, and nobody knows", () =>
      Effect.gen(function* () {
        const members = SubscriptionRef.getUnsafe((yield* EtcdCluster.EtcdCluster).members)
        const absent = yield* aFollower
        const majority = members.filter((member) => member !== absent)
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(absent)
            yield* put("forgotten", "a little before")
            const copies = yield* Effect.forEach(majority, EtcdFaults.saveDisk)
            const { header } = yield* put("forgotten", "acknowledged")
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* Effect.forEach(majority, EtcdFaults.kill)
                yield* Effect.forEach(majority, (member, n) => EtcdFaults.restoreDisk(member, copies[n]!))
                yield* Effect.forEach(majority, (member) => member.start, { concurrency: "unbounded" })
                assert.deepStrictEqual(yield* EtcdKv.getString("forgotten"), Option.some("a little before"))
                // Its revision was that of another write.
                assert.isTrue((yield* put("forgotten", "another")).header.revision <= header.revision)
              })
            )
          })
        )
        yield* healthy
        assert.deepStrictEqual(yield* hasItself(absent, "forgotten"), Option.some("another"))
      })
    )

    it.effect("has its data back at once where the member that is starting stands still", () =>
      Effect.gen(function* () {
        const members = SubscriptionRef.getUnsafe((yield* EtcdCluster.EtcdCluster).members)
        const [member] = members
        const damage = yield* aScope
        // Without a majority it does not serve.
        yield* Effect.forEach(members, EtcdFaults.kill)
        yield* Scope.provide(EtcdFaults.tearWal(member), damage)
        yield* start(Effect.exit(member.start))
        yield* SubscriptionRef.changes(member.role).pipe(
          Stream.takeUntil(({ role }) => role !== "stopped"),
          Stream.runDrain
        )
        yield* EtcdFaults.pause(member)
        yield* soon(Scope.close(damage, Exit.void))
        assert.deepStrictEqual(yield* member.pid, Option.none())
      }).pipe(Effect.scoped, Effect.andThen(healthy))
    )

    it.effect("is left alone where it makes no sense to harm it", () =>
      Effect.gen(function* () {
        const members = SubscriptionRef.getUnsafe((yield* EtcdCluster.EtcdCluster).members)
        const [member, other] = members
        const copy = yield* Effect.scoped(EtcdFaults.saveDisk(member))
        for (const fault of [
          EtcdFaults.flipBytes(member, { where: "db" }),
          EtcdFaults.tearWal(member),
          EtcdFaults.restoreDisk(member, copy)
        ]) {
          assert.match(yield* whyRefused(fault), /node0 runs: stop it first, or kill it\.$/)
        }
        assert.match(yield* whyRefused(EtcdFaults.fillDisk(member)), /node0 has no disk of its own/)
        yield* EtcdFaults.kill(member)
        assert.match(yield* whyRefused(EtcdFaults.restoreDisk(member, copy)), /cannot be read or written/)
        assert.match(yield* whyRefused(EtcdFaults.restoreDisk(other!, copy)), /the copy is of node0/)
        const { directory } = yield* EtcdFaults.saveDisk(other!)
        const forged = EtcdFaults.restoreDisk(member, { member: "node0", directory })
        assert.match(yield* whyRefused(forged), /node0 is not what this is a copy of/)
        assert.match(yield* whyRefused(EtcdFaults.tearWal(member, { bytes: 70_000_000 })), /of which something is to/)
        const tooMany = EtcdFaults.flipBytes(member, { where: "wal", count: 70_000_000 })
        assert.match(yield* whyRefused(tooMany), /which is less than 70000000/)
        assert.deepStrictEqual(yield* (yield* EtcdFaults.EtcdFaults).active, ["kill node0"])
        yield* member.start
      }).pipe(Effect.scoped, Effect.andThen(healthy))
    )
  })

  layer(EtcdFaults.layer({ size: 1 }), { excludeTestServices: true })((it) => {
    it.effect("has the newer data back where nobody has served the older ones", () =>
      Effect.gen(function* () {
        const member = yield* aMember
        yield* put("restored", "older")
        yield* Effect.scoped(
          Effect.gen(function* () {
            const copy = yield* EtcdFaults.saveDisk(member)
            yield* put("restored", "newer")
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* EtcdFaults.kill(member)
                yield* EtcdFaults.restoreDisk(member, copy)
              })
            )
            yield* healthy
            assert.deepStrictEqual(yield* EtcdKv.getString("restored"), Option.some("newer"))
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* EtcdFaults.kill(member)
                yield* EtcdFaults.restoreDisk(member, copy)
                yield* member.start
              })
            )
            yield* healthy
            assert.deepStrictEqual(yield* EtcdKv.getString("restored"), Option.some("older"))
          })
        )
      })
    )

    it.effect("has a byte of a value flipped, and etcd serves another value", () =>
      Effect.gen(function* () {
        const member = yield* aMember
        const value = "v".repeat(1_000_000)
        yield* put("value", value)
        // What it has in its log only is not in its database.
        yield* member.stop
        const copy = yield* EtcdFaults.saveDisk(member)
        yield* member.start
        // The byte may be another one, and etcd find it.
        const served = Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(member)
            yield* EtcdFaults.restoreDisk(member, copy)
            yield* EtcdFaults.flipBytes(member, { where: "db" })
            yield* member.start
            return Option.map(yield* EtcdKv.get("value"), ({ value }) => value)
          })
        ).pipe(Effect.option, Effect.map(Option.flatten), Effect.tap(healthy))
        const isOther = (found: Option.Option<Uint8Array>) =>
          Option.exists(found, (bytes) => bytes.filter((byte) => byte !== 0x76).length === 1)
        assert.strictEqual(Option.getOrThrow(yield* Effect.repeat(served, { until: isOther })).length, value.length)
      }).pipe(Effect.scoped)
    )
  })

  it.live("is none of its own where nobody has asked for one", () =>
    Effect.gen(function* () {
      const fails = (options: EtcdFaults.Options) =>
        reasonOf(Effect.scoped(Effect.provide(EtcdFaults.make(options), NodeServices.layer)))
      for (const disks of ["127 MiB", Number.POSITIVE_INFINITY, "large" as never] as const) {
        assert.strictEqual((yield* fails({ disks }))._tag, "InvalidConfig")
      }
      assert.match((yield* fails({ disks: "144 MiB", dataDir: "somewhere" })).message, /Give one of the two/)
      const reason = yield* withoutPrograms(fails({ disks: "144 MiB" }))
      assert.strictEqual(reason._tag, "InvalidConfig")
      assert.match(reason.message, /disks of their own here/)
      assert.isFalse(yield* withoutPrograms(EtcdFaults.canFillDisk))
    })
  )

  it.live("that is full ends etcd, and has its data when there is room again", ({ skip }) =>
    Effect.gen(function* () {
      if (!(yield* EtcdFaults.canFillDisk)) skip("users cannot mount disks of their own here")
      yield* Effect.gen(function* () {
        const member = yield* aFollower
        // What it has outlives it.
        yield* put("full", "before")
        yield* EtcdFaults.restart(member)
        assert.deepStrictEqual(yield* hasItself(member, "full"), Option.some("before"))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.fillDisk(member)
            const filling = Effect.forever(put("full", "x".repeat(200_000)))
            assert.notStrictEqual((yield* Effect.raceFirst(member.exit, filling)).code, 0)
            // It may serve before it writes.
            yield* Effect.exit(member.start)
            assert.notStrictEqual((yield* member.exit).code, 0)
            yield* put("full", "without it")
          })
        )
        yield* healthy
        yield* Effect.repeat(hasItself(member, "full"), { until: Option.contains("without it") })
        // It is the process itself that is stopped and killed.
        const pid = Option.getOrThrow(yield* member.pid)
        yield* Effect.scoped(Effect.andThen(EtcdFaults.pause(member), standing(pid)))
        yield* Effect.scoped(EtcdFaults.kill(member))
        assert.isFalse(isAlive(pid))
        yield* healthy
        // Its data can be harmed as any other's.
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(member)
            yield* EtcdFaults.flipBytes(member, { where: "wal" })
            assert.strictEqual((yield* reasonOf(member.start))._tag, "DataDirCorrupt")
          })
        )
        yield* healthy
      }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer({ disks: "144 MiB" })))
    })
  )

  it.live("that is full is so until nobody wants it any more, whatever else befalls it", ({ skip }) =>
    Effect.gen(function* () {
      if (!(yield* EtcdFaults.canFillDisk)) skip("users cannot mount disks of their own here")
      yield* Effect.gen(function* () {
        const member = yield* aMember
        const filled = Effect.gen(function* () {
          const scope = yield* aScope
          yield* Scope.provide(EtcdFaults.fillDisk(member), scope)
          return scope
        })
        const dies = soon(Effect.raceFirst(member.exit, Effect.forever(put("dies", "x".repeat(200_000)))))
        // It is started again when the last one is over, though it ran only when the first one began.
        const first = yield* filled
        yield* dies
        const second = yield* filled
        yield* Scope.close(first, Exit.void)
        yield* Scope.close(second, Exit.void)
        yield* healthy
        // It is started again though something else keeps it from that at first.
        const full = yield* filled
        yield* dies
        const damage = yield* aScope
        yield* Scope.provide(EtcdFaults.flipBytes(member, { where: "wal" }), damage)
        yield* Scope.close(full, Exit.void)
        assert.strictEqual((yield* reasonOf(healthy))._tag, "DataDirCorrupt")
        yield* Scope.close(damage, Exit.void)
        yield* healthy
        // What was there is put back where there is no room for it, and there is none again.
        const copy = yield* EtcdFaults.saveDisk(member)
        yield* Effect.forEach([1, 2, 3, 4], (n) => put(`much/${n}`, "x".repeat(500_000)))
        const [down, older] = [yield* aScope, yield* aScope]
        yield* Scope.provide(EtcdFaults.kill(member), down)
        yield* Scope.provide(EtcdFaults.restoreDisk(member, copy), older)
        const whole = yield* filled
        yield* Scope.close(older, Exit.void)
        yield* Effect.exit(member.start)
        yield* dies
        yield* Scope.close(whole, Exit.void)
        yield* Scope.close(down, Exit.void)
        yield* healthy
        assert.isTrue(Option.isSome(yield* EtcdKv.getString("much/4")))
        // Who stops it by hand starts it, or does not.
        const last = yield* filled
        yield* member.stop
        yield* Scope.close(last, Exit.void)
        // Which is refused where it runs, since it had died of the full disk before it was stopped, and until it is known that
        // nobody starts it.
        yield* Effect.retry(Effect.andThen(member.stop, EtcdFaults.tearWal(member)), {
          while: (error) => /runs|about to be/.test(error.message),
          schedule: Schedule.spaced("5 millis")
        })
      }).pipe(Effect.scoped, Effect.provide(EtcdFaults.layer({ size: 1, disks: "144 MiB" })))
    })
  )

  it.live("has its data back where the cluster is closed meanwhile, which leaves nothing of copies", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const directory = yield* ownTemporaryDirectory
      const outer = yield* Effect.scope
      const make = EtcdFaults.make({ size: 1, dataDir })
      yield* Effect.gen(function* () {
        const { cluster, flipBytes, kill, saveDisk } = yield* make
        const [member] = SubscriptionRef.getUnsafe(cluster.members)
        // In a scope that outlives the cluster's.
        yield* Scope.provide(kill(member), outer)
        yield* Scope.provide(flipBytes(member, { where: "wal" }), outer)
        const saving = yield* Effect.forkIn(Scope.provide(saveDisk(member), outer), outer, { startImmediately: true })
        const runDirectory = dirname(member.endpoints[0].slice("unix://".length))
        yield* until(() => saving.pollUnsafe() !== undefined || readdirSync(runDirectory).includes("node0.copy1"))
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(readdirSync(directory), [])
      yield* make
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("is there for a member that joins later, too", ({ skip }) =>
    Effect.gen(function* () {
      if (!(yield* EtcdFaults.canFillDisk)) skip("users cannot mount disks of their own here")
      const { active, cluster, fillDisk } = yield* EtcdFaults.make({ size: 1, disks: "144 MiB", log: false })
      yield* cluster.grow()
      const [, member] = SubscriptionRef.getUnsafe(cluster.members)
      const pid = Option.getOrThrow(yield* member!.pid)
      assert.include(readFileSync(`/proc/${pid}/mounts`, "utf8"), ` ${member!.config.dataDir} `)
      yield* fillDisk("node1")
      assert.deepStrictEqual(yield* active, ["fillDisk node1"])
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("goes with a host that dies", ({ skip }) =>
    Effect.gen(function* () {
      if (!(yield* EtcdFaults.canFillDisk)) skip("users cannot mount disks of their own here")
      const { kill, said } = yield* host(`
        const { EtcdFaults } = yield* Effect.promise(() => import("effect-etcd/testing"))
        const faults = yield* EtcdFaults.make({ size: 1, disks: "144 MiB" })
        const [member] = SubscriptionRef.getUnsafe(faults.cluster.members)
        yield* faults.fillDisk(member)
        say({ directory: member.config.dataDir, pid: yield* pidOf(member) })
      `)
      const namespaceOf = (pid: string) => readlinkSync(`/proc/${pid}/ns/mnt`)
      const own = namespaceOf(said.pid)
      const isWithin = (pid: string) =>
        Result.getOrElse(
          Result.try(() => namespaceOf(pid) === own),
          () => false
        )
      const holders = () => readdirSync("/proc").filter((name) => /^\d+$/.test(name) && isWithin(name))
      assert.isAtLeast(holders().length, 2)
      yield* kill
      yield* until(() => holders().length === 0 && !existsSync(dirname(said.directory)))
    }).pipe(Effect.scoped)
  )
})
