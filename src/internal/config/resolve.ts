/**
 * From the options that a user gave to those that one etcd of one version is started with: the defaults filled in, and
 * all refused that etcd itself would refuse, before anything is spawned.
 *
 * @internal
 */
import type * as SemVer from "effect/SemVer"
import * as Checks from "./checks.ts"
import * as Defaults from "./defaults.ts"
import type { Problem } from "./read.ts"
import type { Values } from "./values.ts"
import * as Version from "./version.ts"

/** What came of resolving. */
export interface Outcome {
  readonly name: string
  readonly values: Values
  readonly warnings: ReadonlyArray<string>
  readonly problems: ReadonlyArray<Problem>
}

/** What the options are resolved for. */
export interface Target {
  readonly version: SemVer.SemVer
  readonly dataDir: string
  /** What relative paths of files start from. */
  readonly directory: string
}

export const resolve = (given: Values, target: Target): Outcome => {
  const { directory, version } = target
  const problems: Array<Problem> = []
  const warnings: Array<string> = []
  const name = given.name ?? "default"
  const known = Version.leaveOutImplied(given, version, problems, warnings)
  const gated = Version.foldFeatures(known, version, problems, warnings)
  const named: Values = { ...gated, name, dataDir: target.dataDir }
  const reachable = Defaults.fillPeerUrls(
    Defaults.fillClientUrls(named, version, problems, warnings),
    name,
    problems,
    warnings
  )
  const secured = Defaults.fillHttpUrls(Defaults.fillSecurity(reachable), name, version, warnings)
  const served = Defaults.fillGateway(secured, version, warnings)
  const values = Defaults.absolutePaths(Defaults.fillLogging(served, warnings), directory)
  problems.push(...Checks.problemsOf(values, version))
  warnings.push(...Checks.exposures(values))
  return { name, values, warnings, problems }
}
