/**
 * What it is worth that a node with TLS serves HTTP apart from gRPC: gets and puts over TLS, of a node as this library
 * configures it, and of one that serves both on one port, as etcd does by itself.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { EtcdLayer } from "effect-etcd"
import { oursAt, verify } from "./clients.ts"
import { fill, measureAll, printRows, warmUp } from "./kv.ts"
import { benchError, makeTlsNode, type Row } from "./support.ts"

export const tls = (quick: boolean) =>
  Effect.gen(function* () {
    const apart = yield* makeTlsNode()
    const together = yield* makeTlsNode({ listenClientHttpUrls: [] })
    const clients = [
      yield* oursAt("HTTP apart", apart.endpoints, { tls: apart.tls }),
      yield* oursAt("HTTP on the same port", together.endpoints, { tls: together.tls })
    ]
    yield* Effect.provide(fill(64), EtcdLayer.connect(together))
    const rows: Array<Row> = []
    yield* Effect.gen(function* () {
      yield* fill(64)
      yield* warmUp(clients)
      yield* Effect.forEach(clients, (client) => verify(client, 64), { discard: true })
      for (const scenario of ["get", "put"] as const) {
        for (const inFlight of [1, 64, 512]) {
          const round = { scenario, inFlight, millis: quick ? 200 : 1000, valueBytes: 64 }
          const measured = yield* measureAll(clients, round, quick ? 3 : 7, rows.length)
          printRows(round, measured)
          rows.push(...measured)
        }
      }
    }).pipe(Effect.provide(EtcdLayer.connect(apart)))
    return rows
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) => benchError("tls", cause)),
    Effect.provide(Layer.fresh(NodeServices.layer))
  )
