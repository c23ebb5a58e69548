/**
 * Workers as processes that are watched over: what they say, and what befalls them.
 */
import type { ChildProcess } from "node:child_process"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import type { Instant, Operation } from "./history.ts"
import { leasedPrefix, locksPrefix, type Said, type Settings, stopBetween, type Told } from "./protocol.ts"

/** What a watch delivered. */
export interface Watched {
  readonly watch: string
  readonly prefix: string
  readonly from: number
  /** Whether it is of a mirror, which may tell of all that is there at any time. */
  readonly isReplay: boolean
  readonly told: Array<Told>
}

/** What the mirror of a process had. */
export type Mirrored = Extract<Said, { readonly _tag: "Mirrored" }> & { readonly process: string }
export type Acquired = Extract<Said, { readonly _tag: "Acquired" }>
export type Held = Extract<Said, { readonly _tag: "Held" }>

/** An operation, and what its caller would wait for at the longest. */
export interface Timed extends Operation {
  readonly deadline: number
  readonly after: number | undefined
}

/** A time at which a process did not run. */
export interface Stop {
  readonly process: string
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
  /** When processes last said that they ran, by their names. */
  readonly lastRan: Map<string, Instant>
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
  lastRan: new Map(),
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
  /** Who waits until it stops itself. */
  onStopping: (() => void) | undefined
  /** Whether all that it was has ended, and nothing else ended it. */
  hasLeft: boolean
  /** When its process came to something last, by what it is. */
  readonly cameTo: Map<Deed, Instant>
}

/** What every worker comes to again and again, as long as all is well. */
export const deeds = [
  "an answer",
  "a fresh view of its mirror",
  "a lease that it holds",
  "a lock that it shares with others",
  "a lock that it holds"
] as const

type Deed = (typeof deeds)[number]

export const make = (place: string, endpoints: Settings["endpoints"]): Worker => ({
  place,
  endpoints,
  name: "",
  child: undefined!,
  isReady: false,
  onStopping: undefined,
  hasLeft: false,
  cameTo: new Map()
})

/** What a worker has come to by what it says, if it is anything. */
const deedOf = (said: Said, process: string): Deed | undefined => {
  switch (said._tag) {
    case "Ended":
      return said.result.outcome === "answered" ? "an answer" : undefined
    case "Mirrored":
      return said.asked === undefined ? undefined : "a fresh view of its mirror"
    case "Held":
      if (said.key.startsWith(leasedPrefix)) return "a lease that it holds"
      return said.key.startsWith(`${locksPrefix}${process}/`) ? "a lock that it holds" : undefined
    case "Acquired":
      return said.key.startsWith(`${locksPrefix}${process}`) ? undefined : "a lock that it shares with others"
    default:
      return undefined
  }
}

/** `process`: the name of the one that says it, which the worker may have no more when all of it is heard. */
const hear = (worker: Worker, process: string, record: Record, said: Said): void => {
  const deed = worker.name === process ? deedOf(said, process) : undefined
  if (deed !== undefined) worker.cameTo.set(deed, Programs.now())
  if ("at" in said) record.lastRan.set(process, said.at)
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
      if (record.watches.has(said.watch)) record.problems.push(`the watch ${said.watch} has begun twice`)
      else record.watches.set(said.watch, { ...said, isReplay: said.watch.endsWith(".m"), told: [] })
      return
    case "Watched":
      if (record.watches.has(said.watch)) record.watches.get(said.watch)!.told.push(said.told)
      else record.problems.push(`the watch ${said.watch} has delivered something before it was there`)
      return
    case "Mirrored":
      record.mirrored.push({ ...said, process })
      return
    case "Held":
      record.held.push(said)
      return
    case "Acquired":
      record.acquired.push(said)
      return
    case "Stopping":
      if (worker.onStopping !== undefined) worker.onStopping()
      // Whoever told it to is not there any more.
      else Programs.letGoOn(worker.child)
      return
    case "Problem":
      record.problems.push(`${process}: ${said.what}`)
      return
    case "Stalled":
      record.stops.push({ process, from: said.from, to: said.to })
      return
    case "Left":
      worker.hasLeft = true
      if (said.what.length > 0) record.problems.push(`${process} has left ${said.what.join(", ")}`)
  }
}

/** Starts its process. */
export const begin = (worker: Worker, record: Record, settings: Settings): void => {
  const file = join(import.meta.dirname, "worker.ts")
  const { name } = settings
  const child = Programs.begin<Said>(file, settings, (said) => hear(worker, name, record, said), ["--expose-gc"])
  record.processes.push(child)
  worker.name = name
  worker.cameTo.clear()
  worker.child = child
  worker.isReady = false
}

/** Stands still until the scope closes. */
export const pause = ({ child, name }: Worker, record: Record) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      child.kill("SIGSTOP")
      return Programs.now()
    }),
    (from) =>
      Effect.sync(() => {
        child.kill("SIGCONT")
        record.stops.push({ process: name, from, to: Programs.now() })
      })
  )

/** As {@link pause}, from when it is about to write under a lock. Fails if it has none for long. */
export const pauseBetween = (worker: Worker, record: Record) =>
  Effect.suspend(() => {
    const { child, name } = worker
    let from: Instant | undefined
    const onStopping = () => {
      from = Programs.now()
    }
    const told = Effect.acquireRelease(
      Effect.sync(() => {
        worker.onStopping = onStopping
        child.stdin!.write(`${stopBetween}\n`)
      }),
      // It may have said so when nobody waits for it any more, and then not stand still yet.
      () =>
        Effect.sync(() => {
          if (worker.onStopping === onStopping) worker.onStopping = undefined
          if (from === undefined) return
          record.stops.push({ process: name, from, to: Programs.now() })
          Programs.letGoOn(child)
        })
    )
    const stopped = until(() => from !== undefined)
    return Effect.andThen(told, Effect.timeout(stopped, "5 seconds"))
  })

export const kill = ({ child }: Worker) =>
  Effect.andThen(
    Effect.sync(() => child.kill("SIGKILL")),
    until(() => Programs.hasEnded(child))
  )
