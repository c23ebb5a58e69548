/**
 * A network between the members of a cluster and its clients, which can be disturbed.
 *
 * *Whose words are these?* A member is not only called by the raft streams of others: leases are renewed, versions asked
 * and members promoted over connections that do not tell who made them, and with TLS none does. But all that etcd asks of
 * other members goes through the HTTP proxy that its environment names, over Unix sockets too (`HTTP_PROXY`, and
 * `HTTPS_PROXY` with TLS). So each member has a way out of its own, at which only it arrives, and says there whom it wants;
 * and each client has a way in to each member. (Facts: https://pkg.go.dev/net/http#ProxyFromEnvironment, and `NewTransport`
 * in etcd's `client/pkg/transport`; seen with etcd 3.4.23, 3.5.16, 3.5.30, 3.5.35, 3.6.16 and 3.7.3.)
 *
 * A *way* leads from one party to another, in one direction, and what disturbs it are *rules*. A connection has two: what
 * the dialling party says goes one way, and what it is told the other. So a way from A to B that hangs lets through neither
 * what A asks of B nor what A says over the raft streams that B has dialled; and what B says to A arrives.
 *
 * @internal
 */
import type * as net from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Flow from "./flow.ts"

/** A party that can be called, and where it listens. */
export interface Called {
  readonly name: string
  readonly address: net.NetConnectOpts
}

/** A disturbance. It holds for all ways that it concerns, those to come too. */
export interface Rule {
  readonly concerns: (from: string, to: string) => boolean
  readonly condition: Flow.Condition
}

export interface Network {
  /** A place at which one party arrives to call others, and says whom: the way out of a member. */
  readonly wayOut: (from: string, at: net.ListenOptions) => Effect.Effect<net.Server, Error, Scope.Scope>
  /** A place at which one party arrives to call another. */
  readonly wayIn: (from: string, to: Called, at: net.ListenOptions) => Effect.Effect<net.Server, Error, Scope.Scope>
  readonly disturb: (rule: Rule) => void
  readonly settle: (rule: Rule) => void
}

const loadNet = (): typeof net => globalThis.process.getBuiltinModule("node:net")

/** The direction of a connection, between two parties. */
interface Way {
  readonly from: string
  readonly to: string
  condition: Flow.Condition
}

/** What a party has dialled. `there` is what it says, `back` what it is told. */
interface Connection {
  readonly there: Way
  readonly back: Way
  readonly sockets: ReadonlyArray<net.Socket>
  readonly flows: ReadonlyArray<Flow.Flow>
}

const isCut = ({ back, there }: Pick<Connection, "there" | "back">): boolean =>
  there.condition.isCut || back.condition.isCut

/** A request, as Go writes it to a proxy: to be passed on, or to be connected through. */
const requestTo = /^(?:CONNECT ([^ ]+)|[A-Z]+ http:\/\/([^/ ]+)[^ ]*) HTTP\/1\.1\r\n/

/** The longest head that is waited for. */
const longestHead = 64 * 1024

/** `peerOf`: the member whose URL for peers has a host. */
export const make = (peerOf: (host: string) => Called | undefined): Network => {
  const rules = new Set<Rule>()
  const connections = new Set<Connection>()

  const conditionOf = (from: string, to: string): Flow.Condition =>
    [...rules]
      .filter(({ concerns }) => concerns(from, to))
      .reduce((worst, { condition }) => Flow.worse(worst, condition), Flow.undisturbed)

  const wayOf = (from: string, to: string): Way => ({ from, to, condition: conditionOf(from, to) })

  const rulesChanged = (): void => {
    for (const connection of connections) {
      for (const way of [connection.there, connection.back]) way.condition = conditionOf(way.from, way.to)
      if (isCut(connection)) for (const socket of connection.sockets) socket.destroy()
      else for (const flow of connection.flows) flow.changed()
    }
  }

  /** Connects one who has called, at a socket that is paused, with whom it has called. `head` is what it has said. */
  const connect = (caller: net.Socket, from: string, to: Called): void => {
    const there = wayOf(from, to.name)
    const back = wayOf(to.name, from)
    if (isCut({ there, back })) return void caller.destroy()
    const called = loadNet().connect({ ...to.address, allowHalfOpen: true })
    called.on("error", () => {})
    const connection: Connection = {
      there,
      back,
      sockets: [caller, called],
      flows: [Flow.make(caller, called, () => there.condition), Flow.make(called, caller, () => back.condition)]
    }
    connections.add(connection)
    let open = 2
    for (const socket of connection.sockets) {
      socket.once("close", () => {
        if (--open > 0) return
        connections.delete(connection)
        for (const flow of connection.flows) flow.end()
      })
    }
  }

  /** Reads whom a member wants, and connects it. */
  const arrive = (caller: net.Socket, from: string): void => {
    let head = Buffer.alloc(0)
    const read = (bytes: Buffer) => {
      head = Buffer.concat([head, bytes])
      const end = head.indexOf("\r\n\r\n")
      if (end < 0 && head.length < longestHead) return
      caller.off("data", read)
      caller.off("end", leave)
      caller.pause()
      const text = head.toString("latin1")
      const [line = "", tunnelled, asked] = requestTo.exec(text) ?? []
      const to = peerOf(tunnelled ?? asked ?? "")
      if (end < 0 || to === undefined) return void caller.destroy()
      if (tunnelled === undefined) {
        // One request a connection, since the next may be for somebody else.
        caller.unshift(Buffer.concat([Buffer.from(`${line}Connection: close\r\n`), head.subarray(line.length)]))
      } else {
        caller.write("HTTP/1.1 200 OK\r\n\r\n")
        caller.unshift(head.subarray(end + 4))
      }
      connect(caller, from, to)
    }
    const leave = () => void caller.destroy()
    caller.on("data", read)
    caller.once("end", leave)
  }

  const listen = (at: net.ListenOptions, onCaller: (caller: net.Socket) => void) => {
    const callers = new Set<net.Socket>()
    return Effect.acquireRelease(
      Effect.callback<net.Server, Error>((resume) => {
        const server = loadNet().createServer({ noDelay: true, allowHalfOpen: true }, (caller) => {
          callers.add(caller)
          caller.on("error", () => {})
          caller.once("close", () => callers.delete(caller))
          onCaller(caller)
        })
        server.once("error", (error) => resume(Effect.fail(error)))
        // A worker of `node:cluster` would otherwise be given the ports of another one, and its callers.
        server.listen({ ...at, exclusive: true }, () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.callback<void>((resume) => {
          for (const caller of callers) caller.destroy()
          server.close(() => resume(Effect.void))
        })
    )
  }

  return {
    wayOut: (from, at) => listen(at, (caller) => arrive(caller, from)),
    wayIn: (from, to, at) => listen(at, (caller) => connect(caller, from, to)),
    disturb: (rule) => {
      rules.add(rule)
      rulesChanged()
    },
    settle: (rule) => {
      if (rules.delete(rule)) rulesChanged()
    }
  }
}
