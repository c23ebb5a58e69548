/**
 * A service that counts, and keeps its counters in an etcd of its own.
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Data, Effect, Layer, Option, Schedule, SubscriptionRef } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { EtcdKv, EtcdLayer, EtcdProcess, EtcdTxn } from "effect-etcd"

// ── etcd ──

const etcd = (dataDir: string) =>
  EtcdLayer.embedded(
    {
      name: "counters",
      dataDir,
      // Keep an hour of history, and a database of 1 GiB at most: beyond that, etcd refuses writes.
      autoCompactionMode: "periodic",
      autoCompactionRetention: "1 hour",
      quotaBackendBytes: "1 GiB"
    },
    {
      // In an outage, try again after one second, two, four…, ten times. Then `exit` succeeds.
      restart: Schedule.upTo(Schedule.exponential("1 second"), { times: 10 }),
      startTimeout: "1 minute",
      gracePeriod: "5 seconds"
    }
  )

/** etcd has ended, and could not be started again. */
export class EtcdEnded extends Data.TaggedError("EtcdEnded")<{
  readonly message: string
  readonly cause: unknown
}> {}

/** Fails when etcd has ended for good. A service without its data is no service: it ends, and is started again from outside. */
export const untilEtcdEnds = Effect.gen(function* () {
  const { code, error, signal } = yield* (yield* EtcdProcess.EtcdProcess).exit
  const why = error === undefined ? `by ${signal ?? `code ${code}`}` : `and did not start again: ${error.message}`
  return yield* new EtcdEnded({ message: `etcd has ended ${why}`, cause: error })
})

// ── the HTTP API ──

/** Adds one, even if others do so at the same time: it is written only if what was read has not changed. */
const increment = (key: string): Effect.Effect<number, unknown, EtcdKv.EtcdKv | EtcdTxn.EtcdTxn> =>
  Effect.gen(function* () {
    const now = yield* EtcdKv.get(key)
    const next = Option.match(now, { onNone: () => 1, onSome: ({ valueString }) => Number(valueString) + 1 })
    const unchanged = Option.match(now, {
      onNone: () => EtcdTxn.missing(key),
      onSome: ({ modRevision }) => EtcdTxn.modRevision(key).equals(modRevision)
    })
    const { succeeded } = yield* EtcdTxn.commit(
      EtcdTxn.make({ compare: [unchanged], success: { put: EtcdTxn.put(key, String(next)) } })
    )
    return succeeded ? next : yield* increment(key)
  })

const counterKey = Effect.map(HttpRouter.params, ({ name }) => `counters/${name}`)

/** A second is long for an etcd on the same machine, and a health check must not wait for ever. */
const health = Effect.gen(function* () {
  const { ready } = yield* EtcdProcess.EtcdProcess
  if (!(yield* SubscriptionRef.get(ready))) return yield* Effect.fail("etcd does not run")
  yield* EtcdKv.get("counters/", { deadline: "1 second" })
  return yield* HttpServerResponse.json({ ready: true })
}).pipe(Effect.catch((error) => HttpServerResponse.json({ ready: false, error: String(error) }, { status: 503 })))

/** A failure is a 503: not now, and not the caller's fault. */
const orUnavailable = Effect.catch((error: unknown) =>
  HttpServerResponse.json({ error: String(error) }, { status: 503 })
)

const routes = Layer.mergeAll(
  HttpRouter.add("GET", "/health", health),
  HttpRouter.add(
    "POST",
    "/counters/:name",
    counterKey.pipe(Effect.flatMap(increment), Effect.flatMap(HttpServerResponse.json), orUnavailable)
  ),
  HttpRouter.add(
    "GET",
    "/counters/:name",
    counterKey.pipe(
      Effect.flatMap(EtcdKv.getString),
      Effect.map((value) => Number(Option.getOrElse(value, () => "0"))),
      Effect.flatMap(HttpServerResponse.json),
      orUnavailable
    )
  )
)

/** What is started first is stopped last: etcd serves before the first request comes, and until the last one is answered. */
export const layer = (options: { readonly dataDir: string; readonly port: number }) =>
  HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(
      NodeHttpServer.layer(createServer, { port: options.port, gracefulShutdownTimeout: "5 seconds" })
    ),
    Layer.provideMerge(etcd(options.dataDir))
  )
