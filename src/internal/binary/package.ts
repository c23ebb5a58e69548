/**
 * The etcd that came with the library: in an optional package for this platform, which npm has put beside it.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Result from "effect/Result"
import * as Releases from "./releases.ts"

/**
 * Who looks for the package: it is found as Node.js finds what this module imports, so that the library has the one that
 * it depends on, wherever a package manager puts that. The program's own directory has no say in it, nor have `NODE_PATH`
 * and `~/.node_modules`, where `require` looks too: what lies there would be run. In a bundle it is the place of the bundle,
 * or not there at all.
 */
export const From: Context.Reference<string> = Context.Reference("effect-etcd/binary/From", {
  defaultValue: () => import.meta.url
})

/** In the nearest `node_modules`, from a directory upwards. */
const inModules = (manifest: string, directory: URL): string | undefined => {
  const { existsSync, realpathSync } = globalThis.process.getBuiltinModule("node:fs")
  const file = new URL(`node_modules/${manifest}`, directory)
  if (existsSync(file)) return realpathSync(file)
  const above = new URL("..", directory)
  return above.href === directory.href ? undefined : inModules(manifest, above)
}

/** Yarn's Plug'n'Play and Deno need no `node_modules`, and find packages by rules of their own. */
const hasRulesOfItsOwn = (): boolean => ["pnp", "deno"].some((name) => name in globalThis.process.versions)

const directoryOf = (name: string, from: string): string | undefined =>
  Result.getOrUndefined(
    Result.try(() => {
      const manifest = `${name}/package.json`
      const { createRequire } = globalThis.process.getBuiltinModule("node:module")
      const found = hasRulesOfItsOwn() ? createRequire(from).resolve(manifest) : inModules(manifest, new URL(".", from))
      return found?.slice(0, -"/package.json".length)
    })
  )

/** The package for this platform, if there can be one. */
export const hostPackage = (): { readonly name: string; readonly version: string } | undefined => {
  const platform = Releases.packagedPlatforms.find((platform) => platform === Releases.hostPlatform())
  const name = platform === undefined ? undefined : Releases.packageName(platform)
  const version = name === undefined ? undefined : Releases.optionalPackages()[name]
  return name === undefined || version === undefined ? undefined : { name, version }
}

/** The packages for other platforms that are there: whoever has those has copied `node_modules`, or its lock file. */
export const foreignPackages: Effect.Effect<ReadonlyArray<string>> = Effect.map(From, (from) =>
  Releases.packagedPlatforms
    .filter((platform) => platform !== Releases.hostPlatform())
    .map(Releases.packageName)
    .filter((name) => directoryOf(name, from) !== undefined)
)

/** Some tools that copy or archive files lose the mode of executables; in this package nothing else is meant by that. */
const makeExecutable = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.option(fs.stat(path))
  if (Option.exists(info, ({ mode, type }) => type === "File" && (mode & 0o111) === 0)) {
    yield* Effect.ignore(fs.chmod(path, 0o755))
  }
})

/** The directory of the package's executables, if it is installed. */
export const executables = Effect.fnUntraced(function* () {
  const path = yield* Path.Path
  const own = hostPackage()
  const directory = own === undefined ? undefined : directoryOf(own.name, yield* From)
  if (directory === undefined) return undefined
  const bin = path.join(directory, "bin")
  for (const name of ["etcd", "etcdutl"]) yield* makeExecutable(path.join(bin, name))
  return bin
})
