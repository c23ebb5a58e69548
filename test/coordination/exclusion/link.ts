/**
 * A contender's way to the cluster, which can be cut: nothing gets through, and nobody is told. What was under way then
 * arrives when the way is whole again.
 */
import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import { relay } from "../../support/relay.ts"

export interface Link {
  readonly endpoints: readonly [string, ...Array<string>]
  readonly cut: () => void
  /** What was under way arrives now. */
  readonly mend: () => void
  /** Every connection is closed. */
  readonly close: () => void
}

interface Pair {
  readonly server: Socket
  readonly client: Socket
}

const hold = ({ client, server }: Pair): void => {
  client.unpipe(server).pause()
  server.unpipe(client).pause()
}

const pass = ({ client, server }: Pair): void => {
  client.pipe(server)
  server.pipe(client)
}

/** A way that begins at sockets in a directory. */
export const link = (endpoints: ReadonlyArray<string>, directory: string, name: string) =>
  Effect.gen(function* () {
    const pairs = new Set<Pair>()
    let isCut = false
    const paths = endpoints.map((_, index) => `${directory}/${name}-${index}`)
    for (const [index, path] of paths.entries()) {
      yield* relay({ path }, { path: endpoints[index]!.replace("unix://", "") }, (server, client) => {
        const pair = { client, server }
        pairs.add(pair)
        server.on("close", () => pairs.delete(pair))
        if (isCut) hold(pair)
        else server.pipe(client)
      })
    }
    const all = paths.map((path) => `unix://${path}`) as [string, ...Array<string>]
    return {
      endpoints: all,
      cut: () => {
        isCut = true
        pairs.forEach(hold)
      },
      mend: () => {
        isCut = false
        pairs.forEach(pass)
      },
      close: () => {
        for (const { client } of pairs) client.destroy()
      }
    } satisfies Link
  })
