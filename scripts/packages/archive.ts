/**
 * Archives such as the etcd project publishes, of executables that are at hand, for what cannot have the official ones: tests,
 * and measurements where they cannot be downloaded.
 */
import { createHash } from "node:crypto"
import { gzipSync } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as Zip from "effect/encoding/Zip"
import * as FileSystem from "effect/FileSystem"
import * as Stream from "effect/Stream"
import * as Releases from "../../src/internal/binary/releases.ts"

export const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

/** The bytes of a tar archive. */
export const tar = (entries: Iterable<Tar.Entry>) =>
  Stream.fromIterable(entries).pipe(Stream.pipeThroughChannel(Tar.encode()), Stream.mkUint8Array)

export type Files = Readonly<Record<string, string | Uint8Array>>

const packed = (version: string, platform: Releases.Platform, files: Files) => {
  const root = Releases.archiveName(version, platform)
  const entries = Object.entries(files)
  return Releases.archiveKind(platform) === "zip"
    ? Stream.fromIterable(entries.map(([name, content]) => Zip.file(`${root}/${name}`, content))).pipe(
        Stream.pipeThroughChannel(Zip.encode()),
        Stream.mkUint8Array
      )
    : Effect.map(tar(entries.map(([name, content]) => Tar.file(`${root}/${name}`, content))), (bytes) =>
        gzipSync(bytes, { level: 1 })
      )
}

/** Puts an archive for each platform into a directory, and answers the release that they are, with their checksums. */
export const archives = Effect.fnUntraced(function* (
  directory: string,
  version: string,
  platforms: ReadonlyArray<Releases.PackagedPlatform>,
  files: (platform: Releases.PackagedPlatform) => Files
) {
  const fs = yield* FileSystem.FileSystem
  const sums: Record<string, string> = {}
  for (const platform of platforms) {
    const archive = yield* packed(version, platform, files(platform))
    yield* fs.writeFile(`${directory}/${Releases.archiveFile(version, platform)}`, archive)
    sums[platform] = sha256(archive)
  }
  const release: Releases.Release = { version, sha256: sums }
  return release
})
