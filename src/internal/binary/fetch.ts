/**
 * Puts official releases into the cache directory. Loaded when something is to be fetched, and not before: nothing else
 * needs an HTTP client, or what unpacks archives.
 *
 * @internal
 */
import * as ByteSize from "effect/ByteSize"
import * as Cache from "effect/Cache"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { pipe } from "effect/Function"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as Queue from "effect/Queue"
import * as SemVer from "effect/SemVer"
import * as Stream from "effect/Stream"
import type { EtcdBinary, FetchOptions, Progress } from "../../EtcdBinary.ts"
import type * as EtcdProcessError from "../../EtcdProcessError.ts"
import * as Json from "../json.ts"
import * as Time from "../time.ts"
import { download, explain, fetchFailed } from "./download.ts"
import * as Executable from "./executable.ts"
import * as Releases from "./releases.ts"
import { cacheDirectory } from "./settings.ts"
import { unpack } from "./unpack.ts"

type Services = FileSystem.FileSystem | Path.Path | HttpClient.HttpClient

const defaultBaseUrl = "https://github.com/etcd-io/etcd/releases/download"
const executables = ["etcd", "etcdctl", "etcdutl"]

const stagingPrefix = ".fetch-"
const abandonedAfter = Duration.days(1)

// ── what is to be fetched ──

interface Plan {
  readonly url: string
  readonly version: string
  readonly sha256: string
  readonly kind: "tar.gz" | "zip"
  readonly names: ReadonlyArray<string>
  /** The directory of the release below the cache directory. It names the checksum, so what it holds never changes. */
  readonly directoryName: string
}

const plan = (options: FetchOptions): Effect.Effect<Plan, EtcdProcessError.EtcdProcessError> => {
  const baseUrl = (options.baseUrl ?? defaultBaseUrl).replace(/\/+$/, "")
  const platform = options.platform ?? Releases.hostPlatform()
  if (platform === undefined) {
    return Effect.fail(
      fetchFailed(
        baseUrl,
        `there is no release for this platform (${globalThis.process.platform}, ${globalThis.process.arch})`
      )
    )
  }
  const version = options.version ?? Releases.defaultRelease(platform)?.version
  if (version === undefined) {
    return Effect.fail(fetchFailed(baseUrl, `no release is known for ${platform}; give \`version\` and \`sha256\``))
  }
  const name = Releases.archiveName(version, platform)
  const kind = Releases.archiveKind(platform)
  const url = `${baseUrl}/v${version}/${Releases.archiveFile(version, platform)}`
  const sha256 = (options.sha256 ?? Releases.knownChecksum(version, platform))?.toLowerCase()
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
    version,
    sha256,
    kind,
    names: executables.map((executable) => Releases.executableName(executable, platform)),
    directoryName: `${name}-${sha256.slice(0, 12)}`
  })
}

// ── one release, to be had by all who ask ──

/** What makes a fetch the same as another one. */
interface Fetch extends Plan {
  readonly target: string
  readonly stallMillis: number
}

/**
 * Puts `from` in place as `to`. If there is something already, then it is damaged, and what it lacks is put into it,
 * file by file: others may do the same, or run what is whole of it, and all of them put the same there.
 */
const moveIntoPlace = Effect.fnUntraced(function* (from: string, to: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const replace = (from: string, to: string) =>
    Effect.catch(fs.rename(from, to), () =>
      Effect.andThen(fs.remove(to, { recursive: true, force: true }), fs.rename(from, to))
    )
  yield* Effect.catch(fs.rename(from, to), (error) =>
    Effect.gen(function* () {
      const there = yield* Effect.mapError(fs.stat(to), () => error)
      if (there.type !== "Directory") return yield* replace(from, to)
      for (const name of yield* fs.readDirectory(from)) yield* replace(path.join(from, name), path.join(to, name))
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

const archiveFailed = (url: string, error: unknown) =>
  fetchFailed(url, `the archive cannot be unpacked: ${explain(error)}`, error)

/** Those who want to hear how far a fetch is. */
const audiences = new Map<string, Set<Queue.Queue<Progress, Cause.Done>>>()

/** The audience of a fetch. */
const idOf = ({ stallMillis, target, url }: Fetch): string => JSON.stringify([url, target, stallMillis])

const tell = (fetch: Fetch, progress: Progress) =>
  Effect.sync(() => {
    for (const listener of audiences.get(idOf(fetch)) ?? []) Queue.offerUnsafe(listener, progress)
  })

/** A program that waits for a download would only seem to hang, were there no word of it for longer. */
const reportEvery = Duration.toMillis(Duration.seconds(5))

const size = (bytes: number) => ByteSize.format(ByteSize.bytes(bytes), { precision: 1 })

/** Logs how far a download is, and how long it took. */
const makeReport = Effect.map(Time.Time, ({ now }) => {
  const begin = now()
  let last = begin
  let received = 0
  return {
    progress: (version: string, { receivedBytes, totalBytes }: Progress) =>
      Effect.suspend(() => {
        received = receivedBytes
        if (now() - last < reportEvery) return Effect.void
        last = now()
        const of = Option.match(totalBytes, {
          onNone: () => "",
          onSome: (total) => ` of ${size(total)} (${Math.floor((100 * receivedBytes) / Math.max(total, 1))}%)`
        })
        return Effect.logInfo(`Fetching etcd ${version}: ${size(receivedBytes)}${of}`)
      }),
    done: (version: string, target: string) =>
      Effect.suspend(() => {
        const seconds = ((now() - begin) / 1000).toFixed(1)
        return Effect.logInfo(`Fetched etcd ${version}: ${size(received)} in ${seconds}s, into ${target}`)
      })
  }
})

const install = Effect.fnUntraced(
  function* (wanted: Fetch) {
    const { kind, names, sha256: expected, target, url } = wanted
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const parent = path.dirname(target)
    yield* fs.makeDirectory(parent, { recursive: true })
    yield* removeAbandoned(parent)
    const staging = yield* fs.makeTempDirectoryScoped({ directory: parent, prefix: stagingPrefix })
    const file = path.join(staging, `archive.${kind}`)
    const unpacked = path.join(staging, "release")
    yield* fs.makeDirectory(unpacked)
    yield* Effect.logInfo(`Fetching etcd ${wanted.version} from ${url}`)
    const report = yield* makeReport
    const sha256 = yield* download({
      url,
      file,
      stallMillis: wanted.stallMillis,
      onProgress: (progress) => Effect.andThen(tell(wanted, progress), report.progress(wanted.version, progress))
    })
    if (sha256 !== expected) {
      return yield* Effect.fail(
        fetchFailed(url, `its SHA-256 is ${sha256}, not ${expected} as expected. Nothing of it was unpacked`)
      )
    }
    const sums = yield* unpack({ archive: file, kind, directory: unpacked, names })
    if (!sums.has(names[0]!)) {
      return yield* Effect.fail(fetchFailed(url, `the archive holds no ${names[0]}`))
    }
    yield* Executable.writeSums(unpacked, sums)
    yield* moveIntoPlace(unpacked, target)
    yield* report.done(wanted.version, target)
  },
  Effect.scoped,
  (effect, { target, url }) =>
    pipe(
      effect,
      Effect.catchTags({
        ArchiveError: (error) => Effect.fail(archiveFailed(url, error)),
        TarError: (error) => Effect.fail(archiveFailed(url, error)),
        ZipError: (error) => Effect.fail(archiveFailed(url, error)),
        PlatformError: (error: PlatformError.PlatformError) =>
          Effect.fail(fetchFailed(url, `it could not be written to ${target} (${error.message})`, error))
      })
    )
)

/** All who ask for the same at the same time share one fetch. It goes on while anybody waits for it. */
const fetches = /*#__PURE__*/ Effect.runSync(
  /*#__PURE__*/ Cache.makeWith(
    Effect.fnUntraced(function* (wanted: Fetch) {
      if (!(yield* Executable.isWhole(wanted.target, wanted.names[0]!))) yield* install(wanted)
    }),
    { capacity: Number.POSITIVE_INFINITY, timeToLive: () => Duration.zero, requireServicesAt: "lookup" }
  )
)

/** Who listens, listens for itself: whatever it does, the others neither wait for it nor fail with it. */
const heard = Effect.fnUntraced(function* (wanted: Fetch, onProgress: (progress: Progress) => Effect.Effect<void>) {
  const id = idOf(wanted)
  const queue = yield* Queue.unbounded<Progress, Cause.Done>()
  yield* Effect.acquireRelease(
    Effect.sync(() => {
      audiences.set(id, (audiences.get(id) ?? new Set()).add(queue))
    }),
    () =>
      Effect.sync(() => {
        const audience = audiences.get(id)
        audience?.delete(queue)
        if (audience?.size === 0) audiences.delete(id)
      })
  )
  yield* Effect.all(
    [
      Effect.ensuring(Cache.get(fetches, wanted), Queue.end(queue)),
      Stream.runForEach(Stream.fromQueue(queue), onProgress)
    ],
    { concurrency: "unbounded", discard: true }
  )
}, Effect.scoped)

/** See `EtcdBinary.fetch`. */
export const fetch = Effect.fnUntraced(function* (
  options: FetchOptions
): Effect.fn.Return<EtcdBinary, EtcdProcessError.EtcdProcessError, Services> {
  const path = yield* Path.Path
  const planned = yield* plan(options)
  const directory = path.resolve(options.cacheDirectory ?? (yield* cacheDirectory))
  const wanted: Fetch = {
    ...planned,
    target: path.join(directory, planned.directoryName),
    stallMillis: Duration.toMillis(options.stallTimeout ?? Duration.seconds(30))
  }
  yield* options.onProgress === undefined ? Cache.get(fetches, wanted) : heard(wanted, options.onProgress)
  return Json.answer({
    path: path.join(wanted.target, wanted.names[0]!),
    version: SemVer.parseUnsafe(wanted.version)
  })
})

/** Fetches over the program's HTTP client if it has one, and over the platform's `fetch` else. */
export const fetchAnyhow = (options: FetchOptions) =>
  Effect.flatMap(
    Effect.serviceOption(HttpClient.HttpClient),
    Option.match({
      onNone: () => Effect.provide(fetch(options), FetchHttpClient.layer),
      onSome: (client) => Effect.provideService(fetch(options), HttpClient.HttpClient, client)
    })
  )
