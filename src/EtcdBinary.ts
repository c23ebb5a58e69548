/**
 * Where the etcd executable is, and which version it has.
 *
 * {@link find} looks at an explicit path, the environment variable `ETCD_BINARY`, the `PATH` and the user's cache
 * directory; {@link fetch} puts an official release, pinned by version and SHA-256, into that cache;
 * {@link findOrFetch} does the second only where the first finds nothing. etcd 3.4 to 3.7 are supported.
 *
 * @since 0.1.0
 */

import * as NodeCrypto from "node:crypto"
import * as NodeOs from "node:os"
import * as NodeProcess from "node:process"
import * as ByteSize from "effect/ByteSize"
import * as Cache from "effect/Cache"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FileSystem from "effect/FileSystem"
import { pipe } from "effect/Function"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as ChildProcess from "effect/process/ChildProcess"
import { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import * as Result from "effect/Result"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Releases from "./internal/binary/releases.ts"
import { unpack } from "./internal/binary/unpack.ts"
import * as ProcessOptions from "./internal/process/options.ts"
import * as Time from "./internal/time.ts"

/**
 * An etcd executable that was found to run, and the version that it reports.
 *
 * @category models
 * @since 0.1.0
 */
export interface EtcdBinary {
  /** The absolute path of the executable. */
  readonly path: string
  readonly version: SemVer.SemVer
}

/**
 * Where to look for etcd.
 *
 * @category options
 * @since 0.1.0
 */
export interface FindOptions {
  /**
   * The executable to use. Nothing else is looked at then: a path that does not exist or is not executable is an
   * error. A relative path is relative to the working directory.
   */
  readonly path?: string | undefined
  /** The directory that {@link fetch} puts releases into. Default: {@link cacheDirectory}. */
  readonly cacheDirectory?: string | undefined
}

/**
 * A platform that etcd is published for: operating system and architecture, as in the names of its archives.
 *
 * @category models
 * @since 0.1.0
 */
export type Platform = "linux-amd64" | "linux-arm64" | "darwin-amd64" | "darwin-arm64" | "windows-amd64"

/**
 * How far a download is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Progress {
  readonly url: string
  readonly receivedBytes: number
  /** What the server announced, if it did. */
  readonly totalBytes: Option.Option<number>
}

/**
 * Which release to fetch, from where, and into which directory.
 *
 * @category options
 * @since 0.1.0
 */
export interface FetchOptions {
  /** The version without a leading `v`. Default: a 3.6 release whose checksums come with this library. */
  readonly version?: string | undefined
  /**
   * The SHA-256 of the archive, 64 hexadecimal digits. Needed for a version whose checksums do not come with this
   * library; a release lists them in its file `SHA256SUMS`.
   */
  readonly sha256?: string | undefined
  /** Default: the platform of this machine. */
  readonly platform?: Platform | undefined
  /**
   * Where releases are published. The archive is expected at
   * `<baseUrl>/v<version>/etcd-v<version>-<platform>.<tar.gz or zip>`. Default:
   * `https://github.com/etcd-io/etcd/releases/download`.
   */
  readonly baseUrl?: string | undefined
  /** The directory to put the release into. Default: {@link cacheDirectory}. */
  readonly cacheDirectory?: string | undefined
  /** How long the server may send nothing before the download counts as broken; not zero. Default: 30 seconds. */
  readonly stallTimeout?: Duration.Input | undefined
  /** Runs after each piece of the download. */
  readonly onProgress?: ((progress: Progress) => Effect.Effect<void>) | undefined
}

const oldest = { major: 3, minor: 4 }
const newest = { major: 3, minor: 7 }
const endOfLife = { major: 3, minor: 4 }

const versionTimeout = Duration.seconds(10)
const maxVersionOutput = 16 * 1024
const maxArchiveBytes = ByteSize.mebibytes(256)
const defaultBaseUrl = "https://github.com/etcd-io/etcd/releases/download"
const releasesPage = "https://github.com/etcd-io/etcd/releases"
const executables = ["etcd", "etcdctl", "etcdutl"]

const stagingPrefix = ".fetch-"
const abandonedAfter = Duration.days(1)

const isWindows = NodeProcess.platform === "win32"

// -----------------------------------------------------------------------------
// settings
// -----------------------------------------------------------------------------

/**
 * A setting from the `ConfigProvider`, or from the process environment where the provider does not have it (it may be
 * a program's own configuration file, which knows nothing of a `PATH`). Empty counts as not set.
 */
const setting = (name: string): Effect.Effect<string | undefined, EtcdProcessError.EtcdProcessError> =>
  Effect.gen(function* () {
    const configured = yield* Config.option(Config.String(name))
    const value = Option.getOrElse(configured, () => NodeProcess.env[name])
    return value === "" ? undefined : value
  }).pipe(
    Effect.mapError((cause) =>
      EtcdProcessError.make(
        new EtcdProcessError.SystemFailure({
          message: `The setting ${name} could not be read from the ConfigProvider: ${cause.message}`,
          cause
        })
      )
    )
  )

/**
 * The directory that {@link fetch} puts releases into and {@link find} looks at last: `effect-etcd` below
 * `XDG_CACHE_HOME` where that is set, else below the platform's cache directory (`~/.cache`, `~/Library/Caches` on
 * macOS, `LOCALAPPDATA` on Windows). It need not exist.
 *
 * @example
 * ```ts
 * import { Console, Effect } from "effect"
 * import { EtcdBinary } from "effect-etcd"
 *
 * const program = Effect.flatMap(EtcdBinary.cacheDirectory, (directory) => Console.log(directory))
 * ```
 *
 * @category cache
 * @since 0.1.0
 */
export const cacheDirectory: Effect.Effect<string, EtcdProcessError.EtcdProcessError, Path.Path> = Effect.gen(
  function* () {
    const path = yield* Path.Path
    const xdg = yield* setting("XDG_CACHE_HOME")
    if (xdg !== undefined && path.isAbsolute(xdg)) return path.join(xdg, "effect-etcd")
    if (isWindows) {
      const local = yield* setting("LOCALAPPDATA")
      return path.join(local ?? path.join(NodeOs.homedir(), "AppData", "Local"), "effect-etcd")
    }
    const home = (yield* setting("HOME")) ?? NodeOs.homedir()
    return NodeProcess.platform === "darwin"
      ? path.join(home, "Library", "Caches", "effect-etcd")
      : path.join(home, ".cache", "effect-etcd")
  }
)

// -----------------------------------------------------------------------------
// version
// -----------------------------------------------------------------------------

const compareMinor = (version: SemVer.SemVer, that: { readonly major: number; readonly minor: number }): number =>
  version.major - that.major || version.minor - that.minor

const unsupported = (path: string, version: string, message: string) =>
  EtcdProcessError.make(new EtcdProcessError.UnsupportedVersion({ message, path, version }))

const inheritedEtcdVariables = (): Record<string, undefined> =>
  Object.fromEntries(
    Object.keys(NodeProcess.env)
      .filter((name) => name.startsWith("ETCD_"))
      .map((name) => [name, undefined])
  )

/** What the executable prints, up to about 16 KiB. */
const versionOutput = (path: string) =>
  Effect.gen(function* () {
    const spawner = yield* ChildProcessSpawner
    const handle = yield* spawner.spawn(
      ChildProcess.make(path, ["--version"], {
        env: inheritedEtcdVariables(),
        extendEnv: true,
        stdin: "ignore",
        killSignal: "SIGKILL"
      })
    )
    let bytes = 0
    const isEnough = (chunk: Uint8Array) => {
      bytes += chunk.length
      return bytes >= maxVersionOutput
    }
    return yield* Stream.mkString(Stream.decodeText(Stream.takeUntil(handle.all, isEnough)))
  }).pipe(
    Effect.scoped,
    Effect.mapError((cause) =>
      unsupported(
        path,
        "",
        `${path} could not be run (${cause.message}). Is it an etcd for this platform ` +
          `(${NodeProcess.platform}, ${NodeProcess.arch})?`
      )
    ),
    Effect.timeoutOrElse({
      duration: versionTimeout,
      orElse: () =>
        Effect.fail(
          unsupported(
            path,
            "",
            `${path} did not answer \`--version\` within ${Duration.format(versionTimeout)}. Is it an etcd?`
          )
        )
    })
  )

const parseVersion = (path: string, output: string) => {
  const version = /^etcd Version: (\S+)/m.exec(output)?.[1]
  const parsed = version === undefined ? Option.none() : Result.getSuccess(SemVer.parse(version))
  if (Option.isSome(parsed)) return Effect.succeed(parsed.value)
  const said = output.trim().split("\n")[0]!.slice(0, 200)
  return Effect.fail(
    unsupported(
      path,
      said,
      `${path} is not an etcd: \`--version\` answered ` +
        (said === "" ? "nothing" : JSON.stringify(said)) +
        `, not "etcd Version: <version>". Point ETCD_BINARY, or the option that names the executable, at an etcd 3.4 to 3.7.`
    )
  )
}

const checkVersion = Effect.fnUntraced(function* (path: string, version: SemVer.SemVer) {
  const text = SemVer.format(version)
  if (compareMinor(version, oldest) < 0) {
    return yield* Effect.fail(
      unsupported(path, text, `${path} is etcd ${text}, which is not supported. Use 3.4 to 3.7 (${releasesPage}).`)
    )
  }
  if (compareMinor(version, endOfLife) <= 0) {
    yield* Effect.logWarning(`${path} is etcd ${text}, which is past its end of life. Use 3.5 or newer.`)
  }
  if (compareMinor(version, newest) > 0) {
    yield* Effect.logWarning(`${path} is etcd ${text}; effect-etcd is tested with 3.4 to 3.7 only.`)
  }
})

/** A file as it was when its version was asked for: a replaced file is another key. */
interface FileIdentity {
  readonly path: string
  readonly dev: bigint
  readonly inode: bigint | undefined
  readonly size: bigint
  readonly modified: number | undefined
}

const readVersion = Effect.fnUntraced(function* ({ path }: FileIdentity) {
  const output = yield* versionOutput(path)
  const version = yield* parseVersion(path, output)
  yield* checkVersion(path, version)
  return version
})

/** Asking takes a process of its own, so every executable is asked once, whoever wants to know. */
const versions = /*#__PURE__*/ Effect.runSync(
  /*#__PURE__*/ Cache.makeWith(readVersion, {
    capacity: 64,
    timeToLive: (exit) => (Exit.isSuccess(exit) ? Duration.infinity : Duration.zero),
    requireServicesAt: "lookup"
  })
)

const identify = (path: string, info: FileSystem.File.Info): FileIdentity => ({
  path,
  dev: info.dev,
  inode: Option.getOrUndefined(info.ino),
  size: ByteSize.toBigInt(info.size),
  modified: Option.getOrUndefined(info.mtime)?.getTime()
})

const makeBinary = (path: string, info: FileSystem.File.Info) =>
  Effect.map(Cache.get(versions, identify(path, info)), (version): EtcdBinary => ({ path, version }))

// -----------------------------------------------------------------------------
// find
// -----------------------------------------------------------------------------

/** The file at `path`, or what keeps it from being run. */
const executableAt = Effect.fnUntraced(function* (path: string) {
  const fs = yield* FileSystem.FileSystem
  const info = yield* Effect.result(fs.stat(path))
  if (Result.isFailure(info)) {
    const reason = info.failure.reason
    return Result.fail(reason._tag === "NotFound" ? "does not exist" : `cannot be read (${reason.message})`)
  }
  if (info.success.type !== "File") return Result.fail(`is a ${info.success.type}, not a file`)
  if (!isWindows && (info.success.mode & 0o111) === 0) return Result.fail("is not executable")
  return Result.succeed(info.success)
})

/** The executable that somebody named: it is used, or it is an error. */
const named = Effect.fnUntraced(function* (source: string, value: string, remedy: string) {
  const path = (yield* Path.Path).resolve(value)
  const file = yield* executableAt(path)
  if (Result.isSuccess(file)) return yield* makeBinary(path, file.success)
  return yield* Effect.fail(
    EtcdProcessError.make(
      new EtcdProcessError.BinaryNotFound({
        message: `${source} is ${JSON.stringify(value)}, which ${file.failure}. ${remedy}`,
        searched: [path]
      })
    )
  )
})

const firstExecutable = Effect.fnUntraced(function* (paths: ReadonlyArray<string>) {
  for (const path of paths) {
    const file = yield* executableAt(path)
    if (Result.isSuccess(file)) return { path, info: file.success }
  }
  return undefined
})

const pathCandidates = Effect.gen(function* () {
  const path = yield* Path.Path
  const directories = ((yield* setting("PATH")) ?? "").split(isWindows ? ";" : ":")
  return directories
    .filter((directory) => directory !== "")
    .map((directory) => path.resolve(directory, isWindows ? "etcd.exe" : "etcd"))
})

const cachedName = /^etcd-v(.+)-([a-z]+-[a-z0-9]+)-[0-9a-f]{12}$/

/** The fetched releases for this platform, newest first. */
const cacheCandidates = Effect.fnUntraced(function* (directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const platform = Releases.hostPlatform()
  const names = yield* Effect.orElseSucceed(fs.readDirectory(directory), () => [])
  return names
    .flatMap((name) => {
      const [, text, on] = cachedName.exec(name) ?? []
      const version = text === undefined || on !== platform ? Option.none() : Result.getSuccess(SemVer.parse(text))
      return Option.isNone(version) ? [] : [{ name, on: on!, version: version.value }]
    })
    .sort((a, b) => SemVer.Order(b.version, a.version))
    .map(({ name, on }) => path.join(directory, name, Releases.executableName("etcd", on)))
})

const notFound = (searched: ReadonlyArray<string>) =>
  EtcdProcessError.make(
    new EtcdProcessError.BinaryNotFound({
      message: [
        "No etcd executable was found. Looked for:",
        ...searched.map((place) => `  - ${place}`),
        "Any one of these provides it:",
        "  - Debian and Ubuntu: apt-get install etcd-server",
        "  - macOS: brew install etcd",
        `  - a release from ${releasesPage}, with ETCD_BINARY set to its etcd`,
        "  - EtcdBinary.findOrFetch, which fetches a release into the cache directory"
      ].join("\n"),
      searched
    })
  )

const findAny = Effect.fn("EtcdBinary.find")(function* (
  options: FindOptions
): Effect.fn.Return<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner
> {
  yield* ProcessOptions.check("EtcdBinary.find", ProcessOptions.ofFind, options)
  if (options.path !== undefined) {
    return yield* named("The executable given", options.path, "Correct it, or leave it out to search for etcd.")
  }
  const configured = yield* setting("ETCD_BINARY")
  if (configured !== undefined) {
    return yield* named("ETCD_BINARY", configured, "Correct it, or unset it to search for etcd.")
  }
  const onPath = yield* pathCandidates
  const directory = options.cacheDirectory ?? (yield* cacheDirectory)
  const found = (yield* firstExecutable(onPath)) ?? (yield* firstExecutable(yield* cacheCandidates(directory)))
  if (found !== undefined) return yield* makeBinary(found.path, found.info)
  return yield* Effect.fail(notFound(["ETCD_BINARY (not set)", ...onPath, `a fetched release in ${directory}`]))
})

/**
 * Finds the etcd executable, and asks it for its version.
 *
 * Looked at, in this order: `options.path`, the setting `ETCD_BINARY`, every directory of the `PATH`, and the cache
 * directory (the newest release in it). Settings come from the current `ConfigProvider`, and from the environment where
 * that does not have them. The first executable found is used. An executable is asked for its version once in a
 * process, with no `ETCD_*` variable in its environment, and has 10 seconds to answer.
 *
 * Fails with `BinaryNotFound` if there is none, or if a path that was given does not lead to an executable, and with
 * `UnsupportedVersion` for what is older than 3.4 or not an etcd. Logs a warning, once for each executable, for 3.4
 * (which is past its end of life) and for what is newer than 3.7.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Console, Effect, SemVer } from "effect"
 * import { EtcdBinary } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const etcd = yield* EtcdBinary.find()
 *   yield* Console.log(`${etcd.path}: ${SemVer.format(etcd.version)}`)
 * })
 *
 * program.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const find = (
  options: FindOptions = {}
): Effect.Effect<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner
> => Time.really(findAny(options))

// -----------------------------------------------------------------------------
// fetch
// -----------------------------------------------------------------------------

interface Plan {
  readonly url: string
  readonly version: SemVer.SemVer
  readonly sha256: string
  readonly kind: "tar.gz" | "zip"
  readonly names: ReadonlyArray<string>
  /** The directory of the release below the cache directory. It names the checksum, so what it holds never changes. */
  readonly directoryName: string
}

const fetchFailed = (url: string, message: string, cause?: unknown) =>
  EtcdProcessError.make(
    new EtcdProcessError.FetchFailed({
      message: `etcd could not be fetched from ${url}: ${message}`,
      url,
      ...(cause === undefined ? {} : { cause })
    })
  )

const plan = (options: FetchOptions): Effect.Effect<Plan, EtcdProcessError.EtcdProcessError> => {
  const baseUrl = (options.baseUrl ?? defaultBaseUrl).replace(/\/+$/, "")
  const platform = options.platform ?? Releases.hostPlatform()
  if (platform === undefined) {
    return Effect.fail(
      fetchFailed(baseUrl, `there is no release for this platform (${NodeProcess.platform}, ${NodeProcess.arch})`)
    )
  }
  const wanted = options.version ?? Releases.defaultRelease(platform)?.version
  if (wanted === undefined) {
    return Effect.fail(fetchFailed(baseUrl, `no release is known for ${platform}; give \`version\` and \`sha256\``))
  }
  const name = Releases.archiveName(wanted, platform)
  const kind = Releases.archiveKind(platform)
  const url = `${baseUrl}/v${wanted}/${name}.${kind}`
  const sha256 = (options.sha256 ?? Releases.knownChecksum(wanted, platform))?.toLowerCase()
  if (sha256 === undefined) {
    return Effect.fail(
      fetchFailed(
        url,
        `no checksum of ${name} is known. Give the option \`sha256\`, as in the release's file SHA256SUMS`
      )
    )
  }
  return Effect.succeed({
    url,
    version: SemVer.parseUnsafe(wanted),
    sha256,
    kind,
    names: executables.map((executable) => Releases.executableName(executable, platform)),
    directoryName: `${name}-${sha256.slice(0, 12)}`
  })
}

/** The messages of an error and of what caused it: the outer one alone often says no more than "fetch failed". */
const explain = (error: unknown): string => {
  const messages: Array<string> = []
  for (let cause = error; cause instanceof Error && messages.length < 5; cause = cause.cause) {
    if (cause.message !== "" && !messages.includes(cause.message)) messages.push(cause.message)
  }
  return messages.join(": ")
}

const openDownload = Effect.fnUntraced(function* (url: string) {
  const client = HttpClient.followRedirects(yield* HttpClient.HttpClient)
  // A compressed response would be unpacked on the way and no longer match the checksum.
  const response = yield* client.execute(HttpClientRequest.get(url, { headers: { "accept-encoding": "identity" } }))
  return response.status === 200
    ? response
    : yield* Effect.fail(fetchFailed(url, `the server answered with status ${response.status}`))
})

const contentLength = (header: string | undefined): Option.Option<number> =>
  header !== undefined && /^\d+$/.test(header) ? Option.some(Number(header)) : Option.none()

/** Writes the archive to `file`, and answers its SHA-256. */
const download = Effect.fnUntraced(function* (url: string, file: string, options: FetchOptions) {
  const fs = yield* FileSystem.FileSystem
  const stallTimeout = Duration.fromInputUnsafe(options.stallTimeout ?? Duration.seconds(30))
  const stalled = () => Effect.fail(fetchFailed(url, `the server sent nothing for ${Duration.format(stallTimeout)}`))
  const response = yield* Effect.timeoutOrElse(openDownload(url), { duration: stallTimeout, orElse: stalled })
  const totalBytes = contentLength(response.headers["content-length"])
  const hash = NodeCrypto.createHash("sha256")
  let receivedBytes = 0
  const body = Stream.timeoutOrElse(response.stream, {
    duration: stallTimeout,
    orElse: () => Stream.fromEffect(stalled())
  })
  const tooLarge = () => Stream.fail(fetchFailed(url, `the archive is larger than ${ByteSize.format(maxArchiveBytes)}`))
  yield* Stream.limitBytes(body, maxArchiveBytes, tooLarge).pipe(
    Stream.tap((chunk) => {
      hash.update(chunk)
      receivedBytes += chunk.length
      return options.onProgress?.({ url, receivedBytes, totalBytes }) ?? Effect.void
    }),
    Stream.run(fs.sink(file, { flag: "wx" })),
    Effect.catchTag("HttpClientError", (cause) =>
      Effect.fail(fetchFailed(url, `the download broke off after ${receivedBytes} bytes (${explain(cause)})`, cause))
    )
  )
  return hash.digest("hex")
})

/** Puts `from` in place as `to`, unless somebody else did in the meantime. */
const moveIntoPlace = Effect.fnUntraced(function* (from: string, to: string, executable: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  yield* Effect.catchTag(fs.rename(from, to), "PlatformError", (error) =>
    Effect.gen(function* () {
      if (yield* fs.exists(path.join(to, executable))) return
      // What is there is not a whole release, so somebody took files out of it.
      if (!(yield* fs.exists(to))) return yield* Effect.fail(error)
      yield* fs.remove(to, { recursive: true })
      yield* fs.rename(from, to)
    })
  )
})

/** Removes what a process that was killed in the middle of a fetch left a day ago or earlier. */
const removeAbandoned = Effect.fnUntraced(
  function* (directory: string) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const now = yield* Clock.currentTimeMillis
    for (const name of yield* fs.readDirectory(directory)) {
      if (!name.startsWith(stagingPrefix)) continue
      const abandoned = path.join(directory, name)
      const { mtime } = yield* fs.stat(abandoned)
      const isOld = Option.exists(mtime, (date) => now - date.getTime() > Duration.toMillis(abandonedAfter))
      if (isOld) yield* fs.remove(abandoned, { recursive: true })
    }
  },
  (effect) => Effect.ignore(effect)
)

const install = Effect.fnUntraced(
  function* (plan: Plan, target: string, options: FetchOptions) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const parent = path.dirname(target)
    yield* fs.makeDirectory(parent, { recursive: true })
    yield* removeAbandoned(parent)
    const staging = yield* fs.makeTempDirectoryScoped({ directory: parent, prefix: stagingPrefix })
    const archive = path.join(staging, `archive.${plan.kind}`)
    const unpacked = path.join(staging, "release")
    yield* fs.makeDirectory(unpacked)
    const sha256 = yield* download(plan.url, archive, options)
    if (sha256 !== plan.sha256) {
      return yield* Effect.fail(
        fetchFailed(plan.url, `its SHA-256 is ${sha256}, not ${plan.sha256} as expected. Nothing of it was unpacked`)
      )
    }
    const found = yield* unpack({ archive, kind: plan.kind, directory: unpacked, names: plan.names })
    if (!found.has(plan.names[0]!)) {
      return yield* Effect.fail(fetchFailed(plan.url, `the archive holds no ${plan.names[0]}`))
    }
    yield* moveIntoPlace(unpacked, target, plan.names[0]!)
  },
  Effect.scoped,
  (effect, plan, target) =>
    pipe(
      effect,
      Effect.catchTags({
        ArchiveError: (error) => Effect.fail(archiveFailed(plan.url, error)),
        TarError: (error) => Effect.fail(archiveFailed(plan.url, error)),
        ZipError: (error) => Effect.fail(archiveFailed(plan.url, error)),
        HttpClientError: (error) => Effect.fail(fetchFailed(plan.url, explain(error), error)),
        PlatformError: (error: PlatformError.PlatformError) =>
          Effect.fail(fetchFailed(plan.url, `it could not be written to ${target} (${error.message})`, error))
      })
    )
)

const archiveFailed = (url: string, error: unknown) =>
  fetchFailed(url, `the archive cannot be unpacked: ${explain(error)}`, error)

const fetchOne = Effect.fn("EtcdBinary.fetch")(function* (
  options: FetchOptions
): Effect.fn.Return<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | HttpClient.HttpClient
> {
  yield* ProcessOptions.check("EtcdBinary.fetch", ProcessOptions.ofFetch, options)
  const path = yield* Path.Path
  const planned = yield* plan(options)
  const directory = path.resolve(options.cacheDirectory ?? (yield* cacheDirectory))
  const target = path.join(directory, planned.directoryName)
  const binary: EtcdBinary = { path: path.join(target, planned.names[0]!), version: planned.version }
  if (Result.isFailure(yield* executableAt(binary.path))) yield* install(planned, target, options)
  return binary
})

/**
 * Fetches a release of etcd into the cache directory, unless it is there already, and answers where its `etcd` is.
 * `etcdctl` and `etcdutl` are next to it.
 *
 * The archive is streamed to disk, and unpacked only after its SHA-256 was found right; it is moved into place as a
 * whole, so that any number of processes may fetch the same release at once. Whatever goes wrong (a wrong checksum, a
 * broken or stalled download, an HTTP status that is not 200, a damaged archive, a full disk, an interruption) leaves
 * nothing behind and fails with `FetchFailed`. The executable is not run.
 *
 * The checksums that come with this library cover a release of 3.5, 3.6 and 3.7 for most platforms; for any other give
 * `sha256`. Archives have the names and the layout of https://github.com/etcd-io/etcd/releases.
 *
 * @example
 * ```ts
 * import { NodeRuntime, NodeServices } from "@effect/platform-node"
 * import { Console, Effect } from "effect"
 * import { FetchHttpClient } from "effect/http"
 * import { EtcdBinary } from "effect-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const etcd = yield* EtcdBinary.fetch({
 *     onProgress: ({ receivedBytes }) => Console.log(`${receivedBytes} bytes`)
 *   })
 *   yield* Console.log(etcd.path)
 * })
 *
 * program.pipe(Effect.provide([NodeServices.layer, FetchHttpClient.layer]), NodeRuntime.runMain)
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fetch = (
  options: FetchOptions = {}
): Effect.Effect<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | HttpClient.HttpClient
> => Time.really(fetchOne(options))

const findOrFetchOne = Effect.fn("EtcdBinary.findOrFetch")(function* (
  options: FindOptions & FetchOptions
): Effect.fn.Return<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner | HttpClient.HttpClient
> {
  yield* ProcessOptions.check(
    "EtcdBinary.findOrFetch",
    { ...ProcessOptions.ofFind, ...ProcessOptions.ofFetch },
    options
  )
  const isNamed = options.path !== undefined || (yield* setting("ETCD_BINARY")) !== undefined
  const { cacheDirectory, path, ...release } = options
  return yield* findAny({ path, cacheDirectory }).pipe(
    Effect.catchReason("EtcdProcessError", "BinaryNotFound", (reason) =>
      isNamed
        ? Effect.fail(EtcdProcessError.make(reason))
        : Effect.flatMap(fetchOne({ ...release, cacheDirectory }), (fetched) => findAny({ path: fetched.path }))
    )
  )
})

/**
 * Finds the etcd executable as {@link find} does, and fetches a release as {@link fetch} does where there is none. A
 * path that was given and does not lead to an executable is an error here too.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { FetchHttpClient } from "effect/http"
 * import { EtcdBinary } from "effect-etcd"
 *
 * const etcd = EtcdBinary.findOrFetch().pipe(Effect.provide([NodeServices.layer, FetchHttpClient.layer]))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const findOrFetch = (
  options: FindOptions & FetchOptions = {}
): Effect.Effect<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner | HttpClient.HttpClient
> => Time.really(findOrFetchOne(options))
