/**
 * What each judge has said.
 */
import type { Run, Verdict } from "../run.ts"
import type { Finding } from "./findings.ts"
import { type Html, html } from "./html.ts"
import { issueLink, mostDrawn, rowId } from "./violations.ts"
import { counted, millis } from "./words.ts"

/** As many sentences as are shown at once. */
const mostSentences = 10

/** As many operations as a sentence leads to. */
const mostLinks = 8

const operationLinks = (finding: Finding): Html | undefined => {
  const { operations } = finding.violation
  if (operations.length === 0) return undefined
  const links = operations
    .slice(0, mostLinks)
    .map((id) => html`<a href="#${finding.number > mostDrawn ? "timeline" : rowId(finding, id)}">#${id}</a> `)
  const rest = operations.length - mostLinks
  return html`<small>operations ${links}${rest > 0 ? `and ${rest} more` : undefined}</small>`
}

/** One that is not drawn is where it is said. */
const sentence = (finding: Finding): Html => {
  const { issue, number, violation } = finding
  const isKnown = issue !== undefined
  return html`<li class="${isKnown ? "expected" : "violated"}"${number > mostDrawn ? html` id="violation-${number}"` : undefined}><a href="#violation-${number}"><span class="badge">${number}</span> ${violation.kind}</a>${isKnown ? html` <small>expected: ${issueLink(issue)}</small>` : undefined} <p>${violation.message}</p>${operationLinks(finding)}</li>`
}

const sentences = (findings: ReadonlyArray<Finding>): Html | undefined => {
  if (findings.length === 0) return undefined
  const list = (some: ReadonlyArray<Finding>) => html`<ul>${some.map(sentence)}</ul>`
  const rest = findings.slice(mostSentences)
  return html`${list(findings.slice(0, mostSentences))}${
    rest.length > 0 ? html`<details><summary>${rest.length} more</summary>${list(rest)}</details>` : undefined
  }`
}

const judgement = (findings: ReadonlyArray<Finding>): Html => {
  const unexpected = findings.filter(({ issue }) => issue === undefined).length
  if (unexpected > 0) return html`<span class="pill violated">✕ ${counted(unexpected, "violation")}</span>`
  if (findings.length > 0) return html`<span class="pill expected">✓ ${findings.length} expected</span>`
  return html`<span class="pill passed">✓ passed</span>`
}

const judgeRow = (verdict: Verdict, findings: ReadonlyArray<Finding>): Html =>
  html`<section class="judge"><h3>${verdict.judge} ${judgement(findings)}</h3>
<p>${verdict.examined} <small>in ${millis(verdict.millis)}</small></p>${sentences(findings)}</section>`

export const judges = (run: Run, findings: ReadonlyArray<Finding>): Html => {
  const names = new Set(run.verdicts.map(({ judge }) => judge))
  const others = findings.filter(({ judge }) => !names.has(judge))
  return html`<section id="judges"><h2>Judges</h2><div class="judges">
${run.verdicts.map((verdict) =>
  judgeRow(
    verdict,
    findings.filter(({ judge }) => judge === verdict.judge)
  )
)}
${others.length > 0 ? html`<section class="judge"><h3>Expected ${judgement(others)}</h3><p>what this version of etcd is known for</p>${sentences(others)}</section>` : undefined}
${run.verdicts.length === 0 ? html`<p class="note">Nobody has judged this run.</p>` : undefined}
</div></section>`
}
