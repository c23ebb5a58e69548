/**
 * What goes on in a cluster while an operation is performed on it: somebody writes all the time, somebody watches that, somebody
 * holds a lock, and somebody leads. In the end all of it has to be as if nothing had been done.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as EtcdElection from "../../src/coordination/EtcdElection.ts"
import * as EtcdLock from "../../src/coordination/EtcdLock.ts"
import * as EtcdSession from "../../src/coordination/EtcdSession.ts"
import * as EtcdClient from "../../src/EtcdClient.ts"
import * as EtcdKv from "../../src/EtcdKv.ts"
import * as EtcdMaintenance from "../../src/EtcdMaintenance.ts"
import * as EtcdWatch from "../../src/EtcdWatch.ts"
import * as KeyRange from "../../src/KeyRange.ts"
import { until } from "./machine.ts"

let runs = 0

/** How many terms there were until now. */
export const terms = EtcdMaintenance.EtcdMaintenance.use((maintenance) =>
  Effect.map(maintenance.status(), ({ raftTerm }) => Number(raftTerm))
)

interface Write {
  readonly value: number
  readonly acknowledgedAt: number
}

/** The longest time without an acknowledged write, in milliseconds. */
const longestGap = (writes: ReadonlyArray<Write>): number =>
  writes.reduce((longest, { acknowledgedAt }, index) => {
    const before = writes[index - 1]?.acknowledgedAt ?? acknowledgedAt
    return Math.max(longest, acknowledgedAt - before)
  }, 0)

/** Runs an effect, and holds the cluster to all that it has said meanwhile. */
export const underLoad = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const client = yield* EtcdClient.EtcdClient
    const prefix = `load/${process.pid}-${runs++}/`
    const session = yield* EtcdSession.fromClient(client, { ttl: "10 seconds" })
    const own = <B, E2, R2>(holding: Effect.Effect<B, E2, R2>) =>
      Effect.provideService(holding, EtcdSession.EtcdSession, session)
    const held = yield* own(EtcdLock.acquire(EtcdLock.make(`${prefix}lock`)))
    const leading = yield* own(EtcdElection.campaign(EtcdElection.make(`${prefix}election`), "me"))
    const { header } = yield* EtcdKv.put(`${prefix}begin`, "")
    const seen: Array<number> = []
    const watching = yield* EtcdWatch.watch(KeyRange.prefix(`${prefix}write/`), {
      startRevision: header.revision + 1n
    }).pipe(
      Stream.runForEach(({ kv }) => Effect.sync(() => void seen.push(Number(kv.valueString)))),
      Effect.forkScoped({ startImmediately: true })
    )
    const writes: Array<Write> = []
    const refused: Array<string> = []
    let next = 0
    const one = Effect.suspend(() => {
      const value = next++
      return EtcdKv.put(`${prefix}write/${value}`, String(value)).pipe(
        Effect.match({
          onFailure: ({ message }) => void refused.push(message),
          onSuccess: () => void writes.push({ value, acknowledgedAt: performance.now() })
        })
      )
    })
    // It leaves the machine to others in between, for whom it is under load as well.
    const resting = Effect.andThen(
      one,
      Effect.callback<void>((resume) => void setTimeout(() => resume(Effect.void), 10))
    )
    let isOver = false
    const writing = yield* Effect.forkScoped(Effect.repeat(resting, { until: () => isOver }), {
      startImmediately: true
    })
    const result = yield* effect
    // A write that is interrupted may land all the same, some time later.
    isOver = true
    yield* Fiber.join(writing)
    const last = yield* EtcdKv.put(`${prefix}write/end`, "-1")
    yield* until(() => seen.includes(-1))
    yield* Fiber.interrupt(watching)
    assert.isTrue(last.header.revision > header.revision)
    assert.isNotEmpty(writes)
    // Each write is there, and was seen once, in its order. Who was not told may have written all the same.
    const stored = yield* EtcdKv.range(KeyRange.prefix(`${prefix}write/`))
    const values = new Set(stored.kvs.map(({ valueString }) => Number(valueString)))
    assert.deepStrictEqual(
      writes.filter(({ value }) => !values.has(value)),
      []
    )
    const ascending = (one: number, other: number) => one - other
    assert.deepStrictEqual([...seen].sort(ascending), [...values].sort(ascending))
    const acknowledged = new Set(writes.map(({ value }) => value))
    assert.deepStrictEqual(
      seen.filter((value) => acknowledged.has(value)),
      [...acknowledged]
    )
    for (const one of [held, leading]) assert.isTrue(one.isHeldUnsafe())
    return { result, refused, writes: writes.length, longestGap: longestGap(writes) }
  }).pipe(Effect.scoped)
