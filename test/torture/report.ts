/**
 * The report of a torture run: one page that stands alone. It tells its verdict at a glance, and has what it takes to
 * find out how a violation came to be: faults, roles and operations on one axis of time.
 */
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { findingsOf } from "./report/findings.ts"
import { header, summary } from "./report/header.ts"
import { html, json, raw } from "./report/html.ts"
import { judges } from "./report/judges.ts"
import { leftOut, tables } from "./report/numbers.ts"
import { packed } from "./report/packed.ts"
import { bySecond } from "./report/series.ts"
import { momentsOf, timeline } from "./report/timeline.ts"
import { type Drawn, drawnOf, violationArticle } from "./report/violations.ts"
import type { Run } from "./run.ts"

const readPart = (name: string): string => readFileSync(join(import.meta.dirname, "report", name), "utf8")

/** Operations that are in drawings of violations. */
const idsIn = (drawn: ReadonlyArray<Drawn>): ReadonlySet<number> =>
  new Set(
    drawn.flatMap(({ about, scenes }) => [...about, ...scenes.flatMap((scene) => scene.operations)]).map(({ id }) => id)
  )

/** The only script that the page may run. */
const hashOf = (script: string): string => `'sha256-${createHash("sha256").update(script).digest("base64")}'`

/** The whole page. */
export const report = (run: Run): string => {
  const findings = findingsOf(run)
  const seconds = bySecond(run)
  const drawn = drawnOf(run, findings)
  const single = packed(run, idsIn(drawn))
  const script = readPart("page.js")
  const { title } = summary(run, findings)
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src ${raw(hashOf(script))}; base-uri 'none'; form-action 'none'">
<title>${title}: etcd ${run.etcd}, seed ${run.seed}</title>
<style>${raw(readPart("page.css"))}</style>
</head>
<body>
<main>
${header(run, findings)}
<nav aria-label="On this page"><a href="#judges">Judges</a><a href="#timeline">Timeline</a>${findings.length > 0 ? html`<a href="#violations">Violations</a>` : undefined}<a href="#tables">Numbers</a><a href="#left-out">What is left out</a></nav>
${judges(run, findings)}
${timeline(run, findings, seconds)}
${drawn.length > 0 ? html`<section id="violations"><h2>Violations</h2>${drawn.map((each) => violationArticle(run, each))}</section>` : undefined}
${tables(run, seconds)}
${leftOut(run, single.kept, findings.length, drawn.length)}
</main>
<div id="tip" hidden></div>
<script type="application/json" id="data">${json(momentsOf(run, findings, seconds))}</script>
<script type="text/plain" id="operations">${raw(single.base64)}</script>
<script>${raw(script)}</script>
</body>
</html>
`.markup
}
