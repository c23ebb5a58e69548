/**
 * What is left of a host that dies: a guard, which ends its etcd and removes its temporary directory.
 *
 * A process that dies by SIGKILL runs no finalizer, so the guard is a process of its own: a shell that reads from a pipe
 * whose other end only the host holds. When the host ends, however it ends, the read ends. The guard lives longer than the
 * directory, and not only as long as a run: while etcd is stopped, or waits to be started again, there is a directory.
 *
 * It is told of each run before that becomes etcd (see `child.ts`), so that there is no moment in which etcd runs and
 * nobody watches over it. The host has started it, and waits for its end: a guard that etcd had for a parent would be
 * left to the first process of the machine, and in a container that may be the host, which would keep it as a zombie.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as ChildProcess from "effect/process/ChildProcess"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import { isWindows } from "../binary/settings.ts"
import * as Failures from "./failures.ts"

export interface Guard {
  /** From now on the process group goes with the host. */
  readonly watch: (pid: number) => Effect.Effect<void>
  /** Nothing runs any more. */
  readonly rest: Effect.Effect<void>
}

const script = [
  `trap "" HUP INT TERM`,
  `group=`,
  `while read -r word value; do`,
  `  case "$word" in`,
  `    watch) group=$value ;;`,
  `    rest) group= ;;`,
  `  esac`,
  `done`,
  `[ -z "$group" ] || kill -s KILL -- "-$group"`,
  // What etcd was writing when it was killed may be there a moment later.
  `[ -z "$1" ] || rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }`
].join("\n")

const none: Guard = { watch: () => Effect.void, rest: Effect.void }

/** Starts a guard, which is killed when the scope closes. On Windows there is none. */
export const make = (
  temporaryDirectory: string | undefined
): Effect.Effect<Guard, EtcdProcessError.EtcdProcessError, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner> => {
  if (isWindows) return Effect.succeed(none)
  const command = ChildProcess.make("/bin/sh", ["-c", script, "effect-etcd-guard", temporaryDirectory ?? ""], {
    stdin: { stream: "pipe", endOnDone: false },
    stdout: "ignore",
    stderr: "ignore",
    // It ignores what else would end it.
    killSignal: "SIGKILL"
  })
  return Effect.map(Effect.mapError(command, Failures.noShell), ({ stdin }) => {
    const tell = (line: string) => Effect.ignore(Stream.run(Stream.make(new TextEncoder().encode(`${line}\n`)), stdin))
    return { watch: (pid) => tell(`watch ${pid}`), rest: tell("rest") }
  })
}
