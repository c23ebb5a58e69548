/**
 * Calls that are out for long: what the members say decides what becomes of them, and no clock does. Most of a test is
 * turns of the event loop, so that they run side by side.
 */
import type { ServerOptions } from "node:http2"
import { create, toBinary } from "@bufbuild/protobuf"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EtcdClient from "../src/EtcdClient.ts"
import { makeWith } from "../src/internal/client/client.ts"
import type { TransportError } from "../src/internal/grpc/Transport.ts"
import {
  AuthenticateResponseSchema,
  KV,
  Maintenance,
  PutResponseSchema,
  StatusResponseSchema,
  Watch
} from "../src/internal/proto/rpc_pb.ts"
import * as Time from "../src/internal/time.ts"
import * as Fake from "./support/client/fakeTransport.ts"
import { reasonOf, start } from "./support/effects.ts"
import * as Frames from "./support/http2/frames.ts"
import * as Http2 from "./support/http2/nodeServer.ts"
import { standStill } from "./support/machine.ts"
import { makeRandom } from "./support/random.ts"
import { byTestClock } from "./support/time.ts"

const key = new Uint8Array([1])

const put = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.put, { key }, options)
const get = (client: EtcdClient.Client, options?: EtcdClient.CallOptions) =>
  client.unary(KV.method.range, { key }, options)

/** Lets so much of the client's time pass, a little at a time, with the turns of the event loop that it takes. */
const pass = (millis: number) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(millis / 25) }),
    () => Effect.andThen(TestClock.adjust("25 millis"), TestClock.withLive(Effect.sleep("1 millis"))),
    { discard: true }
  )

/** Members without a network, who say what a test tells them to, and hold what it tells them to hold. */
const members = () => {
  const make = (memberId: bigint) => {
    const member = {
      memberId,
      leader: 1n,
      term: 5n,
      /** Whether it answers calls, and questions. */
      holds: false,
      isSilent: false,
      /** What it answers to calls instead. */
      refuses: undefined as TransportError | undefined,
      asked: 0,
      /** How long it works on a call, and whether it says anything meanwhile. */
      worksFor: 0,
      isSingleMinded: false,
      working: 0,
      clusterId: 1n,
      /** What comes from it besides its answers, and whether it takes another call. */
      bytes: 0,
      hasRoom: true
    }
    // A put is answered with no more than a header, and so is a range without keys.
    const answer = () =>
      toBinary(
        PutResponseSchema,
        create(PutResponseSchema, { header: { clusterId: 1n, memberId, revision: 1n, raftTerm: member.term } })
      )
    const server: Fake.Server = {
      answer: () =>
        Effect.suspend(() => {
          if (member.refuses !== undefined) return Effect.fail(member.refuses)
          if (member.holds) return Effect.never
          if (member.worksFor === 0) return Effect.succeed(answer())
          member.working++
          return Effect.sync(answer).pipe(
            Effect.delay(member.worksFor),
            Effect.ensuring(Effect.sync(() => member.working--))
          )
        }),
      bytes: () => member.bytes,
      hasRoom: () => member.hasRoom,
      status: () =>
        Effect.suspend(() => {
          member.asked++
          if (member.isSilent || (member.isSingleMinded && member.working > 0)) return Effect.never
          const { clusterId, leader, memberId, term } = member
          return Effect.succeed({ clusterId, memberId, leader, term })
        })
    }
    return { member, server }
  }
  const [a, b, c] = [make(1n), make(2n), make(3n)]
  const servers = { "a:1": a.server, "b:1": b.server, "c:1": c.server }
  const all = { "a:1": a.member, "b:1": b.member, "c:1": c.member }
  return { fake: Fake.make(servers), all, servers }
}

type Address = "a:1" | "b:1" | "c:1"

/** A client that uses one of them, and the others. */
const connected = (options: Partial<EtcdClient.Options> = {}) =>
  Effect.gen(function* () {
    const { all, fake } = members()
    const endpoints = ["a:1", "b:1", "c:1"]
    const client = yield* byTestClock(makeWith(fake.transport, { endpoints, selection: "sticky", ...options }))
    yield* put(client)
    const used = fake.sent.at(-1)!.address as Address
    const others = (["a:1", "b:1", "c:1"] as const).filter((address) => address !== used)
    return { client, fake, all, mine: all[used], used, others: others.map((address) => all[address]) }
  })

const elect = (members: ReadonlyArray<{ leader: bigint; term: bigint }>, leader: bigint, term: bigint) => {
  for (const member of members) Object.assign(member, { leader, term })
}

describe("a call that is out for long", { concurrent: true }, () => {
  it.effect("goes on as long as the members say the same", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      mine.holds = true
      const call = yield* start(put(client))
      yield* pass(5000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      assert.isAbove(mine.asked, 1)
      assert.isAbove(others[0]!.asked, 1)
      yield* Fiber.interrupt(call)
    })
  )

  it.effect("ends, with an unknown outcome, when there is a newer leader", () =>
    Effect.gen(function* () {
      const { client, fake, mine, others } = yield* connected()
      mine.holds = true
      const call = yield* start(reasonOf(put(client)))
      yield* pass(1000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      elect([mine, ...others], 3n, 6n)
      yield* pass(300)
      const reason = yield* Fiber.join(call)
      assert.strictEqual(reason._tag, "LeaderChanged")
      assert.strictEqual(reason.outcome, "unknown")
      assert.match(reason.message, /term 6/)
      assert.strictEqual(fake.sent.length, 2, "it was not sent again")
    })
  )

  it.effect("is sent elsewhere instead if it only reads", () =>
    Effect.gen(function* () {
      const { client, fake, mine, others, used } = yield* connected()
      mine.holds = true
      const call = yield* start(get(client))
      yield* pass(1000)
      elect([mine, ...others], 3n, 6n)
      yield* pass(300)
      yield* Fiber.join(call)
      assert.notStrictEqual(fake.sent.at(-1)!.address, used)
      yield* get(client)
      assert.notStrictEqual(fake.sent.at(-1)!.address, used, "the member is left")
    })
  )

  it.effect("ends when its member has lost the leader", () =>
    Effect.gen(function* () {
      const { client, mine } = yield* connected()
      mine.holds = true
      const call = yield* start(reasonOf(put(client)))
      yield* pass(500)
      mine.leader = 0n
      yield* pass(300)
      assert.strictEqual((yield* Fiber.join(call))._tag, "LeaderChanged")
    })
  )

  it.effect("ends when its member led, says nothing, and the others have lost it", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      elect([mine, ...others], mine.memberId, 6n)
      yield* put(client)
      Object.assign(mine, { holds: true, isSilent: true })
      // Before that call it was not known who leads in the new term.
      const first = yield* start(reasonOf(put(client)))
      mine.isSilent = false
      yield* pass(1000)
      assert.strictEqual(first.pollUnsafe(), undefined)
      mine.isSilent = true
      elect(others, 0n, 6n)
      yield* pass(1500)
      assert.strictEqual((yield* Fiber.join(first))._tag, "LeaderChanged")
    })
  )

  it.effect("is left alone when some other member alone has lost the leader, or stands for election", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      mine.holds = true
      const call = yield* start(put(client))
      elect([others[0]!], 0n, 5n)
      yield* pass(1000)
      elect([others[0]!], 0n, 9n)
      yield* pass(1000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      yield* Fiber.interrupt(call)
    })
  )

  it.effect("waits, while what only reads goes elsewhere, when its member alone is silent", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      Object.assign(mine, { holds: true, isSilent: true })
      const write = yield* start(put(client))
      const read = yield* start(get(client))
      yield* pass(1500)
      assert.strictEqual(write.pollUnsafe(), undefined)
      yield* Fiber.join(read)
      assert.notStrictEqual(fake.sent.at(-1)!.address, used)
      yield* put(client)
      assert.notStrictEqual(fake.sent.at(-1)!.address, used, "the member is left")
      yield* Fiber.interrupt(write)
    })
  )

  it.effect("waits when all members are silent: the network of the client may be down", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      for (const member of [mine, ...others]) Object.assign(member, { holds: true, isSilent: true })
      const calls = [yield* start(put(client)), yield* start(get(client))]
      yield* pass(3000)
      for (const call of calls) assert.strictEqual(call.pollUnsafe(), undefined)
      yield* Effect.forEach(calls, (call) => Fiber.interrupt(call as Fiber.Fiber<unknown, unknown>))
    })
  )

  it.effect("does not end for an election that was long before it", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      elect([mine, ...others], 3n, 6n)
      yield* pass(10_000)
      // What was known of the member is old.
      mine.holds = true
      const call = yield* start(put(client))
      yield* pass(3000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      elect([mine, ...others], 2n, 7n)
      yield* pass(500)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(call)))
    })
  )

  it.effect("ends for an election right after it, also where its member has answered no call for long", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      mine.holds = true
      const first = yield* start(put(client))
      yield* pass(3000)
      // It has told how things were before that call, and is not asked again before the election.
      yield* TestClock.adjust("1 millis")
      const second = yield* start(reasonOf(put(client)))
      elect([mine, ...others], 3n, 6n)
      yield* pass(1000)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(first)))
      assert.isDefined(second.pollUnsafe(), "it has ended")
      assert.strictEqual((yield* Fiber.join(second))._tag, "LeaderChanged")
    })
  )

  it.effect("costs nobody anything while calls are answered in time", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      const before = mine.asked
      yield* Effect.forEach(Array.from({ length: 100 }), () => Effect.andThen(put(client), pass(25)))
      assert.strictEqual(mine.asked, before)
      for (const other of others) assert.strictEqual(other.asked, 0)
    })
  )

  it.effect("is left alone where members do not tell who leads", () =>
    Effect.gen(function* () {
      let holds = false
      const server: Fake.Server = {
        answer: () => Effect.suspend(() => (holds ? Effect.never : Effect.succeed(new Uint8Array(0))))
      }
      const fake = Fake.make({ "a:1": server, "b:1": server })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1", "b:1"] }))
      yield* put(client)
      holds = true
      const call = yield* start(put(client))
      yield* pass(3000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      yield* Fiber.interrupt(call)
    })
  )

  it.effect("ends after half a minute where nobody has set a deadline, unless it takes long by nature", () =>
    Effect.gen(function* () {
      const { client, fake, mine } = yield* connected({ endpoints: ["a:1"] })
      mine.holds = true
      const call = yield* start(reasonOf(put(client)))
      const patient = [
        yield* start(put(client, { deadline: "Infinity" })),
        yield* start(client.unary(Maintenance.method.defragment, {})),
        yield* start(client.unary(KV.method.compact, { revision: 1n, physical: true }))
      ]
      yield* pass(29_500)
      assert.strictEqual(call.pollUnsafe(), undefined)
      yield* pass(1000)
      const reason = yield* Fiber.join(call)
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.strictEqual(reason.outcome, "unknown")
      assert.match(reason.message, /30000 ms, the limit where no deadline is set/)
      yield* pass(30_000)
      for (const fiber of patient) assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* Effect.forEach(patient, (fiber) => Fiber.interrupt(fiber as Fiber.Fiber<unknown, unknown>))
      assert.strictEqual(fake.sent[1]?.options.timeoutMillis, undefined, "the server is not told of it")
    })
  )

  it.effect("ends soon after that where this process stands still again and again, too", () =>
    Effect.gen(function* () {
      const clock = Time.fromClock(yield* TestClock.testClockWith(Effect.succeed))
      let stood = 0
      const time: Time.Time = { ...clock, now: () => clock.now() + stood }
      const { fake, all } = members()
      const client = yield* Effect.provideService(makeWith(fake.transport, { endpoints: ["a:1"] }), Time.Time, time)
      yield* put(client)
      all["a:1"].holds = true
      for (const millis of [300, 5000]) {
        const call = yield* start(reasonOf(put(client)))
        const standStill = Effect.suspend(() => {
          stood += millis
          return pass(25)
        })
        for (let passed = 0; passed < 50_000; passed += millis) yield* standStill
        assert.isDefined(call.pollUnsafe(), "it is over")
        assert.strictEqual((yield* Fiber.join(call))._tag, "DeadlineExceeded")
      }
    })
  )
})

/** Lets time pass until the call is over. */
const passUntilOver = <A, E>(call: Fiber.Fiber<A, E>, most: number) =>
  Effect.gen(function* () {
    for (let passed = 0; passed < most && call.pollUnsafe() === undefined; passed += 250) yield* pass(250)
    const exit = call.pollUnsafe()
    assert.isDefined(exit, "it is over")
    return exit!
  })

describe("what takes its time to read", { concurrent: true }, () => {
  it.effect("is answered in the end where each member says nothing while it works on it", () =>
    Effect.gen(function* () {
      for (const selection of ["leader", "sticky", "spread"] as const) {
        for (const endpoints of [
          ["a:1", "b:1"],
          ["a:1", "b:1", "c:1"]
        ]) {
          const { client, all } = yield* connected({ selection, endpoints })
          for (const member of Object.values(all)) Object.assign(member, { worksFor: 5000, isSingleMinded: true })
          // It is not the schedule that lets it go on.
          const call = yield* start(get(client, { retry: Schedule.recurs(0) }))
          const exit = yield* passUntilOver(call, 25_000)
          assert.isTrue(Exit.isSuccess(exit), `${selection}, ${endpoints.length} endpoints`)
        }
      }
    })
  )

  it.effect("stays where it is while bytes come from there, of its answer or of anything else", () =>
    Effect.gen(function* () {
      const { client, fake, mine } = yield* connected()
      Object.assign(mine, { worksFor: 3000, isSingleMinded: true })
      const before = fake.sent.length
      const call = yield* start(get(client))
      while (call.pollUnsafe() === undefined) {
        mine.bytes++
        yield* pass(250)
      }
      yield* Fiber.join(call)
      assert.strictEqual(fake.sent.length, before + 1, "it was sent once")
      assert.isAbove(mine.asked, 1)
    })
  )

  it.effect("stays at the only endpoint that it may ask", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      Object.assign(mine, { worksFor: 3000, isSingleMinded: true })
      const before = fake.sent.length
      const call = yield* start(get(client, { endpoint: used }))
      assert.isTrue(Exit.isSuccess(yield* passUntilOver(call, 10_000)))
      assert.strictEqual(fake.sent.length, before + 1, "it was sent once")
    })
  )

  it.effect("stays where there is no room for the question who leads", () =>
    Effect.gen(function* () {
      const { client, fake, mine } = yield* connected()
      mine.worksFor = 3000
      const before = fake.sent.length
      const call = yield* start(get(client))
      mine.hasRoom = false
      assert.isTrue(Exit.isSuccess(yield* passUntilOver(call, 10_000)))
      assert.strictEqual(fake.sent.length, before + 1, "it was sent once")
    })
  )

  it.effect("goes on soon where a member has fallen silent while nobody asked it", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      yield* pass(5000)
      Object.assign(mine, { holds: true, isSilent: true })
      const call = yield* start(get(client))
      assert.isTrue(Exit.isSuccess(yield* passUntilOver(call, 1000)))
      assert.notStrictEqual(fake.sent.at(-1)!.address, used)
    })
  )

  it.effect("goes on where a member falls silent after it has answered others", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      Object.assign(mine, { holds: true, isSilent: true })
      const call = yield* start(get(client))
      yield* pass(500)
      // Something that was on its way, and then nothing more.
      mine.bytes++
      yield* pass(1500)
      assert.isTrue(Exit.isSuccess(yield* passUntilOver(call, 250)))
      assert.notStrictEqual(fake.sent.at(-1)!.address, used)
    })
  )
})

describe("who is believed", { concurrent: true }, () => {
  it.effect("is not who alone has lost a leader that is silent", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      elect([mine, ...others], mine.memberId, 6n)
      yield* put(client)
      mine.holds = true
      const call = yield* start(put(client))
      yield* pass(1000)
      mine.isSilent = true
      elect([others[0]!], 0n, 6n)
      yield* pass(3000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      elect(others, 0n, 6n)
      yield* pass(500)
      assert.strictEqual((yield* reasonOf(Fiber.join(call)))._tag, "LeaderChanged")
    })
  )

  it.effect("is not who belongs to another cluster, however new its leader", () =>
    Effect.gen(function* () {
      for (const clusterId of [7n, 0n]) {
        const { client, mine, others } = yield* connected()
        mine.holds = true
        const call = yield* start(put(client))
        yield* pass(500)
        Object.assign(others[0]!, { clusterId, leader: 3n, term: 99n })
        yield* pass(2000)
        assert.strictEqual(call.pollUnsafe(), undefined)
        yield* Fiber.interrupt(call)
      }
    })
  )

  it.effect("is first of all the member that has the call", () =>
    Effect.gen(function* () {
      const { client, mine, others } = yield* connected()
      mine.holds = true
      const call = yield* start(put(client))
      yield* pass(500)
      // They have not applied anything of another term, or have heard of nothing.
      elect(others, 3n, 5n)
      yield* pass(1000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      elect([mine], 3n, 5n)
      yield* pass(300)
      assert.strictEqual((yield* reasonOf(Fiber.join(call)))._tag, "LeaderChanged")
    })
  )
})

describe("a deadline", { concurrent: true }, () => {
  it.effect("is told as the call's, whatever was left of it for the last try", () =>
    Effect.gen(function* () {
      let tries = 0
      const answer = () =>
        Effect.suspend(() =>
          ++tries < 3
            ? Effect.fail(Fake.status(14, "etcdserver: no leader"))
            : Effect.fail(Fake.failure("Deadline", "unknown", "in 3 ms", 4))
        )
      const fake = Fake.make({ "a:1": { answer } })
      const client = yield* makeWith(fake.transport, { endpoints: ["a:1"], retry: Schedule.spaced("1 milli") })
      const reason = yield* reasonOf(put(client, { deadline: "2 seconds" }))
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.match(reason.message, /deadline of 2000 ms \(in 3 tries\)/)
    })
  )

  it.effect("of an impatient caller does not make the client leave a member that is well", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      const impatient = (millis: number) =>
        Effect.gen(function* () {
          mine.holds = true
          const call = yield* start(Effect.exit(put(client, { deadline: millis })))
          yield* pass(millis)
          mine.holds = false
          return call
        })
      const calls = [yield* impatient(25), yield* impatient(200)]
      yield* put(client)
      assert.strictEqual(fake.sent.at(-1)!.address, used)
      for (const call of calls) yield* Fiber.interrupt(call)
    })
  )

  it.effect("makes the client leave a member whose last bytes came after it was asked", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      Object.assign(mine, { holds: true, isSilent: true })
      const call = yield* start(Effect.exit(put(client, { deadline: "500 millis" })))
      yield* pass(50)
      // Something that says only that the request has come, and then nothing more.
      mine.bytes++
      yield* pass(450)
      const next = yield* start(put(client))
      assert.notStrictEqual(fake.sent.at(-1)!.address, used)
      yield* Fiber.join(next)
      yield* Fiber.interrupt(call)
    })
  )
})

describe("a load balancer", { concurrent: true }, () => {
  it.effect("may ask another member than the one that has the call: what that one lacks says nothing", () =>
    Effect.gen(function* () {
      const { client, mine } = yield* connected({ endpoints: ["a:1"] })
      mine.holds = true
      const call = yield* start(put(client))
      yield* pass(500)
      for (const word of [
        { memberId: 2n, leader: 0n },
        { memberId: 2n, leader: 3n },
        { memberId: 2n, leader: 3n, term: 4n }
      ]) {
        Object.assign(mine, word)
        yield* pass(1000)
        assert.strictEqual(call.pollUnsafe(), undefined)
      }
      Object.assign(mine, { term: 6n })
      yield* pass(500)
      assert.strictEqual((yield* reasonOf(Fiber.join(call)))._tag, "LeaderChanged")
    })
  )
})

describe("many calls that are out for long", { concurrent: true }, () => {
  it.effect("make the client ask as often as one does", () =>
    Effect.gen(function* () {
      const askedBy = (count: number) =>
        Effect.gen(function* () {
          const { client, mine, others } = yield* connected()
          mine.holds = true
          const calls = yield* Effect.forEach(Array.from({ length: count }), () => start(Effect.exit(put(client))))
          yield* pass(2000)
          elect([mine, ...others], 3n, 6n)
          yield* pass(500)
          for (const call of calls) assert.isTrue(Exit.isFailure(yield* Fiber.join(call)))
          return mine.asked
        })
      assert.isAtMost(yield* askedBy(5000), 2 * (yield* askedBy(1)))
    })
  )

  it.effect("can be given up at any time, and leave the others and the client as they were", () =>
    Effect.gen(function* () {
      const { client, fake, mine, others } = yield* connected()
      const random = makeRandom(1)
      for (let round = 0; round < 20; round++) {
        mine.holds = true
        const calls = yield* Effect.forEach(Array.from({ length: 20 }), (_, index) =>
          start(index % 2 === 0 ? Effect.exit(Effect.asVoid(put(client))) : Effect.exit(Effect.asVoid(get(client))))
        )
        for (const call of calls) {
          if (random(2) === 0) continue
          yield* pass(25 * random(20))
          yield* Fiber.interrupt(call)
        }
        elect([mine, ...others], BigInt(1 + (round % 3)), BigInt(6 + round))
        yield* pass(500)
        mine.holds = false
        for (const call of calls) yield* Fiber.await(call)
        const before = fake.sent.length
        yield* put(client)
        assert.strictEqual(fake.sent.length, before + 1)
      }
    })
  )
})

describe("impatient callers", { concurrent: true }, () => {
  /** A call that its caller gives up, with a deadline or without. */
  const impatient = (client: EtcdClient.Client, mine: { holds: boolean }, millis: number) =>
    Effect.gen(function* () {
      mine.holds = true
      const failed = yield* start(Effect.exit(put(client, { deadline: millis, retry: Schedule.recurs(0) })))
      yield* pass(millis)
      mine.holds = false
      return yield* Fiber.join(failed)
    })

  it.effect("one after the other, and now and then, do not make the client leave a member that is well", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      for (let time = 0; time < 3; time++) {
        yield* impatient(client, mine, 50)
        yield* pass(1000)
      }
      yield* impatient(client, mine, 50)
      yield* put(client)
      assert.strictEqual(fake.sent.at(-1)!.address, used)
    })
  )

  it.effect("one after the other, without a pause, make it leave one that says nothing", () =>
    Effect.gen(function* () {
      const { client, fake, mine, used } = yield* connected()
      for (let time = 0; time < 5; time++) yield* impatient(client, mine, 100)
      yield* put(client)
      assert.notStrictEqual(fake.sent.at(-1)!.address, used)
    })
  )
})

describe("a member that was slow to greet", { concurrent: true }, () => {
  it.effect("is asked as soon as any other when a call is out for long", () =>
    Effect.gen(function* () {
      const { fake, all, servers } = members()
      // This process was busy, say.
      for (const server of Object.values(servers)) {
        const { status } = server
        let isFirst = true
        server.status = (question) =>
          Effect.suspend(() => {
            const asked = isFirst ? Effect.delay(status!(question), "3 seconds") : status!(question)
            isFirst = false
            return asked
          })
      }
      const client = yield* byTestClock(
        makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"], selection: "sticky" })
      )
      const first = yield* start(put(client))
      yield* passUntilOver(first, 20_000)
      const mine = all[fake.sent.at(-1)!.address as Address]
      mine.holds = true
      const call = yield* start(reasonOf(put(client)))
      yield* pass(1000)
      elect(Object.values(all), 3n, 6n)
      yield* passUntilOver(call, 1000)
      assert.strictEqual((yield* Fiber.join(call))._tag, "LeaderChanged")
    })
  )
})

describe("a member that is far away", { concurrent: true }, () => {
  it.effect("has the time that the way takes, also where it tells who leads only to those whom it knows", () =>
    Effect.gen(function* () {
      const { fake, servers } = members()
      let isFirstOver = false
      for (const [address, server] of Object.entries(servers)) {
        const { answer, status } = server
        const way = address === "a:1" ? 600 : 1
        server.dial = () => (address === "a:1" || isFirstOver ? Effect.void : Effect.fail(refused))
        server.answer = (call) =>
          Effect.delay(call.path.endsWith("Authenticate") ? Effect.succeed(token) : answer(call), 2 * way)
        server.status = (question) =>
          Effect.delay(question.metadata?.token === undefined ? Effect.fail(unnamed) : status!(question), way)
      }
      const credentials = { username: "root", password: Redacted.make("hunter2") }
      const client = yield* byTestClock(
        makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"], selection: "leader", credentials })
      )
      yield* passUntilOver(yield* start(put(client)), 20_000)
      isFirstOver = true
      yield* pass(5000)
      const before = fake.sent.length
      yield* passUntilOver(yield* start(get(client)), 10_000)
      assert.deepStrictEqual(
        fake.sent.slice(before).map(({ address }) => address),
        ["a:1"]
      )
    })
  )

  const refused = Fake.failure("Unreachable", "no")
  const unnamed = Fake.status(3, "etcdserver: user name is empty")
  const token = toBinary(AuthenticateResponseSchema, create(AuthenticateResponseSchema, { token: "t" }))
})

describe("a member that falls silent", { concurrent: true }, () => {
  it.effect("is left by its streams too, also where all calls that it had have gone elsewhere", () =>
    Effect.gen(function* () {
      const { client, mine, used } = yield* connected()
      const watch = yield* client.bidirectional(Watch.method.watch)
      assert.strictEqual(watch.endpoint, `http://${used}`)
      const draining = yield* start(watch.draining)
      Object.assign(mine, { holds: true, isSilent: true })
      const read = yield* start(get(client))
      assert.isTrue(Exit.isSuccess(yield* passUntilOver(read, 1000)))
      assert.isTrue(Exit.isSuccess(yield* passUntilOver(draining, 100)))
    })
  )

  it.effect("is not left for somebody who tells nobody who leads, and may be no etcd", () =>
    Effect.gen(function* () {
      const { all, fake, servers } = members()
      const foreign = Fake.failure("Http", "unknown", "404", 12)
      const refused = Fake.failure("Unreachable", "no")
      let isUsed = false
      for (const address of ["b:1", "c:1"] as const) {
        Object.assign(servers[address], {
          dial: () => (isUsed ? Effect.void : Effect.fail(refused)),
          answer: () => Effect.fail(foreign),
          status: () => Effect.fail(foreign)
        })
      }
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"] }))
      yield* put(client)
      isUsed = true
      Object.assign(all["a:1"], { holds: true, isSilent: true })
      const call = yield* start(Effect.exit(get(client)))
      yield* pass(3000)
      assert.strictEqual(call.pollUnsafe(), undefined)
      yield* Fiber.interrupt(call)
    })
  )

  for (const when of ["before there is a token", "after the token has expired"]) {
    it.effect(`${when} is left, where others answer, and tell nothing to somebody without one`, () =>
      Effect.gen(function* () {
        const { all, fake, servers } = members()
        let token = 0
        const isKnown = (shown: string | undefined) => shown === String(token)
        for (const server of Object.values(servers)) {
          const { answer, status } = server
          server.answer = (call) =>
            Effect.flatMap(answer(call), (answered) => {
              if (call.path.endsWith("Authenticate")) return Effect.sync(() => tokenBytes(String(++token)))
              return isKnown(call.options.metadata?.token) ? Effect.succeed(answered) : Effect.fail(unknown)
            })
          server.status = (question) =>
            Effect.flatMap(status!(question), (told) => {
              const shown = question.metadata?.token
              if (isKnown(shown)) return Effect.succeed(told)
              return Effect.fail(shown === undefined ? unnamed : unknown)
            })
        }
        const credentials = { username: "root", password: Redacted.make("hunter2") }
        const client = yield* byTestClock(
          makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"], selection: "sticky", credentials })
        )
        if (when.startsWith("after")) yield* put(client)
        else {
          // The connection is there, and the one who would authenticate is gone.
          for (const member of Object.values(all)) member.refuses = Fake.status(9, "etcdserver: nobody can tell")
          yield* Effect.exit(put(client))
          for (const member of Object.values(all)) member.refuses = undefined
        }
        const mine = all[fake.sent.at(-1)!.address as Address]
        token++
        yield* pass(5000)
        Object.assign(mine, { holds: true, isSilent: true })
        assert.isTrue(Exit.isSuccess(yield* passUntilOver(yield* start(get(client)), 5000)))
      })
    )
  }

  const unnamed = Fake.status(3, "etcdserver: user name is empty")
  const unknown = Fake.status(16, "etcdserver: invalid auth token")
  const tokenBytes = (token: string) =>
    toBinary(AuthenticateResponseSchema, create(AuthenticateResponseSchema, { token }))
})

describe("a member that takes no connection", { concurrent: true }, () => {
  const withoutLeader = Fake.status(14, "etcdserver: no leader")

  it.effect("is not waited for by a call that the others, asked again, would answer", () =>
    Effect.gen(function* () {
      const { all, servers } = members()
      const hanging = Fake.make({ ...servers, "c:1": { ...servers["c:1"], dial: () => Effect.never } })
      const endpoints = ["a:1", "b:1", "c:1"]
      for (const selection of ["leader", "sticky", "spread"] as const) {
        all["a:1"].refuses = all["b:1"].refuses = withoutLeader
        const client = yield* byTestClock(makeWith(hanging.transport, { endpoints, selection }))
        const call = yield* start(put(client))
        yield* pass(600)
        assert.strictEqual(call.pollUnsafe(), undefined)
        all["a:1"].refuses = all["b:1"].refuses = undefined
        yield* pass(500)
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(call)))
        // Neither do the calls that come after it.
        for (let next = 0; next < 6; next++) {
          const call = yield* start(put(client))
          yield* pass(125)
          assert.isDefined(call.pollUnsafe())
        }
      }
    })
  )
})

describe("a leader", { concurrent: true }, () => {
  it.effect("that does not know of its successor is left as soon as another member tells of it", () =>
    Effect.gen(function* () {
      const { all, client, fake } = yield* connected({ selection: "leader" })
      yield* pass(500)
      yield* put(client)
      assert.strictEqual(fake.sent.at(-1)!.address, "a:1")
      all["a:1"].holds = true
      const call = yield* start(reasonOf(put(client)))
      elect([all["b:1"], all["c:1"]], 3n, 6n)
      const before = all["b:1"].asked
      while (all["b:1"].asked === before) yield* pass(25)
      assert.strictEqual(call.pollUnsafe(), undefined)
      const next = yield* start(put(client))
      assert.notStrictEqual(fake.sent.at(-1)!.address, "a:1")
      yield* Fiber.join(next)
      yield* pass(500)
      assert.strictEqual((yield* Fiber.join(call))._tag, "LeaderChanged")
    })
  )

  for (const [how, dial] of [
    ["takes no connection", () => Effect.never],
    ["refuses connections", () => Effect.fail(Fake.failure("Unreachable", "no", "connect ECONNREFUSED"))]
  ] as const) {
    it.effect(`that ${how} from here is not waited for again and again`, () =>
      Effect.gen(function* () {
        const { all, servers } = members()
        elect(Object.values(all), 3n, 5n)
        const fake = Fake.make({ ...servers, "c:1": { ...servers["c:1"], dial } })
        const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"] }))
        yield* passUntilOver(yield* start(put(client)), 2000)
        for (let call = 0; call < 200; call++) {
          const fiber = yield* start(put(client))
          yield* TestClock.withLive(Effect.sleep("1 millis"))
          assert.isDefined(fiber.pollUnsafe(), `call ${call} is answered at once`)
          yield* pass(150)
        }
      })
    )
  }

  it.effect("whose connection was lost while nobody used it is gone back to", () =>
    Effect.gen(function* () {
      const { all, servers } = members()
      elect(Object.values(all), 3n, 5n)
      let isUp = true
      const dial = () =>
        Effect.suspend(() =>
          isUp ? Effect.void : Effect.fail(Fake.failure("Unreachable", "no", "connect ECONNREFUSED"))
        )
      const fake = Fake.make({ ...servers, "c:1": { ...servers["c:1"], dial } })
      const client = yield* byTestClock(makeWith(fake.transport, { endpoints: ["a:1", "b:1", "c:1"] }))
      yield* passUntilOver(yield* start(put(client)), 2000)
      yield* pass(1000)
      const used = () => fake.sent.at(-1)!.address
      yield* put(client)
      assert.strictEqual(used(), "c:1")
      isUp = false
      fake.drop("c:1")
      yield* pass(100)
      yield* put(client)
      assert.notStrictEqual(used(), "c:1")
      isUp = true
      yield* pass(5000)
      yield* put(client)
      assert.strictEqual(used(), "c:1")
    })
  )
})

describe("a server that answers HTTP/2, and the greeting,", { concurrent: true }, () => {
  const greeting = Frames.message(
    toBinary(
      StatusResponseSchema,
      create(StatusResponseSchema, { header: { clusterId: 1n, memberId: 1n, raftTerm: 2n }, leader: 1n })
    )
  )
  /** Answers the client's own questions, and keeps everything else. */
  const serving = (options: ServerOptions) =>
    Http2.nodeServer((stream, headers) => {
      if (headers[":path"]?.endsWith("Status") === true) Http2.reply(stream, greeting)
    }, options)

  it.effect.each(["http2", "node:http2"] as const)("and no stream, does not hold a stream for ever (%s)", (transport) =>
    Effect.gen(function* () {
      const { port, streams } = yield* serving({})
      const endpoints = [`http://127.0.0.1:${port}`]
      const client = yield* byTestClock(EtcdClient.make({ endpoints, transport, retry: Schedule.recurs(0) }))
      const snapshot = (options?: EtcdClient.CallOptions) =>
        start(reasonOf(Stream.runDrain(client.serverStream(Maintenance.method.snapshot, {}, options))))
      const stream = yield* snapshot()
      const patient = yield* snapshot({ deadline: "Infinity" })
      yield* pass(29_000)
      assert.strictEqual(stream.pollUnsafe(), undefined)
      yield* passUntilOver(stream, 2000)
      const reason = yield* Fiber.join(stream)
      assert.strictEqual(reason._tag, "DeadlineExceeded")
      assert.match(reason.message, /30000 ms/)
      assert.strictEqual(patient.pollUnsafe(), undefined)
      yield* Fiber.interrupt(patient)
      yield* TestClock.withLive(
        Effect.repeat(Effect.sleep("5 millis"), { while: () => streams.some((stream) => !stream.closed) })
      )
    })
  )

  it.effect.each(["http2", "node:http2"] as const)("and no call, does not hold a call for ever (%s)", (transport) =>
    Effect.gen(function* () {
      for (const [settings, outcome, why] of [
        [{}, "unknown", /no answer within/],
        // One stream of the program's takes the only place.
        [{ maxConcurrentStreams: 1 }, "not-applied", /because the server takes no more than 1 calls/]
      ] as const) {
        const { port } = yield* serving({ settings })
        const endpoints = [`http://127.0.0.1:${port}`]
        const client = yield* byTestClock(EtcdClient.make({ endpoints, transport, retry: Schedule.recurs(0) }))
        const real = TestClock.withLive(Effect.sleep("1 millis"))
        const watch = yield* client.bidirectional(Watch.method.watch)
        yield* watch.send({ requestUnion: { case: "progressRequest", value: {} } })
        const call = yield* start(reasonOf(put(client)))
        // Whoever sets a deadline has that one.
        const own = yield* reasonOf(put(client, { deadline: "50 millis" }))
        assert.strictEqual(own._tag, "DeadlineExceeded")
        assert.strictEqual(own.outcome, outcome)
        yield* pass(29_000)
        assert.strictEqual(call.pollUnsafe(), undefined)
        yield* Effect.repeat(Effect.andThen(TestClock.adjust("25 millis"), real), {
          while: () => call.pollUnsafe() === undefined
        })
        const reason = yield* Fiber.join(call)
        assert.strictEqual(reason._tag, "DeadlineExceeded")
        assert.strictEqual(reason.outcome, outcome)
        assert.match(reason.message, /30000 ms/)
        assert.match(reason.message, why)
      }
    })
  )
})

describe("a call that ran out of time while this process stood still", () => {
  it.live("does not make the client leave a member that had no time to answer", () =>
    Effect.gen(function* () {
      // Before the client looks at its calls for the first time, which it does every 25 milliseconds, and after that.
      for (const heard of [0, 10, 20, 40, 90, 140]) {
        const { all, fake } = members()
        const endpoints = ["a:1", "b:1", "c:1"]
        const client = yield* makeWith(fake.transport, { endpoints, selection: "sticky" })
        yield* put(client)
        const used = fake.sent.at(-1)!.address as Address
        all[used].holds = true
        const call = yield* start(reasonOf(put(client, { deadline: "200 millis" })))
        yield* Effect.sleep(heard)
        yield* standStill(700)
        assert.strictEqual((yield* Fiber.join(call))._tag, "DeadlineExceeded")
        all[used].holds = false
        yield* put(client)
        assert.strictEqual(fake.sent.at(-1)!.address, used, `after ${heard} ms`)
      }
    })
  )
})
