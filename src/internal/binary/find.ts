/**
 * Where an etcd may be, in order.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import type { EtcdBinary, FindOptions } from "../../EtcdBinary.ts"
import * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Executable from "./executable.ts"
import * as Package from "./package.ts"
import * as Releases from "./releases.ts"
import { cacheDirectory, isWindows, setting } from "./settings.ts"
import { probe } from "./version.ts"

type Services = FileSystem.FileSystem | Path.Path | ChildProcessSpawner

/** The executable that somebody named: it is used, or it is an error. */
const named = Effect.fnUntraced(function* (source: string, value: string, remedy: string) {
  const path = (yield* Path.Path).resolve(value)
  const file = yield* Executable.runnableAt(path)
  if (Result.isSuccess(file)) return yield* probe(file.success)
  return yield* Effect.fail(
    EtcdProcessError.make(
      new EtcdProcessError.BinaryNotFound({
        message: `${source} is ${JSON.stringify(value)}, which ${file.failure.why}. ${remedy}`,
        searched: [path]
      })
    )
  )
})

/** The executable of a release that was just fetched, or found whole. */
export const fetched = ({ path }: EtcdBinary) =>
  named("The etcd that was fetched", path, "Give another cacheDirectory.")

/** Where it was looked for in vain, and why what is there is not it. */
type Searched = Array<string>

const passOver = (searched: Searched, path: string, { isMissing, why }: Executable.Unusable) =>
  searched.push(isMissing ? path : `${path}, which ${why}`)

const onPath = Effect.fnUntraced(function* (searched: Searched) {
  const path = yield* Path.Path
  const directories = ((yield* setting("PATH")) ?? "").split(isWindows ? ";" : ":")
  for (const directory of directories) {
    if (directory === "") continue
    const candidate = path.resolve(directory, isWindows ? "etcd.exe" : "etcd")
    const file = yield* Executable.runnableAt(candidate)
    if (Result.isSuccess(file)) return yield* probe(file.success)
    passOver(searched, candidate, file.failure)
  }
  return undefined
})

/** What is there and cannot be used is an error: another etcd would be another version, for data too. */
const inPackage = Effect.fnUntraced(function* (searched: Searched) {
  const own = Package.hostPackage()
  if (own === undefined) return undefined
  const directory = yield* Package.executables()
  if (directory !== undefined) {
    const path = (yield* Path.Path).join(directory, "etcd")
    return yield* named(`The etcd of the package ${own.name}`, path, "Remove the package and install it again.")
  }
  searched.push(`the package ${own.name} (not installed)`)
  return undefined
})

const cachedName = /^etcd-v(.+)-([a-z]+-[a-z0-9]+)-[0-9a-f]{12}$/

/** The fetched releases for this platform, newest first. */
const releasesIn = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const platform = Releases.hostPlatform()
  const names = yield* Effect.orElseSucceed(fs.readDirectory(directory), () => [])
  return names
    .flatMap((name) => {
      const [, text, on] = cachedName.exec(name) ?? []
      const version = text === undefined || on !== platform ? Option.none() : Result.getSuccess(SemVer.parse(text))
      return Option.isNone(version)
        ? []
        : [{ name, executable: Releases.executableName("etcd", on!), version: version.value }]
    })
    .sort((a, b) => SemVer.Order(b.version, a.version))
})

const damaged: Executable.Unusable = { why: "is damaged", isMissing: false }

/**
 * The etcd of a release in the cache, if it is still what was fetched. It is asked for its version while it is read. Of
 * one that nothing is remembered of, its answer decides.
 */
const cached = Effect.fnUntraced(function* (directory: string, executable: string) {
  const path = yield* Path.Path
  const file = yield* Executable.runnableAt(path.join(directory, executable))
  if (Result.isFailure(file)) return Result.fail(file.failure)
  const sums = yield* Executable.readSums(directory)
  if (Option.isNone(sums)) return yield* Effect.result(Effect.mapError(probe(file.success), () => damaged))
  const isAsFetched = Effect.flatMap(Executable.isAsRemembered(file.success, sums.value.get(executable)), (holds) =>
    holds ? Effect.void : Effect.fail(damaged)
  )
  const both = Effect.all([Effect.result(probe(file.success)), isAsFetched], { concurrency: "unbounded" })
  const verdict = yield* Effect.result(both)
  if (Result.isFailure(verdict)) return Result.fail(verdict.failure)
  return Result.succeed(yield* Effect.fromResult(verdict.success[0]))
})

const inCache = Effect.fnUntraced(function* (directory: string, searched: Searched) {
  const path = yield* Path.Path
  const place = `a fetched release in ${directory}`
  searched.push(place)
  for (const { executable, name } of yield* releasesIn(directory)) {
    const release = path.join(directory, name)
    const found = yield* cached(release, executable)
    if (Result.isSuccess(found)) return found.success
    passOver(searched, path.join(release, executable), found.failure)
  }
  return undefined
})

/** How to get what should have come with the library, and why it may not have. */
const packageRemedy = Effect.map(Package.foreignPackages, (foreign): ReadonlyArray<string> => {
  const own = Package.hostPackage()
  if (own === undefined) return []
  const again = "remove node_modules and package-lock.json, and install again"
  return [
    foreign.length > 0
      ? `  - the package ${own.name}, which comes with effect-etcd. There is ${foreign.join(" and ")}, for another platform: ` +
        `node_modules are from there; ${again}`
      : `  - the package ${own.name}, which comes with effect-etcd: \`npm install --save-optional ` +
        `${own.name}@${own.version}\`. It is missing where optional packages were left out (--omit=optional, ` +
        "--no-optional), where package-lock.json was made on another platform without it " +
        `(https://github.com/npm/cli/issues/4828; ${again}), and where a bundle has left node_modules behind`
  ]
})

const notFound = (searched: ReadonlyArray<string>, remedies: ReadonlyArray<string>) =>
  EtcdProcessError.make(
    new EtcdProcessError.BinaryNotFound({
      message: [
        "No etcd executable was found. Looked for:",
        ...searched.map((place) => `  - ${place}`),
        "Any one of these provides it:",
        ...remedies,
        "  - Debian and Ubuntu: apt-get install etcd-server",
        "  - macOS: brew install etcd",
        `  - a release from ${Releases.releasesPage}, with ETCD_BINARY set to its etcd`,
        '  - the option `binary: "fetch"`, or EtcdBinary.findOrFetch, which fetch a release into the cache directory'
      ].join("\n"),
      searched
    })
  )

const variable = "ETCD_BINARY"

/** Whether it is said which executable it is to be: by somebody, or by the package that is installed. */
export const isNamed = Effect.fnUntraced(function* (options: FindOptions) {
  return (
    options.path !== undefined ||
    (yield* setting(variable)) !== undefined ||
    (yield* Package.executables()) !== undefined
  )
})

/** See `EtcdBinary.find`. */
export const find = Effect.fnUntraced(function* (
  options: FindOptions
): Effect.fn.Return<EtcdBinary, EtcdProcessError.EtcdProcessError, Services> {
  if (options.path !== undefined) {
    return yield* named("The executable given", options.path, "Correct it, or leave it out to search for etcd.")
  }
  const configured = yield* setting(variable)
  if (configured !== undefined) {
    return yield* named(variable, configured, "Correct it, or unset it to search for etcd.")
  }
  const searched: Searched = [`${variable} (not set)`]
  const directory = (yield* Path.Path).resolve(options.cacheDirectory ?? (yield* cacheDirectory))
  return (
    (yield* inPackage(searched)) ??
    (yield* onPath(searched)) ??
    (yield* inCache(directory, searched)) ??
    (yield* Effect.fail(notFound(searched, yield* packageRemedy)))
  )
})
