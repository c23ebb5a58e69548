/**
 * What happened in each second: how many operations ended, and how long they took.
 */
import type { Run } from "../run.ts"
import { type Content, type Html, html } from "./html.ts"
import { faultShades, lane } from "./lanes.ts"
import { type Outcome, outcomes, type Second } from "./series.ts"
import { clockOf, placeStyle, short, wholeOf } from "./time.ts"
import { count, millis } from "./words.ts"

/** A round number that is no less. */
const roundedUp = (value: number): number => {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, value)))
  return power * ([1, 1.5, 2, 3, 4, 5, 8].find((times) => power * times >= value) ?? 10)
}

/** One step a second. Heights are parts of a thousand, from the top. */
const steps = (heights: ReadonlyArray<number | null>): string => {
  let path = ""
  for (const [index, height] of heights.entries()) {
    if (height === null) continue
    const isOn = index > 0 && heights[index - 1] !== null
    path += `${isOn ? "V" : `M${index} `}${Math.round(height)}h1`
  }
  return path
}

/** What is between steps and others below them. */
const between = (upper: ReadonlyArray<number>, lower: ReadonlyArray<number>): string => {
  const back = lower.map((height) => `V${Math.round(height)}h-1`).toReversed()
  return `${steps(upper)}${back.join("")}Z`
}

interface Level {
  readonly height: number
  readonly text: string
}

const plot = (run: Run, name: Content, label: string, levels: ReadonlyArray<Level>, paths: Content): Html => {
  const seconds = wholeOf(run).to
  const { from, millis: unavailable } = run.longestUnavailability
  const begun = clockOf(run)(from)
  const gap =
    unavailable <= 0
      ? undefined
      : html`<div class="bar gap${begun > seconds / 2 ? " left" : ""}" style="${placeStyle(begun, begun + unavailable / 1000)}" title="${`the longest time without an acknowledged write: ${millis(unavailable)}`}"><span>no write for ${millis(unavailable)}</span></div>`
  return lane(
    "plot",
    name,
    html`${faultShades(run)}${gap}<svg class="over-time" viewBox="0 0 ${short(seconds)} 1000" preserveAspectRatio="none" role="img" aria-label="${label}">${levels.map(
      ({ height }) => html`<path class="level" d="M0 ${short(height)}H${Math.ceil(seconds)}"/>`
    )}${paths}</svg>${levels.map(({ height, text }) => html`<span class="level" style="--y:${short(height / 1000)}">${text}</span>`)}`
  )
}

const names: Readonly<Record<Outcome, string>> = {
  answered: "answered",
  "not-applied": "not applied",
  unknown: "unknown"
}

export const outcomeLegend = (): Html =>
  html`<span class="legend">${outcomes.map((outcome) => html`<span><i class="swatch ${outcome}"></i>${names[outcome]}</span>`)}</span>`

/** Outcomes on top of each other. */
export const throughput = (run: Run, seconds: ReadonlyArray<Second>): Html => {
  const answered = seconds.map((each) => each.answered)
  const surely = seconds.map((each) => each.answered + each["not-applied"])
  const all = seconds.map((each) => each.answered + each["not-applied"] + each.unknown)
  const most = roundedUp(all.reduce((max, total) => Math.max(max, total), 1))
  const heightOf = (value: number) => 1000 - (value / most) * 1000
  const layers = [
    ["answered", answered, seconds.map(() => 0)],
    ["not-applied", surely, answered],
    ["unknown", all, surely]
  ] as const
  return plot(
    run,
    html`Operations ended<br> <small>by second</small>${outcomeLegend()}`,
    "Operations by second and outcome. The table of seconds has the numbers.",
    [most, most / 2].map((value) => ({ height: heightOf(value), text: count(value) })),
    layers.map(
      ([outcome, upper, lower]) =>
        html`<path class="${outcome} filled" d="${between(upper.map(heightOf), lower.map(heightOf))}"/>`
    )
  )
}

const lines = ["max", "p99", "p50"] as const

/** On a logarithmic scale. */
export const latencies = (run: Run, seconds: ReadonlyArray<Second>): Html => {
  const known = seconds.flatMap(({ latency }) => (latency === null ? [] : [latency]))
  const powerOf = (value: number) => Math.log10(Math.max(value, 0.01))
  const lowest = Math.floor(known.reduce((min, { p50 }) => Math.min(min, powerOf(p50)), 0))
  const highest = Math.ceil(known.reduce((max, latency) => Math.max(max, powerOf(latency.max)), lowest + 1))
  const heightOf = (value: number) => 1000 - ((powerOf(value) - lowest) / (highest - lowest)) * 1000
  const levels = Array.from({ length: highest - lowest }, (_, index) => 10 ** (lowest + index + 1))
  return plot(
    run,
    html`Latency<br> <small>of answered, logarithmic</small><span class="legend">${lines.map((line) => html`<span><i class="line ${line}"></i>${line}</span>`)}</span>`,
    "Latency of answered operations by second: median, 99th percentile and longest. The table of seconds has the numbers.",
    levels.map((value) => ({
      height: heightOf(value),
      text: value >= 1000 ? `${value / 1000} s` : `${short(value)} ms`
    })),
    lines.map(
      (line) =>
        html`<path class="line ${line}" d="${steps(seconds.map(({ latency }) => (latency === null ? null : heightOf(latency[line]))))}"/>`
    )
  )
}
