/**
 * Another process that is asked by a line on its stdin, and answers with a line on its stdout.
 */
import { Effect, Queue, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { BenchError, benchError } from "./support.ts"

/** Sends a line, and waits for the answer. One at a time. */
export type Ask = (line: string) => Effect.Effect<string, BenchError>

/** Such a process. */
export interface Asked {
  readonly ask: Ask
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

/**
 * Starts the process. It lives as long as the scope, or until its stdin ends because this process has, however it
 * ended.
 */
export const spawnAsked = (name: string, command: string, args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const requests = yield* Queue.unbounded<string>()
    const answers = yield* Queue.unbounded<string, BenchError>()
    const child = yield* ChildProcess.make(command, args, {
      stdin: Stream.encodeText(Stream.fromQueue(requests)),
      stderr: "inherit",
      forceKillAfter: "1 second"
    }).pipe(Effect.mapError((cause) => benchError(name, cause)))
    yield* child.stdout.pipe(
      Stream.decodeText,
      Stream.splitLines,
      Stream.runForEach((line) => Queue.offer(answers, line)),
      Effect.exit,
      Effect.andThen(Queue.fail(answers, new BenchError({ message: `${name}: its process has ended` }))),
      Effect.forkScoped
    )
    const asked: Asked = {
      ask: (line) => Effect.andThen(Queue.offer(requests, `${line}\n`), Queue.take(answers)),
      signal: (signal) => Effect.sync(() => process.kill(child.pid, signal))
    }
    return asked
  })

/** The same, where nothing but questions are put to it. */
export const spawnLines = (name: string, command: string, args: ReadonlyArray<string>) =>
  Effect.map(spawnAsked(name, command, args), ({ ask }) => ask)
