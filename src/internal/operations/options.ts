/**
 * What may be said of an operation.
 *
 * @internal
 */
import type { Options } from "../../EtcdOperations.ts"
import * as Checks from "../options.ts"

export const ofOperation: Checks.Checks<Options> = { dryRun: Checks.flag, onProgress: Checks.callback }

export const aMember: Checks.Check = {
  accepts: (value) => Checks.text("").accepts(value) || Checks.id("").accepts(value),
  due: "the name of a member, as text, or its id"
}
