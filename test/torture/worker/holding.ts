/**
 * Leases, locks and an election: what is held, for how long, and what is written under it.
 */
import process from "node:process"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as EtcdElection from "../../../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../../src/coordination/EtcdSession.ts"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdKv from "../../../src/EtcdKv.ts"
import * as EtcdLease from "../../../src/EtcdLease.ts"
import * as EtcdTxn from "../../../src/EtcdTxn.ts"
import * as Session from "../../../src/internal/coordination/session.ts"
import {
  Lease,
  type LeaseGrantResponse,
  type LeaseKeepAliveRequest,
  type LeaseKeepAliveResponse
} from "../../../src/internal/proto/rpc_pb.ts"
import * as KeyRange from "../../../src/KeyRange.ts"
import * as Programs from "../../support/programs.ts"
import { makeRandom, type Random } from "../../support/random.ts"
import { besidePrefix, deletedKey, leasedPrefix, ledgerPrefix, locksPrefix, type Written } from "../protocol.ts"
import { isOver, pick, say, settings, takeStop, turns } from "./program.ts"

/** Until when a lease is there at least: for its time to live from when the last keep-alive was sent that was answered. */
const livesUntil = new Map<bigint, number>()

/** What takes part in the time of a lease, as it passes by. */
export const observed = (client: EtcdClient.Client): EtcdClient.Client => ({
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

/** On the stream of the watches that tell the session so: what befalls these befalls this one. */
export const watchingLocks = Effect.flatMap(EtcdSession.EtcdSession, (session) =>
  Session.of(session)
    .watch.changes(KeyRange.prefix(locksPrefix))
    .pipe(
      Stream.runForEach((change) =>
        Effect.sync(() => {
          if (change._tag !== "Revision") return
          for (const { _tag, kv } of change.events) if (_tag === "Delete") deletedAt.set(kv.keyString, change.revision)
        })
      ),
      (watch) => Effect.timeoutOption(watch, "5 seconds"),
      Effect.ignore,
      turns
    )
)

/**
 * Who works under what is held is interrupted when that is lost, at the latest a second later; and two seconds after another
 * watch on the same stream has seen that the key is gone.
 */
const mostTurnsWithout = 20
const mostTurnsBlind = 40

/** Works under what is held, for so long. */
const stay = (held: Claim, millis: number) =>
  Effect.gen(function* () {
    const until = Programs.now() + millis
    let without = 0
    let blind = 0
    // Not held any more, it has to be interrupted: it stays until that is so.
    while ((Programs.now() < until || without > 0) && !isOver()) {
      const isHeld = yield* claim(held)
      without = isHeld ? 0 : without + 1
      blind = isHeld && (deletedAt.get(held.key) ?? 0n) > held.token ? blind + 1 : 0
      if (without > mostTurnsWithout || blind > mostTurnsBlind) break
      yield* Effect.sleep(50)
    }
    if (without > mostTurnsWithout) say({ _tag: "Problem", what: `what runs under ${held.key} goes on without it` })
    if (blind > mostTurnsBlind) say({ _tag: "Problem", what: `${held.key} is held, and was seen to be deleted` })
  })

export const leasing = Effect.suspend(() => {
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
  if (!takeStop()) return
  say({ _tag: "Stopping" })
  process.kill(process.pid, "SIGSTOP")
})

/** Deletes all keys of a line, past every fence. */
const robbing = (name: string) =>
  Effect.map(EtcdTxn.EtcdTxn, (txn) => {
    const deletion = EtcdTxn.all([
      EtcdTxn.put(deletedKey, ""),
      EtcdTxn.delete(KeyRange.prefix(`${locksPrefix}${name}/`))
    ])
    return Effect.ignore(txn.commit(deletion, { deadline: "2 seconds" }))
  })

/** Counts on in the ledger of a name, under a token. */
const writeUnder = (name: string, token: bigint, random: Random, rob: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const key = `${ledgerPrefix}${name}`
    const before = yield* EtcdKv.getString(key, { deadline: "2 seconds" })
    const count = Option.match(before, { onNone: () => 0, onSome: (text) => (JSON.parse(text) as Written).count })
    yield* Effect.sleep(random(50))
    yield* standStill
    const written: Written = { token: Number(token), count: count + 1 }
    // Beside others, with which it may share a transaction, and a fence.
    const put = (key: string) => EtcdKv.put(key, JSON.stringify(written), { deadline: "2 seconds" })
    const beside = [1, 2].map((index) => put(`${besidePrefix}${index}/${name}`))
    // What is sent at the same time may come after it.
    const theft = random(8) === 0 ? [rob] : []
    yield* Effect.all([...theft, put(key), ...beside], { concurrency: "unbounded" })
  })

export const sessionMillis = 2000

const fence = settings.plant !== "unfenced"
const overrun = () => Effect.void

const acquired = ({ acquiredRevision, key, token }: EtcdLock.Held) =>
  say({ _tag: "Acquired", key, token: Number(token), revision: Number(acquiredRevision) })

const claimOf = ({ key, remaining, token }: Pick<EtcdLock.Held, "key" | "remaining" | "token">): Claim => {
  const lease = BigInt(`0x${key.slice(key.lastIndexOf("/") + 1).split(".")[0]}`)
  return { key, token, lease, margin: sessionMillis / 5, remaining }
}

/** Holds a lock that nobody else wants for as long as it can. */
export const holding = Effect.gen(function* () {
  const held = yield* EtcdLock.Held
  acquired(held)
  yield* stay(claimOf(held), Number.POSITIVE_INFINITY)
}).pipe(
  (inside) => EtcdLock.withLock(inside, EtcdLock.make(`${locksPrefix}${settings.name}`, { fence, overrun })),
  (turn) => turns(Effect.andThen(Effect.ignore(turn), Effect.sleep(100)))
)

export const locking = (index: number) => {
  const random = makeRandom(settings.seed * 1000 + 510 + index)
  // One that this program hands on to itself.
  const own = `${settings.name}.own`
  const turn = Effect.gen(function* () {
    const name = pick(random, ["a", "b", own, own])
    const rob = yield* robbing(name)
    const over = yield* Latch.make()
    const inside = Effect.gen(function* () {
      const held = yield* EtcdLock.Held
      acquired(held)
      yield* writeUnder(name, held.token, random, rob)
      yield* over.open
    })
    // While it is handed on.
    if (random(4) === 0) yield* Effect.forkScoped(Effect.andThen(over.await, rob))
    yield* EtcdLock.withLock(inside, EtcdLock.make(`${locksPrefix}${name}`, { fence, overrun }))
  }).pipe(Effect.scoped)
  return turns(Effect.andThen(Effect.ignore(turn), Effect.sleep(random(100))))
}

export const leading = Effect.suspend(() => {
  const random = makeRandom(settings.seed * 1000 + 520)
  const election = EtcdElection.make(`${locksPrefix}leader`, { fence, overrun })
  const turn = Effect.gen(function* () {
    const rob = yield* robbing("leader")
    const term = Effect.gen(function* () {
      const leadership = yield* EtcdElection.Leadership
      const { token } = leadership
      acquired(leadership)
      const terms = 1 + random(20)
      for (let index = 0; index < terms && !isOver(); index++) yield* writeUnder("leader", token, random, rob)
      // Nobody tells it by refusing what it writes.
      yield* stay(claimOf(leadership), random(2000))
    })
    yield* EtcdElection.whileElected(term, election, settings.name)
  })
  return turns(Effect.ignore(turn))
})
