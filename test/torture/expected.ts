/**
 * What etcd itself does, in some versions, that it should not: violations that are its, with the issue that tells of it. All
 * others are this library's until shown otherwise.
 */
import type { Violation } from "./history.ts"
import type { Band } from "./run.ts"

interface Known {
  readonly issue: string
  /** The release lines of etcd that have it. */
  readonly versions: ReadonlyArray<string>
  readonly fits: (violation: Violation, bands: ReadonlyArray<Band>) => boolean
}

const known: ReadonlyArray<Known> = [
  {
    // A leader that goes on after it stood still, and does not know yet that there is another one, revokes leases that the
    // other has renewed. Seen with 3.5.30, 3.6.16 and 3.7.3.
    issue: "etcd-io/etcd#15247",
    versions: ["3.4", "3.5", "3.6", "3.7"],
    fits: ({ kind }, bands) => kind === "lease" && bands.some(({ kind }) => kind === "pause" || kind === "stall")
  }
]

/** Those that are known of etcd. */
export const expected = (etcd: string, violations: ReadonlyArray<Violation>, bands: ReadonlyArray<Band>) =>
  violations.flatMap((violation) => {
    const found = known.find(
      ({ fits, versions }) => versions.some((line) => etcd.startsWith(`${line}.`)) && fits(violation, bands)
    )
    return found === undefined ? [] : [{ violation, issue: found.issue }]
  })
