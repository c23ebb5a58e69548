/**
 * Real etcd nodes for the client's tests, with the faults that the client must live through.
 */
import type { ChildProcess } from "node:child_process"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as EtcdClient from "../../../src/EtcdClient.ts"
import { Maintenance } from "../../../src/internal/proto/rpc_pb.ts"
import { exited, spawnEtcd } from "../etcd.ts"
import { freePort, standing, temporaryDirectory } from "../machine.ts"

export interface Node {
  readonly name: string
  readonly endpoint: string
  readonly start: Effect.Effect<void>
  /** SIGKILL, and waits until it is gone. */
  readonly kill: Effect.Effect<void>
  /** SIGTERM, and waits until it is gone; one that hangs is killed, as what runs it does. */
  readonly stop: Effect.Effect<void>
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
}

export interface Options {
  readonly flags?: ReadonlyArray<string> | undefined
  readonly scheme?: "http" | "https" | undefined
  /** Listens on a Unix socket instead of TCP. */
  readonly socket?: boolean | undefined
  /** How the test itself asks whether the node serves. */
  readonly client?: Partial<EtcdClient.Options> | undefined
}

interface Ports {
  readonly name: string
  readonly client: number
  readonly peer: number
}

const makeNode = Effect.fnUntraced(function* (ports: Ports, initialCluster: string, options: Options) {
  const directory = yield* temporaryDirectory
  const tcp = `${options.scheme ?? "http"}://127.0.0.1:${ports.client}`
  // etcd takes a socket only in the shape of a host and a port; the name of the file has both, in its own directory.
  const endpoint = options.socket === true ? `unix://${join(directory, "client.sock:0")}` : tcp
  const listen = options.socket === true ? "unix://client.sock:0" : tcp
  const peer = `http://127.0.0.1:${ports.peer}`
  const flags = [
    ["--name", ports.name],
    ["--data-dir", join(directory, "data")],
    ["--listen-client-urls", listen],
    ["--advertise-client-urls", tcp],
    ["--listen-peer-urls", peer],
    ["--initial-advertise-peer-urls", peer],
    ["--initial-cluster", initialCluster],
    ["--heartbeat-interval", "20"],
    ["--election-timeout", "200"],
    ["--logger", "zap"],
    ["--log-outputs", "stdout"],
    // Which 3.4.28 and newer ones of 3.4 cannot serve on a socket.
    ["--enable-grpc-gateway=false"],
    options.flags ?? []
  ].flat()
  let child: ChildProcess | undefined
  const end = (signal: NodeJS.Signals) =>
    Effect.suspend(() => {
      if (child === undefined) return Effect.void
      const ending = child
      child = undefined
      ending.kill(signal)
      ending.kill("SIGCONT")
      return Effect.timeoutOrElse(exited(ending), {
        duration: "30 seconds",
        orElse: () =>
          Effect.andThen(
            Effect.sync(() => void ending.kill("SIGKILL")),
            exited(ending)
          )
      })
    })
  const signal = (name: NodeJS.Signals) => Effect.sync(() => void child?.kill(name))
  /** Again where it ends by itself: while it was down, somebody else may have been given one of its ports for a while. */
  const start: Effect.Effect<void> = Effect.map(spawnEtcd(flags, directory), (started) => {
    child = started
    started.once("exit", () => setTimeout(() => (child === started ? Effect.runFork(start) : undefined), 100))
  })
  const node: Node = {
    name: ports.name,
    endpoint,
    start,
    kill: end("SIGKILL"),
    stop: end("SIGTERM"),
    pause: Effect.andThen(
      signal("SIGSTOP"),
      Effect.suspend(() => (child?.pid === undefined ? Effect.void : standing(child.pid)))
    ),
    resume: signal("SIGCONT")
  }
  yield* Effect.addFinalizer(() => node.kill)
  yield* node.start
  return node
})

/** Waits until the node answers. */
export const serving = (node: Node, options: Options = {}): Effect.Effect<void> =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* EtcdClient.make({ ...options.client, endpoints: [node.endpoint] })
      yield* client.unary(Maintenance.method.status, {}, { deadline: "1 second" })
    })
  ).pipe(Effect.retry(Schedule.spaced("20 millis")), Effect.orDie)

/** Waits until the node has a leader. */
export const leading = (nodes: ReadonlyArray<Node>, options: Options = {}): Effect.Effect<Node> =>
  Effect.scoped(
    Effect.gen(function* () {
      const client = yield* EtcdClient.make({ ...options.client, endpoints: nodes.map((node) => node.endpoint) })
      for (const node of nodes) {
        const answer = yield* Effect.exit(
          client.unary(Maintenance.method.status, {}, { endpoint: node.endpoint, deadline: "1 second" })
        )
        if (answer._tag === "Success" && answer.value.leader === answer.value.header?.memberId) return node
      }
      return yield* Effect.fail("no leader yet" as const)
    })
  ).pipe(Effect.retry(Schedule.spaced("20 millis")), Effect.orDie)

const ports = (name: string) =>
  Effect.map(Effect.all([freePort, freePort]), ([client, peer]) => ({ name, client, peer }))

/** Nodes that are one cluster and serve. */
export const cluster = (size: number, options: Options = {}): Effect.Effect<ReadonlyArray<Node>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const all = yield* Effect.forEach(
      Array.from({ length: size }, (_, index) => `n${index}`),
      ports
    )
    const initialCluster = all.map(({ name, peer }) => `${name}=http://127.0.0.1:${peer}`).join(",")
    const nodes = yield* Effect.forEach(all, (own) => makeNode(own, initialCluster, options))
    yield* Effect.forEach(nodes, (node) => serving(node, options), { concurrency: "unbounded" })
    yield* leading(nodes, options)
    return nodes
  })

/** A node of its own that serves. */
export const node = (options: Options = {}): Effect.Effect<Node, never, Scope.Scope> =>
  Effect.map(cluster(1, options), ([only]) => only!)
