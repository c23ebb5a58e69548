/**
 * The programs of the guides, compiled and run as they stand (`npm run guides`).
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { guides, printWhatIsSaid } from "./support/pages.ts"

describe("the guides", () => {
  it.live(
    "have programs that print what they say",
    () => Effect.provide(printWhatIsSaid(guides), NodeServices.layer),
    600_000
  )
})
