/**
 * A way to a server that breaks off in the middle of what the server says.
 */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import type { Node } from "../../../src/EtcdProcess.ts"
import { temporaryDirectory } from "../machine.ts"
import { relay } from "../relay.ts"

/** Each connection is cut when so much of what the node says has gone through; `cuts` counts those. */
export const cutting = (node: Node, bytesOf: (connection: number) => number) =>
  Effect.gen(function* () {
    const path = join(yield* temporaryDirectory, "cut.sock")
    const counts = { connections: 0, cuts: 0 }
    yield* relay({ path }, { path: node.endpoints[0].replace("unix://", "") }, (server, client) => {
      let left = bytesOf(counts.connections++)
      server.on("data", (bytes: Buffer) => {
        left -= bytes.length
        if (left > 0) return void client.write(bytes)
        counts.cuts++
        server.pause()
        client.end(bytes.subarray(0, bytes.length + left))
      })
    })
    return { endpoint: `unix://${path}`, counts }
  })
