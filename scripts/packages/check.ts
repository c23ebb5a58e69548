/**
 * What a user gets who installs the library, with Node.js and nothing else, from a registry that has it and its
 * packages: the etcd of the platform and no other, found with an empty `PATH`; what is said without it; and the etcd of
 * another line, where that is asked for. Of an etcd that is at hand, which is run, or of a script that only says that
 * it is one.
 */

import { symlinkSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as SemVer from "effect/SemVer"
import * as EtcdBinary from "../../src/EtcdBinary.ts"
import * as Releases from "../../src/internal/binary/releases.ts"
import { archives } from "./archive.ts"
import { build, PackageError } from "./build.ts"
import * as Project from "./project.ts"
import { npmSettings, registry } from "./registry.ts"

const own = `@effect-etcd/${process.platform}-${process.arch}`

/** Another line than the one that the library depends on. */
const other = "3.5.33"

const find = `
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, SemVer } from "effect"
import { EtcdBinary } from "effect-etcd"
EtcdBinary.find().pipe(
  Effect.flatMap(({ path, version }) => Console.log(path.slice(process.cwd().length), SemVer.format(version))),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
`

const first = `
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { EtcdKv, EtcdLayer } from "effect-etcd"
EtcdKv.put("hello", "world").pipe(
  Effect.andThen(EtcdKv.getString("hello")),
  Effect.flatMap(Console.log),
  Effect.provide(EtcdLayer.embedded()),
  NodeRuntime.runMain
)
`

/** The packages of a release whose executables are scripts. */
const packagesOf = Effect.fnUntraced(function* (version: string, etcd: string) {
  const fs = yield* FileSystem.FileSystem
  const from = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-archives-" })
  const out = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-packages-" })
  const release = yield* archives(from, version, Releases.packagedPlatforms, () => ({ etcd, etcdutl: "#!/bin/sh\n" }))
  const made = yield* build({ out, from, releases: [release] })
  return yield* Effect.forEach(made, ({ file }) => fs.readFile(join(out, file)))
})

const says = (version: string) => `#!/bin/sh\necho "etcd Version: ${version}"\n`

/** Installs, and has what the library expects of its user beside it. */
const withLibrary = Effect.fnUntraced(function* (project: Project.Project, ...args: ReadonlyArray<string>) {
  const fs = yield* FileSystem.FileSystem
  yield* project.npm("install", "effect-etcd", "--legacy-peer-deps", ...args)
  for (const name of ["effect", "@effect"]) {
    symlinkSync(join(process.cwd(), "node_modules", name), join(project.directory, "node_modules", name), "junction")
  }
  yield* fs.writeFileString(`${project.directory}/find.js`, find)
  yield* fs.writeFileString(`${project.directory}/first.js`, first)
})

const expected = (what: string, actual: string, wanted: string) =>
  actual.includes(wanted)
    ? Effect.void
    : Effect.fail(new PackageError({ message: `${what}: expected ${JSON.stringify(wanted)} in:\n${actual}` }))

/** Fails where the library that is in a tarball does not bring its etcd. */
const check = Effect.fnUntraced(function* (tarball: string) {
  const fs = yield* FileSystem.FileSystem
  const server = yield* registry()
  const real = yield* Effect.option(EtcdBinary.find())
  const version = Releases.releases[0]!.version
  const etcd = real._tag === "Some" ? `#!/bin/sh\nexec '${real.value.path}' "$@"\n` : says(version)
  const reported = real._tag === "Some" ? SemVer.format(real.value.version) : version
  yield* server.offer(yield* fs.readFile(tarball))
  for (const one of yield* packagesOf(other, says(other))) yield* server.offer(one)
  for (const one of yield* packagesOf(version, etcd)) yield* server.offer(one)
  const home = yield* fs.makeTempDirectoryScoped({ prefix: "effect-etcd-npm-" })
  const make = (manifest: object) => Project.make(manifest, npmSettings(server, home))

  const usual = yield* make({})
  yield* withLibrary(usual)
  yield* expected(
    "what npm installs",
    (yield* fs.readDirectory(`${usual.directory}/node_modules/@effect-etcd`)).join(),
    own.slice(13)
  )
  const downloaded = server.asked.filter((path) => path.startsWith("/@effect-etcd/") && path.endsWith(".tgz"))
  yield* expected("what npm downloads", JSON.stringify(downloaded), JSON.stringify([`/${own}/-/${version}.tgz`]))
  const found = yield* usual.node(["find.js"])
  yield* expected("with an empty PATH", found.stdout + found.stderr, `/node_modules/${own}/bin/etcd ${reported}\n`)
  if (real._tag === "Some") {
    const ran = yield* usual.node(["first.js"])
    yield* expected("the first program", ran.stdout + ran.stderr, "world")
  }
  const lock = yield* fs.readFileString(`${usual.directory}/package-lock.json`)
  for (const name of Object.keys(Releases.optionalPackages()))
    yield* expected("the lock file", lock, `node_modules/${name}"`)

  const without = yield* make({})
  yield* withLibrary(without, "--omit=optional")
  const lacking = yield* without.node(["find.js"])
  yield* expected("without it", lacking.stdout + lacking.stderr, `the package ${own} (not installed)`)

  const chosen = yield* make({ overrides: { [own]: other } })
  yield* withLibrary(chosen)
  const older = yield* chosen.node(["find.js"])
  yield* expected("with overrides", older.stdout + older.stderr, `/node_modules/${own}/bin/etcd ${other}\n`)
}, Effect.scoped)

/** Whether it does, and says why not. */
export const included = (tarball: string): Promise<boolean> =>
  check(tarball).pipe(
    // What npm waits for may never come, and the other steps of the check are to run whatever goes wrong here.
    Effect.timeout("10 minutes"),
    Effect.matchCause({
      onSuccess: () => true,
      onFailure: (cause) => {
        console.error(Cause.pretty(cause))
        return false
      }
    }),
    Effect.provide(Layer.mergeAll(NodeServices.layer, FetchHttpClient.layer)),
    Effect.provideService(References.MinimumLogLevel, "Warn"),
    Effect.runPromise
  )
