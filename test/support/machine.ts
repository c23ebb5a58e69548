/**
 * What tests borrow from the machine: a free port, a directory that goes with the scope, processes that stand still, and
 * time in which nothing moves.
 */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

// Below those that the system gives to whoever connects or asks for any: nobody takes one before etcd listens there.
const lowestPort = 10_000
const highestPort = 32_000

export const freePort = Effect.callback<number>((resume) => {
  const look = () => {
    const port = lowestPort + Math.floor(Math.random() * (highestPort - lowestPort))
    const server = createServer().once("error", look)
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(port))))
  }
  look()
})

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-etcd-test-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** The variable of the environment has this value until the scope closes. */
export const variable = (name: string, value: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = process.env[name]
      process.env[name] = value
      return before
    }),
    (before) =>
      Effect.sync(() => {
        if (before === undefined) delete process.env[name]
        else process.env[name] = before
      })
  )

/** A directory for temporary directories, to see what is left in it. */
export const ownTemporaryDirectory = Effect.tap(temporaryDirectory, (directory) => variable("TMPDIR", directory))

/** Keeps the event loop for so many milliseconds, and leaves the processor to others. */
export const standStill = (millis: number): Effect.Effect<void> =>
  Effect.sync(() => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, millis))

/** Waits, in real time, until something holds. */
export const until = (holds: () => boolean): Effect.Effect<void> =>
  Effect.callback((resume) => {
    let timer: NodeJS.Timeout | undefined
    const look = () => {
      if (holds()) resume(Effect.void)
      else timer = setTimeout(look, 2)
    }
    look()
    return Effect.sync(() => clearTimeout(timer))
  })

/** Whether the process runs. One that has ended and waits for its parent to notice does not. */
export const isAlive = (pid: number): boolean =>
  /^[^Z]/.test(String(execFileSync("sh", ["-c", `ps -o stat= -p ${pid} || true`])).trim())

/** The state of each thread of a process, or of the process where the system does not tell of threads. */
const states = (pid: number): ReadonlyArray<string> => {
  if (process.platform !== "linux") return [String(execFileSync("ps", ["-o", "stat=", "-p", String(pid)])).trim()]
  return readdirSync(`/proc/${pid}/task`).map((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8").replace(/^.*\) /s, "")
  )
}

/** Waits until a process that was sent SIGSTOP stands still: it goes on for a moment, and may answer. */
export const standing = (pid: number): Effect.Effect<void> =>
  until(() => states(pid).every((state) => /^[Tt]/.test(state)))

interface Process {
  readonly pid: Effect.Effect<Option.Option<number>>
  readonly signal: (signal: "SIGSTOP") => Effect.Effect<void>
}

/** Makes a node stand still, until it is sent SIGCONT. */
export const freeze = (node: Process): Effect.Effect<void> =>
  Effect.gen(function* () {
    const pid = yield* node.pid
    yield* node.signal("SIGSTOP")
    if (Option.isSome(pid)) yield* standing(pid.value)
  })

/**
 * Starts a node again that was killed, as often as it takes: etcd 3.6 panics now and then where it is to lead before raft
 * knows how much has been applied, and that much of the log has gone already (`hasUnappliedConfChanges` in
 * `go.etcd.io/raft/v3/raft.go`).
 */
export const startAgain = <E extends { readonly message: string }, R>(node: {
  readonly start: Effect.Effect<unknown, E, R>
}) =>
  Effect.retry(node.start, {
    while: ({ message }) => message.includes("error scanning unapplied entries"),
    times: 10
  })
