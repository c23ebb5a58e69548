/**
 * What it takes from an empty directory to the first acknowledged put, with Node.js and npm and nothing else: no `PATH`, no
 * cache, no etcd. The library and the package that brings etcd are tarballs on the disk; the rest comes from the registry
 * that npm is told to use. The packages are made of the executables that this machine has (`npm run etcd:versions`).
 */
import { execFileSync } from "node:child_process"
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { NodeServices } from "@effect/platform-node"
import { Effect, FileSystem, References, SemVer } from "effect"
import { FetchHttpClient } from "effect/http"
import * as EtcdVersions from "../scripts/etcd-versions.ts"
import { archives } from "../scripts/packages/archive.ts"
import { build, lineOf } from "../scripts/packages/build.ts"
import * as Project from "../scripts/packages/project.ts"
import * as Releases from "../src/internal/binary/releases.ts"
import { BenchError, median, type Row, rounded, stopwatch, table } from "./support.ts"

const root = join(import.meta.dirname, "..")

const program = `
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { EtcdKv, EtcdLayer } from "effect-etcd"

EtcdKv.put("hello", "world").pipe(
  Effect.andThen(Effect.suspend(() => Console.log("put after", performance.now()))),
  Effect.provide(EtcdLayer.embedded({}, { log: false })),
  NodeRuntime.runMain
)
`

/** How this machine reaches the registry, which a new one would be told as well. */
const network = (): Record<string, string> => ({
  npm_config_registry: execFileSync("npm", ["config", "get", "registry"], { encoding: "utf8" }).trim(),
  npm_config_audit: "false",
  npm_config_fund: "false",
  npm_config_update_notifier: "false",
  ...Object.fromEntries(
    ["NODE_EXTRA_CA_CERTS", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"].flatMap((name) =>
      process.env[name] === undefined ? [] : [[name, process.env[name]]]
    )
  )
})

/** The package for this machine, of executables that it has. */
const packageOf = Effect.fnUntraced(function* (etcd: EtcdVersions.EtcdVersion, out: string) {
  const fs = yield* FileSystem.FileSystem
  const platform = Releases.packagedPlatforms.find((platform) => platform === Releases.hostPlatform())
  if (platform === undefined) return yield* new BenchError({ message: "there is no package for this platform" })
  const from = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-bench-" })
  const files = { etcd: yield* fs.readFile(etcd.etcd), etcdutl: yield* fs.readFile(etcd.etcdutl!) }
  const release = yield* archives(from, SemVer.format(etcd.version), [platform], () => files)
  const [made] = yield* build({ out, from, releases: [release] })
  return made!
}, Effect.scoped)

const inNewProject = Effect.fnUntraced(function* (tarballs: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  const project = yield* Project.make({}, network())
  for (const tarball of tarballs)
    copyFileSync(tarball, join(project.directory, tarball.slice(tarball.lastIndexOf("/") + 1)))
  const files = tarballs.map((tarball) => `./${tarball.slice(tarball.lastIndexOf("/") + 1)}`)
  const install = Effect.gen(function* () {
    const stop = stopwatch()
    yield* project.npm("install", ...files, "effect", "@effect/platform-node")
    return stop().millis / 1000
  })
  const cold = yield* install
  for (const name of ["node_modules", "package-lock.json"]) {
    yield* fs.remove(join(project.directory, name), { recursive: true })
  }
  const warm = yield* install
  yield* fs.writeFileString(join(project.directory, "main.js"), program)
  const puts: Array<number> = []
  for (let round = 0; round < 5; round++) {
    const { code, stderr, stdout } = yield* project.node(["main.js"])
    const millis = Number(/^put after (.*)$/m.exec(stdout)?.[1])
    if (code !== 0 || Number.isNaN(millis)) return yield* new BenchError({ message: stderr + stdout })
    puts.push(millis)
  }
  return { cold, warm, first: puts[0]!, next: median(puts.slice(1)) }
}, Effect.scoped)

const megabytes = (bytes: number) => rounded(bytes / 1e6, 1)

export const install = (quick: boolean) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-etcd-bench-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true }))
    )
    execFileSync("npm", ["pack", "--silent", "--pack-destination", directory], { cwd: root, stdio: "ignore" })
    const library = join(directory, readdirSync(directory)[0]!)
    const librarySize = Number((yield* fs.stat(library)).size)
    const lines = quick ? [lineOf(Releases.releases[0]!.version)] : ["3.5", "3.6", "3.7"]
    const { found } = yield* EtcdVersions.get({ only: lines })
    const rows = []
    for (const line of lines) {
      const etcd = found.find(
        ({ etcdutl, version }) => etcdutl !== undefined && lineOf(SemVer.format(version)) === line
      )
      if (etcd === undefined) {
        console.log(`there is no etcd ${line} with its etcdutl on this machine (npm run etcd:versions)`)
        continue
      }
      const made = yield* packageOf(etcd, directory)
      const { cold, first, next, warm } = yield* inNewProject([library, join(directory, made.file)])
      rows.push({
        etcd: SemVer.format(etcd.version),
        "library MB": megabytes(librarySize),
        "package MB": megabytes(made.bytes),
        "unpacked MB": megabytes(made.unpackedBytes),
        "npm install s": rounded(cold, 1),
        "with its cache s": rounded(warm, 1),
        "first put ms": Math.round(first),
        "next time ms": Math.round(next)
      })
    }
    console.log(`install: load of this machine ${loadavg()[0]!.toFixed(1)}`)
    table(rows)
    const none: ReadonlyArray<Row> = []
    return none
  }).pipe(
    Effect.scoped,
    Effect.provideService(References.MinimumLogLevel, "Warn"),
    Effect.provide([NodeServices.layer, FetchHttpClient.layer])
  )
