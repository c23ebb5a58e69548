/**
 * Workers as processes that are watched over: what they say, and what befalls them.
 */
import type { ChildProcess } from "node:child_process"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import type { Instant, Operation } from "./history.ts"
import { type Said, type Settings, stopBetween, type Told } from "./protocol.ts"

/** What a watch delivered. */
export interface Watched {
  readonly watch: string
  readonly prefix: string
  readonly from: number
  readonly told: Array<Told>
}

export type Mirrored = Extract<Said, { readonly _tag: "Mirrored" }>
export type Acquired = Extract<Said, { readonly _tag: "Acquired" }>
export type Held = Extract<Said, { readonly _tag: "Held" }>

/** An operation, and what its caller would wait for at the longest. */
export interface Timed extends Operation {
  readonly deadline: number
  readonly after: number | undefined
}

/** A time at which a worker did not run. */
export interface Stop {
  readonly worker: string
  readonly from: Instant
  readonly to: Instant
}

/** What is known of all workers. */
export interface Record {
  readonly operations: Map<number, Timed>
  readonly watches: Map<string, Watched>
  readonly mirrored: Array<Mirrored>
  readonly held: Array<Held>
  readonly acquired: Array<Acquired>
  readonly stops: Array<Stop>
  readonly problems: Array<string>
  readonly processes: Array<ChildProcess>
}

export const newRecord = (): Record => ({
  operations: new Map(),
  watches: new Map(),
  mirrored: [],
  held: [],
  acquired: [],
  stops: [],
  problems: [],
  processes: []
})

/** A process, and those that come after it. */
export interface Worker {
  readonly place: string
  readonly endpoints: Settings["endpoints"]
  /** That of the process that runs. */
  name: string
  child: ChildProcess
  isReady: boolean
  /** Whether it has stopped itself. */
  hasStopped: boolean
  isStopAwaited: boolean
}

export const make = (place: string, endpoints: Settings["endpoints"]): Worker => ({
  place,
  endpoints,
  name: "",
  child: undefined!,
  isReady: false,
  hasStopped: false,
  isStopAwaited: false
})

const hear = (worker: Worker, record: Record, said: Said): void => {
  switch (said._tag) {
    case "Ready":
      worker.isReady = true
      return
    case "Begun": {
      const { after, at, call, client, deadline, id } = said
      const result = { outcome: "unknown", error: "its client was killed" } as const
      record.operations.set(id, { id, client, deadline, after, begun: at, ended: null, call, result })
      return
    }
    case "Ended": {
      const { at, id, result } = said
      record.operations.set(id, { ...record.operations.get(id)!, ended: at, result })
      return
    }
    case "Watching":
      record.watches.set(said.watch, { ...said, told: [] })
      return
    case "Watched":
      if (record.watches.has(said.watch)) record.watches.get(said.watch)!.told.push(said.told)
      else record.problems.push(`the watch ${said.watch} has delivered something before it was there`)
      return
    case "Mirrored":
      record.mirrored.push(said)
      return
    case "Held":
      record.held.push(said)
      return
    case "Acquired":
      record.acquired.push(said)
      return
    case "Stopping":
      if (worker.isStopAwaited) worker.hasStopped = true
      // Whoever told it to is not there any more.
      else Programs.letGoOn(worker.child)
      return
    case "Problem":
      record.problems.push(`${worker.name}: ${said.what}`)
      return
    case "Stalled":
      record.stops.push({ worker: worker.place, from: said.from, to: said.to })
      return
    case "Left":
      if (said.what.length > 0) record.problems.push(`${worker.name} has left ${said.what.join(", ")}`)
  }
}

/** Starts its process. */
export const begin = (worker: Worker, record: Record, settings: Settings): void => {
  const file = join(import.meta.dirname, "worker.ts")
  const child = Programs.begin<Said>(file, settings, (said) => hear(worker, record, said), ["--expose-gc"])
  record.processes.push(child)
  worker.name = settings.name
  worker.child = child
  worker.isReady = false
}

/** It stands still, since now, until the scope closes. */
const standing = ({ child, place }: Worker, record: Record) =>
  Effect.acquireRelease(Effect.sync(Programs.now), (from) =>
    Effect.sync(() => {
      child.kill("SIGCONT")
      record.stops.push({ worker: place, from, to: Programs.now() })
    })
  )

/** Stands still until the scope closes. */
export const pause = (worker: Worker, record: Record) =>
  Effect.andThen(
    standing(worker, record),
    Effect.sync(() => worker.child.kill("SIGSTOP"))
  )

/** As {@link pause}, from when it is about to write under a lock. Fails if it has none for long. */
export const pauseBetween = (worker: Worker, record: Record) =>
  Effect.gen(function* () {
    worker.hasStopped = false
    worker.isStopAwaited = true
    worker.child.stdin!.write(`${stopBetween}\n`)
    yield* Effect.timeout(
      until(() => worker.hasStopped),
      "5 seconds"
    )
    yield* standing(worker, record)
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        worker.isStopAwaited = false
      })
    )
  )

export const kill = ({ child }: Worker) =>
  Effect.andThen(
    Effect.sync(() => child.kill("SIGKILL")),
    until(() => Programs.hasEnded(child))
  )
