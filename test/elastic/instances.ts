/**
 * Instances as processes that are watched over: what they say, and what befalls them.
 */
import type { ChildProcess } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import type * as EtcdMember from "../../src/EtcdMember.ts"
import { until } from "../support/machine.ts"
import * as Programs from "../support/programs.ts"
import { leave, quiet, type Said, type Settings } from "./protocol.ts"

/** What is known of all instances. */
export interface Record {
  /** Writes that were acknowledged, with their revisions. */
  readonly written: Map<string, string>
  /** Why others were not, counted. */
  readonly unwritten: Map<string, number>
  readonly clusterIds: Set<string>
  readonly processes: Array<ChildProcess>
  /** What should not have been said. */
  readonly problems: Array<string>
}

export const newRecord = (): Record => ({
  written: new Map(),
  unwritten: new Map(),
  clusterIds: new Set(),
  processes: [],
  problems: []
})

/** An instance, in whatever process it is. */
export interface Instance {
  readonly name: string
  child: ChildProcess | undefined
  state: EtcdMember.State["_tag"] | undefined
  reason: string
  /** The process of its etcd. */
  pid: number | undefined
  /** What it has said of leaving. */
  answer: "Left" | "Stays" | undefined
  /** Whether something befalls it. */
  isBusy: boolean
}

export const make = (name: string): Instance => ({
  name,
  child: undefined,
  state: undefined,
  reason: "",
  pid: undefined,
  answer: undefined,
  isBusy: false
})

export const isRunning = ({ child }: Instance): boolean => child !== undefined && !Programs.hasEnded(child)

export const hasPlace = (instance: Instance): boolean =>
  isRunning(instance) && (instance.state === "Voter" || instance.state === "Learner" || instance.state === "Client")

const hear = (instance: Instance, record: Record, said: Said): void => {
  switch (said._tag) {
    case "State":
      instance.state = said.state
      instance.reason = said.reason ?? ""
      instance.pid = said.pid
      if (said.clusterId !== undefined) record.clusterIds.add(said.clusterId)
      return
    case "Written":
      record.written.set(said.key, said.revision)
      return
    case "Unwritten":
      record.unwritten.set(said.why, (record.unwritten.get(said.why) ?? 0) + 1)
      return
    case "Left":
    case "Stays":
      instance.answer = said._tag
      return
    case "Failed":
      record.problems.push(`${instance.name} failed: ${said.why}`)
  }
}

export const begin = (instance: Instance, record: Record, settings: Omit<Settings, "name" | "prefix">): void => {
  const prefix = `written/${instance.name}/${record.processes.length}/`
  instance.state = undefined
  instance.answer = undefined
  instance.pid = undefined
  const child = Programs.begin<Said>(
    join(import.meta.dirname, "instance.ts"),
    { ...settings, name: instance.name, prefix } satisfies Settings,
    (said) => {
      // What a process has said that is gone counts, but not as the state of the next one.
      if (instance.child === child || said._tag !== "State") hear(instance, record, said)
    },
    ["--conditions=effect-etcd-source"]
  )
  instance.child = child
  record.processes.push(child)
}

const ended = (instance: Instance) => until(() => !isRunning(instance))

export const kill = (instance: Instance): Effect.Effect<void> =>
  Effect.suspend(() => {
    instance.child?.kill("SIGKILL")
    return ended(instance)
  })

/** Ends it as its program would. */
export const stop = (instance: Instance): Effect.Effect<void> =>
  Effect.suspend(() => {
    instance.child?.stdin?.end()
    return ended(instance)
  })

const tell =
  (what: string) =>
  (instance: Instance): Effect.Effect<void> =>
    Effect.sync(() => void (isRunning(instance) && instance.child!.stdin!.write(`${what}\n`)))

export const tellToLeave = (instance: Instance): Effect.Effect<void> =>
  Effect.suspend(() => {
    instance.answer = undefined
    return tell(leave)(instance)
  })
export const tellToBeQuiet = tell(quiet)

export const loseData = (instance: Instance, directory: string): Effect.Effect<void> =>
  Effect.sync(() => rmSync(join(directory, instance.name), { recursive: true, force: true }))
