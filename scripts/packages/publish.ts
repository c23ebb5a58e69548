/**
 * Publishes what `build.ts` has made, with npm: each tarball under the dist-tag of its line, and those that the library
 * depends on as `latest` too. What is published already is left as it is, so a run that broke off is run again.
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

interface Registered {
  readonly versions: ReadonlyArray<string>
  readonly tags: Readonly<Record<string, string>>
}

/** What the registry has of a package; nothing where it does not know it. */
const registered = Effect.fnUntraced(function* (name: string, options: Options) {
  const { code, stdout } = yield* npm(options, "view", name, "versions", "dist-tags", "--json", "--silent")
  const { versions, "dist-tags": tags } = code === 0 ? JSON.parse(stdout) : {}
  const known: Registered = { versions: [versions ?? []].flat(), tags: tags ?? {} }
  return known
})

/**
 * A tag that is not where it should be is moved. Whom the registry trusts without a token may publish, and nothing else: then
 * a maintainer does it, and nobody depends on it meanwhile, since the library names versions.
 */
const addTag = Effect.fnUntraced(function* ({ name, version }: Package, tag: string, options: Options) {
  const { code } = yield* npm(options, "dist-tag", "add", `${name}@${version}`, tag)
  if (code !== 0) yield* Effect.logWarning(`not tagged: run \`npm dist-tag add ${name}@${version} ${tag}\` logged in`)
})

const publishOne = Effect.fnUntraced(function* (made: Package, options: Options) {
  const path = yield* Path.Path
  const { tags, versions } = yield* registered(made.name, options)
  const isThere = versions.includes(made.version)
  // Publishing gives one tag.
  const first = made.isLatest ? "latest" : made.tag
  if (!isThere) {
    const dry = options.dryRun ? ["--dry-run"] : []
    yield* must(options, "publish", path.join(options.out, made.file), "--access", "public", "--tag", first, ...dry)
  }
  const done = isThere ? "is there already" : options.dryRun ? "could be published" : "is published"
  yield* Effect.logInfo(`${made.name}@${made.version} ${done} (${first})`)
  if (options.dryRun) return
  const given = isThere ? tags : { ...tags, [first]: made.version }
  for (const tag of new Set([first, made.tag])) if (given[tag] !== made.version) yield* addTag(made, tag, options)
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
  for (const one of made) yield* publishOne(one, options)
})
