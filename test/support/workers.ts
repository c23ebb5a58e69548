/**
 * A program with two workers of `node:cluster`, each of which has a way in to a network of its own. It says at which ports.
 */
import cluster from "node:cluster"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import * as Network from "../../src/internal/faults/network.ts"

if (cluster.isPrimary) {
  const ports: Array<number> = []
  cluster.on("message", (_, port) => {
    if (ports.push(port) < 2) return
    console.log(JSON.stringify(ports))
    for (const worker of Object.values(cluster.workers!)) worker!.process.kill()
  })
  for (const _ of [1, 2]) cluster.fork()
} else {
  const nobody = { name: "b", address: { path: "/nowhere" } }
  const wayIn = Network.make(() => undefined).wayIn("a", nobody, { host: "127.0.0.1", port: 0 })
  const told = Effect.map(wayIn, (server) => process.send!((server.address() as AddressInfo).port))
  Effect.runFork(Effect.scoped(Effect.andThen(told, Effect.never)))
}
