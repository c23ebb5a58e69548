/**
 * A way to a server that can be cut between what the client says and what the server answers.
 */
import type { Socket } from "node:net"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { temporaryDirectory } from "../machine.ts"
import { relay } from "../relay.ts"

/** `silence`: what the server says no longer comes through. `cut`: the connections are lost, and new ones are good. */
export const silencing = (endpoint: string) =>
  Effect.gen(function* () {
    const path = join(yield* temporaryDirectory, "silent.sock")
    const clients = new Set<Socket>()
    let isSilent = false
    yield* relay({ path }, { path: endpoint.replace("unix://", "") }, (server, client) => {
      clients.add(client)
      client.once("close", () => clients.delete(client))
      server.on("data", (bytes: Buffer) => {
        if (!isSilent) client.write(bytes)
      })
    })
    return {
      endpoint: `unix://${path}`,
      silence: Effect.sync(() => {
        isSilent = true
      }),
      cut: Effect.sync(() => {
        isSilent = false
        for (const client of clients) client.destroy()
      })
    }
  })
