/**
 * What a round is: the same for every client.
 */
import { Effect } from "effect"
import { type BenchError, stopwatch } from "./support.ts"

/** So many callers, who each repeat one operation until the time is up. */
export interface Round {
  readonly scenario: "get" | "put"
  readonly inFlight: number
  readonly millis: number
  /** Of what is put. A get reads what is there. */
  readonly valueBytes: number
}

/** What came of a round. */
export interface Measured {
  readonly ops: number
  readonly seconds: number
  /** What the client's process used, on all its threads. */
  readonly cpuMicros: number
  /** Of each operation, in no order. */
  readonly latencyMicros: ArrayLike<number>
}

export interface Client {
  readonly name: string
  readonly round: (round: Round) => Effect.Effect<Measured, BenchError>
  /**
   * Puts the value, gets the key, and answers what it got: the value or, from a client that decodes nothing, the bytes
   * of the answer.
   */
  readonly putAndGet: (key: string, value: Uint8Array) => Effect.Effect<Uint8Array, BenchError>
}

/** Each caller has a key of its own, because writes of one key wait for each other in a batching client. */
export const keyOf = (caller: number): string => `bench/key/${String(caller).padStart(4, "0")}`

export const valueOf = (bytes: number): Buffer => Buffer.alloc(bytes, "v")

/** The latencies of a round, without an object for each. */
export class Latencies {
  #micros = new Float64Array(1 << 14)
  #count = 0

  add(millis: number): void {
    if (this.#count === this.#micros.length) {
      const grown = new Float64Array(this.#count * 2)
      grown.set(this.#micros)
      this.#micros = grown
    }
    this.#micros[this.#count++] = millis * 1000
  }

  get micros(): Float64Array {
    return this.#micros.subarray(0, this.#count)
  }
}

/** Measures the callers of a client that runs in this process. They stop by themselves at `end`. */
export const measure = <E, R>(
  round: { readonly millis: number },
  callers: (latencies: Latencies, end: number) => Effect.Effect<unknown, E, R>
): Effect.Effect<Measured, E, R> =>
  Effect.suspend(() => {
    const latencies = new Latencies()
    const elapsed = stopwatch()
    return Effect.map(callers(latencies, performance.now() + round.millis), () => {
      const { cpuMicros, millis } = elapsed()
      const latencyMicros = latencies.micros
      return { ops: latencyMicros.length, seconds: millis / 1000, cpuMicros, latencyMicros }
    })
  })
