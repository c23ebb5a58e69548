import { assert, layer } from "@effect/vitest"
import { Effect, Option, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { EtcdClient, EtcdKv, EtcdLayer, EtcdLease, EtcdWatch } from "effect-etcd"
import { EtcdSession } from "effect-etcd/coordination"
import { EtcdClock } from "effect-etcd/testing"

/** Counts in etcd, once an hour. */
const count = EtcdKv.getString("hours").pipe(
  Effect.flatMap((hours) => EtcdKv.put("hours", String(Number(Option.getOrElse(hours, () => "0")) + 1))),
  Effect.repeat(Schedule.spaced("1 hour"))
)

const untilHoursAre = (hours: string) =>
  EtcdWatch.watch("hours", { startRevision: 1n }).pipe(
    Stream.filter(({ kv }) => kv.valueString === hours),
    Stream.take(1),
    Stream.runDrain
  )

/** Hour after hour passes: a program that still waits for etcd does not sleep yet, and would miss a single one. */
const hoursPass = TestClock.adjust("1 hour").pipe(
  Effect.andThen(TestClock.withLive(Effect.sleep("10 millis"))),
  Effect.forever
)

/** A session, and the clock that it goes by. */
const makeSession = Effect.gen(function* () {
  const clock = yield* EtcdClock.make
  const session = yield* clock.by(EtcdSession.fromClient(yield* EtcdClient.EtcdClient, { ttl: "10 seconds" }))
  return { clock, session }
})

layer(EtcdLayer.ephemeral({}, { log: false }))("time", (it) => {
  it.effect("of the program passes when the test says so, and etcd is talked to as ever", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(count)
      yield* Effect.raceFirst(untilHoursAre("3"), hoursPass)
    })
  )

  it.effect("of the program ends no lease", () =>
    Effect.gen(function* () {
      const { id } = yield* EtcdLease.make("5 seconds")
      yield* EtcdKv.put("mine", "", { lease: id })
      yield* TestClock.adjust("1 day")
      assert.isTrue(Option.isSome(yield* EtcdKv.get("mine")))
    })
  )

  it.effect("of the library is over at once: who stood still for longer than the lease has lost the session", () =>
    Effect.gen(function* () {
      const { clock, session } = yield* makeSession
      const before = yield* session.current
      yield* clock.standStill("11 seconds")
      assert.isFalse(before.isHeldUnsafe())
      assert.strictEqual((yield* session.current).incarnation, 2)
    })
  )

  it.effect("of the library is in doubt when the wall clock has jumped, until etcd has answered", () =>
    Effect.gen(function* () {
      const { clock, session } = yield* makeSession
      const before = yield* session.current
      yield* clock.jump("1 hour")
      assert.isFalse(before.isHeldUnsafe())
      assert.strictEqual((yield* session.current).incarnation, 1)
      assert.isTrue(before.isHeldUnsafe())
    })
  )
})
