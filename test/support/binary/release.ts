/**
 * Executables that say that they are etcd, releases that have them, and servers that have releases.
 */
import * as NodeCrypto from "node:crypto"
import * as NodeHttp from "node:http"
import type { AddressInfo } from "node:net"
import * as NodeZlib from "node:zlib"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as FileSystem from "effect/FileSystem"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as EtcdBinary from "../../../src/EtcdBinary.ts"
import * as Package from "../../../src/internal/binary/package.ts"

export const tempDir = Effect.flatMap(FileSystem.FileSystem, (fs) =>
  fs.makeTempDirectoryScoped({ prefix: "effect-etcd-" })
)

export const writeExecutable = Effect.fnUntraced(function* (path: string, content: string) {
  const fs = yield* FileSystem.FileSystem
  yield* fs.writeFileString(path, content, { mode: 0o755 })
  yield* fs.chmod(path, 0o755)
  return path
})

export const says = (version: string) => `#!/bin/sh\necho "etcd Version: ${version}"\necho "Git SHA: none"\n`

/** The settings that `find` reads, none of which comes from the environment of the tests, and no package of etcd. */
export const settings =
  (values: Record<string, string>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.provideService(
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromEnvRecord(
          { ETCD_BINARY: "", PATH: "", XDG_CACHE_HOME: "", HOME: "/nonexistent", ...values },
          { preserveEmptyStrings: true }
        )
      ),
      Effect.provideService(Package.From, "file:///nonexistent/module.js")
    )

export const version = "3.5.99"
export const root = `etcd-v${version}-linux-amd64`
export const archivePath = `/v${version}/${root}.tar.gz`

export const release = [
  Tar.directory(root),
  Tar.file(`${root}/README.md`, "read me"),
  Tar.file(`${root}/Documentation/etcd`, "no executable"),
  Tar.file(`${root}/etcd`, says(version), { mode: 0o755 }),
  Tar.file(`${root}/etcdctl`, says(version), { mode: 0o700 })
]

export const tarGz = (entries: ReadonlyArray<Tar.Entry>) =>
  Stream.fromIterable(entries).pipe(
    Stream.pipeThroughChannel(Tar.encode()),
    Stream.mkUint8Array,
    Effect.map((bytes) => new Uint8Array(NodeZlib.gzipSync(bytes)))
  )

export const sha256 = (bytes: Uint8Array) => NodeCrypto.createHash("sha256").update(bytes).digest("hex")

export type Handler = (request: NodeHttp.IncomingMessage, response: NodeHttp.ServerResponse) => void

export interface Server {
  readonly baseUrl: string
  readonly requests: Array<string>
}

export const serve = (handler: Handler): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly server: NodeHttp.Server; readonly requests: Array<string> }>((resume) => {
        const requests: Array<string> = []
        const server = NodeHttp.createServer((request, response) => {
          requests.push(request.url ?? "")
          handler(request, response)
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed({ server, requests })))
      }),
      ({ server }) =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    ),
    ({ requests, server }) => ({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests })
  )

export const sends =
  (bytes: Uint8Array): Handler =>
  (_request, response) => {
    response.writeHead(200, { "content-length": bytes.length })
    response.end(bytes)
  }

/** The platform of this machine, as far as tests of what runs on it go. */
export const host =
  `${process.platform === "darwin" ? "darwin" : "linux"}-${process.arch === "x64" ? "amd64" : "arm64"}` as const

export const releaseAt = (server: Server, archive: Uint8Array, platform: EtcdBinary.Platform = "linux-amd64") => ({
  version,
  sha256: sha256(archive),
  platform,
  baseUrl: server.baseUrl
})
