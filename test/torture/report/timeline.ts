/**
 * All that happened on one axis of time, of which the script of the page shows any window.
 */
import type { Run } from "../run.ts"
import type { Finding } from "./findings.ts"
import { type Html, html } from "./html.ts"
import { axis, densityLanes, faultLanes, faultsOf, lane, roleLanes, rolesOf } from "./lanes.ts"
import { latencies, outcomeLegend, throughput } from "./plots.ts"
import type { Second } from "./series.ts"
import { clockOf, placeStyle, second, ticksOf, wholeOf, windowStyle } from "./time.ts"
import { mostDrawn } from "./violations.ts"
import { millis } from "./words.ts"

/** Each violation where the first of its operations began. There is room for the numbers of those that are drawn. */
const flags = (run: Run, findings: ReadonlyArray<Finding>): Html | undefined => {
  if (findings.length === 0) return undefined
  const clock = clockOf(run)
  const begun = new Map(run.operations.map((operation) => [operation.id, clock(operation.begun)]))
  const marks = findings.toReversed().map(({ issue, number, violation }) => {
    const times = violation.operations.flatMap((id) => begun.get(id) ?? [])
    if (times.length === 0) return undefined
    const first = times.reduce((one, other) => Math.min(one, other))
    const isDrawn = number <= mostDrawn
    return html`<a class="flag ${issue === undefined ? "violated" : "expected"}${isDrawn ? "" : " small"}" href="#violation-${number}" style="${placeStyle(first)}" title="violation ${number}: ${violation.kind}, from ${second(first)}">${isDrawn ? number : html`&nbsp;`}</a>`
  })
  return lane("flags", "violations", marks)
}

const roleLegend = (run: Run): Html => {
  const roles = [...new Set(run.roles.map(({ role }) => role))]
  return html`<span class="legend">${roles.map((role) => html`<span><i class="swatch role ${role}"></i>${role}</span>`)}</span>`
}

const toolbar = html`<div id="toolbar" hidden>
<div id="overview" aria-hidden="true"><svg preserveAspectRatio="none"><path class="answered filled"/></svg><div id="chosen"></div></div>
<div class="tools" role="group" aria-label="Window of time">
<button type="button" data-do="earlier" aria-label="Earlier">◀</button><button type="button" data-do="closer" aria-label="Closer">+</button><button type="button" data-do="wider" aria-label="Wider">−</button><button type="button" data-do="later" aria-label="Later">▶</button><button type="button" data-do="whole">Whole run</button>
<label>from <input id="from" type="number" step="any" inputmode="decimal"></label><label>to <input id="to" type="number" step="any" inputmode="decimal"> s</label>
<label class="find">mark <input id="mark" type="search" placeholder="key, value, #number, error"></label>
</div>
<p id="moment">Point at a part of the timeline to read what was at that moment.</p>
</div>`

export const timeline = (run: Run, findings: ReadonlyArray<Finding>, seconds: ReadonlyArray<Second>): Html => {
  const whole = wholeOf(run)
  const faults = faultLanes(run, whole)
  const { ticks } = ticksOf(whole)
  return html`<section id="timeline"><h2>Timeline</h2>
<p class="note">Seconds since the run began. <span class="scripted" hidden>Drag over a part to look at it closely, drag the strip to move, double-click for the whole run. When few enough are in the window, single operations are drawn.</span></p>
<div class="timeline whole" id="lanes" style="${windowStyle(whole)}">
${toolbar}
<div class="lanes">${axis("seconds", ticks)}${flags(run, findings)}
<h3>Faults</h3>${faults.length > 0 ? faults : html`<p class="note">Nothing was done to it.</p>`}
<h3>Rates</h3>${throughput(run, seconds)}${latencies(run, seconds)}
<h3>Members <small>role and term</small> ${roleLegend(run)}</h3>${roleLanes(run, whole)}
<h3>Clients <small id="drawn">operations ended in each ${second(whole.to / 240)}: answered from the ground up, others from above down</small> ${outcomeLegend()}</h3>${densityLanes(run)}
${axis("seconds", ticks)}</div>
</div>
<section id="found" hidden><h3>Operations <small id="found-count"></small></h3><div class="scroll" tabindex="0" role="region" aria-label="Operations"><table><thead><tr><th>Operation</th><th>Client</th><th class="number">Begun</th><th class="number">Took</th><th>Call</th><th>Result</th></tr></thead><tbody></tbody></table></div></section>
</section>`
}

/** What the script of the page tells of a moment. */
export const momentsOf = (run: Run, findings: ReadonlyArray<Finding>, seconds: ReadonlyArray<Second>) => ({
  seconds: wholeOf(run).to,
  rates: seconds.map(({ answered, latency, "not-applied": notApplied, unknown }) => [
    answered,
    notApplied,
    unknown,
    ...(latency === null ? [] : [millis(latency.p50), millis(latency.p99), millis(latency.max)])
  ]),
  faults: faultsOf(run).map(({ kind, what, window }) => [window.from, window.to, `${kind} ${what}`]),
  roles: [...rolesOf(run).values()].flatMap((spans) =>
    spans.map(({ member, role, term, window }) => [window.from, window.to, member, role, term])
  ),
  about: [...new Set(findings.flatMap(({ violation }) => violation.operations))]
})
