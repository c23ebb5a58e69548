/**
 * Where the etcd executable is, and which version it has.
 *
 * On Linux and macOS, x64 and arm64, it comes with the library: `npm install effect-etcd` brings the optional package
 * `@effect-etcd/<os>-<cpu>` (such as `@effect-etcd/linux-x64`), which holds the official `etcd` and `etcdutl` of one release
 * and has no install script. {@link find} looks at an explicit path, the environment variable `ETCD_BINARY`, that
 * package, the `PATH` and the user's cache directory; {@link fetch} puts an official release, pinned by version and
 * SHA-256, into that cache; {@link findOrFetch} does the second only where the first finds nothing. etcd 3.4 to 3.7 are
 * supported.
 *
 * **Another release than the one that comes along.** Each line is a dist-tag of the packages, whose version is that of
 * etcd:
 *
 * | dist-tag | etcd | `linux-x64` | `linux-arm64` | `darwin-x64` | `darwin-arm64` |
 * | --- | --- | --- | --- | --- | --- |
 * | `etcd-3.6`, `latest` | 3.6.14 | yes | yes | yes | yes |
 * | `etcd-3.7` | 3.7.1 | yes | yes | – | yes |
 * | `etcd-3.5` | 3.5.33 | yes | yes | – | – |
 *
 * Where there is none, `ETCD_BINARY` or the `binary` option names an etcd that came in another way. npm's `overrides` in
 * the program's `package.json` (`resolutions` of Yarn, `overrides` of pnpm and Bun) put a release in the place of the one
 * that the library depends on:
 *
 * ```json
 * { "overrides": { "@effect-etcd/linux-x64": "3.5.33" } }
 * ```
 *
 * Or install it under a name of its own, several beside each other if need be, and say where it is:
 * `npm install etcd-3.5@npm:@effect-etcd/linux-x64@etcd-3.5`, and
 * `ETCD_BINARY=node_modules/etcd-3.5/bin/etcd`, or the `binary` option. To do without the packages, install with
 * `--omit=optional`.
 *
 * {@link findUtl} finds `etcdutl` beside it. Without it no snapshot can be restored, and no cluster recovered that has lost
 * its quorum; all else works.
 *
 * @packageDocumentation
 * @since 0.1.0
 */

import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as HttpClient from "effect/http/HttpClient"
import type * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type { ChildProcessSpawner } from "effect/process/ChildProcessSpawner"
import type * as SemVer from "effect/SemVer"
import * as EtcdProcessError from "./EtcdProcessError.ts"
import * as Find from "./internal/binary/find.ts"
import * as Settings from "./internal/binary/settings.ts"
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
  /** The version that it reports. */
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
   * error. A relative path is relative to the working directory. Default: it is looked for as {@link find} says.
   */
  readonly path?: string | undefined
  /** The directory that {@link fetch} puts releases into. Default: {@link cacheDirectory}. */
  readonly cacheDirectory?: string | undefined
}

/**
 * What restores what an etcd has written: `etcdutl`, or, where there is none for an etcd 3.4, its `etcdctl`.
 *
 * @category models
 * @since 0.1.0
 */
export interface EtcdUtl {
  /** The absolute path of the executable. */
  readonly path: string
  /** The version that it reports. */
  readonly version: SemVer.SemVer
  /** Which of the two it is. */
  readonly tool: "etcdutl" | "etcdctl"
  /**
   * Whether it can raise the revision of what it restores, so that none is given twice: from 3.5.10, 3.6.0, and `etcdctl`
   * 3.4.27 on.
   */
  readonly bumpsRevisions: boolean
}

/**
 * Where to look for `etcdutl`.
 *
 * @category options
 * @since 0.1.0
 */
export interface FindUtlOptions {
  /**
   * The executable to use. Nothing else is looked at then. A relative path is relative to the working directory. Default: it
   * is looked for as {@link findUtl} says.
   */
  readonly path?: string | undefined
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
  /** The archive that was asked for. */
  readonly url: string
  /** So many bytes have come. */
  readonly receivedBytes: number
  /** How many bytes the server has announced, if it did. */
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
   * library; a release lists them in its file `SHA256SUMS`. Default: the one that comes with this library.
   */
  readonly sha256?: string | undefined
  /** What the executable is to run on. Default: the platform of this machine. */
  readonly platform?: Platform | undefined
  /**
   * Where releases are published. The archive is expected at
   * `<baseUrl>/v<version>/etcd-v<version>-<platform>.<tar.gz or zip>`. It is told in errors, so it has neither a user
   * nor a query: a token that a mirror asks for is for the `HttpClient` to show. Default:
   * `https://github.com/etcd-io/etcd/releases/download`.
   */
  readonly baseUrl?: string | undefined
  /** The directory to put the release into. Default: {@link cacheDirectory}. */
  readonly cacheDirectory?: string | undefined
  /** How long the server may send nothing before the download counts as broken; not zero. Default: 30 seconds. */
  readonly stallTimeout?: Duration.Input | undefined
  /** Runs after each piece of the download; the next one waits for it. Default: nothing. */
  readonly onProgress?: ((progress: Progress) => Effect.Effect<void>) | undefined
}

/**
 * Which executable to use, where that is one option: the path of one, `"fetch"` for what {@link findOrFetch} comes to
 * (what is installed, or else a release that is fetched once), or the release to use, whatever is installed. An
 * executable that is called `fetch` is `"./fetch"`.
 *
 * @category options
 * @since 0.1.0
 */
export type Input = string | { readonly fetch: FetchOptions }

/**
 * The directory that {@link fetch} puts releases into and {@link find} looks at last: `effect-etcd` below
 * `XDG_CACHE_HOME` where that is set, else below the platform's cache directory (`~/.cache`, `~/Library/Caches` on
 * macOS, `LOCALAPPDATA` on Windows). It need not exist. Fails with `SystemFailure` where the `ConfigProvider`, which is asked
 * for these first, cannot be read.
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
export const cacheDirectory: Effect.Effect<string, EtcdProcessError.EtcdProcessError, Path.Path> =
  Settings.cacheDirectory

const findAny = Effect.fn("EtcdBinary.find")(function* (
  options: FindOptions
): Effect.fn.Return<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner
> {
  yield* ProcessOptions.check("EtcdBinary.find", ProcessOptions.ofFind, options)
  return yield* Find.find(options)
})

/**
 * Finds the etcd executable, and asks it for its version.
 *
 * Looked at, in this order: `options.path`, the setting `ETCD_BINARY`, the package `@effect-etcd/<os>-<cpu>` that was
 * installed with this library, every directory of the `PATH`, and the cache directory (the newest release in it that is
 * as it was fetched). Settings come from the current `ConfigProvider`, and from the environment where that does not
 * have them. The first executable found that this user may run is used.
 *
 * The package goes before the `PATH`, since it is what a program and its lock file have chosen: the same on each
 * machine, and tested with this library. Whichever etcd a machine happens to have would be another version, silently,
 * and data that a newer etcd has written are refused by an older one. Whoever wants the machine's own says so:
 * `ETCD_BINARY=$(command -v etcd)`. A package that is there and whose etcd cannot be used is therefore an error, and
 * not passed over; only where tools have lost its executable mode (archives, some copies) it is given that again. It is
 * looked for as an `import` in this library would, from its own place upwards, so in the strict `node_modules` of pnpm
 * too, and with Yarn's Plug'n'Play; not where `NODE_PATH` and `~/.node_modules` lead. A bundle finds it where its own
 * place leads to it, and else goes on to the `PATH`.
 *
 * An executable is asked for its version once in a process, with no `ETCD_*` variable in its environment but
 * `ETCD_UNSUPPORTED_ARCH`, and has 10 seconds to answer. It may be a wrapper that runs etcd; what it has started ends
 * with it.
 *
 * Fails with `BinaryNotFound` if there is none, or if a path that was given does not lead to an executable, and with
 * `UnsupportedVersion` for what is older than 3.4, not an etcd, or an etcd that refuses to run on this architecture.
 * Logs a warning, once for each executable, for 3.4 (which is past its end of life) and for what is newer than 3.7.
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

const findUtlOf = Effect.fn("EtcdBinary.findUtl")(function* (
  etcd: EtcdBinary,
  options: FindUtlOptions
): Effect.fn.Return<
  EtcdUtl,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner
> {
  yield* ProcessOptions.checkFound("EtcdBinary.findUtl", etcd)
  yield* ProcessOptions.check("EtcdBinary.findUtl", ProcessOptions.ofFindUtl, options)
  const { findUtl } = yield* Effect.promise(() => import("./internal/binary/utl.ts"))
  return yield* findUtl(etcd, options)
})

/**
 * Finds the `etcdutl` of an etcd, and asks it for its version. Restoring a snapshot, and recovering a cluster that has lost
 * its quorum, need it; nothing else does.
 *
 * Looked at, in this order: `options.path`, the setting `ETCDUTL_BINARY`, the directory of the etcd, the one that its links
 * lead to, the package that was installed with this library (see {@link find}), and every directory of the `PATH`. What
 * was named is used, or is an error; of the rest, what is not of the etcd's minor version is passed over. For an etcd
 * 3.4, which came without, any etcdutl 3.5 from 3.5.10 on will do; where there is none, its `etcdctl` is taken
 * (`ETCDCTL_BINARY`, and the same directories), which can bump revisions from 3.4.27 on only.
 *
 * Fails with `BinaryNotFound` if there is none, which says what cannot be done without it.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdBinary } from "effect-etcd"
 *
 * const utl = EtcdBinary.find().pipe(
 *   Effect.flatMap((etcd) => EtcdBinary.findUtl(etcd)),
 *   Effect.provide(NodeServices.layer)
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const findUtl = (
  etcd: EtcdBinary,
  options: FindUtlOptions = {}
): Effect.Effect<EtcdUtl, EtcdProcessError.EtcdProcessError, FileSystem.FileSystem | Path.Path | ChildProcessSpawner> =>
  Time.really(findUtlOf(etcd, options))

/** Fetching needs an HTTP client, and what unpacks archives; a program that never fetches does not load them. */
const Fetching = Effect.promise(() => import("./internal/binary/fetch.ts"))

const fetchOne = Effect.fn("EtcdBinary.fetch")(function* (
  options: FetchOptions
): Effect.fn.Return<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | HttpClient.HttpClient
> {
  yield* ProcessOptions.check("EtcdBinary.fetch", ProcessOptions.ofFetch, options)
  const { fetch } = yield* Fetching
  return yield* fetch(options)
})

/**
 * Fetches a release of etcd into the cache directory, unless it is there already, and answers where its `etcd` is.
 * `etcdctl` and `etcdutl` are next to it.
 *
 * The archive is streamed to disk, and unpacked only after its SHA-256 was found right; it is moved into place as a
 * whole, so that any number of processes may fetch the same release at once. Those that ask for the same in one process
 * share one download, which goes on while anybody waits for it. What is there already is compared with the checksums
 * that were remembered of it, and fetched again if it is damaged. Whatever goes wrong (a wrong checksum, a
 * broken or stalled download, an HTTP status that is not 200, a damaged archive, a full disk, an interruption) leaves
 * nothing behind and fails with `FetchFailed`. The executable is not run.
 *
 * A download is told on Effect's logger, at `Info`: when it begins, how far it is every five seconds (`Fetching etcd 3.6.14:
 * 12.5 MiB of 23.1 MiB (54%)`), and when it is there, with its size, how long it took, and the directory. `onProgress` hears
 * of each piece.
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

/** Finds an etcd, or fetches one if there is none, and nothing says which one it is to be. */
const findOr = Effect.fnUntraced(function* <R>(
  options: FindOptions,
  fetching: Effect.Effect<EtcdBinary, EtcdProcessError.EtcdProcessError, R>
) {
  const isNamed = yield* Find.isNamed(options)
  return yield* Effect.catchReason(Find.find(options), "EtcdProcessError", "BinaryNotFound", (reason) =>
    isNamed ? Effect.fail(EtcdProcessError.make(reason)) : Effect.flatMap(fetching, Find.fetched)
  )
})

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
  const { path, ...release } = options
  return yield* findOr({ path, cacheDirectory: options.cacheDirectory }, fetchOne(release))
})

/**
 * Finds the etcd executable as {@link find} does, and fetches a release as {@link fetch} does where there is none. A
 * path that was given and does not lead to an executable is an error here too, and so is a package that is installed and has
 * lost its etcd.
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

const fetchAnyhow = (options: FetchOptions) => Effect.flatMap(Fetching, (fetching) => fetching.fetchAnyhow(options))

const fromInputOne = Effect.fn("EtcdBinary.fromInput")(function* (
  input: Input | undefined
): Effect.fn.Return<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner
> {
  yield* ProcessOptions.checkBinary("EtcdBinary.fromInput", input)
  if (input === "fetch") return yield* findOr({}, fetchAnyhow({}))
  return typeof input === "object"
    ? yield* Effect.flatMap(fetchAnyhow(input.fetch), Find.fetched)
    : yield* Find.find({ path: input })
})

/**
 * The executable that the `binary` option of a node or a cluster says: as {@link find} does without one or with a path,
 * as {@link findOrFetch} with `"fetch"`, and as {@link fetch} with the release that it names, whatever is installed.
 *
 * No HTTP client is asked for: where the program has one it is used, for example to go through a proxy or to show a
 * token, and the platform's own `fetch` where it has none.
 *
 * @example
 * ```ts
 * import { NodeServices } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { EtcdBinary } from "effect-etcd"
 *
 * const etcd = EtcdBinary.fromInput({ fetch: { version: "3.6.14" } }).pipe(Effect.provide(NodeServices.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromInput = (
  input?: Input | undefined
): Effect.Effect<
  EtcdBinary,
  EtcdProcessError.EtcdProcessError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner
> => Time.really(fromInputOne(input))
