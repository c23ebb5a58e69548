/**
 * Each violation with what happened around it.
 */
import type { Entry, Operation } from "../history.ts"
import type { Run } from "../run.ts"
import { type Finding, issueAddress } from "./findings.ts"
import { type Html, html } from "./html.ts"
import { axis, faultLanes, operationLanes, roleLanes } from "./lanes.ts"
import { indexOf, positionsOf, type Scene, scenesOf } from "./scenes.ts"
import { clockOf, second, short, ticksOf, windowStyle } from "./time.ts"
import { callWords, counted, keysOf, resultWords, tookWords } from "./words.ts"

/** As many as somebody would look at. Of more there is the sentence only. */
export const mostDrawn = 25

const mostScenes = 4

const mostRows = 60

/** Revisions before and after those of the operations. */
const revisionsAround = 2

export const issueLink = (issue: string): Html => {
  const address = issueAddress(issue)
  if (address === undefined) return html`${issue}`
  return html`<a href="${address}" rel="noreferrer">etcd’s issue ${address.slice(address.lastIndexOf("/") + 1)}</a>`
}

/** What there is to show of a violation. */
export interface Drawn {
  readonly finding: Finding
  readonly about: ReadonlyArray<Operation>
  readonly scenes: ReadonlyArray<Scene>
}

export const drawnOf = (run: Run, findings: ReadonlyArray<Finding>): ReadonlyArray<Drawn> => {
  const index = indexOf(run)
  return findings.slice(0, mostDrawn).map((finding) => {
    const positions = positionsOf(index, finding)
    return {
      finding,
      about: positions.map((position) => index.operations[position]!),
      scenes: scenesOf(index, positions)
    }
  })
}

export const rowId = (finding: Finding, id: number): string => `violation-${finding.number}-operation-${id}`

const windowButton = (window: { readonly from: number; readonly to: number }, text: string): Html =>
  html`<button type="button" class="to-timeline" hidden data-from="${short(window.from)}" data-to="${short(window.to)}">${text}</button>`

const legend = html`<span class="legend"><span><i class="swatch answered"></i>answered</span><span><i class="swatch not-applied"></i>not applied</span><span><i class="swatch unknown"></i>unknown</span><span><i class="swatch about"></i>of this violation</span><span><i class="swatch other"></i>of other keys (pale)</span></span>`

const sceneFigure = (run: Run, finding: Finding, about: ReadonlyArray<Operation>, scene: Scene): Html => {
  const { leftOut, operations, window } = scene
  const ids = new Set(about.map(({ id }) => id))
  const keys = new Set(about.flatMap(({ call }) => keysOf(call)))
  const looks = (operation: Operation) => {
    if (ids.has(operation.id)) {
      // The number of one at the right edge is on its left.
      const isLate = clockOf(run)(operation.ended ?? operation.begun) > window.from + (window.to - window.from) * 0.9
      return {
        kind: isLate ? "about late" : "about",
        label: html`<b>#${operation.id}</b>`,
        href: `#${rowId(finding, operation.id)}`
      }
    }
    const isRelated = keysOf(operation.call).some((key) => keys.has(key))
    return { kind: isRelated ? "related" : "other", label: undefined, href: undefined }
  }
  return html`<figure class="scene timeline" style="${windowStyle(window)}">
<figcaption><span><strong>${second(window.from)} to ${second(window.to)}</strong>, ${counted(operations.length, "operation")}${
    leftOut > 0
      ? html`; <em>${counted(leftOut, "more operation")} of this time ${leftOut === 1 ? "is" : "are"} left out</em>`
      : undefined
  }</span>${windowButton(window, "Show in the timeline")}${legend}</figcaption>
<div class="lanes">${axis("seconds", ticksOf(window).ticks)}${faultLanes(run, window)}${roleLanes(run, window)}${operationLanes(run, operations, looks)}</div>
</figure>`
}

/** Those that it is about, and others of their keys that are drawn. */
const operationRows = (run: Run, { about, finding, scenes }: Drawn): Html => {
  const clock = clockOf(run)
  const ids = new Set(about.map(({ id }) => id))
  const keys = new Set(about.flatMap(({ call }) => keysOf(call)))
  const others = scenes
    .slice(0, mostScenes)
    .flatMap(({ operations }) => operations)
    .filter(({ call, id }) => !ids.has(id) && keysOf(call).some((key) => keys.has(key)))
  const all = [...about, ...new Set(others)]
  const rows = all.slice(0, mostRows).toSorted((one, other) => one.begun - other.begun)
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Operations of violation ${finding.number}"><table>
<caption><span class="wide">Its operations, in bold, and others of their keys around them${all.length > mostRows ? html`: ${mostRows} of ${all.length}` : undefined}</span></caption>
<thead><tr><th>Operation</th><th>Client</th><th class="number">Begun</th><th class="number">Took</th><th>Call</th><th>Result</th></tr></thead>
<tbody>${rows.map(
    (operation) =>
      html`<tr${ids.has(operation.id) ? html` class="about" id="${rowId(finding, operation.id)}"` : undefined}><th scope="row">#${operation.id}</th><td>${operation.client}</td><td class="number">${second(clock(operation.begun))}</td><td class="number">${tookWords(operation)}</td><td><code>${callWords(operation.call)}</code></td><td><i class="swatch ${operation.result.outcome}"></i> ${resultWords(operation.call, operation.result)}</td></tr>`
  )}</tbody></table></div>`
}

/** What the store did with their keys at the revisions of the operations, and a little before and after. */
const entriesNear = (run: Run, about: ReadonlyArray<Operation>): ReadonlyArray<Entry> => {
  const keys = new Set(about.flatMap(({ call }) => keysOf(call)))
  const values = new Set(
    about.flatMap(({ call }) =>
      [...call.success, ...call.failure].flatMap((step) => (step.do === "put" ? [step.value] : []))
    )
  )
  const revisions = new Set(about.flatMap(({ result }) => (result.outcome === "answered" ? [result.revision] : [])))
  const ofKeys = run.entries
    .filter(({ changes }) => changes.some(({ key }) => keys.has(key)))
    .toSorted((one, other) => one.revision - other.revision)
  const near = new Set<Entry>()
  for (const [index, entry] of ofKeys.entries()) {
    const next = ofKeys[index + 1]
    const isMeant =
      entry.changes.some(({ value }) => value !== null && values.has(value)) ||
      [...revisions].some((revision) => revision >= entry.revision && (next === undefined || revision < next.revision))
    if (!isMeant) continue
    for (const around of ofKeys.slice(Math.max(0, index - revisionsAround), index + revisionsAround + 1))
      near.add(around)
  }
  return [...near].toSorted((one, other) => one.revision - other.revision)
}

const entryRows = (run: Run, finding: Finding, about: ReadonlyArray<Operation>): Html | undefined => {
  const entries = entriesNear(run, about)
  if (entries.length === 0) return undefined
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Revisions of violation ${finding.number}"><table class="narrow">
<caption><span class="wide">What the store has of their keys${entries.length > mostRows ? html`, the first ${mostRows} of ${entries.length} revisions` : undefined}</span></caption>
<thead><tr><th class="number">Revision</th><th>Changes</th></tr></thead>
<tbody>${entries
    .slice(0, mostRows)
    .map(
      ({ changes, revision }) =>
        html`<tr><th scope="row" class="number">${revision}</th><td>${changes.map(
          ({ key, value }) => html`<code>${value === null ? `delete ${key}` : `${key} = “${value}”`}</code> `
        )}</td></tr>`
    )}</tbody></table></div>`
}

/** The violation by itself: who reads it needs nothing of the rest. */
export const violationArticle = (run: Run, drawn: Drawn): Html => {
  const { about, finding, scenes } = drawn
  const { issue, judge, number, violation } = finding
  const missing = new Set(violation.operations).size - about.length
  return html`<article class="violation${issue === undefined ? "" : " expected"}" id="violation-${number}">
<h3><span class="badge">${number}</span> ${violation.kind} <small>${judge}${issue === undefined ? undefined : html`, expected: ${issueLink(issue)}`}</small></h3>
<p class="message">${violation.message}</p>
${scenes.slice(0, mostScenes).map((scene) => sceneFigure(run, finding, about, scene))}
${scenes.length > mostScenes ? html`<p class="note">Drawn are the first ${mostScenes} of the ${scenes.length} times that it is about.</p>` : undefined}
${missing > 0 ? html`<p class="note">${counted(missing, "operation")} that it is about ${missing === 1 ? "is" : "are"} not in the history.</p>` : undefined}
${about.length > 0 ? html`${operationRows(run, drawn)}${entryRows(run, finding, about)}` : html`<p class="note">It is about no operations.</p>`}
</article>`
}
