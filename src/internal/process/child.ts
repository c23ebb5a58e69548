/**
 * An etcd child process that cannot outlive its host.
 *
 * A process that dies by SIGKILL runs no finalizer, so the child needs a guard that is not in the host. The child starts
 * as a shell that forks a guard and then becomes etcd (`exec`, so the process id stays). The guard reads from a pipe
 * whose other end only the host holds: when the host ends, however it ends, the read ends, and the guard kills etcd and
 * removes its temporary directory. When etcd ends first, the host writes a line, which tells the guard to go.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** How a process ended: one of the two is not null. */
export interface ExitStatus {
  readonly code: number | null
  readonly signal: string | null
}

export interface Child {
  readonly pid: number
  readonly stdout: Stream.Stream<Uint8Array, PlatformError.PlatformError>
  readonly stderr: Stream.Stream<Uint8Array, PlatformError.PlatformError>
  readonly exit: Effect.Effect<ExitStatus>
  /** Tells the guard that etcd has ended. */
  readonly dismissGuard: Effect.Effect<void>
}

export interface Options {
  readonly command: string
  readonly args: ReadonlyArray<string>
  /** Set for the child; every other `ETCD_` variable that this process has is withheld. */
  readonly environment: Readonly<Record<string, string>>
  readonly workingDirectory: string
  /** Removed by the guard when the host dies. */
  readonly temporaryDirectory: string | undefined
  readonly gracePeriodMillis: number
}

const guard = [
  `trap "" HUP INT TERM`,
  `read -r line`,
  `[ -n "$line" ] || { kill -KILL "$1"; [ -z "$2" ] || rm -rf -- "$2" || { sleep 1; rm -rf -- "$2"; }; }`
].join("; ")

// With setsid where there is one: a guard in etcd's process group would keep the group alive, as a zombie, until init
// reaps it, which in a container may take a second or for ever, and the spawner waits for the group.
const guarded = [
  `command -v setsid >/dev/null && apart=setsid || apart=`,
  `$apart /bin/sh -c '${guard}' sh $$ "$1" <&3 >/dev/null 2>&1 3<&- &`,
  `shift`,
  `exec "$@" 3<&-`
].join("\n")

const command = (options: Options) => {
  const inherited = Object.keys(globalThis.process.env).filter((name) => name.startsWith("ETCD_"))
  const common: ChildProcess.CommandOptions = {
    cwd: options.workingDirectory,
    env: { ...Object.fromEntries(inherited.map((name) => [name, undefined])), ...options.environment },
    extendEnv: true,
    stdin: "ignore",
    killSignal: "SIGTERM",
    forceKillAfter: options.gracePeriodMillis
  }
  return globalThis.process.platform === "win32"
    ? ChildProcess.make(options.command, options.args, common)
    : ChildProcess.make(
        "/bin/sh",
        ["-c", guarded, "sh", options.temporaryDirectory ?? "", options.command, ...options.args],
        { ...common, additionalFds: { fd3: { type: "input" } } }
      )
}

const signalOf = (error: PlatformError.PlatformError): string => {
  const cause = error.reason.cause
  return /signal: '(SIG[A-Z0-9]+)'/.exec(cause instanceof Error ? cause.message : "")?.[1] ?? "unknown"
}

/**
 * Starts the child. Closing the scope sends SIGTERM, and SIGKILL after the grace period, and waits for the end.
 */
export const spawn = (
  options: Options
): Effect.Effect<Child, PlatformError.PlatformError, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner> =>
  Effect.map(command(options), (handle) => ({
    pid: handle.pid,
    stdout: handle.stdout,
    stderr: handle.stderr,
    exit: Effect.match(handle.exitCode, {
      onSuccess: (code): ExitStatus => ({ code, signal: null }),
      onFailure: (error): ExitStatus => ({ code: null, signal: signalOf(error) })
    }),
    dismissGuard: Stream.make(new TextEncoder().encode("done\n")).pipe(Stream.run(handle.getInputFd(3)), Effect.ignore)
  }))

/** Signals etcd itself and not its guard. A process that is gone is no error. */
export const signal = (pid: number, signal: ChildProcess.Signal): Effect.Effect<void> =>
  Effect.ignore(Effect.try(() => globalThis.process.kill(pid, signal)))
