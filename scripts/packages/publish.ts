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
  /** What else npm is told in its environment. */
  readonly settings?: Record<string, string> | undefined
}

const npm = ({ settings }: Options, ...args: ReadonlyArray<string>) =>
  Effect.scoped(
    Effect.gen(function* () {
      const child = yield* ChildProcess.make("npm", args, {
        stdin: "ignore",
        stderr: "inherit",
        env: settings,
        extendEnv: true
      })
      const [stdout, code] = yield* Effect.all([Stream.mkString(Stream.decodeText(child.stdout)), child.exitCode], {
        concurrency: "unbounded"
      })
      return { stdout: stdout.trim(), code }
    })
  )

const must = (options: Options, ...args: ReadonlyArray<string>) =>
  Effect.flatMap(npm(options, ...args), ({ code }) =>
    code === 0
      ? Effect.void
      : Effect.fail(new PackageError({ message: `npm ${args.join(" ")} ended with exit code ${code}` }))
  )

/** npm fails where there is no such package, and prints nothing where it has no such version. */
const isPublished = Effect.fnUntraced(function* ({ name, version }: Package, options: Options) {
  const { code, stdout } = yield* npm(options, "view", `${name}@${version}`, "version", "--silent")
  return code === 0 && stdout === version
})

const publishOne = Effect.fnUntraced(function* (made: Package, options: Options) {
  const path = yield* Path.Path
  const what = `${made.name}@${made.version}`
  const tag = made.isLatest ? "latest" : made.tag
  const file = path.join(options.out, made.file)
  if (options.dryRun)
    return yield* must(options, "publish", file, "--access", "public", "--tag", tag, "--dry-run", "--silent")
  if (yield* isPublished(made, options)) yield* Effect.logInfo(`${what} is published already`)
  else yield* must(options, "publish", file, "--access", "public", "--tag", tag)
  // Publishing gives one tag, and `latest` is the one that must not be missing.
  if (made.isLatest) yield* must(options, "dist-tag", "add", what, made.tag)
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
