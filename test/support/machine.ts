/**
 * What tests borrow from the machine: a free port, a directory that goes with the scope, and time in which nothing moves.
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Option } from "effect"
import type { EtcdProcess } from "effect-etcd"

export const freePort = Effect.callback<number>((resume) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-etcd-test-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** Keeps the event loop for so many milliseconds, and leaves the processor to others. */
export const standStill = (millis: number): Effect.Effect<void> =>
  Effect.sync(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

/** The state of each thread of a process, or of the process where the system does not tell of threads. */
const states = (pid: number): ReadonlyArray<string> => {
  if (process.platform !== "linux") return [String(execFileSync("ps", ["-o", "stat=", "-p", String(pid)])).trim()]
  return readdirSync(`/proc/${pid}/task`).map((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8").replace(/^.*\) /s, "")
  )
}

/** Waits, in real time, until a process that was sent SIGSTOP stands still: it goes on for a moment, and may answer. */
export const standing = (pid: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    let timer: NodeJS.Timeout | undefined
    const look = () => {
      if (states(pid).every((state) => /^[Tt]/.test(state))) resume(Effect.void)
      else timer = setTimeout(look, 1)
    }
    look()
    return Effect.sync(() => clearTimeout(timer))
  })

/** Makes a node stand still, until it is sent SIGCONT. */
export const freeze = (node: Pick<EtcdProcess.Node, "pid" | "signal">): Effect.Effect<void> =>
  Effect.gen(function* () {
    const pid = yield* node.pid
    yield* node.signal("SIGSTOP")
    if (Option.isSome(pid)) yield* standing(pid.value)
  })
