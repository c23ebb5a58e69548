/**
 * etcd as a child process that cannot outlive its host.
 *
 * It starts as a shell that waits for a word, and then becomes etcd (`exec`, so the process id stays). The word comes
 * when the guard knows of it (`guard.ts`). A host that dies before has not given it, and the shell ends.
 *
 * The child leads a process group, which is signalled and ended as a whole: an `etcd` on the PATH may be a script that
 * runs etcd, as version managers have them.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdConfig from "../../EtcdConfig.ts"
import type { ExitStatus } from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { isWindows, withheldVariables } from "../binary/settings.ts"
import * as Failures from "./failures.ts"
import type { Guard } from "./guard.ts"

export interface Child {
  readonly pid: number
  readonly stdout: Stream.Stream<Uint8Array, PlatformError.PlatformError>
  readonly stderr: Stream.Stream<Uint8Array, PlatformError.PlatformError>
  readonly exit: Effect.Effect<ExitStatus>
}

export interface Options {
  readonly command: string
  readonly args: ReadonlyArray<string>
  /**
   * Set for the child, over the environment of this process; what is undefined is withheld, and so is every other option of
   * etcd.
   */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingDirectory: string
  readonly gracePeriodMillis: number
  readonly guard: Guard
}

/** What names an HTTP proxy. See `ProxyFromEnvironment` of Go's `net/http`. */
const proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]

/**
 * etcd asks its peers through the proxy that the environment names, also where their URLs are those of Unix sockets: it
 * takes the proxy for one as well, which is not there.
 */
export const withoutProxies = ({ options }: EtcdConfig.Resolved): Record<string, undefined> =>
  (options.initialAdvertisePeerUrls ?? []).every((url) => url.startsWith("unix"))
    ? Object.fromEntries(proxies.map((name) => [name, undefined]))
    : {}

/** A command that etcd is started through: it becomes what comes after it, and keeps the process id. */
export const Through: Context.Reference<ReadonlyArray<string>> = Context.Reference("effect-etcd/process/Through", {
  defaultValue: (): ReadonlyArray<string> => []
})

/** What a start waits for. Who stops the node, or waits for it no more, need not wait for that. */
export const MayStart: Context.Reference<Effect.Effect<void>> = Context.Reference("effect-etcd/process/MayStart", {
  defaultValue: () => Effect.void
})

const waiting = `read -r word <&3 && exec "$@" 3<&-`

const command = (options: Options, through: ReadonlyArray<string>) => {
  const common: ChildProcess.CommandOptions = {
    cwd: options.workingDirectory,
    env: { ...withheldVariables(), ...options.environment },
    extendEnv: true,
    stdin: "ignore",
    killSignal: "SIGTERM",
    forceKillAfter: options.gracePeriodMillis
  }
  return isWindows
    ? ChildProcess.make(options.command, options.args, common)
    : ChildProcess.make("/bin/sh", ["-c", waiting, "sh", ...through, options.command, ...options.args], {
        ...common,
        additionalFds: { fd3: { type: "input" } }
      })
}

const signalOf = (error: PlatformError.PlatformError): string => {
  const cause = error.reason.cause
  return /signal: '(SIG[A-Z0-9]+)'/.exec(cause instanceof Error ? cause.message : "")?.[1] ?? "unknown"
}

/** Signals the process and what it has started. Those that are gone are no error. */
export const signal = (pid: number, signal: ChildProcess.Signal): Effect.Effect<void> =>
  Effect.ignore(Effect.try(() => globalThis.process.kill(isWindows ? pid : -pid, signal)))

/**
 * Starts the child. Closing the scope sends SIGTERM, and SIGKILL after the grace period, and waits for the end.
 */
export const spawn = (
  options: Options
): Effect.Effect<Child, EtcdProcessError.EtcdProcessError, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner> =>
  Effect.gen(function* () {
    const failed = isWindows ? Failures.systemFailure(`start ${options.command}`) : Failures.noShell
    const handle = yield* Effect.mapError(command(options, yield* Through), failed)
    const { pid, stderr, stdout } = handle
    yield* options.guard.watch(pid)
    yield* Effect.ignore(Stream.run(Stream.make(new TextEncoder().encode("go\n")), handle.getInputFd(3)))
    const exit = Effect.match(handle.exitCode, {
      onSuccess: (code): ExitStatus => ({ code, signal: null }),
      onFailure: (error): ExitStatus => ({ code: null, signal: signalOf(error) })
    })
    // What a script has started may have outlived it.
    const endGroup = isWindows ? Effect.void : signal(pid, "SIGKILL")
    return { pid, stdout, stderr, exit: Effect.tap(exit, () => Effect.andThen(endGroup, options.guard.rest)) }
  })
