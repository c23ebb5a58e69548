/**
 * `npm run bench -- [startup] [kv] [--only get|put] [--quick] [--json FILE]`: measures, beside named rivals, in one
 * run. Without a name all of it.
 */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import { Effect } from "effect"
import { kv } from "./kv.ts"
import { startup } from "./startup.ts"
import type { Row } from "./support.ts"

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: "boolean", default: false }, only: { type: "string" }, json: { type: "string" } }
})

const scenarios: Record<string, Effect.Effect<ReadonlyArray<Row>, unknown>> = {
  startup,
  kv: kv({ quick: values.quick, only: values.only })
}

const unknown = positionals.filter((name) => !(name in scenarios))
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(", ")}; there are: ${Object.keys(scenarios).join(", ")}`)
  process.exit(2)
}

const chosen = positionals.length > 0 ? positionals : values.only === undefined ? Object.keys(scenarios) : ["kv"]
const rows: Array<Row> = []
for (const name of chosen) rows.push(...(await Effect.runPromise(scenarios[name]!)))
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`)
