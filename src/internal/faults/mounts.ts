/**
 * Disks of a size for members, without root: a file system in memory for each, mounted over its data directory where nobody
 * else sees it, in a namespace of mounts.
 *
 * A process holds the namespace, whether etcd runs or not: a shell that reads from a pipe whose other end only this process
 * has. It ends as that does, however it does; and with it and etcd, which its guard ends, the namespace goes, and all that is
 * mounted in it. etcd is started through `nsenter`, which becomes etcd, so that it has the process id that it would have.
 *
 * (Facts: `user_namespaces(7)`, `mount_namespaces(7)`, `unshare(1)`, `nsenter(1)`. The files are reached from outside by
 * `/proc/<pid>/root`.)
 *
 * @internal
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"

/** This machine, or this user, cannot. */
export class CannotMount extends Data.TaggedClass("CannotMount")<{
  readonly why: string
}> {}

export interface Mounts {
  /** A command that becomes the one that comes after it, which has the disks. */
  readonly through: ReadonlyArray<string>
  /** How this process comes to a path on one of them. */
  readonly reach: (path: string) => string
  /** Mounts another one, over a directory that is there, unless there is one. Answers whether there is one then. */
  readonly mount: (directory: string) => Effect.Effect<boolean>
  /** Whether there is one. */
  readonly has: (directory: string) => boolean
}

const mounting = (size: string, directory: string) =>
  `mount -t tmpfs -o "size=${size},mode=0700" effect-etcd "${directory}"`

const holder = [
  `trap "" HUP INT TERM`,
  `size=$1`,
  `shift`,
  `for directory; do`,
  `  ${mounting("$size", "$directory")} || exit`,
  `done`,
  `echo mounted`,
  `while read -r _; do :; done`
].join("\n")

const unshare = ["--user", "--map-root-user", "--mount", "--", "/bin/sh", "-c", holder, "effect-etcd-disks"]

const cannot = ({ message }: PlatformError.PlatformError) => new CannotMount({ why: message })

const textOf = <E>(bytes: Stream.Stream<Uint8Array, E>) =>
  Effect.orElseSucceed(Stream.mkString(Stream.decodeText(bytes)), () => "")

/** Mounts a disk over each directory, as long as the scope lives. `workingDirectory`: that of what is started. */
export const make = (
  workingDirectory: string,
  directories: ReadonlyArray<string>,
  bytes: number
): Effect.Effect<Mounts, CannotMount, Scope.Scope | ChildProcessSpawner.ChildProcessSpawner> =>
  Effect.gen(function* () {
    const { pid, stderr, stdout } = yield* ChildProcess.make("unshare", [...unshare, String(bytes), ...directories], {
      stdin: { stream: "pipe", endOnDone: false },
      killSignal: "SIGKILL"
    })
    if (Option.isNone(yield* Stream.runHead(stdout))) {
      return yield* Effect.fail(new CannotMount({ why: (yield* textOf(stderr)).trim() }))
    }
    const enter = ["nsenter", "--user", "--mount", "--preserve-credentials", "--target", String(pid), "--"]
    const [command, ...args] = enter as [string, ...Array<string>]
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const own = new Set(directories)
    const sh = ["/bin/sh", "-c", `grep -q " $2 " /proc/self/mounts || ${mounting("$1", "$2")}`, "effect-etcd-disks"]
    return {
      has: (directory: string) => own.has(directory),
      mount: (directory: string) =>
        Effect.flatMap(
          ChildProcess.make(command, [...args, ...sh, String(bytes), directory], { stdin: "ignore" }),
          ({ exitCode }) => exitCode
        ).pipe(
          Effect.scoped,
          Effect.provideService(ChildProcessSpawner.ChildProcessSpawner, spawner),
          Effect.map((code) => Number(code) === 0),
          Effect.orElseSucceed(() => false),
          Effect.tap((mounted) => Effect.sync(() => (mounted ? own.add(directory) : own.delete(directory))))
        ),
      through: [...enter, "/bin/sh", "-c", `cd -- "$0" && exec "$@"`, workingDirectory],
      reach: (path: string) => `/proc/${pid}/root${path}`
    }
  }).pipe(Effect.catchTag("PlatformError", (error) => Effect.fail(cannot(error))))

/** Whether this machine, and this user, can: it is tried. */
export const canMount: Effect.Effect<boolean, never, FileSystem.FileSystem | ChildProcessSpawner.ChildProcessSpawner> =
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-" })
    const { through } = yield* make(directory, [directory], 1024 * 1024)
    const [command = "", ...args] = through
    const { exitCode } = yield* ChildProcess.make(command, [...args, "true"], { stdin: "ignore" })
    return (yield* exitCode) === 0
  }).pipe(
    Effect.scoped,
    Effect.orElseSucceed(() => false)
  )
