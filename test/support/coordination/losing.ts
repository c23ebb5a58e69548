/**
 * A client that loses the answers of transactions which write, or the transactions themselves, as a test wants it.
 */
import * as Effect from "effect/Effect"
import type * as EtcdClient from "../../../src/EtcdClient.ts"
import * as EtcdError from "../../../src/EtcdError.ts"
import { KV, type TxnRequest } from "../../../src/internal/proto/rpc_pb.ts"

/**
 * What becomes of a transaction.
 *
 * - `answered`: all is well.
 * - `applied`: it is applied, and its answer is lost.
 * - `lost`: it never arrives.
 * - `late`: it arrives after the next one was answered.
 */
export type Fate = "answered" | "applied" | "lost" | "late"

const lost = EtcdError.make(
  new EtcdError.ConnectionLost({ message: "KV.Txn failed: it was lost.", outcome: "unknown", method: "KV.Txn" })
)

const writes = (request: Partial<TxnRequest>): boolean =>
  (request.success ?? []).some(({ request }) => request.case === "requestPut" || request.case === "requestDeleteRange")

/** The first transactions have the fates given, one after another; all others are answered. `meanwhile`: after each loss. */
export const losing = (
  client: EtcdClient.Client,
  fates: ReadonlyArray<Fate>,
  meanwhile: Effect.Effect<unknown, unknown> = Effect.void
) => {
  const left = [...fates]
  /** How many transactions were sent that write. */
  const counts = { sent: 0 }
  let late: Effect.Effect<unknown> = Effect.void
  const unary: EtcdClient.Client["unary"] = (method, request, options) => {
    const call = client.unary(method, request, options)
    if ((method as object) !== KV.method.txn || !writes(request as Partial<TxnRequest>)) return call
    return Effect.suspend(() => {
      counts.sent++
      const fate = left.shift() ?? "answered"
      const due = late
      late = fate === "late" ? Effect.ignore(call) : Effect.void
      const failing = Effect.andThen(Effect.orDie(meanwhile), Effect.fail(lost))
      if (fate === "lost" || fate === "late") return Effect.andThen(due, failing)
      const answered = Effect.tap(call, () => due)
      return fate === "applied" ? Effect.andThen(answered, failing) : answered
    })
  }
  const own: EtcdClient.Client = { ...client, unary }
  return { client: own, counts, landing: Effect.suspend(() => late) }
}
