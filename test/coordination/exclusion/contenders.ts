/**
 * Contenders as processes that are watched over: what they say, and what befalls them.
 */
import type { ChildProcess } from "node:child_process"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import { until } from "../../support/machine.ts"
import * as Programs from "../../support/programs.ts"
import type { Link } from "./link.ts"
import { type Said, type Settings, stopBetween } from "./protocol.ts"
import type { Stop, Work } from "./verdict.ts"

/** What is known of all contenders. */
export interface Record {
  readonly works: Array<Work>
  readonly stops: Array<Stop>
  /** How works and acquisitions ended, and why, counted. */
  readonly ends: Map<string, number>
  readonly processes: Array<ChildProcess>
}

export const newRecord = (): Record => ({ works: [], stops: [], ends: new Map(), processes: [] })

/** A process, and those that come after it. */
export interface Contender {
  readonly link: Link
  /** The process that runs. Its works are said to be this one's. */
  name: string
  child: ChildProcess
  isReady: boolean
  /** The locks that it had read under, when it stopped itself, and with which token. */
  stopped: { readonly token: number; readonly locks: ReadonlyArray<string>; readonly at: number } | undefined
  isStopAwaited: boolean
  /** Whether something befalls it. */
  isBusy: boolean
}

export const make = (link: Link): Contender => ({
  link,
  name: "",
  child: undefined!,
  isReady: false,
  stopped: undefined,
  isStopAwaited: false,
  isBusy: false
})

const count = (counts: Map<string, number>, what: string): void => void counts.set(what, (counts.get(what) ?? 0) + 1)

const hear = (contender: Contender, record: Record, open: Map<number, Work>, said: Said): void => {
  const { name } = contender
  switch (said._tag) {
    case "Ready":
      contender.isReady = true
      return
    case "Entered": {
      const { at, locks, token } = said
      const work: Work = {
        contender: name,
        token,
        locks,
        from: at,
        to: Number.POSITIVE_INFINITY,
        outcome: undefined
      }
      open.set(token, work)
      record.works.push(work)
      return
    }
    case "Stopping":
      contender.stopped = said
      if (contender.isStopAwaited) return
      // Whoever told it to is not there any more.
      record.stops.push({ contender: name, from: said.at, to: Programs.now() })
      Programs.letGoOn(contender.child)
      return
    case "Left":
      open.get(said.token)!.to = said.at
      return
    case "Returned":
      open.get(said.token)!.outcome = said.outcome
      open.delete(said.token)
      count(record.ends, said.why === "" ? said.outcome : `${said.outcome}: ${said.why}`)
      return
    case "NotAcquired":
      count(record.ends, `not acquired: ${said.why}`)
      return
    case "Overrun":
      count(record.ends, "overrun")
      return
    case "Stalled":
      record.stops.push({ contender: name, from: said.from, to: said.to })
  }
}

/** Starts its process; what came to nothing because that was killed ends then. */
export const begin = (contender: Contender, record: Record, name: string, settings: Settings): void => {
  const open = new Map<number, Work>()
  const file = join(import.meta.dirname, "contender.ts")
  const child = Programs.begin<Said>(file, settings, (said) => hear(contender, record, open, said))
  record.processes.push(child)
  contender.name = name
  contender.child = child
  contender.isReady = false
  contender.stopped = undefined
  child.once("exit", () => {
    const at = Programs.now()
    // What it has said is read first.
    child.once("close", () => {
      for (const work of open.values()) if (work.to === Number.POSITIVE_INFINITY) work.to = at
    })
  })
}

/** Sends SIGSTOP, and SIGCONT when something has passed. */
export const freezeWhile = ({ child, name }: Contender, record: Record, passing: Effect.Effect<void>) =>
  Effect.suspend(() => {
    const from = Programs.now()
    child.kill("SIGSTOP")
    return Effect.ensuring(
      passing,
      Effect.sync(() => {
        record.stops.push({ contender: name, from, to: Programs.now() })
        child.kill("SIGCONT")
      })
    )
  })

/** Lets it stop between reading and writing, until something has passed. */
export const stopBetweenWhile = (
  contender: Contender,
  record: Record,
  passing: (locks: ReadonlyArray<string>, token: number) => Effect.Effect<void>
) =>
  Effect.suspend(() => {
    const { child, name } = contender
    contender.stopped = undefined
    contender.isStopAwaited = true
    child.stdin!.write(`${stopBetween}\n`)
    return until(() => contender.stopped !== undefined || Programs.hasEnded(child)).pipe(
      Effect.andThen(
        Effect.suspend(() =>
          contender.stopped === undefined ? Effect.void : passing(contender.stopped.locks, contender.stopped.token)
        )
      ),
      // It may have said so when nobody waits for it any more, and then not stand still yet.
      Effect.ensuring(
        Effect.sync(() => {
          contender.isStopAwaited = false
          if (contender.stopped === undefined) return
          record.stops.push({ contender: name, from: contender.stopped.at, to: Programs.now() })
          Programs.letGoOn(child)
        })
      )
    )
  })
