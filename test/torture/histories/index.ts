/**
 * Histories by hand, by which judges of linearizability are judged.
 */
import { crowds } from "./crowds.ts"
import type { History } from "./notation.ts"
import { reads } from "./reads.ts"
import { transactions } from "./transactions.ts"
import { unknowns } from "./unknowns.ts"

export type { History } from "./notation.ts"

export const histories: ReadonlyArray<History> = [...reads, ...unknowns, ...transactions, ...crowds]
