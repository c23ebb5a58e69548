/**
 * What is in a lock, which is nobody else's business.
 *
 * @internal
 */
import type * as Effect from "effect/Effect"
import type * as Line from "./line.ts"

export interface Parts<Lost> {
  readonly places: ReadonlyArray<Line.Place>
  readonly fence: boolean
  readonly overrun: ((lost: Lost) => Effect.Effect<unknown>) | undefined
  /** What its keys hold. Undefined: who this program is. */
  readonly owner: string | undefined
  /** What is wrong with it, if anything is: said when it is to be acquired. */
  readonly problem: string | undefined
}

let host: string | undefined

/** Who this program is, and what more is to be said. */
export const self = (more?: object | undefined): string => {
  const { getBuiltinModule, pid } = globalThis.process
  host ??= getBuiltinModule("node:os").hostname()
  return JSON.stringify({ host, pid, ...more })
}
