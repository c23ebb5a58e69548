/**
 * The service `hello`: it answers with the name of the instance.
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Effect } from "effect"
import { HttpServer, HttpServerResponse } from "effect/http"
import { announce } from "./announce.ts"

export const service = "example/hello"

/** Serves until it is interrupted, which `NodeRuntime.runMain` does at SIGTERM and SIGINT. */
export const hello = (name: string) =>
  Effect.gen(function* () {
    const server = yield* NodeHttpServer.make(() => createServer(), { host: "127.0.0.1", port: 0 })
    yield* server.serve(Effect.succeed(HttpServerResponse.text(name)))
    const { host } = new URL(HttpServer.formatAddress(server.address))
    yield* announce(
      { service, address: host, metadata: { name } },
      { isHealthy: Effect.succeed(true), drain: "300 millis" }
    )
    return yield* Effect.never
  }).pipe(Effect.scoped)
