/**
 * Who holds a file, or a directory, as the system tells it (`flock(1)`): a lock that ends with whoever has it, however that
 * ends. Where the system has none, nobody holds anything.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Stream from "effect/Stream"

/** What it ends with where somebody else has the lock. */
const isHeld = 1

/** Whether a process has a file open and locked, as etcd has its database as long as it runs. */
export const isLocked = (file: string) =>
  ChildProcess.make("flock", ["-n", "-s", file, "true"], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "ignore"
  }).pipe(
    Effect.flatMap(({ exitCode }) => exitCode),
    Effect.map((code) => code === isHeld),
    Effect.scoped,
    Effect.orElseSucceed(() => false)
  )

/**
 * It is waited for a moment: who was killed has it until the last child has noticed. It ends when nobody can write to it any
 * more. Of options it has those that busybox knows, whose `flock` ends as where the lock is held for any other.
 */
const holding = `exec 9<"$1"
for each in 1 2 3 4 5 6; do
  flock -n 9
  code=$?
  [ $code = 0 ] && echo && exec cat >/dev/null
  [ $code = ${isHeld} ] || break
  sleep 0.1
done
exit $code`

/** Holds a directory until the scope closes, or this process ends; answers whether somebody else does. */
export const hold = (directory: string) =>
  Effect.gen(function* () {
    const child = yield* ChildProcess.make("sh", ["-c", holding, "sh", directory], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "ignore",
      killSignal: "SIGKILL"
    })
    const said = yield* Stream.runHead(child.stdout)
    return Option.isSome(said) || (yield* child.exitCode) !== isHeld
  }).pipe(
    Effect.orElseSucceed(() => true),
    Effect.map((isOurs) => !isOurs)
  )
