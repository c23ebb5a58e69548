/**
 * What etcd itself does, in some versions, that it should not: violations that are its, with the issue that tells of it. All
 * others are this library's until shown otherwise.
 */
import type { Violation } from "./history.ts"
import type { Band, RoleAt } from "./run.ts"

/** What befell a cluster, and who led it. */
interface Fate {
  readonly bands: ReadonlyArray<Band>
  readonly roles: ReadonlyArray<RoleAt>
}

interface Known {
  readonly issue: string
  /** The release lines of etcd that have it. */
  readonly versions: ReadonlyArray<string>
  readonly fits: (violation: Violation, fate: Fate) => boolean
}

/** How long a leader that goes on may take until it knows that there is another one, and until it is seen what it did. */
const awakeningMillis = 5000

/** Whether a member that led stood still until shortly before, and another one has come to lead since. */
const isOfFormerLeader = ({ at }: Violation, { bands, roles }: Fate): boolean =>
  at !== undefined &&
  bands.some(({ from, kind, to, what }) => {
    const end = to ?? at
    if ((kind !== "pause" && kind !== "stall") || at < from || at > end + awakeningMillis) return false
    const own = roles.filter(({ member }) => member === what)
    const hasLed = own.some(
      (one, index) => one.role === "leader" && one.at <= end && (own[index + 1]?.at ?? Number.POSITIVE_INFINITY) > from
    )
    return hasLed && roles.some((one) => one.role === "leader" && one.member !== what && one.at > from && one.at <= at)
  })

const known: ReadonlyArray<Known> = [
  {
    // A leader that goes on after it stood still, and does not know yet that there is another one, revokes leases that the
    // other has renewed. Seen with 3.5.30, 3.6.16 and 3.7.3.
    issue: "etcd-io/etcd#15247",
    versions: ["3.4", "3.5", "3.6", "3.7"],
    fits: (violation, fate) => violation.kind === "lease" && isOfFormerLeader(violation, fate)
  }
]

/** Those that are known of etcd. */
export const expected = (etcd: string, violations: ReadonlyArray<Violation>, fate: Fate) =>
  violations.flatMap((violation) => {
    const found = known.find(
      ({ fits, versions }) => versions.some((line) => etcd.startsWith(`${line}.`)) && fits(violation, fate)
    )
    return found === undefined ? [] : [{ violation, issue: found.issue }]
  })
