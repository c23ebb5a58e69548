/**
 * What all parts of a worker share: what it was told when it started, how it says what it does, and that it is over.
 */
import process from "node:process"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { EtcdError } from "../../../src/EtcdError.ts"
import type { KeyValue } from "../../../src/EtcdResponse.ts"
import * as Programs from "../../support/programs.ts"
import type { Random } from "../../support/random.ts"
import type { Result, Value } from "../history.ts"
import { type Said, type Settings, stopBetween, valueOf } from "../protocol.ts"

export const settings = JSON.parse(process.argv[2]!) as Settings

export const say = (said: Said): void => Programs.say(said)

let isEnding = false
let isToStop = false

/** Whether it was told to end. */
export const isOver = (): boolean => isEnding

/** Whether it was told to stand still where it is about to write under a lock, which it is to do once. */
export const takeStop = (): boolean => {
  const isMeant = isToStop
  isToStop = false
  return isMeant
}

/** Hears what it is told, until that is to end. */
export const told = Effect.callback<void>((resume) => {
  Programs.eachLine(process.stdin, (line) => {
    if (line === stopBetween) isToStop = true
  })
  process.stdin.on("end", () => {
    isEnding = true
    resume(Effect.void)
  })
})

/** Again and again until it is told to end. */
export const turns = <E, R>(turn: Effect.Effect<unknown, E, R>) => Effect.repeat(turn, { while: () => !isEnding })

export const pick = <A>(random: Random, among: ReadonlyArray<A>): A => among[random(among.length)]!

/** Any group, or one of a few in which operations meet. */
export const aGroup = (random: Random): number =>
  random(random(2) === 0 ? settings.groups : Math.min(2, settings.groups))

export const textOf = (kv: KeyValue | undefined): Value => (kv === undefined ? null : valueOf(kv.valueString))

/** What became of an operation that has failed. What no failure of this library's may be is a problem. */
export const failed = (cause: Cause.Cause<unknown>): Result => {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (error instanceof EtcdError) return { outcome: error.outcome, error: error.reason._tag }
  if (Cause.isTimeoutError(error)) return { outcome: "unknown", error: "it was given up" }
  const what = Cause.pretty(cause)
  say({ _tag: "Problem", what: `an operation ended with ${what}` })
  return { outcome: "unknown", error: what }
}
