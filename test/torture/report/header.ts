/**
 * The verdict at a glance, and what the run was.
 */
import type { Run } from "../run.ts"
import type { Finding } from "./findings.ts"
import { type Content, type Html, html } from "./html.ts"
import { clientsOf } from "./lanes.ts"
import { countsOf, latencyOf } from "./series.ts"
import { clockOf, second, wholeOf } from "./time.ts"
import { count, counted, millis } from "./words.ts"

export const summary = (run: Run, findings: ReadonlyArray<Finding>) => {
  const expected = findings.filter(({ issue }) => issue !== undefined).length
  const violations = findings.length - expected
  const also = expected === 0 ? "" : `, ${expected} expected`
  if (violations > 0) return { state: "failed", sign: "✕", title: `${counted(violations, "violation")}${also}` }
  if (run.verdicts.length === 0) return { state: "unjudged", sign: "?", title: `Not judged${also}` }
  if (expected > 0) return { state: "expected", sign: "✓", title: `Passed, ${counted(expected, "expected violation")}` }
  return { state: "passed", sign: "✓", title: "Passed" }
}

const fact = (name: string, value: Content, more?: Content): Html =>
  html`<div><dt>${name}</dt><dd>${value}${more === undefined ? undefined : html`<small>${more}</small>`}</dd></div>`

const latencyWords = (run: Run): Html => {
  const latency = latencyOf(run.operations)
  return latency === null
    ? fact("Latency", "–", "nothing was answered")
    : fact("Latency", millis(latency.p50), `median; p99 ${millis(latency.p99)}, longest ${millis(latency.max)}`)
}

export const header = (run: Run, findings: ReadonlyArray<Finding>): Html => {
  const { sign, state, title } = summary(run, findings)
  const counts = countsOf(run.operations)
  const { from, millis: unavailable } = run.longestUnavailability
  const total = run.operations.length
  const seconds = wholeOf(run).to
  return html`<header>
<div class="verdict ${state}"><span class="sign" aria-hidden="true">${sign}</span><div><p>Torture run of etcd ${run.etcd}</p><h1>${title}</h1></div></div>
<dl class="facts">
${fact("Operations", count(total), `${count(counts["not-applied"])} not applied, ${count(counts.unknown)} unknown`)}
${fact("Throughput", html`${count(counts.answered / seconds)}<abbr title="per second">/s</abbr>`, "answered, on average")}
${latencyWords(run)}
${fact("Longest unavailability", unavailable > 0 ? millis(unavailable) : "none", unavailable > 0 ? `without an acknowledged write, from ${second(clockOf(run)(from))}` : undefined)}
${fact("Ran for", `${seconds.toFixed(1)} s`, `${run.seconds} s were asked for`)}
${fact("Cluster", counted(run.members.length, "member"), `${counted(clientsOf(run.operations).size, "client")}, ${counted(run.entries.length, "revision")}`)}
${fact("Faults", count(run.bands.length), [...new Set(run.bands.map(({ kind }) => kind))].join(", "))}
${fact("Seed", run.seed, `size ${run.size}, ${run.seconds} s asked for`)}
</dl>
<p class="command"><span>Run it again</span><code id="command">${run.command}</code><button type="button" id="copy" hidden>Copy</button></p>
</header>`
}
