/**
 * `npm run bench -- [startup] [kv] [watch] [scan] [--only get|put|watch|scan|startup] [--quick] [--json FILE]`: measures, beside named rivals, in one
 * run. Without a name all of it.
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import { kv } from "./kv.ts"
import { scan, watch } from "./reading.ts"
import { startup } from "./startup.ts"
import type { Row } from "./support.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean", default: false }, only: { type: "string" }, json: { type: "string" } }
})

const scenarios: Record<string, Effect.Effect<ReadonlyArray<Row>, unknown>> = {
  startup,
  kv: kv({ quick: values.quick, only: values.only }),
  watch: watch(values.quick),
  scan: scan(values.quick)
}

const unknown = positionals.filter((name) => !(name in scenarios))
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(", ")}; there are: ${Object.keys(scenarios).join(", ")}`)
  process.exit(2)
}

const { only } = values
const asked = only === undefined ? positionals : [only in scenarios ? only : "kv"]
const chosen = asked.length > 0 ? asked : Object.keys(scenarios)
const rows: Array<Row> = []
for (const name of chosen) rows.push(...(await Effect.runPromise(scenarios[name]!)))
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
