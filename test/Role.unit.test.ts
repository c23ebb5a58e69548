import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as fc from "fast-check"
import * as EtcdId from "../src/EtcdId.ts"
import * as EtcdLog from "../src/EtcdLog.ts"
import * as Role from "../src/Role.ts"

const at = (seconds: number) => DateTime.makeUnsafe({ epochMilliseconds: seconds * 1000 })
const own = EtcdId.MemberId(0xan)
const other = EtcdId.MemberId(0xbn)

const line = (message: string, seconds = 1, more: Record<string, unknown> = {}) =>
  EtcdLog.parse(JSON.stringify({ level: "info", ts: seconds, msg: message, ...more }))

const became = (role: string, term: number, seconds = 1, id = "a") =>
  line(`${id} became ${role} at term ${term}`, seconds)

const folded = (...events: ReadonlyArray<EtcdLog.Event>) => events.reduce(Role.fold, Role.initial(at(0)))

const state = (role: Role.Role, term: bigint, leader?: EtcdId.MemberId): Role.State => ({
  role,
  term,
  leader: Option.fromUndefinedOr(leader),
  since: at(0),
  member: Option.some(own)
})

describe("Role.fold", () => {
  it("begins stopped, at term 0, with nobody known", () => {
    assert.deepStrictEqual(Role.initial(at(7)), {
      role: "stopped",
      term: 0n,
      leader: Option.none(),
      since: at(7),
      member: Option.none()
    })
  })

  it("takes roles, terms, times and leaders", () => {
    const follower = folded(became("follower", 1, 1))
    assert.deepStrictEqual(follower, { ...state("follower", 1n), since: at(1) })

    const candidate = folded(became("follower", 1, 1), became("candidate", 2, 2))
    assert.deepStrictEqual(candidate, { ...state("candidate", 2n), since: at(2) })

    const leader = folded(became("candidate", 2, 2), became("leader", 2, 3))
    assert.deepStrictEqual(leader, { ...state("leader", 2n, own), since: at(3) })

    const following = folded(became("follower", 3, 4), line("raft.node: a elected leader b at term 3", 5))
    assert.deepStrictEqual(following, { ...state("follower", 3n, other), since: at(4) })
  })

  it("forgets the leader when it is lost, when the node campaigns, and at a new term", () => {
    const following = [became("follower", 3), line("raft.node: a elected leader b at term 3")]
    const leaderThen = (...events: ReadonlyArray<EtcdLog.Event>) => folded(...following, ...events).leader
    assert.deepStrictEqual(leaderThen(), Option.some(other))
    assert.deepStrictEqual(leaderThen(line("raft.node: a lost leader b at term 3")), Option.none())
    assert.deepStrictEqual(leaderThen(became("pre-candidate", 3)), Option.none())
    assert.deepStrictEqual(leaderThen(became("follower", 4)), Option.none())
    assert.deepStrictEqual(
      leaderThen(line("raft.node: a changed leader from b to c at term 3")),
      Option.some(EtcdId.MemberId(0xcn))
    )
    assert.deepStrictEqual(folded(became("leader", 3), became("follower", 3)).leader, Option.none())
  })

  it("ignores lines about other members", () => {
    const known = folded(
      line("starting local member", 1, { "local-member-id": "a", "cluster-id": "c" }),
      became("follower", 2)
    )
    for (const event of [
      became("leader", 3, 9, "b"),
      line("raft.node: b elected leader b at term 2"),
      line("peer became active", 1, { "peer-id": "b" }),
      line("b became leader at term 2, says a")
    ]) {
      assert.strictEqual(Role.fold(known, event), known)
    }
  })

  it("never goes back to an older term, except in a new process", () => {
    const leader = folded(became("leader", 5, 1))
    for (const event of [became("follower", 4, 2), line("raft.node: a lost leader a at term 4", 2)]) {
      assert.strictEqual(Role.fold(leader, event), leader)
    }
    const restarted = Role.fold(Role.stopped(leader, at(2)), became("follower", 0, 3))
    assert.deepStrictEqual(restarted, { ...state("follower", 0n), since: at(3) })
  })

  it("gives the same object when nothing changes", () => {
    const leader = folded(became("leader", 5, 1))
    for (const event of [became("leader", 5, 9), line("raft.node: a elected leader a at term 5", 9), line("hello")]) {
      assert.strictEqual(Role.fold(leader, event), leader)
    }
    assert.strictEqual(Role.fold(became("leader", 5, 9))(leader), leader)
  })

  it("learns the member id of a node whose data is new", () => {
    const start = line("starting local member", 1, { "local-member-id": "b", "cluster-id": "c" })
    const renamed = Role.fold(Role.stopped(folded(became("leader", 5)), at(2)), start)
    assert.deepStrictEqual(Role.fold(renamed, became("follower", 1, 3, "b")).member, Option.some(other))
  })

  it("stopped: keeps term and id, forgets the leader", () => {
    const leader = folded(became("leader", 5, 1))
    const stopped = Role.stopped(leader, at(8))
    assert.deepStrictEqual(stopped, { ...state("stopped", 5n), since: at(8) })
    assert.strictEqual(Role.stopped(stopped, at(9)), stopped)
    const late = line("raft.node: a elected leader b at term 5", 9)
    assert.strictEqual(Role.fold(stopped, late), stopped)
  })

  it("within a term, takes what raft can do and nothing else", () => {
    const roles = ["follower", "pre-candidate", "candidate", "leader"] as const
    const can = [
      "candidate leader",
      "candidate follower",
      "candidate pre-candidate",
      "leader follower",
      "follower pre-candidate",
      "pre-candidate follower"
    ]
    for (const from of roles) {
      for (const to of roles) {
        const before = folded(became(from, 5, 1))
        const within = Role.fold(before, became(to, 5, 2))
        assert.strictEqual(within.role, can.includes(`${from} ${to}`) ? to : from, `from ${from} to ${to}`)
        assert.strictEqual(within === before, within.role === from)
        assert.deepInclude(Role.fold(before, became(to, 6, 2)), { role: to, term: 6n })
      }
    }
  })

  it("a leader that each line is told of twice leads once", () => {
    const lines = [became("candidate", 2, 1), became("leader", 2, 2), became("candidate", 2, 1), became("leader", 2, 2)]
    const states: Array<Role.State> = []
    lines.reduce(
      (before, event) => {
        const now = Role.fold(before, event)
        if (now !== before) states.push(now)
        return now
      },
      Role.initial(at(0))
    )
    assert.deepStrictEqual(states.map(named), ["candidate@2", "leader@2"])
  })

  it("learns of no leader while the node campaigns, and of no other one while it leads", () => {
    for (const role of ["pre-candidate", "candidate", "leader"]) {
      const before = folded(became(role, 5))
      for (const what of ["elected leader b", "lost leader a", "changed leader from b to c"]) {
        assert.strictEqual(Role.fold(before, line(`raft.node: a ${what} at term 5`)), before)
      }
    }
  })

  it("makes of lines that are read twice, over two pipes, what it makes of lines that are read once", () => {
    fc.assert(
      fc.property(raftLines, fc.infiniteStream(fc.boolean()), (lines, turns) => {
        const pipes = [[...lines], [...lines]]
        const merged: Array<EtcdLog.Event> = []
        while (pipes[0]!.length + pipes[1]!.length > 0) {
          const turn = turns.next().value ? 0 : 1
          const next = pipes[turn]!.shift() ?? pipes[1 - turn]!.shift()
          merged.push(next!)
        }
        const once = leaderships(lines)
        assert.deepStrictEqual(leaderships(merged), once)
        assert.strictEqual(new Set(once).size, once.length)
        const { since: _, ...last } = folded(...merged)
        const { since: __, ...lastOfOnce } = folded(...lines)
        assert.deepStrictEqual(last, lastOfOnce)
      }),
      { numRuns: 300 }
    )
  })

  it("holds for any sequence of lines: a leader knows itself as the leader, and terms do not decrease", () => {
    const event = fc.oneof(
      fc
        .tuple(
          fc.constantFrom("follower", "pre-candidate", "candidate", "leader"),
          fc.nat(9),
          fc.constantFrom("a", "b")
        )
        .map(([role, term, id]) => became(role, term, 1, id)),
      fc
        .tuple(fc.constantFrom("elected leader b", "lost leader b", "elected leader a"), fc.nat(9))
        .map(([what, term]) => line(`raft.node: a ${what} at term ${term}`))
    )
    fc.assert(
      fc.property(fc.array(event), (events) => {
        events.reduce(
          (before, next) => {
            const now = Role.fold(before, next)
            assert.isTrue(now.term >= before.term)
            const knows = Option.getOrUndefined(now.leader)
            if (now.role === "leader") assert.strictEqual(knows, own)
            else if (now.role !== "follower") assert.isUndefined(knows)
            if (now.role === "leader" && now.term === before.term) {
              assert.include(["candidate", "leader"], before.role)
            }
            assert.isTrue(now === before || JSON.stringify(now, bigints) !== JSON.stringify(before, bigints))
            return now
          },
          folded(became("follower", 0))
        )
      })
    )
  })
})

/** What one node prints, by raft's own rules: each step is one that raft takes, in the order of its lines. */
const raftLines = fc.array(fc.nat(5), { maxLength: 24 }).map((steps) => {
  const lines: Array<EtcdLog.Event> = [became("follower", 1)]
  let role = "follower"
  let term = 1
  let leader: string | undefined
  const become = (next: string, at: number) => {
    lines.push(became(next, at))
    role = next
    term = at
  }
  const know = (next: string | undefined) => {
    if (next !== leader) {
      const what = next === undefined ? `lost leader ${leader}` : `elected leader ${next}`
      lines.push(line(`raft.node: a ${what} at term ${term}`))
    }
    leader = next
  }
  let led = false
  for (const step of steps) {
    if (step === 0 && role !== "leader") become("pre-candidate", term)
    else if (step === 1 && role !== "leader") {
      become("candidate", term + 1)
      led = false
    } else if (step <= 2 && role === "candidate") become("leader", term)
    else if (step === 3 && role !== "follower") become("follower", term)
    else if (step === 4) become("follower", term + 1)
    else if (step === 5 && role !== "leader" && !led) {
      if (role !== "follower") become("follower", term)
      know("b")
      continue
    }
    led ||= role === "leader"
    if (step === 4) led = false
    know(role === "leader" ? "a" : undefined)
  }
  return lines
})

/** The terms that the node leads, one for each time that it begins to. */
const leaderships = (events: ReadonlyArray<EtcdLog.Event>) => {
  const terms: Array<bigint> = []
  events.reduce(
    (before, event) => {
      const now = Role.fold(before, event)
      if (now.role === "leader" && !(before.role === "leader" && before.term === now.term)) terms.push(now.term)
      return now
    },
    Role.initial(at(0))
  )
  return terms
}

const bigints = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value)

describe("Role.fromStatus", () => {
  const status = (raftTerm: bigint, leader: bigint, memberId = 0xan): Role.Status => ({ memberId, leader, raftTerm })

  it("tells leader and follower, and learns the own id", () => {
    const unknown = Role.initial(at(0))
    assert.deepStrictEqual(Role.fromStatus(unknown, status(3n, 0xan), at(4)), {
      ...state("leader", 3n, own),
      since: at(4)
    })
    assert.deepStrictEqual(Role.fromStatus(unknown, status(3n, 0xbn), at(4)), {
      ...state("follower", 3n, other),
      since: at(4)
    })
    assert.deepStrictEqual(Role.fromStatus(unknown, status(3n, 0n), at(4)), { ...state("follower", 3n), since: at(4) })
    assert.deepStrictEqual(Role.fromStatus(status(3n, 0n), at(4))(unknown).role, "follower")
  })

  it("corrects the role within a term and in a newer one", () => {
    const leader = state("leader", 3n, own)
    assert.deepStrictEqual(Role.fromStatus(leader, status(3n, 0n), at(4)), { ...state("follower", 3n), since: at(4) })
    assert.deepStrictEqual(Role.fromStatus(leader, status(4n, 0xbn), at(4)), {
      ...state("follower", 4n, other),
      since: at(4)
    })
  })

  it("changes nothing when it is of an older term, of another member, or says what is known", () => {
    const leader = state("leader", 3n, own)
    for (const answer of [status(2n, 0xbn), status(4n, 0xbn, 0xcn), status(3n, 0xan)]) {
      assert.strictEqual(Role.fromStatus(leader, answer, at(4)), leader)
    }
  })

  it("is believed by a new process, which may be another member than the one before", () => {
    const before = Role.stopped(state("leader", 3n, own), at(3))
    assert.deepStrictEqual(Role.fromStatus(before, status(1n, 0xbn, 0xcn), at(4)), {
      role: "follower",
      term: 1n,
      leader: Option.some(other),
      member: Option.some(EtcdId.MemberId(0xcn)),
      since: at(4)
    })
  })

  it("makes no leader of who has followed in the term, for the term that it leads is a later one", () => {
    for (const role of ["follower", "pre-candidate"] as const) {
      const before = state(role, 3n)
      assert.strictEqual(Role.fromStatus(before, status(3n, 0xan), at(4)), before)
      assert.deepInclude(Role.fromStatus(before, status(4n, 0xan), at(4)), { role: "leader", term: 4n })
    }
    assert.strictEqual(Role.fromStatus(state("candidate", 3n), status(3n, 0xan), at(4)).role, "leader")
  })

  it("leaves a campaigning node a candidate as long as its term has no leader", () => {
    for (const role of ["candidate", "pre-candidate"] as const) {
      const campaigning = state(role, 3n)
      assert.strictEqual(Role.fromStatus(campaigning, status(3n, 0n), at(4)), campaigning)
      assert.strictEqual(Role.fromStatus(campaigning, status(3n, 0xbn), at(4)).role, "follower")
      assert.strictEqual(Role.fromStatus(campaigning, status(4n, 0n), at(4)).role, "follower")
    }
  })
})

const makeNode = Effect.map(SubscriptionRef.make(state("follower", 1n)), (role) => ({
  role,
  become: (next: Role.Role, term: bigint) => SubscriptionRef.set(role, state(next, term))
}))

const named = ({ role, term }: Role.State) => `${role}@${term}`

describe("Role.changes", () => {
  it.effect("begins with the current role, and gives a slow consumer each change, without repeats", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      yield* node.become("candidate", 2n)
      const subscribed = yield* Latch.make()
      const go = yield* Latch.make()
      const seen = yield* Role.changes(node).pipe(
        Stream.tap(() => Effect.andThen(subscribed.open, go.await)),
        Stream.map(named),
        Stream.takeUntil((name) => name === "stopped@1001"),
        Stream.runCollect,
        Effect.forkChild
      )
      yield* subscribed.await
      const expected = ["candidate@2"]
      for (let term = 3n; term <= 1001n; term++) {
        const role = term % 2n === 0n ? "leader" : "follower"
        yield* node.become(role, term)
        yield* node.become(role, term)
        yield* SubscriptionRef.set(node.role, state(role, term, other))
        expected.push(`${role}@${term}`)
      }
      yield* node.become("stopped", 1001n)
      expected.push("stopped@1001")
      yield* go.open
      assert.deepStrictEqual(yield* Fiber.join(seen), expected)
    })
  )
})

/** An effect that never ends, and that reports when it runs and when it has been interrupted. */
const makeWork = Effect.gen(function* () {
  const reports = yield* Queue.unbounded<string>()
  let running = 0
  let overlapped = false
  const work = Effect.gen(function* () {
    running++
    overlapped ||= running > 1
    yield* Queue.offer(reports, "started")
    return yield* Effect.never
  }).pipe(
    Effect.onInterrupt(() =>
      Effect.gen(function* () {
        yield* Effect.yieldNow
        running--
        yield* Queue.offer(reports, "interrupted")
      })
    )
  )
  return {
    work,
    report: Queue.take(reports),
    reported: Queue.clear(reports),
    running: () => running,
    overlapped: () => overlapped
  }
})

describe("Role.whileLeader", () => {
  it.effect("runs while the node leads, is interrupted when it does not, and runs again", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const work = yield* makeWork
      const fiber = yield* Effect.forkChild(Role.whileLeader(node, work.work))
      for (let term = 2n; term < 6n; term += 2n) {
        yield* node.become("candidate", term)
        yield* node.become("leader", term)
        assert.strictEqual(yield* work.report, "started")
        yield* node.become("follower", term + 1n)
        assert.strictEqual(yield* work.report, "interrupted")
      }
      yield* node.become("leader", 8n)
      assert.strictEqual(yield* work.report, "started")
      yield* node.become("stopped", 8n)
      assert.strictEqual(yield* work.report, "interrupted")
      assert.deepStrictEqual(yield* work.reported, [])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("is not disturbed by news that leave the leadership as it is", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const work = yield* makeWork
      yield* node.become("leader", 2n)
      yield* Effect.forkChild(Role.whileLeader(node, work.work))
      assert.strictEqual(yield* work.report, "started")
      yield* SubscriptionRef.set(node.role, state("leader", 2n, own))
      yield* SubscriptionRef.set(node.role, { ...state("leader", 2n, own), since: at(9) })
      yield* node.become("leader", 3n)
      assert.strictEqual(yield* work.report, "interrupted")
      assert.strictEqual(yield* work.report, "started")
      assert.deepStrictEqual(yield* work.reported, [])
    })
  )

  it.effect("follows rapid flapping: never two runs at once, and the last state wins", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const work = yield* makeWork
      yield* Effect.forkChild(Role.whileLeader(node, work.work))
      for (let term = 2n; term <= 400n; term += 2n) {
        yield* node.become("leader", term)
        if (term % 6n === 0n) {
          yield* Effect.yieldNow
        }
        yield* node.become("follower", term)
        if (term % 10n === 0n) {
          yield* Effect.yieldNow
        }
      }
      yield* node.become("leader", 500n)
      yield* work.report.pipe(
        Effect.andThen(Effect.yieldNow),
        Effect.repeat({ until: () => work.running() === 1 && SubscriptionRef.getUnsafe(node.role).term === 500n })
      )
      yield* Effect.yieldNow
      yield* node.become("follower", 501n)
      yield* work.report.pipe(Effect.repeat({ until: () => work.running() === 0 }))
      assert.isFalse(work.overlapped())
    })
  )

  it.effect("ends with the effect, whether it succeeds or fails", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      yield* node.become("leader", 2n)
      assert.strictEqual(yield* Role.whileLeader(node, Effect.succeed(42)), 42)
      assert.strictEqual(yield* Role.whileLeader(Effect.succeed(43))(node), 43)
      assert.strictEqual(yield* Effect.flip(Role.whileLeader(node, Effect.fail("no"))), "no")
      const exit = yield* Effect.exit(Role.whileLeader(node, Effect.interrupt))
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
    })
  )

  it.effect("waits with the next run for the finalizers of the one before", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      yield* node.become("leader", 2n)
      const starts = yield* Queue.unbounded<void>()
      const cleaning = yield* Latch.make()
      const clean = yield* Latch.make()
      yield* Queue.offer(starts, undefined).pipe(
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Effect.andThen(cleaning.open, clean.await)),
        (effect) => Role.whileLeader(node, effect),
        Effect.forkChild
      )
      yield* Queue.take(starts)
      yield* node.become("follower", 3n)
      yield* cleaning.await
      yield* node.become("leader", 4n)
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.strictEqual(yield* Queue.size(starts), 0)
      yield* clean.open
      yield* Queue.take(starts)
    })
  )

  it.effect("ends where a finalizer of the effect fails, also when the leadership is lost", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      yield* node.become("leader", 2n)
      const started = yield* Latch.make()
      const work = Effect.ensuring(Effect.andThen(started.open, Effect.never), Effect.die("broken"))
      const fiber = yield* Effect.forkChild(Role.whileLeader(node, work))
      yield* started.await
      yield* node.become("follower", 3n)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
    })
  )

  it.effect("each of several has its own work, and none waits for another's", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const work = yield* makeWork
      const clean = yield* Latch.make()
      const started = yield* Latch.make()
      const cleaning = yield* Latch.make()
      yield* started.open.pipe(
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Effect.andThen(cleaning.open, clean.await)),
        (effect) => Role.whileLeader(node, effect),
        Effect.forkChild
      )
      yield* Effect.forkChild(Role.whileLeader(node, work.work))
      yield* node.become("leader", 2n)
      yield* started.await
      assert.strictEqual(yield* work.report, "started")
      yield* node.become("follower", 3n)
      yield* cleaning.await
      assert.strictEqual(yield* work.report, "interrupted")
      yield* node.become("leader", 4n)
      assert.strictEqual(yield* work.report, "started")
      yield* clean.open
    })
  )

  it.effect("is over with a leadership that is lost and won again while the effect is being interrupted", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      yield* node.become("leader", 2n)
      const starts = yield* Queue.unbounded<bigint>()
      const cleaning = yield* Latch.make()
      const clean = yield* Latch.make()
      yield* SubscriptionRef.get(node.role).pipe(
        Effect.flatMap(({ term }) => Queue.offer(starts, term)),
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Effect.andThen(cleaning.open, clean.await)),
        (effect) => Role.whileLeader(node, effect),
        Effect.forkChild
      )
      assert.strictEqual(yield* Queue.take(starts), 2n)
      yield* node.become("follower", 2n)
      yield* cleaning.await
      for (const [role, term] of [
        ["leader", 4n],
        ["stopped", 4n],
        ["leader", 6n],
        ["follower", 7n],
        ["leader", 8n]
      ] as const) {
        yield* node.become(role, term)
      }
      yield* clean.open
      assert.strictEqual(yield* Queue.take(starts), 8n)
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.strictEqual(yield* Queue.size(starts), 0)
    })
  )

  it.effect("interrupts the effect when it is interrupted itself", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const work = yield* makeWork
      yield* node.become("leader", 2n)
      const fiber = yield* Effect.forkChild(Role.whileLeader(node, work.work))
      assert.strictEqual(yield* work.report, "started")
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(work.running(), 0)
    })
  )
})

describe("Role.onTransition", () => {
  const recorder = Effect.map(Queue.unbounded<string>(), (calls) => ({
    record: (name: string) => (at: Role.State) => Queue.offer(calls, `${name} ${named(at)}`),
    take: (count: number) => Effect.map(Queue.takeN(calls, count), (array) => [...array].sort()),
    rest: Queue.clear(calls)
  }))

  it.effect("calls for the current role and for each transition, in order, none left out", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const calls = yield* recorder
      yield* Role.onTransition(node, {
        onLeader: calls.record("lead"),
        onFollower: calls.record("follow"),
        onChange: calls.record("change")
      })
      const transitions = [
        ["follower", 2n],
        ["pre-candidate", 2n],
        ["candidate", 3n],
        ["leader", 3n],
        ["leader", 3n],
        ["leader", 4n],
        ["follower", 5n],
        ["stopped", 5n],
        ["follower", 5n]
      ] as const
      for (const [role, term] of transitions) {
        yield* node.become(role, term)
      }
      assert.deepStrictEqual(yield* calls.take(14), [
        "change candidate@3",
        "change follower@1",
        "change follower@2",
        "change follower@5",
        "change follower@5",
        "change leader@3",
        "change leader@4",
        "change pre-candidate@2",
        "change stopped@5",
        "follow follower@1",
        "follow follower@5",
        "follow follower@5",
        "lead leader@3",
        "lead leader@4"
      ])
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.deepStrictEqual(yield* calls.rest, [])
    }).pipe(Effect.scoped)
  )

  it.effect("starts the callbacks in the order of the transitions", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const order = yield* Queue.unbounded<string>()
      yield* Role.onTransition(node, { onChange: (state) => Queue.offer(order, named(state)) })
      const expected = ["follower@1"]
      for (let term = 2n; term < 100n; term++) {
        yield* node.become("leader", term)
        expected.push(`leader@${term}`)
      }
      assert.deepStrictEqual([...(yield* Queue.takeN(order, expected.length))], expected)
    }).pipe(Effect.scoped)
  )

  it.effect("logs a callback that fails, dies or throws, but none that was interrupted, and goes on", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const logged = yield* Queue.unbounded<string>()
      const logger = Logger.make<unknown, void>(({ cause, fiber, logLevel, message }) => {
        const { role, term } = fiber.getRef(References.CurrentLogAnnotations)
        Queue.offerUnsafe(logged, `${logLevel} ${String(message)} ${role}@${term}: ${String(Cause.squash(cause))}`)
      })
      const calls = yield* recorder
      yield* Role.onTransition(node, {
        onFollower: () => Effect.fail("refused"),
        onLeader: () => Effect.die("broken"),
        onChange: (state) => {
          if (state.role === "candidate") {
            throw new Error("thrown")
          }
          if (state.role === "pre-candidate") {
            return Effect.interrupt
          }
          return calls.record("change")(state)
        }
      }).pipe(Effect.provide(Logger.layer([logger])))
      yield* node.become("pre-candidate", 1n)
      yield* node.become("candidate", 2n)
      yield* node.become("leader", 2n)
      yield* node.become("follower", 3n)
      assert.deepStrictEqual([...(yield* Queue.takeN(logged, 4))].sort(), [
        "Error onChange failed candidate@2: Error: thrown",
        "Error onFollower failed follower@1: refused",
        "Error onFollower failed follower@3: refused",
        "Error onLeader failed leader@2: broken"
      ])
      assert.deepStrictEqual(yield* calls.take(3), ["change follower@1", "change follower@3", "change leader@2"])
    }).pipe(Effect.scoped)
  )

  it.effect("leaves a running callback alone at the next transition, and interrupts it with the scope", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      yield* node.become("leader", 2n)
      const scope = yield* Scope.make()
      const started = yield* Deferred.make<void>()
      const followed = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      let logged = 0
      const logger = Logger.make<unknown, void>(() => void logged++)
      yield* Role.onTransition(node, {
        onLeader: () =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          ),
        onFollower: () => Deferred.succeed(followed, undefined)
      }).pipe(Scope.provide(scope), Effect.provide(Logger.layer([logger])))
      yield* Deferred.await(started)
      yield* node.become("follower", 3n)
      yield* Deferred.await(followed)
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.isFalse(yield* Deferred.isDone(interrupted))
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(yield* Deferred.isDone(interrupted))
      yield* node.become("leader", 4n)
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.strictEqual(logged, 0)
    })
  )

  it.effect("data last", () =>
    Effect.gen(function* () {
      const node = yield* makeNode
      const calls = yield* recorder
      yield* Role.onTransition({ onFollower: calls.record("follow") })(node)
      assert.deepStrictEqual(yield* calls.take(1), ["follow follower@1"])
    }).pipe(Effect.scoped)
  )
})
