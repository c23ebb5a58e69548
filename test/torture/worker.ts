/**
 * A program that uses etcd in every way that the judges know of, until its stdin ends: reads, writes, transactions,
 * watches, a mirror, leases, locks and an election.
 */
import { readdirSync } from "node:fs"
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdElection from "../../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdMirror from "../../src/coordination/EtcdMirror.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdStm from "../../src/coordination/EtcdStm.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import { EtcdError } from "../../src/EtcdError.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdLease from "../../src/EtcdLease.ts"
import type { Header, KeyValue } from "../../src/EtcdResponse.ts"
import * as EtcdTxn from "../../src/EtcdTxn.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import {
  Lease,
  type LeaseGrantResponse,
  type LeaseKeepAliveRequest,
  type LeaseKeepAliveResponse
} from "../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import * as Programs from "../support/programs.ts"
import { makeRandom, type Random } from "../support/random.ts"
import type { Answered, Call, Comparison, Result, Step, Value } from "./history.ts"
import * as Plants from "./plants.ts"
import {
  groupsPrefix,
  keysOfGroup,
  leasedPrefix,
  ledgerPrefix,
  locksPrefix,
  type Said,
  type Settings,
  stopBetween,
  stored,
  type Told,
  valueOf,
  type Written
} from "./protocol.ts"

const settings = JSON.parse(process.argv[2]!) as Settings

const say = (said: Said): void => Programs.say(said)

let isOver = false
let isToStop = false

const told = Effect.callback<void>((resume) => {
  Programs.eachLine(process.stdin, (line) => {
    if (line === stopBetween) isToStop = true
  })
  process.stdin.on("end", () => {
    isOver = true
    resume(Effect.void)
  })
})

/** Again and again until it is told to end. */
const turns = <E, R>(turn: Effect.Effect<unknown, E, R>) => Effect.repeat(turn, { while: () => !isOver })

const pick = <A>(random: Random, among: ReadonlyArray<A>): A => among[random(among.length)]!

// ── operations ──

let nextId = settings.firstId

const textOf = (kv: KeyValue | undefined): Value => (kv === undefined ? null : valueOf(kv.valueString))

const answered = (header: Header, succeeded: boolean, found: ReadonlyArray<Value>): Answered => ({
  outcome: "answered",
  revision: Number(header.revision),
  memberId: header.memberId.toString(16),
  succeeded,
  found
})

const failed = (cause: Cause.Cause<unknown>): Result => {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (error instanceof EtcdError) return { outcome: error.outcome, error: error.reason._tag }
  if (Cause.isTimeoutError(error)) return { outcome: "unknown", error: "it was given up" }
  const what = Cause.pretty(cause)
  say({ _tag: "Problem", what: `an operation ended with ${what}` })
  return { outcome: "unknown", error: what }
}

/** Makes an operation, and tells of it before and after. */
const operate = <R>(
  client: string,
  deadline: number,
  call: Call,
  make: Effect.Effect<Answered, unknown, R>,
  after?: number
): Effect.Effect<Result, never, R> =>
  Effect.suspend(() => {
    const id = nextId++
    say({ _tag: "Begun", id, client, at: Programs.now(), deadline, call, after })
    return Effect.map(Effect.exit(make), (exit) => {
      const result = Exit.isSuccess(exit) ? exit.value : failed(exit.cause)
      say({ _tag: "Ended", id, at: Programs.now(), result })
      return result
    })
  })

const get = (key: string): Step => ({ do: "get", key })
const remove = (key: string): Step => ({ do: "delete", key })

const call = (
  name: string,
  success: ReadonlyArray<Step>,
  compare: ReadonlyArray<Comparison> = [],
  failure: ReadonlyArray<Step> = []
): Call => ({ name, serializable: false, compare, success, failure })

const compareOf = ({ key, value }: Comparison): EtcdTxn.Compare =>
  value === null ? EtcdTxn.missing(key) : EtcdTxn.value(key).equals(stored(value))

/** A step of a transaction, which answers what was found. */
const opOf = (step: Step): EtcdTxn.Op<Value> => {
  switch (step.do) {
    case "get":
      return EtcdTxn.map(EtcdTxn.get(step.key), (kv) => textOf(Option.getOrUndefined(kv)))
    case "put":
      return EtcdTxn.map(EtcdTxn.put(step.key, stored(step.value)), () => null)
    case "delete":
      return EtcdTxn.map(EtcdTxn.delete(step.key), () => null)
  }
}

const commit = ({ compare, failure, success }: Call, options: EtcdClient.CallOptions) =>
  Effect.map(
    EtcdTxn.commit(
      EtcdTxn.make({ compare: compare.map(compareOf), success: success.map(opOf), failure: failure.map(opOf) }),
      options
    ),
    (result) => answered(result.header, result.succeeded, result.results)
  )

/** Any group, or one of a few in which operations meet. */
const aGroup = (random: Random): number => random(random(2) === 0 ? settings.groups : Math.min(2, settings.groups))

/** One who makes operations, and what it knows of keys. */
const operator = (index: number) => {
  const client = `${settings.name}.${index}`
  const random = makeRandom(settings.seed * 1000 + index)
  const known = new Map<string, Value>()
  let written = 0
  const fresh = () => `${client}-${written++}`
  const expected = (key: string): Comparison => ({ key, value: known.get(key) ?? null })
  const learn = ({ failure, success }: Call, result: Result) => {
    if (result.outcome !== "answered") return
    const steps = result.succeeded ? success : failure
    for (const [at, step] of steps.entries()) {
      known.set(step.key, step.do === "get" ? result.found[at]! : step.do === "put" ? step.value : null)
    }
  }

  /** A transaction that reads keys and writes what it makes of them, with what it has read. */
  const stm = (keys: ReadonlyArray<string>, deadline: number) =>
    Effect.suspend(() => {
      const puts = keys.slice(0, 1 + random(2)).map((key) => ({ do: "put", key, value: fresh() }) as const)
      const made = call("stm", [...keys.map(get), ...puts])
      const body = Effect.gen(function* () {
        const found = yield* Effect.forEach(keys, (key) =>
          Effect.map(EtcdStm.get(key), (kv) => textOf(Option.getOrUndefined(kv)))
        )
        for (const { key, value } of puts) yield* EtcdStm.put(key, stored(value))
        return found
      })
      const run = Effect.map(
        Effect.timeout(EtcdStm.txWithRevision(body), deadline),
        ({ revision, value }): Answered => ({
          outcome: "answered",
          revision: Number(revision),
          memberId: "",
          succeeded: true,
          found: [...value, ...puts.map(() => null)]
        })
      )
      return operate(client, deadline, made, run)
    })

  /** Puts of keys, twice each, none of which waits for another. Those of one key that are batched go in their order. */
  const burst = (keys: ReadonlyArray<string>, options: EtcdClient.CallOptions & { readonly deadline: number }) =>
    Effect.suspend(() => {
      const first = nextId
      const puts = [...keys, ...keys].map((key, index) => {
        const value = fresh()
        return operate(
          `${client}.${index}`,
          options.deadline,
          { ...call("put", [{ do: "put", key, value }]), isBatched: true },
          Effect.map(EtcdKv.put(key, stored(value), options), ({ header }) => answered(header, true, [null])),
          index < keys.length ? undefined : first + index - keys.length
        )
      })
      return Effect.all(puts, { concurrency: "unbounded" })
    })

  const turn = Effect.suspend(
    (): Effect.Effect<unknown, never, EtcdClient.EtcdClient | EtcdKv.EtcdKv | EtcdTxn.EtcdTxn> => {
      const keys = keysOfGroup(aGroup(random))
      const key = pick(random, keys)
      const others = keys.filter((other) => other !== key)
      const deadline = 500 + random(3000)
      const options = { deadline }
      const put = (key: string): Step => ({ do: "put", key, value: fresh() })
      const make = (made: Call, run: Effect.Effect<Answered, unknown, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn>) => {
        // Now and then nobody waits for it any more.
        const given = random(20) === 0 ? Effect.timeout(run, random(20)) : run
        return Effect.tap(operate(client, deadline, made, given), (result) => Effect.sync(() => learn(made, result)))
      }
      if (settings.batching && random(12) === 0) return burst(keys, options)
      const kind = random(100)
      if (kind < 30) {
        const serializable = kind < 8
        return make(
          { ...call("get", [get(key)]), serializable },
          Effect.map(EtcdKv.range(key, { ...options, serializable }), ({ header, kvs }) =>
            answered(header, true, [textOf(kvs[0])])
          )
        )
      }
      if (kind < 40) {
        return make(
          call("range", keys.map(get)),
          Effect.map(EtcdKv.range(KeyRange.prefix(key.slice(0, -1)), options), ({ header, kvs }) =>
            answered(
              header,
              true,
              keys.map((key) => textOf(kvs.find(({ keyString }) => keyString === key)))
            )
          )
        )
      }
      if (kind < 60) {
        const value = fresh()
        return make(
          { ...call("put", [{ do: "put", key, value }]), isBatched: settings.batching },
          Effect.map(EtcdKv.put(key, stored(value), options), ({ header }) => answered(header, true, [null]))
        )
      }
      if (kind < 67) {
        return make(
          { ...call("delete", [remove(key)]), isBatched: settings.batching },
          Effect.map(EtcdKv.delete(key, options), ({ header }) => answered(header, true, [null]))
        )
      }
      if (kind < 80) {
        const made = call("cas", [put(key)], [expected(key)], [get(key)])
        return make(made, commit(made, options))
      }
      if (kind < 92) {
        const [one, other] = others as [string, string]
        const made = call(
          "txn",
          [get(one), put(key), random(3) === 0 ? remove(other) : put(other)],
          [expected(one)],
          keys.map(get)
        )
        return make(made, commit(made, options))
      }
      return stm(keys, deadline)
    }
  )

  return turns(Effect.andThen(turn, Effect.sleep(random(30))))
}

// ── watches ──

const toldOf = (change: EtcdWatch.Change): Told | undefined => {
  switch (change._tag) {
    case "Revision":
      return {
        _tag: "Revision",
        revision: Number(change.revision),
        changes: change.events.map((event) => ({
          key: event.kv.keyString,
          value: event._tag === "Put" ? valueOf(event.kv.valueString) : null
        }))
      }
    case "Progress":
      return { _tag: "Progress", revision: Number(change.revision) }
    case "Snapshot":
      return {
        _tag: "Snapshot",
        revision: Number(change.revision),
        keys: change.kvs.map((kv) => [kv.keyString, valueOf(kv.valueString)])
      }
    case "Created":
      return undefined
  }
}

/**
 * Watches the keys of a group, or of all, for a while, and others then. Now and then it goes on where it has stopped, or begins
 * with what is long over.
 */
const watcher = Effect.suspend(() => {
  const random = makeRandom(settings.seed * 1000 + 501)
  let count = 0
  let next: number | undefined
  let highest = 1
  let prefix = ""
  const turn = Effect.suspend(() => {
    if (next === undefined || random(2) === 0) {
      prefix = random(2) === 0 ? groupsPrefix : keysOfGroup(aGroup(random))[0].slice(0, -1)
      next = random(2) === 0 ? undefined : Math.max(1, highest - random(400))
    }
    const watch = `${settings.name}.w${count++}`
    const first = next
    const deliver = (change: EtcdWatch.Change) => {
      if (change._tag === "Created") {
        next = Number(change.startRevision)
        say({ _tag: "Watching", watch, prefix, from: next })
        return
      }
      const told = toldOf(change)!
      next = told.revision + 1
      highest = Math.max(highest, told.revision)
      say({ _tag: "Watched", watch, told })
    }
    const changes = EtcdWatch.changes(KeyRange.prefix(prefix), {
      created: true,
      progress: true,
      snapshot: "when-compacted",
      fragment: random(2) === 0,
      ...(first === undefined ? {} : { startRevision: BigInt(first) })
    })
    return Effect.timeoutOption(
      Stream.runForEach(changes, (change) => Effect.sync(() => deliver(change))),
      2000 + random(8000)
    )
  })
  return turns(Effect.catchCause(turn, (cause) => Effect.sync(() => void failed(cause))))
})

/** How long a watch may take to be where the store is, when all is well. */
const longestLagMillis = 20_000

/** Watches the keys of all groups for as long as it lives, and is where the store is when it ends. */
const watching = Effect.gen(function* () {
  const watch = `${settings.name}.all`
  let last = 0
  const deliver = (change: EtcdWatch.Change) => {
    if (change._tag === "Created") {
      say({ _tag: "Watching", watch, prefix: groupsPrefix, from: Number(change.startRevision) })
      return
    }
    const told = toldOf(change)!
    last = told.revision
    say({ _tag: "Watched", watch, told })
  }
  const changes = EtcdWatch.changes(KeyRange.prefix(groupsPrefix), {
    created: true,
    progress: true,
    snapshot: "when-compacted"
  })
  yield* Effect.forkScoped(Stream.runForEach(changes, (change) => Effect.sync(() => deliver(change))))
  yield* turns(Effect.sleep(100))
  const { header } = yield* Effect.retry(EtcdKv.range(`${groupsPrefix}none`), { times: 10 })
  const asked = Effect.andThen(Effect.ignore(EtcdWatch.requestProgress), Effect.sleep(100))
  const arrival = Effect.repeat(asked, { until: () => last >= Number(header.revision) })
  const arrived = yield* Effect.timeoutOption(arrival, longestLagMillis)
  if (Option.isNone(arrived)) {
    say({ _tag: "Problem", what: `a watch is at revision ${last}, and not at ${header.revision}` })
  }
}).pipe(Effect.scoped)

const asking = turns(Effect.andThen(Effect.ignore(EtcdWatch.requestProgress), Effect.sleep(700)))

/** Replays what a mirror tells of its changes, as a watch that begins with a snapshot. */
const replaying = (mirror: EtcdMirror.Mirror<KeyValue>) => {
  const watch = `${settings.name}.m`
  const replay = new Map<string, string>()
  const toldOfMirror = (change: EtcdMirror.Change<KeyValue>): Told => {
    if (change._tag === "Snapshot") {
      for (const [key, kv] of change.view) replay.set(key, valueOf(kv.valueString))
      return { _tag: "Snapshot", revision: Number(change.view.revision), keys: [...replay] }
    }
    const revision = Number(change.revision)
    const changes = change.events.map((event) => ({
      key: event.key,
      value: event._tag === "Put" ? valueOf(event.value.valueString) : null
    }))
    for (const { key, value } of changes) {
      if (value === null) replay.delete(key)
      else replay.set(key, value)
    }
    return change.history === "complete"
      ? { _tag: "Revision", revision, changes }
      : { _tag: "Snapshot", revision, keys: [...replay] }
  }
  say({ _tag: "Watching", watch, prefix: groupsPrefix, from: 1 })
  return Stream.runForEach(mirror.changes, (change) =>
    Effect.sync(() => say({ _tag: "Watched", watch, told: toldOfMirror(change) }))
  )
}

const mirroring = Effect.gen(function* () {
  const random = makeRandom(settings.seed * 1000 + 502)
  const mirror = yield* EtcdMirror.make(groupsPrefix)
  yield* Effect.forkScoped(Effect.ignore(replaying(mirror)))
  const look = Effect.gen(function* () {
    const asked = random(2) === 0 ? Programs.now() : undefined
    const view = yield* asked === undefined ? mirror.view : mirror.fresh
    const keys = [...view].map(([key, kv]) => [key, valueOf(kv.valueString)] as const)
    say({ _tag: "Mirrored", at: Programs.now(), asked, revision: Number(view.revision), keys })
  })
  yield* turns(Effect.andThen(Effect.ignore(Effect.timeout(look, "3 seconds")), Effect.sleep(500)))
}).pipe(Effect.scoped)

// ── leases, locks, leaders ──

/** Until when a lease is there at least: for its time to live from when the last keep-alive was sent that was answered. */
const livesUntil = new Map<bigint, number>()

/** What takes part in the time of a lease, as it passes by. */
const observed = (client: EtcdClient.Client): EtcdClient.Client => ({
  ...client,
  unary: (method, request, options) => {
    const call = client.unary(method, request, options)
    if ((method as object) !== Lease.method.leaseGrant) return call
    return Effect.flatMap(Effect.sync(Programs.now), (asked) =>
      Effect.tap(call, (answer) =>
        Effect.sync(() => {
          const { ID, TTL } = answer as unknown as LeaseGrantResponse
          livesUntil.set(ID, asked + Number(TTL) * 1000)
        })
      )
    )
  },
  bidirectional: (method, options) =>
    Effect.map(client.bidirectional(method, options), (duplex) => {
      if ((method as object) !== Lease.method.leaseKeepAlive) return duplex
      const sentAt = new Map<bigint, number>()
      return {
        ...duplex,
        send: (message) => {
          sentAt.set((message as unknown as LeaseKeepAliveRequest).ID, Programs.now())
          return duplex.send(message)
        },
        messages: Stream.tap(duplex.messages, (message) =>
          Effect.sync(() => {
            const { ID, TTL } = message as unknown as LeaseKeepAliveResponse
            const until = sentAt.get(ID)! + Number(TTL) * 1000
            if (until > (livesUntil.get(ID) ?? 0)) livesUntil.set(ID, until)
          })
        )
      }
    })
})

/** Rounding, and that a time is taken a bit later here. */
const sameMillis = 5

/** What somebody holds by a lease. `margin`: for how much less than that lives. */
interface Claim {
  readonly key: string
  readonly token: bigint
  readonly lease: bigint
  readonly margin: number
  readonly remaining: Effect.Effect<Duration.Duration>
}

/** Says that a key is held, if it is, and whether that is for longer than anybody can know. */
const claim = ({ key, lease, margin, remaining, token }: Claim) =>
  Effect.gen(function* () {
    // Asked first: whatever is true then is true no later than when it is told.
    const at = Programs.now()
    const left = Duration.toMillis(yield* remaining)
    if (left === 0) return false
    say({ _tag: "Held", key, token: Number(token), at })
    const beyond = at + left + margin - (livesUntil.get(lease) ?? Number.POSITIVE_INFINITY)
    if (beyond > sameMillis)
      say({ _tag: "Problem", what: `${key} was held for ${beyond} ms longer than its lease lives` })
    return true
  })

/** At which revision this program has seen that a key of a lock was deleted. */
const deletedAt = new Map<string, bigint>()

const watchingLocks = turns(
  EtcdWatch.changes(KeyRange.prefix(locksPrefix)).pipe(
    Stream.runForEach((change) =>
      Effect.sync(() => {
        if (change._tag !== "Revision") return
        for (const { _tag, kv } of change.events) if (_tag === "Delete") deletedAt.set(kv.keyString, change.revision)
      })
    ),
    (watch) => Effect.timeoutOption(watch, "5 seconds"),
    Effect.ignore
  )
)

/**
 * Who works under what is held is interrupted when that is lost, at the latest a second later; and three seconds after another
 * watch of the program has seen that the key is gone, whatever befalls the one that is for it.
 */
const mostTurnsWithout = 20
const mostTurnsBlind = 60

/** Works under what is held, for so long. */
const stay = (held: Claim, millis: number) =>
  Effect.gen(function* () {
    const until = Programs.now() + millis
    let without = 0
    let blind = 0
    while (Programs.now() < until && !isOver) {
      const isHeld = yield* claim(held)
      without = isHeld ? 0 : without + 1
      blind = isHeld && (deletedAt.get(held.key) ?? 0n) > held.token ? blind + 1 : 0
      if (without > mostTurnsWithout || blind > mostTurnsBlind) break
      yield* Effect.sleep(50)
    }
    if (without > mostTurnsWithout) say({ _tag: "Problem", what: `what runs under ${held.key} goes on without it` })
    if (blind > mostTurnsBlind) say({ _tag: "Problem", what: `${held.key} is held, and was seen to be deleted` })
  })

const leasing = Effect.suspend(() => {
  const random = makeRandom(settings.seed * 1000 + 503)
  let count = 0
  const turn = Effect.gen(function* () {
    const key = `${leasedPrefix}${settings.name}-${count++}`
    const lease = yield* EtcdLease.make(2000 + random(3000))
    const { header } = yield* EtcdKv.put(key, "held", { lease: lease.id })
    const { id, remaining } = lease
    yield* lease.whileHeld(stay({ key, token: header.revision, lease: id, margin: 0, remaining }, 1000 + random(6000)))
  })
  return turns(Effect.andThen(Effect.ignore(Effect.scoped(turn)), Effect.sleep(100)))
})

/** Stands still, if it was told to, until somebody lets it go on. */
const standStill = Effect.sync(() => {
  if (!isToStop) return
  isToStop = false
  say({ _tag: "Stopping" })
  process.kill(process.pid, "SIGSTOP")
})

/** Counts on in the ledger of a name, under a token. */
const writeUnder = (name: string, token: bigint, random: Random) =>
  Effect.gen(function* () {
    const key = `${ledgerPrefix}${name}`
    const before = yield* EtcdKv.getString(key, { deadline: "2 seconds" })
    const count = Option.match(before, { onNone: () => 0, onSome: (text) => (JSON.parse(text) as Written).count })
    yield* Effect.sleep(random(50))
    yield* standStill
    const written: Written = { token: Number(token), count: count + 1 }
    yield* EtcdKv.put(key, JSON.stringify(written), { deadline: "2 seconds" })
  })

const sessionMillis = 2000

const fence = settings.plant !== "unfenced"
const overrun = () => Effect.void

const acquired = ({ acquiredRevision, key, token }: EtcdLock.Held) =>
  say({ _tag: "Acquired", key, token: Number(token), revision: Number(acquiredRevision) })

/** Holds a lock that nobody else wants for as long as it can. */
const holding = Effect.gen(function* () {
  const held = yield* EtcdLock.Held
  acquired(held)
  const lease = BigInt(`0x${held.key.slice(held.key.lastIndexOf("/") + 1).split(".")[0]}`)
  const { key, remaining, token } = held
  yield* stay({ key, token, lease, margin: sessionMillis / 5, remaining }, Number.POSITIVE_INFINITY)
}).pipe(
  (inside) => EtcdLock.withLock(inside, EtcdLock.make(`${locksPrefix}${settings.name}`, { fence, overrun })),
  (turn) => turns(Effect.andThen(Effect.ignore(turn), Effect.sleep(100)))
)

const locking = (index: number) => {
  const random = makeRandom(settings.seed * 1000 + 510 + index)
  const turn = Effect.suspend(() => {
    const name = pick(random, ["a", "b"])
    const inside = Effect.flatMap(EtcdLock.Held, (held) => {
      acquired(held)
      return writeUnder(name, held.token, random)
    })
    return EtcdLock.withLock(inside, EtcdLock.make(`${locksPrefix}${name}`, { fence, overrun }))
  })
  return turns(Effect.andThen(Effect.ignore(turn), Effect.sleep(random(100))))
}

const leading = Effect.suspend(() => {
  const random = makeRandom(settings.seed * 1000 + 520)
  const election = EtcdElection.make(`${locksPrefix}leader`, { fence, overrun })
  const term = Effect.gen(function* () {
    const leadership = yield* EtcdElection.Leadership
    const { token } = leadership
    acquired(leadership)
    const terms = 1 + random(20)
    for (let index = 0; index < terms && !isOver; index++) yield* writeUnder("leader", token, random)
  })
  return turns(Effect.ignore(EtcdElection.whileElected(term, election, settings.name)))
})

// ── the whole ──

const { batching, endpoints, plant, seed } = settings

const client = Layer.effect(
  EtcdClient.EtcdClient,
  Effect.map(
    EtcdClient.make({ endpoints, batching, selection: pick(makeRandom(seed), ["leader", "sticky", "spread"]) }),
    (client) => observed(Plants.clientWith(plant, client))
  )
)

const watch = Layer.effect(
  EtcdWatch.EtcdWatch,
  Effect.flatMap(EtcdClient.EtcdClient, (client) =>
    Effect.map(EtcdWatch.fromClient(client), (watch) => Plants.watchWith(plant, watch))
  )
)

const etcd = Layer.mergeAll(
  EtcdKv.layer,
  EtcdTxn.layer,
  EtcdLease.layer,
  EtcdSession.layerWith({ ttl: sessionMillis })
).pipe(Layer.provideMerge(watch), Layer.provideMerge(client))

const work = Effect.gen(function* () {
  say({ _tag: "Ready" })
  const operators = Array.from({ length: settings.clients }, (_, index) => operator(index))
  const others = [watcher, asking, mirroring, leasing, watchingLocks, holding, locking(0), locking(1), leading]
  yield* Effect.forkScoped(Effect.all(others, { concurrency: "unbounded", discard: true }))
  yield* Effect.all([told, watching, ...operators], { concurrency: "unbounded", discard: true })
})

// ── what is left ──

/** More than that, of what nobody needs any more, is a leak. */
const heapAllowance = 32 * 1024 * 1024

/** What the process has: what keeps it alive, open files, and bytes that somebody can reach. */
const possessions = () => {
  globalThis.gc!()
  const alive = process.getActiveResourcesInfo().sort()
  return {
    alive,
    descriptors: process.platform === "linux" ? readdirSync("/proc/self/fd").length : 0,
    heap: process.memoryUsage().heapUsed
  }
}

/** What there is more of than before. */
const beyond = (now: ReadonlyArray<string>, before: ReadonlyArray<string>): ReadonlyArray<string> => {
  const left = [...before]
  return now.filter((one) => {
    const index = left.indexOf(one)
    if (index >= 0) left.splice(index, 1)
    return index < 0
  })
}

const leaksSince = (before: ReturnType<typeof possessions>): ReadonlyArray<string> => {
  const { alive, descriptors, heap } = possessions()
  return [
    ...beyond(alive, before.alive),
    ...(descriptors > before.descriptors ? [`${descriptors - before.descriptors} descriptors`] : []),
    ...(heap > before.heap + heapAllowance ? [`${Math.round((heap - before.heap) / 1024 / 1024)} MiB of heap`] : [])
  ]
}

Programs.watchEventLoop((from, to) => say({ _tag: "Stalled", from, to }))
NodeRuntime.runMain(
  Effect.gen(function* () {
    const before = possessions()
    yield* work.pipe(Effect.scoped, Effect.provide(etcd))
    // What was closed is gone a moment later, and a timer when it has fired.
    yield* Effect.sleep(100)
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    say({ _tag: "Left", what: leaksSince(before) })
  }).pipe(
    Effect.tapCause((cause) =>
      Effect.sync(() => say({ _tag: "Problem", what: `it ended with ${Cause.pretty(cause)}` }))
    )
  )
)
