/**
 * Hundreds of fibers that get, put and delete single keys while a test does harm, and what each of them was told.
 */
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { EtcdError } from "../../../src/EtcdError.ts"
import type { Service } from "../../../src/EtcdKv.ts"
import type { Header, KeyValue } from "../../../src/EtcdResponse.ts"

export interface Asked {
  /** `stale`: a serializable read. */
  readonly kind: "get" | "stale" | "put" | "delete"
  readonly key: string
  /** What a put writes. No other put writes the same. */
  readonly value: string
  /** Whether the caller may have given up. */
  readonly isImpatient: boolean
}

export interface Answer {
  readonly revision: bigint
  readonly memberId: bigint
  /** What the key held: now for a read, before for a write. */
  readonly held: string | null
  /** Whether the call made the revision. */
  readonly changed: boolean
}

export interface Told extends Asked {
  /** In the order of the calls. */
  readonly begun: number
  /** The newest revision that anybody knew of when the call was made. */
  readonly after: bigint
  readonly exit: Exit.Exit<Answer, EtcdError>
}

export const isWrite = ({ kind }: Asked): boolean => kind === "put" || kind === "delete"

export const errorOf = ({ exit }: Told): EtcdError | undefined =>
  Exit.isFailure(exit) ? Option.getOrUndefined(Cause.findErrorOption(exit.cause)) : undefined

export interface Shape {
  /** What the keys begin with. */
  readonly prefix: string
  /** How many keys, each with one fiber that writes it. */
  readonly keys: number
  /** How many writes of its key such a fiber makes at once. */
  readonly burst: number
  /** How many fibers read each key, by turns through each of the clients. */
  readonly readers: number
  /** How many more fibers, each with a key of its own, give up calls that take them too long. */
  readonly impatient: number
}

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index)

const answer = (header: Header, kv: KeyValue | undefined, changed: boolean): Answer => ({
  revision: header.revision,
  memberId: header.memberId,
  held: kv === undefined ? null : kv.valueString,
  changed
})

const perform = (kv: Service, { key, kind, value }: Asked): Effect.Effect<Answer, EtcdError> => {
  switch (kind) {
    case "get":
    case "stale":
      return Effect.map(kv.range(key, { serializable: kind === "stale" }), ({ header, kvs }) =>
        answer(header, kvs[0], false)
      )
    case "put":
      return Effect.map(kv.put(key, value, { previousValue: true }), ({ header, previous }) =>
        answer(header, Option.getOrUndefined(previous), true)
      )
    case "delete":
      return Effect.map(kv.delete(key, { previousValues: true }), ({ deleted, header, previous }) =>
        answer(header, previous[0], deleted > 0n)
      )
  }
}

/** What is told to callers, one after the other, and who listens to it. */
class Record {
  readonly told: Array<Told> = []
  begun = 0
  /** The newest revision that anybody knows of. */
  newest = 0n
  /** The member that answered the last write. */
  memberId = 0n
  private readonly onWrite = new Set<() => void>()
  private readonly listeners = new Set<(one: Told) => void>()

  call(kv: Service, asked: Asked): Effect.Effect<Answer, EtcdError> {
    return Effect.suspend(() => {
      const known = { ...asked, begun: this.begun++, after: this.newest }
      if (isWrite(asked)) this.wake()
      return Effect.onExit(perform(kv, asked), (exit) => Effect.sync(() => this.add({ ...known, exit })))
    })
  }

  private wake(): void {
    const waiting = [...this.onWrite]
    this.onWrite.clear()
    for (const wake of waiting) wake()
  }

  private add(one: Told): void {
    this.told.push(one)
    if (Exit.isSuccess(one.exit)) {
      const { memberId, revision } = one.exit.value
      if (revision > this.newest) this.newest = revision
      if (isWrite(one)) this.memberId = memberId
    }
    for (const listener of this.listeners) listener(one)
  }

  /** Waits until what callers are told from now on is enough. */
  listen(isEnough: (one: Told) => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const listener = (one: Told) => {
        if (!isEnough(one)) return
        this.listeners.delete(listener)
        resume(Effect.void)
      }
      this.listeners.add(listener)
      return Effect.sync(() => this.listeners.delete(listener))
    })
  }

  ended(count: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      let left = count
      return this.listen(() => --left <= 0)
    })
  }

  readonly writing: Effect.Effect<void> = Effect.callback((resume) => {
    const wake = () => resume(Effect.void)
    this.onWrite.add(wake)
    return Effect.sync(() => this.onWrite.delete(wake))
  })

  answered(count: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const from = this.begun
      let reads = count
      let writes = count
      return this.listen((one) => {
        if (one.begun < from || Exit.isFailure(one.exit)) return false
        if (isWrite(one)) writes--
        else reads--
        return reads <= 0 && writes <= 0
      })
    })
  }
}

/** A call that is not back by then hangs. */
const hangs = "30 seconds"

export interface Load {
  readonly told: ReadonlyArray<Told>
  readonly prefix: string
  readonly keys: ReadonlyArray<string>
  /** The member that answered the last write. */
  readonly memberId: Effect.Effect<bigint>
  /** The newest revision that anybody was told of. */
  readonly newest: Effect.Effect<bigint>
  /** Waits until the next write is called. */
  readonly writing: Effect.Effect<void>
  /** Waits until so many reads and so many writes have succeeded that are made from now on. */
  readonly answered: (count: number) => Effect.Effect<void>
  /** Makes no more calls, and waits for those under way. None hangs, and each was told once. */
  readonly stop: Effect.Effect<void>
}

/** All writes go through the first of the clients. */
export const start = Effect.fnUntraced(function* (clients: readonly [Service, ...Array<Service>], shape: Shape) {
  const record = new Record()
  let running = true

  const rounds = <A>(work: (round: number) => Effect.Effect<A>) =>
    Effect.suspend(() => {
      let round = 0
      return Effect.repeat(
        Effect.suspend(() => work(round++)),
        { while: () => running }
      )
    })
  const read = (kv: Service, key: string, n: number, isImpatient: boolean) =>
    record.call(kv, { kind: n % 4 === 0 ? "stale" : "get", key, value: "", isImpatient })
  const write = (key: string, n: number, isImpatient: boolean) =>
    record.call(clients[0], { kind: n % 5 === 4 ? "delete" : "put", key, value: `${key}=${n}`, isImpatient })

  const reader = (key: string, kv: Service) => rounds((round) => Effect.exit(read(kv, key, round, false)))
  const writer = (key: string) =>
    rounds((round) =>
      Effect.gen(function* () {
        const first = round * shape.burst
        const writes = yield* Effect.forEach(numbers(shape.burst), (index) =>
          Effect.forkChild(write(key, first + index, false), { startImmediately: true })
        )
        yield* Effect.forEach(writes, (one) => Fiber.await(one))
      })
    )
  const impatient = (key: string) =>
    rounds((round) => {
      const call = round % 3 === 2 ? read(clients[0], key, round, true) : write(key, round, true)
      return Effect.exit(Effect.raceFirst(call, record.ended((round * 7) % 300)))
    })

  const keys = numbers(shape.keys).map((index) => `${shape.prefix}${index}`)
  const more = numbers(shape.impatient).map((index) => `${shape.prefix}impatient/${index}`)
  const works = [
    ...keys.map((key) => writer(key)),
    ...keys.flatMap((key) => numbers(shape.readers).map((index) => reader(key, clients[index % clients.length]!))),
    ...more.map((key) => impatient(key))
  ]
  const fibers = yield* Effect.forEach(works, (work) => Effect.forkChild(work))

  const load: Load = {
    told: record.told,
    prefix: shape.prefix,
    keys: [...keys, ...more],
    memberId: Effect.sync(() => record.memberId),
    newest: Effect.sync(() => record.newest),
    writing: record.writing,
    answered: (count) => record.answered(count),
    stop: Effect.gen(function* () {
      running = false
      const exits = yield* Effect.forEach(fibers, (fiber) => Fiber.await(fiber)).pipe(
        Effect.timeoutOrElse({ duration: hangs, orElse: () => Effect.die("a call hangs past its deadline") })
      )
      for (const exit of exits) assert.isTrue(Exit.isSuccess(exit), String(exit))
      assert.strictEqual(record.told.length, record.begun)
    })
  }
  return load
})
