/**
 * Takes etcd's executables out of a release archive.
 *
 * Nothing but the wanted files is ever written, each under a name that is ours, so that no entry can choose where it
 * lands; links, devices and doubled entries under a wanted name are refused, and every byte is counted.
 */

import * as NodeCrypto from "node:crypto"
import * as NodeZlib from "node:zlib"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as ByteSize from "effect/ByteSize"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as Zip from "effect/encoding/Zip"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import type * as PlatformError from "effect/PlatformError"
import * as Stream from "effect/Stream"

/** An archive that is not what a release of etcd is. */
export class ArchiveError extends Data.TaggedError("ArchiveError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

interface Entry {
  readonly path: string
  readonly type: Tar.EntryType
  readonly body: Bytes
}

type Failure = ArchiveError | Tar.TarError | Zip.ZipError | PlatformError.PlatformError

type Bytes = Stream.Stream<Uint8Array, Failure>

/** Far above an official release, which is below 100 MiB. */
const maxUnpackedBytes = ByteSize.mebibytes(512)

const maxEntries = 10_000

/** A check that all streams passed through it hold no more than `limit` together. */
const makeLimiter = (limit: ByteSize.ByteSize) => {
  let remaining = ByteSize.toBigInt(limit)
  const take = (chunk: Uint8Array): Effect.Effect<void, ArchiveError> => {
    remaining -= BigInt(chunk.length)
    return remaining < 0n
      ? Effect.fail(new ArchiveError({ message: `it holds more than ${ByteSize.format(limit)}` }))
      : Effect.void
  }
  return (bytes: Bytes): Bytes => Stream.tap(bytes, take)
}

const gunzip = (bytes: Bytes): Bytes =>
  NodeStream.pipeThroughDuplex(bytes, {
    evaluate: () => NodeZlib.createGunzip(),
    onError: (cause) => new ArchiveError({ message: "its compressed data is damaged or cut short", cause })
  })

const tarEntries = (bytes: Bytes, limited: (bytes: Bytes) => Bytes): Stream.Stream<Entry, Failure> =>
  limited(gunzip(bytes)).pipe(
    Stream.pipeThroughChannel(Tar.decode<Failure>()),
    Stream.map(({ body, header }) => ({ path: header.path, type: header.type, body }))
  )

const zipEntries = (bytes: Bytes, limited: (bytes: Bytes) => Bytes): Stream.Stream<Entry, Failure> =>
  bytes.pipe(
    Stream.pipeThroughChannel(Zip.decode<Failure>()),
    Stream.map(({ body, header }) => ({ path: header.path, type: header.type, body: limited(body) }))
  )

const escapes = (path: string): boolean =>
  path.startsWith("/") || path.includes("\\") || /^[a-z]:/i.test(path) || path.split("/").includes("..")

/** `etcd` of `etcd` and of `<folder>/etcd`, and nothing of anything deeper. */
const baseName = (path: string): string | undefined => {
  const segments = path.split("/").filter((segment) => segment !== "" && segment !== ".")
  return segments.length <= 2 ? segments.at(-1) : undefined
}

/**
 * Writes the files called `names` (found at the top of the archive, or in a folder at its top) into `directory`, with
 * mode 0755, and answers the SHA-256 of those that there were.
 */
export const unpack = Effect.fnUntraced(function* (options: {
  readonly archive: string
  readonly kind: "tar.gz" | "zip"
  readonly directory: string
  readonly names: ReadonlyArray<string>
  /** The most that the archive may hold once unpacked. Default: 512 MiB. */
  readonly maxBytes?: ByteSize.ByteSize | undefined
}) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const found = new Map<string, string>()
  const limited = makeLimiter(options.maxBytes ?? maxUnpackedBytes)
  const entries = options.kind === "zip" ? zipEntries : tarEntries
  let count = 0

  const refuse = (entry: Entry, why: string) =>
    Effect.fail(new ArchiveError({ message: `its entry ${JSON.stringify(entry.path)} ${why}` }))

  const take = (entry: Entry): Effect.Effect<void, Failure> => {
    count++
    if (count > maxEntries) {
      return Effect.fail(new ArchiveError({ message: `it holds more than ${maxEntries} entries` }))
    }
    if (escapes(entry.path)) return refuse(entry, "points outside of the archive")
    const name = baseName(entry.path)
    if (name === undefined || !options.names.includes(name) || entry.type === "Directory") {
      return Stream.runDrain(entry.body)
    }
    if (entry.type !== "File") return refuse(entry, `is of type ${entry.type}, not a file`)
    if (found.has(name)) return refuse(entry, "appears twice")
    const target = path.join(options.directory, name)
    const hash = NodeCrypto.createHash("sha256")
    const hashed = Stream.tap(entry.body, (chunk) => Effect.sync(() => hash.update(chunk)))
    return Stream.run(hashed, fs.sink(target, { flag: "wx", mode: 0o755 })).pipe(
      Effect.andThen(fs.chmod(target, 0o755)),
      Effect.tap(() => Effect.sync(() => found.set(name, hash.digest("hex"))))
    )
  }

  yield* Stream.runForEach(entries(fs.stream(options.archive), limited), take)
  return found
})
