import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdError from "../src/EtcdError.ts"
import * as EtcdLog from "../src/EtcdLog.ts"
import * as WatchRole from "../src/internal/process/watchRole.ts"
import * as Role from "../src/Role.ts"
import { standStill } from "./support/machine.ts"
import { byTestClock, turns } from "./support/time.ts"

const own = 0xan
const other = 0xbn

const became = (role: string, term: number) =>
  EtcdLog.parse(JSON.stringify({ level: "info", ts: 1, msg: `a became ${role} at term ${term}` }))

const named = ({ leader, role, term }: Role.State) =>
  `${role}@${term}${role === "follower" && Option.isSome(leader) ? ` of ${leader.value.toString(16)}` : ""}`

const failure = (reason: EtcdError.Reason) => Effect.fail(EtcdError.make(reason))

type Answer = Effect.Effect<Role.Status, EtcdError.EtcdError>

const says = (leader: bigint, raftTerm: number): Answer =>
  Effect.succeed({ memberId: own, leader, raftTerm: BigInt(raftTerm) })

/** A node that answers as the test says, and all that is shown of its role. */
const makeNode = Effect.fnUntraced(function* (
  options: { readonly interval?: Duration.Input; readonly electionTimeout?: Duration.Input } = {}
) {
  const role = yield* SubscriptionRef.make(Role.initial(yield* DateTime.now))
  const ready = yield* SubscriptionRef.make(false)
  const shown: Array<string> = []
  const subscribed = yield* Latch.make()
  yield* SubscriptionRef.changes(role).pipe(
    Stream.runForEach((state) =>
      Effect.andThen(
        subscribed.open,
        Effect.sync(() => shown.push(named(state)))
      )
    ),
    Effect.forkScoped
  )
  yield* subscribed.await
  shown.length = 0
  let answer: Answer = Effect.never
  let asked = 0
  const watch = WatchRole.make({
    role,
    ready,
    connect: Effect.succeed(
      Effect.suspend(() => {
        asked++
        return answer
      })
    ),
    electionTimeout: Duration.fromInputUnsafe(options.electionTimeout ?? "1 second"),
    interval: options.interval ?? "10 seconds"
  })
  return {
    role,
    watch,
    /** It has been found to serve, by this answer, and is asked from then on. */
    serves: (found: Answer) => Effect.andThen(Effect.flatMap(found, watch.serves), Effect.forkScoped(watch.watch)),
    shown,
    asked: () => asked,
    answers: (next: Answer) => {
      answer = next
    },
    lines: (...lines: ReadonlyArray<readonly [string, number]>) =>
      Effect.forEach(lines, ([role, term]) => watch.take(became(role, term)), { discard: true }),
    now: () => named(SubscriptionRef.getUnsafe(role)),
    ready: () => SubscriptionRef.getUnsafe(ready)
  }
})

/** Lets so much time pass, and what came of it be done. */
const pass = (millis: number) =>
  Effect.gen(function* () {
    for (let passed = 0; passed < millis; passed += 50) {
      yield* TestClock.adjust(Math.min(50, millis - passed))
      // A verdict waits until what has come is read.
      yield* turns(2)
      yield* TestClock.adjust(0)
    }
  })

const leader = Effect.gen(function* () {
  const node = yield* makeNode()
  node.answers(says(own, 2))
  yield* node.lines(["follower", 1], ["candidate", 2], ["leader", 2])
  yield* node.serves(says(own, 2))
  yield* pass(1000)
  assert.strictEqual(node.now(), "leader@2")
  assert.isTrue(node.ready())
  node.shown.length = 0
  return node
})

describe("the role of a node that is asked", () => {
  it.effect(
    "a leader that is silent for an election timeout is a follower that knows no leader and does not serve",
    () =>
      Effect.gen(function* () {
        const node = yield* leader
        const before = node.asked()
        yield* pass(1000)
        assert.strictEqual(node.asked() - before, 4)
        node.answers(Effect.never)
        yield* pass(700)
        assert.strictEqual(node.now(), "leader@2")
        yield* pass(300)
        assert.strictEqual(node.now(), "follower@2")
        assert.isFalse(node.ready())
        yield* pass(5000)
        assert.deepStrictEqual(node.shown, ["follower@2"])
      }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("whether it takes no connection, loses it, or lets each request wait", () =>
    Effect.gen(function* () {
      const details = { message: "no", outcome: "unknown" } as const
      for (const silence of [
        failure(new EtcdError.Unreachable(details)),
        failure(new EtcdError.ConnectionLost(details)),
        failure(new EtcdError.DeadlineExceeded(details)),
        Effect.andThen(Effect.sleep("2 seconds"), failure(new EtcdError.DeadlineExceeded(details)))
      ]) {
        const node = yield* leader
        node.answers(silence)
        yield* pass(1000)
        assert.deepStrictEqual(node.shown, ["follower@2"])
        assert.isFalse(node.ready())
      }
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("a leader that answers late, but within its time, stays the leader", () =>
    Effect.gen(function* () {
      const node = yield* leader
      node.answers(Effect.andThen(Effect.sleep("600 millis"), says(own, 2)))
      yield* pass(600)
      node.answers(says(own, 2))
      yield* pass(5000)
      assert.deepStrictEqual(node.shown, [])
      assert.isTrue(node.ready())
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("a node that was silent and leads still serves at once, and leads when it has said so for as long", () =>
    Effect.gen(function* () {
      const node = yield* leader
      node.answers(Effect.never)
      yield* pass(3000)
      node.answers(says(own, 2))
      yield* pass(1000)
      assert.isTrue(node.ready())
      assert.deepStrictEqual(node.shown, ["follower@2"])
      yield* pass(1500)
      assert.deepStrictEqual(node.shown, ["follower@2", "leader@2"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("a node that was silent and hears of another leader never leads the old term again", () =>
    Effect.gen(function* () {
      const node = yield* leader
      node.answers(Effect.never)
      yield* pass(3000)
      // The question that is out goes unanswered, and the next is put when its time is over.
      node.answers(says(own, 2))
      yield* pass(1000)
      assert.isTrue(node.ready())
      yield* node.lines(["follower", 3])
      node.answers(says(other, 3))
      yield* pass(12_000)
      assert.deepStrictEqual(node.shown, ["follower@2", "follower@3", "follower@3 of b"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("a node that was silent and follows, at a term that it has not told yet, does not lead until it has", () =>
    Effect.gen(function* () {
      const node = yield* makeNode()
      node.answers(says(own, 1))
      yield* node.lines(["follower", 1], ["candidate", 2], ["leader", 2])
      yield* node.serves(says(own, 1))
      yield* pass(1000)
      node.answers(Effect.never)
      yield* pass(3000)
      node.answers(says(other, 1))
      yield* pass(3000)
      yield* node.lines(["follower", 3])
      yield* pass(1000)
      assert.deepStrictEqual(node.shown.slice(-3), ["leader@2", "follower@2", "follower@3"])
      assert.isTrue(node.ready())
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("a follower that is silent knows no leader and does not serve, until it answers", () =>
    Effect.gen(function* () {
      const node = yield* makeNode()
      node.answers(says(other, 2))
      yield* node.lines(["follower", 2])
      yield* node.serves(says(other, 2))
      yield* pass(1000)
      node.answers(Effect.never)
      yield* pass(11_000)
      assert.isFalse(node.ready())
      assert.strictEqual(node.now(), "follower@2")
      node.answers(says(other, 2))
      yield* pass(1000)
      assert.isTrue(node.ready())
      assert.deepStrictEqual(node.shown.slice(-3), ["follower@2 of b", "follower@2", "follower@2 of b"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("a follower that becomes the leader is asked at once, and not when its next turn comes", () =>
    Effect.gen(function* () {
      const node = yield* makeNode()
      node.answers(says(other, 2))
      yield* node.lines(["follower", 2])
      yield* node.serves(says(other, 2))
      yield* pass(1000)
      node.answers(Effect.never)
      yield* node.lines(["candidate", 3], ["leader", 3])
      yield* pass(1000)
      assert.strictEqual(node.now(), "follower@3")
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("the log's word stands where the node refuses to answer this client, from the start or later", () =>
    Effect.gen(function* () {
      const details = { message: "no", outcome: "unknown" } as const
      const refusals = [
        failure(new EtcdError.PermissionDenied(details)),
        failure(new EtcdError.AuthenticationFailed(details)),
        failure(new EtcdError.Unreachable({ ...details, lasting: true }))
      ]
      for (const refusal of refusals) {
        const node = yield* leader
        node.answers(refusal)
        yield* pass(3000)
        assert.deepStrictEqual(node.shown, [])
        assert.isTrue(node.ready())
      }
      for (const never of [...refusals, Effect.never]) {
        const node = yield* makeNode()
        node.answers(never)
        yield* node.lines(["candidate", 2], ["leader", 2])
        yield* node.serves(says(0n, 0))
        yield* pass(3000)
        assert.strictEqual(node.now(), "leader@2")
        assert.isTrue(node.ready())
      }
    }).pipe(byTestClock, Effect.scoped)
  )

  it.live("time in which this process stood still is not the node's silence", () =>
    Effect.gen(function* () {
      const node = yield* makeNode({ electionTimeout: "500 millis" })
      node.answers(Effect.andThen(Effect.sleep("1 millis"), says(own, 2)))
      yield* node.lines(["candidate", 2], ["leader", 2])
      yield* node.serves(says(own, 2))
      for (const _ of [1, 2]) {
        yield* Effect.sleep("20 millis")
        yield* standStill(700)
      }
      yield* Effect.sleep("100 millis")
      assert.strictEqual(node.now(), "leader@2")
      assert.notInclude(node.shown, "follower@2")
      assert.isTrue(node.ready())
    }).pipe(Effect.scoped)
  )
})

describe("the role of a node whose log does not tell it", () => {
  const polled = Effect.gen(function* () {
    const node = yield* makeNode({ interval: "250 millis" })
    node.answers(says(other, 3))
    yield* node.serves(says(other, 3))
    yield* pass(500)
    assert.deepStrictEqual(node.shown, ["follower@3 of b"])
    return node
  })

  it.effect("leads the term that it has applied an entry of, and not the one before", () =>
    Effect.gen(function* () {
      const node = yield* polled
      node.answers(says(0n, 3))
      yield* pass(250)
      node.answers(says(own, 3))
      yield* pass(500)
      node.answers(says(own, 4))
      yield* pass(1000)
      assert.deepStrictEqual(node.shown, ["follower@3 of b", "follower@3", "leader@4"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("leads the last of the terms that go by in between", () =>
    Effect.gen(function* () {
      const node = yield* polled
      node.answers(says(own, 4))
      yield* pass(250)
      node.answers(says(own, 6))
      yield* pass(1000)
      assert.deepStrictEqual(node.shown, ["follower@3 of b", "leader@6"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("loses the leadership with the first answer that says so, and has another at another term", () =>
    Effect.gen(function* () {
      const node = yield* polled
      node.answers(says(own, 4))
      yield* pass(1000)
      node.answers(says(0n, 4))
      yield* pass(250)
      node.answers(says(own, 4))
      yield* pass(250)
      node.answers(says(own, 6))
      yield* pass(1000)
      assert.deepStrictEqual(node.shown.slice(1), ["leader@4", "follower@4", "leader@6"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("leads at last also where it was wrongly known not to", () =>
    Effect.gen(function* () {
      const node = yield* polled
      node.answers(says(own, 3))
      yield* pass(2500)
      assert.deepStrictEqual(node.shown, ["follower@3 of b", "leader@3"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("runs before it is known to lead, and leads when it has answered for a while", () =>
    Effect.gen(function* () {
      const node = yield* makeNode({ interval: "250 millis" })
      node.answers(says(own, 2))
      yield* node.serves(says(own, 2))
      assert.strictEqual(node.now(), "follower@2")
      yield* pass(500)
      assert.deepStrictEqual(node.shown, ["follower@2", "leader@2"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("is a follower when it refuses to say more", () =>
    Effect.gen(function* () {
      const node = yield* polled
      node.answers(says(own, 4))
      yield* pass(1000)
      node.answers(failure(new EtcdError.PermissionDenied({ message: "no", outcome: "unknown" })))
      yield* pass(700)
      assert.strictEqual(node.now(), "leader@4")
      yield* pass(300)
      assert.strictEqual(node.now(), "follower@4")
      yield* pass(2000)
      assert.isTrue(node.ready(), "it answers, if only that it says nothing")
      node.answers(says(own, 4))
      yield* pass(12_000)
      assert.deepStrictEqual(node.shown.slice(1), ["leader@4", "follower@4", "leader@4"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("is silent where it stops answering while it refuses, and serves when it refuses again", () =>
    Effect.gen(function* () {
      const node = yield* polled
      const refuses = failure(new EtcdError.PermissionDenied({ message: "no", outcome: "unknown" }))
      node.answers(says(own, 4))
      yield* pass(1000)
      node.answers(refuses)
      yield* pass(300)
      node.answers(Effect.never)
      yield* pass(2000)
      assert.strictEqual(node.now(), "follower@4")
      assert.isFalse(node.ready())
      node.answers(refuses)
      yield* pass(2000)
      assert.strictEqual(node.now(), "follower@4")
      assert.isTrue(node.ready())
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("is a follower when it is silent, and leads again when it has answered for as long", () =>
    Effect.gen(function* () {
      const node = yield* polled
      node.answers(says(own, 4))
      yield* pass(1000)
      node.answers(Effect.never)
      yield* pass(1000)
      assert.strictEqual(node.now(), "follower@4")
      node.answers(says(own, 4))
      yield* pass(2500)
      assert.deepStrictEqual(node.shown.slice(1), ["leader@4", "follower@4", "leader@4"])
    }).pipe(byTestClock, Effect.scoped)
  )
})

describe("the role of a run", () => {
  it.effect("an answer is dropped where a line came after the question", () =>
    Effect.gen(function* () {
      const node = yield* leader
      const answer = yield* Latch.make()
      node.answers(Effect.andThen(answer.await, says(own, 2)))
      yield* pass(300)
      yield* node.lines(["follower", 2])
      yield* answer.open
      yield* pass(100)
      assert.deepStrictEqual(node.shown, ["follower@2"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("loses no line to another one that is taken at the same time", () =>
    Effect.gen(function* () {
      const node = yield* makeNode()
      const go = yield* Latch.make()
      // Whoever changes the role now has to wait.
      yield* Effect.forkChild(
        SubscriptionRef.updateEffect(node.role, (state) => Effect.as(go.await, state)),
        { startImmediately: true }
      )
      const lines = [became("candidate", 2), became("leader", 2), became("follower", 2)]
      for (const line of lines) yield* Effect.forkChild(node.watch.take(line), { startImmediately: true })
      yield* go.open
      yield* pass(50)
      assert.deepStrictEqual(node.shown.slice(-3), ["candidate@2", "leader@2", "follower@2"])
    }).pipe(byTestClock, Effect.scoped)
  )

  it.effect("changes nothing after its end, and does not serve from when that begins", () =>
    Effect.gen(function* () {
      const node = yield* leader
      yield* node.watch.leaves
      yield* pass(1000)
      assert.isFalse(node.ready())
      yield* node.lines(["follower", 3])
      yield* node.watch.ended
      yield* node.lines(["candidate", 4], ["leader", 4])
      node.answers(says(own, 4))
      yield* pass(1000)
      assert.deepStrictEqual(node.shown, ["follower@3", "stopped@3"])
      assert.isFalse(node.ready())
    }).pipe(byTestClock, Effect.scoped)
  )
})
