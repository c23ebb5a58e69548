/**
 * Reads and writes that never stop while a test does harm, and what became of each write.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import type { EtcdError } from "../../../src/EtcdError.ts"
import { KV } from "../../../src/internal/proto/rpc_pb.ts"

export interface Tally {
  acknowledged: number
  /** Failed, perhaps applied. */
  unknown: number
  /** Failed, surely not applied. */
  refused: number
  readonly reasons: Map<string, number>
}

export interface Load {
  readonly writes: Tally
  readonly reads: Tally
  /** Waits until so many more writes and reads have succeeded. */
  readonly progress: (count: number) => Effect.Effect<void>
  /** Waits until calls have failed that were under way. */
  readonly failures: Effect.Effect<void>
  /** Stops, and says how often each key was written, by what each call came to and by etcd's own count. */
  readonly stop: Effect.Effect<ReadonlyArray<{ readonly tally: Tally; readonly version: number }>>
}

const tally = (): Tally => ({ acknowledged: 0, unknown: 0, refused: 0, reasons: new Map() })

const add = (into: Tally, from: Tally): Tally => ({
  acknowledged: into.acknowledged + from.acknowledged,
  unknown: into.unknown + from.unknown,
  refused: into.refused + from.refused,
  reasons: new Map([...into.reasons, ...from.reasons])
})

const deadline = 3000
/** A call that is not back by then hangs. */
const hangs = deadline + 10_000

const key = (index: number) => new TextEncoder().encode(`load/${index}`)

export const start = (client: EtcdClient.Client, workers: number) =>
  Effect.gen(function* () {
    let running = true
    const writes = Array.from({ length: workers }, tally)
    const reads = Array.from({ length: workers }, tally)
    const sum = (tallies: ReadonlyArray<Tally>) => tallies.reduce(add, tally())

    const count = <A>(into: Tally, effect: Effect.Effect<A, EtcdError>) =>
      effect.pipe(
        Effect.timeoutOrElse({ duration: hangs, orElse: () => Effect.die("a call hangs past its deadline") }),
        Effect.match({
          onSuccess: () => {
            into.acknowledged++
          },
          onFailure: (error) => {
            into[error.outcome === "unknown" ? "unknown" : "refused"]++
            into.reasons.set(error.message, (into.reasons.get(error.message) ?? 0) + 1)
          }
        }),
        Effect.repeat({ while: () => running })
      )
    const write = (index: number) =>
      count(writes[index]!, client.unary(KV.method.put, { key: key(index) }, { deadline }))
    const read = (index: number) =>
      count(reads[index]!, client.unary(KV.method.range, { key: key(index) }, { deadline }))

    const fibers = yield* Effect.forEach(Array.from({ length: workers }), (_, index) =>
      Effect.all([Effect.forkChild(write(index)), Effect.forkChild(read(index))])
    )
    const waitFor = (condition: () => boolean) =>
      Effect.repeat(Effect.sleep("5 millis"), { while: () => !condition() && running })

    const load: Load = {
      get writes() {
        return sum(writes)
      },
      get reads() {
        return sum(reads)
      },
      progress: (more) =>
        Effect.suspend(() => {
          const written = sum(writes).acknowledged + more
          const seen = sum(reads).acknowledged + more
          return Effect.asVoid(waitFor(() => sum(writes).acknowledged >= written && sum(reads).acknowledged >= seen))
        }),
      failures: Effect.suspend(() => {
        const failed = () => sum(writes).unknown + sum(writes).refused + sum(reads).refused
        const before = failed()
        return Effect.asVoid(waitFor(() => failed() > before))
      }),
      stop: Effect.gen(function* () {
        running = false
        const exits = yield* Effect.forEach(fibers.flat(), (fiber) => Fiber.await(fiber))
        yield* Effect.forEach(exits, (exit) => (Exit.isFailure(exit) ? Effect.failCause(exit.cause) : Effect.void))
        return yield* Effect.forEach(writes, (own, index) =>
          client.unary(KV.method.range, { key: key(index) }).pipe(
            Effect.map((answer) => ({ tally: own, version: Number(answer.kvs[0]?.version ?? 0n) })),
            Effect.orDie
          )
        )
      })
    }
    return load
  })
