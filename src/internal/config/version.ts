/**
 * What a version of etcd has of what was given: options that came and went, and features that were options before.
 *
 * @internal
 */
import * as Equal from "effect/Equal"
import * as SemVer from "effect/SemVer"
import type { Problem } from "./read.ts"
import { nearest } from "./read.ts"
import * as Table from "./table.ts"
import { discovers, inVersion, type Key, problem, problemIf, type Values } from "./values.ts"

/**
 * What a version does not have is a problem, unless it says what that version does anyway: files outlive the options in
 * them, and etcd's own sample still switched off what was long gone.
 */
export const leaveOutImplied = (
  given: Values,
  version: SemVer.SemVer,
  problems: Array<Problem>,
  warnings: Array<string>
): Values => {
  const left: Partial<Record<Key, unknown>> = { ...given }
  const implied: Array<Key> = []
  const here = `etcd ${SemVer.format(version)}`
  for (const key of Table.keys) {
    const missing = given[key] === undefined ? undefined : whatIsMissing(key, given[key], version)
    if (missing === undefined) continue
    if (isImplied(key, given)) implied.push(key)
    else problems.push(problem(key, `${here} ${missing.told}; it is in ${missing.range}`))
  }
  for (const key of implied) delete left[key]
  if (implied.length > 0) {
    warnings.push(
      `left out is what ${here} does not have, and does not need: ${implied.map(Table.newestName).join(", ")}`
    )
  }
  return left as Values
}

const isNone = (value: unknown) => Array.isArray(value) && value.length === 0

const whatIsMissing = (key: Key, value: unknown, version: SemVer.SemVer) => {
  const { gate, kind } = Table.get(key)
  if (key === "featureGates" || isNone(value)) return undefined
  if (Table.nameFor(key, version) === undefined && !(gate !== undefined && hasFeatureGates(version))) {
    return { told: "does not have this option", range: rangesOf(key) }
  }
  const limit = typeof value === "string" ? kind.limits[value] : undefined
  return limit === undefined || inVersion(version, limit)
    ? undefined
    : { told: `does not know "${value}"`, range: limit }
}

/** What happens when discovery fails is nothing to a node that does not discover. */
const isImplied = (key: Key, given: Values): boolean =>
  Equal.equals(Table.get(key).implied, given[key]) && !(key === "discoveryFallback" && discovers(given))

const rangesOf = (key: Key) => [...new Set(Object.values(Table.get(key).names))].join(" || ")

const hasFeatureGates = (version: SemVer.SemVer) => Table.nameFor("featureGates", version) !== undefined

const gatedKeys: ReadonlyArray<readonly [gate: string, key: Key]> = Table.keys.flatMap((key) => {
  const gate = Table.get(key).gate
  return gate === undefined ? [] : [[gate, key] as const]
})

/** From 3.6 on, features are given by `feature-gates`; before, each by a flag of its own. */
export const foldFeatures = (
  given: Values,
  version: SemVer.SemVer,
  problems: Array<Problem>,
  warnings: Array<string>
): Values => {
  const features = leaveOutFeatures(given.featureGates ?? {}, version, warnings)
  for (const [gate, key] of gatedKeys) {
    const value = given[key]
    if (value !== undefined && Object.hasOwn(features, gate) && features[gate] !== value) {
      problems.push(problem(key, `contradicts ${gate}=${features[gate]} in feature-gates`))
    }
  }
  for (const gate of Object.keys(features)) problems.push(...unknownFeature(gate, version))
  return hasFeatureGates(version) ? flagsToFeatures(given, features) : featuresToFlags(given, features)
}

const rangeOfFeature = (gate: string) => (Object.hasOwn(Table.gates, gate) ? Table.gates[gate] : undefined)

const hasFeature = (gate: string, range: string, version: SemVer.SemVer) => {
  const key = gatedKeys.find(([known]) => known === gate)?.[1]
  return inVersion(version, range) || (key !== undefined && Table.nameFor(key, version) !== undefined)
}

/** A feature that a version does not have is off there. */
const leaveOutFeatures = (
  features: Readonly<Record<string, boolean>>,
  version: SemVer.SemVer,
  warnings: Array<string>
): Readonly<Record<string, boolean>> =>
  Object.fromEntries(
    Object.entries(features).filter(([gate, on]) => {
      const range = rangeOfFeature(gate)
      if (on || range === undefined || hasFeature(gate, range, version)) return true
      warnings.push(
        `${gate}=false in feature-gates is left out: etcd ${SemVer.format(version)} does not have the feature`
      )
      return false
    })
  )

const unknownFeature = (gate: string, version: SemVer.SemVer): ReadonlyArray<Problem> => {
  const range = rangeOfFeature(gate)
  if (range === undefined) {
    const suggestion = nearest(gate, Object.keys(Table.gates))
    const hint = suggestion === undefined ? "" : `; did you mean ${suggestion}?`
    return [problem("featureGates", `${gate} is not a feature of etcd${hint}`)]
  }
  return problemIf(
    !hasFeature(gate, range, version),
    "featureGates",
    `etcd ${SemVer.format(version)} does not have the feature ${gate}; it is in ${range}`
  )
}

const flagsToFeatures = (given: Values, features: Readonly<Record<string, boolean>>): Values => {
  const { featureGates: _, ...others } = given
  const rest: Partial<Record<Key, unknown>> = others
  const all: Record<string, boolean> = { ...features }
  for (const [gate, key] of gatedKeys) {
    const value = given[key]
    delete rest[key]
    if (typeof value === "boolean") all[gate] = value
  }
  return (Object.keys(all).length === 0 ? rest : { ...rest, featureGates: all }) as Values
}

const featuresToFlags = (given: Values, features: Readonly<Record<string, boolean>>): Values => {
  const { featureGates: _, ...rest } = given
  const flags = gatedKeys.flatMap(([gate, key]) => (Object.hasOwn(features, gate) ? [[key, features[gate]]] : []))
  return { ...rest, ...Object.fromEntries(flags) }
}
