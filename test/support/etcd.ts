/**
 * One real etcd for tests of the layers below `EtcdProcess`: started with plain flags, gone when the scope closes.
 *
 * It comes from `ETCD_BINARY`, or from the `PATH`.
 */
import { type ChildProcess, spawn } from "node:child_process"
import * as net from "node:net"
import * as path from "node:path"
import process from "node:process"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Target, Tls } from "../../src/internal/grpc/Transport.ts"
import { freePort, temporaryDirectory } from "./machine.ts"
import { fixture, trusted } from "./tls.ts"

export interface Etcd {
  readonly target: Target
  readonly signal: (signal: NodeJS.Signals) => void
}

export type Listener = "unix" | "tcp" | "tls"

const secureFlags = [
  ["--cert-file", fixture.path("server.pem")],
  ["--key-file", fixture.path("server.key")],
  ["--trusted-ca-file", fixture.path("ca.pem")],
  ["--client-cert-auth"]
].flat()

const flags = (clientUrl: string, advertised: string, more: ReadonlyArray<string>) => [
  ...["--listen-client-urls", clientUrl, "--advertise-client-urls", advertised],
  ...["--listen-peer-urls", "unix://peer.sock:0", "--initial-advertise-peer-urls", "http://localhost:2380"],
  ...["--initial-cluster", "default=http://localhost:2380", "--data-dir", "d"],
  ...["--log-outputs", "stdout", "--logger", "zap", "--heartbeat-interval", "5", "--election-timeout", "25"],
  // Which 3.4.28 and newer ones of 3.4 cannot serve on a socket.
  "--enable-grpc-gateway=false",
  ...more
]

const accepts = (target: Target): Effect.Effect<void, string> =>
  Effect.callback((resume) => {
    const socket = target._tag === "Tcp" ? net.connect(target.port, target.host) : net.connect(target.path)
    socket.once("connect", () => {
      socket.destroy()
      resume(Effect.void)
    })
    socket.once("error", (error) => resume(Effect.fail(error.message)))
  })

export const exited = (child: ChildProcess): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
  })

/** Starts the etcd that the tests are about. */
export const spawnEtcd = (args: ReadonlyArray<string>, cwd: string): Effect.Effect<ChildProcess> =>
  Effect.callback((resume) => {
    const child = spawn(process.env.ETCD_BINARY ?? "etcd", args, { cwd, env: {}, stdio: "ignore" })
    child.once("error", (error) => resume(Effect.die(error)))
    child.once("spawn", () => resume(Effect.succeed(child)))
  })

const start = (args: ReadonlyArray<string>, cwd: string): Effect.Effect<ChildProcess, never, Scope.Scope> =>
  Effect.acquireRelease(spawnEtcd(args, cwd), (child) =>
    Effect.suspend(() => {
      child.kill("SIGKILL")
      return exited(child)
    })
  )

/** The client certificate that etcd wants when it listens with TLS. */
export const clientTls: Tls = trusted({ certificate: true })

/** Starts etcd, and waits until it takes connections. */
export const etcd = Effect.fnUntraced(function* (listener: Listener, more: ReadonlyArray<string> = []) {
  const directory = yield* temporaryDirectory
  const port = yield* freePort
  const target: Target =
    listener === "unix"
      ? { _tag: "Unix", path: path.join(directory, "client.sock:0") }
      : { _tag: "Tcp", host: "127.0.0.1", port, ...(listener === "tls" ? { tls: clientTls } : {}) }
  const scheme = listener === "tls" ? "https" : "http"
  const args =
    listener === "unix"
      ? flags("unix://client.sock:0", "http://localhost:0", more)
      : flags(`${scheme}://127.0.0.1:${port}`, `${scheme}://127.0.0.1:${port}`, [
          ...(listener === "tls" ? secureFlags : []),
          ...more
        ])
  const child = yield* start(args, directory)
  yield* accepts(target).pipe(Effect.retry(Schedule.spaced(10)), Effect.orDie)
  const node: Etcd = { target, signal: (signal) => void child.kill(signal) }
  return node
})
