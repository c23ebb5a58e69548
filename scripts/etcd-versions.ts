/**
 * The versions of etcd to test against: `npm run etcd:versions [-- --update]`.
 *
 * Gets them into the folder `versions` of the library's cache directory, from every source that this machine can reach,
 * and lists what there is and what could not be had, with the reason:
 *
 * - the etcd of this machine (`ETCD_BINARY`, or on the `PATH`);
 * - the official releases whose checksums the library has;
 * - Debian's packages, through the mirror that apt is configured with, unpacked and not installed. apt runs with lists of
 *   its own and verifies all it fetches; the system's lists and packages stay as they are;
 * - the newest patch of a release line, built from the Go module proxy.
 *
 * What is in the cache is used as it is, offline, until `--update` asks for the newest again.
 */
import * as http from "node:http"
import process from "node:process"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as References from "effect/References"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as EtcdBinary from "../src/EtcdBinary.ts"
import * as Releases from "../src/internal/binary/releases.ts"

/** Debian's releases whose etcd is 3.4 or newer, oldest first. */
const debianSuites = ["bookworm", "trixie", "forky", "sid"]

/** The release lines that are built from source. */
const goLines = ["3.5", "3.6", "3.7"]

const tools = ["etcd", "etcdctl", "etcdutl"] as const

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

type Services = ChildProcessSpawner | FileSystem.FileSystem | HttpClient.HttpClient | Path.Path

interface Source {
  readonly name: string
  /** The version or release line that it has, where that is known before it is asked. */
  readonly has?: string | undefined
  /** Answers the path of an `etcd`; the other tools are next to it. */
  readonly get: Effect.Effect<string, Failed, Services>
}

class Failed extends Data.TaggedError("Failed")<{ readonly reason: string }> {}

const failed = (reason: string) => Effect.fail(new Failed({ reason }))

const say = (line: string) => Effect.sync(() => process.stderr.write(`effect-etcd: ${line}\n`))

const within = (duration: Duration.Input) =>
  Effect.timeoutOrElse({ duration, orElse: () => failed(`it took longer than ${duration}`) })

/** Whether a version and a release line, or two of either, can mean the same. */
const overlaps = (a: string, b: string) => a === b || a.startsWith(`${b}.`) || b.startsWith(`${a}.`)

/** Whether one of the wanted versions and release lines can be `version`. */
export const isWanted = (only: ReadonlyArray<string> | undefined, version: string) =>
  only === undefined || only.some((wanted) => overlaps(wanted, version))

// -----------------------------------------------------------------------------
// commands
// -----------------------------------------------------------------------------

const lastLine = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .findLast((line) => line !== "")

const cannotRun = (command: string) => (error: PlatformError.PlatformError) =>
  failed(error.reason._tag === "NotFound" ? `there is no ${command} on this machine` : error.message)

/** Runs a command, and answers its output. It fails with the last line that the command wrote. */
const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd?: string; readonly env?: Record<string, string> } = {}
): Effect.Effect<string, Failed, ChildProcessSpawner> =>
  Effect.scoped(
    Effect.gen(function* () {
      const child = yield* ChildProcess.make(command, args, {
        ...options,
        env: { LC_ALL: "C", ...options.env },
        extendEnv: true,
        stdin: "ignore",
        forceKillAfter: "5 seconds"
      })
      const [stdout, stderr, code] = yield* Effect.all(
        [
          Stream.mkString(Stream.decodeText(child.stdout)),
          Stream.mkString(Stream.decodeText(child.stderr)),
          child.exitCode
        ],
        { concurrency: "unbounded" }
      )
      if (code === 0) return stdout
      return yield* failed(lastLine(stderr) ?? lastLine(stdout) ?? `${command} ended with exit code ${code}`)
    })
  ).pipe(Effect.catchTag("PlatformError", cannotRun(command)))

// -----------------------------------------------------------------------------
// the cache
// -----------------------------------------------------------------------------

const versionsDirectory = Effect.gen(function* () {
  const path = yield* Path.Path
  return path.join(yield* EtcdBinary.cacheDirectory, "versions")
})

/**
 * The executables in the folder `name` of the cache. Where it is not there yet, `fill` puts them into `bin` of the
 * directory that it gets, and they are moved into place as a whole.
 */
const cached = (
  name: string,
  update: boolean,
  fill: (directory: string) => Effect.Effect<void, Failed | PlatformError.PlatformError, Services>
): Effect.Effect<string, Failed, Services> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const parent = yield* versionsDirectory
    const target = path.join(parent, name)
    const etcd = path.join(target, "etcd")
    if (!update && (yield* fs.exists(etcd))) return etcd
    yield* fs.makeDirectory(parent, { recursive: true })
    const staging = yield* fs.makeTempDirectoryScoped({ directory: parent, prefix: ".get-" })
    const bin = path.join(staging, "bin")
    yield* fs.makeDirectory(bin)
    yield* fill(staging)
    yield* fs.remove(target, { recursive: true, force: true })
    yield* fs.rename(bin, target)
    return etcd
  }).pipe(
    Effect.scoped,
    Effect.catchTags({
      EtcdProcessError: (error) => failed(error.message),
      PlatformError: (error) => failed(error.message)
    })
  )

// -----------------------------------------------------------------------------
// sources
// -----------------------------------------------------------------------------

const machine: Source = {
  name: "this machine",
  get: Effect.gen(function* () {
    const nowhere = (yield* Path.Path).join(yield* versionsDirectory, "none")
    return (yield* EtcdBinary.find({ cacheDirectory: nowhere })).path
  }).pipe(
    Effect.catchReason("EtcdProcessError", "BinaryNotFound", (reason) =>
      failed(process.env.ETCD_BINARY ? reason.message : "no etcd is installed")
    ),
    Effect.catchTag("EtcdProcessError", (error) => failed(error.message))
  )
}

/** What is behind the last colon: the same for every release that fails for the same reason. */
const innermost = (message: string) => message.slice(message.lastIndexOf(": ") + 1).trim()

const releases = (): ReadonlyArray<Source> => {
  const platform = Releases.hostPlatform()
  return Releases.releases
    .filter((release) => platform !== undefined && release.sha256[platform] !== undefined)
    .map(({ version }) => ({
      name: `official release ${version}`,
      has: version,
      get: EtcdBinary.fetch({ version, stallTimeout: "15 seconds" }).pipe(
        Effect.map((etcd) => etcd.path),
        Effect.catchTag("EtcdProcessError", (error) => failed(innermost(error.message))),
        within("5 minutes")
      )
    }))
}

const aptConfig = (directory: string) => `#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::State "${directory}/state";
Dir::State::status "${directory}/status";
Dir::Cache "${directory}/cache";
Dir::Etc::sourcelist "${directory}/sources.list";
Dir::Etc::sourceparts "${directory}/none";
Dir::Etc::preferences "${directory}/no-preferences";
Dir::Etc::preferencesparts "${directory}/none";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
APT::Sandbox::User "root";
`

const debianKeyrings = ["gpg", "pgp"].map((kind) => `/usr/share/keyrings/debian-archive-keyring.${kind}`)

/** The addresses of the repositories that apt is configured with, in either format of its sources, for a Debian suite. */
const mirrors = Effect.gen(function* () {
  const suites = [...debianSuites, "bullseye", "stable", "oldstable", "testing", "unstable"]
  const uris = yield* run("apt-get", ["update", "--print-uris"])
  const found = [...uris.matchAll(/^'(.+)\/dists\/([^/']+)\/InRelease'/gm)].flatMap(([, base, suite]) =>
    suites.includes(suite!) ? [base!] : []
  )
  return found.length > 0 ? [...new Set(found)] : yield* failed("apt has no mirror of Debian configured")
})

const unpackDebian = Effect.fnUntraced(function* (mirror: string, suite: string, directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const apt = path.join(directory, "apt")
  yield* fs.remove(apt, { recursive: true, force: true })
  for (const name of ["state/lists/partial", "cache/archives/partial", "none", "packages", "root"]) {
    yield* fs.makeDirectory(path.join(apt, name), { recursive: true })
  }
  const config = path.join(apt, "apt.conf")
  const keyring = (yield* Effect.filter(debianKeyrings, fs.exists))[0]
  const architecture = (yield* run("dpkg", ["--print-architecture"])).trim()
  const settings = [
    "target=Packages",
    `arch=${architecture}`,
    ...(keyring === undefined ? [] : [`signed-by=${keyring}`])
  ].join(" ")
  yield* fs.writeFileString(config, aptConfig(apt))
  yield* fs.writeFileString(path.join(apt, "status"), "")
  yield* fs.writeFileString(path.join(apt, "sources.list"), `deb [${settings}] ${mirror} ${suite} main\n`)
  const packages = path.join(apt, "packages")
  yield* run("apt-get", ["-c", config, "-qq", "update"])
  yield* run("apt-get", ["-c", config, "-qq", "download", "etcd-server", "etcd-client"], { cwd: packages })
  const root = path.join(apt, "root")
  for (const name of yield* fs.readDirectory(packages)) {
    yield* run("dpkg-deb", ["-x", path.join(packages, name), root])
  }
  for (const tool of tools) {
    const from = path.join(root, "usr", "bin", tool)
    if (yield* fs.exists(from)) yield* fs.rename(from, path.join(directory, "bin", tool))
  }
})

const debian =
  (options: Options, mirrorsOnce: Effect.Effect<ReadonlyArray<string>, Failed, ChildProcessSpawner>) =>
  (suite: string): Source => ({
    name: `Debian ${suite}`,
    get: cached(`debian-${suite}`, options.update === true, (directory) =>
      Effect.gen(function* () {
        const candidates = yield* mirrorsOnce
        yield* say(`fetching Debian ${suite}'s etcd`)
        yield* Effect.firstSuccessOf(candidates.map((mirror) => unpackDebian(mirror, suite, directory)))
      }).pipe(within("3 minutes"))
    )
  })

/** The modules whose root packages are the tools. */
const goModules = { etcd: "server", etcdctl: "etcdctl", etcdutl: "etcdutl" } as const

const goModule = (tool: (typeof tools)[number]) => `go.etcd.io/etcd/${goModules[tool]}/v3`

const newestOf = Effect.fnUntraced(function* (line: string, directory: string) {
  const listed = yield* run("go", ["list", "-m", "-versions", goModule("etcd")], { cwd: directory })
  const patches = listed
    .trim()
    .split(/\s+/)
    .filter((word) => /^v\d+\.\d+\.\d+$/.test(word) && word.startsWith(`v${line}.`))
    .map((word) => Number(word.slice(line.length + 2)))
  return patches.length > 0 ? `v${line}.${Math.max(...patches)}` : yield* failed(`there is no ${line} on the proxy`)
})

const buildWithGo = Effect.fnUntraced(function* (line: string, directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const env = { GOFLAGS: "-mod=mod", GOWORK: "off", CGO_ENABLED: "0" }
  const go = (...args: ReadonlyArray<string>) => run("go", args, { cwd: directory, env })
  yield* fs.writeFileString(path.join(directory, "go.mod"), "module versions\n")
  const version = yield* newestOf(line, directory)
  yield* say(`building etcd ${version} with Go (this takes minutes, once)`)
  yield* go("get", ...tools.map((tool) => `${goModule(tool)}@${version}`))
  for (const tool of tools) {
    yield* go("build", "-buildvcs=false", "-trimpath", "-o", path.join(directory, "bin", tool), goModule(tool))
  }
})

const go =
  (options: Options) =>
  (line: string): Source => ({
    name: `Go module proxy, newest ${line}`,
    has: line,
    get: cached(`go-${line}`, options.update === true, (directory) =>
      buildWithGo(line, directory).pipe(within("15 minutes"))
    )
  })

// -----------------------------------------------------------------------------
// all of them
// -----------------------------------------------------------------------------

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

/**
 * Every version of etcd that this machine can get, each once, newest first, and the sources that gave none. It never
 * fails: a source that cannot be reached is among `missing`. Each source has a time limit.
 */
export const get: (options?: Options) => Effect.Effect<EtcdVersions, never, Services> = Effect.fnUntraced(
  function* (options = {}) {
    const mirrorsOnce = yield* Effect.cached(mirrors.pipe(within("30 seconds")))
    const groups: ReadonlyArray<ReadonlyArray<Source>> = [
      [machine],
      releases(),
      debianSuites.map(debian(options, mirrorsOnce)),
      goLines.map(go(options))
    ]
    const asked = yield* Effect.forEach(
      groups,
      (sources) =>
        Effect.partition(
          sources.filter(({ has }) => has === undefined || isWanted(options.only, has)),
          ask
        ),
      { concurrency: "unbounded" }
    )
    const found = distinct(asked.flatMap(([passes]) => passes))
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
  for (const { version, from, etcd } of found) {
    yield* Console.log(`etcd ${SemVer.format(version)} (${from.join("; ")}): ${etcd}`)
  }
  for (const line of describeMissing(missing)) yield* Console.log(`not to be had: ${line}`)
})

if (import.meta.main) list.pipe(Effect.provide(services), NodeRuntime.runMain)
