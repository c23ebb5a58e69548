/**
 * Programs that a run starts, which say what they do in lines of JSON, and what they and who watches over them share.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { writeSync } from "node:fs"
import process from "node:process"
import type { Readable } from "node:stream"
import * as Effect from "effect/Effect"

/** When the first of the programs of a run was started, which those that it starts are told by their environment. */
process.env.RUN_EPOCH ??= String(process.hrtime.bigint())
const epoch = BigInt(process.env.RUN_EPOCH)

/** Milliseconds on a clock that all programs of a run share, and nobody sets, to a thousandth. */
export const now = (): number => Number((process.hrtime.bigint() - epoch) / 1000n) / 1000

/** Calls back with each line. */
export const eachLine = (input: NodeJS.ReadableStream, onLine: (line: string) => void): void => {
  let rest = ""
  input.on("data", (data) => {
    const lines = (rest + data).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) onLine(line)
  })
}

/** The file descriptor that a program says it on. */
const sayingFd = 3

/** Says something to who has started this program, and ends it where nobody hears it any more. */
export const say = (said: unknown): void => {
  try {
    writeSync(sayingFd, `${JSON.stringify(said)}\n`)
  } catch {
    process.exit(1)
  }
}

/** Starts a program with its settings as the argument. What it says is heard as long as it does. */
export const begin = <Said>(
  file: string,
  settings: object,
  hear: (said: Said) => void,
  nodeOptions: ReadonlyArray<string> = []
): ChildProcess => {
  const args = [...nodeOptions, file, JSON.stringify(settings)]
  const child = spawn(process.execPath, args, { stdio: ["pipe", "ignore", "inherit", "pipe"] })
  child.stdin!.on("error", () => {})
  eachLine(child.stdio[sayingFd] as Readable, (line) => hear(JSON.parse(line) as Said))
  return child
}

export const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/** Lets a program go on that has said that it stops itself. It may not have done so yet: so again, until it is heard. */
export const letGoOn = (child: ChildProcess): void => {
  if (hasEnded(child)) return
  child.kill("SIGCONT")
  const again = setInterval(() => child.kill("SIGCONT"), 50)
  const end = () => clearInterval(again)
  child.stdio[sayingFd]!.once("data", end)
  child.once("exit", end)
}

/** Kills all that are there by then when the scope closes, or this process ends before. */
export const killedAtLast = (children: ReadonlyArray<ChildProcess>) => {
  const kill = () => {
    for (const child of children) child.kill("SIGKILL")
  }
  return Effect.acquireRelease(
    Effect.sync(() => process.once("exit", kill)),
    () =>
      Effect.sync(() => {
        process.off("exit", kill)
        kill()
      })
  )
}

const stallMillis = 100

/** Calls back when the event loop has stood still. It keeps no process alive. */
export const watchEventLoop = (onStall: (from: number, to: number) => void): void => {
  let last = now()
  setInterval(() => {
    const at = now()
    if (at - last > stallMillis) onStall(last, at)
    last = at
  }, stallMillis / 4).unref()
}
