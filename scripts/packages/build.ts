/**
 * Makes the optional packages of archives: `package.json`, what it is, its licence, and `etcd` and `etcdutl` as they were
 * published, in a tarball that `npm publish` takes.
 *
 * Two runs give the same bytes, with the same Node.js on the same architecture: nothing in a tarball is of the time or the
 * machine that it was made at, but its compression is zlib's, which is not the same everywhere. What is in it is.
 */
import { gzipSync } from "node:zlib"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import own from "../../package.json" with { type: "json" }
import { download } from "../../src/internal/binary/download.ts"
import * as Releases from "../../src/internal/binary/releases.ts"
import { unpack } from "../../src/internal/binary/unpack.ts"
import { sha256, tar } from "./archive.ts"

export class PackageError extends Data.TaggedError("PackageError")<{ readonly message: string }> {}

const failed = (message: string) => Effect.fail(new PackageError({ message }))

/** The release line of a version: `3.6` of `3.6.14`. */
export const lineOf = (version: string): string => version.split(".").slice(0, 2).join(".")

/** What a user installs a line by: `npm install @effect-etcd/linux-x64@etcd-3.5`. */
export const tagOf = (version: string): string => `etcd-${lineOf(version)}`

/** Where releases are published. */
export const baseUrl = "https://github.com/etcd-io/etcd/releases/download"
const executables = ["etcd", "etcdutl"] as const
const licence = new URL("LICENSE", import.meta.url)
const systems: Record<string, string> = { darwin: "macOS", linux: "Linux" }

/** What of the library's own `package.json` its packages have too. */
const inherited = (): Record<string, unknown> =>
  Object.fromEntries(
    ["homepage", "bugs", "repository"].flatMap((key) => (key in own ? [[key, own[key as "name"]]] : []))
  )

/** A package that was made. */
export interface Package {
  readonly name: string
  readonly version: string
  /** The dist-tag of its line. */
  readonly tag: string
  /** Whether it is of the release that the library depends on, which is `latest`. */
  readonly isLatest: boolean
  /** The file name of its tarball. */
  readonly file: string
  readonly sha256: string
  readonly bytes: number
  readonly unpackedBytes: number
}

interface Archive {
  readonly release: Releases.Release
  readonly platform: Releases.PackagedPlatform
  readonly name: string
  readonly sha256: string
}

const manifestOf = ({ platform, release }: Archive) => {
  const { cpu, os } = Releases.machineOf(platform)
  return {
    name: Releases.packageName(platform),
    version: Releases.packageVersion(release),
    description: `The official etcd and etcdutl ${release.version} for ${systems[os]} on ${cpu}, for effect-etcd`,
    keywords: ["etcd", "etcdutl"],
    license: "Apache-2.0",
    ...inherited(),
    os: [os],
    cpu: [cpu],
    // What is in an archive cannot be run: Yarn's Plug'n'Play is to unpack it.
    preferUnplugged: true,
    publishConfig: { access: "public", tag: tagOf(release.version) }
  }
}

const readmeOf = (archive: Archive) => {
  const { name, version } = manifestOf(archive)
  return `# ${name}

The executables \`etcd\` and \`etcdutl\` ${archive.release.version}, as the etcd project has published them, for
[effect-etcd](${own.homepage}), which depends on this package optionally and finds them in it.
There is no install script, and nothing else in it.

The version of the package is that of etcd (a number behind it, as in \`3.6.14-1\`, says that the package was made anew, of the
same etcd). Each release line has a dist-tag: \`npm install ${name}@${tagOf(version)}\`. \`latest\` is what the newest
effect-etcd depends on.

They are out of \`${archive.name}\`, whose SHA-256 is
\`${archive.sha256}\`
(${baseUrl}/v${archive.release.version}/${archive.name}).

etcd is under the Apache License 2.0 (\`LICENSE\`, \`NOTICE\`). The licences of what is linked into it are listed in its
[bill of materials](https://github.com/etcd-io/etcd/blob/v${archive.release.version}/bill-of-materials.json).
`
}

const noticeOf = ({ name, release }: Archive) => `etcd
Copyright The etcd Authors

This package has the executables etcd and etcdutl ${release.version} of the etcd project (https://etcd.io), unchanged, out of
${name}. They are licensed under the Apache License, Version 2.0, a copy of which is in the file LICENSE.
The etcd project distributes no NOTICE file of its own with them.
`

const isVerified = (archive: Archive, actual: string) =>
  actual === archive.sha256
    ? Effect.void
    : failed(`${archive.name}: its SHA-256 is ${actual}, not ${archive.sha256} as pinned. Nothing of it was unpacked`)

/** The archive as a file that is what was pinned. */
const obtain = Effect.fnUntraced(function* (archive: Archive, from: string | undefined, directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.join(from ?? directory, archive.name)
  if (from === undefined) {
    const url = `${baseUrl}/v${archive.release.version}/${archive.name}`
    const actual = yield* download({ url, file, stallMillis: 30_000, onProgress: () => Effect.void })
    yield* isVerified(archive, actual)
  } else {
    if (!(yield* fs.exists(file))) return yield* failed(`there is no ${archive.name} in ${from}`)
    yield* isVerified(archive, sha256(yield* fs.readFile(file)))
  }
  return file
})

/** In the order of their names, as npm reads them, and of the time that npm gives all files. */
const tarballOf = Effect.fnUntraced(function* (files: ReadonlyArray<readonly [string, string | Uint8Array, number]>) {
  const entries = files.map(([name, content, mode]) =>
    Tar.file(`package/${name}`, content, { mode, mtime: new Date("1985-10-26T08:15:00Z") })
  )
  const tarball = gzipSync(yield* tar(entries), { level: 9 })
  // The header names the operating system: it is to be "unknown" (RFC 1952, 2.3.1).
  tarball[9] = 255
  return tarball
})

const make = Effect.fnUntraced(function* (archive: Archive, from: string | undefined, out: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-package-" })
  const file = yield* obtain(archive, from, directory)
  const unpacked = path.join(directory, "unpacked")
  yield* fs.makeDirectory(unpacked)
  const kind = Releases.archiveKind(archive.platform)
  const sums = yield* unpack({ archive: file, kind, directory: unpacked, names: executables })
  for (const name of executables) {
    if (!sums.has(name)) return yield* failed(`${archive.name} holds no ${name}`)
  }
  const binaries = yield* Effect.forEach(executables, (name) => fs.readFile(path.join(unpacked, name)))
  const manifest = manifestOf(archive)
  const tarball = yield* tarballOf([
    ["LICENSE", yield* fs.readFile(yield* path.fromFileUrl(licence)), 0o644],
    ["NOTICE", noticeOf(archive), 0o644],
    ["README.md", readmeOf(archive), 0o644],
    ...executables.map((name, index) => [`bin/${name}`, binaries[index]!, 0o755] as const),
    ["package.json", `${JSON.stringify(manifest, null, 2)}\n`, 0o644]
  ])
  const made: Package = {
    name: manifest.name,
    version: manifest.version,
    tag: manifest.publishConfig.tag,
    isLatest: Releases.optionalPackages()[manifest.name] === manifest.version,
    file: `${manifest.name.slice(1).replace("/", "-")}-${manifest.version}.tgz`,
    sha256: sha256(tarball),
    bytes: tarball.length,
    unpackedBytes: binaries.reduce((bytes, binary) => bytes + binary.length, 0)
  }
  yield* fs.writeFile(path.join(out, made.file), tarball)
  return made
}, Effect.scoped)

export interface Options {
  /** Where the tarballs go. */
  readonly out: string
  /** A directory with the archives, where they are not to be downloaded. */
  readonly from?: string | undefined
  /** Release lines. Default: all. */
  readonly lines?: ReadonlyArray<string> | undefined
  /** Default: all that the release has a checksum for. */
  readonly platforms?: ReadonlyArray<Releases.PackagedPlatform> | undefined
  /** Default: those whose checksums the library has. */
  readonly releases?: ReadonlyArray<Releases.Release> | undefined
}

/** What lies beside the tarballs and says what they are. */
export const listName = "packages.json"

/** Makes the packages, one after the other, and lists them beside their tarballs. */
export const build = Effect.fnUntraced(function* (options: Options) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const releases = (options.releases ?? Releases.releases).filter(
    ({ version }) => options.lines === undefined || options.lines.includes(lineOf(version))
  )
  const platforms = options.platforms ?? Releases.packagedPlatforms
  const archives = releases.flatMap((release) =>
    platforms.flatMap((platform): ReadonlyArray<Archive> => {
      const sha256 = release.sha256[platform]
      const name = Releases.archiveFile(release.version, platform)
      return sha256 === undefined ? [] : [{ release, platform, name, sha256 }]
    })
  )
  if (archives.length === 0) return yield* failed("there is no such release with checksums")
  yield* fs.makeDirectory(options.out, { recursive: true })
  const made = yield* Effect.forEach(archives, (archive) =>
    Effect.tap(make(archive, options.from, options.out), ({ bytes, file, sha256 }) =>
      Effect.logInfo(`${file}: ${(bytes / 1e6).toFixed(1)} MB, SHA-256 ${sha256}`)
    )
  )
  yield* fs.writeFileString(path.join(options.out, listName), `${JSON.stringify(made, null, 2)}\n`)
  return made
})

/** The releases and platforms of which there is no checksum, so that no package is made. */
export const without = (): ReadonlyArray<string> =>
  Releases.releases.flatMap(({ sha256, version }) =>
    Releases.packagedPlatforms
      .filter((platform) => sha256[platform] === undefined)
      .map((platform) => `${Releases.packageName(platform)} ${version}`)
  )
