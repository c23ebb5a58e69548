/**
 * Leases against a model of etcd, and of all that may be in between: streams that break, that nobody hears, that are
 * late, or that pass over some of what is sent on them; one seed after another.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { LeaseId } from "../src/EtcdId.ts"
import * as EtcdLease from "../src/EtcdLease.ts"
import * as Stub from "./support/lease/stubClient.ts"
import { makeRandom, type Random } from "./support/random.ts"
import { byTestClock, turns } from "./support/time.ts"

/** Lets the fibers of the service do what is to be done now, and read what has come. */
const settle = Effect.andThen(TestClock.adjust(0), turns(8))

const stepMillis = 100

/** How a stream behaves: what is sent on it is lost, or the answer, or some of what is sent, or the answer comes late. */
type Manner = "good" | "deaf" | "mute" | "forgetful" | "late"

interface Mood {
  readonly manner: Manner
  readonly until: number
}

/** etcd, which has each lease until its time to live has passed since it received the last keep-alive. */
const model = (stub: Stub.Stub, random: Random, manners: ReadonlyArray<Manner>, longestFault: number) => {
  const expiries = new Map<bigint, { readonly ttl: number; expiresAt: number }>()
  const taken = new Map<Stub.OpenStream, number>()
  const moods = new Map<Stub.OpenStream, Mood>()
  const answers: Array<{ readonly at: number; readonly give: () => void }> = []
  let everywhere: Mood = { manner: "good", until: 0 }
  const pickMood = (now: number): Mood => ({
    manner: manners[random(manners.length)]!,
    until: now + random(longestFault)
  })
  const receive = (stream: Stub.OpenStream, id: bigint, now: number, { manner }: Mood): void => {
    if (manner === "deaf" || (manner === "forgetful" && random(3) === 0)) return
    const lease = expiries.get(id)
    if (lease !== undefined) lease.expiresAt = now + lease.ttl
    if (manner === "mute") return
    const ttl = lease === undefined ? 0n : BigInt(lease.ttl / 1000)
    answers.push({ at: now + (manner === "late" ? random(longestFault) : 0), give: () => stream.answer(id, ttl) })
  }
  const step = (now: number): void => {
    for (const [id, { expiresAt }] of expiries) if (expiresAt < now) expiries.delete(id)
    if (random(80) === 0) everywhere = pickMood(now)
    for (const stream of stub.streams) {
      if (stream.closed) continue
      const before = moods.get(stream)
      const mood = before !== undefined && before.until > now ? before : pickMood(now)
      moods.set(stream, mood)
      const from = taken.get(stream) ?? 0
      taken.set(stream, stream.sent.length)
      for (const id of stream.sent.slice(from)) receive(stream, id, now, everywhere.until > now ? everywhere : mood)
      if (random(200) === 0) stream.fail(Stub.failure())
      else if (random(300) === 0) stream.drain()
    }
    if (random(150) === 0) stub.unopenable = random(4)
    answers.sort((one, other) => one.at - other.at)
    while (answers.length > 0 && answers[0]!.at <= now) answers.shift()!.give()
  }
  return { expiries, step }
}

const live = Effect.fnUntraced(function* (
  seed: number,
  ttls: ReadonlyArray<number>,
  manners: ReadonlyArray<Manner>,
  longestFault: number
) {
  const random = makeRandom(seed)
  const stub = Stub.make(["a", "b", "c"])
  const scope = yield* Scope.make()
  const leases = yield* Scope.provide(byTestClock(EtcdLease.fromClient(stub.client)), scope)
  const { expiries, step } = model(stub, random, manners, longestFault)
  const held: Array<EtcdLease.Lease> = []
  let now = 0
  for (const [index, ttl] of ttls.entries()) {
    const id = LeaseId(BigInt(index + 1))
    expiries.set(id, { ttl: ttl * 1000, expiresAt: now + ttl * 1000 })
    held.push(yield* Scope.provide(leases.make(Duration.seconds(ttl), { id }), scope))
  }
  let lost = 0
  for (; now < 60_000; now += stepMillis) {
    step(now)
    yield* settle
    let stillHeld = 0
    for (const lease of held) {
      if (Duration.toMillis(yield* lease.remaining) === 0) continue
      stillHeld++
      assert.isTrue(expiries.has(lease.id), `seed ${seed}: at ${now} ms the lease ${lease.id} is held and gone`)
    }
    lost = held.length - stillHeld
    yield* TestClock.adjust(stepMillis)
  }
  yield* Scope.close(scope, Exit.void)
  for (const lease of held) yield* lease.lost
  return lost
})

const seeds = Number(process.env.LEASE_SEEDS ?? 24)
const some = Array.from({ length: seeds }, (_, seed) => seed + 1)

describe("a lease that is held", () => {
  it.effect("is there, whatever befalls its keep-alives", () =>
    Effect.gen(function* () {
      let lost = 0
      for (const seed of some)
        lost += yield* live(
          seed,
          [1, 2, 3, 5, 5, 8, 13, 21, 34, 3600],
          ["good", "good", "deaf", "mute", "forgetful", "late"],
          9000
        )
      assert.isAbove(lost, 0)
    })
  )

  it.effect(
    "is not lost to streams that break, cannot be opened, or are late by a small part of its time to live",
    () =>
      Effect.gen(function* () {
        for (const seed of some) {
          const lost = yield* live(seed, [12, 12, 15, 15, 20, 30, 60, 3600], ["good", "late"], 1200)
          assert.strictEqual(lost, 0, `seed ${seed}`)
        }
      })
  )
})
