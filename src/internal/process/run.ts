/**
 * One run of etcd, from its start to the last line that it has printed.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type * as PlatformError from "effect/PlatformError"
import type * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as EtcdLog from "../../EtcdLog.ts"
import type { ExitStatus } from "../../EtcdProcess.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as LogFailures from "../log/failures.ts"
import * as Child from "./child.ts"
import type { History } from "./history.ts"
import type { Logging } from "./logging.ts"
import type { WatchRole } from "./watchRole.ts"

const lastLinesKept = 20

/** What the run has said so far, as far as starting and ending are concerned. */
export interface Output {
  readonly lastLines: Array<string>
  readonly account: LogFailures.Account
  readonly ready: Latch.Latch
  /** Opens when a failure is told that etcd would wait for and not end by. */
  readonly stuck: Latch.Latch
  member: EtcdLog.LocalMember | undefined
  /** Whether it has named another member. */
  hasPeers: boolean
}

export const makeOutput = (): Output => ({
  lastLines: [],
  account: LogFailures.makeAccount(),
  ready: Latch.makeUnsafe(false),
  stuck: Latch.makeUnsafe(false),
  member: undefined,
  hasPeers: false
})

const peerPattern = /"remote-peer-id"|rafthttp: starting peer /

export const remember = (output: Output, event: EtcdLog.Event): void => {
  output.lastLines.push(event.line)
  if (output.lastLines.length > lastLinesKept) output.lastLines.shift()
  if (event._tag === "Ready") output.ready.openUnsafe()
  if (event._tag === "LocalMember") output.member = event
  if (peerPattern.test(event.line)) output.hasPeers = true
  LogFailures.hear(output.account, event)
  if (event._tag === "Failure" && event.reason._tag === "DataDirInUse" && !output.ready.isOpen()) {
    output.stuck.openUnsafe()
  }
}

export interface Run {
  readonly pid: number
  readonly output: Output
  /** Completes when the process has ended and all that it printed has been read. */
  readonly ended: Effect.Effect<ExitStatus>
  /** Ends the process and waits for it. */
  readonly close: Effect.Effect<ExitStatus>
}

/** For so long after the end of the process what it has printed is read, if somebody still holds its pipes. */
const readOn = "1 second"

/** Who takes the events of the run, one after the other: nothing that a logger does comes before the role. */
export interface Takers {
  readonly withoutSecrets: (event: EtcdLog.Event) => EtcdLog.Event
  readonly history: History<EtcdLog.Event>
  readonly watched: WatchRole
  readonly logged: Logging
}

/**
 * Starts etcd. Whatever befalls an event, the next one is read: an etcd whose pipe is full answers nobody.
 *
 * Events that are read after the end are nobody's.
 */
export const start = (
  options: Child.Options,
  { history, logged, watched, withoutSecrets }: Takers
): Effect.Effect<Run, EtcdProcessError.EtcdProcessError, ChildProcessSpawner.ChildProcessSpawner> =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const child = yield* Child.spawn(options).pipe(
      Scope.provide(scope),
      Effect.onError(() => Scope.close(scope, Exit.void))
    )
    const output = makeOutput()
    const take = (line: EtcdLog.Line) =>
      Effect.suspend(() => {
        const event = withoutSecrets(EtcdLog.fromLine(line))
        remember(output, event)
        history.publish(event)
        return Effect.andThen(watched.take(event), logged.take(event))
      }).pipe(Effect.ignoreCause)
    const read = (bytes: Stream.Stream<Uint8Array, PlatformError.PlatformError>) => {
      const reader = EtcdLog.makeLineReader()
      const takeAll = (lines: ReadonlyArray<EtcdLog.Line>) => Effect.forEach(lines, take, { discard: true })
      return Stream.runForEach(bytes, (chunk) => takeAll(reader.push(chunk))).pipe(
        Effect.ignore,
        Effect.andThen(Effect.suspend(() => takeAll(reader.end())))
      )
    }
    const readers = yield* Effect.forkDetach(
      Effect.all([read(child.stdout), read(child.stderr)], { concurrency: 2, discard: true })
    )
    const ending = yield* child.exit.pipe(
      Effect.tap(() => Effect.timeoutOption(Fiber.await(readers), readOn)),
      Effect.tap(() => Fiber.interrupt(readers)),
      Effect.forkDetach
    )
    const ended = Fiber.join(ending)
    return { pid: child.pid, output, ended, close: Effect.andThen(Scope.close(scope, Exit.void), ended) }
  })
