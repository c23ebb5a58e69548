import { execFile } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Tar from "effect/encoding/Tar"
import * as Fiber from "effect/Fiber"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { archives } from "../scripts/packages/archive.ts"
import { build, without } from "../scripts/packages/build.ts"
import * as Project from "../scripts/packages/project.ts"
import { publish } from "../scripts/packages/publish.ts"
import { npmSettings, registry } from "../scripts/packages/registry.ts"
import { entryOf } from "../scripts/packages/sums.ts"
import * as Releases from "../src/internal/binary/releases.ts"
import { says, sha256, tempDir } from "./support/binary/release.ts"

/** What the library depends on. */
const newest = Releases.releases[0]!.version
const line = newest.slice(0, newest.lastIndexOf("."))

/** A directory with the archives of releases, whose executables are none, and the table of their checksums. */
const releasesWith = Effect.fnUntraced(function* (
  versions: ReadonlyArray<string>,
  names: ReadonlyArray<string> = ["etcd", "etcdctl", "etcdutl"]
) {
  const from = yield* tempDir
  const releases = yield* Effect.forEach(versions, (version) =>
    archives(from, version, Releases.packagedPlatforms, (platform) =>
      Object.fromEntries([...names, "README.md"].map((name) => [name, `${name} ${platform} ${says(version)}`]))
    )
  )
  return { from, releases }
})

/** What is in a tarball: names, modes, times, and contents. */
const contentsOf = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const tar = gunzipSync(yield* fs.readFile(file))
  return yield* Stream.succeed(new Uint8Array(tar)).pipe(
    Stream.pipeThroughChannel(Tar.decode()),
    Stream.mapEffect(({ body, header }) =>
      Effect.map(Stream.mkString(Stream.decodeText(body)), (text) => ({ ...header, text }))
    ),
    Stream.runCollect
  )
})

const services = Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)

describe("the packages that bring etcd", () => {
  it("are those that EtcdBinary lists", () => {
    const rows = Releases.releases.map(({ sha256, version }, index) => {
      const tags = [`etcd-${version.slice(0, version.lastIndexOf("."))}`, ...(index === 0 ? ["latest"] : [])]
      const cells = Releases.packagedPlatforms.map((platform) => (sha256[platform] === undefined ? "–" : "yes"))
      return ` * | ${[tags.map((tag) => `\`${tag}\``).join(", "), version, ...cells].join(" | ")} |`
    })
    const platforms = Releases.packagedPlatforms.map((platform) => Releases.packageName(platform).split("/")[1])
    const head = ` * | dist-tag | etcd | ${platforms.map((platform) => `\`${platform}\``).join(" | ")} |`
    const said = readFileSync(new URL("../src/EtcdBinary.ts", import.meta.url), "utf8").split("\n")
    assert.deepStrictEqual(
      said.filter((line) => line.startsWith(" * | ") && !line.startsWith(" * | ---")),
      [head, ...rows]
    )
  })

  it.effect("are one for each platform and release, with etcd, etcdutl, licence, notice and what they are", () =>
    Effect.gen(function* () {
      const out = yield* tempDir
      const made = yield* build({ out, ...(yield* releasesWith([newest, "3.5.33"])) })
      assert.sameMembers(
        made.map(({ name, tag, version }) => `${name}@${version} ${tag}`),
        [`${newest} etcd-${line}`, "3.5.33 etcd-3.5"].flatMap((version) =>
          ["linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64"].map((name) => `@effect-etcd/${name}@${version}`)
        )
      )
      for (const { file, isLatest, name, version } of made) {
        assert.strictEqual(isLatest, version === newest)
        const entries = yield* contentsOf(`${out}/${file}`)
        assert.deepStrictEqual(
          entries.map(({ mode, path }) => `${path} ${mode.toString(8)}`),
          [
            "package/LICENSE 644",
            "package/NOTICE 644",
            "package/README.md 644",
            "package/bin/etcd 755",
            "package/bin/etcdutl 755",
            "package/package.json 644"
          ]
        )
        const [licence, notice, readme, etcd, , manifest] = entries.map(({ text }) => text)
        assert.include(licence!, "Apache License")
        assert.include(notice!, `etcd and etcdutl ${version} of the etcd project`)
        assert.include(readme!, `npm install ${name}@etcd-${version.slice(0, 3)}`)
        const [, os, cpu] = /^@effect-etcd\/(\w+)-(\w+)$/.exec(name)!
        assert.include(etcd!, `etcd ${os}-${cpu === "x64" ? "amd64" : cpu}`)
        const { license, publishConfig, scripts, ...rest } = JSON.parse(manifest!)
        assert.deepStrictEqual(
          [license, rest.name, rest.version, rest.os, rest.cpu],
          ["Apache-2.0", name, version, [os], [cpu]]
        )
        assert.deepStrictEqual(publishConfig, { access: "public", tag: `etcd-${version.slice(0, 3)}` })
        assert.isUndefined(scripts)
      }
    }).pipe(Effect.provide(services))
  )

  it.effect("are the same bytes whenever and wherever they are made", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { from, releases } = yield* releasesWith([newest])
      const elsewhere = `${yield* tempDir}/another/place`
      yield* fs.makeDirectory(elsewhere, { recursive: true })
      const made = yield* build({ out: yield* tempDir, from, releases })
      for (const name of yield* fs.readDirectory(from)) {
        yield* fs.copyFile(`${from}/${name}`, `${elsewhere}/${name}`)
        yield* fs.utimes(`${elsewhere}/${name}`, 1, 1)
      }
      const out = yield* tempDir
      const again = yield* build({ out, from: elsewhere, releases })
      assert.deepStrictEqual(again, made)
      for (const { file, sha256: expected } of made) {
        const bytes = yield* fs.readFile(`${out}/${file}`)
        assert.strictEqual(sha256(bytes), expected)
        // The time and the system of the gzip header (RFC 1952).
        assert.deepStrictEqual(Array.from(bytes.subarray(4, 10)), [0, 0, 0, 0, 2, 255])
      }
    }).pipe(Effect.provide(services))
  )

  it.effect("are made of nothing but what was pinned", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const { from, releases } = yield* releasesWith([newest])
      const archive = `${from}/etcd-v${newest}-linux-amd64.tar.gz`
      const refused = Effect.fnUntraced(function* (options: Partial<Parameters<typeof build>[0]>) {
        const out = yield* tempDir
        const error = yield* Effect.flip(build({ out, from, releases, platforms: ["linux-amd64"], ...options }))
        assert.deepStrictEqual(yield* fs.readDirectory(out), [])
        return error.message
      })
      assert.include(yield* refused({ lines: ["3.4"] }), "no such release with checksums")
      const other = yield* releasesWith([newest], ["etcd", "etcdctl"])
      assert.include(yield* refused(other), "holds no etcdutl")
      yield* fs.truncate(archive, 100)
      assert.include(yield* refused({}), `etcd-v${newest}-linux-amd64.tar.gz: its SHA-256 is `)
      yield* fs.remove(archive)
      assert.include(yield* refused({}), `there is no etcd-v${newest}-linux-amd64.tar.gz in`)
    }).pipe(Effect.provide(services))
  )

  it("are those of all platforms in the release that the library depends on", () => {
    assert.deepStrictEqual(Object.keys(Releases.optionalPackages()).sort(), [
      "@effect-etcd/darwin-arm64",
      "@effect-etcd/darwin-x64",
      "@effect-etcd/linux-arm64",
      "@effect-etcd/linux-x64"
    ])
    for (const { sha256, version } of Releases.releases) {
      assert.match(version, /^3\.\d+\.\d+$/)
      for (const sum of Object.values(sha256)) assert.match(sum, /^[0-9a-f]{64}$/)
    }
    const sums = Releases.releases.flatMap(({ sha256 }) => Object.values(sha256))
    assert.strictEqual(new Set(sums).size, sums.length)
    for (const what of without()) assert.notInclude(what, Releases.releases[0]!.version)
  })

  it("are of checksums that are taken from what a release has published", () => {
    const sum = (digit: string) => digit.repeat(64)
    const published = [
      `${sum("1")}  etcd-v3.6.15-darwin-amd64.zip`,
      `${sum("2")}  etcd-v3.6.15-linux-amd64.tar.gz`,
      `${sum("3")}  etcd-v3.6.15-linux-ppc64le.tar.gz`,
      "not a sum  etcd-v3.6.15-linux-arm64.tar.gz"
    ]
    const entry = entryOf("3.6.15", `${published.join("\n")}\n`)
    assert.deepStrictEqual(entry.match(/"\S+": "\d/g), ['"linux-amd64": "2', '"darwin-amd64": "1'])
    assert.include(entry, 'version: "3.6.15"')
  })

  it("have a version behind that of etcd where they were made anew", () => {
    assert.strictEqual(Releases.packageVersion({ version: "3.6.14", sha256: {} }), "3.6.14")
    assert.strictEqual(Releases.packageVersion({ version: "3.6.14", sha256: {}, packageRevision: 1 }), "3.6.14-1")
  })

  it.live("are installed by a program that has ended when nobody waits for it any more", () =>
    Effect.gen(function* () {
      const project = yield* Project.make({}, {})
      const slow = `
        import { writeFileSync } from "node:fs"
        process.on("SIGTERM", () => setTimeout(() => (writeFileSync("ended", ""), process.exit()), 200))
        setInterval(() => {}, 1000)
        writeFileSync("begun", "")
      `
      const fiber = yield* Effect.forkChild(project.node(["--input-type=module", "-e", slow]))
      yield* Effect.repeat(Effect.sleep("10 millis"), { until: () => existsSync(join(project.directory, "begun")) })
      yield* Fiber.interrupt(fiber)
      assert.isTrue(existsSync(join(project.directory, "ended")))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("are published with the tags of their lines, once, as far as whoever publishes may give them", () =>
    Effect.gen(function* () {
      const directory = yield* tempDir
      let mayTag = false
      const server = yield* registry(() => !mayTag)
      const options = { out: yield* tempDir, dryRun: false, settings: npmSettings(server, directory) }
      const before = yield* Effect.flip(publish(options))
      assert.include(before.message, "run `npm run packages -- build` first")
      const releases = yield* releasesWith([newest, "3.5.33"])
      yield* build({ ...options, platforms: ["linux-amd64"], lines: ["3.5"], ...releases })
      yield* publish({ ...options, dryRun: true })
      assert.strictEqual(server.packages.get("@effect-etcd/linux-x64"), undefined)
      yield* build({ ...options, platforms: ["linux-amd64"], ...releases })
      yield* publish(options)
      const tags = () => server.packages.get("@effect-etcd/linux-x64")?.["dist-tags"]
      assert.deepStrictEqual(tags(), { latest: newest, "etcd-3.5": "3.5.33" })
      mayTag = true
      yield* publish(options)
      assert.deepStrictEqual(tags(), { latest: newest, [`etcd-${line}`]: newest, "etcd-3.5": "3.5.33" })
    }).pipe(Effect.provide(services))
  )
})

describe("the package.json of the library", () => {
  it.effect("names them while it is packed and published, and not otherwise", () =>
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const root = yield* fs.realPath(yield* tempDir)
      const script = "scripts/packages/optional.ts"
      for (const path of ["package.json", script, "src/internal/binary/releases.ts"]) {
        yield* fs.makeDirectory(`${root}/${path}`.replace(/\/[^/]+$/, ""), { recursive: true })
        yield* fs.copyFile(path, `${root}/${path}`)
      }
      const original = yield* fs.readFileString("package.json")
      const during = (command: string, event: string) =>
        Effect.callback<string, Error>((resume) => {
          const env = { ...process.env, npm_command: command, npm_lifecycle_event: event }
          execFile(process.execPath, [`${root}/${script}`], { env }, (error) =>
            resume(error === null ? fs.readFileString(`${root}/package.json`).pipe(Effect.orDie) : Effect.fail(error))
          )
        })
      const added = yield* during("pack", "prepack")
      assert.deepStrictEqual(JSON.parse(added).optionalDependencies, Releases.optionalPackages())
      assert.strictEqual(yield* during("pack", "prepack"), added)
      assert.strictEqual(yield* during("pack", "postpack"), original)
      // What the registry is told is what stands there after `postpack`.
      assert.strictEqual(yield* during("publish", "prepack"), added)
      assert.strictEqual(yield* during("publish", "postpack"), added)
      assert.strictEqual(yield* during("publish", "postpublish"), original)
    }).pipe(Effect.provide(NodeServices.layer))
  )
})
