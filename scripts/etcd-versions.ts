/**
 * The versions of etcd to test against: `npm run etcd:versions [-- --update]`.
 *
 * Gets them into the folder `versions` of the library's cache directory, from every source that this machine can reach,
 * and lists what there is and what could not be had, with the reason. Each source is a file of `versions/`: the etcd of this
 * machine, official releases, Debian's packages, and what is built from the Go module proxy.
 *
 * What is in the cache is used as it is, offline, until `--update` asks for the newest again.
 */
import * as http from "node:http"
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import * as References from "effect/References"
import * as SemVer from "effect/SemVer"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import { debian } from "./versions/debian.ts"
import { go } from "./versions/go.ts"
import { machine } from "./versions/machine.ts"
import { releases } from "./versions/releases.ts"
import { failed, type Services, type Source } from "./versions/source.ts"

/** One version of etcd, with the executables that there are of it. */
export interface EtcdVersion {
  readonly version: SemVer.SemVer
  /** Where it is from. The first one is what is run. */
  readonly from: ReadonlyArray<string>
  readonly etcd: string
  readonly etcdctl?: string | undefined
  readonly etcdutl?: string | undefined
}

/** A source that could not give its version. */
export class Missing extends Data.TaggedError("Missing")<{
  readonly from: string
  readonly reason: string
}> {}

/** What there is to test against, newest first, and what there is not. */
export interface EtcdVersions {
  readonly found: ReadonlyArray<EtcdVersion>
  readonly missing: ReadonlyArray<Missing>
}

export interface Options {
  /** Ask every source for its newest version, also where one is in the cache. */
  readonly update?: boolean | undefined
  /** Versions or release lines: a source that surely has none of them is not asked. Default: all. */
  readonly only?: ReadonlyArray<string> | undefined
}

/** Whether a version and a release line, or two of either, can mean the same. */
const overlaps = (a: string, b: string) => a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`)

/** Whether one of the wanted versions and release lines can be `version`. */
export const isWanted = (only: ReadonlyArray<string> | undefined, version: string) =>
  only === undefined || only.some((wanted) => overlaps(wanted, version))

/** Asks a source, and runs what it gives. */
const ask = Effect.fnUntraced(function* (source: Source) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const etcd = yield* source.get.pipe(
    Effect.flatMap((found) => EtcdBinary.find({ path: found })),
    Effect.catchTag("EtcdProcessError", (error) => failed(error.message)),
    Effect.mapError(({ reason }) => new Missing({ from: source.name, reason }))
  )
  const beside = (tool: string) => path.join(path.dirname(etcd.path), tool)
  const isThere = (tool: string) => Effect.orElseSucceed(fs.exists(beside(tool)), () => false)
  const found: EtcdVersion = {
    version: etcd.version,
    from: [source.name],
    etcd: etcd.path,
    etcdctl: (yield* isThere("etcdctl")) ? beside("etcdctl") : undefined,
    etcdutl: (yield* isThere("etcdutl")) ? beside("etcdutl") : undefined
  }
  return found
})

/** The same version from two sources: what the second has is used where the first lacks it. */
const merge = (a: EtcdVersion, b: EtcdVersion): EtcdVersion => ({
  ...a,
  from: [...a.from, ...b.from],
  etcdctl: a.etcdctl ?? b.etcdctl,
  etcdutl: a.etcdutl ?? b.etcdutl
})

const distinct = (versions: ReadonlyArray<EtcdVersion>): ReadonlyArray<EtcdVersion> => {
  const byVersion = new Map<string, EtcdVersion>()
  for (const version of versions) {
    const key = SemVer.format(version.version)
    const same = byVersion.get(key)
    byVersion.set(key, same === undefined ? version : merge(same, version))
  }
  return [...byVersion.values()].sort((a, b) => SemVer.Order(b.version, a.version))
}

/** etcd 3.4 came without an etcdutl, and is given one of 3.5 (see `EtcdBinary.findUtl`). */
const withUtl = (versions: ReadonlyArray<EtcdVersion>): ReadonlyArray<EtcdVersion> => {
  const ofNext = versions.find(({ etcdutl, version }) => version.minor === 5 && etcdutl !== undefined)?.etcdutl
  return versions.map((one) => (one.version.minor === 4 ? { ...one, etcdutl: one.etcdutl ?? ofNext } : one))
}

/**
 * Every version of etcd that this machine can get, each once, newest first, and the sources that gave none. It never
 * fails: a source that cannot be reached is among `missing`. Each source has a time limit.
 */
export const get: (options?: Options) => Effect.Effect<EtcdVersions, never, Services> = Effect.fnUntraced(
  function* (options = {}) {
    const update = options.update === true
    const groups = [[machine], releases(), yield* debian(update), go(update)]
    const asked = yield* Effect.forEach(
      groups,
      (sources) =>
        Effect.partition(
          sources.filter(({ has }) => has === undefined || isWanted(options.only, has)),
          ask
        ),
      { concurrency: "unbounded" }
    )
    const found = withUtl(distinct(asked.flatMap(([passes]) => passes)))
    return {
      found: found.filter(({ version }) => isWanted(options.only, SemVer.format(version))),
      missing: asked.flatMap(([, fails]) => fails)
    }
  },
  Effect.provideService(References.MinimumLogLevel, "Error")
)

/** One line a reason, with all sources that it holds for. */
export const describeMissing = (missing: ReadonlyArray<Missing>): ReadonlyArray<string> =>
  [...Map.groupBy(missing, ({ reason }) => reason)].map(
    ([reason, sources]) => `${sources.map(({ from }) => from).join(", ")}: ${reason.replaceAll("\n", "\n    ")}`
  )

/** What {@link get} needs. A proxy is taken from the environment (`HTTPS_PROXY`). */
export const services = Layer.unwrap(
  Effect.sync(() => {
    http.setGlobalProxyFromEnv()
    return Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)
  })
)

const list = Effect.gen(function* () {
  const { found, missing } = yield* get({ update: process.argv.includes("--update") })
  for (const { version, from, etcd, etcdutl } of found) {
    yield* Console.log(`etcd ${SemVer.format(version)} (${from.join("; ")}): ${etcd}`)
    yield* Console.log(`  etcdutl: ${etcdutl ?? "none"}`)
  }
  for (const line of describeMissing(missing)) yield* Console.log(`not to be had: ${line}`)
})

if (import.meta.main) list.pipe(Effect.provide(services), NodeRuntime.runMain)
