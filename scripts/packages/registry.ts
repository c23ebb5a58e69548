/**
 * A registry of npm packages on this machine, for as long as the scope is open: it takes what npm publishes, with its
 * dist-tags, and gives it to npm again. What it has not, and the library has installed, it gives out of `node_modules`, so
 * that a test needs no network. There is nothing else in it.
 */
import { createHash } from "node:crypto"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import * as NodeHttp from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { gunzipSync, gzipSync } from "node:zlib"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as Stream from "effect/Stream"
import { tar } from "./archive.ts"

interface Packument {
  readonly name: string
  readonly versions: Record<string, Manifest>
  readonly "dist-tags": Record<string, string>
}

type Manifest = Readonly<Record<string, unknown>> & { readonly version: string }

interface Published extends Packument {
  readonly _attachments: Record<string, { readonly data: string }>
}

const modules = join(import.meta.dirname, "..", "..", "node_modules")

/** A package that is installed here, as a tarball. */
const installed = (name: string): Effect.Effect<readonly [Manifest, Uint8Array] | undefined> => {
  const directory = join(modules, name)
  if (!/^(@[\w.-]+\/)?[\w.-]+$/.test(name) || !existsSync(join(directory, "package.json"))) {
    return Effect.succeed(undefined)
  }
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const entries = files.map(({ name, parentPath }) =>
    Tar.file(`package${join(parentPath, name).slice(directory.length)}`, readFileSync(join(parentPath, name)))
  )
  return tar(entries).pipe(
    Effect.map(
      (bytes) => [JSON.parse(readFileSync(join(directory, "package.json"), "utf8")), gzipSync(bytes)] as const
    ),
    Effect.orDie
  )
}

const make = (isRefused: (tag: string) => boolean) => {
  const packages = new Map<string, Packument>()
  const tarballs = new Map<string, Uint8Array>()
  const asked: Array<string> = []
  let url = ""

  const add = (name: string, manifest: Manifest, tarball: Uint8Array, tags: Record<string, string>) => {
    const path = `/${name}/-/${manifest.version}.tgz`
    tarballs.set(path, tarball)
    const before = packages.get(name)
    const dist = {
      tarball: url + path,
      integrity: `sha512-${createHash("sha512").update(tarball).digest("base64")}`,
      shasum: createHash("sha1").update(tarball).digest("hex")
    }
    packages.set(name, {
      name,
      versions: { ...before?.versions, [manifest.version]: { ...manifest, dist } },
      "dist-tags": { latest: manifest.version, ...before?.["dist-tags"], ...tags }
    })
  }

  const offer = Effect.fnUntraced(function* (tarball: Uint8Array) {
    const text = yield* Stream.succeed(new Uint8Array(gunzipSync(tarball))).pipe(
      Stream.pipeThroughChannel(Tar.decode()),
      Stream.filter(({ header }) => header.path === "package/package.json"),
      Stream.mapEffect(({ body }) => Stream.mkString(Stream.decodeText(body))),
      Stream.mkString,
      Effect.orDie
    )
    const { name, ...manifest }: Manifest & { readonly name: string } = JSON.parse(text)
    add(name, { name, ...manifest }, tarball, { latest: manifest.version })
  })

  const answer = async (method: string, path: string, body: string): Promise<unknown> => {
    const [, tagged, tag] = /^\/-\/package\/(.+)\/dist-tags\/?(.*)$/.exec(path) ?? []
    if (tagged !== undefined) {
      const packument = packages.get(tagged)
      if (packument === undefined) return undefined
      if (method === "PUT" && isRefused(tag!)) return undefined
      if (method === "PUT") packument["dist-tags"][tag!] = JSON.parse(body)
      return packument["dist-tags"]
    }
    const name = path.slice(1)
    if (method === "PUT") {
      const { _attachments, versions, "dist-tags": tags }: Published = JSON.parse(body)
      const [manifest] = Object.values(versions)
      const [attachment] = Object.values(_attachments)
      add(name, manifest!, Buffer.from(attachment!.data, "base64"), tags)
      return { ok: true }
    }
    if (!packages.has(name)) {
      const found = await Effect.runPromise(installed(name))
      if (found !== undefined) add(name, ...found, {})
    }
    return packages.get(name)
  }

  const server = NodeHttp.createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname)
    asked.push(path)
    const chunks: Array<Buffer> = []
    request.on("data", (chunk) => chunks.push(chunk))
    request.on("end", async () => {
      const tarball = tarballs.get(path)
      if (tarball !== undefined) {
        response.end(tarball)
        return
      }
      const found = await answer(request.method ?? "GET", path, Buffer.concat(chunks).toString())
      response.writeHead(found === undefined ? 404 : 200, { "content-type": "application/json" })
      response.end(JSON.stringify(found ?? { error: "not found" }))
    })
  })

  return Effect.callback<Registry>((resume) => {
    server.listen(0, "127.0.0.1", () => {
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
      resume(Effect.succeed({ url, packages, asked, server, offer }))
    })
  })
}

export interface Registry {
  readonly url: string
  /** What was published, by name. */
  readonly packages: ReadonlyMap<string, Packument>
  /** The paths of all requests. */
  readonly asked: ReadonlyArray<string>
  readonly server: NodeHttp.Server
  /** Takes a tarball as if it had been published as the latest. */
  readonly offer: (tarball: Uint8Array) => Effect.Effect<void>
}

/** Serves until the scope closes, and lets nobody move the dist-tags that are refused. */
export const registry = (isRefused: (tag: string) => boolean = () => false) =>
  Effect.acquireRelease(
    Effect.suspend(() => make(isRefused)),
    ({ server }) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )

/** How npm is told to use it: it asks for a token before it publishes. */
export const npmSettings = ({ url }: Registry, directory: string): Record<string, string> => ({
  npm_config_registry: `${url}/`,
  [`npm_config_${url.replace("http:", "")}/:_authToken`]: "none",
  npm_config_cache: join(directory, "npm-cache"),
  npm_config_userconfig: join(directory, "npmrc"),
  npm_config_loglevel: "error",
  npm_config_audit: "false",
  npm_config_fund: "false",
  npm_config_update_notifier: "false"
})
