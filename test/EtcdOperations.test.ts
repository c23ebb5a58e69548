import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as EtcdClient from "../src/EtcdClient.ts"
import * as EtcdCluster from "../src/EtcdCluster.ts"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdKv from "../src/EtcdKv.ts"
import * as EtcdLayer from "../src/EtcdLayer.ts"
import * as EtcdMaintenance from "../src/EtcdMaintenance.ts"
import * as EtcdMembership from "../src/EtcdMembership.ts"
import type { ClusterRefused } from "../src/EtcdOperationError.ts"
import * as EtcdOperations from "../src/EtcdOperations.ts"
import type { Node } from "../src/EtcdProcess.ts"
import * as EtcdFaults from "../src/testing/EtcdFaults.ts"
import { replaceInDatabase } from "./support/database.ts"
import { reasonOf } from "./support/effects.ts"
import { terms, underLoad } from "./support/load.ts"
import { temporaryDirectory } from "./support/machine.ts"

const healthy = EtcdFaults.awaitHealthy

const some = Effect.gen(function* () {
  const cluster = yield* EtcdCluster.EtcdCluster
  const members = yield* SubscriptionRef.get(cluster.members)
  const leader = yield* cluster.awaitLeader
  return { leader, members, followers: members.filter((member) => member !== leader) }
})

const statusOf = (node: Node) => EtcdMaintenance.status({ endpoint: node.endpoints[0] })

const freeOf = ({ dbSize, dbSizeInUse }: EtcdMaintenance.Status) => Number(dbSize - dbSizeInUse)

const mebibyte = 1024 * 1024

/** Two to four mebibytes of each member's database are free then. */
const fragment = Effect.gen(function* () {
  const { members } = yield* some
  const value = new Uint8Array(128 * 1024)
  const keys = Array.from({ length: 32 }, (_, index) => `fragment/${index}`)
  yield* Effect.forEach(keys, (key) => EtcdKv.put(key, value), { concurrency: 4 })
  const { header } = yield* EtcdKv.deletePrefix("fragment/")
  yield* Effect.forEach(members, ({ endpoints: [endpoint] }) =>
    Effect.ignore(EtcdKv.compact(header.revision, { physical: true, endpoint }))
  )
  yield* Effect.forEach(members, (member) =>
    // Pages are free one transaction of the database later.
    Effect.repeat(Effect.andThen(EtcdKv.put("fragment", ""), statusOf(member)), {
      until: (status) => freeOf(status) > 2 * mebibyte
    })
  )
})

const little = { minBytes: mebibyte, minShare: 0.1 } as const

const refusalOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(Effect.flip(effect), (error) =>
    error._tag === "ClusterRefused"
      ? Effect.succeed(error as Extract<E, { readonly _tag: "ClusterRefused" }>)
      : Effect.die(error)
  )

const namesOf = (members: ReadonlyArray<EtcdMembership.Member>) => members.map(({ name }) => name)

type Options = EtcdOperations.Options

/** Begins an operation, and interrupts it where its nth step begins. Answers whether it came to that. */
const killedAt = <E, R>(nth: number, operation: (options: Options) => Effect.Effect<EtcdOperations.Report, E, R>) =>
  Effect.gen(function* () {
    const reached = yield* Deferred.make<boolean>()
    let told = 0
    const onProgress = ({ detail }: EtcdOperations.Progress) =>
      detail === undefined && told++ === nth
        ? Effect.andThen(Deferred.succeed(reached, true), Effect.never)
        : Effect.void
    const fiber = yield* Effect.forkChild(operation({ onProgress }), { startImmediately: true })
    const isReached = yield* Effect.raceFirst(Deferred.await(reached), Effect.as(Fiber.join(fiber), false))
    yield* Fiber.interrupt(fiber)
    return isReached
  })

/**
 * Kills an operation at each of its steps, and runs it again, which has to bring about what it is for: as `prepare` makes it
 * necessary, and `done` looks whether it was.
 */
const killedAtEach = <E, R, R2>(
  operation: (options: Options) => Effect.Effect<EtcdOperations.Report, E, R>,
  prepare: Effect.Effect<unknown, unknown, R2>,
  done: Effect.Effect<unknown, unknown, R2>,
  changesOfLeader: number
) =>
  Effect.gen(function* () {
    for (let nth = 0, reached = true; reached; nth++) {
      yield* prepare
      const before = yield* terms
      reached = yield* killedAt(nth, operation)
      if (reached) yield* operation({})
      yield* done
      assert.isAtMost((yield* terms) - before, changesOfLeader, `killed at ${nth}`)
      // Nothing is left to do.
      assert.deepStrictEqual((yield* operation({})).steps, [])
    }
  })

// Whoever leads leads until asked to hand on, however busy the machine is.
const shared = EtcdFaults.layer({ size: 3, config: { electionTimeout: "2 seconds", strictReconfigCheck: false } })

describe("EtcdOperations", () => {
  layer(shared, { excludeTestServices: true })((it) => {
    it.effect("moveLeader: to who is named, to the most advanced, and nowhere where it is there already", () =>
      Effect.gen(function* () {
        const { followers, leader } = yield* some
        const [first, second] = followers
        const before = yield* terms
        const dry = yield* EtcdOperations.moveLeader(first!.name, { dryRun: true })
        assert.deepStrictEqual(
          dry.steps.map(({ outcome, title }) => [outcome, title]),
          [["planned", `move the leader from ${leader.name} to ${first!.name}`]]
        )
        assert.strictEqual(yield* terms, before)
        const { refused, longestGap } = yield* underLoad(
          Effect.gen(function* () {
            const { steps } = yield* EtcdOperations.moveLeader(first!.name)
            assert.deepStrictEqual(
              steps.map(({ outcome }) => outcome),
              ["done"]
            )
            assert.match(steps[0]!.detail ?? "", /leads since term \d+$/)
            assert.deepStrictEqual((yield* statusOf(first!)).leader, Option.some(first!.id))
            assert.deepStrictEqual((yield* EtcdOperations.moveLeader(first!.id)).steps, [])
            yield* EtcdOperations.moveLeader(second!.id)
            yield* EtcdOperations.moveLeader()
            assert.notDeepEqual((yield* statusOf(second!)).leader, Option.some(second!.id))
          })
        )
        assert.deepStrictEqual(refused, [])
        assert.strictEqual((yield* terms) - before, 3)
        assert.isBelow(longestGap, 2000)
      })
    )

    it.effect("defragment: one after the other, the leader last, and writes go on", () =>
      Effect.gen(function* () {
        const { followers, leader, members } = yield* some
        yield* fragment
        const dry = yield* EtcdOperations.defragment({ ...little, dryRun: true })
        assert.sameMembers(
          dry.steps.slice(0, 2).map(({ title }) => title),
          followers.map(({ name }) => `defragment ${name}`)
        )
        assert.match(dry.steps[2]!.title, new RegExp(`^move the leader from ${leader.name} to`))
        assert.strictEqual(dry.steps[3]!.title, `defragment ${leader.name}`)
        assert.deepStrictEqual(dry.steps.length, 4)
        const before = yield* terms
        const { longestGap, refused, result } = yield* underLoad(EtcdOperations.defragment(little))
        // To whom it is moved depends on who has applied most then.
        const titles = (steps: ReadonlyArray<EtcdOperations.StepReport>) =>
          steps.map(({ title }) => title.split(" to ")[0])
        assert.deepStrictEqual(titles(result.steps), titles(dry.steps))
        for (const step of [0, 1, 3]) assert.match(result.steps[step]!.detail ?? "", /MiB became .*iB$/)
        for (const member of members) assert.isBelow(freeOf(yield* statusOf(member)), mebibyte)
        assert.strictEqual((yield* terms) - before, 1)
        assert.deepStrictEqual(refused, [])
        assert.isBelow(longestGap, 2000)
        // There is little to gain now, and nobody is bothered.
        assert.deepStrictEqual((yield* EtcdOperations.defragment(little)).steps, [])
        assert.deepStrictEqual((yield* EtcdOperations.defragment()).steps, [])
      })
    )

    it.effect("take as long as it takes, whatever deadline the calls of the client have", () =>
      Effect.gen(function* () {
        const { leader, members } = yield* some
        const endpoints = members.flatMap((member) => member.endpoints)
        const services = { KV: { deadline: "1 millis" }, Maintenance: { deadline: "1 millis" } } as const
        const impatient = (service: keyof typeof services) =>
          Effect.provide(EtcdClient.layer({ endpoints, services: { [service]: services[service] } }))
        yield* fragment
        const { steps } = yield* EtcdOperations.defragment(little).pipe(impatient("Maintenance"))
        assert.strictEqual(steps.length, 4)
        yield* Effect.forEach(Array.from({ length: 32 }), () => EtcdKv.put("history", new Uint8Array(128 * 1024)))
        yield* EtcdMaintenance.armAlarm({ memberId: leader.id, type: "NoSpace" })
        assert.strictEqual((yield* EtcdOperations.clearNoSpace().pipe(impatient("KV"))).steps.length, 6)
      })
    )

    it.effect("defragment: two at once are one after the other", () =>
      Effect.gen(function* () {
        yield* fragment
        const both = yield* Effect.all([EtcdOperations.defragment(little), EtcdOperations.defragment(little)], {
          concurrency: "unbounded"
        })
        assert.sameMembers(
          both.map(({ steps }) => steps.length),
          [0, 4]
        )
      })
    )

    it.effect("defragment: killed at whatever step, run again it does what is left", () =>
      Effect.gen(function* () {
        const { members } = yield* some
        const { refused } = yield* underLoad(
          killedAtEach(
            (options) => EtcdOperations.defragment({ ...little, ...options }),
            fragment,
            Effect.forEach(members, (member) =>
              Effect.map(statusOf(member), (status) => assert.isBelow(freeOf(status), 2 * mebibyte))
            ),
            1
          )
        )
        assert.deepStrictEqual(refused, [])
      })
    )

    it.effect("defragment: stops where a member goes meanwhile, and does what is left when it is back", () =>
      Effect.gen(function* () {
        yield* fragment
        const { members } = yield* some
        yield* Effect.gen(function* () {
          const scope = yield* Effect.scope
          const faults = yield* EtcdFaults.EtcdFaults
          const { steps } = yield* EtcdOperations.defragment({ ...little, dryRun: true })
          const victim = members.find(({ name }) => steps[1]!.title.endsWith(name))!
          const onProgress = ({ detail, index }: EtcdOperations.Progress) =>
            index === 0 && detail !== undefined ? Effect.orDie(Scope.provide(faults.kill(victim), scope)) : Effect.void
          const error = yield* Effect.flip(EtcdOperations.defragment({ ...little, onProgress }))
          assert(error._tag === "OperationFailed")
          assert.strictEqual(error.step, steps[1]!.title)
          assert.deepStrictEqual(
            error.done.map(({ title }) => title),
            [steps[0]!.title]
          )
          assert.match(error.message, /stopped at step 2 of 4 .*node\d \(\w+\) does not answer\. Start who is down/)
          assert.notInclude(error.message, "Nothing was done")
          const refusal = yield* refusalOf(EtcdOperations.defragment(little))
          assert.strictEqual(refusal.finding, "unhealthy-member")
        }).pipe(Effect.scoped)
        yield* healthy
        assert.strictEqual((yield* EtcdOperations.defragment(little)).steps.length, 3)
      })
    )

    it.effect("clearNoSpace: killed at whatever step, run again it makes room and lets writes through", () =>
      Effect.gen(function* () {
        const { followers, members } = yield* some
        const maintenance = yield* EtcdMaintenance.EtcdMaintenance
        assert.deepStrictEqual((yield* EtcdOperations.clearNoSpace()).steps, [])
        const value = new Uint8Array(128 * 1024)
        const gone = EtcdId.MemberId(77n)
        // What can be given up is the history of one key.
        const prepare = Effect.gen(function* () {
          yield* Effect.forEach(Array.from({ length: 32 }), () => EtcdKv.put("history", value), { concurrency: 4 })
          for (const member of members) {
            // A database grows when what was put is written to it.
            yield* Effect.repeat(statusOf(member), { until: ({ dbSize }) => dbSize > 4 * mebibyte })
          }
          for (const memberId of [followers[0]!.id, gone]) yield* maintenance.armAlarm({ memberId, type: "NoSpace" })
        })
        const done = Effect.gen(function* () {
          assert.deepStrictEqual(yield* maintenance.alarms(), [])
          yield* EtcdKv.put("space", "")
          for (const member of members) assert.isBelow(freeOf(yield* statusOf(member)), 2 * mebibyte)
        })
        yield* prepare
        const { steps } = yield* EtcdOperations.clearNoSpace({ dryRun: true })
        assert.strictEqual(steps.length, 6)
        assert.match(steps[0]!.title, /^compact/)
        assert.match(steps[5]!.title, /^disarm/)
        assert.strictEqual((yield* maintenance.alarms()).length, 2)
        const sizes = yield* Effect.forEach(members, statusOf)
        yield* EtcdOperations.clearNoSpace()
        for (const [index, member] of members.entries()) {
          // Each member had compacted before it was defragmented.
          assert.isBelow(Number((yield* statusOf(member)).dbSize), Number(sizes[index]!.dbSize) - 2 * mebibyte)
        }
        // Run again, it does all of it again.
        yield* underLoad(killedAtEach(EtcdOperations.clearNoSpace, prepare, done, 2))
      })
    )

    it.effect("clearNoSpace: a member that does not answer is not passed over", () =>
      Effect.gen(function* () {
        const { leader } = yield* some
        const maintenance = yield* EtcdMaintenance.EtcdMaintenance
        yield* maintenance.armAlarm({ memberId: leader.id, type: "NoSpace" })
        const scope = yield* Scope.make()
        const faults = yield* EtcdFaults.EtcdFaults
        const context = yield* Effect.context<EtcdCluster.EtcdCluster>()
        const killed: Array<Node> = []
        const kill = Effect.gen(function* () {
          // The leader has changed by then.
          const [victim] = (yield* some).followers
          killed.push(victim!)
          yield* Scope.provide(faults.kill(victim!), scope)
        })
        const onProgress = ({ step }: EtcdOperations.Progress) =>
          step.startsWith("disarm") ? Effect.orDie(Effect.provideContext(kill, context)) : Effect.void
        const error = yield* Effect.flip(EtcdOperations.clearNoSpace({ keepHistory: true, onProgress }))
        assert(error._tag === "OperationFailed")
        assert.include(error.message, `${killed[0]!.name} (${EtcdId.format(killed[0]!.id)}) does not answer`)
        const refusal = yield* refusalOf(EtcdOperations.clearNoSpace())
        assert.deepStrictEqual([refusal.finding, (yield* maintenance.alarms()).length], ["unhealthy-member", 1])
        yield* Scope.close(scope, Exit.void)
        // A cluster that takes no writes does not count as healthy.
        yield* Effect.retry(EtcdOperations.clearNoSpace(), { while: ({ _tag }) => _tag === "ClusterRefused" })
        yield* healthy
      })
    )

    it.effect("findCorrupt: all have the same, under load, compacted or not, and who does not answer is unknown", () =>
      Effect.gen(function* () {
        const { followers, members } = yield* some
        const all = members.map(({ name }) => name)
        const { refused, result } = yield* underLoad(EtcdOperations.findCorrupt())
        assert.deepStrictEqual(refused, [])
        assert.strictEqual(result.verdict, "sound")
        assert.sameMembers(namesOf(result.sound), all)
        const { header } = yield* EtcdKv.put("compacted", "")
        yield* EtcdKv.compact(header.revision)
        const after = yield* EtcdOperations.findCorrupt()
        assert.deepStrictEqual([after.verdict, after.revision], ["sound", header.revision])
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(followers[0]!)
            const { sound, unknown, verdict } = yield* EtcdOperations.findCorrupt()
            assert.deepStrictEqual([verdict, namesOf(unknown)], ["sound", [followers[0]!.name]])
            assert.strictEqual(sound.length, 2)
          })
        )
        yield* healthy
      })
    )

    it.effect("findCorrupt: the one whose data are not those of the others", () =>
      Effect.gen(function* () {
        const { followers } = yield* some
        const [odd, other] = followers
        yield* EtcdKv.put("corrupt", "what all have")
        // A majority has it by now, and this one when it answers.
        yield* EtcdKv.getString("corrupt", { endpoint: odd!.endpoints[0] })
        yield* replaceInDatabase(odd!, "what all have", "what one has!")
        yield* healthy
        const own = { endpoint: odd!.endpoints[0], serializable: true }
        assert.deepStrictEqual(yield* EtcdKv.getString("corrupt", own), Option.some("what one has!"))
        const found = yield* EtcdOperations.findCorrupt()
        assert.deepStrictEqual([found.verdict, namesOf(found.corrupt)], ["corrupt", [odd!.name]])
        assert.strictEqual(found.sound.length, 2)
        assert.isTrue(found.evidence.every((line) => /: hash \d+, (compacted up to \d+|never compacted)$/.test(line)))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(other!)
            const { corrupt, evidence, sound, unknown, verdict } = yield* EtcdOperations.findCorrupt()
            assert.deepStrictEqual([verdict, corrupt, sound, unknown.length], ["undecided", [], [], 3])
            assert.include(evidence, "no 2 of 3 voters have the same data")
          })
        )
        yield* healthy
        yield* replaceInDatabase(odd!, "what one has!", "what all have")
        yield* healthy
        assert.strictEqual((yield* EtcdOperations.findCorrupt()).verdict, "sound")
      })
    )

    it.effect("are refused, and say why", () =>
      Effect.gen(function* () {
        const { followers, leader } = yield* some
        const maintenance = yield* EtcdMaintenance.EtcdMaintenance
        const findings = <E extends { readonly _tag: string }>(
          ...operations: ReadonlyArray<Effect.Effect<unknown, E, EtcdClient.EtcdClient>>
        ) =>
          Effect.map(
            Effect.forEach(operations, (operation) => refusalOf(operation), { concurrency: "unbounded" }),
            (refusals) => refusals.map((refusal) => (refusal as unknown as ClusterRefused).finding)
          )
        const { defragment, findCorrupt, moveLeader } = EtcdOperations
        assert.deepStrictEqual(yield* findings(moveLeader("nobody"), moveLeader(77n as never)), [
          "no-such-member",
          "no-such-member"
        ])
        const refusal = yield* refusalOf(moveLeader("nobody"))
        assert.match(refusal.message, /^moveLeader was refused \(no-such-member\): there is no member named "nobody"; /)
        // A learner, which has never been started.
        const membership = yield* EtcdMembership.EtcdMembership
        const added = yield* membership.add(["http://127.0.0.1:1"], { isLearner: true })
        assert.deepStrictEqual(yield* findings(moveLeader(added.member.id)), ["learner"])
        // It has no say in the rest, and does not answer that.
        yield* defragment({ dryRun: true })
        assert.deepStrictEqual(
          (yield* findCorrupt()).unknown.map(({ id }) => id),
          [added.member.id]
        )
        yield* membership.remove(added.member.id)
        for (const type of ["NoSpace", "Corrupt"] as const) {
          yield* maintenance.armAlarm({ memberId: leader.id, type })
          assert.deepStrictEqual(yield* findings(moveLeader(), defragment()), ["alarm", "alarm"])
          if (type === "Corrupt") {
            const { evidence, finding } = yield* refusalOf(EtcdOperations.clearNoSpace())
            assert.deepStrictEqual([finding, evidence], ["alarm", [`the alarm Corrupt is armed for ${leader.name}`]])
          }
          assert.strictEqual((yield* findCorrupt()).verdict, "sound")
          yield* maintenance.disarmAlarms()
        }
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* EtcdFaults.kill(followers[0]!)
            assert.deepStrictEqual(yield* findings(moveLeader(followers[0]!.name), defragment()), [
              "unhealthy-member",
              "unhealthy-member"
            ])
            yield* EtcdFaults.kill(followers[1]!)
            assert.deepStrictEqual(
              yield* findings(moveLeader(), defragment(), EtcdOperations.clearNoSpace(), findCorrupt()),
              Array.from({ length: 4 }, () => "no-quorum")
            )
          })
        )
        yield* healthy
      })
    )
  })

  it.live("clearNoSpace: the alarm stays as long as there is no room, and deleting makes some", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const node = (quotaBackendBytes: "64 MiB" | "16 MiB") =>
        EtcdLayer.ephemeral({ dataDir, quotaBackendBytes }, { log: false })
      const value = new Uint8Array(1024 * 1024)
      const keys = Array.from({ length: 20 }, (_, index) => `large/${index}`)
      yield* Effect.forEach(keys, (key) => EtcdKv.put(key, value)).pipe(Effect.provide(node("64 MiB")))
      yield* Effect.gen(function* () {
        const maintenance = yield* EtcdMaintenance.EtcdMaintenance
        assert.strictEqual((yield* reasonOf(EtcdKv.put("large", value)))._tag, "NoSpace")
        const clear = EtcdOperations.clearNoSpace({ quota: "16 MiB" })
        const failed = yield* Effect.flip(clear)
        assert(failed._tag === "OperationFailed")
        assert.match(failed.message, /stopped at step 3 of 3 .*default has 2\d[.\d]* MiB of 16 MiB\. Delete keys/)
        assert.strictEqual((yield* maintenance.alarms()).length, 1)
        yield* EtcdKv.deletePrefix("large/")
        assert.strictEqual((yield* clear).steps.length, 3)
        assert.deepStrictEqual(yield* maintenance.alarms(), [])
        yield* Effect.forEach(keys.slice(0, 3), (key) => EtcdKv.put(key, value))
        // And of a cluster of one there is nobody else to lead, and nobody to compare it with.
        assert.deepStrictEqual((yield* EtcdOperations.moveLeader("default")).steps, [])
        assert.strictEqual((yield* refusalOf(EtcdOperations.moveLeader())).finding, "unhealthy-member")
        assert.strictEqual((yield* EtcdOperations.findCorrupt()).verdict, "undecided")
        yield* EtcdKv.deletePrefix("large/")
        const { header } = yield* EtcdKv.put("last", "")
        yield* EtcdKv.compact(header.revision, { physical: true })
        const free = EtcdMaintenance.status().pipe(Effect.map(freeOf))
        yield* Effect.repeat(Effect.andThen(EtcdKv.put("last", ""), free), { until: (bytes) => bytes > mebibyte })
        assert.strictEqual((yield* EtcdOperations.defragment(little)).steps.length, 1)
        assert.isBelow(yield* free, mebibyte)
      }).pipe(Effect.provide(node("16 MiB")))
    }).pipe(Effect.scoped)
  )
})
