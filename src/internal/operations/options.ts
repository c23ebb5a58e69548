/**
 * What may be said of an operation.
 *
 * @internal
 */
import type { Options } from "../../EtcdOperations.ts"
import * as Checks from "../options.ts"

/** How many voters a cluster has at most: as many as etcd's guide has for sensible, since each write waits for a majority. */
export const mostVoters = 7

/** Said where a cluster has two voters, or is to have. */
export const twoVoters =
  "A cluster of two members stands still when it has lost one of them, whichever it is. Three survive the loss of one."

export const ofOperation: Checks.Checks<Options> = { dryRun: Checks.flag, onProgress: Checks.callback }

export const aMember: Checks.Check = {
  accepts: (value) => Checks.text("").accepts(value) || Checks.id("").accepts(value),
  due: "the name of a member, as text, or its id"
}
