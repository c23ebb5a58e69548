/**
 * Times of a run in seconds since it began, and where they are in a drawing. The style sheet places by custom
 * properties, so that the script of the page can choose another window by setting four of them.
 */
import type { Instant } from "../history.ts"
import type { Run } from "../run.ts"

/** From one time to another. */
export interface Window {
  readonly from: number
  readonly to: number
}

export type Clock = (at: Instant) => number

export const clockOf =
  (run: Run): Clock =>
  (at) =>
    (at - run.begun) / 1000

export const wholeOf = (run: Run): Window => ({ from: 0, to: Math.max(clockOf(run)(run.ended), 0.001) })

export const overlaps = (one: Window, other: Window): boolean => one.from <= other.to && one.to >= other.from

/** A number as short as it may be in markup. */
export const short = (value: number): string => String(Number(value.toFixed(5)))

export interface Ticks {
  readonly step: number
  readonly ticks: ReadonlyArray<{ readonly at: number; readonly text: string }>
}

/** Round times in a window, at most as many. The script of the page has its own. */
export const ticksOf = ({ from, to }: Window, most = 10): Ticks => {
  const least = (to - from) / most
  const power = 10 ** Math.floor(Math.log10(least))
  const step = power * ([1, 2, 5].find((times) => power * times >= least) ?? 10)
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9))
  const first = Math.ceil(from / step - 1e-9)
  const count = Math.floor(to / step + 1e-9) - first + 1
  return {
    step,
    ticks: Array.from({ length: count }, (_, index) => {
      const at = (first + index) * step
      return { at, text: at.toFixed(decimals) }
    })
  }
}

/** A time for a reader. */
export const second = (value: number): string => `${value.toFixed(3)}\u00a0s`

/** The style of what has things in it that are placed in time. */
export const windowStyle = (window: Window): string => {
  const { step, ticks } = ticksOf(window)
  const span = window.to - window.from
  return `--from:${short(window.from)};--span:${short(span)};--step:${short(step)};--first:${short(ticks[0]?.at ?? 0)}`
}

/** The style of what is placed in time. */
export const placeStyle = (from: number, to = from): string => `--a:${short(from)};--b:${short(to)}`
