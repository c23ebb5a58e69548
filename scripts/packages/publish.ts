/**
 * Publishes what `build.ts` has made, with npm: each tarball under the dist-tag of its line, and those that the library
 * depends on as `latest` first. What is published already is left as it is, so a run that broke off is run again.
 */
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as ChildProcess from "effect/process/ChildProcess"
import * as Stream from "effect/Stream"
import { listName, type Package, PackageError } from "./build.ts"

export interface Options {
  /** Where the tarballs are. */
  readonly out: string
  /** Asks npm to do all but the publishing. */
  readonly dryRun: boolean
}

const npm = (...args: ReadonlyArray<string>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const child = yield* ChildProcess.make("npm", args, { stdin: "ignore", stderr: "inherit" })
      const [stdout, code] = yield* Effect.all([Stream.mkString(Stream.decodeText(child.stdout)), child.exitCode], {
        concurrency: "unbounded"
      })
      return { stdout: stdout.trim(), code }
    })
  )

const must = (...args: ReadonlyArray<string>) =>
  Effect.flatMap(npm(...args), ({ code }) =>
    code === 0
      ? Effect.void
      : Effect.fail(new PackageError({ message: `npm ${args.join(" ")} ended with exit code ${code}` }))
  )

/** npm fails where there is no such package, and prints nothing where it has no such version. */
const isPublished = Effect.fnUntraced(function* ({ name, version }: Package) {
  const { code, stdout } = yield* npm("view", `${name}@${version}`, "version", "--silent")
  return code === 0 && stdout === version
})

const publishOne = Effect.fnUntraced(function* (made: Package, { dryRun, out }: Options) {
  const path = yield* Path.Path
  const what = `${made.name}@${made.version}`
  const tag = made.isLatest ? "latest" : made.tag
  const file = path.join(out, made.file)
  if (dryRun) return yield* must("publish", file, "--access", "public", "--tag", tag, "--dry-run", "--silent")
  if (yield* isPublished(made)) yield* Effect.logInfo(`${what} is published already`)
  else yield* must("publish", file, "--access", "public", "--tag", tag)
  // Publishing gives one tag, and `latest` is the one that must not be missing.
  if (made.isLatest) yield* must("dist-tag", "add", what, made.tag)
})

export const publish = Effect.fnUntraced(function* (options: Options) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const list = path.join(options.out, listName)
  if (!(yield* fs.exists(list))) {
    return yield* Effect.fail(
      new PackageError({ message: `there is no ${list}: run \`npm run packages -- build\` first` })
    )
  }
  const made: ReadonlyArray<Package> = JSON.parse(yield* fs.readFileString(list))
  for (const one of made) {
    yield* publishOne(one, options)
    yield* Effect.logInfo(`${options.dryRun ? "could publish" : "published"} ${one.name}@${one.version} (${one.tag})`)
  }
})
