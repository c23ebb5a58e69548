/**
 * What the etcd project publishes: which platforms, under which names, and the SHA-256 of the archives that this
 * library fetches by itself.
 *
 * Names and layout: https://github.com/etcd-io/etcd/blob/main/scripts/build-binary.sh. Every release also carries a
 * file SHA256SUMS, which the checksums below are from.
 */

/** Where a person finds them. */
export const releasesPage = "https://github.com/etcd-io/etcd/releases"

/** The operating system in the name of an archive. */
export type Os = "linux" | "darwin" | "windows"

/** The processor architecture in the name of an archive, as Go calls it. */
export type Arch = "amd64" | "arm64"

export type Platform = `${Os}-${Arch}`

/** The platforms that this library fetches a release for. */
export const platforms: ReadonlyArray<Platform> = [
  "linux-amd64",
  "linux-arm64",
  "darwin-amd64",
  "darwin-arm64",
  "windows-amd64"
]

export interface Release {
  readonly version: string
  readonly sha256: { readonly [P in Platform]?: string }
  /** How often the packages of this release (see {@link packageName}) were made anew; none the first time. */
  readonly packageRevision?: number
}

/**
 * Releases with known checksums. The first one that has a platform is the default for it, and the first of all is what the
 * optional packages bring that this library depends on.
 */
export const releases: ReadonlyArray<Release> = [
  {
    version: "3.6.14",
    sha256: {
      "linux-amd64": "ffe840ff9295808e88cce2794a18a5ac87f12a5203c8314d0bf6aa119b41bac5",
      "linux-arm64": "fa1b80565ee6fc2df1ae6f57a508b221f3ecc7d591c317c581cd8281b0842b3e",
      "darwin-amd64": "17b8639cf303fee6c35958278d557263215a9a8f8c15fd89022b5aa67091b228",
      "darwin-arm64": "fd154573a1f4c098c214d8233507d2766c43a164f7e339c0385aae71d9a1afaf"
    }
  },
  {
    version: "3.7.1",
    sha256: {
      "linux-amd64": "e8cd3fa8064c98137c5dbd78b76f969417ace84efb83c481041d7a52ffdd8fb9",
      "linux-arm64": "d7e25e08f694b6ed7792fc7b7a891fe2c3f3d3dccfe2f3bfdb1547b0eb75b6da",
      "darwin-arm64": "a3e839d9128e170c299b1592bed92d8327f258eb94923aea24a0ccf923cf27e9",
      "windows-amd64": "228d600d103e0f48715687c768de8dcaeacb19eef2006261160a9a677e36cc59"
    }
  },
  {
    version: "3.5.33",
    sha256: {
      "linux-amd64": "5025b5b24d81a9616b6e284ccd439b9a3df055ef8fdcdc142af3ec8f6a3b3c95",
      "linux-arm64": "0764c5c0acef155f4bfa0487791cc5776adef66315bf16ec0653883bfd463a90"
    }
  }
]

const oses: Record<string, Os> = { linux: "linux", darwin: "darwin", win32: "windows" }
const arches: Record<string, Arch> = { x64: "amd64", arm64: "arm64" }

/** The platform of this machine, if etcd is published for it. */
export const hostPlatform = (): Platform | undefined => {
  const os = oses[globalThis.process.platform]
  const arch = arches[globalThis.process.arch]
  return os === undefined || arch === undefined ? undefined : `${os}-${arch}`
}

/** Node's words for the platforms that have an optional package with etcd in it, which are those of `os` and `cpu` of npm. */
const packaged = {
  "linux-amd64": { os: "linux", cpu: "x64" },
  "linux-arm64": { os: "linux", cpu: "arm64" },
  "darwin-amd64": { os: "darwin", cpu: "x64" },
  "darwin-arm64": { os: "darwin", cpu: "arm64" }
} as const

export type PackagedPlatform = keyof typeof packaged

export const packagedPlatforms = Object.keys(packaged) as ReadonlyArray<PackagedPlatform>

/** What npm is told of the machines that a package is for. */
export const machineOf = (platform: PackagedPlatform): { readonly os: string; readonly cpu: string } =>
  packaged[platform]

/** The optional package that brings etcd for a platform. */
export const packageName = (platform: PackagedPlatform): string => {
  const { cpu, os } = packaged[platform]
  return `@effect-etcd/${os}-${cpu}`
}

/** The version of the packages of a release: that of etcd, and `-1`, `-2` where they had to be made anew. */
export const packageVersion = ({ packageRevision, version }: Release): string =>
  packageRevision === undefined ? version : `${version}-${packageRevision}`

/** The packages that this library depends on, with their versions. */
export const optionalPackages = (): Record<string, string> =>
  Object.fromEntries(
    packagedPlatforms
      .filter((platform) => releases[0]!.sha256[platform] !== undefined)
      .map((platform) => [packageName(platform), packageVersion(releases[0]!)])
  )

/** The name of the executable `name` on a platform. */
export const executableName = (name: string, platform: string): string =>
  platform.startsWith("windows") ? `${name}.exe` : name

/** The name of a release's archive without its extension, which is also the folder inside it. */
export const archiveName = (version: string, platform: Platform): string => `etcd-v${version}-${platform}`

/** The extension of a release's archive. */
export const archiveKind = (platform: Platform): "tar.gz" | "zip" => (platform.startsWith("linux") ? "tar.gz" : "zip")

/** The file name of a release's archive. */
export const archiveFile = (version: string, platform: Platform): string =>
  `${archiveName(version, platform)}.${archiveKind(platform)}`

export const defaultRelease = (platform: Platform): Release | undefined =>
  releases.find((release) => release.sha256[platform] !== undefined)

export const knownChecksum = (version: string, platform: Platform): string | undefined =>
  releases.find((release) => release.version === version)?.sha256[platform]
