/**
 * What is drawn as tables, and what is not shown.
 */
import type { Run } from "../run.ts"
import { type Html, html } from "./html.ts"
import { faultsOf, rolesOf } from "./lanes.ts"
import type { Second } from "./series.ts"
import { second } from "./time.ts"
import { count, counted, millis } from "./words.ts"

const table = (
  title: string,
  heads: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string | number>>
): Html =>
  html`<details><summary>${title} <small>${counted(rows.length, "row")}</small></summary><div class="scroll" tabindex="0" role="region" aria-label="${title}"><table><thead><tr>${heads.map((head) => html`<th>${head}</th>`)}</tr></thead><tbody>${rows.map(
    (row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`
  )}</tbody></table></div></details>`

export const tables = (run: Run, seconds: ReadonlyArray<Second>): Html => html`<section id="tables"><h2>Numbers</h2>
${table(
  "Faults",
  ["Kind", "What", "From", "To"],
  faultsOf(run).map(({ kind, to, what, window }) => [
    kind,
    what,
    second(window.from),
    to === null ? "the end" : second(window.to)
  ])
)}
${table(
  "Roles",
  ["Member", "Role", "Term", "From", "To"],
  [...rolesOf(run).values()].flatMap((spans) =>
    spans.map(({ member, role, term, window }) => [member, role, term, second(window.from), second(window.to)])
  )
)}
${table(
  "Seconds",
  ["Second", "Answered", "Not applied", "Unknown", "p50", "p99", "Longest"],
  seconds.map(({ answered, latency, "not-applied": notApplied, unknown }, index) => [
    index,
    answered,
    notApplied,
    unknown,
    ...(latency === null ? ["–", "–", "–"] : [millis(latency.p50), millis(latency.p99), millis(latency.max)])
  ])
)}
</section>`

export const leftOut = (run: Run, kept: number, found: number, drawn: number): Html => {
  const total = run.operations.length
  return html`<section id="left-out"><h2>What this page shows, and what not</h2><ul>
<li>Counts, rates and latencies are of all ${count(total)} operations. An operation counts where it ended; one that never ended, where it began. Latencies are of answered operations only, by the nearest rank.</li>
<li>${
    kept === total
      ? "All operations are in this page, and can be looked at in the timeline."
      : `Of ${count(total)} operations ${count(kept)} are in this page one by one: those of violations and around them, and an even sample of the rest. Where a window shows nothing, something may have been.`
  } Long keys, values and errors are shortened.</li>
<li>Drawings of violations show all clients that had operations then. Where some are left out, they say so.</li>
${found > drawn ? html`<li>The first ${drawn} violations are drawn; of the other ${found - drawn} there is the sentence, with its judge.</li>` : undefined}
<li>Longest unavailability is the longest time without an acknowledged write of any client. Roles are what members have said of themselves; before the first of them nothing is known.</li>
</ul></section>`
}
