/**
 * `npm run bench -- SCENARIO`: measures, beside a named rival, in one run.
 */
import { Effect } from "effect"
import { startup } from "./startup.ts"

const scenarios: Record<string, Effect.Effect<void, unknown>> = { startup }

const chosen = process.argv.slice(2)
const unknown = chosen.filter((name) => !(name in scenarios))
if (unknown.length > 0) {
  console.error(`no scenario ${unknown.join(", ")}; there are: ${Object.keys(scenarios).join(", ")}`)
  process.exit(2)
}

for (const name of chosen.length > 0 ? chosen : Object.keys(scenarios)) {
  await Effect.runPromise(scenarios[name]!)
}
